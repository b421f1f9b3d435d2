"""Steps as jobs of a real cluster: every end of a job has its right answer."""

import os

import pytest

ALL = ["load", "scale", "sink"]


def steps(person, *names):
    return sorted(f"{person}:{name}" for name in names or ALL)


@pytest.fixture
def cohort(toy, cluster, monkeypatch):
    """The toy on the cluster: `run` takes settings of the table [slurm], too."""
    plain = toy.run
    monkeypatch.delenv("LOGNAME", raising=False)  # as in a container

    def configure(**settings):
        values = {"poll": 0.2, "lag": 0.4, "group_minutes": 5.0} | settings
        lines = [f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
                 for name, value in values.items()]  # fmt: skip
        config = toy.root / "config.toml"
        config.write_text("[slurm]\n" + "\n".join(lines) + "\n")
        return ["--plugin", "slurm", "--config-file", config]

    def run(*options, **settings):
        return plain(*configure(**settings), *options)

    toy.run, toy.configure, toy.plain = run, configure, plain
    toy.jobs = lambda: [job for job in cluster.jobs() if job[1].startswith("als-")]
    toy.before = len(toy.jobs())
    toy.new_jobs = lambda: toy.jobs()[toy.before :]
    return toy


def test_fresh_then_cached_then_one_person_more(cohort):
    cohort.add("sub-01"), cohort.add("sub-02")
    assert cohort.run() == 0
    assert cohort.status() == {"sub-01": "done", "sub-02": "done"}
    assert cohort.calls() == sorted(steps("01") + steps("02"))
    assert len(cohort.new_jobs()) == 2  # the three short steps of a person share one
    assert cohort.run() == 0
    assert cohort.calls() == []
    assert len(cohort.new_jobs()) == 2
    cohort.add("sub-03")
    assert cohort.run() == 0
    assert cohort.calls() == steps("03")
    assert [name.endswith("sub_03") for _, name, _ in cohort.new_jobs()] == [False, False, True]
