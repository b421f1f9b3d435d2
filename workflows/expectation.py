"""How long a run will take and how much memory it will hold, before anything is computed.

The graph of one visit is built for every set of streams; all visits with these streams are taken
to have the same graph, with the sizes of their own images. A short simulation of the queue says
what so many processes make of it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import networkx as nx
from nipype.pipeline.engine.utils import generate_expanded_graph

from alsflow.interfaces.bids import Visit
from alsflow.workflows.machine import MB, OWN_MB
from alsflow.workflows.manifest import Entry
from alsflow.workflows.names import step_of
from alsflow.workflows.participant import init_participant_wf
from alsflow.workflows.resources import MB_PER_GB, Need, Sizes, row_of, sizes_of
from alsflow.workflows.settings import Settings

OWN_GB = OWN_MB / MB_PER_GB
SIMULATED = 3  # visits per process whose steps are followed one by one
MARGIN = 1.2  # of the memory that a job asks for over what is expected
FULL_MINUTES = 5  # times that jobs ask for are multiples of this

Step = tuple[str, str]  # of which visit, and which


@dataclass(frozen=True)
class Outcome:
    """What so many processes make of some visits: minutes, and most memory at one time (GB)."""

    minutes: float
    memory_gb: float


@dataclass
class Expectation:
    """What the steps of some visits need.

    Attributes
    ----------
    needs : dict
        Need of every step, by visit.
    order : dict
        Graph of the steps, by visit.
    unknown : list of str
        Visits of which nothing can be told.
    """

    needs: dict[str, dict[str, Need]] = field(default_factory=dict)
    order: dict[str, nx.DiGraph] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    @property
    def minutes(self) -> float:
        """Minutes of all steps, one after the other."""
        return sum(need.minutes for steps in self.needs.values() for need in steps.values())

    @property
    def largest(self) -> tuple[str, str, float]:
        """Visit, step and memory (GB) of the step that takes most."""
        return max(
            ((visit, step, need.memory_gb) for visit, steps in self.needs.items()
             for step, need in steps.items()),
            key=lambda entry: entry[2],
        )  # fmt: skip

    def on(self, processes: int, memory_gb: float = math.inf) -> Outcome:
        """What so many processes with so much memory make of all visits together."""
        followed = list(self.needs)[: SIMULATED * processes]
        found = self._simulate(followed, processes, memory_gb)
        used = sum(need.minutes * need.processes for steps in self.needs.values()
                   for need in steps.values())  # fmt: skip
        return Outcome(max(found.minutes, used / processes), found.memory_gb)

    def one(self, processes: int) -> Outcome:
        """What so many processes make of one visit alone, of that which takes most."""
        each = [self._simulate([visit], processes, math.inf) for visit in self._unlike()]
        return Outcome(
            max(outcome.minutes for outcome in each), max(outcome.memory_gb for outcome in each)
        )

    def _unlike(self) -> list[str]:
        """One visit for each of those that need the same."""
        found = {tuple(sorted(steps.items(), key=str)): visit
                 for visit, steps in self.needs.items()}  # fmt: skip
        return list(found.values())

    def _simulate(self, visits: Sequence[str], processes: int, memory_gb: float) -> Outcome:
        """Follow the queue: a step starts when its inputs are there and there is room for it."""
        steps = [(v, step) for v in visits for step in nx.topological_sort(self.order[v])]
        missing = {(v, step): self.order[v].in_degree(step) for v, step in steps}
        ready = [step for step, number in missing.items() if number == 0]
        rank = {step: place for place, step in enumerate(missing)}
        running: list[tuple[float, int, Step]] = []
        now, most = 0.0, 0.0
        while ready or running:
            waiting = []
            for step in ready:
                if self._fits(step, [entry[2] for entry in running], processes, memory_gb):
                    heapq.heappush(running, (now + self._need(step).minutes, rank[step], step))
                else:
                    waiting.append(step)
            most = max(most, sum(self._need(step).memory_gb for _, _, step in running))
            now, _, done = heapq.heappop(running)
            for follower in self.order[done[0]].successors(done[1]):
                missing[done[0], follower] -= 1
                if missing[done[0], follower] == 0:
                    waiting.append((done[0], follower))
            ready = sorted(waiting, key=rank.__getitem__)
        return Outcome(now, most + OWN_GB)

    def _need(self, step: Step) -> Need:
        return self.needs[step[0]][step[1]]

    def _fits(self, step: Step, running: Sequence[Step], processes: int, memory_gb: float) -> bool:
        busy = [self._need(other) for other in running]
        need = self._need(step)
        return not running or (
            sum(other.processes for other in busy) + need.processes <= processes
            and sum(other.memory_gb for other in busy) + need.memory_gb <= memory_gb
        )

    def text(self, settings: Settings) -> str:
        """Sentences for the person who has to choose processes, memory and time."""
        if not self.needs:
            return ""
        processes, memory_gb = settings.nprocs, settings.mem_mb / MB_PER_GB
        together, visit_step = self.on(processes, memory_gb), self.largest
        cpus = settings.slurm.array_cpus
        job = self.one(cpus)
        return (
            f"Expected with --nprocs {processes} --mem {settings.mem_mb}M: about "
            f"{duration(together.minutes)} ({duration(self.minutes)} of one processor), at most "
            f"{together.memory_gb:.1f} GB of memory at one time; the largest step, "
            f"{visit_step[1]} of {visit_step[0]}, takes {visit_step[2]:.1f} GB.\n"
            f"As one job per visit: about {duration(job.minutes)}; sbatch "
            f"{' '.join(job_options(job, cpus, settings.slurm.time_factor))}"
        )


def job_options(job: Outcome, cpus: int, time_factor: float) -> list[str]:
    """Options of sbatch for a job, with margins: Slurm ends what takes more.

    >>> job_options(Outcome(minutes=21, memory_gb=4.1), cpus=4, time_factor=3)
    ['--cpus-per-task=4', '--mem=5G', '--time=01:05:00']
    """
    minutes = math.ceil(job.minutes * time_factor / FULL_MINUTES) * FULL_MINUTES
    gigabytes = math.ceil(job.memory_gb * MARGIN * MB * MB_PER_GB / 2**30)
    return [
        f"--cpus-per-task={cpus}",
        f"--mem={gigabytes}G",
        f"--time={minutes // 60:02d}:{minutes % 60:02d}:00",
    ]


def duration(minutes: float) -> str:
    """Minutes for people.

    >>> duration(0.2), duration(59.4), duration(150)
    ('1 min', '60 min', '2.5 h')
    """
    return f"{math.ceil(minutes)} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def cohort(visits: Sequence[Visit], entries: Sequence[Entry], settings: Settings) -> Expectation:
    """What the visits of a run need, from the headers of their images.

    Parameters
    ----------
    visits : sequence of Visit
        Everybody.
    entries : sequence of Entry
        As `participant.requirements` gives them; those in the state ``not-run`` are counted.
    settings : Settings
        Settings of the run.
    """
    found = Expectation()
    graphs: dict[tuple[str, ...], nx.DiGraph] = {}
    for visit in visits:
        own = [entry for entry in entries if entry.belongs_to(visit) and entry.state == "not-run"]
        streams = tuple(entry.stream for entry in own)
        if not streams:
            continue
        if streams not in graphs:
            with suppress(Exception):  # what is wrong with this visit, the run itself will say
                graphs[streams] = steps_of(visit, own, settings)
        if streams in graphs:
            found.order[visit.prefix] = graphs[streams]
            sizes = sizes_of(visit, settings)
            found.needs[visit.prefix] = _needs(graphs[streams], sizes, settings.omp_nthreads)
        else:
            found.unknown.append(visit.prefix)
    return found


def steps_of(visit: Visit, entries: Sequence[Entry], settings: Settings) -> nx.DiGraph:
    """Steps of one visit by their names in the table, with what needs what."""
    copies = [replace(entry) for entry in entries]  # the builder notes refusals in them
    workflow = init_participant_wf([visit], copies, settings)
    if any(entry.state != "not-run" for entry in copies):
        raise ValueError(f"{visit.prefix} is refused")
    graph = generate_expanded_graph(workflow._create_flat_graph())
    found = nx.DiGraph()
    found.add_nodes_from(step_of(node.fullname) for node in graph.nodes())
    found.add_edges_from((step_of(a.fullname), step_of(b.fullname)) for a, b in graph.edges())
    return found


def _needs(graph: nx.DiGraph, sizes: Sizes, threads: int) -> dict[str, Need]:
    return {step: row_of(step).need(sizes, threads) for step in graph.nodes()}
