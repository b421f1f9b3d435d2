"""Tissue, regions and seeds on an oblique BOLD grid against known answers."""

from itertools import product

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.regions import (
    NO_VOXEL,
    BoldVoxels,
    Head,
    LabelShares,
    bold_voxels,
    check_mask,
    check_mask_in_head,
    check_mask_in_template,
    label_shares,
    place_labels,
    place_region,
    place_seed,
    tissue_on_bold,
)
from alsflow.nodes.func.seeds import Seed
from alsflow.nodes.geometry import apply_affine, grid_points, voxel_volume
from alsflow.nodes.spaces import in_space

T1W_SHAPE = (58, 66, 52)
T1W = np.array([[0.0, 1.0, 0.0, -30.0], [1.1, 0.0, 0.0, -32.0], [0.0, 0.0, 1.2, -30.0],
                [0.0, 0.0, 0.0, 1.0]])  # fmt: skip
CENTRE = np.array([2.5, -1.0, 1.5])  # x halfway between two voxels of the T1w grid
RADIUS = 17.0
SHIFT = np.array([4.0, -3.0, 2.0])  # template = T1w + SHIFT


def oblique(edges, shape):
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", [14, -9, 21], degrees=True).as_matrix()
    affine[:3, :3] = turn * np.asarray(edges)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


MATRIX = np.eye(4)
MATRIX[:3, :3] = Rotation.from_euler("xyz", [-7, 12, 5], degrees=True).as_matrix()
MATRIX[:3, 3] = (3.0, -2.0, 1.0)


def averaged(function, shape, to_world, parts):
    """Mean of a function of the world over every voxel of a grid."""
    index = np.indices(shape).reshape(3, -1).astype(float)
    total = np.zeros(index.shape[1])
    offsets = (np.arange(parts) + 0.5) / parts - 0.5
    for offset in product(offsets, repeat=3):
        total += function(apply_affine(to_world, index + np.reshape(offset, (3, 1))))
    return (total / parts**3).reshape(shape)


def ball(points):
    return ((points - CENTRE[:, None]) ** 2).sum(axis=0) <= RADIUS**2


def left_half(points):
    return ball(points) & (points[0] < CENTRE[0])


@pytest.fixture(scope="module")
def grey():
    """A grey ball, each voxel of the T1w grid with its true share."""
    return averaged(ball, T1W_SHAPE, T1W, 5).astype(np.float32)


@pytest.fixture(scope="module")
def labels():
    """Label 3 in the left half of a ball and around it, 7 in the right."""
    points = grid_points(T1W_SHAPE, T1W)
    return np.where(points[0] < CENTRE[0], 3, 7).astype(np.int32)


@pytest.mark.parametrize(("edges", "shape"), [
    ((3.0, 3.0, 3.3), (15, 17, 14)), ((2.0, 2.4, 4.0), (22, 20, 12)),
])  # fmt: skip
def test_fractions_are_those_of_the_voxels(grey, edges, shape):
    affine = oblique(edges, shape)
    brain = np.ones(T1W_SHAPE, bool)
    seen = np.ones(shape, bool)
    tissue, mask = tissue_on_bold(brain, [grey, 1 - grey], T1W, seen, affine, MATRIX)
    exact = averaged(ball, shape, MATRIX @ affine, 12)
    error = (tissue[..., 0] - exact)[mask]
    # 1.2 mm voxels, interpolated linearly, smear the border
    assert np.abs(error).max() < 0.08
    assert np.abs(error).mean() < 0.004
    assert np.count_nonzero((exact > 0.1) & (exact < 0.9)) > 250
    assert tissue[..., 0].sum(dtype=float) * voxel_volume(affine) == pytest.approx(
        4 / 3 * np.pi * RADIUS**3 / 1000, rel=0.005
    )
    inner = apply_affine(MATRIX, grid_points(shape, affine))
    inner = (np.abs(inner - CENTRE.reshape(3, 1, 1, 1)) < 20).all(axis=0)
    np.testing.assert_allclose(tissue.sum(axis=-1)[inner], 1, atol=1e-5)


def test_the_mask_is_brain_that_every_volume_shows(grey):
    shape = (15, 17, 14)
    affine = oblique((3.0, 3.0, 3.3), shape)
    seen = np.ones(shape, bool)
    seen[:, :, :5] = False
    _, mask = tissue_on_bold(grey > 0.5, [grey], T1W, seen, affine, MATRIX)
    exact = averaged(ball, shape, MATRIX @ affine, 8)
    assert not mask[:, :, :5].any()
    clear = np.abs(exact - 0.5) > 0.06
    np.testing.assert_array_equal(mask[clear & seen], (exact >= 0.5)[clear & seen])
    with pytest.raises(BadInputError, match="^shows no part of the brain"):
        tissue_on_bold(grey > 2, [grey], T1W, seen, affine, MATRIX)


