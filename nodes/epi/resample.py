"""Bring an echo-planar series onto its reference head by one interpolation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.epi.interpolate import resample_volume
from alsflow.nodes.epi.pose import Frame, Poses


@dataclass(frozen=True)
class Resampled:
    """A corrected series.

    Attributes
    ----------
    signal : (x, y, z, n) float32 array
        Series on the grid of the reference head.
    seen : (x, y, z) bool array
        Voxels that lie inside the field of view of every volume. Elsewhere the signal of the
        nearest slice stands in.
    """

    signal: NDArray
    seen: NDArray


def resample_poses(
    signal: NDArray,
    frame: Frame,
    poses: Poses,
    axis: int,
    shift: NDArray | None = None,
    polarity: NDArray | None = None,
    order: int = 3,
) -> Resampled:
    """Sample every volume where the reference head lies in it, intensity corrected.

    Parameters
    ----------
    signal : (x, y, z, n) array
        Raw series.
    frame : Frame
        Image axes of its grid.
    poses : Poses
        Motion and, for diffusion, eddy currents of each volume.
    axis : int
        Voxel axis of the phase encoding.
    shift : (x, y, z) array, optional
        Susceptibility shift, mm: what belongs at p was found at p + shift(p) along `axis`.
    polarity : (n,) array, optional
        -1 for volumes encoded against the reference, where the shift is the negative.
    order : int
        3 cubic B-spline, 1 linear.
    """
    shift = np.zeros(frame.shape, np.float32) if shift is None else shift.astype(np.float32)
    stretch = (np.gradient(shift, axis=axis) / frame.zooms[axis]).astype(np.float32)
    signs = np.ones(len(poses)) if polarity is None else np.asarray(polarity, float)
    corrected = np.empty(signal.shape, np.float32)
    seen = np.ones(frame.shape, bool)
    volume = np.empty(frame.shape, np.float32)
    for n in range(len(poses)):
        raw = np.ascontiguousarray(signal[..., n], np.float32)
        if order == 3:
            raw = ndimage.spline_filter(raw, order=3, output=np.float32, mode="mirror")
        resample_volume(
            raw,
            order,
            shift,
            stretch,
            signs[n],
            np.ascontiguousarray(poses.rotation[n]),
            poses.translation[n].copy(),
            poses.eddy[n],
            axis,
            frame.zooms,
            frame.middle,
            volume,
            seen,
        )
        corrected[..., n] = volume
    return Resampled(corrected, seen)
