"""Maps of the functional stream as files of their own, named after what they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from nipype.interfaces.base import (
    File,
    InputMultiPath,
    OutputMultiPath,
    TraitedSpec,
    isdefined,
)

from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.derivatives import member_of
from alsflow.interfaces.images import load, save_like

STACKS = ("r", "z", "thresholded", "binary")  # maps of `ConnectSeeds`
LOCAL = ("alff", "falff", "reho")


class _SplitSeedsInputSpec(CodedInputSpec):
    r_file = File(exists=True, desc="correlation with each seed, one volume each")
    z_file = File(exists=True, desc="Fisher's z of it")
    thresholded_file = File(exists=True, desc="r where it reaches the threshold")
    binary_file = File(exists=True, desc="where it reaches the threshold")
    template_files = InputMultiPath(File(exists=True), desc="the same four in template space")
    seeds_table_file = File(exists=True, mandatory=True, desc="name of each volume")


class _SplitSeedsOutputSpec(TraitedSpec):
    r_files = OutputMultiPath(File(exists=True), desc="one map per seed that there is")
    z_files = OutputMultiPath(File(exists=True), desc="Fisher's z of it")
    thresholded_files = OutputMultiPath(File(exists=True), desc="r where it reaches the threshold")
    binary_files = OutputMultiPath(File(exists=True), desc="where it reaches the threshold")
    template_r_files = OutputMultiPath(File(exists=True), desc="r in template space")
    template_z_files = OutputMultiPath(File(exists=True), desc="z in template space")
    template_thresholded_files = OutputMultiPath(
        File(exists=True), desc="thresholded r in template space"
    )
    template_binary_files = OutputMultiPath(File(exists=True), desc="share above it, template")


class SplitSeeds(CodedInterface):
    """Write the map of each seed to a file of its own; seeds that are not available have none."""

    input_spec = _SplitSeedsInputSpec
    output_spec = _SplitSeedsOutputSpec
    _code = (load,)

    def _run_interface(self, runtime):
        table = pd.read_csv(self.inputs.seeds_table_file, sep="\t", keep_default_na=False)
        stacks = {name: getattr(self.inputs, f"{name}_file") for name in STACKS}
        if isdefined(self.inputs.template_files):
            stacks |= {f"template_{member_of(path)}": path for path in self.inputs.template_files}
        for name, path in stacks.items():
            if isdefined(path):
                files = _split(path, list(table["name"]), Path(runtime.cwd) / name)
                self._results[f"{name}_files"] = files
        return runtime


def _split(path: str, seeds: list[str], stem: Path) -> list[str]:
    """Volumes that hold a value, as files called ``<stem>_<seed>.nii.gz``."""
    maps, image = load(path)
    maps = maps.reshape(*maps.shape[:3], -1)
    return [
        save_like(image, maps[..., number], stem.with_name(f"{stem.name}_{seed}.nii.gz"))
        for number, seed in enumerate(seeds)
        if np.isfinite(maps[..., number]).any()
    ]


class _NameMapsInputSpec(CodedInputSpec):
    map_files = InputMultiPath(File(exists=True), desc="files whose names end with what they show")


class _NameMapsOutputSpec(TraitedSpec):
    alff_file = File(exists=True, desc="amplitude of low-frequency fluctuations")
    falff_file = File(exists=True, desc="its share of all frequencies")
    reho_file = File(exists=True, desc="regional homogeneity")


class NameMaps(CodedInterface):
    """Tell the local maps of a list apart by their names."""

    input_spec = _NameMapsInputSpec
    output_spec = _NameMapsOutputSpec
    _code = (member_of,)

    def _run_interface(self, runtime):
        files = self.inputs.map_files if isdefined(self.inputs.map_files) else []
        self._results |= {f"{member_of(path)}_file": path for path in files}
        return runtime
