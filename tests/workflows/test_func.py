"""The functional stream as a user meets it: it tells the truth, or says what is wrong."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import func_clinic as people
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from alsflow import cli
from alsflow.interfaces.bids import Visit
from alsflow.interfaces.images import load
from alsflow.workflows.manifest import Entry, Manifest
from alsflow.workflows.measures import catalogue
from alsflow.workflows.outputs import members, output_path, requested, wanted
from alsflow.workflows.report import write_reports
from alsflow.workflows.settings import FuncSettings, Settings

GOOD, SHORT = people.GOOD, "short"
UNFILTERED = """
denoising = "calsnic"
distortion = "none"
template_voxel = 6.0
[[func.seeds]]
name = "precentral"
kind = "region"
region = "precentral"
side = "both"
[[func.seeds]]
name = "thalamus"
kind = "sphere"
centre = [-11, -18, 8]
radius = 12
"""

# what is done to a person, and words of the sentence that refuses the series
REFUSED = {
    "notr": (people.no_tr, "no RepetitionTime in its JSON sidecar and the fourth voxel size of"),
    "othertr": (people.other_tr, "RepetitionTime of 5 s in its JSON sidecar, and its NIfTI header "
                "says 2.5 s"),
    "unit": (people.seconds_as_ms, "has 5000 s between volumes"),
    "texttr": (people.sidecar(RepetitionTime="5.0"), "has RepetitionTime '5.0'"),
    "onevolume": (people.three_dimensional, "is not a series: it holds one volume"),
    "tenvolumes": (people.keep(slice(10)), "has 10 volumes, and at least 16 are needed"),
    "constant": (people.constant, "does not change from volume to volume"),
    "empty": (people.empty, "is constant or empty in volumes 0, 1"),
    "nan": (people.nan_volume, "holds values that are not numbers (NaN or infinite) in volume 7"),
    "slicecount": (people.sidecar(SliceTiming=[0, 1, 2]), "has 3 times in SliceTiming and 36"),
    "slicems": (people.late_slices, "which look like milliseconds"),
    "truncated": (people.truncated, "is truncated or damaged"),
    "header": (people.damaged_header, "cannot be read as an image"),
    "text": (people.not_gzip, "cannot be read as an image"),
    "badjson": (people.broken_sidecar, "bold.json is not valid JSON"),
    "twotasks": (people.two_tasks, "task-motor and task-nback, and none is called task-rest; "),
    "echoes": (people.two_echoes, "is one of 2 echoes"),
    "othergrid": (people.other_grid, "do not lie on the same voxel grid"),
    "othertempo": (people.other_tr_of_run, "have 5 and 5.2 s between volumes"),
    "zerovoxel": (people.set_zooms(4, 0, 4), "has voxels of 4 x 0 x 4 mm"),
    "zeroaffine": (people.zero_column, "has no usable orientation"),
    "noforms": (people.no_forms, "nobody knows which of its sides is left"),
}  # fmt: skip
SPECIAL = {
    "slab": people.keep_slices(0, 0.6),
    "untimed": people.no_slice_times,
}


# ---------------------------------------------------------------------------- settings


@pytest.fixture
def unread(tmp_path, monkeypatch):
    """Exit code of a run whose images nobody may have a look at."""
    monkeypatch.chdir(tmp_path)
    for name in ("anat/sub-01_T1w", "func/sub-01_task-rest_bold"):
        path = tmp_path / "bids" / "sub-01" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True)
        path.write_text("no image")
    description = json.dumps({"Name": "paper", "BIDSVersion": "1.10.0"})
    (tmp_path / "bids" / "dataset_description.json").write_text(description)

    def run(settings):
        (tmp_path / "config.toml").write_text(f"[func]\n{settings}\n")
        argv = ["bids", "out", "participant", "--nprocs", "1", "--skip-bids-validation"]
        try:
            return cli.main([*argv, "--config-file", "config.toml"])
        except SystemExit as end:
            return end.code

    return run


SPHERE = '[[func.seeds]]\nname = "{}"\nkind = "sphere"\ncentre = [0, 0, 0]\nradius = {}\n'


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ('denoising = "motion24+acompcorr"', "motion24+acompcorr is no denoising preset"),
        ('denoising = "/no/such.toml"', "such.toml cannot be read"),
        ("seeds = []", "No seed is declared"),
        ('[[func.seeds]]\nname = "a"\nkind = "cube"', "is of the kind 'cube'; a kind is one of"),
        ('[[func.seeds]]\nkind = "sphere"', "A seed is called ''"),
        (SPHERE.format("../a", 5), "A seed is called '../a'"),
        (SPHERE.format("a", 5) * 2, "Two seeds are called 'a'"),
        (SPHERE.format("a", -5), "needs a radius of 1 to 50 mm"),
        ('[[func.seeds]]\nname = "a"\nkind = "mask"\nfile = "/no/mask.nii.gz"\n'
         'space = "template"', "names /no/mask.nii.gz, which does not exist"),
        ("alff_band = [0.08, 0.01]", "is no band"),
        ("alff_band = [0.1]", "is no band"),
        ("threshold = 1.5", "func.threshold = 1.5 is above 1"),
        ("threshold = nan", "func.threshold = nan is below 0"),
        ("smoothing = inf", "func.smoothing = inf is above 30"),
        ("template_voxel = 20.0", "func.template_voxel = 20.0 is above 8"),
        ("dummy_scans = -1", "func.dummy_scans = -1 is below 0"),
        ('dummy_scans = "some"', "not one of auto"),
        ('seeds = "precentral"', "func.seeds = 'precentral' is not a list"),
    ],
)  # fmt: skip
def test_settings_that_nobody_can_use_end_the_run_before_it_starts(
    unread, capsys, tmp_path, settings, words
):
    assert unread(settings) == 64
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
    assert told.endswith(".\n")
    assert not (tmp_path / "out").exists()


def test_a_preset_of_ones_own_is_read_before_the_run(unread, capsys, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text("motion = 24\nband = [0.09, 0.008]\n")
    assert unread(f'denoising = "{own}"') == 64
    assert "own.toml has band = [0.09, 0.008], which lets nothing pass" in capsys.readouterr().err


# ---------------------------------------------------------------------------- pages


@pytest.fixture
def methods(tmp_path):
    """Text on the methods of a person whose stream has ended, under given settings."""

    def write(**func):
        settings = Settings(tmp_path, tmp_path / "out", "participant", func=FuncSettings(**func))
        manifest = Manifest(settings, [Entry("01", None, "func", "done")], lambda entry: {}, "1")
        manifest.start()
        write_reports(settings, [Visit("01")], manifest)
        text = (tmp_path / "out" / "sub-01.html").read_text()
        return text.split("<h2>Methods</h2>")[1].split("<h2>Software")[0]

    (tmp_path / "out" / "logs").mkdir(parents=True)
    return write


@pytest.mark.parametrize(
    ("func", "there", "not_there"),
    [
        ({}, ["24 motion terms and five", "0.008 to 0.09 Hz", "first 4 volumes", "Andersson"],
         ["Power", "until"]),
        ({"denoising": "calsnic"}, ["nothing regressed out"], ["What was removed", "outside"]),
        ({"denoising": "36P"}, ["global, white-matter and fluid", "0.01 to 0.08 Hz"], ["five"]),
        ({"censor_fd": 0.5}, ["more than 0.5 mm (Power"], []),
        ({"slice_timing": False, "distortion": "none"}, [], ["Slices were", "Andersson"]),
        ({"dummy_scans": "auto", "threshold": 0.4}, ["signal was steady", "r of 0.4"], []),
        ({"dummy_scans": 0}, [], ["left out. "]),
    ],
)  # fmt: skip
def test_methods_say_what_the_settings_ask_for(methods, func, there, not_there):
    text = methods(**func)
    for words in there:
        assert words in text
    for words in not_there:
        assert words not in text


# ---------------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """The dataset with everybody in it."""
    made = people.make_clinic(tmp_path_factory.mktemp("clinic"))
    for label, (harm, _) in REFUSED.items():
        made.admit(label, harm, like=SHORT)
    made.admit("nobold", people.no_series, like=SHORT)
    made.admit("nohead", people.no_t1w, like=SHORT)
    for label, harm in SPECIAL.items():
        made.admit(label, harm, like=SHORT)
    made.admit("odd", people.odd, like=SHORT)
    return made


@pytest.fixture(scope="module")
def first(clinic):
    """Exit code of the run, validated, on all whom one setting serves."""
    asked = [GOOD, SHORT, "nobold", "nohead", *REFUSED]
    return clinic.run("--participant-label", *asked, validate=True)


@pytest.fixture(scope="module")
def listed(clinic, first):
    """What was there of the short series, and what was said of everybody, after that run."""
    quality = clinic.quality(SHORT)
    return names_in(clinic, SHORT), clinic.status(), clinic.measures(SHORT), quality


@pytest.fixture(scope="module")
def special(clinic, listed):
    """Exit code of the run on those who go on in spite of something."""
    asked = ["--participant-label", SHORT, *SPECIAL]
    return clinic.run(*asked, settings=UNFILTERED)


def names_in(clinic, person, out="out"):
    """Names of a person's files without the person."""
    folder = clinic.root / out / f"sub-{person}"
    return {path.name.removeprefix(f"sub-{person}_") for path in folder.glob("*/*.*")}


