"""Every test of a run in one table, corrected within its families, its identities asserted."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.multiplicity import adjust
from alsflow.nodes.stats.tables import MISSING

NA = float("nan")
TESTED = "tested"
CLOSE = 1e-6  # relative difference that two ways to the same number may have
MD_CLOSE = 0.01  # share of MD by which (AD + 2 RD) / 3 may differ from it

# Columns of tests.tsv in order; what each means stands in group_columns.toml.
TEXT = (
    "analysis", "kind", "mode", "family", "correction", "outcome", "measure", "label", "unit",
    "predictor", "predictor_label", "predictor_unit", "people", "rows", "contrast", "test",
    "model", "coding",
)  # fmt: skip
COUNTS = ("n", "n_people", "n_case", "n_control")
NUMBERS = (
    "df", "estimate", "se", "ci_low", "ci_high", "t", "value", "p", "q",
    "effect_size", "effect_low", "effect_high", "g", "g_low", "g_high", "beta", "partial_eta2",
    "partial_eta2_low", "partial_eta2_high", "r2", "p_model", "residual_sd",
    "case_mean", "case_sd", "case_se", "control_mean", "control_sd", "control_se",
    "relative", "relative_low", "relative_high",
    "robust_se", "robust_df", "robust_p", "welch_p", "student_p", "mannwhitney_p",
    "pearson_r", "pearson_p", "spearman_rho", "spearman_p", "partial_r", "partial_low",
    "partial_high", "partial_df", "partial_p", "interaction_p", "sensitivity", "specificity",
    "threshold", "shapiro_p", "levene_p", "breusch_pagan_p", "max_vif", "max_cook",
    "p_without_outliers",
)  # fmt: skip
ORDER = (
    *TEXT, "pseudoreplicated", *COUNTS, "n_per_site", "df", "estimate", "se", "ci_low",
    "ci_high", "t", "statistic", "value", "p", "q", "effect", "effect_size", "effect_low",
    "effect_high",
    *(name for name in NUMBERS if name in ("g", "g_low", "g_high")),
    "beta", "partial_eta2", "partial_eta2_low", "partial_eta2_high", "r2", "p_model",
    "residual_sd", "case_mean", "case_sd", "case_se", "control_mean", "control_sd", "control_se",
    "relative", "relative_low", "relative_high", "robust", "robust_se", "robust_df", "robust_p",
    "welch_p", "student_p", "mannwhitney_p", "pearson_r", "pearson_p", "spearman_rho",
    "spearman_p", "partial_given", "partial_r", "partial_low", "partial_high", "partial_df",
    "partial_p", "interaction_p", "sensitivity", "specificity", "threshold", "shapiro_p",
    "levene_p", "breusch_pagan_p", "max_vif", "max_cook", "outliers", "p_without_outliers",
    "n_missing", "missing_per_site", "missing", "status", "reason", "notes",
)  # fmt: skip
WORDS = tuple(
    name for name in ORDER if name not in (*NUMBERS, *COUNTS, "pseudoreplicated", "n_missing")
)


class IdentityError(BadInputError):
    """Two numbers of one test that must follow from each other do not."""


@dataclass(frozen=True)
class Registry:
    """All that a run of analyses found."""

    tests: pd.DataFrame  # one row per analysis, outcome and predictor; columns ORDER
    terms: pd.DataFrame  # one per term of each linear model: sums of squares, F, partial eta2
    means: pd.DataFrame  # one per adjusted mean
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)  # of whole analyses, by name
    notes: tuple[str, ...] = ()  # what was passed over, and why
    objects: Mapping[tuple[str, str, str], object] = field(default_factory=dict)  # for figures


def blank_row(**known: object) -> dict[str, object]:
    """Row of the registry in which only `known` is known."""
    row: dict[str, object] = dict.fromkeys(ORDER, MISSING)
    row |= dict.fromkeys(NUMBERS, NA) | dict.fromkeys(COUNTS, 0)
    row |= {"pseudoreplicated": False, "n_missing": 0, "status": MISSING}
    unknown = set(known) - set(ORDER)
    if unknown:
        raise ValueError(f"the registry has no column {', '.join(sorted(unknown))}")
    return row | known


def correct(tests: pd.DataFrame) -> pd.DataFrame:
    """Add q: p corrected within each family, over the rows that were tested."""
    q = pd.Series(np.nan, index=tests.index)
    for _, rows in tests.groupby("family", sort=False):
        tested = rows[(rows["status"] == TESTED) & rows["p"].notna()]
        method = str(rows["correction"].iat[0])
        if len(tested) and method != "none":
            q[tested.index] = adjust(tested["p"].to_numpy(dtype=float), method)
    return tests.assign(q=q)


def assert_identities(tests: pd.DataFrame) -> None:
    """Refuse a registry in which numbers that follow from each other do not.

    Raises
    ------
    IdentityError
        With analysis, outcome and the two numbers.
    """
    for row in tests[tests["status"] == TESTED].to_dict("records"):
        where = f"{row['analysis']}, {row['outcome']}"
        where += f" on {row['predictor']}" if row["predictor"] != MISSING else ""
        _assert_limits(row, where)
        _assert_counts(row, where)
        if row["statistic"] == "t":
            _assert_t(row, where)
        if row["kind"] == "correlation" and row["test"] == "pearson":
            r, df = row["estimate"], row["df"]
            if abs(r) < 1 - CLOSE:  # else t is beyond what floating point holds
                _same(row["t"], r * math.sqrt(df / (1 - r**2)), "t", "r and df", where)


def _same(one: float, other: float, name: str, source: str, where: str) -> None:
    if math.isfinite(one) and math.isfinite(other):
        if abs(one - other) > CLOSE * max(abs(one), abs(other), 1e-12):
            raise IdentityError(f"{where}: {name} is {one:.8g}, but {source} give {other:.8g}")
    elif math.isfinite(one) != math.isfinite(other) and not math.isinf(one):
        raise IdentityError(f"{where}: {name} is {one}, but {source} give {other}")


def _assert_limits(row: Mapping[Hashable, Any], where: str) -> None:
    for value, low, high in (
        ("estimate", "ci_low", "ci_high"),
        ("g", "g_low", "g_high"),
        ("effect_size", "effect_low", "effect_high"),
        ("partial_r", "partial_low", "partial_high"),
    ):
        known = all(math.isfinite(row[name]) for name in (value, low, high))
        slack = CLOSE * max(abs(row[value]), 1e-12) if known else 0.0
        if known and not row[low] - slack <= row[value] <= row[high] + slack:
            raise IdentityError(
                f"{where}: {value} {row[value]:.6g} lies outside {row[low]:.6g} to {row[high]:.6g}"
            )
    for name in ("p", "q", "r2", "partial_eta2"):
        if math.isfinite(row[name]) and not -CLOSE <= row[name] <= 1 + CLOSE:
            raise IdentityError(f"{where}: {name} is {row[name]}, outside 0 to 1")


def _assert_t(row: Mapping[Hashable, Any], where: str) -> None:
    if math.isfinite(row["se"]):
        _same(row["t"], row["estimate"] / row["se"], "t", "estimate and se", where)
        half = stats.t.ppf(0.975, row["df"]) * row["se"]
        _same(row["ci_high"] - row["ci_low"], 2 * half, "the confidence interval", "se and df",
              where)  # fmt: skip
    p = float(2 * stats.t.sf(abs(row["t"]), row["df"]))
    _same(row["p"], p, "p", "t and df", where)
    if row["n"] - row["df"] == 2 and math.isfinite(row["r2"]):
        r2 = row["t"] ** 2 / (row["t"] ** 2 + row["df"])
        _same(row["r2"], r2, "R2", "t and df", where)
        if math.isfinite(row["p_model"]):
            _same(row["p_model"], row["p"], "p of the model", "the only slope", where)


def _assert_counts(row: Mapping[Hashable, Any], where: str) -> None:
    if not 0 < row["n_people"] <= row["n"]:
        raise IdentityError(f"{where}: {row['n_people']} people on {row['n']} rows")
    groups = row["n_case"] + row["n_control"]
    if groups not in (0, row["n"]):
        raise IdentityError(f"{where}: the groups add up to {groups}, not to n = {row['n']}")


def diffusion_faults(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Sentences on people whose MD is not (AD + 2 RD) / 3, where all three are there."""
    faults = []
    for md in (name for name in columns if name.startswith("md_")):
        ad, rd = (f"{kind}_{md.removeprefix('md_')}" for kind in ("ad", "rd"))
        if ad not in table or rd not in table:
            continue
        gap = (table[md] - (table[ad] + 2 * table[rd]) / 3).abs()
        wrong = table.index[gap > MD_CLOSE * table[md].abs()]
        if len(wrong):
            more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            faults.append(
                f"{md} of {wrong[0]}{more} is not ({ad} + 2 {rd}) / 3 within 1 %: check the units"
            )
    return faults
