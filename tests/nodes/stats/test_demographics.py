import numpy as np
import pandas as pd
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.demographics import (
    check_counts,
    check_moments,
    demographics,
    pooled_moments,
    smd_counts,
    smd_numbers,
)
from alsflow.nodes.stats.design import NotEstimableError


@pytest.fixture
def people():
    rng = np.random.default_rng(4)
    table = pd.DataFrame(
        {
            "group": ["ALS"] * 20 + ["HC"] * 15 + ["PLS"],
            "age": rng.normal(60, 8, 36),
            "sex": rng.choice(["F", "M"], 36),
            "stage": [1.0, 2.0, 3.0, np.nan] * 5 + [np.nan] * 16,
            "months": [*rng.gamma(2, 12, 20), *[np.nan] * 16],
            "site": rng.choice(["A", "B", "C"], 36),
        },
        index=[f"sub-{i:02d}" for i in range(36)],
    )
    table.loc["sub-00", "age"] = np.nan
    return table


def made(table, **more):
    settings = {
        "group": "group", "groups": ["ALS", "HC"], "numbers": ["age", "months"],
        "counts": ["sex", "stage"], "within": {"months": "ALS", "stage": "ALS"},
    }  # fmt: skip
    return demographics(table, **settings | more)


def row(found, variable, level=""):
    rows = found.rows
    return rows[(rows["variable"] == variable) & (rows["level"] == level)].iloc[0]


def test_numbers_have_people_missing_and_moments(people):
    found = made(people)
    age = row(found, "age")
    assert (age["n_ALS"], age["missing_ALS"], age["n_HC"], age["n_total"]) == (19, 1, 15, 34)
    assert age["mean_ALS"] == pytest.approx(people["age"][:20].mean())
    assert age["sd_total"] == pytest.approx(people["age"][:35].std())
    assert (age["test"], age["other_test"]) == ("welch", "mannwhitney")
    assert 0 < age["p"] != age["other_p"] < 1
    assert found.checks == ()
    assert found.notes == ("1 people of no group compared are left out",)


def test_counts_have_levels_that_add_up_and_both_tests(people):
    found = made(people)
    women, men = row(found, "sex", "F"), row(found, "sex", "M")
    assert women["count_ALS"] + men["count_ALS"] == women["n_ALS"] == 20
    assert women["percent_HC"] + men["percent_HC"] == pytest.approx(100)
    assert (women["test"], women["other_test"]) == ("fisher", "chi2, not corrected")
    assert women["odds_low"] < women["odds_ratio"] < women["odds_high"]
    assert np.isnan(men["p"])
    share = women["percent_ALS"] - women["percent_HC"]
    assert np.sign(women["smd"]) == np.sign(share) == np.sign(np.log(women["odds_ratio"]))


def test_what_one_group_alone_can_have_is_not_compared(people):
    found = made(people)
    months, stage = row(found, "months"), row(found, "stage", "1")
    assert months["note"] == stage["note"] == "only ALS can have it: not compared"
    assert (months["n_HC"], months["missing_total"]) == (0, 0)
    assert (stage["count_ALS"], stage["missing_ALS"], stage["percent_ALS"]) == (
        5, 5, pytest.approx(100 / 3),
    )  # fmt: skip
    unsaid = made(people, within={})
    assert "nobody of the group HC" in row(unsaid, "months")["note"]
    assert "nobody of the group HC" in row(unsaid, "stage", "1")["note"]


def test_the_setting_decides_the_test_of_numbers(people):
    skewed = people.assign(age=np.exp(people["age"] / 5))
    assert row(made(skewed, test="student"), "age")["test"] == "student"
    auto = row(made(skewed, test="auto"), "age")
    assert (auto["test"], auto["other_test"], auto["statistic"]) == ("mannwhitney", "welch", "U")
    assert "Shapiro-Wilk" in auto["note"]


@pytest.mark.parametrize(
    ("test", "name", "other"),
    [("welch", "Welch's ANOVA", "kruskal"), ("student", "one-way ANOVA", "kruskal"),
     ("mannwhitney", "kruskal", "Welch's ANOVA")],
)  # fmt: skip
def test_several_groups(people, test, name, other):
    found = made(people, group="site", groups=["A", "B", "C"], within={}, test=test,
                 numbers=["age"], counts=["sex", "group"])  # fmt: skip
    age, sex = row(found, "age"), row(found, "sex", "F")
    assert (age["test"], age["other_test"], age["df"]) == (name, other, 2)
    assert np.isnan(age["smd"])
    assert (sex["df"], np.isnan(sex["odds_ratio"])) == (2, True)
    assert found.checks == ()


def test_one_group_is_described_only(people):
    found = made(people, groups=["ALS"])
    assert row(found, "age")["note"] == "not compared: there is only one group"
    assert row(found, "sex", "F")["note"] == "not compared: there is only one group"


