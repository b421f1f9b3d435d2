"""From the files of one or several functional runs to one series and its brain."""

import importlib.util
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from alsflow.interfaces.func_prep import LoadBold, MaskBold
from alsflow.interfaces.images import save
from alsflow.nodes.errors import BadInputError

SHAPE = (7, 8, 9)
AFFINE = np.diag([3.0, 3.2, 3.5, 1.0])
AFFINE[:3, 3] = (-9, 4, 7)


def write(path, n=20, seed=0, turn="LPS", dtype=np.float32, data=None):
    """A series in RAS+ order as expected back, stored otherwise."""
    if data is None:
        data = np.random.default_rng(seed).uniform(300, 900, (*SHAPE, n))
    data = np.round(data).astype(dtype)
    image = nib.Nifti1Image(data, AFFINE)
    start = nib.orientations.axcodes2ornt("RAS")
    target = nib.orientations.axcodes2ornt(turn)
    nib.save(image.as_reoriented(nib.orientations.ornt_transform(start, target)), path)
    return str(path), data


def load_bold(folder, *files, tr=2.0, **settings):
    outputs = LoadBold(in_files=list(files), tr=tr, **settings).run(cwd=str(folder)).outputs
    return nib.load(outputs.bold_file), json.loads(Path(outputs.info_file).read_text())


@pytest.mark.parametrize("turn", ["RAS", "LPS", "PIR", "SAL"])
def test_runs_of_any_orientation_are_joined_without_their_first_volumes(tmp_path, turn):
    first, a = write(tmp_path / "a.nii.gz", 20, 0, "RAS")
    second, b = write(tmp_path / "b.nii.gz", 25, 1, turn)
    found, info = load_bold(tmp_path, first, second, dummy_scans=4, tr=0.72)
    expected = np.concatenate([a[..., 4:], b[..., 4:]], axis=3)
    np.testing.assert_array_equal(found.get_fdata(), expected)
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-5)
    assert found.get_data_dtype() == np.float32
    assert found.header.get_zooms()[3] == pytest.approx(0.72)
    assert found.header.get_xyzt_units() == ("mm", "sec")
    assert info == {
        "runs": ["a.nii.gz", "b.nii.gz"], "volumes": [16, 21], "dropped": [4, 4], "tr": 0.72,
        "notes": [],
    }  # fmt: skip


def test_scaled_integers_are_read_as_scaled(tmp_path):
    data = np.random.default_rng(2).integers(10, 3000, (*SHAPE, 18)).astype(np.int16)
    image = nib.Nifti1Image(data, AFFINE)
    image.header.set_slope_inter(0.25, 3.0)
    nib.save(image, tmp_path / "a.nii.gz")
    stored = nib.load(tmp_path / "a.nii.gz").get_fdata()
    found, _ = load_bold(tmp_path, str(tmp_path / "a.nii.gz"), dummy_scans=0)
    np.testing.assert_allclose(found.get_fdata(), stored, rtol=1e-6)


def test_steady_state_is_found_where_asked(tmp_path):
    if importlib.util.find_spec("alsflow.nodes.func.steady_state") is None:
        pytest.skip("the finder of the steady state is not here")
    rng = np.random.default_rng(3)
    data = rng.uniform(300, 900, SHAPE)[..., None] + rng.normal(0, 2, (*SHAPE, 40))
    data[..., 0] *= 1.6
    data[..., 1] *= 1.2
    path, _ = write(tmp_path / "a.nii.gz", data=data)
    _, info = load_bold(tmp_path, path, dummy_scans="auto")
    assert info["dropped"] == [2]


def refused(tmp_path, path, **settings):
    with pytest.raises(BadInputError) as caught:
        load_bold(tmp_path, path, **({"dummy_scans": 4} | settings))
    return str(caught.value)


def test_refusals_name_the_file(tmp_path):
    path, data = write(tmp_path / "a.nii.gz")
    assert refused(tmp_path, path, dummy_scans=5).startswith("a.nii.gz has 20 volumes, 15 once")
    short, _ = write(tmp_path / "short.nii.gz", 10)
    assert refused(tmp_path, short, dummy_scans="auto").startswith("short.nii.gz has 10 volumes")
    flat = str(tmp_path / "flat.nii.gz")
    save(data[..., 0], AFFINE, flat)
    assert refused(tmp_path, flat).startswith("flat.nii.gz is not a series")
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) // 2])
    assert "a.nii.gz is truncated or damaged" in refused(tmp_path, path)
    complexes = str(tmp_path / "c.nii.gz")
    nib.save(nib.Nifti1Image(data.astype(np.complex64), AFFINE), complexes)
    assert refused(tmp_path, complexes).startswith("c.nii.gz does not hold one real intensity")


def test_runs_on_two_grids_are_refused(tmp_path):
    first, data = write(tmp_path / "a.nii.gz")
    moved = AFFINE.copy()
    moved[0, 3] += 0.2
    second = save(data, moved, tmp_path / "b.nii.gz")
    with pytest.raises(BadInputError, match=r"a.nii.gz and b.nii.gz do not lie on the same"):
        load_bold(tmp_path, first, second, dummy_scans=0)


def test_the_brain_of_a_real_run(tmp_path, realdata):
    """Twenty volumes less four pass; the mask is of a brain's size."""
    (path,) = (realdata / "sub-xa30" / "func").glob("*_bold.nii.gz")
    bold, info = load_bold(tmp_path, str(path), dummy_scans=4, tr=1.0)
    assert info["volumes"] == [16]
    outputs = MaskBold(bold_file=str(tmp_path / "bold.nii")).run(cwd=str(tmp_path)).outputs
    mean, even = (nib.load(p).get_fdata() for p in (outputs.mean_file, outputs.even_file))
    np.testing.assert_allclose(mean, bold.get_fdata().mean(3), rtol=1e-5, atol=1e-3)
    mask = nib.load(outputs.mask_file).get_fdata() > 0
    assert 1000 < json.loads(Path(outputs.info_file).read_text())["volume_ml"] < 1800
    variation = [np.std(part[mask]) / np.mean(part[mask]) for part in (mean, even)]
    assert variation[1] < 0.8 * variation[0]
