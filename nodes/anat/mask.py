"""The final brain mask: tissue, and the CSF around it out to the inner skull."""

from __future__ import annotations

from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.anat.morphology import CROSS, close_gaps, dilate, erode, largest

OPENING = 2.1  # mm; bridges to the scalp are thinner
RIM = 6.0  # mm; CSF over the convexity is thinner than this
CLOSING = 4.0  # mm; narrow sulci


def brain_mask(tissue: NDArray, brain: NDArray, zooms: NDArray) -> NDArray:
    """Mark connected tissue with its rim of CSF, closed over the sulci and without holes.

    Parameters
    ----------
    tissue : (x, y, z) array
        Fraction of grey plus white matter.
    brain : (x, y, z) array
        Probability of lying inside the skull.
    zooms : (3,) array
        Voxel size, mm.
    """
    solid = (tissue > 0.5) & (brain > 0.5)
    core = largest(erode(solid, OPENING, zooms))
    grown = dilate(core, OPENING + 1.1, zooms) & solid
    sure = solid & (brain > 0.8)
    grown |= ndimage.binary_dilation(grown, CROSS, iterations=2, mask=sure | grown)
    mask = grown | (dilate(grown, RIM, zooms) & (brain > 0.5))
    mask = close_gaps(mask, CLOSING, zooms) & ((brain > 0.25) | mask)
    return ndimage.binary_fill_holes(largest(ndimage.binary_opening(mask, CROSS)))
