"""Bytes and text with tabs, semicolons or commas to tables of text, whoever saved them."""

from __future__ import annotations

import csv
import io
import re

import pandas as pd

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.tables import COMMA, clean_cell, decimal_sign, tidy_rows

SEPARATORS = {"\t": "tabs", ";": "semicolons", ",": "commas"}
EXPECTED = {".tsv": "\t", ".csv": ","}  # separator that the ending promises
OLD_EXCEL = b"\xd0\xcf\x11\xe0"  # first bytes of OLE files: .xls, and .xlsx with a password
ZIP = b"PK\x03\x04"  # first bytes of .xlsx and .ods


def decode(content: bytes, source: str) -> tuple[str, tuple[str, ...]]:
    """Text of a file, with a note where its encoding had to be guessed.

    Notes
    -----
    UTF-8 and UTF-16, with or without a byte-order mark; what is neither is read as Windows-1252,
    which old spreadsheets write and which holds Latin-1's letters.
    """
    if content.startswith((ZIP, OLD_EXCEL)):
        raise BadInputError(
            f"{source} is a spreadsheet, not text; name it .xlsx, or save it as .tsv or .csv"
        )
    encoding = _utf16(content)
    try:
        text = content.decode(encoding or "utf-8-sig")
    except UnicodeDecodeError as problem:
        if encoding:
            raise BadInputError(f"{source} is damaged UTF-16 text; save it as UTF-8") from problem
        return _as_windows(content, source)
    _require_text(text, source)
    return text.removeprefix("\ufeff"), ()


def _utf16(content: bytes) -> str:
    """Name of the UTF-16 that `content` is in, empty where it is not."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    start = content[:2000]
    if len(content) % 2 or b"\0" not in start:
        return ""
    return "utf-16-le" if start[1::2].count(0) > start[0::2].count(0) else "utf-16-be"


def _as_windows(content: bytes, source: str) -> tuple[str, tuple[str, ...]]:
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    _require_text(text, source)
    strange = re.search(r"\w*[^\x00-\x7f]+\w*", text)
    sample = f", for example '{strange[0][:30]}'" if strange else ""
    note = (
        f"{source} is not UTF-8; it was read as Windows-1252 (Latin-1): check its accented "
        f"letters{sample}"
    )
    return text, (note,)


def _require_text(text: str, source: str) -> None:
    if re.search(r"[\x00-\x08\x0e-\x1f]", text):
        raise BadInputError(f"{source} is not text; save the table as .tsv, .csv or .xlsx")


def parse_delimited(text: str, source: str, ending: str = "") -> pd.DataFrame:
    """Table of clean text from delimited text; the separator is told from the text.

    Parameters
    ----------
    text : str
        Content of the file; any line ends, cells in quotes where needed.
    source : str
        How messages name the file.
    ending : str
        Ending of its name with the dot; settles the separator where several fit.

    Returns
    -------
    table : DataFrame of str
        See `tables.tidy_rows`. ``attrs`` holds ``notes``, and ``decimal`` of
        `tables.decimal_sign`.
    """
    declared = re.match(r'\s*"?sep=(.)"?[ \t;,]*(\r\n|\r|\n)', text, re.IGNORECASE)
    offset = 0
    if declared:
        text, offset = text[declared.end() :], 1
    separator, note = (declared[1], "") if declared else _separator(text, source, ending)
    rows = _split(text, separator, source)
    table = tidy_rows({line + offset: cells for line, cells in rows.items()}, source)
    decimal = decimal_sign(table)
    notes: tuple[str, ...] = (note,) if note else ()
    if separator == ";" and not decimal and _some_commas(table):
        decimal = ","
        notes += (f"{source} has semicolons between its columns, so its commas are decimal",)
    table.attrs |= {"notes": notes + table.attrs["notes"], "decimal": decimal}
    return table


def _some_commas(table: pd.DataFrame) -> bool:
    return any(COMMA.fullmatch(cell) for name in table for cell in table[name])


def _separator(text: str, source: str, ending: str) -> tuple[str, str]:
    """Separator under which every line has as many cells as the first; a note if unexpected."""
    head = next((line for line in re.split(r"[\r\n]+", text) if line.strip()), "")
    present = [separator for separator in SEPARATORS if separator in head]
    if not present:
        return EXPECTED.get(ending, "\t"), ""
    widths = {separator: _width(text, separator, source) for separator in present}
    even = {separator: n for separator, n in widths.items() if n > 1}
    if not even:
        expected = EXPECTED.get(ending, "")
        return (expected if expected in present else present[0]), ""
    best = max(even, key=lambda separator: (even[separator], -present.index(separator)))
    note = f"{source} has {SEPARATORS[best]} between its columns"
    unexpected = ending in EXPECTED and best != EXPECTED[ending]
    return best, note if unexpected else ""


def _width(text: str, separator: str, source: str) -> int:
    """Number of columns if all lines agree, else 0."""
    try:
        rows = _split(text, separator, source)
    except BadInputError:
        return 0
    filled = [
        [n for n, cell in enumerate(row, start=1) if clean_cell(cell)] for row in rows.values()
    ]
    lengths = [
        (len(row), last[-1]) for row, last in zip(rows.values(), filled, strict=True) if last
    ]
    width = lengths[0][1] if lengths else 0
    return width if all(last <= width <= n for n, last in lengths) else 0


def _split(text: str, separator: str, source: str) -> dict[int, list[str]]:
    """Cells by the number of the line on which they begin."""
    rows: dict[int, list[str]] = {}
    reader = csv.reader(
        io.StringIO(re.sub(r"\r\n?", "\n", text)), delimiter=separator, strict=True,
        skipinitialspace=separator != "\t",
    )  # fmt: skip
    line = 1
    try:
        for cells in reader:
            rows[line] = cells
            line = reader.line_num + 1
    except csv.Error as problem:
        raise BadInputError(
            f"{source}, line {line}: a quotation mark is opened there and not closed, or stands "
            'within a cell; write "" for a mark within quotes'
        ) from problem
    return rows
