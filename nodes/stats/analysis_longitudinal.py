"""Analyses of the kind longitudinal: slopes over visits, by group."""

from __future__ import annotations

from alsflow.nodes.stats.analysis_rows import (
    Answer,
    Question,
    answered,
    first_row,
    refused,
)
from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.longitudinal import Longitudinal, LongitudinalModel, analyse_slopes
from alsflow.nodes.stats.sample import PERSON, complete
from alsflow.nodes.stats.tables import MISSING


def ask_longitudinal(question: Question) -> Answer:
    """Difference of slopes between the groups, or the slope of the one group asked for."""
    analysis, sample = question.analysis, question.sample
    both = analysis.people == "all"
    needed = [question.outcome, analysis.time, *question.covariates]
    needed += [question.site] if question.site else []
    rows = complete(question.table, needed, [question.outcome], question.site)
    row = first_row(question, rows, predictor=analysis.time, statistic="t") | {"rows": "visit"}
    model = LongitudinalModel(
        outcome=question.outcome,
        time=analysis.time,
        person=PERSON,
        group=sample.group if both else "",
        reference=sample.reference if both else "",
        site=question.site,
        covariates=question.covariates,
        levels={k: v for k, v in question.levels.items() if k != sample.group},
        random=analysis.test,
    )
    try:
        found = analyse_slopes(rows.table, model)
    except NotEstimableError as problem:
        return refused(row, problem)
    row |= _numbers(found) | {"contrast": _contrast(question, both)}
    notes = (*found.notes, f"{found.n_once} people were seen once", _two_stage(found))
    tables = {f"slopes_{question.outcome}": found.people, f"retention_{question.outcome}":
              found.retention}  # fmt: skip
    return Answer(answered(row, notes), fit=found, tables=tables)


def _contrast(question: Question, both: bool) -> str:
    sample = question.sample
    return f"slope of {sample.case} - slope of {sample.reference}" if both else MISSING


def _numbers(found: Longitudinal) -> dict[str, object]:
    chosen = found.interactions[0] if found.interactions else found.slopes[0]
    row: dict[str, object] = {
        "n": found.n_visits,
        "n_people": found.n_people,
        "model": found.formula,
        "coding": "treatment, group; others sum",
        "df": chosen.df,
        "estimate": chosen.estimate,
        "se": chosen.se,
        "ci_low": chosen.ci_low,
        "ci_high": chosen.ci_high,
        "t": chosen.statistic,
        "value": chosen.statistic,
        "p": chosen.p,
        "residual_sd": found.mixed.residual_sd,
        "effect": "difference of slopes" if found.interactions else "slope",
        "effect_size": chosen.estimate,
        "effect_low": chosen.ci_low,
        "effect_high": chosen.ci_high,
    }
    if found.two_stage.differences:
        beside = found.two_stage.differences[0]
        row |= {"robust": "two-stage", "robust_se": beside.se, "robust_df": beside.df,
                "robust_p": beside.p}  # fmt: skip
    return row


def _two_stage(found: Longitudinal) -> str:
    if found.two_stage.differences:
        beside = found.two_stage.differences[0]
        return f"two-stage slopes: {beside.estimate:.4g}, p = {beside.p:.3g}"
    return f"no two-stage slopes: {found.two_stage.reason}" if found.two_stage.reason else ""
