import numpy as np
import pytest
from scipy import stats

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats import counts
from alsflow.nodes.stats.counts import chi_squared, cross_table, fisher_exact
from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.proportions import proportion

SEXES = [[13, 26], [19, 13]]  # women and men of 39 patients and 32 controls


def test_tests_of_the_published_sexes():
    assert chi_squared(SEXES).p == pytest.approx(0.028, abs=5e-4)
    assert chi_squared(SEXES, yates=True).p == pytest.approx(0.051, abs=5e-4)
    assert fisher_exact(SEXES).p == pytest.approx(0.034, abs=5e-4)


def test_chi_squared_by_hand():
    found = chi_squared([[10, 20, 30], [6, 9, 15]])
    expected = np.outer([60, 30], [16, 29, 45]) / 90
    by_hand = ((np.array([[10, 20, 30], [6, 9, 15]]) - expected) ** 2 / expected).sum()
    assert (found.chi2, found.df) == (pytest.approx(by_hand), 2)
    assert found.note == ""


def test_small_expected_counts_are_told_and_yates_is_for_four_cells():
    found = chi_squared([[1, 5, 9], [4, 2, 6]], yates=True)
    assert "below 5: read the exact test" in found.note
    assert not found.yates
    assert found.chi2 == chi_squared([[1, 5, 9], [4, 2, 6]]).chi2


def test_empty_categories_do_not_count():
    assert chi_squared([[13, 0, 26], [19, 0, 13], [0, 0, 0]]) == chi_squared(SEXES)
    with pytest.raises(NotEstimableError, match="all people are of one category"):
        chi_squared([[13, 0], [19, 0]])


@pytest.mark.parametrize("table", [SEXES, [[3, 1], [1, 9]], [[0, 6], [7, 5]]])
def test_counting_out_is_fishers_test_of_four_cells(table):
    assert counts._exact_p(np.array(table)) == pytest.approx(stats.fisher_exact(table).pvalue)


def test_counting_out_against_shuffled_people():
    """The share of shuffles that give a table no more likely than the one seen."""
    table = np.array([[1, 6, 3], [4, 2, 1], [5, 1, 3]])
    rows = np.repeat(np.arange(3), table.sum(axis=1))
    columns = np.concatenate([np.repeat(np.arange(3), row) for row in table])
    rng = np.random.default_rng(1)

    def weight(counted):
        return -counts.gammaln(counted + 1).sum(axis=(-2, -1))

    shuffled = np.array([np.bincount(3 * rows + rng.permutation(columns), minlength=9)
                         for _ in range(8000)]).reshape(-1, 3, 3)  # fmt: skip
    share = (weight(shuffled) <= weight(table) + 1e-7).mean()
    found = fisher_exact(table)
    assert found.p == pytest.approx(share, abs=0.015)
    assert found.p == pytest.approx(fisher_exact(table.T).p)
    assert "no odds ratio" in found.note


def test_too_many_tables_are_not_counted(monkeypatch):
    monkeypatch.setattr(counts, "TABLES_MAX", 10)
    found = fisher_exact([[5, 6, 7], [8, 6, 4]])
    assert np.isnan(found.p)
    assert "read the chi-squared" in found.note


def test_odds_ratio_of_an_empty_cell_has_one_limit():
    found = fisher_exact([[0, 8], [6, 4]])
    assert found.odds_ratio == 0
    assert found.ci_low == 0
    assert 0 < found.ci_high < 1


@pytest.mark.parametrize("table", [[[1, -1], [2, 3]], [[0.5, 1], [2, 3]], [1, 2]])
def test_what_is_no_table_is_refused(table):
    with pytest.raises(BadInputError, match="whole numbers"):
        chi_squared(table)


def test_cross_table():
    table = cross_table(["a", "b", "a", "c"], ["x", "x", "y", "y"], ["a", "b"], ["x", "y"])
    np.testing.assert_array_equal(table, [[1, 1], [1, 0]])


def test_limits_of_a_share_put_the_tails_where_they_belong():
    exact, wilson = proportion(7, 20, "clopper"), proportion(7, 20)
    assert stats.binom.sf(6, 20, exact.ci_low) == pytest.approx(0.025)
    assert stats.binom.cdf(7, 20, exact.ci_high) == pytest.approx(0.025)
    for limit in (wilson.ci_low, wilson.ci_high):  # where the score test is just significant
        score = (0.35 - limit) ** 2 / (limit * (1 - limit) / 20)
        assert score == pytest.approx(stats.chi2.isf(0.05, 1))
    assert (proportion(0, 9, "clopper").ci_low, proportion(9, 9, "clopper").ci_high) == (0, 1)
    assert np.isnan(proportion(0, 0).estimate)
    with pytest.raises(BadInputError, match="5 of 4 is no proportion"):
        proportion(5, 4)
    with pytest.raises(BadInputError, match="wilson or clopper"):
        proportion(1, 4, "wald")
