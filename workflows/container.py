"""The container that the program runs in, if it runs in one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

TAG = "ALSFLOW_CONTAINER"  # name and tag of the image; set when it is built
# The file of the image, set by the program that runs it.
IMAGE_FILES = {"apptainer": "APPTAINER_CONTAINER", "singularity": "SINGULARITY_CONTAINER"}
MARKS = {"podman": "run/.containerenv", "docker": ".dockerenv"}
IN_MEMORY = ("tmpfs", "ramfs")


def container(
    environment: Mapping[str, str] = os.environ, root: Path = Path("/")
) -> dict[str, str]:
    """Kind and name of the container, as BIDS writes them; empty outside of one.

    Parameters
    ----------
    environment : mapping
        Environment variables.
    root : Path
        Root of the file system.
    """
    kind, tag = "", environment.get(TAG, "")
    for name, variable in IMAGE_FILES.items():
        if environment.get(variable):
            kind = kind or name
            tag = tag or Path(environment[variable]).name  # no folders: they can name people
    said = environment.get("container", "")
    if tag and not kind:  # of a read-only container podman's file is hidden, not its variable
        marked = (name for name, mark in MARKS.items() if (root / mark).exists())
        kind = said if said in MARKS else next(marked, "")
    if not tag:
        return {}
    return {"Type": kind, "Tag": tag} if kind else {"Tag": tag}


def vanishes(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether what is written to `folder` is lost when the container ends.

    That is so for what lies in the layer of the container itself or in memory, not in a folder
    of the host. Apptainer shows the host's folders without being asked, so it is left alone.
    """
    here = container()
    if not here or here.get("Type") in IMAGE_FILES:
        return False
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    point, kind = _mount_of(folder, lines)
    return point == Path("/") or kind in IN_MEMORY


def _mount_of(folder: Path, lines: list[str]) -> tuple[Path, str]:
    """Mount point above `folder` and type of its file system; later mounts hide earlier ones."""
    found, kind = Path("/"), ""
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(re.sub(r"\\(\d{3})", _character, before.split()[4]))
        if folder.is_relative_to(point) and len(point.parts) >= len(found.parts):
            found, kind = point, after.split()[0]
    return found, kind


def _character(code: re.Match) -> str:
    return chr(int(code[1], 8))  # the kernel writes a space as \040
