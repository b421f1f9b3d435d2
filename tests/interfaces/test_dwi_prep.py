"""From the files of one or several runs to maps of the tensor."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from alsflow.interfaces.dwi_prep import (
    CheckGradients,
    CorrectDrift,
    DenoiseDwi,
    FitTensor,
    LoadDwi,
    MaskDwi,
    UnringDwi,
    read_gradients,
    read_runs,
    write_gradients,
)
from alsflow.interfaces.images import save
from alsflow.nodes.dwi.gradients import Gradients, fsl_bvecs, world_directions
from alsflow.nodes.errors import BadInputError

SHAPE = (9, 10, 8)
TURN = np.array([[0.98, -0.19, 0.05], [0.19, 0.98, 0.03], [-0.05, -0.02, 1.0]])
TURN = np.linalg.qr(TURN)[0] * np.sign(np.diag(np.linalg.qr(TURN)[1]))
EVALS = np.array([1.7e-3, 0.4e-3, 0.2e-3])


def run(interface, folder, **inputs):
    folder.mkdir(exist_ok=True)
    interface.inputs.trait_set(**inputs)
    return interface.run(cwd=str(folder)).outputs


def grid(order=(0, 1, 2), flips=(1, 1, 1)):
    """Oblique affine, stored with other axes."""
    affine = np.eye(4)
    affine[:3, :3] = (TURN * [2.0, 2.2, 2.5])[:, order] * flips
    affine[:3, 3] = [3, -7, 11]
    return affine


def weighting(n=20, b=1000.0, seed=1):
    world = np.random.default_rng(seed).normal(size=(n, 3))
    world /= np.linalg.norm(world, axis=1, keepdims=True)
    bvals = np.full(n, b)
    bvals[:: n // 2] = 0
    world[bvals == 0] = 0
    return bvals, world


def write_run(folder, name, bvals, world, affine, shape=SHAPE):
    """A series whose tensor points along a fixed direction of the world."""
    axes = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    tensor = axes @ np.diag(EVALS) @ axes.T
    level = np.random.default_rng(4).uniform(300, 800, shape)
    signal = level[..., None] * np.exp(-bvals * np.einsum("ni,ij,nj->n", world, tensor, world))
    folder.mkdir(exist_ok=True, parents=True)
    paths = {k: folder / f"{name}.{k}" for k in ("nii.gz", "bval", "bvec")}
    save(signal.astype(np.float32), affine, paths["nii.gz"])
    np.savetxt(paths["bval"], bvals[None], fmt="%g")
    np.savetxt(paths["bvec"], fsl_bvecs(world, affine), fmt="%.8f")
    return {
        "in_files": [str(paths["nii.gz"])],
        "bval_files": [str(paths["bval"])],
        "bvec_files": [str(paths["bvec"])],
    }, tensor


def together(*runs):
    return {key: [path for one in runs for path in one[key]] for key in runs[0]}


@pytest.mark.parametrize(
    ("order", "flips"), [((0, 1, 2), (1, 1, 1)), ((0, 1, 2), (-1, 1, 1)), ((2, 0, 1), (1, -1, 1))]
)
def test_any_storage_gives_the_same_tensor_in_the_world(tmp_path, order, flips):
    bvals, world = weighting()
    files, tensor = write_run(tmp_path / "in", "sub-01_dwi", bvals, world, grid(order, flips))
    loaded = run(LoadDwi(), tmp_path / "load", **files)
    gradients = read_gradients(loaded.gradients_file)
    np.testing.assert_allclose(gradients.directions, world, atol=1e-7)
    assert nib.aff2axcodes(nib.load(loaded.dwi_file).affine) == ("R", "A", "S")
    mask = save(np.ones(SHAPE, np.uint8), grid(), tmp_path / "mask.nii.gz")
    # the mask only needs the shape of the loaded series
    shape = nib.load(loaded.dwi_file).shape[:3]
    mask = save(np.ones(shape, np.uint8), nib.load(loaded.dwi_file).affine, mask)
    fitted = run(
        FitTensor(),
        tmp_path / "fit",
        dwi_file=loaded.dwi_file,
        gradients_file=loaded.gradients_file,
        mask_file=mask,
    )
    six = np.asarray(nib.load(fitted.tensor_file).dataobj)
    expected = tensor[(0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2)]
    np.testing.assert_allclose(six, np.broadcast_to(expected, six.shape), atol=1e-9)
    md = np.asarray(nib.load(fitted.md_file).dataobj)
    np.testing.assert_allclose(md, EVALS.mean(), rtol=1e-5)
    info = json.loads(Path(fitted.info_file).read_text())
    assert info["method"] == "WLS"
    assert info["b_used"] == [1000]
    assert info["voxels_without_fit"] == 0


def test_runs_of_one_protocol_are_joined(tmp_path):
    first, _ = write_run(tmp_path / "in", "run-1", *weighting(), grid())
    second, _ = write_run(tmp_path / "in", "run-2", np.zeros(2), np.zeros((2, 3)), grid())
    loaded = run(LoadDwi(), tmp_path / "load", **together(first, second))
    assert nib.load(loaded.dwi_file).shape == (*SHAPE, 22)
    np.testing.assert_array_equal(read_runs(loaded.gradients_file), [0] * 20 + [1] * 2)
    info = json.loads(Path(loaded.info_file).read_text())
    assert info["runs"] == ["run-1.nii.gz", "run-2.nii.gz"]
    assert info["shells"] == [{"b": 0, "volumes": 4}, {"b": 1000, "volumes": 18}]


def test_runs_that_do_not_belong_together_are_refused(tmp_path):
    first, _ = write_run(tmp_path / "in", "run-1", *weighting(), grid())
    other, _ = write_run(tmp_path / "in", "run-2", *weighting(b=2000.0), grid())
    moved = grid()
    moved[0, 3] += 1
    shifted, _ = write_run(tmp_path / "in", "run-3", *weighting(), moved)
    with pytest.raises(BadInputError, match="run-1.nii.gz and run-2.nii.gz cannot be joined: one"):
        run(LoadDwi(), tmp_path / "a", **together(first, other))
    with pytest.raises(BadInputError, match="same voxel grid"):
        run(LoadDwi(), tmp_path / "b", **together(first, shifted))


def test_refusals_name_the_file(tmp_path):
    bvals, world = weighting()
    files, _ = write_run(tmp_path / "in", "sub-01_dwi", bvals, world, grid())
    np.savetxt(files["bval_files"][0], bvals[None, 1:])
    with pytest.raises(BadInputError, match="sub-01_dwi.nii.gz has 19 b-values for 20 volumes"):
        run(LoadDwi(), tmp_path / "a", **files)
    with open(files["bvec_files"][0], "w") as file:
        file.write("0 1 x\n")
    with pytest.raises(BadInputError, match="sub-01_dwi.bvec is not a table of numbers"):
        run(LoadDwi(), tmp_path / "b", **files)


def content(path):
    return json.loads(Path(path).read_text())


def data_of(path):
    return np.asarray(nib.load(path).dataobj)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Files of a loaded series: a ball of tissue with noise and a drift of 4 %."""
    folder = tmp_path_factory.mktemp("noisy")
    shape, rng = (24, 26, 20), np.random.default_rng(5)
    bvals, world = weighting(21)
    bvals[20], world[20] = 0, 0
    gradients = Gradients(bvals, world)
    places = np.moveaxis(np.indices(shape), 0, -1) - np.array(shape) / 2
    ball = np.linalg.norm(places, axis=-1) < 8.5
    signal = 600 * ball[..., None] * np.exp(-bvals * 0.8e-3) * np.linspace(1, 0.96, 21)
    noise = rng.normal(0, 20, (2, *signal.shape))
    signal = np.hypot(signal + noise[0], noise[1]).astype(np.float32)
    affine = np.diag([3.4, 3.6, 3.9, 1.0])
    return {
        "dwi_file": save(signal, affine, folder / "dwi.nii"),
        "gradients_file": write_gradients(gradients, folder / "gradients.tsv"),
        "mask_file": save(ball, affine, folder / "mask.nii.gz"),
    }


