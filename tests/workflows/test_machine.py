"""Limits: the least of all that holds counts, wherever it is set.

Threads: loops may have many, sums have one, so that numbers never depend on the machine.
"""

import os
import subprocess
import sys

import pytest

from alsflow.workflows import machine
from alsflow.workflows.machine import (
    THREADED,
    UNTHREADED,
    Limit,
    Limits,
    control_groups,
    exceeded,
    limit_threads,
    limits,
    oom_kills,
)

SUM = """
import hashlib, sys
from alsflow.workflows.machine import limit_threads
limit_threads(int(sys.argv[1]))
import numpy as np
wide = np.random.default_rng(0).normal(size=(300, 20000)).astype(np.float32)
product = np.concatenate([(wide @ wide.T).ravel(), wide.T[:64] @ wide[:, 0]])
print(hashlib.sha256(product.tobytes()).hexdigest())
"""


def test_sums_have_one_thread_whatever_is_asked_for(monkeypatch):
    for name in (*THREADED, *UNTHREADED):
        monkeypatch.setenv(name, "7")
    limit_threads(3)
    assert {os.environ[name] for name in THREADED} == {"3"}
    assert {os.environ[name] for name in UNTHREADED} == {"1"}


def test_products_of_matrices_do_not_depend_on_the_threads():
    digests = {
        subprocess.run([sys.executable, "-c", SUM, number], capture_output=True, check=True).stdout
        for number in ("1", "2", "4")
    }
    assert len(digests) == 1


FILTER = """
import os, sys
import cat_surf, numpy as np
from alsflow.workflows.machine import held_to
volume = np.asfortranarray(np.random.default_rng(0).normal(100, 9, (40, 42, 44)), np.float32)
allowed = len(os.sched_getaffinity(0))
with held_to(int(sys.argv[1])):
    print(len(os.sched_getaffinity(0)))
    print(hash(cat_surf.vol_sanlm(volume, is_rician=False).tobytes()))
assert len(os.sched_getaffinity(0)) == allowed
"""


def filtered(number):
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run([sys.executable, "-c", FILTER, str(number)], env=environment,
                          capture_output=True, text=True, check=True)  # fmt: skip
    processors, digest = done.stdout.split()
    return int(processors), digest


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinity")
def test_a_library_with_threads_of_its_own_is_held_to_its_processors():
    number = len(os.sched_getaffinity(0))
    one, many = filtered(1), filtered(number + 5)
    assert one[0] == 1
    assert many[0] == number  # more than there are hold to nothing
    assert one[1] == many[1]  # and the result is the same


def test_programs_are_held_too():
    with machine.held_to(1):
        command = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]
        assert int(subprocess.check_output(command)) == 1


# ---------------------------------------------------------------------------- limits


@pytest.fixture(autouse=True)
def large_machine(monkeypatch):
    """A machine of 64 processors and 256 GB, so that what is set elsewhere is the least."""
    monkeypatch.setattr(machine, "_affinity", lambda: Limit(64, "the machine"))
    monkeypatch.setattr(machine, "_machine_memory", lambda: Limit(256_000, "the machine"))


NO_NUMBER = "9223372036854771712"
V1 = ["40 1 0:30 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory",
      "41 1 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"]  # fmt: skip
V2 = ["42 1 0:32 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"]
HYBRID = [*V1, "42 1 0:32 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw"]
JOB_V1 = ["4:memory:/slurm/uid_7/job_3/step_0", "1:cpu,cpuacct:/slurm/uid_7/job_3"]
JOB_V2 = ["0::/system.slice/slurmstepd.scope/job_3/step_0/user/task_0"]
SCOPE = "system.slice/slurmstepd.scope/job_3"

