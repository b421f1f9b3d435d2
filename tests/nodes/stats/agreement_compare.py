"""Comparisons without a linear model beside their values from R 4.2.2.

`compare` returns one row per analysis; `found` the numbers themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from alsflow.nodes.stats import two_groups
from alsflow.nodes.stats.correlation import correlate, partial_correlation
from alsflow.nodes.stats.counts import chi_squared, cross_table, fisher_exact
from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.multiplicity import adjust
from alsflow.nodes.stats.power import sample_size, two_group_power
from alsflow.nodes.stats.proportions import proportion

FLOOR = 1e-9  # values below are compared absolutely
RTOL = 1e-6
LOOSE: dict[object, float] = {  # where R's own number is not exact
    "effect": 1e-4,  # limits of effectsize: an optimiser
    "odds": 1e-5,  # Fisher's odds ratio: uniroot
    # Looser than these in single values; that ours are the exact ones is shown by a test.
    ("B1_groupdiff_hedges", "tnaa_cr", "ALS-HC", "ci_low"): 3e-4,
    ("B1_groupdiff_cohen", "tnaa_cr", "ALS-HC", "ci_low"): 3e-4,
    ("A1_fisher", "sex", "group", "ci_low"): 3e-5,
}
OURS = re.compile(
    r"A1_|A2_groupdiff|A2_padj_|B0_|B1_|B2_padj_|B6_|B7_|B10_|C3_|D_.*_2g"
)  # fmt: skip
NASTY = "D_(.*)_2g"
GROUPS = ("ALS", "HC")
PADJ = {"BH": "fdr", "BY": "by", "holm": "holm", "bonferroni": "bonferroni", "hommel": "hommel"}

Key = tuple[str, str, str, str]  # analysis, outcome, term, stat


class Row(NamedTuple):
    """Agreement of one analysis."""

    analysis: str
    n: int  # values compared
    skipped: int  # reference values that are known to be inexact
    worst: float  # relative error, absolute below FLOOR
    tolerance: float  # of the loosest value
    failed: tuple[str, ...]  # values outside their tolerance, or not found


def reference_values(folder: Path) -> dict[Key, float]:
    """Every number of R that this part answers for."""
    table = pd.read_csv(folder / "r_reference_long.csv", keep_default_na=False)
    table = table[[bool(OURS.match(name)) for name in table["analysis"]]]
    keys = zip(table["analysis"], table["outcome"], table["term"], table["stat"], strict=True)
    values = dict(zip(keys, map(_number, table["value"]), strict=True))
    for key in values:  # R's minimum of nothing is infinite; ours is not a number
        if values.get((*key[:3], "n")) == 0 and key[3] in ("min", "max"):
            values[key] = np.nan
    return values


def _number(text: str) -> float:
    return np.nan if text.strip() == "NA" else float(text)


def tolerance(key: Key) -> float | None:
    """Relative tolerance of one value; None where R's number is not to be reproduced."""
    analysis, outcome, _, stat = key
    if key in LOOSE:
        return LOOSE[key]
    if analysis.endswith(("_cohen", "_hedges")) and stat.startswith("ci_"):
        if analysis.startswith("B1_") and outcome == "ad":
            return None  # d is 0: the optimiser of effectsize stops at -.456; exact is -.384
        return LOOSE["effect"]
    if analysis == "A1_fisher" and stat != "p":
        return LOOSE["odds"]
    return RTOL


def error(ours: float, theirs: float) -> float:
    """Relative error; absolute where both are below the floor, 0 where both are not a number."""
    if np.isnan(ours) or np.isnan(theirs):
        return 0.0 if np.isnan(ours) == np.isnan(theirs) else np.inf
    if ours == theirs:  # infinite ones too
        return 0.0
    return abs(ours - theirs) / max(abs(theirs), FLOOR)


