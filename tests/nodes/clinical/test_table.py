import math
from collections import Counter

import pandas as pd
import pytest

from alsflow.nodes.clinical.alsfrs import ITEMS
from alsflow.nodes.clinical.columns import (
    FILE_NAMES,
    SourceTable,
    column_report,
    item_fields,
    match_columns,
    parse_columns,
    squeeze,
    tool_of,
)
from alsflow.nodes.clinical.motor import Norm, Sign
from alsflow.nodes.clinical.options import ClinicalOptions, parse_options
from alsflow.nodes.clinical.table import (
    TIDY,
    clinical_table,
    score_features,
    why_no_score,
    widen_scores,
)
from alsflow.nodes.errors import BadInputError

HEALTHY = dict.fromkeys(ITEMS, "4")


def source(rows, name="phenotype/alsfrsr.tsv", tools=("alsfrs",), **about):
    table = pd.DataFrame(rows, index=range(2, 2 + len(rows)), dtype=object).fillna("n/a")
    return SourceTable(name, table, frozenset(tools), **about)


def person(name="sub-1", **cells):
    return {"participant_id": name, **cells}


def values(scores, who="sub-1"):
    ours = scores[scores["participant_id"] == who]
    return dict(zip(ours["score"], ours["value"], strict=True))


# ---------------------------------------------------------------------------- columns


@pytest.mark.parametrize(
    ("column", "item"),
    [
        ("alsfrs_r_1", "alsfrs_speech"),
        ("ALSFRSR_01", "alsfrs_speech"),
        ("q1_speech", "alsfrs_speech"),
        ("ALSFRS-R Q12", "alsfrs_respiratory_insufficiency"),
        ("alsfrs_10_dyspnoea", "alsfrs_dyspnea"),
        ("ALSFRS_R_5a", "alsfrs_cutting_a"),
        ("alsfrsr_5b", "alsfrs_cutting_b"),
        ("PEG", "alsfrs_gastrostomy"),
        ("ALSFRS-R", "alsfrs_total"),
        ("mrc_L_hip_flexion", "mrc_hip_flexion_left"),
        ("MRC sum right", "mrc_total_right"),
        ("pumns_arm_l", "penn_arm_left"),
        ("CMAP_ulnar_R", "cmap_ulnar_right"),
        ("cmapz_tibial_L", "cmap_z_tibial_left"),
        ("FVC_pct", "fvc_percent"),
        ("FVC (L)", "fvc_litres"),
        ("foot_tap_L", "tapping_foot_left"),
        ("ECAS ALS non-specific", "ecas_nonspecific"),
        ("EHI_LQ", "handedness_quotient"),
        ("El Escorial", "el_escorial"),
        ("disease_duration", "symptom_duration"),
    ],
)
def test_names_that_are_clear_in_any_table(column, item):
    table = source([person(**{column: "1"})], tools=())
    assert match_columns(table, parse_columns(ClinicalOptions())) == {item: column}


def test_short_names_are_clear_only_in_the_table_of_their_tool():
    mapping = parse_columns(ClinicalOptions())
    row = [person(speech="4", bulbar="2", total="30")]
    assert match_columns(source(row, tools=()), mapping) == {}
    ours = match_columns(source(row), mapping)
    assert ours == {
        "alsfrs_speech": "speech", "alsfrs_total_bulbar": "bulbar", "alsfrs_total": "total",
    }  # fmt: skip
    penn = match_columns(source(row, tools=["penn"]), mapping)
    assert penn == {"penn_bulbar": "bulbar", "penn_total": "total"}
    assert tool_of("penn_umn") == {"penn"}
    assert tool_of("bdi") == frozenset()


def test_no_name_means_two_items():
    fields = item_fields(ClinicalOptions()).values()
    for tool in ("", *FILE_NAMES):
        names = Counter(
            alias
            for entry in fields
            for alias in entry.anywhere | (entry.own if entry.tool == tool else frozenset())
        )
        assert [name for name, n in names.items() if n > 1] == [], tool
        assert all(name == squeeze(name) for name in names)


