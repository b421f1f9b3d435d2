"""What the signal of one volume says about another: a Gaussian process over directions.

The signal of a voxel along direction g is a random function of g whose covariance depends on the
angle between two directions alone [1]_. It is the same function for all voxels, so what the other
volumes predict for a volume is a fixed mixture of them. No tensor is fitted, and no voxel needs a
model of its own.

References
----------
.. [1] Andersson and Sotiropoulos (2015). NeuroImage 122:166-176.
   doi:10.1016/j.neuroimage.2015.07.067
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import eval_legendre

DEGREES = (2, 4, 6)  # of the Legendre polynomials; even: g and -g weight alike
LEAST_NOISE = 1e-3  # share of the variance that is noise at least
SWEEPS = 4  # passes that fill gaps from each other


@dataclass(frozen=True)
class SignalModel:
    """How n volumes of one shell hang together.

    Attributes
    ----------
    precision : (n, n) array
        Inverse covariance with the mean over volumes projected out, 1 / signal².
    noise : float
        Variance of the part that no other volume predicts, signal².
    amplitudes : (3,) array
        Variance along the Legendre polynomials of `DEGREES`, signal².
    """

    precision: NDArray
    noise: float
    amplitudes: NDArray

    @property
    def leverage(self) -> NDArray:
        """(n,) diagonal of the precision."""
        return np.diag(self.precision)

    def misfit(self, values: NDArray) -> NDArray:
        """What each volume exceeds its prediction from the others by; values (n, ...)."""
        weights = (self.precision / self.leverage[:, None]).astype(values.dtype)
        return np.tensordot(weights, values, axes=1)

    def smoothed(self, values: NDArray) -> NDArray:
        """Values (n, ...) without what the model holds for noise."""
        weights = np.eye(len(values)) - self.noise * self.precision
        return np.tensordot(weights.astype(values.dtype), values, axes=1)

    def filled(self, values: NDArray, gaps: NDArray) -> NDArray:
        """Values (n, ..., m) with those at `gaps` (n, m) predicted from the other volumes."""
        columns = np.flatnonzero(gaps.any(axis=0))
        if len(columns) == 0:
            return values
        part, missing = values[..., columns], gaps[:, columns]
        weights = (self.precision / self.leverage[:, None]).astype(values.dtype)
        rows = np.flatnonzero(missing.any(axis=1))
        for _ in range(SWEEPS):  # one volume after the other: together they may diverge
            for row in rows:
                here = missing[row]
                part[row][..., here] -= np.tensordot(weights[row], part[..., here], axes=1)
        filled = values.copy()
        filled[..., columns] = part
        return filled


def constant_model(values: NDArray) -> SignalModel:
    """Model of volumes (n, m) that show all the same: those without diffusion weighting."""
    count = len(values)
    centring = np.eye(count) - 1 / count
    noise = max(float((centring @ values).var()) * count / max(count - 1, 1), 1e-9)
    return SignalModel(centring / noise, noise, np.zeros(len(DEGREES)))


def direction_model(values: NDArray, directions: NDArray) -> SignalModel:
    """Model of the volumes of one shell, fitted to their covariance.

    Parameters
    ----------
    values : (n, m) array
        Aligned signal of n volumes at m points.
    directions : (n, 3) array
        Unit gradient vectors in the frame of the head.
    """
    count = len(values)
    centred = values - values.mean(axis=0)
    observed = (centred @ centred.T).astype(float) / values.shape[1]
    cosines = np.clip(directions @ directions.T, -1, 1)
    kernels = [eval_legendre(degree, cosines) for degree in DEGREES]
    centring = np.eye(count) - 1 / count
    parts = [centring @ kernel @ centring for kernel in kernels] + [centring]
    found, _ = nnls(np.stack([part.ravel() for part in parts], axis=1), observed.ravel())
    noise = max(float(found[-1]), LEAST_NOISE * float(np.trace(observed)) / count, 1e-9)
    covariance = noise * np.eye(count)
    for amplitude, kernel in zip(found[:-1], kernels, strict=True):
        covariance += amplitude * kernel
    inverse = np.linalg.inv(covariance)
    ones = inverse.sum(axis=1)
    return SignalModel(inverse - np.outer(ones, ones) / ones.sum(), noise, found[:-1])
