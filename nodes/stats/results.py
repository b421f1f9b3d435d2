"""Everything that a run of analyses leaves behind, and all of its tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import pandas as pd

from alsflow.nodes.stats.analysis_rows import label_of, unit_of
from alsflow.nodes.stats.catalogue import Catalogue
from alsflow.nodes.stats.plan import Analysis, both_sides
from alsflow.nodes.stats.printed import (
    ATTRITION,
    CHECKS,
    MEANS,
    RECHECK,
    SOURCES,
    TERMS,
    PrintedTable,
    analysis_table,
    beside_table,
    demographics_table,
    is_known,
    labelled,
    plain_table,
    print_rows,
    remark_of,
)
from alsflow.nodes.stats.registry import TESTED
from alsflow.nodes.stats.sentences import Paragraph, paragraph

CHECKED = ("shapiro_p", "levene_p", "breusch_pagan_p", "max_vif", "max_cook")
INTERCEPT = "intercept"


@dataclass(frozen=True)
class Results:
    """The registry as files hold it, and what its words mean."""

    tests: pd.DataFrame
    terms: pd.DataFrame
    means: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]  # of whole analyses and of papers, by name
    analyses: tuple[Analysis, ...]  # those that have rows
    groups: tuple[str, str]  # labels of case and reference
    catalogue: Catalogue

    def words(self, names: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Label and unit of columns."""
        known = dict.fromkeys(names)
        return {name: (self.label(name), unit_of(self.catalogue, name)) for name in known}

    def label(self, name: str) -> str:
        """Words of a column."""
        label = label_of(self.catalogue, name)
        return label.replace("_", " ") if label == name else label


def to_plain_analysis(analysis: Analysis) -> dict[str, Any]:
    """Dictionary that JSON can hold."""
    return asdict(analysis)


def from_plain_analysis(entry: Mapping[str, Any]) -> Analysis:
    """Reverse `to_plain_analysis`."""
    names = {one.name for one in fields(Analysis)}
    frozen: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in entry.items() if k in names
    }
    return Analysis(**frozen)


def parts_of(results: Results, analysis: Analysis) -> list[tuple[str, str]]:
    """Families of an analysis and their titles, primary ones first; one empty part if it has one.

    Returns
    -------
    parts : list of (family, title)
    """
    own = results.tests.loc[results.tests["analysis"] == analysis.name, "family"]
    families = list(dict.fromkeys(own))
    if len(families) < 2:
        return [("", "")]
    known = results.catalogue.families
    order = sorted(families, key=lambda name: not (name in known and known[name].primary))
    return [(name, known[name].title if name in known else name) for name in order]


def results_tables(results: Results, analysis: Analysis) -> list[PrintedTable]:
    """Results of one analysis, a table for each of `parts_of`."""
    described = results.tables.get(f"{analysis.name}_demographics")
    if described is not None and len(described):
        labels = {str(name): results.label(str(name)) for name in described["variable"]}
        return [demographics_table(described, analysis, results.groups, labels)]
    return [
        analysis_table(results.tests, analysis, results.groups, part)
        for part in parts_of(results, analysis)
    ]


def paragraphs_of(results: Results, analysis: Analysis) -> list[Paragraph]:
    """What to say of one analysis, a paragraph for each of `parts_of`."""
    return [
        replace(paragraph(results.tests, analysis, results.groups, family), title=words)
        for family, words in parts_of(results, analysis)
    ]


def behind(results: Results, analysis: Analysis) -> dict[str, PrintedTable]:
    """Tables of what is behind the results of one analysis.

    Returns
    -------
    tables : dict
        Where there are any ``checks`` (assumptions), ``terms``, ``means`` and further tables of
        that kind of analysis.
    """
    found: dict[str, PrintedTable] = {}
    own = results.tests[results.tests["analysis"] == analysis.name]
    checked = own[(own["status"] == TESTED) & own[list(CHECKED)].notna().any(axis=1)]
    if len(checked):
        found["checks"] = _checks(checked, analysis)
    terms = labelled(results.terms, results.tests, analysis.name)
    terms = [row for row in terms if row["term"] != INTERCEPT]
    if terms:
        title = f"{analysis.title}: terms of the models"
        found["terms"] = print_rows(terms, TERMS, f"{analysis.name}-terms", title)
    means = labelled(results.means, results.tests, analysis.name)
    if means:
        title = f"{analysis.title}: adjusted means"
        found["means"] = print_rows(means, MEANS, f"{analysis.name}-means", title)
    return found | _further(results, analysis)


