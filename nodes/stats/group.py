"""The first group result: every measure against group, site and covariates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import pandas as pd

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.attrition import UNPROCESSED, missing_per_site
from alsflow.nodes.stats.catalogue import Catalogue, Measure
from alsflow.nodes.stats.design import Design, NotEstimableError, build_design
from alsflow.nodes.stats.effects import benjamini_hochberg
from alsflow.nodes.stats.linear import GroupDifference, group_difference
from alsflow.nodes.stats.participants import Columns, People
from alsflow.nodes.stats.tables import MISSING, natural_key

CODING = "sum"
REASONS_SHOWN = 3  # of a refusal; they are mostly the same
NUMBERS = tuple(field.name for field in fields(GroupDifference) if field.name not in ("n", "df"))


@dataclass(frozen=True)
class GroupResult:
    """Everything that tables, figures and page are made from."""

    tests: pd.DataFrame  # one row per measure
    excluded: pd.DataFrame  # people in no model: participant_id, reason
    design: pd.DataFrame  # design matrix of the people with complete covariates
    columns: Mapping[str, str]  # what each of its columns codes
    formula: str  # its right-hand side
    coding: tuple[str, ...]
    dropped: tuple[str, ...]
    notes: tuple[str, ...]


def analysed(wide: pd.DataFrame, people: People) -> pd.DataFrame:
    """Measures of the people who can enter a model, beside their covariates.

    Parameters
    ----------
    wide : DataFrame
        One row per person (first session), columns of measures.
    people : People
        Cleaned ``participants.tsv``.

    Returns
    -------
    rows : DataFrame
        Indexed by person; covariates, then measures.
    """
    measures = wide.set_index("participant_id").drop(columns="session_id")
    both = measures.columns.intersection(people.table.columns)
    if len(both):
        raise BadInputError(
            f"the column {both[0]} of participants.tsv has the name of a measure; rename it and "
            "its entry under [group]"
        )
    known = [p for p in measures.index if p in people.table.index and p not in people.reasons]
    return people.table.loc[known].join(measures.loc[known])


def excluded_people(
    wide: pd.DataFrame, people: People, reasons: Mapping[str, str]
) -> pd.DataFrame:
    """People who are in no model, each with the reason.

    Parameters
    ----------
    wide : DataFrame
        Measures, one row per person.
    people : People
        Cleaned ``participants.tsv``.
    reasons : mapping
        Why a person has no measures at all, where the participant level said so.
    """
    measured = set(wide["participant_id"])
    found: dict[str, str] = {}
    for person in sorted(measured | set(people.table.index), key=natural_key):
        if person not in people.table.index:
            found[person] = "has measures, but is not in participants.tsv"
        elif person not in measured:
            found[person] = reasons.get(person, UNPROCESSED)
        elif person in people.reasons:
            found[person] = people.reasons[person]
    return pd.DataFrame({"participant_id": list(found), "reason": list(found.values())})


def fit_measures(
    wide: pd.DataFrame,
    people: People,
    columns: Columns,
    catalogue: Catalogue,
    missing: Mapping[tuple[str, str], str],
    reasons: Mapping[str, str],
) -> GroupResult:
    """Test the group difference of every measure that anybody has.

    Parameters
    ----------
    wide : DataFrame
        One row per person: participant_id, session_id, one column per measure.
    people, columns
        Cleaned participants and the columns the models use.
    catalogue : Catalogue
        Units, labels and families.
    missing : mapping
        Reason for each (person, measure) without a usable value.
    reasons : mapping
        Reason for each person without any measures.

    Raises
    ------
    BadInputError
        If not a single measure can be tested.
    """
    rows = analysed(wide, people)
    excluded = excluded_people(wide, people, reasons)
    names = [name for name in catalogue.measures if name in rows]
    tests = pd.DataFrame(
        [_test(catalogue.measures[name], rows, people, columns, missing) for name in names]
    )
    _require_tests(tests, rows, excluded)
    tests["q"] = tests.groupby("family", sort=False)["p"].transform(benjamini_hochberg)
    try:
        design = _design(rows, people, columns)
    except NotEstimableError as problem:  # with all rows; single measures may still do
        notes = (f"with all people together: {problem}", *people.notes)
        empty = pd.DataFrame(columns=["participant_id"])
        return GroupResult(tests, excluded, empty, {}, "", (), (), notes)
    matrix = pd.DataFrame(design.matrix, columns=list(design.columns))
    matrix.insert(0, "participant_id", list(rows.index))
    return GroupResult(
        tests=tests,
        excluded=excluded,
        design=matrix,
        columns=design.meanings(),
        formula=design.formula,
        coding=design.coding,
        dropped=design.dropped,
        notes=design.notes + people.notes,
    )


def _require_tests(tests: pd.DataFrame, rows: pd.DataFrame, excluded: pd.DataFrame) -> None:
    """Refuse, with the reasons, where not a single measure could be tested."""
    if rows.empty:
        why = "nobody has both measures and complete covariates in participants.tsv"
    elif not (tests["status"] == "tested").any():
        why = "; ".join(list(dict.fromkeys(tests["reason"]))[:REASONS_SHOWN])
    else:
        return
    raise BadInputError(f"no group difference can be estimated: {why}{_advice(excluded)}")


def _advice(excluded: pd.DataFrame) -> str:
    if excluded.empty:
        return ""
    first = excluded.iloc[0]
    return f" ({len(excluded)} people in no model; {first['participant_id']}: {first['reason']})"


def _design(rows: pd.DataFrame, people: People, columns: Columns) -> Design:
    return build_design(
        rows,
        group=columns.group,
        case=people.case,
        reference=people.reference,
        site=columns.site,
        covariates=columns.covariates,
        factors=people.factors,
    )


def _test(
    measure: Measure,
    rows: pd.DataFrame,
    people: People,
    columns: Columns,
    missing: Mapping[tuple[str, str], str],
) -> dict[str, object]:
    """One row of ``tests.tsv``."""
    complete = rows[rows[measure.name].notna()]
    groups = complete[columns.group].value_counts()
    row: dict[str, object] = {
        "family": measure.family,
        "measure": measure.name,
        "label": measure.label,
        "unit": measure.unit,
        "contrast": f"{people.case} - {people.reference}",
        "model": MISSING,
        "coding": CODING,
        "n": len(complete),
        "n_case": int(groups.get(people.case, 0)),
        "n_control": int(groups.get(people.reference, 0)),
        "n_per_site": _cells(complete, people, columns),
        "df": pd.NA,
        **dict.fromkeys(NUMBERS, float("nan")),
        "q": float("nan"),
        "n_missing": len(rows) - len(complete),
        "missing_per_site": missing_per_site(rows[measure.name].isna(), rows, people, columns),
        "missing": _missing(measure, rows, missing),
        "status": "n/a",
        "reason": MISSING,
        "notes": MISSING,
    }
    try:
        design = _design(complete, people, columns)
        values = complete[measure.name].to_numpy(dtype=float)
        difference = group_difference(values, design, relative=measure.relative)
    except NotEstimableError as problem:
        return row | {"reason": str(problem)}
    return (
        row
        | asdict(difference)
        | {
            "model": f"{measure.name} ~ {design.formula}",
            "status": "tested",
            "notes": "; ".join(design.dropped + design.notes) or MISSING,
        }
    )


def _cells(rows: pd.DataFrame, people: People, columns: Columns) -> str:
    """Numbers of people per site as ``A: 4 ALS, 3 control; B: ...``."""
    if not columns.site:
        return MISSING
    parts = []
    for site, members in rows.groupby(columns.site, sort=True):
        n = members[columns.group].value_counts()
        parts.append(
            f"{site}: {n.get(people.case, 0)} {people.case}, "
            f"{n.get(people.reference, 0)} {people.reference}"
        )
    return "; ".join(parts) or MISSING


def _missing(measure: Measure, rows: pd.DataFrame, missing: Mapping[tuple[str, str], str]) -> str:
    """People without this measure, those with the same reason together."""
    people: dict[str, list[str]] = {}
    for person in rows.index[rows[measure.name].isna()]:
        why = missing.get((person, measure.name), "not in the table of measures")
        people.setdefault(why, []).append(str(person))
    return "; ".join(f"{', '.join(who)}: {why}" for why, who in people.items()) or MISSING
