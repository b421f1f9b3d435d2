"""How many people fall out, of which site and group, and why: the counts that go with a result."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from alsflow.nodes.stats.catalogue import Catalogue
from alsflow.nodes.stats.participants import Columns, People
from alsflow.nodes.stats.tables import MISSING, natural_key

COLUMNS = [
    "family", "stream", "site", "group", "n_people", "n_usable", "n_incomplete", "n_excluded",
    "reasons",
]  # fmt: skip
NUMBER = re.compile(r"(?<![\w.])(?:\d+(?:\.\d+)?|\.\d+)(?!\w)")  # not that of T1w
UNPROCESSED = "no table of measures: not processed yet"


def missing_per_site(
    lacking: pd.Series, rows: pd.DataFrame, people: People, columns: Columns
) -> str:
    """People without a usable value as ``A: 2 of 6 ALS, 0 of 6 control; B: ...``.

    Parameters
    ----------
    lacking : Series of bool
        Whether a person lacks it.
    rows : DataFrame
        The people with complete covariates, same index.
    people, columns
        Names of the groups, and of the columns of group and site; without one for the site the
        groups stand alone.
    """

    def counts(members: pd.DataFrame) -> str:
        parts = []
        for group in (people.case, people.reference):
            here = lacking[members.index[members[columns.group] == group]]
            parts.append(f"{int(here.sum())} of {len(here)} {group}")
        return ", ".join(parts)

    if not columns.site:
        return counts(rows)
    sites = [f"{site}: {counts(part)}" for site, part in rows.groupby(columns.site, sort=True)]
    return "; ".join(sites) or MISSING


def attrition_table(
    wide: pd.DataFrame,
    people: People,
    columns: Columns,
    catalogue: Catalogue,
    missing: Mapping[tuple[str, str], str],
    states: Mapping[tuple[str, str], str],
) -> pd.DataFrame:
    """Count for each family of measures, site and group who has a usable value.

    Everybody in participants.tsv who is of one of the two groups counts, covariates or not.

    Parameters
    ----------
    wide : DataFrame
        One row per person: participant_id, session_id, one column per measure; unusable is NaN.
    people, columns
        Cleaned participants, and the columns of group and site.
    catalogue : Catalogue
        Families and streams.
    missing : mapping
        Reason for each (person, measure) without a usable value.
    states : mapping
        Reason for each (person, stream) without a usable result.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`. Usable: at least one value of the family; incomplete: usable, but not
        all of it. ``reasons`` counts each person once, see `kind_of`.
    """
    values = wide.set_index("participant_id")
    cells = _cells(people, columns)
    rows = []
    for family in catalogue.families:
        members = [m for m in catalogue.measures.values() if m.family == family]
        names = [measure.name for measure in members if measure.name in values]
        if not names:
            continue
        stream = members[0].stream
        known = values[names].notna()
        for site, group, who in cells:
            here = known.reindex(who, fill_value=False)
            some, whole = here.any(axis=1), here.all(axis=1)
            whys = Counter(
                kind_of(_why(person, names, stream, set(values.index), missing, states))
                for person in some.index[~some]
            )
            counts = (len(who), int(some.sum()), int((some & ~whole).sum()), int((~some).sum()))
            rows.append((family, stream, site, group, *counts, _counted(whys)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _cells(people: People, columns: Columns) -> list[tuple[str, str, list[str]]]:
    """Site, group and people of each cell; those of an unknown site come last."""
    table = people.table
    if columns.site:
        sites = table[columns.site].where(table[columns.site].notna(), MISSING).astype(str)
    else:
        sites = pd.Series(MISSING, index=table.index)
    order = sorted(set(sites), key=lambda site: (site == MISSING, natural_key(site)))
    return [
        (site, group, list(table.index[(sites == site) & (table[columns.group] == group)]))
        for site in order
        for group in (people.case, people.reference)
    ]


def _why(
    person: str,
    names: Sequence[str],
    stream: str,
    measured: set[str],
    missing: Mapping[tuple[str, str], str],
    states: Mapping[tuple[str, str], str],
) -> str:
    """Why a person has no value of a family."""
    told = next((missing[person, name] for name in names if (person, name) in missing), "")
    if not told:
        told = states.get((person, stream), "")
    return told or (f"no measures of the stream {stream}" if person in measured else UNPROCESSED)


def kind_of(reason: str) -> str:
    """First part of a reason with ``#`` for its numbers, so that like reasons count as one.

    >>> kind_of("flagged: S/N 2 (< 3); line width .2 ppm")
    'flagged: S/N # (< #)'
    """
    return NUMBER.sub("#", reason.partition("; ")[0])


def _counted(whys: Mapping[str, int]) -> str:
    """Reasons as ``4: no spectrum; 1: ...``, the most frequent first."""
    order = sorted(whys.items(), key=lambda item: (-item[1], item[0]))
    return "; ".join(f"{n}: {why}" for why, n in order) or MISSING
