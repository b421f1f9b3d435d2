"""Names of all outputs, from ``data/outputs.toml``, and the sink that writes them."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from nipype.pipeline.engine import Node

from alsflow.interfaces.atlas import resolve_deep_atlas, resolve_tract_atlas
from alsflow.interfaces.bids import Visit
from alsflow.interfaces.derivatives import SaveOutputs
from alsflow.interfaces.dwi_plan import plan_dwi
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
        "tract_atlas": resolve_tract_atlas(settings.dwi.tract_atlas),
        "fit": settings.dwi.fit,
    }


def conditions(stream: str, visit: Visit, settings: Settings) -> set[str]:
    """Which of the conditions that the table calls ``when`` hold for a visit."""
    deep = resolve_deep_atlas(settings.anat.subcortical_atlas, settings.anat.cortical_atlas)
    holding = {
        "deep": deep != settings.anat.cortical_atlas,
        "denoise": settings.dwi.denoise,
        "distortion": stream == "dwi" and undistorted(visit, settings),
    }
    return {name for name, holds in holding.items() if holds}


def undistorted(visit: Visit, settings: Settings) -> bool:
    """Whether a pair or a field map serves the diffusion series of a visit."""
    files = (visit.files.get("dwi", ()), visit.files.get("fmap", ()))
    plan = plan_dwi(*files, settings.bids_dir, settings.dwi.distortion != "none")
    return plan.distortion.kind != "none"


def wanted(stream: str, visit: Visit, settings: Settings) -> dict[str, dict[str, Any]]:
    """Declared outputs that a stream writes for a visit."""
    holding = conditions(stream, visit, settings)
    return {
        key: entry
        for key, entry in declared()[stream].items()
        if "when" not in entry or entry["when"] in holding
    }


def output_path(key: str, visit: Visit, settings: Settings) -> Path:
    """Path of one output; `key` is ``stream.name``, such as ``anat.gm``."""
    stream, name = key.split(".")
    path = declared()[stream][name]["path"]
    return settings.output_dir / path.format(**names(visit, settings))


def requested(visit: Visit, stream: str, settings: Settings) -> dict[str, Path]:
    """All outputs that a stream must have produced to be done."""
    known = names(visit, settings)
    return {
        key: settings.output_dir / entry["path"].format(**known)
        for key, entry in wanted(stream, visit, settings).items()
    }


def sidecar(entry: dict[str, Any], known: dict[str, Any], source: str) -> dict:
    """Content of the JSON file beside an output; `known` as `names` gives it."""
    fields = _filled(entry.get("fields", {}), known)
    return {"Description": entry["about"] + ".", "Sources": [source], **fields}


def _filled(value: Any, known: dict[str, Any]) -> Any:
    """Names in braces replaced; they keep their type: a number stays a number."""
    if isinstance(value, dict):
        return {key: _filled(entry, known) for key, entry in value.items()}
    lone = isinstance(value, str) and value.startswith("{") and value.endswith("}")
    return known[value[1:-1]] if lone else value


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
    outputs, known = wanted(stream, visit, settings), names(visit, settings)
    return Node(
        SaveOutputs(
            keys=list(outputs),
            factual=[key for key, entry in outputs.items() if entry.get("facts")],
            folder=str(settings.output_dir),
            targets={key: entry["path"].format(**known) for key, entry in outputs.items()},
            sidecars={
                key: sidecar(entry, known, source)
                for key, entry in outputs.items()
                if entry.get("sidecar", True)
            },
        ),
        name=f"ds_{stream}",
    )
