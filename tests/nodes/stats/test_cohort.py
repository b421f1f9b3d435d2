"""One table of a study from several, and what in them cannot be true."""

import numpy as np
import pandas as pd
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.cohort import build_cohort
from alsflow.nodes.stats.delimited import parse_delimited
from alsflow.nodes.stats.joining import Options
from alsflow.nodes.stats.participants import Columns
from alsflow.nodes.stats.tables import Meanings

BASIC = """participant_id,group,site,age,sex
sub-1,ALS,A,60,M
sub-2,control,A,61,F
sub-3,ALS,B,62,F
sub-4,control,B,63,M
"""


def table(text):
    return parse_delimited(text, "t", ".csv")


def cohort(people=BASIC, sessions=None, features=None, scores=None, columns=None, **options):
    return build_cohort(
        table(people),
        None if sessions is None else table(sessions),
        features,
        scores,
        columns or Columns(),
        Options(**options),
    )


def with_column(name, *cells):
    lines = BASIC.strip().split("\n")
    return "\n".join(f"{a},{b}" for a, b in zip(lines, (name, *cells), strict=True))


def values(*rows, names=("fa",)):
    return pd.DataFrame(rows, columns=["participant_id", "session_id", *names])


def test_a_table_without_sessions():
    found = cohort()
    assert found.table["participant_id"].tolist() == ["sub-1", "sub-2", "sub-3", "sub-4"]
    assert set(found.table["session_id"]) == {"n/a"}
    assert found.table["age"].tolist() == [60, 61, 62, 63]
    assert found.table["sex"].tolist() == ["male", "female", "female", "male"]
    assert (found.case, found.reference) == ("ALS", "control")
    assert found.factors == ("group", "site", "sex")
    assert not found.reasons
    assert not found.notes
    assert not found.warnings


def test_names_that_people_give_their_columns():
    text = """Nr;Dx;Zentrum;Alter;Sex ;FVC
1;1;Köln;60,5;m;81,5%
2;2;köln ;59,25;W;-
3;1;Ulm;-;f;97%
"""
    meanings = Meanings({"Dx": {"1": "ALS", "2": "HC"}, "Sex": {"W": "female"}}, {"FVC": "%"})
    mapping = {"participant_id": "Nr", "group": "Dx", "site": "Zentrum", "age": "Alter",
               "fvc": "FVC"}  # fmt: skip
    found = cohort(text, columns=Columns(reference="HC"), mapping=mapping, meanings=meanings)
    assert found.table["participant_id"].tolist() == ["sub-1", "sub-2", "sub-3"]
    assert found.table["group"].tolist() == ["ALS", "HC", "ALS"]
    assert found.table["site"].tolist() == ["Köln", "Köln", "Ulm"]
    np.testing.assert_array_equal(found.table["age"], [60.5, 59.25, np.nan])
    np.testing.assert_array_equal(found.table["fvc"], [81.5, np.nan, 97])
    assert found.table["sex"].tolist() == ["male", "female", "female"]
    assert found.reasons == {("sub-3", "n/a"): "age n/a in participants.tsv"}
    assert "t has semicolons between its columns" in found.notes
    assert "participants.tsv: the column 'Sex' is taken for sex" in found.notes
    assert "site: 'Köln', 'köln' are taken as one, 'Köln'" in found.notes


def test_a_mapped_column_stands_before_one_of_the_same_name():
    text = with_column("diagnosis", "HC", "ALS", "HC", "ALS")
    found = cohort(text, columns=Columns(reference="HC"), mapping={"group": "diagnosis"})
    assert found.table["group"].tolist() == ["HC", "ALS", "HC", "ALS"]
    assert "group is taken from diagnosis; its own group is left out" in found.notes[0]


