"""One estimate with its standard error, degrees of freedom and limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95  # confidence


@dataclass(frozen=True)
class Estimate:
    """A coefficient or contrast; infinite `df` means the normal distribution (z)."""

    name: str
    estimate: float  # unit of the outcome per unit of the predictor
    se: float
    df: float
    statistic: float  # t, or z where df is infinite
    p: float  # two-sided
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class JointTest:
    """Several contrasts tested at once by F."""

    name: str
    f: float
    df1: int
    df2: float
    p: float


def estimate(name: str, value: float, se: float, df: float, level: float = LEVEL) -> Estimate:
    """Test `value` against zero with Student's t, or with z where `df` is infinite."""
    statistic = float(value / se) if se > 0 else float("nan")
    known = df if np.isfinite(df) else np.inf
    half = float(stats.t.ppf(0.5 + level / 2, known)) * se
    return Estimate(
        name=name,
        estimate=float(value),
        se=float(se),
        df=float(df),
        statistic=statistic,
        p=float(2 * stats.t.sf(abs(statistic), known)),
        ci_low=float(value - half),
        ci_high=float(value + half),
    )
