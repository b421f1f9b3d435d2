"""Why a step runs: what differs from when its stored result was made.

Nipype leaves the inputs of a step beside its result. They are held against those of now, and what
differs is said in words: a file with other content, a setting, the code, the result of a step
before it. What a number in an input is called in the configuration file, and which modules a
version of the code was made of, is noted in the working directory with every run.

Nothing here writes but `History.save`.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import networkx as nx
from nipype.pipeline.engine.utils import topological_sort
from nipype.pipeline.plugins.base import PluginBase

from alsflow.workflows.cache import FileHashes, distrust, exclusive, read_record, write_text
from alsflow.workflows.keep import Keeper
from alsflow.workflows.settings import Settings
from alsflow.workflows.watcher import Watcher

logger = logging.getLogger("alsflow")

NEVER = "never computed"
UNFINISHED = "it did not finish the last time"
LOST = "its stored result is missing"
OTHER = "its inputs differ"
ALWAYS = "it runs every time"
HISTORY = "history.json"
MOST_SETTINGS = 50  # sets of settings that are remembered
CODE = "code_version"
SHOWN = 40  # characters of a value
NAMED = 3  # steps, people or modules named before the rest is counted
# Settings on which no result depends, or only as far as they choose people and files.
NO_MATTER = (
    "bids_dir", "analysis_level", "work_dir", "participant_label", "session_label",
    "bids_filters", "streams_found", "nprocs", "omp_nthreads", "mem_mb", "plugin", "keep_work",
    "slurm", "profile", "skip_bids_validation", "stop_on_first_crash", "checked_by",
)  # fmt: skip

Inputs = dict[str, Any]


# ---------------------------------------------------------------------------- what is remembered


@dataclass
class History:
    """Settings and code of earlier runs in a working directory, and those of this one."""

    path: Path
    settings: dict[str, Any]  # of this run, one value for each name in the configuration file
    earlier: list[dict[str, Any]] = field(default_factory=list)
    code: dict[str, dict[str, str]] = field(default_factory=dict)  # modules of each version

    @classmethod
    def read(cls, settings: Settings) -> History:
        """History of the working directory that the settings name."""
        path = settings.work_dir.resolve() / HISTORY
        kept = {key: value for key, value in asdict(settings).items() if key not in NO_MATTER}
        return cls(path, dict(_flat(kept)), *_noted(path))

    def save(self, nodes: Iterable[Any]) -> None:
        """Add the settings of this run and the modules behind its nodes."""
        versions = {getattr(node.inputs, CODE, None): type(node.interface) for node in nodes}
        new = [version for version in versions if isinstance(version, str)]
        if self.settings in self.earlier and all(version in self.code for version in new):
            return
        with exclusive(self.path.with_suffix(".lock")):
            earlier, code = _noted(self.path)  # other runs may have written meanwhile
            sets = [entry for entry in earlier if entry != self.settings] + [self.settings]
            code |= {name: _parts(versions[name]) for name in new if name not in code}
            content = {"settings": sets[-MOST_SETTINGS:], "code": code}
            write_text(self.path, json.dumps(content))

    def name(self, stream: str, old: Any, new: Any) -> str:
        """Name of the one setting that was `old` and is `new`; nothing if there are several."""
        if old is None:
            return ""
        found = [
            key
            for key, value in self.settings.items()
            if _equal(value, new) and any(_equal(entry.get(key), old) for entry in self.earlier)
        ]
        near = [key for key in found if key.partition(".")[0] in (stream, key)] or found
        return near[0] if len(near) == 1 else ""

    def modules(self, old: str, now: Mapping[str, str]) -> list[str]:
        """Modules whose code is not what it was in the version `old`."""
        before = self.code.get(old, {})
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        return sorted(name.partition(".")[2] or name for name in names) if before else []


def _noted(path: Path) -> tuple[list[dict[str, Any]], dict[str, dict[str, str]]]:
    """Settings and code of earlier runs; without them there are fewer words, no less truth."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return list(content["settings"]), dict(content["code"])
    except (OSError, ValueError, KeyError, TypeError):
        return [], {}


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)  # True is not 1


def _parts(interface: type) -> dict[str, str]:
    from alsflow.interfaces.base import parts_of

    return parts_of(interface)


def _plain(value: Any) -> Any:
    """Make a value as Nipype's hashing writes it and JSON gives it back."""
    if isinstance(value, dict):
        return [[str(key), _plain(entry)] for key, entry in sorted(value.items())]
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return f"{value:.10f}"
    return value if isinstance(value, bool | int | str | None) else str(value)


