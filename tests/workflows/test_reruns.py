"""On the graphs of all four streams: exactly what depends on a change is computed again."""

import importlib.util
import json
import shutil
from functools import cache
from types import SimpleNamespace

import networkx as nx
import paper_people
import pytest
from paper_people import add_person, make_dataset, name_of, ran, run, stand_in

from alsflow.interfaces import base, code, dwi_prep

PERSON = "01"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A person of all streams, with results; the tests work on copies."""
    root = tmp_path_factory.mktemp("reruns") / "study"
    root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ALSFLOW_ATLAS_DIR", raising=False)
        make_dataset(root, [PERSON])
        stand_in(patch)
        plugin, why = run(root)
        assert len(why._texts) == len(plugin._rank) > 60
        assert ran(root) == set()
    return root


@pytest.fixture
def study(finished, tmp_path, monkeypatch):
    """Copy of the finished study, in another place."""
    monkeypatch.delenv("ALSFLOW_ATLAS_DIR", raising=False)
    stand_in(monkeypatch)
    root = tmp_path / "study"
    shutil.copytree(finished, root)
    return root


def check(root, causes, changes=None):
    """Look and then run: the first causes, and all that follows from them."""
    found = run(root, changes, forecast=True)[0].found
    assert {name_of(node) for node in found.causes} == causes
    plugin, why = run(root, changes)
    graph = plugin._graph
    first = {node for node in graph if name_of(node) in causes}
    expected = first | {step for node in first for step in nx.descendants(graph, node)}
    assert {name_of(node) for node in why._texts} == {name_of(node) for node in expected}


def names(*steps):
    return {f"{PERSON} {step}" for step in steps}


# ---------------------------------------------------------------------------- settings

SETTINGS = {
    ("anat", "smoothing", 6.0): ("anat normalise smooth_gm", "anat normalise smooth_wm",
                                 "anat ds_anat"),
    ("anat", "denoise", False): ("anat segmentation even",),
    ("dwi", "eddy", "quadratic"): ("dwi series motion", "dwi measure"),
    ("dwi", "replace_outliers", False): ("dwi series correct", "dwi measure"),
    ("dwi", "fit", "OLS"): ("dwi tensor fit", "dwi ds_dwi"),
    ("dwi", "min_coverage", 0.5): ("dwi tracts voxel", "dwi tracts measure"),
    ("func", "slice_timing", False): ("func series correct", "func measure"),
    ("func", "denoising", "36P"): ("func clean denoise", "func measure", "func ds_func"),
    ("func", "alff_band", (0.01, 0.1)): ("func maps alff",),
    ("func", "smoothing", 6.0): ("func maps warp_seeds", "func maps warp_local", "func ds_func"),
    ("mrs", "sd_percent", 20): ("mrs fit", "mrs draw_fit", "mrs quantify"),
    ("mrs", "water", "osprey"): ("mrs quantify", "mrs measure"),
}  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: ".".join(setting[:2]))
def test_a_setting_reruns_what_takes_it_and_what_follows(study, setting):
    table, name, value = setting
    check(study, names(*SETTINGS[setting]), {table: {name: value}})


def test_a_setting_set_back_finds_its_results_gone_but_no_others(study):
    """One result is kept for each step: the last."""
    changed = ran(study, {"func": {"smoothing": 6.0}})
    assert ran(study) == changed


HOW = [{"nprocs": 7}, {"omp_nthreads": 3}, {"mem_mb": 64000}, {"plugin": "slurm"},
       {"keep_work": "all"}, {"slurm": {"partition": "long"}}, {"stop_on_first_crash": True},
       {"random_seed": 3}]  # fmt: skip


def test_how_a_run_is_executed_reruns_nothing(study):
    for changes in HOW:
        assert ran(study, changes) == set(), changes


# ---------------------------------------------------------------------------- input files


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def grow(path):
    path.write_bytes(path.read_bytes() + b" ")


FILES = {
    "T1w image": (lambda p: grow(p / "anat/sub-01_T1w.nii.gz"), ("anat load",)),
    "b-values": (lambda p: grow(p / "dwi/sub-01_dwi.bval"), ("dwi series load",)),
    "b-vectors": (lambda p: grow(p / "dwi/sub-01_dwi.bvec"), ("dwi series load",)),
    "partial Fourier": (lambda p: edit(p / "dwi/sub-01_dwi.json", PartialFourier=0.75),
                        ("dwi series unring",)),
    "slice times": (lambda p: edit(p / "func/sub-01_task-rest_bold.json",
                                   SliceTiming=[0.0, 1.2, 0.5, 1.5, 0.25]),
                    ("func series slice_timing",)),
    "opposite image": (lambda p: grow(p / "fmap/sub-01_acq-bold_dir-PA_epi.nii.gz"),
                       ("func series field",)),
    "what is not read": (lambda p: edit(p / "func/sub-01_task-rest_bold.json", Station="B"), ()),
    "voxel": (lambda p: grow(p / "mrs/sub-01_svs.nii.gz"), ("mrs place",)),
    "fit": (lambda p: grow(p.parents[1] / "lcmodel/sub-01/sub-01.table"),
            ("mrs fit", "mrs quantify")),
    "table of people": (lambda p: (p.parent / "participants.tsv").write_text("participant_id\n"),
                        ()),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_reruns_what_reads_it_and_what_follows(study, name):
    change, causes = FILES[name]
    change(study / "bids" / f"sub-{PERSON}")
    check(study, names(*causes))


def test_a_copied_study_reruns_nothing(study):
    assert ran(study) == set()


def test_a_new_person_is_computed_and_nobody_else(study):
    add_person(study, "02")
    computed = ran(study)
    assert computed
    assert {name.split()[0] for name in computed} == {"02"}


# ---------------------------------------------------------------------------- code

HELPED = """
def unheard_of():
    return 1
