"""The text of a batch script for Slurm, from the settings.

The resources stand in ``#SBATCH`` lines, so that a script can be read, kept and submitted by hand.
The options of the user (``slurm.sbatch``) come last, and the last one counts.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alsflow.workflows.settings import SettingsError, SlurmSettings

LONGEST_NAME = 60  # characters of a job's name
# Options that the program must set itself: with another value it would lose sight of its jobs.
OURS = {
    "--array": "-a", "--job-name": "-J", "--wrap": "", "--wait": "-W", "--test-only": "",
    "--parsable": "", "--dependency": "-d", "--chdir": "-D", "--output": "-o", "--error": "-e",
    "--uid": "", "--gid": "", "--clusters": "-M", "--hold": "-H", "--help": "-h",
    "--ntasks": "-n", "--open-mode": "",
}  # fmt: skip
MODULES = """\
if ! command -v module > /dev/null; then
  for file in /etc/profile.d/{modules,lmod,z00_lmod}.sh; do
    if [ -r "$file" ]; then . "$file"; fi
  done
fi"""


@dataclass(frozen=True)
class JobNeed:
    """What one job asks for."""

    name: str
    log_file: str  # may hold the signs %j, %A, %a of Slurm; see `plain_path`
    cores: int = 1
    memory_mb: int = 1000
    minutes: int | None = None  # None: what the partition gives
    array: str = ""  # such as 1-12%4
    dependency: str = ""  # such as afterany:17
    options: tuple[str, ...] = ()  # further options of sbatch
    environment: Mapping[str, str] = field(default_factory=dict)


def batch_script(command: Sequence[str], slurm: SlurmSettings, need: JobNeed) -> str:
    """Text of a batch script that runs `command`.

    Parameters
    ----------
    command : sequence of str
        Program and arguments; quoted here. See `in_container`.
    slurm : SlurmSettings
        Partition, account, QOS, modules, lines of shell, options of the user.
    need : JobNeed
        Name, resources and log file.
    """
    check_options(slurm.sbatch)
    lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in directives(slurm, need))]
    if slurm.modules:
        lines += [MODULES, _or_end(["module", "load", *slurm.modules], "a module is missing")]
    if slurm.setup:
        lines += ["set -e", *slurm.setup, "set +e"]
    exported = {"NO_ET": "1", **need.environment}
    lines += [f"export {name}={shlex.quote(value)}" for name, value in exported.items()]
    return "\n".join([*lines, "exec " + shlex.join(command), ""])


def directives(slurm: SlurmSettings, need: JobNeed) -> list[str]:
    """Options of ``sbatch``, quoted as its lines want them."""
    options = {
        "job-name": need.name[:LONGEST_NAME],
        "output": need.log_file,
        "open-mode": "append",
        "partition": slurm.partition,
        "account": slurm.account,
        "qos": slurm.qos,
        "nodes": "1",
        "ntasks": "1",
        "cpus-per-task": str(need.cores),
        "mem": f"{need.memory_mb}M",
        "time": str(need.minutes) if need.minutes is not None else "",
        "array": need.array,
        "dependency": need.dependency,
    }
    given = [f"--{name}={_quoted(value)}" for name, value in options.items() if value]
    return given + [_quoted_option(text) for text in (*need.options, *slurm.sbatch)]


def _quoted(value: str) -> str:
    if "\n" in value:
        raise SettingsError(f"{value!r} cannot be given to sbatch: it holds a line break.")
    return shlex.quote(value)


def _quoted_option(text: str) -> str:
    """``--name=value`` with its value quoted; what is written apart stays apart."""
    name, sign, value = text.partition("=")
    if sign and re.fullmatch(r"--[\w-]+", name):
        return f"{name}={_quoted(value)}"
    return " ".join(_quoted(word) for word in shlex.split(text))


def _or_end(command: Sequence[str], problem: str) -> str:
    return f"{shlex.join(command)} || {{ echo {shlex.quote(f'alsflow: {problem}')} >&2; exit 1; }}"


def check_options(options: Iterable[str]) -> None:
    """Refuse options of ``sbatch`` that the program must set itself.

    >>> check_options(["--exclude=node7", "-p long"])
    """
    for text in options:
        name = text.strip().partition("=")[0].split()[0] if text.strip() else ""
        short = name[:2] if re.match(r"-[A-Za-z]", name) else ""
        ours = len(name) > 2 and any(option.startswith(name) for option in OURS)  # or its start
        if ours or (short and short in OURS.values()):
            raise SettingsError(
                f"slurm.sbatch = {text!r} cannot be given: alsflow sets this option itself."
            )
        if not name.startswith("-"):
            raise SettingsError(
                f"slurm.sbatch = {text!r} is no option of sbatch; write it as '--name=value'."
            )


def plain_path(path: str | os.PathLike) -> str:
    """Path in which Slurm replaces nothing.

    >>> plain_path("/data/100%/logs")
    '/data/100%%/logs'
    """
    return os.fspath(path).replace("%", "%%")


def in_container(
    command: Sequence[str],
    slurm: SlurmSettings,
    binds: Iterable[Path] = (),
    read_only: Iterable[Path] = (),
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """`command` as it is run inside the container of the settings, or as it is without one.

    Paths are the same inside and outside; nothing of the environment is taken along but what is
    named. There is no network inside where the runtime can do without.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    slurm : SlurmSettings
        Image, runtime and further folders.
    binds, read_only : iterable of Path
        Folders to write into, and folders only to read.
    environment : mapping
        Variables to set inside.
    """
    if not slurm.container:
        return list(command)
    binds, read_only = list(binds), list(read_only)
    _check_places(binds + read_only)
    folders = [str(path) for path in dict.fromkeys(map(str, binds))]
    places = [f"{folder}:{folder}" for folder in folders]
    places += [f"{path}:{path}:ro" for path in dict.fromkeys(map(str, read_only))
               if path not in folders]  # fmt: skip
    places.sort(key=lambda place: place.count("/"))  # or a folder would hide one inside it
    places += slurm.binds
    variables = [f"{name}={value}" for name, value in (environment or {}).items()]
    if slurm.runtime in ("apptainer", "singularity"):
        words = [slurm.runtime, "exec", "--cleanenv"]
        words += [word for place in places for word in ("--bind", place)]
        words += [word for variable in variables for word in ("--env", variable)]
        return [*words, slurm.container, *command]
    # the image itself is nobody's; with podman, root inside is the user outside
    user = f"{os.getuid()}:{os.getgid()}" if slurm.runtime == "docker" else "0:0"
    words = [slurm.runtime, "run", "--rm", "--network", "none", "--user", user]
    words += [word for place in places for word in ("--volume", _pair(place))]
    words += [word for variable in variables for word in ("--env", variable)]
    return [*words, "--entrypoint", command[0], slurm.container, *command[1:]]


def _check_places(paths: Iterable[Path]) -> None:
    for path in paths:
        if re.search(r"[:,\n]", str(path)):
            raise SettingsError(
                f"{path} cannot be seen inside a container, because its name holds ':' or ','; "
                "rename it."
            )


def _pair(place: str) -> str:
    """Make a volume of a bind; a single path is the same inside."""
    return place if ":" in place else f"{place}:{place}"
