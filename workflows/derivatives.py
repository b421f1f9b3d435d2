"""The output folder: that it can be written, and the files that describe it and the run."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any
from urllib.parse import quote

from alsflow import __version__
from alsflow.interfaces import bids
from alsflow.interfaces.whole import partial_of
from alsflow.workflows import exits
from alsflow.workflows.cache import exclusive, write_text
from alsflow.workflows.checks import warn
from alsflow.workflows.container import container, vanishes
from alsflow.workflows.execute import run_name
from alsflow.workflows.exits import StopRunError
from alsflow.workflows.participant import results_folder
from alsflow.workflows.settings import Settings, as_toml

BIDS_VERSION = "1.10.0"
# Names that BIDS does not have, or has only in drafts.
BIDSIGNORE = """\
*.html
*_measures.tsv
*_bold.tsv
*_boldmap.*
*_boldref.*
*_desc-thresholded_mask.*
*_desc-voxel_mask.*
*_desc-voxel_probseg.*
*_dwi.bval
*_dwi.bvec
*_dwi.tsv
*_dwimap.*
*_dwiref.*
*_fieldmap.*
*_mask.tsv
*_model.json
*_morph.tsv
*_mrs.tsv
*_probseg.tsv
*_qc.json
*_relmat.tsv
*_statmap.*
*_timeseries.*
*_vbm.*
*_xfm.*
features*
figures
group
logs
manifest.json
status.tsv
"""


def prepare_output(settings: Settings) -> None:
    """Make the folders, and the files that describe the dataset and the run."""
    _keepable(settings)
    _temporary()
    for folder in (settings.output_dir / "logs", settings.work_dir):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = partial_of(folder / "probe")
            probe.touch()
            probe.unlink(missing_ok=True)  # another run may have swept it away by now
        except OSError as error:
            raise StopRunError(
                exits.CANNOT_CREATE,
                f"{folder} cannot be written ({error.strerror}); choose another folder or change "
                f"its permissions{_as_who()}.",
            ) from None
    with exclusive(settings.output_dir / "logs" / ".lock"):
        write_text(settings.output_dir / ".bidsignore", BIDSIGNORE)
        text = json.dumps(description(settings), indent=2) + "\n"
        write_text(settings.output_dir / "dataset_description.json", text)
        write_text(settings.output_dir / "logs" / f"{run_name(settings)}.toml", as_toml(settings))


def _keepable(settings: Settings) -> None:
    """Refuse results, and warn of intermediate ones, that would go when the container goes."""
    lost = "lies inside the container and is lost with it; mount a folder there"
    if vanishes(settings.output_dir):
        raise StopRunError(
            exits.CANNOT_CREATE,
            f"The output folder {settings.output_dir} {lost}, such as "
            f"-v /data/derivatives:{settings.output_dir}.",
        )
    if vanishes(settings.work_dir):
        warn(f"the working directory {settings.work_dir} {lost} to have a fast second run.")


def _temporary() -> None:
    """Refuse to begin where libraries find no place for temporary files."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        raise StopRunError(
            exits.CANNOT_CREATE,
            "There is no folder for temporary files; set TMPDIR to one that can be written; "
            "to the command of a read-only container add --tmpfs /tmp.",
        ) from None


def _as_who() -> str:
    """In a container, the most frequent reason why a folder cannot be written."""
    if not container():
        return ""
    if container().get("Type") == "podman":
        return ", and run the container as yourself (--userns=keep-id)"
    return ', and run the container as yourself (--user "$(id -u):$(id -g)")'


def description(settings: Settings) -> dict:
    """Content of the dataset_description.json of the derivatives."""
    source = {}
    raw = settings.bids_dir / "dataset_description.json"
    if raw.is_file():
        try:
            source = json.loads(raw.read_text(encoding="utf-8-sig"))
        except ValueError:
            source = {}
    # relative: no names of machines and people in what is shared
    entry = {"URL": quote(os.path.relpath(settings.bids_dir, settings.output_dir))}
    if source.get("DatasetDOI"):
        entry["DOI"] = str(source["DatasetDOI"])
    checked = f"BIDS files checked by {settings.checked_by or bids.validator_version()}"
    skipped = "BIDS validation was skipped"
    unchecked = settings.skip_bids_validation and not settings.checked_by
    generated: dict[str, Any] = {
        "Name": "alsflow",
        "Version": __version__,
        "Description": skipped if unchecked else checked,
    }
    if container():
        generated["Container"] = container()
    return {
        "Name": f"alsflow - {source.get('Name', 'derivatives')}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [generated],
        "SourceDatasets": [entry],
        "DatasetLinks": _links(settings),
    }


def _links(settings: Settings) -> dict[str, str]:
    """What the names in ``bids:raw:...`` and the like stand for; those of earlier runs stay."""
    try:
        earlier = json.loads((settings.output_dir / "dataset_description.json").read_text())
        links = dict(earlier["DatasetLinks"])
    except (OSError, ValueError, KeyError, TypeError):
        links = {}
    found = {"raw": settings.bids_dir, "lcmodel": results_folder(settings)}
    return links | {
        name: quote(os.path.relpath(folder, settings.output_dir))
        for name, folder in found.items()
        if folder is not None
    }
