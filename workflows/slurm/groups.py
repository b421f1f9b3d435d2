"""Which short steps share a job, so that the cluster is not given a thousand jobs of seconds."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable
from typing import Any

import networkx as nx


def bundles(
    ready: Iterable[Any],
    graph: nx.DiGraph,
    rank: Callable[[Any], int],
    minutes: Callable[[Any], float],
    may_join: Callable[[Any], bool],
    finished: Callable[[Any], bool],
    limit: float,
) -> list[list[Any]]:
    """Sort short steps that can start now, and those that follow them, into jobs.

    Every job is closed: what one of its steps needs is finished or comes earlier in the same job.
    So no job ever waits for another.

    Parameters
    ----------
    ready : iterable of Node
        Steps of one person that can start now; each is in exactly one of the jobs.
    graph : DiGraph
        Graph of all steps.
    rank : callable
        Place of a step in the order of the whole graph; jobs keep this order.
    minutes : callable
        Expected duration of a step.
    may_join : callable
        Whether a step that could follow in the same job may do so.
    finished : callable
        Whether a step has its result.
    limit : float
        Minutes of one job, unless a single step takes more.

    Returns
    -------
    list of list of Node
        Steps of each job in the order in which they are to run.
    """
    seeds = sorted(ready, key=rank)
    made: list[list[Any]] = []
    while seeds:
        reach, total = list(seeds), 0.0
        group: list[Any] = []
        while reach and (not group or total + minutes(reach[0]) <= limit):
            node = reach.pop(0)
            group.append(node)
            total += minutes(node)
            for follower in graph.successors(node):
                closed = all(p in group or finished(p) for p in graph.predecessors(follower))
                if closed and follower not in group and may_join(follower):
                    insort(reach, follower, key=rank)
        made.append(group)
        seeds = [node for node in seeds if node not in group]
    return made
