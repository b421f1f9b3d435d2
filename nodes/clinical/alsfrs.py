"""ALSFRS-R: total, subscores, rate of decline, King's and MiToS stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from alsflow.nodes.clinical.score import (
    Given,
    Scale,
    Score,
    Status,
    add_up,
    is_unknown,
    items_missing,
    missing,
    or_given,
    read_item,
    read_items,
    unknown,
)
from alsflow.nodes.errors import BadInputError

TOOL = "ALSFRS-R"
ITEMS = (
    "speech", "salivation", "swallowing",
    "handwriting", "cutting", "dressing",
    "turning", "walking", "stairs",
    "dyspnea", "orthopnea", "respiratory_insufficiency",
)  # fmt: skip
SUBSCALES = {
    "bulbar": ITEMS[0:3],
    "fine_motor": ITEMS[3:6],
    "gross_motor": ITEMS[6:9],
    "respiratory": ITEMS[9:12],
}
ITEM = Scale(0, 4)
TOTAL = Scale(0, 48)
SUBTOTAL = Scale(0, 12)
SOURCE = "Cedarbaum et al. 1999, J Neurol Sci 169:13-21, doi:10.1016/s0022-510x(99)00210-5"
DECLINE_SOURCE = "Kimura et al. 2006, Neurology 66:265-267, doi:10.1212/01.wnl.0000194316.91908.8a"
KINGS_SOURCE = (
    "Balendra et al. 2014, Amyotroph Lateral Scler Frontotemporal Degener 15:279-284, "
    "doi:10.3109/21678421.2014.897357"
)
MITOS_SOURCE = (
    "Chio et al. 2015, J Neurol Neurosurg Psychiatry 86:38-44, doi:10.1136/jnnp-2013-306589"
)
BANDS = (0.5, 1.0)  # points per month: slow below the first, fast from the second (Kimura 2006)
BAND_NAMES = ("slow", "intermediate", "fast")
SHORTEST = 1.0  # months since onset below which a rate says little
KINGS_ITEMS = ("speech", "salivation", "swallowing", "handwriting", "cutting", "walking",
               "dyspnea", "respiratory_insufficiency")  # fmt: skip
MITOS_ITEMS = ("speech", "swallowing", "handwriting", "dressing", "walking", "dyspnea",
               "respiratory_insufficiency")  # fmt: skip
NO_GASTROSTOMY = " (add a column gastrostomy with yes or no, or items 5a and 5b)"
YES = frozenset({"1", "yes", "y", "true"})
NO = frozenset({"0", "no", "n", "false"})


@dataclass(frozen=True)
class Alsfrs:
    """Checked items of one visit; item 5 (cutting) is 5a or 5b, whichever applies."""

    items: dict[str, float]
    gastrostomy: bool | None  # None where it is not known
    given: Given
    who: str = "person"


def read_alsfrs(given: Given, who: str = "person") -> Alsfrs:
    """Check the items of the ALSFRS-R [1]_.

    Parameters
    ----------
    given : mapping
        `ITEMS`, each 0 to 4. Instead of ``cutting`` there may be ``cutting_a`` (item 5a, without
        gastrostomy) and ``cutting_b`` (5b, with gastrostomy), one of them filled; ``gastrostomy``
        is yes or no.

    References
    ----------
    .. [1] Cedarbaum et al. (1999). J Neurol Sci 169:13-21. doi:10.1016/s0022-510x(99)00210-5
    """
    cutting, gastrostomy = _cutting(given, who)
    scales = dict.fromkeys(ITEMS, ITEM)
    return Alsfrs(read_items({**given, "cutting": cutting}, scales, TOOL, who), gastrostomy,
                  given, who)  # fmt: skip


def read_yes_no(value: object, what: str, who: str) -> bool | None:
    """Whether something is so; None where it is not known."""
    if is_unknown(value):
        return None
    word = str(value).strip().lower().removesuffix(".0")
    if word in YES | NO:
        return word in YES
    raise BadInputError(f"{who}: {what} is '{value}'; write yes, no or n/a")


def _cutting(given: Given, who: str) -> tuple[object, bool | None]:
    """Item 5 from its two versions, and whether there is a gastrostomy."""
    gastrostomy = read_yes_no(given.get("gastrostomy"), "gastrostomy", who)
    known = {key: value for key in ("cutting", "cutting_a", "cutting_b")
             if not is_unknown(value := given.get(key))}  # fmt: skip
    if {"cutting_a", "cutting_b"} <= known.keys():
        raise BadInputError(
            f"{who}: items 5a and 5b of the {TOOL} are both filled; keep 5a without gastrostomy, "
            "5b with one"
        )
    version = next((key for key in known if key != "cutting"), "")
    if not version:
        return known.get("cutting"), gastrostomy
    implied = version == "cutting_b"
    if gastrostomy not in (None, implied):
        raise BadInputError(
            f"{who}: item 5{version[-1]} of the {TOOL} is filled, but gastrostomy is "
            f"{'yes' if gastrostomy else 'no'}; 5a is without one, 5b with one"
        )
    if "cutting" in known and str(known["cutting"]) != str(known[version]):
        raise BadInputError(
            f"{who}: item 5 of the {TOOL} is {known['cutting']}, but item 5{version[-1]} is "
            f"{known[version]}; keep one of them"
        )
    return known[version], implied


def alsfrs_scores(visit: Alsfrs, prorate: bool = False) -> tuple[Score, ...]:
    """Total (0-48) and the four subscores (0-12 each); higher is better.

    Parameters
    ----------
    visit : Alsfrs
        Checked items; totals that the table itself holds (``total``, ``total_bulbar`` ...) are
        compared with them.
    prorate : bool
        If one of the twelve items is missing, the mean of the two others of its subscale stands
        for it, halves rounded up; the scores that use it are flagged.
    """
    items, note = dict(visit.items), ""
    absent = unknown(items)
    if prorate and len(absent) == 1:
        scale = next(members for members in SUBSCALES.values() if absent[0] in members)
        rest = [items[item] for item in scale if item != absent[0]]
        items[absent[0]] = math.floor(sum(rest) / len(rest) + 0.5)
        note = f"{absent[0]} is missing and was set to {items[absent[0]]:g}, as of its subscale"
    scores = [_sum(visit, "alsfrs_r", "total", ITEMS, items, TOTAL, absent if note else [], note)]
    for name, members in SUBSCALES.items():
        filled = [item for item in absent if note and item in members]
        scores.append(
            _sum(visit, f"alsfrs_{name}", f"total_{name}", members, items, SUBTOTAL, filled, note)
        )
    return tuple(scores)


def _sum(
    visit: Alsfrs, name: str, key: str, members: Sequence[str], items: dict[str, float],
    scale: Scale, filled: Sequence[str], note: str,
) -> Score:  # fmt: skip
    score = add_up(name, {item: items[item] for item in members}, SOURCE)
    if filled:
        n = score.n_items - len(filled)
        return Score(name, score.value, "1", n, score.n_items, "flagged", note, SOURCE)
    what = f"{TOOL} {key.replace('_', ' ')}"
    return or_given(score, visit.given.get(key), scale, what, visit.who)


def decline_rate(
    total: Score | float, months: object, bands: Sequence[float] = BANDS, who: str = "person"
) -> Score:
    """(48 - total) / months since the first symptom, at the same visit.

    Points per month; it takes for granted a total of 48 at onset.
    """
    value = total.value if isinstance(total, Score) else read_item(total, TOTAL, TOOL, who)
    duration = read_number_of_months(months, who)
    reasons = []
    if math.isnan(value):
        reasons.append(f"{TOOL} total is missing")
    if math.isnan(duration):
        reasons.append("symptom duration is missing")
    elif duration <= 0:
        reasons.append(f"symptom duration is {duration:g} months; no rate without time")
    unit, n = "points/month", int(not math.isnan(value)) + int(duration > 0)
    if reasons:
        return missing("decline_rate", unit, (n, 2), "; ".join(reasons), DECLINE_SOURCE)
    rate = (TOTAL.high - value) / duration
    label = BAND_NAMES[sum(rate >= limit for limit in bands)]
    notes = [total.reason] if isinstance(total, Score) and total.status == "flagged" else []
    if duration < SHORTEST:
        notes.append(
            f"{duration:g} months since onset: a point more or less changes the rate much"
        )
    status: Status = "flagged" if notes else "ok"
    return Score("decline_rate", rate, unit, 2, 2, status, "; ".join(notes), DECLINE_SOURCE, label)


def read_number_of_months(months: object, who: str) -> float:
    """Duration in months; a negative one is a number here, and no rate follows from it."""
    return read_item(months, Scale(-1200, 1200, whole=False, unit="months"), "symptom duration",
                     who)  # fmt: skip


def any_known(answers: Sequence[bool | None]) -> bool | None:
    """Whether any answer is yes; None if that hangs on one that is not known."""
    if True in answers:
        return True
    return None if None in answers else False


def _below(value: float, limit: float) -> bool | None:
    return None if math.isnan(value) else value < limit


def kings_stage(visit: Alsfrs, at_least_1: bool = False, died: bool = False) -> Score:
    """King's clinical stage from the ALSFRS-R [1]_: regions involved, 4A, 4B; 5 is death.

    4A (gastrostomy) and 4B (ventilation) both have the value 4; `label` tells them apart. Stage 0
    stays 0, although ALSFRS-R points may be lost in items that do not count, unless `at_least_1`.
    A missing item matters only where the stage hangs on it.

    References
    ----------
    .. [1] Balendra et al. (2014). doi:10.3109/21678421.2014.897357
    """
    items = visit.items
    absent = [item for item in KINGS_ITEMS if math.isnan(items[item])]
    absent += ["gastrostomy"] if visit.gastrostomy is None else []
    hint = NO_GASTROSTOMY if visit.gastrostomy is None else ""
    counts = (len(KINGS_ITEMS) + 1 - len(absent), len(KINGS_ITEMS) + 1)
    label = "5" if died else _kings_label(visit)
    if label is None:
        return missing("kings", "1", counts, items_missing(absent) + hint, KINGS_SOURCE)
    if label == "0" and at_least_1:
        reason = "stage 0 by the items, set to 1 for a person who has the diagnosis"
        return Score("kings", 1.0, "1", *counts, "flagged", reason, KINGS_SOURCE, "1")
    return Score("kings", float(label[0]), "1", *counts, source=KINGS_SOURCE, label=label)


def _kings_label(visit: Alsfrs) -> str | None:
    items = visit.items
    ventilation = any_known(
        [_below(items["dyspnea"], 1), _below(items["respiratory_insufficiency"], 4)]
    )
    if ventilation or ventilation is None:
        return "4B" if ventilation else None
    if visit.gastrostomy or visit.gastrostomy is None:
        return "4A" if visit.gastrostomy else None
    regions = (("speech", "salivation", "swallowing"), ("handwriting", "cutting"), ("walking",))
    involved = [any_known([_below(items[item], 4) for item in region]) for region in regions]
    return None if None in involved else str(involved.count(True))


def mitos_stage(visit: Alsfrs, died: bool = False) -> Score:
    """MiToS stage from the ALSFRS-R [1]_: functions lost, 0 to 4; 5 is death.

    Movement: walking or dressing at most 1. Swallowing: at most 1. Communication: speech and
    handwriting at most 1. Breathing: dyspnea at most 1 or respiratory insufficiency at most 2.

    References
    ----------
    .. [1] Chio et al. (2015). doi:10.1136/jnnp-2013-306589
    """
    items = {item: visit.items[item] for item in MITOS_ITEMS}
    absent = unknown(items)
    counts = (len(items) - len(absent), len(items))
    if absent and not died:
        return missing("mitos", "1", counts, items_missing(absent), MITOS_SOURCE)
    lost = (
        items["walking"] <= 1 or items["dressing"] <= 1,
        items["swallowing"] <= 1,
        items["speech"] <= 1 and items["handwriting"] <= 1,
        items["dyspnea"] <= 1 or items["respiratory_insufficiency"] <= 2,
    )
    stage = 5 if died else sum(lost)
    return Score("mitos", float(stage), "1", *counts, source=MITOS_SOURCE, label=str(stage))
