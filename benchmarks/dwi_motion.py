"""Accuracy, CPU seconds and memory of motion and eddy-current correction on phantoms.

    python benchmarks/dwi_motion.py [SCENARIO ...]

The phantoms are analytic heads (tests/nodes/dwi/phantoms.py) of 112 x 112 x 60 voxels of 2 mm.
Errors are distances in mm over brain voxels and volumes; "common" is the error of the mean place
of the weighted volumes, "single" the rest. FA errors are against the noise-free still phantom,
inside the brain. Each scenario runs in a process of its own.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("NO_ET", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "nodes" / "dwi"))

import numpy as np
from dipy.core.gradients import gradient_table
from dipy.reconst.dti import TensorModel
from phantoms import Phantom, diffusion_phantom, scheme, with_noise
from scipy import ndimage

from alsflow.nodes.dwi.estimate import MotionEstimate
from alsflow.nodes.dwi.gradients import Gradients
from alsflow.nodes.dwi.motion import estimate_motion
from alsflow.nodes.dwi.outliers import replace_outliers
from alsflow.nodes.dwi.resample import resample_series, rotated_gradients
from alsflow.nodes.epi.pose import frame_of, poses_of

SHAPE, VOXEL = (112, 112, 60), (2.0, 2.0, 2.0)
STILL = {"motion": 0.0, "eddy": 0.0}
# name: seed, arguments of `scheme`, of `diffusion_phantom`, of `estimate_motion`
CASES: dict[str, tuple[int, dict, dict, dict]] = {
    "half-sphere, b1000": (11, {"half": True}, {}, {}),
    "whole sphere, b1000": (12, {}, {}, {}),
    "motion-free": (13, {}, STILL, {}),
    "jumps": (14, {}, {"motion": 2.0, "jumps": 2}, {}),
    "16 directions": (15, {"directions": 16}, {}, {}),
    "b2500": (16, {"bvals": (2500.0,)}, {}, {}),
    "one b0": (17, {"b0_every": 40}, {}, {}),
    "24 dropouts": (18, {}, {"dropouts": 24}, {}),
    "SNR 15": (19, {}, {"snr": 15.0}, {}),
    "two shells": (20, {"bvals": (1000.0, 2000.0), "directions": 20}, {}, {}),
    "quadratic": (21, {}, {"quadratic": 6e-3}, {"eddy": "quadratic"}),
    "quadratic, linear model": (21, {}, {"quadratic": 6e-3}, {}),
}


def simulated(name: str, **changes: object) -> Phantom:
    seed, table, head, _ = CASES[name]
    return diffusion_phantom(
        np.random.default_rng(seed), scheme(**table), SHAPE, VOXEL, **(head | changes)
    )


def displacements(phantom: Phantom, estimate: MotionEstimate | None) -> np.ndarray:
    """Found minus true place, (n, 3, m) mm."""
    frame = frame_of(phantom.signal.shape, phantom.affine)
    inside = np.stack(np.nonzero(phantom.mask)).astype(float)
    points = frame.points(inside[:, :: inside.shape[1] // 3000])
    axis, truth = phantom.phase_encoding.axis, phantom.poses
    if estimate is None:
        return np.stack([points - truth.place(n, points, axis) for n in range(len(truth))])
    found = poses_of(estimate.head_to_volume, estimate.eddy, frame)
    return np.stack(
        [found.place(n, points, axis) - truth.place(n, points, axis) for n in range(len(truth))]
    )


def fractional_anisotropy(signal: np.ndarray, gradients: Gradients, mask: np.ndarray):
    table = gradient_table(gradients.bvals, bvecs=gradients.directions, b0_threshold=50)
    return TensorModel(table, fit_method="WLS").fit(np.maximum(signal[mask], 1.0)).fa


def run(name: str) -> str:
    phantom = simulated(name)
    started = time.process_time()
    estimate = estimate_motion(
        phantom.signal,
        phantom.affine,
        phantom.gradients,
        phantom.phase_encoding,
        phantom.mask,
        **CASES[name][3],
    )
    spent = time.process_time() - started
    raw = replace_outliers(
        phantom.signal, phantom.affine, phantom.gradients, phantom.phase_encoding, phantom.mask,
        estimate,
    )  # fmt: skip
    fixed = resample_series(raw, phantom.affine, estimate, phantom.phase_encoding).signal
    total = time.process_time() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    weighted = ~phantom.gradients.b0
    before, after = displacements(phantom, None), displacements(phantom, estimate)
    common = after[weighted].mean(axis=0)
    single = np.linalg.norm(after[weighted] - common, axis=1).mean()
    distance, first = np.linalg.norm(after, axis=1), np.linalg.norm(before, axis=1)
    still = {"jumps": 0, "quadratic": 0.0, "dropouts": 0, "snr": None}
    clean = simulated(name, **STILL, **still)
    noisy = with_noise(np.random.default_rng(0), clean.signal, CASES[name][2].get("snr", 25.0))
    inner = ndimage.binary_erosion(phantom.mask, iterations=4)
    truth = fractional_anisotropy(clean.signal, clean.gradients, inner)
    errors = [
        np.abs(fractional_anisotropy(signal, table, inner) - truth).mean()
        for signal, table in (
            (noisy, clean.gradients),
            (phantom.signal, phantom.gradients),
            (fixed, rotated_gradients(phantom.gradients, estimate)),
        )
    ]
    hits = int((estimate.outliers & phantom.dropouts).sum())
    wrong = int((estimate.outliers & ~phantom.dropouts).sum())
    return " | ".join(
        [
            f"| {name}",
            f"{first.mean():.2f} / {first.max():.2f}",
            f"{distance.mean():.3f} / {distance.max():.3f}",
            f"{np.linalg.norm(common, axis=0).mean():.3f} / {single:.3f}",
            f"{errors[0]:.4f} / {errors[1]:.4f} / {errors[2]:.4f}",
            f"{hits} of {phantom.dropouts.sum()}, {wrong}",
            f"{len(estimate.steps)} ({estimate.last_update:.3f})",
            f"{spent:.0f} + {total - spent:.0f}",
            f"{memory:.1f} |",
        ]
    )


def main() -> None:
    names = sys.argv[1:] or list(CASES)
    print(
        "| scenario | before mean / max | after mean / max | common / single "
        "| FA error still / raw / corrected | dropouts found, false | steps (last, mm) "
        "| CPU s estimate + resample | GB |\n" + "|---" * 9 + "|"
    )
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for line in pool.map(run, names):
            print(line, flush=True)


if __name__ == "__main__":
    main()
