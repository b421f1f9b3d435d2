"""The anatomical stream: from a T1-weighted image to regional grey-matter volumes."""

from __future__ import annotations

from nipype.pipeline.engine import Node, Workflow

from alsflow.interfaces.anat import (
    CorrectBias,
    Denoise,
    FindBrain,
    JudgeSegmentation,
    LoadT1w,
    SegmentTissue,
)
from alsflow.interfaces.atlas import Atlas, find_atlas, resolve_deep_atlas
from alsflow.interfaces.bids import Visit
from alsflow.interfaces.normalise import LabelNative, Normalise, Smooth, WarpMaps
from alsflow.interfaces.precomputed import find_precomputed
from alsflow.interfaces.report import DrawAnatomy
from alsflow.interfaces.template import template_file
from alsflow.interfaces.volumes import LabelNames, MeasureVolumes
from alsflow.nodes.errors import BadInputError
from alsflow.workflows.anat_engines import (
    init_cat12_segmentation_wf,
    init_precomputed_segmentation_wf,
    init_spm12_segmentation_wf,
)
from alsflow.workflows.outputs import sink
from alsflow.workflows.ports import port
from alsflow.workflows.settings import AnatSettings, Settings

DEEP_REGIONS = ("striatum", "thalamus")
MAPS = ("t1w_file", "gm_file", "wm_file", "csf_file", "mask_file", "info_file")
NORMALISED = ("to_native_file", "to_template_file", "jacobian_file", "fit_file",
              "warped_t1w_file", "warped_gm_file", "warped_wm_file", "modulated_gm_file",
              "modulated_wm_file", "smooth_gm_file", "smooth_wm_file")  # fmt: skip
MEASURED = ("labels_file", "label_names_file", "deep_labels_file", "deep_label_names_file",
            "measures_file", "morph_file", "deep_morph_file", "qc_file")  # fmt: skip
# what other streams take
SHARED = (*MAPS[:5], "to_template_file", "to_native_file", "labels_file", "qc_file")
FIGURES = ("outline", "tissue", "atlas", "template")


def init_anat_stream_wf(visit: Visit, settings: Settings) -> Workflow:
    """Anatomical stream of one visit, from its T1w image to its derivatives.

    .. workflow:: load -> segmentation_wf -> normalise_wf -> measure_wf -> draw -> ds_anat

    Parameters
    ----------
    visit : Visit
        Its ``files["t1w"]`` holds one image.
    settings : Settings
        Settings of the run.
    """
    workflow = Workflow(name="anat_wf")
    t1w_file = visit.files["t1w"][0]
    atlases = chosen_atlases(settings.anat)
    load = Node(LoadT1w(in_file=str(t1w_file)), name="load")
    segmentation_wf = init_segmentation_wf(visit, settings)
    judge = Node(JudgeSegmentation(), name="judge")
    normalise_wf = init_normalise_wf(settings=settings.anat)
    measure_wf = init_measure_wf(atlases=atlases)
    draw = init_draw_node(atlases)
    ds_anat = sink("anat", visit, settings, f"bids:raw:{t1w_file.relative_to(settings.bids_dir)}")
    kept = [field for field in MEASURED if len(atlases) > 1 or not field.startswith("deep_")]

    workflow.connect([
        (load, segmentation_wf, [("t1w_file", "inputnode.t1w_file")]),
        (load, judge, [("t1w_file", "raw_file")]),
        (segmentation_wf, judge, [(f"outputnode.{field}", field) for field in
                                  (*MAPS[:5], "affine_file")]),
        (segmentation_wf, normalise_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in
                                         (*MAPS[:3], "affine_file")]),
        (segmentation_wf, measure_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in
                                       MAPS[1:5]]),
        (judge, measure_wf, [("qc_file", "inputnode.qc_file")]),
        (normalise_wf, measure_wf, [("outputnode.to_template_file", "inputnode.to_template_file"),
                                    ("outputnode.fit_file", "inputnode.fit_file")]),
        (segmentation_wf, draw, [(f"outputnode.{field}", field) for field in MAPS[:5]]),
        (measure_wf, draw, [("outputnode.labels_file", "atlas_file")]),
        (normalise_wf, draw, [("outputnode.warped_t1w_file", "warped_file")]),
        (segmentation_wf, ds_anat, [(f"outputnode.{field}", field) for field in MAPS]),
        # the field on a grid pulls images of the other space onto it
        (normalise_wf, ds_anat, [("outputnode.to_native_file", "t1w_to_template_file"),
                                 ("outputnode.to_template_file", "template_to_t1w_file"),
                                 ("outputnode.jacobian_file", "jacobian_file")]),
        (normalise_wf, ds_anat, [(f"outputnode.{field}", field) for field in NORMALISED[4:]]),
        (measure_wf, ds_anat, [(f"outputnode.{field}", field) for field in kept]),
        (draw, ds_anat, [(f"{name}_file", f"{name}_figure_file") for name in FIGURES]),
    ])  # fmt: skip
    outputnode = port("outputnode", *SHARED)
    workflow.connect([
        (segmentation_wf, outputnode, [(f"outputnode.{field}", field) for field in MAPS[:5]]),
        (normalise_wf, outputnode, [(f"outputnode.{field}", field) for field in
                                    ("to_template_file", "to_native_file")]),
        (measure_wf, outputnode, [(f"outputnode.{field}", field) for field in
                                  ("labels_file", "qc_file")]),
    ])  # fmt: skip
    if settings.anat.engine == "cat":
        workflow.connect(segmentation_wf, "outputnode.bias_file", judge, "bias_file")
    if len(atlases) > 1:
        workflow.connect(measure_wf, "outputnode.deep_labels_file", draw, "deep_atlas_file")
    return workflow


