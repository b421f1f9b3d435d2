"""Graphs of small text steps, computed in this process in any order."""

import gzip
import json
import pickle
import random
from pathlib import Path

from nipype.interfaces.base import File, InputMultiObject, TraitedSpec, specs, traits
from nipype.interfaces.utility import Merge
from nipype.pipeline.engine import MapNode, Node, Workflow

from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.derivatives import copy_whole
from alsflow.workflows.cache import FileHashes, remembered
from alsflow.workflows.keep import Keeper
from alsflow.workflows.plugin import compute
from alsflow.workflows.scheduler import GraphScheduler
from alsflow.workflows.stored import portable

PLAIN = specs.hash_infile
LENGTH = 2000  # bytes of a large file
RESULTS = ("a_file", "b_file", "note_file")


class _MixInputSpec(CodedInputSpec):
    in_files = InputMultiObject(File(exists=True), desc="texts")
    more_files = InputMultiObject(File(exists=True), desc="other texts")
    word = traits.Str("", usedefault=True, desc="setting")
    fate_file = traits.Str("", usedefault=True, hash_files=False, desc="orders")


class _MixOutputSpec(TraitedSpec):
    a_file = File(exists=True, desc="large")
    b_file = File(exists=True, desc="large")
    note_file = File(exists=True, desc="small")


def mixed(texts, word):
    """The three texts that a step makes of others."""
    core = word + "(" + ",".join(text[:40] + str(len(text)) for text in texts) + ")"
    core = f"{hash_of(core)}"
    return {
        "a_file": (core + "a ") * (LENGTH // len(core)),
        "b_file": (core + "b ") * (LENGTH // len(core)),
        "note_file": core,
    }


def hash_of(text):
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def orders(path):
    return json.loads(Path(path).read_text()) if path and Path(path).is_file() else {}


class Mix(CodedInterface):
    """Make texts of texts, or do what is ordered."""

    input_spec = _MixInputSpec
    output_spec = _MixOutputSpec

    def _run_interface(self, runtime):
        folder = Path(runtime.cwd)
        order = orders(self.inputs.fate_file).get(self.inputs.word.partition("/")[0], "")
        if order == "fail":
            raise RuntimeError("as ordered")
        paths = [path for field in ("in_files", "more_files")
                 for path in self.inputs.get_traitsfree().get(field, [])]  # fmt: skip
        texts = [Path(path).read_text() for path in paths]
        assert not any(text.startswith("This file was removed") for text in texts)
        word = self.inputs.word + (order if order.startswith("drift") else "")
        if order.startswith("link"):
            (folder / "a_file.txt").symlink_to(order.removeprefix("link "))
            self._results["a_file"] = str(folder / "a_file.txt")
            return runtime
        (folder / "scratch").mkdir()
        (folder / "scratch" / "left.bin").write_bytes(b"x" * LENGTH)
        (folder / "scratch" / "small.bin").write_bytes(b"x")
        for name, text in mixed(texts, word).items():
            (folder / f"{name}.txt").write_text(text)
            self._results[name] = str(folder / f"{name}.txt")
        return runtime


class _SaveInputSpec(CodedInputSpec):
    in_files = InputMultiObject(File(exists=True), desc="texts")
    folder = traits.Str(hash_files=False, desc="where to")


class _SaveOutputSpec(TraitedSpec):
    out_files = traits.List(File(exists=True), desc="copies")


class Save(CodedInterface):
    """Copy texts, every second one compressed."""

    input_spec = _SaveInputSpec
    output_spec = _SaveOutputSpec

    def _run_interface(self, runtime):
        out_files = []
        for k, path in enumerate(self.inputs.in_files):
            target = Path(self.inputs.folder) / f"{Path(runtime.cwd).name}_{k}.txt"
            target.parent.mkdir(parents=True, exist_ok=True)
            if k % 2:
                target = target.with_suffix(".txt.gz")
                target.write_bytes(gzip.compress(Path(path).read_bytes(), mtime=0))
            else:
                copy_whole(Path(path), target)
            out_files.append(str(target))
        self._results["out_files"] = out_files
        return runtime


def text_of(path):
    data = Path(path).read_bytes()
    return (gzip.decompress(data) if str(path).endswith(".gz") else data).decode()


class Stop(BaseException):
    """Ends a run as a kill would."""


class InlinePlugin(GraphScheduler):
    """Computes nodes here, `width` at a time, and ends them in an order of its own."""

    def __init__(self, hashes, watchers=(), rng=None, width=2, stop_after=None):
        super().__init__(hashes, watchers)
        self.rng, self.width = rng or random.Random(0), width
        self.stop_after, self.computed, self.computing = stop_after, [], []
        self.problems = []

    def _busy(self):
        return bool(self.computing)

    def _take(self, node):
        return len(self.computing) < self.width

    def _start(self, node):
        for path in Path(node.output_dir()).glob("*.txt"):
            path.unlink()  # as a process would at once: nobody may be reading them now
        self.computing.append(pickle.dumps(node))
        self._nodes = getattr(self, "_nodes", {}) | {id(self.computing[-1]): node}

    def _collect(self):
        if not self.computing:
            return
        packed = self.computing.pop(self.rng.randrange(len(self.computing)))
        node = self._nodes[id(packed)]
        if self.stop_after is not None and len(self.computed) >= self.stop_after:
            raise Stop
        self.computed.append(node.name)
        ours, specs.hash_infile = specs.hash_infile, PLAIN  # a process knows of no hashes of ours
        try:
            answer = compute(packed, FileHashes())
        finally:
            specs.hash_infile = ours
        self._ended(node, answer)

    def _fail(self, node, text):
        self.problems.append((node.name, text))
        super()._fail(node, text)


class Listener:
    """Watcher that remembers."""

    def __init__(self):
        self.again, self.repaired, self.cached = [], {}, []

    def __getattr__(self, event):
        return lambda *arguments: None

    def planned(self, nodes, repaired):
        self.repaired = {node.name: reason for node, reason in repaired.items()}

    def reopened(self, node, reason):
        self.again.append((node.name, reason))

    def finished(self, node, seconds, cached):
        if cached:
            self.cached.append(node.name)


def run(workflow, work, choice="all", **options):
    """Run a workflow; the plugin says what was computed, the listener what was said."""
    listener = Listener()
    work.mkdir(parents=True, exist_ok=True)
    hashes = FileHashes(work / "hashes.json")
    plugin = InlinePlugin(hashes, [listener], **options)
    plugin.keeper = Keeper(choice)
    workflow.base_dir = str(work)
    workflow.config["execution"].update(
        {"hash_method": "content", "create_report": "false", "check_version": "false",
         "crashfile_format": "txt", "remove_unnecessary_outputs": "false",
         "poll_sleep_duration": "0"}
    )  # fmt: skip
    with remembered(hashes), portable(work):
        try:
            workflow.run(plugin=plugin)
        finally:
            hashes.save()
    return plugin, listener


def stream(name="dwi_wf", visit="sub_01_wf", whole="alsflow_wf"):
    """Workflow for steps, in the workflows that a real one has around it."""
    outer, middle, inner = Workflow(whole), Workflow(visit), Workflow(name)
    outer.add_nodes([middle])
    middle.add_nodes([inner])
    return outer, inner


def many(name, files, **inputs):
    node = MapNode(Mix(**inputs), iterfield=["in_files"], name=name)
    node.inputs.in_files = files
    return node


def mix(name, **inputs):
    return Node(Mix(word=name, **inputs), name=name)


__all__ = ["InlinePlugin", "Merge", "Mix", "Save", "Stop", "many", "mix", "run", "stream"]
