"""Resting-state series of a simulated person, with the truth behind it.

Grey matter fluctuates with the networks of `networks`; breathing, heartbeat and a global wave run
through tissue and fluid on top. Every slice is excited at its own time and sees the head as it is
then. What an echo-planar readout does to the head stands in `echo_planar`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.distortion.phase_encoding import PhaseEncoding
from alsflow.nodes.geometry import apply_affine, grid_points, voxel_sizes
from alsflow.nodes.simulate.anatomy import Anatomy
from alsflow.nodes.simulate.echo_planar import (
    FINER,
    OVERHANG,
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
from alsflow.nodes.simulate.fields import smooth_noise
from alsflow.nodes.simulate.labels import (
    CLASSES,
    FineLabels,
    cut_labels,
    tissue_table,
    voxel_means,
)
from alsflow.nodes.simulate.networks import (
    MODULES,
    N_LABELS,
    NETWORKS,
    SIDES,
    Loadings,
    label_covariance,
    limit_band,
    mix_labels,
    module_mixture,
    motor_correlation,
    population_correlation,
    quasi_periodic,
    region_labels,
    sample_z,
    slow_series,
)
from alsflow.nodes.simulate.scanner import receive_field, rician

Course = Callable[[NDArray], NDArray]  # times, s, to values

ECHO_TIME = 0.030  # s, of the series
SPIN_ECHO_TIME = 0.060  # s, of the pair with both polarities
SPIN_REPETITION = 8.0  # s, of the same
DROPPED = 4  # volumes before the ones that the truth is taken from
SETTLED = 1e-4  # of the signal; nearer to the steady state no decay is kept
FLUCTUATION = 0.010  # standard deviation of the networks' signal, share of grey matter's
BACKGROUND = 0.005  # the same of what is smooth in space and belongs to no network
N_BACKGROUND, BACKGROUND_SCALE = 8, 12.0  # maps, and their smoothing, mm
PHYSIOLOGY_SCALE = 20.0  # mm, over which the phase of breathing and heartbeat changes
BREATHING, HEARTBEAT = (0.28, 0.03), (1.10, 0.10)  # Hz: mean, standard deviation over people
WOBBLE = 0.02  # Hz, within a run
HISTORY = 0.35  # signal of a slice that moved by its own thickness, relative, less 1
SEED = "precentral"
MOTOR = "fc_motor_interhemispheric"

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

    tsnr: float = 80.0
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
class Cortex:
    """What the atlas says about everybody.

    Attributes
    ----------
    owners : mapping
        Atlas label to network and side; see `networks.network_labels`.
    regions : mapping
        Region to side to atlas labels, of the measures.
    """

    owners: Mapping[int, tuple[str, str]]
    regions: Mapping[str, Mapping[str, Sequence[int]]]


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
class Connectivity:
    """Who goes with whom in one run.

    Attributes
    ----------
    motor : float
        Correlation of the two motor networks in an endless run.
    networks : (n, m) array
        Series of `networks.MODULES` at the start of each volume, standard deviation 1.
    regions : dict
        Region and side to the mean series (n,) of its grey matter, share of its signal.
    measures : dict
        Measure to value and unit in this run; see `realised_z`.
    population : dict
        Measure to value in an endless run.
    """

    motor: float
    networks: NDArray
    regions: dict[tuple[str, str], NDArray]
    measures: dict[str, tuple[float, str]]
    population: dict[str, float]


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


# ---------------------------------------------------------------------------- timing, contrast


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


# ---------------------------------------------------------------------------- time courses


@dataclass(frozen=True)
class Drives:
    """Independent series behind everything that fluctuates; each takes times, s.

    Attributes
    ----------
    modules, own, background, wave : callable
        Values (..., k) of the networks, of what each label has alone, of the background, of the
        global wave.
    breathing, heartbeat : callable
        Phase, cycles.
    """

    modules: Course
    own: Course
    background: Course
    wave: Course
    breathing: Course
    heartbeat: Course


def draw_drives(n_labels: int, duration: float, rng: np.random.Generator) -> Drives:
    """Draw the series of one run of `duration` s."""
    rngs = rng.spawn(6)
    rates = [
        float(mean + spread * np.clip(one.standard_normal(), -2, 2))
        for (mean, spread), one in zip((BREATHING, HEARTBEAT), rngs[4:], strict=True)
    ]
    return Drives(
        modules=slow_series(len(MODULES), duration, rngs[0]),
        own=slow_series(n_labels, duration, rngs[1]),
        background=slow_series(N_BACKGROUND, duration, rngs[2]),
        wave=slow_series(1, duration, rngs[3]),
        breathing=quasi_periodic(rates[0], WOBBLE, duration, rngs[4]),
        heartbeat=quasi_periodic(rates[1], WOBBLE, duration, rngs[5]),
    )


def map_courses(drives: Drives, time: NDArray) -> NDArray:
    """Series (..., d) of `Brain.maps` at times, s."""
    columns = [drives.background(time), drives.wave(time)]
    for phase in (drives.breathing, drives.heartbeat):
        angle = 2 * np.pi * phase(time)[..., None]
        columns += [np.cos(angle), np.sin(angle)]
    return np.concatenate(columns, axis=-1).astype(np.float32)


# ---------------------------------------------------------------------------- truth


def region_loadings(brain: Brain, labels: Sequence[int]) -> Loadings:
    """What the mean series of some atlas labels' grey matter is made of."""
    point = np.repeat(np.arange(len(brain.at)), np.diff(brain.first))
    mine = np.isin(brain.label, labels)
    weights = np.bincount(brain.label[mine], brain.part[mine], minlength=N_LABELS)
    total = np.bincount(point, brain.part, minlength=len(brain.at))
    share = np.bincount(point[mine], brain.part[mine], minlength=len(brain.at))
    share = np.divide(share, total, out=np.zeros(len(total)), where=total > 0)
    return Loadings(weights, share @ brain.maps[:, :N_BACKGROUND])


