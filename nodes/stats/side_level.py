"""Two sides of one person: hemisphere against the limbs opposite, without counting people twice.

One question, ``score of a limb side ~ measure of the opposite hemisphere + covariates``, answered
by five models of the same rows. That of a published paper takes the two sides of a person as two
people; the others do not, and stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.clustered import cluster_robust
from alsflow.nodes.stats.design import complete_rows, make_design
from alsflow.nodes.stats.estimability import NotEstimableError
from alsflow.nodes.stats.estimates import Estimate, estimate
from alsflow.nodes.stats.mixed import MixedFit, fit_mixed_design
from alsflow.nodes.stats.regression import LinearFit, fit_linear

SIDES_OF_A_PERSON = 2
PAPER, HC1, CR2, MIXED, PERSON = "paper", "hc1", "cr2", "mixed", "person"
PSEUDOREPLICATION = (
    "reproduces the paper's model, including its pseudoreplication: two sides of one person are "
    "counted as two people"
)
Covariates = Sequence[str]


@dataclass(frozen=True)
class SideAnswer:
    """The slope of the measure, from one model; NaN with a reason where there is none."""

    kind: str  # paper, hc1, cr2, mixed or person
    model: str
    coding: str
    n_rows: int
    n_people: int
    slope: Estimate
    std_beta: float  # in SDs of score and measure over the rows of the model
    pseudoreplicated: bool
    status: str  # ok or n/a
    reason: str
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class SideLevel:
    """One score and one measure by side."""

    outcome: str
    predictor: str
    answers: tuple[SideAnswer, ...]  # mixed first, paper last
    shared: float  # share of the residual variance that the sides of a person have in common
    left_out: Mapping[str, str]  # person: why a row of his is not here
    paper: LinearFit
    mixed: MixedFit | None
    person: LinearFit | None

    def answer(self, kind: str) -> SideAnswer:
        """Answer of one model: ``mixed``, ``cr2``, ``person``, ``hc1`` or ``paper``."""
        return next(one for one in self.answers if one.kind == kind)


def analyse_sides(
    rows: pd.DataFrame,
    outcome: str,
    predictor: str,
    covariates: Covariates = (),
    *,
    person: str = "participant_id",
    total: bool = True,
    **coding: Any,
) -> SideLevel:
    """Slope of a score on a measure of the opposite hemisphere, by five models.

    Parameters
    ----------
    rows : (n, ...) DataFrame
        One row per person and side (`nodes.clinical.sides.side_rows` makes them).
    outcome, predictor : str
        Score of the limbs and measure of the hemisphere, columns of `rows`.
    covariates : sequence of str
        Further terms of the model.
    person : str
        Column that names the person.
    total : bool
        Whether the person-level model takes the sum of the scores of the two sides (mean of the
        measure) or the mean of both.
    **coding
        For `design.make_design`: `levels`, `treatment`, `group`, `site`, `centre`.

    Raises
    ------
    NotEstimableError
        Where not even the paper's model can be fitted. The other models say why they are n/a.
    """
    terms = (predictor, *covariates)
    names = [outcome, *dict.fromkeys(part for term in terms for part in term.split(":"))]
    _require_sides(rows, person)
    complete, reasons = complete_rows(rows.set_index(person, drop=False), names)
    if complete.empty:
        raise NotEstimableError(f"nobody has {', '.join(names)} together")
    side = complete.groupby(level=0).cumcount() + 1
    complete.index = pd.Index([f"{who}, side {k}" for who, k in side.items()])
    design = make_design(complete, terms, people=person, **coding)
    values = complete[outcome].to_numpy(dtype=float)
    paper = fit_linear(values, design, outcome)
    mixed, mixed_reason = _or_reason(lambda: fit_mixed_design(values, design))
    whole, whole_reason = _or_reason(
        lambda: _person_fit(complete, outcome, terms, person, total, coding)
    )
    answers = (
        _from_mixed(mixed, mixed_reason, paper, predictor),
        _from_clusters(paper, predictor, CR2),
        _from_person(whole, whole_reason, paper, predictor, total),
        _from_clusters(paper, predictor, HC1),
        _from_paper(paper, predictor),
    )
    shared = float("nan")
    if mixed is not None:
        between = mixed.component("intercept").variance
        shared = between / (between + mixed.residual_sd**2)
    return SideLevel(outcome, predictor, answers, shared, reasons, paper, mixed, whole)


def _require_sides(rows: pd.DataFrame, person: str) -> None:
    if person not in rows:
        raise BadInputError(f"the table of sides has no column {person}")
    most = rows[person].value_counts()
    if len(most) and most.iloc[0] > SIDES_OF_A_PERSON:
        raise BadInputError(
            f"{most.index[0]} has {most.iloc[0]} rows in the table of sides, which has at most "
            "one for each side; choose one session of each person"
        )


def _or_reason(fit: Callable[[], Any]) -> tuple[Any, str]:
    try:
        return fit(), ""
    except NotEstimableError as error:
        return None, str(error)


def _person_fit(
    rows: pd.DataFrame,
    outcome: str,
    terms: Sequence[str],
    person: str,
    total: bool,
    coding: Mapping[str, Any],
) -> LinearFit:
    """Linear model of one row per person: sides summed or averaged, covariates as they are."""
    whole = person_rows(rows, outcome, terms, person, total)
    design = make_design(whole, tuple(terms), **coding)
    return fit_linear(whole[outcome].to_numpy(dtype=float), design, outcome)


def person_rows(
    rows: pd.DataFrame, outcome: str, terms: Sequence[str], person: str, total: bool
) -> pd.DataFrame:
    """One row per person with both sides: score summed or averaged, numbers averaged.

    A covariate that is a word and differs between the sides of a person is refused.
    """
    both = rows[person].map(rows[person].value_counts()) == SIDES_OF_A_PERSON
    if not both.any():
        raise NotEstimableError("nobody has both sides")
    grouped = rows[both].reset_index(drop=True).groupby(person, sort=False)
    names = list(dict.fromkeys(part for term in terms for part in term.split(":")))
    found: dict[str, pd.Series] = {
        outcome: grouped[outcome].sum() if total else grouped[outcome].mean()
    }
    for name in names:
        if pd.api.types.is_numeric_dtype(rows[name]):
            found[name] = grouped[name].mean()
            continue
        kinds = grouped[name].nunique()
        if (kinds > 1).any():
            raise NotEstimableError(
                f"{kinds.idxmax()} has another {name} on each side, so {name} has no place in a "
                "model of whole people"
            )
        found[name] = grouped[name].first()
    return pd.DataFrame(found)


def _from_paper(fit: LinearFit, predictor: str) -> SideAnswer:
    where = fit.design.columns.index(predictor)
    slope = estimate(predictor, fit.estimate[where], fit.se[where], fit.df)
    double = fit.design.pseudoreplicated
    notes = [note for note in fit.notes if "pseudoreplication" not in note]
    if double:
        notes = [PSEUDOREPLICATION, *notes]
    return _answer(PAPER, fit, slope, double, notes)


def _from_clusters(fit: LinearFit, predictor: str, kind: str) -> SideAnswer:
    found, reason = _or_reason(lambda: cluster_robust(fit))
    if found is None:
        return _absent(kind, fit, predictor, reason)
    name = "CR2, Satterthwaite df" if kind == CR2 else "HC1, z"
    notes = [f"least squares with standard errors clustered by person ({name})"]
    if kind == HC1:
        notes += found.notes
    return _answer(kind, fit, found.effect(predictor, kind), False, notes)


def _from_mixed(fit: MixedFit | None, reason: str, paper: LinearFit, predictor: str) -> SideAnswer:
    if fit is None:
        return _absent(MIXED, paper, predictor, reason)
    notes = ["restricted maximum likelihood, Satterthwaite df", *fit.notes]
    answer = _answer(MIXED, paper, fit.effect(predictor), False, notes)
    std_beta = fit.effect(predictor).estimate * _ratio_of_spreads(paper, predictor)
    return replace(answer, model=f"{paper.model} + (1 | person)", std_beta=std_beta)


def _from_person(
    fit: LinearFit | None, reason: str, paper: LinearFit, predictor: str, total: bool
) -> SideAnswer:
    if fit is None:
        return _absent(PERSON, paper, predictor, reason)
    where = fit.design.columns.index(predictor)
    slope = estimate(predictor, fit.estimate[where], fit.se[where], fit.df)
    how = "sum" if total else "mean"
    notes = [f"one row per person: {how} of the scores, mean of the measure of both sides"]
    return _answer(PERSON, fit, slope, False, [*notes, *fit.notes])


def _ratio_of_spreads(fit: LinearFit, predictor: str) -> float:
    column = fit.design.matrix[:, fit.design.columns.index(predictor)]
    return float(column.std(ddof=1) / fit.values.std(ddof=1))


def _answer(
    kind: str, fit: LinearFit, slope: Estimate, double: bool, notes: Sequence[str]
) -> SideAnswer:
    return SideAnswer(
        kind=kind,
        model=fit.model,
        coding=fit.design.coding_name,
        n_rows=fit.n,
        n_people=len(set(fit.design.people)),
        slope=slope,
        std_beta=float(slope.estimate * _ratio_of_spreads(fit, predictor=slope.name)),
        pseudoreplicated=double,
        status="ok",
        reason="",
        notes=tuple(notes),
    )


def _absent(kind: str, fit: LinearFit, predictor: str, reason: str) -> SideAnswer:
    nothing = Estimate(predictor, *[float("nan")] * 7)
    return SideAnswer(
        kind=kind,
        model=fit.model,
        coding=fit.design.coding_name,
        n_rows=fit.n,
        n_people=len(set(fit.design.people)),
        slope=nothing,
        std_beta=float("nan"),
        pseudoreplicated=False,
        status="n/a",
        reason=reason,
        notes=(),
    )
