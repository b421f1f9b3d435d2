"""Jobs of the cluster without a cluster: which steps share one, what they leave, who remembers."""

import json
import pickle
import threading
import time
from copy import deepcopy
from types import SimpleNamespace

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alsflow.interfaces import slurm
from alsflow.interfaces.sealed import sealed
from alsflow.workflows import exits
from alsflow.workflows.cache import FileHashes, write_text
from alsflow.workflows.settings import SlurmSettings
from alsflow.workflows.slurm import inside
from alsflow.workflows.slurm import jobs as slurm_jobs
from alsflow.workflows.slurm.batch import Batch, Place
from alsflow.workflows.slurm.groups import bundles
from alsflow.workflows.slurm.jobs import ActiveJobs, Entry
from alsflow.workflows.slurm.plugin import SlurmPlugin
from alsflow.workflows.slurm.script import JobNeed

# ---------------------------------------------------------------------------- groups


def grouped(edges, ready, minutes, limit, finished=(), refused=()):
    graph = nx.DiGraph(edges)
    graph.add_nodes_from(ready)
    return bundles(ready, graph, rank=lambda n: n, minutes=lambda n: minutes.get(n, 1.0),
                   may_join=lambda n: n not in refused, finished=finished.__contains__,
                   limit=limit)  # fmt: skip


def test_a_chain_is_one_job_up_to_the_limit():
    edges = [(1, 2), (2, 3), (3, 4)]
    assert grouped(edges, [1], {}, 10) == [[1, 2, 3, 4]]
    assert grouped(edges, [1], {}, 3) == [[1, 2, 3]]
    assert grouped(edges, [1], {}, 0.5) == [[1]]  # a single step may take longer


def test_what_waits_for_another_job_is_left_out():
    edges = [(1, 3), (2, 3), (3, 4), (9, 4)]
    assert grouped(edges, [1], {}, 10) == [[1]]  # 2 is computed elsewhere
    assert grouped(edges, [1], {}, 10, finished={2}) == [[1, 3]]
    assert grouped(edges, [1], {}, 10, finished={2, 9}) == [[1, 3, 4]]
    assert grouped(edges, [1], {}, 10, finished={2, 9}, refused={3}) == [[1]]


def test_many_short_steps_are_several_jobs():
    edges = [(k, k + 100) for k in range(10)]
    jobs = grouped(edges, list(range(10)), {}, 4)
    assert all(len(job) <= 4 for job in jobs)
    assert sorted(node for job in jobs for node in job if node < 100) == list(range(10))


@given(
    st.integers(2, 14).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=40),
            st.lists(st.floats(0.1, 4), min_size=n, max_size=n),
            st.floats(0.2, 8),
        )
    )
)
def test_every_group_is_closed(case):
    number, pairs, minutes, limit = case
    graph = nx.DiGraph([pair for pair in pairs if pair[0] < pair[1]])
    graph.add_nodes_from(range(number))
    ready = [node for node in graph if graph.in_degree(node) == 0]
    jobs = bundles(ready, graph, lambda n: n, minutes.__getitem__, lambda n: True,
                   lambda n: False, limit)  # fmt: skip
    inside = [node for job in jobs for node in job]
    assert len(inside) == len(set(inside))
    assert set(ready) <= set(inside)
    for job in jobs:
        assert len(job) == 1 or sum(minutes[node] for node in job) <= limit
        for place, node in enumerate(job):
            assert set(graph.predecessors(node)) <= set(job[:place])


# ---------------------------------------------------------------------------- inside a job


@pytest.fixture
def chain(toy):
    """Folder of a job of three steps, as the driver writes it, for a run inside this process."""
    import toy_streams
    from nipype import config
    from nipype.pipeline.engine import Node as RealNode

    toy.work.mkdir()
    home = str(toy.work / "alsflow_wf" / "sub_01_wf" / "anat_wf")

    def make(text, fresh=True, needs=()):
        source = toy.root / "source.txt"
        source.write_text(text)
        load = RealNode(toy_streams.Load(t1w_file=str(source)), name="load", base_dir=home)
        scale = RealNode(toy_streams.Scale(factor=2), name="scale", base_dir=home)
        scale.input_source = {"in_file": (f"{home}/load/result_load.pklz", "out_file")}
        other = RealNode(toy_streams.Once(t1w_file=str(source)), name="other", base_dir=home)
        folder = toy.root / f"job{time.monotonic_ns()}"
        folder.mkdir()
        steps = []
        for index, (node, after) in enumerate(((load, []), (scale, [0]), (other, []))):
            node.config = deepcopy(config._sections)
            node.config["execution"] |= {"hash_method": "content"}
            (folder / inside.node_file(index)).write_bytes(pickle.dumps(node))
            steps.append({"name": node.name, "fresh": fresh, "after": after, "needs": needs})
        content = {"steps": steps, "work_dir": str(toy.work), "lag": 0.2, "path": []}
        (folder / inside.JOB).write_text(json.dumps(content))
        return folder

    return make


