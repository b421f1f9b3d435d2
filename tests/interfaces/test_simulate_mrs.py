"""Simulated spectra on disk, read back by the stream that they are made for."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from alsflow import cli_simulate
from alsflow.interfaces.mrs_lcmodel import read_lcmodel
from alsflow.interfaces.mrs_voxel import read_scan
from alsflow.interfaces.simulate import write_cohort
from alsflow.interfaces.simulate_mrs import EXTENSION_CODE
from alsflow.nodes.mrs.fractions import tissue_fractions
from alsflow.nodes.mrs.ratios import all_ratios
from alsflow.nodes.simulate.cohort import DEFAULT_EFFECTS, DEFAULT_MRS_EFFECTS, Design
from alsflow.nodes.simulate.spectroscopy import MrsDesign

EFFECTS = DEFAULT_EFFECTS | DEFAULT_MRS_EFFECTS
SMALL = Design(2, 2, 2, 3, EFFECTS, ((3.0, 3.0, 3.0),), mrs=MrsDesign(failures=0.6))
PEOPLE = ("sub-01", "sub-04")  # whose spectra are good at this seed
FAILED = {"sub-02": "fatal", "sub-03": "width"}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    out = tmp_path_factory.mktemp("spectra") / "cohort"
    assert list(write_cohort(out, SMALL, "the command", maps=True)) == ["01", "02", "03", "04"]
    return out


@pytest.fixture(scope="module")
def truth(cohort):
    table = pd.read_csv(cohort / "derivatives/truth/measures.tsv", sep="\t")
    return table.pivot(index="participant_id", columns="measure", values="value")


def fit(cohort, person):
    return read_lcmodel(cohort / "derivatives" / "lcmodel" / person)[0]


def test_the_dataset_is_valid_bids(cohort):
    program = f"{sys.prefix}/bin/bids-validator-deno"
    run = subprocess.run([program, cohort, "--json"], capture_output=True, text=True, check=False)
    issues = json.loads(run.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert {issue["code"] for issue in issues if "/mrs/" in issue.get("location", "")} <= {
        "SIDECAR_KEY_RECOMMENDED"
    }


@pytest.mark.parametrize("person", PEOPLE)
def test_the_fit_finds_the_person(cohort, truth, person):
    """All files of a result agree, and its ratios are those of the truth times the site's."""
    found = fit(cohort, person)
    assert found.result.status == "ok"
    assert found.result.water_scaled
    assert found.result.misc.snr > 15
    sidecar = json.loads((cohort / person / "mrs" / f"{person}_svs.json").read_text())
    choline = sidecar["SimulatedCholineFactor"]
    for ratio in all_ratios(found.result, found.correlations)[:3]:
        assert ratio.included
        name = f"mrs_{ratio.name.lower().replace('/', '_')}"
        factor = {"tNAA/tCho": 1 / choline, "tCho/tCr": choline}.get(ratio.name, 1.0)
        error = ratio.value / (truth.loc[person, name] * factor) - 1
        assert abs(error) < 3.5 * ratio.value_sd / 100, name


def test_the_spectra_are_worth_a_picture(cohort):
    found = fit(cohort, "sub-01").spectra
    near = found.ppm[found.fit.argmax()]
    assert near == pytest.approx(2.01, abs=0.02)
    assert found.ppm[0] > found.ppm[-1]
    assert 450 < len(found.ppm) < 500
    assert [name for name, _ in found.metabolites] == ["NAA", "Cr", "GPC", "Ins"]
    for path in (cohort / "derivatives/lcmodel").glob("*/*"):
        assert path.stat().st_size < 60000


@pytest.mark.parametrize("person", PEOPLE)
def test_the_header_leads_to_the_voxel(cohort, person):
    path = cohort / person / "mrs" / f"{person}_svs.nii.gz"
    scan = read_scan(path)
    assert (scan.te, scan.tr, scan.sequence) == (0.03, 3.0, "PRESS")
    assert np.isnan(scan.tm)
    np.testing.assert_allclose(scan.voxel.sizes, (32, 24, 20), atol=1e-3)
    sidecar = cohort / f"derivatives/truth/{person}/mrs/{person}_desc-chemistry_mrs.json"
    true = json.loads(sidecar.read_text())
    np.testing.assert_allclose(scan.voxel.affine, true["VoxelAffine"], atol=1e-4)
    assert true["Failure"] == "none"
    image = nib.load(path)
    assert isinstance(image, nib.Nifti2Image)
    assert image.shape == (1, 1, 1, 1024)
    assert image.get_data_dtype() == np.complex64
    assert image.header["intent_name"].item().startswith(b"mrs_v")
    assert image.header["pixdim"][4] == pytest.approx(5e-4)
    assert [e.get_code() for e in image.header.extensions] == [EXTENSION_CODE]
    water = nib.load(path.with_name(f"{person}_mrsref.nii.gz"))
    assert np.abs(water.dataobj[0, 0, 0, 0]) > 100 * np.abs(image.dataobj[0, 0, 0]).max()


