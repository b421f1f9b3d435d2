"""The spectroscopy stream on paper: every variant feeds every output, and nothing else."""

import itertools
from dataclasses import replace
from pathlib import Path

import mrs_clinic
import nibabel as nib
import numpy as np
import pytest
from nipype.interfaces.base import isdefined
from nipype.pipeline.engine import Workflow
from nipype.pipeline.engine.utils import generate_expanded_graph

from alsflow.interfaces.bids import Visit
from alsflow.interfaces.mrs_mapping import Found
from alsflow.nodes.errors import BadInputError
from alsflow.workflows import participant
from alsflow.workflows.manifest import Entry
from alsflow.workflows.mrs import init_mrs_stream_wf
from alsflow.workflows.outputs import requested, wanted
from alsflow.workflows.ports import port
from alsflow.workflows.settings import MrsSettings, Settings

VARIANTS = {
    "fit and place": {},
    "fit alone": {"scan": False},
    "place alone": {"fit": False},
    "place alone, declared": {"fit": False, "declared_absent": True, "basis": True},
    "LCModel": {"fit": False, "basis": True},
    "LCModel without water": {"fit": False, "basis": True, "water": False},
    "a fit before LCModel": {"basis": True},
    "one of several voxels": {"voxel": (1, 2, 3)},
    "place of the scanner": {"scan": False, "place": True},
    "session": {"session": "a"},
}
FITTED = {name for name, given in VARIANTS.items() if "place alone" not in name}
PLACED = set(VARIANTS) - {"fit alone"}
RUN = {"LCModel", "LCModel without water"}


@pytest.fixture
def built(tmp_path):
    """Visit, settings and workflow of a variant, its inputs given."""

    def build(scan=True, fit=True, water=True, basis=False, place=False, session=None, **found):
        bids = tmp_path / "bids"
        visit = Visit("01", session)
        folder = bids / visit.folder / "mrs"
        folder.mkdir(parents=True)
        files = {}
        for query, suffix, there in (("mrs", "svs", scan), ("mrsref", "mrsref", scan and water)):
            if there:
                path = folder / f"{visit.prefix}_{suffix}.nii.gz"
                nib.save(nib.Nifti1Image(np.ones((1, 1, 1, 8), np.float32), np.eye(4)), path)
                files[query] = (path,)
        results = tmp_path / "lcmodel"
        results.mkdir()
        fits = tuple(results / f"sub-01{end}" for end in mrs_clinic.ENDS)
        for path in (*fits, results / "scan.rda", tmp_path / "te30.basis"):
            path.touch()
        known = Found(
            files=fits if fit else (), place=results / "scan.rda" if place else None, **found
        )
        visit = replace(visit, files=files, results={"lcmodel": known})
        settings = Settings(
            bids, tmp_path / "out", "participant", derivatives={"lcmodel": results},
            mrs=MrsSettings(basis=str(tmp_path / "te30.basis") if basis else ""),
        )  # fmt: skip
        workflow = init_mrs_stream_wf(visit, settings)
        given = workflow.get_node("inputnode").inputs
        given.trait_set(**dict.fromkeys(given.copyable_trait_names(), str(fits[0])))
        return visit, settings, workflow

    return build


