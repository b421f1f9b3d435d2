"""ROC curves against loops over pairs, and against what their limits promise."""

import itertools

import numpy as np
import pandas as pd
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.proportions import mean_of_two, proportion
from alsflow.nodes.stats.roc import (
    accuracy,
    accuracy_at,
    compare_rocs,
    marker_roc,
    roc,
    within_site_auc,
    youden,
)


def tied_sample(seed=3, m=13, n=17):
    """Small whole numbers, so that many values are tied."""
    rng = np.random.default_rng(seed)
    positive = np.arange(m + n) < m
    return rng.integers(0, 8, m + n) + 2.0 * positive, positive


def wins(cases, controls):
    """(m, n) matrix: 1 where the case is above the control, .5 where they tie."""
    return np.array([[(a > b) + 0.5 * (a == b) for b in controls] for a in cases])


def test_area_and_variance_are_those_of_all_pairs():
    values, positive = tied_sample()
    table = wins(values[positive], values[~positive])
    found = roc(values, positive, direction="high")
    assert found.auc == pytest.approx(table.mean(), rel=1e-14)
    variance = table.mean(1).var(ddof=1) / 13 + table.mean(0).var(ddof=1) / 17
    assert found.variance == pytest.approx(variance, rel=1e-12)
    assert (found.n_positive, found.n_negative, found.n) == (13, 17, 30)
    area_of_curve = np.trapezoid(found.sensitivity, 1 - np.array(found.specificity))
    assert area_of_curve == pytest.approx(found.auc, rel=1e-12)


def test_limits_hold_the_true_area_as_often_as_they_say():
    """Normal markers one SD apart: the area is Phi(1 / sqrt 2)."""
    rng, positive, held = np.random.default_rng(4), np.arange(70) < 30, np.zeros(2)
    for _ in range(500):
        found = roc(rng.normal(size=70) + positive, positive, direction="high")
        held += [found.ci_low < 0.76025 < found.ci_high,
                 found.logit_low < 0.76025 < found.logit_high]  # fmt: skip
    assert (np.abs(held / 500 - 0.95) < 0.025).all()  # MC error .01


def test_limits_on_the_logit_scale_at_high_areas():
    values, positive = tied_sample()
    found = roc(values + 2 * positive, positive, direction="high")
    assert 0.85 < found.auc < 1
    assert found.logit_low < found.ci_low
    assert found.auc < found.logit_high < 1
    odds = np.array([found.logit_low, found.auc, found.logit_high])
    low, middle, high = np.log(odds / (1 - odds))
    assert middle - low == pytest.approx(high - middle)
    half = 1.959964 * found.se / (found.auc * (1 - found.auc))
    assert middle - low == pytest.approx(half, rel=1e-6)
    assert "too narrow" in found.notes[0]


def test_direction_is_declared():
    values, positive = tied_sample()
    high, low = (roc(values, positive, direction=d) for d in ("high", "low"))
    assert high.auc + low.auc == pytest.approx(1)
    assert high.auc > 0.6
    assert not high.notes
    guessed = roc(-values, positive, direction="auto")
    assert (guessed.direction, guessed.auc) == ("low", high.auc)
    assert "taken from the data" in guessed.notes[0]
    with pytest.raises(BadInputError, match="choose from high, low, auto"):
        roc(values, positive, direction="both")


def test_p_is_that_of_ranks():
    values, positive = tied_sample()
    found = roc(values, positive, direction="low")
    assert found.p == roc(values, positive, direction="high").p
    assert found.p == pytest.approx(roc(values + 10, positive, direction="high").p)
    assert 1e-4 < found.p < 0.2


def test_groups_without_overlap_have_exact_limits():
    """k pairs with nobody in common are all in order with probability AUC ** k."""
    positive = np.arange(30) < 12
    found = roc(positive * 5.0 + np.arange(30) / 100, positive, direction="high")
    assert (found.auc, found.variance, found.ci_high) == (1, 0, 1)
    assert found.ci_low**12 == pytest.approx(0.025, rel=1e-6)
    assert found.ci_method == "Clopper-Pearson, 12 pairs"
    wrong_way = roc(positive * 5.0 + np.arange(30) / 100, positive, direction="low")
    assert (wrong_way.auc, wrong_way.ci_low) == (0, 0)
    assert wrong_way.ci_high == pytest.approx(1 - found.ci_low)


