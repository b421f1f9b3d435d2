"""The people of a cohort: ``participants.tsv`` brought to one spelling, doubts refused."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.tables import is_missing, numbers

Dedupe = Literal["error", "exact"]

CONTROL_WORDS = frozenset(
    {
        "control", "controls", "hc", "healthy", "healthy control", "healthy controls", "ctrl",
        "normal control", "normal controls", "healthy volunteer", "healthy volunteers",
    }
)  # fmt: skip
PATIENT_WORDS = frozenset({"als", "als patient", "als patients"})
SEX_WORDS = {
    "m": "male", "male": "male", "man": "male", "males": "male", "men": "male",
    "f": "female", "female": "female", "woman": "female", "females": "female", "women": "female",
}  # fmt: skip
OTHER_SEX = frozenset({"o", "other", "x", "intersex"})  # no sex term can be given to these
UNKNOWN_SEX = frozenset({"u", "unk", "unknown", "?", "not known", "not stated", "missing"})
AGE_MAX = 120.0  # years
AGES = {"age": "an age", "age_at_onset": "an age at onset"}
CLASSES_MAX = 8  # numbered classes that one scale may have; King's stages have 6
NUMERIC = re.compile(r"[+\u2212-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)
SHOWN = 6  # people named in one message


@dataclass(frozen=True)
class Columns:
    """Columns of ``participants.tsv`` that the models use."""

    group: str = "group"
    reference: str = "control"  # empty: a study without a group to compare with
    site: str = "site"  # empty: one centre, no site term
    covariates: tuple[str, ...] = ("age", "sex")
    case: str = ""  # group compared with the reference; empty: ALS, or the only other one

    @property
    def all(self) -> tuple[str, ...]:
        """Every column that has to be there."""
        return (self.group, *([self.site] if self.site else []), *self.covariates)


@dataclass(frozen=True)
class People:
    """Cleaned people: one row each, indexed by ``sub-...``; unknown cells are None or NaN."""

    table: pd.DataFrame
    case: str  # label of the group that is compared with the reference
    reference: str
    factors: tuple[str, ...]  # covariates that are categories
    reasons: Mapping[str, str]  # why a person cannot enter any model
    notes: tuple[str, ...]  # what was changed or assumed while reading


@dataclass(frozen=True)
class Groups:
    """Group of each row, the two labels that are compared, and why other rows are left out."""

    labels: tuple[str | None, ...]
    case: str
    reference: str
    others: Mapping[str, str]  # row to the reason
    notes: tuple[str, ...]


def clean_people(
    table: pd.DataFrame,
    columns: Columns,
    levels: Mapping[str, str],
    *,
    dedupe: Dedupe = "error",
    source: str = "participants.tsv",
) -> People:
    """Bring the columns of the models to one spelling.

    Parameters
    ----------
    table : DataFrame of str
        ``participants.tsv`` as text, as `parse_table` returns it.
    columns : Columns
        Which columns hold what.
    levels : mapping
        Meaning of the codes of the column ``sex`` from ``participants.json``.
    dedupe : {"error", "exact"}
        What becomes of rows that agree cell for cell: refused, or the first is kept with a note.
    source : str
        How messages name the table.

    Notes
    -----
    Sex is read from words (m, male, man, f, female, woman in any case); bare numbers are refused
    unless ``participants.json`` says what they mean, because 0/1 and 1/2 are used both ways.
    Labels of groups and sites that differ only in case or spaces are one label. A site is a name
    even where it is written as a number.
    """
    require_columns(table, columns, source)
    notes: list[str] = []
    ids = identifiers(table["participant_id"], source)
    kept = single_rows(table, ids, source, dedupe, notes)
    ids = [person for person, keep in zip(ids, kept, strict=True) if keep]
    table = table.loc[np.array(kept, dtype=bool)]
    clean = pd.DataFrame(index=ids)
    group = clean_groups(table[columns.group], columns, ids, source)
    clean[columns.group] = list(group.labels)
    notes.extend(group.notes)
    if columns.site:
        clean[columns.site] = clean_labels(table[columns.site], columns.site, notes)
    reasons = dict(group.others)
    factors = []
    for name in columns.covariates:
        if name == "sex":
            clean[name], others = clean_sex(table[name], ids, levels, source)
            reasons = others | reasons
        elif name == "age" or is_numeric(table[name]):
            clean[name] = clean_numbers(table[name], name, ids, source)
        else:
            clean[name] = clean_labels(table[name], name, notes)
            notes.append(f"{name} holds words and enters as a factor")
        if not pd.api.types.is_float_dtype(clean[name]):
            factors.append(name)
    reasons = unknown_cells(clean, columns.all, source) | reasons
    return People(
        clean, group.case, group.reference, tuple(factors), reasons, tuple(dict.fromkeys(notes))
    )


def require_columns(table: pd.DataFrame, columns: Columns, source: str) -> None:
    """Refuse a table without the columns of the models."""
    absent = [name for name in ("participant_id", *columns.all) if name not in table]
    if absent:
        names = ", ".join(table.columns)
        raise BadInputError(
            f"{source} has no column {' and no column '.join(absent)} (it has {names}); "
            "add it, or name the columns to use under [group] in the configuration file "
            '(site = "" where all were scanned at one centre)'
        )
    repeated = [name for name, n in Counter(columns.all).items() if n > 1]
    if repeated:
        raise BadInputError(f"[group] names the column {repeated[0]} twice")


def identifiers(column: pd.Series, source: str, prefix: str = "sub-") -> list[str]:
    """Identifiers with their BIDS prefix, once each way of writing it."""
    for line, cell in column.items():
        if is_missing(cell):
            raise BadInputError(f"{source}, line {line}: {column.name} is empty")
    plain = [cell.strip() for cell in column]
    return [
        prefix + (cell[len(prefix) :] if cell.lower().startswith(prefix) else cell)
        for cell in plain
    ]


def single_rows(
    table: pd.DataFrame, keys: Sequence[str], source: str, dedupe: Dedupe, notes: list[str]
) -> list[bool]:
    """Which rows to keep so that each key has one; rows that contradict each other are refused.

    Parameters
    ----------
    table : (n, ...) DataFrame of str
        Rows as text.
    keys : sequence of n
        Whose row each is: a person, or person and session.
    source : str
        How messages name the table.
    dedupe : {"error", "exact"}
        Whether rows that agree in every cell are refused, or the first of them is kept.
    notes : list
        Gets a sentence for each row that is dropped.
    """
    rows: dict[str, list[int]] = {}
    for position, key in enumerate(keys):
        rows.setdefault(key, []).append(position)
    repeated = {key: places for key, places in rows.items() if len(places) > 1}
    cells = table.drop(columns=["participant_id", "session_id"], errors="ignore")
    for key, places in repeated.items():
        differing = [str(n) for n in cells if cells[n].iloc[places].nunique() > 1]
        if differing:
            name = differing[0]
            told = " and ".join(
                f"'{cells[name].iat[place]}' in line {table.index[place]}" for place in places
            )
            raise BadInputError(
                f"{source} lists {key} more than once with different {', '.join(differing)}: "
                f"{name} is {told}; keep the row that is right"
            )
    if repeated and dedupe == "error":
        raise BadInputError(
            f"{source} lists {few(repeated)} more than once, alike in every cell; keep one row "
            'per person, or set dedupe = "exact"'
        )
    dropped = {place for places in repeated.values() for place in places[1:]}
    if dropped:
        lines = few(str(table.index[place]) for place in sorted(dropped))
        notes.append(f"{source}: repeated rows of {few(repeated)} are left out (line {lines})")
    return [place not in dropped for place in range(len(table))]


def few(names: Iterable[str]) -> str:
    """The first names of a list that may be long."""
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def folded(cell: str) -> str:
    """Spelling by which labels count as the same: without case, underscores and blanks around."""
    return " ".join(cell.replace("_", " ").split()).casefold()


def _resembles(label: str) -> str:
    """Spelling by which labels look alike: without accents, punctuation and leading zeros."""
    plain = unicodedata.normalize("NFKD", folded(label).removesuffix(".0"))
    kept = "".join(letter for letter in plain if letter.isalnum())
    return re.sub(r"(?<!\d)0+(?=\d)", "", kept)


def clean_labels(column: pd.Series, name: str, notes: list[str]) -> list[str | None]:
    """Labels with one spelling each: the most frequent of those that differ only in case.

    Labels that are merged, and those that merely look alike and are kept apart, are named in
    `notes`.
    """
    raw = [None if is_missing(cell) else cell for cell in column]
    spellings: dict[str, Counter[str]] = {}
    seen: dict[str, set[str]] = {}
    for cell in raw:
        if cell is not None:
            spellings.setdefault(folded(cell), Counter())[" ".join(cell.split())] += 1
            seen.setdefault(folded(cell), set()).add(" ".join(cell.split()))
    chosen = {key: max(sorted(found), key=found.__getitem__) for key, found in spellings.items()}
    for key, found in seen.items():
        if len(found) > 1:
            several = ", ".join(f"'{spelling}'" for spelling in sorted(found))
            notes.append(f"{name}: {several} are taken as one, '{chosen[key]}'")
    alike: dict[str, list[str]] = {}
    for label in sorted(chosen.values()):
        alike.setdefault(_resembles(label), []).append(label)
    for labels in alike.values():
        if len(labels) > 1:
            several = ", ".join(f"'{label}'" for label in labels)
            notes.append(
                f"{name}: {several} look alike and are kept apart; give them one spelling if "
                "they are the same"
            )
    return [None if cell is None else chosen[folded(cell)] for cell in raw]


def clean_groups(column: pd.Series, columns: Columns, rows: Sequence[str], source: str) -> Groups:
    """Group of each row, the two that are compared, and the rows of other groups with the reason.

    Parameters
    ----------
    column : (n,) Series of str
        Labels as written.
    columns : Columns
        Names the reference, and the case where there are several.
    rows : sequence of n
        How messages name the rows.
    source : str
        How messages name the table.
    """
    notes: list[str] = []
    labels = clean_labels(column, columns.group, notes)
    counts = Counter(label for label in labels if label is not None)
    controls = _meant(counts, columns.reference, CONTROL_WORDS)
    found = ", ".join(f"'{label}' ({n})" for label, n in sorted(counts.items())) or "nothing"
    if not controls and columns.reference:
        raise BadInputError(
            f"column {columns.group} of {source} holds {found}, but nobody of the "
            f"reference group '{columns.reference}'; name it as reference under [group] in the "
            "configuration file"
        )
    case = _case(counts, controls, columns, found, source)
    cases = _meant(counts, columns.case or case, PATIENT_WORDS if columns.case else frozenset())
    merged = dict.fromkeys(controls, columns.reference) | dict.fromkeys(cases, case)
    groups = [None if label is None else merged.get(label, label) for label in labels]
    compared = f"neither {case} nor {columns.reference}" if columns.reference else f"not {case}"
    others = {
        row: f"{columns.group} is {label}, {compared}"
        for row, label in zip(rows, groups, strict=True)
        if label not in (None, case, columns.reference)
    }
    if others:
        left = Counter(label for label in groups if label not in (None, case, columns.reference))
        several = ", ".join(f"{label} ({n})" for label, n in sorted(left.items()))
        versus = f"{case} is compared with {columns.reference}" if columns.reference else case
        notes.append(f"{columns.group}: {versus}; left out: {several}")
    return Groups(tuple(groups), case, columns.reference, others, tuple(notes))


def _meant(labels: Iterable[str], name: str, words: frozenset[str]) -> set[str]:
    """Labels that say `name`, or any of `words` if `name` is one of them."""
    meant = words if folded(name) in words else {folded(name)}
    return {label for label in labels if folded(label) in meant}


def _case(
    counts: Mapping[str, int], controls: set[str], columns: Columns, found: str, source: str
) -> str:
    """Label of the group that is compared with the reference."""
    cases = set(counts) - controls
    if columns.case:
        if not _meant(cases, columns.case, PATIENT_WORDS):
            raise BadInputError(
                f"column {columns.group} of {source} holds {found}, but nobody of the group "
                f"'{columns.case}', which is to be compared with '{columns.reference}'; name "
                "another as case under [group] in the configuration file"
            )
        return columns.case
    if len(cases) > 1:
        cases = {label for label in cases if folded(label) == "als"}
    if len(cases) != 1:
        raise BadInputError(
            f"column {columns.group} of {source} holds {found}: the group to compare "
            f"with '{columns.reference}' must be called ALS, or be the only other one, or be "
            "named as case under [group] in the configuration file"
        )
    return cases.pop()


def clean_sex(
    column: pd.Series, rows: Sequence[str], levels: Mapping[str, str], source: str
) -> tuple[list[str | None], dict[str, str]]:
    """Sex of each row as ``male`` or ``female``, None where no term can be given.

    Parameters
    ----------
    column : (n,) Series of str
        Words or codes.
    rows : sequence of n
        How messages name the rows.
    levels : mapping
        Meaning of the codes in the JSON beside the table.
    source : str
        How messages name the table.

    Returns
    -------
    sexes : list of n
        ``"male"``, ``"female"`` or None.
    others : dict
        Row to why it cannot enter a model with sex, where the sex is known but no term fits.
    """
    meaning = {_code(code): _sex_word(word) for code, word in levels.items()}
    sexes: list[str | None] = []
    others: dict[str, str] = {}
    doubtful: dict[str, list[str]] = {}
    for row, cell in zip(rows, column, strict=True):
        word = SEX_WORDS.get(folded(cell), "")
        told = meaning.get(_code(cell), "")
        if word and told in ("male", "female") and told != word:
            raise BadInputError(
                f"{source}, {row}: sex is '{cell}', which the JSON beside the table explains as "
                f"{told}; mend one of them"
            )
        word = word or told or folded(cell)
        if word in OTHER_SEX:
            others[row] = f"sex is {cell}, for which the model has no term"
        elif word in UNKNOWN_SEX:
            others[row] = f"sex is '{cell}' in {source}"
        elif word not in SEX_WORDS and not is_missing(cell):
            doubtful.setdefault(cell, []).append(row)
        sexes.append(SEX_WORDS.get(word))
    _refuse_doubtful_sex(doubtful, source)
    return sexes, others


def _refuse_doubtful_sex(doubtful: Mapping[str, Sequence[str]], source: str) -> None:
    if not doubtful:
        return
    cell, rows = next(iter(doubtful.items()))
    others = [f"'{code}' ({len(who)})" for code, who in doubtful.items()][1:]
    more = f" (also {', '.join(others)})" if others else ""
    raise BadInputError(
        f"{source}, {rows[0]}: sex is '{cell}'{more}, which can be read in more than one "
        "way; write F or M, or explain the codes under sex, Levels in participants.json"
    )


def _code(cell: str) -> str:
    """Code without case; whole numbers without sign of plus or empty decimals."""
    code = folded(str(cell)).removeprefix("+")
    return re.sub(r"^(-?\d+)[.,]0+$", r"\1", code)


def _sex_word(description: str) -> str:
    """Sex that a description of a code names: 'Male participants' is male."""
    words = set(re.findall(r"[^\W\d_]+", description.casefold()))
    named = {SEX_WORDS[word] for word in words if word in SEX_WORDS}
    if len(named) == 1:
        return named.pop()
    return "other" if words & OTHER_SEX else "unknown" if words & UNKNOWN_SEX else ""


def is_numeric(column: pd.Series) -> bool:
    """Whether a column is meant to hold numbers; decimal commas count as such.

    It is if every known cell is a number, or most are and they are too many for codes of classes:
    then the other cells are faults, which `clean_numbers` names.
    """
    known = [cell.strip() for cell in column if not is_missing(cell)]
    numeric = [cell for cell in known if NUMERIC.fullmatch(cell)]
    if len(numeric) == len(known):
        return bool(known)
    return len(set(numeric)) > CLASSES_MAX and len(numeric) > len(known) / 2


def clean_numbers(
    column: pd.Series,
    name: str,
    rows: Sequence[str],
    source: str,
    *,
    decimal: str = "",
    percent: bool = False,
) -> list[float]:
    """Numbers of one column; ages that nobody has are refused."""
    values = numbers(
        column.rename(name), source, labels=rows, decimal=decimal, percent=percent
    ).tolist()
    if name in AGES:
        for row, cell, value in zip(rows, column, values, strict=True):
            if value <= 0 or value > AGE_MAX:
                raise BadInputError(
                    f"{source}, {row}: {AGES[name]} of {cell} years cannot be; write n/a where "
                    "it is not known"
                )
    return values


def unknown_cells(clean: pd.DataFrame, names: Sequence[str], source: str) -> dict[str, str]:
    """Per row with an unknown cell: which columns are n/a."""
    reasons = {}
    for row, cells in clean.iterrows():
        unknown = [name for name in names if pd.isna(cells[name])]
        if unknown:
            reasons[str(row)] = f"{' and '.join(unknown)} n/a in {source}"
    return reasons
