"""A task per person and a group job on a real cluster."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from waiting import SLOW, wait_for

from alsflow import cli_slurm
from alsflow.interfaces import slurm
from alsflow.workflows.slurm import array, record

FOLDER = Path(__file__).parent
EXAMPLE = FOLDER.parents[1] / "bids_example"


class Study:
    """The toy, submitted to the cluster."""

    def __init__(self, toy, cluster):
        self.toy, self.cluster = toy, cluster

    def call(self, *words):
        """Exit code of the command line."""
        try:
            return cli_slurm.main([*map(str, words)])
        except SystemExit as end:
            return end.code

    def submit(self, *options, levels=("participant", "group")):
        return self.call(self.toy.bids, self.toy.out, *levels, "-w", self.toy.work, "--nprocs", 1,
                         "--mem", "300M", "--time", 10, "--skip-bids-validation",
                         *options)  # fmt: skip

    def resume(self, *options):
        return self.call("resume", self.toy.out, *options)

    def status(self, capsys):
        """Exit code, state by person, and everything else."""
        capsys.readouterr()
        code = self.call("status", self.toy.out, "--json")
        view = json.loads(capsys.readouterr().out)
        tasks = [*view["people"], *([view["group"]] if view["group"] else [])]
        return code, {task["name"].removeprefix("sub-"): task["state"] for task in tasks}, view

    def until(self, capsys, **states):
        """Wait until people are in these states; the arguments start with an underscore."""
        wanted = {name.removeprefix("_"): state for name, state in states.items()}
        end = time.monotonic() + SLOW
        while True:
            code, found, view = self.status(capsys)
            if wanted.items() <= found.items():
                return code, found, view
            assert time.monotonic() < end, (wanted, view)
            time.sleep(0.2)

    def task(self, view, label):
        return next(task for task in view["people"] if task["name"] == f"sub-{label}")

    @property
    def runs(self):
        return record.read_submissions(self.toy.out)

    def drivers(self, label):
        """Processes of the program that compute a person, the first started first."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    words = (folder / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                mine = str(self.toy.out).encode() in words and b"python" in words[0]
                if mine and words[-3:-1] == [b"--participant-label", label.encode()]:
                    found.append(int(folder.name))
        return sorted(found)


@pytest.fixture
def study(toy, cluster, monkeypatch):
    monkeypatch.delenv("LOGNAME", raising=False)  # as in a container
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    program = [sys.executable, str(FOLDER / "toy_program.py")]
    monkeypatch.setattr(array, "program", lambda settings: program)
    return Study(toy, cluster)


def test_from_the_first_call_to_the_last_person(study, capsys):
    """Everything that befalls a study: refused, crashed, cancelled, killed, out of time, added."""
    toy = study.toy
    orders = {
        "01": "fine",
        "02": "refuse",
        "03": "crash",
        "04": "wait",
        "05": "wait",
        "06": "wait",
    }
    images = {label: toy.add(f"sub-{label}", order) for label, order in orders.items()}
    assert study.submit("--array-tasks", 3) == 0
    code, found, view = study.status(capsys)
    assert code == 75
    assert found["group"] == "pending"

    most, end = 0, time.monotonic() + SLOW
    while not {"04": "running", "05": "running", "06": "running"}.items() <= found.items():
        running = [state for label, state in found.items() if state == "running"]
        most = max(most, len(running))
        waits = [task["reason"] for task in view["people"] if task["state"] == "pending"]
        assert all("waits" in reason for reason in waits), waits
        assert time.monotonic() < end, view
        time.sleep(0.1)
        code, found, view = study.status(capsys)
    assert most <= 3
    code, found, view = study.until(capsys, _01="done", _02="refused", _03="failed")
    assert code == 75
    assert "2-D" in study.task(view, "02")["reason"]
    assert "zebra" in study.task(view, "03")["reason"]
    assert (toy.out / study.task(view, "03")["log"]).is_file()

    [first] = study.runs
    wait_for(lambda: all(study.drivers(label) for label in ("04", "05", "06")))
    wait_for(lambda: toy.work.joinpath("calls.txt").read_text().count("load") == 6)
    study.cluster.command("scancel", first.task("04"))
    os.kill(study.drivers("05")[0], signal.SIGKILL)
    code, found, view = study.until(capsys, _04="killed", _05="killed")
    assert "scancel" in study.task(view, "04")["reason"]
    assert "killed, most likely for lack of memory" in study.task(view, "05")["reason"]

    # those who are missing, and nobody else; the group level waits for 06 too
    images["02"].write_text("fine now"), images["03"].write_text("fine now")
    (toy.work / "go").touch()
    (toy.work / "go").rename(toy.work / "later")
    assert study.resume("--mem", "400M", "--time", "20") == 0
    first, second = study.runs
    assert second.people == ("02", "03", "04", "05")
    show = study.cluster.command("scontrol", "show", "job", second.group, "--oneliner")
    assert first.task("06") in show
    assert f"afterany:{second.arrays[0].job}_" in show
    assert "TimeLimit=00:20:00" in show
    states = {number: state for number, _, state in study.cluster.jobs()}
    assert states[first.group] == "CANCELLED"
    _, found, _ = study.status(capsys)
    assert found["06"] == "running"

    study.cluster.end_time(first.task("06"))
    code, found, view = study.until(capsys, _06="killed", _02="done", _03="done")
    assert "time was over" in study.task(view, "06")["reason"]
    assert "--time" in study.task(view, "06")["hint"]
    (toy.work / "later").rename(toy.work / "go")
    assert study.resume("--time", "30") == 0
    assert study.runs[-1].people == ("06",)
    code, found, _ = study.until(capsys, group="done", _06="done")
    assert code == 0
    assert set(found.values()) == {"done"}
    assert (toy.out / "group.txt").read_text().split() == [f"sub-{label}" for label in orders]
    assert study.resume() == 0
    assert len(study.runs) == 3

    # the same again, with one person more: only this one is computed
    toy.calls()
    toy.add("sub-07")
    assert study.submit() == 0
    code, found, view = study.until(capsys, group="done")
    assert (code, len(found)) == (0, 8)
    assert toy.calls() == ["07:load", "07:scale", "07:sink"]


