import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from alsflow.nodes.epi.motion_metrics import framewise_displacement, rms_displacement

CENTRE = np.array([10.0, -20.0, 30.0])


def about(centre, degrees, shift):
    """Rotation about a centre, then a shift."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + shift
    return matrix


def test_power_adds_shifts_and_arcs_about_the_centre():
    moves = np.stack([np.eye(4), about(CENTRE, (0, 0, 2), (0.3, -0.4, 0.0))])
    found = framewise_displacement(moves, CENTRE)
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(0.7 + 50 * np.deg2rad(2))


def test_only_the_change_since_the_volume_before_counts():
    moved = about(CENTRE, (3, -2, 5), (4, 2, -1))
    found = framewise_displacement(np.stack([np.eye(4), moved, moved]), CENTRE)
    assert found[1] > 5
    assert found[2] == pytest.approx(0, abs=1e-9)


def test_rms_is_that_over_the_points_of_a_sphere():
    rng = np.random.default_rng(0)
    move = about(CENTRE, (1, -2, 3), (0.5, 0.2, -0.7))
    points = rng.normal(size=(400_000, 3))
    points *= (
        80
        * rng.random((len(points), 1)) ** (1 / 3)
        / np.linalg.norm(points, axis=1, keepdims=True)
    )
    points += CENTRE
    distance = points @ move[:3, :3].T + move[:3, 3] - points
    found = rms_displacement(np.stack([np.eye(4), move]), CENTRE)
    assert found[1] == pytest.approx(np.sqrt((distance**2).sum(axis=1).mean()), rel=5e-3)


def test_nothing_is_known_between_runs():
    moves = np.stack([np.eye(4), np.eye(4), about(CENTRE, (0, 0, 9), (9, 0, 0)), np.eye(4)])
    runs = np.array([0, 0, 1, 1])
    for measure in (framewise_displacement, rms_displacement):
        found = measure(moves, CENTRE, runs)
        assert np.isnan(found[[0, 2]]).all()
        assert found[1] == pytest.approx(0, abs=1e-9)
        assert found[3] > 9