def test_the_configuration_comes_before_names():
    options = parse_options({"columns": {"alsfrs_r_1": "FRS_Q1", "participant_id": "ID"}})
    rows = [{"ID": "7", "FRS_Q1": "3", "alsfrs_r_1": "9"}]
    mapping = parse_columns(options)
    assert match_columns(source(rows), mapping) == {"alsfrs_speech": "FRS_Q1"}
    scores = clinical_table([source(rows)], mapping, options)
    assert set(scores["participant_id"]) == {"sub-7"}
    assert scores.loc[scores["score"] == "alsfrs_bulbar", "n_items_valid"].item() == 1


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"alsfrs_spech": "A"}, r"'alsfrs_spech' \(did you mean 'alsfrs_speech'\?\)"),
        ({"alsfrs_r_1": "A", "alsfrs_speech": "B"}, "gives alsfrs_speech twice, as A and B"),
    ],
)
def test_items_that_do_not_exist(columns, words):
    with pytest.raises(BadInputError, match=words):
        parse_columns(ClinicalOptions(columns=columns))
    with pytest.raises(BadInputError, match="names the tool 'alsfr'"):
        parse_columns(ClinicalOptions(tables={"alsfr": "x.tsv"}))


def test_a_column_that_no_table_has():
    options = ClinicalOptions(columns={"alsfrs_speech": "FRS_Q1"})
    with pytest.raises(BadInputError, match=r"'FRS_Q1' \(did you mean 'FRS_Q2'\?\).*alsfrsr.tsv"):
        clinical_table([source([person(FRS_Q2="4")])], options=options)


def test_doubtful_columns_are_refused():
    mapping = parse_columns(ClinicalOptions())
    with pytest.raises(BadInputError, match="alsfrs_1 and alsfrsr_01 may both be alsfrs_speech"):
        match_columns(source([person(alsfrs_1="4", alsfrsr_01="4")]), mapping)
    with pytest.raises(BadInputError, match="total may be alsfrs_total or mrc_total"):
        match_columns(source([person(total="4")], tools=["alsfrs", "mrc"]), mapping)


def test_what_each_column_was_taken_for():
    report = column_report(
        [source([person(speech="4", mood="2")])], parse_columns(ClinicalOptions())
    )
    assert report.to_dict("list") == {
        "table": ["phenotype/alsfrsr.tsv"] * 2,
        "column": ["speech", "mood"],
        "item": ["alsfrs_speech", "n/a"],
    }


# ---------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prorated": True}, r"no setting 'prorated' \(did you mean 'prorate'\?\)"),
        ({"prorate": "yes"}, "clinical.prorate = 'yes' is not true or false"),
        ({"decline_bands": [1.0, 0.5]}, "give the rates"),
        ({"decline_bands": ["a", 1]}, "not a list of numbers"),
        ({"fvc_equation": "gli2012"}, "'gli2012' is not known; it is one of nhanes3_white"),
        ({"columns": "x"}, r"write \[clinical.columns\]"),
        ({"columns": {"age": 3}}, "clinical.columns.age = 3 is not text"),
        ({"mrc_grades": {"4-": "low"}}, "not a number"),
        ({"mrc_movements": []}, "mrc_movements is empty"),
        ({"cmap_norms": {"median": {"mean": 8}}}, "needs mean and sd"),
        ({"penn_items": {"jaw": {"region": "face", "highest": 1}}}, "one of bulbar, arm_left"),
        ({"handedness_limit": True}, "not a number"),
    ],
)
def test_settings_that_are_refused(given, words):
    with pytest.raises(BadInputError, match=words):
        parse_options(given)


