"""Published tables: read, joined with what was obtained, laid out as the paper lays them out."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.plan import nearest
from alsflow.nodes.stats.printed_numbers import read_printed
from alsflow.nodes.stats.tables import MISSING

ALPHA = 0.05  # below which a published result was called significant
AGREES = "agrees"  # same direction, and both or neither significant
SAME_SIGN = "same direction, other side of p = .05"
OPPOSITE = "opposite direction"
NOT_TESTED = "not tested here"
NOT_PRINTED = "nothing printed"

# Which column of the registry stands beside which printed one.
OBTAINED = {
    "regression": {"r2": "r2", "p_model": "p_model", "b": "estimate", "t": "t", "p": "p"},
    "correlation": {"r": "estimate", "p": "p"},
    "groups": {
        "case_mean": "case_mean",
        "case_spread": "case",
        "control_mean": "control_mean",
        "control_spread": "control",
        "p": "p",
    },
}
SIGN = {"regression": "b", "correlation": "r"}


@dataclass(frozen=True)
class Table:
    """One table of a paper, cells as printed."""

    id: str
    kind: str
    title: str
    where: str
    cells: pd.DataFrame  # text; short names in the columns outcome and predictor
    cell: str = ""  # how one cell of the paper's table is written
    groups: Mapping[str, str] = field(default_factory=dict)  # printed column -> obtained group
    layout: str = ""  # "measures": one column per kind of measure, one row per outcome and place


@dataclass(frozen=True)
class Paper:
    """Everything typed from one paper."""

    title: str
    pages: str  # how pages are counted
    names: Mapping[str, str]
    labels: Mapping[str, str]
    scale: Mapping[str, float]
    tables: Mapping[str, Table]
    checks: tuple[Mapping[str, Any], ...]

    def columns(self, short: str) -> tuple[str, str]:
        """Columns that a short name stands for: of a side, and of both sides together."""
        name = self.names.get(short, short)
        return name, name.replace("{side}", "both")

    def label(self, short: str) -> str:
        """Words of a short name: its own, or those of its parts."""
        if short in self.labels:
            return self.labels[short]
        first, _, rest = short.partition("_")
        return f"{self.labels.get(first, first)} {self.labels.get(rest, rest).lower()}".strip()


def parse_paper(text: str, source: str) -> Paper:
    """Paper from the TOML text of ``published/*.toml``; `source` names it in messages."""
    declared = tomllib.loads(text)
    tables = {}
    for item in declared["table"]:
        columns = item["columns"]
        for row in item["rows"]:
            if len(row) != len(columns):
                raise BadInputError(
                    f"{source}, table {item['id']}: {len(row)} cells under {len(columns)} columns "
                    f"in the row of {row[0]}"
                )
        cells = pd.DataFrame(item["rows"], columns=columns, dtype=object)
        rest = {key: item[key] for key in ("kind", "title", "where")}
        tables[item["id"]] = Table(item["id"], cells=cells, cell=item.get("cell", ""),
                                 layout=item.get("layout", ""),
                                 groups=item.get("groups", {}), **rest)  # fmt: skip
    return Paper(
        title=declared["title"],
        pages=declared["pages"],
        names=declared["names"],
        labels=declared["labels"],
        scale=declared.get("scale", {}),
        tables=tables,
        checks=tuple(declared.get("check", ())),
    )


def find_table(papers: Mapping[str, Paper], reference: str) -> tuple[Paper, Table]:
    """Paper and table that ``published = "paper.table"`` of an analysis names."""
    paper, _, table = reference.partition(".")
    if paper not in papers:
        raise BadInputError(f"published: there is no paper '{paper}'{nearest(paper, papers)}")
    tables = papers[paper].tables
    if table not in tables:
        raise BadInputError(
            f"published: {paper} has no table '{table}'{nearest(table, tables)}; it has "
            + ", ".join(tables)
        )
    return papers[paper], tables[table]


def beside(
    tests: pd.DataFrame,
    paper: Paper,
    table: Table,
    reproduced: Sequence[str],
    sound: Sequence[str] = (),
) -> pd.DataFrame:
    """Published values of one table beside those obtained.

    Parameters
    ----------
    tests : DataFrame
        The registry.
    paper, table
        What is printed, of the kind groups, regression or correlation.
    reproduced : sequence of str
        Analyses that reproduce the paper's model.
    sound : sequence of str
        Analyses with the sound model.

    Returns
    -------
    rows : DataFrame
        One per printed row: outcome, predictor (labels), ``published_*`` as text, ``obtained_*``
        in the printed units, the same of the sound model, n of both and a verdict in words.
    """
    return pd.DataFrame(
        [_beside(cells, tests, paper, table, reproduced, sound) for cells in records(table)]
    )


def records(table: Table) -> list[dict[str, str]]:
    """Rows of a table, as text by column."""
    return [{str(k): str(v) for k, v in row.items()} for row in table.cells.to_dict("records")]


def _beside(
    cells: dict[str, str],
    tests: pd.DataFrame,
    paper: Paper,
    table: Table,
    reproduced: Sequence[str],
    sound: Sequence[str],
) -> dict[str, object]:
    keys = [key for key in ("outcome", "predictor") if key in cells]
    row: dict[str, object] = {key: paper.label(cells[key]) for key in keys}
    row |= {f"published_{k}": v for k, v in cells.items() if k not in (*keys, "spread")}
    found = _found(tests, cells, paper, reproduced)
    row |= _obtained("obtained", found, cells, paper, table)
    if sound:
        other = _found(tests, cells, paper, sound)
        row |= _obtained("sound", other, cells, paper, table)
    return row | {"verdict": verdict(cells, found, table.kind)}


def _found(
    tests: pd.DataFrame, cells: Mapping[str, str], paper: Paper, analyses: Sequence[str]
) -> pd.Series | None:
    """Row of the registry for a printed row, if it was tested."""
    rows = tests[tests["analysis"].isin(list(analyses)) & (tests["status"] == "tested")]
    for key in ("outcome", "predictor"):
        if key in cells:
            rows = rows[rows[key].isin(paper.columns(cells[key]))]
    return None if rows.empty else rows.iloc[0]


def _obtained(
    prefix: str,
    found: pd.Series | None,
    cells: Mapping[str, str],
    paper: Paper,
    table: Table,
) -> dict[str, object]:
    wanted = {k: v for k, v in OBTAINED[table.kind].items() if k in cells}
    row: dict[str, object] = {}
    for printed, column in wanted.items():
        if printed.endswith("_spread"):
            column = f"{column}_{cells['spread']}"  # of the kind that the paper prints
        value = math.nan if found is None else float(found.get(column, math.nan))
        row[f"{prefix}_{printed}"] = value / _unit(printed, cells, paper)
    n = pd.NA if found is None else int(found["n"])
    return row | {f"{prefix}_n": n}


def _unit(printed: str, cells: Mapping[str, str], paper: Paper) -> float:
    """Catalogue units in one printed unit of a column."""

    def of(key: str) -> float:
        return paper.scale.get(cells.get(key, "").partition("_")[0], 1.0)

    if printed == "b":
        slope = paper.scale.get(f"{cells['predictor'].partition('_')[0]}_slope")
        return of("outcome") / (slope or of("predictor"))
    return of("outcome") if printed.startswith(("case_", "control_")) else 1.0


def verdict(cells: Mapping[str, str], found: pd.Series | None, kind: str) -> str:
    """Whether what was obtained says the same as what is printed, in direction and p."""
    if found is None:
        return NOT_TESTED
    before = _direction(cells, kind)
    p = read_printed(cells.get("p", ""))
    if p is None or (before == 0 and p.text != "NS"):
        return NOT_PRINTED
    significant = p.high <= ALPHA
    agreed = significant == (float(found["p"]) < ALPHA)
    if before and before * float(found["estimate"]) < 0 and significant:
        return OPPOSITE
    return AGREES if agreed else SAME_SIGN


def _direction(cells: Mapping[str, str], kind: str) -> int:
    """Sign of the printed effect; 0 where none is printed."""
    if kind == "groups":
        case, control = read_printed(cells["case_mean"]), read_printed(cells["control_mean"])
        gap = (case.middle if case else 0.0) - (control.middle if control else 0.0)
        return (gap > 0) - (gap < 0)
    printed = read_printed(cells.get(SIGN[kind], ""))
    if printed is None:
        return 1 if kind == "regression" and SIGN[kind] not in cells else 0
    return (printed.middle > 0) - (printed.middle < 0)


def in_papers_shape(
    joined: pd.DataFrame, paper: Paper, table: Table, which: str = "published"
) -> pd.DataFrame:
    """Lay out a table as the paper prints it: outcomes by predictors, one text per cell.

    Parameters
    ----------
    joined : DataFrame
        What `beside` returned for `table`.
    paper, table
        The same.
    which : str
        ``published``, ``obtained`` or ``sound``.

    Notes
    -----
    Group comparisons are laid out with one row per measure.
    """
    if table.kind == "groups":
        return _groups_shape(joined, table, which)
    texts = [_cell_text(row, table, which) for row in joined.to_dict("records")]
    shaped = joined[["outcome", "predictor"]].assign(text=texts)
    if table.layout == "measures":
        kind = shaped["predictor"].str.partition(" ")
        place = kind[2].str.capitalize()
        shaped = shaped.assign(outcome=shaped["outcome"] + ": " + place, predictor=kind[0])
    wide = shaped.pivot(index="outcome", columns="predictor", values="text")
    rows, columns = (list(dict.fromkeys(shaped[key])) for key in ("outcome", "predictor"))
    wide = wide.loc[rows, columns].fillna("")
    wide.columns.name = None
    return wide.reset_index()


def _cell_text(row: Mapping[Hashable, Any], table: Table, which: str) -> str:
    marks = {}
    for name in OBTAINED[table.kind]:
        value = row.get(f"{which}_{name}", "")
        marks[name] = value if isinstance(value, str) else number_text(value, name)
    if not any(marks.values()):
        return ""
    return table.cell.format(**{name: text or MISSING for name, text in marks.items()})


def number_text(value: float, name: str) -> str:
    """Text of a number as a table prints it: p with three decimals, others four digits."""
    if value is None or pd.isna(value):
        return ""
    if name in ("p", "p_model"):
        return "<0.001" if value < 0.001 else f"{value:.3f}"
    if name in ("t", "b"):
        return f"{value:.2f}" if name == "t" else f"{value:.4g}"
    return f"{value:.3f}"


def _groups_shape(joined: pd.DataFrame, table: Table, which: str) -> pd.DataFrame:
    rows = []
    for row in joined.to_dict("records"):
        cells: dict[str, object] = {"Measure": row["outcome"]}
        for group, words in (("case", "ALS"), ("control", "Controls")):
            value = row[f"{which}_{group}_mean"]
            spread = row.get(f"{which}_{group}_spread", "")
            text, tail = _text(value, 4), _text(spread, 2)
            cells[words] = f"{text} ± {tail}" if tail else text
        p = row[f"{which}_p"]
        cells["p"] = p if isinstance(p, str) else number_text(p, "p")
        rows.append(cells)
    return pd.DataFrame(rows)


def _text(value: str | float, digits: int) -> str:
    """Text as it is, a number with some digits, nothing for NaN."""
    if isinstance(value, str):
        return value
    return "" if pd.isna(value) else f"{value:.{digits}g}"
