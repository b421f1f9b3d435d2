"""Correlations: Pearson, Spearman, Kendall and partial, each with its own n."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.design import MIN_DF, NotEstimableError

NAN = float("nan")
LEVEL = 0.95  # confidence
METHODS = ("pearson", "spearman", "kendall")
PARTIAL = ("pearson", "spearman")
RANK_MIN = 1e-8  # smallest singular value, columns of unit length, that counts
KENDALL_VARIANCE = 0.437  # of Fisher's z of tau, times n - 4; Fieller et al. (1957)


@dataclass(frozen=True)
class Correlation:
    """One correlation of x and y, given `k` columns of covariates."""

    x: str
    y: str
    method: str
    given: tuple[str, ...]  # covariates and factors held
    coding: str  # how factors were coded; empty without any
    n: int  # complete rows
    k: int  # columns of covariates; a factor counts levels - 1
    r: float
    statistic: str  # t, or z of Kendall
    value: float
    df: float  # of t; NaN for z
    p: float  # two-sided
    ci_low: float
    ci_high: float
    people: tuple[str, ...]  # index of the rows used


def correlate(table: pd.DataFrame, x: str, y: str, *, method: str = "pearson") -> Correlation:
    """Correlation of two columns over the rows that have both.

    Parameters
    ----------
    table : DataFrame
        One row per person; missing is NaN.
    x, y : str
        Columns.
    method : {"pearson", "spearman", "kendall"}
        Spearman's p is by the t approximation, Kendall's tau-b by the normal one with the
        variance for ties, which is what R gives with ``exact = FALSE``.

    Notes
    -----
    Limits by Fisher's z: variance 1 / (n - 3); for Spearman (1 + r² / 2) / (n - 3) [1]_; for
    Kendall 0.437 / (n - 4) [2]_.

    References
    ----------
    .. [1] Bonett and Wright (2000). Psychometrika 65:23-28. doi:10.1007/BF02294183
    .. [2] Fieller, Hartley and Pearson (1957). Biometrika 44:470-481.
       doi:10.1093/biomet/44.3-4.470
    """
    if method not in METHODS:
        raise BadInputError(f"method is {method!r}; it must be one of {', '.join(METHODS)}")
    rows = _complete(table, [x, y])
    left, right = rows[x].to_numpy(float), rows[y].to_numpy(float)
    names = (x, y, method, (), "")
    if method == "kendall":
        return _kendall(names, left, right, tuple(map(str, rows.index)))
    if method == "spearman":
        left, right = stats.rankdata(left), stats.rankdata(right)
    r = _pearson(left, right)
    spread = 1 + r**2 / 2 if method == "spearman" else 1.0
    return _by_t(names, r, len(rows), 0, spread, tuple(map(str, rows.index)))


def partial_correlation(
    table: pd.DataFrame, x: str, y: str, *, covariates: Sequence[str] = (),
    factors: Sequence[str] = (), method: str = "pearson",
) -> Correlation:  # fmt: skip
    """Correlation of two columns given others, from the precision matrix [1]_.

    Parameters
    ----------
    table : DataFrame
        One row per person; rows with a gap in any column named are left out.
    x, y : str
        Columns.
    covariates : sequence of str
        Columns of numbers to hold.
    factors : sequence of str
        Columns of categories (sex, site) to hold, each as levels - 1 columns of 0 and 1.
    method : {"pearson", "spearman"}
        Spearman takes the ranks of every column first.

    Notes
    -----
    t = r sqrt((n - 2 - k) / (1 - r²)) on n - 2 - k degrees of freedom; limits by Fisher's z with
    variance 1 / (n - k - 3).

    References
    ----------
    .. [1] Kim (2015). Commun Stat Appl Methods 22:665-674. doi:10.5351/CSAM.2015.22.6.665
    """
    if method not in PARTIAL:
        raise BadInputError(f"a partial correlation is {' or '.join(PARTIAL)}, not {method!r}")
    given = (*covariates, *factors)
    if overlap := sorted({x, y} & set(given)):
        raise BadInputError(f"{overlap[0]} cannot be correlated and held at the same time")
    rows = _complete(table, [x, y, *covariates], factors)
    codes, names, coding = _coded(rows, factors)
    columns = [rows[name].to_numpy(float) for name in (x, y, *covariates)] + codes
    if method == "spearman":
        columns = [stats.rankdata(column) for column in columns]
    n, k = len(rows), len(columns) - 2
    _require_df(n, n - 2 - k)
    r = _partial(np.column_stack(columns), [x, y, *covariates, *names])
    people = tuple(map(str, rows.index))
    return _by_t((x, y, method, given, coding), r, n, k, 1.0, people)


def correlation_matrix(
    table: pd.DataFrame, columns: Sequence[str], *, method: str = "pearson"
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Correlations of all pairs, each over the people who have both.

    Returns
    -------
    r, p, n : DataFrame
        Square, named by `columns`; NaN where a pair cannot be tested. The diagonal of `n` is the
        number of people with that column.
    """
    names = list(columns)
    r, p = (pd.DataFrame(np.nan, names, names) for _ in range(2))
    present = table[names].notna().to_numpy(int)
    n = pd.DataFrame(present.T @ present, names, names)
    for i, a in enumerate(names):
        r.loc[a, a] = 1.0 if table[a].nunique() > 1 else np.nan
        for b in names[i + 1 :]:
            try:
                found = correlate(table, a, b, method=method)
            except NotEstimableError:
                continue
            r.loc[a, b] = r.loc[b, a] = found.r
            p.loc[a, b] = p.loc[b, a] = found.p
    return r, p, n


