"""Linear mixed models with one grouping factor: people seen more than once, or on two sides.

The fit is that of lme4 (profiled deviance, `nodes.stats.profiled`), the degrees of freedom are
those of lmerTest: Satterthwaite's, from the curvature of the deviance over the variance
parameters and the derivative of the covariance of the fixed effects along them [1]_.

References
----------
.. [1] Kuznetsova et al. (2017). J Stat Softw 82(13):1-26. doi:10.18637/jss.v082.i13
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, stats

from alsflow.nodes.stats.design import Design
from alsflow.nodes.stats.estimability import MIN_DF, NotEstimableError, entangled
from alsflow.nodes.stats.estimates import LEVEL, Estimate, JointTest, estimate
from alsflow.nodes.stats.profiled import (
    BOUNDARY,
    Array,
    Profile,
    Sums,
    curvature,
    deviance,
    group_sums,
    jacobian,
    minimise,
    profile,
    pseudo_inverse,
    relative_factor,
)

MIN_GROUPS = 5  # groups below which a variance between them is not estimated
FEW_GROUPS = 10  # groups below which that variance is called uncertain
EXACT_FIT = 1e-9  # residual SD relative to the SD of the outcome
PROMISED_MAX = (
    1e-6  # decrease of the deviance still to be had, above which a fit has not converged
)


@dataclass(frozen=True)
class VarianceComponent:
    """A variance, or a covariance where the two names differ."""

    first: str
    second: str
    variance: float  # variance or covariance, squared unit of the outcome per unit of the columns
    size: float  # standard deviation, or correlation where the names differ (NaN at a zero SD)


@dataclass(frozen=True, eq=False)
class FixedEffects:
    """Coefficients of the fixed part and all that their tests need."""

    columns: tuple[str, ...]
    coefficients: Array  # (p,) unit of the outcome per unit of the column
    covariance: Array  # (p, p)
    derivatives: Array  # (k, p, p) of the covariance along each variance parameter
    uncertainty: Array  # (k, k) covariance of the variance parameters

    def contrast(self, weights: Array, name: str, level: float = LEVEL) -> Estimate:
        """Weighted sum of the coefficients, with Satterthwaite's degrees of freedom."""
        weights = np.asarray(weights, dtype=float)
        variance = float(weights @ self.covariance @ weights)
        df = self._df(weights, variance)
        value = float(weights @ self.coefficients)
        return estimate(name, value, float(np.sqrt(variance)), df, level)

    def joint(self, weights: Array, name: str) -> JointTest:
        """F test of several contrasts (k, p) at once, as `lmerTest::contestMD`."""
        weights = np.atleast_2d(np.asarray(weights, dtype=float))
        values, vectors = np.linalg.eigh(weights @ self.covariance @ weights.T)
        kept = values > EXACT_FIT * values.max()
        turned = vectors[:, kept].T @ weights
        t = turned @ self.coefficients / np.sqrt(values[kept])
        dfs = np.array([self._df(w, v) for w, v in zip(turned, values[kept], strict=True)])
        k = int(kept.sum())
        f = float((t**2).sum() / k)
        df2 = _pooled_df(dfs)
        tail = stats.f.sf(f, k, df2) if np.isfinite(df2) else stats.chi2.sf(k * f, k)
        return JointTest(name, f, k, df2, float(tail))

    def _df(self, weights: Array, variance: float) -> float:
        gradient = np.einsum("i,kij,j->k", weights, self.derivatives, weights)
        spread = float(gradient @ self.uncertainty @ gradient)
        return 2 * variance**2 / spread if spread > 0 else float("inf")


@dataclass(frozen=True, eq=False)
class RandomEffects:
    """Covariance of the random effects and their best predictions (BLUPs)."""

    columns: tuple[str, ...]
    groups: tuple[str, ...]
    covariance: Array  # (q, q)
    predicted: Array  # (g, q) deviation of each group from the fixed effects


