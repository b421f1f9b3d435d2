"""The final brain mask: everything inside the skull, CSF over the convexity included.

The template says only roughly where the skull begins, and most of all not in a brain that has
shrunk. What fills the skull and what lies beyond differ in intensity a little at each voxel:
both are put together by a field in which neighbours draw each other to their side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.anat.morphology import CROSS, close_gaps, dilate, erode, largest

OPENING = 2.1  # mm; bridges to the scalp are thinner
REGROWTH = 1.1  # mm, beyond what the opening took
CLOSING = 4.0  # mm; narrow sulci
FIELD_SIGMA = 1.5  # mm, reach of the neighbours
FIELD_STRENGTH = 3.0  # log odds that unanimous neighbours add
FIELD_TURNS = 10
EVIDENCE_LIMIT = 4.0  # log odds; no single voxel is believed further
TISSUE_REACH = 1.2  # mm beyond solid tissue where a voxel may hold a share of tissue


def settle(log_odds: NDArray, zooms: NDArray) -> NDArray:
    """Probability of the inside under neighbours that agree: a mean field.

    Parameters
    ----------
    log_odds : (x, y, z) array
        Of inside against outside, each voxel by itself.
    zooms : (3,) array
        Voxel size, mm.
    """
    inside = 1 / (1 + np.exp(-log_odds))
    for _ in range(FIELD_TURNS):
        around = ndimage.gaussian_filter(inside, FIELD_SIGMA / zooms, mode="nearest", truncate=3)
        inside = 1 / (1 + np.exp(-(log_odds + FIELD_STRENGTH * (2 * around - 1))))
    return inside.astype(np.float32)


def solid_tissue(tissue: NDArray, inside: NDArray, zooms: NDArray) -> NDArray:
    """Find connected grey and white matter, thin bridges to the scalp cut.

    Parameters
    ----------
    tissue : (x, y, z) array
        Fraction of grey plus white matter.
    inside : (x, y, z) array
        Probability of lying inside the skull.
    zooms : (3,) array
        Voxel size, mm.
    """
    solid = (tissue > 0.5) & (inside > 0.5)
    core = largest(erode(solid, OPENING, zooms))
    grown = dilate(core, OPENING + REGROWTH, zooms) & solid
    sure = solid & (inside > 0.8)
    return grown | ndimage.binary_dilation(grown, CROSS, iterations=3, mask=sure | grown)


def fill_skull(solid: NDArray, inside: NDArray, zooms: NDArray) -> NDArray:
    """Grow solid tissue out to the skull and close it over the sulci."""
    full = inside > 0.5
    core = largest(erode(full | solid, OPENING, zooms) | solid)
    mask = (dilate(core, OPENING + 0.5, zooms) & full) | solid
    mask = close_gaps(mask, CLOSING, zooms) & ((inside > 0.25) | mask)
    return ndimage.binary_fill_holes(largest(ndimage.binary_opening(mask, CROSS)))
