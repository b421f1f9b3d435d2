"""Regional volumes: counts that are known, sides, and what is unknown."""

import numpy as np
import pandas as pd
import pytest

from alsflow.nodes.anat.volumes import coarse_points, label_volumes, labels_at, measures
from alsflow.nodes.geometry import grid_points

AFFINE = np.array(
    [[0, -1.5, 0, 20.0], [1.0, 0, 0, -30.0], [0, 0, 2.0, -10.0], [0, 0, 0, 1.0]]
)  # axes swapped and flipped, voxels of 3 mm³
REGIONS = {"precentral": {"left": [3], "right": [4, 5]}}


def test_volumes_are_fractions_times_the_voxel():
    labels = np.zeros((7, 8, 9), np.int32)
    labels[:2], labels[5:] = 3, 4
    grey = np.full(labels.shape, 0.25, np.float32)
    table = label_volumes(labels, {"gm": grey}, AFFINE)
    assert table.index.tolist() == [3, 4]
    np.testing.assert_allclose(table["volume"], 2 * 72 * 3 / 1000)
    np.testing.assert_allclose(table["gm"], 2 * 72 * 3 / 4000)


def test_labels_are_found_at_world_places():
    labels = np.arange(7 * 8 * 9, dtype=np.int32).reshape(7, 8, 9)
    points = grid_points(labels.shape, AFFINE)
    np.testing.assert_array_equal(labels_at(labels, AFFINE, points), labels)
    np.testing.assert_array_equal(labels_at(labels, AFFINE, points + 0.4), labels)
    outside = points + np.array([100, 0, 0]).reshape(3, 1, 1, 1)
    assert not labels_at(labels, AFFINE, outside).any()


def test_a_coarse_map_is_read_between_its_points_and_unknown_beyond():
    coarse = grid_points((5, 6, 7), AFFINE) * 2 + 1
    at = grid_points((5, 6, 7), AFFINE)[:, 1:4, 1:4, 1:4] + 0.3
    np.testing.assert_allclose(coarse_points(coarse, AFFINE, at), at * 2 + 1, rtol=1e-5)
    assert np.isnan(coarse_points(coarse, AFFINE, at + 500)).all()


def rows(grey: dict[int, float], flags: tuple[str, ...] = ()) -> pd.DataFrame:
    tissue = {"gm": 700.0, "wm": 500.0, "csf": 300.0}
    table = measures(tissue, REGIONS, {"precentral": pd.Series(grey)}, flags)
    return table.set_index("measure")


def test_measures_of_both_sides():
    table = rows({3: 12.0, 4: 6.0, 5: 4.0})
    value = table["value"]
    assert value["tiv"] == 1500
    assert value["gm_tiv"] == pytest.approx(700 / 15)
    assert value["gmv_precentral_left"] == 12
    assert value["gmv_precentral_right"] == 10
    assert value["gmv_precentral_both_tiv"] == pytest.approx(22 / 15)
    assert value["gmv_precentral_asymmetry"] == pytest.approx(2 / 11)
    assert set(table["qc"]) == {"ok"}
    assert table["unit"]["gmv_precentral_asymmetry"] == "1"


def test_a_lost_label_is_unknown_and_never_zero():
    table = rows({3: 12.0, 4: 6.0})
    assert table["value"]["gmv_precentral_left"] == 12
    for name in ("right", "both", "right_tiv", "asymmetry"):
        assert np.isnan(table["value"][f"gmv_precentral_{name}"])
        assert "label 5 of the right precentral" in table["reason"][f"gmv_precentral_{name}"]


def test_a_region_without_grey_matter_has_no_asymmetry():
    table = rows({3: 0.0, 4: 0.0, 5: 0.0})
    assert table["value"]["gmv_precentral_both"] == 0
    assert np.isnan(table["value"]["gmv_precentral_asymmetry"])
    assert "no grey matter" in table["reason"]["gmv_precentral_asymmetry"]


def test_a_flagged_segmentation_gives_no_numbers():
    table = rows({3: 12.0, 4: 6.0, 5: 4.0}, ("vertex missing", "TIV implausible"))
    assert table["value"].isna().all()
    assert set(table["qc"]) == {"flagged"}
    assert set(table["reason"]) == {"vertex missing; TIV implausible"}
