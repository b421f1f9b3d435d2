"""Fields of other protocols on the grid of a functional series whose displacement is known."""

import importlib.util
import json
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from alsflow.interfaces.func_field import FieldForBold
from alsflow.nodes.distortion.gre import mm_per_hz
from alsflow.nodes.distortion.phase_encoding import PhaseEncoding
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import apply_affine, grid_points

HERE = Path(__file__).parents[1] / "nodes" / "distortion" / "phantom.py"
_spec = importlib.util.spec_from_file_location("phantom", HERE)
phantom = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(phantom)

PAIR_SHAPE, BOLD_SHAPE = (36, 42, 30), (44, 50, 32)
PAIR_AFFINE = phantom.affine_of((4.4, 4.4, 4.6), shape=PAIR_SHAPE)
BOLD_AFFINE = phantom.affine_of((3.6, 3.9, 4.2), (3.0, 5.0, -6.0), shape=BOLD_SHAPE)
PAIR = PhaseEncoding(1, 1, 0.05)
bold_look = partial(phantom.head, contrast=-0.2, fluid=0.4)  # T2*: other folds, darker fluid


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name, data, affine):
    nib.save(nib.Nifti1Image(np.float32(data), affine), name)
    return str(Path(name).resolve())


def moved(shift, turn):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def series(encoding, head_to_bold):
    """Mean image and mask of a run, and its true displacement, mm."""
    factor = mm_per_hz(encoding, BOLD_SHAPE, BOLD_AFFINE) / mm_per_hz(
        PAIR, PAIR_SHAPE, PAIR_AFFINE
    )
    image = phantom.distorted(
        BOLD_SHAPE, BOLD_AFFINE, encoding.axis, factor, head_to_bold, bold_look
    )
    home = apply_affine(np.linalg.inv(head_to_bold), grid_points(BOLD_SHAPE, BOLD_AFFINE))
    inside = phantom.head(home) > 200
    return image, image > 150, factor * phantom.displacement(home), inside


@pytest.mark.parametrize(
    ("encoding", "turn", "shift"),
    [
        (PhaseEncoding(1, -1, 0.06), (2.0, -1.5, 1.0), (1.5, 2.0, -2.5)),
        (PhaseEncoding(0, 1, 0.07), (-1.0, 2.0, 1.5), (-1.0, 1.5, 2.0)),
    ],
    ids=["moved", "other axis"],
)
def test_the_field_of_a_pair_serves_a_run_of_another_grid_readout_and_axis(encoding, turn, shift):
    pair = [phantom.distorted(PAIR_SHAPE, PAIR_AFFINE, 1, sign) for sign in (1.0, -0.8)]
    image, mask, truth, inside = series(encoding, moved(shift, turn))
    run = FieldForBold(
        kind="pair", axis=encoding.axis, sign=encoding.sign, readout=encoding.readout,
        reference_file=write("mean.nii.gz", image, BOLD_AFFINE),
        mask_file=write("mask.nii.gz", mask, BOLD_AFFINE),
        plus_file=write("plus.nii.gz", pair[0], PAIR_AFFINE),
        minus_file=write("minus.nii.gz", pair[1], PAIR_AFFINE),
        pair_axis=1, pair_sign=1, plus_readout=0.05, minus_readout=0.04,
    ).run()  # fmt: skip
    found = nib.load(run.outputs.shift_file)
    np.testing.assert_allclose(found.affine, BOLD_AFFINE, atol=1e-4)
    error = np.abs(found.get_fdata() - truth)[inside]
    assert np.median(np.abs(truth[inside])) > 0.75
    assert np.median(error) < 0.05
    assert np.percentile(error, 95) < 0.2
    info = json.loads(Path(run.outputs.info_file).read_text())
    assert info["kind"] == "pair"
    assert info["readout_ratio"] == pytest.approx(0.8)
    turned = np.degrees(Rotation.from_euler("xyz", turn, degrees=True).magnitude())
    assert info["rotation_degrees"] == pytest.approx(turned, abs=0.8)
    corrected = nib.load(run.outputs.corrected_file).get_fdata()
    still = bold_look(apply_affine(np.linalg.inv(moved(shift, turn)),
                                   grid_points(BOLD_SHAPE, BOLD_AFFINE)))  # fmt: skip
    r = [np.corrcoef(part[inside], still[inside])[0, 1] for part in (image, corrected)]
    assert r[1] > 0.97 > r[0]


def test_the_run_itself_may_be_one_of_the_pair():
    """Both of one protocol, whose readout time nobody wrote down."""
    images = [phantom.distorted(PAIR_SHAPE, PAIR_AFFINE, 1, sign) for sign in (1.0, -1.0)]
    reference = write("mean.nii.gz", images[0], PAIR_AFFINE)
    inputs = {
        "kind": "own pair", "axis": 1, "sign": -1, "reference_file": reference,
        "mask_file": reference, "minus_file": write("minus.nii.gz", images[1], PAIR_AFFINE),
    }  # fmt: skip
    run = FieldForBold(**inputs).run()
    points = grid_points(PAIR_SHAPE, PAIR_AFFINE)
    inside = phantom.head(points) > 200
    found = nib.load(run.outputs.shift_file).get_fdata()
    assert np.median(np.abs(found - phantom.displacement(points))[inside]) < 0.15
    assert json.loads(Path(run.outputs.info_file).read_text())["r_after"] > 0.99
    with pytest.raises(BadInputError, match="both sidecars"):
        FieldForBold(**inputs, plus_readout=0.05).run()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_map_in_hz_lies_where_its_header_says(sign):
    encoding = PhaseEncoding(1, sign, 0.03)
    points = grid_points(PAIR_SHAPE, PAIR_AFFINE)
    hz = phantom.displacement(points) / mm_per_hz(PAIR, PAIR_SHAPE, PAIR_AFFINE)
    image, mask, truth, inside = series(encoding, np.eye(4))
    inputs = {
        "kind": "gre", "axis": 1, "sign": sign, "ready": True, "units": "Hz",
        "reference_file": write("mean.nii.gz", image, BOLD_AFFINE),
        "mask_file": write("mask.nii.gz", mask, BOLD_AFFINE),
        "phase_files": [write("hz.nii.gz", hz, PAIR_AFFINE)],
        "magnitude_file": write("magnitude.nii.gz", phantom.head(points) + 1, PAIR_AFFINE),
    }  # fmt: skip
    run = FieldForBold(**inputs, readout=0.03).run()
    found = nib.load(run.outputs.shift_file).get_fdata()
    assert np.median(np.abs(found - truth)[inside]) < 0.1
    assert np.sign(np.median(truth[inside] / found[inside])) == 1
    with pytest.raises(BadInputError, match="the functional series has neither TotalReadoutTime"):
        FieldForBold(**inputs).run()
