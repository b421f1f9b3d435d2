"""The pictures as files."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from alsflow.interfaces.images import save
from alsflow.interfaces.report import DrawAnatomy, require_same_grid
from alsflow.interfaces.template import template_file
from alsflow.nodes.errors import BadInputError

NAMES = ("outline_file", "tissue_file", "atlas_file", "template_file")


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    """Files of a person who is the template on a 2 mm grid, with noise."""
    folder = tmp_path_factory.mktemp("person")
    grid = nib.load(template_file("t1"))
    affine = grid.affine @ np.diag([2, 2, 2, 1.0])
    t1, gm, wm = (
        np.asanyarray(nib.load(template_file(kind)).dataobj)[::2, ::2, ::2].astype(np.float32)
        for kind in ("t1", "gm", "wm")
    )
    mask = t1 > 0
    gm, wm = gm / 255, wm / 255
    rng = np.random.default_rng(3)
    noisy = t1 + rng.normal(0, 0.03 * t1.max(), t1.shape)
    labels = np.where(gm > 0.5, np.where(np.arange(t1.shape[0])[:, None, None] > 50, 7, 4), 0)
    volumes = {"t1w": noisy, "mask": mask, "gm": gm, "wm": wm, "warped": t1,
               "csf": np.clip(mask - gm - wm, 0, 1), "atlas": labels.astype(np.int16)}  # fmt: skip
    paths = {f"{name}_file": save(data, affine, folder / f"{name}.nii.gz")
             for name, data in volumes.items()}  # fmt: skip
    paths["template_gm_file"], paths["template_wm_file"] = paths["gm_file"], paths["wm_file"]
    return paths | {"regions": {"grey matter": [4, 7]}}


def run(inputs, folder, monkeypatch):
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    outputs = DrawAnatomy(**inputs).run(cwd=str(folder)).outputs
    return {name: getattr(outputs, name) for name in NAMES}


def test_four_small_pictures_with_the_same_bytes_each_time(person, tmp_path, monkeypatch):
    first = run(person, tmp_path / "a", monkeypatch)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    second = run(person, tmp_path / "b", monkeypatch)
    for name in NAMES:
        data = Path(first[name]).read_bytes()
        assert data == Path(second[name]).read_bytes()
        assert len(data) < 300_000
        picture = Image.open(first[name])
        assert picture.format == "PNG"
        assert not picture.text
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 20


def test_a_second_atlas_for_deep_regions(person, tmp_path, monkeypatch):
    deep = {"deep_atlas_file": person["atlas_file"], "deep_regions": {"deep": [7]}}
    one = run(person, tmp_path / "a", monkeypatch)
    two = run(person | deep, tmp_path / "b", monkeypatch)
    assert Path(one["atlas_file"]).read_bytes() != Path(two["atlas_file"]).read_bytes()
    assert Path(one["tissue_file"]).read_bytes() == Path(two["tissue_file"]).read_bytes()


def test_maps_of_another_grid_are_refused(person, tmp_path, monkeypatch):
    image = nib.load(person["gm_file"])
    shifted = image.affine.copy()
    shifted[0, 3] += 1
    other = save(image.get_fdata(), shifted, tmp_path / "gm.nii.gz")
    with pytest.raises(BadInputError, match="same grid"):
        run(person | {"gm_file": other}, tmp_path, monkeypatch)


def test_rounding_of_an_affine_is_no_other_grid():
    one = nib.Nifti1Image(np.zeros((200, 200, 200), np.uint8), np.eye(4))
    near, far = np.eye(4), np.eye(4)
    near[0, 1], far[0, 1] = 1e-5, 1e-3
    require_same_grid(one, nib.Nifti1Image(np.zeros((200, 200, 200), np.uint8), near))
    with pytest.raises(BadInputError):
        require_same_grid(one, nib.Nifti1Image(np.zeros((200, 200, 200), np.uint8), far))
    with pytest.raises(BadInputError):
        require_same_grid(one, nib.Nifti1Image(np.zeros((200, 200, 199), np.uint8), np.eye(4)))