def _flat(tables: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tables.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, _plain(value)


# ---------------------------------------------------------------------------- one step


def stored_inputs(node: Any) -> Inputs | None:
    """Inputs with which the stored result of `node` was made; None if it was not finished."""
    folder = Path(node.output_dir())
    paths = [path for path in folder.glob("_0x*.json") if "_unfinished" not in path.name]
    if not paths:
        return None
    try:
        newest = max(paths, key=lambda path: path.stat().st_mtime_ns)
        return dict(json.loads(newest.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # Nipype asks for the name of the file only
        return {}


def _present_inputs(node: Any, without: Collection[str]) -> tuple[Inputs, bool]:
    """Inputs of now in the same form, and whether the stored result was made with them.

    Of a node that waits for others nobody can tell: then it is False.
    """
    if without:
        _set_inputs(node, without)
        hashed, _ = node.inputs.get_hashval(hash_method="content")
        stands = False
    else:
        hashed, value = node._get_hashval()
        stands = (Path(node.output_dir()) / f"_0x{value}.json").exists()
    return dict(json.loads(json.dumps(hashed, default=str))), stands


def _set_inputs(node: Any, without: Collection[str]) -> None:
    """Give a node the results of the steps before it, but some."""
    sources = node.input_source
    node.input_source = {key: sources[key] for key in sources if key not in without}
    try:
        node._get_inputs()
    finally:
        node.input_source = sources


def reasons(
    node: Any, history: History, repaired: str = "", without: Collection[str] = ()
) -> list[str]:
    """Say why the stored result of `node` cannot be used; empty if it can.

    Parameters
    ----------
    node : Node
        Node of the expanded graph, before its old result is dropped.
    history : History
        What settings and code were called.
    repaired : str
        Why its result cannot be trusted (`cache.distrust`).
    without : collection of str
        Inputs that come from steps that have yet to run.
    """
    if node.overwrite or (node.overwrite is None and node.interface.always_run):
        return [ALWAYS]
    folder = Path(node.output_dir())
    before = stored_inputs(node)
    if before is None:
        return [UNFINISHED if folder.is_dir() and any(folder.iterdir()) else NEVER]
    now, stands = _present_inputs(node, without)
    there = (folder / f"result_{node.name}.pklz").exists()
    if there and stands and not repaired:
        return []
    found = [_shortened(repaired)] if repaired else [] if there else [LOST]
    for name in sorted({**before, **now}) if before else ():
        if name not in without and not _same(before.get(name), now.get(name)):
            found += _differences(node, name, before.get(name), now.get(name), history)
    found.sort(key=lambda text: not text.startswith("setting "))
    return list(dict.fromkeys(found)) or ([] if without else [OTHER])


def joined(found: Sequence[str]) -> str:
    """Reasons in one line."""
    return "; ".join(found[:NAMED]) + _more(len(found), "differences")


def _differences(node: Any, name: str, old: Any, new: Any, history: History) -> list[str]:
    """Say how one input differs."""
    if name in node.input_source:
        step = Path(node.input_source[name][0]).name.removeprefix("result_")
        return [f"follows from {step.removesuffix('.pklz')}: {name} differs"]
    if name == CODE:
        modules = history.modules(str(old), _parts(type(node.interface)))
        return ["the code of the step changed" + f" ({_listed(modules)})" * bool(modules)]
    stream = next((part.removesuffix("_wf") for part in node.fullname.split(".")[2:3]), "")
    leaves = _leaves(name, old, new)
    return [_leaf_text(path, was, now, stream, history) for path, was, now in leaves]


def _leaves(name: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Take two values apart as far as they have the same parts; yields what differs."""
    if _same(old, new):
        return
    tables = [_table(value) for value in (old, new)]
    if tables[0] and tables[1]:
        for key in {**tables[0], **tables[1]}:
            pair = (table.get(key) for table in tables if table is not None)
            yield from _leaves(f"{name}.{key}", *pair)
    elif _parted(old) and _parted(new) and len(old) == len(new):
        for first, second in zip(old, new, strict=True):
            yield from _leaves(name, first, second)
    else:
        yield name, old, new


def _leaf_text(name: str, old: Any, new: Any, stream: str, history: History) -> str:
    if _is_file(old) and _is_file(new):
        names = [Path(value[0]).name for value in (old, new)]
        if names[0] == names[1]:
            return f"input {name} changed: {names[0]} has other content"
        return f"input {name} changed: {names[1]} instead of {names[0]}"
    setting = history.name(stream, old, new)
    what = f"setting {setting}" if setting else f"input {name}"
    if old is None or new is None:
        return f"{what} is {'new' if old is None else 'not given any more'}"
    return f"{what}: {_shown(old)} -> {_shown(new)}"


def _same(old: Any, new: Any) -> bool:
    """Whether two values are equal; files are by their content, wherever they lie."""
    if _is_file(old) and _is_file(new):
        return bool(old[1] == new[1])
    if _parted(old) and _parted(new):
        return len(old) == len(new) and all(map(_same, old, new))
    return bool(old == new)


def _is_file(value: Any) -> bool:
    """Whether this is how Nipype notes a file: its path and the hash of its content."""
    if not (isinstance(value, list) and len(value) == 2):
        return False
    path, digest = value
    return (
        isinstance(path, str)
        and path.startswith("/")
        and isinstance(digest, str)
        and re.fullmatch("[0-9a-f]{32}", digest) is not None
    )


def _parted(value: Any) -> bool:
    return isinstance(value, list) and not _is_file(value)


def _table(value: Any) -> dict[str, Any] | None:
    """Nipype notes a dictionary as a list of pairs."""
    pairs = _parted(value) and all(
        isinstance(pair, list) and len(pair) == 2 and not _is_file(pair) for pair in value
    )
    if not pairs or not all(isinstance(pair[0], str | int) for pair in value):
        return None
    return {str(key): entry for key, entry in value}


def _shown(value: Any) -> str:
    """Value for people: numbers without the zeros of hashing, and not too long."""
    text = re.sub(r"(-?\d+\.\d+?)0+\b", r"\1", str(value))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _shortened(text: str) -> str:
    """Sentence of `cache.distrust` with the name of a file instead of its path."""
    found = re.fullmatch(r"(/.*) ((?:is|was) [\w ]+)", text)
    return f"its output {Path(found[1]).name} {found[2]}" if found else text


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + _more(len(names), "")


def _more(number: int, what: str) -> str:
    return f" and {number - NAMED} more {what}".rstrip() if number > NAMED else ""


# ---------------------------------------------------------------------------- during a run


class Why(Watcher):
    """Notes why each step runs, before its old result is dropped.

    Parameters
    ----------
    history : History
        What settings and code were called.
    """

    def __init__(self, history: History):
        self._history = history
        self._repaired: dict[Any, str] = {}
        self._texts: dict[Any, str] = {}

    def planned(self, nodes: list[Any], repaired: dict[Any, str]) -> None:
        """All nodes are known, and why some have lost their results."""
        self._repaired = dict(repaired)
        self._history.save(nodes)

    def reopened(self, node: Any, reason: str) -> None:
        """`node`, which had finished, is looked at once more."""
        self._repaired[node] = reason
        self._texts.pop(node, None)

    def due(self, node: Any) -> str:
        """Why `node`, whose inputs are known, is going to be computed."""
        if node not in self._texts:
            try:
                found = reasons(node, self._history, self._repaired.get(node, ""))
            except Exception:  # the step itself will say what is wrong with its inputs
                logger.exception("why %s runs", node.fullname)
                found = []
            self._texts[node] = joined(found) or LOST
        return self._texts[node]

    def of(self, node: Any) -> str:
        """What was said when `node` was due."""
        return self._texts.get(node, "")


# ---------------------------------------------------------------------------- before a run


@dataclass
class Forecast:
    """What a run would compute."""

    nodes: list[Any] = field(default_factory=list)
    causes: dict[Any, list[str]] = field(default_factory=dict)  # these run
    # these run if the result of one before them differs, and these if others need files of theirs
    # that were removed to save space: the causes of each
    follow: dict[Any, set[Any]] = field(default_factory=dict)
    again: dict[Any, set[Any]] = field(default_factory=dict)


def forecast(graph: nx.DiGraph, hashes: FileHashes, history: History) -> Forecast:
    """Say which steps would run and why; nothing is written or changed on the disk.

    Parameters
    ----------
    graph : DiGraph
        Expanded graph with its sources, as Nipype gives it to a plugin; its nodes cannot be run
        any more afterwards.
    hashes : FileHashes
        Reads files.
    history : History
        What settings and code were called.
    """
    found = Forecast(topological_sort(graph, depth_first=True)[0])
    for node in found.nodes:
        before = list(graph.predecessors(node))
        open_steps = {step for step in before if step in found.causes or step in found.follow}
        unknown = open_steps | {step for step in before if _lost_placeholders(step)}
        without = {field for step in unknown for _, field in graph[step][node]["connect"]}
        distrusted = distrust(node, hashes, mend=False)
        _set_inputs(node, without)
        why = reasons(node, history, distrusted, without)
        if why:
            found.causes[node] = why
        elif open_steps:
            found.follow[node] = {
                cause for step in open_steps for cause in found.follow.get(step, {step})
            }
    _add_makers(graph, found)
    return found


def _lost_placeholders(node: Any) -> bool:
    """Whether outputs that were removed to save space are not even there as placeholders.

    A run puts them back first, so that those who take them see no difference.
    """
    content = read_record(node) or {}
    return any(not Path(path).exists() for path in content.get("removed", {}))


def _add_makers(graph: nx.DiGraph, found: Forecast) -> None:
    """Add the steps that make files again which were removed to save space."""
    keeper = Keeper()
    keeper.plan(graph)
    for node in reversed(found.nodes):
        again = found.again.get(node, set())
        needs = {node} if node in found.causes else found.follow.get(node, again)
        for maker in keeper.makers(node) - found.causes.keys() if needs else ():
            if maker not in found.follow:
                found.again.setdefault(maker, set()).update(needs)


class ForecastPlugin(PluginBase):
    """Nipype plugin that computes nothing, and says what would be."""

    def __init__(self, hashes: FileHashes, history: History):
        super().__init__({})
        self._hashes, self._history = hashes, history
        self.found = Forecast()

    def run(self, graph: nx.DiGraph, config: dict, updatehash: bool = False) -> None:
        """Look at every node."""
        self.found = forecast(graph, self._hashes, self._history)


def described(found: Forecast) -> str:
    """Forecast for people: person by person, those of whom the same holds together."""
    people: dict[str, list[Any]] = {}
    for node in found.nodes:
        people.setdefault(_person(node), []).append(node)
    texts: dict[str, list[str]] = {}
    for person, nodes in people.items():
        texts.setdefault(_of_person(nodes, found), []).append(person)
    run, may = len(found.causes), len({**found.follow, **found.again})
    total = f"{run} of {len(found.nodes)} steps would run"
    total += f", and up to {may} more as described" if may else ""
    return "\n".join(
        [f"{_listed(names)}: {text}" for text, names in texts.items()] + [f"{total}."]
    )


def _person(node: Any) -> str:
    parts = node.fullname.split(".")
    label = parts[1].removesuffix("_wf") if len(parts) > 2 else "group"
    return re.sub(r"^(sub|ses)_", r"\1-", label.replace("_ses_", "_ses-"))


def _of_person(nodes: list[Any], found: Forecast) -> str:
    run = [node for node in nodes if node in found.causes]
    if not run:  # nor does anything follow
        return f"nothing to run, {len(nodes)} steps are up to date."
    groups: dict[str, list[Any]] = {}
    for node in run:
        text = joined(found.causes[node])
        groups.setdefault(text, []).append(node)
    after, before = (_counted(nodes, groups, kind) for kind in (found.follow, found.again))
    lines = [f"{len(run)} of {len(nodes)} steps would run."]
    for text, members in groups.items():
        names = _listed([step_name(node) for node in members])
        line = f"  {names}: {text}"
        if number := after[text]:
            line += f"; and {number} step{'s' * (number > 1)} after it, if the result differs"
        if number := before[text]:
            line += f"; for it {number} removed result{'s' * (number > 1)} would be made again"
        lines.append(line)
    return "\n".join(lines)


def _counted(
    nodes: list[Any], groups: Mapping[str, list[Any]], causes: Mapping[Any, set[Any]]
) -> Counter[str]:
    """How many nodes run on account of each group, each counted with the first of its causes."""
    count: Counter[str] = Counter()
    for node in nodes:
        count.update(
            [text for text, members in groups.items() if causes.get(node, set()) & {*members}][:1]
        )
    return count


def step_name(node: Any) -> str:
    """Name of a step within its person."""
    parts = node.fullname.split(".")
    return " ".join(part.removesuffix("_wf") for part in parts[2 if len(parts) > 2 else 1 :])
