"""Steps as jobs of a real cluster: every end of a job has its right answer."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cluster import Cluster, missing
from waiting import SLOW, wait_for

from alsflow.interfaces import slurm

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm")]
HELPERS = Path(__file__).parents[1] / "workflows" / "helpers"
ALL = ["load", "scale", "sink"]


def steps(person, *names):
    return sorted(f"{person}:{name}" for name in names or ALL)


class Cohort:
    """The toy on the cluster; settings of the table [slurm] are given by keyword."""

    def __init__(self, toy, cluster):
        self.toy, self.cluster = toy, cluster
        self.before = len(self.all_jobs())
        self.drivers = []

    def __getattr__(self, name):
        return getattr(self.toy, name)

    def configure(self, **settings):
        values = {"poll": 0.2, "lag": 0.4} | settings
        config = self.toy.root / "config.toml"
        lines = [f"{name} = {list(value) if isinstance(value, tuple) else value!r}"
                 for name, value in values.items()]  # fmt: skip
        config.write_text("\n".join(["[slurm]", *lines, ""]))
        return ["--plugin", "slurm", "--config-file", str(config)]

    def run(self, *options, **settings):
        return self.toy.run(*self.configure(**settings), *options)

    def start(self, *options, **settings):
        """The driver as a process of its own, which starts in a moment."""
        command = [sys.executable, str(HELPERS / "run_toy.py"), str(self.bids), str(self.out),
                   "participant", "-w", str(self.work), "--skip-bids-validation",
                   *self.configure(**settings), *map(str, options)]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HELPERS), *sys.path])}
        self.screen = self.toy.root / f"screen_{len(self.drivers)}.txt"
        with self.screen.open("wb") as screen:
            driver = subprocess.Popen(command, stderr=screen, env=environment)
        self.drivers.append(driver)
        return driver

    def close(self):
        """End drivers that a failed test has left."""
        for driver in self.drivers:
            driver.kill()
            driver.wait()

    def said(self):
        return self.screen.read_text()

    def all_jobs(self):
        return [job for job in self.cluster.jobs() if job[1].startswith("als-")]

    def jobs(self):
        """Number, name and state of the jobs of this test."""
        return self.all_jobs()[self.before :]

    def is_running(self):
        """Whether a step has begun to wait, or to do its work."""
        return (self.work / "calls.txt").is_file()

    def go(self):
        (self.work / "go").touch()

    def show(self, job):
        return self.cluster.command("scontrol", "show", "job", job, "--oneliner")


@pytest.fixture
def cohort(toy, cluster, monkeypatch):
    monkeypatch.delenv("LOGNAME", raising=False)  # as in a container
    cohort = Cohort(toy, cluster)
    yield cohort
    cohort.close()


@pytest.fixture
def lonely_cohort(toy, monkeypatch):
    """The toy on a cluster whose controller may be ended."""
    if problem := missing():
        pytest.skip(problem)
    with Cluster() as cluster:
        monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
        cohort = Cohort(toy, cluster)
        yield cohort
        cohort.close()


# ---------------------------------------------------------------------------- no faults


def test_fresh_then_cached_then_one_person_more(cohort):
    cohort.add("sub-01"), cohort.add("sub-02/ses-a")
    assert cohort.run() == 0
    assert cohort.status() == {"sub-01": "done", "sub-02_ses-a": "done"}
    assert cohort.calls() == sorted(steps("01") + steps("02_ses_a"))
    assert len(cohort.jobs()) == 2  # the three short steps of a person share one
    assert cohort.run() == 0
    assert cohort.calls() == []
    assert len(cohort.jobs()) == 2
    cohort.add("sub-03")
    assert cohort.run() == 0
    assert cohort.calls() == steps("03")
    assert [name.endswith("-sub_03") for _, name, _ in cohort.jobs()] == [False, False, True]
    assert not list((cohort.work / "jobs").rglob("*.json"))  # nothing is left of them
    assert cohort.toy.run() == 0  # nor does it matter where steps were computed
    assert cohort.calls() == []


def test_one_job_per_step_gives_the_same(cohort):
    cohort.add("sub-01")
    assert cohort.run() == 0
    target = cohort.out / "sub-01" / "anat" / "sub-01_desc-toy_T1w.txt"
    before = target.read_bytes()
    cohort.toy.work = cohort.root / "other"
    assert cohort.run(group_minutes=0.0) == 0
    assert cohort.calls() == steps("01")
    assert len(cohort.jobs()) == 1 + 3
    assert target.read_bytes() == before


def test_changed_setting_and_lost_file(cohort):
    """What follows a step in its job is computed only if the step has given something else."""
    cohort.add("sub-01")
    assert cohort.run() == 0
    cohort.calls()
    (cohort.node("01", "load") / "loaded.txt").unlink()
    assert cohort.run() == 0
    assert cohort.calls() == steps("01", "load")
    options = cohort.configure()
    with open(cohort.root / "config.toml", "a") as config:
        config.write("[anat]\nsmoothing = 6.0\n")
    assert cohort.toy.run(*options) == 0
    assert cohort.calls() == steps("01", "scale", "sink")


def test_removed_files_are_made_again(cohort):
    cohort.add("sub-01", "fine" * 300_000)
    assert cohort.run("--keep-work", "none") == 0
    assert (cohort.node("01", "load") / "loaded.txt").stat().st_size < 1000
    cohort.calls()
    options = cohort.configure()
    with open(cohort.root / "config.toml", "a") as config:
        config.write("[anat]\nsmoothing = 6.0\n")
    assert cohort.toy.run(*options, "--keep-work", "none") == 0
    assert cohort.calls() == steps("01")
    text = (cohort.out / "sub-01" / "anat" / "sub-01_desc-toy_T1w.txt").read_text()
    assert text == ("fine" * 300_000 + " sub-01") * 6


def test_relative_working_directory_and_options_of_the_user(cohort, monkeypatch):
    cohort.add("sub-01")
    monkeypatch.chdir(cohort.root)
    cohort.toy.work = Path("work")
    monkeypatch.setenv("SBATCH_PARTITION", "nope")  # the settings count, not the shell
    monkeypatch.setenv("SBATCH_ARRAY_INX", "1-3")
    assert (
        cohort.run(
            sbatch=("--comment=two words", "--nice=7"),
            partition="short",
            time_factor=1.0,
            group_minutes=0.5,
        )
        == 1
    )  # 10 minutes are not given there
    assert "wait for ever (PartitionTimeLimit)" in cohort.reasons()["sub-01"]
    assert "10 min" in cohort.reasons()["sub-01"]
    assert cohort.run(sbatch=("--comment=two words", "--time=3"), partition="short") == 0
    text = cohort.show(cohort.jobs()[-1][0])
    for words in ("Comment=two words", "TimeLimit=00:03:00", "Partition=short", "Requeue=0"):
        assert words in text


def test_no_more_jobs_than_allowed_and_one_question_per_interval(cohort, monkeypatch):
    for person in range(4):
        cohort.add(f"sub-0{person}")
    most, questions = [], []
    submit, call = slurm.submit, slurm._call

    def submit_and_count(*arguments, **options):
        job = submit(*arguments, **options)
        most.append(len(cohort.cluster.running()))
        return job

    def call_and_count(*command, **options):
        questions.append(command[0])
        return call(*command, **options)

    monkeypatch.setattr(slurm, "submit", submit_and_count)
    monkeypatch.setattr(slurm, "_call", call_and_count)
    start = time.monotonic()
    assert cohort.run(max_jobs=2, poll=0.5) == 0
    assert len(cohort.jobs()) == 4
    assert max(most) <= 2
    assert questions.count("sbatch") == 4
    assert questions.count("squeue") <= (time.monotonic() - start) / 0.5 + 1
    assert set(questions) == {"sbatch", "squeue"}


def test_container(cohort, monkeypatch):
    """What is run inside is what is run without, with the folders bound."""
    tools = cohort.root / "tools"
    tools.mkdir()
    program = tools / "apptainer"
    program.write_text(
        f'#!/bin/bash\necho "$@" > {cohort.root}/container.txt\n'
        f'while [ "$1" != /images/als.sif ]; do shift; done\nshift 2\nexec {sys.executable} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HELPERS), *sys.path]))
    cohort.add("sub-01")
    assert cohort.run(container="/images/als.sif", binds=("/scratch",)) == 0
    words = (cohort.root / "container.txt").read_text()
    for place in (f"{cohort.work}:{cohort.work}", f"{cohort.out}:{cohort.out}",
                  f"{cohort.bids}:{cohort.bids}:ro", "/scratch"):  # fmt: skip
        assert f"--bind {place} " in words
    assert "/images/als.sif python -m alsflow.workflows.slurm.inside " in words


def test_arguments_of_the_plugin_of_nipype(cohort):
    """Whoever has a workflow of Nipype's changes the name of the plugin and nothing else."""
    import toy_streams
    from nipype.pipeline.engine import Node, Workflow
    from nipype.pipeline.plugins.slurm import SLURMPlugin

    from alsflow.workflows.cache import FileHashes
    from alsflow.workflows.settings import SlurmSettings
    from alsflow.workflows.slurm.plugin import Place, SlurmPlugin

    source = cohort.add("sub-01")
    workflow = Workflow(name="group_wf", base_dir=str(cohort.work))
    once = Node(toy_streams.Once(t1w_file=str(source)), name="once")
    again = Node(toy_streams.Scale(factor=2), name="again")
    once.plugin_args = {"sbatch_args": "--comment=node"}
    again.plugin_args = {"sbatch_args": "--nice=5", "overwrite": True}
    workflow.connect(once, "out_file", again, "in_file")
    arguments = {"sbatch_args": "-p short --time=4", "max_jobs": 1, "template":
                 "#!/bin/bash\n#SBATCH --account=ours\nexport X=template"}  # fmt: skip
    plugin = SlurmPlugin(SlurmSettings(poll=0.2, lag=1.0, group_minutes=0), Place(cohort.work),
                         FileHashes(), plugin_args=arguments)  # fmt: skip
    assert isinstance(plugin, SLURMPlugin)
    cohort.work.mkdir()
    workflow.run(plugin=plugin)
    first, second = (cohort.show(job) for job, _, _ in cohort.jobs())
    for words in ("Comment=node", "Partition=short", "TimeLimit=00:04:00", "Account=ours"):
        assert words in first
    assert "Nice=5" in second
    assert "Partition=all" in second
    [result] = (cohort.work / "group_wf" / "again").glob("scaled.txt")
    assert result.read_text() == source.read_text() * 2


