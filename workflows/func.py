"""The functional stream: from a resting-state series to connectivity of the motor cortex."""

from __future__ import annotations

from pathlib import Path

from nipype.interfaces.utility import Merge
from nipype.pipeline.engine import Node, Workflow

from alsflow.interfaces.atlas import Atlas, find_atlas
from alsflow.interfaces.bids import Visit
from alsflow.interfaces.coregister import Coregister, WriteRigid
from alsflow.interfaces.drawing import DrawRegistration
from alsflow.interfaces.func_connectivity import ConnectSeeds, MapsToTemplate
from alsflow.interfaces.func_denoise import DenoiseBold, FindConfounds, read_preset
from alsflow.interfaces.func_field import FieldForBold
from alsflow.interfaces.func_local import MeasureAlff, MeasureReho, RegionMeans
from alsflow.interfaces.func_maps import LOCAL, STACKS, NameMaps, SplitSeeds
from alsflow.interfaces.func_measures import MeasureFunc
from alsflow.interfaces.func_motion import CorrectBold, CorrectSliceTiming, RealignBold
from alsflow.interfaces.func_plan import FuncPlan, field_inputs
from alsflow.interfaces.func_prep import LoadBold, MaskBold
from alsflow.interfaces.func_regions import PlaceSeeds, TissueOnBold, seed_inputs
from alsflow.interfaces.report_func import (
    DrawCarpet,
    DrawConnectivity,
    DrawLocal,
    DrawMatrix,
    DrawSeeds,
    DrawTsnr,
)
from alsflow.nodes.func.seeds import voxel_seed
from alsflow.workflows.outputs import func_plan, sink
from alsflow.workflows.ports import port
from alsflow.workflows.settings import FuncSettings, Settings

ANATOMY = ("mask_file", "gm_file", "wm_file", "csf_file", "to_template_file", "to_native_file",
           "labels_file")  # fmt: skip
FIGURES = ("carpet", "registration", "tsnr", "seeds", "matrix", "local")
SERIES_INFOS = ("load", "realign", "slice_timing", "field", "correct")
CLEAN_INFOS = ("confounds", "denoise")
MAP_INFOS = ("seeds", "connect", "alff", "reho")
SEEDS = ("seeds_file", "seeds_table_file", "groups_file", "groups_table_file", "regions_file",
         "regions_table_file")  # fmt: skip


