"""Wiring of the group level: tables of measures to the first group result."""

from __future__ import annotations

from pathlib import Path

from nipype.interfaces.utility import Merge
from nipype.pipeline.engine import Node, Workflow

from alsflow import __version__
from alsflow.interfaces.group import (
    CollectFeatures,
    Deliver,
    DescribeColumns,
    DrawGroup,
    FitModels,
    WritePage,
    find_tables,
    read_states,
)
from alsflow.interfaces.group_mrs import DescribeOverlap, find_voxels
from alsflow.interfaces.mrs_voxel import OverlapVoxels
from alsflow.interfaces.report_mrs import DrawOverlap
from alsflow.interfaces.template import template_file
from alsflow.nodes.errors import BadInputError
from alsflow.workflows import analyses, resources
from alsflow.workflows.analyses import init_analyses_wf
from alsflow.workflows.measures import MEASURES_FILE
from alsflow.workflows.settings import Settings

DATA = Path(__file__).parent / "data"
PRODUCTS = (
    "features.tsv",
    "features_wide.tsv",
    "group/tests.tsv",
    "group/design.tsv",
    "group/excluded.tsv",
    "group/attrition.tsv",
    "group.html",
)
# where anybody has a spectroscopy voxel
OVERLAP = ("group/desc-voxel_overlap.nii.gz", "group/desc-voxel_overlap.json")


def requested_group(settings: Settings) -> dict[str, Path]:
    """Files that the group level must have written to be done, by their name."""
    names = [*PRODUCTS]
    names += OVERLAP if _voxels(settings) else ()
    names += analyses.PRODUCTS if settings.analysis else ()
    return {name: settings.output_dir / name for name in names}


def withdraw_group(settings: Settings) -> None:
    """Remove an older result, so that nobody reads it as that of a run that failed since."""
    for name in (*PRODUCTS, *OVERLAP, *analyses.PRODUCTS):
        (settings.output_dir / name).unlink(missing_ok=True)


def init_group_wf(settings: Settings, name: str = "group_wf") -> Workflow:
    """Measures of all people to tables, figures and the result page ``group.html``.

    .. workflow::

        collect -> fit -> draw -> page -> products -> deliver
        fit -> describe -> products
        overlap -> draw_overlap -> page
        overlap -> describe_overlap -> page

    The overlap is that of the spectroscopy voxels, where anybody has one.

    Parameters
    ----------
    settings : Settings
        Folders, and the columns of participants.tsv that the models use. Tables of measures are
        those under ``output_dir``; only those of ``participant_label`` and ``session_label``
        where labels are named.
    name : str
        Name of the workflow.
    """
    tables, participants = _inputs(settings)
    unusable, absent = read_states(settings.output_dir)
    labels, _ = _labels(settings)
    catalogue = str(MEASURES_FILE)
    collect = Node(
        CollectFeatures(
            measure_files=[str(path) for path in tables],
            unusable=unusable,
            measures_file=catalogue,
        ),
        name="collect",
    )
    fit = Node(
        FitModels(
            participants_file=str(participants),
            measures_file=catalogue,
            absent=absent,
            unusable=unusable,
            people=labels,
            group=settings.group.group,
            reference=settings.group.reference,
            case=settings.group.case,
            site=settings.group.site,
            covariates=list(settings.group.covariates),
            columns=dict(settings.group.columns),
            dedupe=settings.group.dedupe,
        ),
        name="fit",
    )
    if participants.with_suffix(".json").is_file():
        fit.inputs.participants_json = str(participants.with_suffix(".json"))
    draw = Node(DrawGroup(measures_file=catalogue), name="draw")
    page = Node(
        WritePage(
            measures_file=catalogue, template_file=str(DATA / "group.html"), version=__version__
        ),
        name="page",
    )
    describe = Node(
        DescribeColumns(columns_file=str(DATA / "group_columns.toml"), measures_file=catalogue),
        name="describe",
    )
    products = Node(Merge(17, ravel_inputs=True), name="products")
    deliver = Node(Deliver(out_folder=str(settings.output_dir.resolve())), name="deliver")
    workflow = Workflow(name=name)
    workflow.connect([
        (collect, fit, [("features_file", "features_file")]),
        (fit, draw, [("tests_file", "tests_file"),
                     ("rows_file", "rows_file"),
                     ("summary_file", "summary_file")]),
        (fit, page, [("tests_file", "tests_file"),
                     ("rows_file", "rows_file"),
                     ("excluded_file", "excluded_file"),
                     ("summary_file", "summary_file")]),
        (draw, page, [("figure_files", "figure_files")]),
        (collect, describe, [("wide_file", "wide_file")]),
        (fit, describe, [("summary_file", "summary_file")]),
        (collect, products, [("features_file", "in1"), ("wide_file", "in2")]),
        (fit, products, [("tests_file", "in3"), ("design_file", "in4"),
                         ("excluded_file", "in5")]),
        (describe, products, [("features_json", "in6"), ("wide_json", "in7"),
                              ("tests_json", "in8"), ("design_json", "in9"),
                              ("excluded_json", "in10")]),
        (draw, products, [("figure_files", "in11")]),
        (page, products, [("page_file", "in12")]),
        (fit, products, [("attrition_file", "in16")]),
        (describe, products, [("attrition_json", "in17")]),
        (products, deliver, [("out", "in_files")]),
    ])  # fmt: skip
    workflow.connect(fit, "tests_file", describe, "tests_file")
    if settings.analysis:
        states = {"unusable": unusable, "absent": absent}
        analyses_wf = init_analyses_wf(settings, participants, states)
        workflow.connect(collect, "features_file", analyses_wf, "inputnode.features_file")
    if voxels := _voxels(settings):
        _add_overlap(workflow, voxels, settings.output_dir.resolve())
    resources.apply(workflow, resources.group_sizes(len(tables)), settings.omp_nthreads)
    return workflow


