"""Empties a working directory: only one of ours, and only while nobody computes in it."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path

from alsflow.workflows import exits
from alsflow.workflows.cache import locked
from alsflow.workflows.exits import StopRunError
from alsflow.workflows.settings import Settings
from alsflow.workflows.slurm import jobs as slurm_jobs

LOCKS = "locks"  # stays: whoever waits for a lock holds its file open
OURS = ("alsflow_wf", "group_wf", slurm_jobs.FOLDER, "file_hashes.json", "file_hashes.lock",
        "code.json", "history.json", "history.lock")  # fmt: skip
REMOVED = ".removed."  # start of the names of what is being removed


def clean_work_dir(settings: Settings) -> None:
    """Remove all intermediate results, or refuse in one sentence.

    Parameters
    ----------
    settings : Settings
        Names the working directory, and the folders that must not lie in it.
    """
    work_dir = settings.work_dir.resolve()
    if not work_dir.is_dir():
        return
    entries = [path for path in work_dir.iterdir() if path.name != LOCKS]
    if not entries:
        return
    _refuse_foreign(work_dir, entries)
    _refuse_holding(work_dir, settings)
    if (work_dir / slurm_jobs.FOLDER / slurm_jobs.ACTIVE).exists():
        raise StopRunError(
            exits.CANNOT_CREATE,
            f"Jobs of an earlier run may still be computing in {work_dir}, which therefore is not "
            "emptied; give the same command without --clean-workdir first: it waits for them.",
        )
    with ExitStack() as stack:
        for path in sorted((work_dir / LOCKS).glob("*.lock")):
            if not locked(stack.enter_context(path.open("a")), wait=False):
                raise StopRunError(
                    exits.CANNOT_CREATE,
                    f"Another run is computing {path.stem} in the working directory {work_dir}, "
                    "which therefore cannot be emptied; wait for it, or choose another one.",
                )
        for path in entries:
            _remove(path)


def _refuse_foreign(work_dir: Path, entries: list[Path]) -> None:
    foreign = [p.name for p in entries if p.name not in OURS and not p.name.startswith(REMOVED)]
    if foreign or not (work_dir / LOCKS).is_dir():
        what = f"it holds {min(foreign)}" if foreign else f"it holds no folder {LOCKS}"
        raise StopRunError(
            exits.CANNOT_CREATE,
            f"{work_dir} is no working directory of this program ({what}) and is not emptied; "
            "move what is not the program's away, or choose another one with --work-dir.",
        )


def _refuse_holding(work_dir: Path, settings: Settings) -> None:
    places = {
        "the dataset": settings.bids_dir,
        "the output folder": settings.output_dir,
        **{f"the derivatives {name}": path for name, path in settings.derivatives.items()},
    }
    for name, path in places.items():
        if path.resolve().is_relative_to(work_dir):
            raise StopRunError(
                exits.CANNOT_CREATE,
                f"The working directory {work_dir} holds {name} and is not emptied; choose "
                "another one with --work-dir.",
            )


def _remove(path: Path) -> None:
    """Remove a file or folder; what is left of it if that is interrupted has another name."""
    aside = path
    if not path.name.startswith(REMOVED):
        aside = path.with_name(f"{REMOVED}{os.getpid()}.{path.name}")
        os.replace(path, aside)
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside)
    else:
        aside.unlink()
