"""Charts of the spectroscopy stream: the fit of a spectrum, and the tissue of its voxel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from alsflow.nodes.report.diffusion_charts import DPI, GREY, INK, SERIES
from alsflow.nodes.stats.page import significant

WIDTH = 9.0  # inches
FIT, BASELINE, RESIDUAL = SERIES[1], SERIES[0], "#5a5a5a"
# ppm, and the side of its line on which the name stands, so that tCho and tCr do not meet
PEAKS = {"tNAA": (2.01, "left"), "tCr": (3.03, "left"), "tCho": (3.20, "right"),
         "mIns": (3.56, "right")}  # fmt: skip
HEADROOM = 0.13  # above the spectrum, for the names of the peaks, as a share of its height
FOOTROOM = 0.03  # below it
LEAST_RESIDUAL = (
    0.05  # half height of the panel of the residual, as a share of that of the spectrum
)
EDGES = (0.055, 0.65)  # of the panels, share of the width
LIST_AT = (0.685, 0.88, 0.985)  # columns of the list of metabolites, share of the width
LINE = 0.165  # inches from row to row
MOST_ROWS = 30  # metabolites listed
LONGEST = 15  # characters of a name
HEAD_WIDTH = 104  # characters of a line over the panels
MOST_REASONS = 3  # lines of them
FIRST = ("tNAA", "tCr", "tCho", "mIns", "Glx", "GABA", "GSH")  # of the list
SD_CAP = 999  # %; LCModel prints this for 999 or more
# Okabe and Ito: told apart with any colour vision; the same as of the carpet
TISSUES = {"gm": ("grey matter", "#0072b2", "white"), "wm": ("white matter", "#e69f00", INK),
           "csf": ("CSF", "#cc79a7", INK)}  # fmt: skip
REST = ("no tissue", "#d9d9d9", INK)
LEAST_REST = 0.0005  # share of the voxel; less is rounding
LEAST_INSIDE = 0.06  # share that has room for its number


def draw_fit(
    spectra: pd.DataFrame,
    quality: Mapping[str, Any],
    metabolites: pd.DataFrame | None = None,
    sd_percent: float = 15.0,
) -> Figure:
    """Draw a spectrum with its fit, what the fit leaves over, and how sure each metabolite is.

    Parameters
    ----------
    spectra : DataFrame
        Columns ``ppm``, ``data``, ``fit``, ``residual`` and perhaps ``baseline``, arbitrary
        units; missing values leave a gap.
    quality : mapping
        Perhaps ``snr``, ``snr_overflow``, ``fwhm_ppm``, ``included`` (bool) and ``reasons`` (of
        an exclusion).
    metabolites : DataFrame, optional
        Columns ``name``, ``conc`` and ``sd_percent``, in the order of the fit, and perhaps
        ``unit`` of the concentrations.
    sd_percent : float
        Cramér-Rao bound beyond which a metabolite is grey, %.
    """
    head = headline(quality)
    rows = [] if metabolites is None else listed(metabolites, sd_percent)
    height = max(4.8, (len(rows) + 4) * LINE + 0.3) + 0.19 * (len(head) - 1)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    right = EDGES[1] if rows else 0.98
    bottom, top = 0.5 / height, 1 - (0.14 + 0.19 * len(head)) / height
    _draw_panels(figure, spectra, (EDGES[0], bottom, right - EDGES[0], top - bottom))
    for row, text in enumerate(head):
        figure.text(EDGES[0], 1 - (0.1 + 0.19 * row) / height, text, fontsize=9,
                    color=INK, va="top", weight="bold" if row == 0 else "normal")  # fmt: skip
    if rows:
        _list(figure, _heads(metabolites), rows, 1 - (0.3 + 0.19 * len(head)) / height, sd_percent)
    return figure


def headline(quality: Mapping[str, Any]) -> list[str]:
    """What is said over a spectrum: S/N, line width and the verdict; then the reasons."""
    parts = []
    for key, name, text in (("snr", "S/N", "{:g}"), ("fwhm_ppm", "line width", "{:.3f} ppm")):
        value = _number(quality.get(key))
        parts.append(f"{name} {text.format(value) if np.isfinite(value) else 'n/a'}")
    if quality.get("snr_overflow"):
        parts[0] = "S/N off scale"
    verdicts = {True: "used", False: "not used"}
    included = quality.get("included")
    if isinstance(included, bool):
        parts.append(verdicts[included])
    given = quality.get("reasons") or []
    reasons = [given] if isinstance(given, str) else [str(one) for one in given]
    lines = wrap("; ".join(reasons), HEAD_WIDTH)
    if len(lines) > MOST_REASONS:
        lines = [*lines[: MOST_REASONS - 1], lines[MOST_REASONS - 1] + " …"]
    return ["; ".join(parts), *lines]


def _number(value: object) -> float:
    """Number, NaN where there is none."""
    return float(value) if isinstance(value, (int, float)) else np.nan


def listed(metabolites: pd.DataFrame, sd_percent: float) -> list[tuple[str, str, str, bool]]:
    """Rows of the list: name, concentration, Cramér-Rao bound, whether it is within the limit.

    Those of most papers come first, then those within the limit; of more rows than have room,
    the last is a count.
    """
    rows = []
    for name, conc, sd in zip(*(metabolites[key] for key in ("name", "conc", "sd_percent")),
                              strict=True):  # fmt: skip
        value = _number(sd)
        shown = "n/a" if np.isnan(value) else f"≥ {SD_CAP}" if value >= SD_CAP else f"{value:g}"
        short = str(name) if len(str(name)) <= LONGEST else str(name)[: LONGEST - 1] + "…"
        rows.append((short, significant(_number(conc)), shown, value <= sd_percent))
    first = {name: place for place, name in enumerate(FIRST)}
    rows.sort(key=lambda row: (first.get(row[0], len(FIRST)), not row[3]))
    more = len(rows) - MOST_ROWS
    if more > 0:
        rows = [*rows[: MOST_ROWS - 1], (f"and {more + 1} more", "", "", False)]
    return rows


def _heads(metabolites: pd.DataFrame | None) -> tuple[str, str, str]:
    """Heads of the list, with the unit of the concentrations where it is known."""
    known: list[str] = []
    if metabolites is not None and "unit" in metabolites:
        known = list(metabolites["unit"].dropna())
    return "metabolite", f"conc., {known[0]}" if known else "conc.", "CRLB, %"


def _list(
    figure: Figure,
    heads: Sequence[str],
    rows: Sequence[tuple[str, str, str, bool]],
    top: float,
    limit: float,
) -> None:
    """Metabolites beside the spectrum, those beyond the limit grey."""
    step = LINE / figure.get_figheight()
    sides = ("left", "right", "right")
    for at, side, text in zip(LIST_AT, sides, heads, strict=True):
        figure.text(at, top, text, fontsize=8, color=INK, ha=side, weight="bold", va="center")
    for row, (*cells, sure) in enumerate(rows, 1):
        for at, side, text in zip(LIST_AT, sides, cells, strict=True):
            figure.text(at, top - row * step, text, fontsize=8, color=INK if sure else GREY,
                        ha=side, va="center")  # fmt: skip
    if not all(row[3] for row in rows):
        figure.text(LIST_AT[0], top - (len(rows) + 1.3) * step, f"grey: beyond {limit:g} %",
                    fontsize=8, color=GREY, va="center")  # fmt: skip


def _draw_panels(
    figure: Figure, spectra: pd.DataFrame, place: tuple[float, float, float, float]
) -> None:
    """Residual above the spectrum, one unit as high in both."""
    curves = {str(name): spectra[name].to_numpy(float) for name in spectra}
    left, bottom, width, height = place
    low, high = _range([curves[k] for k in ("data", "fit", "baseline") if k in curves])
    low, high = low - FOOTROOM * (high - low), high + HEADROOM * (high - low)
    _, most = _range([np.abs(curves["residual"])])
    half = 1.08 * max(most, LEAST_RESIDUAL * (high - low))
    share = 2 * half / (2 * half + high - low) * height
    over = figure.add_axes((left, bottom + height - share, width, share))
    under = figure.add_axes((left, bottom, width, height - share), sharex=over)
    over.axhline(0, color=GREY, lw=0.6)
    over.plot(curves["ppm"], curves["residual"], color=RESIDUAL, lw=0.8)
    over.set_ylim(-half, half)
    under.plot(curves["ppm"], curves["data"], color="black", lw=1.0, label="spectrum")
    under.plot(curves["ppm"], curves["fit"], color=FIT, lw=1.3, label="fit")
    if np.isfinite(curves.get("baseline", np.array([np.nan]))).any():
        under.plot(curves["ppm"], curves["baseline"], color=BASELINE, lw=1.2, ls=(0, (5, 2)),
                   label="baseline")  # fmt: skip
    under.set_ylim(low, high)
    handles, names = under.get_legend_handles_labels()
    figure.legend(handles, names, frameon=False, fontsize=8.5, loc="upper right", ncols=3,
                  bbox_to_anchor=(LIST_AT[-1], 1 - 0.03 / figure.get_figheight()),
                  borderpad=0.2, columnspacing=1.4, handlelength=1.8)  # fmt: skip
    _finish(over, under, curves)


def _finish(over: Axes, under: Axes, curves: Mapping[str, NDArray]) -> None:
    """Axes and names of peaks."""
    ends = (float(np.nanmax(curves["ppm"])), float(np.nanmin(curves["ppm"])))
    for axes in (over, under):
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(colors=INK, labelsize=8)
        axes.set_xlim(*ends)
        for ppm, _ in PEAKS.values():
            if ends[1] < ppm < ends[0]:
                axes.axvline(ppm, color=GREY, lw=0.6, ls=(0, (1, 3)), zorder=0)
    over.tick_params(labelbottom=False, bottom=False)
    over.spines["bottom"].set_visible(False)
    over.text(1, 1, "residual", fontsize=8, color=RESIDUAL, ha="right", va="center",
              transform=over.transAxes)  # fmt: skip
    under.set_ylabel("signal, same scale", fontsize=8.5)
    under.set_xlabel("chemical shift, ppm", fontsize=9)
    for name, (ppm, side) in PEAKS.items():
        if ends[1] < ppm < ends[0]:
            gap = 3 if side == "left" else -3
            under.annotate(name, (ppm, 1), xycoords=("data", "axes fraction"), xytext=(gap, 0),
                           textcoords="offset points", fontsize=8, color=INK, ha=side,
                           va="top")  # fmt: skip
    if not np.isfinite(curves["data"]).any():
        under.text(0.5, 0.5, "n/a", color=GREY, ha="center", transform=under.transAxes)


def _range(curves: Sequence[NDArray]) -> tuple[float, float]:
    """Lowest and highest value that is known, never the same."""
    values = np.concatenate([curve[np.isfinite(curve)] for curve in curves])
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return (low, high) if high > low else (low, low + 1.0)


def draw_tissue_bar(fractions: Mapping[str, float | None], warnings: Sequence[str] = ()) -> Figure:
    """Draw what a voxel holds as one bar, the whole voxel its length.

    Parameters
    ----------
    fractions : mapping
        ``gm``, ``wm``, ``csf``, shares of the whole voxel, and perhaps ``in_view``, ``in_brain``
        (shares) and ``nominal_volume`` (mL); None where a value is unknown.
    warnings : sequence of str
        Sentences under the bar.
    """
    parts = [(*TISSUES[key], _number(fractions.get(key))) for key in TISSUES]
    parts = [part for part in parts if np.isfinite(part[3])]
    rest = 1 - sum(share for *_, share in parts)
    if rest > LEAST_REST:
        parts.append((*REST, rest))
    words = [coverage(fractions)]
    words += [line for text in warnings for line in wrap(f"Mind: {text}.", HEAD_WIDTH)]
    height = 1.15 + 0.19 * len(words)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0.02, 1 - 0.62 / height, 0.96, 0.5 / height))
    axes.set_xlim(0, max(1.0, sum(share for *_, share in parts)))
    axes.set_axis_off()
    start, place = 0.0, 0.02
    for name, colour, ink, share in parts:
        axes.barh(0, share, left=start, color=colour, edgecolor="white", lw=1)
        if share >= LEAST_INSIDE:
            axes.text(start + share / 2, 0, f"{share:.1%}".replace("%", " %"), color=ink,
                      ha="center", va="center", fontsize=9)  # fmt: skip
        label = f"{name} {share:.3f}"
        figure.text(place, 1 - 0.8 / height, "\u25a0", color=colour, fontsize=11, va="center")
        figure.text(place + 0.016, 1 - 0.8 / height, label, color=INK, fontsize=9, va="center")
        start, place = start + share, place + 0.022 + 0.0088 * (len(label) + 2)
    for row, text in enumerate(words):
        figure.text(0.02, 1 - (1.02 + 0.19 * row) / height, text, fontsize=9, color=INK,
                    va="center")  # fmt: skip
    return figure


def coverage(fractions: Mapping[str, float | None]) -> str:
    """How much of a voxel was seen, in words; what is unknown is left out."""
    parts = []
    volume = _number(fractions.get("nominal_volume"))
    if np.isfinite(volume):
        parts.append(f"voxel of {volume:.1f} mL")
    for key, text in (("in_view", "in the field of view"), ("in_brain", "in the brain mask")):
        share = _number(fractions.get(key))
        if np.isfinite(share):
            parts.append(f"{100 * share:.1f} % {text}")
    return ", ".join(parts)
