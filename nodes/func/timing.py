"""When a functional series was acquired: time between volumes, and time of each slice in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.errors import BadInputError

SHORTEST, LONGEST = 0.2, 10.0  # s between two volumes; what lies beyond is no TR, or not in s
SAME_TR = 0.001  # s by which header and sidecar may differ: they are rounded
PER_SECOND = {"sec": 1.0, "msec": 1e3, "usec": 1e6}  # time units of NIfTI
PLACEHOLDER = 1.0  # what many programs write into a header of unset units without knowing
TR_MEND = 'write "RepetitionTime" in seconds'
SLICE_MEND = (
    "correct SliceTiming (one time per slice, in seconds), or take it out to go on without "
    "slice timing"
)
WITHOUT_TIMES = "slice timing skipped"


def repetition_time(
    meta: Mapping[str, Any], header_step: float, header_units: str
) -> tuple[float, str]:
    """Find the time between two volumes where sidecar and header agree, or one alone has it.

    Parameters
    ----------
    meta : mapping
        BIDS metadata of the series.
    header_step : float
        Fourth voxel size of the NIfTI header; 0 where it has none.
    header_units : str
        Its unit: ``sec``, ``msec``, ``usec`` or ``unknown``.

    Returns
    -------
    tr : float
        s.
    note : str
        What a reader must know of where it comes from; mostly empty.
    """
    if meta.get("VolumeTiming") is not None:
        raise BadInputError(
            "has VolumeTiming in its JSON sidecar: its volumes are not evenly spaced in time "
            "(sparse sampling), which filters and slice timing need; give a continuous series"
        )
    told, header = _from_sidecar(meta), _from_header(header_step, header_units)
    if told is None and header is None:
        raise BadInputError(
            "has no time between volumes: there is no RepetitionTime in its JSON sidecar and "
            f"{_said(header_step, header_units)}; {TR_MEND}"
        )
    if told is None:
        assert header is not None
        return _plausible(header, "the fourth voxel size of its header"), (
            f"no RepetitionTime in the JSON sidecar: {header:g} s taken from the header"
        )
    if header is None:
        tr = _plausible(told, "RepetitionTime in its JSON sidecar")
        return tr, f"{_said(header_step, header_units)}: {tr:g} s taken from the JSON sidecar"
    if abs(told - header) > SAME_TR:
        if header_units not in PER_SECOND and header_step == PLACEHOLDER:
            tr = _plausible(told, "RepetitionTime in its JSON sidecar")
            return tr, (
                f"the fourth voxel size of the header is 1 without a unit, as programs write it "
                f"that do not know the TR: {tr:g} s taken from the JSON sidecar"
            )
        unit = header_units if header_units in PER_SECOND else "no unit"
        raise BadInputError(
            f"has a RepetitionTime of {told:g} s in its JSON sidecar, and its NIfTI header says "
            f"{header:g} s (fourth voxel size {header_step:g}, {unit}); "
            "find out which is right and correct the other"
        )
    return _plausible(told, "RepetitionTime in its JSON sidecar"), ""


def _from_sidecar(meta: Mapping[str, Any]) -> float | None:
    """RepetitionTime, s; None where it is missing or 0, as converters write what they miss."""
    value = meta.get("RepetitionTime")
    if value is None or (_is_number(value) and value == 0):
        return None
    if not _is_number(value) or not np.isfinite(value) or value < 0:
        raise BadInputError(f"has RepetitionTime {value!r} in its JSON sidecar; {TR_MEND}")
    return float(value)


def _from_header(step: float, units: str) -> float | None:
    """Time step of the header, s; None where it has none, or no unit and no likely value."""
    if not np.isfinite(step) or step <= 0:
        return None
    if units in PER_SECOND:
        return float(step) / PER_SECOND[units]
    return float(step) if units == "unknown" and SHORTEST <= step <= LONGEST else None


def _said(step: float, units: str) -> str:
    unit = units if units in PER_SECOND else "no unit of time"
    return f"the fourth voxel size of its NIfTI header is {step:g} ({unit})"


def _plausible(tr: float, place: str) -> float:
    if not SHORTEST <= tr <= LONGEST:
        raise BadInputError(
            f"has {tr:g} s between volumes ({place}), outside {SHORTEST:g} to {LONGEST:g} s; "
            f"{TR_MEND}"
        )
    return tr


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def slice_times(
    meta: Mapping[str, Any], affine_stored: NDArray, shape_stored: Sequence[int], tr: float
) -> tuple[NDArray | None, str]:
    """Time of each slice in the order of the slice axis after reordering to nearest RAS+.

    Parameters
    ----------
    meta : mapping
        BIDS metadata: SliceTiming, and SliceEncodingDirection, which is ``k`` where it is missing.
        With ``k-`` the first time is that of the last slice as stored.
    affine_stored : (4, 4) array
        Voxel to mm of the image as stored.
    shape_stored : (3,) or longer sequence of int
        Its shape.
    tr : float
        Time between volumes, s.

    Returns
    -------
    times : (slices,) array or None
        s after the start of each volume; None where the step is skipped.
    note : str
        Why it is skipped; empty where it is not.
    """
    given = meta.get("SliceTiming")
    if given is None:
        return None, f"{WITHOUT_TIMES}: there is no SliceTiming in the JSON sidecar"
    stored, sign = _slice_direction(meta)
    times = _checked_times(given, int(shape_stored[stored]), "ijk"[stored], tr)
    if np.ptp(times) == 0:
        return None, f"{WITHOUT_TIMES}: SliceTiming gives one time for all slices"
    flip = nib.orientations.io_orientation(affine_stored)[stored, 1]
    return times[:: int(sign * flip)].copy(), ""


def _slice_direction(meta: Mapping[str, Any]) -> tuple[int, int]:
    """Stored axis across the slices, and 1 or -1 for the order in which times are listed."""
    text = meta.get("SliceEncodingDirection", "k")
    if text not in ("i", "i-", "j", "j-", "k", "k-"):
        raise BadInputError(
            f"has SliceEncodingDirection {text!r}, which is none of i, i-, j, j-, k, k-; "
            "correct it in the JSON sidecar"
        )
    return "ijk".index(text[0]), -1 if text.endswith("-") else 1


def _checked_times(given: Any, slices: int, axis: str, tr: float) -> NDArray:
    if not isinstance(given, list) or not given or not all(_is_number(time) for time in given):
        raise BadInputError(f"has a SliceTiming that is no list of numbers; {SLICE_MEND}")
    times = np.array(given, float)
    if len(times) != slices:
        raise BadInputError(
            f"has {len(times)} times in SliceTiming and {slices} slices (axis {axis} as stored); "
            f"{SLICE_MEND}"
        )
    if not np.isfinite(times).all() or times.min() < 0:
        raise BadInputError(f"has a SliceTiming below 0 or not finite; {SLICE_MEND}")
    if times.max() >= tr:
        unit = ", which look like milliseconds" if 2 * tr <= times.max() < 1000 * tr else ""
        raise BadInputError(
            f"has times up to {times.max():g} in SliceTiming{unit}, and a volume lasts {tr:g} s; "
            f"{SLICE_MEND}"
        )
    return times
