"""Seeds and maps of connectivity: what smoothing does to thin cortex, and what it all costs.

    python benchmarks/connectivity.py

Needs no data but what the installed packages carry. The head is the template itself: its grey
matter, the Neuromorphometrics labels, a turned BOLD grid of 3 x 3 x 3.3 mm and 150 volumes.
"""

from __future__ import annotations

import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import nibabel as nib
import numpy as np
from nilearn.maskers import NiftiLabelsMasker, NiftiMasker
from scipy.spatial.transform import Rotation

from alsflow.interfaces.atlas import find_atlas
from alsflow.interfaces.images import load
from alsflow.interfaces.template import template_file
from alsflow.nodes.func.connectivity import Area, mean_series, seed_maps
from alsflow.nodes.func.regions import bold_voxels, label_shares, place_region, tissue_on_bold
from alsflow.nodes.func.template_maps import maps_to_template
from alsflow.nodes.geometry import grid_over, grid_points, resample, voxel_volume

SHAPE = (62, 72, 42)
VOLUMES = 150
CONNECTION = 0.5  # z everywhere in grey matter
LOSSES = (0.0, 0.1, 0.2, 0.3)  # share of the grey matter of the precentral gyrus


def bold_affine():
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", [12, -4, 6], degrees=True).as_matrix()
    affine[:3, :3] = turn * (3.0, 3.0, 3.3)
    affine[:3, 3] = np.array([0, -18, 15]) - affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    return affine


def head():
    """Grey matter, brain and labels of the template on its 1 mm grid."""
    gm, image = load(template_file("gm"))
    wm, _ = load(template_file("wm"))
    atlas = find_atlas("neuromorphometrics")
    labels, picture = load(atlas.image, np.int32)
    labels = resample(labels, picture.affine, gm.shape, image.affine, order=0)
    return gm / 255, (gm + wm) / 255 > 0.3, labels, image.affine, atlas


def thinning(gm, brain, labels, affine, motor):
    """Smoothed connection of a gyrus that thins, though the connection is everywhere the same."""
    shape, target = grid_over(gm.shape, affine, 2.0)
    inside = resample(np.isin(labels, motor).astype(np.float32), affine, shape, target) > 0.5
    seen = np.ones(SHAPE, bool)
    points = grid_points(shape, target)
    print("grey matter lost   within the mask   plain   plain, relative to none lost")
    first = None
    for loss in LOSSES:
        thin = np.where(np.isin(labels, motor), (1 - loss) * gm, gm).astype(np.float32)
        tissue, mask = tissue_on_bold(brain, [thin], affine, seen, bold_affine(), np.eye(4))
        grey = (tissue[..., 0] >= 0.25) & mask
        values = np.where(grey, CONNECTION, 0)[..., None]
        found = [
            maps_to_template(values, grey, mask, bold_affine(), points, target, 8.0, plain)[0]
            for plain in (False, True)
        ]
        here = inside & np.isfinite(found[0][..., 0])
        within, plain = (float(f[..., 0][here].mean()) for f in found)
        first = first or plain
        print(f"{loss:16.0%} {within:17.3f} {plain:7.3f} {100 * (plain / first - 1):14.1f} %")


def criteria(gm, brain, labels, affine, atlas):
    """Voxels of the precentral gyrus by the share that is asked."""
    voxels_in = np.ones(SHAPE, bool)
    started = time.process_time()
    tissue, mask = tissue_on_bold(brain, [gm, gm, gm], affine, voxels_in, bold_affine(), np.eye(4))
    tissue_cpu = time.process_time() - started
    started = time.process_time()
    voxels = bold_voxels(mask, bold_affine(), np.eye(4), affine)
    found = label_shares(labels, gm, affine, voxels, [label.index for label in atlas.labels])
    print(
        f"\ntissue {tissue_cpu:.1f} CPU s, label shares {time.process_time() - started:.1f} CPU s"
    )
    size = voxel_volume(bold_affine())
    for side in ("left", "right"):
        share, volume = found.union(atlas.regions["precentral"][side])
        counts = ", ".join(f"{least}: {(share >= least).sum()}" for least in (0.3, 0.4, 0.5, 0.6))
        placed = place_region("precentral", side, atlas.regions["precentral"], found, size)
        print(f"precentral {side}: {volume:.1f} mL, coverage {placed.coverage:.3f}; "
              f"voxels by least share {counts}")  # fmt: skip
    return tissue[..., 0], mask


def speed(grey, mask):
    """Seed-to-voxel maps here and by nilearn."""
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((*SHAPE, VOLUMES)).astype(np.float32)
    seed = np.zeros(SHAPE, np.int32)
    seed[20:26, 30:36, 20:26] = 1
    seed[~mask] = 0
    area = Area("seed", "", seed[mask] > 0)
    started = time.process_time()
    inside = signal[mask]
    ours, valued = seed_maps(mean_series(inside, [area]), inside, grey[mask] >= 0.25)
    our_cpu = time.process_time() - started
    image = nib.Nifti1Image(signal, bold_affine())
    covered = np.zeros(SHAPE, np.int8)
    covered[mask] = valued
    started = time.process_time()
    series = NiftiLabelsMasker(nib.Nifti1Image(seed, bold_affine()), standardize="zscore_sample")
    masker = NiftiMasker(nib.Nifti1Image(covered, bold_affine()), standardize="zscore_sample")
    theirs = masker.fit_transform(image).T @ series.fit_transform(image) / (VOLUMES - 1)
    cpu = time.process_time() - started
    worst = np.abs(ours[0, valued] - theirs[:, 0]).max()
    print(f"\nseed to {valued.sum()} voxels, {VOLUMES} volumes: {our_cpu:.2f} CPU s; nilearn "
          f"{cpu:.2f}; largest difference of r {worst:.1e}")  # fmt: skip
    z = np.arctanh(ours[0, valued & ~area.members])
    print(f"white noise: mean z {z.mean():.5f}, SD {z.std():.4f} (1/sqrt(n - 3) = "
          f"{1 / np.sqrt(VOLUMES - 3):.4f})")  # fmt: skip


def main():
    gm, brain, labels, affine, atlas = head()
    motor = [label for side in atlas.regions["precentral"].values() for label in side]
    thinning(gm, brain, labels, affine, motor)
    speed(*criteria(gm, brain, labels, affine, atlas))


if __name__ == "__main__":
    main()
