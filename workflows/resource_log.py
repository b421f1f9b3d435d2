"""What the steps of all runs on an output folder have used, beside what was expected of them.

``logs/resources.json`` holds the numbers by visit, so that runs on other people add theirs;
``logs/resources.tsv`` is made from it, one row per step.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from alsflow.workflows.cache import exclusive, read_record, write_text
from alsflow.workflows.names import step_of, visit_of
from alsflow.workflows.resources import MB_PER_GB, expected
from alsflow.workflows.watcher import Watcher

logger = logging.getLogger("alsflow")

NUMBERS, TABLE = "resources.json", "resources.tsv"
COLUMNS = ("step", "n", "seconds_median", "seconds_max", "cpu_seconds_median", "peak_mb_median",
           "peak_mb_max", "declared_mb_max", "share_max")  # fmt: skip

# by visit and step: seconds, CPU seconds, peak MB, declared MB
Numbers = dict[str, dict[str, list[float]]]


class ResourceLog(Watcher):
    """Follows the nodes, and writes what they used when the run ends.

    Parameters
    ----------
    folder : path
        The folder of logs of the output.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._found: Numbers = {}

    # -- a watcher of nodes

    def finished(self, node: Any, seconds: float, cached: bool) -> None:
        """Take what the record of the node says, that of an earlier run too."""
        record = read_record(node) or {}
        if not record.get("peak_mb"):
            return
        used = [record["seconds"], record["cpu_seconds"], record["peak_mb"]]
        declared = round(expected(node).memory_gb * MB_PER_GB)
        self._found.setdefault(visit_of(node.fullname), {})[step_of(node.fullname)] = [
            *used,
            declared,
        ]

    # -- files

    def write(self) -> None:
        """Add what this run has seen to the two files; a run does not fail for want of them."""
        if not self._found:
            return
        try:
            with exclusive(self._folder / ".lock"):
                numbers = merged(read_numbers(self._folder), self._found)
                text = json.dumps(numbers, separators=(",", ":"), sort_keys=True)
                write_text(self._folder / NUMBERS, text + "\n")
                write_text(self._folder / TABLE, as_table(numbers))
        except OSError as error:
            logger.warning("%s could not be written: %s", self._folder / TABLE, error)


def read_numbers(folder: Path) -> Numbers:
    """Numbers of all runs so far; none where they are absent or damaged."""
    try:
        content = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))
        as_table(content)
    except (OSError, ValueError, TypeError, AttributeError, IndexError):
        return {}
    return content


def merged(old: Numbers, new: Numbers) -> Numbers:
    """Numbers of both; the new ones count for what is in both."""
    visits = sorted({*old, *new})
    return {visit: {**old.get(visit, {}), **new.get(visit, {})} for visit in visits}


def by_step(numbers: Mapping[str, Mapping[str, list[float]]]) -> dict[str, list[list[float]]]:
    """The same by step: one list of four numbers for every visit."""
    found: dict[str, list[list[float]]] = {}
    for steps in numbers.values():
        for step, used in steps.items():
            found.setdefault(step, []).append(used)
    return dict(sorted(found.items()))


def as_table(numbers: Numbers) -> str:
    """One row per step, tab-separated."""
    lines = ["\t".join(COLUMNS)]
    for step, used in by_step(numbers).items():
        seconds, cpu, peak, declared = zip(*used, strict=True)
        share = max(p / d for p, d in zip(peak, declared, strict=True) if d)
        cells = [f"{median(seconds):.1f}", f"{max(seconds):.1f}", f"{median(cpu):.1f}",
                 f"{median(peak):.0f}", f"{max(peak):.0f}", f"{max(declared):.0f}",
                 f"{share:.2f}"]  # fmt: skip
        lines.append("\t".join([step, str(len(used)), *cells]))
    return "\n".join(lines) + "\n"
