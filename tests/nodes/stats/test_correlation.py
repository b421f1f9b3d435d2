import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.correlation import correlate, correlation_matrix, partial_correlation
from alsflow.nodes.stats.design import NotEstimableError


@pytest.fixture
def table():
    rng = np.random.default_rng(2)
    n = 60
    people = pd.DataFrame(
        {
            "age": rng.normal(60, 10, n),
            "sex": rng.choice(["F", "M"], n),
            "site": rng.choice(["A", "B", "C", "D"], n),
        },
        index=[f"sub-{i:02d}" for i in range(n)],
    )
    shared = people["age"] / 10 + people["site"].map({"A": 0, "B": 1, "C": 2, "D": -2})
    people["fa"] = shared + rng.normal(size=n)
    people["taps"] = np.round(shared + rng.normal(size=n))  # has ties
    people.loc["sub-03", "fa"] = np.nan
    people.loc[["sub-04", "sub-05"], "taps"] = np.nan
    people.loc["sub-06", "site"] = np.nan
    return people


def residual(rows, name, given):
    dummies = pd.get_dummies(rows[given], drop_first=True).astype(float)
    return sm.OLS(rows[name], sm.add_constant(dummies)).fit().resid


def test_partial_correlation_is_that_of_the_residuals(table):
    given = ["age", "sex", "site"]
    rows = table.dropna()
    left, right = (residual(rows, name, given) for name in ("fa", "taps"))
    found = partial_correlation(table, "fa", "taps", covariates=["age"], factors=["sex", "site"])
    assert found.r == pytest.approx(np.corrcoef(left, right)[0, 1])
    assert (found.n, found.k, found.df) == (56, 5, 49)  # age 1, sex 1, four sites 3
    slope = sm.OLS(rows["fa"], sm.add_constant(
        pd.get_dummies(rows[["taps", *given]], drop_first=True).astype(float))).fit()  # fmt: skip
    assert (found.value, found.p) == pytest.approx((slope.tvalues["taps"], slope.pvalues["taps"]))
    assert np.arctanh(found.ci_high) - np.arctanh(found.r) == pytest.approx(
        stats.norm.isf(0.025) / np.sqrt(56 - 5 - 3)
    )
    assert found.coding.startswith("sex: 1 columns of 0 and 1, F is 0 in all; site: 3 columns")
    assert found.people == tuple(rows.index)
    assert found.r < correlate(table, "fa", "taps").r - 0.2  # age and site were shared


def test_without_covariates_it_is_the_plain_one(table):
    plain, partial = correlate(table, "fa", "taps"), partial_correlation(table, "fa", "taps")
    assert plain.r == pytest.approx(partial.r)
    assert (plain.n, plain.df, partial.k) == (57, 55, 0)


@pytest.mark.parametrize("method", ["pearson", "spearman", "kendall"])
def test_each_pair_against_scipy(table, method):
    both = table[["fa", "taps"]].dropna()
    function = {"pearson": stats.pearsonr, "spearman": stats.spearmanr,
                "kendall": stats.kendalltau}[method]  # fmt: skip
    expected = function(both["fa"], both["taps"])
    found = correlate(table, "fa", "taps", method=method)
    assert (found.r, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.n == 57
    assert found.ci_low < found.r < found.ci_high


@pytest.mark.parametrize("method", ["spearman", "kendall"])
def test_limits_of_rank_correlations_hold_their_level(method):
    rng = np.random.default_rng(6)
    rho, n = 0.6, 40
    truth = 6 / np.pi * np.arcsin(rho / 2) if method == "spearman" else 2 / np.pi * np.arcsin(rho)
    inside = []
    for _ in range(400):
        x, noise = rng.normal(size=(2, n))
        table = pd.DataFrame({"x": x, "y": rho * x + np.sqrt(1 - rho**2) * noise})
        found = correlate(table, "x", "y", method=method)
        inside.append(found.ci_low < truth < found.ci_high)
    assert 0.92 < np.mean(inside) < 0.99


def test_matrix_has_the_people_of_each_pair(table):
    r, p, n = correlation_matrix(table.assign(flat=1.0), ["fa", "taps", "age", "flat"])
    assert (n.loc["fa", "taps"], n.loc["fa", "fa"], n.loc["age", "fa"]) == (57, 59, 59)
    np.testing.assert_array_equal(r, r.T)
    assert p.loc["taps", "age"] == correlate(table, "age", "taps").p
    assert r.loc["flat"].isna().all()
    assert r.loc["age", "age"] == 1
    assert np.isnan(p.loc["age", "age"])


def test_the_same_twice_is_one():
    table = pd.DataFrame({"x": np.arange(9.0), "y": -2 * np.arange(9.0)})
    found = correlate(table, "x", "y")
    assert (found.r, found.p, found.ci_low) == (pytest.approx(-1), pytest.approx(0), -1)


def test_what_cannot_be_told_is_refused(table):
    with pytest.raises(NotEstimableError, match="age and months carry the same information"):
        partial_correlation(
            table.assign(months=12 * table["age"]), "fa", "taps", covariates=["age", "months"]
        )
    with pytest.raises(NotEstimableError, match="half is 2 for all"):
        correlate(table.assign(half=2.0), "fa", "half")
    with pytest.raises(NotEstimableError, match="6 people .* leave 4 degrees"):
        correlate(table.tail(6), "fa", "taps")
    with pytest.raises(NotEstimableError, match="degrees of freedom"):
        partial_correlation(table.tail(10), "fa", "taps", covariates=["age"], factors=["site"])
    with pytest.raises(BadInputError, match="sex of sub-00 is '[FM]', which is no number"):
        partial_correlation(table, "fa", "taps", covariates=["sex"])
    with pytest.raises(BadInputError, match="no column md"):
        correlate(table, "fa", "md")
    with pytest.raises(BadInputError, match="fa cannot be correlated and held"):
        partial_correlation(table, "fa", "taps", covariates=["fa"])
    with pytest.raises(BadInputError, match="pearson or spearman"):
        partial_correlation(table, "fa", "taps", method="kendall")
    with pytest.raises(BadInputError, match="must be one of"):
        correlate(table, "fa", "taps", method="tau")


def test_a_site_of_all_takes_no_freedom(table):
    found = partial_correlation(table.assign(site="A"), "fa", "taps", factors=["site"])
    assert found.k == 0
