"""Strength, upper motor neuron signs, nerve conduction, lung function and tapping."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from alsflow.nodes.clinical.score import (
    SIDES,
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

MRC_SOURCE = "Kleyweg et al. 1991, Muscle Nerve 14:1103-1109, doi:10.1002/mus.880141111"
MOVEMENTS = (
    "shoulder_abduction", "elbow_flexion", "wrist_extension",
    "hip_flexion", "knee_extension", "ankle_dorsiflexion",
)  # fmt: skip
GRADE = Scale(0, 5)
MRC_SPARE = 0.25  # share of the grades that may be missing where the sum is prorated
PENN_SOURCE = "Quinn et al. 2020, Muscle Nerve 61:508-511; ranges not confirmed in the paper"
PENN_BULBAR, PENN_LIMB = Scale(0, 4), Scale(0, 7)
LIMBS = ("arm", "leg")
CMAP_SOURCE = (
    "sum of z scores of distal amplitudes, as at National Taiwan University Hospital (2016-2021); "
    "reference values from the user"
)
NERVES = ("median", "ulnar", "peroneal", "tibial")
AMPLITUDE = Scale(0, 60, whole=False, unit="mV")
Z = Scale(-20, 20, whole=False)
Z_SUM = Scale(-80, 80, whole=False)
CMAP_FEWEST = 3  # nerves of a side from which a mean may stand for the fourth, where asked for
FVC_SOURCE = "share of the predicted forced vital capacity"
NHANES_SOURCE = "Hankinson et al. 1999, Am J Respir Crit Care Med 159:179-187, doi:10.1164/ajrccm.159.1.9712108"  # noqa: E501
FVC_PERCENT = Scale(1, 200, whole=False, unit="%")
FVC_LITRES = Scale(0.1, 12, whole=False, unit="L")
HEIGHT = Scale(100, 230, whole=False, unit="cm")
AGE = Scale(20, 110, whole=False, unit="years")
# L, L/year, L/year2, L/cm2: predicted FVC of adults, men from 20 and women from 18 years
NHANES3_WHITE = {
    "male": (-0.1933, 0.00064, -0.000269, 0.00018642),
    "female": (-0.3560, 0.01870, -0.000382, 0.00014815),
}
EQUATIONS = {"nhanes3_white": NHANES3_WHITE}
TAP_UNIT = "taps/10 s"
TAPS = Scale(0, 150, whole=False, unit="taps in 10 s")
TAP_SOURCE = "mean of both sides, taps in 10 s, as in CALSNIC (five centres)"


def mrc_scores(
    given: Given,
    movements: Sequence[str] = MOVEMENTS,
    midline: Sequence[str] = (),
    grades: Mapping[str, float] | None = None,
    prorate: bool = False,
    who: str = "person",
) -> tuple[Score, ...]:
    """Sums of muscle grades 0 to 5: both sides, left, right, and the highest possible.

    Parameters
    ----------
    given : mapping
        ``<movement>_left`` and ``<movement>_right``, and the movements of `midline`; ``total``
        if the table itself holds a sum.
    movements, midline : sequence of str
        What was tested on each side, and without a side (neck flexion, say).
    grades : mapping, optional
        Numbers for grades such as ``4-``; without it only 0 to 5 are taken.
    prorate : bool
        Up to a quarter of the grades may be missing; the mean of the others stands for them.
    """
    grades = grades or {}
    scale = Scale(0, 5, whole=not grades)
    numbers = {item: grades.get(str(value).strip(), value) for item, value in given.items()}
    names = [f"{movement}_{side}" for movement in movements for side in SIDES] + list(midline)
    _refuse_signs(numbers, names, who)
    values = read_items(numbers, dict.fromkeys(names, scale), "MRC scale", who)
    scores = []
    for side in ("", *SIDES):
        ending = f"_{side}" if side else ""
        ours = {name: grade for name, grade in values.items() if name.endswith(ending)}
        limit = Scale(0, GRADE.high * len(ours), whole=not grades)
        what = f"MRC sum {side} of {len(ours)} grades (clinical.mrc_movements)".replace("  ", " ")
        score = _grades(f"mrc_sum{ending}", ours, prorate)
        scores.append(or_given(score, given.get(f"total{ending}"), limit, what, who))
    scores[0] = sum_of_sides(scores[0], scores[1], scores[2])
    highest = GRADE.high * len(values)
    n = scores[0].n_items_valid
    return (*scores, Score("mrc_max", highest, "1", n, len(values), source=MRC_SOURCE))


def sum_of_sides(both: Score, left: Score, right: Score) -> Score:
    """`both` from left and right where only these were given, without items."""
    given = left.value + right.value
    if both.n_items_valid or not math.isnan(both.value) or math.isnan(given):
        return both
    return replace(both, value=given, status="ok", reason="left and right as given, added up")


def _grades(name: str, values: Mapping[str, float], prorate: bool) -> Score:
    spare = int(MRC_SPARE * len(values)) if prorate else 0
    return add_up(name, values, MRC_SOURCE, spare=spare)


def _refuse_signs(numbers: Given, names: Sequence[str], who: str) -> None:
    for name in names:
        value = numbers.get(name)
        if isinstance(value, str) and value.strip()[-1:] in ("+", "-"):
            raise BadInputError(
                f"{who}: {name} of the MRC scale is '{value}'; say which number it stands for "
                f'under [clinical.mrc_grades], such as "{value.strip()}" = '
                f"{4.33 if value.strip()[-1] == '+' else 3.67}"
            )


@dataclass(frozen=True)
class Sign:
    """One line of a sheet of upper motor neuron signs."""

    region: str  # bulbar, arm_left, arm_right, leg_left or leg_right
    highest: float


PENN_SHEET = {"bulbar": Sign("bulbar", PENN_BULBAR.high)} | {
    f"{limb}_{side}": Sign(f"{limb}_{side}", PENN_LIMB.high) for limb in LIMBS for side in SIDES
}


def penn_scores(
    given: Given, sheet: Mapping[str, Sign] | None = None, who: str = "person"
) -> tuple[Score, ...]:
    """Penn upper motor neuron score: total, bulbar, left and right (arm and leg of the side).

    Parameters
    ----------
    given : mapping
        Points of each line of the sheet; ``total`` if the table itself holds one.
    sheet : mapping, optional
        Lines and what each counts for; by default one number per region, bulbar 0 to 4 and each
        limb 0 to 7.
    """
    sheet = sheet or PENN_SHEET
    scales = {line: Scale(0, sign.highest) for line, sign in sheet.items()}
    values = read_items(given, scales, "Penn upper motor neuron score", who)

    def part(name: str, key: str, regions: Sequence[str]) -> Score:
        ours = {line: value for line, value in values.items() if sheet[line].region in regions}
        score = add_up(name, ours, PENN_SOURCE)
        limit = Scale(0, sum(sheet[line].highest for line in ours))
        return or_given(score, given.get(key), limit, f"Penn {key.replace('_', ' ')}", who)

    regions = ["bulbar", *(f"{limb}_{side}" for limb in LIMBS for side in SIDES)]
    sides = [
        part(f"penn_{side}", f"total_{side}", [f"{limb}_{side}" for limb in LIMBS])
        for side in SIDES
    ]
    return (part("penn_total", "total", regions), part("penn_bulbar", "", ["bulbar"]), *sides)


@dataclass(frozen=True)
class Norm:
    """Mean and standard deviation of a nerve's amplitude in healthy people, mV."""

    mean: float
    sd: float

    def __post_init__(self) -> None:
        if not self.sd > 0:
            raise BadInputError(f"a standard deviation of {self.sd:g} mV makes no z score")


