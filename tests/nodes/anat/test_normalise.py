"""Normalisation: maps whose volume change is known, folds, inverses, and a warp that must fit."""

import numpy as np
import pytest
from scipy import ndimage

from alsflow.nodes.anat.normalise import (
    FWHM,
    inside,
    inverted,
    jacobian,
    judge_fit,
    modulated,
    native_jacobian,
    normalise,
    shrink,
    smoothed,
    unfolded,
)
from alsflow.nodes.anat.register import displaced
from alsflow.nodes.geometry import apply_affine, grid_over, grid_points, voxel_volume

OBLIQUE = np.array(
    [[1.9, 0.3, -0.1, -40.0], [-0.3, 2.1, 0.2, -50.0], [0.1, -0.2, 1.6, -30.0], [0, 0, 0, 1.0]]
)
SHAPE = (38, 46, 41)


def swirl(points: np.ndarray, size: float) -> np.ndarray:
    """Smooth displacement, mm, that differs along every axis."""
    x, y, z = points / 25
    return size * np.stack([np.sin(y) * np.cos(z), np.sin(z + 0.5), np.cos(x) * np.sin(y)])


def ball(points: np.ndarray, radii: tuple[float, ...], edge: float = 2.0) -> np.ndarray:
    reach = np.sqrt(sum((axis / radius) ** 2 for axis, radius in zip(points, radii, strict=True)))
    return (1 / (1 + np.exp((reach - 1) * np.mean(radii) / edge))).astype(np.float32)


def test_jacobian_of_a_linear_map_is_its_determinant():
    matrix = np.array([[1.1, 0.2, 0], [-0.1, 0.8, 0.3], [0, 0.1, 1.3]])
    points = np.einsum("ij,jxyz->ixyz", matrix, grid_points(SHAPE, OBLIQUE))
    np.testing.assert_allclose(jacobian(points, OBLIQUE), np.linalg.det(matrix), rtol=1e-4)


def test_jacobian_of_a_reflected_grid_keeps_its_sign():
    flipped = OBLIQUE @ np.diag([-1, 1, 1, 1])
    points = grid_points(SHAPE, flipped) * 1.2
    np.testing.assert_allclose(jacobian(points, flipped), 1.2**3, rtol=1e-4)


def test_outside_the_native_view_there_is_no_volume():
    points = grid_points(SHAPE, OBLIQUE)
    native = np.diag([2.0, 2.0, 2.0, 1.0])
    native[:3, 3] = -20
    found = native_jacobian(points, OBLIQUE, (20, 20, 20), native)
    within = inside(points, (20, 20, 20), native)
    assert 0 < within.mean() < 1
    np.testing.assert_allclose(found[within], 1, rtol=1e-4)
    assert (found[~within] == 0).all()


def test_the_edge_of_the_view_is_the_last_voxel_centre():
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    ends = np.array([[0, 0, 0], [18, 27, 36], [18.01, 27, 36], [-0.01, 0, 0]]).T.astype(float)
    assert inside(ends, (10, 10, 10), affine).tolist() == [True, True, False, False]


def test_folds_are_smoothed_and_nothing_else():
    still = grid_points(SHAPE, OBLIQUE)
    field = swirl(still, 2.0).astype(np.float32)
    field[0, 18:20, 22:24, 20] += 9  # a jump of several voxels between neighbours
    assert (jacobian(still + field, OBLIQUE) <= 0).any()
    mended = unfolded(field, OBLIQUE)
    assert jacobian(still + mended, OBLIQUE).min() > 0
    far = np.ones(SHAPE, bool)
    far[6:32, 10:36, 8:34] = False
    assert (mended[:, far] == field[:, far]).all()


def test_a_field_without_folds_is_left_alone():
    field = swirl(grid_points(SHAPE, OBLIQUE), 2.0).astype(np.float32)
    np.testing.assert_array_equal(unfolded(field, OBLIQUE), field)


def test_inverse_brings_points_back():
    still = grid_points(SHAPE, OBLIQUE)
    field = swirl(still, 4.0).astype(np.float32)
    back = displaced(still + inverted(field, OBLIQUE), field, OBLIQUE)
    middle = (slice(None), *[slice(6, -6)] * 3)
    assert np.abs(back - still)[middle].max() < 0.1


