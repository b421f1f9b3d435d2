"""Design matrices from declared levels; `estimability` says whether they answer the question."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.estimability import (
    MIN_DF,
    NotEstimableError,
    estimable,
    require_cells,
    require_df,
    require_rank,
    site_notes,
)
from alsflow.nodes.stats.tables import natural_key

__all__ = [
    "MIN_DF", "Design", "NotEstimableError", "Variable", "build_design", "cell_contrasts",
    "cell_means", "complete_rows", "estimable", "make_design", "parse_formula", "sum_code",
]  # fmt: skip

CONSTANT = 1e-12  # spread relative to the size below which a number does not vary
INTERCEPT = "intercept"
SUM, TREATMENT, CELL, NUMBER = "sum", "treatment", "cell", "number"
COMPARISON = re.compile(r"(\w+):\s*(.+?)\s+-\s+(.+?)(?:\s*\|\s*(\w+):\s*(.+))?")
SIGNS = re.compile(r"[-~()^|/]")  # of formulas that are not understood here


@dataclass(frozen=True)
class Variable:
    """One column of the table, and how it enters a design."""

    name: str
    coding: str  # SUM, TREATMENT, CELL (one column per level) or NUMBER
    levels: tuple[str, ...] = ()  # of a factor, in order
    reference: str = ""  # level that is 0 in every column, treatment coding
    centre: float = 0.0  # subtracted from a number
    mean: float = 0.0  # of a number over the rows

    def encode(self, column: pd.Series) -> NDArray[np.float64]:
        """(n, k) columns of the design for the n cells of `column`."""
        if self.coding == NUMBER:
            return column.to_numpy(dtype=float)[:, None] - self.centre
        return self._codes()[[self.levels.index(label) for label in column]]

    def _codes(self) -> NDArray[np.float64]:
        k = len(self.levels)
        if self.coding == SUM:
            return np.vstack([np.eye(k - 1), -np.ones(k - 1)])
        if self.coding == TREATMENT:
            return np.delete(np.eye(k), self.levels.index(self.reference), axis=1)
        return np.eye(k)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        if self.coding == NUMBER:
            return (self.name,)
        named = self.levels[:-1] if self.coding == SUM else self.levels
        return tuple(f"{self.name}[{level}]" for level in named if level != self.reference)

    @property
    def sentence(self) -> str:
        """What the columns mean."""
        levels = ", ".join(self.levels)
        if self.coding == SUM and len(self.levels) == 2:
            return f"{self.name}: {self.levels[0]} = 1, {self.levels[1]} = -1"
        return (
            f"{self.name}: "
            + {
                SUM: f"sum coding of {levels}; the last is -1 in every column",
                TREATMENT: f"treatment coding of {levels}; {self.reference} is 0 in every column",
                CELL: f"one column per cell of {levels}",
                NUMBER: f"number, minus its mean of {self.centre:.6g}"
                if self.centre
                else "number",
            }[self.coding]
        )


@dataclass(frozen=True)
class Design:
    """Design matrix of a linear model, and all that is needed to read its parameters.

    By default factors are sum-coded: one column per level but the last, which is -1 in all of
    them, so the intercept is the unweighted mean of the cells. Numbers are centred at the mean of
    the rows.
    """

    matrix: NDArray[np.float64]  # (n, p)
    columns: tuple[str, ...]  # p names
    terms: tuple[str, ...]  # p terms that the columns belong to
    variables: Mapping[str, Variable]
    rows: pd.DataFrame  # (n, ...) the columns of the variables; the index names the rows
    people: tuple[str, ...]  # person of each row
    contrasts: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)  # by name, (q, p)
    dropped: tuple[str, ...] = ()  # terms left out, and why
    notes: tuple[str, ...] = ()  # what a reader has to know

    @property
    def formula(self) -> str:
        """Right-hand side of the model."""
        text = " + ".join(term for term in self.term_columns if term != INTERCEPT)
        return (text or "1") if INTERCEPT in self.terms else f"0 + {text}"

    @property
    def coding(self) -> tuple[str, ...]:
        """One sentence per variable."""
        return tuple(variable.sentence for variable in self.variables.values())

    @property
    def coding_name(self) -> str:
        """``sum``, ``treatment`` or ``cell``; ``none`` without factors."""
        names = {v.coding for v in self.variables.values() if v.coding != NUMBER}
        return " and ".join(sorted(names)) or "none"

    @property
    def term_columns(self) -> dict[str, list[int]]:
        """Positions of the columns of each term, in the order of the model."""
        found: dict[str, list[int]] = {}
        for position, term in enumerate(self.terms):
            found.setdefault(term, []).append(position)
        return found

    @property
    def pseudoreplicated(self) -> bool:
        """Whether somebody has more than one row, taken as independent by least squares."""
        return len(set(self.people)) < len(self.people)

    @property
    def difference(self) -> NDArray[np.float64]:
        """(p,) contrast case - reference."""
        return self.contrasts["difference"][0]

    @property
    def control_mean(self) -> NDArray[np.float64]:
        """(p,) adjusted mean of the reference group."""
        return self.contrasts["control mean"][0]

    def meanings(self) -> dict[str, str]:
        """Say what each column codes."""
        found = {}
        for column, term in zip(self.columns, self.terms, strict=True):
            parts = [self.variables[name].sentence for name in _members(term)]
            found[column] = " times ".join(parts) or "1 for everybody"
        return found

    def contrast(self, name: str) -> NDArray[np.float64]:
        """(q, p) weights of a contrast by its name.

        Parameters
        ----------
        name : str
            A contrast of `contrasts`; a term (all its columns); a column; or a comparison of
            adjusted means, ``site: Calgary - Toronto``, at a level of another factor
            ``group: ALS - HC | site: Toronto``.
        """
        if name in self.contrasts:
            return np.atleast_2d(self.contrasts[name])
        if name in self.terms:
            return np.eye(len(self.terms))[self.term_columns[name]]
        if name in self.columns:
            return np.eye(len(self.terms))[[self.columns.index(name)]]
        comparison = COMPARISON.fullmatch(name.strip())
        if comparison:
            factor, one, other, by, level = comparison.groups()
            at = {by: level} if by else {}
            first, second = (self.mean_row({factor: name, **at}) for name in (one, other))
            return (first - second)[None]
        known = ", ".join(dict.fromkeys((*self.contrasts, *self.terms)))
        raise BadInputError(f"the model has no contrast or term '{name}'; it has {known}")

    def mean_row(self, at: Mapping[str, str], weights: str = "equal") -> NDArray[np.float64]:
        """(p,) contrast of the adjusted mean of the cells that `at` fixes.

        Parameters
        ----------
        at : mapping
            Level of one or more factors.
        weights : str
            Over the cells of the other factors: ``equal``, or ``proportional`` to their numbers of
            rows. Numbers stand at their mean over the rows.
        """
        grid = self._grid(at)
        if weights == "equal":
            shares = np.full(len(grid), 1 / len(grid))
        elif weights == "proportional":
            others = [name for name, v in self.variables.items() if v.levels and name not in at]
            counts = self.rows.groupby(others).size() if others else pd.Series({(): 1})
            keys = grid[others].itertuples(index=False, name=None)
            sizes = [counts.get(key if len(others) > 1 else key[0], 0) for key in keys]
            shares = np.array(sizes) / sum(sizes) if others else np.ones(1)
        else:
            raise BadInputError(f"weights are 'equal' or 'proportional', not '{weights}'")
        return shares @ self.encode(grid)

    def _grid(self, at: Mapping[str, str]) -> pd.DataFrame:
        choices: dict[str, Sequence[object]] = {}
        odd = [name for name in at if name not in self.variables]
        if odd:
            raise BadInputError(f"{odd[0]} is no factor of the model {self.formula}")
        for name, variable in self.variables.items():
            if name in at and at[name] not in variable.levels:
                raise BadInputError(f"{name} has no level '{at[name]}' in this model")
            free = variable.levels or (variable.mean,)
            choices[name] = (at[name],) if name in at else free
        return pd.DataFrame(list(product(*choices.values())), columns=list(choices))

    def encode(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """(m, p) design of other rows with the same variables, coded as these."""
        return np.hstack([_block(term, self.variables, rows) for term in self.term_columns])


def sum_code(labels: Sequence[str], levels: Sequence[str]) -> NDArray[np.float64]:
    """(n, k - 1) sum coding of `labels`; the last of the k `levels` is -1 in every column."""
    return Variable("", SUM, tuple(levels)).encode(pd.Series(list(labels), dtype=object))


def _members(term: str) -> list[str]:
    return [] if term == INTERCEPT else term.split(":")


def _block(term: str, variables: Mapping[str, Variable], rows: pd.DataFrame) -> NDArray:
    """(n, k) columns of a term: the products of those of its variables, the first slowest."""
    block = np.ones((len(rows), 1))
    for name in _members(term):
        other = variables[name].encode(rows[name])
        block = (block[:, :, None] * other[:, None, :]).reshape(len(rows), -1)
    return block


def _names(term: str, variables: Mapping[str, Variable]) -> list[str]:
    if term == INTERCEPT:
        return [INTERCEPT]
    return [":".join(parts) for parts in product(*(variables[n].columns for n in _members(term)))]


def parse_formula(text: str) -> tuple[str, ...]:
    """Terms of ``group * site + age``; interactions are written ``a:b`` and come last.

    >>> parse_formula("group * site + age")
    ('group', 'site', 'age', 'group:site')
    """
    if SIGNS.search(text):
        raise BadInputError(
            f"'{text}' is not a model: write the terms with + between them, a:b for an "
            "interaction, a * b for both terms and their interaction"
        )
    terms: list[str] = []
    for part in filter(None, (piece.strip() for piece in text.split("+"))):
        factors = [piece.strip() for piece in part.split("*")]
        for size in range(1, len(factors) + 1):
            terms += [":".join(chosen) for chosen in combinations(factors, size)]
    cleaned = (re.sub(r"\s*:\s*", ":", term) for term in terms)
    return _interactions_last(term for term in cleaned if term != "1")


def _interactions_last(terms: Iterable[str]) -> tuple[str, ...]:
    """Each term once, in the order given but for this."""
    return tuple(sorted(dict.fromkeys(terms), key=lambda term: term.count(":")))


def complete_rows(
    table: pd.DataFrame, columns: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Rows without a missing cell in `columns`, and for the others which columns are unknown."""
    absent = [name for name in columns if name not in table]
    if absent:
        raise BadInputError(
            f"the table has no column {' and no column '.join(absent)}; it has "
            f"{', '.join(map(str, table.columns))}"
        )
    missing = table[list(dict.fromkeys(columns))].isna()
    reasons = {
        str(person): f"{' and '.join(missing.columns[row.to_numpy()])} n/a"
        for person, row in missing[missing.any(axis=1)].iterrows()
    }
    return table[~missing.any(axis=1)], reasons


