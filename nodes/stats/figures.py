"""Figures of the group result, on matplotlib's own canvas: nothing is shown or written here."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from alsflow.nodes.stats.catalogue import Measure
from alsflow.nodes.stats.effects import Q_FOUND

# Told apart with any colour vision (Okabe and Ito); more sites repeat the colours, with new marks.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
INK, GREY = "#222222", "#8a8a8a"
ROW_HEIGHT = 0.34  # inch per measure of a forest plot
JITTER = 0.13  # of the distance between two groups
TITLE_WIDTH = 58  # characters
SEED = 1  # the jitter only separates dots; it is the same in every run


def forest(tests: pd.DataFrame, title: str) -> Figure:
    """Standardised group differences with 95 % limits, one row per measure.

    Parameters
    ----------
    tests : DataFrame
        Rows of one family as `fit_measures` makes them; untested ones say so.
    title : str
        Heading of the figure.
    """
    figure = Figure(figsize=(7.2, 1.5 + ROW_HEIGHT * len(tests)), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    y = np.arange(len(tests))[::-1]
    axes.axvline(0, color=GREY, lw=1, zorder=0)
    for at, row in zip(y, tests.to_dict("records"), strict=True):
        if row["status"] != "tested":
            axes.text(0, at, "not tested", ha="center", va="center", color=GREY, fontsize=8)
            continue
        g, low, high, q = (float(row[key]) for key in ("g", "g_low", "g_high", "q"))
        colour = PALETTE[1] if q < Q_FOUND else INK
        axes.plot([low, high], [at, at], color=colour, lw=1.6)
        axes.plot(g, at, "o", color=colour, ms=5.5, mfc=colour if q < Q_FOUND else "white")
        label = f"{g:+.2f} [{low:+.2f}, {high:+.2f}]   q {_p(q)}"
        axes.annotate(
            label, (1.02, at), xycoords=("axes fraction", "data"), va="center", fontsize=7.5
        )
    axes.set_yticks(y, list(tests["label"]), fontsize=8.5)
    axes.set_ylim(-0.7, len(tests) - 0.3)
    _symmetric(axes)
    contrast = tests["contrast"].iat[0]
    axes.set_xlabel(f"{contrast}: Hedges' g with 95 % confidence limits", fontsize=9)
    axes.set_title(title, fontsize=10, loc="left")
    _plain(axes)
    return figure


def _symmetric(axes: Axes) -> None:
    widest = max(1.0, *np.abs(axes.dataLim.intervalx[np.isfinite(axes.dataLim.intervalx)]))
    axes.set_xlim(-1.05 * widest, 1.05 * widest)


def _p(value: float) -> str:
    """Three digits, as people print a p value."""
    if np.isnan(value):
        return "n/a"
    return "< .001" if value < 0.001 else f"{value:.3f}".lstrip("0")


def strip(
    values: pd.Series,
    groups: pd.Series,
    sites: pd.Series,
    measure: Measure,
    order: Sequence[str],
) -> Figure:
    """Every person as a dot over the box of the group, coloured by site.

    Parameters
    ----------
    values : (n,) Series
        Measure of each person, as taken (not adjusted).
    groups, sites : (n,) Series
        Labels of the same people.
    measure : Measure
        Label and unit of the axis.
    order : sequence of str
        Groups from left to right.
    """
    figure = Figure(figsize=(4.4, 3.9), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    rng = np.random.default_rng(SEED)
    members = [values[groups == group].to_numpy(dtype=float) for group in order]
    axes.boxplot(
        members, positions=range(len(order)), widths=0.5, showfliers=False,
        medianprops={"color": INK, "lw": 1.6}, boxprops={"color": GREY},
        whiskerprops={"color": GREY}, capprops={"color": GREY},
    )  # fmt: skip
    names = sorted(sites.unique())
    handles = []
    for k, site in enumerate(names):
        style: dict[str, Any] = {
            "color": PALETTE[k % len(PALETTE)],
            "marker": MARKS[k // len(PALETTE) % 7],
        }
        for at, group in enumerate(order):
            here = values[(groups == group) & (sites == site)].to_numpy(dtype=float)
            x = at + rng.uniform(-JITTER, JITTER, len(here))
            axes.plot(x, here, ls="", ms=5, mec="white", mew=0.5, **style)
        handles.append(Line2D([], [], ls="", ms=5, label=site, **style))
    axes.set_xticks(
        range(len(order)),
        [f"{group}\nn = {len(m)}" for group, m in zip(order, members, strict=True)],
    )
    axes.set_ylabel(f"{measure.label} ({'no unit' if measure.unit == '1' else measure.unit})")
    axes.set_title(
        fill(f"{measure.description}; not adjusted", TITLE_WIDTH), fontsize=8, loc="left"
    )
    if len(names) > 1:
        axes.legend(
            handles=handles, title="site", frameon=False, fontsize=8, title_fontsize=8,
            loc="center left", bbox_to_anchor=(1.0, 0.5),
        )  # fmt: skip
    _plain(axes)
    return figure


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8.5)
