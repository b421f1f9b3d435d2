"""What the container is made from is pinned, and says the same as the program."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import container_files
import pytest
from container_files import DOCKER, ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from alsflow import __version__, cli, cli_boutiques
from alsflow.interfaces.atlas import FOLDER_VARIABLE, registry
from alsflow.workflows import exits
from alsflow.workflows.container import TAG
from alsflow.workflows.machine import THREADED, UNTHREADED

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TEXT = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
ARGUMENTS, STAGES = container_files.read(TEXT)
LAST = STAGES[-1]
PINNED = re.compile(r"docker\.io/library/debian:[a-z]+-20\d{6}-slim")


# ---------------------------------------------------------------------------- Dockerfile


def test_base_is_pinned_and_every_stage_comes_from_it():
    assert PINNED.fullmatch(ARGUMENTS["BASE"])
    assert LAST.pairs("LABEL")["org.opencontainers.image.base.name"] == ARGUMENTS["BASE"]
    assert STAGES[0].base == "${BASE}"
    names = [stage.name for stage in STAGES]
    for number, stage in enumerate(STAGES[1:], 1):
        assert stage.base in names[:number]
    assert "latest" not in TEXT


def test_the_pin_would_notice_a_moving_tag():
    for loose in ("debian", "docker.io/library/debian:latest", "docker.io/library/debian:12-slim"):
        assert not PINNED.fullmatch(loose)


def test_it_starts_the_program_as_nobody_in_particular():
    assert LAST.of("ENTRYPOINT") == ['["alsflow"]']
    [user] = LAST.of("USER")
    assert [int(number) > 0 for number in user.split(":")] == [True, True]
    assert not LAST.of("VOLUME")
    assert "chmod" not in TEXT
    assert "chown" not in TEXT


def test_labels_and_tag_say_this_version():
    labels = LAST.pairs("LABEL")
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == PROJECT["project"]["license"]
    assert labels["org.opencontainers.image.description"] == PROJECT["project"]["description"]
    assert labels["org.opencontainers.image.title"] == "alsflow"
    assert f"TAG=alsflow:{__version__}" in LAST.of("ARG")
    assert labels["alsflow.atlases"] == "${ATLASES}"


def test_environment_of_a_run():
    given = LAST.pairs("ENV")
    assert given["NO_ET"] == given["NIPYPE_NO_ET"] == "1"
    assert given["MPLBACKEND"] == "Agg"
    assert given["HOME"] == "/tmp"  # caches of libraries; the rest is read-only
    assert given["PYTHONDONTWRITEBYTECODE"] == given["PYTHONNOUSERSITE"] == "1"
    assert given["PATH"].startswith("/opt/alsflow/bin:")
    assert given[FOLDER_VARIABLE] == "/opt/atlases"
    assert given[TAG] == "${TAG}"
    assert {given[name] for name in (*THREADED, *UNTHREADED)} == {"1"}


def test_every_package_has_a_checksum():
    steps = " ".join(text for stage in STAGES for text in stage.of("RUN")).split("&&")
    calls = [step for step in steps if "/build/bin/pip" in step]
    assert len(calls) == 5
    for call in calls:
        assert "--require-hashes" in call or "--no-index" in call
        assert "--no-deps" in call or "build.lock" in call


def test_atlases_that_are_fetched_can_be_fetched():
    known = registry("/nowhere")
    [given] = {text for stage in STAGES for text in stage.of("ARG") if text.startswith("ATLASES")}
    for name in given.partition("=")[2].strip('"').split():
        assert known[name]["source"] == "fetch"


def test_secrets_are_mounted_and_never_copied():
    copied = " ".join(text for stage in STAGES for text in stage.of("COPY"))
    assert "pip.conf" not in copied
    assert ".crt" not in copied
    for name in ("ca", "pip_conf"):
        assert f"--mount=type=secret,id={name}" in TEXT


def test_context_holds_what_is_copied_and_nothing_else():
    files = container_files.context()
    tops = {name.split("/")[0] for name in files}
    modules = {path.name for path in ROOT.glob("*.py")}
    expected = {"interfaces", "nodes", "workflows", "docker", "py.typed", "pyproject.toml",
                "README.md", "LICENSE", *modules}  # fmt: skip
    assert tops == expected
    assert not [name for name in files if "__pycache__" in name]
    for stage in STAGES:
        for text in stage.of("COPY"):
            *sources, _ = text.split()
            if not sources[0].startswith("--from"):
                for source in sources:
                    assert source == "." or any(
                        name == source or name.startswith(f"{source}/") for name in files
                    ), source


def test_every_package_of_the_project_is_in_the_context():
    files = container_files.context()
    for package in PROJECT["tool"]["setuptools"]["packages"]:
        folder = Path(*package.split(".")[1:]).as_posix().removeprefix(".").lstrip("/")
        assert f"{folder}/__init__.py".lstrip("/") in files


# ---------------------------------------------------------------------------- lock


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock"])
def test_lock_has_checksums_and_names_no_host(name):
    versions, hashed = container_files.locked(DOCKER / name)
    assert versions
    assert hashed == set(versions)
    text = (DOCKER / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index-url" not in text
    lines = [line for line in text.splitlines() if re.match(r"[A-Za-z]", line)]
    assert len(lines) == len(versions)  # every line is pinned with ==


def unmet(requirements, versions, extra=""):
    """Requirements that a lock does not meet."""
    found = []
    for text in requirements:
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": extra}):
            continue
        version = versions.get(canonicalize_name(need.name))
        if version is None or not need.specifier.contains(version, prereleases=True):
            found.append(text)
    return found


def test_lock_meets_what_the_project_asks_for():
    versions, _ = container_files.locked(DOCKER / "requirements.lock")
    assert unmet(PROJECT["project"]["dependencies"], versions) == [], "run docker/lock.sh"
    build, _ = container_files.locked(DOCKER / "build.lock")
    assert unmet(PROJECT["build-system"]["requires"], build) == [], "run docker/lock.sh"


def test_an_unmet_requirement_is_seen():
    versions, _ = container_files.locked(DOCKER / "requirements.lock")
    assert unmet(["numpy>=99", "no-such-package", "numpy"], versions) == [
        "numpy>=99",
        "no-such-package",
    ]


def test_lock_meets_what_its_packages_ask_for():
    """Of those that are installed here in the version of the lock."""
    versions, _ = container_files.locked(DOCKER / "requirements.lock")
    looked_at = 0
    for name, version in versions.items():
        try:
            installed = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if installed.version == version:
            looked_at += 1
            assert unmet(installed.requires or [], versions) == [], name
    assert looked_at > len(versions) / 2


# ---------------------------------------------------------------------------- Apptainer


def sections():
    text = (DOCKER / "alsflow.def").read_text(encoding="utf-8")
    head, *rest = re.split(r"^%(\w+)\n", text, flags=re.MULTILINE)
    return dict(
        line.split(": ", 1) for line in head.splitlines() if ": " in line and line[0] != "#"
    ), dict(zip(rest[::2], rest[1::2], strict=True))


def test_apptainer_definition():
    head, parts = sections()
    assert head == {"Bootstrap": "docker-archive", "From": "alsflow.tar"}
    assert parts["runscript"].strip() == 'exec alsflow "$@"'
    assert f"org.opencontainers.image.version {__version__}" in parts["labels"]
    assert f"{TAG}:-alsflow:{__version__}" in parts["environment"]
    assert "unset PYTHONPATH" in parts["environment"]
    given = LAST.pairs("ENV")
    for name, value in re.findall(r"([A-Z_]+)=([^\s\"]+)", parts["environment"]):
        if name != TAG:
            assert given[name] == value
    for command in re.findall(r"alsflow-[a-z]+", parts["help"]):
        assert command in PROJECT["project"]["scripts"]


@pytest.mark.parametrize("part", ["environment", "runscript", "test"])
def test_apptainer_sections_are_shell(part):
    done = subprocess.run(["sh", "-n"], input=sections()[1][part], text=True, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["lock.sh", "secrets.sh"])
def test_scripts_are_shell(name):
    assert subprocess.run(["sh", "-n", DOCKER / name], check=False).returncode == 0


# ---------------------------------------------------------------------------- Boutiques

DESCRIPTOR = json.loads((DOCKER / "alsflow.boutiques.json").read_text(encoding="utf-8"))
TYPES = {"String", "File", "Flag", "Number"}


def test_descriptor_is_what_the_parser_gives():
    assert cli_boutiques.descriptor() == DESCRIPTOR, (
        "run: python -m alsflow.cli_boutiques > docker/alsflow.boutiques.json"
    )


def test_descriptor_has_every_option_and_exit_code():
    dests = {action.dest for action in cli.parser()._actions} - {"help", "version"}
    assert {entry["id"] for entry in DESCRIPTOR["inputs"]} == dests | {"results_dir"}
    codes = {value for name, value in vars(exits).items() if name.isupper()} - {exits.OK}
    assert {entry["code"] for entry in DESCRIPTOR["error-codes"]} == codes
    assert DESCRIPTOR["container-image"]["image"] == f"alsflow:{__version__}"


def test_descriptor_follows_the_schema():
    """The rules of schema 0.5 that concern what is used here."""
    assert DESCRIPTOR["schema-version"] == "0.5"
    for key in ("name", "description", "command-line", "tool-version"):
        assert isinstance(DESCRIPTOR[key], str)
        assert DESCRIPTOR[key]
    entries = DESCRIPTOR["inputs"]
    ids = [entry["id"] for entry in entries + DESCRIPTOR["output-files"] + DESCRIPTOR["groups"]]
    assert len(ids) == len(set(ids))
    for entry in entries:
        assert re.fullmatch(r"\w+", entry["id"], re.ASCII)
        assert entry["type"] in TYPES
        assert entry["value-key"] in DESCRIPTOR["command-line"]
        assert entry["description"]
        if entry["type"] == "Flag":
            assert entry["command-line-flag"].startswith("--")
            assert not {"list", "value-choices"} & set(entry)
    for group in DESCRIPTOR["groups"]:
        assert set(group["members"]) <= set(ids)


def test_command_line_of_a_descriptor_is_understood():
    """What a platform would fill in is what the parser takes, option by option."""
    for entry in DESCRIPTOR["inputs"]:
        if "command-line-flag" not in entry:
            continue
        values = {"Flag": [], "Number": ["3"]}.get(entry["type"], ["auto"])
        values = entry.get("value-choices", values)[:1] if values else []
        if entry["id"] == "mem_mb":
            values = ["4G"]
        argv = ["in", "out", "participant", entry["command-line-flag"], *values]
        found = getattr(cli.parser().parse_args(cli.canonical(argv)), entry["id"])
        assert found not in (None, False), entry["id"]


def test_bosh_accepts_the_descriptor_and_an_invocation(tmp_path):
    beside = Path(sys.executable).parent
    bosh = shutil.which("bosh", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if bosh is None:
        pytest.skip("boutiques is not installed (pip install boutiques)")
    file = DOCKER / "alsflow.boutiques.json"
    done = subprocess.run([bosh, "validate", "--bids", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    invocation = tmp_path / "invocation.json"
    invocation.write_text(json.dumps(
        {"bids_dir": "/data/bids", "output_dir": "/data/out", "analysis_level": "participant",
         "participant_label": ["01", "02"], "mem_mb": "16G", "dry_run": True}
    ))  # fmt: skip
    command = [bosh, "exec", "simulate", file, "-i", invocation]
    done = subprocess.run(command, capture_output=True, text=True)
    line = done.stdout.strip().splitlines()[-1]
    argv = line.partition("; alsflow ")[2].split()
    arguments = cli.parser().parse_args(argv)
    assert arguments.participant_label == ["01", "02"]
    assert (arguments.mem_mb, arguments.dry_run) == (16000, True)


# ---------------------------------------------------------------------------- trimming


def test_trimming_takes_tests_and_leaves_what_is_imported(tmp_path):
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for name in ("a/tests/test_x.py", "a/x.py", "a/x.pyi", "a/x.c", "a/x.so", "a/testing/y.py",
                 "jinja2/tests.py", "nilearn/b/tests/z.py"):  # fmt: skip
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text("12345678")
    command = [sys.executable, DOCKER / "trim.py", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    left = {
        path.relative_to(packages).as_posix() for path in packages.rglob("*") if path.is_file()
    }
    assert left == {"a/x.py", "a/x.pyi", "a/x.so", "a/testing/y.py", "jinja2/tests.py",
                    "nilearn/b/tests/z.py"}  # fmt: skip


def test_lock_script_is_found_to_be_runnable():
    assert shutil.which(str(DOCKER / "lock.sh"))
