"""Agreement and CPU seconds of the distortion correction on one person with every kind of map.

    python benchmarks/distortion.py BIDS_FOLDER/sub-LABEL

The person needs `dwi/*_dir-AP_dwi`, `dwi/*_dir-PA_dwi`, `fmap/*_phasediff` and
`fmap/*_magnitude1`. The two ways to the field share no datum, so each judges the other.
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

from alsflow.interfaces.sidecars import read_sidecar
from alsflow.nodes.distortion.gre import field_from_phase, phase_to_radians, shift_from_hz
from alsflow.nodes.distortion.pair import PairField, PairSettings, agreement, field_from_pair
from alsflow.nodes.distortion.phase_encoding import PhaseEncoding, from_sidecar
from alsflow.nodes.distortion.unwarp import unwarp


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


if __name__ == "__main__":
    main(Path(sys.argv[1]))