def of_good(clinic):
    """The good person's visit and the settings of the first run."""
    folder = clinic.bids / f"sub-{GOOD}"
    maps = tuple(sorted((folder / "fmap").glob("*.nii.gz")))
    visit = Visit(GOOD, None, {"bold": (clinic.raw(GOOD),), "fmap": maps})
    return visit, Settings(clinic.bids, clinic.out, "participant", func=FuncSettings())


def good_file(clinic, key):
    return output_path(f"func.{key}", *of_good(clinic))


def good_maps(clinic, key, *seeds):
    """Arrays of an output that there is one of for each seed."""
    paths = [clinic.file(GOOD, f"task-rest_seed-{seed}_{key}") for seed in seeds]
    return [load(path)[0] for path in paths]


def truth_of(clinic, name):
    return clinic.truth / f"sub-{GOOD}" / "func" / f"sub-{GOOD}_task-rest_{name}"


@pytest.mark.slow
class TestGoodPerson:
    def test_all_outputs_are_there_with_their_sidecars(self, clinic, first):
        assert clinic.status().loc[GOOD, "state"] == "done"
        visit, settings = of_good(clinic)
        entries = wanted("func", visit, settings)
        assert {"shift", "denoised", "template_z", "alff"} <= set(entries)
        paths = {key: [path] for key, path in requested(visit, "func", settings).items()}
        for key, entry in entries.items():
            if "each" in entry:
                stem = good_file(clinic, "bold").name.partition("_desc")[0]
                path = entry["path"].partition("_seed-")[2].partition("{each}")[2]
                found = (clinic.out / f"sub-{GOOD}").glob(f"*/*_seed-*{path}")
                space = "_space-" in entry["path"]
                paths[key] = [p for p in found if ("_space-" in p.name) == space]
                assert len(paths[key]) == len(members(entry, settings)) == 3, key
                assert all(p.name.startswith((stem, f"sub-{GOOD}_seed")) for p in paths[key])
            else:
                paths[key] = [output_path(f"func.{key}", visit, settings)]
        raw = (clinic.raw(GOOD), *visit.files["fmap"])
        for key, several in paths.items():
            for path in several:
                assert path.stat().st_size > 0, key
                if entries[key].get("sidecar", True):
                    beside = path.with_name(f"{path.name.split('.')[0]}.json")
                    content = json.loads(beside.read_text())
                    sources = [f"bids:raw:{r.relative_to(clinic.bids)}" for r in raw]
                    assert content["Sources"] == sources, key
                    assert content["Description"], key

    def test_every_image_can_be_read_and_lies_where_its_name_says(self, clinic, first):
        series = nib.load(good_file(clinic, "bold"))
        assert series.shape[3] == people.VOLUMES - 4
        assert series.header.get_zooms()[3] == people.TR
        assert nib.aff2axcodes(series.affine) == ("R", "A", "S")
        for path in (clinic.out / f"sub-{GOOD}").glob("*/*.nii.gz"):
            image = nib.load(path)
            finite = np.isfinite(np.asanyarray(image.dataobj))  # read whole, or not at all
            known = finite.all() or "_space-" in path.name or "stat-reho" in path.name
            assert known, path.name
            if "_space-" in path.name:
                assert finite.mean() > 0.05, path.name  # NaN where there is no grey matter
                np.testing.assert_allclose(image.header.get_zooms()[:3], 2)
            else:
                assert image.shape[:3] == series.shape[:3], path.name
                np.testing.assert_allclose(image.affine, series.affine, atol=1e-4)

    def test_the_measures_are_those_of_the_catalogue(self, clinic, first):
        found = clinic.measures(GOOD)
        known = {m.name: m.unit for m in catalogue().measures.values() if m.stream == "func"}
        known = {name: unit for name, unit in known.items() if "mrs_voxel" not in name}
        assert dict(found["unit"]) == known
        assert found.index.is_unique
        assert (found["qc"] == "ok").all()
        assert found["value"].notna().all()
        assert set(found["reason"]) == {""}  # slices timed, distortion corrected: nothing to add

    def test_connectivity_is_near_the_truth(self, clinic, first):
        """As near as the freedom that is left allows, and the right way round."""
        found, truth = clinic.measures(GOOD)["value"], clinic.true_measures()
        names = [name for name in truth.index if name.startswith("fc_")]
        freedom = clinic.quality(GOOD)["metrics"]["dof_left"]
        assert 30 <= freedom < people.VOLUMES - 24 - 20
        difference = found[names] - truth[names]
        assert len(difference) > 5
        assert difference.abs().max() < 3 / np.sqrt(freedom - 3)

    def test_the_series_of_the_seeds_follow_those_that_were_simulated(self, clinic, first):
        """Weakly: what the regressors share with them is gone, and the truth has no band."""
        denoised, seeds = (load(good_file(clinic, key))[0] for key in ("denoised", "seeds"))
        true = pd.read_csv(truth_of(clinic, "desc-networks_timeseries.tsv"), sep="\t")[4:]
        for index, side in enumerate(("left", "right", "both")):
            found = denoised[seeds[..., index] > 0].mean(axis=0)
            assert np.corrcoef(found, true[f"region_precentral_{side}"])[0, 1] > 0.3

    def test_the_map_shows_the_motor_network(self, clinic, first):
        (r,) = good_maps(clinic, "stat-r_statmap.nii.gz", "precentral")
        network = load(truth_of(clinic, "desc-somatomotor_mask.nii.gz"))[0] > 0
        seeds, grey = (load(good_file(clinic, key))[0] for key in ("seeds", "tissue"))
        asked = (grey[..., 0] >= 0.25) & (r != 0) & (seeds[..., 2] == 0)
        inside, outside = r[asked & network], r[asked & ~network]
        assert len(inside) > 100
        area = stats.mannwhitneyu(inside, outside).statistic / len(inside) / len(outside)
        assert area > 0.9

    def test_maps_agree_with_each_other(self, clinic, first):
        for seed in ("precentralLeft", "precentralRight", "precentral"):
            r, z, kept, binary = (
                good_maps(clinic, f"{end}.nii.gz", seed)[0]
                for end in ("stat-r_statmap", "stat-z_statmap",
                            "stat-r_desc-thresholded_statmap", "desc-thresholded_mask")
            )  # fmt: skip
            np.testing.assert_allclose(z, np.arctanh(r), atol=1e-5)
            np.testing.assert_array_equal(binary, r >= 0.25)
            np.testing.assert_array_equal(kept, np.where(r >= 0.25, r, 0))

    def test_motion_is_recovered(self, clinic, first):
        confounds = pd.read_csv(good_file(clinic, "confounds"), sep="\t", na_values="n/a")
        true = pd.read_csv(truth_of(clinic, "desc-motion_timeseries.tsv"), sep="\t")[4:-1]
        assert len(confounds) == len(true)
        for axis in ("rot_x", "rot_y", "rot_z"):
            found, told = np.degrees(confounds[axis]), true[axis].to_numpy(float)
            error = (found - found.mean()) - (told - told.mean())
            assert error.abs().max() < 0.1
            assert np.corrcoef(found, told)[0, 1] > 0.9
        moved = confounds["framewise_displacement"]
        assert moved[1:].notna().all()
        assert np.isnan(moved[0])

    def test_steps_agree_with_what_was_asked(self, clinic, first):
        steps = json.loads(clinic.file(GOOD, "desc-func_model.json").read_text())["steps"]
        sidecar = json.loads(clinic.file(GOOD, "task-rest_desc-preproc_bold.json").read_text())
        assert sidecar["Steps"] == steps
        assert steps == {
            "slice_timing": {"asked": True, "done": True},
            "field": {"asked": "auto", "done": True},
            "denoise": {"asked": "motion24+acompcor", "done": True},
        }
        assert clinic.quality(GOOD)["flags"] == []

    def test_the_page_shows_and_tells(self, clinic, first):
        text = (clinic.out / f"sub-{GOOD}.html").read_text()
        assert text.count("data:image/png") == 6 + 3  # one of connectivity for each seed
        assert "five components each of white matter and fluid" in text
        assert "precentralLeft, precentralRight, precentral" in text

    def test_the_official_validator_has_nothing_to_say(self, clinic, first):
        program = shutil.which("bids-validator-deno", path=Path(sys.executable).parent)
        program = program or shutil.which("bids-validator-deno")
        command = [program, "--format", "json", "--ignoreWarnings", str(clinic.out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        issues = json.loads(done.stdout)["issues"]["issues"]
        assert [entry for entry in issues if entry["severity"] == "error"] == []


@pytest.mark.slow
class TestRefused:
    def test_the_good_one_goes_on(self, listed, first):
        status = listed[1]
        assert first == 1  # the short series is flagged, which comes before 65
        assert status.loc[GOOD, "state"] == "done"
        for person, words in (("nobold", "no functional series"), ("nohead", "no T1w image")):
            assert status.loc[person, "state"] == "absent"
            assert words in status.loc[person, "reason"]

    @pytest.mark.parametrize("person", REFUSED)
    def test_a_bad_series_is_refused_in_one_sentence(self, clinic, listed, person):
        state, reason = listed[1].loc[person]
        assert state == "refused", reason
        assert reason.startswith(f"sub-{person}")
        if person != "twotasks":  # which names the tasks
            assert f"sub-{person}_task-rest" in reason
        assert REFUSED[person][1] in reason
        assert "; " in reason or ", and " in reason  # what is wrong; how to mend it
        assert "Error" not in reason
        for folder in ("func", "fmap", "figures"):
            assert not list((clinic.out / f"sub-{person}").glob(f"{folder}/*"))


MAPS = ("statmap", "denoised", "alff", "falff", "reho", "relmat", "stat-mean", "connectivity",
        "thresholded", "space-", "desc-seeds_bold.tsv", "matrix")  # fmt: skip


@pytest.mark.slow
class TestShort:
    """Too short for the default denoising, but not for none; the order of runs matters."""

    def test_too_few_degrees_of_freedom_leave_quality_and_no_maps(self, listed):
        names, status, measures, quality = listed
        assert status.loc[SHORT, "state"] == "flagged"
        assert "fewer than 30; choose a preset that removes less" in status.loc[SHORT, "reason"]
        assert [name for name in names if any(word in name for word in MAPS)] == []
        for name in ("carpet_bold.png", "registration_bold.png", "seeds_bold.png", "func_qc.json",
                     "preproc_bold.nii.gz", "confounds_timeseries.tsv"):  # fmt: skip
            assert [found for found in names if found.endswith(f"desc-{name}")]
        assert measures["value"].isna().all()
        assert set(measures["qc"]) == {"flagged"}
        assert measures["reason"].str.contains("fewer than 30").all()
        assert quality["metrics"]["fd_mean"] > 0

    def test_a_preset_that_removes_less_writes_them(self, clinic, special):
        assert clinic.status().loc[SHORT, "state"] == "done"
        assert clinic.measures(SHORT)["value"].notna().all()
        names = names_in(clinic, SHORT)
        for word in MAPS:
            assert [name for name in names if word in name], word
        assert "seed-precentral_desc-connectivity_bold.png" in names
        assert not [name for name in names if "Left" in name]  # not asked for this time
        assert not [name for name in names if "fieldmap" in name]  # nor was undistorting


@pytest.mark.slow
class TestSpecial:
    def test_states(self, clinic, special):
        states = clinic.status()["state"]
        assert states[list(SPECIAL)].to_dict() == {
            "slab": "done", "untimed": "done",
        }  # fmt: skip
        assert special == 0

    def test_a_seed_outside_the_field_of_view_has_no_map(self, clinic, special):
        names = names_in(clinic, "slab")
        assert not [name for name in names if "seed-precentral" in name]
        assert "task-rest_seed-thalamus_stat-z_statmap.nii.gz" in names
        table = clinic.measures("slab")
        motor = table[table.index.str.contains("precentral|interhemispheric")]
        assert motor["value"].isna().all()
        assert motor["reason"].str.contains("at least 20 are asked").all()
        assert table.loc["alff_thalamus_both", ["value", "reason"]].notna().all()
        assert table["value"].notna().any()
        assert not (table["value"] == 0).any()
        seeds = pd.read_csv(clinic.file("slab", "task-rest_desc-seeds_mask.tsv"), sep="\t")
        assert dict(zip(seeds["name"], seeds["n_voxels"] >= 20, strict=True)) == {
            "precentral": False, "thalamus": True,
        }  # fmt: skip
        assert (
            table["reason"].str.contains("of the precentral gyrus is in the field of view").any()
        )

    def test_what_was_not_done_stands_beside_every_value(self, clinic, special):
        table = clinic.measures("untimed")
        assert table["value"].notna().all()
        told = {"slice timing skipped", "susceptibility distortion was not corrected"}
        assert [set(reason.split("; ")) for reason in table["reason"]] == [told] * len(table)
        notes = {note["name"]: note["reason"] for note in clinic.quality("untimed")["notes"]}
        steps = json.loads(clinic.file("untimed", "desc-func_model.json").read_text())["steps"]
        assert steps["slice_timing"] == {
            "asked": True, "done": False, "reason": notes["slice_timing_skipped"],
        }  # fmt: skip
        assert steps["field"] == {"asked": "none", "done": False}
        assert not list((clinic.out / "sub-untimed").glob("fmap/*"))
        text = (clinic.out / "sub-untimed.html").read_text()
        assert "slice timing skipped" in text
        assert "nothing regressed out" in text
        assert "five components" not in text


@pytest.mark.slow
class TestZAgain:  # the last: it changes what the others read
    def test_nothing_is_computed_twice(self, clinic, special):
        before, bytes_before = computed(clinic, SHORT), contents(clinic)
        assert clinic.run("--participant-label", SHORT, settings=UNFILTERED) == 0
        assert computed(clinic, SHORT) == before
        assert contents(clinic) == bytes_before

    def test_neither_storage_nor_processes_nor_threads_change_a_byte(self, clinic, special):
        """TR in ms, dimensions of size 1, links; two processes of two threads."""
        asked = ["--participant-label", "odd", "--omp-nthreads", "2"]
        where = {"out": "out2", "work": "work2", "nprocs": 2}
        assert clinic.run(*asked, settings=UNFILTERED, **where) == 0
        odd, plain = contents(clinic, "odd", "out2"), contents(clinic)
        data = [name for name in plain if name.endswith((".nii.gz", ".tsv"))]
        assert len(data) > 25
        assert [name for name in data if odd.get(name) != plain[name]] == []
        notes = clinic.quality("odd", "out2")["notes"]
        assert any("5 s taken from the header" in note["reason"] for note in notes)

    def test_only_what_changed_is_computed_again(self, clinic, special):
        before = computed(clinic, SHORT)
        settings = f"threshold = 0.3\n{UNFILTERED}"
        assert clinic.run("--participant-label", SHORT, settings=settings) == 0
        after = computed(clinic, SHORT)
        assert changed(before, after) <= {
            f"func_wf/{name}" for name in
            ("maps_wf/connect", "maps_wf/stacks", "maps_wf/warp_seeds", "maps_wf/split",
             "measure", "ds_func", "draw_wf/connectivity", "draw_wf/matrix")
        }  # fmt: skip
        assert {"func_wf/maps_wf/connect", "func_wf/ds_func"} <= changed(before, after)
        sidecar = clinic.file(SHORT, "task-rest_seed-precentral_desc-thresholded_mask.json")
        assert json.loads(sidecar.read_text())["Threshold"] == 0.3

    def test_the_other_preset_takes_the_maps_away_again(self, clinic, special):
        before = computed(clinic, SHORT)
        settings = UNFILTERED.replace('denoising = "calsnic"', "threshold = 0.3")
        assert clinic.run("--participant-label", SHORT, settings=settings) == 1
        again = changed(before, computed(clinic, SHORT))
        assert "func_wf/clean_wf/denoise" in again
        kept = ("anat_wf", "func_wf/series_wf", "func_wf/space_wf", "func_wf/clean_wf/find")
        assert not [name for name in again if name.startswith(kept)]
        assert clinic.status().loc[SHORT, "state"] == "flagged"
        names = names_in(clinic, SHORT)
        assert [name for name in names if any(word in name for word in MAPS)] == []
        assert "desc-carpet_bold.png" in names

    def test_nobody_needs_a_series_unless_the_stream_is_named(self, clinic, first):
        people_asked = ["--participant-label", GOOD, "nobold"]
        assert clinic.run(*people_asked) == 0
        assert clinic.status().loc["nobold", "state"] == "absent"
        assert clinic.run(*people_asked, "--modalities", "func") == 66

    def test_those_who_were_refused_are_refused_again(self, clinic, listed):
        said = listed[1].loc[list(REFUSED)]
        before = computed(clinic, GOOD)
        assert clinic.run("--participant-label", GOOD, *REFUSED) == 65
        pd.testing.assert_frame_equal(clinic.status().loc[list(REFUSED)], said)
        assert computed(clinic, GOOD) == before


def computed(clinic, person) -> dict[str, int]:
    """When each step of a person was computed."""
    folder = clinic.work / "alsflow_wf" / f"sub_{person}_wf"
    return {
        str(path.parent.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("result_*.pklz")
    }


def changed(before, after) -> set[str]:
    return {name for name in after if after[name] != before.get(name)}


def contents(clinic, person=SHORT, out="out") -> dict[str, bytes]:
    """All files of a person, their names without the person."""
    folder = clinic.root / out / f"sub-{person}"
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.name.removeprefix(f"sub-{person}_"): path.read_bytes() for path in paths}
