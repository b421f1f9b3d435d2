"""Files in, files out: orientations, readouts and refusals of the distortion interfaces."""

import importlib.util
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from alsflow.interfaces.distortion import FieldFromGre, FieldFromPair
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import grid_points

HERE = Path(__file__).parents[1] / "nodes" / "distortion" / "phantom.py"
_spec = importlib.util.spec_from_file_location("phantom", HERE)
phantom = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(phantom)

SHAPE, ZOOMS = (36, 42, 30), (4.4, 4.4, 4.6)
AFFINE = phantom.affine_of(ZOOMS, shape=SHAPE)
POINTS = grid_points(SHAPE, AFFINE).astype(float)
TRUTH = phantom.displacement(POINTS)
HEAD = phantom.head(POINTS) > 200


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name, data, turn=None):
    """Save an image, stored in another orientation if asked."""
    image = nib.Nifti1Image(np.float32(data), AFFINE)
    if turn:
        start = nib.orientations.io_orientation(AFFINE)
        target = nib.orientations.axcodes2ornt(turn)
        image = image.as_reoriented(nib.orientations.ornt_transform(start, target))
    nib.save(image, name)
    return str(Path(name).resolve())


def error_of(path, truth=TRUTH):
    found = nib.load(path)
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-4)
    return np.abs(found.get_fdata() - truth)[HEAD].mean()


def test_pair_in_any_orientation_with_unequal_readouts():
    first = write("a.nii.gz", phantom.distorted(SHAPE, AFFINE, 1, 1.0), "LPS")
    second = phantom.distorted(SHAPE, AFFINE, 1, -0.5)
    second = write("b.nii.gz", np.stack([second, 0 * second], axis=-1), "LAS")
    run = FieldFromPair(
        plus_file=first, minus_file=second, axis=1, plus_readout=0.05, minus_readout=0.025
    ).run()
    assert error_of(run.outputs.shift_file) < 0.2
    info = json.loads(Path(run.outputs.info_file).read_text())
    assert info["readout_ratio"] == 0.5
    assert info["r_after"] > 0.99 > info["r_before"]
    assert np.loadtxt(run.outputs.rigid_file).shape == (4, 4)
    corrected = [nib.load(p).get_fdata() for p in (run.outputs.plus_file, run.outputs.minus_file)]
    assert np.corrcoef(corrected[0][HEAD], corrected[1][HEAD])[0, 1] > 0.98
    with pytest.raises(BadInputError, match="both sidecars"):
        FieldFromPair(plus_file=first, minus_file=second, axis=1, plus_readout=0.05).run()


def test_turned_partner_is_refused():
    first = write("a.nii.gz", phantom.distorted(SHAPE, AFFINE, 1, 1.0))
    turned = phantom.affine_of(ZOOMS, (12, -8, 25), SHAPE)
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.float32), turned), "b.nii.gz")
    with pytest.raises(BadInputError, match="turned by"):
        FieldFromPair(plus_file=first, minus_file=str(Path("b.nii.gz").resolve()), axis=1).run()


def gre_inputs():
    hz = 40 * TRUTH
    echoes = (0.005, 0.0075)
    phases = [np.angle(np.exp(2j * np.pi * (0.1 + hz * echo))) for echo in echoes]
    noise = np.random.default_rng(0).uniform(-np.pi, np.pi, (2, *SHAPE))
    outside = phantom.head(POINTS) < 50
    phases = [np.where(outside, n, p) for n, p in zip(noise, phases, strict=True)]
    difference = np.angle(np.exp(1j * (phases[1] - phases[0])))
    readout = 0.02
    lines = SHAPE[1]
    truth = hz * readout * lines / (lines - 1) * ZOOMS[1]
    return hz, echoes, phases, difference, readout, truth


def test_three_forms_of_gradient_echo_map_give_one_field():
    hz, echoes, phases, difference, readout, truth = gre_inputs()
    magnitude = write("magnitude.nii.gz", phantom.head(POINTS) + 1, "LAS")
    epi = write("epi.nii.gz", phantom.head(POINTS))
    common = {"magnitude_file": magnitude, "epi_file": epi, "axis": 1, "readout": readout}
    stored = write("diff.nii.gz", np.round(difference / np.pi * 4096 / 2) * 2, "LAS")
    forms = [
        {"phase_files": [stored], "echo_times": echoes},
        {
            "phase_files": [write(f"p{i}.nii.gz", p, "LAS") for i, p in enumerate(phases)],
            "echo_times": echoes,
            "units": "rad",
        },
        {"phase_files": [write("hz.nii.gz", hz, "LAS")], "ready": True, "units": "Hz"},
    ]
    for form in forms:
        run = FieldFromGre(**common, **form, sign=1).run()
        assert error_of(run.outputs.shift_file, truth) < 0.15
        assert np.abs(truth[HEAD]).mean() > 1
    run = FieldFromGre(**common, **forms[0], sign=-1).run()
    assert error_of(run.outputs.shift_file, -truth) < 0.15


def test_refusals_of_field_maps_name_file_and_field():
    _, echoes, _, difference, _, _ = gre_inputs()
    magnitude = write("magnitude.nii.gz", phantom.head(POINTS) + 1)
    epi = write("epi.nii.gz", phantom.head(POINTS))
    inputs = {
        "phase_files": [write("diff.nii.gz", difference)], "magnitude_file": magnitude,
        "epi_file": epi, "axis": 1, "sign": 1,
    }  # fmt: skip
    with pytest.raises(BadInputError, match=r"diff.nii.gz has no echo times"):
        FieldFromGre(**inputs, readout=0.03).run()
    with pytest.raises(BadInputError, match=r"epi.nii.gz has neither TotalReadoutTime"):
        FieldFromGre(**inputs, echo_times=echoes).run()
    inputs["phase_files"] = [write("small.nii.gz", difference[:-1])]
    with pytest.raises(BadInputError, match="differ in size"):
        FieldFromGre(**inputs, echo_times=echoes, readout=0.03).run()
