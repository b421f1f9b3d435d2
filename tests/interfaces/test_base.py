"""The version of the code behind an interface, and what every interface owes its reader."""

import importlib
import inspect
import sys
from pathlib import Path

import pytest

from alsflow.interfaces import base
from alsflow.interfaces.base import CodedInterface, code_version

ROOT = Path(__file__).resolve().parents[2]
NAMES = [f"alsflow.interfaces.{path.stem}" for path in sorted((ROOT / "interfaces").glob("*.py"))
         if path.stem != "__init__"]  # fmt: skip
INTERFACES = {
    f"{name}.{cls.__name__}": cls
    for name in NAMES
    for cls in vars(importlib.import_module(name)).values()
    if inspect.isclass(cls) and issubclass(cls, CodedInterface) and cls.__module__ == name
    if cls is not CodedInterface
}


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a project of two modules anew and give the version of the upper one's function."""
    package = tmp_path / "toyproject"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(base, "PACKAGE", "toyproject")

    def version(lower: str, upper: str = "") -> str:
        (package / "lower.py").write_text(lower)
        (package / "upper.py").write_text(
            f"from toyproject.lower import helper\n{upper}\ndef step(x):\n    return helper(x)\n"
        )
        for name in [name for name in sys.modules if name.startswith("toyproject")]:
            del sys.modules[name]
        base._module_code.cache_clear()
        importlib.invalidate_caches()
        return code_version(importlib.import_module("toyproject.upper").step)

    yield version
    base._module_code.cache_clear()


def test_changed_helper_changes_the_version(module):
    assert module("def helper(x):\n    return x\n") != module("def helper(x):\n    return x + 1\n")


def test_comments_and_docstrings_do_not_count(module):
    plain = module("def helper(x):\n    return x\n")
    assert plain == module(
        '"""Says it."""\n# why\ndef helper(x):\n    """Help."""\n    return x\n'
    )


def test_changed_constant_beside_the_function_counts(module):
    code = "def helper(x):\n    return x\n"
    assert module(code, "LIMIT = 1") != module(code, "LIMIT = 2")


@pytest.mark.parametrize("name", INTERFACES)
def test_every_input_and_output_says_what_it_is(name):
    cls = INTERFACES[name]
    for spec in (cls.input_spec, cls.output_spec):
        for trait, definition in spec().traits(transient=None).items():
            if not trait.startswith("trait_"):
                assert definition.desc, f"{name}.{trait}"


@pytest.mark.parametrize("name", INTERFACES)
def test_every_interface_can_be_found_by_name_again(name):
    """Nipype pickles classes by name; one that cannot be found would hang a pool."""
    cls = INTERFACES[name]
    for spec in (cls.input_spec, cls.output_spec):
        assert getattr(importlib.import_module(spec.__module__), spec.__name__) is spec
