"""Kills runs at random moments, starts them again, and compares what comes out of it.

    python benchmarks/fault_campaign.py FOLDER [--kills 50] [--seed 7] [--nprocs 2]

A small cohort with all streams is simulated, and one run of both levels is the reference. Then
campaign follows campaign, each with folders of its own: a run is started, at a random moment a
random victim is killed with SIGKILL, and what ended is started again, until participant and group
level have come to their end with code 0. After every kill nothing half-written may lie in the
output folder under a name that a reader could take for whole; at the end of every campaign the
derivatives are those of the reference, byte by byte, and nothing is left over. The table goes to
FOLDER/kills.tsv as it grows, and to standard output as Markdown at the end; the exit code is 0 if
every line of it is as it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "workflows" / "helpers"))

import derivatives
import numpy as np
import paper_cohort

COHORT = [
    *("--n-als", "1", "--n-controls", "1", "--sites", "1", "--seed", "7"),
    *("--modalities", "anat", "dwi", "func", "mrs", "--resolution", "3", "--mrs-failures", "0"),
    *("--dwi-directions", "6", "--dwi-voxel", "5", "--func-volumes", "90", "--func-voxel", "5.5"),
]
SETTINGS = """\
skip_bids_validation = true
[anat]
template_voxel = 4.0
[func]
template_voxel = 6.0
denoising = "calsnic"
[group]
covariates = []
"""
VICTIMS = {"node": 8, "driver": 5, "everything": 3, "server": 2, "idle worker": 2}  # odds
LEVELS = ("participant", "group")
ON_PAPER = 10  # people with a table of measures alone: the group level needs more than two
MOST = 20  # kills in one campaign, by default
FOR_GROUP = 4  # of them, kept for the group level
PATIENCE = 1800.0  # s after which a run that does not end has hung
LINE = re.compile(r"\s*(\d+) ms  alsflow  (\S+) (started in process|done in|failed|cached)")


@dataclass
class Kill:
    """One line of the table."""

    number: int
    campaign: int
    level: str
    victim: str
    moment: float  # s after the start of that run
    steps_done: int
    exit_code: str = ""  # of the run that was hit
    recomputed: int = 0  # steps that were lost
    lost: float = 0.0  # s that they had taken until then
    identical: str = ""


@dataclass
class Place:
    """Folders of one campaign."""

    cohort: Path
    root: Path
    nprocs: int
    people: tuple[str, ...] = ()
    keep_work: str = "all"
    out: Path = field(init=False)

    def __post_init__(self):
        self.out = self.root / "out"

    def start(self, level: str) -> subprocess.Popen:
        """A run of one level in a session of its own."""
        config = self.cohort.parent / "campaign.toml"
        lcmodel = self.cohort / "derivatives" / "lcmodel"
        command = [sys.executable, "-m", "alsflow", str(self.cohort), str(self.out), level,
                   "-w", str(self.root / "work"), "--config-file", str(config),
                   "--nprocs", str(self.nprocs), "--derivatives", f"lcmodel={lcmodel}",
                   "--keep-work", self.keep_work]  # fmt: skip
        if level == "participant" and self.people:
            command += ["--participant-label", *self.people]
        said = (self.root / "said.txt").open("a")
        return subprocess.Popen(command, stderr=said, stdout=said, start_new_session=True)

    def add_people(self) -> None:
        """Put people on paper into the output folder, the same ones each time."""
        rng = np.random.default_rng(5)
        for person in _on_paper():
            label = person["participant_id"]
            values = paper_cohort.true_measures(person, rng, {})
            paper_cohort.write_measures(self.out, label, values)

    def log(self, level: str) -> list[tuple[float, str, str]]:
        """Seconds, step and what happened to it, from the log of the last run of a level."""
        logs = sorted((self.out / "logs").glob(f"{level}-*.log"), key=lambda p: p.stat().st_mtime)
        text = logs[-1].read_text(encoding="utf-8", errors="replace") if logs else ""
        found = (LINE.match(line) for line in text.splitlines())
        return [(int(match[1]) / 1000, match[2], match[3]) for match in found if match]


def _on_paper() -> list[dict[str, str]]:
    everybody = paper_cohort.people(ON_PAPER)
    return [p | {"participant_id": f"sub-paper{i:02d}"} for i, p in enumerate(everybody)]


def list_people(cohort: Path) -> None:
    """Add the people on paper to ``participants.tsv``."""
    path = cohort / "participants.tsv"
    columns = path.read_text().splitlines()[0].split("\t")
    with path.open("a") as table:
        for person in _on_paper():
            table.write("\t".join(person.get(name, "n/a") for name in columns) + "\n")


# ---------------------------------------------------------------------------- processes


def family(driver: int) -> tuple[list[int], list[int]]:
    """Fork servers of a driver, and their workers, from ``/proc``."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if stat[0] != "Z" and b"forkserver" in command:
                children.setdefault(int(stat[1]), []).append(int(folder.name))
    servers = children.get(driver, [])
    return servers, [worker for server in servers for worker in children.get(server, [])]


