"""Steps that die of memory: told from other deaths, computed again alone, reported in words."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alsflow.interfaces.programs import call
from alsflow.nodes.errors import ProgramKilledError
from alsflow.workflows.deaths import (
    Death,
    death_of_process,
    last_words,
    of_memory,
    printed_since,
)
from alsflow.workflows.machine import control_groups
from alsflow.workflows.manifest import cause_of

HELPERS = Path(__file__).parent / "helpers"


@pytest.mark.parametrize(
    "line",
    [
        "MemoryError",
        "  MemoryError: Unable to allocate output buffer.",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7.45 GiB for an array",
        "RuntimeError: std::bad_alloc",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "RuntimeError: Exception thrown in SimpleITK N4: Failed to allocate memory for image.",
        "itk::MemoryAllocationError (0x55)",
        "OSError: [Errno 12] Cannot allocate memory",
        "alsflow.nodes.errors.ProgramKilledError: lcmodel was killed",
        "\tReturn code: 137",
        "Return code: -9",
        "slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch.",
    ],
)
def test_what_says_that_memory_ran_out(line):
    assert of_memory(f"Traceback (most recent call last):\n{line}\n")


@pytest.mark.parametrize(
    "line",
    [
        "ValueError: operands could not be broadcast",
        "alsflow.nodes.errors.BadInputError: a T1w image of 9 values does not fit into memory",
        "Return code: 1",
        "Return code: 1370",
        "    raise MemoryError(text)",
        "OSError: [Errno 28] No space left on device",
    ],
)
def test_what_does_not_say_so(line):
    assert not of_memory(f"Traceback (most recent call last):\n{line}\n")


@pytest.mark.parametrize(
    ("code", "kills", "said", "memory", "words"),
    [
        (-signal.SIGKILL, 1, "", True, "for lack of memory"),
        (-signal.SIGKILL, 0, "", True, "most often memory ran out"),
        (-signal.SIGABRT, 0, "what():  std::bad_alloc", True, "for lack of memory"),
        (-signal.SIGABRT, 0, "corrupted size", False, "SIGABRT"),
        (-signal.SIGSEGV, 0, "", False, "SIGSEGV"),
        (-signal.SIGTERM, 0, "", False, "SIGTERM"),
        (3, 0, "", False, "ended with code 3"),
        (None, 0, "", False, "without a result"),
    ],
)
def test_how_a_process_died(code, kills, said, memory, words):
    death = death_of_process(code, kills, 10.0, said)
    assert death.memory is memory
    assert words in death.text
    assert death.peak_mb == 10


def test_the_last_words_name_what_was_expected_measured_and_allowed():
    earlier = "Traceback:\nBadInputError: because of\nMemoryError"
    text = last_words(Death(earlier, True, 3100), 2.8, "4.0 GB (--mem)")
    state, cause = cause_of(text)
    assert state == "failed"
    for words in ("2.8 GB", "3.1 GB", "4.0 GB (--mem)", "nothing else ran", "--participant-label"):
        assert words in cause
    by_slurm = "WorkerDiedError: Job 7 was ended by Slurm for lack of memory."
    assert cause_of(last_words(Death(by_slurm, True), 2.8, "all"))[1].startswith("Memory ran out")
    guessed = "WorkerDiedError: Job 7 was killed (SIGKILL), most often for lack of memory."
    assert cause_of(last_words(Death(guessed, True), 2.8, "all"))[1].startswith("It was killed")
    assert "measured not before" in last_words(Death("MemoryError", True), 2.8, "all")


def test_a_program_that_is_killed_is_not_one_that_refuses():
    with pytest.raises(ProgramKilledError, match="sh was killed .*-9"):
        call(["sh", "-c", "kill -9 $$"], 10)
    with pytest.raises(ProgramKilledError, match="137"):
        call(["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 10)
    assert call(["sh", "-c", "exit 9"], 10).code == 9
    assert call(["sleep", "5"], 0.05).code == -1  # ended by the time limit


def test_only_the_end_of_a_log_is_read(tmp_path):
    log = tmp_path / "log"
    log.write_text("old bad_alloc\nnew")
    assert printed_since(log, 14) == "new"
    assert printed_since(tmp_path / "absent", 0) == ""
    log.write_text("x" * 100_000 + "end")
    assert printed_since(log, 0).endswith("end")
    assert len(printed_since(log, 0)) < 70_000


# ---------------------------------------------------------------------------- whole runs


def test_memory_that_ran_out_once_is_no_failure(toy, capfd):
    toy.add("sub-01", "memory once")
    toy.add("sub-02")
    assert toy.run() == 0
    assert toy.calls().count("01:load") == 2
    assert "sub_01 anat load is computed once more, alone" in capfd.readouterr().err


@pytest.mark.parametrize("text", ["memory", "program", "kill"])
def test_the_second_time_it_is_reported_by_name_and_the_others_go_on(toy, text):
    toy.add("sub-01", text)
    toy.add("sub-02")
    assert toy.run() == 1
    assert toy.status() == {"sub-01": "failed", "sub-02": "done"}
    reason = toy.reasons()["sub-01"]
    lead = "It was killed (SIGKILL)" if text == "kill" else "Memory ran out"
    assert reason.startswith(f"sub-01, step load: {lead}")
    assert "allowed 4.0 GB (--mem)" in reason
    assert "expected 0." in reason
    assert toy.calls().count("01:load") == 2
    row = (toy.out / "logs" / "errors.tsv").read_text().splitlines()[1].split("\t")
    assert row[:4] == ["sub-01", "n/a", "anat", "load"]
    details = (toy.out / row[5]).read_text()
    assert {"memory": "MemoryError", "program": "sh was killed", "kill": "SIGKILL"}[
        text
    ] in details


def test_other_deaths_get_no_second_chance(toy):
    toy.add("sub-01", "crash")
    assert toy.run() == 1
    assert toy.calls() == ["01:load"]


@pytest.fixture
def small_group():
    """A control group (version 1) for the processes of a test, or a reason why there is none."""
    above = next((g for g in control_groups() if (g / "memory.limit_in_bytes").is_file()), None)
    if above is None:
        pytest.skip("there is no control group of version 1 for memory here")
    folder = above / f"alsflow_test_{os.getpid()}"
    try:
        folder.mkdir()
        (folder / "memory.limit_in_bytes").write_text(str(LIMIT_MB * 1_000_000))
    except OSError as error:
        folder.is_dir() and folder.rmdir()
        pytest.skip(f"a control group cannot be made here ({error.strerror})")
    yield folder
    _empty(folder)


def _empty(folder):
    """End what is left in the group, which holds nothing but processes of the test."""
    for _ in range(100):
        for pid in (folder / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        try:
            folder.rmdir()
        except OSError:
            time.sleep(0.05)
        else:
            return


LIMIT_MB, HOG_MB = 700, 300


def run_in(folder, toy):
    """Exit code of a run of the toy with all of its processes in a control group."""
    command = [sys.executable, str(HELPERS / "run_toy.py"), str(toy.bids), str(toy.out),
               "participant", "-w", str(toy.work), "--skip-bids-validation", "--nprocs", "2",
               "--mem", "4G"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HELPERS), *sys.path])}
    join = f'echo $$ > {folder}/cgroup.procs && exec "$@"'
    done = subprocess.run(["sh", "-c", join, "sh", *command], env=environment,
                          capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    return done.returncode, done.stderr


def test_two_steps_that_fit_alone_and_not_together_both_succeed(toy, small_group):
    toy.add("sub-01", f"hog {HOG_MB}")
    toy.add("sub-02", f"hog {HOG_MB}")
    code, told = run_in(small_group, toy)
    assert code == 0, told
    assert toy.status() == {"sub-01": "done", "sub-02": "done"}
    assert "is computed once more, alone" in told
    assert "for lack of memory" in told
    assert "is more than the 700 MB that this process may use" in told


def test_a_step_that_never_fits_is_reported_with_its_limit(toy, small_group):
    toy.add("sub-01", f"hog {2 * LIMIT_MB}")
    toy.add("sub-02")
    code, told = run_in(small_group, toy)
    assert code == 1, told
    assert toy.status() == {"sub-01": "failed", "sub-02": "done"}
    reason = toy.reasons()["sub-01"]
    assert f"allowed 0.7 GB (memory.limit_in_bytes of {small_group})" in reason
    assert "Memory ran out" in reason