# ---------------------------------------------------------------------------- refusals


def test_wrong_partition_is_one_sentence(cohort, capfd):
    for person in range(3):
        cohort.add(f"sub-0{person}")
    assert cohort.run(partition="nope") == 1
    message = capfd.readouterr().err
    assert "invalid partition specified: nope" in message
    assert message.count("nope") <= 3
    assert "Traceback" not in message
    assert set(cohort.status().values()) == {"not-run"}
    assert cohort.jobs() == []


def test_full_queue_and_silent_controller_are_waited_for(cohort, monkeypatch, capfd):
    cohort.add("sub-01"), cohort.add("sub-02")
    submit, troubles = slurm.submit, []

    def submit_with_trouble(*arguments, **options):
        if not troubles:
            troubles.append("silent")
            raise slurm.UnreachableError("Unable to contact slurm controller")
        if cohort.cluster.running():
            troubles.append("full")
            raise slurm.FullError("QOSMaxSubmitJobPerUserLimit")
        return submit(*arguments, **options)

    monkeypatch.setattr(slurm, "submit", submit_with_trouble)
    assert cohort.run() == 0
    assert set(troubles) == {"silent", "full"}
    assert len(cohort.jobs()) == 2
    assert cohort.calls() == sorted(steps("01") + steps("02"))
    message = capfd.readouterr().err
    assert message.count("does not answer") == message.count("answers again") == 1