def test_unknown_values_are_counted_and_impossible_ones_refused():
    values, positive = tied_sample()
    gap = values.copy()
    gap[[0, 20]] = np.nan
    found = roc(gap, positive, direction="high")
    kept = ~np.isnan(gap)
    assert (found.n_positive, found.n_negative, found.n_missing) == (12, 16, 2)
    assert found.auc == roc(values[kept], positive[kept], direction="high").auc
    with pytest.raises(BadInputError, match="infinite"):
        roc(np.where(np.isnan(gap), np.inf, gap), positive, direction="high")
    with pytest.raises(NotEstimableError, match="the value is 3 for all 30 people"):
        roc(np.full(30, 3.0), positive, direction="high")
    with pytest.raises(NotEstimableError, match="1 positive people have a value"):
        roc(values, np.arange(30) == 4, direction="high")


@pytest.mark.parametrize("direction", ["high", "low"])
def test_cutoff_of_youden_is_the_best_of_all(direction):
    values, positive = tied_sample()
    found = youden(roc(values, positive, direction=direction))
    seen = np.unique(values)
    scores = {}
    for cutoff in [-np.inf, *(seen[:-1] + seen[1:]) / 2, np.inf]:
        at = accuracy_at(values, positive, cutoff, direction=direction)
        scores[cutoff] = at.sensitivity.estimate + at.specificity.estimate - 1
    assert found.youden == pytest.approx(max(scores.values()))
    assert scores[found.value] == pytest.approx(found.youden)
    assert found.n_best == sum(np.isclose(list(scores.values()), found.youden))
    at = accuracy_at(values, positive, found.value, direction=direction)
    assert at.sensitivity.estimate == pytest.approx(found.sensitivity)
    assert at.specificity.estimate == pytest.approx(found.specificity)


def test_of_equally_good_cutoffs_the_most_sensitive_is_taken():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    found = youden(roc(values, np.array([0, 1, 0, 1]), direction="high"))
    assert (found.n_best, found.value, found.sensitivity) == (2, 1.5, 1.0)


def test_a_value_on_the_cutoff_is_called_positive():
    positive = np.array([1, 1, 0, 0])
    for direction, sign in (("high", 1), ("low", -1)):
        at = accuracy_at(sign * np.array([3.0, 2, 2, 1]), positive, 2 * sign, direction=direction)
        assert (at.true_positive, at.false_positive, at.true_negative) == (2, 1, 1)


def test_accuracy_counts():
    called = np.array([1, 1, 1, 0, 0, 0, 0, 1, 0, 0])
    positive = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    found = accuracy(called, positive)
    counts = found.true_positive, found.false_positive, found.true_negative, found.false_negative
    assert counts == (3, 1, 5, 1)
    assert found.sensitivity.estimate == 0.75
    assert found.specificity.estimate == pytest.approx(5 / 6)
    assert found.accuracy.estimate == 0.8
    assert found.balanced == pytest.approx((0.75 + 5 / 6) / 2)
    assert found.balanced_low < found.balanced < found.balanced_high
    nobody = accuracy(called[:4], positive[:4])
    assert nobody.specificity.total == 0
    assert np.isnan([nobody.specificity.estimate, nobody.balanced, nobody.balanced_low]).all()


def test_limits_of_balanced_accuracy_cover():
    rng, truth, held = np.random.default_rng(8), (0.85 + 0.6) / 2, 0
    for _ in range(400):
        shares = [proportion(rng.binomial(n, p), n) for n, p in ((25, 0.85), (35, 0.6))]
        _, low, high = mean_of_two(*shares)
        held += low < truth < high
    assert 0.92 < held / 400 < 0.98


