"""Cells to numbers: the ways in which people write them, and the sentence where none is told."""

import numpy as np
import pandas as pd
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.tables import clean_cell, decimal_sign, number, numbers, tidy_rows

NAN = float("nan")


def column(*cells, name="fa"):
    return pd.Series(cells, index=range(2, 2 + len(cells)), name=name, dtype=object)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("0,41", "0,5", "1"), (0.41, 0.5, 1.0)),
        (("0.41", "1e-3", "+2"), (0.41, 0.001, 2.0)),
        (("n/a", "NA", "NaN", "-", ".", "", "\u2013", "3"), (*[NAN] * 7, 3.0)),
        (("\u22121.5", " 2 "), (-1.5, 2.0)),  # a true minus sign
        (("1,234", "12,5"), (1.234, 12.5)),  # one cell tells for the column
        (("1.234", "2.345"), (1.234, 2.345)),  # points are decimal unless something says otherwise
        (("-0,5", ",25"), (-0.5, 0.25)),
        ((), ()),
    ],
)
def test_numbers_as_people_write_them(cells, expected):
    np.testing.assert_array_equal(numbers(column(*cells), "t"), expected)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            ("1,234", "5,678", "9"),
            r"t, line 2, fa: '1,234' may be 1.234 or 1234; write it without",
        ),
        (
            ("0,5", "0.5"),
            r"'0,5' has a decimal comma, but '0.5' \(t, line 3, fa\) has a decimal p",
        ),
        (("1.234,5",), "'1.234,5' is not a number"),
        (("1,234,567",), "'1,234,567' is not a number; write it without thousands separators"),
        (("1 234",), "write it without thousands separators"),
        (("1'234.5",), "write it without thousands separators"),
        (("80 kg",), "not a number; write 80 alone, and 'kg' once as Units in the JSON"),
        (("62y",), "write 62 alone, and 'y' once as Units"),
        (("45%",), "write 45 alone, and '%' once as Units"),
        (("0,7 mm2",), "write 0,7 alone, and 'mm2' once as Units"),
        (("89+",), "'89\\+' is not a number but a limit"),
        (("<5",), "is not a number but a limit; write the number, or n/a"),
        (("~ 30",), "but a limit"),
        (("2024-05-10",), "but a date; spreadsheets turn numbers such as 5.10 into dates"),
        (("05.10.2024",), "but a date"),
        (("1_000",), "'1_000' is not a number"),
        (("inf",), "'inf' is not a number"),
        (("left",), "'left' is not a number; write n/a where unknown"),
        (("60", "61", "64", "999"), "t, line 5, fa: 999 lies far from all other values"),
        (("1.5", "2", "3", "-99"), "-99 lies far from all other values and is a common code"),
    ],
)
def test_doubtful_numbers_are_refused(cells, message):
    with pytest.raises(BadInputError, match=message):
        numbers(column(*cells), "t")


def test_codes_of_unknown_within_the_range_are_values():
    values = numbers(column("-9", "-12", "-4", "0", "-7"), "t")
    np.testing.assert_array_equal(values, [-9, -12, -4, 0, -7])


def test_the_rest_of_the_table_settles_a_doubtful_comma_or_point():
    np.testing.assert_array_equal(numbers(column("1,234"), "t", decimal=","), [1.234])
    for decimal in ("", ".", "?"):
        with pytest.raises(BadInputError, match="may be 1.234 or 1234"):
            numbers(column("1,234"), "t", decimal=decimal)
    for decimal in (",", "?"):
        with pytest.raises(BadInputError, match="may be 1.234 or 1234, because other columns"):
            numbers(column("1.234", "5.678"), "t", decimal=decimal)
        np.testing.assert_array_equal(numbers(column("1.5"), "t", decimal=decimal), [1.5])


@pytest.mark.parametrize(
    ("columns", "sign"),
    [
        ({"a": ["0,5", "1"], "b": ["x", "y"]}, ","),
        ({"a": ["0.5", "1"], "b": ["1,234", "2,345"]}, "."),
        ({"a": ["0.5"], "b": ["0,5"]}, "?"),
        ({"a": ["1.234"], "b": ["5", "n/a"]}, ""),
        ({"a": ["0,5", "left"]}, ""),
    ],
)
def test_the_decimal_sign_of_a_table(columns, sign):
    table = pd.DataFrame({name: pd.Series(cells) for name, cells in columns.items()}).fillna("n/a")
    assert decimal_sign(table) == sign


def test_per_cent_signs_only_where_told():
    cells = column("45%", "60 %", "n/a", "71,5%", name="fvc")
    np.testing.assert_array_equal(numbers(cells, "t", percent=True), [45, 60, NAN, 71.5])
    with pytest.raises(BadInputError, match="fvc: '45%'"):
        numbers(cells, "t")


def test_messages_name_the_people_where_they_are_known():
    with pytest.raises(BadInputError, match=r"^p.tsv, sub-7, fa: 'x' is not"):
        numbers(column("1", "x"), "p.tsv", labels=["sub-1", "sub-7"])


def test_one_cell_needs_a_point():
    with pytest.raises(BadInputError, match="w: '1,5' is not a number; write a decimal point"):
        number("1,5", "w")


def test_marks_that_nobody_sees_are_gone():
    assert clean_cell("\ufeff\u00a0 Mon\u200btr\u0065\u0301al\r\n") == "Montr\u00e9al"
    assert clean_cell("two\r\n lines") == "two lines"


def test_blank_lines_columns_and_row_counts_are_left_out():
    rows = {1: ["", "id", " a ", "", ""], 2: ["1", "x", "5", "", ""], 4: ["", "", "", "", ""],
            5: ["2", "y", "6", "", ""]}  # fmt: skip
    table = tidy_rows(rows, "t")
    assert list(table.columns) == ["id", "a"]
    assert list(table.index) == [2, 5]
    assert table.attrs["notes"] == (
        "the first column, without a name, counts the rows and was left out",
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[" "], [""]], "t is empty"),
        ([["a", "b"], ["1"]], "t, line 2: 1 cells under 2 column names; give every line one"),
        (
            [["a", "b"], ["1", "2", "3"]],
            "line 2: 3 cells under 2.*a name for the first column may",
        ),
        ([["My study", "", ""], ["id", "a", "b"], ["1", "2", "3"]], "line 2: 3 .*without a title"),
        ([["a", "a "], ["1", "2"]], "t has more than one column called a$"),
        ([["a", "", "b"], ["1", "x", "2"]], "column 2 has no name, but line 2 holds 'x' there"),
        ([["a"], ["1"], ["#N/A"]], "t, line 3, a: '#N/A' is a failed formula"),
    ],
)
def test_faulty_rows_are_named(rows, message):
    with pytest.raises(BadInputError, match=message):
        tidy_rows(dict(enumerate(rows, start=1)), "t")