@pytest.mark.parametrize("fwhm", [0.0, 6.0, 8.0])
def test_smoothing_has_the_width_it_says_in_mm(fwhm):
    affine = np.diag([1.0, 1.5, 2.0, 1.0])
    volume = np.zeros((61, 41, 31))
    volume[30, 20, 15] = 1
    wide = smoothed(volume, affine, fwhm)
    assert wide.sum() == pytest.approx(1, abs=1e-3)
    for axis, size in enumerate((1.0, 1.5, 2.0)):
        profile = wide.sum(axis=tuple({0, 1, 2} - {axis}))
        at = (np.arange(len(profile)) - len(profile) // 2) * size
        assert np.sqrt((profile * at**2).sum()) * FWHM == pytest.approx(fwhm, rel=0.02, abs=1e-6)


def test_shrinking_keeps_amounts():
    fine = np.diag([1.0, 1.0, 1.0, 1.0])
    points = grid_points((64, 72, 80), fine)
    volume = ball(points - np.array([32, 36, 40.0]).reshape(3, 1, 1, 1), (20, 22, 25))
    shape, affine = grid_over(volume.shape, fine, 2.0)
    coarse = shrink(volume, fine, shape, affine)
    assert coarse.sum() * voxel_volume(affine) == pytest.approx(
        volume.sum() * voxel_volume(fine), rel=2e-3
    )


@pytest.fixture(scope="module")
def brains():
    """Template and native maps of a toy brain: a shell of grey around white, warped."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-46, -52, -48)
    shape = (47, 53, 49)
    points = grid_points(shape, affine)

    def maps(at):
        whole, white = ball(at, (34, 40, 36)), ball(at, (26, 31, 28))
        white = white * (1 - 0.9 * ball(at - np.array([8, 5, 0.0]).reshape(3, 1, 1, 1), (9, 9, 9)))
        return whole - np.minimum(white, whole), np.minimum(white, whole)

    native_affine = OBLIQUE.copy()
    native_shape = (44, 50, 60)
    centre = apply_affine(native_affine, (np.array(native_shape, float) - 1) / 2)
    start = np.eye(4)
    start[:3, 3] = centre
    at = grid_points(native_shape, native_affine) - centre.reshape(3, 1, 1, 1)
    native = maps(1.08 * (at + swirl(at, 3.0)))
    return maps(points), affine, native, native_affine, start


@pytest.fixture(scope="module")
def warp(brains):
    template, affine, native, native_affine, start = brains
    grid = grid_over(native[0].shape, native_affine, 2.0)
    return normalise(native, native_affine, template, affine, start, grid), grid


def test_modulated_maps_keep_the_native_amount(brains, warp):
    template, affine, native, native_affine, _ = brains
    found, _ = warp
    for tissue in native:
        total = modulated(tissue, native_affine, found.to_native, found.jacobian).sum()
        native_total = tissue.sum() * voxel_volume(native_affine)
        assert total * voxel_volume(affine) == pytest.approx(native_total, rel=0.01)


def test_the_warp_fits_without_folding(brains, warp):
    template, _, native, native_affine, _ = brains
    found, _ = warp
    voxels = apply_affine(np.linalg.inv(native_affine), found.to_native)
    for tissue, goal in zip(native, template, strict=True):
        warped = ndimage.map_coordinates(tissue, voxels, order=1) > 0.5
        overlap = 2 * (warped & (goal > 0.5)).sum() / (warped.sum() + (goal > 0.5).sum())
        assert overlap > 0.95
    assert found.jacobian[found.jacobian != 0].min() > 0


def test_the_two_maps_undo_each_other(brains, warp):
    template, affine, *_ = brains
    found, (_, grid_affine) = warp
    brain = template[0] + template[1] > 0.5
    there = found.to_native[:, brain]
    voxels = apply_affine(np.linalg.inv(grid_affine), there)
    back = np.stack([ndimage.map_coordinates(part, voxels, order=1) for part in found.to_template])
    apart = np.sqrt(((back - grid_points(brain.shape, affine)[:, brain]) ** 2).sum(axis=0))
    assert apart.mean() < 0.15
    assert np.percentile(apart, 99) < 0.8


def test_a_poor_fit_and_a_fold_are_flagged():
    good = {"template_dice_gm": 0.7, "jacobian_min": 0.001}
    assert judge_fit(good) == []
    poor = judge_fit({"template_dice_gm": 0.699, "jacobian_min": 0.0})
    assert [flag.name for flag in poor] == ["normalisation_poor", "normalisation_folds"]
    assert judge_fit({"template_dice_gm": float("nan"), "jacobian_min": 1.0})