def outcomes(folder):
    files = [folder / inside.outcome_file(index) for index in range(3)]
    return [json.loads(file.read_text())["state"] if file.exists() else None for file in files]


def test_steps_of_a_job(chain, toy):
    folder = chain("fine")
    assert inside.main([str(folder)]) == 0
    assert outcomes(folder) == ["done", "done", "done"]
    assert json.loads((folder / inside.BEGUN).read_text())["host"]
    again = chain("fine", fresh=False)
    assert inside.main([str(again)]) == 0
    assert outcomes(again) == ["cached", "cached", "cached"]
    assert len(toy.calls()) == 2


def test_another_version_of_the_program_computes_nothing(chain, monkeypatch):
    import toy_streams

    folder = chain("fine")
    monkeypatch.setattr(toy_streams.Load, "__init__", with_version("other"))
    assert inside.main([str(folder)]) == 0
    assert outcomes(folder) == ["failed", "left", "done"]
    text = json.loads((folder / inside.outcome_file(0)).read_text())["error"]
    assert "Another version of the program" in text


def with_version(version):
    from alsflow.interfaces.base import CodedInterface

    def init(self, **inputs):
        CodedInterface.__init__(self, **inputs)
        self.inputs.code_version = version

    return init


def test_folders_that_a_container_must_see(tmp_path):
    atlas = tmp_path / "site" / "atlas.nii"
    atlas.parent.mkdir()
    atlas.touch()
    values = {"a": str(atlas), "b": "/nowhere/at/all", "c": [str(tmp_path / "work" / "x")]}
    node = SimpleNamespace(inputs=SimpleNamespace(get=lambda: values))
    place = Place(tmp_path / "work", read=(tmp_path / "bids",)).with_inputs([node])
    assert place.read == (tmp_path / "bids", atlas.parent)


def test_what_needs_a_failed_step_is_left_and_the_rest_goes_on(chain):
    folder = chain("crash")
    assert inside.main([str(folder)]) == 0
    assert outcomes(folder) == ["failed", "left", "done"]
    first = json.loads((folder / inside.outcome_file(0)).read_text())
    assert "division by zebra" in first["error"]


def test_job_that_was_given_up_says_nothing_more(chain):
    folder = chain("fine")
    (folder / inside.REVOKED).touch()
    assert inside.main([str(folder)]) == 1
    assert outcomes(folder) == [None, None, None]


def test_results_of_earlier_jobs_that_never_come(chain, toy):
    folder = chain("fine", needs=[str(toy.root / "not_there")])
    assert inside.main([str(folder)]) == 0
    assert outcomes(folder) == ["failed", "left", "failed"]
    text = json.loads((folder / inside.outcome_file(0)).read_text())["error"]
    assert "not_there" in text
    assert "raise slurm.lag" in text


def test_files_that_come_late_are_waited_for(tmp_path):
    late = tmp_path / "late.txt"
    thread = threading.Timer(0.3, late.touch)
    thread.start()
    assert inside.wait_for_files([late, tmp_path], 5) == []
    thread.join()
    start = time.monotonic()
    assert inside.wait_for_files([tmp_path / "never"], 0.2) == [tmp_path / "never"]
    assert time.monotonic() - start < 2


# ---------------------------------------------------------------------------- outcomes


class Node:
    """As much of a node as a job looks at."""

    def __init__(self, folder, name="step"):
        self.folder, self.name, self.fullname = folder, name, f"alsflow_wf.sub_01_wf.{name}"

    def output_dir(self):
        return str(self.folder / self.name)


def test_outcome_counts_when_its_files_are_seen(tmp_path):
    node = Node(tmp_path)
    entry = Batch("n", "sub_01", tmp_path, [node], JobNeed("n", "/l"), job="5")
    assert entry.outcome(0, 0.2) is None
    outcome = {"state": "done", "error": "", "seconds": 1.0, "hashes": {}}
    (tmp_path / inside.outcome_file(0)).write_text(json.dumps(outcome))
    assert entry.outcome(0, 0.2) is None  # the results of the step are not seen
    time.sleep(0.25)
    late = entry.outcome(0, 0.2)
    assert late["state"] == "failed"
    assert "not seen here" in late["error"]
    folder = tmp_path / "step"
    folder.mkdir()
    (folder / "result_step.pklz").touch()
    record = {"files": {str(folder / "out.txt"): "md5"}, "seconds": 1}
    write_text(folder / "_outputs.json", sealed(record))
    assert "out.txt" in entry.outcome(0, 0.0)["error"]
    (folder / "out.txt").touch()
    assert entry.outcome(0, 0.2) == outcome


def test_half_an_outcome_is_none(tmp_path):
    entry = Batch("n", "p", tmp_path, [Node(tmp_path)], JobNeed("n", "/l"))
    (tmp_path / inside.outcome_file(0)).write_text('{"state": "fail')
    assert entry.outcome(0, 0.0) is None


