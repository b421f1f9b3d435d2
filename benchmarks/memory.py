"""Memory, minutes and processor time declared against measured, for every step of some people.

    python benchmarks/memory.py [DATASET LABEL ...] [--folder DIR] [--per-person]

Runs the participant level on one process (steps that are cached in DIR are not computed again) and
holds what every step has left in its record against ``workflows/data/resources.toml`` at the size
of its input. Without a dataset: the first person of ``bids_example`` and ``sub-sf02``,
``sub-cr``, ``sub-xa30`` and ``sub-uihA`` of the reference data, as far as they are there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from alsflow.interfaces.bids import Visit, select_visits
from alsflow.workflows.cache import RECORD, stored_record
from alsflow.workflows.names import step_of
from alsflow.workflows.participant import STREAMS, WORKFLOW, queries_of
from alsflow.workflows.resources import MB_PER_GB, Need, row_of, sizes_of, table
from alsflow.workflows.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared/data/realdata"
PEOPLE = {ROOT / "bids_example": ["01"], REAL: ["cr", "sf02", "xa30", "uihA"]}
LEAST_SHARE, MOST_SHARE = 0.5, 0.95  # of what is declared that is measured where most is


@dataclass(frozen=True)
class Measured:
    """One step of one person."""

    person: str
    step: str
    need: Need
    peak_mb: float
    cpu_minutes: float

    @property
    def share(self) -> float:
        """Measured memory over declared."""
        return self.peak_mb / (self.need.memory_gb * MB_PER_GB)


def measure(bids_dir: Path, labels: list[str], folder: Path) -> list[Measured]:
    """Run some people and read their records."""
    work = folder / f"work_{bids_dir.name}"
    command = [sys.executable, "-m", "alsflow", bids_dir, folder / f"out_{bids_dir.name}",
               "participant", "-w", work, "--participant-label", *labels, "--nprocs", "1",
               "--omp-nthreads", "1", "--skip-bids-validation"]  # fmt: skip
    subprocess.run([str(word) for word in command], check=False)
    found = []
    for visit in select_visits(bids_dir, labels, (), queries_of(list(STREAMS))).visits:
        settings = Settings(bids_dir, folder, "participant")
        found += _of_visit(visit, work / WORKFLOW / f"{visit.name}_wf", settings)
    return found


def _of_visit(visit: Visit, folder: Path, settings: Settings) -> list[Measured]:
    sizes, found = sizes_of(visit, settings), []
    for path in sorted(folder.rglob(RECORD)):
        record = stored_record(path)
        step = step_of(".".join(path.parent.relative_to(folder).parts))
        if record.get("peak_mb"):
            found.append(Measured(visit.prefix, step, row_of(step).need(sizes),
                                  record["peak_mb"], record["cpu_seconds"] / 60))  # fmt: skip
    return found


def by_step(measured: list[Measured]) -> dict[str, list[Measured]]:
    """The same by step, in the order of the table."""
    known = {step: place for place, step in enumerate(table()["step"])}
    found: dict[str, list[Measured]] = {}
    for entry in sorted(measured, key=lambda m: (known.get(m.step, len(known)), m.step)):
        found.setdefault(entry.step, []).append(entry)
    return found


def judged(entries: list[Measured]) -> str:
    """What is wrong with a row of the table."""
    most = max(entry.share for entry in entries)
    return "TOO LITTLE" if most > MOST_SHARE else "too much" if most < LEAST_SHARE else ""


def report(measured: list[Measured], per_person: bool) -> None:
    """Print one line per step: measured and declared MB where most was used, and the minutes."""
    print(f"{'step':42} {'person':12} {'measured':>8} {'declared':>8} {'share':>6} "
          f"{'CPU min':>8} {'declared':>8}")  # fmt: skip
    for step, entries in by_step(measured).items():
        largest = max(entries, key=lambda entry: entry.share)
        for entry in sorted(entries, key=lambda e: e.peak_mb) if per_person else [largest]:
            declared_mb = entry.need.memory_gb * MB_PER_GB
            print(f"{step:42} {entry.person:12} {entry.peak_mb:8.0f} {declared_mb:8.0f} "
                  f"{entry.share:6.2f} {entry.cpu_minutes:8.3f} {entry.need.minutes:8.3f} "
                  f"{judged(entries)}")  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", type=Path)
    parser.add_argument("labels", nargs="*")
    parser.add_argument("--folder", type=Path, default=Path("memory_benchmark"))
    parser.add_argument("--per-person", action="store_true")
    options = parser.parse_args()
    people = {options.dataset: options.labels} if options.dataset else PEOPLE
    measured: list[Measured] = []
    for bids_dir, labels in people.items():
        if bids_dir.is_dir():
            measured += measure(bids_dir.resolve(), labels, options.folder.resolve())
    report(measured, options.per_person)


if __name__ == "__main__":
    main()
