"""Figures of the statistics, on matplotlib's own canvas: nothing is shown or written here.

Groups and sites differ in mark and line as well as in colour; the colours are those of Okabe and
Ito, told apart with any colour vision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from alsflow.nodes.stats.catalogue import Measure
from alsflow.nodes.stats.effects import Q_FOUND
from alsflow.nodes.stats.page import p_text, significant
from alsflow.nodes.stats.plotted import Curve, Partial, Slopes

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
INK, GREY, LIGHT = "#222222", "#8a8a8a", "#d9d9d9"
DIVERGING = "PuOr"  # orange and purple: told apart with any colour vision (ColorBrewer)
ROW_HEIGHT = 0.34  # inch per measure of a forest plot
CELL = 0.82  # inch per cell of a correlation matrix
PANEL = (3.1, 2.75)  # inch, width and height of one of several panels
ACROSS = 3  # panels in a row
JITTER = 0.13  # of the distance between two groups
TITLE_WIDTH = 58  # characters
PANEL_WIDTH = 40  # characters of the title of a panel
LABEL_WIDTH = 46  # characters of the name of a row
SEED = 1  # the jitter only separates dots; it is the same in every run
DPI = 100
TESTED = "tested"
EFFECT_NAMES = {
    "hedges_g": "Hedges' g",
    "Hedges g": "Hedges' g",
    "rank_biserial": "rank-biserial r",
}
PSEUDO = "reproduces the paper's model, rows of one person taken as independent"
AREA, NO_AREA = "AUC", 0.5  # the effect of a ROC curve, and its value where nothing is told apart


# --------------------------------------------------------------------------- forest plot


def forest(tests: pd.DataFrame, title: str) -> Figure:
    """Standardised effects with 95 % limits, one row per test.

    Parameters
    ----------
    tests : DataFrame
        Rows of one family as the registry (or `fit_measures`) has them; untested ones say so.
    title : str
        Heading of the figure.
    """
    names, what, null = _effects(tests)
    figure = Figure(figsize=(7.6, 1.5 + ROW_HEIGHT * len(tests)), layout="constrained", dpi=DPI)
    axes = figure.add_subplot()
    y = np.arange(len(tests))[::-1]
    axes.axvline(null, color=GREY, lw=1, zorder=0)
    for at, row in zip(y, tests.to_dict("records"), strict=True):
        values = [float(row[key]) for key in names]
        if row["status"] != TESTED or np.isnan(values[0]):
            axes.text(null, at, "not tested", ha="center", va="center", color=GREY, fontsize=8)
            continue
        level = _level(float(row["q"]), float(row.get("p", np.nan)))
        _draw_effect(axes, at, values, level, float(row["q"]) < Q_FOUND, "" if null else "+")
    axes.set_yticks(y, [fill(_row_label(row), LABEL_WIDTH) for row in tests.to_dict("records")],
                    fontsize=8.5)  # fmt: skip
    axes.set_ylim(-0.7, len(tests) - 0.3)
    if null:
        axes.set_xlim(0, 1.02)
    else:
        _symmetric(axes)
    axes.set_xlabel(f"{what} with 95 % confidence limits", fontsize=9)
    if "pseudoreplicated" in tests and (tests["pseudoreplicated"] == True).any():  # noqa: E712
        title += f" ({PSEUDO})"
    axes.set_title(fill(title, 2 * LABEL_WIDTH), fontsize=10, loc="left")
    _plain(axes)
    return figure


def _effects(tests: pd.DataFrame) -> tuple[tuple[str, str, str], str, float]:
    """Columns of the effect and its limits, its name, and its value where there is none."""
    tested = tests[tests["status"] == TESTED]
    contrast = str(tests["contrast"].iat[0])
    head = "" if contrast == "n/a" else f"{contrast}: "
    effect = tested["effect"] if "effect" in tested else pd.Series(dtype=object)
    if effect.nunique() == 1 and effect.iat[0] == AREA:
        return ("estimate", "ci_low", "ci_high"), "area under the ROC curve", NO_AREA
    if "effect" not in tests or (tested["g"].notna().all() and len(tested)):
        return ("g", "g_low", "g_high"), f"{head}Hedges' g", 0.0
    named = [EFFECT_NAMES.get(str(name), str(name)) for name in effect.unique()]
    return ("effect_size", "effect_low", "effect_high"), head + " or ".join(named), 0.0


def _level(q: float, p: float) -> str:
    return f"p {_p(p)}" if np.isnan(q) else f"q {_p(q)}"


def _draw_effect(
    axes: Axes, at: int, values: Sequence[float], level: str, found: bool, sign: str
) -> None:
    """One row: full orange mark where q is below .05, open black one elsewhere."""
    value, low, high = values
    colour = PALETTE[1] if found else INK
    axes.plot([low, high], [at, at], color=colour, lw=1.6)
    axes.plot(value, at, "o", color=colour, ms=5.5, mfc=colour if found else "white")
    label = f"{value:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]   {level}"
    axes.annotate(label, (1.02, at), xycoords=("axes fraction", "data"), va="center", fontsize=7.5)


def _row_label(row: Mapping[Any, Any]) -> str:
    predictor = row.get("predictor_label", "n/a")
    if row.get("kind") not in ("regression", "correlation"):
        return str(row["label"])
    return f"{row['label']} on {predictor if predictor != 'n/a' else row['predictor']}"


def _symmetric(axes: Axes) -> None:
    span = axes.dataLim.intervalx
    widest = max(1.0, *np.abs(span[np.isfinite(span)]))
    axes.set_xlim(-1.05 * widest, 1.05 * widest)


def _p(value: float) -> str:
    """Three digits, as people print a p value."""
    return p_text(value).replace("0.", ".")


# --------------------------------------------------------------------------- strip and box


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
    names = sorted(sites.unique())
    _draw_strip(axes, values, groups, sites, order, names)
    axes.set_ylabel(f"{measure.label} ({'no unit' if measure.unit == '1' else measure.unit})")
    axes.set_title(
        fill(f"{measure.description}; not adjusted", TITLE_WIDTH), fontsize=8, loc="left"
    )
    if len(names) > 1:
        axes.legend(
            handles=_handles(names), title="site", frameon=False, fontsize=8, title_fontsize=8,
            loc="center left", bbox_to_anchor=(1.0, 0.5),
        )  # fmt: skip
    _plain(axes)
    return figure


def strips(
    rows: pd.DataFrame,
    measures: Mapping[str, tuple[str, str]],
    columns: tuple[str, str],
    order: Sequence[str],
    title: str,
) -> Figure:
    """Several measures side by side, each as `strip` draws it.

    Parameters
    ----------
    rows : DataFrame
        One row per person.
    measures : mapping
        From columns to (label, unit).
    columns : pair of str
        Columns of group and site; without a site all dots look alike.
    order : sequence of str
        Groups from left to right.
    title : str
        Heading of the figure.
    """
    group, site = columns
    figure, panels = _panels(len(measures), title)
    sites = rows[site].astype(str) if site else pd.Series("", index=rows.index)
    names = sorted(sites.unique())
    for axes, (name, (label, unit)) in zip(panels, measures.items(), strict=True):
        known = rows[name].notna()
        _draw_strip(
            axes, rows.loc[known, name], rows.loc[known, group], sites[known], order, names
        )
        axes.set_ylabel(unit if unit not in ("1", "n/a") else "", fontsize=8)
        axes.set_title(fill(label, PANEL_WIDTH), fontsize=8.5, loc="left")
        _plain(axes)
    if len(names) > 1:
        figure.legend(
            handles=_handles(names), title="site", frameon=False, fontsize=8, title_fontsize=8,
            loc="outside right upper",
        )  # fmt: skip
    return figure


def _style(k: int) -> dict[str, Any]:
    """Colour and mark of the k-th site or group."""
    return {
        "color": PALETTE[k % len(PALETTE)],
        "marker": MARKS[(k + k // len(PALETTE)) % len(MARKS)],
    }


def _handles(names: Sequence[str]) -> list[Line2D]:
    return [Line2D([], [], ls="", ms=5, label=name, **_style(k)) for k, name in enumerate(names)]


def _draw_strip(
    axes: Axes,
    values: pd.Series,
    groups: pd.Series,
    sites: pd.Series,
    order: Sequence[str],
    names: Sequence[str],
) -> None:
    rng = np.random.default_rng(SEED)
    members = [values[groups == group].to_numpy(dtype=float) for group in order]
    axes.boxplot(
        members, positions=range(len(order)), widths=0.5, showfliers=False,
        medianprops={"color": INK, "lw": 1.6}, boxprops={"color": GREY},
        whiskerprops={"color": GREY}, capprops={"color": GREY},
    )  # fmt: skip
    for k, site in enumerate(names):
        for at, group in enumerate(order):
            here = values[(groups == group) & (sites == site)].to_numpy(dtype=float)
            x = at + rng.uniform(-JITTER, JITTER, len(here))
            axes.plot(x, here, ls="", ms=4.5, mec="white", mew=0.5, **_style(k))
    axes.set_xticks(
        range(len(order)),
        [f"{group}\nn = {len(m)}" for group, m in zip(order, members, strict=True)],
    )


# --------------------------------------------------------------------------- slopes


def partial_regressions(
    found: Sequence[Partial],
    words: Mapping[str, tuple[str, str]],
    groups: Mapping[str, str],
    tests: Mapping[tuple[str, str], Mapping[str, Any]],
    title: str,
) -> Figure:
    """Outcomes on predictors given the other terms: dots, line, 95 % band, n.

    Parameters
    ----------
    found : sequence of Partial
        One panel each.
    words : mapping
        From columns to (label, unit).
    groups : mapping
        From the names of rows to labels by which dots are marked; unknown rows look alike.
    tests : mapping
        From (outcome, predictor) to the row of the registry.
    title : str
        Heading of the figure.
    """
    given = {one.given for one in found} - {""}
    figure, panels = _panels(len(found), f"{title}; given {', '.join(given)}" if given else title)
    names = sorted({groups.get(row, "") for one in found for row in one.rows})
    for axes, one in zip(panels, found, strict=True):
        member = np.array([groups.get(row, "") for row in one.rows], dtype=object)
        x, y = np.asarray(one.x), np.asarray(one.y)
        for k, name in enumerate(names):
            axes.plot(x[member == name], y[member == name], ls="", ms=3.6, mec="white", mew=0.4,
                      **_style(k))  # fmt: skip
        axes.fill_between(one.line_x, one.low, one.high, color=GREY, alpha=0.28, lw=0)
        axes.plot(one.line_x, one.line_y, color=INK, lw=1.5)
        axes.set_xlabel(_axis(one.predictor, words), fontsize=8)
        axes.set_ylabel(_axis(one.outcome, words), fontsize=8)
        axes.set_title(_slope_title(one, tests), fontsize=8, loc="left")
        _plain(axes, 7.5)
    if len(names) > 1:
        figure.legend(handles=_handles(names), frameon=False, fontsize=8,
                      loc="outside right upper")  # fmt: skip
    return figure


def _axis(name: str, words: Mapping[str, tuple[str, str]]) -> str:
    label, unit = words.get(name, (name, "1"))
    return fill(label if unit in ("1", "n/a") else f"{label} ({unit})", PANEL_WIDTH - 4)


def _slope_title(one: Partial, tests: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """Slope and n, then p and q, as the registry has them."""
    row = tests.get((one.outcome, one.predictor))
    if row is None:
        return f"n = {len(one.x)}"
    people = int(row["n_people"])
    n = f"n = {len(one.x)}" + (f" rows of {people} people" if people < len(one.x) else "")
    q = float(row["q"])
    level = f"p {_relation(float(row['p']))}" + ("" if np.isnan(q) else f", q {_relation(q)}")
    return f"slope {significant(float(row['estimate']))}, {n}\n{level}"


def _relation(value: float) -> str:
    text = _p(value)
    return text if text.startswith("<") else f"= {text}"


def longitudinal(found: Slopes, words: Mapping[str, tuple[str, str]], note: str = "") -> Figure:
    """Everybody's course as a thin line, and the fitted line of each group with its 95 % band.

    Parameters
    ----------
    found : Slopes
        Series and lines.
    words : mapping
        From columns to (label, unit).
    note : str
        Result that stands in the title.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained", dpi=DPI)
    axes = figure.add_subplot()
    order = [line.label for line in found.lines]
    for group, time, value in zip(found.groups, found.times, found.values, strict=True):
        k = order.index(group) if group in order else 0
        axes.plot(time, value, lw=0.7, ms=2.6, alpha=0.38, mec="none", **_style(k))
    for k, line in enumerate(found.lines):
        label = f"{line.label or 'all'}, {line.n} people"
        axes.fill_between(line.time, line.low, line.high, color=PALETTE[k], alpha=0.25, lw=0)
        axes.plot(line.time, line.mean, color=PALETTE[k], ls=LINES[k], lw=2.6, label=label)
    axes.set_xlabel(_axis(found.time_name, words), fontsize=9)
    axes.set_ylabel(_axis(found.outcome, words), fontsize=9)
    axes.set_title(fill(note, 2 * PANEL_WIDTH), fontsize=9, loc="left")
    axes.legend(frameon=False, fontsize=8.5, loc="best")
    _plain(axes)
    return figure


