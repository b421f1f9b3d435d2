"""What every interface of this project shares: a version of its code among its inputs.

Nipype notices changed inputs, but not changed code in a custom interface. Each interface here
names the node functions it calls in ``_code``; a digest of their modules, and of the project's
modules that those import, is an input, so a cached result is used only while the code that made
it stands. Comments and docstrings do not count.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from nipype.interfaces.base import BaseInterfaceInputSpec, SimpleInterface, traits

from alsflow.nodes.errors import BadInputError

PACKAGE = "alsflow"


@contextmanager
def naming(subject: str) -> Iterator[None]:
    """Put what a refusal is about before its sentence, which begins with the verb."""
    try:
        yield
    except BadInputError as error:
        raise BadInputError(f"{subject} {error}") from error


def _without_docstrings(tree: ast.Module) -> ast.Module:
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, holders) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree


def _imported(tree: ast.Module, module: str) -> set[str]:
    """Names of the project's modules that `tree`, the source of `module`, imports."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                origin = importlib.util.resolve_name("." * node.level + origin, module)
            found |= {origin} | {f"{origin}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith(f"{PACKAGE}.")}


@cache
def _module_code(name: str) -> tuple[str, frozenset[str]] | None:
    """Code of one module without comments and docstrings, and the project's modules it imports."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # `name` is an attribute of a module
        return None
    if spec is None or spec.origin is None:
        return None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    package = name if spec.submodule_search_locations else name.rpartition(".")[0]
    imported = frozenset(_imported(tree, package))
    return ast.dump(_without_docstrings(tree)), imported


@cache
def _beside(module: str) -> str:
    """Functions and constants of a module of interfaces, which its interfaces may use."""
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    apart = (ast.ClassDef, ast.Import, ast.ImportFrom)
    tree.body = [node for node in tree.body if not isinstance(node, apart)]
    return ast.dump(_without_docstrings(tree))


def code_version(*functions: Callable, cls: type | None = None) -> str:
    """Digest of the code behind `functions`, and of the body of the interface `cls`."""
    waiting = {function.__module__ for function in functions}
    seen: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        code = _module_code(name)
        if name in seen or code is None:
            continue
        seen[name] = code[0]
        waiting |= set(code[1])
    digest = hashlib.sha256()
    if cls is not None:
        digest.update(_beside(cls.__module__).encode() + inspect.getsource(cls).encode())
    for name in sorted(seen):
        digest.update(name.encode() + b"\0" + seen[name].encode() + b"\0")
    return digest.hexdigest()[:16]


class CodedInputSpec(BaseInterfaceInputSpec):
    """Inputs of an interface whose code belongs to what its result depends on."""

    code_version = traits.Str(desc="digest of the code that computes the result")


class CodedInterface(SimpleInterface):
    """An interface that reruns when the code of the node functions it names has changed."""

    input_spec = CodedInputSpec
    _code: tuple[Callable, ...] = ()

    def __init__(self, **inputs):
        super().__init__(**inputs)
        self.inputs.code_version = _version_of(type(self))  # type: ignore[arg-type]


@cache
def _version_of(interface: type) -> str:
    """Version of an interface; its source does not change while the program runs."""
    return code_version(*getattr(interface, "_code"), cls=interface)  # noqa: B009 - as a type
