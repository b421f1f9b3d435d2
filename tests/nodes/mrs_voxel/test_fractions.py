"""Mask, tissue fractions and coverage of the spectroscopy voxel, and the voxel in the template."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import apply_affine, grid_points, voxel_volume
from alsflow.nodes.mrs.fractions import (
    Fractions,
    overlap_map,
    tissue_fractions,
    voxel_in_template,
    voxel_mask,
)
from alsflow.nodes.mrs.voxel import box

TURN = Rotation.from_euler("zyx", [25, -12, 17], degrees=True).as_matrix()
VOXEL = box(np.array([6.0, -9.0, 14.0]), TURN, np.array([30.0, 20.0, 25.0]))
SHAPE = (46, 50, 44)
PARTS = {"csf": 0.2, "gm": 0.3, "wm": 0.5}


def grid(angles, zooms=(1.1, 1.0, 1.2), flips=(1, 1, 1), centre=(6, -9, 14)):
    """Affine of a turned grid that holds the voxel; a negative flip makes it left-handed."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine[:3, :3] *= np.array(zooms) * flips
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    return affine


def slabs(affine, shape=SHAPE, parts=4):
    """Three endless slabs along the first edge of the voxel, with partial volume."""
    maps = {name: np.zeros(shape, np.float32) for name in PARTS}
    index = np.indices(shape).astype(float)
    for offset in itertools.product((np.arange(parts) + 0.5) / parts - 0.5, repeat=3):
        points = apply_affine(affine, index + np.reshape(offset, (3, 1, 1, 1)))
        own = apply_affine(np.linalg.inv(VOXEL.affine), points)[0]
        which = np.digitize(own, [-0.3, 0.0])  # .2, .3 and .5 of the edge
        for number, name in enumerate(PARTS):
            maps[name] += (which == number) / np.float32(parts**3)
    return maps


@pytest.mark.parametrize(
    ("angles", "flips"),
    [
        ((0, 0, 0), (1, 1, 1)),
        ((0, 0, 0), (-1, 1, 1)),
        ((14, -9, 22), (1, 1, 1)),
        ((-31, 8, 5), (1, -1, 1)),
        ((7, 40, -12), (-1, -1, -1)),
    ],
)
def test_fractions_do_not_depend_on_the_grid(angles, flips):
    affine = grid(angles, flips=flips)
    found = tissue_fractions(VOXEL, slabs(affine), affine)
    for name, share in PARTS.items():
        assert getattr(found, name) == pytest.approx(share, abs=1e-3)
    assert found.tissue_sum == pytest.approx(1, abs=1e-6)
    assert found.in_view == 1
    assert np.isnan(found.in_brain)
    assert found.nominal_volume == pytest.approx(15)
    assert found.mask_volume == pytest.approx(15, rel=0.01)
    assert found.warnings() == []
    assert found.as_dict()["in_brain"] is None


def test_stored_order_of_the_axes_changes_nothing():
    affine = grid((14, -9, 22))
    maps = slabs(affine, parts=2)
    turned = {name: data.transpose(1, 2, 0)[::-1] for name, data in maps.items()}
    order = np.zeros((4, 4))
    order[1, 0], order[2, 1], order[0, 2], order[3, 3] = -1, 1, 1, 1
    order[1, 3] = SHAPE[1] - 1
    first = tissue_fractions(VOXEL, maps, affine)
    second = tissue_fractions(VOXEL, turned, affine @ order)
    np.testing.assert_allclose(
        [first.gm, first.wm, first.csf, first.mask_volume],
        [second.gm, second.wm, second.csf, second.mask_volume],
        atol=1e-6,
    )


def test_the_mask_is_the_centres_inside():
    affine = grid((14, -9, 22))
    everywhere = VOXEL.holds(grid_points(SHAPE, affine).astype(float))
    np.testing.assert_array_equal(voxel_mask(VOXEL, SHAPE, affine), everywhere)
    away = grid((14, -9, 22), centre=(300, 0, 0))
    assert not voxel_mask(VOXEL, SHAPE, away).any()


def test_partly_outside_is_said_and_not_made_up_for():
    """A face of the grid cuts the voxel at a known depth of its first edge."""
    affine = np.eye(4)
    affine[:3, :3] = TURN
    depth = 0.4  # of the 30 mm edge: the grid begins 12 mm inside the voxel
    first = apply_affine(VOXEL.affine, np.array([[depth - 0.5], [0], [0]]))[:, 0]
    affine[:3, 3] = first + TURN @ [0.5, -24, -24]
    solid = {"gm": np.zeros(SHAPE, np.float32), "csf": np.zeros(SHAPE, np.float32)}
    solid["wm"] = np.ones(SHAPE, np.float32)
    found = tissue_fractions(VOXEL, solid, affine)
    assert found.in_view == pytest.approx(0.6, abs=1e-9)
    assert found.wm == pytest.approx(0.6, abs=1e-9)
    assert found.tissue_sum == pytest.approx(0.6, abs=1e-9)
    assert len(found.warnings()) == 1
    assert "only 60.0% of the voxel lies in the field of view" in found.warnings()[0]


