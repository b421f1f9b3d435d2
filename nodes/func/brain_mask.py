"""Brain in a functional series, from its mean volume alone.

The mask serves the steps before the series is in place on the T1-weighted head, whose mask is
the better one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.anat.bias import n4_field
from alsflow.nodes.anat.morphology import erode
from alsflow.nodes.dwi.brain_mask import VOLUME_LIMITS, brain_of
from alsflow.nodes.errors import BadInputError

SHRINK = 6.0  # mm, voxel of the copy that N4 fits
N4_ITERATIONS = (20, 20, 20, 20)  # four levels: many near coils make a steep field


@dataclass(frozen=True)
class Brain:
    """Brain of one series.

    Attributes
    ----------
    mask : (x, y, z) bool array
        Brain with its ventricles and sulci, where it has signal.
    even : (x, y, z) float32 array
        Mean volume, divided by the receive field.
    """

    mask: NDArray
    even: NDArray


def mean_volume(signal: NDArray) -> NDArray:
    """Mean (x, y, z) float32 over the volumes of a series, summed in 64 bits."""
    total = np.zeros(signal.shape[:3])
    for volume in range(signal.shape[3]):
        total += signal[..., volume]
    return (total / signal.shape[3]).astype(np.float32)


def find_brain(mean: NDArray, zooms: NDArray) -> Brain:
    """Find the brain in the mean volume of a whole head or of a slab.

    Parameters
    ----------
    mean : (x, y, z) array
        Mean BOLD volume, not below zero.
    zooms : (3,) array
        Voxel size, mm.
    """
    mask = brain_of(mean, zooms)
    volume = mask.sum() * np.prod(zooms) / 1000
    if not VOLUME_LIMITS[0] <= volume <= VOLUME_LIMITS[1]:
        raise BadInputError(
            f"shows no brain that could be told from its surroundings ({volume:.0f} mL found); "
            "check that the series is BOLD images of a head"
        )
    inside = erode(mask, max(zooms), zooms)
    field = n4_field(mean, zooms, inside, SHRINK, N4_ITERATIONS)
    return Brain(mask, (mean / field).astype(np.float32))