def connected_regions(brain: Brain, cortex: Cortex) -> dict[tuple[str, str], Loadings]:
    """Loadings of every measured region: left, right, both."""
    return {
        (region, side): region_loadings(brain, region_labels(cortex.regions[region], side))
        for region in cortex.regions
        for side in (*SIDES, "both")
    }


def measure_pairs(cortex: Cortex) -> dict[str, tuple[tuple[str, str], tuple[str, str]]]:
    """Regions whose connectivity each measure is."""
    pairs = {MOTOR: ((SEED, "left"), (SEED, "right"))}
    for region in cortex.regions:
        if region != SEED:
            pairs[f"fc_{SEED}_{region}_both"] = ((SEED, "both"), (region, "both"))
    return pairs


def population_z(
    loadings: Mapping[tuple[str, str], Loadings], cortex: Cortex, motor: float
) -> dict[str, float]:
    """Fisher z of each measure in an endless run, the motor networks correlating by `motor`."""
    covariance = label_covariance(cortex.owners, motor)
    return {
        name: float(
            np.arctanh(population_correlation(loadings[first], loadings[second], covariance))
        )
        for name, (first, second) in measure_pairs(cortex).items()
    }


def region_courses(
    loadings: Mapping[tuple[str, str], Loadings], labels: NDArray, background: NDArray
) -> dict[tuple[str, str], NDArray]:
    """Mean series (n,) of each region from those of labels (n, 256) and background (n, b)."""
    return {
        key: (labels @ one.labels + background @ one.background) / max(one.labels.sum(), 1e-12)
        for key, one in loadings.items()
    }


def realised_z(
    courses: Mapping[tuple[str, str], NDArray], cortex: Cortex, repetition: float
) -> dict[str, tuple[float, str]]:
    """Fisher z of each measure in one run.

    It is the correlation of the series without noise, at the starts of the volumes after the
    dropped ones and in the band of the measures. A run of seven minutes holds some forty
    independent values of such slow series, so it scatters by about .16 around the value of an
    endless run. That scatter is a property of the person in that run, which the best pipeline
    cannot and should not take out: what a pipeline adds is the difference from this value, and a
    model of groups is judged fairly when it is fitted to these values too. The value of an
    endless run, which says what was put in, stands beside it (`population_z`).
    """
    found = {}
    for name, pair in measure_pairs(cortex).items():
        one, other = (limit_band(courses[key][DROPPED:], repetition) for key in pair)
        found[name] = (sample_z(one, other), "1")
    return found


def draw_connectivity(
    z: float,
    loadings: Mapping[tuple[str, str], Loadings],
    drives: Drives,
    cortex: Cortex,
    timing: tuple[int, float],
) -> Connectivity:
    """Give the connectivity of a run whose precentral gyri have a Fisher z in an endless one.

    Parameters
    ----------
    z : float
        That value.
    loadings : mapping
        As of `connected_regions`.
    drives : Drives
        Series of the run; the same ones for the same person without disease.
    cortex : Cortex
        Networks and measured regions.
    timing : (int, float)
        Volumes, and repetition time, s.
    """
    n, repetition = timing
    start = repetition * np.arange(n)
    motor = motor_correlation(z, loadings[SEED, "left"], loadings[SEED, "right"], cortex.owners)
    modules = drives.modules(start)
    labels = mix_labels(modules, drives.own(start), cortex.owners, motor)
    regions = region_courses(loadings, labels, drives.background(start))
    return Connectivity(
        motor=motor,
        networks=modules @ module_mixture(motor).T,
        regions=regions,
        measures=realised_z(regions, cortex, repetition),
        population=population_z(loadings, cortex, motor),
    )


def slice_courses(
    drives: Drives, cortex: Cortex, motor: float, times: NDArray, timing: tuple[int, float]
) -> Courses:
    """Time courses as the slices, excited at `times` (s,) of each volume, see them."""
    n, repetition = timing
    time = repetition * np.arange(n)[:, None] + times
    labels = mix_labels(drives.modules(time), drives.own(time), cortex.owners, motor)
    return Courses(labels, map_courses(drives, time))


def network_shares(labels: FineLabels, grid: Grid, cortex: Cortex) -> tuple[NDArray, NDArray]:
    """Share of each voxel that is grey matter, and that is grey matter of each network and side.

    Shapes (x, y, z) and (x, y, z, n, 2).
    """
    grey = tissue_table()[:, 0].astype(bool)[labels.classes]
    names = list(NETWORKS)
    owner = np.full(N_LABELS, -1)
    for label, (network, side) in cortex.owners.items():
        owner[label] = 2 * names.index(network) + SIDES.index(side)
    member = np.where(grey, owner[labels.atlas], -1)

    def shares(where: NDArray) -> NDArray:
        a, b, c = grid.fine_shape
        points = where.reshape(a, 2, b, 2, c, 2).mean((1, 3, 5), dtype=np.float32)
        return to_voxels(points, grid)

    each = np.stack([shares(member == place) for place in range(2 * len(names))], axis=-1)
    return shares(grey), each.reshape(*grid.shape, len(names), 2)


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
