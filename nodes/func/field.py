"""A field known in Hz, taken to the grid of a functional series where the head has moved since."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.distortion.gre import shift_from_hz
from alsflow.nodes.distortion.phase_encoding import PhaseEncoding
from alsflow.nodes.distortion.unwarp import unwarp
from alsflow.nodes.dwi.brain_mask import brain_of
from alsflow.nodes.epi.place import place
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import voxel_sizes

ROUNDS = 2  # of unwarping and placing; the second moves a head by hundredths of a mm


@dataclass(frozen=True)
class Known:
    """A field and the image that shows where the head was when it was measured.

    Attributes
    ----------
    field : (x, y, z) array
        Hz, at undistorted places.
    anatomy : (x, y, z) array or None
        Undistorted echo-planar image of the head on the same grid; None where there is none, and
        the headers are trusted.
    affine : (4, 4) array
        Voxel to mm of both.
    """

    field: NDArray
    anatomy: NDArray | None
    affine: NDArray


@dataclass(frozen=True)
class Brought:
    """The field on another grid.

    Attributes
    ----------
    shift : (x, y, z) float32 array
        Displacement along the phase encoding, mm.
    corrected : (x, y, z) float32 array
        The reference undistorted.
    placement : (4, 4) array
        Where a point of the head in the reference, mm, lies in the image of the field.
    """

    shift: NDArray
    corrected: NDArray
    placement: NDArray


def bring_field(
    known: Known, reference: NDArray, affine: NDArray, mask: NDArray, encoding: PhaseEncoding
) -> Brought:
    """Displacement of a reference by a field that was measured in another position of the head.

    The reference is distorted and the image of the field is not, so the two are placed on each
    other with the distortion undone as far as it is known, in turn.

    Parameters
    ----------
    known : Known
        The field.
    reference : (x, y, z) array
        Mean volume of the series as acquired.
    affine : (4, 4) array
        Voxel to mm.
    mask : (x, y, z) bool array
        Brain in `reference`, roughly.
    encoding : PhaseEncoding
        Of the series, with its readout time.
    """
    placement = np.eye(4)
    shape = reference.shape

    def shifted() -> tuple[NDArray, NDArray]:
        shift = shift_from_hz(known.field, known.affine, encoding, shape, affine, placement)
        return shift, unwarp(reference, shift, affine, encoding.axis)

    shift, corrected = shifted()
    if known.anatomy is None:
        return Brought(shift, corrected, placement)
    head = brain_of(known.anatomy, voxel_sizes(known.affine))
    if not head.any():
        raise BadInputError("has a pair of opposite phase encoding that shows no brain; check it")
    for _ in range(ROUNDS):
        placement = place(corrected, affine, mask, known.anatomy, known.affine, head)
        shift, corrected = shifted()
    return Brought(shift, corrected, placement)
