"""Sums of squares of the terms of a linear model, with F, p and the share they explain."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.design import INTERCEPT, NUMBER, SUM, Design
from alsflow.nodes.stats.regression import OLS, LinearFit

LEVEL = 0.90  # of the limits of partial eta²: a one-sided test at .05 [Steiger 2004]
FARTHEST = 1e6  # noncentrality beyond which no limit is sought
SumsOfSquares = Literal[1, 2, 3]


@dataclass(frozen=True)
class TermTest:
    """One term of a model against the same model without it."""

    term: str
    kind: int  # type of the sums of squares: 1, 2 or 3
    ss: float  # unit of the outcome, squared
    df: int
    df_residual: int
    f: float
    p: float
    partial_eta2: float
    eta2_low: float  # 90 % limits
    eta2_high: float
    partial_omega2: float  # less bias; 0 where the estimate is negative


def anova(fit: LinearFit, kind: SumsOfSquares = 3) -> tuple[TermTest, ...]:
    """Test each term of a model.

    Parameters
    ----------
    fit : LinearFit
        Least squares.
    kind : int
        1: each term after those before it. 2: each after all terms that do not contain it.
        3: each after all others, interactions included; the effect of a factor is then averaged
        over the levels of the others with equal weights, which is so only with sum coding and
        centred numbers [1]_. This is what SPSS prints by default and `car::Anova(type = 3)`.

    Returns
    -------
    tests : tuple of TermTest
        In the order of the model; type 3 has the intercept first.

    Raises
    ------
    BadInputError
        For type 3 with another coding, whose "main effects" would be those at one level.

    References
    ----------
    .. [1] Fox (2016). Applied regression analysis and generalized linear models, 8.2.6. Sage.
    """
    if fit.kind != OLS:
        raise BadInputError(f"sums of squares belong to least squares, not to {fit.kind}")
    if kind not in (1, 2, 3):
        raise BadInputError(f"there are sums of squares of type 1, 2 and 3, not {kind}")
    if INTERCEPT not in fit.design.terms:
        raise BadInputError("a model of cell means is tested by its contrasts, not by its terms")
    if kind == 3:
        _require_sum_coding(fit.design)
    names = [term for term in fit.design.term_columns if kind == 3 or term != INTERCEPT]
    return tuple(_test(fit, term, kind) for term in names)


def anova_table(fit: LinearFit, kind: SumsOfSquares = 3) -> pd.DataFrame:
    """`anova` as a table, with the residual sum of squares in its last row."""
    rows = [asdict(test) for test in anova(fit, kind)]
    rows.append({"term": "residuals", "kind": kind, "ss": fit.df * fit.sigma**2, "df": fit.df})
    return pd.DataFrame(rows)


def _require_sum_coding(design: Design) -> None:
    wrong = [v.name for v in design.variables.values() if v.coding not in (SUM, NUMBER)]
    if wrong:
        raise BadInputError(
            f"type III sums of squares need sum coding, but {' and '.join(wrong)} has another: "
            "its main effects would be those at the reference level alone"
        )
    for term in design.term_columns:
        for name in term.split(":") if ":" in term else ():
            variable = design.variables[name]
            if variable.coding == NUMBER and variable.centre != variable.mean:
                raise BadInputError(
                    f"type III sums of squares need a centred {name}, as {term} is in the model: "
                    f"the other effects would be those at {name} = 0"
                )


def _test(fit: LinearFit, term: str, kind: int) -> TermTest:
    design = fit.design
    own = np.array(design.term_columns[term])
    ss = extra_ss(fit.values, design.matrix[:, _others(design, term, kind)], design.matrix[:, own])
    df, rest = len(own), fit.df
    residual = rest * fit.sigma**2
    f = ss / df / fit.sigma**2
    low, high = eta2_limits(f, df, rest)
    omega2 = (ss - df * fit.sigma**2) / (ss + (fit.n - df) * fit.sigma**2)
    return TermTest(
        term=term,
        kind=kind,
        ss=ss,
        df=df,
        df_residual=rest,
        f=f,
        p=float(stats.f.sf(f, df, rest)),
        partial_eta2=ss / (ss + residual),
        eta2_low=low,
        eta2_high=high,
        partial_omega2=max(omega2, 0.0),
    )


def _others(design: Design, term: str, kind: int) -> list[int]:
    """Columns that stay in the model that `term` is tested against."""
    members = set(term.split(":"))
    kept: list[int] = []
    for other, positions in design.term_columns.items():
        if other == term:
            if kind == 1:
                break
        elif kind != 2 or not members < set(other.split(":")):
            kept += positions
    return kept


def extra_ss(
    values: NDArray[np.float64], base: NDArray[np.float64], extra: NDArray[np.float64]
) -> float:
    """Sum of squares that the columns `extra` (n, q) explain beyond `base` (n, p)."""
    if base.shape[1]:
        q, _ = np.linalg.qr(base)
        for _ in range(2):  # twice, for the digits
            extra = extra - q @ (q.T @ extra)
    own, _ = np.linalg.qr(extra)
    return float(np.sum((own.T @ values) ** 2))


def eta2_limits(
    f: float, df: float, df_residual: float, level: float = LEVEL
) -> tuple[float, float]:
    """Confidence limits of partial eta² from the noncentral F [1]_.

    Parameters
    ----------
    f : float
        Statistic.
    df, df_residual : float
        Degrees of freedom.
    level : float
        Of confidence; .90 leaves out 0 exactly where p < .05.

    Returns
    -------
    low, high : float
        0 where F is too small for a limit above it.

    References
    ----------
    .. [1] Steiger (2004). Psychol Methods 9:164-182. doi:10.1037/1082-989X.9.2.164
    """
    tail = (1 - level) / 2

    def limit(probability: float) -> float:
        def excess(ncp: float) -> float:
            return float(stats.ncf.cdf(f, df, df_residual, ncp)) - probability

        if float(stats.f.cdf(f, df, df_residual)) <= probability:
            return 0.0
        high = max(4.0, 2 * f * df)
        while excess(high) > 0:
            high *= 2
            if high > FARTHEST:
                return float("nan")
        return float(optimize.brentq(excess, 0.0, high, xtol=1e-12, rtol=1e-12))

    low, high = limit(1 - tail), limit(tail)
    return low / (low + df_residual), high / (high + df_residual)
