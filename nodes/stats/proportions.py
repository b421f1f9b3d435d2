"""Proportions with confidence limits: sensitivity, specificity, accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from statsmodels.stats.proportion import proportion_confint

from alsflow.nodes.errors import BadInputError

LEVEL = 0.95  # confidence
METHODS = {"wilson": "wilson", "clopper": "beta"}  # our name -> that of statsmodels


@dataclass(frozen=True)
class Proportion:
    """`count` of `total`; NaN throughout where nobody could be counted."""

    count: int
    total: int
    estimate: float
    ci_low: float
    ci_high: float
    method: str


def proportion(count: int, total: int, method: str = "wilson", level: float = LEVEL) -> Proportion:
    """Proportion with Wilson's score limits [1]_, or the exact ones of Clopper and Pearson [2]_.

    Wilson's hold their level on average, those of Clopper and Pearson at least.

    References
    ----------
    .. [1] Wilson (1927). J Am Stat Assoc 22:209-212. doi:10.1080/01621459.1927.10502953
    .. [2] Clopper and Pearson (1934). Biometrika 26:404-413. doi:10.1093/biomet/26.4.404
    """
    if method not in METHODS:
        raise BadInputError(f"limits of a proportion are wilson or clopper, not {method!r}")
    if not 0 <= count <= total:
        raise BadInputError(f"{count} of {total} is no proportion")
    count, total = int(count), int(total)
    if total == 0:
        return Proportion(0, 0, math.nan, math.nan, math.nan, method)
    low, high = proportion_confint(count, total, alpha=1 - level, method=METHODS[method])
    return Proportion(count, total, count / total, float(low), float(high), method)


def mean_of_two(first: Proportion, second: Proportion) -> tuple[float, float, float]:
    """Mean of two independent proportions (balanced accuracy) and its limits [1]_.

    References
    ----------
    .. [1] Zou and Donner (2008). Stat Med 27:1693-1702. doi:10.1002/sim.3095
    """
    value = (first.estimate + second.estimate) / 2
    below = math.hypot(first.estimate - first.ci_low, second.estimate - second.ci_low) / 2
    above = math.hypot(first.ci_high - first.estimate, second.ci_high - second.estimate) / 2
    return value, value - below, value + above
