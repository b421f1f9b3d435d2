"""Any user's table into text: TSV, CSV and Excel files as people have them."""

from __future__ import annotations

import datetime
import json
import re
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
from openpyxl.utils.exceptions import InvalidFileException

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.delimited import decode, parse_delimited
from alsflow.nodes.stats.tables import MISSING, Meanings, tidy_rows

TEXT_ENDINGS = (".tsv", ".csv", ".txt")
EXCEL_ENDINGS = (".xlsx", ".xlsm")
SHEET = re.compile(r"(?P<file>.+\.xls[xm])(#(?P<sheet>.*))?", re.IGNORECASE)
SAVE_AS = {
    ".xls": "an Excel file of before 2007", ".ods": "an OpenDocument sheet",
    ".numbers": "a sheet of Numbers", ".sav": "a table of SPSS", ".dta": "a table of Stata",
    ".sas7bdat": "a table of SAS", ".rds": "a table of R", ".rdata": "a table of R",
    ".xlsb": "a binary Excel file", ".pdf": "a PDF", ".docx": "a Word file",
}  # fmt: skip


def read_any_table(path: str | Path) -> pd.DataFrame:
    """Table of clean text from a TSV, CSV or Excel file.

    Parameters
    ----------
    path : str or Path
        The file; ``file.xlsx#Sheet`` for another sheet than the first.

    Returns
    -------
    table : DataFrame of str
        Cells as text, unknown ones as they were written; the index is the number of the line.
        ``attrs["notes"]`` (tuple of str) says what was assumed while reading,
        ``attrs["decimal"]`` is its decimal sign where one is sure (`tables.decimal_sign`), and
        ``attrs["source"]`` names the file.
    """
    excel = SHEET.fullmatch(str(path))
    file = Path(excel["file"] if excel else path)
    ending = file.suffix.lower()
    if not file.is_file():
        raise BadInputError(f"{file} is not there")
    if ending in SAVE_AS:
        raise BadInputError(
            f"{file} is {SAVE_AS[ending]}, which cannot be read; save it as .xlsx, .tsv or .csv"
        )
    if excel:
        table = _read_excel(file, excel["sheet"] or "")
    elif ending in TEXT_ENDINGS or not ending:
        text, notes = decode(file.read_bytes(), str(file))
        table = parse_delimited(text, str(file), ending)
        table.attrs["notes"] = notes + table.attrs["notes"]
    else:
        raise BadInputError(f"{file} does not end in .tsv, .csv, .txt or .xlsx; save it as one")
    table.attrs["source"] = str(path)
    return table


def notes_of(table: pd.DataFrame) -> tuple[str, ...]:
    """What was assumed while a table was read."""
    return tuple(table.attrs.get("notes", ()))


def _read_excel(path: Path, sheet: str) -> pd.DataFrame:
    values, notes = _sheet(path, sheet, cached=True)
    formulas, _ = _sheet(path, sheet, cached=False)
    source = f"{path}#{values.title}" if sheet else str(path)
    if values.merged_cells.ranges:
        block = min(str(block) for block in values.merged_cells.ranges)
        raise BadInputError(
            f"{source} has merged cells ({block}); take the merge apart and fill every cell"
        )
    rows = {}
    for cells, originals in zip(values.iter_rows(), formulas.iter_rows(), strict=True):
        for cell, original in zip(cells, originals, strict=True):
            if original.data_type == "f" and cell.value is None:
                raise BadInputError(
                    f"{source}, cell {cell.coordinate} holds a formula without a result; open "
                    "and save the file in a spreadsheet, or write the value itself"
                )
        rows[cells[0].row] = [_text(cell, source) for cell in cells]
    table = tidy_rows(rows, source)
    hidden = [n for n in table.index if values.row_dimensions[n].hidden]
    if hidden:
        notes += (f"{source}: {len(hidden)} hidden rows (line {hidden[0]}, ...) are read as well",)
    table.attrs |= {"notes": notes + table.attrs["notes"], "decimal": ""}
    return table