def test_comparison_is_that_of_the_differences_of_placements():
    rng = np.random.default_rng(5)
    positive = np.arange(40) < 18
    first = rng.normal(size=40) + positive
    second = 0.5 * first - rng.normal(size=40)
    found = compare_rocs(first, second, positive, directions=("high", "low"))
    one, two = wins(first[positive], first[~positive]), wins(-second[positive], -second[~positive])
    assert found.difference == pytest.approx(one.mean() - two.mean())
    covariances = [np.cov(one.mean(axis), two.mean(axis)) for axis in (1, 0)]
    size = [c[0, 0] + c[1, 1] - 2 * c[0, 1] for c in covariances]
    assert found.se == pytest.approx(np.sqrt(size[0] / 18 + size[1] / 22))
    back = compare_rocs(second, first, positive, directions=("low", "high"))
    assert (back.z, back.p) == (pytest.approx(-found.z), pytest.approx(found.p))


def test_a_constant_marker_is_not_compared():
    values, positive = tied_sample()
    with pytest.raises(NotEstimableError, match="the value is 2 for all 30 people"):
        compare_rocs(values, np.full(30, 2.0), positive, directions=("high", "low"))


def test_a_marker_is_as_good_as_itself():
    values, positive = tied_sample()
    found = compare_rocs(values, 3 * values, positive, directions=("high", "high"))
    assert (found.difference, found.z, found.p) == (0, 0, 1)
    missing = values.copy()
    missing[1] = np.nan
    assert compare_rocs(values, missing, positive, directions=("high", "low")).n_missing == 1


def test_scanners_do_not_enter_the_area_within_sites():
    """A site shift of ten SD, and groups uneven over sites."""
    rng = np.random.default_rng(6)
    site = np.repeat(["A", "B", "C"], [30, 25, 9])
    positive = np.concatenate([np.arange(30) < 22, np.arange(25) < 6, np.ones(9, bool)])
    values = rng.normal(size=64) + 0.8 * positive
    shifted = values + 10 * (site == "B")
    found = within_site_auc(shifted, positive, site, direction="high")
    tables = [
        wins(values[(site == s) & positive], values[(site == s) & ~positive]) for s in ("A", "B")
    ]
    every = list(itertools.chain(*(table.ravel() for table in tables)))
    assert found.auc == pytest.approx(np.mean(every))
    assert (found.sites, found.left_out) == (("A", "B"), ("C",))
    share = np.array([table.size for table in tables]) / len(every)
    variance = [t.mean(1).var(ddof=1) / len(t) + t.mean(0).var(ddof=1) / len(t.T) for t in tables]
    assert found.se == pytest.approx(np.sqrt(share**2 @ variance))
    assert abs(roc(shifted, positive, direction="high").auc - found.auc) > 0.1
    with pytest.raises(NotEstimableError, match=r"no site has 2 people of both groups \(C\)"):
        within_site_auc(shifted[site == "C"], positive[site == "C"], ["C"] * 9, direction="high")


def test_perfect_order_within_sites_has_a_limit():
    """One site: the bound is a little wider than the exact one of `roc`."""
    positive = np.array([1, 0, 1, 0, 1, 0, 0, 1, 0, 0] * 4, bool)
    values, site = positive + np.arange(40) / 1000, np.repeat(["A", "B"], 20)
    alone = within_site_auc(values, positive, ["A"] * 40, direction="high")
    exact = roc(values, positive, direction="high")
    assert exact.ci_low - 0.03 < alone.ci_low < exact.ci_low
    both = within_site_auc(values + 9 * (site == "B"), positive, site, direction="high")
    assert (both.auc, both.se, both.ci_high) == (1, 0, 1)
    assert both.ci_low == pytest.approx(1 + np.log(0.025) * 12 / (2 * 8 * 12))
    wrong_way = within_site_auc(values, positive, ["A"] * 40, direction="low")
    assert (wrong_way.auc, wrong_way.ci_low) == (0, 0)
    assert wrong_way.ci_high == pytest.approx(1 - alone.ci_low)


def test_column_of_a_table():
    values, positive = tied_sample()
    table = pd.DataFrame({"fa": values, "group": np.where(positive, "ALS", "HC")})
    table.loc[len(table)] = [99.0, "mimic"]
    kind = {"group": "group", "case": "ALS", "reference": "HC", "direction": "high"}
    assert marker_roc(table, "fa", **kind) == roc(values, positive, direction="high")
    with pytest.raises(NotEstimableError, match="fa, ALS against HC: the value is 1"):
        marker_roc(table.assign(fa=1.0), "fa", **kind)
    with pytest.raises(BadInputError, match="no column md"):
        marker_roc(table, "md", **kind)
