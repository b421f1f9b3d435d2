"""Slices without signal are found where they are, and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest
from phantoms import diffusion_phantom, scheme

from alsflow.nodes.dwi.motion import estimate_motion
from alsflow.nodes.dwi.outliers import replace_outliers
from alsflow.nodes.dwi.slice_loss import outlier_slices, slice_loss


@pytest.fixture(scope="module")
def dropped():
    gradients = scheme(20)
    shape, voxel = (62, 60, 31), (3.6, 4.0, 4.4)
    return diffusion_phantom(np.random.default_rng(9), gradients, shape, voxel, dropouts=6)


@pytest.fixture(scope="module")
def found(dropped):
    return estimate_motion(
        dropped.signal, dropped.affine, dropped.gradients, dropped.phase_encoding, dropped.mask
    )


def test_dropouts_and_nothing_else_are_found(dropped, found):
    np.testing.assert_array_equal(found.outliers, dropped.dropouts)
    assert np.all(found.loss[dropped.dropouts] > 0.3)
    rest = found.loss[~dropped.dropouts]
    assert np.nanstd(rest) < 0.02
    assert np.isnan(found.loss[dropped.gradients.b0]).all()
    judged = np.isfinite(found.loss).sum()
    assert found.outlier_share == pytest.approx(dropped.dropouts.sum() / judged)


def test_replaced_slices_are_near_the_truth(dropped, found):
    arguments = (dropped.affine, dropped.gradients, dropped.phase_encoding, dropped.mask, found)
    mended = replace_outliers(dropped.signal, *arguments)
    whole = diffusion_phantom(
        np.random.default_rng(9), dropped.gradients, dropped.signal.shape[:3], (3.6, 4.0, 4.4),
        snr=None,
    )  # fmt: skip
    for volume, z in np.argwhere(dropped.dropouts):
        brain = dropped.mask[:, :, z]
        truth = whole.signal[:, :, z, volume][brain]
        lost = np.abs(dropped.signal[:, :, z, volume][brain] - truth).mean()
        error = np.abs(mended[:, :, z, volume][brain] - truth).mean()
        assert error < 0.2 * lost
        assert error < 40  # the standard deviation of the noise
    kept = ~np.moveaxis(np.broadcast_to(dropped.dropouts.T[:, :, None, None], (31, 23, 62, 60)),
                        (0, 1), (2, 3))  # fmt: skip
    np.testing.assert_array_equal(mended[kept], dropped.signal[kept])


def test_nothing_to_replace_gives_the_series_itself(dropped, found):
    clean = replace(found, outliers=np.zeros_like(found.outliers))
    arguments = (dropped.affine, dropped.gradients, dropped.phase_encoding, dropped.mask, clean)
    assert replace_outliers(dropped.signal, *arguments) is dropped.signal


def test_loss_is_a_share_of_the_predicted_signal():
    predicted = np.full((1, 200), 50.0)
    values, slices = predicted.copy(), np.repeat([[0, 2]], 100, axis=1)
    values[0, :100] = 20.0
    usable = np.ones((1, 200), bool)
    loss = slice_loss(values, predicted, slices, usable, 3)
    np.testing.assert_allclose(loss, [[0.6, np.nan, 0.0]])
    usable[0, 59:100] = False  # one point too few
    assert np.isnan(slice_loss(values, predicted, slices, usable, 3)[0, 0])


def test_an_outlier_lost_ten_percent_and_stands_out():
    loss = np.tile(np.array([[-0.004], [0.0], [0.004], [0.002], [-0.002], [0.001], [0.0]]), 3)
    loss[3] = [0.09, 0.11, 0.11]
    loss[:3, 2] = [-0.2, 0.2, 0.15]  # a slice in which all scatter
    loss[4:, 2] = [-0.15, 0.1, -0.1]
    np.testing.assert_array_equal(outlier_slices(loss)[3], [False, True, False])
    assert outlier_slices(loss).sum() == 1