def test_nothing_is_called_matched(people):
    found = made(people.assign(age=np.arange(36) % 5 + 50.0))
    words = found.rows.astype(str).to_string() + " ".join((*found.checks, *found.notes))
    assert "match" not in words.lower()


def test_a_variable_of_nobody_and_a_flat_one(people):
    table = people.assign(flat=3.0, none=np.nan, empty=None)
    found = made(table, numbers=["flat", "none"], counts=["empty"], within={})
    assert "the value is 3 for all 35 people" in row(found, "flat")["note"]
    assert "nobody of the group ALS" in row(found, "none")["note"]
    assert found.checks == ("empty: nobody has a value",)


def test_groups_without_a_common_category_have_no_standardised_difference(people):
    """Infinity is no number for a table of results."""
    people["sex"] = ["F"] * 20 + ["M"] * 16
    found = made(people)
    sex = found.rows[found.rows["variable"] == "sex"].iloc[0]
    assert np.isnan(sex["smd"])
    assert "share no category" in sex["note"]
    assert sex["p"] < 1e-6


def test_standardised_differences():
    rng = np.random.default_rng(1)
    x, y = rng.normal(1, 1, 50_000), rng.normal(0, 2, 100)
    expected = (x.mean() - y.mean()) / np.sqrt((x.var(ddof=1) + y.var(ddof=1)) / 2)
    assert smd_numbers(x, y) == pytest.approx(expected)
    p, q = 13 / 39, 19 / 32
    by_hand = (p - q) / np.sqrt((p * (1 - p) + q * (1 - q)) / 2)
    assert smd_counts([[13, 26], [19, 13]]) == pytest.approx(by_hand)
    assert smd_counts([[13, 0, 26], [19, 0, 13]]) == pytest.approx(by_hand)
    several = smd_counts([[5, 10, 15], [10, 10, 10]])
    assert several == pytest.approx(smd_counts([[15, 5, 10], [10, 10, 10]]))  # order is nothing
    assert several > 0
    assert smd_counts([[10, 0], [0, 5]]) == np.inf
    assert np.isnan(smd_counts([[0, 0], [5, 5]]))
    assert np.isnan(smd_numbers([1.0], [2.0, 3]))


def test_moments_of_groups_make_those_of_all():
    rng = np.random.default_rng(7)
    groups = [rng.normal(m, s, n) for m, s, n in ((3, 1, 8), (5, 2, 21), (4, 1, 13))]
    joined = np.concatenate(groups)
    found = pooled_moments(*zip(*((len(g), g.mean(), g.std(ddof=1)) for g in groups), strict=True))
    assert found == pytest.approx((42, joined.mean(), joined.std(ddof=1)))


def test_printed_totals_are_checked():
    """Age at onset of a published table: the total varies more than its groups can."""
    problem = check_moments("age at onset", [32, 7], [56.0, 56.0], [11.77, 11.57], 56.0, 13.23)
    assert problem.startswith("age at onset: the total of 56 ± 13.23 is not that of its groups")
    assert check_moments("age", [32, 7], [56.0, 56.0], [11.77, 11.57], 56.0, 11.6) == ""
    assert check_counts("El Escorial", [11, 19, 9, 12], 52) == (
        "El Escorial: the categories add up to 51 of 52 people, and nobody is said to be missing"
    )
    assert check_counts("El Escorial", [11, 19, 9, 12], 52, 1) == ""


def test_values_of_a_group_that_cannot_have_them_are_told(people):
    people.loc[["sub-20", "sub-21"], "months"] = 12.0
    assert made(people).checks == (
        "months: 2 people of HC have a value that only ALS can have",
    )  # fmt: skip


def test_refusals(people):
    with pytest.raises(BadInputError, match="age of sub-03 is '61,5', which is no number"):
        made(people.astype({"age": object}).assign(
            age=lambda t: t["age"].where(t.index != "sub-03", "61,5")))  # fmt: skip
    with pytest.raises(BadInputError, match="no column height"):
        made(people, numbers=["height"])
    with pytest.raises(NotEstimableError, match="nobody is of the group AD"):
        made(people, groups=["AD", "HC"])
    with pytest.raises(BadInputError, match="must be one of"):
        made(people, test="t")


@pytest.mark.realdata
def test_published_shape(shared_data):
    """Sex and age as recomputed from the first cohort's table."""
    table = pd.read_csv(shared_data / "stats_reference" / "taiwan_subjects.csv")
    found = made(table, numbers=["age", "disease_duration"], counts=["sex", "kings_stage"],
                 within={"disease_duration": "ALS", "kings_stage": "ALS"})  # fmt: skip
    sex = row(found, "sex", "F")
    assert (sex["count_ALS"], sex["count_HC"]) == (13, 19)
    assert (round(sex["p"], 3), round(sex["other_p"], 3)) == (0.034, 0.028)
    assert row(found, "age")["p"] == pytest.approx(0.116, abs=5e-4)
    assert found.checks == ()
