"""Pages of the report: from tables to text. Everything that comes from outside is escaped."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from jinja2 import DictLoader, Environment, StrictUndefined, select_autoescape

REGIONAL = re.compile(r"gmv_(?P<region>.+?)_(?P<what>left|right|both|asymmetry)(?P<tiv>_tiv)?")
REGION_COLUMNS = {
    ("left", ""): "left, mL",
    ("right", ""): "right, mL",
    ("both", ""): "both, mL",
    ("both", "_tiv"): "both, % of TIV",
    ("asymmetry", ""): "asymmetry",
}
# measures of which there is one for each side of a tract or region
SIDED = re.compile(
    r"((?P<metric>fa|md|ad|rd)_(?P<place>.+_tract)|(?P<local>alff|falff|reho|fc_precentral)_(?P<region>.+))"
    r"_(?P<what>left|right|both|asymmetry)"
)
SIDED_COLUMNS = ("left", "right", "both", "asymmetry")
DIFFUSIVITY, MICRO = "mm2/s", "10⁻³ mm²/s"  # unit of the tables, and that of the page
NOT_AVAILABLE = "n/a"
OUTSIDE = "outside the plausible range"


@dataclass(frozen=True)
class Known:
    """What is known of a measure or of a number of quality before it is taken."""

    label: str
    low: float = -float("inf")
    high: float = float("inf")


@dataclass(frozen=True)
class Row:
    """One number of a table."""

    name: str
    label: str
    shown: str
    unit: str = ""
    qc: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Stream:
    """One stream of one visit, as its section shows it."""

    title: str
    state: str
    reason: str = ""
    failures: Sequence[Mapping[str, str]] = ()
    flags: Sequence[Mapping[str, str]] = ()
    notes: Sequence[Mapping[str, str]] = ()
    summary: Sequence[Row] = ()
    metrics: Sequence[Mapping[str, Any]] = ()
    region_columns: Sequence[str] = ()
    regions: Sequence[Mapping[str, Any]] = ()
    sided_title: str = ""
    sided_of: str = ""
    sided_columns: Sequence[str] = ()
    sided: Sequence[Mapping[str, Any]] = ()
    missing: Sequence[Row] = ()
    pictures: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True)
class Person:
    """One visit of one person."""

    prefix: str
    streams: Sequence[Stream] = ()

    @property
    def shows_results(self) -> bool:
        """Whether any stream came to an end, so that its methods were used."""
        return any(stream.state in ("done", "flagged") for stream in self.streams)


def number(text: str) -> str:
    """Write a number from a table to four significant digits.

    >>> number("1423.456"), number("0.00012345"), number("n/a"), number("12")
    ('1423', '0.0001234', 'n/a', '12')
    """
    try:
        value = float(text)
    except ValueError:
        return text
    if value != value:  # not a number
        return NOT_AVAILABLE
    if abs(value) >= 1000 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.4g}"


def plain_label(name: str) -> str:
    """Name of a measure that nothing more is known of, for reading."""
    return name.replace("_", " ")


def measure_rows(table: pd.DataFrame, known: Mapping[str, Known]) -> list[Row]:
    """Rows of a table of measures.

    Parameters
    ----------
    table : DataFrame
        Text columns measure, value, unit, qc, reason.
    known : mapping of str to Known
        Labels and plausible ranges.
    """
    rows = []
    for record in table.to_dict("records"):
        about = known.get(record["measure"], Known(plain_label(record["measure"])))
        rows.append(
            Row(
                name=record["measure"],
                label=about.label,
                shown=number(record["value"]),
                unit=record["unit"],
                qc=_judged(record, about),
                reason=record["reason"],
            )
        )
    return rows


def _judged(record: Mapping[Hashable, str], about: Known) -> str:
    """Quality as written, or that the value is outside what is plausible."""
    if record["qc"] == "flagged" or record["value"] == NOT_AVAILABLE:
        return record["qc"]
    return record["qc"] if about.low <= float(record["value"]) <= about.high else OUTSIDE


def summary_rows(rows: Iterable[Row]) -> list[Row]:
    """Rows that belong to no region and no tract."""
    return [row for row in rows if not (REGIONAL.fullmatch(row.name) or SIDED.fullmatch(row.name))]


def sided_table(rows: Iterable[Row]) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns of `SIDED_COLUMNS` that there are, and one row per metric and tract or region.

    Diffusivities are shown in 10-3 mm2/s; a cell that is no measure stays empty.
    """
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        match = SIDED.fullmatch(row.name)
        if match:
            key = (match["metric"] or match["local"], match["place"] or match["region"])
            found.setdefault(key, {})[match["what"]] = row
    columns = [what for what in SIDED_COLUMNS if any(what in cells for cells in found.values())]
    return columns, [
        {
            "label": _sided_label(cells),
            "unit": MICRO if any(row.unit == DIFFUSIVITY for row in cells.values()) else "",
            "cells": [
                _cell(_in_micro(cells[what])) if what in cells else {"shown": "", "qc": ""}
                for what in columns
            ],
        }
        for cells in found.values()
    ]