def _sheet(path: Path, name: str, *, cached: bool) -> tuple[Any, tuple[str, ...]]:
    """One sheet of a workbook, and a note if it was chosen for being the first."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of drop-down lists and styles, which do not matter
            book = openpyxl.load_workbook(path, data_only=cached)
    except (InvalidFileException, zipfile.BadZipFile, KeyError, OSError, ValueError) as problem:
        raise BadInputError(
            f"{path} cannot be opened as an Excel file (a password? an older format?); save it "
            "as .xlsx without a password, or as .tsv"
        ) from problem
    names = [sheet.title for sheet in book.worksheets]
    if name and name not in names:
        raise BadInputError(f"{path} has no sheet '{name}'; it has {', '.join(names)}")
    chosen = name or names[0]
    note = f"{path}: the first of {len(names)} sheets, '{chosen}', is read"
    return book[chosen], (note,) if len(names) > 1 and not name else ()


def _text(cell: Any, source: str) -> str:
    """One cell of a sheet as it would stand in a TSV file."""
    value = cell.value
    if value is None:
        return ""
    if cell.data_type == "e":
        raise BadInputError(
            f"{source}, cell {cell.coordinate} holds the error {value}; mend the formula or write "
            "n/a"
        )
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return _number_text(value, cell.number_format or "")
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def _number_text(value: float, style: str) -> str:
    """Digits of a number; zeros in front and a percent sign as the sheet shows them."""
    whole = float(value).is_integer()
    if whole and re.fullmatch("0{2,}", style):
        return str(int(value)).zfill(len(style))
    if "%" in style:
        return f"{value * 100:.15g}%"
    return str(int(value)) if whole and abs(value) < 1e15 else repr(float(value))


def read_meanings(path: str | Path) -> Meanings:
    """Levels and units of every column in the JSON beside a table, in BIDS' form."""
    try:
        sidecar = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise BadInputError(f"{path} is not JSON: {problem}") from problem
    if not isinstance(sidecar, dict):
        raise BadInputError(f"{path} does not describe columns: it has to be a JSON object")
    columns = {name: entry for name, entry in sidecar.items() if isinstance(entry, dict)}
    levels = {
        name: {
            str(code): str(word.get("Description", "")) if isinstance(word, dict) else str(word)
            for code, word in entry["Levels"].items()
        }
        for name, entry in columns.items()
        if isinstance(entry.get("Levels"), dict)
    }
    units = {name: str(entry["Units"]) for name, entry in columns.items() if entry.get("Units")}
    return Meanings(levels, units)


def read_sessions(bids_dir: str | Path, people: Iterable[str] = ()) -> pd.DataFrame:
    """Every ``sub-X/sub-X_sessions.tsv`` of a dataset in one table.

    Returns
    -------
    sessions : DataFrame of str
        Columns ``participant_id``, ``session_id`` and those of the files; a column that a
        person's file lacks is n/a. Empty where no file is there.
    """
    wanted = {person.removeprefix("sub-") for person in people}
    tables = []
    for path in sorted(Path(bids_dir).glob("sub-*/sub-*_sessions.tsv")):
        person = path.parent.name
        if path.name != f"{person}_sessions.tsv":
            raise BadInputError(f"{path} is named for another person than its folder")
        if wanted and person.removeprefix("sub-") not in wanted:
            continue
        table = read_any_table(path)
        if "session_id" not in table:
            raise BadInputError(f"{path} has no column session_id")
        tables.append(table.assign(participant_id=person))
    if not tables:
        return pd.DataFrame(columns=["participant_id", "session_id"], dtype=object)
    joined = pd.concat(tables, ignore_index=True).fillna(MISSING)
    joined.attrs = {"notes": tuple(n for t in tables for n in notes_of(t)), "decimal": ""}
    names = [name for name in joined.columns if name not in ("participant_id", "session_id")]
    return joined[["participant_id", "session_id", *names]]
