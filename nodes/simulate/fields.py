"""Smooth random fields and smooth invertible deformations on regular grids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SQUARINGS = 6  # the velocity is divided by 2**6 before it is composed with itself


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, ...], sigma: float | NDArray
) -> NDArray:
    """Gaussian noise smoothed by `sigma` voxels, of mean 0 and standard deviation 1."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma)
    return (noise - noise.mean()) / noise.std()


def random_velocity(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    spacing: float,
    scales: dict[float, float],
    window: NDArray,
) -> NDArray:
    """Stationary velocity field that adds up noise of several scales.

    Parameters
    ----------
    rng : Generator
        Source of randomness.
    shape : (3,) tuple
        Grid of the field.
    spacing : float
        Isotropic voxel edge of that grid, mm.
    scales : dict
        Standard deviation of the smoothing kernel (mm) to that of each component (mm).
    window : (x, y, z) array
        Factor of the field: 1 where it acts in full, 0 where nothing may move.

    Returns
    -------
    velocity : (x, y, z, 3) float32 array
        Displacement per unit of time, mm.
    """
    velocity = np.zeros((*shape, 3), np.float32)
    for sigma, amplitude in scales.items():
        for axis in range(3):
            velocity[..., axis] += amplitude * smooth_noise(rng, shape, sigma / spacing)
    return velocity * window[..., None].astype(np.float32)


def exponentiate(velocity: NDArray, spacing: float) -> NDArray:
    """Displacement of the flow of a stationary velocity after unit time [1]_.

    Parameters
    ----------
    velocity : (x, y, z, 3) array
        Velocity along the axes of the grid, mm.
    spacing : float
        Isotropic voxel edge, mm.

    Returns
    -------
    displacement : (x, y, z, 3) float32 array
        Point at the end minus point at the start, mm.

    References
    ----------
    .. [1] Arsigny et al. (2006). MICCAI, LNCS 4190:924-931. doi:10.1007/11866565_113
    """
    flow = np.moveaxis(velocity, -1, 0).astype(np.float32) / (spacing * 2**SQUARINGS)
    start = np.indices(flow.shape[1:], dtype=np.float32)
    for _ in range(SQUARINGS):
        at = start + flow
        flow = flow + np.stack(
            [ndimage.map_coordinates(part, at, order=1, mode="nearest") for part in flow]
        )
    return np.moveaxis(flow, 0, -1) * np.float32(spacing)


def jacobian_determinant(displacement: NDArray, spacing: float) -> NDArray:
    """Local volume ratio of ``x -> x + displacement(x)``, by central differences.

    `displacement` has shape (x, y, z, 3) and is in mm, as is `spacing`.
    """
    gradient = np.empty((*displacement.shape, 3), np.float32)
    for axis in range(3):
        for along, part in enumerate(np.gradient(displacement[..., axis], spacing)):
            gradient[..., axis, along] = part
    return np.linalg.det(gradient + np.eye(3, dtype=np.float32))
