"""Noise of the T1-weighted image: removal and estimate."""

from __future__ import annotations

import cat_surf
import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.anat.morphology import bounds

MARGIN = 20.0  # mm; what is kept around the brain: its neighbourhood and the skull


def denoise(volume: NDArray, region: NDArray, zooms: NDArray) -> NDArray:
    """Spatially adaptive non-local means [1]_, computed by CAT12's own code.

    The Gaussian variant: the Rician one shifts dark voxels, and with them the CSF.

    Parameters
    ----------
    volume : (x, y, z) array
        Intensities.
    region : (x, y, z) bool array
        What must be clean; a box around it is filtered, the rest is returned as it came.
    zooms : (3,) array
        Voxel size, mm.

    Returns
    -------
    (x, y, z) float32 array

    References
    ----------
    .. [1] Manjon et al. (2010). J Magn Reson Imaging 31:192-203. doi:10.1002/jmri.22003
    """
    box = bounds(region, MARGIN, zooms)
    cleaned = np.array(volume, dtype=np.float32)
    part = cat_surf.vol_sanlm(np.asfortranarray(cleaned[box]), is_rician=False)
    cleaned[box] = np.maximum(part, 0)
    return cleaned
