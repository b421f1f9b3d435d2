"""Whether the assumptions of a linear model hold, in numbers, words and names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from alsflow.nodes.stats.design import INTERCEPT
from alsflow.nodes.stats.estimability import RANK_MIN
from alsflow.nodes.stats.regression import ALONE, LinearFit

ALPHA = 0.05  # below which an assumption is called doubtful
# The rules of thumb are from Fox (2016), Applied regression analysis, chapters 11 to 13. Sage.
VIF_MAX = 5.0  # variance inflation of a term, per degree of freedom
COOK_SHARE = 4.0  # Cook's distance above COOK_SHARE / n is pointed out
HAT_SHARE = 2.0  # leverage above HAT_SHARE * p / n is pointed out
SHAPIRO_N = (3, 5000)  # rows that the test of Shapiro and Wilk is made for
HOLDS, DOUBTFUL, UNKNOWN = "holds", "doubtful", "n/a"


@dataclass(frozen=True)
class Check:
    """One assumption of one model."""

    name: str  # what is assumed
    test: str
    statistic: float
    df: float
    df_residual: float
    p: float
    verdict: str  # HOLDS, DOUBTFUL or UNKNOWN
    words: str


@dataclass(frozen=True)
class Flag:
    """A row that a reader may want to look at; nobody is left out for it."""

    row: str
    person: str
    what: str  # outlier, influence or leverage
    value: float
    limit: float
    words: str


@dataclass(frozen=True)
class Influence:
    """What each row does to the fit; (n,) arrays, NaN for a row that alone sets a parameter."""

    hat: NDArray[np.float64]  # leverage
    rstudent: NDArray[np.float64]  # externally studentised residual
    cook: NDArray[np.float64]  # Cook's distance


@dataclass(frozen=True)
class Diagnostics:
    """Checks and flags of one model."""

    checks: tuple[Check, ...]
    flags: tuple[Flag, ...]
    influence: Influence

    def table(self) -> pd.DataFrame:
        """One row per check."""
        return pd.DataFrame([vars(check) for check in self.checks])

    def people(self) -> pd.DataFrame:
        """One row per flag."""
        columns = list(Flag.__dataclass_fields__)
        return pd.DataFrame([vars(flag) for flag in self.flags], columns=columns)


def diagnose(fit: LinearFit, cells: Sequence[str] = ()) -> Diagnostics:
    """Check the assumptions of a least-squares fit.

    Parameters
    ----------
    fit : LinearFit
        Model.
    cells : sequence of str
        Factors of the model whose cells should have one variance; empty: all factors of it.
    """
    found = influence(fit)
    factors = [name for name, v in fit.design.variables.items() if v.levels]
    checks = [
        normality(fit),
        cell_variances(fit, list(cells) or factors),
        constant_variance(fit),
        *collinearity(fit),
        outlier(fit, found),
    ]
    return Diagnostics(tuple(checks), tuple(_flags(fit, found)), found)


def normality(fit: LinearFit) -> Check:
    """Shapiro-Wilk test of the residuals [1]_.

    References
    ----------
    .. [1] Shapiro and Wilk (1965). Biometrika 52:591-611. doi:10.1093/biomet/52.3-4.591
    """
    name, test = "normal residuals", "Shapiro-Wilk W"
    if not SHAPIRO_N[0] <= fit.n <= SHAPIRO_N[1]:
        return _unknown(name, test, f"the test is made for {SHAPIRO_N[0]} to {SHAPIRO_N[1]} rows")
    w, p = stats.shapiro(fit.residuals)
    told = "the residuals are not normal; compare with a rank test or the bootstrap"
    return _judged(name, test, w, np.nan, np.nan, p, "the residuals look normal", told)


def cell_variances(fit: LinearFit, factors: Sequence[str]) -> Check:
    """Brown-Forsythe test (Levene about the median) of the residuals over the cells [1]_.

    References
    ----------
    .. [1] Brown and Forsythe (1974). J Am Stat Assoc 69:364-367.
       doi:10.1080/01621459.1974.10482955
    """
    name, test = "equal variance in all cells", "Brown-Forsythe F"
    if not factors:
        return _unknown(name, test, "the model has no factor")
    labels = fit.design.rows[list(factors)].astype(str).agg(" × ".join, axis=1).to_numpy()
    groups = [fit.residuals[labels == label] for label in sorted(set(labels))]
    groups = [group for group in groups if len(group) > 1]
    n = sum(map(len, groups))
    if len(groups) < 2 or n <= len(groups):
        return _unknown(name, test, "fewer than two cells have two rows")
    f, p = stats.levene(*groups, center="median")
    told = "the spread differs between cells; prefer the HC3 errors"
    alike = f"the spread is alike in the cells of {' × '.join(factors)}"
    return _judged(name, test, f, len(groups) - 1, n - len(groups), p, alike, told)


def constant_variance(fit: LinearFit) -> Check:
    """Studentised Breusch-Pagan test of the residuals against all columns [1]_.

    References
    ----------
    .. [1] Koenker (1981). J Econom 17:107-112. doi:10.1016/0304-4076(81)90062-2
    """
    name, test = "constant variance", "Breusch-Pagan chi2"
    df = fit.design.matrix.shape[1] - 1
    if df < 1:
        return _unknown(name, test, "the model has no term")
    squares = fit.residuals**2
    away = squares - squares.mean()
    left = squares - fit.design.matrix @ np.linalg.lstsq(fit.design.matrix, squares)[0]
    chi2 = fit.n * (1 - float(left @ left) / float(away @ away))
    told = "the spread changes along the model; prefer the HC3 errors"
    p = stats.chi2.sf(chi2, df)
    return _judged(name, test, chi2, df, np.nan, p, "the spread does not change", told)


def vif(matrix: NDArray[np.float64], terms: Sequence[str]) -> dict[str, tuple[float, int]]:
    """Generalised variance inflation of each term [1]_; interactions are left aside.

    Parameters
    ----------
    matrix : (n, p) array
        Design with intercept.
    terms : sequence of str
        Term of each column.

    Returns
    -------
    inflation : dict
        GVIF and its degrees of freedom per term; infinite where the term depends on others.

    References
    ----------
    .. [1] Fox and Monette (1992). J Am Stat Assoc 87:178-183. doi:10.2307/2290467
    """
    kept = [i for i, term in enumerate(terms) if term != INTERCEPT and ":" not in term]
    names = [terms[i] for i in kept]
    if len(kept) < 2:
        return dict.fromkeys(names, (1.0, 1))
    correlation = np.atleast_2d(np.corrcoef(matrix[:, kept], rowvar=False))
    singular = np.linalg.svd(correlation)[1].min() < RANK_MIN
    found = {}
    for name in dict.fromkeys(names):
        own = np.array([other == name for other in names])
        parts = _det(correlation, own) * _det(correlation, ~own)
        whole = np.linalg.det(correlation)
        found[name] = (float("inf") if singular else parts / whole, int(own.sum()))
    return found


def _det(correlation: NDArray[np.float64], chosen: NDArray[np.bool_]) -> float:
    return float(np.linalg.det(correlation[np.ix_(chosen, chosen)]))


def collinearity(fit: LinearFit) -> list[Check]:
    """One check per term, see `vif`."""
    checks = []
    for term, (inflation, df) in vif(fit.design.matrix, fit.design.terms).items():
        each = inflation ** (1 / df)
        verdict = DOUBTFUL if each > VIF_MAX else HOLDS
        words = f"the variance of {term} is {each:.3g} times what it were on its own"
        if verdict == DOUBTFUL:
            words += f" (> {VIF_MAX:g}): other terms carry nearly the same information"
        name = f"{term} apart from the others"
        checks.append(Check(name, "VIF", inflation, df, np.nan, np.nan, verdict, words))
    return checks


def influence(fit: LinearFit) -> Influence:
    """Leverage, externally studentised residual and Cook's distance of each row [1]_.

    References
    ----------
    .. [1] Cook and Weisberg (1982). Residuals and influence in regression. Chapman and Hall.
    """
    room = np.where(1 - fit.hat < ALONE, np.nan, 1 - fit.hat)
    inner = fit.residuals / (fit.sigma * np.sqrt(room))  # internally studentised
    df = fit.df
    with np.errstate(divide="ignore", invalid="ignore"):
        outer = inner * np.sqrt((df - 1) / (df - inner**2))
    return Influence(fit.hat, outer, inner**2 * fit.hat / room / fit.design.matrix.shape[1])


def outlier(fit: LinearFit, found: Influence) -> Check:
    """Largest studentised residual, p with Bonferroni's correction for looking at all rows."""
    name, test = "no outlier", "studentised residual, Bonferroni"
    if np.isnan(found.rstudent).all() or fit.df < 2:
        return _unknown(name, test, "too few rows")
    worst = int(np.nanargmax(np.abs(found.rstudent)))
    t = float(found.rstudent[worst])
    p = min(1.0, 2 * float(stats.t.sf(abs(t), fit.df - 1)) * fit.n)
    who = _row_name(fit, worst)
    told = f"{who} lies {abs(t):.3g} residual SDs off; look at the raw data, run once without"
    return _judged(name, test, t, fit.df - 1, np.nan, p, f"not even {who} is one", told)