def test_what_a_dry_run_shows_is_what_slurm_gets(study, capsys):
    study.toy.add("sub-01")
    options = ["--partition", "short", "--time", 4]
    assert study.submit("--dry-run", *options) == 0
    shown = capsys.readouterr().out
    assert not study.toy.out.exists()
    before = study.cluster.jobs()
    study.cluster.drain()
    try:
        assert study.submit(*options) == 0
        [run] = study.runs
        for job, name in ((run.arrays[0].job, "participant.sh"), (run.group, "group.sh")):
            text = study.cluster.command("scontrol", "write", "batch_script", job, "-")
            assert f"# ---- {run.folder / name}\n{text.rstrip(chr(0)).rstrip()}\n" in shown
        show = study.cluster.command("scontrol", "show", "job", run.group, "--oneliner")
        assert "Partition=short" in show
        assert len(study.cluster.jobs()) == len(before) + 2
        wait_for(lambda: study.task(study.status(capsys)[2], "01")["reason"].startswith("waits"),
                 problem="no reason to wait")  # fmt: skip
        assert study.submit() == 73  # while the first waits for a node
        assert "run-001" in capsys.readouterr().err
        assert study.resume() == 0
        assert "nothing is missing" in capsys.readouterr().err
    finally:
        study.cluster.clear()
        study.cluster.resume()
    code, found, view = study.status(capsys)
    assert (code, found) == (1, {"01": "not-run", "group": "not-run"})
    assert "cancelled before it started" in study.task(view, "01")["reason"]


def test_time_that_the_partition_does_not_give(study, capsys):
    """Slurm takes such a job, and lets it wait for ever."""
    study.toy.add("sub-01")
    assert study.submit("--partition", "short", "--time", 10) == 0
    assert "the partition short gives at most 5 min to a job, less" in capsys.readouterr().err
    wait_for(lambda: "will never start" in study.task(study.status(capsys)[2], "01")["reason"],
             problem="it does not say so")  # fmt: skip
    code, found, view = study.status(capsys)
    assert (code, found) == (1, {"01": "pending", "group": "pending"})
    assert study.task(view, "01")["reason"] == "will never start: PartitionTimeLimit"
    assert "scancel" in study.task(view, "01")["hint"]


def test_task_that_slurm_puts_back_starts_again(study, capsys):
    study.toy.add("sub-01", "wait")
    assert study.submit(levels=["participant"]) == 0
    wait_for((study.toy.work / "calls.txt").is_file)
    [run] = study.runs
    task = run.task("01")
    study.cluster.command("scontrol", "requeue", task)
    _, _, view = study.until(capsys, _01="pending")
    assert "put back into the queue" in study.task(view, "01")["reason"]
    wait_for(lambda: not study.drivers("01"))
    (study.toy.work / "go").touch()
    wait_for(lambda: "BeginTime=" in study.cluster.command("scontrol", "update", f"jobid={task}",
             "StartTime=now", check=False) or study.status(capsys)[1]["01"] != "pending",
             SLOW)  # fmt: skip
    code, _, _ = study.until(capsys, _01="done")
    assert code == 0
    assert "start 2" in (run.folder / "logs" / "sub-01.log").read_text()


