"""Files of the group level: tables of measures in; tables, figures and a page out."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from nipype.interfaces.base import (
    File,
    InputMultiPath,
    OutputMultiPath,
    TraitedSpec,
    isdefined,
    traits,
)

from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.tables import read_any_table, read_meanings
from alsflow.interfaces.whole import put_all, remove, whole
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.report.spectroscopy_voxel import overlap_caption
from alsflow.nodes.report.statistics import forest, strip
from alsflow.nodes.stats.attrition import attrition_table, missing_per_site
from alsflow.nodes.stats.catalogue import Catalogue, parse_catalogue
from alsflow.nodes.stats.cohort import build_cohort
from alsflow.nodes.stats.effects import Q_FOUND
from alsflow.nodes.stats.features import (
    Source,
    first_sessions,
    gather,
    implausible,
    read_measures,
    why_missing,
    widen,
)
from alsflow.nodes.stats.group import analysed, fit_measures
from alsflow.nodes.stats.joining import Options
from alsflow.nodes.stats.page import data_uri, missing_list, render, sections, single_notes
from alsflow.nodes.stats.participants import Columns
from alsflow.nodes.stats.tables import (
    MISSING,
    Meanings,
    format_table,
    is_missing,
    number,
    parse_table,
)

TABLE_NAME = re.compile(
    r"(?P<sub>sub-[^_]+)(?:_(?P<ses>ses-[^_]+))?(?:_.+)?_desc-(?P<stream>[^_]+)_measures\.tsv"
)
# States after which an older table does not count; that of an interrupted run is one of them.
OUTDATED = ("failed", "refused", "absent", "not-run")
UNUSABLE = (*OUTDATED, "flagged")


def read_table(path: str | Path) -> pd.DataFrame:
    """Tab-separated file as text; see `parse_table`."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise BadInputError(f"{path} is not UTF-8 text; save it again as UTF-8") from problem
    return parse_table(text, str(path))


def read_numbers(path: str | Path, words: Iterable[str]) -> pd.DataFrame:
    """Table that this program wrote: every column but `words` is numbers."""
    table = read_table(path)
    for name in table.columns.difference(list(words)):
        table[name] = [number(cell, f"{path}, {name}") for cell in table[name]]
    return table.reset_index(drop=True)


def write_text(path: str | Path, text: str) -> str:
    """Write one text file whole or not at all; returns its path as text."""
    path = Path(path)
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return str(path)


def find_tables(
    output_dir: Path, people: Iterable[str] = (), sessions: Iterable[str] = ()
) -> list[Path]:
    """Tables of measures under `output_dir`; of `people` and `sessions` only, if any are named."""
    people, sessions = set(people), set(sessions)
    found = []
    for path in sorted(output_dir.glob("sub-*/**/*_measures.tsv")):
        if path.name.startswith("."):  # half-written
            continue
        source = _source(str(path))
        session = source.session.removeprefix("ses-")
        if people and source.participant.removeprefix("sub-") not in people:
            continue
        if sessions and session not in (*sessions, MISSING):
            continue
        found.append(path)
    return found