def chosen_atlases(settings: AnatSettings) -> list[Atlas]:
    """Atlas of the cortex and, where it is another one, that of striatum and thalamus."""
    deep = resolve_deep_atlas(settings.subcortical_atlas, settings.cortical_atlas)
    names = [settings.cortical_atlas] + [deep] * (deep != settings.cortical_atlas)
    return [find_atlas(name) for name in names]


def chosen_regions(atlases: list[Atlas]) -> dict[str, dict[str, list[int]]]:
    """Labels of every region measured, by side, from the atlas that measures it."""
    regions: dict[str, dict[str, list[int]]] = {}
    for atlas in atlases:
        for region, sides in atlas.regions.items():
            if region not in regions or region in DEEP_REGIONS:
                regions[region] = {side: list(labels) for side, labels in sides.items()}
    return regions


def init_segmentation_wf(visit: Visit, settings: Settings) -> Workflow:
    """Tissue maps of one head by the engine that the settings name.

    Inputs: ``t1w_file``. Outputs: `MAPS`, ``affine_file`` (template mm to T1w mm) and, from the
    engine ``cat`` alone, ``bias_file``.
    """
    if settings.anat.engine == "cat":
        return init_cat_segmentation_wf(denoise=settings.anat.denoise)
    workflow = Workflow(name="segmentation_wf")
    inputnode = port("inputnode", "t1w_file")
    outputnode = port("outputnode", *MAPS, "affine_file")
    engine_wf = _other_engine_wf(visit, settings)
    find = Node(FindBrain(), name="find")
    workflow.connect([
        (inputnode, engine_wf, [("t1w_file", "inputnode.t1w_file")]),
        (engine_wf, find, [("outputnode.t1w_file", "t1w_file")]),
        (engine_wf, outputnode, [(f"outputnode.{field}", field) for field in MAPS]),
        (find, outputnode, [("affine_file", "affine_file")]),
    ])  # fmt: skip
    return workflow


def _other_engine_wf(visit: Visit, settings: Settings) -> Workflow:
    """Build the workflow of an engine that is not the program's own."""
    if settings.anat.engine == "cat12":
        return init_cat12_segmentation_wf()
    if settings.anat.engine == "spm12":
        return init_spm12_segmentation_wf()
    folders = [path for name, path in settings.derivatives.items() if name != "lcmodel"]
    if len(folders) != 1:
        raise BadInputError(
            "the engine precomputed takes its maps from one derivatives folder; name it with "
            "--derivatives precomputed=PATH"
        )
    (folder,) = folders
    return init_precomputed_segmentation_wf(
        maps=find_precomputed(folder, visit.participant, visit.session)
    )


def init_cat_segmentation_wf(*, denoise: bool = True) -> Workflow:
    """Tissue maps by the program's own engine; ports as in `init_segmentation_wf`.

    .. workflow:: inputnode -> find -> clean -> even -> segment -> outputnode
    """
    workflow = Workflow(name="segmentation_wf")
    inputnode = port("inputnode", "t1w_file")
    outputnode = port("outputnode", *MAPS, "affine_file", "bias_file")
    find = Node(FindBrain(), name="find")
    even = Node(CorrectBias(), name="even")
    segment = Node(SegmentTissue(), name="segment")
    if denoise:
        clean = Node(Denoise(), name="clean")
        workflow.connect([
            (inputnode, clean, [("t1w_file", "t1w_file")]),
            (find, clean, [("mask_file", "mask_file")]),
            (clean, even, [("t1w_file", "t1w_file")]),
        ])  # fmt: skip
    else:
        workflow.connect(inputnode, "t1w_file", even, "t1w_file")
    workflow.connect([
        (inputnode, find, [("t1w_file", "t1w_file")]),
        (find, even, [("mask_file", "mask_file")]),
        (find, segment, [("mask_file", "mask_file"), ("affine_file", "affine_file")]),
        (even, segment, [("t1w_file", "t1w_file"), ("bias_file", "bias_file")]),
        (segment, outputnode, [(field, field) for field in (*MAPS[:5], "bias_file")]),
        (segment, outputnode, [("model_file", "info_file")]),
        (find, outputnode, [("affine_file", "affine_file")]),
    ])  # fmt: skip
    return workflow