def init_func_stream_wf(visit: Visit, settings: Settings) -> Workflow:
    """Functional stream of one visit, from its series to its derivatives.

    .. workflow:: inputnode, series_wf -> space_wf -> clean_wf -> maps_wf -> measure -> ds_func

    Inputs: `ANATOMY` and ``qc_file`` of the anatomical stream, and ``mrs_voxel_file``, the mask
    of the MRS voxel in T1w space where there is one.

    Parameters
    ----------
    visit : Visit
        Its ``files["bold"]`` holds the series, ``files["fmap"]`` what may undistort them.
    settings : Settings
        Settings of the run.
    """
    plan, func = func_plan(visit, settings), settings.func
    read = dict.fromkeys([*(run.path for run in plan.runs), *plan.distortion.files])
    sources = [f"bids:raw:{path.relative_to(settings.bids_dir)}" for path in read]
    atlas = find_atlas(settings.anat.cortical_atlas)
    workflow = Workflow(name="func_wf")
    inputnode = port("inputnode", *ANATOMY, "qc_file", "mrs_voxel_file")
    series_wf = init_series_wf(plan, settings)
    space_wf = init_space_wf(atlas, func)
    clean_wf = init_clean_wf(func)
    maps_wf = init_maps_wf(func)
    measure = init_measure_node(plan, func, list(atlas.regions))
    draw_wf = init_draw_wf(undistorted=plan.distortion.found)
    ds_func = sink("func", visit, settings, *sources)
    workflow.connect([
        (inputnode, space_wf, [(field, f"inputnode.{field}") for field in
                               (*ANATOMY, "mrs_voxel_file")]),
        (series_wf, space_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in
                               ("mean_file", "even_file", "brain_file", "seen_file")]),
        (series_wf, clean_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in
                               ("bold_file", "motion_file", "load_info_file")]),
        (space_wf, clean_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in
                              ("mask_file", "tissue_file")]),
        (series_wf, maps_wf, [("outputnode.load_info_file", "inputnode.load_info_file")]),
        (space_wf, maps_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in
                             ("mask_file", "tissue_file", "register_file", *SEEDS)]),
        (inputnode, maps_wf, [("to_native_file", "inputnode.to_native_file")]),
        (clean_wf, maps_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in
                             ("denoised_file", "unfiltered_file", "kept_file",
                              "denoise_info_file")]),
        (inputnode, measure, [("qc_file", "anat_qc_file")]),
        (maps_wf, measure, [("outputnode.connections_file", "connections_file"),
                            ("outputnode.local_table_file", "means_file")]),
        (series_wf, ds_func, [("outputnode.bold_file", "bold_file"),
                              ("outputnode.mean_file", "boldref_file")]),
        (space_wf, ds_func, [("outputnode.bold_to_t1w_file", "bold_to_t1w_file"),
                             ("outputnode.mask_file", "mask_file"),
                             ("outputnode.tissue_file", "tissue_file"),
                             ("outputnode.regions_file", "regions_file"),
                             ("outputnode.regions_table_file", "region_names_file"),
                             ("outputnode.seeds_file", "seeds_file"),
                             ("outputnode.seeds_table_file", "seed_names_file")]),
        (clean_wf, ds_func, [("outputnode.confounds_file", "confounds_file"),
                             ("outputnode.columns_file", "confound_columns_file"),
                             ("outputnode.tsnr_file", "tsnr_file"),
                             ("outputnode.denoised_file", "denoised_file")]),
        (maps_wf, ds_func, [(f"outputnode.{field}", field) for field in SUNK]),
        (measure, ds_func, [("measures_file", "measures_file"), ("qc_file", "qc_file"),
                            ("model_file", "info_file"), ("facts_file", "facts_file")]),
        (draw_wf, ds_func, [(f"outputnode.{name}_file", f"{name}_figure_file") for name in
                            FIGURES]),
        (draw_wf, ds_func, [("outputnode.connectivity_files", "connectivity_figure_files")]),
    ])  # fmt: skip
    for source, steps in ((series_wf, SERIES_INFOS), (space_wf, ("register",)),
                          (clean_wf, CLEAN_INFOS), (maps_wf, MAP_INFOS[1:])):  # fmt: skip
        workflow.connect([
            (source, measure, [(f"outputnode.{step}_info_file", f"{step}_info_file") for step in
                               steps]),
        ])  # fmt: skip
    workflow.connect(space_wf, "outputnode.seeds_info_file", measure, "seeds_info_file")
    for source in (series_wf, space_wf, clean_wf, maps_wf):
        edges = [(f"outputnode.{field}", f"inputnode.{field}") for field in DRAWN[source.name]]
        workflow.connect([(source, draw_wf, edges)])
    tissue = [(field, f"inputnode.{field}") for field in ("gm_file", "wm_file")]
    workflow.connect([(inputnode, draw_wf, tissue)])
    if plan.distortion.found:
        workflow.connect(series_wf, "outputnode.shift_file", ds_func, "shift_file")
    return workflow


def check_settings(settings: Settings) -> None:
    """Refuse a preset or seeds that nobody's series could be analysed with."""
    read_preset(settings.func.denoising)
    seed_inputs(settings.func.seeds, find_atlas(settings.anat.cortical_atlas))


