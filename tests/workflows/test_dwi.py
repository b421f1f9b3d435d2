"""The diffusion stream as a user meets it: it tells the truth, or says what is wrong."""

import json
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import dwi_clinic as people
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nipype.interfaces.base import isdefined
from nipype.pipeline.engine.utils import generate_expanded_graph

from alsflow import cli
from alsflow.interfaces.bids import Visit
from alsflow.interfaces.dwi_measures import NUMBERS
from alsflow.interfaces.dwi_plan import DwiPlan
from alsflow.interfaces.fieldmaps import FieldmapChoice
from alsflow.interfaces.images import load
from alsflow.workflows.dwi import init_dwi_stream_wf, init_measure_node
from alsflow.workflows.manifest import Entry, Manifest
from alsflow.workflows.measures import catalogue
from alsflow.workflows.outputs import declared, requested, wanted
from alsflow.workflows.report import DATA, write_reports
from alsflow.workflows.settings import DwiSettings, Settings

GOOD = people.GOOD
CHEAP = """
tract_atlas = "simulated"
denoise = false
unring = false
drift = "none"
motion = false
"""

# what is done to a person, and words of the sentence that refuses the series
REFUSED = {
    "nobval": (people.no_bval, "nobval_dir-AP_dwi.nii.gz has no .bval file; put"),
    "nobvec": (people.no_bvec, "nobvec_dir-AP_dwi.nii.gz has no .bvec file; put"),
    "bvalcount": (people.short_bval, "dwi.nii.gz has 15 b-values for 16 volumes; give"),
    "bveccount": (people.short_bvec, "dwi.nii.gz has 14 b-vectors for 16 volumes; give"),
    "bvaltext": (people.text_bval, "dwi.bval is not a table of numbers"),
    "zerovector": (people.zero_vector, "dwi.nii.gz has b-vectors of length zero"),
    "b0only": (people.b0_only, "dwi.nii.gz holds b=0 volumes only (4)"),
    "fivedirections": (people.five_directions, "dwi.nii.gz has 5 distinct gradient directions"),
    "nan": (people.nan_volume, "dwi.nii.gz holds values that are not numbers (NaN or infinite)"),
    "unit": (people.other_unit, "dwi.nii.gz has b-values up to 1 only, which looks like ms/µm²"),
    "flipped": (people.flipped, "or go on as it is with --force bvecs"),
    "onevolume": (people.one_volume, "dwi.nii.gz is not a series of three-dimensional volumes"),
    "truncated": (people.truncated, "dwi.nii.gz is truncated or damaged"),
    "header": (people.damaged_header, "dwi.nii.gz cannot be read as an image"),
    "badjson": (people.broken_sidecar, "dwi.json is not valid JSON"),
    "othershell": (people.other_shell, "run-2_dwi.nii.gz cannot be joined: one run was weighted"),
    "othergrid": (people.other_grid, "run-2_dwi.nii.gz do not lie on the same voxel grid"),
}
SPECIAL = {"nodirection": people.no_direction_and_flipped, "slab": people.slab, "flagged": None}


# ---------------------------------------------------------------------------- graphs


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """A dataset of small images that are never computed on: series, pairs and a field map."""
    root = tmp_path_factory.mktemp("paper") / "bids"
    shim = {"ShimSetting": [1, 2, 3], "TotalReadoutTime": 0.05}
    for kind, direction in (("AP", "j-"), ("PA", "j")):
        stem = root / "sub-01" / "dwi" / f"sub-01_dir-{kind}_dwi"
        small_image(stem, (6, 7, 5, 8), shim | {"PhaseEncodingDirection": direction})
        stem.with_suffix(".bval").write_text("0 " + "1000 " * 7)
        stem.with_suffix(".bvec").write_text("0 1 1 1 0 0 0 1\n" * 3)
    fmap = root / "sub-01" / "fmap" / "sub-01_"
    small_image(f"{fmap}dir-PA_epi", (6, 7, 5), shim | {"PhaseEncodingDirection": "j"})
    echoes = {"EchoTime1": 0.004, "EchoTime2": 0.006, "ShimSetting": [1, 2, 3]}
    small_image(f"{fmap}phasediff", (6, 7, 5), echoes)
    small_image(f"{fmap}magnitude1", (6, 7, 5), {"ShimSetting": [1, 2, 3]})
    small_image(root / "sub-02" / "dwi" / "sub-02_dwi", (6, 7, 5, 8), {})
    for ending in (".bval", ".bvec"):
        source = root / "sub-01" / "dwi" / f"sub-01_dir-AP_dwi{ending}"
        (root / "sub-02" / "dwi" / f"sub-02_dwi{ending}").write_text(source.read_text())
    return root


