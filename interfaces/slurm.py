"""Talks to Slurm: submits, asks, cancels; what its programs print is understood only here.

Every answer is one of three things: what was asked for, a refusal (`RefusedError`, with Slurm's
own words), or silence (`UnreachableError`, or None), because a controller that is restarted says
nothing about the jobs, which go on.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from alsflow.nodes.errors import MissingProgramError

Kind = Literal["live", "done", "failed"]
PATIENCE = 60  # s that a program of Slurm may take
VANISHED = "VANISHED"  # our word: Slurm has forgotten the job
LOG_PLACE_SIGNAL = 53  # with which Slurm says that it could not open the log file
KILLED = (9, 128 + 9)
LIVE = frozenset([
    "PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "RESIZING", "SIGNALING",
    "STAGE_OUT", "STOPPED", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT",
    "RESV_DEL_HOLD", "EXPEDITING", "POWER_UP_NODE", "UPDATE_DB",
])  # fmt: skip
SENTENCES = {
    "CANCELLED": "was cancelled by somebody (scancel)",
    "FAILED": "ended with an error",
    "TIMEOUT": "was ended by Slurm when its time was over",
    "OUT_OF_MEMORY": "was ended by Slurm for lack of memory",
    "NODE_FAIL": "was lost because its node failed",
    "PREEMPTED": "was ended by Slurm to make room for another job",
    "BOOT_FAIL": "could not run because its node did not start",
    "DEADLINE": "was ended by Slurm at its deadline",
    "LAUNCH_FAILED": "could not be started on its node",
    "RECONFIG_FAIL": "could not run because its node could not be set up",
    "REVOKED": "was taken over by another cluster",
    VANISHED: "is not known to Slurm any more",
}
SHORT = {
    "PD": "PENDING", "R": "RUNNING", "CG": "COMPLETING", "CD": "COMPLETED", "CF": "CONFIGURING",
    "CA": "CANCELLED", "F": "FAILED", "TO": "TIMEOUT", "OOM": "OUT_OF_MEMORY", "NF": "NODE_FAIL",
    "PR": "PREEMPTED", "BF": "BOOT_FAIL", "DL": "DEADLINE", "S": "SUSPENDED", "RQ": "REQUEUED",
    "RH": "REQUEUE_HOLD", "RS": "RESIZING", "SE": "SPECIAL_EXIT", "SI": "SIGNALING",
    "SO": "STAGE_OUT", "ST": "STOPPED", "RV": "REVOKED",
}  # fmt: skip
# Why a pending job will never start, unless somebody changes the job or the cluster.
HOPELESS = re.compile(
    r"PartitionTimeLimit|PartitionNodeLimit|BadConstraints|DependencyNeverSatisfied|"
    r"AccountNotAllowed|QOSNotAllowed|InvalidAccount|InvalidQOS|"
    r"(QOS|Assoc)Max(Cpu|CPU|Memory|Mem|Node|WallDuration|TRES)\w*Per(Job|Node)\w*|"
    r"MaxMemPerLimit"
)
UNREACHABLE = re.compile(
    r"Unable to contact slurm controller|Socket timed out|Zero Bytes were transmitted|"
    r"Connection refused|Connection timed out|connect failure|Resource temporarily unavailable|"
    r"Transport endpoint|Communication connection failure|Slurm backup controller in standby|"
    r"temporarily unable to accept job|Insane message length|"
    r"not available at the moment|try again",
    re.I,
)
FULL = re.compile(r"job submit limit|(MaxSubmitJob|MaxJobCount)\w*|Job count limit", re.I)
# Variables of sbatch that would override what a script says, or make its jobs others.
NEVER = frozenset(
    f"SBATCH_{name}" for name in ("ARRAY_INX", "OUTPUT", "ERROR", "INPUT", "JOB_NAME", "OPEN_MODE",
                                  "WAIT", "TEST_ONLY", "MEM_PER_CPU", "MEM_PER_GPU")
)  # fmt: skip
OTHER_NAMES = {"TIME": "TIMELIMIT", "MEM": "MEM_PER_NODE"}
KEPT = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")  # others tell of a job that we run in


class SlurmError(Exception):
    """Something that Slurm said; the message is one sentence."""


class RefusedError(SlurmError):
    """Slurm does not take this job, now or later."""


class FullError(SlurmError):
    """Slurm takes no more jobs of this person until some have ended."""


class UnreachableError(SlurmError):
    """The controller does not answer."""


@dataclass(frozen=True)
class Job:
    """A job as the queue shows it."""

    state: str  # Slurm's word, in full
    reason: str = ""
    nodes: str = ""

    @property
    def kind(self) -> Kind:
        """Whether it goes on, and if not how it has ended."""
        return kind(self.state)

    @property
    def hopeless(self) -> bool:
        """Whether it waits for something that will not come."""
        return self.state == "PENDING" and HOPELESS.search(self.reason) is not None


@dataclass(frozen=True)
class Ended:
    """How a job has ended."""

    state: str
    exit_code: int | None = None
    signal: int = 0
    reason: str = ""
    nodes: str = ""
    minutes: float | None = None  # that it was allowed
    max_rss_mb: float | None = None

    @property
    def kind(self) -> Kind:
        """Whether Slurm believes that it went well."""
        return kind(self.state)

    @property
    def killed(self) -> bool:
        """Whether something ended it with SIGKILL that was neither Slurm nor a person."""
        return self.state == "FAILED" and (self.signal in KILLED or self.exit_code in KILLED)

    @property
    def memory(self) -> bool:
        """Whether it lacked memory; a job that was simply killed most often did."""
        return self.state == "OUT_OF_MEMORY" or self.killed

    @property
    def innocent(self) -> bool:
        """Whether the job had no part in its end, so that the same may be tried again."""
        return self.state in ("NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "LAUNCH_FAILED",
                              "RECONFIG_FAIL")  # fmt: skip

    def sentence(self) -> str:
        """What happened, after the words that name the job."""
        text = SENTENCES.get(self.state, f"ended in the state {self.state}")
        if self.state == "COMPLETED":
            text = "ended without an error but left no result"
        elif self.state == "TIMEOUT" and self.minutes:
            text += f" ({self.minutes:.0f} min)"
        elif self.state == "FAILED":
            text = self._failure()
        elif self.state == "OUT_OF_MEMORY" and self.max_rss_mb:
            text += f" (it had {self.max_rss_mb:.0f} MB)"
        return text + (f" on {self.nodes}" if self.nodes else "")

    def _failure(self) -> str:
        if self.killed:
            return "was killed (SIGKILL), most often for lack of memory"
        if self.signal == LOG_PLACE_SIGNAL:
            return "could not be started, because its log file cannot be written"
        if self.signal:
            return f"was ended by signal {self.signal}"
        if self.exit_code:
            return f"ended with code {self.exit_code}"
        return f"failed ({self.reason or 'no reason given'})"


def kind(state: str) -> Kind:
    """Class of one of Slurm's words; what is new to us counts as live until it leaves the queue.

    >>> kind("COMPLETING"), kind("COMPLETED"), kind("NODE_FAIL"), kind("HIBERNATING")
    ('live', 'done', 'failed', 'live')
    """
    if state == "COMPLETED":
        return "done"
    return "failed" if state in SENTENCES else "live"


# ---------------------------------------------------------------------------- texts


def plain_state(text: str) -> str:
    """Slurm's word in full, whatever was added to it.

    >>> plain_state("CANCELLED by 1000"), plain_state("CANCELLED+"), plain_state("OUT_OF_ME+")
    ('CANCELLED', 'CANCELLED', 'OUT_OF_MEMORY')
    >>> plain_state("RUNNING,COMPLETING"), plain_state("TO")
    ('RUNNING', 'TIMEOUT')
    """
    words = text.strip().upper().split()
    word = re.split(r"[,|]", words[0])[0] if words else ""
    if word.endswith("+"):
        known = [
            state for state in (*SENTENCES, *LIVE, "COMPLETED") if state.startswith(word[:-1])
        ]
        word = known[0] if len(known) == 1 else word[:-1]
    return SHORT.get(word, word)


def job_ids(text: str) -> list[str]:
    """Ids that a cell of a table stands for.

    >>> job_ids("12"), job_ids("12_3"), job_ids("12_[3-5,9%2]"), job_ids("12;cluster")
    (['12'], ['12_3'], ['12_3', '12_4', '12_5', '12_9'], ['12'])
    """
    text = text.strip().partition(";")[0]
    match = re.fullmatch(r"(\d+)_\[([\d,:-]*)(?:%\d+)?\]", text)
    if match is None:
        return [text] if text else []
    found: list[int] = []
    for part in filter(None, match[2].split(",")):
        ends, _, step = part.partition(":")
        first, _, last = ends.partition("-")
        found += range(int(first), int(last or first) + 1, int(step or 1))
    return [f"{match[1]}_{index}" for index in found]


def parse_queue(text: str) -> dict[str, Job]:
    """Jobs by id from lines ``id|state|nodes|reason``."""
    jobs = {}
    for line in text.splitlines():
        cells = line.split("|", 3)
        if len(cells) == 4:
            reason = cells[3].strip().strip("()")
            job = Job(plain_state(cells[1]), "" if reason == "None" else reason, cells[2].strip())
            jobs.update(dict.fromkeys(job_ids(cells[0]), job))
    return jobs


def parse_job(text: str) -> Ended | None:
    """Read the answer of ``scontrol show job --oneliner``; None where there is no job in it.

    An array task that was started in its turn has lines of its own; the last one counts.
    """
    lines = [line for line in text.splitlines() if "JobState=" in line]
    if not lines:
        return None
    found = _fields(lines[-1])
    code, _, number = found.get("ExitCode", "").partition(":")
    reason = found.get("Reason", "")
    nodes = found.get("NodeList", "")
    return Ended(
        plain_state(found["JobState"]),
        int(code) if code.isdigit() else None,
        int(number) if number.isdigit() else 0,
        "" if reason in ("None", "(null)") else reason,
        "" if nodes == "(null)" else nodes,
        parse_minutes(found.get("TimeLimit", "")),
    )


def _fields(line: str) -> dict[str, str]:
    """Read one line of ``scontrol show --oneliner``."""
    return dict(re.findall(r"(\S+?)=(\S*)", line))


def parse_accounting(text: str, job: str) -> Ended | None:
    """Read ``sacct --parsable2`` lines ``id|state|code|memory|nodes|limit`` of a job."""
    ended, memory = None, None
    for line in text.splitlines():
        cells = line.split("|")
        if len(cells) < 6 or cells[0].partition(".")[0] != job:
            continue
        if (size := parse_megabytes(cells[3])) is not None:
            memory = max(size, memory or 0.0)
        if cells[0] == job:
            code, _, number = cells[2].partition(":")
            nodes = "" if cells[4].startswith("None") else cells[4]
            ended = Ended(plain_state(cells[1]), int(code) if code.isdigit() else None,
                          int(number) if number.isdigit() else 0, "", nodes,
                          parse_minutes(cells[5]))  # fmt: skip
    return None if ended is None else replace(ended, max_rss_mb=memory)


def parse_history(text: str) -> dict[str, Ended]:
    r"""Read the lines of `parse_accounting` for many jobs.

    >>> parse_history("7_1|TIMEOUT|0:0||c1|60\n7_[2-3]|CANCELLED by 0|0:0||None|60")["7_3"].state
    'CANCELLED'
    """
    lines: dict[str, list[str]] = {}
    for line in text.splitlines():
        lines.setdefault(line.partition("|")[0].partition(".")[0], []).append(line)
    found = {cell: parse_accounting("\n".join(mine), cell) for cell, mine in lines.items()}
    return {job: ended for cell, ended in found.items() if ended for job in job_ids(cell)}


def parse_minutes(text: str) -> float | None:
    """Minutes from a time of Slurm's; None where there is no limit.

    >>> parse_minutes("00:01:30"), parse_minutes("2-01:00:00"), parse_minutes("UNLIMITED")
    (1.5, 2940.0, None)
    """
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)(?:\.\d+)?", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return days * 1440 + hours * 60 + minutes + seconds / 60


def parse_megabytes(text: str) -> float | None:
    """Megabytes from a size of Slurm's.

    >>> parse_megabytes("123456K"), parse_megabytes("1.50G"), parse_megabytes("")
    (120.5625, 1536.0, None)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", text.strip())
    if match is None:
        return None
    return (
        float(match[1]) * {"": 1 / 2**20, "K": 1 / 1024, "M": 1, "G": 1024, "T": 2**20}[match[2]]
    )


