"""Effect sizes of a contrast of a linear model, with their confidence limits."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats
from scipy.special import gammaln

Q_FOUND = 0.05  # false discovery rate below which a row is set off in table and figure


def hedges_factor(df: float) -> float:
    """Exact factor J that takes the bias off a standardised difference with `df` [1]_.

    References
    ----------
    .. [1] Hedges (1981). J Educ Stat 6:107-128. doi:10.3102/10769986006002107
    """
    return float(np.exp(gammaln(df / 2) - gammaln((df - 1) / 2)) * np.sqrt(2 / df))


def noncentrality_limits(t: float, df: float, level: float = 0.95) -> tuple[float, float]:
    """Confidence limits of the noncentrality of a t statistic [1]_.

    References
    ----------
    .. [1] Steiger and Fouladi (1997). Noncentrality interval estimation. In: What if there were
       no significance tests? Erlbaum.
    """
    tail = (1 - level) / 2

    def limit(probability: float) -> float:
        def excess(ncp: float) -> float:
            return float(stats.nct.cdf(t, df, ncp)) - probability

        # The noncentral t of scipy is NaN far out: the bracket stays near, then widens if it can.
        for reach in (6 + abs(t) / 3, 9 + abs(t)):
            low, high = t - reach, t + reach
            if excess(low) > 0 > excess(high):
                return float(optimize.brentq(excess, low, high, xtol=1e-12))
        return float("nan")

    return limit(1 - tail), limit(tail)


def standardised_difference(t: float, df: float, scale: float) -> tuple[float, float, float]:
    """Hedges' g of a contrast, and its limits.

    Parameters
    ----------
    t : float
        Statistic of the contrast.
    df : float
        Residual degrees of freedom.
    scale : float
        Standard error of the contrast divided by the residual standard deviation; for two groups
        without covariates sqrt(1/n1 + 1/n2).

    Returns
    -------
    g, low, high : float
        Difference in residual standard deviations, less bias; 95 % limits by noncentral t.
    """
    factor = hedges_factor(df) * scale
    low, high = noncentrality_limits(t, df)
    return factor * t, factor * low, factor * high


def ratio_limits(
    top: float, bottom: float, covariance: NDArray[np.float64], df: float, level: float = 0.95
) -> tuple[float, float]:
    """Confidence limits of `top` / `bottom` by Fieller's theorem [1]_.

    Parameters
    ----------
    top, bottom : float
        Two estimates.
    covariance : (2, 2) array
        Their covariance.
    df : float
        Degrees of freedom of the variance.

    Returns
    -------
    low, high : float
        NaN where `bottom` cannot be told from zero: the interval is then not bounded.

    References
    ----------
    .. [1] Fieller (1954). J R Stat Soc B 16:175-185. doi:10.1111/j.2517-6161.1954.tb00159.x
    """
    q = stats.t.ppf(0.5 + level / 2, df) ** 2
    a = bottom**2 - q * covariance[1, 1]
    b = top * bottom - q * covariance[0, 1]
    c = top**2 - q * covariance[0, 0]
    if a <= 0:
        return float("nan"), float("nan")
    root = np.sqrt(max(b**2 - a * c, 0.0))
    return float((b - root) / a), float((b + root) / a)


def benjamini_hochberg(p: ArrayLike) -> NDArray[np.float64]:
    """Compute the false discovery rate of each p value [1]_; NaN stays NaN and does not count.

    References
    ----------
    .. [1] Benjamini and Hochberg (1995). J R Stat Soc B 57:289-300.
       doi:10.1111/j.2517-6161.1995.tb02031.x
    """
    p = np.asarray(p, dtype=float)
    q = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    m = len(order)
    raw = p[order] * m / np.arange(1, m + 1)
    q[order] = np.minimum(np.minimum.accumulate(raw[::-1])[::-1], 1.0)
    return q