def init_series_wf(plan: FuncPlan, settings: Settings) -> Workflow:
    """From the runs of a visit to one corrected series.

    Outputs: ``bold_file``, ``mean_file``, ``even_file`` (the mean without coil shading),
    ``brain_file`` (brain as the mean shows it),
    ``seen_file``, ``motion_file``, ``raw_even_file``, ``shift_file``, and ``<step>_info_file`` of
    `SERIES_INFOS` as far as the step was asked for and possible.

    .. workflow:: load -> find -> realign, slice_timing, field -> correct -> brain -> outputnode
    """
    func = settings.func
    workflow = Workflow(name="series_wf")
    outputnode = port("outputnode", "bold_file", "mean_file", "even_file", "brain_file",
                      "seen_file", "motion_file", "raw_even_file", "shift_file",
                      *(f"{step}_info_file" for step in SERIES_INFOS))  # fmt: skip
    load = Node(
        LoadBold(
            in_files=[str(run.path) for run in plan.runs],
            tr=plan.tr,
            dummy_scans=func.dummy_scans,
        ),
        name="load",
    )
    find = Node(MaskBold(), name="find")
    realign = Node(RealignBold(), name="realign")
    correct = Node(CorrectBold(), name="correct")
    brain = Node(MaskBold(), name="brain")
    workflow.connect([
        (load, find, [("bold_file", "bold_file")]),
        (load, realign, [("bold_file", "bold_file"), ("info_file", "load_info_file")]),
        (find, realign, [("mask_file", "mask_file")]),
        (realign, correct, [("motion_file", "motion_file")]),
        (correct, brain, [("bold_file", "bold_file")]),
        (load, outputnode, [("info_file", "load_info_file")]),
        (find, outputnode, [("even_file", "raw_even_file")]),
        (realign, outputnode, [("motion_file", "motion_file"),
                               ("info_file", "realign_info_file")]),
        (correct, outputnode, [(field, field) for field in
                               ("bold_file", "mean_file", "seen_file")]),
        (correct, outputnode, [("info_file", "correct_info_file")]),
        (brain, outputnode, [("mask_file", "brain_file"), ("even_file", "even_file")]),
    ])  # fmt: skip
    last = load
    if func.slice_timing and plan.slice_times is not None:
        last = Node(
            CorrectSliceTiming(slice_times=list(plan.slice_times), slice_axis=plan.slice_axis),
            name="slice_timing",
        )
        workflow.connect([
            (load, last, [("bold_file", "bold_file"), ("info_file", "load_info_file")]),
            (last, outputnode, [("info_file", "slice_timing_info_file")]),
        ])  # fmt: skip
    workflow.connect(last, "bold_file", correct, "bold_file")
    if plan.distortion.found:
        field = Node(FieldForBold(**field_inputs(plan, settings.bids_dir)), name="field")
        correct.inputs.axis = plan.axis
        workflow.connect([
            (find, field, [("mean_file", "reference_file"), ("mask_file", "mask_file")]),
            (field, correct, [("shift_file", "shift_file")]),
            (field, outputnode, [("shift_file", "shift_file"),
                                 ("info_file", "field_info_file")]),
        ])  # fmt: skip
    return workflow


def init_space_wf(atlas: Atlas, func: FuncSettings) -> Workflow:
    """Tissue, seeds and regions on the grid of the series.

    Inputs: `ANATOMY`, ``mrs_voxel_file``, ``mean_file``, ``even_file``, ``brain_file``,
    ``seen_file``. Outputs:
    ``register_file``, ``bold_to_t1w_file``, ``tissue_file``, ``mask_file``, `SEEDS`,
    ``register_info_file``, ``seeds_info_file``.

    .. workflow:: inputnode -> register -> tissue -> place -> outputnode
    """
    workflow = Workflow(name="space_wf")
    inputnode = port("inputnode", *ANATOMY, "mrs_voxel_file", "mean_file", "even_file",
                     "brain_file", "seen_file")  # fmt: skip
    outputnode = port("outputnode", "register_file", "bold_to_t1w_file", "tissue_file",
                      "mask_file", *SEEDS, "register_info_file", "seeds_info_file")  # fmt: skip
    register = Node(Coregister(contrast="grey_bright"), name="register")
    write = Node(WriteRigid(), name="write")
    tissue = Node(TissueOnBold(), name="tissue")
    place = Node(PlaceSeeds(**seed_inputs(func.seeds, atlas)), name="place")
    workflow.connect([
        (inputnode, register, [("even_file", "reference_file"), ("brain_file", "mask_file"),
                               ("mask_file", "brain_file"), ("gm_file", "gm_file"),
                               ("wm_file", "wm_file")]),
        (inputnode, tissue, [("mean_file", "reference_file"), ("mask_file", "brain_file"),
                             ("seen_file", "seen_file"), ("gm_file", "gm_file"),
                             ("wm_file", "wm_file"), ("csf_file", "csf_file")]),
        (register, write, [("matrix_file", "matrix_file")]),
        (register, tissue, [("matrix_file", "matrix_file")]),
        (inputnode, place, [("mean_file", "reference_file"), ("gm_file", "gm_file"),
                            ("labels_file", "labels_file"),
                            ("to_template_file", "to_template_file"),
                            ("mrs_voxel_file", "mrs_voxel_file")]),
        (register, place, [("matrix_file", "matrix_file")]),
        (tissue, place, [("mask_file", "mask_file")]),
        (register, outputnode, [("matrix_file", "register_file"),
                                ("qc_file", "register_info_file")]),
        (write, outputnode, [("transform_file", "bold_to_t1w_file")]),
        (tissue, outputnode, [("tissue_file", "tissue_file"), ("mask_file", "mask_file")]),
        (place, outputnode, [(field, field) for field in SEEDS]),
        (place, outputnode, [("info_file", "seeds_info_file")]),
    ])  # fmt: skip
    return workflow


