"""Live progress: a table that redraws itself on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from alsflow.workflows.manifest import Key, Manifest, cause_of
from alsflow.workflows.watcher import Watcher

PLAIN_INTERVAL = 30.0  # s between two plain lines while nothing ends
SHOWN_RUNNING = 6  # steps named in the table
SHOWN_REPAIRED = 5  # reasons named unless all are asked for
BAR = 40  # characters


class Progress(Watcher):
    """Watcher that shows what is going on.

    Parameters
    ----------
    manifest : Manifest
        States of the streams; must hear of every event before this watcher does.
    processes : int
        Steps that may run at one time, for the time left.
    console : Console, optional
        Where to show it; standard error by default.
    verbose : bool
        Name every finished step, and every repaired one, where lines are plain.
    why : callable, optional
        Says why a step runs; then it is shown as it starts.
    """

    def __init__(
        self,
        manifest: Manifest,
        processes: int,
        console: Console | None = None,
        verbose: bool = False,
        why: Callable[[Any], str] | None = None,
    ):
        self._manifest = manifest
        self._processes = processes
        self._console = console or Console(stderr=True)
        self._verbose = verbose
        self._why = why
        self._live: Live | None = None
        self._running: dict[Any, float] = {}
        self._open: set[Any] = set()
        self._cached = self._done = self._failed = self._total = self._reopened = 0
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._last_line = time.monotonic()
        self.told: set[Key] = set()  # entries of which the end has been shown

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = Live(self._table(), console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.update(self._table())
            self._live.stop()
        elif self._total:
            self._say(self.line())

    # -- a watcher of nodes

    def planned(self, nodes: list[Any], repaired: dict[Any, str]) -> None:
        """All steps are known now."""
        self._total = len(nodes)
        self._open = set(nodes)
        if repaired:
            self._say(f"Results that cannot be used any more: {len(repaired)}.")
            shown = list(repaired.items())[: None if self._verbose else SHOWN_REPAIRED]
            for node, reason in shown:
                self._say(f"  {_short(node)}: {reason}")

    def started(self, node: Any) -> None:
        """One step more is running."""
        if self._why is not None:
            self._say(f"{_short(node)} runs: {self._why(node)}")
        self._running[node] = time.monotonic()
        self._refresh()

    def retried(self, node: Any, text: str) -> None:
        """One step died and waits for its second chance."""
        self._running.pop(node, None)
        cause = cause_of(text)[1]
        self._say(f"{_short(node)} is computed once more, alone: {cause}")

    def reopened(self, node: Any, reason: str) -> None:
        """One step more is to be done."""
        self._total += 1
        self._open.add(node)
        self._reopened += 1
        if self._verbose or self._reopened <= SHOWN_REPAIRED:
            self._say(f"{_short(node)} again: {reason}")
        elif self._reopened == SHOWN_REPAIRED + 1:
            self._say("More steps are made again; the log names them.")

    def finished(self, node: Any, seconds: float, cached: bool) -> None:
        """One step has its result."""
        self._running.pop(node, None)
        self._open.discard(node)
        self._done += 1
        self._cached += cached
        self._seconds[node.name].append(seconds)
        if self._verbose and not cached and self._live is None:
            self._say(f"{_short(node)}: done in {seconds:.1f} s")
        self._tell_streams()
        self._refresh()

    def failed(self, node: Any, text: str) -> None:
        """One step failed."""
        self._running.pop(node, None)
        self._open.discard(node)
        self._failed += 1
        if self._manifest.entry_of(node).key in self.told and self._manifest.failures:
            self._say(f"{_short(node)} failed too: {self._manifest.failures[-1].cause}")
        self._tell_streams()
        self._refresh()

    def said(self, text: str) -> None:
        """Something about the run as a whole, such as why jobs wait in the queue."""
        self._say(text)

    def waiting(self) -> None:
        """Show that the run is alive."""
        if self._live is None and time.monotonic() - self._last_line > PLAIN_INTERVAL:
            self._say(self.line())
        self._refresh()

    # -- numbers

    def line(self) -> str:
        """Put the state of the run in one line."""
        people = {(entry.participant, entry.session) for entry in self._manifest.entries}
        unsettled = {
            (entry.participant, entry.session)
            for entry in self._manifest.entries
            if entry.state == "not-run"
        }
        visits = f"{len(people) - len(unsettled)} of {len(people)} visits, "
        if not self._manifest.entries[0].participant:  # the group level
            visits = ""
        text = (
            f"{visits}{self._done} of {self._total} steps ({self._cached} from the cache), "
            f"{len(self._running)} running"
        )
        if self._failed:
            text += f", {self._failed} failed"
        left = self.time_left()
        return text + (f", about {clock(left)} left" if left is not None else "")

    def time_left(self) -> float | None:
        """Seconds until the end, from what steps of the same name took; None if unknown."""
        known = {name: sum(times) / len(times) for name, times in self._seconds.items()}
        if not known or not self._open:
            return None
        usual = sum(known.values()) / len(known)
        now = time.monotonic()
        left = 0.0
        for node in self._open:
            if self._manifest.entry_of(node).state != "not-run":
                continue  # what follows a failed step never runs
            spent = now - self._running[node] if node in self._running else 0.0
            left += max(0.0, known.get(node.name, usual) - spent)
        return left / self._processes

    # -- showing

    def _tell_streams(self) -> None:
        for entry in self._manifest.entries:
            if entry.state != "not-run" and entry.key not in self.told:
                self.told.add(entry.key)
                reason = f": {entry.reason}" if entry.reason else ""
                named = not entry.participant or entry.prefix in reason
                prefix = "" if named else f"{entry.prefix} "
                self._say(f"{prefix}{entry.stream}: {entry.state}{reason}")

    def _say(self, text: str) -> None:
        self._last_line = time.monotonic()
        with suppress(OSError, SystemExit):  # Rich ends the program when nobody listens any more
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._table())

    def _table(self) -> Group:
        rows = Table.grid(padding=(0, 2))
        now = time.monotonic()
        for node, start in list(self._running.items())[:SHOWN_RUNNING]:
            rows.add_row(Text(_short(node)), Text(clock(now - start)))
        more = len(self._running) - SHOWN_RUNNING
        if more > 0:
            rows.add_row(Text(f"and {more} more"))
        bar = Table.grid()
        bar.add_row(ProgressBar(total=max(1, self._total), completed=self._done, width=BAR))
        return Group(bar, Text(self.line()), rows)


def _short(node: Any) -> str:
    """Name of a step without the outermost workflow."""
    return " ".join(part.removesuffix("_wf") for part in node.fullname.split(".")[1:])


def clock(seconds: float) -> str:
    """Duration for people.

    >>> clock(42), clock(125), clock(7300)
    ('42 s', '2 min', '2 h 2 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
