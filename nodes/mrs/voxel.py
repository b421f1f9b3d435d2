"""The box that a spectrum comes from: where it lies and how it was measured.

World means RAS+ mm of the scanner. A voxel is the cube -0.5 to 0.5 of its own coordinates, which
an affine brings into the world: its columns are the edges, its last column the centre.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.anat.conform import check_affine
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import apply_affine, stated_sizes, voxel_sizes, voxel_volume

LEAST_EDGE = 2.0  # mm; shorter means that the header is not in mm
MOST_EDGE = 200.0  # mm; NIfTI-MRS says 10000 where nothing was localised
NO_VOXEL = "no MRS voxel"  # what a measure of another stream says where there is none
ON_FACE = 1e-7  # of an edge: rounding of points in single precision
LPS = np.diag([-1.0, -1.0, 1.0])  # LPS+ to RAS+ and back
SEQUENCES = {  # what the names of sequences and protocols contain
    "sLASER": r"s-?laser",
    "STEAM": r"steam|svs_st(?![a-z])",
    "PRESS": r"(?<!sup)(?<!com)press|svs_se(?![a-z])",
}
UNLOCALISED = (
    "has no place: the spectrum was not localised, or the converter left the position out; "
    "convert it again from the scanner's files"
)
IMAGING = (
    "holds spectroscopic imaging, several voxels in one file; give the single voxel that was "
    "fitted as NIfTI-MRS of its own"
)


@dataclass(frozen=True, eq=False)
class Voxel:
    """Where a spectrum was measured.

    Attributes
    ----------
    affine : (4, 4) array
        The cube -0.5 to 0.5 to RAS+ mm.
    """

    affine: NDArray

    @property
    def sizes(self) -> NDArray:
        """Length of the three edges, mm."""
        return voxel_sizes(self.affine)

    @property
    def centre(self) -> NDArray:
        """Centre, RAS+ mm."""
        return np.asarray(self.affine[:3, 3])

    @property
    def volume(self) -> float:
        """Nominal volume, mL."""
        return voxel_volume(self.affine)

    @property
    def corners(self) -> NDArray:
        """Corners (8, 3), RAS+ mm, the last axis of the voxel running fastest."""
        cube = np.indices((2, 2, 2)).reshape(3, -1) - 0.5
        return apply_affine(self.affine, cube).T

    def holds(self, points: NDArray) -> NDArray:
        """Which of the points (3, ...), RAS+ mm, lie inside; NaN lies outside.

        Of two opposite faces one belongs to the voxel, so that a grid along its edges counts its
        volume and not one layer more.
        """
        own = apply_affine(np.linalg.inv(self.affine), points) + ON_FACE
        return np.asarray(((own >= -0.5) & (own < 0.5)).all(axis=0))


@dataclass(frozen=True, eq=False)
class Scan:
    """What the header of a spectroscopy file says; no name, no date.

    Attributes
    ----------
    voxel : Voxel
        Place.
    te, tr, tm : float
        Echo, repetition and mixing time, s; NaN where the header does not say.
    sequence : str
        ``PRESS``, ``STEAM`` or ``sLASER``; empty where the header does not say.
    source : str
        Format that it was read from, with the program that converted it.
    """

    voxel: Voxel
    te: float = math.nan
    tr: float = math.nan
    tm: float = math.nan
    sequence: str = ""
    source: str = ""


def voxel_from_affine(affine: NDArray) -> Voxel:
    """Voxel of an affine (4, 4) that brings the cube -0.5 to 0.5 to RAS+ mm.

    Raises
    ------
    BadInputError
        The edges are not those of a box in a head.
    """
    affine = np.array(affine, float)
    check_affine(affine)
    sizes = stated_sizes(affine)
    if (sizes > MOST_EDGE).any():
        raise BadInputError(UNLOCALISED)
    if (sizes < LEAST_EDGE).any():
        shown = " x ".join(f"{size:g}" for size in sizes)
        raise BadInputError(
            f"has a voxel of {shown} mm, too small for spectroscopy (at least {LEAST_EDGE:g} mm); "
            "correct the size in the header, which must be in mm"
        )
    return Voxel(affine)


def box(centre: NDArray, axes: NDArray, sizes: NDArray) -> Voxel:
    """Voxel of its centre (3,), unit edges (3, 3) in columns and sizes (3,), RAS+ mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(axes) * sizes
    affine[:3, 3] = centre
    return voxel_from_affine(affine)


def sequence_of(*texts: str) -> str:
    """Sequence that a text names, the first text first.

    >>> sequence_of("", "*svs_se"), sequence_of("STEAM_metab"), sequence_of("my protocol")
    ('PRESS', 'STEAM', '')
    """
    for text in texts:
        for name, pattern in SEQUENCES.items():
            if re.search(pattern, text, re.IGNORECASE):
                return name
    return ""


def seconds(value: float, unit: float = 1.0) -> float:
    """A time of a header in s; what is not positive was not filled in and becomes NaN.

    >>> seconds(30, unit=1e-3), seconds(0)
    (0.03, nan)
    """
    return float(value) * unit if math.isfinite(value) and value > 0 else math.nan