"""
MODULES = {
    "alsflow.nodes.dwi.drift": ("dwi series drift",),
    "alsflow.nodes.func.alff": ("func maps alff", "func maps reho"),
    "alsflow.nodes.anat.denoise": ("anat segmentation clean",),
    "alsflow.nodes.mrs.quantify": ("mrs quantify", "mrs measure"),
}


def upgraded(monkeypatch, tmp_path, module, addition):
    """Let a version be that of a package in which one module is longer."""
    real, module_of, reached = importlib.util.find_spec, code._module, code._reached
    file = tmp_path / "edited.py"
    with open(real(module).origin, encoding="utf-8") as source:
        file.write_text(source.read() + addition)
    spec = SimpleNamespace(origin=str(file), submodule_search_locations=None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    edited = module_of.__wrapped__(module)
    monkeypatch.setattr(importlib.util, "find_spec", real)
    monkeypatch.setattr(
        code, "_module", lambda name: edited if name == module else module_of(name)
    )
    monkeypatch.setattr(
        code,
        "_reached",
        lambda unit: reached.__wrapped__(unit) if unit[0] == module else reached(unit),
    )
    monkeypatch.setattr(base, "version_of", cache(base.version_of.__wrapped__))


@pytest.mark.parametrize("module", MODULES)
def test_code_reruns_the_steps_that_reach_it(study, tmp_path, monkeypatch, module):
    with monkeypatch.context() as patch:
        upgraded(patch, tmp_path, module, "\n# a comment\n")
        assert ran(study) == set()
    with monkeypatch.context() as patch:
        upgraded(patch, tmp_path, module, HELPED)
        _, why = run(study)
        first = {name_of(node) for node, text in why._texts.items() if "code" in text}
        assert first == names(*MODULES[module])
        short = module.removeprefix("alsflow.")
        assert any(f"({short})" in text for text in why._texts.values())


def test_an_interface_that_others_take_functions_of(study, tmp_path, monkeypatch):
    """`write_gradients` serves two interfaces, and none of the others of its module."""
    assert callable(dwi_prep.write_gradients)
    with monkeypatch.context() as patch:
        upgraded(patch, tmp_path, "alsflow.interfaces.dwi_prep",
                 "\n\ndef write_gradients(*given):\n    return None\n")  # fmt: skip
        found = run(study, forecast=True)[0].found
    causes = {name_of(node) for node in found.causes}
    assert names("dwi series load", "dwi series correct") == causes


# ---------------------------------------------------------------------------- places


def test_moved_folders_rerun_nothing(study, monkeypatch):
    for name in ("bids", "lcmodel", "work"):
        (study / name).rename(study / f"other_{name}")
        (study / f"link_{name}").symlink_to(f"other_{name}")
    real = paper_people.settings_of

    def settings_of(prefix):
        def give(root, changes=None, **more):
            places = {
                "bids_dir": root / f"{prefix}_bids",
                "derivatives": {"lcmodel": str((root / f"{prefix}_lcmodel").resolve())},
            }
            return real(root, (changes or {}) | places, work=f"{prefix}_work")

        return give

    for prefix in ("other", "link"):
        monkeypatch.setattr(paper_people, "settings_of", settings_of(prefix))
        assert ran(study) == set(), prefix


def test_another_output_folder_reruns_the_sinks(study):
    assert ran(study, {"output_dir": study / "elsewhere"}) == names(
        "anat ds_anat", "mrs ds_mrs", "dwi ds_dwi", "func ds_func"
    )
