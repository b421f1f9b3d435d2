"""Agreement and CPU seconds of the distortion correction on one person with every kind of map.

    python benchmarks/distortion.py BIDS_FOLDER/sub-LABEL

The person needs `dwi/*_dir-AP_dwi`, `dwi/*_dir-PA_dwi`, `fmap/*_phasediff` and
`fmap/*_magnitude1`. The two ways to the field share no datum, so each judges the other.

The second table has a truth: the corrected b=0 image, distorted anew by the person's own field
map, in both directions, with noise and a known movement between the two.
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
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from alsflow.interfaces.sidecars import read_sidecar
from alsflow.nodes.distortion.gre import field_from_phase, phase_to_radians, shift_from_hz
from alsflow.nodes.distortion.pair import PairField, PairSettings, agreement, field_from_pair
from alsflow.nodes.distortion.phase_encoding import PhaseEncoding, from_sidecar
from alsflow.nodes.distortion.smooth_fields import slope
from alsflow.nodes.distortion.unwarp import unwarp
from alsflow.nodes.geometry import apply_affine, voxel_sizes


def one(folder: Path, pattern: str) -> Path:
    return next(iter(sorted(folder.glob(pattern))))


def first_volume(path: Path) -> tuple[np.ndarray, np.ndarray, PhaseEncoding]:
    stored = nib.load(path)
    encoding = from_sidecar(read_sidecar(path, path.parents[2]), stored.affine, stored.shape)
    image = nib.as_closest_canonical(stored)
    return np.asarray(image.dataobj[..., 0], np.float32), image.affine, encoding


def row(name: str, pair: tuple[np.ndarray, np.ndarray], *rest: str) -> None:
    r, nrmse = agreement(*pair)
    print(f"| {name} | {r:.4f} | {nrmse:.3f} | {' | '.join(rest)} |", flush=True)


def against(found: np.ndarray, expected: np.ndarray, brain: np.ndarray) -> tuple[str, ...]:
    x, y = expected[brain], found[brain]
    r, slope = np.corrcoef(x, y)[0, 1], np.polyfit(x, y, 1)[0]
    return f"{r:.3f}", f"{slope:.2f}", f"{np.median(np.abs(x - y)):.2f}"


def gre_shift(person: Path, affine: np.ndarray, shape: tuple, encoding: PhaseEncoding):
    path = one(person / "fmap", "*_phasediff.nii*")
    meta = read_sidecar(path, person.parent)
    phase, magnitude = (
        nib.as_closest_canonical(nib.load(file))
        for file in (path, one(person / "fmap", "*_magnitude1.nii*"))
    )
    hz = field_from_phase(
        phase_to_radians(phase.get_fdata()),
        magnitude.get_fdata(),
        phase.affine,
        (meta["EchoTime1"], meta["EchoTime2"]),
        np.random.default_rng(0),
    )
    return shift_from_hz(hz, phase.affine, encoding, shape, affine)


def distorted(
    image: np.ndarray, shift: np.ndarray, affine: np.ndarray, axis: int, sign: int, rigid
) -> np.ndarray:
    """Image as a scanner would see it: the inverse of `unwarp`, by fixed point."""
    spacing = voxel_sizes(affine)[axis]
    seen = np.indices(image.shape, dtype=float)
    back = np.linalg.inv(np.linalg.inv(affine) @ rigid @ affine)
    home = apply_affine(back, seen)
    for _ in range(40):
        moved = seen.copy()
        moved[axis] -= sign * map_coordinates(shift, home, order=1, mode="nearest") / spacing
        home = apply_affine(back, moved)
    steep = map_coordinates(slope(shift, axis, spacing), home, order=1, mode="nearest")
    value = map_coordinates(image, home, order=3, mode="nearest")
    return value / np.maximum(1 + sign * steep, 0.15)


def known(image: np.ndarray, shift: np.ndarray, brain: np.ndarray, affine, axis: int) -> None:
    print("\n| noise | moved | field error mean, p95 (mm) | rotation error | translation error |")
    print("|---|---|---|---|---|")
    shift = gaussian_filter(np.clip(shift, -12, 12), 1).astype(float)
    centre = affine[:3, :3] @ ((np.array(image.shape) - 1) / 2) + affine[:3, 3]
    along = affine[:3, axis] / voxel_sizes(affine)[axis]
    rng = np.random.default_rng(0)
    for noise, degrees, step in (
        (0.01, (0, 0, 0), (0, 0, 0)),
        (0.01, (0.8, -0.5, 0.6), (0.5, 0, -0.7)),
        (0.03, (0.8, -0.5, 0.6), (0.5, 0, -0.7)),
    ):
        rigid = np.eye(4)
        rigid[:3, :3] = Rotation.from_rotvec(degrees, degrees=True).as_matrix()
        step = np.array(step) - np.dot(step, along) * along
        rigid[:3, 3] = centre - rigid[:3, :3] @ centre + step
        sd = noise * np.percentile(image, 98)
        first, second = (
            distorted(image, shift, affine, axis, sign, place) + sd * rng.normal(size=image.shape)
            for sign, place in ((1, np.eye(4)), (-1, rigid))
        )
        found = field_from_pair(first, second, affine, axis)
        off = np.abs(found.shift - shift)[brain]
        left = found.rigid_minus_to_plus @ rigid
        turn = np.degrees(Rotation.from_matrix(left[:3, :3]).magnitude())
        away = np.linalg.norm(left[:3, :3] @ centre + left[:3, 3] - centre)
        print(
            f"| {noise:.0%} | {'yes' if np.any(degrees) else 'no'} | {off.mean():.2f}, "
            f"{np.percentile(off, 95):.2f} | {turn:.2f} degrees | {away:.2f} mm |"
        )


def main(person: Path) -> None:
    ap, affine, _ = first_volume(one(person / "dwi", "*_dir-AP_dwi.nii*"))
    pa, _, encoding = first_volume(one(person / "dwi", "*_dir-PA_dwi.nii*"))
    axis = encoding.axis
    start = time.process_time()
    expected = gre_shift(person, affine, pa.shape, encoding)
    seconds = time.process_time() - start
    undone = tuple(unwarp(image, expected, affine, axis, polarity=sign)
                   for image, sign in ((pa, 1), (ap, -1)))  # fmt: skip
    print("| field | r of the b0s | nrmse | r with map | slope | median mm | CPU s |")
    print("|---|---|---|---|---|---|---|")
    row("none", (pa, ap), "", "", "", "")
    row("field map", undone, "", "", "", f"{seconds:.1f}")
    for name, movement in (("pair", True), ("pair, no movement", False)):
        start = time.process_time()
        settings = PairSettings(movement=movement)
        found: PairField = field_from_pair(pa, ap, affine, axis, settings=settings)
        seconds = time.process_time() - start
        brain = median_otsu(found.corrected_plus, median_radius=2, numpass=2)[1].astype(bool)
        pair = (found.corrected_plus, found.corrected_minus)
        row(name, pair, *against(found.shift, expected, brain), f"{seconds:.1f}")
    known(found.corrected_plus, expected, brain, affine, axis)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
