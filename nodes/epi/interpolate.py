"""Sample volumes where the points of the reference head lie in them; compiled."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.epi.pose import EDDY_RADIUS, Frame, Poses


@numba.njit(fastmath=True, inline="always")
def _bent(eddy: NDArray, x: float, y: float, z: float) -> tuple[float, float, float, float]:
    """Eddy-current displacement at a scanner point, mm, and its three derivatives."""
    a, b, c, d, e = eddy[4], eddy[5], eddy[6], eddy[7], eddy[8]
    r = 1 / EDDY_RADIUS
    along = (a * y + b * z + 2 * d * x - e * x) * r
    across = (a * x + c * z - 2 * d * y - e * y) * r
    up = (b * x + c * y + 2 * e * z) * r
    quadratic = (x * along + y * across + z * up) / 2
    linear = eddy[1] * x + eddy[2] * y + eddy[3] * z
    return eddy[0] + linear + quadratic, eddy[1] + along, eddy[2] + across, eddy[3] + up


@numba.njit(fastmath=True, inline="always")
def _locate(
    x: float,
    y: float,
    z: float,
    push: float,
    rotation: NDArray,
    translation: NDArray,
    eddy: NDArray,
    axis: int,
    zooms: NDArray,
    middle: NDArray,
) -> tuple[float, float, float, float, float, float]:
    """Voxel coordinate of a point of the reference, and derivatives of the displacement."""
    i = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z + translation[0]
    j = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z + translation[1]
    k = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z + translation[2]
    shift, dx, dy, dz = _bent(eddy, i, j, k)
    shift += push
    if axis == 0:
        i += shift
    elif axis == 1:
        j += shift
    else:
        k += shift
    return (
        i / zooms[0] + middle[0],
        j / zooms[1] + middle[1],
        k / zooms[2] + middle[2],
        dx,
        dy,
        dz,
    )


@numba.njit(fastmath=True, inline="always")
def _linear(volume: NDArray, i: float, j: float, k: float) -> float:
    """Trilinear value at a voxel coordinate; beyond the grid the nearest value."""
    i = min(max(i, 0.0), volume.shape[0] - 1.0)
    j = min(max(j, 0.0), volume.shape[1] - 1.0)
    k = min(max(k, 0.0), volume.shape[2] - 1.0)
    a = min(int(i), volume.shape[0] - 2)
    b = min(int(j), volume.shape[1] - 2)
    c = min(int(k), volume.shape[2] - 2)
    u, v, w = i - a, j - b, k - c
    low = (volume[a, b, c] * (1 - w) + volume[a, b, c + 1] * w) * (1 - v) + (
        volume[a, b + 1, c] * (1 - w) + volume[a, b + 1, c + 1] * w
    ) * v
    high = (volume[a + 1, b, c] * (1 - w) + volume[a + 1, b, c + 1] * w) * (1 - v) + (
        volume[a + 1, b + 1, c] * (1 - w) + volume[a + 1, b + 1, c + 1] * w
    ) * v
    return low * (1 - u) + high * u


@numba.njit(fastmath=True, inline="always")
def _slope(
    volume: NDArray, i: float, j: float, k: float, zooms: NDArray
) -> tuple[float, float, float]:
    """Central differences over one voxel to each side, per mm."""
    return (
        (_linear(volume, i + 1, j, k) - _linear(volume, i - 1, j, k)) / (2 * zooms[0]),
        (_linear(volume, i, j + 1, k) - _linear(volume, i, j - 1, k)) / (2 * zooms[1]),
        (_linear(volume, i, j, k + 1) - _linear(volume, i, j, k - 1)) / (2 * zooms[2]),
    )


@numba.njit(fastmath=True)
def _fill(
    volume: NDArray,
    points: NDArray,
    field: NDArray,
    polarity: float,
    gain: float,
    rotation: NDArray,
    translation: NDArray,
    eddy: NDArray,
    axis: int,
    zooms: NDArray,
    middle: NDArray,
    values: NDArray,
    slopes: NDArray,
    voxels: NDArray,
) -> None:
    """Write the value and voxel coordinate of every point, and slopes where there is room."""
    full = slopes.shape[1] > 0
    for n in range(points.shape[1]):
        i, j, k, dx, dy, dz = _locate(
            points[0, n],
            points[1, n],
            points[2, n],
            polarity * field[0, n],
            rotation,
            translation,
            eddy,
            axis,
            zooms,
            middle,
        )
        stretch = dx if axis == 0 else dy if axis == 1 else dz
        jacobian = gain * (1 + stretch) * (1 + polarity * field[1, n])
        values[n] = _linear(volume, i, j, k) * jacobian
        voxels[0, n], voxels[1, n], voxels[2, n] = i, j, k
        if full:
            gx, gy, gz = _slope(volume, i, j, k, zooms)
            along = gx if axis == 0 else gy if axis == 1 else gz
            gx, gy, gz = gx + along * dx, gy + along * dy, gz + along * dz
            for a in range(3):
                slopes[a, n] = jacobian * (
                    rotation[0, a] * gx + rotation[1, a] * gy + rotation[2, a] * gz
                )


@dataclass(frozen=True)
class Samples:
    """Volumes sampled at points of the reference head.

    Attributes
    ----------
    values : (n, m) float32 array
        Signal times the gain and the Jacobian of the displacement along the phase encoding.
    slopes : (n, 3, m) float32 array
        Derivatives of the signal along the image axes of the reference, per mm.
    voxels : (n, 3, m) float32 array
        Where each point lies in each volume, voxels.
    """

    values: NDArray
    slopes: NDArray
    voxels: NDArray

    def outside(self, frame: Frame, margin: float) -> NDArray:
        """(n, m) bool: within `margin` voxels of the edge of the field of view, or beyond."""
        last = np.array(frame.shape, np.float32)[None, :, None] - 1
        return np.asarray(((self.voxels < margin) | (self.voxels > last - margin)).any(axis=1))

    def slices(self, frame: Frame) -> NDArray:
        """(n, m) int: the slice of each volume in which each point lies."""
        return np.clip(np.rint(self.voxels[:, 2]).astype(int), 0, frame.shape[2] - 1)


@dataclass(frozen=True)
class Sampler:
    """A series to be sampled at points of the reference head.

    Attributes
    ----------
    volumes : (n, x, y, z) float32 array
        The series, volumes first.
    frame : Frame
        Image axes of its grid.
    axis : int
        Voxel axis of the phase encoding.
    polarity : (n,) array
        1 or -1 as the susceptibility field moves the signal of each volume.
    """

    volumes: NDArray
    frame: Frame
    axis: int
    polarity: NDArray

    def samples(
        self,
        chosen: NDArray,
        poses: Poses,
        points: NDArray,
        field: NDArray,
        slopes: bool = True,
    ) -> Samples:
        """Value, place and, if asked for, slope at points (3, m) mm in the chosen volumes.

        `field` (2, m) is the susceptibility shift there, mm, and its derivative along the phase
        encoding.
        """
        size = points.shape[1]
        values = np.empty((len(chosen), size), np.float32)
        voxels = np.empty((len(chosen), 3, size), np.float32)
        steep = np.empty((len(chosen), 3, size if slopes else 0), np.float32)
        for row, volume in enumerate(chosen):
            self._one(volume, poses, points, field, values[row], steep[row], voxels[row])
        return Samples(values, steep, voxels)

    def _one(
        self,
        volume: int,
        poses: Poses,
        points: NDArray,
        field: NDArray,
        values: NDArray,
        slopes: NDArray,
        voxels: NDArray,
    ) -> None:
        _fill(
            self.volumes[volume],
            points,
            field,
            float(self.polarity[volume]),
            float(poses.gain[volume]),
            np.ascontiguousarray(poses.rotation[volume]),
            np.ascontiguousarray(poses.translation[volume]),
            np.ascontiguousarray(poses.eddy[volume]),
            self.axis,
            self.frame.zooms,
            self.frame.middle,
            values,
            slopes,
            voxels,
        )


@numba.njit(fastmath=True, inline="always")
def _weights(t: float) -> tuple[float, float, float, float]:
    """Cubic B-spline weights of the four neighbours at fraction t."""
    s = 1 - t
    return (
        s * s * s / 6,
        (4 - 6 * t * t + 3 * t * t * t) / 6,
        (4 - 6 * s * s + 3 * s * s * s) / 6,
        (t * t * t / 6),
    )


@numba.njit(fastmath=True, inline="always")
def _mirrored(index: int, size: int) -> int:
    """Index reflected at the first and last voxel centre."""
    if index < 0:
        return -index
    if index >= size:
        return 2 * size - 2 - index
    return index


@numba.njit(fastmath=True, inline="always")
def _cubic(spline: NDArray, i: float, j: float, k: float) -> float:
    """Value of a cubic B-spline at a voxel coordinate; beyond the grid the nearest value."""
    nx, ny, nz = spline.shape
    i = min(max(i, 0.0), nx - 1.0)
    j = min(max(j, 0.0), ny - 1.0)
    k = min(max(k, 0.0), nz - 1.0)
    a, b, c = int(i), int(j), int(k)
    wx, wy, wz = _weights(i - a), _weights(j - b), _weights(k - c)
    z0, z1, z2, z3 = (
        _mirrored(c - 1, nz),
        c,
        _mirrored(c + 1, nz),
        _mirrored(c + 2, nz),
    )
    total = 0.0
    for p in range(4):
        x = _mirrored(a - 1 + p, nx)
        plane = 0.0
        for q in range(4):
            y = _mirrored(b - 1 + q, ny)
            plane += wy[q] * (
                wz[0] * spline[x, y, z0]
                + wz[1] * spline[x, y, z1]
                + wz[2] * spline[x, y, z2]
                + wz[3] * spline[x, y, z3]
            )
        total += wx[p] * plane
    return total


@numba.njit(fastmath=True)
def sample_spline(spline: NDArray, pull: NDArray, points: NDArray, values: NDArray) -> None:
    """Write the values of a cubic B-spline at points that an affine leads into its voxels.

    Parameters
    ----------
    spline : (x, y, z) float32 array
        Coefficients.
    pull : (4, 4) array
        Points to voxels of `spline`.
    points : (3, m) array
        Where to sample; beyond the grid the nearest value stands in.
    values : (m,) array
        Written.
    """
    for n in range(points.shape[1]):
        u, v, w = points[0, n], points[1, n], points[2, n]
        values[n] = _cubic(
            spline,
            pull[0, 0] * u + pull[0, 1] * v + pull[0, 2] * w + pull[0, 3],
            pull[1, 0] * u + pull[1, 1] * v + pull[1, 2] * w + pull[1, 3],
            pull[2, 0] * u + pull[2, 1] * v + pull[2, 2] * w + pull[2, 3],
        )


@numba.njit(fastmath=True, inline="always")
def _weight_slopes(t: float) -> tuple[float, float, float, float]:
    """Derivatives of `_weights` by t."""
    s = 1 - t
    return -s * s / 2, (3 * t - 4) * t / 2, (4 - 3 * s) * s / 2, t * t / 2


@numba.njit(fastmath=True)
def sample_slopes(
    spline: NDArray, pull: NDArray, points: NDArray, values: NDArray, slopes: NDArray
) -> None:
    """Write values (m,) of a cubic B-spline and their derivatives (3, m) by the points.

    The other parameters are those of `sample_spline`; beyond the grid the nearest place stands in.
    """
    last = np.array(spline.shape) - 1.0
    place = np.empty(3)
    for n in range(points.shape[1]):
        for a in range(3):
            place[a] = pull[a, 3]
            for b in range(3):
                place[a] += pull[a, b] * points[b, n]
            place[a] = min(max(place[a], 0.0), last[a])
        a, b, c = int(place[0]), int(place[1]), int(place[2])
        wx, dx = _weights(place[0] - a), _weight_slopes(place[0] - a)
        wy, dy = _weights(place[1] - b), _weight_slopes(place[1] - b)
        wz, dz = _weights(place[2] - c), _weight_slopes(place[2] - c)
        value = gx = gy = gz = 0.0
        for p in range(4):
            x = _mirrored(a - 1 + p, spline.shape[0])
            for q in range(4):
                y = _mirrored(b - 1 + q, spline.shape[1])
                line = steep = 0.0
                for r in range(4):
                    here = spline[x, y, _mirrored(c - 1 + r, spline.shape[2])]
                    line += wz[r] * here
                    steep += dz[r] * here
                value += wx[p] * wy[q] * line
                gx += dx[p] * wy[q] * line
                gy += wx[p] * dy[q] * line
                gz += wx[p] * wy[q] * steep
        values[n] = value
        for a in range(3):
            slopes[a, n] = pull[0, a] * gx + pull[1, a] * gy + pull[2, a] * gz


@numba.njit(fastmath=True)
def resample_volume(
    spline: NDArray,
    order: int,
    shift: NDArray,
    stretch: NDArray,
    polarity: float,
    rotation: NDArray,
    translation: NDArray,
    eddy: NDArray,
    axis: int,
    zooms: NDArray,
    middle: NDArray,
    corrected: NDArray,
    seen: NDArray,
) -> None:
    """One volume on the grid of the reference head.

    Parameters
    ----------
    spline : (x, y, z) float32 array
        B-spline coefficients of the volume (`order` 3), or the volume itself (`order` 1).
    shift, stretch : (x, y, z) array
        Susceptibility shift, mm, and its derivative along the phase encoding.
    polarity, rotation, translation, eddy, axis, zooms, middle
        See `Sampler` and `Poses`.
    corrected : (x, y, z) array
        Written.
    seen : (x, y, z) bool array
        Set to False where the point lies more than half a voxel outside the volume.
    """
    nx, ny, nz = corrected.shape
    for x in range(nx):
        for y in range(ny):
            for z in range(nz):
                i, j, k, dx, dy, dz = _locate(
                    (x - middle[0]) * zooms[0],
                    (y - middle[1]) * zooms[1],
                    (z - middle[2]) * zooms[2],
                    polarity * shift[x, y, z],
                    rotation,
                    translation,
                    eddy,
                    axis,
                    zooms,
                    middle,
                )
                along = dx if axis == 0 else dy if axis == 1 else dz
                value = _cubic(spline, i, j, k) if order == 3 else _linear(spline, i, j, k)
                corrected[x, y, z] = value * (1 + along) * (1 + polarity * stretch[x, y, z])
                if (
                    min(i, j, k) < -0.5
                    or i > spline.shape[0] - 0.5
                    or j > spline.shape[1] - 0.5
                    or k > spline.shape[2] - 0.5
                ):
                    seen[x, y, z] = False
