"""Streams beside the anatomical one: when they run, and on what they wait."""

import json

import pytest

from alsflow.interfaces.bids import _said_otherwise
from alsflow.workflows.manifest import Entry, counted, exit_code


def test_a_stream_takes_what_another_made_and_is_cached(toy):
    toy.add("sub-01")
    toy.add_series("sub-01")
    assert toy.run() == 0
    assert toy.states() == {("sub-01", "anat"): "done", ("sub-01", "dwi"): "done"}
    text = (toy.out / "sub-01/dwi/sub-01_desc-toy_dwi.txt").read_text()
    assert text == 16 * "fine sub-01"  # 8 times by the first, twice by the second
    toy.calls()
    assert toy.run() == 0
    assert toy.calls() == []


def test_people_without_the_images_are_told_but_no_failure_unless_named(toy, capsys):
    toy.add("sub-01")
    toy.add("sub-02")
    toy.add_series("sub-01")
    assert toy.run() == 0
    assert toy.states()["sub-02", "dwi"] == "absent"
    assert "sub-02 has no diffusion series" in toy.reasons()["sub-02"]
    assert toy.run("--modalities", "anat", "dwi") == 66
    assert toy.run("--modalities", "anat", "dwi", "--dry-run") == 66
    assert toy.run("--dry-run") == 0


def test_a_stream_that_nobody_has_images_for_is_left_out(toy):
    toy.add("sub-01")
    assert toy.run() == 0
    assert toy.states() == {("sub-01", "anat"): "done"}


def test_a_named_stream_brings_those_that_it_builds_on(toy):
    toy.add("sub-01")
    toy.add_series("sub-01")
    assert toy.run("--modalities", "dwi") == 0
    assert toy.states() == {("sub-01", "anat"): "done", ("sub-01", "dwi"): "done"}


@pytest.mark.parametrize(("text", "code"), [("refuse", 1), ("crash", 1)])
def test_what_needs_a_stream_that_failed_says_so_and_the_others_go_on(toy, text, code):
    toy.add("sub-01", text)
    toy.add("sub-02")
    toy.add_series("sub-01")
    toy.add_series("sub-02")
    assert toy.run() == code
    states = toy.states()
    assert states["sub-01", "dwi"] == "not-run"
    assert states["sub-02", "dwi"] == "done"
    manifest = json.loads((toy.out / "manifest.json").read_text())["entries"]
    (entry,) = [e for e in manifest if (e["participant"], e["stream"]) == ("01", "dwi")]
    assert "needs anat" in entry["reason"]


def test_a_visit_without_t1w_says_which_stream_lacks_it(toy):
    toy.add("sub-01")
    toy.add_series("sub-02")
    assert toy.run() == 66
    assert toy.states()["sub-02", "dwi"] == "absent"
    assert "no T1w image" in toy.reasons()["sub-02"]


def test_only_absent_images_that_nobody_expected_do_not_count():
    expected = Entry("01", None, "anat", "done")
    other = Entry("01", None, "dwi", "absent", expected=False)
    assert exit_code(counted([expected, other])) == 0
    other.expected = True
    assert exit_code(counted([expected, other])) == 66
    other.expected, other.state = False, "refused"
    assert exit_code(counted([expected, other])) == 65


@pytest.mark.parametrize(
    ("code", "location", "said"),
    [
        ("DWI_MISSING_BVAL", "/sub-01/dwi/sub-01_dwi.nii.gz", True),
        ("JSON_SCHEMA_VALIDATION_ERROR", "/sub-01/dwi/sub-01_dwi.json", True),
        ("EFFECTIVEECHOSPACING_TOO_LARGE", "/sub-01/ses-a/dwi/sub-01_ses-a_dwi.nii.gz", True),
        ("INTENDED_FOR", "/sub-01/fmap/sub-01_epi.nii.gz", True),
        ("GZ_NOT_GZIPPED", "/sub-01/anat/sub-01_T1w.nii.gz", False),
        ("JSON_SCHEMA_VALIDATION_ERROR", "/participants.json", False),
        ("FILENAME_MISMATCH", "/sub-01/dwi/sub-01_dwI.nii.gz", False),
    ],
)
def test_errors_of_one_series_are_left_to_its_stream(code, location, said):
    assert _said_otherwise({"code": code, "location": location}) is said
