"""Whether the rows at hand can answer the question a model asks of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alsflow.nodes.errors import BadInputError

ESTIMABLE_MAX = 1e-8  # largest part of a unit-scaled contrast outside the row space
RANK_MIN = 1e-8  # smallest singular value, unit-length columns, that counts
MIN_DF = 5  # residual degrees of freedom below which nothing is tested
NAMED = 5  # cells and people named in a message


class NotEstimableError(BadInputError):
    """The people at hand cannot answer the question; the message says why."""


def estimable(matrix: NDArray[np.float64], contrast: NDArray[np.float64]) -> bool:
    """Whether every row of `contrast` is a combination of the rows of `matrix`.

    Parameters
    ----------
    matrix : (n, p) array
        Design.
    contrast : (p,) or (q, p) array
        Weights of the parameters.
    """
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1.0
    scaled, goal = matrix / scale, np.atleast_2d(contrast) / scale
    goal = goal / np.linalg.norm(goal, axis=1, keepdims=True)
    inside = goal @ np.linalg.pinv(scaled, rcond=RANK_MIN) @ scaled
    return bool((np.linalg.norm(goal - inside, axis=1) < ESTIMABLE_MAX).all())


def null_space(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """(p - rank, p) combinations of the unit-length columns of `matrix` (n, p) that vanish."""
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1.0
    _, sizes, rows = np.linalg.svd(matrix / scale, full_matrices=True)
    sizes = np.pad(sizes, (0, rows.shape[0] - len(sizes)))
    return rows[sizes < RANK_MIN]


def entangled(matrix: NDArray[np.float64], terms: Sequence[str]) -> list[str]:
    """Terms whose columns depend on each other; empty where `matrix` (n, p) has full rank."""
    loads = np.abs(null_space(matrix)).max(axis=0, initial=0.0) > 1e-6
    return list(dict.fromkeys(term for term, hit in zip(terms, loads, strict=True) if hit))


def empty_cells(rows: pd.DataFrame, levels: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """Return the combinations of `levels` that no row has."""
    found = set(rows[list(levels)].itertuples(index=False, name=None))
    return [cell for cell in product(*levels.values()) if cell not in found]


def require_cells(
    matrix: NDArray[np.float64], rows: pd.DataFrame, levels: Mapping[str, Sequence[str]]
) -> None:
    """Refuse an interaction of factors with empty cells that takes the rank off `matrix`.

    Parameters
    ----------
    matrix : (n, p) array
        Design.
    rows : (n, ...) DataFrame
        Holds the columns of `levels`.
    levels : mapping
        Factors of the interaction and their levels.
    """
    empty = empty_cells(rows, levels)
    rank = matrix.shape[1] - len(null_space(matrix))
    if not empty or rank == matrix.shape[1]:
        return
    names = "; ".join(
        " and ".join(f"{name} {level}" for name, level in zip(levels, cell, strict=True))
        for cell in empty[:NAMED]
    )
    more = f"; and {len(empty) - NAMED} more" if len(empty) > NAMED else ""
    last = list(levels)[-1]
    blamed = ", ".join(dict.fromkeys(cell[-1] for cell in empty[:NAMED]))
    raise NotEstimableError(
        f"the interaction {':'.join(levels)} cannot be estimated (rank {rank} of "
        f"{matrix.shape[1]}): nobody of {names}{more}; use the additive model, or leave out "
        f"{last} {blamed}"
    )


def require_rank(
    matrix: NDArray[np.float64],
    terms: Sequence[str],
    rows: pd.DataFrame,
    question: NDArray[np.float64] | None = None,
    *,
    group: str = "",
    site: str = "",
) -> None:
    """Refuse a design whose columns depend on each other, and say which.

    Parameters
    ----------
    matrix : (n, p) array
        Design.
    terms : sequence of str
        Term of each column.
    rows : (n, ...) DataFrame
        The people; the index names them.
    question : (p,) array, optional
        Contrast of the groups.
    group, site : str
        Columns of `rows`, to say how they are confounded.
    """
    guilty = entangled(matrix, terms)
    if not guilty:
        return
    others = [term for term in guilty if term not in (group, "intercept")]
    if question is not None and not estimable(matrix, question):
        if others == [site]:
            raise NotEstimableError(_confounded_with_site(rows, group, site))
        raise NotEstimableError(
            f"the difference between the groups cannot be told from {' and '.join(others)}"
            f"{_rank(matrix)}; leave {'it' if len(others) == 1 else 'them'} out of the covariates"
        )
    names = [term for term in guilty if term != "intercept"]
    people = ", ".join(map(str, rows.index[:3])) + (", ..." if len(rows) > 3 else "")
    raise NotEstimableError(
        f"{' and '.join(names)} carry the same information in these {len(rows)} people "
        f"({people}){_rank(matrix)}; leave one of them out of the covariates"
    )


def _rank(matrix: NDArray[np.float64]) -> str:
    columns = matrix.shape[1]
    return f" (rank {columns - len(null_space(matrix))} of {columns})"


def require_df(n: int, parameters: int, least: int = MIN_DF) -> None:
    """Refuse a model that leaves fewer than `least` residual degrees of freedom."""
    if n - parameters < least:
        raise NotEstimableError(
            f"{n} people for a model of {parameters} parameters leave {n - parameters} residual "
            f"degrees of freedom; at least {least} are needed: take terms out of the model"
        )


def _confounded_with_site(rows: pd.DataFrame, group: str, site: str) -> str:
    parts = []
    for label, members in rows.groupby(group, sort=True):
        parts.append(f"{label} only at {', '.join(sorted(members[site].unique()))}")
    return (
        f"group and site cannot be told apart: no site scanned both groups ({'; '.join(parts)}); "
        "a difference between the groups could be one between the scanners; it takes a site with "
        "both groups"
    )


def site_notes(rows: pd.DataFrame, group: str, site: str) -> list[str]:
    """What the make-up of the sites means for a difference between the groups."""
    notes = []
    if site and group and rows[site].nunique() > 1:
        for name, members in rows.groupby(site, sort=True):
            if len(members) == 1:
                notes.append(
                    f"site {name} has one person ({members.index[0]}), who only sets the mean of "
                    "that site and tells nothing of the groups"
                )
            elif members[group].nunique() == 1:
                notes.append(
                    f"site {name} has only {members[group].iat[0]} and tells nothing of the groups"
                )
    return notes
