"""The group difference of one measure, adjusted for site and covariates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from alsflow.nodes.stats.design import Design
from alsflow.nodes.stats.effects import ratio_limits, standardised_difference
from alsflow.nodes.stats.regression import LEVEL, fit_linear


@dataclass(frozen=True)
class GroupDifference:
    """Case minus reference, from one linear model."""

    n: int
    df: int
    estimate: float  # unit of the measure
    se: float
    ci_low: float
    ci_high: float
    t: float
    p: float
    g: float  # Hedges' g, in residual standard deviations
    g_low: float
    g_high: float
    case_mean: float  # adjusted, unit of the measure
    control_mean: float
    relative: float  # per cent of the adjusted control mean
    relative_low: float
    relative_high: float
    residual_sd: float
    r2: float


def group_difference(
    values: NDArray[np.float64], design: Design, *, relative: bool = True
) -> GroupDifference:
    """Fit ``values ~ design`` by least squares and test case against reference.

    Parameters
    ----------
    values : (n,) array
        Measure of each person, in its own unit.
    design : Design
        n rows, estimable.
    relative : bool
        Whether the control mean is a size that a difference can be compared with.

    Notes
    -----
    Adjusted means are those of `Design`: unweighted over the levels of every factor, at the mean
    of every covariate.
    """
    fit = fit_linear(values, design)
    contrasts = np.stack([design.difference, design.control_mean])
    covariance = contrasts @ fit.covariance @ contrasts.T
    estimate, control_mean = contrasts @ fit.estimate
    df, se, residual_sd = fit.df, float(np.sqrt(covariance[0, 0])), fit.sigma
    t = float(estimate / se)
    half = stats.t.ppf(0.5 + LEVEL / 2, df) * se
    g, g_low, g_high = standardised_difference(t, df, se / residual_sd)
    share = (float("nan"),) * 3
    if relative:
        share = (
            estimate / control_mean,
            *ratio_limits(estimate, control_mean, covariance, df, LEVEL),
        )
    return GroupDifference(
        n=fit.n,
        df=df,
        estimate=float(estimate),
        se=se,
        ci_low=float(estimate - half),
        ci_high=float(estimate + half),
        t=t,
        p=float(2 * stats.t.sf(abs(t), df)),
        g=g,
        g_low=g_low,
        g_high=g_high,
        case_mean=float(control_mean + estimate),
        control_mean=float(control_mean),
        relative=100 * share[0],
        relative_low=100 * share[1],
        relative_high=100 * share[2],
        residual_sd=residual_sd,
        r2=fit.r2,
    )
