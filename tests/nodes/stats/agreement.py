"""How far the numbers of this package are from those of R, value by value.

`compare` takes the reference and the name of one of its analyses and returns a row per value.
Which analyses there are is a registry: each module of `MODULES` that is there holds ``ANALYSES``,
from the pattern of a name to a function ``(reference, name) -> {(outcome, term, stat): value}``.
A value that is refused or cannot be compared is a string instead: the reason. Optional are
``TOLERANCES``, from the pattern ``"name stat"`` to a relative error, and ``TITLES``, from the
pattern of a name to words. `benchmarks/r_agreement.py` prints the sum of it.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

MODULES = ("agreement_linear", "agreement_mixed")  # a new part adds its name
TOLERANCE = 1e-6  # relative
FLOOR = 1e-9  # absolute
Key = tuple[str, str, str]  # outcome, term, stat
Found = Mapping[Key, "float | str"]


@dataclass(frozen=True)
class Row:
    """One value of R beside ours."""

    analysis: str
    outcome: str
    term: str
    stat: str
    expected: float
    found: float  # NaN where there is none
    error: float  # relative, with the floor
    tolerance: float
    reason: str  # why it is not compared; empty where it is

    @property
    def agrees(self) -> bool:
        return bool(self.reason) or self.error <= self.tolerance

    def __str__(self) -> str:
        return (
            f"{self.analysis} {self.outcome} {self.term} {self.stat}: "
            f"R {self.expected!r}, here {self.found!r}, error {self.error:.1e}"
        )


class Reference:
    """The folder of reference data, its tables read once."""

    def __init__(self, folder: Path):
        self.folder = folder
        text = pd.read_csv(folder / "r_reference_long.csv", keep_default_na=False)
        text["value"] = [cell.strip() for cell in text["value"].astype(str)]
        self.values = {
            str(name): part.drop(columns="analysis")
            for name, part in text.groupby("analysis", sort=False)
        }
        self._tables: dict[str, pd.DataFrame] = {}

    def table(self, name: str) -> pd.DataFrame:
        """Data of R, person as index; ``NA`` is missing, sites and sexes stay words."""
        if name not in self._tables:
            table = pd.read_csv(
                self.folder / f"{name}.csv", keep_default_na=False, na_values=["NA"]
            )
            self._tables[name] = table.set_index("participant_id")
        return self._tables[name]

    def of(self, analysis: str) -> Iterator[tuple[Key, float]]:
        """Values of one analysis that are numbers."""
        for outcome, term, stat, text in self.values[analysis].itertuples(index=False, name=None):
            if text not in ("NA", "TRUE", "FALSE", ""):
                yield (str(outcome), str(term), str(stat)), float(text)


def _parts() -> list:
    there = [name for name in MODULES if importlib.util.find_spec(name)]
    return [importlib.import_module(name) for name in there]


def analyses(reference: Reference) -> list[str]:
    """Names of the reference that some part computes, in the order of the reference."""
    patterns = [pattern for part in _parts() for pattern in part.ANALYSES]
    return [n for n in reference.values if any(fnmatchcase(n, pattern) for pattern in patterns)]


def _lookup(name: str, patterns: Mapping[str, Any], default: Any = None) -> Any:
    """Value of the first pattern that fits; the name itself goes before patterns."""
    fitting = (value for pattern, value in patterns.items() if fnmatchcase(name, pattern))
    return patterns[name] if name in patterns else next(fitting, default)


def _first(name: str, attribute: str, default: Any) -> Any:
    found = (_lookup(name, getattr(part, attribute, {})) for part in _parts())
    return next((value for value in found if value is not None), default)


def compare(reference: Reference, name: str) -> list[Row]:
    """All values of the analysis `name`, each with ours, the error and the tolerance."""
    found: dict[Key, float | str] = {}
    for part in _parts():
        function = _lookup(name, part.ANALYSES)
        for key, value in (function(reference, name) if function else {}).items():
            if not isinstance(value, str) or key not in found:
                found[key] = value
    rows = []
    for key, expected in reference.of(name):
        ours = found.get(key, math.nan)
        reason = ours if isinstance(ours, str) else ""
        value = math.nan if isinstance(ours, str) else float(ours)
        tolerance = _first(f"{name} {key[2]}", "TOLERANCES", TOLERANCE)
        rows.append(Row(name, *key, expected, value, error(value, expected), tolerance, reason))
    return rows


def error(found: float, expected: float) -> float:
    """Relative error; differences below the floor are none, an absent value is infinitely off."""
    if found == expected or abs(found - expected) <= FLOOR * TOLERANCE:
        return 0.0
    off = abs(found - expected) / max(abs(expected), FLOOR)
    return math.inf if math.isnan(off) else off


class Agreement(NamedTuple):
    """Agreement over the values of one analysis."""

    analysis: str
    n: int  # values compared
    skipped: int  # values that are refused or not to be reproduced
    worst: float  # relative error, with the floor
    tolerance: float  # of the worst value
    failed: tuple[str, ...]  # values outside their tolerance, or not found
    reasons: tuple[str, ...]  # why values are not compared


def agreement(rows: list[Row]) -> Agreement:
    """Sum up the rows of one analysis."""
    known = [row for row in rows if not row.reason]
    worst = max(known, key=lambda row: row.error, default=rows[0])
    return Agreement(
        analysis=rows[0].analysis,
        n=len(known),
        skipped=len(rows) - len(known),
        worst=worst.error if known else 0.0,
        tolerance=worst.tolerance,
        failed=tuple(str(row) for row in known if not row.agrees),
        reasons=tuple(dict.fromkeys(row.reason for row in rows if row.reason)),
    )
