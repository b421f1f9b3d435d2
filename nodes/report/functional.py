"""Pictures of the functional stream on slices: seeds, connectivity, local measures, tSNR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import matplotlib
import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.geometry import apply_affine, voxel_sizes
from alsflow.nodes.report.anatomy import (
    DPI,
    LEGEND,
    OPACITY,
    REGION_COLOURS,
    canvas,
    contour,
    legend,
    span,
    window,
)
from alsflow.nodes.report.slices import Layout, montage, plan

# Fewer and coarser slices than those of a T1w image: what is written on them is read at 900 pixels
COUNT = 6
PIXEL = 1.25  # mm
AXIAL_PIXEL = 1.0  # mm, where axial slices stand alone
MARGIN = 6.0  # mm around the brain
EXTENT = (3, 97)  # percentiles of the brain's voxels between which slices lie
BIN = 3.0  # mm, in which the voxels of a seed are counted
SMOOTH = 6.0  # mm, full width at half maximum, of a map of connectivity
FWHM = float(np.sqrt(8 * np.log(2)))  # full width at half maximum in standard deviations
SEED_OUTLINE = "#ffffff"
MOST_SHOWN = 1.0  # Fisher z at the ends of the colours; the same for everybody
R_SHOWN = 0.25  # correlations nearer to 0 are left transparent
Z_SHOWN, Z_ENDS = 1.0, 3.0  # of a local measure: left transparent below, full colour from
DARKER = 0.7  # brightness of the brain under a map
# blue for less, red to yellow for more: told apart with any colour vision
CONNECTED = LinearSegmentedColormap.from_list(
    "connected",
    [(0, "#b8f0ff"), (0.2, "#45a5e6"), (0.5, "#1c3f94"),
     (0.5, "#8c1a0f"), (0.8, "#f0702a"), (1, "#ffee5a")],
)  # fmt: skip
TSNR_STEP = 10.0  # the colours of tSNR end at a multiple of this
TSNR_TOP = 98  # percentile of the brain that is still told from higher ones
BAR = (0.2, 12)  # a colour bar: share of the width, pixels


def draw_seeds(
    mean: NDArray, brain: NDArray, affine: NDArray, seeds: Mapping[str, NDArray]
) -> Figure:
    """Draw seeds in colours over the mean echo-planar image.

    Parameters
    ----------
    mean : (x, y, z) array
        Mean over time, arbitrary units.
    brain : (x, y, z) bool array
        For the choice of slices and of grey levels.
    affine : (4, 4) array
        Voxel to RAS+ mm of all.
    seeds : mapping of str to (x, y, z) bool array
        Name and voxels of each. One that is made of others is not drawn over them.
    """
    shown = distinct(seeds)
    layout = _layout(brain, affine, span((members, affine) for members in shown.values()))
    picture = window(montage(mean, affine, layout), mean[brain])
    colours = dict(zip(shown, REGION_COLOURS, strict=False))
    for name, colour in colours.items():
        inside = montage(shown[name], affine, layout, order=0) > 0.5
        picture[inside] = (1 - OPACITY) * picture[inside] + OPACITY * np.array(to_rgb(colour))
    figure, _ = canvas(picture, layout)
    legend(figure, {f"{name}, {shown[name].sum()} voxels": c for name, c in colours.items()})
    return figure


def distinct(seeds: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Seeds that have voxels, without those that only repeat smaller ones."""
    covered = np.zeros(next(iter(seeds.values())).shape, bool) if seeds else np.zeros(1, bool)
    found = set()
    for name in sorted(seeds, key=lambda name: int(seeds[name].sum())):
        if (seeds[name] & ~covered).any():
            found.add(name)
            covered = covered | seeds[name]
    return {name: members for name, members in seeds.items() if name in found}


