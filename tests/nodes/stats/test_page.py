"""What the page and the figures say of numbers, and of measures without one."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from alsflow.nodes.report.statistics import PALETTE, forest, strip
from alsflow.nodes.stats.page import missing_list, p_text, render, sections, significant
from alsflow.workflows.measures import catalogue

TESTED = {
    "family": "motor", "status": "tested", "reason": "n/a", "contrast": "ALS - control",
    "n_case": 10, "n_control": 12, "df": 16, "estimate": -0.165, "ci_low": -0.227,
    "ci_high": -0.104, "relative": -10.1, "control_mean": 1.64, "g": -2.6, "g_low": -3.9,
    "g_high": -1.3, "t": -5.7, "p": 3e-5, "q": 2e-4, "missing": "n/a", "notes": "n/a",
    "n_missing": 0, "missing_per_site": "A: 0 of 10 ALS, 0 of 12 control",
}  # fmt: skip
NUMBERS = (
    "estimate", "ci_low", "ci_high", "relative", "control_mean", "g", "g_low", "g_high", "t", "p",
    "q",
)  # fmt: skip
UNTESTED = TESTED | dict.fromkeys(NUMBERS, math.nan)
UNTESTED |= {
    "n_missing": 3,
    "missing_per_site": "A: 0 of 9 ALS, 0 of 1 control; "
    "B 1 of 2: 0 of 10 ALS, 0 of 3 control; C: 3 of 10 ALS, 0 of 12 control; "
    "D: 0 of 20 ALS, 10 of 12 control",
}
UNTESTED |= {"status": "n/a", "reason": "nobody of the group ALS has <this>", "df": pd.NA}


def table_of_tests():
    names = ["gmv_precentral_both_tiv", "gmv_thalamus_both_tiv", "gmv_striatum_both_tiv"]
    rows = [TESTED, TESTED | {"q": 0.2, "p": 0.1}, UNTESTED]
    labels = [catalogue().measures[name].label for name in names]
    return pd.DataFrame(rows).assign(measure=names, label=labels)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1500.4, "1500"), (0.0796, "0.0796"), (-0.1, "-0.100"), (24.0, "24.0"), (0.0, "0.00"),
     (2.5e-6, "2.50e-06"), (123456.0, "123456"), (3.2e7, "3.20e+07"), (math.nan, "n/a")],
)  # fmt: skip
def test_significant_digits(value, text):
    assert significant(value) == text


def test_p_is_never_zero():
    assert [p_text(v) for v in (0.0, 9.99e-4, 0.001, 0.0496, 0.05, math.nan)] == [
        "< 0.001", "< 0.001", "0.001", "0.0496", "0.050", "n/a",
    ]  # fmt: skip


def test_rows_of_the_page():
    [section] = sections(table_of_tests(), catalogue(), {"motor": [("caption", b"png")]})
    assert [row["status"] for row in section.rows] == ["tested", "tested", "n/a"]
    assert [row["found"] for row in section.rows] == ["yes", "", ""]
    assert [row["lost"] for row in section.rows] == [
        "", "", "C: 3 of 10 ALS, 0 of 12 control\nD: 0 of 20 ALS, 10 of 12 control",
    ]  # fmt: skip
    assert section.rows[0]["ci"] == "-0.227 to -0.104"
    assert section.rows[0]["relative"] == "-10.1 %"
    assert section.figures == [("caption", "data:image/png;base64,cG5n")]


def test_people_missing_everywhere_are_listed_once():
    tests = table_of_tests()
    tests["missing"] = ["sub-1: x", "sub-1: x; sub-2: y", "sub-1: x"]
    assert missing_list(tests) == [
        ("sub-1: x", "every measure"), ("sub-2: y", "gmv_thalamus_both_tiv"),
    ]  # fmt: skip


def test_text_is_escaped_and_unknown_names_are_errors():
    assert render("{{ a }}", a="<b>&") == "&lt;b&gt;&amp;"
    with pytest.raises(Exception, match="'b' is undefined"):
        render("{{ b }}", a=1)


def test_forest_plot_shows_what_the_table_says():
    figure = forest(table_of_tests(), "title")
    axes = figure.axes[0]
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert [float(line.get_xdata()[0]) for line in points] == [-2.6, -2.6]
    assert [to_hex(line.get_color()).upper() for line in points] == [PALETTE[1], "#222222"]
    assert [text.get_text() for text in axes.texts].count("not tested") == 1
    low, high = axes.get_xlim()
    assert low == -high
    assert low < -3.9


def test_every_person_is_a_dot_at_the_right_height():
    rng = np.random.default_rng(0)
    values = pd.Series(rng.normal(1.6, 0.1, 20))
    groups = pd.Series(["ALS", "control"] * 10)
    sites = pd.Series(list("AABBC") * 4)
    measure = catalogue().describe("gmv_precentral_both_tiv")
    axes = strip(values, groups, sites, measure, ("control", "ALS")).axes[0]
    dots = [
        line for line in axes.lines if line.get_linestyle() == "None" and len(line.get_xdata())
    ]
    drawn = {(round(x), float(y)) for line in dots for x, y in zip(*line.get_data(), strict=True)}
    assert drawn == {
        (int(group == "ALS"), value) for value, group in zip(values, groups, strict=True)
    }
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["A", "B", "C"]
    assert "%" in axes.get_ylabel()
