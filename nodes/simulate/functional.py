"""Resting-state series of a simulated person, with the truth behind it.

Grey matter fluctuates with the networks of `networks`; breathing, heartbeat and a global wave run
through tissue and fluid on top. Every slice is excited at its own time and sees the head as it is
then. What an echo-planar readout does to the head stands in `echo_planar`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.distortion.phase_encoding import PhaseEncoding
from alsflow.nodes.geometry import apply_affine, grid_points, voxel_sizes
from alsflow.nodes.simulate.anatomy import Anatomy
from alsflow.nodes.simulate.bold import (
    Brain,
    dropout,
    gradient_echo,
    lose_signal,
    place_brain,
    spin_echo,
)
from alsflow.nodes.simulate.connectivity import (
    Connectivity,
    Cortex,
    Drives,
    connected_regions,
    draw_connectivity,
    draw_drives,
    map_courses,
    network_shares,
)
from alsflow.nodes.simulate.echo_planar import (
    FINER,
    PE_AXIS,
    Grid,
    Motion,
    Readout,
    draw_motion,
    drift_curve,
    planes_behind,
    read_slices,
    read_volume,
    susceptibility_shift,
    to_voxels,
)
from alsflow.nodes.simulate.labels import (
    CLASSES,
    FineLabels,
    cut_labels,
    tissue_table,
    voxel_means,
)
from alsflow.nodes.simulate.networks import mix_labels
from alsflow.nodes.simulate.scanner import receive_field, rician

HISTORY = 0.35  # signal of a slice that moved by its own thickness, relative, less 1


@dataclass(frozen=True)
class FunctionalScanner:
    """How one scanner takes a resting-state series; 0 switches a flaw off.

    Attributes
    ----------
    tsnr : float
        Mean over standard deviation in grey matter with noise of the scanner alone; inf for none.
    ringing, drift, motion, distortion, non_uniformity : float
        As in `echo_planar.Imperfections`.
    physiology : float
        Factor on breathing, heartbeat and the global wave.
    history : float
        Factor on the change of signal that motion through the slices causes.
    readout : float
        Total readout time, s.
    multiband : int
        Slices excited at the same time.
    polarity : int
        -1 for phase encoding from the front to the back, 1 the other way.
    gain : float
        Signal of white matter in the steady state.
    storage : str
        Order of the voxels on disk, such as LAS.
    """

    tsnr: float = 100.0
    ringing: float = 1.0
    drift: float = 1.5
    motion: float = 0.4
    distortion: float = 6.0
    non_uniformity: float = 0.2
    physiology: float = 1.0
    history: float = 1.0
    readout: float = 0.030
    multiband: int = 1
    polarity: int = -1
    gain: float = 600.0
    storage: str = "RAS"


PERFECT = FunctionalScanner(
    tsnr=np.inf, ringing=0, drift=0, motion=0, distortion=0, non_uniformity=0,
    physiology=0, history=0,
)  # fmt: skip


@dataclass(frozen=True)
class FunctionalSubject:
    """A person as the series needs them.

    Attributes
    ----------
    anatomy : Anatomy
        The person.
    motor_z, unaffected_z : float
        Fisher z of the precentral gyri in an endless run, and the same without disease.
    """

    anatomy: Anatomy
    motor_z: float
    unaffected_z: float


@dataclass(frozen=True)
class Courses:
    """Time courses behind a series.

    Attributes
    ----------
    labels : (n, s, 256) float32 array
        Of the atlas labels in each volume and slice; standard deviation 1 in an endless run.
    maps : (n, s, d) float32 array
        Of `Brain.maps`.
    """

    labels: NDArray
    maps: NDArray


@dataclass(frozen=True)
class FunctionalTruth:
    """What a perfect scanner would have found.

    Attributes
    ----------
    brain : (x, y, z) bool array
        Voxels of which at least half lies inside the skull.
    grey : (x, y, z) float32 array
        Share of each voxel that is grey matter.
    networks : (x, y, z, n, 2) float32 array
        Share of the voxel that is grey matter of each of `NETWORKS`, left and right.
    shift : (x, y, z) float32 array
        Displacement by the head's field, mm along the phase-encoding axis, in the series.
    motion : Motion
        Of each volume of the series and, last, of the two spin echoes.
    drift : (n,) array
        Signal relative to the first volume.
    slice_times : (s,) array
        Excitation of each slice after the start of its volume, s.
    connectivity, unaffected : Connectivity
        Of the person, and of the same person without the disease.
    """

    brain: NDArray
    grey: NDArray
    networks: NDArray
    shift: NDArray
    motion: Motion
    drift: NDArray
    slice_times: NDArray
    connectivity: Connectivity
    unaffected: Connectivity


@dataclass(frozen=True)
class FunctionalScan:
    """A simulated series and its truth.

    Attributes
    ----------
    series : (x, y, z, n) float32 array
        Magnitude, in the order of acquisition.
    echoes : (x, y, z, 2) float32 array
        Spin echoes, without loss of signal, with the polarity of the series and with the other.
    affine : (4, 4) array
        Voxel to mm.
    encoding : PhaseEncoding
        Of the series.
    repetition : float
        s.
    truth : FunctionalTruth
        What is behind it.
    """

    series: NDArray
    echoes: NDArray
    affine: NDArray
    encoding: PhaseEncoding
    repetition: float
    truth: FunctionalTruth


# ---------------------------------------------------------------------------- timing


def slice_times(n: int, repetition: float, multiband: int = 1) -> NDArray:
    """Excitation of each of `n` slices, s after the start of the volume, (n,).

    Slices `ceil(n / multiband)` apart are excited together, every other of these groups first,
    from below: interleaved ascending.
    """
    groups = -(-n // multiband)
    order = np.concatenate([np.arange(0, groups, 2), np.arange(1, groups, 2)])
    start = np.empty(groups)
    start[order] = np.arange(groups) * repetition / groups
    return np.round(start[np.arange(n) % groups], 4)


def slice_courses(
    drives: Drives, cortex: Cortex, motor: float, times: NDArray, timing: tuple[int, float]
) -> Courses:
    """Time courses as the slices, excited at `times` (s,) of each volume, see them."""
    n, repetition = timing
    time = repetition * np.arange(n)[:, None] + times
    labels = mix_labels(drives.modules(time), drives.own(time), cortex.owners, motor)
    return Courses(labels, map_courses(drives, time))


# ---------------------------------------------------------------------------- series


@numba.njit(fastmath=True)
def _fluctuate(
    slab: NDArray,
    lowest: int,
    at: NDArray,
    start: int,
    end: int,
    first: NDArray,
    label: NDArray,
    part: NDArray,
    maps: NDArray,
    labels: NDArray,
    courses: NDArray,
) -> None:
    """Add to planes of the head from `lowest` on what fluctuates in them."""
    for n in range(start, end):
        total = np.float32(0)
        for e in range(first[n], first[n + 1]):
            total += part[e] * labels[label[e]]
        for d in range(maps.shape[1]):
            total += maps[n, d] * courses[d]
        slab[at[n, 0], at[n, 1], at[n, 2] - lowest] += total


def head_planes(
    brain: Brain, courses: Courses, volume: int, level: int, planes: tuple[int, int]
) -> NDArray:
    """Signal of some planes of the head's points when a slice of a volume is excited."""
    low, high = planes
    slab = brain.resting[min(volume, len(brain.resting) - 1), :, :, low:high].copy()
    _fluctuate(
        slab, low, brain.at, brain.planes[low], brain.planes[high], brain.first, brain.label,
        brain.part, brain.maps, courses.labels[volume, level], courses.maps[volume, level],
    )  # fmt: skip
    return slab


