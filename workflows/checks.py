"""What is checked and told before anything is computed or written."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table

from alsflow.interfaces import bids
from alsflow.workflows import exits
from alsflow.workflows.exits import StopRunError
from alsflow.workflows.manifest import Entry
from alsflow.workflows.participant import INSTEAD, queries_of
from alsflow.workflows.settings import Settings

ERRORS_SHOWN = 10
RESULTS = ("alsflow_wf", "group_wf")  # folders of old results in a working directory
SYMBOLS = {"not-run": "will run", "absent": "missing", "refused": "refused"}


def warn(text: str) -> None:
    """One sentence on standard error."""
    with suppress(OSError):  # nobody may be listening any more
        print(f"alsflow: {text}", file=sys.stderr, flush=True)


def check_output_place(settings: Settings) -> None:
    """Refuse to write into the input dataset, or over a raw one."""
    bids_dir, output_dir = settings.bids_dir, settings.output_dir
    for name, folder in (("output folder", output_dir), ("working directory", settings.work_dir)):
        if folder.is_relative_to(bids_dir):
            inside = folder.relative_to(bids_dir).parts
            if len(inside) < 2 or inside[0] != "derivatives":
                raise StopRunError(
                    exits.CANNOT_CREATE,
                    f"The {name} {folder} lies inside the dataset {bids_dir}; choose one outside "
                    f"it, or {bids_dir / 'derivatives' / 'alsflow'}.",
                )
    description = output_dir / "dataset_description.json"
    if description.is_file():
        try:
            kind = json.loads(description.read_text(encoding="utf-8")).get("DatasetType", "raw")
        except (OSError, ValueError, AttributeError):
            kind = "unknown"
        if kind == "raw":
            raise StopRunError(
                exits.CANNOT_CREATE,
                f"The output folder {output_dir} is a raw dataset; choose another one.",
            )


def check_work_place(settings: Settings) -> None:
    """Refuse old results in the working directory that a stranger may have put there.

    Results are unpickled, and a pickle can run any program as whoever reads it. What counts is a
    folder of somebody else in which everybody may write, such as ``/tmp`` itself: there, whatever
    is not our own may be anybody's.
    """
    work_dir, us = settings.work_dir, os.geteuid()
    try:
        status = work_dir.stat()
        if status.st_uid == us or not status.st_mode & stat.S_IWOTH:
            return
        strange = [path for path in sorted(work_dir.iterdir()) if path.lstat().st_uid != us]
    except OSError:  # not there, or not to be read: said when it is made
        return
    found = [path for path in strange if path.name in RESULTS]
    if found:
        raise StopRunError(
            exits.CANNOT_CREATE,
            f"Everybody may write into the working directory {work_dir}, and its {found[0].name} "
            "is somebody else's; reading it could run their programs in your name. Give "
            "--work-dir a folder of your own.",
        )


def validate(settings: Settings, participants: Sequence[str], datatypes: Sequence[str]) -> None:
    """Stop at errors of the BIDS validator in what this run reads."""
    if settings.skip_bids_validation:
        return
    result = bids.validate(settings.bids_dir, participants, datatypes)
    if result.elsewhere:
        warn(
            f"the BIDS validator found {result.elsewhere} errors in files that this run does not "
            "read."
        )
    if result.errors:
        shown = "\n  ".join(result.errors[:ERRORS_SHOWN])
        more = len(result.errors) - ERRORS_SHOWN
        more_text = f"\n  and {more} more" if more > 0 else ""
        raise StopRunError(
            exits.INVALID_DATASET,
            f"{settings.bids_dir} is not valid BIDS ({result.version}); mend these, or give "
            f"--skip-bids-validation:\n  {shown}{more_text}",
        )


def warn_about_participants(settings: Settings, visits: Sequence[bids.Visit]) -> None:
    """People who are not in participants.tsv can be processed, but not enter the group level."""
    listed = bids.participants_listed(settings.bids_dir)
    if listed is None:
        warn(f"{settings.bids_dir} has no participants.tsv; the group level will need one.")
        return
    missing = sorted({visit.participant for visit in visits} - listed)
    if missing:
        names = ", ".join(f"sub-{label}" for label in missing)
        warn(f"participants.tsv does not list {names}; the group level will have n/a for them.")
    absent = sorted(listed - bids.participants_present(settings.bids_dir))
    if absent and not settings.participant_label:
        names = ", ".join(f"sub-{label}" for label in absent)
        warn(f"participants.tsv lists {names}, but the dataset has no such folder.")


def tell_selection(selection: bids.Selection, bids_dir: Path, verbose: bool) -> None:
    """Say who falls out; if verbose, every file that is read and every file left out."""
    if selection.without:
        names = ", ".join(f"sub-{label}" for label in selection.without)
        warn(f"{names} have none of the sessions asked for.")
    if not verbose:
        return
    for visit in selection.visits:
        for query, paths in visit.files.items():
            for path in paths:
                print(f"selected  {path.relative_to(bids_dir)}  ({query})", file=sys.stderr)
    for entry in selection.rejected:
        print(f"rejected  {entry.path.relative_to(bids_dir)}  ({entry.rule})", file=sys.stderr)


def show_requirements(visits: Sequence[bids.Visit], entries: Sequence[Entry]) -> None:
    """Table of what was found, what is missing and what will run."""
    table = Table("visit", "stream", "found", "what happens", "reason")
    for visit in visits:
        for entry in entries:
            if entry.belongs_to(visit):
                queries = [*queries_of([entry.stream]), INSTEAD.get(entry.stream, "")]
                paths = [path for query in queries for path in visit.files.get(query, ())]
                found = ", ".join(path.name for path in paths) or "none"
                state = SYMBOLS[entry.state]
                table.add_row(visit.prefix, entry.stream, found, state, entry.reason or "")
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)
    ready = sum(entry.state == "not-run" for entry in entries)
    print(f"{ready} of {len(entries)} streams would run; nothing was written.")
