"""Resting state: one good person, and one for each thing that goes wrong."""

import gzip
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
from clinic import GOOD, Clinic, change_sidecar, damage_header, simulate_good_person

from alsflow.interfaces.atlas import find_atlas
from alsflow.interfaces.normalise import LabelNative
from alsflow.interfaces.template import template_file
from alsflow.interfaces.warps import save_warp
from alsflow.nodes.geometry import apply_affine, grid_over, grid_points
from alsflow.nodes.simulate.anatomy import to_template
from alsflow.nodes.simulate.cohort import Design, FunctionalDesign
from alsflow.nodes.simulate.functional import FunctionalScanner

__all__ = ["GOOD", "change_sidecar", "make_clinic"]

# A long TR: the default denoising needs some seven minutes, and few volumes are quickly made.
TR, VOLUMES, SHORT = 5.0, 88, 40
SCANNER = FunctionalScanner(tsnr=100, motion=0.25, distortion=4, ringing=0, storage="LAS")
FUNC = FunctionalDesign(VOLUMES, TR, ((4.0, 4.0, 4.0),), SCANNER)
DESIGN = Design(1, 0, 1, 5, {}, ((3.0, 3.0, 3.0),), func=FUNC)
WARP_VOXEL, WARP_ROUNDS = 4.0, 8  # mm, and steps of the inversion


def make_clinic(root: Path) -> Clinic:
    """Simulate the good person, and ``short``, of whom only the first minutes are there."""
    clinic = Clinic(root, "func", "task-rest_bold")
    clinic.atlases.mkdir(parents=True)
    head = simulate_good_person(clinic, DESIGN)
    shutil.rmtree(clinic.bids / "derivatives")
    place_template(head.anatomy, root / "ready")
    clinic.admit("short", shorten)
    return clinic


def place_template(anatomy, folder: Path) -> None:
    """Write where the template lies in the head, and the labels of the atlas there."""
    template = nib.load(template_file("gm"))
    shape, affine = grid_over(template.shape, template.affine, WARP_VOXEL)
    wanted = grid_points(shape, affine)
    to_head = np.linalg.inv(anatomy.world_to_template)
    points = apply_affine(to_head, wanted)
    for _ in range(WARP_ROUNDS):
        missing = wanted - to_template(anatomy, points)
        points += np.tensordot(to_head[:3, :3], missing, 1)
    save_warp(points, affine, folder / "to_native.nii.gz")
    label = LabelNative(
        atlas_file=str(find_atlas("neuromorphometrics").image),
        to_template_file=str(folder / "to_template.nii.gz"),
        mask_file=str(folder / "mask.nii.gz"),
    )
    label.run(cwd=str(folder))


# ---------------------------------------------------------------------------- files


def change_image(path: Path, change=None, header=None, affine=None) -> None:
    """Write an image again: other data, another header, or another affine."""
    image = nib.load(path)
    data = image.get_fdata(dtype=np.float32)
    data = data if change is None else change(data)
    made = nib.Nifti1Image(data, image.affine if affine is None else affine, image.header)
    if header is not None:
        header(made.header)
    nib.save(made, path)


def change_header(path: Path, change) -> None:
    """Change the bytes of a header, which nibabel would put in order."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    header = nib.Nifti1Header(bytes(raw[:348]), check=False)
    change(header)
    raw[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(raw), 1))


def set_tr(seconds: float, unit: str = "sec"):
    def change(header):
        header["pixdim"][4] = seconds
        header.set_xyzt_units("mm", unit)

    return change


def keep(volumes):
    def harm(clinic, person):
        image = nib.load(clinic.raw(person))
        nib.save(image.slicer[..., volumes], clinic.raw(person))

    return harm


def shorten(clinic, person):
    keep(slice(SHORT))(clinic, person)


def sidecar(**values):
    return lambda clinic, person: change_sidecar(clinic.raw(person, ".json"), **values)


def maps(clinic: Clinic, person: str) -> list[Path]:
    """Sidecars of a person's field maps."""
    return sorted((clinic.bids / f"sub-{person}" / "fmap").glob("*.json"))


def rename(clinic: Clinic, person: str, new: str) -> None:
    """Give the series another name, such as ``task-nback_bold``."""
    for ending in (".nii.gz", ".json"):
        path = clinic.raw(person, ending)
        path.rename(path.with_name(f"sub-{person}_{new}{ending}"))


def copy_as(clinic: Clinic, person: str, new: str) -> dict[str, Path]:
    """Copy the series under another name; the files of the copy."""
    files = {}
    for ending in (".nii.gz", ".json"):
        path = clinic.raw(person, ending)
        files[ending] = path.with_name(f"sub-{person}_{new}{ending}")
        shutil.copyfile(path, files[ending])
    return files


