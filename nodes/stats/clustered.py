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

from collections.abc import Mapping
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
    """Coefficients or contrasts of one least-squares fit, tested with rows clustered by person."""

    n: int  # rows
    n_clusters: int
    hc1: tuple[Estimate, ...]  # z
    cr2: tuple[Estimate, ...]  # t with Satterthwaite's df
    notes: tuple[str, ...]

    def effect(self, name: str, kind: str = "cr2") -> Estimate:
        """One coefficient or contrast; `kind` is ``cr2`` or ``hc1``."""
        return next(one for one in getattr(self, kind) if one.name == name)


def cluster_robust(
    fit: LinearFit,
    contrasts: Mapping[str, Array] | None = None,
    *,
    level: float = LEVEL,
    unit: str = "people",
) -> ClusterRobust:
    """Standard errors of a least-squares fit whose rows are clustered by ``design.people``.

    Parameters
    ----------
    fit : LinearFit
        Least squares on rows (visits, sides).
    contrasts : mapping of str to (p,) array, optional
        Weights of the coefficients, by name; every coefficient by default.
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
    wanted = contrasts or dict(zip(fit.design.columns, np.eye(fixed.shape[1]), strict=True))
    weights = np.array(list(wanted.values()), dtype=float)
    values = dict(zip(wanted, weights @ fit.estimate, strict=True))
    hc1 = _hc1_errors(fixed, weights @ bread, fit.residuals, codes)
    cr2, dfs = _cr2_errors(fixed, bread, weights, fit.residuals, codes)
    few = f"HC1 with z is too sure with {len(labels)} {unit}; use CR2"
    return ClusterRobust(
        n=fit.n,
        n_clusters=len(labels),
        hc1=_tests(values, hc1, np.full(len(dfs), np.inf), level),
        cr2=_tests(values, cr2, dfs, level),
        notes=(few,) if len(labels) < FEW_CLUSTERS else (),
    )


def _tests(
    values: Mapping[str, float], errors: Array, dfs: Array, level: float
) -> tuple[Estimate, ...]:
    rows = zip(values.items(), errors, dfs, strict=True)
    return tuple(estimate(name, value, se, df, level) for (name, value), se, df in rows)


def _hc1_errors(fixed: Array, slopes: Array, residual: Array, codes: NDArray) -> Array:
    """(k,) standard errors as `sandwich::vcovCL(type = "HC1")`; `slopes` (k, p) on X'y."""
    n, p = fixed.shape
    g = codes.max() + 1
    scores = np.zeros((g, p))
    np.add.at(scores, codes, fixed * residual[:, None])
    factor = g / (g - 1) * (n - 1) / (n - p)
    return np.sqrt(factor * ((scores @ slopes.T) ** 2).sum(axis=0))


def _cr2_errors(
    fixed: Array, bread: Array, contrasts: Array, residual: Array, codes: NDArray
) -> tuple[Array, Array]:
    """(k,) standard errors and (k,) Satterthwaite df as `clubSandwich::coef_test("CR2")`."""
    g, k = int(codes.max()) + 1, len(contrasts)
    pieces, own = np.zeros((g, k)), np.zeros((g, k))
    lent = np.zeros((g, k, fixed.shape[1]))  # what the shared coefficients take from a cluster
    for i in range(g):
        rows = codes == i
        x = fixed[rows]
        values, vectors = np.linalg.eigh(np.eye(len(x)) - x @ bread @ x.T)
        kept = values > LEVERAGE_LEFT
        root = (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T
        weights = contrasts @ bread @ x.T @ root  # (k, rows)
        pieces[i] = weights @ residual[rows]
        own[i], lent[i] = (weights**2).sum(axis=1), weights @ x
    # The variance is a quadratic form of the errors; its matrix over clusters is own - lent.
    taken = np.einsum("gkp,pq,gkq->gk", lent, bread, lent)
    inner = np.einsum("gkp,gkq->kpq", lent, lent) @ bread
    squares = (own**2 - 2 * own * taken).sum(axis=0) + np.einsum("kpq,kqp->k", inner, inner)
    return np.sqrt((pieces**2).sum(axis=0)), (own - taken).sum(axis=0) ** 2 / squares
