"""Linear discriminants against Gaussian densities."""

import numpy as np
import pytest
from scipy import stats

from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.lda import fit_lda


def three_groups(seed=1):
    rng = np.random.default_rng(seed)
    labels = np.repeat(["ALS", "HC", "mimic"], [14, 11, 9])
    means = {"ALS": (0, 0, 0), "HC": (1, 0.5, 0), "mimic": (0, 1, -1)}
    spread = np.eye(3) + 0.3 * rng.normal(size=(3, 3))
    return np.array([means[label] for label in labels]) + rng.normal(size=(34, 3)) @ spread, labels


def test_posterior_is_that_of_gaussian_densities():
    features, labels = three_groups()
    model = fit_lda(features, labels)
    pooled = sum(
        (labels == c).sum() * np.cov(features[labels == c].T, ddof=0) for c in model.classes
    ) / (34 - 3)
    np.testing.assert_allclose(model.covariance, pooled, rtol=1e-10)
    new = features[:5] + 0.3
    density = np.stack([
        (labels == c).mean()
        * stats.multivariate_normal(features[labels == c].mean(0), pooled).pdf(new)
        for c in model.classes
    ], axis=1)  # fmt: skip
    expected = density / density.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.posterior(new), expected, rtol=1e-9)
    assert model.classes == ("ALS", "HC", "mimic")
    assert model.counts == (14, 11, 9)


def test_linear_changes_of_the_features_do_not_matter():
    features, labels = three_groups()
    turn = (np.eye(3) + 0.3 * np.random.default_rng(2).normal(size=(3, 3))) * [1e-4, 1, 1e4]
    one = fit_lda(features, labels).posterior(features)
    other = fit_lda(features @ turn + 7, labels).posterior(features @ turn + 7)
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_priors_move_the_probability():
    features, labels = three_groups()
    rare = fit_lda(features, labels, priors=[0.01, 0.98, 0.01]).posterior(features)
    assert (rare[:, 0] < fit_lda(features, labels).posterior(features)[:, 0]).all()


def test_what_cannot_be_told_apart_is_refused():
    features, labels = three_groups()
    with pytest.raises(NotEstimableError, match="told by the others"):
        fit_lda(np.column_stack([features, features[:, 0] + features[:, 1]]), labels)
    with pytest.raises(NotEstimableError, match="do not vary within the groups"):
        fit_lda(np.column_stack([features, labels == "ALS"]), labels)
    with pytest.raises(NotEstimableError, match="needs two groups"):
        fit_lda(features[:14], labels[:14])
    with pytest.raises(NotEstimableError, match="more than 3 people"):
        fit_lda(features[[0, 1, 14, 15]], labels[[0, 1, 14, 15]])
