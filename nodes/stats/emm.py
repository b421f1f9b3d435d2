"""Estimated marginal means: what a model predicts for each level, the others averaged out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.design import Design, NotEstimableError, estimable
from alsflow.nodes.stats.regression import LEVEL, ContrastTest, LinearFit, contrast_test


@dataclass(frozen=True)
class MarginalMean:
    """Adjusted mean of one level, unit of the outcome."""

    factor: str
    level: str
    weights: str  # equal or proportional, over the cells of the other factors
    mean: float
    se: float
    df: int
    ci_low: float
    ci_high: float


def marginal_means(
    fit: LinearFit, factor: str, weights: str = "equal", at: Mapping[str, str] | None = None
) -> tuple[MarginalMean, ...]:
    """Adjusted mean of each level of a factor [1]_.

    Parameters
    ----------
    fit : LinearFit
        Model; its covariance (least squares, HC3, by site) gives the standard errors.
    factor : str
        A factor of the model.
    weights : str
        ``equal`` counts each cell of the other factors the same, as SPSS does; ``proportional``
        by its number of rows. Numbers stand at their mean over the rows of the model.
    at : mapping, optional
        Levels of other factors to stay at instead of averaging over them.

    References
    ----------
    .. [1] Searle, Speed and Milliken (1980). Am Stat 34:216-221.
       doi:10.1080/00031305.1980.10483031
    """
    rows = _rows(fit.design, factor, weights, at or {})
    quantile = stats.t.ppf(0.5 + LEVEL / 2, fit.df)
    found = []
    for level, row in rows.items():
        if not estimable(fit.design.matrix, row):
            raise NotEstimableError(
                f"the adjusted mean of {factor} {level} is not determined by these people: a cell "
                "of the model is empty"
            )
        mean, se = float(row @ fit.estimate), float(np.sqrt(row @ fit.covariance @ row))
        half = float(quantile * se)
        found.append(
            MarginalMean(factor, level, weights, mean, se, fit.df, mean - half, mean + half)
        )
    return tuple(found)


def pairwise(
    fit: LinearFit, factor: str, weights: str = "equal", at: Mapping[str, str] | None = None
) -> tuple[ContrastTest, ...]:
    """Differences between the marginal means of all pairs of levels, p not corrected."""
    rows = _rows(fit.design, factor, weights, at or {})
    return tuple(
        contrast_test(fit, rows[one] - rows[other], f"{one} - {other}")
        for one, other in combinations(rows, 2)
    )


def means_table(
    fit: LinearFit, factor: str, weights: str = "equal", at: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """`marginal_means` as a table."""
    return pd.DataFrame([vars(mean) for mean in marginal_means(fit, factor, weights, at)])


def _rows(
    design: Design, factor: str, weights: str, at: Mapping[str, str]
) -> dict[str, NDArray[np.float64]]:
    if factor not in design.variables or not design.variables[factor].levels:
        raise BadInputError(f"'{factor}' is no factor of the model {design.formula}")
    levels = design.variables[factor].levels
    return {level: design.mean_row({**at, factor: level}, weights) for level in levels}
