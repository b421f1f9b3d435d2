"""The mixed and clustered models of R, rebuilt from the same tables for `agreement`.

`compare` also holds the values that R wrote into files of their own: CR2 of clubSandwich and the
slopes of single people.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import agreement
import numpy as np
import pandas as pd
from agreement import Found, Key, Reference, Row

from alsflow.nodes.stats.estimates import Estimate
from alsflow.nodes.stats.longitudinal import Longitudinal, LongitudinalModel, analyse_slopes
from alsflow.nodes.stats.mixed import MixedFit, fit_mixed
from alsflow.nodes.stats.side_level import CR2, HC1, SideLevel, analyse_sides
from alsflow.nodes.stats.visits import person_slopes

CLINICAL = ("age", "sex", "disease_duration")
LME4 = 1e-5  # relative, estimates of mixed models: the optimiser of lme4
VARIANCE = 1e-4  # variance components
CR2_FILE, SLOPES_FILE = "r_clubsandwich_cr2.json", "r_subject_slopes.csv"


@cache
def reference_of(folder: Path) -> Reference:
    """The folder of reference data, read once."""
    return Reference(folder)


@cache
def sides(reference: Reference, outcome: str) -> SideLevel:
    """Side-level analysis of ``score~metric`` or ``fa~gm``."""
    score, metric = outcome.split("~")
    table = reference.table("taiwan_sides").reset_index()
    clinical = score in ("mrc", "penn", "cmapz")
    rows = table[table["group"] == "ALS"] if clinical else table
    return analyse_sides(rows, score, metric, CLINICAL if clinical else (), centre=False)


def _outcomes(reference: Reference, name: str) -> list[str]:
    return list(dict.fromkeys(key[0] for key, _ in reference.of(name)))


def _values(one: Estimate, called: Mapping[str, str]) -> dict[str, float]:
    return {stat: getattr(one, ours) for stat, ours in called.items()}


def clustered(reference: Reference, name: str) -> Found:
    found: dict[Key, float] = {}
    called = {"estimate": "estimate", "se": "se", "z": "statistic", "p": "p"}
    for outcome in _outcomes(reference, name):
        slope = sides(reference, outcome).answer(HC1).slope
        values = _values(slope, called)
        found |= {(outcome, slope.name, stat): value for stat, value in values.items()}
    return found


def _fixed(fit: MixedFit, outcome: str, names: Mapping[str, str]) -> Found:
    """Fixed effects; `names` are those of R by ours."""
    called = {"estimate": "estimate", "se": "se", "df_satt": "df", "t": "statistic", "p": "p"}
    return {
        (outcome, names.get(one.name, one.name), stat): value
        for one in fit.effects
        for stat, value in _values(one, called).items()
    }


def _variances(fit: MixedFit, group: str) -> dict[str, float]:
    return {
        f"var_{group}": fit.component("intercept").variance,
        "var_resid": fit.component("residual").variance,
        "reml_crit": -2 * fit.quality.loglik,
        "singular": float(fit.singular),
    }


def side_models(reference: Reference, name: str) -> Found:
    found: dict[Key, float | str] = {}
    names = {"intercept": "(Intercept)", "sex[F]": "sex1"}
    for outcome in _outcomes(reference, name):
        fit = sides(reference, outcome).mixed
        assert fit is not None
        found |= _fixed(fit, outcome, names)
        values = _variances(fit, "intercept")
        found |= {(outcome, "model", stat): value for stat, value in values.items()}
    return found


def random_sites(reference: Reference, name: str) -> Found:
    found: dict[Key, float | str] = {}
    for outcome in _outcomes(reference, name):
        rows = reference.table("calsnic_subjects").dropna(subset=[outcome])
        group = np.where(rows["group"] == "ALS", 1.0, -1.0)
        fixed = np.column_stack([np.ones(len(rows)), group])
        fit = fit_mixed(
            rows[outcome].to_numpy(), fixed, ("intercept", "group1"), rows["site"], unit="sites"
        )
        found |= _fixed(fit, outcome, {})
        values = _variances(fit, "site")
        found |= {(outcome, "model", stat): value for stat, value in values.items()}
    return found


@cache
def longitudinal(reference: Reference, name: str) -> Longitudinal:
    """Model ``C1_fa_ranslope_REML``, ``C2_alsfrs_ranint_ML`` and so on."""
    study, _, random, likelihood = name.split("_")
    table = reference.table("longitudinal").reset_index()
    how = {
        "random": {"ranint": "intercept", "ranslope": "slope"}[random],
        "reml": likelihood == "REML",
    }
    if study == "C2":
        rows = table[table["group"] == "ALS"]
        return analyse_slopes(rows, LongitudinalModel("alsfrs_r", **how))
    model = LongitudinalModel(
        "fa100", group="group", reference="HC", site="site", covariates=("age", "sex"),
        treatment={"site": "Calgary", "sex": "F"}, **how,
    )  # fmt: skip
    return analyse_slopes(table.assign(fa100=100 * table["fa"]), model)


def visits(reference: Reference, name: str) -> Found:
    result = longitudinal(reference, name)
    outcome = result.model.outcome
    plain = {n: n.replace("[", "").replace("]", "") for n in result.design.columns}
    found: dict[Key, float | str] = dict(
        _fixed(result.mixed, outcome, plain | {"intercept": "(Intercept)"})
    )
    for part in result.mixed.components:
        names = {"intercept": "(Intercept)", "residual": "Residual"}
        parts = dict.fromkeys(names.get(x, x) for x in (part.first, part.second))
        term = ":".join(parts)
        term = term if term == "Residual" else f"participant_id:{term}"
        found[outcome, term, "vcov"] = part.variance
        found[outcome, term, "sdcor"] = part.size
    model = {
        "loglik": result.mixed.quality.loglik,
        "n": float(result.n_visits),
        "ngroups": float(result.n_people),
        "singular": float(result.mixed.singular),
    }
    return found | {(outcome, "model", stat): value for stat, value in model.items()}


ANALYSES = {
    "A3_T2_side_cluster": clustered,
    "A4_T3_side_cluster": clustered,
    "A4_T3_lmer": side_models,
    "B5_lmer_site_random": random_sites,
    "C1_*": visits,
    "C2_*": visits,
}
TOLERANCES = {
    f"{name} {stat}": VARIANCE if stat in ("vcov", "sdcor", "var_*") else LME4
    for name in ("A4_T3_lmer", "B5_lmer_site_random", "C1_*", "C2_*")
    for stat in ("vcov", "sdcor", "var_*", "*")
}
TITLES = {
    "A3_T2_side_cluster": "HC1 by person, hemispheres (vcovCL)",
    "A4_T3_side_cluster": "HC1 by person, hemispheres (vcovCL)",
    "A4_T3_lmer": "mixed models of sides, Satterthwaite (lmerTest)",
    "B5_lmer_site_random": "random intercept of sites (lmerTest)",
    "C1_*": "longitudinal mixed models (lmerTest)",
    "C2_*": "longitudinal mixed models (lmerTest)",
    CR2_FILE: "CR2 by person (clubSandwich)",
    SLOPES_FILE: "slopes of single people (lm)",
}


def files(reference: Reference) -> dict[str, dict[Key, tuple[float, float]]]:
    """Ours and R's of the values in files of their own, by file."""
    called = {"estimate": "estimate", "se_CR2": "se", "t": "statistic", "df": "df", "p": "p"}
    cr2 = {}
    for outcome, theirs in json.loads((reference.folder / CR2_FILE).read_text()).items():
        slope = sides(reference, outcome).answer(CR2).slope
        ours = _values(slope, called)
        cr2 |= {(outcome, slope.name, stat): (ours[stat], theirs[stat]) for stat in theirs}
    table = reference.table("longitudinal").reset_index()
    found = person_slopes(table.assign(fa100=100 * table["fa"]), "fa100")
    slopes = {}
    for row in pd.read_csv(reference.folder / SLOPES_FILE).itertuples():
        ours = found.loc[row.participant_id]
        slopes["fa100", row.participant_id, "n"] = float(ours["n_visits"]), float(row.n)
        slopes["fa100", row.participant_id, "slope"] = float(ours["slope"]), float(row.slope)
    return {CR2_FILE: cr2, SLOPES_FILE: slopes}


def rows_of_files(reference: Reference) -> dict[str, list[Row]]:
    """The same as rows of the comparison."""
    return {
        name: [
            Row(name, *key, theirs, ours, agreement.error(ours, theirs), agreement.TOLERANCE, "")
            for key, (ours, theirs) in values.items()
        ]
        for name, values in files(reference).items()
    }


def compare(folder: Path) -> list[agreement.Agreement]:
    """Agreement with every value of R on mixed and clustered models, one row per analysis."""
    reference = reference_of(folder)
    own = [n for n in reference.values if any(fnmatchcase(n, pattern) for pattern in ANALYSES)]
    found = [agreement.compare(reference, name) for name in own]
    found += rows_of_files(reference).values()
    return [agreement.agreement(rows) for rows in found]
