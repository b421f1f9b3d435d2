"""ALSFRS-R, decline, King's and MiToS against 31 cases worked out independently."""

import csv
import math
from pathlib import Path

import pandas as pd
import pytest

from alsflow.nodes.clinical.alsfrs import (
    ITEMS,
    MITOS_ITEMS,
    SUBSCALES,
    alsfrs_scores,
    decline_rate,
    kings_stage,
    mitos_stage,
    read_alsfrs,
)
from alsflow.nodes.clinical.columns import SourceTable
from alsflow.nodes.clinical.table import clinical_table
from alsflow.nodes.errors import BadInputError

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "stats_reference"
CASES = SHARED / "clinical_score_cases.csv"
NAMES = (
    [row["case"] for row in csv.DictReader(CASES.read_text().splitlines())]
    if CASES.is_file()
    else ["reference cases not found"]
)
REFUSED = {
    "item_out_of_range": ("5", "but runs from 0 to 4"),
    "non_integer_item": ("3.5", "whole"),
}
HEALTHY = dict.fromkeys(ITEMS, 4)


@pytest.fixture(scope="session")
def cases(shared_data):
    rows = csv.DictReader((shared_data / "stats_reference" / CASES.name).read_text().splitlines())
    return {row["case"]: row for row in rows}


def items(case):
    given = dict(zip(ITEMS, [case[key] for key in list(case)[1:13]], strict=True))
    return given | {"gastrostomy": case["gastrostomy"]}


def found(given, months):
    visit = read_alsfrs(given, "sub-1")
    total, *parts = alsfrs_scores(visit)
    return {
        "total": total.value,
        **dict(zip(SUBSCALES, (part.value for part in parts), strict=True)),
        "kings": kings_stage(visit).label or math.nan,
        "mitos": mitos_stage(visit).value,
        "decline_rate": decline_rate(total, months).value,
    }


def test_there_are_31_cases(cases):
    assert len(cases) == len(NAMES) == 31


@pytest.mark.parametrize("name", NAMES)
def test_case(cases, name):
    case = cases[name]
    given = items(case)
    if name in REFUSED:
        for words in REFUSED[name]:
            with pytest.raises(BadInputError, match=f"sub-1: speech of the ALSFRS-R is .*{words}"):
                read_alsfrs(given, "sub-1")
        given["speech"] = "n/a"  # as the message says
    scores = found(given, case["symptom_duration_months"])
    for key, value in scores.items():
        expected = case[key]
        if key == "kings":
            assert expected == (value if isinstance(value, str) else "NA")
        else:
            wanted = math.nan if expected == "NA" else float(expected)
            assert value == pytest.approx(wanted, rel=1e-12, nan_ok=True), key


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cutting_a": 3, "cutting_b": 3}, "5a and 5b .* both filled"),
        ({"cutting_a": 3, "gastrostomy": "yes"}, "5a .* is filled, but gastrostomy is yes"),
        ({"cutting_b": 3, "gastrostomy": 0}, "5b .* is filled, but gastrostomy is no"),
        ({"cutting": 2, "cutting_b": 3}, "item 5 .* is 2, but item 5b is 3"),
        ({"gastrostomy": "perhaps"}, "gastrostomy is 'perhaps'; write yes, no or n/a"),
        ({"speech": -1, "stairs": 9}, "speech .* is -1.*stairs .* is 9"),
        ({"speech": "four"}, "sub-1, speech of the ALSFRS-R: 'four' is not a number"),
        ({"speech": math.inf}, "inf is not a number"),
    ],
)
def test_items_that_cannot_be_are_refused(given, words):
    with pytest.raises(BadInputError, match=words):
        read_alsfrs(given, "sub-1")


def test_item_5_says_whether_there_is_a_gastrostomy():
    for version, stage in (("cutting_a", "0"), ("cutting_b", "4A")):
        visit = read_alsfrs({**HEALTHY, "cutting": None, version: 4})
        assert kings_stage(visit).label == stage
        assert alsfrs_scores(visit)[0].value == 48


def test_one_missing_item_is_made_up_only_where_asked_for_and_marked():
    given = HEALTHY | {"walking": None, "turning": 4, "stairs": 3}
    visit = read_alsfrs(given)
    total, _, _, gross, _ = alsfrs_scores(visit)
    assert (total.status, total.reason) == ("missing", "missing: walking")
    assert (total.n_items_valid, total.n_items) == (11, 12)
    total, bulbar, _, gross, _ = alsfrs_scores(visit, prorate=True)
    assert (total.value, gross.value) == (47, 11)  # 3.5 is rounded up
    assert (total.status, gross.status, bulbar.status) == ("flagged", "flagged", "ok")
    assert total.n_items_valid == 11
    assert "walking is missing and was set to 4" in total.reason
    two = read_alsfrs(given | {"speech": None})
    assert alsfrs_scores(two, prorate=True)[0].status == "missing"


