"""Files of slice timing, realignment and correction of a BOLD series."""

import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from alsflow.interfaces.func_motion import (
    CorrectBold,
    CorrectSliceTiming,
    RealignBold,
    read_load_info,
    read_poses,
)
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.resample import correct_bold
from alsflow.nodes.func.slice_timing import correct_slice_timing

SHAPE, VOXEL, TR = (16, 18, 12), (3.0, 2.8, 3.5), 1.4
TIMES = [0.0, 0.7, 0.35, 1.05] * 3


@pytest.fixture
def affine():
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", (10, -5, 7), degrees=True).as_matrix() * VOXEL
    matrix[:3, 3] = (-20, -30, -10)
    return matrix


@pytest.fixture
def files(tmp_path, monkeypatch, affine):
    """Two runs of 6 and 5 volumes; the head lies 1.5 voxels further along y in the second."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(4)
    wide = ndimage.gaussian_filter(rng.normal(size=[n + 8 for n in SHAPE]), 1.3) * 4000 + 500
    first = wide[4:-4, 4:-4, 4:-4]
    second = ndimage.shift(wide, (0, 1.5, 0), order=5)[4:-4, 4:-4, 4:-4]
    series = np.stack([first] * 6 + [second] * 5, axis=3) + rng.normal(0, 3, (*SHAPE, 11))
    image = nib.Nifti1Image(series.astype(np.float32), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = TR
    nib.save(image, "raw.nii")
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:-2, 2:-2, 2:-2] = 1
    nib.save(nib.Nifti1Image(mask, affine), "mask.nii.gz")
    info = {"runs": ["a", "b"], "volumes": [6, 5], "dropped": [0, 0], "tr": TR, "notes": []}
    (tmp_path / "load.json").write_text(json.dumps(info))
    return tmp_path


def told(path):
    with open(path, encoding="utf-8") as text:
        return json.load(text)


def values(path):
    return nib.load(path).get_fdata(dtype=np.float32)


@pytest.fixture
def realigned(files):
    return RealignBold(
        bold_file="raw.nii", mask_file="mask.nii.gz", load_info_file="load.json"
    ).run().outputs  # fmt: skip


def test_runs_and_tr_come_from_the_load(files):
    runs, tr = read_load_info(files / "load.json")
    np.testing.assert_array_equal(runs, [0] * 6 + [1] * 5)
    assert tr == TR


def test_motion_between_runs_is_found_and_counts_in_no_displacement(realigned, affine):
    poses = read_poses(realigned.motion_file)
    info = told(realigned.info_file)
    reference = info["reference"]
    np.testing.assert_array_equal(poses[reference], np.eye(4))
    moved = poses[6:, :3, 3] - poses[:5, :3, 3]
    middle = np.linalg.inv(poses[0]) @ poses[7] @ affine @ [8, 9, 6, 1] - affine @ [8, 9, 6, 1]
    np.testing.assert_allclose(middle[:3], 1.5 * affine[:3, 1], atol=0.1)
    assert np.abs(moved).max() > 2
    assert info["translation_largest"] == pytest.approx(1.5 * VOXEL[1], abs=0.15)
    assert info["rotation_largest"] < 0.5
    assert 0 < info["fd_mean"] <= info["fd_max"] < 0.4
    assert info["rmsd_mean"] < 0.3
    assert info["reference_run"] == int(reference >= 6)
    assert info["done"] is True
    assert (info["lost"], info["notes"]) == (0, [])


def test_slice_timing_is_that_of_the_node(files):
    found = CorrectSliceTiming(
        bold_file="raw.nii", load_info_file="load.json", slice_times=TIMES
    ).run().outputs  # fmt: skip
    expected = correct_slice_timing(
        values("raw.nii"), np.array(TIMES), TR, 2, np.repeat([0, 1], [6, 5])
    )
    np.testing.assert_array_equal(values(found.bold_file), expected)
    assert nib.load(found.bold_file).header.get_zooms()[3] == pytest.approx(TR)
    info = told(found.info_file)
    assert info["reference_time"] == TR / 2
    assert info["largest_shift"] == TR / 2


def test_wrong_slice_times_are_refused_by_name(files):
    step = CorrectSliceTiming(
        bold_file="raw.nii", load_info_file="load.json", slice_times=TIMES[:-1]
    )
    with pytest.raises(BadInputError, match=r"^the functional series has 11 slice times for 12"):
        step.run()


def test_correction_is_that_of_the_node(realigned, affine):
    shift = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=SHAPE), 3) * 20
    nib.save(nib.Nifti1Image(shift.astype(np.float32), affine), "shift.nii.gz")
    inputs = {"bold_file": "raw.nii", "motion_file": realigned.motion_file}
    found = CorrectBold(**inputs, shift_file="shift.nii.gz", axis=1).run().outputs
    poses = read_poses(realigned.motion_file)
    stored = nib.load("raw.nii").affine
    expected = correct_bold(values("raw.nii"), stored, poses, values("shift.nii.gz"), 1)
    np.testing.assert_array_equal(values(found.bold_file), expected.signal)
    mean = expected.signal.mean(axis=3, dtype=float)
    np.testing.assert_allclose(values(found.mean_file), mean, rtol=1e-6)
    np.testing.assert_array_equal(values(found.seen_file) > 0, expected.seen)
    assert 0.7 < told(found.info_file)["seen_share"] < 1
    assert told(found.info_file)["susceptibility"] is True
    assert nib.load(found.bold_file).header.get_zooms()[3] == pytest.approx(TR)
    np.testing.assert_allclose(nib.load(found.bold_file).affine, affine, atol=1e-5)
    with pytest.raises(BadInputError, match=r"^the functional series .* PhaseEncodingDirection"):
        CorrectBold(**inputs, shift_file="shift.nii.gz").run()


def test_correction_without_a_field_steadies_the_series(realigned):
    found = CorrectBold(bold_file="raw.nii", motion_file=realigned.motion_file).run().outputs
    inner = (slice(3, -3), slice(4, -4), slice(3, -3))
    before, after = (
        values(path)[inner].std(axis=3).mean() for path in ("raw.nii", found.bold_file)
    )
    assert after < 0.2 * before
    assert told(found.info_file)["susceptibility"] is False


@pytest.mark.realdata
def test_a_real_head_becomes_steadier(realdata, tmp_path, monkeypatch):
    """20 volumes, multiband 3: the voxels' variation falls from raw to corrected."""
    monkeypatch.chdir(tmp_path)
    bold = next((realdata / "sub-xa30" / "func").glob("*_bold.nii.gz"))
    meta = told(str(bold).replace(".nii.gz", ".json"))
    image = nib.as_closest_canonical(nib.load(bold))
    raw = image.get_fdata(dtype=np.float32)
    mean = raw.mean(axis=3)
    mask = ndimage.binary_opening(mean > 0.35 * np.quantile(mean, 0.98))
    nib.save(nib.Nifti1Image(raw, image.affine), "raw.nii")
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), image.affine), "mask.nii.gz")
    info = {"runs": [""], "volumes": [20], "dropped": [0], "tr": meta["RepetitionTime"]}
    (tmp_path / "load.json").write_text(json.dumps(info))
    motion = RealignBold(
        bold_file="raw.nii", mask_file="mask.nii.gz", load_info_file="load.json"
    ).run().outputs  # fmt: skip
    timed = CorrectSliceTiming(
        bold_file="raw.nii", load_info_file="load.json", slice_times=meta["SliceTiming"]
    ).run().outputs  # fmt: skip
    found = CorrectBold(bold_file=timed.bold_file, motion_file=motion.motion_file).run().outputs
    assert 0.02 < told(motion.info_file)["fd_mean"] < 0.5
    spread = [
        np.median(series[mask].std(axis=1))
        for series in (raw[..., 4:], values(found.bold_file)[..., 4:])
    ]
    assert spread[1] < 0.97 * spread[0]
