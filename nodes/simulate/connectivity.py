"""Time courses of a run and the connectivity that follows, which is the truth of the measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.simulate.bold import N_BACKGROUND, Brain
from alsflow.nodes.simulate.echo_planar import Grid, to_voxels
from alsflow.nodes.simulate.labels import FineLabels, tissue_table
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

Course = Callable[[NDArray], NDArray]  # times, s, to values
DROPPED = 4  # volumes before the ones that the truth is taken from
BREATHING, HEARTBEAT = (0.28, 0.03), (1.10, 0.10)  # Hz: mean, standard deviation over people
WOBBLE = 0.02  # Hz, within a run
SEED = "precentral"
MOTOR = "fc_motor_interhemispheric"


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


# ---------------------------------------------------------------------------- time courses


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


# ---------------------------------------------------------------------------- regions


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


def network_shares(labels: FineLabels, grid: Grid, cortex: Cortex) -> tuple[NDArray, NDArray]:
    """Share of each voxel that is grey matter, and that is grey matter of each network and side.

    Shapes (x, y, z) and (x, y, z, n, 2).
    """
    grey = tissue_table()[:, 0].astype(bool)[labels.classes]
    names = list(NETWORKS)
    owner = np.full(N_LABELS, -1, np.int8)
    for label, (network, side) in cortex.owners.items():
        owner[label] = 2 * names.index(network) + SIDES.index(side)
    member = np.where(grey, owner[labels.atlas], -1)

    def shares(where: NDArray) -> NDArray:
        a, b, c = grid.fine_shape
        points = where.reshape(a, 2, b, 2, c, 2).mean((1, 3, 5), dtype=np.float32)
        return to_voxels(points, grid)

    each = np.stack([shares(member == place) for place in range(2 * len(names))], axis=-1)
    return shares(grey), each.reshape(*grid.shape, len(names), 2)
