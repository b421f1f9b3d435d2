"""Headers in text: Siemens RDA and Philips SPAR. Only geometry and timing are looked at.

Conventions as in spec2nii 0.8.15 (doi:10.1002/mrm.29418), which writes the same affines.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.mrs.voxel import IMAGING, LPS, UNLOCALISED, Scan, box, seconds, sequence_of

RDA_BEGIN, RDA_END = ">>> Begin of header <<<", ">>> End of header <<<"
MS = 1e-3  # s
RIGHT_ANGLE = 1e-3  # cosine; rounding of the six digits of an RDA header is far below
SAME_SIZE = 0.01  # mm
AXES = ("lr", "ap", "cc")
SIDES = ("Sag", "Cor", "Tra")


def read_rda(text: str) -> Scan:
    """Scan of the text header of a Siemens RDA file.

    Centre, directions and sizes are those of the VOI (LPS+ mm). ``PositionVector`` is a corner of
    the image, not the centre, and is not used.

    Parameters
    ----------
    text : str
        The file, or at least all of it up to the end of its header.
    """
    begin, end = text.find(RDA_BEGIN), text.find(RDA_END)
    if begin < 0 or end < begin:
        raise BadInputError(
            f"is no RDA file or was cut off: it lacks {RDA_BEGIN!r} or {RDA_END!r}; export it "
            "again"
        )
    fields = _fields(text[begin + len(RDA_BEGIN) : end])
    names = [f"CSIMatrixSize[{axis}]" for axis in range(3)]
    if names[0] in fields and (_numbers(fields, names) > 1).any():
        raise BadInputError(IMAGING)
    axes = _rda_axes(fields)
    sizes = _numbers(fields, ["VOIReadoutFOV", "VOIPhaseFOV", "VOIThickness"])
    _check_rda_sizes(fields, sizes)
    centre = _numbers(fields, [f"VOIPosition{side}" for side in SIDES])
    return Scan(
        box(LPS @ centre, LPS @ axes, sizes),
        te=_time(fields, "TE"),
        tr=_time(fields, "TR"),
        tm=_time(fields, "TM"),
        sequence=sequence_of(fields.get("SequenceName", ""), fields.get("ProtocolName", "")),
        source="Siemens RDA",
    )


def _rda_axes(fields: Mapping[str, str]) -> NDArray:
    """Directions of row, column and their normal in columns, LPS+."""
    row, column = (
        _numbers(fields, [f"{name}[{axis}]" for axis in range(3)])
        for name in ("RowVector", "ColumnVector")
    )
    normal = _numbers(fields, [f"VOINormal{side}" for side in SIDES])
    across = np.cross(row, column)
    lengths = [np.linalg.norm(vector) for vector in (row, column, normal)]
    upright = np.abs([row @ column, row @ normal, column @ normal]).max() < RIGHT_ANGLE
    if not (np.allclose(lengths, 1, atol=RIGHT_ANGLE) and upright):
        raise BadInputError(
            "has a header in which RowVector, ColumnVector and VOINormal are not at right angles; "
            "export it again, or convert it with spec2nii"
        )
    return np.stack([row, column, across], axis=1)


def _check_rda_sizes(fields: Mapping[str, str], sizes: NDArray) -> None:
    """Refuse a voxel whose two statements of its size differ: the sides may be exchanged."""
    names = ["PixelSpacingCol", "PixelSpacingRow"]  # between columns is along a row
    if not all(name in fields for name in names):
        return
    spacing = _numbers(fields, names)
    if np.abs(spacing - sizes[:2]).max() > SAME_SIZE:
        shown = [" x ".join(f"{size:g}" for size in pair) for pair in (sizes[:2], spacing)]
        raise BadInputError(
            f"says that its voxel is {shown[0]} mm (VOIReadoutFOV, VOIPhaseFOV) and {shown[1]} mm "
            "(PixelSpacingCol, PixelSpacingRow); give NIfTI-MRS made by spec2nii instead"
        )


def read_spar(text: str) -> Scan:
    """Scan of a Philips SPAR file.

    The edges are those of left-right, anterior-posterior and cranio-caudal, turned by the three
    angles about these axes, each about the axis as the one before has left it.

    Parameters
    ----------
    text : str
        The whole file.
    """
    fields = _fields(text, comment="!")
    if "lr_size" not in fields:
        raise BadInputError(
            "is no SPAR file or was cut off: it has no lr_size; export SDAT and SPAR again"
        )
    if _says(fields, "phase_encoding_enable", "yes"):  # rows may be averages, and say nothing
        raise BadInputError(IMAGING)
    if _says(fields, "volume_selection_enable", "no"):
        raise BadInputError(UNLOCALISED)
    sizes, centre, angles = (
        _numbers(fields, [f"{axis}_{what}" for axis in AXES])
        for what in ("size", "off_center", "angulation")
    )
    if not sizes.all():
        raise BadInputError(UNLOCALISED)
    turned = Rotation.from_euler("XYZ", LPS @ angles, degrees=True).as_matrix()
    return Scan(
        box(LPS @ centre, turned, sizes),
        te=_time(fields, "echo_time"),
        tr=_time(fields, "repetition_time"),
        tm=_time(fields, "mixing_time"),
        sequence=sequence_of(fields.get("scan_id", "")),
        source="Philips SPAR",
    )


def _fields(text: str, comment: str = "") -> dict[str, str]:
    """Values by key of lines ``key : value``."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and not (comment and key.lstrip().startswith(comment)):
            found[key.strip()] = value.strip()
    return found


def _numbers(fields: Mapping[str, str], names: list[str]) -> NDArray:
    """Numbers of some fields; a decimal comma is read as a point."""
    found = []
    for name in names:
        try:
            found.append(float(fields.get(name, "").replace(",", ".")))
        except ValueError:
            stated = repr(fields[name]) if fields.get(name) else "nothing"
            raise BadInputError(
                f"says {stated} for {name}, where a number is needed; export it again"
            ) from None
    numbers = np.array(found)
    if not np.isfinite(numbers).all():
        raise BadInputError(f"has no finite number for one of {', '.join(names)}; export it again")
    return numbers


def _time(fields: Mapping[str, str], name: str) -> float:
    """A time in ms as s; NaN where it is missing, empty or 0."""
    return seconds(_numbers(fields, [name])[0], MS) if fields.get(name) else np.nan


def _says(fields: Mapping[str, str], name: str, word: str) -> bool:
    """Whether a field, with or without quotes, is this word."""
    return fields.get(name, "").strip('" ').lower() == word
