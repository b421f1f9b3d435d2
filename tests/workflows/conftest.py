"""A toy dataset, a toy stream, and the command line run on them."""

import json
import os
import subprocess
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HELPERS = str(Path(__file__).parent / "helpers")
if HELPERS not in sys.path:  # worker processes take over this path
    sys.path.insert(0, HELPERS)


@dataclass
class Toy:
    """A dataset of text files called T1w, and where a run on it writes."""

    root: Path
    bids: Path = field(init=False)
    out: Path = field(init=False)
    work: Path = field(init=False)

    def __post_init__(self):
        self.bids, self.out, self.work = (self.root / name for name in ("bids", "out", "work"))
        self.bids.mkdir()
        text = json.dumps({"Name": "toy", "BIDSVersion": "1.9.0"})
        (self.bids / "dataset_description.json").write_text(text)
        (self.bids / "participants.tsv").write_text("participant_id\tage\n")

    def add(self, folder, text="fine", entities=""):
        """One image; `folder` is such as sub-01 or sub-01/ses-a."""
        prefix = folder.replace("/", "_")
        path = self.bids / folder / "anat" / f"{prefix}{entities}_T1w.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text} {folder}")
        with (self.bids / "participants.tsv").open("a") as table:
            table.write(f"{folder.partition('/')[0]}\t60\n")
        return path

    def add_series(self, folder):
        """A second image of a person, for the second stream."""
        path = self.bids / folder / "dwi" / f"{folder.replace('/', '_')}_dwi.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"series of {folder}")
        return path

    def run(self, *options, level="participant", validate=False, workers=2):
        """Exit code of the command line."""
        from alsflow import cli

        argv = [str(self.bids), str(self.out), level, "-w", str(self.work), "--mem", "4G"]
        argv += ["--nprocs", str(workers), *map(str, options)]
        try:
            return cli.main(argv + ([] if validate else ["--skip-bids-validation"]))
        except SystemExit as end:
            return end.code

    def calls(self):
        """Steps computed since the last question, such as 01:load."""
        file = self.work / "calls.txt"
        lines = file.read_text().split() if file.is_file() else []
        file.unlink(missing_ok=True)
        return sorted(line.removeprefix("sub_") for line in lines)

    def status(self):
        """State by person (and session)."""
        rows = [line.split("\t") for line in (self.out / "status.tsv").read_text().splitlines()]
        return {"_".join(c for c in row[:2] if c != "n/a") or row[2]: row[3] for row in rows[1:]}

    def states(self):
        """State by person and stream."""
        rows = [line.split("\t") for line in (self.out / "status.tsv").read_text().splitlines()]
        return {(row[0], row[2]): row[3] for row in rows[1:]}

    def reasons(self):
        rows = [line.split("\t") for line in (self.out / "status.tsv").read_text().splitlines()]
        return {row[0] if row[0] != "n/a" else row[2]: row[4] for row in rows[1:]}

    def node(self, person, name):
        """Working folder of a step."""
        return self.work / "alsflow_wf" / f"sub_{person}_wf" / "anat_wf" / name


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The toy with its stream in place of the anatomical one."""
    import toy_streams

    from alsflow.workflows import participant

    monkeypatch.setitem(participant.STREAMS, "anat", toy_streams.init_toy_wf)
    monkeypatch.setitem(participant.STREAMS, "dwi", toy_streams.init_second_wf)
    monkeypatch.setitem(participant.TAKES, "dwi", {"anat": ("scaled_file",)})
    outputs = types.ModuleType("alsflow.workflows.outputs")
    outputs.requested = toy_streams.requested
    outputs.withdraw = toy_streams.withdraw
    monkeypatch.setitem(sys.modules, "alsflow.workflows.outputs", outputs)
    report = types.ModuleType("alsflow.workflows.report")
    report.write_reports = lambda settings, visits, manifest: None
    report.write_index = lambda settings, manifest: None
    monkeypatch.setitem(sys.modules, "alsflow.workflows.report", report)
    monkeypatch.chdir(tmp_path)
    return Toy(tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 kB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    disk = tmp_path / "small"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if subprocess.run(command).returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
