"""What figures show, as plain numbers taken from fitted models: kept as JSON, drawn later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from alsflow.nodes.stats.classify import Classification
from alsflow.nodes.stats.design import INTERCEPT
from alsflow.nodes.stats.longitudinal import Longitudinal, row_at
from alsflow.nodes.stats.registry import Registry
from alsflow.nodes.stats.regression import LEVEL, LinearFit
from alsflow.nodes.stats.roc import Roc

STEPS = 41  # points of a line that is drawn with its band
ROUND = 7  # significant digits that figures need

Floats = tuple[float, ...]


@dataclass(frozen=True)
class Partial:
    """Outcome on predictor given all other terms of a linear model (added-variable plot) [1]_.

    Both are residuals on the other terms, plus their means. The line has the slope of the model.

    References
    ----------
    .. [1] Velleman and Welsch (1981). Am Stat 35:234-242. doi:10.1080/00031305.1981.10479362
    """

    analysis: str
    outcome: str
    predictor: str
    given: str  # the other terms
    rows: tuple[str, ...]  # names of the rows
    x: Floats  # (n,) unit of the predictor
    y: Floats  # (n,) unit of the outcome
    line_x: Floats
    line_y: Floats
    low: Floats  # 95 % limits of the mean of y
    high: Floats


@dataclass(frozen=True)
class Curve:
    """One ROC curve."""

    analysis: str
    outcome: str
    false_positive: Floats
    true_positive: Floats
    auc: float
    ci_low: float
    ci_high: float
    n_positive: int
    n_negative: int


@dataclass(frozen=True)
class Line:
    """Mean of one group over time, with its 95 % limits."""

    label: str
    n: int  # people
    time: Floats
    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Slopes:
    """Everybody's values over time, and the line of each group."""

    analysis: str
    outcome: str
    time_name: str
    people: tuple[str, ...]  # one per series
    groups: tuple[str, ...]  # of the same people
    times: tuple[Floats, ...]
    values: tuple[Floats, ...]
    lines: tuple[Line, ...]


Plotted = Partial | Curve | Slopes
KINDS: Mapping[str, type[Partial] | type[Curve] | type[Slopes]] = {
    "partial": Partial, "curve": Curve, "slopes": Slopes,
}  # fmt: skip


def plotted(registry: Registry, table: pd.DataFrame) -> list[Plotted]:
    """Everything of a registry that can be drawn from its models.

    Parameters
    ----------
    registry : Registry
        With the fitted models.
    table : DataFrame
        The cohort table, for the values of visits.
    """
    found: list[Plotted] = []
    kinds = registry.tests.set_index(["analysis", "outcome", "predictor"])["kind"].to_dict()
    for (analysis, outcome, predictor), fit in registry.objects.items():
        kind = kinds[analysis, outcome, predictor]
        if isinstance(fit, LinearFit) and kind == "regression":
            found.append(partial(fit, predictor, analysis, outcome))
        elif isinstance(fit, Roc):
            found.append(curve(fit, analysis, outcome))
        elif isinstance(fit, Classification):
            found.append(curve(fit.roc, analysis, ", ".join(fit.features)))
        elif isinstance(fit, Longitudinal):
            found.append(slopes(fit, table, analysis))
    return found


def _floats(values: Iterable[float]) -> Floats:
    """Numbers with the digits that a figure needs."""
    return tuple(float(f"{value:.{ROUND}g}") for value in values)


def partial(fit: LinearFit, predictor: str, analysis: str = "", outcome: str = "") -> Partial:
    """Outcome on one predictor of a fitted model, given the other terms.

    Parameters
    ----------
    fit : LinearFit
        n rows.
    predictor : str
        Its column.
    analysis, outcome : str
        Names in the registry.
    """
    design = fit.design
    at = design.columns.index(predictor)
    others = np.delete(design.matrix, at, axis=1)
    x, y = (_residuals(v, others) for v in (design.matrix[:, at], fit.values))
    slope = float(fit.estimate[at])
    grid = np.linspace(x.min(), x.max(), STEPS)
    spread = np.sqrt(1 / fit.n + grid**2 / (x @ x)) * fit.sigma
    half = stats.t.ppf(0.5 + LEVEL / 2, fit.df) * spread
    centre = float(design.rows[predictor].to_numpy(dtype=float).mean())
    level = float(fit.values.mean())
    given = [t for t in design.term_columns if t not in (predictor, INTERCEPT)]
    return Partial(
        analysis=analysis,
        outcome=outcome or fit.outcome,
        predictor=predictor,
        given=" + ".join(given),
        rows=tuple(map(str, design.rows.index)),
        x=_floats(x + centre),
        y=_floats(y + level),
        line_x=_floats(grid + centre),
        line_y=_floats(slope * grid + level),
        low=_floats(slope * grid + level - half),
        high=_floats(slope * grid + level + half),
    )


