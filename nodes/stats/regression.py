"""Least squares with everything a reader asks of a linear model, and its contrasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy import linalg, optimize, stats

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.design import (
    INTERCEPT,
    Design,
    NotEstimableError,
    complete_rows,
    estimable,
    make_design,
    parse_formula,
)

LEVEL = 0.95  # confidence
EXACT_FIT = 1e-12  # residual spread, relative to the values, below which nothing is random
NAMED = 10  # people named in a note
FLAT = 1e-3  # largest slope of the likelihood at its top
ALONE = 1e-9  # 1 - leverage below which a row alone sets a parameter
OLS, HC1, HC3, GLS = "OLS", "HC1", "HC3", "GLS, variance by site (REML)"


@dataclass(frozen=True)
class LinearFit:
    """One linear model; arrays follow the columns of `design`, (p,), or its rows, (n,)."""

    outcome: str
    design: Design
    values: NDArray[np.float64]  # (n,)
    estimate: NDArray[np.float64]  # (p,), unit of the outcome per unit of the column
    covariance: NDArray[np.float64]  # (p, p), of the estimates
    kind: str  # where the covariance comes from: OLS, HC1, HC3 or GLS
    df: int  # residual
    sigma: float  # residual standard deviation
    r2: float
    adj_r2: float
    f: float  # of all terms together
    f_p: float
    df_model: int
    loglik: float
    std_beta: NDArray[np.float64]  # (p,), slope in sample SDs of outcome and column
    fitted: NDArray[np.float64]  # (n,)
    hat: NDArray[np.float64]  # (n,), leverage
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.values)

    @property
    def model(self) -> str:
        """Formula."""
        return f"{self.outcome or 'y'} ~ {self.design.formula}"

    @property
    def residuals(self) -> NDArray[np.float64]:
        """(n,) residuals."""
        return self.values - self.fitted

    @property
    def se(self) -> NDArray[np.float64]:
        """(p,) standard errors."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def t(self) -> NDArray[np.float64]:
        """(p,) estimates over standard errors."""
        return self.estimate / self.se

    @property
    def p(self) -> NDArray[np.float64]:
        """(p,) two-sided p values, t with `df`."""
        return 2 * stats.t.sf(np.abs(self.t), self.df)

    @property
    def aic(self) -> float:
        """Akaike's criterion; the residual variance counts as a parameter, as in R."""
        return 2 * (len(self.estimate) + 1) - 2 * self.loglik

    @property
    def bic(self) -> float:
        """Schwarz's criterion, the same way."""
        return float(np.log(self.n) * (len(self.estimate) + 1) - 2 * self.loglik)

    def table(self) -> pd.DataFrame:
        """One row per column of the design, with confidence limits."""
        half = stats.t.ppf(0.5 + LEVEL / 2, self.df) * self.se
        return pd.DataFrame(
            {
                "column": self.design.columns,
                "term": self.design.terms,
                "estimate": self.estimate,
                "se": self.se,
                "df": self.df,
                "t": self.t,
                "p": self.p,
                "ci_low": self.estimate - half,
                "ci_high": self.estimate + half,
                "std_beta": self.std_beta,
            }
        )


@dataclass(frozen=True)
class ContrastTest:
    """A contrast of the parameters; with several rows only F and p have a meaning."""

    name: str
    estimate: float
    se: float
    ci_low: float
    ci_high: float
    t: float
    f: float
    df: int  # numerator
    df_residual: int
    p: float


def fit_linear(values: NDArray[np.float64], design: Design, outcome: str = "") -> LinearFit:
    """Fit ``values ~ design`` by least squares.

    Parameters
    ----------
    values : (n,) array
        Outcome of each row, none missing.
    design : Design
        n rows, estimable.
    outcome : str
        How formula and messages call it.

    Raises
    ------
    NotEstimableError
        Where the values do not vary, or the model leaves no residual.
    """
    values = np.asarray(values, dtype=float)
    _require_values(values, design, outcome)
    fit = sm.OLS(values, design.matrix, hasconst=INTERCEPT in design.terms or None).fit()
    sigma = float(np.sqrt(fit.scale))
    if sigma <= EXACT_FIT * np.abs(values).max():
        raise NotEstimableError("the model leaves no residual to test against")
    return LinearFit(
        outcome=outcome,
        design=design,
        values=values,
        estimate=np.asarray(fit.params),
        covariance=np.asarray(fit.cov_params()),
        kind=OLS,
        df=int(fit.df_resid),
        sigma=sigma,
        r2=float(fit.rsquared),
        adj_r2=float(fit.rsquared_adj),
        f=float(fit.fvalue) if fit.df_model else float("nan"),
        f_p=float(fit.f_pvalue) if fit.df_model else float("nan"),
        df_model=int(fit.df_model),
        loglik=float(fit.llf),
        std_beta=_standardised(np.asarray(fit.params), design, values),
        fitted=np.asarray(fit.fittedvalues),
        hat=np.sum(np.linalg.qr(design.matrix)[0] ** 2, axis=1),
        notes=design.notes,
    )


