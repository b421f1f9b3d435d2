"""The measures this program knows, and the pages that list them.

``python -m alsflow.workflows.measures`` prints docs/measures.md, with ``clinical`` behind it
docs/clinical.md.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from alsflow.nodes.clinical.page import clinical_page
from alsflow.nodes.stats.catalogue import Catalogue, Measure, catalogue_page, parse_catalogue

MEASURES_FILE = Path(__file__).parent / "data" / "measures.toml"
CLINICAL_TEXT = Path(__file__).parent / "data" / "clinical.md"


@cache
def catalogue() -> Catalogue:
    """All families and measures that ``measures.toml`` declares."""
    return parse_catalogue(MEASURES_FILE.read_text(encoding="utf-8"))


def describe(name: str) -> Measure:
    """Look up unit, label, plausible range and family of one measure; refuse an unknown name."""
    return catalogue().describe(name)


def clinical_text() -> str:
    """Page on clinical scores."""
    template, measures = (
        path.read_text(encoding="utf-8") for path in (CLINICAL_TEXT, MEASURES_FILE)
    )
    return clinical_page(template, measures)


if __name__ == "__main__":
    clinical = sys.argv[1:] == ["clinical"]
    sys.stdout.write(clinical_text() if clinical else catalogue_page(catalogue()))