def found(folder: Path) -> dict[Key, float]:
    """Our value for every key of `reference_values`."""
    reference = reference_values(folder)
    parts = (_taiwan(folder), _calsnic(folder), _slopes(folder), _nasty(folder, reference),
             _padj(folder, reference), _correlations(folder, reference), _power())  # fmt: skip
    return {key: value for part in parts for key, value in part}


def compare(folder: Path, ours: dict[Key, float] | None = None) -> list[Row]:
    """One row per analysis of `folder`, the directory of the reference tables.

    `ours` are the values to compare; without, those of `found`.
    """
    theirs, ours = reference_values(folder), found(folder) if ours is None else ours
    rows: dict[str, list[Key]] = {}
    for key in theirs:
        rows.setdefault(key[0], []).append(key)
    return [_row(analysis, keys, theirs, ours) for analysis, keys in rows.items()]


def _row(analysis: str, keys: list[Key], theirs: dict[Key, float], ours: dict[Key, float]) -> Row:
    worst, loosest, failed, counted = 0.0, 0.0, [], 0
    for key in keys:
        allowed = tolerance(key)
        if allowed is None:
            continue
        counted += 1
        wrong = error(ours.get(key, 1e300), theirs[key])
        worst, loosest = max(worst, wrong), max(loosest, allowed)
        if wrong > allowed:
            failed.append(f"{' '.join(key)}: {ours.get(key)} for {theirs[key]} in R")
    return Row(analysis, counted, len(keys) - counted, worst, loosest, tuple(failed))


Values = Iterator[tuple[Key, float]]


def two_group_values(prefix: str, outcome: str, case, reference) -> Values:
    """Every number of two samples; tests that cannot be run give none."""
    for label, sample in zip(GROUPS, (case, reference), strict=True):
        described = two_groups.describe(sample)
        for stat in ("n", "mean", "sd", "se", "median", "q1", "q3"):
            yield (prefix, outcome, label, stat), getattr(described, stat)
        yield (prefix, outcome, label, "min"), described.minimum
        yield (prefix, outcome, label, "max"), described.maximum
        normal = two_groups.shapiro(sample)
        yield (f"{prefix}_shapiro", outcome, label, "W"), normal.w
        yield (f"{prefix}_shapiro", outcome, label, "p"), normal.p
    try:
        yield from _tests(prefix, outcome, case, reference)
    except NotEstimableError:
        return


def _tests(prefix: str, outcome: str, case, reference) -> Values:
    for name, test in (
        ("levene_median", two_groups.levene([case, reference])),
        ("levene_mean", two_groups.levene([case, reference], "mean")),
        ("vartest", two_groups.variance_ratio(case, reference)),
    ):
        for stat in ("f", "df1", "df2", "p"):
            label = "F" if stat == "f" else stat
            yield (f"{prefix}_{name}", outcome, "group", label), getattr(test, stat)
    ranks = two_groups.rank_test(case, reference)
    for name, p in (("mannwhitney_cc", ranks.p_corrected), ("mannwhitney", ranks.p_uncorrected)):
        yield (f"{prefix}_{name}", outcome, "ALS-HC", "U"), ranks.u
        yield (f"{prefix}_{name}", outcome, "ALS-HC", "p"), p
    yield from _effect(prefix, outcome, "r", two_groups.rank_biserial(case, reference))
    for name, pooled in (("student", True), ("welch", False)):
        test = two_groups.t_test(case, reference, pooled=pooled)
        yield (f"{prefix}_{name}", outcome, "ALS-HC", "diff"), test.estimate
        for stat in ("t", "df", "p", "ci_low", "ci_high"):
            yield (f"{prefix}_{name}", outcome, "ALS-HC", stat), getattr(test, stat)
    yield from _effect(prefix, outcome, "g", two_groups.hedges_g(case, reference))
    yield from _effect(prefix, outcome, "d", two_groups.cohen_d(case, reference))