@pytest.fixture(scope="module")
def placed(grey, labels):
    """Voxels of an oblique grid over the ball, and their shares of the labels."""
    shape = (15, 17, 14)
    affine = oblique((3.0, 3.0, 3.3), shape)
    voxels = bold_voxels(np.ones(shape, bool), affine, MATRIX, T1W)
    return affine, voxels, label_shares(labels, grey, T1W, voxels, [3, 5, 7])


def test_sub_points_are_at_least_three_and_as_fine_as_the_map():
    for edges, parts in (((1.0, 2.0, 3.3), (3, 3, 4)), ((4.0, 9.0, 3.0), (4, 6, 3))):
        affine = np.diag([*edges, 1.0])
        assert bold_voxels(np.ones((2, 2, 2), bool), affine, MATRIX, T1W).parts == parts


def test_shares_are_grey_and_inside(placed):
    affine, voxels, found = placed
    exact = averaged(left_half, voxels.inside.shape, MATRIX @ affine, 12)
    left = voxels.on_grid(found.shares[0])
    assert np.abs(left - exact).max() < 0.12  # the border between the labels is a voxel of 1 mm
    assert np.abs(left - exact).mean() < 0.002
    np.testing.assert_array_equal(found.labels, [3, 5, 7])
    assert found.shares[1].max() == 0
    assert found.volumes[1] == 0
    belongs = place_labels(found, voxels.inside)
    clear = np.abs(exact - 0.5) > 0.12
    np.testing.assert_array_equal((belongs == 3)[clear], (exact >= 0.5)[clear])
    assert not ((belongs == 3) & (left < 0.5)).any()


def test_a_region_of_two_labels_takes_voxels_that_neither_has():
    shares = np.array([[0.3, 0.5, 0.1, 0.2], [0.3, 0.0, 0.1, 0.29]], np.float32)
    found = LabelShares(np.array([3, 7]), np.repeat(shares, 20, axis=1), np.array([1.0, 2.0]))
    sides = {"left": [3], "right": [7]}
    both = place_region("striatum", "both", sides, found, 0.001)
    assert both.members.reshape(4, 20).all(axis=1).tolist() == [True, True, False, False]
    assert not both.reason
    left = place_region("striatum", "left", sides, found, 0.001)
    assert left.members.sum() == 20
    assert not left.reason  # 20 are just enough


def test_nineteen_voxels_are_too_few():
    shares = np.full((1, 50), 0.499, np.float32)
    shares[0, :19] = 0.5
    found = LabelShares(np.array([3]), shares, np.array([1.0]))
    seen = place_region("precentral", "left", {"left": [3]}, found, 0.02)
    assert seen.reason == (
        "the left precentral has 19 voxels in the field of view that are at least half inside it "
        "and grey (at least 20 are asked)"
    )
    assert seen.coverage == pytest.approx(shares.sum() * 0.02)
    named = place_seed(Seed("own", "labels", labels=(3,)), None, None, found, {}, 0.02)
    assert named.reason.startswith("the seed own has 19 voxels")
    gone = place_region("precentral", "right", {"left": [3]}, found, 0.02)
    assert gone.reason == "the right precentral has no grey matter in the T1-weighted image"


def test_coverage_is_the_share_of_the_region_that_is_seen(grey, labels, placed):
    affine, voxels, found = placed
    size = voxel_volume(affine)
    sides = {"left": [3], "right": [7]}
    assert place_region("ball", "both", sides, found, size).coverage == pytest.approx(1, abs=0.01)
    half = np.zeros(voxels.inside.shape, bool)
    plane = apply_affine(MATRIX @ affine, np.indices(half.shape).reshape(3, -1))[2] < CENTRE[2]
    half[plane.reshape(half.shape)] = True
    cut = BoldVoxels(half, voxels.to_t1w, voxels.parts)
    shares = label_shares(labels, grey, T1W, cut, [3, 7])
    assert place_region("ball", "both", sides, shares, size).coverage == pytest.approx(
        0.5, abs=0.01
    )


@pytest.fixture(scope="module")
def head(grey):
    coarse = np.diag([2.5, 2.0, 3.0, 1.0])
    coarse[:3, 3] = (-40, -45, -42)
    warp = grid_points((34, 46, 30), coarse) + SHIFT.reshape(3, 1, 1, 1).astype(np.float32)
    return Head(grey, T1W, warp, coarse)