def test_columns_that_are_named_the_wrong_way_round():
    text = BASIC.replace("age", "swap").replace("site", "age").replace("swap", "site")
    found = cohort(text, mapping={"age": "site", "site": "age"})
    assert found.table["age"].tolist() == [60, 61, 62, 63]
    assert found.table["site"].tolist() == ["A", "A", "B", "B"]
    assert not found.notes


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (BASIC.replace("age", "years"), {}, r"no column age \(it has .*\[group.columns\] age = "),
        (
            BASIC,
            {"mapping": {"age": "Years"}},
            "no column 'Years', from which .group.columns. takes age",
        ),
        (BASIC, {"mapping": {"fvc": "FVC"}}, None),  # no model needs it
        (BASIC.replace("participant_id", "ID"), {}, "participants.tsv has no column participant_"),
        (
            BASIC,
            {"mapping": {"age": "site", "sex": "site"}},
            "takes both age and sex from the col",
        ),
        (with_column("Sex", *"MFFM").replace(",sex", ",SEX"), {}, "the columns SEX and Sex; name"),
    ],
)
def test_absent_columns_are_named_with_the_mend(text, options, message):
    if message is None:
        notes = ("no table has the column 'FVC', from which [group.columns] takes fvc",)
        assert cohort(text, **options).notes == notes
        return
    with pytest.raises(BadInputError, match=message):
        cohort(text, **options)


SESSIONS = """participant_id,session_id,age,months
sub-1,1,60.1,0
sub-1,ses-2,60.9,9
sub-2,1,n/a,0
"""


def test_sessions_stand_before_the_person():
    features = values(["sub-1", "ses-1", 0.4], ["sub-1", "ses-2", 0.3], ["sub-2", "ses-1", 0.5])
    found = cohort(sessions=SESSIONS, features=features)
    visits = found.table[["participant_id", "session_id", "age", "months", "fa"]]
    expected = [
        ["sub-1", "ses-1", 60.1, 0.0, 0.4], ["sub-1", "ses-2", 60.9, 9.0, 0.3],
        ["sub-2", "ses-1", 61.0, 0.0, 0.5], ["sub-3", "n/a", 62.0, np.nan, np.nan],
        ["sub-4", "n/a", 63.0, np.nan, np.nan],
    ]  # fmt: skip
    pd.testing.assert_frame_equal(
        visits, pd.DataFrame(expected, columns=visits.columns), check_dtype=False
    )
    assert found.table["group"].tolist() == ["ALS", "ALS", "control", "ALS", "control"]
    assert found.measures == ("fa",)
    assert found.first_visits()["fa"].to_dict() == {"sub-1": 0.4, "sub-2": 0.5}
    assert found.notes == (
        "age of sub-1 differs between participants.tsv and sessions.tsv; that of the session is "
        "used",
    )
    people = found.people()
    assert people.table.loc["sub-1", "age"] == 60.1
    assert people.factors == ("sex",)


def test_a_dataset_without_sessions_files():
    empty = pd.DataFrame(columns=["participant_id", "session_id"], dtype=object)
    assert set(build_cohort(table(BASIC), empty, None, None, Columns()).table["session_id"]) == {
        "n/a"
    }


def test_people_and_sessions_in_one_table():
    text = "participant_id,session_id,group,site,age,sex\n" + "".join(
        f"sub-1,{n},{group},A,{60 + n},{sex}\n"
        for n, group, sex in ((1, "als", "M"), (2, "", "male"), (10, "ALS", ""))
    )
    found = cohort(text + "sub-2,1,hc,A,50,F\n")
    assert found.table["session_id"].tolist() == ["ses-1", "ses-2", "ses-10", "ses-1"]
    assert found.table["group"].tolist() == ["als", "als", "als", "control"]
    assert found.table["sex"].tolist() == ["male", "male", "male", "female"]
    assert not found.reasons


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("sub-1,2,control,A,61,M\n", "group of sub-1 is 'ALS' and 'control' in different rows"),
        ("sub-1,2,ALS,A,61,F\n", "sex of sub-1 is 'male' and 'female' in different rows"),
        ("sub-1,1,ALS,A,61,M\n", "lists sub-1 ses-1 more than once with different age"),
        ("sub-1,1,ALS,A,60,M\n", "lists sub-1 ses-1 more than once, alike in every cell"),
    ],
)
def test_people_who_contradict_themselves(extra, message):
    text = "participant_id,session_id,group,site,age,sex\nsub-1,1,ALS,A,60,M\n"
    with pytest.raises(BadInputError, match=message):
        cohort(text + extra + "sub-2,1,control,A,50,F\n")


@pytest.mark.parametrize(("name", "cell"), [("group", "control"), ("sex", "f")])
def test_tables_that_contradict_each_other_name_person_and_column(name, cell):
    sessions = f"participant_id,session_id,{name}\nsub-1,1,{cell}\n"
    with pytest.raises(
        BadInputError, match=f"{name} of sub-1 is .* in participants.tsv but '{cell}"
    ):
        cohort(sessions=sessions)


