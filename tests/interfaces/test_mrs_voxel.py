"""Files of the spectroscopy voxel: real headers, spec2nii, and the voxel on a T1-weighted grid."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from alsflow.interfaces.images import load
from alsflow.interfaces.mrs_voxel import read_scan, spec2nii_arguments
from alsflow.nodes.errors import BadInputError, MissingProgramError
from alsflow.nodes.mrs.fractions import TISSUES, tissue_fractions, voxel_mask

CASES = {
    "siemens_svs30/SVS_30.rda": "siemens_svs30/rda",
    "siemens_svs30/svs30_rda.nii.gz": "siemens_svs30/rda",
    "siemens_svs30/svs30_dcm.nii.gz": "siemens_svs30/dcm",
    "philips_press30_sub-01/act.SPAR": "philips_press30_sub-01",
    "philips_press30_sub-01/ref.SDAT": "philips_press30_sub-01",
    "philips_press30_sub-01/sub-01_svs.nii.gz": "philips_press30_sub-01",
    "siemens_steam7t/metab.nii.gz": "siemens_steam7t",
    "synthetic_phantom/svs.nii.gz": "synthetic_phantom",
}


@pytest.fixture
def mrs(shared_data):
    return shared_data / "mrs"


@pytest.mark.parametrize("name", CASES)
def test_voxels_of_real_files(mrs, name):
    expected = json.loads((mrs / "expected.json").read_text())[CASES[name]]
    scan = read_scan(mrs / name)
    np.testing.assert_allclose(scan.voxel.affine, expected["affine"], atol=1e-4)
    assert scan.voxel.volume == pytest.approx(expected["volume_ml"], abs=1e-3)
    if "corners" in expected:
        np.testing.assert_allclose(scan.voxel.corners, expected["corners"], atol=1e-3)


def test_rda_and_converted_dicom_of_one_scan_agree(mrs):
    rda = read_scan(mrs / "siemens_svs30" / "SVS_30.rda")
    dicom = read_scan(mrs / "siemens_svs30" / "svs30_dcm.nii.gz")
    np.testing.assert_allclose(rda.voxel.affine, dicom.voxel.affine, atol=1e-4)
    assert (rda.te, rda.tr, rda.sequence) == (dicom.te, dicom.tr, dicom.sequence)
    assert (rda.te, rda.tr, rda.sequence) == (0.03, 2.0, "PRESS")


def write_svs(path, affine, **said):
    image = nib.Nifti2Image(np.zeros((1, 1, 1, 8), np.complex64), affine)
    image.header.set_qform(affine, 2)
    image.header.set_sform(affine, 2)
    content = json.dumps(said).encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension(44, content))
    nib.save(image, path)
    return path


def test_the_sidecar_wins_over_the_extension(tmp_path):
    path = write_svs(tmp_path / "sub-1_svs.nii.gz", np.diag([20, 20, 20, 1.0]), EchoTime=0.03)
    assert read_scan(path).te == 0.03
    (tmp_path / "sub-1_svs.json").write_text('{"EchoTime": 0.16}')
    assert read_scan(path).te == 0.16


def test_refusals_name_the_file(tmp_path):
    path = write_svs(tmp_path / "a_svs.nii.gz", np.diag([1e4, 1e4, 1e4, 1.0]))
    with pytest.raises(BadInputError, match=r"^a_svs.nii.gz has no place"):
        read_scan(path)
    (tmp_path / "b.SDAT").touch()
    with pytest.raises(BadInputError, match=r"^b.SDAT has no SPAR"):
        read_scan(tmp_path / "b.SDAT")
    (tmp_path / "c.nii").write_text("no image")
    with pytest.raises(BadInputError, match=r"^c.nii cannot be read"):
        read_scan(tmp_path / "c.nii")
    (tmp_path / "d.xyz").write_text("?")
    with pytest.raises(BadInputError, match=r"^d.xyz is of no known format"):
        read_scan(tmp_path / "d.xyz")


def test_arguments_of_spec2nii(tmp_path):
    files = {
        "a.dat": (b"", ["twix", "-e", "image"]),
        "P1.7": (b"", ["ge"]),
        "a.IMA": (b"", ["dicom"]),
        "plain": (bytes(128) + b"DICM" + b"SIEMENS", ["dicom"]),
        "philips": (bytes(128) + b"DICM" + b"Philips", ["philips_dcm"]),
    }
    for name, (content, arguments) in files.items():
        (tmp_path / name).write_bytes(content)
        assert spec2nii_arguments(tmp_path / name) == arguments


def fake_spec2nii(folder, monkeypatch, body):
    """A program of that name, which keeps its arguments."""
    program = folder / "bin" / "spec2nii"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo 0.8.15 && exit\n{body}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


def test_spec2nii_is_called_with_a_list(tmp_path, monkeypatch):
    """A blank and a quote in the path; what was written is gone afterwards."""
    made = write_svs(tmp_path / "made.nii.gz", np.diag([20, 30, 25, 1.0]), EchoTime=0.03)
    raw = tmp_path / "it's a scan.dat"
    raw.touch()
    log = tmp_path / "log"
    body = f'for a in "$@"; do echo "$a" >> {log}; done\ncp {made} "$7/$5.nii.gz"'
    fake_spec2nii(tmp_path, monkeypatch, body)
    scan = read_scan(raw)
    assert scan.source == "twix by spec2nii 0.8.15"
    assert scan.te == 0.03
    np.testing.assert_allclose(scan.voxel.sizes, (20, 30, 25))
    arguments = log.read_text().splitlines()
    assert arguments[:5] == ["twix", "-e", "image", "-f", "voxel"]
    assert arguments[7] == str(raw)
    assert not Path(arguments[6]).exists()


def test_spec2nii_that_fails_or_is_not_there(tmp_path, monkeypatch):
    raw = tmp_path / "P001.7"
    raw.touch()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingProgramError, match="spec2nii, which is not installed"):
        read_scan(raw)
    monkeypatch.undo()
    fake_spec2nii(tmp_path, monkeypatch, "echo no such header >&2; exit 1")
    with pytest.raises(BadInputError, match=r"spec2nii 0.8.15 \(no such header\)"):
        read_scan(raw)


# ---------------------------------------------------------------------------- fractions


@pytest.mark.parametrize(
    ("name", "truth", "in_view"),
    [("svs", (0.2, 0.3, 0.5), 1.0), ("svs_partly_outside", (0.0, 0.0, 0.5184), 0.5184)],
)
def test_fractions_of_the_phantom(mrs, name, truth, in_view):
    folder = mrs / "synthetic_phantom"
    maps = {n: load(folder / f"label-{n.upper()}_probseg.nii.gz") for n in TISSUES}
    affine = maps["gm"][1].affine
    voxel = read_scan(folder / f"{name}.nii.gz").voxel
    found = tissue_fractions(voxel, {n: data for n, (data, _) in maps.items()}, affine)
    np.testing.assert_allclose((found.csf, found.gm, found.wm), truth, atol=1e-3)
    assert found.in_view == pytest.approx(in_view, abs=1e-3)
    assert bool(found.warnings()) == (in_view < 0.95)


def test_fractions_of_a_real_voxel(mrs):
    folder = mrs / "philips_press30_sub-01"
    expected = json.loads((mrs / "expected.json").read_text())["philips_press30_sub-01"]
    labels, image = load(folder / "sub-01_desc-kmeans3_dseg.nii.gz", np.uint8)
    maps = {n: (labels == k).astype(np.float32) for n, k in (("csf", 1), ("gm", 2), ("wm", 3))}
    voxel = read_scan(folder / "act.SPAR").voxel
    found = tissue_fractions(voxel, maps, image.affine, labels > 0)
    shares = [expected["fractions_supersampled"][n] for n in ("CSF", "GM", "WM")]
    np.testing.assert_allclose((found.csf, found.gm, found.wm), shares, atol=3e-3)
    assert found.mask_volume == pytest.approx(expected["mask_volume_ml"], abs=1e-3)
    assert (found.in_view, found.in_brain) == (1, 1)
    mask = voxel_mask(voxel, labels.shape, image.affine)
    assert mask.sum() == expected["mask_voxels"]
