"""Charts of the functional stream: motion with the carpet of all voxels, matrix of regions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from alsflow.nodes.report.diffusion_charts import DPI, GREY, INK, SERIES

WIDTH = 9.0  # inches
# Tissue of the rows of a carpet, from the top; Okabe and Ito: told apart with any colour vision
TISSUES = {"cortex": "#0072b2", "deep grey": "#56b4e9", "white matter": "#e69f00",
           "CSF": "#cc79a7"}  # fmt: skip
MOSTLY = 0.6  # fraction of a tissue from which a voxel is one of its rows
CARPET_ROWS = 300  # of all tissues together
NEAR = 16  # voxels averaged in a row of the carpet, next to each other or nearly so
FLAT = 1e-4  # of the median standard deviation; what varies less is rounding
CARPET_ENDS = 1.0  # mean of their standard deviations at black and at white
MARK = "#d55e00"  # outlier volumes
CENSORED = "#f6dcc8"  # volumes that are not there
TRACES = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z",
          "framewise_displacement", "std_dvars", "global_signal", "motion_outlier",
          "run")  # fmt: skip
MATRIX_ENDS = 0.8  # correlation at full colour
SIDES = ("left", "right")
SIDE_WORD = re.compile(r"(^|[_\- ])(left|right|lh|rh|l|r)(?=$|[_\- ])", re.IGNORECASE)
LONGEST = 16  # characters of a region's name
FEW = 60  # regions whose names have room in one column


def carpet_rows(tissue: NDArray, brain: NDArray, deep: NDArray | None = None) -> NDArray:
    """Tissue of every voxel for the carpet: its index in `TISSUES`, -1 for none.

    Parameters
    ----------
    tissue : (x, y, z, 3) array
        Fractions of GM, WM and CSF.
    brain : (x, y, z) bool array
        Voxels seen by every volume.
    deep : (x, y, z) bool array, optional
        Deep grey matter.
    """
    rows = np.full(brain.shape, -1)
    for index, fraction in zip((0, 2, 3), np.moveaxis(tissue, -1, 0), strict=True):
        rows[brain & (fraction >= MOSTLY)] = index
    if deep is not None:
        rows[(rows == 0) & deep] = 1
    return rows


def carpet_voxels(rows: NDArray, most: int = CARPET_ROWS) -> tuple[NDArray, NDArray]:
    """Voxels behind each row of a carpet, rows evenly spaced in each tissue from the top down.

    Parameters
    ----------
    rows : (x, y, z) int array
        As `carpet_rows` gives it.
    most : int
        About how many rows.

    Returns
    -------
    places : (m, `NEAR`, 3) int array
        Voxels that follow each other in the slice, or their tissue's, for each row.
    kinds : (m,) int array
        Tissue of each row.
    """
    counts = [int((rows == kind).sum()) for kind in range(len(TISSUES))]
    chosen, kinds = [np.empty((0, NEAR, 3), int)], []
    for kind, count in enumerate(counts):
        if count < NEAR:
            continue
        share = min(count // NEAR, int(np.ceil(most * count / sum(counts))))
        places = np.argwhere(rows == kind)
        places = places[np.argsort(-places[:, 2], kind="stable")]
        first = np.linspace(0, count - NEAR, share).round().astype(int)
        chosen.append(places[first[:, None] + np.arange(NEAR)])
        kinds += [kind] * share
    return np.concatenate(chosen), np.array(kinds, int)


def carpet(series: NDArray, runs: NDArray) -> NDArray:
    """Rows of a carpet (m, n): series (m, k, n) in their standard deviations, averaged over k.

    Each is taken about a line in each run; volumes that are NaN stay so.
    """
    shown = np.full(series.shape, np.nan)
    known = np.isfinite(series).all(axis=(0, 1))
    for run in np.unique(runs[known]):
        own = np.flatnonzero((runs == run) & known)
        trend, _ = np.linalg.qr(np.vander(own - own.mean(), min(2, len(own))))
        values = series[..., own].astype(float)
        shown[..., own] = values - values @ trend @ trend.T
    spread = shown[..., known].std(axis=-1, keepdims=True)
    varies = spread > FLAT * np.median(spread) if spread.size else spread > 0
    return np.where(varies, shown / np.where(varies, spread, 1), 0 * shown).mean(axis=1)


def draw_carpet(
    before: NDArray, after: NDArray | None, kinds: NDArray, traces: pd.DataFrame, tr: float
) -> Figure:
    """Draw motion and signal of the whole brain over the series of voxels of each tissue.

    Parameters
    ----------
    before : (m, k, n) array
        Realigned series of the voxels behind each row of the carpet.
    after : (m, k, n) array or None
        The same denoised, NaN in volumes that were censored; None if there is none.
    kinds : (m,) int array
        Tissue of each row: its index in `TISSUES`, rising.
    traces : DataFrame
        A row per volume, with columns `TRACES`; mm, radians.
    tr : float
        Repetition time, s.
    """
    runs = traces["run"].to_numpy(int)
    panels = {"before denoising": before} | ({} if after is None else {"after denoising": after})
    heights = [0.8, 0.8, 0.8, 0.8, 0.8, *([2.4] * len(panels))]
    figure = Figure(
        figsize=(WIDTH, 1.15 * sum(heights) + 0.6), dpi=DPI, layout="constrained",
        facecolor="white",
    )  # fmt: skip
    grid = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    _draw_traces(grid[:5], traces, runs)
    for axes, (name, series) in zip(grid[5:], panels.items(), strict=True):
        _draw_carpet_panel(axes, carpet(series, runs), kinds, name)
    outliers = traces["motion_outlier"].to_numpy(float) > 0
    for axes in grid:
        for border in np.flatnonzero(np.diff(runs)) + 1.5:
            axes.axvline(border, color=INK, lw=1.2, ls=(0, (4, 2)))
        axes.set_xlim(0.5, len(runs) + 0.5)
    for volume in np.flatnonzero(outliers) + 1:
        for axes in grid[:5]:
            axes.axvspan(volume - 0.5, volume + 0.5, color=MARK, alpha=0.25, lw=0, zorder=-1)
    notes = [f"volume, one every {tr:g} s"]
    if outliers.any():
        notes.append(f"orange: {outliers.sum()} outlier volumes")
    if runs.max(initial=0) > 0:
        notes.append("dashed: a new run")
    grid[-1].set_xlabel("; ".join(notes), fontsize=9)
    return figure


def _draw_traces(grid: Sequence[Axes], traces: pd.DataFrame, runs: NDArray) -> None:
    """Translation, rotation, FD, DVARS and global signal, with gaps between runs."""
    volumes = np.arange(1, len(runs) + 1)
    for axes, (name, values) in zip(grid, _columns(traces, runs).items(), strict=True):
        several = values.shape[1] > 1
        for k, column in enumerate(values.T):
            colour = SERIES[k] if several else INK
            for run in np.unique(runs):
                axes.plot(volumes[runs == run], column[runs == run], lw=1.1, color=colour)
            if several:
                axes.text(0.005 + 0.02 * k, 1.02, "xyz"[k], color=colour, fontsize=9,
                          transform=axes.transAxes, va="bottom", weight="bold")  # fmt: skip
        axes.set_ylabel(name, fontsize=8.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK, labelsize=8)
        axes.locator_params(axis="y", nbins=3)
        if not several and np.isfinite(values).any():
            text = f"mean {np.nanmean(values):.2f}, largest {np.nanmax(values):.2f}"
            axes.set_title(text, loc="right", fontsize=8.5, color=INK, pad=2)
    grid[2].set_ylim(bottom=0)
    grid[3].axhline(1, color=GREY, lw=0.6, zorder=0)
    grid[4].set_title("", loc="right")


def _columns(traces: pd.DataFrame, runs: NDArray) -> dict[str, NDArray]:
    """What is drawn over the carpet, (n, 1) or (n, 3) each, by its name."""
    shift, turn = (
        traces[[f"{kind}_{axis}" for axis in "xyz"]].to_numpy(float) for kind in ("trans", "rot")
    )
    level = traces["global_signal"]
    change = 100 * (level / level.groupby(runs).transform("mean") - 1)
    return {
        "translation\nmm": shift,
        "rotation\ndegrees": np.rad2deg(turn),
        "FD, mm": traces[["framewise_displacement"]].to_numpy(float),
        "DVARS\nstandardised": traces[["std_dvars"]].to_numpy(float),
        "global\nsignal, %": change.to_numpy(float)[:, None],
    }


def _draw_carpet_panel(axes: Axes, shown: NDArray, kinds: NDArray, name: str) -> None:
    """One carpet, with a band of the colour of each tissue at its left."""
    count = shown.shape[1]
    picture = np.clip(shown / CARPET_ENDS, -1, 1)
    grey = np.repeat(((picture + 1) / 2)[..., None], 3, axis=2)
    grey[np.isnan(picture)] = [int(CENSORED[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    axes.imshow(grey, aspect="auto", interpolation="nearest",
                extent=(0.5, count + 0.5, len(shown), 0))  # fmt: skip
    for kind, (tissue, colour) in enumerate(TISSUES.items()):
        rows = np.flatnonzero(kinds == kind)
        if not len(rows):
            continue
        axes.add_patch(_band(axes, rows, len(shown), colour))
        if len(rows) / len(shown) > 0.02:
            axes.text(-0.025, 1 - rows.mean() / len(shown), tissue, color=colour, fontsize=8.5,
                      ha="right", va="center", transform=axes.transAxes)  # fmt: skip
        if rows[0]:
            axes.axhline(rows[0], color=colour, lw=1.0)
    axes.set_yticks([])
    axes.tick_params(colors=INK, labelsize=8)
    title = f"{name}; black to white: ±{CARPET_ENDS:g} standard deviation, rows are {NEAR} voxels"
    axes.set_title(title, fontsize=9, loc="left", color=INK, pad=3)


def _band(axes: Axes, rows: NDArray, total: int, colour: str) -> Rectangle:
    """Strip of colour at the left of the rows of a tissue."""
    height = len(rows) / total
    return Rectangle((-0.018, 1 - (rows[-1] + 1) / total), 0.012, height, color=colour, lw=0,
                     transform=axes.transAxes, clip_on=False)  # fmt: skip


def draw_matrix(r: NDArray, names: Sequence[str], sides: Mapping[str, str]) -> Figure:
    """Draw the correlations of all regions with each other: left, right, then neither.

    Parameters
    ----------
    r : (k, k) array
        Correlations; NaN for regions that are not seen, which are left out.
    names : sequence of str
        Of the regions.
    sides : mapping of str to str
        Side of each name: left, right or anything else.
    """
    known = [k for k in range(len(names)) if np.isfinite(np.delete(r[k], k)).any()]
    groups = {side: [k for k in known if sides.get(names[k], "") == side] for side in SIDES}
    groups["middle"] = [k for k in known if sides.get(names[k], "") not in SIDES]
    order = [k for group in groups.values() for k in group]
    height = 9.4 if len(order) > FEW else 7.0
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0.235, 0.3 / height, 0.655, 1 - 0.6 / height))
    axes.set_xticks([])
    axes.set_yticks([])
    if order:
        _draw_cells(figure, axes, r[np.ix_(order, order)])
        _name_rows(axes, [short_name(names[k]) for k in order])
        _mark_groups(axes, groups)
    else:
        axes.text(0.5, 0.5, "n/a", color=GREY, ha="center", transform=axes.transAxes)
    text = f"{len(order)} regions; {len(names) - len(order)} not seen are left out"
    figure.text(0.99, 0.008, text, fontsize=8.5, color=INK, ha="right", va="bottom")
    return figure


def _draw_cells(figure: Figure, axes: Axes, r: NDArray) -> None:
    """Correlations in colours, none of a region with itself, and their colour bar."""
    shown = np.array(r, float)
    np.fill_diagonal(shown, np.nan)
    image = axes.imshow(shown, cmap="RdBu_r", vmin=-MATRIX_ENDS, vmax=MATRIX_ENDS,
                        interpolation="nearest", aspect="auto")  # fmt: skip
    axes.set_facecolor("#d9d9d9")
    bar = figure.colorbar(image, cax=figure.add_axes((0.91, 0.25, 0.018, 0.4)), extend="both")
    bar.ax.tick_params(labelsize=8.5)
    bar.set_label("correlation r", fontsize=9)


def short_name(name: str) -> str:
    """Name of a region without its side; its abbreviation where the atlas gives one first."""
    bare = SIDE_WORD.sub("", name).strip("_- ")
    first, _, rest = bare.partition("_")
    text = first if rest[:1].islower() else bare.replace("_", " ")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Names beside the rows, in two columns by turns where rows are too low for one."""
    columns = 1 if len(names) <= FEW else 2
    for row, name in enumerate(names):
        out = row % columns
        axes.annotate(name, (0, row), xycoords=("axes fraction", "data"), fontsize=7,
                      xytext=(-5 - 72 * out, 0), textcoords="offset points", ha="right",
                      va="center", color=INK, annotation_clip=False,
                      arrowprops={"arrowstyle": "-", "lw": 0.3, "color": GREY, "shrinkA": 1,
                                  "shrinkB": 0})  # fmt: skip


def _mark_groups(axes: Axes, groups: Mapping[str, Sequence[int]]) -> None:
    """Lines between the sides, and their names above the columns."""
    start = 0
    for side, members in groups.items():
        if not members:
            continue
        end = start + len(members)
        axes.text((start + end) / 2 - 0.5, -0.8, side, ha="center", va="bottom", fontsize=9)
        if start:
            axes.axhline(start - 0.5, color=INK, lw=1)
            axes.axvline(start - 0.5, color=INK, lw=1)
        start = end
