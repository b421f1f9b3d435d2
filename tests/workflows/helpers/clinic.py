"""A small dataset of simulated people: one good person, and one for each thing that goes wrong."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
import ready_anat

from alsflow import cli
from alsflow.interfaces import simulate
from alsflow.interfaces.images import save
from alsflow.interfaces.warps import save_warp
from alsflow.nodes.geometry import grid_points
from alsflow.nodes.simulate.anatomy import to_template
from alsflow.nodes.simulate.cohort import Design
from alsflow.nodes.simulate.head import Head

GOOD = "01"


@dataclass
class Clinic:
    """The dataset, where a run on it writes, and the truth of its good person.

    `stream` is the one that is tested, `series` the end of the names of its images, and
    `settings` what a run is given in the table of the stream where a test does not say.
    """

    root: Path
    stream: str
    series: str
    settings: str = ""
    bids: Path = field(init=False)
    out: Path = field(init=False)
    work: Path = field(init=False)

    def __post_init__(self):
        self.bids, self.out, self.work = (self.root / name for name in ("bids", "out", "work"))

    @property
    def atlases(self) -> Path:
        return self.root / "atlases"

    @property
    def truth(self) -> Path:
        return self.root / "truth"

    def true_measures(self) -> pd.Series:
        table = pd.read_csv(self.truth / "measures.tsv", sep="\t")
        return table.set_index("measure")["value"]

    def run(self, *options, out="out", work="work", nprocs=1, validate=False, settings=None):
        """Exit code of the command line, with the anatomy prepared."""
        from alsflow.workflows import outputs, participant

        config = self.root / "config.toml"
        config.write_text(f"[{self.stream}]\n{self.settings if settings is None else settings}\n")
        argv = [self.bids, self.root / out, "participant", "-w", self.root / work]
        argv += ["--nprocs", nprocs, "--mem", "4G", "--config-file", config, *options]
        argv += [] if validate else ["--skip-bids-validation"]
        everything = outputs.declared() | {"anat": ready_anat.DECLARED}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ALSFLOW_ATLAS_DIR", str(self.atlases))
            patch.setitem(participant.STREAMS, "anat", ready_anat.init_ready_wf)
            patch.setattr(outputs, "declared", lambda: everything)
            patch.chdir(self.root)
            try:
                return cli.main([str(part) for part in argv])
            except SystemExit as end:
                return end.code

    def status(self, out="out") -> pd.DataFrame:
        """State and reason of the stream by person."""
        table = pd.read_csv(self.root / out / "status.tsv", sep="\t", keep_default_na=False)
        table = table[table["stream"] == self.stream]
        table.index = table["participant_id"].str.removeprefix("sub-")
        return table[["state", "reason"]]

    def file(self, person, name, out="out", folder="") -> Path:
        folder = folder or self.stream
        return self.root / out / f"sub-{person}" / folder / f"sub-{person}_{name}"

    def measures(self, person, out="out") -> pd.DataFrame:
        path = self.file(person, f"desc-{self.stream}_measures.tsv", out)
        table = pd.read_csv(path, sep="\t", keep_default_na=False, dtype={"unit": str},
                            na_values={"value": ["n/a"]})  # fmt: skip
        return table.set_index("measure")

    def quality(self, person, out="out") -> dict:
        return json.loads(self.file(person, f"desc-{self.stream}_qc.json", out).read_text())

    def raw(self, person, ending=".nii.gz") -> Path:
        """Series of a person, or a file beside it."""
        name = f"sub-{person}_{self.series}{ending}"
        return self.bids / f"sub-{person}" / self.stream / name

    # -- people

    def admit(
        self, person: str, harm: Callable[["Clinic", str], None] | None = None, like: str = GOOD
    ) -> None:
        """Copy a person under another label, then harm the copy."""
        old, new = f"sub-{like}", f"sub-{person}"
        for path in sorted((self.bids / old).rglob("*")):
            if path.is_file():
                copy = self.bids / str(path.relative_to(self.bids)).replace(old, new)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
                if copy.suffix == ".json":
                    copy.write_text(copy.read_text().replace(old, new))
        lines = (self.bids / "participants.tsv").read_text().splitlines()
        with (self.bids / "participants.tsv").open("a") as table:
            table.write(lines[1].replace(f"sub-{GOOD}", new) + "\n")
        if harm is not None:
            harm(self, person)


def simulate_good_person(clinic: Clinic, design: Design) -> Head:
    """Write the dataset of the only person, with the truth beside it."""
    heads = []

    def remember(*arguments):
        heads.append(scan_person(*arguments))
        return heads[-1]

    scan_person = simulate.scan_person
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate, "scan_person", remember)
        list(simulate.write_cohort(clinic.bids, design, "none", maps=True))
    shutil.rmtree(clinic.bids / "phenotype", ignore_errors=True)
    shutil.move(clinic.bids / "derivatives" / "truth", clinic.truth)
    prepare_anatomy(heads[0], clinic.root / "ready")
    return heads[0]


def prepare_anatomy(head: Head, folder: Path) -> None:
    """Write what the anatomical stream would share, from the truth."""
    folder.mkdir()
    scan = head.scan
    for name, data in (("t1w", scan.image), ("mask", scan.brain)):
        save(data, scan.affine, folder / f"{name}.nii.gz")
    for index, tissue in enumerate(simulate.TISSUES):
        save(scan.fractions[..., index], scan.affine, folder / f"{tissue}.nii.gz")
    points = to_template(head.anatomy, grid_points(scan.image.shape, scan.affine))
    save_warp(points, scan.affine, folder / "to_template.nii.gz")
    ready_anat.write_judgements(folder)


def damage_header(path):
    """Leave a compressed image of which not even the header can be unpacked."""
    content = path.read_bytes()
    path.write_bytes(content[:10] + b"\xff" * 200 + content[210:])


def change_sidecar(path: Path, **values) -> None:
    """Set values of a sidecar; None takes a key out."""
    content = json.loads(path.read_text()) | values
    kept = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(kept))
