"""Names of all outputs, from ``data/outputs.toml``, and the sink that writes them."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from nipype.pipeline.engine import Node

from alsflow.interfaces.atlas import resolve_deep_atlas, resolve_tract_atlas
from alsflow.interfaces.bids import Visit
from alsflow.interfaces.derivatives import SaveOutputs
from alsflow.interfaces.dwi_plan import DwiPlan, plan_dwi
from alsflow.interfaces.func_plan import FuncPlan, choose_runs, plan_func
from alsflow.interfaces.mrs_plan import MrsPlan, plan_mrs
from alsflow.interfaces.template import SPACE
from alsflow.interfaces.whole import remove
from alsflow.workflows.settings import Settings


@cache
def declared() -> dict[str, dict[str, dict[str, Any]]]:
    """Every output by stream and key, as declared."""
    text = (files("alsflow.workflows") / "data" / "outputs.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def names(stream: str, visit: Visit, settings: Settings) -> dict[str, Any]:
    """What the braces of the table stand for."""
    return {
        "series": _series(visit, settings) if stream == "func" else "",
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
        "denoising": Path(settings.func.denoising).stem,
        "threshold": settings.func.threshold,
        "map_smoothing": settings.func.smoothing,
        "resolution": f"{settings.func.template_voxel:g}".replace(".", "p"),
        "resolution_text": f"{settings.func.template_voxel:g} mm isotropic",
    }


def _series(visit: Visit, settings: Settings) -> str:
    """Start of the file names of the functional stream; the names of its runs tell it."""
    _, tasks = choose_runs(visit.files.get("bold", ()), settings.func.task)
    return f"{visit.prefix}_task-{''.join(tasks)}"


def members(entry: dict[str, Any], settings: Settings) -> list[str]:
    """Names that a path stands for that is declared with ``each``; empty for the others."""
    return [seed["name"] for seed in settings.func.seeds] if entry.get("each") == "seed" else []


def conditions(stream: str, visit: Visit, settings: Settings) -> set[str]:
    """Which of the conditions that the table calls ``when`` hold for a visit."""
    deep = resolve_deep_atlas(settings.anat.subcortical_atlas, settings.anat.cortical_atlas)
    holding = {
        "deep": deep != settings.anat.cortical_atlas,
        "denoise": settings.dwi.denoise,
        "distortion": stream in PLANS and PLANS[stream](visit, settings).distortion.found,
        "mrs": "mrs" in settings.modalities,
    }
    if stream == "mrs":
        plan = mrs_plan(visit, settings)
        holding |= {"placed": plan.place is not None, "fitted": plan.fitted}
    return {name for name, holds in holding.items() if holds}


def dwi_plan(visit: Visit, settings: Settings) -> DwiPlan:
    """What is joined and what undistorts it, in the diffusion stream of a visit."""
    files = (visit.files.get("dwi", ()), visit.files.get("fmap", ()))
    return plan_dwi(*files, settings.bids_dir, settings.dwi.distortion != "none")


def func_plan(visit: Visit, settings: Settings) -> FuncPlan:
    """The same for the functional stream."""
    files = (visit.files.get("bold", ()), visit.files.get("fmap", ()))
    undistort = settings.func.distortion != "none"
    return plan_func(*files, settings.bids_dir, undistort, settings.func.task)


def mrs_plan(visit: Visit, settings: Settings) -> MrsPlan:
    """Which fit and which place the spectroscopy stream of a visit takes."""
    return plan_mrs(
        visit.files.get("mrs", ()),
        visit.files.get("mrsref", ()),
        visit.results.get("lcmodel"),
        settings.mrs.basis,
    )


PLANS: dict[str, Callable[[Visit, Settings], DwiPlan | FuncPlan]] = {
    "dwi": dwi_plan,
    "func": func_plan,
}


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
    return settings.output_dir / path.format(**names(stream, visit, settings))


def requested(visit: Visit, stream: str, settings: Settings) -> dict[str, Path]:
    """All outputs that a stream must have produced to be done."""
    known = names(stream, visit, settings)
    return {
        key: settings.output_dir / entry["path"].format(**known)
        for key, entry in wanted(stream, visit, settings).items()
        if not entry.get("optional")
    }


def withdraw(visit: Visit, stream: str, settings: Settings) -> None:
    """Remove what any run has left of a stream of a visit, whatever its settings were."""
    # only names of the visit itself are sure: a refused series may have none
    known = defaultdict(lambda: "*", folder=visit.folder, prefix=visit.prefix)
    known["series"] = f"{visit.prefix}_task-*"
    for entry in declared()[stream].values():
        for path in settings.output_dir.glob(entry["path"].format_map(known)):
            remove(path)
            remove(path.with_name(path.name.partition(".")[0] + ".json"))


def sidecar(entry: dict[str, Any], known: dict[str, Any], sources: Sequence[str]) -> dict:
    """Content of the JSON file beside an output; `known` as `names` gives it."""
    fields = _filled(entry.get("fields", {}), known)
    return {"Description": entry["about"] + ".", "Sources": list(sources), **fields}


def _filled(value: Any, known: dict[str, Any]) -> Any:
    """Names in braces replaced; they keep their type: a number stays a number."""
    if isinstance(value, dict):
        return {key: _filled(entry, known) for key, entry in value.items()}
    lone = isinstance(value, str) and value.startswith("{") and value.endswith("}")
    return known[value[1:-1]] if lone else value


def sink(stream: str, visit: Visit, settings: Settings, *sources: str) -> Node:
    """Node that writes all outputs of a stream, one input ``<key>_file`` for each.

    An output declared with ``each`` has an input ``<key>_files``. They land together, when the
    last is known: a stream that fails leaves nothing behind that could be taken for whole.

    Parameters
    ----------
    stream : str
        Such as ``anat``.
    visit : Visit
        Whose outputs.
    settings : Settings
        Settings of the run.
    *sources : str
        BIDS URIs of the raw files that they were made from.
    """
    outputs, known = wanted(stream, visit, settings), names(stream, visit, settings)
    many = {key: members(entry, settings) for key, entry in outputs.items() if "each" in entry}
    return Node(
        SaveOutputs(
            keys=[key for key in outputs if key not in many],
            many=list(many),
            optional=[key for key, entry in outputs.items() if entry.get("optional")],
            factual=[key for key, entry in outputs.items() if entry.get("facts")],
            folder=str(settings.output_dir),
            targets={
                key: entry["path"].format(**known)
                for key, entry in outputs.items()
                if key not in many
            },
            members={
                key: {name: outputs[key]["path"].format(**known, each=name) for name in found}
                for key, found in many.items()
            },
            patterns={
                key: entry["path"].format(**known, each="*")
                for key, entry in declared()[stream].items()
                if key in many or key not in outputs
            },
            sidecars={
                key: sidecar(entry, known, sources)
                for key, entry in outputs.items()
                if entry.get("sidecar", True)
            },
        ),
        name=f"ds_{stream}",
    )
