"""Rigid placement of one echo-planar image of a head on another of a different contrast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.epi.coregister import TissueCost, improved, levelled, ranked
from alsflow.nodes.geometry import apply_affine

# blur (FWHM, mm), number of points looked at, first step (mm), coarsest first
LEVELS = ((6.0, 6000, 1.0), (4.0, 8000, 0.5))


def place(
    fixed: NDArray,
    fixed_affine: NDArray,
    fixed_mask: NDArray,
    moving: NDArray,
    moving_affine: NDArray,
    moving_mask: NDArray,
) -> NDArray:
    """Find where the points of one image of a head lie in another.

    The place is right where a parabola of the one's intensity explains the other's best, whatever
    the contrasts [1]_; coil shading, which would draw the two apart, is taken out before.

    Parameters
    ----------
    fixed : (x, y, z) array
        Image whose points are looked up.
    moving : (u, v, w) array
        Image in which they are looked up.
    fixed_affine, moving_affine : (4, 4) array
        Voxel to mm; the headers bring the heads within about a centimetre of each other.
    fixed_mask, moving_mask : bool arrays
        Brain, roughly.

    Returns
    -------
    (4, 4) array
        World mm of `fixed` to world mm of `moving`.

    References
    ----------
    .. [1] Roche et al. (1998). MICCAI, LNCS 1496:1115-1124. doi:10.1007/BFb0056301
    """
    ranks = ranked(levelled(fixed, fixed_affine, fixed_mask), fixed_mask)
    other = ranked(levelled(moving, moving_affine, moving_mask), moving_mask)
    parts = np.stack([other, other**2, moving_mask], axis=-1).astype(np.float32)
    centre = apply_affine(moving_affine, np.array(ndimage.center_of_mass(moving_mask)))
    matrix = np.eye(4)
    for fwhm, count, step in LEVELS:
        # the outline is left out: a head is round, and what surrounds it differs
        cost = TissueCost(ranks, fixed_affine, fixed_mask, fwhm, count).on(parts, moving_affine)
        matrix, _ = improved(cost, matrix, centre, step)
    return matrix
