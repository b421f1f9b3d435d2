"""Correlations of the concentrations, and settings in force, from LCModel's ``.print``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.mrs.result import LCModelError

TITLE = "Correlation coefficients"
LABEL = slice(1, 12)  # columns of the name of a row
FIRST_VALUE = 12  # column
VALUE_WIDTH = 7  # characters
HEAD_WIDTH = 6  # characters of a name in the head
SETTINGS = re.compile(
    r"^ (ATTH2O|ATTMET|CONREL|DOWS|ECHOT|HZPPPM|PPMEND|PPMST|WCONC)= *([^\s,]+)", re.MULTILINE
)


@dataclass(frozen=True)
class Correlations:
    """Correlations of the errors of the concentrations.

    Attributes
    ----------
    names : tuple of str
        Names as printed, cut to 11 characters (the first to 6).
    values : (n, n) array
        Symmetric, 1 on the diagonal.
    """

    names: tuple[str, ...]
    values: NDArray

    def between(self, one: str, other: str) -> float:
        """Correlation of two rows by their names in the table; NaN where a name is not clear."""
        places = [self._place(name) for name in (one, other)]
        return nan if None in places else float(self.values[places[0], places[1]])

    def _place(self, name: str) -> int | None:
        width = LABEL.stop - LABEL.start
        found = [
            at
            for at, label in enumerate(self.names)
            if label == name[: width if at else HEAD_WIDTH]
        ]
        return found[0] if len(found) == 1 else None


def read_correlations(text: str, name: str) -> Correlations | None:
    """Matrix of the final fit; None where the file has none (a fit that stopped).

    Parameters
    ----------
    text : str
        The whole ``.print``.
    name : str
        Name of the file, for messages.
    """
    lines = text.splitlines()
    starts = [at for at, line in enumerate(lines) if line.strip() == TITLE]
    if not starts:
        return None
    start = starts[-1] + 1
    while start < len(lines) and not lines[start].strip():
        start += 1
    head_end = start
    while head_end < len(lines) and not lines[head_end][:FIRST_VALUE].strip():
        head_end += 1
    head = " ".join(lines[start:head_end]).split()
    if not head:
        raise LCModelError(name, start, "no names over the correlations; the file was cut")
    labels, rows = _triangle(lines, head_end, len(head), name)
    values = np.eye(len(labels) + 1)
    for at, row in enumerate(rows, 1):
        values[at, :at] = values[:at, at] = row
    return Correlations((head[0], *labels), values)


def _triangle(
    lines: list[str], start: int, n_head: int, name: str
) -> tuple[list[str], list[list[float]]]:
    """Names and values below the diagonal; the last row has a column for all before it."""
    labels: list[str] = []
    rows: list[list[float]] = []
    for at in range(start, len(lines)):
        line = lines[at]
        if not line.strip():
            continue
        if rows and len(rows) == n_head and len(rows[-1]) == n_head:
            return labels, rows
        if label := line[LABEL].strip():
            if rows and len(rows[-1]) != len(rows):
                raise LCModelError(name, at, "a row of the correlations is too short")
            labels.append(label)
            rows.append([])
        if not rows:
            break
        rows[-1] += _values(line, at, name)
        if len(rows[-1]) > len(rows):
            raise LCModelError(name, at + 1, "a row of the correlations is too long")
    raise LCModelError(name, start, "the correlations are not whole; the file was cut")


def _values(line: str, at: int, name: str) -> list[float]:
    words = [
        line[place : place + VALUE_WIDTH]
        for place in range(FIRST_VALUE, len(line.rstrip()), VALUE_WIDTH)
    ]
    try:
        values = [nan if "*" in word else float(word) for word in words]
    except ValueError as problem:
        raise LCModelError(name, at + 1, f"a correlation is no number ({problem})") from problem
    if any(abs(value) > 1 for value in values):
        raise LCModelError(name, at + 1, "a correlation is above 1; run LCModel again")
    return values


def read_settings(text: str) -> dict[str, str]:
    """Settings in force, defaults included, by their lower-case names; no paths."""
    return {key.lower(): value for key, value in SETTINGS.findall(text)}
