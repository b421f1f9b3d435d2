"""A person as a T2*-weighted image sees it: contrast, and what of it can fluctuate where.

Grey matter of each atlas label, a smooth background, and the strength of physiological noise are
placed on points finer than the voxels; what they do in time stands in `connectivity`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.geometry import voxel_sizes
from alsflow.nodes.simulate.echo_planar import FINER, OVERHANG, PE_AXIS, Grid
from alsflow.nodes.simulate.fields import smooth_noise
from alsflow.nodes.simulate.labels import CLASSES, FineLabels, tissue_table, voxel_means

ECHO_TIME = 0.030  # s, of the series
SPIN_ECHO_TIME = 0.060  # s, of the pair with both polarities
SPIN_REPETITION = 8.0  # s, of the same
SETTLED = 1e-4  # of the signal; nearer to the steady state no decay is kept
FLUCTUATION = 0.010  # standard deviation of the networks' signal, share of grey matter's
BACKGROUND = 0.005  # the same of what is smooth in space and belongs to no network
N_BACKGROUND, BACKGROUND_SCALE = 8, 12.0  # maps, and their smoothing, mm
PHYSIOLOGY_SCALE = 20.0  # mm, over which the phase of breathing and heartbeat changes
# Signal density, T1, T2 and T2* (s) at 3 T, fat suppressed.
RELAXATION: dict[str, tuple[float, float, float, float]] = {
    "air": (0.0, 1.0, 1.0, 1.0),
    "skin": (0.25, 1.0, 0.045, 0.025),
    "fat": (0.05, 0.4, 0.070, 0.030),
    "bone": (0.03, 0.5, 0.020, 0.005),
    "marrow": (0.05, 0.4, 0.060, 0.015),
    "muscle": (0.75, 1.4, 0.036, 0.025),
    "eye": (0.95, 4.0, 0.600, 0.200),
    "csf": (0.97, 4.2, 1.500, 0.350),
    "ventricle": (0.97, 4.2, 1.500, 0.500),
    "cortex": (0.84, 1.40, 0.095, 0.050),
    "striatum": (0.82, 1.25, 0.080, 0.042),
    "thalamus": (0.80, 1.15, 0.080, 0.046),
    "pallidum": (0.76, 1.00, 0.055, 0.026),
    "white": (0.70, 0.85, 0.072, 0.047),
    "brainstem": (0.70, 0.90, 0.074, 0.045),
    "cord": (0.70, 0.90, 0.074, 0.045),
    "spinal_csf": (0.97, 4.2, 1.500, 0.300),
}
# Standard deviation of physiological noise by tissue, share of its signal: grey, white, CSF.
GLOBAL_NOISE = (0.004, 0.002, 0.003)
BREATH_NOISE = (0.003, 0.003, 0.006)
HEART_NOISE = (0.002, 0.001, 0.012)


@dataclass(frozen=True)
class Brain:
    """A person on the points of a grid; n points lie inside the skull, sorted by plane.

    Attributes
    ----------
    grid : Grid
        The grid.
    resting : (v + 1, a, b, c) float32 array
        Signal of all points in the first volumes and, last, in the steady state.
    at : (n, 3) int32 array
        Places of the points.
    planes : (c + 1,) int array
        First point of each plane.
    first : (n + 1,) int array
        First part of each point in `label` and `part`.
    label, part : (p,) arrays
        Atlas label of some grey matter and the size of its fluctuation.
    maps : (n, d) float32 array
        Size of the background's and of the physiological fluctuations.
    """

    grid: Grid
    resting: NDArray
    at: NDArray
    planes: NDArray
    first: NDArray
    label: NDArray
    part: NDArray
    maps: NDArray


# ---------------------------------------------------------------------------- contrast


def flip_angle(repetition: float) -> float:
    """Ernst angle of cortex, whole degrees."""
    return float(round(np.degrees(np.arccos(np.exp(-repetition / RELAXATION["cortex"][1])))))


def _relaxation() -> NDArray:
    return np.array([RELAXATION[name] for name in CLASSES])


def gradient_echo(repetition: float, volume: float = np.inf) -> NDArray:
    """Signal of each class (17,) in a volume, white matter in the steady state being 1."""
    density, t1, _, t2_star = _relaxation().T
    angle = np.radians(flip_angle(repetition))
    recovery = np.exp(-repetition / t1)
    steady = (1 - recovery) / (1 - np.cos(angle) * recovery)
    left = np.zeros(len(t1)) if np.isinf(volume) else (np.cos(angle) * recovery) ** volume
    weight = density * np.exp(-ECHO_TIME / t2_star)
    white = CLASSES.index("white")
    return weight * (steady + (1 - steady) * left) / (weight * steady)[white]


def unsettled_volumes(repetition: float) -> int:
    """Volumes in which some class is further than `SETTLED` from its steady state."""
    steady, volume = gradient_echo(repetition)[1:], 0
    while (gradient_echo(repetition, volume)[1:] / steady).max() > 1 + SETTLED:
        volume += 1
    return volume


def spin_echo() -> NDArray:
    """Signal of each class (17,) in a spin echo, white matter being 1."""
    density, t1, t2, _ = _relaxation().T
    signal = density * (1 - np.exp(-SPIN_REPETITION / t1)) * np.exp(-SPIN_ECHO_TIME / t2)
    return signal / signal[CLASSES.index("white")]


def dropout(shift: NDArray, grid: Grid, readout: float) -> NDArray:
    """Share of the signal that is left where the field changes within a voxel, (x, y, z).

    Parameters
    ----------
    shift : (x, y, z) array
        Displacement along the phase-encoding axis, mm.
    grid : Grid
        Its voxels.
    readout : float
        Total readout time, s; one voxel of displacement is 1 / `readout` Hz.
    """
    edges = voxel_sizes(grid.affine)
    field = shift / edges[PE_AXIS] / readout  # Hz
    left = np.ones(shift.shape)
    for axis in range(3):
        left *= np.abs(np.sinc(ECHO_TIME * np.gradient(field, axis=axis)))
    return left.astype(np.float32)


# ---------------------------------------------------------------------------- tissue


@numba.njit
def _parts(
    classes: NDArray,
    atlas: NDArray,
    signal: NDArray,
    at: NDArray,
    first: NDArray,
    label: NDArray,
    part: NDArray,
) -> int:
    """Fill `first`, `label` and `part` as of `grey_parts`; gives the number of parts."""
    used = 0
    for n in range(at.shape[0]):
        first[n] = used
        for cell in range(8):
            x = 2 * at[n, 0] + (cell & 1)
            y = 2 * at[n, 1] + ((cell >> 1) & 1)
            z = 2 * at[n, 2] + (cell >> 2)
            amount = signal[classes[x, y, z]] / 8
            if amount == 0:
                continue
            place = first[n]
            while place < used and label[place] != atlas[x, y, z]:
                place += 1
            if place == used:
                label[used] = atlas[x, y, z]
                part[used] = 0
                used += 1
            part[place] += amount
    first[at.shape[0]] = used
    return used


def grey_parts(labels: FineLabels, at: NDArray, signal: NDArray) -> tuple[NDArray, ...]:
    """Grey matter of points by atlas label.

    Parameters
    ----------
    labels : FineLabels
        The person, two sub-voxels along each edge of a point.
    at : (n, 3) int array
        Places of the points.
    signal : (17,) array
        What a sub-voxel of each class counts; 0 where it is no grey matter.

    Returns
    -------
    first : (n + 1,) int array
        First part of each point.
    label, part : (p,) arrays
        Atlas label and sum.
    """
    first = np.empty(len(at) + 1, np.int64)
    label, part = np.empty(8 * len(at), np.uint8), np.empty(8 * len(at), np.float32)
    used = _parts(labels.classes, labels.atlas, np.asarray(signal, float), at, first, label, part)
    return first, label[:used].copy(), part[:used].copy()


def _points_inside(inside: NDArray) -> tuple[NDArray, NDArray]:
    """Places (n, 3) of points of a bool array, sorted by plane, and the first of each plane."""
    order = np.argwhere(np.moveaxis(inside, 2, 0)).astype(np.int32)
    at = np.ascontiguousarray(order[:, [1, 2, 0]])
    return at, np.searchsorted(at[:, 2], np.arange(inside.shape[2] + 1))


def _voxel_places(points: NDArray) -> NDArray:
    """Where points (3, ...) of the head, by index, lie on the voxels."""
    raised = np.array([0, 0, OVERHANG]).reshape(3, *[1] * (points.ndim - 1))
    return (points + 0.5) / FINER - 0.5 - raised


def _smooth_values(
    rng: np.random.Generator, grid: Grid, at: NDArray, scale: float, count: int
) -> NDArray:
    """Smooth random maps (n, count) at points, drawn on the voxels."""
    places = _voxel_places(at.T)
    values = np.empty((len(at), count), np.float32)
    for column in range(count):
        noise = smooth_noise(rng, grid.shape, scale / voxel_sizes(grid.affine))
        values[:, column] = ndimage.map_coordinates(noise, places, order=1, mode="nearest")
    return values


def _maps(
    tissues: NDArray, at: NDArray, grid: Grid, physiology: float, rng: np.random.Generator
) -> NDArray:
    """Columns of `Brain.maps`: background, global wave, breathing twice, heartbeat twice.

    `tissues` (n, 3) is the signal of grey matter, white matter and CSF in each point.
    """
    background = _smooth_values(rng, grid, at, BACKGROUND_SCALE, N_BACKGROUND)
    background *= BACKGROUND / np.sqrt(N_BACKGROUND) * tissues[:, :1]
    columns = [background, physiology * tissues @ np.array(GLOBAL_NOISE)[:, None]]
    for share in (BREATH_NOISE, HEART_NOISE):
        strength = np.sqrt(2) * physiology * tissues @ np.array(share)
        angle = _smooth_values(rng, grid, at, PHYSIOLOGY_SCALE, 1)[:, 0]
        columns += [(strength * f(angle))[:, None] for f in (np.cos, np.sin)]
    return np.ascontiguousarray(np.concatenate(columns, axis=1), np.float32)


def place_brain(
    labels: FineLabels, grid: Grid, repetition: float, physiology: float, rng: np.random.Generator
) -> Brain:
    """Put a person on the points of a grid.

    Parameters
    ----------
    labels : FineLabels
        The person, two sub-voxels along each edge of a point.
    grid : Grid
        The grid.
    repetition : float
        s.
    physiology : float
        Factor on physiological noise.
    rng : Generator
        Source of the maps of background and physiology.
    """
    steady = gradient_echo(repetition)
    membership = tissue_table()
    early = [gradient_echo(repetition, v) for v in range(unsettled_volumes(repetition))]
    table = np.column_stack([*early, steady, steady[:, None] * membership, membership.sum(1)])
    values = voxel_means(labels, table)
    count = len(early) + 1
    resting = np.ascontiguousarray(np.moveaxis(values[..., :count], -1, 0))
    at, planes = _points_inside(values[..., -1] > 0)
    first, label, part = grey_parts(labels, at, FLUCTUATION * steady * membership[:, 0])
    i, j, k = at.T
    maps = _maps(values[i, j, k, count : count + 3], at, grid, physiology, rng)
    return Brain(grid, resting, at, planes, first, label, part, maps)


def lose_signal(brain: Brain, left: NDArray) -> Brain:
    """Take signal from a person where the field takes it; `left` (x, y, z) as of `dropout`."""
    places = _voxel_places(np.indices(brain.grid.fine_shape, np.float32))
    kept = ndimage.map_coordinates(left, places, order=1, mode="nearest")
    i, j, k = brain.at.T
    here = kept[i, j, k]
    return replace(
        brain,
        resting=brain.resting * kept,
        part=brain.part * np.repeat(here, np.diff(brain.first)),
        maps=brain.maps * here[:, None],
    )
