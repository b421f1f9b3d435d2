"""What every step needs: the table covers every graph, follows the images, changes no hash."""

import os
import sys
import tomllib
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine.utils import generate_expanded_graph
from paper_cohort import write_cohort

from alsflow.interfaces.bids import Visit
from alsflow.interfaces.external import SpmProgram
from alsflow.interfaces.precomputed import PrecomputedMaps
from alsflow.workflows import anat, anat_engines, resources
from alsflow.workflows.anat import init_anat_stream_wf
from alsflow.workflows.group import init_group_wf
from alsflow.workflows.manifest import Entry
from alsflow.workflows.names import step_of
from alsflow.workflows.participant import init_participant_wf
from alsflow.workflows.resources import Need, apply, expected, row_of, rows, sizes_of
from alsflow.workflows.settings import AnatSettings, FuncSettings, Settings, read_profile

sys.path.insert(0, str(Path(__file__).parent))
import test_anat  # noqa: E402 - the graphs of the other tests
import test_dwi  # noqa: E402
import test_func_graph  # noqa: E402
import test_mrs_graph  # noqa: E402

dwi_paper, func_paper = test_dwi.paper, test_func_graph.paper
mrs_built = test_mrs_graph.built
ENGINES = ("cat", "cat12", "spm12", "precomputed")
T1W = test_anat.EXAMPLE / "sub-01/anat/sub-01_T1w.nii.gz"


def anat_graph(folder, monkeypatch, shared_atlases=None, **given):
    """Anatomical stream of a visit, whatever engine is installed here."""
    monkeypatch.setattr(anat_engines, "find_spm", lambda: SpmProgram("spm", standalone=True))
    maps = PrecomputedMaps(T1W, T1W, T1W, T1W, None, "someone")
    monkeypatch.setattr(anat, "find_precomputed", lambda *_: maps)
    settings = Settings(
        test_anat.EXAMPLE, folder / "out", "participant", anat=AnatSettings(**given),
        derivatives={"precomputed": folder},
    )  # fmt: skip
    if shared_atlases:
        monkeypatch.setenv("ALSFLOW_ATLAS_DIR", str(shared_atlases))
    return init_anat_stream_wf(test_anat.visit(), settings)


def group_graph(folder, **given):
    bids, output = write_cohort(folder, 8)
    return init_group_wf(Settings(bids, output, "group", **given))


def nodes_of(workflow):
    """Steps that are computed, by their full names."""
    found = {}
    for name in workflow.list_node_names():
        node = workflow.get_node(name)
        if not isinstance(node.interface, IdentityInterface):
            found[f"{workflow.name}.{name}"] = node
    return found


@pytest.fixture
def graphs(tmp_path, monkeypatch, shared_data, dwi_paper, func_paper):
    """Graphs of every stream with all settings that change what is in them."""
    spoken = read_profile("calsnic")["analysis"]
    found = [
        *(anat_graph(tmp_path, monkeypatch, engine=engine) for engine in ENGINES),
        anat_graph(tmp_path, monkeypatch, denoise=False),
        anat_graph(tmp_path, monkeypatch, shared_data / "atlases"),
        group_graph(tmp_path / "group"),
        group_graph(tmp_path / "analyses", analysis=tuple(spoken)),
    ]
    for module, paper in ((test_dwi, dwi_paper), (test_func_graph, func_paper)):
        for variant in module.VARIANTS.values():
            found.append(module.built(paper, tmp_path, **variant)[2])
    return found


@pytest.fixture
def mrs_graphs(tmp_path_factory):
    build = mrs_built.__wrapped__ if hasattr(mrs_built, "__wrapped__") else None
    if build is None:
        build = mrs_built._get_wrapped_function()
    return [
        build(tmp_path_factory.mktemp("mrs"))(**variant)[2]
        for variant in test_mrs_graph.VARIANTS.values()
    ]


def steps_in(graphs):
    return {step_of(name) for graph in graphs for name in nodes_of(graph)}


# the overlap of voxels needs results of spectroscopy; see test_mrs_group
OVERLAP = {"group.overlap", "group.draw_overlap", "group.describe_overlap"}