def make_design(
    table: pd.DataFrame,
    terms: str | Sequence[str],
    *,
    levels: Mapping[str, Sequence[str]] | None = None,
    treatment: Mapping[str, str] | None = None,
    group: str = "",
    site: str = "",
    people: str = "",
    centre: bool = True,
    min_df: int = MIN_DF,
) -> Design:
    """Design of a model on complete rows; refuses what cannot be estimated.

    Parameters
    ----------
    table : (n, ...) DataFrame
        One row per person (or side, or visit), no missing cell in the columns of the terms; the
        index names the rows in messages.
    terms : str or sequence of str
        Formula, see `parse_formula`, or its terms. Interactions need their main effects.
    levels : mapping, optional
        Factors and their levels in order; an empty sequence takes the levels of the rows, sorted.
        A column of words that is not named is a factor too, and so are `group` and `site`.
    treatment : mapping, optional
        Factors in treatment coding, with their reference level; all others are sum-coded.
    group, site : str
        Columns whose confounding is told in words.
    people : str
        Column that names the person of each row; empty: the index does.
    centre : bool
        Whether numbers are centred at their mean over the rows.
    min_df : int
        Residual degrees of freedom that have to be left.

    Raises
    ------
    NotEstimableError
        With a sentence that names the columns, cells, sites or people at fault.
    """
    chosen = parse_formula(terms) if isinstance(terms, str) else _interactions_last(terms)
    _require_main_effects(chosen)
    names = list(dict.fromkeys(name for term in chosen for name in _members(term)))
    _require_complete(table, names)
    declared = {name: () for name in (group, site) if name in names} | dict(levels or {})
    table = _labels_as_text(table, [*declared, *(treatment or {})])
    variables, dropped = _variables(table, names, declared, treatment or {}, group, centre)
    kept = [term for term in chosen if all(name in variables for name in _members(term))]
    design = _assemble(table, (INTERCEPT, *kept), variables, people)
    design = replace(
        design,
        dropped=tuple(dropped),
        notes=(*design.notes, *site_notes(table, group, site if site in variables else "")),
    )
    _require_estimable(design, group, site, min_df)
    return _with_differences(design, group)


