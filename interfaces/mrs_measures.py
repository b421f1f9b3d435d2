"""Tables and judgement of a spectrum, from what its steps left behind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from nipype.interfaces.base import File, isdefined

from alsflow.interfaces.judged_steps import (
    JudgedSteps,
    JudgedStepsInputSpec,
    anatomy_flags,
    skipped,
    steps_taken,
    warnings_of,
)
from alsflow.nodes.mrs.measures import (
    UNFOUND,
    doubts_from,
    judge_mrs,
    mrs_measures_table,
    mrs_metrics,
)

NO_FIT_NOTE = "no_fit"
JUDGED = ("fit", "place", "quantify")  # by what they found, not only whether they were done


class _MeasureMrsInputSpec(JudgedStepsInputSpec):
    ratios_file = File(exists=True, desc="ratios of `ReadFit`")
    quant_file = File(exists=True, desc="concentrations of `QuantifyMrs`")
    tissue_file = File(exists=True, desc="tissue of the voxel, of `QuantifyMrs`")


class MeasureMrs(JudgedSteps):
    """Measures of a spectrum, judged by what every step found; see `nodes.mrs.measures`.

    One ``<step>_info_file`` for each of the steps. Those that are judged by name are ``fit``
    (``info_file`` of `ReadFit`), ``place`` (``fractions_file`` of `PlaceVoxel`) and ``quantify``;
    each may be missing. A step ``run`` that could not be done stands for a fit that failed. Notes
    called ``no_fit`` and ``no_place`` say why there is none.
    """

    input_spec = _MeasureMrsInputSpec
    _code = (doubts_from, judge_mrs, mrs_measures_table, mrs_metrics, steps_taken)

    def _run_interface(self, runtime):
        infos = self.read_infos()
        fit, place = infos.get("fit") or _failed(infos.get("run")), infos.get("place")
        given = self.given_notes()
        ratios = _table(self.inputs.ratios_file)
        anatomy = anatomy_flags(self.inputs.anat_qc_file)
        flags, notes = judge_mrs(fit, place, infos.get("quantify"), anatomy)
        told = {note["name"]: note["reason"] for note in given}
        if fit is None and self.inputs.asked.get("fit") and NO_FIT_NOTE in told:
            flags.append({"name": NO_FIT_NOTE, "reason": told[NO_FIT_NOTE]})  # not as asked
            given = [note for note in given if note["name"] != NO_FIT_NOTE]
        unfound = {step: told.get(f"no_{step}", why) for step, why in UNFOUND.items()}
        table = mrs_measures_table(
            ratios,
            _table(self.inputs.quant_file),
            _table(self.inputs.tissue_file),
            doubts_from(fit, place, flags, anatomy, unfound),
        )
        others = {step: info for step, info in infos.items() if step not in JUDGED}
        notes = [note for note in notes if note["name"] not in told]
        notes = [*given, *skipped(others), *warnings_of(others), *notes]
        judged = {"flags": flags, "notes": notes, "metrics": mrs_metrics(fit, place, ratios)}
        unfound["quantify"] = unfound["fit"]
        steps = steps_taken(self.inputs.asked, infos, unfound, "fit")
        self.write(Path(runtime.cwd), table, judged, steps, infos)
        return runtime


def _failed(run: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What stands for a fit that LCModel was asked for and did not give."""
    if run is None or run.get("done", True):
        return None
    return {"done": False, "faults": [{"name": "fit_failed", "reason": str(run["reason"])}]}


def _table(path: str) -> pd.DataFrame | None:
    """Table of a step that ran; ``n/a`` is unknown in its numbers."""
    if not isdefined(path):
        return None
    missing = {name: ["n/a"] for name in ("value", "crlb_pct")}
    return pd.read_csv(path, sep="\t", keep_default_na=False, na_values=missing)
