from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.two_groups import (
    choose_test,
    compare_groups,
    describe,
    kruskal_wallis,
    levene,
    one_way,
    rank_biserial,
    rank_test,
    shapiro,
    t_test,
    variance_ratio,
)

RNG = np.random.default_rng(3)
CASE, REFERENCE = RNG.normal(1, 2, 19), RNG.normal(0, 1, 31)
LABELS = ["ALS"] * 19 + ["HC"] * 31


def compared(values, labels=LABELS, **more):
    return compare_groups(values, labels, case="ALS", reference="HC", **more)


def test_everything_is_case_minus_reference():
    there = compared([*CASE, *REFERENCE])
    back = compare_groups([*CASE, *REFERENCE], LABELS, case="HC", reference="ALS")
    assert there.welch.estimate == pytest.approx(CASE.mean() - REFERENCE.mean())
    for name in ("welch", "student"):
        one, other = getattr(there, name), getattr(back, name)
        assert one.t == pytest.approx(-other.t)
        assert (one.ci_low, one.ci_high) == pytest.approx((-other.ci_high, -other.ci_low))
        assert one.t == pytest.approx(one.estimate / one.se)
    for name in ("hedges", "cohen", "rank_biserial"):
        one, other = getattr(there, name), getattr(back, name)
        assert (one.value, one.ci_low) == pytest.approx((-other.value, -other.ci_high))
        assert one.ci_low < one.value < one.ci_high
    assert there.ranks.u + back.ranks.u == 19 * 31
    assert there.rank_biserial.value == pytest.approx(2 * there.ranks.u / (19 * 31) - 1)


@pytest.mark.parametrize(
    ("test", "name"), [("welch", "t"), ("student", "t"), ("mannwhitney", "U")]
)
def test_the_test_that_was_set_counts_and_the_others_are_there(test, name):
    found = compared([*CASE, *REFERENCE], test=test)
    assert (found.test, found.why) == (test, f"{test}: as set")
    assert found.statistic[0] == name
    expected = {"welch": found.welch.p, "student": found.student.p, "mannwhitney": found.ranks.p}
    assert found.p == expected[test]
    assert len(set(expected.values())) == 3
    assert np.isnan(found.df) == (test == "mannwhitney")
    assert found.effect.name == ("rank_biserial" if test == "mannwhitney" else "hedges_g")


def test_exact_ranks_are_those_of_all_orders():
    x, y = np.array([1.2, 3.4, 5.0, 9.9]), np.array([0.3, 2.0, 2.5])
    both, u = np.array([*x, *y]), (x[:, None] > y).sum()
    all_u = []
    for chosen in combinations(range(7), 4):
        inside = np.isin(np.arange(7), chosen)
        all_u.append((both[inside][:, None] > both[~inside]).sum())
    extreme = np.abs(np.array(all_u) - 6) >= abs(u - 6)
    found = rank_test(x, y)
    assert found.exact
    assert found.u == u
    assert found.p == found.p_exact == pytest.approx(extreme.mean())


@pytest.mark.parametrize(
    ("n1", "n2", "tie", "exact"),
    [(20, 20, False, True), (20, 21, False, False), (20, 20, True, False)],
)
def test_ranks_are_exact_up_to_400_pairs_without_ties(n1, n2, tie, exact):
    x, y = np.arange(n1) * 1.0, np.arange(n2) + 0.5
    if tie:
        y[0] = x[3]
    found = rank_test(x, y)
    assert found.exact == exact
    assert found.p == (found.p_exact if exact else found.p_corrected)
    assert np.isnan(found.p_exact) != exact
    assert found.p_uncorrected < found.p_corrected
    assert found.p_uncorrected == pytest.approx(2 * stats.norm.sf(abs(found.z)))
    assert ("exact" in found.method) == exact


def test_ranks_do_not_see_a_monotone_change():
    plain, bent = (rank_test(f(CASE), f(REFERENCE)) for f in (np.asarray, np.exp))
    assert plain == bent


def test_welch_holds_its_level_where_student_does_not():
    """A small group that varies more."""
    rng = np.random.default_rng(8)
    x, y = rng.normal(0, 3, (2000, 8)), rng.normal(0, 1, (2000, 40))
    p = np.array([[t_test(a, b, pooled=q).p for q in (False, True)]
                  for a, b in zip(x, y, strict=True)])  # fmt: skip
    welch, student = (p < 0.05).mean(axis=0)
    assert welch == pytest.approx(0.05, abs=0.015)
    assert student > 0.15


@pytest.mark.parametrize(
    ("change", "n", "expected", "why"),
    [
        (np.asarray, 8, "welch", "p at least"),
        (np.asarray, 7, "mannwhitney", "7 people, fewer than 8"),
        (lambda x: np.exp(3 * x), 30, "mannwhitney", "Shapiro-Wilk p = "),
        (np.ones_like, 30, "mannwhitney", "do not vary"),
    ],
)
def test_auto_says_what_it_chose_and_why(change, n, expected, why):
    normal = stats.norm.ppf((np.arange(40) + 0.5) / 40)
    few = change(stats.norm.ppf((np.arange(n) + 0.5) / n))
    found = compared([*few, *normal], ["ALS"] * n + ["HC"] * 40, test="auto")
    assert found.test == expected
    assert why in found.why
    assert choose_test(normal, few)[0] == expected  # either group may fail


