"""ALFF, fALFF and ReHo: time, what gaps do to the spectrum, what the edge of the brain does.

python benchmarks/local_measures.py
"""

import resource
import time

import numpy as np

from alsflow.nodes.func.alff import measure_alff
from alsflow.nodes.func.reho import measure_reho

TR, VOLUMES, SHAPE = 2.0, 150, (48, 44, 32)
SEED = 20


def coloured(rng, voxels, volumes):
    """Noise whose amplitude falls from slow to fast as that of cortex: white plus 1 / f."""
    spectrum = np.fft.rfft(rng.normal(size=(voxels, 4 * volumes)))
    frequency = np.fft.rfftfreq(4 * volumes, TR)
    frequency[0] = frequency[1]
    slow = np.fft.irfft(spectrum / np.sqrt(1 + (frequency / 0.05) ** 2) ** 2)
    return (2 * slow + rng.normal(size=slow.shape) / 2)[:, :volumes]


def timing(rng):
    print(f"{np.prod(SHAPE)} voxels, {VOLUMES} volumes")
    data = rng.normal(size=(*SHAPE, VOLUMES)).astype(np.float32)
    mask, runs = np.ones(SHAPE, bool), np.zeros(VOLUMES, int)
    start = time.process_time()
    measure_alff(data[mask], runs == 0, runs, TR)
    print(f"  ALFF and fALFF      {time.process_time() - start:5.2f} CPU s")
    for neighbours in (27, 19, 7):
        start = time.process_time()
        measure_reho(data, mask, runs, neighbours)
        print(f"  ReHo, {neighbours:2d} neighbours {time.process_time() - start:5.2f} CPU s")
    print(f"  {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB at most")


def gaps(rng):
    """Bias of the group mean and scatter over voxels against the same series without gaps."""
    print("share censored: change of ALFF and fALFF, mean % (SD over voxels %)")
    series, runs = coloured(rng, 2000, VOLUMES), np.zeros(VOLUMES, int)
    whole = measure_alff(series, runs == 0, runs, TR)
    for share in (0.05, 0.1, 0.2, 0.3, 0.5):
        for kind in ("single", "bouts"):
            kept = np.ones(VOLUMES, bool)
            length = 1 if kind == "single" else 5
            while 1 - kept.mean() < share - 0.5 / VOLUMES:
                first = rng.integers(0, VOLUMES)
                kept[first : first + length] = False
            if kept.mean() < 0.5:
                continue
            found = measure_alff(series, kept, runs, TR)
            text = [
                f"{100 * change.mean():+5.1f} ({100 * change.std():4.1f})"
                for change in (found.alff / whole.alff - 1, found.falff / whole.falff - 1)
            ]
            print(f"  {share:4.0%} {kind:7s} ALFF {text[0]}   fALFF {text[1]}")


def edge(rng):
    """W of one field, seen with all neighbours and with those of one side alone."""
    print("W with 27 neighbours and with fewer; expected from the mean rank correlation")
    field = rng.normal(size=(*SHAPE, VOLUMES))
    for strength in (0.0, 0.5, 1.0):
        data = field + strength * rng.normal(size=VOLUMES)
        mask, runs = np.ones(SHAPE, bool), np.zeros(VOLUMES, int)
        whole, _ = measure_reho(data, mask, runs)
        inside = whole[1:-1, 1:-1, 1:-1].mean()
        face, count = measure_reho(data[10:], mask[10:], runs)
        plane, least = face[0, 1:-1, 1:-1].mean(), count[0, 5, 5]
        rho = (27 * inside - 1) / 26
        expected = (1 + (least - 1) * rho) / least
        print(f"  27: {inside:.3f}   {least}: {plane:.3f}   expected {expected:.3f}")


if __name__ == "__main__":
    for part in (timing, gaps, edge):
        part(np.random.default_rng(SEED))
