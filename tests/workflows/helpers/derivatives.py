"""Two folders of derivatives held against each other, and a look for what is half-written.

Everything is compared byte by byte, compressed files too, but for what is named here.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib

# Messages with their times, settings with their paths, and what steps took.
OF_THE_RUN = ("logs/*.log", "logs/*.toml", "logs/resources.*")
# Locks hold nothing and stay where they are.
LOCKS = ("logs/*.lock", "logs/.lock", "locks/*")
# Fields that say where the input lies, as seen from the output folder.
PLACES = {"dataset_description.json": ("SourceDatasets", "DatasetLinks")}
TEMPORARY = (".*", "*.partial", "*.tmp", "*~")
HIDDEN = (".bidsignore", ".lock")  # hidden files that belong there
PNG_END = b"IEND\xaeB`\x82"
SHOWN = 60  # characters of a difference


def files_of(folder: Path) -> dict[str, Path]:
    """All files but logs and locks, by their path below the folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_dir() and not path.is_symlink():
            continue
        if not any(name.match(pattern) for pattern in (*OF_THE_RUN, *LOCKS)):
            found[name.as_posix()] = path
    return found


def differences(first: Path, second: Path) -> list[str]:
    """Sentences on what the two folders do not have in common; none if they are the same.

    Parameters
    ----------
    first, second : path
        Output folders of two runs.
    """
    ones, others = files_of(first), files_of(second)
    found = [f"only in {first}: {name}" for name in sorted(ones.keys() - others.keys())]
    found += [f"only in {second}: {name}" for name in sorted(others.keys() - ones.keys())]
    for name in sorted(ones.keys() & others.keys()):
        if how := _difference(name, ones[name], others[name]):
            found.append(f"{name}: {how}")
    return found


def _difference(name: str, first: Path, second: Path) -> str:
    """How two files differ; empty if they do not."""
    one, other = first.read_bytes(), second.read_bytes()
    if one == other:
        return ""
    if name in PLACES and _without(one, PLACES[name]) == _without(other, PLACES[name]):
        return ""
    if name.endswith(".gz") and gzip.decompress(one) == gzip.decompress(other):
        return "the same content compressed to other bytes"
    pair = enumerate(zip(one, other, strict=False))
    place = next((index for index, (a, b) in pair if a != b), min(len(one), len(other)))
    parts = [text[max(place - 20, 0) : place + SHOWN] for text in (one, other)]
    return f"{len(one)} and {len(other)} bytes, from byte {place}: {parts[0]!r} and {parts[1]!r}"


def _without(text: bytes, fields: tuple[str, ...]) -> dict[str, Any]:
    content = json.loads(text)
    return {key: value for key, value in content.items() if key not in fields}


# ---------------------------------------------------------------------------- whole or not


def halves(folder: Path, temporary: bool = True) -> list[str]:
    """Sentences on files that a reader could not read to their end, and on temporary ones.

    Parameters
    ----------
    folder : path
        Output folder of a run.
    temporary : bool
        Also name what looks like a file that was being written. Such a file may lie there after
        a run was killed, because nobody takes it for a result, but not after one that succeeded.
    """
    found = []
    for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
        name = path.relative_to(folder).as_posix()
        if _is_temporary(path):
            found += [f"{name} is left over"] if temporary else []
            continue
        try:
            check = next((check for end, check in _checks() if path.name.endswith(end)), None)
            if check is not None:
                check(path)
        except Exception as error:  # whatever the reader says, the file is not whole
            found.append(f"{name} is not whole ({type(error).__name__}: {error})")
    return found


def _is_temporary(path: Path) -> bool:
    named = any(path.match(pattern) for pattern in TEMPORARY)
    return named and path.name not in HIDDEN


def _checks() -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Endings of file names, and what fails if such a file is not whole."""
    yield ".nii.gz", _read_image
    yield ".gz", lambda path: gzip.decompress(path.read_bytes())
    yield ".json", lambda path: json.loads(path.read_text(encoding="utf-8"))
    yield ".toml", lambda path: tomllib.loads(path.read_text(encoding="utf-8"))
    yield ".tsv", _read_table
    yield ".csv", _read_table
    yield ".png", lambda path: _ends(path, PNG_END)
    yield ".svg", lambda path: _ends(path, b"</svg>")
    yield ".html", _read_page
    yield "_xfm.txt", lambda path: _ends(path, b"\n")
    yield ".bval", lambda path: _ends(path, b"\n")
    yield ".bvec", lambda path: _ends(path, b"\n")


def _ends(path: Path, end: bytes) -> None:
    content = path.read_bytes()
    if not (content if end == b"\n" else content.rstrip()).endswith(end):
        raise ValueError(f"does not end with {end!r}")


def _read_page(path: Path) -> None:
    """Pages have an end to look for; tables to be pasted into a text have not."""
    if not path.name.startswith("table-"):
        _ends(path, b"</html>")


def _read_image(path: Path) -> None:
    content = gzip.decompress(path.read_bytes())  # the checksum too
    image = nib.load(path)
    voxels = image.get_data_dtype().itemsize * math.prod(image.shape)
    size = int(image.header["vox_offset"]) + voxels
    if len(content) < size:
        raise ValueError(f"{len(content)} bytes of {size}")


def _read_table(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        raise ValueError("the last line has no end")
    separator = "\t" if path.suffix == ".tsv" else ","
    widths = {len(row) for row in csv.reader(text.splitlines(), delimiter=separator)}
    if len(widths) != 1:
        raise ValueError(f"rows of {sorted(widths)} cells")
