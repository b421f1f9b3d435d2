"""Bring a diffusion series onto its reference head by one interpolation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.distortion.phase_encoding import PhaseEncoding
from alsflow.nodes.dwi.estimate import MotionEstimate
from alsflow.nodes.dwi.gradients import Gradients
from alsflow.nodes.epi.pose import frame_of, poses_of
from alsflow.nodes.epi.resample import Resampled, resample_poses
from alsflow.nodes.errors import BadInputError


def resample_series(
    signal: NDArray,
    affine: NDArray,
    estimate: MotionEstimate,
    phase_encoding: PhaseEncoding | None,
    shift: NDArray | None = None,
    polarity: NDArray | None = None,
    order: int = 3,
) -> Resampled:
    """Undo motion, eddy currents and susceptibility in one interpolation.

    Parameters
    ----------
    signal : (x, y, z, n) array
        Raw series.
    affine : (4, 4) array
        Voxel to world mm.
    estimate : MotionEstimate
        Of this series.
    phase_encoding : PhaseEncoding or None
        None only where neither eddy currents nor a shift are undone.
    shift : (x, y, z) array, optional
        Susceptibility shift, mm: what belongs at p was found at p + shift(p) along the
        phase-encoding axis of the reference.
    polarity : (n,) array, optional
        -1 for volumes encoded against the reference, where the shift is the negative.
    order : int
        3 cubic B-spline, 1 linear.
    """
    if phase_encoding is None and (shift is not None or np.any(estimate.eddy)):
        raise BadInputError(
            "Distortion can only be undone along a known phase encoding; give "
            "PhaseEncodingDirection in the JSON file of the diffusion series."
        )
    frame = frame_of(signal.shape, affine)
    poses = poses_of(estimate.head_to_volume, estimate.eddy, frame)
    axis = phase_encoding.axis if phase_encoding else 1
    return resample_poses(signal, frame, poses, axis, shift, polarity, order)


def rotated_gradients(gradients: Gradients, estimate: MotionEstimate) -> Gradients:
    """Directions as the head of the reference saw them [1]_.

    References
    ----------
    .. [1] Leemans and Jones (2009). Magn Reson Med 61:1336-1349. doi:10.1002/mrm.21890
    """
    turns = estimate.head_to_volume[:, :3, :3]
    return replace(gradients, directions=np.einsum("nij,ni->nj", turns, gradients.directions))
