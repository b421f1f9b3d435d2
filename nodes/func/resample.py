"""Undo head motion and susceptibility distortion of a BOLD series in one interpolation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.epi.pose import frame_of, poses_of
from alsflow.nodes.epi.resample import Resampled, resample_poses
from alsflow.nodes.errors import BadInputError


def correct_bold(
    signal: NDArray,
    affine: NDArray,
    head_to_volume: NDArray,
    shift: NDArray | None = None,
    axis: int | None = None,
) -> Resampled:
    """Series on the grid of the reference volume, by one cubic B-spline interpolation.

    Parameters
    ----------
    signal : (x, y, z, n) array
        Series as acquired, or after slice timing.
    affine : (4, 4) array
        Voxel to world mm.
    head_to_volume : (n, 4, 4) array
        Rigid, world mm: where a point of the reference head lies in each volume.
    shift : (x, y, z) array, optional
        Susceptibility shift, mm: what belongs at p was found at p + shift(p) along `axis`; the
        signal is multiplied by 1 + its derivative.
    axis : int, optional
        Voxel axis of the phase encoding; needed with `shift`.
    """
    if len(head_to_volume) != signal.shape[3]:
        raise BadInputError(
            f"has {signal.shape[3]} volumes, but {len(head_to_volume)} poses of the head were "
            "given; they must be as many"
        )
    if shift is not None and axis is None:
        raise BadInputError(
            "has a known distortion but no known phase-encoding axis to undo it along; write "
            "PhaseEncodingDirection in its JSON file"
        )
    if shift is not None and shift.shape != signal.shape[:3]:
        raise BadInputError("lies on another grid than its susceptibility shift")
    frame = frame_of(signal.shape, affine)
    none = np.zeros((len(head_to_volume), 0))
    poses = poses_of(np.asarray(head_to_volume, float), none, frame)
    return resample_poses(signal, frame, poses, 1 if axis is None else axis, shift)
