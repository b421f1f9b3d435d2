"""The diffusion pictures as files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from alsflow.interfaces.drawing import DrawRegistration
from alsflow.interfaces.images import save
from alsflow.interfaces.report_dwi import (
    MOTION,
    DrawMotion,
    DrawProfiles,
    DrawTensor,
    DrawTracts,
)
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import grid_points

SHAPE = (38, 44, 34)
AFFINE = np.diag([4.0, 4.2, 4.4, 1.0])
AFFINE[:3, 3] = -AFFINE[:3, :3] @ ((np.array(SHAPE) - 1) / 2)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, y, z = grid_points(SHAPE, AFFINE)
    mask = (x / 65) ** 2 + (y / 82) ** 2 + (z / 60) ** 2 < 1
    directions = rng.normal(size=(*SHAPE, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    volumes = {
        "fa": rng.uniform(0, 1, SHAPE), "md": rng.uniform(0, 2e-3, SHAPE), "mask": mask,
        "directions": directions, "tracts": np.stack([mask * (x < 0), mask * (x > 0)], axis=-1),
        "before": 100 * mask + rng.normal(0, 3, SHAPE), "gm": 0.3 * mask, "wm": 0.7 * mask,
    }  # fmt: skip
    paths = {name: save(np.float32(data), AFFINE, tmp_path / f"{name}.nii.gz")
             for name, data in volumes.items()}  # fmt: skip
    np.savetxt("rigid.txt", np.eye(4))
    motion = pd.DataFrame(rng.normal(size=(12, len(MOTION))), columns=list(MOTION))
    motion.loc[0, "framewise_displacement"] = np.nan
    motion.to_csv("motion.tsv", sep="\t", na_rep="n/a", index=False)
    profiles = pd.DataFrame({"tract": "a", "side": "left", "metric": "fa", "node": range(100),
                             "mean": 0.5, "sd": 0.1})  # fmt: skip
    profiles.to_csv("profiles.tsv", sep="\t", index=False)
    return (
        paths
        | {name: str(tmp_path / name) for name in ("motion.tsv", "profiles.tsv")}
        | {"rigid": str(tmp_path / "rigid.txt")}
    )


def drawings(files):
    return [
        DrawTensor(fa_file=files["fa"], md_file=files["md"], mask_file=files["mask"],
                   directions_file=files["directions"]),
        DrawTracts(fa_file=files["fa"], mask_file=files["mask"], tracts_file=files["tracts"],
                   names=["a L", "a R"]),
        DrawRegistration(before_file=files["before"], after_file=files["before"],
                       mask_file=files["mask"], gm_file=files["gm"], wm_file=files["wm"],
                       matrix_file=files["rigid"]),
        DrawMotion(motion_file=files["motion.tsv"]),
        DrawProfiles(profiles_file=files["profiles.tsv"]),
    ]  # fmt: skip


def test_small_pictures_with_the_same_bytes_each_time(files):
    sizes = {}
    runs = []
    for _ in range(2):
        found = {}
        for drawing in drawings(files):
            for name, path in drawing.run().outputs.get().items():
                found[name] = Path(path).read_bytes()
                picture = Image.open(path)
                assert picture.format == "PNG"
                assert not picture.text
                sizes[name] = len(found[name])
        runs.append(found)
    assert runs[0] == runs[1]
    assert set(sizes) == {
        "colour_file", "histogram_file", "tracts_file", "edges_file", "motion_file",
        "profiles_file",
    }  # fmt: skip
    assert all(2_000 < size < 300_000 for size in sizes.values()), sizes


def test_without_correction_there_is_one_row(files):
    common = {
        "before_file": files["before"], "mask_file": files["mask"], "gm_file": files["gm"],
        "wm_file": files["wm"], "matrix_file": files["rigid"],
    }  # fmt: skip
    one = Image.open(DrawRegistration(**common).run().outputs.edges_file).size
    two = Image.open(
        DrawRegistration(**common, after_file=files["before"]).run().outputs.edges_file
    ).size
    assert one[0] == two[0]
    assert one[1] < 0.6 * two[1]


def test_what_does_not_fit_is_refused(files):
    with pytest.raises(BadInputError, match="holds 2 tracts, and 1 names"):
        DrawTracts(fa_file=files["fa"], mask_file=files["mask"], tracts_file=files["tracts"],
                   names=["a L"]).run()  # fmt: skip
    Path("short.tsv").write_text("tract\tside\na\tleft\n")
    with pytest.raises(BadInputError, match="short.tsv has no column metric"):
        DrawProfiles(profiles_file=str(Path("short.tsv").resolve())).run()
    small = save(np.ones((5, 6, 7), np.float32), AFFINE, Path("small.nii.gz").resolve())
    with pytest.raises(BadInputError, match="same grid"):
        DrawTensor(fa_file=files["fa"], md_file=small, mask_file=files["mask"],
                   directions_file=files["directions"]).run()  # fmt: skip
