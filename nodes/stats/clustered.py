"""Least squares on rows that come in clusters, with standard errors that know it.

Two sides of one person share the person: their residuals are correlated, and the usual standard
error, which counts them as two people, is too small for whatever varies between people. Two
corrections of the covariance of the same least-squares slopes:

- HC1 with z [1]_: the plain sandwich, cluster by cluster. Too small below some 50 clusters; it
  stands here for comparison with published results.
- CR2 with Satterthwaite's degrees of freedom [2]_ [3]_: unbiased if the rows were independent
  after all, and honest at few clusters. The one to report.

References
----------
.. [1] Zeileis et al. (2020). J Stat Softw 95(1):1-36. doi:10.18637/jss.v095.i01
.. [2] Bell & McCaffrey (2002). Survey Methodology 28:169-181.
.. [3] Pustejovsky & Tipton (2018). J Bus Econ Stat 36:672-683.
   doi:10.1080/07350015.2016.1247004
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.stats.design import MIN_DF, NotEstimableError
from alsflow.nodes.stats.estimates import LEVEL, Estimate, estimate
from alsflow.nodes.stats.mixed import MIN_GROUPS, require_full_rank

Array = NDArray[np.float64]

LEVERAGE_LEFT = 1e-10  # eigenvalue of I - H of a cluster that counts as none (generalised inverse)


@dataclass(frozen=True, eq=False)
class ClusteredFit:
    """Least squares, with the covariance of independent rows and of independent clusters."""

    n: int  # rows
    n_clusters: int
    df_residual: int
    columns: tuple[str, ...]
    coefficients: Array  # (p,)
    residual_sd: float
    r2: float
    loglik: float
    independent: tuple[Estimate, ...]  # rows as if independent, t on n - p
    hc1: tuple[Estimate, ...]  # clustered, z
    cr2: tuple[Estimate, ...]  # clustered, t with Satterthwaite's df

    def effect(self, name: str, kind: str = "cr2") -> Estimate:
        """One coefficient; `kind` is ``independent``, ``hc1`` or ``cr2``."""
        kinds = {"independent": self.independent, "hc1": self.hc1, "cr2": self.cr2}
        return kinds[kind][self.columns.index(name)]


def fit_clustered(
    values: Array,
    fixed: Array,
    columns: Sequence[str],
    clusters: Sequence[str] | NDArray,
    level: float = LEVEL,
    unit: str = "people",
) -> ClusteredFit:
    """Fit ``values ~ fixed`` by least squares, rows clustered.

    Parameters
    ----------
    values : (n,) array
        Outcome, its own unit.
    fixed : (n, p) array
        Design matrix with its intercept, columns named by `columns`.
    clusters : (n,) labels
        Person of each row.
    """
    values, fixed = np.asarray(values, dtype=float), np.asarray(fixed, dtype=float)
    labels, codes = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    _require(values, fixed, columns, len(labels), unit)
    n, p = fixed.shape
    lengths = np.linalg.norm(fixed, axis=0)
    bread = np.linalg.inv(fixed.T / lengths[:, None] @ (fixed / lengths))
    bread = bread / np.outer(lengths, lengths)
    coefficients = bread @ (fixed.T @ values)
    residual = values - fixed @ coefficients
    coefficients = coefficients + bread @ (fixed.T @ residual)  # one step of refinement
    residual = values - fixed @ coefficients
    rss = float(residual @ residual)
    plain = np.sqrt(np.diag(bread) * rss / (n - p))
    hc1 = _hc1_errors(fixed, bread, residual, codes)
    cr2, dfs = _cr2_errors(fixed, bread, residual, codes)
    kinds = [(plain, np.full(p, n - p)), (hc1, np.full(p, np.inf)), (cr2, dfs)]
    tested = [
        tuple(
            estimate(*row, level=level)
            for row in zip(columns, coefficients, errors, df, strict=True)
        )
        for errors, df in kinds
    ]
    return ClusteredFit(
        n=n,
        n_clusters=len(labels),
        df_residual=n - p,
        columns=tuple(columns),
        coefficients=coefficients,
        residual_sd=float(np.sqrt(rss / (n - p))),
        r2=float(1 - rss / ((values - values.mean()) ** 2).sum()),
        loglik=float(-n / 2 * (np.log(2 * np.pi * rss / n) + 1)),
        independent=tested[0],
        hc1=tested[1],
        cr2=tested[2],
    )


def _require(
    values: Array, fixed: Array, columns: Sequence[str], clusters: int, unit: str
) -> None:
    n, p = fixed.shape
    if not (np.isfinite(values).all() and np.isfinite(fixed).all()):
        raise NotEstimableError("a clustered model was given missing values; drop those rows")
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        raise NotEstimableError(f"the outcome is {values[0]:g} in all {n} rows")
    require_full_rank(fixed, columns)
    if clusters < MIN_GROUPS:
        raise NotEstimableError(
            f"{clusters} {unit} are too few for a standard error clustered by them; at least "
            f"{MIN_GROUPS} are needed"
        )
    if n - p < MIN_DF:
        raise NotEstimableError(
            f"{n} rows for {p} coefficients leave {n - p} residual degrees of freedom; at least "
            f"{MIN_DF} are needed"
        )


def _hc1_errors(fixed: Array, bread: Array, residual: Array, codes: NDArray) -> Array:
    """(p,) standard errors as `sandwich::vcovCL(type = "HC1")`."""
    n, p = fixed.shape
    g = codes.max() + 1
    scores = np.zeros((g, p))
    np.add.at(scores, codes, fixed * residual[:, None])
    factor = g / (g - 1) * (n - 1) / (n - p)
    return np.sqrt(factor * ((scores @ bread) ** 2).sum(axis=0))


def _cr2_errors(
    fixed: Array, bread: Array, residual: Array, codes: NDArray
) -> tuple[Array, Array]:
    """(p,) standard errors and (p,) Satterthwaite df as `clubSandwich::coef_test("CR2")`."""
    n, p = fixed.shape
    g = int(codes.max()) + 1
    pieces = np.zeros((g, p))
    shares = np.zeros((g, p, n))  # how each row's error enters the piece of a cluster
    for i in range(g):
        rows = codes == i
        x = fixed[rows]
        values, vectors = np.linalg.eigh(np.eye(rows.sum()) - x @ bread @ x.T)
        kept = values > LEVERAGE_LEFT
        root = (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T
        weights = bread @ x.T @ root  # (p, rows)
        pieces[i] = weights @ residual[rows]
        shares[i][:, rows] = weights
        shares[i] -= weights @ x @ bread @ fixed.T
    products = np.einsum("gpn,hpn->pgh", shares, shares, optimize=True)
    df = np.trace(products, axis1=1, axis2=2) ** 2 / (products**2).sum(axis=(1, 2))
    return np.sqrt((pieces**2).sum(axis=0)), df
