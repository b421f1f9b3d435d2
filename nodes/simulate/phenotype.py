"""Clinical scores of simulated people, in their valid ranges.

Scores of a person with ALS follow one latent burden, which shares part of its variance with the
atrophy; what the burden takes away is spread over the items of a score at random, more of it
where the disease began.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Row = dict[str, int | float | str | None]

BURDEN_FROM_ATROPHY = 0.55  # correlation of the latent burden with the relative atrophy

# The twelve items of the ALSFRS-R in order, each 0 to 4, and how easily each loses points when
# the disease began in a limb or in the bulbar muscles.
ALSFRS_ITEMS: dict[str, tuple[float, float]] = {
    "speech": (0.5, 2.5),
    "salivation": (0.5, 2.0),
    "swallowing": (0.4, 2.2),
    "handwriting": (1.3, 0.6),
    "cutting": (1.5, 0.7),
    "dressing": (1.5, 0.8),
    "turning": (1.1, 0.6),
    "walking": (1.4, 0.6),
    "stairs": (1.8, 0.8),
    "dyspnea": (0.5, 0.6),
    "orthopnea": (0.3, 0.4),
    "respiratory_insufficiency": (0.1, 0.2),
}
MRC_MOVEMENTS = (
    "shoulder_abduction",
    "elbow_flexion",
    "wrist_extension",
    "hip_flexion",
    "knee_extension",
    "ankle_dorsiflexion",
)
LIMBS = ("arm_left", "arm_right", "leg_left", "leg_right")


@dataclass(frozen=True)
class Clinic:
    """What is behind the scores of one person.

    Attributes
    ----------
    patient : bool
        A person with ALS.
    bulbar : bool
        The disease began in the bulbar muscles.
    burden : float
        Latent burden, standard normal over people with ALS; 0 for a control.
    """

    patient: bool
    bulbar: bool
    burden: float


def draw_burden(atrophy: float, rng: np.random.Generator) -> float:
    """Latent burden that correlates with `atrophy`, both in standard deviations."""
    rest = np.sqrt(1 - BURDEN_FROM_ATROPHY**2)
    return float(BURDEN_FROM_ATROPHY * atrophy + rest * rng.standard_normal())


def take_points(lost: int, most: NDArray, weights: NDArray, rng: np.random.Generator) -> NDArray:
    """Spread `lost` points over items, one after the other, none below zero.

    Parameters
    ----------
    lost : int
        Points to take away, at most ``most.sum()``.
    most : (n,) int array
        Points that each item starts from.
    weights : (n,) array
        How easily each item loses one, above 0.
    rng : Generator
        Source of randomness.
    """
    left = np.array(most, int)
    for _ in range(min(lost, int(left.sum()))):
        chances = weights * (left > 0)
        left[rng.choice(len(left), p=chances / chances.sum())] -= 1
    return left


def _alsfrs(clinic: Clinic, rng: np.random.Generator) -> Row:
    total = int(np.clip(round(37.5 - 5.5 * clinic.burden), 14, 47))
    weights = np.array([pair[clinic.bulbar] for pair in ALSFRS_ITEMS.values()])
    items = take_points(48 - total, np.full(12, 4), weights, rng)
    row: Row = dict(zip(ALSFRS_ITEMS, items.tolist(), strict=True))
    # Grade 1 of swallowing is supplemental tube feeding: from there on by gastrostomy.
    row["gastrostomy"] = int(items[list(ALSFRS_ITEMS).index("swallowing")] <= 1)
    return row | {"total": total}


def _mrc(clinic: Clinic, rng: np.random.Generator) -> Row:
    names = [f"{movement}_{side}" for movement in MRC_MOVEMENTS for side in ("left", "right")]
    mean = 4 if clinic.bulbar else 9
    lost = int(np.clip(round(mean + 5 * clinic.burden + 2 * rng.standard_normal()), 0, 40))
    weights = rng.gamma(1.0, size=len(names)) + 0.1  # weakness is patchy
    grades = take_points(lost, np.full(len(names), 5), weights, rng)
    return dict(zip(names, grades.tolist(), strict=True)) | {"mrc_sum": int(grades.sum())}


def _penn(clinic: Clinic, rng: np.random.Generator) -> Row:
    share = 1 / (1 + np.exp(-(-0.6 + 0.7 * clinic.burden)))
    bulbar = int(rng.binomial(4, min(1.0, share * (1.5 if clinic.bulbar else 0.7))))
    limbs = {limb: int(rng.binomial(7, share)) for limb in LIMBS}
    return {"bulbar": bulbar, **limbs, "penn_total": bulbar + sum(limbs.values())}


def _fvc(clinic: Clinic, rng: np.random.Generator) -> Row:
    mean = 84 - 9 * clinic.burden if clinic.patient else 101
    percent = float(np.clip(mean + 10 * rng.standard_normal(), 25, 140))
    return {"fvc_percent_predicted": round(percent, 1), "posture": "sitting"}


def _tapping(clinic: Clinic, rng: np.random.Generator) -> Row:
    row: Row = {}
    for limb, control, patient in (("finger", 52, 38), ("foot", 40, 27)):
        mean = patient - 7 * clinic.burden if clinic.patient else control
        for side in ("left", "right"):
            taps = mean + 4 * rng.standard_normal()
            row[f"{limb}_{side}"] = int(np.clip(round(taps), 0, 90))
    return row


def draw_scores(clinic: Clinic, rng: np.random.Generator) -> dict[str, Row]:
    """Rows of one person for each clinical table, by the table's name.

    Controls have lung function and tapping only; the other scores ask for weakness.
    """
    rows = {}
    if clinic.patient:
        rows["alsfrsr"] = _alsfrs(clinic, rng)
        rows["mrc"] = _mrc(clinic, rng)
        rows["penn_umn"] = _penn(clinic, rng)
    rows["fvc"] = _fvc(clinic, rng)
    rows["tapping"] = _tapping(clinic, rng)
    return rows


def _score(description: str, low: int, high: int) -> dict[str, object]:
    return {"Description": description, "Minimum": low, "Maximum": high}


def score_columns() -> dict[str, dict[str, dict[str, object]]]:
    """Say what each column of each clinical table means, as BIDS sidecars do."""
    sides = [f"{movement}_{side}" for movement in MRC_MOVEMENTS for side in ("left", "right")]
    taps = [f"{limb}_{side}" for limb in ("finger", "foot") for side in ("left", "right")]
    return {
        "alsfrsr": {
            **{name: _score(f"Item {name.replace('_', ' ')}", 0, 4) for name in ALSFRS_ITEMS},
            "gastrostomy": {
                "Description": "Whether the person is fed by gastrostomy, so that cutting is 5b",
                "Levels": {"0": "no", "1": "yes"},
            },
            "total": _score("Sum of the twelve items", 0, 48),
        },
        "mrc": {
            **{name: _score(f"Grade, {name.replace('_', ' ')}", 0, 5) for name in sides},
            "mrc_sum": _score("Sum of the twelve grades", 0, 60),
        },
        "penn_umn": {
            "bulbar": _score("Upper motor neuron signs, bulbar", 0, 4),
            **{
                limb: _score(f"Upper motor neuron signs, {limb.replace('_', ' ')}", 0, 7)
                for limb in LIMBS
            },
            "penn_total": _score("Sum of all regions", 0, 32),
        },
        "fvc": {
            "fvc_percent_predicted": {
                "Description": "Forced vital capacity, share of the predicted value",
                "Units": "percent",
            },
            "posture": {"Description": "Posture during the test"},
        },
        "tapping": {
            name: {"Description": f"Taps of the {name.replace('_', ' ')} in 10 s", "Units": "1"}
            for name in taps
        },
    }


SCORE_TITLES = {
    "alsfrsr": "Revised Amyotrophic Lateral Sclerosis Functional Rating Scale",
    "mrc": "Medical Research Council scale for muscle strength",
    "penn_umn": "Penn Upper Motor Neuron Score",
    "fvc": "Forced vital capacity",
    "tapping": "Finger and foot tapping",
}