def init_clean_wf(func: FuncSettings) -> Workflow:
    """Confounds and their projection.

    Inputs: ``bold_file``, ``mask_file``, ``tissue_file``, ``motion_file``, ``load_info_file``.
    Outputs: ``confounds_file``, ``columns_file``, ``tsnr_file``, ``denoised_file``,
    ``unfiltered_file``, ``kept_file``, and ``<step>_info_file`` of `CLEAN_INFOS`.

    .. workflow:: inputnode -> confounds -> denoise -> outputnode
    """
    workflow = Workflow(name="clean_wf")
    inputs = ("bold_file", "mask_file", "tissue_file", "motion_file", "load_info_file")
    inputnode = port("inputnode", *inputs)
    outputnode = port("outputnode", "confounds_file", "columns_file", "tsnr_file",
                      "denoised_file", "unfiltered_file", "kept_file",
                      *(f"{step}_info_file" for step in CLEAN_INFOS))  # fmt: skip
    confounds = Node(FindConfounds(), name="confounds")
    censor = {"censor_fd": func.censor_fd} if func.censor_fd else {}
    denoise = Node(DenoiseBold(preset=read_preset(func.denoising), **censor),
                   name="denoise")  # fmt: skip
    workflow.connect([
        (inputnode, confounds, [(field, field) for field in inputs]),
        (inputnode, denoise, [(field, field) for field in
                              ("bold_file", "mask_file", "load_info_file")]),
        (confounds, denoise, [("confounds_file", "confounds_file"),
                              ("info_file", "confounds_info_file")]),
        (confounds, outputnode, [("confounds_file", "confounds_file"),
                                 ("sidecar_file", "columns_file"), ("tsnr_file", "tsnr_file"),
                                 ("info_file", "confounds_info_file")]),
        (denoise, outputnode, [(field, field) for field in
                               ("denoised_file", "unfiltered_file", "kept_file")]),
        (denoise, outputnode, [("info_file", "denoise_info_file")]),
    ])  # fmt: skip
    return workflow


# Outputs of `init_maps_wf` that are written, by the ports of the sink.
SUNK = ("r_files", "z_files", "thresholded_files", "binary_files",
        *(f"template_{name}_files" for name in STACKS), "seed_table_file", "timeseries_file",
        "relmat_file", *(f"{name}_file" for name in LOCAL),
        *(f"template_{name}_file" for name in LOCAL), "local_table_file",
        "template_mask_file")  # fmt: skip


