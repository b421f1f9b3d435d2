"""Scheduling, map nodes, the manifest and the progress line."""

import io
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from alsflow.workflows.manifest import Manifest
from alsflow.workflows.plugin import Resources
from alsflow.workflows.progress import Progress
from alsflow.workflows.settings import Settings


@dataclass(frozen=True)
class Step:
    name: str
    n_procs: int = 1
    mem_gb: float = 0.2
    fullname: str = "alsflow_wf.sub_01_wf.anat_wf.step"


def test_resources_are_never_exceeded():
    resources = Resources(processes=2, memory_gb=4)
    assert resources.take(Step("a", mem_gb=3))
    assert not resources.take(Step("b", mem_gb=2))
    assert resources.take(Step("c", mem_gb=1))
    assert not resources.take(Step("d", mem_gb=0))
    resources.used.clear()
    assert resources.take(Step("greedy", n_procs=64, mem_gb=99))  # alone, but it runs
    assert not resources.take(Step("e"))
    assert not resources.take(Step("again"), alone=True)
    resources.used.clear()
    assert resources.take(Step("again"), alone=True)
    assert not resources.take(Step("f", mem_gb=0))


def test_steps_with_threads_count_all_their_processors():
    resources = Resources(processes=8, memory_gb=64)
    assert resources.take(Step("a", n_procs=4))
    assert resources.take(Step("b", n_procs=4))
    assert not resources.take(Step("c", n_procs=1))


def test_map_node_reruns_only_the_changed_element(toy, monkeypatch):
    import toy_streams
    from nipype.pipeline.engine import MapNode, Workflow

    from alsflow.workflows import participant

    texts = ["a", "b", "c"]

    def build(visit, settings):
        workflow = Workflow(name="anat_wf")
        files = []
        for index, text in enumerate(texts):
            path = toy.root / f"{index}.txt"
            path.write_text(text)
            files.append(str(path))
        many = MapNode(toy_streams.Once(), iterfield=["t1w_file"], name="many")
        many.inputs.t1w_file = files
        workflow.add_nodes([many])
        return workflow

    monkeypatch.setitem(participant.STREAMS, "anat", build)
    monkeypatch.setattr(toy_streams, "target", lambda visit, settings: toy.root)
    toy.add("sub-01")
    assert toy.run() == 0
    calls = toy.work / "once.txt"
    assert sorted(calls.read_text()) == ["a", "b", "c"]
    calls.unlink()
    assert toy.run() == 0
    assert not calls.exists()
    texts[1] = "B"
    assert toy.run() == 0
    assert calls.read_text() == "B"
    calls.unlink()
    [lost] = [p for p in toy.work.rglob("once_out.txt") if p.read_text() == "c"]
    lost.unlink()
    assert toy.run() == 0
    assert "c" in calls.read_text()
    assert lost.read_text() == "c"


def manifest_of(toy, *people):
    from alsflow.workflows.manifest import Entry

    (toy.out / "logs").mkdir(parents=True, exist_ok=True)
    settings = Settings(toy.bids, toy.out, "participant", work_dir=toy.work)
    entries = [Entry(person, None, "anat") for person in people]
    return Manifest(settings, entries, lambda entry: {"x": toy.out / entry.prefix}, "0")


class FakeNode:
    """As much of a node as the watchers look at."""

    def __init__(self, person, name="step"):
        self.fullname = f"alsflow_wf.sub_{person}_wf.anat_wf.{name}"
        self.name = name
        self.inputs = SimpleNamespace(get=dict)

    def output_dir(self):
        return "folder"


def test_done_needs_every_requested_output(toy):
    manifest = manifest_of(toy, "01", "02")
    nodes = [FakeNode("01"), FakeNode("02")]
    (toy.out / "sub-01").touch()
    manifest.start()
    manifest.planned(nodes, {})
    assert toy.status() == {"sub-01": "not-run", "sub-02": "not-run"}
    for node in nodes:
        manifest.finished(node, 1.0, False)
    assert toy.status() == {"sub-01": "done", "sub-02": "failed"}
    assert "missing: x" in toy.reasons()["sub-02"]
    assert manifest.exit_code == 1


def test_flags_of_the_quality_check_are_the_reason(toy):
    manifest = manifest_of(toy, "01")
    (toy.out / "sub-01" / "anat").mkdir(parents=True)
    quality = toy.out / "sub-01" / "anat" / "sub-01_desc-anat_qc.json"
    quality.write_text('{"flags": [{"name": "tiv", "reason": "600 mL is too small"}]}')
    node = FakeNode("01")
    manifest.planned([node], {})
    manifest.finished(node, 1.0, True)
    assert toy.status() == {"sub-01": "flagged"}
    assert toy.reasons()["sub-01"] == "tiv: 600 mL is too small"


def test_unreadable_quality_file_fails_that_visit_only(toy):
    manifest = manifest_of(toy, "01", "02")
    for person in ("01", "02"):
        (toy.out / f"sub-{person}").mkdir()
    (toy.out / "sub-01" / "sub-01_desc-anat_qc.json").write_text("{")
    nodes = [FakeNode("01"), FakeNode("02")]
    manifest.planned(nodes, {})
    for node in nodes:
        manifest.finished(node, 1.0, False)
    assert toy.status() == {"sub-01": "failed", "sub-02": "done"}


