"""The spectroscopy stream as a user meets it: it tells the truth, or says what is wrong."""

import gzip
import json
import shutil
import subprocess
import sys
from multiprocessing import forkserver
from pathlib import Path

import mrs_clinic as people
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from alsflow import cli
from alsflow.interfaces.bids import Visit
from alsflow.interfaces.mrs_lcmodel import read_lcmodel
from alsflow.interfaces.mrs_plan import find_results
from alsflow.workflows.measures import catalogue
from alsflow.workflows.outputs import output_path, wanted
from alsflow.workflows.settings import Settings

GOOD = people.GOOD
TRUE_WITHIN = 0.06  # relative; three standard errors of the fit at this S/N
NO_FIT = "no result of LCModel was found"

# what is done to a person, and words of what is noted
DONE = {
    "choline": (people.choline_16, ""),
    "noscan": (people.no_spectrum, "no file has the place of the voxel"),
    "high": (people.moved(0, 0, 14), "of the voxel lies in the brain mask"),
    "named": (people.named, ""),
}
# and words of the flag
FLAGGED = {
    "nofit": (people.no_fit, f"no_fit: {NO_FIT}, by name or in a mapping"),
    "fatal": (people.fatal, "fit_failed: fatal: LCModel stopped: FATAL FTDATA 1"),
    "cut": (people.cut_table, "fit_failed: truncated: the file ends before its diagnostics"),
    "noise": (people.low_snr, "low_snr: S/N 2 (< 3)"),
    "basis": (people.other_basis, "wrong_basis: echo times of data and basis set differ"),
    "unlocalised": (
        people.unlocalised,
        "voxel_misplaced: sub-unlocalised_svs.nii.gz has no place",
    ),
    "noforms": (people.no_forms, "voxel_misplaced: sub-noforms_svs.nii.gz has no place: "),
    "far": (people.moved(0, 0, 300), "lies wholly outside the field of view of the T1-weighted"),
    "damaged": (people.damaged, "sub-damaged_svs.nii.gz cannot be read as an image"),
}
# and words of the sentence that refuses it
REFUSED = {
    "othercsv": (people.other_csv, "sub-othercsv.csv: differs from sub-othercsv.table; one of the "
                 "files is of another run"),
    "twoscans": (people.two_spectra, "there are 2 (sub-twoscans_voi-foot_svs.nii.gz, "
                 "sub-twoscans_voi-hand_svs.nii.gz); select one with a filter file, such as "
                 '{"mrs": {"'),
    "badjson": (people.broken_sidecar, "sub-badjson_svs.json is not valid JSON"),
}  # fmt: skip


# ---------------------------------------------------------------------------- settings


