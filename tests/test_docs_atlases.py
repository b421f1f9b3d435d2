"""The page on atlases names every atlas that is declared, with its space."""

from pathlib import Path

from alsflow.interfaces.atlas import KINDS, SPACES, registry

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "atlases.md").read_text(encoding="utf-8")


def test_every_declared_atlas_is_on_the_page():
    rows = {line.split("|")[1].strip(): line for line in PAGE.splitlines() if line.startswith("|")}
    for name, entry in registry("/nowhere").items():
        assert entry["space"] in rows[f"`{name}`"]
        assert entry["space"] in SPACES
        assert entry["kind"] in KINDS
        for field in ("title", "licence", "citation"):
            assert entry[field]
