"""Names of all outputs, from ``data/outputs.toml``, and the sink that writes them."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from nipype.pipeline.engine import Node

from alsflow.interfaces.atlas import resolve_deep_atlas
from alsflow.interfaces.bids import Visit
from alsflow.interfaces.derivatives import SaveOutputs
from alsflow.interfaces.template import SPACE
from alsflow.workflows.settings import Settings


@cache
def declared() -> dict[str, dict[str, dict[str, Any]]]:
    """Every output by stream and key, as declared."""
    text = (files("alsflow.workflows") / "data" / "outputs.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def names(visit: Visit, settings: Settings) -> dict[str, Any]:
    """What the braces of the table stand for."""
    return {
        "folder": visit.folder,
        "prefix": visit.prefix,
        "space": SPACE,
        "cortical_atlas": settings.anat.cortical_atlas,
        "deep_atlas": resolve_deep_atlas(
            settings.anat.subcortical_atlas, settings.anat.cortical_atlas
        ),
        "smoothing": settings.anat.smoothing,
    }


def wanted(stream: str, settings: Settings) -> dict[str, dict[str, Any]]:
    """Declared outputs that a stream writes under these settings."""
    own_deep_atlas = (
        resolve_deep_atlas(settings.anat.subcortical_atlas, settings.anat.cortical_atlas)
        != settings.anat.cortical_atlas
    )
    return {
        key: entry
        for key, entry in declared()[stream].items()
        if entry.get("when") != "deep" or own_deep_atlas
    }


def output_path(key: str, visit: Visit, settings: Settings) -> Path:
    """Path of one output; `key` is ``stream.name``, such as ``anat.gm``."""
    stream, name = key.split(".")
    return settings.output_dir / relative_path(declared()[stream][name], visit, settings)


def relative_path(entry: dict[str, Any], visit: Visit, settings: Settings) -> str:
    """Path of one declared output below the output folder."""
    return entry["path"].format(**names(visit, settings))


def requested(visit: Visit, stream: str, settings: Settings) -> dict[str, Path]:
    """All outputs that a stream must have produced to be done."""
    return {
        key: settings.output_dir / relative_path(entry, visit, settings)
        for key, entry in wanted(stream, settings).items()
    }


def sidecar(entry: dict[str, Any], visit: Visit, settings: Settings, source: str) -> dict:
    """Content of the JSON file beside an output."""
    known = names(visit, settings)
    fields = {}
    for field, value in entry.get("fields", {}).items():
        # a lone name keeps its type: a number stays a number
        lone = isinstance(value, str) and value.startswith("{") and value.endswith("}")
        fields[field] = known[value[1:-1]] if lone else value
    return {"Description": entry["about"] + ".", "Sources": [source], **fields}


def sink(stream: str, visit: Visit, settings: Settings, source: str) -> Node:
    """Node that writes all outputs of a stream, one input ``<key>_file`` for each.

    They land together, when the last is known: a stream that fails leaves nothing behind that
    could be taken for whole.

    Parameters
    ----------
    stream : str
        Such as ``anat``.
    visit : Visit
        Whose outputs.
    settings : Settings
        Settings of the run.
    source : str
        BIDS URI of the raw file that they were made from.
    """
    outputs = wanted(stream, settings)
    return Node(
        SaveOutputs(
            keys=list(outputs),
            folder=str(settings.output_dir),
            targets={key: relative_path(e, visit, settings) for key, e in outputs.items()},
            sidecars={
                key: sidecar(entry, visit, settings, source)
                for key, entry in outputs.items()
                if entry.get("sidecar", True)
            },
        ),
        name=f"ds_{stream}",
    )
