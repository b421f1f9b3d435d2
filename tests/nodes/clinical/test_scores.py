import math

import pytest

from alsflow.nodes.clinical.cognition import diagnosis, ecas_scores, handedness
from alsflow.nodes.clinical.motor import (
    LIMBS,
    MOVEMENTS,
    NERVES,
    Norm,
    Sign,
    cmap_scores,
    fvc_percent,
    mrc_scores,
    penn_scores,
    predicted_fvc,
    tapping_scores,
)
from alsflow.nodes.clinical.score import SIDES
from alsflow.nodes.errors import BadInputError

GRADES = {f"{m}_{side}": 5 for m in MOVEMENTS for side in SIDES}
NORMS = {
    "median": Norm(10, 2),
    "ulnar": Norm(9, 2),
    "peroneal": Norm(6, 1.5),
    "tibial": Norm(12, 4),
}
AMPLITUDES = {f"{nerve}_{side}": NORMS[nerve].mean for nerve in NERVES for side in SIDES}
LIMB_POINTS = {f"{limb}_{side}": 1 for limb in LIMBS for side in SIDES}
DOMAINS = {"language": 26, "fluency": 20, "executive": 40, "memory": 18, "visuospatial": 12}


def by_name(scores):
    return {score.name: score for score in scores}


# ---------------------------------------------------------------------------- MRC


def test_muscle_grades_add_up_by_side():
    given = GRADES | {"hip_flexion_left": "3", "elbow_flexion_right": "0"}
    scores = by_name(mrc_scores(given))
    values = {name: score.value for name, score in scores.items()}
    assert values == {"mrc_sum": 53, "mrc_sum_left": 28, "mrc_sum_right": 25, "mrc_max": 60}
    assert scores["mrc_sum_left"].n_items == 6


def test_a_missing_grade_leaves_the_other_side():
    given = GRADES | {"hip_flexion_left": None, "knee_extension_left": 2}
    scores = by_name(mrc_scores(given))
    assert [scores[n].status for n in scores] == ["missing", "missing", "ok", "ok"]
    assert scores["mrc_sum"].reason == "missing: hip_flexion_left"
    spared = by_name(mrc_scores(given, prorate=True))
    assert spared["mrc_sum_left"].value == pytest.approx(22 / 5 * 6)
    assert spared["mrc_sum"].value == pytest.approx(52 / 11 * 12)
    assert spared["mrc_sum"].status == spared["mrc_sum_left"].status == "flagged"
    two = given | {"elbow_flexion_left": "n/a"}
    assert by_name(mrc_scores(two, prorate=True))["mrc_sum_left"].status == "missing"


def test_the_list_of_muscles_is_the_users():
    given = {"grip_left": 4, "grip_right": 3, "neck_flexion": 2}
    scores = by_name(mrc_scores(given, ["grip"], ["neck_flexion"]))
    values = [scores[n].value for n in ("mrc_sum", "mrc_sum_left", "mrc_sum_right", "mrc_max")]
    assert values == [9, 4, 3, 15]


def test_signs_of_grades_need_numbers():
    given = GRADES | {"hip_flexion_left": "4-"}
    with pytest.raises(
        BadInputError, match=r"sub-1: hip_flexion_left .* '4-'.*mrc_grades.* = 3.67"
    ):
        mrc_scores(given, who="sub-1")
    scores = by_name(mrc_scores(given, grades={"4-": 3.67}))
    assert scores["mrc_sum"].value == pytest.approx(58.67)


@pytest.mark.parametrize("wrong", [6, -1, 2.5])
def test_a_grade_off_the_scale_is_refused(wrong):
    words = f"sub-7: knee_extension_right of the MRC scale is {wrong}, but runs from 0 to 5"
    with pytest.raises(BadInputError, match=words):
        mrc_scores(GRADES | {"knee_extension_right": wrong}, who="sub-7")


def test_sums_as_given():
    scores = by_name(mrc_scores({"total_left": 20, "total_right": 25}))
    assert (scores["mrc_sum"].value, scores["mrc_sum"].status) == (45, "ok")
    assert "added up" in scores["mrc_sum"].reason
    with pytest.raises(BadInputError, match=r"MRC sum left of 6 grades .* is 33"):
        mrc_scores({"total_left": 33})
    eight = [*MOVEMENTS, "grip", "finger_abduction"]
    assert by_name(mrc_scores({"total_left": 33}, eight))["mrc_sum_left"].value == 33
    with pytest.raises(BadInputError, match="59, but its items add up to 60"):
        mrc_scores(GRADES | {"total": 59})


# ---------------------------------------------------------------------------- Penn


def test_penn_sides_leave_out_the_bulbar_region():
    given = {"bulbar": 4, "arm_left": 7, "leg_left": 1, "arm_right": 0, "leg_right": 2}
    values = {name: score.value for name, score in by_name(penn_scores(given)).items()}
    assert values == {"penn_total": 14, "penn_bulbar": 4, "penn_left": 8, "penn_right": 2}


