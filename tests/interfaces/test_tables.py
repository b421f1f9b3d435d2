"""Files as people have them: read right, or refused in one sentence."""

import datetime
import json
import re
import zipfile

import numpy as np
import openpyxl
import pytest

from alsflow.interfaces.tables import notes_of, read_any_table, read_meanings, read_sessions
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.tables import numbers

HEAD = ["participant_id", "group", "age", "fa"]


@pytest.fixture
def workbook(tmp_path):
    """Write rows (or change a sheet) and give the path of the file."""

    def write(rows=(), change=None, sheet="Cohort"):
        book = openpyxl.Workbook()
        book.active.title = sheet
        for row in rows:
            book.active.append(row)
        if change:
            change(book)
        path = tmp_path / "table.xlsx"
        book.save(path)
        return path

    return write


def test_a_sheet_of_numbers_dates_and_blanks(workbook):
    rows = [
        [*HEAD, "born", "done", None],
        ["sub-1", "ALS", 60, 0.1234567890123456, datetime.date(1960, 5, 10), True, None],
        [None] * 7,
        ["sub-2", " HC ", 61.5, None, datetime.datetime(1961, 1, 2, 8, 30), False, " "],
    ]
    table = read_any_table(workbook(rows))
    assert list(table.columns) == [*HEAD, "born", "done"]
    assert list(table.index) == [2, 4]  # lines of the sheet
    assert table.loc[2].tolist() == [
        "sub-1", "ALS", "60", "0.1234567890123456", "1960-05-10", "true",
    ]  # fmt: skip
    assert table.loc[4].tolist() == ["sub-2", "HC", "61.5", "", "1961-01-02T08:30:00", "false"]
    np.testing.assert_array_equal(numbers(table["age"], "t"), [60, 61.5])
    assert notes_of(table) == ()


def test_numbers_that_a_spreadsheet_took_for_dates_are_refused(workbook):
    table = read_any_table(workbook([["score"], [5.1], [datetime.date(2024, 10, 5)]]))
    with pytest.raises(BadInputError, match="table, line 3, score: '2024-10-05' .* but a date"):
        numbers(table["score"], "table")


def test_zeros_in_front_and_per_cent_are_read_as_shown(workbook):
    def style(book):
        book.active["A2"].number_format = "000"
        book.active["B2"].number_format = "0.0%"

    table = read_any_table(workbook([["id", "fvc"], [7, 0.285]], style))
    assert table.loc[2].tolist() == ["007", "28.5%"]
    np.testing.assert_allclose(numbers(table["fvc"], "t", percent=True), [28.5])


def test_another_sheet_is_named_behind_the_file(workbook):
    path = workbook([HEAD], lambda book: book.create_sheet("MRI").append(["id", "fa"]))
    assert list(read_any_table(f"{path}#MRI").columns) == ["id", "fa"]
    assert notes_of(read_any_table(f"{path}#MRI")) == ()
    assert notes_of(read_any_table(path)) == (f"{path}: the first of 2 sheets, 'Cohort', is read",)
    with pytest.raises(BadInputError, match="has no sheet 'DTI'; it has Cohort, MRI"):
        read_any_table(f"{path}#DTI")


def test_hidden_rows_are_read_and_named(workbook):
    def hide(book):
        book.active.row_dimensions[3].hidden = True

    table = read_any_table(workbook([["id"], ["a"], ["b"]], hide))
    assert list(table["id"]) == ["a", "b"]
    assert "1 hidden rows (line 3, ...) are read as well" in notes_of(table)[0]


def merge(book):
    book.active.merge_cells("A2:A3")


def formula(book):
    book.active["B2"] = "=AVERAGE(1,2)"


def error(book):
    book.active["B2"] = "#DIV/0!"
    book.active["B2"].data_type = "e"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (merge, r"merged cells \(A2:A3\); take the merge apart"),
        (formula, "cell B2 holds a formula without a result; open and save"),
        (error, "cell B2 holds the error #DIV/0!; mend"),
    ],
)
def test_doubtful_sheets_are_refused(workbook, change, message):
    with pytest.raises(BadInputError, match=message):
        read_any_table(workbook([["id", "x"], ["a", 1], ["b", 2]], change))


def test_a_formula_with_its_result_is_read(workbook):
    path = workbook([["id", "x"], ["a", 1]], formula)
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    name = "xl/worksheets/sheet1.xml"
    parts[name] = re.sub(rb"<v ?/>|<v></v>", b"<v>1.5</v>", parts[name])
    with zipfile.ZipFile(path, "w") as new:
        for part, content in parts.items():
            new.writestr(part, content)
    assert read_any_table(path).loc[2].tolist() == ["a", "1.5"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("t.xls", "is an Excel file of before 2007, which cannot be read; save it as .xlsx"),
        ("t.ods", "is an OpenDocument sheet, which cannot be read; save it as .xlsx"),
        ("t.sav", "is a table of SPSS"),
        ("t.xlsx", "cannot be opened as an Excel file"),
        ("t.json", "does not end in .tsv, .csv, .txt or .xlsx"),
    ],
)
def test_other_files_are_refused(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(BadInputError, match=message):
        read_any_table(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(BadInputError, match="none.tsv is not there"):
        read_any_table(tmp_path / "none.tsv")


def test_a_csv_that_a_european_spreadsheet_saved(tmp_path):
    path = tmp_path / "Patienten.csv"
    path.write_bytes("Nr;Größe;fa\r\n1;1,80;0,41\r\n2;;0,5\r\n".encode("cp1252"))
    table = read_any_table(path)
    assert list(table.columns) == ["Nr", "Größe", "fa"]
    assert table.attrs["decimal"] == ","
    assert "Windows-1252" in notes_of(table)[0]
    assert notes_of(table)[1] == f"{path} has semicolons between its columns"


def test_codes_and_units_of_every_column(tmp_path):
    path = tmp_path / "participants.json"
    sex = {"Levels": {"1": "male", "2": {"Description": "female"}}}
    path.write_text(json.dumps({"sex": sex, "age": {"Units": "year"}, "Name": "x"}))
    meanings = read_meanings(path)
    assert meanings.levels == {"sex": {"1": "male", "2": "female"}}
    assert meanings.units == {"age": "year"}
    path.write_text("[1]")
    with pytest.raises(BadInputError, match="has to be a JSON object"):
        read_meanings(path)


def test_sessions_of_all_people_are_gathered(tmp_path):
    for person, text in (("sub-1", "session_id\tage\nses-1\t60\nses-2\t61\n"),
                         ("sub-2", "session_id\tscanner\nses-1\tB\n")):  # fmt: skip
        (tmp_path / person).mkdir()
        (tmp_path / person / f"{person}_sessions.tsv").write_text(text)
    table = read_sessions(tmp_path)
    assert table.to_numpy().tolist() == [
        ["sub-1", "ses-1", "60", "n/a"],
        ["sub-1", "ses-2", "61", "n/a"],
        ["sub-2", "ses-1", "n/a", "B"],
    ]
    assert list(read_sessions(tmp_path, ["2"])["participant_id"]) == ["sub-2"]
    assert read_sessions(tmp_path / "sub-1").empty
