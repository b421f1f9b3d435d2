"""What there is of each visit's spectroscopy, and what is done with it.

A result of LCModel is found by the names of its files and folders, or by a mapping
(`interfaces.mrs_mapping`), and belongs to one visit only if nothing else could.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from alsflow.interfaces.bids import SHORT_NAMES
from alsflow.interfaces.mrs_lcmodel import base_name, file_key, voxels_of
from alsflow.interfaces.mrs_mapping import (
    MAPPING_NAME,
    Found,
    VisitKey,
    assign_rows,
    read_mapping,
    require_single,
    results_in,
    visit_name,
)
from alsflow.interfaces.programs import find_program
from alsflow.interfaces.sidecars import split_name
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.mrs.lcmodel_input import is_basis

LABEL = r"(?:^|_){}-([A-Za-z0-9+]+)(?=[_.]|$)"
PERSON, SESSION = re.compile(LABEL.format("sub")), re.compile(LABEL.format("ses"))
PROGRAM = "lcmodel"
PROGRAM_ADVICE = (
    "A basis set was given, but LCModel is not installed: put its program lcmodel on the PATH, or "
    "leave the basis set out and give finished results with --derivatives lcmodel=FOLDER."
)
WATER = "mrsref"
BASIS_HEAD = 1_000_000  # bytes; the first spectrum of a basis set begins far before
VISIT_LABELS = ("sub", "ses")
SHOWN = 4  # names in a message


@dataclass(frozen=True)
class MrsPlan:
    """What is done with the spectroscopy of one visit.

    Attributes
    ----------
    fit_files : tuple of path
        Files of a finished result; empty where LCModel is run, or where there is none.
    voxel_index : (slice, row, column) or None
        Voxel of a multi-voxel result.
    spectrum, water : path or None
        The ``_svs`` that is placed or fitted, and its ``_mrsref``.
    place : path or None
        File for `interfaces.mrs_voxel.voxel_inputs`.
    run : bool
        LCModel is run on `spectrum`.
    notes : tuple of (name, reason)
        What is not there, and why.
    """

    fit_files: tuple[Path, ...] = ()
    voxel_index: tuple[int, int, int] | None = None
    spectrum: Path | None = None
    water: Path | None = None
    place: Path | None = None
    run: bool = False
    notes: tuple[tuple[str, str], ...] = ()

    @property
    def fitted(self) -> bool:
        """Whether there is a fit, or LCModel makes one."""
        return self.run or bool(self.fit_files)


def check_mrs(mapping: str | Path = "", basis: str | Path = "") -> None:
    """Refuse a mapping or a basis set that no visit could use.

    Raises
    ------
    BadInputError
        A file is missing, the header of the mapping is not understood, or the basis set is none.
    MissingProgramError
        There is a basis set, and no LCModel to run with it.
    """
    if mapping:
        read_mapping(Path(mapping))
    if basis:
        path = Path(basis)
        try:
            with path.open("rb") as file:
                head = file.read(BASIS_HEAD).decode("latin-1")
        except OSError as error:
            raise BadInputError(
                f"the basis set {path.name} cannot be read ({error.strerror}); check its path"
            ) from error
        if not is_basis(head):
            raise BadInputError(
                f"{path.name} is no basis set of LCModel: it has no $BASIS1; give the .basis file"
            )
        find_lcmodel()


def find_lcmodel() -> str:
    """Path of LCModel.

    Raises
    ------
    MissingProgramError
        It is not installed.
    """
    return find_program(PROGRAM, PROGRAM_ADVICE)


# ---------------------------------------------------------------------------- finding


def find_results(
    folder: Path | None, people: Sequence[VisitKey], mapping: Path | None = None
) -> tuple[dict[VisitKey, Found], list[str]]:
    """Results of LCModel by visit, and warnings.

    Parameters
    ----------
    folder : path or None
        Where results are looked for by name, at any depth; hidden folders are passed over.
    people : sequence of (participant, session)
        Visits; labels without ``sub-`` and ``ses-``, session None where there are no sessions.
    mapping : path, optional
        Table that names each result; by default ``lcmodel.tsv`` of the folder. With a mapping,
        names are not looked at.

    Returns
    -------
    found : dict
        One `Found` for each visit of which something is known; one with a `problem` where it is
        not clear which result is the visit's.
    warnings : list of str
        Rows of the mapping that fit nobody.

    Raises
    ------
    BadInputError
        Neither folder nor mapping is there, or the header of the mapping is not understood.
    """
    if folder is not None and not folder.is_dir():
        raise BadInputError(f"there is no folder {folder} with results of LCModel; check its path")
    if mapping is None and folder is not None and (folder / MAPPING_NAME).is_file():
        mapping = folder / MAPPING_NAME
    if mapping is not None:
        return assign_rows(read_mapping(mapping), list(people), mapping.name)
    if folder is None:
        return {}, []
    results = _search(folder)
    found = {visit: _choose(results, visit) for visit in people}
    return {visit: one for visit, one in found.items() if one is not None}, []


@dataclass(frozen=True)
class _Result:
    """A result below a folder, with the labels in its path."""

    files: tuple[Path, ...]
    name: str
    people: frozenset[str] = field(default_factory=frozenset)
    sessions: frozenset[str] = field(default_factory=frozenset)


def _search(folder: Path) -> list[_Result]:
    """All results below a folder, in the order of their paths."""
    found = []
    for here, below, names in os.walk(folder, onerror=_unreadable):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for files in results_in(Path(here), names).values():
            path = files[0].relative_to(folder)
            people, sessions = (
                frozenset(label for part in path.parts for label in pattern.findall(part))
                for pattern in (PERSON, SESSION)
            )
            found.append(_Result(files, path.as_posix(), people, sessions))
    return sorted(found, key=lambda result: result.name)


def _unreadable(error: OSError) -> NoReturn:
    name = Path(error.filename or "").name
    raise BadInputError(
        f"the folder {name} cannot be read ({error.strerror}); change its permissions"
    ) from error


def _choose(results: Sequence[_Result], visit: VisitKey) -> Found | None:
    """The one result of a visit; None where there is none."""
    participant, session = visit
    mine = [result for result in results if participant in result.people]
    torn = [
        r for r in mine if len(r.people) > 1 or (len(r.sessions) > 1 and session in r.sessions)
    ]
    fitting = [r for r in mine if r not in torn and r.sessions == ({session} - {None})]
    unsure = [r for r in mine if r not in torn and (session is None) == bool(r.sessions)]
    name = visit_name(*visit)
    if torn:
        labels = sorted(f"sub-{label}" for label in torn[0].people) + sorted(
            f"ses-{label}" for label in torn[0].sessions
        )
        reason = f"{torn[0].name} bears the labels {', '.join(labels)}"
    elif len(fitting) > 1:
        names = " and ".join(result.name for result in fitting[:SHOWN])
        reason = f"{names} could each be the LCModel result of {name}"
    elif fitting:
        return _single(fitting[0], name)
    elif unsure:
        told = "names a session" if unsure[0].sessions else "names no session"
        has = f"ses-{session}" if session else "no sessions"
        reason = f"{unsure[0].name} {told}, and the dataset has sub-{participant} with {has}"
    else:
        return None
    return Found(problem=f"{reason}; name the result in {MAPPING_NAME}, beside the results")


def _single(result: _Result, name: str) -> Found:
    try:
        require_single(voxels_of(result.files))
    except BadInputError as error:
        return Found(problem=f"{result.name} of {name}: {error}")
    return Found(result.files)


# ---------------------------------------------------------------------------- planning


def choose_spectrum(paths: Sequence[Path]) -> Path:
    """The one spectrum of a visit.

    Raises
    ------
    BadInputError
        There are several.
    """
    if len(paths) != 1:
        names = ", ".join(path.name for path in paths[:SHOWN]) or "none"
        raise BadInputError(
            f"one spectrum is needed of a visit, and there are {len(paths)} ({names}); select one "
            f"with a filter file, such as {_filter(paths)}"
        )
    return paths[0]


def _filter(paths: Sequence[Path]) -> str:
    """Filter that would select the first of some spectra."""
    labels = [split_name(path.name)[0] for path in paths]
    for key in dict.fromkeys(key for found in labels for key in found):
        values = [found.get(key) for found in labels]
        if len(set(values)) > 1:
            value = next(value for value in values if value)
            return f'{{"mrs": {{"{SHORT_NAMES.get(key, key)}": "{value}"}}}}'
    return '{"mrs": {"voi": "..."}}'


def water_of(svs: Path, refs: Sequence[Path]) -> Path | None:
    """Water reference of a spectrum: the ``_mrsref`` with the same entities; None without one."""
    entities, _ = split_name(svs.name)
    return next((ref for ref in refs if split_name(ref.name) == (entities, WATER)), None)


def plan_mrs(
    svs_paths: Sequence[Path], ref_paths: Sequence[Path], found: Found | None, basis: str = ""
) -> MrsPlan:
    """Decide what is done with the spectroscopy of one visit.

    Parameters
    ----------
    svs_paths, ref_paths : sequence of path
        Spectra and water references (NIfTI-MRS) of the visit.
    found : Found or None
        What `find_results` says of it.
    basis : str
        Path of a basis set; LCModel is run with it where no result was found, unless a mapping
        says that there is none.

    Raises
    ------
    BadInputError
        There is a problem with the result, several spectra, or nothing at all.
    """
    found = found or Found()
    if found.problem:
        raise BadInputError(found.problem)
    wanted = bool(basis) and not found.files and not found.declared_absent
    spectrum = _spectrum(svs_paths, found, needed=wanted or found.place is None)
    run = wanted and spectrum is not None
    place = found.place or spectrum
    if not (found.files or run or place):
        raise BadInputError(
            "there is neither a spectrum (_svs) nor a result of LCModel; give --derivatives "
            f"lcmodel=FOLDER, or name the result in {MAPPING_NAME}"
        )
    water = water_of(spectrum, ref_paths) if spectrum else None
    notes = {
        "no_fit": "" if found.files or run else _why_no_fit(found, wanted),
        "no_place": "" if place else "no file has the place of the voxel: there is no _svs, "
        "and no mapping with a column voxel",
        "water_absent": "LCModel is run without water: there is no _mrsref with the entities of "
        "the _svs" if run and water is None else "",
    }  # fmt: skip
    return MrsPlan(
        fit_files=found.files,
        voxel_index=found.voxel,
        spectrum=spectrum,
        water=water,
        place=place,
        run=run,
        notes=tuple((name, reason) for name, reason in notes.items() if reason),
    )


def _why_no_fit(found: Found, wanted: bool) -> str:
    if found.declared_absent:
        return "the mapping says that there is no result of LCModel"
    if wanted:
        return "no result of LCModel was found, and there is no _svs to run it on"
    return (
        "no result of LCModel was found, by name or in a mapping (where n/a says that there is "
        "none to expect), and no basis set was given to run it"
    )


def _spectrum(paths: Sequence[Path], found: Found, *, needed: bool) -> Path | None:
    """The spectrum of a visit, which must not contradict the names of the result."""
    if not needed:
        return None
    told = _told(found.files[0]) if found.files else {}
    fitting = [path for path in paths if not _contradictions(path, told)]
    if paths and not fitting:
        apart = ", ".join(_contradictions(paths[0], told))
        raise BadInputError(
            f"the result {found.files[0].name} and the spectrum {paths[0].name} differ in "
            f"{apart}; name the right file in the column voxel of {MAPPING_NAME}"
        )
    return choose_spectrum(fitting) if paths else None


def _told(path: Path) -> dict[str, str]:
    """Entities in the name of a result, which need not end in a suffix."""
    stem, _ = file_key(path) or (path.stem, "")
    return split_name(f"{base_name(stem)}_fit")[0]


def _contradictions(path: Path, told: dict[str, str]) -> list[str]:
    """Entities that a spectrum and a result both name, but not alike."""
    own, _ = split_name(path.name)
    return [key for key, value in told.items()
            if key not in VISIT_LABELS and own.get(key, value) != value]  # fmt: skip
