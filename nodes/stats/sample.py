"""The people of an analysis: whom, which rows, who is flagged, and why somebody is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.cohort import Cohort
from alsflow.nodes.stats.plan import GROUP, OTHER_SIDE, SIDE, SIDES, Analysis

MAD_MAX = 3.5  # modified z score beyond which a value is flagged
MAD_TO_SD = 0.6745  # median absolute deviation of a normal variable with SD 1
FEW = 4  # people of a site below which no value of it can be flagged
PERSON = "participant_id"
SESSION = "session_id"
HEMISPHERE = "hemisphere"


@dataclass(frozen=True)
class Sample:
    """The cohort table and what its columns are."""

    table: pd.DataFrame  # one row per person (and session); participant_id, session_id, ...
    group: str = "group"
    case: str = "ALS"
    reference: str = "control"
    site: str = ""  # empty: one centre
    factors: tuple[str, ...] = ()  # covariates that are categories
    scores: tuple[str, ...] = ()  # columns of limbs: {side} in them is the side of the limb

    def column(self, name: str) -> str:
        """Return the column that a name of a covariate stands for."""
        return self.group if name == GROUP else name


@dataclass(frozen=True)
class Rows:
    """Complete rows of one model."""

    table: pd.DataFrame  # indexed by person, or person and side; participant_id among its columns
    n_missing: int  # of the rows asked for
    outliers: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.table)

    @property
    def n_people(self) -> int:
        """Number of people."""
        return int(self.table[PERSON].nunique())


def sample_of(cohort: Cohort) -> Sample:
    """What the analyses need of a cohort: its usable rows with any value."""
    table, values = cohort.usable, [*cohort.measures, *cohort.scores]
    if values:
        table = table[table[values].notna().any(axis=1)]
    return Sample(
        table=table,
        group=cohort.columns.group,
        case=cohort.case,
        reference=cohort.reference,
        site=cohort.columns.site,
        factors=cohort.factors,
        scores=cohort.scores,
    )


def why_missing(cohort: Cohort, sample: Sample) -> dict[tuple[str, str], str]:
    """Reason for each (person, column) of the first visits that is not known."""
    first = sample.table.drop_duplicates(PERSON)
    visits = set(zip(first[PERSON], first[SESSION], strict=True))
    return {
        (person, column): why
        for (person, session, column), why in cohort.unknown.items()
        if (person, session) in visits
    }


def first_visits(sample: Sample) -> Sample:
    """The same sample with the first row of each person, which the table has in order."""
    table = sample.table.drop_duplicates(PERSON)
    return replace(sample, table=table.set_index(PERSON, drop=False).rename_axis(None))


def all_visits(sample: Sample) -> Sample:
    """The same sample with its rows called ``sub-01 ses-a``."""
    keys = zip(sample.table[PERSON], sample.table[SESSION], strict=True)
    names = pd.Index([f"{person} {session}" for person, session in keys])
    return replace(sample, table=sample.table.set_index(names))


def choose_people(sample: Sample, analysis: Analysis) -> pd.DataFrame:
    """Rows of the people whom an analysis is about."""
    table = sample.table
    if analysis.by != GROUP:
        table = table[table[analysis.by].isin(analysis.levels)]
    wanted = {"patients": sample.case, "controls": sample.reference}.get(analysis.people)
    if wanted is not None:
        return table[table[sample.group] == wanted]
    known = [sample.case, sample.reference]
    return table[table[sample.group].isin(known)]


def two_levels(sample: Sample, analysis: Analysis) -> tuple[str, str, str]:
    """Column of the comparison and its two labels, the first minus the second."""
    if analysis.by == GROUP and not analysis.levels:
        return sample.group, sample.case, sample.reference
    first, second = analysis.levels
    return sample.column(analysis.by), first, second


def by_side(table: pd.DataFrame, names: Sequence[str], scores: Sequence[str]) -> pd.DataFrame:
    """Two rows per person, one per hemisphere.

    Parameters
    ----------
    table : (n, ...) DataFrame
        One row per person.
    names : sequence of str
        Columns with ``{side}`` in their names; each is read from its two columns.
    scores : sequence of str
        Those of them that are scores of limbs, which belong to the opposite hemisphere.

    Returns
    -------
    sides : (2 n, ...) DataFrame
        With ``hemisphere`` and the columns of `names`, braces and all; indexed as ``sub-01 left``.
    """
    parts = []
    for hemisphere in SIDES:
        part = table.copy()
        part[HEMISPHERE] = hemisphere
        for name in names:
            if SIDE in name:
                side = OTHER_SIDE[hemisphere] if name in scores else hemisphere
                part[name] = table[name.replace(SIDE, side)]
        part.index = pd.Index([f"{person} {hemisphere}" for person in table[PERSON]])
        parts.append(part)
    order = np.argsort(np.tile(np.arange(len(table)), len(SIDES)), kind="stable")
    return pd.concat(parts).iloc[order]


def complete(
    table: pd.DataFrame, needed: Sequence[str], flagged: Sequence[str] = (), site: str = ""
) -> Rows:
    """Rows that are known in every column needed; outliers of `flagged` are named, not dropped."""
    absent = [name for name in needed if name not in table]
    if absent:
        raise BadInputError(f"the cohort table has no column '{absent[0]}'")
    whole = table[list(dict.fromkeys(needed))].notna().all(axis=1)
    kept = table[whole]
    named: list[str] = []
    for name in flagged:
        named += [f"{row} ({name})" for row in site_outliers(kept[name], kept, site)]
    return Rows(kept, int((~whole).sum()), tuple(named))


def site_outliers(values: pd.Series, table: pd.DataFrame, site: str = "") -> list[str]:
    """Rows farther than 3.5 modified z scores from the median of their site [1]_.

    References
    ----------
    .. [1] Iglewicz and Hoaglin (1993). How to detect and handle outliers. ASQC Quality Press.
    """
    if not pd.api.types.is_numeric_dtype(values):
        return []
    labels = table[site] if site else pd.Series("", index=table.index)
    found: list[str] = []
    for _, members in values.groupby(labels, sort=True):
        gap = (members - members.median()).abs()
        mad = gap.median()
        if len(members) >= FEW and mad > 0:
            found += [str(row) for row in members.index[MAD_TO_SD * gap / mad > MAD_MAX]]
    return found


def cells(
    rows: pd.DataFrame, site: str, group: str, levels: Sequence[str], empty: str = "n/a"
) -> str:
    """Numbers of rows per site and group as ``A: 4 ALS, 3 control; B: ...``."""
    if not site or site not in rows:
        return empty
    parts = []
    for name, members in rows.groupby(site, sort=True):
        counts = members[group].value_counts()
        words = ", ".join(f"{counts.get(level, 0)} {level}" for level in levels)
        parts.append(f"{name}: {words}")
    return "; ".join(parts) or empty


def missing_cells(
    asked: pd.DataFrame, kept: pd.DataFrame, site: str, group: str, levels: Sequence[str]
) -> str:
    """How many rows are missing per site and group, of how many asked for."""
    lost = asked[~asked.index.isin(kept.index)]
    if lost.empty:
        return "none"
    labels = asked[site].fillna("n/a") if site else pd.Series("all", index=asked.index)
    parts = []
    for name, members in asked.groupby(labels, sort=True):
        gone = members[members.index.isin(lost.index)]
        words = [
            f"{(gone[group] == level).sum()} of {(members[group] == level).sum()} {level}"
            for level in levels
        ]
        parts += [f"{name}: {', '.join(words)}"] if len(gone) else []
    return "; ".join(parts)


def factor_names(sample: Sample, names: Sequence[str]) -> list[str]:
    """Those of `names` that are categories."""
    known = {sample.group, sample.site, *sample.factors}
    return [
        name
        for name in names
        if name in known or not pd.api.types.is_numeric_dtype(sample.table[name])
    ]
