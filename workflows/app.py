"""The two analysis levels from settings to exit code."""

from __future__ import annotations

import errno
import logging
import os
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from nipype.pipeline.engine import Workflow

from alsflow import __version__
from alsflow.interfaces import bids
from alsflow.interfaces.bids import Visit
from alsflow.nodes.errors import BadInputError, MissingProgramError
from alsflow.workflows import exits, forecast
from alsflow.workflows.checks import (
    check_output_place,
    check_work_place,
    show_requirements,
    tell_selection,
    validate,
    warn,
    warn_about_participants,
)
from alsflow.workflows.clean import clean_work_dir
from alsflow.workflows.derivatives import prepare_output
from alsflow.workflows.exits import StopRunError
from alsflow.workflows.machine import exceeded, limit_threads, limits
from alsflow.workflows.manifest import (
    DISK_FULL,
    FILES_SENTENCE,
    REPORT,
    Entry,
    Key,
    Manifest,
    counted,
    disk_sentence,
    exit_code,
)
from alsflow.workflows.settings import Settings

logger = logging.getLogger("alsflow")


def run(
    settings: Settings,
    dry_run: bool = False,
    verbose: bool = False,
    why: bool = False,
    clean: bool = False,
) -> int:
    """Run one analysis level; returns the exit code."""
    with in_words(settings):
        check_places(settings)
        if clean and not dry_run:
            clean_work_dir(settings)
        if settings.analysis_level == "group":
            return run_group(settings, dry_run, why)
        return run_participants(settings, dry_run, verbose, why)


def check_places(settings: Settings) -> None:
    """Refuse folders that are no dataset, or that must not be written."""
    check_output_place(settings)
    check_work_place(settings)
    for warning in bids.check_folder(settings.bids_dir, settings.skip_bids_validation):
        warn(warning)


@contextmanager
def in_words(settings: Settings) -> Iterator[None]:
    """Turn what can go wrong outside the graph into a sentence and an exit code."""
    try:
        yield
    except bids.InvalidDatasetError as error:
        raise StopRunError(exits.INVALID_DATASET, str(error)) from None
    except bids.NothingSelectedError as error:
        raise StopRunError(exits.NOTHING_SELECTED, str(error)) from None
    except MissingProgramError as error:
        raise StopRunError(exits.FAILED, str(error)) from None
    except OSError as error:  # while the driver itself was reading or writing
        stop = _sentence(error, settings)
        if stop is None:
            raise
        raise stop from None


def _sentence(error: OSError, settings: Settings) -> StopRunError | None:
    """Put a full disk and missing permissions into words."""
    folders = (settings.output_dir, settings.work_dir)
    if error.errno in DISK_FULL:
        return StopRunError(exits.FAILED, disk_sentence(str(error), folders))
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return StopRunError(exits.FAILED, FILES_SENTENCE)
    if not error.filename:
        return None
    path = Path(os.fsdecode(error.filename))
    folder = next((folder for folder in folders if path.is_relative_to(folder)), None)
    if folder is not None:
        return StopRunError(
            exits.CANNOT_CREATE, f"{path} cannot be written ({error.strerror}); {_mend(error)}"
        )
    if isinstance(error, PermissionError):
        return StopRunError(
            exits.INVALID_DATASET,
            f"{path} cannot be read ({error.strerror}); change its permissions.",
        )
    return None


def _mend(error: OSError) -> str:
    """What to do about a file of ours that cannot be written."""
    if isinstance(error, FileNotFoundError):
        return "was its folder removed in mid-run? Start the run again: finished steps are kept."
    if isinstance(error, IsADirectoryError | NotADirectoryError | FileExistsError):
        return "remove what lies there, or choose another folder, and start the run again."
    if isinstance(error, PermissionError):
        return "change its permissions."
    return "see whether its disk is still there, and start the run again: finished steps are kept."


@dataclass(frozen=True)
class Plan:
    """What a run of the participant level would do."""

    settings: Settings
    visits: list[bids.Visit]
    entries: list[Entry]


