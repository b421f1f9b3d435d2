"""Graphs of toy steps on text files, computed in this process."""

import json
import pickle
from pathlib import Path

from nipype.interfaces.base import File, TraitedSpec, traits
from nipype.pipeline.engine import Node, Workflow

from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.workflows.cache import FileHashes, remembered
from alsflow.workflows.execute import EXECUTION
from alsflow.workflows.keep import Keeper
from alsflow.workflows.plugin import compute
from alsflow.workflows.scheduler import GraphScheduler
from alsflow.workflows.stored import portable
from alsflow.workflows.why import ForecastPlugin, Why


class Inline(GraphScheduler):
    """Computes one node after the other, where it stands."""

    def _prepare(self, order):
        self.ran, self._answers = [], []

    def _busy(self):
        return bool(self._answers)

    def _take(self, node):
        return True

    def _start(self, node):
        self.ran.append(node.name)
        self._answers.append((node, compute(pickle.dumps(node), FileHashes())))

    def _collect(self):
        while self._answers:
            self._ended(*self._answers.pop())


class _MixInputSpec(CodedInputSpec):
    raw_file = File(exists=True, desc="text")
    one_file = File(exists=True, desc="text")
    two_file = File(exists=True, desc="text")
    factor = traits.Float(1.0, usedefault=True, desc="number")
    flags = traits.Dict(traits.Str, traits.Any, desc="anything")
    dull = traits.Bool(False, usedefault=True, desc="the result is the same whatever comes in")


class _MixOutputSpec(TraitedSpec):
    out_file = File(exists=True, desc="text")


class Mix(CodedInterface):
    """Write down what came in."""

    input_spec = _MixInputSpec
    output_spec = _MixOutputSpec

    def _run_interface(self, runtime):
        given = self.inputs
        names = [name for name in ("raw_file", "one_file", "two_file") if getattr(given, name)]
        texts = [Path(getattr(given, name)).read_text() for name in names]
        text = "dull" if given.dull else json.dumps([texts, given.factor])
        if "fail" in texts:
            raise RuntimeError("as ordered")
        path = Path(runtime.cwd) / "out.txt"
        path.write_text(text)
        self._results["out_file"] = str(path)
        return runtime


def init_graph(plan, files):
    """Workflow of `plan`: for each node its predecessors, at most two, and its inputs."""
    outer, person, stream = (Workflow(name=f"{name}_wf") for name in ("alsflow", "sub_01", "anat"))
    outer.add_nodes([person])
    person.add_nodes([stream])
    nodes = []
    for number, (before, inputs) in enumerate(plan):
        node = Node(Mix(**inputs), name=f"n{number}")
        if not before:
            node.inputs.raw_file = str(files[number])
        stream.add_nodes([node])
        for place, other in zip(("one_file", "two_file"), before, strict=False):
            stream.connect(nodes[other], "out_file", node, place)
        nodes.append(node)
    return outer


def execute(workflow, work_dir, history, forecast=False, keep="all"):
    """Run a workflow, or forecast it; returns the plugin and, of a run, why each step ran."""
    workflow.base_dir = str(work_dir)
    workflow.config["execution"].update(EXECUTION)
    hashes, why = FileHashes(), Why(history)
    plugin = ForecastPlugin(hashes, history) if forecast else Inline(hashes, [why])
    plugin.explain = why.due
    plugin.keeper = Keeper(keep)
    with remembered(hashes), portable(work_dir):
        workflow.run(plugin=plugin)
    return plugin, why
