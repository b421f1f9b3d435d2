"""Tables of one study brought to the same names and keys, and joined row by row."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.contradictions import ALIASES
from alsflow.nodes.stats.participants import (
    SEX_WORDS,
    Columns,
    Dedupe,
    few,
    folded,
    identifiers,
    single_rows,
)
from alsflow.nodes.stats.tables import (
    MISSING,
    Meanings,
    cell_text,
    is_missing,
    natural_key,
    with_points,
)

PERSON, SESSION = "participant_id", "session_id"
KEYS = (PERSON, SESSION)
PEOPLE, SESSIONS = "participants.tsv", "sessions.tsv"  # how messages name the tables
ROUNDING = 0.01  # relative difference that the digits of a table may explain
PERCENT = ("%", "percent", "per cent")


@dataclass(frozen=True)
class Options:
    """How the tables of a study are to be read.

    Attributes
    ----------
    mapping : mapping
        From our name of a column to that in the tables: ``{"group": "dx"}``.
    dedupe : {"error", "exact"}
        What becomes of rows that agree cell for cell.
    meanings : Meanings
        Codes and units of the columns, by the names in the tables.
    percent : collection of str
        Columns in percent, besides those whose unit says so; a sign may follow their numbers.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    dedupe: Dedupe = "error"
    meanings: Meanings = field(default_factory=Meanings)
    percent: Collection[str] = ()

    def meanings_of(self, columns: Columns) -> Meanings:
        """Codes and units by our names of the columns."""
        wanted = {name_key(name): name for name in columns.all}

        def renamed(entries: Mapping) -> dict:
            ours = {name_key(theirs): name for name, theirs in self.mapping.items()}
            names = wanted | ours
            return {**entries, **{names.get(name_key(k), k): v for k, v in entries.items()}}

        return Meanings(renamed(self.meanings.levels), renamed(self.meanings.units))


@dataclass(frozen=True)
class Values:
    """Measures or scores by person and session."""

    name: str  # measures or scores
    table: pd.DataFrame

    @property
    def columns(self) -> list[str]:
        """Names of the values."""
        return [name for name in self.table.columns if name not in KEYS]


def name_key(name: str) -> str:
    """Spelling by which names of columns count as the same."""
    return re.sub(r"[\s_.-]+", "_", name.strip()).casefold()


def prepare(
    table: pd.DataFrame, source: str, columns: Columns, options: Options, notes: list[str]
) -> pd.DataFrame:
    """One table of text under our names, with clean keys, decimal points and single rows.

    Parameters
    ----------
    table : DataFrame of str
        As `parse_table` or `read_any_table` gives it.
    source : str
        How messages name it.
    columns, options
        Which columns are used, and how they are called.
    notes : list
        Gets what was renamed or left out.
    """
    sign = table.attrs.get("decimal", "")
    notes.extend(table.attrs.get("notes", ()))
    table = rename_columns(_as_text(table), (*KEYS, *columns.all), options.mapping, source, notes)
    if PERSON not in table:
        raise BadInputError(_absent([PERSON], table, source))
    table = table.assign(**{PERSON: identifiers(table[PERSON], source)})
    keys = list(table[PERSON])
    if SESSION in table:
        table[SESSION] = [_session(cell) for cell in table[SESSION]]
        keys = [f"{p} {s}" for p, s in zip(table[PERSON], table[SESSION], strict=True)]
    kept = single_rows(table, keys, source, options.dedupe, notes)
    table = table.loc[np.array(kept, dtype=bool)].copy()
    return _plain_numbers(table, source, sign, columns, options, notes)


