"""A drift of known size is removed, and only where b=0 volumes can tell."""

import numpy as np
import pytest

from alsflow.nodes.dwi.drift import correct_drift, why_not
from alsflow.nodes.errors import BadInputError

SHAPE = (9, 10, 7)
N = 41


def phantom(n=N, every=10):
    """Series without drift, its b-values and its brain; anatomy and ADC vary."""
    rng = np.random.default_rng(0)
    bvals = np.full(n, 1000.0)
    bvals[::every] = 0
    level, adc = rng.uniform(100, 900, SHAPE), rng.uniform(0.5e-3, 3e-3, SHAPE)
    truth = level[..., None] * np.exp(-bvals * adc[..., None])
    return truth, bvals, level > 300


@pytest.mark.parametrize("slope", [0.0, -0.05, 0.08])
@pytest.mark.parametrize("bend", [0.0, 0.03])
def test_known_drift_is_removed(slope, bend):
    """Only b=0 volumes may drive the fit: diffusion weighting is not drift."""
    truth, bvals, brain = phantom()
    t = np.linspace(0, 1, N)
    drift = 1 + slope * t + bend * t**2
    corrected, found = correct_drift(truth * drift, bvals, brain, degree=2)
    np.testing.assert_allclose(found, drift, rtol=1e-9)
    np.testing.assert_allclose(corrected, truth, rtol=1e-6)


def test_five_percent_at_snr_25_is_found_to_two_tenths():
    truth, bvals, brain = phantom()
    drift = np.linspace(1, 0.95, N)
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 600 / 25, (2, *truth.shape))
    noisy = np.hypot(truth * drift + noise[0], noise[1])
    found = correct_drift(np.repeat(noisy, 4, axis=0), bvals, np.repeat(brain, 4, axis=0), 1)[1]
    np.testing.assert_allclose(found, drift, atol=0.002)


def test_what_lies_outside_the_brain_does_not_matter():
    truth, bvals, brain = phantom()
    truth[~brain] *= np.linspace(1, 3, N)
    found = correct_drift(truth, bvals, brain)[1]
    np.testing.assert_allclose(found, 1, rtol=1e-9)


def test_each_run_drifts_on_its_own():
    truth, bvals, brain = phantom()
    first, second = np.linspace(1, 0.9, N), np.linspace(1, 1.04, N)
    both = np.concatenate([truth * first, 1.3 * truth * second], axis=3)
    runs = np.repeat([0, 1], N)
    corrected, found = correct_drift(both, np.r_[bvals, bvals], brain, 1, runs)
    np.testing.assert_allclose(found, np.r_[first, second], rtol=1e-9)
    np.testing.assert_allclose(corrected[..., N:], 1.3 * truth, rtol=1e-6)


@pytest.mark.parametrize(("degree", "every"), [(1, 41), (2, 21), (4, 11)])
def test_too_few_b0_volumes_are_refused(degree, every):
    truth, bvals, brain = phantom(every=every)
    with pytest.raises(BadInputError, match=f"cannot fix a drift of degree {degree}"):
        correct_drift(truth, bvals, brain, degree)


def test_b0_volumes_must_span_the_run():
    truth, bvals, brain = phantom()
    bvals[[30, 40]] = 1000
    with pytest.raises(BadInputError, match=r"after its last b=0 volume \(20 of 41\)"):
        correct_drift(truth, bvals, brain, 1)
    bvals[30] = 0  # 10 volumes, a quarter of the run, are left open
    assert why_not(bvals, 1) == ""
    bvals[[0, 10]] = 1000
    with pytest.raises(BadInputError, match=r"before its first b=0 volume \(20 of 41\)"):
        correct_drift(truth, bvals, brain, 1)
