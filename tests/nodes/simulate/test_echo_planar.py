import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from alsflow.nodes.geometry import apply_affine, grid_points, voxel_sizes
from alsflow.nodes.simulate.echo_planar import (
    FINER,
    Grid,
    Motion,
    Readout,
    draw_motion,
    drift_curve,
    eddy_terms,
    lose_slices,
    planes_behind,
    read_slices,
    read_volume,
    readout_matrix,
)

STILL, NO_EDDY = np.eye(4), np.zeros(4)


def oblique_grid(shape=(30, 34, 26), edges=(2.0, 2.5, 3.0)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [12, -5, 8], degrees=True).as_matrix() * edges
    affine[:3, 3] = -apply_affine(affine, (np.array(shape) - 1) / 2) + (4, -3, 7)
    return Grid(shape, affine)


def readout(grid, shift=0.0, ringing=0.0):
    field = np.zeros(grid.shape, np.float32) + shift
    bias = np.ones([FINER * n for n in grid.shape], np.float32)
    return Readout(grid, field.astype(np.float32), bias, ringing)


def blob(grid, centre, width=6.0):
    """A smooth ball on the points of the head."""
    away = grid_points(grid.fine_shape, grid.fine_affine) - np.reshape(centre, (3, 1, 1, 1))
    return np.exp(-(away**2).sum(0) / (2 * width**2)).astype(np.float32)


def centroid(image, affine):
    where = np.array(ndimage.center_of_mass(image))
    return apply_affine(affine, where)


@pytest.mark.parametrize("n", [9, 12])
def test_a_finite_readout_passes_slow_waves_and_rings_at_an_edge(n):
    points = (np.arange(FINER * n) + 0.5) / FINER - 0.5
    wave = 3 + np.cos(2 * np.pi * 2 * points / n + 0.4)
    voxels = 3 + np.cos(2 * np.pi * 2 * np.arange(n) / n + 0.4)
    np.testing.assert_allclose(readout_matrix(n, 1.0) @ wave, voxels, atol=1e-5)
    box = readout_matrix(n, 0.0) @ wave
    np.testing.assert_allclose(box, wave.reshape(n, FINER).mean(1), atol=1e-5)


def test_ringing_overshoots_as_a_truncated_series_does():
    edge = (np.arange(FINER * 128) >= 129).astype(float)  # in the middle of a voxel
    found = readout_matrix(128, 1.0) @ edge
    assert 1.05 < found.max() < 1.15  # 9 % in the limit, between the samples
    assert (readout_matrix(128, 0.0) @ edge).max() == pytest.approx(1)
    half = readout_matrix(128, 0.5) @ edge
    assert half.max() - 1 == pytest.approx((found.max() - 1) / 2, rel=0.01)


def test_a_head_at_rest_is_averaged_over_its_voxels():
    grid = oblique_grid()
    head = blob(grid, grid.centre)
    image = read_volume(readout(grid), head, STILL, 1, NO_EDDY)
    seen = head[:, :, 8:-8].reshape(30, 2, 34, 2, 26, 2).mean((1, 3, 5))
    np.testing.assert_allclose(image[2:-2, 2:-2], seen[2:-2, 2:-2], atol=1e-5)
    np.testing.assert_allclose(centroid(image, grid.affine), grid.centre, atol=1e-3)


def test_motion_puts_the_head_where_its_matrix_says():
    grid = oblique_grid()
    motion = Motion(np.array([[1.5, -2, 1]]), np.array([[4.0, -6, 5]]), np.array([5.0, 10, -20]))
    pose = motion.head_to_volume[0]
    start = grid.centre + (6, -8, 5)
    image = read_volume(readout(grid), blob(grid, start), pose, 1, NO_EDDY)
    np.testing.assert_allclose(centroid(image, grid.affine), apply_affine(pose, start), atol=0.02)
    turned = Rotation.from_euler("z", 5, degrees=True) * Rotation.from_euler("y", -6, degrees=True)
    turned = turned * Rotation.from_euler("x", 4, degrees=True)
    expected = turned.as_matrix() @ (start - motion.centre) + motion.centre + (1.5, -2, 1)
    np.testing.assert_allclose(apply_affine(pose, start), expected)


@pytest.mark.parametrize("polarity", [1, -1])
def test_a_shift_moves_along_the_second_axis_and_keeps_the_signal(polarity):
    grid = oblique_grid()
    head = blob(grid, grid.centre, 4.0)
    away = np.indices(grid.shape)[1] - (grid.shape[1] - 1) / 2
    shift = 3.0 + 0.2 * away * voxel_sizes(grid.affine)[1]  # mm, stretches by 20 %
    image = read_volume(readout(grid, shift), head, STILL, polarity, NO_EDDY)
    plain = read_volume(readout(grid), head, STILL, 1, NO_EDDY)
    axis = grid.affine[:3, 1] / voxel_sizes(grid.affine)[1]
    moved = centroid(image, grid.affine) - grid.centre
    np.testing.assert_allclose(moved, 3.0 * polarity * axis, atol=0.02)
    assert image.sum() == pytest.approx(plain.sum(), rel=1e-3)
    assert image.max() / plain.max() == pytest.approx(1 / (1 + 0.2 * polarity), rel=0.05)


