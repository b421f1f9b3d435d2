"""One interpolation from the raw to the corrected series."""

import numpy as np
import pytest
from phantoms import diffusion_phantom, oblique_affine, scheme
from scipy import ndimage
from scipy.spatial.transform import Rotation

from alsflow.nodes.distortion.phase_encoding import PhaseEncoding
from alsflow.nodes.dwi.estimate import MotionEstimate
from alsflow.nodes.dwi.gradients import Gradients
from alsflow.nodes.dwi.resample import resample_series, rotated_gradients
from alsflow.nodes.epi.pose import EDDY_RADIUS, eddy_basis, eddy_stretch, frame_of
from alsflow.nodes.errors import BadInputError

SHAPE = (17, 19, 14)
VOXEL = (2.0, 2.5, 3.0)
ENCODING = PhaseEncoding(1, -1, 0.05)


def estimate(matrices, eddy=None):
    count = len(matrices)
    terms = np.zeros((count, 4)) if eddy is None else eddy
    none = np.zeros((count, SHAPE[2]))
    return MotionEstimate(
        np.asarray(matrices), terms, (), True, none.astype(bool), none, np.ones(count), ()
    )


def smooth_series(rng, count):
    noise = rng.normal(size=(*SHAPE, count))
    return (1000 + 3000 * ndimage.gaussian_filter(noise, (1.5, 1.5, 1.5, 0))).astype(np.float32)


@pytest.mark.parametrize("order", [1, 3])
def test_identity_changes_nothing_but_rounding(order):
    signal = np.random.default_rng(0).normal(500, 100, (*SHAPE, 2)).astype(np.float32)
    affine = oblique_affine(SHAPE, VOXEL)
    found = resample_series(signal, affine, estimate([np.eye(4)] * 2), ENCODING, order=order)
    np.testing.assert_allclose(found.signal, signal, rtol=2e-5, atol=2e-3)
    assert found.seen.all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_agrees_with_scipy_where_everything_is_at_work(axis):
    """A second implementation: the formulas of the page, with scipy's interpolation."""
    rng = np.random.default_rng(axis)
    signal, affine = smooth_series(rng, 1), oblique_affine(SHAPE, VOXEL)
    move = np.eye(4)
    move[:3, :3] = Rotation.from_euler("xyz", (2, -3, 4), degrees=True).as_matrix()
    move[:3, 3] = (0.7, -0.4, 0.5)
    eddy = np.array([[0.6, 0.01, -0.02, 0.015, 0.01, -0.01, 0.02, 0.012, -0.01]])
    shift = ndimage.gaussian_filter(rng.normal(size=SHAPE), 3) * 20
    encoding = PhaseEncoding(axis, 1, None)
    found = resample_series(
        signal, affine, estimate([move], eddy), encoding, shift, np.array([-1.0])
    )

    frame = frame_of(SHAPE, affine)
    voxels = np.indices(SHAPE).reshape(3, -1).astype(float)
    world = move @ affine @ np.vstack([voxels, np.ones_like(voxels[:1])])
    place = (np.linalg.inv(frame.to_world) @ world)[:3]
    bent = eddy[0] @ eddy_basis(place)
    stretch = (1 + eddy[0] @ eddy_stretch(place, axis)) * (
        1 - np.gradient(shift, axis=axis).ravel() / VOXEL[axis]
    )
    place[axis] += bent - shift.ravel()
    coordinates = place / frame.zooms[:, None] + frame.middle[:, None]
    last = np.array(SHAPE)[:, None] - 1
    inside = ((coordinates > 0) & (coordinates < last)).all(axis=0)
    expected = ndimage.map_coordinates(
        signal[..., 0].astype(float), coordinates, order=3, mode="mirror"
    )
    np.testing.assert_allclose(
        found.signal[..., 0].ravel()[inside], (expected * stretch)[inside], rtol=1e-4
    )
    near = ((coordinates > -0.49) & (coordinates < last + 0.49)).all(axis=0)
    far = ((coordinates < -0.51) | (coordinates > last + 0.51)).any(axis=0)
    assert found.seen.ravel()[near].all()
    assert not found.seen.ravel()[far].any()
    assert far.any()