def small_image(stem, shape, meta):
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ones(shape, np.float32), np.eye(4)), f"{stem}.nii.gz")
    Path(f"{stem}.json").write_text(json.dumps(meta))


FIELDMAPS = {
    "none": [],
    "epi": ["dir-PA_epi"],
    "gre": ["phasediff", "magnitude1"],
}


def visit_on_paper(paper, runs=("dir-AP_",), fmap="epi", session=None, person="01"):
    folder = paper / f"sub-{person}"
    series = tuple(folder / "dwi" / f"sub-{person}_{run}dwi.nii.gz" for run in runs)
    maps = tuple(folder / "fmap" / f"sub-{person}_{name}.nii.gz" for name in FIELDMAPS[fmap])
    return Visit(person, session, {"dwi": series, "fmap": maps})


VARIANTS = {
    "defaults": {},
    "no denoising": {"dwi": {"denoise": False}},
    "no unringing": {"dwi": {"unring": False}},
    "no drift": {"dwi": {"drift": "none"}},
    "linear drift": {"dwi": {"drift": "linear"}},
    "no motion": {"dwi": {"motion": False}},
    "nothing": {"dwi": {"denoise": False, "unring": False, "drift": "none", "motion": False,
                        "distortion": "none"}},
    "distortion stays": {"dwi": {"distortion": "none"}},
    "no eddy": {"dwi": {"eddy": "none"}},
    "quadratic eddy": {"dwi": {"eddy": "quadratic"}},
    "outliers stay": {"dwi": {"replace_outliers": False}},
    "OLS": {"dwi": {"fit": "OLS"}},
    "with spectroscopy": {"modalities": ("anat", "mrs", "dwi")},
    "RESTORE": {"dwi": {"fit": "RESTORE"}},
    "RESTORE without noise map": {"dwi": {"fit": "RESTORE", "denoise": False}},
    "no field map": {"fmap": "none"},
    "field map": {"fmap": "gre"},
    "two runs": {"runs": ("dir-AP_", "dir-PA_"), "fmap": "none"},
    "two runs, distortion stays": {"runs": ("dir-AP_", "dir-PA_"), "dwi": {"distortion": "none"}},
    "no phase encoding": {"runs": ("",), "fmap": "none", "person": "02"},
    "session": {"session": "a"},
}  # fmt: skip


def built(paper, tmp_path, dwi=None, modalities=(), **files):
    """Visit, settings and workflow, its inputs given."""
    visit = visit_on_paper(paper, **files)
    dwi = DwiSettings(**{"tract_atlas": "juelich"} | (dwi or {}))
    settings = Settings(paper, tmp_path / "out", "participant", dwi=dwi, modalities=modalities)
    workflow = init_dwi_stream_wf(visit, settings)
    given = workflow.get_node("inputnode").inputs
    given.trait_set(**dict.fromkeys(given.copyable_trait_names(), str(visit.files["dwi"][0])))
    return visit, settings, workflow


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_feeds_every_output(paper, tmp_path, name):
    visit, settings, workflow = built(paper, tmp_path, **VARIANTS[name])
    graph = generate_expanded_graph(workflow._create_flat_graph())
    for node in graph.nodes():
        fed = {field for *_, data in graph.in_edges(node, data=True)
               for _, field in data["connect"]}  # fmt: skip
        for field, trait in node.inputs.traits(mandatory=True).items():
            known = field in fed or isdefined(getattr(node.inputs, field))
            assert known, f"{node.fullname}: {field} ({trait.desc})"
        if node.name == "ds_dwi":
            keys = requested(visit, "dwi", settings)
            assert fed - {"facts_file"} == {f"{key}_file" for key in keys}
            assert "facts_file" in fed
    paths = list(requested(visit, "dwi", settings).values())
    assert len(set(paths)) == len(paths)
    for path in paths:
        start = "sub-01/ses-a/" if visit.session else f"sub-{visit.participant}/"
        assert str(path.relative_to(settings.output_dir)).startswith(start)
        assert path.name.startswith(f"{visit.prefix}_")


