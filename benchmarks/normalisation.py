"""Ways to warp one head onto the template: overlap, roughness, folds, CPU seconds, side by side.

    python benchmarks/normalisation.py OUTPUT_DIR/sub-X/anat/sub-X [--shooting]

Reads the tissue maps that the anatomical stream has left there. Shooting takes some minutes.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace

os.environ.setdefault("NO_ET", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from alsflow.interfaces.images import load
from alsflow.interfaces.normalise import template_maps
from alsflow.interfaces.template import template_file
from alsflow.nodes.anat.brain import locate_brain
from alsflow.nodes.anat.normalise import GREEDY, fit_metrics, modulated, normalise, warped
from alsflow.nodes.anat.register import WarpSettings
from alsflow.nodes.anat.shooting import shoot
from alsflow.nodes.geometry import grid_over, voxel_volume

VOXEL, NATIVE_VOXEL = 1.5, 2.0  # mm
LONG = WarpSettings(iterations=(100, 60, 30), smoothing=(2.0, 0.7))
WAYS = {
    "Greedy, SSD, composed (default)": GREEDY,
    "the same, smoother": replace(GREEDY, smoothing=(1.4, 0.5)),
    "Greedy, SSD, one velocity": replace(LONG, metric="SSD"),
    "Greedy, NCC, one velocity": replace(LONG, metric="NCC"),
}


def main(prefix: str, shooting: bool) -> None:
    gm, image = load(f"{prefix}_label-GM_probseg.nii.gz")
    wm, _ = load(f"{prefix}_label-WM_probseg.nii.gz")
    head, _ = load(f"{prefix}_desc-preproc_T1w.nii.gz")
    brain, brain_image = load(template_file("t1"))
    _, start = locate_brain(head, image.affine, brain, brain_image.affine)
    template, affine = template_maps(VOXEL)
    arguments = ((gm, wm), image.affine, template, affine, start,
                 grid_over(gm.shape, image.affine, NATIVE_VOXEL))  # fmt: skip
    print("| way | GM / WM Dice | SD log J | J in brain | GM kept % | CPU s |")
    print("|---|---|---|---|---|---|")
    for name, settings in [*WAYS.items(), *([("shooting", None)] if shooting else [])]:
        began = time.process_time()
        found = normalise(*arguments, settings=settings) if settings else shoot(*arguments)
        spent = time.process_time() - began
        maps = [warped(part, image.affine, found.to_native) for part in (gm, wm)]
        fit = fit_metrics((maps[0], maps[1]), template, found.jacobian)
        amount = modulated(gm, image.affine, found.to_native, found.jacobian).sum(dtype=float)
        kept = amount * voxel_volume(affine) / (gm.sum(dtype=float) * voxel_volume(image.affine))
        print(
            f"| {name} | {fit['template_dice_gm']:.3f} / {fit['template_dice_wm']:.3f} "
            f"| {fit['jacobian_log_sd']:.2f} "
            f"| {fit['jacobian_min']:.3f}-{fit['jacobian_max']:.1f} "
            f"| {100 * (kept - 1):+.2f} | {spent:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    np.seterr(all="ignore")
    main(sys.argv[1], "--shooting" in sys.argv)
