"""What the plans of all echo-planar streams share: what a run's files say about its readout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from alsflow.interfaces.fieldmaps import FieldmapChoice
from alsflow.interfaces.images import read_grid
from alsflow.interfaces.sidecars import read_sidecar, split_name
from alsflow.nodes.distortion.phase_encoding import PhaseEncoding, axis_from_sidecar, from_sidecar
from alsflow.nodes.errors import BadInputError

SAME_READOUT = 0.01  # relative difference up to which two readout times are one
CHOOSE = "choose one with --bids-filter-file"


class EpiPlan(Protocol):
    """What a plan of any stream says about distortion."""

    @property
    def encoding(self) -> PhaseEncoding | None:
        """Phase encoding of the first run."""

    @property
    def distortion(self) -> FieldmapChoice:
        """What undistorts it."""


def grid_of(path: Path) -> tuple[tuple[int, ...], NDArray]:
    """Shape without volumes and affine; a file that cannot be read is refused by its name."""
    try:
        return read_grid(path)
    except BadInputError as error:
        raise BadInputError(f"{path.name} {error}") from error


def in_ras(shape: tuple[int, ...], affine: NDArray) -> tuple[tuple[int, ...], NDArray]:
    """Shape without volumes and affine of a stored grid in nearest RAS+ order."""
    orientation = nib.orientations.io_orientation(affine)
    order = np.argsort(orientation[:, 0])
    ordered = tuple(int(shape[k]) for k in order)
    return ordered, affine @ nib.orientations.inv_ornt_aff(orientation, shape[:3])


def encoding_of(path: Path, bids_dir: Path) -> tuple[PhaseEncoding | None, str]:
    """Phase encoding in nearest RAS+ order; None where it is not known, and why."""
    shape, affine = grid_of(path)
    try:
        return from_sidecar(read_sidecar(path, bids_dir), affine, shape), ""
    except BadInputError as error:
        return None, str(error)


def phase_axis(path: Path, encoding: PhaseEncoding | None, bids_dir: Path) -> int:
    """Axis of the phase encoding even where its sense is unknown; -1 where that is, too."""
    if encoding is not None:
        return encoding.axis
    try:
        axis = axis_from_sidecar(read_sidecar(path, bids_dir), grid_of(path)[1])
    except BadInputError:
        return -1
    return -1 if axis is None else axis


def slice_axis(meta: Mapping[str, Any], affine: NDArray) -> int:
    """Axis across the slices in RAS+ order: SliceEncodingDirection, else the third as stored."""
    stored = {"i": 0, "j": 1, "k": 2}.get(str(meta.get("SliceEncodingDirection"))[:1], 2)
    return int(nib.orientations.io_orientation(affine)[stored, 0])


def refuse_difference(
    first: Path, ours: PhaseEncoding | None, other: Path, theirs: PhaseEncoding | None
) -> None:
    """Refuse to join runs that are encoded along two axes or read out in two times."""
    if ours is None or theirs is None:
        return
    names = f"{first.name} and {other.name}"
    if ours.axis != theirs.axis:
        raise BadInputError(
            f"{names} are encoded along different axes and cannot be joined; {CHOOSE}"
        )
    if ours.readout is None or theirs.readout is None:
        return
    if abs(ours.readout / theirs.readout - 1) > SAME_READOUT:
        raise BadInputError(
            f"{names} have the readout times {ours.readout:g} and {theirs.readout:g} s and "
            f"cannot be joined; {CHOOSE}"
        )


def distortion_note(choice: FieldmapChoice) -> list[tuple[str, str]]:
    """What a reader of the measures must know about distortion: names and reasons."""
    if not choice.found:
        why = f"susceptibility distortion was not corrected: {choice.reason}"
        return [("distortion_uncorrected", why)]
    if choice.rule in ("same shim", "same grid"):
        return [("distortion_by_likeness", choice.reason)]
    return []


def pair_inputs(plan: EpiPlan, bids_dir: Path) -> dict[str, Any]:
    """Readout times of the two images of a pair, for `interfaces.distortion.FieldFromPair`."""
    encodings = (plan.encoding, encoding_of(plan.distortion.files[1], bids_dir)[0])
    readouts = [encoding.readout if encoding else None for encoding in encodings]
    names = ("plus_readout", "minus_readout")
    return {n: value for n, value in zip(names, readouts, strict=True) if value is not None}


def gre_inputs(plan: EpiPlan, bids_dir: Path) -> dict[str, Any]:
    """Images and metadata of a gradient-echo map, for `interfaces.distortion.FieldFromGre`."""
    *phases, magnitude = plan.distortion.files
    metas = [read_sidecar(path, bids_dir) for path in phases]
    inputs: dict[str, Any] = {
        "phase_files": [str(path) for path in phases],
        "magnitude_file": str(magnitude),
        "ready": split_name(phases[0].name)[1] == "fieldmap",
    }
    if plan.encoding is not None and plan.encoding.readout is not None:
        inputs["readout"] = plan.encoding.readout
    if metas[0].get("Units"):
        inputs["units"] = str(metas[0]["Units"])
    names = ("EchoTime1", "EchoTime2") if len(phases) == 1 else ("EchoTime", "EchoTime")
    echoes = [meta.get(name) for meta, name in zip((metas * 2)[:2], names, strict=True)]
    if all(isinstance(echo, int | float) for echo in echoes):
        inputs["echo_times"] = tuple(float(echo) for echo in echoes if echo is not None)
    return inputs
