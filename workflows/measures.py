"""The measures this program knows; ``python -m alsflow.workflows.measures`` prints their page."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from alsflow.nodes.stats.catalogue import Catalogue, Measure, catalogue_page, parse_catalogue

MEASURES_FILE = Path(__file__).parent / "data" / "measures.toml"


@cache
def catalogue() -> Catalogue:
    """All families and measures that ``measures.toml`` declares."""
    return parse_catalogue(MEASURES_FILE.read_text(encoding="utf-8"))


def describe(name: str) -> Measure:
    """Look up unit, label, plausible range and family of one measure; refuse an unknown name."""
    return catalogue().describe(name)


if __name__ == "__main__":
    sys.stdout.write(catalogue_page(catalogue()))
