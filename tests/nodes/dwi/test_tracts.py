"""Weights, coverage and measures of tracts against known answers."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from alsflow.nodes.dwi.tracts import (
    Tract,
    both_sides,
    missing_tract,
    overlap_table,
    place_tract,
    places,
    region_means,
    seen_volume,
    tract_measures,
    tract_weights,
)
from alsflow.nodes.geometry import apply_affine, grid_points, voxel_volume

ATLAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS order, as some atlases are stored
ATLAS[:3, 3] = (30, 40, -20)
SHAPE = (61, 71, 55)


def oblique(edges, centre=(0.0, 4.0, 8.0), shape=(20, 24, 18)):
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", [14, -9, 21], degrees=True).as_matrix()
    affine[:3, :3] = turn * np.asarray(edges)
    affine[:3, 3] = np.asarray(centre) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def atlas_points():
    return grid_points(SHAPE, ATLAS)


def ball(radius=11.0, centre=(1.0, 5.0, 7.0)):
    away = atlas_points() - np.reshape(centre, (3, 1, 1, 1))
    return ((away**2).sum(axis=0) < radius**2).astype(np.uint8)


def cylinder(radius=5.0, half=16.0):
    x, y, z = atlas_points()
    return (((x - 1) ** 2 + (y - 5) ** 2 < radius**2) & (abs(z - 7) < half)).astype(np.uint8)


@pytest.mark.parametrize("make", [ball, cylinder])
@pytest.mark.parametrize("edges", [(1.0, 1.0, 1.0), (2.0, 2.2, 2.5), (3.5, 3.5, 4.2)])
def test_weights_keep_the_volume_of_the_tract(make, edges):
    shape = tuple(int(np.ceil(64 / edge)) for edge in edges)
    affine = oblique(edges, shape=shape)
    mask = make()
    weights = tract_weights(mask, ATLAS, places(grid_points(shape, affine)))
    volume = weights.sum(dtype=float) * voxel_volume(affine)
    assert volume == pytest.approx(mask.sum() * voxel_volume(ATLAS), rel=0.02)
    assert 0 <= weights.min() <= weights.max() <= 1 + 1e-6


def test_weights_are_shares_of_a_box_cut_by_large_voxels():
    """A face through the middle of a voxel leaves half of it; the atlas is finer by 4."""
    x = grid_points((32, 24, 20), np.eye(4))[0]
    mask = (x < 13.5).astype(np.uint8)  # face at 13.5 mm
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = (1.5, 7.5, 7.5)  # voxel 3 spans 11.5 to 15.5
    weights = tract_weights(mask, np.eye(4), places(grid_points((6, 2, 2), affine)))
    np.testing.assert_allclose(weights[:, 1, 1], [1, 1, 1, 0.5, 0, 0], atol=1e-6)


def test_probabilities_are_averaged_and_unknown_places_weigh_nothing():
    mask = np.full((9, 10, 11), 0.3, np.float32)
    points = grid_points((4, 5, 6), np.eye(4)) + 2
    points[:, 0] = np.nan
    weights = tract_weights(mask, np.eye(4), places(points))
    assert (weights[0] == 0).all()
    np.testing.assert_allclose(weights[1:], 0.3, rtol=1e-6)


def test_a_known_warp_changes_the_volume_by_its_jacobian():
    affine = oblique((2.0, 2.1, 2.3), shape=(48, 48, 48))
    points = grid_points((48, 48, 48), affine)
    stretched = apply_affine(np.diag([0.8, 1.1, 0.9, 1.0]), points)
    weights = tract_weights(ball(), ATLAS, places(stretched))
    volume = weights.sum(dtype=float) * voxel_volume(affine)
    expected = ball().sum() * voxel_volume(ATLAS) / (0.8 * 1.1 * 0.9)
    assert volume == pytest.approx(expected, rel=0.02)


def test_a_slab_through_the_middle_covers_half():
    """The slab is moved by a rigid matrix; the whole is known only from the head's grid."""
    x, y, z = atlas_points()
    mask = (abs(x - 1) < 9) & (abs(y - 5) < 9) & (abs(z - 7) < 12)
    head_affine = np.diag([2.0, 2.0, 2.0, 1.0])
    head_affine[:3, 3] = (-30, -30, -18)
    head = places(grid_points((31, 36, 27), head_affine))
    matrix = oblique((1.0, 1.0, 1.0), (3.0, -2.0, 5.0), (1, 1, 1))
    # the slab in the head: upper half, its lowest voxel's face at z = 7
    slab = np.diag([3.0, 3.0, 3.0, 1.0])
    slab[:3, 3] = (-26.0, -22.0, 8.5)
    affine = np.linalg.inv(matrix) @ slab
    shape = (20, 20, 7)
    grid = places(apply_affine(matrix, grid_points(shape, affine)))
    valid = np.ones(shape, bool)
    tract = place_tract("t", "left", mask, ATLAS, grid, head, head_affine, matrix, valid, affine)
    assert tract.volume == pytest.approx(mask.sum() / 1000, rel=0.02)
    assert tract.coverage == pytest.approx(0.5, abs=0.02)
    table = tract_measures({"fa": np.full(shape, 0.4)}, tract, valid)
    assert np.isnan(table["mean"][0])
    assert table["status"][0] == "missing"
    assert "50% of the tract" in table["reason"][0]
    assert table["n_voxels"][0] > 20
    enough = tract_measures({"fa": np.full(shape, 0.4)}, tract, valid, least_coverage=0.45)
    assert enough["mean"][0] == pytest.approx(0.4)


