"""Tables of one person: volumes of every atlas region, and the measures made of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits

from alsflow.interfaces.anat import write_json
from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.images import load
from alsflow.interfaces.whole import whole
from alsflow.nodes.anat.volumes import label_volumes, measures
from alsflow.nodes.geometry import voxel_volume


def write_table(table: pd.DataFrame, path: Path) -> str:
    """Write tab-separated text whole or not at all, unknown values as ``n/a``."""
    with whole(path) as partial:
        table.to_csv(partial, sep="\t", index=False, na_rep="n/a", float_format="%.6g")
    return str(path)


class _MeasureVolumesInputSpec(CodedInputSpec):
    gm_file = File(exists=True, mandatory=True, desc="fraction of grey matter, native")
    wm_file = File(exists=True, mandatory=True, desc="fraction of white matter, native")
    csf_file = File(exists=True, mandatory=True, desc="fraction of CSF, native")
    labels_file = File(exists=True, mandatory=True, desc="cortical labels, native")
    names = traits.Dict(traits.Int, traits.Str, mandatory=True, desc="name of each label")
    deep_labels_file = File(exists=True, desc="labels of another atlas for deep regions, native")
    deep_names = traits.Dict(traits.Int, traits.Str, desc="name of each label of that atlas")
    regions = traits.Dict(
        traits.Str, traits.Dict(traits.Str, traits.List(traits.Int)), mandatory=True,
        desc="labels of each region measured, by side",
    )  # fmt: skip
    deep_regions = traits.List(traits.Str, desc="regions measured with the atlas for deep ones")
    qc_file = File(exists=True, mandatory=True, desc="JSON: flags and metrics of segmentation")
    fit_file = File(exists=True, mandatory=True, desc="JSON: flags and metrics of the warp")


class _MeasureVolumesOutputSpec(TraitedSpec):
    measures_file = File(exists=True, desc="measures of the person")
    morph_file = File(exists=True, desc="volumes of all cortical labels")
    deep_morph_file = File(exists=True, desc="volumes of all labels of the other atlas")
    qc_file = File(exists=True, desc="JSON: all flags and metrics")


class MeasureVolumes(CodedInterface):
    """Measure the tissue in every region; see `nodes.anat.volumes`."""

    input_spec = _MeasureVolumesInputSpec
    output_spec = _MeasureVolumesOutputSpec
    _code = (measures, label_volumes)

    def _run_interface(self, runtime):
        folder = Path(runtime.cwd)
        image = load(self.inputs.gm_file)[1]
        maps = {k: load(getattr(self.inputs, f"{k}_file"))[0] for k in ("gm", "wm", "csf")}
        qc = [json.loads(Path(path).read_text()) for path in
              (self.inputs.qc_file, self.inputs.fit_file)]  # fmt: skip
        flags = [flag for part in qc for flag in part["flags"]]
        metrics = {key: value for part in qc for key, value in part["metrics"].items()}
        tables = {
            "": label_volumes(load(self.inputs.labels_file, np.int32)[0], maps, image.affine)
        }
        if isdefined(self.inputs.deep_labels_file):
            deep, _ = load(self.inputs.deep_labels_file, np.int32)
            tables["deep_"] = label_volumes(deep, maps, image.affine)
        totals = {
            name: float(data.sum(dtype=float)) * voxel_volume(image.affine)
            for name, data in maps.items()
        }
        deep_regions = self.inputs.deep_regions if "deep_" in tables else []
        grey = {
            region: tables["deep_" if region in deep_regions else ""]["gm"]
            for region in self.inputs.regions
        }
        rows = measures(totals, self.inputs.regions, grey, [flag["reason"] for flag in flags])
        self._results["measures_file"] = write_table(rows, folder / "measures.tsv")
        for prefix, table in tables.items():
            names = getattr(self.inputs, f"{prefix}names")
            path = folder / f"{prefix}morph.tsv"
            self._results[f"{prefix}morph_file"] = write_table(_morph(table, names, flags), path)
        content = {"flags": flags, "metrics": metrics}
        self._results["qc_file"] = write_json(content, folder / "qc.json")
        return runtime


def _morph(table: pd.DataFrame, names: dict[int, str], flags: list) -> pd.DataFrame:
    """Table of all labels in mm³, every value unknown where the segmentation was flagged."""
    full = table.reindex(sorted(names))
    if flags:
        full[:] = np.nan
    return pd.DataFrame(
        {
            "index": full.index,
            "name": [names[label] for label in full.index],
            "volume-mm3": 1000 * full["volume"].to_numpy(),
            **{f"{name}-mm3": 1000 * full[name].to_numpy() for name in ("gm", "wm", "csf")},
        }
    )


class _LabelNamesInputSpec(CodedInputSpec):
    names = traits.Dict(traits.Int, traits.Str, mandatory=True, desc="name of each label")


class _LabelNamesOutputSpec(TraitedSpec):
    names_file = File(exists=True, desc="table of label and name")


class LabelNames(CodedInterface):
    """Write the names of an atlas' labels."""

    input_spec = _LabelNamesInputSpec
    output_spec = _LabelNamesOutputSpec

    def _run_interface(self, runtime):
        names = sorted(self.inputs.names.items())
        table = pd.DataFrame(names, columns=["index", "name"])
        self._results["names_file"] = write_table(table, Path(runtime.cwd) / "labels.tsv")
        return runtime
