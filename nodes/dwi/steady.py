"""A calmer map to the template for tracts, where the tissue maps say nothing about them.

The map of the anatomical stream is found on grey and white matter. It follows every gyrus, which
volumes need, but inside the brainstem, all of it white, nothing holds it: there it may squeeze one
half of the pons and spread the other. Tracts run through just that place. Their map is therefore
smoothed: a little in the cerebrum, much in and around the brainstem.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.geometry import apply_affine, grid_points, voxel_sizes

FINE = 2.0  # mm, standard deviation of the smoothing in the cerebrum
COARSE = 16.0  # mm, in the brainstem
BLEND = 6.0  # mm, standard deviation of the border between them


def steadied(points: NDArray, affine: NDArray, stem: NDArray, stem_affine: NDArray) -> NDArray:
    """Map of a head to the template, smoothed where the tissue maps do not hold it.

    Parameters
    ----------
    points : (3, x, y, z) array
        Place in the template, mm, of every voxel of a grid over the head.
    affine : (4, 4) array
        Voxel to mm of that grid.
    stem : (u, v, w) array
        Brainstem in the template, 0 to 1.
    stem_affine : (4, 4) array
        Voxel to mm of `stem`.

    Returns
    -------
    (3, x, y, z) float32 array
        Smoothed map.
    """
    world = grid_points(points.shape[1:], affine)
    fine = _smoothed(points, world, FINE, affine)
    coarse = _smoothed(points, world, COARSE, affine)
    soft = ndimage.gaussian_filter(stem.astype(np.float32), BLEND / voxel_sizes(stem_affine))
    at = apply_affine(np.linalg.inv(stem_affine), coarse)
    share = ndimage.map_coordinates(soft / max(float(soft.max()), 1e-6), at, order=1)
    share = np.clip(2 * share, 0, 1)
    return np.asarray(fine + share * (coarse - fine), np.float32)


def _smoothed(points: NDArray, world: NDArray, sigma: float, affine: NDArray) -> NDArray:
    """Map with its displacement smoothed; where it is unknown the neighbours stand in."""
    move = points - world
    known = np.isfinite(move).all(axis=0)
    width = sigma / voxel_sizes(affine)
    weight = ndimage.gaussian_filter(known.astype(np.float32), width, mode="nearest")
    smooth = np.stack([
        ndimage.gaussian_filter(np.where(known, part, 0).astype(np.float32), width, mode="nearest")
        for part in move
    ])  # fmt: skip
    return np.asarray(world + smooth / np.maximum(weight, 1e-3))
