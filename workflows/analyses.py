"""Wiring of the declared analyses: measures and clinical tables to tests, tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype.interfaces.utility import Merge
from nipype.pipeline.engine import Node, Workflow

from alsflow import __version__
from alsflow.interfaces.group import Deliver
from alsflow.interfaces.group_sensitivity import CheckSensitivity
from alsflow.interfaces.group_stats import (
    DescribeTables,
    DrawStatistics,
    PrintTables,
    RunAnalyses,
    WriteAnalyses,
)
from alsflow.interfaces.phenotype import ScoreClinical, clinical_inputs
from alsflow.nodes.clinical.options import parse_options
from alsflow.nodes.stats.plan import parse_analyses
from alsflow.workflows.measures import MEASURES_FILE
from alsflow.workflows.ports import port
from alsflow.workflows.published import PUBLISHED
from alsflow.workflows.settings import Settings, read_profile

DATA = Path(__file__).parent / "data"
FOLDER = "group/analyses"
TABLES = ("tests.tsv", "terms.tsv", "means.tsv", "power.tsv", "combat.tsv", "clinical_scores.tsv",
          "results.md")  # fmt: skip
PRODUCTS = ("analyses.html", *(f"{FOLDER}/{name}" for name in TABLES))
RESULTS = ("tests_file", "terms_file", "means_file", "tables_file", "summary_file")


def check_analyses(settings: Settings) -> None:
    """Refuse declared analyses and clinical options that nobody could run."""
    parse_analyses(settings.analysis, "the settings", settings.group.covariates)
    parse_options(settings.clinical)


def init_analyses_wf(
    settings: Settings, participants: Path, states: dict[str, dict[str, str]]
) -> Workflow:
    """Declared analyses of a cohort, from its measures to the page ``analyses.html``.

    Inputs: ``features_file``.

    .. workflow::

        score -> analyse -> draw, print, beside -> page -> products -> deliver

    Parameters
    ----------
    settings : Settings
        Its ``analysis`` says what is tested, ``clinical`` how scores are made from items.
    participants : path
        Table of the people.
    states : dict
        ``unusable`` and ``absent`` as `interfaces.group.read_states` gives them.
    """
    catalogue = {"measures_file": str(MEASURES_FILE)}
    bids_dir = settings.bids_dir.resolve()
    score = Node(ScoreClinical(**clinical_inputs(bids_dir, settings.clinical)), name="score")
    analyse = Node(RunAnalyses(**_run_inputs(settings, participants), **states, **catalogue),
                   name="analyse")  # fmt: skip
    draw = Node(DrawStatistics(**catalogue), name="draw")
    printed = Node(PrintTables(**catalogue), name="print")
    page = Node(WriteAnalyses(template_file=str(DATA / "analyses.html.j2"), version=__version__,
                              **catalogue), name="page")  # fmt: skip
    beside = Node(CheckSensitivity(covariates=list(settings.group.covariates), **catalogue),
                  name="beside")  # fmt: skip
    tables = Node(Merge(7), name="tables", run_without_submitting=True)
    describe = Node(DescribeTables(columns_file=str(DATA / "group_columns.toml"), **catalogue),
                    name="describe")  # fmt: skip
    products = Node(Merge(8, ravel_inputs=True), name="products", run_without_submitting=True)
    deliver = Node(Deliver(out_folder=str(settings.output_dir.resolve()), below=FOLDER),
                   name="deliver")  # fmt: skip
    inputnode = port("inputnode", "features_file")
    workflow = Workflow(name="analyses_wf")
    found = [(field, field) for field in RESULTS]
    workflow.connect([
        (inputnode, analyse, [("features_file", "features_file")]),
        (score, analyse, [("scores_file", "scores_file")]),
        (analyse, draw, [*found, ("rows_file", "rows_file"), ("figures_file", "figures_file")]),
        (analyse, printed, [*found, ("attrition_file", "attrition_file")]),
        (analyse, page, [*found, ("attrition_file", "attrition_file")]),
        (draw, page, [("figure_files", "figure_files")]),
        (analyse, tables, [("tests_file", "in1"), ("terms_file", "in2"), ("means_file", "in3")]),
        (score, tables, [("scores_file", "in4"), ("columns_file", "in5")]),
        (analyse, beside, [(field, field) for field in
                           ("tests_file", "rows_file", "summary_file")]),
        (beside, tables, [("power_file", "in6"), ("combat_file", "in7")]),
        (tables, describe, [("out", "table_files")]),
        (tables, products, [("out", "in1")]),
        (describe, products, [("json_files", "in2")]),
        (draw, products, [("figure_files", "in3")]),
        (printed, products, [("html_files", "in4"), ("csv_files", "in5"),
                             ("latex_files", "in6"), ("text_file", "in7")]),
        (page, products, [("page_file", "in8")]),
        (products, deliver, [("out", "in_files")]),
    ])  # fmt: skip
    return workflow


def _run_inputs(settings: Settings, participants: Path) -> dict[str, Any]:
    """Inputs of `RunAnalyses` that are files of the dataset, and settings."""
    group, bids_dir = settings.group, settings.bids_dir.resolve()
    profile = tuple(read_profile(settings.profile).get("analysis", ()))
    own = settings.analysis != profile
    inputs: dict[str, Any] = {
        "participants_file": str(participants),
        "bids_dir": str(bids_dir),
        "session_files": [str(path) for path in sorted(bids_dir.glob("sub-*/sub-*_sessions.tsv"))],
        "published_files": [str(path) for path in sorted(PUBLISHED.glob("*.toml"))],
        "analyses": list(settings.analysis),
        "strict": own,
        "source": "the configuration file" if own else f"the profile {settings.profile}",
        "random_seed": settings.random_seed,
        "people": [label.removeprefix("sub-") for label in settings.participant_label],
        "group": group.group,
        "reference": group.reference,
        "case": group.case,
        "site": group.site,
        "covariates": list(group.covariates),
        "columns": dict(group.columns),
        "dedupe": group.dedupe,
    }
    if (sidecar := participants.with_suffix(".json")).is_file():
        inputs["participants_json"] = str(sidecar)
    return inputs
