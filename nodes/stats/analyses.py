"""Declared analyses carried out: every outcome a row of one registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    require_numbers,
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
    run = _Run(sample, catalogue, why_missing or {}, rng, strict, source)
    answers = [(analysis, answer) for analysis in analyses for answer in run.answers(analysis)]
    tests = correct(pd.DataFrame([answer.row for _, answer in answers], columns=list(ORDER)))
    assert_identities(tests)
    faults = diffusion_faults(first_visits(sample).table, list(catalogue.measures))
    return Registry(
        tests=tests,
        terms=_stack(answer.terms for _, answer in answers),
        means=_stack(answer.means for _, answer in answers),
        tables={
            f"{analysis.name}_{name}": table
            for analysis, answer in answers
            for name, table in answer.tables.items()
        },
        notes=tuple(dict.fromkeys([*run.notes, *faults])),
        objects={_key(answer): answer.fit for _, answer in answers if answer.fit is not None},
    )


def _stack(rows: Iterable[Sequence[Mapping[str, object]]]) -> pd.DataFrame:
    return pd.DataFrame([row for group in rows for row in group])


def _key(answer: Answer) -> tuple[str, str, str]:
    row = answer.row
    return str(row["analysis"]), str(row["outcome"]), str(row["predictor"])


@dataclass
class _Run:
    """One run over all analyses; `notes` grows with what is passed over."""

    sample: Sample
    catalogue: Catalogue
    why_missing: Mapping[tuple[str, str], str]
    rng: np.random.Generator | None
    strict: bool
    source: str
    notes: list[str] = field(default_factory=list)

    def answers(self, analysis: Analysis) -> list[Answer]:
        """Answers of one analysis; none where it is passed over."""
        try:
            return self._answers(analysis)
        except BadInputError as problem:
            if self.strict and not isinstance(problem, NotEstimableError):
                raise
            self.notes.append(f"{analysis.name} was passed over: {problem}")
            return []

    def _answers(self, analysis: Analysis) -> list[Answer]:
        all_rows = analysis.kind in VISITS
        sample = all_visits(self.sample) if all_rows else first_visits(self.sample)
        where = f"{self.source}, analysis {analysis.name}"
        outcomes, predictors = self._expanded(analysis, sample, where)
        named = (*outcomes.names, *predictors.names)
        question = self._question(analysis, sample, named, where)
        if analysis.kind == "demographics":
            return ask_demographics(question, outcomes.names)
        require_numbers(question.table, named, where)
        if analysis.kind == "classify":
            return _classify(question, outcomes, self.rng)
        needs_both = analysis.kind in NEEDS_PREDICTORS
        asked = [
            ASK[analysis.kind](replace(question, outcome=outcome, predictor=predictor))
            for outcome, predictor in product(
                outcomes.names, predictors.names if needs_both else ("",)
            )
            if outcome != predictor
        ]
        if self.strict:
            return [*asked, *_absent(question, outcomes, predictors)]
        missing = (*outcomes.absent, *predictors.absent)
        self.notes += [f"{analysis.name}: nobody has {name}" for name in missing]
        return asked

    def _expanded(
        self, analysis: Analysis, sample: Sample, where: str
    ) -> tuple[Expansion, Expansion]:
        """Outcomes and predictors as columns; families that nobody has are noted."""
        found = []
        for key in ("outcomes", "predictors"):
            expansion = expand(
                getattr(analysis, key),
                self.catalogue,
                sample.table.columns,
                sides=analysis.unit == "side",
                strict=self.strict,
                where=f"{where}: {key}",
            )
            empty = expansion.empty
            self.notes += [f"{analysis.name}: nobody has a measure of {one}" for one in empty]
            found.append(expansion)
        return found[0], found[1]

    def _question(
        self, analysis: Analysis, sample: Sample, named: Sequence[str], where: str
    ) -> Question:
        """What the outcomes of an analysis share: people, site, covariates."""
        covariates = _covariates(analysis, sample, where)
        table = choose_people(sample, analysis)
        if analysis.unit == "side":
            names = [*named, *covariates]
            table = by_side(table, names, _limb_scores(names, sample))
        return Question(
            analysis=analysis,
            sample=sample,
            catalogue=self.catalogue,
            table=table,
            outcome="",
            site=sample.site if analysis.site != "none" else "",
            covariates=covariates,
            why_missing=self.why_missing,
        )


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
