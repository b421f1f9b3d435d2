"""What a step really used: peak memory of its process and of the programs it started, and CPU.

The system keeps the highest memory of a process (VmHWM); it is set back before every step, so
that it speaks of this step alone. Programs that a step starts are looked at while they run.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SELF = Path("/proc/self")
INTERVAL = 0.05  # s between two looks at the programs that a step has started
KEPT_MB = 50.0  # what a worker may hold on to beyond what it cannot give back
KB_PER_MB = 1000 / 1.024


@dataclass
class Usage:
    """What one step used.

    Attributes
    ----------
    peak_mb : float
        Highest memory at one time, MB (10^6 bytes); 0 where the system does not tell.
    cpu_seconds : float
        Processor time, of programs that have ended too.
    """

    peak_mb: float = 0.0
    cpu_seconds: float = 0.0


class Meter:
    """Measures what happens in this process between entry and exit of the context.

    Examples
    --------
    >>> with Meter() as meter:
    ...     size = len(bytes(1000))
    >>> meter.usage.peak_mb > 1
    True
    """

    def __init__(self, interval: float = INTERVAL):
        self.usage = Usage()
        self._interval = interval
        self._end = threading.Event()
        self._seen_mb = 0.0

    def __enter__(self) -> Meter:
        self._cpu = _cpu_seconds()
        self._resettable = _reset_peak()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        own = status_mb("self", "VmHWM" if self._resettable else "VmRSS")
        self.usage.peak_mb = round(max(own, self._seen_mb), 1)
        self.usage.cpu_seconds = round(_cpu_seconds() - self._cpu, 2)

    def _watch(self) -> None:
        """Note the highest sum of this process and of what it has started."""
        while not self._end.wait(self._interval):
            below = sum(status_mb(pid, "VmHWM") for pid in programs_below(os.getpid()))
            if below or not self._resettable:
                self._seen_mb = max(self._seen_mb, status_mb("self", "VmRSS") + below)


def in_use_mb(pid: int) -> float:
    """Highest memory of a process since it was set back, and of what it has started, MB."""
    return status_mb(pid, "VmHWM") + sum(status_mb(k, "VmHWM") for k in programs_below(pid))


def status_mb(pid: int | str, name: str) -> float:
    """One size in /proc/PID/status, MB; 0 where there is none."""
    with suppress(OSError, ValueError):
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / KB_PER_MB
    return 0.0


def programs_below(pid: int) -> Iterator[int]:
    """Programs that a process has started, and theirs, that are running now.

    A child that has not become its program yet still shows the memory of its parent, and is left
    out.
    """
    for child in _children(pid):
        if _command(child) != _command(pid):
            yield child
        yield from programs_below(child)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError, ValueError):
                found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _reset_peak() -> bool:
    """Set the highest memory of this process back to what it holds now, where that is allowed."""
    try:
        (SELF / "clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _cpu_seconds() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = [resource.getrusage(kind) for kind in kinds]
    return sum(entry.ru_utime + entry.ru_stime for entry in used)


def give_back(floor_mb: float) -> float:
    """Return memory that is no longer needed to the system, for the steps of other workers.

    Parameters
    ----------
    floor_mb : float
        What was left the last time, MB: libraries and their compiled code.

    Returns
    -------
    float
        What is left now, if there was enough to return to look.
    """
    if status_mb("self", "VmRSS") <= floor_mb + KEPT_MB:
        return floor_mb
    gc.collect()
    with suppress(OSError, AttributeError):  # not every C library has it
        ctypes.CDLL(None).malloc_trim(0)
    return status_mb("self", "VmRSS")
