"""Size of the working directory by visit, stream and --keep-work, from one that kept everything.

    alsflow BIDS OUT participant -w WORK --keep-work all
    python benchmarks/workdir.py WORK

Every step leaves a record of its output files and a copy of its inputs. From these follows what
each choice would have removed and when, in the order in which the steps have finished.
"""

from __future__ import annotations

import argparse
import os
import pickle
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from nipype.utils.filemanip import loadpkl

from alsflow.workflows.cache import RECORD, paths_in, stored_record
from alsflow.workflows.keep import LARGE, table

CHOICES = ("all", "failed", "none")
MB = 1e6


@dataclass
class Step:
    """One step that has finished."""

    folder: str
    visit: str
    stream: str
    name: str
    ended: float
    files: dict[str, int] = field(default_factory=dict)  # large ones in its folder, bytes
    rest: int = 0  # bytes of all other files there
    delivered: int = 0  # bytes of files that it wrote elsewhere
    read: set[str] = field(default_factory=set)


def read_steps(work: Path) -> list[Step]:
    """Steps of a working directory, in the order in which they finished."""
    root = work / "alsflow_wf"
    steps = [_read_step(path, root) for path in root.rglob(RECORD)]
    return sorted((step for step in steps if step is not None), key=lambda step: step.ended)


def _read_step(record: Path, root: Path) -> Step | None:
    folder = str(record.parent.resolve())
    parts = record.parent.relative_to(root).parts
    if len(parts) < 3:
        return None
    step = Step(folder, parts[0].removesuffix("_wf"), parts[1].removesuffix("_wf"),
                ".".join(parts[2:]), record.stat().st_mtime)  # fmt: skip
    for path in stored_record(record)["files"]:
        whole = os.path.normpath(os.path.join(folder, path))
        if not whole.startswith(str(root.resolve())) and os.path.isfile(whole):
            step.delivered += os.path.getsize(whole)
    for path in record.parent.rglob("*"):
        if path.is_file():
            size = path.lstat().st_size
            if size >= LARGE and not path.name.startswith(("_", "result_")):
                step.files[str(path.resolve())] = size
            else:
                step.rest += size
    try:
        step.read = set(paths_in(loadpkl(record.parent / "_inputs.pklz")))
    except (OSError, pickle.UnpicklingError):
        step.read = set()
    return step


@dataclass
class Used:
    """Bytes at the end, and most at one time."""

    end: int = 0
    peak: int = 0


def replay(steps: list[Step], choice: str) -> Used:
    """Size of the folders of some steps of one visit, had `choice` been made."""
    readers: dict[str, int] = defaultdict(int)
    for step in steps:
        for path in step.read:
            readers[path] += 1
    there: dict[str, int] = {}
    used, rest = Used(), 0
    for step in steps:
        there |= step.files
        rest += step.rest
        used.peak = max(used.peak, rest + sum(there.values()))
        if choice != "none":
            continue
        for path in step.read:
            readers[path] -= 1
        there = {path: size for path, size in there.items() if readers[path] > 0}
    if choice == "failed":
        large = {(step.stream, step.name) for step in steps if step.files}
        for step in steps:
            known = table().get(step.stream, {})
            after = known.get("overtaken", {}).get(step.name)
            if step.name in known.get("passing", ()) or (step.stream, after) in large:
                there = {path: size for path, size in there.items() if path not in step.files}
    used.end = rest + sum(there.values())
    return used


def rows(steps: list[Step]) -> list[dict]:
    """One row by visit and stream, and one for all streams of a visit."""
    found = []
    for visit in sorted({step.visit for step in steps}):
        own = [step for step in steps if step.visit == visit]
        for stream in [*sorted({step.stream for step in own}), "all"]:
            some = [step for step in own if stream in (step.stream, "all")]
            row = {"visit": visit, "stream": stream, "steps": len(some)}
            row["derivatives"] = sum(step.delivered for step in some) / MB
            for choice in CHOICES:
                used = replay(some if stream == "all" else own, choice)
                if stream != "all":
                    used = _of_stream(own, stream, choice)
                row[choice], row[f"{choice} peak"] = used.end / MB, used.peak / MB
            found.append(row)
    return found


def _of_stream(steps: list[Step], stream: str, choice: str) -> Used:
    """Size of the folders of one stream; those of others read its files, too."""
    alone = [
        Step(s.folder, s.visit, s.stream, s.name, s.ended,
             s.files if s.stream == stream else {}, s.rest if s.stream == stream else 0,
             0, s.read)
        for s in steps
    ]  # fmt: skip
    return replay(alone, choice)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", type=Path)
    steps = read_steps(parser.parse_args().work)
    columns = ["derivatives", *(name for one in CHOICES for name in (one, f"{one} peak"))]
    print("visit", "stream", "steps", *columns, *(f"{one}/der." for one in CHOICES), sep="\t")
    for row in rows(steps):
        ratios = [f"{row[one] / max(row['derivatives'], 1e-6):.2f}" for one in CHOICES]
        numbers = [f"{row[name]:.1f}" for name in columns]
        print(row["visit"], row["stream"], row["steps"], *numbers, *ratios, sep="\t")


if __name__ == "__main__":
    main()
