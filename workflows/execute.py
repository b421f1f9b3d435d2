"""Runs a workflow: configuration, locks, log, plugin."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from nipype.pipeline.engine import Workflow

from alsflow.interfaces import code
from alsflow.workflows import exits
from alsflow.workflows.cache import FileHashes, locked, remembered, write_text
from alsflow.workflows.keep import Keeper
from alsflow.workflows.names import visit_of
from alsflow.workflows.plugin import LOG_FORMAT, WorkersPlugin
from alsflow.workflows.resource_log import ResourceLog
from alsflow.workflows.scheduler import GraphScheduler
from alsflow.workflows.settings import Settings, as_toml
from alsflow.workflows.slurm import jobs as slurm_jobs
from alsflow.workflows.stored import portable
from alsflow.workflows.watcher import Watcher
from alsflow.workflows.why import ForecastPlugin, History, Why, described

logger = logging.getLogger("alsflow")

HASHES, CODE = "file_hashes.json", "code.json"
EXECUTION = {
    "hash_method": "content",
    "crashfile_format": "txt",
    "stop_on_first_crash": "false",
    "create_report": "false",
    "check_version": "false",
    "remove_unnecessary_outputs": "false",
    "keep_inputs": "false",
    "use_relative_paths": "false",
    "job_finished_timeout": "5",
}
MB_PER_GB = 1000


def run(
    workflow: Workflow,
    settings: Settings,
    watchers: Iterable[Watcher] = (),
    why: Why | None = None,
) -> None:
    """Compute what is not cached; what happens is told to the watchers, nothing is raised.

    Parameters
    ----------
    workflow : Workflow
        Workflow of the participant or of the group level.
    settings : Settings
        Number of processes, memory, working directory, stop at the first crash.
    watchers : iterable of Watcher
        Told of every event, in order; see `manifest.Manifest` and `progress.Progress`.
    why : Why, optional
        Says of every step that runs why; it goes to the log.
    """
    work_dir = _configured(workflow, settings)
    hashes = FileHashes(work_dir / HASHES)
    why = why or Why(History.read(settings))
    used = ResourceLog(log_file(settings).parent)
    told = (why, *watchers, used)
    plugin = _plugin(settings, hashes, told)
    plugin.explain = why.due
    _settle(workflow, settings, told)
    plugin.keeper = Keeper(settings.keep_work)
    with remembered(hashes), portable(work_dir):
        try:
            workflow.run(plugin=plugin)
        finally:
            hashes.save()
            logger.info("%.0f MB removed to save space", plugin.keeper.freed / 1e6)
            used.write()


def _plugin(settings: Settings, hashes: FileHashes, watchers: Iterable[Watcher]) -> GraphScheduler:
    """Where nodes are computed: in processes of this machine, or as jobs of a cluster."""
    work_dir = settings.work_dir.resolve()
    if settings.plugin == "slurm":
        from alsflow.workflows.slurm.plugin import Place, SlurmPlugin

        read = (settings.bids_dir.resolve(), *(p.resolve() for p in settings.derivatives.values()))
        place = Place(work_dir, (settings.output_dir.resolve(),), read)
        return SlurmPlugin(settings.slurm, place, hashes, watchers, settings.stop_on_first_crash)
    return WorkersPlugin(
        processes=settings.nprocs,
        memory_gb=settings.mem_mb / MB_PER_GB,
        hashes=hashes,
        watchers=watchers,
        log_file=str(log_file(settings)),
        folder=str(work_dir),
        stop_on_first_crash=settings.stop_on_first_crash,
    )


@contextmanager
def recalled(settings: Settings, note: bool = True) -> Iterator[None]:
    """Build a graph with what earlier runs have noted of the code, and note what is new."""
    path = settings.work_dir.resolve() / CODE
    code.recall(path)
    before = code.noted()
    yield
    if note and (now := code.noted()) != before:
        write_text(path, now)


def explained(workflow: Workflow, settings: Settings) -> str:
    """Say what `run` would compute and why; nothing is written."""
    work_dir = _configured(workflow, settings)
    hashes = FileHashes(work_dir / HASHES)
    plugin = ForecastPlugin(hashes, History.read(settings))
    with logged(Path(os.devnull)), remembered(hashes), portable(work_dir):
        workflow.run(plugin=plugin)
    return described(plugin.found)


def _configured(workflow: Workflow, settings: Settings) -> Path:
    """Tell a workflow how to run and where; returns the working directory."""
    work_dir = settings.work_dir.resolve()
    workflow.base_dir = str(work_dir)
    workflow.config["execution"].update(EXECUTION)
    return work_dir


def _settle(workflow: Workflow, settings: Settings, watchers: Iterable[Watcher]) -> None:
    """Let jobs end that an earlier run has left on a cluster, wherever this one computes."""
    work_dir = settings.work_dir.resolve()
    if not (work_dir / slurm_jobs.FOLDER / slurm_jobs.ACTIVE).exists():
        return
    names = [f"{workflow.name}.{name}" for name in workflow.list_node_names()]

    def say(text: str) -> None:
        for watcher in watchers:
            watcher.said(text)

    slurm_jobs.settle(work_dir, set(map(visit_of, names)), settings.slurm.poll, say)


def run_name(settings: Settings) -> str:
    """Name of a run: the same settings give the same name, others another."""
    digest = hashlib.sha256(as_toml(settings).encode()).hexdigest()[:8]
    return f"{settings.analysis_level}-{digest}"


def log_file(settings: Settings) -> Path:
    """Where the details of a run are written."""
    return settings.output_dir.resolve() / "logs" / f"{run_name(settings)}.log"


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Send the messages of Nipype and of this program to a file, and no longer to the screen."""
    path.write_bytes(b"")
    # workers write to the same file: whoever does not append writes over the lines of others
    handler = logging.FileHandler(path, mode="a", encoding="utf-8")
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    loggers = [logging.getLogger(name) for name in ("nipype", "alsflow")]
    before = [(logger.handlers[:], logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        handler.close()


@contextmanager
def exclusively(settings: Settings, names: Sequence[str]) -> Iterator[None]:
    """Keep two runs from computing, or delivering, the same visit at one time.

    The locks are the system's: they vanish with the process, whatever ends it.

    Parameters
    ----------
    settings : Settings
        Names the working directory and the output folder.
    names : sequence of str
        Parts of both that this run must have for itself.
    """
    work_dir, output_dir = settings.work_dir.resolve(), settings.output_dir.resolve()
    places = {
        work_dir / "locks": f"in the working directory {work_dir}; wait for it, or give this run "
        "its own with --work-dir.",
        output_dir / "logs" / "locks": f"into the output folder {output_dir}; wait for it, or "
        "choose another folder.",
    }
    with ExitStack() as stack:
        for folder, words in places.items():
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                handle = stack.enter_context(open(folder / f"{name}.lock", "a"))
                if not locked(handle, wait=False):
                    raise exits.StopRunError(
                        exits.CANNOT_CREATE, f"Another run is computing {name} {words}"
                    )
        yield
