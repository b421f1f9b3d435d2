"""What Nipype's cache lacks: content hashes that are remembered, and outputs that are checked.

Nipype decides from a hash of a node's inputs whether its old result still stands. It does not
look whether the outputs of that result are still there, nor whether anybody has touched them.
Here every finished node leaves a record of its output files and their content; before a run,
a node whose record does not fit the disk loses its result and is computed again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

RECORD = "_outputs.json"
CHUNK = 1 << 20  # bytes


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path` while several runs may write beside it."""
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


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
                known = [stamp, _md5(path)]
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
        return {os.path.normpath(os.path.join(folder, path)): known[path] for path in known}


def relative_inside(path: str, root: str, folder: str) -> str:
    """`path` relative to `folder` if it lies below `root`: it stays right when that is moved."""
    return os.path.relpath(path, folder) if path.startswith(root + os.sep) else path


def _stamp(path: str) -> list[int]:
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _md5(path: str) -> str:
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
    waiting = list(values.values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, str | os.PathLike) and os.path.isabs(value):
            found.update(dict.fromkeys(_files_of(os.fspath(value), node_dir)))
    return sorted(found)


def _files_of(path: str, node_dir: str) -> list[str]:
    """List the file itself, or the files of a folder that the node made in its own folder."""
    if os.path.isfile(path):
        return [path]
    if os.path.isdir(path) and os.path.realpath(path).startswith(node_dir + os.sep):
        return [str(entry) for entry in Path(path).rglob("*") if entry.is_file()]
    return []


def record(node: Any, outputs: Any, hashes: FileHashes, seconds: float) -> None:
    """Leave in the node's folder what its outputs are and how long they took."""
    folder, root = node.output_dir(), os.path.realpath(node.base_dir)
    paths = output_files(outputs, folder)
    files = {relative_inside(path, root, folder): hashes.md5(path) for path in paths}
    content = json.dumps({"files": files, "seconds": round(seconds, 3)})
    write_text(Path(folder) / RECORD, content)


def read_record(node: Any) -> dict[str, Any] | None:
    """Record of a node, its paths whole; None where it is absent or damaged."""
    folder = node.output_dir()
    try:
        content = json.loads((Path(folder) / RECORD).read_text(encoding="utf-8"))
        if not isinstance(content["files"], dict):
            return None
        files = content["files"].items()
        whole = {os.path.normpath(os.path.join(folder, path)): md5 for path, md5 in files}
        return content | {"files": whole}
    except (OSError, ValueError, KeyError, TypeError):
        return None


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
        path.unlink(missing_ok=True)


def distrust(node: Any, hashes: FileHashes) -> str:
    """Why the stored result of `node` cannot be used any more; nothing if it can."""
    folder = Path(node.output_dir())
    if not (folder / f"result_{node.name}.pklz").exists():
        return ""  # never finished: Nipype runs it anyway
    content = read_record(node)
    if content is None:
        return "it was interrupted before its outputs were recorded"
    for path, md5 in content["files"].items():
        now = hashes.md5(path)
        if now is None:
            return f"{path} is missing"
        if now != md5:
            return f"{path} was changed since"
    with suppress(Exception):  # whatever unpickling may raise, the result is unusable
        if node.result.outputs is not None:
            return ""
    return "its stored result cannot be read"
