"""Files as people have them: read right, or refused in one sentence."""

import datetime
import io
import json
import re
import zipfile

import numpy as np
import openpyxl
import pytest

from alsflow.interfaces.tables import notes_of, read_any_table, read_meanings, read_sessions
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.cohort import build_cohort
from alsflow.nodes.stats.joining import Options
from alsflow.nodes.stats.participants import Columns
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


COHORT = """participant_id\tDx\tCentre\tage\tsex\tfa\tvisit_date
sub-01\tALS\tMontréal\t60.5\tM\t0.412\t2024-05-01
sub-02\tHC\tmontréal\t61\tF\tn/a\t2024-05-02
sub-03\tALS\tKöln\t\tF\t0.399\t2024-06-03
sub-04\tHC\tKöln\t58.25\tM\t0.455\t2024-06-04
"""


def comma_lines(separator, decimal):
    return COHORT.replace(".", decimal).replace("\t", separator).replace("\n", "\r\n")


def as_sheet():
    book = openpyxl.Workbook()
    for n, line in enumerate(COHORT.strip().split("\n")):
        cells = [float(c) if n and i in (3, 5) and c not in ("", "n/a") else c
                 for i, c in enumerate(line.split("\t"))]  # fmt: skip
        cells[6] = datetime.date.fromisoformat(cells[6]) if n else cells[6]
        book.active.append([cell or None for cell in cells])
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


WRITTEN = {
    "plain.tsv": COHORT.encode(),
    "windows.tsv": COHORT.replace("\n", "\r\n").encode("utf-8-sig"),
    "unicode.txt": COHORT.replace("\n", "\r\n").encode("utf-16"),
    "mac.tsv": COHORT.replace("\n", "\r").encode(),
    "english.csv": comma_lines(",", ".").encode(),
    "european.csv": comma_lines(";", ",").encode("cp1252"),
    "european_utf8.csv": comma_lines(";", ",").encode("utf-8-sig"),
    "tabs_and_commas.tsv": comma_lines("\t", ",").encode(),
    "quoted.csv": re.sub("[^\t\n]+", r'"\g<0>"', COHORT).replace("\t", ",").encode(),
    "excel.xlsx": as_sheet(),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_one_cohort_in_every_way_of_writing_it(tmp_path, name):
    """Other names, decimal commas, n/a, empty cells, marks, line ends, sheets: one result."""
    (tmp_path / name).write_bytes(WRITTEN[name])
    found = build_cohort(
        read_any_table(tmp_path / name), None, None, None, Columns(reference="HC"),
        Options(mapping={"group": "Dx", "site": "Centre"}),
    )  # fmt: skip
    table = found.table.set_index("participant_id")
    assert list(table.index) == ["sub-01", "sub-02", "sub-03", "sub-04"]
    assert list(table["group"]) == ["ALS", "HC", "ALS", "HC"]
    assert list(table["site"]) == ["Montréal", "Montréal", "Köln", "Köln"]
    assert list(table["sex"]) == ["male", "female", "female", "male"]
    assert list(table["visit_date"]) == [f"2024-0{m}" for m in ("5-01", "5-02", "6-03", "6-04")]
    np.testing.assert_array_equal(table["age"], [60.5, 61, np.nan, 58.25])
    np.testing.assert_array_equal(table["fa"], [0.412, np.nan, 0.399, 0.455])
    assert found.reasons == {("sub-03", "n/a"): "age n/a in participants.tsv"}
    assert "site: 'Montréal', 'montréal' are taken as one, 'Montréal'" in found.notes
