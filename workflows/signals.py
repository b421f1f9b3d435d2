"""Signals that ask a program to end: one sentence and an exit code instead of a sudden death."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

ASKING = ("SIGTERM", "SIGINT", "SIGHUP", "SIGXCPU")  # SIGXCPU: a limit of processor time
INTERRUPTED = "the run was interrupted; finished steps are kept, start it again to go on."


@contextmanager
def ending_politely() -> Iterator[None]:
    """Turn the first signal that asks for an end into `KeyboardInterrupt`.

    A signal that is ignored, as SIGHUP under ``nohup``, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _numbers()}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _numbers() -> list[signal.Signals]:
    """Those of the signals that this system has."""
    return [signal.Signals[name] for name in ASKING if name in signal.Signals.__members__]


def _interrupt(number: int, frame: object) -> NoReturn:
    """Interrupt once: a second signal must not cut off the tidying up after the first."""
    for other in _numbers():
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt
