"""The template finds a brain that was turned, moved and sized; N4 finds a known field."""

import numpy as np
import pytest

from alsflow.interfaces.images import load
from alsflow.interfaces.template import template_file
from alsflow.nodes.anat.bias import n4_field
from alsflow.nodes.anat.brain import affine_to_template
from alsflow.nodes.anat.mask import settle
from alsflow.nodes.geometry import apply_affine, grid_points, resample


def turned(degrees, axis):
    i, j = (k for k in range(3) if k != axis)
    angle, turn = np.deg2rad(degrees), np.eye(4)
    turn[i, i] = turn[j, j] = np.cos(angle)
    turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
    return turn


@pytest.mark.parametrize(
    ("pitch", "sizes", "shift"),
    [(18.0, (0.92, 1.0, 0.9), (12, -20, 30)), (-10.0, (1.06, 1.1, 1.0), (-5, 8, -12))],
)
def test_a_known_affine_is_found(pitch, sizes, shift):
    """The template itself, pitched, sized and moved on a grid with unequal voxels."""
    brain, image = load(template_file("t1"))
    small, affine = brain[::2, ::2, ::2], image.affine @ np.diag([2, 2, 2, 1])
    truth = turned(pitch, 0) @ turned(6, 2) @ np.diag([*sizes, 1.0])
    truth[:3, 3] = shift
    grid = np.diag([2.0, 1.7, 2.3, 1.0])
    corner = apply_affine(truth, apply_affine(affine, np.array(small.shape)[:, None] / 2))[:, 0]
    shape = (120, 150, 110)
    grid[:3, 3] = corner - grid[:3, :3] @ (np.array(shape) / 2)
    head = resample(small, truth @ affine, shape, grid)
    found = affine_to_template(small, affine, head * 3.7, grid)
    points = grid_points(small.shape, affine)[:, small > 0][:, ::500]
    error = np.abs(apply_affine(found, points) - apply_affine(truth, points))
    assert error.max() < 0.7


def test_n4_finds_a_known_field_up_to_its_scale():
    rng = np.random.default_rng(5)
    shape, zooms = (70, 80, 60), np.array([2.0, 2.0, 2.5])
    x, y, z = np.indices(shape) / np.array(shape)[:, None, None, None]
    inside = (x - 0.5) ** 2 + (y - 0.5) ** 2 + (z - 0.5) ** 2 < 0.2
    tissue = np.where(np.sin(18 * x) * np.sin(21 * y + 3 * z) > 0, 1.0, 0.7) * inside
    truth = np.exp(0.4 * (x - 0.5) + 0.3 * np.cos(3 * z))
    image = 500 * tissue * truth + 5 * np.abs(rng.standard_normal(shape))
    left = n4_field(image, zooms, inside)[inside] / truth[inside]
    assert left.std() / left.mean() < 0.03
    assert truth[inside].std() / truth[inside].mean() > 0.15


def test_neighbours_outvote_a_voxel_but_not_a_region():
    zooms = np.array([1.0, 1.0, 1.5])
    odds = np.full((30, 28, 26), 1.0)
    odds[15, 14, 13] = -2.0
    odds[:8] = -2.0
    inside = settle(odds, zooms) > 0.5
    assert inside[15, 14, 13]
    assert not inside[:7].any()
    assert inside[10:].all()
