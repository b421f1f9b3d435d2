"""Along which axis, in which sense and for how long an echo-planar image was encoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.errors import BadInputError

AXES = "ijk"
LONGEST = 0.5  # s; no echo train lasts longer, so a larger number is in ms
READOUT_MEND = "write TotalReadoutTime in seconds"
WITHOUT_DIRECTION = (
    "its susceptibility distortion cannot be corrected; "
    'write "PhaseEncodingDirection" ("j", "j-", ...) in its JSON sidecar'
)


@dataclass(frozen=True)
class PhaseEncoding:
    """Phase encoding of one echo-planar series, in the voxel axes of its array.

    Attributes
    ----------
    axis : int
        Voxel axis, 0 to 2.
    sign : int
        1 where the phase-encoding index grows with the voxel index, -1 against it.
    readout : float or None
        Total readout time, s; None where it is unknown.
    """

    axis: int
    sign: int
    readout: float | None = None


def from_sidecar(
    meta: Mapping[str, Any], affine_stored: NDArray, shape_stored: tuple[int, ...] | None = None
) -> PhaseEncoding:
    """Phase encoding in the voxel axes of the image after its reordering to nearest RAS+.

    Parameters
    ----------
    meta : mapping
        BIDS metadata of the series. Directions count along the axes as stored.
    affine_stored : (4, 4) array
        Voxel to mm of the image as stored.
    shape_stored : tuple of int, optional
        Its shape, which stands in for ReconMatrixPE where only EffectiveEchoSpacing is given.

    Raises
    ------
    BadInputError
        When the direction is missing or a value cannot be; the message says what cannot be done.
    """
    if meta.get("PhaseEncodingDirection") is None:
        known = ", only its axis" if "PhaseEncodingAxis" in meta else ""
        raise BadInputError(
            f"has no PhaseEncodingDirection{known} in its metadata: {WITHOUT_DIRECTION}"
        )
    stored, sign = _parsed("PhaseEncodingDirection", meta)
    _check_slices(stored, meta)
    axis, flip = _turned(stored, affine_stored)
    size = None if shape_stored is None else shape_stored[stored]
    return PhaseEncoding(axis, sign * flip, readout_time(meta, size))


def axis_from_sidecar(meta: Mapping[str, Any], affine_stored: NDArray) -> int | None:
    """Phase-encoding axis after reordering to nearest RAS+, even where its sense is unknown.

    Eddy currents displace along this axis, and need no more. None where the axis is unknown.
    """
    for name in ("PhaseEncodingDirection", "PhaseEncodingAxis"):
        if meta.get(name) is not None:
            return _turned(_parsed(name, meta)[0], affine_stored)[0]
    return None


def readout_time(meta: Mapping[str, Any], size: int | None = None) -> float | None:
    """Total readout time, s, as BIDS defines it; None where nothing tells it.

    Parameters
    ----------
    meta : mapping
        BIDS metadata: TotalReadoutTime, or EffectiveEchoSpacing times ReconMatrixPE - 1.
    size : int, optional
        Voxels along the phase encoding, where ReconMatrixPE is not given.
    """
    if meta.get("TotalReadoutTime") is not None:
        return _checked("TotalReadoutTime", _number("TotalReadoutTime", meta))
    if meta.get("EffectiveEchoSpacing") is None:
        return None
    lines = size if meta.get("ReconMatrixPE") is None else _number("ReconMatrixPE", meta)
    if lines is None:
        return None
    spacing = _number("EffectiveEchoSpacing", meta)
    return _checked("EffectiveEchoSpacing", spacing, lines - 1)


def _parsed(name: str, meta: Mapping[str, Any]) -> tuple[int, int]:
    """Stored axis and sign of a direction such as ``j-``."""
    text = meta[name]
    axis = text[:1] if isinstance(text, str) else ""
    if axis not in tuple(AXES) or text[1:] not in ("", "-"):
        raise BadInputError(
            f"has {name} {text!r}, which is none of i, i-, j, j-, k, k-: {WITHOUT_DIRECTION}"
        )
    return AXES.index(axis), -1 if text.endswith("-") else 1


def _turned(stored: int, affine: NDArray) -> tuple[int, int]:
    """Axis and sign, in nearest RAS+ order, of a stored axis."""
    axis, flip = nib.orientations.io_orientation(affine)[stored]
    return int(axis), int(flip)


def _check_slices(stored: int, meta: Mapping[str, Any]) -> None:
    if meta.get("SliceEncodingDirection") is None:
        return
    if _parsed("SliceEncodingDirection", meta)[0] == stored:
        raise BadInputError(
            f"has the same axis for PhaseEncodingDirection ({meta['PhaseEncodingDirection']}) and "
            f"SliceEncodingDirection ({meta['SliceEncodingDirection']}), and slices are not "
            "stacked along their own phase encoding; correct one of them"
        )


def _number(name: str, meta: Mapping[str, Any]) -> float:
    value = meta[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInputError(f"has {name} {value!r}, which is no number; {READOUT_MEND}")
    return float(value)


def _checked(name: str, value: float, factor: float = 1.0) -> float:
    """Product of a time and a count, refused where no echo train can last so long."""
    readout = value * factor
    if not (np.isfinite(readout) and 0 < readout <= LONGEST):
        raise BadInputError(
            f"has {name} {value:g}, which means a readout of {readout:g} s, and one lasts more "
            f"than 0 and at most {LONGEST:g} s; {READOUT_MEND}"
        )
    return readout
