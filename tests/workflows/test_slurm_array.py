"""Submitting a study to Slurm, and asking what became of it, where Slurm only pretends."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from waiting import SLOW

from alsflow import cli_slurm
from alsflow.interfaces import slurm
from alsflow.workflows import expectation
from alsflow.workflows.exits import StopRunError
from alsflow.workflows.resources import Need
from alsflow.workflows.settings import Settings, SettingsError, SlurmSettings
from alsflow.workflows.slurm import array, record
from alsflow.workflows.slurm.status import Overview, Task, overview

HELPERS = Path(__file__).parent / "helpers"
TRUE_PROGRAM = array.program


@dataclass
class Pretender:
    """Takes jobs, and says of them what the test wants."""

    taken: list = field(default_factory=list)
    cancelled: list = field(default_factory=list)
    jobs: dict = field(default_factory=dict)
    past: dict = field(default_factory=dict)
    refuse: dict = field(default_factory=dict)  # error by the end of the name of a script
    names: dict = field(default_factory=dict)  # jobs by the end of their name
    partitions: dict = field(default_factory=dict)  # their names and minutes
    questions: int = 0
    answers: bool = True

    def submit(self, script, options=(), *, name=""):
        for end, error in self.refuse.items():
            if str(script).endswith(end):
                raise error
        self.taken.append((Path(script), list(options), name))
        return str(100 + len(self.taken))

    def states(self, ids, user=None):
        self.questions += 1
        return dict(self.jobs) if self.answers else None

    def cancel(self, ids):
        self.cancelled += ids
        return True

    def find(self, name):
        return self.names.get(name.rpartition("-")[2])

    def history(self, jobs):
        return self.past


@pytest.fixture
def cluster(monkeypatch):
    """A cluster that takes everything, and arrays of up to 1000 tasks."""
    pretender = Pretender()
    for name in ("submit", "states", "cancel", "history", "find"):
        monkeypatch.setattr(slurm, name, getattr(pretender, name))
    monkeypatch.setattr(slurm, "max_array_tasks", lambda: 1000)
    monkeypatch.setattr(slurm, "partition_minutes", pretender.partitions.get)
    monkeypatch.setattr(cli_slurm, "_need_slurm", lambda: None)
    monkeypatch.setattr(array, "program", lambda _: [sys.executable, str(HELPERS / "run_toy.py")])
    monkeypatch.delenv("ALSFLOW_ATLAS_DIR", raising=False)
    return pretender


def call(*words):
    """Exit code of the command line."""
    try:
        return cli_slurm.main([*map(str, words)])
    except SystemExit as end:
        return end.code


def send(toy, *options, levels=("participant", "group")):
    return call(toy.bids, toy.out, *levels, "-w", toy.work, "--skip-bids-validation", *options)


def runs_of(toy):
    return record.read_submissions(toy.out)


def end(toy, label, code=0, signal="", run="run-001", start=1000, stop=1060):
    """What a task leaves that has run for a minute."""
    folder = toy.out / "logs" / "slurm" / run / "tasks"
    name = label if label == "group" else f"sub-{label}"
    (folder / f"{name}.started").write_text(f"\t\t7_1\tc1\t{start}\n")
    if code is not None:
        (folder / f"{name}.exit").write_text(f"{code}\t{signal}\t7_1\tc1\t{stop}\n")


def says(toy, task, text, run="run-001"):
    (toy.out / "logs" / "slurm" / run / "logs" / f"slurm-{task}.out").write_text(text + "\n")


def rows(toy, *lines):
    head = "participant_id\tsession_id\tstream\tstate\treason\n"
    (toy.out / "status.tsv").write_text(head + "".join("\t".join(line) + "\n" for line in lines))


def table(toy, capsys):
    """State and reason by person, from the table of text."""
    capsys.readouterr()
    code = call("status", toy.out, "--tsv")
    head, *lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    return code, {line[0]: dict(zip(head, line, strict=True)) for line in lines}


# ---------------------------------------------------------------------------- submission


@pytest.mark.parametrize(
    ("options", "sbatch", "variable", "told"),
    [
        ([], [], "", "the partition day gives at most 5.0 h to a job, less than the 12:00:00 of"),
        (["--time", "301"], [], "", "less than the 301 min of a task"),
        (["--time", "300"], [], "", ""),
        (["--partition", "long"], [], "", ""),
        (["--partition", "brief", "--time", "6"], [], "", "partition brief gives at most 5 min"),
        (["--partition", "brief,day"], [], "", ""),  # one of them may do
        (["--partition", "none", "--time", "2-0"], [], "", ""),
        ([], ["--time-min=10"], "", "the partition day gives"),
        ([], ["--time=10"], "", ""),
        ([], ["-p long"], "", ""),
        (["--time", "6"], [], "brief", "the partition brief gives"),
        (["--partition", "day", "--time", "6"], [], "brief", ""),
    ],
)  # fmt: skip
def test_time_that_the_partition_does_not_give_is_told_before(
    toy, cluster, capsys, monkeypatch, options, sbatch, variable, told
):
    monkeypatch.setenv("SBATCH_PARTITION", variable)
    brief, day = ("brief", 5.0), ("day", 300.0)
    cluster.partitions |= {"": day, "day": day, "brief": brief, "long": ("long", 1e4)}
    config = toy.root / "sbatch.toml"
    config.write_text(f"[slurm]\nsbatch = {sbatch}\n")
    toy.add("sub-01")
    assert send(toy, "--config-file", config, "--dry-run", *options) == 0
    heard = capsys.readouterr().err
    assert told in heard
    assert ("may wait for ever; give --time or --partition." in heard) == bool(told)


def test_dry_run_writes_nothing_and_shows_what_is_submitted(toy, cluster, capsys):
    toy.add("sub-01"), toy.add("sub-02")
    assert send(toy, "--dry-run", "--time", "90", "--mem", "2G", "--array-tasks", "3") == 0
    shown = capsys.readouterr().out
    assert not toy.out.exists()
    assert not toy.work.exists()
    assert cluster.taken == []
    assert cluster.questions == 0
    assert send(toy, "--time", "90", "--mem", "2G", "--array-tasks", "3") == 0
    assert len(cluster.taken) == 2
    for script, options, name in cluster.taken:
        assert f"# ---- {script}\n{script.read_text()}" in shown
        options = [option.replace("101", "JOB1") for option in options]
        line = ["sbatch", "--parsable", *options, f"--job-name={name}", str(script)]
        assert shlex.join(line) in shown.splitlines()
    text = cluster.taken[0][0].read_text()
    for line in ("--array=1-2%3", "--mem=2000M", "--time=90", "--requeue"):
        assert f"#SBATCH {line}\n" in text
    assert "2 people: 01 02" in shown


def test_tasks_get_the_settings_of_the_submission(toy, cluster, tmp_path):
    """They are kept: who edits the file while people wait in the queue changes nothing."""
    toy.add("sub-01")
    config = tmp_path / "study.toml"
    config.write_text('plugin = "slurm"\n[anat]\nsmoothing = 6.0\n[slurm]\narray_cpus = 3\n'
                      'array_mem = "10G"\npartition = "long"\n')  # fmt: skip
    assert send(toy, "--config-file", config, "--partition", "short") == 0
    from alsflow import cli

    kept = runs_of(toy)[0].folder / "settings.toml"
    settings = cli.make_settings(
        cli.parser().parse_args([str(toy.bids), str(toy.out), "participant", "--config-file",
                                 str(kept), "--participant-label", "01"])
    )  # fmt: skip
    assert settings.anat.smoothing == 6
    assert (settings.nprocs, settings.mem_mb, settings.plugin) == (3, 9000, "workers")
    assert settings.work_dir == toy.work
    assert settings.skip_bids_validation
    assert settings.checked_by == ""
    text = cluster.taken[0][0].read_text()
    assert "--partition=short" in text
    assert "--cpus-per-task=3" in text


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--modalities", "anta"], 64, "did you mean 'anat'"),
        (["--smoothing", "3"], 64, "--smoothing"),
        (["--participant-label", "99"], 18, "99"),
        (["--mem", "much"], 64, "16G"),
        (["--time", "soon"], 64, "12:00:00"),
        (["--group-after", "never"], 64, "any, ok"),
        (["--container", "/no/image.sif"], 64, "/no/image.sif"),
        (["--array-tasks", "-1"], 64, "array_tasks"),
        (["--why"], 64, "--why is for alsflow itself"),
    ],
)
def test_mistakes_are_found_before_anything_is_submitted(toy, cluster, capsys, words, code, text):
    toy.add("sub-01")
    assert send(toy, *words) == code
    assert text in capsys.readouterr().err
    assert cluster.taken == []
    assert not list(toy.out.rglob("run-*"))


def test_task_that_gets_less_than_is_expected(toy, cluster, capsys, monkeypatch):
    toy.add("sub-01/ses-a"), toy.add("sub-01/ses-b")
    need = Need(memory_gb=6.0, minutes=20.0, processes=1)
    monkeypatch.setattr(
        expectation, "_needs", lambda graph, sizes, threads: dict.fromkeys(graph, need)
    )
    assert send(toy, "--dry-run", "--time", "100", "--mem", "4G") == 0
    said = capsys.readouterr().err
    assert "about 2.0 h on 4 processors" in said  # three steps of two visits
    assert "more than the 100 min of a task; give --time" in said
    assert "is expected to need 6.0 GB" in said
    assert send(toy, "--dry-run", "--time", "3:00:00", "--mem", "8G") == 0
    assert "give" not in capsys.readouterr().err


def test_levels(toy, cluster, capsys):
    toy.add("sub-01")
    assert send(toy, levels=["everybody"]) == 17
    assert "'everybody'" in capsys.readouterr().err
    assert send(toy, levels=["group"]) == 66  # nobody has results
    assert send(toy, levels=["participant"]) == 0
    assert [path.name for path, *_ in cluster.taken] == ["participant.sh"]
    (toy.out / "sub-01").mkdir()
    assert send(toy, levels=["group"]) == 0
    path, options, _ = cluster.taken[-1]
    assert (path.name, options) == ("group.sh", [])


def test_dataset_is_validated_once_and_the_derivatives_say_so(toy, cluster, monkeypatch):
    toy.add("sub-01")
    asked = []
    from alsflow.interfaces import bids
    from alsflow.workflows.derivatives import description

    monkeypatch.setattr(bids, "validate", lambda *arguments: asked.append(arguments) or
                        bids.Validation((), 0, "validator 3"))  # fmt: skip
    monkeypatch.setattr(bids, "validator_version", lambda: "validator 3")
    assert call(toy.bids, toy.out, "participant", "-w", toy.work) == 0
    assert len(asked) == 1
    text = (runs_of(toy)[0].folder / "settings.toml").read_text()
    assert "skip_bids_validation = true" in text
    assert 'checked_by = "validator 3"' in text
    settings = Settings(toy.bids, toy.out, "participant", skip_bids_validation=True)
    said = description(settings)["GeneratedBy"][0]["Description"]
    assert said == "BIDS validation was skipped"
    checked = replace(settings, checked_by="validator 3")
    said = description(checked)["GeneratedBy"][0]["Description"]
    assert said == "BIDS files checked by validator 3"


def test_not_on_a_cluster(toy, capsys, monkeypatch):
    toy.add("sub-01")
    monkeypatch.setenv("PATH", "/nowhere")
    assert send(toy) == 1
    assert "sbatch was not found" in capsys.readouterr().err
    assert not toy.out.exists()
    assert send(toy, "--dry-run") == 0
    assert "Nothing was written or submitted." in capsys.readouterr().out
    assert not toy.out.exists()


def test_missing_image_stops_a_submission_and_not_a_dry_run(toy, cluster, capsys):
    toy.add("sub-01")
    image = ["--container", toy.root / "alsflow.sif"]
    assert send(toy, *image) == 64
    assert "was not found; give the path of its image" in capsys.readouterr().err
    assert not toy.out.exists()
    assert send(toy, "--dry-run", *image) == 0
    said = capsys.readouterr()
    assert "was not found" in said.err
    assert "apptainer exec --cleanenv" in said.out


def test_group_job_that_is_refused_takes_the_array_along(toy, cluster, capsys):
    toy.add("sub-01")
    cluster.refuse = {"group.sh": slurm.RefusedError("Invalid qos specification")}
    assert send(toy) == 1
    assert cluster.cancelled == ["101"]
    message = capsys.readouterr().err
    assert "Invalid qos specification; nothing runs" in message
    assert "Traceback" not in message
    assert call("status", toy.out) == 66  # nothing was submitted
    cluster.refuse = {}
    assert send(toy) == 0


def test_array_that_is_refused_leaves_nothing(toy, cluster, capsys):
    toy.add("sub-01")
    cluster.refuse = {
        ".sh": slurm.FullError("Job violates accounting/QOS policy (job submit limit)")
    }
    assert send(toy) == 1
    assert "--participant-label" in capsys.readouterr().err
    assert cluster.cancelled == []
    assert list((toy.out / "logs" / "slurm").glob("run-*")) == []
    cluster.refuse = {".sh": slurm.UnreachableError("Unable to contact slurm controller")}
    assert send(toy) == 75


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 1), (slurm.UnreachableError("no answer"), 75), (OSError(5, "I/O"), 73)],
)
def test_job_that_was_taken_unheard_is_cancelled_too(toy, cluster, capsys, error, code):
    toy.add("sub-01")
    cluster.refuse, cluster.names = {"group.sh": error}, {"group": "777", "people": "101"}
    assert send(toy) == code
    assert cluster.cancelled == ["101", "777"]
    assert "Traceback" not in capsys.readouterr().err
    assert call("status", toy.out) == 66


def test_more_people_than_an_array_may_have(toy, cluster, monkeypatch, tmp_path):
    for number in range(1, 6):
        toy.add(f"sub-{number:02d}")
    monkeypatch.setattr(slurm, "max_array_tasks", lambda: 2)
    monkeypatch.setattr(array, "program", lambda _: [sys.executable, "-c", "pass"])
    assert send(toy, "--array-tasks", "4") == 0
    [run] = runs_of(toy)
    texts = [path.read_text() for path, *_ in cluster.taken[:3]]
    limits = [line for text in texts for line in text.splitlines() if "--array" in line]
    assert [line.partition("=")[2] for line in limits] == ["1-2%2", "1-2%1", "1-1%1"]
    assert cluster.taken[3][1][0] == "--dependency=afterany:101:102:103"
    tasks = [run.task(label) for label in run.people]
    assert tasks == ["101_1", "101_2", "102_1", "102_2", "103_1"]
    assert len({name for *_, name in cluster.taken}) == 4
    for label, task in zip(run.people, tasks, strict=True):
        job, _, index = task.partition("_")
        assert run_script(cluster.taken[int(job) - 101][0], job, index) == 0
        assert record.ended(run, label).job == task


@pytest.mark.parametrize(("when", "kind"), [("any", "afterany"), ("ok", "afterok")])
def test_group_job_never_waits_for_what_cannot_come(toy, cluster, when, kind):
    toy.add("sub-01")
    assert send(toy, "--group-after", when) == 0
    assert cluster.taken[1][1] == [f"--dependency={kind}:101", "--kill-on-invalid-dep=yes"]


def test_second_submission_is_refused_while_the_first_runs(toy, cluster, capsys):
    toy.add("sub-01")
    assert send(toy) == 0
    cluster.jobs = {"101_1": slurm.Job("RUNNING"), "102": slurm.Job("PENDING", "Dependency")}
    assert send(toy) == 73
    message = capsys.readouterr().err
    assert "run-001" in message
    assert "2 tasks in the queue" in message
    assert "scancel 101 102" in message
    cluster.answers = False
    assert send(toy) == 75
    cluster.answers, cluster.jobs = True, {"101_1": slurm.Job("COMPLETED")}
    assert send(toy) == 0
    assert [run.name for run in runs_of(toy)] == ["run-001", "run-002"]


def test_two_that_submit_at_one_moment(toy, cluster, capsys):
    toy.add("sub-01")
    with record.submitting(toy.out):
        assert send(toy) == 73
    assert "at this moment" in capsys.readouterr().err
    assert cluster.taken == []


def test_names_of_jobs_and_logs_are_safe(toy, cluster):
    """Nothing of the dataset but labels, which are letters and digits, and paths in quotes."""
    toy.add("sub-01")
    odd = toy.root / "o%j u't $HOME"
    assert call(toy.bids, odd, "participant", "-w", toy.work, "--skip-bids-validation") == 0
    path, _, name = cluster.taken[0]
    assert name.replace("-", "").isalnum()
    text = path.read_text()
    [line] = [line for line in text.splitlines() if "--output" in line]
    assert shlex.split(line)[1].startswith(f"--output={str(odd).replace('%', '%%')}/")
    assert run_script(path) == 0
    run = record.read_submissions(odd)[0]
    assert record.ended(run, "01").code == 0
    assert (odd / "sub-01" / "anat" / "sub-01_desc-toy_T1w.txt").is_file()


# ---------------------------------------------------------------------------- scripts


def environment(job="7", index="1", **more):
    keep = {name: value for name, value in os.environ.items() if name != "LOGNAME"}
    return keep | {"SLURM_ARRAY_JOB_ID": job, "SLURM_ARRAY_TASK_ID": index, "SLURM_JOB_ID": job,
                   "SLURMD_NODENAME": "c1", **more}  # fmt: skip


def run_script(path, job="7", index="1", **more):
    """Exit code of a task, as Slurm runs it but for Slurm."""
    return subprocess.run(["bash", str(path)], env=environment(job, index, **more)).returncode


def fake_program(monkeypatch, text):
    monkeypatch.setattr(array, "program", lambda _: [sys.executable, "-c", text])


def test_task_notes_how_it_ends(toy, cluster, monkeypatch):
    toy.add("sub-01")
    fake_program(monkeypatch, "import sys; print('words', sys.argv[-1]); sys.exit(65)")
    assert send(toy) == 0
    [run] = runs_of(toy)
    assert run_script(cluster.taken[0][0]) == 65
    mark = record.ended(run, "01")
    assert (mark.code, mark.signal, mark.job, mark.node) == (65, "", "7_1", "c1")
    assert "words 01" in (run.folder / "logs" / "sub-01.log").read_text()
    assert run_script(cluster.taken[0][0], index="2") == 66  # nobody has this number


def test_task_that_is_told_to_end_waits_for_the_program_and_can_start_again(
    toy, cluster, monkeypatch
):
    """Preemption and requeue: the signal, a clean end, and later the same task once more."""
    toy.add("sub-01")
    fake_program(
        monkeypatch,
        "import os, pathlib, signal, sys, time\n"
        "if 'SLURM_RESTART_COUNT' in os.environ: sys.exit(0)\n"
        "def stop(*_): time.sleep(0.3); print('cleaned up', flush=True); sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('ready', flush=True)\n"
        "time.sleep(300)\n",
    )
    assert send(toy) == 0
    [run] = runs_of(toy)
    log = run.folder / "logs" / "sub-01.log"
    task = subprocess.Popen(["bash", str(cluster.taken[0][0])], env=environment(),
                            start_new_session=True)  # fmt: skip
    while not log.is_file() or "ready" not in log.read_text():
        time.sleep(0.02)
    os.killpg(task.pid, signal.SIGTERM)  # as Slurm: the script and everything below it
    assert task.wait(SLOW) == 1
    mark = record.ended(run, "01")
    assert (mark.code, mark.signal) == (1, "TERM")
    assert "cleaned up" in log.read_text()
    assert run_script(cluster.taken[0][0], SLURM_RESTART_COUNT="1") == 0
    assert (record.ended(run, "01").code, record.ended(run, "01").signal) == (0, "")
    assert "start 2" in log.read_text()
    assert "ready" in log.read_text()


@pytest.mark.parametrize(
    ("setup", "words"),
    [("source /no/such/file.sh", "no/such/file.sh"), ("MINE=1; false", "n/a")],
)
def test_setup_that_fails_ends_the_task_with_a_mark(toy, cluster, tmp_path, capsys, setup, words):
    toy.add("sub-01")
    config = tmp_path / "study.toml"
    config.write_text(f'[slurm]\nsetup = ["{setup}"]\n')
    assert send(toy, "--config-file", config) == 0
    assert run_script(cluster.taken[0][0]) == 1
    cluster.jobs = {"101_1": slurm.Job("FAILED"), "102": slurm.Job("PENDING", "Dependency")}
    _, found = table(toy, capsys)
    assert found["sub-01"]["state"] == "failed"
    assert words in found["sub-01"]["reason"] or words == "n/a"


def test_container_sees_what_a_task_reads(toy, cluster, monkeypatch, tmp_path):
    toy.add("sub-01")
    monkeypatch.undo()
    monkeypatch.setenv("ALSFLOW_ATLAS_DIR", str(tmp_path / "atlases"))
    settings = Settings(
        toy.bids, toy.out, "participant", toy.work,
        derivatives={"cat12": tmp_path / "cat"},
        slurm=SlurmSettings(container="/images/a b.sif", runtime="apptainer"),
    )  # fmt: skip
    plan = array.draft(array.Asked(settings, ("01",)), ["participant", "group"],
                       toy.out / "logs" / "slurm" / "run-001")  # fmt: skip
    [line] = [line for line in plan.arrays[0].text.splitlines() if "--cleanenv" in line]
    words = shlex.split(line)
    assert words[:3] == ["apptainer", "exec", "--cleanenv"]
    binds = [words[place + 1] for place, word in enumerate(words) if word == "--bind"]
    assert set(binds) == {
        f"{toy.bids}:{toy.bids}:ro", f"{toy.out}:{toy.out}", f"{toy.work}:{toy.work}",
        f"{tmp_path}/cat:{tmp_path}/cat:ro", f"{tmp_path}/atlases:{tmp_path}/atlases:ro",
    }  # fmt: skip
    assert f"ALSFLOW_ATLAS_DIR={tmp_path}/atlases" in words
    start = words.index("/images/a b.sif")
    assert words[start : start + 4] == ["/images/a b.sif", "alsflow", str(toy.bids), str(toy.out)]
    assert words[-3:] == ["--participant-label", "$person", "&"]
    with pytest.raises(SettingsError, match="rename"):
        array.draft(array.Asked(replace(settings, bids_dir=Path("/a:b")), ("01",)),
                    ["participant"], toy.out / "run-001")  # fmt: skip


def test_task_in_a_container(toy, cluster, monkeypatch, tmp_path):
    """The script as it is, with a runtime that does as much of its work as is tested here."""
    toy.add("sub-01")
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "apptainer").write_text(
        "#!/bin/bash\n"
        'while [ "$1" != "$HOME/a b.sif" ]; do shift; done; shift\n'
        f'exec env -i PATH={folder}:/usr/bin:/bin HOME="$HOME" "$@"\n'
    )
    toys = shlex.join([sys.executable, str(HELPERS / "run_toy.py")])
    path = shlex.quote(os.pathsep.join(sys.path))
    (folder / "alsflow").write_text(f'#!/bin/bash\nPYTHONPATH={path} exec {toys} "$@"\n')
    for program in folder.iterdir():
        program.chmod(0o755)
    (tmp_path / "a b.sif").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(array, "program", TRUE_PROGRAM)
    assert send(toy, "--container", "a b.sif", levels=["participant"]) == 0
    assert run_script(cluster.taken[0][0]) == 0
    assert toy.status() == {"sub-01": "done"}


# ---------------------------------------------------------------------------- status


@pytest.mark.parametrize(
    ("code", "stopped", "note", "state", "words"),
    [
        (0, "", "", "done", ""),
        (65, "", "", "refused", "anat: T1w is 2-D"),
        (66, "", "", "absent", "anat: no T1w"),
        (1, "", "", "failed", "anat: zebra"),
        (73, "", "", "failed", "Another run is computing sub_01"),
        (1, "TERM", "CANCELLED AT 0:00 DUE TO TIME LIMIT ***", "killed", "time was over"),
        (1, "TERM", "CANCELLED AT 0:00 ***", "killed", "scancel"),
        (1, "TERM", "CANCELLED AT 0:00 DUE TO PREEMPTION ***", "killed", "room"),
        (137, "", "Detected 1 oom_kill event in StepId=7.batch.", "killed", "lack of memory"),
        (137, "", "", "killed", "lack of memory (it had 16G)"),
        (143, "TERM", "", "killed", "signal from outside"),
        (None, "", "CANCELLED AT 0:00 DUE TO NODE FAILURE ***", "killed", "node failed"),
        (None, "", "", "killed", "without a word"),
    ],
)  # fmt: skip
def test_why_a_task_ended(toy, cluster, capsys, code, stopped, note, state, words):
    toy.add("sub-01")
    assert send(toy, levels=["participant"]) == 0
    said = {65: ("refused", "T1w is 2-D"), 66: ("absent", "no T1w"), 0: ("done", "n/a")}
    rows(toy, ("sub-01", "n/a", "anat", *said.get(code, ("failed", "zebra"))))
    end(toy, "01", code, stopped)
    log = runs_of(toy)[0].folder / "logs" / "sub-01.log"
    log.write_text("--- sub-01\nalsflow: Another run is computing sub_01 in /work\n")
    if note:
        says(toy, "101_1", f"slurmstepd: error: *** JOB 7 ON c1 {note}")
    exit_code, found = table(toy, capsys)
    assert found["sub-01"]["state"] == state
    assert words in found["sub-01"]["reason"]
    assert exit_code == (0 if state == "done" else 1)
    assert cluster.questions == 1


def test_flagged_people_are_not_tried_again(toy, cluster, capsys):
    toy.add("sub-01"), toy.add("sub-02")
    assert send(toy, levels=["participant"]) == 0
    rows(
        toy, ("sub-01", "n/a", "anat", "flagged", "dice"), ("sub-02", "n/a", "anat", "done", "n/a")
    )
    end(toy, "01", 1), end(toy, "02")
    code, found = table(toy, capsys)
    assert (code, found["sub-01"]["state"], found["sub-01"]["reason"]) == (
        1,
        "flagged",
        "anat: dice",
    )
    assert call("resume", toy.out) == 0
    assert "nothing is missing" in capsys.readouterr().err
    assert len(cluster.taken) == 1


@pytest.mark.parametrize(
    ("job", "state", "words"),
    [
        (slurm.Job("RUNNING", "", "c2"), "running", ""),
        (slurm.Job("PENDING", "JobArrayTaskLimit"), "pending", "waits for its turn"),
        (slurm.Job("PENDING", "PartitionTimeLimit"), "pending", "will never start"),
        (slurm.Job("PENDING", "ReqNodeNotAvail, UnavailableNodes:c1"), "pending", "drained"),
        (slurm.Job("PENDING", "Licenses"), "pending", "waits (Licenses)"),
        (slurm.Job("PENDING", "PartitionInactive"), "pending", "waits (PartitionInactive)"),
        (slurm.Job("PENDING", ""), "pending", "waits"),
        (slurm.Job("PENDING", "JobHeldUser"), "pending", "scontrol release 101_1"),
        (slurm.Job("COMPLETED"), "done", "mark could not be written"),
        (slurm.Job("FAILED"), "failed", "anat: disk full"),
        (slurm.Job("NODE_FAIL"), "killed", "node failed"),
        (slurm.Job("OUT_OF_MEMORY"), "killed", "it had 16G"),
        (slurm.Job("CANCELLED"), "not-run", "cancelled before it started"),
        (None, "not-run", "cancelled before it started, or lost"),
    ],
)
def test_what_the_queue_says(toy, cluster, capsys, job, state, words):
    toy.add("sub-01")
    assert send(toy, levels=["participant"]) == 0
    cluster.jobs = {"101_1": job} if job else {}
    rows(toy, ("sub-01", "n/a", "anat", "failed", "disk full"))
    code, found = table(toy, capsys)
    assert found["sub-01"]["state"] == state
    assert words in found["sub-01"]["reason"]
    unfinished = state in ("running", "pending") and "never" not in words
    assert code == (75 if unfinished else 0 if state == "done" else 1)


def test_who_waits_for_the_end_does_not_wait_for_what_will_not_come(toy, cluster, capsys):
    toy.add("sub-01"), toy.add("sub-02")
    assert send(toy) == 0
    cluster.jobs = {"101_1": slurm.Job("PENDING", "PartitionTimeLimit"),
                    "101_2": slurm.Job("RUNNING"),
                    "102": slurm.Job("PENDING", "Dependency")}  # fmt: skip
    assert table(toy, capsys)[0] == 75
    del cluster.jobs["101_2"]
    end(toy, "02")
    code, found = table(toy, capsys)
    assert (code, found["sub-01"]["state"]) == (1, "pending")
    assert "scancel 101_1" in found["sub-01"]["hint"]


def test_accounting_is_asked_when_the_queue_has_forgotten(toy, cluster, capsys):
    toy.add("sub-01")
    assert send(toy, levels=["participant"]) == 0
    cluster.past = {"101_1": slurm.Ended("TIMEOUT", nodes="c2")}
    _, found = table(toy, capsys)
    assert "time was over (12:00:00)" in found["sub-01"]["reason"]
    assert "--time" in found["sub-01"]["hint"]


def test_requeued_task_is_waiting_and_not_failed(toy, cluster, capsys):
    toy.add("sub-01")
    assert send(toy, levels=["participant"]) == 0
    end(toy, "01", 1, "TERM")
    cluster.jobs = {"101_1": slurm.Job("PENDING", "BeginTime")}
    code, found = table(toy, capsys)
    assert (code, found["sub-01"]["state"]) == (75, "pending")
    assert "put back into the queue" in found["sub-01"]["reason"]


def test_silence_of_the_controller_says_nothing_about_the_jobs(toy, cluster, capsys):
    toy.add("sub-01"), toy.add("sub-02")
    assert send(toy, levels=["participant"]) == 0
    end(toy, "01")
    cluster.answers = False
    code, found = table(toy, capsys)
    assert (code, found["sub-01"]["state"], found["sub-02"]["state"]) == (75, "done", "pending")
    assert call("resume", toy.out) == 75
    assert len(cluster.taken) == 1


def test_json(toy, cluster, capsys):
    toy.add("sub-01"), toy.add("sub-02")
    assert send(toy) == 0
    capsys.readouterr()
    end(toy, "01")
    cluster.jobs = {
        "101_2": slurm.Job("RUNNING", "", "c2"),
        "102": slurm.Job("PENDING", "Dependency"),
    }
    assert call("status", toy.out, "--json") == 75
    found = json.loads(capsys.readouterr().out)
    assert (found["run"], found["state"]) == ("run-001", "unfinished")
    assert found["counts"] == {"done": 1, "running": 1}
    assert [task["name"] for task in found["people"]] == ["sub-01", "sub-02"]
    assert found["people"][0]["seconds"] == 60
    assert (found["group"]["state"], found["group"]["job"]) == ("pending", "102")


def test_text_names_people_causes_and_the_next_command(toy, cluster, capsys):
    for number in range(1, 31):
        toy.add(f"sub-{number:02d}")
    assert send(toy, levels=["participant"]) == 0
    for number in range(1, 30):
        end(toy, f"{number:02d}")
    end(toy, "30", 137)
    capsys.readouterr()
    assert call("status", toy.out) == 1
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "│" not in text
    assert "run-001: 30 people" in text
    assert "29 done" in text
    assert "sub-29" not in text  # a line for each who is done would bury the others
    [line] = [line for line in text.splitlines() if line.startswith("sub-30")]
    assert "lack of memory" in line
    assert "--mem" in line
    assert f"alsflow-slurm resume {toy.out}" in text
    assert call("status", toy.out, "-v") == 1
    assert "sub-29" in capsys.readouterr().out


def test_nothing_was_submitted(toy, cluster, capsys):
    for command in ("status", "resume"):
        assert call(command, toy.out) == 66
        assert "nothing was submitted" in capsys.readouterr().err.lower()
    assert not toy.out.exists()


def test_full_disk_at_submission_leaves_nothing(toy, cluster, monkeypatch, capsys):
    toy.add("sub-01")

    def full(path, text):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(array, "write_text", full)
    assert send(toy) == 73
    message = capsys.readouterr().err
    assert "No space left on device" in message
    assert "Traceback" not in message
    assert cluster.taken == []
    assert not list(toy.out.rglob("run-*"))


def test_record_that_cannot_be_read(toy, cluster, capsys):
    toy.add("sub-01")
    assert send(toy) == 0
    (toy.out / "logs/slurm/run-001/submission.json").write_text("{")
    assert call("status", toy.out) == 1
    assert "submission.json" in capsys.readouterr().err


# ---------------------------------------------------------------------------- resume


def test_resume_submits_exactly_those_who_are_missing(toy, cluster, capsys):
    for number in range(1, 8):
        toy.add(f"sub-{number:02d}")
    assert send(toy, "--mem", "4G", "--participant-label", *(f"{n:02d}" for n in range(1, 8))) == 0
    (
        end(toy, "01"),
        end(toy, "02", 65),
        end(toy, "03", 1),
        end(toy, "04", 137),
        end(toy, "05", None),
    )
    cluster.jobs = {"101_6": slurm.Job("RUNNING", "", "c2"),
                    "101_7": slurm.Job("PENDING", "Priority"),
                    "102": slurm.Job("PENDING", "Dependency")}  # fmt: skip
    assert call("resume", toy.out, "--dry-run") == 0
    assert "4 people: 02 03 04 05" in capsys.readouterr().out
    assert [run.name for run in runs_of(toy)] == ["run-001"]
    assert len(cluster.taken) == 2
    assert call("resume", toy.out, "--mem", "32G", "--time", "2-0") == 0
    first, second = runs_of(toy)
    assert second.people == ("02", "03", "04", "05")
    assert second.resumes == "run-001"
    text = cluster.taken[2][0].read_text()
    assert "--mem=32000M" in text
    assert "--time=2880" in text
    # the group level waits for the new ones and for those who still run; the old one is gone
    assert cluster.taken[3][1][0] == "--dependency=afterany:103:101_6:101_7"
    assert cluster.cancelled == ["102"]
    settings = (second.folder / "settings.toml").read_text()
    assert 'participant_label = [\n    "01",' in settings  # of the group level: everybody
    assert "mem_mb = 28800" in settings

    cluster.jobs = {}
    for label in ("02", "03", "04", "05"):
        end(toy, label, run="run-002")
    end(toy, "06"), end(toy, "07"), end(toy, "group", run="run-002")
    code, found = table(toy, capsys)
    assert code == 0
    assert [found[f"sub-{label}"]["run"] for label in ("01", "02")] == ["run-001", "run-002"]
    assert call("resume", toy.out) == 0
    assert "nothing is missing of run-001: all are done" in capsys.readouterr().err
    assert len(cluster.taken) == 4


def test_resume_of_the_group_level_alone(toy, cluster, capsys):
    toy.add("sub-01")
    assert send(toy) == 0
    end(toy, "01"), end(toy, "group", 1)
    (toy.out / "sub-01").mkdir()
    assert call("resume", toy.out) == 0
    path, options, _ = cluster.taken[-1]
    assert (path.name, options) == ("group.sh", [])
    assert len(cluster.taken) == 3


def test_resume_checks_data_again(toy, cluster, capsys):
    """They may have been mended, and that may have made them worse."""
    path = toy.add("sub-01")
    toy.add("sub-02")
    assert send(toy, levels=["participant"]) == 0
    end(toy, "01", 1), end(toy, "02")
    path.unlink()
    capsys.readouterr()
    assert call("resume", toy.out) in (0, 18)
    assert "sub-01" in capsys.readouterr().err


def test_group_levels_that_run_are_waited_for():
    view = Overview("run-001", (Task("sub-01", "failed"),), Task("group", "running", job="9"))
    lacks = array.missing(view, ("participant", "group"))
    assert lacks == array.Missing(("01",), True, ("9",), "")


def test_submissions_of_another_user_are_asked_for_under_their_number(toy, cluster, monkeypatch):
    toy.add("sub-01")
    assert send(toy) == 0
    [run] = runs_of(toy)
    users = []
    monkeypatch.setattr(slurm, "states", lambda ids, user=None: users.append(user) or {})
    overview(toy.out, [replace(run, user=1234)])
    assert users == [1234]


def test_resume_of_a_name(toy, cluster, capsys):
    toy.add("sub-01"), toy.add("sub-02")
    assert send(toy, "--participant-label", "01", levels=["participant"]) == 0
    assert send(toy, "--participant-label", "02", levels=["participant"]) == 0
    end(toy, "02", run="run-002")
    assert call("status", toy.out) == 0
    assert "1 people of earlier submissions" in capsys.readouterr().out
    assert call("status", toy.out, "--run", "run-001") == 1
    assert call("resume", toy.out, "--run", "run-009") == 66
    assert "there are: run-001, run-002" in capsys.readouterr().err
    assert call("resume", toy.out, "--run", "run-001") == 0
    assert runs_of(toy)[-1].people == ("01",)


# ---------------------------------------------------------------------------- people by people


def test_people_one_by_one_give_what_one_run_gives(toy, cluster, monkeypatch):
    """A person without a series has the row that the others' series give them."""
    toy.add("sub-01"), toy.add("sub-02"), toy.add_series("sub-02")
    assert toy.run() == 0
    together = (toy.out / "status.tsv").read_text()
    manifest = json.loads((toy.out / "manifest.json").read_text())
    (toy.out / "status.tsv").unlink(), (toy.out / "manifest.json").unlink()
    assert send(toy, levels=["participant"]) == 0
    from alsflow import cli

    settings = str(runs_of(toy)[0].folder / "settings.toml")
    for label in ("01", "02"):
        assert cli.main([str(toy.bids), str(toy.out), "participant", "--config-file", settings,
                         "--participant-label", label]) == 0  # fmt: skip
    assert (toy.out / "status.tsv").read_text() == together
    assert json.loads((toy.out / "manifest.json").read_text()) == manifest


