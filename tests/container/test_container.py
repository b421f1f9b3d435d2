"""The container is built and run: no network, read-only, as a user whom it does not know.

Needs root, podman, runc, mmdebstrap (Debian packages), Debian's mirror and the package index, and
takes about five minutes. Where that is not there the tests are skipped with the reason, unless
ALSFLOW_REQUIRE_CONTAINER is set: then they fail with it. ALSFLOW_PODMAN_FOLDER names a (short)
folder that keeps base and image from one call to the next; they are made where they are not there.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import container_files
import pytest
from container_files import DOCKER, ROOT
from own_podman import NotHereError, Podman, import_base, require, secrets

from alsflow import __version__

pytestmark = pytest.mark.container

USER = 4321
KEPT = os.environ.get("ALSFLOW_PODMAN_FOLDER")
LIMIT = 1.7e9  # bytes of the image; docs/containers.md says what takes them
TAG = f"alsflow:{__version__}"
BIDS = ROOT / "bids_example"
STEPS = re.compile(r"(\d+) of (\d+) steps \((\d+) from the cache\)")


@pytest.fixture(scope="session")
def podman():
    made = None
    try:
        require()
        folder = Path(KEPT or tempfile.mkdtemp(prefix="pod", dir="/tmp"))  # podman wants it short
        made = Podman(folder)
        if made("info", check=False).returncode:
            raise NotHereError(f"podman info: {made('info', check=False).stderr[-300:]}")
        arguments, _ = container_files.read((DOCKER / "Dockerfile").read_text())
        if not made.has(arguments["BASE"]):
            import_base(made, arguments["BASE"], folder)
        made("run", "--rm", "--network", "none", arguments["BASE"], "true")
        yield made
    except NotHereError as reason:
        if os.environ.get("ALSFLOW_REQUIRE_CONTAINER"):
            pytest.fail(f"no container can be built here: {reason}")
        pytest.skip(f"no container can be built here: {reason}")
    finally:
        if made is not None and not KEPT:
            made.remove()


@pytest.fixture(scope="session")
def image(podman, tmp_path_factory):
    """Built from a copy of the sources, as from a clone, with an atlas where its files are."""
    copies = ROOT.parent / "shared" / "data" / "atlases" / "cat12"
    atlases = "cobra" if copies.is_dir() else ""
    if podman.has(TAG):
        return atlases
    source = tmp_path_factory.mktemp("source")
    for name in container_files.context() | {".dockerignore"}:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    for file in copies.glob("CoBra.[cn]*"):
        shutil.copy(file, source / "docker" / "atlases" / file.name)
    folder = tmp_path_factory.mktemp("secrets")
    podman(
        "build", "--layers=false", "--pull=never", "--network", "host",
        "--build-arg", f"ATLASES={atlases}", *secrets(folder), "--file", "docker/Dockerfile",
        "--tag", TAG, source, seconds=900,
    )  # fmt: skip
    shutil.rmtree(source)
    return atlases


@dataclass
class Place:
    """Folders of one person's run, and the run."""

    podman: Podman
    root: Path
    texts: list[str] = field(default_factory=list)

    def folder(self, name):
        path = self.root / name
        if not path.is_dir():
            path.mkdir(mode=0o700)
            os.chown(path, USER, USER)
        return path

    def run(self, *options, mounts=("out", "work"), seconds=900):
        volumes = [f"--volume={self.folder(name)}:/{name}" for name in mounts]
        done = self.podman(
            "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp",
            "--user", f"{USER}:{USER}", f"--volume={BIDS}:/bids:ro", *volumes, TAG,
            "/bids", "/out", "participant", "-w", "/work", "--participant-label", "01",
            "--modalities", "anat", *options, check=False, seconds=seconds,
        )  # fmt: skip
        self.texts.append(done.stderr)
        return done.returncode


@pytest.fixture(scope="session")
def done(podman, image, tmp_path_factory):
    """One person run twice."""
    root = tmp_path_factory.mktemp("runs")
    root.chmod(0o755)
    for above in root.parents:  # the temporary folders of the tests are for root alone
        if above.stat().st_mode & 0o077 == 0:
            above.chmod(0o711)
    place = Place(podman, root)
    before = snapshot(BIDS)
    assert place.run() == 0, place.texts[-1]
    assert place.run() == 0, place.texts[-1]
    assert snapshot(BIDS) == before
    return place


def snapshot(folder):
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def steps(text):
    return [int(number) for number in STEPS.findall(text)[-1]]


def test_image_is_small_enough_and_says_what_it_is(podman, image):
    [facts] = json.loads(podman("image", "inspect", TAG).stdout)
    assert facts["Size"] < LIMIT
    assert facts["Config"]["Entrypoint"] == ["alsflow"]
    assert facts["Config"]["User"] == "1000:1000"
    assert facts["Labels"]["alsflow.atlases"] == image
    assert facts["Labels"]["org.opencontainers.image.version"] == __version__
    history = json.dumps(facts)
    assert "pip.conf" not in history


def entry(podman, *command, options=()):
    flags = ["--rm", "--network", "none", "--read-only", "--user", f"{USER}:{USER}", *options]
    return podman("run", *flags, "--entrypoint", command[0], TAG, *command[1:])


def test_commands_answer(podman, image):
    assert podman("run", "--rm", TAG, "--version").stdout.strip() == f"alsflow {__version__}"
    listed = entry(podman, "alsflow-atlas", "list").stdout
    assert "atlas folder: /opt/atlases" in listed
    states = {line.split()[0]: line.split()[3] for line in listed.splitlines()[2:]}
    assert states["cobra"] == ("here" if image else "not")
    assert "--seed" in entry(podman, "alsflow-simulate", "--help").stdout
    assert "--dry-run" in entry(podman, "alsflow-slurm", "--help").stdout
    without = ["--unsetenv", "HOME", "--passwd=false"]
    assert __version__ in entry(podman, "alsflow", "--version", options=without).stdout


