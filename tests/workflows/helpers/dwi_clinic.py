"""Diffusion: one good person, and one for each thing that goes wrong."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
from clinic import GOOD, Clinic, change_sidecar, damage_header, simulate_good_person

from alsflow.interfaces.atlas import add_atlas
from alsflow.interfaces.images import save
from alsflow.nodes.simulate.cohort import Design, DiffusionDesign
from alsflow.nodes.simulate.echo_planar import Imperfections

__all__ = ["GOOD", "make_clinic"]

FLAWS = Imperfections(noise=0.01, drift=3, motion=0.4, eddy=0.8, distortion=4, non_uniformity=0.1)
DWI = DiffusionDesign(12, 4, 1000.0, ((4.0, 4.0, 4.0),), FLAWS)
DESIGN = Design(1, 0, 1, 5, {}, ((3.0, 3.0, 3.0),), DWI)


def make_clinic(root: Path) -> Clinic:
    """Simulate the good person; nobody else is there yet."""
    clinic = Clinic(root, "dwi", "dir-AP_dwi", 'tract_atlas = "simulated"')
    simulate_good_person(clinic, DESIGN)
    simulation = clinic.bids / "derivatives" / "simulation" / "atlas"
    add_atlas("simulated", simulation / "tracts.nii.gz", simulation / "LABELS.tsv",
              space="MNI152NLin2009aSym", kind="masks4d", folder=clinic.atlases)  # fmt: skip
    shutil.rmtree(clinic.bids / "derivatives")
    return clinic


# ---------------------------------------------------------------------------- harm


def numbers(clinic: Clinic, person: str, ending: str) -> np.ndarray:
    return np.loadtxt(clinic.raw(person, ending), ndmin=2)


def write_numbers(clinic: Clinic, person: str, ending: str, table: np.ndarray) -> None:
    np.savetxt(clinic.raw(person, ending), np.atleast_2d(table), fmt="%g")


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


def damaged_header(clinic, person):
    damage_header(clinic.raw(person))


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