def test_a_side_of_penn_is_complete_or_missing():
    scores = by_name(penn_scores(LIMB_POINTS | {"leg_left": "n/a", "bulbar": 0}))
    assert [s.status for s in scores.values()] == ["missing", "ok", "missing", "ok"]
    with pytest.raises(BadInputError, match="arm_left of the Penn .* is 8, but runs from 0 to 7"):
        penn_scores({"arm_left": 8})
    with pytest.raises(BadInputError, match="Penn total is 6, but its items add up to 4"):
        penn_scores(LIMB_POINTS | {"bulbar": 0, "total": 6})


def test_a_sheet_of_single_signs():
    sheet = {
        "hoffmann_left": Sign("arm_left", 1), "reflex_left": Sign("arm_left", 2),
        "babinski_left": Sign("leg_left", 1), "hoffmann_right": Sign("arm_right", 1),
        "babinski_right": Sign("leg_right", 1), "jaw_jerk": Sign("bulbar", 1),
    }  # fmt: skip
    given = dict.fromkeys(sheet, 1) | {"reflex_left": 2}
    values = {name: score.value for name, score in by_name(penn_scores(given, sheet)).items()}
    assert values == {"penn_total": 7, "penn_bulbar": 1, "penn_left": 4, "penn_right": 2}


# ---------------------------------------------------------------------------- CMAP


def test_cmap_z_scores_by_side():
    given = AMPLITUDES | {"median_left": 7, "tibial_left": "0"}  # an absent response is 0 mV
    scores = by_name(cmap_scores(given, NORMS))
    assert scores["cmap_z_left"].value == pytest.approx(-1.5 - 3)
    assert scores["cmap_z_right"].value == 0
    assert scores["cmap_z_sum"].value == pytest.approx(-4.5)
    assert scores["cmap_z_sum"].n_items == 8


def test_a_missing_nerve():
    given = AMPLITUDES | {"ulnar_left": None, "median_left": 7}
    scores = by_name(cmap_scores(given, NORMS))
    assert [s.status for s in scores.values()] == ["missing", "ok", "missing"]
    spared = by_name(cmap_scores(given, NORMS, prorate=True))
    assert spared["cmap_z_left"].value == pytest.approx(-1.5 / 3 * 4)
    assert spared["cmap_z_left"].status == spared["cmap_z_sum"].status == "flagged"
    two = given | {"tibial_left": None}
    assert by_name(cmap_scores(two, NORMS, prorate=True))["cmap_z_left"].status == "missing"


def test_cmap_without_reference_values_says_so():
    scores = by_name(cmap_scores(AMPLITUDES, {}))
    assert {s.status for s in scores.values()} == {"missing"}
    assert "[clinical.cmap_norms]" in scores["cmap_z_left"].reason
    z = {f"z_{nerve}_left": -1.25 for nerve in NERVES}
    assert by_name(cmap_scores(z, {}))["cmap_z_left"].value == -5


def test_cmap_edges():
    with pytest.raises(BadInputError, match="sub-1: amplitude ulnar_left is -1, .* 0 to 60 mV"):
        cmap_scores({"ulnar_left": -1}, NORMS, who="sub-1")
    with pytest.raises(BadInputError, match="standard deviation of 0"):
        Norm(5, 0)


# ---------------------------------------------------------------------------- lungs, tapping


def test_fvc_in_percent_is_taken_as_it_is():
    score = fvc_percent({"percent": "83.5", "posture": "sitting"})
    assert (score.value, score.unit, score.label) == (83.5, "%", "sitting")
    with pytest.raises(BadInputError, match="sub-1: FVC is 0, but runs from 1 to 200 %"):
        fvc_percent({"percent": 0}, who="sub-1")


def test_fvc_from_litres_needs_an_equation_by_name():
    """Hankinson 1999 by hand: a man of 60 years and 175 cm, a woman of 50 and 160."""
    man = {"litres": 4.0, "age": 60, "height": 175, "sex": "male"}
    expected = -0.1933 + 0.0384 - 0.9684 + 5.7091125
    assert predicted_fvc("nhanes3_white", "male", 60, 175) == pytest.approx(expected)
    woman = -0.3560 + 0.935 - 0.955 + 3.79264
    assert predicted_fvc("nhanes3_white", "female", 50, 160) == pytest.approx(woman)
    assert "choose an equation" in fvc_percent(man).reason
    score = fvc_percent(man, "nhanes3_white")
    assert score.value == pytest.approx(400 / expected)
    assert "nhanes3_white" in score.reason
    lacking = fvc_percent(man | {"height": None, "sex": None}, "nhanes3_white")
    assert lacking.reason == "missing: height, sex"
    with pytest.raises(BadInputError, match="no FVC equation 'gli'"):
        fvc_percent(man, "gli")
    with pytest.raises(BadInputError, match="age of the FVC is 12, but runs from 20"):
        fvc_percent(man | {"age": 12}, "nhanes3_white")
    assert fvc_percent({"litres": "n/a"}, "nhanes3_white").status == "missing"


