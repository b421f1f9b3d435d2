"""Design matrices from declared levels, and whether they can answer the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alsflow.nodes.errors import BadInputError

ESTIMABLE_MAX = 1e-8  # largest part of a unit-scaled contrast outside the row space
RANK_MIN = 1e-8  # smallest singular value, unit-length columns, that counts
MIN_DF = 5  # residual degrees of freedom below which nothing is tested


class NotEstimableError(BadInputError):
    """The people at hand cannot answer the question; the message says why."""


@dataclass(frozen=True)
class Design:
    """Design matrix of ``measure ~ group + site + covariates``.

    Factors are sum-coded: one column per level but the last, which is -1 in all of them, so the
    intercept is the unweighted mean of the cells. Covariates are centred at the mean of the rows.
    """

    matrix: NDArray[np.float64]  # (n, p)
    columns: tuple[str, ...]  # p names
    terms: tuple[str, ...]  # p terms that the columns belong to
    difference: NDArray[np.float64]  # (p,) contrast case - reference
    control_mean: NDArray[np.float64]  # (p,) adjusted mean of the reference group
    coding: tuple[str, ...]  # one sentence per term
    dropped: tuple[str, ...]  # terms left out, and why
    notes: tuple[str, ...]  # what a reader has to know

    @property
    def formula(self) -> str:
        """Right-hand side of the model."""
        return " + ".join(dict.fromkeys(term for term in self.terms if term != "intercept"))

    def meanings(self) -> dict[str, str]:
        """Say what each column codes."""
        sentences = {
            term: sentence
            for term in self.terms
            for sentence in self.coding
            if sentence.startswith(f"{term}: ")
        }
        return {
            column: sentences.get(term, "1 for everybody")
            for column, term in zip(self.columns, self.terms, strict=True)
        }


def sum_code(labels: Sequence[str], levels: Sequence[str]) -> NDArray[np.float64]:
    """(n, k - 1) sum coding of `labels`; the last of the k `levels` is -1 in every column."""
    codes = np.vstack([np.eye(len(levels) - 1), -np.ones(len(levels) - 1)])
    return codes[[list(levels).index(label) for label in labels]]


def build_design(
    table: pd.DataFrame,
    *,
    group: str,
    case: str,
    reference: str,
    site: str = "",
    covariates: Sequence[str] = (),
    factors: Sequence[str] = (),
) -> Design:
    """Design of one model on complete rows; refuses what cannot be estimated.

    Parameters
    ----------
    table : (n, ...) DataFrame
        One row per person, no missing cell in the columns named; the index names the people.
    group, case, reference : str
        Column of the groups and its two labels.
    site : str
        Column of the centres; empty for none.
    covariates : sequence of str
        Further columns, in order; those in `factors` are categories, the others numbers.
    factors : sequence of str
        Covariates that are categories.

    Raises
    ------
    NotEstimableError
        With a sentence that names the columns, sites or people at fault.
    """
    _require_both_groups(table, group, case, reference)
    blocks: list[tuple[str, list[str], NDArray[np.float64]]] = [
        ("intercept", ["intercept"], np.ones((len(table), 1))),
        (group, [f"{group}[{case}]"], sum_code(list(table[group]), [case, reference])),
    ]
    coding = [f"{group}: {case} = 1, {reference} = -1"]
    dropped: list[str] = []
    for name in ([site] if site else []) + list(covariates):
        if name == site or name in factors:
            block = _factor(table, name, coding, dropped)
        else:
            block = _covariate(table, name, coding)
        if block is not None:
            blocks.append(block)
    matrix = np.hstack([columns for _, _, columns in blocks])
    terms = tuple(term for term, names, _ in blocks for _ in names)
    difference = np.zeros(matrix.shape[1])
    difference[1] = 2.0
    control_mean = np.zeros(matrix.shape[1])
    control_mean[:2] = 1.0, -1.0
    design = Design(
        matrix=matrix,
        columns=tuple(name for _, names, _ in blocks for name in names),
        terms=terms,
        difference=difference,
        control_mean=control_mean,
        coding=tuple(coding),
        dropped=tuple(dropped),
        notes=tuple(_site_notes(table, group, site)),
    )
    _require_estimable(design, table, group, site)
    return design


def _require_both_groups(table: pd.DataFrame, group: str, case: str, reference: str) -> None:
    for label in (case, reference):
        if not (table[group] == label).any():
            raise NotEstimableError(f"nobody of the group {label} has this measure")


def _factor(
    table: pd.DataFrame, name: str, coding: list[str], dropped: list[str]
) -> tuple[str, list[str], NDArray[np.float64]] | None:
    levels = sorted(table[name].unique())
    if len(levels) == 1:
        dropped.append(f"{name} is left out: all are of {name} {levels[0]}")
        return None
    coding.append(f"{name}: sum coding of {', '.join(levels)}; the last is -1 in every column")
    names = [f"{name}[{level}]" for level in levels[:-1]]
    return name, names, sum_code(list(table[name]), levels)


def _covariate(
    table: pd.DataFrame, name: str, coding: list[str]
) -> tuple[str, list[str], NDArray[np.float64]]:
    values = table[name].to_numpy(dtype=float)
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        raise NotEstimableError(
            f"{name} is {values[0]:g} for all {len(values)} people and cannot be a covariate; "
            "leave it out of covariates under [group]"
        )
    coding.append(f"{name}: number, minus its mean of {values.mean():.6g}")
    return name, [name], (values - values.mean())[:, None]


def _site_notes(table: pd.DataFrame, group: str, site: str) -> list[str]:
    notes = []
    if site and table[site].nunique() > 1:
        for name, rows in table.groupby(site, sort=True):
            if len(rows) == 1:
                notes.append(
                    f"site {name} has one person ({rows.index[0]}), who only sets the mean of "
                    "that site and tells nothing of the groups"
                )
            elif rows[group].nunique() == 1:
                notes.append(
                    f"site {name} has only {rows[group].iat[0]} and tells nothing of the groups"
                )
    return notes


def estimable(matrix: NDArray[np.float64], contrast: NDArray[np.float64]) -> bool:
    """Whether `contrast` (p,) is a combination of the rows of `matrix` (n, p)."""
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1.0
    scaled, goal = matrix / scale, contrast / scale
    goal = goal / np.linalg.norm(goal)
    inside = goal @ np.linalg.pinv(scaled, rcond=RANK_MIN) @ scaled
    return bool(np.linalg.norm(goal - inside) < ESTIMABLE_MAX)


def _entangled(design: Design) -> list[str]:
    """Terms whose columns depend on each other; empty where the matrix has full rank."""
    scaled = design.matrix / np.linalg.norm(design.matrix, axis=0)
    _, sizes, rows = np.linalg.svd(scaled, full_matrices=True)
    sizes = np.pad(sizes, (0, rows.shape[0] - len(sizes)))
    null = rows[sizes < RANK_MIN]
    loads = np.abs(null).max(axis=0, initial=0.0) > 1e-6
    return list(dict.fromkeys(term for term, hit in zip(design.terms, loads, strict=True) if hit))


def _require_estimable(design: Design, table: pd.DataFrame, group: str, site: str) -> None:
    n, p = design.matrix.shape
    entangled = _entangled(design)
    answers = estimable(design.matrix, design.difference)
    if n >= p and entangled and not answers:
        others = [term for term in entangled if term not in (group, "intercept")]
        if others == [site]:
            raise NotEstimableError(_confounded_with_site(table, group, site))
        raise NotEstimableError(
            f"the difference between the groups cannot be told from {' and '.join(others)}"
        )
    if n >= p and entangled:
        names = [term for term in entangled if term != "intercept"]
        people = ", ".join(map(str, table.index[:3])) + (", ..." if n > 3 else "")
        raise NotEstimableError(
            f"{' and '.join(names)} carry the same information in these {n} people ({people}); "
            "leave one of them out of covariates under [group]"
        )
    if n - p < MIN_DF:
        raise NotEstimableError(
            f"{n} people for a model of {p} parameters leave {n - p} residual degrees of "
            f"freedom; at least {MIN_DF} are needed"
        )


def _confounded_with_site(table: pd.DataFrame, group: str, site: str) -> str:
    parts = []
    for label, rows in table.groupby(group, sort=True):
        parts.append(f"{label} only at {', '.join(sorted(rows[site].unique()))}")
    return (
        f"group and site cannot be told apart: no site scanned both groups ({'; '.join(parts)}); "
        "a difference between the groups could be one between the scanners"
    )