@pytest.fixture
def unread(tmp_path, monkeypatch):
    """Exit code of a run whose images nobody may have a look at."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("anat/sub-01_T1w", "mrs/sub-01_svs"):
        path = tmp_path / "bids" / "sub-01" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True)
        path.write_text("no image")
    description = json.dumps({"Name": "paper", "BIDSVersion": "1.10.0"})
    (tmp_path / "bids" / "dataset_description.json").write_text(description)
    (tmp_path / "results").mkdir()

    def run(settings="", *options):
        (tmp_path / "config.toml").write_text(f"{settings}\n")
        argv = ["bids", "out", "participant", "--nprocs", "1", "--skip-bids-validation"]
        try:
            return cli.main([*argv, "--config-file", "config.toml", *options])
        except SystemExit as end:
            return end.code

    return run


def one_sentence(told: str) -> bool:
    return told.count("\n") == 1 and told.startswith("alsflow: ") and told.endswith(".\n")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ('water = "osprei"', "osprei"),
        ('metabolites = "mine"', "mine"),
        ('mapping = "no.tsv"', "the table no.tsv cannot be read (No such file or directory)"),
        ('mapping = "commas.tsv"', "commas.tsv, line 1: columns must be parted by tabs"),
        ('mapping = "results"', "results cannot be read"),
        ('basis = "no.basis"', "the basis set no.basis cannot be read"),
        ('basis = "config.toml"', "config.toml is no basis set of LCModel"),
        ("sd_percent = 0", "mrs.sd_percent = 0 is below 1"),
        ("sd_percent = 15.5", "mrs.sd_percent = 15.5 is not a whole number"),
        ("snr = -1", "mrs.snr = -1.0 is below 0"),
        ("fwhm_ppm = nan", "mrs.fwhm_ppm = nan is below 0"),
        ('bases = "a"', "did you mean 'basis'?"),
    ],
)
def test_settings_that_nobody_can_use_end_the_run_before_it_starts(
    unread, capsys, tmp_path, settings, words
):
    (tmp_path / "commas.tsv").write_text("participant_id,result\nsub-01,a\n")
    assert unread(f"[mrs]\n{settings}") == 64
    told = capsys.readouterr().err
    assert words in told
    assert one_sentence(told)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("by_file", [True, False])
def test_a_folder_of_results_that_is_not_there(unread, capsys, tmp_path, by_file):
    if by_file:
        assert unread('[derivatives]\nlcmodel = "nowhere"') == 64
    else:
        assert unread("", "--derivatives", "lcmodel=nowhere") == 64
    told = capsys.readouterr().err
    assert "nowhere" in told
    assert one_sentence(told)
    assert not (tmp_path / "out").exists()


def test_a_basis_set_without_lcmodel_ends_the_run_before_it_starts(unread, capsys, tmp_path):
    (tmp_path / "te30.basis").write_text(people.BASIS)
    assert unread('[mrs]\nbasis = "te30.basis"') == 1
    told = capsys.readouterr().err
    assert "LCModel is not installed: put its program lcmodel on the PATH" in told
    assert one_sentence(told)
    assert not (tmp_path / "out").exists()


def test_the_maps_of_others_and_the_fits_of_others_are_two_folders(unread, tmp_path):
    """A refusal for its maps would name the folder of the fits."""
    (tmp_path / "maps").mkdir()
    folders = ("precomputed=maps", "lcmodel=results")
    assert unread("", "--anat-engine", "precomputed", "--derivatives", *folders) != 0
    reason = (tmp_path / "out" / "status.tsv").read_text()
    assert "maps" in reason
    assert "one derivatives folder" not in reason


# ---------------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """The dataset with everybody in it."""
    made = people.make_clinic(tmp_path_factory.mktemp("clinic"))
    for label, (harm, _) in (DONE | FLAGGED | REFUSED).items():
        made.admit(label, harm)
    made.admit("nothing", people.nothing)
    made.admit("flagged")  # by the anatomy
    return made


@pytest.fixture(scope="module")
def good(clinic):
    """Exit code of the run, validated, on those of whom nothing is held against the stream."""
    return clinic.run_fitted("--participant-label", GOOD, *DONE, validate=True)


@pytest.fixture(scope="module")
def flagged(clinic, good):
    return clinic.run_fitted("--participant-label", "flagged", *FLAGGED)


@pytest.fixture(scope="module")
def listed(clinic, flagged):
    """What was said of them: the next run writes the table anew."""
    return clinic.status()


@pytest.mark.slow
def test_a_dry_run_shows_which_fits_were_found(clinic, capfd):
    asked = ["--participant-label", GOOD, "nofit", "noscan", "--dry-run"]
    assert clinic.run_fitted(*asked, out="dry") == 0
    told = {
        line.split()[1]: line for line in capfd.readouterr().out.splitlines() if " mrs " in line
    }
    for person, scan, fit in ((GOOD, True, True), ("nofit", True, False), ("noscan", False, True)):
        line = told[f"sub-{person}"]
        assert (f"sub-{person}_svs.nii.gz" in line) == scan
        assert (f"sub-{person}.table" in line) == fit
        assert "will run" in line
    assert not (clinic.root / "dry").exists()


def printed(clinic, person=GOOD) -> dict[str, float]:
    """Concentrations of the table that was written, read without the reader."""
    rows = [line.split() for line in clinic.result(person).read_text().splitlines()]
    return {row[3]: float(row[0]) for row in rows if len(row) == 4 and row[1].endswith("%")}


def notes(clinic, person) -> str:
    return "; ".join(note["reason"] for note in clinic.quality(person)["notes"])


@pytest.mark.slow
class TestGoodPerson:
    def test_the_ratios_are_those_of_the_table(self, clinic, good):
        assert good == 0
        assert clinic.status().loc[GOOD, "state"] == "done"
        found, conc = clinic.measures(GOOD), printed(clinic)
        naa, cr, cho = conc["NAA+NAAG"], conc["Cr+PCr"], conc["GPC+PCh"]
        for name, value in (("tnaa_tcr", naa / cr), ("tnaa_tcho", naa / cho),
                            ("tcho_tcr", cho / cr), ("mins_tcr", conc["Ins"] / cr),
                            ("tnaa_mins", naa / conc["Ins"]), ("glx_tcr", conc["Glu+Gln"] / cr),
                            ("gaba_tcr", conc["GABA"] / cr), ("gsh_tcr", conc["GSH"] / cr),
                            ):  # fmt: skip
            assert found.loc[f"mrs_{name}", "value"] == pytest.approx(value, rel=2e-3), name

    def test_tissue_and_concentrations_are_near_the_truth(self, clinic, good):
        found, truth = clinic.measures(GOOD)["value"], clinic.true_measures()
        shares = [f"mrs_voxel_{tissue}" for tissue in ("gm", "wm", "csf")]
        np.testing.assert_allclose(found[shares], truth[shares], atol=0.01)
        names = [f"mrs_{name}" for name in ("tnaa_molal", "tcr_molal", "tcho_molal",
                                            "mins_molal", "glx_molal")]  # fmt: skip
        np.testing.assert_allclose(found[names], truth[names], rtol=TRUE_WITHIN)

    def test_the_measures_are_those_of_the_catalogue(self, clinic, good):
        found = clinic.measures(GOOD)
        known = {m.name: m.unit for m in catalogue().measures.values() if m.stream == "mrs"}
        assert dict(found["unit"]) == known
        assert found.index.is_unique
        assert found["value"].notna().all()
        assert set(found.index[found["qc"] != "ok"]) == {"mrs_gaba_tcr", "mrs_gaba_molal"}
        assert clinic.quality(GOOD)["flags"] == []

    def test_all_outputs_are_there_with_their_sidecars(self, clinic, good):
        files = {"mrs": (clinic.scan(GOOD),)}
        found, _ = find_results(clinic.results, [(GOOD, None)])
        visit = Visit(GOOD, None, files, {"lcmodel": found[GOOD, None]})
        settings = Settings(clinic.bids, clinic.out, "participant")
        entries = wanted("mrs", visit, settings)
        assert {"mask", "template", "spectra", "fit_figure", "tissue_figure"} <= set(entries)
        fits = [f"bids:lcmodel:sub-{GOOD}/sub-{GOOD}{end}" for end in sorted(people.ENDS)]
        for key, entry in entries.items():
            path = output_path(f"mrs.{key}", visit, settings)
            assert path.stat().st_size > 0, key
            if entry.get("sidecar", True):
                content = json.loads(path.with_name(f"{path.name.split('.')[0]}.json").read_text())
                raw = f"bids:raw:sub-{GOOD}/mrs/sub-{GOOD}_svs.nii.gz"
                assert content["Sources"] == [raw, *fits], key
                assert content["Description"], key
        links = json.loads((clinic.out / "dataset_description.json").read_text())["DatasetLinks"]
        for name, folder in (("raw", clinic.bids), ("lcmodel", clinic.results)):
            assert (clinic.out / links[name]).resolve() == folder

    def test_the_voxel_lies_where_it_was_planned(self, clinic, good):
        mask = nib.load(clinic.file(GOOD, "space-T1w_desc-voxel_mask.nii.gz"))
        inside = np.argwhere(np.asanyarray(mask.dataobj) > 0)
        volume = len(inside) * abs(np.linalg.det(mask.affine[:3, :3])) / 1000
        assert volume == pytest.approx(30 * 24 * 20 / 1000, rel=0.03)
        centre = nib.affines.apply_affine(mask.affine, inside).mean(0)
        np.testing.assert_allclose(centre, clinic.true_affine()[:3, 3], atol=1)
        name = "space-MNI152NLin2009aSym_desc-voxel_probseg.nii.gz"
        share = nib.load(clinic.file(GOOD, name))
        where = np.argwhere(share.get_fdata() > 0.5)
        centre = nib.affines.apply_affine(share.affine, where).mean(0)
        assert abs(centre[0]) < 6  # over the foot area
        assert -45 < centre[1] < -15
        assert 40 < centre[2] < 75

    def test_the_page_shows_and_tells(self, clinic, good):
        text = (clinic.out / f"sub-{GOOD}.html").read_text()
        assert text.count("data:image/png") == 3
        assert "Spectroscopy (MRS)" in text
        assert "tNAA/tCho" in text
        assert "fitted with LCModel" in text

    def test_the_official_validator_has_nothing_to_say(self, clinic, good):
        program = shutil.which("bids-validator-deno", path=Path(sys.executable).parent)
        program = program or shutil.which("bids-validator-deno")
        command = [program, "--format", "json", "--ignoreWarnings", str(clinic.out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        issues = json.loads(done.stdout)["issues"]["issues"]
        assert [entry for entry in issues if entry["severity"] == "error"] == []


@pytest.mark.slow
class TestDone:
    @pytest.mark.parametrize("person", DONE)
    def test_states(self, clinic, good, flagged, listed, person):
        assert clinic.quality(person)["flags"] == []
        assert DONE[person][1] in notes(clinic, person)

    def test_one_bad_metabolite_takes_only_its_ratios(self, clinic, good):
        found = clinic.measures("choline")
        bad = found[found["reason"].str.contains("CRLB of tCho is 16 %")]
        assert set(bad.index) == {"mrs_tnaa_tcho", "mrs_tcho_tcr", "mrs_tcho_molal"}
        assert set(bad["qc"]) == {"flagged"}
        assert bad["value"].notna().all()
        assert found.loc[["mrs_tnaa_tcr", "mrs_tnaa_molal"], "qc"].eq("ok").all()

    def test_a_fit_alone_gives_ratios_alone(self, clinic, good):
        found, whole = clinic.measures("noscan"), clinic.measures(GOOD)
        ratios = found.index.str.fullmatch("mrs_t?[a-z]+_(tcr|tcho|mins)")
        assert ratios.sum() == 8
        pd.testing.assert_series_equal(found["value"][ratios], whole["value"][ratios])
        assert found["value"][~ratios].isna().all()
        assert found["reason"][~ratios].str.contains("place").all()
        written = {path.name.partition("_")[2] for path in
                   (clinic.out / "sub-noscan").glob("*/*")}  # fmt: skip
        assert not [name for name in written if "voxel" in name or "tissue" in name]

    def test_a_voxel_partly_outside_is_measured_and_not_made_whole(self, clinic, good):
        found = clinic.measures("high")
        shares = found.loc[[f"mrs_voxel_{tissue}" for tissue in ("gm", "wm", "csf")]]
        assert shares["value"].sum() < 0.95
        assert shares["reason"].str.contains("do not add up to 1").all()
        molal = found[found.index.str.contains("molal")]
        assert molal["value"].isna().all()
        assert molal["reason"].str.contains("of the voxel lies in").all()
        assert found.loc["mrs_tnaa_tcr", ["qc", "reason"]].tolist() == ["ok", ""]

    def test_personal_strings_stay_where_they_are(self, clinic, good):
        """The title is in four files of the fit and in two sidecars; the reader shows them."""
        (fit,) = read_lcmodel(clinic.result("named"), personal=True)
        assert people.NAME in str(fit.result)
        told = [path for folder in (clinic.out, clinic.work) for path in folder.rglob("*")
                if path.is_file() and holds(path)]  # fmt: skip
        assert told == []
        found, same = clinic.measures("named"), clinic.measures(GOOD)
        pd.testing.assert_frame_equal(found, same)


def holds(path: Path) -> bool:
    """Whether a personal string is in a file, packed or not."""
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    return any(word.encode() in content for word in people.PERSONAL)


@pytest.mark.slow
class TestFlagged:
    @pytest.mark.parametrize("person", FLAGGED)
    def test_the_reason_is_told(self, clinic, listed, flagged, person):
        state, reason = listed.loc[person]
        assert flagged == 1
        assert state == "flagged", reason
        assert FLAGGED[person][1] in reason
        assert "Error" not in reason
        assert str(clinic.root) not in reason

    def test_a_head_that_does_not_count_leaves_the_ratios_alone(self, clinic, listed, flagged):
        assert listed.loc["flagged", "state"] == "done"
        found, whole = clinic.measures("flagged"), clinic.measures(GOOD)
        tissue = found.index.str.contains("molal|voxel")
        assert found["value"][tissue].isna().all()
        assert found["reason"][tissue].str.contains("the template does not fit").all()
        pd.testing.assert_frame_equal(found[~tissue], whole[~tissue])

    def test_without_a_fit_the_tissue_is_measured(self, clinic, flagged):
        found, whole = clinic.measures("nofit"), clinic.measures(GOOD)
        shares = found.index.str.startswith("mrs_voxel_")
        pd.testing.assert_frame_equal(found[shares], whole[shares])
        assert found["value"][~shares].isna().all()
        assert found["reason"][~shares].str.contains(NO_FIT).all()

    @pytest.mark.parametrize("person", ["fatal", "cut", "noise", "basis"])
    def test_a_fit_that_does_not_count_leaves_the_tissue_alone(self, clinic, flagged, person):
        found, whole = clinic.measures(person), clinic.measures(GOOD)
        shares = found.index.str.startswith("mrs_voxel_")
        pd.testing.assert_frame_equal(found[shares], whole[shares])
        assert set(found["qc"][~shares]) == {"flagged"}
        if person in ("noise", "basis"):  # the values stay beside their flags
            assert found["value"].notna().all()
        else:
            assert found.loc["mrs_tnaa_tcho", "value"] != 0

    @pytest.mark.parametrize("person", ["unlocalised", "noforms", "far", "damaged"])
    def test_without_a_place_nothing_counts(self, clinic, flagged, person):
        found = clinic.measures(person)
        assert set(found["qc"]) == {"flagged"}
        shares = found.index.str.contains("voxel|molal")
        assert found["value"][shares].isna().all()
        assert found.loc["mrs_tnaa_tcr", "value"] > 0
        assert not list((clinic.out / f"sub-{person}" / "mrs").glob("*voxel*"))


@pytest.mark.slow
class TestRefused:
    def test_the_others_go_on(self, clinic, listed):
        assert clinic.run_fitted("--participant-label", GOOD, *REFUSED) == 65
        status = clinic.status()
        assert status.loc[GOOD, "state"] == "done"
        for person, (_, words) in REFUSED.items():
            state, reason = status.loc[person]
            assert state == "refused", reason
            assert words in reason
            assert "Error" not in reason
            assert not list((clinic.out / f"sub-{person}").glob("mrs/*"))

    def test_a_filter_chooses_one_of_two_spectra(self, clinic, listed):
        (clinic.root / "filter.json").write_text('{"mrs": {"voi": "foot"}}')
        options = ["--participant-label", "twoscans", "--bids-filter-file", "filter.json"]
        assert clinic.run_fitted(*options) == 0
        assert clinic.status().loc["twoscans", "state"] == "done"
        sidecar = clinic.file("twoscans", "space-T1w_desc-voxel_mask.json")
        assert "voi-foot_svs" in json.loads(sidecar.read_text())["Sources"][0]

    def test_nobody_needs_a_spectrum_unless_the_stream_is_named(self, clinic, listed):
        assert clinic.run_fitted("--participant-label", "nothing") == 0
        assert "nothing" not in clinic.status().index
        assert clinic.run_fitted("--participant-label", "nothing", "--modalities", "mrs") == 66
        state, reason = clinic.status().loc["nothing"]
        assert state == "absent"
        assert "has no spectrum (svs) and no result of LCModel" in reason


@pytest.mark.slow
class TestMapping:
    """Results and places that only a table names."""

    @pytest.fixture(scope="class")
    @classmethod
    def mapped(cls, clinic, listed):
        for label, harm in (("declared", None), ("rda", people.no_spectrum),
                            ("spar", people.no_spectrum), ("placeonly", people.nothing),
                            ("wrong", people.no_spectrum)):  # fmt: skip
            clinic.admit(label, harm)
        people.write_rda(clinic, clinic.results / "scan.rda")
        people.write_spar(clinic, clinic.results / "scan.SPAR")
        rows = [
            ("declared", "n/a", "n/a"),
            ("rda", "sub-rda", "scan.rda"),
            ("spar", "sub-spar/sub-spar.table", "scan.SPAR"),
            ("placeonly", "n/a", "scan.rda"),
            ("wrong", "sub-wrongly", "scan.rda"),
            ("stranger", "sub-rda", "n/a"),
        ]
        people.write_mapping(clinic, rows)
        asked = ["--participant-label", *(row[0] for row in rows[:5])]
        return clinic.run(*asked, settings='mapping = "lcmodel/mapping.tsv"', out="mapped")

    def test_states(self, clinic, mapped):
        status = clinic.status("mapped")
        assert status["state"].to_dict() == {
            "declared": "done", "rda": "done", "spar": "done", "placeonly": "done",
            "wrong": "refused",
        }  # fmt: skip
        assert mapped == 65
        reason = status.loc["wrong", "reason"]
        assert "mapping.tsv, line 6: there is no sub-wrongly beside the table" in reason

    @pytest.mark.parametrize("person", ["declared", "placeonly"])
    def test_who_is_declared_without_a_fit_is_not_flagged(self, clinic, mapped, person):
        found = clinic.measures(person, "mapped")
        assert found["value"].notna().sum() == 3  # the tissue
        reasons = [note["reason"] for note in clinic.quality(person, "mapped")["notes"]]
        assert "the mapping says that there is no result of LCModel" in reasons

    def test_headers_of_scanners_place_the_same_voxel(self, clinic, mapped):
        whole = clinic.measures(GOOD)["value"]
        found = clinic.measures("rda", "mapped")["value"]
        np.testing.assert_allclose(found, whole, rtol=2e-3)
        found = clinic.measures("spar", "mapped")["value"]  # not turned: near, not the same
        shares = [f"mrs_voxel_{tissue}" for tissue in ("gm", "wm", "csf")]
        np.testing.assert_allclose(found[shares], whole[shares], atol=0.05)
        assert found["mrs_tnaa_molal"] == pytest.approx(whole["mrs_tnaa_molal"], rel=0.05)

    def test_headers_of_scanners_hold_names_that_stay_there(self, clinic, mapped):
        assert not [path for path in (clinic.root / "mapped").rglob("*")
                    if path.is_file() and holds(path)]  # fmt: skip


@pytest.mark.slow
class TestZAgain:
    def test_nothing_is_computed_twice(self, clinic, listed):
        before, bytes_before = computed(clinic, GOOD), contents(clinic, GOOD)
        assert clinic.run_fitted("--participant-label", GOOD) == 0
        assert computed(clinic, GOOD) == before
        assert len(before) > 8
        assert contents(clinic, GOOD) == bytes_before

    def test_only_what_changed_is_computed_again(self, clinic, listed):
        before = computed(clinic, GOOD)
        asked = ["--participant-label", GOOD]
        assert clinic.run_fitted(*asked, settings="sd_percent = 2") == 0
        after = computed(clinic, GOOD)
        again = {name for name in after if after[name] != before.get(name)}
        assert {"mrs_wf/fit", "mrs_wf/measure"} <= again
        assert not {"mrs_wf/place", "mrs_wf/draw_voxel", "mrs_wf/draw_tissue"} & again
        reason = clinic.measures(GOOD).loc["mrs_gsh_tcr", "reason"]
        assert "(> 2 %)" in reason

    def test_a_fit_that_was_taken_away_leaves_no_tables_behind(self, clinic, listed):
        clinic.result(GOOD).parent.rename(clinic.root / "away")
        try:
            assert clinic.run_fitted("--participant-label", GOOD) == 1
        finally:
            (clinic.root / "away").rename(clinic.result(GOOD).parent)
        names = {path.name for path in (clinic.out / f"sub-{GOOD}").glob("*/*")}
        assert not [name for name in names if any(
            word in name for word in ("ratios", "quant", "spectra", "desc-fit")
        )]  # fmt: skip
        assert f"sub-{GOOD}_desc-tissue_mrs.tsv" in names


@pytest.mark.slow
class TestZLCModel:
    @pytest.fixture
    def installed(self, clinic, monkeypatch):
        """Steps run in processes that have the PATH of the one which they are forked from."""
        people.install_lcmodel(clinic.root / "bin", clinic.result(GOOD))
        monkeypatch.setenv("PATH", str(clinic.root / "bin"), prepend=":")
        forkserver._forkserver._stop()

    def test_lcmodel_is_run_where_there_is_no_result(self, clinic, listed, installed):
        (clinic.root / "te30.basis").write_text(people.BASIS)
        options = ["--participant-label", "nofit"]
        assert clinic.run(*options, settings='basis = "te30.basis"', out="run") == 0
        found, whole = clinic.measures("nofit", "run"), clinic.measures("named")
        np.testing.assert_allclose(found["value"], whole["value"], rtol=1e-6)
        details = json.loads(clinic.file("nofit", "desc-mrs_model.json", "run").read_text())
        assert details["steps"]["run"]["done"]
        made = details["details"]["run"]
        assert made["basis"] == "te30.basis"
        assert made["version"] == "6.3-1N"
        assert made["water"]
        assert str(clinic.root) not in json.dumps(details)
        sidecar = json.loads(
            clinic.file("nofit", "space-T1w_desc-voxel_mask.json", "run").read_text()
        )
        assert [Path(source).name for source in sidecar["Sources"]] == [
            "sub-nofit_svs.nii.gz", "sub-nofit_mrsref.nii.gz",
        ]  # fmt: skip


# ---------------------------------------------------------------------------- other streams


@pytest.mark.slow
class TestTies:
    """Spectroscopy and the resting state of the same people, run together."""

    SETTINGS = 'denoising = "calsnic"\nslice_timing = false\ntemplate_voxel = 6.0\n'

    @pytest.fixture(scope="class")
    @classmethod
    def tied(cls, tmp_path_factory):
        clinic = people.make_clinic(tmp_path_factory.mktemp("tied"), people.WITH_FUNC, "func")
        clinic.admit("astray", people.unlocalised)
        return clinic, clinic.run_fitted(settings=cls.SETTINGS)

    def test_the_voxel_is_a_seed(self, tied):
        clinic, _ = tied
        found = clinic.measures(GOOD)
        rows = found[found.index.str.startswith("fc_mrs_voxel_")]
        known = [m for m in catalogue().measures.values() if m.family == "mrs_voxel_connectivity"]
        assert set(rows.index) == {m.name for m in known}
        assert rows["value"].notna().all()
        assert (rows["qc"] == "ok").all()
        # it lies on the motor cortex of both sides, and is not the thalamus
        near = rows["value"]["fc_mrs_voxel_precentral_both"]
        assert near > rows["value"]["fc_mrs_voxel_thalamus_both"]
        assert near > 0.2
        name = "task-rest_seed-mrsVoxel_stat-z_statmap.nii.gz"
        assert clinic.file(GOOD, name).is_file()

    def test_without_a_place_the_others_run(self, tied):
        clinic, code = tied
        assert code == 1  # for her spectrum
        assert clinic.status()["state"].to_dict() == {GOOD: "done", "astray": "done"}
        found, whole = clinic.measures("astray"), clinic.measures(GOOD)
        rows = found.index.str.startswith("fc_mrs_voxel_")
        assert found["value"][rows].isna().all()
        assert set(found["reason"][rows]) == {"no MRS voxel"}
        pd.testing.assert_frame_equal(found[~rows], whole[~rows])
        assert not list((clinic.out / "sub-astray" / "func").glob("*seed-mrsVoxel*"))


def computed(clinic, person) -> dict[str, int]:
    """When each step of a person was computed."""
    folder = clinic.work / "alsflow_wf" / f"sub_{person}_wf"
    return {
        str(path.parent.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("result_*.pklz")
    }


def contents(clinic, person) -> dict[str, bytes]:
    paths = [path for path in (clinic.out / f"sub-{person}").rglob("*") if path.is_file()]
    return {path.name: path.read_bytes() for path in paths}
