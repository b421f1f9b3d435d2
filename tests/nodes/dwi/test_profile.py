"""Profiles of tubes whose course is known."""

import numpy as np
import pytest

from alsflow.nodes.dwi.profile import course, lower_end, tract_profile, warped_course
from alsflow.nodes.dwi.tracts import places
from alsflow.nodes.geometry import grid_points

AFFINE = np.diag([1.0, 1.1, 0.9, 1.0])
AFFINE[:3, 3] = (-35, -20, -40)
SHAPE = (70, 40, 92)


def straight():
    """Tube of 6 mm radius from z = -35 to 35, and its true coordinate."""
    x, y, z = grid_points(SHAPE, AFFINE)
    return (x**2 + y**2 < 36) & (abs(z) < 35), (z + 35) / 70


def arch():
    """Half a ring of 24 mm radius from (24, 0, -20) up and over to (-24, 0, -20)."""
    x, y, z = grid_points(SHAPE, AFFINE)
    radius, angle = np.hypot(x, z + 20), np.arctan2(z + 20, x)
    return ((radius - 24) ** 2 + y**2 < 25) & (z > -20), angle / np.pi


@pytest.mark.parametrize("make", [straight, arch])
def test_a_linear_gradient_along_a_tube_is_recovered(make):
    mask, _ = make()
    origin = lower_end(mask, AFFINE)
    if make is arch:  # both feet are low: only the right one is the origin
        origin &= grid_points(SHAPE, AFFINE)[0] > 0
    coordinate, length = course(mask, AFFINE, origin)
    # ways through a bend keep to its inside
    low, high = (66, 72) if make is straight else (19 * np.pi, 24 * np.pi)
    assert low < length < high
    # seen on a coarser oblique grid
    turn = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]) * (2.0, 2.0, 2.3)
    affine = np.eye(4)
    affine[:3, :3] = turn
    affine[:3, 3] = -turn @ (22, 20, 20)
    grid = grid_points((45, 40, 42), affine)
    weights, along = warped_course(coordinate, AFFINE, places(grid))
    inside = weights > 0
    if make is straight:
        known = (grid[2] + 35) / 70
    else:
        known = np.arctan2(np.maximum(grid[2] + 20, 0), grid[0]) / np.pi
    assert np.abs(along - known)[inside & (weights > 0.9)].mean() < 0.03
    fa = np.where(inside, 0.3 + 0.4 * known, np.nan)
    profile = tract_profile({"fa": fa}, weights, along, np.ones(fa.shape, bool), 2.1 / length)
    middle = profile[(profile.node > 5) & (profile.node <= 95)]
    expected = 0.3 + 0.4 * (middle.node - 0.5) / 100
    np.testing.assert_allclose(middle["mean"], expected, atol=0.02)
    assert middle["mean"].is_monotonic_increasing


def test_the_lower_end_is_low_in_the_world_not_in_the_array():
    mask, _ = straight()
    flipped = AFFINE @ np.diag([1, 1, -1, 1.0])
    flipped[2, 3] = AFFINE[2, 3] + AFFINE[2, 2] * (SHAPE[2] - 1)
    found = lower_end(mask[:, :, ::-1], flipped)
    np.testing.assert_array_equal(found[:, :, ::-1], lower_end(mask, AFFINE))
    assert grid_points(SHAPE, flipped)[2][found].max() < -31


def test_a_piece_without_contact_has_no_coordinate():
    mask, _ = straight()
    mask[62:66, 30:34, 60:70] = True
    coordinate, _ = course(mask, AFFINE, lower_end(mask, AFFINE))
    assert np.isnan(coordinate[63, 32, 65])
    assert np.isfinite(coordinate[35, 18, 45])


def test_nodes_with_too_few_voxels_have_no_mean():
    weights = np.ones((20, 4, 5), np.float32)
    along = np.broadcast_to(np.linspace(0, 1, 20)[:, None, None], weights.shape)
    values = np.full(weights.shape, 0.5)
    valid = np.ones(weights.shape, bool)
    valid[8:12] = False
    table = tract_profile({"fa": values}, weights, along, valid, 1 / 20)
    gap = table[(table.node > 45) & (table.node < 55)]
    assert gap["mean"].isna().all()
    assert (gap["n_voxels"] == 0).all()
    assert table["mean"].dropna().eq(0.5).all()
    assert table["mean"].notna().sum() > 80


def test_without_an_origin_there_is_no_course():
    mask, _ = straight()
    coordinate, length = course(mask, AFFINE, np.zeros_like(mask))
    assert np.isnan(coordinate).all()
    assert length == 0
