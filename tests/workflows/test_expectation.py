"""Minutes and memory expected of a run: the queue is followed, limits are kept."""

import networkx as nx
import pytest

from alsflow.interfaces.bids import Visit
from alsflow.workflows import expectation, resources
from alsflow.workflows.expectation import OWN_GB, Expectation, Outcome, cohort, job_options
from alsflow.workflows.manifest import Entry
from alsflow.workflows.resources import Need
from alsflow.workflows.settings import Settings


def diamond():
    """first -> left, right -> last."""
    return nx.DiGraph([("first", "left"), ("first", "right"), ("left", "last"), ("right", "last")])


NEEDS = {"first": Need(1, 10), "left": Need(3, 20), "right": Need(2, 30), "last": Need(0.5, 5)}


def of(visits, **changes):
    needs = dict.fromkeys(visits, NEEDS | changes)
    return Expectation(needs, dict.fromkeys(visits, diamond()))


@pytest.mark.parametrize(
    ("processes", "memory", "minutes", "most"),
    [(1, 99, 65, 3), (2, 99, 45, 5), (8, 99, 45, 5), (2, 4.5, 65, 3)],
)
def test_the_queue_of_one_visit(processes, memory, minutes, most):
    found = of(["a"]).on(processes, memory)
    assert found.minutes == minutes
    assert found.memory_gb == pytest.approx(most + OWN_GB)


def test_visits_fill_the_gaps_of_each_other():
    two = of(["a", "b"])
    assert two.minutes == 130
    assert two.on(2).minutes == 80  # one person after the other, as the run does it
    assert two.on(1).minutes == 130
    assert two.on(4).minutes == 45
    assert two.on(4).memory_gb == pytest.approx(10 + OWN_GB)
    assert two.one(2) == of(["a"]).on(2)


def test_steps_with_threads_take_the_place_of_several():
    threaded = of(["a", "b"], left=Need(3, 20, processes=2))
    assert threaded.on(2).minutes > of(["a", "b"]).on(2).minutes
    assert threaded.on(1).minutes == 2 * 85  # the processor is shared by two threads


def test_many_visits_are_told_by_their_sum():
    many = of([f"v{k}" for k in range(100)])
    assert many.on(4).minutes == pytest.approx(100 * 65 / 4, rel=0.01)
    assert many.one(1).minutes == 65


def test_the_largest_step_and_the_largest_visit_are_found():
    found = of(["a", "b"])
    found.needs["b"] = NEEDS | {"left": Need(7, 50)}
    assert found.largest == ("b", "left", 7)
    assert found.one(2) == Outcome(65, 9 + OWN_GB)


def test_margins_for_jobs():
    assert job_options(Outcome(0.5, 0.9), 2, 3.0) == [
        "--cpus-per-task=2", "--mem=2G", "--time=00:05:00",
    ]  # fmt: skip
    assert job_options(Outcome(100, 10), 8, 3.0)[2] == "--time=05:00:00"


def test_dry_run_tells_minutes_memory_and_options(toy, capfd, monkeypatch):
    toy.add("sub-01")
    toy.add("sub-02")
    row = resources.Row({"base": 2.0}, {"base": 30.0})
    monkeypatch.setattr(resources, "rows", lambda: {"anat.load": row})
    assert toy.run("--dry-run") == 0
    told = capfd.readouterr().out
    assert "about 31 min (61 min of one processor)" in told
    assert "anat.load of sub-0" in told
    assert "takes 2.0 GB" in told
    assert "--cpus-per-task=4" in told
    assert not toy.out.exists()
    assert not toy.work.exists()


def test_a_visit_that_will_be_refused_does_not_stand_for_the_others(tmp_path, monkeypatch):
    def steps(visit, entries, settings):
        if visit.participant == "01":
            raise ValueError("refused")
        return diamond()

    monkeypatch.setattr(expectation, "steps_of", steps)
    visits = [Visit(label) for label in ("01", "02", "03")]
    entries = [Entry(visit.participant, None, "anat") for visit in visits]
    entries[2].state = "absent"
    found = cohort(visits, entries, Settings(tmp_path, tmp_path, "participant"))
    assert list(found.needs) == ["sub-02"]
    assert found.unknown == ["sub-01"]
    assert cohort([], [], Settings(tmp_path, tmp_path, "participant")).text(None) == ""
