import numpy as np
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.participants import Columns, clean_people
from alsflow.nodes.stats.tables import parse_table

HEAD = "participant_id\tgroup\tsite\tage\tsex\n"


def clean(body: str, columns: Columns | None = None, head: str = HEAD, levels=None):
    return clean_people(
        parse_table(head + body, "participants.tsv"), columns or Columns(), levels or {}
    )


def test_spellings_become_one():
    people = clean(
        "sub-1\tals\t1\t60\tm\nsub-2\tALS\t01\t61\tFemale\n3\t Healthy  Control\t1\t62\tF\n"
        "sub-4\tALS\tRio \t63\tMale\nsub-5\tHC\trio\t64\twoman\n"
    )
    assert (people.case, people.reference) == ("ALS", "control")
    assert list(people.table.index) == ["sub-1", "sub-2", "sub-3", "sub-4", "sub-5"]
    assert list(people.table["group"]) == ["ALS", "ALS", "control", "ALS", "control"]
    assert list(people.table["site"]) == ["1", "01", "1", "Rio", "Rio"]  # numbers are names
    assert list(people.table["sex"]) == ["male", "female", "female", "male", "female"]
    assert people.factors == ("sex",)
    assert people.notes == (
        "group: 'ALS', 'als' are taken as one, 'ALS'",
        "site: 'Rio', 'rio' are taken as one, 'Rio'",
        "site: '01', '1' look alike and are kept apart; give them one spelling if they are the "
        "same",
    )
    assert not people.reasons


def test_unknown_cells_keep_a_person_out_with_a_reason():
    people = clean(
        "sub-1\tALS\tA\tn/a\tm\nsub-2\tcontrol\t\t61\tn/a\nsub-3\tn/a\tA\t62\tF\n"
        "sub-4\tALS\tA\t63\tO\n"
    )
    assert people.reasons == {
        "sub-1": "age n/a in participants.tsv",
        "sub-2": "site and sex n/a in participants.tsv",
        "sub-3": "group n/a in participants.tsv",
        "sub-4": "sex is O, for which the model has no term",
    }
    assert np.isnan(people.table.at["sub-1", "age"])


def test_other_groups_are_left_out_by_name():
    people = clean("sub-1\tALS\tA\t60\tm\nsub-2\tcontrol\tA\t61\tf\nsub-3\tPLS\tA\t62\tF\n")
    assert people.reasons == {"sub-3": "group is PLS, neither ALS nor control"}


def test_the_only_other_group_is_the_one_compared():
    people = clean("sub-1\tpatient\tA\t60\tm\nsub-2\tCN\tA\t61\tf\n", Columns(reference="cn"))
    assert (people.case, people.reference) == ("patient", "cn")
    assert list(people.table["group"]) == ["patient", "cn"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sub-1\tALS\tA\t60\tm\nsub-1\tcontrol\tA\t61\tf\n", "lists sub-1 more than once"),
        ("sub-1\tALS\tA\t60\tm\n1\tcontrol\tA\t61\tf\n", "lists sub-1 more than once"),
        ("sub-1\tALS\tA\t60\tm\nsub-2\tALS\tA\t61\tf\n", "nobody of the reference group"),
        ("sub-1\tPLS\tA\t60\tm\nsub-2\tPMA\tA\t6\tf\nsub-3\thc\tA\t6\tf\n", "must be called ALS"),
        ("sub-1\tcontrol\tA\t60\tm\n", "must be called ALS"),
        ("sub-1\tALS\tA\t60\t1\nsub-2\tcontrol\tA\t61\t0\n", "sub-1: sex is '1'.*more than one"),
        ("sub-1\tALS\tA\tsixty\tm\nsub-2\tcontrol\tA\t61\tf\n", "sub-1, age: 'sixty' is not a"),
        ("sub-1\tALS\tA\t0\tm\nsub-2\tcontrol\tA\t61\tf\n", "sub-1: an age of 0 years"),
        ("sub-1\tALS\tA\t121\tm\nsub-2\tcontrol\tA\t61\tf\n", "an age of 121"),
        ("n/a\tALS\tA\t60\tm\nsub-2\tcontrol\tA\t61\tf\n", "line 2: participant_id is empty"),
    ],
)
def test_doubtful_tables_are_refused(body, message):
    with pytest.raises(BadInputError, match=message):
        clean(body)


@pytest.mark.parametrize("name", ["participant_id", "group", "site", "age", "sex"])
def test_a_missing_column_is_named(name):
    with pytest.raises(BadInputError, match=f"no column {name} .*add it"):
        clean("sub-1\tALS\tA\t60\tm\n", head=HEAD.replace(name, "other"))


def test_one_centre_without_a_site_column():
    people = clean(
        "sub-1\tALS\t60\tm\nsub-2\tcontrol\t61\tf\n",
        Columns(site=""),
        head="participant_id\tgroup\tage\tsex\n",
    )
    assert "site" not in people.table


def test_words_outrank_the_sidecar_and_codes_follow_it():
    levels = {"M": "Male participants", "0": "female", "1": "male"}
    people = clean("sub-1\tALS\tA\t60\tM\nsub-2\tcontrol\tA\t61\t0\n", levels=levels)
    assert list(people.table["sex"]) == ["male", "female"]


def test_further_covariates_are_numbers_or_factors():
    people = clean(
        "sub-1\tALS\tA\t60\t12\tleft\nsub-2\tcontrol\tA\t61\tn/a\tright\n",
        Columns(covariates=("age", "education", "hand")),
        head="participant_id\tgroup\tsite\tage\teducation\thand\n",
    )
    assert people.factors == ("hand",)
    assert people.table.at["sub-1", "education"] == 12.0
    assert people.reasons == {"sub-2": "education n/a in participants.tsv"}
