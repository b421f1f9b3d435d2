"""The brain of heads of known anatomy in a mean BOLD volume, with dropout and a near coil."""

import numpy as np
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.brain_mask import find_brain, mean_volume

SHAPE = (60, 64, 40)
ZOOMS = np.array([3.0, 3.2, 3.6])


def head(shading=0.0, dropout=False, seed=3):
    """Brain (ellipsoid with ventricles), dim scalp and two bright eyes; signal lost above air."""
    rng = np.random.default_rng(seed)
    places = (np.moveaxis(np.indices(SHAPE), 0, -1) - (np.array(SHAPE) - 1) / 2) * ZOOMS
    x, y, z = np.moveaxis(places, -1, 0)
    size = np.sqrt((x / 66) ** 2 + (y / 84) ** 2 + (z / 62) ** 2)
    brain = size < 1
    wet = brain & (np.sqrt((np.abs(x) - 12) ** 2 + (y / 2) ** 2 + (z / 1.2) ** 2) < 10)
    eyes = (np.sqrt((np.abs(x) - 33) ** 2 + (y - 92) ** 2 + (z + 33) ** 2) < 12) & ~brain
    scalp = (size > 1.14) & (size < 1.22)
    signal = 800.0 * brain + 500 * wet + 1000 * eyes + 200 * scalp
    air = np.exp(-((x / 18) ** 2 + ((y - 62) / 20) ** 2 + ((z + 42) / 16) ** 2))
    if dropout:
        signal = signal * (1 - 0.95 * air)
    coil = np.exp(shading * (-y / 84 + 0.4 * x / 66))
    noise = rng.normal(0, 10, (2, *SHAPE))
    return np.hypot(signal * coil + noise[0], noise[1]).astype(np.float32), brain, coil


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@pytest.mark.parametrize(
    ("shading", "dropout", "slices"),
    [(0.0, False, slice(None)), (0.55, True, slice(None)), (0.55, False, slice(14, 30))],
    ids=["even", "coil and dropout", "slab"],
)
def test_the_brain_is_found(shading, dropout, slices):
    mean, truth, coil = head(shading, dropout)
    found = find_brain(mean[:, :, slices], ZOOMS)
    brain = truth[:, :, slices]
    assert dice(found.mask, brain) > 0.96
    field = mean[:, :, slices] / found.even
    rest = (field / coil[:, :, slices])[brain & (mean[:, :, slices] > 300)]
    assert np.std(rest / np.median(rest)) < 0.08


def test_noise_is_no_brain():
    noise = np.random.default_rng(0).rayleigh(20, SHAPE).astype(np.float32)
    with pytest.raises(BadInputError, match="shows no brain"):
        find_brain(noise, ZOOMS)


def test_the_mean_is_that_of_numpy():
    series = np.random.default_rng(1).uniform(1e4, 1e5, (5, 6, 7, 33)).astype(np.float32)
    np.testing.assert_allclose(mean_volume(series), series.mean(3, dtype=float), rtol=1e-6)