@dataclass(frozen=True)
class FitQuality:
    """Likelihood of a fit and what is made from it.

    `n_parameters` of `aic` and `bic` counts the fixed effects, the variances and covariances of
    the random effects and the residual variance, as R does; `bic` uses the number of rows. Those
    of a REML fit compare models with the same fixed effects only. `aic` is marginal, about new
    people; `conditional_aic` asks about new rows of the same people [2]_.

    References
    ----------
    .. [2] Vaida & Blanchard (2005). Biometrika 92:351-370. doi:10.1093/biomet/92.2.351
    .. [3] Nakagawa & Schielzeth (2013). Methods Ecol Evol 4:133-142, with random slopes after
       Johnson (2014). doi:10.1111/j.2041-210x.2012.00261.x, doi:10.1111/2041-210X.12225
    """

    loglik: float  # restricted where the fit is by REML
    n_parameters: int
    aic: float
    bic: float
    conditional_aic: float
    effective_df: float  # trace of the matrix that turns the outcome into the conditional fit
    r2_marginal: float  # share of the variance due to the fixed effects [3]_
    r2_conditional: float  # due to fixed and random effects


@dataclass(frozen=True, eq=False)
class MixedFit:
    """A linear mixed model, fitted."""

    n: int  # rows
    n_groups: int
    reml: bool
    effects: tuple[Estimate, ...]  # one per fixed column
    components: tuple[VarianceComponent, ...]  # the residual is the last
    residual_sd: float
    quality: FitQuality
    singular: bool  # a variance is zero or a correlation is 1 or -1
    converged: bool
    notes: tuple[str, ...]
    fixed: FixedEffects
    random: RandomEffects
    fitted: Array  # (n,) conditional: with the predicted random effects
    fitted_marginal: Array  # (n,) fixed effects only

    def effect(self, name: str) -> Estimate:
        """Fixed effect of one column."""
        return self.effects[self.fixed.columns.index(name)]

    def component(self, first: str, second: str = "") -> VarianceComponent:
        """Variance of a random column (or ``residual``), or covariance of two."""
        pair = {first, second or first}
        return next(one for one in self.components if {one.first, one.second} == pair)


def _pooled_df(dfs: Array) -> float:
    """Denominator df of an F made of independent t with `dfs`, by its expectation."""
    if not np.isfinite(dfs).all() or np.ptp(dfs) < 1e-8 * dfs.max():
        return float(dfs.min())
    if (dfs <= 2).any():
        return 2.0
    expected = float((dfs / (dfs - 2)).sum())
    return 2 * expected / (expected - len(dfs))


def fit_mixed(
    values: Array,
    fixed: Array,
    columns: Sequence[str],
    groups: Sequence[str] | NDArray,
    random: Array | None = None,
    random_columns: Sequence[str] = ("intercept",),
    *,
    reml: bool = True,
    unit: str = "people",
) -> MixedFit:
    """Fit ``values ~ fixed + (random | groups)`` by REML or maximum likelihood.

    Parameters
    ----------
    values : (n,) array
        Outcome, its own unit.
    fixed : (n, p) array
        Fixed-effect columns named by `columns`; an intercept must be among them.
    groups : (n,) labels
        Person (or site) of each row.
    random : (n, q) array
        Columns whose coefficients vary between groups, correlated; ones by default.
    unit : str
        What a group is, in messages.

    Raises
    ------
    NotEstimableError
        Too few groups, nobody with two rows, random slopes without people seen at two values,
        fixed columns that depend on each other.
    """
    values, fixed = np.asarray(values, dtype=float), np.asarray(fixed, dtype=float)
    random = np.ones((len(values), 1)) if random is None else np.asarray(random, dtype=float)
    labels, codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    _require(values, fixed, columns, codes, random, random_columns, unit)
    problem = _Problem.of(values, fixed, random, codes, reml)
    theta, promised = minimise(problem.sums)
    return _assemble(problem, theta, promised, columns, random_columns, labels, unit)


