"""Maps of a BOLD grid in template space: one interpolation, then smoothing within the mask.

A map has values in part of the grid only (grey matter). Interpolated or smoothed like an image,
the zeros beyond would be taken for values: a map that is 0.5 everywhere would be lower where the
cortex is thin. Here value times mask and mask are treated alike, and one is divided by the other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.anat.normalise import smoothed
from alsflow.nodes.anat.register import pull
from alsflow.nodes.anat.volumes import coarse_points
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import apply_affine, grid_points

LEAST_WEIGHT = 0.1  # share of the kernel that must lie on values for a smoothed value
LEAST_SEEN = 0.5  # share of a template voxel that the series must show


def template_to_bold(
    to_native: NDArray,
    field_affine: NDArray,
    shape: tuple[int, ...],
    affine: NDArray,
    matrix: NDArray,
) -> NDArray:
    """Where the voxels of a template grid lie in the world of the BOLD series, (3, x, y, z) mm.

    Parameters
    ----------
    to_native : (3, u, v, w) array
        Where the points of a template grid lie in the T1w head, mm.
    field_affine, affine : (4, 4) array
        Voxel to mm of that grid, and of the grid that is wanted.
    shape : tuple of int
        Shape of the grid that is wanted.
    matrix : (4, 4) array
        BOLD mm to T1w mm.
    """
    at_t1w = coarse_points(to_native, field_affine, grid_points(shape, affine))
    return apply_affine(np.linalg.inv(matrix), at_t1w)


def pull_masked(
    values: NDArray, mask: NDArray, affine: NDArray, points: NDArray
) -> tuple[NDArray, NDArray]:
    """Map and mask at points, each interpolated linearly; the map as value times mask.

    Parameters
    ----------
    values : (x, y, z) array
        The map; where it is not finite it counts as outside the mask.
    mask : (x, y, z) bool array
        Where the map has values.
    affine : (4, 4) array
        Voxel to mm.
    points : (3, ...) array
        Places, mm; NaN where there is none.
    """
    valid = mask & np.isfinite(values)
    weighted = np.where(valid, values, 0).astype(np.float32)
    at = np.nan_to_num(points, nan=1e6)
    return pull(weighted, affine, at), pull(valid.astype(np.float32), affine, at)


def smooth_within(
    weighted: NDArray, weight: NDArray, affine: NDArray, fwhm: float, plain: bool = False
) -> tuple[NDArray, NDArray]:
    """Smooth a map within its mask: weighted mean of the values under the kernel [1]_.

    Parameters
    ----------
    weighted : (x, y, z) array
        Value times weight.
    weight : (x, y, z) array
        Share of each voxel with a value, 0 to 1.
    affine : (4, 4) array
        Voxel to mm.
    fwhm : float
        Of the Gaussian, mm.
    plain : bool
        What lies outside the mask counts as 0, as in SPM, instead of not at all.

    Returns
    -------
    values : (x, y, z) float32 array
        NaN where `reach` is below `LEAST_WEIGHT`.
    reach : (x, y, z) float32 array
        Share of the kernel that lies on values.

    References
    ----------
    .. [1] Knutsson & Westin (1993). Normalized and differential convolution. CVPR, 515-523.
       doi:10.1109/CVPR.1993.341081
    """
    above, below = (smoothed(part, affine, fwhm) for part in (weighted, weight))
    known = below >= LEAST_WEIGHT
    values = np.full(weight.shape, np.nan, np.float32)
    values[known] = above[known] if plain else above[known] / below[known]
    return values, below


def maps_to_template(
    maps: NDArray,
    mask: NDArray,
    seen: NDArray,
    affine: NDArray,
    points: NDArray,
    template_affine: NDArray,
    fwhm: float,
    plain: bool = False,
) -> tuple[NDArray, NDArray]:
    """Maps in template space, smoothed, and where they have values.

    Parameters
    ----------
    maps : (x, y, z, n) array
        Maps of the BOLD grid; one that is not finite anywhere stays unknown.
    mask : (x, y, z) bool array
        Where they have values.
    seen : (x, y, z) bool array
        Brain that every volume of the series shows: beyond it nothing is made up.
    affine, template_affine : (4, 4) array
        Voxel to mm, of the BOLD grid and of `points`.
    points : (3, u, v, w) array
        As `template_to_bold` gives them.
    fwhm, plain
        See `smooth_within`.

    Returns
    -------
    smooth : (u, v, w, n) float32 array
        NaN where there is no value.
    coverage : (u, v, w) bool array
        Voxels with a value in every map that has any.
    """
    if not mask.any():
        raise BadInputError("has no voxel: a map without values cannot be brought to the template")
    at = np.nan_to_num(points, nan=1e6)
    shown = pull(seen.astype(np.float32), affine, at) >= LEAST_SEEN
    smooth = np.empty((*points.shape[1:], maps.shape[3]), np.float32)
    coverage = shown & True
    for index in range(maps.shape[3]):
        weighted, weight = pull_masked(maps[..., index], mask, affine, points)
        values, _ = smooth_within(weighted, weight, template_affine, fwhm, plain)
        values[~shown] = np.nan
        smooth[..., index] = values
        if np.isfinite(maps[..., index])[mask].any():
            coverage &= np.isfinite(values)
    return smooth, coverage