def test_stretch_is_the_derivative_of_the_displacement():
    points = np.random.default_rng(3).uniform(-70, 70, (3, 50))
    for axis in range(3):
        step = np.zeros((3, 1))
        step[axis] = 1e-4
        expected = (eddy_basis(points + step) - eddy_basis(points - step)) / 2e-4
        np.testing.assert_allclose(eddy_stretch(points, axis), expected, atol=1e-7)


def test_quadratic_terms_obey_laplace():
    points = np.random.default_rng(4).uniform(-70, 70, (3, 5))
    total = sum(
        eddy_basis(points + step[:, None])
        - 2 * eddy_basis(points)
        + eddy_basis(points - step[:, None])
        for step in np.eye(3)
    )
    np.testing.assert_allclose(total * EDDY_RADIUS, 0, atol=1e-8)


def test_intensity_is_kept_along_the_phase_encoding():
    """What is squeezed together gets brighter: the sum over the axis stays."""
    affine = oblique_affine(SHAPE, VOXEL)
    raw = np.zeros((*SHAPE, 1), np.float32)
    raw[:, 6:13] = 100
    raw = ndimage.gaussian_filter1d(raw, 1.5, axis=1)
    eddy = np.array([[0.3, 0, 0.08, 0]])
    found = resample_series(raw, affine, estimate([np.eye(4)], eddy), ENCODING).signal
    np.testing.assert_allclose(found.sum(axis=1), raw.sum(axis=1), rtol=2e-3)


def test_directions_turn_with_the_head():
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    gradients = Gradients(np.array([0.0, 1000.0]), np.array([[0, 0, 0], [0, 1.0, 0]]))
    found = rotated_gradients(gradients, estimate([np.eye(4), turn]))
    # the head's x axis points along the scanner's y
    np.testing.assert_allclose(found.directions, [[0, 0, 0], [1, 0, 0]], atol=1e-12)
    np.testing.assert_array_equal(found.bvals, gradients.bvals)


def test_no_distortion_is_undone_along_an_unknown_axis():
    signal, affine = np.ones((*SHAPE, 1)), oblique_affine(SHAPE, VOXEL)
    resample_series(signal, affine, estimate([np.eye(4)]), None)
    with pytest.raises(BadInputError, match="PhaseEncodingDirection"):
        resample_series(signal, affine, estimate([np.eye(4)]), None, shift=np.zeros(SHAPE))
    with pytest.raises(BadInputError, match="PhaseEncodingDirection"):
        resample_series(signal, affine, estimate([np.eye(4)], np.full((1, 4), 0.01)), None)


def test_the_truth_brings_a_moved_phantom_back():
    gradients = scheme(6, b0_every=4)
    moved = diffusion_phantom(np.random.default_rng(2), gradients, snr=None, motion=1.5)
    still = diffusion_phantom(
        np.random.default_rng(2), gradients, snr=None, parameters=np.zeros((8, 6)), eddy=0
    )
    truth = MotionEstimate(
        moved.head_to_volume, moved.poses.eddy, (), True, moved.dropouts, np.zeros((8, 34)),
        np.ones(8), (),
    )  # fmt: skip
    found = resample_series(moved.signal, moved.affine, truth, moved.phase_encoding)
    inner = ndimage.binary_erosion(moved.mask, iterations=3) & found.seen
    b0 = gradients.b0  # elsewhere the rotated head meets another direction
    before = np.abs(moved.signal - still.signal)[inner][:, b0].mean()
    after = np.abs(found.signal - still.signal)[inner][:, b0].mean()
    assert after < 0.3 * before
