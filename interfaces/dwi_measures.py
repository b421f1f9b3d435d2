"""Tables and judgement of a diffusion series, from what its steps left behind."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from nipype.interfaces.base import File, isdefined

from alsflow.interfaces.judged_steps import (
    Infos,
    JudgedSteps,
    JudgedStepsInputSpec,
    anatomy_flags,
    beside_values,
    numbers_of,
    skipped,
    steps_taken,
    warnings_of,
)
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

# What one number for every volume or slice makes too long to repeat, and what stands in a table.
LONG = ("head_to_volume", "outliers", "loss", "drift", "gain")

UNCORRECTED = "distortion_uncorrected"  # note of `interfaces.dwi_plan`

# Notes that stand beside every value, because values with and without them differ.
IN_TABLES = (UNCORRECTED, "phase_encoding_unknown", "check", "tensor")


class _MeasureDwiInputSpec(JudgedStepsInputSpec):
    tracts_file = File(exists=True, mandatory=True, desc="table of the tracts")
    voxel_file = File(exists=True, desc="table of the MRS voxel, where spectroscopy is part of it")


class MeasureDwi(JudgedSteps):
    """Measures of the tracts, judged by what every step found; one ``<step>_info_file`` each."""

    input_spec = _MeasureDwiInputSpec
    _code = (tract_measures_table, judge_series, steps_taken)

    def _run_interface(self, runtime):
        infos = self.read_infos(LONG)
        infos.get("motion", {}).pop("eddy", None)  # poses of volumes stand in their table
        metrics = numbers_of(infos, NUMBERS)
        tensor = infos["tensor"]
        metrics["negative_share"] = tensor["voxels_with_negative_eigenvalues"] / max(
            tensor["voxels"], 1
        )
        metrics |= infos["register"].get("metrics", {})
        flags, notes = judge_series(metrics)
        flags = anatomy_flags(self.inputs.anat_qc_file) + infos["register"]["flags"] + flags
        given = self.given_notes()
        unfound = {"field": next((n["reason"] for n in given if n["name"] == UNCORRECTED), "")}
        steps = steps_taken(self.inputs.asked, infos, unfound, "correct")
        notes = [*given, *skipped(infos), *_unchecked(infos), *warnings_of(infos), *notes]
        table = tract_measures_table(
            _table(self.inputs.tracts_file, "mean"),
            [flag["reason"] for flag in flags],
            beside_values(notes, IN_TABLES),
            _table(self.inputs.voxel_file, "weighted_mean")
            if isdefined(self.inputs.voxel_file) else None,
        )  # fmt: skip
        judged = {"flags": flags, "notes": notes, "metrics": metrics}
        self.write(Path(runtime.cwd), table, judged, steps, infos)
        return runtime


def _table(path: str, number: str) -> pd.DataFrame:
    """Table of a step; ``n/a`` is unknown in its column of means."""
    return pd.read_csv(path, sep="\t", keep_default_na=False, na_values={number: ["n/a"]})


def _unchecked(infos: Infos) -> list[dict[str, str]]:
    """Note on a check of the directions that could not tell."""
    check = infos["check"]
    if check["verdict"] != "cannot tell":
        return []
    return [{"name": "directions_not_checked", "reason": check["sentence"]}]
