"""Logistic regression: maximum likelihood, or Firth's where the groups do not overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats
from scipy.special import expit

from alsflow.nodes.stats.coding import Coding, aligned, learn_coding
from alsflow.nodes.stats.design import MIN_DF, NotEstimableError

LEVEL = 0.95  # confidence
MAX_STEPS = 60
STEP_MIN = 1e-9  # change of the coefficients of unit-spread predictors at which a fit is done
STEP_MAX = 5.0  # longest step of one coefficient, log odds per SD
RANK_MIN = 1e-10  # smallest singular value, of the largest, of a matrix of full rank
EVENTS_PER_PREDICTOR = 10  # fewer make estimates unsteady; doi:10.1016/S0895-4356(96)00236-3

Method = Literal["ml", "firth"]


@dataclass(frozen=True)
class Coefficient:
    """One predictor: log odds per unit, and odds ratios per unit and per standard deviation."""

    name: str
    estimate: float
    se: float
    ci_low: float
    ci_high: float
    z: float  # NaN with Firth's method, whose p is that of a likelihood ratio
    p: float
    odds_ratio: float
    odds_ratio_low: float
    odds_ratio_high: float
    sd: float  # of a predictor that is a number, among the people of the model; else NaN
    odds_ratio_sd: float  # per standard deviation
    odds_ratio_sd_low: float
    odds_ratio_sd_high: float


@dataclass(frozen=True)
class LogisticFit:
    """A logistic model of the log odds of `case`."""

    model: str
    method: str
    coding: tuple[str, ...]
    coefficients: tuple[Coefficient, ...]
    n: int
    n_positive: int
    df: int  # residual
    deviance: float  # without the penalty of Firth's method
    null_deviance: float
    log_likelihood: float
    aic: float
    notes: tuple[str, ...]
    predictors: Coding

    def probability(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """(n,) probability of being a case of each row of `table`."""
        beta = np.array([c.estimate for c in self.coefficients])
        return expit(with_intercept(self.predictors.matrix(table)) @ beta)


def fit_logistic(
    table: pd.DataFrame,
    positive: pd.Series,
    *,
    method: Method = "ml",
    outcome: str = "case",
    level: float = LEVEL,
) -> LogisticFit:
    """Regress being a case on the columns of `table`.

    Parameters
    ----------
    table : (n, p) DataFrame
        Predictors, no missing cell: numbers, or text for factors, coded against their first level.
    positive : (n,) bool Series
        Who is a case; the index is that of `table`.
    method : "ml" or "firth"
        Maximum likelihood with Wald limits and p; or Firth's penalised likelihood [1]_ with the
        profile limits and likelihood ratio p of Heinze and Schemper [2]_, which exists always.

    Raises
    ------
    NotEstimableError
        If the predictors separate the groups (maximum likelihood has no finite answer then), or
        tell the same, or are too many.

    References
    ----------
    .. [1] Firth (1993). Biometrika 80:27-38. doi:10.1093/biomet/80.1.27
    .. [2] Heinze and Schemper (2002). Stat Med 21:2409-2419. doi:10.1002/sim.1047
    """
    coding = learn_coding(table)
    X, y = with_intercept(coding.matrix(table)), aligned(positive, table).to_numpy(dtype=float)
    names = ("intercept", *coding.names)
    require_fittable(X, y, names)
    beta = estimate(X, y, method, names=names)
    log_likelihood = _log_likelihood(X @ beta, y)
    share = y.mean()
    null = float(len(y) * (share * math.log(share) + (1 - share) * math.log(1 - share)))
    rare = int(min(y.sum(), len(y) - y.sum()))
    notes = []
    if rare < EVENTS_PER_PREDICTOR * (X.shape[1] - 1):
        notes.append(
            f"{rare} people in the smaller group for {X.shape[1] - 1} predictors: fewer than "
            f"{EVENTS_PER_PREDICTOR} each, so the estimates are unsteady"
        )
    spread = np.r_[1.0, X.std(axis=0)[1:]]
    infer = _wald if method == "ml" else _profile
    inference = infer(X / spread, y, beta * spread, level)
    return LogisticFit(
        model=f"logit({outcome}) ~ {' + '.join(coding.columns)}",
        method={"ml": "maximum likelihood, Wald limits",
                "firth": "Firth's penalised likelihood, profile limits"}[method],
        coding=coding.sentences(),
        coefficients=_coefficients(coding, X, spread, inference),
        n=len(y),
        n_positive=int(y.sum()),
        df=X.shape[0] - X.shape[1],
        deviance=-2 * log_likelihood,
        null_deviance=-2 * null,
        log_likelihood=log_likelihood,
        aic=-2 * log_likelihood + 2 * X.shape[1],
        notes=tuple(notes),
        predictors=coding,
    )  # fmt: skip


def with_intercept(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put a column of ones before `matrix`."""
    return np.column_stack([np.ones(len(matrix)), matrix])


