"""From a corrected series to its confounds and residuals, as files."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from alsflow.interfaces.func_denoise import (
    DenoiseBold,
    FindConfounds,
    preset_names,
    read_confounds,
    read_preset,
)
from alsflow.interfaces.images import load, save
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.confounds import find_confounds, regressors
from alsflow.nodes.func.denoise import denoise
from alsflow.nodes.func.presets import load_preset

SHAPE, TR = (14, 12, 13), 2.2
AFFINE = np.array([[3.9, 0.4, 0, -30], [-0.5, 4.4, 0.2, -25], [0, -0.2, 5, -20], [0, 0, 0, 1.0]])
VOLUMES = [190, 130]
N = sum(VOLUMES)


def run(interface, folder, **inputs):
    folder.mkdir(exist_ok=True)
    interface.inputs.trait_set(**inputs)
    return interface.run(cwd=str(folder)).outputs


@pytest.fixture
def inputs(tmp_path):
    """A box of brain with white matter and a ventricle, in two runs."""
    rng = np.random.default_rng(3)
    tissue = np.zeros((*SHAPE, 3), np.float32)
    tissue[..., 0] = 1
    tissue[:4] = [0, 1, 0]
    tissue[4:10, 4:8, 4:9] = [0, 0, 1]
    mask = np.ones(SHAPE, np.uint8)
    mask[-1] = 0
    series = 1000 + 10 * rng.normal(size=(*SHAPE, N)) + 2 * tissue @ rng.normal(size=(3, N))
    motion = np.tile(np.eye(4), (N, 1, 1))
    motion[:, :3, 3] = np.cumsum(rng.normal(size=(N, 3)) * 0.03, axis=0)
    motion[50, 0, 3] += 2
    paths = {f"{k}_file": str(tmp_path / f"{k}.nii") for k in ("bold", "mask", "tissue")}
    save(series.astype(np.float32), AFFINE, paths["bold_file"])
    save(mask, AFFINE, paths["mask_file"])
    save(tissue, AFFINE, paths["tissue_file"])
    files = {
        "motion": {"head_to_volume": motion.tolist(), "reference": 0},
        "load_info": {"runs": ["a", "b"], "volumes": VOLUMES, "dropped": [4, 4], "tr": TR},
    }
    for name, content in files.items():
        paths[f"{name}_file"] = str(tmp_path / f"{name}.json")
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return paths


@pytest.fixture
def found(inputs, tmp_path):
    return run(FindConfounds(), tmp_path / "find", **inputs)


def cleaned(inputs, found, folder, preset, **options):
    given = {k: inputs[k] for k in ("bold_file", "mask_file", "load_info_file")}
    given |= {
        "confounds_file": found.confounds_file,
        "confounds_info_file": found.info_file,
        "preset": preset,
    }
    out = run(DenoiseBold(), folder, **given, **options)
    return out, json.loads(Path(out.info_file).read_text())


class TestPresets:
    def test_those_of_the_program(self):
        assert preset_names() == ["36P", "calsnic", "motion24+acompcor"]
        for name in preset_names():
            preset = load_preset(read_preset(name), name)
            assert preset.description
            assert preset.source.startswith("doi:")
            assert read_preset(name)["name"] == name

    def test_what_each_removes(self):
        presets = {name: load_preset(read_preset(name), name) for name in preset_names()}
        calsnic, default, p36 = (presets[k] for k in ("calsnic", "motion24+acompcor", "36P"))
        assert (calsnic.motion, calsnic.wm, calsnic.trend, calsnic.band) == (0, 0, 0, None)
        assert (default.motion, default.wm, default.csf, default.trend) == (24, 5, 5, 1)
        assert default.band == (0.008, 0.09)
        assert (p36.motion, p36.global_signal, p36.wm_csf, p36.wm) == (24, 4, 4, 0)

    def test_a_file_of_ones_own(self, tmp_path):
        path = tmp_path / "mine.toml"
        path.write_text("\ufeffmotion = 6\n", encoding="utf-8")
        assert read_preset(str(path))["name"] == "mine"
        path.write_text("motion = 5")
        with pytest.raises(BadInputError, match=r"^mine.toml has motion = 5"):
            read_preset(str(path))
        with pytest.raises(BadInputError, match="cannot be read"):
            read_preset(str(tmp_path / "none.toml"))

    def test_an_unknown_name(self):
        with pytest.raises(BadInputError, match="presets are 36P, calsnic"):
            read_preset("24P")


def test_the_table_keeps_every_digit(inputs, found):
    """Six digits of the mean signal would hide what changes in it."""
    info = json.loads(Path(inputs["load_info_file"]).read_text())
    motion = json.loads(Path(inputs["motion_file"]).read_text())["head_to_volume"]
    arrays = [load(inputs[f"{k}_file"])[0] for k in ("bold", "mask", "tissue")]
    runs = np.repeat([0, 1], info["volumes"])
    expected = find_confounds(
        arrays[0], AFFINE, arrays[1] > 0, arrays[2], np.array(motion), runs, TR
    ).table
    table = read_confounds(found.confounds_file)
    assert list(table) == list(expected)
    np.testing.assert_allclose(table.to_numpy(float), expected.to_numpy(float), rtol=1e-6)
    text = Path(found.confounds_file).read_text()
    assert "n/a" in text
    assert "nan" not in text
    sidecar = json.loads(Path(found.sidecar_file).read_text())
    assert set(sidecar) == {*table, "RepetitionTime", "NoiseMasks"}
    assert sidecar["rot_x_power2"]["Units"] == "rad2"


def test_info_and_snr(found):
    info = json.loads(Path(found.info_file).read_text())
    table = read_confounds(found.confounds_file)
    assert info["fd_max"] == pytest.approx(table["framewise_displacement"].max())
    assert info["outliers"] == 2  # there and back
    assert info["masks"]["wm"]["enough"]
    assert len(info["masks"]["csf"]["variance_explained"]) == 2
    snr = load(found.tsnr_file)[0]
    assert not snr[-1].any()
    assert info["tsnr_gm"] == pytest.approx(100, rel=0.15)


def test_residuals_are_those_of_the_node(inputs, found, tmp_path):
    preset = read_preset("motion24+acompcor")
    out, info = cleaned(inputs, found, tmp_path / "clean", preset)
    series, mask = load(inputs["bold_file"])[0], load(inputs["mask_file"])[0] > 0
    runs = np.repeat([0, 1], VOLUMES)
    parts = regressors(read_confounds(found.confounds_file), load_preset(preset, "d"))
    filtered, plain, freedom = denoise(series[mask], parts, runs, TR, band=(0.008, 0.09), trend=1)
    for path, expected in [(out.denoised_file, filtered), (out.unfiltered_file, plain)]:
        data, image = load(path)
        np.testing.assert_array_equal(data[mask], expected)
        assert not data[~mask].any()
        np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
    assert info["done"]
    assert info["dof_left"] == freedom.left
    assert info["dof_lost"] + info["dof_left"] == N == info["volumes"]
    assert [info[f"dof_lost_{k}"] for k in ("trend", "motion", "compcor")] == [
        4,
        24,
        20,
    ]  # no turns
    assert (pd.read_csv(out.kept_file, sep="\t")["kept"] == 1).all()


def test_censored_volumes_are_left_out(inputs, found, tmp_path):
    out, info = cleaned(inputs, found, tmp_path / "clean", read_preset("calsnic"), censor_fd=1.0)
    kept = pd.read_csv(out.kept_file, sep="\t")
    assert list(kept["volume"][kept["kept"] == 0]) == [50, 51]
    assert info["censored"] == 2
    assert info["dof_left"] == N - 2 - 2
    data, series = load(out.denoised_file)[0], load(inputs["bold_file"])[0]
    voxel = np.delete(series[3, 4, 5], [50, 51])
    first = VOLUMES[0] - 2
    expected = np.concatenate(
        [voxel[:first] - voxel[:first].mean(), voxel[first:] - voxel[first:].mean()]
    )
    np.testing.assert_allclose(data[3, 4, 5], expected, atol=1e-3)


def test_the_header_keeps_the_time_between_volumes(inputs, found, tmp_path):
    out, _ = cleaned(inputs, found, tmp_path / "clean", read_preset("calsnic"))
    for path in (out.denoised_file, out.unfiltered_file):
        header = nib.load(path).header
        assert header.get_zooms()[3] == pytest.approx(TR)
        assert header.get_xyzt_units() == ("mm", "sec")


def test_too_little_left(inputs, found, tmp_path):
    preset = read_preset("motion24+acompcor") | {"band": [0.01, 0.04]}
    out, info = cleaned(inputs, found, tmp_path / "clean", preset)
    assert not info["done"]
    assert "of 320 volumes' worth of information are left" in info["reason"]
    for name in ("denoised_file", "unfiltered_file"):
        assert not isinstance(getattr(out, name), str)


def test_a_short_series_is_called_short(inputs, tmp_path):
    """Twenty volumes have too few components, too, but that is not what is wrong."""
    series = load(inputs["bold_file"])[0][..., :20]
    save(series, AFFINE, inputs["bold_file"])
    motion = np.tile(np.eye(4), (20, 1, 1)).tolist()
    Path(inputs["motion_file"]).write_text(json.dumps({"head_to_volume": motion}))
    Path(inputs["load_info_file"]).write_text(json.dumps({"volumes": [20], "tr": 1.0}))
    found = run(FindConfounds(), tmp_path / "find", **inputs)
    out, info = cleaned(inputs, found, tmp_path / "clean", read_preset("motion24+acompcor"))
    assert info["reason"].startswith("the series is too short: 20 volumes,")
    assert Path(out.kept_file).exists()
    _, info = cleaned(inputs, found, tmp_path / "none", read_preset("calsnic"))
    assert info["reason"].startswith("the series is too short: 20 volumes,")
    assert info["dof_left"] == 19


def test_no_ventricle(inputs, tmp_path):
    tissue = load(inputs["tissue_file"])[0].copy()
    tissue[4:10, 4:8, 4:9] = [1, 0, 0]
    save(tissue, AFFINE, inputs["tissue_file"])
    found = run(FindConfounds(), tmp_path / "find", **inputs)
    _, info = cleaned(inputs, found, tmp_path / "one", read_preset("motion24+acompcor"))
    assert not info["done"]
    assert "cerebrospinal fluid, but only 0 voxels" in info["reason"]
    _, info = cleaned(inputs, found, tmp_path / "two", read_preset("calsnic"))
    assert info["done"]


def test_a_band_that_the_series_cannot_show(inputs, found, tmp_path):
    with pytest.raises(BadInputError, match="denoising preset own keeps frequencies up to 0.3"):
        cleaned(inputs, found, tmp_path / "clean", {"name": "own", "band": [0.01, 0.3]})


def test_files_of_another_series(inputs, found, tmp_path):
    save(np.ones((*SHAPE, 9), np.float32), AFFINE, inputs["bold_file"])
    with pytest.raises(BadInputError, match="use files of the same run"):
        cleaned(inputs, found, tmp_path / "clean", read_preset("calsnic"))
    with pytest.raises(BadInputError, match="the BOLD series has 9 volumes, but motion"):
        run(FindConfounds(), tmp_path / "again", **inputs)