def plan_participants(settings: Settings, verbose: bool = False) -> Plan:
    """Select and check everything before anything is computed or written."""
    from alsflow.workflows import participant

    streams = participant.streams_asked(settings)
    selection = bids.select_visits(
        settings.bids_dir,
        settings.participant_label,
        settings.session_label,
        participant.queries_of(streams),
        settings.bids_filters,
    )
    visits = list(selection.visits)
    if "mrs" in streams:
        with _usage():
            visits, warnings = participant.with_results(visits, settings)
        for warning in () if settings.streams_found else warnings:  # of others, in a part
            warn(warning)
    named = bool(settings.modalities)
    if not named:
        streams = settings.streams_found or participant.streams_present(visits, streams)
    settings = participant.tied(replace(settings, modalities=streams))
    _check_streams(settings)
    tell_selection(selection, settings.bids_dir, verbose)
    validate(settings, sorted({visit.participant for visit in visits}), streams)
    warn_about_participants(settings, visits)
    return Plan(settings, visits, participant.requirements(visits, streams, named))


def _show_expected(plan: Plan) -> None:
    """Say how long the run would take and how much memory it would hold."""
    expectation = import_module("alsflow.workflows.expectation")
    found = expectation.cohort(plan.visits, plan.entries, plan.settings)
    if text := found.text(plan.settings):
        print(text)
    if found.unknown:
        print(f"Nothing can be expected of {', '.join(found.unknown)}.")


def run_participants(settings: Settings, dry_run: bool, verbose: bool, why: bool = False) -> int:
    """Run the participant level."""
    from alsflow.workflows import participant

    plan = plan_participants(settings, verbose)
    settings, visits, entries = plan.settings, plan.visits, plan.entries
    sizes = forecast.forecast(visits, entries, settings)
    if dry_run:
        if why:
            _explain(lambda: participant.init_participant_wf(visits, entries, settings), settings)
        show_requirements(visits, entries)
        print(forecast.sentence(forecast.of_run(sizes.values(), settings.nprocs), settings))
        _show_expected(plan)
        return _needed(entries)
    settings = with_threads(settings, len(visits))
    prepare_output(settings)
    if shortage := forecast.shortage(sizes, settings):
        warn(shortage)

    def requested(entry: Entry) -> dict[str, Path]:
        outputs = import_module("alsflow.workflows.outputs")
        visit = next(visit for visit in visits if entry.belongs_to(visit))
        return outputs.requested(visit, entry.stream, settings)

    def withdraw() -> None:
        outputs = import_module("alsflow.workflows.outputs")
        for entry in entries:
            if entry.state == "refused":  # an older result would be read as this one
                outputs.withdraw(Visit(entry.participant, entry.session), entry.stream, settings)

    def report(manifest: Manifest) -> None:
        import_module("alsflow.workflows.report").write_reports(settings, visits, manifest)

    manifest = Manifest(settings, entries, requested, __version__)
    return _execute(
        lambda: participant.init_participant_wf(visits, entries, settings),
        settings,
        manifest,
        locks=[visit.name for visit in visits],
        verbose=verbose,
        report=report,
        why=why,
        withdraw=withdraw,
    )


def _check_streams(settings: Settings) -> None:
    """Stop at settings that would refuse everybody, before hours of other streams have run."""
    for stream in ("mrs", "func"):
        if stream in settings.modalities:
            with _usage():
                import_module(f"alsflow.workflows.{stream}").check_settings(settings)


@contextmanager
def _usage() -> Iterator[None]:
    """What is refused here is a mistake of the command, not of the data."""
    try:
        yield
    except BadInputError as error:
        raise StopRunError(exits.USAGE, f"{str(error).removesuffix('.')}.") from None


def check_group(settings: Settings, alone: bool = True) -> None:
    """Check the group level; unless it runs `alone`, results of people need not be there yet."""
    if alone and not any(settings.output_dir.glob("sub-*")):
        raise StopRunError(
            exits.INPUT_MISSING,
            f"{settings.output_dir} holds no results of people; run the participant level first.",
        )
    with _usage():
        import_module("alsflow.workflows.analyses").check_analyses(settings)
    validate(settings, (), ())


