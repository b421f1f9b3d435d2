"""What was submitted to Slurm for an output folder: one folder per submission in ``logs/slurm``.

========================  ============================================================
``submission.json``       levels, people, jobs; written whole at every step
``people.txt``            one label per line; the tasks of the array count these lines
``settings.toml``         settings of every task, as they were when it was submitted
``participant.sh``        script of the array
``group.sh``              script of the group job
``logs/sub-01.log``       what the program said
``logs/slurm-7_1.out``    what Slurm said, such as why it ended a task
``tasks/sub-01.started``  when a task started, and where
``tasks/sub-01.exit``     how it ended
========================  ============================================================
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from alsflow.workflows import exits
from alsflow.workflows.cache import write_text
from alsflow.workflows.exits import StopRunError

RUNS = Path("logs") / "slurm"
RECORD, PEOPLE, SETTINGS = "submission.json", "people.txt", "settings.toml"
LOGS, TASKS = "logs", "tasks"
GROUP = "group"  # name of the group job among those of people


@dataclass(frozen=True)
class Array:
    """A job array: `count` people from the line `first` of the list on, counted from 0."""

    job: str
    first: int
    count: int


@dataclass(frozen=True)
class Submission:
    """One call of ``alsflow-slurm``, and what Slurm made of it."""

    name: str
    levels: tuple[str, ...]
    people: tuple[str, ...]
    arrays: tuple[Array, ...] = ()
    group: str = ""  # number of the group job
    resumes: str = ""  # the submission whose people this one completes
    withdrawn: str = ""  # why its jobs were cancelled before it was complete
    mem: str = ""  # memory of a task
    time: str = ""  # time limit of a task
    submitted: str = ""
    user: int = -1  # number of who submitted it
    version: str = ""
    folder: Path = field(default=Path(), compare=False)

    @property
    def jobs(self) -> tuple[str, ...]:
        """Numbers of its jobs."""
        return (*(array.job for array in self.arrays), *([self.group] if self.group else []))

    def task(self, label: str) -> str:
        """Slurm's name of the task of a person, such as ``7_1``; empty if there is none."""
        line = self.people.index(label)
        for array in self.arrays:
            if array.first <= line < array.first + array.count:
                return f"{array.job}_{line - array.first + 1}"
        return ""

    def save(self) -> None:
        """Write the record whole."""
        content = {key: value for key, value in asdict(self).items() if key != "folder"}
        write_text(self.folder / RECORD, json.dumps(content, indent=2) + "\n")


@dataclass(frozen=True)
class Mark:
    """What a task left when it started or ended."""

    code: int | None = None  # exit code of the program
    signal: str = ""  # that the script got
    job: str = ""
    node: str = ""
    second: int = 0  # of the epoch


def read_submissions(output_dir: Path) -> list[Submission]:
    """Every submission for an output folder, the oldest first."""
    folder = output_dir / RUNS
    if not folder.is_dir():
        return []
    return [
        _read(path) for path in sorted(folder.glob("run-*")) if (path / RECORD).is_file()
    ]  # one without a record came to nothing


def _read(folder: Path) -> Submission:
    try:
        content: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        known = {entry.name for entry in fields(Submission)} - {"folder"}
        content = {key: value for key, value in content.items() if key in known}
        content["arrays"] = tuple(Array(**array) for array in content["arrays"])
        for key in ("levels", "people"):
            content[key] = tuple(content[key])
        return Submission(**content, folder=folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StopRunError(
            exits.FAILED,
            f"{folder / RECORD} cannot be read ({error}); without it the jobs of {folder.name} "
            "are not known. Restore it, or remove the folder once squeue shows none of its jobs.",
        ) from None


def chain(submissions: Sequence[Submission], name: str = "") -> list[Submission]:
    """A submission and those that resume it, the oldest first; the last one by default.

    >>> runs = [Submission(n, (), (), resumes=r) for n, r in [("a", ""), ("b", ""), ("c", "a")]]
    >>> [run.name for run in chain(runs)], [run.name for run in chain(runs, "b")]
    (['a', 'c'], ['b'])
    """
    valid = [run for run in submissions if not run.withdrawn]
    roots = {run.name: run.resumes or run.name for run in valid}
    if not valid or (name and name not in roots):
        return []
    root = roots[name or valid[-1].name]
    return [run for run in valid if roots[run.name] == root]


def next_folder(output_dir: Path) -> Path:
    """Folder of the next submission; it is not made. See `submitting`."""
    parent = output_dir / RUNS
    numbers = [int(match[1]) for path in parent.glob("run-*")
               if (match := re.fullmatch(r"run-(\d+)", path.name))]  # fmt: skip
    return parent / f"run-{max(numbers, default=0) + 1:03d}"


@contextmanager
def submitting(output_dir: Path) -> Iterator[None]:
    """Let one process at a time submit for an output folder."""
    folder = output_dir / RUNS
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StopRunError(
                exits.CANNOT_CREATE,
                f"Another alsflow-slurm is submitting for {output_dir} at this moment; wait for "
                "it, then see alsflow-slurm status.",
            ) from None
        yield


def task_name(label: str) -> str:
    """Name of the files of a task."""
    return label if label == GROUP else f"sub-{label}"


def started(submission: Submission, label: str) -> Mark | None:
    """What the task of a person left when it started; None if it never did."""
    return _mark(submission.folder / TASKS / f"{task_name(label)}.started")


def ended(submission: Submission, label: str) -> Mark | None:
    """What it left when it ended; None if it did not end by itself."""
    return _mark(submission.folder / TASKS / f"{task_name(label)}.exit")


def _mark(path: Path) -> Mark | None:
    """Read the cells code, signal, job, node and second of a mark."""
    with suppress(OSError, ValueError):
        code, signal, job, node, second = path.read_text(encoding="utf-8").rstrip("\n").split("\t")
        return Mark(int(code) if code else None, signal, job, node, int(second or 0))
    return None


def last_attempts(runs: Sequence[Submission]) -> dict[str, Submission]:
    """Submission that tried a person last, by label."""
    return {label: run for run in runs for label in run.people}


def last_group(runs: Sequence[Submission]) -> Submission | None:
    """Submission of the last group job."""
    return next((run for run in reversed(runs) if run.group), None)


def slurm_says(submission: Submission, task: str) -> Path:
    """File in which Slurm itself notes what it did to a task."""
    return submission.folder / LOGS / f"slurm-{task}.out"


def tail(path: Path, count: int = 1, size: int = 8192) -> list[str]:
    """Last lines of a file that are not empty."""
    try:
        with path.open("rb") as handle:
            handle.seek(max(0, os.path.getsize(path) - size))
            text = handle.read().decode(errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()][-count:]


def withdraw(submission: Submission, why: str) -> Submission:
    """Note that the jobs of a submission were cancelled."""
    submission = replace(submission, withdrawn=why)
    submission.save()
    return submission
