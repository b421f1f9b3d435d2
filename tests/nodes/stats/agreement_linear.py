"""The linear models of R, rebuilt from the same tables for `agreement`."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import agreement
import numpy as np
import pandas as pd
from agreement import Found, Key, Reference
from scipy import stats

from alsflow.nodes.stats.anova import anova, anova_table
from alsflow.nodes.stats.design import NotEstimableError, cell_means, complete_rows
from alsflow.nodes.stats.diagnostics import (
    cell_variances,
    constant_variance,
    influence,
    normality,
    outlier,
    vif,
)
from alsflow.nodes.stats.emm import marginal_means, pairwise
from alsflow.nodes.stats.regression import (
    LinearFit,
    contrast_test,
    fit_by_site,
    fit_linear,
    fit_table,
    robust,
)

LEVELS = {"group": ("ALS", "HC")}
CALSNIC = {"full": "group * site", "additive": "group + site",
           "ancova": "group + site + age + sex + education"}  # fmt: skip
OUTCOMES = ("fa", "md", "rd", "ad", "tnaa_cr", "tnaa_cho", "fc_roi")
SCORES = "{metric} + age + sex + disease_duration"
RANK = re.compile(r"\(rank (\d+) of (\d+)\)")
KINDS = {"ss": "ss", "df": "df", "F": "f", "p": "p", "partial_eta2": "partial_eta2"}


def fitted(table: pd.DataFrame, outcome: str, terms: str, **options) -> LinearFit:
    """Fit as R does: numbers not centred."""
    return fit_table(table, outcome, terms, levels={k: v for k, v in LEVELS.items() if k in terms},
                     centre=False, **options)  # fmt: skip


def r_names(fit: LinearFit) -> list[str]:
    """Names that contr.sum gives to our columns."""
    if fit.design.coding_name == "treatment":
        plain = [name.replace("[", "").replace("]", "") for name in fit.design.columns]
        return ["(Intercept)" if name == "intercept" else name for name in plain]
    counters = {
        column: f"{name}{i}"
        for name, variable in fit.design.variables.items()
        for i, column in enumerate(variable.columns, start=1)
        if variable.levels
    }
    return [
        "(Intercept)" if name == "intercept"
        else ":".join(counters.get(part, part) for part in name.split(":"))
        for name in fit.design.columns
    ]  # fmt: skip


def coefficients(fit: LinearFit, outcome: str) -> Found:
    rows = fit.table().drop(columns=["column", "term", "df"])
    found: dict[Key, float] = {}
    for name, row in zip(r_names(fit), rows.to_dict("records"), strict=True):
        found |= {(outcome, name, str(stat)): value for stat, value in row.items()}
    model = {
        "r2": fit.r2, "adj_r2": fit.adj_r2, "F": fit.f, "p": fit.f_p, "df1": fit.df_model,
        "df2": fit.df,
        "sigma": fit.sigma, "n": fit.n, "aic": fit.aic, "bic": fit.bic, "loglik": fit.loglik,
        "rank": len(fit.estimate), "n_coef": len(fit.estimate), "df_resid": fit.df,
    }  # fmt: skip
    return found | {(outcome, "model", stat): value for stat, value in model.items()}


def squares(fit: LinearFit, outcome: str, kind: int) -> Found:
    found: dict[Key, float] = {}
    for row in anova_table(fit, kind).to_dict("records"):
        term = {"intercept": "(Intercept)", "residuals": "Residuals"}.get(row["term"], row["term"])
        found |= {(outcome, term, stat): row[ours] for stat, ours in KINDS.items()}
    return found


# Paper on the Taiwan cohort


def sides(reference: Reference, name: str) -> Found:
    """FA ~ GM on both hemispheres of everybody."""
    found: dict[Key, float] = {}
    extra = " + group" if name.endswith("_group") else ""
    for outcome in dict.fromkeys(key[0] for key, _ in reference.of(name)):
        fa, gm = outcome.split("~")
        fit = fitted(reference.table("taiwan_sides"), fa, gm + extra)
        found |= coefficients(fit, outcome)
    return found


def score_table(reference: Reference, unit: str) -> pd.DataFrame:
    """Patients, one row per side or per person with the sum of both sides."""
    table = reference.table("taiwan_sides" if unit == "side" else "taiwan_subjects")
    table = table[table["group"] == "ALS"]
    if unit == "side":
        return table
    sums = {"mrc": "mrc", "penn": "penn", "cmapz": "cmapz_sum"}
    both = {name: table[f"{col}_L"] + table[f"{col}_R"] for name, col in sums.items()}
    return table.assign(**both)


def score_fits(reference: Reference, name: str) -> dict[str, LinearFit]:
    found = {}
    for outcome in dict.fromkeys(key[0] for key, _ in reference.of(name)):
        score, metric = outcome.split("~")
        bodily = "_subject" in name or score in ("fvc_pct", "alsfrs_r")
        table = score_table(reference, "subject" if bodily else "side")
        found[outcome] = fitted(table, score, SCORES.format(metric=metric))
    return found


def scores(reference: Reference, name: str) -> Found:
    found: dict[Key, float] = {}
    for outcome, fit in score_fits(reference, name).items():
        found |= squares(fit, outcome, 3) if name.endswith("type3") else coefficients(fit, outcome)
    return found


def hc3_of_scores(reference: Reference, name: str) -> Found:
    found: dict[Key, float] = {}
    for outcome, fit in score_fits(reference, name).items():
        found |= coefficients(robust(fit, "HC3"), outcome)
    return found


def diagnostics(reference: Reference, name: str) -> Found:
    found: dict[Key, float] = {}
    for outcome, fit in score_fits(reference, name).items():
        rows = influence(fit)
        shapiro, bp, odd = normality(fit), constant_variance(fit), outlier(fit, rows)
        inflation = vif(fit.design.matrix, fit.design.terms)
        two_sided = 2 * stats.t.sf(abs(odd.statistic), odd.df)
        found |= {(outcome, term, "vif"): value for term, (value, _) in inflation.items()}
        found |= {
            (outcome, "model", "cook_max"): rows.cook.max(),
            (outcome, "model", "cook_argmax_row"): rows.cook.argmax() + 1,
            (outcome, "model", "n_cook_gt_4n"): int((rows.cook > 4 / fit.n).sum()),
            (outcome, "model", "hat_max"): rows.hat.max(),
            (outcome, "model", "rstudent_absmax"): np.abs(rows.rstudent).max(),
            (outcome, "breusch_pagan", "BP"): bp.statistic,
            (outcome, "breusch_pagan", "df"): bp.df,
            (outcome, "breusch_pagan", "p"): bp.p,
            (outcome, "resid_shapiro", "W"): shapiro.statistic,
            (outcome, "resid_shapiro", "p"): shapiro.p,
            (outcome, "outlier_test", "rstudent"): odd.statistic,
            (outcome, "outlier_test", "p"): two_sided,
            (outcome, "outlier_test", "bonf_p"): odd.p,
        }
        if odd.p == 1:
            found[outcome, "outlier_test", "bonf_p"] = "R does not cap Bonferroni's p at 1"
    return found


# Paper of CALSNIC


def calsnic_fit(reference: Reference, outcome: str, model: str, **options) -> LinearFit:
    return fitted(reference.table("calsnic_subjects"), outcome, CALSNIC[model], **options)


def calsnic(reference: Reference, name: str) -> Found:
    _, model, what = name.split("_", 2)
    options = {}
    if what == "treatmentcoding":
        options = {"treatment": {"group": "ALS", "site": "Calgary"}}
    found: dict[Key, float] = {}
    for outcome in OUTCOMES:
        fit = calsnic_fit(reference, outcome, model, **options)
        kind = what.removeprefix("type")
        if what.endswith("coding"):
            found |= coefficients(fit, outcome)
        else:
            found |= squares(fit, outcome, int(kind))
    return found


def adjusted_means(reference: Reference, name: str) -> Found:
    _, _, model, weights = name.split("_")
    found: dict[Key, float] = {}
    for outcome in OUTCOMES:
        fit = calsnic_fit(reference, outcome, model)
        for mean in marginal_means(fit, "group", weights):
            found |= {
                (outcome, mean.level, stat): getattr(mean, "mean" if stat == "emmean" else stat)
                for stat in ("emmean", "se", "df", "ci_low", "ci_high")
            }
        (pair,) = pairwise(fit, "group", weights)
        found |= {
            (outcome, "ALS-HC", stat): getattr(pair, stat)
            for stat in ("estimate", "se", "ci_low", "ci_high", "t", "p")
        }
        found[outcome, "ALS-HC", "df"] = pair.df_residual
    return found


def shares(reference: Reference, name: str) -> Found:
    found: dict[Key, float] = {}
    for outcome in OUTCOMES:
        for test in anova(calsnic_fit(reference, outcome, "full"), 3):
            found |= {
                (outcome, test.term, "eta2p"): test.partial_eta2,
                (outcome, test.term, "ci_low"): test.eta2_low,
                (outcome, test.term, "ci_high"): test.eta2_high,
                (outcome, test.term, "omega2p"): test.partial_omega2,
            }
    return found


def spm(reference: Reference, name: str) -> Found:
    found: dict[Key, float] = {}
    for outcome in OUTCOMES:
        rows, _ = complete_rows(reference.table("calsnic_subjects"), [outcome, "group", "site"])
        fit = fit_linear(rows[outcome], cell_means(rows, ("group", "site"), levels=LEVELS))
        one = contrast_test(fit, "ALS - HC")
        found |= {
            (outcome, "T_ALS>HC", "con"): one.estimate,
            (outcome, "T_ALS>HC", "se"): one.se,
            (outcome, "T_ALS>HC", "t"): one.t,
            (outcome, "T_ALS>HC", "df"): one.df_residual,
            (outcome, "T_ALS>HC", "p_one_sided"): one.p / 2 if one.t > 0 else 1 - one.p / 2,
        }
        terms = {"group": "main_group", "site": "main_site", "group:site": "interaction"}
        for term, called in terms.items():
            test = contrast_test(fit, term)
            values = {"F": test.f, "df1": test.df, "df2": test.df_residual, "p": test.p}
            found |= {(outcome, called, stat): value for stat, value in values.items()}
    return found


def by_site(reference: Reference, name: str) -> Found:
    found: dict[Key, float] = {}
    for outcome in OUTCOMES:
        fit, _ = fit_by_site(calsnic_fit(reference, outcome, "additive"), "site")
        found |= coefficients(fit, outcome)
        found[outcome, "model", "loglik_reml"] = fit.loglik
    return found


def hc3_of_groups(reference: Reference, name: str) -> Found:
    found: dict[Key, float] = {}
    for outcome in OUTCOMES:
        found |= coefficients(robust(calsnic_fit(reference, outcome, "additive")), outcome)
    return found


def cells(reference: Reference, name: str) -> Found:
    found: dict[Key, float] = {}
    for outcome in OUTCOMES:
        fit = calsnic_fit(reference, outcome, "full")
        levene, shapiro = cell_variances(fit, ("group", "site")), normality(fit)
        found |= {
            (outcome, "cells", "F"): levene.statistic,
            (outcome, "cells", "df1"): levene.df,
            (outcome, "cells", "df2"): levene.df_residual,
            (outcome, "cells", "p"): levene.p,
            (outcome, "full", "W"): shapiro.statistic,
            (outcome, "full", "p"): shapiro.p,
        }
    return found


# Tables made to break things


def nasty_model(name: str) -> tuple[str, str, str]:
    """Table, model and what is wanted of an analysis ``D_<table>_<model>[_<what>]``."""
    emm = re.fullmatch(r"D_(.+?)_emm_full", name)
    if emm:
        return emm[1], "full", "emm"
    parts = re.fullmatch(r"D_(.+?)_(additive|full|ancova)(_type3)?", name)
    assert parts, name
    return parts[1], parts[2], (parts[3] or "").strip("_")


def nasty(reference: Reference, name: str) -> Found:
    file, model, what = nasty_model(name)
    table = reference.table(f"nasty/{file}")
    table = table[table["fa"].notna()]
    table = table.assign(site=table["site"].astype(str))
    options = {"group": "group", "site": "site", "min_df": 1 if file == "tiny_n6" else 5}
    try:
        fit = fitted(table, "fa", CALSNIC[model], **options)
    except NotEstimableError as problem:
        return refused(reference, name, str(problem))
    if what == "emm":
        return {("fa", m.level, "emmean"): m.mean for m in marginal_means(fit, "group")}
    return squares(fit, "fa", 3) if what else coefficients(fit, "fa")


def refused(reference: Reference, name: str, problem: str) -> Found:
    """What R gives for a model that is refused here; the rank has to be that of the message."""
    found: dict[Key, float | str] = {key: f"refused: {problem}" for key, _ in reference.of(name)}
    rank = RANK.search(problem)
    if rank:
        found["fa", "model", "rank"] = float(rank[1])
        found["fa", "model", "n_coef"] = float(rank[2])
    return found


def dropped(reference: Reference, name: str) -> Found:
    """One site taken out."""
    file = re.match(r"D_(.+)_dropped", name)[1]  # type: ignore[index]
    table = reference.table(f"nasty/{file}")
    alone = table.groupby("site")["group"].transform("nunique") == 1
    full = "full" in name
    fit = fitted(table[~alone], "fa", CALSNIC["full" if full else "additive"])
    return squares(fit, "fa", 3) if full else coefficients(fit, "fa")


def same_twice(reference: Reference, name: str) -> Found:
    """Age in years and in months."""
    table = reference.table("nasty/collinear_covariate")
    try:
        fit = fitted(table, "fa", "group + age + dup_age_months")
    except NotEstimableError as problem:
        return refused(reference, name, str(problem))
    return coefficients(fit, "fa")


def one_far_off(reference: Reference, name: str) -> Found:
    """An outlier of a hundred residual SDs; the correlations of this table are of another part."""
    fit = fitted(reference.table("nasty/ties_outlier"), "outlier", "group + site")
    rows, found = influence(fit), outlier(fit, influence(fit))
    values: dict[Key, float | str] = {key: "a correlation" for key, _ in reference.of(name)}
    return values | {
        ("outlier", "outlier_test", "rstudent"): found.statistic,
        ("outlier", "outlier_test", "bonf_p"): found.p,
        ("outlier", "cook_max", "D"): rows.cook.max(),
    }


def leverage(reference: Reference, name: str) -> Found:
    fit = fitted(reference.table("nasty/single_subject_site"), "fa", CALSNIC["additive"])
    where = list(fit.design.rows["site"]).index("Halifax")
    return {("fa", "Halifax", "hat"): fit.hat[where]}


def sexes(reference: Reference, name: str) -> Found:
    found: dict[Key, float] = {}
    table = reference.table("nasty/sex_codings")
    for column in dict.fromkeys(key[0] for key, _ in reference.of(name)):
        coded = table.assign(s=table[column])
        if name.endswith("type3"):
            coded = coded.assign(s=coded["s"].astype(str))
            found |= squares(fitted(coded, "fa", "group + site + s"), column, 3)
        else:
            levels = sorted(coded["s"].unique())
            coded = coded.assign(s=[float(levels.index(code)) for code in coded["s"]])
            found |= coefficients(fitted(coded, "fa", "group + site + s"), column)
    return found


def compare(folder: Path) -> list[agreement.Agreement]:
    """Agreement with every value of R on linear models, one row per analysis."""
    reference = Reference(folder)
    own = [n for n in reference.values if any(fnmatchcase(n, pattern) for pattern in ANALYSES)]
    found = [agreement.compare(reference, name) for name in own]
    return [agreement.agreement(rows) for rows in found if rows]


ANALYSES = {
    "A3_T2_side_simple": sides,
    "A3_T2_side_group": sides,
    "A4_T3_side": scores,
    "A4_T3_subject": scores,
    "A4_T3_*_type3": scores,
    "A5_hc3": hc3_of_scores,
    "A5_diag": diagnostics,
    "A6_GM_*": scores,
    "B2_*coding": calsnic,
    "B2_*_type[123]": calsnic,
    "B3_emm_*": adjusted_means,
    "B3_partial_*": shares,
    "B4_spm_cellmeans": spm,
    "B5_gls_varsite": by_site,
    "B5_levene_cells": cells,
    "B5_resid_shapiro": cells,
    "B5_hc3_additive": hc3_of_groups,
    "D_*_dropped*": dropped,
    "D_sex_codings_type3": sexes,
    "D_sex_codings_numeric": sexes,
    "D_single_subject_site_hat": leverage,
    "D_collinear_covariate": same_twice,
    "D_ties_outlier": one_far_off,
    "D_*_additive": nasty,
    "D_*_full": nasty,
    "D_*_ancova": nasty,
    "D_*_type3": nasty,
}
TOLERANCES = {
    # effectsize stops early; that ours put the noncentral F at .05 and .95 is tested to 1e-9
    "B3_partial_eta2_ci90 ci_*": 1.1e-4,
    # nlme stops early: our restricted likelihood is as high or higher, which is tested
    "B5_gls_varsite p": 1e-4,
    "B5_gls_varsite *": 1e-5,
}
TITLES = {
    "A3_*": "tract FA on grey matter, both sides (lm)",
    "A4_*_type3": "scores on measures, type III (car)",
    "A4_*": "scores on measures with covariates (lm)",
    "A5_hc3": "HC3 errors (sandwich)",
    "B5_hc3*": "HC3 errors (sandwich)",
    "A5_diag": "assumption checks (car, lmtest)",
    "B5_levene*": "assumption checks (car, lmtest)",
    "B5_resid*": "assumption checks (car, lmtest)",
    "A6_*": "scores on grey matter (lm)",
    "B2_*sumcoding": "groups and sites, sum coding (lm)",
    "B2_*treatment*": "groups and sites, treatment coding (lm)",
    "B2_*type*": "groups and sites, types I, II, III (anova, car)",
    "B3_emm*": "marginal means, equal and proportional (emmeans)",
    "B3_partial*": "partial eta² with limits, omega² (effectsize)",
    "B4_*": "cell means with SPM's contrasts",
    "B5_gls*": "variance per site, REML (nlme::gls)",
    "D_*": "tables made to break things (lm, car, emmeans)",
}
