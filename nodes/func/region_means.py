"""Means of maps over regions, and why one is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LEAST_VOXELS = 5  # with a value; the mean of fewer is that of the noise of their edges
COLUMNS = ["metric", "region", "side", "value", "n_voxels", "reason"]


@dataclass(frozen=True)
class Region:
    """Where a region lies."""

    name: str
    side: str  # left, right, both
    members: NDArray  # (x, y, z) bool
    reason: str  # why it is not used; empty if it is


def region_means(maps: Mapping[str, NDArray | str], regions: Sequence[Region]) -> pd.DataFrame:
    """Mean of every map over every region.

    Parameters
    ----------
    maps : mapping of str to (x, y, z) array or str
        Map of each metric, NaN where nothing is known; or the reason why there is none.
    regions : sequence of Region
        On the grid of the maps.

    Returns
    -------
    DataFrame
        Columns ``metric``, ``region``, ``side``, ``value``, ``n_voxels`` (with a value),
        ``reason``. The value is NaN, and the reason says why, where there is no map, where the
        region is not used, and where fewer than `LEAST_VOXELS` of its voxels have a value.
    """
    rows = [
        (metric, region.name, region.side, *_mean(values, region))
        for metric, values in maps.items()
        for region in regions
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _mean(values: NDArray | str, region: Region) -> tuple[float, int, str]:
    """Mean, count and reason of one map in one region."""
    if isinstance(values, str):
        return np.nan, 0, values
    inside = values[region.members]
    known = inside[np.isfinite(inside)].astype(float)
    if region.reason:
        return np.nan, len(known), region.reason
    if len(known) < LEAST_VOXELS:
        return np.nan, len(known), f"{len(known)} voxels have a value, fewer than {LEAST_VOXELS}"
    return float(known.mean()), len(known), ""
