"""Transforms on disk mean to other programs what they mean here."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name

from alsflow.interfaces.warps import load_warp, save_warp
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import apply_affine, grid_points

OBLIQUE = np.array(
    [[-1.9, 0.3, -0.1, 40.0], [-0.3, 2.1, 0.2, -50.0], [-0.1, -0.2, 1.6, -30.0], [0, 0, 0, 1.0]]
)


@pytest.fixture
def warp():
    # axes at right angles: ITK knows no shears
    rotation, _ = np.linalg.qr(OBLIQUE[:3, :3])
    affine = OBLIQUE.copy()
    affine[:3, :3] = rotation * (1.9, 2.1, 1.6)
    points = grid_points((9, 11, 13), affine)
    return points + np.random.default_rng(1).normal(0, 3, points.shape), affine


def test_round_trip(warp, tmp_path):
    points, affine = warp
    path = save_warp(points, affine, tmp_path / "warp.nii.gz")
    again, again_affine = load_warp(path)
    np.testing.assert_allclose(again, points, atol=1e-4)
    np.testing.assert_allclose(again_affine, affine, atol=1e-5)


def test_itk_maps_points_the_same_way(warp, tmp_path):
    points, affine = warp
    path = save_warp(points, affine, tmp_path / "warp.nii.gz")
    field = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkVectorFloat64)
    transform = sitk.DisplacementFieldTransform(field)
    lps = np.array([-1, -1, 1])
    for voxel in ((2, 3, 4), (7, 1, 11)):
        here = apply_affine(affine, np.array(voxel, float))
        there = np.array(transform.TransformPoint(tuple(lps * here))) * lps
        np.testing.assert_allclose(there, points[(slice(None), *voxel)], atol=1e-3)


def test_an_image_that_is_no_field_is_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.eye(4)), tmp_path / "t1w.nii")
    with pytest.raises(BadInputError, match=r"t1w\.nii is no displacement field"):
        load_warp(tmp_path / "t1w.nii")
