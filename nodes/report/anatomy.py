"""Pictures of the anatomical stream: outline, tissue borders, atlas regions, template fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from alsflow.nodes.report.slices import ENDS, Layout, bounds, montage, plan

DPI = 100  # pixels per inch: one pixel of the montage is one pixel of the picture
LEGEND = 26  # pixels below the slices
BORDER = 0.5  # a map is drawn where it crosses one half
TEMPLATE_FULL = 99.5  # percentile of a probability map that stands for certainty
WINDOW = (1.0, 99.7)  # percentiles of the intensity inside the brain shown black and white
HEADROOM = 1.15  # scalp and vessels are brighter than brain
OPACITY = 0.55
SHADES = (0.3, 0.8, 1.0)  # besides OPACITY: how much of a colour the edge of a line holds

OUTLINE_COLOUR = "#ffd400"
TISSUE_COLOURS = {"white matter": "#ff5a36", "grey matter": "#ffd400", "CSF": "#35b6ff"}
TEMPLATE_COLOURS = {"template white matter": "#ff5a36", "template brain": "#35b6ff"}
# Okabe and Ito: told apart by people who are colour-blind
REGION_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7", "#0072b2")


def draw_outline(t1w: NDArray, mask: NDArray, affine: NDArray) -> Figure:
    """Draw the border of the brain mask on the head.

    Parameters
    ----------
    t1w : (x, y, z) array
        Head, arbitrary units.
    mask : (x, y, z) bool array
        Brain.
    affine : (4, 4) array
        Voxel to RAS+ mm of both.
    """
    layout = plan(mask, affine)
    figure, axes = canvas(window(montage(t1w, affine, layout), t1w[mask]), layout)
    contour(axes, montage(mask, affine, layout), OUTLINE_COLOUR)
    legend(figure, {"brain mask": OUTLINE_COLOUR})
    return figure


def draw_tissue(
    t1w: NDArray, mask: NDArray, gm: NDArray, wm: NDArray, csf: NDArray, affine: NDArray
) -> Figure:
    """Draw the outer borders of white matter, grey matter and CSF on the head.

    Borders are drawn where WM, GM + WM and GM + WM + CSF cross one half, so that each line is the
    outer edge of the tissue that it is named after.

    Parameters
    ----------
    t1w : (x, y, z) array
        Head, arbitrary units.
    mask : (x, y, z) bool array
        Brain, for the choice of slices.
    gm, wm, csf : (x, y, z) array
        Tissue probability, 0 to 1.
    affine : (4, 4) array
        Voxel to RAS+ mm of all.
    """
    layout = plan(mask, affine)
    figure, axes = canvas(window(montage(t1w, affine, layout), t1w[mask]), layout)
    borders = (wm, gm + wm, gm + wm + csf)
    for volume, colour in zip(borders, TISSUE_COLOURS.values(), strict=True):
        contour(axes, montage(volume, affine, layout), colour)
    legend(figure, {f"outer border of {name}": c for name, c in TISSUE_COLOURS.items()})
    return figure


def draw_atlas(
    t1w: NDArray,
    mask: NDArray,
    affine: NDArray,
    regions: Mapping[str, tuple[NDArray, NDArray]],
) -> Figure:
    """Draw the regions whose volumes are measured on the head.

    Parameters
    ----------
    t1w : (x, y, z) array
        Head, arbitrary units.
    mask : (x, y, z) bool array
        Brain, for the choice of slices.
    affine : (4, 4) array
        Voxel to RAS+ mm of `t1w` and `mask`.
    regions : mapping of str to (array, affine)
        Name of each region, its (x, y, z) bool mask and the affine of that.
    """
    layout = plan(mask, affine, span=span(regions.values()))
    picture = window(montage(t1w, affine, layout), t1w[mask])
    colours = dict(zip(regions, _colours(len(regions)), strict=True))
    for name, (region, region_affine) in regions.items():
        inside = montage(region, region_affine, layout, order=0) > BORDER
        picture[inside] = (1 - OPACITY) * picture[inside] + OPACITY * np.array(
            to_rgb(colours[name])
        )
    figure, _ = canvas(picture, layout)
    legend(figure, colours)
    return figure


def draw_template(
    warped: NDArray,
    affine: NDArray,
    template_gm: NDArray,
    template_wm: NDArray,
    template_affine: NDArray,
) -> Figure:
    """Draw the borders of the template on the person's image brought to template space.

    Parameters
    ----------
    warped : (x, y, z) array
        The person's image or tissue map in template space, arbitrary units.
    affine, template_affine : (4, 4) array
        Voxel to RAS+ mm of `warped` and of the template.
    template_gm, template_wm : (x, y, z) array
        Grey- and white-matter probability of the template, any scale.
    """
    brain = _certain(template_gm + template_wm)
    layout = plan(brain > BORDER, template_affine)
    shown = montage(warped, affine, layout)
    figure, axes = canvas(window(shown, shown[shown > 0]), layout)
    borders = (_certain(template_wm), brain)
    for volume, colour in zip(borders, TEMPLATE_COLOURS.values(), strict=True):
        contour(axes, montage(volume, template_affine, layout), colour)
    legend(figure, TEMPLATE_COLOURS)
    return figure


def palette(greys: int) -> NDArray:
    """Colours that the pictures of this module need: greys, and the overlays mixed with them.

    Parameters
    ----------
    greys : int
        Levels of grey; more show finer noise and make larger files.

    Returns
    -------
    (n, 3) uint8 array
        At most 256 colours.
    """
    overlays = {OUTLINE_COLOUR, *TISSUE_COLOURS.values(), *TEMPLATE_COLOURS.values()}
    grey = np.linspace(0, 1, greys)[:, None].repeat(3, axis=1)
    under = np.linspace(0, 1, 4)[:, None].repeat(3, axis=1)
    mixed = [
        share * np.array(to_rgb(colour)) + (1 - share) * under
        for colour in (*sorted(overlays), *REGION_COLOURS)
        for share in (OPACITY, *SHADES)
    ]
    colours = np.unique(np.round(255 * np.vstack([grey, *mixed])).astype(np.uint8), axis=0)
    assert len(colours) <= 256
    return colours


def span(regions: Iterable[tuple[NDArray, NDArray]]) -> tuple[NDArray, NDArray] | None:
    """World box, mm, around all regions that are there."""
    boxes = [box for region, affine in regions if (box := bounds(region, affine)) is not None]
    if not boxes:
        return None
    return np.min([low for low, _ in boxes], axis=0), np.max([high for _, high in boxes], axis=0)


def _certain(probability: NDArray) -> NDArray:
    """Probability on a scale where certainty is 1, whatever scale it was stored on."""
    positive = probability[probability > 0]
    return probability / np.percentile(positive, TEMPLATE_FULL) if positive.size else probability


def window(picture: NDArray, inside: NDArray) -> NDArray:
    """Grey picture as (rows, columns, 3) from 0 to 1, its window set by the values inside."""
    values = inside[np.isfinite(inside)]
    low, high = np.percentile(values if values.size else picture, WINDOW)
    low, high = min(low, 0.0), high * HEADROOM
    scaled = np.clip((picture - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1)
    return np.repeat(scaled[..., None], 3, axis=2)


def _colours(count: int) -> Sequence[str]:
    return [REGION_COLOURS[index % len(REGION_COLOURS)] for index in range(count)]


def canvas(picture: NDArray, layout: Layout) -> tuple[Figure, Axes]:
    """Figure with the picture, and where each slice lies, above room for a legend."""
    rows, columns = layout.shape
    height = rows + LEGEND
    figure = Figure(figsize=(columns / DPI, height / DPI), dpi=DPI, facecolor="black")
    axes = figure.add_axes((0, LEGEND / height, 1, rows / height))
    axes.imshow(picture, interpolation="nearest", extent=(0, columns, rows, 0), aspect="equal")
    axes.set_axis_off()
    axes.autoscale(False)
    for tile in layout.tiles:
        tile_rows, tile_columns = layout.size(tile)
        _write(axes, tile.column + tile_columns / 2, tile.row + 3,
               f"{'xyz'[tile.axis]} = {round(tile.position)}", "center", 7)  # fmt: skip
        left, right = ENDS[tile.right]
        middle = tile.row + tile_rows / 2
        _write(axes, tile.column + 3, middle, left, "left", 8)
        _write(axes, tile.column + tile_columns - 3, middle, right, "right", 8)
    return figure, axes


def _write(axes: Axes, x: float, y: float, text: str, align: str, size: int) -> None:
    vertical = "top" if align == "center" else "center"
    axes.text(x, y, text, color="white", ha=align, va=vertical, fontsize=size)


def contour(axes: Axes, field: NDArray, colour: str) -> None:
    """Line where a map crosses one half; nothing where it never does."""
    if field.max() <= BORDER or field.min() >= BORDER:
        return
    rows, columns = field.shape
    x, y = np.arange(columns) + 0.5, np.arange(rows) + 0.5
    axes.contour(x, y, field, levels=[BORDER], colors=[colour], linewidths=0.9)


def legend(figure: Figure, colours: Mapping[str, str]) -> None:
    """Names in their colours along the bottom, and the convention of sides."""
    place = 0.01
    baseline = LEGEND / 2 / (figure.get_figheight() * DPI)
    for name, colour in colours.items():
        figure.text(place, baseline, f"\u25a0 {name}", color=colour, fontsize=9, va="center")
        place += (len(name) + 4) * 7.0 / (figure.get_figwidth() * DPI)
    figure.text(0.99, baseline, "left is left; mm", color="white", fontsize=8,
                ha="right", va="center")  # fmt: skip