def test_voxels_outside_the_brain_are_not_seen():
    weights = np.ones((10, 8, 6), np.float32)
    valid = np.zeros((10, 8, 6), bool)
    valid[:4] = True
    whole, seen = seen_volume(weights, np.eye(4), np.eye(4), valid, np.eye(4))
    assert (whole, seen) == (pytest.approx(0.48), pytest.approx(0.192))


def simple_tract(side="left", coverage=1.0, seed=1):
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0, 1, (9, 10, 11)).astype(np.float32)
    return Tract("corticospinal_tract", side, weights, 2.0, 2.0 * coverage)


def test_a_constant_map_gives_its_value_and_no_spread():
    table = tract_measures(
        {"fa": np.full((9, 10, 11), 0.47)}, simple_tract(), np.ones((9, 10, 11), bool)
    )
    row = table.iloc[0]
    assert (row["mean"], row["median"]) == (pytest.approx(0.47), pytest.approx(0.47))
    assert row["weighted_mean"] == pytest.approx(0.47)
    assert row["sd"] == pytest.approx(0, abs=1e-12)
    assert row["n_voxels"] == (simple_tract().weights >= 0.5).sum()
    assert row["status"] == "ok"


def test_measures_agree_with_a_second_way_and_leave_out_what_is_not_a_number():
    rng = np.random.default_rng(2)
    values = rng.normal(0.5, 0.1, (9, 10, 11))
    valid = rng.random((9, 10, 11)) < 0.8
    values[rng.random(values.shape) < 0.1] = np.nan
    tract = simple_tract()
    row = tract_measures({"fa": values}, tract, valid).iloc[0]
    frame = pd.DataFrame({"v": values[valid], "w": tract.weights[valid]}).dropna()
    core = frame[frame.w >= 0.5].v
    assert row["n_voxels"] == len(core)
    np.testing.assert_allclose([row["mean"], row["median"], row["sd"]],
                               [core.mean(), core.median(), core.std()])  # fmt: skip
    assert row["weighted_mean"] == pytest.approx((frame.v * frame.w).sum() / frame.w.sum())


@pytest.mark.parametrize(("count", "status"), [(19, "missing"), (20, "ok")])
def test_the_edge_of_too_few_voxels(count, status):
    weights = np.zeros((5, 6, 7), np.float32)
    weights.ravel()[:count] = 0.5
    tract = Tract("t", "left", weights, 1.0, 0.7)  # coverage just enough
    row = tract_measures({"fa": np.ones((5, 6, 7))}, tract, np.ones((5, 6, 7), bool)).iloc[0]
    assert row["status"] == status
    assert row["n_voxels"] == count
    assert np.isnan(row["mean"]) == (status == "missing")


