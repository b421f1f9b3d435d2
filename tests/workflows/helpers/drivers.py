"""The driver as a process, its workers, and a disk that is full."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

HELPERS = Path(__file__).parent


def start(toy, *options, **how):
    command = [sys.executable, str(HELPERS / "run_toy.py"), str(toy.bids), str(toy.out),
               "participant", "-w", str(toy.work), "--skip-bids-validation",
               *map(str, options)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HELPERS), *sys.path])}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **how)


def running_step(toy, step="01:load"):
    """Whether a step has begun; that of another person may have ended before."""
    calls = toy.work / "calls.txt"
    return lambda: calls.is_file() and step in calls.read_text()


def workers_of(pid):
    """Processes whose log is that of the run of `pid`: its workers and no others."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes()
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if b"forkserver" in command:
                found.append((int(folder.name), parent))
    servers = {child for child, parent in found if parent == pid}
    return [child for child, parent in found if parent in servers]


def fill(path):
    """Write until nothing fits any more."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as filler:
        while filler.write(b"x" * 512):
            pass
