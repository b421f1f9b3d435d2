"""One job of the cluster and the nodes in it: what it is given, what it asks for, what it says."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from alsflow.interfaces import slurm
from alsflow.workflows.cache import paths_in, read_record, write_text
from alsflow.workflows.machine import THREADED, UNTHREADED
from alsflow.workflows.resources import expected
from alsflow.workflows.settings import SlurmSettings
from alsflow.workflows.slurm import inside
from alsflow.workflows.slurm.script import JobNeed, batch_script, in_container, plain_path

SCRIPT, LOG = "job.sh", "job.log"
START_MINUTES = 2.0  # of a job for the start of Python and for waiting for files
LEAST_MINUTES = 10  # that are asked for; queues are not faster for less
MEMORY_FACTOR = 1.25  # of the memory expected
LEAST_MB = 1000


@dataclass(frozen=True)
class Place:
    """Folders of a run, for jobs that see nothing else (containers)."""

    work_dir: Path
    write: tuple[Path, ...] = ()
    read: tuple[Path, ...] = ()

    def with_inputs(self, nodes: Iterable[Any]) -> Place:
        """Add the folders of other files that nodes are given, such as atlases."""
        seen = (self.work_dir, *self.write, *self.read)
        paths = (Path(path) for node in nodes for path in paths_in(node.inputs.get()))
        outside = (path for path in paths if not any(map(path.is_relative_to, seen)))
        more = dict.fromkeys(path.parent for path in outside if path.is_file())
        return replace(self, read=(*self.read, *more))


@dataclass
class Batch:
    """One job and its nodes, in the order in which they run."""

    name: str  # that no other job has
    visit: str
    folder: Path
    nodes: list[Any]
    need: JobNeed
    job: str = ""  # id; empty until it is submitted
    state: slurm.Job = field(default_factory=lambda: slurm.Job("PENDING"))
    over: set[int] = field(default_factory=set)  # nodes whose end is known
    gone: float | None = None  # when it was first seen to have ended
    late: dict[int, float] = field(default_factory=dict)  # since when results are waited for
    noted: bool = False  # that it was about to be submitted
    abandoned: bool = False  # cancelled by this program

    @property
    def open(self) -> list[Any]:
        """Nodes whose end is not known."""
        return [node for index, node in enumerate(self.nodes) if index not in self.over]

    @property
    def begun(self) -> bool:
        """Whether the program has started in the job."""
        return inside.seen(self.folder / inside.BEGUN)

    @property
    def log(self) -> str:
        """Last lines that the job has printed."""
        return slurm.tail(self.folder / LOG)

    @property
    def asked(self) -> str:
        """What the job asked for, in words."""
        need = self.need
        return f"{need.cores} processors, {need.memory_mb} MB, {need.minutes} min"

    def current(self) -> Any:
        """Node that ran last; None where nobody knows."""
        try:
            content = json.loads((self.folder / inside.CURRENT).read_text(encoding="utf-8"))
            return self.nodes[content["index"]]
        except (OSError, ValueError, LookupError):
            return None

    def outcome(self, index: int, lag: float) -> dict[str, Any] | None:
        """What the job says of a node; None while it says nothing or files are not seen yet.

        Parameters
        ----------
        index : int
            Place of the node in the job.
        lag : float
            Seconds for which files may stay unseen.
        """
        try:
            text = (self.folder / inside.outcome_file(index)).read_text(encoding="utf-8")
            outcome = json.loads(text)
        except (OSError, ValueError):
            return None
        if outcome["state"] not in (inside.DONE, inside.CACHED):
            return outcome
        missing = unseen(self.nodes[index])
        since = self.late.setdefault(index, time.monotonic())
        if missing and time.monotonic() - since < lag:
            return None
        if missing:
            error = (
                f"WorkerDiedError: The job {self.job} has computed this step, but {missing} is "
                f"not seen here after {lag:g} s; raise slurm.lag."
            )
            return {"state": inside.FAILED, "error": error, "seconds": 0.0}
        return outcome


def unseen(node: Any) -> str:
    """File of a finished node that this machine does not see; empty if all are seen."""
    folder = Path(node.output_dir())
    content = read_record(node) if inside.seen(folder / f"result_{node.name}.pklz") else None
    if content is None:
        return str(folder)
    return next((path for path in content["files"] if not inside.seen(Path(path))), "")


def pack(node: Any) -> bytes:
    """Pickle a node."""
    return bytes(ForkingPickler.dumps(node))


@dataclass(frozen=True)
class Writer:
    """Writes the folders of jobs.

    Attributes
    ----------
    settings : SlurmSettings
        Where and how jobs are submitted.
    place : Place
        Folders of the run.
    template : str
        Text at the start of batch scripts, as Nipype's plugin takes it.
    options : str
        Options of ``sbatch``, as Nipype's plugin takes them.
    """

    settings: SlurmSettings
    place: Place
    template: str = ""
    options: str = ""

    def write(
        self,
        name: str,
        visit: str,
        folder: Path,
        packed: Mapping[Any, tuple[bytes, bool]],
        before: Callable[[Any], Sequence[Any]],
        factor: float,
    ) -> Batch:
        """Write everything that a job needs into a folder of its own.

        Parameters
        ----------
        name, visit : str
            Name of the job, and visit.
        folder : Path
            Folder of this job alone.
        packed : mapping
            For every node, in their order: itself pickled, and whether it is known that it must
            be computed.
        before : callable
            Nodes whose results a node takes.
        factor : float
            By how much more memory is asked for than expected.
        """
        folder.mkdir(parents=True)
        nodes = list(packed)
        for index, (pickled, _) in enumerate(packed.values()):
            (folder / inside.node_file(index)).write_bytes(pickled)
        content = {
            "steps": [_step(node, nodes, before(node), packed[node][1]) for node in nodes],
            "work_dir": str(self.place.work_dir),
            "lag": self.settings.lag,
            "path": [] if self.settings.container else [os.path.abspath(p) for p in sys.path if p],
        }
        write_text(folder / inside.JOB, json.dumps(content))
        command, environment = self._command(folder)
        need = self._need(name, folder, nodes, factor, environment)
        write_text(folder / SCRIPT, batch_script(command, self._with_template(), need))
        return Batch(name, visit, folder, nodes, need)

    def _command(self, folder: Path) -> tuple[list[str], dict[str, str]]:
        """Command of a job, and the environment that its script sets."""
        threads = (*THREADED, *UNTHREADED)
        names = threads if self.settings.container else (*threads, "ALSFLOW_ATLAS_DIR")
        environment = {name: os.environ[name] for name in names if name in os.environ}
        program = ["-m", "alsflow.workflows.slurm.inside", str(folder)]
        if self.settings.container:
            return in_container(
                ["python", *program],
                self.settings,
                (self.place.work_dir, *self.place.write),
                self.place.read,
                {"NO_ET": "1", **environment},
            ), environment
        path = [os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(":") if p]
        if path:
            environment["PYTHONPATH"] = ":".join(path)
        return [sys.executable, "-P", *program], environment

    def _need(
        self,
        name: str,
        folder: Path,
        nodes: Sequence[Any],
        factor: float,
        environment: Mapping[str, str],
    ) -> JobNeed:
        """What a job asks for, from what is expected of its nodes."""
        needs = [expected(node) for node in nodes]
        memory = max(need.memory_gb for need in needs) * MEMORY_FACTOR * 1000
        minutes = sum(need.minutes for need in needs) * self.settings.time_factor + START_MINUTES
        return JobNeed(
            name,
            f"{plain_path(folder)}/{LOG}",
            max(need.processes for need in needs),
            math.ceil(max(LEAST_MB, memory) * factor),
            max(LEAST_MINUTES, math.ceil(minutes)),
            options=("--no-requeue", *self._options_of(nodes)),
            environment=environment,
        )

    def _options_of(self, nodes: Sequence[Any]) -> list[str]:
        """Options in the manner of Nipype's plugin, of the run and of the nodes."""
        texts = [self.options] if self.options else []
        for node in nodes:
            own = node.plugin_args if isinstance(node.plugin_args, dict) else {}
            if "sbatch_args" in own:
                texts = [*([] if own.get("overwrite") else texts), own["sbatch_args"]]
        return list(dict.fromkeys(texts))

    def _with_template(self) -> SlurmSettings:
        """Settings with the lines of the template."""
        lines = [line for line in self.template.splitlines() if not line.startswith("#!")]
        options = [line.removeprefix("#SBATCH") for line in lines if line.startswith("#SBATCH")]
        setup = [line for line in lines if not line.startswith("#SBATCH")]
        return replace(
            self.settings,
            sbatch=(*(option.strip() for option in options), *self.settings.sbatch),
            setup=(*setup, *self.settings.setup),
        )


def _step(node: Any, nodes: Sequence[Any], before: Sequence[Any], fresh: bool) -> dict[str, Any]:
    """What a job must know of a node beside the node itself."""
    needs: list[str] = []
    for other in before:
        if other not in nodes:
            needs.append(str(Path(other.output_dir()) / f"result_{other.name}.pklz"))
            needs += (read_record(other) or {}).get("files", {})
    after = [nodes.index(other) for other in before if other in nodes]
    return {"name": node.fullname, "fresh": fresh, "after": after, "needs": needs}