def draw_connectivity(
    mean: NDArray,
    brain: NDArray,
    affine: NDArray,
    z: NDArray,
    seed: NDArray,
    name: str,
    r_shown: float = R_SHOWN,
) -> Figure:
    """Draw the connectivity of a seed over the mean echo-planar image.

    The map is smoothed for the eye, grey matter with grey matter, which the picture says.

    Parameters
    ----------
    mean : (x, y, z) array
        Mean over time, arbitrary units.
    brain : (x, y, z) bool array
        For the choice of slices and of grey levels.
    affine : (4, 4) array
        Voxel to RAS+ mm of all.
    z : (x, y, z) array
        Fisher's z with the seed; 0 or NaN where nothing is known.
    seed : (x, y, z) bool array
        Voxels of the seed, outlined.
    name : str
        Of the seed.
    r_shown : float
        Correlations nearer to 0 are not coloured.
    """
    layout = through(_layout(brain, affine), seed, affine)
    picture = DARKER * window(montage(mean, affine, layout), mean[brain])
    values = montage(smoothed(z, affine), affine, layout, order=0)
    least = float(np.arctanh(r_shown))
    shown = np.abs(values) >= least
    picture[shown] = CONNECTED((values[shown] / MOST_SHOWN + 1) / 2)[:, :3]
    figure, axes = canvas(picture, layout)
    contour(axes, montage(seed, affine, layout), SEED_OUTLINE)
    legend(figure, {f"seed {name}": SEED_OUTLINE})
    text = f"Fisher z, smoothed {SMOOTH:g} mm, shown from ±{least:.2f} (r = {r_shown:g})"
    colour_bar(figure, CONNECTED, (-MOST_SHOWN, MOST_SHOWN), text, hidden=least)
    return figure


def draw_local(
    mean: NDArray, brain: NDArray, affine: NDArray, maps: Mapping[str, NDArray]
) -> Figure:
    """Draw standardised local measures over the mean echo-planar image, one row each.

    Parameters
    ----------
    mean : (x, y, z) array
        Mean over time, arbitrary units.
    brain : (x, y, z) bool array
        For the choice of slices and of grey levels.
    affine : (4, 4) array
        Voxel to RAS+ mm of all.
    maps : mapping of str to (x, y, z) array
        Name and z of each measure; NaN where nothing is known.
    """
    layout = _axial_rows(plan(brain, affine, span=_extent(brain, affine), count=COUNT,
                              margin=MARGIN, pixel=AXIAL_PIXEL), len(maps))  # fmt: skip
    picture = DARKER * window(montage(mean, affine, layout), mean[brain])
    height = layout.shape[0] // len(maps)
    for row, values in enumerate(maps.values()):
        part = slice(row * height, (row + 1) * height)
        z = montage(values, affine, layout, order=0)[part]
        shown = np.abs(z) >= Z_SHOWN
        picture[part][shown] = CONNECTED((z[shown] / Z_ENDS + 1) / 2)[:, :3]
    figure, axes = canvas(picture, layout)
    for row, name in enumerate(maps):
        axes.text(4, (row + 1) * height - 4, name, color="white", va="bottom", fontsize=9)
    text = f"z within the brain, shown from ±{Z_SHOWN:g}"
    legend(figure, {})
    colour_bar(figure, CONNECTED, (-Z_ENDS, Z_ENDS), text, hidden=Z_SHOWN)
    return figure


def _axial_rows(layout: Layout, count: int) -> Layout:
    """The axial slices of a layout, `count` times below each other."""
    tiles = [tile for tile in layout.tiles if tile.plane == "axial"]
    rows, columns = layout.size(tiles[0])
    placed = tuple(
        replace(tile, row=row * rows, column=column * columns)
        for row in range(count)
        for column, tile in enumerate(tiles)
    )
    return replace(layout, tiles=placed, shape=(count * rows, len(tiles) * columns))


def through(layout: Layout, seed: NDArray, affine: NDArray) -> Layout:
    """Layout with the nearest slice of each plane moved to where most of the seed lies."""
    if not seed.any():
        return layout
    points = apply_affine(affine, np.argwhere(seed).T)
    moved = {}
    for plane in {tile.plane for tile in layout.tiles}:
        tiles = [tile for tile in layout.tiles if tile.plane == plane]
        places, counts = np.unique(np.round(points[tiles[0].axis] / BIN), return_counts=True)
        position = float(BIN * places[counts.argmax()])
        nearest = min(tiles, key=lambda tile: abs(tile.position - position))
        moved[nearest] = replace(nearest, position=position)
    return replace(layout, tiles=tuple(moved.get(tile, tile) for tile in layout.tiles))


