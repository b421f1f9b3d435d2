"""Files of a simulated dataset, whose bytes depend on what is in them alone."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
from numpy.typing import NDArray


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
