"""Jobs that are in the queue, kept in the working directory so that they outlive the driver.

A driver that is killed leaves its jobs behind. The next one on the same visits finds them here: it
cancels what is still pending and waits for what is running, so that nothing is computed twice at
one time, and nothing that is nearly done is thrown away.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from alsflow.interfaces import slurm
from alsflow.nodes.errors import MissingProgramError
from alsflow.workflows import exits
from alsflow.workflows.cache import exclusive, write_text

FOLDER, ACTIVE = "jobs", "active.json"
PATIENCE = 15.0  # s for cancelled jobs to leave the queue


@dataclass(frozen=True)
class Entry:
    """One job of one driver."""

    name: str  # that no other job has
    job: str  # id; empty while it is being submitted
    visit: str
    folder: str


class ActiveJobs:
    """The jobs of all drivers on a working directory.

    Parameters
    ----------
    work_dir : Path
        Working directory.
    """

    def __init__(self, work_dir: Path):
        self.folder = work_dir / FOLDER
        self._path = self.folder / ACTIVE

    def put(self, entry: Entry) -> None:
        """Note a job, before and after it is submitted."""
        self._change(lambda known: {**known, entry.name: entry})

    def drop(self, names: Iterable[str]) -> None:
        """Forget jobs that have ended."""
        gone = set(names)
        if gone:
            self._change(lambda known: {k: v for k, v in known.items() if k not in gone})

    def of(self, visits: Collection[str]) -> list[Entry]:
        """Jobs on some visits."""
        return [entry for entry in self._read().values() if entry.visit in visits]

    def _change(self, change: Callable[[dict[str, Entry]], dict[str, Entry]]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with exclusive(self.folder / ".lock"):
            known = change(self._read())
            if known:
                content = [asdict(entry) for entry in known.values()]
                write_text(self._path, json.dumps(content, indent=1))
            else:  # whoever sees the file knows that there are jobs
                self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Entry]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            return {entry["name"]: Entry(**entry) for entry in content}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise exits.StopRunError(
                exits.FAILED,
                f"{self._path} says which jobs an earlier run has left in the queue, but cannot "
                f"be read ({error}); look at squeue, cancel them and delete the file.",
            ) from None


def settle(
    work_dir: Path,
    visits: Collection[str],
    poll: float,
    say: Callable[[str], None],
) -> None:
    """End what earlier drivers have left in the queue for some visits.

    Pending jobs are cancelled, running ones waited for. Whoever calls this has the visits for
    itself, so no driver of these jobs is alive.

    Parameters
    ----------
    work_dir : Path
        Working directory.
    visits : collection of str
        As `visit_of` gives them.
    poll : float
        Seconds between two questions to the queue.
    say : callable
        Tells the person at the keyboard.
    """
    active = ActiveJobs(work_dir)
    left = active.of(visits)
    if left:
        try:
            _end(left, active, poll, say)
        except MissingProgramError as error:
            raise exits.StopRunError(
                exits.FAILED,
                f"An earlier run has left jobs on the cluster ({_ids(left)}). {error}",
            ) from None
    for visit in visits:  # of jobs that have ended
        shutil.rmtree(active.folder / visit, ignore_errors=True)


def _end(left: list[Entry], active: ActiveJobs, poll: float, say: Callable[[str], None]) -> None:
    told: set[str] = set()

    def say_once(key: str, text: str) -> None:
        if key not in told:
            say(text)
        told.add(key)

    while left:
        try:
            left = _with_ids(left, active)
            states = slurm.states([entry.job for entry in left])
        except slurm.UnreachableError:
            states = None
        if states is None:
            say_once("silent", "The Slurm controller does not answer; waiting to hear of jobs of "
                               "an earlier run.")  # fmt: skip
        else:
            live = [e for e in left if e.job in states and states[e.job].kind == "live"]
            active.drop(entry.name for entry in left if entry not in live)
            pending = [entry for entry in live if states[entry.job].state == "PENDING"]
            running = [entry for entry in live if entry not in pending]
            left = live
            if pending:
                slurm.cancel(entry.job for entry in pending)
                say_once("pending", "Jobs of an earlier run that had not started are cancelled: "
                                    f"{_ids(pending)}.")  # fmt: skip
            if running:
                say_once("running", "Jobs of an earlier run are still running, waiting for them: "
                                    f"{_ids(running)}.")  # fmt: skip
        if left:
            time.sleep(poll)


def _with_ids(left: list[Entry], active: ActiveJobs) -> list[Entry]:
    """Look up jobs whose driver was killed between submitting and noting them."""
    known = []
    for entry in left:
        job = entry.job or slurm.find(entry.name)
        if job:
            known.append(replace(entry, job=job))
        else:
            active.drop([entry.name])
    return known


def _ids(entries: Iterable[Entry]) -> str:
    return ", ".join(entry.job or entry.name for entry in entries)


def cancel(jobs: Iterable[str], pause: float = 0.5) -> bool:
    """Cancel jobs and wait a while until they are gone; False where some may still run."""
    left = set(jobs)
    if not left:
        return True
    if not slurm.cancel(left):
        return False
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        states = slurm.states(left)
        if states is None:
            return False
        if not any(job.kind == "live" for job in states.values()):
            return True
        time.sleep(pause)
    return False