def _checks(tested: pd.DataFrame, analysis: Analysis) -> PrintedTable:
    notes = (
        "Residuals normal: Shapiro-Wilk; variances equal: Brown-Forsythe over groups; variance "
        "constant: Breusch-Pagan. A small p speaks against the assumption.",
        "p, robust: "
        + " or ".join(dict.fromkeys(str(one) for one in tested["robust"] if is_known(one)))
        + ", which unequal variances leave right. Flagged rows stay in the model.",
    )
    rows = tested.assign(family="", correction="none", mode="sound").to_dict("records")
    title = f"{analysis.title}: assumptions and sensitivity"
    return print_rows(rows, CHECKS, f"{analysis.name}-checks", title, notes=notes)


def _further(results: Results, analysis: Analysis) -> dict[str, PrintedTable]:
    """Tables that a kind of analysis makes beside the registry; not those of single people."""
    found = {}
    for key, frame in results.tables.items():
        kind = key.removeprefix(f"{analysis.name}_")
        if kind == key or frame.empty or not kind.startswith(("sites", "retention")):
            continue
        words = results.label(kind.removeprefix("retention_"))
        name = f"{analysis.name}-{kind}"
        title = f"{analysis.title}: {'by site' if kind == 'sites' else f'who came back, {words}'}"
        found[kind] = plain_table(_short(frame), name, title)
    return found


def _short(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers with four digits."""
    return frame.map(lambda cell: f"{cell:.4g}" if isinstance(cell, float) else cell)


def paper_tables(results: Results) -> list[PrintedTable]:
    """Published tables beside those obtained, in the papers' shape, and checks of the papers."""
    found = []
    titles: dict[str, str] = {}
    for one in results.analyses:
        titles.setdefault(one.published.replace(".", "_"), one.title)
    for name, frame in results.tables.items():
        stem, _, kind = name.rpartition("_")
        title = titles.get(stem, stem)
        if frame.empty:
            continue
        if kind == "beside" and stem in titles:
            table = beside_table(frame, f"{stem}-beside", f"{title}: published and obtained")
            found.append(replace(table, notes=_paper_notes(results, stem)))
        elif kind in SOURCES and stem in titles:
            table = plain_table(frame, f"{stem}-{kind}", f"{title}: {SOURCES[kind]}")
            notes = _paper_notes(results, stem) if kind == "obtained" else ()
            found.append(replace(table, notes=notes))
        elif kind == "checks" and {"printed", "recomputed"} <= set(frame.columns):
            title = f"Printed numbers of {stem}, recomputed from each other"
            rows = frame.to_dict("records")
            found.append(print_rows(rows, RECHECK, f"{stem}-recomputed", title))
    return found


def _paper_notes(results: Results, stem: str) -> tuple[str, ...]:
    """What has to stand below numbers that a published model gave."""
    own = [one.name for one in results.analyses if one.published.replace(".", "_") == stem]
    rows = results.tests[results.tests["analysis"].isin(own)].to_dict("records")
    remarks = dict.fromkeys(remark_of(row) for row in rows)
    return tuple(f"Obtained: {remark}." for remark in remarks if remark)


def attrition_printed(attrition: pd.DataFrame, catalogue: Catalogue) -> PrintedTable:
    """Who has usable values, by family, site and group."""
    titles = {name: family.title for name, family in catalogue.families.items()}
    rows = attrition.assign(family=attrition["family"].replace(titles)).to_dict("records")
    return print_rows(rows, ATTRITION, "attrition", "People with and without usable values")


def pictured(tests: pd.DataFrame, most: int) -> pd.DataFrame:
    """Those of `tests` that are drawn where not all can be: the first `most` tested, by p."""
    tested = tests[tests["status"] == TESTED]
    return tested.loc[tested["p"].sort_values(kind="stable").index[:most]].sort_index()


def columns_drawn(tests: pd.DataFrame) -> list[str]:
    """Columns of the cohort table behind outcomes and predictors."""
    names = [*tests["outcome"], *(name for name in tests["predictor"] if is_known(name))]
    return list(dict.fromkeys(one for name in names for one in both_sides(str(name))))
