"""Bootstrap limits that keep the make-up of the cohort: draws within group and site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.design import NotEstimableError

DRAWS = 2000
LEVEL = 0.95  # confidence
EXTREME = 5  # draws beyond a limit, fewer than which cannot fix it
FAILED_MAX = 0.1  # share of draws without a value above which there are no limits

Statistic = Callable[[NDArray[np.intp]], float]  # of row numbers, repeats included


@dataclass(frozen=True)
class Bootstrap:
    """A statistic with two kinds of limits."""

    estimate: float
    se: float  # SD of the draws
    bias: float  # mean of the draws - estimate
    percentile_low: float
    percentile_high: float
    bca_low: float
    bca_high: float
    z0: float  # bias correction, in normal deviates
    acceleration: float
    level: float
    draws: int
    failed: int  # draws without a value; the limits rest on the others
    strata: int
    notes: tuple[str, ...]


def bootstrap(
    statistic: Statistic,
    strata: ArrayLike,
    rng: np.random.Generator,
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Bootstrap:
    """Percentile and bias-corrected, accelerated (BCa) limits [1]_.

    Parameters
    ----------
    statistic : callable
        Number from the rows drawn, an (n,) array of row numbers. NaN, `NotEstimableError` and a
        singular matrix count as a failed draw.
    strata : (n,) array
        Stratum of each row, as a rule group x site (`strata_of`). Every draw has as many rows of
        each stratum as the table.
    rng : Generator
        Its state alone decides the draws.

    Notes
    -----
    The acceleration comes from the jackknife within strata [2]_. With rows of one stratum it is
    Efron's formula.

    References
    ----------
    .. [1] Efron (1987). J Am Stat Assoc 82:171-185. doi:10.1080/01621459.1987.10478410
    .. [2] Davison and Hinkley (1997). Bootstrap Methods and their Application, chapter 5.
       Cambridge University Press. doi:10.1017/CBO9780511802843
    """
    rows = _rows_of(strata)
    n = sum(map(len, rows))
    estimate = float(statistic(np.arange(n)))
    if not np.isfinite(estimate):
        raise NotEstimableError("the statistic has no value in the people themselves")
    values = np.array([_value(statistic, _draw(rows, rng)) for _ in range(draws)])
    good = values[np.isfinite(values)]
    failed = draws - len(good)
    if failed > FAILED_MAX * draws:
        raise NotEstimableError(
            f"{failed} of {draws} bootstrap draws gave no value; the sample is too small for it"
        )
    tail = (1 - level) / 2
    acceleration = _acceleration(statistic, rows, n)
    z0 = _bias_correction(good, estimate)
    levels = _bca_levels(z0, acceleration, tail)
    low, high = np.quantile(good, np.nan_to_num(levels)) + 0 * levels
    percentile = np.quantile(good, [tail, 1 - tail])
    return Bootstrap(
        estimate=estimate,
        se=float(good.std(ddof=1)),
        bias=float(good.mean() - estimate),
        percentile_low=float(percentile[0]),
        percentile_high=float(percentile[1]),
        bca_low=float(low),
        bca_high=float(high),
        z0=z0,
        acceleration=acceleration,
        level=level,
        draws=draws,
        failed=failed,
        strata=len(rows),
        notes=tuple(_notes(rows, failed, draws, levels)),
    )


def strata_of(table: pd.DataFrame, *columns: str) -> NDArray[np.intp]:
    """(n,) stratum of each row: one per combination of `columns`, as a rule group and site."""
    unknown = table.index[table[list(columns)].isna().any(axis=1)]
    if len(unknown):
        raise BadInputError(
            f"{' or '.join(columns)} of {unknown[0]} is not known ({len(unknown)} such people)"
        )
    codes: NDArray[np.intp] = np.asarray(table.groupby(list(columns)).ngroup(), dtype=np.intp)
    return codes


def _rows_of(strata: ArrayLike) -> list[NDArray[np.intp]]:
    labels = np.asarray(strata)
    if len(labels) == 0:
        raise NotEstimableError("there is nobody to draw from")
    _, codes = np.unique(labels, return_inverse=True)
    return [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]


def _draw(rows: list[NDArray[np.intp]], rng: np.random.Generator) -> NDArray[np.intp]:
    return np.concatenate([inside[rng.integers(0, len(inside), len(inside))] for inside in rows])


def _value(statistic: Statistic, chosen: NDArray[np.intp]) -> float:
    try:
        return float(statistic(chosen))
    except (NotEstimableError, np.linalg.LinAlgError):
        return float("nan")


def _acceleration(statistic: Statistic, rows: list[NDArray[np.intp]], n: int) -> float:
    """Skewness of the influence of the people, found by leaving each out; 0 if unknown."""
    everybody = np.arange(n)
    third = second = 0.0
    for inside in rows:
        size = len(inside)
        if size == 1:  # always drawn: no influence
            continue
        without = np.array([_value(statistic, np.delete(everybody, row)) for row in inside])
        influence = (size - 1) * (np.nanmean(without) - without)
        third += float(np.nansum(influence**3)) / size**3
        second += float(np.nansum(influence**2)) / size**2
    return third / (6 * second**1.5) if second > 0 else 0.0


def _bias_correction(values: NDArray[np.float64], estimate: float) -> float:
    """Normal deviate of the share of draws below the estimate, ties counted half."""
    below = (np.sum(values < estimate) + 0.5 * np.sum(values == estimate)) / len(values)
    edge = 0.5 / len(values)
    return float(stats.norm.ppf(np.clip(below, edge, 1 - edge)))


def _bca_levels(z0: float, acceleration: float, tail: float) -> NDArray[np.float64]:
    """Shares of the draws below the two limits; NaN where the correction breaks down."""
    z = z0 + stats.norm.ppf([tail, 1 - tail])
    room = 1 - acceleration * z
    return np.where(room > 0, stats.norm.cdf(z0 + z / np.where(room > 0, room, 1)), np.nan)


def _notes(
    rows: list[NDArray[np.intp]], failed: int, draws: int, levels: NDArray[np.float64]
) -> list[str]:
    notes = []
    alone = sum(len(inside) == 1 for inside in rows)
    if alone:
        notes.append(
            f"{alone} strata have one person, who is in every draw: the limits are narrow"
        )
    if not ((levels > EXTREME / draws) & (levels < 1 - EXTREME / draws)).all():
        notes.append("the BCa limits rest on the outermost draws: use more, or the percentiles")
    if failed:
        notes.append(f"{failed} of {draws} draws gave no value and were left out")
    return notes
