"""What the functional stream will do with the files of one visit, before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsflow.interfaces.epi_plan import (
    CHOOSE,
    distortion_note,
    encoding_of,
    gre_inputs,
    grid_of,
    in_ras,
    pair_inputs,
    phase_axis,
    refuse_difference,
    slice_axis,
)
from alsflow.interfaces.fieldmaps import NOT_ASKED, FieldmapChoice, choose_fieldmap
from alsflow.interfaces.images import open_image
from alsflow.interfaces.sidecars import read_sidecar, split_name
from alsflow.nodes.distortion.phase_encoding import PhaseEncoding
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.timing import SAME_TR, repetition_time, slice_times
from alsflow.nodes.geometry import same_grid

RESTING = "rest"  # how the labels of resting tasks begin, in any case
NO_MAGNITUDE = ("phase", "real", "imag")  # values of part- that are no magnitude
SAME_SLICE_TIME = 0.005  # s by which the slice times of two runs may differ: scanners round them
DISCARDED = ("NumberOfVolumesDiscardedByScanner", "NumberOfVolumesDiscardedByUser")


@dataclass(frozen=True)
class FuncRun:
    """One functional series of the visit.

    Attributes
    ----------
    path : path
        The image.
    shape : tuple of int
        Voxels in nearest RAS+ order.
    affine : (4, 4) array
        Voxel to mm, in that order.
    tr : float
        Time between volumes, s.
    slice_times : tuple of float or None
        s after the start of a volume, in RAS+ order along `FuncPlan.slice_axis`.
    slice_axis : int
        Voxel axis across the slices in RAS+ order.
    encoding : PhaseEncoding or None
        In nearest RAS+ order; None where the sidecar does not tell.
    problem : str
        Why it is not known.
    notes : tuple of (name, reason)
        What a reader of the measures must know of this run.
    """

    path: Path
    shape: tuple[int, ...]
    affine: NDArray
    tr: float
    slice_times: tuple[float, ...] | None
    slice_axis: int
    encoding: PhaseEncoding | None
    problem: str = ""
    notes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class FuncPlan:
    """What is joined, and what undistorts it.

    Attributes
    ----------
    runs : tuple of FuncRun
        Joined into one series, in this order.
    task : str
        Label of the task; several are joined by ``+``.
    tr : float
        Time between volumes, s.
    axis : int
        Voxel axis of the phase encoding in RAS+ order; -1 where it is unknown.
    slice_axis : int
        Voxel axis across the slices in RAS+ order.
    slice_times : tuple of float or None
        s after the start of a volume, in RAS+ order along `slice_axis`; None skips the step.
    distortion : FieldmapChoice
        The pair or map that serves the first run.
    notes : tuple of (name, reason)
        What a reader of the measures must know.
    """

    runs: tuple[FuncRun, ...]
    task: str
    tr: float
    axis: int
    slice_axis: int
    slice_times: tuple[float, ...] | None
    distortion: FieldmapChoice
    notes: tuple[tuple[str, str], ...] = ()

    @property
    def encoding(self) -> PhaseEncoding | None:
        """Phase encoding of the first run."""
        return self.runs[0].encoding

    @property
    def resting(self) -> bool:
        """Whether the series is of the resting state."""
        return all(_resting(label) for label in self.task.split("+"))


def plan_func(
    series: tuple[Path, ...],
    maps: tuple[Path, ...],
    bids_dir: Path,
    undistort: bool,
    task: Sequence[str] = (),
) -> FuncPlan:
    """Plan of one visit, refused in words where its files do not go together.

    Parameters
    ----------
    series, maps : tuples of path
        Images in its ``func`` and ``fmap`` folders.
    bids_dir : path
        Root of the dataset; sidecars are inherited from there.
    undistort : bool
        Whether something that undoes distortion is looked for.
    task : sequence of str
        Labels of the tasks wanted; empty takes the resting runs, else the only task there is.
    """
    chosen, tasks = choose_runs(series, task)
    runs = tuple(_run(path, bids_dir) for path in chosen)
    for run in runs[1:]:
        _refuse_difference(runs[0], run)
    first = runs[0]
    choice = choose_fieldmap(first.path, list(maps), bids_dir) if undistort else NOT_ASKED
    notes = [*_task_notes(tasks, chosen), *_joined(runs), *distortion_note(choice)]
    return FuncPlan(
        runs,
        "+".join(tasks),
        first.tr,
        phase_axis(first.path, first.encoding, bids_dir),
        first.slice_axis,
        first.slice_times,
        choice,
        tuple(notes),
    )


def field_inputs(plan: FuncPlan, bids_dir: Path) -> dict[str, Any]:
    """What `interfaces.func_field.FieldForBold` needs but the mean image and its mask."""
    encoding, choice = plan.encoding, plan.distortion
    assert encoding is not None  # without it the plan names nothing
    assert choice.found
    inputs: dict[str, Any] = {"axis": encoding.axis, "sign": encoding.sign}
    if encoding.readout is not None:
        inputs["readout"] = encoding.readout
    if choice.kind == "gre":
        return inputs | {"kind": "gre"} | gre_inputs(plan, bids_dir)
    plus, minus = choice.files
    if plus == plan.runs[0].path:
        inputs |= pair_inputs(plan, bids_dir) | {"minus_file": str(minus)}
        return inputs | {"kind": "own pair"}
    encodings = [encoding_of(path, bids_dir)[0] for path in (plus, minus)]
    assert encodings[0] is not None
    assert encodings[1] is not None
    return inputs | {
        "kind": "pair",
        "plus_file": str(plus),
        "minus_file": str(minus),
        "pair_axis": encodings[0].axis,
        "pair_sign": encodings[0].sign,
        "plus_readout": encodings[0].readout,
        "minus_readout": encodings[1].readout,
    }


# ---------------------------------------------------------------------------- choice of runs


def choose_runs(series: Sequence[Path], task: Sequence[str] = ()) -> tuple[list[Path], list[str]]:
    """Runs that are analysed, by their names, and the tasks they belong to."""
    magnitudes = [path for path in sorted(series) if _is_magnitude(path)]
    if not magnitudes:
        names = ", ".join(path.name for path in sorted(series)) or "nothing"
        raise BadInputError(
            f"there is no functional series of magnitudes ({names} found); give a *_bold image"
        )
    nameless = [path.name for path in magnitudes if not _task(path)]
    if nameless:
        raise BadInputError(
            f"{nameless[0]} does not tell its task; write one into its name, such as task-rest"
        )
    present = sorted({_task(path) for path in magnitudes})
    wanted = _wanted_tasks(present, [label.removeprefix("task-") for label in task])
    chosen = [path for path in magnitudes if _task(path) in wanted]
    _refuse_echoes(chosen)
    _refuse_reconstructions(chosen)
    return chosen, wanted


def _wanted_tasks(present: list[str], asked: list[str]) -> list[str]:
    there = " and ".join(f"task-{label}" for label in present)
    if asked:
        missing = [f"task-{label}" for label in asked if label not in present]
        if len(missing) == len(asked):
            raise BadInputError(
                f"there is no functional series of {' or '.join(missing)}, only of {there}; "
                "give one of these with --task-id"
            )
        return [label for label in present if label in asked]
    resting = [label for label in present if _resting(label)]
    if resting or len(present) == 1:
        return resting or present
    raise BadInputError(
        f"there are functional series of {there}, and none is called task-rest; choose one with "
        '--task-id, or with --bids-filter-file and {"bold": {"task": ...}}'
    )


def _refuse_echoes(paths: list[Path]) -> None:
    """Refuse several echoes of one excitation: they are no runs, and are not combined here."""
    echoes = sorted({_entity(path, "echo") for path in paths if _entity(path, "echo")})
    if len(echoes) > 1:
        raise BadInputError(
            f"{paths[0].name} is one of {len(echoes)} echoes, and echoes are not combined here; "
            'choose one with --bids-filter-file and {"bold": {"echo": 2}}, or combine them before'
        )


def _refuse_reconstructions(paths: list[Path]) -> None:
    """Refuse to join two reconstructions of one acquisition."""
    seen: dict[tuple[tuple[str, str], ...], Path] = {}
    for path in paths:
        entities = split_name(path.name)[0]
        bare = tuple(sorted(i for i in entities.items() if i[0] not in ("rec", "proc", "part")))
        other = seen.setdefault(bare, path)
        if other != path:
            raise BadInputError(
                f"{other.name} and {path.name} are the same acquisition twice; {CHOOSE}"
            )


def _is_magnitude(path: Path) -> bool:
    entities, suffix = split_name(path.name)
    return suffix != "sbref" and entities.get("part") not in NO_MAGNITUDE


def _entity(path: Path, key: str) -> str:
    return split_name(path.name)[0].get(key, "")


def _task(path: Path) -> str:
    return _entity(path, "task")


def _resting(label: str) -> bool:
    return label.lower().startswith(RESTING)


def _task_notes(tasks: list[str], chosen: list[Path]) -> list[tuple[str, str]]:
    named = " and ".join(f"task-{label}" for label in tasks)
    notes = []
    if not all(map(_resting, tasks)):
        notes.append(
            ("not_resting", f"not a resting run: {named}; connectivity is that during the task")
        )
    if len(tasks) > 1:
        notes.append(("tasks_joined", f"runs of {named} are joined into one series"))
    if _entity(chosen[0], "echo"):
        notes.append(("one_echo", f"one echo alone is used: echo-{_entity(chosen[0], 'echo')}"))
    return notes


# ---------------------------------------------------------------------------- one run


def _run(path: Path, bids_dir: Path) -> FuncRun:
    """What header and sidecar of a run say, refused where they cannot be."""
    meta = read_sidecar(path, bids_dir)
    affine = grid_of(path)[1]
    image = open_image(path)
    shape = tuple(int(n) for n in image.shape)
    if len(shape) < 4 or shape[3] < 2:
        size = " x ".join(map(str, shape))
        raise BadInputError(
            f"{path.name} is not a series: it holds one volume (its size is {size}); "
            f"give the 4-D series, or leave it out: {CHOOSE}"
        )
    zooms, units = image.header.get_zooms(), image.header.get_xyzt_units()[1]
    try:
        tr, tr_note = repetition_time(meta, float(zooms[3]), units)
        times, times_note = slice_times(meta, affine, shape, tr)
    except BadInputError as error:
        raise BadInputError(f"{path.name} {error}") from error
    encoding, problem = encoding_of(path, bids_dir)
    notes = [("tr", tr_note), ("slice_timing_skipped", times_note)]
    notes += [("volumes_discarded", text) for text in _discarded(meta)]
    return FuncRun(
        path,
        *in_ras(shape, affine),
        tr,
        None if times is None else tuple(times.tolist()),
        slice_axis(meta, affine),
        encoding,
        problem,
        tuple((name, f"{text} ({path.name})") for name, text in notes if text),
    )


def _discarded(meta: dict[str, Any]) -> list[str]:
    """Initial volumes that are gone already, in words; settings may drop more."""
    found = {key: meta.get(key) for key in DISCARDED}
    who = {key: key.rpartition("By")[2].lower() for key in DISCARDED}
    return [
        f"{value} initial volumes had been discarded by the {who[key]} already"
        for key, value in found.items()
        if isinstance(value, int) and not isinstance(value, bool) and value > 0
    ]


def _refuse_difference(first: FuncRun, run: FuncRun) -> None:
    """Refuse runs that cannot be joined into one series."""
    names = f"{first.path.name} and {run.path.name}"

    def refuse(why: str) -> None:
        raise BadInputError(f"{names} {why} and cannot be joined; {CHOOSE}")

    if not same_grid(first.shape, first.affine, run.shape, run.affine):
        refuse("do not lie on the same voxel grid")
    if abs(first.tr - run.tr) > SAME_TR:
        refuse(f"have {first.tr:g} and {run.tr:g} s between volumes")
    if (first.slice_axis, first.slice_times is None) != (run.slice_axis, run.slice_times is None):
        refuse("differ in SliceTiming: only one has it, or along another axis")
    if first.slice_times is not None and not np.allclose(
        first.slice_times, np.array(run.slice_times), rtol=0, atol=SAME_SLICE_TIME
    ):
        refuse("have their slices acquired at different times")
    refuse_difference(first.path, first.encoding, run.path, run.encoding)
    if first.encoding is not None and run.encoding is not None:
        if first.encoding.sign != run.encoding.sign:
            refuse("are encoded in opposite directions, so that they are distorted differently,")
    elif _entity(first.path, "dir") != _entity(run.path, "dir"):
        refuse("are called by different dir- labels, with the phase encoding of one unknown,")


def _joined(runs: tuple[FuncRun, ...]) -> list[tuple[str, str]]:
    """Notes of all runs."""
    return [note for run in runs for note in run.notes]
