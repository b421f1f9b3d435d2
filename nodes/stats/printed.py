"""Tables for people: one list of columns each, printed as HTML, CSV and LaTeX.

Every number is made text once, by `cell_text`; sentences take their numbers from there too, so
that text and tables cannot differ.
"""

from __future__ import annotations

import csv
import html
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from alsflow.nodes.stats.effects import Q_FOUND
from alsflow.nodes.stats.page import p_text, significant
from alsflow.nodes.stats.plan import Analysis
from alsflow.nodes.stats.registry import TESTED
from alsflow.nodes.stats.tables import MISSING

NA = MISSING
DAGGER = "†"
REPRODUCES = "reproduces the paper's model"
PSEUDO = f"{REPRODUCES}, including its pseudoreplication"
NOT_ALIKE = (
    "A large p value does not show that groups are alike; the standardised mean difference (SMD) "
    "tells how far apart they are."
)
OPTIMISTIC = (
    "AUC with DeLong's limits, p by Mann-Whitney. The cut-off has the largest Youden index in the "
    "same people, so its sensitivity and specificity are optimistic."
)
CORRECTIONS = {
    "fdr": "q: false discovery rate of Benjamini and Hochberg within the family {family}.",
    "holm": "q: p corrected by Holm's method within the family {family}.",
    "none": "Nothing is corrected for the number of tests.",
}
# Prefixes of the columns of published tables, in the order in which they stand beside each other.
SOURCES = {"published": "published", "obtained": "obtained", "sound": "sound model"}
STATISTICS = {
    "r2": "R²", "p_model": "p (model)", "b": "slope", "t": "t", "p": "p", "r": "r",
    "case_mean": "mean, cases", "control_mean": "mean, controls", "case_spread": "±, cases",
    "control_spread": "±, controls", "n": "n",
}  # fmt: skip

EFFECTS = {"hedges_g": "Hedges g", "cohen_d": "Cohen d", "rank_biserial": "rank-biserial r"}
TESTS = {
    "welch": "Welch's t", "student": "Student's t", "mannwhitney": "Mann-Whitney U",
    "fisher": "Fisher's exact", "kruskal": "Kruskal-Wallis",
    "chi2, not corrected": "Pearson's chi²",
}  # fmt: skip

Row = Mapping[Any, Any]


@dataclass(frozen=True)
class Column:
    """One column of a printed table."""

    key: str  # column of the data
    label: str  # may hold {case} and {reference}
    form: str = "text"  # of FORMS
    also: tuple[str, ...] = ()  # further columns of the data that the form takes
    digits: int = 3


@dataclass(frozen=True)
class PrintedRow:
    """Cells of one row as text."""

    cells: tuple[str, ...]
    found: bool = False  # q below .05
    reason: str = ""  # why it was not tested; only the first cells are then filled
    remark: str = ""