def test_partition_that_does_not_exist(study, capsys):
    study.toy.add("sub-01")
    before = study.cluster.jobs()
    assert study.submit("--partition", "gpu") == 1
    message = capsys.readouterr().err
    assert "invalid partition" in message.lower()
    assert "invalid partition" in message.splitlines()[-1].lower()
    assert "Traceback" not in message
    assert study.cluster.jobs() == before
    assert study.call("status", study.toy.out) == 66


def test_group_job_that_is_refused_leaves_no_array(study, capsys, monkeypatch):
    study.toy.add("sub-01"), study.toy.add("sub-02")
    taken = []

    def submit(script, options=(), **more):
        extra = ["--partition=gpu"] if str(script).endswith("group.sh") else []
        taken.append(accept(script, [*options, *extra], **more))
        return taken[-1]

    accept = slurm.submit
    monkeypatch.setattr(slurm, "submit", submit)
    assert study.submit() == 1
    assert len(taken) == 1
    wait_for(lambda: not any(job.startswith(taken[0]) for job in study.cluster.running()))
    assert "nothing runs" in capsys.readouterr().err


def test_odd_paths_and_an_array_in_parts(study, capsys, monkeypatch):
    """Blanks, quotes and signs of Slurm in the name of the folder; three people in two arrays."""
    toy = study.toy
    toy.out = toy.root / "o%j u't $x"
    for label in ("01", "02", "03"):
        toy.add(f"sub-{label}")
    monkeypatch.setattr(slurm, "max_array_tasks", lambda: 2)
    assert study.submit("--group-after", "ok") == 0
    assert len(study.runs[0].arrays) == 2
    code, found, _ = study.until(capsys, group="done")
    assert (code, set(found.values())) == (0, {"done"})
    assert (toy.out / "group.txt").read_text() == "sub-01 sub-02 sub-03"
    says = [path.name for path in (study.runs[0].folder / "logs").iterdir()]
    assert len([name for name in says if name.startswith("slurm-")]) == 4


def test_group_job_after_success_alone_does_not_wait_for_ever(study, capsys):
    study.toy.add("sub-01", "refuse")
    assert study.submit("--group-after", "ok") == 0
    code, found, view = study.until(capsys, _01="refused", group="not-run")
    assert code == 1
    assert not (study.toy.out / "group.txt").exists()
    wait_for(lambda: not study.cluster.running())  # the task may be on its way out


def test_who_asks_outside_of_the_cluster_hears_what_the_files_say(study, capsys, monkeypatch):
    study.toy.add("sub-01")
    assert study.submit(levels=["participant"]) == 0
    study.until(capsys, _01="done")
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("PATH", "/nowhere")
        code, found, view = study.status(capsys)
    assert code == 0
    assert (found, view["queue_answered"]) == ({"01": "done"}, False)


@pytest.mark.slow
def test_people_of_the_example_through_array_and_group(cluster, tmp_path, capsys, monkeypatch):
    """Two simulated people of two groups, in the true program."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    out = tmp_path / "out"
    words = [EXAMPLE, out, "participant", "group", "-w", tmp_path / "work", "--mem", "4G",
             "--nprocs", 1, "--participant-label", "01", "02", "--time", 30]  # fmt: skip
    study = Study(type("Paths", (), {"out": out}), cluster)
    assert study.call(*words) == 0
    end = time.monotonic() + 6 * SLOW
    while (code := study.call("status", out)) == 75 and time.monotonic() < end:
        time.sleep(1)
    text = capsys.readouterr().out
    _, found, view = study.status(capsys)
    assert (found["01"], found["02"]) == ("done", "done"), text
    assert found["group"] in ("done", "refused"), view["group"]
    description = json.loads((out / "dataset_description.json").read_text())
    assert "checked by" in description["GeneratedBy"][0]["Description"]
    if found["group"] == "refused":
        assert view["group"]["reason"]
    assert code == (0 if found["group"] == "done" else 1)


def test_words_of_the_help():
    text = subprocess.run([sys.executable, "-m", "alsflow.cli_slurm", "--help"],
                          capture_output=True, text=True, check=True).stdout  # fmt: skip
    for word in ("--partition", "--container", "--participant-label", "status", "resume"):
        assert word in text