def fit_mixed_design(
    values: Array,
    design: Design,
    slope: Array | None = None,
    slope_name: str = "slope",
    *,
    reml: bool = True,
) -> MixedFit:
    """Mixed model of a design whose rows share people: ``(1 | person)`` or ``(slope | person)``.

    Parameters
    ----------
    values : (n,) array
        Outcome of each row.
    design : Design
        Fixed part; its `people` are the groups.
    slope : (n,) array, optional
        Number with a slope of its own for each person (months), correlated with the intercept.
    """
    if slope is None:
        return fit_mixed(values, design.matrix, design.columns, design.people, reml=reml)
    slope = np.asarray(slope, dtype=float)
    random = np.column_stack([np.ones(len(slope)), slope])
    names = ("intercept", slope_name)
    return fit_mixed(
        values, design.matrix, design.columns, design.people, random, names, reml=reml
    )


def _require(
    values: Array,
    fixed: Array,
    columns: Sequence[str],
    codes: NDArray,
    random: Array,
    random_columns: Sequence[str],
    unit: str,
) -> None:
    n, p = fixed.shape
    g = int(codes.max()) + 1
    if not all(np.isfinite(part).all() for part in (values, fixed, random)):
        raise NotEstimableError("a mixed model was given missing values; drop those rows first")
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        raise NotEstimableError(f"the outcome is {values[0]:g} in all {n} rows")
    _require_full_rank(fixed, columns)
    if g < MIN_GROUPS:
        raise NotEstimableError(
            f"{g} {unit} cannot fix a variance between {unit}; at least {MIN_GROUPS} are needed, "
            "or a model without the random effect"
        )
    if n - p < MIN_DF:
        raise NotEstimableError(
            f"{n} rows for {p} fixed effects leave {n - p} residual degrees of freedom; at least "
            f"{MIN_DF} are needed"
        )
    if g == n:
        raise NotEstimableError(
            f"none of the {g} {unit} has two rows, so their variance cannot be told from the "
            "residual; use a linear model of one row each"
        )
    between = _constant_columns(fixed, codes)
    if between >= g:
        raise NotEstimableError(
            f"{g} {unit} for {between} fixed effects that do not vary within them leave no "
            "variance between them to estimate; leave out covariates"
        )
    _require_slopes(codes, random, random_columns, unit)
    if _within_spread(values, fixed, codes, random) <= EXACT_FIT * values.std():
        raise NotEstimableError(
            f"the rows of each of the {unit} lie exactly on the model, so there is no residual to "
            "test against; look for copied rows, or take one row of each"
        )


def _within_spread(values: Array, fixed: Array, codes: NDArray, random: Array) -> float:
    """Residual of the outcome with coefficients of the random columns free in every group."""
    both = np.column_stack([fixed, values])
    zz = _by_group(random[:, :, None] * random[:, None, :], codes)
    zx = _by_group(random[:, :, None] * both[:, None, :], codes)
    own = np.linalg.pinv(zz, hermitian=True) @ zx
    left = both - np.einsum("nq,nqp->np", random, own[codes])
    residual = left[:, -1] - left[:, :-1] @ np.linalg.lstsq(left[:, :-1], left[:, -1])[0]
    return float(residual.std())


def _constant_columns(fixed: Array, codes: NDArray) -> int:
    """Number of fixed columns that are constant within every group."""
    first = np.zeros(codes.max() + 1, dtype=int)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    scale = np.abs(fixed).max(axis=0)
    return int((np.abs(fixed - fixed[first[codes]]).max(axis=0) <= 1e-12 * scale).sum())


def _require_slopes(
    codes: NDArray, random: Array, random_columns: Sequence[str], unit: str
) -> None:
    g, q = int(codes.max()) + 1, random.shape[1]
    if q == 1:
        return
    _require_full_rank(random, random_columns)
    for j in range(q):
        spread = np.array([np.ptp(random[codes == i, j]) for i in range(g)])
        if np.ptp(random[:, j]) > 0 and (spread > 0).sum() < MIN_GROUPS:
            raise NotEstimableError(
                f"a random slope of {random_columns[j]} needs at least {MIN_GROUPS} {unit} with "
                f"rows at two values of {random_columns[j]}, there are {(spread > 0).sum()}; use "
                "a random intercept"
            )
    if len(codes) <= g * q:
        raise NotEstimableError(
            f"{len(codes)} rows cannot fix {g * q} random effects ({q} for each of {g} {unit}) "
            "beside a residual; use a random intercept"
        )


