"""Everything to print of a published study: its tables, ours beside them, and its checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from alsflow.nodes.stats.plan import Analysis
from alsflow.nodes.stats.published import (
    OBTAINED,
    Paper,
    Table,
    beside,
    find_table,
    in_papers_shape,
    number_text,
    records,
)
from alsflow.nodes.stats.recheck import pooled_moments, recheck
from alsflow.nodes.stats.registry import TESTED, Registry

TOTAL = "total"  # all people of the groups together
PEOPLE = "people"  # variable of a row that counts the people of a group


def replication_tables(
    registry: Registry, analyses: Sequence[Analysis], papers: Mapping[str, Paper]
) -> dict[str, pd.DataFrame]:
    """Every table that the profile of a published study prints.

    Parameters
    ----------
    registry : Registry
        What the analyses found.
    analyses : sequence of Analysis
        Those with ``published`` name a table of a paper as ``taiwan.t2``.
    papers : mapping
        By name; see `published.parse_paper`.

    Returns
    -------
    tables : dict
        ``taiwan_t2_published``, ``_obtained`` and ``_sound`` in the shape of the paper,
        ``taiwan_t2_beside`` with a verdict per cell, and ``taiwan_checks``: what follows from the
        printed numbers themselves.
    """
    tables: dict[str, pd.DataFrame] = {}
    references = dict.fromkeys(one.published for one in analyses if one.published)
    for reference in references:
        paper, table = find_table(papers, reference)
        own = [one for one in analyses if one.published == reference]
        name = reference.replace(".", "_")
        if table.kind not in OBTAINED:
            tables[f"{name}_beside"] = _people(registry, own, paper, table)
            continue
        sound = [one.sound for one in own if one.sound]
        joined = beside(registry.tests, paper, table, [one.name for one in own], sound)
        for which in ("published", "obtained", *(["sound"] if sound else [])):
            tables[f"{name}_{which}"] = in_papers_shape(joined, paper, table, which)
        tables[f"{name}_beside"] = joined
    for name in dict.fromkeys(reference.partition(".")[0] for reference in references):
        tables[f"{name}_checks"] = recheck(papers[name])
    return tables


def _people(
    registry: Registry, analyses: Sequence[Analysis], paper: Paper, table: Table
) -> pd.DataFrame:
    """Table of demographics beside the obtained one."""
    names = [one.name for one in analyses]
    described = [registry.tables[f"{name}_demographics"] for name in names
                 if f"{name}_demographics" in registry.tables]  # fmt: skip
    obtained = pd.concat(described) if described else pd.DataFrame(columns=["variable", "level"])
    tests = registry.tests[registry.tests["analysis"].isin(names)]
    return demographics_beside(paper, table, obtained, tests)


def demographics_beside(
    paper: Paper, table: Table, obtained: pd.DataFrame, tests: pd.DataFrame
) -> pd.DataFrame:
    """Published table of demographics beside the obtained one.

    Parameters
    ----------
    paper, table
        What is printed; the column ``variable`` names columns of the cohort table, a level after
        a colon, and `Table.groups` says which group a printed column is about.
    obtained : DataFrame
        Rows of `demographics.Demographics`.
    tests : DataFrame
        Rows of the registry for what was compared by sides and is not among `obtained`.
    """
    rows = []
    for cells in records(table):
        variable, _, level = cells["variable"].partition(":")
        found = obtained[obtained["variable"] == variable]
        if level:
            found = found[found["level"].astype(str) == level]
        tested = tests[(tests["outcome"] == variable) & (tests["status"] == TESTED)]
        row: dict[str, object] = {"row": cells["row"]}
        for printed, group in _groups(table, tests).items():
            row[f"published_{printed}"] = cells.get(printed, "")
            row[f"obtained_{printed}"] = _cell(variable, found, tested, obtained, group)
        p = [float(one) for one in (*found.get("p", [])[:1], *tested["p"][:1])]
        row["published_p"] = cells.get("p", "")
        row["obtained_p"] = number_text(p[0], "p") if p else ""
        rows.append(row)
    return pd.DataFrame(rows)


def _groups(table: Table, tests: pd.DataFrame) -> dict[str, str]:
    """Group of each printed column; ``@case`` and ``@reference`` are those of the cohort."""
    case, _, reference = str(tests["contrast"].iat[0] if len(tests) else "").partition(" - ")
    labels = {"@case": case, "@reference": reference}
    return {printed: labels.get(group, group) for printed, group in table.groups.items()}


def _cell(
    variable: str, found: pd.DataFrame, tested: pd.DataFrame, obtained: pd.DataFrame, group: str
) -> str:
    """Text of one cell: from the table of demographics, else from a test by sides."""
    if variable == PEOPLE and len(obtained):
        first = obtained.iloc[0]
        return str(int(first[f"n_{group}"] + first[f"missing_{group}"]))
    if len(found):
        return _described(found.iloc[0], group)
    if tested.empty:
        return ""
    row = tested.iloc[0]
    case, _, control = str(row["contrast"]).partition(" - ")
    parts = {
        label: (row[f"{side}_mean"], row[f"{side}_sd"], row[f"n_{side}"])
        for label, side in ((case, "case"), (control, "control"))
    }
    if group == TOTAL:
        mean, sd = pooled_moments(list(parts.values()))
        n = sum(part[2] for part in parts.values())
    elif group in parts:
        mean, sd, n = parts[group]
    else:
        return ""
    return f"{mean:.2f} ± {sd:.2f} (n = {n})"


def _described(row: pd.Series, group: str) -> str:
    """Text of one row of a table of demographics for one group."""
    if row["kind"] == "count":
        count = row.get(f"count_{group}")
        n = row.get(f"n_{group}")
        return "" if count is None or not n else f"{int(count)} of {int(n)}"
    mean, sd, n = (row.get(f"{name}_{group}") for name in ("mean", "sd", "n"))
    if mean is None or sd is None or pd.isna(mean):
        return ""
    return f"{mean:.2f} ± {sd:.2f} (n = {int(n or 0)})"
