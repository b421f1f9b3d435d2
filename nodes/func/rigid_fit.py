"""Lay one volume rigidly on a target; compiled where it counts.

The target is given by values and slopes at points of the head. Gauss-Newton steps use the slopes
of the target, which as a mean of many volumes has next to no noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from alsflow.nodes.epi.interpolate import sample_slopes, sample_spline
from alsflow.nodes.epi.pose import Frame

FWHM = 2.3548  # of a Gaussian, standard deviations
MARGIN = 0.75  # voxels at the edge of the field of view, where smoothing lacks a neighbour
STEPS = 20  # at most
CORNER = 85.0  # mm from the middle of a head to the corners of its box
FARTHEST = 80.0  # mm; no head in a coil moves so far
LEVER = 50.0  # mm, makes turns as large as shifts in the equations
TUKEY = 4.685  # robust standard deviations beyond which a point counts nothing
QUANTILE, HALF_NORMAL = 0.25, 0.3186  # of |misfit|; lost slices may spoil more than half
FEWEST = 200  # points of the head that a volume must show


@dataclass(frozen=True)
class Target:
    """What volumes are laid on.

    Attributes
    ----------
    points : (3, m) array
        Places in the head of the reference, image axes, mm.
    values, slopes : (m,), (3, m) array
        Signal there and its derivatives per mm.
    weights : (m,) array
        1 for a point that can be trusted, less where the signal changes by itself.
    """

    points: NDArray
    values: NDArray
    slopes: NDArray
    weights: NDArray


@dataclass(frozen=True)
class Fit:
    """Where one volume lies.

    Attributes
    ----------
    pose : (4, 4) array
        From the head of the reference to the volume, image axes, mm.
    gain : float
        Signal of the volume relative to the target.
    misfit : float
        Robust standard deviation of what is left, signal; NaN where nothing was compared.
    weights : (m,) array
        What each point counted in the end.
    settled : bool
        The last step was small.
    """

    pose: NDArray
    gain: float
    misfit: float
    weights: NDArray
    settled: bool

    @property
    def lost(self) -> bool:
        """Whether the volume could not be compared with the target at all."""
        return bool(np.isnan(self.misfit))


AT_REST = Fit(np.eye(4), 1.0, np.nan, np.zeros(0), False)


@numba.njit(fastmath=True)
def _inside(points: NDArray, pull: NDArray, shape: tuple, margin: float, inside: NDArray) -> None:
    """Write 1 for points well within the field of view and 0 for others."""
    for n in range(points.shape[1]):
        inside[n] = 1.0
        for a in range(3):
            place = pull[a, 3]
            for b in range(3):
                place += pull[a, b] * points[b, n]
            if place < margin or place > shape[a] - 1 - margin:
                inside[n] = 0.0


@numba.njit(fastmath=True)
def _normal(
    points: NDArray, slopes: NDArray, values: NDArray, rest: NDArray, weights: NDArray
) -> tuple[NDArray, NDArray]:
    """Matrix (7, 7) and right side (7,) for shift, turn and gain; sums in a fixed order."""
    matrix, side = np.zeros((7, 7)), np.zeros(7)
    row = np.empty(7)
    for n in range(points.shape[1]):
        x, y, z = points[0, n] / LEVER, points[1, n] / LEVER, points[2, n] / LEVER
        a, b, c = slopes[0, n], slopes[1, n], slopes[2, n]
        row[0], row[1], row[2] = a, b, c
        row[3], row[4], row[5] = y * c - z * b, z * a - x * c, x * b - y * a
        row[6] = values[n]
        for i in range(7):
            part = weights[n] * row[i]
            side[i] += part * rest[n]
            for j in range(7):
                matrix[i, j] += part * row[j]
    return matrix, side


def _to_voxels(frame: Frame, pose: NDArray) -> NDArray:
    """From points of the head, mm, to voxels of a volume, (4, 4)."""
    matrix = np.diag([*(1 / frame.zooms), 1.0])
    matrix[:3, 3] = frame.middle
    return matrix @ pose


def smoothed(volume: NDArray, fwhm: float, frame: Frame) -> NDArray:
    """A volume smoothed by `fwhm` mm, to be used as coefficients of a B-spline.

    The spline does not go through these values: it smooths them a little further.
    """
    raw = np.ascontiguousarray(volume, np.float32)
    widths = fwhm / FWHM / frame.zooms
    return np.asarray(ndimage.gaussian_filter(raw, widths, mode="nearest", truncate=3))


def sampled(smooth: NDArray, points: NDArray, frame: Frame, fit: Fit) -> tuple[NDArray, NDArray]:
    """Values (m,) and slopes (3, m) where the head lies in a volume, at the target's level."""
    values, slopes = np.empty(points.shape[1]), np.empty((3, points.shape[1]))
    sample_slopes(smooth, _to_voxels(frame, fit.pose), points, values, slopes)
    return values / fit.gain, slopes / fit.gain


def _judged(rest: NDArray, weights: NDArray) -> tuple[NDArray, float]:
    """Tukey's weights on top of those given, and the robust standard deviation; NaN: too few."""
    used = weights > 0
    if used.sum() < FEWEST:
        return weights, np.nan
    relative = rest * np.sqrt(weights)
    # a volume compared with itself leaves nothing
    scale = max(float(np.quantile(np.abs(relative[used]), QUANTILE)) / HALF_NORMAL, 1e-12)
    return weights * np.maximum(1 - (relative / (TUKEY * scale)) ** 2, 0) ** 2, scale


def fit_volume(smooth: NDArray, target: Target, frame: Frame, start: Fit, done: float) -> Fit:
    """Find the pose of a volume.

    Parameters
    ----------
    smooth : (x, y, z) float32 array
        The volume, as `smoothed` gives it.
    target : Target
        Smoothed likewise.
    frame : Frame
        Image axes of the grid.
    start : Fit
        Pose and gain to begin with; they are kept for a volume that fits nowhere.
    done : float
        The search ends when the corners of the head move less, mm.
    """
    size = target.points.shape[1]
    values, inside = np.empty(size), np.empty(size)
    pose, gain, settled = start.pose, start.gain, False
    for _ in range(STEPS + 1):
        pull = _to_voxels(frame, pose)
        sample_spline(smooth, pull, target.points, values)
        _inside(target.points, pull, smooth.shape, MARGIN, inside)
        rest = values / gain - target.values
        weights, misfit = _judged(rest, target.weights * inside)
        if settled or np.isnan(misfit):
            break
        matrix, side = _normal(target.points, target.slopes, target.values, rest, weights)
        if np.linalg.cond(matrix) > 1e12:
            misfit = np.nan
            break
        step = np.linalg.solve(matrix, side)
        pose, gain = pose @ _undone(step), gain * (1 + step[6])
        if gain <= 0 or np.linalg.norm(pose[:3, 3] - start.pose[:3, 3]) > FARTHEST:
            misfit = np.nan
            break
        settled = bool(
            np.linalg.norm(step[:3]) + CORNER / LEVER * np.linalg.norm(step[3:6]) < done
        )
    if np.isnan(misfit):
        return Fit(start.pose, start.gain, np.nan, np.zeros(size), False)
    return Fit(pose, gain, misfit, weights, settled)


def _undone(step: NDArray) -> NDArray:
    """Inverse (4, 4) of the motion by a step of shift (mm) and turn (radians times LEVER)."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(-step[3:6] / LEVER).as_matrix()
    matrix[:3, 3] = -matrix[:3, :3] @ step[:3]
    return matrix