def _effect(prefix: str, outcome: str, stat: str, effect: two_groups.Effect) -> Values:
    name = f"{prefix}_{effect.name.removesuffix('_g').removesuffix('_d').replace('_', '')}"
    for label, value in (
        (stat, effect.value), ("ci_low", effect.ci_low), ("ci_high", effect.ci_high),
    ):  # fmt: skip
        yield (name, outcome, "ALS-HC", label), value


def _samples(table: pd.DataFrame, outcome: str) -> list[np.ndarray]:
    numbers = pd.to_numeric(table[outcome], errors="coerce")
    return [numbers[table["group"] == label].to_numpy(float) for label in GROUPS]


def _groupdiff(folder: Path, file: str, prefix: str) -> Values:
    table = pd.read_csv(folder / file)
    outcomes = {key[1] for key in reference_values(folder) if key[0] == prefix}
    for outcome in outcomes:
        yield from two_group_values(prefix, outcome, *_samples(table, outcome))


def _chi_values(analysis: str, outcome: str, term: str, counts, yates: bool = False) -> Values:
    test = chi_squared(counts, yates=yates)
    for stat in ("chi2", "df", "p"):
        yield (analysis, outcome, term, stat), getattr(test, stat)


def _crossed(table: pd.DataFrame, row: str, column: str) -> np.ndarray:
    known = table[[row, column]].dropna().astype(str)
    return cross_table(
        known[row], known[column], sorted(known[row].unique()), sorted(known[column].unique())
    )


def _taiwan(folder: Path) -> Values:
    table = pd.read_csv(folder / "taiwan_subjects.csv")
    yield from _groupdiff(folder, "taiwan_subjects.csv", "A2_groupdiff")
    patients = table[table["group"] == "ALS"]
    sexes, stages = _crossed(table, "group", "sex"), _crossed(patients, "onset", "kings_stage")
    yield from _chi_values("A1_chisq", "sex", "group", sexes)
    yield from _chi_values("A1_chisq_yates", "sex", "group", sexes, yates=True)
    yield from _chi_values("A1_chisq", "kings_stage", "onset", stages)
    fisher = fisher_exact(sexes)
    for stat, value in (("p", fisher.p), ("or", fisher.odds_ratio), ("ci_low", fisher.ci_low),
                        ("ci_high", fisher.ci_high)):  # fmt: skip
        yield ("A1_fisher", "sex", "group", stat), value
    yield ("A1_fisher", "kings_stage", "onset", "p"), fisher_exact(stages).p
    by_stage = [rows["fvc_pct"] for _, rows in patients.groupby("kings_stage")]
    for stat, value in zip(("H", "df", "p"), two_groups.kruskal_wallis(by_stage), strict=True):
        yield ("A1_kruskal", "fvc_pct", "kings_stage", stat), value
    for outcome in ("age", "disease_duration", "fvc_pct", "alsfrs_r"):
        samples = [patients.loc[patients["onset"] == o, outcome] for o in ("bulbar", "spinal")]
        for name, pooled in (("student", True), ("welch", False)):
            test = two_groups.t_test(*samples, pooled=pooled)
            for stat in ("t", "df", "p"):
                yield (f"A1_onset_{name}", outcome, "bulbar-spinal", stat), getattr(test, stat)


def _calsnic(folder: Path) -> Values:
    table = pd.read_csv(folder / "calsnic_subjects.csv")
    yield from _groupdiff(folder, "calsnic_subjects.csv", "B1_groupdiff")
    for outcome in ("sex", "site"):
        yield from _chi_values("B0_chisq", outcome, "group", _crossed(table, "group", outcome))


def _slopes(folder: Path) -> Values:
    table = pd.read_csv(folder / "r_subject_slopes.csv")
    samples = _samples(table, "slope")
    yield from two_group_values("C3_two_stage_slope", "fa100_slope", *samples)


def _nasty(folder: Path, reference: dict[Key, float]) -> Values:
    wanted = {(key[0], key[1]) for key in reference if re.fullmatch(NASTY, key[0])}
    for prefix, outcome in wanted:
        name = re.fullmatch(NASTY, prefix).group(1)
        table = pd.read_csv(folder / "nasty" / f"{name}.csv")
        yield from two_group_values(prefix, outcome, *_samples(table, outcome))