def test_the_field_moves_with_the_head():
    """A shift that holds in front only finds the front wherever it is."""
    grid = oblique_grid()
    place = grid_points(grid.shape, grid.affine)[1] - grid.centre[1]
    shift = np.clip(place / 4, -1, 1) * 0.8
    pose = Motion(np.array([[0, -9.0, 0]]), np.zeros((1, 3)), grid.centre).head_to_volume[0]
    start = grid.centre + (0, 9.0, 0)
    image = read_volume(readout(grid, shift), blob(grid, start, 3.0), pose, 1, NO_EDDY)
    axis = grid.affine[:3, 1] / voxel_sizes(grid.affine)[1]
    found = centroid(image, grid.affine)
    np.testing.assert_allclose(found, grid.centre + 0.8 * axis, atol=0.05)


def test_slices_read_one_by_one_are_those_of_the_volume():
    """Each from the planes that it sees and no others."""
    grid, rng = oblique_grid(), np.random.default_rng(0)
    at = grid_points(grid.shape, grid.affine)
    device = readout(grid, 0.02 * at[0] + 0.03 * at[2], ringing=1.0)
    motion = Motion(np.array([[1.5, -2, 2]]), np.array([[3.0, -4, 2]]), np.array([5.0, 10, -20]))
    pose, eddy = motion.head_to_volume[0], np.array([0.02, -0.01, 0.03, 0.5])
    head = rng.random(grid.fine_shape, dtype=np.float32)
    whole = read_volume(device, head, pose, -1, eddy)
    for level in range(grid.shape[2]):
        low, high = planes_behind(grid, pose, level)
        assert high - low < 24
        one = read_slices(device, head[:, :, low:high], pose, -1, eddy, (level, level + 1), low)
        np.testing.assert_allclose(one[..., 0], whole[:, :, level], atol=2e-3)


def test_eddy_currents_move_by_the_place_in_the_scanner():
    grid = oblique_grid()
    edges = voxel_sizes(grid.affine)
    axes = grid.affine[:3, :3] / edges
    from_middle = np.array([-9.0, 7.0, 12.0])  # mm along the voxel axes
    start = grid.centre + axes @ from_middle
    terms = np.array([0.03, -0.02, 0.04, 0.5])
    image = read_volume(readout(grid), blob(grid, start, 4.0), STILL, 1, terms)
    moved = axes.T @ (centroid(image, grid.affine) - start)
    np.testing.assert_allclose(moved, [0, terms[:3] @ from_middle + 0.5, 0], atol=0.03)


def test_eddy_terms_are_linear_in_the_weighting():
    weighting = np.random.default_rng(0).standard_normal((5, 3))
    plain = eddy_terms(weighting, 1.0, np.random.default_rng(1))
    reversed_, twice = (
        eddy_terms(factor * weighting, 1.0, np.random.default_rng(1)) for factor in (-1, 2)
    )
    np.testing.assert_allclose(reversed_, -plain)
    np.testing.assert_allclose(twice, 2 * plain)
    many = [eddy_terms(np.eye(3), 1.0, np.random.default_rng(seed)) for seed in range(200)]
    assert np.std([terms[:, :3] for terms in many]) * 60 == pytest.approx(1, abs=0.1)


def test_motion_starts_at_rest_and_has_its_size():
    ends = []
    for seed in range(100):
        motion = draw_motion(40, 0.5, np.zeros(3), np.random.default_rng(seed))
        assert not motion.translation[0].any()
        assert not motion.rotation[0].any()
        ends.append(motion.translation[-1])
    assert np.std(ends) == pytest.approx(0.55, abs=0.1)
    still = draw_motion(5, 0.0, np.ones(3), np.random.default_rng(0))
    np.testing.assert_allclose(still.head_to_volume, np.tile(np.eye(4), (5, 1, 1)), atol=1e-12)


def test_drift_takes_its_percentage_along_a_parabola():
    drift = drift_curve(35, 5.0, np.random.default_rng(3))
    assert drift[0] == 1
    assert drift[-1] == pytest.approx(0.95)
    third = np.diff(drift, 3)
    np.testing.assert_allclose(third, 0, atol=1e-12)
    assert np.abs(np.diff(drift, 2)).max() > 1e-6


def test_slices_are_lost_in_weighted_volumes_only():
    weighted = np.arange(10) % 3 != 0
    lost = lose_slices(weighted, 20, 12, np.random.default_rng(0))
    assert len(lost) == 12
    assert all(weighted[volume] and 0 <= level < 20 for volume, level in lost)
    assert all(0.2 <= factor <= 0.6 for factor in lost.values())
    assert lose_slices(weighted, 20, 0, np.random.default_rng(0)) == {}
    assert lose_slices(np.zeros(4, bool), 20, 3, np.random.default_rng(0)) == {}