def test_step_too_large_for_the_cluster_fails_by_name(cohort, monkeypatch):
    from alsflow.workflows import resources

    cohort.add("sub-01"), cohort.add("sub-02")
    expected = resources.expected

    def large(node):
        is_large = node.fullname.endswith("sub_01_wf.anat_wf.scale")
        return resources.Need(500.0, 60.0) if is_large else expected(node)

    monkeypatch.setattr("alsflow.workflows.slurm.batch.expected", large)
    monkeypatch.setattr("alsflow.workflows.slurm.plugin.expected", large)
    assert cohort.run() == 1
    assert cohort.status() == {"sub-01": "failed", "sub-02": "done"}
    assert "scale" in cohort.reasons()["sub-01"]
    assert "625000 MB" in cohort.reasons()["sub-01"]


def test_job_that_never_reaches_the_program(cohort, capfd):
    """Neither its own older result nor that of anybody else is taken for its result."""
    path = cohort.add("sub-01")
    assert cohort.run() == 0
    path.write_text("other sub-01")
    assert cohort.run(setup=("echo no such licence >&2", "exit 3")) == 1
    assert cohort.status() == {"sub-01": "not-run"}
    message = capfd.readouterr().err
    assert "no such licence" in message
    assert "code 3" in message
    assert "Traceback" not in message
    target = cohort.out / "sub-01" / "anat" / "sub-01_desc-toy_T1w.txt"
    assert "other" not in target.read_text()
    cohort.calls()
    assert cohort.run() == 0
    assert cohort.calls() == steps("01")
    assert "other" in target.read_text()


