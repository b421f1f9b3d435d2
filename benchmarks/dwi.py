"""Accuracy and CPU seconds of the diffusion steps, beside MRtrix3 and DIPY.

    python benchmarks/dwi.py [DWI.nii.gz DWI.bval DWI.bvec] [--dipy]

Without files the series of `sub-cr` beside the checkout is taken, where it is there. MRtrix3 is
run where its programs are installed (Debian: `apt-get install mrtrix3`), on one thread; DIPY's
denoising and unringing take minutes and are asked for. One part works on phantoms whose truth is
known, the other on the real series, where the same data go to both programs.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("NO_ET", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy import ndimage

from alsflow.interfaces.dwi_prep import load_run
from alsflow.interfaces.images import load, save
from alsflow.interfaces.template import template_file
from alsflow.nodes.anat.morphology import erode
from alsflow.nodes.dwi.brain_mask import find_brain
from alsflow.nodes.dwi.bvec_check import check_bvecs
from alsflow.nodes.dwi.denoise import denoise_series
from alsflow.nodes.dwi.gibbs import unring
from alsflow.nodes.dwi.gradients import Gradients, fsl_bvecs
from alsflow.nodes.dwi.tensor import fit_tensor
from alsflow.nodes.geometry import resample, voxel_sizes

REAL = Path(__file__).resolve().parents[2] / "shared/data/realdata/sub-cr/dwi/sub-cr_dir-AP_dwi"
FIBRE, GREY, WATER = (1.6e-3, 0.35e-3), 0.85e-3, 3e-3  # mm2/s
LEVELS = {"wm": 500, "gm": 650, "csf": 1300}  # signal without weighting


def timed(function: Callable, *arguments, **settings):
    start = time.process_time()
    result = function(*arguments, **settings)
    return result, time.process_time() - start


def children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def mrtrix(command: str, folder: Path) -> float:
    """CPU seconds of one MRtrix3 program on one thread."""
    start = children()
    name, *rest = command.split()
    subprocess.run([name, "-quiet", "-force", "-nthreads", "0", *rest], cwd=folder, check=True)
    return children() - start


def installed() -> bool:
    found = shutil.which("dwidenoise") is not None
    if not found:
        print("MRtrix3 is not installed here: its rows are left out")
    return found


def directions(n: int, b0: int, seed: int) -> Gradients:
    """Random directions that repel each other."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(n, 3))
    for _ in range(300):
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        all_of = np.concatenate([found, -found])
        apart = found[:, None] - all_of[None]
        far = np.linalg.norm(apart, axis=2)
        far[far < 1e-9] = np.inf
        found += 0.01 / n * (apart / far[..., None] ** 3).sum(axis=1)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    bvals = np.r_[np.zeros(b0), np.full(n, 1000.0)]
    return Gradients(bvals, np.concatenate([np.zeros((b0, 3)), found]))


def phantom(voxel: float, shape: tuple[int, int, int], n: int, b0: int):
    """Noise-free series on the template's tissues with swirling fibres, and the brain."""
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = -np.array(shape) * voxel / 2 + [0, -18, 18]
    maps = {}
    for name in ("gm", "wm"):
        data, image = load(template_file(name))
        smooth = ndimage.gaussian_filter(data / 255, 0.35 * voxel)
        maps[name] = resample(smooth, image.affine, shape, affine)
    rough = ndimage.binary_closing(maps["gm"] + maps["wm"] > 0.3, iterations=3)
    brain = ndimage.binary_fill_holes(rough)
    maps["csf"] = np.where(brain, np.clip(1 - maps["gm"] - maps["wm"], 0, 1), 0)
    x, y, z = np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3).T * voxel + affine[:3, 3:4]
    way = [
        np.cos(z / 25) + 0.4 * y / 80,
        np.sin(x / 30) + 0.3 * z / 60,
        1.2 * np.cos(y / 35) - 0.5 * x / 60,
    ]
    way /= np.linalg.norm(way, axis=0)
    gradients = directions(n, b0, seed=1)
    signal = np.empty((*shape, len(gradients)), np.float32)
    for v, (b, g) in enumerate(zip(gradients.bvals, gradients.directions, strict=True)):
        fibre = FIBRE[1] + (FIBRE[0] - FIBRE[1]) * (g @ way).reshape(shape) ** 2
        signal[..., v] = LEVELS["wm"] * maps["wm"] * np.exp(-b * fibre)
        signal[..., v] += LEVELS["gm"] * maps["gm"] * np.exp(-b * GREY)
        signal[..., v] += LEVELS["csf"] * maps["csf"] * np.exp(-b * WATER)
    return signal, brain, affine, gradients


def row(name: str, *values: float) -> None:
    print(f"  {name:<26}" + "".join(f"{value:>12.4g}" for value in values), flush=True)


def denoising(voxel: float, shape: tuple, n: int, b0: int, with_dipy: bool, peer: bool) -> None:
    truth, brain, affine, _ = phantom(voxel, shape, n, b0)
    sigma, rng = LEVELS["wm"] / 25, np.random.default_rng(1)
    noise = rng.normal(0, sigma, (2, *truth.shape))
    noisy = np.hypot(truth + noise[0], noise[1]).astype(np.float32)

    def error(found) -> float:
        return float(np.sqrt(((found - truth)[brain] ** 2).mean()))

    print(f"denoising, {truth.shape}: RMSE in the brain, noise found (true {sigma:g}), CPU s")
    row("none", error(noisy), np.nan, 0)
    found, spent = timed(denoise_series, noisy, brain)
    row("here", error(found.signal), np.nanmedian(found.noise[brain]), spent)
    if peer:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            save(noisy, affine, folder / "in.nii")
            save(brain, affine, folder / "mask.nii")
            spent = mrtrix("dwidenoise in.nii out.nii -noise noise.nii -mask mask.nii", folder)
            level = load(folder / "noise.nii")[0][brain]
            row("MRtrix3 dwidenoise", error(load(folder / "out.nii")[0]), np.median(level), spent)
    if with_dipy:
        from dipy.denoise.localpca import mppca

        (clean, level), spent = timed(mppca, noisy, mask=brain, return_sigma=True)
        row("DIPY mppca", error(clean), np.median(level[brain]), spent)


