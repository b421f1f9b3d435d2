"""Noise masks and components: known answers, and nipype's implementation on the same data."""

import nibabel as nib
import numpy as np
import pytest
from nipype.algorithms.confounds import compute_noise_components

from alsflow.nodes.func.compcor import (
    DEEP,
    MIN_VOXELS,
    components,
    noise_masks,
    slow_cosines,
)

TR = 2.2
SHAPE = (40, 44, 36)
EDGES = np.array([3.0, 3.2, 3.6])
TURN = np.linalg.qr(np.array([[0.98, -0.19, 0.05], [0.19, 0.98, 0.03], [-0.05, -0.02, 1.0]]))[0]
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN * EDGES


def head(ventricle):
    """A ball: cortex with fluid outside it, white matter, and a ventricle of a radius in mm."""
    middle = (np.array(SHAPE) - 1) / 2
    away = (np.indices(SHAPE).T - middle) * EDGES
    radius = np.sqrt((away**2).sum(axis=-1)).T
    bounds = [(0, ventricle, 2), (ventricle, 38, 1), (38, 46, 0), (46, 52, 2)]
    tissue = np.zeros((*SHAPE, 3), np.float32)
    for low, high, kind in bounds:
        # fractions change over one voxel at each border
        share = np.clip((radius - low) / 3.3 + 0.5, 0, 1) * np.clip(
            (high - radius) / 3.3 + 0.5, 0, 1
        )
        tissue[..., kind] += share if low else np.clip((high - radius) / 3.3 + 0.5, 0, 1)
    return tissue, radius < 52, radius


def test_masks_hold_one_tissue():
    tissue, brain, radius = head(16.0)
    masks = noise_masks(tissue, brain, AFFINE)
    white, fluid = masks["wm"], masks["csf"]
    assert white.enough
    assert fluid.enough
    assert tissue[white.voxels, 1].min() >= 0.99
    assert radius[white.voxels].max() < 38 - EDGES.min()  # eroded: no cortex beside it
    assert radius[white.voxels].min() > 16 + EDGES.min()
    assert tissue[fluid.voxels, 2].min() >= fluid.fraction
    assert radius[fluid.voxels].max() < 16  # not the fluid around the brain


def test_depth_is_counted_through_a_hole_in_the_mask():
    """A coil leaves the middle of the head dark, and a mask may miss it."""
    tissue, brain, radius = head(16.0)
    whole = noise_masks(tissue, brain, AFFINE)["csf"].size
    assert noise_masks(tissue, brain & (radius > 3), AFFINE)["csf"].size > 0.75 * whole


def test_small_ventricles_take_laxer_voxels_and_none_are_not_enough():
    size = {r: noise_masks(*head(r)[:2], AFFINE)["csf"] for r in (14.0, 9.0, 3.0)}
    assert size[14.0].fraction > size[9.0].fraction
    assert size[9.0].enough
    assert not size[3.0].enough
    assert size[3.0].size < MIN_VOXELS


def test_fluid_near_the_surface_is_left_out():
    tissue, brain, radius = head(16.0)
    tissue[:] = 0
    tissue[..., 2] = 1
    voxels = noise_masks(tissue, brain, AFFINE)["csf"].voxels
    assert radius[voxels].max() < 52 - DEEP + EDGES.max()


def series(voxels=300, n=120, seed=3):
    rng = np.random.default_rng(seed)
    courses = rng.normal(size=(4, n))
    signal = rng.normal(size=(voxels, 4)) * [3, 2, 1.5, 1] @ courses
    drift = 30 * rng.normal(size=(voxels, 1)) * np.linspace(-1, 1, n)
    return (1000 + signal + drift + rng.normal(size=(voxels, n))).astype(np.float32)


def test_components_are_those_of_nipype():
    signal = series()
    image = nib.Nifti1Image(signal.reshape(10, 15, 2, -1), np.eye(4))
    mask = nib.Nifti1Image(np.ones((10, 15, 2), np.uint8), np.eye(4))
    # nipype stops one cosine earlier than nilearn and SPM: 4 are below 1/128 Hz and below 1/100,
    # where it counts the constant as the fifth
    expected, _, facts = compute_noise_components(
        image.get_fdata(), [mask], 5, "cosine", period_cut=100, repetition_time=TR
    )
    found = components(signal, np.zeros(120, int), TR, 5)
    overlap = np.abs((expected * found.series).sum(axis=0))
    np.testing.assert_allclose(overlap, 1, atol=1e-5)
    np.testing.assert_allclose(found.explained[0], facts["variance_explained"][:5], rtol=1e-4)


def test_signs_do_not_depend_on_the_order_of_voxels():
    signal = series()
    found = components(signal, np.zeros(120, int), TR, 3).series
    other = components(signal[::-1], np.zeros(120, int), TR, 3).series
    np.testing.assert_allclose(found, other, atol=1e-8)
    assert (found.max(axis=0) == np.abs(found).max(axis=0)).all()


def test_each_run_has_components_of_its_own():
    signal = series()
    runs = np.repeat([0, 1], [50, 70])
    found = components(signal, runs, TR, 3)
    alone = components(signal[:, :50], runs[:50], TR, 3)
    np.testing.assert_array_equal(found.series[:50], alone.series)
    np.testing.assert_array_equal(found.explained[0], alone.explained[0])


def test_no_more_components_than_there_are():
    signal = series(n=8)
    found = components(signal, np.zeros(8, int), TR, 10).series
    slow = slow_cosines(8, TR, 1 / 128).shape[1]
    known = np.isfinite(found).all(axis=0)
    assert known.sum() == 8 - 1 - slow
    assert np.isnan(found[:, ~known]).all()


def test_voxels_that_never_change_are_ignored():
    signal = series()
    signal[:20] = 700.0
    found = components(signal, np.zeros(120, int), TR, 3).series
    expected = components(signal[20:], np.zeros(120, int), TR, 3).series
    np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize("frequency", [1 / 128, 0.02])
def test_slow_cosines_end_at_their_frequency(frequency):
    found = slow_cosines(120, TR, frequency)
    highest = found.shape[1] / (2 * 120 * TR)
    assert highest <= frequency < highest + 1 / (2 * 120 * TR)
    np.testing.assert_allclose(found.T @ found, np.eye(found.shape[1]), atol=1e-12)
