"""Results of nodes as they are stored: with paths that move along with the working directory.

Nipype stores whole paths in ``result_<node>.pklz``, so that nothing is found any more in a working
directory that was moved, mounted elsewhere or copied. Here a path inside the working directory is
stored relative to the folder of its node, whatever it is part of, and is whole again when it is
read. What Nipype has stored by itself can be read too.
"""

from __future__ import annotations

import gzip
import io
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alsflow.interfaces.whole import whole

GZIP_LEVEL = 1  # of 9
REMEMBERED = 200  # results; nodes that need the same one come soon after each other


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, folder: str, root: str):
        super().__init__(file, protocol=4)
        self._folder, self._root = folder, root.rstrip(os.sep) + os.sep

    def persistent_id(self, value: Any) -> str | None:
        """Path relative to the folder of the node, for paths inside the working directory."""
        if type(value) is not str or not value.startswith(self._root):
            return None
        return os.path.relpath(value, self._folder) if os.path.normpath(value) == value else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, folder: str):
        super().__init__(file)
        self._folder = folder

    def persistent_load(self, relative: Any) -> str:
        """Whole path of what was stored relative to the folder of the node."""
        return os.path.normpath(os.path.join(self._folder, relative))


def save_result(result: Any, folder: str, name: str, root: str) -> None:
    """Store the result of the node `name`, whose working folder is `folder`, below `root`."""
    packed = io.BytesIO()
    _Pickler(packed, folder, root).dump(result)
    path = Path(folder) / f"result_{name}.pklz"
    with whole(path) as partial:
        partial.write_bytes(gzip.compress(packed.getvalue(), GZIP_LEVEL, mtime=0))


def load_result(path: str | os.PathLike) -> Any:
    """Result of a node, from the file in its folder."""
    path = Path(path)
    unpacked = io.BytesIO(gzip.decompress(path.read_bytes()))
    return _Unpickler(unpacked, str(path.parent)).load()


class _Loaded:
    """Results that were read before; each one is read by all nodes that need it."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, ...], Any]] = {}

    def __call__(self, path: str | os.PathLike, resolve: bool = True) -> Any:
        status = os.stat(path)  # no such file: the error that Nipype knows
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        known = self._known.get(os.fspath(path))
        if known is None or known[0] != stamp:
            known = (stamp, load_result(path))
        self._known.pop(os.fspath(path), None)
        self._known[os.fspath(path)] = known  # the last one that was asked for
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return known[1]


@contextmanager
def portable(root: str | os.PathLike) -> Iterator[None]:
    """Let Nipype store and read the results of nodes in the working directory `root` this way."""
    from nipype.pipeline.engine import nodes

    def save(result: Any, cwd: str, name: str, rebase: bool | None = None) -> None:
        save_result(result, os.path.realpath(cwd), name, os.path.realpath(root))

    before = nodes._save_resultfile, nodes._load_resultfile
    nodes._save_resultfile, nodes._load_resultfile = save, _Loaded()
    try:
        yield
    finally:
        nodes._save_resultfile, nodes._load_resultfile = before