def _assemble(
    table: pd.DataFrame, terms: Sequence[str], variables: dict[str, Variable], people: str
) -> Design:
    """Design without any check."""
    blocks = [_block(term, variables, table) for term in terms]
    who = tuple(map(str, table[people] if people else table.index))
    notes = []
    if len(set(who)) < len(who):
        notes.append(
            f"{len(who)} rows of {len(set(who))} people are taken as independent, which they are "
            "not (pseudoreplication)"
        )
    widths = [block.shape[1] for block in blocks]
    return Design(
        matrix=np.hstack(blocks),
        columns=tuple(name for term in terms for name in _names(term, variables)),
        terms=tuple(term for term, width in zip(terms, widths, strict=True) for _ in range(width)),
        variables=variables,
        rows=table[list(variables)],
        people=who,
        notes=tuple(notes),
    )


def _require_main_effects(terms: Sequence[str]) -> None:
    for term in terms:
        absent = [name for name in _members(term) if name not in terms]
        if absent:
            raise BadInputError(
                f"the interaction {term} stands without {' and '.join(absent)}; add "
                f"{'it' if len(absent) == 1 else 'them'} to the model"
            )


def _require_complete(table: pd.DataFrame, names: Sequence[str]) -> None:
    _, reasons = complete_rows(table, names)
    if reasons:
        person, why = next(iter(reasons.items()))
        raise BadInputError(f"{person}: {why}; keep only rows that are known in every term")


