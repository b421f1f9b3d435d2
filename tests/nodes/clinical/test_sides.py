import math

import numpy as np
import pandas as pd
import pytest

from alsflow.nodes.clinical.sides import (
    affected_first,
    asymmetry_index,
    hemisphere_of,
    laterality_index,
    more_affected,
    side_rows,
)
from alsflow.nodes.errors import BadInputError


def test_indices():
    assert asymmetry_index("ai", 6, 4).value == pytest.approx(0.4)
    assert laterality_index("li", 6, 4).value == pytest.approx(0.2)
    assert laterality_index("li", 0, 3).value == -1
    assert asymmetry_index("ai", -6, -4).value == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("left", "right", "reason"),
    [
        (0, 0, "both sides are 0"),
        (math.nan, 3, "missing: left"),
        (-2, 3, "left (-2) and right (3) have different signs"),
    ],
)
def test_no_index(left, right, reason):
    score = asymmetry_index("ai", left, right)
    assert (score.status, score.reason) == ("missing", reason)


def test_the_more_affected_side():
    assert more_affected(3, 5) == "left"
    assert more_affected(3, 5, worse="higher") == "right"
    assert more_affected(4, 4) is None
    assert more_affected(math.nan, 4) is None
    assert hemisphere_of("left") == "right"
    with pytest.raises(BadInputError, match="not 'both'"):
        hemisphere_of("both")


def test_sides_of_a_published_design_are_matched_across(shared_data):
    """78 rows of 39 patients: each limb side beside the opposite hemisphere."""
    folder = shared_data / "stats_reference"
    people = pd.read_csv(folder / "taiwan_subjects.csv")
    people = people.rename(
        columns=lambda c: c.replace("_pct_L", "_left").replace("_pct_R", "_right")
    )
    people = people.rename(
        columns=lambda c: (
            c[:-2] + {"L": "_left", "R": "_right"}[c[-1]] if c[-2:] in ("_L", "_R") else c
        )
    )
    tracts = [f"{m}_{t}" for m in ("fa", "ad", "rd", "md") for t in ("cst", "cstr", "cth")]
    regions = ["gm_precentral", "gm_striatum", "gm_thalamus"]
    scores = ["mrc", "penn", "cmapz_sum"]
    rows = side_rows(people, scores, [*tracts, *regions])
    expected = pd.read_csv(folder / "taiwan_sides.csv").rename(columns={"cmapz": "cmapz_sum"})
    expected = expected.replace({"L": "left", "R": "right"})
    keys = ["participant_id", "hemisphere"]
    left, right = (table.sort_values(keys).reset_index(drop=True) for table in (rows, expected))
    columns = [*keys, "limb_side", *scores, *tracts, *regions]
    assert len(rows) == 2 * len(people)
    pd.testing.assert_frame_equal(left[columns], right[columns])


def test_other_columns_are_repeated_and_a_missing_side_is_named():
    table = pd.DataFrame(
        {"age": [50.0, 60.0], "mrc_left": [1.0, 2.0], "mrc_right": [3.0, 4.0],
         "fa_left": [0.1, 0.2], "fa_right": [0.3, 0.4]},
        index=pd.Index(["sub-1", "sub-2"], name="who"),
    )  # fmt: skip
    rows = side_rows(table, ["mrc"], ["fa"])
    assert list(rows["who"]) == ["sub-1", "sub-1", "sub-2", "sub-2"]
    assert list(rows["age"]) == [50, 50, 60, 60]
    assert list(rows["mrc"]) == [3, 1, 4, 2]
    assert list(rows["fa"]) == [0.1, 0.3, 0.2, 0.4]
    with pytest.raises(BadInputError, match="no column penn_left, penn_right"):
        side_rows(table, ["penn"], ["fa"])


def test_affected_and_spared():
    table = pd.DataFrame(
        {"mrc_left": [20.0, 30, 25], "mrc_right": [25.0, 22, 25], "fa_left": [0.1, 0.2, 0.3],
         "fa_right": [0.4, 0.5, 0.6]}, index=["a", "b", "c"],
    )  # fmt: skip
    found = affected_first(table, "mrc", ["fa"])
    assert list(found["affected_limbs"]) == ["left", "right", None]
    np.testing.assert_array_equal(found["fa_affected"], [0.4, 0.2, np.nan])
    np.testing.assert_array_equal(found["fa_spared"], [0.1, 0.5, np.nan])
    worse = affected_first(table, "mrc", ["fa"], worse="higher")
    assert list(worse["affected_limbs"]) == ["right", "left", None]
