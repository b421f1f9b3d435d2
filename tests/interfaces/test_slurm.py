"""What Slurm's programs print, in the words of several versions, and what is made of it."""

import os
import stat

import pytest

from alsflow.interfaces import slurm
from alsflow.interfaces.slurm import Ended, Job
from alsflow.nodes.errors import MissingProgramError

# ---------------------------------------------------------------------------- texts


def test_queue_of_version_22():
    """One line of an array that is still folded, as squeue without --array prints it."""
    text = (
        "2|COMPLETED|c1|None\n1|FAILED||BadConstraints\n7_[1-3%1]|PENDING||JobArrayTaskLimit\n"
        "7_0|RUNNING|c1|None\n9|PENDING||(ReqNodeNotAvail, UnavailableNodes:c1)\n"
    )
    jobs = slurm.parse_queue(text)
    assert jobs == {
        "2": Job("COMPLETED", "", "c1"),
        "1": Job("FAILED", "BadConstraints"),
        "7_0": Job("RUNNING", "", "c1"),
        **{f"7_{index}": Job("PENDING", "JobArrayTaskLimit") for index in (1, 2, 3)},
        "9": Job("PENDING", "ReqNodeNotAvail, UnavailableNodes:c1"),
    }
    assert [jobs[i].kind for i in ("2", "1", "7_0", "7_2")] == ["done", "failed", "live", "live"]


def test_queue_with_a_line_that_is_no_job():
    assert slurm.parse_queue("slurm_load_jobs: something\n\n12_[|PENDING|\n") == {}


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("12_[0,3-5:2%4]", ["12_0", "12_3", "12_5"]),
        ("12_[3-7%2]", ["12_3", "12_4", "12_5", "12_6", "12_7"]),
        ("12_[1,2,...]", ["12_[1,2,...]"]),  # cut by squeue: better not understood than half
        ("123", ["123"]),
    ],
)
def test_ids_of_arrays(text, ids):
    assert slurm.job_ids(text) == ids


ENDED_22 = (
    "JobId=5 JobName=a b=c UserId=x(0) Account=(null) JobState=FAILED Reason=JobLaunchFailure "
    "Dependency=(null) Requeue=1 ExitCode=0:9 RunTime=00:00:01 TimeLimit=01:30:00 "
    "ReqNodeList=(null) ExcNodeList=(null) NodeList=c1 BatchHost=c1 StdIn=/dev/null Power= \n"
)
ENDED_24 = (
    "JobId=812 ArrayJobId=800 ArrayTaskId=12 ArrayTaskThrottle=4 JobName=x "
    "JobState=OUT_OF_MEMORY Reason=OutOfMemory FailedNode=(null) Dependency=(null) Restarts=0 "
    "ExitCode=0:125 DerivedExitCode=0:0 TimeLimit=UNLIMITED ReqNodeList=(null) NodeList=n[1-2] "
    "ReqTRES=cpu=1,mem=100M,node=1 AllocTRES=cpu=1,mem=100M,node=1 SubmitLine=sbatch a.sh\n"
)


def test_ended_jobs():
    killed = slurm.parse_job(ENDED_22)
    assert killed == Ended("FAILED", 0, 9, "JobLaunchFailure", "c1", 90.0)
    assert killed.killed
    assert killed.memory
    assert "SIGKILL" in killed.sentence()
    oom = slurm.parse_job(ENDED_24)
    assert oom == Ended("OUT_OF_MEMORY", 0, 125, "OutOfMemory", "n[1-2]", None)
    assert oom.memory
    assert not oom.killed
    assert slurm.parse_job("slurm_load_jobs error: Invalid job id specified") is None
    fine = slurm.parse_job("JobId=1 JobState=COMPLETED Reason=None ExitCode=0:0 NodeList=c1\n")
    assert (fine.kind, fine.reason) == ("done", "")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("JobState=TIMEOUT Reason=TimeLimit ExitCode=0:15 TimeLimit=00:03:00", "over (3 min)"),
        ("JobState=CANCELLED Reason=None ExitCode=0:15", "cancelled by somebody"),
        ("JobState=CANCELLED+ Reason=None ExitCode=0:0", "cancelled by somebody"),
        ("JobState=NODE_FAIL Reason=NodeDown ExitCode=1:0 NodeList=c9", "node failed on c9"),
        ("JobState=PREEMPTED Reason=None ExitCode=0:0", "make room"),
        ("JobState=BOOT_FAIL Reason=None ExitCode=0:0", "did not start"),
        ("JobState=DEADLINE Reason=DeadLine ExitCode=0:0", "deadline"),
        ("JobState=FAILED Reason=NonZeroExitCode ExitCode=137:0", "SIGKILL"),
        ("JobState=FAILED Reason=NonZeroExitCode ExitCode=1:0", "code 1"),
        ("JobState=FAILED Reason=RaisedSignal:11(Segmentation) ExitCode=0:11", "signal 11"),
        ("JobState=FAILED Reason=JobLaunchFailure ExitCode=0:53", "log file cannot be written"),
        ("JobState=FAILED Reason=BadConstraints ExitCode=0:0", "BadConstraints"),
        ("JobState=COMPLETED Reason=None ExitCode=0:0", "left no result"),
    ],
)
def test_every_end_has_a_sentence(line, words):
    assert words in slurm.parse_job(f"JobId=3 {line}\n").sentence()


