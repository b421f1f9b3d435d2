"""From the files of one or several runs to maps of the tensor."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from alsflow.interfaces.dwi_prep import FitTensor, LoadDwi, read_gradients, read_runs
from alsflow.interfaces.images import save
from alsflow.nodes.dwi.gradients import fsl_bvecs
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
