"""What the header of NIfTI-MRS says of place and timing (doi:10.1002/mrm.29418)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import same_grid
from alsflow.nodes.mrs.voxel import (
    IMAGING,
    UNLOCALISED,
    Scan,
    seconds,
    sequence_of,
    voxel_from_affine,
)

NAMED = ("PulseSequenceType", "SequenceName", "PulseSequenceFile", "ProtocolName")
TIMES = ("EchoTime", "RepetitionTime", "MixingTime")
CONVERTER = "ConversionMethod"


def read_nifti_header(
    shape: tuple[int, ...],
    qform: NDArray | None,
    sform: NDArray | None,
    metadata: Mapping[str, Any],
) -> Scan:
    """Scan of a NIfTI-MRS header with one voxel.

    Parameters
    ----------
    shape : tuple of int
        As in the header; the first three are space.
    qform, sform : (4, 4) array or None
        Voxel index to RAS+ mm; None where the code in the header is 0.
    metadata : mapping
        Header extension and sidecar; times in s.
    """
    if any(count > 1 for count in shape[:3]):
        raise BadInputError(IMAGING)
    affine = qform if sform is None else sform
    if affine is None:
        raise BadInputError(UNLOCALISED)
    voxel = voxel_from_affine(affine)
    if qform is not None and not same_grid((2, 2, 2), affine, (2, 2, 2), qform):
        raise BadInputError(
            "has a qform and an sform that place the voxel differently; convert it again"
        )
    te, tr, tm = (_time(metadata, name) for name in TIMES)
    converter = metadata.get(CONVERTER)
    source = "NIfTI-MRS" + (f" by {converter}" if isinstance(converter, str) and converter else "")
    return Scan(voxel, te, tr, tm, named_sequence(metadata), source)


def known_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a sidecar that is looked at; names and dates are not in it."""
    return {name: metadata[name] for name in (*TIMES, *NAMED, CONVERTER) if name in metadata}


def _time(metadata: Mapping[str, Any], name: str) -> float:
    value = metadata.get(name)
    if value is None:
        return np.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInputError(f"says {value!r} for {name}, where a number of seconds is needed")
    return seconds(value)


def named_sequence(metadata: Mapping[str, Any]) -> str:
    """Sequence that header extension or sidecar name, empty where they do not.

    A private field holds its value one level down.
    """
    values = [metadata.get(name, "") for name in NAMED]
    values = [value.get("Value", "") if isinstance(value, dict) else value for value in values]
    return sequence_of(*(value for value in values if isinstance(value, str)))