def init_normalise_wf(*, settings: AnatSettings) -> Workflow:
    """Transforms to and from the template, and the maps in template space.

    Inputs: ``t1w_file``, ``gm_file``, ``wm_file``, ``affine_file``. Outputs: `NORMALISED`.

    .. workflow:: inputnode -> normalise -> warp -> smooth_gm, smooth_wm -> outputnode
    """
    workflow = Workflow(name="normalise_wf")
    inputnode = port("inputnode", "t1w_file", "gm_file", "wm_file", "affine_file")
    outputnode = port("outputnode", *NORMALISED)
    normalise = Node(
        Normalise(method=settings.normalisation, voxel=settings.template_voxel),
        name="normalise",
    )
    warp = Node(WarpMaps(), name="warp")
    workflow.connect([
        (inputnode, normalise, [("gm_file", "gm_file"),
                                ("wm_file", "wm_file"),
                                ("affine_file", "affine_file")]),
        (inputnode, warp, [("t1w_file", "t1w_file"),
                           ("gm_file", "gm_file"),
                           ("wm_file", "wm_file")]),
        (normalise, warp, [("to_native_file", "to_native_file"),
                           ("jacobian_file", "jacobian_file")]),
        (normalise, outputnode, [(field, field) for field in NORMALISED[:3]]),
        (warp, outputnode, [("fit_file", "fit_file"),
                            ("t1w_file", "warped_t1w_file"),
                            ("gm_file", "warped_gm_file"),
                            ("wm_file", "warped_wm_file"),
                            ("modulated_gm_file", "modulated_gm_file"),
                            ("modulated_wm_file", "modulated_wm_file")]),
    ])  # fmt: skip
    for tissue in ("gm", "wm"):
        smooth = Node(Smooth(fwhm=settings.smoothing), name=f"smooth_{tissue}")
        workflow.connect(warp, f"modulated_{tissue}_file", smooth, "in_file")
        workflow.connect(smooth, "out_file", outputnode, f"smooth_{tissue}_file")
    return workflow


def init_measure_wf(*, atlases: list[Atlas]) -> Workflow:
    """Labels in native space, and the tables of volumes.

    Inputs: tissue maps, ``mask_file``, ``to_template_file``, ``qc_file``, ``fit_file``.
    Outputs: `MEASURED`; those that start with ``deep_`` with two atlases only.

    .. workflow:: inputnode -> label -> measure -> outputnode
    """
    workflow = Workflow(name="measure_wf")
    inputnode = port("inputnode", *MAPS[1:5], "to_template_file", "qc_file", "fit_file")
    outputnode = port("outputnode", *MEASURED)
    measure = Node(MeasureVolumes(regions=chosen_regions(atlases)), name="measure")
    for atlas, prefix in zip(atlases, ("", "deep_"), strict=False):
        names = {label.index: label.name for label in atlas.labels}
        label = Node(LabelNative(atlas_file=str(atlas.image)), name=f"{prefix}label")
        name = Node(LabelNames(names=names), name=f"{prefix}names")
        measure.set_input(f"{prefix}names", names)
        workflow.connect([
            (inputnode, label, [("to_template_file", "to_template_file"),
                                ("mask_file", "mask_file")]),
            (label, measure, [("labels_file", f"{prefix}labels_file")]),
            (label, outputnode, [("labels_file", f"{prefix}labels_file")]),
            (name, outputnode, [("names_file", f"{prefix}label_names_file")]),
            (measure, outputnode, [("morph_file", "morph_file") if not prefix else
                                   ("deep_morph_file", "deep_morph_file")]),
        ])  # fmt: skip
    if len(atlases) > 1:
        measure.set_input("deep_regions", list(DEEP_REGIONS))
    workflow.connect([
        (inputnode, measure, [(field, field) for field in
                              ("gm_file", "wm_file", "csf_file", "qc_file", "fit_file")]),
        (measure, outputnode, [("measures_file", "measures_file"), ("qc_file", "qc_file")]),
    ])  # fmt: skip
    return workflow


def init_draw_node(atlases: list[Atlas]) -> Node:
    """Node that draws the pictures of the report."""
    drawing = DrawAnatomy(
        template_gm_file=str(template_file("gm")), template_wm_file=str(template_file("wm"))
    )
    shown: dict[str, dict[str, list[int]]] = {"regions": {}, "deep_regions": {}}
    for region, sides in chosen_regions(atlases).items():
        deep = len(atlases) > 1 and region in DEEP_REGIONS
        labels = [label for indices in sides.values() for label in indices]
        shown["deep_regions" if deep else "regions"][region.replace("_", " ")] = labels
    drawing.inputs.regions = shown["regions"]
    if shown["deep_regions"]:
        drawing.inputs.deep_regions = shown["deep_regions"]
    return Node(drawing, name="draw")