TREES = {
    "version 1, at the job and not at the step": (
        V1, JOB_V1,
        {"memory/memory.limit_in_bytes": NO_NUMBER,
         "memory/slurm/uid_7/job_3/memory.limit_in_bytes": "8000000000",
         "memory/slurm/uid_7/job_3/step_0/memory.limit_in_bytes": NO_NUMBER,
         "cpu,cpuacct/slurm/uid_7/job_3/cpu.cfs_quota_us": "400000",
         "cpu,cpuacct/slurm/uid_7/job_3/cpu.cfs_period_us": "100000"},
        (4, 8000),
    ),
    "version 1, without quota": (
        V1, JOB_V1,
        {"cpu,cpuacct/slurm/uid_7/job_3/cpu.cfs_quota_us": "-1",
         "cpu,cpuacct/slurm/uid_7/job_3/cpu.cfs_period_us": "100000"},
        (64, 256_000),
    ),
    "version 2, at the job and not at the task": (
        V2, JOB_V2,
        {f"{SCOPE}/memory.max": "6000000000", f"{SCOPE}/cpu.max": "150000 100000\n",
         f"{SCOPE}/step_0/user/task_0/memory.max": "max\n",
         f"{SCOPE}/step_0/user/task_0/cpu.max": "max 100000\n"},
        (2, 6000),
    ),
    "version 2, the least of several levels": (
        V2, JOB_V2,
        {"system.slice/memory.max": "9000000000", f"{SCOPE}/memory.max": "6000000000",
         f"{SCOPE}/step_0/memory.high": "5000000000"},
        (64, 5000),
    ),
    "version 2, the root alone, as in a container": (
        V2, ["0::/"], {"memory.max": "3000000000", "cpu.max": "50000 100000"}, (1, 3000),
    ),
    "hybrid: memory in version 1, the process in an empty group of version 2": (
        HYBRID, [*JOB_V1, "0::/user.slice"],
        {"memory/slurm/memory.limit_in_bytes": "7000000000",
         "unified/user.slice/cgroup.procs": "1"},
        (64, 7000),
    ),
    "the path is that of the host, its own group mounted as the root": (
        ["40 1 0:30 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory"],
        ["4:memory:/docker/ab"],
        {"memory/memory.limit_in_bytes": "2000000000"},
        (64, 2000),
    ),
    "the path leads out of the container": (
        V2, ["0::/../../init.scope"], {"memory.max": "4000000000"}, (64, 4000),
    ),
    "damaged": (V2, JOB_V2, {"memory.max": "much", "cpu.max": ""}, (64, 256_000)),
    "none": ([], [], {}, (64, 256_000)),
}  # fmt: skip


def make_tree(root, mounts, groups, content):
    """A folder that looks like / to who asks for limits."""
    own = root / "proc" / "self"
    own.mkdir(parents=True)
    (own / "mountinfo").write_text("".join(f"{line}\n" for line in mounts))
    (own / "cgroup").write_text("".join(f"{line}\n" for line in groups))
    for name, text in content.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("name", TREES)
def test_control_groups_are_followed_from_the_own_one_to_the_root(tmp_path, name):
    mounts, groups, content, expected = TREES[name]
    found = limits(make_tree(tmp_path, mounts, groups, content), {})
    assert (found.processors.value, found.memory.value) == expected
    for limit, unlimited in ((found.processors, 64), (found.memory, 256_000)):
        assert ("sys/fs/cgroup" in limit.source) == (limit.value != unlimited)


JOB = {"SLURM_JOB_ID": "3"}


