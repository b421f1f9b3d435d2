import numpy as np
import pandas as pd
import pytest

from alsflow.nodes.mrs.measures import Doubts, echo_of, judge_mrs, mrs_measures_table
from alsflow.nodes.mrs.quality import doubts_of
from alsflow.nodes.mrs.quantify import echo_contradiction, scan_timing


def quant_rows(*values):
    """Several molal rows of tCho, as a basis set with two spellings would give."""
    return pd.DataFrame(
        [
            {"metabolite": "tCho", "quantity": "molal", "value": v, "included": True, "reason": ""}
            for v in values
        ]
    )


def test_rows_that_differ_are_no_value():
    table = mrs_measures_table(None, quant_rows(2.0, 2.1), None, Doubts()).set_index("measure")
    assert np.isnan(table.loc["mrs_tcho_molal", "value"])
    assert table.loc["mrs_tcho_molal", "reason"] == "tCho has several rows that differ"
    assert table.loc["mrs_tcr_molal", "reason"] == "tCr is not in the table"
    same = mrs_measures_table(None, quant_rows(2.0, 2.0), None, Doubts()).set_index("measure")
    assert same.loc["mrs_tcho_molal", "value"] == 2.0


@pytest.mark.parametrize(("echo", "said"), [(99.9, False), (100.0, True), (None, False)])
def test_the_border_of_long_echo_times(echo, said):
    assert bool(doubts_of("Glx", echo, edited=False)) == said
    assert not doubts_of("tNAA", echo, edited=False)


def test_the_echo_time_of_the_header_serves_where_lcmodel_tells_none():
    assert echo_of({"echo_time_ms": 30.0}, {"te": 0.16}) == 30
    assert echo_of({"echo_time_ms": None}, {"te": 0.16}) == 160
    assert echo_of({"echo_time_ms": None}, {"te": None}) is None
    _, notes = judge_mrs({"done": True, "edited": True}, {"done": True, "te": None})
    assert [note["name"] for note in notes] == ["echo_time_unknown"]


def test_echo_times_differ_by_more_than_3_ms():
    assert echo_contradiction(160.0, 0.163) == ""
    assert echo_contradiction(160.0, 0.1631)
    assert echo_contradiction(160.0, 0.1569)
    assert echo_contradiction(None, 0.16) == echo_contradiction(30.0, None) == ""


def test_what_was_given_stands_above_the_header():
    place = {"te": 0.03, "tr": 2.0, "tm": None, "sequence": "PRESS"}
    timing = scan_timing(place, {"tr": 3.0})
    assert timing == {"te": 0.03, "tr": 3.0, "tm": None, "sequence": "PRESS"}
    assert set(scan_timing(None, {}).values()) == {None}


def test_one_thing_is_said_once():
    fault = {"name": "wrong_basis", "reason": "sequences differ"}
    flags, _ = judge_mrs({"faults": [fault, fault], "done": True}, None)
    assert flags == [fault]
