"""What every interface of this project shares: a version of its code among its inputs.

Nipype notices changed inputs, but not changed code in a custom interface. Here a digest of the
code that an interface reaches (`interfaces.code`) is an input, so a cached result is used only
while the code that made it stands. What is not reached by name can be named in ``_code``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, SimpleInterface, traits

from alsflow.interfaces.code import code_parts, code_version
from alsflow.nodes.errors import BadInputError


@contextmanager
def naming(subject: str) -> Iterator[None]:
    """Put what a refusal is about before its sentence, which begins with the verb."""
    try:
        yield
    except BadInputError as error:
        raise BadInputError(f"{subject} {error}") from error


class CodedInputSpec(BaseInterfaceInputSpec):
    """Inputs of an interface whose code belongs to what its result depends on."""

    code_version = traits.Str(desc="digest of the code that computes the result")

    def _get_sorteddict(self, objekt, dictwithhash=False, hash_method=None, hash_files=True):
        """Take only whole paths for files: a word may be the name of one that lies about."""
        if isinstance(objekt, str) and not os.path.isabs(objekt):
            hash_files = False
        return super()._get_sorteddict(objekt, dictwithhash, hash_method, hash_files)


class CodedInterface(SimpleInterface):
    """An interface that reruns when the code that it reaches has changed."""

    input_spec = CodedInputSpec
    _code: tuple[Callable, ...] = ()

    def __init__(self, **inputs):
        super().__init__(**inputs)
        self.inputs.code_version = version_of(type(self))  # type: ignore[arg-type]


@cache
def version_of(interface: type) -> str:
    """Version of an interface; its source does not change while the program runs."""
    return code_version(*_named(interface), cls=interface)


def parts_of(interface: type) -> dict[str, str]:
    """Digest of each module that the version of an interface is made of."""
    return code_parts(*_named(interface), cls=interface)


def _named(interface: type) -> Any:
    return getattr(interface, "_code", ())