def test_a_tract_that_is_nowhere_has_a_reason():
    tract = Tract("t", "left", np.zeros((5, 6, 7)), 0.0, 0.0)
    row = tract_measures({"fa": np.ones((5, 6, 7))}, tract, np.ones((5, 6, 7), bool)).iloc[0]
    assert "nowhere" in row["reason"]
    assert np.isnan(row["mean"])
    assert np.isnan(row["coverage"])


def halves():
    left, right = np.zeros((10, 6, 7), np.float32), np.zeros((10, 6, 7), np.float32)
    left[:6], right[5:] = 1, 1  # plane 5 is in both
    values = np.zeros((10, 6, 7))
    values[:5], values[5], values[6:] = 0.6, 0.5, 0.4
    return Tract("t", "left", left, 1, 1), Tract("t", "right", right, 1, 1), values


def test_both_sides_count_shared_voxels_once_and_asymmetry_has_a_sign():
    left, right, values = halves()
    table = both_sides({"fa": values}, left, right, np.ones(values.shape, bool)).set_index("side")
    assert list(table.index) == ["left", "right", "both", "asymmetry"]
    one, other = (5 * 0.6 + 0.5) / 6, (0.5 + 4 * 0.4) / 5
    np.testing.assert_allclose(table["mean"], [one, other, values.mean(), (one - other) / ((one + other) / 2)])  # fmt: skip  # noqa: E501
    assert table.loc["both", "n_voxels"] == values.size
    assert table.loc["asymmetry", "mean"] > 0


def test_one_lost_side_takes_both_and_asymmetry_with_it():
    left, right, values = halves()
    lost = Tract("t", "right", right.weights, 1.0, 0.6)
    table = both_sides({"fa": values, "md": values}, left, lost, np.ones(values.shape, bool))
    wide = table.pivot(index="side", columns="metric", values="mean")
    assert np.isfinite(wide.loc["left"]).all()
    assert wide.loc[["right", "both", "asymmetry"]].isna().all().all()
    both = table[table["side"] == "both"].iloc[0]
    assert both["reason"].startswith("right: only 60%")


def test_an_atlas_without_the_tract_says_so():
    table = missing_tract("corticostriatal_tract", ("fa", "md"), "the atlas has no such tract")
    assert len(table) == 8
    assert table["mean"].isna().all()
    assert set(table["reason"]) == {"the atlas has no such tract"}


def test_overlap_of_masks_that_share_a_third():
    first, second, empty = (np.zeros((6, 5, 4), np.float32) for _ in range(3))
    first[:3], second[2:] = 1, 0.5
    table = overlap_table({"a": first, "b": second, "c": empty}, np.diag([2.0, 2.0, 2.5, 1.0]))
    row = table.iloc[0]
    assert row["dice"] == pytest.approx(2 * 20 / (60 + 80))
    assert row["shared_ml"] == pytest.approx(20 * 0.01)
    assert list(table["dice"][1:]) == [0, 0]


def test_region_means_take_white_matter_only():
    values = np.zeros((6, 5, 4))
    values[:3], values[3:] = 0.7, 0.2
    wm = np.zeros((6, 5, 4))
    wm[:3], wm[3:] = 0.75, 0.25
    regions = {"voxel": np.ones((6, 5, 4)), "tiny": np.zeros((6, 5, 4))}
    table = region_means({"fa": values}, regions, wm, np.ones(values.shape, bool),
                         affine=np.diag([2.0, 2.0, 2.0, 1.0]))  # fmt: skip
    assert table["weighted_mean"][0] == pytest.approx(0.75 * 0.7 + 0.25 * 0.2)
    assert table["wm_ml"][0] == pytest.approx(60 * 0.008)
    assert table["status"][1] == "missing"
    assert np.isnan(table["weighted_mean"][1])
