"""Tables and judgement of a diffusion series, from what its steps left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from nipype.interfaces.base import (
    DynamicTraitedSpec,
    File,
    TraitedSpec,
    Undefined,
    isdefined,
    traits,
)

from alsflow.interfaces.anat import write_json
from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.volumes import write_table
from alsflow.nodes.dwi.measures import judge_series, tract_measures_table

# Numbers of quality that the steps report, by the name under which they are judged and shown.
NUMBERS = {
    "fd_mean": ("correct", "fd_mean"),
    "fd_max": ("correct", "fd_max"),
    "outlier_slices": ("correct", "outlier_slices"),
    "outlier_share": ("correct", "outlier_share"),
    "motion_last_update": ("motion", "last_update"),
    "dwi_noise": ("denoise", "median_noise"),
    "drift": ("correct", "drift_largest"),
    "pair_r_before": ("field", "r_before"),
    "pair_r_after": ("field", "r_after"),
    "bvec_coherence": ("check", "index"),
    "bvec_lead": ("check", "lead"),
    "b0_snr": ("correct", "b0_snr"),
    "volumes": ("tensor", "volumes"),
}

# What one number for every volume or slice makes too long to repeat.
LONG = ("head_to_volume", "outliers", "loss", "drift", "gain")

UNCORRECTED = "distortion_uncorrected"  # note of `interfaces.dwi_plan`

# Notes that stand beside every value, because values with and without them differ.
IN_TABLES = (UNCORRECTED, "phase_encoding_unknown", "check", "tensor")


class _MeasureDwiInputSpec(DynamicTraitedSpec, CodedInputSpec):
    tracts_file = File(exists=True, mandatory=True, desc="table of the tracts")
    anat_qc_file = File(exists=True, mandatory=True, desc="JSON: flags of the anatomical stream")
    asked = traits.Dict(traits.Str, traits.Any, mandatory=True, desc="steps asked for, by name")
    notes = traits.List(traits.Dict(traits.Str, traits.Str), desc="known before: name and reason")


class _MeasureDwiOutputSpec(TraitedSpec):
    measures_file = File(exists=True, desc="measures of the person")
    qc_file = File(exists=True, desc="JSON: flags, notes and metrics")
    model_file = File(exists=True, desc="JSON: what every step did")
    facts_file = File(exists=True, desc="JSON: steps, for the sidecar of the corrected series")


class MeasureDwi(CodedInterface):
    """Measures of the tracts, judged by what every step found; one ``<step>_info_file`` each."""

    input_spec = _MeasureDwiInputSpec
    output_spec = _MeasureDwiOutputSpec
    _code = (tract_measures_table, judge_series)

    def __init__(self, steps=(), **inputs):
        self._steps = list(steps)
        super().__init__(**inputs)
        for step in self._steps:
            self.inputs.add_trait(f"{step}_info_file", File(exists=True, desc=f"JSON of {step}"))
            self.inputs.trait_setq(**{f"{step}_info_file": Undefined})

    def _run_interface(self, runtime):
        folder = Path(runtime.cwd)
        infos = self._read_infos()
        metrics = {
            name: infos[step].get(key)
            for name, (step, key) in NUMBERS.items()
            if infos.get(step, {}).get(key) is not None
        }
        tensor = infos["tensor"]
        metrics["negative_share"] = tensor["voxels_with_negative_eigenvalues"] / max(
            tensor["voxels"], 1
        )
        metrics |= infos["register"].get("metrics", {})
        flags, notes = judge_series(metrics)
        flags = _anatomy_flags(self.inputs.anat_qc_file) + infos["register"]["flags"] + flags
        given = self.inputs.notes if isdefined(self.inputs.notes) else []
        steps = _steps(self.inputs.asked, infos, given)
        notes = [*given, *_skipped(infos), *_warnings(infos), *notes]
        tracts = pd.read_csv(self.inputs.tracts_file, sep="\t", keep_default_na=False,
                             na_values={"mean": ["n/a"]})  # fmt: skip
        said = "; ".join(
            note["reason"].partition(": ")[0] for note in notes if note["name"] in IN_TABLES
        )
        table = tract_measures_table(tracts, [flag["reason"] for flag in flags], said)
        self._results["measures_file"] = write_table(table, folder / "measures.tsv")
        content = {"flags": flags, "notes": notes, "metrics": metrics}
        self._results["qc_file"] = write_json(content, folder / "qc.json")
        self._results["model_file"] = write_json({"steps": steps, "details": infos},
                                                 folder / "model.json")  # fmt: skip
        self._results["facts_file"] = write_json({"Steps": steps}, folder / "facts.json")
        return runtime

    def _read_infos(self) -> dict[str, dict[str, Any]]:
        """What each step that ran has said of itself; poses of volumes stand in their table."""
        infos = {}
        for step in self._steps:
            path = getattr(self.inputs, f"{step}_info_file")
            if isdefined(path):
                content = json.loads(Path(path).read_text(encoding="utf-8"))
                if step == "motion":
                    content.pop("eddy")
                infos[step] = {k: value for k, value in content.items() if k not in LONG}
        return infos


def _anatomy_flags(path: str) -> list[dict[str, str]]:
    """Flags of the anatomical stream: without its maps no tract has a place."""
    flags = json.loads(Path(path).read_text(encoding="utf-8"))["flags"]
    return [
        {"name": f"anat_{flag['name']}", "reason": f"anatomy: {flag['reason']}"} for flag in flags
    ]


def _steps(
    asked: dict[str, Any], infos: dict[str, dict[str, Any]], notes: list[dict[str, str]]
) -> dict[str, dict[str, Any]]:
    """Each step that has a setting: what was asked, whether it was done, and why not."""
    unfound = {"field": next((n["reason"] for n in notes if n["name"] == UNCORRECTED), "")}
    steps = {}
    for name, setting in asked.items():
        info = infos.get(name) or infos["correct"].get(name)
        done = info is not None and bool(info.get("done", True))
        why = "" if done else (info or {}).get("reason") or unfound.get(name, "")
        wanted = setting not in (False, "none")
        steps[name] = {"asked": setting, "done": done} | (
            {"reason": why} if why and wanted else {}
        )
    return steps


def _skipped(infos: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    """Notes on steps that could not be done, and on a check that could not tell."""
    found = [
        {"name": f"{name}_skipped", "reason": str(info["reason"])}
        for name, info in infos.items()
        if not info.get("done", True)
    ]
    check = infos["check"]
    if check["verdict"] == "cannot tell":
        found.append({"name": "directions_not_checked", "reason": check["sentence"]})
    return found


def _warnings(infos: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    """Warnings of the steps, and their notes; what a later step repeats is said once."""
    found: dict[str, str] = {}
    for step, info in infos.items():
        told = [*info.get("warnings", []), *info.get("notes", []), info.get("note") or ""]
        for text in filter(None, told):
            found.setdefault(text, step)
    return [{"name": step, "reason": text} for text, step in found.items()]
