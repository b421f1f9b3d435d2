from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from scipy.interpolate import CubicSpline

from alsflow.nodes.geometry import apply_affine, grid_points, voxel_sizes
from alsflow.nodes.simulate import connectivity, functional
from alsflow.nodes.simulate.anatomy import Traits, grow_anatomy
from alsflow.nodes.simulate.bold import (
    ECHO_TIME,
    FLUCTUATION,
    N_BACKGROUND,
    RELAXATION,
    dropout,
    flip_angle,
    gradient_echo,
    grey_parts,
    unsettled_volumes,
)
from alsflow.nodes.simulate.connectivity import MOTOR, Cortex, Drives
from alsflow.nodes.simulate.echo_planar import Grid, Motion, epi_grid
from alsflow.nodes.simulate.functional import (
    PERFECT,
    FunctionalSubject,
    history_factor,
    scan_functional,
    slice_times,
    thermal_noise,
)
from alsflow.nodes.simulate.labels import CLASSES, cut_labels, tissue_table, voxel_means
from alsflow.nodes.simulate.networks import MODULES, NETWORKS, limit_band

CORTEX = Cortex(
    owners={1: ("motor", "left"), 2: ("motor", "right")},
    regions={"precentral": {"left": (1,), "right": (2,)}},
)
TR = 2.2
FLAWS = {"tsnr": 60.0, "motion": 0.4, "physiology": 1.0, "distortion": 5.0, "drift": 2.0}
FLAWS |= {"history": 1.0}


@pytest.fixture(scope="module")
def anatomy(ball_blueprint):
    return grow_anatomy(ball_blueprint, Traits(), np.random.default_rng(1))


@pytest.fixture(scope="module")
def grid(anatomy):
    return epi_grid(anatomy, (5.8, 6.2, 6.6), np.array([-8.0, 4, 3]))


@pytest.fixture(scope="module")
def scan(anatomy, grid):
    """Scan that person with the flaws that are asked for, on unequal and oblique voxels."""

    def make(seed=4, volumes=10, motor_z=0.5, **flaws):
        subject = FunctionalSubject(anatomy, motor_z, 0.8)
        scanner = replace(PERFECT, **flaws)
        rng = np.random.default_rng(seed)
        return scan_functional(subject, grid, (volumes, TR), scanner, CORTEX, rng)

    return make


@pytest.fixture(scope="module")
def perfect(scan):
    return scan()


def still(time):
    return np.zeros((*np.shape(time), 1))


# ---------------------------------------------------------------------------- timing, contrast


def test_slices_are_interleaved_from_below():
    np.testing.assert_allclose(slice_times(5, 2.0), [0, 1.2, 0.4, 1.6, 0.8])
    np.testing.assert_allclose(slice_times(6, 1.5, 2), [0, 1.0, 0.5, 0, 1.0, 0.5])
    np.testing.assert_allclose(slice_times(5, 1.5, 2), [0, 1.0, 0.5, 0, 1.0])
    times = slice_times(44, 2.2, 3)
    assert np.unique(times, return_counts=True)[1].max() == 3
    assert 0 <= times.min() < times.max() < 2.2


def test_the_first_volumes_are_brighter_as_pulses_follow_each_other():
    """Second implementation: magnetisation, pulse by pulse."""
    angle = np.radians(flip_angle(TR))
    for name in ("cortex", "csf"):
        density, t1, _, t2_star = RELAXATION[name]
        along, signals = density, []
        for _ in range(40):
            signals.append(along * np.sin(angle) * np.exp(-ECHO_TIME / t2_star))
            along = density + (along * np.cos(angle) - density) * np.exp(-TR / t1)
        found = [gradient_echo(TR, v)[CLASSES.index(name)] for v in range(8)]
        steady = gradient_echo(TR)[CLASSES.index(name)]
        np.testing.assert_allclose(np.array(found) / steady, np.array(signals[:8]) / signals[-1])
    assert gradient_echo(TR)[CLASSES.index("white")] == 1
    cortex = CLASSES.index("cortex")
    assert gradient_echo(TR, 0)[cortex] > 1.15 * gradient_echo(TR)[cortex]
    assert gradient_echo(TR, 4)[cortex] < 1.0001 * gradient_echo(TR)[cortex]
    assert 4 <= unsettled_volumes(TR) <= 8
    assert unsettled_volumes(0.8) > unsettled_volumes(TR)


