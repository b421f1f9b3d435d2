"""The functional stream on paper: every variant feeds every output, and nothing else."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nipype.interfaces.base import isdefined
from nipype.pipeline.engine.utils import generate_expanded_graph

from alsflow.interfaces.bids import Visit
from alsflow.nodes.func.seeds import DEFAULT_SEEDS, with_voxel_seed
from alsflow.workflows.func import init_func_stream_wf
from alsflow.workflows.outputs import declared, requested, wanted
from alsflow.workflows.settings import FuncSettings, Settings

SHAPE = (6, 7, 5, 40)
TIMED = {"SliceTiming": [0.0, 1.0, 0.5, 1.5, 0.25]}
ENCODED = {"PhaseEncodingDirection": "j-", "TotalReadoutTime": 0.03}
FIELDMAPS = {"none": (), "pair": ("dir-AP_epi", "dir-PA_epi"), "gre": ("phasediff", "magnitude1")}


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """A dataset of small images that are never computed on."""
    root = tmp_path_factory.mktemp("paper") / "bids"
    func = root / "sub-01" / "func" / "sub-01_task-rest"
    for run in ("1", "2"):
        small_image(f"{func}_run-{run}_bold", SHAPE, TIMED | ENCODED)
    small_image(root / "sub-02" / "func" / "sub-02_task-rest_bold", SHAPE, {})
    meant = {"IntendedFor": [f"func/sub-01_task-rest_run-{run}_bold.nii.gz" for run in "12"]}
    fmap = root / "sub-01" / "fmap" / "sub-01_"
    for name, sign in (("AP", "j-"), ("PA", "j")):
        meta = {"PhaseEncodingDirection": sign, "TotalReadoutTime": 0.04}
        small_image(f"{fmap}dir-{name}_epi", SHAPE[:3], meta | meant)
    echoes = {"EchoTime1": 0.004, "EchoTime2": 0.006}
    small_image(f"{fmap}phasediff", SHAPE[:3], echoes | meant)
    small_image(f"{fmap}magnitude1", SHAPE[:3], meant)
    return root


def small_image(stem, shape, meta):
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.ones(shape, np.float32), np.diag([3.0, 3.0, 3.5, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    if len(shape) == 4:
        image.header.set_zooms((3.0, 3.0, 3.5, 2.0))
        meta = meta | {"RepetitionTime": 2.0, "TaskName": "rest"}
    nib.save(image, f"{stem}.nii.gz")
    Path(f"{stem}.json").write_text(json.dumps(meta))


VARIANTS = {
    "defaults": {},
    "two runs": {"runs": (1, 2)},
    "gradient-echo map": {"fmap": "gre"},
    "no field map": {"fmap": "none"},
    "distortion stays": {"func": {"distortion": "none"}},
    "no slice timing": {"func": {"slice_timing": False}},
    "nothing known": {"person": "02", "runs": (0,), "fmap": "none"},
    "as published": {"func": {"denoising": "calsnic"}},
    "censored": {"func": {"censor_fd": 0.5}},
    "steady state": {"func": {"dummy_scans": "auto"}},
    "session": {"session": "a"},
    "MRS voxel": {"func": {"seeds": with_voxel_seed(DEFAULT_SEEDS)}},
}


def built(paper, tmp_path, func=None, runs=(1,), fmap="pair", person="01", session=None):
    """Visit, settings and workflow, its inputs given."""
    folder, stem = paper / f"sub-{person}", f"sub-{person}"
    names = [f"{stem}_task-rest_" + (f"run-{run}_bold" if run else "bold") for run in runs]
    files = {"bold": tuple(folder / "func" / f"{name}.nii.gz" for name in names)}
    files["fmap"] = tuple(folder / "fmap" / f"{stem}_{name}.nii.gz" for name in FIELDMAPS[fmap])
    visit = Visit(person, session, files)
    settings = Settings(paper, tmp_path / "out", "participant", func=FuncSettings(**(func or {})))
    workflow = init_func_stream_wf(visit, settings)
    given = workflow.get_node("inputnode").inputs
    given.trait_set(**dict.fromkeys(given.copyable_trait_names(), str(files["bold"][0])))
    return visit, settings, workflow


def known_ports(node):
    """Inputs that an interface declares, those of its steps and outputs included."""
    interface = node.interface
    steps = getattr(interface, "_steps", ())
    many = getattr(interface, "_many", ())
    return {
        *interface.input_spec().copyable_trait_names(),
        *(f"{step}_info_file" for step in steps),
        *(f"{key}_file" for key in getattr(interface, "_keys", ())),
        *(f"{key}_files" for key in many),
        *(name for name in node.inputs.copyable_trait_names() if name.startswith("in")),
    }


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_feeds_every_output(paper, tmp_path, name):
    visit, settings, workflow = built(paper, tmp_path, **VARIANTS[name])
    graph = generate_expanded_graph(workflow._create_flat_graph())
    for node in graph.nodes():
        fed = {field for *_, data in graph.in_edges(node, data=True)
               for _, field in data["connect"]}  # fmt: skip
        assert fed <= known_ports(node), f"{node.fullname} has no {fed - known_ports(node)}"
        for field, trait in node.inputs.traits(mandatory=True).items():
            known = field in fed or isdefined(getattr(node.inputs, field))
            assert known, f"{node.fullname}: {field} ({trait.desc})"
        if node.name == "ds_func":
            outputs = wanted("func", visit, settings)
            ports = {
                f"{key}_files" if "each" in e else f"{key}_file" for key, e in outputs.items()
            }
            assert fed - {"facts_file"} == ports
            assert "facts_file" in fed
    paths = list(requested(visit, "func", settings).values())
    assert len(set(paths)) == len(paths)
    for path in paths:
        start = "sub-01/ses-a/" if visit.session else f"sub-{visit.participant}/"
        assert str(path.relative_to(settings.output_dir)).startswith(start)
        assert path.name.startswith(f"{visit.prefix}_")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("defaults", "pair"),
        ("gradient-echo map", "gre"),
        ("no field map", None),
        ("nothing known", None),
        ("distortion stays", None),
    ],
)
def test_what_undistorts_is_in_the_graph_and_among_the_outputs(paper, tmp_path, name, kind):
    visit, settings, workflow = built(paper, tmp_path, **VARIANTS[name])
    field = workflow.get_node("series_wf").get_node("field")
    assert (field.inputs.kind if field else None) == kind
    assert ("shift" in wanted("func", visit, settings)) == (kind is not None)
    told = workflow.get_node("ds_func").inputs.sidecars["bold"]["Sources"]
    assert len(told) == (3 if kind else 1)


def test_slices_are_timed_only_where_their_times_are_known(paper, tmp_path):
    for name, timed in (("defaults", True), ("no slice timing", False), ("nothing known", False)):
        series_wf = built(paper, tmp_path, **VARIANTS[name])[2].get_node("series_wf")
        node = series_wf.get_node("slice_timing")
        assert (node is not None) == timed, name
        if timed:
            assert node.inputs.slice_times == TIMED["SliceTiming"]


def test_two_runs_are_one_series_with_one_name(paper, tmp_path):
    visit, settings, workflow = built(paper, tmp_path, **VARIANTS["two runs"])
    assert len(workflow.get_node("series_wf").get_node("load").inputs.in_files) == 2
    path = requested(visit, "func", settings)["bold"]
    assert path.name == "sub-01_task-rest_desc-preproc_bold.nii.gz"


@pytest.mark.parametrize(("name", "seed"), [("defaults", ""), ("MRS voxel", "mrsVoxel")])
def test_the_mrs_voxel_is_measured_where_it_is_a_seed(paper, tmp_path, name, seed):
    _, _, workflow = built(paper, tmp_path, **VARIANTS[name])
    assert workflow.get_node("maps_wf").get_node("connect").inputs.voxel_seed == seed
    assert workflow.get_node("measure").inputs.voxel == bool(seed)
    graph = generate_expanded_graph(workflow._create_flat_graph())
    place = next(node for node in graph.nodes() if node.name == "place")
    given = workflow.get_node("inputnode").inputs.mrs_voxel_file
    assert place.inputs.mrs_voxel_file == given


def test_maps_need_not_be_there_but_quality_must(paper, tmp_path):
    visit, settings, _ = built(paper, tmp_path)
    keys = set(requested(visit, "func", settings))
    assert {"bold", "measures", "qc", "carpet_figure", "seed_names"} <= keys
    assert not {"denoised", "z", "template_z", "alff", "relmat", "connectivity_figure"} & keys


def test_every_output_says_what_it_is():
    for key, entry in declared()["func"].items():
        assert entry["about"][0].isupper(), key
        assert not entry["about"].endswith("."), key
        assert "{prefix}" in entry["path"] or "{series}" in entry["path"], key
        assert ("{each}" in entry["path"]) == ("each" in entry), key
