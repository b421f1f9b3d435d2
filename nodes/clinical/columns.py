"""Which column of a user's table holds which item of which clinical tool."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import pandas as pd

from alsflow.nodes.clinical.alsfrs import ITEMS, SUBSCALES
from alsflow.nodes.clinical.cognition import CRITERIA, ECAS_PARTS
from alsflow.nodes.clinical.motor import NERVES, PENN_SHEET
from alsflow.nodes.clinical.options import ClinicalOptions, nearest
from alsflow.nodes.clinical.score import SIDES
from alsflow.nodes.errors import BadInputError

# Names of files (without case and punctuation) that say which tool a table holds.
FILE_NAMES = {
    "alsfrs": {"alsfrsr", "alsfrs", "alsfrsrevised"},
    "mrc": {"mrc", "mmt", "mrcsum", "mrcscale"},
    "penn": {"pennumn", "penn", "pumns", "pennscore", "umn"},
    "cmap": {"cmap", "ncs", "nerveconduction"},
    "fvc": {"fvc", "spirometry"},
    "tapping": {"tapping", "foottapping", "fingertapping"},
    "ecas": {"ecas"},
    "handedness": {"handedness", "ehi", "edinburgh"},
    "diagnosis": {"diagnosis", "elescorial", "awaji", "goldcoast"},
}
OTHER_WORDS = {
    "dyspnea": ("dyspnoea",),
    "orthopnea": ("orthopnoea",),
    "respiratory_insufficiency": ("resp_insufficiency", "respiratory_insuff"),
    "cutting": ("cutting_food", "cutting_food_and_handling_utensils"),
    "dressing": ("dressing_hygiene", "dressing_and_hygiene"),
    "turning": ("turning_in_bed", "turning_bed"),
    "stairs": ("climbing_stairs",),
}
WITHOUT = ("without_gastrostomy", "no_gastrostomy")
PERSON = {
    "age": ("age", "age_years", "age_at_visit"),
    "sex": ("sex",),
    "height": ("height", "height_cm"),
    "symptom_duration": (
        "symptom_duration", "disease_duration", "symptom_duration_months", "duration_months",
        "disease_duration_months", "months_since_onset", "symptom_duration_years",
        "disease_duration_years",
    ),
    "onset_date": ("onset_date", "date_of_onset", "symptom_onset_date", "date_of_symptom_onset"),
    "visit_date": ("visit_date", "date_of_visit", "acq_time", "examination_date", "session_date"),
}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """An item of a tool and the names by which its column is known, as `squeeze` writes them."""

    name: str  # key under [clinical.columns]
    tool: str
    item: str  # key of the calculator
    anywhere: frozenset[str]  # names that are clear in any table
    own: frozenset[str] = frozenset()  # names that are clear only in a table of the tool


@dataclass(frozen=True)
class SourceTable:
    """One table as it was read.

    Attributes
    ----------
    name : str
        How messages name it.
    table : DataFrame of str
        With ``participant_id`` and, perhaps, ``session_id``.
    tools : frozenset of str
        Tools that it holds, as far as its name or the configuration says so.
    units, levels : mapping
        Unit, and meaning of codes, of a column in the JSON beside the table.
    """

    name: str
    table: pd.DataFrame
    tools: frozenset[str] = frozenset()
    units: Mapping[str, str] = field(default_factory=dict)
    levels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def squeeze(name: str) -> str:
    """Name without case, punctuation and leading zeros: ``ALSFRSR_01`` is ``alsfrsr1``."""
    flat = re.sub(r"(?<!\d)0+(?=\d)", "", name.casefold())
    return re.sub(r"[^a-z0-9]", "", flat)


def tool_of(stem: str) -> frozenset[str]:
    """Tool that a file of this name holds; BIDS names start with what is measured."""
    flat = squeeze(stem.removesuffix(".tsv"))
    return frozenset(tool for tool, names in FILE_NAMES.items() if flat in names)


def _names(prefixes: Iterable[str], words: Iterable[str]) -> frozenset[str]:
    return frozenset(squeeze(prefix + word) for prefix, word in product(prefixes, words))


def _sided(base: str, side: str) -> tuple[str, ...]:
    """Ways to write an item of one side."""
    return (f"{base}_{side}", f"{side}_{base}", f"{base}_{side[0]}", f"{side[0]}_{base}")


def item_fields(options: ClinicalOptions) -> dict[str, Field]:
    """Every item that the calculators take, by name."""
    found = [
        *_alsfrs_fields(), *_mrc_fields(options), *_penn_fields(options), *_cmap_fields(options),
        *_fvc_fields(), *_tapping_fields(), *_ecas_fields(), *_hand_fields(),
        *(Field(name, "diagnosis", name, _names(("", "revised_"), (name, f"{name}_category")))
          for name in CRITERIA),
        *(Field(name, "person", name, _names(("",), words)) for name, words in PERSON.items()),
    ]  # fmt: skip
    return {entry.name: entry for entry in found}


def _alsfrs_fields() -> list[Field]:
    tests, marks = ("alsfrs", "alsfrsr"), ("", "q", "item", "question")
    found = []
    versions = [(str(n), item, (item, *OTHER_WORDS.get(item, ())))
                for n, item in enumerate(ITEMS, start=1)]  # fmt: skip
    versions += [
        ("5a", "cutting_a", ("cutting_a", *(f"cutting_{word}" for word in WITHOUT))),
        ("5b", "cutting_b", ("cutting_b", "cutting_with_gastrostomy", "cutting_gastrostomy")),
    ]
    for number, item, words in versions:
        numbered = [mark + number + word for mark in marks for word in ("", *words)]
        anywhere = _names(tests, [*numbered, *words])
        anywhere |= _names(marks, [number + word for word in words])
        found.append(Field(f"alsfrs_{item}", "alsfrs", item, anywhere, _names(("",), numbered) |
                           _names(("",), words)))  # fmt: skip
    found.append(Field("alsfrs_gastrostomy", "alsfrs", "gastrostomy",
                       _names(("", *tests), ("gastrostomy", "peg"))))  # fmt: skip
    totals = ("", "_total", "_score", "_sum", "_total_score")
    found.append(Field("alsfrs_total", "alsfrs", "total",
                       _names(("alsfrsr",), totals) | _names(("alsfrs",), totals[1:]),
                       _names(("",), ("total", "sum", "score", "total_score"))))  # fmt: skip
    for part in SUBSCALES:
        words = (part, f"{part}_subscore", f"{part}_total", f"total_{part}")
        found.append(Field(f"alsfrs_total_{part}", "alsfrs", f"total_{part}",
                           _names(tests, words), _names(("",), words)))  # fmt: skip
    return found


def _with_totals(tool: str, tests: Sequence[str], total: Sequence[str]) -> list[Field]:
    """Sums of a tool: both sides and each side."""
    found = [Field(f"{tool}_total", tool, "total", _names(tests, total),
                   _names(("",), ("total", "sum", "total_score")))]  # fmt: skip
    for side in SIDES:
        words = [word for base in ("", *total) for word in _sided(base.strip("_"), side)]
        words = [word for word in words if word.strip("_")]
        found.append(Field(f"{tool}_total_{side}", tool, f"total_{side}", _names(tests, words),
                           _names(("",), [w for w in words if len(squeeze(w)) > 1])))  # fmt: skip
    return found


def _mrc_fields(options: ClinicalOptions) -> list[Field]:
    found = _with_totals("mrc", ("mrc",), ("_sum", "_total", "_sum_score"))
    items = {f"{movement}_{side}": _sided(movement, side)
             for movement in options.mrc_movements for side in SIDES}  # fmt: skip
    items |= {movement: (movement,) for movement in options.mrc_midline}
    for item, words in items.items():
        found.append(Field(f"mrc_{item}", "mrc", item, _names(("mrc",), words),
                           _names(("",), words)))  # fmt: skip
    return found


def _penn_fields(options: ClinicalOptions) -> list[Field]:
    tests = ("penn", "pumns", "penn_umn")
    found = _with_totals("penn", tests, ("_total", "_sum", "_score"))
    for line in options.penn_items or PENN_SHEET:
        base, _, side = line.rpartition("_")
        words = _sided(base, side) if side in SIDES else (line,)
        found.append(Field(f"penn_{line}", "penn", line, _names(tests, words),
                           _names(("",), words)))  # fmt: skip
    return found


def _cmap_fields(options: ClinicalOptions) -> list[Field]:
    found = []
    for nerve, side in product(options.cmap_norms or NERVES, SIDES):
        for kind, tests in (("", ("cmap", "cmap_amplitude")), ("z_", ("cmap_z", "cmapz"))):
            words = _sided(nerve, side)
            own = _names(("",) if not kind else ("z", "z_score"), words)
            found.append(Field(f"cmap_{kind}{nerve}_{side}", "cmap", f"{kind}{nerve}_{side}",
                               _names(tests, words), own))  # fmt: skip
    for side in SIDES:
        words = _sided("sum", side)
        found.append(Field(f"cmap_z_sum_{side}", "cmap", f"total_{side}",
                           _names(("cmap_z", "cmapz_score"), words)))  # fmt: skip
    return found


def _fvc_fields() -> list[Field]:
    percent = ("percent_predicted", "percent", "pct", "pct_predicted", "predicted", "pp")
    return [
        Field("fvc_percent", "fvc", "percent", _names(("fvc_",), percent),
              _names(("",), percent)),
        Field("fvc_litres", "fvc", "litres", _names(("fvc_",), ("litres", "liters", "l")),
              _names(("",), ("litres", "liters"))),
        Field("fvc_posture", "fvc", "posture", _names(("fvc_",), ("posture", "position")),
              _names(("",), ("posture", "position"))),
    ]  # fmt: skip


def _tapping_fields() -> list[Field]:
    found = []
    ways = ("{}_tap", "{}_taps", "{}_tapping")
    for limb in ("finger", "foot"):
        bases = [way.format(limb) for way in ways]
        means = [base + ending for base in bases for ending in ("", "_mean")]
        found.append(
            Field(f"tapping_{limb}", "tapping", limb, _names(("",), means), _names(("",), (limb,)))
        )
        for side in SIDES:
            sided = _sided(limb, side)
            words = [word for base in bases for word in _sided(base, side)]
            words += [f"tapping_{word}" for word in sided]
            words += [way.format(f"{limb}_{side}") for way in ways]
            item = f"{limb}_{side}"
            clear, own = _names(("",), words), _names(("",), sided)
            found.append(Field(f"tapping_{item}", "tapping", item, clear, own))
    return found


def _ecas_fields() -> list[Field]:
    parts = {
        "specific": ("specific", "als_specific"),
        "nonspecific": ("nonspecific", "non_specific", "als_nonspecific", "als_non_specific"),
        "total": ("total", "total_score"),
    }
    words = {domain: (domain,) for domain in ECAS_PARTS["total"]} | parts
    return [Field(f"ecas_{item}", "ecas", item, _names(("ecas_",), names), _names(("",), names))
            for item, names in words.items()]  # fmt: skip


def _hand_fields() -> list[Field]:
    found = [Field(f"handedness_{side}", "handedness", side, _names(("ehi_", "edinburgh_"),
                                                                    (side, side[0])),
                   _names(("",), (side,))) for side in SIDES]  # fmt: skip
    words = ("lq", "quotient", "laterality_quotient")
    found.append(Field("handedness_quotient", "handedness", "quotient",
                       _names(("ehi_", "handedness_", "edinburgh_"), words) |
                       {"lateralityquotient"}, _names(("",), words)))  # fmt: skip
    return found


@dataclass(frozen=True)
class ColumnMap:
    """Columns that the configuration names: item to column of the user's table."""

    columns: Mapping[str, str]
    fields: Mapping[str, Field]


