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

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.stats.estimability import NotEstimableError
from alsflow.nodes.stats.estimates import LEVEL, Estimate, estimate
from alsflow.nodes.stats.mixed import MIN_GROUPS
from alsflow.nodes.stats.regression import LinearFit

Array = NDArray[np.float64]

LEVERAGE_LEFT = 1e-10  # eigenvalue of I - H of a cluster that counts as none (generalised inverse)
FEW_CLUSTERS = 50  # below which HC1 with z is said to be too sure


@dataclass(frozen=True)
class ClusterRobust:
    """The coefficients of one least-squares fit, tested with rows clustered by person."""

    n: int  # rows
    n_clusters: int
    hc1: tuple[Estimate, ...]  # z
    cr2: tuple[Estimate, ...]  # t with Satterthwaite's df
    notes: tuple[str, ...]

    def effect(self, name: str, kind: str = "cr2") -> Estimate:
        """One coefficient; `kind` is ``cr2`` or ``hc1``."""
        return next(one for one in getattr(self, kind) if one.name == name)


def cluster_robust(fit: LinearFit, level: float = LEVEL, unit: str = "people") -> ClusterRobust:
    """Standard errors of a least-squares fit whose rows are clustered by ``design.people``.

    Parameters
    ----------
    fit : LinearFit
        Least squares on rows (visits, sides).
    unit : str
        What a cluster is, in messages.

    Raises
    ------
    NotEstimableError
        With fewer than `MIN_GROUPS` clusters.
    """
    labels, codes = np.unique(np.asarray(fit.design.people), return_inverse=True)
    if len(labels) < MIN_GROUPS:
        raise NotEstimableError(
            f"{len(labels)} {unit} are too few for a standard error clustered by them; at least "
            f"{MIN_GROUPS} are needed"
        )
    fixed = fit.design.matrix
    lengths = np.linalg.norm(fixed, axis=0)
    triangle = np.linalg.inv(np.linalg.qr(fixed / lengths)[1]) / lengths[:, None]
    bread = triangle @ triangle.T
    hc1 = _hc1_errors(fixed, bread, fit.residuals, codes)
    cr2, dfs = _cr2_errors(fixed, bread, fit.residuals, codes)
    few = f"HC1 with z is too sure with {len(labels)} {unit}; use CR2"
    return ClusterRobust(
        n=fit.n,
        n_clusters=len(labels),
        hc1=_tests(fit, hc1, np.full(len(dfs), np.inf), level),
        cr2=_tests(fit, cr2, dfs, level),
        notes=(few,) if len(labels) < FEW_CLUSTERS else (),
    )


def _tests(fit: LinearFit, errors: Array, dfs: Array, level: float) -> tuple[Estimate, ...]:
    rows = zip(fit.design.columns, fit.estimate, errors, dfs, strict=True)
    return tuple(estimate(name, value, se, df, level) for name, value, se, df in rows)


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
