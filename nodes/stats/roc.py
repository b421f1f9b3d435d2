"""How well one measure tells two groups apart: ROC curve, its area, cut-offs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import expit, logit

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.proportions import (
    LEVEL,
    Proportion,
    mean_of_two,
    proportion,
)

Direction = Literal["high", "low"]  # which values speak for the positive group
DIRECTIONS = ("high", "low", "auto")
HIGH_AREA = 0.85  # above, DeLong's limits hold less than their level; docs/accuracy.md
TOO_NARROW = f"above {HIGH_AREA:g} DeLong's limits are too narrow; those on the logit scale fit"
MIN_PER_CLASS = 2  # people per group below which the variance of an area is unknown


@dataclass(frozen=True)
class Roc:
    """Area under the ROC curve of one marker, and the curve.

    The area is the probability that a positive person has the more suspicious value than a
    negative one, ties counted half.
    """

    direction: Direction
    n_positive: int
    n_negative: int
    n_missing: int
    auc: float
    variance: float  # DeLong
    se: float
    ci_low: float
    ci_high: float
    ci_method: str
    logit_low: float  # limits on the logit scale: closer to their level at areas above .85
    logit_high: float
    p: float  # two-sided Mann-Whitney test of an area of .5
    thresholds: tuple[float, ...]  # from the strictest to the most lenient, ends infinite
    sensitivity: tuple[float, ...]
    specificity: tuple[float, ...]
    notes: tuple[str, ...]

    @property
    def n(self) -> int:
        """People with a value."""
        return self.n_positive + self.n_negative


@dataclass(frozen=True)
class RocComparison:
    """Areas of two markers of the same people; `difference` is first minus second."""

    n_positive: int
    n_negative: int
    n_missing: int
    auc_first: float
    auc_second: float
    difference: float
    se: float
    ci_low: float
    ci_high: float
    z: float
    p: float


@dataclass(frozen=True)
class SiteAuc:
    """Area from pairs of people of one site only, over the sites that have such pairs."""

    auc: float
    se: float
    ci_low: float
    ci_high: float
    sites: tuple[str, ...]
    left_out: tuple[str, ...]  # sites with fewer than two of either group


@dataclass(frozen=True)
class Accuracy:
    """How often a call was right."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int
    sensitivity: Proportion
    specificity: Proportion
    accuracy: Proportion
    balanced: float
    balanced_low: float
    balanced_high: float


@dataclass(frozen=True)
class CutOff:
    """Cut-off of the largest Youden index; the accuracy at it is that of the people it suits."""

    value: float
    direction: Direction
    youden: float  # sensitivity + specificity - 1
    sensitivity: float
    specificity: float
    n_best: int  # cut-offs that are equally good; `value` is the most sensitive one


def roc(
    values: ArrayLike,
    positive: ArrayLike,
    *,
    direction: Literal["high", "low", "auto"],
    level: float = LEVEL,
) -> Roc:
    """ROC curve, its area, and DeLong's limits [1]_.

    Parameters
    ----------
    values : (n,) array
        Marker, any unit; NaN is left out and counted.
    positive : (n,) bool array
        Who has the disease.
    direction : "high", "low" or "auto"
        Which values speak for the disease. "auto" takes the side of the positive median: the
        area is then too large on average, and the notes say so.

    Notes
    -----
    The variance is 0 if the groups do not overlap at all. The limit is then that of Clopper and
    Pearson for k of k, k the size of the smaller group: all pairs are in order at most as often as
    k pairs that have nobody in common, so the limit is never too narrow. At high areas limits on
    the logit scale [2]_ hold their level better, and are given beside DeLong's.

    References
    ----------
    .. [1] DeLong et al. (1988). Biometrics 44:837-845. doi:10.2307/2531595
    .. [2] Kottas et al. (2014). BMC Med Res Methodol 14:26. doi:10.1186/1471-2288-14-26
    """
    marker, is_positive, n_missing = _complete([values], positive)
    side, notes = _side(marker[0], is_positive, direction)
    oriented = marker[0] if side == "high" else -marker[0]
    cases, controls = oriented[is_positive], oriented[~is_positive]
    by_case, by_control = placements(cases, controls)
    auc = float(by_case.mean())
    variance = float(by_case.var(ddof=1) / len(cases) + by_control.var(ddof=1) / len(controls))
    low, high, method = _limits(auc, variance, min(len(cases), len(controls)), level)
    logit_limits = _logit_limits(auc, variance, level) if variance > 0 else (low, high)
    thresholds, sensitivity, specificity = _curve(cases, controls)
    sign = 1.0 if side == "high" else -1.0
    return Roc(
        direction=side,
        n_positive=len(cases),
        n_negative=len(controls),
        n_missing=n_missing,
        auc=auc,
        variance=variance,
        se=math.sqrt(variance),
        ci_low=low,
        ci_high=high,
        ci_method=method,
        logit_low=logit_limits[0],
        logit_high=logit_limits[1],
        p=float(stats.mannwhitneyu(cases, controls).pvalue),
        thresholds=tuple((sign * thresholds).tolist()),
        sensitivity=tuple(sensitivity.tolist()),
        specificity=tuple(specificity.tolist()),
        notes=(*notes, *([TOO_NARROW] if HIGH_AREA < auc < 1 else [])),
    )