@pytest.mark.parametrize("streams", [(), ("anat", "dwi"), ("anat", "mrs", "dwi")])
def test_the_mrs_voxel_is_measured_where_spectroscopy_is_part_of_the_run(paper, tmp_path, streams):
    _, _, workflow = built(paper, tmp_path, modalities=streams)
    assert "mrs_voxel_file" in workflow.get_node("inputnode").outputs.copyable_trait_names()
    flat = generate_expanded_graph(workflow._create_flat_graph())
    nodes = {node.fullname.removeprefix("dwi_wf."): node for node in flat.nodes()}
    assert ("tracts_wf.voxel" in nodes) == ("mrs" in streams)
    if "mrs" not in streams:
        assert not any("voxel" in field for *_, data in flat.edges(data=True)
                       for edge in data["connect"] for field in map(str, edge))  # fmt: skip
        return
    edges = {(one.name, str(a), two.name, b) for one, two, data in flat.edges(data=True)
             for a, b in data["connect"]}  # fmt: skip
    assert ("voxel", "voxel_file", "measure", "voxel_file") in edges
    assert ("voxel", "voxel_file", "ds_dwi", "voxel_file") in edges
    voxel = nodes["tracts_wf.voxel"]
    fed = {b for _, _, name, b in edges if name == "voxel"}
    assert fed <= set(voxel.inputs.copyable_trait_names())
    given = {name for name in voxel.inputs.traits(mandatory=True)
             if isdefined(getattr(voxel.inputs, name))}  # fmt: skip
    assert set(voxel.inputs.traits(mandatory=True)) <= fed | given
    assert voxel.inputs.mrs_voxel_file == workflow.get_node("inputnode").inputs.mrs_voxel_file
    assert (voxel.inputs.most_csf, voxel.inputs.least_coverage) == (0.2, 0.7)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("defaults", "pair"),
        ("field map", "gre"),
        ("two runs", "pair"),
        ("no field map", "none"),
        ("no phase encoding", "none"),
        ("distortion stays", "none"),
    ],
)
def test_what_undistorts_is_in_the_graph_and_among_the_outputs(paper, tmp_path, name, kind):
    visit, settings, workflow = built(paper, tmp_path, **VARIANTS[name])
    field = workflow.get_node("series_wf").get_node("field")
    interface = {"pair": "FieldFromPair", "gre": "FieldFromGre", "none": "NoneType"}[kind]
    assert type(getattr(field, "interface", None)).__name__ == interface
    assert ("shift" in wanted("dwi", visit, settings)) == (kind != "none")


def test_sidecars_name_every_run_and_map(paper, tmp_path):
    for name, others in (
        ("two runs", ["dwi/sub-01_dir-PA_dwi"]),
        ("field map", ["fmap/sub-01_phasediff", "fmap/sub-01_magnitude1"]),
        ("distortion stays", []),
    ):
        _, _, workflow = built(paper, tmp_path, **VARIANTS[name])
        told = workflow.get_node("ds_dwi").inputs.sidecars["dwi"]["Sources"]
        read = ["dwi/sub-01_dir-AP_dwi", *others]
        assert told == [f"bids:raw:sub-01/{source}.nii.gz" for source in read]


def test_steps_that_are_off_are_not_in_the_graph(paper, tmp_path):
    _, _, workflow = built(paper, tmp_path, **VARIANTS["nothing"])
    names = {node.name for node in workflow.get_node("series_wf")._graph.nodes()}
    assert not {"denoise", "unring", "drift", "motion", "field"} & names
    _, _, workflow = built(paper, tmp_path)
    names = {node.name for node in workflow.get_node("series_wf")._graph.nodes()}
    assert {"denoise", "unring", "drift", "motion", "field"} <= names


