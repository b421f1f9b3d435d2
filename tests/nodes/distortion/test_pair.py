"""The field between two images of opposite phase encoding, against formulas and a real head."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from alsflow.nodes.distortion.pair import agreement, field_from_pair
from alsflow.nodes.distortion.unwarp import unwarp
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import grid_points, voxel_sizes

_spec = importlib.util.spec_from_file_location("phantom", Path(__file__).parent / "phantom.py")
phantom = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(phantom)

SHAPE, ZOOMS = (54, 64, 44), (3.0, 2.8, 3.3)
AFFINE = phantom.affine_of(ZOOMS, shape=SHAPE)
POINTS = grid_points(SHAPE, AFFINE).astype(float)
TRUE_SHIFT = phantom.displacement(POINTS)
UNDISTORTED = phantom.head(POINTS)
HEAD = UNDISTORTED > 200
CENTRE = AFFINE[:3, :3] @ ((np.array(SHAPE) - 1) / 2) + AFFINE[:3, 3]


def moved(axis, degrees, millimetres):
    """Movement about the middle of the grid with no translation of it along the encoding."""
    along = AFFINE[:3, axis] / voxel_sizes(AFFINE)[axis]
    rigid = np.eye(4)
    rigid[:3, :3] = Rotation.from_rotvec(degrees, degrees=True).as_matrix()
    step = np.array(millimetres, float)
    rigid[:3, 3] = CENTRE - rigid[:3, :3] @ CENTRE + step - (step @ along) * along
    return rigid


def errors(found, sign=1.0):
    off = np.abs(found.shift - sign * TRUE_SHIFT)[HEAD]
    return off.mean(), np.percentile(off, 95)


def test_phantom_keeps_signal_and_is_undone_by_its_own_field():
    """Checks the phantom and `unwarp` against each other: neither is made from the other."""
    for axis, polarity in ((0, 1.0), (1, -0.7), (2, -1.0)):
        rigid = moved(axis, (2, -1, 3), (1, 2, -1))
        seen = phantom.distorted(SHAPE, AFFINE, axis, polarity, rigid)
        back = unwarp(seen, TRUE_SHIFT, AFFINE, axis, polarity=polarity, placement=rigid)
        off = np.abs(back - UNDISTORTED)[HEAD].mean() / UNDISTORTED[HEAD].mean()
        raw = np.abs(seen - UNDISTORTED)[HEAD].mean() / UNDISTORTED[HEAD].mean()
        assert off < 0.01
        assert raw > 8 * off
        assert seen.sum() == pytest.approx(UNDISTORTED.sum(), rel=0.005)


@pytest.mark.parametrize(("axis", "sign"), [(0, 1.0), (1, 1.0), (1, -1.0), (2, -1.0)])
def test_known_field_is_found_on_each_axis_and_in_both_senses(axis, sign):
    noise = np.random.default_rng(5).normal(0, 10, (2, *SHAPE))
    first = phantom.distorted(SHAPE, AFFINE, axis, sign) + noise[0]
    second = phantom.distorted(SHAPE, AFFINE, axis, -sign) + noise[1]
    found = field_from_pair(first, second, AFFINE, axis)
    mean, high = errors(found, sign)
    assert np.abs(TRUE_SHIFT[HEAD]).mean() > 1
    assert mean < 0.12
    assert high < 0.35
    assert found.r_after > 0.995 > found.r_before
    assert found.nrmse_after < 0.06
    for corrected in (found.corrected_plus, found.corrected_minus):
        assert np.abs(corrected - UNDISTORTED)[HEAD].mean() < 0.025 * UNDISTORTED[HEAD].mean()


@pytest.mark.parametrize("ratio", [1.0, 0.6])
def test_head_that_moved_between_the_two_and_unequal_readouts(ratio):
    axis, rigid = 1, moved(1, (1.0, -0.8, 1.5), (0.9, 0, -1.1))
    first = phantom.distorted(SHAPE, AFFINE, axis, 1.0)
    second = phantom.distorted(SHAPE, AFFINE, axis, -ratio, rigid)
    found = field_from_pair(first, second, AFFINE, axis, ratio=ratio)
    mean, high = errors(found)
    assert mean < 0.12
    assert high < 0.3
    left = found.rigid_minus_to_plus @ rigid
    turn = Rotation.from_matrix(left[:3, :3]).magnitude() * 180 / np.pi
    assert turn < 0.3
    assert np.linalg.norm(left[:3, :3] @ CENTRE + left[:3, 3] - CENTRE) < 0.15


def test_partner_that_covers_fewer_slices_does_not_spoil_the_rest():
    first, second = (phantom.distorted(SHAPE, AFFINE, 1, sign) for sign in (1.0, -1.0))
    second[..., :12] = 0
    found = field_from_pair(first, second, AFFINE, 1)
    both = HEAD.copy()
    both[..., :15] = False
    assert np.abs(found.shift - TRUE_SHIFT)[both].mean() < 0.1
    assert found.r_after > 0.995
    with pytest.raises(BadInputError, match="no part in common"):
        field_from_pair(np.where(second == 0, first, 0), second, AFFINE, 1)


def test_images_without_distortion_have_no_field():
    found = field_from_pair(UNDISTORTED, 3 * UNDISTORTED, AFFINE, 1)
    assert np.abs(found.shift).max() < 1e-6
    np.testing.assert_allclose(found.rigid_minus_to_plus, np.eye(4), atol=1e-6)
    assert found.r_after == pytest.approx(1)


def test_same_input_gives_the_same_bits():
    first, second = (phantom.distorted(SHAPE, AFFINE, 1, s)[::2, ::2, ::2] for s in (1, -1))
    affine = AFFINE @ np.diag([2, 2, 2, 1])
    runs = [field_from_pair(first, second, affine, 1) for _ in range(2)]
    assert runs[0].shift.tobytes() == runs[1].shift.tobytes()
    assert runs[0].corrected_minus.tobytes() == runs[1].corrected_minus.tobytes()


def test_what_is_no_pair_is_refused():
    with pytest.raises(BadInputError, match="differ in size"):
        field_from_pair(UNDISTORTED, UNDISTORTED[:-1], AFFINE, 1)
    with pytest.raises(BadInputError, match="empty"):
        field_from_pair(UNDISTORTED, np.zeros(SHAPE), AFFINE, 1)
    with pytest.raises(BadInputError, match="no numbers"):
        field_from_pair(UNDISTORTED, np.where(HEAD, np.nan, 1), AFFINE, 1)
    with pytest.raises(BadInputError, match="readout"):
        field_from_pair(UNDISTORTED, UNDISTORTED, AFFINE, 1, ratio=10.1)


@pytest.mark.realdata
def test_real_pair_agrees_after_correction(xa30):
    assert xa30.pair.r_before < 0.65
    assert xa30.pair.r_after >= 0.98
    assert agreement(xa30.pair.corrected_plus, xa30.pair.corrected_minus)[1] < 0.09
    turn = Rotation.from_matrix(xa30.pair.rigid_minus_to_plus[:3, :3]).magnitude() * 180 / np.pi
    assert turn < 1