def parse_partition(text: str, name: str = "") -> tuple[str, float] | None:
    r"""Read the answer of ``scontrol show partition --oneliner``; see `partition_minutes`.

    >>> parse_partition("PartitionName=a Default=NO MaxTime=00:05:00\n"
    ...                 "PartitionName=b Default=YES MaxTime=1-00:00:00")
    ('b', 1440.0)
    """
    for line in text.splitlines():
        found = _fields(line)
        mine = found.get("PartitionName") == name if name else found.get("Default") == "YES"
        if mine and (limit := parse_minutes(found.get("MaxTime", ""))) is not None:
            return found["PartitionName"], limit
    return None


def one_sentence(text: str) -> str:
    r"""What a program of Slurm complained of, in one line.

    >>> one_sentence("sbatch: error: invalid partition: x\nsbatch: error: Batch job submission "
    ...              "failed: Invalid partition name specified\n")
    'invalid partition: x; Batch job submission failed: Invalid partition name specified'
    """
    lines = [re.sub(r"^\w+: (error|fatal|warning): ?|^\w+: ", "", line).strip()
             for line in text.splitlines()]  # fmt: skip
    lines = [line for line in lines if line and not line.startswith("Try ")]
    return "; ".join(dict.fromkeys(lines)) or "no reason given"