def _plain_numbers(
    table: pd.DataFrame,
    source: str,
    sign: str,
    columns: Columns,
    options: Options,
    notes: list[str],
) -> pd.DataFrame:
    """Table without decimal commas, and without signs of per cent where they are told."""
    units = options.meanings_of(columns).units
    commas: list[str] = []
    for name in table.columns.difference([*KEYS, columns.group, columns.site], sort=False):
        if name in options.percent or units.get(name, "").casefold() in PERCENT:
            table[name] = table[name].str.strip().str.removesuffix("%").str.rstrip()
        cells = table[name]
        table[name] = _points(table, name, source, sign, used=name in columns.all)
        if (table[name] != cells).any():
            commas.append(str(name))
    if commas:
        notes.append(f"{source}: decimal commas in {few(commas)}")
    return table


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Table of clean text, also where it was given with numbers."""
    cells = {name: [cell_text(value) for value in table[name]] for name in table.columns}
    return pd.DataFrame(cells, index=table.index, columns=table.columns, dtype=object)


def _session(cell: str) -> str:
    return MISSING if is_missing(cell) else "ses-" + cell.strip().removeprefix("ses-")


def _points(table: pd.DataFrame, name: str, source: str, sign: str, *, used: bool) -> pd.Series:
    """Column with decimal points; doubts about those that no model uses are left alone."""
    try:
        return with_points(table[name], source, labels=list(table[PERSON]), decimal=sign)
    except BadInputError:
        if used or any(name in (ours, *others) for ours, others in ALIASES.items()):
            raise
        return table[name]


def rename_columns(
    table: pd.DataFrame,
    wanted: Sequence[str],
    mapping: Mapping[str, str],
    source: str,
    notes: list[str],
) -> pd.DataFrame:
    """Table with our names of columns: those of `mapping`, and those that differ only in case.

    Parameters
    ----------
    table : DataFrame
        Columns under the names that people gave them.
    wanted : sequence of str
        Our names.
    mapping : mapping
        From our name to theirs.
    source : str
        How messages name the table.
    notes : list
        Gets a sentence for each column that is read under another name.
    """
    renamed = _mapped(table, mapping, source)
    lost = [ours for theirs, ours in renamed.items() if ours in table and ours not in renamed]
    for theirs, ours in renamed.items():
        if ours in lost:
            notes.append(f"{source}: {ours} is taken from {theirs}; its own {ours} is left out")
    table = table.drop(columns=lost)
    for ours in wanted:
        there = ours in renamed.values() or (ours in table and ours not in renamed)
        found = "" if there else _like(table, ours, source)
        if found and found not in renamed:
            renamed[found] = ours
            notes.append(f"{source}: the column '{found}' is taken for {ours}")
    return table.rename(columns=renamed)


def _mapped(table: pd.DataFrame, mapping: Mapping[str, str], source: str) -> dict[str, str]:
    """Columns of `table` that `mapping` names, each with our name."""
    renamed: dict[str, str] = {}
    for ours, theirs in mapping.items():
        found = _like(table, theirs, source)
        if found in renamed:
            raise BadInputError(
                f"[group.columns] takes both {renamed[found]} and {ours} from the column {found}"
            )
        if found and found != ours:
            renamed[found] = ours
    return renamed


def _like(table: pd.DataFrame, name: str, source: str) -> str:
    """The column called `name`, give or take case, blanks and underscores; empty if none is."""
    if name in table:
        return name
    alike = [column for column in table.columns if name_key(str(column)) == name_key(name)]
    if len(alike) > 1:
        raise BadInputError(
            f"{source} has the columns {' and '.join(alike)}; name the one to use under "
            "[group.columns] in the configuration file"
        )
    return alike[0] if alike else ""


def require_mapped(
    tables: Mapping[str, pd.DataFrame], columns: Columns, options: Options, notes: list[str]
) -> None:
    """Refuse a mapping to columns that no table has; for columns that no model uses, say so."""
    for ours, theirs in options.mapping.items():
        if any(_like(table, theirs, source) for source, table in tables.items()):
            continue
        if ours in (PERSON, *columns.all):
            source, table = next(iter(tables.items()))
            raise BadInputError(
                f"{source} has no column '{theirs}', from which [group.columns] takes {ours} "
                f"(it has {', '.join(map(str, table.columns))}); mend the name there"
            )
        notes.append(
            f"no table has the column '{theirs}', from which [group.columns] takes {ours}"
        )


def require(persons: pd.DataFrame, visits: pd.DataFrame | None, columns: Columns) -> None:
    """Refuse tables without the columns of the models."""
    there = set(persons.columns) | set(() if visits is None else visits.columns)
    absent = [name for name in columns.all if name not in there]
    if absent:
        raise BadInputError(_absent(absent, persons, PEOPLE))
    repeated = sorted({name for name in columns.all if columns.all.count(name) > 1})
    if repeated:
        raise BadInputError(f"the column {repeated[0]} is used twice in the model")
    if visits is not None and SESSION not in visits:
        raise BadInputError(f"{SESSIONS} has no column {SESSION}")


def _absent(names: Sequence[str], table: pd.DataFrame, source: str) -> str:
    return (
        f"{source} has no column {' and no column '.join(names)} (it has "
        f"{', '.join(map(str, table.columns))}); add it, or say in the configuration file which "
        f'column holds it: [group.columns] {names[0]} = "..." (site = "" under [group] where all '
        "were scanned at one centre)"
    )


def key_values(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Values with clean keys, one row per person and session."""
    source = f"the table of {name}"
    table = table.reset_index() if table.index.name == PERSON else table.reset_index(drop=True)
    if PERSON not in table:
        raise BadInputError(f"{source} has no column {PERSON}")
    persons = identifiers(table[PERSON].astype(str), source)
    sessions = [_session(str(cell)) for cell in table.get(SESSION, [MISSING] * len(table))]
    keys = [f"{p} {s}" for p, s in zip(persons, sessions, strict=True)]
    table = table.assign(**{PERSON: persons, SESSION: sessions})
    single_rows(table, keys, source, "error", [])
    return table