def test_only_lack_of_memory_is_called_so():
    states = [state for state in slurm.SENTENCES if Ended(state, 1, 0).memory]
    assert states == ["OUT_OF_MEMORY"]
    assert not Ended("CANCELLED", 0, 9).memory
    assert not Ended("TIMEOUT", 0, 9).memory
    assert not Ended("FAILED", 1, 0).memory


def test_states_are_live_or_ended_and_never_both():
    assert not slurm.LIVE & set(slurm.SENTENCES)
    assert {slurm.kind(state) for state in slurm.LIVE} == {"live"}
    assert {slurm.kind(state) for state in slurm.SENTENCES} == {"failed"}
    assert set(slurm.SHORT.values()) <= slurm.LIVE | set(slurm.SENTENCES) | {"COMPLETED"}


def test_accounting():
    text = (
        "40|OUT_OF_MEMORY|0:125||c1|00:10:00\n"
        "40.batch|OUT_OF_MEMORY|0:125|2048000K|c1|\n40.extern|COMPLETED|0:0|1000K|c1|\n"
        "400|COMPLETED|0:0||c1|00:10:00\n"
    )
    assert slurm.parse_accounting(text, "40") == Ended(
        "OUT_OF_MEMORY", 0, 125, "", "c1", 10.0, 2000.0
    )
    cancelled = slurm.parse_accounting(
        "41|CANCELLED by 1000|0:0||None assigned|1-00:00:00\n", "41"
    )
    assert (cancelled.state, cancelled.nodes, cancelled.minutes) == ("CANCELLED", "", 1440)
    assert slurm.parse_accounting(text, "4") is None
    requeued = "42|NODE_FAIL|1:0||c1|00:10:00\n42|COMPLETED|0:0||c2|00:10:00\n"
    assert slurm.parse_accounting(requeued, "42").state == "COMPLETED"  # the last one counts


@pytest.mark.parametrize(
    ("reason", "hopeless"),
    [
        ("PartitionTimeLimit", True),
        ("QOSMaxMemoryPerJob", True),
        ("AssocMaxCpuPerJobLimit", True),
        ("QOSMaxWallDurationPerJobLimit", True),
        ("InvalidAccount", True),
        ("Resources", False),
        ("Priority", False),
        ("QOSMaxJobsPerUserLimit", False),
        ("AssocGrpMemLimit", False),
        ("QOSMaxCpuPerUserLimit", False),
        ("Nodes required for job are DOWN, DRAINED or reserved for jobs in higher", False),
        ("ReqNodeNotAvail, UnavailableNodes:c1", False),
    ],
)
def test_pending_for_ever(reason, hopeless):
    assert Job("PENDING", reason).hopeless == hopeless
    assert not Job("RUNNING", reason).hopeless


# ---------------------------------------------------------------------------- programs


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Stand-ins of Slurm's programs, and what they were called with."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(name, text):
        path = folder / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/calls\n{text}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    (tmp_path / "a.sh").write_text("#!/bin/bash\n#SBATCH --time=5\n#SBATCH --qos=x\ntrue\n")
    monkeypatch.chdir(tmp_path)
    make.calls = lambda: (tmp_path / "calls").read_text().splitlines()
    make.folder = tmp_path
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(slurm.time, "sleep", lambda seconds: None)
    return make


def test_refusal_is_not_tried_again(programs):
    programs("sbatch", "echo 'sbatch: error: invalid partition specified: x\n"
             "sbatch: error: Batch job submission failed: Invalid partition name specified' >&2; "
             "exit 1")  # fmt: skip
    with pytest.raises(slurm.RefusedError) as refusal:
        slurm.submit("a.sh")
    assert str(refusal.value) == (
        "invalid partition specified: x; Batch job submission failed: "
        "Invalid partition name specified"
    )
    assert len(programs.calls()) == 1


def test_silence_is_tried_again(programs):
    programs("sbatch", f"if [ -e {programs.folder}/up ]; then echo '12;here'; else "
             f"touch {programs.folder}/up; echo 'sbatch: error: Batch job submission failed: "
             "Unable to contact slurm controller (connect failure)' >&2; exit 1; fi")  # fmt: skip
    assert slurm.submit("a.sh", ["--mem=1M"]) == "12"
    assert programs.calls() == ["sbatch --parsable --mem=1M a.sh"] * 2


