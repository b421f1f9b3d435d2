"""Measures along a tract, from one end of its atlas mask to the other.

There are no streamlines here. The course of a tract is taken from its mask in template space:
every voxel of the mask gets a *coordinate*, 0 at the origin and 1 at the far end, by its shortest
way through the mask from the origin. A node is a slice of that coordinate; in a fan it is a
shell around the origin, not a place on one bundle.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.csgraph import dijkstra

from alsflow.nodes.dwi.tracts import CORE, Places, cropped, tract_weights
from alsflow.nodes.geometry import apply_affine, voxel_sizes

NODES = 100
LEAST_PER_NODE = 3  # voxels; fewer have no mean worth reporting
END = 2.0  # mm; the lowest so many of a tract are its lower end
FAR_END = 99.0  # percentile of the distance that counts as the far end
COARSE = 2.0  # mm, grid on which ways through a mask are looked for
STEPS = np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)][14:])
COLUMNS = ["tract", "side", "metric", "node", "mean", "sd", "n_voxels"]


def lower_end(mask: NDArray, affine: NDArray) -> NDArray:
    """Voxels of a mask within `END` mm of its lowest point, as a bool array."""
    inside = np.nonzero(mask)
    heights = apply_affine(affine, np.array(inside, float))[2]
    found = np.zeros(mask.shape, bool)
    found[inside] = heights <= heights.min() + END
    return found


def course(mask: NDArray, affine: NDArray, origin: NDArray) -> tuple[NDArray, float]:
    """Coordinate of every voxel of a mask along its way from the origin.

    Parameters
    ----------
    mask : (x, y, z) bool array
        The tract in template space. Pieces without contact with the origin get no coordinate.
    affine : (4, 4) array
        Voxel to mm.
    origin : (x, y, z) bool array
        Where the tract begins; what lies outside `mask` is ignored.

    Returns
    -------
    coordinate : (x, y, z) float32 array
        0 at the origin, 1 at the far end; NaN outside the mask.
    length : float
        Distance through the mask at which the coordinate is 1, mm.
    """
    every = np.maximum(np.round(COARSE / voxel_sizes(affine)), 1).astype(int)
    coarse, index = _blocks(mask, every)
    start = _blocks(mask & origin, every)[0] & coarse
    nodes = np.full(coarse.shape, -1)
    nodes[coarse] = np.arange(coarse.sum())
    graph = _neighbours(nodes, affine[:3, :3] * every)
    sources = nodes[start]
    if len(sources) == 0:
        return np.full(mask.shape, np.nan, np.float32), 0.0
    far = dijkstra(graph, directed=False, indices=sources, min_only=True)
    length = float(np.percentile(far[np.isfinite(far)], FAR_END))
    distance = np.full(coarse.shape, np.nan)
    distance[coarse] = np.where(np.isfinite(far), far, np.nan)
    found = _spread(distance, mask, index) / max(length, 1e-6)
    return np.minimum(found, 1).astype(np.float32), length


def _blocks(mask: NDArray, every: NDArray) -> tuple[NDArray, tuple[NDArray, ...]]:
    """Mask on a grid coarser by whole factors, and the block that each fine voxel lies in."""
    shape = -(-np.array(mask.shape) // every)
    padded = np.zeros(shape * every, bool)
    padded[tuple(slice(0, n) for n in mask.shape)] = mask
    parts = padded.reshape([n for pair in zip(shape, every, strict=True) for n in pair])
    index = tuple(
        ((np.arange(n) + 0.5) / step - 0.5) for n, step in zip(mask.shape, every, strict=True)
    )
    return np.asarray(parts.any(axis=(1, 3, 5))), index


def _neighbours(nodes: NDArray, edges: NDArray) -> sparse.csr_matrix:
    """Distances, mm, between each voxel of a mask and its 26 neighbours."""
    inner = tuple(slice(1, -1) for _ in range(3))
    padded = np.pad(nodes, 1, constant_values=-1)
    rows, columns, lengths = [], [], []
    for step in STEPS:
        other = np.roll(padded, tuple(-step), axis=(0, 1, 2))[inner]
        pair = (nodes >= 0) & (other >= 0)
        rows.append(nodes[pair])
        columns.append(other[pair])
        lengths.append(np.full(int(pair.sum()), np.linalg.norm(edges @ step)))
    size = int(nodes.max()) + 1
    entries = (np.concatenate(lengths), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(entries, shape=(size, size))


def _spread(distance: NDArray, mask: NDArray, index: tuple[NDArray, ...]) -> NDArray:
    """Interpolate distances known in a coarse mask at the voxels of the fine one."""
    known = np.isfinite(distance)
    at = np.stack([part[where] for part, where in zip(index, np.nonzero(mask), strict=True)])
    total, weight = (
        ndimage.map_coordinates(part.astype(float), at, order=1, mode="nearest")
        for part in (np.nan_to_num(distance), known)
    )
    found = np.full(mask.shape, np.nan)
    found[mask > 0] = np.where(weight > 1e-3, total / np.maximum(weight, 1e-3), np.nan)
    return found


def warped_course(coordinate: NDArray, affine: NDArray, grid: Places) -> tuple[NDArray, NDArray]:
    """Weights of a tract on the diffusion grid, and the coordinate of each voxel along it.

    Parameters
    ----------
    coordinate : (u, v, w) array
        `course`, NaN outside the tract.
    affine : (4, 4) array
        Voxel to mm of the atlas.
    grid : Places
        As in `tract_weights`.

    Returns
    -------
    weights, coordinate : (x, y, z) float32 arrays
        The coordinate is NaN where the weight is 0.
    """
    known = np.isfinite(coordinate)
    if not known.any():
        return np.zeros(grid.shape, np.float32), np.full(grid.shape, np.nan, np.float32)
    small, shifted = cropped(known, affine)
    start = np.round(apply_affine(np.linalg.inv(affine), shifted[:3, 3])).astype(int)
    box = tuple(slice(s, s + n) for s, n in zip(start, small.shape, strict=True))
    weights = tract_weights(small, shifted, grid)
    # 1 is added so that the coordinate 0 counts as filled
    total = tract_weights(np.nan_to_num(coordinate[box] + 1), shifted, grid)
    with np.errstate(invalid="ignore", divide="ignore"):
        return weights, np.where(weights > 0, total / weights - 1, np.nan).astype(np.float32)


def tract_profile(
    maps: Mapping[str, NDArray],
    weights: NDArray,
    coordinate: NDArray,
    valid: NDArray,
    width: float,
    *,
    nodes: int = NODES,
    least: int = LEAST_PER_NODE,
    core: float = CORE,
) -> pd.DataFrame:
    """Mean and SD of maps at equal steps along a tract.

    Parameters
    ----------
    maps : mapping of str to (x, y, z) array
        Maps by name; voxels that are NaN are left out.
    weights, coordinate : (x, y, z) array
        See `warped_course`.
    valid : (x, y, z) bool array
        Voxels that may be measured.
    width : float
        Size of a voxel over the length of the tract. A voxel counts at a node by its weight
        times a triangle that falls to 0 so far from the node (and not nearer than a node).
    nodes, least : int
        Number of nodes, and voxels (of weight `core` or more) that each must have.

    Returns
    -------
    DataFrame
        ``metric``, ``node`` (1 at the origin), ``mean``, ``sd``, ``n_voxels``; NaN with too few.
    """
    centres = (np.arange(nodes) + 0.5) / nodes
    reach = max(width, 1 / nodes)
    tables = []
    for metric, values in maps.items():
        here = valid & (weights > 0) & np.isfinite(values) & np.isfinite(coordinate)
        near = 1 - np.abs(coordinate[here][None, :] - centres[:, None]) / reach  # (node, voxel)
        share = np.where(near > 0, near, 0) * weights[here].astype(float)
        count = ((near > 0) & (weights[here] >= core)).sum(axis=1)
        data = values[here].astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = (share * data).sum(axis=1) / share.sum(axis=1)
            spread = (share * (data - mean[:, None]) ** 2).sum(axis=1) / share.sum(axis=1)
        enough = count >= least
        table = pd.DataFrame({"metric": metric, "node": np.arange(1, nodes + 1)})
        table["mean"] = np.where(enough, mean, np.nan)
        table["sd"] = np.where(enough, np.sqrt(spread), np.nan)
        table["n_voxels"] = count
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