def test_settings_are_read():
    options = parse_options(
        {
            "prorate": True, "decline_bands": [0.47, 1.11], "mrc_movements": ["grip"],
            "cmap_norms": {"median": {"mean": 8, "sd": 2.5}}, "handedness_limit": 60,
            "penn_items": {"jaw_jerk": {"region": "bulbar", "highest": 1}},
            "mrc_grades": {"4-": 3.67}, "ecas_cutoffs": {"total": 100},
        }
    )  # fmt: skip
    assert options.cmap_norms == {"median": Norm(8, 2.5)}
    assert options.penn_items == {"jaw_jerk": Sign("bulbar", 1)}
    assert options.decline_bands == (0.47, 1.11)
    assert options.handedness_limit == 60.0
    assert parse_options({}) == ClinicalOptions()


# ---------------------------------------------------------------------------- tables


def test_a_tidy_and_a_wide_table():
    people = source([person(disease_duration="20", sex="M")], "participants.tsv", ())
    scores = clinical_table([people, source([person(**HEALTHY, gastrostomy="no")])])
    assert tuple(scores.columns) == TIDY
    assert values(scores) == {
        "alsfrs_r": 48, "alsfrs_bulbar": 12, "alsfrs_fine_motor": 12, "alsfrs_gross_motor": 12,
        "alsfrs_respiratory": 12, "decline_rate": 0, "kings": 0, "mitos": 0,
    }  # fmt: skip
    wide = widen_scores(scores)
    assert list(wide.columns[:3]) == ["participant_id", "session_id", "alsfrs_r"]
    assert wide.loc[0, "decline_rate"] == 0
    assert widen_scores(scores, "label").loc[0, "decline_rate"] == "slow"


def test_everything_wrong_is_said_at_once():
    rows = [person(f"sub-{n}", **HEALTHY | {"speech": "5"}) for n in range(1, 15)]
    with pytest.raises(BadInputError) as refusal:
        clinical_table([source(rows)])
    text = str(refusal.value)
    assert text.count("speech of the ALSFRS-R is 5") == 10
    assert text.startswith("sub-1: ")
    assert text.endswith("; and 4 more")


def test_sessions_and_their_durations():
    """Sessions of one person; the duration of participants.tsv can only be that of the first."""
    people = source([person(symptom_duration="10")], "participants.tsv", ())
    rows = [person(session_id=f"ses-{n}", **HEALTHY | {"stairs": s})
            for n, s in (("10", "1"), ("2", "3"))]  # fmt: skip
    scores = clinical_table([people, source(rows)])
    rates = scores[scores["score"] == "decline_rate"].set_index("session_id")
    assert list(rates.index) == ["ses-2", "ses-10"]
    assert rates.loc["ses-2", "value"] == pytest.approx(0.1)
    assert "taken to be of the first session" in rates.loc["ses-2", "reason"]
    assert "at the first session only" in rates.loc["ses-10", "reason"]
    sessions = source(
        [person(session_id="ses-2", symptom_duration="10"),
         person(session_id="ses-10", symptom_duration="15")], "sessions", (),
    )  # fmt: skip
    rates = clinical_table([people, sessions, source(rows)]).query("score == 'decline_rate'")
    assert list(rates["value"]) == pytest.approx([0.1, 0.2])


def test_dates_make_durations():
    people = source([person(onset_date="2020-01-01")], "participants.tsv", ())
    rows = [person(session_id="1", visit_date="2020-12-31T09:30:00", **HEALTHY | {"stairs": "1"})]
    scores = clinical_table([people, source(rows)])
    assert values(scores)["decline_rate"] == pytest.approx(3 / (365 / 30.4375))
    rows[0]["visit_date"] = "31/12/2020"
    with pytest.raises(
        BadInputError, match="sub-1 ses-1: visit_date is '31/12/2020'; write a date"
    ):
        clinical_table([people, source(rows)])


