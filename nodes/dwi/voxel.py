"""Diffusion measures in the white matter of the spectroscopy voxel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alsflow.nodes.dwi.tracts import (
    LEAST_COVERAGE,
    places,
    region_means,
    seen_volume,
    tract_weights,
)
from alsflow.nodes.geometry import apply_affine, grid_points

REGION = "mrs_voxel"
COLUMNS = [
    "region", "metric", "weighted_mean", "weighted_sd", "wm_ml", "coverage", "status", "reason",
]  # fmt: skip


def share_on_series(
    data: NDArray, head_affine: NDArray, matrix: NDArray, shape: tuple[int, ...], affine: NDArray
) -> NDArray:
    """Mean of a map of the head over every voxel of the diffusion series.

    Parameters
    ----------
    data : (u, v, w) array
        Map of the T1-weighted head, 0 to 1.
    head_affine, affine : (4, 4) array
        Voxel to mm, of the map and of the series.
    matrix : (4, 4) array
        World of the series to world of the head, rigid.
    shape : tuple of int
        Grid of the series.

    Returns
    -------
    (x, y, z) float32 array
        See `tracts.tract_weights`.
    """
    points = apply_affine(matrix, grid_points(shape, affine))
    return tract_weights(data, head_affine, places(points))


def voxel_table(
    maps: Mapping[str, NDArray],
    voxel_wm: NDArray,
    head_affine: NDArray,
    matrix: NDArray,
    valid: NDArray,
    brain: NDArray,
    affine: NDArray,
    least_coverage: float = LEAST_COVERAGE,
) -> pd.DataFrame:
    """Mean of each map in the white matter of the voxel, every diffusion voxel by its share.

    Parameters
    ----------
    maps : mapping of str to (x, y, z) array
        As in `tracts.tract_measures`.
    voxel_wm : (u, v, w) array
        White matter inside the MRS voxel on the grid of the head, 0 to 1.
    head_affine, affine : (4, 4) array
        Voxel to mm, of the head and of the maps.
    matrix : (4, 4) array
        World of the maps to world of the head, rigid.
    valid, brain : (x, y, z) bool array
        Voxels that may be measured; brain that the series shows.
    least_coverage : float
        Share of that white matter in view below which there is no value but a reason.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`, one row for each map; ``wm_ml`` is what was measured.
    """
    share = share_on_series(voxel_wm, head_affine, matrix, brain.shape, affine)
    everything = np.ones(brain.shape, np.float32)
    table = region_means(maps, {REGION: share}, everything, valid, affine=affine)
    volume, seen = seen_volume(voxel_wm, head_affine, matrix, brain, affine)
    table["coverage"] = seen / volume if volume > 0 else np.nan
    if volume > 0 and seen / volume < least_coverage:
        table[["weighted_mean", "weighted_sd"]] = np.nan
        table["status"] = "missing"
        table["reason"] = (
            f"only {seen / volume:.0%} of the white matter of the MRS voxel is inside the field "
            f"of view and brain (at least {least_coverage:.0%} is asked)"
        )
    return table[COLUMNS]


def missing_voxel(metrics: Iterable[str], reason: str) -> pd.DataFrame:
    """Rows of a person whose voxel is not known."""
    rows = [
        {"region": REGION, "metric": metric, "status": "missing", "reason": reason}
        for metric in metrics
    ]
    return pd.DataFrame(rows, columns=COLUMNS)
