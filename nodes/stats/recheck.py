"""Printed numbers recomputed from each other: what a paper's tables imply, and where they differ.

A printed number stands for the interval that it was rounded from, so a verdict never rests on
rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.printed_numbers import Printed, need_printed, read_printed
from alsflow.nodes.stats.published import Paper, Table

AGREES = "agrees"
DIFFERS = "differs"
IMPLIES = "implies"  # a number that the paper does not state follows
MONTHS_OFF = 12.0  # months that a duration may differ from age less age at onset
DF_MAX = 2000  # residual degrees of freedom looked through


@dataclass(frozen=True)
class Check:
    """One printed number against what follows from others."""

    what: str
    where: str
    printed: str
    recomputed: str
    verdict: str  # agrees, differs or implies
    comment: str = ""


def recheck(paper: Paper) -> pd.DataFrame:
    """Recompute everything of a paper that can be recomputed from its printed numbers.

    Returns
    -------
    checks : DataFrame
        Columns what, where, printed, recomputed, verdict, comment.
    """
    found: list[Check] = []
    for item in paper.checks:
        if item["kind"] not in KINDS:
            raise BadInputError(f"'{item['kind']}' is no kind of check: {', '.join(KINDS)}")
        found += KINDS[item["kind"]](item, paper)
    return pd.DataFrame([asdict(check) for check in found])


def checks_page(papers: Mapping[str, Paper]) -> str:
    """Markdown tables of all checks of all papers."""
    lines = ["# What published numbers imply", ""]
    lines += [
        "Made from `workflows/data/published` by `python -m alsflow.workflows.published`. A "
        "printed number stands for the interval that it was rounded from. **agrees**: it follows "
        "from the others; **differs**: it cannot; **implies**: something follows that is not "
        "stated.",
    ]
    for paper in papers.values():
        lines += ["", f"## {paper.title}", "", f"Pages are {paper.pages}.", ""]
        lines += ["| what | where | printed | recomputed | verdict | comment |"]
        lines += ["|---|---|---|---|---|---|"]
        for row in recheck(paper).itertuples(index=False):
            cells = [str(cell).replace("|", "/").replace("<", "&lt;") for cell in row]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def p_of_t(t: float, df: float) -> float:
    """Two-sided p of a t statistic."""
    return float(2 * stats.t.sf(abs(t), df))


def consistent_df(t: Printed, p: Printed, r2: Printed | None = None) -> list[int]:
    """Residual degrees of freedom that the printed t, p and R2 of one slope allow.

    Parameters
    ----------
    t, p : Printed
        Statistic of the slope, and its two-sided p.
    r2 : Printed or None
        Share of variance explained by this slope alone, t^2 / (t^2 + df).

    Returns
    -------
    df : list of int
        Empty where no df fits: the three numbers contradict each other.
    """
    small, large = sorted((abs(t.low), abs(t.high)))
    if t.low < 0 < t.high:
        small = 0.0
    df = np.arange(1, DF_MAX + 1)
    fits = 2 * stats.t.sf(large, df) <= p.high
    fits &= 2 * stats.t.sf(small, df) >= p.low
    if r2 is not None:
        fits &= large**2 / (large**2 + df) >= r2.low
        fits &= small**2 / (small**2 + df) <= r2.high
    return [int(one) for one in df[fits]]


def consistent_n(r: Printed, p: Printed) -> list[int]:
    """Numbers of people that the printed r and p of a correlation allow."""
    n = np.arange(4, DF_MAX + 3)

    def p_at(value: float) -> Any:
        return 2 * stats.t.sf(abs(value) * np.sqrt((n - 2) / (1 - value**2)), n - 2)

    ends = p_at(r.low), p_at(r.high)
    fits = (np.minimum(*ends) <= p.high) & (np.maximum(*ends) >= p.low)
    return [int(one) for one in n[fits]]


def span(values: Sequence[int]) -> str:
    """Words of a list of whole numbers: one, a range, or an open end."""
    if not values:
        return "none"
    if max(values) >= DF_MAX:
        return f"{min(values)} or more"
    return str(values[0]) if len(values) == 1 else f"{min(values)} to {max(values)}"


def count_tests(counts: Sequence[Sequence[int]]) -> dict[str, float]:
    """P values of a table of counts: Pearson, Yates (2 x 2 only) and Fisher."""
    table = np.asarray(counts)
    table = table[:, table.sum(axis=0) > 0]
    found = {"Pearson": float(stats.chi2_contingency(table, correction=False).pvalue)}
    if table.shape == (2, 2):
        found["Yates"] = float(stats.chi2_contingency(table, correction=True).pvalue)
        found["Fisher"] = float(stats.fisher_exact(table).pvalue)
    return found


def moment_tests(groups: Sequence[Sequence[Any]]) -> dict[str, float]:
    """P values of two groups given as (mean, SD, n): Student and Welch."""
    (m1, s1, n1), (m2, s2, n2) = ((float(m), float(s), int(n)) for m, s, n in groups)
    found = {}
    for name, equal in (("Student", True), ("Welch", False)):
        test = stats.ttest_ind_from_stats(m1, s1, n1, m2, s2, n2, equal_var=equal)
        found[name] = float(test.pvalue)
    return found


def pooled_moments(groups: Sequence[Sequence[Any]]) -> tuple[float, float]:
    """Mean and SD of all people of several groups given as (mean, SD, n)."""
    mean, sd, n = (np.array([float(group[k]) for group in groups]) for k in range(3))
    total = n.sum()
    middle = float((n * mean).sum() / total)
    square = ((n - 1) * sd**2 + n * (mean - middle) ** 2).sum() / (total - 1)
    return middle, float(np.sqrt(square))


def _p_words(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} p = {value:.3g}" for name, value in values.items())


def _against_p(item: Mapping[str, Any], found: Mapping[str, float]) -> list[Check]:
    """One row per printed p: which of the recomputed tests gives it, if any."""
    checks = []
    for text in item["printed"]:
        printed = need_printed(text)
        names = [name for name, p in found.items() if printed.holds(p)]
        verdict = AGREES if names else DIFFERS
        comment = "no test gives it"
        if names:
            comment = f"{' and '.join(names)} give{'s' if len(names) == 1 else ''} it"
        checks.append(
            Check(item["what"], item["where"], f"p {text}", _p_words(found), verdict, comment)
        )
    return checks


def _counts(item: Mapping[str, Any], paper: Paper) -> list[Check]:
    return _against_p(item, count_tests(item["counts"]))


def _moments(item: Mapping[str, Any], paper: Paper) -> list[Check]:
    """Student and Welch from printed moments; the rounding of the moments is taken along."""
    found = moment_tests(item["groups"])
    low, high = p_range(item["groups"])
    checks = []
    for check, text in zip(_against_p(item, found), item["printed"], strict=True):
        if check.verdict == DIFFERS and need_printed(text).meets(low, high):
            check = Check(
                check.what, check.where, check.printed, check.recomputed, AGREES,
                "within the rounding of means and SDs",
            )  # fmt: skip
        checks.append(check)
    return checks


def p_range(groups: Sequence[Sequence[Any]]) -> tuple[float, float]:
    """Lowest and highest p of Student and Welch within the rounding of (mean, SD, n)."""
    ends = []
    for mean, sd, n in groups:
        m, s = need_printed(str(mean)), need_printed(str(sd))
        ends.append([(a, max(b, 1e-9), n) for a, b in product((m.low, m.high), (s.low, s.high))])
    values = [p for pair in product(*ends) for p in moment_tests(pair).values()]
    (a, _, _), (b, _, _) = groups
    one, two = need_printed(str(a)), need_printed(str(b))
    return min(values), 1.0 if one.meets(two.low, two.high) else max(values)


def _pooled(item: Mapping[str, Any], paper: Paper) -> list[Check]:
    mean, sd, _ = item["total"]
    ends = [pooled_moments(groups) for groups in _rounded(item["groups"])]
    middle, spread = pooled_moments(item["groups"])
    checks = []
    for name, text, value, at in (("mean", mean, middle, 0), ("SD", sd, spread, 1)):
        values = [end[at] for end in ends]
        agrees = need_printed(text).meets(min(values), max(values))
        checks.append(
            Check(
                f"{item['what']}: {name}",
                item["where"],
                text,
                f"{value:.4g}",
                AGREES if agrees else DIFFERS,
            )  # fmt: skip
        )
    return checks


def _rounded(groups: Sequence[Sequence[Any]]) -> list[list[tuple[float, float, int]]]:
    """All combinations of the ends of the rounding intervals of means and SDs."""
    ends = []
    for mean, sd, n in groups:
        m, s = need_printed(mean), need_printed(sd)
        ends.append([(a, b, n) for a, b in product((m.low, m.high), (s.low, s.high))])
    return [list(choice) for choice in product(*ends)]


def _duration(item: Mapping[str, Any], paper: Paper) -> list[Check]:
    months = 12 * (float(item["age"]) - float(item["onset"]))
    off = months - float(item["months"])
    return [
        Check(
            item["what"], item["where"], f"{item['months']} months", f"{months:.1f} months",
            AGREES if abs(off) <= 1.0 else DIFFERS,
            "within a year, as ages in whole years allow" if 1 < abs(off) <= MONTHS_OFF else "",
        )
    ]  # fmt: skip


def _same(item: Mapping[str, Any], paper: Paper) -> list[Check]:
    first, *others = item["printed"]
    verdict = AGREES if all(one == first for one in others) else DIFFERS
    return [Check(item["what"], item["where"], first, "; ".join(others), verdict)]


def _sum(item: Mapping[str, Any], paper: Paper) -> list[Check]:
    parts = item["parts"]
    added, total = sum(parts), item["total"]
    comment = "" if added == total else f"{total - added} without a category, not said"
    words = " + ".join(map(str, parts)) + f" = {added}"
    verdict = AGREES if added == total else DIFFERS
    return [Check(item["what"], item["where"], str(total), words, verdict, comment)]


def _rows(item: Mapping[str, Any], paper: Paper) -> tuple[Table, list[dict[str, str]]]:
    table = paper.tables[item["table"]]
    return table, [{str(k): str(v) for k, v in row.items()} for row in
                   table.cells.to_dict("records")]  # fmt: skip


def _title(cells: Mapping[str, str], paper: Paper) -> str:
    parts = [paper.label(cells[key]) for key in ("outcome", "predictor") if key in cells]
    return " on ".join(parts)


def _groups(item: Mapping[str, Any], paper: Paper) -> list[Check]:
    """Student and Welch of printed means; SE are turned into SD."""
    table, rows = _rows(item, paper)
    checks = []
    for cells in rows:
        groups = [
            [cells[f"{group}_mean"], cells[f"{group}_spread"], n]
            for group, n in zip(("case", "control"), item["n"], strict=True)
        ]
        what = f"{item['what']}: {_title(cells, paper)}"
        if cells["spread"] == "se":
            checks.append(_group_from_se(cells, groups, what, table, item.get("df")))
        else:
            entry = {"what": what, "where": table.where, "groups": groups, "printed": [cells["p"]]}
            checks += _moments(entry, paper)
    return checks


def _group_from_se(
    cells: Mapping[str, str],
    groups: Sequence[Sequence[Any]],
    what: str,
    table: Table,
    df: int | None,
) -> Check:
    printed = need_printed(cells["p"])
    degrees = df or sum(group[2] for group in groups) - 2
    (m1, s1), (m2, s2) = ((need_printed(g[0]), need_printed(g[1])) for g in groups)
    gaps = sorted((abs(m1.low - m2.high), abs(m1.high - m2.low)))
    least = 0.0 if m1.meets(m2.low, m2.high) else gaps[0]
    largest_se = float(np.hypot(s1.high, s2.high))
    least_se = float(np.hypot(max(s1.low, 0.0), max(s2.low, 0.0)))
    high = p_of_t(least / largest_se, degrees)
    low = p_of_t(gaps[1] / least_se, degrees) if least_se > 0 else 0.0
    spread = np.hypot(s1.middle, s2.middle)
    t = abs(m1.middle - m2.middle) / spread if spread > 0 else np.inf
    words = f"p = {p_of_t(t, degrees):.2g} with ± as SE (rounding: {low:.1g} to {high:.2g})"
    verdict = AGREES if printed.meets(low, high) else DIFFERS
    return Check(what, table.where, f"p {cells['p']}", words, verdict, _as_sd(groups))


def _as_sd(groups: Sequence[Sequence[Any]]) -> str:
    """Say where ± cannot be an SD: the means would lie too far apart for living people."""
    (m1, s1, _), (m2, s2, _) = ((float(m), float(s), n) for m, s, n in groups)
    pooled = np.sqrt((s1**2 + s2**2) / 2)
    if pooled == 0:
        return "SE printed as 0"
    d = abs(m1 - m2) / pooled
    return f"as SD, ± would make the groups {d:.0f} SD apart" if d > 4 else ""


def _mean_diffusivity(item: Mapping[str, Any], paper: Paper) -> list[Check]:
    checks = []
    for group, *texts in item["values"]:
        ad, rd, md = (need_printed(text) for text in texts)
        low, high = (ad.low + 2 * rd.low) / 3, (ad.high + 2 * rd.high) / 3
        value = (ad.middle + 2 * rd.middle) / 3
        verdict = AGREES if md.meets(low, high) else DIFFERS
        what = f"{item['what']}, {group}"
        checks.append(Check(what, item["where"], texts[2], f"{value:.4g}", verdict))
    return checks


def _simple_regression(item: Mapping[str, Any], paper: Paper) -> list[Check]:
    """t, p and R2 of slopes that stand alone: the df they allow, cell by cell and together."""
    table, rows = _rows(item, paper)
    allowed = [
        consistent_df(*(need_printed(cells[key]) for key in ("t", "p", "r2"))) for cells in rows
    ]
    both = sorted(set(range(1, DF_MAX + 1)).intersection(*(df for df in allowed if df)))
    checks = []
    for cells, df in zip(rows, allowed, strict=True):
        printed = f"R2 {cells['r2']}, t {cells['t']}, p {cells['p']}"
        what = f"{item['what']}: {_title(cells, paper)}"
        words, verdict, comment = f"df {span(df)}", AGREES, ""
        if not df:
            words, verdict = _implied_t(cells, both), DIFFERS
            comment = "no df fits R2, t and p together"
        checks.append(Check(what, table.where, printed, words, verdict, comment))
    comment = f"n = {span([one + 2 for one in both])} rows" if both else "no df fits all cells"
    words = f"df {span(both)} fits all other cells"
    checks.append(Check(item["what"], table.where, "n not stated", words, IMPLIES, comment))
    return checks


def _implied_t(cells: Mapping[str, str], df: Sequence[int]) -> str:
    """Say which t the printed R2 has, with the df of the other cells."""
    if not df:
        return "none"
    r2 = need_printed(cells["r2"]).middle
    t = float(np.sqrt(r2 * df[0] / (1 - r2)))
    return f"R2 with df {df[0]} gives t = {t:.2f}, p = {p_of_t(t, df[0]):.2g}"


def _regressions(item: Mapping[str, Any], paper: Paper) -> list[Check]:
    """T and p of slopes beside covariates: per outcome the df that fit all its cells."""
    table, rows = _rows(item, paper)
    checks = []
    for outcome in dict.fromkeys(cells["outcome"] for cells in rows):
        common, printed = set(range(1, DF_MAX + 1)), 0
        for cells in rows:
            if cells["outcome"] != outcome:
                continue
            df = consistent_df(need_printed(cells["t"]), need_printed(cells["p"]))
            common, printed = common & set(df), printed + 1
        n = [one + item["parameters"] for one in sorted(common)]
        what = f"{item['what']}: {paper.label(outcome)}"
        words = f"df {span(sorted(common))}, n = {span(n)}"
        checks.append(
            Check(what, table.where, f"{printed} slopes; n not stated", words,
                  IMPLIES if n else DIFFERS, _who(n, item["people"]))
        )  # fmt: skip
    return checks


def _who(n: Sequence[int], people: int) -> str:
    """What a number of rows says about the people."""
    if not n:
        return "no df fits all slopes"
    if min(n) > people:
        both = " (both sides)" if min(n) <= 2 * people <= max(n) else ""
        return f"more rows than the {people} people: two sides of one person taken as two{both}"
    return f"fewer than the {people} people" if max(n) < people else ""


def _base_r2(item: Mapping[str, Any], paper: Paper) -> list[Check]:
    """R2 of the covariates alone, R2 - t^2 (1 - R2) / df, which one outcome has once only."""
    table, rows = _rows(item, paper)
    df, checks = item["df"], []
    for outcome in item["outcomes"]:
        bases = [
            (cells, *_base(cells, df))
            for cells in rows
            if cells["outcome"] == outcome and cells["r2"]
        ]
        if len(bases) < 2:
            continue
        middle = float(np.median([base for _, base, _, _ in bases]))
        for cells, base, low, high in bases:
            agrees = low - 0.005 <= middle <= high + 0.005
            printed = f"R2 {cells['r2']}, " + (f"t {cells['t']}" if "t" in cells else
                                               f"p {cells['p']}")  # fmt: skip
            comment = (
                "" if agrees else f"the other slopes of {paper.label(outcome)} give {middle:.3f}"
            )
            what = f"{item['what']}: {_title(cells, paper)}"
            words = f"{base:.3f} (df {df})"
            verdict = AGREES if agrees else DIFFERS
            checks.append(Check(what, table.where, printed, words, verdict, comment))
    return checks


def _base(cells: Mapping[str, str], df: int) -> tuple[float, float, float]:
    """R2 of the covariates: middle, low and high of its rounding interval."""
    r2 = need_printed(cells["r2"])
    t = read_printed(cells.get("t", ""))
    if t is None:
        p = need_printed(cells["p"])
        large, small = (float(stats.t.isf(end / 2, df)) for end in (p.low, p.high))
        t = Printed(p.text, small, large)
    squares = sorted((t.low**2, t.high**2))

    def base(r: float, square: float) -> float:
        return r - square * (1 - r) / df

    return (
        base(r2.middle, t.middle**2),
        base(r2.low, squares[1]),
        base(r2.high, squares[0]),
    )


def _correlations(item: Mapping[str, Any], paper: Paper) -> list[Check]:
    table, rows = _rows(item, paper)
    checks = []
    for cells in rows:
        n = consistent_n(need_printed(cells["r"]), need_printed(cells["p"]))
        what = f"{item['what']}: {_title(cells, paper)}"
        printed = f"r {cells['r']}, p {cells['p']}"
        verdict = AGREES if item["people"] in n else IMPLIES
        comment = "" if verdict == AGREES else f"not the {item['people']} people; n is not stated"
        checks.append(Check(what, table.where, printed, f"n = {span(n)}", verdict, comment))
    return checks


def _direction(item: Mapping[str, Any], paper: Paper) -> list[Check]:
    """Slopes that are significant with the other sign than the text says."""
    table, rows = _rows(item, paper)
    wrong = -1 if item["said"] == "positive" else 1
    found = []
    for cells in rows:
        p, t = need_printed(cells["p"]), need_printed(cells["t"])
        if p.high <= 0.05 and t.middle * wrong > 0:
            found.append(f"{_title(cells, paper)} (t {cells['t']})")
    verdict = DIFFERS if found else AGREES
    return [Check(item["what"], item["where"], item["said"], "; ".join(found), verdict)]


def _words(item: Mapping[str, Any], paper: Paper) -> list[Check]:
    lower = float(item["case"]) < float(item["control"])
    found = "lower" if lower else "higher"
    verdict = AGREES if found == item["said"] else DIFFERS
    words = f"{item['case']} against {item['control']}: {found}"
    return [Check(item["what"], item["where"], item["said"], words, verdict)]


KINDS: Mapping[str, Callable[[Mapping[str, Any], Paper], list[Check]]] = {
    "counts": _counts,
    "moments": _moments,
    "pooled": _pooled,
    "duration": _duration,
    "same": _same,
    "sum": _sum,
    "groups": _groups,
    "mean_diffusivity": _mean_diffusivity,
    "simple_regression": _simple_regression,
    "regressions": _regressions,
    "base_r2": _base_r2,
    "correlations": _correlations,
    "direction": _direction,
    "words": _words,
}
