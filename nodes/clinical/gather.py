"""Cells of all clinical tables by person and session and by item, in one unit each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from alsflow.nodes.clinical.cognition import CRITERIA
from alsflow.nodes.clinical.columns import ColumnMap, SourceTable, match_columns
from alsflow.nodes.clinical.score import read_number
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.tables import MISSING, is_missing

DAYS_PER_MONTH = 30.4375  # 365.25 / 12
MOST_PROBLEMS = 10  # named in one message
# What a unit in the JSON beside a table makes of a number, by item.
UNITS = {
    "symptom_duration": {"month": 1.0, "months": 1.0, "mo": 1.0, "year": 12.0, "years": 12.0,
                         "y": 12.0, "day": 1 / DAYS_PER_MONTH, "days": 1 / DAYS_PER_MONTH},
    "age": {"year": 1.0, "years": 1.0, "y": 1.0, "month": 1 / 12, "months": 1 / 12},
    "height": {"cm": 1.0, "centimeter": 1.0, "centimetre": 1.0, "m": 100.0, "in": 2.54},
    "fvc_percent": {"%": 1.0, "percent": 1.0, "percentage": 1.0,
                    "% predicted": 1.0, "percent predicted": 1.0},
    "fvc_litres": {"l": 1.0, "liter": 1.0, "litre": 1.0, "liters": 1.0, "litres": 1.0,
                   "ml": 0.001},
}  # fmt: skip
CMAP_UNITS = {"mv": 1.0, "uv": 0.001, "\u00b5v": 0.001, "\u03bcv": 0.001}
OF_THE_PERSON = ("age", "sex", "height")  # the cohort table looks for contradictions in these
Place = tuple[str, str]  # participant_id, session_id


@dataclass(frozen=True)
class Cell:
    """What one table says of one item of one person and session."""

    text: str
    where: str


def spoken(place: Place) -> str:
    """Person and session as messages name them."""
    return " ".join(part for part in place if part != MISSING)


def refuse_all(problems: Sequence[str]) -> None:
    """Raise every problem in one message."""
    if not problems:
        return
    more = len(problems) - MOST_PROBLEMS
    tail = f"; and {more} more" if more > 0 else ""
    raise BadInputError("; ".join(problems[:MOST_PROBLEMS]) + tail)


def gather_cells(
    sources: Sequence[SourceTable], mapping: ColumnMap
) -> dict[Place, dict[str, Cell]]:
    """Cells of all tables by person and session and by item."""
    gathered: dict[Place, dict[str, Cell]] = {}
    problems: list[str] = []
    for source in sources:
        columns = match_columns(source, mapping)
        if not columns:
            continue
        lines: dict[Place, object] = {}
        for line, row in source.table.iterrows():
            try:
                place = _place(row, source, mapping, line)
                if place in lines:
                    raise BadInputError(_twice(source, place, lines[place], line))
                lines[place] = line
                found = {name: Cell(_converted(row[column], name, column, source), source.name)
                         for name, column in columns.items()}  # fmt: skip
                _merge(gathered.setdefault(place, {}), found, place)
            except BadInputError as problem:
                problems.append(str(problem))
    refuse_all(problems)
    return gathered


def _place(row: pd.Series, source: SourceTable, mapping: ColumnMap, line: object) -> Place:
    person = mapping.columns.get("participant_id", "participant_id")
    person = person if person in row else "participant_id"
    if person not in row:
        raise BadInputError(
            f"{source.name} has no column participant_id; add it, or name the column of the "
            'people under [clinical.columns]: participant_id = "..."'
        )
    session = mapping.columns.get("session_id", "session_id")
    session = session if session in row else "session_id"
    if is_missing(row[person]):
        raise BadInputError(f"{source.name}, line {line}: {person} is empty")
    visit = str(row.get(session, MISSING)).strip()
    return (
        "sub-" + str(row[person]).strip().removeprefix("sub-"),
        MISSING if is_missing(visit) else "ses-" + visit.removeprefix("ses-"),
    )


def _twice(source: SourceTable, place: Place, first: object, second: object) -> str:
    one, two = (source.table[source.table.index == line].iloc[0] for line in (first, second))
    kind = "with the same content" if one.equals(two) else "and the rows differ"
    return (
        f"{source.name} has {spoken(place)} twice (lines {first} and {second}), {kind}; keep "
        "one row per person and session, or add session_id"
    )


def _merge(known: dict[str, Cell], found: dict[str, Cell], place: Place) -> None:
    """Add the cells of one more table; what two tables say of one item has to agree."""
    for name, cell in found.items():
        other = known.get(name)
        if other is None or is_missing(other.text):
            known[name] = cell
        elif name in OF_THE_PERSON:
            continue
        elif not is_missing(cell.text) and not _alike(cell.text, other.text):
            raise BadInputError(
                f"{spoken(place)}: {name} is {other.text} in {other.where} but {cell.text} in "
                f"{cell.where}; correct one of them"
            )


def _alike(one: str, two: str) -> bool:
    if one.strip().casefold() == two.strip().casefold():
        return True
    try:
        return math.isclose(float(one), float(two))
    except ValueError:
        return False


def _converted(text: object, name: str, column: str, source: SourceTable) -> str:
    """Text of a cell in the unit that the calculators take, and codes in words."""
    cell = str(text).strip()
    if is_missing(cell):
        return MISSING
    levels = source.levels.get(column, {})
    if name in ("sex", "alsfrs_gastrostomy", *CRITERIA) and cell in levels:
        return levels[cell]
    unit = source.units.get(column, "")
    if name == "symptom_duration" and not unit and column.casefold().endswith("years"):
        unit = "years"
    is_cmap = name.startswith("cmap_") and not name.startswith("cmap_z")
    factors = CMAP_UNITS if is_cmap else UNITS.get(name)
    if not unit or factors is None:
        return cell
    factor = factors.get(unit.casefold())
    if factor is None:
        raise BadInputError(
            f"{source.name}: {column} is in '{unit}'; give {name} in one of {', '.join(factors)}"
        )
    return cell if factor == 1 else repr(read_number(cell, f"{source.name}, {column}") * factor)