@pytest.mark.parametrize("person", PEOPLE)
def test_the_voxel_holds_the_tissue_that_the_maps_show(cohort, truth, person):
    """The voxel lies in the brain, between the hemispheres."""
    folder = cohort / "derivatives" / "truth" / person / "anat"
    maps, image = {}, None
    for tissue in ("gm", "wm", "csf"):
        image = nib.load(folder / f"{person}_label-{tissue.upper()}_probseg.nii.gz")
        maps[tissue] = image.get_fdata()
    scan = read_scan(cohort / person / "mrs" / f"{person}_svs.nii.gz")
    found = tissue_fractions(scan.voxel, maps, image.affine)
    for tissue in maps:
        true = truth.loc[person, f"mrs_voxel_{tissue}"]
        assert getattr(found, tissue) == pytest.approx(true, abs=0.025)
    assert truth.loc[person, ["mrs_voxel_gm", "mrs_voxel_wm", "mrs_voxel_csf"]].sum() > 0.99
    assert 0.25 < truth.loc[person, "mrs_voxel_gm"] < 0.5


def test_the_effect_stands_in_the_truth(cohort):
    table = pd.read_csv(cohort / "derivatives/truth/effects.tsv", sep="\t").set_index("measure")
    assert table.loc["mrs_tnaa_tcr", "relative_effect"] == -0.1
    assert -0.2 < table.loc["mrs_tnaa_tcr", "mean_change"] < -0.02
    for name in ("mrs_tnaa_tcho", "mrs_tnaa_molal"):
        assert table.loc[name, "mean_change"] == pytest.approx(
            table.loc["mrs_tnaa_tcr", "mean_change"]
        )
    assert table.loc["mrs_tcho_tcr", "mean_change"] == 0
    assert table.loc["mrs_voxel_wm", "mean_change"] == 0
    path = cohort / "derivatives/truth/sub-04/mrs/sub-04_desc-chemistry_mrs.tsv"
    chemistry = pd.read_csv(path, sep="\t")
    assert (chemistry["concentration"] == chemistry["unaffected"]).all()


def test_failed_spectra_are_found_out(cohort):
    """A fatal one has no rows, an empty .csv and an empty spectrum; the other is left out."""
    for person, failure in FAILED.items():
        path = cohort / f"derivatives/truth/{person}/mrs/{person}_desc-chemistry_mrs.json"
        assert json.loads(path.read_text())["Failure"] == failure
        found = fit(cohort, person)
        assert not any(ratio.included for ratio in all_ratios(found.result)[1:2])
        image = nib.load(cohort / f"{person}/mrs/{person}_svs.nii.gz")
        folder = cohort / "derivatives" / "lcmodel" / person
        fatal = failure == "fatal"
        assert found.result.status == ("fatal" if fatal else "ok")
        assert (found.spectra is None) == fatal
        assert ((folder / f"{person}.csv").read_bytes() == b"") == fatal
        assert np.asarray(image.dataobj).any() != fatal


def test_spectra_come_with_an_effect_of_their_own_and_say_themselves_again(monkeypatch):
    designs = []

    def record(out, design, command, n_procs, maps):
        designs.append((design, command))
        return iter(())

    monkeypatch.setattr(cli_simulate, "write_cohort", record)
    words = ["out", "--modalities", "mrs", "func", "--mrs-failures", "0.25"]
    assert cli_simulate.main(words) == 0
    design, command = designs[0]
    assert design.mrs == MrsDesign(0.25)
    assert design.effects["mrs_tnaa_tcr"] == -0.1
    assert cli_simulate.main(command.split()[1:]) == 0
    assert designs[1] == designs[0]
    cli_simulate.main(["out"])
    assert designs[2][0].mrs is None
    assert "mrs" not in designs[2][1]


def test_a_share_that_cannot_be_ends_with_64(tmp_path, capsys):
    words = ["--modalities", "anat", "mrs", "--mrs-failures", "10"]
    assert cli_simulate.main([str(tmp_path / "out"), *words]) == 64
    assert "share" in capsys.readouterr().err
