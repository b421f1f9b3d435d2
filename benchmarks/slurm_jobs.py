"""What jobs cost: how many a person needs, and the seconds that one takes beside its work.

    python benchmarks/slurm_jobs.py count BIDS_DIR [options of alsflow]   # computes nothing
    python benchmarks/slurm_jobs.py time [PEOPLE]        # on a cluster of its own, as root

`count` builds the graph of the people that the options name and sorts it into jobs, as if all
jobs of a wave ended together. `time` runs three trivial steps per person on a real Slurm cluster
that it starts and ends, in one job and in three.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from nipype.pipeline.plugins.base import PluginBase

from alsflow import cli
from alsflow.workflows import execute
from alsflow.workflows.names import visit_of
from alsflow.workflows.resources import expected
from alsflow.workflows.slurm.groups import bundles

TESTS = Path(__file__).resolve().parents[1] / "tests"
LIMITS = (0.0, 1.0, 5.0, 15.0)  # minutes


class Counter(PluginBase):
    """Sorts the nodes of a graph into jobs, and computes none."""

    def run(self, graph, config, updatehash=False):
        people = {visit_of(node.fullname) for node in graph}
        minutes = sum(expected(node).minutes for node in graph) / len(people)
        print(f"{len(people)} visits, {len(graph) / len(people):.0f} steps and {minutes:.0f} min "
              "of computing each")  # fmt: skip
        print("group_minutes  jobs per visit  waves")
        for limit in LIMITS:
            jobs, waves = counted(graph, limit)
            print(f"{limit:13g}  {jobs / len(people):14.1f}  {waves:5}")


def counted(graph, limit):
    """Jobs of a graph, and how many of them come after each other at most."""
    order = {node: index for index, node in enumerate(graph)}
    done, jobs, waves = set(), 0, 0
    while len(done) < len(graph):
        ready = [n for n in graph if n not in done and done.issuperset(graph.predecessors(n))]
        short = [node for node in ready if expected(node).minutes < limit]
        wave = [[node] for node in ready if node not in short]
        for person in {visit_of(node.fullname) for node in short}:
            own = [node for node in short if visit_of(node.fullname) == person]
            wave += bundles(own, graph, order.__getitem__, lambda n: expected(n).minutes,
                            lambda n: expected(n).minutes < limit, done.__contains__,
                            limit)  # fmt: skip
        jobs, waves = jobs + len(wave), waves + 1
        done.update(node for job in wave for node in job)
    return jobs, waves


def count(bids_dir: str, *options: str) -> None:
    execute._plugin = lambda *arguments: Counter()
    with tempfile.TemporaryDirectory() as folder:
        cli.main([bids_dir, f"{folder}/out", "participant", "-w", f"{folder}/work", *options])


def measure(people: int) -> None:
    sys.path[:0] = [str(TESTS / "slurm"), str(TESTS / "workflows" / "helpers")]
    from cluster import Cluster

    with Cluster() as cluster, tempfile.TemporaryDirectory() as folder:
        os.environ["SLURM_CONF"] = str(cluster.conf)
        bids = dataset(Path(folder) / "bids", people)
        walls = {}
        for limit in (5.0, 0.0):
            before = len(cluster.jobs())
            walls[limit] = run(bids, Path(folder) / f"run{limit}", limit)
            jobs = len(cluster.jobs()) - before
            print(f"group_minutes {limit:g}: {people} people, {jobs} jobs, {walls[limit]:.1f} s")
        print(f"each further job after another: {(walls[0.0] - walls[5.0]) / 2:.1f} s")


def dataset(bids: Path, people: int) -> Path:
    """Text files in the place of images."""
    bids.mkdir()
    (bids / "dataset_description.json").write_text('{"Name": "toy", "BIDSVersion": "1.9.0"}')
    labels = [f"sub-{number:02}" for number in range(people)]
    (bids / "participants.tsv").write_text("\n".join(["participant_id", *labels, ""]))
    for label in labels:
        path = bids / label / "anat" / f"{label}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        path.write_text("fine")
    return bids


def run(bids: Path, root: Path, limit: float) -> float:
    root.mkdir()
    config = root / "config.toml"
    config.write_text(f"[slurm]\npoll = 0.2\nlag = 1.0\ngroup_minutes = {limit}\n")
    command = [sys.executable, str(TESTS / "workflows" / "helpers" / "run_toy.py"), str(bids),
               str(root / "out"), "participant", "-w", str(root / "work"), "--plugin", "slurm",
               "--config-file", str(config), "--skip-bids-validation"]  # fmt: skip
    start = time.monotonic()
    subprocess.run(
        command, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    return time.monotonic() - start


def main(argv: Sequence[str]) -> None:
    if argv[:1] == ["count"] and len(argv) > 1:
        count(*argv[1:])
    elif argv[:1] == ["time"]:
        measure(int(argv[1]) if len(argv) > 1 else 4)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