def _complete(
    table: pd.DataFrame, numbers: Sequence[str], factors: Sequence[str] = ()
) -> pd.DataFrame:
    for name in (*numbers, *factors):
        if name not in table:
            raise BadInputError(f"there is no column {name} to correlate")
    rows = table[list(dict.fromkeys((*numbers, *factors)))].dropna()
    rows = rows.assign(**{name: numeric(rows[name]).astype(float) for name in numbers})
    _require_df(len(rows), len(rows) - 2)
    for name in numbers:
        values = rows[name].to_numpy(float)
        if np.ptp(values) <= 1e-12 * np.abs(values).max():
            raise NotEstimableError(f"{name} is {values[0]:g} for all {len(rows)} people")
    return rows


def numeric(column: pd.Series) -> pd.Series:
    """Column as numbers; refuses a cell that is neither a number nor missing."""
    numbers = pd.to_numeric(column, errors="coerce")
    if (words := column[numbers.isna() & column.notna()]).size:
        raise BadInputError(
            f"{column.name} of {words.index[0]} is {words.iloc[0]!r}, which is no number; mend "
            "the table, or declare the column as categories"
        )
    return numbers


def _require_df(n: int, df: int) -> None:
    if df < MIN_DF:
        raise NotEstimableError(
            f"{n} people with all columns leave {df} degrees of freedom for a correlation; at "
            f"least {MIN_DF} are needed"
        )


def _coded(
    rows: pd.DataFrame, factors: Sequence[str]
) -> tuple[list[NDArray[np.float64]], list[str], str]:
    """Columns of 0 and 1, their names, and a sentence on the coding."""
    columns, names, coding = [], [], []
    for factor in factors:
        levels = sorted(rows[factor].unique(), key=str)
        columns += [(rows[factor] == level).to_numpy(float) for level in levels[1:]]
        names += [factor] * (len(levels) - 1)
        coding.append(f"{factor}: {len(levels) - 1} columns of 0 and 1, {levels[0]} is 0 in all")
    return columns, names, "; ".join(coding)


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))


def _partial(columns: NDArray[np.float64], names: Sequence[str]) -> float:
    """Partial correlation of the first two columns given the others."""
    centred = columns - columns.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=0)
    _, sizes, rows = np.linalg.svd(unit, full_matrices=False)
    if sizes[-1] < RANK_MIN:
        caught = np.abs(rows[sizes < RANK_MIN]).max(axis=0) > 1e-6
        guilty = dict.fromkeys(name for name, hit in zip(names, caught, strict=True) if hit)
        raise NotEstimableError(
            f"{' and '.join(guilty)} carry the same information in these {len(columns)} people; "
            "leave one of them out"
        )
    precision = (rows.T / sizes**2) @ rows
    return float(-precision[0, 1] / np.sqrt(precision[0, 0] * precision[1, 1]))


def _by_t(
    names: tuple[str, str, str, tuple[str, ...], str], r: float, n: int, k: int, spread: float,
    people: tuple[str, ...],
) -> Correlation:  # fmt: skip
    df = n - 2 - k
    t = r * np.sqrt(df / (1 - r**2)) if abs(r) < 1 else np.inf * np.sign(r)
    low, high = _fisher_limits(r, spread / (df - 1))
    x, y, method, given, coding = names
    return Correlation(
        x, y, method, given, coding, n, k, r, "t", float(t), float(df),
        float(2 * stats.t.sf(abs(t), df)), low, high, people,
    )  # fmt: skip


def _kendall(
    names: tuple[str, str, str, tuple[str, ...], str], x: NDArray[np.float64],
    y: NDArray[np.float64], people: tuple[str, ...],
) -> Correlation:  # fmt: skip
    n = len(x)
    found = stats.kendalltau(x, y, method="asymptotic")
    tau, z = float(found.statistic), _kendall_z(float(found.statistic), x, y)
    low, high = _fisher_limits(tau, KENDALL_VARIANCE / (n - 4))
    first, second, method, given, coding = names
    return Correlation(
        first, second, method, given, coding, n, 0, tau, "z", z, NAN,
        float(2 * stats.norm.sf(abs(z))), low, high, people,
    )  # fmt: skip


def _kendall_z(tau: float, x: ArrayLike, y: ArrayLike) -> float:
    """tau-b over its standard error under independence, with ties [1]_.

    References
    ----------
    .. [1] Kendall (1970). Rank correlation methods, 4th ed., chapter 4. Griffin.
    """
    a, b = (np.unique(values, return_counts=True)[1].astype(float) for values in (x, y))
    n = float(np.size(x))

    def pairs(ties: NDArray[np.float64], *more: NDArray[np.float64]) -> float:
        return float(np.prod([ties * (ties - 1), *more], axis=0).sum())

    score = tau * np.sqrt((n * (n - 1) - pairs(a)) * (n * (n - 1) - pairs(b))) / 2
    variance = (n * (n - 1) * (2 * n + 5) - pairs(a, 2 * a + 5) - pairs(b, 2 * b + 5)) / 18
    variance += pairs(a) * pairs(b) / (2 * n * (n - 1))
    variance += pairs(a, a - 2) * pairs(b, b - 2) / (9 * n * (n - 1) * (n - 2))
    return float(score / np.sqrt(variance))


def _fisher_limits(r: float, variance: float) -> tuple[float, float]:
    if abs(r) >= 1:
        return r, r
    half = stats.norm.ppf(0.5 + LEVEL / 2) * np.sqrt(variance)
    low, high = np.tanh(np.arctanh(r) + half * np.array([-1.0, 1.0]))
    return float(low), float(high)