def _residuals(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    if not others.shape[1]:
        return values - values.mean()
    return values - others @ np.linalg.lstsq(others, values, rcond=None)[0]


def curve(found: Roc, analysis: str, outcome: str) -> Curve:
    """Corners of a ROC curve."""
    return Curve(
        analysis=analysis,
        outcome=outcome,
        false_positive=_floats(1 - np.asarray(found.specificity)),
        true_positive=_floats(found.sensitivity),
        auc=found.auc,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        n_positive=found.n_positive,
        n_negative=found.n_negative,
    )


def slopes(found: Longitudinal, table: pd.DataFrame, analysis: str = "") -> Slopes:
    """Series of all people and the fitted line of each group, at the mean of the covariates.

    Parameters
    ----------
    found : Longitudinal
        The model.
    table : DataFrame
        One row per visit: person, time and outcome of the model.
    analysis : str
        Its name.
    """
    model, rows = found.model, found.design.rows
    person = np.asarray(found.design.people, dtype=object)
    time = rows[model.time].to_numpy(dtype=float)
    known = table.dropna(subset=[model.outcome, model.time])
    told = dict(zip(zip(known[model.person], known[model.time], strict=True),
                    known[model.outcome], strict=True))  # fmt: skip
    values = np.array([told[pair] for pair in zip(person, time, strict=True)], dtype=float)
    label = rows[model.group].to_numpy(dtype=object) if model.group else np.full(len(rows), "")
    names = list(dict.fromkeys(person))
    parts = [np.flatnonzero(person == name) for name in names]
    parts = [part[np.argsort(time[part], kind="stable")] for part in parts]
    return Slopes(
        analysis=analysis,
        outcome=model.outcome,
        time_name=model.time,
        people=tuple(map(str, names)),
        groups=tuple(str(label[part[0]]) for part in parts),
        times=tuple(_floats(time[part]) for part in parts),
        values=tuple(_floats(values[part]) for part in parts),
        lines=tuple(_line(found, group, time) for group in _labels(found)),
    )


def _labels(found: Longitudinal) -> Sequence[str]:
    model = found.model
    return found.design.variables[model.group].levels if model.group else ("",)


def _line(found: Longitudinal, group: str, time: NDArray[np.float64]) -> Line:
    model = found.model
    mine = time
    if model.group:
        mine = time[(found.design.rows[model.group] == group).to_numpy()]
    grid = np.linspace(mine.min(), mine.max(), STEPS)
    rows = [row_at(found.design, model, group, float(at)) for at in grid]
    fits = [found.mixed.fixed.contrast(row, "mean") for row in rows]
    return Line(
        label=group,
        n=found.n_by_group[group or "all"],
        time=_floats(grid),
        mean=_floats(one.estimate for one in fits),
        low=_floats(one.ci_low for one in fits),
        high=_floats(one.ci_high for one in fits),
    )


def to_plain(found: Sequence[Plotted]) -> list[dict[str, Any]]:
    """Dictionaries that JSON can hold."""
    names = {kind: name for name, kind in KINDS.items()}
    return [{"figure": names[type(one)], **asdict(one)} for one in found]


def from_plain(entries: Iterable[Mapping[str, Any]]) -> list[Plotted]:
    """Reverse `to_plain`."""
    found: list[Plotted] = []
    for entry in entries:
        values = dict(entry)
        kind = KINDS[values.pop("figure")]
        if kind is Slopes:
            values["lines"] = tuple(Line(**_tuples(line)) for line in values["lines"])
        found.append(kind(**_tuples(values)))
    return found


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of JSON as tuples."""

    def frozen(value: Any) -> Any:
        return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value

    return {name: frozen(value) for name, value in values.items()}
