"""Reading what a visit produced, and writing pages."""

from __future__ import annotations

import base64
import json
from glob import escape
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from alsflow.interfaces.whole import whole
from alsflow.nodes.errors import BadInputError

MEASURE_COLUMNS = ("measure", "value", "unit", "qc", "reason")
PICTURE_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
NOT_AVAILABLE = "n/a"
RECORD_LINES = 20  # of a failed step that a page shows


def visit_file(folder: Path, name: str) -> Path | None:
    """File of a name anywhere below the folder of a visit."""
    return next(iter(sorted(folder.rglob(name))), None) if folder.is_dir() else None


def read_measures(path: Path | None) -> pd.DataFrame:
    """Table of measures as text; without rows if there is no file."""
    if path is None:
        return pd.DataFrame(columns=list(MEASURE_COLUMNS), dtype=str)
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8")
    if absent := [column for column in MEASURE_COLUMNS if column not in table]:
        raise BadInputError(f"{path} has no column {absent[0]!r}: run this person again.")
    values = table["value"][table["value"] != NOT_AVAILABLE]
    wrong = values[~np.isfinite(pd.to_numeric(values, errors="coerce"))]
    if len(wrong):
        raise BadInputError(
            f"{path} has the value {wrong.iloc[0]!r}, which is no number: run this person again."
        )
    return table


def read_quality(path: Path | None) -> dict[str, Any]:
    """Read flags and metrics of quality; empty if there is no file."""
    if path is None:
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInputError(f"{path} is not JSON ({error}): run this person again.") from error


def picture_uris(
    folder: Path, prefix: str, end: str, each: str | None = None
) -> list[tuple[str, str]]:
    """Pictures of a visit as text that a page can hold; empty if there is none.

    Parameters
    ----------
    folder : path
        Of the visit.
    prefix, end : str
        Start of the file names, such as ``sub-01``, and their end before the type.
    each : str, optional
        Entity between them; there may be a picture for each of its values.

    Returns
    -------
    list of (str, str)
        Value of the entity, empty without one, and the picture.
    """
    start = f"{prefix}_{each}-" if each else f"{prefix}_"
    pattern = f"{escape(start)}*_{end}" if each else escape(f"{start}{end}")
    found = []
    for suffix, kind in PICTURE_TYPES.items():
        for path in sorted((folder / "figures").glob(pattern + suffix)):
            value = path.name.removeprefix(start).partition("_")[0] if each else ""
            text = base64.b64encode(path.read_bytes()).decode("ascii")
            found.append((value, f"data:{kind};base64,{text}"))
    return found


def last_lines(path: Path) -> str:
    """End of a text file; empty if there is none."""
    if not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-RECORD_LINES:])


def read_status(path: Path) -> list[dict[str, str]]:
    """Rows of ``status.tsv``; none if there is no file."""
    if not path.is_file():
        return []
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8")
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def read_texts(folder: Path, pattern: str) -> dict[str, str]:
    """Text of every file of a folder that fits a pattern, by name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob(pattern))}


def releases(packages: list[str]) -> list[tuple[str, str]]:
    """Release of each package that is installed."""
    found = []
    for name in packages:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found


def write_page(path: Path, text: str) -> Path:
    """Write a page whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
