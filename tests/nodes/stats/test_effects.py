import numpy as np
import pytest
from scipy import integrate, stats

from alsflow.nodes.stats.effects import (
    benjamini_hochberg,
    hedges_factor,
    noncentrality_limits,
    ratio_limits,
    standardised_difference,
)


def noncentral_t_cdf(t, df, ncp):
    """P(Z + ncp <= t s) over the distribution of s = sqrt(chi2 / df): a second way."""

    def integrand(s):
        return stats.norm.cdf(t * s - ncp) * 2 * s * df * stats.chi2.pdf(df * s**2, df)

    return integrate.quad(integrand, 0, 6, epsabs=1e-12, limit=400)[0]


@pytest.mark.parametrize(("t", "df"), [(-4.3, 100), (0.0, 5), (2.1, 8), (11.0, 30)])
def test_limits_of_the_noncentrality_put_the_tails_where_they_belong(t, df):
    low, high = noncentrality_limits(t, df)
    assert low < t < high
    assert noncentral_t_cdf(t, df, low) == pytest.approx(0.975, abs=1e-7)
    assert noncentral_t_cdf(t, df, high) == pytest.approx(0.025, abs=1e-7)


def test_hedges_factor_takes_the_bias_off():
    """The mean of d over many samples is delta / J."""
    assert hedges_factor(10) == pytest.approx(0.9227456, abs=1e-7)
    rng = np.random.default_rng(5)
    a, b = rng.normal(0.8, 1, (200_000, 4)), rng.normal(0, 1, (200_000, 4))
    pooled = np.sqrt((a.var(axis=1, ddof=1) + b.var(axis=1, ddof=1)) / 2)
    d = (a.mean(axis=1) - b.mean(axis=1)) / pooled
    assert hedges_factor(6) * d.mean() == pytest.approx(0.8, abs=0.01)


def test_standardised_difference_has_the_sign_and_order_of_its_limits():
    g, low, high = standardised_difference(-3.0, 20, 0.4)
    assert low < g < high < 0
    mirrored = standardised_difference(3.0, 20, 0.4)
    np.testing.assert_allclose(mirrored, [-g, -high, -low], rtol=1e-8)


def test_fieller_limits_hold_their_level():
    rng = np.random.default_rng(2)
    df, n, truth = 12, 4000, -0.1
    covariance = np.array([[4.0, -1.0], [-1.0, 2.0]])
    draws = rng.multivariate_normal([truth * 30, 30], covariance, n)
    scales = rng.chisquare(df, n) / df
    inside = 0
    for (top, bottom), scale in zip(draws, scales, strict=True):
        low, high = ratio_limits(top, bottom, covariance * scale, df)
        inside += low <= truth <= high
    assert inside / n == pytest.approx(0.95, abs=0.012)


def test_a_ratio_to_nearly_nothing_has_no_limits():
    assert np.isnan(ratio_limits(1.0, 0.5, np.eye(2), 20)).all()


def test_false_discovery_rate_by_hand():
    np.testing.assert_allclose(
        benjamini_hochberg([0.01, 0.04, 0.03, np.nan]), [0.03, 0.04, 0.04, np.nan]
    )
    assert np.isnan(benjamini_hochberg([np.nan, np.nan])).all()
    np.testing.assert_allclose(benjamini_hochberg([0.9, 0.95]), [0.95, 0.95])