def _padj(folder: Path, reference: dict[Key, float]) -> Values:
    for analysis in {key[0] for key in reference if "_padj_" in key[0]}:
        keys = [key for key in reference if key[0] == analysis]
        if analysis.startswith("A2"):
            table = pd.read_csv(folder / "taiwan_subjects.csv")
            raw = [two_groups.t_test(*_samples(table, key[1])).p for key in keys]
        else:
            raw = [_type3_p(folder)[key[1]] for key in keys]
        adjusted = adjust(raw, PADJ[analysis.rsplit("_", 1)[1]])
        yield from zip(keys, map(float, adjusted), strict=True)


def _type3_p(folder: Path) -> dict[str, float]:
    table = pd.read_csv(folder / "r_reference_long.csv")
    rows = table.query("analysis == 'B2_full_type3' and term == 'group' and stat == 'p'")
    return dict(zip(rows["outcome"], rows["value"].astype(float), strict=True))


def _correlations(folder: Path, reference: dict[Key, float]) -> Values:
    table = pd.read_csv(folder / "calsnic_subjects.csv")
    patients = table[table["group"] == "ALS"]
    for pair in {key[1] for key in reference if key[0] == "B6_pearson"}:
        measure, score = pair.split("~")
        yield from _bivariate(patients, measure, score)
        yield from _partials(patients, measure, score)


def _bivariate(patients: pd.DataFrame, measure: str, score: str) -> Values:
    pair = f"{measure}~{score}"
    pearson = correlate(patients, measure, score)
    for stat, value in (
        ("r", pearson.r), ("t", pearson.value), ("df", pearson.df), ("p", pearson.p),
        ("ci_low", pearson.ci_low), ("ci_high", pearson.ci_high),
    ):  # fmt: skip
        yield ("B6_pearson", pair, "ALS", stat), value
    spearman = correlate(patients, measure, score, method="spearman")
    yield ("B6_spearman", pair, "ALS", "rho"), spearman.r
    yield ("B6_spearman", pair, "ALS", "p"), spearman.p
    kendall = correlate(patients, measure, score, method="kendall")
    for stat, value in (("tau", kendall.r), ("z", kendall.value), ("p", kendall.p)):
        yield ("B6_kendall", pair, "ALS", stat), value


def _partials(patients: pd.DataFrame, measure: str, score: str) -> Values:
    held = {"age": ((), "pearson spearman"), "age_sex": (("sex",), "pearson"),
            "age_sex_site": (("sex", "site"), "pearson")}  # fmt: skip
    for name, (factors, methods) in held.items():
        for method in methods.split():
            partial = partial_correlation(
                patients, measure, score, covariates=["age"], factors=factors, method=method
            )
            for stat in ("r", "df", "p", "n", "ci_low", "ci_high"):
                key = (f"B7_partial_{method}_{name}", f"{measure}~{score}", "ALS", stat)
                yield key, getattr(partial, stat)
            yield (key[0], key[1], "ALS", "t"), partial.value


def _power() -> Values:
    term = "two_sided_.05"
    for d in (0.3, 0.5, 0.8):
        for n_case, n_reference in ((39, 32), (52, 52)):
            name = f"d{d}_n{n_case}_{n_reference}"
            power = two_group_power(d, n_case, n_reference)
            yield ("B10_power_t2", name, term, "power"), power
    yield ("B10_power_n", "d0.5_power0.8", term, "n_per_group"), sample_size(0.5)
    for method in ("clopper", "wilson"):
        share = proportion(37, 39, method)
        for stat, value in (("est", share.estimate), ("ci_low", share.ci_low),
                            ("ci_high", share.ci_high)):  # fmt: skip
            yield ("B10_binom", "37/39", method, stat), value
