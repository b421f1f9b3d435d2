"""Grids and affines whose answers are known."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.processing import resample_from_to

from alsflow.nodes.geometry import (
    apply_affine,
    grid_over,
    grid_points,
    resample,
    voxel_sizes,
    voxel_volume,
)

OBLIQUE = np.array(
    [[-1.2, 0.3, -0.1, 20.0], [-0.4, 1.6, 0.2, -30.0], [0.1, -0.2, 2.4, -10.0], [0, 0, 0, 1.0]]
)


def test_sizes_and_volume_of_a_left_handed_oblique_grid():
    np.testing.assert_allclose(voxel_sizes(OBLIQUE), nib.affines.voxel_sizes(OBLIQUE))
    assert voxel_volume(OBLIQUE) == pytest.approx(abs(np.linalg.det(OBLIQUE[:3, :3])) / 1000)


def test_points_of_a_grid():
    points = grid_points((3, 4, 5), OBLIQUE)
    assert points.shape == (3, 3, 4, 5)
    np.testing.assert_allclose(points[:, 2, 1, 4], OBLIQUE[:3] @ [2, 1, 4, 1], rtol=1e-6)
    np.testing.assert_allclose(apply_affine(np.linalg.inv(OBLIQUE), points)[:, 2, 3, 0],
                               [2, 3, 0], atol=1e-5)  # fmt: skip


@pytest.mark.parametrize("order", [0, 1, 3])
def test_resampling_as_nibabel_does(order):
    volume = np.random.default_rng(0).normal(size=(12, 14, 10))
    target = np.diag([-1.5, 1.1, 1.3, 1.0])
    target[:3, 3] = OBLIQUE[:3, 3] + (3, 8, 6)
    ours = resample(volume, OBLIQUE, (7, 8, 9), target, order=order)
    theirs = resample_from_to(nib.Nifti1Image(volume, OBLIQUE), ((7, 8, 9), target), order=order)
    np.testing.assert_allclose(ours, theirs.get_fdata(), atol=1e-9)


@pytest.mark.parametrize("voxel", [1.0, 1.5, 3.0])
def test_a_new_grid_covers_the_same_field_of_view(voxel):
    shape, affine = grid_over((40, 30, 20), OBLIQUE, voxel)
    np.testing.assert_allclose(voxel_sizes(affine), voxel)
    face = OBLIQUE[:3] @ [-0.5, -0.5, -0.5, 1]  # the corner of the first voxel stays
    np.testing.assert_allclose(affine[:3] @ [-0.5, -0.5, -0.5, 1], face, atol=1e-9)
    extent = np.array([40, 30, 20]) * voxel_sizes(OBLIQUE)
    assert (np.array(shape) * voxel >= extent - 1e-6).all()
    assert (np.array(shape) * voxel < extent + voxel).all()


def test_a_grid_of_the_same_voxel_is_the_grid():
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    shape, same = grid_over((11, 12, 13), affine, 2.0)
    assert shape == (11, 12, 13)
    np.testing.assert_allclose(same, affine)
