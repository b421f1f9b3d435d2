"""The brain of heads of known anatomy: whole or a slab, lit evenly or by a near coil."""

import numpy as np
import pytest

from alsflow.nodes.dwi.brain_mask import find_brain
from alsflow.nodes.dwi.gradients import Gradients
from alsflow.nodes.errors import BadInputError

SHAPE = (60, 64, 40)
ZOOMS = np.array([3.0, 3.2, 3.6])
WEIGHTING = Gradients(np.r_[0.0, 0.0, np.full(6, 1000.0)], np.eye(8, 3))


def head(shading=0.0, snr=20.0):
    """Brain (ellipsoid with ventricles), CSF, dark skull, weak scalp and two bright eyes."""
    rng = np.random.default_rng(3)
    places = (np.moveaxis(np.indices(SHAPE), 0, -1) - (np.array(SHAPE) - 1) / 2) * ZOOMS
    x, y, z = np.moveaxis(places, -1, 0)
    size = np.sqrt((x / 66) ** 2 + (y / 84) ** 2 + (z / 62) ** 2)
    brain = size < 1
    wet = brain & (np.sqrt((np.abs(x) - 12) ** 2 + (y / 2) ** 2 + (z / 1.2) ** 2) < 10)
    eyes = np.sqrt((np.abs(x) - 33) ** 2 + (y - 92) ** 2 + (z + 33) ** 2) < 12
    eyes &= ~brain
    scalp = (size > 1.14) & (size < 1.22)
    b0 = 400.0 * brain + 900 * wet + 1200 * eyes + 60 * scalp
    decay = np.where(wet | eyes, 3e-3, 0.8e-3) * 1000
    coil = np.exp(shading * (-y / 84 + 0.4 * x / 66))
    signal = coil[..., None] * b0[..., None] * np.exp(-decay[..., None] * (WEIGHTING.bvals > 0))
    noise = rng.normal(0, 400 / snr, (2, *signal.shape))
    return np.hypot(signal + noise[0], noise[1]).astype(np.float32), brain, coil


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@pytest.mark.parametrize("shading", [0.0, 0.55])
@pytest.mark.parametrize("slices", [slice(None), slice(14, 30)], ids=["head", "slab"])
def test_the_brain_is_found_under_a_coil_and_in_a_slab(shading, slices):
    signal, brain, coil = head(shading)
    found = find_brain(signal[:, :, slices], WEIGHTING, ZOOMS)
    assert dice(found.mask, brain[:, :, slices]) > 0.96
    # what is left of the coil: the spread of the field's error in tissue
    rest = (found.field / coil[:, :, slices])[brain[:, :, slices]]
    assert np.std(rest / np.median(rest)) < 0.08
    np.testing.assert_allclose(
        found.b0 * found.field, signal[:, :, slices, :2].mean(-1), rtol=1e-3
    )


def test_a_value_that_is_no_number_does_not_spread():
    signal, brain, _ = head()
    signal[30, 30, 20, 1] = np.nan
    found = find_brain(signal, WEIGHTING, ZOOMS)
    assert dice(found.mask, brain) > 0.96
    assert np.isfinite(found.b0).all()


def test_overshoot_below_zero_does_no_harm():
    """As interpolation leaves it beside edges."""
    signal, brain, _ = head()
    signal[~brain, :2] -= 60  # the weighted volumes stay above
    found = find_brain(signal, WEIGHTING, ZOOMS)
    assert dice(found.mask, brain) > 0.96
    assert np.isfinite(found.b0).all()


def test_noise_is_no_brain():
    noise = np.random.default_rng(0).rayleigh(20, (*SHAPE, 8)).astype(np.float32)
    with pytest.raises(BadInputError, match="shows no brain"):
        find_brain(noise, WEIGHTING, ZOOMS)