# --------------------------------------------------------------------------- correlations


def correlation_matrix(
    r: pd.DataFrame,
    n: pd.DataFrame,
    q: pd.DataFrame,
    title: str,
    what: str = "r",
    level: str = "q",
) -> Figure:
    """Correlations as coloured cells with their value and n; a frame where q is below .05.

    Parameters
    ----------
    r, n, q : (k, m) DataFrame
        Correlation, people and corrected p of each pair, with words for index and columns; NaN
        where nothing was tested.
    title : str
        Heading of the figure.
    what : str
        Name of the coefficient.
    level : str
        What `q` holds: q, or p where nothing is corrected.
    """
    rows, columns = r.shape
    size = (3.4 + CELL * columns, 2.1 + 0.62 * rows)
    figure = Figure(figsize=size, layout="constrained", dpi=DPI)
    axes = figure.add_subplot()
    values, levels = r.to_numpy(dtype=float), q.to_numpy(dtype=float)
    image = axes.imshow(values, cmap=DIVERGING, vmin=-1, vmax=1, aspect="auto")
    for i in range(rows):
        for j in range(columns):
            _draw_cell(axes, (i, j), values[i, j], n.iat[i, j], levels[i, j])
    axes.set_xticks(range(columns), [fill(str(name), 16) for name in r.columns], fontsize=7.5,
                    rotation=40, ha="right", rotation_mode="anchor")  # fmt: skip
    axes.set_yticks(range(rows), [fill(str(name), 30) for name in r.index], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(fill(f"{title}. Framed: {level} < .05", 24 + 12 * columns), fontsize=9,
                   loc="left")  # fmt: skip
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label(what, fontsize=8)
    bar.ax.tick_params(labelsize=7.5)
    bar.ax.spines[:].set_visible(False)
    return figure


def _draw_cell(axes: Axes, at: tuple[int, int], r: float, n: Any, q: float) -> None:
    i, j = at
    if np.isnan(r):
        axes.text(j, i, "not\ntested", ha="center", va="center", color=GREY, fontsize=7)
        return
    dark = abs(r) > 0.6
    axes.text(j, i, f"{r:+.2f}\nn {int(n)}", ha="center", va="center", fontsize=7.5,
              color="white" if dark else INK)  # fmt: skip
    if q < Q_FOUND:
        axes.plot(
            [j - 0.46, j + 0.46, j + 0.46, j - 0.46, j - 0.46],
            [i - 0.45, i - 0.45, i + 0.45, i + 0.45, i - 0.45],
            color=INK, lw=1.6, solid_joinstyle="miter",
        )  # fmt: skip


# --------------------------------------------------------------------------- ROC curves


def roc_curves(found: Sequence[Curve], words: Mapping[str, tuple[str, str]], title: str) -> Figure:
    """ROC curves of up to seven measures, with areas and DeLong's 95 % limits.

    Parameters
    ----------
    found : sequence of Curve
        At most seven: more cannot be told apart.
    words : mapping
        From columns to (label, unit).
    title : str
        Heading of the figure.
    """
    if len(found) > len(PALETTE):
        raise ValueError(f"{len(found)} curves in one figure; at most {len(PALETTE)}")
    figure = Figure(figsize=(7.4, 4.3), layout="constrained", dpi=DPI)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":")
    for k, one in enumerate(found):
        label = words.get(one.outcome, (one.outcome, ""))[0]
        text = (
            f"{fill(label, 34)}\nAUC {one.auc:.2f} ({one.ci_low:.2f} to {one.ci_high:.2f}), "
            f"n {one.n_positive} + {one.n_negative}"
        )
        axes.plot(one.false_positive, one.true_positive, color=PALETTE[k], ls=LINES[k], lw=1.9,
                  label=text)  # fmt: skip
    axes.set_aspect("equal")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_xlabel("1 - specificity", fontsize=9)
    axes.set_ylabel("sensitivity", fontsize=9)
    axes.set_title(fill(title, 2 * PANEL_WIDTH), fontsize=9.5, loc="left")
    axes.legend(frameon=False, fontsize=7.5, loc="center left", bbox_to_anchor=(1.02, 0.5))
    _plain(axes)
    return figure


# --------------------------------------------------------------------------- shared


def _panels(count: int, title: str) -> tuple[Figure, list[Axes]]:
    """Figure with `count` panels, `ACROSS` in a row."""
    across = min(ACROSS, count)
    down = -(-count // across)
    size = (1.1 + PANEL[0] * across, 0.5 + PANEL[1] * down)
    figure = Figure(figsize=size, layout="constrained", dpi=DPI)
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.set_axis_off()
    figure.suptitle(fill(title, 40 * across), fontsize=10, x=0.01, ha="left")
    return figure, list(grid[:count])


def _plain(axes: Axes, size: float = 8.5) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=size)
