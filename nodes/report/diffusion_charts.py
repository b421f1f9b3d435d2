"""Charts of the diffusion stream: motion, histograms of the maps, profiles along tracts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe and Ito: told apart with any colour vision
SERIES = ("#0072b2", "#d55e00", "#009e73")
SIDE_COLOURS = {"left": "#0072b2", "right": "#d55e00", "both": "#222222"}
INK, GREY, PALE = "#222222", "#8a8a8a", "#e4e4e4"
DPI = 100
MD_SHOWN = 3.0  # 1e-3 mm2/s; free water at body temperature
MICRO = 1e3  # mm2/s to 1e-3 mm2/s
BINS = 100
UNITS = {"FA": "FA", "MD": "MD, $10^{-3}$ mm²/s", "AD": "AD, $10^{-3}$ mm²/s",
         "RD": "RD, $10^{-3}$ mm²/s"}  # fmt: skip


def draw_motion(
    translations: NDArray, rotations: NDArray, fd: NDArray, outliers: NDArray, b0: NDArray
) -> Figure:
    """Draw the movement of the head over the series, and the slices that were lost.

    Parameters
    ----------
    translations : (n, 3) array
        Along x, y, z of the world, mm.
    rotations : (n, 3) array
        About x, y, z of the world, degrees.
    fd : (n,) array
        Framewise displacement, mm; NaN where there is none.
    outliers : (n,) array
        Slices with signal loss.
    b0 : (n,) bool array
        Volumes without diffusion weighting.
    """
    figure = Figure(figsize=(9, 6.4), dpi=DPI, layout="constrained", facecolor="white")
    rows = figure.subplots(4, 1, sharex=True, height_ratios=(1.25, 1.25, 1, 0.8))
    volumes = np.arange(1, len(fd) + 1)
    for axes, values in zip(rows, (translations, rotations), strict=False):
        for series, colour, name in zip(np.transpose(values), SERIES, "xyz", strict=True):
            axes.plot(volumes, series, color=colour, lw=1.3, label=name)
        axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper left", borderpad=0)
        axes.axhline(0, color=GREY, lw=0.6, zorder=0)
    rows[2].plot(volumes, fd, color=INK, lw=1.2)
    rows[2].set_ylim(bottom=0)
    rows[3].bar(volumes, outliers, color=SERIES[1], width=0.8)
    rows[3].set_ylim(0, max(1, int(np.max(outliers, initial=0))))
    rows[3].yaxis.get_major_locator().set_params(integer=True)
    names = ("translation, mm", "rotation, degrees", "FD, mm", "outlier slices")
    for axes, name in zip(rows, names, strict=True):
        axes.set_ylabel(name, fontsize=9)
        for volume in volumes[np.asarray(b0, bool)]:
            axes.axvspan(volume - 0.5, volume + 0.5, color=PALE, lw=0, zorder=-1)
        _plain(axes)
    rows[3].set_xlim(0.5, len(fd) + 0.5)
    rows[3].set_xlabel("volume, in the order of acquisition; grey: b = 0", fontsize=9)
    return figure


def draw_histograms(fa: NDArray, md: NDArray, brain: NDArray) -> Figure:
    """Draw how FA and MD are distributed in the brain.

    Parameters
    ----------
    fa : (x, y, z) array
        Fractional anisotropy.
    md : (x, y, z) array
        Mean diffusivity, mm2/s.
    brain : (x, y, z) bool array
        Voxels counted; those that are not finite are left out.
    """
    figure = Figure(figsize=(9, 3.2), dpi=DPI, layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    for axes, values, top, name in (
        (left, fa[brain], 1.0, UNITS["FA"]),
        (right, MICRO * md[brain], MD_SHOWN, UNITS["MD"]),
    ):
        values = values[np.isfinite(values)]
        counts, edges = np.histogram(values, BINS, (0, top))
        axes.stairs(100 * counts / max(len(values), 1), edges, fill=True, color=SERIES[0])
        axes.set_xlim(0, top)
        axes.set_xlabel(name, fontsize=9)
        beyond = 100 * np.mean((values < 0) | (values > top)) if len(values) else 0.0
        note = f"{len(values)} voxels"
        if len(values):
            middle = float(np.median(values))
            axes.axvline(middle, color=SERIES[1], lw=1.2)
            note = f"median {middle:.2f}; {note}; {beyond:.1f} % outside"
        axes.set_title(note, fontsize=9, loc="right", color=INK)
        _plain(axes)
    left.set_ylabel("voxels, %", fontsize=9)
    return figure


def draw_profiles(profiles: pd.DataFrame) -> Figure:
    """Draw measures along tracts, left and right, with one standard deviation around.

    Parameters
    ----------
    profiles : DataFrame
        Columns ``tract``, ``side`` (left, right or both), ``metric`` (fa, md, ad, rd), ``node``,
        ``mean``, ``sd``; diffusivities in mm2/s. Missing means leave a gap.
    """
    tracts = list(dict.fromkeys(profiles["tract"]))
    metrics = list(dict.fromkeys(profiles["metric"]))
    size = (1.2 + 2.7 * max(len(tracts), 1), 0.8 + 1.8 * max(len(metrics), 1))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
    grid = figure.subplots(max(len(metrics), 1), max(len(tracts), 1), squeeze=False,
                           sharex=True, sharey="row")  # fmt: skip
    for row, metric in zip(grid, metrics, strict=False):
        for axes, tract in zip(row, tracts, strict=False):
            rows = profiles[(profiles["tract"] == tract) & (profiles["metric"] == metric)]
            _profile(axes, rows, 1.0 if metric == "fa" else MICRO)
            _plain(axes)
        row[0].set_ylabel(UNITS.get(metric.upper(), metric), fontsize=9)
    for axes, tract in zip(grid[0], tracts, strict=False):
        axes.set_title(tract.replace("_", " "), fontsize=9.5, loc="left")
    for axes in grid[-1]:
        axes.set_xlabel("node along the tract", fontsize=9)
    grid[0][0].legend(frameon=False, fontsize=8)
    return figure


def _profile(axes: Axes, rows: pd.DataFrame, scale: float) -> None:
    """Both sides of one tract and metric; says so where there is nothing to draw."""
    for side, colour in SIDE_COLOURS.items():
        own = rows[rows["side"] == side].sort_values("node")
        if own.empty:
            continue
        nodes, mean, sd = (own[name].to_numpy(float) for name in ("node", "mean", "sd"))
        sd = np.nan_to_num(sd)
        low, high = scale * (mean - sd), scale * (mean + sd)
        axes.fill_between(nodes, low, high, color=colour, alpha=0.18, lw=0)
        axes.plot(nodes, scale * mean, color=colour, lw=1.5, label=side)
    if not np.isfinite(rows["mean"].to_numpy(float)).any():
        axes.text(0.5, 0.5, "n/a", color=GREY, ha="center", transform=axes.transAxes)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8)
