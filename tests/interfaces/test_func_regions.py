"""Files of tissue, regions and seeds: from a head and a turned BOLD grid to masks and tables."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from alsflow.interfaces.atlas import Atlas, Label
from alsflow.interfaces.func_regions import PlaceSeeds, TissueOnBold, seed_inputs
from alsflow.interfaces.images import load, save
from alsflow.interfaces.warps import save_warp
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import apply_affine, grid_points

HEAD_SHAPE = (60, 68, 50)
HEAD = np.diag([1.0, 1.0, 1.2, 1.0])
HEAD[:3, 3] = (-29.5, -33.5, -29.4)
SHIFT = (4.0, -3.0, 2.0)  # template = head + SHIFT
SHAPE = (17, 19, 15)
NAMES = {3: "Left_A", 7: "Right_A", 9: "Stem"}
SIDES = {3: "left", 7: "right", 9: ""}
REGIONS = {"precentral": {"left": [3], "right": [7]}, "striatum": {"left": [9], "right": []}}


@pytest.fixture
def files(tmp_path):
    """Two grey halves of a block, left and right, white below them; a turned BOLD grid."""
    x, y, z = grid_points(HEAD_SHAPE, HEAD)
    block = (abs(x) < 20) & (abs(y) < 22)
    gm = (block & (z > -10) & (z < 14)).astype(np.float32)
    wm = (block & (z <= -10) & (z > -24)).astype(np.float32)
    parts = {"gm": gm, "wm": wm, "csf": 0 * gm, "brain": gm + wm}
    for name, data in parts.items():
        save(data, HEAD, tmp_path / f"{name}.nii.gz")
    labels = np.where(gm + wm > 0, np.where(x < 0, 3, 7), 0)
    save(labels.astype(np.int16), HEAD, tmp_path / "labels.nii.gz")
    save_warp(grid_points(HEAD_SHAPE, HEAD) + np.reshape(SHIFT, (3, 1, 1, 1)).astype(np.float32),
              HEAD, tmp_path / "xfm.nii.gz")  # fmt: skip
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [5, -8, 11], degrees=True).as_matrix()
    matrix[:3, 3] = (1, 2, -3)
    affine = np.linalg.inv(matrix)
    affine[:3, :3] = affine[:3, :3] @ Rotation.from_euler("x", 9, degrees=True).as_matrix()
    affine[:3, :3] *= (3.0, 3.2, 3.6)
    affine[:3, 3] = apply_affine(np.linalg.inv(matrix), np.zeros(3))
    affine[:3, 3] -= affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    np.savetxt(tmp_path / "matrix.txt", matrix)
    seen = np.ones(SHAPE, np.uint8)
    seen[:3] = 0
    save(seen, affine, tmp_path / "seen.nii.gz")
    save(seen, affine, tmp_path / "mask.nii.gz")
    return tmp_path


def path(files, name):
    return str(files / name)


def place(files, **changes):
    inputs = {
        "reference_file": path(files, "seen.nii.gz"), "matrix_file": path(files, "matrix.txt"),
        "mask_file": path(files, "mask.nii.gz"), "gm_file": path(files, "gm.nii.gz"),
        "labels_file": path(files, "labels.nii.gz"),
        "to_template_file": path(files, "xfm.nii.gz"),
        "names": NAMES, "label_sides": SIDES, "regions": REGIONS,
    } | changes  # fmt: skip
    return PlaceSeeds(**inputs).run(cwd=str(files)).outputs


def table(file):
    return pd.read_csv(file, sep="\t", keep_default_na=False)


def in_head(file):
    image = nib.load(file)
    matrix = np.loadtxt(file.parent / "matrix.txt")
    return apply_affine(matrix @ image.affine, np.indices(image.shape[:3]).astype(float))


def test_tissue_and_mask_of_the_bold_grid(files):
    inputs = {
        f"{n}_file": path(files, f"{n}.nii.gz") for n in ("gm", "wm", "csf", "brain", "seen")
    }
    rough = np.ones(SHAPE, np.uint8)
    rough[:, :5] = 0
    save(rough, nib.load(files / "seen.nii.gz").affine, files / "rough.nii.gz")
    node = TissueOnBold(reference_file=path(files, "seen.nii.gz"),
                        matrix_file=path(files, "matrix.txt"), **inputs)  # fmt: skip
    outputs = node.run(cwd=str(files)).outputs
    tissue, image = load(outputs.tissue_file)
    assert tissue.shape == (*SHAPE, 3)
    np.testing.assert_allclose(image.affine, nib.load(files / "seen.nii.gz").affine, atol=1e-5)
    x, y, z = in_head(files / "seen.nii.gz")
    deep = (abs(x) < 15) & (abs(y) < 17)
    np.testing.assert_allclose(tissue[deep & (z > -5) & (z < 9), 0], 1, atol=1e-5)
    np.testing.assert_allclose(tissue[deep & (z < -15) & (z > -19), 1], 1, atol=1e-5)
    mask = load(outputs.mask_file)[0] > 0
    assert not mask[:3].any()
    assert mask[3:][(deep & (abs(z) < 8))[3:]].all()
    node.inputs.mask_file = path(files, "rough.nii.gz")
    again = load(node.run(cwd=str(files)).outputs.mask_file)[0] > 0
    np.testing.assert_array_equal(again, mask & (rough > 0))


def test_seeds_and_regions_are_where_the_head_has_them(files):
    outputs = place(files)
    seeds, groups = table(outputs.seeds_table_file), table(outputs.groups_table_file)
    assert seeds["name"].tolist() == ["precentralLeft", "precentralRight", "precentral"]
    assert seeds["volume"].tolist() == [0, 1, 2]
    masks = load(outputs.seeds_file)[0] > 0
    x, _, z = in_head(files / "seen.nii.gz")
    for volume, sign in ((0, -1), (1, 1)):
        here = masks[..., volume]
        assert here.sum() == seeds["n_voxels"][volume] > 100
        assert (sign * x[here] > -0.1).all()
        assert (z[here] > -10.5).all()
        assert (z[here] < 14.5).all()
    assert not masks[:3].any()
    assert masks[..., 2].sum() >= masks[..., :2].any(axis=-1).sum()
    assert list(zip(groups["name"], groups["side"], strict=True)) == [
        (region, side) for region in REGIONS for side in ("left", "right", "both")
    ]
    assert groups["reason"].tolist()[:3] == ["", "", ""]
    assert groups["reason"][3] == "the left striatum has no grey matter in the T1-weighted image"
    assert groups["reason"][4] == "the right striatum has no grey matter in the T1-weighted image"
    labels = load(outputs.regions_file, np.int32)[0]
    np.testing.assert_array_equal(labels == 3, masks[..., 0])
    assert table(outputs.regions_table_file)["n_voxels"].tolist() == [
        int((labels == 3).sum()), int((labels == 7).sum()), 0,
    ]  # fmt: skip
    info = json.loads((files / "seeds.json").read_text())
    assert info["motor_coverage"] == pytest.approx(float(groups["coverage"][2]), abs=1e-3)
    assert info["notes"] == []


def test_a_sphere_and_the_mask_of_it_agree(files):
    x, y, z = grid_points(HEAD_SHAPE, HEAD) + np.reshape(SHIFT, (3, 1, 1, 1))
    ball = (x - 6) ** 2 + (y - 2) ** 2 + (z - 5) ** 2 < 81
    shifted = HEAD.copy()
    shifted[:3, 3] += SHIFT
    save(ball.astype(np.uint8), shifted, files / "ball.nii.gz")
    seeds = [
        {"name": "sphere", "kind": "sphere", "centre": [6, 2, 5], "radius": 9},
        {"name": "mask", "kind": "mask", "file": path(files, "ball.nii.gz"), "space": "template"},
        {"name": "labels", "kind": "labels", "labels": [3, 7]},
        {"name": "small", "kind": "sphere", "centre": [6, 2, 5], "radius": 2},
        {"name": "away", "kind": "sphere", "centre": [150, 2, 5], "radius": 9},
    ]
    outputs = place(files, seeds=seeds)
    masks = load(outputs.seeds_file)[0] > 0
    rows = table(outputs.seeds_table_file)
    assert rows["n_voxels"][0] > 50
    assert (masks[..., 0] != masks[..., 1]).sum() < 0.1 * rows["n_voxels"][0]
    assert "the seed small has" in rows["reason"][3]
    assert rows["reason"][4].startswith("the seed away has 0 voxels")
    notes = json.loads((files / "seeds.json").read_text())["notes"]
    assert [note.split(" is ")[0] for note in notes] == ["the seed small", "the seed away"]


def test_the_mrs_voxel_may_come_later(files):
    seeds = [{"name": "mrs", "kind": "voxel"}]
    outputs = place(files, seeds=seeds)
    assert table(outputs.seeds_table_file)["reason"].tolist() == ["no MRS voxel"]
    assert json.loads((files / "seeds.json").read_text())["notes"] == []
    x, y, z = grid_points(HEAD_SHAPE, HEAD)
    box = (abs(x + 8) < 10) & (abs(y) < 10) & (abs(z + 6) < 12)  # half of it is white
    save(box.astype(np.uint8), HEAD, files / "voxel.nii.gz")
    outputs = place(files, seeds=seeds, mrs_voxel_file=path(files, "voxel.nii.gz"))
    here = load(outputs.seeds_file)[0] > 0
    here = here.reshape(SHAPE)
    x, y, z = in_head(files / "seen.nii.gz")
    assert here.sum() > 50
    assert (z[here] > -10.5).all()
    assert (abs(x[here] + 8) < 10.5).all()


def test_an_mrs_voxel_of_white_matter_alone_is_a_seed_that_is_not_available(files):
    x, y, z = grid_points(HEAD_SHAPE, HEAD)
    box = (abs(x) < 10) & (abs(y) < 10) & (z < -12) & (z > -22)
    save(box.astype(np.uint8), HEAD, files / "voxel.nii.gz")
    voxel = path(files, "voxel.nii.gz")
    outputs = place(files, seeds=[{"name": "mrsVoxel", "kind": "voxel"}], mrs_voxel_file=voxel)
    reason = table(outputs.seeds_table_file)["reason"].item()
    assert reason.startswith("the seed mrsVoxel has 0 voxels in the field of view")
    notes = json.loads((files / "seeds.json").read_text())["notes"]
    assert notes == [f"the seed mrsVoxel is not available: {reason}"]
    assert not load(outputs.seeds_file)[0].any()


def test_refusals_name_the_seed_or_its_file(files):
    wrong = np.zeros((5, 6, 7), np.float32)
    save(wrong, HEAD, files / "empty.nii.gz")
    seed = {"name": "own", "kind": "mask", "space": "T1w", "file": path(files, "empty.nii.gz")}
    with pytest.raises(BadInputError, match=r"^empty.nii.gz holds no voxel"):
        place(files, seeds=[seed])
    with pytest.raises(BadInputError, match="The seed 'a' asks for the region 'motor'"):
        place(files, seeds=[{"name": "a", "kind": "region", "region": "motor"}])
    far = HEAD.copy()
    far[2, 3] = 500
    save(wrong + 1, far, files / "empty.nii.gz")
    with pytest.raises(BadInputError, match=r"^empty.nii.gz does not meet the grey matter"):
        place(files, seeds=[seed])
    with pytest.raises(BadInputError, match=r"^empty.nii.gz lies at .* outside any head"):
        place(files, seeds=[seed | {"space": "template"}])
    with pytest.raises(BadInputError, match="label 5"):
        place(files, seeds=[{"name": "a", "kind": "labels", "labels": [5]}])


def test_seeds_are_refused_before_anything_runs(files):
    labels = tuple(Label(index, name, SIDES[index]) for index, name in NAMES.items())
    regions = {region: {side: tuple(members) for side, members in sides.items()}
               for region, sides in REGIONS.items()}  # fmt: skip
    atlas = Atlas("own", "", "labels", "IXI549Space", files, labels, regions, "", "", "", "")
    ball = np.zeros((5, 6, 7), np.uint8)
    ball[2, 3, 4] = 1
    save(ball, HEAD, files / "ball.nii.gz")
    row = {"name": "own", "kind": "mask", "space": "template", "file": path(files, "ball.nii.gz")}
    assert seed_inputs([row], atlas) == {
        "seeds": [row], "mask_files": [row["file"]], "names": NAMES, "label_sides": SIDES,
        "regions": REGIONS,
    }  # fmt: skip
    with pytest.raises(BadInputError, match="'own' names .*away.nii, which does not exist"):
        seed_inputs([row | {"file": path(files, "away.nii")}], atlas)
    far = HEAD.copy()
    far[2, 3] = 500  # where a scanner may well have put the head
    save(ball, far, files / "ball.nii.gz")
    assert seed_inputs([row | {"space": "T1w"}], atlas)["mask_files"] == [row["file"]]
    with pytest.raises(BadInputError, match="outside any head"):
        seed_inputs([row], atlas)
    save(0 * ball, HEAD, files / "ball.nii.gz")
    with pytest.raises(BadInputError, match=r"^ball.nii.gz holds no voxel"):
        seed_inputs([row], atlas)
    with pytest.raises(BadInputError, match="region 'motor'"):
        seed_inputs([{"name": "a", "kind": "region", "region": "motor"}], atlas)


def test_a_changed_mask_is_another_input(files):
    ball = np.zeros((5, 6, 7), np.uint8)
    hashes = []
    for place_of in ((2, 3, 4), (2, 3, 5)):
        ball[:] = 0
        ball[place_of] = 1
        file = save(ball, HEAD, files / "ball.nii.gz")
        node = PlaceSeeds(mask_files=[file])
        hashes.append(node.inputs.get_hashval(hash_method="content")[1])
    assert hashes[0] != hashes[1]
