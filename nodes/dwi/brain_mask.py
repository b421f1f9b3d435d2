"""Brain in a diffusion series, from the series alone.

CSF is bright without weighting and dark with it, the eyes and most of the scalp likewise; only
tissue is bright in both. The geometric mean of the two is therefore looked at. The mask serves the
steps before the series is in place on the T1-weighted head, whose mask is the better one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.anat.bias import n4_field
from alsflow.nodes.anat.morphology import CROSS, close_gaps, dilate, erode, largest
from alsflow.nodes.dwi.gradients import Gradients
from alsflow.nodes.errors import BadInputError

EDGE = 0.5  # of the tissue's level, where brain ends
SHRINK = 8.0  # mm, voxel of the copy that N4 fits
N4_ITERATIONS = (20, 20, 20)
OPENING = 4.5  # mm; bridges to eyes and scalp are thinner
CLOSING = 8.0  # mm; sulci and fissures
VOLUME_LIMITS = (100.0, 2500.0)  # mL; less is no brain, not even a slab's, and more is none
SETTLED = 0.01  # relative change of the level


@dataclass(frozen=True)
class Brain:
    """Brain of one series.

    Attributes
    ----------
    mask : (x, y, z) bool array
        Brain with its ventricles and sulci.
    field : (x, y, z) float32 array
        Receive field of the mean b=0 volume, median 1 in the mask.
    b0 : (x, y, z) float32 array
        Mean b=0 volume, divided by that field.
    """

    mask: NDArray
    field: NDArray
    b0: NDArray


def find_brain(signal: NDArray, gradients: Gradients, zooms: NDArray) -> Brain:
    """Find the brain in a series of a whole head or of a slab.

    Parameters
    ----------
    signal : (x, y, z, n) array
        Diffusion series.
    gradients : Gradients
        Its weighting.
    zooms : (3,) array
        Voxel size, mm.
    """
    mean_b0 = average(signal, gradients.b0)
    tissue = mean_b0
    if not gradients.b0.all():
        tissue = np.sqrt(mean_b0 * average(signal, ~gradients.b0))
    mask = brain_of(tissue, zooms)
    volume = mask.sum() * np.prod(zooms) / 1000
    if not VOLUME_LIMITS[0] <= volume <= VOLUME_LIMITS[1]:
        raise BadInputError(
            f"shows no brain that could be told from its surroundings ({volume:.0f} mL found); "
            "check that the series is diffusion-weighted images of a head"
        )
    field = n4_field(mean_b0, zooms, erode(mask, max(zooms), zooms), SHRINK, N4_ITERATIONS)
    return Brain(mask, field, (mean_b0 / field).astype(np.float32))


def average(signal: NDArray, chosen: NDArray) -> NDArray:
    """Mean (x, y, z) of the volumes chosen, values that are no number left out.

    Never below 0: interpolation and unringing overshoot beside edges.
    """
    total = np.zeros(signal.shape[:3])
    for volume in np.flatnonzero(chosen):
        total += np.nan_to_num(signal[..., volume])
    return np.maximum(total / chosen.sum(), 0).astype(np.float32)


def brain_of(tissue: NDArray, zooms: NDArray) -> NDArray:
    """Brain mask of an image in which brain is the largest bright thing."""
    mask = brightest_piece(tissue, zooms, None)
    # once more with the field of the brain itself
    return close_slab(brightest_piece(tissue, zooms, mask) if mask.any() else mask, zooms)


def brightest_piece(tissue: NDArray, zooms: NDArray, mask: NDArray | None) -> NDArray:
    """Largest piece above half the tissue's level, the field found in `mask` divided out."""
    even = tissue / n4_field(tissue, zooms, mask, SHRINK, N4_ITERATIONS)
    return freed(even > EDGE * tissue_level(even, mask), zooms)


def tissue_level(even: NDArray, mask: NDArray | None) -> float:
    """Intensity of brain: the median above half of itself."""
    values = even[even > 0] if mask is None else even[mask]
    level = float(np.percentile(values, 98)) / 2
    for _ in range(50):
        fresh = float(np.median(values[values > EDGE * level]))
        if abs(fresh / level - 1) < SETTLED:
            break
        level = fresh
    return level


def freed(bright: NDArray, zooms: NDArray) -> NDArray:
    """Largest bright piece once thin bridges are cut, grown back into what was bright."""
    # the faces of the image count as inside: a slab's brain ends there
    filled = ndimage.binary_closing(np.pad(bright, 1, mode="edge"), CROSS)[1:-1, 1:-1, 1:-1]
    core = largest(erode(filled | bright, OPENING, zooms))
    if not core.any():
        return core
    return dilate(core, OPENING + max(zooms) / 2, zooms) & bright | core


def close_slab(mask: NDArray, zooms: NDArray) -> NDArray:
    """Close sulci and fill holes, also those open to the first or last slice only."""
    if not mask.any():
        return mask
    closed = close_gaps(mask, CLOSING, zooms)
    for axis in range(3):
        faces = np.moveaxis(closed, axis, 0)
        for face in (0, -1):
            faces[face] = ndimage.binary_fill_holes(faces[face])
    return ndimage.binary_fill_holes(closed)
