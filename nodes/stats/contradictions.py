"""What the columns of a person say about each other, and cannot both be true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.tables import MISSING

MONTHS = 12.0  # per year
DURATION_TOLERANCE = 1.0  # years between age minus age at onset and the duration given
ALSFRS_R_MAX = 48  # points; twelve items of 0 to 4 (Cedarbaum 1999, 10.1016/S0022-510X(99)00210-5)
# Other names that tables have for the columns compared here.
ALIASES = {
    "age": (),
    "age_at_onset": ("age_onset", "onset_age"),
    "disease_duration": ("symptom_duration", "duration"),
    "alsfrs_r": ("alsfrs_r_total", "alsfrsr_total", "alsfrsr", "alsfrs"),
}
UNIT_MIN = 5  # people from whom a wrong unit can be told
LIKELY_AGES = (18.0, 100.0)  # years, of people in a study of ALS in adults
YEARS = ("y", "yr", "yrs", "year", "years", "a")


@dataclass(frozen=True)
class Checked:
    """Table after the checks, what they set to unknown, and what they warn of."""

    table: pd.DataFrame
    unknown: Mapping[tuple[str, str, str], str]
    warnings: tuple[str, ...]


def contradictions(
    table: pd.DataFrame, group: str, reference: str, units: Mapping[str, str]
) -> Checked:
    """Compare ages, durations and scores of each row.

    Parameters
    ----------
    table : (n, ...) DataFrame
        ``participant_id``, ``session_id`` and any of ``age``, ``age_at_onset`` (years),
        ``disease_duration`` (months, or years where `units` says so), ``alsfrs_r`` (points).
        ``ALIASES`` has other names that are understood.
    group, reference : str
        Column of the groups, and the label of those who are not ill.
    units : mapping
        Unit of each column.

    Raises
    ------
    BadInputError
        Where a value is impossible: an age below that at onset, an ALSFRS-R outside 0 to 48.
    """
    names = {ours: _present(table, ours) for ours in ALIASES}
    _refuse_totals(table, names["alsfrs_r"])
    warnings = _unlikely(table, names["age"]) + _unlikely(table, names["age_at_onset"])
    warnings += _young(table, names["age"], names["age_at_onset"])
    table, unknown, negative = _without_negative(table, names["disease_duration"])
    warnings += negative
    warnings += _durations(table, names, units)
    warnings += _ill_controls(table, group, reference, names)
    warnings += _backwards(table, names["age"])
    return Checked(table, unknown, tuple(warnings))


def _present(table: pd.DataFrame, ours: str) -> str:
    """Name under which `table` has a column of numbers, empty where it has none."""
    for name in (ours, *ALIASES[ours]):
        if name in table and pd.api.types.is_float_dtype(table[name]):
            return name
    return ""


def row_name(row: pd.Series) -> str:
    """Person, and session where there is one."""
    session = "" if row["session_id"] == MISSING else f" {row['session_id']}"
    return f"{row['participant_id']}{session}"


def _refuse_totals(table: pd.DataFrame, total: str) -> None:
    if not total:
        return
    wrong = table[(table[total] > ALSFRS_R_MAX) | (table[total] < 0)]
    if len(wrong):
        told = ", ".join(f"{row_name(row)} ({row[total]:g})" for _, row in wrong.iterrows())
        raise BadInputError(
            f"{total} of {told} lies outside 0 to {ALSFRS_R_MAX}; mend it, or write n/a where it "
            "is not known"
        )


def _unlikely(table: pd.DataFrame, age: str) -> list[str]:
    """Ages that are possible, but hardly so in a study of adults."""
    if not age:
        return []
    low, high = LIKELY_AGES
    rows = table[(table[age] < low) | (table[age] > high)].drop_duplicates("participant_id")
    return [
        f"{row_name(row)}: {age} {row[age]:g} lies outside {low:g} to {high:g} years"
        for _, row in rows.iterrows()
    ]


def _young(table: pd.DataFrame, age: str, onset: str) -> list[str]:
    """Refuse ages below the age at onset; within one year whole ages may be rounded."""
    if not (age and onset):
        return []
    young = table[table[age] < table[onset]]
    rounded = (young[age] % 1 == 0) & (young[onset] - young[age] < 1)
    wrong = young[~rounded]
    if len(wrong):
        told = ", ".join(
            f"{row_name(row)} (age {row[age]:g}, onset at {row[onset]:g})"
            for _, row in wrong.iterrows()
        )
        raise BadInputError(
            f"{age} lies below {onset} for {told}; mend one, or write n/a where it is not known"
        )
    return [
        f"{row_name(row)}: {age} {row[age]:g} lies below {onset} {row[onset]:g}, which rounding "
        "may explain"
        for _, row in young.iterrows()
    ]


def _without_negative(
    table: pd.DataFrame, name: str
) -> tuple[pd.DataFrame, dict[tuple[str, str, str], str], list[str]]:
    """Durations below zero become unknown, with a warning."""
    if not name:
        return table, {}, []
    negative = table[name] < 0
    unknown = {
        (row["participant_id"], row["session_id"], name): f"{name} of {row[name]:g} cannot be"
        for _, row in table[negative].iterrows()
    }
    warnings = [
        f"{row_name(row)}: {name} is {row[name]:g}, which cannot be; it is taken as unknown"
        for _, row in table[negative].iterrows()
    ]
    warnings += [
        f"{row_name(row)}: {name} is 0, so that a rate of decline cannot be told"
        for _, row in table[table[name] == 0].iterrows()
    ]
    return table.assign(**{name: table[name].mask(negative, np.nan)}), unknown, warnings


def _durations(
    table: pd.DataFrame, names: Mapping[str, str], units: Mapping[str, str]
) -> list[str]:
    """Durations that the ages contradict, at the first row of each person."""
    age, onset, duration = names["age"], names["age_at_onset"], names["disease_duration"]
    if not (age and onset and duration):
        return []
    first = table.drop_duplicates("participant_id")
    in_years = units.get(duration, "").casefold() in YEARS
    scale = 1.0 if in_years else MONTHS
    by_age = first[age] - first[onset]
    apart = (by_age - first[duration] / scale).abs()
    wrong = apart > DURATION_TOLERANCE
    if _other_unit(by_age, first[duration], wrong, in_years):
        unit, other = ("years", "months") if in_years else ("months", "years")
        return [
            f"{duration} disagrees with {age} minus {onset} for {int(wrong.sum())} of "
            f"{int(apart.notna().sum())} people when read in {unit}, and agrees when read in "
            f"{other}; write its unit as Units in participants.json"
        ]
    return [
        f"{row_name(row)}: {age} {row[age]:g} minus {onset} {row[onset]:g} is "
        f"{row[age] - row[onset]:.2f} years, but {duration} is {row[duration] / scale:.2f} years"
        for _, row in first[wrong].iterrows()
    ]


def _other_unit(by_age: pd.Series, duration: pd.Series, wrong: pd.Series, in_years: bool) -> bool:
    """Whether most durations would agree if they were in the other unit."""
    other = duration / (MONTHS if in_years else 1.0)
    known = (by_age - other).abs().dropna()
    agree = (known <= DURATION_TOLERANCE).sum()
    return len(known) >= UNIT_MIN and wrong.sum() > len(known) / 2 and agree > 0.9 * len(known)


def _ill_controls(
    table: pd.DataFrame, group: str, reference: str, names: Mapping[str, str]
) -> list[str]:
    """People of the reference group with an onset or a duration."""
    found = [names[name] for name in ("age_at_onset", "disease_duration") if names[name]]
    first = table[table[group] == reference].drop_duplicates("participant_id")
    return [
        f"{row_name(row)} is of the group {reference}, but has {name} {row[name]:g}"
        for name in found
        for _, row in first[first[name].notna()].iterrows()
    ]


def _backwards(table: pd.DataFrame, age: str) -> list[str]:
    """People who get younger from one session to the next."""
    if not age:
        return []
    return [
        f"{person}: {age} goes down over the sessions ({', '.join(map('{:g}'.format, ages))})"
        for person, ages in table[table[age].notna()].groupby("participant_id", sort=False)[age]
        if (np.diff(ages) < 0).any()
    ]
