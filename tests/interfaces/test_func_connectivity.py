"""Files of connectivity: maps and tables of seeds, and maps in template space."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.maskers import NiftiLabelsMasker, NiftiMasker
from nipype.interfaces.base import isdefined

from alsflow.interfaces.func_connectivity import ConnectSeeds, MapsToTemplate
from alsflow.interfaces.images import load, save
from alsflow.interfaces.template import template_file
from alsflow.interfaces.warps import save_warp
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import grid_points

SHAPE = (9, 11, 8)
VOLUMES = 40
AFFINE = np.array([[2.9, 0.3, 0.1, -14.0], [-0.3, 3.1, -0.7, -10.0], [0.0, 0.7, 3.4, 20.0],
                   [0.0, 0.0, 0.0, 1.0]])  # fmt: skip
GROUPS = [("precentral", "left", 0), ("precentral", "right", 1), ("precentral", "both", 2),
          ("thalamus", "both", 3)]  # fmt: skip


@pytest.fixture
def files(tmp_path):
    """A series with a network over two seeds; the third seed has too few voxels."""
    rng = np.random.default_rng(4)
    inside = np.zeros(SHAPE, bool)
    inside[1:-1, 1:-1, 1:] = True
    grey = np.where(rng.random(SHAPE) < 0.8, 0.6, 0.1)
    masks = np.zeros((*SHAPE, 4), np.uint8)
    masks[2:4, 2:5, 2:6, 0] = 1
    masks[6:8, 2:5, 2:6, 1] = 1
    masks[..., 2] = masks[..., 0] | masks[..., 1]
    masks[4:6, 7:9, 3:5, 3] = 1
    grey[masks.any(axis=-1)] = 0.9
    course = rng.standard_normal(VOLUMES)
    series = rng.standard_normal((*SHAPE, VOLUMES)) * 3
    series[masks[..., 2] > 0] += 4 * course
    series[~inside] = 0
    labels = np.zeros(SHAPE, np.int16)
    labels[masks[..., 0] > 0], labels[masks[..., 1] > 0] = 3, 7
    save(series.astype(np.float32), AFFINE, tmp_path / "denoised.nii")
    save(inside, AFFINE, tmp_path / "mask.nii.gz")
    tissue = np.stack([grey, 1 - grey, 0 * grey], axis=-1).astype(np.float32)
    save(tissue, AFFINE, tmp_path / "tissue.nii.gz")
    save(masks, AFFINE, tmp_path / "groups.nii.gz")
    save(masks[..., [0, 1, 3]], AFFINE, tmp_path / "seeds.nii.gz")
    save(labels, AFFINE, tmp_path / "regions.nii.gz")
    write(tmp_path / "groups.tsv", [(v, n, s, "few" if n == "thalamus" else "")
                                    for n, s, v in GROUPS])  # fmt: skip
    write(tmp_path / "seeds.tsv", [(0, "left", "left", ""), (1, "right", "right", ""),
                                   (2, "mrs", "", "too few voxels")])  # fmt: skip
    names = [(3, "Left_PrG", "left", 24), (5, "Nowhere", "", 0), (7, "Right_PrG", "right", 24)]
    table = pd.DataFrame(names, columns=["index", "name", "side", "n_voxels"])
    table.to_csv(tmp_path / "regions.tsv", sep="\t", index=False)
    return tmp_path


def write(path, rows):
    table = pd.DataFrame(rows, columns=["volume", "name", "side", "reason"])
    table.to_csv(path, sep="\t", index=False)


def connect(files, **changes):
    names = {"mask": "mask.nii.gz", "tissue": "tissue.nii.gz"}
    names |= {part: f"{part}.nii.gz" for part in ("seeds", "groups", "regions")}
    names |= {f"{part}_table": f"{part}.tsv" for part in ("seeds", "groups", "regions")}
    names["denoised"] = "denoised.nii"
    inputs = {f"{key}_file": str(files / name) for key, name in names.items()} | changes
    inputs = {key: value for key, value in inputs.items() if value is not None}
    return ConnectSeeds(**inputs).run(cwd=str(files)).outputs


def table(file):
    return pd.read_csv(file, sep="\t", keep_default_na=False, na_values={
        "r": ["n/a"], "z": ["n/a"], "seed-mrs": ["n/a"], "Nowhere": ["n/a"]})  # fmt: skip


def test_maps_equal_nilearn_on_the_same_series(files):
    outputs = connect(files)
    r, image = load(outputs.r_file)
    assert r.shape == (*SHAPE, 3)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    valued = load(outputs.map_mask_file)[0] > 0
    inside, grey = load(files / "mask.nii.gz")[0] > 0, load(files / "tissue.nii.gz")[0][..., 0]
    np.testing.assert_array_equal(valued, inside & (grey >= 0.25))
    series = nib.load(files / "denoised.nii")
    labels = nib.load(files / "regions.nii.gz")
    seeds = NiftiLabelsMasker(labels, standardize="zscore_sample").fit_transform(series)
    masker = NiftiMasker(nib.load(outputs.map_mask_file), standardize="zscore_sample")
    theirs = masker.fit_transform(series).T @ seeds / (VOLUMES - 1)
    ours = np.stack([r[..., k][valued] for k in (0, 1)])
    np.testing.assert_allclose(ours, theirs.T, atol=1e-6)
    assert not r[~valued][:, :2].any()
    assert np.isnan(r[..., 2]).all()
    z, binary, strong = (load(getattr(outputs, f"{name}_file"))[0] for name in
                         ("z", "binary", "thresholded"))  # fmt: skip
    np.testing.assert_allclose(z[..., 0], np.arctanh(np.clip(r[..., 0], -0.9999999, 0.9999999)),
                               atol=1e-5)  # fmt: skip
    np.testing.assert_array_equal(binary[..., 0], r[..., 0] >= 0.25)
    np.testing.assert_array_equal(strong[..., 1], np.where(r[..., 1] >= 0.25, r[..., 1], 0))
    assert 0 < binary[..., 0].mean() < 0.9


def test_tables(files):
    outputs = connect(files)
    seeds = table(outputs.seed_table_file)
    assert list(zip(seeds["seed"], seeds["label"], strict=True)) == [
        (seed, label) for seed in ("left", "right", "mrs") for label in (3, 5, 7)
    ]
    assert seeds["r"][0] == 1
    assert seeds["n_shared"].tolist()[:3] == [24, 0, 0]
    assert seeds["reason"][1] == "no voxel is at least half grey Nowhere"
    assert seeds["reason"].tolist()[6:] == ["too few voxels"] * 3
    series = table(outputs.timeseries_file)
    assert list(series) == ["volume", "seed-left", "seed-right", "seed-mrs", "Left_PrG",
                            "Nowhere", "Right_PrG"]  # fmt: skip
    assert series["volume"].tolist() == list(range(VOLUMES))
    assert series["seed-mrs"].isna().all()
    matrix = pd.read_csv(outputs.relmat_file, sep="\t", index_col="name")
    expected = np.corrcoef(series["seed-left"], series["seed-right"])[0, 1]
    assert matrix.loc["Left_PrG", "Right_PrG"] == pytest.approx(expected, abs=1e-5)
    assert matrix.loc["Nowhere"].isna().all()
    motor = table(outputs.connections_file)
    assert motor["z"][0] == pytest.approx(np.arctanh(expected), abs=1e-4)
    assert motor["region"].tolist() == ["precentral"] + 3 * ["thalamus"]
    assert motor["reason"][3] == "few"
    info = json.loads((files / "connectivity.json").read_text())
    assert (info["done"], info["volumes"], info["constant_voxels"]) == (True, VOLUMES, 0)


def test_a_seed_that_is_the_mrs_voxel_is_connected_with_the_regions(files):
    """The seed ``left`` is all of the left precentral gyrus: what is left is the right one."""
    frame = pd.read_csv(files / "groups.tsv", sep="\t", keep_default_na=False)
    assert "mrs_voxel" not in table(connect(files).connections_file)["seed"].tolist()
    found = table(connect(files, voxel_seed="left").connections_file)
    assert len(found) == 6
    voxel = found[found["seed"] == "mrs_voxel"].set_index("region")
    assert voxel["side"].tolist() == frame["side"].tolist()[2:] == ["both", "both"]
    assert voxel.loc["precentral", ["n_seed", "n_voxels", "n_shared"]].tolist() == [24, 24, 24]
    between = found.set_index("seed_side").loc["left"]
    assert voxel.loc["precentral", "z"] == pytest.approx(between["z"])
    assert voxel.loc["thalamus", "reason"] == "few"
    lost = table(connect(files, voxel_seed="mrs").connections_file)
    assert lost["reason"].tolist()[4:] == ["too few voxels"] * 2
    (files / "denoise.json").write_text(json.dumps({"done": False, "reason": "short"}))
    undone = connect(files, voxel_seed="left", denoised_file=None,
                     denoise_info_file=str(files / "denoise.json"))  # fmt: skip
    assert table(undone.connections_file)["reason"].tolist() == ["short"] * 6


@pytest.mark.parametrize("short", [False, True])
def test_only_kept_volumes_count(files, short):
    """The series may hold all volumes, or only those that were kept."""
    kept = np.ones(VOLUMES, int)
    kept[[3, 4, 17]] = 0
    pd.DataFrame({"volume": np.arange(VOLUMES), "kept": kept}).to_csv(
        files / "kept.tsv", sep="\t", index=False
    )
    (files / "denoise.json").write_text(json.dumps({"done": True, "dof_left": 31}))
    series, _ = load(files / "denoised.nii")
    alone = save(series[..., kept > 0], AFFINE, files / "kept.nii")
    spoilt = series.copy()
    spoilt[..., kept == 0] += 1000 * np.random.default_rng(0).random((*SHAPE, 3))
    save(spoilt, AFFINE, files / "denoised.nii")
    files_in = {"kept_file": str(files / "kept.tsv"),
                "denoise_info_file": str(files / "denoise.json")}  # fmt: skip
    if short:
        files_in["denoised_file"] = alone
    found = load(connect(files, **files_in).r_file)[0]
    assert 3 not in table(files / "timeseries.tsv")["volume"].tolist()
    assert json.loads((files / "connectivity.json").read_text())["dof"] == 31
    expected = load(connect(files, denoised_file=alone).r_file)[0]
    np.testing.assert_array_equal(found, expected)
    files_in["denoised_file"] = save(series[..., :20], AFFINE, files / "few.nii")
    with pytest.raises(BadInputError, match=r"kept.tsv speaks of 40 volumes, 37 of them kept"):
        connect(files, **files_in)


def test_a_series_that_was_not_denoised_has_no_maps_but_a_reason(files):
    reason = "12 degrees of freedom are left"
    (files / "denoise.json").write_text(json.dumps({"done": False, "reason": reason}))
    outputs = connect(files, denoised_file=None, denoise_info_file=str(files / "denoise.json"))
    assert not isdefined(outputs.r_file)
    assert not isdefined(outputs.relmat_file)
    motor = table(outputs.connections_file)
    assert motor["z"].isna().all()
    assert set(motor["reason"]) == {reason}
    info = json.loads((files / "connectivity.json").read_text())
    assert info == {"done": False, "reason": reason}


def test_a_series_that_cannot_be_connected_is_refused(files):
    series, _ = load(files / "denoised.nii")
    short = save(series[:-1], AFFINE, files / "short.nii")
    with pytest.raises(BadInputError, match=r"shape \(8, 11, 8, 40\) and its mask \(9, 11, 8\)"):
        connect(files, denoised_file=short)
    flat = save(series[..., 0], AFFINE, files / "flat.nii")
    with pytest.raises(BadInputError, match=r"shape \(9, 11, 8\) and its mask"):
        connect(files, denoised_file=flat)
    series[4, 5, 3, 7] = np.nan
    holed = save(series, AFFINE, files / "holed.nii")
    with pytest.raises(BadInputError, match="values that are no numbers"):
        connect(files, denoised_file=holed)


@pytest.fixture
def template(tmp_path):
    """A head whose map from the template is a shift, and a map that is a ramp in the template."""
    grid = np.diag([4.0, 4.0, 4.0, 1.0])
    grid[:3, 3] = (-100, -136, -74)
    points = grid_points((51, 60, 48), grid)
    save_warp(points + np.reshape((5, 1, -2), (3, 1, 1, 1)).astype(np.float32), grid,
              tmp_path / "xfm.nii.gz")  # fmt: skip
    matrix = np.eye(4)
    matrix[:3, 3] = (1, 2, 3)
    np.savetxt(tmp_path / "matrix.txt", matrix)
    at = grid_points(SHAPE, AFFINE) + np.reshape((1, 2, 3), (3, 1, 1, 1))
    ramp = (at - np.reshape((5, 1, -2), (3, 1, 1, 1)))[0]
    mask = np.ones(SHAPE, np.uint8)
    save(np.stack([ramp, 0 * ramp + 2], axis=-1), AFFINE, tmp_path / "two.nii.gz")
    save(ramp, AFFINE, tmp_path / "one.nii.gz")
    save(mask, AFFINE, tmp_path / "mask.nii.gz")
    return tmp_path


def to_template(files, **changes):
    inputs = {"map_files": [str(files / "two.nii.gz"), str(files / "one.nii.gz")],
              "mask_file": str(files / "mask.nii.gz"), "seen_file": str(files / "mask.nii.gz"),
              "matrix_file": str(files / "matrix.txt"),
              "to_native_file": str(files / "xfm.nii.gz")} | changes  # fmt: skip
    inputs = {key: value for key, value in inputs.items() if value is not None}
    return MapsToTemplate(**inputs).run(cwd=str(files)).outputs


def test_maps_reach_the_template_through_the_chain(template):
    outputs = to_template(template, fwhm=0.0)
    two, image = load(outputs.template_files[0])
    one, _ = load(outputs.template_files[1])
    whole = nib.load(template_file("gm"))
    np.testing.assert_allclose(np.abs(np.diag(image.affine)[:3]), 2)
    np.testing.assert_allclose(np.array(one.shape) * 2, whole.shape, atol=2)
    covered = load(outputs.coverage_file)[0] > 0
    assert covered.sum() > 2000
    np.testing.assert_allclose(one[covered], grid_points(one.shape, image.affine)[0][covered],
                               atol=1e-3)  # fmt: skip
    np.testing.assert_array_equal(two[..., 0], one)
    np.testing.assert_allclose(two[..., 1][covered], 2, rtol=1e-5)
    np.testing.assert_array_equal(np.isfinite(one), covered)
    smooth, _ = load(to_template(template, map_files=[str(template / "two.nii.gz")])
                     .template_files[0])  # fmt: skip
    np.testing.assert_allclose(smooth[..., 1][np.isfinite(smooth[..., 1])], 2, rtol=1e-5)
    plain, _ = load(to_template(template, map_files=[str(template / "two.nii.gz")], plain=True)
                    .template_files[0])  # fmt: skip
    assert np.nanmin(plain[..., 1]) < 1.5


def test_without_maps_nothing_is_written(template):
    for missing in ("map_files", "mask_file"):
        outputs = to_template(template, **{missing: None})
        assert not isdefined(outputs.template_files) or not outputs.template_files
        assert not isdefined(outputs.coverage_file)
