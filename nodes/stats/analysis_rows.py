"""What every kind of analysis shares: the question, its row in the registry, its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from alsflow.nodes.stats.catalogue import Catalogue, Measure
from alsflow.nodes.stats.design import Design, NotEstimableError
from alsflow.nodes.stats.diagnostics import diagnose
from alsflow.nodes.stats.plan import CATALOGUE, SIDE, Analysis
from alsflow.nodes.stats.registry import TESTED, blank_row
from alsflow.nodes.stats.regression import LinearFit
from alsflow.nodes.stats.sample import Rows, Sample, cells, missing_cells
from alsflow.nodes.stats.tables import MISSING

Levels = tuple[str, str, str]  # column of the groups, case, reference
PAPER_NOTE = "reproduces the published model, including its pseudoreplication"


@dataclass(frozen=True)
class Question:
    """One outcome (on one predictor) of one analysis, and the rows that may answer it."""

    analysis: Analysis
    sample: Sample
    catalogue: Catalogue
    table: pd.DataFrame  # rows of the people whom the analysis is about
    outcome: str
    predictor: str = ""
    site: str = ""  # column of the centres, where the model has one
    covariates: tuple[str, ...] = ()
    why_missing: Mapping[tuple[str, str], str] = field(default_factory=dict)
    designs: dict[tuple[bool, tuple[object, ...]], Design] = field(default_factory=dict)  # shared

    @property
    def levels(self) -> dict[str, tuple[str, ...]]:
        """Factors of the model that are no words, so that they enter as categories."""
        sample = self.sample
        named = [name for name in self.covariates if name in sample.factors]
        found: dict[str, tuple[str, ...]] = dict.fromkeys(named, ())
        if self.site:
            found[self.site] = ()
        if sample.group in self.covariates:
            found[sample.group] = (sample.case, sample.reference)
        return found


@dataclass(frozen=True)
class Answer:
    """What a question came to."""

    row: Mapping[str, object]
    terms: tuple[Mapping[str, object], ...] = ()
    means: tuple[Mapping[str, object], ...] = ()
    fit: object = None  # for figures
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def measure_of(catalogue: Catalogue, name: str) -> Measure | None:
    """Return what is known of a measure; with ``{side}``, of its left side."""
    return catalogue.measures.get(name.replace(SIDE, "left"))


def label_of(catalogue: Catalogue, name: str) -> str:
    """Return a measure in words, or the name of a column as it is."""
    measure = measure_of(catalogue, name)
    if measure is None:
        return name
    label = measure.label
    return label.replace(", left", ", by side").replace(" left", "") if SIDE in name else label


def unit_of(catalogue: Catalogue, name: str) -> str:
    """Unit of a measure; n/a for a column that the catalogue does not know."""
    measure = measure_of(catalogue, name)
    return measure.unit if measure else MISSING


def first_row(question: Question, rows: Rows, **known: object) -> dict[str, object]:
    """Row of the registry with all that is known before a model is fitted."""
    analysis, catalogue = question.analysis, question.catalogue
    family = analysis.family
    measure = measure_of(catalogue, question.outcome)
    if family == CATALOGUE:
        family = measure.family if measure else analysis.name
    row = blank_row(
        analysis=analysis.name,
        kind=analysis.kind,
        mode=analysis.mode,
        family=family,
        correction=analysis.correction,
        outcome=question.outcome,
        measure=question.outcome,
        label=label_of(catalogue, question.outcome),
        unit=unit_of(catalogue, question.outcome),
        people=analysis.people,
        rows=analysis.unit,
        test=analysis.test or MISSING,
        n=rows.n,
        n_people=rows.n_people,
        n_missing=rows.n_missing,
        outliers="; ".join(rows.outliers) or MISSING,
        missing=_missing(question, rows),
    )
    if question.predictor:
        row["predictor"] = question.predictor
        row["predictor_label"] = label_of(catalogue, question.predictor)
        row["predictor_unit"] = unit_of(catalogue, question.predictor)
    return row | known


def group_counts(question: Question, rows: Rows, levels: Levels) -> dict[str, object]:
    """Numbers of rows in both groups, and per site; `levels`: column, case and reference."""
    group, case, reference = levels
    site, pair = question.sample.site, (case, reference)
    counts = rows.table[group].value_counts()
    return {
        "contrast": f"{case} - {reference}",
        "n_case": int(counts.get(case, 0)),
        "n_control": int(counts.get(reference, 0)),
        "n_per_site": cells(rows.table, site, group, pair),
        "missing_per_site": missing_cells(question.table, rows.table, site, group, pair),
    }


def _missing(question: Question, rows: Rows) -> str:
    """Who is missing and why, those with the same reason together."""
    people: dict[str, list[str]] = {}
    names = [question.outcome, question.predictor, question.site, *question.covariates]
    known = [name for name in dict.fromkeys(names) if name and name in question.table]
    lost = question.table.loc[~question.table.index.isin(rows.table.index), known].isna()
    for person, gaps in lost.iterrows():
        reasons = [_why(question, str(person), str(name)) for name in lost.columns[gaps]]
        people.setdefault(" and ".join(reasons) or "not in the model", []).append(str(person))
    return "; ".join(f"{', '.join(who)}: {why}" for why, who in people.items()) or MISSING


def _why(question: Question, person: str, name: str) -> str:
    """Why a person has no value of a column."""
    reason = question.why_missing.get((person, name), "")
    if reason and name == question.outcome:  # the row is about nothing else
        return reason
    return f"no {name} ({reason})" if reason else f"no {name}"


def refused(row: Mapping[str, object], problem: NotEstimableError) -> Answer:
    """Row of a question that these people cannot answer."""
    return Answer(dict(row) | {"status": MISSING, "reason": str(problem)})


def answered(row: Mapping[str, object], notes: tuple[str, ...] = ()) -> dict[str, object]:
    """Row of a question that was answered, with its notes."""
    return dict(row) | {
        "status": TESTED,
        "notes": "; ".join(dict.fromkeys(note for note in notes if note)) or MISSING,
    }


def assumptions(fit: LinearFit) -> dict[str, float]:
    """Numbers on the assumptions of a linear model; NaN where they cannot be had."""
    found = diagnose(fit)
    p = {check.test: check.p for check in found.checks}

    def first(*words: str) -> float:
        known = [value for test, value in p.items() if any(word in test for word in words)]
        return float(known[0]) if known else float("nan")

    inflation = [check.statistic for check in found.checks if "nflation" in check.test]
    cook = found.influence.cook
    return {
        "shapiro_p": first("Shapiro"),
        "levene_p": first("Brown", "Levene"),
        "breusch_pagan_p": first("Breusch"),
        "max_vif": float(max(inflation)) if inflation else float("nan"),
        "max_cook": float(np.nanmax(cook)) if np.isfinite(cook).any() else float("nan"),
    }
