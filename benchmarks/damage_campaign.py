"""Damages files of a finished run at random, runs it again, and compares what comes out of it.

    python benchmarks/damage_campaign.py FOLDER [--trials 50] [--seed 7] [--keep-work failed]

The cohort and the run that everything is compared with are those of `fault_campaign`, and may
share its FOLDER. Trial follows trial on a copy of that run: some files of the working directory
or of the derivatives are cut, emptied, removed, filled with zeros, changed in one byte, or take
the content of another file, and both levels are run again. Afterwards the derivatives are those
of the reference, byte by byte, nothing is left over, and the exit codes are 0. The table goes to
FOLDER/damage.tsv as it grows, and its sums to standard output as Markdown; the exit code is 0 if
every line is as it should be.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from fault_campaign import LEVELS, PATIENCE, Place, fit, judge, prepare

MOST = 4  # files in one trial
NOT_OURS = ("locks/*", "*.lock", "logs/*.log", "logs/*.toml")
ON_PAPER = "sub-paper"  # people whose tables no run makes


@dataclass
class Trial:
    """One line of the table."""

    number: int
    damage: str
    where: str
    files: str
    exit_codes: str = ""
    recomputed: int = 0
    seconds: float = 0.0
    identical: str = ""


def flip(path: Path, rng: random.Random) -> None:
    """Change one byte."""
    content = bytearray(path.read_bytes() or b"x")
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def cut(path: Path, rng: random.Random) -> None:
    """Leave the start."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content) or 1)])


def zeros(path: Path, rng: random.Random) -> None:
    """What a power cut leaves: the size, and nothing in it."""
    path.write_bytes(bytes(path.stat().st_size))


def swap(path: Path, rng: random.Random) -> None:
    """Put the content of a neighbour in its place."""
    others = [other for other in path.parent.iterdir() if other.is_file() and other != path]
    path.write_bytes(rng.choice(sorted(others)).read_bytes() if others else b"something else")


DAMAGE: dict[str, Callable[[Path, random.Random], object]] = {
    "one byte": flip,
    "cut off": cut,
    "zeros": zeros,
    "empty": lambda path, rng: path.write_bytes(b""),
    "gone": lambda path, rng: path.unlink(),
    "content of another file": swap,
}


def damageable(folder: Path) -> list[Path]:
    """Files of ours that somebody could read."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [
        path
        for path in found
        if not path.relative_to(folder).parts[0].startswith(ON_PAPER)
        and not any(path.match(pattern) for pattern in NOT_OURS)
    ]


def trial(place: Place, number: int, reference: Place, rng: random.Random) -> Trial:
    """Damage some files, run both levels, and compare."""
    where = rng.choice(["work", "out"])
    kind = rng.choice(list(DAMAGE))
    files = damageable(place.root / where)
    chosen = rng.sample(files, min(len(files), rng.randint(1, MOST)))
    for path in chosen:
        DAMAGE[kind](path, rng)
    names = " ".join(path.relative_to(place.root / where).as_posix() for path in chosen)
    found = Trial(number, kind, {"work": "working directory", "out": "derivatives"}[where], names)
    codes, start = [], time.monotonic()
    for level in LEVELS:
        codes.append(str(place.start(level).wait(PATIENCE)))
        found.recomputed += sum(event == "done in" for _, _, event in place.log(level))
    found.exit_codes, found.seconds = " ".join(codes), time.monotonic() - start
    found.identical = judge(place, reference)
    return found


def table(trials: list[Trial]) -> str:
    """Every trial."""
    rows = [[name.name.replace("_", " ") for name in fields(Trial)]]
    for entry in trials:
        rows.append([f"{v:.1f}" if isinstance(v, float) else str(v) for v in astuple(entry)])
    return "".join("\t".join(row) + "\n" for row in rows)


def sums(trials: list[Trial]) -> str:
    """Trials by damage and place, as Markdown."""
    groups: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    for entry in trials:
        groups[entry.damage, entry.where].append(entry)
    text = "| damage | in the | trials | files | steps computed again | identical |\n"
    text += "|---|---|---|---|---|---|\n"
    for (damage, where), mine in sorted(groups.items()):
        files = sum(len(entry.files.split()) for entry in mine)
        steps = sum(entry.recomputed for entry in mine)
        good = Counter(entry.identical == "yes" for entry in mine)[True]
        text += f"| {damage} | {where} | {len(mine)} | {files} | {steps} | {good} |\n"
    return text


def main() -> int:
    """Run the trials; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--nprocs", type=int, default=2)
    parser.add_argument("--keep-work", choices=["all", "failed", "none"], default="failed")
    parser.add_argument("--participant-label", nargs="+", default=[], help="by default both")
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    people, cohort = tuple(options.participant_label), prepare(folder)
    reference = Place(cohort, folder / "reference", options.nprocs, people)
    fit(reference)
    place = Place(cohort, folder / "damage", options.nprocs, people, options.keep_work)
    shutil.rmtree(place.root, ignore_errors=True)
    shutil.copytree(reference.root, place.root, symlinks=True)
    for level in LEVELS:
        if code := place.start(level).wait(PATIENCE):
            sys.exit(f"exit code {code} before anything was damaged; see {place.root}")
    rng, trials = random.Random(options.seed), []
    for number in range(1, options.trials + 1):
        trials.append(trial(place, number, reference, rng))
        (folder / "damage.tsv").write_text(table(trials))
        if (trials[-1].identical, trials[-1].exit_codes) != ("yes", "0 0"):
            print(f"trial {number} did not heal; see {place.root}: {trials[-1]}")
            break
    print(sums(trials))
    return int(any(t.identical != "yes" or t.exit_codes != "0 0" for t in trials))


if __name__ == "__main__":
    sys.exit(main())
