"""The final brain mask: everything inside the skull, CSF over the convexity included.

The template says only roughly where the skull begins, and most of all not in a brain that has
shrunk. What fills the skull and what lies beyond differ in intensity a little at each voxel:
both are put together by a field in which neighbours draw each other to their side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.anat.mixture import BINS, OUTER, smooth_histogram
from alsflow.nodes.anat.morphology import CROSS, close_gaps, dilate, erode, largest
from alsflow.nodes.anat.priors import NEAR, NEAR_LIMIT, OTHER, WM

OPENING = 2.1  # mm; bridges to the scalp are thinner
REGROWTH = 1.1  # mm, beyond what the opening took
CLOSING = 4.0  # mm; narrow sulci
FIELD_SIGMA = 1.5  # mm, reach of the neighbours
FIELD_STRENGTH = 3.0  # log odds that unanimous neighbours add
FIELD_TURNS = 10
FAR = 0.98  # prior of not being brain above which the intensities are those of the outside
OUTSIDE_ODDS = 10.0
SKULL_TURNS = 3
FOLLOW_SIGMA = 4.0  # mm
EVIDENCE_LIMIT = 4.0  # log odds; no single voxel is believed further
TISSUE_REACH = 1.2  # mm beyond solid tissue where a voxel may hold a share of tissue


@dataclass(frozen=True)
class Grid:
    """Some voxels of a grid."""

    shape: tuple[int, ...]
    at: tuple[NDArray, ...]  # three index arrays (n,)
    zooms: NDArray  # (3,) mm

    def lay(self, values: NDArray, empty: float = 0.0) -> NDArray:
        """Volume that holds the values (n,) at the voxels."""
        volume = np.full(self.shape, empty, np.float32)
        volume[self.at] = values
        return volume


def settle(odds: NDArray, zooms: NDArray) -> NDArray:
    """Probability of the inside under neighbours that agree: a mean field.

    Parameters
    ----------
    odds : (x, y, z) array
        Log odds of inside against outside, each voxel by itself.
    zooms : (3,) array
        Voxel size, mm.
    """
    inside = 1 / (1 + np.exp(-odds))
    for _ in range(FIELD_TURNS):
        around = ndimage.gaussian_filter(inside, FIELD_SIGMA / zooms, mode="nearest", truncate=3)
        inside = 1 / (1 + np.exp(-(odds + FIELD_STRENGTH * (2 * around - 1))))
    return inside.astype(np.float32)


def inside_skull(
    bins: NDArray, prior: NDArray, likelihood: NDArray, priors: NDArray, grid: Grid
) -> NDArray:
    """Probability (n,) that each voxel lies inside the skull.

    Parameters
    ----------
    bins : (n,) int array
        Intensity bin of each voxel.
    prior : (8, n) array
        Prior of each class.
    likelihood : (8, BINS) array
        Of each intensity in each class.
    priors : (7, n) array
        What the template expects, see `nodes.anat.priors`.
    grid : Grid
        Where the voxels lie.
    """
    brain = np.delete(prior, OUTER, axis=0)
    like = (brain * np.delete(likelihood, OUTER, axis=0)[:, bins]).sum(axis=0)
    like /= brain.sum(axis=0) + 1e-6
    far = bins[priors[OTHER] > FAR]
    beyond = smooth_histogram(np.bincount(far, minlength=BINS) + 1.0)[bins]
    ratio = np.clip(np.log(like + 1e-3) - np.log(beyond), -EVIDENCE_LIMIT, EVIDENCE_LIMIT)
    expected = near = log_odds(priors[NEAR])
    for turn in range(SKULL_TURNS):
        inside = settle(grid.lay(ratio + expected, -OUTSIDE_ODDS), grid.zooms)
        if turn + 1 < SKULL_TURNS:
            # the template errs by whole regions: let half its word follow what was found
            found = ndimage.gaussian_filter(inside, FOLLOW_SIGMA / grid.zooms)[grid.at]
            expected = (near + log_odds(found)) / 2
    return inside[grid.at]


def log_odds(probability: NDArray) -> NDArray:
    """Log odds, kept from the extremes."""
    bounded = np.clip(probability, NEAR_LIMIT, 1 - NEAR_LIMIT)
    return np.log(bounded / (1 - bounded))


def with_edge(priors: NDArray, inside: NDArray) -> NDArray:
    """Priors whose border between brain and not brain is replaced by what was found."""
    moved = priors.copy()
    inside = np.clip(inside, NEAR_LIMIT, 1 - NEAR_LIMIT)
    moved[: WM + 1] *= inside / (priors[: WM + 1].sum(axis=0) + 1e-6)
    moved[OTHER] = 1 - inside
    return moved


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
