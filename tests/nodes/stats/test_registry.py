"""The registry: its identities, its families, what is refused and what is passed over."""

import tomllib

import numpy as np
import pandas as pd
import pytest
from reference_cohorts import analyses
from scipy import stats

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.analyses import run_analyses
from alsflow.nodes.stats.plan import parse_analyses
from alsflow.nodes.stats.registry import (
    ORDER,
    IdentityError,
    assert_identities,
    blank_row,
    correct,
    diffusion_faults,
)
from alsflow.nodes.stats.sample import Sample, by_side, site_outliers
from alsflow.workflows.measures import MEASURES_FILE, catalogue

N = 40
MOTOR = ("gmv_precentral_both_tiv", "gmv_striatum_both_tiv", "gmv_thalamus_both_tiv")


def sample(**changes):
    rng = np.random.default_rng(7)
    table = pd.DataFrame({"participant_id": [f"sub-{i:02d}" for i in range(N)]})
    table["session_id"] = "n/a"
    table["group"] = ["ALS", "control"] * (N // 2)
    table["site"] = ["A"] * (N // 2) + ["B"] * (N // 2)
    table["age"] = rng.normal(60, 8, N)
    table["sex"] = (["male"] * 3 + ["female"] * 2) * (N // 5)
    for name in MOTOR:
        table[name] = rng.normal(1, 0.1, N)
    table["fvc_percent"] = np.where(table["group"] == "ALS", rng.normal(80, 10, N), np.nan)
    table = table.assign(**changes)
    return Sample(table, site="site", factors=("sex",), scores=("fvc_percent",))


def run(*tables, strict=True, people=None):
    declared = parse_analyses(list(tables), "study.toml", ("age", "sex"))
    return run_analyses(people or sample(), declared, catalogue(), strict=strict,
                        source="study.toml")  # fmt: skip


GROUPS = {"name": "groups", "kind": "groups", "outcomes": ["family:motor"]}


def test_every_column_is_described():
    declared = tomllib.loads((MEASURES_FILE.parent / "group_columns.toml").read_text("utf-8"))
    assert set(declared["tests"]) == set(ORDER)
    assert list(run(GROUPS).tests.columns) == list(ORDER)


def test_a_refusal_is_a_row_and_does_not_count_in_its_family():
    whole = run(GROUPS).tests
    found = run(GROUPS, people=sample(gmv_striatum_both_tiv=1.0)).tests.set_index("outcome")
    row = found.loc[MOTOR[1]]
    assert row["status"] == "n/a"
    assert "1" in row["reason"]
    assert np.isnan(row["q"])
    kept = found.loc[[MOTOR[0], MOTOR[2]]]
    assert kept["q"].max() == pytest.approx(kept["p"].max())
    assert len(whole) == len(found) == 3


def test_confounding_of_site_and_group_is_a_refusal_that_names_the_sites():
    confounded = sample(site=["Here", "There"] * (N // 2))
    found = run(GROUPS, people=confounded).tests
    assert (found["status"] == "n/a").all()
    assert found["reason"].str.contains("ALS only at Here; control only at There").all()


def test_families_of_one_name_are_corrected_together_and_holm_is_not_fdr():
    first = {**GROUPS, "outcomes": [MOTOR[0], MOTOR[1]], "family": "both", "correction": "holm"}
    second = {**first, "name": "second", "outcomes": [MOTOR[2]]}
    found = run(first, second).tests.sort_values("p")
    expected = np.minimum(1, np.maximum.accumulate(found["p"].to_numpy() * [3, 2, 1]))
    np.testing.assert_allclose(found["q"], expected)


def test_each_measure_may_be_corrected_in_its_own_family():
    people = sample(tiv=np.random.default_rng(3).normal(1400, 90, N))
    declared = {**GROUPS, "outcomes": ["family:motor", "tiv"], "family": "catalogue"}
    found = run(declared, people=people).tests.set_index("outcome")
    assert list(found["family"]) == ["motor"] * 3 + ["whole_brain"]
    assert found.at["tiv", "q"] == found.at["tiv", "p"]


def test_complete_cases_are_counted_per_outcome_with_the_reason():
    people = sample()
    people.table.loc[[0, 3], MOTOR[0]] = np.nan
    people.table.loc[1, "age"] = np.nan
    row = run(GROUPS, people=people).tests.set_index("outcome").loc[MOTOR[0]]
    assert (row["n"], row["n_missing"], row["n_case"], row["n_control"]) == (37, 3, 19, 18)
    assert row["missing"] == f"sub-00, sub-03: no {MOTOR[0]}; sub-01: no age"
    assert row["missing_per_site"] == "A: 1 of 10 ALS, 2 of 10 control"
    assert row["n_per_site"] == "A: 9 ALS, 8 control; B: 10 ALS, 10 control"


def test_an_outlier_is_named_stays_in_and_the_model_is_run_without_it():
    people = sample()
    people.table.loc[5, MOTOR[0]] = 3.0
    row = run(GROUPS, people=people).tests.set_index("outcome").loc[MOTOR[0]]
    assert row["outliers"] == f"sub-05 ({MOTOR[0]})"
    assert row["n"] == N
    dropped = sample()
    dropped.table.loc[5, MOTOR[0]] = np.nan
    without = run(GROUPS, people=dropped).tests.set_index("outcome").loc[MOTOR[0]]
    assert row["p_without_outliers"] == pytest.approx(without["p"])


def test_outliers_are_those_of_their_site():
    values = pd.Series([1.0, 1.1, 0.9, 1.05, 5.0, 5.1, 4.9, 5.05, 1.0])
    table = pd.DataFrame({"site": list("AAAABBBBB")})
    assert site_outliers(values, table, "site") == ["8"]
    assert "8" not in site_outliers(values, table)


def test_a_limb_stands_beside_the_opposite_hemisphere():
    table = pd.DataFrame({"participant_id": ["sub-1"], "fa_left": [1.0], "fa_right": [2.0],
                          "mrc_left": [3.0], "mrc_right": [4.0]})  # fmt: skip
    rows = by_side(table, ["fa_{side}", "mrc_{side}"], ["mrc_{side}"])
    assert list(rows.index) == ["sub-1 left", "sub-1 right"]
    assert rows[["fa_{side}", "mrc_{side}"]].to_numpy().tolist() == [[1.0, 4.0], [2.0, 3.0]]


def test_what_nobody_has_is_a_row_for_a_user_and_a_note_for_a_profile():
    declared = {**GROUPS, "outcomes": ["gmv_precentral_both_tiv", "mrs_tnaa_tcr"]}
    strict = run(declared).tests.set_index("outcome")
    assert strict.at["mrs_tnaa_tcr", "status"] == "n/a"
    assert strict.at["mrs_tnaa_tcr", "reason"] == "nobody has mrs_tnaa_tcr"
    lenient = run(declared, strict=False)
    assert list(lenient.tests["outcome"]) == ["gmv_precentral_both_tiv"]
    assert "groups: nobody has mrs_tnaa_tcr" in lenient.notes


def test_an_unknown_covariate_is_refused_or_passed_over():
    declared = {**GROUPS, "covariates": ["agee"]}
    with pytest.raises(BadInputError, match="has no column 'agee' .did you mean 'age'"):
        run(declared)
    found = run(declared, {**GROUPS, "name": "second"}, strict=False)
    assert set(found.tests["analysis"]) == {"second"}
    assert "groups was passed over" in found.notes[0]


def test_the_default_profile_runs_on_whatever_is_there():
    found = run_analyses(sample(), analyses("default"), catalogue(), strict=False)
    tests = found.tests.set_index(["analysis", "outcome"])
    assert {"people", "groups", "scores_anat", "roc"} == set(found.tests["analysis"])
    assert (tests["status"] == "tested").all()
    assert tests.loc["scores_anat", "n"].eq(20).all()
    assert found.tables["people_demographics"]["variable"].tolist()[:2] == ["age", "sex"]


HALF = stats.t.ppf(0.975, 28)
P_OF_2 = 2 * stats.t.sf(2, 28)


def good_row(**changes):
    row = blank_row(
        analysis="a", kind="regression", family="f", correction="fdr", outcome="y", predictor="x",
        statistic="t", status="tested", n=30, n_people=30, df=28.0, estimate=2.0, se=1.0,
        ci_low=2 - HALF, ci_high=2 + HALF, t=2.0, p=P_OF_2,
        r2=0.125, p_model=P_OF_2,
    )  # fmt: skip
    return pd.DataFrame([row | changes])


def test_a_row_whose_numbers_agree_passes():
    assert_identities(good_row())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"t": 2.22}, "t is 2.22, but estimate and se give 2"),
        ({"p": 0.012, "p_model": 0.012}, "p is 0.012, but t and df give 0.0552"),
        ({"r2": 0.054}, "R2 is 0.054, but t and df give 0.125"),
        ({"p_model": 0.01}, "p of the model is 0.01"),
        ({"ci_high": 1.9}, "estimate 2 lies outside"),
        ({"ci_high": 5.0}, "the confidence interval is 5"),
        ({"n_case": 10, "n_control": 19}, "the groups add up to 29, not to n = 30"),
        ({"n_people": 31}, "31 people on 30 rows"),
        ({"r2": 1.2}, "r2 is 1.2, outside 0 to 1"),
    ],
)
def test_a_row_whose_numbers_contradict_each_other_is_not_written(changes, words):
    with pytest.raises(IdentityError) as caught:
        assert_identities(good_row(**changes))
    assert str(caught.value).startswith("a, y on x: ")
    assert words in str(caught.value)


def test_no_correction_leaves_q_open():
    assert correct(good_row(correction="none"))["q"].isna().all()


def test_diffusivities_that_do_not_add_up_are_pointed_out():
    table = pd.DataFrame({"md_x": [1.0, 1.0], "ad_x": [1.4, 1.4], "rd_x": [0.8, 0.9]},
                         index=["sub-1", "sub-2"])  # fmt: skip
    assert diffusion_faults(table.iloc[:1], ["md_x"]) == []
    assert "md_x of sub-2 is not (ad_x + 2 rd_x) / 3" in diffusion_faults(table, ["md_x"])[0]
