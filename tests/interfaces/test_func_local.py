"""Local measures as files: what is written, what is not and why, what is refused."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from alsflow.interfaces.func_local import MeasureAlff, MeasureReho, RegionMeans
from alsflow.interfaces.images import save
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.alff import measure_alff, standardised
from alsflow.nodes.func.reho import measure_reho

SHAPE, TR = (7, 8, 9), 2.0
VOLUMES = (160, 100)
N = sum(VOLUMES)
AFFINE = np.array([[3, 0.2, 0, -9], [-0.2, 3.1, 0, 4], [0, 0, 3.6, 7], [0, 0, 0, 1.0]])


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    mask = np.ones(SHAPE, bool)
    mask[0] = mask[:, :, -1] = False
    series = rng.normal(0, 5, (*SHAPE, N)).astype(np.float32)
    series[3, 3, 3] = 0  # does not vary
    kept = np.ones(N, int)
    kept[[5, 6, 170]] = 0
    pd.DataFrame({"kept": kept}).to_csv("kept.tsv", sep="\t", index=False)
    info = {"runs": ["a", "b"], "volumes": list(VOLUMES), "dropped": [4, 4], "tr": TR, "notes": []}
    Path("load.json").write_text(json.dumps(info))
    Path("denoise.json").write_text(json.dumps({"done": False, "reason": "26 are left"}))
    groups = np.zeros((*SHAPE, 2), np.uint8)
    groups[2:4, 2:5, 2:5, 0] = 1
    groups[5, 2, 2, 1] = 1
    pd.DataFrame({"volume": [0, 1], "name": "precentral", "side": ["left", "right"],
                  "reason": ["", ""]}).to_csv("groups.tsv", sep="\t", index=False)  # fmt: skip
    for name, data in (("mask", mask), ("series", series), ("groups", groups),
                       ("few", series[..., kept > 0]), ("odd", series[..., :50])):  # fmt: skip
        save(data, AFFINE, tmp_path / f"{name}.nii")
    return {"series": series, "mask": mask, "kept": kept > 0, "groups": groups > 0}


def at(*names):
    return {key: str(Path(name).resolve()) for key, name in
            (pair.split("=") for pair in names)}  # fmt: skip


COMMON = ("mask_file=mask.nii", "load_info_file=load.json")


def test_alff_maps_are_those_of_the_node(files):
    out = MeasureAlff(**at(*COMMON, "unfiltered_file=series.nii")).run().outputs
    mask = files["mask"]
    expected = measure_alff(files["series"][mask], np.ones(N, bool),
                            np.repeat([0, 1], VOLUMES), TR)  # fmt: skip
    for name in ("alff", "falff"):
        raw, z = (nib.load(getattr(out, f"{name}{end}_file")) for end in ("_raw", ""))
        values = getattr(expected, name)
        np.testing.assert_allclose(raw.get_fdata()[mask], values, rtol=1e-5)
        np.testing.assert_allclose(z.get_fdata()[mask], standardised(values), atol=1e-5)
        assert (z.get_fdata()[~mask] == 0).all()
        np.testing.assert_allclose(z.affine, AFFINE, atol=1e-5)
        assert np.isnan(z.get_fdata()[3, 3, 3])
    info = json.loads(Path(out.info_file).read_text())
    assert info["done"] is True
    assert info["runs"] == ["a", "b"]
    assert info["voxels_without_value"] == 1
    assert info["alff_mean"] == pytest.approx(np.nanmean(expected.alff))
    assert "run 2 lasts 200 s" in info["notes"][0]


@pytest.mark.parametrize("stored", ["series", "few"])
def test_censored_volumes_may_be_there_or_gone(files, stored):
    given = at(*COMMON, "kept_file=kept.tsv")
    alff = MeasureAlff(**given, **at(f"unfiltered_file={stored}.nii")).run().outputs
    reho = MeasureReho(**given, **at(f"denoised_file={stored}.nii")).run().outputs
    runs, kept, mask = np.repeat([0, 1], VOLUMES), files["kept"], files["mask"]
    expected = measure_alff(files["series"][mask], kept, runs, TR).alff
    found = nib.load(alff.alff_raw_file).get_fdata()[mask]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    w, count = measure_reho(files["series"][..., kept], mask, runs[kept])
    found = nib.load(reho.reho_raw_file).get_fdata()
    np.testing.assert_allclose(found[mask], w[mask], rtol=1e-6)
    assert (found[~mask] == 0).all()
    info = json.loads(Path(reho.info_file).read_text())
    assert info["neighbours"] == 27
    assert info["voxels"] == np.isfinite(w).sum()
    assert info["voxels_with_all_neighbours"] == (count == 27).sum() > 0


def test_without_a_series_there_is_the_reason_alone(files):
    given = at(*COMMON, "denoise_info_file=denoise.json")
    for interface in (MeasureAlff, MeasureReho):
        out = interface(**given).run().outputs.get()
        info = json.loads(Path(out.pop("info_file")).read_text())
        assert info == {"done": False, "reason": "26 are left"}
        assert not any(isinstance(value, str) for value in out.values())
    bare = MeasureReho(**at(*COMMON)).run().outputs
    assert json.loads(Path(bare.info_file).read_text())["reason"] == "the series was not denoised"


def test_a_run_too_short_is_a_reason_and_no_error(files):
    info = {"runs": ["a"], "volumes": [N], "tr": 0.3}
    Path("load.json").write_text(json.dumps(info))
    out = MeasureAlff(**at(*COMMON, "unfiltered_file=series.nii")).run().outputs
    found = json.loads(Path(out.info_file).read_text())
    assert found["done"] is False
    assert "lasts 78 s, less than one wave" in found["reason"]


def test_means_of_regions_and_their_reasons(files):
    z = np.zeros(SHAPE, np.float32)
    z[files["groups"][..., 0]] = np.arange(18)
    path = save(z, AFFINE, Path("z.nii").resolve())
    Path("alff.json").write_text(json.dumps({"done": False, "reason": "26 are left"}))
    given = at(
        "groups_file=groups.nii", "groups_table_file=groups.tsv", "alff_info_file=alff.json"
    )
    out = RegionMeans(reho_file=path, **given).run().outputs
    table = pd.read_csv(out.means_file, sep="\t", na_values="n/a", keep_default_na=False)
    assert list(table["metric"]) == ["alff"] * 2 + ["falff"] * 2 + ["reho"] * 2
    assert (table["reason"][:4] == "26 are left").all()
    assert table["value"][:4].isna().all()
    assert table["value"][4] == pytest.approx(8.5)
    assert table["reason"][5] == "1 voxels have a value, fewer than 5"


def test_what_does_not_fit_is_refused(files):
    with pytest.raises(BadInputError, match="odd.nii has 50 volumes where 260 were loaded"):
        MeasureReho(**at(*COMMON, "denoised_file=odd.nii")).run()
    pd.DataFrame({"kept": [1, 0]}).to_csv("kept.tsv", sep="\t", index=False)
    with pytest.raises(BadInputError, match="kept.tsv does not say for each of 260 volumes"):
        MeasureReho(**at(*COMMON, "denoised_file=series.nii", "kept_file=kept.tsv")).run()
    with pytest.raises(BadInputError, match="the functional series cannot be measured up to 0.3"):
        MeasureAlff(**at(*COMMON, "unfiltered_file=series.nii"), band=(0.01, 0.3)).run()
    save(np.ones((5, 5, 5), bool), AFFINE, Path("mask.nii").resolve())
    with pytest.raises(BadInputError, match="same grid"):
        MeasureReho(**at(*COMMON, "denoised_file=series.nii")).run()