def _sided_label(cells: Mapping[str, Row]) -> str:
    """Name for reading without the side, which the columns say."""
    what, row = next(iter(cells.items()))
    return cells["both"].label if "both" in cells else row.label.removesuffix(f", {what}")


def _in_micro(row: Row) -> Row:
    if row.unit != DIFFUSIVITY or row.shown == NOT_AVAILABLE:
        return row
    return replace(row, shown=number(str(1000 * float(row.shown))))


def region_rows(rows: Iterable[Row], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row per region, its cells in the order of `REGION_COLUMNS`.

    Parameters
    ----------
    rows : iterable of Row
        Measures of one person.
    labels : mapping of str to str
        Name of each region for reading.
    """
    regions: dict[str, dict[tuple[str, str], Row]] = {}
    for row in rows:
        match = REGIONAL.fullmatch(row.name)
        if match:
            key = (match["what"], match["tiv"] or "")
            regions.setdefault(match["region"], {})[key] = row
    return [
        {
            "label": labels.get(name, plain_label(name)),
            "cells": [_cell(cells.get(key)) for key in REGION_COLUMNS],
        }
        for name, cells in regions.items()
    ]


def _cell(row: Row | None) -> dict[str, str]:
    if row is None:
        return {"shown": NOT_AVAILABLE, "qc": ""}
    return {"shown": row.shown, "qc": row.qc}


def missing_rows(rows: Iterable[Row]) -> list[Row]:
    """Rows without a value."""
    return [row for row in rows if row.shown == NOT_AVAILABLE]


def metric_rows(
    quality: Mapping[str, Any], about: Mapping[str, Mapping[str, str]]
) -> list[dict[str, Any]]:
    """Numbers of quality, those that raised a flag marked.

    Parameters
    ----------
    quality : mapping
        ``metrics`` by name, and ``flags`` with their names.
    about : mapping of str to mapping
        Label, unit and the flag that speaks of a number, by the name of the number.
    """
    raised = {flag["name"] for flag in quality.get("flags", [])}
    rows = []
    for name, value in quality.get("metrics", {}).items():
        known = about.get(name, {})
        speaks = {name, f"{name}_unknown", known.get("flag", name)}
        rows.append(
            {
                "label": known.get("label", plain_label(name)),
                "shown": NOT_AVAILABLE if value is None else number(str(value)),
                "unit": known.get("unit", ""),
                "flagged": bool(speaks & raised),
            }
        )
    return rows


def text_blocks(text: str) -> list[dict[str, str]]:
    r"""Split a plain Markdown text into headings, paragraphs and list items.

    >>> text_blocks("## Title\n\nOne\nline.\n\n- item")[1]
    {'kind': 'paragraph', 'text': 'One line.'}
    """
    blocks = []
    parts = re.split(r"\n\s*\n|\n(?=- )", text.strip())
    for part in filter(None, (" ".join(part.split()) for part in parts)):
        for mark, kind in (("#", "heading"), ("- ", "item"), ("", "paragraph")):
            if part.startswith(mark):
                blocks.append({"kind": kind, "text": part.lstrip(mark).strip()})
                break
    return blocks


def render(templates: Mapping[str, str], name: str, **context: Any) -> str:
    """Fill a template; a value that a template asks for and nobody gives is an error.

    Parameters
    ----------
    templates : mapping of str to str
        Source of each template by name; those ending in ``.html.j2`` are escaped.
    name : str
        The one to fill.
    context : dict
        What it is filled with.
    """
    environment = Environment(
        loader=DictLoader(dict(templates)),
        autoescape=select_autoescape(enabled_extensions=("html.j2",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(**context)
