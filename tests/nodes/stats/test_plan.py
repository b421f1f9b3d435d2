"""What a user may write under [[analysis]], and what he reads where he mistypes."""

import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.plan import both_sides, expand, parse_analyses
from alsflow.workflows.measures import catalogue

GOOD = {"name": "gm", "kind": "groups", "outcomes": ["family:motor"]}
COLUMNS = (
    "group", "site", "age", "sex", "gmv_precentral_both_tiv", "gmv_precentral_left_tiv",
    "gmv_precentral_right_tiv", "gmv_striatum_left_tiv", "fvc_percent", "mrc_sum_left",
    "mrc_sum_right",
)  # fmt: skip


def parse(**changes):
    return parse_analyses([{**GOOD, **changes}], "study.toml")[0]


def test_what_is_not_said_has_a_default():
    analysis = parse()
    assert analysis.test == "glm"
    assert analysis.site == "additive"
    assert analysis.family == analysis.title == "gm"
    assert analysis.correction == "fdr"
    assert analysis.mode == "sound"


def test_covariates_of_the_settings_stand_in_for_none():
    tables = [GOOD, {**GOOD, "name": "bare", "covariates": []},
              {**GOOD, "name": "plain", "test": "welch", "site": "none"}]  # fmt: skip
    adjusted, bare, plain = parse_analyses(tables, "study.toml", ("age", "sex"))
    assert adjusted.covariates == ("age", "sex")
    assert bare.covariates == plain.covariates == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"outcome": ["x"]}, "'outcome' is no key (did you mean 'outcomes'?)"),
        ({"kind": "group"}, "kind is 'group' (did you mean 'groups'?)"),
        ({"test": "welsh"}, "test is 'welsh' (did you mean 'welch'?)"),
        ({"site": "aditive"}, "site is 'aditive' (did you mean 'additive'?)"),
        ({"outcomes": "family:motor"}, 'outcomes is a list of names: write outcomes = ["...'),
        ({"outcomes": []}, "outcomes is empty"),
        ({"outcomes": ["age", "age"]}, "outcomes names 'age' twice"),
        ({"predictors": ["age"]}, "predictors has no meaning for the kind groups"),
        ({"kind": "regression"}, "predictors is empty"),
        ({"sums_of_squares": 4}, "sums_of_squares is '4'; it is one of 1, 2, 3"),
        ({"sums_of_squares": "3"}, "sums_of_squares is a whole number"),
        ({"name": "2nd"}, "name may hold letters, digits and _ only"),
        ({"test": "welch"}, "test is 'welch', which knows neither site nor covariates"),
        ({"people": "patients"}, "people is 'patients', but the kind groups compares groups"),
        ({"by": "onset"}, "levels is missing: name the two labels of onset"),
        ({"by": "onset", "levels": ["a"]}, "levels names two labels"),
        ({"sound": "gm"}, 'sound has a meaning beside mode = "paper" only'),
        ({"sound": "gn", "mode": "paper"}, "sound names no analysis: 'gn' (did you mean 'gm'?)"),
        ({"kind": "roc", "unit": "side"}, "unit is 'side', which only groups and regression know"),
        ({"kind": "roc", "test": "glm"}, "test has no meaning for the kind roc"),
    ],
)
def test_a_slip_is_named_with_file_analysis_and_key(changes, words):
    with pytest.raises(BadInputError) as caught:
        parse(**changes)
    assert str(caught.value).startswith("study.toml, analysis ")
    assert words in str(caught.value)


def test_two_sides_may_be_two_people_in_mode_paper_only():
    simple = {"test": "student", "site": "none", "unit": "side"}
    assert parse(**simple, mode="paper").test == "student"
    with pytest.raises(BadInputError, match="takes two sides for two people"):
        parse(**simple)


def test_a_family_is_corrected_in_one_way():
    tables = [GOOD, {**GOOD, "name": "other", "family": "gm", "correction": "holm"}]
    with pytest.raises(BadInputError, match="but gm of the same family gm says 'fdr'"):
        parse_analyses(tables)


def test_names_are_used_once():
    with pytest.raises(BadInputError, match="name is used twice"):
        parse_analyses([GOOD, GOOD])


def test_families_streams_and_scores_are_expanded():
    found = expand(["family:motor", "score:fvc_percent"], catalogue(), COLUMNS)
    assert found.names == ("gmv_precentral_both_tiv", "fvc_percent")
    found = expand(["stream:dwi", "family:tract_fa"], catalogue(), COLUMNS)
    assert found.names == ()
    assert found.empty == ("stream:dwi", "family:tract_fa")


def test_sides_of_a_measure_are_one_name_where_a_row_is_a_side():
    found = expand(["family:motor_side"], catalogue(), COLUMNS, sides=True)
    assert found.names == ("gmv_precentral_{side}_tiv", "gmv_striatum_left_tiv")
    assert both_sides("mrc_sum_{side}") == ("mrc_sum_left", "mrc_sum_right")
    alone = expand(["score:mrc_sum_{side}"], catalogue(), COLUMNS)
    assert alone.names == ("mrc_sum_left", "mrc_sum_right")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("gmv_precentral_both_tvi", "(did you mean 'gmv_precentral_both_tiv'?)"),
        ("family:motr", "there is no family 'motr' (did you mean 'motor'?)"),
        ("stream:dti", "there is no stream 'dti' (did you mean 'dwi'?)"),
        ("score:fvc_percnt", "there is no score 'fvc_percnt' (did you mean 'fvc_percent'?)"),
        ("famly:motor", "'famly:' is no prefix (did you mean 'family:'?)"),
        ("motor", "for the family write 'family:motor'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(entry, words):
    with pytest.raises(BadInputError) as caught:
        expand([entry], catalogue(), COLUMNS, where="study.toml, analysis gm: outcomes")
    assert str(caught.value).startswith("study.toml, analysis gm: outcomes: ")
    assert words in str(caught.value)


def test_a_profile_may_ask_for_what_a_study_has_not():
    found = expand(["score:something", "age"], catalogue(), COLUMNS, strict=False)
    assert found.names == ("age",)
    assert found.absent == ("something",)