def _flags(fit: LinearFit, found: Influence) -> list[Flag]:
    n, p = fit.design.matrix.shape
    odds = 2 * stats.t.sf(np.abs(found.rstudent), max(fit.df - 1, 1)) * n
    rules = (
        ("outlier", found.rstudent, float(stats.t.isf(ALPHA / n / 2, max(fit.df - 1, 1))),
         odds < ALPHA, "studentised residual"),
        ("influence", found.cook, COOK_SHARE / n, found.cook > COOK_SHARE / n, "Cook's distance"),
        ("leverage", found.hat, HAT_SHARE * p / n, found.hat > HAT_SHARE * p / n, "leverage"),
    )  # fmt: skip
    flags = []
    for what, values, limit, hit, called in rules:
        for i in np.flatnonzero(hit).tolist():
            words = f"{_row_name(fit, i)}: {called} {values[i]:.3g} (limit {limit:.3g})"
            row, person = str(fit.design.rows.index[i]), fit.design.people[i]
            flags.append(Flag(row, person, what, float(values[i]), limit, words))
    return flags


def _row_name(fit: LinearFit, i: int) -> str:
    row, person = str(fit.design.rows.index[i]), fit.design.people[i]
    return person if person == row else f"{person} (row {row})"


def _unknown(name: str, test: str, why: str) -> Check:
    nan = float("nan")
    return Check(name, test, nan, nan, nan, nan, UNKNOWN, f"not tested: {why}")


def _judged(
    name: str, test: str, statistic: float, df: float, df_residual: float, p: float,
    holds: str, doubtful: str,
) -> Check:  # fmt: skip
    verdict = DOUBTFUL if p < ALPHA else HOLDS
    words = f"{doubtful if p < ALPHA else holds} (p = {p:.3g})"
    return Check(
        name, test, float(statistic), float(df), float(df_residual), float(p), verdict, words
    )
