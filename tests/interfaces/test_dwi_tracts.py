"""Files of the tract measures, from an atlas of boxes to tables."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from alsflow.interfaces import coregister
from alsflow.interfaces.atlas import find_atlas
from alsflow.interfaces.coregister import Coregister
from alsflow.interfaces.dwi_tracts import (
    MeasureTracts,
    WarpTracts,
    atlas_masks,
    label_groups,
)
from alsflow.interfaces.images import save
from alsflow.interfaces.warps import load_warp, save_warp
from alsflow.nodes.anat.quality import Flag
from alsflow.nodes.epi.coregister import Coregistration
from alsflow.nodes.geometry import apply_affine, grid_points

NAMES = {0: "Cord_L", 1: "Cord_R", 2: "Bridge", 3: "Lost_L", 4: "Lost_R"}
SIDES = {0: "left", 1: "right", 2: "", 3: "left", 4: "right"}
REGIONS = {"corticospinal_tract": {"left": [0], "right": [1]}}
TRACTS = ["corticospinal_tract", "corticostriatal_tract"]


def boxes(x, y, z):
    """A cord on either side, a bridge between them, and a pair far below."""
    inner = (abs(y) < 6) & (abs(z) < 20)
    return [
        inner & (x < -5) & (x > -17), inner & (x > 5) & (x < 17), (abs(y) < 6) & (abs(x) < 8)
        & (abs(z) < 6), (x < -3) & (z < -26) & (abs(y) < 8), (x > 3) & (z < -26) & (abs(y) < 8),
    ]  # fmt: skip


@pytest.fixture
def files(tmp_path):
    """An atlas in LPS order, a head whose map to it is a shift, a turned diffusion series."""
    atlas_affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    atlas_affine[:3, 3] = (25, 20, -34)
    masks = boxes(*grid_points((51, 41, 69), atlas_affine))
    save(np.stack(masks, -1).astype(np.uint8), atlas_affine, tmp_path / "atlas.nii.gz")
    head_affine = np.diag([2.0, 2.0, 2.0, 1.0])
    head_affine[:3, 3] = (-30, -30, -40)
    head = grid_points((36, 34, 40), head_affine)
    save_warp(head - np.reshape((4, 2, 0), (3, 1, 1, 1)), head_affine, tmp_path / "xfm.nii.gz")
    matrix = np.eye(4)
    matrix[:3, :3] = [[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]
    matrix[:3, 3] = (1, 2, 3)
    # three quarters of the cords are above z = -10 of the head
    affine = np.linalg.inv(matrix) @ np.diag([2.0, 2.0, 2.5, 1.0])
    affine[:3, 3] = apply_affine(np.linalg.inv(matrix), np.array([-26.0, -24.0, -8.75]))
    shape = (28, 26, 14)
    template = apply_affine(matrix, grid_points(shape, affine)) - np.reshape((4, 2, 0), (3, 1, 1, 1))  # fmt: skip  # noqa: E501
    save(np.where(template[0] < 0, 0.6, 0.4), affine, tmp_path / "fa.nii.gz")
    for name, value in (("md", 7e-4), ("ad", 12e-4), ("rd", 4.5e-4), ("mask", 1)):
        save(np.full(shape, value, np.float32), affine, tmp_path / f"{name}.nii.gz")
    csf = (head[0] - 4 > 11).astype(np.float32)  # half of the right cord
    save(csf, head_affine, tmp_path / "csf.nii.gz")
    np.savetxt(tmp_path / "matrix.txt", matrix)
    return tmp_path


def settings(files, **changes):
    return {
        "matrix_file": str(files / "matrix.txt"), "to_template_file": str(files / "xfm.nii.gz"),
        "atlas_file": str(files / "atlas.nii.gz"), "kind": "masks4d",
        "space": "MNI152NLin2009aSym", "regions": REGIONS,
    } | changes  # fmt: skip


def run(files, **changes):
    warp = WarpTracts(reference_file=str(files / "fa.nii.gz"), **settings(files))
    points = warp.run(cwd=str(files)).outputs.points_file
    maps = {f"{n}_file": str(files / f"{n}.nii.gz") for n in ("fa", "md", "ad", "rd", "mask")}
    measure = MeasureTracts(
        points_file=points, names=NAMES, label_sides=SIDES, tracts=TRACTS,
        **maps, **settings(files, **changes),
    )  # fmt: skip
    outputs = measure.run(cwd=str(files)).outputs
    return {
        name: pd.read_csv(getattr(outputs, f"{name}_file"), sep="\t")
        for name in ("tracts", "all_tracts", "profiles", "overlap")
    }


def rows(table, **wanted):
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


def test_weights_lie_where_the_chain_of_maps_puts_them(files):
    warp = WarpTracts(reference_file=str(files / "fa.nii.gz"), **settings(files))
    outputs = warp.run(cwd=str(files)).outputs
    names = pd.read_csv(outputs.names_file, sep="\t")
    assert names.to_numpy().tolist() == [
        [0, "corticospinal_tract", "left"],
        [1, "corticospinal_tract", "right"],
    ]
    weights = nib.load(outputs.weights_file)
    assert weights.shape == (28, 26, 14, 2)
    points, affine = load_warp(outputs.points_file)
    np.testing.assert_allclose(affine, nib.load(files / "fa.nii.gz").affine, atol=1e-5)
    inside = weights.get_fdata()[..., 0] > 0.99
    assert inside.sum() > 100
    x, y, z = points[:, inside]
    assert (abs(x + 11) < 6.5).all()
    assert (abs(y) < 6.5).all()
    assert (abs(z) < 20.5).all()


def test_the_tables_hold_what_was_put_in(files):
    tables = run(files)
    tracts = tables["tracts"]
    fa = rows(tracts, tract="corticospinal_tract", metric="fa").set_index("side")
    assert fa.loc["left", "mean"] == pytest.approx(0.6)
    assert fa.loc["right", "weighted_mean"] == pytest.approx(0.4)
    assert fa.loc["both", "mean"] == pytest.approx(0.5, abs=0.01)
    assert fa.loc["asymmetry", "mean"] == pytest.approx(0.4, abs=1e-5)
    assert fa.loc["left", "coverage"] == pytest.approx(0.75, abs=0.02)
    md = rows(tracts, tract="corticospinal_tract", metric="md", side="left")
    assert md["mean"].item() == pytest.approx(7e-4)
    lost = rows(tracts, tract="corticostriatal_tract")
    assert len(lost) == 16
    assert lost["mean"].isna().all()
    assert set(lost["reason"]) == {"the atlas has no corticostriatal tract"}


def test_all_tracts_pair_sides_and_keep_the_middle(files):
    table = run(files)["all_tracts"]
    found = rows(table, metric="fa").groupby("tract")["side"].apply(list).to_dict()
    sides = ["left", "right", "both", "asymmetry"]
    assert found == {"Bridge": ["both"], "Cord": sides, "Lost": sides}
    lost = rows(table, tract="Lost", metric="fa", side="left")
    assert lost["status"].item() == "missing"
    assert np.isnan(lost["mean"].item())
    assert lost["coverage"].item() == 0
    assert "only 0%" in lost["reason"].item()


def test_profiles_and_overlap(files):
    tables = run(files)
    profile = rows(tables["profiles"], side="left", metric="fa")
    assert list(profile["node"]) == list(range(1, 101))
    assert profile["mean"].isna()[:13].all()  # below the field of view
    assert profile["mean"][35:].dropna().to_numpy() == pytest.approx(0.6)
    assert profile["mean"][35:].notna().all()
    assert tables["overlap"]["dice"].item() == 0


def test_voxels_with_csf_are_left_out_of_means_but_not_of_coverage(files):
    plain = rows(run(files)["tracts"], side="right", metric="fa")
    dry = rows(run(files, csf_file=str(files / "csf.nii.gz"))["tracts"], side="right", metric="fa")
    wet = run(files, csf_file=str(files / "csf.nii.gz"), most_csf=1.0)["tracts"]
    assert dry["n_voxels"].iloc[0] == pytest.approx(plain["n_voxels"].iloc[0] / 2, rel=0.15)
    assert dry["coverage"].iloc[0] == plain["coverage"].iloc[0]
    assert rows(wet, side="right", metric="fa")["n_voxels"].iloc[0] == plain["n_voxels"].iloc[0]


def test_less_coverage_than_asked_for_gives_a_reason_in_all_tables(files):
    tables = run(files, least_coverage=0.8)
    fa = rows(tables["tracts"], tract="corticospinal_tract", metric="fa")
    assert fa["mean"].isna().all()
    assert fa["reason"].iloc[0].startswith("only 7")
    assert tables["profiles"]["mean"].isna().all()


@pytest.mark.parametrize("kind", ["labels", "probability"])
def test_other_kinds_of_atlas(kind, tmp_path):
    first, second = np.zeros((2, 6, 7, 8), np.float32)
    first[:3], second[2:5] = 40, 80
    data = np.stack([first, second], -1) if kind == "probability" else np.where(first > 0, 7, 9)
    save(data.astype(np.int16), np.eye(4), tmp_path / "atlas.nii.gz")
    members = {"probability": (0, 1), "labels": (7, 9)}[kind]
    groups = {("one", "left"): [members[0]], ("any", "both"): list(members)}
    found = dict(atlas_masks(tmp_path / "atlas.nii.gz", kind, groups))
    expected = np.maximum(first, second) / 100 if kind == "probability" else np.ones((6, 7, 8))
    np.testing.assert_allclose(found["any", "both"], expected)
    np.testing.assert_allclose(
        found["one", "left"], first / (100 if kind == "probability" else 40)
    )


def test_names_lose_their_side_wherever_it_stands():
    names = {0: "Left_Thalamus", 1: "Right_Thalamus", 2: "CNV_L", 3: "CNV_R", 4: "Corpus_Callosum"}
    sides = {0: "left", 1: "right", 2: "left", 3: "right", 4: ""}
    assert list(label_groups(names, sides)) == [
        ("Thalamus", "left"), ("Thalamus", "right"), ("CNV", "left"), ("CNV", "right"),
        ("Corpus_Callosum", "both"),
    ]  # fmt: skip


def test_every_bundled_tract_atlas_pairs_its_sides():
    atlas = find_atlas("juelich")
    groups = label_groups({x.index: x.name for x in atlas.labels},
                          {x.index: x.side for x in atlas.labels})  # fmt: skip
    assert len(groups) == len(atlas.labels)
    left, right = ({name for name, s in groups if s == side} for side in ("left", "right"))
    assert left == right


def test_the_alignment_and_its_flags_are_written(files, monkeypatch):
    matrix = np.arange(16.0).reshape(4, 4)
    found = Coregistration(matrix, "header", {"mask_dice": 0.5, "x": np.nan},
                           [Flag("registration_doubtful", "why")])  # fmt: skip
    monkeypatch.setattr(coregister, "coregister", lambda *a, **k: found)
    file = str(files / "fa.nii.gz")
    node = Coregister(reference_file=file, mask_file=file, brain_file=file, gm_file=file,
                         wm_file=file)  # fmt: skip
    outputs = node.run(cwd=str(files)).outputs
    np.testing.assert_array_equal(np.loadtxt(outputs.matrix_file), matrix)
    content = json.loads(Path(outputs.qc_file).read_text())
    assert content["flags"] == [{"name": "registration_doubtful", "reason": "why"}]
    assert content["metrics"] == {"mask_dice": 0.5, "x": None}
