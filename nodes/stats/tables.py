"""Tab-separated text to tables of text and back, with every fault named by its line."""

from __future__ import annotations

import math
import re

import pandas as pd

from alsflow.nodes.errors import BadInputError

MISSING = "n/a"
# What people and programs write for "unknown"; BIDS itself knows only n/a.
MISSING_WORDS = frozenset({"", "n/a", "na", "nan", "none", "null", "."})


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
    rows = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    lines = ["\t".join(map(str, table.columns)), *("\t".join(row) for row in rows)]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if value is None or value is pd.NA:
        return MISSING
    if isinstance(value, float):  # numpy's float64 is one
        if math.isnan(value):
            return MISSING
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(float(value))
    return re.sub(r"[\t\r\n]+", " ", str(value)) or MISSING


def number(text: str, where: str) -> float:
    """Finite number that a cell holds; NaN where the cell says that it is not known."""
    if is_missing(text):
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        hint = "; write a decimal point" if re.fullmatch(r"-?\d+,\d+", text) else ""
        raise BadInputError(f"{where}: '{text}' is not a number{hint}; write n/a where unknown")
    return value


def natural_key(label: str) -> list[tuple[int, int, str]]:
    """Sort key that puts ``ses-2`` before ``ses-10``."""
    parts = re.split(r"(\d+)", label)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