def smoothed(values: NDArray, affine: NDArray, fwhm: float = SMOOTH) -> NDArray:
    """Map smoothed by `fwhm` mm among the voxels that have a value; 0 is none."""
    known = np.isfinite(values) & (values != 0)
    sigma = fwhm / FWHM / voxel_sizes(affine)
    near = [
        ndimage.gaussian_filter(part.astype(np.float32), sigma, mode="constant")
        for part in (np.where(known, values, 0), known)
    ]
    return np.where(known, near[0] / np.maximum(near[1], np.finfo(np.float32).tiny), 0)


def draw_tsnr(tsnr: NDArray, brain: NDArray, affine: NDArray) -> Figure:
    """Draw the temporal signal-to-noise ratio of the brain.

    Parameters
    ----------
    tsnr : (x, y, z) array
        Mean over standard deviation in time; NaN where it is unknown.
    brain : (x, y, z) bool array
        Voxels shown.
    affine : (4, 4) array
        Voxel to RAS+ mm of both.
    """
    layout = _layout(brain, affine)
    values = tsnr[brain & np.isfinite(tsnr)]
    highest = float(np.percentile(values, TSNR_TOP)) if len(values) else TSNR_STEP
    top = TSNR_STEP * max(1, np.ceil(highest / TSNR_STEP))
    colours = matplotlib.colormaps["viridis"]
    inside = montage(brain, affine, layout, order=0) > 0.5
    shown = montage(tsnr, affine, layout, order=0)
    picture = np.zeros((*layout.shape, 3))
    picture[inside] = colours(np.clip(shown[inside] / top, 0, 1))[:, :3]
    figure, _ = canvas(picture, layout)
    middle = f"median {np.median(values):.0f}" if len(values) else "n/a"
    legend(figure, {f"temporal signal-to-noise ratio, {middle}": "#ffffff"})
    colour_bar(figure, colours, (0.0, top), "")
    return figure


def colour_bar(
    figure: Figure,
    colours: Colormap,
    ends: tuple[float, float],
    text: str,
    hidden: float = 0.0,
) -> None:
    """Colours with their values in the strip under the slices, values nearer to 0 left grey."""
    width, height = (size * DPI for size in figure.get_size_inches())
    share, thick = BAR
    left, middle = 0.64, LEGEND / 2 / height
    axes = figure.add_axes((left, middle - thick / 2 / height, share, thick / height))
    values = np.linspace(*ends, 256)
    shades = colours((values - ends[0]) / (ends[1] - ends[0]))
    shades[np.abs(values) < hidden, :3] = 0.3
    axes.imshow(shades[None], aspect="auto")
    axes.set_axis_off()
    gap = 6 / width
    for place, value, side in (
        (left - gap, ends[0], "right"),
        (left + share + gap, ends[1], "left"),
    ):
        figure.text(place, middle, f"{value:g}", color="white", fontsize=8, ha=side, va="center")
    figure.text(left - 5 * gap, middle, text, color="white", fontsize=8, ha="right", va="center")


def _layout(brain: NDArray, affine: NDArray, box: tuple[NDArray, NDArray] | None = None) -> Layout:
    """Slices between `box`, or else where most of the brain is."""
    box = box or _extent(brain, affine)
    return plan(brain, affine, span=box, count=COUNT, margin=MARGIN, pixel=PIXEL)


def _extent(brain: NDArray, affine: NDArray) -> tuple[NDArray, NDArray] | None:
    """Lowest and highest world coordinates, mm, of most of the brain."""
    if not brain.any():
        return None
    low, high = np.percentile(apply_affine(affine, np.argwhere(brain).T), EXTENT, axis=1)
    return low, high
