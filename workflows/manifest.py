"""What was asked for, what came of it, and the exit code that follows from nothing else."""

from __future__ import annotations

import errno
import json
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from alsflow.interfaces.bids import Visit
from alsflow.workflows import exits
from alsflow.workflows.cache import exclusive, write_text
from alsflow.workflows.machine import free_mb, free_space
from alsflow.workflows.settings import Settings
from alsflow.workflows.watcher import Watcher

State = Literal["done", "flagged", "refused", "failed", "absent", "not-run"]
Key = tuple[str, str | None, str]
REPORT: Key = ("", None, "report")  # the report pages of a run, when they could not be written
ERROR_LINE = r"[\w.]*(Error|Exception|Exit|Interrupt)\b"
REFUSALS = "(?:BadInputError|LCModelError)"  # exceptions by which nodes refuse data
DISK_SENTENCE = "A disk was full"
FILES_SENTENCE = (
    "Too many files were open; raise the limit (ulimit -n 4096) or give fewer --nprocs, and run "
    "again, finished steps are kept."
)
TIGHT_MB = 1.0  # with less left, a failure has most likely to do with it
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
STATUS, MANIFEST, ERRORS, CRASH = "status.tsv", "manifest.json", "errors.tsv", "crash"
STATUS_COLUMNS = ("participant_id", "session_id", "stream", "state", "reason")
ERROR_COLUMNS = ("participant_id", "session_id", "stream", "step", "cause", "details")


@dataclass
class Entry:
    """One stream of one visit."""

    participant: str
    session: str | None
    stream: str
    state: State = "not-run"
    reason: str = ""
    expected: bool = True  # its images were asked for: without them the run is not complete
    requested: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def key(self) -> Key:
        """What identifies the entry."""
        return self.participant, self.session, self.stream

    @property
    def prefix(self) -> str:
        """Start of the file names of the visit; the stream where there is no visit."""
        return Visit(self.participant, self.session).prefix if self.participant else self.stream

    def belongs_to(self, visit: Visit) -> bool:
        """Whether this is a stream of `visit`."""
        return (self.participant, self.session) == (visit.participant, visit.session)


@dataclass(frozen=True)
class Failure:
    """One node that failed."""

    key: Key
    step: str
    cause: str
    details: str


def exit_code(states: Iterable[str]) -> int:
    """Exit code of a run from the states of its entries alone.

    >>> exit_code(["done", "absent"]), exit_code(["refused", "absent"]), exit_code(["done"])
    (66, 65, 0)
    """
    present = set(states)
    if present & {"failed", "flagged", "not-run"} or not present:
        return exits.FAILED
    if "refused" in present:
        return exits.DATA
    return exits.INPUT_MISSING if "absent" in present else exits.OK


def counted(entries: Sequence[Entry]) -> list[str]:
    """States that decide on the exit code: images that nobody asked for may be absent."""
    states: list[str] = [e.state for e in entries if e.expected or e.state != "absent"]
    return states or [entry.state for entry in entries]


# ---------------------------------------------------------------------------- tracebacks


def cause_of(text: str, folders: Sequence[Path] = ()) -> tuple[State, str]:
    r"""State and one sentence from a traceback as Nipype gives it.

    >>> cause_of("Traceback:\n  alsflow.nodes.errors.BadInputError: T1w is 2-D.")
    ('refused', 'T1w is 2-D.')
    """
    text = textwrap.dedent(text).rstrip()
    died = text.rpartition("\n")[2].strip().partition("WorkerDiedError: ")[2]
    if died:  # whatever is told before it
        return "failed", died
    refused = re.findall(rf"^\s*(?:[\w.]*\.)?{REFUSALS}: (.*(?:\n(?!\s*$).*)*)", text, re.M)
    if refused:
        return "refused", " ".join(refused[-1].split())
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [
        line for line in lines if re.match(r"[\w.]*(Error|Exception|Exit|Interrupt)\b", line)
    ]
    last = (errors or lines or ["no message"])[-1]
    for kind in ("MissingProgramError", "ProgramKilledError"):
        if f"{kind}: " in last:
            return "failed", last.partition(f"{kind}: ")[2]
    codes = "|".join(map(str, DISK_FULL))
    if re.search(rf"\[Errno ({codes})\]", text):
        return "failed", disk_sentence(text, folders)
    if re.search(rf"\[Errno ({errno.EMFILE}|{errno.ENFILE})\]", text):
        return "failed", FILES_SENTENCE
    return "failed", last


def disk_sentence(text: str, folders: Sequence[Path]) -> str:
    """Sentence for a disk that is full: the file that `text` names, and what is free where."""
    path = re.search(r"\[Errno \d+\][^'\n]*'([^'\n]+)'", text)
    where = f" when {path[1]} was written" if path else ""
    free = ", ".join(free_space(folder) for folder in folders)
    return (
        f"{DISK_SENTENCE} or a quota used up{where}"
        + (f" (now {free})" if free else "")
        + "; make room and run again, finished steps are kept."
    )


