"""The version of the code behind an interface, and what every interface owes its reader."""

import importlib
import inspect
import sys
from pathlib import Path

import pytest

from alsflow.interfaces import code
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


FILES = {
    "nodes/inner.py": "def inner(x):\n    return x\n",
    "nodes/step.py": "from toyproject.nodes.inner import inner\n\nLIMIT = 1\n\n\n"
    "def step(x):\n    return inner(x)\n",
    "interfaces/files.py": "MODE = 'r'\n\n\ndef read(path):\n    return open(path, MODE)\n\n\n"
    "def write(path):\n    return open(path, 'w')\n",
    "interfaces/kinds.py": "class Kind:\n    grey = 1\n",
    "interfaces/shelf.py": "from toyproject.interfaces.files import read, write\n"
    "from toyproject.interfaces.kinds import Kind\nfrom toyproject.nodes.step import step\n\n\n"
    "def beside(x):\n    return x\n\n\n"
    "class Reader(Kind):\n    def run(self, path):\n        return beside(step(read(path)))\n\n\n"
    "class Writer:\n    def run(self, path):\n        write(path)\n",
}


@pytest.fixture
def version(tmp_path, monkeypatch):
    """Write a project, one of its files changed, and give the version of one of its classes."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(code, "PACKAGE", "toyproject")
    monkeypatch.setattr(code, "WHOLE", "toyproject.nodes")

    def write(name: str = "", old: str = "", new: str = "", of: str = "Reader") -> str:
        for path, text in FILES.items():
            if path == name:
                assert old in text
                text = text.replace(old, new)
            file = tmp_path / "toyproject" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        for folder in ("", "nodes", "interfaces"):
            (tmp_path / "toyproject" / folder / "__init__.py").write_text("")
        forget()
        return code_version(
            cls=getattr(importlib.import_module("toyproject.interfaces.shelf"), of)
        )

    yield write
    forget()


def forget():
    for name in [name for name in sys.modules if name.startswith("toyproject")]:
        del sys.modules[name]
    code._module.cache_clear(), code._reached.cache_clear()
    importlib.invalidate_caches()


REACHED = {
    "node function": ("nodes/step.py", "inner(x)", "inner(x) + 1"),
    "what the node imports": ("nodes/inner.py", "return x", "return -x"),
    "constant of a node": ("nodes/step.py", "LIMIT = 1", "LIMIT = 2"),
    "own body": ("interfaces/shelf.py", "beside(step(", "beside(2 * step("),
    "function beside": ("interfaces/shelf.py", "def beside(x):\n    return x", "beside = abs"),
    "function of another interface": ("interfaces/files.py", "open(path, MODE)", "path"),
    "constant that it names": ("interfaces/files.py", "'r'", "'rb'"),
    "class above": ("interfaces/kinds.py", "grey = 1", "grey = 2"),
    "what runs on import": ("interfaces/kinds.py", "class Kind", "print()\n\n\nclass Kind"),
}
APART = {
    "comment": ("nodes/inner.py", "def inner(x):", "# why\ndef inner(x):  # so"),
    "docstring": ("nodes/inner.py", "    return", '    """Say."""\n    return'),
    "comment in the class": ("interfaces/shelf.py", "    def run(self, path):\n        return",
                             "    # why\n\n    def run(self, path):\n        return"),
    "neighbour": ("interfaces/shelf.py", "write(path)\n", "write(path + path)\n"),
    "function that it does not name": ("interfaces/files.py", "'w'", "'wb'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REACHED)
def test_code_that_is_reached_counts(version, name):
    assert version() != version(*REACHED[name])


@pytest.mark.parametrize("name", APART)
def test_what_is_not_reached_does_not_count(version, name):
    assert version() == version(*APART[name])


def test_the_neighbour_has_a_version_of_its_own(version):
    before, after = (version(*change, of="Writer") for change in ((), APART["neighbour"]))
    assert before != after
    assert before == version(*REACHED["own body"], of="Writer")


def test_notes_of_an_earlier_run_give_the_same_version(version, tmp_path, monkeypatch):
    first, path = version(), tmp_path / "code.json"
    path.write_text(code.noted())
    code._notes().clear()
    code.recall(path)
    monkeypatch.setattr(code, "_taken_apart", lambda *given: pytest.fail("was known"))
    assert version() == first
    monkeypatch.undo()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}'])
def test_damaged_notes_are_as_good_as_none(version, tmp_path, text):
    first = version()
    (tmp_path / "code.json").write_text(text)
    code._notes().clear()
    code.recall(tmp_path / "code.json")
    assert version() == first


def test_notes_with_another_letter_are_as_good_as_none(version, tmp_path):
    """They could miss what a step depends on, or what is looked for in them."""
    first, text = version(), code.noted()
    for word in ("definitions", "imports", "loose", "whole"):
        (tmp_path / "code.json").write_text(text.replace(f'"{word}"', f'"{word[:-1]}_"', 1))
        code._notes().clear()
        code.recall(tmp_path / "code.json")
        assert code._notes() == {}
        assert version() == first


def test_modules_that_changed_can_be_named(version):
    version()
    before = code.code_parts(cls=importlib.import_module("toyproject.interfaces.shelf").Reader)
    version(*REACHED["what the node imports"])
    after = code.code_parts(cls=importlib.import_module("toyproject.interfaces.shelf").Reader)
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == ["toyproject.nodes.inner"]


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
