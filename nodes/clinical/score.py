"""One clinical score of one person and visit, and how items are read and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.tables import is_missing, number

Status = Literal["ok", "missing", "flagged"]
Given = Mapping[str, object]  # item to what the table holds: text, number or None
SIDES = ("left", "right")
TOTAL_TOLERANCE = 0.01  # points between a total that was written down and the sum of its items


@dataclass(frozen=True)
class Score:
    """A score, or why there is none.

    Attributes
    ----------
    name : str
        As ``measures.toml`` declares it.
    value : float
        In `unit`; NaN where `status` is missing.
    n_items_valid, n_items : int
        Items that are known, and items that the score is made of.
    status : str
        ``ok``; ``flagged``: there is a value, and `reason` says what to know of it; ``missing``.
    source : str
        Who defined the score.
    label : str
        The value in words where it has any, such as stage ``4A``.
    """

    name: str
    value: float
    unit: str
    n_items_valid: int
    n_items: int
    status: Status = "ok"
    reason: str = ""
    source: str = ""
    label: str = ""


@dataclass(frozen=True)
class Scale:
    """Numbers that an item may take, both ends included."""

    low: float
    high: float
    whole: bool = True
    unit: str = ""

    def __str__(self) -> str:
        kind = " in whole numbers" if self.whole else f" {self.unit}".rstrip()
        return f"{self.low:g} to {self.high:g}{kind}"

    def holds(self, value: float) -> bool:
        """Whether `value` is on the scale."""
        return self.low <= value <= self.high and (not self.whole or float(value).is_integer())


def read_number(value: object, where: str) -> float:
    """Finite number of a cell; NaN where the cell says that it is not known."""
    if value is None:
        return math.nan
    if isinstance(value, str):
        return number(value.strip(), where)
    if isinstance(value, bool) or not isinstance(value, int | float):
        value = float(str(value))
    if math.isinf(value):
        raise BadInputError(f"{where}: {value} is not a number; write n/a where unknown")
    return float(value)


def is_unknown(value: object) -> bool:
    """Whether a cell holds nothing."""
    if value is None:
        return True
    return is_missing(value) if isinstance(value, str) else read_number(value, "") != value


def read_item(value: object, scale: Scale, what: str, who: str) -> float:
    """Value of one item; NaN where it is missing, refused where it is off the scale."""
    found = read_number(value, f"{who}, {what}")
    if not math.isnan(found) and not scale.holds(found):
        raise BadInputError(
            f"{who}: {what} is {found:g}, but runs from {scale}; correct it, or write n/a"
        )
    return found


def read_items(given: Given, scales: Mapping[str, Scale], tool: str, who: str) -> dict[str, float]:
    """Values of the items that `scales` names; everything off its scale is named at once."""
    values, problems = {}, []
    for item, scale in scales.items():
        try:
            values[item] = read_item(given.get(item), scale, f"{item} of the {tool}", who)
        except BadInputError as problem:
            problems.append(str(problem))
    if problems:
        raise BadInputError("; ".join(problems))
    return values


def unknown(values: Mapping[str, float]) -> list[str]:
    """Names of the items that are missing."""
    return [item for item, value in values.items() if math.isnan(value)]


def items_missing(items: Sequence[str]) -> str:
    """Reason for a score whose `items` are missing."""
    return f"missing: {', '.join(items)}"


def missing(name: str, unit: str, counts: tuple[int, int], reason: str, source: str) -> Score:
    """Score that cannot be given; `counts` are the valid and all items."""
    return Score(name, math.nan, unit, *counts, "missing", reason, source)


def add_up(
    name: str, values: Mapping[str, float], source: str, *, unit: str = "1", spare: int = 0
) -> Score:
    """Sum of items; missing as soon as one is, unless `spare` items may be.

    With `spare` the sum is the mean of the known items times their number, and flagged.
    """
    absent, n = unknown(values), len(values)
    counts = (n - len(absent), n)
    if len(absent) > spare or len(absent) == n:
        return missing(name, unit, counts, items_missing(absent), source)
    total = sum(value for value in values.values() if not math.isnan(value))
    if not absent:
        return Score(name, float(total), unit, *counts, source=source)
    reason = f"mean of {counts[0]} items times {n}; {items_missing(absent)}"
    return Score(name, total / counts[0] * n, unit, *counts, "flagged", reason, source)


def or_given(score: Score, given: object, scale: Scale, what: str, who: str) -> Score:
    """`score` from its items, checked against a total that the table itself holds.

    Without any item the total stands as given. A total beside incomplete items is not used: it
    may be the sum of those that are known.
    """
    total = read_item(given, scale, what, who)
    if math.isnan(total):
        return score
    if not score.n_items_valid:
        reason = "as given; the table has no items"
        return replace(score, value=total, status="ok", reason=reason)
    if score.status == "missing":
        return replace(score, reason=f"{score.reason}; the given {what} of {total:g} is not used")
    if score.status == "ok" and abs(total - score.value) > TOTAL_TOLERANCE:
        raise BadInputError(
            f"{who}: {what} is {total:g}, but its items add up to {score.value:g}; correct the "
            "items or the total"
        )
    return score
