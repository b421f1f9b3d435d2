"""What the diffusion stream will do with the files of one visit, before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alsflow.interfaces.epi_plan import (
    distortion_note,
    encoding_of,
    grid_of,
    phase_axis,
    refuse_difference,
    slice_axis,
)
from alsflow.interfaces.fieldmaps import NOT_ASKED, FieldmapChoice, choose_fieldmap
from alsflow.interfaces.sidecars import companion, read_sidecar, split_name
from alsflow.nodes.distortion.phase_encoding import PhaseEncoding
from alsflow.nodes.dwi.gradients import B0_MAX
from alsflow.nodes.errors import BadInputError


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
    others = [path for path in series if path != weighted[0].path] + list(maps)
    choice = choose_fieldmap(weighted[0].path, others, bids_dir) if undistort else NOT_ASKED
    axis = phase_axis(weighted[0].path, weighted[0].encoding, bids_dir)
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
    return Run(path, bval, bvec, *encoding_of(path, bids_dir))


def _slices(run: Run, bids_dir: Path) -> tuple[int, float | None]:
    """Axis across the slices in RAS+ order, and the share of k-space that was acquired."""
    meta = read_sidecar(run.path, bids_dir)
    axis = slice_axis(meta, grid_of(run.path)[1])
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
            refuse_difference(first.path, first.encoding, run.path, run.encoding)
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


def _notes(run: Run, axis: int, choice: FieldmapChoice) -> tuple[tuple[str, str], ...]:
    notes = distortion_note(choice)
    if axis < 0:
        why = f"eddy currents cannot be corrected: {run.path.name} {run.problem}"
        notes.append(("phase_encoding_unknown", why))
    return tuple(notes)
