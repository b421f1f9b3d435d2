"""Bootstrap limits against scipy, closed forms, and their own promises."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.bootstrap import bootstrap, strata_of
from alsflow.nodes.stats.design import NotEstimableError


def rng(seed=5):
    return np.random.default_rng(seed)


def test_one_stratum_against_scipy():
    values = rng(1).gamma(2.0, size=40)
    ours = bootstrap(lambda rows: values[rows].var(), np.zeros(40), rng(), draws=8000)
    theirs = stats.bootstrap(
        (values,), np.var, n_resamples=8000, method="BCa", vectorized=True, rng=rng(2)
    )
    low, high = theirs.confidence_interval
    assert ours.bca_low == pytest.approx(low, abs=0.05 * (high - low))
    assert ours.bca_high == pytest.approx(high, abs=0.08 * (high - low))
    assert ours.bca_high > ours.percentile_high  # a skewed statistic that is too small on average
    assert ours.bias < 0


def test_acceleration_of_a_mean_is_its_skewness():
    """Efron: a = skewness / (6 sqrt n)."""
    values = rng(3).exponential(size=25)
    found = bootstrap(lambda rows: values[rows].mean(), np.zeros(25), rng(), draws=50)
    assert found.acceleration == pytest.approx(stats.skew(values) / (6 * 5), rel=1e-9)


def test_acceleration_of_a_difference_of_means():
    values, group = rng(4).exponential(size=30), np.repeat([0, 1], [18, 12])

    def difference(rows):
        return values[rows][group[rows] == 1].mean() - values[rows][group[rows] == 0].mean()

    found = bootstrap(difference, group, rng(), draws=50)
    parts = [values[group == g] - values[group == g].mean() for g in (0, 1)]
    third = (parts[1] ** 3).sum() / 12**3 - (parts[0] ** 3).sum() / 18**3
    second = (parts[1] ** 2).sum() / 12**2 + (parts[0] ** 2).sum() / 18**2
    assert found.acceleration == pytest.approx(third / (6 * second**1.5), rel=1e-9)


def test_every_draw_has_the_make_up_of_the_cohort():
    strata, counts = np.array([2, 0, 1, 0, 2, 2, 0, 1]), []
    bootstrap(
        lambda rows: counts.append(np.bincount(strata[rows])) or 1.0 * rows[0], strata, rng()
    )
    assert len({tuple(count) for count in counts if count.sum() == 8}) == 1


def test_strata_take_the_spread_between_sites_out():
    site = np.repeat([0, 1], 20)
    values = rng(6).normal(size=40) + 10 * site
    within = bootstrap(lambda rows: values[rows].mean(), site, rng())
    across = bootstrap(lambda rows: values[rows].mean(), np.zeros(40), rng())
    exact = np.sqrt(sum(values[site == s].var() / 20 for s in (0, 1)) / 4)
    assert within.se == pytest.approx(exact, rel=0.06)
    assert across.se > 4 * within.se


def test_the_seed_decides():
    values = rng(7).normal(size=20)
    one, same, other = (
        bootstrap(lambda rows: values[rows].mean(), np.zeros(20), rng(s), draws=200)
        for s in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_limits_hold_the_truth_as_often_as_they_say():
    generator, held = rng(8), 0
    for _ in range(150):
        values = generator.normal(size=60)
        found = bootstrap(
            lambda rows, v=values: v[rows].mean(), np.zeros(60), generator, draws=300
        )
        held += found.bca_low < 0 < found.bca_high
    assert 0.88 < held / 150 <= 0.99  # MC error .018


def test_draws_without_a_value_are_counted():
    """A share whose denominator can be empty: 4 of 40 people."""
    rare = np.arange(40) < 4

    def share(rows):
        if not rare[rows].any():
            raise NotEstimableError("nobody")
        return float(np.sum(rows[rare[rows]]))

    found = bootstrap(share, np.zeros(40), rng(), draws=2000)
    assert found.failed == pytest.approx(2000 * 0.9**40, abs=30)
    assert f"{found.failed} of 2000 draws" in found.notes[0]
    with pytest.raises(NotEstimableError, match="gave no value; the sample is too small"):
        bootstrap(lambda rows: np.nan if rows[0] else 1.0, np.zeros(40), rng(), draws=100)
    with pytest.raises(NotEstimableError, match="no value in the people themselves"):
        bootstrap(lambda rows: np.nan, np.zeros(40), rng())


def test_limits_at_the_edge_of_the_draws_are_pointed_out():
    """The maximum of a sample lies at the end of its bootstrap distribution."""
    values = rng(9).exponential(size=30)
    found = bootstrap(lambda rows: values[rows].max(), np.zeros(30), rng(), draws=400)
    assert "outermost draws" in found.notes[0]
    mean = bootstrap(lambda rows: values[rows].mean(), np.zeros(30), rng())
    assert mean.notes == ()


def test_other_errors_are_not_swallowed():
    with pytest.raises(KeyError):
        bootstrap(lambda rows: {}["gone"], np.zeros(5), rng())


def test_strata_from_a_table():
    table = pd.DataFrame(
        {"group": ["ALS", "HC", "ALS", "HC"], "site": ["B", "A", "B", "B"]}, index=list("wxyz")
    )
    codes = strata_of(table, "group", "site")
    assert len(set(codes)) == 3
    assert codes[0] == codes[2]
    found = bootstrap(lambda rows: rows.mean(), codes, rng(), draws=100)
    assert found.strata == 3
    assert "2 strata have one person" in found.notes[0]
    table.loc["y", "site"] = None
    with pytest.raises(BadInputError, match="group or site of y is not known"):
        strata_of(table, "group", "site")