@pytest.mark.slow
def test_twenty_tasks_at_once_share_one_output_and_one_working_folder(toy, cluster):
    labels = [f"{number:02d}" for number in range(1, 21)]
    for label in labels:
        toy.add(f"sub-{label}")
    script = HELPERS / "many_toys.py"
    command = [sys.executable, str(script), str(toy.bids), str(toy.out), str(toy.work), *labels]
    path = os.pathsep.join([str(HELPERS), *sys.path])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, timeout=300)
    assert done.returncode == 0
    assert toy.status() == {f"sub-{label}": "done" for label in labels}
    entries = json.loads((toy.out / "manifest.json").read_text())["entries"]
    assert [entry["participant"] for entry in entries] == labels
    assert all(entry["requested"] and not entry["missing"] for entry in entries)
    description = json.loads((toy.out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert not [path for path in toy.out.glob(".*.*") if path.name != ".bidsignore"]
    assert sorted(toy.calls()) == sorted(f"{label}:{step}" for label in labels
                                         for step in ("load", "scale", "sink"))  # fmt: skip


def test_words_of_a_mistake_in_the_settings(toy):
    with pytest.raises(SettingsError, match="array_time"):
        array.minutes("1:2:3:4")
    with pytest.raises(StopRunError):
        array.look(toy.out)
