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
from alsflow.nodes.errors import BadInputError
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


def requested_group(settings: Settings) -> dict[str, Path]:
    """Files that the group level must have written to be done, by their name."""
    return {name: settings.output_dir / name for name in PRODUCTS}


def withdraw_group(settings: Settings) -> None:
    """Remove an older result, so that nobody reads it as that of a run that failed since."""
    for path in requested_group(settings).values():
        path.unlink(missing_ok=True)


def init_group_wf(settings: Settings, name: str = "group_wf") -> Workflow:
    """Measures of all people to tables, figures and the result page ``group.html``.

    .. workflow::

        collect -> fit -> draw -> page -> products -> deliver
        fit -> describe -> products

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
    labels = [label.removeprefix("sub-") for label in settings.participant_label]
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
            site=settings.group.site,
            covariates=list(settings.group.covariates),
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
    return workflow


def _inputs(settings: Settings) -> tuple[list[Path], Path]:
    """Tables of measures and participants.tsv; refuses in words if either is not there."""
    participants = settings.bids_dir.resolve() / "participants.tsv"
    if not participants.is_file():
        raise BadInputError(
            f"{participants} is not there; the group level needs it for group, site, age and sex"
        )
    people = [label.removeprefix("sub-") for label in settings.participant_label]
    sessions = [label.removeprefix("ses-") for label in settings.session_label]
    tables = find_tables(settings.output_dir.resolve(), people, sessions)
    if not tables:
        whose = " of the people named" if people else ""
        raise BadInputError(
            f"no table of measures{whose} under {settings.output_dir}; "
            "run the participant level first"
        )
    return tables, participants
