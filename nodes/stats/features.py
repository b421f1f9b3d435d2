"""The measures of all people in one tidy table and one wide one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.catalogue import Catalogue
from alsflow.nodes.stats.tables import MISSING, natural_key, number

COLUMNS = ("measure", "value", "unit", "qc", "reason")
FEATURES = ("participant_id", "session_id", *COLUMNS)
QC_STATES = ("ok", "flagged")
NO_REASON = "no reason given"


@dataclass(frozen=True)
class Source:
    """One table of measures: whose it is, of which stream, and how messages name it."""

    participant: str  # with sub-
    session: str  # with ses-, or n/a
    stream: str
    name: str


def read_measures(table: pd.DataFrame, source: Source, catalogue: Catalogue) -> pd.DataFrame:
    """Check one person's table of measures against the catalogue.

    Returns
    -------
    features : DataFrame
        Columns `FEATURES`; ``value`` is a float, NaN where it is not known.
    """
    absent = [name for name in COLUMNS if name not in table]
    if absent:
        raise BadInputError(f"{source.name} has no column {', '.join(absent)}")
    rows = [_row(cells, line, source, catalogue) for line, cells in table.iterrows()]
    return pd.DataFrame(rows, columns=list(FEATURES)).astype({"value": float})


def _row(cells: pd.Series, line: object, source: Source, catalogue: Catalogue) -> tuple:
    where = f"{source.name}, line {line}"
    name = cells["measure"]
    if name not in catalogue.measures:
        raise BadInputError(f"{where}: '{name}' is not a measure that this version knows")
    measure = catalogue.measures[name]
    if measure.stream != source.stream:
        raise BadInputError(
            f"{where}: {name} belongs to the stream {measure.stream}, not to {source.stream}"
        )
    if cells["unit"] != measure.unit:
        raise BadInputError(
            f"{where}: {name} is given in '{cells['unit']}' but is kept in {measure.unit}; "
            "run the participant level again"
        )
    if cells["qc"] not in QC_STATES:
        raise BadInputError(f"{where}: qc is '{cells['qc']}', not ok or flagged")
    value = number(cells["value"], f"{where}, {name}")
    reason = cells["reason"] or MISSING
    if reason == MISSING and (pd.isna(value) or cells["qc"] == "flagged"):
        reason = NO_REASON
    return (source.participant, source.session, name, value, measure.unit, cells["qc"], reason)


def gather(
    tables: Iterable[pd.DataFrame], sources: Iterable[Source], states: Mapping[str, str]
) -> pd.DataFrame:
    """One tidy table of all people, sorted by person and session.

    Parameters
    ----------
    tables, sources
        What `read_measures` returned, and where each came from.
    states : mapping
        From ``"sub-01 ses-a anat"`` to why that stream of that visit cannot be used after all
        (a later run failed and its older table is still there); such values become n/a.
    """
    kept = []
    origin: dict[tuple[str, str, str], str] = {}
    for table, source in zip(tables, sources, strict=True):
        for name in table["measure"]:
            key = (source.participant, source.session, name)
            if key in origin:
                raise BadInputError(
                    f"{name} of {source.participant} {source.session} stands twice: in "
                    f"{origin[key]} and in {source.name}; remove the outdated one"
                )
            origin[key] = source.name
        why = states.get(f"{source.participant} {source.session} {source.stream}")
        kept.append(table.assign(value=float("nan"), reason=why) if why else table)
    if not origin:
        raise BadInputError("the tables of measures are empty; run the participant level again")
    features = pd.concat(kept, ignore_index=True)
    order = sorted(
        range(len(features)),
        key=lambda i: (
            natural_key(str(features["participant_id"].iat[i])),
            natural_key(str(features["session_id"].iat[i])),
            i,
        ),
    )
    return features.iloc[order].reset_index(drop=True)


def widen(features: pd.DataFrame, catalogue: Catalogue) -> pd.DataFrame:
    """One row per person and session, one column per measure; flagged values are NaN."""
    usable = features.assign(value=features["value"].where(features["qc"] == "ok"))
    present = set(features["measure"])
    names = [name for name in catalogue.measures if name in present]
    keys = ["participant_id", "session_id"]
    visits = features[keys].drop_duplicates()
    wide = usable.pivot(index=keys, columns="measure", values="value")
    wide = wide.reindex(pd.MultiIndex.from_frame(visits))[names]
    wide.columns.name = None
    return wide.reset_index()


def first_sessions(table: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Rows of the first session of each person, and the sessions left out as ``sub ses``."""
    order = sorted(table.index, key=lambda i: natural_key(str(table.at[i, "session_id"])))
    pairs = table.loc[order, ["participant_id", "session_id"]].drop_duplicates()
    first = pairs.drop_duplicates("participant_id").set_index("participant_id")["session_id"]
    is_first = table["session_id"] == table["participant_id"].map(first)
    others = table.loc[~is_first, ["participant_id", "session_id"]].drop_duplicates()
    left_out = tuple(f"{person} {session}" for person, session in others.itertuples(index=False))
    return table[is_first].reset_index(drop=True), left_out


def why_missing(features: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Reason for each (person, measure) whose value cannot be used, of one session each."""
    unusable = features[features["value"].isna() | (features["qc"] != "ok")]
    columns = ["participant_id", "measure", "qc", "reason"]
    return {
        (person, measure): reason if qc == "ok" else f"flagged: {reason}"
        for person, measure, qc, reason in unusable[columns].itertuples(index=False)
    }


def implausible(features: pd.DataFrame, catalogue: Catalogue) -> list[str]:
    """One sentence for each usable value outside the plausible range of its measure."""
    found = []
    usable = features[features["value"].notna() & (features["qc"] == "ok")]
    for row in usable.to_dict("records"):
        measure, value = catalogue.measures[row["measure"]], float(row["value"])
        if not measure.low <= value <= measure.high:
            session = "" if row["session_id"] == MISSING else f" {row['session_id']}"
            found.append(
                f"{row['participant_id']}{session}: {measure.name} is {value:.4g} "
                f"{measure.unit}, outside {measure.low:g} to {measure.high:g}"
            )
    return found
