"""What a seed may be, and reading the seeds that somebody asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alsflow.nodes.errors import BadInputError

SIDES = ("left", "right", "both")
TEMPLATE, T1W = "template", "T1w"  # spaces of a seed
SMALLEST_RADIUS = 1.0  # mm
LARGEST_RADIUS = 50.0  # mm
# Keys of each kind of seed beside name and kind: those it needs, and those it may have.
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "region": (("region",), ("side",)),
    "labels": (("labels",), ()),
    "sphere": (("centre", "radius"), ("space",)),
    "mask": (("file", "space"), ()),
    "voxel": ((), ()),
}
DEFAULT_SEEDS: tuple[dict[str, Any], ...] = (
    {"name": "precentralLeft", "kind": "region", "region": "precentral", "side": "left"},
    {"name": "precentralRight", "kind": "region", "region": "precentral", "side": "right"},
    {"name": "precentral", "kind": "region", "region": "precentral", "side": "both"},
)
VOXEL_SEED: dict[str, Any] = {"name": "mrsVoxel", "kind": "voxel"}


@dataclass(frozen=True)
class Seed:
    """One seed as it was asked for.

    Attributes
    ----------
    name : str
        Letters and digits; it becomes ``seed-<name>`` in file names.
    kind : str
        One of `KINDS`. ``voxel`` is the grey matter of the MRS voxel.
    region, side : str
        A region of the atlas, and ``left``, ``right`` or ``both``.
    labels : tuple of int
        Labels of the atlas.
    centre, radius : tuple of float, float
        Sphere, mm.
    file : str
        A NIfTI mask.
    space : str
        Of the sphere or the mask: ``template``, ``T1w`` (masks alone), or a variant of MNI space.
    """

    name: str
    kind: str
    region: str = ""
    side: str = "both"
    labels: tuple[int, ...] = ()
    centre: tuple[float, ...] = ()
    radius: float = 0.0
    file: str = ""
    space: str = TEMPLATE


def with_voxel_seed(seeds: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Add the MRS voxel to the seeds, unless it is one of them already.

    >>> [seed["name"] for seed in with_voxel_seed(DEFAULT_SEEDS)]
    ['precentralLeft', 'precentralRight', 'precentral', 'mrsVoxel']
    """
    given = tuple(dict(seed) for seed in seeds)
    return given if voxel_seed(given) else (*given, dict(VOXEL_SEED))


def voxel_seed(seeds: Sequence[Mapping[str, Any]]) -> str:
    """Name of the first seed that is the MRS voxel; empty if none is."""
    return next((str(seed["name"]) for seed in seeds if seed.get("kind") == "voxel"), "")


def read_seeds(
    rows: Sequence[Mapping[str, Any]],
    regions: Mapping[str, Mapping[str, Sequence[int]]] | None = None,
    labels: Sequence[int] | None = None,
    spaces: Sequence[str] = (),
) -> tuple[Seed, ...]:
    """Seeds from tables as a settings file has them; what cannot be meant is refused.

    Parameters
    ----------
    rows : sequence of mapping
        ``name``, ``kind``, and what `KINDS` says of the kind.
    regions : mapping, optional
        Labels of the atlas' regions by side; a region that it lacks is refused.
    labels : sequence of int, optional
        Labels of the atlas; others are refused.
    spaces : sequence of str
        Variants of MNI space that are known beside the template's.
    """
    if not rows:
        raise BadInputError("No seed is declared: name at least one, or leave the defaults.")
    seeds = tuple(_read_seed(row, (TEMPLATE, *spaces)) for row in rows)
    names = [seed.name.lower() for seed in seeds]
    if repeated := [seed.name for seed in seeds if names.count(seed.name.lower()) > 1]:
        raise BadInputError(f"Two seeds are called {repeated[0]!r}: each needs a name of its own.")
    for seed in seeds:
        if regions is not None and seed.kind == "region" and seed.region not in regions:
            raise BadInputError(
                f"The seed {seed.name!r} asks for the region {seed.region!r}; the atlas has "
                f"{', '.join(sorted(regions)) or 'none'}."
            )
        if labels is not None and (unknown := sorted(set(seed.labels) - set(labels))):
            raise BadInputError(
                f"The seed {seed.name!r} asks for label {unknown[0]}, which the atlas does not "
                "have: see its table of labels."
            )
    return seeds


def _read_seed(row: Mapping[str, Any], spaces: Sequence[str]) -> Seed:
    """One seed, its keys and values checked."""
    name, kind = row.get("name", ""), row.get("kind", "")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9]+", name):
        raise BadInputError(
            f"A seed is called {name!r}: it needs a name of letters and digits, for file names."
        )
    if kind not in KINDS:
        raise BadInputError(
            f"The seed {name!r} is of the kind {kind!r}; a kind is one of {', '.join(KINDS)}."
        )
    needed, allowed = KINDS[kind]
    if missing := [key for key in needed if key not in row]:
        raise BadInputError(f"The seed {name!r}, a {kind}, lacks {missing[0]!r}.")
    if unknown := sorted(set(row) - {"name", "kind", *needed, *allowed}):
        known = ", ".join(("name", "kind", *needed, *allowed))
        raise BadInputError(
            f"The seed {name!r} has {unknown[0]!r}, not a key of a {kind}, whose keys are {known}."
        )
    values = {key: row[key] for key in (*needed, *allowed) if key in row}
    problem = _problem(values, spaces if kind == "sphere" else (*spaces, T1W))
    if problem:
        raise BadInputError(f"The seed {name!r} {problem}.")
    for key, kind_of in (("labels", int), ("centre", float)):
        if key in values:
            values[key] = tuple(kind_of(value) for value in values[key])
    return Seed(name=name, kind=kind, **values)


def _problem(values: Mapping[str, Any], spaces: Sequence[str]) -> str:
    """What is wrong with the values of a seed, as the end of a sentence; empty if nothing."""
    if values.get("side", "both") not in SIDES:
        return f"has the side {values['side']!r}; a side is left, right or both"
    if "space" in values and values["space"] not in spaces:
        return f"lies in the space {values['space']!r}; known are {', '.join(spaces)}"
    for key in ("region", "file"):
        if key in values and (not isinstance(values[key], str) or not values[key]):
            return f"has no {key}: a text is needed"
    if "labels" in values:
        given = values["labels"]
        whole = isinstance(given, list | tuple) and all(_is_whole(label) for label in given)
        if not whole or not given:
            return "needs labels as a list of whole numbers above 0, such as [182, 183]"
    if "centre" in values:
        given = values["centre"]
        if not isinstance(given, list | tuple) or len(given) != 3 or not all(map(_finite, given)):
            return "needs a centre of three numbers, mm, such as [-38, -22, 56]"
        radius = values["radius"]
        if not _finite(radius) or not SMALLEST_RADIUS <= radius <= LARGEST_RADIUS:
            return f"needs a radius of {SMALLEST_RADIUS:g} to {LARGEST_RADIUS:g} mm"
    return ""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _finite(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < 1e6
