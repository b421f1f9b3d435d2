"""What code the result of an interface depends on.

In modules of interfaces the unit is a definition: a function, a class or a constant, followed
through what it names, so that a change in one interface leaves its neighbours alone. In modules of
nodes it is the whole module with all that it imports. Comments, docstrings and layout never count.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PACKAGE = "alsflow"
WHOLE = f"{PACKAGE}.nodes"
# how a version is found is no part of what a step computes
APART = {f"{PACKAGE}.interfaces.base", f"{PACKAGE}.interfaces.code"}
DIGITS = 16

Unit = tuple[str, str]  # module, and name of a definition in it; "" for the whole


@dataclass
class _Module:
    """Source of a module, taken apart."""

    tree: ast.Module
    package: str
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Unit] = field(default_factory=dict)
    loose: list[ast.stmt] = field(default_factory=list)  # what runs when it is imported


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
def _module(name: str) -> _Module | None:
    """Source of a module; None where there is none."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # `name` is an attribute of a module
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    package = name if spec.submodule_search_locations else name.rpartition(".")[0]
    module = _Module(_without_docstrings(tree), package)
    module.imports = dict(_imported(tree, package))
    for statement in module.tree.body:
        _sort(statement, module)
    return module


def _sort(statement: ast.stmt, module: _Module) -> None:
    """Put a statement where it belongs: to the names that it defines, or to the loose ones."""
    names: list[str] = []
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        names = [statement.name]
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        names = [part.id for part in ast.walk(statement)
                 if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)]  # fmt: skip
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        return
    for name in names:
        module.definitions.setdefault(name, []).append(statement)
    if not names:
        module.loose.append(statement)


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
    """Code of a unit as text, and the units that it names."""
    module, name = _module(unit[0]), unit[1]
    assert module is not None
    if not name:
        return ast.dump(module.tree), frozenset(module.imports.values())
    if name not in module.definitions and name in module.imports:  # passed on by another module
        return "", frozenset([module.imports[name]])
    statements = [*module.definitions.get(name, []), *module.loose]
    names = {part.id for statement in statements for part in ast.walk(statement)
             if isinstance(part, ast.Name)}  # fmt: skip
    follow = {(unit[0], other) for other in names & module.definitions.keys() if other != name}
    follow |= {module.imports[other] for other in names & module.imports.keys()}
    return "\n".join(ast.dump(statement) for statement in statements), frozenset(follow)