def _require_full_rank(fixed: Array, columns: Sequence[str]) -> None:
    """Refuse fixed effects of which one is a combination of the others, by name."""
    guilty = entangled(fixed, columns)
    if guilty:
        raise NotEstimableError(
            f"{' and '.join(guilty)} carry the same information in these {len(fixed)} rows; leave "
            "one of them out"
        )


@dataclass(frozen=True, eq=False)
class _Problem:
    """Data of one fit, in columns that suit the computer."""

    values: Array
    fixed: Array
    random: Array
    codes: NDArray
    start: Array  # (p,) least-squares coefficients
    back: Array  # (p, p) from orthonormal to given columns
    random_back: Array  # (q, q) from orthogonal to given random columns
    sums: Sums

    @staticmethod
    def of(values: Array, fixed: Array, random: Array, codes: NDArray, reml: bool) -> _Problem:
        lengths = np.linalg.norm(fixed, axis=0)
        basis, triangle = np.linalg.qr(fixed / lengths)
        back = linalg.solve_triangular(triangle, np.eye(len(lengths))) / lengths[:, None]
        start = basis.T @ values
        residual = values - basis @ start
        turned, edge = np.linalg.qr(random)
        random_back = linalg.solve_triangular(edge, np.eye(len(edge))) * np.sqrt(len(values))
        log_det = 2 * float(np.log(np.abs(np.diag(triangle)) * lengths).sum())
        turned = turned * np.sqrt(len(values))
        sums = group_sums(residual, basis, turned, codes, log_det, reml)
        return _Problem(values, fixed, random, codes, back @ start, back, random_back, sums)

    def covariance(self, theta: Array, sigma: float) -> Array:
        """(p, p) covariance of the fixed effects."""
        inner = profile(self.sums, theta).inner
        return sigma**2 * self.back @ np.linalg.inv(inner) @ self.back.T


def _assemble(
    problem: _Problem,
    theta: Array,
    promised: float,
    columns: Sequence[str],
    random_columns: Sequence[str],
    labels: NDArray,
    unit: str,
) -> MixedFit:
    sums, found = problem.sums, profile(problem.sums, theta)
    n, p = problem.fixed.shape
    sigma = float(np.sqrt(found.rss / (n - p if sums.reml else n)))
    marginal = problem.fixed @ (problem.start + problem.back @ found.fixed)
    factor = problem.random_back @ relative_factor(theta, sums.q)
    random = RandomEffects(
        columns=tuple(random_columns),
        groups=tuple(map(str, labels)),
        covariance=sigma**2 * factor @ factor.T,
        predicted=_predict(problem, factor, problem.values - marginal),
    )
    fitted = marginal + (problem.random * random.predicted[problem.codes]).sum(axis=1)
    fixed = _fixed_effects(problem, theta, sigma, columns, found)
    singular = bool((np.diag(relative_factor(theta, sums.q)) < BOUNDARY).any())
    converged = promised < PROMISED_MAX
    return MixedFit(
        n=n,
        n_groups=len(labels),
        reml=sums.reml,
        effects=tuple(map(fixed.contrast, np.eye(p), columns)),
        components=_components(random, sigma),
        residual_sd=sigma,
        quality=_quality(problem, theta, fitted, marginal, random, sigma),
        singular=singular,
        converged=converged,
        notes=tuple(_notes(singular, converged, len(labels), unit)),
        fixed=fixed,
        random=random,
        fitted=fitted,
        fitted_marginal=marginal,
    )


def _predict(problem: _Problem, factor: Array, residual: Array) -> Array:
    """(g, q) conditional means of the random effects, in units of the columns as given."""
    z = problem.random @ factor
    inner = np.eye(z.shape[1]) + _by_group(z[:, :, None] * z[:, None, :], problem.codes)
    right = _by_group(z * residual[:, None], problem.codes)
    return np.linalg.solve(inner, right[:, :, None])[:, :, 0] @ factor.T


def _by_group(rows: Array, codes: NDArray) -> Array:
    sums = np.zeros((codes.max() + 1, *rows.shape[1:]))
    np.add.at(sums, codes, rows)
    return sums


