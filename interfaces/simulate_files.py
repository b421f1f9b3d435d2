"""Files of a simulated dataset, whose bytes depend on what is in them alone."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, inv_ornt_aff
from numpy.typing import NDArray

from alsflow import __version__

LEVEL = 6  # of the compression; noise does not get much smaller
SHIFT_STEP = 0.001  # mm
HEAD_MOTION = {  # columns of a table of true motion
    "trans_x": {"Description": "Shift of the head towards the right", "Units": "mm"},
    "trans_y": {"Description": "Shift of the head towards the front", "Units": "mm"},
    "trans_z": {"Description": "Shift of the head upwards", "Units": "mm"},
    "rot_x": {"Description": "Rotation about x, made first", "Units": "degree"},
    "rot_y": {"Description": "Rotation about y", "Units": "degree"},
    "rot_z": {"Description": "Rotation about z, made last", "Units": "degree"},
}
DRIFT = {"drift": {"Description": "Signal relative to the first volume"}}
TRUTH_AXES = {"AxesIJK": "voxel axes of the truth's own images, which are in the order RAS"}


def write_text(path: Path, text: str) -> None:
    """Write a text file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """Write a sidecar."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "n/a"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def write_table(path: Path, rows: Sequence[Mapping[Any, Any]], columns: list[str]) -> None:
    """Write a tab-separated table; what is missing or not a number is n/a."""
    lines = ["\t".join(columns)]
    lines += ["\t".join(_cell(row.get(name)) for name in columns) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def write_image(
    path: Path,
    data: NDArray,
    affine: NDArray,
    slope: float | None = None,
    level: int = 9,
    repetition: float | None = None,
) -> None:
    """Write a NIfTI whose bytes depend on the voxels alone, not on the time or the name.

    Parameters
    ----------
    path : path
        File to make; ends in ``.nii.gz``.
    data : array
        Voxels, as they are stored.
    affine : (4, 4) array
        Voxel to mm.
    slope : float, optional
        What a stored value is multiplied with.
    level : int
        Of the compression.
    repetition : float, optional
        Time from volume to volume, s.
    """
    image = nib.Nifti1Image(data, affine)
    if slope is not None:
        image.header.set_slope_inter(slope, 0)  # `data` are then written as they are
    image.header.set_xyzt_units("mm", "sec" if repetition else None)
    if repetition:
        image.header["pixdim"][4] = repetition
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(image.to_bytes(), level, mtime=0))


# ---------------------------------------------------------------------------- what scanners say


def stored(data: NDArray, affine: NDArray, order: str) -> tuple[NDArray, NDArray]:
    """Bring an RAS-ordered array (x, y, z, ...) and its affine to another order, such as LAS."""
    orientation = axcodes2ornt(order)
    turned = nib.orientations.apply_orientation(data, orientation)
    return turned, affine @ inv_ornt_aff(orientation, data.shape[:3])


def encoding_direction(sign: int, order: str) -> str:
    """Phase-encoding direction, as BIDS writes it, of a series encoded along RAS's second axis."""
    return "j" if sign == (1 if order[1] == "A" else -1) else "j-"


def scanner_words(site: int, kind: str, sequence: str) -> dict[str, Any]:
    """What every sidecar says of its scanner; `kind` is ``2D`` or ``3D``."""
    return {
        "Manufacturer": "simulated",
        "ManufacturersModelName": f"alsflow {__version__}",
        "InstitutionName": f"site-{site + 1}",
        "MagneticFieldStrength": 3,
        "MRAcquisitionType": kind,
        "ScanningSequence": sequence,
    }


def readout_words(sign: int, storage: str, readout: float, lines: int) -> dict[str, Any]:
    """What a sidecar says of an echo-planar readout (s) of so many lines."""
    return {
        "PhaseEncodingDirection": encoding_direction(sign, storage),
        "TotalReadoutTime": round(readout, 6),
        "EffectiveEchoSpacing": round(readout / (lines - 1), 8),
    }


# ---------------------------------------------------------------------------- truth


def motion_rows(numbers: NDArray, columns: list[str], last: str) -> list[dict[str, Any]]:
    """Rows of a table of true motion: the volumes from 0, then what is called `last`."""
    volumes = [*range(len(numbers) - 1), last]
    return [
        dict(zip(columns, (volume, *row.tolist()), strict=True))
        for volume, row in zip(volumes, numbers, strict=True)
    ]


def write_shift(stem: Path, shift: NDArray, affine: NDArray) -> None:
    """Write the true displacement (x, y, z) by the field, mm, with its sidecar."""
    counts = np.rint(shift / SHIFT_STEP).astype(np.int16)
    write_image(stem.with_suffix(".nii.gz"), counts, affine, SHIFT_STEP, LEVEL)
    words = "Where signal was found in the series less where it belongs, along axis j"
    write_json(stem.with_suffix(".json"), {"Description": words, "Units": "mm"})