def history_factor(grid: Grid, before: NDArray, now: NDArray) -> NDArray:
    """Signal of each voxel relative to rest when the head moved through the slices, (x, y, z).

    Tissue that comes into a slice had more time to recover; the more of the slice is new, the
    brighter it is.
    """
    points = grid_points(grid.shape, grid.affine)
    edges = voxel_sizes(grid.affine)
    normal = np.cross(grid.affine[:3, 0], grid.affine[:3, 1])
    normal /= np.linalg.norm(normal)
    step = apply_affine(now @ np.linalg.inv(before), points) - points
    moved = np.abs(np.tensordot(normal, step, 1)) / edges[2]
    return (1 + HISTORY * np.minimum(moved, 1)).astype(np.float32)


def acquire(
    brain: Brain,
    courses: Courses,
    readout: Readout,
    scanner: FunctionalScanner,
    truth: FunctionalTruth,
) -> NDArray:
    """Series (x, y, z, n) without noise, every slice at its own time."""
    grid, still = brain.grid, np.zeros(4)
    poses, drift = truth.motion.head_to_volume, truth.drift
    series = np.empty((*grid.shape, len(drift)), np.float32)
    image = np.empty(grid.shape, np.float32)
    for volume, pose in enumerate(poses[: len(drift)]):
        for level in range(grid.shape[2]):
            planes = planes_behind(grid, pose, level)
            head = head_planes(brain, courses, volume, level, planes)
            image[:, :, level : level + 1] = read_slices(
                readout, head, pose, 1, still, (level, level + 1), planes[0]
            )
        series[..., volume] = image * drift[volume]
        if scanner.history and volume:
            factor = history_factor(grid, poses[volume - 1], pose)
            series[..., volume] *= 1 + scanner.history * (factor - 1)
    return series


