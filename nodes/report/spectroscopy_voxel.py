"""Pictures of the spectroscopy voxel on slices: of one person, and over a cohort."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import apply_affine
from alsflow.nodes.report.anatomy import OUTLINE_COLOUR, canvas, contour, legend, window
from alsflow.nodes.report.functional import colour_bar
from alsflow.nodes.report.slices import Layout, montage, plan

PIXEL = 0.6  # mm
MARGIN = 12.0  # mm around brain and voxel
SHARES = matplotlib.colormaps["viridis"]  # told apart with any colour vision
LEAST_SHARE = 0.005  # of the people; fewer are left grey
HALF = "#ffffff"  # line round what at least half of the people share
TIE = 1e-4  # shares that differ by less are the same


def draw_voxel(
    t1w: NDArray, mask: NDArray, affine: NDArray, brain: NDArray | None = None
) -> Figure:
    """Draw the outline of the voxel on the head, in three planes through its centre.

    Parameters
    ----------
    t1w : (x, y, z) array
        Head or brain, arbitrary units.
    mask : (x, y, z) bool array
        The spectroscopy voxel.
    affine : (4, 4) array
        Voxel to RAS+ mm of all.
    brain : (x, y, z) bool array, optional
        For the frame and the grey levels; by default where the image is above 0.
    """
    if not mask.any():
        raise BadInputError(
            "The mask of the spectroscopy voxel is empty; the voxel lies outside the T1-weighted "
            "image."
        )
    brain = t1w > 0 if brain is None else brain
    centre = apply_affine(affine, np.argwhere(mask).T).mean(axis=1)
    layout = _through(brain, mask, affine, centre)
    figure, axes = canvas(window(montage(t1w, affine, layout), t1w[brain]), layout)
    contour(axes, montage(mask, affine, layout), OUTLINE_COLOUR)
    legend(figure, {"spectroscopy voxel": OUTLINE_COLOUR})
    return figure


def draw_overlap(
    overlap: NDArray, affine: NDArray, template: NDArray, template_affine: NDArray, count: int
) -> Figure:
    """Draw where the voxels of people overlap on the template, through the largest overlap.

    Parameters
    ----------
    overlap : (x, y, z) array
        Share of the people whose voxel covers each place, 0 to 1.
    affine, template_affine : (4, 4) array
        Voxel to RAS+ mm of `overlap` and of the template.
    template : (x, y, z) array
        T1-weighted brain of the template, 0 outside.
    count : int
        Number of people.
    """
    place, _ = overlap_peak(overlap, affine)
    brain = template > 0
    layout = _through(brain, brain, template_affine, place)
    picture = window(montage(template, template_affine, layout), template[brain])
    values = montage(overlap, affine, layout)
    shown = values >= LEAST_SHARE
    picture[shown] = SHARES(np.clip(values[shown], 0, 1))[:, :3]
    figure, axes = canvas(picture, layout)
    contour(axes, values, HALF)
    people = "1 person" if count == 1 else f"{count} people"
    legend(figure, {f"voxels of {people}; line: half of them": HALF})
    colour_bar(figure, SHARES, (0.0, 100.0), "people, %")
    return figure


def overlap_peak(overlap: NDArray, affine: NDArray) -> tuple[NDArray, float]:
    """Place (3,), RAS+ mm, of the largest overlap, and that share.

    Where many voxels share the largest value, the one nearest to the middle of them.
    """
    top = float(np.nanmax(overlap)) if np.isfinite(overlap).any() else 0.0
    if top <= 0:
        raise BadInputError("The overlap of the voxels is 0 everywhere; there is no voxel in it.")
    points = apply_affine(affine, np.argwhere(overlap >= top - TIE).T)
    middle = points.mean(axis=1, keepdims=True)
    return points[:, np.square(points - middle).sum(axis=0).argmin()], top


def overlap_caption(count: int, share: float, place: Sequence[float]) -> str:
    """Sentences under the picture of an overlap; `place` is RAS+ mm."""
    x, y, z = (f"{round(mm)}".replace("-", "\u2212") for mm in place)
    most = f"the voxels of {share:.0%} of them".replace("%", " %") if share < 1 - TIE else "all"
    if count == 1:
        return f"The voxel of one person, about x {x}, y {y}, z {z} mm of the template."
    return (
        f"Share of the {count} people with a usable voxel that covers each place of the template. "
        f"Most meet at x {x}, y {y}, z {z} mm: {most}. Where few do, people were measured in "
        "different places, which a difference of metabolites may be due to."
    )


def _through(brain: NDArray, voxel: NDArray, affine: NDArray, place: NDArray) -> Layout:
    """One slice of each plane through a place, side by side, each in the middle of its column."""
    seen = brain if brain.any() else np.ones(brain.shape, bool)
    # their points themselves: the box of a mask on a turned grid is far too large in the world
    points = [apply_affine(affine, np.argwhere(part).T) for part in (seen, voxel)]
    low = np.min([part.min(axis=1) for part in points], axis=0) - MARGIN
    high = np.max([part.max(axis=1) for part in points], axis=0) + MARGIN
    frame = replace(plan(seen, affine, count=1, pixel=PIXEL), low=low, high=high)
    tall = max(frame.size(tile)[0] for tile in frame.tiles)
    tiles, column = [], 0
    for tile in frame.tiles:
        rows, columns = frame.size(tile)
        position = float(place[tile.axis])
        tiles.append(replace(tile, position=position, row=(tall - rows) // 2, column=column))
        column += columns
    return replace(frame, tiles=tuple(tiles), shape=(tall, column))
