"""What the diffusion stream will do with the files of one visit, before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from alsflow.interfaces.fieldmaps import FieldmapChoice, choose_fieldmap
from alsflow.interfaces.sidecars import companion, read_sidecar, split_name
from alsflow.nodes.distortion.phase_encoding import PhaseEncoding, axis_from_sidecar, from_sidecar
from alsflow.nodes.dwi.gradients import B0_MAX
from alsflow.nodes.errors import BadInputError

SAME_READOUT = 0.01  # relative difference up to which two readout times are one


@dataclass(frozen=True)
class Run:
    """One series of the visit.

    Attributes
    ----------
    path, bval, bvec : path
        The image and its gradient table.
    encoding : PhaseEncoding or None
        In nearest RAS+ order; None where the sidecar does not tell.
    problem : str
        Why it is not known.
    """

    path: Path
    bval: Path
    bvec: Path
    encoding: PhaseEncoding | None
    problem: str = ""


@dataclass(frozen=True)
class DwiPlan:
    """What is joined, and what undistorts it.

    Attributes
    ----------
    runs : tuple of Run
        Joined into one series, in this order.
    polarities : tuple of int
        Of each run: 1 encoded like the first one, -1 against it.
    axis : int
        Voxel axis of the phase encoding in RAS+ order; -1 where it is unknown.
    distortion : FieldmapChoice
        The pair or map that serves the first run.
    notes : tuple of (name, reason)
        What a reader of the measures must know.
    slice_axis : int
        Voxel axis across the slices in RAS+ order.
    partial_fourier : float or None
        Share of k-space that was acquired, where the sidecar tells.
    """

    runs: tuple[Run, ...]
    polarities: tuple[int, ...]
    axis: int
    distortion: FieldmapChoice
    notes: tuple[tuple[str, str], ...] = ()
    slice_axis: int = 2
    partial_fourier: float | None = None

    @property
    def encoding(self) -> PhaseEncoding | None:
        """Phase encoding of the first run."""
        return self.runs[0].encoding


def plan_dwi(
    series: tuple[Path, ...], maps: tuple[Path, ...], bids_dir: Path, undistort: bool
) -> DwiPlan:
    """Plan of one visit, refused in words where its files do not go together.

    Parameters
    ----------
    series, maps : tuples of path
        Images in its ``dwi`` and ``fmap`` folders.
    bids_dir : path
        Root of the dataset; sidecars are inherited from there.
    undistort : bool
        Whether something that undoes distortion is looked for.
    """
    runs = [_run(path, bids_dir) for path in series]
    weighted = [run for run in runs if _is_weighted(run)] or runs
    polarities = _polarities(weighted)
    choice = FieldmapChoice("none", (), "the correction of distortion is switched off")
    if undistort:
        others = [path for path in series if path != weighted[0].path] + list(maps)
        choice = choose_fieldmap(weighted[0].path, others, bids_dir)
    axis = _axis(weighted[0], bids_dir)
    return DwiPlan(
        tuple(weighted),
        polarities,
        axis,
        choice,
        _notes(weighted[0], axis, choice),
        *_slices(weighted[0], bids_dir),
    )


def _run(path: Path, bids_dir: Path) -> Run:
    tables = [companion(path, bids_dir, ending) for ending in (".bval", ".bvec")]
    for table, ending in zip(tables, (".bval", ".bvec"), strict=True):
        if table is None:
            raise BadInputError(
                f"{path.name} has no {ending} file; put {path.name.partition('.')[0]}{ending} "
                "beside it"
            )
    bval, bvec = (table for table in tables if table is not None)
    shape, affine = _header(path)
    try:
        encoding = from_sidecar(read_sidecar(path, bids_dir), affine, shape)
    except BadInputError as error:
        return Run(path, bval, bvec, None, str(error))
    return Run(path, bval, bvec, encoding)


def _header(path: Path) -> tuple[tuple[int, ...], NDArray]:
    """Shape without volumes and affine; a file that cannot be read is refused in words."""
    try:
        image: Any = nib.load(path)
    except (ImageFileError, OSError, EOFError, ValueError) as error:
        raise BadInputError(
            f"{path.name} cannot be read as an image ({error}); convert or copy it again"
        ) from error
    return image.shape[:3], np.asarray(image.affine)


def _slices(run: Run, bids_dir: Path) -> tuple[int, float | None]:
    """Axis across the slices in RAS+ order, and the share of k-space that was acquired."""
    meta = read_sidecar(run.path, bids_dir)
    affine = _header(run.path)[1]
    stored = {"i": 0, "j": 1, "k": 2}.get(str(meta.get("SliceEncodingDirection"))[:1], 2)
    axis = int(nib.orientations.io_orientation(affine)[stored, 0])
    share = meta.get("PartialFourier")
    known = isinstance(share, int | float) and 0.5 <= share <= 1
    return axis, float(share) if known else None  # type: ignore[arg-type]


def _is_weighted(run: Run) -> bool:
    """Whether some volume is diffusion-weighted; tables that are none are judged when read."""
    try:
        return bool((np.loadtxt(run.bval, ndmin=1) > B0_MAX).any())
    except ValueError:
        return True


def _polarities(runs: list[Run]) -> tuple[int, ...]:
    """Sense of phase encoding of each run relative to the first."""
    first = runs[0]
    found = [1]
    for run in runs[1:]:
        if first.encoding is not None and run.encoding is not None:
            _refuse_difference(first, first.encoding, run, run.encoding)
            found.append(first.encoding.sign * run.encoding.sign)
            continue
        if _direction(run) != _direction(first):
            unknown = run if run.encoding is None else first
            raise BadInputError(
                f"{first.path.name} and {run.path.name} cannot be joined because "
                f"{unknown.path.name} {unknown.problem}"
            )
        found.append(1)
    return tuple(found)


def _direction(run: Run) -> str | None:
    return split_name(run.path.name)[0].get("dir")


def _refuse_difference(first: Run, ours: PhaseEncoding, run: Run, theirs: PhaseEncoding) -> None:
    names = f"{first.path.name} and {run.path.name}"
    mend = "choose one with --bids-filter-file"
    if ours.axis != theirs.axis:
        raise BadInputError(
            f"{names} are encoded along different axes and cannot be joined; {mend}"
        )
    if ours.readout is None or theirs.readout is None:
        return
    if abs(ours.readout / theirs.readout - 1) > SAME_READOUT:
        raise BadInputError(
            f"{names} have the readout times {ours.readout:g} and {theirs.readout:g} s and "
            f"cannot be joined; {mend}"
        )


def _axis(run: Run, bids_dir: Path) -> int:
    """Axis of the phase encoding even where its sense is unknown; -1 where that is, too."""
    if run.encoding is not None:
        return run.encoding.axis
    try:
        axis = axis_from_sidecar(read_sidecar(run.path, bids_dir), _header(run.path)[1])
    except BadInputError:
        return -1
    return -1 if axis is None else axis


def _notes(run: Run, axis: int, choice: FieldmapChoice) -> tuple[tuple[str, str], ...]:
    notes = []
    if choice.kind == "none":
        why = f"susceptibility distortion was not corrected: {choice.reason}"
        notes.append(("distortion_uncorrected", why))
    elif choice.rule in ("same shim", "same grid"):
        notes.append(("distortion_by_likeness", choice.reason))
    if axis < 0:
        why = f"eddy currents cannot be corrected: {run.path.name} {run.problem}"
        notes.append(("phase_encoding_unknown", why))
    return tuple(notes)


def pair_inputs(plan: DwiPlan, bids_dir: Path) -> dict[str, Any]:
    """Readout times of the two images of a pair, for `interfaces.distortion.FieldFromPair`."""
    opposite = plan.distortion.files[1]
    shape, affine = _header(opposite)
    encodings = (plan.encoding, from_sidecar(read_sidecar(opposite, bids_dir), affine, shape))
    readouts = [encoding.readout if encoding else None for encoding in encodings]
    names = ("plus_readout", "minus_readout")
    return {n: value for n, value in zip(names, readouts, strict=True) if value is not None}


def gre_inputs(plan: DwiPlan, bids_dir: Path) -> dict[str, Any]:
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
