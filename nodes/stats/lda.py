"""Linear discriminant analysis with the covariance of MASS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from alsflow.nodes.stats.design import NotEstimableError

CONDITION_MAX = 1e12  # of the pooled correlation matrix


@dataclass(frozen=True, eq=False)
class Lda:
    """Gaussian classes that share one covariance."""

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    priors: NDArray[np.float64]  # (g,)
    means: NDArray[np.float64]  # (g, p)
    covariance: NDArray[np.float64]  # (p, p), sum of squares within classes / (n - g)

    def posterior(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, g) probability of each class for each row of `features` (n, p)."""
        centre, sd = self.means.mean(axis=0), np.sqrt(np.diag(self.covariance))
        means = (self.means - centre) / sd
        weights = np.linalg.solve(self.covariance / np.outer(sd, sd), means.T)
        offset = np.log(self.priors) - 0.5 * np.einsum("gp,pg->g", means, weights)
        return np.asarray(softmax((features - centre) / sd @ weights + offset, axis=1))


def fit_lda(
    features: NDArray[np.float64],
    labels: Sequence[str],
    priors: Sequence[float] | None = None,
) -> Lda:
    """Fit a linear discriminant [1]_.

    Parameters
    ----------
    features : (n, p) array
        One row per person, no missing value.
    labels : sequence of n str
        Class of each person; classes are sorted.
    priors : sequence of g floats
        Probability of each class; by default its share of the rows.

    Notes
    -----
    The covariance is divided by n - g, as in R's ``MASS::lda``. scikit-learn divides by n, which
    moves the probabilities.

    References
    ----------
    .. [1] Venables and Ripley (2002). Modern Applied Statistics with S, chapter 12. Springer.
       doi:10.1007/978-0-387-21706-2
    """
    features = np.asarray(features, dtype=float)
    classes, codes, counts = np.unique(
        np.asarray([str(label) for label in labels]), return_inverse=True, return_counts=True
    )
    n, p = features.shape
    if len(classes) < 2 or n - len(classes) < p:
        raise NotEstimableError(
            f"a linear discriminant of {p} features needs two groups and more than {p} people "
            f"beyond their means; here are {n} people in {len(classes)}"
        )
    means = np.stack([features[codes == code].mean(axis=0) for code in range(len(classes))])
    residual = features - means[codes]
    covariance = residual.T @ residual / (n - len(classes))
    _require_regular(covariance)
    share = counts / n if priors is None else np.asarray(priors, dtype=float)
    return Lda(
        classes=tuple(classes.tolist()),
        counts=tuple(counts.tolist()),
        priors=share,
        means=means,
        covariance=covariance,
    )


def _require_regular(covariance: NDArray[np.float64]) -> None:
    sd = np.sqrt(np.diag(covariance))
    if (sd <= 0).any() or np.linalg.cond(covariance / np.outer(sd, sd)) > CONDITION_MAX:
        raise NotEstimableError(
            "the features of the discriminant do not vary within the groups, or one of them is "
            "told by the others; leave it out"
        )