def cmap_scores(
    given: Given, norms: Mapping[str, Norm], prorate: bool = False, who: str = "person"
) -> tuple[Score, ...]:
    """Sums of z scores of motor amplitudes: left, right and both; lower is worse.

    Parameters
    ----------
    given : mapping
        ``<nerve>_<side>``, mV; 0 is an absent response. Or ``z_<nerve>_<side>``, where the
        laboratory gave the z score itself.
    norms : mapping
        Reference values of each nerve, from the same laboratory.
    prorate : bool
        One nerve of a side may be missing; the mean of the other three stands for it.
    """
    nerves = tuple(norms) or NERVES
    spare = max(0, len(nerves) - CMAP_FEWEST) if prorate else 0
    sides: list[Score] = []
    values: dict[str, float] = {}
    for side in SIDES:
        ours = {f"{n}_{side}": _z(given, n, side, norms.get(n), who) for n in nerves}
        score = add_up(f"cmap_z_{side}", ours, CMAP_SOURCE, spare=min(spare, 1))
        what = f"sum of z scores, {side}"
        sides.append(or_given(score, given.get(f"total_{side}"), Z_SUM, what, who))
        values |= ours
    whole = prorate and all(score.status != "missing" for score in sides)
    both = add_up("cmap_z_sum", values, CMAP_SOURCE, spare=2 if whole else 0)
    scores = [*sides, sum_of_sides(both, *sides)]
    return tuple(_say_no_norms(score, given, norms) for score in scores)


