"""The table that describes the groups: who they are, and how far apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.correlation import numeric
from alsflow.nodes.stats.counts import chi_squared, cross_table, fisher_exact
from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.two_groups import (
    TESTS,
    compare_groups,
    describe,
    known,
    kruskal_wallis,
    one_way,
)

NAN = float("nan")
# Columns of a row beside those of the groups; numbers are NaN and words empty where they do not
# apply.
TEST_NUMBERS = ("smd", "value", "df", "df2", "p", "other_p", "odds_ratio", "odds_low", "odds_high")
TEST_WORDS = ("test", "statistic", "other_test", "note")
GROUP_COLUMNS = ("n", "missing", "mean", "sd", "median", "q1", "q3", "count", "percent")
ONE_GROUP = "there is only one group"
SD_SLACK = 0.02  # share by which a printed total may differ from its groups before it is doubted
EXACT = 1e-6  # the same for our own numbers
PART_OF_RANGE = 1e-8  # of the covariance of the shares, below which a level is not counted


@dataclass(frozen=True)
class Demographics:
    """Rows of the table, and what the checks found.

    Columns of `rows`: variable, kind (number or count), level (of a count), then for each group
    ``n_<group>``, ``missing_<group>``, ``mean_<group>``, ... (`GROUP_COLUMNS`), the same for
    ``total``, `TEST_NUMBERS` and `TEST_WORDS`. A count has one row per level; its tests are in the
    first, and the sign of its smd and its odds ratio are those of that level.
    """

    rows: pd.DataFrame
    groups: tuple[str, ...]
    checks: tuple[str, ...]  # what does not add up; empty where all is well
    notes: tuple[str, ...]  # what a reader has to know


def demographics(
    table: pd.DataFrame, *, group: str, groups: Sequence[str], numbers: Sequence[str] = (),
    counts: Sequence[str] = (), test: str = "welch", within: Mapping[str, str] | None = None,
) -> Demographics:  # fmt: skip
    """Describe and compare the groups, variable by variable.

    Parameters
    ----------
    table : DataFrame
        One row per person; missing is NaN.
    group : str
        Column of the groups.
    groups : sequence of str
        Its labels; of two, the first is the case and differences are first minus second.
    numbers : sequence of str
        Columns compared by `test`.
    counts : sequence of str
        Columns of categories, compared by Fisher's exact test; Pearson's chi-squared, not
        corrected, is printed beside it.
    test : {"welch", "student", "mannwhitney", "auto"}
        Test of numbers; with more than two groups Welch's or Fisher's analysis of variance or,
        for the latter two, that of Kruskal and Wallis.
    within : mapping
        Variables that only one group can have (duration of the disease): variable to group.
        They are described there and not tested.

    Returns
    -------
    Demographics
        The standardised mean difference tells how far apart two groups are; a p value does not
        tell that they are alike, and nothing here says so.
    """
    _require(table, group, groups, (*numbers, *counts), test)
    members = table[table[group].isin(list(groups))]
    restricted = dict(within or {})
    rows: list[dict[str, object]] = []
    checks: list[str] = []
    for name in dict.fromkeys((*numbers, *counts)):
        make, only = _number if name in numbers else _count, restricted.get(name, "")
        found = make(members, name, group, tuple(groups), test, only)
        rows += found
        checks += _checks(members, name, group, found, tuple(groups), only)
    notes = []
    if left := len(table) - len(members):
        notes.append(f"{left} people of no group compared are left out")
    return Demographics(pd.DataFrame(rows), tuple(groups), tuple(checks), tuple(notes))


def smd_numbers(case: ArrayLike, reference: ArrayLike) -> float:
    """Difference of means over the root mean square of the two standard deviations [1]_.

    References
    ----------
    .. [1] Austin (2009). Stat Med 28:3083-3107. doi:10.1002/sim.3697
    """
    x, y = known(case), known(reference)
    if min(len(x), len(y)) < 2:
        return NAN
    spread = np.sqrt((x.var(ddof=1) + y.var(ddof=1)) / 2)
    return float((x.mean() - y.mean()) / spread) if spread > 0 else NAN


def smd_counts(counts: ArrayLike) -> float:
    """Distance between two groups' shares of categories, in standard deviations [1]_.

    Parameters
    ----------
    counts : (2, c) array
        People of each group per category. With two categories the sign is that of the share of
        the first in the first group minus that in the second group; else it is positive.

    References
    ----------
    .. [1] Yang and Dalton (2012). A unified approach to measuring the effect size between two
       groups using SAS. SAS Global Forum, paper 335.
    """
    table = np.asarray(counts, dtype=float)
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2 or (table.sum(axis=1) == 0).any():
        return NAN
    shares = (table / table.sum(axis=1, keepdims=True))[:, :-1]
    covariance = sum((np.diag(p) - np.outer(p, p) for p in shares), np.zeros((1, 1))) / 2
    difference = shares[0] - shares[1]
    inverse = np.linalg.pinv(covariance, rcond=PART_OF_RANGE, hermitian=True)
    if not np.allclose(covariance @ inverse @ difference, difference, atol=1e-9):
        return float("inf") * (np.sign(difference[0]) if len(difference) == 1 else 1.0)
    distance = float(np.sqrt(difference @ inverse @ difference))
    return float(np.copysign(distance, difference[0])) if len(difference) == 1 else distance


def pooled_moments(
    n: ArrayLike, mean: ArrayLike, sd: ArrayLike
) -> tuple[int, float, float]:  # fmt: skip
    """n, mean and standard deviation of groups taken together, from those of each.

    Parameters
    ----------
    n, mean, sd : (k,) array
        Of each group; sd with n - 1 in the denominator.
    """
    sizes, means, sds = (np.asarray(values, dtype=float) for values in (n, mean, sd))
    total = sizes.sum()
    centre = float((sizes * means).sum() / total)
    squares = ((sizes - 1) * sds**2 + sizes * (means - centre) ** 2).sum()
    return int(total), centre, float(np.sqrt(squares / (total - 1)))


def check_moments(
    name: str, n: ArrayLike, mean: ArrayLike, sd: ArrayLike, total_mean: float, total_sd: float,
    slack: float = SD_SLACK,
) -> str:  # fmt: skip
    """One sentence where a total, say of a printed table, is not that of its groups; else empty.

    Parameters
    ----------
    n, mean, sd : (k,) array
        Of each group.
    total_mean, total_sd : float
        As stated for all of them.
    slack : float
        Share of the standard deviation by which rounding may move either.
    """
    total, centre, spread = pooled_moments(n, mean, sd)
    room = slack * spread
    if abs(total_mean - centre) <= room and abs(total_sd - spread) <= room:
        return ""
    return (
        f"{name}: the total of {total_mean:g} ± {total_sd:g} is not that of its groups, which "
        f"together are {centre:.4g} ± {spread:.4g} (n = {total})"
    )


def check_counts(name: str, counts: ArrayLike, n: int, missing: int | None = None) -> str:
    """One sentence where categories, say of a printed table, do not add up to people; else empty.

    Parameters
    ----------
    counts : (c,) array
        People per category.
    n : int
        People as stated.
    missing : int
        People without a category as stated; None where nothing is said of them.
    """
    found = int(np.asarray(counts).sum())
    if found + (missing or 0) == n:
        return ""
    said = "nobody is said to be missing" if missing is None else f"{missing} missing are stated"
    return f"{name}: the categories add up to {found} of {n} people, and {said}"


Rows = list[dict[str, object]]


def _number(
    members: pd.DataFrame, name: str, group: str, groups: tuple[str, ...], test: str, only: str
) -> Rows:
    values = numeric(members[name]).to_numpy(float)
    labels = members[group].to_numpy(object)
    row: dict[str, object] = {"variable": name, "kind": "number", "level": ""}
    for label, inside in _parts(labels, groups, only):
        found = describe(values[inside])
        row |= {
            f"{column}_{label}": getattr(found, column, NAN) for column in GROUP_COLUMNS
        }  # fmt: skip
    row |= dict.fromkeys(TEST_NUMBERS, NAN) | dict.fromkeys(TEST_WORDS, "")
    if only:
        return [row | {"note": f"only {only} can have it: not compared"}]
    samples = [values[labels == label] for label in groups]
    if len(groups) < 2:
        return [row | {"note": f"not compared: {ONE_GROUP}"}]
    try:
        tested = _two(samples, groups, test) if len(groups) == 2 else _several(samples, test)
    except NotEstimableError as problem:
        tested = {"note": f"not compared: {problem}"}
    return [row | tested]


def _two(
    samples: list[NDArray[np.float64]], groups: tuple[str, ...], test: str
) -> dict[str, object]:
    case, reference = groups
    labels = [case] * len(samples[0]) + [reference] * len(samples[1])
    found = compare_groups(
        np.concatenate(samples), labels, case=case, reference=reference, test=test
    )
    statistic, value = found.statistic
    ranked = found.test == "mannwhitney"
    return {
        "smd": smd_numbers(*samples),
        "test": found.test,
        "statistic": statistic,
        "value": value,
        "df": found.df,
        "p": found.p,
        "other_test": "welch" if ranked else "mannwhitney",
        "other_p": found.welch.p if ranked else found.ranks.p,
        "note": found.why if test == "auto" else "",
    }


def _several(samples: list[NDArray[np.float64]], test: str) -> dict[str, object]:
    h, df, p = kruskal_wallis(samples)
    by_ranks = {"test": "kruskal", "statistic": "H", "value": h, "df": df, "p": p}
    ranked = test in ("mannwhitney", "auto")
    try:
        found = one_way(samples, "student" if test == "student" else "welch")
    except NotEstimableError as problem:
        if not ranked:
            raise
        return by_ranks | {"note": f"no analysis of variance: {problem}"}
    if ranked:
        return by_ranks | {"other_test": found.name, "other_p": found.p}
    return {
        "test": found.name,
        "statistic": "F",
        "value": found.f,
        "df": found.df1,
        "df2": found.df2,
        "p": found.p,
        "other_test": "kruskal",
        "other_p": p,
    }


def _count(
    members: pd.DataFrame, name: str, group: str, groups: tuple[str, ...], test: str, only: str
) -> Rows:
    present = members[name].notna().to_numpy()
    cells = members[name].map(_word).to_numpy(object)
    labels = members[group].to_numpy(object)
    levels = _levels(members[name])
    rows: Rows = []
    for level in levels:
        row: dict[str, object] = {"variable": name, "kind": "count", "level": level}
        for label, inside in _parts(labels, groups, only):
            n, count = int((inside & present).sum()), int((inside & (cells == level)).sum())
            row |= {f"{column}_{label}": NAN for column in GROUP_COLUMNS}
            row |= {f"n_{label}": n, f"missing_{label}": int(inside.sum()) - n,
                    f"count_{label}": count,
                    f"percent_{label}": 100 * count / n if n else NAN}  # fmt: skip
        row |= dict.fromkeys(TEST_NUMBERS, NAN) | dict.fromkeys(TEST_WORDS, "")
        rows.append(row)
    if rows and only:
        rows[0] |= {"note": f"only {only} can have it: not compared"}
    elif rows:
        rows[0] |= _count_tests(cross_table(labels, cells, groups, levels), groups)
    return rows


def _count_tests(table: NDArray[np.int64], groups: tuple[str, ...]) -> dict[str, object]:
    empty = [label for label, row in zip(groups, table, strict=True) if not row.sum()]
    if empty or len(groups) < 2:
        why = f"nobody of the group {empty[0]} has a value" if empty else ONE_GROUP
        return {"note": f"not compared: {why}"}
    try:
        pearson, exact = chi_squared(table), fisher_exact(table)
    except NotEstimableError as problem:
        return {"note": f"not compared: {problem}"}
    notes = [pearson.note] if pearson.note else []
    if np.isnan(exact.p):
        notes.append(exact.note)
    smd = smd_counts(table) if len(table) == 2 else NAN
    if np.isinf(smd):
        notes.append("the groups share no category: the standardised difference has no bound")
    return {
        "smd": smd if np.isfinite(smd) else NAN,
        "test": "fisher",
        "statistic": "chi2",
        "value": pearson.chi2,
        "df": pearson.df,
        "p": exact.p,
        "other_test": "chi2, not corrected",
        "other_p": pearson.p,
        "odds_ratio": exact.odds_ratio,
        "odds_low": exact.ci_low,
        "odds_high": exact.ci_high,
        "note": "; ".join(notes),
    }


def _parts(
    labels: NDArray[np.object_], groups: tuple[str, ...], only: str
) -> list[tuple[str, NDArray[np.bool_]]]:
    """Members of each group, then of all that can have the variable, as ``total``."""
    parts = [(label, labels == label) for label in groups]
    everybody = labels == only if only else np.ones(len(labels), dtype=bool)
    return [*parts, ("total", everybody)]


def _levels(cells: pd.Series) -> list[str]:
    found = {_word(cell) for cell in cells.dropna()}
    try:
        return sorted(found, key=float)
    except ValueError:
        return sorted(found)


def _word(cell: object) -> str:
    """A category as text; 3.0, as a column with gaps has it, is 3."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return "" if isinstance(cell, float) and np.isnan(cell) else str(cell)