@pytest.mark.parametrize(
    ("environ", "processors", "memory", "sources"),
    [
        (JOB | {"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "8"}, 4, 256_000,
         ("SLURM_CPUS_PER_TASK", "the machine")),
        (JOB | {"SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_NODE": "16384"}, 8, 17_179.869,
         ("SLURM_CPUS_ON_NODE", "SLURM_MEM_PER_NODE")),
        (JOB | {"SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_CPU": "1024"}, 8, 8_589.935,
         ("SLURM_CPUS_ON_NODE", "SLURM_MEM_PER_CPU")),
        (JOB | {"SLURM_MEM_PER_NODE": "0"}, 64, 256_000, ("the machine", "the machine")),
        (JOB | {"SLURM_CPUS_PER_TASK": "many"}, 64, 256_000, ("the machine", "the machine")),
        ({"SLURM_CPUS_PER_TASK": "4"}, 64, 256_000, ("the machine", "the machine")),  # no job
    ],
)  # fmt: skip
def test_a_job_of_slurm_has_what_it_was_given(tmp_path, environ, processors, memory, sources):
    found = limits(tmp_path, environ)
    assert found.processors.value == processors
    assert found.memory.value == pytest.approx(memory, rel=1e-6)
    assert (found.processors.source, found.memory.source) == sources
    assert sources[0] in found.text
    assert sources[1] in found.text


def test_the_least_of_slurm_and_its_control_group_counts(tmp_path):
    root = make_tree(tmp_path, V2, JOB_V2, {f"{SCOPE}/memory.max": "6000000000"})
    found = limits(root, JOB | {"SLURM_MEM_PER_NODE": "4096"})
    assert found.memory == Limit(pytest.approx(4294.967), "SLURM_MEM_PER_NODE")


def test_what_is_given_beyond_the_limits_is_told_in_one_sentence_each():
    found = Limits(Limit(4, "cpu.max of /g"), Limit(8000, "memory.max of /g"), 7000)
    assert exceeded(found, 4, 8000) == []
    processes, memory = exceeded(found, 8, 64_000)
    assert "--nprocs 8 is more than the 4 processors" in processes
    assert "cpu.max of /g" in processes
    assert "--mem 64000 MB is more than the 8000 MB" in memory
    assert "memory.max of /g" in memory


def test_memory_that_others_hold_is_told():
    found = Limits(Limit(4, "the machine"), Limit(8000, "the machine"), 2000)
    (warning,) = exceeded(found, 1, 7000)
    assert warning.startswith("2000 MB of memory are free now")
    assert exceeded(Limits(found.processors, found.memory, 0), 1, 7000) == []  # not known


@pytest.mark.parametrize(
    ("mounts", "groups", "file"),
    [(V1, JOB_V1, "memory/slurm/uid_7/job_3/step_0/memory.oom_control"),
     (V2, JOB_V2, f"{SCOPE}/memory.events")],
)  # fmt: skip
def test_kills_for_memory_are_counted(tmp_path, mounts, groups, file):
    make_tree(tmp_path, mounts, groups, {file: "under_oom 0\noom 9\noom_kill 3\n"})
    assert oom_kills(tmp_path) == 3
    assert oom_kills(tmp_path / "absent") == 0


def test_the_control_groups_of_this_process_are_there():
    assert all(folder.is_dir() for folder in control_groups())


def test_products_of_matrices_do_not_depend_on_the_processor():
    """OpenBLAS takes other loops on another processor, which the variable stands for here."""
    digests = {
        subprocess.run(
            [sys.executable, "-c", SUM, "1"],
            env={**os.environ, "OPENBLAS_CORETYPE": core},
            capture_output=True,
            check=True,
        ).stdout
        for core in ("", "Sandybridge", "Nehalem")
    }
    assert len(digests) == 1


def test_an_older_processor_is_not_asked_for_what_it_cannot_do(tmp_path, monkeypatch):
    file = tmp_path / "cpuinfo"
    file.write_text("model name\t: old\nflags\t\t: fpu avx sse2\n")
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    for path in (file, tmp_path / "absent"):
        monkeypatch.setattr(machine, "CPU_INFO", path)
        limit_threads(1)
        assert "OPENBLAS_CORETYPE" not in os.environ
    file.write_text("flags\t\t: fpu avx avx2 fma\n")
    monkeypatch.setattr(machine, "CPU_INFO", file)
    limit_threads(1)
    assert os.environ["OPENBLAS_CORETYPE"] == "Haswell"
