"""Tables and judgement of a BOLD series, from what its steps left behind."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from nipype.interfaces.base import File, isdefined, traits

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
from alsflow.nodes.func.measures import func_measures_table, judge_func

# Numbers of quality that the steps report, by the name under which they are judged and shown.
NUMBERS = {
    "fd_mean": ("confounds", "fd_mean"),
    "fd_max": ("confounds", "fd_max"),
    "rmsd_mean": ("confounds", "rmsd_mean"),
    "std_dvars_mean": ("confounds", "std_dvars_mean"),
    "outlier_volumes": ("confounds", "outliers"),
    "censored_volumes": ("denoise", "censored"),
    "tsnr_gm": ("confounds", "tsnr_gm"),
    "pair_r_before": ("field", "r_before"),
    "pair_r_after": ("field", "r_after"),
    "dof_lost": ("denoise", "dof_lost"),
    "dof_left": ("denoise", "dof_left"),
    "volumes": ("connect", "volumes"),
    "motor_coverage": ("seeds", "motor_coverage"),
}

# What one number for every volume makes too long to repeat.
LONG = ("head_to_volume",)

UNCORRECTED = "distortion_uncorrected"  # note of `interfaces.func_plan`

# Notes that stand beside every value, because values with and without them differ.
IN_TABLES = (
    UNCORRECTED, "phase_encoding_unknown", "slice_timing_skipped", "motor_strip_cut",
    "head_motion", "denoise",
)  # fmt: skip


class _MeasureFuncInputSpec(JudgedStepsInputSpec):
    connections_file = File(exists=True, desc="connections of the motor region")
    means_file = File(exists=True, desc="regional means of ALFF, fALFF and ReHo")
    regions = traits.List(traits.Str, mandatory=True, desc="regions measured")
    voxel = traits.Bool(False, usedefault=True, desc="whether the MRS voxel is a seed")


class MeasureFunc(JudgedSteps):
    """Measures of a BOLD series, judged by what every step found.

    One ``<step>_info_file`` for each of the steps. Those that are judged by name are ``register``,
    ``confounds``, ``denoise``, ``seeds`` and ``connect``.
    """

    input_spec = _MeasureFuncInputSpec
    _code = (func_measures_table, judge_func, steps_taken)

    def _run_interface(self, runtime):
        infos = self.read_infos(LONG)
        metrics = numbers_of(infos, NUMBERS) | infos.get("register", {}).get("metrics", {})
        undone = _undone(infos)
        flags, notes = judge_func(metrics, undone)
        flags = [
            *anatomy_flags(self.inputs.anat_qc_file),
            *infos.get("register", {}).get("flags", []),
            *flags,
        ]
        given = self.given_notes()
        unfound = {note["name"].removesuffix("_skipped"): note["reason"] for note in given}
        unfound["field"] = unfound.get(UNCORRECTED, "")
        steps = steps_taken(self.inputs.asked, infos, unfound, "correct")
        idle = [note for note in skipped(infos) if note["reason"] != undone]  # the flag says it
        notes = [*given, *idle, *warnings_of(infos), *notes]
        table = func_measures_table(
            _table(self.inputs.connections_file, ("r", "z")),
            _table(self.inputs.means_file, ("value",)),
            self.inputs.regions,
            [flag["reason"] for flag in flags],
            beside_values(notes, IN_TABLES),
            voxel=self.inputs.voxel,
        )
        judged = {"flags": flags, "notes": notes, "metrics": metrics}
        self.write(Path(runtime.cwd), table, judged, steps, infos)
        return runtime


def _undone(infos: Infos) -> str:
    """Why the series could not be denoised; empty if it was."""
    denoise = infos.get("denoise", {"done": True})
    return "" if denoise.get("done", True) else str(denoise["reason"])


def _table(path: str, numbers: tuple[str, ...]) -> pd.DataFrame | None:
    """Table of a step that ran; ``n/a`` is unknown in its numbers."""
    if not isdefined(path):
        return None
    return pd.read_csv(path, sep="\t", keep_default_na=False,
                       na_values={name: ["n/a"] for name in numbers})  # fmt: skip