def estimate(
    X: NDArray[np.float64],
    y: NDArray[np.float64],
    method: Method = "ml",
    *,
    names: tuple[str, ...] = (),
) -> NDArray[np.float64]:
    """Coefficients of a logistic regression.

    Parameters
    ----------
    X : (n, p) array
        Predictors, the first column ones.
    y : (n,) array
        1 for cases, 0 for the others.
    names : tuple of str
        Names of the columns, for messages.
    """
    centre, spread = X.mean(axis=0), X.std(axis=0)
    centre[0], spread[0] = 0.0, 1.0
    scaled = (X - centre) / spread
    beta = _newton(scaled, y, firth=method == "firth")
    if beta is None and method == "ml" and separated(scaled, y):
        raise NotEstimableError(_separation(scaled, y, names))
    if beta is None:
        beta = _newton(scaled, y, firth=method == "firth", longest=0.2, steps=20 * MAX_STEPS)
    if beta is None:
        raise NotEstimableError("the logistic regression did not converge")
    beta = beta / spread
    beta[0] -= centre[1:] @ beta[1:]
    return beta


def separated(X: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    """Whether some combination of the columns puts all cases on one side of the others [1]_.

    Ties on the border count as separation too (quasi-complete), as long as somebody is off it.

    References
    ----------
    .. [1] Konis (2007). Linear programming algorithms for detecting separated data in binary
       logistic regression models. DPhil thesis, University of Oxford.
    """
    signed = (2 * y - 1)[:, None] * X
    found = optimize.linprog(
        -signed.sum(axis=0), A_ub=-signed, b_ub=np.zeros(len(y)), bounds=(-1, 1), method="highs"
    )
    return bool(found.status == 0 and -found.fun > 1e-6)


def _newton(
    X: NDArray[np.float64],
    y: NDArray[np.float64],
    *,
    firth: bool = False,
    fixed: int | None = None,
    start: NDArray[np.float64] | None = None,
    longest: float = STEP_MAX,
    steps: int = MAX_STEPS,
) -> NDArray[np.float64] | None:
    """Solve the score equations; None if the steps do not die out.

    Separated groups make the coefficients run away at a steady pace, so a step that has died out
    is also the proof that they overlap.
    """
    beta = np.zeros(X.shape[1]) if start is None else start.copy()
    free = [column for column in range(X.shape[1]) if column != fixed]
    for _ in range(steps):
        mu = expit(X @ beta)
        weight = mu * (1 - mu)
        residual = y - mu
        information = X.T @ (weight[:, None] * X)
        try:
            if firth:
                hat = weight * np.einsum("ij,ji->i", X, np.linalg.solve(information, X.T))
                residual = residual + hat * (0.5 - mu)
            step = np.linalg.solve(information[np.ix_(free, free)], X[:, free].T @ residual)
        except np.linalg.LinAlgError:
            return None
        size = np.abs(step).max(initial=0.0)
        beta[free] += step * min(1.0, longest / size if size else 1.0)
        if size < STEP_MIN:
            return beta
    return None


def require_fittable(
    X: NDArray[np.float64], y: NDArray[np.float64], names: tuple[str, ...]
) -> None:
    """Refuse one group, too few people, constant and redundant columns of `X` by name."""
    n, p = X.shape
    if y.min() == y.max():
        raise NotEstimableError(f"all {n} people are of one group; a logistic model needs both")
    if n - p < MIN_DF:
        raise NotEstimableError(
            f"{n} people for a model of {p} parameters leave {n - p} residual degrees of "
            f"freedom; at least {MIN_DF} are needed"
        )
    for name, column in zip(names[1:], X.T[1:], strict=True):
        if np.ptp(column) <= 1e-12 * np.abs(column).max():
            raise NotEstimableError(f"{name} is {column[0]:g} for all {n} people; leave it out")
    _, sizes, rows = np.linalg.svd(
        (X - np.r_[0, X.mean(axis=0)[1:]]) / np.r_[1, X.std(axis=0)[1:]]
    )
    if sizes[-1] < RANK_MIN * sizes[0]:
        load = np.abs(rows[-1]) > 1e-6
        twins = [name for name, hit in zip(names, load, strict=True) if hit]
        raise NotEstimableError(f"{' and '.join(twins)} tell the same; leave one of them out")


def _separation(X: NDArray[np.float64], y: NDArray[np.float64], names: tuple[str, ...]) -> str:
    alone = [
        name
        for name, column in zip(names[1:], X.T[1:], strict=bool(names))
        if separated(np.column_stack([X[:, 0], column]), y)
    ]
    what = alone[0] if alone else "a combination of the predictors"
    return (
        f"{what} tells the two groups apart without error in these {len(y)} people, so the odds "
        'ratio has no finite estimate; use method "firth", or report the area under the ROC curve'
    )


def _log_likelihood(eta: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float(y @ eta - np.logaddexp(0, eta).sum())


def _penalised(X: NDArray[np.float64], y: NDArray[np.float64], beta: NDArray[np.float64]) -> float:
    """Log likelihood plus half the log determinant of the information."""
    mu = expit(X @ beta)
    _, size = np.linalg.slogdet(X.T @ ((mu * (1 - mu))[:, None] * X))
    return _log_likelihood(X @ beta, y) + 0.5 * float(size)


@dataclass(frozen=True)
class _Inference:
    """One coefficient of a predictor in its own spread."""

    estimate: float
    se: float
    low: float
    high: float
    z: float
    p: float


def _errors(X: NDArray[np.float64], beta: NDArray[np.float64]) -> NDArray[np.float64]:
    mu = expit(X @ beta)
    return np.sqrt(np.diag(np.linalg.inv(X.T @ ((mu * (1 - mu))[:, None] * X))))


def _wald(
    X: NDArray[np.float64], y: NDArray[np.float64], beta: NDArray[np.float64], level: float
) -> list[_Inference]:
    width = float(stats.norm.ppf(0.5 + level / 2))
    return [
        _Inference(
            b, se, b - width * se, b + width * se, b / se, 2 * float(stats.norm.sf(abs(b / se)))
        )
        for b, se in zip(beta.tolist(), _errors(X, beta).tolist(), strict=True)
    ]


def _profile(
    X: NDArray[np.float64], y: NDArray[np.float64], beta: NDArray[np.float64], level: float
) -> list[_Inference]:
    top, drop = _penalised(X, y, beta), float(stats.chi2.ppf(level, 1))
    rows = []
    for column, (b, se) in enumerate(zip(beta.tolist(), _errors(X, beta).tolist(), strict=True)):
        loss = partial(_loss, X, y, beta, column, top)
        low, high = (_profile_limit(loss, b, sign * se, drop) for sign in (-1, 1))
        rows.append(_Inference(b, se, low, high, math.nan, float(stats.chi2.sf(loss(0.0), 1))))
    return rows


def _loss(
    X: NDArray[np.float64],
    y: NDArray[np.float64],
    beta: NDArray[np.float64],
    column: int,
    top: float,
    value: float,
) -> float:
    """Fall of twice the penalised log likelihood if a coefficient is held at `value`."""
    start = beta.copy()
    start[column] = value
    held = _newton(X, y, firth=True, fixed=column, start=start)
    if held is None:  # a far value of the intercept: short steps from it
        held = _newton(X, y, firth=True, fixed=column, start=start, longest=0.2, steps=1000)
    return math.nan if held is None else 2 * (top - _penalised(X, y, held))


def _profile_limit(loss: partial[float], best: float, step: float, drop: float) -> float:
    reach = step
    for _ in range(12):
        if loss(best + reach) > drop:
            edges = sorted((best, best + reach))
            return float(optimize.brentq(lambda value: loss(value) - drop, *edges, xtol=1e-10))
        reach *= 2
    return math.copysign(math.inf, step)


def _coefficients(
    coding: Coding,
    X: NDArray[np.float64],
    spread: NDArray[np.float64],
    inference: list[_Inference],
) -> tuple[Coefficient, ...]:
    rows = []
    for index, (name, found) in enumerate(
        zip(("intercept", *coding.names), inference, strict=True)
    ):
        limits = np.array([found.estimate, found.low, found.high]) / spread[index]
        sd = float(X[:, index].std(ddof=1)) if name in coding.columns else math.nan
        ratio, scaled = _ratios(limits), _ratios(limits * sd)
        rows.append(
            Coefficient(
                name=name,
                estimate=float(limits[0]),
                se=found.se / float(spread[index]),
                ci_low=float(limits[1]),
                ci_high=float(limits[2]),
                z=found.z,
                p=found.p,
                odds_ratio=ratio[0],
                odds_ratio_low=ratio[1],
                odds_ratio_high=ratio[2],
                sd=sd,
                odds_ratio_sd=scaled[0],
                odds_ratio_sd_low=scaled[1],
                odds_ratio_sd_high=scaled[2],
            )
        )
    return tuple(rows)


def _ratios(log_odds: NDArray[np.float64]) -> list[float]:
    with np.errstate(over="ignore"):
        return np.exp(log_odds).tolist()