def _fixed_effects(
    problem: _Problem, theta: Array, sigma: float, columns: Sequence[str], found: Profile
) -> FixedEffects:
    """Coefficients with what Satterthwaite's method needs.

    The variance parameters are theta and sigma over its estimate; a change of their scale leaves
    the degrees of freedom as they are and gives the numerical derivatives steps of one size.
    """

    def covariance(at: Array) -> Array:
        return problem.covariance(at[:-1], sigma * at[-1])

    best = np.append(theta, 1.0)
    return FixedEffects(
        columns=tuple(columns),
        coefficients=problem.start + problem.back @ found.fixed,
        covariance=covariance(best),
        derivatives=jacobian(covariance, best),
        uncertainty=2 * pseudo_inverse(curvature(problem.sums, theta)),
    )


def _components(random: RandomEffects, sigma: float) -> tuple[VarianceComponent, ...]:
    sd = np.sqrt(np.diag(random.covariance))
    found = [
        VarianceComponent(name, name, float(s**2), float(s))
        for name, s in zip(random.columns, sd, strict=True)
    ]
    for i in range(len(sd)):
        for j in range(i + 1, len(sd)):
            shared = float(random.covariance[i, j])
            size = sd[i] * sd[j]
            found.append(
                VarianceComponent(
                    random.columns[i],
                    random.columns[j],
                    shared,
                    float(shared / size) if size > 0 else float("nan"),
                )
            )
    return (*found, VarianceComponent("residual", "residual", sigma**2, sigma))


def _quality(
    problem: _Problem,
    theta: Array,
    fitted: Array,
    marginal: Array,
    random: RandomEffects,
    sigma: float,
) -> FitQuality:
    n, p = problem.fixed.shape
    loglik = -deviance(problem.sums, theta) / 2
    count = p + len(theta) + 1
    trace = _effective_df(problem, theta)
    left = float(((problem.values - fitted) ** 2).sum())
    within = n * np.log(2 * np.pi * sigma**2) + left / sigma**2  # -2 log density, people given
    from_fixed = float(marginal.var(ddof=1))
    from_random = float(((problem.random @ random.covariance) * problem.random).sum() / n)
    total = from_fixed + from_random + sigma**2
    return FitQuality(
        loglik=loglik,
        n_parameters=count,
        aic=2 * count - 2 * loglik,
        bic=float(np.log(n)) * count - 2 * loglik,
        conditional_aic=float(within + 2 * (trace + 1)),
        effective_df=trace,
        r2_marginal=from_fixed / total,
        r2_conditional=(from_fixed + from_random) / total,
    )


def _effective_df(problem: _Problem, theta: Array) -> float:
    """Trace of the hat matrix: fixed effects plus the shrunken random ones."""
    sums, p = problem.sums, problem.sums.p
    factor = relative_factor(theta, sums.q)
    inner = factor.T @ sums.zz @ factor + np.eye(sums.q)
    right = factor.T @ sums.zx[:, :, :p]
    solved = np.linalg.solve(inner, right)
    random = inner.shape[0] * sums.q - float(np.trace(np.linalg.inv(inner).sum(axis=0)))
    # X' V^-2 X = X' V^-1 X - (what V^-1 takes from the part that the random effects explain)
    twice = np.einsum("gqi,gqr,grj->ij", solved, inner - np.eye(sums.q), solved)
    once = np.einsum("gqi,gqj->ij", right, solved)
    squared = sums.total[:p, :p] - 2 * once + twice
    return random + float(np.trace(np.linalg.solve(profile(sums, theta).inner, squared)))


def _notes(singular: bool, converged: bool, n_groups: int, unit: str) -> list[str]:
    notes = []
    if singular:
        notes.append(
            f"singular fit: a variance between {unit} is estimated as zero, or a correlation as "
            "1 or -1; the fixed effects stand"
        )
    if not converged:
        notes.append("the fit has not converged; do not use its standard errors")
    if n_groups < FEW_GROUPS:
        notes.append(f"a variance between only {n_groups} {unit} is uncertain")
    return notes
