"""Grids, affines and the composition of maps between them. World means RAS+ mm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def voxel_sizes(affine: NDArray) -> NDArray:
    """Length of the three voxel edges, mm."""
    return np.sqrt((np.asarray(affine)[:3, :3] ** 2).sum(axis=0))


def stated_sizes(affine: NDArray) -> NDArray:
    """Length of the three voxel edges as meant, mm: headers hold 3 mm as 3.0000002."""
    return voxel_sizes(affine).round(4)


def voxel_volume(affine: NDArray) -> float:
    """Volume of one voxel, mL."""
    return float(abs(np.linalg.det(np.asarray(affine)[:3, :3]))) / 1000


def apply_affine(affine: NDArray, points: NDArray) -> NDArray:
    """Map points of shape (3, ...) by a (4, 4) affine."""
    points = np.asarray(points)
    flat = points.reshape(3, -1)
    return (affine[:3, :3] @ flat + affine[:3, 3:4]).reshape(points.shape)


def grid_points(shape: tuple[int, ...], affine: NDArray) -> NDArray:
    """World coordinates, mm, of every voxel centre of a grid, shape (3, x, y, z)."""
    return apply_affine(affine, np.indices(shape, dtype=np.float32)).astype(np.float32)


def resample(
    volume: NDArray,
    affine: NDArray,
    shape: tuple[int, ...],
    target_affine: NDArray,
    order: int = 1,
    outside: float = 0.0,
) -> NDArray:
    """Bring a volume onto another grid in the same world.

    Parameters
    ----------
    volume : (x, y, z) array
        Values to sample.
    affine, target_affine : (4, 4) array
        Voxel to mm, of `volume` and of the new grid.
    shape : tuple of int
        Shape of the new grid.
    order : int
        0 nearest, 1 linear, 3 cubic spline.
    outside : float
        Value where the new grid leaves the old one.
    """
    pull = np.linalg.inv(affine) @ target_affine
    return ndimage.affine_transform(
        volume, pull[:3, :3], pull[:3, 3], output_shape=shape, order=order, cval=outside
    )


def grid_over(
    shape: tuple[int, ...], affine: NDArray, voxel: float
) -> tuple[tuple[int, int, int], NDArray]:
    """Isotropic grid of `voxel` mm over the same field of view, axes kept."""
    zooms = voxel_sizes(affine)
    extent = np.array(shape[:3]) * zooms
    count = np.maximum(np.ceil(extent / voxel - 1e-6).astype(int), 1)
    scale = np.diag([*(voxel / zooms), 1.0])
    # the outer faces of the first voxels coincide
    scale[:3, 3] = (voxel / zooms - 1) / 2
    return (int(count[0]), int(count[1]), int(count[2])), np.asarray(affine) @ scale


def same_grid(
    shape: tuple[int, ...],
    affine: NDArray,
    other_shape: tuple[int, ...],
    other_affine: NDArray,
    within: float = 0.1,
) -> bool:
    """Whether two grids are the same, their corners to `within` mm."""
    if tuple(shape[:3]) != tuple(other_shape[:3]):
        return False
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape[:3]])).reshape(3, -1)
    places = [apply_affine(a, corners) for a in (affine, other_affine)]
    return bool(np.abs(places[0] - places[1]).max() < within)
