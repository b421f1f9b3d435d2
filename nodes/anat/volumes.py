"""Regional grey-matter volumes, and the measures made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alsflow.nodes.anat.register import pull
from alsflow.nodes.geometry import apply_affine, voxel_volume

Sides = Mapping[str, Sequence[int]]  # labels of the left and of the right side
MEASURE_COLUMNS = ["measure", "value", "unit", "qc", "reason"]
SIDES = ("left", "right")


def labels_at(labels: NDArray, affine: NDArray, points: NDArray) -> NDArray:
    """Label nearest to each point.

    Parameters
    ----------
    labels : (x, y, z) int array
        Atlas on its own grid.
    affine : (4, 4) array
        Voxel to mm of the atlas.
    points : (3, ...) array
        Places in the atlas' world, mm.

    Returns
    -------
    (...) int32 array
        0 outside the atlas.
    """
    voxels = np.round(apply_affine(np.linalg.inv(affine), points)).astype(np.int32)
    ends = np.array(labels.shape).reshape(3, *[1] * (points.ndim - 1))
    within = ((voxels >= 0) & (voxels < ends)).all(axis=0)
    voxels = np.where(within, voxels, 0)
    return np.where(within, labels[tuple(voxels)], 0).astype(np.int32)


def coarse_points(points: NDArray, affine: NDArray, at: NDArray) -> NDArray:
    """Map of points (3, x, y, z) on a coarse grid, interpolated at world places `at`, mm."""
    return np.stack([pull(part, affine, at, outside=np.nan) for part in points])


def label_volumes(labels: NDArray, maps: Mapping[str, NDArray], affine: NDArray) -> pd.DataFrame:
    """Volume of every label and of the tissue inside it.

    Parameters
    ----------
    labels : (x, y, z) int array
        Atlas on the grid of the maps.
    maps : mapping of str to (x, y, z) array
        Tissue fractions by name.
    affine : (4, 4) array
        Voxel to mm.

    Returns
    -------
    DataFrame
        Indexed by label: ``volume`` of the label and one column per map, mL.
    """
    flat = labels.ravel()
    volumes = {"volume": np.bincount(flat)}
    volumes |= {name: np.bincount(flat, values.ravel()) for name, values in maps.items()}
    table = pd.DataFrame(volumes) * voxel_volume(affine)
    return table[(table["volume"] > 0) & (table.index > 0)]


def measures(
    tissue: Mapping[str, float],
    regions: Mapping[str, Sides],
    region_volumes: Mapping[str, pd.Series],
    flags: Sequence[str] = (),
) -> pd.DataFrame:
    """Measures of one person, one row each.

    Parameters
    ----------
    tissue : mapping
        ``gm``, ``wm`` and ``csf``, mL.
    regions : mapping
        Labels of each region, left and right.
    region_volumes : mapping of str to Series
        For each region, grey matter of every label of its atlas, mL, indexed by label.
    flags : sequence of str
        Why the segmentation cannot be used; any of them makes every value ``n/a``.

    Returns
    -------
    DataFrame
        Columns `MEASURE_COLUMNS`; unknown values are NaN and say why.
    """
    tiv = tissue["gm"] + tissue["wm"] + tissue["csf"]
    rows: list[tuple[str, float, str, str]] = [("tiv", tiv, "mL", "")]
    rows += [(name, tissue[name], "mL", "") for name in ("gm", "wm", "csf")]
    rows.append(("gm_tiv", 100 * tissue["gm"] / tiv, "%", ""))
    for region, sides in regions.items():
        rows += _region_rows(region, sides, region_volumes[region], tiv)
    table = pd.DataFrame(rows, columns=["measure", "value", "unit", "reason"])
    if flags:
        table["value"] = np.nan
        table["reason"] = "; ".join(flags)
    table["qc"] = "flagged" if flags else "ok"
    return table[MEASURE_COLUMNS]


def _region_rows(
    region: str, sides: Sides, grey: pd.Series, tiv: float
) -> list[tuple[str, float, str, str]]:
    """Volume and share of one region on each side and both, and its asymmetry."""
    amount, reason = {}, {}
    for side in SIDES:
        lost = [label for label in sides[side] if label not in grey.index]
        reason[side] = (
            f"label {lost[0]} of the {side} {region} is nowhere in the image" if lost else ""
        )
        amount[side] = np.nan if lost else float(grey[list(sides[side])].sum())
    amount["both"] = amount["left"] + amount["right"]
    reason["both"] = reason["left"] or reason["right"]
    rows = []
    for side in (*SIDES, "both"):
        rows.append((f"gmv_{region}_{side}", amount[side], "mL", reason[side]))
        rows.append((f"gmv_{region}_{side}_tiv", 100 * amount[side] / tiv, "%", reason[side]))
    with np.errstate(invalid="ignore"):
        asymmetry = np.divide(amount["left"] - amount["right"], amount["both"] / 2)
    empty = amount["both"] == 0
    why = f"the {region} holds no grey matter" if empty else reason["both"]
    rows.append((f"gmv_{region}_asymmetry", float(asymmetry), "1", why))
    return rows