def init_maps_wf(func: FuncSettings) -> Workflow:
    """Connectivity and local measures, native and in template space.

    Inputs: ``mask_file``, ``tissue_file``, ``register_file``, `SEEDS`, ``to_native_file``,
    ``load_info_file``, ``denoised_file``, ``unfiltered_file``, ``kept_file``,
    ``denoise_info_file``. Outputs: `SUNK`, ``connections_file``, ``z_file``, and
    ``<step>_info_file`` of `MAP_INFOS`. Without a denoised series there are no maps.

    .. workflow:: inputnode -> connect, alff, reho -> warp, means -> outputnode
    """
    workflow = Workflow(name="maps_wf")
    inputnode = port("inputnode", "mask_file", "tissue_file", "register_file", *SEEDS,
                     "to_native_file", "load_info_file", "denoised_file", "unfiltered_file",
                     "kept_file", "denoise_info_file")  # fmt: skip
    outputnode = port("outputnode", *SUNK, "connections_file", "z_file",
                      *(f"{step}_info_file" for step in MAP_INFOS[1:]))  # fmt: skip
    connect = Node(ConnectSeeds(threshold=func.threshold, voxel_seed=voxel_seed(func.seeds)),
                   name="connect")  # fmt: skip
    stacks = Node(Merge(len(STACKS)), name="stacks", run_without_submitting=True)
    grid = {"voxel": func.template_voxel, "fwhm": func.smoothing}
    warp_seeds = Node(MapsToTemplate(**grid), name="warp_seeds")
    split = Node(SplitSeeds(), name="split")
    alff = Node(MeasureAlff(band=tuple(func.alff_band)), name="alff")
    reho = Node(MeasureReho(), name="reho")
    locals_ = Node(Merge(len(LOCAL)), name="locals", run_without_submitting=True)
    warp_local = Node(MapsToTemplate(**grid), name="warp_local")
    name_local = Node(NameMaps(), name="name_local")
    means = Node(RegionMeans(), name="means")
    placed = [("register_file", "matrix_file"), ("to_native_file", "to_native_file"),
              ("mask_file", "seen_file")]  # fmt: skip
    known = [(field, field) for field in
             ("mask_file", "load_info_file", "kept_file", "denoise_info_file")]  # fmt: skip
    workflow.connect([
        (inputnode, connect, [(field, field) for field in
                              ("denoised_file", "kept_file", "denoise_info_file", "mask_file",
                               "tissue_file", *SEEDS)]),
        (connect, stacks, [(f"{name}_file", f"in{k}") for k, name in enumerate(STACKS, 1)]),
        (stacks, warp_seeds, [("out", "map_files")]),
        (connect, warp_seeds, [("map_mask_file", "mask_file")]),
        (inputnode, warp_seeds, placed),
        (connect, split, [(f"{name}_file", f"{name}_file") for name in STACKS]),
        (warp_seeds, split, [("template_files", "template_files")]),
        (inputnode, split, [("seeds_table_file", "seeds_table_file")]),
        (inputnode, alff, [*known, ("unfiltered_file", "unfiltered_file")]),
        (inputnode, reho, [*known, ("denoised_file", "denoised_file")]),
        (alff, locals_, [("alff_file", "in1"), ("falff_file", "in2")]),
        (reho, locals_, [("reho_file", "in3")]),
        (locals_, warp_local, [("out", "map_files")]),
        (inputnode, warp_local, [*placed, ("mask_file", "mask_file")]),
        (warp_local, name_local, [("template_files", "map_files")]),
        (alff, means, [(field, field) for field in ("alff_file", "falff_file")]),
        (alff, means, [("info_file", "alff_info_file")]),
        (reho, means, [("reho_file", "reho_file"), ("info_file", "reho_info_file")]),
        (inputnode, means, [(field, field) for field in ("groups_file", "groups_table_file")]),
        (split, outputnode, [(f"{kind}{name}_files", f"{kind}{name}_files")
                             for kind in ("", "template_") for name in STACKS]),
        (connect, outputnode, [("seed_table_file", "seed_table_file"),
                               ("timeseries_file", "timeseries_file"),
                               ("relmat_file", "relmat_file"),
                               ("connections_file", "connections_file"), ("z_file", "z_file"),
                               ("info_file", "connect_info_file")]),
        (alff, outputnode, [("alff_file", "alff_file"), ("falff_file", "falff_file"),
                            ("info_file", "alff_info_file")]),
        (reho, outputnode, [("reho_file", "reho_file"), ("info_file", "reho_info_file")]),
        (name_local, outputnode, [(f"{name}_file", f"template_{name}_file") for name in LOCAL]),
        (warp_seeds, outputnode, [("coverage_file", "template_mask_file")]),
        (means, outputnode, [("means_file", "local_table_file")]),
    ])  # fmt: skip
    return workflow


