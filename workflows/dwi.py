"""The diffusion stream: from a diffusion series to measures of the corticofugal tracts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype.pipeline.engine import Node, Workflow

from alsflow.interfaces.atlas import FULL_TRACTS, find_atlas, resolve_tract_atlas
from alsflow.interfaces.bids import Visit
from alsflow.interfaces.coregister import Coregister, WriteRigid
from alsflow.interfaces.distortion import FieldFromGre, FieldFromPair
from alsflow.interfaces.drawing import DrawRegistration
from alsflow.interfaces.dwi_fields import BrainSeen, ColourFa, FirstB0, SteadyWarp
from alsflow.interfaces.dwi_measures import MeasureDwi
from alsflow.interfaces.dwi_motion import CorrectSeries, EstimateMotion
from alsflow.interfaces.dwi_plan import DwiPlan
from alsflow.interfaces.dwi_prep import (
    CheckGradients,
    CorrectDrift,
    DenoiseDwi,
    FitTensor,
    LoadDwi,
    MaskDwi,
    UnringDwi,
)
from alsflow.interfaces.dwi_tracts import MeasureTracts, WarpTracts, region_groups
from alsflow.interfaces.dwi_voxel import MeasureVoxel
from alsflow.interfaces.epi_plan import gre_inputs, pair_inputs
from alsflow.interfaces.report_dwi import (
    DrawMotion,
    DrawProfiles,
    DrawTensor,
    DrawTracts,
)
from alsflow.nodes.dwi.measures import TRACTS
from alsflow.nodes.errors import BadInputError
from alsflow.workflows.anat import SHARED
from alsflow.workflows.outputs import dwi_plan, sink
from alsflow.workflows.ports import port
from alsflow.workflows.settings import DwiSettings, Settings

MAPS = ("fa_file", "md_file", "ad_file", "rd_file")
TENSOR = (*MAPS, "s0_file", "tensor_file", "residual_file", "negative_file")
SERIES = ("dwi_file", "bval_file", "bvec_file", "confounds_file")
DRIFT: dict[str, dict[str, Any]] = {
    "auto": {"degree": 2, "impossible": "skip"},
    "quadratic": {"degree": 2},
    "linear": {"degree": 1},
}
ANATOMY = ("mask_file", "gm_file", "wm_file", "csf_file", "to_template_file")
VOXEL = "mrs_voxel_file"
WARPED = ("dwi_to_t1w_file", "tract_weights_file", "tract_names_file", "tracts_file",
          "all_tracts_file", "profiles_file", "overlap_file")  # fmt: skip
FIGURES = ("color", "tracts", "registration", "motion", "histogram", "profiles")
DRAWN = ("fa_file", "md_file", "direction_file", "mask_file", "tract_weights_file",
         "profiles_file", "raw_b0_file", "b0_file", "gm_file", "wm_file", "matrix_file",
         "confounds_file")  # fmt: skip
INFOS = ("load", "check", "denoise", "unring", "drift", "field", "motion", "correct", "mask",
         "tensor")  # fmt: skip


def init_dwi_stream_wf(visit: Visit, settings: Settings) -> Workflow:
    """Diffusion stream of one visit, from its series to its derivatives.

    .. workflow:: inputnode, series_wf -> tensor_wf -> tracts_wf -> measure -> draw_wf -> ds_dwi

    Inputs: what the anatomical stream shares (`workflows.anat.SHARED`), and ``mrs_voxel_file``,
    the mask of the MRS voxel on the grid of the T1w image where there is one. It is measured where
    spectroscopy is one of the streams of the run (`Settings.modalities`).

    Parameters
    ----------
    visit : Visit
        Its ``files["dwi"]`` holds the series, ``files["fmap"]`` what may undistort them.
    settings : Settings
        Settings of the run.
    """
    plan = dwi_plan(visit, settings)
    read = dict.fromkeys([*(run.path for run in plan.runs), *plan.distortion.files])
    sources = [f"bids:raw:{path.relative_to(settings.bids_dir)}" for path in read]
    workflow = Workflow(name="dwi_wf")
    inputnode = port("inputnode", *SHARED, VOXEL)
    series_wf = init_series_wf(plan, settings)
    tensor_wf = init_tensor_wf(settings.dwi)
    spectroscopy = "mrs" in settings.modalities
    tracts_wf = init_tracts_wf(settings.dwi, voxel=spectroscopy)
    measure = init_measure_node(plan, settings.dwi)
    groups = region_groups(chosen_tracts(settings.dwi)[1])
    draw_wf = init_draw_wf(
        undistorted=plan.distortion.found,
        shown=[f"{name.replace('_', ' ')}, {side}" for name, side in groups],
    )
    ds_dwi = sink("dwi", visit, settings, *sources)
    tensor = [(f"outputnode.{field}", f"inputnode.{field}") for field in MAPS]
    workflow.connect([
        (series_wf, tensor_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in
                                ("dwi_file", "gradients_file", "mask_file")]),
        (inputnode, tracts_wf, [(field, f"inputnode.{field}") for field in ANATOMY]),
        (series_wf, tracts_wf, [("outputnode.b0_file", "inputnode.b0_file"),
                                ("outputnode.mask_file", "inputnode.brain_file")]),
        (tensor_wf, tracts_wf, tensor),
        (inputnode, measure, [("qc_file", "anat_qc_file")]),
        (series_wf, measure, [(f"outputnode.{step}_info_file", f"{step}_info_file") for step in
                              INFOS if step != "tensor"]),
        (tensor_wf, measure, [("outputnode.info_file", "tensor_info_file")]),
        (tracts_wf, measure, [("outputnode.register_info_file", "register_info_file"),
                              ("outputnode.tracts_file", "tracts_file")]),
        (series_wf, ds_dwi, [(f"outputnode.{field}", field) for field in
                             (*SERIES, "mask_file", "b0_file")]),
        (tensor_wf, ds_dwi, [(f"outputnode.{field}", field) for field in (*TENSOR, "color_file")]),
        (tracts_wf, ds_dwi, [(f"outputnode.{field}", field) for field in WARPED]),
        (measure, ds_dwi, [("measures_file", "measures_file"), ("qc_file", "qc_file"),
                           ("model_file", "info_file"), ("facts_file", "facts_file")]),
        (draw_wf, ds_dwi, [(f"outputnode.{name}_file", f"{name}_figure_file") for name in
                           FIGURES]),
    ])  # fmt: skip
    _connect_drawing(workflow, inputnode, series_wf, tensor_wf, tracts_wf, draw_wf)
    if spectroscopy:
        workflow.connect(inputnode, VOXEL, tracts_wf, f"inputnode.{VOXEL}")
        workflow.connect(tracts_wf, "outputnode.voxel_file", measure, "voxel_file")
        workflow.connect(tracts_wf, "outputnode.voxel_file", ds_dwi, "voxel_file")
    if settings.dwi.denoise:
        workflow.connect(series_wf, "outputnode.noise_file", ds_dwi, "noise_file")
        workflow.connect(series_wf, "outputnode.noise_file", tensor_wf, "inputnode.noise_file")
    if plan.distortion.found:
        workflow.connect(series_wf, "outputnode.shift_file", ds_dwi, "shift_file")
    return workflow


def init_series_wf(plan: DwiPlan, settings: Settings) -> Workflow:
    """From the runs of a visit to one corrected series.

    Outputs: `SERIES`, ``gradients_file``, ``mask_file`` (brain that every volume shows),
    ``b0_file`` (mean, even), ``raw_b0_file`` (first, as acquired), ``noise_file``,
    ``shift_file``, and ``<step>_info_file`` of `INFOS` as far as the step was asked for.

    .. workflow::

        load -> find -> check -> denoise -> unring -> drift -> motion -> correct -> mask -> seen
        first -> field -> motion, correct
    """
    dwi = settings.dwi
    workflow = Workflow(name="series_wf")
    outputnode = port("outputnode", *SERIES, "gradients_file", "mask_file", "b0_file",
                      "raw_b0_file", "noise_file", "shift_file",
                      *(f"{step}_info_file" for step in INFOS))  # fmt: skip
    load = Node(
        LoadDwi(
            in_files=[str(run.path) for run in plan.runs],
            bval_files=[str(run.bval) for run in plan.runs],
            bvec_files=[str(run.bvec) for run in plan.runs],
        ),
        name="load",
    )
    find = Node(MaskDwi(), name="find")
    check = Node(
        CheckGradients(in_file=str(plan.runs[0].path), force="bvecs" in settings.force),
        name="check",
    )
    first = Node(FirstB0(), name="first")
    correct = Node(CorrectSeries(axis=plan.axis, polarities=list(plan.polarities),
                                 replace=dwi.replace_outliers),
                   name="correct")  # fmt: skip
    mask = Node(MaskDwi(), name="mask")
    seen = Node(BrainSeen(), name="seen")
    workflow.add_nodes([load, find, check])
    last = _clean(workflow, plan, outputnode, dwi)
    workflow.connect([
        (load, find, [("dwi_file", "dwi_file"), ("gradients_file", "gradients_file")]),
        (load, check, [("dwi_file", "dwi_file"), ("gradients_file", "gradients_file")]),
        (find, check, [("mask_file", "mask_file")]),
        (load, first, [("dwi_file", "dwi_file")]),
        (check, first, [("gradients_file", "gradients_file")]),
        (last, correct, [("dwi_file", "dwi_file")]),
        (check, correct, [("gradients_file", "gradients_file")]),
        (find, correct, [("mask_file", "mask_file")]),
        (correct, mask, [("dwi_file", "dwi_file"), ("gradients_file", "gradients_file")]),
        (mask, seen, [("mask_file", "mask_file")]),
        (correct, seen, [("seen_file", "seen_file")]),
        (correct, outputnode, [(field, field) for field in (*SERIES, "gradients_file")]),
        (seen, outputnode, [("mask_file", "mask_file")]),
        (mask, outputnode, [("b0_file", "b0_file"), ("info_file", "mask_info_file")]),
        (first, outputnode, [("b0_file", "raw_b0_file")]),
        (load, outputnode, [("info_file", "load_info_file")]),
        (check, outputnode, [("info_file", "check_info_file")]),
        (correct, outputnode, [("info_file", "correct_info_file")]),
    ])  # fmt: skip
    if dwi.drift != "none":
        workflow.connect(workflow.get_node("drift"), "info_file", correct, "drift_file")
    moved = [correct]
    if dwi.motion:
        motion = Node(EstimateMotion(axis=plan.axis, polarities=list(plan.polarities),
                                     eddy=dwi.eddy),
                      name="motion")  # fmt: skip
        workflow.connect([
            (last, motion, [("dwi_file", "dwi_file")]),
            (check, motion, [("gradients_file", "gradients_file")]),
            (find, motion, [("mask_file", "mask_file")]),
            (motion, correct, [("motion_file", "motion_file")]),
            (motion, outputnode, [("motion_file", "motion_info_file")]),
        ])  # fmt: skip
        moved.append(motion)
    if plan.distortion.found:
        field = _field(workflow, plan, settings.bids_dir, first)
        for node in moved:
            workflow.connect(field, "shift_file", node, "shift_file")
        workflow.connect(field, "shift_file", outputnode, "shift_file")
        workflow.connect(field, "info_file", outputnode, "field_info_file")
    return workflow


def _clean(workflow: Workflow, plan: DwiPlan, outputnode: Node, dwi: DwiSettings) -> Node:
    """Add the steps that work volume by volume on the acquired grid; returns the last of them."""
    last, find, check = (workflow.get_node(name) for name in ("load", "find", "check"))
    rings: dict[str, Any] = {"slice_axis": plan.slice_axis}
    if plan.partial_fourier is not None:
        rings["partial_fourier"] = plan.partial_fourier
    steps: tuple[tuple[str, bool, Any], ...] = (
        ("denoise", dwi.denoise, DenoiseDwi(impossible="skip")),
        ("unring", dwi.unring, UnringDwi(**rings)),
        ("drift", dwi.drift != "none", CorrectDrift(**DRIFT.get(dwi.drift, {}))),
    )
    for name, asked, interface in steps:
        if not asked:
            continue
        node = Node(interface, name=name)
        workflow.connect([
            (last, node, [("dwi_file", "dwi_file")]),
            (find, node, [("mask_file", "mask_file")]),
            (node, outputnode, [("info_file", f"{name}_info_file")]),
        ])  # fmt: skip
        if name == "denoise":
            workflow.connect(node, "noise_file", outputnode, "noise_file")
        if name == "drift":
            workflow.connect(check, "gradients_file", node, "gradients_file")
        last = node
    return last


def _field(workflow: Workflow, plan: DwiPlan, bids_dir: Path, first: Node) -> Node:
    """Add the node that finds the susceptibility field, from what the plan names."""
    encoding, choice = plan.encoding, plan.distortion
    assert encoding is not None  # without it the plan names nothing
    if choice.kind == "gre":
        node = Node(FieldFromGre(axis=encoding.axis, sign=encoding.sign,
                                 **gre_inputs(plan, bids_dir)), name="field")  # fmt: skip
        workflow.connect(first, "b0_file", node, "epi_file")
        return node
    inputs = pair_inputs(plan, bids_dir)
    node = Node(FieldFromPair(axis=encoding.axis, **inputs), name="field")
    workflow.connect(first, "b0_file", node, "plus_file")
    paths = [run.path for run in plan.runs]
    opposite = choice.files[1]
    if opposite in paths:  # one of the runs that are joined
        other = Node(FirstB0(run=paths.index(opposite)), name="other")
        workflow.connect([
            (workflow.get_node("load"), other, [("dwi_file", "dwi_file")]),
            (workflow.get_node("check"), other, [("gradients_file", "gradients_file")]),
            (other, node, [("b0_file", "minus_file")]),
        ])  # fmt: skip
    else:
        node.inputs.minus_file = str(opposite)
    return node


def init_tensor_wf(dwi: DwiSettings) -> Workflow:
    """Maps of the tensor.

    Inputs: ``dwi_file``, ``gradients_file``, ``mask_file``, ``noise_file``. Outputs: `TENSOR`,
    ``direction_file``, ``color_file``, ``info_file``.

    .. workflow:: inputnode -> fit -> colour -> outputnode
    """
    workflow = Workflow(name="tensor_wf")
    inputs = ("dwi_file", "gradients_file", "mask_file", "noise_file")
    inputnode = port("inputnode", *inputs)
    outputnode = port("outputnode", *TENSOR, "direction_file", "color_file", "info_file")
    fit = Node(FitTensor(method=dwi.fit, b_max=dwi.b_max), name="fit")
    colour = Node(ColourFa(), name="colour")
    wanted = inputs if dwi.fit == "RESTORE" and dwi.denoise else inputs[:3]
    workflow.connect([
        (inputnode, fit, [(field, field) for field in wanted]),
        (fit, colour, [("fa_file", "fa_file"), ("direction_file", "direction_file")]),
        (fit, outputnode, [(field, field) for field in (*TENSOR, "direction_file", "info_file")]),
        (colour, outputnode, [("color_file", "color_file")]),
    ])  # fmt: skip
    return workflow


def init_measure_node(plan: DwiPlan, dwi: DwiSettings) -> Node:
    """Node that judges the stream and writes the measures of the person."""
    asked = {
        "denoise": dwi.denoise,
        "unring": dwi.unring,
        "drift": dwi.drift,
        "motion": dwi.motion,
        "eddy": dwi.eddy,
        "replace_outliers": dwi.replace_outliers,
        "field": dwi.distortion,
    }
    notes = [{"name": name, "reason": reason} for name, reason in plan.notes]
    if dwi.tract_atlas == "auto" and resolve_tract_atlas("auto") != FULL_TRACTS:
        reason = (
            f"the atlas {resolve_tract_atlas('auto')} has the corticospinal tract alone: "
            f"`alsflow-atlas fetch {FULL_TRACTS}` brings all three"
        )
        notes.append({"name": "tract_atlas", "reason": reason})
    interface = MeasureDwi(steps=(*INFOS, "register"), asked=asked, notes=notes)
    return Node(interface, name="measure")


def chosen_tracts(dwi: DwiSettings) -> tuple[Any, dict[str, dict[str, list[int]]]]:
    """Atlas of the tracts, and the labels of those of `TRACTS` that it has, by side."""
    atlas = find_atlas(resolve_tract_atlas(dwi.tract_atlas))
    regions = {
        name: {side: list(labels) for side, labels in atlas.regions[name].items()}
        for name in TRACTS
        if name in atlas.regions
    }
    if not regions:
        raise BadInputError(
            f"the atlas {atlas.name} names none of {', '.join(TRACTS)}; choose another one "
            "(tract_atlas), or add it again with a column region"
        )
    return atlas, regions


def init_tracts_wf(dwi: DwiSettings, *, voxel: bool = False) -> Workflow:
    """Tracts in the native space of the series, and their measures.

    Inputs: `ANATOMY`, `VOXEL`, ``b0_file``, ``brain_file``, `MAPS`. Outputs: `WARPED`,
    ``matrix_file``, ``register_info_file``, and ``voxel_file``, the table of the MRS voxel, if
    `voxel`.

    .. workflow:: inputnode -> register, steady -> warp -> measure, voxel -> outputnode
    """
    atlas, regions = chosen_tracts(dwi)
    workflow = Workflow(name="tracts_wf")
    inputnode = port("inputnode", *ANATOMY, VOXEL, "b0_file", "brain_file", *MAPS)
    outputnode = port("outputnode", *WARPED, "matrix_file", "register_info_file", "voxel_file")
    chosen = {"atlas_file": str(atlas.image), "kind": atlas.kind, "space": atlas.space,
              "regions": regions}  # fmt: skip
    register = Node(Coregister(contrast="grey_bright"), name="register")
    write = Node(WriteRigid(), name="write")
    steady = Node(SteadyWarp(), name="steady")
    warp = Node(WarpTracts(**chosen), name="warp")
    measure = Node(
        MeasureTracts(
            **chosen,
            tracts=list(TRACTS),
            names={label.index: label.name for label in atlas.labels},
            label_sides={label.index: label.side or "both" for label in atlas.labels},
            least_coverage=dwi.min_coverage,
            most_csf=dwi.max_csf,
        ),
        name="measure",
    )
    workflow.connect([
        (inputnode, register, [("b0_file", "reference_file"), ("brain_file", "mask_file"),
                               ("mask_file", "brain_file"), ("gm_file", "gm_file"),
                               ("wm_file", "wm_file")]),
        (register, write, [("matrix_file", "matrix_file")]),
        (register, warp, [("matrix_file", "matrix_file")]),
        (inputnode, steady, [("to_template_file", "to_template_file")]),
        (inputnode, warp, [("b0_file", "reference_file")]),
        (steady, warp, [("to_template_file", "to_template_file")]),
        (steady, measure, [("to_template_file", "to_template_file")]),
        (register, measure, [("matrix_file", "matrix_file")]),
        (warp, measure, [("points_file", "points_file")]),
        (inputnode, measure, [(field, field) for field in
                              (*MAPS, "csf_file")]),
        (inputnode, measure, [("brain_file", "mask_file")]),
        (register, outputnode, [("matrix_file", "matrix_file"),
                                ("qc_file", "register_info_file")]),
        (write, outputnode, [("transform_file", "dwi_to_t1w_file")]),
        (warp, outputnode, [("weights_file", "tract_weights_file"),
                            ("names_file", "tract_names_file")]),
        (measure, outputnode, [(field, field) for field in WARPED[3:]]),
    ])  # fmt: skip
    if voxel:
        _measure_voxel(workflow, dwi)
    return workflow


def _measure_voxel(workflow: Workflow, dwi: DwiSettings) -> None:
    """Add the node that measures the white matter of the MRS voxel."""
    inputnode, outputnode, register = (
        workflow.get_node(name) for name in ("inputnode", "outputnode", "register")
    )
    voxel = Node(MeasureVoxel(most_csf=dwi.max_csf, least_coverage=dwi.min_coverage), name="voxel")
    workflow.connect([
        (inputnode, voxel, [(field, field) for field in (*MAPS, "wm_file", "csf_file", VOXEL)]),
        (inputnode, voxel, [("brain_file", "mask_file")]),
        (register, voxel, [("matrix_file", "matrix_file")]),
        (voxel, outputnode, [("voxel_file", "voxel_file")]),
    ])  # fmt: skip


def init_draw_wf(*, undistorted: bool, shown: list[str]) -> Workflow:
    """Pictures of the report.

    Inputs: maps of the tensor, ``mask_file``, tract weights and profiles, ``raw_b0_file``,
    ``b0_file``, tissue maps, ``matrix_file``, ``confounds_file``. Outputs: `FIGURES`.

    .. workflow:: inputnode -> tensor, tracts, profiles, distortion, motion -> outputnode
    """
    workflow = Workflow(name="draw_wf")
    inputnode = port("inputnode", *DRAWN)
    outputnode = port("outputnode", *(f"{name}_file" for name in FIGURES))
    tensor = Node(DrawTensor(), name="tensor")
    tracts = Node(DrawTracts(names=shown), name="tracts")
    profiles = Node(DrawProfiles(), name="profiles")
    distortion = Node(DrawRegistration(), name="distortion")
    motion = Node(DrawMotion(), name="motion")
    workflow.connect([
        (inputnode, tensor, [("fa_file", "fa_file"), ("md_file", "md_file"),
                             ("direction_file", "directions_file"), ("mask_file", "mask_file")]),
        (inputnode, tracts, [("fa_file", "fa_file"), ("mask_file", "mask_file"),
                             ("tract_weights_file", "tracts_file")]),
        (inputnode, profiles, [("profiles_file", "profiles_file")]),
        (inputnode, distortion, [("raw_b0_file", "before_file"), ("mask_file", "mask_file"),
                                 ("gm_file", "gm_file"), ("wm_file", "wm_file"),
                                 ("matrix_file", "matrix_file")]),
        (inputnode, motion, [("confounds_file", "motion_file")]),
        (tensor, outputnode, [("colour_file", "color_file"),
                              ("histogram_file", "histogram_file")]),
        (tracts, outputnode, [("tracts_file", "tracts_file")]),
        (profiles, outputnode, [("profiles_file", "profiles_file")]),
        (distortion, outputnode, [("edges_file", "registration_file")]),
        (motion, outputnode, [("motion_file", "motion_file")]),
    ])  # fmt: skip
    if undistorted:
        workflow.connect(inputnode, "b0_file", distortion, "after_file")
    return workflow


def _connect_drawing(
    workflow: Workflow,
    inputnode: Node,
    series_wf: Workflow,
    tensor_wf: Workflow,
    tracts_wf: Workflow,
    draw_wf: Workflow,
) -> None:
    """Bring everything that is drawn to the workflow that draws."""
    sources: dict[Any, tuple[str, ...]] = {
        series_wf: ("mask_file", "raw_b0_file", "b0_file", "confounds_file"),
        tensor_wf: ("fa_file", "md_file", "direction_file"),
        tracts_wf: ("tract_weights_file", "profiles_file", "matrix_file"),
    }
    workflow.connect([
        (source, draw_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in fields])
        for source, fields in sources.items()
    ])  # fmt: skip
    tissue = [(field, f"inputnode.{field}") for field in ("gm_file", "wm_file")]
    workflow.connect([(inputnode, draw_wf, tissue)])
