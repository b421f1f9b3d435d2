"""Text to tables of text and back, and cells to numbers; every fault is named by its place."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alsflow.nodes.errors import BadInputError

MISSING = "n/a"
# What people and programs write for "unknown"; BIDS itself knows only n/a.
MISSING_WORDS = frozenset({"", "n/a", "na", "nan", "none", "null", ".", "-", "\u2013", "\u2014"})
# What spreadsheets write where a formula failed.
FAILED_FORMULAS = frozenset(
    {"#N/A", "#DIV/0!", "#REF!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!", "#SPILL!", "#CALC!"}
)
INVISIBLE = "\ufeff\u200b\u200e\u200f\u00ad"  # marks that copying from pages leaves in cells
POINT = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?", re.ASCII)
WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}([.,' \u00a0\u202f\u2019]\d{3})+", re.ASCII)
GROUPED = re.compile(
    r"[+-]?\d+([.,' \u00a0\u202f\u2019]\d+){2,}|[+-]?\d+[' \u00a0\u202f\u2019]\d.*"
)
DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T].*)?")
LIMIT = re.compile(r"([<>≤≥~≈]|ca\.?|about|approx\.?).*\d.*|.*\d\s*\+", re.IGNORECASE)
UNIT = re.compile(r"([+-]?\d[\d.,]*)\s*([A-Za-zµμ°/%²³^\d. -]*[A-Za-zµμ°%].*)")
# Whole numbers that many files use for "unknown".
UNKNOWN_CODES = frozenset({-9, -99, -999, -9999, 99, 999, 9999})


@dataclass(frozen=True)
class Meanings:
    """What the JSON beside a table says: codes and units by column."""

    levels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)


def is_missing(text: str) -> bool:
    """Whether a cell says that the value is not known."""
    return text.strip().lower() in MISSING_WORDS


def parse_table(text: str, source: str) -> pd.DataFrame:
    """Table of text from tab-separated `text`; cells are stripped, nothing is converted.

    Parameters
    ----------
    text : str
        Content of the file; a byte-order mark and any line ends are accepted.
    source : str
        How messages name the file.

    Returns
    -------
    table : DataFrame of str
        The index is the line number in the file, so that later messages can name it.
    """
    lines = re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff"))
    rows = {n: line.split("\t") for n, line in enumerate(lines, start=1) if line.strip()}
    if not rows:
        raise BadInputError(f"{source} is empty")
    head_line = min(rows)
    header = [_unquoted(cell) for cell in rows.pop(head_line)]
    if len(header) == 1 and re.search("[,;]", header[0]):
        raise BadInputError(
            f"{source} has no tab between its columns; save it as tab-separated text (.tsv)"
        )
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise BadInputError(f"{source} has more than one column called {', '.join(repeated)}")
    for line, cells in rows.items():
        if len(cells) != len(header):
            raise BadInputError(
                f"{source}, line {line}: {len(cells)} cells under {len(header)} column names"
            )
    cells = [[_unquoted(cell) for cell in row] for row in rows.values()]
    return pd.DataFrame(cells, columns=header, index=list(rows), dtype=object)


def _unquoted(cell: str) -> str:
    cell = cell.strip()
    return cell[1:-1].strip() if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def format_table(table: pd.DataFrame) -> str:
    """Tab-separated text of `table`: floats in full, missing as ``n/a``."""
    rows = [[cell_text(value) for value in row] for row in table.itertuples(index=False)]
    lines = ["\t".join(map(str, table.columns)), *("\t".join(row) for row in rows)]
    return "\n".join(lines) + "\n"


def cell_text(value: object) -> str:
    """One cell of a table as text: numbers in full, missing as ``n/a``."""
    if value is None or value is pd.NA:
        return MISSING
    if isinstance(value, float):  # numpy's float64 is one
        if math.isnan(value):
            return MISSING
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(float(value))
    return re.sub(r"[\t\r\n]+", " ", str(value)) or MISSING


def clean_cell(cell: str) -> str:
    """Cell without blanks around it, marks that nobody sees, and line breaks within."""
    cell = unicodedata.normalize("NFC", cell.translate(dict.fromkeys(map(ord, INVISIBLE))))
    return re.sub(r"\s*[\r\n\v\f]+\s*", " ", cell.strip())


def tidy_rows(rows: Mapping[int, Sequence[str]], source: str) -> pd.DataFrame:
    """Table of clean text from rows of cells, as a file or a sheet holds them.

    Parameters
    ----------
    rows : mapping
        From the number of a line to its cells; the first that is not blank names the columns.
    source : str
        How messages name the table.

    Returns
    -------
    table : DataFrame of str
        The index is the number of the line; blank lines and blank columns without a name are
        gone. ``attrs["notes"]`` says what else was left out.
    """
    clean = {line: [clean_cell(cell) for cell in cells] for line, cells in rows.items()}
    clean = {line: cells for line, cells in clean.items() if any(cells)}
    if not clean:
        raise BadInputError(f"{source} is empty")
    head = clean.pop(min(clean))
    while head and not head[-1]:
        head.pop()
    _require_even(clean, len(head), source)
    table = pd.DataFrame(
        [cells[: len(head)] for cells in clean.values()], index=list(clean), dtype=object
    )
    table = table.reindex(columns=range(len(head)))
    nameless = [n for n, name in enumerate(head) if not name]
    notes = _drop_nameless(table, nameless, source)
    table = table.drop(columns=nameless)
    table.columns = pd.Index([name for name in head if name], dtype=object)
    _require_single(list(table.columns), source)
    _refuse_failed(table, source)
    table.attrs["notes"] = tuple(notes)
    return table


def _require_even(rows: Mapping[int, Sequence[str]], width: int, source: str) -> None:
    """Refuse rows of another length than the head; blank cells behind it do not count."""
    lengths = {}
    for line, cells in rows.items():
        filled = max(n for n, cell in enumerate(cells, start=1) if cell)
        lengths[line] = max(filled, min(len(cells), width))
    wrong = {line: n for line, n in lengths.items() if n != width}
    if not wrong:
        return
    line, n = next(iter(wrong.items()))
    hint = ""
    if set(lengths.values()) == {width + 1}:
        hint = "; a name for the first column may be missing"
    elif len(wrong) == len(rows) and n > width:
        hint = "; the first line has to name the columns, without a title above it"
    raise BadInputError(
        f"{source}, line {line}: {n} cells under {width} column names{hint}; give every line one "
        "cell for each column, and n/a where a value is unknown"
    )


def _drop_nameless(table: pd.DataFrame, nameless: Sequence[int], source: str) -> list[str]:
    """Refuse cells under no name; blank columns and the count of the rows may go."""
    filled = [n for n in nameless if (table[n] != "").any()]
    if filled == [0] and _counts(list(table[0])):
        return ["the first column, without a name, counts the rows and was left out"]
    if filled:
        cells = table[filled[0]]
        row = int((cells != "").to_numpy().argmax())
        raise BadInputError(
            f"{source}, column {filled[0] + 1} has no name, but line {table.index[row]} holds "
            f"'{cells.iat[row]}' there; name the column or empty it"
        )
    return []


def _counts(cells: Sequence[str]) -> bool:
    return any(cells == [str(n) for n in range(k, k + len(cells))] for k in (0, 1))


def _require_single(names: Sequence[str], source: str) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise BadInputError(f"{source} has more than one column called {', '.join(repeated)}")


def _refuse_failed(table: pd.DataFrame, source: str) -> None:
    for name in table.columns:
        failed = table[name].isin(FAILED_FORMULAS)
        if failed.any():
            row = int(failed.to_numpy().argmax())
            raise BadInputError(
                f"{source}, line {table.index[row]}, {name}: '{table[name].iat[row]}' is a failed "
                f"formula ({int(failed.sum())} in this column); mend it or write n/a"
            )


def number(text: str, where: str) -> float:
    """Finite number that a cell holds; NaN where the cell says that it is not known."""
    if is_missing(text):
        return math.nan
    plain = text.strip().replace("\u2212", "-")
    value = float(plain) if POINT.fullmatch(plain) else math.inf
    if not math.isfinite(value):
        raise BadInputError(f"{where}: '{text}' is not a number{_why_not(plain)}")
    return value


def _why_not(text: str) -> str:
    """What is wrong with a cell that should hold a number, and the mend."""
    if re.fullmatch(r"-?\d*,\d+", text):
        return "; write a decimal point; write n/a where unknown"
    if DATE.fullmatch(text):
        return (
            " but a date; spreadsheets turn numbers such as 5.10 into dates, so look up and type "
            "the number again, in a column formatted as text"
        )
    if THOUSANDS.fullmatch(text) or GROUPED.fullmatch(text):
        return "; write it without thousands separators"
    if LIMIT.fullmatch(text):
        return " but a limit; write the number, or n/a where it is unknown"
    unit = UNIT.fullmatch(text)
    if unit:
        return (
            f"; write {unit[1]} alone, and '{unit[2].strip()}' once as Units in the JSON beside "
            "the table"
        )
    return "; write n/a where unknown"


def numbers(
    cells: pd.Series,
    source: str,
    *,
    labels: Sequence[object] | None = None,
    decimal: str = "",
    percent: bool = False,
) -> NDArray[np.float64]:
    """Finite numbers of one column, NaN where unknown; see `with_points` for decimal commas.

    Parameters
    ----------
    cells : (n,) Series of str
        One column; its index are line numbers, its name that of the column.
    source : str
        How messages name the table.
    labels : sequence of n
        How messages name the rows, mostly people; the line numbers where not given.
    decimal : str
        Decimal sign of the file, as `decimal_sign` tells it.
    percent : bool
        Whether the column is in percent, so that a sign may follow the numbers.
    """
    rows = _row_names(cells, labels)
    if percent:
        cells = cells.str.strip().str.removesuffix("%").str.rstrip()
    plain = with_points(cells, source, labels=rows, decimal=decimal)
    places = [f"{source}, {row}, {cells.name}" for row in rows]
    values = np.array(list(map(number, plain, places)), float)
    _refuse_unknown_codes(values, places)
    return values


def _row_names(cells: pd.Series, labels: Sequence[object] | None) -> list[str]:
    return [f"line {line}" for line in cells.index] if labels is None else list(map(str, labels))


def with_points(
    cells: pd.Series, source: str, *, labels: Sequence[object] | None = None, decimal: str = ""
) -> pd.Series:
    """Column with decimal points, if it is one of numbers with decimal commas; else as it is.

    Notes
    -----
    A column in which every known cell is whole or has one comma, and at least one has a comma, is
    read with decimal commas. If all of its commas could as well part thousands (``1,234``), it
    is refused unless `decimal` is ``","``; so is one with both signs, and one whose points could
    part thousands in a table with decimal commas.
    """
    rows = _row_names(cells, labels)
    plain = [cell.strip().replace("\u2212", "-") for cell in cells]
    places = [f"{source}, {row}, {cells.name}" for row in rows]
    known = [(at, cell) for at, cell in zip(places, plain, strict=True) if not is_missing(cell)]
    commas = [(at, cell) for at, cell in known if COMMA.fullmatch(cell)]
    points = [(at, cell) for at, cell in known if "." in cell and POINT.fullmatch(cell)]
    if points and not commas and decimal in (",", "?"):
        _refuse_doubtful(points, ", because other columns have decimal commas")
    if not commas:
        return cells
    if points:
        (at, cell), (other, point) = commas[0], points[0]
        raise BadInputError(
            f"{at}: '{cell}' has a decimal comma, but '{point}' ({other}) has a decimal point; "
            "write one of them throughout"
        )
    if not all(COMMA.fullmatch(cell) or WHOLE.fullmatch(cell) for _, cell in known):
        return cells  # words or faults; `number` names the latter
    if decimal != ",":
        _refuse_doubtful(commas)
    return cells.str.strip().str.replace(",", ".", regex=False)


def _refuse_doubtful(cells: Sequence[tuple[str, str]], why: str = "") -> None:
    """Refuse a column whose every decimal sign could also part thousands."""
    if all(THOUSANDS.fullmatch(cell) for _, cell in cells):
        at, cell = cells[0]
        fraction, whole = cell.replace(",", "."), re.sub("[.,]", "", cell)
        raise BadInputError(
            f"{at}: '{cell}' may be {fraction} or {whole}{why}; write it without "
            "thousands separators and with a decimal point"
        )


def decimal_sign(table: pd.DataFrame) -> str:
    """Decimal sign of a table of text: ``,`` or ``.``, ``?`` for both, empty if none is sure."""
    found = ""
    for name in table.columns:
        cells = [cell for cell in table[name] if not is_missing(cell)]
        for sign, pattern in ((",", COMMA), (".", POINT)):
            signed = [cell for cell in cells if sign in cell and not THOUSANDS.fullmatch(cell)]
            numeric = all(pattern.fullmatch(cell) or WHOLE.fullmatch(cell) for cell in cells)
            if signed and numeric:
                found = sign if found in ("", sign) else "?"
    return found


def _refuse_unknown_codes(values: NDArray[np.float64], places: Sequence[str]) -> None:
    """Refuse -99, 999 and the like where they lie far from all other values of the column."""
    known = values[np.isfinite(values)]
    codes = np.isin(known, list(UNKNOWN_CODES))
    others = known[~codes]
    if len(np.unique(others)) < 3:
        return
    span = np.ptp(others)
    for code in np.unique(known[codes]):
        if code < others.min() - span or code > others.max() + span:
            at = places[int(np.flatnonzero(values == code)[0])]
            raise BadInputError(
                f"{at}: {code:g} lies far from all other values and is a common code "
                "for unknown; write n/a where it is that"
            )


def natural_key(label: str) -> list[tuple[int, int, str]]:
    """Sort key that puts ``ses-2`` before ``ses-10``."""
    parts = re.split(r"(\d+)", label)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
