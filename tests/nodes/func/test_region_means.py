"""Means over regions, and every reason why one is missing."""

import numpy as np
import pytest

from alsflow.nodes.func.region_means import COLUMNS, Region, region_means

SHAPE = (4, 5, 6)


def region(first, count, reason=""):
    members = np.zeros(SHAPE, bool)
    members.flat[first : first + count] = True
    return Region("precentral", "left", members, reason)


def test_mean_of_the_voxels_that_have_a_value():
    values = np.arange(120.0).reshape(SHAPE)
    values.flat[12] = np.nan
    table = region_means({"reho": values}, [region(10, 8)])
    assert list(table.columns) == COLUMNS
    row = table.iloc[0]
    assert row["value"] == pytest.approx((10 + 11 + 13 + 14 + 15 + 16 + 17) / 7)
    assert (row["metric"], row["region"], row["side"]) == ("reho", "precentral", "left")
    assert (row["n_voxels"], row["reason"]) == (7, "")


@pytest.mark.parametrize(("count", "known"), [(4, False), (5, True)])
def test_four_voxels_are_too_few(count, known):
    row = region_means({"alff": np.ones(SHAPE)}, [region(0, count)]).iloc[0]
    assert np.isfinite(row["value"]) == known
    assert row["n_voxels"] == count
    assert row["reason"] == ("" if known else "4 voxels have a value, fewer than 5")


def test_a_reason_stands_for_a_map_and_for_a_region():
    maps = {"alff": "26 volumes' worth are left", "reho": np.ones(SHAPE)}
    table = region_means(maps, [region(0, 9), region(9, 9, "half of it is not seen")])
    assert table["value"].isna().tolist() == [True, True, False, True]
    assert table["reason"].tolist() == [
        maps["alff"], maps["alff"], "", "half of it is not seen"
    ]  # fmt: skip