@dataclass(frozen=True)
class PrintedTable:
    """A table as text."""

    name: str  # letters, digits, _ and -
    title: str
    head: tuple[str, ...]
    rows: tuple[PrintedRow, ...]
    words: tuple[bool, ...]  # whether a column holds words, set to the left
    notes: tuple[str, ...] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks on rows, each once."""
        return tuple(dict.fromkeys(row.remark for row in self.rows if row.remark))


# --------------------------------------------------------------------------- numbers as text


def is_known(value: object) -> bool:
    """Whether a cell of data holds anything."""
    return value is not None and not pd.isna(value) and value not in ("", NA)  # type: ignore[call-overload]


def fixed(value: float, digits: int) -> str:
    """`value` with `digits` decimals; zero has no sign."""
    if not is_known(value):
        return NA
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _label(row: Row, column: Column) -> str:
    """Words of a measure with its unit."""
    unit = row.get(column.also[0]) if column.also else None
    name = row.get(column.key)
    if not is_known(name) and len(column.also) > 1:
        name = row.get(column.also[1])
    words = str(name) if is_known(name) else NA
    return f"{words} ({unit})" if is_known(unit) and unit != "1" else words


def _count(row: Row, column: Column) -> str:
    value = row.get(column.key)
    return f"{int(value)}" if is_known(value) else NA  # type: ignore[arg-type]


def _rows_and_people(row: Row, column: Column) -> str:
    """Number of rows, and of people where a person has several."""
    n, people = row.get(column.key), row.get(column.also[0])
    if not is_known(n) or not is_known(people):
        return NA
    return f"{int(n)}" if int(n) == int(people) else f"{int(n)} of {int(people)} people"  # type: ignore[arg-type]


def _pair(row: Row, column: Column) -> str:
    return " + ".join(_count(row, Column(key, "")) for key in (column.key, *column.also))


def _df(row: Row, column: Column) -> str:
    value = row.get(column.key)
    if not is_known(value):
        return NA
    number = float(value)  # type: ignore[arg-type]
    return f"{number:.0f}" if number.is_integer() else f"{number:.1f}"


def _interval(row: Row, column: Column) -> str:
    """Confidence limits in words."""
    low, high = row.get(column.key), row.get(column.also[0])
    if not is_known(low) or not is_known(high):
        return NA
    return f"{significant(low, column.digits)} to {significant(high, column.digits)}"  # type: ignore[arg-type]


def _limits(row: Row, column: Column) -> str:
    """A number with a fixed number of decimals and its confidence limits in words."""
    value = row.get(column.key)
    if not is_known(value):
        return NA
    low, high = (row.get(key) for key in column.also[:2])
    text = fixed(value, column.digits)  # type: ignore[arg-type]
    if not is_known(low) or not is_known(high):
        return text
    return f"{text} ({fixed(low, column.digits)} to {fixed(high, column.digits)})"  # type: ignore[arg-type]


def _effect(row: Row, column: Column) -> str:
    """Name, value and limits of an effect size."""
    value = _limits(row, column)
    name = row.get("effect")
    if value == NA or not is_known(name):
        return value
    return f"{EFFECTS.get(str(name), str(name))} {value}"


def _mean(row: Row, column: Column) -> str:
    """Mean with SD as it was measured, or adjusted mean with SE."""
    if not is_known(row.get(column.key)):
        return NA
    mean = significant(row[column.key], column.digits)
    sd, se = (row.get(key) for key in column.also[:2])
    if is_known(row.get("coding")):
        return f"{mean} (SE {significant(se)})" if is_known(se) else mean  # type: ignore[arg-type]
    return f"{mean} ± {significant(sd)}" if is_known(sd) else mean  # type: ignore[arg-type]


def _statistic(row: Row, column: Column) -> str:
    """Statistic with its name: t = 2.04, U = 82."""
    value = row.get(column.key)
    if not is_known(value):
        return NA
    number = float(value)  # type: ignore[arg-type]
    whole = row.get(column.also[0]) == "U" and (2 * number).is_integer()
    return f"{row.get(column.also[0])} = {f'{number:g}' if whole else fixed(number, 2)}"


def _text(row: Row, column: Column) -> str:
    value = row.get(column.key)
    return str(value) if is_known(value) else NA


FORMS: Mapping[str, Callable[[Row, Column], str]] = {
    "text": _text,
    "label": _label,
    "count": _count,
    "n": _rows_and_people,
    "pair": _pair,
    "df": _df,
    "number": lambda row, c: significant(row.get(c.key, math.nan), c.digits),
    "fixed2": lambda row, c: fixed(row.get(c.key, math.nan), 2),
    "fixed": lambda row, c: fixed(row.get(c.key, math.nan), c.digits),
    "p": lambda row, c: p_text(row.get(c.key, math.nan)),
    "interval": _interval,
    "limits": _limits,
    "effect": _effect,
    "mean": _mean,
    "statistic": _statistic,
}
WORDS = ("text", "label")


def cell_text(row: Row, column: Column) -> str:
    """Text of one cell; n/a where nothing is known."""
    return FORMS[column.form](row, column)


# --------------------------------------------------------------------------- columns of tables

MEASURE = Column("label", "measure", "label", ("unit", "outcome"))
PREDICTOR = Column("predictor_label", "predictor", "label", ("predictor_unit", "predictor"))
N_ROWS = Column("n", "n", "n", ("n_people",))
N_GROUPS = Column("n_case", "n ({case} + {reference})", "pair", ("n_control",))
STATISTIC = Column("value", "statistic", "statistic", ("statistic",))
DF = Column("df", "df", "df")
P, Q = Column("p", "p", "p"), Column("q", "q", "p")
LIMITS = Column("ci_low", "95 % limits", "interval", ("ci_high",))
EFFECT = Column("effect_size", "effect size (95 % limits)", "effect",
                ("effect_low", "effect_high"), 2)  # fmt: skip
BETA = Column("effect_size", "standardised slope (95 % limits)", "limits",
              ("effect_low", "effect_high"), 2)  # fmt: skip
CASE = Column("case_mean", "{case}", "mean", ("case_sd", "case_se"))
CONTROL = Column("control_mean", "{reference}", "mean", ("control_sd", "control_se"))
DIFFERENCE = Column("estimate", "difference", "number")
CORRELATION = Column("estimate", "r (95 % limits)", "limits", ("ci_low", "ci_high"), 2)
AREA = Column("estimate", "AUC (95 % limits)", "limits", ("ci_low", "ci_high"), 2)
BESIDE: Mapping[str, tuple[Column, ...]] = {
    "pearson": (Column("pearson_r", "Pearson r", "fixed", digits=2),),
    "spearman": (Column("spearman_rho", "Spearman rho", "fixed", digits=2),),
    "partial": (
        Column("partial_r", "partial r (95 % limits)", "limits",
               ("partial_low", "partial_high"), 2),
        Column("partial_p", "p of partial r", "p"), Column("partial_given", "given"),
    ),
}  # fmt: skip
R_NAMES = {"pearson": "Pearson r", "spearman": "Spearman rho", "partial": "partial r"}
COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "groups": (
        MEASURE, N_GROUPS, CASE, CONTROL, DIFFERENCE, LIMITS, STATISTIC, DF, P, Q, EFFECT,
        Column("relative", "difference, % of {reference}", "fixed", digits=1),
    ),
    "regression": (
        MEASURE, PREDICTOR, N_ROWS, Column("estimate", "slope", "number"), LIMITS, STATISTIC, DF,
        P, Q, BETA, Column("r2", "R² of the model", "fixed"),
    ),
    "correlation": (
        MEASURE, PREDICTOR, N_ROWS, CORRELATION, STATISTIC, DF, P, Q,
        *BESIDE["pearson"], *BESIDE["spearman"], *BESIDE["partial"],
    ),
    "roc": (
        MEASURE, N_GROUPS, AREA, P, Q, Column("threshold", "cut-off", "number"),
        Column("sensitivity", "sensitivity", "fixed", digits=2),
        Column("specificity", "specificity", "fixed", digits=2), Column("model", "direction"),
    ),
    "classify": (
        Column("predictor", "measures"), N_GROUPS, AREA, P,
        Column("sensitivity", "sensitivity", "fixed", digits=2),
        Column("specificity", "specificity", "fixed", digits=2),
    ),
    "longitudinal": (
        MEASURE, Column("n", "visits", "count"), Column("n_people", "people", "count"),
        Column("estimate", "slope or difference, per unit of time", "number"), LIMITS, STATISTIC,
        DF, P, Q, Column("robust_p", "p, two-stage", "p"),
    ),
    "demographics": (MEASURE, N_GROUPS, CASE, CONTROL, STATISTIC, DF, P),
}  # fmt: skip
CHECKS = (
    MEASURE, PREDICTOR, N_ROWS,
    Column("shapiro_p", "residuals normal? p", "p"),
    Column("levene_p", "variances equal? p", "p"),
    Column("breusch_pagan_p", "variance constant? p", "p"),
    Column("interaction_p", "group by site, p", "p"),
    Column("max_vif", "largest VIF", "fixed", digits=1),
    Column("max_cook", "largest Cook's distance", "fixed", digits=2),
    P, Column("robust_p", "p, robust", "p"),
    Column("p_without_outliers", "p without outliers", "p"),
    Column("outliers", "far from the median of their site"),
)  # fmt: skip
TERMS = (
    Column("label", "measure"), Column("predictor", "predictor"), Column("term", "term"),
    Column("kind", "type", "count"), Column("ss", "sum of squares", "number"),
    Column("df", "df", "df"), Column("df_residual", "residual df", "df"),
    Column("f", "F", "fixed", digits=2), P,
    Column("partial_eta2", "partial eta² (90 % limits)", "limits", ("eta2_low", "eta2_high"), 3),
)  # fmt: skip
MEANS = (
    Column("label", "measure"), Column("factor", "factor"), Column("level", "level"),
    Column("weights", "sites weigh"), Column("mean", "adjusted mean", "number"),
    Column("se", "SE", "number"), DF, Column("ci_low", "95 % limits", "interval", ("ci_high",)),
)  # fmt: skip
ATTRITION = (
    Column("family", "family"), Column("stream", "stream"), Column("site", "site"),
    Column("group", "group"), Column("n_people", "people", "count"),
    Column("n_usable", "with a usable value", "count"),
    Column("n_incomplete", "of these, incomplete", "count"),
    Column("n_excluded", "without any", "count"), Column("reasons", "why"),
)  # fmt: skip
RECHECK = (
    Column("what", "what"), Column("where", "where"), Column("printed", "printed"),
    Column("recomputed", "recomputed"), Column("verdict", "verdict"), Column("comment", "comment"),
)  # fmt: skip


# --------------------------------------------------------------------------- tables


def print_rows(
    rows: Iterable[Row],
    columns: Sequence[Column],
    name: str,
    title: str,
    *,
    names: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> PrintedTable:
    """Make text of rows of data; columns in which nothing is known are left out.

    Parameters
    ----------
    rows : iterable of mapping
        Rows; those with a ``status`` other than tested say why in place of numbers.
    columns : sequence of Column
        What to print.
    name, title : str
        Name of files, and heading.
    names : mapping, optional
        What {case} and {reference} stand for in headings.
    notes : sequence of str
        What stands below.
    """
    printed = [_print_row(row, columns) for row in rows]
    used = [
        k
        for k in range(len(columns))
        if k == 0 or any(row.cells[k] not in ("", NA, f"{NA} + {NA}") for row in printed)
    ]
    head = [_heading(columns[k], names or {}) for k in used]
    kept = [
        PrintedRow(tuple(row.cells[k] for k in used), row.found, row.reason, row.remark)
        for row in printed
    ]
    words = [columns[k].form in WORDS for k in used]
    if any(row.reason and "" not in row.cells for row in kept):  # no room for the reason
        head, words = [*head, "result"], [*words, True]
        kept = [replace(row, cells=(*row.cells, "")) for row in kept]
    return PrintedTable(name, title, tuple(head), tuple(kept), tuple(words), tuple(notes))


def _heading(column: Column, names: Mapping[str, str]) -> str:
    known = {"case": "cases", "reference": "controls"} | dict(names)
    return column.label.format(**known)


def _print_row(row: Row, columns: Sequence[Column]) -> PrintedRow:
    refused = row.get("status", TESTED) != TESTED
    cells = tuple(
        "" if refused and column.form not in ("label", "n", "pair") else cell_text(row, column)
        for column in columns
    )
    reason = str(row.get("reason", "")) if refused else ""
    corrected = row.get("correction") != "none"
    return PrintedRow(cells, corrected and is_found(row), reason, remark_of(row))


def is_found(row: Row) -> bool:
    """Whether q, or p where the analysis corrects nothing, is below .05; never if not tested."""
    value = row.get("p") if row.get("correction") == "none" else row.get("q")
    tested = row.get("status", TESTED) == TESTED
    return tested and is_known(value) and float(value) < Q_FOUND  # type: ignore[arg-type]


def remark_of(row: Row) -> str:
    """What has to stand beside a row that reproduces a published model."""
    if row.get("mode") != "paper" or row.get("status", TESTED) != TESTED:
        return ""
    return PSEUDO if row.get("pseudoreplicated") in (True, "True", "true") else REPRODUCES


def levels_of(analysis: Analysis, groups: tuple[str, str]) -> tuple[str, str]:
    """The two labels that an analysis compares, the first minus the second."""
    return (analysis.levels[0], analysis.levels[1]) if analysis.levels else groups


def analysis_table(
    tests: pd.DataFrame,
    analysis: Analysis,
    groups: tuple[str, str],
    part: tuple[str, str] = ("", ""),
) -> PrintedTable:
    """Results of one analysis.

    Parameters
    ----------
    tests : DataFrame
        The registry.
    analysis : Analysis
        Whose rows to print.
    groups : pair of str
        Labels of case and reference.
    part : pair of str
        A family and its title, where the analysis has several; empty for all rows.
    """
    own = tests[tests["analysis"] == analysis.name]
    family, words = part
    rows = (own[own["family"] == family] if family else own).to_dict("records")
    case, reference = levels_of(analysis, groups)
    names = {"case": case, "reference": reference}
    name = f"{analysis.name}-{family}" if family else analysis.name
    title = f"{analysis.title}: {words}" if family else analysis.title
    return print_rows(
        rows, columns_of(analysis), name, title, names=names,
        notes=table_notes(rows, analysis, (case, reference)),
    )  # fmt: skip


def columns_of(analysis: Analysis) -> tuple[Column, ...]:
    """Columns of the results of one analysis; a correlation is named and not printed twice."""
    if analysis.kind != "correlation":
        return COLUMNS[analysis.kind]
    renamed = replace(CORRELATION, label=f"{R_NAMES[analysis.test]} (95 % limits)")
    again = BESIDE[analysis.test][: 1 if analysis.test != "partial" else 2]
    return tuple(
        renamed if column is CORRELATION else column
        for column in COLUMNS["correlation"]
        if column not in again
    )


def table_notes(
    rows: Sequence[Row], analysis: Analysis, levels: tuple[str, str]
) -> tuple[str, ...]:
    """What a reader needs below a table: means, differences, model, correction."""
    notes = []
    tested = [row for row in rows if row["status"] == TESTED]
    if analysis.kind == "groups" and tested:
        adjusted = is_known(tested[0].get("coding"))
        what = "adjusted mean (standard error)" if adjusted else "mean ± standard deviation"
        notes.append(f"Groups: {what}; difference: {levels[0]} minus {levels[1]}.")
    notes += [f"Model: {model}." for model in models_of(tested)]
    notes += [OPTIMISTIC] if analysis.kind == "roc" and tested else []
    families = list(dict.fromkeys(str(row["family"]) for row in tested))
    if analysis.kind not in ("demographics", "classify") and tested:
        several = "of each measure" if len(families) > 1 else f"'{families[0]}'"
        notes.append(CORRECTIONS[analysis.correction].format(family=several))
    return tuple(notes)


def models_of(rows: Sequence[Row]) -> list[str]:
    """Formulas of `rows`, each once, with the names of measures taken out."""
    found: dict[str, None] = {}
    for row in rows:
        if row["kind"] not in ("groups", "regression", "longitudinal", "correlation"):
            continue
        text = str(row["model"]).replace(str(row["outcome"]), "outcome")
        if is_known(row.get("predictor")) and row["kind"] != "longitudinal":
            text = text.replace(str(row["predictor"]), "predictor")
        found[text] = None
    return list(found)


def demographics_table(
    rows: pd.DataFrame, analysis: Analysis, groups: tuple[str, str], labels: Mapping[str, str]
) -> PrintedTable:
    """Who the groups are.

    Parameters
    ----------
    rows : DataFrame
        `demographics.Demographics.rows`.
    analysis : Analysis
        That it belongs to.
    groups : pair of str
        Labels of case and reference.
    labels : mapping
        Words for variables.
    """
    levels = levels_of(analysis, groups)
    people = {level: _largest(rows, level) for level in levels}
    columns = (
        Column("words", "variable"),
        *(Column(f"text_{level}", _literal(f"{level}, n = {people[level]}")) for level in levels),
        Column("smd", "SMD", "fixed", digits=2), Column("test", "test"), STATISTIC, DF, P,
        Column("other", "beside it"),
    )  # fmt: skip
    notes = (
        "Numbers: mean ± standard deviation, n where somebody is missing; counts: people (share "
        "of those known).",
        NOT_ALIKE,
        *_row_notes(rows, labels),
    )
    table = print_rows(
        [_demographic(row, levels, labels) for row in rows.to_dict("records")],
        columns,
        analysis.name,
        analysis.title,
        notes=notes,
    )
    blank = tuple(
        replace(row, cells=tuple("" if cell == NA else cell for cell in row.cells))
        for row in table.rows
    )
    numbers = [label.startswith(tuple(levels)) for label in table.head]
    words = tuple(word and not n for word, n in zip(table.words, numbers, strict=True))
    return replace(table, rows=blank, words=words)


def _literal(text: str) -> str:
    """Heading in which braces stand for themselves."""
    return text.replace("{", "{{").replace("}", "}}")


def _largest(rows: pd.DataFrame, level: str) -> int:
    total = rows[f"n_{level}"].fillna(0) + rows[f"missing_{level}"].fillna(0)
    return int(total.max())


def _row_notes(rows: pd.DataFrame, labels: Mapping[str, str]) -> list[str]:
    """Notes of variables, those with the same note together."""
    found: dict[str, list[str]] = {}
    for row in rows.to_dict("records"):
        if is_known(row.get("note")):
            name = str(row["variable"])
            found.setdefault(str(row["note"]), []).append(labels.get(name, name))
    return [f"{', '.join(names)}: {note}." for note, names in found.items()]


def _demographic(
    row: Row, levels: Sequence[str], labels: Mapping[str, str]
) -> dict[str, Any]:  # fmt: skip
    """One row of the table of demographics with its texts."""
    name = str(row["variable"])
    words = labels.get(name, name)
    is_count = row["kind"] == "count"
    found = dict(row) | {"words": f"{words}: {row['level']}" if is_count else words}
    for level in levels:
        found[f"text_{level}"] = _described(row, level, is_count)
    found["test"] = TESTS.get(str(row["test"]), row["test"])
    if is_known(row.get("other_p")):
        name = TESTS.get(str(row["other_test"]), str(row["other_test"]))
        if is_count:  # the statistic is that of chi-squared, the p value that of Fisher
            name += f" ({row['df']:.0f}) = {fixed(row['value'], 2)}"
            found |= {"value": None, "df": None}
        found["other"] = f"{name}: p {equals(p_text(row['other_p']))}"
    return found | {"status": TESTED}


def _described(row: Row, level: str, is_count: bool) -> str:
    n, missing = row.get(f"n_{level}"), row.get(f"missing_{level}")
    if not is_known(n) or n == 0:
        return NA
    if is_count:
        return f"{int(row[f'count_{level}'])} ({row[f'percent_{level}']:.0f} %)"
    text = significant(row[f"mean_{level}"])
    if is_known(row[f"sd_{level}"]):
        text += f" ± {significant(row[f'sd_{level}'])}"
    return f"{text} (n = {int(n)})" if is_known(missing) and missing else text  # type: ignore[arg-type]


def equals(text: str) -> str:
    """A number with its relation: ``= 0.03``, ``< 0.001``."""
    return text if text[:1] in "<>" else f"= {text}"


def beside_table(joined: pd.DataFrame, name: str, title: str) -> PrintedTable:
    """Published values beside those obtained.

    Parameters
    ----------
    joined : DataFrame
        What `published.beside` or `replication.demographics_beside` returned.
    name, title : str
        Name of files, and heading.
    """
    words = [str(key) for key in joined.columns if key in ("row", "outcome", "predictor")]
    columns = [Column(key, "variable" if key == "row" else key) for key in words]
    statistics = [
        key.partition("_")[2] for key in map(str, joined.columns) if key.startswith("published_")
    ]
    for statistic in dict.fromkeys([*statistics, "n"]):
        heading = _literal(STATISTICS.get(statistic, statistic))
        for prefix, source in SOURCES.items():
            if (key := f"{prefix}_{statistic}") in joined:
                form = _beside_form(statistic, joined[key])
                columns.append(Column(key, f"{heading}, {source}", form))
    columns += [Column("verdict", "verdict")] if "verdict" in joined else []
    table = print_rows(joined.to_dict("records"), columns, name, title)
    blank = tuple(
        replace(row, cells=tuple("" if cell == NA else cell for cell in row.cells))
        for row in table.rows
    )
    keep = (*words, "verdict")
    is_words = tuple(label in keep or label == "variable" for label in table.head)
    return replace(table, rows=blank, words=is_words)


def _beside_form(statistic: str, values: pd.Series) -> str:
    """Form of one column of published or obtained values."""
    if any(isinstance(value, str) for value in values):
        return "text"
    return {"p": "p", "p_model": "p", "n": "count", "t": "fixed2"}.get(statistic, "number")


def plain_table(frame: pd.DataFrame, name: str, title: str) -> PrintedTable:
    """Table that is text already."""
    columns = [Column(str(key), _literal(str(key))) for key in frame.columns]
    return print_rows(frame.to_dict("records"), columns, name, title)


def labelled(rows: pd.DataFrame, tests: pd.DataFrame, analysis: str) -> list[dict[Any, Any]]:
    """Rows of terms or means of one analysis, with labels in place of names."""
    words = {**dict(zip(tests["outcome"], tests["label"], strict=True)),
             **{k: v for k, v in zip(tests["predictor"], tests["predictor_label"], strict=True)
                if is_known(v)}}  # fmt: skip
    if rows.empty:
        return []
    own = rows[rows["analysis"] == analysis].to_dict("records")
    for row in own:
        row["label"] = words.get(row["outcome"], row["outcome"])
        for key in ("predictor", "term"):
            if is_known(row.get(key)):
                row[key] = words.get(row[key], row[key])
    return own


# --------------------------------------------------------------------------- three formats


def to_csv(table: PrintedTable) -> str:
    """Comma-separated text with a column for reasons and remarks."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*table.head, "remark"])
    for row in table.rows:
        remark = f"not tested: {row.reason}" if row.reason else row.remark
        writer.writerow([*row.cells, remark])
    return stream.getvalue()


