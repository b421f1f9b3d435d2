"""Along which axis, in which sense and for how long an echo-planar image was encoded."""

from __future__ import annotations

from dataclasses import dataclass


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
