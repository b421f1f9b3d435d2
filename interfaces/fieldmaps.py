"""Which field map serves a given echo-planar run, and on whose word.

What the dataset says goes first: ``B0FieldSource`` with ``B0FieldIdentifier``, then
``IntendedFor``. Where it says nothing, images of the same session with the same shim are taken,
and the choice says so. A map that is declared for other runs is never taken by that rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from alsflow.interfaces.images import read_grid
from alsflow.interfaces.sidecars import read_sidecar, split_name
from alsflow.nodes.distortion.phase_encoding import PhaseEncoding, from_sidecar
from alsflow.nodes.errors import BadInputError

Rule = Literal["B0FieldSource", "IntendedFor", "same shim", "same grid", "none"]
DECLARED: tuple[Rule, ...] = ("B0FieldSource", "IntendedFor")
RULES: tuple[Rule, ...] = (*DECLARED, "same shim", "same grid")
# suffixes of the phase images of a gradient-echo map, best first
GRE_FORMS = (("phasediff",), ("phase1", "phase2"), ("fieldmap",))
MAGNITUDES = ("magnitude1", "magnitude2", "magnitude")
SAME_ECHO = 0.002  # s; images whose echo times differ by more differ in contrast
SAME_PLACE = 0.1  # mm in the elements of two affines


@dataclass(frozen=True)
class FieldmapChoice:
    """What undistorts a run.

    Attributes
    ----------
    kind : str
        ``pair``, ``gre`` or ``none``.
    files : tuple of path
        Of a pair: the image whose polarity is that of the run (often the run itself), then the
        opposite one. Of a gradient-echo map: its phase images or its map in Hz, then a magnitude.
    reason : str
        One sentence: on whose word it was chosen, or why there is none.
    rule : str
        The rule that chose it.
    passed_over : tuple of str
        What was looked at and not taken, each with its reason.
    """

    kind: Literal["pair", "gre", "none"]
    files: tuple[Path, ...]
    reason: str
    rule: Rule = "none"
    passed_over: tuple[str, ...] = ()

    @property
    def found(self) -> bool:
        """Whether there is something."""
        return self.kind != "none"


NOT_ASKED = FieldmapChoice("none", (), "the correction of distortion is switched off")


@dataclass(frozen=True)
class _Image:
    path: Path
    meta: dict[str, Any]
    entities: dict[str, str]
    suffix: str


@dataclass(frozen=True)
class _Candidate:
    kind: Literal["pair", "gre"]
    images: tuple[_Image, ...]  # as `FieldmapChoice.files`
    sources: tuple[_Image, ...]  # whose metadata may declare it

    @property
    def name(self) -> str:
        return self.sources[0].path.name


def choose_fieldmap(target: Path, others: Sequence[Path], bids_dir: Path) -> FieldmapChoice:
    """Choose what undistorts one echo-planar run.

    Parameters
    ----------
    target : path
        The run: diffusion or functional.
    others : sequence of path
        Images of the same visit that may serve: everything in ``fmap``, other diffusion runs.
    bids_dir : path
        Root of the dataset; sidecars are inherited from there.

    Raises
    ------
    BadInputError
        When a sidecar is broken.
    """
    run = _image(target, bids_dir)
    images = [_image(path, bids_dir) for path in sorted(set(others) - {target})]
    images = [image for image in images if _same_session(run, image)]
    try:
        encoding = _encoding(run)
    except BadInputError as error:
        return FieldmapChoice("none", (), f"{target.name} {error}")
    pairs, notes = _pairs(run, encoding, images)
    maps, more = _gre_maps(encoding, images)
    notes += more
    ruled = [(_rule(run, c, bids_dir), c) for c in (*pairs, *maps)]
    for rule in RULES:  # pairs come before maps within a rule
        for found, candidate in ruled:
            if found == rule:
                return _chosen(run, candidate, rule, notes)
    notes += [f"{candidate.name}: {_why_not(run, candidate)}" for _, candidate in ruled]
    notes += _dangling(images, bids_dir)
    reason = "no field map or image of opposite phase encoding serves it"
    detail = f" ({'; '.join(notes)})" if notes else ""
    return FieldmapChoice("none", (), f"{target.name}: {reason}{detail}", "none", tuple(notes))


def intended_paths(meta: dict[str, Any], image: Path, bids_dir: Path) -> list[tuple[Path, ...]]:
    """Places that each entry of ``IntendedFor`` may mean, the standard's reading first.

    Entries are relative to the person's folder or BIDS URIs. Paths from the session's folder or
    from the dataset's are against the standard but common, and unmistakable.
    """
    entries = meta.get("IntendedFor") or []
    entries = [entries] if isinstance(entries, str) else entries
    subject = bids_dir / f"sub-{split_name(image.name)[0].get('sub', '')}"
    found: list[tuple[Path, ...]] = []
    for entry in entries:
        if not isinstance(entry, str):
            raise BadInputError(
                f"the sidecar of {image.name} has an IntendedFor that is no path; correct it"
            )
        if entry.startswith("bids::"):
            found.append((bids_dir / entry.removeprefix("bids::").lstrip("/"),))
        elif not entry.startswith("bids:"):  # a URI with a name is of another dataset
            relative = entry.lstrip("/").removeprefix("./")
            session = image.parents[1]
            found.append((subject / relative, session / relative, bids_dir / relative))
    return found


def _image(path: Path, bids_dir: Path) -> _Image:
    return _Image(path, read_sidecar(path, bids_dir), *split_name(path.name))


def _same_session(run: _Image, other: _Image) -> bool:
    return all(run.entities.get(key) == other.entities.get(key) for key in ("sub", "ses"))


def _encoding(image: _Image) -> PhaseEncoding:
    shape, affine = read_grid(image.path)
    return from_sidecar(image.meta, affine, shape)


# ---------------------------------------------------------------------------- candidates


def _pairs(
    run: _Image, encoding: PhaseEncoding, images: Sequence[_Image]
) -> tuple[list[_Candidate], list[str]]:
    """Pairs of opposite phase encoding that images make with the run or with each other."""
    suffixes = {"epi", "dwi"} if run.suffix == "dwi" else {"epi"}
    encoded, notes = [], []
    for image in images:
        if image.suffix in suffixes:
            try:
                encoded.append((image, _encoding(image)))
            except BadInputError as error:
                notes.append(f"{image.path.name}: {error}")
    found, apart = [], []
    for image, other in encoded:
        problem = _no_partner(encoding, other)
        if not problem and (run.suffix == "dwi" or _same_contrast(run, image)):
            found.append(_Candidate("pair", (run, image), (image,)))
            continue
        apart.append((image, other))
        if problem and (other.axis, other.sign) != (encoding.axis, encoding.sign):
            notes.append(f"{image.path.name}: {problem}")
        elif not problem:
            notes.append(
                f"{image.path.name}: its contrast is not that of the run, and no image like it "
                "of opposite encoding and known readout time is there"
            )
    if run.suffix != "dwi":
        couples, lacking = _couples(encoding, apart)
        taken = {f"{image.path.name}:" for couple in couples for image in couple.images}
        taken |= {f"{name}:" for name in lacking}
        notes = [note for note in notes if not note.startswith(tuple(taken))] + [*lacking.values()]
        found += couples
    return sorted(found, key=lambda c: c.images[1].suffix != "dwi"), notes


def _no_partner(encoding: PhaseEncoding, other: PhaseEncoding) -> str:
    """Why two phase encodings make no pair; empty if they do."""
    if other.axis != encoding.axis:
        return "it is encoded along another axis, which makes no pair"
    if other.sign == encoding.sign:
        return "it is encoded in the same direction"
    if (other.readout is None) != (encoding.readout is None):
        return "the readout time is known of one image of the pair only"
    return ""


def _couples(
    encoding: PhaseEncoding, images: Sequence[tuple[_Image, PhaseEncoding]]
) -> tuple[list[_Candidate], dict[str, str]]:
    """Pairs that images make with each other, whatever the grid, readout time and axis of the run.

    Their field serves the run by way of Hz, so that all three readout times must be known. The
    first of a pair is the one of the run's polarity. Also what lacks only that, by name.
    """
    found, lacking = [], {}
    for (first, ours), (second, theirs) in combinations(images, 2):
        opposite = ours.axis == theirs.axis and ours.sign != theirs.sign
        if not (opposite and _same_but_direction(first, second)):
            continue
        if None in (encoding.readout, ours.readout, theirs.readout):
            lacking[first.path.name] = (
                f"{first.path.name} and {second.path.name}: the TotalReadoutTime of the run and "
                "of both must be known to take their field to the run"
            )
            continue
        pair = (first, second)
        if (theirs.axis, theirs.sign) == (encoding.axis, encoding.sign):
            pair = (second, first)
        found.append(_Candidate("pair", pair, pair))
    return found, lacking


def _same_contrast(first: _Image, second: _Image) -> bool:
    own, echo = (image.meta.get("EchoTime") for image in (first, second))
    known = isinstance(own, int | float) and isinstance(echo, int | float)
    return known and abs(own - echo) <= SAME_ECHO  # type: ignore[operator]


def _same_but_direction(first: _Image, second: _Image) -> bool:
    free = ("dir", "run")
    return all(
        first.entities.get(key) == second.entities.get(key)
        for key in {*first.entities, *second.entities}
        if key not in free
    )


def _gre_maps(
    encoding: PhaseEncoding, images: Sequence[_Image]
) -> tuple[list[_Candidate], list[str]]:
    """Gradient-echo maps that are complete."""
    groups: dict[tuple, dict[str, _Image]] = {}
    for image in images:
        if image.suffix in {*MAGNITUDES, *(s for form in GRE_FORMS for s in form)}:
            groups.setdefault(tuple(sorted(image.entities.items())), {})[image.suffix] = image
    found, notes = [], []
    for group in groups.values():
        form = next((f for f in GRE_FORMS if all(suffix in group for suffix in f)), None)
        magnitude = next((group[suffix] for suffix in MAGNITUDES if suffix in group), None)
        first = next(iter(group.values()))
        if form is None or magnitude is None:
            lacking = "magnitude" if form else "phase"
            notes.append(f"{first.path.name}: no {lacking} image beside it")
            continue
        if encoding.readout is None:
            notes.append(
                f"{group[form[0]].path.name}: the run has no TotalReadoutTime, without which Hz "
                "are no mm"
            )
            continue
        phases = tuple(group[suffix] for suffix in form)
        members = (*phases, *(image for image in group.values() if image not in phases))
        found.append(_Candidate("gre", (*phases, magnitude), members))
    return found, notes


# ---------------------------------------------------------------------------- rules


def _rule(run: _Image, candidate: _Candidate, bids_dir: Path) -> Rule | None:
    """First rule by which a candidate serves the run; None if there is none."""
    wanted = _names(run.meta, "B0FieldSource")
    given = [_names(image.meta, "B0FieldIdentifier") for image in candidate.sources]
    if wanted & set().union(*given):
        return "B0FieldSource"
    intended = [
        place
        for image in candidate.sources
        for places in intended_paths(image.meta, image.path, bids_dir)
        for place in places
    ]
    if run.path in intended:
        return "IntendedFor"
    # what is declared for others, or a run that names other maps, is not overruled
    if wanted or any(image.meta.get("IntendedFor") for image in candidate.sources):
        return None
    return _likeness(run, candidate)


def _likeness(run: _Image, candidate: _Candidate) -> Rule | None:
    shims = [image.meta.get("ShimSetting") for image in candidate.sources]
    own = run.meta.get("ShimSetting")
    if own is not None and all(shim == own for shim in shims):
        return "same shim"
    unknown = own is None and all(shim is None for shim in shims)
    if unknown and candidate.kind == "pair" and _same_grid(run, candidate.images[1]):
        return "same grid"
    return None


def _same_grid(first: _Image, second: _Image) -> bool:
    (shape, affine), (other_shape, other) = read_grid(first.path), read_grid(second.path)
    return shape == other_shape and bool(np.allclose(affine, other, atol=SAME_PLACE))


def _names(meta: dict[str, Any], key: str) -> set[str]:
    value = meta.get(key) or []
    return {value} if isinstance(value, str) else {str(entry) for entry in value}


def _chosen(
    run: _Image, candidate: _Candidate, rule: Rule, notes: Sequence[str]
) -> FieldmapChoice:
    files = tuple(image.path for image in candidate.images)
    names = " and ".join(path.name for path in files if path != run.path)
    words = {
        "B0FieldSource": "as B0FieldSource and B0FieldIdentifier say",
        "IntendedFor": "as IntendedFor says",
        "same shim": "nothing is declared; taken because session and ShimSetting are the same",
        "same grid": (
            "nothing is declared and no ShimSetting is known; taken because session and grid are "
            "the same"
        ),
    }
    reason = f"{run.path.name}: {names}, {words[rule]}"
    return FieldmapChoice(candidate.kind, files, reason, rule, tuple(notes))


def _why_not(run: _Image, candidate: _Candidate) -> str:
    if run.meta.get("B0FieldSource"):
        return "the run names another B0FieldSource"
    if any(image.meta.get("IntendedFor") for image in candidate.sources):
        return "it is intended for other runs"
    if run.meta.get("ShimSetting") is None:
        return "it declares no run, and no ShimSetting tells that it fits"
    return "it declares no run, and its ShimSetting is not the run's"


def _dangling(images: Sequence[_Image], bids_dir: Path) -> list[str]:
    """Entries of IntendedFor that name no file."""
    return [
        f"{image.path.name}: its IntendedFor names {places[0].name}, which is not there"
        for image in images
        for places in intended_paths(image.meta, image.path, bids_dir)
        if not any(place.exists() for place in places)
    ]
