"""How exactly and how fast echo-planar images are placed on real heads, and what gives them away.

    python benchmarks/coregistration.py DERIVATIVES DATASET [LABEL ...]

DERIVATIVES holds finished anatomical outputs, DATASET the images. For every diffusion series
(mean b=0 and mean weighted image) and every BOLD run (mean volume without coil shading): the
place found; the mean distance in the brain between it and the places found after the header was
spoilt by 10 mm and 10 degrees in ten directions and by 60 mm and 30 degrees in two; and the share
of the border with the right sign at places that are wrong by 3, 5 and 10 mm and by 5 and 10
degrees.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import nibabel as nib
import numpy as np
from dipy.segment.mask import median_otsu
from scipy.spatial.transform import Rotation

from alsflow.nodes.epi.coregister import boundary, coregister, quality
from alsflow.nodes.func.brain_mask import find_brain, mean_volume
from alsflow.nodes.geometry import apply_affine, voxel_sizes

SPOILT = ((10, 10),) * 10 + ((60, 30),) * 2  # mm, degrees
WRONG = ((3, 0), (5, 0), (10, 0), (0, 5), (0, 10))
DRAWS = 8


def motion(rng, shift, turn, centre):
    """Rigid motion by `shift` mm and `turn` degrees in random directions."""
    along, about = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.deg2rad(turn) * about).as_matrix()
    matrix[:3, 3] = centre + shift * along - matrix[:3, :3] @ centre
    return matrix


def head(folder: Path, label: str) -> dict:
    stem = folder / f"sub-{label}" / "anat" / f"sub-{label}"
    names = {"brain": "desc-brain_mask", "gm": "label-GM_probseg", "wm": "label-WM_probseg"}
    images = {k: nib.load(f"{stem}_{name}.nii.gz") for k, name in names.items()}
    found = {k: np.asarray(image.dataobj, np.float32) for k, image in images.items()}
    return found | {"brain": found["brain"] > 0, "t1w_affine": images["gm"].affine}


def references(folder: Path, label: str):
    """Name, image, affine and mask of what is to be placed."""
    for path in sorted((folder / f"sub-{label}").glob("*/*.nii.gz")):
        if path.parent.name not in ("dwi", "func"):
            continue
        image = nib.as_closest_canonical(nib.load(path))
        series, name = np.asarray(image.dataobj, np.float32), path.name.removesuffix(".nii.gz")
        if path.parent.name == "func":
            mean = mean_volume(series)
            brain = find_brain(mean, voxel_sizes(image.affine))
            yield name, brain.even, image.affine, brain.mask
            continue
        plain = np.loadtxt(path.with_name(f"{name}.bval")) <= 50
        for kind, chosen in (("b0", plain), ("weighted", ~plain)):
            mean = series[..., chosen].mean(-1)
            mask = median_otsu(mean, median_radius=2, numpass=2)[1]
            yield f"{name} {kind}", mean, image.affine, mask


def report(name, image, affine, mask, maps) -> None:
    rng = np.random.default_rng(1)
    start = time.process_time()
    found = coregister(image, affine, mask, **maps)
    spent = time.process_time() - start
    inside = apply_affine(maps["t1w_affine"], np.argwhere(maps["brain"])[::997].T)
    centre = inside.mean(axis=1)
    far = []
    for shift, turn in SPOILT:
        change = motion(rng, shift, turn, centre)
        other = coregister(image, change @ affine, mask, **maps).matrix @ change
        away = apply_affine(other @ np.linalg.inv(found.matrix), inside) - inside
        far.append(float(np.sqrt((away**2).sum(axis=0)).mean()))
    border = boundary(maps["gm"], maps["wm"], maps["t1w_affine"])
    sign = 1.0 if quality_at(image, affine, mask, maps, border, found.matrix, 1.0) > 0.5 else -1.0
    shares = []
    for shift, turn in WRONG:
        places = [motion(rng, shift, turn, centre) @ found.matrix for _ in range(DRAWS)]
        shares.append(max(quality_at(image, affine, mask, maps, border, m, sign) for m in places))
    far_text, share_text = (" ".join(f"{x:.2f}" for x in part) for part in (far, shares))
    print(
        f"{name}: {spent:.1f} CPU s, start {found.start}, "
        f"right {found.metrics['boundary_right']:.2f}, dice {found.metrics['mask_dice']:.2f}, "
        f"flags {len(found.flags)}; spoilt, mm: {far_text}; right when wrong: {share_text}",
        flush=True,
    )


def quality_at(image, affine, mask, maps, border, matrix, sign) -> float:
    """Share of the border with the right sign at one place."""
    metrics = quality(image, affine, mask, maps["brain"], maps["t1w_affine"], border, matrix, sign)
    return metrics["boundary_right"]


def main() -> None:
    derivatives, dataset = map(Path, sys.argv[1:3])
    labels = sys.argv[3:] or sorted(p.name[4:] for p in dataset.glob("sub-*"))
    for label in labels:
        maps = head(derivatives, label)
        for name, image, affine, mask in references(dataset, label):
            report(name, image, affine, mask, maps)


if __name__ == "__main__":
    main()
