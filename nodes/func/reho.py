"""Regional homogeneity: how alike the series of a voxel and its neighbours run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.alff import varying

# Neighbours by the number of axes along which they may differ from the voxel in the middle.
AXES = {7: 1, 19: 2, 27: 3}
CHUNK = 8192  # voxels ranked at a time, which bounds memory
LEAST_VOLUMES = 3  # of a run; two volumes can be ranked in two ways only


def measure_reho(
    series: NDArray, mask: NDArray, runs: NDArray, neighbours: int = 27
) -> tuple[NDArray, NDArray]:
    """Kendall's W of every voxel with its neighbours, ties corrected for [1]_.

    The volumes are ranked within each run; W is found in each run and averaged over runs by their
    length. Neighbours outside the mask, or that do not vary in a run, are left out.

    Parameters
    ----------
    series : (x, y, z, n) array
        Denoised series of the volumes that were not censored.
    mask : (x, y, z) bool array
        Brain.
    runs : (n,) int array
        Number of the run of each volume.
    neighbours : {27, 19, 7}
        Voxels compared, the one in the middle included: those that share a corner, an edge or a
        face with it.

    Returns
    -------
    reho : (x, y, z) float32 array
        W, 0 to 1. NaN outside the mask, where the voxel does not vary, and where fewer than half
        of `neighbours`, rounded up, can be compared.
    count : (x, y, z) int array
        Voxels compared, the least over runs.

    References
    ----------
    .. [1] Zang et al. (2004). NeuroImage 22:394-400. doi:10.1016/j.neuroimage.2003.12.030
    """
    if neighbours not in AXES:
        raise BadInputError(f"cannot be compared with {neighbours} neighbours; give 27, 19 or 7")
    numbers, lengths = np.unique(runs, return_counts=True)
    enough = lengths >= LEAST_VOLUMES
    if not enough.any():
        raise BadInputError(f"has no run of at least {LEAST_VOLUMES} volumes to rank")
    total = np.zeros(mask.shape)
    least = np.full(mask.shape, neighbours)
    for run, length in zip(numbers[enough], lengths[enough], strict=True):
        own, count = kendall_w(series[..., runs == run], mask, neighbours)
        total += length * own
        least = np.minimum(least, count)
    total[least < (neighbours + 1) // 2] = np.nan
    return (total / lengths[enough].sum()).astype(np.float32), least


def kendall_w(series: NDArray, mask: NDArray, neighbours: int) -> tuple[NDArray, NDArray]:
    """W of each voxel with all neighbours that are there in one run, and how many there are."""
    inside = series[mask]
    ranks = centred_ranks(inside)
    ranks[~varying(inside.std(axis=1, dtype=float))] = 0
    spread = np.zeros(mask.shape)
    # the sum of squares of average ranks holds the correction for ties
    spread[mask] = np.einsum("vt,vt->v", ranks, ranks, dtype=float)
    count = around((spread > 0).astype(np.float32), neighbours)
    summed = np.zeros(mask.shape)
    volume = np.zeros(mask.shape, np.float32)
    for column in ranks.T:
        volume[mask] = column
        summed += around(volume, neighbours).astype(float) ** 2
    most = count * around(spread, neighbours)
    w = np.full(mask.shape, np.nan)
    np.divide(summed, most, out=w, where=spread > 0)
    return w, np.where(mask, count, 0).astype(int)


def centred_ranks(series: NDArray) -> NDArray:
    """Average ranks (v, n) float32 of each series less their mean; halves, hence exact."""
    ranks = np.empty(series.shape, np.float32)
    for start in range(0, len(series), CHUNK):
        ranks[start : start + CHUNK] = rankdata(series[start : start + CHUNK], axis=1)
    return ranks - np.float32((series.shape[1] + 1) / 2)


def around(volume: NDArray, neighbours: int) -> NDArray:
    """Sum over each voxel and its neighbours; beyond the border there is nothing."""
    padded = np.pad(volume, 1)
    total = np.zeros_like(volume)
    for offset in np.ndindex(3, 3, 3):
        if np.abs(np.array(offset) - 1).sum() <= AXES[neighbours]:
            part = tuple(slice(k, k + n) for k, n in zip(offset, volume.shape, strict=True))
            total += padded[part]
    return total