def test_every_step_has_a_row_or_is_named_as_light_and_no_row_is_stale(graphs, mrs_graphs):
    steps = steps_in([*graphs, *mrs_graphs])
    named = {*rows(), *resources.table()["light"]["steps"]}
    assert steps - named == set(), "give these a row in resources.toml, or name them as light"
    assert named - steps <= OVERLAP, "no graph has these any more"
    assert not set(rows()) & set(resources.table()["light"]["steps"])


def digests(workflow):
    return {
        name: node.inputs.get_hashval(hash_method="timestamp")[1]
        for name, node in nodes_of(workflow).items()
    }


def test_what_is_declared_is_in_no_hash(graphs, mrs_graphs):
    for workflow in (*graphs, *mrs_graphs):
        before = digests(workflow)
        apply(workflow, {"t1w": 3.0, "dwi": 2.0, "bold": 5.0}, threads=7)
        for node in nodes_of(workflow).values():
            assert node.mem_gb == node.need.memory_gb == expected(node).memory_gb
            assert node.n_procs == node.need.processes
        assert digests(workflow) == before


def test_other_declarations_and_threads_compute_nothing_again(toy, monkeypatch):
    toy.add("sub-01")
    assert toy.run("--omp-nthreads", "1") == 0
    toy.calls()
    huge = resources.Row({"base": 2.5}, {"base": 99.0}, threads=True)
    monkeypatch.setattr(resources, "rows", lambda: dict.fromkeys(LOADED, huge))
    assert toy.run("--omp-nthreads", "2", workers=3) == 0
    assert toy.calls() == []


LOADED = ("anat.load", "anat.scale", "anat.sink")


# ---------------------------------------------------------------------------- the table


def test_the_table_is_read_as_it_stands():
    raw = tomllib.loads(
        (Path(resources.__file__).parent / "data" / "resources.toml").read_text(encoding="utf-8")
    )
    known = {"base", *raw["sizes"]}
    for step, row in raw["step"].items():
        assert set(row) <= {"memory", "minutes", "threads"}, step
        assert set(row["memory"]) | set(row["minutes"]) <= known, step
        assert row["memory"]["base"] >= 0.25, f"{step}: a worker alone takes that"
        assert all(share > 0 for part in ("memory", "minutes") for share in row[part].values())


def test_a_need_grows_with_the_input_and_not_below_the_base():
    row = resources.Row({"base": 0.3, "dwi": 1.0}, {"base": 0.1, "dwi": 0.5}, threads=True)
    assert row.need({"dwi": 1.0}) == Need(1.3, 0.6, 1, threads=True)
    assert row.need({"dwi": 2.0}, threads=4) == Need(2.3, 1.1, 4, threads=True)
    assert row.need({"dwi": 0.0}) == Need(0.3, 0.1, 1, threads=True)
    assert row.need({"t1w": 9.0}) == row.need({})  # unknown: as in the table
    alone = resources.Row({"base": 0.3}, {"base": 0.1})
    assert alone.need({}, threads=4) == Need(0.3, 0.1, 1)


@pytest.mark.parametrize(
    ("fullname", "step"),
    [
        ("alsflow_wf.sub_01_wf.anat_wf.segmentation_wf.segment", "anat.segmentation.segment"),
        ("alsflow_wf.sub_anat_wf_wf.dwi_wf.series_wf.load", "dwi.series.load"),
        ("alsflow_wf.sub_01_ses_a_wf.func_wf.measure", "func.measure"),
        ("group_wf.analyses_wf.analyse", "group.analyses.analyse"),
        ("dwi_wf.ds_dwi", "dwi.ds_dwi"),
    ],
)
def test_steps_have_the_name_that_they_have_in_the_table(fullname, step):
    assert step_of(fullname) == step


def test_expected_is_what_was_found_or_the_table():
    node = SimpleNamespace(fullname="alsflow_wf.sub_01_wf.anat_wf.segmentation_wf.segment")
    assert expected(node) == row_of("anat.segmentation.segment").need({})
    node.need = Need(9.0, 8.0, 7)
    assert expected(node) == node.need


def test_the_page_is_up_to_date():
    """If not: python -m alsflow.workflows.resources > docs/resources.md."""
    docs = Path(resources.__file__).parents[1] / "docs" / "resources.md"
    assert docs.read_text(encoding="utf-8") == resources.page()
    assert "{" not in resources.page()


