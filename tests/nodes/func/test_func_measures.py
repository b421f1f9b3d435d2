"""Measures of a BOLD series and what is said of them."""

import numpy as np
import pandas as pd
import pytest

from alsflow.nodes.func.measures import INTERHEMISPHERIC, func_measures_table, judge_func

REGIONS = ["precentral", "striatum"]


def connections(**changes):
    row = {"seed": "precentral", "seed_side": "both", "region": "striatum", "side": "both",
           "z": 0.3, "reason": ""} | changes  # fmt: skip
    between = {"seed": "precentral", "seed_side": "left", "region": "precentral", "side": "right",
               "z": 0.8, "reason": ""}  # fmt: skip
    return pd.DataFrame([between, row])


def local():
    return pd.DataFrame(
        [("alff", "precentral", "left", 1.2, ""), ("reho", "striatum", "both", np.nan, "empty")],
        columns=["metric", "region", "side", "value", "reason"],
    )


def test_every_measure_has_one_row():
    table = func_measures_table(connections(), local(), REGIONS, [], "").set_index("measure")
    names = {INTERHEMISPHERIC}
    for side in ("left", "right", "both"):
        names.add(f"fc_precentral_striatum_{side}")
        names |= {f"{m}_{r}_{side}" for m in ("alff", "falff", "reho") for r in REGIONS}
    assert set(table.index) == names
    assert len(table) == len(names)
    assert table.loc[INTERHEMISPHERIC, "value"] == 0.8
    assert table.loc["fc_precentral_striatum_both", "value"] == 0.3
    assert table.loc["alff_precentral_left", "value"] == 1.2
    assert table.loc["reho_striatum_both", "reason"] == "empty"
    assert table.loc["reho_striatum_left", "reason"] == "the atlas has no striatum"
    assert set(table["qc"]) == {"ok"}


def test_the_mrs_voxel_has_measures_only_where_it_is_a_seed():
    found = connections()
    row = {"seed": "mrs_voxel", "seed_side": "", "region": "precentral", "side": "both",
           "z": 0.6, "reason": ""}  # fmt: skip
    found.loc[2] = row
    found.loc[3] = row | {"region": "striatum", "z": np.nan, "reason": "no MRS voxel"}
    table = func_measures_table(found, local(), REGIONS, [], "", voxel=True).set_index("measure")
    assert table.loc["fc_mrs_voxel_precentral_both", "value"] == 0.6
    assert table.loc["fc_precentral_striatum_both", "value"] == 0.3
    assert np.isnan(table.loc["fc_mrs_voxel_striatum_both", "value"])
    assert table.loc["fc_mrs_voxel_striatum_both", "reason"] == "no MRS voxel"
    names = func_measures_table(found, local(), REGIONS, [], "")["measure"]
    assert not names.str.contains("voxel").any()


def test_a_note_stands_beside_known_values_alone():
    unknown = connections(z=np.nan, reason="too few voxels")
    table = func_measures_table(unknown, local(), REGIONS, [], "not corrected")
    table = table.set_index("measure")["reason"]
    assert table[INTERHEMISPHERIC] == "not corrected"
    assert table["fc_precentral_striatum_both"] == "too few voxels"


def test_a_flag_takes_every_value():
    table = func_measures_table(connections(), local(), REGIONS, ["moved", "lost"], "note")
    assert table["value"].isna().all()
    assert set(table["reason"]) == {"moved; lost"}
    assert set(table["qc"]) == {"flagged"}


def test_absent_tables_say_why():
    table = func_measures_table(None, None, REGIONS, [], "", "12 volumes are too few")
    assert table["value"].isna().all()
    assert set(table["reason"]) == {"12 volumes are too few"}


@pytest.mark.parametrize(
    ("metrics", "undone", "flags", "notes"),
    [
        ({}, "", [], []),
        ({"rmsd_mean": 0.25, "tsnr_gm": 20.0, "motor_coverage": 0.7}, "", [], []),
        ({"rmsd_mean": 0.26}, "", [], ["head_motion"]),
        ({"rmsd_mean": 0.55}, "", [], ["head_motion"]),
        ({"rmsd_mean": 0.56}, "", ["motion_too_large"], []),
        ({"tsnr_gm": 19.9}, "", [], ["low_tsnr"]),
        ({"motor_coverage": 0.69}, "", [], ["motor_strip_cut"]),
        ({"rmsd_mean": None}, "9 left", ["too_few_degrees_of_freedom"], []),
    ],
)
def test_limits(metrics, undone, flags, notes):
    found = judge_func(metrics, undone)
    assert [[item["name"] for item in part] for part in found] == [flags, notes]