def to_html(table: PrintedTable) -> str:
    """One escaped ``<table>`` with its notes; no style of its own."""
    lines = ['<div class="wide"><table class="printed">',
             f"<caption>{html.escape(table.title)}</caption>", "<thead><tr>"]  # fmt: skip
    for label, words in zip(table.head, table.words, strict=True):
        lines.append(f'<th{_class(words)} scope="col">{html.escape(label)}</th>')
    lines.append("</tr></thead><tbody>")
    lines += [_html_row(row, table) for row in table.rows]
    lines.append("</tbody></table></div>")
    notes = [f"{DAGGER} {remark}" for remark in table.remarks] + list(table.notes)
    if notes:
        lines.append(f'<p class="notes">{"<br>".join(html.escape(note) for note in notes)}</p>')
    return "\n".join(lines) + "\n"


def _class(words: bool) -> str:
    return ' class="text"' if words else ""


def _html_row(row: PrintedRow, table: PrintedTable) -> str:
    style = "found" if row.found else "refused" if row.reason else ""
    kept = _before_reason(row)
    cells = [
        html.escape(with_minus(cell)) if words else _unbroken(html.escape(with_minus(cell)))
        for cell, words in zip(row.cells[:kept], table.words, strict=False)
    ]
    if row.remark:
        cells[0] += f"<sup>{DAGGER}</sup>"
    text = [f'<th class="text" scope="row">{cells[0]}</th>']
    text += [
        f"<td{_class(words)}>{cell}</td>"
        for cell, words in zip(cells[1:], table.words[1:kept], strict=True)
    ]
    if row.reason and kept < len(row.cells):
        span = len(row.cells) - kept
        text.append(
            f'<td class="text" colspan="{span}">not tested: {html.escape(row.reason)}</td>'
        )
    return f"<tr{f' class={chr(34)}{style}{chr(34)}' if style else ''}>{''.join(text)}</tr>"