def parse_columns(options: ClinicalOptions) -> ColumnMap:
    """Check ``[clinical.columns]``: each key is an item, by its name or by one it is known by."""
    fields = item_fields(options)
    by_name = {squeeze(name): name for name in fields}
    for name, entry in fields.items():
        by_name |= {alias: name for alias in entry.anywhere if alias not in by_name}
    columns: dict[str, str] = {}
    for key, column in options.columns.items():
        name = key if key in ("participant_id", "session_id") else by_name.get(squeeze(key), "")
        if not name:
            raise BadInputError(
                f"[clinical.columns] names the item '{key}'{nearest(key, fields)}, which no score "
                "is made of; docs/clinical.md lists the items"
            )
        if name in columns:
            raise BadInputError(
                f"[clinical.columns] gives {name} twice, as {columns[name]} and {column}"
            )
        columns[name] = column
    for tool in options.tables:
        if tool not in FILE_NAMES:
            raise BadInputError(
                f"[clinical.tables] names the tool '{tool}'{nearest(tool, FILE_NAMES)}; tools are "
                f"{', '.join(FILE_NAMES)}"
            )
    return ColumnMap(columns, fields)


def match_columns(source: SourceTable, mapping: ColumnMap) -> dict[str, str]:
    """Columns of one table that hold items: name of the item to column.

    A column that the configuration names is taken before one whose name is known.
    """
    found = {name: column for name, column in mapping.columns.items()
             if column in source.table and name in mapping.fields}  # fmt: skip
    taken = set(found.values()) | {"participant_id", "session_id"}
    flat: dict[str, list[str]] = {}
    for column in source.table.columns:
        if column not in taken:
            flat.setdefault(squeeze(str(column)), []).append(str(column))
    claims: dict[str, list[str]] = {}
    for name, entry in mapping.fields.items():
        if name in found:
            continue
        known = entry.anywhere | (entry.own if entry.tool in source.tools else frozenset())
        columns = sorted(column for alias in known for column in flat.get(alias, ()))
        if len(columns) > 1:
            raise BadInputError(
                f"{source.name}: columns {' and '.join(columns)} may both be {name}; say which "
                f'under [clinical.columns]: {name} = "{columns[0]}"'
            )
        for column in columns:
            claims.setdefault(column, []).append(name)
            found[name] = column
    for column, names in claims.items():
        if len(names) > 1:
            raise BadInputError(
                f"{source.name}: column {column} may be {' or '.join(names)}; say which under "
                f'[clinical.columns]: {names[0]} = "{column}"'
            )
    return found


def require_named(sources: Iterable[SourceTable], mapping: ColumnMap) -> None:
    """Refuse a column that the configuration names and no table has."""
    sources = list(sources)
    for name, column in mapping.columns.items():
        if not any(column in source.table for source in sources):
            have = {str(c) for source in sources for c in source.table.columns}
            raise BadInputError(
                f"[clinical.columns] says that {name} is in the column '{column}'"
                f"{nearest(column, have)}, but none of "
                f"{', '.join(source.name for source in sources) or 'the tables'} has it"
            )


def column_report(sources: Iterable[SourceTable], mapping: ColumnMap) -> pd.DataFrame:
    """Every column of every table and the item that it was taken for; n/a for none."""
    rows = []
    for source in sources:
        items = {column: name for name, column in match_columns(source, mapping).items()}
        rows += [(source.name, str(column), items.get(str(column), "n/a"))
                 for column in source.table.columns
                 if column not in ("participant_id", "session_id")]  # fmt: skip
    return pd.DataFrame(rows, columns=["table", "column", "item"])
