"""Figures show the numbers that they are given, and say n."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from alsflow.nodes.report.statistics import (
    LINES,
    MARKS,
    PALETTE,
    correlation_matrix,
    forest,
    longitudinal,
    partial_regressions,
    roc_curves,
    strips,
)
from alsflow.nodes.stats.design import make_design
from alsflow.nodes.stats.plotted import (
    Curve,
    Line,
    Partial,
    Slopes,
    curve,
    from_plain,
    partial,
    plotted,
    to_plain,
)
from alsflow.nodes.stats.regression import fit_linear
from alsflow.nodes.stats.roc import roc

sys.path.insert(0, str(Path(__file__).parents[1] / "stats"))
from small_study import GROUPS, PRE, people, study  # noqa: E402

WORDS = {"y": ("score", "points"), "x": ("measure", "1")}


def texts(figure):
    found = [t.get_text() for axes in figure.axes for t in (*axes.texts, axes.title)]
    return [*found, *(axes.get_title(loc="left") for axes in figure.axes)]


def model(n=40, site=True):
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"x": rng.normal(3, 1, n), "age": rng.normal(60, 9, n)})
    table["site"] = np.array(["A", "B", "C", "D"])[np.arange(n) % 4]
    table["y"] = 2 * table["x"] + 0.1 * table["age"] + (table["site"] == "B") + rng.normal(0, 1, n)
    design = make_design(table, ["x", "age", *(["site"] if site else [])])
    return table, fit_linear(table["y"].to_numpy(), design, "y")


def drawn_points(axes):
    lines = [line for line in axes.lines if line.get_linestyle() == "None"]
    return np.concatenate([np.column_stack(line.get_data()) for line in lines])


# --------------------------------------------------------------------------- what is drawn


@pytest.mark.parametrize("site", [False, True])
def test_the_line_of_a_partial_regression_is_the_slope_of_the_model(site):
    """The slope through the residuals equals that of the full model (Frisch and Waugh)."""
    table, fit = model(site=site)
    found = partial(fit, "x")
    slope = fit.estimate[fit.design.columns.index("x")]
    assert np.polyfit(found.x, found.y, 1)[0] == pytest.approx(slope, rel=1e-5)
    gradient = (found.line_y[-1] - found.line_y[0]) / (found.line_x[-1] - found.line_x[0])
    assert gradient == pytest.approx(slope, rel=1e-5)
    assert np.mean(found.x) == pytest.approx(table["x"].mean(), rel=1e-5)
    assert np.mean(found.y) == pytest.approx(table["y"].mean(), rel=1e-5)
    assert found.given == ("age + site" if site else "age")


def test_the_band_of_a_simple_regression_is_the_textbook_one():
    rng = np.random.default_rng(4)
    table = pd.DataFrame({"x": rng.normal(0, 2, 25)})
    table["y"] = table["x"] + rng.normal(0, 1, 25)
    fit = fit_linear(table["y"].to_numpy(), make_design(table, ["x"]), "y")
    found = partial(fit, "x")
    at = np.array([1.0, found.line_x[5] - table["x"].mean()])
    half = 2.0686576 * np.sqrt(at @ fit.covariance @ at)  # t of 23 df, .975
    assert found.high[5] - found.line_y[5] == pytest.approx(half, rel=1e-4)
    assert found.line_y[5] - found.low[5] == pytest.approx(half, rel=1e-4)


def test_json_keeps_everything():
    registry = study()[1]
    found = plotted(registry, people())
    assert {type(one) for one in found} == {Partial, Curve, Slopes}
    assert from_plain(json.loads(json.dumps(to_plain(found)))) == found


def test_courses_hold_every_visit_and_the_fitted_lines():
    registry = study()[1]
    table = people()
    [found] = [one for one in plotted(registry, table) if isinstance(one, Slopes)]
    assert sum(map(len, found.values)) == table[PRE].notna().sum()
    at = found.people.index("sub-07")
    mine = table[table["participant_id"] == "sub-07"]
    assert found.times[at] == (0.0, 6.0, 12.0)
    np.testing.assert_allclose(found.values[at], mine[PRE], rtol=1e-6)
    row = registry.tests[registry.tests["analysis"] == "course"].iloc[0]
    lines = {line.label: line for line in found.lines}
    rise = {k: (v.mean[-1] - v.mean[0]) / (v.time[-1] - v.time[0]) for k, v in lines.items()}
    assert rise["ALS"] - rise["control"] == pytest.approx(row["estimate"], rel=1e-4)
    assert lines["ALS"].n == 24
    assert all(np.less(line.low, line.mean).all() for line in found.lines)


def test_a_curve_has_the_area_that_it_states():
    rng = np.random.default_rng(0)
    positive = np.arange(50) < 25
    found = curve(roc(rng.normal(0, 1, 50) + positive, positive, direction="high"), "a", "x")
    assert np.trapezoid(found.true_positive, found.false_positive) == pytest.approx(found.auc)


# --------------------------------------------------------------------------- figures


def test_partial_regressions_show_every_row_n_and_the_registry_s_numbers():
    table, fit = model()
    found = partial(fit, "x", "a", "y")
    row = {"estimate": 1.9876, "p": 0.0004, "q": 0.012, "n_people": 40}
    groups = dict(zip(map(str, table.index), table["site"], strict=True))
    figure = partial_regressions([found], WORDS, groups, {("y", "x"): row}, "title")
    axes = figure.axes[0]
    np.testing.assert_allclose(
        sorted(map(tuple, drawn_points(axes))), sorted(zip(found.x, found.y, strict=True))
    )
    assert axes.get_title(loc="left") == "slope 1.99, n = 40\np < .001, q = .012"
    assert "given age + site" in figure.get_suptitle()
    assert axes.get_ylabel() == "score (points)"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["A", "B", "C", "D"]
    double = partial_regressions([found], WORDS, {}, {("y", "x"): row | {"n_people": 20}}, "t")
    assert "n = 40 rows of 20 people" in double.axes[0].get_title(loc="left")


def test_marks_colours_and_lines_tell_apart_without_colour():
    assert len(set(PALETTE)) == len(set(MARKS)) == len(set(map(str, LINES))) == 7
    lines = tuple(
        Line(name, 3, (0.0, 1.0), (1.0, 2.0), (0.5, 1.5), (1.5, 2.5)) for name in ("a", "b")
    )
    course = Slopes("s", "y", "months", ("p1", "p2"), ("a", "b"), ((0.0, 1.0),) * 2,
                    ((1.0, 2.0), (2.0, 2.5)), lines)  # fmt: skip
    axes = longitudinal(course, WORDS).axes[0]
    fitted = [line for line in axes.lines if line.get_linewidth() > 2]
    assert len({line.get_linestyle() for line in fitted}) == 2
    thin = [line for line in axes.lines if line.get_linewidth() < 1]
    assert len({line.get_marker() for line in thin}) == 2
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["a, 3 people", "b, 3 people"]


def test_a_forest_of_areas_is_about_a_half():
    tests = study()[1].tests.query("analysis == 'area'")
    axes = forest(tests, "areas").axes[0]
    assert axes.get_xlim()[0] == 0
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in points] == pytest.approx(list(tests["estimate"]))
    assert axes.lines[0].get_xdata() == [0.5, 0.5]
    assert not any(text.get_text().startswith("+") for text in axes.texts)


def test_a_forest_of_slopes_names_both_sides_and_the_pseudoreplication():
    tests = study()[1].tests.query("analysis == 'sides'")
    figure = forest(tests, "sides")
    axes = figure.axes[0]
    assert "rows of one person taken as independent" in " ".join(
        axes.get_title(loc="left").split()
    )
    assert " on " in axes.get_yticklabels()[0].get_text()
    assert "standardised slope" in axes.get_xlabel()
    [text] = [t.get_text() for t in axes.texts]
    assert text.endswith("p < .001")


def test_a_forest_of_a_refused_measure_says_so():
    tests = study()[1].tests.query("analysis == 'groups'")
    assert texts(forest(tests, "t")).count("not tested") == 1


def test_a_correlation_matrix_says_r_and_n_and_frames_what_was_found():
    r = pd.DataFrame([[0.7, -0.2], [np.nan, 0.5]], index=["a", "b"], columns=["x", "y"])
    n = pd.DataFrame([[20, 19], [pd.NA, 18]], index=r.index, columns=r.columns)
    q = pd.DataFrame([[0.01, 0.4], [np.nan, 0.06]], index=r.index, columns=r.columns)
    axes = correlation_matrix(r, n, q, "title").axes[0]
    assert [t.get_text() for t in axes.texts] == [
        "+0.70\nn 20", "-0.20\nn 19", "not\ntested", "+0.50\nn 18",
    ]  # fmt: skip
    assert len(axes.lines) == 1
    assert np.mean(axes.lines[0].get_xdata()[:4]) == 0
    image = axes.images[0]
    assert (image.norm.vmin, image.norm.vmax) == (-1, 1)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b"]


def test_roc_curves_state_area_limits_and_n():
    one = Curve("a", "y", (0.0, 0.5, 1.0), (0.0, 0.9, 1.0), 0.7, 0.5614, 0.838, 20, 22)
    figure = roc_curves([one, one], WORDS, "title")
    labels = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert labels[0] == "score\nAUC 0.70 (0.56 to 0.84), n 20 + 22"
    with pytest.raises(ValueError, match="at most 7"):
        roc_curves([one] * 8, WORDS, "title")


def test_strips_draw_every_person_once_in_a_panel_per_measure():
    rows = people().drop_duplicates("participant_id").set_index("participant_id")
    words = {PRE: ("precentral", "%"), "tiv": ("TIV", "mL")}
    figure = strips(rows, words, ("group", "site"), GROUPS, "title")
    shown = figure.axes[:2]
    assert [len(drawn_points(axes)) for axes in shown] == [48, 48]
    assert [axes.get_title(loc="left") for axes in shown] == ["precentral", "TIV"]
    assert [t.get_text() for t in shown[0].get_xticklabels()] == ["ALS\nn = 24", "control\nn = 24"]
    colours = {to_hex(line.get_color()).upper() for line in shown[0].lines
               if line.get_linestyle() == "None"}  # fmt: skip
    assert colours == set(PALETTE[:3])
