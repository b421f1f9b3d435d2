"""Accuracy, CPU seconds and memory of realignment and slice timing of BOLD series.

    python benchmarks/func_motion.py [SCENARIO ...]

The phantoms (tests/nodes/func/bold_phantom.py) are heads of the template's tissue, read out anew
for each pose. Errors are distances in mm at the corners of the head's box, over volumes that were
not spoilt and, behind the bar, over those that were. Beside the project's own: cat-surf's
`vol_realign` (mcflirt's conventions) and, on the smallest series, dipy's rigid registration of
each volume. nilearn has no realignment. Each case runs in a process of its own. "real", the last
table, needs the reference series beside the checkout.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("NO_ET", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "nodes" / "func"))

import nibabel as nib
import numpy as np
from bold_phantom import corner_errors, moving_head
from scipy import ndimage
from scipy.interpolate import CubicSpline

from alsflow.nodes.func.realign import realign
from alsflow.nodes.func.resample import correct_bold
from alsflow.nodes.func.slice_timing import correct_slice_timing, shifted

REAL = Path(__file__).parents[2] / "shared" / "data" / "realdata" / "sub-sf02" / "func"
# name: seed, arguments of `moving_head`
CASES: dict[str, tuple[int, dict]] = {
    "3 mm and degrees": (1, {"volumes": 40}),
    "9 of 40 volumes spoilt": (2, {"volumes": 40, "spoilt": 9}),
    "0.3 mm and degrees": (3, {"volumes": 40, "size": 0.3}),
    "8 mm and degrees": (4, {"volumes": 40, "size": 8.0}),
    "slab of 20 slices": (5, {"volumes": 40, "shape": (60, 66, 20), "voxel": (3.2, 3.0, 3.5)}),
    "3.75 x 3.75 x 4.5 mm": (
        6,
        {"volumes": 40, "shape": (50, 56, 32), "voxel": (3.75, 3.75, 4.5)},
    ),
    "12 volumes": (7, {"volumes": 12}),
}
WITH_DIPY = "12 volumes"
CYCLES = (0.021, 0.052, 0.103, 0.201, 0.302, 0.401)  # per volume, no whole number in a run


def ours(signal, affine, mask):
    found = realign(signal, affine, mask)
    return found.head_to_volume, found.reference


def cat_surf(signal, affine, mask):
    from cat_surf import vol_realign

    middle = signal.shape[3] // 2
    found = vol_realign(signal, affine, refvol=middle, resample=False)
    return np.linalg.inv(found["ras"]), middle


def dipy(signal, affine, mask):
    from dipy.align import affine_registration

    logging.getLogger("dipy").setLevel(logging.WARNING)  # it would print into the table
    middle = signal.shape[3] // 2
    still = signal[..., middle]
    poses = [
        affine_registration(
            signal[..., n], still, moving_affine=affine, static_affine=affine,
            pipeline=["center_of_mass", "translation", "rigid"],
        )[1]
        for n in range(signal.shape[3])
    ]  # fmt: skip
    return np.stack(poses), middle


METHODS = {"alsflow": ours, "cat-surf": cat_surf, "dipy": dipy}


def measured(method: str, signal, affine, mask):
    """Poses, reference, CPU seconds, memory of the process in GB; compiled code is warm."""
    few = signal[..., :3].copy()
    if method != "dipy":
        METHODS[method](few, affine, mask)
    started = time.process_time()
    poses, reference = METHODS[method](signal, affine, mask)
    spent = time.process_time() - started
    return poses, reference, spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def simulated(job: tuple[str, str]) -> str:
    name, method = job
    seed, settings = CASES[name]
    phantom = moving_head(np.random.default_rng(seed), **settings)
    poses, reference, spent, _ = measured(method, phantom.signal, phantom.affine, phantom.mask)
    truth = phantom.head_to_volume
    error = corner_errors(poses, truth, reference)
    still = corner_errors(np.tile(np.eye(4), (len(truth), 1, 1)), truth, reference)
    fits, spoilt = error[phantom.fits], error[~phantom.fits]
    cells = [f"{fits.mean():.3f} / {fits.max():.3f}"]
    if len(spoilt):
        cells[0] += f" ; {spoilt.mean():.3f} / {spoilt.max():.3f}"
    return " | ".join(
        [
            f"| {name}",
            f"{still.mean():.2f} / {still.max():.2f}",
            method,
            *cells,
            f"{spent:.1f} |",
        ]
    )


def real_series():
    image = nib.as_closest_canonical(nib.load(next(REAL.glob("*_bold.nii.gz"))))
    signal = image.get_fdata(dtype=np.float32)
    mean = signal.mean(axis=3)
    mask = ndimage.binary_opening(mean > 0.35 * np.quantile(mean, 0.98))
    return signal, image.affine, ndimage.binary_fill_holes(mask)


def real(method: str):
    """Poses, CPU seconds, memory, tSNR of the corrected series."""
    signal, affine, mask = real_series()
    poses, _, spent, memory = measured(method, signal, affine, mask)
    corrected = correct_bold(signal, affine, poses).signal[mask]
    return poses, spent, memory, float(np.median(corrected.mean(1) / corrected.std(1)))


def correction() -> str:
    """CPU seconds of slice timing and interpolation of the real series."""
    signal, affine, _ = real_series()
    times = np.linspace(0, 2, signal.shape[2], endpoint=False)
    started = time.process_time()
    timed = correct_slice_timing(signal, times, 2.0)
    between = time.process_time()
    correct_bold(timed, affine, np.tile(np.eye(4), (signal.shape[3], 1, 1)))
    ended = time.process_time()
    return f"slice timing {between - started:.1f} CPU s, interpolation {ended - between:.1f} CPU s"


def sines() -> None:
    """Error of slice timing, percent of the amplitude: within, and in the two outer volumes."""
    place = np.arange(150)
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, 40)[:, None]
    ways = {
        "alsflow (phase shift, reflected)": shifted,
        "phase shift, ends joined": lambda x, d: np.fft.irfft(
            np.fft.rfft(x) * np.exp(2j * np.pi * np.fft.rfftfreq(150) * d), 150
        ),
        "cubic spline": lambda x, d: CubicSpline(place, x, axis=1)(place + d),
    }
    print("\n| cycles per volume | " + " | ".join(f"{c:g}" for c in CYCLES) + " |")
    print("|---" * (len(CYCLES) + 1) + "|")
    for name, way in ways.items():
        cells = []
        for cycles in CYCLES:
            error = np.concatenate([
                way(np.sin(2 * np.pi * cycles * place + phases), late)
                - np.sin(2 * np.pi * cycles * (place + late) + phases)
                for late in (-0.5, -0.25, 0.33, 0.5)
            ])  # fmt: skip
            inner = np.sqrt(2 * (error[:, 10:-10] ** 2).mean())
            ends = np.sqrt(2 * (error[:, [0, 1, -2, -1]] ** 2).mean())
            cells.append(f"{100 * inner:.2f} ; {100 * ends:.1f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


def phantoms(pool: ProcessPoolExecutor, names: list[str]) -> None:
    jobs = [(n, m) for n in names for m in METHODS if m != "dipy" or n == WITH_DIPY]
    print("| series | before mean / max | by | after mean / max | CPU s |\n" + "|---" * 5 + "|")
    for line in pool.map(simulated, jobs):
        print(line, flush=True)


def reference_series(pool: ProcessPoolExecutor) -> None:
    signal, _, mask = real_series()
    raw = signal[mask]
    print(f"\n{signal.shape}, tSNR as it is {np.median(raw.mean(1) / raw.std(1)):.1f}\n")
    print("| by | CPU s | GB | tSNR |\n" + "|---" * 4 + "|")
    found = {name: pool.submit(real, name).result() for name in ("alsflow", "cat-surf")}
    for name, (_, spent, memory, tsnr) in found.items():
        print(f"| {name} | {spent:.1f} | {memory:.2f} | {tsnr:.1f} |")
    one, other = (poses for poses, *_ in found.values())
    middle = len(one) // 2
    apart = corner_errors(one, other, middle)
    moved = corner_errors(np.tile(np.eye(4), (len(one), 1, 1)), other, middle)
    print(f"they differ by {apart.mean():.3f} mm; the head moved by {moved.mean():.3f} mm")
    print(pool.submit(correction).result())


def main() -> None:
    names = sys.argv[1:] or [*CASES, "real"]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        phantoms(pool, [name for name in names if name in CASES])
        sines()
        if "real" in names and REAL.is_dir():
            reference_series(pool)


if __name__ == "__main__":
    main()
