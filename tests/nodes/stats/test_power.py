import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.power import TTestIndPower

from alsflow.benchmarks.power_curve import curve
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.power import (
    correlation_power,
    correlation_sample_size,
    detectable_correlation,
    detectable_difference,
    plan_from_data,
    power_table,
    sample_size,
    t_power,
    two_group_power,
)

N = 20_000  # cohorts


def test_formula_meets_simulation():
    """Two groups, group with site in an uneven cohort, and a correlation."""
    rows = list(curve(N, np.random.default_rng(1)))
    assert len(rows) == 15
    for name, effect, formula, found in rows:
        error = np.sqrt(formula * (1 - formula) / N)
        assert abs(found - formula) < 3.3 * error + 0.004, (name, effect)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_unequal_groups_against_statsmodels(ratio):
    n = sample_size(0.6, power=0.9, ratio=ratio)
    assert n == pytest.approx(TTestIndPower().solve_power(0.6, power=0.9, alpha=0.05, ratio=ratio))
    assert two_group_power(0.6, n, ratio * n) == pytest.approx(0.9)


def test_size_power_and_effect_are_one_relation():
    d = detectable_difference(np.sqrt(1 / 39 + 1 / 32), 69)
    assert two_group_power(d, 39, 32) == pytest.approx(0.8)
    assert sample_size(d, ratio=32 / 39) == pytest.approx(39)
    r = detectable_correlation(52)
    assert correlation_power(r, 52) == pytest.approx(0.8)
    assert correlation_sample_size(-r) == pytest.approx(52)
    assert correlation_sample_size(r, k=3) == pytest.approx(55)


@pytest.mark.parametrize("ncp", [0.0, 1e-8, 40.0, 500.0])
def test_power_far_out_is_a_number(ncp):
    assert t_power(ncp, 3) == pytest.approx(0.05 if ncp < 1 else 1.0, abs=1e-6)
    assert t_power(-ncp, 3) == t_power(ncp, 3)


def test_no_number_finds_nothing():
    assert np.isnan(sample_size(0.0))
    assert np.isnan(sample_size(np.nan))
    assert np.isnan(sample_size(1e-5))
    assert np.isnan(correlation_sample_size(0.0))
    assert np.isnan(detectable_correlation(4))
    with pytest.raises(BadInputError, match="alpha must be above 0"):
        sample_size(0.5, power=0.01)


def test_plan_of_two_groups():
    found = plan_from_data(residual_sd=0.03, n_case=52, n_reference=52, estimate=-0.02,
                           declared=0.015)  # fmt: skip
    assert found.n_for_declared == (64, 64)  # d = 0.5: 63.77
    assert found.power_for_declared == pytest.approx(two_group_power(0.5, 52, 52))
    assert found.detectable / 0.03 == pytest.approx(found.detectable_d)
    assert two_group_power(found.detectable_d, 52, 52) == pytest.approx(0.8)
    n = found.n_for_observed[0]
    assert two_group_power(2 / 3, n, n) >= 0.8 > two_group_power(2 / 3, n - 1, n - 1)
    nothing = plan_from_data(residual_sd=0.03, n_case=52, n_reference=52, estimate=0.0)
    assert nothing.n_for_observed == nothing.n_for_declared == (0, 0)
    assert np.isnan(nothing.power_for_declared)


def test_an_uneven_spread_over_sites_has_its_price():
    """The standard error of the model says it: here sites double the variance."""
    plain = 0.03 * np.sqrt(1 / 38 + 1 / 35)
    given = {"residual_sd": 0.03, "n_case": 38, "n_reference": 35, "estimate": 0.02}
    alone = plan_from_data(**given)
    uneven = plan_from_data(**given, se=plain * np.sqrt(2), df=67)
    assert uneven.inflation == pytest.approx(2)
    assert uneven.detectable / alone.detectable == pytest.approx(np.sqrt(2), rel=0.01)
    assert uneven.n_for_observed[0] / alone.n_for_observed[0] == pytest.approx(2, rel=0.08)
    repeated = plan_from_data(**given | {"estimate": uneven.detectable}, se=plain * 2**0.5, df=67)
    assert repeated.n_for_observed == (38, 35)


def test_plans_of_a_registry():
    tests = pd.DataFrame(
        {"measure": ["fa", "md", "rd"], "n_case": [20, 20, 0], "n_control": [22, 18, 0],
         "df": pd.array([38, 34, pd.NA]), "estimate": [0.02, -0.1, np.nan],
         "se": [0.01, 0.05, np.nan], "residual_sd": [0.03, 0.2, np.nan]}
    )  # fmt: skip
    found = power_table(tests, {"md": 0.15}).set_index("measure")
    assert list(found.index) == ["fa", "md"]
    assert np.isnan(found.loc["fa", "declared"])
    assert found.loc["md", "power_for_declared"] == pytest.approx(t_power(3.0, 34))
    edge = stats.t.isf(0.025, 38)
    assert found.loc["fa", "detectable"] > edge * 0.01


def test_plans_are_of_people_and_of_groups():
    row = {"analysis": "a", "outcome": "fa", "measure": "n/a", "kind": "groups", "n_case": 20,
           "n_control": 20, "df": 38, "estimate": 1.0, "se": 0.5, "residual_sd": 1.6,
           "pseudoreplicated": False}  # fmt: skip
    others = [row, row | {"kind": "correlation"}, row | {"pseudoreplicated": True}]
    found = power_table(pd.DataFrame(others))
    assert list(found["outcome"]) == ["fa"]
    assert list(found["analysis"]) == ["a"]


def test_no_spread_no_power():
    with pytest.raises(BadInputError, match="two people in each group"):
        plan_from_data(residual_sd=0.0, n_case=5, n_reference=5, estimate=1.0)
