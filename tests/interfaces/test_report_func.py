"""The functional pictures as files."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from alsflow.interfaces.drawing import DrawRegistration
from alsflow.interfaces.images import save
from alsflow.interfaces.report_func import (
    TRACES,
    DrawCarpet,
    DrawConnectivity,
    DrawLocal,
    DrawMatrix,
    DrawSeeds,
    DrawTsnr,
)
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import grid_points
from alsflow.nodes.report.functional_charts import CENSORED

SHAPE, N = (36, 42, 30), 24
AFFINE = np.diag([4.0, 4.2, 4.4, 1.0])
AFFINE[:3, 3] = -AFFINE[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
KEPT = np.arange(N) % 7 != 3


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Paths by file name, as every interface takes them."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, y, z = grid_points(SHAPE, AFFINE)
    mask = (x / 65) ** 2 + (y / 82) ** 2 + (z / 60) ** 2 < 1
    tissue = np.stack([mask & (z > 10), mask & (np.abs(z) <= 10), mask & (z < -10)], -1)
    seeds = np.stack([mask & (x < -30), mask & (x > 30), np.zeros(SHAPE, bool)], -1)
    maps = np.where(mask, 0.5 * np.sign(x), 0)[..., None].repeat(3, -1)
    maps[..., 2] = np.nan
    series = 100 + rng.normal(0, 5, (*SHAPE, N))
    volumes = {
        "mean": 100 * mask + rng.normal(0, 3, SHAPE), "mask": mask, "tissue": tissue,
        "seeds": seeds, "z": maps, "tsnr": 50.0 * mask, "bold": series, "denoised": series - 100,
        "few": series[..., KEPT], "gm": 0.3 * mask, "wm": 0.7 * mask,
        "regions": np.where(z > 40, 7, 0), "one": seeds[..., 0],
    }  # fmt: skip
    for name, data in volumes.items():
        save(np.float32(data), AFFINE, tmp_path / f"{name}.nii")
    np.savetxt("rigid.txt", np.eye(4))
    Path("load.json").write_text(json.dumps({"tr": 2.0, "volumes": [N], "runs": ["a"]}))
    traces = pd.DataFrame(rng.normal(size=(N, len(TRACES))), columns=list(TRACES))
    traces["run"], traces["motion_outlier"] = 0, 0
    traces.loc[0, ["framewise_displacement", "std_dvars"]] = np.nan
    names = ["Left_Thalamus_Proper", "Right_Putamen", "Brain_Stem"]
    matrix = pd.DataFrame(np.eye(3) / 2 + 0.1, columns=names)
    matrix.insert(0, "name", names)
    tables = {
        "confounds": traces, "kept": pd.DataFrame({"kept": KEPT.astype(int)}), "relmat": matrix,
        "seeds": pd.DataFrame({"volume": [0, 1, 2], "name": ["L", "R", "none"]}),
        "labels": pd.DataFrame({"index": [7, 8, 9], "name": names,
                                "side": ["left", "right", ""]}),
    }  # fmt: skip
    for name, table in tables.items():
        table.to_csv(f"{name}.tsv", sep="\t", na_rep="n/a", index=False)
    return {path.name: str(path) for path in tmp_path.iterdir()}


def carpet(files, **more):
    return DrawCarpet(
        bold_file=files["bold.nii"], tissue_file=files["tissue.nii"], mask_file=files["mask.nii"],
        confounds_file=files["confounds.tsv"], load_info_file=files["load.json"],
        regions_file=files["regions.nii"], regions_table_file=files["labels.tsv"], **more,
    )  # fmt: skip


def on_mean(files):
    return {"mean_file": files["mean.nii"], "mask_file": files["mask.nii"],
            "seeds_file": files["seeds.nii"], "seeds_table_file": files["seeds.tsv"]}  # fmt: skip


def drawings(files):
    return [
        carpet(files, denoised_file=files["denoised.nii"]),
        DrawRegistration(before_file=files["mean.nii"], after_file=files["mean.nii"],
                         mask_file=files["mask.nii"], gm_file=files["gm.nii"],
                         wm_file=files["wm.nii"], matrix_file=files["rigid.txt"]),
        DrawSeeds(**on_mean(files)),
        DrawConnectivity(**on_mean(files), z_file=files["z.nii"]),
        DrawMatrix(relmat_file=files["relmat.tsv"], regions_table_file=files["labels.tsv"]),
        DrawTsnr(tsnr_file=files["tsnr.nii"], mask_file=files["mask.nii"]),
        DrawLocal(mean_file=files["mean.nii"], mask_file=files["mask.nii"],
                  reho_file=files["tsnr.nii"]),
    ]  # fmt: skip


def test_small_pictures_with_the_same_bytes_each_time(files):
    runs = []
    for _ in range(2):
        found = {}
        for drawing in drawings(files):
            outputs = drawing.run().outputs.get()
            names = outputs.pop("names", None)
            assert names in (None, ["L", "R"])  # a seed without voxels has no picture
            for value in outputs.values():
                for path in value if isinstance(value, list) else [value]:
                    picture = Image.open(path)
                    assert picture.format == "PNG"
                    assert not picture.text
                    assert 700 <= picture.size[0] <= 1500
                    found[Path(path).name] = Path(path).read_bytes()
        runs.append(found)
    assert runs[0] == runs[1]
    assert set(runs[0]) == {"carpet.png", "edges.png", "seeds.png", "L.png", "R.png",
                            "matrix.png", "tsnr.png", "local.png"}  # fmt: skip
    sizes = {name: len(data) for name, data in runs[0].items()}
    assert all(2_000 < size < 300_000 for size in sizes.values()), sizes
    assert runs[0]["L.png"] != runs[0]["R.png"]


def test_without_denoising_the_carpet_is_shorter_and_there_are_no_maps(files):
    both = Image.open(carpet(files, denoised_file=files["denoised.nii"]).run().outputs.carpet_file)
    alone = Image.open(carpet(files).run().outputs.carpet_file)
    assert alone.size[0] == both.size[0]
    assert alone.size[1] < 0.8 * both.size[1]
    for drawing in (DrawConnectivity(**on_mean(files)),
                    DrawLocal(mean_file=files["mean.nii"], mask_file=files["mask.nii"]),
                    DrawMatrix(regions_table_file=files["labels.tsv"])):  # fmt: skip
        outputs = drawing.run().outputs.get()
        assert not any(isinstance(value, (str, list)) for value in outputs.values())


@pytest.mark.parametrize("stored", ["bold", "few"])
def test_censored_volumes_are_blank_whichever_way_the_series_is_stored(files, stored):
    """`few` holds the kept volumes of `bold` alone."""
    drawing = carpet(files, denoised_file=files[f"{stored}.nii"], kept_file=files["kept.tsv"])
    before, after = (axes.images[0].get_array()
                     for axes in drawing._figures()["carpet"].axes[-2:])  # fmt: skip
    blank = (np.abs(after - np.array(to_rgb(CENSORED))) < 1e-6).all(axis=(0, 2))
    np.testing.assert_array_equal(blank, ~KEPT)
    # the same series before and after, but for the volumes left out of its line
    np.testing.assert_allclose(after[:, KEPT], before[:, KEPT], atol=0.25)


def test_one_seed_needs_no_fourth_axis(files):
    Path("single.tsv").write_text("volume\tname\n0\tL\n")
    given = on_mean(files) | {"seeds_file": files["one.nii"],
                              "seeds_table_file": str(Path("single.tsv").resolve())}  # fmt: skip
    outputs = DrawConnectivity(**given, z_file=files["tsnr.nii"]).run().outputs
    assert outputs.names == ["L"]
    assert Path(DrawSeeds(**given).run().outputs.seeds_file).exists()


def test_what_does_not_fit_is_refused(files):
    short = pd.read_csv(files["confounds.tsv"], sep="\t").iloc[:-1]
    short.to_csv(files["confounds.tsv"], sep="\t", index=False, na_rep="n/a")
    with pytest.raises(BadInputError, match="confounds.tsv has 23 rows for 24 volumes"):
        carpet(files).run()
    short.drop(columns="std_dvars").to_csv(files["confounds.tsv"], sep="\t", index=False)
    with pytest.raises(BadInputError, match="confounds.tsv has no column std_dvars"):
        carpet(files).run()
    with pytest.raises(BadInputError, match="kept.tsv has no column volume, name"):
        DrawSeeds(**on_mean(files) | {"seeds_table_file": files["kept.tsv"]}).run()
    save(np.ones((5, 6, 7)), AFFINE, files["mask.nii"])
    with pytest.raises(BadInputError, match="same grid"):
        DrawTsnr(tsnr_file=files["tsnr.nii"], mask_file=files["mask.nii"]).run()
