"""Files of the spectroscopy voxel: real headers, spec2nii, and the voxel on a T1-weighted grid."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nipype.interfaces.base import isdefined

from alsflow.interfaces import mrs_voxel
from alsflow.interfaces.func_regions import PlaceSeeds
from alsflow.interfaces.images import load, save
from alsflow.interfaces.mrs_voxel import (
    OverlapVoxels,
    PlaceVoxel,
    read_scan,
    spec2nii_arguments,
    voxel_inputs,
)
from alsflow.interfaces.warps import save_warp
from alsflow.nodes.errors import BadInputError, MissingProgramError
from alsflow.nodes.geometry import grid_points
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
    program.write_text(
        f'#!/bin/sh\necho a warning >&2\n[ "$1" = --version ] && echo 0.8.15 && exit\n{body}\n'
    )
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
    program = Path(shutil.which("spec2nii"))
    program.write_text('#!/bin/sh\n[ "$1" = --version ] && echo 0.8.15 && exit\nexec sleep 5\n')
    monkeypatch.setattr(mrs_voxel, "TIME_LIMIT", 0.5)
    with pytest.raises(BadInputError, match=r"did not end within 0.5 s"):
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


# ---------------------------------------------------------------------------- interfaces

HEAD_SHAPE = (60, 68, 50)
HEAD = np.diag([-1.0, 1.0, 1.2, 1.0])  # left-handed
HEAD[:3, 3] = (29.5, -33.5, -29.4)
SHIFT = np.reshape([4.3, -3.2, 2.1], (3, 1, 1, 1)).astype(np.float32)  # template = head + SHIFT
TEMPLATE = np.diag([2.0, 2.0, 2.0, 1.0])
TEMPLATE[:3, 3] = (-34, -40, -32)
BOX = np.array([[0, -20, 0, -8], [18, 0, 0, 2], [0, 0, 24, -3.6], [0, 0, 0, 1.0]])


@pytest.fixture
def head(tmp_path):
    """A block, grey above z = -10 mm, white below; the voxel is 20 x 18 x 24 mm across both."""
    x, y, z = grid_points(HEAD_SHAPE, HEAD)
    block = (abs(x) < 20) & (abs(y) < 22) & (z > -24) & (z < 14)
    parts = {"gm": block & (z > -10), "wm": block & (z < -10), "csf": ~block & (z < 14)}
    for name, data in (parts | {"brain": block}).items():
        save(data.astype(np.float32), HEAD, tmp_path / f"{name}.nii.gz")
    save(block.astype(np.int16) * 3, HEAD, tmp_path / "labels.nii.gz")
    save_warp(grid_points(HEAD_SHAPE, HEAD) + SHIFT, HEAD, tmp_path / "to_template.nii.gz")
    save_warp(grid_points((34, 38, 32), TEMPLATE) - SHIFT, TEMPLATE, tmp_path / "to_native.nii.gz")
    write_svs(tmp_path / "sub-1_svs.nii.gz", BOX, EchoTime=0.03, PatientName="Surname")
    return tmp_path


def place(folder, **changes):
    maps = {f"{name}_file": str(folder / f"{name}.nii.gz") for name in (*TISSUES, "brain")}
    inputs = {"voxel_file": str(folder / "sub-1_svs.nii.gz"), **maps} | changes
    return PlaceVoxel(**inputs).run(cwd=str(folder)).outputs


def test_the_voxel_is_placed_with_its_parts(head):
    """White from -15.6 to -9.6 mm, between two planes, grey to 8.4 mm: a quarter and three."""
    outputs = place(head, metadata={"EchoTime": 0.16, "MixingTime": 0.04})
    found = json.loads(Path(outputs.fractions_file).read_text())
    assert found["fractions"]["wm"] == pytest.approx(0.25, abs=2e-3)
    assert found["fractions"]["gm"] == pytest.approx(0.75, abs=2e-3)
    assert found["fractions"]["csf"] == 0
    assert (found["te"], found["tm"], found["tr"]) == (0.16, 0.04, None)
    assert (found["centre"], found["sizes"]) == ([-8, 2, -3.6], [18, 20, 24])
    assert found["warnings"] == []
    assert "Surname" not in Path(outputs.fractions_file).read_text()
    mask, image = load(outputs.mask_file)
    np.testing.assert_allclose(image.affine, HEAD)
    x, y, z = grid_points(HEAD_SHAPE, HEAD)
    inside = (abs(x + 8) <= 10) & (abs(y - 2) <= 9) & (abs(z + 3.6) <= 12)
    np.testing.assert_array_equal(mask > 0, inside)
    for name in ("gm", "wm"):
        part = load(getattr(outputs, f"{name}_part_file"))[0]
        np.testing.assert_array_equal(part, load(head / f"{name}.nii.gz")[0] * inside)
    assert not isdefined(outputs.template_file)


def test_the_voxel_in_the_template_and_over_people(head):
    native = str(head / "to_native.nii.gz")
    share, image = load(place(head, to_native_file=native).template_file)
    np.testing.assert_allclose(image.affine, TEMPLATE)
    assert share.sum() * 0.008 == pytest.approx(20 * 18 * 24 / 1000, rel=0.02)
    places = grid_points(share.shape, TEMPLATE)
    centre = (share * places).reshape(3, -1).sum(axis=1) / share.sum()
    np.testing.assert_allclose(centre, (-3.7, -1.2, -1.5), atol=0.34)  # half a sub-point
    files = [head / "one.nii.gz", head / "two.nii.gz"]
    save(share, TEMPLATE, files[0])
    save(np.zeros_like(share), TEMPLATE, files[1])
    outputs = OverlapVoxels(template_files=files).run(cwd=str(head)).outputs
    assert outputs.count == 2
    np.testing.assert_allclose(load(outputs.overlap_file)[0], share / 2, atol=1e-6)
    save(share, HEAD, files[1])
    with pytest.raises(BadInputError, match=r"^two.nii.gz and one.nii.gz are on different grids"):
        OverlapVoxels(template_files=files).run(cwd=str(head))


def test_the_placed_voxel_is_a_seed(head):
    """`PlaceSeeds` takes the mask as it is: the grey half of the voxel, on a coarser grid."""
    mask_file = place(head).mask_file
    affine, shape = np.diag([3.0, 3.0, 3.0, 1.0]), (20, 22, 18)
    affine[:3, 3] = (-28.5, -31.5, -28.5)
    save(np.ones(shape, np.uint8), affine, head / "bold.nii.gz")
    np.savetxt(head / "matrix.txt", np.eye(4))
    outputs = PlaceSeeds(
        reference_file=head / "bold.nii.gz", mask_file=head / "bold.nii.gz",
        matrix_file=head / "matrix.txt", gm_file=head / "gm.nii.gz",
        labels_file=head / "labels.nii.gz", to_template_file=head / "to_template.nii.gz",
        names={3: "Block"}, label_sides={3: ""}, regions={"precentral": {"left": [3]}},
        seeds=[{"name": "mrs", "kind": "voxel"}], mrs_voxel_file=mask_file,
    ).run(cwd=str(head)).outputs  # fmt: skip
    rows = pd.read_csv(outputs.seeds_table_file, sep="\t", keep_default_na=False)
    assert rows["reason"].tolist() == [""]
    seed = load(outputs.seeds_file)[0].reshape(shape) > 0
    x, y, z = grid_points(shape, affine)
    inside = (abs(x + 8) < 8.4) & (abs(y - 2) < 7.4)
    assert seed[inside & (z > -8) & (z < 6)].all()  # deep in the grey part
    assert not seed[~((abs(x + 8) < 11.5) & (abs(y - 2) < 10.5) & (z > -11.5) & (z < 9.5))].any()
    assert seed.sum() * 0.027 == pytest.approx(20 * 18 * 18 / 1000, rel=0.2)


def test_what_cannot_be_placed(head):
    away = BOX.copy()
    away[0, 3] = 400
    write_svs(head / "away_svs.nii.gz", away)
    with pytest.raises(BadInputError, match=r"^away_svs.nii.gz lies wholly outside the field"):
        place(head, voxel_file=head / "away_svs.nii.gz")
    save(np.zeros(HEAD_SHAPE, np.float32), np.diag([1.0, 1, 1, 1]), head / "wm.nii.gz")
    with pytest.raises(BadInputError, match=r"^wm.nii.gz and gm.nii.gz are on different grids"):
        place(head)


@pytest.mark.parametrize("fault", ["away", "nowhere", "several", "damaged", "program"])
def test_a_refusal_that_need_not_stop_a_person(head, monkeypatch, fault):
    """Only the reason is left; a mistake of ours, such as maps of two grids, still raises."""
    away = BOX.copy()
    away[0, 3] = 400
    path = write_svs(
        head / "odd_svs.nii.gz", {"nowhere": np.diag([1e4, 1e4, 1e4, 1])}.get(fault, away)
    )
    if fault == "several":
        nib.save(nib.Nifti1Image(np.zeros((3, 3, 1, 8), np.complex64), BOX), path)
    elif fault == "damaged":
        path.write_bytes(b"no image")
    elif fault == "program":
        path = head / "odd.dat"
        path.touch()
        monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises((BadInputError, MissingProgramError)) as refusal:
        place(head, voxel_file=path)
    outputs = place(head, voxel_file=path, impossible="skip")
    assert json.loads(Path(outputs.fractions_file).read_text()) == {
        "done": False,
        "reason": str(refusal.value),
        "program_missing": fault == "program",
    }
    others = ("mask", "gm_part", "wm_part", "template")
    assert not any(isdefined(getattr(outputs, f"{name}_file")) for name in others)
    assert path.name in str(refusal.value)
    save(np.zeros(HEAD_SHAPE, np.float32), np.diag([1.0, 1, 1, 1]), head / "wm.nii.gz")
    with pytest.raises(BadInputError, match="different grids"):
        place(head, voxel_file=path, impossible="skip")


def test_a_voxel_that_has_its_place_says_so(head):
    outputs = place(head, impossible="skip")
    assert json.loads(Path(outputs.fractions_file).read_text())["done"] is True
    assert isdefined(outputs.mask_file)


def test_inputs_are_found_beside_the_spectrum(head, tmp_path):
    folder = tmp_path / "sub-1" / "mrs"
    folder.mkdir(parents=True)
    path = write_svs(folder / "sub-1_svs.nii.gz", BOX)
    (tmp_path / "svs.json").write_text('{"EchoTime": 0.144, "PatientName": "Surname"}')
    assert voxel_inputs(path, tmp_path) == {
        "voxel_file": str(path), "metadata": {"EchoTime": 0.144},
    }  # fmt: skip
    assert voxel_inputs(path)["metadata"] == {}
    (folder / "sub-1_svs.json").write_text('{"EchoTime": 0.03}')
    elsewhere = tmp_path / "dataset"  # a mapping may name a file that lies outside the dataset
    assert voxel_inputs(path, elsewhere)["metadata"] == {"EchoTime": 0.03}
    (folder / "a.SDAT").touch()
    (folder / "a.SPAR").touch()
    spar = {"voxel_file": str(folder / "a.SPAR"), "metadata": {}}
    assert voxel_inputs(folder / "a.SDAT") == spar