def test_the_series_starts_bright_and_four_volumes_settle_it(perfect):
    white = perfect.truth.brain & (perfect.truth.grey < 0.01)
    level = perfect.series[white].mean(0) / perfect.series[white][:, 6:].mean()
    assert level[0] > 1.08
    np.testing.assert_allclose(level[4:], 1, atol=2e-3)


def test_signal_is_lost_where_the_field_is_steep():
    affine = np.diag([3.0, 4.0, 5.0, 1.0])
    grid = Grid((6, 8, 10), affine)
    shift = np.tile(0.4 * np.arange(10), (6, 8, 1))  # mm for each slice
    left = dropout(shift, grid, 0.025)
    hertz = 0.4 / 4.0 / 0.025
    np.testing.assert_allclose(left, np.sinc(ECHO_TIME * hertz), rtol=1e-5)
    assert (dropout(np.full((6, 8, 10), 3.0), grid, 0.025) == 1).all()


# ---------------------------------------------------------------------------- tissue


def test_parts_add_up_to_the_grey_matter(anatomy, grid):
    labels = cut_labels(anatomy, grid.fine_shape, grid.fine_affine, (2, 2, 2))
    grey = voxel_means(labels, tissue_table()[:, :1])[..., 0]
    at = np.argwhere(grey > 0)[::7].astype(np.int32)
    first, label, part = grey_parts(labels, at, tissue_table()[:, 0])
    total = np.bincount(np.repeat(np.arange(len(at)), np.diff(first)), part, len(at))
    np.testing.assert_allclose(total, grey[tuple(at.T)], rtol=1e-6)
    for atlas in (1, 2):
        fine = (labels.atlas == atlas) & tissue_table()[:, 0].astype(bool)[labels.classes]
        i, j, k = 2 * at.T
        cells = [fine[i + a, j + b, k + c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]
        mine = label == atlas
        found = np.bincount(
            np.repeat(np.arange(len(at)), np.diff(first))[mine], part[mine], len(at)
        )
        np.testing.assert_allclose(found, np.mean(cells, 0), atol=1e-6)


# ---------------------------------------------------------------------------- networks


def test_the_networks_series_are_in_the_image(perfect):
    """Noise-free voxels follow the network's series at their slices' own times."""
    truth = perfect.truth
    left, right = (truth.networks[..., list(NETWORKS).index("motor"), side] for side in (0, 1))
    np.testing.assert_allclose(left + right, truth.grey, atol=0.02)
    level = int(np.argmax((np.maximum(left, right) > 0.95).sum((0, 1))))
    starts = TR * np.arange(perfect.series.shape[-1])
    courses = CubicSpline(starts, truth.connectivity.networks)(starts + truth.slice_times[level])
    for share, side in ((left, "left"), (right, "right")):
        pure = np.zeros(truth.grey.shape, bool)
        pure[:, :, level] = share[:, :, level] > 0.95
        assert pure.sum() > 5
        mean = perfect.series[pure].mean(0)[4:-1]
        change = mean / mean.mean() - 1
        course = courses[4:-1, MODULES.index(("motor", side))]
        course = course - course.mean()
        slope = change @ course / (course @ course)
        assert slope == pytest.approx(FLUCTUATION, rel=0.35)
        assert np.corrcoef(change, course)[0, 1] > 0.8


def test_the_truth_is_what_the_image_without_flaws_holds(scan):
    long = scan(volumes=60, motor_z=0.9)
    truth, found = long.truth, []
    for side in (0, 1):
        share = truth.networks[..., list(NETWORKS).index("motor"), side]
        found.append(np.tensordot(share, long.series[..., 4:], 3))
    series = [limit_band(one / one.mean(), TR) for one in found]
    value = np.arctanh(np.corrcoef(series)[0, 1])
    assert value == pytest.approx(truth.connectivity.measures[MOTOR][0], abs=0.08)
    assert truth.connectivity.population[MOTOR] == pytest.approx(0.9)
    assert truth.unaffected.population[MOTOR] == pytest.approx(0.8)


def test_the_disease_changes_one_series_and_the_noise_stays(scan, perfect):
    healthy = scan(motor_z=0.8)
    assert healthy.truth.connectivity.measures == perfect.truth.unaffected.measures
    assert healthy.truth.connectivity.measures != perfect.truth.connectivity.measures
    regions = [s.truth.connectivity.regions for s in (healthy, perfect)]
    left, right = ([one["precentral", side] for one in regions] for side in ("left", "right"))
    np.testing.assert_array_equal(*left)
    assert np.abs(right[0] - right[1]).max() > 0.05
    off = np.abs(healthy.series / np.maximum(perfect.series, 1) - 1).max(-1)
    halves = perfect.truth.networks[..., list(NETWORKS).index("motor"), :]
    at_left, at_right = (np.median(off[halves[..., side] > 0.9]) for side in (0, 1))
    assert at_left < 1e-5
    assert at_right > 2e-3


# ---------------------------------------------------------------------------- flaws


def test_every_slice_is_taken_at_its_declared_time(scan, monkeypatch):
    """A sine that is the same everywhere comes as late in each slice as SliceTiming says."""
    rate, volumes = 1 / 24.0, 30

    def sine(n_labels, duration, rng):
        def nothing(count):
            return lambda time: np.zeros((*np.shape(time), count))

        def wave(time):
            return 50 * np.sin(2 * np.pi * rate * np.asarray(time))[..., None]

        zero = nothing(1)
        return Drives(
            nothing(len(MODULES)), nothing(n_labels), nothing(N_BACKGROUND), wave,
            lambda t: zero(t)[..., 0], lambda t: zero(t)[..., 0],
        )  # fmt: skip

    monkeypatch.setattr(functional, "draw_drives", sine)
    monkeypatch.setattr(connectivity, "realised_z", lambda *given: {})
    run = scan(volumes=volumes, physiology=1.0, multiband=2)
    time = TR * np.arange(volumes)
    waves = np.stack([np.sin(2 * np.pi * rate * time), np.cos(2 * np.pi * rate * time)])
    model = np.vstack([waves, np.ones(volumes)])[:, 6:].T
    used = 0
    for level in range(run.series.shape[2]):
        inside = run.truth.brain[:, :, level]
        if inside.sum() < 20:
            continue
        mean = run.series[:, :, level][inside].mean(0)[6:]
        sine_part, cosine_part, _ = np.linalg.lstsq(model, mean, rcond=None)[0]
        early = np.arctan2(cosine_part, sine_part) / (2 * np.pi * rate)
        assert early == pytest.approx(run.truth.slice_times[level], abs=0.01)
        used += 1
    assert used > 10


def test_the_head_moves_as_the_truth_says(scan, perfect, monkeypatch):
    def moved(n, size, centre, rng):
        there = np.zeros((n, 6))
        there[8:] = [2.0, -3.0, 4.0, 1.0, -2.0, 3.0]
        return Motion(there[:, :3], there[:, 3:], np.asarray(centre))

    monkeypatch.setattr(functional, "draw_motion", moved)
    run = scan()
    pose = run.truth.motion.head_to_volume[9]
    points = apply_affine(pose, grid_points(run.truth.brain.shape, run.affine).astype(float))
    at = apply_affine(np.linalg.inv(run.affine), points)
    back = ndimage.map_coordinates(run.series[..., 9], at, order=3)
    brain = ndimage.binary_erosion(run.truth.brain, iterations=2)
    shell = run.truth.brain & ~ndimage.binary_erosion(run.truth.brain, iterations=5)
    where = brain | shell
    before, after = (
        np.corrcoef(perfect.series[where, 9], image[where])[0, 1]
        for image in (run.series[..., 9], back)
    )
    assert 1 - after < 0.15 * (1 - before)
    np.testing.assert_allclose(run.series[..., 7], perfect.series[..., 7], rtol=1e-5, atol=1e-2)


def test_the_pair_and_the_polarity_tell_the_field(scan, perfect):
    down, up = scan(distortion=6.0), scan(distortion=6.0, polarity=1)
    np.testing.assert_array_equal(down.truth.shift, -up.truth.shift)
    assert (down.encoding.sign, up.encoding.sign) == (-1, 1)
    np.testing.assert_allclose(down.echoes[..., 0], up.echoes[..., 1], rtol=1e-4, atol=1e-2)
    flat = perfect
    np.testing.assert_array_equal(flat.echoes[..., 0], flat.echoes[..., 1])
    edge = voxel_sizes(down.affine)[1]
    at = np.indices(down.truth.shift.shape).astype(float)
    for image, sign in ((down.echoes[..., 0], 1), (down.echoes[..., 1], -1)):
        moved = sign * down.truth.shift
        pulled = ndimage.map_coordinates(
            image, at + np.array([0, 1, 0])[:, None, None, None] * moved / edge, order=3
        ) * (1 + np.gradient(moved, edge, axis=1))
        brain = flat.truth.brain
        plain = flat.echoes[..., 0][brain]
        before, after = (np.corrcoef(plain, x[brain])[0, 1] for x in (image, pulled))
        assert 1 - after < 0.4 * (1 - before)


def test_noise_has_the_size_that_tsnr_says(scan, perfect):
    noisy = scan(tsnr=40.0)
    scanner = replace(PERFECT, tsnr=40.0)
    cortex = gradient_echo(TR)[CLASSES.index("cortex")]
    assert thermal_noise(scanner, TR) == pytest.approx(cortex / 40)
    grey = perfect.truth.grey > 0.95
    off = (noisy.series - perfect.series)[grey]
    assert off.std() == pytest.approx(scanner.gain * cortex / 40, rel=0.03)
    assert thermal_noise(PERFECT, TR) == 0


def test_motion_through_slices_makes_them_brighter(grid):
    pose = np.eye(4)
    np.testing.assert_array_equal(history_factor(grid, pose, pose), 1)
    normal = np.cross(grid.affine[:3, 0], grid.affine[:3, 1])
    normal /= np.linalg.norm(normal)
    through, along = np.eye(4), np.eye(4)
    through[:3, 3] = -0.66 * normal
    along[:3, 3] = 2 * grid.affine[:3, 0] / 5.8
    expected = 1 + functional.HISTORY * 0.1
    np.testing.assert_allclose(history_factor(grid, pose, through), expected, rtol=1e-5)
    np.testing.assert_allclose(history_factor(grid, pose, along), 1, atol=1e-6)


def test_a_flaw_does_not_change_the_others(scan, perfect):
    other = scan(**FLAWS)
    assert other.truth.connectivity.measures == perfect.truth.connectivity.measures
    np.testing.assert_array_equal(other.truth.brain, perfect.truth.brain)
    less = scan(**FLAWS | {"motion": 0.0, "tsnr": np.inf})
    np.testing.assert_array_equal(other.truth.shift, less.truth.shift)
    np.testing.assert_array_equal(other.truth.drift, less.truth.drift)
    assert np.ptp(other.truth.motion.translation) > 0.05
    assert not less.truth.motion.translation.any()


def test_a_seed_makes_the_same_run_again(scan):
    first, again, other = scan(**FLAWS), scan(**FLAWS), scan(seed=5, **FLAWS)
    np.testing.assert_array_equal(first.series, again.series)
    np.testing.assert_array_equal(first.echoes, again.echoes)
    assert first.truth.connectivity.measures == again.truth.connectivity.measures
    assert (first.series != other.series).mean() > 0.5