def test_the_same_sex_in_other_words_is_no_contradiction():
    found = cohort(sessions="participant_id,session_id,sex\nsub-1,1,Male\n")
    assert found.table["sex"].iat[0] == "male"


def test_scores_without_a_session_belong_to_the_first():
    scores = values(["sub-1", "n/a", 40.0], ["sub-2", "n/a", 48.0], names=("alsfrs_r",))
    found = cohort(sessions=SESSIONS, scores=scores)
    np.testing.assert_array_equal(found.table["alsfrs_r"], [40, np.nan, 48, np.nan, np.nan])
    assert "scores of sub-1 name no session and are taken for the first" in found.notes
    assert found.unknown == {
        ("sub-1", "ses-2", "alsfrs_r"): "the table of scores names no session"
    }


def test_a_score_takes_the_place_of_a_column():
    text = with_column("alsfrs_r", "41", "n/a", "n/a", "12")
    text = "\n".join(a + b for a, b in zip(text.split("\n"),
        (",kings", ",3", ",4A", ",n/a", ",2"), strict=True))  # fmt: skip
    scores = values(
        ["sub-1", "n/a", 40.8, 3.0], ["sub-2", "n/a", np.nan, 4.0], ["sub-3", "n/a", 30.0, 2.0],
        ["sub-4", "n/a", np.nan, np.nan], names=("alsfrs_r", "kings"),
    )  # fmt: skip
    found = cohort(text, scores=scores)
    np.testing.assert_array_equal(found.table["alsfrs_r"], [40.8, np.nan, 30, 12])
    np.testing.assert_array_equal(found.table["kings"], [3, 4, 2, np.nan])
    assert "kings is the score, not the column of participants.tsv" in found.notes
    assert "kings" not in found.factors
    assert not found.warnings  # 41 is 40.8 rounded
    text = text.replace(",41", ",44")
    warning = (
        "sub-1: alsfrs_r is 44 in participants.tsv, but 40.8 by its items; the latter is used"
    )
    assert warning in cohort(text, scores=scores).warnings


def test_a_column_with_the_name_of_a_measure_is_refused():
    with pytest.raises(BadInputError, match="column fa of participants.tsv has the name of a me"):
        cohort(with_column("fa", *"1234"), features=values(["sub-1", "n/a", 0.4]))


def test_people_with_values_only_stay_with_the_reason():
    found = cohort(features=values(["sub-1", "n/a", 0.4], ["sub-9", "n/a", 0.5]))
    assert found.reasons == {("sub-9", "n/a"): "is not in participants.tsv"}
    assert "sub-9 of the measures not in participants.tsv" in found.notes


def test_identifiers_that_lost_their_zeros_are_pointed_out():
    features = values(["sub-01", "n/a", 0.4], ["sub-02", "n/a", 0.5])
    with pytest.raises(BadInputError, match=r"sub-01 \(sub-1 there\).* lost zeros in a spreadsh"):
        cohort(features=features)
    found = cohort(features=values(["sub-1", "n/a", 0.4], ["sub-02", "n/a", 0.5]))
    assert "sub-02 (sub-2 there) may have lost zeros in a spreadsheet" in found.notes[0]


def test_three_groups_say_which_two_are_compared():
    text = BASIC + "sub-5,PLS,B,60,M\nsub-6,pls,A,61,F\n"
    found = cohort(text)
    assert found.reasons == {
        ("sub-5", "n/a"): "group is PLS, neither ALS nor control",
        ("sub-6", "n/a"): "group is PLS, neither ALS nor control",
    }
    assert found.notes[-1] == "group: ALS is compared with control; left out: PLS (2)"
    other = cohort(text, columns=Columns(case="PLS", reference="ALS"))
    assert (other.case, other.reference) == ("PLS", "ALS")
    assert set(other.reasons) == {("sub-2", "n/a"), ("sub-4", "n/a")}
    with pytest.raises(BadInputError, match="nobody of the group 'PMA', which is to be compared"):
        cohort(text, columns=Columns(case="PMA"))
    with pytest.raises(BadInputError, match="must be called ALS, .* or be named as case under"):
        cohort(text.replace("ALS", "PMA"))


def test_patients_alone_need_no_reference():
    text = BASIC.replace("control", "ALS")
    with pytest.raises(BadInputError, match="nobody of the reference group 'control'"):
        cohort(text)
    found = cohort(text + "sub-5,PLS,A,60,M\n", columns=Columns(reference=""))
    assert (found.case, found.reference) == ("ALS", "")
    assert found.reasons == {("sub-5", "n/a"): "group is PLS, not ALS"}
    assert found.notes == ("group: ALS; left out: PLS (1)",)


