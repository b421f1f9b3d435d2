"""Pictures of the diffusion stream on slices: fibre colours, tracts, borders of the T1w tissue."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from alsflow.nodes.report.anatomy import canvas, contour, legend, span, window
from alsflow.nodes.report.slices import PLANES, Layout, Tile, bounds, montage, plan

FA_WHITE = 0.8  # FA shown at full brightness; little of any brain lies above
TRACT_EDGE = 0.5  # a tract is drawn where its weight, relative to its largest, is above this
TRACT_OPACITY = 0.5
TRACT_FIRST_SHOWN = 0.35  # smallest brightness of FA under a tract, so that faint brain is seen
DIRECTION_COLOURS = {"left - right": "#ff4040", "back - front": "#40ff40", "down - up": "#6060ff"}
# Okabe and Ito, in pairs of two sides: told apart with any colour vision
TRACT_COLOURS = ("#e69f00", "#f0e442", "#0072b2", "#56b4e9", "#d55e00", "#cc79a7", "#009e73")
EDGE_COLOURS = {"T1w white matter": "#ff5a36", "T1w grey matter": "#ffd400"}
PILED = 97  # percentile; brighter voxels of an image as acquired are signal piled up
# Where the sections of before and after lie, as fractions of the brain: base, where the field is
# strong, before vertex.
EDGE_SECTIONS = {"axial": (0.22, 0.34, 0.55), "coronal": (0.68,), "sagittal": (0.44, 0.53)}


def draw_colour_fa(fa: NDArray, directions: NDArray, brain: NDArray, affine: NDArray) -> Figure:
    """Draw the main direction of diffusion as colour, as bright as the anisotropy.

    Parameters
    ----------
    fa : (x, y, z) array
        Fractional anisotropy, 0 to 1.
    directions : (x, y, z, 3) array
        Unit vectors of the largest diffusivity, RAS+ world; the sign is of no account.
    brain : (x, y, z) bool array
        Voxels shown.
    affine : (4, 4) array
        Voxel to RAS+ mm of all.
    """
    layout = plan(brain, affine)
    bright = np.where(brain, np.clip(np.nan_to_num(fa) / FA_WHITE, 0, 1), 0)
    channels = np.abs(np.nan_to_num(directions)) * bright[..., None]
    picture = np.stack([montage(channels[..., k], affine, layout) for k in range(3)], axis=-1)
    figure, _ = canvas(np.clip(picture, 0, 1), layout)
    legend(figure, DIRECTION_COLOURS)
    return figure


def draw_tracts(
    fa: NDArray, brain: NDArray, affine: NDArray, tracts: Mapping[str, NDArray]
) -> Figure:
    """Draw tracts in colours over the anisotropy.

    Parameters
    ----------
    fa : (x, y, z) array
        Fractional anisotropy, 0 to 1.
    brain : (x, y, z) bool array
        Voxels shown.
    affine : (4, 4) array
        Voxel to RAS+ mm of all.
    tracts : mapping of str to (x, y, z) array
        Name and weight of each tract, at most seven of them.
    """
    inside = {name: _relative(weights) for name, weights in tracts.items()}
    drawn = [(weights > TRACT_EDGE, affine) for weights in inside.values()]
    layout = plan(brain, affine, span=span(drawn))
    shown = np.where(brain, np.clip(np.nan_to_num(fa) / FA_WHITE, 0, 1), 0)
    picture = np.repeat(montage(shown, affine, layout)[..., None], 3, axis=2)
    colours = dict(zip(inside, TRACT_COLOURS, strict=False))
    for name, weights in inside.items():
        here = montage(weights, affine, layout) > TRACT_EDGE
        under = TRACT_FIRST_SHOWN + (1 - TRACT_FIRST_SHOWN) * picture[here]
        tinted = under * np.array(to_rgb(colours[name]))
        picture[here] = (1 - TRACT_OPACITY) * picture[here] + TRACT_OPACITY * tinted
    figure, axes = canvas(picture, layout)
    for name, weights in inside.items():
        contour(axes, montage(weights, affine, layout), colours[name])
    legend(figure, colours)
    return figure


def draw_edges(
    before: NDArray,
    after: NDArray | None,
    brain: NDArray,
    affine: NDArray,
    tissue: tuple[NDArray, NDArray],
    tissue_affine: NDArray,
    dwi_to_t1w: NDArray,
) -> Figure:
    """Draw the borders of T1w tissue over the b=0 image before and after distortion correction.

    Parameters
    ----------
    before, after : (x, y, z) arrays
        The b=0 image as acquired and corrected, arbitrary units; `after` is None where nothing
        was corrected.
    brain : (x, y, z) bool array
        Brain, grid of both.
    affine : (4, 4) array
        Voxel to RAS+ mm of the above.
    tissue : pair of (x, y, z) arrays
        Grey- and white-matter fraction, grid of the T1w image.
    tissue_affine : (4, 4) array
        Voxel to mm of the T1w image.
    dwi_to_t1w : (4, 4) array
        Point of the diffusion space, mm, to its place in the T1w image.
    """
    images = {"as acquired": before} | ({} if after is None else {"corrected": after})
    layouts = _rows(brain, affine, len(images))
    whole = Layout(layouts[0].low, layouts[0].high, layouts[0].pixel,
                   tuple(tile for row in layouts for tile in row.tiles),
                   layouts[0].shape)  # fmt: skip
    inside = np.minimum(before[brain], np.percentile(before[brain], PILED))
    picture = sum(window(montage(image, affine, layout), inside) * _covered(layout)
                  for image, layout in zip(images.values(), layouts, strict=True))  # fmt: skip
    figure, axes = canvas(picture, whole)
    here = np.linalg.inv(dwi_to_t1w) @ tissue_affine
    gm, wm = tissue
    for volume, colour in zip((wm, gm + wm), EDGE_COLOURS.values(), strict=True):
        contour(axes, montage(volume, here, whole), colour)
    for name, layout in zip(images, layouts, strict=True):
        _name_row(axes, layout, name)
    legend(figure, {f"outer border of {name}": c for name, c in EDGE_COLOURS.items()})
    return figure


def _relative(weights: NDArray) -> NDArray:
    weights = np.nan_to_num(np.asarray(weights, np.float32))
    return weights / weights.max() if weights.max() > 0 else weights


def _rows(brain: NDArray, affine: NDArray, count: int) -> list[Layout]:
    """One layout per row of the picture, all of the same sections."""
    frame = plan(brain, affine)
    box = bounds(brain, affine)
    low, high = box if box is not None else (frame.low, frame.high)
    extent = np.ceil((frame.high - frame.low) / frame.pixel).astype(int)
    sections = [
        (name, axis, right, up, low[axis] + at * (high[axis] - low[axis]))
        for name, axis, right, up in PLANES
        for at in EDGE_SECTIONS[name]
    ]
    tall = max(int(extent[up]) for _, _, _, up, _ in sections)
    wide = sum(int(extent[right]) for _, _, right, _, _ in sections)
    layouts = []
    for row in range(count):
        tiles, column = [], 0
        for name, axis, right, up, position in sections:
            top = row * tall + (tall - int(extent[up])) // 2
            tiles.append(Tile(name, axis, right, up, float(position), top, column))
            column += int(extent[right])
        layouts.append(
            Layout(frame.low, frame.high, frame.pixel, tuple(tiles), (count * tall, wide))
        )
    return layouts


def _covered(layout: Layout) -> NDArray:
    """(rows, columns, 1) bool: pixels of the tiles of a layout."""
    covered = np.zeros((*layout.shape, 1), bool)
    for tile in layout.tiles:
        rows, columns = layout.size(tile)
        covered[tile.row : tile.row + rows, tile.column : tile.column + columns] = True
    return covered


def _name_row(axes: Axes, layout: Layout, name: str) -> None:
    first = layout.tiles[0]
    bottom = first.row + layout.size(first)[0]
    axes.text(4, bottom - 4, name, color="white", ha="left", va="bottom", fontsize=9)
