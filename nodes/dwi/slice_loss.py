"""How much signal a slice lost, and whether that is more than chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEWEST_POINTS = 60  # in a slice that is judged
LEAST_LOSS = 0.10  # share of the signal
LEAST_Z = 5.0  # robust standard deviations over the volumes


def slice_loss(
    values: NDArray, predicted: NDArray, slices: NDArray, usable: NDArray, count: int
) -> NDArray:
    """Share of signal that each slice lacks against its prediction, (n, count).

    NaN where a slice has fewer than `FEWEST_POINTS` usable points.

    Parameters
    ----------
    values, predicted : (n, m) array
        Signal measured in n volumes and predicted from the other volumes.
    slices : (n, m) int array
        Slice in which each point lies.
    usable : (n, m) bool array
        Points inside the field of view.
    """
    loss = np.full((len(values), count), np.nan)
    for row in range(len(values)):
        inside = usable[row]
        place = slices[row][inside]
        expected = predicted[row][inside]
        lack = np.bincount(place, expected - values[row][inside], minlength=count)
        total = np.bincount(place, expected, minlength=count)
        points = np.bincount(place, minlength=count)
        judged = (points >= FEWEST_POINTS) & (total > 0)
        loss[row, judged] = lack[judged] / total[judged]
    return loss


def outlier_slices(loss: NDArray) -> NDArray:
    """(n, z) bool: slices that lost far more than the same slice of the other volumes."""
    judged = np.isfinite(loss)
    known = judged.any(axis=0)
    excess = np.full_like(loss, np.nan)
    excess[:, known] = loss[:, known] - np.nanmedian(loss[:, known], axis=0)
    spread = np.full(loss.shape[1], np.inf)
    spread[known] = 1.4826 * np.nanmedian(np.abs(excess[:, known]), axis=0) + 1e-6
    return judged & (np.nan_to_num(excess) > np.maximum(LEAST_LOSS, LEAST_Z * spread))