# ---------------------------------------------------------------------------- sizes


def image(folder, name, shape):
    path = folder / f"{name}.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)), path)
    return path


def test_sizes_are_those_of_the_headers(tmp_path):
    files = {
        "t1w": (image(tmp_path, "sub-01_T1w", (64, 64, 48)),),
        "dwi": tuple(image(tmp_path, f"sub-01_run-{k}_dwi", (26, 26, 15, 8)) for k in "12"),
        "bold": tuple(image(tmp_path, f"sub-01_task-{task}_bold", (20, 20, 7, 10))
                      for task in ("rest", "other")),
    }  # fmt: skip
    settings = Settings(tmp_path, tmp_path, "participant", anat=AnatSettings(template_voxel=3.0))
    sizes = sizes_of(Visit("01", None, files), settings)
    assert sizes["t1w"] == pytest.approx(1 / 64)
    assert sizes["dwi"] == pytest.approx(2 / 512)  # both runs are joined
    assert sizes["bold"] == pytest.approx(1 / 1600)  # the other task is left out
    assert sizes["template"] == pytest.approx(1 / 8)
    assert sizes["map_template"] == 1
    both = replace(settings, func=FuncSettings(task=("rest", "other")))
    assert sizes_of(Visit("01", None, files), both)["bold"] == pytest.approx(2 / 1600)


@pytest.mark.parametrize("damage", ["text", "empty", "absent", "folder"])
def test_a_header_that_cannot_be_read_leaves_the_size_of_the_table(tmp_path, damage):
    path = tmp_path / "sub-01_T1w.nii.gz"
    {"text": lambda: path.write_text("fine"), "empty": path.touch, "absent": lambda: None,
     "folder": path.mkdir}[damage]()  # fmt: skip
    bold = image(tmp_path, "sub-01_bold", (4, 4, 4, 5))  # without task: it will be refused
    visit = Visit("01", None, {"t1w": (path,), "bold": (bold,)})
    sizes = sizes_of(visit, Settings(tmp_path, tmp_path, "participant"))
    assert "t1w" not in sizes
    assert "dwi" not in sizes
    row = row_of("anat.segmentation.segment")
    assert row.need(sizes) == row.need({})


def test_a_run_declares_by_the_images_of_each_visit(tmp_path):
    """Two people with heads of other sizes, in the graph as it is computed."""
    visits, entries = [], []
    for label, shape in (("01", (128, 128, 96)), ("02", (256, 256, 384))):
        folder = tmp_path / f"sub-{label}" / "anat"
        folder.mkdir(parents=True)
        visits.append(Visit(label, None, {"t1w": (image(folder, f"sub-{label}_T1w", shape),)}))
        entries.append(Entry(label, None, "anat"))
    settings = Settings(tmp_path, tmp_path / "out", "participant", omp_nthreads=3)
    graph = init_participant_wf(visits, entries, settings)._create_flat_graph()
    nodes = {node.fullname: node for node in generate_expanded_graph(deepcopy(graph)).nodes()}
    row = row_of("anat.segmentation.segment")
    for label, size in (("01", 1 / 8), ("02", 2.0)):
        node = nodes[f"alsflow_wf.sub_{label}_wf.anat_wf.segmentation_wf.segment"]
        assert node.mem_gb == pytest.approx(row.need({"t1w": size}).memory_gb)
        assert expected(node) == row.need({"t1w": size}, 3)
        assert node.n_procs == expected(node).processes
    threaded = {step_of(name) for name, node in nodes.items() if node.n_procs != 1}
    assert threaded == {"anat.segmentation.clean"}
    assert {node.n_procs for node in nodes.values()} == {1, 3}


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinity")
@pytest.mark.parametrize("threads", [1, 2])
def test_libraries_that_do_not_listen_are_held(toy, monkeypatch, threads):
    toy.add("sub-01", "threads")
    held = resources.Row({"base": 0.3}, {"base": 0.1}, threads=True)
    monkeypatch.setattr(resources, "rows", lambda: {"anat.load": held})
    assert toy.run("--omp-nthreads", threads) == 0
    processors = int((toy.work / "threads.txt").read_text().split()[0])
    assert processors == min(threads, len(os.sched_getaffinity(0)))
