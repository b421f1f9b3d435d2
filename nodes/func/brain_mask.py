"""Brain in a functional series, from its mean volume alone.

The mask serves the steps before the series is in place on the T1-weighted head, whose mask is
the better one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.dwi.brain_mask import VOLUME_LIMITS, brain_of
from alsflow.nodes.errors import BadInputError


def mean_volume(signal: NDArray) -> NDArray:
    """Mean (x, y, z) float32 over the volumes of a series, summed in 64 bits."""
    total = np.zeros(signal.shape[:3])
    for volume in range(signal.shape[3]):
        total += signal[..., volume]
    return (total / signal.shape[3]).astype(np.float32)


def find_brain(mean: NDArray, zooms: NDArray) -> NDArray:
    """Find the brain in the mean volume of a whole head or of a slab.

    Parameters
    ----------
    mean : (x, y, z) array
        Mean BOLD volume, not below zero.
    zooms : (3,) array
        Voxel size, mm.

    Returns
    -------
    (x, y, z) bool array
    """
    mask = brain_of(mean, zooms)
    volume = mask.sum() * np.prod(zooms) / 1000
    if not VOLUME_LIMITS[0] <= volume <= VOLUME_LIMITS[1]:
        raise BadInputError(
            f"shows no brain that could be told from its surroundings ({volume:.0f} mL found); "
            "check that the series is BOLD images of a head"
        )
    return mask
