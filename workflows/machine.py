"""What this machine lets one process use: processors, memory, threads, disks.

A limit may be set by the machine, by a control group around the process (of both versions, at any
level above its own) or by Slurm; the least counts.
"""

from __future__ import annotations

import math
import os
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

# Loops over voxels, whose results do not depend on the number of threads, and libraries whose sums
# do: these have one thread always.
THREADED = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
UNTHREADED = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
# OpenBLAS chooses its loops by processor, and sums in another order with AVX-512: a volume came
# out 0.09 % different. All processors that can compute as this one (of 2013) do so.
OPENBLAS_CORE = ("OPENBLAS_CORETYPE", "Haswell")
HASWELL = {"avx2", "fma"}
CPU_INFO = Path("/proc/cpuinfo")
MEMORY_SHARE = 0.9  # of the memory that is there
OWN_MB = 500  # that the program itself holds beside its steps
LEAST_MB = 100  # below which no run is begun
TIGHT_SHARE = 0.75  # of what a run may use; with less of it free now, the user is told
NO_LIMIT = 2**60  # bytes; version 1 of control groups writes such a number for none
MB = 1_000_000
MIB = 1 << 20


@dataclass(frozen=True)
class Limit:
    """A number and what sets it, such as ``memory.max of /sys/fs/cgroup/job``."""

    value: float
    source: str


@dataclass(frozen=True)
class Limits:
    """What this process may use: the least of all that limits it.

    Attributes
    ----------
    processors : Limit
        Whole processors.
    memory : Limit
        MB (10^6 bytes).
    free_mb : float
        Memory that nobody uses at this moment; 0 where the system does not tell.
    """

    processors: Limit
    memory: Limit
    free_mb: float = 0.0

    @property
    def text(self) -> str:
        """What was found, for the log."""
        memory = f"{self.memory.value:.0f} MB of memory ({self.memory.source})"
        return f"{self.processors.value:g} processors ({self.processors.source}), {memory}"