def ringing(with_dipy: bool, peer: bool) -> None:
    """Cut k-space of a fine phantom by two; truth is the mean of the fine voxels."""
    fine, brain, affine, _ = phantom(1.0, (208, 224, 16), 6, 1)
    truth = fine.reshape(104, 2, 112, 2, 16, 7).mean((1, 3))
    inside = brain[::2, ::2]
    spectrum = np.fft.fftshift(np.fft.fft2(fine, axes=(0, 1)), axes=(0, 1))[52:156, 56:168]
    rung = np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(0, 1)), axes=(0, 1))
    rung = (np.abs(rung) / 4).astype(np.float32)

    def error(found) -> float:
        return float(np.sqrt(((found - truth)[inside] ** 2).mean()))

    print(f"unringing, {rung.shape}: RMSE in the brain, CPU s")
    row("none", error(rung), 0)
    found, spent = timed(unring, rung)
    row("here", error(found), spent)
    if peer:
        with tempfile.TemporaryDirectory() as name:
            save(rung, affine, Path(name) / "in.nii")
            spent = mrtrix("mrdegibbs in.nii out.nii", Path(name))
            row("MRtrix3 mrdegibbs", error(load(Path(name) / "out.nii")[0]), spent)
    if with_dipy:
        from dipy.denoise.gibbs import gibbs_removal

        found, spent = timed(gibbs_removal, rung, inplace=False)
        row("DIPY gibbs_removal", error(found), spent)


def real(files: list[str], peer: bool) -> None:
    (signal, affine, _, gradients), spent = timed(load_run, *files, True)
    print(f"{Path(files[0]).name}, {signal.shape}: CPU s here, CPU s of MRtrix3")
    row("load", spent, np.nan)
    zooms = voxel_sizes(affine)
    brain, spent = timed(find_brain, signal, gradients, zooms)
    row("brain mask and N4", spent, np.nan)
    check, spent = timed(check_bvecs, signal, affine, gradients, brain.mask)
    row(f"b-vector check: {check.verdict}", spent, np.nan)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(signal, affine, folder / "raw.nii")
        save(brain.mask, affine, folder / "mask.nii")
        np.savetxt(folder / "bval", gradients.bvals[None], fmt="%.10g")
        np.savetxt(folder / "bvec", fsl_bvecs(gradients.directions, affine), fmt="%.10g")
        clean, spent = timed(denoise_series, signal)
        row("denoise, all voxels", spent, peer and mrtrix("dwidenoise raw.nii den.nii", folder))
        save(clean.signal, affine, folder / "clean.nii")
        rung, spent = timed(unring, clean.signal)
        row("unring, all lines", spent, peer and mrtrix("mrdegibbs clean.nii ring.nii", folder))
        save(rung, affine, folder / "rung.nii")
        masked, spent = timed(denoise_series, signal, brain.mask)
        row("denoise, brain only", spent, np.nan)
        row("unring, lines through it", timed(unring, masked.signal, mask=brain.mask)[1], np.nan)
        maps, spent = timed(fit_tensor, rung, gradients, brain.mask)
        tensor = "dwi2tensor rung.nii -fslgrad bvec bval -mask mask.nii dt.nii"
        row("tensor", spent, peer and mrtrix(tensor, folder))
        print(f"  peak memory of this process {peak():.2f} GB")
        if peer:
            mrtrix("tensor2metric dt.nii -fa fa.nii -adc md.nii -mask mask.nii", folder)
            compare(maps, erode(brain.mask, 2 * max(zooms), zooms), folder)


def compare(maps, inner: np.ndarray, folder: Path) -> None:
    """Maps of one series by two programs."""
    fa, md = (load(folder / f"{name}.nii")[0] for name in ("fa", "md"))
    white = inner & (maps.fa > 0.25) & (maps.md < 1.1e-3)
    fa_off, md_off = np.abs(maps.fa - fa), np.abs(maps.md - md)
    print(f"  white matter ({white.sum()} voxels, FA > .25), mean absolute difference to MRtrix3:")
    print(f"  FA {fa_off[white].mean():.5f}, MD {md_off[white].mean():.2e} mm²/s")
    print(f"  brain: FA {fa_off[inner].mean():.5f}, MD {md_off[inner].mean():.2e} mm²/s")


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="series, bval and bvec")
    parser.add_argument("--dipy", action="store_true", help="run DIPY's denoising and unringing")
    chosen = parser.parse_args()
    peer = installed()
    files = chosen.files or [f"{REAL}.{end}" for end in ("nii.gz", "bval", "bvec")]
    # compiled once before anything is timed
    small = np.random.default_rng(0).gamma(2, 9, (12, 12, 12, 12)).astype(np.float32)
    unring(denoise_series(small).signal)
    if Path(files[0]).is_file():
        real(files, peer)
    else:
        print(f"{Path(files[0]).name} is not here: the real series is left out")
    denoising(2.0, (102, 112, 66), 32, 4, chosen.dipy, peer)
    denoising(3.0, (68, 74, 44), 16, 1, chosen.dipy, peer)
    ringing(chosen.dipy, peer)


if __name__ == "__main__":
    main()
