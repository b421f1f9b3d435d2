"""How much a series changes from volume to volume (DVARS), and how little it varies (tSNR)."""

from __future__ import annotations

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

BLOCK = 4096  # voxels at a time; fixed, so that sums do not depend on the machine
LEVEL = 1000.0  # median of the brain to which the signal is scaled before DVARS
IQR_PER_SD = 1.349  # interquartile range of a normal distribution, standard deviations


def blocks(count: int) -> list[slice]:
    """Slices of `BLOCK` voxels that cover `count`."""
    return [slice(start, start + BLOCK) for start in range(0, count, BLOCK)]


def dvars(signal: NDArray, runs: NDArray) -> tuple[NDArray, NDArray]:
    """Root mean square over voxels of the change since the volume before [1]_.

    Parameters
    ----------
    signal : (v, n) array
        Series of the voxels of the brain.
    runs : (n,) int array
        Number of the run of each volume; the first volume of a run is NaN.

    Returns
    -------
    plain : (n,) array
        Per mille of the brain's median.
    standardised : (n,) array
        Relative to what a first-order autoregressive process with each voxel's robust standard
        deviation would give; 1 is usual [2]_.

    References
    ----------
    .. [1] Power et al. (2012). NeuroImage 59:2142-2154. doi:10.1016/j.neuroimage.2011.10.018
    .. [2] Nichols (2013), Notes on creating a standardized version of DVARS; further Afyouni and
       Nichols (2018). NeuroImage 172:291-312. doi:10.1101/125021
    """
    plain = np.full(signal.shape[1], np.nan)
    standardised = plain.copy()
    for run in np.unique(runs):
        volumes = np.flatnonzero(runs == run)
        if len(volumes) > 2:
            change, usual = _run_dvars(signal[:, volumes])
            plain[volumes[1:]] = change
            standardised[volumes[1:]] = change / usual if usual > 0 else np.nan
    return plain, standardised


def _run_dvars(signal: NDArray) -> tuple[NDArray, float]:
    """DVARS of one run (n - 1,), and what is expected of it."""
    scale = LEVEL / float(np.median(signal))
    squares, expected, count = np.zeros(signal.shape[1] - 1), 0.0, 0
    for part in blocks(len(signal)):
        values = signal[part].astype(float) * scale
        low, high = np.percentile(values, (25, 75), axis=1, method="lower")
        spread = (high - low) / IQR_PER_SD
        alive = spread > 0
        values, spread = values[alive], spread[alive]
        centred = values - values.mean(axis=1, keepdims=True)
        lag = (centred[:, 1:] * centred[:, :-1]).sum(axis=1) / (centred**2).sum(axis=1)
        expected += float((np.sqrt(2 * (1 - lag)) * spread).sum())
        squares += (np.diff(values, axis=1) ** 2).sum(axis=0)
        count += len(values)
    if count == 0:
        return np.full(len(squares), np.nan), 0.0
    return np.sqrt(squares / count), expected / count


def polynomials(count: int, degree: int) -> NDArray:
    """Legendre polynomials of degree 0 to `degree` over `count` volumes, (count, degree + 1)."""
    return legendre.legvander(np.linspace(-1, 1, count), degree)


def temporal_snr(signal: NDArray, runs: NDArray, degree: int = 1) -> NDArray:
    """Mean over standard deviation about each run's own trend, (v,); NaN where nothing varies.

    Parameters
    ----------
    signal : (v, n) array
        Series of voxels.
    runs : (n,) int array
        Number of the run of each volume.
    degree : int
        Of the polynomial that is no noise; 1 is a straight line.
    """
    numbers = np.unique(runs)
    freedom = signal.shape[1] - len(numbers) * (degree + 1)
    ratio = np.full(len(signal), np.nan)
    if freedom < 1:
        return ratio
    trends = {run: np.linalg.qr(polynomials((runs == run).sum(), degree))[0] for run in numbers}
    for part in blocks(len(signal)):
        values = signal[part].astype(float)
        rest = values.copy()
        for run, trend in trends.items():
            own = runs == run
            rest[:, own] -= (values[:, own] @ trend) @ trend.T
        level, noise = values.mean(axis=1), np.sqrt((rest**2).sum(axis=1) / freedom)
        seen = noise > 1e-6 * np.abs(level)
        ratio[part][seen] = level[seen] / noise[seen]
    return ratio