def limits(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> Limits:
    """Find what limits this process: the machine, its control groups and Slurm.

    Parameters
    ----------
    root : path
        Folder above ``proc`` and ``sys``.
    environ : mapping
        Environment, in which Slurm says what a job was given.
    """
    groups = list(control_groups(root))
    processors = [_affinity(), *_cpu_quotas(groups), *_slurm_processors(environ)]
    memory = [_machine_memory(), *_memory_limits(groups), *_slurm_memory(environ)]
    least = min(processors, key=lambda limit: limit.value)
    return Limits(
        replace(least, value=max(1, math.ceil(least.value))),
        min(memory, key=lambda limit: limit.value),
        _memory_free(root),
    )


def available_processes() -> int:
    """Processors that this process may use."""
    return int(limits().processors.value)


def available_memory_mb() -> int:
    """Nine tenths of the memory that this process may use, MB; less where there is little."""
    found = limits().memory.value
    return max(LEAST_MB, int(min(found * MEMORY_SHARE, found - OWN_MB)))


def exceeded(found: Limits, processes: int, memory_mb: float) -> list[str]:
    """Sentences on what a run was given beyond what this process may use, or can have now."""
    warnings = []
    if processes > found.processors.value:
        warnings.append(
            f"--nprocs {processes} is more than the {found.processors.value:g} processors that "
            f"this process may use ({found.processors.source}); steps will wait for each other."
        )
    if memory_mb > found.memory.value:
        warnings.append(
            f"--mem {memory_mb:.0f} MB is more than the {found.memory.value:.0f} MB that this "
            f"process may use ({found.memory.source}); steps beyond it will be killed."
        )
    elif 0 < found.free_mb < TIGHT_SHARE * memory_mb:
        warnings.append(
            f"{found.free_mb:.0f} MB of memory are free now, and the run may use "
            f"{memory_mb:.0f} MB; give less with --mem if other programs keep theirs."
        )
    return warnings


# ---------------------------------------------------------------------------- control groups


def control_groups(root: Path = Path("/")) -> Iterator[Path]:
    """Folders of the control groups around this process, of both versions, from its own upwards.

    Which groups a process is in says ``/proc/self/cgroup``, where they lie ``mountinfo``. In a
    container the folder of its own group may be mounted in place of the whole tree, or the path
    may be told from the outside: folders that are not there are left out.
    """
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        names = set(controllers.split(",")) if controllers else {"cgroup2"}
        for mounted, inside in _mounts(root, names):
            seen = path[len(mounted) :] if mounted != "/" and path.startswith(mounted) else path
            parts = [part for part in seen.split("/") if part not in ("", "..")]
            for depth in range(len(parts), -1, -1):
                folder = root.joinpath(inside.lstrip("/"), *parts[:depth])
                if folder.is_dir():
                    yield folder


def _mounts(root: Path, controllers: set[str]) -> list[tuple[str, str]]:
    """Which part of the tree of some controllers is mounted, and where."""
    found = []
    for line in _lines(root / "proc/self/mountinfo"):
        own, _, rest = line.partition(" - ")
        kind, _, options = [*rest.split(" "), "", ""][:3]
        inside = own.split(" ")
        if len(inside) < 5 or not kind.startswith("cgroup"):
            continue
        if controllers & ({"cgroup2"} if kind == "cgroup2" else set(options.split(","))):
            found.append((inside[3], inside[4]))
    return found


def _memory_limits(groups: Sequence[Path]) -> Iterator[Limit]:
    for folder in groups:
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            value = _number(folder / name)
            if value is not None and value < NO_LIMIT:
                yield Limit(value / MB, f"{name} of {folder}")


def _cpu_quotas(groups: Sequence[Path]) -> Iterator[Limit]:
    for folder in groups:
        quota, period = [*_words(folder / "cpu.max"), "", ""][:2]
        if quota.isdecimal() and period.isdecimal() and int(period):
            yield Limit(int(quota) / int(period), f"cpu.max of {folder}")
        old, per = (_number(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        if old is not None and old > 0 and per:
            yield Limit(old / per, f"cpu.cfs_quota_us of {folder}")


def oom_kills(root: Path = Path("/")) -> int:
    """How often a control group around this process has had to kill for memory; 0 if untold."""
    counts = [0]
    for folder in control_groups(root):
        for name in ("memory.events", "memory.oom_control"):
            lines = [line.split() for line in _lines(folder / name)]
            counts += [int(words[1]) for words in lines if words[:1] == ["oom_kill"]]
    return sum(counts)


def _affinity() -> Limit:
    if hasattr(os, "sched_getaffinity"):
        return Limit(len(os.sched_getaffinity(0)), "processors that the system lets it use")
    return Limit(os.cpu_count() or 1, "the machine")


def _machine_memory() -> Limit:
    return Limit(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MB, "the machine")


def _memory_free(root: Path) -> float:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 / MB
    return 0.0


# ---------------------------------------------------------------------------- Slurm


def _slurm_processors(environ: Mapping[str, str]) -> Iterator[Limit]:
    """Processors of one task, or else of the job on this machine."""
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        if number := _given(environ, name):
            yield Limit(number, name)
            return


def _slurm_memory(environ: Mapping[str, str]) -> Iterator[Limit]:
    """Memory of the job on this machine; Slurm counts in MiB, and 0 stands for all."""
    if number := _given(environ, "SLURM_MEM_PER_NODE"):
        yield Limit(number * MIB / MB, "SLURM_MEM_PER_NODE")
    processors = _given(environ, "SLURM_CPUS_ON_NODE") or _given(environ, "SLURM_CPUS_PER_TASK")
    if (number := _given(environ, "SLURM_MEM_PER_CPU")) and processors:
        yield Limit(number * processors * MIB / MB, "SLURM_MEM_PER_CPU")


def _given(environ: Mapping[str, str], name: str) -> int:
    """Number that Slurm has put into the environment of a job; 0 where there is none."""
    text = environ.get(name, "") if environ.get("SLURM_JOB_ID") else ""
    return int(text) if text.isdecimal() else 0


# ---------------------------------------------------------------------------- small files


def _lines(path: Path) -> list[str]:
    """Lines of a file of the system; none where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return [word for line in _lines(path) for word in line.split()]


def _number(path: Path) -> int | None:
    """Whole number in a file; None for ``max`` and where there is none."""
    try:
        return int((_words(path) or [""])[0])
    except ValueError:
        return None


# ---------------------------------------------------------------------------- threads, disks


def limit_threads(number: int) -> None:
    """Threads of this process and those that it starts; libraries read it when imported.

    Sums are made in the same order whatever the processor, too.
    """
    os.environ.update(dict.fromkeys(THREADED, str(number)))
    os.environ.update(dict.fromkeys(UNTHREADED, "1"))
    if _processor_features(CPU_INFO) >= HASWELL:
        os.environ.update([OPENBLAS_CORE])


def _processor_features(path: Path) -> set[str]:
    """What the first processor can do, as Linux lists it; nothing elsewhere."""
    try:
        with path.open(encoding="ascii", errors="replace") as lines:
            return next((set(line.split()) for line in lines if line.startswith("flags")), set())
    except OSError:
        return set()


@contextmanager
def held_to(number: int) -> Iterator[None]:
    """Hold this thread, and threads and programs that it starts, to so many processors.

    It is for libraries that start as many threads as they like. Which processors is left to
    chance, so that steps that do so at one time seldom meet.

    Parameters
    ----------
    number : int
        Processors; more than there are hold to nothing.
    """
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if number >= len(allowed):
        yield
        return
    os.sched_setaffinity(0, random.sample(allowed, number))
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def free_mb(folder: Path) -> float:
    """Free space on the disk of `folder`, MB."""
    return shutil.disk_usage(existing(folder)).free / 1e6


def free_space(folder: Path) -> str:
    """Free space on the disk of `folder`, for people."""
    return f"{free_mb(folder):.1f} MB free in {existing(folder)}"


def existing(folder: Path) -> Path:
    """`folder`, or the nearest folder above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
