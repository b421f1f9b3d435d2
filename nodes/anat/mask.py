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

from alsflow.nodes.anat.mixture import BINS, OUTER, expected_fractions, smooth_histogram
from alsflow.nodes.anat.morphology import (
    CROSS,
    close_gaps,
    dilate,
    distance_outside,
    erode,
    largest,
)
from alsflow.nodes.anat.priors import GM, NEAR, NEAR_LIMIT, OTHER, WM

OPENING = 2.1  # mm; bridges to the scalp are thinner
REGROWTH = 1.1  # mm, beyond what the opening took
CLOSING = 4.0  # mm; narrow sulci
FIELD_SIGMA = 1.5  # mm, reach of the neighbours
FIELD_STRENGTH = 3.0  # log odds that unanimous neighbours add
FIELD_TURNS = 10
FAR = 0.98  # prior of not being brain above which the intensities are those of the outside
OUTSIDE_ODDS = 10.0
TEMPLATE_WEIGHT = 0.3  # of the template's log odds: where CSF is wide, it is by whole regions
RIM, RIM_SPREAD = 2.5, 1.0  # mm, from the hull of the brain to the skull
HULL_CLOSING, HULL_VOXEL = 8.0, 2.0  # mm
BONE_SHARE = 0.3  # of what lies beyond
BLADE = 15.0  # mm, from the thick white matter into the blades of the gyri
CORTEX = 5.5  # mm; grey matter lies within so much of white matter
CORTEX_OPENING = 1.1  # mm; bridges between cortex and membranes are thinner
EVIDENCE_LIMIT = 4.0  # log odds; no single voxel is believed further
# a voxel may hold a share of tissue so many mm beyond the hull, or where the template is sure
TISSUE_REACH, TISSUE_DOUBT = 1.5, 0.3


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
    bins: NDArray,
    prior: NDArray,
    likelihood: NDArray,
    fraction: NDArray,
    priors: NDArray,
    grid: Grid,
) -> tuple[NDArray, NDArray, NDArray]:
    """Find what lies inside the skull, from tissue outwards.

    Parameters
    ----------
    bins : (n,) int array
        Intensity bin of each voxel.
    prior : (8, n) array
        Prior of each class.
    likelihood, fraction : (8, BINS) and (8, 3, BINS) array
        Of each class at each intensity, see `nodes.anat.mixture`.
    priors : (7, n) array
        What the template expects, see `nodes.anat.priors`.
    grid : Grid
        Where the voxels lie.

    Returns
    -------
    inside : (n,) array
        Probability of lying inside the skull.
    solid : (x, y, z) bool array
        Connected grey and white matter.
    distance : (n,) array
        To the hull of the solid tissue, mm, zero inside.
    """
    weighted = prior * likelihood[:, bins]
    weighted[OUTER] = 0
    brain = weighted.sum(axis=0)
    parts = expected_fractions(bins, weighted / (brain + 1e-12), fraction)
    tissue = grid.lay(parts[GM] + parts[WM])
    sure = grid.lay(1 - priors[OTHER]) > 1 - TISSUE_DOUBT
    solid = solid_tissue(grid.lay(parts[WM]), tissue, sure, grid.zooms)
    brain /= 1 - prior[OUTER] + 1e-6
    evidence = np.log(brain + 1e-3) - np.log(density_beyond(bins, priors, fraction)[bins])
    odds = np.clip(evidence, -EVIDENCE_LIMIT, EVIDENCE_LIMIT)
    odds += TEMPLATE_WEIGHT * log_odds(priors[NEAR])
    distance = distance_to_hull(solid, grid)
    odds += (RIM - distance) / RIM_SPREAD
    return settle(grid.lay(odds, -OUTSIDE_ODDS), grid.zooms)[grid.at], solid, distance


def density_beyond(bins: NDArray, priors: NDArray, fraction: NDArray) -> NDArray:
    """Density of intensities outside the skull's inner face: bone, and what is seen farther out.

    Bone is everywhere thin and nowhere common enough to rely on its histogram.
    """
    far = bins[priors[OTHER] > FAR]
    seen = smooth_histogram(np.bincount(far, minlength=BINS) + 1.0)
    dark = np.zeros(BINS)
    # the table of the mixed class says up to which intensity there is nothing but CSF
    pure = int(np.argmax(fraction[1, GM] > 0.05))
    dark[: max(pure, 1)] = 1
    return (1 - BONE_SHARE) * seen + BONE_SHARE * smooth_histogram(dark)


def distance_to_hull(solid: NDArray, grid: Grid) -> NDArray:
    """Distance (n,) of each voxel to the brain's hull, mm, zero inside; sulci are bridged."""
    step = np.maximum(np.round(HULL_VOXEL / grid.zooms).astype(int), 1)
    coarse = solid[tuple(slice(None, None, width) for width in step)]
    zooms = grid.zooms * step
    distance = distance_outside(close_gaps(coarse, HULL_CLOSING, zooms), zooms)
    place = np.array(grid.at) / step[:, None]
    return ndimage.map_coordinates(distance, place, order=1, mode="nearest", output=np.float32)


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


def solid_tissue(white: NDArray, tissue: NDArray, sure: NDArray, zooms: NDArray) -> NDArray:
    """Find connected white matter and the grey matter no farther from it than a cortex.

    Muscle and skin may have the intensity of grey matter; bone keeps them at a distance.

    Parameters
    ----------
    white, tissue : (x, y, z) array
        Fraction of white matter, and of grey plus white matter, if the voxel is brain.
    sure : (x, y, z) bool array
        Where the template has no doubt that there is brain.
    zooms : (3,) array
        Voxel size, mm.
    """
    core = largest(erode(white > 0.5, OPENING, zooms))
    steps = int(np.ceil(BLADE / min(zooms)))
    core = ndimage.binary_dilation(core, CROSS, iterations=steps, mask=white > 0.5)
    solid = (dilate(core, CORTEX, zooms) | sure) & (tissue > 0.5)
    core = largest(erode(solid, CORTEX_OPENING, zooms))
    return dilate(core, CORTEX_OPENING + REGROWTH, zooms) & solid


def fill_skull(solid: NDArray, inside: NDArray, zooms: NDArray) -> NDArray:
    """Grow solid tissue out to the skull and close it over the sulci."""
    full = inside > 0.5
    core = largest(erode(full | solid, OPENING, zooms) | solid)
    mask = (dilate(core, OPENING + 0.5, zooms) & full) | solid
    mask = close_gaps(mask, CLOSING, zooms) & ((inside > 0.25) | mask)
    return ndimage.binary_fill_holes(largest(ndimage.binary_opening(mask, CROSS)))
