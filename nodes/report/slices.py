"""Slices of a head in three planes, cut along the axes of the world whatever the grid.

A picture that is drawn from the order of voxels shows left and right as they happen to be stored.
Here every pixel has a place in RAS+ mm, and left is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.geometry import apply_affine

# name, axis cut across, axis to the right of the picture, axis up
PLANES = (("axial", 2, 0, 1), ("coronal", 1, 0, 2), ("sagittal", 0, 1, 2))
ENDS = {0: ("L", "R"), 1: ("P", "A")}  # what the left and right border of a picture show
BRAIN_LEAST = 60.0  # mm; a mask smaller than this along an axis is no brain to centre on
INSET = 0.1  # outermost slices lie this far inside, as a fraction of the extent


@dataclass(frozen=True)
class Tile:
    """One slice: its plane, its place in the world and its place in the picture."""

    plane: str
    axis: int
    right: int
    up: int
    position: float  # mm
    row: int  # pixel
    column: int  # pixel


@dataclass(frozen=True)
class Layout:
    """A box of the world cut into tiles on one picture."""

    low: NDArray  # (3,) mm
    high: NDArray  # (3,) mm
    pixel: float  # mm
    tiles: tuple[Tile, ...]
    shape: tuple[int, int]  # rows and columns of the picture, pixels

    def size(self, tile: Tile) -> tuple[int, int]:
        """Rows and columns of a tile, pixels."""
        extent = np.ceil((self.high - self.low) / self.pixel).astype(int)
        return int(extent[tile.up]), int(extent[tile.right])


def bounds(mask: NDArray, affine: NDArray) -> tuple[NDArray, NDArray] | None:
    """Lowest and highest world coordinates, mm, of the voxels in a mask; None if it is empty."""
    if not mask.any():
        return None
    corners = []
    for axis in range(3):
        inside = np.flatnonzero(mask.any(axis=tuple(i for i in range(3) if i != axis)))
        corners.append((inside[0] - 0.5, inside[-1] + 0.5))
    points = apply_affine(affine, np.array(np.meshgrid(*corners)).reshape(3, -1))
    return points.min(axis=1), points.max(axis=1)


def plan(
    mask: NDArray,
    affine: NDArray,
    *,
    span: tuple[NDArray, NDArray] | None = None,
    count: int = 7,
    margin: float = 12.0,
    pixel: float = 0.85,
) -> Layout:
    """Lay out slices over a brain, so that what the mask misses can be seen around it.

    Parameters
    ----------
    mask : (x, y, z) bool array
        The brain. If it is empty or too small to be one, the whole image is shown.
    affine : (4, 4) array
        Voxel to RAS+ mm.
    span : pair of (3,) arrays, optional
        Lowest and highest world coordinates, mm, between which the slices lie; by default those
        of the mask.
    count : int
        Slices per plane.
    margin : float
        Shown around the mask, mm.
    pixel : float
        Size of a pixel, mm.
    """
    box = bounds(mask, affine)
    whole = bounds(np.ones(mask.shape, dtype=bool), affine)
    assert whole is not None
    if box is None or (box[1] - box[0]).min() < BRAIN_LEAST:
        box, margin = whole, 0.0
    low, high = box[0] - margin, box[1] + margin
    first, last = span or box
    inner = (first + INSET * (last - first), last - INSET * (last - first))
    return _arranged(low, high, inner, count, pixel)


def _arranged(
    low: NDArray, high: NDArray, inner: tuple[NDArray, NDArray], count: int, pixel: float
) -> Layout:
    """One row per plane, each in the middle of the picture."""
    extent = np.ceil((high - low) / pixel).astype(int)
    width = max(count * int(extent[right]) for _, _, right, _ in PLANES)
    tiles, row = [], 0
    for name, axis, right, up in PLANES:
        start = (width - count * int(extent[right])) // 2
        for index, position in enumerate(np.linspace(inner[0][axis], inner[1][axis], count)):
            column = start + index * int(extent[right])
            tiles.append(Tile(name, axis, right, up, float(position), row, column))
        row += int(extent[up])
    return Layout(low, high, pixel, tuple(tiles), (row, width))


def tile_points(layout: Layout, tile: Tile) -> NDArray:
    """World coordinates, mm, of the pixels of a tile, shape (3, rows, columns); top is up."""
    rows, columns = layout.size(tile)
    points = np.empty((3, rows, columns))
    points[tile.axis] = tile.position
    points[tile.right] = layout.low[tile.right] + (np.arange(columns) + 0.5) * layout.pixel
    points[tile.up] = (layout.low[tile.up] + (np.arange(rows)[::-1] + 0.5) * layout.pixel)[:, None]
    return points


def montage(
    volume: NDArray, affine: NDArray, layout: Layout, order: int = 1, outside: float = 0.0
) -> NDArray:
    """Sample a volume on every tile.

    Parameters
    ----------
    volume : (x, y, z) array
        Any grid; it need not be that of the layout.
    affine : (4, 4) array
        Voxel to RAS+ mm, of `volume`.
    layout : Layout
        As `plan` gives it.
    order : int
        0 nearest, 1 linear.
    outside : float
        Value where the volume has no voxel, and between tiles.

    Returns
    -------
    (rows, columns) array
        The picture; row 0 is its top.
    """
    picture = np.full(layout.shape, outside, dtype=np.float32)
    inverse = np.linalg.inv(affine)
    source = np.nan_to_num(np.asarray(volume, dtype=np.float32))
    for tile in layout.tiles:
        voxels = apply_affine(inverse, tile_points(layout, tile))
        values = ndimage.map_coordinates(source, voxels, order=order, cval=outside)
        rows, columns = layout.size(tile)
        picture[tile.row : tile.row + rows, tile.column : tile.column + columns] = values
    return picture