def test_tapping_is_the_mean_of_both_sides_and_0_counts():
    scores = by_name(tapping_scores({"foot_left": 0, "foot_right": "31"}))
    values = {name: score.value for name, score in scores.items()}
    assert values == {"foot_tapping": 15.5, "foot_tapping_left": 0, "foot_tapping_right": 31}
    one = {"foot_left": "n/a", "foot_right": 31}
    assert by_name(tapping_scores(one))["foot_tapping"].status == "missing"
    kept = by_name(tapping_scores(one, one_side=True))["foot_tapping"]
    assert (kept.value, kept.status) == (31, "flagged")
    none = {"foot_left": "n/a", "foot_right": "n/a"}
    assert by_name(tapping_scores(none, one_side=True))["foot_tapping"].status == "missing"
    with pytest.raises(BadInputError, match="foot tapping is 16, but .* 15.5"):
        tapping_scores({"foot_left": 0, "foot_right": 31, "foot": 16})
    with pytest.raises(BadInputError, match="finger_left of the tapping is 151"):
        tapping_scores({"finger_left": 151})


# ---------------------------------------------------------------------------- cognition


def test_ecas_sums_and_cutoffs():
    scores = by_name(ecas_scores(DOMAINS))
    assert [score.value for score in scores.values()] == [86, 30, 116]
    assert {score.label for score in scores.values()} == {"normal"}


@pytest.mark.parametrize(
    ("executive", "specific", "total"),
    [
        (31, "abnormal", "abnormal"),
        (32, "borderline", "borderline"),
        (36, "borderline", "borderline"),
        (37, "normal", "normal"),
    ],
)
def test_ecas_edges(executive, specific, total):
    """Cut-offs 77 of 100 and 105 of 136; borderline up to 82 and 110."""
    given = DOMAINS | {"executive": executive, "visuospatial": 10}
    scores = by_name(ecas_scores(given))
    assert scores["ecas_specific"].value == 46 + executive
    assert scores["ecas_total"].value == 74 + executive
    assert (scores["ecas_specific"].label, scores["ecas_total"].label) == (specific, total)


def test_ecas_in_parts():
    scores = by_name(ecas_scores(DOMAINS | {"fluency": "n/a"}))
    assert [score.status for score in scores.values()] == ["missing", "ok", "missing"]
    low = by_name(ecas_scores(DOMAINS | {"memory": 12}, cutoffs={"nonspecific": 30}))
    assert (low["ecas_nonspecific"].label, low["ecas_total"].label) == ("abnormal", "")
    assert by_name(ecas_scores({"total": "105"}))["ecas_total"].label == "abnormal"
    with pytest.raises(BadInputError, match="language of the ECAS is 29"):
        ecas_scores({"language": 29})
    with pytest.raises(
        BadInputError, match="sub-1: ECAS total is 120, but its parts are 90 and 31"
    ):
        ecas_scores({"specific": 90, "nonspecific": 31, "total": 120}, who="sub-1")


@pytest.mark.parametrize(
    ("right", "left", "value", "label"),
    [(10, 0, 100, "right"), (0, 10, -100, "left"), (7, 3, 40, "both"), (15, 6, 300 / 7, "right")],
)
def test_handedness(right, left, value, label):
    score = handedness({"right": right, "left": left})
    assert (score.value, score.label) == (pytest.approx(value), label)


def test_handedness_edges():
    assert handedness({"right": 0, "left": 0}).reason == "no points for either hand"
    assert handedness({"right": 5}).reason == "missing: left"
    assert handedness({"quotient": "-50"}).label == "left"
    assert handedness({"right": 8, "left": 2}, limit=60).label == "both"
    with pytest.raises(BadInputError, match="quotient is 101, but runs from -100 to 100"):
        handedness({"quotient": 101})


@pytest.mark.parametrize(
    ("given", "criteria", "code", "label"),
    [
        ("Definite", "el_escorial", 4, "definite"),
        ("clinically probable ALS", "el_escorial", 3, "probable"),
        ("Probable, laboratory-supported", "el_escorial", 2, "probable_laboratory_supported"),
        ("probable_lab_supported", "el_escorial", 2, "probable_laboratory_supported"),
        ("possible", "awaji", 1, "possible"),
        ("Y", "gold_coast", 1, "yes"),
        ("no", "gold_coast", 0, "no"),
    ],
)
def test_diagnostic_categories(given, criteria, code, label):
    score = diagnosis(given, criteria)
    assert (score.value, score.label, score.status) == (code, label, "ok")


def test_unknown_categories_are_refused():
    with pytest.raises(BadInputError, match="sub-1: el_escorial category is 'certain'"):
        diagnosis("certain", "el_escorial", "sub-1")
    with pytest.raises(BadInputError, match="awaji category is 'probable lab-supported'"):
        diagnosis("probable lab-supported", "awaji")
    missing = diagnosis("n/a", "el_escorial")
    assert missing.status == "missing"
    assert math.isnan(missing.value)