def run_group(settings: Settings, dry_run: bool, why: bool = False) -> int:
    """Run the group level on what the participant level has left in the output folder."""
    check_group(settings)
    if dry_run:
        count = len(list(settings.output_dir.rglob("*_measures.tsv")))
        print(f"The group level would read {count} tables of measures in {settings.output_dir}.")
        if why:
            with _usage():
                _explain(
                    lambda: import_module("alsflow.workflows.group").init_group_wf(settings),
                    settings,
                )
        return exits.OK
    settings = with_threads(settings, 1)
    prepare_output(settings)
    entry = Entry("", None, "group")
    group = import_module("alsflow.workflows.group")
    manifest = Manifest(settings, [entry], lambda _: group.requested_group(settings), __version__)

    def init() -> Workflow:
        try:
            return group.init_group_wf(settings)
        except BadInputError as error:
            entry.state, entry.reason = "refused", str(error)
            return Workflow(name="group_wf")

    def withdraw() -> None:
        if entry.state != "done":
            group.withdraw_group(settings)  # an older result would be read as this one

    def report(manifest: Manifest) -> None:
        import_module("alsflow.workflows.report").write_index(settings, manifest)

    return _execute(
        init,
        settings,
        manifest,
        locks=["group"],
        report=report,
        why=why,
        withdraw=withdraw,
    )


def _execute(
    init: Callable[[], Workflow],
    settings: Settings,
    manifest: Manifest,
    locks: Sequence[str],
    verbose: bool = False,
    report: Callable[[Manifest], None] | None = None,
    why: bool = False,
    withdraw: Callable[[], None] | None = None,
) -> int:
    """Build and run the graph, write the reports, say what came of it."""
    from alsflow.workflows import execute
    from alsflow.workflows.leftovers import sweep
    from alsflow.workflows.progress import Progress
    from alsflow.workflows.why import History, Why

    with execute.exclusively(settings, locks), execute.logged(execute.log_file(settings)):
        logger.info("may use %s; the run uses %d processes, %d MB, %d threads each",
                    limits().text, settings.nprocs, settings.mem_mb,
                    settings.omp_nthreads)  # fmt: skip
        at_once = settings.slurm.max_jobs if settings.plugin == "slurm" else settings.nprocs
        reasons = Why(History.read(settings))
        progress = Progress(manifest, at_once, verbose=verbose, why=reasons.of if why else None)
        sweep(settings, manifest.entries)
        manifest.start()
        try:
            with execute.recalled(settings):
                workflow = init()
            if workflow.list_node_names():
                with progress:
                    execute.run(workflow, settings, [manifest, progress], reasons)
        finally:
            manifest.close("the run ended before it")
        if withdraw is not None:
            withdraw()
        if report is not None:
            _report(report, manifest)
    return _conclude(settings, manifest, progress.told)


def _explain(init: Callable[[], Workflow], settings: Settings) -> None:
    """Say which steps would run and why."""
    from alsflow.workflows import execute

    with execute.recalled(settings, note=False):
        workflow = init()
    if workflow.list_node_names():
        print(execute.explained(workflow, settings))


def _report(report: Callable[[Manifest], None], manifest: Manifest) -> None:
    try:
        report(manifest)
    except Exception:  # a page must not hide the results; the failure is in the exit code
        logger.exception("report pages")
        manifest.note_failure(Entry(*REPORT), "writing the pages", traceback.format_exc())


def _conclude(settings: Settings, manifest: Manifest, told: Collection[Key]) -> int:
    """Say what was not said while the run went on, and give its exit code."""
    counts: dict[str, int] = {}
    for entry in manifest.entries:
        counts[entry.state] = counts.get(entry.state, 0) + 1
        if entry.state != "done" and entry.key not in told:
            warn(f"{entry.stream}: {entry.state}: {entry.reason}")
    total = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
    warn(f"{total}. See {settings.output_dir / 'status.tsv'}.")
    return manifest.exit_code


def _needed(entries: Sequence[Entry]) -> int:
    """Exit code that the unmet requirements alone would give."""
    return exit_code(["done", *(state for state in counted(entries) if state != "not-run")])


def with_threads(settings: Settings, visits: int) -> Settings:
    """Decide the threads of one process, in the settings and in the environment.

    What the run was given beyond what this process may use is told.
    """
    spare = max(1, settings.nprocs // max(1, visits))
    if settings.plugin == "slurm":
        spare = 1  # the processors of this machine say nothing of those of the cluster
    settings = replace(settings, omp_nthreads=settings.omp_nthreads or spare)
    if settings.plugin == "workers":  # jobs of a cluster run elsewhere
        for warning in exceeded(limits(), settings.nprocs, settings.mem_mb):
            warn(warning)
    limit_threads(settings.omp_nthreads)  # for the worker processes, which start later
    return settings
