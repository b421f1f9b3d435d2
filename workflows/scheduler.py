"""Walks over a graph of nodes: what is cached is passed over, the rest is given to be computed.

What every way of computing shares stands here: which node is next, what its end means for those
that need it, and who is told. Where and how a node is computed is the business of a subclass:
`plugin.WorkersPlugin` on this machine, `slurm.plugin.SlurmPlugin` on a cluster.

A node that died of memory is computed once more, alone; then it has failed.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import networkx as nx
from nipype.pipeline.engine.utils import topological_sort
from nipype.pipeline.plugins.base import PluginBase

from alsflow.workflows.cache import FileHashes, drop_result, read_record, repair
from alsflow.workflows.deaths import Death, death_by_error, last_words
from alsflow.workflows.keep import Keeper
from alsflow.workflows.watcher import Watcher

logger = logging.getLogger("alsflow")

PAUSE = 0.05  # s between two looks while nothing is computed
STALLED = (
    "WorkerDiedError: Nothing is being computed, and this step could not be started: a mistake of "
    "the program. Run again, and report it with the log if that does not help."
)


class GraphScheduler(PluginBase):
    """Nipype plugin that computes every node whose result is not there.

    Parameters
    ----------
    hashes : FileHashes
        Remembered content hashes.
    watchers : iterable of Watcher
        Told of everything that happens.
    stop_on_first_crash : bool
        Return at the first failure.
    plugin_args : dict, optional
        What Nipype's plugins take.
    """

    patience = 900.0  # s without any progress, nothing being computed, until the rest has failed

    def __init__(
        self,
        hashes: FileHashes,
        watchers: Iterable[Watcher] = (),
        stop_on_first_crash: bool = False,
        plugin_args: dict[str, Any] | None = None,
    ):
        super().__init__(plugin_args=plugin_args or {})
        self._hashes = hashes
        self._watchers = tuple(watchers)
        self._stop_first = stop_on_first_crash
        self._stopped = False
        self.keeper = Keeper()
        self._running: set[Any] = set()
        self._retried: set[Any] = set()  # nodes that died of memory once
        self._alone: set[Any] = set()  # those of them that have no result yet
        self.explain: Callable[[Any], str] | None = None  # why a node runs

    def run(self, graph: nx.DiGraph, config: dict, updatehash: bool = False) -> None:
        """Compute every node whose result is not there, as soon as its inputs are."""
        self._graph = graph
        order, _ = topological_sort(graph, depth_first=True)  # one person after the other
        self._rank = {node: index for index, node in enumerate(order)}
        self._missing = {node: graph.in_degree(node) for node in order}
        self._ready = [node for node in order if self._missing[node] == 0]
        self._moved = time.monotonic()
        self.keeper.plan(graph)
        try:
            self._prepare(order)
            repaired = repair(order, self._hashes)
            self._tell("planned", order, repaired)
            while (self._ready or self._busy()) and not self._stopped:
                self._sweep()
                self._dispatch()
                self._collect()
                self._tell("waiting")
                self._check_progress()
        finally:
            self._close()

    # -- for subclasses

    def _prepare(self, order: list[Any]) -> None:
        """Get ready, before any old result is looked at."""

    def _busy(self) -> bool:
        """Whether nodes are being computed."""
        raise NotImplementedError

    def _take(self, node: Any) -> bool:
        """Reserve what `node` needs; False if it has to wait."""
        raise NotImplementedError

    def _give_back(self, node: Any) -> None:
        """End what `_take` has reserved."""

    def _start(self, node: Any) -> None:
        """Have `node` computed; it has no result now."""
        raise NotImplementedError

    def _dispatch(self) -> None:
        """Send off what `_start` has gathered."""

    def _collect(self) -> None:
        """Wait for the next end of a node, a while at most, and call `_ended` or `_died`."""
        raise NotImplementedError

    def _close(self) -> None:
        """End whatever is still being computed."""

    def _allowed(self, node: Any) -> str:
        """Memory that `node` had when it was alone, and what sets it, for people."""
        return "all that there was"

    # -- the loop

    def _tell(self, event: str, *arguments: Any) -> None:
        for watcher in self._watchers:
            getattr(watcher, event)(*arguments)

    def _sweep(self) -> None:
        """Pass over cached nodes until none is left, and start the others where there is room."""
        stuck: list[Any] = []
        while self._ready and not self._stopped:
            node = self._ready.pop(0)
            try:
                if self.keeper.is_hopeless(node):
                    continue
                if self.keeper.must_wait(node, self._running):
                    stuck.append(node)
                elif self._is_cached(node):
                    old = read_record(node) or {}
                    self._finish(node, float(old.get("seconds", 0)), cached=True)
                elif self._lacks(node):
                    stuck.append(node)
                elif self._take(node):
                    self._begin(node)
                else:
                    stuck.append(node)
            except Exception:  # inputs that cannot be set or hashed, a node that cannot be pickled
                self._fail(node, traceback.format_exc())
        self._ready = stuck

    def _check_progress(self) -> None:
        """Give up rather than wait for ever: a night that hangs is a night lost."""
        if not self._ready or self._busy():
            return
        time.sleep(PAUSE)
        if time.monotonic() - self._moved > self.patience:
            stuck, self._ready = self._ready, []
            for node in stuck:
                self._fail(node, STALLED)

    def _is_cached(self, node: Any) -> bool:
        forced = node.overwrite or (node.overwrite is None and node.interface.always_run)
        return not forced and node.is_cached() == (True, True)

    def _lacks(self, node: Any) -> bool:
        """Whether files that `node` reads were removed; those who made them are computed again."""
        makers = self.keeper.lacking(node)
        for maker in makers:
            step = node.fullname.split(".", 1)[-1]
            reason = f"its output was removed to save space and is needed by {step}"
            self._reopen(maker, reason, forget=True)
        return bool(makers)

    def _reopen(self, node: Any, reason: str, forget: bool) -> None:
        self.keeper.reopen(node, forget)
        logger.info("%s again: %s", node.fullname, reason)
        self._moved = time.monotonic()
        self._ready.append(node)
        self._tell("reopened", node, reason)

    def _begin(self, node: Any) -> None:
        if getattr(node.interface, "terminal_output", "") == "stream":
            node.interface.terminal_output = "allatonce"
        if self.explain is not None:  # before the old result is gone
            logger.info("%s runs: %s", node.fullname, self.explain(node))
        drop_result(node)  # an old result must not be taken for that of a process that dies
        self._start(node)
        self._moved = time.monotonic()
        self._running.add(node)
        self._tell("started", node)

    def _ended(self, node: Any, answer: dict[str, Any]) -> None:
        """Take over the answer of the process that computed `node`."""
        self._hashes.add(answer.get("hashes", {}))
        if not answer["error"]:
            self._finish(node, answer["seconds"], cached=False)
            return
        death = death_by_error(answer["error"], answer.get("peak_mb", 0))
        self._died(node, death.text, death.memory or bool(answer.get("memory")), death.peak_mb)

    def _died(self, node: Any, obituary: str, memory: bool, peak_mb: float = 0) -> None:
        """Give a node that died of memory one more chance; any other has failed."""
        drop_result(node)
        if memory and node in self._retried:
            death = Death(obituary, memory, peak_mb)
            obituary = last_words(death, node.mem_gb, self._allowed(node))
        if not memory or node in self._retried or self._stopped:
            self._fail(node, obituary)
            return
        self._retried.add(node)
        self._alone.add(node)
        self._running.discard(node)
        self._give_back(node)
        logger.warning("%s is computed once more, alone: %s", node.fullname, obituary)
        self._tell("retried", node, obituary)
        self._ready.insert(0, node)

    def _release(self, node: Any) -> None:
        self._moved = time.monotonic()
        self._alone.discard(node)
        self._running.discard(node)
        self._give_back(node)

    def _finish(self, node: Any, seconds: float, cached: bool) -> None:
        self._release(node)
        followers = [] if self.keeper.is_reopened(node) else self._graph.successors(node)
        for follower in followers:
            self._missing[follower] -= 1
            if self._missing[follower] == 0:
                self._ready.append(follower)
        for follower in self.keeper.finished(node, cached):
            self._reopen(follower, "an input of it was made again and is another", forget=False)
        self._ready.sort(key=self._rank.__getitem__)
        logger.info("%s %s", node.fullname, "cached" if cached else f"done in {seconds:.1f} s")
        self._tell("finished", node, seconds, cached)

    def _fail(self, node: Any, text: str) -> None:
        """Nodes that need `node` never become ready, so nothing else is to be done."""
        self._release(node)
        self.keeper.failed(node)
        logger.error("%s failed\n%s", node.fullname, text)
        self._tell("failed", node, text)
        self._stopped = self._stopped or self._stop_first