def test_installed_versions_are_the_locked_ones(podman, image):
    code = (
        "import json; from importlib.metadata import distributions as d;"
        "print(json.dumps({p.name.lower().replace('_', '-'): p.version for p in d()}))"
    )
    installed = json.loads(entry(podman, "python", "-c", code).stdout)
    versions, _ = container_files.locked(DOCKER / "requirements.lock")
    assert installed.pop("alsflow") == __version__
    assert installed == versions  # neither pip nor anything else beside


def test_nothing_in_the_image_can_be_written_and_all_can_be_read(podman, image):
    wrong = entry(podman, "find", "/opt", "(", "-perm", "-o=w", "-not", "-type", "l", ")",
                  "-o", "-not", "-readable").stdout  # fmt: skip
    assert wrong == ""
    assert entry(podman, "find", "/", "-xdev", "-name", "pip.conf", "-o", "-name", "pip_conf",
                 options=("--user", "0")).stdout == ""  # fmt: skip


def test_a_person_is_done_and_the_second_run_finds_it(done):
    first, second = map(steps, done.texts)
    assert first[2] == 0
    assert first[0] == first[1] > 10
    assert second[2] == second[1] == first[1]
    assert "Matplotlib" not in "".join(done.texts)  # no complaint about folders of caches


def test_results_belong_to_the_user_and_name_the_container(done):
    for name in ("out", "work"):
        paths = list(done.folder(name).rglob("*"))
        assert len(paths) > 10
        assert {(path.lstat().st_uid, path.lstat().st_gid) for path in paths} == {(USER, USER)}
    description = json.loads((done.folder("out") / "dataset_description.json").read_text())
    [generated] = description["GeneratedBy"]
    assert generated["Container"] == {"Type": "podman", "Tag": TAG}


def test_results_are_those_of_the_same_program_outside(done, image, tmp_path):
    """The first step that sums over the head, which tells one OpenBLAS from another."""
    [found] = done.folder("work").rglob("template_to_t1w.txt")
    [t1w] = done.folder("work").glob("**/load/t1w.nii.gz")
    code = (
        "import sys; from alsflow.workflows.machine import limit_threads; limit_threads(1);"
        "from alsflow.interfaces.anat import FindBrain;"
        "FindBrain(t1w_file=sys.argv[1]).run(cwd=sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, str(t1w), str(tmp_path)], check=True)
    assert (tmp_path / "template_to_t1w.txt").read_text() == found.read_text()


def test_results_that_would_be_lost_are_refused(done):
    assert done.run(mounts=("work",)) == 73
    assert "lies inside the container" in done.texts[-1]


def test_a_container_without_a_place_for_temporary_files_is_refused(done):
    result = done.podman(
        "run", "--rm", "--network", "none", "--read-only", "--read-only-tmpfs=false",
        "--user", f"{USER}:{USER}", f"--volume={BIDS}:/bids:ro",
        f"--volume={done.folder('out')}:/out", f"--volume={done.folder('work')}:/work", TAG,
        "/bids", "/out", "participant", "-w", "/work", "--participant-label", "01",
        "--modalities", "anat", "--skip-bids-validation", check=False,
    )  # fmt: skip
    assert result.returncode == 73
    assert "--tmpfs /tmp" in result.stderr


def test_a_folder_of_somebody_else_is_refused_with_what_to_do(done):
    (done.root / "theirs").mkdir(mode=0o755)
    assert done.run("--random-seed", "1", mounts=("work",), seconds=60) == 73
    result = done.podman(
        "run", "--rm", "--network", "none", f"--volume={BIDS}:/bids:ro",
        f"--volume={done.root / 'theirs'}:/out", TAG, "/bids", "/out", "participant",
        "--participant-label", "01", "--modalities", "anat", check=False,
    )  # fmt: skip
    assert result.returncode == 73
    assert "--userns=keep-id" in result.stderr


def test_limits_of_the_container_are_seen(podman, image):
    code = ("from alsflow.workflows.machine import *;"
            "print(available_memory_mb(), available_processes())")  # fmt: skip
    limits = ["--memory", "2000000000b", "--cpus", "1"]
    memory, processes = map(
        int, entry(podman, "python", "-c", code, options=limits).stdout.split()
    )
    assert 1000 < memory <= 2000
    assert processes == 1


def test_it_stops_when_it_is_told(done):
    """As the first process of a container a program without a handler would not."""
    name = "alsflow-to-be-stopped"
    done.podman(
        "run", "--detach", "--name", name, "--network", "none", "--read-only",
        "--user", f"{USER}:{USER}", f"--volume={BIDS}:/bids:ro",
        f"--volume={done.folder('out2')}:/out", f"--volume={done.folder('work2')}:/work", TAG,
        "/bids", "/out", "participant", "-w", "/work", "--participant-label", "02",
        "--modalities", "anat", "--skip-bids-validation",
    )  # fmt: skip
    end = time.monotonic() + 120
    while "steps" not in done.podman("logs", name).stderr and time.monotonic() < end:
        time.sleep(0.5)
    done.podman("stop", "--time", "60", name)  # after which it would be killed, with code 137
    [facts] = json.loads(done.podman("inspect", name).stdout)
    assert facts["State"]["ExitCode"] == 1
    assert "interrupted" in done.podman("logs", name).stderr
