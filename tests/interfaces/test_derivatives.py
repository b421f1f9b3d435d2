"""The sink writes everything that was asked for, whole, or nothing."""

import json

import numpy as np
import pytest
from nipype.interfaces.base import traits

from alsflow.interfaces.derivatives import SaveOutputs, copy_whole
from alsflow.interfaces.images import load, save


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.txt"
    path.write_text("content")
    return path


def sink(tmp_path, **files):
    targets = {"map": "sub-01/anat/sub-01_map.nii.gz", "table": "sub-01/sub-01_table.tsv"}
    return SaveOutputs(
        keys=["map", "table"], folder=str(tmp_path / "out"), targets=targets,
        sidecars={"map": {"Description": "A map."}}, **files,
    )  # fmt: skip


def test_files_and_sidecars_land_where_they_should(tmp_path, source):
    interface = sink(tmp_path)
    interface.inputs.map_file = interface.inputs.table_file = str(source)
    found = interface.run(cwd=str(tmp_path)).outputs.out_files
    assert len(found) == 3
    assert (tmp_path / "out/sub-01/sub-01_table.tsv").read_text() == "content"
    beside = tmp_path / "out/sub-01/anat/sub-01_map.json"
    assert json.loads(beside.read_text()) == {"Description": "A map."}
    assert not list((tmp_path / "out").rglob(".*"))


def test_facts_join_the_sidecars_that_ask_for_them(tmp_path, source):
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps({"Steps": {"denoise": True}}))
    interface = sink(tmp_path, factual=["map"], facts_file=str(facts))
    interface.inputs.map_file = interface.inputs.table_file = str(source)
    interface.run(cwd=str(tmp_path))
    beside = tmp_path / "out/sub-01/anat/sub-01_map.json"
    assert json.loads(beside.read_text()) == {"Description": "A map.", "Steps": {"denoise": True}}


def test_an_output_that_was_not_made_is_an_error(tmp_path, source):
    interface = sink(tmp_path)
    interface.inputs.map_file = str(source)
    with pytest.raises(RuntimeError, match="outputs were not made: table"):
        interface.run(cwd=str(tmp_path))
    assert not (tmp_path / "out").exists()


def test_what_is_called_gz_is_compressed_and_always_to_the_same_bytes(tmp_path):
    """Series lie uncompressed in the working directory; readers go by the name."""
    series = np.random.default_rng(1).random((3, 4, 5, 6)).astype(np.float32)
    found = []
    for name in ("one.nii", "two.nii"):
        save(series, np.diag([2, 3, 4, 1]), tmp_path / name)
        copy_whole(tmp_path / name, tmp_path / "out" / f"{name}.gz")
        np.testing.assert_array_equal(load(tmp_path / "out" / f"{name}.gz")[0], series)
        found.append((tmp_path / "out" / f"{name}.gz").read_bytes())
    assert found[0] == found[1]
    assert found[0].startswith(b"\x1f\x8b")
    packed = tmp_path / "out" / "one.nii.gz"
    copy_whole(packed, tmp_path / "again.nii.gz")  # not twice
    assert (tmp_path / "again.nii.gz").read_bytes() == packed.read_bytes()


def test_a_copy_that_fails_leaves_the_old_file_and_no_part(tmp_path, source, monkeypatch):
    target = tmp_path / "out" / "map.nii.gz"
    copy_whole(source, target)

    def full(origin, goal):
        goal.write_text("con")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("alsflow.interfaces.derivatives.shutil.copyfile", full)
    with pytest.raises(OSError, match="No space"):
        copy_whole(source, target)
    assert target.read_text() == "content"
    assert [path.name for path in target.parent.iterdir()] == ["map.nii.gz"]


