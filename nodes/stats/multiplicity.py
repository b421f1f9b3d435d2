"""Correction of p values for the number of tests, family by family."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from statsmodels.stats.multitest import multipletests

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.effects import benjamini_hochberg

# Name in settings: name in statsmodels. `fdr` is that of Benjamini and Hochberg; `by` that of
# Benjamini and Yekutieli (2001), doi:10.1214/aos/1013699998, which allows any dependence;
# Holm (1979) and Hommel (1988), doi:10.1093/biomet/75.2.383, control the familywise error.
METHODS = {"fdr": "fdr_bh", "by": "fdr_by", "holm": "holm", "hommel": "hommel",
           "bonferroni": "bonferroni", "none": ""}  # fmt: skip
NAMES = {
    "fdr": "false discovery rate (Benjamini-Hochberg)",
    "by": "false discovery rate under any dependence (Benjamini-Yekutieli)",
    "holm": "familywise error (Holm)",
    "hommel": "familywise error (Hommel)",
    "bonferroni": "familywise error (Bonferroni)",
    "none": "not corrected",
}


def adjust(p: ArrayLike, method: str = "fdr") -> NDArray[np.float64]:
    """Corrected p values of one family.

    Parameters
    ----------
    p : (m,) array
        Raw p values; NaN stays NaN and does not count.
    method : {"fdr", "by", "holm", "hommel", "bonferroni", "none"}
        What is held; see `NAMES`.
    """
    if method not in METHODS:
        raise BadInputError(f"correction is {method!r}; it must be one of {', '.join(METHODS)}")
    raw = np.asarray(p, dtype=float)
    known = np.isfinite(raw)
    if ((raw[known] < 0) | (raw[known] > 1)).any():
        raise BadInputError("a p value is below 0 or above 1")
    if method == "none" or not known.any():
        return raw.copy()
    if method == "fdr":
        return benjamini_hochberg(raw)
    adjusted = np.full(raw.shape, np.nan)
    adjusted[known] = np.minimum(multipletests(raw[known], method=METHODS[method])[1], 1.0)
    return adjusted


def adjust_families(
    p: ArrayLike, families: Sequence[str], methods: dict[str, str] | str = "fdr"
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Correct within each declared family.

    Parameters
    ----------
    p : (m,) array
        Raw p values.
    families : (m,) sequence of str
        Family of each.
    methods : str or mapping
        Method of all families, or of each; one that is not named has ``fdr``.

    Returns
    -------
    q : (m,) array
        Corrected p values.
    notes : tuple of str
        One sentence per family: how many tests counted, and how many could not be run.
    """
    raw, labels = np.asarray(p, dtype=float), np.asarray(families, dtype=object)
    q, notes = np.full(raw.shape, np.nan), []
    for family in dict.fromkeys(labels):
        inside = labels == family
        method = methods if isinstance(methods, str) else methods.get(family, "fdr")
        q[inside] = adjust(raw[inside], method)
        counted = int(np.isfinite(raw[inside]).sum())
        note = f"{family}: {NAMES[method]} over {counted} tests"
        if lost := int(inside.sum()) - counted:
            note += f"; {lost} without a p value do not count"
        notes.append(note)
    return q, tuple(notes)
