"""What bias N4 has left, estimated together with the tissues."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.anat.mixture import CENTRES, Mixture
from alsflow.nodes.anat.priors import DEEP, GM, OTHER, WM

KNOT = 4.0  # mm, grid of the residual field
FWHM = 60.0  # mm, smoothness of the residual field
FWHM_TO_SD = 2.3548
SDS = np.array([0.12, 0.07, 0.06])  # of white matter: wide, for the bias itself widens the classes


@dataclass(frozen=True)
class Lattice:
    """Coarse grid over a box of voxels, and where some chosen voxels lie in it."""

    shape: tuple[int, ...]
    zooms: NDArray  # (3,) mm
    cell: NDArray  # (n,) flat index of the cell that holds each voxel
    place: NDArray  # (3, n) coordinates of each voxel in cells

    @classmethod
    def over(cls, shape: tuple[int, ...], zooms: NDArray, voxels: NDArray) -> Lattice:
        """Lay cells of about `KNOT` mm over a grid; `voxels` is (3, n)."""
        step = np.maximum(np.round(KNOT / zooms).astype(int), 1)
        count = tuple(int(-(-size // width)) for size, width in zip(shape, step, strict=True))
        cell = np.ravel_multi_index(tuple(voxels // step[:, None]), count)
        place = ((voxels + 0.5) / step[:, None] - 0.5).astype(np.float32)
        return cls(count, zooms * step, cell, place)

    def smooth(self, values: NDArray, weights: NDArray) -> NDArray:
        """Gaussian-weighted mean of the values of voxels, on the cells."""
        size = int(np.prod(self.shape))
        top = np.bincount(self.cell, values * weights, size).reshape(self.shape)
        low = np.bincount(self.cell, weights, size).reshape(self.shape)
        sigma = FWHM / FWHM_TO_SD / self.zooms
        top, low = (
            ndimage.gaussian_filter(part, sigma, mode="constant", truncate=3)
            for part in (top, low)
        )
        return top / (low + 1e-5 * low.max())

    def at(self, field: NDArray, place: NDArray | None = None) -> NDArray:
        """Field on the cells, sampled at voxels."""
        place = self.place if place is None else place
        return ndimage.map_coordinates(field, place, order=1, mode="nearest").astype(np.float32)


def residual_field(
    log_intensity: NDArray, log_bias: NDArray, priors: NDArray, mixture: Mixture, lattice: Lattice
) -> NDArray:
    """Log bias on the lattice, from the distance of GM and WM voxels to their class means.

    Only pure classes take part: partial-volume classes would explain a bias away.
    """
    even = np.exp(log_intensity - log_bias)
    means, sds = mixture.means, SDS * mixture.means[WM]
    pure = priors[: WM + 1] * (1 - priors[DEEP])
    gaps = (even - means[:, None]) / sds[:, None]
    likely = pure * np.exp(-0.5 * gaps**2) / sds[:, None]
    total = likely.sum(axis=0) + priors[OTHER] * np.interp(even, CENTRES, mixture.outer) + 1e-9
    weight = np.zeros_like(even)
    pulled = np.zeros_like(even)
    for tissue in (GM, WM):
        mine = likely[tissue] / total / (sds[tissue] / means[tissue]) ** 2
        weight += mine
        pulled += mine * (log_intensity - np.log(means[tissue]))
    field = lattice.smooth(pulled / np.maximum(weight, 1e-12), weight)
    # the overall scale stays in the means
    return field - np.average(lattice.at(field), weights=weight)
