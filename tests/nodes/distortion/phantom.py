"""A head given by formulas, seen by an echo-planar scanner of known field: no interpolation."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from alsflow.nodes.geometry import apply_affine, grid_points, voxel_sizes

RADII = np.array([62.0, 78.0, 58.0])  # mm
BLOBS = (  # centre mm, width mm, height mm of displacement
    ((4.0, 52.0, -22.0), 17.0, 5.5),
    ((-44.0, 4.0, -28.0), 13.0, 4.0),
    ((46.0, -2.0, -26.0), 14.0, 3.5),
    ((0.0, -60.0, 20.0), 25.0, -2.5),
)


def affine_of(zooms, angles=(12.0, -8.0, 15.0), shape=(48, 60, 40)) -> np.ndarray:
    """Oblique affine, mm, with the middle of the grid near the middle of the head."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * zooms
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2) + (1.3, -2.1, 0.7)
    return affine


def head(points: np.ndarray, contrast: float = 0.3, fluid: float = 0.9) -> np.ndarray:
    """Intensity at points, (3, ...) mm: folds of a contrast, and pools of fluid."""
    x, y, z = points
    radius = np.sqrt(sum((c / r) ** 2 for c, r in zip(points, RADII, strict=True)))
    inside = 1 / (1 + np.exp((radius - 1) * 30))
    folds = np.cos(x / 5.1 + np.sin(y / 9)) * np.cos(y / 6.3 + 1) * np.cos(z / 5.7 + x / 30)
    pools = sum(
        np.exp(-(((x - sx) / 6) ** 2 + ((y - 8) / 22) ** 2 + ((z - 8) / 9) ** 2))
        for sx in (-13, 13)
    )
    return 600 * inside * (1 + contrast * folds + fluid * pools + 0.1 * y / 80)


def displacement(points: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Displacement, mm, at points of the undistorted head."""
    x, y, z = points
    out = 0.012 * x - 0.018 * z + 0.4
    for centre, width, height in BLOBS:
        apart = sum((c - m) ** 2 for c, m in zip(points, centre, strict=True))
        out = out + height * np.exp(-apart / (2 * width**2))
    return scale * out


def distorted(shape, affine, axis, polarity, placement=None, look=head) -> np.ndarray:
    """Head displaced by ``polarity * displacement`` along a voxel axis, brighter where squeezed.

    A point p of the head is seen at ``placement @ p + polarity * displacement(p) * e``.
    """
    along = affine[:3, axis] / voxel_sizes(affine)[axis]
    placement = np.eye(4) if placement is None else placement
    inverse = np.linalg.inv(placement)
    seen = grid_points(shape, affine).astype(float)
    shape_e = along.reshape(3, 1, 1, 1)

    def origin(points):
        found = apply_affine(inverse, points)
        for _ in range(25):
            found = apply_affine(inverse, points - polarity * displacement(found) * shape_e)
        return found

    home = origin(seen)
    step = 1e-3  # mm
    moved = origin(seen + step * shape_e)
    squeeze = ((moved - home) * (placement[:3, :3].T @ along).reshape(3, 1, 1, 1)).sum(0) / step
    return look(home) * squeeze