def second_run(clinic: Clinic, person: str) -> dict[str, Path]:
    """Rename the series to run 1 and copy it as run 2, whose files are returned."""
    second = copy_as(clinic, person, "task-rest_run-2_bold")
    rename(clinic, person, "task-rest_run-1_bold")
    for path in maps(clinic, person):
        path.write_text(path.read_text().replace("_task-rest_bold", "_task-rest_run-1_bold"))
    return second


# ---------------------------------------------------------------------------- harm


def no_tr(clinic, person):
    sidecar(RepetitionTime=None)(clinic, person)
    change_header(clinic.raw(person), set_tr(0, "unknown"))


def other_tr(clinic, person):
    change_header(clinic.raw(person), set_tr(2.5))


def seconds_as_ms(clinic, person):
    """5000 with the unit s, and no RepetitionTime."""
    sidecar(RepetitionTime=None)(clinic, person)
    change_header(clinic.raw(person), set_tr(1000 * TR))


def three_dimensional(clinic, person):
    image = nib.load(clinic.raw(person))
    nib.save(image.slicer[..., 0], clinic.raw(person))


def constant(clinic, person):
    change_image(clinic.raw(person), lambda data: np.repeat(data[..., :1], data.shape[3], axis=3))


def nan_volume(clinic, person):
    def change(data):
        data[..., 7] = np.nan
        return data

    change_image(clinic.raw(person), change, lambda header: header.set_data_dtype(np.float32))


def empty(clinic, person):
    change_image(clinic.raw(person), lambda data: data * 0)


def late_slices(clinic, person):
    times = json.loads(clinic.raw(person, ".json").read_text())["SliceTiming"]
    sidecar(SliceTiming=[1000 * time for time in times])(clinic, person)


def truncated(clinic, person):
    path = clinic.raw(person)
    path.write_bytes(path.read_bytes()[:50_000])


def damaged_header(clinic, person):
    damage_header(clinic.raw(person))


def not_gzip(clinic, person):
    clinic.raw(person).write_text("<html>404 Not Found</html>")


def broken_sidecar(clinic, person):
    path = clinic.raw(person, ".json")
    path.write_text(path.read_text()[:-10])


def two_tasks(clinic, person):
    copy_as(clinic, person, "task-motor_bold")
    rename(clinic, person, "task-nback_bold")


def two_echoes(clinic, person):
    copy_as(clinic, person, "task-rest_echo-1_bold")
    rename(clinic, person, "task-rest_echo-2_bold")


def other_grid(clinic, person):
    path = second_run(clinic, person)[".nii.gz"]
    nib.save(nib.load(path).slicer[2:], path)


def other_tr_of_run(clinic, person):
    files = second_run(clinic, person)
    change_sidecar(files[".json"], RepetitionTime=5.2)
    change_header(files[".nii.gz"], set_tr(5.2))


def set_zooms(*sizes):
    def change(header):
        header["pixdim"][1:4] = sizes
        header["sform_code"] = 0  # the voxel sizes count where there is no sform

    return lambda clinic, person: change_header(clinic.raw(person), change)


def zero_column(clinic, person):
    def change(header):
        header["srow_x"][:3] = header["srow_y"][:3] = header["srow_z"][:3] = 0
        header["qform_code"] = 0

    change_header(clinic.raw(person), change)


def no_forms(clinic, person):
    """Neither sform nor qform says where the head lies."""

    def change(header):
        header["sform_code"] = header["qform_code"] = 0

    change_header(clinic.raw(person), change)


def no_t1w(clinic, person):
    shutil.rmtree(clinic.bids / f"sub-{person}" / "anat")


def no_series(clinic, person):
    for name in ("func", "fmap"):
        shutil.rmtree(clinic.bids / f"sub-{person}" / name)


# ---------------------------------------------------------------------------- goes on


def keep_slices(low: float, high: float):
    """Keep a share of the slices from `low` to `high`, counted from the feet."""

    def harm(clinic, person):
        images = [path.with_suffix(".nii.gz") for path in maps(clinic, person)]
        for path in (clinic.raw(person), *images):
            image = nib.load(path)
            n = image.shape[2]
            nib.save(image.slicer[:, :, round(low * n) : round(high * n)], path)
        times = json.loads(clinic.raw(person, ".json").read_text())["SliceTiming"]
        n = len(times)
        sidecar(SliceTiming=times[round(low * n) : round(high * n)])(clinic, person)

    return harm


def odd(clinic, person):
    """Known all the same: the TR in ms, two dimensions more of size 1, images that are links."""

    def change(header):
        set_tr(1000 * TR, "msec")(header)
        header["dim"][0] = 6
        header["dim"][5:7] = 1

    sidecar(RepetitionTime=None)(clinic, person)
    change_header(clinic.raw(person), change)
    store = clinic.root / "store"
    store.mkdir()
    for path in (clinic.bids / f"sub-{person}").glob("*/*.nii.gz"):
        kept = store / path.name.replace("_", "+")  # as datalad keeps them, under another name
        path.rename(kept)
        path.symlink_to(kept)


def no_slice_times(clinic, person):
    sidecar(SliceTiming=None)(clinic, person)
