"""Files of the declared analyses: tables in; registry, tables for people, figures, page out."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from nipype.interfaces.base import (
    File,
    InputMultiPath,
    OutputMultiPath,
    TraitedSpec,
    isdefined,
    traits,
)

from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.group import (
    people_note,
    read_catalogue,
    read_numbers,
    read_participants,
    read_rows,
    read_table,
    stream_states,
    write_text,
)
from alsflow.interfaces.tables import read_sessions
from alsflow.nodes.clinical.table import why_no_score, widen_scores
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.report.statistics import (
    correlation_matrix,
    forest,
    longitudinal,
    partial_regressions,
    roc_curves,
    strips,
)
from alsflow.nodes.stats.analyses import run_analyses
from alsflow.nodes.stats.attrition import attrition_table
from alsflow.nodes.stats.catalogue import Catalogue
from alsflow.nodes.stats.cohort import Cohort, build_cohort
from alsflow.nodes.stats.features import first_sessions, implausible, widen
from alsflow.nodes.stats.features import why_missing as why_no_measure
from alsflow.nodes.stats.group import excluded_people
from alsflow.nodes.stats.page import data_uri, render
from alsflow.nodes.stats.participants import Columns
from alsflow.nodes.stats.plan import Analysis, parse_analyses
from alsflow.nodes.stats.plotted import (
    Curve,
    Partial,
    Plotted,
    Slopes,
    from_plain,
    plotted,
    to_plain,
)
from alsflow.nodes.stats.printed import (
    R_NAMES,
    REPRODUCES,
    PrintedTable,
    levels_of,
    to_csv,
    to_html,
    to_latex,
    with_minus,
)
from alsflow.nodes.stats.published import parse_paper
from alsflow.nodes.stats.registry import COUNTS, NUMBERS, TESTED, Registry
from alsflow.nodes.stats.regression import LinearFit
from alsflow.nodes.stats.replication import replication_tables
from alsflow.nodes.stats.results import (
    Results,
    attrition_printed,
    behind,
    columns_drawn,
    from_plain_analysis,
    paper_tables,
    paragraphs_of,
    parts_of,
    pictured,
    results_tables,
    to_plain_analysis,
)
from alsflow.nodes.stats.sample import Sample, sample_of
from alsflow.nodes.stats.sample import why_missing as why_unknown
from alsflow.nodes.stats.sentences import Paragraph
from alsflow.nodes.stats.tables import MISSING, format_table

BEYOND = ("forest", "curves")  # figures with words outside their axes
PANELS = 6  # most panels of one figure: the tests with the smallest p
FOREST_ROWS = 36  # most rows of one forest plot
CURVES = 6  # most ROC curves in one figure
REASONS_SHOWN = 3
SCORE_WORDS = (
    "participant_id", "session_id", "score", "unit", "label", "status", "reason", "source",
)  # fmt: skip
TERM_WORDS = ("analysis", "outcome", "predictor", "term")
MEAN_WORDS = ("analysis", "outcome", "predictor", "factor", "level", "weights")
# Heads of tables that may have no rows.
NO_TERMS = (*TERM_WORDS, "kind", "ss", "df", "df_residual", "f", "p")
NO_MEANS = (*MEAN_WORDS, "mean", "se", "df", "ci_low", "ci_high")


# --------------------------------------------------------------------------- run


class _RunAnalysesInputSpec(CodedInputSpec):
    features_file = File(exists=True, mandatory=True, desc="features.tsv")
    participants_file = File(exists=True, mandatory=True, desc="participants.tsv, .csv or .xlsx")
    participants_json = File(exists=True, desc="JSON beside it: codes and units of columns")
    bids_dir = traits.Str("", usedefault=True, desc="dataset of the files of sessions")
    session_files = traits.List(
        File(exists=True), [], usedefault=True, desc="sub-X_sessions.tsv; their content counts"
    )
    scores_file = File(exists=True, desc="clinical_scores.tsv")
    measures_file = File(exists=True, mandatory=True, desc="catalogue of measures, TOML")
    published_files = traits.List(
        File(exists=True), [], usedefault=True, desc="numbers typed from papers, TOML"
    )
    analyses = traits.List(traits.Dict, mandatory=True, desc="[[analysis]] tables")
    strict = traits.Bool(True, usedefault=True, desc="refuse names that the study does not have")
    source = traits.Str("the configuration file", usedefault=True, desc="how messages name it")
    random_seed = traits.Int(0, usedefault=True, desc="deals people to folds")
    absent = traits.Dict(traits.Str, traits.Str, desc="person to why there are no measures")
    unusable = traits.Dict(
        traits.Str, traits.Str, desc="'sub ses stream' to why it has no usable result"
    )
    people = traits.List(
        traits.Str, [], usedefault=True, desc="the only people to use; all where empty"
    )
    group = traits.Str(mandatory=True, desc="column of the groups")
    reference = traits.Str(mandatory=True, desc="label of the reference group")
    case = traits.Str("", usedefault=True, desc="label of the other; empty: found in the table")
    site = traits.Str("", usedefault=True, desc="column of the sites; empty for one centre")
    covariates = traits.List(traits.Str, [], usedefault=True, desc="of models that name none")
    columns = traits.Dict(traits.Str, traits.Str, desc="our names of columns to those in tables")
    dedupe = traits.Enum("error", "exact", usedefault=True, desc="what becomes of equal rows")


class _RunAnalysesOutputSpec(TraitedSpec):
    tests_file = File(exists=True, desc="one row per test: the registry")
    terms_file = File(exists=True, desc="one row per term of each linear model")
    means_file = File(exists=True, desc="one row per adjusted mean")
    design_file = File(exists=True, desc="design matrix of the group model with most people")
    excluded_file = File(exists=True, desc="people in no model, and why")
    attrition_file = File(exists=True, desc="who has usable values, by family, site and group")
    rows_file = File(exists=True, desc="cohort table of the people in the models, all visits")
    tables_file = File(exists=True, desc="tables of whole analyses and of papers, JSON")
    figures_file = File(exists=True, desc="what figures show of the fitted models, JSON")
    summary_file = File(exists=True, desc="labels, coding, analyses and notes, JSON")


class RunAnalyses(CodedInterface):
    """Carry out the declared analyses; see `nodes.stats.analyses`."""

    input_spec = _RunAnalysesInputSpec
    output_spec = _RunAnalysesOutputSpec
    _code = (
        run_analyses, build_cohort, sample_of, plotted, replication_tables, attrition_table,
        excluded_people, widen, widen_scores, parse_analyses,
    )  # fmt: skip

    def _run_interface(self, runtime):
        given = self.inputs
        catalogue = read_catalogue(given.measures_file)
        features = read_features(given.features_file)
        scores = read_scores(given.scores_file) if isdefined(given.scores_file) else None
        cohort = self._cohort(widen(features, catalogue), scores)
        sample = sample_of(cohort)
        analyses = parse_analyses(given.analyses, given.source, tuple(given.covariates))
        missing = _reasons(cohort, sample, features, scores)
        registry = run_analyses(
            sample, analyses, catalogue, why_missing=missing, strict=given.strict,
            rng=np.random.default_rng(given.random_seed), source=given.source,
        )  # fmt: skip
        _require_tests(registry)
        papers = {Path(path).stem: parse_paper(Path(path).read_text(encoding="utf-8"), path)
                  for path in given.published_files}  # fmt: skip
        published = replication_tables(registry, analyses, papers) if papers else {}
        summary = self._summary(cohort, registry, analyses) | {
            "implausible": implausible(features, catalogue)
        }
        self._write(Path(runtime.cwd), registry, sample, published, summary)
        self._write_people(Path(runtime.cwd), cohort, features, catalogue)
        return runtime

    def _columns(self) -> Columns:
        given = self.inputs
        return Columns(given.group, given.reference, given.site, tuple(given.covariates),
                       given.case)  # fmt: skip

    def _cohort(self, wide: pd.DataFrame, scores: pd.DataFrame | None) -> Cohort:
        given = self.inputs
        people, options = read_participants(given)
        sessions = None
        if given.bids_dir and given.session_files:
            sessions = read_sessions(given.bids_dir, given.people)
        wide_scores = None if scores is None or scores.empty else widen_scores(scores)
        return build_cohort(people, sessions, wide, wide_scores, self._columns(), options)

    def _summary(
        self, cohort: Cohort, registry: Registry, analyses: Sequence[Analysis]
    ) -> dict[str, Any]:
        design = _largest_design(registry)
        return {
            "case": cohort.case,
            "reference": cohort.reference,
            "group": cohort.columns.group,
            "site": cohort.columns.site,
            "formula": design.formula if design else " + ".join(cohort.columns.all),
            "coding": design.coding if design else (),
            "columns": design.meanings() if design else {},
            "dropped": design.dropped if design else (),
            "notes": [*registry.notes, *cohort.notes, *people_note(self.inputs.people)],
            "warnings": list(cohort.warnings),
            "analyses": [to_plain_analysis(one) for one in analyses],
        }

    def _write(
        self,
        folder: Path,
        registry: Registry,
        sample: Sample,
        published: Mapping[str, pd.DataFrame],
        summary: Mapping[str, Any],
    ) -> None:
        design = _largest_design(registry)
        matrix = pd.DataFrame(columns=["participant_id"])
        if design is not None:
            matrix = pd.DataFrame(design.matrix, columns=list(design.columns))
            matrix.insert(0, "participant_id", list(design.people))
        tables = {
            "tests": registry.tests,
            "terms": registry.terms if len(registry.terms) else pd.DataFrame(columns=NO_TERMS),
            "means": registry.means if len(registry.means) else pd.DataFrame(columns=NO_MEANS),
            "design": matrix,
            "rows": sample.table,
        }
        for name, table in tables.items():
            path = write_text(folder / f"{name}.tsv", format_table(table))
            self._results[f"{name}_file"] = path
        contents = {
            "tables": {k: frame_to_plain(t) for k, t in {**registry.tables, **published}.items()},
            "figures": to_plain(plotted(registry, sample.table)),
            "summary": dict(summary),
        }
        for name, content in contents.items():
            self._results[f"{name}_file"] = write_json(folder / f"{name}.json", content)

    def _write_people(
        self, folder: Path, cohort: Cohort, features: pd.DataFrame, catalogue: Catalogue
    ) -> None:
        """Who is in no model, and who has usable values."""
        first, _ = first_sessions(features)
        wide, people = widen(first, catalogue), cohort.people()
        tables = {
            "excluded": excluded_people(wide, people, _known(self.inputs.absent)),
            "attrition": attrition_table(
                wide, people, self._columns(), catalogue, why_no_measure(first),
                stream_states(_known(self.inputs.unusable), wide),
            ),
        }  # fmt: skip
        for name, table in tables.items():
            path = write_text(folder / f"{name}.tsv", format_table(table))
            self._results[f"{name}_file"] = path


def _known(value: Any) -> dict[str, str]:
    """Input that holds a dictionary; empty where it was not given."""
    return dict(value) if isdefined(value) else {}


def read_features(path: str) -> pd.DataFrame:
    """``features.tsv`` with its values as numbers."""
    words = ("participant_id", "session_id", "measure", "unit", "qc", "reason")
    return read_numbers(path, words)


def read_scores(path: str) -> pd.DataFrame:
    """``clinical_scores.tsv`` with its values as numbers."""
    scores = read_numbers(path, SCORE_WORDS)
    return scores.assign(reason=scores["reason"].replace(MISSING, ""))


def _reasons(
    cohort: Cohort, sample: Sample, features: pd.DataFrame, scores: pd.DataFrame | None
) -> dict[tuple[str, str], str]:
    """Why single values are missing: of columns of the cohort, measures and scores."""
    first, _ = first_sessions(features)
    found = why_no_measure(first)
    if scores is not None and len(scores):
        found |= why_no_score(first_sessions(scores)[0])
    return found | why_unknown(cohort, sample)


def _largest_design(registry: Registry):
    """Design of the group model with most rows, the first of several; None without any."""
    kinds = dict(zip(registry.tests["analysis"], registry.tests["kind"], strict=True))
    designs = [
        fit.design
        for (analysis, _, _), fit in registry.objects.items()
        if isinstance(fit, LinearFit) and kinds[analysis] == "groups"
    ]
    return max(designs, key=lambda design: len(design.people), default=None)


def _require_tests(registry: Registry) -> None:
    """Refuse, with the reasons, where not a single test could be made."""
    if (registry.tests["status"] == TESTED).any():
        return
    reasons = [why for why in registry.tests["reason"] if why != MISSING]
    why = "; ".join(list(dict.fromkeys([*reasons, *registry.notes]))[:REASONS_SHOWN])
    raise BadInputError(f"nothing can be estimated: {why or 'no analysis has an outcome'}")


# --------------------------------------------------------------------------- read back


def write_json(path: Path, content: Any) -> str:
    """Write JSON, unknown numbers as null."""
    text = json.dumps(_plain(content), ensure_ascii=False, allow_nan=False) + "\n"
    return write_text(path, text)


def _plain(value: Any) -> Any:
    """Value as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or (isinstance(value, float) and not np.isfinite(value)):
        return None
    return value


