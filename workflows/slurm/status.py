"""Who of a submission is done, running, waiting, or failed, and why.

What the program says (its exit code, ``status.tsv``) is held against what Slurm says (one
question to the queue, the notes that it leaves in the log of a job, and the accounting where there
is one): a task that was ended before the program could say so is named with its cause.
"""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from alsflow.interfaces import slurm
from alsflow.nodes.errors import MissingProgramError
from alsflow.workflows import exits
from alsflow.workflows.manifest import ERRORS, STATUS
from alsflow.workflows.slurm import record
from alsflow.workflows.slurm.record import GROUP, Mark, Submission

TaskState = Literal["done", "flagged", "running", "pending", "refused", "absent", "failed",
                    "killed", "not-run"]  # fmt: skip
STATES: tuple[TaskState, ...] = ("done", "flagged", "running", "pending", "refused", "absent",
                                 "failed", "killed", "not-run")  # fmt: skip
ALIVE = ("running", "pending")
SETTLED = ("done", "flagged")  # the same again would give the same again
KILLED = 128 + 9
# What Slurm writes into the log of a job, and the word of its queue for it.
NOTES = (
    (r"CANCELLED AT \S+ DUE TO TIME LIMIT", "TIMEOUT"),
    (r"CANCELLED AT \S+ DUE TO NODE FAILURE", "NODE_FAIL"),
    (r"CANCELLED AT \S+ DUE TO PREEMPTION", "PREEMPTED"),
    (r"CANCELLED AT \S+ DUE TO JOB REQUEUE", "REQUEUED"),
    (r"CANCELLED AT \S+ DUE TO MEMORY|oom[-_ ]kill|Out Of Memory|[Ee]xceeded (job|step) memory",
     "OUT_OF_MEMORY"),
    (r"CANCELLED AT ", "CANCELLED"),
)  # fmt: skip
ENDS = {
    "TIMEOUT": "its time was over ({time})",
    "OUT_OF_MEMORY": "it was killed, most likely for lack of memory (it had {mem})",
    "NODE_FAIL": "its node failed",
    "PREEMPTED": "Slurm stopped it to make room for another job",
    "CANCELLED": "it was cancelled (scancel)",
    "REQUEUED": "Slurm put it back into the queue, from which it is gone",
}
CURES = {"TIMEOUT": "resume with a longer --time", "OUT_OF_MEMORY": "resume with more --mem"}
# Reasons that may pass when nodes or a partition come back.
PASSING = ("PartitionNodeLimit", "PartitionInactive", "BadConstraints", "JobHeldAdmin")
WAITS = {  # by the start of Slurm's reason
    "JobArrayTaskLimit": "waits for its turn (slurm.array_tasks)",
    "Dependency": "waits for the people",
    "Resources": "waits for free processors or memory",
    "Priority": "waits behind jobs of higher priority",
    "JobHeldUser": "waits until it is released: scontrol release {job}",
    "JobHeldAdmin": "waits until an administrator releases it",
    "BeginTime": "starts again in a moment",
    "ReqNodeNotAvail": "waits for nodes that are down, drained or reserved",
    "Nodes required for job are": "waits for nodes that are down, drained or reserved",
}


@dataclass(frozen=True)
class Task:
    """What is known of a person, or of the group job."""

    name: str  # sub-01, or group
    state: TaskState
    reason: str = ""
    hint: str = ""  # what to do about it
    job: str = ""
    node: str = ""
    seconds: int = 0  # that it ran, or has been running
    code: int | None = None  # exit code of the program
    run: str = ""  # submission that tried last
    log: str = ""  # in the output folder
    stuck: bool = False  # it waits for what will not come

    @property
    def label(self) -> str:
        """Label of the person, as in the list of people."""
        return self.name.removeprefix("sub-")


