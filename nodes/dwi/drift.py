"""Drift of the signal over a run, seen in the b=0 volumes and divided out."""

from __future__ import annotations

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from alsflow.nodes.dwi.gradients import B0_MAX
from alsflow.nodes.errors import BadInputError

MAX_OPEN = 0.25  # share of a run that may lie before its first or after its last b=0 volume


def correct_drift(
    signal: NDArray,
    bvals: NDArray,
    brain: NDArray,
    degree: int = 2,
    runs: NDArray | None = None,
) -> tuple[NDArray, NDArray]:
    """Divide out the drift seen in the b=0 volumes of a diffusion series [1]_.

    Parameters
    ----------
    signal : (x, y, z, n) array
        Diffusion series in the order of acquisition, arbitrary units.
    bvals : (n,) array
        b-value of each volume, s/mm2.
    brain : (x, y, z) bool array
        Voxels averaged to follow the drift.
    degree : int
        Degree of the polynomial fitted to the b=0 means.
    runs : (n,) int array, optional
        Run of each volume; each drifts on its own. One run by default.

    Returns
    -------
    corrected : (x, y, z, n) float32 array
        Series without drift, each run at the level of its first volume.
    drift : (n,) array
        Signal of each volume relative to the first of its run; 1 means no drift.

    References
    ----------
    .. [1] Vos et al. (2017). Magn Reson Med 77:285-299. doi:10.1002/mrm.26124
    """
    reason = why_not(bvals, degree, runs)
    if reason:
        raise BadInputError(f"{reason}; lower the degree or switch drift correction off")
    runs = np.zeros(len(bvals), int) if runs is None else runs
    drift = np.ones(len(bvals))
    for run in np.unique(runs):
        volumes = np.flatnonzero(runs == run)
        b0 = np.flatnonzero(bvals[volumes] <= B0_MAX)
        means = [np.nanmean(signal[..., volumes[k]][brain], dtype=float) for k in b0]
        drift[volumes] = relative_trend(b0, np.array(means), len(volumes), degree)
    return (signal / drift.astype(np.float32)).astype(np.float32, copy=False), drift


def why_not(bvals: NDArray, degree: int, runs: NDArray | None = None) -> str:
    """Reason why the b=0 volumes cannot show a drift of this degree; empty where they can."""
    runs = np.zeros(len(bvals), int) if runs is None else runs
    for run in np.unique(runs):
        own = bvals[runs == run]
        b0 = np.flatnonzero(own <= B0_MAX)
        if len(b0) <= degree:
            return (
                f"has {len(b0)} b=0 volumes, which cannot fix a drift of degree {degree} "
                f"(at least {degree + 1})"
            )
        first, last = int(b0[0]), int(len(own) - 1 - b0[-1])
        if max(first, last) > MAX_OPEN * (len(own) - 1):
            count, where = max((first, "before its first"), (last, "after its last"))
            return (
                f"has too many volumes {where} b=0 volume ({count} of {len(own)}) to know how "
                "the signal drifted there"
            )
    return ""


def relative_trend(b0: NDArray, means: NDArray, n: int, degree: int) -> NDArray:
    """Polynomial through the means of the volumes `b0`, for all n volumes, 1 at the first."""
    trend = Polynomial.fit(b0, means, degree)
    drift = trend(np.arange(n)) / trend(0)
    if not (np.isfinite(drift).all() and drift.min() > 0):
        raise BadInputError(
            "has b=0 volumes whose mean signal in the brain follows no drift "
            f"({means.min():.3g} to {means.max():.3g}); look at them, or switch drift "
            "correction off"
        )
    return drift
