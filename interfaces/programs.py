"""External programs: run one, and see what it said."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alsflow.nodes.errors import MissingProgramError, ProgramKilledError

NOTHING = "it says nothing"
KILLED = (-9, 137)  # by signal 9; as a shell around the program tells it


@dataclass(frozen=True)
class Ended:
    """A program that has ended, or could not be run.

    Attributes
    ----------
    code : int
        Exit status; -1 where it did not end in time or could not be started.
    out, err : str
        What it wrote to standard output and to standard error.
    """

    code: int
    out: str
    err: str


def call(
    command: Sequence[str], limit: float, *, stdin: str = "", folder: str | Path | None = None
) -> Ended:
    """Run a program, without a shell.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    limit : float
        Time after which it is ended, s.
    stdin : str
        What it reads from standard input.
    folder : path, optional
        Where it runs; by default the current one.

    Raises
    ------
    ProgramKilledError
        It was killed from outside: what it has left says nothing about its input.
    """
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, timeout=limit, check=False, cwd=folder,
            encoding="utf-8", errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Ended(-1, "", f"it did not end within {limit:g} s")
    except OSError as error:
        return Ended(-1, "", f"it cannot be started: {error.strerror}")
    if done.returncode in KILLED:
        raise ProgramKilledError(
            f"{Path(command[0]).name} was killed (exit status {done.returncode}); most often "
            "memory ran out."
        )
    return Ended(done.returncode, done.stdout, done.stderr)


def find_program(name: str, advice: str) -> str:
    """Path of a program on the PATH.

    Raises
    ------
    MissingProgramError
        It is not there; the message is `advice`.
    """
    found = shutil.which(name)
    if found is None:
        raise MissingProgramError(advice)
    return found


def last_line(text: str) -> str:
    """Last line that is not blank; empty where there is none."""
    return text.strip().rpartition("\n")[2].strip()
