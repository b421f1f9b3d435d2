"""Noise in a diffusion series, told from signal by the spectrum of small patches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.errors import BadInputError

MIN_VOLUMES = 12  # below, a tensor alone takes most of the spectrum and nothing is left to judge
BATCH = 512  # patches worked on at a time
MIN_EDGE = 3  # voxels of a patch along each axis


@dataclass(frozen=True)
class Denoised:
    """A series without much of its noise.

    Attributes
    ----------
    signal : (x, y, z, n) float32 array
        Denoised where patches reach, as measured elsewhere.
    noise : (x, y, z) float32 array
        Standard deviation of the noise; NaN where no patch reached.
    rank : (x, y, z) float32 array
        Mean number of components kept; NaN where no patch reached.
    patch : tuple of int
        Edges of the patches, voxels.
    """

    signal: NDArray
    noise: NDArray
    rank: NDArray
    patch: tuple[int, int, int]


def why_not(shape: tuple[int, ...]) -> str:
    """Reason why a series of this shape cannot be denoised; empty where it can."""
    if shape[3] < MIN_VOLUMES:
        return (
            f"{shape[3]} volumes are too few to tell noise from signal by their spectrum "
            f"(at least {MIN_VOLUMES})"
        )
    patch = patch_edges(shape)
    if np.prod(patch) <= shape[3]:
        size = " x ".join(map(str, shape[:3]))
        return f"{size} voxels hold no patch with more voxels than volumes ({shape[3]})"
    return ""


def patch_edges(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Edges of the smallest odd cube with more voxels than volumes, cut to the image."""
    edge = MIN_EDGE
    while edge**3 <= shape[3]:
        edge += 2
    x, y, z = (min(edge, n) for n in shape[:3])
    return x, y, z


def denoise_series(
    signal: NDArray, mask: NDArray | None = None, stride: int | None = None
) -> Denoised:
    """Remove noise by principal components beyond the Marchenko-Pastur distribution [1]_.

    Each patch (voxels by volumes, less its mean volume by volume) keeps the components above what
    noise alone would make; where patches overlap, the simpler ones count more [2]_. The bias of
    magnitude images at low signal stays.

    Parameters
    ----------
    signal : (x, y, z, n) array
        Series as measured: neither interpolated nor smoothed.
    mask : (x, y, z) bool array, optional
        Patches whose centre lies within are used; all are without it.
    stride : int, optional
        Voxels between the centres of patches; by default half the edge of a patch.

    References
    ----------
    .. [1] Veraart et al. (2016). NeuroImage 142:394-406. doi:10.1016/j.neuroimage.2016.08.016
    .. [2] Manjón et al. (2013). PLoS ONE 8:e73021. doi:10.1371/journal.pone.0073021
    """
    reason = why_not(signal.shape)
    if reason:
        raise BadInputError(f"cannot be denoised: {reason}; switch denoising off")
    if not np.isfinite(signal).all():
        raise BadInputError(
            "holds values that are not numbers, which no patch can be made of; "
            "export the series again"
        )
    patch = patch_edges(signal.shape)
    corners = patch_corners(signal.shape, patch, mask, stride or max(patch) // 2)
    series = np.ascontiguousarray(signal, dtype=np.float32)
    total, weight, variance, rank = sum_patches(series, corners, patch)
    reached = weight > 0
    safe = np.where(reached, weight, 1)
    clean = np.where(reached[..., None], total / safe[..., None], series)
    noise = np.where(reached, np.sqrt(variance / safe), np.nan).astype(np.float32)
    kept = np.where(reached, rank / safe, np.nan).astype(np.float32)
    return Denoised(np.maximum(clean, 0), noise, kept, patch)


def patch_corners(
    shape: tuple[int, ...], patch: tuple[int, int, int], mask: NDArray | None, stride: int
) -> NDArray:
    """First voxels (k, 3) of the patches; the last patch of each axis ends with the image."""
    starts = []
    for n, edge in zip(shape[:3], patch, strict=True):
        last = n - edge
        starts.append(np.unique(np.r_[np.arange(0, last, stride), last]))
    corners = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, 3)
    if mask is None:
        return corners
    centres = corners + np.array(patch) // 2
    return corners[mask[tuple(centres.T)]]


def components(values: NDArray, voxels: int) -> tuple[NDArray, NDArray]:
    """Number of components that are signal (m,), and variance of the noise (m,).

    `values` (m, n) are the ascending eigenvalues of X X' of patches. The k smallest are noise
    where their mean and their range lead to the same variance.
    """
    values = np.maximum(values, 0)
    n = values.shape[1]
    k = np.arange(1, n + 1)
    free = voxels - (n - k)  # samples that the signal leaves
    mean = np.cumsum(values, axis=1) / (k * free)
    spread = (values - values[:, :1]) / free / (4 * np.sqrt(k / free))
    noise = n - 1 - np.argmax((spread <= mean)[:, ::-1], axis=1)  # the last k that agrees
    return n - 1 - noise, np.take_along_axis(mean, noise[:, None], axis=1)[:, 0]


def denoise_blocks(blocks: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Denoised patches (m, voxels, n), components kept (m,) and variance of the noise (m,)."""
    mean = blocks.mean(axis=1, keepdims=True)
    centred = blocks - mean
    values, vectors = np.linalg.eigh(np.swapaxes(centred, 1, 2) @ centred)
    kept, variance = components(values, blocks.shape[1] - 1)
    n = values.shape[1]
    signal = vectors * (np.arange(n) >= n - kept[:, None])[:, None, :]
    return centred @ (signal @ np.swapaxes(vectors, 1, 2)) + mean, kept, variance


def sum_patches(
    series: NDArray, corners: NDArray, patch: tuple[int, int, int]
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Sums over patches of weighted signal, weights, weighted variance and weighted rank."""
    n = series.shape[3]
    flat = series.reshape(-1, n)
    total = np.zeros(flat.shape, np.float32)
    weight, variance, rank = np.zeros((3, len(flat)), np.float32)
    steps = np.array([series.shape[1] * series.shape[2], series.shape[2], 1])
    offsets = np.indices(patch).reshape(3, -1).T @ steps
    for start in range(0, len(corners), BATCH):
        places = (corners[start : start + BATCH] @ steps)[:, None] + offsets
        clean, kept, noise = denoise_blocks(flat[places].astype(float))
        share = 1.0 / (1.0 + kept)
        clean *= share[:, None, None]
        for voxel in range(len(offsets)):
            # no two patches have the same voxel here, so the sum misses none
            at = places[:, voxel]
            total[at] += clean[:, voxel]
            weight[at] += share
            variance[at] += share * noise
            rank[at] += share * kept
    grid = series.shape[:3]
    return (
        total.reshape(series.shape),
        weight.reshape(grid),
        variance.reshape(grid),
        rank.reshape(grid),
    )