def init_measure_node(plan: FuncPlan, func: FuncSettings, regions: list[str]) -> Node:
    """Node that judges the stream and writes the measures of the person."""
    asked = {
        "slice_timing": func.slice_timing,
        "field": func.distortion,
        "denoise": Path(func.denoising).stem,
    }
    notes = [{"name": name, "reason": reason} for name, reason in plan.notes]
    steps = (*SERIES_INFOS, "register", *CLEAN_INFOS, *MAP_INFOS)
    interface = MeasureFunc(steps=steps, asked=asked, notes=notes, regions=regions,
                            voxel=bool(voxel_seed(func.seeds)))  # fmt: skip
    return Node(interface, name="measure")


# What is drawn, by the workflow that it comes from.
DRAWN = {
    "series_wf": ("raw_even_file", "even_file", "mean_file", "bold_file", "load_info_file"),
    "space_wf": ("register_file", "mask_file", "tissue_file", "seeds_file", "seeds_table_file",
                 "regions_file", "regions_table_file"),
    "clean_wf": ("confounds_file", "tsnr_file", "denoised_file", "kept_file"),
    "maps_wf": ("z_file", "relmat_file", *(f"{name}_file" for name in LOCAL)),
}  # fmt: skip


def init_draw_wf(*, undistorted: bool) -> Workflow:
    """Pictures of the report.

    Inputs: `DRAWN`, ``gm_file``, ``wm_file``. Outputs: ``<name>_file`` of `FIGURES`, and
    ``connectivity_files``, one for each seed; without a denoised series there are none of these.

    .. workflow:: inputnode -> carpet, registration, tsnr, seeds, connectivity -> outputnode
    """
    workflow = Workflow(name="draw_wf")
    taken = [field for fields in DRAWN.values() for field in fields]
    inputnode = port("inputnode", *taken, "gm_file", "wm_file")
    outputnode = port("outputnode", *(f"{name}_file" for name in FIGURES), "connectivity_files")
    carpet = Node(DrawCarpet(), name="carpet")
    registration = Node(DrawRegistration(), name="registration")
    tsnr = Node(DrawTsnr(), name="tsnr")
    seeds = Node(DrawSeeds(), name="seeds")
    connectivity = Node(DrawConnectivity(), name="connectivity")
    matrix = Node(DrawMatrix(), name="matrix")
    local = Node(DrawLocal(), name="local")
    placed = [(field, field) for field in
              ("mean_file", "mask_file", "seeds_file", "seeds_table_file")]  # fmt: skip
    workflow.connect([
        (inputnode, carpet, [(field, field) for field in
                             ("bold_file", "denoised_file", "tissue_file", "mask_file",
                              "confounds_file", "load_info_file", "kept_file", "regions_file",
                              "regions_table_file")]),
        (inputnode, registration, [("mask_file", "mask_file"), ("gm_file", "gm_file"),
                                   ("wm_file", "wm_file"), ("register_file", "matrix_file")]),
        (inputnode, tsnr, [("tsnr_file", "tsnr_file"), ("mask_file", "mask_file")]),
        (inputnode, seeds, placed),
        (inputnode, connectivity, [*placed, ("z_file", "z_file")]),
        (inputnode, matrix, [("relmat_file", "relmat_file"),
                             ("regions_table_file", "regions_table_file")]),
        (carpet, outputnode, [("carpet_file", "carpet_file")]),
        (registration, outputnode, [("edges_file", "registration_file")]),
        (tsnr, outputnode, [("tsnr_file", "tsnr_file")]),
        (seeds, outputnode, [("seeds_file", "seeds_file")]),
        (connectivity, outputnode, [("map_files", "connectivity_files")]),
        (matrix, outputnode, [("matrix_file", "matrix_file")]),
        (inputnode, local, [(field, field) for field in
                            ("mean_file", "mask_file", *(f"{name}_file" for name in LOCAL))]),
        (local, outputnode, [("local_file", "local_file")]),
    ])  # fmt: skip
    if undistorted:
        workflow.connect([
            (inputnode, registration, [("raw_even_file", "before_file"),
                                       ("even_file", "after_file")]),
        ])  # fmt: skip
    else:
        workflow.connect(inputnode, "even_file", registration, "before_file")
    return workflow
