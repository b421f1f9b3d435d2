"""Mixture of pure tissues, their partial volumes and what is not brain, fitted by EM.

The partial-volume classes are not free: each is a row of narrow Gaussians on the line between
two pure means, so that voxels of mixed tissue help to place the pure means instead of dragging
them together. After the fit each intensity has an expected fraction of each tissue [1]_, [2]_.

References
----------
.. [1] Ashburner & Friston (2005). NeuroImage 26:839-851. doi:10.1016/j.neuroimage.2005.02.018
.. [2] Tohka et al. (2004). NeuroImage 23:84-97. doi:10.1016/j.neuroimage.2004.05.007
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.anat.priors import CSF, DEEP, GM, LINING, OTHER, WM

BINS = 600  # of intensity
TOP = 1.8  # highest intensity of the bins, relative to white matter
CENTRES = (np.arange(BINS) + 0.5) * TOP / BINS
STEPS = 7  # Gaussians per partial-volume class
# classes: three pure, three mixed, everything else, grey nuclei
PURE = (0, 2, 4)
PAIRS = {1: (CSF, GM), 3: (GM, WM), 5: (CSF, WM)}
OUTER, NUCLEI = 6, 7
CLASSES = 8
DEEP_SD = 0.06  # of white matter; the nuclei differ among themselves
SD_LOW = np.array([0.02, 0.015, 0.015])  # of white matter
SD_HIGH = np.array([0.07, 0.05, 0.04])  # wider pure classes would swallow the mixed ones
SD_POOL = 0.35  # how far each variance is drawn towards the common one
TINY = 1e-7  # likelihood that any class grants to any intensity
SMOOTH_OUTER = 6.0  # bins


def _weights() -> tuple[NDArray, NDArray]:
    """Tissue weights (s, 3) of every Gaussian, and the class (s,) each belongs to."""
    rows: list[NDArray] = []
    classes: list[int] = []
    for label, tissue in zip(PURE, (CSF, GM, WM), strict=True):
        rows.append(np.eye(3)[tissue])
        classes.append(label)
    for label, (first, second) in PAIRS.items():
        for part in (np.arange(STEPS) + 0.5) / STEPS:
            rows.append((1 - part) * np.eye(3)[first] + part * np.eye(3)[second])
            classes.append(label)
    return np.array(rows), np.array(classes)


WEIGHTS, CLASS_OF = _weights()


@dataclass(frozen=True)
class Mixture:
    """Parameters in units of the scaled image (white matter near 1)."""

    means: NDArray  # (3,) CSF, GM, WM
    sds: NDArray  # (3,)
    shares: NDArray  # (6,) how common each brain class is, against what its prior says
    deep_mean: float
    outer: NDArray  # (BINS,) density of what is not brain


def bin_of(intensity: NDArray) -> NDArray:
    """Index of the intensity bin of each voxel."""
    return np.clip((intensity * (BINS / TOP)).astype(np.int32), 0, BINS - 1)


def smooth_histogram(counts: NDArray) -> NDArray:
    """Smooth density over the bins from counts; no bin is impossible."""
    wide = ndimage.gaussian_filter1d(counts, SMOOTH_OUTER) + 1e-3 * counts.sum() / BINS
    return wide / wide.sum() * (BINS / TOP)


def gaussians(mixture: Mixture) -> NDArray:
    """Density (s, BINS) of every Gaussian of the six brain classes."""
    mean = (WEIGHTS @ mixture.means)[:, None]
    variance = (WEIGHTS @ mixture.sds**2)[:, None]
    return np.exp(-0.5 * (CENTRES - mean) ** 2 / variance) / np.sqrt(2 * np.pi * variance)


def lookup(mixture: Mixture) -> tuple[NDArray, NDArray]:
    """Likelihood (8, BINS) of each class and expected tissue fractions (8, 3, BINS) within it."""
    density = gaussians(mixture)
    likelihood = np.zeros((CLASSES, BINS))
    fraction = np.zeros((CLASSES, 3, BINS))
    for label in range(6):
        mine = label == CLASS_OF
        part, weight = density[mine], WEIGHTS[mine]
        likelihood[label] = part.mean(axis=0)
        fraction[label] = (weight.T @ part) / np.maximum(part.sum(axis=0), 1e-300)
        far = part.sum(axis=0) < 1e-200
        distance = np.abs(CENTRES[far][:, None] - weight @ mixture.means)
        fraction[label][:, far] = weight[distance.argmin(axis=1)].T
    likelihood[OUTER] = mixture.outer
    gap = (CENTRES - mixture.deep_mean) / DEEP_SD
    likelihood[NUCLEI] = np.exp(-0.5 * gap**2) / (DEEP_SD * np.sqrt(2 * np.pi))
    fraction[NUCLEI, GM] = 1
    return (likelihood + TINY).astype(np.float32), fraction.astype(np.float32)


def brain_shares(priors: NDArray) -> NDArray:
    """Unweighted priors (6, n) of the brain classes; a mixed class lives where both tissues do.

    CSF mixes with white matter only where no cortex lies between them. Elsewhere that class would
    take thin cortex for itself, for the intensities are the same.
    """
    csf, gm, wm = priors[CSF], priors[GM], priors[WM]
    mixed = [2 * np.sqrt(csf * gm), 2 * np.sqrt(gm * wm), 2 * np.sqrt(csf * wm) * priors[LINING]]
    return np.stack([csf, mixed[0], gm, mixed[1], wm, mixed[2]]).astype(np.float32)


def class_priors(priors: NDArray, basis: NDArray, shares: NDArray) -> tuple[NDArray, NDArray]:
    """Prior (8, n) of each class, summing to one, and the norm (n,) of the weighted basis."""
    weighted = basis * shares.astype(np.float32)[:, None]
    norm = weighted.sum(axis=0) + 1e-12
    brain, deep = 1 - priors[OTHER], priors[DEEP]
    weighted *= brain * (1 - deep) / norm
    return np.concatenate([weighted, priors[OTHER][None], (deep * brain)[None]]), norm


def responsibilities(bins: NDArray, prior: NDArray, likelihood: NDArray) -> NDArray:
    """Posterior (8, n) of each class."""
    posterior = prior * likelihood[:, bins]
    posterior /= posterior.sum(axis=0) + 1e-30
    return posterior


def expected_fractions(bins: NDArray, posterior: NDArray, fraction: NDArray) -> NDArray:
    """Posterior mean fraction (3, n) of CSF, GM and WM; what is not brain counts for none."""
    found = np.zeros((3, len(bins)), np.float32)
    for tissue in range(3):
        for label in range(CLASSES):
            if fraction[label, tissue].any():
                found[tissue] += posterior[label] * fraction[label, tissue][bins]
    return found


def update(
    mixture: Mixture,
    bins: NDArray,
    posterior: NDArray,
    basis: NDArray,
    norm: NDArray,
    free_csf: bool,
) -> Mixture:
    """Maximisation step: means, variances, shares and the density of what is not brain."""
    counts = np.stack([np.bincount(bins, row, BINS) for row in posterior])
    means = update_means(mixture, counts, free_csf)
    moved = replace(mixture, means=means)
    deep = counts[NUCLEI]
    deep_mean = float(np.average(CENTRES, weights=deep)) if deep.sum() > 100 else mixture.deep_mean
    white = means[WM]
    return Mixture(
        means=means,
        sds=update_sds(moved, counts),
        shares=update_shares(posterior, basis, norm),
        deep_mean=float(np.clip(deep_mean, means[GM], white * 0.91)),
        outer=smooth_histogram(counts[OUTER]),
    )


def update_means(mixture: Mixture, counts: NDArray, free_csf: bool) -> NDArray:
    """Weighted least squares for the pure means over all Gaussians of all brain classes."""
    density = gaussians(mixture)
    of_class = np.stack([density[label == CLASS_OF].sum(axis=0) for label in range(6)])
    taken = density / np.maximum(of_class[CLASS_OF], 1e-300) * counts[CLASS_OF]
    precision = 1 / (WEIGHTS @ mixture.sds**2)
    normal = WEIGHTS.T @ (WEIGHTS * (taken.sum(axis=1) * precision)[:, None])
    right = WEIGHTS.T @ ((taken @ CENTRES) * precision)
    free = np.array([free_csf, True, True])
    right = right - normal[:, ~free] @ mixture.means[~free]
    ridge = 1e-6 * np.trace(normal)
    means = mixture.means.copy()
    left = normal[np.ix_(free, free)] + ridge * np.eye(free.sum())
    means[free] = np.linalg.solve(left, right[free] + ridge * mixture.means[free])
    return means


def update_sds(mixture: Mixture, counts: NDArray) -> NDArray:
    """Deviations of the pure classes, drawn together and kept in their ranges."""
    pure = counts[list(PURE)]
    size = np.maximum(pure.sum(axis=1), 1)
    variance = (pure * (CENTRES - mixture.means[:, None]) ** 2).sum(axis=1) / size
    common = (size @ variance) / size.sum()
    drawn = (1 - SD_POOL) * variance + SD_POOL * common
    white = mixture.means[WM]
    return np.sqrt(np.clip(drawn, (SD_LOW * white) ** 2, (SD_HIGH * white) ** 2))


def update_shares(posterior: NDArray, basis: NDArray, norm: NDArray) -> NDArray:
    """Share of each brain class against its prior; that of GM is one."""
    inside = (1 - posterior[OUTER] - posterior[NUCLEI]) / norm
    shares = (posterior[:6].sum(axis=1) + 10) / (basis @ inside + 10)
    # beside the ventricles a thin false cortex explains the intensities as well as this class
    # does, and would starve it
    shares[5] = max(shares[5], shares[1])
    return shares / shares[2]
