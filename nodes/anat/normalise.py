"""Normalisation to the template on tissue maps, and what follows from the warp.

A warp is kept as a *map of points*: for every voxel of one grid, the world coordinates (RAS+ mm)
of the place in the other space, shape (3, x, y, z). The map on the template grid pulls native
images into template space; the map on a native grid pulls atlases into native space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.anat.quality import Flag
from alsflow.nodes.anat.register import (
    Warp,
    WarpSettings,
    displaced,
    fixed_to_moving,
    moving_to_fixed,
    pull,
    register_maps,
)
from alsflow.nodes.geometry import apply_affine, grid_points, resample, voxel_sizes

FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))  # full width at half maximum of a Gaussian of SD 1
# Composed updates by SSD fit individual gyri best for their roughness: docs/normalisation.md
GREEDY = WarpSettings(
    metric="SSD", iterations=(30, 40, 14), smoothing=(1.3, 0.43), scheme="composed"
)
LEAST_JACOBIAN = 0.02  # of the warp without its affine part; below, the field is smoothed
LEAST_DICE = 0.7  # good normalisations of adults reach .85 and more
UNFOLD_ROUNDS = 100
INVERSE_ROUNDS = 15
INVERSE_ERROR = 0.004  # mm, mean over the grid, most of which is air


@dataclass(frozen=True)
class Normalised:
    """The two maps of points of one person, and the change of volume."""

    to_native: NDArray  # (3, x, y, z) mm, on the template grid
    to_template: NDArray  # (3, x, y, z) mm, on the native grid asked for
    jacobian: NDArray  # (x, y, z) mL of native space per mL of template; 0 outside the native view


def shrink(
    volume: NDArray, affine: NDArray, shape: tuple[int, ...], target_affine: NDArray
) -> NDArray:
    """Resample onto a coarser grid after the smoothing that the coarser voxels imply."""
    ratio = voxel_sizes(target_affine) / voxel_sizes(affine)
    sigma = np.sqrt(np.maximum(ratio**2 - 1, 0)) / FWHM
    return resample(ndimage.gaussian_filter(volume, sigma), affine, shape, target_affine)


def normalise(
    maps: tuple[NDArray, NDArray],
    affine: NDArray,
    template: tuple[NDArray, NDArray],
    template_affine: NDArray,
    start: NDArray,
    native_grid: tuple[tuple[int, int, int], NDArray],
    *,
    settings: WarpSettings = GREEDY,
) -> Normalised:
    """Warp grey- and white-matter maps onto those of the template.

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
    settings : WarpSettings
        How Greedy runs.
    """
    # Greedy's own inverse costs as much as the warp and is less exact
    warp = register_maps(template, template_affine, maps, affine, start, settings=settings)
    field = unfolded(warp.displacement, template_affine)
    warp = Warp(field, warp.affine, warp.start, inverted(field, template_affine))
    to_native = fixed_to_moving(warp)
    shape, grid_affine = native_grid
    to_template = moving_to_fixed(warp, grid_points(shape, grid_affine))
    return Normalised(
        to_native, to_template, native_jacobian(to_native, template_affine, maps[0].shape, affine)
    )


def jacobian(points: NDArray, affine: NDArray) -> NDArray:
    """Jacobian determinant of a map of points.

    Parameters
    ----------
    points : (3, x, y, z) array
        Map in mm, on the grid of `affine`.
    affine : (4, 4) array
        Voxels to mm.

    Returns
    -------
    (x, y, z) array
        Volume in the space of the points per volume of the grid.
    """
    gradient = np.stack([np.stack(np.gradient(part)) for part in points])  # (point, axis, x, y, z)
    gradient = np.einsum("iaxyz,ab->xyzib", gradient, np.linalg.inv(affine[:3, :3]))
    return np.linalg.det(gradient).astype(np.float32)


def inside(points: NDArray, shape: tuple[int, ...], affine: NDArray) -> NDArray:
    """Whether each point (3, ...), mm, lies between the voxel centres of a grid."""
    voxels = apply_affine(np.linalg.inv(affine), points)
    ends = np.array(shape[:3]).reshape(3, *[1] * (points.ndim - 1)) - 1
    return np.asarray(((voxels >= 0) & (voxels <= ends)).all(axis=0))


def native_jacobian(
    to_native: NDArray, template_affine: NDArray, shape: tuple[int, ...], affine: NDArray
) -> NDArray:
    """Jacobian where the warp stays in the native field of view, 0 elsewhere."""
    return jacobian(to_native, template_affine) * inside(to_native, shape, affine)


def unfolded(displacement: NDArray, affine: NDArray, least: float = LEAST_JACOBIAN) -> NDArray:
    """Smooth a displacement field where it folds or nearly does, and only there.

    Parameters
    ----------
    displacement : (3, x, y, z) array
        Field in mm on the grid of `affine`.
    affine : (4, 4) array
        Voxels to mm.
    least : float
        Jacobian of ``x + displacement(x)`` that the result keeps everywhere.
    """
    still = grid_points(displacement.shape[1:], affine)
    field = displacement.astype(np.float32, copy=True)
    for margin in (8, 12, 16, 24):
        folds = jacobian(still + field, affine) < least
        if not folds.any():
            return field
        # folds are few: only what lies around each group of them is looked at again
        near = ndimage.binary_dilation(folds, iterations=margin)
        for box in ndimage.find_objects(ndimage.label(near)[0]):
            _unfold_box(field, still, affine, box, least)
    if (jacobian(still + field, affine) < least).any():
        raise RuntimeError("the warp to the template folds and could not be unfolded")
    return field


def _unfold_box(
    field: NDArray, still: NDArray, affine: NDArray, box: tuple[slice, ...], least: float
) -> None:
    """Smooth one part of a field in place until nothing in it folds."""
    part = (slice(None), *box)
    for _ in range(UNFOLD_ROUNDS):
        folds = jacobian(still[part] + field[part], affine) < least
        if not folds.any():
            return
        weight = ndimage.gaussian_filter(
            ndimage.binary_dilation(folds, iterations=2).astype(np.float32), 1.0
        )
        smooth = np.stack([ndimage.gaussian_filter(axis, 1.0) for axis in field[part]])
        field[part] += weight * (smooth - field[part])


def inverted(displacement: NDArray, affine: NDArray) -> NDArray:
    """Inverse of a displacement field by fixed-point iteration, on the same grid.

    Parameters
    ----------
    displacement : (3, x, y, z) array
        Field in mm whose map ``x + displacement(x)`` does not fold.
    affine : (4, 4) array
        Voxels to mm.
    """
    still = grid_points(displacement.shape[1:], affine)
    inverse = np.zeros_like(displacement)
    step = np.ones(displacement.shape[1:], np.float32)
    last = np.full(displacement.shape[1:], np.inf, np.float32)
    for _ in range(INVERSE_ROUNDS):
        error = displaced(still + inverse, displacement, affine) - still
        size = np.sqrt((error**2).sum(axis=0))
        if size.mean() < INVERSE_ERROR:
            break
        step *= np.where(size > 0.9 * last, 0.6, 1.0)  # where the field is steep, it overshoots
        inverse -= step * error
        last = size
    return inverse


def smoothed(volume: NDArray, affine: NDArray, fwhm: float) -> NDArray:
    """Convolve with a Gaussian of `fwhm` mm; outside the grid counts as 0."""
    if fwhm == 0:
        return volume
    sigma = fwhm / FWHM / voxel_sizes(affine)
    return ndimage.gaussian_filter(volume, sigma, mode="constant")


def fit_metrics(
    warped: tuple[NDArray, NDArray], template: tuple[NDArray, NDArray], jacobian: NDArray
) -> dict[str, float]:
    """How well the maps lie on the template's, and what the warp did to get them there.

    Parameters
    ----------
    warped, template : two (x, y, z) arrays
        Grey- and white-matter fractions on the template grid.
    jacobian : (x, y, z) array
        As `Normalised.jacobian`.
    """
    brain = (template[0] + template[1] > 0.3) & (jacobian > 0)
    return {
        "template_dice_gm": dice(warped[0] > 0.5, template[0] > 0.5),
        "template_dice_wm": dice(warped[1] > 0.5, template[1] > 0.5),
        "jacobian_min": float(jacobian[brain].min()),
        "jacobian_max": float(jacobian[brain].max()),
        "jacobian_log_sd": float(np.log(jacobian[brain]).std()),
    }


def judge_fit(metrics: Mapping[str, float]) -> list[Flag]:
    """Reasons why a normalisation must not be used; empty when it may."""
    flags = []
    overlap = metrics["template_dice_gm"]
    if not overlap >= LEAST_DICE:
        reason = f"warped and template grey matter overlap by only {overlap:.2f} (Dice)"
        flags.append(Flag("normalisation_poor", reason))
    if not metrics["jacobian_min"] > 0:
        flags.append(Flag("normalisation_folds", "the warp to the template folds"))
    return flags


def dice(first: NDArray, second: NDArray) -> float:
    """Dice's coefficient of two masks; 0 where both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2 * float((first & second).sum()) / total if total else 0.0


def warped(volume: NDArray, affine: NDArray, to_native: NDArray) -> NDArray:
    """Native image in template space, linearly interpolated, 0 outside the view."""
    return pull(volume, affine, to_native)


def modulated(volume: NDArray, affine: NDArray, to_native: NDArray, jacobian: NDArray) -> NDArray:
    """Warped image times the change of volume: its sum over the grid is the native amount."""
    return pull(volume, affine, to_native) * jacobian