def _checks(
    members: pd.DataFrame, name: str, group: str, rows: Rows, groups: tuple[str, ...], only: str
) -> list[str]:
    """Whether counts add up to people and moments of groups to those of all."""
    if not rows:
        return [f"{name}: nobody has a value"]
    found = []
    for label in groups:
        people = int((members[group] == label).sum())
        n, missing = (int(str(rows[0][f"{part}_{label}"])) for part in ("n", "missing"))
        counted = [n]
        if rows[0]["kind"] == "count":
            counted = [int(str(row[f"count_{label}"])) for row in rows]
        found.append(check_counts(f"{name} of {label}", counted, people, missing))
        if only and label != only and n:
            found.append(f"{name}: {n} people of {label} have a value that only {only} can have")
    sizes = [float(str(rows[0][f"n_{label}"])) for label in groups]
    if not only and rows[0]["kind"] == "number" and min(sizes) > 1:
        mean, sd = (
            [float(str(rows[0][f"{part}_{label}"])) for label in groups] for part in ("mean", "sd")
        )
        total, spread = float(str(rows[0]["mean_total"])), float(str(rows[0]["sd_total"]))
        found.append(check_moments(name, sizes, mean, sd, total, spread, EXACT))
    return list(filter(None, found))


def _require(
    table: pd.DataFrame, group: str, groups: Sequence[str], names: Sequence[str], test: str
) -> None:
    if test not in TESTS:
        raise BadInputError(f"test is {test!r}; it must be one of {', '.join(TESTS)}")
    for name in (group, *names):
        if name not in table:
            raise BadInputError(f"there is no column {name} for the table of demographics")
    if len(groups) < 1:
        raise BadInputError("the table of demographics needs at least one group")
    for label in groups:
        if not (table[group] == label).any():
            raise NotEstimableError(f"nobody is of the group {label}")
