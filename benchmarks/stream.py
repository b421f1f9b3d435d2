"""CPU seconds, wall seconds and peak memory of every step of the anatomical stream.

    python benchmarks/stream.py [T1W ...]

Each step runs in a process of its own, one after the other, on the scans given; without any, on
the first person of ``bids_example`` and, where it is there, on ``sub-sf02`` of the reference
data. Prints one table per scan.
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

from alsflow.interfaces.bids import Visit
from alsflow.workflows.anat import init_anat_stream_wf
from alsflow.workflows.execute import EXECUTION
from alsflow.workflows.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
SCANS = (
    ROOT / "bids_example/sub-01/anat/sub-01_T1w.nii.gz",
    ROOT.parent / "shared/data/realdata/sub-sf02/anat/sub-sf02_T1w.nii.gz",
)


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


def measure(scan: Path) -> list[tuple[str, float, float, float]]:
    """Name, CPU s, wall s and peak GB of every step on one scan."""
    with tempfile.TemporaryDirectory() as room:
        settings = Settings(scan.parents[2], Path(room) / "out", "participant")
        label = scan.name.split("_")[0].removeprefix("sub-")
        workflow = init_anat_stream_wf(Visit(label, None, {"t1w": (scan,)}), settings)
        workflow.base_dir = room
        workflow.config["execution"].update(EXECUTION)
        plugin = MeasurePlugin()
        workflow.run(plugin=plugin)
        return plugin.rows


def main(scans: list[Path]) -> None:
    logging.getLogger("nipype.workflow").setLevel("ERROR")
    for scan in scans:
        rows = measure(scan)
        print(f"\n{scan.name}\n\n| step | CPU s | wall s | peak GB |\n|---|---|---|---|")
        for name, cpu, wall, peak in rows:
            print(f"| {name.partition('.')[2]} | {cpu:.1f} | {wall:.1f} | {peak:.2f} |")
        total = [sum(row[column] for row in rows) for column in (1, 2)]
        print(f"| **all** | {total[0]:.1f} | {total[1]:.1f} | {max(r[3] for r in rows):.2f} |")


if __name__ == "__main__":
    main([Path(name).resolve() for name in sys.argv[1:]] or [s for s in SCANS if s.is_file()])
