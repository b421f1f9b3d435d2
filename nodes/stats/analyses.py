"""Declared analyses carried out: every outcome a row of one registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.analysis_demographics import ask_demographics
from alsflow.nodes.stats.analysis_diagnosis import ask_classify, ask_roc
from alsflow.nodes.stats.analysis_groups import ask_groups
from alsflow.nodes.stats.analysis_longitudinal import ask_longitudinal
from alsflow.nodes.stats.analysis_rows import Answer, Question, first_row, refused
from alsflow.nodes.stats.analysis_slopes import ask_correlation, ask_regression
from alsflow.nodes.stats.catalogue import Catalogue
from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.plan import (
    GROUP,
    NEEDS_PREDICTORS,
    Analysis,
    Expansion,
    expand,
    require_columns,
)
from alsflow.nodes.stats.registry import (
    ORDER,
    Registry,
    assert_identities,
    correct,
    diffusion_faults,
)
from alsflow.nodes.stats.sample import (
    Rows,
    Sample,
    all_visits,
    by_side,
    choose_people,
    first_visits,
)

Ask = Callable[[Question], Answer]
ASK: Mapping[str, Ask] = {
    "groups": ask_groups,
    "regression": ask_regression,
    "correlation": ask_correlation,
    "roc": ask_roc,
    "longitudinal": ask_longitudinal,
}
VISITS = ("longitudinal",)  # kinds that look at all visits of a person


def run_analyses(
    sample: Sample,
    analyses: Sequence[Analysis],
    catalogue: Catalogue,
    *,
    why_missing: Mapping[tuple[str, str], str] | None = None,
    rng: np.random.Generator | None = None,
    strict: bool = True,
    source: str = "the configuration file",
) -> Registry:
    """Carry out every analysis and correct p within each family.

    Parameters
    ----------
    sample : Sample
        The cohort table; visits of a person in their order. All kinds but longitudinal take the
        first of each.
    analyses : sequence of Analysis
        What `plan.parse_analyses` returned.
    catalogue : Catalogue
        Measures and scores.
    why_missing : mapping, optional
        Reason for each (person, measure) without a usable value.
    rng : Generator, optional
        Deals people to folds where there are no sites to leave out.
    strict : bool
        Whether a name that nobody knows is refused, and one that nobody has is a row n/a.
        Otherwise they are passed over with a note: a profile asks for what not every study has.
    source : str
        How messages name the file.

    Returns
    -------
    registry : Registry
        Its identities hold, see `registry.assert_identities`.
    """
    answers: list[tuple[Analysis, Answer]] = []
    notes: list[str] = []
    for analysis in analyses:
        try:
            found = _run(
                analysis, sample, catalogue, why_missing or {}, rng, (source, strict), notes
            )
        except NotEstimableError as problem:
            notes.append(f"{analysis.name} was passed over: {problem}")
            continue
        except BadInputError as problem:
            if strict:
                raise
            notes.append(f"{analysis.name} was passed over: {problem}")
            continue
        answers += [(analysis, answer) for answer in found]
    tests = correct(pd.DataFrame([answer.row for _, answer in answers], columns=list(ORDER)))
    assert_identities(tests)
    notes += diffusion_faults(first_visits(sample).table, list(catalogue.measures))
    return Registry(
        tests=tests,
        terms=_stack(answer.terms for _, answer in answers),
        means=_stack(answer.means for _, answer in answers),
        tables={
            f"{analysis.name}_{name}": table
            for analysis, answer in answers
            for name, table in answer.tables.items()
        },
        notes=tuple(dict.fromkeys(notes)),
        objects={_key(answer): answer.fit for _, answer in answers if answer.fit is not None},
    )


def _stack(rows: Iterable[Sequence[Mapping[str, object]]]) -> pd.DataFrame:
    return pd.DataFrame([row for group in rows for row in group])


def _key(answer: Answer) -> tuple[str, str, str]:
    row = answer.row
    return str(row["analysis"]), str(row["outcome"]), str(row["predictor"])


def _run(
    analysis: Analysis,
    sample: Sample,
    catalogue: Catalogue,
    why_missing: Mapping[tuple[str, str], str],
    rng: np.random.Generator | None,
    reading: tuple[str, bool],
    notes: list[str],
) -> list[Answer]:
    """Answers of one analysis, one per outcome and predictor; `reading`: source and strict."""
    sample = all_visits(sample) if analysis.kind in VISITS else first_visits(sample)
    where = f"{reading[0]}, analysis {analysis.name}"
    outcomes, predictors = _expanded(analysis, sample, catalogue, (where, reading[1]), notes)
    covariates = _covariates(analysis, sample, where)
    table = choose_people(sample, analysis)
    if analysis.unit == "side":
        names = [*outcomes.names, *predictors.names, *covariates]
        table = by_side(table, names, _limb_scores(names, sample))
    question = Question(
        analysis=analysis,
        sample=sample,
        catalogue=catalogue,
        table=table,
        outcome="",
        site=sample.site if analysis.site != "none" else "",
        covariates=covariates,
        why_missing=why_missing,
    )
    if analysis.kind == "demographics":
        return ask_demographics(question, outcomes.names)
    if analysis.kind == "classify":
        return _classify(question, outcomes, rng)
    needs_both = analysis.kind in NEEDS_PREDICTORS
    pairs = product(outcomes.names, predictors.names if needs_both else ("",))
    asked = [
        ASK[analysis.kind](replace(question, outcome=outcome, predictor=predictor))
        for outcome, predictor in pairs
        if outcome != predictor
    ]
    if reading[1]:
        return [*asked, *_absent(question, outcomes, predictors)]
    missing = (*outcomes.absent, *predictors.absent)
    notes += [f"{analysis.name}: nobody has {name}" for name in missing]
    return asked


def _expanded(
    analysis: Analysis,
    sample: Sample,
    catalogue: Catalogue,
    reading: tuple[str, bool],
    notes: list[str],
) -> tuple[Expansion, Expansion]:
    """Outcomes and predictors as columns; families that nobody has are noted."""
    found = []
    for key in ("outcomes", "predictors"):
        entries = getattr(analysis, key)
        expansion = expand(
            entries,
            catalogue,
            sample.table.columns,
            sides=analysis.unit == "side",
            strict=reading[1],
            where=f"{reading[0]}: {key}",
        )
        notes += [f"{analysis.name}: nobody has a measure of {one}" for one in expansion.empty]
        found.append(expansion)
    return found[0], found[1]


def _covariates(analysis: Analysis, sample: Sample, where: str) -> tuple[str, ...]:
    names = tuple(sample.column(name) for name in analysis.covariates)
    others = [sample.group, sample.column(analysis.by)]
    others += [sample.site] if sample.site and analysis.site != "none" else []
    others += [analysis.time] if analysis.kind in VISITS else []
    columns = [str(name) for name in sample.table.columns]
    require_columns([*names, *others], columns, f"{where}: covariates")
    if analysis.kind == "groups" and analysis.by in (GROUP, sample.group):
        names = tuple(name for name in names if name != sample.group)
    return names


def _limb_scores(names: Sequence[str], sample: Sample) -> list[str]:
    """Those of `names` whose side is that of a limb, not of a hemisphere."""
    return [name for name in names if name.format(side="left") in sample.scores]


def _classify(
    question: Question, outcomes: Expansion, rng: np.random.Generator | None
) -> list[Answer]:
    asked = replace(question, outcome=question.sample.column(question.analysis.by))
    if not outcomes.names:
        return []
    return [ask_classify(asked, outcomes.names, rng)]


def _absent(question: Question, outcomes: Expansion, predictors: Expansion) -> list[Answer]:
    """Rows of what was named one by one but nobody has."""
    needs_both = question.analysis.kind in NEEDS_PREDICTORS
    all_predictors = (*predictors.names, *predictors.absent) if needs_both else ("",)
    pairs = list(product(outcomes.absent, all_predictors))
    pairs += list(product(outcomes.names, predictors.absent))
    rows = Rows(question.table.iloc[:0], len(question.table), ())
    found = []
    for outcome, predictor in pairs:
        missing = outcome if outcome in outcomes.absent else predictor
        row = first_row(replace(question, outcome=outcome, predictor=predictor), rows)
        row["missing"] = "everybody: no such column in the cohort table"
        found.append(refused(row, NotEstimableError(f"nobody has {missing}")))
    return found
