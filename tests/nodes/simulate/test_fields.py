import numpy as np
import pytest
from scipy import ndimage

from alsflow.nodes.simulate.fields import (
    exponentiate,
    jacobian_determinant,
    random_velocity,
    smooth_noise,
)

SHAPE = (24, 26, 28)
SPACING = 4.0


def velocity(seed=0, amplitude=3.0):
    rng = np.random.default_rng(seed)
    return random_velocity(rng, SHAPE, SPACING, {16.0: amplitude}, np.ones(SHAPE))


def test_noise_has_unit_spread_and_the_asked_smoothness():
    noise = smooth_noise(np.random.default_rng(0), (60, 61, 62), 2.0)
    assert noise.mean() == pytest.approx(0, abs=1e-5)
    assert noise.std() == pytest.approx(1, abs=1e-5)
    neighbours = np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]
    assert neighbours == pytest.approx(np.exp(-1 / (4 * 2.0**2)), abs=0.01)


def test_a_constant_velocity_is_a_shift():
    flow = exponentiate(np.full((*SHAPE, 3), [4.0, -2.0, 1.0]), SPACING)
    inner = flow[4:-4, 4:-4, 4:-4]
    np.testing.assert_allclose(inner, np.broadcast_to([4, -2, 1], inner.shape), atol=1e-4)


def test_a_linear_velocity_has_the_flow_of_the_matrix_exponential():
    """dx/dt = a x has x(1) = exp(a) x(0)."""
    at = np.moveaxis(np.indices(SHAPE), 0, -1) * SPACING - np.array([46.0, 50.0, 54.0])
    rate = np.array([0.2, -0.1, 0.15])
    flow = exponentiate(at * rate, SPACING)
    inner = (slice(8, 16),) * 3
    np.testing.assert_allclose(flow[inner], (at * (np.exp(rate) - 1))[inner], atol=0.05)
    found = jacobian_determinant(flow, SPACING)[inner]
    np.testing.assert_allclose(found, np.exp(rate.sum()), rtol=5e-3)


def test_the_opposite_velocity_is_the_inverse():
    forward, back = (exponentiate(sign * velocity(), SPACING) for sign in (1, -1))
    start = np.indices(SHAPE, dtype=float)
    there = start + np.moveaxis(forward, -1, 0) / SPACING
    returned = np.stack(
        [ndimage.map_coordinates(back[..., axis], there, order=1) for axis in range(3)]
    )
    error = np.abs(np.moveaxis(forward, -1, 0) + returned)[:, 5:-5, 5:-5, 5:-5]
    assert np.abs(forward).max() > 5
    assert error.max() < 0.25  # mm


def test_a_deformation_stronger_than_any_drawn_does_not_fold():
    flow = exponentiate(velocity(1, amplitude=6.0), SPACING)
    assert jacobian_determinant(flow, SPACING).min() > 0
