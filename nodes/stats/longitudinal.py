"""Slopes by group of an outcome over visits.

The model is ``outcome ~ time * group + covariates + (time | person)``: every person has a level
and a slope of his own around those of his group. People seen once count too, for the levels. The
two-stage analysis beside it (a least-squares slope per person, then a linear model of the slopes)
assumes less and uses less: people seen once fall out, and a slope from two visits counts as much
as one from five.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.design import Design, complete_rows, make_design
from alsflow.nodes.stats.estimability import NotEstimableError
from alsflow.nodes.stats.estimates import Estimate, JointTest, estimate
from alsflow.nodes.stats.mixed import Array, MixedFit, fit_mixed_design
from alsflow.nodes.stats.regression import HC3, LinearFit, fit_linear, robust
from alsflow.nodes.stats.visits import person_slopes, retention

SLOPE, INTERCEPT_ONLY, AUTO = "slope", "intercept", "auto"  # what varies between people


@dataclass(frozen=True)
class LongitudinalModel:
    """What is asked: ``outcome ~ time * group + covariates + site + (random | person)``.

    Attributes
    ----------
    outcome, time, person : str
        Columns; time since the first visit or another common origin, usually months.
    group, reference : str
        Column of the groups, and the label that the others are compared with; no group: one slope.
    site, covariates : str, sequence of str
        Further terms; covariates that are words are categories.
    levels, treatment : mapping
        Levels of categories in order; categories in treatment coding with their reference level.
        The group is in treatment coding, everything not named is sum-coded.
    random : str
        ``slope``: level and slope vary between people, correlated; ``intercept``: the level does;
        ``auto``: the slope too where the visits can tell, and a note where they cannot.
    reml : bool
        Restricted likelihood; False only to compare models with different fixed terms.
    """

    outcome: str
    time: str = "months"
    person: str = "participant_id"
    group: str = ""
    reference: str = ""
    site: str = ""
    covariates: Sequence[str] = ()
    levels: Mapping[str, Sequence[str]] | None = None
    treatment: Mapping[str, str] | None = None
    random: str = SLOPE
    reml: bool = True

    @property
    def between(self) -> tuple[str, ...]:
        """Terms that do not involve time."""
        rest = [*self.covariates, *([self.site] if self.site else [])]
        return tuple(dict.fromkeys([*([self.group] if self.group else []), *rest]))

    @property
    def terms(self) -> tuple[str, ...]:
        """All fixed terms."""
        crossed = (f"{self.time}:{self.group}",) if self.group else ()
        return (self.time, *self.between, *crossed)

    @property
    def coding(self) -> dict[str, Any]:
        """Options of `design.make_design`."""
        treatment = {self.group: self.reference} if self.group else {}
        return {
            "levels": dict(self.levels or {}),
            "treatment": treatment | dict(self.treatment or {}),
            "group": self.group,
            "site": self.site,
        }


@dataclass(frozen=True)
class TwoStage:
    """Linear model of the slopes of people with two visits or more."""

    n: int  # people
    model: str
    differences: tuple[Estimate, ...]  # of slopes, other group - reference; the mean if no groups
    hc3: tuple[Estimate, ...]  # the same, not asking for equal variances
    reason: str  # why there are none


@dataclass(frozen=True, eq=False)
class Longitudinal:
    """Slopes of one outcome over time, by group; in units of the outcome per unit of time."""

    model: LongitudinalModel
    formula: str
    coding: tuple[str, ...]
    n_visits: int
    n_people: int
    n_by_group: Mapping[str, int]  # people
    n_once: int  # people seen once, who tell nothing of slopes
    slopes: tuple[Estimate, ...]  # by group, the reference first
    baseline: tuple[Estimate, ...]  # other group - reference at time 0
    interactions: tuple[Estimate, ...]  # difference of slopes, other group - reference
    interaction_test: JointTest | None  # all groups at once; None with one group
    mixed: MixedFit
    design: Design
    two_stage: TwoStage
    people: pd.DataFrame  # `visits.person_slopes`, and ``shrunken``: slope predicted by the model
    retention: pd.DataFrame  # `visits.retention`
    left_out: Mapping[str, str]  # visit: why it is not here
    notes: tuple[str, ...]


def analyse_slopes(table: pd.DataFrame, model: LongitudinalModel) -> Longitudinal:
    """Fit a longitudinal model to a table with one row per visit.

    Raises
    ------
    NotEstimableError
        In words that name what is missing: people with two visits, groups, sites.
    """
    rows, left_out = _visits(table, model)
    design = make_design(rows, model.terms, people=model.person, centre=False, **model.coding)
    mixed, notes = _fit(rows, design, model)
    groups = _groups(design, model)
    slopes = {label: _slope_row(design, model, label) for label in groups}
    levels = {label: row_at(design, model, label, 0.0) for label in groups}
    people = person_slopes(rows, model.outcome, time=model.time, person=model.person)
    random = f"({model.time} | {model.person})" if mixed.random.covariance.size > 1 else ""
    return Longitudinal(
        model=model,
        formula=f"{model.outcome} ~ {design.formula} + {random or f'(1 | {model.person})'}",
        coding=design.coding,
        n_visits=len(rows),
        n_people=mixed.n_groups,
        n_by_group=_people_by_group(rows, model),
        n_once=int((people["n_visits"] == 1).sum()),
        slopes=tuple(
            mixed.fixed.contrast(row, f"{model.time} in {label}" if label else model.time)
            for label, row in slopes.items()
        ),
        baseline=_differences(mixed, levels, f"at {model.time} 0"),
        interactions=_differences(mixed, slopes, f"per unit of {model.time}"),
        interaction_test=_interaction_test(mixed, design, model),
        mixed=mixed,
        design=design,
        two_stage=two_stage(rows, people, model),
        people=people.assign(shrunken=_shrunken(mixed, rows, slopes, model)),
        retention=retention(
            rows, model.outcome, time=model.time, person=model.person, group=model.group
        ),
        left_out=left_out,
        notes=(*notes, *mixed.notes),
    )


def _visits(table: pd.DataFrame, model: LongitudinalModel) -> tuple[pd.DataFrame, dict[str, str]]:
    """Complete rows, indexed by person and visit, and why the others fell out."""
    if model.person not in table:
        raise BadInputError(f"the table of visits has no column {model.person}")
    number = table.groupby(model.person).cumcount() + 1
    index = [f"{who}, row {k}" for who, k in zip(table[model.person], number, strict=True)]
    names = (model.outcome, *model.terms)
    names = tuple(dict.fromkeys(part for term in names for part in term.split(":")))
    rows, left_out = complete_rows(table.set_axis(index), names)
    if rows.empty:
        raise NotEstimableError(f"no visit has {', '.join(names)} together")
    twice = rows.duplicated([model.person, model.time])
    if twice.any():
        row = rows[twice].iloc[0]
        raise BadInputError(
            f"{row[model.person]} has two rows at {row[model.time]:g} {model.time}; keep one of "
            "them or correct the time"
        )
    if model.group:
        several = rows.groupby(model.person)[model.group].nunique()
        if (several > 1).any():
            raise BadInputError(
                f"{several.idxmax()} changes {model.group} between visits; a person belongs to one"
            )
    return rows, left_out


def _fit(
    rows: pd.DataFrame, design: Design, model: LongitudinalModel
) -> tuple[MixedFit, list[str]]:
    """Mixed model, and what a reader has to know of its rows."""
    notes = [note for note in design.notes if "pseudoreplication" not in note]  # not so here
    notes += [*design.dropped, *_moving(rows, model)]
    values = rows[model.outcome].to_numpy(dtype=float)
    if model.random == INTERCEPT_ONLY:
        return fit_mixed_design(values, design, reml=model.reml), notes
    if model.random not in (SLOPE, AUTO):
        raise BadInputError(f"random is slope, intercept or auto, not '{model.random}'")
    months = rows[model.time].to_numpy(dtype=float)
    try:
        return fit_mixed_design(values, design, months, model.time, reml=model.reml), notes
    except NotEstimableError as error:
        if model.random == SLOPE:
            raise
        notes.append(f"one slope for all people of a group: {error}")
        return fit_mixed_design(values, design, reml=model.reml), notes


def _moving(rows: pd.DataFrame, model: LongitudinalModel) -> list[str]:
    """Covariates that change with the visits share the slope with time."""
    by_person = rows.groupby(model.person)
    names = [name for name in model.covariates if name in rows and name != model.time]
    return [
        f"{name} changes between the visits of a person and takes part of the slope; use its "
        "value at the first visit"
        for name in names
        if (by_person[name].nunique() > 1).any()
    ]


def _groups(design: Design, model: LongitudinalModel) -> list[str]:
    if not model.group:
        return [""]
    rest = [label for label in design.variables[model.group].levels if label != model.reference]
    return [model.reference, *rest]


def row_at(design: Design, model: LongitudinalModel, group: str, time: float) -> Array:
    """(p,) weights of the mean of a group at a time, unweighted over other categories."""
    choices: dict[str, Sequence[object]] = {}
    for name, variable in design.variables.items():
        choices[name] = variable.levels or (variable.mean,)
    choices[model.time] = (time,)
    if group:
        choices[model.group] = (group,)
    grid = pd.DataFrame(list(product(*choices.values())), columns=list(choices))
    return design.encode(grid).mean(axis=0)


def _slope_row(design: Design, model: LongitudinalModel, group: str) -> Array:
    return row_at(design, model, group, 1.0) - row_at(design, model, group, 0.0)


def _differences(mixed: MixedFit, rows: Mapping[str, Array], what: str) -> tuple[Estimate, ...]:
    """Every other group minus the first."""
    reference, *others = rows
    return tuple(
        mixed.fixed.contrast(rows[label] - rows[reference], f"{label} - {reference} {what}")
        for label in others
    )


def _interaction_test(
    mixed: MixedFit, design: Design, model: LongitudinalModel
) -> JointTest | None:
    term = f"{model.time}:{model.group}"
    return mixed.fixed.joint(design.contrast(term), term) if model.group else None


def _people_by_group(rows: pd.DataFrame, model: LongitudinalModel) -> dict[str, int]:
    if not model.group:
        return {"all": int(rows[model.person].nunique())}
    counts = rows.groupby(model.group)[model.person].nunique()
    return {str(label): int(n) for label, n in counts.items()}


def _shrunken(
    mixed: MixedFit, rows: pd.DataFrame, slopes: Mapping[str, Array], model: LongitudinalModel
) -> pd.Series:
    """Slope of each person predicted by the model: that of the group and his own deviation."""
    first = rows.drop_duplicates(model.person).set_index(model.person)
    of_group = {label: float(row @ mixed.fixed.coefficients) for label, row in slopes.items()}
    base = (
        first[model.group].map(of_group) if model.group else pd.Series(of_group[""], first.index)
    )
    if len(mixed.random.columns) == 1:
        return base.astype(float)
    own = pd.Series(mixed.random.predicted[:, 1], index=list(mixed.random.groups))
    return base.astype(float) + own.reindex(first.index.astype(str)).to_numpy()


def two_stage(rows: pd.DataFrame, people: pd.DataFrame, model: LongitudinalModel) -> TwoStage:
    """Compare the slopes of `visits.person_slopes` between groups, one value per person.

    Parameters
    ----------
    rows : (n, ...) DataFrame
        Visits; covariates are taken from the first of each person.
    people : DataFrame
        Slopes by person.
    """
    first = rows.sort_values(model.time).drop_duplicates(model.person).set_index(model.person)
    known = first.assign(slope=people["slope"]).dropna(subset=["slope"])
    text = f"slope of {model.outcome} ~ {' + '.join(model.between) or '1'}"
    try:
        if len(known) < 2:
            raise NotEstimableError(f"{len(known)} people have two visits or more")
        design = make_design(known, model.between, **model.coding)
        fit = fit_linear(known["slope"].to_numpy(dtype=float), design, "slope")
        safe = robust(fit, HC3)
    except NotEstimableError as error:
        return TwoStage(len(known), text, (), (), str(error))
    groups = _groups(design, model) if model.group else ["", ""]
    wanted = {label: _between_row(design, model, label, groups[0]) for label in groups[1:]}
    plain, hc3 = (_tests(one, wanted, groups[0]) for one in (fit, safe))
    return TwoStage(len(known), text, plain, hc3, "")


def _between_row(design: Design, model: LongitudinalModel, label: str, reference: str) -> Array:
    """(p,) other group minus reference, or the mean where there are no groups."""
    if not model.group:
        return design.mean_row({})
    return design.mean_row({model.group: label}) - design.mean_row({model.group: reference})


def _tests(fit: LinearFit, rows: Mapping[str, Array], reference: str) -> tuple[Estimate, ...]:
    return tuple(
        estimate(
            f"{label} - {reference}" if label else "mean slope",
            float(row @ fit.estimate),
            float(np.sqrt(row @ fit.covariance @ row)),
            fit.df,
        )
        for label, row in rows.items()
    )
