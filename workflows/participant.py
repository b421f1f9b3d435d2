"""The participant level: one workflow per run, in it one per visit, in it one per stream."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from nipype.pipeline.engine import Workflow

from alsflow.interfaces.bids import TITLES, Visit, problem_of
from alsflow.nodes.errors import BadInputError, MissingProgramError
from alsflow.nodes.func.seeds import with_voxel_seed
from alsflow.workflows import resources
from alsflow.workflows.manifest import Entry
from alsflow.workflows.settings import Settings

logger = logging.getLogger("alsflow")

WORKFLOW = "alsflow_wf"


def init_anat_stream_wf(visit: Visit, settings: Settings) -> Workflow:
    """Build the anatomical stream of one visit."""
    return import_module("alsflow.workflows.anat").init_anat_stream_wf(visit, settings)


def init_dwi_stream_wf(visit: Visit, settings: Settings) -> Workflow:
    """Build the diffusion stream of one visit."""
    return import_module("alsflow.workflows.dwi").init_dwi_stream_wf(visit, settings)


def init_func_stream_wf(visit: Visit, settings: Settings) -> Workflow:
    """Build the functional stream of one visit."""
    return import_module("alsflow.workflows.func").init_func_stream_wf(visit, settings)


def init_mrs_stream_wf(visit: Visit, settings: Settings) -> Workflow:
    """Build the spectroscopy stream of one visit."""
    return import_module("alsflow.workflows.mrs").init_mrs_stream_wf(visit, settings)


# What can be asked for with --modalities: how it is built, the queries without whose files it
# cannot run (the first is its own), those that it reads where there are any, the streams
# whose results it takes, by the ports of their outputnode, and what it takes of others where they
# are there, as pairs of their port and its own.
STREAMS: dict[str, Callable[[Visit, Settings], Workflow]] = {
    "anat": init_anat_stream_wf,
    "mrs": init_mrs_stream_wf,
    "dwi": init_dwi_stream_wf,
    "func": init_func_stream_wf,
}
REQUIRES: dict[str, tuple[str, ...]] = {
    "anat": ("t1w",),
    "mrs": ("mrs", "t1w"),
    "dwi": ("dwi", "t1w"),
    "func": ("bold", "t1w"),
}
READS: dict[str, tuple[str, ...]] = {"mrs": ("mrsref",), "dwi": ("fmap",), "func": ("fmap",)}
INSTEAD = {"mrs": "lcmodel"}  # what serves as well as the files of a query
TAKES: dict[str, dict[str, tuple[str, ...]]] = {
    "mrs": {
        "anat": ("t1w_file", "mask_file", "gm_file", "wm_file", "csf_file", "to_native_file",
                 "qc_file"),
    },
    "dwi": {
        "anat": ("t1w_file", "mask_file", "gm_file", "wm_file", "csf_file", "to_template_file",
                 "qc_file"),
    },
    "func": {
        "anat": ("mask_file", "gm_file", "wm_file", "csf_file", "to_template_file",
                 "to_native_file", "labels_file", "qc_file"),
    },
}  # fmt: skip
TIES: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {
    "dwi": {"mrs": (("mask_file", "mrs_voxel_file"),)},
    "func": {"mrs": (("mask_file", "mrs_voxel_file"),)},
}


def streams_asked(settings: Settings) -> tuple[str, ...]:
    """Streams that the settings name, and those that they build on; all if none is named."""
    named = settings.modalities or tuple(STREAMS)
    needed = {other for stream in named for other in TAKES.get(stream, {})}
    return tuple(stream for stream in STREAMS if stream in {*named, *needed})


def queries_of(streams: Sequence[str]) -> list[str]:
    """Queries whose files some of the streams read."""
    return sorted({q for stream in streams for q in (*REQUIRES[stream], *READS.get(stream, ()))})


def streams_present(visits: Sequence[Visit], streams: Sequence[str]) -> tuple[str, ...]:
    """Streams for which some visit has images, and the anatomical one in any case."""
    return tuple(
        stream
        for stream in streams
        if stream == "anat" or any(_known(visit, REQUIRES[stream][0]) for visit in visits)
    )


def _known(visit: Visit, query: str) -> bool:
    """Whether there are files of a query, or something was said of them."""
    return bool(_files(visit, query) or _result_problem(visit, query))


def _files(visit: Visit, query: str) -> tuple[Path, ...]:
    """Files of a query, or what serves as well."""
    return visit.files.get(query, ()) or visit.files.get(INSTEAD.get(query, ""), ())


def tied(settings: Settings) -> Settings:
    """Settings of streams that look at each other: the MRS voxel is a seed where there is one."""
    if not {"mrs", "func"} <= set(settings.modalities):
        return settings
    seeds = with_voxel_seed(settings.func.seeds)
    return replace(settings, func=replace(settings.func, seeds=seeds))


def results_folder(settings: Settings) -> Path | None:
    """Folder with results of LCModel; None where neither it nor a mapping is named."""
    if "lcmodel" in settings.derivatives:
        return settings.derivatives["lcmodel"]
    return Path(settings.mrs.mapping).parent if settings.mrs.mapping else None


def with_results(visits: Sequence[Visit], settings: Settings) -> tuple[list[Visit], list[str]]:
    """Visits with what LCModel made of their spectra, and what looks wrong about the results."""
    folder = results_folder(settings)
    if folder is None:
        return list(visits), []
    found, warnings = import_module("alsflow.interfaces.mrs_plan").find_results(
        folder,
        [(visit.participant, visit.session) for visit in visits],
        Path(settings.mrs.mapping) if settings.mrs.mapping else None,
    )
    return [_with_result(visit, found) for visit in visits], warnings


def _with_result(visit: Visit, found: Mapping[tuple[str, str | None], Any]) -> Visit:
    """Visit with its result; one that cannot be used is refused when its stream is built."""
    result = found.get((visit.participant, visit.session))
    if result is None:
        return visit
    there = result.files or ((result.place,) if result.place else ())
    files = dict(visit.files) | ({"lcmodel": there} if there else {})
    return replace(visit, files=files, results={"lcmodel": result})


def _result_problem(visit: Visit, query: str) -> str:
    """Why a result that would serve as well cannot be used, where one was named."""
    return str(getattr(visit.results.get(INSTEAD.get(query, "")), "problem", ""))


def requirements(
    visits: Sequence[Visit], streams: Sequence[str], named: bool = True
) -> list[Entry]:
    """One entry per visit and stream: ready to run, or why not.

    Where no stream was `named`, nobody is expected to have the images of every one but the
    anatomical.
    """
    entries = []
    for visit in visits:
        for stream in streams:
            entry = _entry(visit, stream)
            entry.expected = named or stream == "anat"
            entries.append(entry)
    return entries


def _entry(visit: Visit, stream: str) -> Entry:
    entry = Entry(visit.participant, visit.session, stream)
    for query in reversed(REQUIRES[stream]):
        paths = _files(visit, query)
        if not paths and (problem := _result_problem(visit, query)):
            entry.state, entry.reason = "refused", f"{visit.prefix}: {problem}"
        elif not paths:
            entry.state = "absent"
            entry.reason = (
                f"{visit.prefix} has no {TITLES[query]}; add it to {visit.folder}, or leave this "
                "visit out with --participant-label or --session-label."
            )
        elif problem := problem_of(paths, query):
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
        built: dict[str, Workflow] = {}
        for entry in entries:
            if entry.belongs_to(visit) and entry.state == "not-run":
                takes = TAKES.get(entry.stream, {})
                if not set(takes) <= set(built):
                    continue  # the entry of the other stream says why
                stream_wf = _build(visit, entry, settings)
                if stream_wf is not None:
                    built[entry.stream] = stream_wf
                    visit_wf.add_nodes([stream_wf])
                    _join(visit_wf, built, entry.stream)
        if visit_wf.list_node_names():
            workflow.add_nodes([visit_wf])
    return workflow


def _join(visit_wf: Workflow, built: dict[str, Workflow], stream: str) -> None:
    """Connect a stream with those whose results it takes."""
    for other, ports in TAKES.get(stream, {}).items():
        edges = [(f"outputnode.{port}", f"inputnode.{port}") for port in ports]
        visit_wf.connect([(built[other], built[stream], edges)])
    for other, pairs in TIES.get(stream, {}).items():
        if other in built:
            edges = [(f"outputnode.{theirs}", f"inputnode.{ours}") for theirs, ours in pairs]
            visit_wf.connect([(built[other], built[stream], edges)])


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
    resources.apply(stream_wf, resources.sizes_of(visit, settings), settings.omp_nthreads)
    return stream_wf
