"""Analyses of the kind demographics: who the groups are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from alsflow.nodes.stats.analysis_rows import Answer, Question, answered, first_row, group_counts
from alsflow.nodes.stats.demographics import demographics
from alsflow.nodes.stats.registry import TESTED
from alsflow.nodes.stats.sample import complete, factor_names, two_levels
from alsflow.nodes.stats.tables import MISSING

STAGES = ("kings", "mitos", "el_escorial", "awaji", "gold_coast")  # numbers that name a class
USUAL = ("sex", "age")  # described where no outcomes are named


def ask_demographics(question: Question, names: Sequence[str]) -> list[Answer]:
    """Table of the groups; each variable that was tested is a row of the registry too."""
    sample, analysis = question.sample, question.analysis
    group, case, reference = two_levels(sample, analysis)
    chosen = [name for name in names or _usual(question) if name != group]
    counts = [*factor_names(sample, chosen), *(name for name in chosen if name in STAGES)]
    numbers = [name for name in chosen if name not in counts]
    found = demographics(
        question.table,
        group=group,
        groups=(case, reference),
        numbers=numbers,
        counts=counts,
        test=analysis.test,
        within=_within(question.table, chosen, group, (case, reference)),
    )
    answers = []
    for name in chosen:
        own = found.rows[found.rows["variable"] == name].iloc[0]
        answers.append(_answer(replace(question, outcome=name), own, group, (case, reference)))
    notes = pd.DataFrame({"note": [*found.checks, *found.notes]})
    tables = {"demographics": found.rows, "demographics_notes": notes}
    return [replace(answers[0], tables=tables), *answers[1:]] if answers else []


def _usual(question: Question) -> list[str]:
    table, sample = question.table, question.sample
    names = [*USUAL, *question.covariates, sample.site]
    return [name for name in dict.fromkeys(names) if name and name in table]


def _within(
    table: pd.DataFrame, names: Sequence[str], group: str, levels: tuple[str, str]
) -> dict[str, str]:
    """Variables that only one group has, as the duration of a disease."""
    found = {}
    for name in names:
        having = [
            level for level in levels if table.loc[table[group] == level, name].notna().any()
        ]
        if len(having) == 1:
            found[name] = having[0]
    return found


def _answer(question: Question, own: pd.Series, group: str, levels: tuple[str, str]) -> Answer:
    rows = complete(question.table, [question.outcome, group])
    row = first_row(question, rows) | group_counts(question, rows, (group, *levels))
    case, reference = levels
    case_mean, control_mean = (_number(own, f"mean_{label}") for label in levels)
    row |= {
        "test": own["test"] or MISSING,
        "statistic": own["statistic"] or MISSING,
        "value": float(own["value"]),
        "t": float(own["value"]) if own["statistic"] == "t" else float("nan"),
        "df": float(own["df"]),
        "p": float(own["p"]),
        "estimate": case_mean - control_mean,
        "effect": "standardised mean difference",
        "effect_size": float(own["smd"]),
        "case_mean": case_mean,
        "case_sd": _number(own, f"sd_{case}"),
        "control_mean": control_mean,
        "control_sd": _number(own, f"sd_{reference}"),
        "model": f"{question.outcome} by {group}",
    }
    if pd.isna(own["p"]):
        return Answer(row | {"status": MISSING, "reason": own["note"] or "not tested"})
    notes = (str(own["note"]),) if own["note"] else ()
    return Answer(answered(row, notes) | {"status": TESTED})


def _number(own: pd.Series, column: str) -> float:
    """Cell of a column that not every row of the table has."""
    value = own.get(column)
    return float("nan") if value is None else float(value)
