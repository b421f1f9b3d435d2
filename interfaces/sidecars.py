"""JSON metadata of an image, with what it inherits from the folders above it.

BIDS: a sidecar applies to every image at its level or below whose name has the same suffix and
all the sidecar's entities; nearer and more specific ones override.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from alsflow.nodes.errors import BadInputError


def split_name(name: str) -> tuple[dict[str, str], str]:
    """Entities and suffix of a BIDS file name.

    >>> split_name("sub-01_dir-AP_dwi.nii.gz")
    ({'sub': '01', 'dir': 'AP'}, 'dwi')
    """
    stem = name.partition(".")[0]
    *pairs, suffix = stem.split("_")
    entities = {key: value for key, found, value in (p.partition("-") for p in pairs) if found}
    return entities, suffix


def read_sidecar(path: Path, bids_dir: Path) -> dict[str, Any]:
    """Metadata of one image by the inheritance principle; empty where there is none.

    Parameters
    ----------
    path : path
        An image inside the dataset, or its own JSON file.
    bids_dir : path
        Root of the dataset, where inheritance begins.

    Raises
    ------
    BadInputError
        When a sidecar that applies is broken, or two at one level apply equally.
    """
    merged: dict[str, Any] = {}
    for sidecar in applicable_sidecars(path, bids_dir):
        merged |= read_json(sidecar)
    return merged


def applicable_sidecars(path: Path, bids_dir: Path) -> list[Path]:
    """JSON files that apply to an image, the most general first."""
    if bids_dir not in path.parents:
        raise BadInputError(f"{path.name} is not inside the dataset {bids_dir}; check the path")
    entities, suffix = split_name(path.name)
    folders = [folder for folder in reversed(path.parents) if _within(folder, bids_dir)]
    found: list[Path] = []
    for folder in folders:
        found += _at_level(folder, entities, suffix)
    return found


def companion(path: Path, bids_dir: Path, ending: str) -> Path | None:
    """File of another ending (``.bval``) that belongs to an image, its own or inherited.

    Of several that apply the nearest and most specific one counts; None where there is none.
    """
    entities, suffix = split_name(path.name)
    for folder in path.parents:
        if not _within(folder, bids_dir):
            break
        if found := _applying(folder, entities, suffix, ending):
            return found[-1][1]
    return None


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object; what is none is refused with its name and place."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadInputError(
            f"{path.name} cannot be read ({error.strerror}); copy it again"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInputError(
            f"{path.name} is not valid JSON ({error}); correct or convert it again"
        ) from error
    if not isinstance(content, dict):
        raise BadInputError(f"{path.name} holds no JSON object; correct or convert it again")
    return content


def _within(folder: Path, bids_dir: Path) -> bool:
    return folder == bids_dir or bids_dir in folder.parents


def _applying(
    folder: Path, entities: dict[str, str], suffix: str, ending: str
) -> list[tuple[int, Path]]:
    """Files of one folder that apply by their names, each with its number of entities, sorted."""
    named = [(split_name(file.name), file) for file in folder.glob(f"*{suffix}{ending}")]
    return sorted(
        (len(own), file)
        for (own, own_suffix), file in named
        if own_suffix == suffix and own.items() <= entities.items()
    )


def _at_level(folder: Path, entities: dict[str, str], suffix: str) -> list[Path]:
    """Sidecars of one folder that apply; fewer entities first."""
    found = _applying(folder, entities, suffix, ".json")
    counts = [count for count, _ in found]
    twice = next((n for n in counts if counts.count(n) > 1), None)
    if twice is not None:
        names = " and ".join(sidecar.name for count, sidecar in found if count == twice)
        raise BadInputError(
            f"{names} in one folder apply to the same image, and none comes first; merge them"
        )
    return [sidecar for _, sidecar in found]
