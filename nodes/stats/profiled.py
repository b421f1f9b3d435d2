"""Profiled deviance of a linear mixed model with one grouping factor, and its minimum.

The covariance of the random effects of a person is ``sigma^2 L L'`` with ``L`` lower triangular;
the entries of ``L``, column by column, are theta [1]_. Given theta, the fixed effects and sigma
have closed forms, so the search runs over theta alone: one number for a random intercept, three
for an intercept and a slope. Signs of the columns of ``L`` change nothing, so no bound is needed,
and a variance of zero is an ordinary minimum of the function.

References
----------
.. [1] Bates et al. (2015). J Stat Softw 67(1):1-48. doi:10.18637/jss.v067.i01
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

Array = NDArray[np.float64]

THETA_GRID = np.concatenate([[0.0], np.geomspace(1e-3, 1e6, 37)])  # first look
SLOPE_STARTS = (
    0.05,
    0.5,
    2.0,
)  # relative SD of slopes that a search starts at
BOUNDARY = 1e-4  # relative SD below which a random effect counts as zero (as lme4::isSingular)
DEVIANCE_TIE = 1e-7  # deviance that setting such a random effect to zero may cost
RESTARTS = 8  # of the simplex at most
RESTART_GAIN = 1e-3  # fall of the deviance below which it is not restarted; Newton does the rest
NEWTON_STEPS = 6
PROMISE_KEPT = 1e-9  # fall of the deviance by a Newton step after which the next would be nothing
STEP_OF_DERIVATIVE = 0.01  # first step, relative to max(|x|, 0.1); then its half, extrapolated
SADDLE = 1e-3  # downward curvature that is no rounding error
EIGENVALUE_MIN = 1e-8  # curvature that counts as none, as in lmerTest


@dataclass(frozen=True, eq=False)
class Sums:
    """Everything of the data that the deviance needs, in orthonormal fixed-effect columns."""

    zz: Array  # (g, q, q) Z'Z of each group
    zx: Array  # (g, q, p + 1) Z'[Q r] of each group
    total: Array  # (p + 1, p + 1) [Q r]'[Q r]
    n: int
    log_det: float  # log det X'X in the columns as given
    reml: bool

    @property
    def p(self) -> int:
        """Number of fixed effects."""
        return len(self.total) - 1

    @property
    def q(self) -> int:
        """Number of random effects of a group."""
        return self.zz.shape[1]


@dataclass(frozen=True, eq=False)
class Profile:
    """What follows from one theta."""

    fixed: Array  # (p,) in the orthonormal columns
    inner: Array  # (p, p) X' V^-1 X in these columns, sigma = 1
    rss: float  # penalised residual sum of squares
    log_det: float  # log det of V over sigma^2


def group_sums(
    residual: Array, basis: Array, random: Array, codes: NDArray, log_det: float, reml: bool
) -> Sums:
    """Cross-products of each group.

    Parameters
    ----------
    residual : (n,) array
        Outcome minus its least-squares fit, unit of the outcome.
    basis : (n, p) array
        Orthonormal basis of the fixed effects.
    random : (n, q) array
        Columns with random coefficients.
    codes : (n,) int array
        Group of each row, 0 to g - 1, none empty.
    """
    right = np.column_stack([basis, residual])
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(codes.max() + 1))
    z, x = random[order], right[order]
    return Sums(
        zz=np.add.reduceat(z[:, :, None] * z[:, None, :], starts),
        zx=np.add.reduceat(z[:, :, None] * x[:, None, :], starts),
        total=right.T @ right,
        n=len(residual),
        log_det=log_det,
        reml=reml,
    )


def relative_factor(theta: Array, q: int) -> Array:
    """(q, q) lower triangle filled with theta column by column."""
    factor = np.zeros((q, q))
    columns, rows = np.triu_indices(q)
    factor[rows, columns] = theta
    return factor


def theta_of(factor: Array) -> Array:
    """Inverse of `relative_factor`."""
    columns, rows = np.triu_indices(len(factor))
    return factor[rows, columns]


def profile(sums: Sums, theta: Array) -> Profile:
    """Fixed effects and sums of squares given theta."""
    factor = relative_factor(theta, sums.q)
    inner = factor.T @ sums.zz @ factor + np.eye(sums.q)
    right = factor.T @ sums.zx
    solved = np.linalg.solve(inner, right)
    p = sums.p
    both = sums.total - right.reshape(-1, p + 1).T @ solved.reshape(-1, p + 1)
    fixed = np.asarray(np.linalg.solve(both[:p, :p], both[:p, p]), dtype=np.float64)
    return Profile(
        fixed=fixed,
        inner=both[:p, :p],
        rss=float(both[p, p] - both[:p, p] @ fixed),
        log_det=float(np.linalg.slogdet(inner)[1].sum()),
    )


def deviance(sums: Sums, theta: Array, sigma: float | None = None) -> float:
    """Minus twice the (restricted) log-likelihood; sigma is profiled out where it is not given."""
    found = profile(sums, theta)
    df = sums.n - sums.p if sums.reml else sums.n
    variance = found.rss / df if sigma is None else sigma**2
    total = found.log_det + df * np.log(2 * np.pi * variance) + found.rss / variance
    if sums.reml:
        total += np.linalg.slogdet(found.inner)[1] + sums.log_det
    return float(total)


def jacobian(function: Callable[[Array], Array | float], x: Array) -> Array:
    """Central differences with one Richardson extrapolation; the derivatives come first."""
    rows = []
    for i, value in enumerate(x):
        step = STEP_OF_DERIVATIVE * max(abs(value), 0.1) * np.eye(len(x))[i]
        rough, fine = (
            (np.asarray(function(x + h)) - np.asarray(function(x - h))) / (2 * h[i])
            for h in (step, step / 2)
        )
        rows.append((4 * fine - rough) / 3)
    return np.array(rows)


def hessian(function: Callable[[Array], float], x: Array) -> Array:
    """(k, k) symmetric matrix of second derivatives."""
    raw = jacobian(lambda at: jacobian(function, at), x)
    return (raw + raw.T) / 2


def curvature(sums: Sums, theta: Array) -> Array:
    """(k + 1, k + 1) second derivatives of the deviance over theta and sigma at the minimum.

    Sigma is relative to its estimate. What depends on it is known in closed form, so that only
    the profiled deviance is differentiated by numbers.
    """
    df = sums.n - sums.p if sums.reml else sums.n
    rss = profile(sums, theta).rss
    slope = jacobian(lambda at: profile(sums, at).rss, theta) / rss
    k = len(theta)
    found = np.full((k + 1, k + 1), 4.0 * df)
    found[:k, :k] = hessian(lambda at: deviance(sums, at), theta) + df * np.outer(slope, slope)
    found[:k, k] = found[k, :k] = -2 * df * slope
    return found


def pseudo_inverse(matrix: Array) -> Array:
    """Inverse over the directions whose curvature is above zero."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > EIGENVALUE_MIN
    return (vectors[:, kept] / values[kept]) @ vectors[:, kept].T


