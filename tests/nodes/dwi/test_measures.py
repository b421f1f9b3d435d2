"""Measures from the table of tracts, and what is not believed."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from alsflow.nodes.dwi.measures import (
    METRICS,
    SIDES,
    TRACTS,
    judge_series,
    tract_measures_table,
)
from alsflow.workflows.measures import catalogue


def tracts():
    """A table of all tracts, every mean another one."""
    rows = []
    for number, (tract, side, metric) in enumerate(product(TRACTS, SIDES, METRICS)):
        rows.append((tract, side, metric, 0.3 + number / 100, ""))
    return pd.DataFrame(rows, columns=["tract", "side", "metric", "mean", "reason"])


def voxel():
    """Means in the MRS voxel."""
    rows = [(metric, 0.2 + k / 100, "") for k, metric in enumerate(METRICS)]
    return pd.DataFrame(rows, columns=["metric", "weighted_mean", "reason"])


def test_the_table_has_the_measures_of_the_catalogue_with_their_units():
    table = tract_measures_table(tracts(), [], "", voxel())
    declared = {m.name: m.unit for m in catalogue().measures.values() if m.stream == "dwi"}
    assert dict(zip(table["measure"], table["unit"], strict=True)) == declared
    assert (table["qc"] == "ok").all()
    assert table["value"].notna().all()


def test_the_mrs_voxel_is_in_the_table_where_it_was_looked_for():
    given = voxel()
    given.loc[1, ["weighted_mean", "reason"]] = [np.nan, "too little"]
    table = tract_measures_table(tracts(), [], "a note", given).set_index("measure")
    assert table.loc["fa_mrs_voxel", ["value", "unit", "reason"]].tolist() == [0.2, "1", "a note"]
    assert table.loc["rd_mrs_voxel", "value"] == 0.23
    assert np.isnan(table.loc["md_mrs_voxel", "value"])
    assert table.loc["md_mrs_voxel", ["unit", "reason"]].tolist() == ["mm2/s", "too little"]
    flagged = tract_measures_table(tracts(), ["moved"], "", given).set_index("measure")
    assert flagged.loc["fa_mrs_voxel", ["qc", "reason"]].tolist() == ["flagged", "moved"]
    names = tract_measures_table(tracts(), [], "")["measure"]
    assert not names.str.contains("voxel").any()


def test_values_and_asymmetry():
    given = tracts()
    table = tract_measures_table(given, [], "not corrected").set_index("measure")
    cst = given[(given["tract"] == "corticospinal_tract") & (given["metric"] == "fa")]
    left, right = (float(cst.loc[cst["side"] == side, "mean"].iloc[0]) for side in SIDES[:2])
    assert table.loc["fa_corticospinal_tract_left", "value"] == left
    asymmetry = table.loc["fa_corticospinal_tract_asymmetry", "value"]
    assert asymmetry == pytest.approx((left - right) / ((left + right) / 2))
    assert table.loc["fa_corticospinal_tract_left", "reason"] == "not corrected"


def test_what_is_missing_is_unknown_with_its_own_reason():
    given = tracts()
    lost = (given["tract"] == "corticospinal_tract") & (given["side"] == "left")
    given.loc[lost, "mean"] = np.nan
    given.loc[lost, "reason"] = "only 40 % of the tract lie in the field of view"
    given = given[given["tract"] != "corticothalamic_tract"]
    table = tract_measures_table(given, [], "a note").set_index("measure")
    assert np.isnan(table.loc["md_corticospinal_tract_left", "value"])
    assert "40 %" in table.loc["md_corticospinal_tract_left", "reason"]
    assert "40 %" in table.loc["fa_corticospinal_tract_asymmetry", "reason"]
    assert table.loc["md_corticospinal_tract_right", "reason"] == "a note"
    gone = table.loc["fa_corticothalamic_tract_both"]
    assert np.isnan(gone["value"])
    assert gone["reason"] == "the atlas has no both corticothalamic tract".replace("both ", "")


def test_a_flag_takes_every_value():
    table = tract_measures_table(tracts(), ["registration is doubtful"], "a note")
    assert table["value"].isna().all()
    assert set(table["qc"]) == {"flagged"}
    assert set(table["reason"]) == {"registration is doubtful"}


@pytest.mark.parametrize(
    ("name", "just", "beyond", "flag"),
    [
        ("motion_last_update", 0.5, 0.51, "motion_not_settled"),
        ("outlier_share", 0.2, 0.21, "outlier_slices"),
    ],
)
def test_flags_at_their_edge(name, just, beyond, flag):
    assert judge_series({name: just}) == ([], [])
    flags, _ = judge_series({name: beyond})
    assert [f["name"] for f in flags] == [flag]
    assert judge_series({name: None}) == ([], [])


@pytest.mark.parametrize(
    ("name", "just", "beyond"), [("fd_mean", 1.0, 1.01), ("negative_share", 0.05, 0.051)]
)
def test_notes_do_not_take_values(name, just, beyond):
    assert judge_series({name: just})[1] == []
    flags, notes = judge_series({name: beyond})
    assert not flags
    assert len(notes) == 1
