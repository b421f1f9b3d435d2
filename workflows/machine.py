"""What this machine lets one process use."""

from __future__ import annotations

import os
from pathlib import Path

MEMORY_SHARE = 0.9  # of the memory that is there


def available_processes() -> int:
    """Processors that this process may use."""
    return (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )


def available_memory_mb() -> int:
    """Nine tenths of the memory of the machine, or of its control group if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such control group, or "max"
            continue
    return int(total * MEMORY_SHARE / 1e6)