def _labels_as_text(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Codes of factors that are numbers (site 2, site 10) become words."""
    numeric = [n for n in names if n in table and pd.api.types.is_numeric_dtype(table[n])]
    return table.assign(**{name: [f"{code:g}" for code in table[name]] for name in numeric})


def _variables(
    table: pd.DataFrame,
    names: Sequence[str],
    levels: Mapping[str, Sequence[str]],
    treatment: Mapping[str, str],
    group: str,
    centre: bool,
) -> tuple[dict[str, Variable], list[str]]:
    """Coding of each column of the model; factors with one level are left out."""
    variables: dict[str, Variable] = {}
    dropped: list[str] = []
    for name in names:
        if name in levels or name in treatment or not pd.api.types.is_numeric_dtype(table[name]):
            found = _levels(table, name, levels.get(name, ()), dropped)
            if name == group and len(found) < 2:
                absent = [label for label in levels.get(name, ()) if label not in found]
                one = f"group {' or '.join(absent)}" if absent else f"group but {found[0]}"
                raise NotEstimableError(f"nobody of the {one} has this measure")
            if len(found) < 2:
                dropped.append(f"{name} is left out: all are of {name} {found[0]}")
                continue
            coding = TREATMENT if name in treatment else SUM
            reference = treatment.get(name, "")
            if coding == TREATMENT and reference not in found:
                raise BadInputError(f"nobody is of {name} {reference}, the reference level")
            variables[name] = Variable(name, coding, found, reference)
        else:
            variables[name] = _number(table[name], name, centre)
    return variables, dropped


def _levels(
    table: pd.DataFrame, name: str, declared: Sequence[str], dropped: list[str]
) -> tuple[str, ...]:
    """Levels that somebody has, in the order declared."""
    if not len(table):
        raise NotEstimableError("nobody has this measure")
    present = set(table[name])
    for person, label in table[name].items():
        if declared and label not in declared:
            raise BadInputError(
                f"{person}: {name} is '{label}', which is none of {', '.join(declared)}"
            )
    order = declared or sorted(present, key=natural_key)
    found = tuple(level for level in order if level in present)
    absent = [level for level in declared if level not in present]
    if absent and len(found) > 1:
        dropped.append(f"{name} {', '.join(absent)} is left out: nobody there has this measure")
    return found


def _number(column: pd.Series, name: str, centre: bool) -> Variable:
    values = column.to_numpy(dtype=float)
    if not len(values):
        raise NotEstimableError("nobody has this measure")
    if np.ptp(values) <= CONSTANT * np.abs(values).max():
        raise NotEstimableError(
            f"{name} is {values[0]:g} for all {len(values)} people and cannot be a covariate; "
            "leave it out of the covariates"
        )
    mean = float(values.mean())
    return Variable(name, NUMBER, centre=mean if centre else 0.0, mean=mean)


def _require_estimable(design: Design, group: str, site: str, min_df: int) -> None:
    """Main effects first: an interaction cannot be the mend of what they lack."""
    n, p = design.matrix.shape
    if n < p:
        require_df(n, p, min_df)
    question = None
    if group in design.variables and len(design.variables[group].levels) == 2:
        first, second = design.variables[group].levels
        question = design.mean_row({group: first}) - design.mean_row({group: second})
    main = [":" not in term for term in design.terms]
    terms = [term for term, alone in zip(design.terms, main, strict=True) if alone]
    asked = None if question is None else question[main]
    require_rank(design.matrix[:, main], terms, design.rows, asked, group=group, site=site)
    for term in design.term_columns:
        factors = {
            name: design.variables[name].levels
            for name in _members(term)
            if design.variables[name].levels
        }
        if len(factors) > 1:
            require_cells(design.matrix, design.rows, factors)
    require_rank(design.matrix, design.terms, design.rows, question, group=group, site=site)
    require_df(n, p, min_df)


def _with_differences(design: Design, group: str) -> Design:
    """Add the differences between the groups as contrasts called ``ALS - HC``."""
    if group not in design.variables:
        return design
    levels = design.variables[group].levels
    found = {
        f"{one} - {other}": (design.mean_row({group: one}) - design.mean_row({group: other}))[None]
        for one, other in combinations(levels, 2)
    }
    return replace(design, contrasts={**design.contrasts, **found})


def cell_means(
    table: pd.DataFrame,
    factors: Sequence[str],
    *,
    levels: Mapping[str, Sequence[str]] | None = None,
    covariates: Sequence[str] = (),
    min_df: int = MIN_DF,
) -> Design:
    """Design with one column per cell of `factors`, the first slowest, and no intercept.

    This is the "full factorial" of SPM; `Design.contrasts` holds its contrasts (`cell_contrasts`)
    under the names of the terms, and for two groups ``ALS - HC`` with equal weights of the cells.

    Parameters
    ----------
    table : (n, ...) DataFrame
        Complete rows.
    factors : sequence of str
        Columns of the cells.
    levels : mapping, optional
        Their levels in order.
    covariates : sequence of str
        Numbers, centred at the mean of the rows.
    min_df : int
        Residual degrees of freedom that have to be left.
    """
    names = [*factors, *covariates]
    _require_complete(table, names)
    declared = {name: (levels or {}).get(name, ()) for name in factors}
    table = _labels_as_text(table, list(factors))
    variables, dropped = _variables(table, names, declared, {}, "", True)
    left = [name for name in factors if name in variables]
    for name in left:
        variables[name] = replace(variables[name], coding=CELL)
    design = _assemble(table, (":".join(left), *covariates), variables, "")
    require_cells(design.matrix, design.rows, {name: variables[name].levels for name in left})
    require_rank(design.matrix, design.terms, design.rows)
    require_df(len(table), design.matrix.shape[1], min_df)
    sizes = [len(variables[name].levels) for name in left]
    contrasts = {
        ":".join(np.array(left)[list(key)]) or "average": np.pad(
            weights, ((0, 0), (0, len(covariates)))
        )
        for key, weights in cell_contrasts(sizes).items()
    }
    design = replace(design, contrasts=contrasts, dropped=tuple(dropped))
    return _with_differences(design, left[0])


def cell_contrasts(sizes: Sequence[int]) -> dict[tuple[int, ...], NDArray[np.float64]]:
    """Contrasts of a full factorial with cells as columns, the first factor slowest.

    Parameters
    ----------
    sizes : sequence of int
        Number of levels of each factor.

    Returns
    -------
    contrasts : dict
        Key: positions of the factors of a term, ``()`` for the average. Value: (q, cells) weights,
        the Kronecker product of differences of neighbouring levels for those factors and of equal
        weights for the others. SPM writes ones instead of equal weights; t and F are the same.
    """
    found = {}
    for size in range(len(sizes) + 1):
        for chosen in combinations(range(len(sizes)), size):
            weights = np.ones((1, 1))
            for position, k in enumerate(sizes):
                steps, mean = -np.diff(np.eye(k), axis=0), np.full((1, k), 1 / k)
                weights = np.kron(weights, steps if position in chosen else mean)
            found[chosen] = weights
    return found


def build_design(
    table: pd.DataFrame,
    *,
    group: str,
    case: str,
    reference: str,
    site: str = "",
    covariates: Sequence[str] = (),
    factors: Sequence[str] = (),
    interaction: bool = False,
) -> Design:
    """Design of ``measure ~ group + site + covariates`` for two groups.

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
    interaction : bool
        Whether the group difference may differ between sites.

    Raises
    ------
    NotEstimableError
        With a sentence that names the columns, sites or people at fault.
    """
    for label in (case, reference):
        if not (table[group] == label).any():
            raise NotEstimableError(f"nobody of the group {label} has this measure")
    terms = [group, *([site] if site else []), *covariates]
    if interaction and site:
        terms.append(f"{group}:{site}")
    levels: dict[str, Sequence[str]] = {group: (case, reference)}
    others = [name for name in terms if name != group and (name == site or name in factors)]
    levels |= dict.fromkeys(others, ())
    design = make_design(table, terms, levels=levels, group=group, site=site)
    mean = design.mean_row({group: reference})
    named = {
        "difference": design.contrasts[f"{case} - {reference}"],
        "control mean": mean[None],
    }
    return replace(design, contrasts={**design.contrasts, **named})
