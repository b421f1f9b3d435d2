"""What the steps of a stream said of themselves, for its measures, quality and sidecars."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
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

Infos = Mapping[str, Mapping[str, Any]]  # what each step that ran has said, by its name
Notes = Sequence[Mapping[str, str]]  # each with name and reason


class JudgedStepsInputSpec(DynamicTraitedSpec, CodedInputSpec):
    """Inputs of an interface that judges a stream, beside one ``<step>_info_file`` each."""

    anat_qc_file = File(exists=True, mandatory=True, desc="JSON: flags of the anatomical stream")
    asked = traits.Dict(traits.Str, traits.Any, mandatory=True, desc="steps asked for, by name")
    notes = traits.List(traits.Dict(traits.Str, traits.Str), desc="known before: name and reason")


class JudgedStepsOutputSpec(TraitedSpec):
    """Outputs of an interface that judges a stream."""

    measures_file = File(exists=True, desc="measures of the person")
    qc_file = File(exists=True, desc="JSON: flags, notes and metrics")
    model_file = File(exists=True, desc="JSON: what every step did")
    facts_file = File(exists=True, desc="JSON: steps, for the sidecar of the corrected series")


class JudgedSteps(CodedInterface):
    """Base of the interfaces that make measures of a stream and judge it."""

    input_spec = JudgedStepsInputSpec
    output_spec = JudgedStepsOutputSpec

    def __init__(self, steps=(), **inputs):
        self._steps = list(steps)
        super().__init__(**inputs)
        for step in self._steps:
            self.inputs.add_trait(f"{step}_info_file", File(exists=True, desc=f"JSON of {step}"))
            self.inputs.trait_setq(**{f"{step}_info_file": Undefined})

    def read_infos(self, left_out: Collection[str] = ()) -> dict[str, dict[str, Any]]:
        """What each step that ran has said of itself, without what is too long to repeat."""
        infos = {}
        for step in self._steps:
            path = getattr(self.inputs, f"{step}_info_file")
            if isdefined(path):
                content = json.loads(Path(path).read_text(encoding="utf-8"))
                infos[step] = {k: value for k, value in content.items() if k not in left_out}
        return infos

    def given_notes(self) -> list[dict[str, str]]:
        """Notes that were known before the stream ran."""
        return list(self.inputs.notes) if isdefined(self.inputs.notes) else []

    def write(
        self,
        folder: Path,
        table: pd.DataFrame,
        judged: Mapping[str, Any],
        steps: Mapping[str, Any],
        infos: Infos,
    ) -> None:
        """Write measures, quality, model and facts, and name them as results."""
        self._results["measures_file"] = write_table(table, folder / "measures.tsv")
        self._results["qc_file"] = write_json(dict(judged), folder / "qc.json")
        model = {"steps": steps, "details": infos}
        self._results["model_file"] = write_json(model, folder / "model.json")
        self._results["facts_file"] = write_json({"Steps": steps}, folder / "facts.json")


def numbers_of(infos: Infos, wanted: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Numbers of quality that the steps report: for each name its step and key, where known."""
    found = {name: infos.get(step, {}).get(key) for name, (step, key) in wanted.items()}
    return {name: value for name, value in found.items() if value is not None}


def anatomy_flags(path: str) -> list[dict[str, str]]:
    """Flags of the anatomical stream: without its maps nothing has a place."""
    flags = json.loads(Path(path).read_text(encoding="utf-8"))["flags"]
    return [
        {"name": f"anat_{flag['name']}", "reason": f"anatomy: {flag['reason']}"} for flag in flags
    ]


def steps_taken(
    asked: Mapping[str, Any], infos: Infos, unfound: Mapping[str, str], within: str
) -> dict[str, dict[str, Any]]:
    """Each step that has a setting: what was asked, whether it was done, and why not.

    Parameters
    ----------
    asked : mapping
        Setting of each step.
    infos : mapping
        What the steps said.
    unfound : mapping
        Why a step that did not run could not.
    within : str
        The step that speaks for those that have no file of their own.
    """
    steps = {}
    for name, setting in asked.items():
        info = infos.get(name) or infos.get(within, {}).get(name)
        done = info is not None and bool(info.get("done", True))
        why = "" if done else (info or {}).get("reason") or unfound.get(name, "")
        wanted = setting not in (False, "none")
        steps[name] = {"asked": setting, "done": done} | (
            {"reason": why} if why and wanted else {}
        )
    return steps


def skipped(infos: Infos) -> list[dict[str, str]]:
    """Notes on steps that could not be done."""
    return [
        {"name": f"{name}_skipped", "reason": str(info["reason"])}
        for name, info in infos.items()
        if not info.get("done", True)
    ]


def warnings_of(infos: Infos) -> list[dict[str, str]]:
    """Warnings of the steps, and their notes; what a later step repeats is said once."""
    found: dict[str, str] = {}
    for step, info in infos.items():
        told = [*info.get("warnings", []), *info.get("notes", []), info.get("note") or ""]
        for text in filter(None, told):
            found.setdefault(text, step)
    return [{"name": step, "reason": text} for text, step in found.items()]


def beside_values(notes: Notes, names: Collection[str]) -> str:
    """The notes of these names in short: what stands beside every value."""
    return "; ".join(note["reason"].partition(": ")[0] for note in notes if note["name"] in names)
