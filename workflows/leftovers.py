"""What interrupted runs leave behind: temporary files that nobody will finish."""

from __future__ import annotations

from collections.abc import Iterable

from alsflow.interfaces.bids import Visit
from alsflow.interfaces.whole import leftovers, original_name
from alsflow.workflows.cache import exclusive
from alsflow.workflows.manifest import Entry
from alsflow.workflows.settings import Settings

LOCK = ".lock"
# Starts of the names of files that every run writes, and of those that the group level writes.
SHARED = (
    *("status.tsv", "manifest.json", "errors.tsv", "index.html", ".bidsignore"),
    *("dataset_description.json", "participant-", "group-", "probe", "resources."),
)
OF_THE_GROUP = {"features", "group.html", "analyses.html"}


def sweep(settings: Settings, entries: Iterable[Entry]) -> None:
    """Remove temporary files of killed runs, of those visits that this run has for itself.

    Parameters
    ----------
    settings : Settings
        Names the output folder and the working directory.
    entries : iterable of Entry
        What the run computes; its locks are held.
    """
    output_dir = settings.output_dir
    visits = [Visit(entry.participant, entry.session) for entry in entries if entry.participant]
    folders = {output_dir / visit.folder for visit in visits} or {output_dir / "group"}
    found = [path for folder in folders for path in leftovers(folder)]
    ours = {f"{visit.prefix}{end}" for visit in visits for end in ("_", ".")} or OF_THE_GROUP
    with exclusive(output_dir / "logs" / LOCK):  # whoever writes the shared files holds it too
        for folder in (output_dir, output_dir / "logs", output_dir / "logs" / "crash"):
            found += [
                path
                for path in leftovers(folder, deep=False)
                if original_name(path).startswith((*SHARED, *sorted(ours)))
            ]
        for path in found:
            path.unlink(missing_ok=True)