def test_a_sphere_lies_where_the_template_puts_it(head, placed):
    affine, voxels, found = placed
    centre = CENTRE + (10, 3, 2)
    seed = Seed("s", "sphere", centre=tuple(centre + SHIFT), radius=8.0)
    share = averaged(
        lambda at: ball(at) & (((at - centre[:, None]) ** 2).sum(axis=0) <= 64),
        voxels.inside.shape, MATRIX @ affine, 12,
    )  # fmt: skip
    here = voxels.on_grid(place_seed(seed, voxels, head, found, {}, 0.03).members)
    clear = np.abs(share - 0.5) > 0.12
    np.testing.assert_array_equal(here[clear], (share >= 0.5)[clear])
    assert 30 < here.sum() < 8**3 * 4 / 3 * np.pi / voxel_volume(affine) / 1000
    shifted = Seed("s", "sphere", centre=tuple(in_space(np.array(seed.centre), "MNI152NLin6Asym")),
                   radius=8.0, space="MNI152NLin6Asym")  # fmt: skip
    other = voxels.on_grid(place_seed(shifted, voxels, head, found, {}, 0.03).members)
    assert (other != here).sum() < 0.06 * here.sum()


@pytest.mark.parametrize("space", ["template", "T1w"])
def test_a_mask_is_the_sphere_that_it_draws(head, placed, space):
    _, voxels, found = placed
    centre = CENTRE + (8, 3, 2)
    sphere = Seed("s", "sphere", centre=tuple(centre + SHIFT), radius=9.0)
    affine = np.diag([-0.8, 0.9, 0.7, 1.0])
    affine[:3, 3] = (45, -40, -35)
    middle = centre + (SHIFT if space == "template" else 0)
    mask = averaged(
        lambda at: ((at - middle[:, None]) ** 2).sum(axis=0) <= 81, (105, 90, 100), affine, 2
    )
    drawn = Seed("m", "mask", file="m.nii", space=space)
    one = place_seed(sphere, voxels, head, found, {}, 0.03).members
    other = place_seed(drawn, voxels, head, found, {}, 0.03, (mask, affine)).members
    assert one.sum() > 60
    assert (one != other).sum() <= 0.05 * one.sum()


def test_the_mrs_voxel_counts_by_its_grey_matter(head, placed):
    affine, voxels, found = placed
    seed = Seed("mrs", "voxel")
    none = place_seed(seed, voxels, head, found, {}, 0.03)
    assert (none.reason, none.members.any()) == (NO_VOXEL, False)

    # a box that reaches out of the ball: only its grey part is the seed
    def box(at):
        return (np.abs(at - np.reshape((14, -1, 1), (3, 1))) < 9).all(axis=0)

    mask = averaged(box, T1W_SHAPE, T1W, 5)
    share = averaged(lambda at: ball(at) & box(at), voxels.inside.shape, MATRIX @ affine, 8)
    found_here = place_seed(seed, voxels, head, found, {}, 0.03, (mask, T1W))
    here = voxels.on_grid(found_here.members)
    clear = np.abs(share - 0.5) > 0.15
    np.testing.assert_array_equal(here[clear], (share >= 0.5)[clear])
    assert here.sum() > 40


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m, a: (m[..., None].repeat(2, 3), a), "^has 4 dimensions"),
        (lambda m, a: (m[0], a), "^has 2 dimensions"),
        (lambda m, a: (0 * m, a), "^holds no voxel"),
        (lambda m, a: (0.49 * m, a), "^holds no voxel"),
        (lambda m, a: (2 * m, a), "^has values outside 0 to 1"),
        (lambda m, a: (m * np.nan, a), "^has values outside 0 to 1"),
        (lambda m, a: (m, a @ np.diag([1, 1, 0, 1])), "^cannot be a mask of a seed"),
    ],
)
def test_what_is_no_mask_is_refused(change, words):
    mask = np.zeros((8, 9, 7))
    mask[3:5, 4:6, 2:4] = 1
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    check_mask(0.5 * mask, affine)  # a share of one half is still inside
    with pytest.raises(BadInputError, match=words):
        check_mask(*change(mask, affine))


def test_a_mask_in_mni_space_lies_in_a_head():
    mask = np.zeros((8, 9, 7))
    mask[3:5, 4:6, 2:4] = 1
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    check_mask_in_template(mask, affine)
    affine[0, 3] = 120  # its centre lies at 127 mm
    with pytest.raises(BadInputError, match=r"^lies at \(127, 14, 10\) mm, outside any head"):
        check_mask_in_template(mask, affine)


def test_a_native_mask_must_meet_the_head(head):
    mask = np.zeros(T1W_SHAPE)
    mask[20:24, 20:30, 20:25] = 1
    check_mask_in_head(mask, T1W, head)
    away = T1W.copy()
    away[0, 3] += 300
    with pytest.raises(BadInputError, match="^does not meet the grey matter"):
        check_mask_in_head(mask, away, head)
