"""The result page of a group: one HTML text that needs nothing from elsewhere."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined

from alsflow.nodes.stats.catalogue import Catalogue, Family
from alsflow.nodes.stats.effects import Q_FOUND

SOMEBODY = re.compile(r"(?:^|: |, )[1-9]\d* of \d")  # in ``A: 2 of 6 ALS, 0 of 6 control``
ALPHA = 0.05  # a p value below this is not printed as this
DIGITS = 3  # significant digits of estimates on the page; the table beside it has all


@dataclass(frozen=True)
class Section:
    """One family of measures on the page."""

    family: Family
    rows: list[dict[str, str]]
    figures: list[tuple[str, str]]  # caption, data URI


def significant(value: float, digits: int = DIGITS) -> str:
    """`value` with `digits` significant digits and no exponent where one can do without."""
    if pd.isna(value):
        return "n/a"
    if value != 0 and (abs(value) < 1e-4 or abs(value) >= 1e6):
        return f"{value:.{digits - 1}e}"
    text = f"{value:#.{digits}g}".rstrip(".")
    return text if "e" not in text else f"{value:.0f}"


def p_text(value: float) -> str:
    """Format a p or q value: three decimals, never rounded to 0, up to 1 or up to .05."""
    if pd.isna(value):
        return "n/a"
    if 0.9995 <= value < 1:
        return "> 0.999"
    if value < 0.001:
        return "< 0.001"
    digits = 3
    while value < ALPHA <= round(value, digits):
        digits += 1
    return f"{value:.{digits}f}"


def _interval(low: float, high: float) -> str:
    return f"{significant(low)} to {significant(high)}"


def _lost(per_site: str) -> str:
    """The sites of ``missing_per_site`` at which anybody is missing, a line each."""
    return "\n".join(part for part in per_site.split("; ") if SOMEBODY.search(part))


def _row(test: Mapping[Any, Any], catalogue: Catalogue) -> dict[str, str]:
    """Cells of one test as text."""
    measure = catalogue.measures[str(test["measure"])]
    value = {key: float(test[key]) for key in _NUMBERS}
    return {
        "measure": measure.name,
        "label": measure.label,
        "description": measure.description,
        "unit": "" if measure.unit == "1" else measure.unit,
        "expected": measure.expected,
        "status": str(test["status"]),
        "reason": str(test["reason"]),
        "n": f"{test['n_case']} + {test['n_control']}",
        "df": str(test["df"]),
        "control_mean": significant(value["control_mean"]),
        "estimate": significant(value["estimate"]),
        "ci": _interval(value["ci_low"], value["ci_high"]),
        "relative": "n/a" if pd.isna(value["relative"]) else f"{value['relative']:+.1f} %",
        "g": f"{value['g']:+.2f} ({value['g_low']:+.2f} to {value['g_high']:+.2f})",
        "t": f"{value['t']:.2f}",
        "p": p_text(value["p"]),
        "q": p_text(value["q"]),
        "found": "yes" if value["q"] < Q_FOUND else "",
        "lost": _lost(str(test["missing_per_site"])),
        "missing": "" if test["missing"] == "n/a" else str(test["missing"]),
        "notes": "" if test["notes"] == "n/a" else str(test["notes"]),
    }


_NUMBERS = (
    "control_mean", "estimate", "ci_low", "ci_high", "relative", "g", "g_low", "g_high", "t", "p",
    "q",
)  # fmt: skip


def sections(
    tests: pd.DataFrame,
    catalogue: Catalogue,
    figures: Mapping[str, Sequence[tuple[str, bytes]]],
) -> list[Section]:
    """Arrange the families that have tests, the primary one first.

    Parameters
    ----------
    tests : DataFrame
        As `fit_measures` makes it.
    catalogue : Catalogue
        Labels, descriptions, families.
    figures : mapping
        Family to (caption, PNG) pairs.
    """
    found = []
    for family in sorted(catalogue.families.values(), key=lambda family: not family.primary):
        rows = tests[tests["family"] == family.name].to_dict("records")
        if rows:
            pictures = [(caption, data_uri(png)) for caption, png in figures.get(family.name, ())]
            found.append(Section(family, [_row(row, catalogue) for row in rows], pictures))
    return found


def data_uri(png: bytes) -> str:
    """Picture as text that stands in the page itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def missing_list(tests: pd.DataFrame) -> list[tuple[str, str]]:
    """Who lacks which measures and why: (people and reason, measures)."""
    found: dict[str, list[str]] = {}
    for row in tests.itertuples(index=False):
        if row.missing != "n/a":
            for part in str(row.missing).split("; "):
                found.setdefault(part, []).append(str(row.measure))
    n = len(tests)
    return [
        (who, "every measure" if len(names) == n else ", ".join(names))
        for who, names in found.items()
    ]


def single_notes(tests: pd.DataFrame, known: Sequence[str]) -> list[tuple[str, str]]:
    """List (measures, note) for what holds of single measures and is not in `known`."""
    found: dict[str, list[str]] = {}
    for row in tests.itertuples(index=False):
        for note in str(row.notes).split("; "):
            if note != "n/a" and note not in known:
                found.setdefault(note, []).append(str(row.measure))
    return [(", ".join(names), note) for note, names in found.items()]


def render(template: str, **values: object) -> str:
    """Fill a Jinja template; every value is escaped, an unknown name is an error."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template).render(**values)
