"""Analyses of the kinds regression and correlation: an outcome on a predictor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from alsflow.nodes.stats.analysis_rows import (
    PAPER_NOTE,
    Answer,
    Question,
    answered,
    assumptions,
    first_row,
    group_counts,
    refused,
)
from alsflow.nodes.stats.anova import anova
from alsflow.nodes.stats.correlation import Correlation, correlate, partial_correlation
from alsflow.nodes.stats.design import NotEstimableError, make_design
from alsflow.nodes.stats.regression import LinearFit, contrast_test, fit_linear, robust
from alsflow.nodes.stats.sample import PERSON, Rows, complete
from alsflow.nodes.stats.side_level import SideAnswer, analyse_sides
from alsflow.nodes.stats.tables import MISSING

PAPER, MIXED, CR2 = "paper", "mixed", "cr2"


def ask_regression(question: Question) -> Answer:
    """Slope of an outcome on a predictor beside site and covariates."""
    rows = _rows(question)
    row = first_row(question, rows, statistic="t")
    row |= _groups(question, rows)
    sides = question.analysis.unit == "side" and question.analysis.mode != PAPER
    try:
        return _sides(question, rows, row) if sides else _least_squares(question, rows, row)
    except NotEstimableError as problem:
        return refused(row, problem)


def _terms(question: Question) -> list[str]:
    """Terms of the model: the predictor first."""
    terms = [question.predictor, *([question.site] if question.site else [])]
    if question.site and question.analysis.site == "interaction":
        terms.append(f"{question.predictor}:{question.site}")
    return [*terms, *question.covariates]


def _rows(question: Question) -> Rows:
    needed = [question.outcome, question.predictor, *question.covariates]
    needed += [question.site] if question.site else []
    flagged = [question.outcome, question.predictor]
    return complete(question.table, needed, flagged, question.site)


def _groups(question: Question, rows: Rows) -> dict[str, object]:
    sample = question.sample
    counts = group_counts(question, rows, (sample.group, sample.case, sample.reference))
    return counts | {"contrast": MISSING}


def _least_squares(question: Question, rows: Rows, row: dict[str, object]) -> Answer:
    """Every row as if it stood alone: right for people, the published model for sides."""
    analysis = question.analysis
    design = make_design(
        rows.table, _terms(question), levels=question.levels, site=question.site, people=PERSON
    )
    fit = fit_linear(rows.table[question.outcome].to_numpy(dtype=float), design, question.outcome)
    terms = anova(fit, analysis.sums_of_squares)  # type: ignore[arg-type]
    own = next(term for term in terms if term.term == question.predictor)
    row |= slope_numbers(fit, question.predictor) | assumptions(fit) | _hc3(fit, question)
    row |= {
        "partial_eta2": own.partial_eta2,
        "partial_eta2_low": own.eta2_low,
        "partial_eta2_high": own.eta2_high,
    }
    key = {
        "analysis": analysis.name, "outcome": question.outcome, "predictor": question.predictor
    }  # fmt: skip
    notes = (PAPER_NOTE if design.pseudoreplicated else "", *design.dropped, *design.notes)
    table = tuple({**key, **asdict(term)} for term in terms)
    return Answer(answered(row, notes), table, fit=fit)


def slope_numbers(fit: LinearFit, predictor: str) -> dict[str, object]:
    """Return the columns of the registry that one slope of a linear model fills."""
    at = fit.design.columns.index(predictor)
    found = contrast_test(fit, predictor)
    beta = float(fit.std_beta[at])
    scale = beta / found.estimate if found.estimate else float("nan")
    return {
        "model": fit.model,
        "coding": fit.design.coding_name,
        "df": fit.df,
        "estimate": found.estimate,
        "se": found.se,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "t": found.t,
        "value": found.t,
        "p": found.p,
        "beta": beta,
        "effect": "standardised slope",
        "effect_size": beta,
        "effect_low": scale * found.ci_low,
        "effect_high": scale * found.ci_high,
        "r2": fit.r2,
        "p_model": fit.f_p,
        "residual_sd": fit.sigma,
        "pseudoreplicated": fit.design.pseudoreplicated,
    }


def _hc3(fit: LinearFit, question: Question) -> dict[str, object]:
    try:
        found = contrast_test(robust(fit), question.predictor)
    except NotEstimableError:
        return {}
    return {"robust": "HC3", "robust_se": found.se, "robust_df": fit.df, "robust_p": found.p}


def _sides(question: Question, rows: Rows, row: dict[str, object]) -> Answer:
    """Two rows per person: a variance for people, and errors clustered by person beside it."""
    terms = _terms(question)
    found = analyse_sides(
        rows.table, question.outcome, terms[0], terms[1:], person=PERSON,
        levels=question.levels, site=question.site,
    )  # fmt: skip
    mixed, clustered = found.answer(MIXED), found.answer(CR2)
    if mixed.status != "ok":
        return refused(row, NotEstimableError(mixed.reason))
    row |= _mixed_numbers(mixed)
    if clustered.status == "ok":
        slope = clustered.slope
        row |= {"robust": "CR2", "robust_se": slope.se, "robust_df": slope.df,
                "robust_p": slope.p}  # fmt: skip
    shared = f"{found.shared:.0%} of the residual variance is shared by the sides of a person"
    return Answer(answered(row, (*mixed.notes, shared)), fit=found)


def _mixed_numbers(answer: SideAnswer) -> dict[str, object]:
    slope = answer.slope
    scale = answer.std_beta / slope.estimate if slope.estimate else float("nan")
    return {
        "model": answer.model,
        "coding": answer.coding,
        "df": slope.df,
        "estimate": slope.estimate,
        "se": slope.se,
        "ci_low": slope.ci_low,
        "ci_high": slope.ci_high,
        "t": slope.statistic,
        "value": slope.statistic,
        "p": slope.p,
        "beta": answer.std_beta,
        "effect": "standardised slope",
        "effect_size": answer.std_beta,
        "effect_low": scale * slope.ci_low,
        "effect_high": scale * slope.ci_high,
    }


def ask_correlation(question: Question) -> Answer:
    """Pearson, Spearman and partial correlation; the analysis says which of them counts."""
    pair = [question.outcome, question.predictor]
    rows = complete(question.table, pair, pair, question.sample.site)
    row = first_row(question, rows)
    row |= _groups(question, rows)
    given = [*question.covariates, *([question.site] if question.site else [])]
    try:
        found = _correlations(question, rows, given)
    except NotEstimableError as problem:
        return refused(row, problem)
    chosen = found[question.analysis.test]
    if question.analysis.test == "partial":
        rows = complete(question.table, [*pair, *given], pair, question.sample.site)
        row |= {"n": rows.n, "n_people": rows.n_people, "n_missing": rows.n_missing}
        row |= _groups(question, rows)
    row |= _correlation_numbers(chosen) | _beside(found)
    given_words = f" given {' + '.join(chosen.given)}" if chosen.given else ""
    row["model"] = f"{question.outcome} with {question.predictor}{given_words}"
    if chosen.given:
        row["coding"] = chosen.coding or MISSING
    return Answer(answered(row), fit=chosen)


def _correlations(question: Question, rows: Rows, given: Sequence[str]) -> dict[str, Correlation]:
    x, y = question.outcome, question.predictor
    found = {method: correlate(rows.table, x, y, method=method) for method in
             ("pearson", "spearman")}  # fmt: skip
    factors = [name for name in given if name in question.levels or
               not _is_number(question, name)]  # fmt: skip
    numbers = [name for name in given if name not in factors]
    if not given:
        if question.analysis.test == "partial":
            raise NotEstimableError("a partial correlation needs covariates or a site; name some")
        return found
    try:
        found["partial"] = partial_correlation(
            question.table, x, y, covariates=numbers, factors=factors
        )
    except NotEstimableError:
        if question.analysis.test == "partial":
            raise
    return found


def _is_number(question: Question, name: str) -> bool:
    kind = question.table[name].dtype.kind
    return kind in "fiu"


def _correlation_numbers(found: Correlation) -> dict[str, object]:
    return {
        "df": found.df,
        "estimate": found.r,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "statistic": found.statistic,
        "value": found.value,
        "t": found.value if found.statistic == "t" else float("nan"),
        "p": found.p,
        "effect": "r",
        "effect_size": found.r,
        "effect_low": found.ci_low,
        "effect_high": found.ci_high,
        "r2": found.r**2,
    }


def _beside(found: dict[str, Correlation]) -> dict[str, object]:
    row: dict[str, object] = {
        "pearson_r": found["pearson"].r,
        "pearson_p": found["pearson"].p,
        "spearman_rho": found["spearman"].r,
        "spearman_p": found["spearman"].p,
    }
    if "partial" in found:
        partial = found["partial"]
        row |= {
            "partial_given": " + ".join(partial.given),
            "partial_r": partial.r,
            "partial_low": partial.ci_low,
            "partial_high": partial.ci_high,
            "partial_df": partial.df,
            "partial_p": partial.p,
        }
    return row
