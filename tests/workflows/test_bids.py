"""Which visits and files are selected."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from alsflow.interfaces.bids import (
    FilterError,
    NothingSelectedError,
    Visit,
    check_filters,
    participants_listed,
    select_visits,
    validate,
)


def test_names_of_a_visit():
    with_session, without = Visit("01", "a"), Visit("01")
    assert with_session.prefix == "sub-01_ses-a"
    assert with_session.folder == "sub-01/ses-a"
    assert with_session.name == "sub_01_ses_a"
    assert (without.prefix, without.folder, without.name) == ("sub-01", "sub-01", "sub_01")


def test_people_with_and_without_sessions(toy):
    toy.add("sub-01/ses-b"), toy.add("sub-01/ses-a"), toy.add("sub-02")
    visits = select_visits(toy.bids).visits
    assert [visit.prefix for visit in visits] == ["sub-01_ses-a", "sub-01_ses-b", "sub-02"]
    for visit in visits:
        [path] = visit.files["t1w"]
        assert path == toy.bids / visit.folder / "anat" / f"{visit.prefix}_T1w.nii.gz"
    only = select_visits(toy.bids, ["sub-01"], ["ses-b"]).visits
    assert [visit.prefix for visit in only] == ["sub-01_ses-b"]
    assert select_visits(toy.bids, sessions=["a"]).without == ("02",)


def test_only_what_is_asked_for_is_listed(toy, monkeypatch):
    """A folder that is not needed is not even read: indexing cost follows the question."""
    toy.add("sub-01"), toy.add("sub-010"), toy.add("sub-02")
    for folder in ("sub-01/func", "derivatives/x/sub-01/anat", "sourcedata/sub-01/anat"):
        (toy.bids / folder).mkdir(parents=True)
        (toy.bids / folder / "sub-01_T1w.nii.gz").write_text("x")
    import os

    listed = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path=".": listed.append(str(path)) or real(path))
    [visit] = select_visits(toy.bids, ["01"]).visits
    assert [p.parent.parent.name for p in visit.files["t1w"]] == ["sub-01"]
    assert not [path for path in listed if "sub-02" in path or "sub-010" in path]


def test_other_suffixes_and_sidecars_are_not_images(toy):
    path = toy.add("sub-01")
    path.with_name("sub-01_T1w.json").write_text("{}")
    path.with_name("sub-01_T2w.nii.gz").write_text("x")
    path.with_name("sub-01_acq-x_T1w.nii").write_text("x")
    [visit] = select_visits(toy.bids).visits
    names = [p.name for p in visit.files["t1w"]]
    assert names == ["sub-01_T1w.nii.gz", "sub-01_acq-x_T1w.nii"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"run": 1}, ["_run-01"]),
        ({"run": "01"}, ["_run-01"]),
        ({"run": [1, 2]}, ["_run-01", "_run-2"]),
        ({"run": None}, ["", "_acq-x"]),
        ({"run": "*"}, ["_run-01", "_run-2"]),
        ({"acq": "x"}, ["_acq-x"]),
        ({"acquisition": "x", "run": 1}, []),
        ({"acquisition": None, "run": None}, [""]),
        ({"suffix": "T1w", "datatype": "anat", "run": 2}, ["_run-2"]),
    ],
)
def test_filters(toy, rule, expected):
    for entities in ("", "_run-01", "_run-2", "_acq-x"):
        toy.add("sub-01", entities=entities)
    filters = check_filters({"t1w": rule}, "a test")
    if not expected:
        with pytest.raises(NothingSelectedError):
            select_visits(toy.bids, filters=filters)
        return
    selection = select_visits(toy.bids, filters=filters)
    names = [path.name for path in selection.visits[0].files["t1w"]]
    assert names == [f"sub-01{entities}_T1w.nii.gz" for entities in expected]
    assert len(selection.rejected) == 4 - len(expected)


def test_filter_may_replace_the_suffix(toy):
    path = toy.add("sub-01")
    path.with_name("sub-01_UNIT1.nii.gz").write_text("x")
    [visit] = select_visits(toy.bids, filters={"t1w": {"suffix": "UNIT1"}}).visits
    assert [p.name for p in visit.files["t1w"]] == ["sub-01_UNIT1.nii.gz"]


def test_unknown_entity_is_refused():
    with pytest.raises(FilterError, match="did you mean 'run'"):
        check_filters({"t1w": {"runs": 1}}, "a test")


def test_participants_table(toy):
    table = toy.bids / "participants.tsv"
    table.write_text("age\tparticipant_id\n60\tsub-01\n61\t02\n\n")
    assert participants_listed(toy.bids) == {"01", "02"}
    table.write_bytes("participant_id\tname\r\nsub-01\tM\xfcller\r\n".encode("latin-1"))
    assert participants_listed(toy.bids) == {"01"}
    table.unlink()
    assert participants_listed(toy.bids) is None


def write_series(folder, meta, shape=(6, 7, 5, 20), tr=2.0, suffix="_task-rest_bold"):
    image = nib.Nifti1Image(np.zeros(shape, np.int16), np.diag([3.0, 3.0, 3.0, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    if len(shape) == 4:
        image.header["pixdim"][4] = tr
    name = f"{folder.parent.name}{suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(image, folder / f"{name}.nii.gz")
    (folder / f"{name}.json").write_text(meta if isinstance(meta, str) else json.dumps(meta))


def test_broken_series_stop_nobody_else(tmp_path):
    """What the validator finds in one functional series is said person by person."""
    good = {"RepetitionTime": 2.0, "TaskName": "rest", "SliceTiming": [0, 0.5, 1.0, 1.5, 1.8]}
    broken = {
        "mismatch": {"meta": good | {"RepetitionTime": 3.0}},
        "negative": {"meta": good | {"RepetitionTime": -1}},
        "milliseconds": {"meta": good | {"SliceTiming": [0, 500, 1000, 1500, 1800]}},
        "notr": {"meta": {"TaskName": "rest"}},
        "notask": {"meta": {"RepetitionTime": 2.0}},
        "both": {"meta": good | {"VolumeTiming": [0, 2, 5]}},
        "flat": {"meta": good, "shape": (6, 7, 5)},
        "brace": {"meta": "{'a"},
        "noname": {"meta": good, "suffix": "_bold"},
        "direction": {"meta": good | {"PhaseEncodingDirection": "y"}},
    }
    text = json.dumps({"Name": "x", "BIDSVersion": "1.9.0"})
    (tmp_path / "dataset_description.json").write_text(text)
    for label, change in broken.items():
        write_series(tmp_path / f"sub-{label}" / "func", **change)
    folder = tmp_path / "sub-empty" / "func"
    folder.mkdir(parents=True)
    (folder / "sub-empty_task-rest_bold.nii.gz").write_bytes(b"")
    write_series(tmp_path / "sub-events" / "func", good)
    events = tmp_path / "sub-events" / "func" / "sub-events_task-rest_events.tsv"
    events.write_text("bad\tx\n1\t2\n")
    people = [*broken, "empty", "events"]
    assert validate(tmp_path, people, ["func"]).errors == ()
    visits = select_visits(tmp_path, queries=["bold"]).visits
    assert {v.participant: len(v.files["bold"]) for v in visits} == dict.fromkeys(people, 1)
    (tmp_path / "sub-events" / "func" / "sub-events_whatever.nii.gz").write_bytes(b"x")
    assert validate(tmp_path, people, ["func"]).errors  # a file that is no part of the standard


@pytest.mark.realdata
def test_real_dataset(realdata):
    selection = select_visits(realdata)
    assert [v.participant for v in selection.visits] == ["cr", "sf02", "uihA", "xa30"]
    assert all(len(v.files["t1w"]) == 1 for v in selection.visits)
    assert all(isinstance(p, Path) for v in selection.visits for p in v.files["t1w"])
    people = [v.participant for v in selection.visits]
    result = validate(realdata, people, ["anat", "dwi", "fmap", "func"])
    assert result.errors == ()  # pictures of the task are missing, which no stream reads
    assert result.elsewhere > 0
