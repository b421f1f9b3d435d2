"""The sink: finished files to the output folder, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from nipype.interfaces.base import (
    DynamicTraitedSpec,
    File,
    OutputMultiPath,
    TraitedSpec,
    Undefined,
    isdefined,
    traits,
)

from alsflow.interfaces.anat import write_json
from alsflow.interfaces.base import CodedInputSpec, CodedInterface


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file under a temporary name beside the target, then rename it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        shutil.copyfile(source, partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


class _SaveOutputsInputSpec(DynamicTraitedSpec, CodedInputSpec):
    folder = traits.Str(mandatory=True, hash_files=False, desc="output folder")
    targets = traits.Dict(
        traits.Str, traits.Str, mandatory=True, hash_files=False,
        desc="path below the output folder, by key",
    )  # fmt: skip
    sidecars = traits.Dict(traits.Str, traits.Dict, desc="content of the JSON file, by key")
    factual = traits.List(traits.Str, desc="keys whose sidecar also holds facts_file")
    facts_file = File(exists=True, desc="JSON: what was really done")


class _SaveOutputsOutputSpec(TraitedSpec):
    out_files = OutputMultiPath(File(exists=True), desc="files in the output folder")


class SaveOutputs(CodedInterface):
    """Copy finished files and write their sidecars; one input ``<key>_file`` for each key."""

    input_spec = _SaveOutputsInputSpec
    output_spec = _SaveOutputsOutputSpec
    _code = (copy_whole,)

    def __init__(self, keys=(), **inputs):
        self._keys = list(keys)
        super().__init__(**inputs)
        for key in self._keys:
            self.inputs.add_trait(f"{key}_file", File(exists=True, desc=f"file of {key}"))
            self.inputs.trait_setq(**{f"{key}_file": Undefined})

    def _run_interface(self, runtime):
        sources = {key: getattr(self.inputs, f"{key}_file") for key in self._keys}
        if missing := [key for key, path in sources.items() if not isdefined(path)]:
            raise RuntimeError(f"outputs were not made: {', '.join(missing)}")
        sidecars = self.inputs.sidecars if isdefined(self.inputs.sidecars) else {}
        if isdefined(self.inputs.facts_file):
            facts = json.loads(Path(self.inputs.facts_file).read_text(encoding="utf-8"))
            sidecars = sidecars | {key: sidecars[key] | facts for key in self.inputs.factual}
        written = []
        for key, source in sources.items():
            target = Path(self.inputs.folder) / self.inputs.targets[key]
            copy_whole(Path(source), target)
            written.append(str(target))
            if key in sidecars:
                beside = target.with_name(target.name.partition(".")[0] + ".json")
                written.append(write_json(sidecars[key], beside))
        self._results["out_files"] = written
        return runtime
