"""Noise of known strength on a series of known rank."""

import numpy as np
import pytest

from alsflow.nodes.dwi.denoise import denoise_series, patch_corners, patch_edges, why_not
from alsflow.nodes.errors import BadInputError

SHAPE = (18, 15, 12)
SIGMA = 20.0


def low_rank(n=30, rank=3, seed=0):
    """Smooth maps times time courses, and a level: far above the noise."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices(SHAPE) / 6.0
    maps = np.stack([np.sin(x + y), np.cos(y - z), np.sin(z + 0.5 * x)][:rank], axis=-1)
    courses = rng.uniform(100, 250, (rank, n))
    return (800 + maps @ courses).astype(np.float32)


@pytest.fixture(scope="module")
def noisy():
    truth = low_rank()
    noise = np.random.default_rng(7).normal(0, SIGMA, truth.shape)
    return truth, (truth + noise).astype(np.float32)


def test_noise_is_measured_and_mostly_removed(noisy):
    truth, signal = noisy
    found = denoise_series(signal)
    assert abs(np.median(found.noise) / SIGMA - 1) < 0.02
    assert np.sqrt(((found.signal - truth) ** 2).mean()) < 0.4 * SIGMA
    assert 0.8 < np.median(found.rank) < 3.5
    assert found.patch == (5, 5, 5)
    # what was taken away is noise: it does not follow the signal
    taken = (signal - found.signal).ravel()
    assert abs(np.corrcoef(taken, truth.ravel())[0, 1]) < 0.01


def test_one_patch_as_written_down_in_the_paper(noisy):
    """All ranks tried in turn on singular values, the largest number of noise components taken."""
    block = noisy[1][:5, :5, :5].reshape(125, 30).astype(float)
    mean = block.mean(axis=0)
    u, s, vt = np.linalg.svd(block - mean, full_matrices=False)
    for rank in range(30):
        free, rest = 124 - rank, 30 - rank
        variances = s[rank:] ** 2 / free
        width = (variances[0] - variances[-1]) / (4 * np.sqrt(rest / free))
        if width <= variances.mean():
            break
    clean = u[:, :rank] * s[:rank] @ vt[:rank] + mean
    signal = noisy[1][:5, :5, :5]
    found = denoise_series(signal)
    np.testing.assert_allclose(found.signal.reshape(125, 30), clean, rtol=1e-4)
    np.testing.assert_allclose(found.noise, np.sqrt(variances.mean()), rtol=1e-4)
    assert (found.rank == rank).all()


def test_noise_alone_has_no_components():
    noise = np.random.default_rng(1).normal(500, SIGMA, (*SHAPE, 20)).astype(np.float32)
    found = denoise_series(noise)
    assert np.median(found.rank) < 0.2
    assert abs(np.median(found.noise) / SIGMA - 1) < 0.02


def test_the_mask_says_where(noisy):
    mask = np.zeros(SHAPE, bool)
    mask[:6] = True
    found = denoise_series(noisy[1], mask)
    np.testing.assert_array_equal(found.signal[12:], noisy[1][12:])
    assert np.isnan(found.noise[12:]).all()
    assert np.isfinite(found.noise[:6]).all()


def test_patches_reach_every_voxel():
    for shape in ((7, 9, 6, 40), (8, 5, 12, 20)):
        patch = patch_edges(shape)
        seen = np.zeros(shape[:3], bool)
        for corner in patch_corners(shape, patch, None, 2):
            seen[tuple(slice(c, c + e) for c, e in zip(corner, patch, strict=True))] = True
        assert seen.all()


def test_a_patch_has_more_voxels_than_volumes():
    assert patch_edges((50, 50, 50, 26)) == (3, 3, 3)
    assert patch_edges((50, 50, 50, 27)) == (5, 5, 5)
    assert patch_edges((50, 50, 3, 42)) == (5, 5, 3)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((20, 20, 20, 11), "at least 12"), ((20, 4, 3, 60), "no patch with more voxels")],
)
def test_what_cannot_be_judged_is_refused(shape, words):
    assert words in why_not(shape)
    with pytest.raises(BadInputError, match=words):
        denoise_series(np.ones(shape, np.float32))
    assert why_not((20, 20, 20, 12)) == ""


def test_values_that_are_no_number_are_refused(noisy):
    broken = noisy[1].copy()
    broken[1, 2, 3, 4] = np.nan
    with pytest.raises(BadInputError, match="not numbers"):
        denoise_series(broken)
