"""Rigid motion of the head from volume to volume of a BOLD series.

Every volume is laid on one still volume, from coarse to fine, and then on the mean of all as they
were found. The misfit is weighted: less where the signal changes over time by itself (vessels,
eyes, task), and not at all at points that a spoilt volume shows wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist

from alsflow.nodes.epi.points import spread_points
from alsflow.nodes.epi.pose import Frame, frame_of
from alsflow.nodes.epi.series import listed
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.rigid_fit import (
    AT_REST,
    FEWEST,
    Fit,
    Target,
    fit_volume,
    sampled,
    smoothed,
)
from alsflow.nodes.geometry import apply_affine

SMALLEST = 8  # voxels along any axis
REACH = 2  # voxels by which the mask is dilated: the edge of the brain tells most
POINTS, COARSE_POINTS = 40_000, 4_000
COARSE, FINE = 8.0, 4.0  # mm, FWHM of the smoothing for the first and for the last look
COARSE_DONE, DONE = 0.05, 0.003  # mm by which the corners of the head may still move
PASSES = 2  # on the mean of all volumes
POOR = 1.5  # times the median misfit: a volume that fits worse is no reference


@dataclass(frozen=True)
class Realignment:
    """Motion of a BOLD series.

    Attributes
    ----------
    head_to_volume : (n, 4, 4) array
        Rigid, world mm: where a point of the head of the reference volume lies in each volume.
    reference : int
        The volume that lies nearest to all others, so that the series is moved least.
    misfit : (n,) array
        Robust standard deviation of what sets a volume, smoothed, apart from the mean of all, as
        share of the mean signal; NaN for lost volumes.
    gain : (n,) array
        Signal of each volume relative to the mean of all; found on the way, not applied.
    lost : (n,) bool array
        Volumes that fit nowhere; the pose of a neighbour stands in.
    settled : (n,) bool array
        Volumes whose last step was small.
    """

    head_to_volume: NDArray
    reference: int
    misfit: NDArray
    gain: NDArray
    lost: NDArray
    settled: NDArray

    @property
    def notes(self) -> list[str]:
        """What a reader should know, in words."""
        notes = []
        if self.lost.any():
            notes.append(
                f"{listed(self.lost)}: could not be laid on the others; the pose of a neighbour "
                "stands in"
            )
        if (~self.settled & ~self.lost).any():
            notes.append(f"{listed(~self.settled & ~self.lost)}: the search did not settle")
        return notes


def realign(
    signal: NDArray, affine: NDArray, mask: NDArray, runs: NDArray | None = None
) -> Realignment:
    """Rigid motion of every volume of a BOLD series, all runs onto one reference.

    Parameters
    ----------
    signal : (x, y, z, n) array
        Series in the order of acquisition.
    affine : (4, 4) array
        Voxel to world mm.
    mask : (x, y, z) bool array
        Brain, roughly.
    runs : (n,) int array, optional
        Number of the run of each volume: the search for a still volume does not look across the
        border of two runs.
    """
    _check(signal, mask)
    frame = frame_of(signal.shape, affine)
    wide = ndimage.binary_dilation(mask, iterations=REACH)
    points = spread_points(wide, POINTS, frame)
    start = stillest(signal, mask, runs)
    fits, target = _on_one(signal, frame, points, spread_points(wide, COARSE_POINTS, frame), start)
    for _ in range(PASSES):
        fits, target = _on_mean(signal, frame, fits, target)
    if all(fit.lost for fit in fits):
        raise BadInputError(
            "shows no head whose motion could be followed: no volume resembles the others; "
            "look at the series, or switch motion correction off"
        )
    misfit = np.array([fit.misfit for fit in fits]) / float(np.abs(target.values).mean())
    world = frame.to_world @ np.stack([fit.pose for fit in fits]) @ np.linalg.inv(frame.to_world)
    reference = nearest_to_all(world, _corners(mask, affine), misfit)
    return Realignment(
        _relative(world, reference),
        reference,
        misfit,
        np.array([fit.gain for fit in fits]),
        np.array([fit.lost for fit in fits]),
        np.array([fit.settled for fit in fits]),
    )


def _check(signal: NDArray, mask: NDArray) -> None:
    """Refuse what cannot be realigned."""
    if signal.ndim != 4:
        raise BadInputError(f"has {signal.ndim} dimensions; motion is found in a 4-D series")
    if min(signal.shape[:3]) < SMALLEST:
        raise BadInputError(
            f"has {min(signal.shape[:3])} voxels along one axis; the motion of a head cannot be "
            f"told with fewer than {SMALLEST}"
        )
    if mask.shape != signal.shape[:3] or mask.sum() < FEWEST:
        raise BadInputError(
            "has no brain mask on its grid, or one of fewer than "
            f"{FEWEST} voxels; motion is followed inside it"
        )


def stillest(signal: NDArray, mask: NDArray, runs: NDArray | None = None) -> int:
    """The volume, in the middle third, that differs least from its neighbours in its run."""
    count = signal.shape[3]
    if count < 3:
        return 0
    brain = signal[mask][:: max(int(mask.sum()) // 5000, 1)].astype(float)
    change = np.abs(np.diff(brain, axis=1)).mean(axis=0)
    if runs is not None:
        change[np.diff(np.asarray(runs)) != 0] = np.inf
    both = np.full(count, np.inf)
    both[1:-1] = change[:-1] + change[1:]
    middle = slice(count // 3, count - count // 3)
    return int(np.argmin(both[middle])) + count // 3


class _Mean:
    """Weighted mean, slopes and variance of aligned volumes, gathered one by one."""

    def __init__(self, points: NDArray) -> None:
        size = points.shape[1]
        self._points = points
        self._total, self._first, self._second = np.zeros((3, size))
        self._slopes = np.zeros((3, size))

    def add(self, smooth: NDArray, frame: Frame, fit: Fit) -> None:
        """Take in one volume; the worse it fits, the less it counts."""
        if fit.lost:
            return
        values, slopes = sampled(smooth, self._points, frame, fit)
        weights = fit.weights / fit.misfit**2
        self._total += weights
        self._first += weights * values
        self._second += weights * values**2
        self._slopes += weights * slopes

    def target(self) -> Target:
        """The mean; points that change much over time weigh less, those seldom seen nothing."""
        total = np.maximum(self._total, np.finfo(float).tiny)
        values = self._first / total
        variance = np.maximum(self._second / total - values**2, 0)
        seen = self._total > 0.5 * np.median(self._total)
        typical = np.median(variance[seen]) if seen.any() else 0.0
        weights = seen * (typical + 1e-12) / (variance + typical + 1e-12)
        return Target(self._points, values, self._slopes / total, weights)


def _single(volume: NDArray, points: NDArray, fwhm: float, frame: Frame) -> Target:
    """One volume as the target."""
    values, slopes = sampled(smoothed(volume, fwhm, frame), points, frame, AT_REST)
    return Target(points, values, slopes, np.ones(points.shape[1]))


def _on_one(
    signal: NDArray, frame: Frame, points: NDArray, few: NDArray, start: int
) -> tuple[list[Fit], Target]:
    """Lay every volume on one, each beginning where its neighbour lay."""
    coarse = _single(signal[..., start], few, COARSE, frame)
    fine = _single(signal[..., start], points, FINE, frame)
    mean = _Mean(points)
    count = signal.shape[3]
    fits = {start: AT_REST}
    for n in (*range(start + 1, count), *range(start - 1, -1, -1)):
        before = fits[n - 1 if n > start else n + 1]
        near = fit_volume(
            smoothed(signal[..., n], COARSE, frame), coarse, frame, before, COARSE_DONE
        )
        smooth = smoothed(signal[..., n], FINE, frame)
        fits[n] = fit_volume(smooth, fine, frame, before if near.lost else near, DONE)
        mean.add(smooth, frame, fits[n])
    known = [fit.misfit for fit in fits.values() if not fit.lost]
    # one volume's difference from itself says nothing of its noise
    fits[start] = replace(
        AT_REST,
        misfit=float(np.median(known)) if known else 1.0,
        weights=np.ones(points.shape[1]),
        settled=True,
    )
    mean.add(smoothed(signal[..., start], FINE, frame), frame, fits[start])
    return [fits[n] for n in range(count)], mean.target()


def _on_mean(
    signal: NDArray, frame: Frame, fits: list[Fit], target: Target
) -> tuple[list[Fit], Target]:
    """Lay every volume on the mean of all, and make the mean anew."""
    mean = _Mean(target.points)
    known = [fit.misfit for fit in fits if not fit.lost]
    good = POOR * float(np.median(known)) if known else 0.0
    found: list[Fit] = []
    for n, before in enumerate(fits):
        smooth = smoothed(signal[..., n], FINE, frame)
        tried = [fit_volume(smooth, target, frame, before, DONE)]
        if not tried[0].misfit <= good:  # lost slices may have led it astray: ask the neighbours
            near = [fit for fit in (*found[-1:], *fits[n + 1 : n + 2]) if not fit.lost]
            tried += [fit_volume(smooth, target, frame, fit, DONE) for fit in near]
        found.append(min(tried, key=lambda fit: np.inf if fit.lost else fit.misfit))
        mean.add(smooth, frame, found[-1])
    return found, mean.target()


def _corners(mask: NDArray, affine: NDArray) -> NDArray:
    """Corners (3, 8) of the box around the brain, world mm."""
    inside = np.argwhere(mask)
    ends = np.stack([inside.min(axis=0), inside.max(axis=0)])
    return apply_affine(affine, np.array(np.meshgrid(*ends.T)).reshape(3, 8).astype(float))


def nearest_to_all(world: NDArray, corners: NDArray, misfit: NDArray) -> int:
    """The well-fitting volume whose head lies nearest to those of all others.

    Parameters
    ----------
    world : (n, 4, 4) array
        Poses, mm.
    corners : (3, m) array
        Points of the head whose distances count, mm.
    misfit : (n,) array
        Of each volume; NaN for lost ones.
    """
    places = np.stack([apply_affine(pose, corners).ravel() for pose in world])
    distance = cdist(places, places).mean(axis=1)
    distance[~(misfit <= POOR * np.nanmedian(misfit))] = np.inf
    return int(np.argmin(distance))


def _relative(world: NDArray, reference: int) -> NDArray:
    """Poses (n, 4, 4) with exactly the identity at the reference."""
    poses = world @ np.linalg.inv(world[reference])
    poses[reference] = np.eye(4)
    return poses
