import numpy as np
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.features import (
    Source,
    first_sessions,
    gather,
    implausible,
    read_measures,
    why_missing,
    widen,
)
from alsflow.nodes.stats.tables import parse_table
from alsflow.workflows.measures import catalogue

HEAD = "measure\tvalue\tunit\tqc\treason\n"


def source(person="sub-1", session="n/a", stream="anat", name=None):
    return Source(person, session, stream, name or f"{person}_{session}.tsv")


def table(body, of=None):
    of = of or source()
    return read_measures(parse_table(HEAD + body, of.name), of, catalogue())


def test_flagged_and_missing_values_keep_their_reasons():
    features = gather(
        [
            table(
                "tiv\t1500.25\tmL\tok\tn/a\n"
                "gm\tn/a\tmL\tok\tno T1w\nwm\t500\tmL\tflagged\tbad mask\n"
            )
        ],
        [source()],
        {},
    )
    wide = widen(features, catalogue())
    assert list(wide.columns) == ["participant_id", "session_id", "tiv", "gm", "wm"]
    assert wide.at[0, "tiv"] == 1500.25
    assert wide[["gm", "wm"]].isna().all(axis=None)
    assert why_missing(features) == {
        ("sub-1", "gm"): "no T1w", ("sub-1", "wm"): "flagged: bad mask",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("tvi\t1500\tmL\tok\tn/a\n", "line 2: 'tvi' is not a measure"),
        ("tiv\t1.5\tL\tok\tn/a\n", "tiv is given in 'L' but is kept in mL"),
        ("tiv\t1500\tmL\tgood\tn/a\n", "qc is 'good'"),
        ("tiv\tinf\tmL\tok\tn/a\n", "'inf' is not a number"),
        ("tiv\t1500\tmL\tok\n", "4 cells under 5"),
    ],
)
def test_bad_rows_are_refused_with_file_and_line(body, message):
    with pytest.raises(
        BadInputError, match=f"sub-1_n/a.tsv, line 2.*{message.removeprefix('line 2: ')}"
    ):
        table(body)


def test_a_measure_of_another_stream_is_refused():
    with pytest.raises(BadInputError, match="belongs to the stream anat, not to dwi"):
        table("tiv\t1500\tmL\tok\tn/a\n", source(stream="dwi"))


def test_the_same_measure_twice_is_refused_with_both_files():
    row = "tiv\t1500\tmL\tok\tn/a\n"
    one, other = source(name="one.tsv"), source(name="other.tsv")
    with pytest.raises(
        BadInputError, match=r"tiv of sub-1 n/a stands twice: in one.tsv and in other"
    ):
        gather([table(row, one), table(row, other)], [one, other], {})
    with pytest.raises(BadInputError, match="twice"):
        gather([table(row + row, one)], [one], {})


def test_a_later_failure_voids_an_older_table():
    of = source()
    features = gather(
        [table("tiv\t1500\tmL\tok\tn/a\n", of)], [of], {"sub-1 n/a anat": "anat failed: x"}
    )
    assert np.isnan(features["value"][0])
    assert why_missing(features) == {("sub-1", "tiv"): "anat failed: x"}


def test_the_first_session_is_used_and_the_rest_named():
    found = [source("sub-2", "ses-10"), source("sub-2", "ses-2"), source("sub-1", "n/a")]
    tables = [
        table(f"tiv\t{v}\tmL\tok\tn/a\n", of) for v, of in zip((1, 2, 3), found, strict=True)
    ]
    wide = widen(gather(tables, found, {}), catalogue())
    assert list(wide["session_id"]) == ["n/a", "ses-2", "ses-10"]
    first, left_out = first_sessions(wide)
    assert dict(zip(first["participant_id"], first["tiv"], strict=True)) == {
        "sub-1": 3,
        "sub-2": 2,
    }
    assert left_out == ("sub-2 ses-10",)


def test_values_at_the_bounds_are_plausible_and_those_beyond_are_named():
    tiv = catalogue().describe("tiv")
    body = "".join(
        f"{name}\t{value}\tmL\tok\tn/a\n" for name, value in (("tiv", tiv.high), ("gm", 399.9))
    )
    features = gather([table(body)], [source()], {})
    assert implausible(features, catalogue()) == ["sub-1: gm is 399.9 mL, outside 400 to 950"]


def test_empty_tables_are_refused():
    with pytest.raises(BadInputError, match="tables of measures are empty"):
        gather([table("")], [source()], {})
