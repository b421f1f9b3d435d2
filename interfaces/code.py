"""What code the result of an interface depends on.

In modules of interfaces the unit is a definition: a function, a class or a constant, followed
through what it names, so that a change in one interface leaves its neighbours alone. In modules of
nodes it is the whole module with all that it imports. Comments, docstrings and layout never count.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from alsflow.interfaces.sealed import sealed, unsealed

PACKAGE = "alsflow"
WHOLE = f"{PACKAGE}.nodes"
# how a version is found is no part of what a step computes
APART = {f"{PACKAGE}.interfaces.base", f"{PACKAGE}.interfaces.code"}
DIGITS = 16

Unit = tuple[str, str]  # module, and name of a definition in it; "" for the whole


@dataclass
class _Module:
    """What is known of a module: digests of its code, and what the code names."""

    whole: str
    imports: dict[str, Unit]
    definitions: dict[str, tuple[str, list[str]]]
    loose: tuple[str, list[str]]  # what runs when it is imported


def code_version(*functions: Callable, cls: type | None = None) -> str:
    """Digest of the code behind `functions` and of the interface `cls`."""
    parts = code_parts(*functions, cls=cls)
    return _digest("".join(f"{name} {digest}\n" for name, digest in sorted(parts.items())))


def code_parts(*functions: Callable, cls: type | None = None) -> dict[str, str]:
    """Digest of the code that is reached, for each module in which there is any."""
    waiting = {(function.__module__, function.__name__) for function in functions}
    if cls is not None:
        waiting.add((cls.__module__, cls.__name__))
    seen: set[Unit] = set()
    dumps: dict[str, list[str]] = {}
    while waiting:
        unit = _unit(waiting.pop())
        if unit is None or unit in seen:
            continue
        seen.add(unit)
        text, follow = _reached(unit)
        dumps.setdefault(unit[0], []).append(f"{unit[1]} {text}")
        waiting |= follow
    return {module: _digest("\n".join(sorted(found))) for module, found in dumps.items()}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _unit(wanted: Unit) -> Unit | None:
    """What `wanted` stands for: a module where it names one, and nothing that is not ours."""
    module, name = wanted
    if module in APART:
        return None
    if name and _module(f"{module}.{name}") is not None:
        module, name = f"{module}.{name}", ""
    if module.startswith(WHOLE):
        name = ""
    return None if _module(module) is None else (module, name)


@cache
def _notes() -> dict[str, dict[str, Any]]:
    """Modules as they were taken apart before, by the digest of their source."""
    return {}


def recall(path: Path) -> None:
    """Read what an earlier run has noted of the modules; without it each is read and parsed."""
    try:
        _notes().update(unsealed(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return


def noted() -> str:
    """Notes on all modules met so far, for `recall`."""
    return sealed(dict(sorted(_notes().items())))


@cache
def _basis() -> str:
    """What the notes depend on beside the source: how they are made, and by which Python."""
    return _digest(Path(__file__).read_text(encoding="utf-8")) + sys.version


@cache
def _module(name: str) -> _Module | None:
    """Digests and names of a module; None where there is none."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # `name` is an attribute of a module
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    source = Path(spec.origin).read_text(encoding="utf-8")
    package = name if spec.submodule_search_locations else name.rpartition(".")[0]
    key = _digest(f"{_basis()} {PACKAGE} {package} {source}")
    if key not in _notes():
        _notes()[key] = asdict(_taken_apart(source, package))
    entry = _notes()[key]
    imports = {local: (unit[0], unit[1]) for local, unit in entry["imports"].items()}
    return _Module(entry["whole"], imports, entry["definitions"], entry["loose"])


def _taken_apart(source: str, package: str) -> _Module:
    tree = _without_docstrings(ast.parse(source))
    groups: dict[str, list[ast.stmt]] = {}
    loose: list[ast.stmt] = []
    for statement in tree.body:
        names = _defined(statement)
        for name in names:
            groups.setdefault(name, []).append(statement)
        if not names and not isinstance(statement, ast.Import | ast.ImportFrom):
            loose.append(statement)
    return _Module(
        _digest(ast.dump(tree)),
        dict(_imported(tree, package)),
        {name: _told(statements) for name, statements in groups.items()},
        _told(loose),
    )


def _told(statements: list[ast.stmt]) -> tuple[str, list[str]]:
    """Digest of statements, and the names in them."""
    names = {part.id for statement in statements for part in ast.walk(statement)
             if isinstance(part, ast.Name)}  # fmt: skip
    return _digest("\n".join(ast.dump(statement) for statement in statements)), sorted(names)


def _defined(statement: ast.stmt) -> list[str]:
    """Names that a statement defines."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return [part.id for part in ast.walk(statement)
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)]  # fmt: skip
    return []


def _without_docstrings(tree: ast.Module) -> ast.Module:
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, holders) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree


def _imported(tree: ast.AST, package: str) -> Iterator[tuple[str, Unit]]:
    """Local name and origin of what is imported from this project."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [(alias.asname or alias.name, (alias.name, "")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                origin = importlib.util.resolve_name("." * node.level + origin, package)
            found = [(alias.asname or alias.name, (origin, alias.name)) for alias in node.names]
        else:
            continue
        yield from ((name, unit) for name, unit in found if unit[0].startswith(f"{PACKAGE}."))


@cache
def _reached(unit: Unit) -> tuple[str, frozenset[Unit]]:
    """Digest of a unit, and the units that it names."""
    module, name = _module(unit[0]), unit[1]
    assert module is not None
    if not name:
        return module.whole, frozenset(module.imports.values())
    if name not in module.definitions and name in module.imports:  # passed on by another module
        return "", frozenset([module.imports[name]])
    digest, named = module.definitions.get(name, ("", []))
    names = {*named, *module.loose[1]}
    follow = {(unit[0], other) for other in names & module.definitions.keys() if other != name}
    follow |= {module.imports[other] for other in names & module.imports.keys()}
    return f"{digest} {module.loose[0]}", frozenset(follow)