def test_every_output_says_what_it_is():
    for key, entry in declared()["dwi"].items():
        assert entry["about"][0].isupper() or entry["about"].startswith("b-"), key
        assert not entry["about"].endswith("."), key
        assert "{prefix}" in entry["path"], key


# ---------------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """The dataset with everybody in it."""
    made = people.make_clinic(tmp_path_factory.mktemp("clinic"))
    for label, (harm, _) in REFUSED.items():
        made.admit(label, harm)
    made.admit("nodwi", people.no_series)
    for label, harm in SPECIAL.items():
        made.admit(label, harm)
    return made


@pytest.fixture(scope="module")
def first(clinic):
    """Exit code of the run, validated, on all whom one setting serves."""
    asked = [GOOD, "nodwi", *REFUSED]
    return clinic.run("--participant-label", *asked, validate=True)


@pytest.fixture(scope="module")
def special(clinic, first):
    """Exit code of the run on those who go on in spite of something."""
    asked = ["--participant-label", *SPECIAL, "--force", "bvecs"]
    return clinic.run(*asked, validate=True, settings=CHEAP)


@pytest.mark.slow
class TestGoodPerson:
    def test_all_outputs_are_there_with_their_sidecars(self, clinic, first):
        assert clinic.status().loc[GOOD, "state"] == "done"
        visit = Visit(GOOD, None, {"dwi": (clinic.raw(GOOD),)})
        (fmap,) = (clinic.bids / f"sub-{GOOD}" / "fmap").glob("*.nii.gz")
        visit.files["fmap"] = (fmap,)
        dwi = DwiSettings(tract_atlas="simulated")
        settings = Settings(clinic.bids, clinic.out, "participant", dwi=dwi)
        entries = wanted("dwi", visit, settings)
        assert {"noise", "shift"} <= set(entries)
        paths = requested(visit, "dwi", settings)
        for key, entry in entries.items():
            path = paths[key]
            assert path.stat().st_size > 0, key
            if entry.get("sidecar", True):
                content = json.loads((path.parent / f"{path.name.split('.')[0]}.json").read_text())
                assert content["Sources"] == [
                    f"bids:raw:{raw.relative_to(clinic.bids)}" for raw in (clinic.raw(GOOD), fmap)
                ]
                assert content["Description"]

    def test_the_measures_are_those_of_the_catalogue(self, clinic, first):
        found = clinic.measures(GOOD)
        known = {m.name: m.unit for m in catalogue().measures.values() if m.stream == "dwi"}
        known = {name: unit for name, unit in known.items() if "mrs_voxel" not in name}
        assert dict(found["unit"]) == known
        assert found.index.is_unique
        assert (found["qc"] == "ok").all()
        assert set(found["reason"]) == {""}  # distortion was corrected: nothing to add

    def test_tracts_are_near_the_truth(self, clinic, first):
        found, truth = clinic.measures(GOOD)["value"], clinic.true_measures()
        for side in ("left", "right", "both"):
            name = f"corticospinal_tract_{side}"
            assert found[f"fa_{name}"] == pytest.approx(truth[f"fa_{name}"], abs=0.05)
            assert found[f"md_{name}"] == pytest.approx(truth[f"md_{name}"], rel=0.05)
            third = (found[f"ad_{name}"] + 2 * found[f"rd_{name}"]) / 3
            assert found[f"md_{name}"] == pytest.approx(third, rel=1e-4)

    def test_maps_have_their_range_and_unit(self, clinic, first):
        start = "model-tensor_param"
        fa, _ = load(clinic.file(GOOD, f"{start}-fa_dwimap.nii.gz"))
        mask, _ = load(clinic.file(GOOD, "desc-brain_mask.nii.gz"))
        brain = mask > 0
        inside = fa[brain & np.isfinite(fa)]
        assert inside.min() >= 0
        assert inside.max() <= 1
        md, _ = load(clinic.file(GOOD, f"{start}-md_dwimap.nii.gz"))
        assert 0.6e-3 < np.nanmedian(md[brain]) < 1.2e-3
        for parameter in ("md", "ad", "rd"):
            path = clinic.file(GOOD, f"{start}-{parameter}_dwimap.json")
            assert json.loads(path.read_text())["Units"] == "mm^2/s"

    def test_directions_are_turned_with_the_head(self, clinic, first):
        image = nib.load(clinic.file(GOOD, "desc-preproc_dwi.nii.gz"))
        bvals = np.loadtxt(clinic.file(GOOD, "desc-preproc_dwi.bval"))
        bvecs = np.loadtxt(clinic.file(GOOD, "desc-preproc_dwi.bvec"))
        stored = nib.load(clinic.raw(GOOD)).affine
        given = np.loadtxt(clinic.raw(GOOD, ".bvec"))
        assert bvecs.shape == given.shape == (3, image.shape[3])
        before, after = world(given, stored), world(bvecs, image.affine)
        weighted = bvals > 50
        np.testing.assert_allclose(np.linalg.norm(after[weighted], axis=1), 1, atol=1e-6)
        turned = np.degrees(np.arccos(np.clip((before * after).sum(1)[weighted], -1, 1)))
        table = clinic.truth / f"sub-{GOOD}/dwi/sub-{GOOD}_dir-AP_desc-motion_timeseries.tsv"
        true = pd.read_csv(table, sep="\t")[["rot_x", "rot_y", "rot_z"]].to_numpy()[:-1]
        size = np.linalg.norm(true - true[0], axis=1)[weighted]
        assert 0.1 < turned.max() < size.max() + 0.3

    def test_steps_agree_with_what_was_asked(self, clinic, first):
        steps = json.loads(clinic.file(GOOD, "desc-dwi_model.json").read_text())["steps"]
        sidecar = json.loads(clinic.file(GOOD, "desc-preproc_dwi.json").read_text())
        assert sidecar["Steps"] == steps
        assert {name: step["asked"] for name, step in steps.items()} == {
            "denoise": True, "unring": True, "drift": "auto", "motion": True, "eddy": "linear",
            "replace_outliers": True, "field": "auto",
        }  # fmt: skip
        assert all(step["done"] for step in steps.values())
        assert clinic.quality(GOOD)["flags"] == []

    def test_the_page_shows_and_tells(self, clinic, first):
        text = (clinic.out / f"sub-{GOOD}.html").read_text()
        assert text.count("data:image/png") == 6
        assert "Marchenko-Pastur" in text
        assert "RESTORE" not in text