@dataclass(frozen=True)
class Overview:
    """A submission, those that resumed it, and what came of them."""

    run: str
    people: tuple[Task, ...]
    group: Task | None
    silent: bool = False  # the queue did not answer
    others: int = 0  # people of earlier submissions who are not in this one
    resumed: tuple[str, ...] = ()  # submissions that resumed it

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Everybody, and the group job."""
        return (*self.people, *([self.group] if self.group else []))

    @property
    def counts(self) -> dict[str, int]:
        """Number of people by state, of the states that occur."""
        states = [task.state for task in self.people]
        return {state: states.count(state) for state in STATES if state in states}

    @property
    def exit_code(self) -> int:
        """0: all done; 75: something runs, or waits for what may come; 1: something else."""
        stuck = any(task.stuck for task in self.tasks)
        alive = [task for task in self.people if task.state in ALIVE and not task.stuck]
        group = self.group
        if group is not None and group.state in ALIVE and not (stuck and group.state == "pending"):
            alive.append(group)
        if alive:
            return exits.TRY_AGAIN
        return exits.OK if all(task.state == "done" for task in self.tasks) else exits.FAILED

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        state = {exits.OK: "done", exits.TRY_AGAIN: "unfinished"}.get(self.exit_code, "failed")
        return {
            "run": self.run,
            "resumed_by": self.resumed,
            "state": state,
            "counts": self.counts,
            "people": [asdict(task) for task in self.people],
            "group": asdict(self.group) if self.group else None,
            "queue_answered": not self.silent,
        }


def overview(output_dir: Path, runs: Sequence[Submission]) -> Overview:
    """State of everybody in a submission and those that resume it.

    Parameters
    ----------
    output_dir : Path
        Output folder.
    runs : sequence of Submission
        As `record.chain` gives them.
    """
    attempts, last = record.last_attempts(runs), record.last_group(runs)
    jobs = {job for run in [*attempts.values(), *([last] if last else [])] for job in run.jobs}
    queue = _ask(jobs, runs[-1].user)  # before the files are read: what ends now has its mark
    rows = read_rows(output_dir / STATUS)
    details = read_rows(output_dir / "logs" / ERRORS)
    looked = [
        _Looked(
            output_dir, attempts[label], label, queue, rows.get(label, []), details.get(label, [])
        )
        for label in sorted(attempts)
    ]
    if last is not None:
        looked.append(
            _Looked(output_dir, last, GROUP, queue, rows.get(GROUP, []), details.get(GROUP, []))
        )
    silent = {one.job for one in looked if one.unexplained} - {""}
    history = slurm.history(silent) if silent else {}
    tasks = [replace(one, history=history).task() for one in looked]
    group = tasks.pop() if last is not None else None
    if group is None and GROUP in runs[0].levels:
        group = Task(GROUP, "not-run", "it was not submitted", run=runs[-1].name)
    return Overview(runs[0].name, tuple(tasks), group, silent=queue is None,
                    resumed=tuple(run.name for run in runs[1:]))  # fmt: skip


def _ask(jobs: Iterable[str], user: int) -> dict[str, slurm.Job] | None:
    """Jobs that the queue knows; None where it does not answer, or is not here at all."""
    try:
        return slurm.states(jobs, user=user)
    except MissingProgramError:
        return None


def read_rows(path: Path) -> dict[str, list[dict[str, str]]]:
    """Rows of a table by label of the person; those of the group level under its name."""
    rows: dict[str, list[dict[str, str]]] = {}
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as handle:
            for row in csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE):
                label = row["participant_id"].removeprefix("sub-")
                rows.setdefault(row["stream"] if label == "n/a" else label, []).append(row)
    return rows


# ---------------------------------------------------------------------------- one task


@dataclass(frozen=True)
class _Looked:
    """Everything that tells of one task."""

    output_dir: Path
    run: Submission
    label: str
    queue: Mapping[str, slurm.Job] | None
    rows: Sequence[Mapping[str, str]]
    details: Sequence[Mapping[str, str]] = ()
    history: Mapping[str, slurm.Ended] = field(default_factory=dict)

    @property
    def unexplained(self) -> bool:
        """Whether only the accounting can know what became of it."""
        known = self.queue is None or self.job in self.queue or self._note()
        return not known and record.ended(self.run, self.label) is None

    @property
    def job(self) -> str:
        return self.run.group if self.label == GROUP else self.run.task(self.label)

    def task(self) -> Task:
        started, ended = (read(self.run, self.label) for read in (record.started, record.ended))
        entry = (self.queue or {}).get(self.job)
        if entry is not None and entry.kind == "live" and not (
            ended and entry.state == "COMPLETING"
        ):  # fmt: skip
            return self._alive(entry, started)
        if ended is not None:
            return self._ended(started, ended)
        if self.queue is None and self.job:  # it may be anything that needs no mark
            state: TaskState = "running" if started else "pending"
            return self._told(state, "Slurm does not answer; this is from the files", started)
        return self._lost(entry or self.history.get(self.job), started)

    def _told(
        self, state: TaskState, reason: str, started: Mark | None, hint: str = "", **more: Any
    ) -> Task:
        name = record.task_name(self.label)
        path = self.run.folder / record.LOGS / f"{name}.log"
        log = str(path.relative_to(self.output_dir)) if path.is_file() else ""
        fields = {"job": self.job, "node": started.node if started else "",
                  "run": self.run.name, "log": log} | more  # fmt: skip
        return Task(name, state, reason, hint, **fields)

    def _alive(self, entry: slurm.Job, started: Mark | None) -> Task:
        if entry.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "CONFIGURING"):
            known = (words for start, words in WAITS.items() if entry.reason.startswith(start))
            other = f"waits ({entry.reason})" if entry.reason else "waits"
            words = next(known, other).format(job=self.job)
            hint = ""
            stuck = entry.hopeless and entry.reason not in PASSING
            if stuck:
                words = f"will never start: {entry.reason}"
                hint = f"scancel {self.job}, then resume with what the cluster can give"
            if started:  # it has run before
                words = f"was put back into the queue by Slurm; {words}"
            return self._told("pending", words, None, hint, stuck=stuck)
        seconds = int(time.time()) - started.second if started else 0
        there = [f"{row['stream']} {row['state']}" for row in self.rows
                 if row["state"] != "not-run"]  # fmt: skip
        words = "" if entry.state in ("RUNNING", "COMPLETING") else entry.state.lower()
        reason = ", ".join([*([words] if words else []), *there])
        return self._told("running", reason, started, node=entry.nodes, seconds=max(0, seconds))

    # -- the end of a task that said its exit code

    def _ended(self, started: Mark | None, ended: Mark) -> Task:
        seconds = max(0, ended.second - started.second) if started else 0
        more: dict[str, Any] = {"seconds": seconds, "code": ended.code, "node": ended.node}
        states = {row["state"] for row in self.rows}
        if ended.code == exits.OK:
            return self._told("done", "", started, **more)
        note = self._note()
        if ended.signal or (note and ended.code != exits.FAILED) or ended.code == KILLED:
            return self._killed(note or ("OUT_OF_MEMORY" if ended.code == KILLED else ""), started,
                                **more)  # fmt: skip
        if ended.code == exits.DATA:
            return self._told("refused", self._reasons("refused"), started,
                              "mend the data, then resume", **more)  # fmt: skip
        if ended.code == exits.INPUT_MISSING:
            return self._told("absent", self._reasons("absent"), started,
                              "add the file, then resume", **more)  # fmt: skip
        if ended.code == exits.FAILED and {"flagged"} <= states <= {"done", "flagged", "absent"}:
            return self._told("flagged", self._reasons("flagged"), started, **more)
        if ended.code != exits.FAILED:  # it stopped before it came to the streams
            return self._told("failed", self._said(), started, **more)
        crashes = [row["details"] for row in self.details if row["details"] != "n/a"]
        more |= {"log": crashes[0]} if crashes else {}
        return self._told("failed", self._reasons("failed", "not-run", "refused"), started, **more)

    def _reasons(self, *states: str) -> str:
        """Reasons in ``status.tsv``; where it has none, the last words in the log."""
        found = [row["reason"] if row["stream"] == GROUP else f"{row['stream']}: {row['reason']}"
                 for state in states for row in self.rows
                 if row["state"] == state and row["reason"] != "n/a"]  # fmt: skip
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            return found[0] + more
        return self._said()

    def _said(self) -> str:
        """Last words of the program."""
        log = record.tail(self.run.folder / record.LOGS / f"{record.task_name(self.label)}.log", 3)
        said = [line for line in log if not line.startswith("---")]
        return said[-1].removeprefix("alsflow: ") if said else "it left no message"

    # -- the end of a task that said nothing

    def _lost(self, entry: slurm.Job | slurm.Ended | None, started: Mark | None) -> Task:
        if not self.job:
            return self._told("not-run", "it was not submitted", None)
        state = self._note() or (entry.state if entry is not None else "")
        if state == "COMPLETED":  # the script ends with the code of the program
            return self._told("done", "Slurm says so; its mark could not be written", started)
        if state == "FAILED" and {row["state"] for row in self.rows} & {"failed", "refused"}:
            return self._told("failed", self._reasons("failed", "refused"), started)
        if started is None and state in ("", "CANCELLED"):
            words = "it was cancelled before it started"
            words += "" if state else ", or lost"  # Slurm forgets such a task at once
            return self._told("not-run", words, None)
        return self._killed(state, started)

    def _killed(self, state: str, started: Mark | None, **more: Any) -> Task:
        reason = "it ended without a word: killed (kill -9), or its node was lost or restarted"
        if state in ENDS:
            reason = ENDS[state].format(time=self.run.time, mem=self.run.mem)
        elif state in slurm.SENTENCES and state != "FAILED":
            reason = f"it {slurm.SENTENCES[state]}"
        elif more.get("code") is not None:
            reason = f"it was ended by a signal from outside (exit code {more['code']})"
        return self._told("killed", reason, started, CURES.get(state, "resume"), **more)

    def _note(self) -> str:
        """Slurm's word for what it did to the task, from the last note in its log."""
        found = ""
        for line in record.tail(record.slurm_says(self.run, self.job), 20):
            found = next((word for pattern, word in NOTES if re.search(pattern, line)), found)
        return found
