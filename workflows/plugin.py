"""Runs the nodes of a graph in worker processes, one node per worker at a time.

Nipype's own MultiProc plugin waits for ever when the system kills a worker (out of memory) or
when something cannot be pickled, and breaks the whole pool. Here each worker is a process of its
own with its own pipe: a dead worker costs the node that it was computing and nothing else. Only
text and numbers come back through the pipe; results travel through the working directory.

Workers are forked from a small server that has imported the interfaces and started no thread
(`forkserver`), because forking the driver, in which numerical libraries may have started
threads, can deadlock.
"""

from __future__ import annotations

import fcntl
import logging
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from multiprocessing import connection, get_context, parent_process
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from alsflow.workflows.cache import FileHashes, record
from alsflow.workflows.deaths import death_of_process, of_memory, printed_since
from alsflow.workflows.keep import check_whole
from alsflow.workflows.machine import held_to, limits, oom_kills
from alsflow.workflows.resources import expected
from alsflow.workflows.scheduler import GraphScheduler
from alsflow.workflows.stored import portable
from alsflow.workflows.usage import Meter, give_back, in_use_mb
from alsflow.workflows.watcher import Watcher

logger = logging.getLogger("alsflow")

LOG_FORMAT = "%(relativeCreated)9.0f ms  %(name)s  %(message)s"
F_SETSIG = 10  # of Linux; Python does not name it
WAIT = 0.5  # s between two looks at the watchers while nothing happens
MB_PER_GB = 1000
NODE_FILE = "_node.pklz"  # Nipype's copy of a node, of no use once it has finished
PRELOAD = ("nipype.pipeline.engine", "nibabel", "scipy.ndimage", "alsflow.workflows.resources")


# ---------------------------------------------------------------------------- in the worker


def work(pipe: connection.Connection, log_file: str, folder: str) -> None:
    """Compute nodes from `pipe` until it is closed; prints go to the log file."""
    os.setpgid(0, 0)  # programs started by nodes die with the worker
    target = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream, number in ((os.open(os.devnull, os.O_RDONLY), 0), (target, 1), (target, 2)):
        os.dup2(stream, number)
    os.chdir(folder)
    for handler in logging.getLogger("nipype").handlers:
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
    threading.Thread(target=_end_with_driver, daemon=True).start()
    hashes, floor_mb = FileHashes(), 0.0
    while True:
        floor_mb = give_back(floor_mb)
        try:
            packed = pipe.recv_bytes()
        except EOFError:
            return
        pipe.send(compute(packed, hashes))


def _end_with_driver() -> None:
    """End at once when the driver is gone: nobody would see the result.

    Were a step to go on, the next run could compute the same step in the same folder beside it.
    """
    driver = parent_process()
    if driver is not None:
        _have_killed(driver.sentinel)
        connection.wait([driver.sentinel])
        os.killpg(0, signal.SIGKILL)


