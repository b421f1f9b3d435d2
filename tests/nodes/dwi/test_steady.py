"""The map for tracts: calm in the brainstem, hardly touched elsewhere."""

import numpy as np
import pytest

from alsflow.nodes.dwi.steady import steadied
from alsflow.nodes.geometry import apply_affine, grid_points

SHAPE = (44, 50, 40)
AFFINE = np.array([[2.9, 0.2, 0, -62], [-0.2, 2.6, 0.1, -70], [0, 0.1, 3.1, -66], [0, 0, 0, 1]])
STEM_AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
STEM_AFFINE[:3, 3] = (-60, -60, -60)
LINEAR = np.array([[1.05, 0.02, 0, 3], [0, 0.97, 0.03, -2], [0.01, 0, 1.02, 4], [0, 0, 0, 1]])
MIDDLE = np.array([0.0, -20.0, -30.0])  # mm, of the brainstem


def stem():
    world = grid_points((60, 60, 60), STEM_AFFINE)
    at = world - MIDDLE.reshape(3, 1, 1, 1)
    return (np.linalg.norm(at * np.array([1, 1, 0.5]).reshape(3, 1, 1, 1), axis=0) < 16) * 1.0


def bent(middle, size=5.0, width=6.0):
    """A linear map with a local squeeze towards a plane through `middle`, mm."""
    world = grid_points(SHAPE, AFFINE)
    points = apply_affine(LINEAR, world)
    at = points - middle.reshape(3, 1, 1, 1)
    wave = size * np.sin(at[0] / 3) * np.exp(-(at**2).sum(axis=0) / 2 / (3 * width) ** 2)
    moved = points.copy()
    moved[0] += wave
    return world, points, moved, np.linalg.norm(at, axis=0)


def test_an_affine_map_stays_what_it_is():
    world = grid_points(SHAPE, AFFINE)
    points = apply_affine(LINEAR, world)
    found = steadied(points, AFFINE, stem(), STEM_AFFINE)
    inner = (slice(None), *(slice(14, -14),) * 3)
    assert np.abs(found - points)[inner].max() < 0.15


def test_a_squeeze_goes_in_the_brainstem_and_stays_in_the_cerebrum():
    _, points, moved, distance = bent(MIDDLE)
    found = steadied(moved, AFFINE, stem(), STEM_AFFINE)
    near = distance < 8
    before, after = (np.abs(x - points)[:, near].mean() for x in (moved, found))
    assert after < 0.25 * before
    cerebrum = np.array([20.0, 20.0, 30.0])
    _, points, moved, distance = bent(cerebrum)
    found = steadied(moved, AFFINE, stem(), STEM_AFFINE)
    near = distance < 8
    kept = ((found - points)[:, near] * (moved - points)[:, near]).sum()
    assert kept / ((moved - points)[:, near] ** 2).sum() > 0.7


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_unknown_places_are_bridged(share):
    _, points, _, _ = bent(MIDDLE)
    holes = points.copy()
    rng = np.random.default_rng(2)
    holes[:, rng.random(SHAPE) < share] = np.nan
    found = steadied(holes, AFFINE, stem(), STEM_AFFINE)
    assert np.isfinite(found).all()
    inner = (slice(None), *(slice(14, -14),) * 3)
    assert np.abs(found - points)[inner].max() < 1.0