@pytest.mark.parametrize(("low", "said"), [(-0.46, False), (-0.43, True)])
def test_share_in_the_brain(low, said):
    """The brain ends at a plane across the second edge of the voxel."""
    affine = grid((0, 0, 0))
    own = apply_affine(np.linalg.inv(VOXEL.affine), grid_points(SHAPE, affine).astype(float))
    found = tissue_fractions(VOXEL, slabs(affine, parts=2), affine, brain=own[1] > low)
    assert found.in_brain == pytest.approx(0.5 - low, abs=0.005)
    assert [text.split(" of ")[0] for text in found.warnings()] == ["only 93.0%"] * said


def test_the_edge_of_the_warnings():
    good = Fractions(0.3, 0.5, 0.2, 1.0, 1.0, np.nan, 15.0, 15.0)
    assert replace(good, in_view=0.95, in_brain=0.95, tissue_sum=0.95).warnings() == []
    for name in ("in_view", "in_brain", "tissue_sum"):
        assert len(replace(good, **{name: 0.9499}).warnings()) == 1
    assert replace(good, mask_volume=15.74).warnings() == []
    assert "1.051 of its nominal" in replace(good, mask_volume=15.76).warnings()[0]


def test_a_voxel_of_another_session_is_refused():
    away = grid((0, 0, 0), centre=(300, 0, 0))
    maps = {name: np.ones(SHAPE, np.float32) for name in PARTS}
    with pytest.raises(BadInputError, match="outside the field of view"):
        tissue_fractions(VOXEL, maps, away)
    with pytest.raises(BadInputError, match="outside the brain"):
        tissue_fractions(VOXEL, maps, grid((0, 0, 0)), np.zeros(SHAPE, bool))


def test_little_tissue_is_said():
    affine = grid((0, 0, 0))
    maps = {name: np.full(SHAPE, 0.3, np.float32) for name in PARTS}
    found = tissue_fractions(VOXEL, maps, affine, np.ones(SHAPE, bool))
    assert found.warnings() == ["the tissue fractions of the voxel add up to 0.900 only"]


# ---------------------------------------------------------------------------- template


def test_the_voxel_in_a_template_that_is_turned_and_larger():
    """An affine map by 1.1: its volume there is known, and so is its centre."""
    shape = (32, 34, 36)
    affine = np.diag([2.0, -2.0, 2.0, 1.0])
    affine[:3, 3] = (-31, 33, -35)
    turn = Rotation.from_euler("xyz", [3, -6, 9], degrees=True).as_matrix()
    to_head = np.eye(4)
    to_head[:3, :3] = turn / 1.1
    to_head[:3, 3] = VOXEL.centre - to_head[:3, :3] @ [2, 1, -3]
    points = apply_affine(to_head, grid_points(shape, affine)).astype(np.float32)
    share = voxel_in_template(VOXEL, points, affine)
    assert share.dtype == np.float32
    assert share.max() == 1
    volume = share.sum() * voxel_volume(affine)
    assert volume == pytest.approx(15 * 1.1**3, rel=0.005)
    place = grid_points(shape, affine)
    centre = (share * place).reshape(3, -1).sum(axis=1) / share.sum()
    np.testing.assert_allclose(centre, (2, 1, -3), atol=0.05)


def test_overlap_is_a_mean_over_people():
    rng = np.random.default_rng(5)
    shares = rng.random((4, 5, 6, 7)).astype(np.float32)
    mean, count = overlap_map(iter(shares))
    np.testing.assert_allclose(mean, shares.mean(axis=0), rtol=1e-6)
    assert count == 4
    with pytest.raises(BadInputError, match="no voxel"):
        overlap_map([])
    with pytest.raises(BadInputError, match=r"\(5, 6, 7\) and \(5, 6, 6\)"):
        overlap_map([shares[0], shares[1][..., 1:]])


def test_maps_are_interpolated():
    """One sample, between the voxels of a ramp."""
    affine = grid((0, 0, 0), centre=(6.3, -8.8, 13.9))
    ramp = np.broadcast_to(np.linspace(0, 1, SHAPE[0])[:, None, None], SHAPE).astype(np.float32)
    maps = {"gm": ramp, "wm": 1 - ramp, "csf": 0 * ramp}
    at = apply_affine(np.linalg.inv(affine), VOXEL.centre[:, None])[0, 0]
    found = tissue_fractions(VOXEL, maps, affine, samples=1)
    assert found.gm == pytest.approx(at / (SHAPE[0] - 1), abs=1e-6)