def maps(tmp_path, source, *seeds, **inputs):
    members = {
        "z": {seed: f"sub-01/func/sub-01_seed-{seed}_z.nii.gz" for seed in ("left", "foot")}
    }
    interface = SaveOutputs(
        keys=["table"], many=["z"], folder=str(tmp_path / "out"), members=members,
        targets={"table": "sub-01/sub-01_table.tsv"}, sidecars={"z": {"Description": "z."}},
        **inputs,
    )  # fmt: skip
    interface.inputs.table_file = str(source)
    files = [tmp_path / f"z_{seed}.nii.gz" for seed in seeds]
    for path in files:
        path.write_text(path.name)
    interface.inputs.z_files = [str(path) for path in files]
    return interface


def test_a_key_of_many_files_has_one_for_each_member(tmp_path, source):
    interface = maps(tmp_path, source, "foot", "left")
    assert len(interface.run(cwd=str(tmp_path)).outputs.out_files) == 5
    folder = tmp_path / "out" / "sub-01" / "func"
    assert (folder / "sub-01_seed-left_z.nii.gz").read_text() == "z_left.nii.gz"
    assert (folder / "sub-01_seed-foot_z.json").is_file()


def test_what_is_optional_may_be_missing_and_nothing_old_stands_for_it(tmp_path, source):
    folder = tmp_path / "out" / "sub-01" / "func"
    folder.mkdir(parents=True)
    for name in ("sub-01_seed-foot_z.nii.gz", "sub-01_seed-foot_z.json"):
        (folder / name).write_text("from an earlier run")
    with pytest.raises(RuntimeError, match="outputs were not made: z"):
        maps(tmp_path, source, "left").run(cwd=str(tmp_path))
    maps(tmp_path, source, "left", optional=["z"]).run(cwd=str(tmp_path))
    assert sorted(path.name for path in folder.iterdir()) == [
        "sub-01_seed-left_z.json", "sub-01_seed-left_z.nii.gz",
    ]  # fmt: skip


def test_a_lone_file_is_a_member_too(tmp_path, source):
    """Nipype hands it on without its list."""
    interface = maps(tmp_path, source, "foot", optional=["z"])
    interface.inputs.remove_trait("z_files")
    interface.inputs.add_trait("z_files", traits.Any())
    interface.inputs.z_files = str(tmp_path / "z_foot.nii.gz")
    interface.run(cwd=str(tmp_path))
    folder = tmp_path / "out" / "sub-01" / "func"
    assert (folder / "sub-01_seed-foot_z.nii.gz").read_text() == "z_foot.nii.gz"


def test_what_is_left_of_members_that_are_not_asked_for_any_more_goes(tmp_path, source):
    folder = tmp_path / "out" / "sub-01" / "func"
    folder.mkdir(parents=True)
    other = ["sub-01_seed-hand_r.nii.gz", "sub-02_seed-hand_z.nii.gz"]
    for name in ("sub-01_seed-hand_z.nii.gz", "sub-01_seed-hand_z.json", *other):
        (folder / name).write_text("from an earlier run")
    (folder / "sub-01_shift.nii.gz").write_text("switched off by now")
    patterns = {
        "z": "sub-01/func/sub-01_seed-*_z.nii.gz",
        "shift": "sub-01/func/sub-01_shift.nii.gz",
        "names": "sub-01/func/sub-01_seed-left_z.tsv",  # as of what is made
        "table": "sub-01/sub-01_table.tsv",  # the same file by another name
    }
    maps(tmp_path, source, "left", "foot", patterns=patterns).run(cwd=str(tmp_path))
    made = [
        f"sub-01_seed-{seed}_z.{end}" for seed in ("foot", "left") for end in ("json", "nii.gz")
    ]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*made, *other])
    assert (tmp_path / "out" / "sub-01" / "sub-01_table.tsv").is_file()


def test_a_file_that_belongs_to_no_member_is_an_error(tmp_path, source):
    interface = maps(tmp_path, source, "hand")
    with pytest.raises(RuntimeError, match="z has no member hand"):
        interface.run(cwd=str(tmp_path))