def _minimise_one(sums: Sums) -> Array:
    """Theta of a single random effect: a grid, then Brent between its neighbours."""
    heights = [deviance(sums, np.array([theta])) for theta in THETA_GRID]
    best = int(np.argmin(heights))
    low = THETA_GRID[best - 1] if best else -THETA_GRID[1]
    high = THETA_GRID[min(best + 1, len(THETA_GRID) - 1)]
    found = optimize.minimize_scalar(
        lambda theta: deviance(sums, np.array([theta])),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-10 * max(high, 1.0)},
    )
    return np.array([abs(found.x)])


def _simplex(sums: Sums, start: Array, tight: float) -> Array:
    found = optimize.minimize(
        lambda theta: deviance(sums, theta),
        start,
        method="Nelder-Mead",
        options={"xatol": tight, "fatol": tight, "maxfev": 2000},
    )
    return found.x


def _minimise_many(sums: Sums) -> Array:
    """Theta of several random effects: simplexes from several starts, the best one restarted."""
    first = Sums(sums.zz[:, :1, :1], sums.zx[:, :1], sums.total, sums.n, sums.log_det, sums.reml)
    intercept = max(float(_minimise_one(first)[0]), SLOPE_STARTS[0])
    starts = [
        theta_of(np.diag([intercept] + [size] * (sums.q - 1)).astype(float))
        for size in SLOPE_STARTS
    ]
    ends = [_simplex(sums, start, 1e-3) for start in starts]
    best = min(ends, key=lambda theta: deviance(sums, theta))
    for _ in range(RESTARTS):
        before, best = deviance(sums, best), _simplex(sums, best, 1e-4)
        if before - deviance(sums, best) < RESTART_GAIN:
            break
    return best


def _polish(sums: Sums, theta: Array) -> tuple[Array, float]:
    """Newton steps at the minimum; theta and the decrease that one more step promises."""

    def height(at: Array) -> float:
        return deviance(sums, at)

    promised = np.inf
    for _ in range(NEWTON_STEPS):
        slope = jacobian(height, theta)
        step = pseudo_inverse(hessian(height, theta)) @ slope
        promised = float(slope @ step) / 2
        if height(theta - step) > height(theta) + 1e-10:
            break
        theta = theta - step
        if promised < PROMISE_KEPT:
            break
    return theta, promised


def _tidy(sums: Sums, theta: Array) -> Array:
    """Columns of the factor with a positive diagonal; what is as good as zero made zero."""
    factor = relative_factor(theta, sums.q)
    factor = factor * np.where(np.diag(factor) < 0, -1.0, 1.0)
    for i in range(sums.q):
        if abs(factor[i, i]) < BOUNDARY:
            flat = factor.copy()
            flat[i, i] = 0.0
            if deviance(sums, theta_of(flat)) <= deviance(sums, theta_of(factor)) + DEVIANCE_TIE:
                factor = flat
    return theta_of(factor)


def _downhill(sums: Sums, theta: Array) -> Array | None:
    """A lower point beside a saddle, which symmetry makes of some zeros; None at a minimum."""
    values, vectors = np.linalg.eigh(hessian(lambda at: deviance(sums, at), theta))
    if values[0] > -SADDLE:
        return None
    around = [theta + size * vectors[:, 0] for size in (-1.0, -0.3, -0.1, 0.1, 0.3, 1.0)]
    best = min(around, key=lambda at: deviance(sums, at))
    return best if deviance(sums, best) < deviance(sums, theta) else None


def minimise(sums: Sums) -> tuple[Array, float]:
    """Theta at the lowest deviance, and by how much one more Newton step would lower it."""
    theta = _minimise_one(sums) if sums.q == 1 else _minimise_many(sums)
    for _ in range(RESTARTS):
        theta, promised = _polish(sums, _tidy(sums, theta))
        lower = _downhill(sums, theta)
        if lower is None:
            return _tidy(sums, theta), promised
        theta = _simplex(sums, lower, 1e-4)
    return theta, np.inf
