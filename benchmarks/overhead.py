"""What a run costs beside its computations: cached steps, and the way around computed ones.

    python benchmarks/overhead.py FOLDER [--people 12] [--runs 3]

Two studies are made in FOLDER, where they are not there yet:

- a toy of 100 people with three steps on text files each (300 steps), which shows what a step
  costs when there is nothing to compute;
- one small simulated person with scans of all four streams, really computed, and copies of the
  dataset, the fits and the working directory of this person under other labels. A first run on
  all of them computes what holds the label (the last steps of each stream); after it, everything
  is cached, report pages are written, and nothing else happens.

Times are from the start of the command line to its end; CPU and memory are those of the program
and of what it has started.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

HELPERS = Path(__file__).resolve().parents[1] / "tests" / "workflows" / "helpers"
TOY_PEOPLE, TOY_STEPS = 100, 3
DATASET = '{"Name": "overhead", "BIDSVersion": "1.9.0"}'
TEXT = (".json", ".tsv")


@dataclass(frozen=True)
class Cost:
    """What one command has cost."""

    seconds: float
    cpu: float  # s
    memory: float  # MB, of the largest process


def measured(command: list[str | Path]) -> Cost:
    """Run a command and say what it has cost; a flagged result (code 1) is one too."""
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    assert process.stderr is not None
    text = process.stderr.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    if status >> 8 not in (0, 1) or "steps" not in text:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {status >> 8}:\n{text}")
    seconds = time.monotonic() - start
    return Cost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000)


def make_toy(root: Path) -> None:
    """Dataset of text files."""
    (root / "bids").mkdir(parents=True)
    (root / "bids" / "dataset_description.json").write_text(DATASET)
    for number in range(1, TOY_PEOPLE + 1):
        path = root / "bids" / f"sub-{number:03d}" / "anat" / f"sub-{number:03d}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        path.write_text(f"fine {number}")


def toy_command(root: Path) -> list[str | Path]:
    """Command line of the toy."""
    return [HELPERS / "run_toy.py", root / "bids", root / "out", "participant", "-w",
            root / "work", "--nprocs", "2", "--skip-bids-validation"]  # fmt: skip


def make_person(root: Path) -> None:
    """One simulated person with scans of all streams: 3 mm, a few volumes."""
    sys.path.insert(0, str(HELPERS))
    import dwi_clinic
    import mrs_clinic
    from clinic import simulate_good_person

    clinic = mrs_clinic.MrsClinic(root, "mrs", "svs")
    clinic.atlases.mkdir(parents=True)
    simulate_good_person(clinic, replace(mrs_clinic.WITH_FUNC, dwi=dwi_clinic.DWI))
    shutil.move(clinic.bids / "derivatives" / "lcmodel", clinic.results)
    shutil.rmtree(clinic.bids / "derivatives")


def study_command(root: Path) -> list[str | Path]:
    """Command line of the study, with the validator."""
    return ["-m", "alsflow", root / "bids", root / "out", "participant", "-w", root / "work",
            "--nprocs", "2", "--mem", "4G", "--keep-work", "all", "--derivatives",
            f"lcmodel={root / 'lcmodel'}"]  # fmt: skip


def clone(root: Path, label: str) -> None:
    """Copy a finished person under another label."""
    for folder in (root / "bids", root / "lcmodel"):
        for path in sorted((folder / "sub-01").rglob("*")):
            target = Path(str(path).replace("sub-01", f"sub-{label}"))
            if path.is_dir():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            content = path.read_bytes()
            if path.suffix in TEXT:
                content = content.replace(b"sub-01", f"sub-{label}".encode())
            target.write_bytes(content)
    work = root / "work" / "alsflow_wf"
    shutil.copytree(work / "sub_01_wf", work / f"sub_{label}_wf")
    with (root / "bids" / "participants.tsv").open("a") as table:
        rows = (root / "bids" / "participants.tsv").read_text().splitlines()
        row = next(row for row in rows if row.startswith("sub-01"))
        table.write(row.replace("sub-01", f"sub-{label}") + "\n")


def row(name: str, costs: list[Cost]) -> str:
    """One line of the table: medians."""
    seconds, cpu = (statistics.median(getattr(c, f) for c in costs) for f in ("seconds", "cpu"))
    return f"| {name} | {seconds:.1f} | {cpu:.1f} | {max(c.memory for c in costs):.0f} |"


def main() -> None:
    """Make what is not there, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    folder = given.folder.resolve()
    shutil.rmtree(folder / "toy", ignore_errors=True)
    toy, study = folder / "toy", folder / "study"
    make_toy(toy)
    fresh = measured(toy_command(toy))
    cached = [measured(toy_command(toy)) for _ in range(given.runs)]
    print("| run | s | CPU s | MB |\n|---|---|---|---|")
    print(row(f"{TOY_PEOPLE * TOY_STEPS} steps, computed on 2 processes", [fresh]))
    print(row(f"{TOY_PEOPLE * TOY_STEPS} steps, cached", cached), flush=True)
    start = statistics.median(cost.seconds for cost in cached)
    each = 1000 * (fresh.seconds - start) / (TOY_PEOPLE * TOY_STEPS)
    print(f"around each computed step: {each:.0f} ms", flush=True)
    if not (study / "bids").is_dir():
        make_person(study)
    if not (study / "out" / "sub-01").is_dir():
        print(row("1 person, all streams, computed", [measured(study_command(study))]), flush=True)
    missing = [f"{n:02d}" for n in range(2, given.people + 1)]
    missing = [label for label in missing if not (study / "bids" / f"sub-{label}").is_dir()]
    for label in missing:
        clone(study, label)
    if missing:
        print(row(f"{len(missing)} copies, their labels new", [measured(study_command(study))]))
    cached = [measured(study_command(study)) for _ in range(given.runs)]
    print(row(f"{given.people} people, all streams, cached", cached))


if __name__ == "__main__":
    main()
