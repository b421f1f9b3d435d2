"""What this machine lets one process use."""

from __future__ import annotations

import math
import os
import shutil
import sys
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
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
MEMORY_SHARE = 0.9  # of the memory that is there


def available_processes() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        number = len(os.sched_getaffinity(0))
    else:
        number = os.cpu_count() or 1
    return max(1, min(number, _cpu_quota(CPU_QUOTA)))


def _cpu_quota(path: Path) -> int:
    """Processors that a container may use, from ``<quota or max> <period>``."""
    try:
        quota, period = path.read_text(encoding="ascii").split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # no such control group, or "max"
        return sys.maxsize


def available_memory_mb() -> int:
    """Nine tenths of the memory of the machine, or of its control group if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such control group, or "max"
            continue
    return int(total * MEMORY_SHARE / 1e6)


def limit_threads(number: int) -> None:
    """Threads of this process and those that it starts; libraries read it when imported."""
    os.environ.update(dict.fromkeys(THREADED, str(number)))
    os.environ.update(dict.fromkeys(UNTHREADED, "1"))


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
