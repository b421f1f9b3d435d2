"""The diffusion stream: from a diffusion series to measures of the corticofugal tracts."""

from __future__ import annotations

from pathlib import Path

from nipype.pipeline.engine import Node, Workflow

from alsflow.interfaces.atlas import find_atlas, resolve_tract_atlas
from alsflow.interfaces.bids import Visit
from alsflow.interfaces.distortion import FieldFromGre, FieldFromPair
from alsflow.interfaces.dwi_fields import FirstB0
from alsflow.interfaces.dwi_measures import MeasureDwi
from alsflow.interfaces.dwi_motion import CorrectSeries, EstimateMotion
from alsflow.interfaces.dwi_plan import DwiPlan, plan_dwi
from alsflow.interfaces.dwi_prep import (
    CheckGradients,
    CorrectDrift,
    DenoiseDwi,
    FitTensor,
    LoadDwi,
    MaskDwi,
    UnringDwi,
)
from alsflow.interfaces.dwi_tracts import CoregisterDwi, MeasureTracts, WarpTracts
from alsflow.interfaces.report_dwi import DrawDwi
from alsflow.interfaces.sidecars import read_sidecar
from alsflow.workflows.anat import SHARED
from alsflow.workflows.outputs import sink
from alsflow.workflows.ports import port
from alsflow.workflows.settings import DwiSettings, Settings

# GB that a step takes at most for a series of 102 x 102 x 60 x 42 voxels; see benchmarks/
MEMORY = {"load": 1.0, "denoise": 1.0, "unring": 1.0, "motion": 2.0, "correct": 1.5, "tensor": 1.5}
# What the report and the sidecars hear of each step, by the output that tells it.
TOLD = {"motion": "motion_file", "register": "registration_file"}
SERIES = ("dwi_file", "gradients_file", "bval_file", "bvec_file", "seen_file", "confounds_file")
MAPS = ("fa_file", "md_file", "ad_file", "rd_file")
TENSOR = (*MAPS, "s0_file", "tensor_file", "residual_file", "negative_file", "color_file")
TABLES = ("tracts_file", "all_tracts_file", "profiles_file", "overlap_file")
FIGURES = ("color", "tracts", "registration", "motion", "histogram", "profiles")


def init_dwi_stream_wf(visit: Visit, settings: Settings) -> Workflow:
    """Diffusion stream of one visit, from its series to its derivatives.

    .. workflow::

        load -> check -> clean_wf -> field_wf -> motion -> correct -> brain -> tensor
        brain -> register -> warp -> tracts -> measure -> draw -> ds_dwi

    Inputs: what the anatomical stream shares (`workflows.anat.SHARED`).

    Parameters
    ----------
    visit : Visit
        Its ``files["dwi"]`` holds the series, ``files["fmap"]`` what may undistort them.
    settings : Settings
        Settings of the run.
    """
    undistort = settings.dwi.distortion != "none"
    plan = plan_dwi(visit.files["dwi"], visit.files.get("fmap", ()), settings.bids_dir, undistort)
    source = plan.runs[0].path.relative_to(settings.bids_dir)
    workflow = Workflow(name="dwi_wf")
    inputnode = port("inputnode", *SHARED)
    series_wf = init_series_wf(plan, settings)
    tracts_wf = init_tracts_wf(settings.dwi)
    ds_dwi = sink("dwi", visit, settings, f"bids:raw:{source}")
    return workflow
