"""The mixture finds means that partial volume hides, and fractions without bias."""

import numpy as np
import pytest
from scipy import ndimage

from alsflow.nodes.anat import mixture as mix
from alsflow.nodes.anat.evenness import Lattice, residual_field
from alsflow.nodes.anat.priors import NEAR

TRUE_MEANS = np.array([0.25, 0.68, 1.0])


def mixed_tissue(rng, shape=(56, 64, 48), noise=0.03):
    """Folded layers, grey always between white and CSF; many voxels hold two tissues."""
    field = ndimage.gaussian_filter(rng.standard_normal([2 * n for n in shape]), 3)
    labels = np.digitize(field, np.quantile(field, [0.3, 0.65]))
    halves = [(labels == k).astype(np.float32) for k in range(3)]
    fractions = np.stack(
        [h.reshape(*[v for n in shape for v in (n, 2)]).mean(axis=(1, 3, 5)) for h in halves]
    )
    image = np.tensordot(TRUE_MEANS, fractions, 1)
    return fractions.reshape(3, -1), (image + noise * rng.standard_normal(shape)).ravel()


def flat_priors(count):
    priors = np.zeros((NEAR + 1, count), np.float32)
    priors[:3] = 0.999 / 3
    priors[3] = 0.001
    return priors


def fitted(intensity, priors, start, steps=40):
    model = mix.Mixture(start, np.array([0.08, 0.05, 0.04]), np.ones(6), 0.85, np.ones(mix.BINS))
    basis, bins = mix.brain_shares(priors), mix.bin_of(intensity)
    for _ in range(steps):
        prior, norm = mix.class_priors(priors, basis, model.shares)
        likelihood, fraction = mix.lookup(model)
        posterior = mix.responsibilities(bins, prior, likelihood)
        model = mix.update(model, bins, posterior, basis, norm, free_csf=True)
    return model, mix.expected_fractions(bins, posterior, fraction)


def test_means_and_volumes_survive_partial_volume():
    """Start from the means of the thirds of the histogram, which partial volume has moved."""
    truth, intensity = mixed_tissue(np.random.default_rng(4))
    start = np.array([np.mean(part) for part in np.array_split(np.sort(intensity), 3)])
    model, found = fitted(intensity, flat_priors(len(intensity)), start)
    assert np.abs(start - TRUE_MEANS).max() > 0.05
    np.testing.assert_allclose(model.means, TRUE_MEANS, atol=0.025)
    np.testing.assert_allclose(found.sum(axis=1), truth.sum(axis=1), rtol=0.05)


def test_priors_and_fractions_are_probabilities():
    rng = np.random.default_rng(1)
    priors = rng.dirichlet(np.ones(4), 500).T.astype(np.float32)
    priors = np.concatenate([priors, rng.uniform(0, 1, (3, 500)).astype(np.float32)])
    prior, _ = mix.class_priors(priors, mix.brain_shares(priors), rng.uniform(0.2, 2, 6))
    np.testing.assert_allclose(prior.sum(axis=0), 1, atol=1e-4)
    model = mix.Mixture(TRUE_MEANS, np.array([0.05] * 3), np.ones(6), 0.85, np.ones(mix.BINS))
    _, fraction = mix.lookup(model)
    inner = np.delete(fraction, mix.OUTER, axis=0)
    np.testing.assert_allclose(inner.sum(axis=1), 1, atol=1e-5)
    assert not fraction[mix.OUTER].any()


def test_csf_touches_white_matter_only_at_the_lining():
    priors = flat_priors(2)
    priors[5] = [0.0, 1.0]
    shares = mix.brain_shares(priors)
    assert shares[5, 0] == 0
    assert shares[5, 1] > 0.5


@pytest.mark.parametrize("strength", [0.0, 0.08])
def test_residual_bias_is_found(strength):
    """Most of a slow field over two tissues is found, and none where there is none."""
    rng = np.random.default_rng(2)
    shape, zooms = (40, 36, 30), np.array([3.0, 3.0, 4.0])
    voxels = np.indices(shape).reshape(3, -1)
    truth = strength * np.sin(voxels[0] * zooms[0] / 75)
    white = ndimage.gaussian_filter(rng.standard_normal(shape), 2).ravel() > 0
    image = np.where(white, 1.0, 0.68) * np.exp(truth) + 0.02 * rng.standard_normal(white.size)
    priors = flat_priors(white.size)
    model = mix.Mixture(TRUE_MEANS, np.array([0.05] * 3), np.ones(6), 0.85, np.ones(mix.BINS))
    lattice = Lattice.over(shape, zooms, voxels)
    log_bias = np.zeros(white.size, np.float32)
    for _ in range(12):
        field = residual_field(np.log(image), log_bias, priors, model, lattice)
        log_bias = lattice.at(field)
    error = log_bias - (truth - truth.mean())
    assert error.std() < 0.25 * truth.std() + 0.002
