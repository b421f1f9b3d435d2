"""The cohort table: one row per person and session, from every table that tells of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.contradictions import ALIASES, contradictions
from alsflow.nodes.stats.joining import (
    KEYS,
    PEOPLE,
    PERSON,
    SESSION,
    SESSIONS,
    Options,
    Values,
    add_values,
    explained,
    join_text,
    key_values,
    match_people,
    prepare,
    require,
    require_mapped,
)
from alsflow.nodes.stats.participants import (
    Columns,
    Groups,
    People,
    clean_groups,
    clean_labels,
    clean_numbers,
    clean_sex,
    folded,
    is_numeric,
)
from alsflow.nodes.stats.tables import MISSING, Meanings, is_missing

Visit = tuple[str, str]  # participant_id, session_id
Cell = tuple[str, str, str]  # the same and the column


@dataclass(frozen=True)
class Cohort:
    """Everything known of the people of a study, cleaned; unknown cells are None or NaN.

    Attributes
    ----------
    table : DataFrame
        One row per person and session, sorted: ``participant_id``, ``session_id`` (``n/a``
        where there are none), columns of the participants, measures, scores.
    case, reference : str
        Labels of the two groups that are compared.
    factors : tuple of str
        Columns that are categories.
    measures, scores : tuple of str
        Columns that came from those tables.
    reasons : mapping
        ``(participant_id, session_id)`` to why that row can enter no model.
    unknown : mapping
        ``(participant_id, session_id, column)`` to why one cell is not known, where there is more
        to say than that the table has none.
    notes : tuple of str
        What was changed or assumed while reading.
    warnings : tuple of str
        What cannot be right and was kept: contradictions that a person has to look at.
    """

    table: pd.DataFrame
    case: str
    reference: str
    columns: Columns
    factors: tuple[str, ...]
    measures: tuple[str, ...]
    scores: tuple[str, ...]
    reasons: Mapping[Visit, str]
    unknown: Mapping[Cell, str]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def usable(self) -> pd.DataFrame:
        """Rows that can enter models."""
        visits = zip(self.table[PERSON], self.table[SESSION], strict=True)
        return self.table[[visit not in self.reasons for visit in visits]]

    def first_visits(self, usable: bool = True) -> pd.DataFrame:
        """First row of each person with any measure or score, indexed by person."""
        rows = self.usable if usable else self.table
        values = [*self.measures, *self.scores]
        if values:
            rows = rows[rows[values].notna().any(axis=1)]
        return rows.drop_duplicates(PERSON).set_index(PERSON)

    def people(self) -> People:
        """The same as `clean_people` gives: the first row of each person, without values."""
        rows = self.table.drop_duplicates(PERSON).set_index(PERSON)
        first = dict(zip(rows.index, rows[SESSION], strict=True))
        reasons = {p: why for (p, s), why in self.reasons.items() if first[p] == s}
        rows = rows.drop(columns=[SESSION, *self.measures, *self.scores])
        rows.index.name = None
        factors = tuple(name for name in self.factors if name in self.columns.covariates)
        return People(
            rows[list(self.columns.all)], self.case, self.reference, factors, reasons,
            self.notes + self.warnings,
        )  # fmt: skip


def build_cohort(
    participants: pd.DataFrame,
    sessions: pd.DataFrame | None,
    features_wide: pd.DataFrame | None,
    scores_wide: pd.DataFrame | None,
    columns: Columns,
    options: Options | None = None,
) -> Cohort:
    """Join the tables of a study, clean them, and point out what contradicts itself.

    Parameters
    ----------
    participants : DataFrame of str
        One row per person, or per person and session if it has ``session_id``.
    sessions : DataFrame of str, optional
        All ``sessions.tsv`` in one, with ``participant_id`` and ``session_id``. What it knows of
        a session stands before what ``participants.tsv`` says of the person.
    features_wide, scores_wide : DataFrame, optional
        Measures and clinical scores, one column each; ``participant_id``, and ``session_id``
        where there are sessions.
    columns : Columns
        Columns of the models, by our names (after `Options.mapping`).
    options : Options, optional
        Mapping of names, duplicates, codes and units.

    Raises
    ------
    BadInputError
        If rows contradict each other, a column is absent, a cell cannot be read, or values
        cannot be (see `contradictions`).
    """
    options = options or Options()
    notes: list[str] = []
    given = {PEOPLE: participants} | ({} if sessions is None else {SESSIONS: sessions})
    require_mapped(given, columns, options, notes)
    persons = prepare(participants, PEOPLE, columns, options, notes)
    visits = None if sessions is None else prepare(sessions, SESSIONS, columns, options, notes)
    require(persons, visits, columns)
    values = [
        Values(name, key_values(table, name))
        for name, table in (("measures", features_wide), ("scores", scores_wide))
        if table is not None
    ]
    match_people(persons, values, notes)
    meanings = options.meanings_of(columns)
    text = join_text(persons, visits, values, (columns.group, "sex"), notes)
    clean = _clean(text, columns, meanings, notes)
    warnings: list[str] = []
    table, names = add_values(clean.table, values, clean.unknown, notes, warnings)
    checked = contradictions(table, columns.group, clean.groups.reference, meanings.units)
    sources = PEOPLE if visits is None else f"{PEOPLE} and {SESSIONS}"
    return Cohort(
        table=checked.table,
        case=clean.groups.case,
        reference=clean.groups.reference,
        columns=columns,
        factors=_factors(checked.table),
        measures=names.get("measures", ()),
        scores=names.get("scores", ()),
        reasons=_reasons(checked.table, columns, clean, set(persons[PERSON]), sources),
        unknown={**clean.unknown, **checked.unknown},
        notes=tuple(dict.fromkeys(notes)),
        warnings=(*warnings, *checked.warnings),
    )


@dataclass
class _Clean:
    """Cleaned columns of the participants, and why some cells are not known."""

    table: pd.DataFrame
    groups: Groups
    unknown: dict[Cell, str] = field(default_factory=dict)


def _clean(text: pd.DataFrame, columns: Columns, meanings: Meanings, notes: list[str]) -> _Clean:
    """Bring every column of the joined text to one spelling."""
    text = text.assign(**{columns.group: _one_group(text, columns.group, meanings)})
    persons = text.drop_duplicates(PERSON)
    groups = clean_groups(persons[columns.group], columns, list(persons[PERSON]), PEOPLE)
    notes.extend(groups.notes)
    clean = _Clean(text[list(KEYS)].copy(), groups)
    by_person = dict(zip(persons[PERSON], groups.labels, strict=True))
    clean.table[columns.group] = text[PERSON].map(by_person).astype(object)
    for name in [*columns.all[1:], *text.columns.difference([*KEYS, *columns.all], sort=False)]:
        clean.table[name] = _column(text, name, columns, meanings, clean, notes)
    return clean


def _column(
    text: pd.DataFrame,
    name: str,
    columns: Columns,
    meanings: Meanings,
    clean: _Clean,
    notes: list[str],
) -> pd.Series:
    """One cleaned column; those that no model uses are words where they are not all numbers."""
    rows = _row_names(text)
    used = name in columns.all
    cells = text[name]
    levels = meanings.levels.get(name, {})
    if name == "sex":
        sexes, others = clean_sex(cells, rows, levels, PEOPLE)
        clean.unknown |= {
            (*key, name): others[row] for key, row in _keys(text, rows) if row in others
        }
        return _constant(pd.Series(sexes, index=text.index, dtype=object), text, name)
    if name != columns.site and levels:
        cells, coded = explained(cells, levels, name, notes)
        clean.unknown |= {
            (*key, name): why for key, why in zip(_visits(text), coded, strict=True) if why
        }
    if name != columns.site and (name in ALIASES or is_numeric(cells)):
        try:
            values = clean_numbers(cells, name, rows, PEOPLE)
            return pd.Series(values, index=text.index, dtype=float)
        except BadInputError as problem:
            if used or name in ALIASES:
                raise
            notes.append(f"{problem}; no model uses {name}, so it is kept as words")
    return _words(cells, name, columns, notes)


def _words(cells: pd.Series, name: str, columns: Columns, notes: list[str]) -> pd.Series:
    """Labels of one column; NaN where it has none at all."""
    found: list[str] = []
    labels = clean_labels(cells, name, found)
    if name in columns.all:
        notes.extend(found)
    if name in columns.covariates:
        notes.append(f"{name} holds words and enters as a factor")
    if all(label is None for label in labels):
        return pd.Series(np.nan, index=cells.index, dtype=float)
    return pd.Series(labels, index=cells.index, dtype=object)


def _visits(text: pd.DataFrame) -> list[Visit]:
    return list(zip(text[PERSON], text[SESSION], strict=True))


def _keys(text: pd.DataFrame, rows: Sequence[str]) -> list[tuple[Visit, str]]:
    return list(zip(_visits(text), rows, strict=True))


def _row_names(text: pd.DataFrame) -> list[str]:
    """How messages name the rows: the person, and the session where there is one."""
    return [
        person if session == MISSING else f"{person} {session}"
        for person, session in _visits(text)
    ]


def _one_group(text: pd.DataFrame, group: str, meanings: Meanings) -> pd.Series:
    """Group of every row: that of the person, whichever row tells it; codes are explained."""
    levels = meanings.levels.get(group, {})
    words = [levels.get(cell, cell) if cell.isdecimal() else cell for cell in text[group]]
    known = [None if is_missing(word) else word for word in words]
    filled = _constant(pd.Series(known, index=text.index, dtype=object), text, group, folded)
    return filled.where(filled.notna(), MISSING)


def _constant(
    values: pd.Series, text: pd.DataFrame, name: str, key: Callable[[str], str] = str
) -> pd.Series:
    """Fill what cannot change between sessions; refuse people for whom it does."""
    filled = values.copy()
    for person, rows in values[values.notna()].groupby(text[PERSON], sort=False):
        found: dict[str, str] = {}
        for value in rows:
            found.setdefault(key(value), value)
        if len(found) > 1:
            told = " and ".join(f"'{value}'" for value in found.values())
            raise BadInputError(
                f"{name} of {person} is {told} in different rows or tables; mend the wrong one"
            )
        filled[text[PERSON] == person] = next(iter(found.values()))
    return filled


def _factors(table: pd.DataFrame) -> tuple[str, ...]:
    """Columns that are categories."""
    names = [str(name) for name in table.columns if name not in KEYS]
    return tuple(name for name in names if not pd.api.types.is_numeric_dtype(table[name]))


def _reasons(
    table: pd.DataFrame, columns: Columns, clean: _Clean, known: Collection[str], sources: str
) -> dict[Visit, str]:
    """Why a row can enter no model."""
    reasons: dict[Visit, str] = {}
    for row in table[[*KEYS, *columns.all]].to_dict("records"):
        visit = (row[PERSON], row[SESSION])
        unknown = [name for name in columns.all if pd.isna(row[name])]
        told = [
            clean.unknown[(*visit, name)] for name in unknown if (*visit, name) in clean.unknown
        ]
        if visit[0] not in known:
            reasons[visit] = f"is not in {PEOPLE}"
        elif visit[0] in clean.groups.others:
            reasons[visit] = clean.groups.others[visit[0]]
        elif unknown:
            silent = [name for name in unknown if (*visit, name) not in clean.unknown]
            told += [f"{' and '.join(silent)} n/a in {sources}"] if silent else []
            reasons[visit] = "; ".join(told)
    return reasons