def area(values: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve of complete values, high ones speaking for the disease."""
    ranks = stats.rankdata(values)
    m, n = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - m * (m + 1) / 2) / (m * n))


def placements(
    cases: NDArray[np.float64], controls: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of controls below each case, and of cases above each control, by ranks [1]_.

    References
    ----------
    .. [1] Sun and Xu (2014). IEEE Signal Process Lett 21:1389-1393. doi:10.1109/LSP.2014.2337313
    """
    m, n = len(cases), len(controls)
    ranks = stats.rankdata(np.concatenate([cases, controls]))
    by_case = (ranks[:m] - stats.rankdata(cases)) / n
    by_control = 1 - (ranks[m:] - stats.rankdata(controls)) / m
    return by_case, by_control


def compare_rocs(
    first: ArrayLike,
    second: ArrayLike,
    positive: ArrayLike,
    *,
    directions: tuple[Direction, Direction],
    level: float = LEVEL,
) -> RocComparison:
    """Compare the areas of two markers of the same people by DeLong's test.

    Parameters
    ----------
    first, second : (n,) array
        Markers; who lacks either is left out of both.
    positive : (n,) bool array
        Who has the disease.
    directions : pair of "high" or "low"
        Which values of each speak for the disease.
    """
    markers, is_positive, n_missing = _complete([first, second], positive)
    signs = [1.0 if _side(m, is_positive, d)[0] == "high" else -1.0
             for m, d in zip(markers, directions, strict=True)]  # fmt: skip
    pairs = [
        placements(sign * marker[is_positive], sign * marker[~is_positive])
        for sign, marker in zip(signs, markers, strict=True)
    ]
    aucs = [float(by_case.mean()) for by_case, _ in pairs]
    m, n = int(is_positive.sum()), int((~is_positive).sum())
    spread = [np.var(pairs[0][i] - pairs[1][i], ddof=1) for i in (0, 1)]
    difference, se = aucs[0] - aucs[1], math.sqrt(spread[0] / m + spread[1] / n)
    if se == 0 and difference != 0:
        raise NotEstimableError(
            "the areas of the two markers cannot be compared: neither varies between people"
        )
    z = difference / se if se > 0 else 0.0
    half = stats.norm.ppf(0.5 + level / 2) * se
    return RocComparison(
        n_positive=m,
        n_negative=n,
        n_missing=n_missing,
        auc_first=aucs[0],
        auc_second=aucs[1],
        difference=difference,
        se=se,
        ci_low=float(difference - half),
        ci_high=float(difference + half),
        z=float(z),
        p=float(2 * stats.norm.sf(abs(z))),
    )


def within_site_auc(
    values: ArrayLike,
    positive: ArrayLike,
    site: Sequence[str],
    *,
    direction: Direction,
    level: float = LEVEL,
) -> SiteAuc:
    """Area from pairs of people of the same site.

    Patients of one scanner are never set against controls of another, so a difference between
    scanners neither makes nor hides an area. Sites weigh by their number of pairs.

    Notes
    -----
    Where every site is in perfect order the variance is 0. The chance of that order is at most
    exp(-K (1 - area)), K the number of pairs over the largest group of any site, and the limit
    follows from it.
    """
    labels = np.asarray([str(name) for name in site])
    marker, is_positive, kept = _finite([values], positive)
    sign = 1.0 if direction == "high" else -1.0
    used, left_out, parts, sizes = [], [], [], []
    for name in sorted(set(labels[kept].tolist())):
        inside = labels[kept] == name
        cases = sign * marker[0][inside & is_positive]
        controls = sign * marker[0][inside & ~is_positive]
        if min(len(cases), len(controls)) < MIN_PER_CLASS:
            left_out.append(name)
            continue
        by_case, by_control = placements(cases, controls)
        variance = by_case.var(ddof=1) / len(cases) + by_control.var(ddof=1) / len(controls)
        parts.append((len(cases) * len(controls), by_case.mean(), variance))
        used.append(name)
        sizes.append(max(len(cases), len(controls)))
    if not parts:
        raise NotEstimableError(
            f"no site has {MIN_PER_CLASS} people of both groups ({', '.join(left_out)})"
        )
    pairs, aucs, variances = np.array(parts).T
    weights = pairs / pairs.sum()
    auc, se = float(weights @ aucs), float(np.sqrt(weights**2 @ variances))
    half = float(stats.norm.ppf(0.5 + level / 2)) * se
    if se == 0:
        half = -math.log((1 - level) / 2) * max(sizes) / float(pairs.sum())
    return SiteAuc(
        auc, se, max(0.0, auc - half), min(1.0, auc + half), tuple(used), tuple(left_out)
    )


def youden(curve: Roc) -> CutOff:
    """Cut-off of the largest sensitivity + specificity; half-way between two values seen.

    Report no accuracy at this cut-off for the people that it was chosen on: it is too good.
    `nodes.stats.classify` chooses it in the training rows only.
    """
    index = np.asarray(curve.sensitivity) + np.asarray(curve.specificity) - 1
    best = np.flatnonzero(index >= index.max() - 1e-12)
    return CutOff(
        value=curve.thresholds[best[-1]],
        direction=curve.direction,
        youden=float(index[best[-1]]),
        sensitivity=curve.sensitivity[best[-1]],
        specificity=curve.specificity[best[-1]],
        n_best=len(best),
    )


def accuracy_at(
    values: ArrayLike, positive: ArrayLike, cutoff: float, *, direction: Direction
) -> Accuracy:
    """Accuracy of calling everybody at or beyond `cutoff` positive."""
    marker, is_positive, _ = _finite([values], positive)
    called = marker[0] >= cutoff if direction == "high" else marker[0] <= cutoff
    return accuracy(called, is_positive)


def accuracy(called: ArrayLike, positive: ArrayLike, *, method: str = "wilson") -> Accuracy:
    """Count right and wrong calls.

    Parameters
    ----------
    called, positive : (n,) bool array
        Whom the test calls ill, and who is.
    method : "wilson" or "clopper"
        Confidence limits of the proportions.
    """
    call, truth = np.asarray(called, dtype=bool), np.asarray(positive, dtype=bool)
    tp, fp = int((call & truth).sum()), int((call & ~truth).sum())
    tn, fn = int((~call & ~truth).sum()), int((~call & truth).sum())
    sensitivity = proportion(tp, tp + fn, method=method)
    specificity = proportion(tn, tn + fp, method=method)
    balanced, low, high = mean_of_two(sensitivity, specificity)
    return Accuracy(
        true_positive=tp,
        false_positive=fp,
        true_negative=tn,
        false_negative=fn,
        sensitivity=sensitivity,
        specificity=specificity,
        accuracy=proportion(tp + tn, len(truth), method=method),
        balanced=balanced,
        balanced_low=low,
        balanced_high=high,
    )


def marker_roc(
    table: pd.DataFrame,
    marker: str,
    *,
    group: str,
    case: str,
    reference: str,
    direction: Literal["high", "low", "auto"],
) -> Roc:
    """ROC of a column of a table, `case` against `reference`; other groups are left out."""
    for name in (marker, group):
        if name not in table:
            raise BadInputError(f"the table has no column {name}")
    rows = table[table[group].isin([case, reference])]
    try:
        return roc(rows[marker], rows[group] == case, direction=direction)
    except NotEstimableError as error:
        raise NotEstimableError(f"{marker}, {case} against {reference}: {error}") from None


def _finite(
    values: Sequence[ArrayLike], positive: ArrayLike
) -> tuple[list[NDArray[np.float64]], NDArray[np.bool_], NDArray[np.bool_]]:
    """Markers and groups of those who have all markers, and who these are."""
    markers = [np.asarray(column, dtype=float) for column in values]
    is_positive = np.asarray(positive, dtype=bool)
    if any(np.isinf(marker).any() for marker in markers):
        raise BadInputError("a marker holds infinite values; write n/a where a value is unknown")
    kept = np.all([np.isfinite(marker) for marker in markers], axis=0)
    return [marker[kept] for marker in markers], is_positive[kept], kept


def _complete(
    values: Sequence[ArrayLike], positive: ArrayLike
) -> tuple[list[NDArray[np.float64]], NDArray[np.bool_], int]:
    markers, is_positive, kept = _finite(values, positive)
    sizes = {"positive": int(is_positive.sum()), "negative": int((~is_positive).sum())}
    for name, size in sizes.items():
        if size < MIN_PER_CLASS:
            raise NotEstimableError(
                f"{size} {name} people have a value; an area needs {MIN_PER_CLASS} of each group"
            )
    for marker in markers:
        if np.ptp(marker) == 0:
            raise NotEstimableError(f"the value is {marker[0]:g} for all {len(marker)} people")
    return markers, is_positive, int((~kept).sum())


def _side(
    values: NDArray[np.float64], positive: NDArray[np.bool_], direction: str
) -> tuple[Direction, tuple[str, ...]]:
    if direction == "high":
        return "high", ()
    if direction == "low":
        return "low", ()
    if direction != "auto":
        raise BadInputError(f"direction is {direction!r}; choose from {', '.join(DIRECTIONS)}")
    high = bool(np.median(values[positive]) >= np.median(values[~positive]))
    note = "the direction was taken from the data, so the area is too large on average"
    return ("high" if high else "low"), (note,)


def _limits(auc: float, variance: float, smaller: int, level: float) -> tuple[float, float, str]:
    if variance > 0:
        half = float(stats.norm.ppf(0.5 + level / 2)) * math.sqrt(variance)
        return max(0.0, auc - half), min(1.0, auc + half), "DeLong"
    exact = proportion(round(auc * smaller), smaller, method="clopper", level=level)
    return exact.ci_low, exact.ci_high, f"Clopper-Pearson, {smaller} pairs"


def _logit_limits(auc: float, variance: float, level: float) -> tuple[float, float]:
    half = float(stats.norm.ppf(0.5 + level / 2)) * math.sqrt(variance) / (auc * (1 - auc))
    low, high = expit(logit(auc) - half), expit(logit(auc) + half)
    return float(low), float(high)


def _curve(
    cases: NDArray[np.float64], controls: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Cut-offs between neighbouring values, falling, with the shares called rightly."""
    seen = np.unique(np.concatenate([cases, controls]))[::-1]
    cutoffs = np.concatenate([[np.inf], (seen[:-1] + seen[1:]) / 2, [-np.inf]])
    cases, controls = np.sort(cases), np.sort(controls)
    sensitivity = 1 - np.searchsorted(cases, cutoffs, side="left") / len(cases)
    specificity = np.searchsorted(controls, cutoffs, side="left") / len(controls)
    return cutoffs, sensitivity, specificity