def _have_killed(pipe: int) -> None:
    """Let the kernel kill this process and its programs when the other end of `pipe` closes.

    A thread of Python cannot: compiled code that keeps the interpreter's lock would keep it
    waiting until the step ends. Linux alone can do this; elsewhere the thread has to do.
    """
    if sys.platform == "linux":
        fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(pipe, F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(pipe, fcntl.F_GETFL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, flags | os.O_ASYNC)


def compute(packed: bytes, hashes: FileHashes) -> dict[str, Any]:
    """Run one node; the answer holds plain values only, so it can always be sent.

    Parameters
    ----------
    packed : bytes
        The node, pickled by the driver.
    hashes : FileHashes
        Takes up the hashes of the outputs.

    Returns
    -------
    dict
        ``error`` (traceback, or nothing), ``seconds``, ``hashes`` and, where the node has failed,
        ``memory`` (whether it died of memory without its process dying) and ``peak_mb``.
    """
    start = time.monotonic()
    meter = Meter()
    try:
        node = pickle.loads(packed)
        with portable(node.base_dir), _held(node), meter:
            check_whole(node)
            outputs = node.run().outputs
        seconds = time.monotonic() - start
        record(node, outputs, hashes, seconds, **asdict(meter.usage))
        (Path(node.output_dir()) / NODE_FILE).unlink(missing_ok=True)
    except BaseException:  # also SystemExit: a node must not end its worker
        seconds, text = time.monotonic() - start, traceback.format_exc()
        return {"error": text, "seconds": seconds, "memory": of_memory(text),
                "peak_mb": meter.usage.peak_mb}  # fmt: skip
    return {"error": "", "seconds": seconds, "hashes": hashes.news()}


def _held(node: Any) -> AbstractContextManager[None]:
    """Hold a step whose library starts threads as it likes to the processors it was given."""
    need = expected(node)
    return held_to(need.processes) if need.threads else nullcontext()


# ---------------------------------------------------------------------------- in the driver


@dataclass
class Worker:
    """One process and the node that it is computing."""

    process: Any
    pipe: connection.Connection
    node: Any = None
    peak_mb: float = 0.0  # most memory that it was seen to use for this node
    log_start: int = 0  # size of the log when it began

    def begin(self, node: Any, log_file: str) -> None:
        """Note what it computes now."""
        self.node, self.peak_mb = node, 0.0
        with suppress(OSError):
            self.log_start = os.path.getsize(log_file)

    def look(self) -> None:
        """Note how much memory it uses, which nobody can ask any more when it is dead."""
        self.peak_mb = max(self.peak_mb, in_use_mb(self.process.pid))

    def kill(self) -> None:
        """End the process and every program that it has started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.pipe.close()


@dataclass
class Resources:
    """What may be used at once; a node that asks for more than all of it runs alone."""

    processes: int
    memory_gb: float
    used: dict[Any, tuple[int, float]] = field(default_factory=dict)

    def take(self, node: Any, alone: bool = False) -> bool:
        """Reserve what `node` needs, or everything if it is to run `alone`, if it is free."""
        need = (min(node.n_procs, self.processes), min(node.mem_gb, self.memory_gb))
        if alone:
            need = (self.processes, self.memory_gb)
        busy = [sum(column) for column in zip(*self.used.values(), strict=True)] or [0, 0]
        fits = busy[0] + need[0] <= self.processes and busy[1] + need[1] <= self.memory_gb + 1e-9
        if fits:
            self.used[node] = need
        return fits


class WorkersPlugin(GraphScheduler):
    """Nipype plugin that survives killed workers and whatever cannot be pickled.

    Parameters
    ----------
    processes : int
        Workers at one time.
    memory_gb : float
        Sum of the `mem_gb` of the nodes that may run at one time.
    hashes : FileHashes
        Remembered content hashes.
    watchers : iterable of Watcher
        Told of everything that happens.
    log_file : str
        Where workers print.
    folder : str
        Where workers stand between two nodes.
    stop_on_first_crash : bool
        Kill the other workers and return at the first failure.
    """

    def __init__(
        self,
        processes: int,
        memory_gb: float,
        hashes: FileHashes,
        watchers: Iterable[Watcher] = (),
        log_file: str = os.devnull,
        folder: str = "/",
        stop_on_first_crash: bool = False,
    ):
        super().__init__(hashes, watchers, stop_on_first_crash)
        self._resources = Resources(processes, memory_gb)
        self._log_file, self._folder = log_file, folder
        self._workers: list[Worker] = []

    def _prepare(self, order: list[Any]) -> None:
        modules = {type(node.interface).__module__ for node in order}
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload([*PRELOAD, *sorted(modules)])
        self._kills = oom_kills()

    def _busy(self) -> bool:
        return bool(self._computing)

    @property
    def _computing(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.node is not None]

    def _take(self, node: Any) -> bool:
        if node in self._alone:
            room = self._resources.take(node, alone=True)
            if room:
                self._end_idle()  # even they hold memory
            return room
        waiting = self._alone - self._resources.used.keys()
        return not waiting and self._resources.take(node)  # room is made for the one that waits

    def _give_back(self, node: Any) -> None:
        self._resources.used.pop(node, None)

    def _start(self, node: Any) -> None:
        packed = ForkingPickler.dumps(node)
        worker = self._idle_worker() or self._new_worker()
        try:
            worker.pipe.send_bytes(packed)
        except OSError:  # it died while idle: one more chance with a new one
            self._discard(worker)
            worker = self._new_worker()
            worker.pipe.send_bytes(packed)
        worker.begin(node, self._log_file)
        logger.info("%s started in process %s", node.fullname, worker.process.pid)

    def _collect(self) -> None:
        """Wait for an answer, a death or the end of the interval."""
        busy = {entry.pipe: entry for entry in self._computing}
        sentinels = {entry.process.sentinel: entry for entry in busy.values()}
        if not busy:
            return
        happened = connection.wait([*busy, *sentinels], WAIT)
        for worker in busy.values():
            worker.look()
        for worker in list(busy.values()):
            if worker.pipe in happened or worker.process.sentinel in happened:
                self._answer(worker)

    def _answer(self, worker: Worker) -> None:
        node = worker.node
        try:
            answer = worker.pipe.recv() if worker.pipe.poll() else None
        except (EOFError, OSError):
            answer = None
        worker.node = None
        if answer is not None:
            if answer.get("memory"):
                self._discard(worker, patience=0)  # nobody knows what it still holds
            self._ended(node, answer)
            return
        self._discard(worker)
        before, self._kills = self._kills, oom_kills()
        said = printed_since(self._log_file, worker.log_start)
        code = worker.process.exitcode
        death = death_of_process(code, self._kills - before, worker.peak_mb, said)
        self._died(node, death.text, death.memory, death.peak_mb)

    def _allowed(self, node: Any) -> str:
        limit = limits().memory
        given = self._resources.memory_gb
        if limit.value / MB_PER_GB < given:
            return f"{limit.value / MB_PER_GB:.1f} GB ({limit.source})"
        return f"{given:.1f} GB (--mem)"

    # -- workers

    def _new_worker(self) -> Worker:
        here, there = self._context.Pipe()
        arguments = (there, self._log_file, self._folder)
        process = self._context.Process(target=work, args=arguments, daemon=False)
        try:
            process.start()
        except (ConnectionError, EOFError):  # the server has just died; the next call starts one
            time.sleep(WAIT)
            process = self._context.Process(target=work, args=arguments, daemon=False)
            process.start()
        there.close()
        worker = Worker(process, here)
        self._workers.append(worker)
        return worker

    def _idle_worker(self) -> Worker | None:
        """Worker with nothing to do; those that died meanwhile are taken off the list.

        When the server dies, its workers count as dead: nobody can tell any more how they end.
        """
        for worker in [entry for entry in self._workers if entry.node is None]:
            if worker.process.exitcode is None:
                return worker
            self._discard(worker)
        return None

    def _discard(self, worker: Worker, patience: float = 5) -> None:
        self._workers.remove(worker)
        worker.process.join(patience)  # the exit code of one that is dying is its own
        worker.kill()

    def _end_idle(self) -> None:
        for worker in [entry for entry in self._workers if entry.node is None]:
            self._discard(worker, patience=0)

    def _close(self) -> None:
        """Idle workers end when their pipe closes; busy ones are killed."""
        for worker in self._workers:
            if worker.node is not None:
                worker.kill()
            else:
                worker.pipe.close()
        for worker in self._workers:
            worker.process.join(5)
        self._workers.clear()