@pytest.mark.parametrize(
    ("cells", "levels", "expected"),
    [
        (("1", "2", "2", "1"), {"1": "male", "2": "female"}, "mffm"),
        (("1.0", "0", "0.0", "1"), {"0": "Female", "1": "Male participants"}, "mffm"),
        (("-1", "+1", "1", "-1"), {"-1": "men", "1": "women"}, "mffm"),
        ((" M", "female ", "F", "male"), {}, "mffm"),
        (("M", "unknown", "O", "n/a"), {}, "m..."),
        (("1", "2", "9", "1"), {"1": "male", "2": "female", "9": "unknown"}, "mf.m"),
    ],
)
def test_sex_however_coded(cells, levels, expected):
    text = BASIC
    for line, cell in zip(BASIC.strip().split("\n")[1:], cells, strict=True):
        text = text.replace(line, line[:-1] + cell)
    found = cohort(text, meanings=Meanings({"sex": levels}))
    words = {"male": "m", "female": "f"}
    assert "".join(words.get(sex, ".") for sex in found.table["sex"]) == expected
    assert len(found.reasons) == expected.count(".")
    assert all("sex" in why for why in found.reasons.values())


def test_codes_of_sex_without_a_meaning_are_listed():
    text = BASIC.replace(",M\n", ",1\n").replace(",F\n", ",2\n")
    with pytest.raises(
        BadInputError, match=r"sub-1: sex is '1' \(also '2' \(2\)\).*one way.*Levels"
    ):
        cohort(text)
    with pytest.raises(
        BadInputError, match="'M', which the JSON beside the table explains as fem"
    ):
        cohort(meanings=Meanings({"sex": {"M": "female"}}))


def test_codes_of_other_columns_follow_the_json():
    columns = Columns(covariates=("age", "hand"))
    levels = Meanings({"hand": {"1": "right", "2": "left"}})
    found = cohort(with_column("hand", "1", "2", "1", "3"), columns=columns, meanings=levels)
    assert found.table["hand"].tolist()[:3] == ["right", "left", "right"]
    assert found.reasons == {("sub-4", "n/a"): "hand 3 is not explained"}
    assert "hand: the codes 3 are not explained and taken as unknown" in found.notes
    numbers = Meanings({"score": {"-1": "not tested"}})
    found = cohort(with_column("score", "4", "-1", "7", "5"), meanings=numbers)
    np.testing.assert_array_equal(found.table["score"], [4, np.nan, 7, 5])
    assert found.unknown == {("sub-2", "n/a", "score"): "score -1: not tested"}


def test_sites_that_look_alike_are_kept_apart_and_named():
    text = BASIC.replace(",A,60", ",Montréal,60").replace(",A,61", ",Montreal,61")
    found = cohort(text)
    assert "'Montreal', 'Montréal' look alike and are kept apart" in found.notes[0]
    assert sorted(found.table["site"]) == ["B", "B", "Montreal", "Montréal"]


def clinical(onset, duration, total="40", age="60"):
    text = with_column("age_at_onset", onset, "n/a", "n/a", "n/a").split("\n")
    extra = [",disease_duration,alsfrs_r", f",{duration},{total}", *[",n/a,n/a"] * 3]
    text = "\n".join(a + b for a, b in zip(text, extra, strict=True))
    return text.replace("sub-1,ALS,A,60", f"sub-1,ALS,A,{age}")


@pytest.mark.parametrize(
    ("people", "message"),
    [
        (clinical("61", "n/a"), r"age lies below age_at_onset for sub-1 \(age 60, onset at 61\)"),
        (clinical("60.2", "n/a", age="60.1"), "age lies below age_at_onset for sub-1"),
        (clinical("58", "24", total="49"), r"alsfrs_r of sub-1 \(49\) lies outside 0 to 48"),
        (clinical("58", "24", total="-1"), r"alsfrs_r of sub-1 \(-1\) lies outside 0 to 48"),
        (clinical("58", "24", age="160"), "sub-1: an age of 160 years cannot be"),
        (
            clinical("58", "2 years"),
            "sub-1, disease_duration: '2 years' is not a number; write 2 a",
        ),
    ],
)
def test_what_cannot_be_is_refused(people, message):
    with pytest.raises(BadInputError, match=message):
        cohort(people)


@pytest.mark.parametrize(
    ("people", "warning"),
    [
        (clinical("60.4", "n/a"), "age 60 lies below age_at_onset 60.4, which rounding may"),
        (clinical("58", "11"), "age 60 minus age_at_onset 58 is 2.00 years, but disease"),
        (clinical("58", "37"), "is 2.00 years, but disease_duration is 3.08 years"),
        (clinical("n/a", "-2"), "disease_duration is -2, which cannot be; it is taken as unknown"),
        (clinical("n/a", "0"), "disease_duration is 0, so that a rate of decline cannot be told"),
        (clinical("58", "24").replace("sub-1,ALS", "sub-1,control").replace("sub-3,A", "sub-3,a"),
         "sub-1 is of the group control, but has age_at_onset 58"),
    ],
)  # fmt: skip
def test_what_is_doubtful_is_kept_with_a_warning(people, warning):
    found = cohort(people)
    assert found.warnings[0].startswith("sub-1")
    assert warning in found.warnings[0]


@pytest.mark.parametrize(("duration", "units"), [("12.1", "month"), ("35.9", ""), ("2", "years")])
def test_durations_within_a_year_agree(duration, units):
    meanings = Meanings(units={"disease_duration": units} if units else {})
    assert not cohort(clinical("58", duration), meanings=meanings).warnings


def test_a_negative_duration_is_unknown_with_the_reason():
    found = cohort(clinical("n/a", "-2"))
    assert np.isnan(found.table["disease_duration"].iat[0])
    why = "disease_duration of -2 cannot be"
    assert found.unknown == {("sub-1", "n/a", "disease_duration"): why}


def test_durations_in_the_other_unit_are_told_once():
    head = "participant_id,group,site,sex,age,age_at_onset,disease_duration\n"
    body = "".join(f"sub-{n},ALS,A,M,{60 + n},{57 + n},3\n" for n in range(6))
    text = head + body + "sub-9,control,A,F,60,,\n"
    assert cohort(text).warnings == (
        "disease_duration disagrees with age minus age_at_onset for 6 of 6 people when read in "
        "months, and agrees when read in years; write its unit as Units in participants.json",
    )
    assert not cohort(text, meanings=Meanings(units={"disease_duration": "year"})).warnings


def test_unlikely_ages_are_named():
    assert cohort(BASIC.replace("A,60", "A,6")).warnings == (
        "sub-1: age 6 lies outside 18 to 100 years",
    )
    with pytest.raises(BadInputError, match="sub-1: an age at onset of -3 years cannot be"):
        cohort(clinical("-3", "n/a"))


def test_a_slip_in_a_column_of_numbers_is_no_factor():
    people = "participant_id,group,site,education\n" + "".join(
        f"sub-{n},{'ALS' if n % 2 else 'control'},A,{n}\n" for n in range(1, 11)
    )
    columns = Columns(covariates=("education",))
    with pytest.raises(
        BadInputError, match="sub-7, education: '7y' is not a number; write 7 alone"
    ):
        cohort(people.replace(",7\n", ",7y\n"), columns=columns)
    unused = cohort(people.replace(",7\n", ",7y\n"), columns=Columns(covariates=()))
    assert unused.table["education"].iat[6] == "7y"
    assert "no model uses education, so it is kept as words" in unused.notes[0]
    stages = cohort(
        with_column("kings", "1", "4A", "4B", "2"), columns=Columns(covariates=("kings",))
    )
    assert stages.table["kings"].tolist() == ["1", "4A", "4B", "2"]


def test_numbers_in_place_of_text_are_read_alike():
    frame = table(BASIC).astype({"age": float})
    frame.loc[3, "age"] = np.nan
    found = build_cohort(frame, None, None, None, Columns())
    np.testing.assert_array_equal(found.table["age"], [60, np.nan, 62, 63])


def test_decimal_commas_are_noted():
    text = BASIC.replace(",60,", ',"60,5",')
    assert cohort(text).notes == ("participants.tsv: decimal commas in age",)


def test_nobody_gets_younger():
    sessions = "participant_id,session_id,age\nsub-1,1,60\nsub-1,2,59\nsub-2,1,61\nsub-2,2,62\n"
    warnings = cohort(sessions=sessions).warnings
    assert warnings == ("sub-1: age goes down over the sessions (60, 59)",)
