"""Imports point downhill: cli -> workflows -> interfaces -> nodes."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEIGHT = {"nodes": 0, "interfaces": 1, "workflows": 2, "cli": 3}
FILES = [
    path
    for top in ("nodes", "interfaces", "workflows")
    for path in sorted((ROOT / top).rglob("*.py"))
]
FORBIDDEN_IN_NODES = {"nipype", "pathlib", "os", "subprocess", "logging", "tempfile", "shutil"}


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            module = node.module or ""
            found.add(module)
            if module == "alsflow":
                found |= {f"alsflow.{alias.name}" for alias in node.names}
    return found


def layer(module: str) -> str:
    name = module.split(".")[1] if "." in module else ""
    return "cli" if name.startswith("cli") or name == "__main__" else name


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_import_points_uphill(path):
    own = HEIGHT[path.relative_to(ROOT).parts[0]]
    for module in imports(path):
        if module.startswith("alsflow.") and layer(module) in HEIGHT:
            assert HEIGHT[layer(module)] <= own, f"{path} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nodes_know_no_files_and_no_engine(path):
    if path.relative_to(ROOT).parts[0] == "nodes":
        tops = {module.split(".")[0] for module in imports(path)}
        assert not tops & FORBIDDEN_IN_NODES, f"{path}: {tops & FORBIDDEN_IN_NODES}"


def test_the_checker_sees_an_uphill_import(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from alsflow import workflows\nimport alsflow.cli\n")
    assert {layer(m) for m in imports(wrong)} >= {"workflows", "cli"}
