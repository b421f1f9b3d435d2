"""The people of a cohort: ``participants.tsv`` brought to one spelling, doubts refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.tables import is_missing, number

CONTROL_WORDS = frozenset({"control", "controls", "hc", "healthy", "healthy control"})
SEX_WORDS = {
    "m": "male", "male": "male", "man": "male",
    "f": "female", "female": "female", "woman": "female",
}  # fmt: skip
OTHER_SEX = frozenset({"o", "other"})  # BIDS' third answer: no sex term can be given to it
AGE_MAX = 120.0  # years


@dataclass(frozen=True)
class Columns:
    """Columns of ``participants.tsv`` that the models use."""

    group: str = "group"
    reference: str = "control"
    site: str = "site"  # empty: one centre, no site term
    covariates: tuple[str, ...] = ("age", "sex")

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


def clean_people(table: pd.DataFrame, columns: Columns, levels: Mapping[str, str]) -> People:
    """Bring the columns of the models to one spelling.

    Parameters
    ----------
    table : DataFrame of str
        ``participants.tsv`` as text, as `parse_table` returns it.
    columns : Columns
        Which columns hold what.
    levels : mapping
        Meaning of the codes of the column ``sex`` from ``participants.json``.

    Notes
    -----
    Sex is read from words (m, male, man, f, female, woman in any case); bare numbers are refused
    unless ``participants.json`` says what they mean, because 0/1 and 1/2 are used both ways.
    Labels of groups and sites that differ only in case or spaces are one label. A site is a name
    even where it is written as a number.
    """
    _require(table, columns)
    ids = _identifiers(table["participant_id"])
    notes: list[str] = []
    clean = pd.DataFrame(index=ids)
    group, case, reference, others = _groups(table, columns, ids)
    clean[columns.group] = group
    if columns.site:
        clean[columns.site] = _labels(table[columns.site], columns.site, notes)
    factors = []
    for name in columns.covariates:
        if name == "sex":
            clean[name] = _sex(table[name], ids, levels)
        elif name == "age" or _is_numeric(table[name]):
            clean[name] = _numbers(table[name], name, ids)
        else:
            clean[name] = _labels(table[name], name, notes)
            notes.append(f"{name} holds words and enters as a factor")
        if not pd.api.types.is_float_dtype(clean[name]):
            factors.append(name)
    reasons = _reasons(clean, columns) | _other_sex(table, columns, ids) | others
    return People(clean, case, reference, tuple(factors), reasons, tuple(notes))


def _require(table: pd.DataFrame, columns: Columns) -> None:
    absent = [name for name in ("participant_id", *columns.all) if name not in table]
    if absent:
        names = ", ".join(table.columns)
        raise BadInputError(
            f"participants.tsv has no column {' and no column '.join(absent)} (it has {names}); "
            "add it, or name the columns to use under [group] in the configuration file "
            '(site = "" where all were scanned at one centre)'
        )
    repeated = [name for name, n in Counter(columns.all).items() if n > 1]
    if repeated:
        raise BadInputError(f"[group] names the column {repeated[0]} twice")


def _identifiers(column: pd.Series) -> list[str]:
    ids = ["sub-" + cell.removeprefix("sub-") for cell in column]
    for line, cell in column.items():
        if is_missing(cell):
            raise BadInputError(f"participants.tsv, line {line}: participant_id is empty")
    repeated = [person for person, n in Counter(ids).items() if n > 1]
    if repeated:
        raise BadInputError(
            f"participants.tsv lists {', '.join(repeated)} more than once; keep one row per person"
        )
    return ids


def _folded(cell: str) -> str:
    return " ".join(cell.replace("_", " ").split()).casefold()


def _labels(column: pd.Series, name: str, notes: list[str]) -> list[str | None]:
    """Labels with one spelling each: the most frequent of those that differ only in case."""
    cells = [" ".join(cell.split()) for cell in column]
    spellings: dict[str, Counter[str]] = {}
    for cell in cells:
        if not is_missing(cell):
            spellings.setdefault(_folded(cell), Counter())[cell] += 1
    chosen = {key: max(sorted(found), key=found.__getitem__) for key, found in spellings.items()}
    for key, found in spellings.items():
        if len(found) > 1:
            several = ", ".join(f"'{spelling}'" for spelling in sorted(found))
            notes.append(f"{name}: {several} are taken as one, '{chosen[key]}'")
    return [None if is_missing(cell) else chosen[_folded(cell)] for cell in cells]


def _groups(
    table: pd.DataFrame, columns: Columns, ids: list[str]
) -> tuple[list[str | None], str, str, dict[str, str]]:
    """Group of each person, the two labels, and the people of other groups with the reason."""
    labels = _labels(table[columns.group], columns.group, [])
    counts = Counter(label for label in labels if label is not None)
    words = {_folded(columns.reference)}
    if words <= CONTROL_WORDS:
        words = set(CONTROL_WORDS)
    controls = {label for label in counts if _folded(label) in words}
    cases = {label for label in counts if label not in controls}
    found = ", ".join(f"'{label}' ({n})" for label, n in sorted(counts.items())) or "nothing"
    if not controls:
        raise BadInputError(
            f"column {columns.group} of participants.tsv holds {found}, but nobody of the "
            f"reference group '{columns.reference}'; name it as reference under [group] in the "
            "configuration file"
        )
    if len(cases) > 1:
        cases = {label for label in cases if _folded(label) == "als"}
    if len(cases) != 1:
        raise BadInputError(
            f"column {columns.group} of participants.tsv holds {found}: the group to compare "
            f"with '{columns.reference}' must be called ALS, or be the only other one"
        )
    case = cases.pop()
    groups = [columns.reference if label in controls else label for label in labels]
    others = {
        person: f"{columns.group} is {label}, neither {case} nor {columns.reference}"
        for person, label in zip(ids, groups, strict=True)
        if label not in (None, case, columns.reference)
    }
    return groups, case, columns.reference, others


def _sex(column: pd.Series, ids: list[str], levels: Mapping[str, str]) -> list[str | None]:
    meaning = {_folded(str(code)): _folded(str(word)) for code, word in levels.items()}
    sexes: list[str | None] = []
    for person, cell in zip(ids, column, strict=True):
        word = _folded(cell)
        word = word if word in SEX_WORDS else meaning.get(word, word)
        if is_missing(cell) or word in OTHER_SEX:
            sexes.append(None)
        elif word in SEX_WORDS:
            sexes.append(SEX_WORDS[word])
        else:
            raise BadInputError(
                f"participants.tsv, {person}: sex is '{cell}', which can be read in more than one "
                "way; write F or M, or explain the codes under sex, Levels in participants.json"
            )
    return sexes


def _other_sex(table: pd.DataFrame, columns: Columns, ids: list[str]) -> dict[str, str]:
    """People whose sex is known, but too rare a level to be a term of a model."""
    if "sex" not in columns.covariates:
        return {}
    return {
        person: f"sex is {cell}, for which the model has no term"
        for person, cell in zip(ids, table["sex"], strict=True)
        if _folded(cell) in OTHER_SEX
    }


def _is_numeric(column: pd.Series) -> bool:
    known = [cell for cell in column if not is_missing(cell)]
    try:
        return bool(known) and all(abs(float(cell)) >= 0 for cell in known)
    except ValueError:
        return False


def _numbers(column: pd.Series, name: str, ids: Iterable[str]) -> list[float]:
    values = []
    for person, cell in zip(ids, column, strict=True):
        value = number(cell, f"participants.tsv, {person}, {name}")
        if name == "age" and (value <= 0 or value > AGE_MAX):
            raise BadInputError(
                f"participants.tsv, {person}: an age of {cell} years cannot be; write n/a where "
                "it is not known"
            )
        values.append(value)
    return values


def _reasons(clean: pd.DataFrame, columns: Columns) -> dict[str, str]:
    """Per person with an unknown cell: which columns of participants.tsv are n/a."""
    reasons = {}
    for person, row in clean.iterrows():
        unknown = [name for name in columns.all if pd.isna(row[name])]
        if unknown:
            reasons[str(person)] = f"{' and '.join(unknown)} n/a in participants.tsv"
    return reasons
