"""The state of a submission on a terminal, and as plain lines where it is piped."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from alsflow.workflows.progress import clock
from alsflow.workflows.slurm.status import ALIVE, SETTLED, Overview, Task

COLOURS = {"done": "green", "flagged": "yellow", "running": "cyan", "pending": "blue",
           "refused": "red", "absent": "red", "failed": "red", "killed": "red",
           "not-run": "red"}  # fmt: skip
QUIET = ("done", "pending")  # states of which the names are enough
NAMED = 12  # people whose names fit into a line


def show(
    view: Overview, output_dir: Path, everybody: bool = False, console: Console | None = None
) -> None:
    """Print counts, whom to look at, and what to do next.

    Parameters
    ----------
    view : Overview
        State of a submission.
    output_dir : Path
        Its output folder.
    everybody : bool
        A row for everybody, done and waiting too.
    console : Console, optional
        Where to print; standard output by default, without colours and frames where it is piped.
    """
    console = console or Console(highlight=False)
    wide = console.is_terminal
    console.print(_title(view), soft_wrap=True)
    for state, count in view.counts.items():
        names = [task.label for task in view.people if task.state == state]
        console.print(_line(state, count, names), soft_wrap=True)
    if view.group is not None:
        console.print(_group_line(view.group), soft_wrap=True)
    rows = [task for task in view.tasks if everybody or _notable(task)]
    rows.sort(key=lambda task: task.state in ALIVE)  # what is wrong comes first
    if rows:
        console.print()
        if wide:
            console.print(_table(rows))
        else:
            for task in rows:
                console.print(_plain(task), soft_wrap=True, markup=False)
    for text in _advice(view, output_dir):
        console.print(f"\n{text}", soft_wrap=True, markup=False)


def _title(view: Overview) -> Text:
    count = len(view.people)
    text = f"{view.run}: {'1 person' if count == 1 else f'{count} people'}"
    if not view.people:
        text = f"{view.run}: the group level"
    if view.resumed:
        text += f" (resumed by {', '.join(view.resumed)})"
    return Text(text, style="bold")


def _line(state: str, count: int, names: Sequence[str]) -> Text:
    """Count, state, and the names where they are few."""
    line = Text(f"{count:6d} ")
    line.append(f"{state:<8}", style=COLOURS[state])
    if len(names) <= NAMED:
        line.append(f" {' '.join(names)}")
    return line


def _group_line(task: Task) -> Text:
    line = Text(f"{'group':>6} ")
    line.append(f"{task.state:<8}", style=COLOURS[task.state])
    if task.state == "pending":
        line.append(f" {task.reason}")
    return line


def _notable(task: Task) -> bool:
    return task.state not in QUIET or bool(task.hint)


def _table(rows: Sequence[Task]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("who", "state", "time", "node", "job"):
        table.add_column(name, no_wrap=True)
    table.add_column("why, and what to do", overflow="fold")
    for task in rows:
        table.add_row(
            task.name,
            Text(task.state, style=COLOURS[task.state]),
            _clock(task),
            task.node,
            task.job,
            Text(_why(task)),
        )
    return table


def _plain(task: Task) -> str:
    cells = [task.name, task.state, _clock(task), task.node and f"on {task.node}", task.job]
    why = _why(task)
    return "  ".join(cell for cell in cells if cell) + (f"  {why}" if why else "")


def _clock(task: Task) -> str:
    return clock(task.seconds) if task.seconds else ""


def _why(task: Task) -> str:
    """Reason, what to do, and where to read more."""
    parts = [task.reason, task.hint]
    if task.log and task.state in ("failed", "killed"):
        parts.append(task.log)
    return "; ".join(part.removesuffix(".") for part in parts if part)


def _advice(view: Overview, output_dir: Path) -> list[str]:
    """What to do next."""
    lines = []
    if view.silent:
        lines.append("Slurm does not answer; this is what the files say.")
    if view.others:
        lines.append(f"{view.others} people of earlier submissions are not in this one (--run).")
    people = sum(task.state not in (*SETTLED, *ALIVE) for task in view.people)
    group = view.group is not None and view.group.state not in (*SETTLED, *ALIVE)
    if people or group:
        what = f"the {people} that {'is' if people == 1 else 'are'} missing" if people else ""
        parts = [what, "then the group level" if people else "the group level again"]
        parts = [part for part in (parts if view.group is not None else [what]) if part]
        command = f"alsflow-slurm resume {shlex.quote(str(output_dir))}"
        lines.append(f"{command}    submits {', '.join(parts)}.")
    return lines
