"""The spectroscopy stream: from an LCModel fit and its voxel to ratios and their tissue."""

from __future__ import annotations

import re
from collections.abc import Mapping
from os.path import normpath
from pathlib import Path
from typing import Any

from nipype.pipeline.engine import Node, Workflow

from alsflow.interfaces.bids import Visit
from alsflow.interfaces.mrs_fit import QuantifyMrs, ReadFit, check_constants
from alsflow.interfaces.mrs_mapping import MAPPING_NAME
from alsflow.interfaces.mrs_measures import MeasureMrs
from alsflow.interfaces.mrs_plan import MrsPlan, check_mrs
from alsflow.interfaces.mrs_run import RunLCModel, run_inputs
from alsflow.interfaces.mrs_voxel import PlaceVoxel, voxel_inputs
from alsflow.interfaces.report_mrs import DrawFit, DrawTissue, DrawVoxel
from alsflow.workflows.outputs import mrs_plan, sink
from alsflow.workflows.participant import results_folder
from alsflow.workflows.ports import port
from alsflow.workflows.settings import MrsSettings, Settings

ANATOMY = ("t1w_file", "mask_file", "gm_file", "wm_file", "csf_file", "to_native_file")
PLACED = ("mask_file", "gm_part_file", "wm_part_file")  # what other streams may take
STEPS = ("run", "fit", "place", "quantify")


def init_mrs_stream_wf(visit: Visit, settings: Settings) -> Workflow:
    """Spectroscopy stream of one visit, from its fit and its voxel to its derivatives.

    .. workflow:: inputnode, run -> fit, place -> quantify -> measure, draw -> ds_mrs

    Inputs: `ANATOMY` and ``qc_file`` of the anatomical stream. Outputs: `PLACED`, unset where the
    voxel has no place.

    Parameters
    ----------
    visit : Visit
        Its ``files["mrs"]`` holds the spectrum, ``results["lcmodel"]`` what LCModel made of it.
    settings : Settings
        Settings of the run.
    """
    plan = mrs_plan(visit, settings)
    workflow = Workflow(name="mrs_wf")
    inputnode = port("inputnode", *ANATOMY, "qc_file")
    outputnode = port("outputnode", *PLACED)
    measure = init_measure_node(plan, visit, settings)
    ds_mrs = sink("mrs", visit, settings, *_sources(plan, visit, settings))
    workflow.add_nodes([outputnode])
    workflow.connect([
        (inputnode, measure, [("qc_file", "anat_qc_file")]),
        (measure, ds_mrs, [("measures_file", "measures_file"), ("qc_file", "qc_file"),
                           ("model_file", "info_file"), ("facts_file", "facts_file")]),
    ])  # fmt: skip
    if plan.place is not None:
        _add_place(workflow, plan, settings)
    if plan.fitted:
        _add_fit(workflow, plan, settings)
    if plan.fitted or plan.place is not None:
        _add_quantities(workflow, plan, settings.mrs)
    return workflow


def check_settings(settings: Settings) -> None:
    """Refuse constants, a mapping or a basis set that nobody's spectrum could be used with."""
    mrs = settings.mrs
    check_constants(mrs.water, mrs.metabolites)
    check_mrs(mrs.mapping, mrs.basis)


def _sources(plan: MrsPlan, visit: Visit, settings: Settings) -> list[str]:
    """BIDS URIs of what is read of a visit: of the dataset, and of the results of LCModel.

    What is not named after the participant may be named after the person: the mapping that says
    whose it is stands for it.
    """
    places = {"raw": settings.bids_dir, "lcmodel": results_folder(settings)}
    folders = {name: folder for name, folder in places.items() if folder is not None}
    read = [plan.spectrum, plan.place, plan.water if plan.run else None, *plan.fit_files]
    whole = [Path(normpath(path)) for path in read if path is not None]  # a mapping may say ../
    return list(dict.fromkeys(_uri(path, visit, folders) for path in whole))


def _uri(path: Path, visit: Visit, folders: Mapping[str, Path]) -> str:
    near = [name for name, folder in folders.items() if path.is_relative_to(folder)]
    name = min(near, key=lambda n: len(path.relative_to(folders[n]).parts), default="")
    inside = path.relative_to(folders[name]) if name else Path(path.name)
    if not re.search(rf"(^|[/_])sub-{re.escape(visit.participant)}([/_.]|$)", inside.as_posix()):
        return f"bids:lcmodel:{MAPPING_NAME}"
    return f"bids:{name}:{inside}" if name else inside.name