def test_why_jobs_wait_is_told_once_for_each_time_of_waiting(tmp_path, monkeypatch):
    """Slurm's words for the same drained nodes change from one look at the queue to the next."""
    plugin = SlurmPlugin(SlurmSettings(), Place(tmp_path), FileHashes())
    said = []
    monkeypatch.setattr(plugin, "_say", said.append)
    waiting = Batch("n", "p", tmp_path, [Node(tmp_path)], JobNeed("n", "/l"), job="5")
    plugin._sent = [waiting]
    for reason in ("", "Nodes_down", "Resources", "PartitionConfig", "Nodes_down", "Resources"):
        waiting.state = slurm.Job("PENDING", reason)
        plugin._tell_reasons()
    told = ["1 job waits in the queue: Nodes down.", "1 job waits in the queue: PartitionConfig."]
    assert said == told
    waiting.state = slurm.Job("RUNNING")
    plugin._tell_reasons()
    waiting.state = slurm.Job("PENDING", "Nodes_down")
    plugin._tell_reasons()
    assert said == [*told, told[0]]


# ---------------------------------------------------------------------------- who remembers


def entry(name, job="7", visit="sub_01"):
    return Entry(name, job, visit, "/folder")


def test_jobs_of_several_drivers(tmp_path):
    first, second = ActiveJobs(tmp_path), ActiveJobs(tmp_path)
    first.put(entry("a", job=""))
    second.put(entry("b", visit="sub_02"))
    first.put(entry("a", job="9"))
    assert second.of({"sub_01"}) == [entry("a", job="9")]
    assert first.of({"sub_03"}) == []
    second.drop(["b", "never there"])
    assert first.of({"sub_01", "sub_02"}) == [entry("a", job="9")]
    first.drop(["a"])
    assert not (tmp_path / "jobs" / "active.json").exists()  # nothing hinders a clean-up


def test_damaged_memory_stops_the_run(tmp_path):
    ActiveJobs(tmp_path).put(entry("a"))
    (tmp_path / "jobs" / "active.json").write_text("[{")
    with pytest.raises(exits.StopRunError, match="look at squeue"):
        ActiveJobs(tmp_path).of({"sub_01"})


class Queue:
    """Answers to the questions to the queue, one after the other."""

    def __init__(self, monkeypatch, *answers, found=None):
        self.answers, self.cancelled = list(answers), []
        monkeypatch.setattr(slurm, "states", lambda ids: self.answers.pop(0))
        monkeypatch.setattr(slurm, "find", lambda name: found)
        monkeypatch.setattr(slurm, "cancel", lambda ids: self.cancelled.extend(ids) or True)


def test_earlier_jobs_are_settled_before_anything_is_planned(tmp_path, monkeypatch):
    active = ActiveJobs(tmp_path)
    for name, job in (("a", "1"), ("b", "2"), ("c", "3")):
        active.put(entry(name, job))
    active.put(entry("other", "4", visit="sub_02"))
    pending, running = slurm.Job("PENDING"), slurm.Job("RUNNING")
    queue = Queue(monkeypatch, None, {"1": pending, "2": running}, {"2": running},
                  {"2": slurm.Job("COMPLETED")})  # fmt: skip
    said = []
    slurm_jobs.settle(tmp_path, {"sub_01"}, 0.0, said.append)
    assert queue.cancelled == ["1"]
    assert queue.answers == []
    for words in ("not answer", "cancelled: 1.", "for them: 2."):
        assert words in " ".join(said)
    assert len(said) == 3
    assert active.of({"sub_01", "sub_02"}) == [entry("other", "4", visit="sub_02")]


def test_driver_killed_while_it_submitted(tmp_path, monkeypatch):
    """It had noted the name; the id is found by it, or the job was never taken."""
    ActiveJobs(tmp_path).put(entry("a", ""))
    queue = Queue(monkeypatch, {"8": slurm.Job("PENDING")}, {}, found="8")
    slurm_jobs.settle(tmp_path, {"sub_01"}, 0.0, lambda text: None)
    assert queue.cancelled == ["8"]
    ActiveJobs(tmp_path).put(entry("a", ""))
    Queue(monkeypatch, {}, found=None)
    slurm_jobs.settle(tmp_path, {"sub_01"}, 0.0, lambda text: None)
    assert ActiveJobs(tmp_path).of({"sub_01"}) == []


def test_earlier_jobs_where_there_is_no_slurm(tmp_path, monkeypatch):
    ActiveJobs(tmp_path).put(entry("a", "12"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(exits.StopRunError, match=r"left jobs on the cluster \(12\)"):
        slurm_jobs.settle(tmp_path, {"sub_01"}, 0.0, lambda text: None)
    slurm_jobs.settle(tmp_path, {"sub_05"}, 0.0, lambda text: None)  # not about these
