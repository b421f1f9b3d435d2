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
SIZES = (
    0.001,
    0.01,
    0.1,
    1.0,
    3.0,
)  # of the variation with direction, relative to the mean over points
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


@dataclass(frozen=True)
class MixedModel:
    """Signal models of points that differ in how much their signal varies with the direction.

    Attributes
    ----------
    models : tuple of SignalModel
    kinds : (m,) int array
        Which of them holds at each point.
    """

    models: tuple[SignalModel, ...]
    kinds: NDArray

    def parts(self) -> list[tuple[SignalModel, NDArray]]:
        """Each model in use with the numbers of its points."""
        numbered = [
            (model, np.flatnonzero(self.kinds == n)) for n, model in enumerate(self.models)
        ]
        return [(model, points) for model, points in numbered if len(points)]


def constant_model(values: NDArray) -> MixedModel:
    """Model of volumes (n, m) that show all the same: those without diffusion weighting."""
    count, points = values.shape
    centring = np.eye(count) - 1 / count
    noise = float((centring @ values).var()) * count / max(count - 1, 1)
    noise = max(noise, LEAST_NOISE**2 * float((values**2).mean()), 1e-9)
    model = SignalModel(centring / noise, noise, np.zeros(len(DEGREES)))
    return MixedModel((model,), np.zeros(points, int))


@dataclass(frozen=True)
class DirectionModel:
    """Covariance of the volumes of one shell.

    One covariance for all points would take a shift of the edge of the brain that changes with
    the direction for anisotropy: its price would be that of white matter. So points are sorted by
    how much their own signal changes with the direction.

    Attributes
    ----------
    varying : (n, n) array
        Covariance of the signal, mean over points.
    noise : float
        Variance of the noise.
    models : tuple of SignalModel
        For each of `SIZES`.
    """

    varying: NDArray
    noise: float
    models: tuple[SignalModel, ...]

    @property
    def usual(self) -> SignalModel:
        """The model of the mean over points."""
        return self.models[SIZES.index(1.0)] if 1.0 in SIZES else self.models[-1]

    def at(self, values: NDArray) -> MixedModel:
        """The likeliest of the models at each point of values (n, m)."""
        centred = values - values.mean(axis=0)
        centring = np.eye(len(values)) - 1 / len(values)
        spread, axes = np.linalg.eigh(centring @ self.varying @ centring)
        told = spread > self.noise / 10
        power = (axes[:, told].T.astype(values.dtype) @ centred) ** 2
        costs = []
        for size in SIZES:
            variance = (size * spread[told] + self.noise).astype(values.dtype)
            costs.append(np.log(variance).sum() + (power / variance[:, None]).sum(axis=0))
        return MixedModel(self.models, np.argmin(costs, axis=0))


def direction_model(values: NDArray, directions: NDArray) -> DirectionModel:
    """Covariance of the volumes of one shell, fitted to that over points.

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
    varying = np.tensordot(found[:-1], np.stack(kernels), axes=1)
    models = tuple(_scaled_model(varying, noise, size, found[:-1]) for size in SIZES)
    return DirectionModel(varying, noise, models)


def _scaled_model(varying: NDArray, noise: float, size: float, amplitudes: NDArray) -> SignalModel:
    """Model whose signal varies by `size` times the covariance `varying`."""
    inverse = np.linalg.inv(noise * np.eye(len(varying)) + size * varying)
    ones = inverse.sum(axis=1)
    return SignalModel(inverse - np.outer(ones, ones) / ones.sum(), noise, size * amplitudes)
