"""b-values and gradient directions: what a diffusion series was weighted with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.geometry import voxel_sizes

B0_MAX = 50.0  # s/mm2; a volume at or below this b-value counts as b=0


@dataclass(frozen=True)
class Gradients:
    """Diffusion weighting of the volumes of one series.

    Attributes
    ----------
    bvals : (n,) array
        b-values, s/mm2.
    directions : (n, 3) array
        Unit vectors in RAS+ world coordinates; (0, 0, 0) for volumes without weighting.
    """

    bvals: NDArray
    directions: NDArray

    @property
    def b0(self) -> NDArray:
        """(n,) bool array: the volumes without diffusion weighting."""
        return self.bvals <= B0_MAX

    def __len__(self) -> int:
        return len(self.bvals)


def world_directions(bvecs: NDArray, affine: NDArray) -> NDArray:
    """Directions in RAS+ world coordinates, (n, 3), from FSL b-vectors, (3, n).

    FSL's vectors are relative to the voxel axes, the first of them inverted where the affine has
    a positive determinant.
    """
    vectors = np.array(bvecs, float)
    if np.linalg.det(affine[:3, :3]) > 0:
        vectors[0] *= -1
    return (affine[:3, :3] / voxel_sizes(affine) @ vectors).T


def fsl_bvecs(directions: NDArray, affine: NDArray) -> NDArray:
    """FSL b-vectors, (3, n), from directions in RAS+ world coordinates, (n, 3)."""
    vectors = np.linalg.solve(affine[:3, :3] / voxel_sizes(affine), np.asarray(directions).T)
    if np.linalg.det(affine[:3, :3]) > 0:
        vectors[0] *= -1
    return vectors