def some(files, *names):
    return {name: files[name] for name in names}


def test_the_table_is_kept_to_the_last_digit(tmp_path):
    bvals, world = weighting()
    path = write_gradients(Gradients(bvals + 1 / 3, world), tmp_path / "g.tsv", np.arange(20) // 7)
    found = read_gradients(path)
    np.testing.assert_array_equal(found.bvals, bvals + 1 / 3)
    np.testing.assert_array_equal(found.directions, world)
    np.testing.assert_array_equal(read_runs(path), np.arange(20) // 7)


def test_denoising_writes_what_it_did(noisy, tmp_path):
    found = run(DenoiseDwi(), tmp_path / "a", **some(noisy, "dwi_file", "mask_file"))
    ball = data_of(noisy["mask_file"]) > 0
    assert abs(np.median(data_of(found.noise_file)[ball]) / 20 - 1) < 0.1
    info = content(found.info_file)
    assert info["done"]
    assert info["patch"] == [3, 3, 3]


def test_a_step_that_cannot_be_done_says_so_or_is_refused(noisy, tmp_path):
    image = nib.load(noisy["dwi_file"])
    short = save(data_of(noisy["dwi_file"])[..., :8], image.affine, tmp_path / "short.nii")
    with pytest.raises(BadInputError, match="at least 12"):
        run(DenoiseDwi(), tmp_path / "a", dwi_file=short)
    found = run(DenoiseDwi(impossible="skip"), tmp_path / "b", dwi_file=short)
    assert found.dwi_file == short
    assert np.isnan(data_of(found.noise_file)).all()
    assert "at least 12" in content(found.info_file)["reason"]
    bvals, world = weighting(21)
    bvals[10:], world[10:] = 1000, [1, 0, 0]
    table = write_gradients(Gradients(bvals, world), tmp_path / "one_end.tsv")
    files = noisy | {"gradients_file": table}
    with pytest.raises(BadInputError, match="cannot fix a drift"):
        run(CorrectDrift(), tmp_path / "c", **files)
    found = run(CorrectDrift(impossible="skip"), tmp_path / "d", **files)
    assert not content(found.info_file)["done"]
    assert found.dwi_file == noisy["dwi_file"]


def test_drift_is_divided_out(noisy, tmp_path):
    found = run(CorrectDrift(degree=1), tmp_path / "a", **noisy)
    drift = content(found.info_file)["drift"]
    np.testing.assert_allclose(drift, np.linspace(1, 0.96, 21), atol=0.002)
    ratio = data_of(found.dwi_file)[12, 13, 10] / data_of(noisy["dwi_file"])[12, 13, 10]
    np.testing.assert_allclose(ratio, 1 / np.array(drift), rtol=1e-5)


def test_unringing_notes_partial_fourier(noisy, tmp_path):
    found = run(UnringDwi(partial_fourier=0.75), tmp_path / "a", **some(noisy, "dwi_file"))
    info = content(found.info_file)
    assert "0.75" in info["note"]
    assert info["slice_axis"] == 2
    assert data_of(found.dwi_file).shape == (24, 26, 20, 21)


def test_the_mask_is_written_with_its_volume(noisy, tmp_path):
    found = run(MaskDwi(), tmp_path / "a", **some(noisy, "dwi_file", "gradients_file"))
    volume = data_of(found.mask_file).sum() * 3.4 * 3.6 * 3.9 / 1000
    assert content(found.info_file)["volume_ml"] == pytest.approx(volume, rel=1e-4)
    truth = data_of(noisy["mask_file"]) > 0
    mask = data_of(found.mask_file) > 0
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.9


def test_weak_fibres_let_the_table_pass(noisy, tmp_path):
    found = run(CheckGradients(), tmp_path / "a", **noisy)
    assert content(found.info_file)["verdict"] == "cannot tell"
    assert found.gradients_file == noisy["gradients_file"]


REAL = {
    "sub-uihA": "sub-uihA_acq-rot_dir-PA_dwi",
    "sub-xa30": "sub-xa30_dir-AP_dwi",
    "sub-xa30 PA": "sub-xa30_dir-PA_dwi",
    "sub-cr": "sub-cr_dir-AP_dwi",
}


@pytest.mark.realdata
@pytest.mark.parametrize("name", REAL)
def test_tables_of_real_heads_pass_and_their_flips_do_not(realdata, tmp_path, name):
    base = realdata / name.split()[0] / "dwi" / REAL[name]
    if not base.with_suffix(".bval").is_file():
        pytest.skip(f"{base.name} is not there")
    files = {
        f"{kind}_files": [f"{base}.{end}"]
        for kind, end in (("in", "nii.gz"), ("bval", "bval"), ("bvec", "bvec"))
    }
    loaded = run(LoadDwi(), tmp_path / "load", **files)
    inputs = {"dwi_file": loaded.dwi_file, "gradients_file": loaded.gradients_file}
    mask = run(MaskDwi(), tmp_path / "mask", **inputs).mask_file
    inputs |= {"mask_file": mask, "in_file": files["in_files"][0]}
    passed = run(CheckGradients(), tmp_path / "check", **inputs)
    assert content(passed.info_file)["verdict"] == "right"
    rows = np.loadtxt(files["bvec_files"][0]) * [[1], [-1], [1]]
    flipped = world_directions(rows, nib.load(files["in_files"][0]).affine)
    bvals = read_gradients(loaded.gradients_file).bvals
    inputs["gradients_file"] = write_gradients(Gradients(bvals, flipped), tmp_path / "flip.tsv")
    with pytest.raises(BadInputError, match="multiply row 2 of the bvec file by -1"):
        run(CheckGradients(), tmp_path / "flip", **inputs)
    forced = run(CheckGradients(force=True), tmp_path / "force", **inputs)
    assert content(forced.info_file)["verdict"] == "wrong"
