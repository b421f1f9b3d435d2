"""Who falls out: counts by family, site and group, and the reasons."""

import numpy as np
import pandas as pd
import pytest

from alsflow.interfaces.group import stream_states
from alsflow.nodes.stats.attrition import attrition_table, kind_of
from alsflow.nodes.stats.participants import Columns, clean_people
from alsflow.nodes.stats.tables import parse_table
from alsflow.workflows.measures import catalogue

FA, MD = "fa_mrs_voxel", "md_mrs_voxel"
COUNTS = ["n_people", "n_usable", "n_incomplete", "n_excluded"]
PEOPLE = """participant_id\tgroup\tsite\tage
sub-01\tALS\tB\t50
sub-02\tALS\tB\tn/a
sub-03\tALS\tB\t51
sub-04\tALS\tB\t52
sub-05\tcontrol\tB\t53
sub-06\tcontrol\tn/a\t54
sub-07\tPLS\tB\t55
sub-08\tALS\tA10\t56
sub-09\tcontrol\tA9\t57"""


def counted(columns=Columns(covariates=("age",)), states=None):  # noqa: B008 - frozen
    people = clean_people(parse_table(PEOPLE, "participants.tsv"), columns, {})
    nan = np.nan
    rows = [("sub-01", 0.4, nan, 1400.0), ("sub-02", nan, nan, 1400.0),
            ("sub-03", nan, nan, 1400.0), ("sub-05", 0.4, 8e-4, 1400.0),
            ("sub-06", 0.4, 8e-4, nan), ("sub-09", nan, nan, 1400.0),
            ("sub-99", nan, nan, 1400.0)]  # fmt: skip
    wide = pd.DataFrame(rows, columns=["participant_id", FA, MD, "tiv"])
    wide.insert(1, "session_id", "n/a")
    missing = {
        ("sub-01", MD): "no tensor", ("sub-02", FA): "only 0.12 mL of white matter; and more",
        ("sub-02", MD): "another", ("sub-03", FA): "only 0.03 mL of white matter",
        ("sub-06", "tiv"): "flagged: 2 masks",
    }  # fmt: skip
    table = attrition_table(wide, people, columns, catalogue(), missing, states or {})
    assert (table["n_people"] == table["n_usable"] + table["n_excluded"]).all()
    return table.set_index(["family", "site", "group"])


def test_people_are_counted_where_they_belong():
    table = counted()
    cells = [(site, group) for site in ("A9", "A10", "B", "n/a") for group in ("ALS", "control")]
    assert list(table.loc["mrs_voxel_diffusion"].index) == cells
    assert list(dict.fromkeys(table.index.get_level_values(0))) == [
        "whole_brain", "mrs_voxel_diffusion",
    ]  # fmt: skip
    found = table.loc["mrs_voxel_diffusion"]
    assert set(found["stream"]) == {"dwi"}
    assert found.loc[("B", "ALS"), COUNTS].tolist() == [4, 1, 1, 3]  # sub-02 has no age
    assert found.loc[("B", "control"), COUNTS].tolist() == [1, 1, 0, 0]
    assert found.loc[("n/a", "control"), COUNTS].tolist() == [1, 1, 0, 0]
    assert found.loc[("A9", "ALS"), COUNTS].tolist() == [0, 0, 0, 0]
    assert table.loc[("whole_brain", "n/a", "control"), "reasons"] == "1: flagged: # masks"


def test_like_reasons_count_as_one_and_each_person_once():
    states = {
        ("sub-04", "dwi"): "dwi absent: sub-04 has no series; add it",
        ("sub-09", "anat"): "",
    }
    found = counted(states=states).loc["mrs_voxel_diffusion"]["reasons"]
    assert found[("B", "ALS")] == (
        "2: only # mL of white matter; 1: dwi absent: sub-# has no series"
    )
    assert found[("A9", "control")] == "1: no measures of the stream dwi"
    assert found[("A10", "ALS")] == "1: no table of measures: not processed yet"
    assert found[("B", "control")] == "n/a"


def test_one_centre_has_one_row_a_group():
    table = counted(Columns(site="", covariates=("age",))).loc["mrs_voxel_diffusion"]
    assert table.index.tolist() == [("n/a", "ALS"), ("n/a", "control")]
    assert table[COUNTS].to_numpy().tolist() == [[5, 1, 1, 4], [3, 2, 0, 1]]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("S/N 2 (< 3)", "S/N # (< #)"),
        ("line width .2 ppm (> 0.1 ppm); SD 30 %", "line width # ppm (> # ppm)"),
        ("sub-03 has no T1w image", "sub-# has no T1w image"),
        ("only 65% of it, b=0", "only #% of it, b=#"),
        ("", ""),
    ],
)
def test_numbers_do_not_make_another_reason(reason, kind):
    assert kind_of(reason) == kind


def test_a_state_is_that_of_the_session_that_is_used():
    unusable = {"sub-01 ses-b mrs": "mrs failed: x", "sub-02 ses-a mrs": "mrs absent: y",
                "sub-03 n/a mrs": "mrs refused: z", "sub-03 n/a dwi": "dwi failed: w"}  # fmt: skip
    wide = pd.DataFrame({"participant_id": ["sub-01", "sub-02"], "session_id": ["ses-a"] * 2})
    assert stream_states(unusable, wide) == {
        ("sub-02", "mrs"): "mrs absent: y", ("sub-03", "mrs"): "mrs refused: z",
        ("sub-03", "dwi"): "dwi failed: w",
    }  # fmt: skip
