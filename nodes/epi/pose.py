"""Where the head of the reference lies in each volume: rigid motion and eddy currents.

Everything here is in *image axes*: mm along the three voxel axes, origin in the middle of the
grid. A point `u` of the reference head lies in volume v at `w = R u + t`; the eddy currents of
that volume move its signal further, along the phase-encoding axis alone, by a polynomial of `w`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import voxel_sizes

EDDY_RADIUS = 60.0  # mm, divides the quadratic terms so that all but the first are plain numbers
EDDY_TERMS = ("1", "x", "y", "z", "xy", "xz", "yz", "xx-yy", "zz-(xx+yy)/2")
# A magnetic field without sources obeys Laplace's equation: five quadratic terms, not six.
TERMS_OF = {"none": 0, "linear": 4, "quadratic": 9}


@dataclass(frozen=True)
class Frame:
    """Image axes of a grid.

    Attributes
    ----------
    shape : (int, int, int)
        Voxels along each axis.
    zooms, middle : (3,) array
        Voxel edges, mm; the middle of the grid, voxels.
    to_world : (4, 4) array
        Image axes, mm, to world mm; a rotation, perhaps a reflection, and a translation.
    """

    shape: tuple[int, int, int]
    zooms: NDArray
    middle: NDArray
    to_world: NDArray

    def points(self, voxels: NDArray) -> NDArray:
        """Image axes, (3, n) mm, of voxel coordinates (3, n)."""
        return (voxels - self.middle[:, None]) * self.zooms[:, None]

    def directions(self, world: NDArray) -> NDArray:
        """Unit vectors (n, 3) of the world in image axes."""
        return world @ self.to_world[:3, :3]


def frame_of(shape: tuple[int, ...], affine: NDArray) -> Frame:
    """Image axes of the grid of a series."""
    zooms = voxel_sizes(affine)
    middle = (np.array(shape[:3]) - 1) / 2
    to_world = np.eye(4)
    to_world[:3, :3] = affine[:3, :3] / zooms
    to_world[:3, 3] = affine[:3, :3] @ middle + affine[:3, 3]
    if not np.allclose(to_world[:3, :3].T @ to_world[:3, :3], np.eye(3), atol=1e-3):
        raise BadInputError(
            "The voxel axes of the diffusion series are not at right angles, so a motion of the "
            "head is no rotation of the grid; convert the series from DICOM again."
        )
    return Frame((shape[0], shape[1], shape[2]), zooms, middle, to_world)


@dataclass(frozen=True)
class Poses:
    """Motion and eddy currents of n volumes, image axes.

    Attributes
    ----------
    rotation : (n, 3, 3) array
        Of the head about the middle of the grid.
    translation : (n, 3) array
        mm.
    eddy : (n, 9) array
        Coefficients of `EDDY_TERMS`; displacement along the phase-encoding axis, mm. The quadratic
        terms are divided by `EDDY_RADIUS`.
    gain : (n,) array
        What the signal of each volume is multiplied by to be that of the reference.
    """

    rotation: NDArray
    translation: NDArray
    eddy: NDArray
    gain: NDArray

    def __len__(self) -> int:
        return len(self.translation)

    @property
    def turn(self) -> NDArray:
        """(n, 3) rotation vectors, radians."""
        return Rotation.from_matrix(self.rotation).as_rotvec()

    def place(self, volume: int, points: NDArray, axis: int) -> NDArray:
        """Where points (3, m) of the reference lie in a volume, (3, m) mm."""
        placed = self.rotation[volume] @ points + self.translation[volume][:, None]
        placed[axis] += self.eddy[volume] @ eddy_basis(placed)
        return placed


def still(count: int) -> Poses:
    """Poses of `count` volumes that did not move."""
    eddy = np.zeros((count, len(EDDY_TERMS)))
    return Poses(np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3)), eddy, np.ones(count))


def eddy_basis(points: NDArray) -> NDArray:
    """Terms of the eddy-current displacement, (9, m), at scanner points (3, m) mm."""
    x, y, z = points
    quadratic = np.stack([x * y, x * z, y * z, x * x - y * y, z * z - (x * x + y * y) / 2])
    return np.concatenate([np.ones_like(points[:1]), points, quadratic / EDDY_RADIUS])


def eddy_stretch(points: NDArray, axis: int) -> NDArray:
    """Derivative of `eddy_basis` along one axis, (9, m)."""
    x, y, z = points
    none, one = np.zeros_like(x), np.ones_like(x)
    first = [one if axis == other else none for other in range(3)]
    quadratic = (
        [y, z, none, 2 * x, -x],
        [x, none, z, -2 * y, -y],
        [none, x, y, none, 2 * z],
    )[axis]
    return np.stack([none, *first, *(part / EDDY_RADIUS for part in quadratic)])


def moved(poses: Poses, volumes: NDArray, update: NDArray) -> Poses:
    """Poses with an update (m, 7 + k) subtracted from some volumes.

    Columns: translation mm, rotation vector (radians, applied after the rotation so far), gain,
    then eddy terms from `x` on.
    """
    rotation, translation = poses.rotation.copy(), poses.translation.copy()
    eddy, gain = poses.eddy.copy(), poses.gain.copy()
    translation[volumes] -= update[:, :3]
    turns = Rotation.from_rotvec(-update[:, 3:6]).as_matrix()
    rotation[volumes] = turns @ rotation[volumes]
    gain[volumes] -= update[:, 6]
    eddy[volumes, 1 : update.shape[1] - 6] -= update[:, 7:]
    return Poses(rotation, translation, eddy, gain)


def carried(poses: Poses, volumes: NDArray, turn: NDArray, shift: NDArray) -> Poses:
    """Poses of a group of volumes after its head is placed anew: u becomes `turn` u + `shift`."""
    rotation, translation = poses.rotation.copy(), poses.translation.copy()
    translation[volumes] += rotation[volumes] @ shift
    rotation[volumes] = rotation[volumes] @ turn
    return replace(poses, rotation=rotation, translation=translation)


def rms_change(before: Poses, after: Poses, points: NDArray, axis: int) -> NDArray:
    """Root mean square over points of the displacement between two sets of poses, (n,) mm."""
    return np.array(
        [
            np.sqrt(
                ((after.place(v, points, axis) - before.place(v, points, axis)) ** 2).sum(0).mean()
            )
            for v in range(len(before))
        ]
    )


def world_matrices(poses: Poses, frame: Frame) -> NDArray:
    """Rigid motion as (n, 4, 4) world matrices."""
    matrices = np.tile(np.eye(4), (len(poses), 1, 1))
    matrices[:, :3, :3] = poses.rotation
    matrices[:, :3, 3] = poses.translation
    return frame.to_world @ matrices @ np.linalg.inv(frame.to_world)


def poses_of(head_to_volume: NDArray, eddy: NDArray, frame: Frame) -> Poses:
    """The inverse of `world_matrices`, with the eddy terms (n, k) filled up with zeros."""
    inner = np.linalg.inv(frame.to_world) @ head_to_volume @ frame.to_world
    coefficients = np.zeros((len(inner), len(EDDY_TERMS)))
    coefficients[:, : eddy.shape[1]] = eddy
    return Poses(inner[:, :3, :3], inner[:, :3, 3], coefficients, np.ones(len(inner)))
