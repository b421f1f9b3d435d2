"""What Nipype's cache lacks: content hashes that are remembered, and outputs that are checked.

Nipype decides from a hash of a node's inputs whether its old result still stands. It does not
look whether the outputs of that result are still there, nor whether anybody has touched them.
Here every finished node leaves a record of its output files and their content; before a run,
a node whose record does not fit the disk loses its result and is computed again.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

from alsflow.interfaces.sealed import sealed, unsealed
from alsflow.interfaces.whole import whole

RECORD = "_outputs.json"
CHUNK = 1 << 20  # bytes
TICK = 20_000_000  # ns between two times that a file system tells apart, at most
COARSE_TICK = 2_000_000_000  # the same where it keeps whole seconds alone
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
PLACEHOLDER = "This file was removed to save space; alsflow makes it again when it is needed."
PLACEHOLDER_SIZE = 256  # bytes; one glance at the size tells almost every other file apart


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path` while several runs may write beside it."""
    with path.open("a") as handle:
        locked(handle)
        yield


def locked(handle: IO[str], wait: bool = True) -> bool:
    """Lock an open file until it is closed; False if another process has it.

    On a disk that knows no locks (some network disks) nobody can be kept out: one warning says
    so, and the rest is up to whoever starts the runs.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _warn_of_no_locks(str(Path(handle.name).parent))
    return True


@cache
def _warn_of_no_locks(folder: str) -> None:
    print(
        f"alsflow: the disk of {folder} knows no locks; start no two runs on the same people at "
        "one time.",
        file=sys.stderr,
    )


class FileHashes:
    """MD5 of files, read again only when size, times or inode have changed.

    The time of the last status change (ctime) cannot be set back by a program, so a changed
    content of the same size and modification time is noticed too.
    """

    def __init__(self, store: Path | None = None):
        self._store = store
        self._known: dict[str, list] = self._load()
        self._changed: dict[str, list] = {}

    def md5(self, path: str | os.PathLike) -> str | None:
        """Hash of the content; None if there is no such file."""
        path = os.path.abspath(path)
        try:
            stamp = _stamp(path)
            known = self._known.get(path)
            if known is None or known[0] != stamp:
                fresh = _may_change_unseen(stamp)
                known = [stamp, _md5(path)]
                if not fresh:
                    self._known[path] = self._changed[path] = known
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        return known[1]

    def add(self, stamps: dict[str, list]) -> None:
        """Take over what another process has hashed."""
        self._known.update(stamps)
        self._changed.update(stamps)

    def news(self) -> dict[str, list]:
        """Return what was hashed since the last call."""
        changed, self._changed = self._changed, {}
        return changed

    def save(self) -> None:
        """Add what is new to the store, which other runs may be writing too."""
        if self._store is None or not self._changed:
            return
        with exclusive(self._store.with_suffix(".lock")):
            merged = {**self._load(), **self.news()}
            folder = str(self._store.parent)
            kept = {
                relative_inside(path, folder, folder): entry
                for path, entry in merged.items()
                if os.path.exists(path)
            }
            write_text(self._store, json.dumps(kept))

    def _load(self) -> dict[str, list]:
        if self._store is None:
            return {}
        try:
            content = json.loads(self._store.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # absent or damaged: every file is read again
            return {}
        folder = str(self._store.parent)
        known = content if isinstance(content, dict) else {}
        return {
            os.path.normpath(os.path.join(folder, path)): entry
            for path, entry in known.items()
            if _is_entry(entry)
        }


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str)


def _may_change_unseen(stamp: list[int]) -> bool:
    """Whether a change from now on could leave a file with the same times as before.

    Clocks of file systems tick: what is written twice within a tick looks the same. The time
    that counts is that of the last status change, which nobody can set.
    """
    changed = stamp[2]
    tick = COARSE_TICK if changed % 1_000_000_000 == 0 else TICK
    return time.time_ns() < changed + tick


def relative_inside(path: str, root: str, folder: str) -> str:
    """`path` relative to `folder` if it lies below `root`: it stays right when that is moved."""
    return os.path.relpath(path, folder) if path.startswith(root + os.sep) else path


def _stamp(path: str) -> list[int]:
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


@dataclass(frozen=True)
class Removed:
    """What a file was before a placeholder took its place."""

    md5: str
    size: int  # bytes


def removed(path: str | os.PathLike) -> Removed | None:
    """What `path` was, if it is a placeholder; None for every other file and for none.

    A placeholder says itself what it stands for, so that it survives a copy of the working
    directory, and whatever is written over it is not taken for one.
    """
    try:
        if os.stat(path).st_size != PLACEHOLDER_SIZE:
            return None
        lines = Path(path).read_bytes().decode("ascii").splitlines()
        if lines[0] == PLACEHOLDER:
            return Removed(lines[1].removeprefix("md5 "), int(lines[2].removeprefix("bytes ")))
    except (OSError, ValueError, IndexError):
        pass
    return None


def write_placeholder(path: Path, was: Removed) -> None:
    """Put a placeholder where a file is: at any moment there is one or the other."""
    text = f"{PLACEHOLDER}\nmd5 {was.md5}\nbytes {was.size}\n"
    write_text(path, text.ljust(PLACEHOLDER_SIZE - 1) + "\n")


def _md5(path: str) -> str:
    """MD5 of the content, of a placeholder that of the file that it stands for."""
    was = removed(path)
    if was is not None:
        return was.md5
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as handle:
        while chunk := handle.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def remembered(hashes: FileHashes) -> Iterator[None]:
    """Let Nipype's content hashing use `hashes` instead of reading every file every time."""
    from nipype.interfaces.base import specs

    original = specs.hash_infile
    specs.hash_infile = hashes.md5
    try:
        yield
    finally:
        specs.hash_infile = original


