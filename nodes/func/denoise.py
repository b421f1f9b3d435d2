"""Take confounds, trends and frequencies out of a series, all in one projection.

Filtering after regression, or before it, brings back what the other step has removed [1]_. Here
every run is projected once onto what is orthogonal to all of them together.

References
----------
.. [1] Lindquist et al. (2019). Human Brain Mapping 40:2358-2376. doi:10.1002/hbm.24528
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from alsflow.nodes.func.compcor import cosine_index, cosines, run_volumes
from alsflow.nodes.func.dvars import blocks, polynomials

# Degrees of freedom. What a regression leaves of the volumes must be MIN_FREEDOM; the band-pass
# takes the greater part of those, in proportion to the band, and of what then is left MIN_IN_BAND
# is needed: a Fisher z has a standard error of 1 / sqrt(left - 2). docs/decisions.md says why.
MIN_FREEDOM, MIN_IN_BAND = 30, 10
BAND = "band"  # the part of `Freedom.lost` that the band-pass takes
DEPENDENT = 1e-6  # share of a regressor's length that must be new
CONSTANT = 1e-10  # share of it that must be left when the mean is removed


@dataclass(frozen=True)
class Freedom:
    """Degrees of freedom of a projection.

    Attributes
    ----------
    lost : dict of str to int
        By part, each counted after those before it.
    kept : int
        Volumes that take part.
    total : int
        Volumes of the series.
    """

    lost: dict[str, int]
    kept: int
    total: int

    @property
    def left(self) -> int:
        """What remains of the volumes that take part."""
        return self.kept - sum(self.lost.values())

    @property
    def left_by_regression(self) -> int:
        """What remains before the band-pass."""
        return self.left + self.lost.get(BAND, 0)

    @property
    def note(self) -> str:
        """What to know of a rest that is enough, but little; empty where it is plenty."""
        if self.refusal is not None or self.left >= MIN_FREEDOM:
            return ""
        error = 1 / (self.left - 2) ** 0.5
        return (
            f"few degrees of freedom: {self.left} of {self.total} volumes' worth of information "
            f"are left in the band; a Fisher z has a standard error of {error:.2f}"
        )

    @property
    def refusal(self) -> str | None:
        """Why the rest is too little; None if it is enough."""
        if self.left_by_regression >= MIN_FREEDOM and self.left >= MIN_IN_BAND:
            return None
        if self.kept <= MIN_FREEDOM:
            censored = f", {self.total - self.kept} of them censored" * (self.kept < self.total)
            return (
                f"the series is too short: {self.total} volumes{censored}, where more than "
                f"{MIN_FREEDOM} are needed even if nothing is removed"
            )
        short = self.left_by_regression < MIN_FREEDOM
        left, least = (self.left_by_regression, MIN_FREEDOM) if short else (self.left, MIN_IN_BAND)
        when, mend = (
            ("after regression", "")
            if short
            else ("after regression and band-pass", " or has a wider band")
        )
        return (
            f"{max(left, 0)} of {self.total} volumes' worth of information are left {when}, "
            f"fewer than {least}; choose a preset that removes less{mend}, or a longer series"
        )


@dataclass(frozen=True)
class Projection:
    """What is removed from a series, as orthonormal bases.

    Attributes
    ----------
    keep : (n,) bool array
        Volumes that take part.
    volumes : list of int array
        Those of each run, as indices into the volumes kept.
    bases : list of (n_run, k) array
        Trend and confounds of each run.
    bands : list of (n_run, k) array
        What the band-pass removes besides.
    freedom : Freedom
        Degrees of freedom lost and left.
    """

    keep: NDArray
    volumes: list[NDArray]
    bases: list[NDArray]
    bands: list[NDArray]
    freedom: Freedom


def make_projection(
    regressors: Mapping[str, NDArray],
    runs: NDArray,
    tr: float,
    *,
    band: tuple[float, float] | None = None,
    trend: int = 1,
    keep: NDArray | None = None,
) -> Projection:
    """Gather all that is to be removed from each run.

    Parameters
    ----------
    regressors : mapping of str to (n, k) array
        Confounds by part, in the order in which their degrees of freedom are counted.
    runs : (n,) int array
        Number of the run of each volume; each run has regressors of its own.
    tr : float
        Time between volumes, s.
    band : (float, float), optional
        Lowest and highest frequency that stay, Hz.
    trend : int
        Degree of the polynomial.
    keep : (n,) bool array, optional
        False leaves a volume out of the fit and of the result.
    """
    keep = np.ones(len(runs), bool) if keep is None else np.asarray(keep, bool)
    place = np.cumsum(keep) - 1
    lost = dict.fromkeys(["trend", *regressors, BAND], 0)
    volumes, bases, bands = [], [], []
    for whole in run_volumes(runs):
        chosen = keep[whole]
        own = whole[chosen]
        parts = {"trend": polynomials(len(whole), trend)[chosen]}
        parts |= {name: values[own] for name, values in regressors.items()}
        basis = np.empty((len(own), 0))
        for name, columns in parts.items():
            lost[name] -= basis.shape[1]
            basis = extended(basis, columns)
            lost[name] += basis.shape[1]
        size = basis.shape[1]
        both = extended(basis, stop_band(len(whole), tr, band)[chosen])
        lost[BAND] += both.shape[1] - size
        volumes.append(place[own])
        bases.append(basis)
        bands.append(both[:, size:])
    return Projection(keep, volumes, bases, bands, Freedom(lost, int(keep.sum()), len(runs)))


def stop_band(count: int, tr: float, band: tuple[float, float] | None) -> NDArray:
    """Discrete cosines over a run of `count` volumes that are not in the band, (count, k).

    The highest one removed below the band is not above its lower end, as in SPM and nilearn.
    """
    if band is None:
        return np.empty((count, 0))
    low, high = (cosine_index(count, tr, frequency) for frequency in band)
    numbers = np.arange(1, count)
    return cosines(count, numbers[(numbers <= low) | (numbers > high)])


def extended(basis: NDArray, columns: NDArray) -> NDArray:
    """Orthonormal basis (n, k) with what is new in `columns` (n, m), by pivoted QR.

    Columns are weighed with their mean removed, so that a regressor that hardly varies about a
    large mean counts like any other.
    """
    whole = np.sqrt((columns**2).sum(axis=0))
    if basis.shape[1]:
        columns = columns - columns.mean(axis=0)
    length = np.sqrt((columns**2).sum(axis=0))
    used = length > CONSTANT * whole
    fresh = columns[:, used] / length[used]
    for _ in range(2):  # once leaves rounding errors of what was taken out
        fresh = fresh - basis @ (basis.T @ fresh)
    if not fresh.size:
        return basis
    new, triangle, _ = linalg.qr(fresh, mode="economic", pivoting=True)
    new = new[:, np.abs(np.diag(triangle)) > DEPENDENT]
    new = new - basis @ (basis.T @ new)
    return np.concatenate([basis, np.linalg.qr(new)[0]], axis=1)


def project(signal: NDArray, projection: Projection) -> tuple[NDArray, NDArray]:
    """Residuals of a series, with and without the band-pass.

    Parameters
    ----------
    signal : (v, n) array
        Series of voxels.
    projection : Projection
        What to remove.

    Returns
    -------
    filtered : (v, m) float32 array
        Residual of all, the kept volumes alone.
    unfiltered : (v, m) float32 array
        Residual of trend and confounds: the spectrum outside the band stays.
    """
    size = (len(signal), projection.freedom.kept)
    filtered, unfiltered = np.empty(size, np.float32), np.empty(size, np.float32)
    for part in blocks(len(signal)):
        values = signal[part][:, projection.keep].astype(float)
        for own, basis, band in zip(
            projection.volumes, projection.bases, projection.bands, strict=True
        ):
            if not len(own):
                continue
            rest = values[:, own]
            rest = rest - rest.mean(axis=1, keepdims=True)
            rest -= (rest @ basis) @ basis.T
            unfiltered[part, own] = rest
            filtered[part, own] = rest - (rest @ band) @ band.T
    return filtered, unfiltered


def denoise(
    signal: NDArray,
    regressors: Mapping[str, NDArray],
    runs: NDArray,
    tr: float,
    *,
    band: tuple[float, float] | None = None,
    trend: int = 1,
    keep: NDArray | None = None,
) -> tuple[NDArray, NDArray, Freedom]:
    """Filtered and unfiltered residual (v, m), and what they cost; see `make_projection`."""
    projection = make_projection(regressors, runs, tr, band=band, trend=trend, keep=keep)
    return *project(signal, projection), projection.freedom
