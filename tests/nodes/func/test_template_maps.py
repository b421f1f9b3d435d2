"""Maps of an oblique BOLD grid in template space: an analytic answer, and no bleeding of zeros."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from alsflow.nodes.anat.normalise import FWHM, smoothed
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.template_maps import (
    LEAST_WEIGHT,
    maps_to_template,
    pull_masked,
    smooth_within,
    template_to_bold,
)
from alsflow.nodes.geometry import apply_affine, grid_over, grid_points

FIELD_SHAPE = (40, 46, 38)  # of the template grid on which the warp is known
FIELD = np.diag([-1.5, 1.5, 1.5, 1.0])
FIELD[:3, 3] = (30, -34, -28)
SHAPE, TEMPLATE = grid_over(FIELD_SHAPE, FIELD, 2.0)
MATRIX = np.eye(4)
MATRIX[:3, :3] = Rotation.from_euler("xyz", [-7, 12, 5], degrees=True).as_matrix()
MATRIX[:3, 3] = (3.0, -2.0, 1.0)
BOLD_SHAPE = (26, 24, 21)
STRETCH = np.diag([1.1, 0.95, 1.05])
BEND = 1.5  # mm


def bold_affine():
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", [14, -9, 21], degrees=True).as_matrix()
    affine[:3, :3] = turn * (2.6, 3.0, 3.3)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(BOLD_SHAPE) - 1) / 2)
    return affine


def to_head(points):
    """The warp: stretch, shift and a bend; template mm to T1w mm."""
    bent = np.stack([points[0] + BEND * np.sin(points[1] / 12), points[1], points[2]])
    return apply_affine(np.vstack([np.c_[STRETCH, [2, -1, 3]], [0, 0, 0, 1]]), bent)


def from_head(points):
    """Its inverse."""
    back = np.linalg.inv(np.vstack([np.c_[STRETCH, [2, -1, 3]], [0, 0, 0, 1]]))
    bent = apply_affine(back, points)
    return np.stack([bent[0] - BEND * np.sin(bent[1] / 12), bent[1], bent[2]])


def wave(points):
    """Function of template mm: slow enough for linear interpolation of 3 mm voxels."""
    x, y, z = points
    return np.cos(x / 9) + 0.5 * np.sin(y / 8) * np.cos(z / 10)


@pytest.fixture(scope="module")
def scene():
    """The function seen by a BOLD grid through rigid and warp, and where the template lies."""
    affine = bold_affine()
    at = from_head(apply_affine(MATRIX, grid_points(BOLD_SHAPE, affine).astype(float)))
    field = to_head(grid_points(FIELD_SHAPE, FIELD).astype(float))
    points = template_to_bold(field, FIELD, SHAPE, TEMPLATE, MATRIX)
    return affine, at, points


def test_the_grid_has_two_millimetres_over_the_same_view():
    assert SHAPE == (30, 35, 29)
    np.testing.assert_allclose(np.abs(np.diag(TEMPLATE)[:3]), 2)
    np.testing.assert_allclose(
        apply_affine(TEMPLATE, np.full(3, -0.5)), apply_affine(FIELD, np.full(3, -0.5))
    )


def test_a_function_of_the_template_comes_back(scene):
    affine, at, points = scene
    mask = np.ones(BOLD_SHAPE, bool)
    found, coverage = maps_to_template(
        wave(at)[..., None], mask, mask, affine, points, TEMPLATE, fwhm=0
    )
    truth = wave(grid_points(SHAPE, TEMPLATE))
    assert coverage.sum() > 15000
    error = (found[..., 0] - truth)[coverage]
    assert np.abs(error).max() < 0.03  # of 3; linear interpolation
    assert np.sqrt((error**2).mean()) < 0.01
    np.testing.assert_array_equal(np.isfinite(found[..., 0]), coverage)


def test_nothing_bleeds_in_at_the_border_of_the_mask(scene):
    """A mask full of holes: the function is the same, as far as it is known."""
    affine, at, points = scene
    mask = np.random.default_rng(3).random(BOLD_SHAPE) < 0.5
    values = np.where(mask, wave(at), 0)[..., None]
    seen = np.ones(BOLD_SHAPE, bool)
    found, coverage = maps_to_template(values, mask, seen, affine, points, TEMPLATE, fwhm=0)
    error = (found[..., 0] - wave(grid_points(SHAPE, TEMPLATE)))[coverage]
    assert np.abs(error).max() < 0.5  # the nearest value known may be 3 mm away
    assert abs(error.mean()) < 0.005
    level, _ = maps_to_template(
        np.where(mask, 0.5, 0)[..., None], mask, seen, affine, points, TEMPLATE, fwhm=8.0
    )
    np.testing.assert_allclose(level[np.isfinite(level)], 0.5, rtol=1e-5)
    plain, _ = maps_to_template(
        np.where(mask, 0.5, 0)[..., None], mask, seen, affine, points, TEMPLATE, 8.0, plain=True
    )
    assert np.nanmedian(plain) == pytest.approx(0.25, abs=0.02)  # half of the kernel is empty


def test_smoothing_weakens_a_wave_as_a_gaussian_does():
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    x = np.arange(80) * 2.0
    values = np.broadcast_to(np.cos(x / 9)[:, None, None], (80, 30, 28)).astype(np.float32)
    weight = np.ones(values.shape, np.float32)
    found, reach = smooth_within(values, weight, affine, 8.0)
    inner = (slice(12, -12), slice(10, -10), slice(10, -10))
    sigma = 8.0 / FWHM
    np.testing.assert_allclose(
        found[inner], values[inner] * np.exp(-0.5 * (sigma / 9) ** 2), atol=2e-3
    )
    np.testing.assert_allclose(reach[inner], 1, atol=1e-3)


def test_it_is_a_ratio_of_two_smoothings_and_stops_where_little_is_known():
    rng = np.random.default_rng(6)
    affine = np.diag([2.0, 2.2, 2.5, 1.0])
    weight = np.zeros((20, 22, 18), np.float32)
    weight[:9] = rng.random((9, 22, 18)) > 0.3
    weighted = weight * rng.random(weight.shape).astype(np.float32)
    found, reach = smooth_within(weighted, weight, affine, 6.0)
    above, below = smoothed(weighted, affine, 6.0), smoothed(weight, affine, 6.0)
    known = below >= LEAST_WEIGHT
    np.testing.assert_allclose(found[known], (above / np.maximum(below, 1e-9))[known], rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(found), ~known)
    np.testing.assert_array_equal(reach, below)
    assert np.isnan(found[15:]).all()


def test_beyond_what_the_series_shows_nothing_is_made_up(scene):
    affine, at, points = scene
    mask = np.ones(BOLD_SHAPE, bool)
    seen = mask.copy()
    seen[..., :8] = False
    found, coverage = maps_to_template(
        wave(at)[..., None], mask, seen, affine, points, TEMPLATE, fwhm=8.0
    )
    in_bold = apply_affine(np.linalg.inv(affine), points)[2]
    assert not coverage[in_bold < 7].any()
    assert np.isnan(found[..., 0][in_bold < 7]).all()
    assert coverage[(in_bold > 8) & (in_bold < 19)].mean() > 0.6


def test_an_unknown_map_stays_unknown_and_takes_nothing_from_the_others(scene):
    affine, at, points = scene
    mask = np.ones(BOLD_SHAPE, bool)
    holed = wave(at)
    holed[5, 6, 7] = np.nan  # one voxel without a value
    maps = np.stack([wave(at), np.full(BOLD_SHAPE, np.nan), holed], axis=-1)
    found, coverage = maps_to_template(maps, mask, mask, affine, points, TEMPLATE, 8.0)
    assert np.isnan(found[..., 1]).all()
    alone, covered = maps_to_template(maps[..., :1], mask, mask, affine, points, TEMPLATE, 8.0)
    np.testing.assert_array_equal(found[..., 0], alone[..., 0])
    np.testing.assert_array_equal(coverage, covered)
    assert np.nanmax(np.abs(found[..., 2] - found[..., 0])) < 0.05
    with pytest.raises(BadInputError, match="^has no voxel"):
        maps_to_template(maps, 0 * mask, mask, affine, points, TEMPLATE, 8.0)


def test_map_and_mask_are_pulled_alike(scene):
    affine, at, points = scene
    mask = np.random.default_rng(4).random(BOLD_SHAPE) < 0.6
    weighted, weight = pull_masked(np.full(BOLD_SHAPE, 3.0), mask, affine, points)
    np.testing.assert_allclose(weighted, 3 * weight, rtol=1e-5)
    assert 0 <= weight.min() < weight.max() <= 1 + 1e-6
    assert not pull_masked(at[0], mask, affine, np.full((3, 4), np.nan))[1].any()