def known_ports(node):
    """Inputs that an interface declares, those of its steps and outputs included."""
    interface = node.interface
    return {
        *interface.input_spec().copyable_trait_names(),
        *(f"{step}_info_file" for step in getattr(interface, "_steps", ())),
        *(f"{key}_file" for key in getattr(interface, "_keys", ())),
        *(name for name in participant.TAKES["mrs"]["anat"] if node.name == "inputnode"),
        *(field for field in ("mask_file", "gm_part_file", "wm_part_file")
          if node.name == "outputnode"),
    }  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_feeds_every_output(built, name):
    visit, settings, workflow = built(**VARIANTS[name])
    graph = generate_expanded_graph(workflow._create_flat_graph())
    names = {node.name for node in graph.nodes()}
    assert ("fit" in names) == (name in FITTED)
    assert ("place" in names) == (name in PLACED)
    assert ("run" in names) == (name in RUN)
    for node in graph.nodes():
        edges = graph.in_edges(node, data=True)
        fed = {field for *_, data in edges for _, field in data["connect"]}
        assert fed <= known_ports(node), f"{node.fullname} has no {fed - known_ports(node)}"
        for source, _, data in edges:
            given = set(source.interface.output_spec().copyable_trait_names())
            given |= set(source.outputs.copyable_trait_names())
            assert {str(out) for out, _ in data["connect"]} <= given, source.fullname
        for field, trait in node.inputs.traits(mandatory=True).items():
            known = field in fed or isdefined(getattr(node.inputs, field))
            assert known, f"{node.fullname}: {field} ({trait.desc})"
        if node.name == "ds_mrs":
            outputs = {f"{key}_file" for key in wanted("mrs", visit, settings)}
            assert fed - {"facts_file"} == outputs
            assert "facts_file" in fed
    paths = list(requested(visit, "mrs", settings).values())
    assert len(set(paths)) == len(paths)
    start = "sub-01/ses-a/" if visit.session else "sub-01/"
    for path in paths:
        assert str(path.relative_to(settings.output_dir)).startswith(start)
        assert path.name.startswith(f"{visit.prefix}_")


def test_the_same_voxel_is_read_and_quantified(built):
    workflow = built(**VARIANTS["one of several voxels"])[2]
    for name in ("fit", "quantify"):
        given = workflow.get_node(name).inputs
        assert (given.slice, given.row, given.col) == (1, 2, 3)
        assert [Path(path).suffix for path in given.in_files] == list(mrs_clinic.ENDS)


def test_limits_reach_every_judgement(built):
    visit, settings, _ = built()
    mrs = MrsSettings(sd_percent=20, snr=0.0, fwhm_ppm=0.07)
    workflow = init_mrs_stream_wf(visit, replace(settings, mrs=mrs))
    for name in ("fit", "quantify"):
        given = workflow.get_node(name).inputs
        assert (given.sd_percent, given.snr, given.fwhm_ppm) == (20, 0.0, 0.07)
    assert workflow.get_node("draw_fit").inputs.sd_percent == 20


@pytest.mark.parametrize(
    ("variant", "asked"),
    [("fit and place", True), ("LCModel", True), ("place alone", True),
     ("place alone, declared", False)],
)  # fmt: skip
def test_a_fit_is_missed_unless_it_was_said_that_there_is_none(built, variant, asked):
    given = built(**VARIANTS[variant])[2].get_node("measure").inputs
    assert given.asked["fit"] == asked


def test_sources_are_told_by_the_nearest_dataset(built):
    visit, settings, _ = built()
    inside = settings.bids_dir / "derivatives" / "lcmodel"
    inside.parent.mkdir()
    (settings.derivatives["lcmodel"]).rename(inside)
    fits = tuple(inside / path.name for path in visit.results["lcmodel"].files)
    visit = replace(visit, results={"lcmodel": Found(files=fits)})
    workflow = init_mrs_stream_wf(visit, replace(settings, derivatives={"lcmodel": inside}))
    told = workflow.get_node("ds_mrs").inputs.sidecars["mask"]["Sources"]
    assert told == ["bids:raw:sub-01/mrs/sub-01_svs.nii.gz",
                    *(f"bids:lcmodel:{path.name}" for path in fits)]  # fmt: skip


