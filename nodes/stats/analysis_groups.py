"""Analyses of the kind groups: one measure between two groups."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from alsflow.nodes.stats.analysis_rows import (
    PAPER_NOTE,
    Answer,
    Question,
    answered,
    assumptions,
    first_row,
    group_counts,
    measure_of,
    refused,
)
from alsflow.nodes.stats.anova import anova
from alsflow.nodes.stats.design import Design, NotEstimableError, build_design
from alsflow.nodes.stats.effects import hedges_factor
from alsflow.nodes.stats.emm import marginal_means
from alsflow.nodes.stats.linear import GroupDifference, group_difference
from alsflow.nodes.stats.mixed import fit_mixed_design
from alsflow.nodes.stats.regression import LinearFit, contrast_test, fit_linear, robust
from alsflow.nodes.stats.sample import PERSON, Rows, complete, two_levels
from alsflow.nodes.stats.tables import MISSING
from alsflow.nodes.stats.two_groups import TwoGroups, compare_groups

DIFFERENCE_FIELDS = (
    "df", "estimate", "se", "ci_low", "ci_high", "t", "p", "g", "g_low", "g_high", "case_mean",
    "control_mean", "relative", "relative_low", "relative_high", "residual_sd", "r2",
)  # fmt: skip
BOTH_WEIGHTS = ("equal", "proportional")


def ask_groups(question: Question) -> Answer:
    """Difference of one measure between two groups, by the test that the analysis names."""
    levels = two_levels(question.sample, question.analysis)
    needed = [question.outcome, levels[0], *question.covariates]
    needed += [question.site] if question.site else []
    rows = complete(question.table, needed, [question.outcome], question.site)
    row = first_row(question, rows)
    row |= group_counts(question, rows, levels)
    try:
        if question.analysis.test != "glm":
            return _simple(question, rows, row)
        if question.analysis.unit == "side" and question.analysis.mode == "sound":
            return _mixed(question, rows, row)
        return _linear(question, rows, row)
    except NotEstimableError as problem:
        return refused(row, problem)


def _design(question: Question, rows: Rows, interaction: bool) -> Design:
    """Design of these rows; measures that the same people have share it."""
    key = (interaction, tuple(rows.table.index))
    if key not in question.designs:
        question.designs[key] = _new_design(question, rows, interaction)
    return question.designs[key]


def _new_design(question: Question, rows: Rows, interaction: bool) -> Design:
    group, case, reference = two_levels(question.sample, question.analysis)
    design = build_design(
        rows.table,
        group=group,
        case=case,
        reference=reference,
        site=question.site,
        covariates=question.covariates,
        factors=question.sample.factors,
        interaction=interaction,
    )
    return replace(design, people=tuple(map(str, rows.table[PERSON])))


def _linear(question: Question, rows: Rows, row: dict[str, object]) -> Answer:
    """Least squares: group, site as declared, covariates."""
    analysis, outcome = question.analysis, question.outcome
    design = _design(question, rows, analysis.site == "interaction")
    values = rows.table[outcome].to_numpy(dtype=float)
    found = group_difference(values, design, relative=_is_relative(question))
    fit = fit_linear(values, design, outcome)
    terms = anova(fit, analysis.sums_of_squares)  # type: ignore[arg-type]
    group = two_levels(question.sample, analysis)[0]
    own = next(term for term in terms if term.term == group)
    means = [mean for weights in BOTH_WEIGHTS for mean in marginal_means(fit, group, weights)]
    case_se, control_se = (mean.se for mean in means[:2])
    row |= _difference(found) | _spread(question, rows) | assumptions(fit) | _hc3(fit)
    row |= {"case_se": case_se, "control_se": control_se}
    row |= {
        "model": fit.model,
        "coding": design.coding_name,
        "partial_eta2": own.partial_eta2,
        "partial_eta2_low": own.eta2_low,
        "partial_eta2_high": own.eta2_high,
        "p_model": fit.f_p,
        "pseudoreplicated": design.pseudoreplicated,
        "interaction_p": _interaction(question, rows, values),
        "p_without_outliers": _without_outliers(question, rows),
    }
    notes = [*design.dropped, *design.notes]
    notes += [PAPER_NOTE] if design.pseudoreplicated else []
    key = {"analysis": analysis.name, "outcome": outcome}
    return Answer(
        answered(row, tuple(notes)),
        tuple({**key, **asdict(term)} for term in terms),
        tuple({**key, **asdict(mean)} for mean in means),
        fit,
    )


def _difference(found: GroupDifference) -> dict[str, object]:
    """Return the columns of the registry that a group difference fills."""
    values = asdict(found)
    row: dict[str, object] = {name: values[name] for name in DIFFERENCE_FIELDS}
    return row | {
        "statistic": "t",
        "value": found.t,
        "effect": "Hedges g",
        "effect_size": found.g,
        "effect_low": found.g_low,
        "effect_high": found.g_high,
    }


def _is_relative(question: Question) -> bool:
    measure = measure_of(question.catalogue, question.outcome)
    return measure.relative if measure else False


def _spread(question: Question, rows: Rows) -> dict[str, float]:
    """Raw standard deviations of the groups."""
    group, case, reference = two_levels(question.sample, question.analysis)
    sd = rows.table.groupby(group)[question.outcome].std()
    return {"case_sd": float(sd.get(case, np.nan)), "control_sd": float(sd.get(reference, np.nan))}


def _hc3(fit: LinearFit) -> dict[str, object]:
    """The same difference with errors that unequal variances leave right."""
    try:
        found = contrast_test(robust(fit), "difference")
    except NotEstimableError:
        return {}
    return {"robust": "HC3", "robust_se": found.se, "robust_df": fit.df, "robust_p": found.p}


def _interaction(question: Question, rows: Rows, values: np.ndarray) -> float:
    """P of group by site; NaN where some cell is empty or there is one site."""
    if not question.site:
        return float("nan")
    group = two_levels(question.sample, question.analysis)[0]
    try:
        design = _design(question, rows, True)
        term = f"{group}:{question.site}"
        if term not in design.terms:  # one site
            return float("nan")
        return contrast_test(fit_linear(values, design, question.outcome), term).p
    except NotEstimableError:
        return float("nan")


def _without_outliers(question: Question, rows: Rows) -> float:
    """P of the same model without the rows that were flagged; NaN where there are none."""
    if not rows.outliers:
        return float("nan")
    flagged = {word.rpartition(" (")[0] for word in rows.outliers}
    kept = replace(rows, table=rows.table[~rows.table.index.isin(flagged)])
    try:
        design = _design(question, kept, question.analysis.site == "interaction")
        values = kept.table[question.outcome].to_numpy(dtype=float)
        return group_difference(values, design, relative=False).p
    except NotEstimableError:
        return float("nan")


def _simple(question: Question, rows: Rows, row: dict[str, object]) -> Answer:
    """Welch, Student or ranks, without site and covariates."""
    analysis, outcome = question.analysis, question.outcome
    group, case, reference = two_levels(question.sample, analysis)
    found = compare_groups(
        rows.table[outcome].to_numpy(dtype=float),
        list(rows.table[group].astype(str)),
        case=case,
        reference=reference,
        test=analysis.test,
    )
    double = rows.n_people < rows.n
    row |= _simple_numbers(found)
    row |= {"model": f"{outcome} by {group}", "pseudoreplicated": double}
    notes = (found.why, PAPER_NOTE if double else "")
    return Answer(answered(row, notes), fit=found)


def _simple_numbers(found: TwoGroups) -> dict[str, object]:
    name, value = found.statistic
    case, control = found.described
    effect = found.effect
    row: dict[str, object] = {
        "test": found.test,
        "coding": MISSING,
        "statistic": name,
        "value": value,
        "df": found.df,
        "p": found.p,
        "effect": effect.name,
        "effect_size": effect.value,
        "effect_low": effect.ci_low,
        "effect_high": effect.ci_high,
        "g": found.hedges.value,
        "g_low": found.hedges.ci_low,
        "g_high": found.hedges.ci_high,
        "welch_p": found.welch.p,
        "student_p": found.student.p,
        "mannwhitney_p": found.ranks.p,
        "case_mean": case.mean,
        "case_sd": case.sd,
        "case_se": case.se,
        "control_mean": control.mean,
        "control_sd": control.sd,
        "control_se": control.se,
        "shapiro_p": float(np.fmin(found.normality[0].p, found.normality[1].p)),
        "levene_p": found.variances[0].p,
    }
    if name != "t":
        return row
    means = found.welch if found.test == "welch" else found.student
    names = ("estimate", "se", "ci_low", "ci_high", "t", "df")
    return row | {name: getattr(means, name) for name in names}


def _mixed(question: Question, rows: Rows, row: dict[str, object]) -> Answer:
    """Sides as rows, with a variance of their own for people."""
    design = _design(question, rows, question.analysis.site == "interaction")
    values = rows.table[question.outcome].to_numpy(dtype=float)
    fit = fit_mixed_design(values, design)
    found = fit.fixed.contrast(design.difference, "difference")
    total = float(np.sqrt(sum(one.variance for one in fit.components if one.first == one.second)))
    factor = hedges_factor(found.df) / total
    row |= {
        "model": f"{question.outcome} ~ {design.formula} + (1 | person)",
        "coding": design.coding_name,
        "statistic": "t",
        "value": found.statistic,
        "t": found.statistic,
        **{name: getattr(found, name) for name in ("df", "estimate", "se", "p", "ci_low",
                                                    "ci_high")},
        "residual_sd": fit.residual_sd,
        "effect": "g, total SD",
        "effect_size": factor * found.estimate,
        "effect_low": factor * found.ci_low,
        "effect_high": factor * found.ci_high,
    }  # fmt: skip
    row |= _spread(question, rows)
    notes = [note for note in design.notes if "pseudoreplication" not in note]  # not so here
    return Answer(answered(row, (*design.dropped, *notes, *fit.notes)), fit=fit)
