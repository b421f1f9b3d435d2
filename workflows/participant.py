"""The participant level: one workflow per run, in it one per visit, in it one per stream."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from importlib import import_module

from nipype.pipeline.engine import Workflow

from alsflow.interfaces.bids import Visit, problem_of
from alsflow.nodes.errors import BadInputError, MissingProgramError
from alsflow.workflows.manifest import Entry
from alsflow.workflows.settings import Settings

logger = logging.getLogger("alsflow")

WORKFLOW = "alsflow_wf"


def init_anat_stream_wf(visit: Visit, settings: Settings) -> Workflow:
    """Build the anatomical stream of one visit."""
    return import_module("alsflow.workflows.anat").init_anat_stream_wf(visit, settings)


# What can be asked for with --modalities: how it is built, and the queries that it reads.
STREAMS: dict[str, Callable[[Visit, Settings], Workflow]] = {"anat": init_anat_stream_wf}
REQUIRES: dict[str, tuple[str, ...]] = {"anat": ("t1w",)}


def requirements(visits: Sequence[Visit], streams: Sequence[str]) -> list[Entry]:
    """One entry per visit and stream: ready to run, or why not."""
    return [_entry(visit, stream) for visit in visits for stream in streams]


def _entry(visit: Visit, stream: str) -> Entry:
    entry = Entry(visit.participant, visit.session, stream)
    for query in REQUIRES[stream]:
        paths = visit.files.get(query, ())
        if not paths:
            entry.state = "absent"
            entry.reason = (
                f"{visit.prefix} has no {query.upper().replace('T1W', 'T1w')} image; add it to "
                f"{visit.folder}, or leave this visit out with --participant-label or "
                "--session-label."
            )
        elif problem := problem_of(paths):
            entry.state, entry.reason = "refused", f"{visit.prefix}: {problem}"
    return entry


def init_participant_wf(
    visits: Sequence[Visit], entries: Sequence[Entry], settings: Settings
) -> Workflow:
    """Workflow of all visits and streams that are ready to run.

    An input that a builder refuses is noted in its entry and leaves the others alone.

    .. workflow:: alsflow_wf / sub_01_ses_a_wf / anat_wf

    Parameters
    ----------
    visits : sequence of Visit
        Everybody.
    entries : sequence of Entry
        As `requirements` gives them; those in the state ``not-run`` are built.
    settings : Settings
        Settings of the run.
    """
    workflow = Workflow(name=WORKFLOW)
    for visit in visits:
        visit_wf = Workflow(name=f"{visit.name}_wf")
        for entry in entries:
            if entry.belongs_to(visit) and entry.state == "not-run":
                stream_wf = _build(visit, entry, settings)
                if stream_wf is not None:
                    visit_wf.add_nodes([stream_wf])
        if visit_wf.list_node_names():
            workflow.add_nodes([visit_wf])
    return workflow


def _build(visit: Visit, entry: Entry, settings: Settings) -> Workflow | None:
    try:
        stream_wf = STREAMS[entry.stream](visit, settings)
    except BadInputError as error:
        entry.state, entry.reason = "refused", f"{visit.prefix}: {error}"
        return None
    except MissingProgramError as error:
        entry.state, entry.reason = "failed", str(error)
        return None
    except Exception as error:  # say, a header that cannot be read: the others go on
        logger.exception("the workflow of %s %s", visit.prefix, entry.stream)
        entry.state, entry.reason = "failed", f"{visit.prefix}: {type(error).__name__}: {error}"
        return None
    if stream_wf.name != f"{entry.stream}_wf":  # the manifest finds the stream by this name
        raise ValueError(f"the workflow of {entry.stream} is called {stream_wf.name}")
    return stream_wf
