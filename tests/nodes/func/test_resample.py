"""One interpolation of a BOLD series."""

import numpy as np
import pytest
from bold_phantom import matrices_of, oblique
from scipy import ndimage

from alsflow.nodes.distortion.unwarp import unwarp
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.resample import correct_bold

SHAPE, VOXEL = (17, 19, 14), (3.0, 2.5, 4.0)


def smooth(rng, sigma=1.5):
    return (1000 + 3000 * ndimage.gaussian_filter(rng.normal(size=SHAPE), sigma)).astype(float)


@pytest.mark.parametrize("axis", [0, 1])
def test_agrees_with_a_second_implementation(axis):
    """Motion, shift and Jacobian against the unwarping of single images with scipy."""
    rng = np.random.default_rng(axis)
    affine = oblique(SHAPE, VOXEL)
    poses = matrices_of(np.array([[0.8, -1.0, 0.6, 2, -3, 2], [0, 0, 0, 0, 0, 0]]))
    shift = ndimage.gaussian_filter(rng.normal(size=SHAPE), 3) * 30
    volume = smooth(rng)
    for a in range(3):  # `unwarp` takes what lies outside for 0
        fall = np.hanning(SHAPE[a] + 2)[1:-1] ** 0.5
        volume *= np.reshape(fall, [-1 if b == a else 1 for b in range(3)])
    series = np.stack([volume, volume], axis=3)
    found = correct_bold(series, affine, poses, shift, axis)
    stretch = np.gradient(shift, axis=axis) / VOXEL[axis]
    assert np.abs(stretch).max() > 0.02
    inner = (slice(4, -4),) * 3
    for n, pose in enumerate(poses):
        own = unwarp(volume, shift, affine, axis, placement=pose)
        np.testing.assert_allclose(found.signal[..., n][inner], own[inner], rtol=3e-3, atol=1)


def test_identity_changes_nothing_and_sees_everything():
    series = np.stack([smooth(np.random.default_rng(n)) for n in range(2)], axis=3)
    found = correct_bold(series, oblique(SHAPE, VOXEL), np.tile(np.eye(4), (2, 1, 1)))
    np.testing.assert_allclose(found.signal, series, rtol=1e-5)
    assert found.seen.all()


def test_what_left_the_view_in_one_volume_is_not_seen():
    affine = oblique(SHAPE, VOXEL)
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[1, :3, 3] = affine[:3, 2] * 1.6  # by 1.6 slices upwards
    found = correct_bold(np.ones((*SHAPE, 3), np.float32), affine, poses)
    assert found.seen[..., :-2].all()
    assert not found.seen[..., -2:].any()


def test_refusals():
    series, affine = np.ones((*SHAPE, 2)), oblique(SHAPE, VOXEL)
    poses = np.tile(np.eye(4), (2, 1, 1))
    with pytest.raises(BadInputError, match="2 volumes, but 3 poses"):
        correct_bold(series, affine, np.tile(np.eye(4), (3, 1, 1)))
    with pytest.raises(BadInputError, match="PhaseEncodingDirection"):
        correct_bold(series, affine, poses, np.zeros(SHAPE))
    with pytest.raises(BadInputError, match="another grid"):
        correct_bold(series, affine, poses, np.zeros((3, 3, 3)), 1)
