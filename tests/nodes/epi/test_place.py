"""Two echo-planar images of one head in two contrasts, whose movement is known."""

import importlib.util
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from alsflow.nodes.epi.place import place
from alsflow.nodes.geometry import apply_affine, grid_points

HERE = Path(__file__).parents[1] / "distortion" / "phantom.py"
_spec = importlib.util.spec_from_file_location("phantom", HERE)
phantom = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(phantom)

FIXED, MOVING = (44, 50, 32), (36, 42, 30)
FIXED_AFFINE = phantom.affine_of((3.6, 3.9, 4.2), (3.0, 5.0, -6.0), FIXED)
MOVING_AFFINE = phantom.affine_of((4.4, 4.4, 4.6), shape=MOVING)
other_look = partial(phantom.head, contrast=-0.2, fluid=0.4)


@pytest.mark.parametrize(
    ("turn", "shift"), [((0, 0, 0), (0, 0, 0)), ((3.0, -4.0, 2.0), (4.0, -3.0, 5.0))]
)
def test_a_known_movement_is_found(turn, shift):
    truth = np.eye(4)
    truth[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    truth[:3, 3] = shift
    points = grid_points(FIXED, FIXED_AFFINE)
    fixed = phantom.head(points)
    at_home = apply_affine(np.linalg.inv(truth), grid_points(MOVING, MOVING_AFFINE))
    moving = other_look(at_home)
    images = (fixed, FIXED_AFFINE, fixed > 200, moving, MOVING_AFFINE, moving > 150)
    found = place(*images)
    inside = points[:, fixed > 200][:, ::50]
    away = apply_affine(found, inside) - apply_affine(truth, inside)
    assert np.sqrt((away**2).sum(axis=0)).mean() < 0.5
    np.testing.assert_array_equal(found, place(*images))