# ---------------------------------------------------------------------------- the manifest


class Manifest(Watcher):
    """Follows the nodes, and keeps ``status.tsv``, ``manifest.json`` and ``errors.tsv`` true.

    The files may be shared with other runs on other people: rows of the entries of this run are
    replaced, all others are kept.

    Parameters
    ----------
    settings : Settings
        Where the run writes.
    entries : list of Entry
        Everything that the run was asked for.
    requested : callable
        Outputs that an entry must have produced to be done, by name.
    version : str
        Version of the program.
    """

    def __init__(
        self,
        settings: Settings,
        entries: Sequence[Entry],
        requested: Callable[[Entry], dict[str, Path]],
        version: str,
    ):
        self.output_dir = settings.output_dir
        self._folders = (settings.output_dir, settings.work_dir)
        self.entries = list(entries)
        self.failures: list[Failure] = []
        self._requested = requested
        self._version = version
        self._open: dict[Key, int] = {}
        self._told: set[Path] = set()  # damaged files that were named
        self._by_name = {
            (f"{Visit(e.participant, e.session).name}_wf", f"{e.stream}_wf"): e for e in entries
        }

    def start(self) -> None:
        """Replace what an earlier run said of the same streams."""
        folder = self.output_dir / "logs" / CRASH
        for entry in self.entries:
            for path in folder.glob(f"{entry.prefix}_{entry.stream}_*.txt"):
                path.unlink(missing_ok=True)  # details of earlier failures would mislead
        self.write()

    @property
    def exit_code(self) -> int:
        """Exit code of the run."""
        return exit_code(counted(self.entries))

    # -- a watcher of nodes

    def planned(self, nodes: list[Any], repaired: dict[Any, str]) -> None:
        """Count the nodes of every entry."""
        for node in nodes:
            key = self.entry_of(node).key
            self._open[key] = self._open.get(key, 0) + 1
        self.write()

    def reopened(self, node: Any, reason: str) -> None:
        """Count one more."""
        self._open[self.entry_of(node).key] += 1

    def finished(self, node: Any, seconds: float, cached: bool) -> None:
        """Settle the entry with its last node."""
        entry = self.entry_of(node)
        self._open[entry.key] -= 1
        if self._open[entry.key]:
            return
        try:
            self._settle(entry)
        except Exception:  # whatever its files hold, one visit must not stop the others
            self.note_failure(entry, "judging the outputs", traceback.format_exc())
        self.write()

    def failed(self, node: Any, text: str) -> None:
        """Note the cause and keep the details in a file."""
        entry = self.entry_of(node)
        state, cause = cause_of(text, self._folders)
        if state == "failed" and not cause.startswith(DISK_SENTENCE):
            tight = [folder for folder in self._folders if free_mb(folder) < TIGHT_MB]
            cause += f" ({disk_sentence('', tight)})" if tight else ""
        step = node.fullname.split(".", 3)[-1]
        details = self._save_details(entry, node, step, text)
        self.failures.append(Failure(entry.key, step, cause, details))
        if entry.state != "failed":
            entry.state, entry.reason = state, f"{entry.prefix}, step {step}: {cause}"
        self.write()

    def entry_of(self, node: Any) -> Entry:
        """Entry to which a node belongs, from the names of the workflows around it."""
        if not self.entries[0].participant:  # the group level has one entry for everything
            return self.entries[0]
        _, visit, stream, *_ = node.fullname.split(".")
        return self._by_name[visit, stream]

    def note_failure(self, entry: Entry, step: str, text: str) -> None:
        """Note a failure outside the graph, such as that of a report page."""
        state, cause = cause_of(text, self._folders)
        if entry not in self.entries:
            self.entries.append(entry)
        entry.state, entry.reason = state, f"{entry.prefix}: {step}: {cause}"
        self.failures.append(Failure(entry.key, step, cause, "n/a"))
        self.write()

    def close(self, reason: str) -> None:
        """End of the run: say of everything that was not run why."""
        for entry in self.entries:
            if entry.state == "not-run" and not entry.reason:
                others = [
                    f"{other.stream} ({other.state})"
                    for other in self.entries
                    if other.key[:2] == entry.key[:2] and other.state not in ("done", "not-run")
                ]
                entry.reason = f"needs {', '.join(others)}" if others else reason
            if entry.state in ("failed", "not-run") and not entry.requested:
                with suppress(Exception):  # what is asked for may itself depend on the failure
                    self._compare(entry)
        self.write()

    # -- settling

    def _settle(self, entry: Entry) -> None:
        """Judge a stream whose nodes have all finished, by what lies on the disk."""
        self._compare(entry)
        flags = self._flags(entry)
        if entry.missing:
            entry.state = "failed"
            entry.reason = f"{entry.prefix}: outputs are missing: {', '.join(entry.missing)}"
        elif flags:
            entry.state, entry.reason = "flagged", "; ".join(flags)
        else:
            entry.state, entry.reason = "done", ""

    def _compare(self, entry: Entry) -> None:
        """Hold the outputs that were asked for against those that are there."""
        outputs = self._requested(entry)
        entry.requested = {name: self._relative(path) for name, path in outputs.items()}
        entry.missing = [name for name, path in outputs.items() if not path.exists()]

    def _flags(self, entry: Entry) -> list[str]:
        folder = self.output_dir / f"sub-{entry.participant}"
        found = folder.rglob(f"{entry.prefix}_desc-{entry.stream}_qc.json")
        flags = []
        for path in found if entry.participant else ():
            content = json.loads(path.read_text(encoding="utf-8"))
            flags += [f"{flag['name']}: {flag['reason']}" for flag in content.get("flags", [])]
        return flags

    def _relative(self, path: Path) -> str:
        inside = path.is_relative_to(self.output_dir)
        return str(path.relative_to(self.output_dir)) if inside else str(path)

    # -- files

    def write(self) -> None:
        """Bring the three files up to date."""
        logs = self.output_dir / "logs"
        with exclusive(logs / ".lock"):
            self._write_table(self.output_dir / STATUS, STATUS_COLUMNS, self._status_rows())
            self._write_table(logs / ERRORS, ERROR_COLUMNS, self._error_rows())
            self._write_manifest()

    def _keys(self) -> set[Key]:
        """Rows that belong to this run, in it or left by an earlier one."""
        return {REPORT} | {entry.key for entry in self.entries}

    def _status_rows(self) -> list[list[str]]:
        return [[*_ids(entry.key), entry.state, entry.reason] for entry in self.entries]

    def _error_rows(self) -> list[list[str]]:
        return [[*_ids(f.key), f.step, f.cause, f.details] for f in self.failures]

    def _write_table(self, path: Path, columns: Sequence[str], rows: list[list[str]]) -> None:
        ours = {tuple(_ids(key)) for key in self._keys()}
        old: list[list[str]] = []
        if path.is_file():
            old = self._rows(path, columns)
        kept = [row for row in old if len(row) == len(columns) and tuple(row[:3]) not in ours]
        table = [columns, *sorted(kept + [[_cell(value) for value in row] for row in rows])]
        write_text(path, "".join("\t".join(row) + "\n" for row in table))

    def _rows(self, path: Path, columns: Sequence[str]) -> list[list[str]]:
        """Rows of a table that this program has written; without those that are damaged."""
        try:
            head, *lines = path.read_bytes().decode("utf-8").split("\n")
        except UnicodeDecodeError:
            self._damaged(path)
            return []
        rows = [line.split("\t") for line in lines if line]
        whole = [row for row in rows if len(row) == len(columns)]
        if head.split("\t") != list(columns) or lines[-1:] != [""] or len(whole) != len(rows):
            self._damaged(path)
        return whole

    def _damaged(self, path: Path) -> None:
        """Say once that what other runs have left cannot be read."""
        if path not in self._told:
            self._told.add(path)
            print(
                f"alsflow: {path} is damaged and what it said of others may be lost; run them "
                "again, which takes little where nothing has changed.",
                file=sys.stderr,
            )

    def _write_manifest(self) -> None:
        path = self.output_dir / MANIFEST
        ours = self._keys()
        kept: list[dict] = []
        try:
            old = json.loads(path.read_text(encoding="utf-8"))["entries"]
            kept = [e for e in old if (e["participant"], e["session"], e["stream"]) not in ours]
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError):
            self._damaged(path)
        entries = kept + [asdict(entry) for entry in self.entries]
        entries.sort(key=lambda e: (e["participant"], e["session"] or "", e["stream"]))
        content = {"generated_by": f"alsflow {self._version}", "entries": entries}
        write_text(path, json.dumps(content, indent=2) + "\n")

    def _save_details(self, entry: Entry, node: Any, step: str, text: str) -> str:
        """File with inputs and traceback of a failed step; its path relative to the output."""
        name = f"{entry.prefix}_{entry.stream}_{step}.txt"
        path = self.output_dir / "logs" / CRASH / name
        inputs = "\n".join(f"  {key} = {value}" for key, value in node.inputs.get().items())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, f"step {node.fullname}\nfolder {node.output_dir()}\n"
                             f"inputs\n{inputs}\n\n{text}")  # fmt: skip
        except OSError:  # a full disk must not hide the first cause
            return "n/a"
        return self._relative(path)


def _ids(key: Key) -> list[str]:
    """First three columns of the tables; the group level has neither person nor session."""
    participant, session, stream = key
    return [
        f"sub-{participant}" if participant else "n/a",
        f"ses-{session}" if session else "n/a",
        stream,
    ]


def _cell(value: str) -> str:
    return " ".join(str(value).split()) or "n/a"
