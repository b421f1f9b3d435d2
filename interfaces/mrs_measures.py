"""Tables and judgement of a spectrum, from what its steps left behind."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from nipype.interfaces.base import File, isdefined

from alsflow.interfaces.judged_steps import (
    JudgedSteps,
    JudgedStepsInputSpec,
    anatomy_flags,
    steps_taken,
)
from alsflow.nodes.mrs.measures import (
    NO_FIT,
    NO_PLACE,
    doubts_from,
    judge_mrs,
    mrs_measures_table,
    mrs_metrics,
)

FIT_ABSENT = "fit_absent"  # note of `interfaces.mrs_plan`
UNFOUND = {"fit": NO_FIT, "quantify": NO_FIT, "place": NO_PLACE}


class _MeasureMrsInputSpec(JudgedStepsInputSpec):
    ratios_file = File(exists=True, desc="ratios of `ReadFit`")
    quant_file = File(exists=True, desc="concentrations of `QuantifyMrs`")
    tissue_file = File(exists=True, desc="tissue of the voxel, of `QuantifyMrs`")


class MeasureMrs(JudgedSteps):
    """Measures of a spectrum, judged by what every step found; see `nodes.mrs.measures`.

    One ``<step>_info_file`` for each of the steps. Those that are judged by name are ``fit``
    (``info_file`` of `ReadFit`), ``place`` (``fractions_file`` of `PlaceVoxel`) and ``quantify``;
    each may be missing.
    """

    input_spec = _MeasureMrsInputSpec
    _code = (doubts_from, judge_mrs, mrs_measures_table, mrs_metrics, steps_taken)

    def _run_interface(self, runtime):
        infos = self.read_infos()
        fit, place = infos.get("fit"), infos.get("place")
        ratios = _table(self.inputs.ratios_file)
        anatomy = anatomy_flags(self.inputs.anat_qc_file)
        flags, notes = judge_mrs(fit, place, infos.get("quantify"), anatomy)
        given = self.given_notes()
        if fit is None and self.inputs.asked.get("fit"):  # what was asked for did not happen
            flags += [note for note in given if note["name"] == FIT_ABSENT]
        table = mrs_measures_table(
            ratios,
            _table(self.inputs.quant_file),
            _table(self.inputs.tissue_file),
            doubts_from(fit, place, flags, anatomy),
        )
        judged = {
            "flags": flags,
            "notes": [*(note for note in given if note not in flags), *notes],
            "metrics": mrs_metrics(fit, place, ratios),
        }
        steps = steps_taken(self.inputs.asked, infos, UNFOUND, "fit")
        self.write(Path(runtime.cwd), table, judged, steps, infos)
        return runtime


def _table(path: str) -> pd.DataFrame | None:
    """Table of a step that ran; ``n/a`` is unknown in its numbers."""
    if not isdefined(path):
        return None
    missing = {name: ["n/a"] for name in ("value", "crlb_pct")}
    return pd.read_csv(path, sep="\t", keep_default_na=False, na_values=missing)