def at_work(worker: int, place: Place) -> bool:
    """Whether a worker computes a node: then it stands in the folder of that node."""
    try:
        return Path(f"/proc/{worker}/cwd").resolve() != (place.root / "work").resolve()
    except OSError:
        return False


def strike(victim: str, driver: int, place: Place, rng: random.Random) -> str:
    """Kill one victim of its kind, or whatever there is; returns what was killed."""
    servers, workers = family(driver)
    busy = [pid for pid in workers if at_work(pid, place)]
    idle = [pid for pid in workers if pid not in busy]
    kinds = {"node": busy, "idle worker": idle, "server": servers, "driver": [driver]}
    if victim == "everything":
        for pid in [driver, *servers, *workers]:
            _kill(pid)
        return victim
    victim = victim if kinds[victim] else "node" if busy else "driver"
    _kill(rng.choice(sorted(kinds[victim])))
    return victim


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def interrupted(log: list[tuple[float, str, str]], now: float) -> dict[str, float]:
    """Steps that were being computed, and for how many seconds."""
    running: dict[str, float] = {}
    for seconds, step, event in log:
        if event.startswith("started"):
            running[step] = seconds
        else:
            running.pop(step, None)
    return {step: max(0.0, now - seconds) for step, seconds in running.items()}


# ---------------------------------------------------------------------------- campaigns


