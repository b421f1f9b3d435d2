"""CPU seconds, wall seconds and peak memory of every step of the streams of one person.

    python benchmarks/stream.py [DATASET LABEL]

Each step runs in a process of its own, one after the other. Without arguments: the first person
of ``bids_example`` and, where they are there, ``sub-sf02`` (anatomy) and ``sub-cr`` (anatomy and
diffusion) of the reference data. Prints one table per person.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("NO_ET", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import networkx as nx
from nipype import logging

from alsflow.interfaces.bids import select_visits
from alsflow.workflows import participant
from alsflow.workflows.execute import EXECUTION
from alsflow.workflows.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared/data/realdata"
PEOPLE = ((ROOT / "bids_example", "01"), (REAL, "sf02"), (REAL, "cr"))


class MeasurePlugin:
    """Runs one node after the other, each in a forked process, and keeps what it used."""

    plugin_args: dict = {}

    def __init__(self):
        self.rows: list[tuple[str, float, float, float]] = []

    def run(self, graph, config, updatehash=False):
        for node in nx.topological_sort(graph):
            began = time.perf_counter()
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    node.run()
                    status = 0
                finally:
                    os._exit(status)
            _, status, used = os.wait4(child, 0)
            if status:
                raise SystemExit(f"{node.fullname} failed")
            wall = time.perf_counter() - began
            cpu = used.ru_utime + used.ru_stime
            self.rows.append((node.fullname, cpu, wall, used.ru_maxrss / 1e6))


def measure(dataset: Path, label: str) -> list[tuple[str, float, float, float]]:
    """Name, CPU s, wall s and peak GB of every step of one person."""
    with tempfile.TemporaryDirectory() as room:
        settings = Settings(dataset, Path(room) / "out", "participant")
        streams = participant.streams_asked(settings)
        visits = select_visits(dataset, [label], (), participant.queries_of(streams)).visits
        streams = participant.streams_present(visits, streams)
        entries = participant.requirements(visits, streams)
        workflow = participant.init_participant_wf(visits, entries, settings)
        workflow.base_dir = room
        workflow.config["execution"].update(EXECUTION)
        plugin = MeasurePlugin()
        workflow.run(plugin=plugin)
        return plugin.rows


def main(people: list[tuple[Path, str]]) -> None:
    logging.getLogger("nipype.workflow").setLevel("ERROR")
    for dataset, label in people:
        rows = measure(dataset, label)
        print(f"\nsub-{label}\n\n| step | CPU s | wall s | peak GB |\n|---|---|---|---|")
        for name, cpu, wall, peak in rows:
            step = name.split(".", 2)[2]
            print(f"| {step} | {cpu:.1f} | {wall:.1f} | {peak:.2f} |")
        total = [sum(row[column] for row in rows) for column in (1, 2)]
        print(f"| **all** | {total[0]:.1f} | {total[1]:.1f} | {max(r[3] for r in rows):.2f} |")


if __name__ == "__main__":
    if sys.argv[1:]:
        main([(Path(sys.argv[1]).resolve(), sys.argv[2].removeprefix("sub-"))])
    else:
        main([(dataset, label) for dataset, label in PEOPLE if dataset.is_dir()])
