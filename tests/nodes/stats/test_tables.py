import math

import numpy as np
import pandas as pd
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.tables import format_table, natural_key, number, parse_table


def test_any_line_end_a_mark_and_quotes_are_read_alike():
    plain = parse_table("a\tb\n1\tx y\n2\tn/a\n", "t")
    for text in (
        "\ufeffa\tb\r\n1\tx y\r\n2\tn/a\r\n",
        "a\tb\r1\tx y\r2\tn/a",
        '"a"\tb \n1\t"x y"\n2\tn/a',
    ):
        pd.testing.assert_frame_equal(parse_table(text, "t"), plain)
    assert list(plain.index) == [2, 3]  # line numbers


def test_a_label_stays_text():
    assert list(parse_table("site\n01\n1\n1.0\n", "t")["site"]) == ["01", "1", "1.0"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "t is empty"), ("\n\n", "t is empty"), ("a,b\n1,2\n", "no tab"),
     ("a\tb\n1\t2\n\n3\n", "line 4: 1 cells under 2"), ("a\ta\n1\t2\n", "more than one column")],
)  # fmt: skip
def test_faults_are_named(text, message):
    with pytest.raises(BadInputError, match=message):
        parse_table(text, "t")


def test_numbers_survive_a_round_trip():
    values = [0.1, 1e-300, 3.0, -2.5e20, math.pi, float("nan"), np.nextafter(1, 2)]
    table = pd.DataFrame({"x": values, "n": pd.array([1, None] + [2] * 5, dtype="Int64")})
    again = parse_table(format_table(table), "t")
    np.testing.assert_array_equal([number(cell, "x") for cell in again["x"]], values)
    assert list(again["n"][:2]) == ["1", "n/a"]


def test_a_tab_in_a_cell_cannot_break_the_table():
    assert format_table(pd.DataFrame({"a": ["x\ty\nz"]})) == "a\nx y z\n"


@pytest.mark.parametrize("text", ["inf", "-Infinity", "1,5", "sixty", "89+"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(BadInputError, match="where: .* is not a number"):
        number(text, "where")


@pytest.mark.parametrize("text", ["n/a", "NA", "", " ", "nan", "None"])
def test_unknown_is_nan(text):
    assert math.isnan(number(text, "where"))


def test_sessions_are_ordered_as_people_count():
    assert sorted(["ses-10", "ses-2", "ses-b", "ses-a"], key=natural_key) == [
        "ses-2", "ses-10", "ses-a", "ses-b",
    ]  # fmt: skip
