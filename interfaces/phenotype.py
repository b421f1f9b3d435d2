"""Clinical tables of a BIDS dataset: phenotype/*.tsv, participants.tsv and sessions.tsv."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits

from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.group import read_table, write_text
from alsflow.nodes.clinical.columns import SourceTable, column_report, parse_columns, tool_of
from alsflow.nodes.clinical.options import ClinicalOptions, parse_options
from alsflow.nodes.clinical.table import clinical_table, widen_scores
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.tables import format_table

SESSIONS = "_sessions.tsv"
Reader = Callable[[Path], pd.DataFrame]


@dataclass(frozen=True)
class ClinicalFile:
    """A table that may hold clinical items, and the tools that it is known to hold."""

    path: Path
    tools: frozenset[str] = frozenset()


def find_clinical_files(bids_dir: str | Path, options: ClinicalOptions) -> list[ClinicalFile]:
    """Clinical tables of a dataset, and those that the configuration names.

    Paths in the configuration are relative to the dataset.
    """
    folder = Path(bids_dir)
    found: dict[Path, frozenset[str]] = {}
    for path in (
        folder / "participants.tsv",
        *sorted(folder.glob("phenotype/*.tsv")),
        *sorted(folder.glob(f"sub-*/sub-*{SESSIONS}")),
    ):
        if path.is_file():
            found[path] = tool_of(path.stem) if path.parent.name == "phenotype" else frozenset()
    for tool, name in [*(("", name) for name in options.files), *options.tables.items()]:
        path = folder / name
        if not file_of(path).is_file():
            key = f"tables.{tool}" if tool else "files"
            raise BadInputError(
                f"clinical.{key} names {name}, which is not in {folder}; write its path from there"
            )
        found[path] = found.get(path, frozenset()) | (frozenset({tool}) if tool else frozenset())
    return [ClinicalFile(path, tools) for path, tools in found.items()]


def file_of(path: Path) -> Path:
    """File of a table: a sheet of a workbook is named behind it, as ``file.xlsx#Sheet``."""
    return Path(str(path).partition("#")[0]) if ".xls" in path.name.casefold() else path


def read_clinical(
    files: Iterable[ClinicalFile], read: Reader = read_table, name_from: Path | None = None
) -> list[SourceTable]:
    """Read tables and the JSON beside them.

    Parameters
    ----------
    files : iterable of ClinicalFile
        As `find_clinical_files` returns them.
    read : callable
        Reader of one table as text.
    name_from : Path, optional
        Folder from which messages name the files.
    """
    sources = []
    for file in files:
        table = read(file.path)
        if file.path.name.endswith(SESSIONS):
            table = table.assign(participant_id=file.path.name.removesuffix(SESSIONS))
        inside = name_from is not None and file.path.is_relative_to(name_from)
        name = file.path.relative_to(name_from) if inside and name_from else file.path
        units, levels = _meanings(_sidecar_of(file.path))
        sources.append(SourceTable(str(name), table, file.tools, units, levels))
    return sources


def _sidecar_of(path: Path) -> Path:
    """JSON beside a table; the sessions of all people may share one at the top."""
    own = file_of(path).with_suffix(".json")
    shared = path.parent.parent / "sessions.json"
    return shared if path.name.endswith(SESSIONS) and not own.is_file() else own


def _meanings(path: Path) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Units, and meaning of codes, of the columns that a sidecar describes."""
    if not path.is_file():
        return {}, {}
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise BadInputError(f"{path} is not JSON: {problem}") from problem
    described = content.items() if isinstance(content, dict) else ()
    columns = {name: entry for name, entry in described if isinstance(entry, dict)}
    units = {name: str(entry["Units"]) for name, entry in columns.items() if entry.get("Units")}
    levels = {
        name: {str(code): _word(meaning) for code, meaning in entry["Levels"].items()}
        for name, entry in columns.items()
        if isinstance(entry.get("Levels"), dict)
    }
    return units, levels


def _word(meaning: Any) -> str:
    return str(meaning.get("Description", "")) if isinstance(meaning, Mapping) else str(meaning)


def clinical_scores(
    bids_dir: str | Path, options: ClinicalOptions | None = None, read: Reader = read_table
) -> pd.DataFrame:
    """Every clinical score of a dataset; see `nodes.clinical.table`."""
    options = options or ClinicalOptions()
    files = find_clinical_files(bids_dir, options)
    return clinical_table(read_clinical(files, read, Path(bids_dir)), options=options)


class _ScoreClinicalInputSpec(CodedInputSpec):
    bids_dir = traits.Str(mandatory=True, desc="folder from which messages name the tables")
    tables = traits.List(
        traits.Str, mandatory=True, desc="clinical tables; file.xlsx#Sheet for one sheet"
    )
    content_files = traits.List(
        File(exists=True),
        mandatory=True,
        desc="these files and their JSON: what is in them counts",
    )
    tools = traits.Dict(
        traits.Str, traits.List(traits.Str), desc="table to the tools that it holds"
    )
    options = traits.Dict(desc="settings of the table [clinical] of the configuration")


class _ScoreClinicalOutputSpec(TraitedSpec):
    scores_file = File(exists=True, desc="one row per person, session and score")
    wide_file = File(exists=True, desc="one row per person and session")
    columns_file = File(exists=True, desc="what each column was taken for")


class ScoreClinical(CodedInterface):
    """Clinical scores of everybody from their items; see `nodes.clinical.table`."""

    input_spec = _ScoreClinicalInputSpec
    output_spec = _ScoreClinicalOutputSpec
    _code = (clinical_table, parse_columns, parse_options)

    def _run_interface(self, runtime):
        given = self.inputs
        options = parse_options(given.options if isdefined(given.options) else {})
        tools = given.tools if isdefined(given.tools) else {}
        files = [ClinicalFile(Path(p), frozenset(tools.get(p, ()))) for p in given.tables]
        sources = read_clinical(files, name_from=Path(given.bids_dir))
        mapping = parse_columns(options)
        scores = clinical_table(sources, mapping, options)
        tables = {
            "scores": ("clinical_scores.tsv", scores),
            "wide": ("clinical_wide.tsv", widen_scores(scores)),
            "columns": ("clinical_columns.tsv", column_report(sources, mapping)),
        }
        for key, (name, table) in tables.items():
            path = write_text(Path(runtime.cwd) / name, format_table(table))
            self._results[f"{key}_file"] = path
        return runtime


def clinical_inputs(bids_dir: str | Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs of `ScoreClinical` for a dataset and the table ``[clinical]`` of a configuration."""
    files = find_clinical_files(bids_dir, parse_options(settings))
    contents = {file_of(file.path) for file in files}
    contents |= {path for file in files if (path := _sidecar_of(file.path)).is_file()}
    return {
        "bids_dir": str(bids_dir),
        "tables": [str(file.path) for file in files],
        "content_files": sorted(map(str, contents)),
        "tools": {str(file.path): sorted(file.tools) for file in files if file.tools},
        "options": dict(settings),
    }