def _add_overlap(workflow: Workflow, voxels: list[Path], folder: Path) -> None:
    """Join the overlap of spectroscopy voxels, its sidecar and its picture to the rest."""
    overlap = Node(OverlapVoxels(template_files=[str(path) for path in voxels]), name="overlap")
    draw_overlap = Node(DrawOverlap(template_file=str(template_file("t1"))), name="draw_overlap")
    sources = [f"bids::{path.relative_to(folder).as_posix()}" for path in voxels]
    describe_overlap = Node(DescribeOverlap(sources=sources), name="describe_overlap")
    page, products = (workflow.get_node(name) for name in ("page", "products"))
    map_and_count = [("overlap_file", "overlap_file"), ("count", "count")]
    workflow.connect([
        (overlap, draw_overlap, map_and_count),
        (overlap, describe_overlap, map_and_count),
        (draw_overlap, page, [("overlap_file", "overlap_picture_file")]),
        (describe_overlap, page, [("info_file", "overlap_info_file")]),
        (overlap, products, [("overlap_file", "in13")]),
        (describe_overlap, products, [("info_file", "in14")]),
        (draw_overlap, products, [("overlap_file", "in15")]),
    ])  # fmt: skip


def _voxels(settings: Settings) -> list[Path]:
    """Spectroscopy voxels in the template of the people named whose result can be used."""
    people, sessions = _labels(settings)
    folder = settings.output_dir.resolve()
    return find_voxels(folder, people, sessions, read_states(folder)[0])


def _labels(settings: Settings) -> tuple[list[str], list[str]]:
    """Labels of people and sessions that are named, bare."""
    people = [label.removeprefix("sub-") for label in settings.participant_label]
    sessions = [label.removeprefix("ses-") for label in settings.session_label]
    return people, sessions


def _inputs(settings: Settings) -> tuple[list[Path], Path]:
    """Tables of measures and participants.tsv; refuses in words if either is not there."""
    named = settings.group.participants
    participants = Path(named) if named else settings.bids_dir.resolve() / "participants.tsv"
    if not participants.is_file():
        raise BadInputError(
            f"{participants} is not there; the group level needs it for group, site, age and sex"
        )
    people, sessions = _labels(settings)
    tables = find_tables(settings.output_dir.resolve(), people, sessions)
    if not tables:
        whose = " of the people named" if people else ""
        raise BadInputError(
            f"no table of measures{whose} under {settings.output_dir}; "
            "run the participant level first"
        )
    return tables, participants