# ---------------------------------------------------------------------------- programs


def environment() -> dict[str, str]:
    """Environment for Slurm's programs: nothing of a job that this process may itself run in.

    What a job was given (``SLURM_MEM_PER_NODE`` ...) would be inherited by the jobs that it
    submits, and settings of ``squeue`` could hide jobs.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or not name.startswith(("SLURM_", "SQUEUE_", "SACCT_", "SCANCEL_"))
    }


def environment_for(script: str) -> dict[str, str]:
    """Environment for ``sbatch`` in which the options of the script stand.

    Variables such as ``SBATCH_PARTITION`` come before the lines of a script; they keep what the
    script does not say.
    """
    said = re.findall(r"^#SBATCH --([\w-]+)", script, re.M)
    names = [name.upper().replace("-", "_") for name in said]
    gone = NEVER | {f"SBATCH_{OTHER_NAMES.get(name, name)}" for name in names}
    return {name: value for name, value in environment().items() if name not in gone}


def _call(
    *command: str, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    variables = environment() if variables is None else variables
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              timeout=PATIENCE, env=variables, errors="replace")  # fmt: skip
    except FileNotFoundError:
        raise MissingProgramError(
            f"{command[0]} was not found: Slurm is not installed here, or not in PATH; "
            "run this where jobs can be submitted."
        ) from None
    except subprocess.TimeoutExpired:
        raise UnreachableError(f"{command[0]} gave no answer within {PATIENCE} s") from None
    if done.returncode and UNREACHABLE.search(done.stderr):
        raise UnreachableError(one_sentence(done.stderr))
    return done


def submit(
    script: str | os.PathLike,
    options: Sequence[str] = (),
    *,
    name: str = "",
    tries: int = 5,
    pause: float = 2.0,
) -> str:
    """Submit a batch script; returns the id of the job.

    Parameters
    ----------
    script : path
        Batch script.
    options : sequence of str
        Options of ``sbatch``.
    name : str
        Name of the job when no other job has it: an answer that was lost on its way is then
        found again in the queue, and the job is not submitted twice.
    tries : int
        How often to try while the controller does not answer.
    pause : float
        Seconds after the first failure; doubled after each.

    Raises
    ------
    RefusedError
        With the sentence of ``sbatch``.
    FullError
        When a limit on the number of jobs is reached.
    UnreachableError
        When the controller did not answer.
    """
    named = [f"--job-name={name}"] if name else []
    variables = environment_for(Path(script).read_text(encoding="utf-8"))
    for attempt in range(max(1, tries)):
        try:
            command = ["sbatch", "--parsable", *options, *named, os.fspath(script)]
            done = _call(*command, variables=variables)
            break
        except UnreachableError:
            if attempt + 1 >= tries:
                raise
            time.sleep(pause * 2**attempt)
            with suppress(UnreachableError):
                if name and (known := find(name)):
                    return known
    ids = job_ids((done.stdout.strip().splitlines() or [""])[-1])
    if done.returncode or not ids or not ids[0].isdigit():
        sentence = one_sentence(done.stderr or done.stdout)
        full = FULL.search(sentence) and not HOPELESS.search(sentence)
        raise FullError(sentence) if full else RefusedError(sentence)
    return ids[0]


def find(name: str) -> str | None:
    """Id of the newest job of this name; None where there is none.

    Raises
    ------
    UnreachableError
        When the controller did not answer.
    """
    done = _call("squeue", "--noheader", "--states=all", f"--name={name}", "--format=%F",
                 "--sort=-i")  # fmt: skip
    if done.returncode:
        raise UnreachableError(one_sentence(done.stderr))
    ids = [line for line in done.stdout.split() if line.isdigit()]
    return ids[0] if ids else None


def states(ids: Iterable[str], user: int | None = None) -> dict[str, Job] | None:
    """State of jobs by one question to the controller.

    Parameters
    ----------
    ids : iterable of str
        Jobs (``12``) and tasks of arrays (``12_3``); ``12`` stands for all tasks of an array.
    user : int, optional
        Number of the user who submitted them; by default the one who asks.

    Returns
    -------
    dict or None
        Those of `ids` that Slurm still knows, ended ones included; None where the controller did
        not answer, which says nothing about the jobs.
    """
    wanted = set(ids)
    if not wanted:
        return {}
    try:
        done = _call("squeue", "--noheader", "--array", "--states=all",
                     f"--user={os.geteuid() if user is None else user}",
                     "--format=%i|%T|%N|%r")  # fmt: skip
    except UnreachableError:
        return None
    if done.returncode:  # not about one job: nothing is known of any
        return None
    jobs = parse_queue(done.stdout)
    return {job: entry for job, entry in jobs.items()
            if job in wanted or job.partition("_")[0] in wanted}  # fmt: skip


def final(job: str) -> Ended | None:
    """How a job has ended; None where the controller did not answer.

    A job that is still alive is returned in its live state. Where there is no accounting and the
    controller has forgotten the job, its state is ``VANISHED``.
    """
    try:
        done = _call("scontrol", "show", "job", "--oneliner", job)
        ended = None if done.returncode else parse_job(done.stdout)
        if ended is not None and (ended.state != "OUT_OF_MEMORY"):
            return ended
        return _accounted(job) or ended or Ended(VANISHED)
    except UnreachableError:
        return None


def max_array_tasks() -> int | None:
    """Tasks that a job array may have, counted from 1; None where there is no Slurm to say so."""
    with suppress(UnreachableError, MissingProgramError):
        done = _call("scontrol", "show", "config")
        match = re.search(r"^MaxArraySize\s*=\s*(\d+)", done.stdout, re.M)
        return max(1, int(match[1]) - 1) if match else None
    return None


def partition_minutes(name: str = "") -> tuple[str, float] | None:
    """Find the longest time that a partition gives to a job.

    Parameters
    ----------
    name : str
        Partition; by default that of jobs that name none.

    Returns
    -------
    tuple of (str, float) or None
        Name and minutes; None where there is no limit, no such partition or no Slurm to say so.
    """
    with suppress(UnreachableError, MissingProgramError):
        done = _call("scontrol", "show", "partition", "--oneliner", *([name] if name else []))
        return None if done.returncode else parse_partition(done.stdout, name)
    return None


def history(jobs: Iterable[str]) -> dict[str, Ended]:
    """How jobs and tasks of arrays have ended, by one question to the accounting.

    Empty where there is no accounting, or it does not answer.
    """
    fields = "JobID,State,ExitCode,MaxRSS,NodeList,Timelimit"
    wanted = sorted({job.partition("_")[0] for job in jobs})
    try:
        done = _call("sacct", "--noheader", "--parsable2", f"--jobs={','.join(wanted)}",
                     f"--format={fields}")  # fmt: skip
    except (MissingProgramError, UnreachableError):
        return {}
    if done.returncode or not wanted:
        return {}
    return parse_history(done.stdout)


def _accounted(job: str) -> Ended | None:
    """What the accounting knows of a job, where there is one."""
    fields = "JobID,State,ExitCode,MaxRSS,NodeList,Timelimit"
    try:
        done = _call("sacct", "--noheader", "--parsable2", f"--jobs={job}", f"--format={fields}")
    except (MissingProgramError, UnreachableError):
        return None
    return None if done.returncode else parse_accounting(done.stdout, job)


def cancel(ids: Iterable[str]) -> bool:
    """Cancel jobs, ended ones included; False where the controller did not answer."""
    wanted = list(ids)
    try:
        for start in range(0, len(wanted), 500):
            _call("scancel", "--quiet", *wanted[start : start + 500])
    except UnreachableError:
        return False
    return True


def tail(log_file: Path, lines: int = 20, size: int = 4000) -> str:
    """Last lines of the log of a job; empty where there is none."""
    try:
        with log_file.open("rb") as handle:
            handle.seek(max(0, handle.seek(0, os.SEEK_END) - size))
            text = handle.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
