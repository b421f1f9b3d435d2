"""What was put into a simulated cohort against what the group level found."""

from __future__ import annotations

import numpy as np
import pandas as pd

from alsflow.nodes.stats.catalogue import Catalogue
from alsflow.nodes.stats.design import NotEstimableError, build_design
from alsflow.nodes.stats.linear import group_difference
from alsflow.nodes.stats.participants import Columns, People

NOISE = 1e-4  # relative effect below which nothing was put in but rounding
RECOVERED = "recovered"
INSIDE = "inside the limits, not told from 0"
MISSED = "missed"
NOTHING = "no effect, as it should be"
BY_CHANCE = "not 0, but so it is in the people drawn"
SPURIOUS = "an effect where none was put in"


def compare(
    effects: pd.DataFrame,
    truth: pd.DataFrame,
    rows: pd.DataFrame,
    people: People,
    columns: Columns,
    tests: pd.DataFrame,
    catalogue: Catalogue,
) -> pd.DataFrame:
    """Fit the model of each test to the true values of the same people.

    Parameters
    ----------
    effects : DataFrame
        ``measure``, ``relative_effect``: what was put into the patients.
    truth : DataFrame
        True measures, one row per person (index), one column per measure.
    rows : DataFrame
        Covariates and measured values of the people in the models, see `analysed`.
    people, columns
        Cleaned participants and the columns of the model.
    tests : DataFrame
        What `fit_measures` found.
    catalogue : Catalogue
        Units and labels.

    Returns
    -------
    table : DataFrame
        Per measure: family, unit, injected (relative), true difference with its limits and in per
        cent, recovered estimate with its limits, verdict.
    """
    injected = effects.set_index("measure")["relative_effect"]
    found = []
    for test in tests.to_dict("records"):
        name = str(test["measure"])
        if name not in injected.index or name not in truth:
            continue
        row = {key: test[key] for key in ("family", "measure", "unit", "status", "reason")}
        row |= {key: float(test[key]) for key in ("estimate", "ci_low", "ci_high", "relative")}
        row |= {"injected": float(injected[name])}
        row |= _true_difference(name, truth, rows, people, columns, catalogue)
        found.append(row | {"verdict": verdict(row)})
    return pd.DataFrame(found)


def _true_difference(
    name: str,
    truth: pd.DataFrame,
    rows: pd.DataFrame,
    people: People,
    columns: Columns,
    catalogue: Catalogue,
) -> dict[str, float]:
    """Difference of the true values of the people whose measured value is in the model."""
    measured = rows[rows[name].notna()]
    values = truth[name].reindex(measured.index).to_numpy(dtype=float)
    unknown = dict.fromkeys(("true", "true_low", "true_high", "true_relative"), float("nan"))
    if np.isnan(values).any():
        return unknown
    try:
        design = build_design(
            measured,
            group=columns.group,
            case=people.case,
            reference=people.reference,
            site=columns.site,
            covariates=columns.covariates,
            factors=people.factors,
        )
        fit = group_difference(values, design, relative=catalogue.measures[name].relative)
    except NotEstimableError:
        return unknown
    return {
        "true": fit.estimate,
        "true_low": fit.ci_low,
        "true_high": fit.ci_high,
        "true_relative": fit.relative,
    }


def verdict(row: dict) -> str:
    """One of the sentences above.

    An effect is missed where the limits of the estimate leave out the true difference of the
    very same people, or where there is no estimate.
    """
    low, high, true = row["ci_low"], row["ci_high"], row["true"]
    contains_zero = low <= 0 <= high
    if abs(row["injected"]) > NOISE:
        if not low <= true <= high:  # also where any of them is unknown
            return MISSED
        return INSIDE if contains_zero else RECOVERED
    if np.isnan(low):
        return f"not tested: {row['reason']}"
    if contains_zero:
        return NOTHING
    return BY_CHANCE if row["true_low"] > 0 or row["true_high"] < 0 else SPURIOUS
