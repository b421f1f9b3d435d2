"""Counts: tables of two categories, and proportions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import gammaln

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.design import NotEstimableError

Labels = Sequence[str] | NDArray[np.object_]
NAN = float("nan")
LEVEL = 0.95  # confidence
EXPECTED_MIN = 5  # count below which the chi-squared approximation is doubted (Cochran's rule)
TABLES_MAX = 500_000  # tables counted out for an exact test of more than 2 x 2 cells
SAME = 1 + 1e-7  # probabilities within this factor are equal, as in R's fisher.test


@dataclass(frozen=True)
class ChiSquared:
    """Pearson's test of independence."""

    chi2: float
    df: int
    p: float
    yates: bool
    smallest_expected: float
    note: str


@dataclass(frozen=True)
class Fisher:
    """Fisher's exact test, two-sided; odds ratio conditional on the margins (2 x 2 only)."""

    p: float
    odds_ratio: float
    ci_low: float
    ci_high: float
    note: str


def cross_table(
    rows: Labels, columns: Labels, row_levels: Sequence[str], column_levels: Sequence[str]
) -> NDArray[np.int64]:
    """(r, c) counts of two (n,) sequences of labels; labels of no level are left out."""
    left, right = np.asarray(rows, dtype=object), np.asarray(columns, dtype=object)
    counts = [[((left == a) & (right == b)).sum() for b in column_levels] for a in row_levels]
    return np.array(counts, dtype=np.int64)


def chi_squared(table: ArrayLike, *, yates: bool = False) -> ChiSquared:
    """Pearson's chi-squared of an (r, c) table of counts; `yates` corrects 2 x 2 tables only.

    Raises
    ------
    NotEstimableError
        Where all people are of one row or of one column.
    """
    counts = _occupied(table)
    found = stats.chi2_contingency(counts, correction=yates)
    smallest = float(found.expected_freq.min())
    note = ""
    if smallest < EXPECTED_MIN:
        note = f"an expected count is {smallest:.2g}, below {EXPECTED_MIN}: read the exact test"
    return ChiSquared(
        float(found.statistic), int(found.dof), float(found.pvalue),
        yates and counts.shape == (2, 2), smallest, note,
    )  # fmt: skip


def fisher_exact(table: ArrayLike) -> Fisher:
    """Fisher's exact test of an (r, c) table of counts.

    The odds ratio is the conditional maximum-likelihood estimate, its limits those of the
    noncentral hypergeometric distribution; the p value adds the tables that are no more likely
    than the one seen.
    """
    counts = _occupied(table)
    if counts.shape != (2, 2):
        p = _exact_p(counts)
        why = "more than 2 x 2 cells: no odds ratio"
        if np.isnan(p):
            why = f"more than {TABLES_MAX} possible tables: not counted out; read the chi-squared"
        return Fisher(p, NAN, NAN, NAN, why)
    p = float(stats.fisher_exact(counts).pvalue)
    ratio = stats.contingency.odds_ratio(counts, kind="conditional")
    limits = ratio.confidence_interval(LEVEL)
    return Fisher(p, float(ratio.statistic), float(limits.low), float(limits.high), "")


def _occupied(table: ArrayLike) -> NDArray[np.int64]:
    """Counts without empty rows and columns; at least 2 x 2."""
    counts = np.asarray(table)
    if counts.ndim != 2 or (counts < 0).any() or (counts != np.floor(counts)).any():
        raise BadInputError("a table of counts has two dimensions and whole numbers from 0 up")
    counts = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0].astype(np.int64)
    if min(counts.shape) < 2:
        raise NotEstimableError("all people are of one category, so there is nothing to compare")
    return counts


def _exact_p(counts: NDArray[np.int64]) -> float:
    """P of all tables with these margins that are no more likely than this one."""
    if counts.shape[0] > counts.shape[1]:
        counts = counts.T
    limit = -gammaln(counts + 1).sum() + np.log(SAME)
    logs: list[float] = []
    for log in _tables(tuple(counts.sum(axis=1)), list(counts.sum(axis=0))):
        logs.append(log)
        if len(logs) > TABLES_MAX:
            return NAN
    found = np.array(logs)
    weights = np.exp(found - found.max())
    return float(weights[found <= limit].sum() / weights.sum())


def _tables(rows: tuple[int, ...], columns: list[int]) -> Iterator[float]:
    """Log weight of each table with these margins, one column after the other."""
    if len(columns) == 1:
        yield float(-gammaln(np.array(rows) + 1.0).sum())
        return
    for column in _compositions(columns[0], rows):
        weight = float(-gammaln(np.array(column) + 1.0).sum())
        rest = tuple(r - c for r, c in zip(rows, column, strict=True))
        for other in _tables(rest, columns[1:]):
            yield weight + other


def _compositions(total: int, caps: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """All ways to share `total` out under `caps`."""
    if len(caps) == 1:
        if total <= caps[0]:
            yield (total,)
        return
    for first in range(max(0, total - sum(caps[1:])), min(total, caps[0]) + 1):
        for others in _compositions(total - first, caps[1:]):
            yield (first, *others)