def _echoes(labels: FineLabels, readout: Readout, pose: NDArray) -> NDArray:
    """Spin echoes (x, y, z, 2) without noise, the second with reversed phase encoding."""
    head = voxel_means(labels, spin_echo()[:, None])[..., 0]
    pair = [read_volume(readout, head, pose, sign, np.zeros(4)) for sign in (1, -1)]
    return np.stack(pair, axis=-1)


def _receive(rng: np.random.Generator, brain: NDArray, grid: Grid, span: float) -> NDArray:
    """Receive field on the points of the field of view."""
    bias = receive_field(rng, brain, grid.affine, span)
    for axis in range(3):
        bias = np.repeat(bias, FINER, axis=axis)
    return bias


def _add_noise(images: NDArray, sigma: float, gain: float, rng: np.random.Generator) -> None:
    """Make images (x, y, z, n) magnitudes with noise, in place and volume by volume."""
    for volume in range(images.shape[-1]):
        images[..., volume] = gain * rician(images[..., volume], sigma, rng)


def thermal_noise(scanner: FunctionalScanner, repetition: float) -> float:
    """Standard deviation of the noise in each channel, share of white matter's signal."""
    return float(gradient_echo(repetition)[CLASSES.index("cortex")] / scanner.tsnr)


def scan_functional(
    subject: FunctionalSubject,
    grid: Grid,
    timing: tuple[int, float],
    scanner: FunctionalScanner,
    cortex: Cortex,
    rng: np.random.Generator,
) -> FunctionalScan:
    """Acquire a resting-state series and a pair of spin echoes of a person.

    Parameters
    ----------
    subject : FunctionalSubject
        The person.
    grid : Grid
        Voxels of the series; phase encoding runs along the second axis, slices along the third.
    timing : (int, float)
        Volumes, and repetition time, s.
    scanner : FunctionalScanner
        Everything else about the series.
    cortex : Cortex
        Networks and measured regions.
    rng : Generator
        Source of field, motion, receive field, drift, maps, time courses and noise, each from a
        generator of its own.
    """
    rngs = rng.spawn(7)
    n, repetition = timing
    labels = cut_labels(subject.anatomy, grid.fine_shape, grid.fine_affine, (2, 2, 2))
    inside = to_voxels(voxel_means(labels, tissue_table().sum(1)[:, None])[..., 0], grid) >= 0.5
    shift = susceptibility_shift(subject.anatomy, grid, inside, scanner.distortion, rngs[0])
    shift *= -scanner.polarity  # the field is that of the head whatever the polarity
    brain = place_brain(labels, grid, repetition, scanner.physiology, rngs[1])
    drives = draw_drives(len(cortex.owners), n * repetition, rngs[2])
    loadings = connected_regions(brain, cortex)
    connectivity, unaffected = (
        draw_connectivity(z, loadings, drives, cortex, timing)
        for z in (subject.motor_z, subject.unaffected_z)
    )
    grey, networks = network_shares(labels, grid, cortex)
    truth = FunctionalTruth(
        brain=inside,
        grey=grey,
        networks=networks,
        shift=shift,
        motion=draw_motion(n + 1, scanner.motion, grid.centre, rngs[3]),
        drift=drift_curve(n, scanner.drift, rngs[4]),
        slice_times=slice_times(grid.shape[2], repetition, scanner.multiband),
        connectivity=connectivity,
        unaffected=unaffected,
    )
    bias = _receive(rngs[5], inside, grid, scanner.non_uniformity)
    readout = Readout(grid, shift, bias, scanner.ringing)
    courses = slice_courses(drives, cortex, connectivity.motor, truth.slice_times, timing)
    brain = lose_signal(brain, dropout(shift, grid, scanner.readout))
    series = acquire(brain, courses, readout, scanner, truth)
    echoes = _echoes(labels, readout, truth.motion.head_to_volume[-1])
    noise = thermal_noise(scanner, repetition)
    for images in (series, echoes):
        _add_noise(images, noise, scanner.gain, rngs[6])
    encoding = PhaseEncoding(PE_AXIS, scanner.polarity, scanner.readout)
    return FunctionalScan(series, echoes, grid.affine, encoding, repetition, truth)