def test_options_that_lose_jobs_are_a_mistake_of_the_settings(cohort, capfd):
    cohort.add("sub-01")
    assert cohort.run(sbatch=("--array=1-3",)) == 64
    assert "--array=1-3" in capfd.readouterr().err


# ---------------------------------------------------------------------------- deaths


def test_failing_steps(cohort):
    cohort.add("sub-01", "crash")
    cohort.add("sub-02", "refuse")
    cohort.add("sub-03", "unpicklable")
    cohort.add("sub-04")
    assert cohort.run() == 1
    assert cohort.status() == {"sub-01": "failed", "sub-02": "refused", "sub-03": "failed",
                               "sub-04": "done"}  # fmt: skip
    reasons = cohort.reasons()
    assert "load: RuntimeError: division by zebra" in reasons["sub-01"]
    assert "is 2-D; export it again" in reasons["sub-02"]
    assert "pickle" in reasons["sub-03"]
    assert cohort.calls() == sorted(["01:load", "02:load", "03:load", *steps("04")])


def test_killed_step_gets_twice_the_memory_and_a_second_chance(cohort, capfd):
    cohort.add("sub-01", "dieonce")
    cohort.add("sub-02")
    assert cohort.run() == 0
    assert cohort.calls() == sorted(["01:load", *steps("01"), *steps("02")])
    assert "sub_01 anat load is computed once more, alone" in capfd.readouterr().err
    asked = [word_after(cohort.show(job), "MinMemoryNode=") for job, name, _ in cohort.jobs()
             if name.endswith("sub_01")]  # fmt: skip
    assert asked[:2] == ["1000M", "2000M"]


def word_after(text, key):
    return next((word.removeprefix(key) for word in text.split() if word.startswith(key)), None)


def test_step_that_is_killed_twice_fails_by_name(cohort):
    cohort.add("sub-01", "kill")
    cohort.add("sub-02")
    assert cohort.run() == 1
    assert cohort.status() == {"sub-01": "failed", "sub-02": "done"}
    assert "step load" in cohort.reasons()["sub-01"]
    assert "SIGKILL" in cohort.reasons()["sub-01"]
    assert "2.0 GB, asked of Slurm" in cohort.reasons()["sub-01"]
    assert cohort.calls().count("01:load") == 2


def test_cancelled_by_hand(cohort):
    cohort.add("sub-01", "wait")
    cohort.add("sub-02")
    driver = cohort.start()
    wait_for(cohort.is_running)
    wait_for(lambda: cohort.status().get("sub-02") == "done")
    [job] = [number for number, name, _ in cohort.jobs() if name.endswith("sub_01")]
    cohort.cluster.command("scancel", job)
    assert driver.wait(SLOW) == 1
    assert cohort.status() == {"sub-01": "failed", "sub-02": "done"}
    assert f"job {job} of this step was cancelled" in cohort.reasons()["sub-01"]
    assert len(cohort.jobs()) == 2  # who cancels a job does not want it
    cohort.go()
    cohort.calls()
    assert cohort.run() == 0
    assert cohort.calls() == steps("01")


def test_time_limit(cohort):
    """The time of a shared job is not that of its step, which gets a second chance alone."""
    cohort.add("sub-01", "wait")
    shared = cohort.start()
    work, screen = cohort.work, cohort.screen
    wait_for(cohort.is_running)
    cohort.toy.out, cohort.toy.work = cohort.root / "out_2", cohort.root / "work_2"
    single = cohort.start(group_minutes=0.0)
    wait_for(cohort.is_running)
    for job, _, _ in cohort.jobs():
        cohort.cluster.end_time(job)
    assert single.wait(SLOW) == 1  # the controller looks every 30 s
    reason = cohort.reasons()["sub-01"]
    assert "step load: The job" in reason
    assert "when its time was over" in reason
    assert "raise slurm.time_factor" in reason
    wait_for(lambda: "once more, alone" in screen.read_text())
    (work / "go").touch()
    assert shared.wait(SLOW) == 0


def test_failed_node_is_no_fault_of_the_step(cohort):
    cohort.add("sub-01", "wait")
    driver = cohort.start()
    wait_for(cohort.is_running)
    [(job, _, _)] = cohort.jobs()
    node = word_after(cohort.show(job), "NodeList=c") or "1"
    cohort.cluster.command("scontrol", "update", f"nodename=c{node}", "state=down", "reason=test")
    try:
        wait_for(lambda: len(cohort.jobs()) == 2)
        cohort.go()
        assert driver.wait(SLOW) == 0
    finally:
        cohort.cluster.command("scontrol", "update", f"nodename=c{node}", "state=resume",
                               check=False)  # unless it has come back by itself  # fmt: skip
    assert "node failed" in cohort.said()
    assert cohort.status() == {"sub-01": "done"}