# ---------------------------------------------------------------------------- records of nodes


def output_files(outputs: Any, node_dir: str) -> list[str]:
    """Absolute paths of all files among the outputs of a node that works in `node_dir`."""
    values = (
        outputs.trait_get() if hasattr(outputs, "trait_get") else getattr(outputs, "__dict__", {})
    )
    found: dict[str, None] = {}
    for path in paths_in(values):
        found.update(dict.fromkeys(_files_of(path, node_dir)))
    return sorted(found)


def paths_in(values: Any) -> Iterator[str]:
    """Absolute paths among values, lists and dictionaries, however deep."""
    waiting = [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, str | os.PathLike) and os.path.isabs(value):
            yield os.fspath(value)


def _files_of(path: str, node_dir: str) -> list[str]:
    """List the file itself, or the files of a folder that the node made in its own folder."""
    if os.path.isfile(path):
        return [path]
    if os.path.isdir(path) and os.path.realpath(path).startswith(node_dir + os.sep):
        return [str(entry) for entry in Path(path).rglob("*") if entry.is_file()]
    return []


def record(node: Any, outputs: Any, hashes: FileHashes, seconds: float, **used: float) -> None:
    """Leave in the node's folder what its outputs are, how long they took and what they used."""
    folder, root = node.output_dir(), os.path.realpath(node.base_dir)
    paths = {path: relative_inside(path, root, folder) for path in output_files(outputs, folder)}
    files = {name: hashes.md5(path) for path, name in paths.items()}
    content: dict[str, Any] = {"files": files, "seconds": round(seconds, 3), **used}
    gone = {name: was.size for path, name in paths.items() if (was := removed(path)) is not None}
    if gone:  # elements of a MapNode that need not be made again
        content["removed"] = gone
    write_text(Path(folder) / RECORD, sealed(content))


def stored_record(path: Path) -> dict[str, Any]:
    """Record in a file, its paths relative to the folder of the file.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, is damaged, or is that of an earlier version.
    """
    return unsealed(path.read_text(encoding="utf-8"))


def read_record(node: Any) -> dict[str, Any] | None:
    """Record of a node, its paths whole; None where it is absent or damaged."""
    folder = node.output_dir()
    try:
        content = stored_record(Path(folder) / RECORD)
        files = content["files"].items()
        absolute = {os.path.normpath(os.path.join(folder, path)): md5 for path, md5 in files}
        gone = content.get("removed", {}).items()
        sizes = {os.path.normpath(os.path.join(folder, path)): size for path, size in gone}
        return content | {"files": absolute, "removed": sizes}
    except (OSError, ValueError):
        return None


def note_removed(node: Any, path: str) -> None:
    """Put a placeholder where an output of `node` was, and say so in its record.

    The record comes first: whenever the program dies, there is the whole file or a placeholder,
    and a placeholder that vanishes later is known as one.
    """
    content = read_record(node)
    if content is None or path not in content["files"]:
        return
    was = Removed(content["files"][path], os.stat(path).st_size)
    content["removed"] = content.get("removed", {}) | {path: was.size}
    folder, root = node.output_dir(), os.path.realpath(node.base_dir)
    for kind in ("files", "removed"):
        content[kind] = {
            relative_inside(path, root, folder): value for path, value in content[kind].items()
        }
    write_text(Path(folder) / RECORD, sealed(content))
    write_placeholder(Path(path), was)


def repair(nodes: list[Any], hashes: FileHashes) -> dict[Any, str]:
    """Drop every result that can no longer be trusted; returns the reason per node.

    Parameters
    ----------
    nodes : list of Node
        Nodes of the expanded graph.
    hashes : FileHashes
        Reads the outputs only where the disk says that they were touched.
    """
    reasons = {}
    for node in nodes:
        reason = distrust(node, hashes)
        if reason:
            drop_result(node, elements=True)
            reasons[node] = reason
    return reasons


def drop_result(node: Any, elements: bool = False) -> None:
    """Make Nipype compute `node` again; with `elements` all elements of a MapNode too."""
    folder = Path(node.output_dir())
    for path in (folder.rglob if elements else folder.glob)("result_*.pklz"):
        if path.is_dir() and not path.is_symlink():  # whoever put it there
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def distrust(node: Any, hashes: FileHashes, mend: bool = True) -> str:
    """Why the stored result of `node` cannot be used any more; nothing if it can.

    With `mend`, placeholders that are gone are put back.
    """
    folder = Path(node.output_dir())
    if not (folder / f"result_{node.name}.pklz").exists():
        return ""  # never finished: Nipype runs it anyway
    content = read_record(node)
    if content is None:
        if (folder / RECORD).is_file():
            return "the record of its outputs is damaged, or of an earlier version"
        return "it failed or was interrupted before its outputs were recorded"
    for path, md5 in content["files"].items():
        try:
            now = hashes.md5(path)
        except OSError as error:  # no permission, a bad block
            return f"{path} cannot be read ({error.strerror})"
        if now is None and path in content.get("removed", {}) and Path(path).parent.is_dir():
            if not mend:
                return ""  # without it nobody can read the result, with it everybody
            write_placeholder(Path(path), Removed(md5, content["removed"][path]))
        elif now is None:
            return f"{path} is missing"
        elif now != md5:
            return f"{path} was changed since"
    with suppress(Exception):  # whatever unpickling may raise, the result is unusable
        if node.result.outputs is not None:
            return ""
    return "its stored result cannot be read"