def _z(given: Given, nerve: str, side: str, norm: Norm | None, who: str) -> float:
    name = f"{nerve}_{side}"
    amplitude = read_item(given.get(name), AMPLITUDE, f"amplitude {name}", who)
    z = read_item(given.get(f"z_{name}"), Z, f"z score of {name}", who)
    if not math.isnan(z):
        return z
    return math.nan if norm is None else (amplitude - norm.mean) / norm.sd


def _say_no_norms(score: Score, given: Given, norms: Mapping[str, Norm]) -> Score:
    """Say that reference values are what is missing, where there are amplitudes."""
    amplitudes = [
        f"{n}_{s}" for n in NERVES for s in SIDES if not is_unknown(given.get(f"{n}_{s}"))
    ]
    if norms or not amplitudes or score.status != "missing":
        return score
    reason = "no reference values; give mean and sd of each nerve under [clinical.cmap_norms]"
    return missing(score.name, score.unit, (score.n_items_valid, score.n_items), reason,
                   score.source)  # fmt: skip


def predicted_fvc(equation: str, sex: str, age: float, height: float) -> float:
    """Forced vital capacity expected of a healthy adult, L.

    Parameters
    ----------
    equation : str
        One of `EQUATIONS`; ``nhanes3_white`` [1]_ holds for white adults from 20 years.
    sex : str
        ``male`` or ``female``.
    age, height : float
        Years and cm.

    References
    ----------
    .. [1] Hankinson et al. (1999). doi:10.1164/ajrccm.159.1.9712108
    """
    if equation not in EQUATIONS:
        raise BadInputError(
            f"there is no FVC equation '{equation}'; known are {', '.join(EQUATIONS)}"
        )
    level, per_year, per_year2, per_cm2 = EQUATIONS[equation][sex]
    return level + per_year * age + per_year2 * age**2 + per_cm2 * height**2


def fvc_percent(given: Given, equation: str = "", who: str = "person") -> Score:
    """Forced vital capacity in per cent of the predicted one; `label` is the posture.

    Parameters
    ----------
    given : mapping
        ``percent`` itself; or ``litres``, ``height`` (cm), ``age`` (years) and ``sex`` (male or
        female), and then an `equation` has to be chosen. ``posture`` if it is known.
    """
    posture = given.get("posture")
    label = "" if is_unknown(posture) else str(posture).strip()
    percent = read_item(given.get("percent"), FVC_PERCENT, "FVC", who)
    if not math.isnan(percent):
        return Score("fvc_percent", percent, "%", 1, 1, source=FVC_SOURCE, label=label)
    scales = {"litres": FVC_LITRES, "height": HEIGHT, "age": AGE}
    if is_unknown(given.get("litres")):
        return missing("fvc_percent", "%", (0, 1), "FVC is missing", FVC_SOURCE)
    if not equation:
        reason = 'FVC is in litres; choose an equation: [clinical] fvc_equation = "..."'
        return missing("fvc_percent", "%", (1, 1), reason, FVC_SOURCE)
    values = read_items(given, scales, "FVC", who)
    sex = given.get("sex")
    absent = unknown(values) + ([] if sex in ("male", "female") else ["sex"])
    if absent:
        counts = (4 - len(absent), 4)
        return missing("fvc_percent", "%", counts, items_missing(absent), NHANES_SOURCE)
    expected = predicted_fvc(equation, str(sex), values["age"], values["height"])
    value = 100 * values["litres"] / expected
    reason = f"of {expected:.3g} L by {equation}"
    return Score("fvc_percent", value, "%", 4, 4, "ok", reason, NHANES_SOURCE, label)


def tapping_scores(given: Given, one_side: bool = False, who: str = "person") -> tuple[Score, ...]:
    """Taps of fingers and feet in 10 s: each side, and the mean of both.

    Parameters
    ----------
    given : mapping
        ``finger_left``, ``finger_right``, ``foot_left``, ``foot_right``; 0 is a result.
    one_side : bool
        One side stands for both where the other is missing, flagged.
    """
    found: list[Score] = []
    for limb in ("finger", "foot"):
        names = {side: f"{limb}_{side}" for side in SIDES}
        if not any(name in given for name in (*names.values(), limb)):
            continue
        values = read_items(given, dict.fromkeys(names.values(), TAPS), "tapping", who)
        both = add_up(f"{limb}_tapping", values, TAP_SOURCE, unit=TAP_UNIT, spare=int(one_side))
        mean = Score(both.name, both.value / 2, TAP_UNIT, both.n_items_valid, 2, both.status,
                     both.reason, TAP_SOURCE)  # fmt: skip
        found.append(or_given(mean, given.get(limb), TAPS, f"{limb} tapping", who))
        for side, name in names.items():
            one = {name: values[name]}
            found.append(add_up(f"{limb}_tapping_{side}", one, TAP_SOURCE, unit=TAP_UNIT))
    return tuple(found)