def test_sources_of_a_mapping_that_climbs(built, tmp_path):
    visit, settings, _ = built()
    table = tmp_path / "maps" / "lcmodel.tsv"
    table.parent.mkdir()
    fits = tuple(table.parent / ".." / "lcmodel" / path.name
                 for path in visit.results["lcmodel"].files)  # fmt: skip
    visit = replace(visit, files={}, results={"lcmodel": Found(files=fits)})
    mapped = replace(settings, derivatives={}, mrs=MrsSettings(mapping=str(table)))
    told = init_mrs_stream_wf(visit, mapped).get_node("ds_mrs").inputs.sidecars
    assert told == {}
    with_place = replace(visit, files={"mrs": fits[:1]})
    told = init_mrs_stream_wf(with_place, mapped).get_node("ds_mrs").inputs.sidecars
    assert told["mask"]["Sources"] == [path.name for path in fits]


def test_files_that_bear_the_name_of_a_person_are_told_by_the_mapping(built):
    visit, settings, _ = built()
    fits = tuple(path.rename(path.with_name(f"Given_Surname{path.suffix}"))
                 for path in visit.results["lcmodel"].files)  # fmt: skip
    visit = replace(visit, results={"lcmodel": Found(files=fits)})
    workflow = init_mrs_stream_wf(visit, settings)
    told = workflow.get_node("ds_mrs").inputs.sidecars["mask"]["Sources"]
    assert told == ["bids:raw:sub-01/mrs/sub-01_svs.nii.gz", "bids:lcmodel:lcmodel.tsv"]


# ---------------------------------------------------------------------------- other streams


def toy_stream(stream):
    """A stream of ports alone; one of ``bad`` is refused."""

    def init(visit, settings):
        if (visit.participant, stream) == ("bad", "mrs"):
            raise BadInputError("is bad; mend it")
        workflow = Workflow(name=f"{stream}_wf")
        takes, ties = participant.TAKES.get(stream, {}), participant.TIES.get(stream, {})
        taken = [*itertools.chain(*takes.values()),
                 *(ours for pairs in ties.values() for _, ours in pairs)]  # fmt: skip
        takers = participant.TAKES.values()
        handed = {field for taken in takers for field in taken.get(stream, ())}
        pairs = [pair for tied in participant.TIES.values() for pair in tied.get(stream, ())]
        handed |= {theirs for theirs, _ in pairs} | {"nothing"}
        workflow.add_nodes(
            [port("inputnode", "nothing", *taken), port("outputnode", *sorted(handed))]
        )
        return workflow

    return init


@pytest.mark.parametrize("person", ["fine", "bad"])
def test_the_voxel_goes_to_the_streams_that_measure_in_it(tmp_path, monkeypatch, person):
    """Where spectroscopy was refused, the others run without it."""
    for stream in participant.STREAMS:
        monkeypatch.setitem(participant.STREAMS, stream, toy_stream(stream))
    visit = Visit(person, None)
    entries = [Entry(person, None, stream) for stream in ("anat", "mrs", "dwi", "func")]
    settings = Settings(tmp_path / "bids", tmp_path / "out", "participant")
    workflow = participant.init_participant_wf([visit], entries, settings)
    visit_wf = workflow.get_node(f"{visit.name}_wf")
    edges = {
        (one.name, other.name): set(data["connect"])
        for one, other, data in visit_wf._graph.edges(data=True)
    }
    tie = ("outputnode.mask_file", "inputnode.mrs_voxel_file")
    for stream in ("dwi", "func"):
        assert ("anat_wf", f"{stream}_wf") in edges
        tied = edges.get(("mrs_wf", f"{stream}_wf"))
        assert tied == ({tie} if person == "fine" else None)
    states = {entry.stream: entry.state for entry in entries}
    assert states["mrs"] == ("not-run" if person == "fine" else "refused")
    assert states["dwi"] == states["func"] == "not-run"


@pytest.mark.parametrize(
    ("streams", "tied"),
    [(("anat", "mrs", "func"), True), (("anat", "func"), False), (("anat", "mrs"), False)],
)
def test_the_voxel_is_a_seed_where_both_streams_run(tmp_path, streams, tied):
    settings = Settings(tmp_path, tmp_path / "out", "participant", modalities=streams)
    names = [seed["name"] for seed in participant.tied(settings).func.seeds]
    assert ("mrsVoxel" in names) == tied
