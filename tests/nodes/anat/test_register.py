"""Greedy finds a known warp between two oblique grids, and its fields mean what is written."""

import numpy as np
import pytest
from scipy import ndimage

from alsflow.nodes.anat.register import (
    WarpSettings,
    fixed_to_moving,
    moving_to_fixed,
    pull,
    register_maps,
)
from alsflow.nodes.geometry import apply_affine, grid_points

SHAPE = (44, 52, 38)


def turned(angle: float, axis: int) -> np.ndarray:
    i, j = [k for k in range(3) if k != axis]
    turn = np.eye(4)
    turn[i, i] = turn[j, j] = np.cos(angle)
    turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
    return turn


FIXED = turned(0.25, 2) @ turned(-0.15, 0) @ np.diag([1.5, 1.3, 1.8, 1.0])
FIXED[:3, 3] = [-35.0, -20.0, 12.0]
START = turned(0.2, 1) @ np.diag([1.08, 0.95, 1.0, 1.0])
START[:3, 3] = [6.0, -4.0, 9.0]


def truth(points):
    """Smooth warp of about 4 mm that no affine can undo."""
    x, y, z = points / 12
    return points + 4 * np.stack([np.sin(y), np.cos(z + 1), np.sin(x - y)]).astype(np.float32)


def blobs(points, seed):
    """Smooth pattern given in the world, so that any grid may sample it."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(size=(24, 3)) * 0.22
    phases = rng.uniform(0, 6.3, 24)
    flat = waves @ points.reshape(3, -1)
    return np.tanh(np.sin(flat + phases[:, None]).sum(axis=0)).reshape(points.shape[1:])


def heads(channels):
    """Fixed and moving channels; the moving grid is finer and differs in orientation."""
    here = grid_points(SHAPE, FIXED)
    moving_shape, moving = (72, 84, 78), turned(-0.1, 0) @ np.diag([-1.3, 1.2, 1.25, 1.0])
    corners = apply_affine(START, apply_affine(FIXED, np.array(SHAPE)[:, None] / 2))
    moving[:3, 3] = corners[:, 0] - moving[:3, :3] @ (np.array(moving_shape) / 2)
    there = apply_affine(np.linalg.inv(START), grid_points(moving_shape, moving))
    still = [blobs(truth(here), seed).astype(np.float32) for seed in range(channels)]
    other = [blobs(there, seed).astype(np.float32) for seed in range(channels)]
    return still, FIXED, other, moving


@pytest.mark.parametrize(("metric", "error"), [("SSD", 0.35), ("NCC", 0.35)])
def test_known_warp_between_oblique_grids(metric, error):
    still, fixed, other, moving = heads(2)
    settings = WarpSettings(metric=metric, iterations=(60, 60, 30), smoothing=(2.0, 0.7))
    warp = register_maps(still, fixed, other, moving, START, settings=settings, inverse=True)
    here = grid_points(SHAPE, FIXED)
    expected = apply_affine(START, truth(here))
    core = np.zeros(SHAPE, bool)
    core[8:-8, 8:-8, 8:-8] = True
    found = fixed_to_moving(warp)
    distance = np.sqrt(((found - expected) ** 2).sum(axis=0))
    assert np.median(distance[core]) < error
    start_distance = np.sqrt(((apply_affine(START, here) - expected) ** 2).sum(axis=0))
    assert np.median(start_distance[core]) > 3
    # what is pulled through the map looks like the fixed image
    assert np.corrcoef(pull(other[0], moving, found)[core], still[0][core])[0, 1] > 0.98
    # the inverse leads back
    back = moving_to_fixed(warp, found)
    assert np.percentile(np.sqrt(((back - here) ** 2).sum(axis=0))[core], 95) < 0.3
    # and single points take the same way as the grid
    points = here[:, 20, 20:24, 15]
    np.testing.assert_allclose(fixed_to_moving(warp, points), found[:, 20, 20:24, 15], atol=1e-3)


def test_threads_do_not_change_a_number():
    still, fixed, other, moving = heads(1)
    runs = [
        register_maps(
            still,
            fixed,
            other,
            moving,
            START,
            settings=WarpSettings(iterations=(8, 4), threads=threads),
        ).displacement
        for threads in (1, 2, 2)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[1], runs[2])


def test_mask_keeps_what_lies_outside_from_mattering():
    still, fixed, other, moving = heads(1)
    mask = np.zeros(SHAPE, np.float32)
    mask[:, :26] = 1
    spoiled = still[0].copy()
    spoiled[:, 40:] = ndimage.shift(spoiled[:, 40:], (3, 0, 2), order=1)
    settings = WarpSettings(metric="SSD", iterations=(0, 15), smoothing=(1.0, 0.0))
    clean, other_half = (
        register_maps([image], fixed, other, moving, START, settings=settings, mask=mask)
        for image in (still[0], spoiled)
    )
    np.testing.assert_allclose(
        clean.displacement[:, :, :26], other_half.displacement[:, :, :26], atol=0.02
    )
    assert np.abs(clean.displacement[:, :, :26]).max() > 1


def test_the_inverse_must_have_been_asked_for():
    still, fixed, other, moving = heads(1)
    settings = WarpSettings(metric="SSD", iterations=(1,))
    warp = register_maps(still, fixed, other, moving, settings=settings)
    with pytest.raises(ValueError, match="without its inverse"):
        moving_to_fixed(warp, np.zeros((3, 1)))
