"""ECAS, handedness and diagnostic categories."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from alsflow.nodes.clinical.score import (
    Given,
    Scale,
    Score,
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

ECAS_SOURCE = (
    "Abrahams et al. 2014, Amyotroph Lateral Scler Frontotemporal Degener 15:9-14, "
    "doi:10.3109/21678421.2013.805784"
)
# Highest points of each domain of the ECAS.
ECAS_SPECIFIC = {"language": 28, "fluency": 24, "executive": 48}
ECAS_NONSPECIFIC = {"memory": 24, "visuospatial": 12}
ECAS_PARTS = {
    "specific": ECAS_SPECIFIC,
    "nonspecific": ECAS_NONSPECIFIC,
    "total": ECAS_SPECIFIC | ECAS_NONSPECIFIC,
}
# Abnormal at or below: healthy controls of the United Kingdom (Abrahams 2014). Whether a score
# that equals its cut-off counts as abnormal was not read in the paper.
ECAS_CUTOFFS = {"specific": 77.0, "nonspecific": 24.0, "total": 105.0}
# Highest borderline score: five points above the cut-off (Niven 2015,
# doi:10.3109/21678421.2015.1030430, which gives none for the non-specific score).
ECAS_BORDERLINE = {"specific": 82.0, "total": 110.0}
HAND_SOURCE = "Oldfield 1971, Neuropsychologia 9:97-113, doi:10.1016/0028-3932(71)90067-4"
HAND_LIMIT = 40.0  # laterality quotient beyond which a person counts as right- or left-handed
POINTS = Scale(0, 20)  # of the Edinburgh inventory, one hand
QUOTIENT = Scale(-100, 100, whole=False)
# Categories in the order of certainty; Awaji knows no laboratory-supported class.
CRITERIA = {
    "el_escorial": (
        ("suspected", "possible", "probable_laboratory_supported", "probable", "definite"),
        "Brooks et al. 2000, Amyotroph Lateral Scler 1:293-299, doi:10.1080/146608200300079536",
    ),
    "awaji": (
        ("suspected", "possible", "probable", "definite"),
        "de Carvalho et al. 2008, Clin Neurophysiol 119:497-503, doi:10.1016/j.clinph.2007.09.143",
    ),
    "gold_coast": (
        ("no", "yes"),
        "Shefner et al. 2020, Clin Neurophysiol 131:1975-1978, doi:10.1016/j.clinph.2020.04.005",
    ),
}
LABORATORY = re.compile(r"probable.*(lab|ls)")


def ecas_scores(
    given: Given,
    cutoffs: Mapping[str, float] = ECAS_CUTOFFS,
    borderline: Mapping[str, float] = ECAS_BORDERLINE,
    who: str = "person",
) -> tuple[Score, ...]:
    """ECAS [1]_: ALS-specific (0-100), non-specific (0-36) and total (0-136).

    Parameters
    ----------
    given : mapping
        ``language``, ``fluency``, ``executive``, ``memory``, ``visuospatial``; ``specific``,
        ``nonspecific`` and ``total`` if the table itself holds sums.
    cutoffs : mapping
        Score at or below which each sum is abnormal; no entry, no judgement.
    borderline : mapping
        Highest score that is borderline.

    References
    ----------
    .. [1] Abrahams et al. (2014). doi:10.3109/21678421.2013.805784
    """
    highest = ECAS_PARTS["total"]
    scales = {domain: Scale(0, points) for domain, points in highest.items()}
    values = read_items(given, scales, "ECAS", who)
    sums = {key: read_item(given.get(key), Scale(0, sum(parts.values())), f"ECAS {key} score", who)
            for key, parts in ECAS_PARTS.items()}  # fmt: skip
    found = []
    for key, domains in ECAS_PARTS.items():
        score = add_up(f"ecas_{key}", {name: values[name] for name in domains}, ECAS_SOURCE)
        top = Scale(0, sum(domains.values()))
        score = or_given(score, sums[key], top, f"ECAS {key} score", who)
        found.append(_judge(score, cutoffs.get(key), borderline.get(key)))
    _check_parts(found, who)
    return tuple(found)


def _judge(score: Score, cutoff: float | None, borderline: float | None) -> Score:
    if cutoff is None or math.isnan(score.value):
        return score
    near = borderline is not None and score.value <= borderline
    label = "abnormal" if score.value <= cutoff else "borderline" if near else "normal"
    return Score(score.name, score.value, score.unit, score.n_items_valid, score.n_items,
                 score.status, score.reason, score.source, label)  # fmt: skip


def _check_parts(scores: list[Score], who: str) -> None:
    specific, other, total = (score.value for score in scores)
    if abs(specific + other - total) > 0:  # a comparison with NaN is false
        raise BadInputError(
            f"{who}: ECAS total is {total:g}, but its parts are {specific:g} and {other:g}; "
            "correct one of them"
        )


def handedness(given: Given, limit: float = HAND_LIMIT, who: str = "person") -> Score:
    """Laterality quotient 100 (R - L) / (R + L) of the Edinburgh inventory [1]_.

    Parameters
    ----------
    given : mapping
        ``right`` and ``left``, points of each hand; or ``quotient`` itself, -100 to 100.
    limit : float
        Quotient above which `label` is right and below whose negative it is left.

    References
    ----------
    .. [1] Oldfield (1971). doi:10.1016/0028-3932(71)90067-4
    """
    values = read_items(given, {"right": POINTS, "left": POINTS}, "Edinburgh inventory", who)
    absent = unknown(values)
    counts, total = (2 - len(absent), 2), values["right"] + values["left"]
    if absent:
        score = missing("handedness_lq", "%", counts, items_missing(absent), HAND_SOURCE)
    elif total == 0:
        score = missing("handedness_lq", "%", counts, "no points for either hand", HAND_SOURCE)
    else:
        quotient = 100 * (values["right"] - values["left"]) / total
        score = Score("handedness_lq", quotient, "%", *counts, source=HAND_SOURCE)
    score = or_given(score, given.get("quotient"), QUOTIENT, "laterality quotient", who)
    if math.isnan(score.value):
        return score
    hand = "right" if score.value > limit else "left" if score.value < -limit else "both"
    return Score(score.name, score.value, "%", *counts, score.status, score.reason, HAND_SOURCE,
                 hand)  # fmt: skip


def diagnosis(value: object, criteria: str, who: str = "person") -> Score:
    """Check a category of diagnostic certainty; it is read, never derived.

    Parameters
    ----------
    value : str
        The category in words; case, spaces and hyphens do not matter, ``ALS`` may stand behind.
    criteria : str
        ``el_escorial`` (revised; 0 suspected to 4 definite), ``awaji`` (0 to 3) or
        ``gold_coast`` (0 no, 1 yes).
    """
    names, source = CRITERIA[criteria]
    if is_unknown(value):
        return missing(criteria, "1", (0, 1), f"{criteria} category is missing", source)
    word = re.sub(r"[^a-z0-9]+", "_", str(value).lower()).strip("_")
    word = re.sub(r"^(clinically_)|(_(als|mnd))$", "", word)
    if LABORATORY.fullmatch(word) or word.startswith("probable_lab"):
        word = "probable_laboratory_supported"
    if criteria == "gold_coast":
        word = {"1": "yes", "y": "yes", "true": "yes", "0": "no", "n": "no", "false": "no"}.get(
            word, word
        )
    if word not in names:
        raise BadInputError(
            f"{who}: {criteria} category is '{value}'; it is one of {', '.join(names)}, or n/a"
        )
    return Score(criteria, float(names.index(word)), "1", 1, 1, source=source, label=word)
