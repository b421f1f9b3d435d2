"""Diffusion measures in the white matter of the MRS voxel: a head of slabs, a turned series."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from alsflow.interfaces.dwi_voxel import MeasureVoxel
from alsflow.interfaces.images import save
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import apply_affine, grid_points

HEAD_SHAPE = (58, 50, 66)
HEAD = np.diag([-1.1, 1.0, 0.9, 1.0])  # left-handed, turned
HEAD[:3, :3] = Rotation.from_euler("xyz", [4, -7, 12], degrees=True).as_matrix() @ HEAD[:3, :3]
HEAD[:3, 3] -= apply_affine(HEAD, (np.array(HEAD_SHAPE) - 1) / 2)
SHAPE = (24, 21, 17)
SIZES = (2.0, 2.2, 2.5)  # mm, of the series
EDGES = (26.0, 20.0, 22.0)  # mm, of the MRS voxel
CENTRE = (4.0, -3.0, 0.0)  # its middle; white matter is above z = 0: half of it
# value at the origin, and slope along x, y, z per mm: the mean of a map is that of the middle
MAPS = {
    "fa": (0.45, (3e-3, -2e-3, 4e-3)), "md": (7e-4, (2e-6, 3e-6, -1e-6)),
    "ad": (11e-4, (-4e-6, 1e-6, 2e-6)), "rd": (5e-4, (1e-6, -3e-6, 3e-6)),
}  # fmt: skip
WHITE_MIDDLE = (4.0, -3.0, 5.5)
VOLUME = 26 * 20 * 22 / 1000  # mL


def linear(points, origin, slope):
    return origin + np.tensordot(slope, points, axes=1)


def in_box(points, edges=EDGES):
    away = np.abs(points - np.reshape(CENTRE, (3, 1, 1, 1)))
    return (away < np.reshape(edges, (3, 1, 1, 1)) / 2).all(axis=0)


@pytest.fixture
def files(tmp_path):
    """A series on a doubly oblique grid of its own world, and where its voxels are in the head."""
    head = grid_points(HEAD_SHAPE, HEAD)
    for name, data in (("wm", head[2] >= 0), ("csf", 0 * head[2]), ("box", in_box(head))):
        save(data.astype(np.float32), HEAD, tmp_path / f"{name}.nii.gz")
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [9, 14, -6], degrees=True).as_matrix()
    matrix[:3, 3] = (2, -3, 1)
    affine = np.linalg.inv(matrix) @ np.diag([*SIZES, 1.0])
    affine[:3, 3] += affine[:3, :3] @ (-(np.array(SHAPE) - 1) / 2)
    at = apply_affine(matrix, grid_points(SHAPE, affine))
    for name, (origin, slope) in MAPS.items():
        save(linear(at, origin, slope), affine, tmp_path / f"{name}.nii.gz")
    save(np.ones(SHAPE, np.uint8), affine, tmp_path / "mask.nii.gz")
    np.savetxt(tmp_path / "matrix.txt", matrix)
    return tmp_path, affine, at


def measure(folder, **changes):
    """The table; an input that is None is left unset."""
    names = {f"{name}_file": f"{name}.nii.gz" for name in (*MAPS, "mask", "wm", "csf")}
    names |= {"matrix_file": "matrix.txt", "mrs_voxel_file": "box.nii.gz"}
    inputs = {key: str(folder / name) for key, name in names.items()} | changes
    inputs = {key: value for key, value in inputs.items() if value is not None}
    path = MeasureVoxel(**inputs).run(cwd=str(folder)).outputs.voxel_file
    numbers = ["weighted_mean", "weighted_sd", "wm_ml", "coverage"]
    table = pd.read_csv(path, sep="\t", keep_default_na=False,
                        na_values={name: ["n/a"] for name in numbers})  # fmt: skip
    assert table["metric"].tolist() == list(MAPS)
    assert set(table["region"]) == {"mrs_voxel"}
    return table.set_index("metric")


def test_means_are_those_of_the_white_half_of_the_voxel(files):
    table = measure(files[0])
    assert table["wm_ml"].to_numpy() == pytest.approx(VOLUME / 2, rel=0.01)
    assert table["coverage"].to_numpy() == pytest.approx(1, abs=1e-3)
    for name, (origin, slope) in MAPS.items():
        truth = origin + np.dot(slope, WHITE_MIDDLE)
        spread = np.sqrt(np.dot(np.square(slope), np.square((26, 20, 11)) / 12))
        assert table.loc[name, "weighted_mean"] == pytest.approx(truth, abs=0.02 * spread), name
        # a voxel of the series is not a point: what it averages away of the spread is small
        assert table.loc[name, "weighted_sd"] == pytest.approx(spread, rel=0.05), name
    assert set(table["status"]) == {"ok"}


def test_fluid_and_voxels_without_a_tensor_are_left_out(files):
    folder, affine, at = files
    head = grid_points(HEAD_SHAPE, HEAD)
    save(np.where(head[0] > 4, 0.3, 0.0), HEAD, folder / "csf.nii.gz")
    fa = nib.load(folder / "fa.nii.gz").get_fdata()
    fa[at[1] > -3] = np.nan
    save(fa, affine, folder / "fa.nii.gz")
    table = measure(folder)
    assert table.loc["md", "wm_ml"] == pytest.approx(VOLUME / 4, rel=0.06)
    assert table.loc["fa", "wm_ml"] == pytest.approx(VOLUME / 8, rel=0.1)
    origin, slope = MAPS["ad"]  # x from -9 to 4 only
    truth = origin + np.dot(slope, (-2.5, -3.0, 5.5))
    assert table.loc["ad", "weighted_mean"] == pytest.approx(truth, abs=4e-6)
    left_in = measure(folder, most_csf=1.0)
    assert left_in.loc["md", "wm_ml"] == pytest.approx(VOLUME / 2, rel=0.01)


def test_a_voxel_that_the_series_shows_in_part_has_no_value(files):
    folder, affine, at = files
    save(at[0] < 8, affine, folder / "mask.nii.gz")  # x from -9 to 17: 17 of 26 mm are seen
    for least, known in ((0.64, True), (0.67, False)):
        table = measure(folder, least_coverage=least)
        assert table["coverage"].to_numpy() == pytest.approx(17 / 26, abs=0.01)
        assert table["weighted_mean"].notna().all() == known
        assert set(table["status"]) == {"ok" if known else "missing"}
        text = "only 65% of the white matter of the MRS voxel is inside the field of view"
        assert table["reason"].str.startswith(text).all() != known


def test_too_little_white_matter_is_no_value_but_a_reason(files):
    folder, affine, _ = files
    save(np.zeros(HEAD_SHAPE, np.float32), HEAD, folder / "wm.nii.gz")
    table = measure(folder)
    assert table["weighted_mean"].isna().all()
    assert table["coverage"].isna().all()
    assert set(table["reason"]) == {"only 0.00 mL of white matter (at least 0.16 mL)"}


def test_without_a_voxel_every_row_says_so(files):
    table = measure(files[0], mrs_voxel_file=None)
    assert table[["weighted_mean", "wm_ml", "coverage"]].isna().all(axis=None)
    assert set(table["reason"]) == {"no MRS voxel"}
    assert set(table["status"]) == {"missing"}


def test_a_voxel_on_another_grid_is_refused(files):
    folder = files[0]
    shifted = HEAD.copy()
    shifted[0, 3] += 1
    save(np.ones(HEAD_SHAPE, np.uint8), shifted, folder / "box.nii.gz")
    with pytest.raises(BadInputError, match=r"^box.nii.gz and wm.nii.gz are on different grids"):
        measure(folder)
