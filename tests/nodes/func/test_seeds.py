"""Seeds as settings declare them: what is read, and what is refused in words."""

import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.seeds import (
    DEFAULT_SEEDS,
    Seed,
    read_seeds,
    voxel_seed,
    with_voxel_seed,
)

REGIONS = {"precentral": {"left": [183], "right": [182]}}
SPHERE = {"name": "hand", "kind": "sphere", "centre": [-38, -22, 56.5], "radius": 6}


def test_the_defaults_are_the_precentral_gyrus_left_right_and_both():
    seeds = read_seeds(DEFAULT_SEEDS, REGIONS)
    assert [(s.name, s.region, s.side) for s in seeds] == [
        ("precentralLeft", "precentral", "left"),
        ("precentralRight", "precentral", "right"),
        ("precentral", "precentral", "both"),
    ]


def test_every_kind_is_read():
    rows = [
        SPHERE,
        {"name": "two", "kind": "labels", "labels": [182, 183]},
        {"name": "own", "kind": "mask", "file": "foot.nii.gz", "space": "T1w"},
        {"name": "mrs", "kind": "voxel"},
        {"name": "whole", "kind": "region", "region": "precentral"},
    ]
    assert read_seeds(rows, REGIONS, [182, 183]) == (
        Seed("hand", "sphere", centre=(-38.0, -22.0, 56.5), radius=6),
        Seed("two", "labels", labels=(182, 183)),
        Seed("own", "mask", file="foot.nii.gz", space="T1w"),
        Seed("mrs", "voxel"),
        Seed("whole", "region", region="precentral", side="both"),
    )


def test_the_mrs_voxel_joins_the_seeds_once():
    joined = with_voxel_seed(DEFAULT_SEEDS)
    assert joined[:3] == DEFAULT_SEEDS
    assert read_seeds(joined)[3] == Seed("mrsVoxel", "voxel")
    assert with_voxel_seed(joined) == joined
    own = ({"name": "acc", "kind": "voxel"}, SPHERE)
    assert with_voxel_seed(own) == own
    assert [voxel_seed(seeds) for seeds in (joined, own, DEFAULT_SEEDS)] == ["mrsVoxel", "acc", ""]


def test_a_sphere_may_lie_in_a_known_variant_of_mni_space():
    row = SPHERE | {"space": "MNI152NLin6Asym"}
    assert read_seeds([row], spaces=("MNI152NLin6Asym",))[0].space == "MNI152NLin6Asym"
    with pytest.raises(BadInputError, match="the space 'MNI152NLin6Asym'; known are template"):
        read_seeds([row])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"kind": "voxel"}, "a name of letters and digits"),
        ({"name": "left hand", "kind": "voxel"}, "letters and digits"),
        ({"name": "a", "kind": "cube"}, "kind 'cube'; a kind is one of region, labels, sphere"),
        ({"name": "a"}, "kind ''"),
        ({"name": "a", "kind": "region"}, "lacks 'region'"),
        ({"name": "a", "kind": "region", "region": "precentral", "hemi": "left"}, "'hemi'"),
        ({"name": "a", "kind": "region", "region": "precentral", "side": "L"}, "side 'L'"),
        ({"name": "a", "kind": "region", "region": "motor"}, "'motor'; the atlas has precentral"),
        ({"name": "a", "kind": "labels", "labels": []}, "whole numbers above 0"),
        ({"name": "a", "kind": "labels", "labels": [1.5]}, "whole numbers above 0"),
        ({"name": "a", "kind": "labels", "labels": [True]}, "whole numbers above 0"),
        ({"name": "a", "kind": "labels", "labels": [7]}, "label 7, which the atlas does not"),
        (SPHERE | {"centre": [1, 2]}, "three numbers"),
        (SPHERE | {"centre": [1, 2, float("nan")]}, "three numbers"),
        (SPHERE | {"radius": 0.9}, "radius of 1 to 50 mm"),
        (SPHERE | {"radius": 51}, "radius of 1 to 50 mm"),
        (SPHERE | {"space": "T1w"}, "space 'T1w'"),
        ({"name": "a", "kind": "mask", "file": "", "space": "T1w"}, "no file"),
        ({"name": "a", "kind": "mask", "file": "x.nii", "space": "bold"}, "space 'bold'"),
    ],
)
def test_what_cannot_be_meant_is_refused(row, words):
    with pytest.raises(BadInputError, match=words):
        read_seeds([row], REGIONS, [182, 183])


def test_names_are_told_apart():
    rows = [{"name": "a", "kind": "voxel"}, {"name": "A", "kind": "voxel"}]
    with pytest.raises(BadInputError, match="Two seeds are called 'a'"):
        read_seeds(rows)
    with pytest.raises(BadInputError, match="No seed is declared"):
        read_seeds([])
