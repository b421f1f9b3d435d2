"""Rigid motion: what is found against what was simulated."""

import numpy as np
import pytest
from bold_phantom import corner_errors, moving_head, oblique, walk
from cat_surf import vol_realign
from scipy import ndimage
from threadpoolctl import threadpool_limits

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.realign import nearest_to_all, realign, stillest

MEAN, MOST = 0.06, 0.15  # mm, allowed at the corners of the head
VOLUMES = 20


@pytest.fixture(scope="module")
def head():
    """Two runs, the head moved between them; three volumes are spoilt."""
    rng = np.random.default_rng(3)
    path = walk(rng, VOLUMES, 3.0)
    path[12:] += (2.0, -5.0, 3.0, 3.0, -1.0, 2.0)
    return moving_head(rng, VOLUMES, (54, 64, 30), (3.4, 3.1, 4.2), parameters=path, spoilt=3)


@pytest.fixture(scope="module")
def found(head):
    return realign(head.signal, head.affine, head.mask, np.arange(VOLUMES) // 12)


def test_motion_is_found(head, found):
    error = corner_errors(found.head_to_volume, head.head_to_volume, found.reference)
    still = np.tile(np.eye(4), (VOLUMES, 1, 1))
    assert corner_errors(still, head.head_to_volume, found.reference).mean() > 2
    assert error[head.fits].mean() < MEAN
    assert error[head.fits].max() < MOST
    assert error[~head.fits].max() < 0.5
    assert found.settled.all()
    assert not found.lost.any()
    assert not found.notes


def test_spoilt_volumes_stand_out_and_are_no_reference(head, found):
    np.testing.assert_array_equal(found.head_to_volume[found.reference], np.eye(4))
    assert head.fits[found.reference]
    dull = np.abs(found.gain - 1) > 0.1
    assert dull.sum() == 1
    bad = ~head.fits & ~dull
    assert found.misfit[bad].min() > 1.2 * found.misfit[head.fits].max()


def test_a_second_implementation_agrees(head, found):
    """cat-surf's registration, in mcflirt's conventions, on the volumes that are not spoilt."""
    chosen = np.flatnonzero(head.fits)
    reference = int(np.flatnonzero(chosen == found.reference)[0])
    other = vol_realign(head.signal[..., chosen], head.affine, refvol=reference, resample=False)
    theirs = np.linalg.inv(other["ras"])
    difference = corner_errors(found.head_to_volume[chosen], theirs, reference)
    assert difference.mean() < 0.15
    assert difference.max() < 0.5


@pytest.mark.parametrize("count", [2, 8])
def test_slab_whose_ends_leave_the_view(count):
    """20 slices in the middle of the head: what leaves at one end enters at the other."""
    rng = np.random.default_rng(count)
    slab = moving_head(rng, count, (60, 66, 20), (3.2, 3.0, 3.5))
    assert slab.mask[..., 0].any()
    assert slab.mask[..., -1].any()
    estimate = realign(slab.signal, slab.affine, slab.mask)
    error = corner_errors(estimate.head_to_volume, slab.head_to_volume, estimate.reference)
    assert error.mean() < MEAN
    assert error.max() < MOST


def test_threads_do_not_change_a_bit(head, found):
    with threadpool_limits(1):
        one = realign(head.signal[..., :5], head.affine, head.mask)
    with threadpool_limits(2):
        two = realign(head.signal[..., :5], head.affine, head.mask)
    np.testing.assert_array_equal(one.head_to_volume, two.head_to_volume)


def smooth_series(rng, count, noise=0.0):
    shape = (15, 17, 13)
    one = ndimage.gaussian_filter(rng.normal(size=shape), 1.2) * 400 + 500
    series = np.repeat(one[..., None], count, axis=3)
    mask = np.zeros(shape, bool)
    mask[2:-2, 3:-3, 2:-2] = True
    return (series + noise * rng.normal(size=series.shape)).astype(np.float32), mask


def test_a_head_at_rest_stays_at_rest():
    """The corners lie far outside this small grid."""
    affine = oblique((15, 17, 13), (3.0, 2.8, 3.5))
    for noise, most in ((0.0, 1e-6), (3.0, 0.3)):
        series, mask = smooth_series(np.random.default_rng(1), 6, noise)
        estimate = realign(series, affine, mask)
        still = np.tile(np.eye(4), (6, 1, 1))
        assert corner_errors(estimate.head_to_volume, still, estimate.reference).max() < most


def test_a_volume_that_shows_no_head_is_named_and_harms_no_other():
    affine = oblique((15, 17, 13), (3.0, 2.8, 3.5))
    series, mask = smooth_series(np.random.default_rng(1), 9, 3.0)
    series[..., 3] = -series[..., 3]
    estimate = realign(series, affine, mask)
    assert estimate.lost.nonzero()[0].tolist() == [3]
    assert np.isnan(estimate.misfit[3])
    assert "volume 3" in estimate.notes[0]
    still = np.tile(np.eye(4), (9, 1, 1))
    assert corner_errors(estimate.head_to_volume, still, estimate.reference).max() < 0.3


def test_the_still_volume_is_sought_within_runs():
    rng = np.random.default_rng(0)
    series, mask = smooth_series(rng, 9, 30.0)
    series[..., 5] = series[..., 4] = series[..., 3]
    assert stillest(series, mask) == 4
    assert stillest(series, mask, np.array([0, 0, 0, 0, 0, 1, 1, 1, 1])) == 3
    assert stillest(series[..., :2], mask) == 0


def test_the_reference_lies_in_the_middle_and_fits():
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, 0, 3] = (0.0, 1.0, 1.1, 2.0, 9.0)
    corners = np.array([[-1.0, 1], [0, 0], [0, 0]])
    assert nearest_to_all(poses, corners, np.array([1, 1, 1, 1, 1.0])) == 2
    assert nearest_to_all(poses, corners, np.array([1, 1, 9, 1, np.nan])) == 1


@pytest.mark.parametrize(
    ("shape", "inside", "words"),
    [
        ((15, 17, 13), 300, "dimensions"),
        ((15, 7, 13, 4), 300, "7 voxels along one axis"),
        ((15, 17, 13, 4), 199, "fewer than 200 voxels"),
    ],
)
def test_refusals(shape, inside, words):
    mask = np.zeros(shape[:3], bool)
    mask.ravel()[:inside] = True
    with pytest.raises(BadInputError, match=words):
        realign(np.ones(shape, np.float32), np.diag([3.0, 3, 3, 1]), mask)


def test_a_series_without_contrast_is_refused():
    series = np.full((15, 17, 13, 4), 100, np.float32)
    with pytest.raises(BadInputError, match="no head"):
        realign(series, np.diag([3.0, 3, 3, 1]), np.ones(series.shape[:3], bool))