def test_drained_nodes(cohort):
    cohort.add("sub-01")
    cohort.cluster.drain()
    driver = cohort.start()
    try:
        wait_for(lambda: "Nodes required for job are DOWN, DRAINED" in cohort.said())
        assert "1 job waits in the queue" in cohort.said()
        assert driver.poll() is None
    finally:
        cohort.cluster.resume()
    assert driver.wait(SLOW) == 0
    told = [line for line in cohort.said().splitlines() if "waits in the queue" in line]
    assert len(told) == len(set(told))  # not again and again


def test_controller_away_for_a_while(lonely_cohort):
    cohort = lonely_cohort
    cohort.add("sub-01", "wait"), cohort.add("sub-02")
    driver = cohort.start()
    wait_for(cohort.is_running)
    wait_for(lambda: cohort.status().get("sub-02") == "done")
    cohort.cluster.stop_controller()
    wait_for(lambda: "does not answer" in cohort.said())
    assert driver.poll() is None
    cohort.cluster.start_controller()
    wait_for(lambda: "answers again" in cohort.said())
    cohort.go()
    assert driver.wait(SLOW) == 0
    assert sorted(cohort.calls()) == sorted(steps("01") + steps("02"))


def test_controller_that_has_forgotten_everything(lonely_cohort):
    cohort = lonely_cohort
    cohort.add("sub-01", "wait")
    driver = cohort.start()
    wait_for(cohort.is_running)
    cohort.cluster.stop_controller()
    cohort.cluster.start_controller("-c")
    assert driver.wait(SLOW) == 1
    assert "not known to Slurm any more" in cohort.reasons()["sub-01"]


# ---------------------------------------------------------------------------- the driver


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_driver_cancels_its_jobs(cohort, how):
    cohort.add("sub-01", "wait"), cohort.add("sub-02", "wait")
    driver = cohort.start()
    wait_for(lambda: len(cohort.jobs()) == 2 and cohort.is_running())
    driver.send_signal(how)
    assert driver.wait(SLOW) == 1
    wait_for(lambda: {state for _, _, state in cohort.jobs()} == {"CANCELLED"})
    assert "interrupted" in cohort.said()
    assert "Traceback" not in cohort.said()
    assert set(cohort.status().values()) == {"not-run"}


def test_killed_driver_is_followed_by_one_that_computes_nothing_twice(cohort):
    cohort.add("sub-01", "wait"), cohort.add("sub-02", "wait")
    one_node = {"sbatch": ("--exclude=c2", "--exclusive")}  # one job runs, the other is pending
    driver = cohort.start(**one_node)
    wait_for(lambda: len(cohort.jobs()) == 2 and cohort.is_running())
    driver.kill()
    driver.wait()
    states = {state: number for number, _, state in cohort.jobs()}
    assert set(states) == {"RUNNING", "PENDING"}
    second = cohort.start()
    wait_for(lambda: "still running, waiting" in cohort.said())
    assert f"had not started are cancelled: {states['PENDING']}." in cohort.said()
    assert f"still running, waiting for them: {states['RUNNING']}." in cohort.said()
    assert len(cohort.jobs()) == 2
    cohort.go()
    assert second.wait(SLOW) == 0
    assert cohort.calls() == sorted(steps("01") + steps("02"))
    assert len(cohort.jobs()) == 3
    assert set(cohort.status().values()) == {"done"}


def test_killed_driver_is_followed_by_one_without_the_cluster(cohort):
    """Workers of this machine must not compute what a job is computing either."""
    cohort.add("sub-01", "wait")
    driver = cohort.start()
    wait_for(cohort.is_running)
    driver.kill()
    driver.wait()
    second = cohort.start("--plugin", "workers")
    wait_for(lambda: "still running, waiting" in cohort.said())
    cohort.go()
    assert second.wait(SLOW) == 0
    assert cohort.calls() == steps("01")


def test_stop_on_first_crash(cohort):
    cohort.add("sub-01", "crash")
    cohort.add("sub-02", "wait")
    assert cohort.run("--stop-on-first-crash") == 1
    assert cohort.status() == {"sub-01": "failed", "sub-02": "not-run"}
    wait_for(lambda: [state for _, name, state in cohort.jobs() if name.endswith("sub_02")]
             == ["CANCELLED"])  # fmt: skip