def world(bvecs, affine):
    """Directions in the world from FSL's, written again."""
    vectors = bvecs.copy()
    if np.linalg.det(affine) > 0:
        vectors[0] = -vectors[0]
    rotation = affine[:3, :3] / np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return (rotation @ vectors).T


@pytest.mark.slow
class TestRefused:
    def test_the_code_is_65_and_the_good_one_goes_on(self, clinic, first):
        status = clinic.status()
        assert first == 65
        assert status.loc[GOOD, "state"] == "done"
        assert status.loc["nodwi", "state"] == "absent"
        assert "no diffusion series" in status.loc["nodwi", "reason"]

    @pytest.mark.parametrize("person", REFUSED)
    def test_a_bad_series_is_refused_in_one_sentence(self, clinic, first, person):
        state, reason = clinic.status().loc[person]
        assert state == "refused", reason
        assert reason.startswith(f"sub-{person}")
        assert f"sub-{person}_dir-AP" in reason
        assert REFUSED[person][1] in reason
        assert not list((clinic.out / f"sub-{person}").glob("dwi/*"))
        assert not list((clinic.out / f"sub-{person}").glob("fmap/*"))


@pytest.mark.slow
class TestSpecial:
    def test_states(self, clinic, special):
        states = clinic.status()["state"]
        assert states[list(SPECIAL)].to_dict() == {
            "nodirection": "done", "slab": "done", "flagged": "flagged",
        }  # fmt: skip
        assert special == 1  # somebody was flagged

    def test_without_direction_nothing_is_undistorted_and_every_value_says_so(
        self, clinic, special
    ):
        notes = {note["name"]: note["reason"] for note in clinic.quality("nodirection")["notes"]}
        assert "not corrected" in notes["distortion_uncorrected"]
        assert "PhaseEncodingDirection" in notes["phase_encoding_unknown"]
        assert "eddy currents cannot be corrected" in notes["phase_encoding_unknown"]
        steps = json.loads(clinic.file("nodirection", "desc-dwi_model.json").read_text())["steps"]
        assert steps["field"]["asked"] == "auto"
        assert not steps["field"]["done"]
        assert steps["field"]["reason"] == notes["distortion_uncorrected"]
        table = clinic.measures("nodirection")
        assert table["value"].notna().all()
        for words in ("distortion was not corrected", "eddy currents cannot be corrected"):
            assert table["reason"].str.contains(words).all()
        assert not list((clinic.out / "sub-nodirection").glob("fmap/*"))

    def test_forced_vectors_are_noted(self, clinic, special):
        notes = clinic.quality("nodirection")["notes"]
        (check,) = [note["reason"] for note in notes if note["name"] == "check"]
        assert "(--force bvecs)" in check
        assert clinic.measures("nodirection")["reason"].str.contains("--force bvecs").all()

    def test_a_flagged_anatomy_leaves_no_value(self, clinic, special):
        table = clinic.measures("flagged")
        assert table["value"].isna().all()
        assert set(table["qc"]) == {"flagged"}
        assert set(table["reason"]) == {"anatomy: the template does not fit the head"}
        assert "template does not fit" in clinic.status().loc["flagged", "reason"]

    def test_a_slab_has_no_corticospinal_tract(self, clinic, special):
        table = clinic.measures("slab")
        tract = table[table.index.str.contains("corticospinal")]
        assert tract["value"].isna().all()
        assert tract["reason"].str.contains("%").all()
        assert not (table["value"] == 0).any()
        means = pd.read_csv(clinic.file("slab", "atlas-simulated_desc-tracts_dwi.tsv"), sep="\t")
        coverage = means.loc[means["tract"] == "corticospinal_tract", "coverage"]
        assert coverage.between(0.05, 0.7).all()

    def test_steps_that_were_switched_off_were_not_asked(self, clinic, special):
        steps = json.loads(clinic.file("slab", "desc-dwi_model.json").read_text())["steps"]
        for name in ("denoise", "unring", "drift", "motion"):
            assert steps[name] == {"asked": "none" if name == "drift" else False, "done": False}
        for name in ("eddy", "replace_outliers"):
            assert steps[name]["asked"]
            assert not steps[name]["done"]
            assert "head motion" in steps[name]["reason"]
        names = {note["name"] for note in clinic.quality("slab")["notes"]}
        assert not {name for name in names if name.endswith("_skipped")}  # nobody asked for them
        assert steps["field"] == {"asked": "auto", "done": True}
        assert not clinic.file("slab", "desc-noise_dwimap.nii.gz").exists()

    def test_the_page_says_what_the_settings_did(self, clinic, special):
        text = (clinic.out / "sub-nodirection.html").read_text()
        assert "Marchenko-Pastur" not in text
        assert "distortion was not corrected" in text


