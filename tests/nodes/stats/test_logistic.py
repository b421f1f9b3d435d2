"""Logistic regression against closed forms, statsmodels and brute force."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import optimize, stats
from scipy.special import expit

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.logistic import fit_logistic


def cohort(n=80, seed=2):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({
        "fa": rng.normal(0.4, 0.03, n),
        "age": rng.normal(60, 10, n),
        "onset": rng.choice(["spinal", "bulbar", "other"], n),
    })  # fmt: skip
    eta = -20 * (table["fa"] - 0.4) + 0.03 * (table["age"] - 60) + (table["onset"] == "spinal")
    return table, pd.Series(rng.random(n) < expit(eta))


def crossed(a, b, c, d):
    """People of a 2 x 2 table: exposed cases, exposed others, unexposed cases, the rest."""
    exposed = np.repeat([1.0, 1.0, 0.0, 0.0], [a, b, c, d])
    return pd.DataFrame({"exposed": exposed}), pd.Series(
        np.repeat([1, 0, 1, 0], [a, b, c, d]) == 1
    )


def test_odds_ratio_of_a_two_by_two_table():
    fit = fit_logistic(*crossed(12, 5, 7, 16))
    exposed = fit.coefficients[1]
    assert exposed.odds_ratio == pytest.approx(12 * 16 / (5 * 7), rel=1e-9)
    assert exposed.se == pytest.approx(np.sqrt(1 / 12 + 1 / 5 + 1 / 7 + 1 / 16), rel=1e-9)
    assert (fit.n, fit.n_positive, fit.df) == (40, 19, 38)


def test_firth_adds_half_a_person_to_each_cell():
    """Also where a cell is empty and maximum likelihood has no answer."""
    for cells in ((12, 5, 7, 16), (9, 0, 6, 11)):
        a, b, c, d = np.array(cells) + 0.5
        exposed = fit_logistic(*crossed(*cells), method="firth").coefficients[1]
        assert exposed.odds_ratio == pytest.approx(a * d / (b * c), rel=1e-8)
    with pytest.raises(NotEstimableError, match=r"exposed tells the two groups apart.*firth"):
        fit_logistic(*crossed(9, 0, 6, 11))


def test_against_statsmodels():
    table, positive = cohort()
    fit = fit_logistic(table, positive, outcome="ALS")
    dummies = pd.get_dummies(table["onset"], dtype=float)[["other", "spinal"]]
    X = sm.add_constant(pd.concat([table[["fa", "age"]], dummies], axis=1))
    other = sm.Logit(positive.astype(float), X).fit(disp=0, tol=1e-12, method="newton")
    for stat, values in (
        ("estimate", other.params), ("se", other.bse), ("z", other.tvalues), ("p", other.pvalues),
        ("ci_low", other.conf_int()[0]), ("ci_high", other.conf_int()[1]),
    ):  # fmt: skip
        found = [getattr(c, stat) for c in fit.coefficients]
        np.testing.assert_allclose(found, values, rtol=1e-6)
    assert fit.log_likelihood == pytest.approx(other.llf, rel=1e-10)
    assert fit.null_deviance == pytest.approx(-2 * other.llnull, rel=1e-10)
    assert [c.name for c in fit.coefficients] == [
        "intercept", "fa", "age", "onset[other]", "onset[spinal]",
    ]  # fmt: skip
    assert fit.coding == ("onset: other and spinal against bulbar",)
    assert fit.model == "logit(ALS) ~ fa + age + onset"
    np.testing.assert_allclose(fit.probability(table), other.predict(X), rtol=1e-7)


def test_people_are_matched_by_name():
    table, positive = cohort()
    one = fit_logistic(table[["fa"]], positive)
    assert fit_logistic(table[["fa"]], positive[::-1]).coefficients[1] == one.coefficients[1]
    with pytest.raises(BadInputError, match="0 has no ill"):
        fit_logistic(table, positive[1:].rename("ill"))


def test_odds_ratio_per_standard_deviation():
    table, positive = cohort()
    fa = fit_logistic(table[["fa"]], positive).coefficients[1]
    scaled = table[["fa"]] / table["fa"].std(ddof=1)
    unit = fit_logistic(scaled, positive).coefficients[1]
    assert fa.odds_ratio_sd == pytest.approx(unit.odds_ratio)
    assert fa.odds_ratio_sd_low == pytest.approx(unit.odds_ratio_low)
    assert np.isnan(fit_logistic(table, positive).coefficients[3].odds_ratio_sd)


@pytest.mark.parametrize("method", ["ml", "firth"])
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_unit_of_a_predictor_does_not_matter(method, scale):
    table, positive = cohort()
    one = fit_logistic(table[["fa", "age"]], positive, method=method).coefficients[1]
    other = fit_logistic(
        table[["fa", "age"]].assign(fa=table["fa"] * scale), positive, method=method
    ).coefficients[1]
    for stat in ("estimate", "se", "ci_low", "ci_high"):
        assert getattr(other, stat) * scale == pytest.approx(getattr(one, stat), rel=1e-6)
    assert other.p == pytest.approx(one.p, rel=1e-6)


def penalised(beta, X, y):
    mu = expit(X @ beta)
    _, size = np.linalg.slogdet(X.T @ ((mu * (1 - mu))[:, None] * X))
    return -(y @ np.log(mu) + (1 - y) @ np.log(1 - mu) + size / 2)


def test_firth_against_brute_force():
    """Estimate, profile limits and p, with a general optimiser in place of the score equations."""
    table, positive = cohort(40)
    standard = (table[["fa", "age"]] - table[["fa", "age"]].mean()) / table[["fa", "age"]].std()
    X, y = np.column_stack([np.ones(40), standard]), positive.to_numpy(float)
    options = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000}
    best = optimize.minimize(penalised, np.zeros(3), (X, y), "Nelder-Mead", options=options)
    fit = fit_logistic(standard, positive, method="firth")
    np.testing.assert_allclose([c.estimate for c in fit.coefficients], best.x, atol=1e-6)

    def fall(value):
        def held(rest):
            return penalised(np.insert(rest, 1, value), X, y)

        rest = optimize.minimize(held, best.x[[0, 2]], method="Nelder-Mead", options=options)
        return 2 * (rest.fun - best.fun)

    fa = fit.coefficients[1]
    assert fall(fa.ci_low) == pytest.approx(stats.chi2.ppf(0.95, 1), rel=1e-5)
    assert fall(fa.ci_high) == pytest.approx(stats.chi2.ppf(0.95, 1), rel=1e-5)
    assert fa.p == pytest.approx(stats.chi2.sf(fall(0.0), 1), rel=1e-5)
    assert np.isnan(fa.z)


def test_separation_by_several_predictors_together():
    table, _ = cohort(40)
    positive = table["fa"] - 0.003 * table["age"] > 0.22
    with pytest.raises(NotEstimableError, match="a combination of the predictors tells"):
        fit_logistic(table[["fa", "age"]], positive)


def test_groups_that_all_but_separate_are_fitted():
    """One person of each group beyond the other: a finite, if large, estimate."""
    x = np.arange(30.0)
    positive = pd.Series(x >= 15)
    positive[[14, 15]] = [True, False]
    slope = fit_logistic(pd.DataFrame({"x": x}), positive).coefficients[1]
    assert 0.5 < slope.estimate < 5
    positive[[14, 15]] = [False, True]
    with pytest.raises(NotEstimableError, match="x tells the two groups apart"):
        fit_logistic(pd.DataFrame({"x": x}), positive)


def test_refusals_name_what_is_wrong():
    table, positive = cohort()
    with pytest.raises(NotEstimableError, match="dose is 3 for all 80 people"):
        fit_logistic(table.assign(dose=3.0), positive)
    with pytest.raises(NotEstimableError, match="age and months tell the same"):
        fit_logistic(table.assign(months=12 * table["age"]), positive)
    with pytest.raises(NotEstimableError, match="all 80 people are of one group"):
        fit_logistic(table, positive | True)
    with pytest.raises(NotEstimableError, match="leave 4 residual degrees of freedom"):
        fit_logistic(table[["fa", "age"]].iloc[:7], positive[:7])
    with pytest.raises(BadInputError, match=r"age of 5 is not known \(1 such people\)"):
        fit_logistic(table.assign(age=table["age"].where(table.index != 5)), positive)
    fit = fit_logistic(table, positive)
    with pytest.raises(NotEstimableError, match="onset of 0 is axial, which nobody has"):
        fit.probability(table.assign(onset="axial"))


def test_few_people_per_predictor_are_noted():
    table, positive = cohort()
    rare = int(min(positive.sum(), (~positive).sum()))
    assert 20 < rare < 40  # four columns: too few; one: enough
    assert "fewer than 10 each" in fit_logistic(table, positive).notes[0]
    assert fit_logistic(table[["fa"]], positive).notes == ()
