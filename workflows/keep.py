"""The size of the working directory: which files go when nobody waits for them, how they return.

A large output of a finished step is replaced by a placeholder (`cache.write_placeholder`), which
counts as the file that it stands for wherever content is compared: what is computed stays cached.
Before a step starts that would read a placeholder, the file is taken back from the derivatives,
where the sink has copied it, or the step that made it is computed again.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import stat
import tomllib
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import networkx as nx
from nipype.interfaces.utility import IdentityInterface, Merge, Select, Split

from alsflow.interfaces.whole import partial_of
from alsflow.workflows.cache import (
    CHUNK,
    Removed,
    drop_result,
    note_removed,
    paths_in,
    read_record,
    removed,
)
from alsflow.workflows.names import visit_of
from alsflow.workflows.settings import KeepWork

logger = logging.getLogger("alsflow")

LARGE = 1_000_000  # bytes; smaller files are not worth a second thought
BOOKS = ("_", "result_")  # how the names of files begin that Nipype and `cache` keep
NAMING = (IdentityInterface, Merge, Select, Split)  # name files that they do not read
UNREADABLE = (OSError, EOFError, zlib.error)  # what a damaged file raises, compressed or not


@cache
def table() -> dict[str, Any]:
    """What is known of the size of files, by stream, from ``data/disk.toml``."""
    text = (files("alsflow.workflows") / "data" / "disk.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _known(node: Any) -> tuple[str, dict[str, Any]]:
    """Step of a node within its stream, and what the table says of the stream.

    Its name is such as ``alsflow_wf.sub_01_wf.dwi_wf.series_wf.load``.
    """
    parts = node.fullname.split(".", 3)
    if len(parts) < 4:
        return "", {}
    return parts[3], table().get(parts[2].removesuffix("_wf"), {})


def is_passing(node: Any) -> bool:
    """Whether the large outputs of a step go when its visit has succeeded."""
    step, known = _known(node)
    return step in known.get("passing", ())


def overtaken_by(node: Any) -> str:
    """Step whose output, where it makes one of its own, lets the outputs of `node` go as well."""
    step, known = _known(node)
    return known.get("overtaken", {}).get(step, "")


def files_read(node: Any) -> Iterator[str]:
    """Files and folders among the inputs of a node, which must have been set."""
    for path in paths_in(node.inputs.get()):
        if os.path.isdir(path):
            yield from (str(entry) for entry in Path(path).rglob("*") if entry.is_file())
        yield path


def check_whole(node: Any) -> None:
    """Refuse to compute `node` while a placeholder stands for one of its inputs."""
    if isinstance(node.interface, NAMING):
        return
    node._get_inputs()
    for path in files_read(node):
        if removed(path) is not None:
            raise FileNotFoundError(
                f"{path} was removed to save space and has not been made again"
            )


class Keeper:
    """Removes large files that nobody waits for, and knows which steps must make them again.

    Parameters
    ----------
    choice : {"all", "failed", "none"}
        All files stay; those of passing steps go when their visit has succeeded; every large
        file goes as soon as the steps that read it have finished.
    """

    def __init__(self, choice: KeepWork = "all"):
        self._choice = choice
        self._graph = nx.DiGraph()
        self._again: dict[Any, dict[str, str]] = {}  # nodes made again, and their old outputs
        self._lost: set[Any] = set()  # nodes that could not be made again
        self.freed = 0  # bytes

    def plan(self, graph: nx.DiGraph) -> None:
        """Hear of the nodes of the run."""
        self._graph = graph
        self._makers = {node.output_dir(): node for node in graph}
        self._done: set[Any] = set()
        self._visits: dict[str, list[Any]] = defaultdict(list)
        for node in graph:
            self._visits[visit_of(node.fullname)].append(node)
        self._unfinished = {visit: len(nodes) for visit, nodes in self._visits.items()}
        self._computed: dict[str, set[Any]] = defaultdict(set)  # nodes by visit, in this run
        self._delivered: dict[str, list[str]] = {}  # files in the derivatives, by visit
        self._users: dict[str, set[Any]] = {}  # of large files: the nodes that read them
        self._watched: dict[Any, set[str]] = defaultdict(set)  # large files made or read by a node

    # -- what goes

    def finished(self, node: Any, cached: bool = False) -> list[Any]:
        """Remove what nobody waits for now; the nodes whose inputs are other than they were."""
        self._done.add(node)
        if not cached:
            self._computed[visit_of(node.fullname)].add(node)
            self._delivered.pop(visit_of(node.fullname), None)
        self._unfinished[visit_of(node.fullname)] -= 1
        changed = self._compare(node)
        if self._choice != "all":
            self._watch(node)
            for path in self._due(node):
                users = self._users[path]
                settled = users <= self._done and users.isdisjoint(changed)
                if settled and _is_large(path) and self._is_superfluous(path):
                    self._remove(path)
            if self._choice == "none" or self._may_be_cleared(node):
                self._remove_scratch(visit_of(node.fullname))
        return changed

    def failed(self, node: Any) -> None:
        """Hear that a node has no result."""
        if self._again.pop(node, None) is not None:
            self._lost.add(node)

    def _due(self, node: Any) -> list[str]:
        """Files that may have become superfluous with the end of `node`."""
        if self._choice == "none":
            return list(self._watched.get(node, ()))
        if not self._may_be_cleared(node):
            return []
        makers = self._visits[visit_of(node.fullname)]
        return [path for maker in makers for path in self._watched.get(maker, ())]

    def _may_be_cleared(self, node: Any) -> bool:
        """Whether the visit of `node` has succeeded: a step that failed is never finished."""
        return not self._unfinished[visit_of(node.fullname)]

    def _watch(self, node: Any) -> None:
        """Note the large files that `node` names among its outputs, and who reads them."""
        content = read_record(node)
        paths = [path for path in content["files"] if self._may_go(path)] if content else []
        if not paths:
            return
        fields = _fields(node)
        for path in paths:
            naming = {name for name, values in fields.items() if _names(values, path)}
            users = self._users.setdefault(path, set())
            for follower in self._graph.successors(node):
                if naming & _taken(self._graph, node, follower):
                    users.add(follower)
                    self._watched[follower].add(path)
            self._watched[node].add(path)

    def _may_go(self, path: str) -> bool:
        maker = self._maker(path)
        if maker is None:
            return False
        if self._choice == "failed" and not (is_passing(maker) or overtaken_by(maker)):
            return False
        was = removed(path)
        return _is_large(path) if was is None else was.size >= LARGE

    def _is_superfluous(self, path: str) -> bool:
        """Whether the choice lets a file go that nobody waits for."""
        maker = self._maker(path)
        if self._choice == "none" or is_passing(maker):
            return True
        followers = self._graph.successors(maker)
        return any(_known(one)[0] == overtaken_by(maker) and _has_large(one) for one in followers)

    def _maker(self, path: str) -> Any:
        """Node of the run in whose folder a file lies."""
        for folder in Path(path).parents:
            if str(folder) in self._makers:
                return self._makers[str(folder)]
        return None

    def _remove(self, path: str) -> None:
        maker = self._maker(path)
        if maker in self._again:
            return
        try:
            size = os.stat(path).st_size
            note_removed(maker, path)
        except OSError as error:  # a file too many is no reason to stop
            logger.warning("%s stays: %s", path, error)
            return
        self.freed += size
        logger.info("%s removed to save space", path)

    def _remove_scratch(self, visit: str) -> None:
        """Delete large files that programs left in the folders of steps and are no outputs."""
        for node in self._computed.pop(visit, ()):
            content = read_record(node) or {}
            for path in Path(node.output_dir()).rglob("*") if content else ():
                ours = path.name.startswith(BOOKS)
                if not ours and str(path) not in content["files"] and _is_large(str(path)):
                    self.freed += path.stat().st_size
                    path.unlink()
                    logger.info("%s deleted: no output", path)

    # -- what comes back

    def reopen(self, node: Any, forget: bool) -> None:
        """Have a finished node looked at again, and computed if its result is to be forgotten."""
        content = read_record(node)
        self._again[node] = content["files"] if content else {}
        self._done.discard(node)
        self._unfinished[visit_of(node.fullname)] += 1
        reset(node)
        if forget:
            folder = Path(node.output_dir())
            drop_result(node)
            for path in (Path(path) for path in self._again[node]):
                if folder in path.parents and removed(path) is not None:  # element of a MapNode
                    _drop_above(path, folder)

    def is_reopened(self, node: Any) -> bool:
        """Whether `node` had finished and is being made again."""
        return node in self._again

    def is_hopeless(self, node: Any) -> bool:
        """Whether `node` needs what could not be made again."""
        return bool(self._lost) and not self._lost.isdisjoint(self._sources(node))

    def must_wait(self, node: Any, running: Collection[Any]) -> bool:
        """Whether files that `node` reads are being written, or that it writes are being read."""
        if not self._again:
            return False
        if not self._again.keys().isdisjoint(self._sources(node)):
            reset(node)
            return True
        return node in self._again and any(node in self._sources(busy) for busy in running)

    def _sources(self, node: Any) -> set[Any]:
        """Nodes whose files `node` may read, also those that others merely name to it.

        Its inputs cannot be asked: Nipype refuses to set those that are being made again.
        """
        found = set(self._graph.predecessors(node))
        for source in list(found):
            content = read_record(source)
            found |= {self._maker(path) for path in content["files"]} if content else set()
        return found - {None}

    def lacking(self, node: Any) -> set[Any]:
        """Nodes that must be made again before `node` starts; other files are brought back."""
        node._get_inputs()
        if isinstance(node.interface, NAMING):
            node._get_hashval()  # by our hashes: those of a worker know of no placeholder
            return set()
        makers = set()
        for path in files_read(node):
            was = removed(path)
            if was is None or self._taken_back(path, was):
                continue
            maker = self._maker(path)
            if maker is None:
                raise FileNotFoundError(
                    f"{path} was removed to save space; who made it is unknown"
                )
            makers.add(maker)
        return makers

    def is_at_hand(self, path: str, was: Removed) -> bool:
        """Whether the file that a placeholder stands for could be had from the derivatives."""
        for source in self._copies(path):
            packed = source.endswith(".gz") and not path.endswith(".gz")
            with suppress(*UNREADABLE):
                if _size(source, packed) == was.size and _md5_inside(source, packed) == was.md5:
                    return True
        return False

    def makers(self, node: Any) -> set[Any]:
        """Nodes that `lacking` would name, were it asked now; nothing is brought back."""
        if isinstance(node.interface, NAMING):
            return set()
        found = ((path, removed(path)) for path in files_read(node))
        return {
            self._maker(path)
            for path, was in found
            if was is not None and not self.is_at_hand(path, was)
        } - {None}

    def _taken_back(self, path: str, was: Removed) -> bool:
        """Whether the file could be had from the derivatives."""
        for source in self._copies(path):
            packed = source.endswith(".gz") and not path.endswith(".gz")
            try:
                if _size(source, packed) == was.size and _copy(source, packed, Path(path), was):
                    logger.info("%s taken back from %s", path, source)
                    return True
            except UNREADABLE as error:
                logger.warning("%s cannot be taken from %s: %s", path, source, error)
        return False

    def _copies(self, path: str) -> list[str]:
        """Files outside of folders of steps, written by steps of the visit that `path` is of."""
        maker = self._maker(path)
        if maker is None:
            return []
        visit = visit_of(maker.fullname)
        if visit not in self._delivered:
            contents = [read_record(node) for node in self._visits[visit]]
            paths = [path for content in contents if content for path in content["files"]]
            self._delivered[visit] = [path for path in paths if self._maker(path) is None]
        return [path for path in self._delivered[visit] if os.path.isfile(path)]

    def _compare(self, node: Any) -> list[Any]:
        """Followers of a node made again that are to be looked at: its outputs have changed."""
        if node not in self._again:
            return []
        before, content = self._again.pop(node), read_record(node)
        for follower in self._graph.successors(node):
            if follower not in self._done:
                reset(follower)
        if content and content["files"] == before:
            return []
        return [follower for follower in self._graph.successors(node) if follower in self._done]


def reset(node: Any) -> None:
    """Have Nipype read the inputs of a node and hash them anew."""
    node._got_inputs, node._hashed_inputs, node._hashvalue = False, None, None


def _is_large(path: str) -> bool:
    """Whether a file is worth removing; what a link leads to is not ours."""
    with suppress(OSError):
        status = os.lstat(path)
        return stat.S_ISREG(status.st_mode) and status.st_size >= LARGE
    return False


def _has_large(node: Any) -> bool:
    """Whether a large file in the folder of a node is an output of it."""
    content, folder = read_record(node) or {"files": ()}, node.output_dir() + os.sep
    own = (path for path in content["files"] if path.startswith(folder))
    return any(_is_large(path) or removed(path) is not None for path in own)


def _fields(node: Any) -> dict[str, list[str]]:
    """Paths by the output of `node` that names them."""
    outputs = node.result.outputs
    values = outputs.trait_get() if hasattr(outputs, "trait_get") else vars(outputs)
    return {name: list(paths_in(value)) for name, value in values.items()}


def _names(values: list[str], path: str) -> bool:
    """Whether `path`, or a folder above it, is one of `values`."""
    return any(path == value or path.startswith(value + os.sep) for value in values)


def _taken(graph: nx.DiGraph, node: Any, follower: Any) -> set[str]:
    """Outputs of `node` that `follower` takes; through a function they are a tuple."""
    sources = (pair[0] for pair in graph.get_edge_data(node, follower)["connect"])
    return {source if isinstance(source, str) else source[0] for source in sources}


def _drop_above(path: Path, folder: Path) -> None:
    """Drop the results in the folders between an output and the folder of its node."""
    for above in path.parents:
        if above == folder:
            return
        for result in above.glob("result_*.pklz"):
            result.unlink(missing_ok=True)


def _size(path: str, packed: bool) -> int:
    """Size of a file, of a compressed one that of its content (below 4 GB)."""
    if not packed:
        return os.stat(path).st_size
    with open(path, "rb") as stream:
        stream.seek(-4, os.SEEK_END)
        return int.from_bytes(stream.read(4), "little")


def _md5_inside(path: str, packed: bool) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with gzip.open(path, "rb") if packed else open(path, "rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _copy(source: str, packed: bool, target: Path, was: Removed) -> bool:
    """Copy a file to where a placeholder is, if its content is what was there."""
    for left in target.parent.glob(f".*.{target.name}"):  # of a run that was killed
        left.unlink(missing_ok=True)
    partial = partial_of(target)
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with (
            gzip.open(source, "rb") if packed else open(source, "rb") as stream,
            partial.open("wb") as copy,
        ):
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                copy.write(chunk)
        if digest.hexdigest() != was.md5:
            return False
        os.replace(partial, target)
        return True
    finally:
        partial.unlink(missing_ok=True)
