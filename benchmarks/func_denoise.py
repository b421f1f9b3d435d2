"""What denoising does to simulated motion, and what it costs.

    python benchmarks/func_denoise.py [BOLD ANAT_FOLDER]

Without arguments: the pass band, and CPU seconds beside nilearn. With a real BOLD series and the
anatomical outputs of the same person (`*_label-GM_probseg.nii.gz` and so on): the head of that
series is scanned again by a simple scanner, still and moving, and both are denoised.

The scanner knows nothing of the regressors. Spins that move through a slice have recovered longer
(spin history by T1), the receive field and the distortion stay with the scanner while the head
moves, the head is brought back by parameters with an error, and noise comes last. The effect of
motion is the difference of Fisher z between the moving and the still scan of one head, over seeds
and grey-matter voxels more than 20 mm away. Its systematic part is the root of the mean product of
that difference in two scans with the same motion, but other noise and networks' courses: chance
cancels there.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("NO_ET", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import nibabel as nib
import numpy as np
from nilearn.masking import compute_epi_mask
from nilearn.signal import clean
from scipy import ndimage
from scipy.spatial.transform import Rotation

from alsflow.interfaces.func_denoise import preset_names, read_preset
from alsflow.nodes.epi.coregister import coregister
from alsflow.nodes.epi.series import conform_series
from alsflow.nodes.func.confounds import find_confounds, regressors
from alsflow.nodes.func.denoise import denoise
from alsflow.nodes.func.presets import Preset, load_preset
from alsflow.nodes.geometry import apply_affine, grid_points, voxel_sizes
from alsflow.nodes.simulate.echo_planar import Motion, draw_motion
from alsflow.nodes.simulate.fields import smooth_noise

N, TR = 188, 2.2
T1 = np.array([1.4, 0.9, 4.0])  # s, grey matter, white matter, fluid at 3 T
NETWORKS, SEEDS, APART = 8, 16, 20.0  # mm
NETWORK_SIGNAL, SLOW_NOISE, NOISE = 0.01, 0.007, 0.01  # share of the signal
RECEIVE, DISTORTION = 0.25, 2.0  # standard deviations: share of the signal, mm
ERROR = 0.02  # mm and degrees, of the motion estimated
PEOPLE = 3  # ways of moving
DRIFT, JERKS, JERK = 0.5, 8, 0.4  # mm and degrees; jerks go there and back


@dataclass(frozen=True)
class Head:
    """Mean image, tissue (x, y, z, 3), brain and affine of a real head."""

    mean: np.ndarray
    tissue: np.ndarray
    brain: np.ndarray
    affine: np.ndarray


def real_head(bold: Path, anat: Path) -> Head:
    image = nib.load(bold)
    series, affine = conform_series(image.get_fdata(dtype=np.float32), image.affine)
    mean = series.mean(axis=3)
    brain = compute_epi_mask(nib.Nifti1Image(mean, affine)).get_fdata() > 0
    kinds = ("label-GM_probseg", "label-WM_probseg", "label-CSF_probseg", "desc-brain_mask")
    maps = [nib.load(next(anat.glob(f"*[0-9]_{kind}.nii.gz"))) for kind in kinds]
    grey, white, fluid, t1w_brain = (m.get_fdata(dtype=np.float32) for m in maps)
    place = coregister(mean, affine, brain, t1w_brain > 0, grey, white, maps[0].affine).matrix
    tissue = np.zeros((*mean.shape, 3), np.float32)
    steps = (np.arange(3) - 1) / 3
    for x, y, z in np.array(np.meshgrid(steps, steps, steps)).reshape(3, -1).T:
        pull = np.linalg.inv(maps[0].affine) @ place @ affine
        offset = pull[:3, :3] @ [x, y, z] + pull[:3, 3]
        for k, part in enumerate((grey, white, fluid)):
            tissue[..., k] += ndimage.affine_transform(
                part, pull[:3, :3], offset, output_shape=mean.shape, order=1
            )
    tissue /= 27
    brain &= tissue.sum(axis=-1) > 0.5
    low, high = (f(np.argwhere(brain), axis=0) for f in (np.min, np.max))
    box = tuple(slice(max(a - 3, 0), b + 4) for a, b in zip(low, high, strict=True))
    moved = affine.copy()
    moved[:3, 3] = apply_affine(affine, np.array([s.start for s in box], float))
    return Head(mean[box] / np.median(mean[brain]) * 1000, tissue[box], brain[box], moved)


def jerky_motion(centre: np.ndarray, rng: np.random.Generator) -> Motion:
    motion = draw_motion(N, DRIFT, centre, rng)
    for start in rng.choice(np.arange(2, N - 3), JERKS, replace=False):
        rows = slice(start, start + rng.integers(1, 3))
        motion.translation[rows] += JERK * rng.standard_normal(3)
        motion.rotation[rows] += JERK * rng.standard_normal(3)
    return motion


def slow_courses(count: int, rng: np.random.Generator, exponent: float) -> np.ndarray:
    """Courses (count, n) whose power falls with frequency, unit variance."""
    spectrum = np.fft.rfft(rng.standard_normal((count, 2 * N)))
    frequency = np.fft.rfftfreq(2 * N)
    spectrum[:, 1:] /= frequency[1:] ** (exponent / 2)
    spectrum[:, 0] = 0
    courses = np.fft.irfft(spectrum)[:, :N]
    return courses / courses.std(axis=1, keepdims=True)


def activity(head: Head, rng: np.random.Generator, networks: bool):
    """Share of the signal that changes, (n, x, y, z), in the head."""
    grey = np.flatnonzero(head.brain)
    noise = slow_courses(len(grey), rng, 1.0).astype(np.float32).T * SLOW_NOISE
    if networks:
        layout = np.random.default_rng(99)  # the same maps in every scan
        maps = [smooth_noise(layout, head.brain.shape, 4.0) for _ in range(NETWORKS)]
        weight = np.stack([np.clip(m, 0, None).ravel()[grey] for m in maps])
        weight *= head.tissue[..., 0].ravel()[grey]
        noise += NETWORK_SIGNAL * slow_courses(NETWORKS, rng, 1.0).T @ weight
    for volume in noise:
        change = np.zeros(head.brain.size, np.float32)
        change[grey] = volume
        yield change.reshape(head.brain.shape)


def scanned(head: Head, motion: Motion | None, seed: int, networks: bool):
    """Series after realignment, and the motion that was estimated."""
    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(98)
    receive = 1 + RECEIVE * smooth_noise(fixed, head.brain.shape, 9.0)
    points = grid_points(head.brain.shape, head.affine).astype(float)
    bent = points + 0.0
    along = head.affine[:3, 1] / np.linalg.norm(head.affine[:3, 1])
    push = DISTORTION * smooth_noise(fixed, head.brain.shape, 5.0)
    bent += along[:, None, None, None] * push
    centre = apply_affine(head.affine, np.array(ndimage.center_of_mass(head.brain)))
    still = np.tile(np.eye(4), (N, 1, 1))
    true = still if motion is None else motion.head_to_volume
    error = np.tile(np.eye(4), (N, 1, 1))
    error[:, :3, :3] = Rotation.from_euler(
        "xyz", ERROR * rng.standard_normal((N, 3)), degrees=True
    ).as_matrix()
    error[:, :3, 3] = ERROR * rng.standard_normal((N, 3)) + centre
    error[:, :3, 3] -= error[:, :3, :3] @ centre
    found = error @ true
    to_voxel = np.linalg.inv(head.affine)
    normal = head.affine[:3, 2] / np.linalg.norm(head.affine[:3, 2])
    slice_edge = voxel_sizes(head.affine)[2]
    recovery = head.tissue @ np.exp(-TR / T1)
    series = np.empty((*head.brain.shape, N), np.float32)
    for v, change in enumerate(activity(head, rng, networks)):
        image = ndimage.spline_filter(head.mean * (1 + change), 3)
        inside = apply_affine(np.linalg.inv(true[v]), bent)
        at = apply_affine(to_voxel, inside)
        volume = ndimage.map_coordinates(image, at, order=3, prefilter=False, mode="nearest")
        if v and motion is not None:
            before = apply_affine(true[v - 1], inside)
            crossed = np.tensordot(normal, bent - before, 1) / slice_edge
            fresh = ndimage.map_coordinates(recovery, at, order=1, mode="nearest")
            volume = volume * (1 + np.minimum(np.abs(crossed), 1) * fresh)
        volume = volume * receive
        volume = volume + 1000 * NOISE * rng.standard_normal(volume.shape)
        back = apply_affine(to_voxel, apply_affine(found[v], points))
        series[..., v] = ndimage.map_coordinates(volume, back, order=3, mode="nearest")
    return series, found


PLAIN = {
    "none (calsnic)": ("calsnic", {}),
    "trend and band alone": ("own", {"trend": 1, "band": [0.008, 0.09]}),
    "24 motion + band": ("own", {"motion": 24, "trend": 1, "band": [0.008, 0.09]}),
    "motion24+acompcor": ("motion24+acompcor", {}),
    "the same, FD > .5 mm out": ("motion24+acompcor", {}),
    "36P": ("36P", {}),
}


def chosen(label: str) -> Preset:
    name, content = PLAIN[label]
    return load_preset(read_preset(name) if name in preset_names() else content, name)


def fisher(head: Head, residual: np.ndarray) -> np.ndarray:
    """Fisher z (seeds, voxels) of grey matter; NaN near the seed."""
    grey = head.tissue[..., 0][head.brain] >= 0.5
    where = grid_points(head.brain.shape, head.affine)[:, head.brain][:, grey]
    values = residual[grey] - residual[grey].mean(axis=1, keepdims=True)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    places = np.random.default_rng(97).choice(where.shape[1], SEEDS, replace=False)
    found = np.full((SEEDS, where.shape[1]), np.nan)
    for row, place in enumerate(places):
        away = np.linalg.norm(where - where[:, [place]], axis=0)
        seed = values[away < 8].mean(axis=0)
        far = away > APART
        found[row, far] = np.arctanh(values[far] @ (seed / np.linalg.norm(seed)))
    return found


def measured(head: Head, series, found) -> dict[str, tuple[np.ndarray, int]]:
    """Fisher z and degrees of freedom left of each preset."""
    runs = np.zeros(N, int)
    facts = find_confounds(series, head.affine, head.brain, head.tissue, found, runs, TR)
    signal = series[head.brain]
    result = {}
    for label in PLAIN:
        preset = chosen(label)
        keep = np.ones(N, bool)
        if "FD" in label:
            keep = ~(facts.table["framewise_displacement"].to_numpy() > 0.5)
        residual, _, freedom = denoise(
            signal, regressors(facts.table, preset), runs, TR,
            band=preset.band, trend=preset.trend, keep=keep,
        )  # fmt: skip
        result[label] = fisher(head, residual.astype(float)), freedom.left
    result["numbers"] = facts.numbers, {k: m.size for k, m in facts.masks.items()}
    return result


def print_motion(head: Head, people: int) -> None:
    centre = apply_affine(head.affine, np.array(ndimage.center_of_mass(head.brain)))
    nulls, effects = [], []
    for person in range(people):
        motion = jerky_motion(centre, np.random.default_rng(person))
        null = measured(head, *scanned(head, motion, 100 + person, networks=False))
        print("person", person, *null["numbers"], flush=True)
        nulls.append(null)
        pair = []
        for draw in (0, 1):
            seed = 200 + 10 * person + draw
            moved = measured(head, *scanned(head, motion, seed, networks=True))
            still = measured(head, *scanned(head, None, seed, networks=True))
            pair.append({k: (moved[k][0] - still[k][0], still[k][0]) for k in PLAIN})
        effects.append(pair)
    print("\nnull: noise and motion, no networks")
    print(f"{'preset':28s} dof  mean z  sd z  sd z x sqrt(dof - 2)")
    for label in PLAIN:
        z = np.concatenate([n[label][0][np.isfinite(n[label][0])] for n in nulls])
        left = np.mean([n[label][1] for n in nulls])
        print(
            f"{label:28s} {left:3.0f}  {z.mean():6.3f} {z.std():5.3f}  "
            f"{z.std() * (left - 2) ** 0.5:5.2f}"
        )
    print("\nnetworks: z of the moving less that of the still scan")
    print(f"{'preset':28s} mean   reduced  rms  systematic  reduced  z of still, sd")
    first = {}
    for label in PLAIN:
        mean = np.mean([np.nanmean(d[label][0]) for p in effects for d in p])
        rms = np.sqrt(np.mean([np.nanmean(d[label][0] ** 2) for p in effects for d in p]))
        product = np.mean([np.nanmean(p[0][label][0] * p[1][label][0]) for p in effects])
        common = np.sqrt(max(product, 0))
        spread = np.mean([np.nanstd(d[label][1]) for p in effects for d in p])
        first = first or {"mean": mean, "common": common}
        print(
            f"{label:28s} {mean:6.3f} {1 - abs(mean / first['mean']):6.1%} {rms:6.3f} "
            f"{common:8.3f} {1 - common / first['common']:9.1%}  {spread:6.3f}"
        )


def print_band() -> None:
    print("share of a sine's amplitude that stays, worst and best phase (188 volumes, 2.2 s)")
    runs, time_points = np.zeros(N, int), TR * np.arange(N)
    for frequency in (
        0.001, 0.003, 0.005, 0.006, 0.007, 0.008, 0.009, 0.010, 0.012, 0.015, 0.03, 0.06, 0.08,
        0.086, 0.088, 0.09, 0.092, 0.095, 0.1, 0.11, 0.13, 0.17, 0.22,
    ):  # fmt: skip
        phases = np.linspace(0, np.pi, 24, endpoint=False)
        waves = np.sin(2 * np.pi * frequency * time_points + phases[:, None])
        rest = denoise(waves, {}, runs, TR, band=(0.008, 0.09), trend=1)[0]
        share = rest.std(axis=1) / waves.std(axis=1)
        print(f"{frequency:.3f} Hz  {share.min():.2f} {share.max():.2f}")


def print_cost() -> None:
    rng = np.random.default_rng(0)
    shape = (64, 64, 40)
    away = np.linalg.norm(
        (np.indices(shape).T - (np.array(shape) - 1) / 2) * [3.4, 3.4, 3.5], axis=-1
    ).T
    brain = away < 72
    tissue = np.stack([away > 50, (away <= 50) & (away > 20), away <= 20], axis=-1).astype(
        np.float32
    )
    series = (1000 + 10 * rng.standard_normal((*shape, N))).astype(np.float32)
    motion = draw_motion(N, 0.6, np.zeros(3), rng).head_to_volume
    affine, runs = np.diag([3.4, 3.4, 3.5, 1]), np.zeros(N, int)
    preset = load_preset(read_preset("motion24+acompcor"), "default")

    def timed(job):
        start = time.process_time()
        return job(), time.process_time() - start

    facts, seconds = timed(lambda: find_confounds(series, affine, brain, tissue, motion, runs, TR))
    print(f"{brain.sum()} voxels in the brain; confounds {seconds:.1f} CPU s")
    parts = regressors(facts.table, preset)
    signal = series[brain]
    columns = np.concatenate(list(parts.values()), axis=1)
    ours, seconds = timed(lambda: denoise(signal, parts, runs, TR, band=preset.band, trend=1))
    print(f"projection, both residuals {seconds:.1f} CPU s, dof left {ours[2].left}")
    options = {"confounds": columns, "standardize": None, "t_r": TR, "detrend": True}
    for name, more in {
        "butterworth": {"low_pass": 0.09, "high_pass": 0.008},
        "no filter": {"filter": False},
    }.items():
        _, seconds = timed(lambda more=more: clean(signal.T, **options, **more))
        print(f"nilearn.signal.clean, {name}: {seconds:.1f} CPU s")
    same, _, _ = denoise(signal, parts, runs, TR, trend=1)
    peer = clean(signal.T.astype(float), **options, filter=False).T
    print(f"without filter, largest difference to nilearn {np.abs(same - peer).max():.1e}")


if __name__ == "__main__":
    print_band()
    print_cost()
    if len(sys.argv) > 2:
        print_motion(real_head(Path(sys.argv[1]), Path(sys.argv[2])), people=PEOPLE)
