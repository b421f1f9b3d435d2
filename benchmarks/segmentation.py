"""Accuracy, CPU seconds and peak memory of the segmentation on heads of known anatomy.

    python benchmarks/segmentation.py [SOURCE.npz ...]

Without arguments the heads are made from the template, whose maps are also the priors: read those
rows as the easier half. A source of one's own brain is a NumPy archive with arrays `gm`, `wm`,
`csf` (fractions), `affine`, `atlas` and `atlas_affine` (see `nodes.simulate.anatomy.Source`).
Each head runs in a process of its own. Errors are percent, Dice is of fractions above one half.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

os.environ.setdefault("NO_ET", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from alsflow.interfaces.anat import read_template
from alsflow.interfaces.simulate import template_source
from alsflow.nodes.anat.bias import brain_field, divided
from alsflow.nodes.anat.brain import locate_brain, on_grid
from alsflow.nodes.anat.conform import conform
from alsflow.nodes.anat.denoise import denoise
from alsflow.nodes.anat.tissue import Tissues, segment
from alsflow.nodes.geometry import voxel_sizes, voxel_volume
from alsflow.nodes.simulate.anatomy import Source, Traits, prepare_blueprint
from alsflow.nodes.simulate.head import Head, simulate_head
from alsflow.nodes.simulate.scanner import Scanner

TISSUES = ("gm", "wm", "csf")
SHRUNK = {"cortical_loss": 0.12, "ventricle_growth": 3.0, "rim": 2.5}
# name: seed, traits, scanner, voxel (mm)
CASES: dict[str, tuple[int, dict, dict, float | tuple[float, ...]]] = {
    "1 mm": (31, {}, {}, 1.0),
    "1 mm, again": (32, {}, {}, 1.0),
    "noise 5 %": (33, {}, {"noise": 0.05}, 1.0),
    "bias x 3": (34, {}, {"non_uniformity": 0.6}, 1.0),
    "1 x 1 x 1.5 mm": (35, {}, {}, (1.0, 1.0, 1.5)),
    "atrophy": (36, SHRUNK, {}, 1.0),
    "2 mm": (37, {}, {}, 2.0),
}
MIN_REGION = 0.3  # mL


def source_of(path: str | None) -> Source:
    if path is None:
        return template_source()
    with np.load(path) as stored:
        return Source(**{name: stored[name] for name in stored.files})


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def regions_at(head: Head) -> np.ndarray:
    """Atlas label in the middle of each voxel."""
    middle = tuple(slice(factor // 2, None, factor) for factor in head.labels.factors)
    return head.labels.atlas[middle]


def compare(found: Tissues, head: Head) -> dict[str, float]:
    truth = dict(zip(TISSUES, np.moveaxis(head.scan.fractions, -1, 0), strict=True))
    row = {}
    for name in TISSUES:
        row[name] = 100 * (getattr(found, name).sum() / truth[name].sum() - 1)
    total = sum(getattr(found, name).sum() for name in TISSUES)
    row["tiv"] = 100 * (total / head.scan.fractions.sum() - 1)
    for name in TISSUES[:2]:
        row[f"dice_{name}"] = dice(getattr(found, name) > 0.5, truth[name] > 0.5)
    row["dice_mask"] = dice(found.mask, head.scan.brain)
    labels, volume = regions_at(head).ravel(), voxel_volume(head.scan.affine)
    true = np.bincount(labels, truth["gm"].ravel(), 256) * volume
    mine = np.bincount(labels, found.gm.ravel(), 256) * volume
    chosen = (true > MIN_REGION) & (np.arange(256) > 0)
    errors = np.abs(100 * (mine[chosen] / true[chosen] - 1))
    row["roi_median"], row["roi_p90"] = np.percentile(errors, [50, 90])
    return row


def run_case(task: tuple[str | None, str]) -> dict[str, float]:
    path, case = task
    seed, traits, scanner, voxel = CASES[case]
    rng = np.random.default_rng(seed)
    blueprint = prepare_blueprint(source_of(path))
    head = simulate_head(
        blueprint, Traits(**traits), Scanner(**scanner), rng, voxel=np.array(voxel)
    )
    template = read_template()
    start_cpu = time.process_time()
    volume, affine = conform(head.scan.image, head.scan.affine)
    brain, start = locate_brain(volume, affine, template.t1w, template.affine)
    rough = on_grid(brain.mask, brain.affine, volume.shape, affine)
    clean = denoise(volume, rough, voxel_sizes(affine))
    even = divided(clean, brain_field(clean, voxel_sizes(affine), rough))
    found = segment(even, affine, rough, start, template)
    spent = time.process_time() - start_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return compare(found, head) | {"cpu_s": spent, "peak_gb": peak}


def main() -> None:
    sources: list[str | None] = list(sys.argv[1:]) or [None]
    header = False
    for path in sources:
        for case in CASES:
            # a fresh process each, so that the peak of memory is of this head
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                row = pool.submit(run_case, (path, case)).result()
            if not header:
                print(f"{'case':<18}" + "".join(f"{name:>11}" for name in row))
                header = True
            numbers = (
                f"{v:>11.3f}" if name.startswith("dice") else f"{v:>+11.1f}"
                for name, v in row.items()
            )
            print(f"{case:<18}" + "".join(numbers), flush=True)


if __name__ == "__main__":
    main()