def frame_to_plain(frame: pd.DataFrame) -> dict[str, Any]:
    """Table as columns and rows; a named index becomes the first column."""
    if frame.index.name:
        frame = frame.reset_index()
    rows = [list(row) for row in frame.itertuples(index=False, name=None)]
    return {"columns": [str(name) for name in frame.columns], "rows": rows}


def read_registry(path: str | Path) -> pd.DataFrame:
    """``tests.tsv`` with its numbers as numbers."""
    head = read_table(path)
    numeric = {*NUMBERS, *COUNTS, "n_missing"}
    tests = read_numbers(path, [name for name in head.columns if name not in numeric])
    counts = dict.fromkeys((*COUNTS, "n_missing"), "Int64")
    return tests.astype(counts).assign(pseudoreplicated=tests["pseudoreplicated"] == "True")


def read_json(path: str | Path) -> Any:
    """Content of a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def read_results(given: Any) -> Results:
    """Everything that `RunAnalyses` wrote, from the inputs of an interface that takes it."""
    summary = read_json(given.summary_file)
    tests = read_registry(given.tests_file)
    known = set(tests["analysis"])
    analyses = tuple(map(from_plain_analysis, summary["analyses"]))
    tables = {
        name: pd.DataFrame(table["rows"], columns=table["columns"])
        for name, table in read_json(given.tables_file).items()
    }
    return Results(
        tests=tests,
        terms=read_numbers(given.terms_file, TERM_WORDS),
        means=read_numbers(given.means_file, MEAN_WORDS),
        tables=tables,
        analyses=tuple(one for one in analyses if one.name in known),
        groups=(summary["case"], summary["reference"]),
        catalogue=read_catalogue(given.measures_file),
    )


class _ResultsInputSpec(CodedInputSpec):
    tests_file = File(exists=True, mandatory=True, desc="registry of tests")
    terms_file = File(exists=True, mandatory=True, desc="terms of linear models")
    means_file = File(exists=True, mandatory=True, desc="adjusted means")
    tables_file = File(exists=True, mandatory=True, desc="tables of whole analyses, JSON")
    summary_file = File(exists=True, mandatory=True, desc="labels, analyses and notes, JSON")
    measures_file = File(exists=True, mandatory=True, desc="catalogue of measures, TOML")


# --------------------------------------------------------------------------- figures


class _DrawStatisticsInputSpec(_ResultsInputSpec):
    rows_file = File(exists=True, mandatory=True, desc="cohort table")
    figures_file = File(exists=True, mandatory=True, desc="what figures show of models, JSON")


class _DrawStatisticsOutputSpec(TraitedSpec):
    figure_files = OutputMultiPath(File(exists=True), desc="<analysis>-<what>[-<k>].png")


class DrawStatistics(CodedInterface):
    """Draw what the analyses found; see `nodes.report.statistics`."""

    input_spec = _DrawStatisticsInputSpec
    output_spec = _DrawStatisticsOutputSpec
    _code = (forest, from_plain, results_tables)

    def _run_interface(self, runtime):
        results = read_results(self.inputs)
        entries = read_json(self.inputs.figures_file)
        found = from_plain(entries)
        summary = read_json(self.inputs.summary_file)
        rows = read_rows(self.inputs.rows_file, columns_drawn(results.tests))[0]
        paths = []
        for analysis in results.analyses:
            own = [one for one in found if one.analysis == analysis.name]
            drawing = _Drawing(results, analysis, own, rows, summary)
            with rc_context({"text.parse_math": False}):  # people's words may hold dollar signs
                paths += _save(drawing.figures(), Path(runtime.cwd), analysis.name)
        self._results["figure_files"] = paths
        return runtime


def _save(figures: Mapping[str, Figure], folder: Path, analysis: str) -> list[str]:
    """Write figures as PNG; returns their paths."""
    paths = []
    for name, figure in figures.items():
        path = folder / f"{analysis}-{name}.png"
        tight = "tight" if name.startswith(BEYOND) else None  # draws twice
        figure.savefig(path, bbox_inches=tight, metadata={"Software": None})
        paths.append(str(path))
    return paths


@dataclass(frozen=True)
class _Drawing:
    """Figures of one analysis."""

    results: Results
    analysis: Analysis
    found: Sequence[Plotted]
    rows: pd.DataFrame
    summary: Mapping[str, Any]

    @property
    def tests(self) -> pd.DataFrame:
        """Rows of the registry."""
        tests = self.results.tests
        return tests[tests["analysis"] == self.analysis.name]

    def figures(self) -> dict[str, Figure]:
        """Figures by the rest of their names."""
        makers: Mapping[str, Callable[[], dict[str, Figure]]] = {
            "groups": self._groups,
            "regression": self._regression,
            "correlation": self._correlation,
            "roc": self._areas,
            "classify": self._areas,
            "longitudinal": self._courses,
        }
        if self.analysis.kind not in makers or not (self.tests["status"] == TESTED).any():
            return {}
        return makers[self.analysis.kind]()

    def _title(self, family: str) -> str:
        known = self.results.catalogue.families
        title = self.analysis.title
        if family in known and family != self.analysis.family:
            return f"{title}: {known[family].title}"
        return title

    def _forests(self) -> dict[str, Figure]:
        """One per family; those of many rows in parts."""
        figures = {}
        for family, rows in self.tests.groupby("family", sort=False):
            if not (rows["status"] == TESTED).any():
                continue
            for k, start in enumerate(range(0, len(rows), FOREST_ROWS), 1):
                part = rows.iloc[start : start + FOREST_ROWS]
                several = f"-{k}" if len(rows) > FOREST_ROWS else ""
                figures[f"forest-{family}{several}"] = forest(part, self._title(str(family)))
        return figures

    def _groups(self) -> dict[str, Figure]:
        figures = self._forests()
        if self.analysis.unit == "side":
            return figures
        order = levels_of(self.analysis, self.results.groups)[::-1]
        group = self.summary["group"] if not self.analysis.levels else self.analysis.by
        for family, rows in self.tests.groupby("family", sort=False):
            chosen = pictured(rows, PANELS)
            names = [name for name in chosen["outcome"] if name in self.rows]
            if not names:
                continue
            known = self.results.catalogue.families
            name = str(family)
            title = known[name].title if name in known else self.analysis.title
            title += _some(len(names), len(rows)) + ": every person, not adjusted"
            people = self.rows[self.rows[group].isin(order)]
            figures[f"strips-{family}"] = strips(
                people, self.results.words(names), (group, self.summary["site"]), order, title
            )
        return figures

    def _regression(self) -> dict[str, Figure]:
        figures = self._forests()
        partial = {(p.outcome, p.predictor): p for p in self.found if isinstance(p, Partial)}
        words = self.results.words([name for pair in partial for name in pair])
        groups = self._labels()
        for outcome, rows in self.tests.groupby("outcome", sort=False):
            chosen = pictured(rows, PANELS)
            tests: dict[tuple[str, str], dict[Any, Any]] = {
                (r["outcome"], r["predictor"]): r for r in chosen.to_dict("records")
            }
            own = [partial[pair] for pair in tests if pair in partial]
            if not own:
                continue
            label = self.results.label(str(outcome))
            title = f"{self.analysis.title}: {label}{_some(len(own), len(rows))}"
            name = f"slopes-{re.sub(r'[{}]', '', str(outcome))}"
            figures[name] = partial_regressions(own, words, groups, tests, title)
        return figures

    def _labels(self) -> dict[str, str]:
        """Group of each row where there are both, else its site."""
        site = self.summary["site"]
        by = self.summary["group"] if self.analysis.people == "all" else site
        if not by:
            return {}
        labels = self.rows[by].astype(str).to_dict()
        sides = {f"{person} {side}": label for person, label in labels.items()
                 for side in ("left", "right")}  # fmt: skip
        return {str(k): v for k, v in labels.items()} | sides

    def _correlation(self) -> dict[str, Figure]:
        level = "p" if self.analysis.correction == "none" else "q"
        tests = self.tests
        order = [list(dict.fromkeys(tests[key])) for key in ("label", "predictor_label")]

        def wide(column: str) -> pd.DataFrame:
            table = tests.drop_duplicates(["label", "predictor_label"]).pivot(
                index="label", columns="predictor_label", values=column
            )
            return table.loc[order[0], order[1]]

        what = R_NAMES[self.analysis.test]
        figure = correlation_matrix(
            wide("estimate"), wide("n"), wide(level), self.analysis.title, what, level
        )
        return {"matrix": figure}

    def _areas(self) -> dict[str, Figure]:
        figures = self._forests() if self.analysis.kind == "roc" else {}
        curves = [one for one in self.found if isinstance(one, Curve)]
        words = self.results.words([one.outcome for one in curves])
        for k, start in enumerate(range(0, len(curves), CURVES), 1):
            part = curves[start : start + CURVES]
            several = f"-{k}" if len(curves) > CURVES else ""
            figures[f"curves{several}"] = roc_curves(part, words, self.analysis.title)
        return figures

    def _courses(self) -> dict[str, Figure]:
        found = [one for one in self.found if isinstance(one, Slopes)]
        words = self.results.words([one.outcome for one in found])
        return {
            f"courses-{one.outcome}": longitudinal(one, words, self.analysis.title)
            for one in found
        }


def _some(shown: int, there: int) -> str:
    return f" (the {shown} of {there} with the smallest p)" if shown < there else ""


# --------------------------------------------------------------------------- tables and text


class _PrintTablesInputSpec(_ResultsInputSpec):
    attrition_file = File(exists=True, mandatory=True, desc="who has usable values")


class _PrintTablesOutputSpec(TraitedSpec):
    html_files = OutputMultiPath(File(exists=True), desc="table-<name>.html")
    csv_files = OutputMultiPath(File(exists=True), desc="table-<name>.csv")
    latex_files = OutputMultiPath(File(exists=True), desc="table-<name>.tex, booktabs")
    text_file = File(exists=True, desc="results.md: paragraphs of results")


class PrintTables(CodedInterface):
    """Write tables for people and paragraphs of results; see `nodes.stats.printed`."""

    input_spec = _PrintTablesInputSpec
    output_spec = _PrintTablesOutputSpec
    _code = (results_tables, to_html)

    def _run_interface(self, runtime):
        results = read_results(self.inputs)
        folder = Path(runtime.cwd)
        printed = []
        for one in results.analyses:
            printed += [*results_tables(results, one), *behind(results, one).values()]
        printed += paper_tables(results)
        printed.append(attrition_printed(read_attrition(self.inputs.attrition_file),
                                         results.catalogue))  # fmt: skip
        formats = {"html": to_html, "csv": to_csv, "latex": to_latex}
        for kind, write in formats.items():
            ending = "tex" if kind == "latex" else kind
            self._results[f"{kind}_files"] = [
                write_text(folder / f"table-{table.name}.{ending}", write(table))
                for table in printed
            ]
        told = [results_text(one, paragraphs_of(results, one)) for one in results.analyses]
        self._results["text_file"] = write_text(folder / "results.md", "\n".join(told))
        return runtime


def read_attrition(path: str) -> pd.DataFrame:
    """``attrition.tsv`` with its counts as numbers."""
    return read_numbers(path, ("family", "stream", "site", "group", "reasons"))


def results_text(analysis: Analysis, told: Iterable[Paragraph]) -> str:
    """Paragraphs of one analysis, Markdown."""
    lines = [f"## {analysis.title}", ""]
    for one in told:
        lines += [f"### {one.title}", ""] if one.title else []
        lines += [one.text, ""]
    return "\n".join(lines)


# --------------------------------------------------------------------------- page


class _WriteAnalysesInputSpec(_PrintTablesInputSpec):
    figure_files = InputMultiPath(File(exists=True), desc="figures, PNG; a lone one, too")
    template_file = File(exists=True, mandatory=True, desc="Jinja template of the sections")
    version = traits.Str(mandatory=True, desc="version of this program")


class _WriteAnalysesOutputSpec(TraitedSpec):
    page_file = File(exists=True, desc="analyses.html: a page that works offline")
    sections_file = File(exists=True, desc="the same without head and style, for another page")


class WriteAnalyses(CodedInterface):
    """Write the sections of the analyses, as a page and for another page."""

    input_spec = _WriteAnalysesInputSpec
    output_spec = _WriteAnalysesOutputSpec
    _code = (results_tables, to_html, render)

    def _run_interface(self, runtime):
        given = self.inputs
        results = read_results(given)
        summary = read_json(given.summary_file)
        given_figures = given.figure_files if isdefined(given.figure_files) else []
        figures = [Path(path) for path in given_figures]
        values = {
            "analyses": [_section(results, one, figures) for one in results.analyses],
            "papers": [(table.title, to_html(table)) for table in paper_tables(results)],
            "attrition": to_html(
                attrition_printed(read_attrition(given.attrition_file), results.catalogue)
            ),
            "notes": summary["notes"],
            "warnings": summary["warnings"],
            "implausible": summary["implausible"],
            "groups": results.groups,
            "version": given.version,
        }
        template = Path(given.template_file).read_text(encoding="utf-8")
        for name, whole in (("page", True), ("sections", False)):
            path = Path(runtime.cwd) / ("analyses.html" if whole else "analyses_sections.html")
            self._results[f"{name}_file"] = write_text(
                path, render(template, whole=whole, **values)
            )
        return runtime


def _section(results: Results, analysis: Analysis, figures: Sequence[Path]) -> dict[str, Any]:
    """What the page shows of one analysis."""
    own = results.tests[results.tests["analysis"] == analysis.name]
    pictures = [path for path in figures if path.name.startswith(f"{analysis.name}-")]
    printed = results_tables(results, analysis)
    mark = ""
    if analysis.mode == "paper":
        remarks = [remark for table in printed for remark in table.remarks]
        mark = remarks[0] if remarks else REPRODUCES
    notes = [note for cell in own["notes"] if cell != MISSING for note in cell.split("; ")]
    return {
        "name": analysis.name,
        "title": analysis.title,
        "mark": mark,
        "sound": analysis.sound,
        "parts": _parts(results, analysis, printed, pictures),
        "behind": [
            (_behind(name), to_html(table)) for name, table in behind(results, analysis).items()
        ],
        "notes": list(dict.fromkeys(notes)),
    }


def _parts(
    results: Results,
    analysis: Analysis,
    printed: Sequence[PrintedTable],
    pictures: Sequence[Path],
) -> list[dict[str, Any]]:
    """Families of one analysis: title, sentences, table, figures."""
    parts = parts_of(results, analysis)
    known = results.catalogue.families
    found = []
    told = paragraphs_of(results, analysis)
    for (family, words), table, one in zip(parts, printed, told, strict=True):
        mine = [path for path in pictures if not family or path.stem.split("-")[2:3] == [family]]
        found.append(
            {
                "title": words,
                "open": not family or (family in known and known[family].primary),
                "sentences": [with_minus(sentence.text) for sentence in one.sentences],
                "table": to_html(table),
                "figures": [(_caption(path), data_uri(path.read_bytes())) for path in mine],
            }
        )
    return found


BEHIND = {
    "checks": "Assumptions and sensitivity", "terms": "Terms of the models",
    "means": "Adjusted means", "sites": "By site",
}  # fmt: skip


def _behind(name: str) -> str:
    return BEHIND.get(name, "Who came back")


CAPTIONS = {
    "forest": "Effects with 95 % limits; full orange marks where q is below 0.05.",
    "strips": "Every person as a dot over the box of the group, as measured, not adjusted.",
    "slopes": "Outcome on predictor given the other terms of the model, with the 95 % band of the "
    "mean.",
    "matrix": "Correlations, each with its n.",
    "curves": "ROC curves with areas and 95 % limits after DeLong.",
    "courses": "Everybody's course, and the fitted line of each group with its 95 % band.",
}


def _caption(path: Path) -> str:
    return CAPTIONS[path.stem.split("-")[1]]


# --------------------------------------------------------------------------- columns


class _DescribeTablesInputSpec(CodedInputSpec):
    table_files = traits.List(File(exists=True), mandatory=True, desc="tables, TSV")
    columns_file = File(exists=True, mandatory=True, desc="what columns mean, TOML")
    measures_file = File(exists=True, mandatory=True, desc="catalogue of measures, TOML")


class _DescribeTablesOutputSpec(TraitedSpec):
    json_files = OutputMultiPath(File(exists=True), desc="columns of each table")


class DescribeTables(CodedInterface):
    """Write the JSON beside tables of the analyses: what each column means."""

    input_spec = _DescribeTablesInputSpec
    output_spec = _DescribeTablesOutputSpec
    _code = (read_catalogue,)

    def _run_interface(self, runtime):
        declared = tomllib.loads(Path(self.inputs.columns_file).read_text(encoding="utf-8"))
        catalogue = read_catalogue(self.inputs.measures_file)
        paths = []
        for table in map(Path, self.inputs.table_files):
            known = declared[table.stem]
            columns = {
                name: {"Description": known.get(name) or catalogue.describe(name).description}
                for name in read_table(table).columns
            }
            path = Path(runtime.cwd) / f"{table.stem}.json"
            text = json.dumps(columns, indent=2, ensure_ascii=False) + "\n"
            paths.append(write_text(path, text))
        self._results["json_files"] = paths
        return runtime
