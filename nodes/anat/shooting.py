"""Normalisation by geodesic shooting, CAT12's own, as an alternative to Greedy."""

from __future__ import annotations

import cat_surf
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.anat.normalise import FWHM, Normalised, native_jacobian
from alsflow.nodes.geometry import apply_affine, grid_points, voxel_sizes

# Shooting walks from a blurred to a sharp template; the series is made from one pair of maps.
TEMPLATE_FWHM = (8.0, 6.0, 4.0, 2.0, 0.0)  # mm


def shoot(
    maps: tuple[NDArray, NDArray],
    affine: NDArray,
    template: tuple[NDArray, NDArray],
    template_affine: NDArray,
    start: NDArray,
    native_grid: tuple[tuple[int, int, int], NDArray],
) -> Normalised:
    """Warp grey- and white-matter maps onto those of the template by shooting [1]_.

    Parameters
    ----------
    maps, template : two (x, y, z) arrays
        Grey- and white-matter fractions, native and of the template.
    affine, template_affine : (4, 4) array
        Voxels to mm.
    start : (4, 4) array
        Template mm to native mm.
    native_grid : (shape, affine)
        Grid on which the map to the template is wanted.

    References
    ----------
    .. [1] Ashburner and Friston (2011). NeuroImage 55:954-967.
       doi:10.1016/j.neuroimage.2010.12.049
    """
    found = cat_surf.vol_shoot(
        np.asfortranarray(maps[0], np.float32),
        np.asfortranarray(maps[1], np.float32),
        template_series(template, voxel_sizes(template_affine)),
        affine,
        template_affine,
        affine=np.linalg.inv(start),
        inverse=True,
        n_threads=1,
    )
    to_native = apply_affine(affine, np.moveaxis(found["y"], -1, 0)).astype(np.float32)
    to_template = apply_affine(template_affine, np.moveaxis(found["iy"], -1, 0))
    shape, grid_affine = native_grid
    voxels = apply_affine(np.linalg.inv(affine), grid_points(shape, grid_affine))
    sampled = [
        ndimage.map_coordinates(part, voxels, order=1, mode="nearest") for part in to_template
    ]
    return Normalised(
        to_native,
        np.stack(sampled).astype(np.float32),
        native_jacobian(to_native, template_affine, maps[0].shape, affine),
    )


def template_series(template: tuple[NDArray, NDArray], zooms: NDArray) -> list[NDArray]:
    """Five templates (x, y, z, 3) of grey matter, white matter and the rest, coarse to fine."""
    channels = [template[0], template[1], 1 - template[0] - template[1]]
    return [
        np.asfortranarray(
            np.stack(
                [ndimage.gaussian_filter(part, fwhm / FWHM / zooms) for part in channels], axis=-1
            ).astype(np.float32)
        )
        for fwhm in TEMPLATE_FWHM
    ]