def test_builder_that_fails_stops_that_visit_only(toy, monkeypatch):
    import toy_streams

    from alsflow.nodes.errors import BadInputError
    from alsflow.workflows import participant

    def build(visit, settings):
        if visit.participant == "01":
            raise BadInputError("the header is empty; export it again.")
        if visit.participant == "02":
            raise ZeroDivisionError("oops")
        return toy_streams.init_toy_wf(visit, settings)

    monkeypatch.setitem(participant.STREAMS, "anat", build)
    for person in ("01", "02", "03"):
        toy.add(f"sub-{person}")
    assert toy.run() == 1
    assert toy.status() == {"sub-01": "refused", "sub-02": "failed", "sub-03": "done"}
    assert toy.reasons()["sub-01"] == "sub-01: the header is empty; export it again."
    [log] = (toy.out / "logs").glob("*.log")
    assert "ZeroDivisionError: oops" in log.read_text()


def test_stale_states_of_the_same_people_do_not_survive(toy):
    first = manifest_of(toy, "01", "02")
    first.start()
    first.failed(FakeNode("01"), "ValueError: old")
    first.failed(FakeNode("02"), "ValueError: other")
    second = manifest_of(toy, "01")
    second.start()
    assert toy.status() == {"sub-01": "not-run", "sub-02": "failed"}
    errors = (toy.out / "logs" / "errors.tsv").read_text()
    assert "old" not in errors
    assert "other" in errors
    details = [p.name for p in (toy.out / "logs" / "crash").iterdir()]
    assert details == ["sub-02_anat_step.txt"]


def test_tabs_and_newlines_cannot_break_the_tables(toy):
    manifest = manifest_of(toy, "01")
    manifest.failed(FakeNode("01"), "ValueError: a\tb")
    for name in ("status.tsv", "logs/errors.tsv"):
        lines = (toy.out / name).read_text().splitlines()
        assert len({line.count("\t") for line in lines}) == 1


def test_failing_report_is_in_the_exit_code(toy, monkeypatch):
    import sys

    def broken(settings, visits, manifest):
        raise ValueError("no template")

    toy.add("sub-01")
    monkeypatch.setattr(sys.modules["alsflow.workflows.report"], "write_reports", broken)
    assert toy.run() == 1
    assert toy.status()["sub-01"] == "done"
    assert toy.reasons()["report"] == "report: writing the pages: ValueError: no template"
    assert "no template" in (toy.out / "logs" / "errors.tsv").read_text()
    monkeypatch.setattr(
        sys.modules["alsflow.workflows.report"], "write_reports", lambda *arguments: None
    )
    assert toy.run() == 0
    assert toy.status() == {"sub-01": "done"}


def test_time_left_from_steps_of_the_same_name(toy, monkeypatch):
    from alsflow.workflows import progress as module

    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    manifest = manifest_of(toy, "01", "02", "03")
    nodes = [FakeNode(person, name) for person in ("01", "02", "03") for name in ("long", "short")]
    console = Console(file=io.StringIO(), width=100)
    progress = Progress(manifest, processes=2, console=console)
    progress.planned(nodes, {})
    assert progress.time_left() is None
    progress.finished(nodes[0], 100.0, False)
    progress.finished(nodes[1], 10.0, True)
    assert progress.time_left() == pytest.approx((100 + 10 + 100 + 10) / 2)
    progress.started(nodes[2])
    now[0] = 40.0
    assert progress.time_left() == pytest.approx((60 + 10 + 100 + 10) / 2)
    line = progress.line()
    assert "0 of 3 visits" in line
    assert "2 of 6 steps (1 from the cache), 1 running" in line
    assert "90 s left" in line or "2 min left" in line


def test_progress_on_a_terminal_and_in_a_file(toy):
    for terminal in (True, False):
        console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
        manifest = manifest_of(toy, "01")
        with Progress(manifest, 1, console=console) as progress:
            node = FakeNode("01")
            progress.planned([node], {node: "x is missing"})
            progress.started(node)
            progress.waiting()
            manifest.failed(node, "ValueError: [bold]oops")
            progress.failed(node, "ValueError: [bold]oops")
        text = console.file.getvalue()
        assert "x is missing" in text
        assert "ValueError: [bold]oops" in text
        assert ("\x1b[" in text) == terminal
        assert "1 failed" in text


def test_group_level_runs_through_the_same_engine(toy, monkeypatch):
    import sys
    import types

    import toy_streams
    from nipype.pipeline.engine import Node, Workflow

    toy.add("sub-01")
    toy.run()
    source = toy.out / "sub-01" / "anat" / "sub-01_desc-toy_T1w.txt"

    def init_group_wf(settings):
        workflow = Workflow(name="group_wf")
        sink = toy_streams.Sink(in_file=str(source), target=str(toy.out / "features.tsv"))
        workflow.add_nodes([Node(sink, name="sink")])
        return workflow

    group = types.ModuleType("alsflow.workflows.group")
    group.init_group_wf = init_group_wf
    group.requested_group = lambda settings: {"features": toy.out / "features.tsv"}
    group.withdraw_group = lambda settings: (toy.out / "features.tsv").unlink()
    monkeypatch.setitem(sys.modules, "alsflow.workflows.group", group)
    assert toy.run(level="group") == 0
    assert toy.status() == {"sub-01": "done", "group": "done"}
    assert (toy.out / "features.tsv").read_text() == source.read_text()
    group.requested_group = lambda settings: {"page": Path(toy.out / "group.html")}
    assert toy.run(level="group") == 1
    assert "page" in toy.reasons()["group"]
    assert not (toy.out / "features.tsv").exists()


def test_a_step_that_can_never_start_does_not_hang_the_run(toy, monkeypatch):
    from alsflow.workflows.plugin import WorkersPlugin

    monkeypatch.setattr(WorkersPlugin, "patience", 0.3)
    monkeypatch.setattr(WorkersPlugin, "_take", lambda self, node: False)
    toy.add("sub-01")
    assert toy.run() == 1
    assert "could not be started" in toy.reasons()["sub-01"]
