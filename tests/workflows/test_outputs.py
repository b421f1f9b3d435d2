"""Names of all outputs: BIDS knows them, or is told to pass them over."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alsflow.interfaces.template import SPACE
from alsflow.workflows.derivatives import prepare_output
from alsflow.workflows.outputs import declared
from alsflow.workflows.settings import Settings

KNOWN = {
    "folder": "sub-01", "prefix": "sub-01", "series": "sub-01_task-rest", "space": SPACE,
    "cortical_atlas": "one", "deep_atlas": "two", "tract_atlas": "three", "each": "seed1",
    "resolution": "2",
}  # fmt: skip
NAMING = ("NOT_INCLUDED", "ALL_FILENAME_RULES_HAVE_ISSUES", "SIDECAR_WITHOUT_DATAFILE")


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "bids").mkdir()
    return Settings(
        tmp_path / "bids", tmp_path / "bids" / "derivatives" / "alsflow", "participant",
        work_dir=tmp_path / "work", derivatives={"lcmodel": tmp_path / "my fits"},
    )  # fmt: skip


def test_the_validator_has_nothing_against_any_name(settings):
    prepare_output(settings)
    for stream in declared().values():
        for entry in stream.values():
            path = settings.output_dir / entry["path"].format(**KNOWN)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}\n")
            if entry.get("sidecar", True):
                path.with_name(f"{path.name.split('.')[0]}.json").write_text("{}\n")
    program = shutil.which("bids-validator-deno", path=Path(sys.executable).parent)
    program = program or shutil.which("bids-validator-deno")
    command = [program, "--format", "json", "--ignoreWarnings", "--ignoreNiftiHeaders",
               str(settings.output_dir)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue["location"] for issue in issues if issue["code"] in NAMING] == []


def test_names_of_datasets_are_explained_whatever_runs_next(settings):
    prepare_output(settings)
    path = settings.output_dir / "dataset_description.json"
    links = {"raw": "../..", "lcmodel": "../../../my%20fits"}
    assert json.loads(path.read_text())["DatasetLinks"] == links
    prepare_output(Settings(settings.bids_dir, settings.output_dir, "group",
                            work_dir=settings.work_dir))  # fmt: skip
    assert json.loads(path.read_text())["DatasetLinks"] == links
    path.write_text("[]")  # somebody was here
    prepare_output(settings)
    assert json.loads(path.read_text())["DatasetLinks"] == links