def test_auto_with_more_people_than_shapiro_takes():
    x = stats.norm.ppf((np.arange(5001) + 0.5) / 5001)
    assert choose_test(x, x + 1) == ("welch", "auto: more than 5000 people in each group")
    assert "3 to 5000" in shapiro(x).reason
    assert choose_test(x, np.exp(x[::10]))[0] == "mannwhitney"


def test_missing_is_counted_and_left_out():
    values = np.array([*CASE, *REFERENCE])
    values[[0, 1, 40]] = np.nan
    found = compared(values)
    assert [(one.n, one.missing) for one in found.described] == [(17, 2), (30, 1)]
    scipy = stats.ttest_ind(CASE[2:], np.delete(REFERENCE, 21), equal_var=False)
    assert (found.welch.t, found.welch.p) == pytest.approx((scipy.statistic, scipy.pvalue))
    other = compare_groups([*CASE, *REFERENCE, 99.0], [*LABELS, "?"], case="ALS", reference="HC")
    assert other.welch.p == compared([*CASE, *REFERENCE]).welch.p


def test_describe_nobody_and_one():
    nobody = describe([np.nan, np.nan])
    assert (nobody.n, nobody.missing) == (0, 2)
    assert np.isnan([nobody.mean, nobody.sd, nobody.median, nobody.minimum]).all()
    one = describe([4.0])
    assert (one.mean, one.median, one.q1) == (4.0, 4.0, 4.0)
    assert np.isnan([one.sd, one.se]).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([2.5] * 50, "the value is 2.5 for all 50 people"),
        ([1.0] * 19 + [2.0] * 31, "the same for all people of each group"),
        ([np.nan] * 19 + [*REFERENCE], "nobody of the group ALS"),
        ([1.0] + [np.nan] * 18 + [*REFERENCE], "only one person of the group ALS"),
        (
            [1.0, 2, 4] + [np.nan] * 16 + [1.0, 5, 3] + [np.nan] * 28,
            "6 people in 2 groups leave 4",
        ),
    ],
)
def test_refusals_say_why(values, message):
    with pytest.raises(NotEstimableError, match=message):
        compared(values)


def test_unknown_tests_are_refused():
    with pytest.raises(BadInputError, match="it must be one of welch, student"):
        compared([*CASE, *REFERENCE], test="wilcoxon")


def test_seven_people_are_enough():
    assert compared([1.0, 2, 4, 3, 8, 6, 7], ["ALS"] * 3 + ["HC"] * 4).student.df == 5


def test_apart_groups_have_an_effect_without_limits():
    found = rank_biserial([5.0, 6, 7], [1.0, 2, 3])
    assert found.value == 1
    assert np.isnan([found.ci_low, found.ci_high]).all()


def test_limits_of_the_rank_biserial_hold_their_level():
    rng = np.random.default_rng(4)
    x, y = rng.normal(0.5, 1, (1500, 25)), rng.normal(0, 1, (1500, 25))
    truth = 2 * stats.norm.cdf(0.5 / np.sqrt(2)) - 1
    found = [rank_biserial(a, b) for a, b in zip(x, y, strict=True)]
    inside = np.mean([one.ci_low < truth < one.ci_high for one in found])
    assert 0.92 < inside < 0.96  # .935: Fisher's z with this error is a little narrow


def test_two_groups_by_analysis_of_variance_are_those_by_t():
    for name, pooled in (("welch", False), ("student", True)):
        t, f = t_test(CASE, REFERENCE, pooled=pooled), one_way([CASE, REFERENCE], name)
        assert (f.f, f.df1, f.df2, f.p) == pytest.approx((t.t**2, 1, t.df, t.p))


def test_several_groups_against_scipy():
    groups = [CASE, REFERENCE, RNG.normal(0.4, 1, 12)]
    assert one_way(groups, "student").p == pytest.approx(stats.f_oneway(*groups).pvalue)
    h, df, p = kruskal_wallis(groups)
    assert (df, p) == (2, pytest.approx(stats.chi2.sf(h, 2)))
    assert levene(groups).p == pytest.approx(stats.levene(*groups).pvalue)
    with pytest.raises(NotEstimableError, match="for all people of a group"):
        one_way([CASE, np.ones(5)])


def test_variances():
    found, back = variance_ratio(CASE, REFERENCE), variance_ratio(REFERENCE, CASE)
    assert found.f == pytest.approx(1 / back.f)
    assert found.p == pytest.approx(back.p)
    assert (found.df1, found.df2) == (18, 30)
    assert levene([np.ones(4), np.ones(5)]).df2 == 7
    assert np.isnan(levene([np.ones(4), np.ones(5)]).p)