def test_lost_answer_does_not_submit_twice(programs):
    """The controller took the job, but what it said was lost on its way."""
    programs("sbatch", "echo 'sbatch: error: Batch job submission failed: Socket timed out on "
             "send/recv operation' >&2; exit 1")  # fmt: skip
    programs("squeue", "echo 31")
    assert slurm.submit("a.sh", name="als-1-2") == "31"
    calls = programs.calls()
    assert [call.split()[0] for call in calls] == ["sbatch", "squeue"]
    assert "--name=als-1-2" in calls[1]


def test_silence_for_ever(programs):
    programs("sbatch", "echo 'Unable to contact slurm controller' >&2; exit 1")
    programs(
        "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"
    )
    programs("scontrol", "echo 'Socket timed out on send/recv operation' >&2; exit 1")
    programs("scancel", "echo 'scancel: error: Kill job error on job id 1: Unable to contact "
             "slurm controller (connect failure)' >&2; exit 8")  # fmt: skip
    with pytest.raises(slurm.UnreachableError):
        slurm.submit("a.sh", tries=3)
    assert slurm.states(["1"]) is None
    assert slurm.final("1") is None
    assert slurm.cancel(["1"]) is False


@pytest.mark.parametrize(
    "text",
    [
        "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: "
        "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
        "sbatch: error: AssocMaxSubmitJobLimit",
    ],
)
def test_full_queue_is_no_refusal(programs, text):
    programs("sbatch", f'echo "{text}" >&2; exit 1')
    with pytest.raises(slurm.FullError):
        slurm.submit("a.sh")


def test_too_large_a_job_is_refused_though_slurm_speaks_of_a_submit_limit(programs):
    programs("sbatch", "echo 'sbatch: error: QOSMaxWallDurationPerJobLimit\n"
             "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
             "(job submit limit, size and/or time limits)' >&2; exit 1")  # fmt: skip
    with pytest.raises(slurm.RefusedError, match="QOSMaxWallDuration"):
        slurm.submit("a.sh")


def test_answer_without_a_number_is_refused(programs):
    programs("sbatch", "echo 'welcome to the cluster'")
    with pytest.raises(slurm.RefusedError, match="welcome"):
        slurm.submit("a.sh")


def test_any_number_of_jobs_is_one_question(programs):
    programs("squeue", "for i in 1 2 3; do echo \"$i|RUNNING|c1|None\"; done; "
             "echo '9_4|PENDING||Resources'; echo '8_1|RUNNING|c1|None'")  # fmt: skip
    assert set(slurm.states(["1", "2", "9_4", "8", "77"])) == {"1", "2", "9_4", "8_1"}
    assert len(programs.calls()) == 1
    assert slurm.states([]) == {}
    assert len(programs.calls()) == 1


def test_forgotten_jobs(programs):
    programs("scontrol", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    programs("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert slurm.final("7").state == slurm.VANISHED
    programs("sacct", "echo '7|TIMEOUT|0:0||c1|00:05:00'")
    assert slurm.final("7") == Ended("TIMEOUT", 0, 0, "", "c1", 5.0)


def test_lack_of_memory_is_looked_up_in_the_accounts(programs):
    programs("scontrol", "echo 'JobId=7 JobState=OUT_OF_MEMORY ExitCode=0:125 NodeList=c1'")
    programs("sacct", "echo '7|OUT_OF_MEMORY|0:125||c1|1:00:00\n7.batch|O|0:125|512000K|c1|'")
    assert slurm.final("7").sentence() == (
        "was ended by Slurm for lack of memory (it had 500 MB) on c1"
    )


def test_nothing_of_our_own_job_is_handed_on(monkeypatch):
    for name in ("SLURM_JOB_ID", "SLURM_MEM_PER_NODE", "SQUEUE_PARTITION"):
        monkeypatch.setenv(name, "5")
    monkeypatch.setenv("SLURM_CONF", "/etc/x")
    monkeypatch.setenv("SBATCH_ACCOUNT", "ours")
    left = {name for name in slurm.environment() if name.startswith(("SLURM", "SQ", "SB"))}
    assert left == {"SLURM_CONF", "SBATCH_ACCOUNT"}


def test_what_the_script_says_stands(programs, monkeypatch):
    """Variables of sbatch come before the lines of a script, unless they are taken away."""
    for name in ("TIMELIMIT", "QOS", "ARRAY_INX", "OUTPUT", "WAIT", "ACCOUNT"):
        monkeypatch.setenv(f"SBATCH_{name}", "1-3")
    programs("sbatch", f"env | grep SBATCH_ > {programs.folder}/variables; echo 5")
    assert slurm.submit("a.sh") == "5"
    assert (programs.folder / "variables").read_text() == "SBATCH_ACCOUNT=1-3\n"


def test_without_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.sh").touch()
    with pytest.raises(MissingProgramError, match="sbatch was not found"):
        slurm.submit(tmp_path / "a.sh")


def test_tail_of_a_log(tmp_path):
    log = tmp_path / "log"
    assert slurm.tail(log) == ""
    log.write_bytes(os.urandom(5000) + b"\n" + b"line\n" * 30 + b"last")
    assert slurm.tail(log, lines=2) == "line\nlast"