def read_states(output_dir: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Read what ``status.tsv`` says against using results.

    Returns
    -------
    unusable : dict
        From ``"sub-01 ses-a anat"`` to why that stream has no usable result.
    absent : dict
        From ``"sub-01"`` to the same, all streams and sessions together.
    """
    path = output_dir / "status.tsv"
    unusable: dict[str, str] = {}
    absent: dict[str, list[str]] = {}
    if not path.is_file():
        return {}, {}
    for row in read_table(path).to_dict("records"):
        if row["state"] not in UNUSABLE or is_missing(row["participant_id"]):
            continue
        person = "sub-" + row["participant_id"].removeprefix("sub-")
        session = row["session_id"]
        session = MISSING if is_missing(session) else "ses-" + session.removeprefix("ses-")
        why = f"{row['stream']} {row['state']}: {row['reason']}"
        if row["state"] in OUTDATED:
            unusable[f"{person} {session} {row['stream']}"] = why
        absent.setdefault(person, []).append(why)
    return unusable, {person: "; ".join(whys) for person, whys in absent.items()}


def read_levels(path: str | Path) -> dict[str, str]:
    """Meaning of the codes of sex in ``participants.json``; empty where it has none."""
    try:
        sidecar = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise BadInputError(f"{path} is not JSON: {problem}") from problem
    entry = sidecar.get("sex", {}) if isinstance(sidecar, dict) else {}
    levels = entry.get("Levels", {}) if isinstance(entry, dict) else {}
    if not isinstance(levels, dict):
        return {}
    return {
        str(code): str(word.get("Description", "")) if isinstance(word, dict) else str(word)
        for code, word in levels.items()
    }


def read_catalogue(path: str | Path) -> Catalogue:
    """Families and measures of a TOML file."""
    return parse_catalogue(Path(path).read_text(encoding="utf-8"))


def _source(path: str) -> Source:
    name = TABLE_NAME.fullmatch(Path(path).name)
    if name is None:
        raise BadInputError(f"{path} is not named sub-X[_ses-Y]_desc-<stream>_measures.tsv")
    if not {name["sub"], name["ses"] or name["sub"]} <= set(Path(path).parts):
        raise BadInputError(f"{path} is named for another person or session than its folder")
    return Source(name["sub"], name["ses"] or MISSING, name["stream"], path)


class _CollectFeaturesInputSpec(CodedInputSpec):
    measure_files = traits.List(
        File(exists=True), mandatory=True, desc="tables of measures, one per person and stream"
    )
    unusable = traits.Dict(
        traits.Str, traits.Str, desc="'sub ses stream' to why its older table does not count"
    )
    measures_file = File(exists=True, mandatory=True, desc="catalogue of measures, TOML")


class _CollectFeaturesOutputSpec(TraitedSpec):
    features_file = File(exists=True, desc="one row per person, session and measure")
    wide_file = File(exists=True, desc="one row per person and session, flagged values n/a")


class CollectFeatures(CodedInterface):
    """Gather everybody's measures; see `nodes.stats.features`."""

    input_spec = _CollectFeaturesInputSpec
    output_spec = _CollectFeaturesOutputSpec
    _code = (read_measures, gather, widen)

    def _run_interface(self, runtime):
        catalogue = read_catalogue(self.inputs.measures_file)
        found = [_source(path) for path in self.inputs.measure_files]
        tables = [read_measures(read_table(source.name), source, catalogue) for source in found]
        features = gather(tables, found, self.inputs.unusable or {})
        folder = Path(runtime.cwd)
        self._results["features_file"] = write_text(
            folder / "features.tsv", format_table(features)
        )
        self._results["wide_file"] = write_text(
            folder / "features_wide.tsv", format_table(widen(features, catalogue))
        )
        return runtime


class _FitModelsInputSpec(CodedInputSpec):
    features_file = File(exists=True, mandatory=True, desc="features.tsv")
    participants_file = File(exists=True, mandatory=True, desc="participants.tsv of the dataset")
    participants_json = File(exists=True, desc="participants.json, which may explain codes of sex")
    measures_file = File(exists=True, mandatory=True, desc="catalogue of measures, TOML")
    absent = traits.Dict(traits.Str, traits.Str, desc="person to why there are no measures")
    unusable = traits.Dict(
        traits.Str, traits.Str, desc="'sub ses stream' to why it has no usable result"
    )
    people = traits.List(traits.Str, desc="the only people to use; all where empty")
    group = traits.Str(mandatory=True, desc="column of the groups")
    reference = traits.Str(mandatory=True, desc="label of the reference group")
    case = traits.Str("", usedefault=True, desc="label of the other; empty: found in the table")
    site = traits.Str(desc="column of the sites; empty for one centre")
    covariates = traits.List(traits.Str, desc="further columns of the model")
    columns = traits.Dict(traits.Str, traits.Str, desc="our names of columns to those in tables")
    dedupe = traits.Enum("error", "exact", usedefault=True, desc="what becomes of equal rows")


class _FitModelsOutputSpec(TraitedSpec):
    tests_file = File(exists=True, desc="one row per measure: the registry of tests")
    design_file = File(exists=True, desc="design matrix of the people with complete covariates")
    excluded_file = File(exists=True, desc="people in no model, and why")
    attrition_file = File(exists=True, desc="who has usable values, by family, site and group")
    rows_file = File(exists=True, desc="covariates and measures of the people in the models")
    summary_file = File(exists=True, desc="labels, coding and notes, JSON")


class FitModels(CodedInterface):
    """Test every measure for a group difference; see `nodes.stats.group`."""

    input_spec = _FitModelsInputSpec
    output_spec = _FitModelsOutputSpec
    _code = (
        build_cohort, fit_measures, analysed, first_sessions, why_missing, implausible,
        attrition_table, missing_per_site,
    )  # fmt: skip

    def _run_interface(self, runtime):
        given = self.inputs
        catalogue = read_catalogue(given.measures_file)
        columns = Columns(given.group, given.reference, given.site, tuple(given.covariates),
                          given.case)  # fmt: skip
        raw, options = read_participants(given)
        people = build_cohort(raw, None, None, None, columns, options).people()
        features = read_numbers(
            given.features_file,
            ("participant_id", "session_id", "measure", "unit", "qc", "reason"),
        )
        features, left_out = first_sessions(features)
        wide = widen(features, catalogue)
        missing = why_missing(features)
        result = fit_measures(wide, people, columns, catalogue, missing, given.absent or {})
        attrition = attrition_table(
            wide, people, columns, catalogue, missing, stream_states(given.unusable or {}, wide)
        )
        rows = analysed(wide, people)
        summary = {
            "case": people.case,
            "reference": people.reference,
            "group": columns.group,
            "site": columns.site,
            "formula": result.formula or " + ".join(columns.all),
            "coding": result.coding,
            "columns": result.columns,
            "dropped": result.dropped,
            "notes": [*result.notes, *_session_note(left_out), *people_note(given.people)],
            "implausible": implausible(features, catalogue),
        }
        tables = {
            "tests": result.tests, "design": result.design, "excluded": result.excluded,
            "attrition": attrition, "rows": rows.rename_axis("participant_id").reset_index(),
        }  # fmt: skip
        self._write(Path(runtime.cwd), tables, summary)
        return runtime

    def _write(self, folder: Path, tables: Mapping[str, pd.DataFrame], summary: Mapping) -> None:
        for name, table in tables.items():
            path = write_text(folder / f"{name}.tsv", format_table(table))
            self._results[f"{name}_file"] = path
        text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
        self._results["summary_file"] = write_text(folder / "summary.json", text)


def read_participants(given: Any) -> tuple[pd.DataFrame, Options]:
    """Table of the people that the inputs of an interface name, and how it is to be read."""
    sidecar = given.participants_json
    options = Options(
        mapping=dict(given.columns) if isdefined(given.columns) else {},
        dedupe=given.dedupe,
        meanings=read_meanings(sidecar) if isdefined(sidecar) else Meanings(),
    )
    return only_people(read_any_table(given.participants_file), given.people), options


def read_rows(path: str | Path, wanted: Iterable[str]) -> tuple[pd.DataFrame, list[str]]:
    """Cohort table by person, first visits; wanted columns as numbers, and those that are none."""
    rows = read_table(path).drop_duplicates("participant_id").set_index("participant_id")
    rows = rows.mask(rows == MISSING)
    words = []
    for name in wanted:
        if name in rows:
            numbers = pd.to_numeric(rows[name], errors="coerce")
            if numbers.notna().sum() == rows[name].notna().sum():
                rows[name] = numbers
            else:
                words.append(name)
    return rows, words


def only_people(table: pd.DataFrame, people: Iterable[str]) -> pd.DataFrame:
    """Rows of `people`, labels without ``sub-``; all of them where nobody is named."""
    wanted = set(people)
    if not wanted or "participant_id" not in table:
        return table
    labels = table["participant_id"].str.removeprefix("sub-")
    return table[labels.isin(wanted)]


def stream_states(unusable: Mapping[str, str], wide: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Why a stream of a person has no usable result: in the session that is used, if one is."""
    used = dict(zip(wide["participant_id"], wide["session_id"], strict=True))
    states: dict[tuple[str, str], str] = {}
    for key, why in unusable.items():
        person, session, stream = key.split(" ")
        if used.get(person, session) == session:
            states.setdefault((person, stream), why)
    return states


def _session_note(left_out: tuple[str, ...]) -> list[str]:
    if not left_out:
        return []
    shown = ", ".join(left_out[:6]) + (", ..." if len(left_out) > 6 else "")
    return [
        "the first session of each person that has measures is used; "
        f"{len(left_out)} later ones are left out ({shown})"
    ]


def people_note(people: Iterable[str]) -> list[str]:
    """Note on a run that was asked for some people only."""
    named = list(people)
    return [f"restricted to the {len(named)} people named for this run"] if named else []


class _DrawGroupInputSpec(CodedInputSpec):
    tests_file = File(exists=True, mandatory=True, desc="registry of tests")
    rows_file = File(exists=True, mandatory=True, desc="covariates and measures of the people")
    summary_file = File(exists=True, mandatory=True, desc="labels and notes, JSON")
    measures_file = File(exists=True, mandatory=True, desc="catalogue of measures, TOML")


class _DrawGroupOutputSpec(TraitedSpec):
    figure_files = OutputMultiPath(
        File(exists=True), desc="forest plot per family, then a strip plot per primary measure"
    )


class DrawGroup(CodedInterface):
    """Draw the group result; see `nodes.report.statistics`."""

    input_spec = _DrawGroupInputSpec
    output_spec = _DrawGroupOutputSpec
    _code = (forest, strip)

    def _run_interface(self, runtime):
        catalogue = read_catalogue(self.inputs.measures_file)
        summary = json.loads(Path(self.inputs.summary_file).read_text(encoding="utf-8"))
        tests = read_tests(self.inputs.tests_file)
        rows = read_table(self.inputs.rows_file)
        figures = {}
        for family in dict.fromkeys(tests["family"]):
            title = catalogue.families[family].title
            figures[f"forest_{family}"] = forest(tests[tests["family"] == family], title)
        for name in tests.loc[tests["status"] == "tested", "measure"]:
            measure = catalogue.measures[name]
            if catalogue.families[measure.family].primary:
                figures[name] = _draw_strip(rows, summary, measure)
        folder = Path(runtime.cwd)
        paths = [folder / f"{name}.png" for name in figures]
        for path, figure in zip(paths, figures.values(), strict=True):
            figure.savefig(path, bbox_inches="tight", metadata={"Software": None})
        self._results["figure_files"] = [str(path) for path in paths]
        return runtime


def _draw_strip(rows: pd.DataFrame, summary: Mapping, measure):
    """Strip plot of one measure from the table of rows as text."""
    known = rows[rows[measure.name] != MISSING]
    sites = known[summary["site"]] if summary["site"] else pd.Series("", index=known.index)
    order = (summary["reference"], summary["case"])
    values = known[measure.name].astype(float)
    return strip(values, known[summary["group"]], sites, measure, order)


TEST_WORDS = (
    "family", "measure", "label", "unit", "contrast", "model", "coding", "n_per_site",
    "missing_per_site", "missing", "status", "reason", "notes",
)  # fmt: skip

COUNTS = ("n", "n_case", "n_control", "n_missing", "df")


def read_tests(path: str | Path) -> pd.DataFrame:
    """``group/tests.tsv`` with its numbers as numbers."""
    tests = read_numbers(path, TEST_WORDS)
    return tests.astype(dict.fromkeys(COUNTS, "Int64"))


class _WritePageInputSpec(CodedInputSpec):
    tests_file = File(exists=True, mandatory=True, desc="registry of tests")
    rows_file = File(exists=True, mandatory=True, desc="covariates and measures of the people")
    excluded_file = File(exists=True, mandatory=True, desc="people in no model, and why")
    summary_file = File(exists=True, mandatory=True, desc="labels, coding and notes, JSON")
    figure_files = InputMultiPath(File(exists=True), mandatory=True, desc="figures, PNG")
    measures_file = File(exists=True, mandatory=True, desc="catalogue of measures, TOML")
    template_file = File(exists=True, mandatory=True, desc="Jinja template of the page")
    overlap_picture_file = File(exists=True, desc="overlap of the spectroscopy voxels, PNG")
    overlap_info_file = File(exists=True, desc="sidecar of that overlap, JSON")
    version = traits.Str(mandatory=True, desc="version of this program")


class _WritePageOutputSpec(TraitedSpec):
    page_file = File(exists=True, desc="the result page, one HTML file that works offline")


class WritePage(CodedInterface):
    """Write the result page; see `nodes.stats.page`."""

    input_spec = _WritePageInputSpec
    output_spec = _WritePageOutputSpec
    _code = (sections, render, missing_list, single_notes, overlap_caption)

    def _run_interface(self, runtime):
        given = self.inputs
        catalogue = read_catalogue(given.measures_file)
        summary = json.loads(Path(given.summary_file).read_text(encoding="utf-8"))
        tests, rows = read_tests(given.tests_file), read_table(given.rows_file)
        excluded = read_table(given.excluded_file)
        names, cells = _cell_table(rows, summary)
        page = render(
            Path(given.template_file).read_text(encoding="utf-8"),
            **{key: summary[key] for key in ("case", "reference", "formula", "coding", "dropped")},
            notes=summary["notes"],
            implausible=summary["implausible"],
            n_people=len(rows),
            counts=", ".join(f"{n} {name}" for name, n in rows[summary["group"]].value_counts(
                sort=False).items()),
            cell_names=names,
            cells=cells,
            sections=sections(tests, catalogue, _pictures(given.figure_files, catalogue)),
            excluded=list(excluded.itertuples(index=False, name=None)),
            missing=missing_list(tests),
            single_notes=single_notes(tests, [*summary["notes"], *summary["dropped"]]),
            overlap=self._overlap(),
            version=given.version,
        )  # fmt: skip
        self._results["page_file"] = write_text(Path(runtime.cwd) / "group.html", page)
        return runtime

    def _overlap(self) -> tuple[str, str] | None:
        """Caption and data URI of the overlap of voxels; None where nobody has one."""
        if not isdefined(self.inputs.overlap_picture_file):
            return None
        info = json.loads(Path(self.inputs.overlap_info_file).read_text(encoding="utf-8"))
        keys = ("NumberOfPeople", "LargestOverlap", "LargestOverlapAt")
        caption = overlap_caption(*(info[key] for key in keys))
        return caption, data_uri(Path(self.inputs.overlap_picture_file).read_bytes())


def _cell_table(rows: pd.DataFrame, summary: Mapping) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of people per site and group."""
    groups = [summary["case"], summary["reference"]]
    site = summary["site"]
    sites = rows[site] if site else pd.Series("all", index=rows.index)
    counts = pd.crosstab(sites, rows[summary["group"]]).reindex(columns=groups, fill_value=0)
    body = [
        [str(name), *map(str, line)]
        for name, line in zip(counts.index, counts.values, strict=True)
    ]
    return [site or "", *groups], body


def _pictures(paths: Iterable[str], catalogue: Catalogue) -> dict[str, list[tuple[str, bytes]]]:
    """Figures by family, each with its caption."""
    found: dict[str, list[tuple[str, bytes]]] = {}
    for path in map(Path, paths):
        name = path.stem
        if name.startswith("forest_"):
            family = name.removeprefix("forest_")
            caption = (
                "Adjusted, standardised differences with 95 % limits; "
                f"orange where q is below {Q_FOUND:g}"
            )
        else:
            measure = catalogue.describe(name)
            family, caption = measure.family, f"{measure.label}: every person, not adjusted"
        found.setdefault(family, []).append((caption, path.read_bytes()))
    return found


class _DescribeColumnsInputSpec(CodedInputSpec):
    columns_file = File(exists=True, mandatory=True, desc="what columns mean, TOML")
    measures_file = File(exists=True, mandatory=True, desc="catalogue of measures, TOML")
    wide_file = File(exists=True, mandatory=True, desc="features_wide.tsv")
    tests_file = File(exists=True, mandatory=True, desc="tests.tsv")
    summary_file = File(exists=True, mandatory=True, desc="labels, coding and notes, JSON")


class _DescribeColumnsOutputSpec(TraitedSpec):
    features_json = File(exists=True, desc="columns of features.tsv")
    wide_json = File(exists=True, desc="columns of features_wide.tsv")
    tests_json = File(exists=True, desc="columns of tests.tsv")
    design_json = File(exists=True, desc="columns of design.tsv")
    excluded_json = File(exists=True, desc="columns of excluded.tsv")
    attrition_json = File(exists=True, desc="columns of attrition.tsv")


class DescribeColumns(CodedInterface):
    """Write the JSON beside each table of the group level."""

    input_spec = _DescribeColumnsInputSpec
    output_spec = _DescribeColumnsOutputSpec
    _code = (parse_catalogue, parse_table)

    def _run_interface(self, runtime):
        declared = tomllib.loads(Path(self.inputs.columns_file).read_text(encoding="utf-8"))
        catalogue = read_catalogue(self.inputs.measures_file)
        summary = json.loads(Path(self.inputs.summary_file).read_text(encoding="utf-8"))
        columns = {
            name: {key: {"Description": text} for key, text in declared[table].items()}
            for name, table in (
                ("features", "features"), ("wide", "features_wide"), ("tests", "tests"),
                ("design", "design"), ("excluded", "excluded"), ("attrition", "attrition"),
            )
        }  # fmt: skip
        tested = read_table(self.inputs.tests_file).columns
        columns["tests"] = {name: columns["tests"][name] for name in tested}
        for name in read_table(self.inputs.wide_file).columns[2:]:
            measure = catalogue.describe(name)
            columns["wide"][name] = {"Description": measure.description, "Units": measure.unit}
        for name, text in summary["columns"].items():
            columns["design"][name] = {"Description": text}
        for name, entries in columns.items():
            text = json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
            stem = "features_wide" if name == "wide" else name
            path = write_text(Path(runtime.cwd) / f"{stem}.json", text)
            self._results[f"{name}_json"] = path
        return runtime


AT_ROOT = (
    "features.tsv",
    "features.json",
    "features_wide.tsv",
    "features_wide.json",
    "group.html",
    "analyses.html",
)


def delivered_name(path: str | Path, below: str = "group") -> str:
    """Where a file of the group level goes, below the output folder."""
    name = Path(path).name
    if name in AT_ROOT:
        return name
    if name.startswith("table-"):
        return f"{below}/tables/{name}"
    return f"{below}/figures/{name}" if name.endswith(".png") else f"{below}/{name}"


class _DeliverInputSpec(CodedInputSpec):
    in_files = traits.List(File(exists=True), mandatory=True, desc="results of the group level")
    out_folder = traits.Str(mandatory=True, desc="output folder of the run")
    below = traits.Str("group", usedefault=True, desc="folder in it")


class _DeliverOutputSpec(TraitedSpec):
    out_files = OutputMultiPath(File(exists=True), desc="the files in the output folder")


class Deliver(CodedInterface):
    """Put results in the output folder, each whole or not at all; drop what older runs drew."""

    input_spec = _DeliverInputSpec
    output_spec = _DeliverOutputSpec
    _code = (parse_table,)

    def _run_interface(self, runtime):
        folder, below = Path(self.inputs.out_folder), self.inputs.below
        targets = [folder / delivered_name(path, below) for path in self.inputs.in_files]
        pairs = zip(self.inputs.in_files, targets, strict=True)
        put_all({target: partial(shutil.copyfile, source) for source, target in pairs})
        patterns = ("figures/*.png", "tables/table-*", "desc-voxel_overlap.*")
        ours = {path for pattern in patterns for path in folder.glob(f"{below}/{pattern}")}
        for old in ours - set(targets):
            remove(old)
        self._results["out_files"] = [str(target) for target in targets]
        return runtime