def match_people(persons: pd.DataFrame, values: Sequence[Values], notes: list[str]) -> None:
    """Refuse values of nobody in the table; name people whose identifiers nearly match."""
    known = set(persons[PERSON])
    for value in values:
        measured = set(value.table[PERSON])
        strangers = sorted(measured - known, key=natural_key)
        plain = {_plain(person): person for person in sorted(known - measured)}
        near = [f"{person} ({plain[_plain(person)]} there)" for person in strangers
                if _plain(person) in plain]  # fmt: skip
        hint = f"; {few(near)} may have lost zeros in a spreadsheet" if near else ""
        if measured and not measured & known:
            raise BadInputError(
                f"nobody of the table of {value.name} is in {PEOPLE} ({few(strangers)} against "
                f"{few(sorted(known, key=natural_key))}){hint}; write the identifiers alike"
            )
        if strangers:
            notes.append(f"{few(strangers)} of the {value.name} not in {PEOPLE}{hint}")


def _plain(person: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", person.casefold())


def join_text(
    persons: pd.DataFrame,
    visits: pd.DataFrame | None,
    values: Sequence[Values],
    constant: Sequence[str],
    notes: list[str],
) -> pd.DataFrame:
    """One row of text per person and session; what is said of a session stands first.

    A person without any session has one row with the session ``n/a``. Of the columns `constant`
    both tables have to say the same.
    """
    rows = _visit_rows(persons, visits, values)
    if visits is not None:
        _compare(persons, visits, constant, notes)
    names = list(persons.columns.difference(list(KEYS), sort=False))
    if visits is not None:
        names += [name for name in visits.columns if name not in (*KEYS, *names)]
    tables = [persons] if visits is None else [persons, visits]
    told = [dict(zip(_keys(t), t.to_dict("records"), strict=True)) for t in tables]
    cells = []
    for person, session in rows:
        line = dict.fromkeys(names, MISSING)
        for table in told:
            for key in ((person, MISSING), (person, session)):
                given = {str(name): cell for name, cell in table.get(key, {}).items()}
                line |= {name: cell for name, cell in given.items() if not is_missing(cell)}
        cells.append(line | {PERSON: person, SESSION: session})
    return pd.DataFrame(cells, columns=[*KEYS, *names], dtype=object)


def _compare(
    persons: pd.DataFrame, visits: pd.DataFrame, constant: Sequence[str], notes: list[str]
) -> None:
    """Refuse tables that disagree on what cannot change; note where they differ otherwise."""
    both = [n for n in visits.columns if n in persons and n not in KEYS]
    for name in both:
        of_person = dict(zip(persons[PERSON], persons[name], strict=True))
        differing = []
        for person, cell in zip(visits[PERSON], visits[name], strict=True):
            other = of_person.get(person, MISSING)
            if is_missing(cell) or is_missing(other) or _spelled(cell) == _spelled(other):
                continue
            if name in constant:
                raise BadInputError(
                    f"{name} of {person} is '{other}' in {PEOPLE} but '{cell}' in {SESSIONS}; "
                    "mend the wrong one"
                )
            differing.append(person)
        if differing and SESSION not in persons:
            notes.append(
                f"{name} of {few(differing)} differs between {PEOPLE} and {SESSIONS}; that of the "
                "session is used"
            )


def _spelled(cell: str) -> str:
    return SEX_WORDS.get(folded(cell), folded(cell))


def _keys(table: pd.DataFrame) -> list[tuple[str, str]]:
    sessions = table[SESSION] if SESSION in table else [MISSING] * len(table)
    return list(zip(table[PERSON], sessions, strict=True))


def _visit_rows(
    persons: pd.DataFrame, visits: pd.DataFrame | None, values: Sequence[Values]
) -> list[tuple[str, str]]:
    """Every person and session that any table knows, sorted as people count."""
    tables = [persons, *(value.table for value in values)]
    if visits is not None:
        tables.append(visits)
    found: dict[str, set[str]] = {}
    for table in tables:
        for person, session in _keys(table):
            found.setdefault(person, set()).add(session)
    return [
        (person, session)
        for person in sorted(found, key=natural_key)
        for session in sorted((found[person] - {MISSING}) or {MISSING}, key=natural_key)
    ]


def explained(
    cells: pd.Series, levels: Mapping[str, str], name: str, notes: list[str]
) -> tuple[pd.Series, list[str]]:
    """Codes in words as the JSON beside the table explains them.

    Returns
    -------
    cells : Series of str
        Words in place of bare numbers if the column holds codes. If it holds numbers of which a
        few are codes (``-1``: not tested), these become n/a.
    coded : list of str
        For each row why its code is unknown; empty where it is not.
    """
    known = {cell for cell in cells if not is_missing(cell)}
    codes = {cell for cell in known if cell in levels}
    coded = [""] * len(cells)
    if not codes or not all(re.fullmatch(r"[+-]?[\d.,]+", cell) for cell in known):
        return cells, coded
    strange = sorted(known - codes, key=natural_key)
    if len(strange) > len(codes):  # a measurement, not a list of codes
        coded = [f"{name} {c}: {levels[c]}" if c in codes else "" for c in cells]
        return cells.where(~cells.isin(codes), MISSING), coded
    if strange:
        notes.append(f"{name}: the codes {few(strange)} are not explained and taken as unknown")
    coded = [f"{name} {c} is not explained" if c in strange else "" for c in cells]
    return cells.map(lambda cell: levels.get(cell, MISSING)), coded


def add_values(
    table: pd.DataFrame,
    values: Sequence[Values],
    unknown: dict[tuple[str, str, str], str],
    notes: list[str],
    warnings: list[str],
) -> tuple[pd.DataFrame, dict[str, tuple[str, ...]]]:
    """Table with the columns of measures and scores, and their names.

    A score that stands among the participants too takes its place; `warnings` names people for
    whom the two differ by more than rounding.

    Values without a session belong to the first session of a person; `notes` says so, and
    `unknown` why the others have none.
    """
    names: dict[str, tuple[str, ...]] = {}
    sessions = table.groupby(PERSON, sort=False)[SESSION].agg(list).to_dict()
    for value in values:
        several = []
        placed = []
        for person, session in _keys(value.table):
            first, *later = sessions[person]
            placed.append(first if session == MISSING else session)
            if session == MISSING and later:
                several.append(person)
                why = f"the table of {value.name} names no session"
                unknown |= {(person, s, name): why for s in later for name in value.columns}
        frame = value.table.assign(**{SESSION: placed})
        if several:
            notes.append(
                f"{value.name} of {few(several)} name no session and are taken for the first"
            )
        twice = frame.duplicated(list(KEYS))
        if twice.any():
            row = frame[twice].iloc[0]
            raise BadInputError(
                f"the table of {value.name} has values of {row[PERSON]} with and without a session"
            )
        table = _merge(table, frame, value, notes, warnings)
        names[value.name] = tuple(value.columns)
    return table, names


def _merge(
    table: pd.DataFrame,
    frame: pd.DataFrame,
    value: Values,
    notes: list[str],
    warnings: list[str],
) -> pd.DataFrame:
    """Add columns; scores take the place of those of the participants, gaps apart."""
    both = [name for name in value.columns if name in table]
    if both and value.name == "measures":
        raise BadInputError(
            f"the column {both[0]} of {PEOPLE} has the name of a measure; rename it, and its "
            "entry under [group.columns]"
        )
    merged = table.merge(frame, on=list(KEYS), how="left", suffixes=(" given", ""), sort=False)
    for name in both:
        given, score = merged.pop(f"{name} given"), merged[name]
        if not (pd.api.types.is_numeric_dtype(given) and pd.api.types.is_numeric_dtype(score)):
            notes.append(f"{name} is the score, not the column of {PEOPLE}")
            continue
        merged[name] = score.where(score.notna(), given)
        apart = (given - score).abs() > ROUNDING * score.abs()
        for place in map(int, np.flatnonzero(apart)):
            warnings.append(
                f"{merged[PERSON].iat[place]}: {name} is {given.iat[place]:g} in {PEOPLE}, but "
                f"{score.iat[place]:.6g} by its items; the latter is used"
            )
    return merged
