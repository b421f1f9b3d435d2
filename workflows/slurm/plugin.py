"""Computes the nodes of a graph as jobs of a Slurm cluster.

Nipype's SLURM plugin asks the queue once per job and poll, takes an older result for that of a
job that died, and stops at the first job that is killed (docs/slurm-plugin.md). This subclass
keeps the names of its arguments and nothing of its loop: the queue is asked once per interval, a
node is finished only when the job that was submitted for it says so, and every end of a job has
an answer.

Steps that take a few seconds share a job with others of the same person (`groups`); every
other step is a job of its own, which asks for the memory, processors and time of that step.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import networkx as nx
from nipype.pipeline.plugins.slurm import SLURMPlugin

from alsflow.interfaces import slurm
from alsflow.workflows import exits
from alsflow.workflows.cache import FileHashes, read_record, remembered, removed
from alsflow.workflows.names import visit_of
from alsflow.workflows.resources import expected
from alsflow.workflows.scheduler import GraphScheduler
from alsflow.workflows.settings import SlurmSettings
from alsflow.workflows.slurm import inside
from alsflow.workflows.slurm.batch import SCRIPT, Batch, Place, Writer, pack
from alsflow.workflows.slurm.groups import bundles
from alsflow.workflows.slurm.jobs import ActiveJobs, Entry, cancel, settle
from alsflow.workflows.stored import portable
from alsflow.workflows.watcher import Watcher

logger = logging.getLogger("alsflow")

SLICE = 0.5  # s between two looks at the watchers
TRIES = 3  # of a job that its node failed, or that was preempted
ROUTINE = ("", "Priority", "Resources", "BeginTime")  # reasons of jobs that wait for their turn
OF_THIS_JOB = ("memory", "node configuration", "cpu count", "time limit", "processors")
OF_ALL_JOBS = ("Account", "QOSNotAllowed", "InvalidQOS")
DIED = "WorkerDiedError: "  # what follows is a sentence for people


class SlurmPlugin(GraphScheduler, SLURMPlugin):
    """Nipype plugin that computes nodes as jobs of a Slurm cluster.

    Parameters
    ----------
    settings : SlurmSettings
        Where and how jobs are submitted.
    place : Place
        Folders of the run; every node of the cluster must see them under the same path.
    hashes : FileHashes
        Remembered content hashes.
    watchers : iterable of Watcher
        Told of everything that happens, of the queue too.
    stop_on_first_crash : bool
        Cancel the other jobs and return at the first failure.
    plugin_args : dict, optional
        As for Nipype's plugin: ``sbatch_args``, ``template``, ``max_jobs``, ``retry_timeout``
        and ``max_tries``. The ``plugin_args`` of a node may hold ``sbatch_args``, too.
    """

    def __init__(
        self,
        settings: SlurmSettings,
        place: Place,
        hashes: FileHashes,
        watchers: Iterable[Watcher] = (),
        stop_on_first_crash: bool = False,
        plugin_args: dict[str, Any] | None = None,
    ):
        given = plugin_args or {}
        GraphScheduler.__init__(self, hashes, watchers, stop_on_first_crash, given)
        self._slurm, self._place = settings, place
        self._writer = Writer(settings, place, self._template, self._sbatch_args or "")
        self._most = int(given.get("max_jobs", settings.max_jobs))
        self._pause = float(given.get("retry_timeout", 2.0))
        self._submissions = int(given.get("max_tries", 5))
        self._token, self._count = secrets.token_hex(3), 0
        self._noted = ActiveJobs(place.work_dir)
        self._packed: dict[Any, bytes] = {}  # nodes that were started, for the next jobs
        self._unsent: list[Batch] = []
        self._sent: list[Batch] = []
        self._leaving: list[Batch] = []  # jobs that have said everything, but are in the queue
        self._members: set[Any] = set()  # nodes in jobs that have not ended
        self._done: set[Any] = set()
        self._reopened: set[Any] = set()  # nodes that are made again
        self._tries: dict[Any, int] = {}
        self._lacked_memory: set[Any] = set()
        self._unshared: set[Any] = set()  # nodes that get a job of their own
        self._asked: dict[Any, int] = {}  # MB
        self._end = ""  # why nothing more is submitted
        self._ever_begun = False
        self._silent = self._told_full = False
        self._told_reasons: set[str] = set()

    def run(self, graph: nx.DiGraph, config: dict, updatehash: bool = False) -> None:
        """Compute every node whose result is not there; jobs and driver store them alike."""
        with remembered(self._hashes), portable(self._place.work_dir):
            super().run(graph, config, updatehash)

    # -- what the scheduler asks

    def _prepare(self, order: list[Any]) -> None:
        visits = {visit_of(node.fullname) for node in order}
        settle(self._place.work_dir, visits, self._slurm.poll, self._say)
        if self._slurm.container:
            self._writer = replace(self._writer, place=self._place.with_inputs(order))

    def _busy(self) -> bool:
        return bool(self._packed or self._unsent or self._sent or self._end)

    def _is_cached(self, node: Any) -> bool:
        return node not in self._members and super()._is_cached(node)

    def _take(self, node: Any) -> bool:
        if node in self._members or self._end or self._unsent or self._is_read(node):
            return False
        short = [other for other in self._packed if self._is_short(other)]
        jobs = len(self._packed) - len(short) + len({visit_of(other.fullname) for other in short})
        return self._in_queue + jobs < self._most

    @property
    def _in_queue(self) -> int:
        return len(self._sent) + len(self._leaving)

    def _start(self, node: Any) -> None:
        self._packed[node] = pack(node)

    def _dispatch(self) -> None:
        """Make jobs of the nodes that were started, and submit as many as there is room for."""
        started, self._packed = self._packed, {}
        followers: dict[Any, bytes] = {}
        for nodes in self._jobs_of(list(started), followers):
            packed = {n: (started[n], True) if n in started else (followers[n], False)
                      for n in nodes}  # fmt: skip
            self._unsent.append(self._write(packed))
        while self._unsent and self._in_queue < self._most:
            if not self._submit(self._unsent[0]):
                break

    def _collect(self) -> None:
        """Sleep until the next question to the queue is due, then take over what has ended."""
        if self._end and not self._sent:
            raise exits.StopRunError(exits.FAILED, self._end)
        if not self._sent and not self._unsent and not (self._ready and self._leaving):
            return
        due = time.monotonic() + self._slurm.poll
        while (left := due - time.monotonic()) > 0:
            time.sleep(min(SLICE, left))
            self._tell("waiting")
        for entry in list(self._sent):
            self._take_over(entry)
        self._look()

    def _close(self) -> None:
        """Cancel what is in the queue; what may still run stays noted for the next run."""
        jobs = [entry.job for entry in self._sent] + self._interrupted()
        if cancel(jobs):
            self._noted.drop(entry.name for entry in self._sent + self._unsent)
        else:
            self._say(f"Jobs that were cancelled may still be running: {', '.join(jobs)}.")

    def _interrupted(self) -> list[str]:
        """Job whose submission was interrupted before its id was known."""
        with suppress(slurm.SlurmError):
            found = [slurm.find(entry.name) for entry in self._unsent if entry.noted]
            return [job for job in found if job]
        return []

    def _finish(self, node: Any, seconds: float, cached: bool) -> None:
        self._done.add(node)
        self._reopened.discard(node)
        super()._finish(node, seconds, cached)

    def _fail(self, node: Any, text: str) -> None:
        self._reopened.discard(node)
        super()._fail(node, text)

    def _reopen(self, node: Any, reason: str, forget: bool) -> None:
        self._done.discard(node)
        self._reopened.add(node)
        super()._reopen(node, reason, forget)

    def _is_read(self, node: Any) -> bool:
        """Whether jobs may be reading what `node`, which is made again, has written."""
        jobs = self._sent + self._unsent
        return node in self._reopened and any(job.visit == visit_of(node.fullname) for job in jobs)

    def _allowed(self, node: Any) -> str:
        return f"{self._asked[node] / 1000:.1f} GB, asked of Slurm"

    # -- which nodes share a job

    def _is_short(self, node: Any) -> bool:
        alone = node in self._retried or node in self._unshared
        return not alone and expected(node).minutes < self._slurm.group_minutes

    def _jobs_of(self, nodes: list[Any], followers: dict[Any, bytes]) -> list[list[Any]]:
        """Sort nodes into jobs; short ones with those of their person that follow them."""
        jobs = [[node] for node in nodes if not self._is_short(node)]
        visits: dict[str, list[Any]] = {}
        for node in nodes:
            if self._is_short(node):
                visits.setdefault(visit_of(node.fullname), []).append(node)
        for ready in visits.values():
            jobs += bundles(
                ready,
                self._graph,
                rank=self._rank.__getitem__,
                minutes=lambda node: expected(node).minutes,
                may_join=lambda node: self._may_join(node, followers),
                finished=self._done.__contains__,
                limit=self._slurm.group_minutes,
            )
            self._members.update(node for job in jobs for node in job)
        return sorted(jobs, key=lambda job: self._rank[job[0]])

    def _may_join(self, node: Any, followers: dict[Any, bytes]) -> bool:
        """Whether a node may join the job in which the last of its inputs is made."""
        before = list(self._graph.predecessors(node))
        forced = node.overwrite or (node.overwrite is None and node.interface.always_run)
        if (
            node in self._members
            or node in self._done
            or forced
            or not self._is_short(node)
            or any(visit_of(other.fullname) != visit_of(node.fullname) for other in before)
            or any(visit_of(other.fullname) == visit_of(node.fullname) for other in self._reopened)
            or not all(_is_whole(other) for other in before if other in self._done)
        ):
            return False
        try:
            followers[node] = pack(node)
        except Exception:  # its own job says why, when its turn comes
            return False
        return True

    # -- a job on its way out

    def _write(self, packed: dict[Any, tuple[bytes, bool]]) -> Batch:
        self._count += 1
        visit = visit_of(next(iter(packed)).fullname)
        name = f"als-{self._token}-{self._count}-{visit}"
        self._members.update(packed)
        entry = self._writer.write(
            name,
            visit,
            self._noted.folder / visit / name,
            packed,
            lambda node: list(self._graph.predecessors(node)),
            2.0 if self._lacked_memory & packed.keys() else 1.0,
        )
        self._asked.update(dict.fromkeys(packed, entry.need.memory_mb))
        return entry

    def _submit(self, entry: Batch) -> bool:
        """Submit a job; False where that is to be tried again later."""
        self._note(entry)
        try:
            entry.job = slurm.submit(entry.folder / SCRIPT, name=entry.name,
                                     tries=self._submissions, pause=self._pause)  # fmt: skip
        except slurm.UnreachableError:
            self._hear(answered=False)
            return False
        except slurm.FullError as error:
            if not self._in_queue and not self._told_full:  # other jobs of this person are
                self._say(f"Slurm takes no more jobs for now, waiting: {error}.")
                self._told_full = True
            return False
        except slurm.RefusedError as error:
            self._refuse(entry, str(error))
            return True
        self._hear(answered=True)
        self._told_full = False
        self._unsent.remove(entry)
        self._sent.append(entry)
        self._note(entry)
        names = ", ".join(node.fullname for node in entry.nodes)
        logger.info("job %s (%s): %s", entry.job, entry.name, names)
        return True

    def _note(self, entry: Batch) -> None:
        entry.noted = True
        self._noted.put(Entry(entry.name, entry.job, entry.visit, str(entry.folder)))

    def _refuse(self, entry: Batch, sentence: str) -> None:
        """Give up a job that Slurm does not take, and all jobs if it would take none."""
        if entry in self._unsent:
            self._unsent.remove(entry)
        self._forget(entry)
        text = f"Slurm does not take the job: {sentence}."
        if any(word in sentence.lower() for word in OF_THIS_JOB):
            self._fail_open(entry, f"{DIED}{text} It asked for {entry.asked}.")
            return
        given = {"partition": self._slurm.partition, "account": self._slurm.account,
                 "QOS": self._slurm.qos, "options": " ".join(self._slurm.sbatch)}  # fmt: skip
        with_ = ", ".join(f"{name} {value}" for name, value in given.items() if value)
        self._stop(text + (f" It was submitted with {with_}." if with_ else ""))

    def _stop(self, sentence: str) -> None:
        """Submit nothing more; the run ends with `sentence` when the running jobs have ended."""
        self._end = f"{sentence} Mend the settings [slurm] and run again; finished steps are kept."
        for entry in self._unsent:
            self._forget(entry)
        self._unsent.clear()
        pending = [entry for entry in self._sent if entry.state.state == "PENDING"]
        for entry in pending:
            entry.abandoned = True
        slurm.cancel(entry.job for entry in pending)

    # -- a job that is submitted

    def _look(self) -> None:
        """Ask the queue once for all jobs, and judge those that have left it."""
        if not self._sent and not self._leaving:
            return
        states = slurm.states([entry.job for entry in self._sent + self._leaving])
        self._hear(answered=states is not None)
        if states is None:
            return
        self._leaving = [e for e in self._leaving if e.job in states
                         and states[e.job].kind == "live"]  # fmt: skip
        for entry in list(self._sent):
            found = states.get(entry.job)
            if found is None or found.kind != "live":
                self._gone(entry)
                continue
            entry.state, entry.gone = found, None
            if found.hopeless:
                self._give_up(entry, found.reason)
        self._tell_reasons()

    def _take_over(self, entry: Batch) -> None:
        """Hear of the nodes of a job that have ended, in their order."""
        self._ever_begun = self._ever_begun or entry.begun  # looks anew at the folder, too
        for index, node in enumerate(entry.nodes):
            if index in entry.over:
                continue
            outcome = entry.outcome(index, self._slurm.lag)
            if outcome is None:
                return  # those after it may need it
            entry.over.add(index)
            self._conclude(node, outcome)
        self._sent.remove(entry)
        self._leaving.append(entry)
        self._forget(entry)

    def _conclude(self, node: Any, outcome: dict[str, Any]) -> None:
        """Pass on what a job said of one node."""
        self._members.discard(node)
        if outcome["state"] == inside.LEFT:
            self._return([node])  # another job computes it, if its inputs are there
            return
        self._withdraw(node)
        if outcome["state"] == inside.CACHED:
            self._hashes.add(outcome["hashes"])
            self._finish(node, outcome["seconds"], cached=True)
        else:
            self._ended(node, outcome)

    def _gone(self, entry: Batch) -> None:
        """Judge a job that is no longer in the queue, once its files had time to appear."""
        now = time.monotonic()
        entry.gone = now if entry.gone is None else entry.gone
        self._take_over(entry)
        if entry not in self._sent:
            return
        if entry.abandoned:
            self._sent.remove(entry)
            self._forget(entry)
        elif now - entry.gone >= self._slurm.lag:
            ended = slurm.final(entry.job)
            if ended is None:
                self._hear(answered=False)
            elif ended.kind == "live":
                entry.gone = None
            else:
                self._bury(entry, ended)

    def _bury(self, entry: Batch, ended: slurm.Ended) -> None:
        """Decide what becomes of the nodes of a job that died."""
        (entry.folder / inside.REVOKED).touch()  # should it still be alive somewhere
        log = entry.log
        logger.error("job %s (%s) %s\n%s", entry.job, entry.name, ended.sentence(), log)
        self._sent.remove(entry)
        self._forget(entry, keep=True)
        stillborn = ended.state == "FAILED" and not ended.killed and not entry.begun
        if stillborn and not self._ever_begun:
            last = log.strip().splitlines()[-1:] or ["it printed nothing"]
            self._stop(f"The first job {ended.sentence()} before the program had started in it "
                       f"({last[0]}); see {entry.folder}.")  # fmt: skip
        elif ended.state == "CANCELLED":
            self._fail_open(entry, _obituary(entry, ended, log))
        else:
            self._mourn(entry, ended, _obituary(entry, ended, log), stillborn)

    def _mourn(self, entry: Batch, ended: slurm.Ended, text: str, stillborn: bool) -> None:
        """Find the node at which a job died; the others are looked at again."""
        able = [node for node in entry.open if self._missing[node] == 0]
        current = entry.current()
        culprit = current if current in able else next(iter(able), None)
        self._return([node for node in able if node is not culprit])
        if culprit is None:
            return
        if stillborn or ended.innocent:
            self._tries[culprit] = self._tries.get(culprit, 1) + 1
            if self._tries[culprit] <= TRIES:
                self._say(f"Job {entry.job} {ended.sentence()}; its steps are submitted again.")
                self._return([culprit])
                return
        if ended.state == "TIMEOUT" and len(entry.nodes) > 1:
            self._unshared.add(culprit)  # the time of a shared job was not its own
            self._tell("retried", culprit, text)
            self._return([culprit])
            return
        if ended.memory:
            self._lacked_memory.add(culprit)
        self._lose(culprit, text, second=ended.memory)

    def _return(self, nodes: Iterable[Any]) -> None:
        """Have nodes that can run looked at again."""
        able = [node for node in nodes if self._missing[node] == 0]
        self._running.difference_update(able)
        self._ready += [node for node in able if node not in self._ready]
        self._ready.sort(key=self._rank.__getitem__)

    def _withdraw(self, node: Any) -> None:
        """Take a node off the list of those that wait to be started."""
        if node in self._ready:
            self._ready.remove(node)

    def _lose(self, node: Any, text: str, second: bool = False) -> None:
        """Report a node that died; it gets a `second` chance, alone, if that may help."""
        self._withdraw(node)
        self._died(node, text, memory=second)

    def _fail_open(self, entry: Batch, text: str) -> None:
        """Fail those nodes of a job that could have run; the others never become ready."""
        for node in entry.open:
            if self._missing[node] == 0:
                self._lose(node, text)

    def _give_up(self, entry: Batch, reason: str) -> None:
        """Cancel a job that would wait for ever."""
        slurm.cancel([entry.job])
        self._sent.remove(entry)
        if any(word in reason for word in OF_ALL_JOBS):
            self._refuse(entry, f"it would wait for ever ({reason})")
            return
        self._forget(entry)
        self._fail_open(entry, f"{DIED}The job {entry.job} of this step would wait for ever "
                        f"({reason}): it asked for {entry.asked}; change slurm.partition or "
                        "slurm.time_factor.")  # fmt: skip

    def _forget(self, entry: Batch, keep: bool = False) -> None:
        """End the record of a job; with `keep` its folder stays, to be looked at."""
        self._members.difference_update(entry.open)
        self._noted.drop([entry.name])
        if not keep:
            shutil.rmtree(entry.folder, ignore_errors=True)

    # -- what is said

    def _say(self, text: str) -> None:
        """Tell something about the run as a whole to those who listen."""
        logger.info("%s", text)
        for watcher in self._watchers:
            watcher.said(text)

    def _hear(self, answered: bool) -> None:
        """Say when the controller falls silent, and when it speaks again."""
        if answered != self._silent:
            return
        self._silent = not answered
        self._say("The Slurm controller answers again." if answered else
                  "The Slurm controller does not answer. Jobs go on, and so does this run when it "
                  "is back.")  # fmt: skip

    def _tell_reasons(self) -> None:
        """Say why jobs wait, where it is not for their turn."""
        reasons = [entry.state.reason for entry in self._sent if entry.state.state == "PENDING"]
        waiting = {reason: reasons.count(reason) for reason in reasons if reason not in ROUTINE}
        for reason, number in waiting.items():
            if reason not in self._told_reasons:
                jobs = "1 job waits" if number == 1 else f"{number} jobs wait"
                self._say(f"{jobs} in the queue: {reason.replace('_', ' ')}.")
        # Slurm's words alternate while nothing changes, so none is forgotten until all have begun.
        self._told_reasons = self._told_reasons | set(waiting) if reasons else set()


def _is_whole(node: Any) -> bool:
    """Whether no output of a finished node was removed to save space."""
    paths = (read_record(node) or {}).get("files", {})
    return not any(removed(path) for path in paths)


def _obituary(entry: Batch, ended: slurm.Ended, log: str) -> str:
    """Why there is no result, in the last line as tracebacks have it."""
    hint = ""
    if ended.memory:
        hint = f"; it had asked for {entry.need.memory_mb} MB"
    elif ended.state == "TIMEOUT":
        hint = f"; it had asked for {entry.need.minutes} min: raise slurm.time_factor"
    elif ended.state == slurm.VANISHED:
        hint = "; run again, finished steps are kept"
    printed = f"Last lines that the job printed:\n{log}\n\n" if log else ""
    return f"{printed}{DIED}The job {entry.job} of this step {ended.sentence()}{hint}."