def _add_place(workflow: Workflow, plan: MrsPlan, settings: Settings) -> None:
    """Add the voxel on the T1-weighted image and in template space, and its picture."""
    assert plan.place is not None
    place = Node(PlaceVoxel(impossible="skip", **voxel_inputs(plan.place, settings.bids_dir)),
                 name="place")  # fmt: skip
    draw = Node(DrawVoxel(), name="draw_voxel")
    bar = Node(DrawTissue(), name="draw_tissue")
    inputnode, outputnode, measure, ds_mrs = _ends(workflow)
    workflow.connect([
        (inputnode, place, [("gm_file", "gm_file"), ("wm_file", "wm_file"),
                            ("csf_file", "csf_file"), ("mask_file", "brain_file"),
                            ("to_native_file", "to_native_file")]),
        (place, outputnode, [(field, field) for field in PLACED]),
        (place, measure, [("fractions_file", "place_info_file")]),
        (inputnode, draw, [("t1w_file", "t1w_file"), ("mask_file", "brain_file")]),
        (place, draw, [("mask_file", "mask_file")]),
        (place, bar, [("fractions_file", "fractions_file")]),
        (place, ds_mrs, [(field, field) for field in (*PLACED, "template_file")]),
        (draw, ds_mrs, [("voxel_file", "voxel_figure_file")]),
        (bar, ds_mrs, [("tissue_file", "tissue_figure_file")]),
    ])  # fmt: skip


def _add_fit(workflow: Workflow, plan: MrsPlan, settings: Settings) -> None:
    """Add the fit of the spectrum, made by others or here, and its picture."""
    _, _, measure, ds_mrs = _ends(workflow)
    fit = Node(ReadFit(**_chosen(plan), **_limits(settings.mrs)), name="fit")
    draw = Node(DrawFit(sd_percent=settings.mrs.sd_percent), name="draw_fit")
    if plan.run:
        run = Node(RunLCModel(**_run_inputs(plan, settings)), name="run")
        workflow.connect([
            (run, fit, [("out_files", "in_files")]),
            (run, measure, [("info_file", "run_info_file")]),
        ])  # fmt: skip
    workflow.connect([
        (fit, measure, [("ratios_file", "ratios_file"), ("info_file", "fit_info_file")]),
        (fit, draw, [("spectra_file", "spectra_file"), ("info_file", "info_file"),
                     ("metabolites_file", "metabolites_file")]),
        (fit, ds_mrs, [("metabolites_file", "metabolites_file"),
                       ("ratios_file", "ratios_file"), ("spectra_file", "spectra_file")]),
        (draw, ds_mrs, [("fit_file", "fit_figure_file")]),
    ])  # fmt: skip


def _add_quantities(workflow: Workflow, plan: MrsPlan, mrs: MrsSettings) -> None:
    """Add tissue fractions and, where there is a fit, concentrations."""
    _, _, measure, ds_mrs = _ends(workflow)
    quantify = Node(
        QuantifyMrs(water=mrs.water, metabolites=mrs.metabolites, **_chosen(plan), **_limits(mrs)),
        name="quantify",
    )
    run, place = workflow.get_node("run"), workflow.get_node("place")
    kept = ["quant_file"] * plan.fitted + ["tissue_file"] * (place is not None)
    if run is not None:
        workflow.connect(run, "out_files", quantify, "in_files")
    if place is not None:
        workflow.connect(place, "fractions_file", quantify, "fractions_file")
    workflow.connect([
        (quantify, measure, [("quant_file", "quant_file"), ("tissue_file", "tissue_file"),
                             ("info_file", "quantify_info_file")]),
        (quantify, ds_mrs, [(field, field) for field in kept]),
    ])  # fmt: skip


def _ends(workflow: Workflow) -> tuple[Node, Node, Node, Node]:
    """Where a stream begins and ends: inputs, outputs for other streams, judgement, sink."""
    inputnode, outputnode, measure, ds_mrs = (
        workflow.get_node(name) for name in ("inputnode", "outputnode", "measure", "ds_mrs")
    )
    return inputnode, outputnode, measure, ds_mrs


def _chosen(plan: MrsPlan) -> dict[str, Any]:
    """Which files hold the fit, and which of its voxels."""
    chosen: dict[str, Any] = {}
    if plan.fit_files:
        chosen["in_files"] = [str(path) for path in plan.fit_files]
    if plan.voxel_index is not None:
        chosen |= dict(zip(("slice", "row", "col"), plan.voxel_index, strict=True))
    return chosen


def _run_inputs(plan: MrsPlan, settings: Settings) -> dict[str, Any]:
    assert plan.spectrum is not None
    return run_inputs(plan.spectrum, plan.water, settings.mrs.basis, settings.bids_dir)


def _limits(mrs: MrsSettings) -> dict[str, Any]:
    return {"sd_percent": mrs.sd_percent, "snr": mrs.snr, "fwhm_ppm": mrs.fwhm_ppm}


def init_measure_node(plan: MrsPlan, visit: Visit, settings: Settings) -> Node:
    """Node that judges the stream and writes the measures of the person."""
    looked = results_folder(settings) is not None or bool(settings.mrs.basis)
    declared = getattr(visit.results.get("lcmodel"), "declared_absent", False)
    asked = {
        "fit": plan.fitted or (looked and not declared),
        "place": plan.place is not None,
        "quantify": settings.mrs.water,
        **({"run": Path(settings.mrs.basis).name} if plan.run else {}),
    }
    notes = [{"name": name, "reason": reason} for name, reason in plan.notes]
    return Node(MeasureMrs(steps=STEPS, asked=asked, notes=notes), name="measure")
