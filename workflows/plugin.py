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
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing import connection, get_context, parent_process
from multiprocessing.reduction import ForkingPickler
from typing import Any

from alsflow.workflows.cache import FileHashes, record
from alsflow.workflows.keep import check_whole
from alsflow.workflows.scheduler import GraphScheduler, Watcher
from alsflow.workflows.stored import portable
from alsflow.workflows.usage import Meter

logger = logging.getLogger("alsflow")

LOG_FORMAT = "%(relativeCreated)9.0f ms  %(name)s  %(message)s"
F_SETSIG = 10  # of Linux; Python does not name it
LOST = 255  # exit code of a worker whose server has died: nobody knows how it ended
WAIT = 0.5  # s between two looks at the watchers while nothing happens
PRELOAD = ("nipype.pipeline.engine", "nibabel", "scipy.ndimage")


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
    hashes = FileHashes()
    while True:
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
        ``error`` (traceback, or nothing), ``seconds``, ``hashes`` and, where the node died of
        memory without its process dying, ``memory``.
    """
    start = time.monotonic()
    try:
        node = pickle.loads(packed)
        check_whole(node)
        with portable(node.base_dir), Meter() as meter:
            outputs = node.run().outputs
        seconds = time.monotonic() - start
        record(node, outputs, hashes, seconds, **asdict(meter.usage))
    except BaseException:  # also SystemExit: a node must not end its worker
        return {"error": traceback.format_exc(), "seconds": time.monotonic() - start}
    return {"error": "", "seconds": seconds, "hashes": hashes.news()}


# ---------------------------------------------------------------------------- in the driver


@dataclass
class Worker:
    """One process and the node that it is computing."""

    process: Any
    pipe: connection.Connection
    node: Any = None

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

    def _busy(self) -> bool:
        return bool(self._computing)

    @property
    def _computing(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.node is not None]

    def _take(self, node: Any) -> bool:
        if node in self._alone:
            return self._resources.take(node, alone=True)
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
        worker.node = node
        logger.info("%s started in process %s", node.fullname, worker.process.pid)

    def _collect(self) -> None:
        """Wait for an answer, a death or the end of the interval."""
        busy = {entry.pipe: entry for entry in self._computing}
        sentinels = {entry.process.sentinel: entry for entry in busy.values()}
        if not busy:
            return
        happened = connection.wait([*busy, *sentinels], WAIT)
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
            self._ended(node, answer)
            return
        self._discard(worker)
        code = worker.process.exitcode
        self._died(node, _obituary(code), memory=code in (-signal.SIGKILL, LOST))

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

    def _discard(self, worker: Worker) -> None:
        self._workers.remove(worker)
        worker.process.join(5)
        worker.kill()

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


def _obituary(code: int | None) -> str:
    """Why there is no answer, in the last line as tracebacks have it."""
    if code is not None and code < 0:
        known = -code in list(signal.Signals)
        name = signal.Signals(-code).name if known else str(-code)
        cause = f"was ended by the system (signal {name})"
        if name == "SIGKILL":
            cause += "; most often memory ran out: give fewer --nprocs or a machine with more"
    elif code == LOST:
        cause = "was lost: the server of the workers was ended by the system"
    else:
        cause = f"ended with code {code} and without a result"
    return f"WorkerDiedError: The process that computed this step {cause}."
