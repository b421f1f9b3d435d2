"""A small dataset with diffusion: one good person, and one for each thing that goes wrong."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import ready_anat

from alsflow import cli
from alsflow.interfaces import simulate
from alsflow.interfaces.atlas import add_atlas
from alsflow.interfaces.images import save
from alsflow.interfaces.warps import save_warp
from alsflow.nodes.geometry import grid_points
from alsflow.nodes.simulate.anatomy import to_template
from alsflow.nodes.simulate.cohort import Design, DiffusionDesign
from alsflow.nodes.simulate.echo_planar import Imperfections

FLAWS = Imperfections(noise=0.01, drift=3, motion=0.4, eddy=0.8, distortion=4, non_uniformity=0.1)
DWI = DiffusionDesign(12, 4, 1000.0, ((4.0, 4.0, 4.0),), FLAWS)
DESIGN = Design(1, 0, 1, 5, {}, ((3.0, 3.0, 3.0),), DWI)
GOOD = "01"


@dataclass
class Clinic:
    """The dataset, where a run on it writes, and the truth of its good person."""

    root: Path
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

    def run(self, *options, out="out", validate=False, settings='tract_atlas = "simulated"'):
        """Exit code of the command line, with the anatomy prepared."""
        from alsflow.workflows import outputs, participant

        config = self.root / "config.toml"
        config.write_text(f"[dwi]\n{settings}\n")
        argv = [self.bids, self.root / out, "participant", "-w", self.work, "--nprocs", "1"]
        argv += ["--mem", "4G", "--config-file", config, *options]
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
        """State and reason of the diffusion streams by person."""
        table = pd.read_csv(self.root / out / "status.tsv", sep="\t", keep_default_na=False)
        table = table[table["stream"] == "dwi"]
        table.index = table["participant_id"].str.removeprefix("sub-")
        return table[["state", "reason"]]

    def file(self, person, name, out="out", folder="dwi") -> Path:
        return self.root / out / f"sub-{person}" / folder / f"sub-{person}_{name}"

    def measures(self, person, out="out") -> pd.DataFrame:
        path = self.file(person, "desc-dwi_measures.tsv", out)
        table = pd.read_csv(path, sep="\t", keep_default_na=False, na_values={"value": ["n/a"]})
        return table.set_index("measure")

    def quality(self, person, out="out") -> dict:
        return json.loads(self.file(person, "desc-dwi_qc.json", out).read_text())

    def raw(self, person, ending=".nii.gz") -> Path:
        """Series of a person, or a file beside it."""
        return self.bids / f"sub-{person}" / "dwi" / f"sub-{person}_dir-AP_dwi{ending}"

    # -- people

    def admit(self, person: str, harm: Callable[["Clinic", str], None] | None = None) -> None:
        """Copy the good person under another label, then harm the copy."""
        old, new = f"sub-{GOOD}", f"sub-{person}"
        for path in sorted((self.bids / old).rglob("*")):
            if path.is_file():
                copy = self.bids / str(path.relative_to(self.bids)).replace(old, new)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
                if copy.suffix == ".json":
                    copy.write_text(copy.read_text().replace(old, new))
        lines = (self.bids / "participants.tsv").read_text().splitlines()
        with (self.bids / "participants.tsv").open("a") as table:
            table.write(lines[1].replace(old, new) + "\n")
        if harm is not None:
            harm(self, person)


def make_clinic(root: Path) -> Clinic:
    """Simulate the good person; nobody else is there yet."""
    clinic = Clinic(root)
    heads = []

    def remember(*arguments):
        heads.append(scan_person(*arguments))
        return heads[-1]

    scan_person = simulate.scan_person
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate, "scan_person", remember)
        list(simulate.write_cohort(clinic.bids, DESIGN, "none", maps=True))
    shutil.rmtree(clinic.bids / "phenotype", ignore_errors=True)
    simulation = clinic.bids / "derivatives" / "simulation" / "atlas"
    add_atlas("simulated", simulation / "tracts.nii.gz", simulation / "LABELS.tsv",
              space="MNI152NLin2009aSym", kind="masks4d", folder=clinic.atlases)  # fmt: skip
    shutil.move(clinic.bids / "derivatives" / "truth", clinic.truth)
    shutil.rmtree(clinic.bids / "derivatives")
    _prepare_anatomy(heads[0], root / "ready")
    return clinic


def _prepare_anatomy(head, folder: Path) -> None:
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


# ---------------------------------------------------------------------------- harm


def numbers(clinic: Clinic, person: str, ending: str) -> np.ndarray:
    return np.loadtxt(clinic.raw(person, ending), ndmin=2)


def write_numbers(clinic: Clinic, person: str, ending: str, table: np.ndarray) -> None:
    np.savetxt(clinic.raw(person, ending), np.atleast_2d(table), fmt="%g")


def change_sidecar(path: Path, **values) -> None:
    """Set values of a sidecar; None takes a key out."""
    content = json.loads(path.read_text()) | values
    kept = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(kept))


def keep_volumes(clinic: Clinic, person: str, kept: np.ndarray) -> None:
    image = nib.load(clinic.raw(person))
    nib.save(image.slicer[..., : len(kept)], clinic.raw(person))  # which of them matters not
    for ending in (".bval", ".bvec"):
        write_numbers(clinic, person, ending, numbers(clinic, person, ending)[:, kept])


def no_bval(clinic, person):
    clinic.raw(person, ".bval").unlink()


def no_bvec(clinic, person):
    clinic.raw(person, ".bvec").unlink()


def short_bval(clinic, person):
    write_numbers(clinic, person, ".bval", numbers(clinic, person, ".bval")[:, :-1])


def short_bvec(clinic, person):
    write_numbers(clinic, person, ".bvec", numbers(clinic, person, ".bvec")[:, :-2])


def text_bval(clinic, person):
    path = clinic.raw(person, ".bval")
    path.write_text(path.read_text().replace("1000", "b1000", 1))


def zero_vector(clinic, person):
    weighted = np.flatnonzero(numbers(clinic, person, ".bval")[0] > 50)
    table = numbers(clinic, person, ".bvec")
    table[:, weighted[3]] = 0
    write_numbers(clinic, person, ".bvec", table)


def b0_only(clinic, person):
    keep_volumes(clinic, person, np.flatnonzero(numbers(clinic, person, ".bval")[0] <= 50))


def five_directions(clinic, person):
    b = numbers(clinic, person, ".bval")[0]
    keep_volumes(clinic, person, np.r_[np.flatnonzero(b <= 50), np.flatnonzero(b > 50)[:5]])


def nan_volume(clinic, person):
    image = nib.load(clinic.raw(person))
    data = image.get_fdata(dtype=np.float32)
    data[..., 7] = np.nan
    save(data, image.affine, clinic.raw(person))


def other_unit(clinic, person):
    write_numbers(clinic, person, ".bval", numbers(clinic, person, ".bval") / 1000)


def flipped(clinic, person):
    table = numbers(clinic, person, ".bvec")
    table[0] *= -1
    np.savetxt(clinic.raw(person, ".bvec"), table, fmt="%.6f")


def one_volume(clinic, person):
    image = nib.load(clinic.raw(person))
    nib.save(image.slicer[..., 0], clinic.raw(person))


def truncated(clinic, person):
    path = clinic.raw(person)
    path.write_bytes(path.read_bytes()[:20_000])


def broken_sidecar(clinic, person):
    path = clinic.raw(person, ".json")
    path.write_text(path.read_text()[:-10])


def no_direction_and_flipped(clinic, person):
    flipped(clinic, person)
    change_sidecar(clinic.raw(person, ".json"), PhaseEncodingDirection=None)


def second_run(clinic: Clinic, person: str) -> dict[str, Path]:
    """Rename the series to run 1 and copy it as run 2, whose files are returned."""
    files = {}
    for ending in (".nii.gz", ".bval", ".bvec", ".json"):
        path = clinic.raw(person, ending)
        first = path.with_name(path.name.replace("_dwi", "_run-1_dwi"))
        path.rename(first)
        files[ending] = path.with_name(path.name.replace("_dwi", "_run-2_dwi"))
        shutil.copyfile(first, files[ending])
    (fmap,) = (clinic.bids / f"sub-{person}" / "fmap").glob("*.json")
    fmap.write_text(fmap.read_text().replace("_dir-AP_dwi", "_dir-AP_run-1_dwi"))
    return files


def other_shell(clinic, person):
    path = second_run(clinic, person)[".bval"]
    path.write_text(path.read_text().replace("1000", "1400"))


def other_grid(clinic, person):
    path = second_run(clinic, person)[".nii.gz"]
    nib.save(nib.load(path).slicer[:, :, 2:], path)


def no_series(clinic, person):
    for name in ("dwi", "fmap"):
        shutil.rmtree(clinic.bids / f"sub-{person}" / name)


def slab(clinic, person):
    """Keep the upper third of the slices, of the series and of its partner."""
    (fmap,) = (clinic.bids / f"sub-{person}" / "fmap").glob("*.nii.gz")
    for path in (clinic.raw(person), fmap):
        image = nib.load(path)
        nib.save(image.slicer[:, :, image.shape[2] * 2 // 3 :], path)
