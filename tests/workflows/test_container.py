"""What the program says of the container that it runs in, and what it refuses there."""

import json
import tempfile
from pathlib import Path

import pytest

from alsflow.workflows import container, derivatives

TAG = "alsflow:0.1.0"
MOUNTS = """\
1 0 0:1 / / ro,relatime - overlay overlay rw
2 1 0:2 / /proc rw - proc proc rw
3 1 0:3 / /tmp rw - tmpfs tmpfs rw
4 1 254:0 /home/x /out rw,relatime shared:1 - ext4 /dev/sda rw
5 1 254:0 /home/x /a\\040bé rw - nfs4 server:/x rw
6 4 0:4 / /out/memory rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("environment", "marks", "expected"),
    [
        ({}, [], {}),
        ({}, ["run/.containerenv"], {}),  # some container, but none that says it is ours
        ({container.TAG: TAG}, [], {"Tag": TAG}),
        ({container.TAG: TAG}, ["run/.containerenv"], {"Type": "podman", "Tag": TAG}),
        ({container.TAG: TAG, "container": "podman"}, [], {"Type": "podman", "Tag": TAG}),
        ({container.TAG: TAG, "container": "oci"}, [".dockerenv"], {"Type": "docker", "Tag": TAG}),
        ({container.TAG: TAG}, [".dockerenv"], {"Type": "docker", "Tag": TAG}),
        (
            {"APPTAINER_CONTAINER": "/home/somebody/a.sif", "SINGULARITY_CONTAINER": "/b.sif"},
            [],
            {"Type": "apptainer", "Tag": "a.sif"},
        ),
        ({"SINGULARITY_CONTAINER": "/x/b.sif"}, [], {"Type": "singularity", "Tag": "b.sif"}),
        (
            {container.TAG: TAG, "APPTAINER_CONTAINER": "/x/a.sif"},
            [".dockerenv"],
            {"Type": "apptainer", "Tag": TAG},
        ),
    ],
)
def test_container_is_named(tmp_path, environment, marks, expected):
    for mark in marks:
        (tmp_path / mark).parent.mkdir(exist_ok=True)
        (tmp_path / mark).touch()
    assert container.container(environment, tmp_path) == expected


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/out", False),
        ("/out/derivatives", False),
        ("/a bé/c", False),
        ("/output", True),  # not below /out
        ("/out/memory/x", True),
        ("/tmp/work", True),
    ],
)
def test_what_is_lost_with_the_container(tmp_path, monkeypatch, folder, expected):
    file = tmp_path / "mountinfo"
    file.write_text(MOUNTS)
    for kind, answer in (("podman", expected), ("", expected), ("apptainer", False)):
        here = {"Type": kind, "Tag": TAG} if kind else {"Tag": TAG}
        monkeypatch.setattr(container, "container", lambda here=here: here)
        assert container.vanishes(Path(folder), file) is answer
    monkeypatch.setattr(container, "container", dict)
    assert not container.vanishes(Path(folder), file)


def test_container_is_recorded_and_changes_no_step(toy, monkeypatch):
    toy.add("sub-01")
    assert toy.run() == 0
    assert len(toy.calls()) > 0
    read = json.loads
    generated = read((toy.out / "dataset_description.json").read_text())["GeneratedBy"]
    assert "Container" not in generated[0]
    monkeypatch.setenv("APPTAINER_CONTAINER", "/x/alsflow.sif")
    assert toy.run() == 0
    generated = read((toy.out / "dataset_description.json").read_text())["GeneratedBy"]
    assert generated[0]["Container"] == {"Type": "apptainer", "Tag": "alsflow.sif"}
    assert toy.calls() == []


def test_output_inside_the_container_is_refused_before_anything_is_computed(
    toy, monkeypatch, capsys
):
    toy.add("sub-01")
    monkeypatch.setattr(derivatives, "vanishes", lambda folder: folder == toy.out)
    assert toy.run() == 73
    said = capsys.readouterr().err
    assert f"-v /data/derivatives:{toy.out}" in said
    assert not toy.out.exists()
    assert toy.calls() == []
    assert toy.run("--dry-run") == 0  # writes nothing


def test_working_directory_inside_the_container_is_told(toy, monkeypatch, capsys):
    toy.add("sub-01")
    monkeypatch.setattr(derivatives, "vanishes", lambda folder: folder == toy.work)
    assert toy.run() == 0
    assert f"working directory {toy.work} lies inside the container" in capsys.readouterr().err


def test_who_cannot_write_in_a_container_is_told_to_be_himself(toy, monkeypatch, capsys):
    toy.add("sub-01")
    toy.out.write_text("a file, which even root cannot make a folder of")
    assert toy.run() == 73
    assert "--user" not in capsys.readouterr().err
    monkeypatch.setattr(derivatives, "vanishes", lambda folder: False)
    for kind, option in (("docker", "--user "), ("podman", "--userns=keep-id")):
        monkeypatch.setattr(derivatives, "container", lambda kind=kind: {"Type": kind, "Tag": TAG})
        assert toy.run() == 73
        assert option in capsys.readouterr().err


def test_no_place_for_temporary_files_is_refused(toy, monkeypatch, capsys):
    toy.add("sub-01")
    monkeypatch.setattr(tempfile, "tempdir", None)
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    assert toy.run() == 73
    assert "--tmpfs /tmp" in capsys.readouterr().err
    assert not toy.out.exists()
