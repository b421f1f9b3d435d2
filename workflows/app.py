"""The two analysis levels from settings to exit code."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table

from alsflow import __version__
from alsflow.interfaces import bids
from alsflow.nodes.errors import BadInputError, MissingProgramError
from alsflow.workflows import exits
from alsflow.workflows.cache import exclusive, write_text
from alsflow.workflows.exits import StopRunError
from alsflow.workflows.manifest import Entry, Manifest
from alsflow.workflows.settings import Settings, as_toml

logger = logging.getLogger("alsflow")

BIDS_VERSION = "1.10.0"
BIDSIGNORE = """\
*.html
*_measures.tsv
*_morph.tsv
*_qc.json
*_vbm.nii.gz
*_xfm.*
features*.tsv
figures/
group/
logs/
manifest.json
status.tsv
sub-*/figures/
sub-*/ses-*/figures/
"""
ERRORS_SHOWN = 10
SYMBOLS = {"not-run": "will run", "absent": "missing", "refused": "refused"}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
           "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "NUMBA_NUM_THREADS")  # fmt: skip


def run(settings: Settings, dry_run: bool = False, verbose: bool = False) -> int:
    """Run one analysis level; returns the exit code."""
    check_output_place(settings)
    try:
        for warning in bids.check_folder(settings.bids_dir, settings.skip_bids_validation):
            warn(warning)
        if settings.analysis_level == "group":
            return run_group(settings, dry_run)
        return run_participants(settings, dry_run, verbose)
    except bids.InvalidDatasetError as error:
        raise StopRunError(exits.INVALID_DATASET, str(error)) from None
    except bids.NothingSelectedError as error:
        raise StopRunError(exits.NOTHING_SELECTED, str(error)) from None
    except MissingProgramError as error:
        raise StopRunError(exits.FAILED, str(error)) from None


def run_participants(settings: Settings, dry_run: bool, verbose: bool) -> int:
    """Run the participant level."""
    from alsflow.workflows.participant import REQUIRES, init_participant_wf, requirements

    queries = sorted({query for stream in settings.modalities for query in REQUIRES[stream]})
    selection = bids.select_visits(
        settings.bids_dir,
        settings.participant_label,
        settings.session_label,
        queries,
        settings.bids_filters,
    )
    visits = selection.visits
    if verbose:
        tell_selection(selection, settings.bids_dir)
    validate(settings, sorted({visit.participant for visit in visits}), settings.modalities)
    warn_about_participants(settings, visits)
    entries = requirements(visits, settings.modalities)
    if dry_run:
        show_requirements(visits, entries)
        return exits.OK if all(e.state == "not-run" for e in entries) else _needed(entries)
    settings = with_threads(settings, len(visits))
    prepare_output(settings)
    workflow = init_participant_wf(visits, entries, settings)
    by_key = {(visit.participant, visit.session): visit for visit in visits}

    def requested(entry: Entry) -> dict[str, Path]:
        outputs = import_module("alsflow.workflows.outputs")
        visit = by_key[entry.participant, entry.session]
        return outputs.requested(visit, entry.stream, settings)

    def report(manifest: Manifest) -> None:
        import_module("alsflow.workflows.report").write_reports(settings, visits, manifest)

    manifest = Manifest(settings.output_dir, entries, requested, __version__)
    locks = [visit.name for visit in visits]
    return _execute(workflow, settings, manifest, locks, verbose, report)


def run_group(settings: Settings, dry_run: bool) -> int:
    """Run the group level on what the participant level has left in the output folder."""
    if not any(settings.output_dir.glob("sub-*")):
        raise StopRunError(
            exits.INPUT_MISSING,
            f"{settings.output_dir} holds no results of people; run the participant level first.",
        )
    validate(settings, (), ())
    if dry_run:
        count = len(list(settings.output_dir.rglob("*_measures.tsv")))
        print(f"The group level would read {count} tables of measures in {settings.output_dir}.")
        return exits.OK
    settings = with_threads(settings, 1)
    prepare_output(settings)
    entry = Entry("", None, "group")
    manifest = Manifest(settings.output_dir, [entry], lambda _: {}, __version__)
    try:
        workflow = import_module("alsflow.workflows.group").init_group_wf(settings)
    except BadInputError as error:
        entry.state, entry.reason = "refused", str(error)
        manifest.write()
        raise StopRunError(exits.DATA, str(error)) from None
    return _execute(workflow, settings, manifest, ["group"], False, None)


def _execute(
    workflow,
    settings: Settings,
    manifest: Manifest,
    locks: Sequence[str],
    verbose: bool,
    report: Callable[[Manifest], None] | None,
) -> int:
    """Run the graph, write the reports, say what came of it."""
    from alsflow.workflows import execute
    from alsflow.workflows.progress import Progress

    with execute.exclusively(settings, locks), execute.logged(execute.log_file(settings)):
        manifest.start()
        reason = "the run ended before it"
        try:
            if workflow.list_node_names():
                with Progress(manifest, settings.nprocs, verbose=verbose) as progress:
                    execute.run(workflow, settings, [manifest, progress])
        finally:
            manifest.close(reason)
        if report is not None:
            _report(report, manifest)
    return _conclude(settings, manifest)


def _report(report: Callable[[Manifest], None], manifest: Manifest) -> None:
    try:
        report(manifest)
    except Exception:  # a page must not hide the results; the failure is in the exit code
        logger.exception("report pages")
        manifest.note_failure(Entry("", None, "report"), "report", traceback.format_exc())


def _conclude(settings: Settings, manifest: Manifest) -> int:
    counts: dict[str, int] = {}
    for entry in manifest.entries:
        counts[entry.state] = counts.get(entry.state, 0) + 1
        if entry.state in ("refused", "absent", "failed", "not-run"):
            warn(f"{entry.stream}: {entry.state}: {entry.reason}")
    total = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
    print(f"alsflow: {total}. See {settings.output_dir / 'status.tsv'}.", file=sys.stderr)
    return manifest.exit_code


def _needed(entries: Sequence[Entry]) -> int:
    """Exit code that the unmet requirements alone would give."""
    return exits.DATA if any(e.state == "refused" for e in entries) else exits.INPUT_MISSING


def warn(text: str) -> None:
    """One sentence on standard error."""
    print(f"alsflow: {text}", file=sys.stderr)


# ---------------------------------------------------------------------------- before the run


def check_output_place(settings: Settings) -> None:
    """Refuse to write into the input dataset, or over a raw one."""
    bids_dir, output_dir = settings.bids_dir, settings.output_dir
    for name, folder in (("output folder", output_dir), ("working directory", settings.work_dir)):
        if folder.is_relative_to(bids_dir):
            inside = folder.relative_to(bids_dir).parts
            if len(inside) < 2 or inside[0] != "derivatives":
                raise StopRunError(
                    exits.CANNOT_CREATE,
                    f"The {name} {folder} lies inside the dataset {bids_dir}; choose one outside "
                    f"it, or {bids_dir / 'derivatives' / 'alsflow'}.",
                )
    description = output_dir / "dataset_description.json"
    if description.is_file():
        try:
            kind = json.loads(description.read_text(encoding="utf-8")).get("DatasetType", "raw")
        except (OSError, ValueError, AttributeError):
            kind = "unknown"
        if kind == "raw":
            raise StopRunError(
                exits.CANNOT_CREATE,
                f"The output folder {output_dir} is a raw dataset; choose another one.",
            )


def validate(settings: Settings, participants: Sequence[str], datatypes: Sequence[str]) -> None:
    """Stop at errors of the BIDS validator in what this run reads."""
    if settings.skip_bids_validation:
        return
    result = bids.validate(settings.bids_dir, participants, datatypes)
    if result.elsewhere:
        warn(
            f"the BIDS validator found {result.elsewhere} errors in files that this run does not "
            "read."
        )
    if result.errors:
        shown = "\n  ".join(result.errors[:ERRORS_SHOWN])
        more = len(result.errors) - ERRORS_SHOWN
        more_text = f"\n  and {more} more" if more > 0 else ""
        raise StopRunError(
            exits.INVALID_DATASET,
            f"{settings.bids_dir} is not valid BIDS ({result.version}); mend these, or give "
            f"--skip-bids-validation:\n  {shown}{more_text}",
        )


def warn_about_participants(settings: Settings, visits: Sequence[bids.Visit]) -> None:
    """People who are not in participants.tsv can be processed, but not enter the group level."""
    listed = bids.participants_listed(settings.bids_dir)
    if listed is None:
        warn(f"{settings.bids_dir} has no participants.tsv; the group level will need one.")
        return
    missing = sorted({visit.participant for visit in visits} - listed)
    if missing:
        names = ", ".join(f"sub-{label}" for label in missing)
        warn(f"participants.tsv does not list {names}; the group level will have n/a for them.")


def with_threads(settings: Settings, visits: int) -> Settings:
    """Decide the threads of one process, in the settings and in the environment."""
    spare = max(1, settings.nprocs // max(1, visits))
    settings = replace(settings, omp_nthreads=settings.omp_nthreads or spare)
    for name in THREADS:  # read by the worker processes, which start later
        os.environ[name] = str(settings.omp_nthreads)
    return settings


def tell_selection(selection: bids.Selection, bids_dir: Path) -> None:
    """Every file that will be read, and every file that a rule left out."""
    for visit in selection.visits:
        for query, paths in visit.files.items():
            for path in paths:
                print(f"selected  {path.relative_to(bids_dir)}  ({query})", file=sys.stderr)
    for entry in selection.rejected:
        print(f"rejected  {entry.path.relative_to(bids_dir)}  ({entry.rule})", file=sys.stderr)


def show_requirements(visits: Sequence[bids.Visit], entries: Sequence[Entry]) -> None:
    """Table of what was found, what is missing and what will run."""
    table = Table("visit", "stream", "found", "what happens", "reason")
    for visit in visits:
        found = ", ".join(path.name for paths in visit.files.values() for path in paths) or "none"
        for entry in entries:
            if entry.belongs_to(visit):
                state = SYMBOLS[entry.state]
                table.add_row(visit.prefix, entry.stream, found, state, entry.reason or "")
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)
    ready = sum(entry.state == "not-run" for entry in entries)
    print(f"{ready} of {len(entries)} streams would run; nothing was written.")


def prepare_output(settings: Settings) -> None:
    """Make the folders, and the files that describe the dataset and the run."""
    from alsflow.workflows.execute import run_name

    for folder in (settings.output_dir / "logs", settings.work_dir):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".{os.getpid()}.probe"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StopRunError(
                exits.CANNOT_CREATE,
                f"{folder} cannot be written ({error.strerror}); choose another folder or change "
                "its permissions.",
            ) from None
    with exclusive(settings.output_dir / "logs" / ".lock"):
        write_text(settings.output_dir / ".bidsignore", BIDSIGNORE)
        text = json.dumps(description(settings), indent=2) + "\n"
        write_text(settings.output_dir / "dataset_description.json", text)
        write_text(settings.output_dir / "logs" / f"{run_name(settings)}.toml", as_toml(settings))


def description(settings: Settings) -> dict:
    """Content of the dataset_description.json of the derivatives."""
    source = {}
    raw = settings.bids_dir / "dataset_description.json"
    if raw.is_file():
        try:
            source = json.loads(raw.read_text(encoding="utf-8-sig"))
        except ValueError:
            source = {}
    entry = {"URL": settings.bids_dir.as_uri()}
    if source.get("DatasetDOI"):
        entry["DOI"] = str(source["DatasetDOI"])
    checked = f"BIDS files checked by {bids.validator_version()}"
    skipped = "BIDS validation was skipped"
    generated = {
        "Name": "alsflow",
        "Version": __version__,
        "Description": skipped if settings.skip_bids_validation else checked,
    }
    return {
        "Name": f"alsflow - {source.get('Name', 'derivatives')}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [generated],
        "SourceDatasets": [entry],
    }
