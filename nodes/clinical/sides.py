"""Left and right: asymmetry, and the limbs of one side with the hemisphere that moves them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import pandas as pd

from alsflow.nodes.clinical.score import SIDES, Score, items_missing, missing
from alsflow.nodes.errors import BadInputError

OPPOSITE = {"left": "right", "right": "left"}
Worse = Literal["lower", "higher"]
ASYMMETRY_SOURCE = "difference of left and right over their mean"
LATERALITY_SOURCE = "difference of left and right over their sum"


def asymmetry_index(name: str, left: float, right: float) -> Score:
    """(L - R) / ((L + R) / 2); 0 where both sides are alike, above 0 where the left has more."""
    return _index(name, left, right, 2.0, ASYMMETRY_SOURCE)


def laterality_index(name: str, left: float, right: float) -> Score:
    """(L - R) / (L + R), -1 to 1 for values that are not negative."""
    return _index(name, left, right, 1.0, LATERALITY_SOURCE)


def _index(name: str, left: float, right: float, factor: float, source: str) -> Score:
    absent = [side for side, value in zip(SIDES, (left, right), strict=True) if math.isnan(value)]
    counts = (2 - len(absent), 2)
    if absent:
        return missing(name, "1", counts, items_missing(absent), source)
    if left * right < 0:
        reason = f"left ({left:g}) and right ({right:g}) have different signs"
        return missing(name, "1", counts, reason, source)
    if left + right == 0:
        return missing(name, "1", counts, "both sides are 0", source)
    return Score(name, factor * (left - right) / (left + right), "1", *counts, source=source)


def hemisphere_of(limb_side: str) -> str:
    """Hemisphere that moves the limbs of a side: the other one."""
    if limb_side not in OPPOSITE:
        raise BadInputError(f"a side is left or right, not '{limb_side}'")
    return OPPOSITE[limb_side]


def more_affected(left: float, right: float, worse: Worse = "lower") -> str | None:
    """Side with the worse score; None where both are alike or one is not known."""
    if math.isnan(left) or math.isnan(right) or left == right:
        return None
    return "left" if (left < right) == (worse == "lower") else "right"


def side_rows(table: pd.DataFrame, scores: Sequence[str], measures: Sequence[str]) -> pd.DataFrame:
    """Two rows per person and session: scores of the limbs beside the opposite hemisphere.

    Parameters
    ----------
    table : (n, ...) DataFrame
        One row per person and session, with ``<score>_left``, ``<score>_right``,
        ``<measure>_left`` and ``<measure>_right``; all other columns are repeated.
    scores : sequence of str
        Scores of limbs, without their side (``mrc_sum``).
    measures : sequence of str
        Measures of a hemisphere, without their side (``gmv_precentral``).

    Returns
    -------
    (2 n, ...) DataFrame
        With ``limb_side`` and ``hemisphere``, and one column per score and measure. Both rows are
        of one person: a model of them needs a term or a variance for the person.
    """
    names = {f"{name}_{side}": name for name in (*scores, *measures) for side in SIDES}
    absent = [column for column in names if column not in table]
    if absent:
        raise BadInputError(
            f"no column {', '.join(absent)}: a comparison by side needs left and right"
        )
    rest = table.drop(columns=list(names)).reset_index(names=table.index.name or "row")
    rest = rest if table.index.name else rest.drop(columns="row")
    parts = []
    for hemisphere in SIDES:
        limb = OPPOSITE[hemisphere]
        part = rest.assign(hemisphere=hemisphere, limb_side=limb)
        for side, kind in ((limb, scores), (hemisphere, measures)):
            for name in kind:
                part[name] = table[f"{name}_{side}"].to_numpy()
        parts.append(part)
    rows = pd.concat(parts).sort_index(kind="stable")
    return rows.reset_index(drop=True)


def affected_first(
    table: pd.DataFrame, by: str, names: Sequence[str], worse: Worse = "lower"
) -> pd.DataFrame:
    """Columns by more and less affected side instead of left and right.

    Parameters
    ----------
    table : (n, ...) DataFrame
        With ``<by>_left``, ``<by>_right`` and both sides of everything in `names`.
    by : str
        Score of limbs that says which side is the more affected one.
    names : sequence of str
        Measures of a hemisphere, without their side.
    worse : str
        Whether ``lower`` or ``higher`` values of `by` are worse.

    Returns
    -------
    (n, ...) DataFrame
        ``affected_limbs`` (left, right or None) and, for each name, ``<name>_affected``, the
        hemisphere opposite to these limbs, and ``<name>_spared``; NaN where no side is worse.
    """
    sides = zip(table[f"{by}_left"], table[f"{by}_right"], strict=True)
    limbs = [more_affected(float(left), float(right), worse) for left, right in sides]
    found = pd.DataFrame({"affected_limbs": limbs}, index=table.index, dtype=object)
    spared = pd.Series(limbs, index=table.index, dtype=object)  # hemisphere of the better limbs
    for name in names:
        left, right = (table[f"{name}_{side}"].astype(float) for side in SIDES)
        unclear = spared.isna()
        on_left = spared == "left"
        found[f"{name}_affected"] = right.where(on_left, left).mask(unclear)
        found[f"{name}_spared"] = left.where(on_left, right).mask(unclear)
    return found
