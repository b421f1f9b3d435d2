"""Files that appear whole or not at all: written beside their place, then renamed into it.

The temporary names are random: process numbers repeat in containers, and several of them may
write to one folder.
"""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY = re.compile(r"\.[0-9a-f]{12}\.part\.(?P<name>.+)")


def partial_of(path: Path) -> Path:
    """Temporary name beside `path`, with the same endings."""
    return path.with_name(f".{uuid.uuid4().hex[:12]}.part.{path.name}")


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary path, whose file takes the place of `path` at the end of the block.

    A block that fails leaves what was at `path` before, and nothing else.

    Parameters
    ----------
    path : path
        File to make; its folder is there.
    """
    path = Path(path)
    partial = partial_of(path)
    try:
        yield partial
        put(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def put(partial: Path, path: Path) -> None:
    """Rename a finished file to its name; an empty folder of that name makes room."""
    try:
        os.replace(partial, path)
    except IsADirectoryError:
        remove(path)
        os.replace(partial, path)


def remove(path: Path) -> None:
    """Remove a file or link, or an empty folder in its place; nothing there is well too."""
    with suppress(FileNotFoundError):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            return
        try:
            path.rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise IsADirectoryError(
                errno.EISDIR, "A folder that is not empty lies in the place of a file", str(path)
            ) from None


def put_all(files: Mapping[Path, Callable[[Path], object]]) -> list[str]:
    """Write files: first all of them beside their places, then all of them in.

    A disk that fills up, or a process that is killed while it copies, leaves the old files
    together; only renaming is left for the end. Returns the places as text.

    Parameters
    ----------
    files : mapping
        From the place to what writes the file under the name that it is given; folders are made.
    """
    staged: dict[Path, Path] = {}
    try:
        for target, write in files.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            staged[target] = partial_of(target)
            write(staged[target])
        for target, partial in staged.items():
            put(partial, target)
    finally:
        for partial in staged.values():
            partial.unlink(missing_ok=True)
    return [str(target) for target in staged]


def leftovers(folder: Path, deep: bool = True) -> list[Path]:
    """Temporary files that killed processes have left in `folder`."""
    found = folder.rglob(".*.part.*") if deep else folder.glob(".*.part.*")
    return sorted(path for path in found if TEMPORARY.fullmatch(path.name) and path.is_file())


def original_name(path: Path) -> str:
    """Name of the file that a temporary one was to become."""
    match = TEMPORARY.fullmatch(path.name)
    return match["name"] if match else path.name