def _unbroken(text: str) -> str:
    """Numbers that break between lines only before a parenthesis."""
    return re.sub(r" (?!\()", "&nbsp;", text)


def _before_reason(row: PrintedRow) -> int:
    """Number of cells before the reason of a row that was not tested."""
    if not row.reason:
        return len(row.cells)
    filled = next((k for k, cell in enumerate(row.cells) if not cell), len(row.cells))
    return max(1, min(filled, len(row.cells) - 1))


def with_minus(text: str) -> str:
    """Text with a minus sign in place of the hyphen before numbers."""
    return re.sub(r"(?<![\w.])-(?=[\d.])", "\u2212", text)


TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": "$<$", ">": "$>$", "|": "$|$", "±": r"$\pm$", "\u2212": "$-$", "²": "$^2$", "³": "$^3$",
    "×": r"$\times$", "µ": r"$\mu$", "≤": r"$\leq$", "≥": r"$\geq$", "°": r"$^\circ$",
    DAGGER: r"\textsuperscript{\dag}", '"': r"\textquotedbl{}", "\n": " ",
}  # fmt: skip


def escape_tex(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(TEX.get(letter, letter) for letter in with_minus(text))


def to_latex(table: PrintedTable) -> str:
    """``longtable`` with rules of booktabs; both packages have to be loaded."""
    align = "".join("l" if words else "r" for words in table.words)
    head = " & ".join(escape_tex(label) for label in table.head) + r" \\"
    lines = [
        "% \\usepackage{booktabs,longtable}",
        f"\\begin{{longtable}}{{{align}}}",
        f"\\caption{{{escape_tex(table.title)}}}\\label{{tab:{table.name.replace('_', '-')}}}\\\\",
        "\\toprule", head, "\\midrule", "\\endfirsthead",
        "\\toprule", head, "\\midrule", "\\endhead",
        "\\bottomrule", "\\endlastfoot",
    ]  # fmt: skip
    lines += [_latex_row(row) for row in table.rows]
    lines.append("\\end{longtable}")
    notes = [f"{DAGGER} {remark}." for remark in table.remarks] + list(table.notes)
    lines += [rf"\noindent{{\footnotesize {escape_tex(note)}\par}}" for note in notes]
    return "\n".join(lines) + "\n"


def _latex_row(row: PrintedRow) -> str:
    kept = _before_reason(row)
    cells = [escape_tex(cell) for cell in row.cells[:kept]]
    if row.remark:
        cells[0] += TEX[DAGGER]
    if row.reason and kept < len(row.cells):
        words = escape_tex(f"not tested: {row.reason}")
        cells.append(rf"\multicolumn{{{len(row.cells) - kept}}}{{l}}{{{words}}}")
    return " & ".join(cells) + r" \\"