def _require_values(values: NDArray[np.float64], design: Design, outcome: str) -> None:
    if values.shape != (len(design.people),):
        raise ValueError(f"{values.shape} values for a design of {len(design.people)} rows")
    unknown = np.flatnonzero(~np.isfinite(values))
    if len(unknown):
        raise BadInputError(
            f"{design.people[unknown[0]]}: {outcome or 'the value'} is not known; keep only rows "
            "with a value"
        )
    if np.ptp(values) <= EXACT_FIT * np.abs(values).max():
        raise NotEstimableError(f"the value is {values[0]:g} for all {len(values)} people")


def _standardised(
    estimate: NDArray[np.float64], design: Design, values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(p,) slopes in SDs of the rows of the model; NaN where the column does not vary."""
    spread = design.matrix.std(axis=0, ddof=1)
    spread[[term == INTERCEPT for term in design.terms]] = np.nan
    return estimate * spread / values.std(ddof=1)


def fit_table(
    table: pd.DataFrame, outcome: str, terms: str | Sequence[str], **options: Any
) -> LinearFit:
    """Fit ``outcome ~ terms`` to the rows of `table` that are complete in all of them.

    `options` go to `make_design`. The notes of the fit say how many rows fell out and who.
    """
    chosen = parse_formula(terms) if isinstance(terms, str) else tuple(terms)
    names = dict.fromkeys(name for term in chosen for name in term.split(":"))
    rows, reasons = complete_rows(table, [outcome, *names])
    if rows.empty:
        raise NotEstimableError(f"nobody has {', '.join([outcome, *names])} together")
    design = make_design(rows, chosen, **options)
    fit = fit_linear(rows[outcome].to_numpy(dtype=float), design, outcome)
    if reasons:
        who = [f"{person}: {why}" for person, why in reasons.items()]
        more = [f"and {len(who) - NAMED} more"] if len(who) > NAMED else []
        note = f"{len(rows)} of {len(table)} rows are complete; {'; '.join(who[:NAMED] + more)}"
        fit = replace(fit, notes=(*fit.notes, note))
    return fit


def robust(fit: LinearFit, kind: str = HC3) -> LinearFit:
    """Return the same fit with standard errors that do not ask for equal variances [1]_.

    t keeps the residual degrees of freedom; `contrast_test` gives F of a term. A row that alone
    sets a parameter (the one person of a site) has no residual: it is left out of the sum, and
    the parameters that hang on it are NaN.

    Parameters
    ----------
    fit : LinearFit
        Least squares.
    kind : str
        ``HC3`` (the default: holds its level in small samples) or ``HC1``.

    References
    ----------
    .. [1] Long and Ervin (2000). Am Stat 54:217-224. doi:10.1080/00031305.2000.10474549
    """
    if fit.kind != OLS:
        raise ValueError(f"robust errors belong to least squares, not to {fit.kind}")
    influence = np.linalg.pinv(fit.design.matrix)  # (p, n): values to estimates
    alone = 1 - fit.hat < ALONE
    if kind == HC3:
        weights = fit.residuals / np.where(alone, 1.0, 1 - fit.hat)
    elif kind == HC1:
        weights = fit.residuals * np.sqrt(fit.n / fit.df)
    else:
        raise ValueError(f"no robust errors called {kind}")
    weights = np.where(alone, 0.0, weights)
    spread = influence * weights
    covariance = spread @ spread.T
    lost = (np.abs(influence[:, alone]) > ALONE * np.abs(influence).max()).any(axis=1)
    covariance[lost] = np.nan
    covariance[:, lost] = np.nan
    return replace(fit, covariance=covariance, kind=kind, f=np.nan, f_p=np.nan)


def contrast_test(
    fit: LinearFit, contrast: str | NDArray[np.float64], name: str = ""
) -> ContrastTest:
    """Test one or several combinations of the parameters against 0.

    Parameters
    ----------
    fit : LinearFit
        Model.
    contrast : str or (p,) or (q, p) array
        Name of a contrast, term or column of the design, or the weights.
    name : str
        How the result calls it.

    Raises
    ------
    NotEstimableError
        If the rows of the model do not determine the contrast.
    """
    if isinstance(contrast, str):
        name, contrast = name or contrast, fit.design.contrast(contrast)
    label, weights = name or "contrast", np.atleast_2d(contrast)
    if not estimable(fit.design.matrix, weights):
        raise NotEstimableError(f"the contrast {label} is not determined by these people")
    goal = weights @ fit.estimate
    covariance = weights @ fit.covariance @ weights.T
    q = int(np.linalg.matrix_rank(weights))
    if q < len(weights):
        raise BadInputError(f"the rows of the contrast {label} depend on each other")
    f = float(goal @ np.linalg.solve(covariance, goal) / q)
    single = (float("nan"),) * 5
    if q == 1:
        se = float(np.sqrt(covariance[0, 0]))
        half = float(stats.t.ppf(0.5 + LEVEL / 2, fit.df) * se)
        estimate = float(goal[0])
        single = (estimate, se, estimate - half, estimate + half, estimate / se)
    return ContrastTest(label, *single, f, q, fit.df, float(stats.f.sf(f, q, fit.df)))


def added_variable(fit: LinearFit, column: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points of a partial regression plot: what the others leave of one column and of the outcome.

    Parameters
    ----------
    fit : LinearFit
        Least squares.
    column : str
        A column of the design.

    Returns
    -------
    x, y : (n,) array
        Residuals in the units of the column and of the outcome; the least-squares line through
        them has the slope of `column` in the model and no intercept.
    """
    if column not in fit.design.columns:
        raise BadInputError(f"the model {fit.model} has no column '{column}'")
    at = fit.design.columns.index(column)
    others, own = np.delete(fit.design.matrix, at, axis=1), fit.design.matrix[:, at]
    q, _ = np.linalg.qr(others)
    return own - q @ (q.T @ own), fit.values - q @ (q.T @ fit.values)


def fit_by_site(fit: LinearFit, site: str) -> tuple[LinearFit, Mapping[str, float]]:
    """Generalised least squares with one residual variance per site, by REML [1]_.

    Parameters
    ----------
    fit : LinearFit
        Least squares of the same model, with full rank.
    site : str
        Factor of the model that names the strata.

    Returns
    -------
    fit : LinearFit
        t with the residual degrees of freedom n - p, as ``nlme::gls`` does; `sigma` is that of the
        first site in the order of the rows, `loglik` the restricted one.
    sd : mapping
        Residual standard deviation of each site.

    References
    ----------
    .. [1] Pinheiro and Bates (2000). Mixed-effects models in S and S-PLUS, 5.2. Springer.
    """
    if site not in fit.design.variables:
        raise NotEstimableError(f"{site} is not in the model, so nothing can differ between sites")
    labels = list(fit.design.rows[site])
    sites = list(dict.fromkeys(labels))
    _require_spread(fit, labels)
    index = np.array([sites.index(label) for label in labels])

    def deviance(log_sd: NDArray[np.float64]) -> float:
        return -2 * _restricted(fit, index, log_sd)[0]

    start = np.array([np.log(fit.residuals[index == k].std()) for k in range(len(sites))])
    start = start[1:] - start[0]
    found = optimize.minimize(deviance, start, method="BFGS", options={"gtol": 1e-7})
    if not np.abs(found.jac).max() < FLAT:
        raise NotEstimableError("no variance per site could be found; use HC3 errors instead")
    loglik, estimate, covariance, sigma = _restricted(fit, index, found.x)
    sd = dict(zip(sites, sigma * np.exp(np.r_[0.0, found.x]), strict=True))
    fitted = fit.design.matrix @ estimate
    beta = _standardised(estimate, fit.design, fit.values)
    return replace(
        fit, estimate=estimate, covariance=covariance, kind=GLS, sigma=sigma, loglik=loglik,
        fitted=fitted, std_beta=beta, r2=np.nan, adj_r2=np.nan, f=np.nan, f_p=np.nan,
    ), sd  # fmt: skip


def _require_spread(fit: LinearFit, labels: Sequence[str]) -> None:
    """Refuse a variance per site where the people of a site cannot tell one."""
    left = pd.Series(1 - fit.hat).groupby(list(labels)).sum()
    few = [str(name) for name, df in left.items() if df < 1]
    if few:
        raise NotEstimableError(
            "a variance per site needs two people or more at each, and there are too few at "
            f"{', '.join(few)}: use HC3 errors instead"
        )


def _restricted(
    fit: LinearFit, index: NDArray[np.int_], log_sd: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64], float]:
    """Restricted log-likelihood, estimates, their covariance and sigma of the first site.

    `log_sd` (k - 1,) are the log ratios of the standard deviations to that of the first site.
    """
    scale = np.exp(np.r_[0.0, log_sd])[index]
    x, y = fit.design.matrix / scale[:, None], fit.values / scale
    q, r = np.linalg.qr(x)
    estimate = linalg.solve_triangular(r, q.T @ y)
    df = len(y) - len(estimate)
    sigma2 = float(np.sum((y - x @ estimate) ** 2) / df)
    loglik = -0.5 * df * (np.log(2 * np.pi * sigma2) + 1)
    loglik -= np.log(scale).sum() + np.log(np.abs(np.diag(r))).sum()
    inverse = linalg.solve_triangular(r, np.eye(len(r)))
    return float(loglik), estimate, sigma2 * inverse @ inverse.T, float(np.sqrt(sigma2))
