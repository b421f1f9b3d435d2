"""What the diffusion stream says of its steps, from what they left behind."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from alsflow.interfaces.base import naming
from alsflow.interfaces.dwi_measures import MeasureDwi
from alsflow.interfaces.dwi_motion import _done
from alsflow.nodes.dwi.estimate import MotionEstimate, no_motion
from alsflow.nodes.errors import BadInputError

ASKED = {"denoise": True, "unring": False, "drift": "auto", "motion": True, "eddy": "linear",
         "replace_outliers": True, "field": "auto"}  # fmt: skip
UNKNOWN = "The phase-encoding direction is unknown: eddy currents were not corrected."
NOTES = [{"name": "distortion_uncorrected", "reason": "distortion was not corrected: no pair"}]
DONE = {
    "load": {"notes": ["x.nii.gz b-vectors were brought to length 1"]},
    "check": {"verdict": "right", "sentence": "they fit"},
    "denoise": {"done": True, "median_noise": 3.0},
    "drift": {"done": False, "reason": "the diffusion series has 1 b=0 volume"},
    "motion": {"warnings": [UNKNOWN], "eddy": [[]], "last_update": 0.01},
    "correct": {"warnings": [UNKNOWN], "eddy": {"done": False, "reason": "unknown"},
                "replace_outliers": {"done": True}},
    "tensor": {"voxels": 10, "voxels_with_negative_eigenvalues": 0, "note": ""},
    "register": {"flags": [], "metrics": {}},
}  # fmt: skip


def measured(folder, monkeypatch, flags=(), voxel="", **changes):
    """Judgement and record of the steps, with some of their files changed."""
    monkeypatch.chdir(folder)
    header = "tract\tside\tmetric\tmean\tstatus\treason\n"
    (folder / "tracts.tsv").write_text(f"{header}corticospinal_tract\tleft\tfa\t0.5\tok\t\n")
    (folder / "anat.json").write_text(json.dumps({"flags": list(flags)}))
    files = {}
    for step, info in (DONE | changes).items():
        (folder / f"{step}.json").write_text(json.dumps(info))
        files[f"{step}_info_file"] = str(folder / f"{step}.json")
    files |= {"tracts_file": str(folder / "tracts.tsv"), "anat_qc_file": str(folder / "anat.json")}
    files |= {"voxel_file": voxel} if voxel else {}
    node = MeasureDwi(steps=list(DONE), asked=ASKED, notes=NOTES)
    node.inputs.trait_set(**files)
    outputs = node.run().outputs
    quality, model, table = (
        Path(path).read_text()
        for path in (outputs.qc_file, outputs.model_file, outputs.measures_file)
    )
    return json.loads(quality), json.loads(model), table


def test_steps_say_what_was_asked_done_and_why_not(tmp_path, monkeypatch):
    _, model, _ = measured(tmp_path, monkeypatch)
    assert model["steps"] == {
        "denoise": {"asked": True, "done": True},
        "unring": {"asked": False, "done": False},
        "drift": {"asked": "auto", "done": False, "reason": DONE["drift"]["reason"]},
        "motion": {"asked": True, "done": True},
        "eddy": {"asked": "linear", "done": False, "reason": "unknown"},
        "replace_outliers": {"asked": True, "done": True},
        "field": {"asked": "auto", "done": False, "reason": NOTES[0]["reason"]},
    }


def test_every_note_is_said_once(tmp_path, monkeypatch):
    quality, _, table = measured(tmp_path, monkeypatch)
    assert [(note["name"], note["reason"]) for note in quality["notes"]] == [
        ("distortion_uncorrected", NOTES[0]["reason"]),
        ("drift_skipped", DONE["drift"]["reason"]),
        ("load", DONE["load"]["notes"][0]),
        ("motion", UNKNOWN),
    ]
    row = ("fa_corticospinal_tract_left", "0.5", "1", "ok", "distortion was not corrected")
    assert "\t".join(row) in table.splitlines()


def test_the_table_of_the_mrs_voxel_reaches_the_measures(tmp_path, monkeypatch):
    _, _, table = measured(tmp_path, monkeypatch)
    assert "mrs_voxel" not in table
    header = "region\tmetric\tweighted_mean\treason\n"
    (tmp_path / "voxel.tsv").write_text(
        f"{header}mrs_voxel\tfa\t0.4\t\nmrs_voxel\tmd\tn/a\tno MRS voxel\n"
    )
    _, _, table = measured(tmp_path, monkeypatch, voxel=str(tmp_path / "voxel.tsv"))
    rows = table.splitlines()
    assert "fa_mrs_voxel\t0.4\t1\tok\tdistortion was not corrected" in rows
    assert "md_mrs_voxel\tn/a\tmm2/s\tok\tno MRS voxel" in rows


def test_directions_that_could_not_be_checked_are_noted(tmp_path, monkeypatch):
    check = {"verdict": "cannot tell", "sentence": "too few fibres to tell"}
    quality, _, table = measured(tmp_path, monkeypatch, check=check)
    note = {"name": "directions_not_checked", "reason": "too few fibres to tell"}
    assert note in quality["notes"]
    assert "too few fibres" not in table  # the values are none the worse for it


@pytest.mark.parametrize(
    ("axis", "moved", "eddy", "expected"),
    [
        (1, True, [[0.1, 0, 0, 0]], {"done": True}),
        (-1, True, [[]], {"done": False, "reason": "the phase-encoding direction is unknown"}),
        (1, False, [[]], {"done": False, "reason": "the correction of head motion, which finds "
                          "them, is switched off"}),
    ],
)  # fmt: skip
def test_whether_eddy_currents_were_corrected(axis, moved, eddy, expected):
    still = no_motion((4, 4, 4, 1))
    estimate = MotionEstimate(
        still.head_to_volume, np.array(eddy, float), (), True, still.outliers, still.loss,
        still.gain, (),
    )  # fmt: skip
    found = _done(estimate, moved, SimpleNamespace(axis=axis, replace=True))
    assert found["eddy"] == expected
    assert found["replace_outliers"]["done"] == moved


def test_a_refusal_gets_its_subject():
    words = r"^the diffusion series shows no brain$"
    with pytest.raises(BadInputError, match=words), naming("the diffusion series"):
        raise BadInputError("shows no brain")
