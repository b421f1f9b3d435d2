"""Components of noise: what white matter and ventricles do together (aCompCor)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.func.dvars import blocks
from alsflow.nodes.geometry import voxel_sizes

MIN_VOXELS = 30  # six for each of five components; fewer are their own thermal noise
WANTED_VOXELS = 100  # for which purity is given up step by step
DEEP = 15.0  # mm below the brain's surface from where on fluid is a ventricle
# From strict to lax: least fraction, most grey matter in any of the six voxels beside it.
# None is the erosion proper: all six beside it reach the fraction, too.
STEPS: tuple[tuple[float, float | None], ...] = ((0.99, None), (0.99, 0.05), (0.95, 0.05))
LAX_FLUID: tuple[tuple[float, float | None], ...] = (
    (0.95, 0.25),
    (0.9, 0.25),
    (0.9, 1.0),
    (0.8, 1.0),
)
PERIOD = 128.0  # s; slower changes are taken out before components are sought
SILENT = 1e-10  # share of the largest value below which there is no component, and no signal
CROSS = ndimage.generate_binary_structure(3, 1)


@dataclass(frozen=True)
class NoiseMask:
    """Voxels of one tissue alone.

    Attributes
    ----------
    voxels : (x, y, z) bool array
        The mask; may be too small to be used.
    fraction : float
        Least fraction of the tissue in them.
    grey : float or None
        Most grey matter that a voxel beside them may hold; None if they were eroded.
    """

    voxels: NDArray
    fraction: float
    grey: float | None

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(self.voxels.sum())

    @property
    def enough(self) -> bool:
        """Whether there are `MIN_VOXELS`."""
        return self.size >= MIN_VOXELS


def noise_masks(tissue: NDArray, mask: NDArray, affine: NDArray) -> dict[str, NoiseMask]:
    """Voxels of white matter and of ventricles, as pure as the voxels are small.

    The strictest of `STEPS` that leaves `WANTED_VOXELS` is taken, or the laxest. Fluid counts
    only `DEEP` below the surface of the brain: between the gyri and around the brain it shares
    voxels with cortex.

    Parameters
    ----------
    tissue : (x, y, z, 3) array
        Fractions of grey matter, white matter and fluid.
    mask : (x, y, z) bool array
        Brain that every volume shows.
    affine : (4, 4) array
        Voxel to mm.
    """
    whole = np.pad(ndimage.binary_fill_holes(mask), 1)
    depth = ndimage.distance_transform_edt(whole, voxel_sizes(affine))[1:-1, 1:-1, 1:-1]
    grey = ndimage.maximum_filter(tissue[..., 0], footprint=CROSS)
    return {
        "wm": _purest(tissue[..., 1], grey, mask, STEPS),
        "csf": _purest(tissue[..., 2], grey, mask & (depth >= DEEP), STEPS + LAX_FLUID),
    }


def _purest(
    fraction: NDArray, grey: NDArray, where: NDArray, steps: tuple[tuple[float, float | None], ...]
) -> NoiseMask:
    """Strictest mask with as many voxels as wanted, or the laxest."""
    for least, most in steps:
        voxels = (fraction >= least) & where
        if most is None:
            voxels = ndimage.binary_erosion(voxels, CROSS)
        else:
            voxels &= grey <= most
        found = NoiseMask(voxels, least, most)
        if found.size >= WANTED_VOXELS:
            break
    return found


@dataclass(frozen=True)
class Components:
    """Principal components of the series of one mask.

    Attributes
    ----------
    series : (n, k) array
        Components of unit length in each run, the largest first; NaN where a run has no more.
    explained : (runs, k) array
        Share of the variance in the mask, by run.
    """

    series: NDArray
    explained: NDArray


def slow_cosines(count: int, tr: float, highest: float) -> NDArray:
    """Discrete cosines of at most `highest` Hz over `count` volumes, (count, k), unit length."""
    return cosines(count, np.arange(1, cosine_index(count, tr, highest) + 1))


def cosine_index(count: int, tr: float, frequency: float) -> int:
    """Number of the highest discrete cosine that is not above a frequency, Hz."""
    return min(int(np.floor(2 * count * tr * frequency + 1e-9)), count - 1)


def cosines(count: int, numbers: NDArray) -> NDArray:
    """Discrete cosines (DCT-II) over `count` volumes, (count, k), unit length.

    The cosine number k has the frequency k / (2 count tr).
    """
    time = (np.arange(count) + 0.5) * np.pi / count
    return np.sqrt(2 / count) * np.cos(time[:, None] * numbers)


def components(signal: NDArray, runs: NDArray, tr: float, count: int) -> Components:
    """Strongest common courses of voxels that hold no grey matter [1]_, found in each run alone.

    As fMRIPrep does it: the mean and cosines slower than `PERIOD` are taken out of each voxel,
    which then counts with unit variance. The sign makes the largest value of a component positive.

    Parameters
    ----------
    signal : (v, n) array
        Series of the voxels of one mask.
    runs : (n,) int array
        Number of the run of each volume.
    tr : float
        Time between volumes, s.
    count : int
        Components wanted.

    References
    ----------
    .. [1] Behzadi et al. (2007). NeuroImage 37:90-101. doi:10.1016/j.neuroimage.2007.04.042
    """
    found = np.full((signal.shape[1], count), np.nan)
    explained = []
    for volumes in run_volumes(runs):
        course, share = _run_components(signal[:, volumes], tr, count)
        found[volumes] = course
        explained.append(share)
    return Components(found, np.array(explained))


def run_volumes(runs: NDArray) -> Iterator[NDArray]:
    """Volumes of each run in turn."""
    for run in np.unique(runs):
        yield np.flatnonzero(runs == run)


def _run_components(signal: NDArray, tr: float, count: int) -> tuple[NDArray, NDArray]:
    """Components (n, count) of one run, NaN beyond its rank, and their shares of variance."""
    n = signal.shape[1]
    slow = np.column_stack([np.full(n, n**-0.5), slow_cosines(n, tr, 1 / PERIOD)])
    covariance = np.zeros((n, n))
    for part in blocks(len(signal)):
        values = signal[part].astype(float)
        size = np.abs(values).max(axis=1)
        values = values - (values @ slow) @ slow.T
        left = values.std(axis=1)
        alive = left > SILENT * size
        values = values[alive] / left[alive, None]
        covariance += values.T @ values
    power, course = np.linalg.eigh(covariance)
    power, course = power[::-1], course[:, ::-1]
    rank = int((power > SILENT * max(power[0], 1e-30)).sum())
    found, share = np.full((n, count), np.nan), np.full(count, np.nan)
    kept = min(rank, count)
    largest = np.take_along_axis(course, np.abs(course).argmax(axis=0)[None], axis=0)
    found[:, :kept] = (course * np.sign(largest))[:, :kept]
    share[:kept] = power[:kept] / power.sum() if rank else np.nan
    return found, share