def prepare(folder: Path) -> Path:
    """Simulated cohort in `folder`, and the settings beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "campaign.toml").write_text(SETTINGS)
    os.environ["ALSFLOW_ATLAS_DIR"] = str(folder / "no_atlases")  # those that come with it
    cohort = folder / "cohort"
    if not cohort.is_dir():
        code = "import sys; from alsflow.cli_simulate import main; sys.exit(main(sys.argv[1:]))"
        subprocess.run([sys.executable, "-c", code, str(cohort), *COHORT], check=True)
        list_people(cohort)
    return cohort


def fit(place: Place) -> dict[str, float]:
    """Run both levels in peace; returns their seconds."""
    known = place.root / "seconds.json"
    if known.is_file():
        return json.loads(known.read_text())
    place.root.mkdir(parents=True, exist_ok=True)
    seconds = {}
    for level in LEVELS:
        if level == "group":
            place.add_people()
        start = time.monotonic()
        if place.start(level).wait():
            sys.exit(f"the reference run failed; see {place.root / 'said.txt'}")
        seconds[level] = time.monotonic() - start
    known.write_text(json.dumps(seconds))
    return seconds


def campaign(
    place: Place, number: int, first: int, most: int, usual: dict[str, float], rng: random.Random
) -> Iterator[Kill]:
    """Run both levels to their end through at most `most` kills."""
    left = most
    for level in LEVELS:
        if level == "group":
            place.add_people()
        keep = min(FOR_GROUP, most // 4) if level == "participant" else 0
        between = 2 * usual[level] / max(left - keep, 1)  # s, at most: spread over the run
        code = None
        while code != 0:
            process, start = place.start(level), time.monotonic()
            hit = None
            while left > keep and process.poll() is None:
                due = rng.uniform(0.2, between)
                if _ended(process, due):
                    break
                [victim] = rng.choices(list(VICTIMS), list(VICTIMS.values()))
                if victim not in ("driver", "everything"):
                    _await_work(process, place)  # a run that is starting has no such process yet
                before, moment = place.log(level), time.monotonic() - start
                if process.poll() is not None:
                    break
                victim = strike(victim, process.pid, place, rng)
                lost = interrupted(before, moment)
                if victim == "idle worker":
                    lost = {}
                elif victim == "node":
                    lost = dict(list(lost.items())[:1])
                done = sum(event.startswith(("done", "cached")) for _, _, event in before)
                hit = Kill(first, number, level, victim, moment, done,
                           recomputed=len(lost), lost=sum(lost.values()))  # fmt: skip
                first, left = first + 1, left - 1
                ended = _ended(process, 3.0)
                if not ended:
                    hit.exit_code = "goes on"
                    yield hit
            if not _ended(process, PATIENCE):
                os.killpg(process.pid, signal.SIGKILL)
                sys.exit(f"campaign {number} hangs; see {place.root}")
            code = process.returncode
            if hit is not None and not hit.exit_code:
                hit.exit_code = str(code)
                yield hit
            elif hit is not None:
                hit.exit_code = f"goes on, {code}"
            if found := derivatives.halves(place.out, temporary=False):
                sys.exit(f"campaign {number}: {found}")
            if code not in (0, 1, -signal.SIGKILL):
                sys.exit(f"campaign {number}: exit code {code}; see {place.root}")


def _await_work(process: subprocess.Popen, place: Place) -> None:
    """Wait until a worker computes a step, or the run ends."""
    while not _ended(process, 0.2):
        if any(at_work(worker, place) for worker in family(process.pid)[1]):
            return


def _ended(process: subprocess.Popen, seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def judge(place: Place, reference: Place) -> str:
    """``yes``, or what is not as in the reference."""
    wrong = derivatives.halves(place.out)
    wrong += derivatives.differences(reference.out, place.out)
    return "; ".join(wrong) or "yes"


def table(kills: list[Kill], separator: str) -> str:
    """Lines of the table."""
    rows = [[name.name.replace("_", " ") for name in fields(Kill)]]
    if separator == " | ":
        rows.append(["---"] * len(rows[0]))
    for kill in kills:
        cells = (f"{v:.1f}" if isinstance(v, float) else str(v) for v in astuple(kill))
        rows.append(list(cells))
    edges = ("| ", " |") if separator == " | " else ("", "")
    return "".join(edges[0] + separator.join(row) + edges[1] + "\n" for row in rows)


def main() -> int:
    """Run the campaigns; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--nprocs", type=int, default=2)
    parser.add_argument("--in-one", type=int, default=MOST, help="kills in one campaign")
    parser.add_argument("--participant-label", nargs="+", default=[], help="by default both")
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    people = tuple(options.participant_label)
    cohort = prepare(folder)
    reference = Place(cohort, folder / "reference", options.nprocs, people)
    usual = fit(reference)
    print("reference:", ", ".join(f"{name} {value:.0f} s" for name, value in usual.items()))
    rng, kills, number = random.Random(options.seed), [], 0
    started = time.monotonic()
    while len(kills) < options.kills:
        number += 1
        place = Place(cohort, folder / f"campaign{number}", options.nprocs, people)
        shutil.rmtree(place.root, ignore_errors=True)
        place.root.mkdir()
        most = min(options.in_one, options.kills - len(kills))
        mine = []
        for kill in campaign(place, number, len(kills) + 1, most, usual, rng):
            mine.append(kill)
            kills.append(kill)
            (folder / "kills.tsv").write_text(table(kills, "\t"))
        verdict = judge(place, reference)
        for kill in mine:
            kill.identical = verdict
        (folder / "kills.tsv").write_text(table(kills, "\t"))
        if verdict == "yes":
            shutil.rmtree(place.root)
    print(f"{len(kills)} kills in {number} campaigns, {(time.monotonic() - started) / 60:.0f} min")
    print(table(kills, " | "))
    return int(any(kill.identical != "yes" for kill in kills))


if __name__ == "__main__":
    sys.exit(main())