def test_a_total_that_the_table_holds_is_compared_and_used_without_items():
    with pytest.raises(BadInputError, match="total is 44, but its items add up to 48"):
        alsfrs_scores(read_alsfrs(HEALTHY | {"total": 44}, "sub-1"))
    alone = alsfrs_scores(read_alsfrs({"total": 41}))[0]
    assert (alone.value, alone.status, alone.n_items_valid) == (41, "ok", 0)
    assert "as given" in alone.reason
    part = alsfrs_scores(read_alsfrs(HEALTHY | {"speech": None, "total": 44}))[0]
    assert part.status == "missing"
    assert "the given ALSFRS-R total of 44 is not used" in part.reason
    with pytest.raises(BadInputError, match="sub-1: ALSFRS-R total is 49, but runs from 0 to 48"):
        alsfrs_scores(read_alsfrs({"total": 49}, "sub-1"))


@pytest.mark.parametrize(
    ("rate", "label"), [(0.49, "slow"), (0.5, "intermediate"), (0.99, "intermediate"), (1, "fast")]
)
def test_bands_of_decline(rate, label):
    assert decline_rate(0, 48 / rate).label == label


def test_other_bands_and_short_durations():
    assert decline_rate(46, 4, bands=(0.25, 0.5)).label == "fast"
    short = decline_rate(47, 0.5)
    assert (short.value, short.status) == (2, "flagged")
    assert "0.5 months since onset" in short.reason
    assert decline_rate(47, 1).status == "ok"


def test_kings_hangs_on_a_missing_item_only_where_it_matters():
    def stage(**changes):
        return kings_stage(read_alsfrs(HEALTHY | {"gastrostomy": "no"} | changes))

    assert stage(salivation=None).status == "missing"
    assert stage(salivation=None, speech=3).label == "1"
    assert stage(respiratory_insufficiency=None).reason == "missing: respiratory_insufficiency"
    assert stage(respiratory_insufficiency=None, dyspnea=0).label == "4B"
    assert "add a column gastrostomy" in stage(gastrostomy="n/a").reason
    assert stage(gastrostomy="n/a", dyspnea=0).label == "4B"
    four = stage(gastrostomy="yes")
    assert (four.value, four.label, four.n_items_valid, four.n_items) == (4, "4A", 9, 9)


def test_stage_1_for_the_diagnosed_and_5_for_the_dead():
    visit = read_alsfrs(HEALTHY | {"gastrostomy": "no"})
    assert kings_stage(visit).value == 0
    first = kings_stage(visit, at_least_1=True)
    assert (first.value, first.status) == (1, "flagged")
    assert (
        kings_stage(read_alsfrs({}), died=True).value == mitos_stage(read_alsfrs({}), True).value
    )
    assert mitos_stage(read_alsfrs({}), died=True).value == 5


@pytest.mark.parametrize("item", MITOS_ITEMS)
def test_mitos_needs_each_of_its_items(item):
    score = mitos_stage(read_alsfrs(HEALTHY | {item: "n/a"}))
    assert (score.status, score.reason) == ("missing", f"missing: {item}")


def test_the_nasty_table_of_durations(shared_data):
    """A total of 49 is refused by name; then 0, negative and missing durations give no rate."""
    path = shared_data / "stats_reference" / "nasty" / "decline_rate_edge.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    with pytest.raises(BadInputError) as refusal:
        clinical_table([SourceTable("nasty.csv", table)])
    assert str(refusal.value) == (
        "sub-CN027: ALSFRS-R total is 49, but runs from 0 to 48 in whole numbers; correct it, or "
        "write n/a"
    )
    table.loc[table["alsfrs_r"] == "49", "alsfrs_r"] = "n/a"
    scores = clinical_table([SourceTable("nasty.csv", table)])
    rates = scores[scores["score"] == "decline_rate"].set_index("participant_id")
    reasons = rates.loc[rates["status"] == "missing", "reason"].to_dict()
    assert reasons == {
        "sub-CN023": "symptom duration is 0 months; no rate without time",
        "sub-CN081": "symptom duration is -2 months; no rate without time",
        "sub-CN094": "symptom duration is missing",
        "sub-CN079": "ALSFRS-R total is missing",
        "sub-CN027": "ALSFRS-R total is missing",
    }
    known = table.set_index("participant_id").loc[rates.index[rates["status"] == "ok"]]
    expected = (48 - known["alsfrs_r"].astype(float)) / known["symptom_duration"].astype(float)
    pd.testing.assert_series_equal(
        rates.loc[known.index, "value"], expected, check_names=False, rtol=1e-12
    )
