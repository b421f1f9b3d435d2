"""Maps of seeds become files of their own, and those that are not there leave none."""

import numpy as np
import pytest
from nipype.interfaces.base import isdefined

from alsflow.interfaces.func_maps import STACKS, NameMaps, SplitSeeds
from alsflow.interfaces.images import load, save

SHAPE = (3, 4, 5)
SEEDS = ("left", "foot", "right")


@pytest.fixture
def stacks(tmp_path):
    """A stack of three seeds for every kind of map; the second seed has none."""
    files = {}
    for number, name in enumerate(STACKS):
        for kind in ("", "00_"):
            maps = np.stack([np.full(SHAPE, 10 * number + k, np.float32) for k in range(3)], -1)
            maps[..., 1] = np.nan
            files[kind + name] = save(maps, np.eye(4), tmp_path / f"{kind}{name}.nii.gz")
    rows = "".join(f"{k}\t{seed}\n" for k, seed in enumerate(SEEDS))
    (tmp_path / "seeds.tsv").write_text("volume\tname\n" + rows)
    return files


def split(tmp_path, stacks, template=True):
    inputs = {f"{name}_file": stacks[name] for name in STACKS if name in stacks}
    inputs["seeds_table_file"] = str(tmp_path / "seeds.tsv")
    if template:
        inputs["template_files"] = [stacks[f"00_{name}"] for name in STACKS]
    return SplitSeeds(**inputs).run(cwd=str(tmp_path)).outputs


def test_each_seed_has_its_own_file(tmp_path, stacks):
    found = split(tmp_path, stacks)
    for number, name in enumerate(STACKS):
        for kind in ("", "template_"):
            files = getattr(found, f"{kind}{name}_files")
            assert [path.rpartition("_")[2] for path in files] == ["left.nii.gz", "right.nii.gz"]
            values = [np.unique(load(path)[0]).tolist() for path in files]
            assert values == [[10 * number], [10 * number + 2]]
            assert load(files[0])[0].shape == SHAPE


def test_without_maps_there_are_no_files(tmp_path, stacks):
    found = split(tmp_path, {}, template=False)
    assert not isdefined(found.r_files)
    assert not isdefined(found.template_z_files)


def test_local_maps_are_known_by_their_names(tmp_path):
    files = [save(np.zeros(SHAPE), np.eye(4), tmp_path / f"0{k}_{name}.nii.gz")
             for k, name in enumerate(("falff", "reho"))]  # fmt: skip
    found = NameMaps(map_files=files).run(cwd=str(tmp_path)).outputs
    assert not isdefined(found.alff_file)
    assert (found.falff_file, found.reho_file) == tuple(files)
