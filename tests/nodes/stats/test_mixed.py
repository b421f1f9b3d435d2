"""Mixed models against closed forms, brute force and a second program."""

import warnings

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.mixed import fit_mixed
from alsflow.nodes.stats.profiled import hessian, jacobian, relative_factor, theta_of


def one_way(between=2.0, people=12, visits=4, seed=3):
    """Balanced table of one mean; returns outcome, ones and people."""
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(people), visits)
    values = 40 + between * rng.standard_normal(people)[ids] + rng.standard_normal(len(ids))
    return values, np.ones((len(ids), 1)), ids


def visits_of_people(seed=1, people=30, slope_sd=0.4, correlation=0.3, once=4):
    """Unbalanced visits with random intercepts and slopes; a covariate of the person."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(2, 6, people)
    counts[:once] = 1
    ids = np.repeat(np.arange(people), counts)
    months = np.concatenate([3.0 * np.arange(n) + rng.uniform(0, 1, n) for n in counts])
    spread = np.array(
        [[4.0, 2 * slope_sd * correlation], [2 * slope_sd * correlation, slope_sd**2]]
    )
    own = rng.multivariate_normal([0, 0], spread, people)
    age = rng.normal(60, 8, people)[ids]
    noise = 0.7 * rng.standard_normal(len(ids))
    values = 30 + 0.1 * age - 0.5 * months + own[ids, 0] + own[ids, 1] * months + noise
    fixed = np.column_stack([np.ones(len(ids)), months, age])
    return values, fixed, ids, np.column_stack([np.ones(len(ids)), months])


COLUMNS = ("intercept", "months", "age")
RANDOM = ("intercept", "months")


@pytest.fixture(scope="module", params=[True, False], ids=["REML", "ML"])
def slopes(request):
    values, fixed, ids, random = visits_of_people()
    fit = fit_mixed(values, fixed, COLUMNS, ids, random, RANDOM, reml=request.param)
    same = ids[:, None] == ids[None, :]
    cover = same * (random @ fit.random.covariance @ random.T)
    return fit, values, fixed, ids, random, cover + fit.residual_sd**2 * np.eye(len(ids))


def test_a_balanced_table_has_a_closed_form():
    values, ones, ids = one_way()
    fit = fit_mixed(values, ones, ("intercept",), ids)
    means = values.reshape(12, 4).mean(axis=1)
    within = ((values - means[ids]) ** 2).sum() / (12 * 3)
    between = 4 * means.var(ddof=1)
    np.testing.assert_allclose(fit.component("residual").variance, within, rtol=1e-7)
    np.testing.assert_allclose(
        fit.component("intercept").variance, (between - within) / 4, rtol=1e-7
    )
    effect = fit.effect("intercept")
    student = stats.ttest_1samp(means, 0)
    np.testing.assert_allclose(effect.statistic, student.statistic, rtol=1e-7)
    np.testing.assert_allclose(effect.df, 11, rtol=1e-6)
    np.testing.assert_allclose(
        [effect.ci_low, effect.ci_high], student.confidence_interval(), rtol=1e-7
    )
    shrink = (between - within) / between
    predicted = dict(zip(fit.random.groups, fit.random.predicted[:, 0], strict=True))
    np.testing.assert_allclose(
        [predicted[str(k)] for k in range(12)], shrink * (means - means.mean()), rtol=1e-7
    )
    assert not fit.singular
    assert fit.converged


def test_a_variance_of_zero_is_found_and_said():
    """Means closer than chance: lme4 and the closed form at its bound give plain least squares."""
    values, ones, ids = one_way()
    for person in range(12):
        values[ids == person] -= 0.98 * (values[ids == person].mean() - 40)
    fit = fit_mixed(values, ones, ("intercept",), ids)
    assert fit.singular
    assert fit.component("intercept").variance == 0
    plain = stats.ttest_1samp(values, 0)
    np.testing.assert_allclose(fit.effect("intercept").statistic, plain.statistic, rtol=1e-9)
    np.testing.assert_allclose(fit.effect("intercept").df, 47, rtol=1e-6)
    assert any("singular fit" in note for note in fit.notes)


def test_randomised_blocks_give_the_f_of_anova():
    rng = np.random.default_rng(8)
    table = rng.standard_normal((9, 1)) * 2 + rng.standard_normal((9, 3)) + [0, 0.5, 1.0]
    ids, drug = np.repeat(np.arange(9), 3), np.tile(np.arange(3), 9)
    fixed = np.column_stack([np.ones(27), drug == 1, drug == 2]).astype(float)
    fit = fit_mixed(table.ravel(), fixed, ("intercept", "b", "c"), ids)
    test = fit.fixed.joint(np.eye(3)[1:], "drug")
    left = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    f = 9 * table.mean(0).var(ddof=1) / ((left**2).sum() / 16)
    np.testing.assert_allclose([test.f, test.df1, test.df2], [f, 2, 16], rtol=1e-6)
    np.testing.assert_allclose(test.p, stats.f.sf(f, 2, 16), rtol=1e-6)
    one = fit.fixed.joint(np.eye(3)[1], "b")
    np.testing.assert_allclose(one.f, fit.effect("b").statistic ** 2, rtol=1e-9)
    np.testing.assert_allclose(one.p, fit.effect("b").p, rtol=1e-9)


def test_the_likelihood_is_that_of_the_normal_distribution(slopes):
    fit, values, fixed, _, _, cover = slopes
    inverse = np.linalg.inv(cover)
    inner = fixed.T @ inverse @ fixed
    beta = np.linalg.solve(inner, fixed.T @ inverse @ values)
    loglik = stats.multivariate_normal(fixed @ beta, cover).logpdf(values)
    if fit.reml:
        loglik += 3 / 2 * np.log(2 * np.pi) - np.linalg.slogdet(inner)[1] / 2
    np.testing.assert_allclose(fit.quality.loglik, loglik, rtol=1e-10)
    np.testing.assert_allclose(fit.fixed.coefficients, beta, rtol=1e-8)
    np.testing.assert_allclose(fit.fixed.covariance, np.linalg.inv(inner), rtol=1e-7)
    assert fit.quality.n_parameters == 3 + 3 + 1
    np.testing.assert_allclose(fit.quality.aic, 14 - 2 * loglik, rtol=1e-10)
    np.testing.assert_allclose(fit.quality.bic, 7 * np.log(len(values)) - 2 * loglik, rtol=1e-10)


def test_predictions_and_effective_df_by_brute_force(slopes):
    fit, values, fixed, ids, random, cover = slopes
    inverse = np.linalg.inv(cover)
    left = values - fixed @ fit.fixed.coefficients
    for position, person in enumerate(fit.random.groups):
        z = np.where((ids == int(person))[:, None], random, 0)
        expected = fit.random.covariance @ z.T @ inverse @ left
        np.testing.assert_allclose(fit.random.predicted[position], expected, rtol=1e-6, atol=1e-9)
    scaled = inverse * fit.residual_sd**2
    inner = np.linalg.inv(fixed.T @ scaled @ fixed)
    trace = len(values) - np.trace(scaled - scaled @ fixed @ inner @ fixed.T @ scaled)
    np.testing.assert_allclose(fit.quality.effective_df, trace, rtol=1e-8)
    inside = stats.norm(fit.fitted, fit.residual_sd).logpdf(values).sum()
    np.testing.assert_allclose(fit.quality.conditional_aic, 2 * (trace + 1) - 2 * inside)


def test_no_other_variances_are_likelier(slopes):
    fit, values, fixed, ids, random, _ = slopes
    rng = np.random.default_rng(0)
    same = ids[:, None] == ids[None, :]
    root = np.linalg.cholesky(fit.random.covariance)
    for _ in range(20):
        other = root * (1 + 0.1 * rng.standard_normal((2, 2)))
        sigma = fit.residual_sd * (1 + 0.1 * rng.standard_normal())
        cover = same * (random @ other @ other.T @ random.T) + sigma**2 * np.eye(len(ids))
        inverse = np.linalg.inv(cover)
        inner = fixed.T @ inverse @ fixed
        beta = np.linalg.solve(inner, fixed.T @ inverse @ values)
        loglik = stats.multivariate_normal(fixed @ beta, cover).logpdf(values)
        if fit.reml:
            loglik += 3 / 2 * np.log(2 * np.pi) - np.linalg.slogdet(inner)[1] / 2
        assert loglik < fit.quality.loglik


@pytest.mark.parametrize("seed", range(6))
def test_slopes_that_do_not_vary_end_at_the_boundary_or_near(seed):
    """Variances of zero are where statsmodels breaks off; here the fit is as likely as without."""
    values, fixed, ids, random = visits_of_people(seed, slope_sd=0.0)
    with_slopes = fit_mixed(values, fixed, COLUMNS, ids, random, RANDOM)
    without = fit_mixed(values, fixed, COLUMNS, ids)
    assert with_slopes.converged
    gain = 2 * (with_slopes.quality.loglik - without.quality.loglik)
    assert -1e-6 < gain < 12
    assert np.isfinite([one.df for one in with_slopes.effects]).all()
    if with_slopes.singular:
        assert np.linalg.matrix_rank(with_slopes.random.covariance, tol=1e-6) < 2


def test_units_and_order_of_rows_do_not_matter():
    values, fixed, ids, random = visits_of_people()
    fit = fit_mixed(values, fixed, COLUMNS, ids, random, RANDOM)
    days = np.array([1, 30.4, 365.0])
    order = np.random.default_rng(2).permutation(len(ids))
    other = fit_mixed(
        1e-6 * values[order], fixed[order] * days, COLUMNS, ids[order], random[order] * days[:2],
        RANDOM,
    )  # fmt: skip
    for one, two in zip(fit.effects, other.effects, strict=True):
        np.testing.assert_allclose([one.statistic, one.df], [two.statistic, two.df], rtol=1e-5)
    np.testing.assert_allclose(
        fit.component("intercept", "months").size,
        other.component("months", "intercept").size,
        rtol=1e-4,
    )
    np.testing.assert_allclose(other.fitted, 1e-6 * fit.fitted[order], rtol=1e-6)


@pytest.mark.parametrize("reml", [True, False])
def test_statsmodels_agrees_where_it_behaves(reml):
    values, fixed, ids, random = visits_of_people(people=60, slope_sd=0.6)
    fit = fit_mixed(values, fixed, COLUMNS, ids, random, RANDOM, reml=reml)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = sm.MixedLM(values, fixed, ids, exog_re=random).fit(reml=reml, method="bfgs")
    assert other.converged
    np.testing.assert_allclose(fit.fixed.coefficients, other.fe_params, rtol=1e-4)
    np.testing.assert_allclose([one.se for one in fit.effects], other.bse_fe, rtol=3e-3)
    np.testing.assert_allclose(fit.random.covariance, other.cov_re, rtol=1e-2)
    assert fit.quality.loglik >= other.llf - 1e-6


def test_shares_of_variance():
    values, fixed, ids, _ = visits_of_people(slope_sd=0.0)
    quality = fit_mixed(values, fixed, COLUMNS, ids).quality
    assert 0 < quality.r2_marginal < quality.r2_conditional < 1
    flat = fit_mixed(values - fixed[:, 1:] @ [-0.5, 0.1], fixed[:, :1], ("intercept",), ids)
    assert flat.quality.r2_marginal == pytest.approx(0, abs=1e-12)
    between = flat.component("intercept").variance
    share = between / (between + flat.residual_sd**2)
    assert flat.quality.r2_conditional == pytest.approx(share)


def refuse(message, values=None, fixed=None, ids=None, random=None, columns=COLUMNS):
    usual = visits_of_people()
    given = (values, fixed, ids, random)
    values, fixed, ids, random = (usual[k] if one is None else one for k, one in enumerate(given))
    with pytest.raises(NotEstimableError, match=message):
        fit_mixed(values, fixed, columns, ids, random, RANDOM)


def test_refusals_name_what_is_missing():
    values, fixed, ids, random = visits_of_people()
    four = ids < 8
    refuse("4 people cannot fix a variance between people; at least 5",
           values[four], fixed[four], ids[four] // 2, random[four])  # fmt: skip
    doubled = np.column_stack([fixed, fixed[:, 2] * 12])
    refuse("age and age_months carry the same", fixed=doubled, columns=(*COLUMNS, "age_months"))
    first = np.unique(ids, return_index=True)[1]
    refuse("none of the 30 people has two rows",
           values[first], fixed[first] + np.arange(30)[:, None] * [0, 1, 0], ids[first],
           random[first])  # fmt: skip
    refuse("outcome is 3 in all", values=np.full(len(ids), 3.0))
    refuse("missing values", values=np.where(ids == 2, np.nan, values))
    exact = fixed @ [1.0, 2.0, 3.0] + ids
    refuse("lie exactly on the model", values=exact)


def test_random_slopes_need_people_seen_twice():
    values, fixed, ids, random = visits_of_people(once=4)
    some = np.isin(ids, np.arange(12)) & ((ids < 4) | (np.bincount(ids)[ids] > 1))
    once = some & ~((ids >= 8) & np.r_[False, ids[1:] == ids[:-1]])
    refuse("random slope of months needs at least 5 people .* there are 4; use a random intercept",
           values[once], fixed[once], ids[once], random[once])  # fmt: skip
    twice = np.concatenate([np.flatnonzero(ids == k)[:2] for k in range(4, 30)])
    refuse(r"52 rows cannot fix 52 random effects \(2 for each of 26 people\)",
           values[twice], fixed[twice], ids[twice], random[twice])  # fmt: skip


def test_as_many_covariates_of_people_as_people_are_refused():
    values, ones, ids = one_way(people=6)
    rng = np.random.default_rng(0)
    fixed = np.column_stack([ones, rng.standard_normal((6, 5))[ids]])
    with pytest.raises(NotEstimableError, match="6 people for 6 fixed effects that do not vary"):
        fit_mixed(values, fixed, list("abcdef"), ids)


def test_few_groups_are_noted():
    values, ones, ids = one_way(people=6)
    assert "only 6 people is uncertain" in fit_mixed(values, ones, ("i",), ids).notes[-1]


def test_numerical_derivatives():
    x = np.array([0.3, 2.0])
    np.testing.assert_allclose(
        jacobian(lambda at: np.array([np.exp(at[0]), at[0] * at[1] ** 3]), x),
        [[np.exp(0.3), 8.0], [0.0, 3.6]], rtol=1e-8, atol=1e-10,
    )  # fmt: skip
    found = hessian(lambda at: float(np.sin(at[0]) * at[1] ** 2), x)
    expected = [[-4 * np.sin(0.3), 4 * np.cos(0.3)], [4 * np.cos(0.3), 2 * np.sin(0.3)]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_theta_runs_down_the_columns():
    factor = relative_factor(np.arange(1.0, 7.0), 3)
    np.testing.assert_array_equal(factor, [[1, 0, 0], [2, 4, 0], [3, 5, 6]])
    np.testing.assert_array_equal(theta_of(factor), np.arange(1.0, 7.0))


@pytest.mark.slow
def test_satterthwaite_holds_its_level():
    """Twelve people, a covariate of the person, no effect: z would be wrong in one of ten."""
    rng = np.random.default_rng(11)
    hits, naive, runs = 0, 0, 400
    for _ in range(runs):
        ids = np.repeat(np.arange(12), 2)
        x = rng.standard_normal(12)[ids]
        values = 1.5 * rng.standard_normal(12)[ids] + rng.standard_normal(24)
        fit = fit_mixed(values, np.column_stack([np.ones(24), x]), ("i", "x"), ids)
        hits += fit.effect("x").p < 0.05
        naive += abs(fit.effect("x").statistic) > 1.96
    assert abs(hits / runs - 0.05) < 3 * np.sqrt(0.05 * 0.95 / runs)
    assert naive > hits
