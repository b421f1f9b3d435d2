"""Numbers typed from papers; ``python -m alsflow.workflows.published`` prints what they imply."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from alsflow.nodes.stats.published import Paper, parse_paper
from alsflow.nodes.stats.recheck import checks_page

PUBLISHED = Path(__file__).parent / "data" / "published"


@cache
def papers() -> Mapping[str, Paper]:
    """Every paper in ``data/published``, by the name of its file."""
    return {
        path.stem: parse_paper(path.read_text(encoding="utf-8"), path.name)
        for path in sorted(PUBLISHED.glob("*.toml"))
    }


if __name__ == "__main__":
    sys.stdout.write(checks_page(papers()))