@pytest.mark.slow
class TestZAgain:  # the last: it changes what the others read
    def test_only_what_changed_is_computed_again(self, clinic, first, special):
        before = computed(clinic)
        said = clinic.status().loc[list(REFUSED)]
        asked = ["--participant-label", GOOD, *REFUSED]
        assert clinic.run(*asked) == 65
        assert computed(clinic) == before
        pd.testing.assert_frame_equal(clinic.status().loc[list(REFUSED)], said)
        settings = 'tract_atlas = "simulated"\nfit = "OLS"'
        assert clinic.run("--participant-label", GOOD, settings=settings) == 0
        after = computed(clinic)
        assert set(after) == set(before)
        assert {name for name in after if after[name] != before[name]} == {
            "tensor_wf/fit", "tensor_wf/colour", "tracts_wf/measure", "measure", "ds_dwi",
            "draw_wf/tensor", "draw_wf/tracts", "draw_wf/profiles",
        }  # fmt: skip
        sidecar = clinic.file(GOOD, "model-tensor_param-fa_dwimap.json").read_text()
        assert json.loads(sidecar)["Model"]["Parameters"] == {"FitMethod": "OLS"}


def computed(clinic) -> dict[str, int]:
    """When each step of the good person was computed."""
    folder = clinic.work / "alsflow_wf" / f"sub_{GOOD}_wf" / "dwi_wf"
    return {
        str(path.parent.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("result_*.pklz")
    }


# ---------------------------------------------------------------------------- pages


EVIL = "<script>alert('x')</script> & \"quoted\""
FIGURES = ("color", "tracts", "registration", "motion", "histogram", "profiles")
PNG = b"\x89PNG\r\n\x1a\n not really a picture"


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Text of the page of a person, whose stream has ended, under given settings."""
    monkeypatch.setenv("ALSFLOW_ATLAS_DIR", str(tmp_path / "atlases"))
    folder = tmp_path / "out" / "sub-01"
    (folder / "dwi").mkdir(parents=True)
    (folder / "figures").mkdir()
    (tmp_path / "out" / "logs").mkdir()
    for name in FIGURES:
        (folder / "figures" / f"sub-01_desc-{name}_dwi.png").write_bytes(PNG)
    write_dwi_measures(folder / "dwi" / "sub-01_desc-dwi_measures.tsv", 1.0)
    notes = [{"name": "check", "reason": EVIL}]
    quality = {"flags": [], "notes": notes, "metrics": {"fd_mean": 0.31}}
    (folder / "dwi" / "sub-01_desc-dwi_qc.json").write_text(json.dumps(quality))

    def write(**dwi):
        settings = Settings(tmp_path, tmp_path / "out", "participant", dwi=DwiSettings(**dwi))
        manifest = Manifest(settings, [Entry("01", None, "dwi", "done")], lambda entry: {}, "1")
        manifest.start()
        write_reports(settings, [Visit("01")], manifest)
        return (tmp_path / "out" / "sub-01.html").read_text()

    return write


def write_dwi_measures(path, factor, rng=None):
    """A table of all measures of diffusion; one value is missing."""
    lines = ["measure\tvalue\tunit\tqc\treason"]
    for name, known in catalogue().measures.items():
        if known.stream == "dwi":
            noise = 1 if rng is None else rng.normal(1, 0.03)
            value = {"f": 0.5, "m": 7.5e-4, "a": 1.2e-3, "r": 5e-4}[name[0]] * factor * noise
            cells = (repr(float(value)), known.unit, "ok", "n/a")
            if name == "fa_corticothalamic_tract_asymmetry":
                cells = ("n/a", known.unit, "ok", EVIL)
            lines.append("\t".join((name, *cells)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


class Page(HTMLParser):
    """Open tags, which must close, and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in {"meta", "img", "br", "link", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_has_a_section_with_pictures_measures_and_notes(page):
    text = page()
    read = Page(text)
    assert read.open == []
    assert "script" not in read.tags
    assert EVIL not in text
    assert read.text.count(EVIL) == 2  # of the note and of the value that is missing
    assert text.count("data:image/png") == len(FIGURES)
    facts = tomllib.loads((DATA / "report.toml").read_text(encoding="utf-8"))
    (title,) = [stream["title"] for stream in facts["stream"] if stream["name"] == "dwi"]
    assert title in read.text
    ours = {picture["title"] for picture in facts["picture"] if picture["stream"] == "dwi"}
    for picture in facts["picture"]:  # streams may share a title
        assert (picture["title"] in read.text) == (picture["title"] in ours)
    assert "FA, corticospinal tract" in read.text


def test_every_number_of_quality_has_a_name_on_the_page():
    facts = tomllib.loads((DATA / "report.toml").read_text(encoding="utf-8"))
    assert {*NUMBERS, "negative_share"} <= {item["name"] for item in facts["metric"]}


@pytest.mark.parametrize(
    ("dwi", "there", "not_there"),
    [
        ({}, ["Marchenko-Pastur", "Veraart", "Kellner", "weighted least", "linear in space",
              "opposite phase encoding", "b up to 1500", "70 %"], ["RESTORE", "Chang"]),
        ({"denoise": False}, ["Kellner"], ["Marchenko-Pastur", "Veraart"]),
        ({"unring": False}, ["Veraart"], ["Gibbs", "Kellner"]),
        ({"drift": "none"}, ["Kellner"], ["drift", "Vos"]),
        ({"drift": "linear"}, ["linear signal drift", "Vos"], ["quadratic"]),
        ({"fit": "RESTORE"}, ["by RESTORE", "Chang"], ["least squares"]),
        ({"fit": "OLS"}, ["ordinary least squares"], ["weighted least"]),
        ({"eddy": "none"}, ["Head motion was", "Andersson"], ["eddy"]),
        ({"eddy": "quadratic"}, ["quadratic in space"], ["linear in space"]),
        ({"motion": False}, [], ["Head motion", "eddy", "Leemans", "Sotiropoulos", "replaced"]),
        ({"distortion": "none"}, ["interpolation"], ["Susceptibility", "field map"]),
        ({"replace_outliers": False}, ["turned with the head"], ["replaced"]),
        ({"motion": False, "distortion": "none"}, ["Gibbs"], ["displacements"]),
        ({"max_csf": 0.3}, ["at most 30 % CSF"], ["20 %"]),
        ({"max_csf": 1.0}, ["over the voxels of each tract."], ["CSF"]),
        ({"tract_atlas": "juelich", "min_coverage": 0.5}, ["50 %"], ["70 %"]),
    ],
)  # fmt: skip
def test_methods_say_what_the_settings_ask_for(page, dwi, there, not_there):
    text = page(**dwi).split("<h2>Methods</h2>")[1].split("<h2>Software")[0]
    for words in there:
        assert words in text
    for words in not_there:
        assert words not in text


def test_every_citation_is_in_the_references_and_the_other_way_round(page):
    text = page(fit="RESTORE").split("<h2>Methods</h2>")[1].split("<h2>Software")[0]
    body, references = text.split("<h3>References</h3>")
    cited = set(re.findall(r"([A-Z]\w+)[^()A-Z]*(?: and [A-Z]\w+)?, (?:19|20)\d\d\)", body))
    listed = set(re.findall(r'<p class="soft">([A-Z]\S+)[^()<]*\((?:19|20)\d\d\)\. ', references))
    assert cited == listed
    assert len(cited) == 8


# ---------------------------------------------------------------------------- the group


def test_the_group_level_tests_the_tracts(tmp_path):
    bids, out = tmp_path / "bids", tmp_path / "out"
    bids.mkdir()
    description = json.dumps({"Name": "paper", "BIDSVersion": "1.10.0"})
    (bids / "dataset_description.json").write_text(description)
    rng, rows = np.random.default_rng(4), ["participant_id\tgroup\tsite\tage\tsex"]
    for n in range(16):
        person, group = f"sub-{n + 1:02d}", ("ALS", "control")[n % 2]
        rows.append(f"{person}\t{group}\tx\t{50 + n}\t{'FM'[n // 2 % 2]}")
        factor = 0.9 if group == "ALS" else 1.0
        write_dwi_measures(out / person / "dwi" / f"{person}_desc-dwi_measures.tsv", factor, rng)
    (bids / "participants.tsv").write_text("\n".join(rows) + "\n")
    argv = [bids, out, "group", "-w", tmp_path / "work", "--nprocs", "1", "--skip-bids-validation"]
    assert cli.main([str(part) for part in argv]) == 0
    tests = pd.read_csv(out / "group" / "tests.tsv", sep="\t").set_index("measure")
    known = {name for name, m in catalogue().measures.items() if m.stream == "dwi"}
    assert known <= set(tests.index)
    tract = tests.loc["fa_corticospinal_tract_both"]
    assert tract["contrast"] == "ALS - control"
    assert tract["estimate"] == pytest.approx(-0.05, abs=0.03)
    assert tract["q"] < 0.05
    text = (out / "group.html").read_text()
    assert "FA, corticospinal tract" in text
    assert EVIL not in text


def test_the_page_says_how_to_have_all_three_tracts(monkeypatch, tmp_path):
    """Only where the choice of the atlas was left to the program."""
    monkeypatch.setenv("ALSFLOW_ATLAS_DIR", str(tmp_path))  # nothing has been fetched
    plan = DwiPlan((), (), -1, FieldmapChoice("none", (), "off"))
    for name, told in (("auto", True), ("juelich", False)):
        node = init_measure_node(plan, DwiSettings(tract_atlas=name))
        assert told == any("fetch hcp842" in note["reason"] for note in node.inputs.notes)
