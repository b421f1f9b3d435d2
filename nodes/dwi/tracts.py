"""Measures of atlas tracts in native diffusion space.

A tract is known as a mask (or a probability) in template space. For every diffusion voxel the
share of it that lies inside the tract is found through one map of points; that share is the
voxel's *weight*. Nothing of the person's own images is interpolated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numba
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.geometry import apply_affine, voxel_volume

CORE = 0.5  # weight from which a voxel counts as inside the tract
LEAST_COVERAGE = 0.7  # share of the tract that must be in view
LEAST_VOXELS = 20  # fewer have no mean worth reporting
MOST_PARTS = 6  # sub-points along an edge of a voxel
COLUMNS = [
    "tract", "side", "metric", "mean", "median", "sd", "n_voxels", "weighted_mean",
    "weighted_sd", "coverage", "status", "reason",
]  # fmt: skip
NUMBERS = ("mean", "median", "sd", "n_voxels", "weighted_mean", "weighted_sd", "coverage")


@dataclass(frozen=True)
class Tract:
    """One tract of one side on the diffusion grid.

    Attributes
    ----------
    name, side : str
        ``side`` is ``left``, ``right`` or ``both``.
    weights : (x, y, z) array
        Share of each voxel inside the tract, 0 to 1.
    volume : float
        Volume of the whole tract in the person's head, mL, in view or not.
    seen : float
        Volume of it inside the field of view and the brain, mL.
    """

    name: str
    side: str
    weights: NDArray
    volume: float
    seen: float

    @property
    def coverage(self) -> float:
        """Share of the tract in view; NaN where the tract is nowhere in the head."""
        return self.seen / self.volume if self.volume > 0 else np.nan


@dataclass(frozen=True)
class Places:
    """Where the voxels of one grid lie in the atlas' world.

    Attributes
    ----------
    shape : tuple of int
        Shape of the grid.
    known : (x, y, z) bool array
        Voxels whose place is known; n of them.
    points : (3, n) array
        Their places, mm.
    axes : (3, 3, n) array
        Step of the place, mm, from a voxel to the next along each axis; coordinate, axis, voxel.
    """

    shape: tuple[int, ...]
    known: NDArray
    points: NDArray
    axes: NDArray


# ---------------------------------------------------------------------------- weights


@numba.njit
def _mean_inside(
    mask: NDArray, matrix: NDArray, points: NDArray, axes: NDArray, parts: NDArray
) -> NDArray:
    """Mean of a mask over `parts` sub-points of each voxel; see `tract_weights`."""
    nx, ny, nz = mask.shape
    count = parts[0] * parts[1] * parts[2]
    found = np.zeros(points.shape[1], np.float32)
    start = np.zeros(3)
    step = np.zeros((3, 3))
    for i in range(points.shape[1]):
        near = True
        for a in range(3):
            start[a] = matrix[a, 3]
            reach = 0.0
            for b in range(3):
                start[a] += matrix[a, b] * points[b, i]
            for c in range(3):
                step[a, c] = 0.0
                for b in range(3):
                    step[a, c] += matrix[a, b] * axes[b, c, i]
                reach += 0.5 * abs(step[a, c])
            # written so that NaN is far
            near = near and start[a] > -1 - reach and start[a] < mask.shape[a] + reach
        if not near:
            continue
        total = 0.0
        for k in range(count):
            u = (k % parts[0] + 0.5) / parts[0] - 0.5
            v = (k // parts[0] % parts[1] + 0.5) / parts[1] - 0.5
            w = (k // (parts[0] * parts[1]) + 0.5) / parts[2] - 0.5
            x = start[0] + u * step[0, 0] + v * step[0, 1] + w * step[0, 2]
            y = start[1] + u * step[1, 0] + v * step[1, 1] + w * step[1, 2]
            z = start[2] + u * step[2, 0] + v * step[2, 1] + w * step[2, 2]
            ix, iy, iz = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
            fx, fy, fz = x - ix, y - iy, z - iz
            for corner in range(8):
                dx, dy, dz = corner & 1, (corner >> 1) & 1, corner >> 2
                jx, jy, jz = ix + dx, iy + dy, iz + dz
                if 0 <= jx < nx and 0 <= jy < ny and 0 <= jz < nz:
                    total += (
                        (fx if dx else 1.0 - fx)
                        * (fy if dy else 1.0 - fy)
                        * (fz if dz else 1.0 - fz)
                        * mask[jx, jy, jz]
                    )
        found[i] = total / count
    return found


def places(points: NDArray) -> Places:
    """Prepare a map of points (3, x, y, z), mm, NaN where there is none, for `tract_weights`."""
    known = np.isfinite(points).all(axis=0)
    axes = [_along(points, axis + 1)[:, known] for axis in range(3)]
    return Places(
        shape=points.shape[1:],
        known=known,
        points=np.ascontiguousarray(points[:, known], dtype=np.float64),
        axes=np.ascontiguousarray(np.stack(axes, axis=1), dtype=np.float64),
    )


def tract_weights(mask: NDArray, atlas_affine: NDArray, grid: Places) -> NDArray:
    """Share of every diffusion voxel that lies inside a tract.

    Each voxel is asked at sub-points no farther apart than the atlas' voxels, and the answers
    are averaged: the sum of the weights times the voxels' volume is the tract's volume, also
    where diffusion voxels are much larger than the atlas'.

    Parameters
    ----------
    mask : (u, v, w) array
        0 to 1: binary, or a probability.
    atlas_affine : (4, 4) array
        Voxel to mm of `mask`.
    grid : Places
        Where the diffusion voxels lie in the atlas' world.

    Returns
    -------
    (x, y, z) float32 array
        0 where the place is unknown.
    """
    weights = np.zeros(grid.shape, np.float32)
    mask, atlas_affine = cropped(mask, atlas_affine)
    if mask.size == 0 or grid.points.shape[1] == 0:
        return weights
    to_voxel = np.linalg.inv(atlas_affine)
    steps = np.einsum("pb,bcn->pcn", to_voxel[:3, :3], grid.axes[:, :, ::101])
    edges = np.median(np.sqrt((steps**2).sum(axis=0)), axis=1)
    weights[grid.known] = _mean_inside(
        np.ascontiguousarray(mask, np.float32),
        to_voxel,
        grid.points,
        grid.axes,
        np.clip(np.ceil(edges - 0.05), 1, MOST_PARTS).astype(np.int64),
    )
    return weights


def cropped(mask: NDArray, affine: NDArray) -> tuple[NDArray, NDArray]:
    """Part of a mask that holds all of it, and its affine."""
    box = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(k for k in range(3) if k != axis)))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1) if len(hit) else slice(0, 0))
    shifted = np.array(affine, float)
    shifted[:3, 3] = apply_affine(affine, np.array([part.start for part in box], float))
    return mask[tuple(box)], shifted


def _along(points: NDArray, axis: int) -> NDArray:
    """Step of the points from one voxel to the next along an axis, from one side at gaps."""
    step = np.diff(points, axis=axis)
    pad = np.full_like(np.take(points, [0], axis=axis), np.nan)
    ahead = np.concatenate([step, pad], axis=axis)
    behind = np.concatenate([pad, step], axis=axis)
    known = np.isfinite(ahead).astype(np.float32) + np.isfinite(behind)
    total = np.nan_to_num(ahead) + np.nan_to_num(behind)
    return np.asarray(total / np.maximum(known, 1))


def seen_volume(
    weights: NDArray, affine: NDArray, matrix: NDArray, valid: NDArray, valid_affine: NDArray
) -> tuple[float, float]:
    """Volume of a tract in the head, and of its part that a diffusion series shows, mL.

    Parameters
    ----------
    weights : (u, v, w) array
        `tract_weights` on a grid over the whole head.
    affine : (4, 4) array
        Voxel to mm of that grid, world of the head.
    matrix : (4, 4) array
        World of the diffusion series to world of the head.
    valid : (x, y, z) bool array
        Diffusion voxels inside the brain.
    valid_affine : (4, 4) array
        Voxel to mm of `valid`.
    """
    inside = np.argwhere(weights > 0).T
    amount = weights[tuple(inside)].astype(float)
    at = apply_affine(np.linalg.inv(matrix @ valid_affine) @ affine, inside)
    shown = ndimage.map_coordinates(valid.astype(np.float32), at, order=1, mode="grid-constant")
    volume = voxel_volume(affine)
    return float(amount.sum()) * volume, float((amount * shown).sum()) * volume


def place_tract(
    name: str,
    side: str,
    mask: NDArray,
    atlas_affine: NDArray,
    grid: Places,
    head: Places,
    head_affine: NDArray,
    matrix: NDArray,
    valid: NDArray,
    affine: NDArray,
) -> Tract:
    """Bring one tract of the atlas into diffusion space and see how much of it is in view.

    Parameters
    ----------
    name, side : str
        As in `Tract`.
    mask, atlas_affine, grid
        As in `tract_weights`.
    head : Places
        The same of a grid over the whole head.
    head_affine : (4, 4) array
        Voxel to mm of that grid.
    matrix, valid, affine
        As in `seen_volume`.
    """
    mask, atlas_affine = cropped(mask, atlas_affine)
    weights = tract_weights(mask, atlas_affine, grid)
    whole = tract_weights(mask, atlas_affine, head)
    volume, seen = seen_volume(whole, head_affine, matrix, valid, affine)
    return Tract(name, side, weights, volume, seen)


def joined(left: Tract, right: Tract) -> Tract:
    """Both sides of a tract as one; voxels on both sides count once."""
    weights = np.maximum(left.weights, right.weights)
    return Tract(left.name, "both", weights, left.volume + right.volume, left.seen + right.seen)


# ---------------------------------------------------------------------------- measures


def tract_measures(
    maps: Mapping[str, NDArray],
    tract: Tract,
    valid: NDArray,
    *,
    core: float = CORE,
    least_coverage: float = LEAST_COVERAGE,
    least_voxels: int = LEAST_VOXELS,
) -> pd.DataFrame:
    """Measures of one tract of one side, one row for each map.

    Parameters
    ----------
    maps : mapping of str to (x, y, z) array
        ``fa`` (1), ``md``, ``ad``, ``rd`` (mm2/s) by name; voxels that are NaN are left out.
    tract : Tract
        Its weights on the grid of the maps.
    valid : (x, y, z) bool array
        Voxels that may be measured.
    core : float
        Weight from which a voxel counts for mean, median, SD and number of voxels. The weighted
        mean and SD take all voxels by their weights.
    least_coverage, least_voxels : float, int
        Below either there is no value but a reason.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`. ``coverage`` and ``n_voxels`` are given also where the rest is not.
    """
    rows = []
    for metric, values in maps.items():
        here = valid & (tract.weights > 0) & np.isfinite(values)
        weights, inside = tract.weights[here].astype(float), values[here].astype(float)
        count = int((weights >= core).sum())
        row: dict[str, object] = {"tract": tract.name, "side": tract.side, "metric": metric}
        row |= {"n_voxels": count, "coverage": tract.coverage, "status": "ok", "reason": ""}
        reason = _why_not(tract.coverage, count, least_coverage, least_voxels)
        if reason:
            row |= {"status": "missing", "reason": reason}
        else:
            row |= _statistics(inside, weights, core)
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def _why_not(coverage: float, count: int, least_coverage: float, least_voxels: int) -> str:
    """Reason for which a tract has no measures; empty when it has."""
    if not np.isfinite(coverage):
        return "the tract is nowhere in the head's image"
    if coverage < least_coverage:
        return (
            f"only {coverage:.0%} of the tract is inside the field of view and brain "
            f"(at least {least_coverage:.0%} is asked)"
        )
    if count < least_voxels:
        return f"only {count} voxels are inside the tract (at least {least_voxels} are asked)"
    return ""


def _statistics(values: NDArray, weights: NDArray, core: float) -> dict[str, float]:
    """Mean, median and SD of the voxels in the core; mean and SD of all by weight."""
    inside = values[weights >= core]
    mean = float(np.average(values, weights=weights))
    spread = float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    return {
        "mean": float(inside.mean()),
        "median": float(np.median(inside)),
        "sd": float(inside.std(ddof=1)),
        "weighted_mean": mean,
        "weighted_sd": spread,
    }


def both_sides(
    maps: Mapping[str, NDArray], left: Tract, right: Tract, valid: NDArray, **settings: float
) -> pd.DataFrame:
    """Rows of the left, the right, both sides together, and the asymmetry of one tract.

    The asymmetry is (left - right) / mean of the two, of the mean, median and weighted mean.
    Both sides together, and the asymmetry, need either side to have a value.

    Parameters
    ----------
    maps, valid, settings
        As in `tract_measures`.
    left, right : Tract
        The two sides.
    """
    sides = [tract_measures(maps, tract, valid, **settings) for tract in (left, right)]  # type: ignore[arg-type]
    both = tract_measures(maps, joined(left, right), valid, **settings)  # type: ignore[arg-type]
    uneven = both.assign(side="asymmetry", n_voxels=np.nan, sd=np.nan, weighted_sd=np.nan)
    for column in ("mean", "median", "weighted_mean"):
        one, other = sides[0][column], sides[1][column]
        uneven[column] = (one - other) / ((one + other) / 2)
    for row, reasons in enumerate(zip(sides[0]["reason"], sides[1]["reason"], strict=True)):
        if any(reasons):
            text = "; ".join(f"{s}: {r}" for s, r in zip(("left", "right"), reasons, strict=True)
                             if r)  # fmt: skip
            for table in (both, uneven):
                table.loc[row, ["mean", "median", "sd", "weighted_mean", "weighted_sd"]] = np.nan
                table.loc[row, ["status", "reason"]] = ["missing", text]
    return pd.concat([*sides, both, uneven], ignore_index=True)


def missing_tract(name: str, metrics: Iterable[str], reason: str) -> pd.DataFrame:
    """Rows of a tract that the atlas does not have."""
    rows = [
        {"tract": name, "side": side, "metric": metric, "status": "missing", "reason": reason}
        for side in ("left", "right", "both", "asymmetry")
        for metric in metrics
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def overlap_table(
    weights: Mapping[str, NDArray], affine: NDArray, core: float = CORE
) -> pd.DataFrame:
    """How much the tracts share, pair by pair.

    Parameters
    ----------
    weights : mapping of str to (x, y, z) array
        `tract_weights` by name.
    affine : (4, 4) array
        Voxel to mm.
    core : float
        Weight from which a voxel counts as inside.

    Returns
    -------
    DataFrame
        ``first``, ``second``, ``dice``, ``shared_ml``; Dice is NaN where both are empty.
    """
    inside = {name: values >= core for name, values in weights.items()}
    rows = []
    for first, second in combinations(inside, 2):
        shared = int((inside[first] & inside[second]).sum())
        total = int(inside[first].sum() + inside[second].sum())
        dice = 2 * shared / total if total else np.nan
        rows.append((first, second, dice, shared * voxel_volume(affine)))
    return pd.DataFrame(rows, columns=["first", "second", "dice", "shared_ml"])


def region_means(
    maps: Mapping[str, NDArray],
    regions: Mapping[str, NDArray],
    wm_fraction: NDArray,
    valid: NDArray,
    *,
    least_volume: float = 0.16,
    affine: NDArray,
) -> pd.DataFrame:
    """Means of maps in the white matter of any regions.

    Parameters
    ----------
    maps : mapping of str to (x, y, z) array
        As in `tract_measures`.
    regions : mapping of str to (x, y, z) array
        Share of each voxel inside each region, 0 to 1.
    wm_fraction : (x, y, z) array
        White matter on the same grid, 0 to 1; it multiplies the share.
    valid : (x, y, z) bool array
        Voxels that may be measured.
    least_volume : float
        White matter below which there is no value but a reason, mL (20 voxels of 2 mm).
    affine : (4, 4) array
        Voxel to mm.

    Returns
    -------
    DataFrame
        ``region``, ``metric``, ``weighted_mean``, ``weighted_sd``, ``wm_ml``, ``status``,
        ``reason``.
    """
    rows = []
    for region, share in regions.items():
        weights = (share * wm_fraction).astype(float)
        for metric, values in maps.items():
            here = valid & (weights > 0) & np.isfinite(values)
            amount = float(weights[here].sum()) * voxel_volume(affine)
            row = {"region": region, "metric": metric, "wm_ml": amount}
            if amount >= least_volume:
                found = _statistics(values[here].astype(float), weights[here], 0.0)
                row |= {key: found[key] for key in ("weighted_mean", "weighted_sd")}
                rows.append(row | {"status": "ok", "reason": ""})
            else:
                reason = f"only {amount:.2f} mL of white matter (at least {least_volume:.2f} mL)"
                rows.append(row | {"status": "missing", "reason": reason})
    columns = ["region", "metric", "weighted_mean", "weighted_sd", "wm_ml", "status", "reason"]
    return pd.DataFrame(rows, columns=columns)