@pytest.mark.parametrize(("unit", "rate"), [("months", 0.1), ("years", 0.1 / 12), ("", 0.1)])
def test_units_of_the_duration(unit, rate):
    rows = [person(**HEALTHY | {"stairs": "3"}, symptom_duration="10")]
    scores = clinical_table([source(rows, units={"symptom_duration": unit})])
    assert values(scores)["decline_rate"] == pytest.approx(rate)


def test_other_units():
    rows = [person(symptom_duration="10", **HEALTHY)]
    with pytest.raises(BadInputError, match="symptom_duration is in 'weeks'; give .* months"):
        clinical_table([source(rows, units={"symptom_duration": "weeks"})])
    named = [person(disease_duration_years="2", **HEALTHY | {"stairs": "0"})]
    assert values(clinical_table([source(named)]))["decline_rate"] == pytest.approx(4 / 24)
    lungs = [person(litres="4000", age="60", height="1.75", sex="1")]
    given = source(lungs, "fvc.tsv", ["fvc"], units={"litres": "mL", "height": "m"},
                   levels={"sex": {"1": "male", "2": "female"}})  # fmt: skip
    scores = clinical_table([given], options=ClinicalOptions(fvc_equation="nhanes3_white"))
    assert values(scores)["fvc_percent"] == pytest.approx(400 / 4.5858125)


def test_codes_with_levels():
    rows = [person(**HEALTHY, gastrostomy="2")]
    levels = {"gastrostomy": {"1": "no", "2": "yes"}}
    scores = clinical_table([source(rows, levels=levels)])
    assert scores.loc[scores["score"] == "kings", "label"].item() == "4A"
    with pytest.raises(BadInputError, match="gastrostomy is '2'"):
        clinical_table([source(rows)])


def test_a_person_twice():
    row = person(**HEALTHY)
    with pytest.raises(BadInputError, match=r"twice \(lines 2 and 3\), with the same content"):
        clinical_table([source([row, row])])
    with pytest.raises(BadInputError, match="and the rows differ; keep one row"):
        clinical_table([source([row, row | {"stairs": "2"}])])


def test_tables_that_contradict_each_other():
    one = source([person(alsfrs_r="40", age="60")], "participants.tsv", ())
    two = source([person(alsfrs_r="41", age="61")], "clinic.tsv", ())
    with pytest.raises(
        BadInputError, match="alsfrs_total is 40 in participants.tsv but 41 in clinic"
    ):
        clinical_table([one, two])
    same = source([person(alsfrs_r="40.0", age="61")], "clinic.tsv", ())
    assert values(clinical_table([one, same]))["alsfrs_r"] == 40
    unknown = source([person(alsfrs_r="n/a")], "clinic.tsv", ())
    assert values(clinical_table([unknown, one]))["alsfrs_r"] == 40


def test_no_person_no_row():
    with pytest.raises(BadInputError, match="has no column participant_id"):
        clinical_table([source([{"speech": "4"}])])
    with pytest.raises(BadInputError, match="line 2: participant_id is empty"):
        clinical_table([source([person("n/a", speech="4")])])
    nothing = clinical_table([source([{"mood": "4"}])])
    assert nothing.empty
    assert widen_scores(nothing).empty


def test_features_and_reasons():
    given = [person(**HEALTHY | {"walking": None}), person("sub-2", hip="3")]
    scores = clinical_table(
        [source(given), source([person(total="55")], "mrc.tsv", ["mrc"])],
        options=ClinicalOptions(prorate=True),
    )
    features = score_features(scores)
    assert "mrc_max" not in set(features["measure"])
    total = features[(features["measure"] == "alsfrs_r") & (features["participant_id"] == "sub-1")]
    assert (total["value"].item(), total["qc"].item()) == (48, "ok")
    assert "was set to 4" in total["reason"].item()
    why = why_no_score(scores)
    assert why["sub-2", "mitos"].startswith("missing: speech")
    assert ("sub-1", "alsfrs_r") not in why
    assert math.isnan(values(scores, "sub-2")["alsfrs_r"])
