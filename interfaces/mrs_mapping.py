"""A table that says where each person's LCModel result is, for folders with names of their own."""

from __future__ import annotations

import codecs
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from alsflow.interfaces.mrs_lcmodel import TABLES, base_name, file_key, read_text, voxels_of
from alsflow.nodes.errors import BadInputError

MAPPING_NAME = "lcmodel.tsv"
COLUMNS = ("participant_id", "session_id", "result", "voxel", "slice", "row", "col")
NEEDED = ("participant_id", "result")
PLACE_IN_SCAN = ("slice", "row", "col")
NOT_THERE = ("", "n/a")
WIDE_TEXT = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
SHOWN = 6  # names in a message

VisitKey = tuple[str, str | None]  # participant and session, without sub- and ses-


@dataclass(frozen=True)
class Found:
    """What was found of one visit.

    Attributes
    ----------
    files : tuple of path
        The ``.table``, ``.coord``, ``.csv`` and ``.print`` of one result, sorted.
    place : path or None
        File that has the place of the voxel, from a mapping only.
    voxel : (slice, row, column) or None
        Of a multi-voxel scan; None where the result has one voxel.
    declared_absent : bool
        A mapping says that there is no result.
    problem : str
        Why this visit cannot be used, as one sentence; empty where it can.
    """

    files: tuple[Path, ...] = ()
    place: Path | None = None
    voxel: tuple[int, int, int] | None = None
    declared_absent: bool = False
    problem: str = ""


@dataclass(frozen=True)
class MappingRow:
    """One row of a mapping: the visit, and what it says of it."""

    line: int
    participant: str
    session: str | None
    found: Found


def read_mapping(path: Path) -> list[MappingRow]:
    """Rows of a mapping; a problem in a row is in its `found`, and harms no other.

    Parameters
    ----------
    path : path
        Text with tabs: ``participant_id``, ``result``, and optionally ``session_id``, ``voxel``,
        ``slice``, ``row``, ``col``. Paths are relative to the table.

    Raises
    ------
    BadInputError
        There is no such file, or its header is not understood.
    """
    (header_at, header), *rows = _cells(path)
    _check_header(header, f"{path.name}, line {header_at}")
    return [_row(path, at, header, cells) for at, cells in rows]


def _cells(path: Path) -> list[tuple[int, list[str]]]:
    """Cells of each line that is not blank, with its number."""
    try:
        start, text = path.read_bytes()[:2], read_text(path)
    except OSError as error:
        raise BadInputError(
            f"the table {path.name} cannot be read ({error.strerror}); check its path"
        ) from error
    if start in WIDE_TEXT or "\0" in text:
        raise BadInputError(f"{path.name} is no text in UTF-8; save it as UTF-8 text with tabs")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    found = [
        (at, [cell.strip().strip('"').strip() for cell in line.split("\t")])
        for at, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not found:
        raise BadInputError(f"{path.name} is empty; it needs the columns {' and '.join(NEEDED)}")
    return found


def _check_header(header: list[str], place: str) -> None:
    """Refuse a header that lacks a column, has one twice, or one that nobody knows."""
    if len(header) == 1 and any(mark in header[0] for mark in ",;"):
        raise BadInputError(f"{place}: columns must be parted by tabs; save it as text with tabs")
    lacking = [name for name in NEEDED if name not in header]
    if lacking:
        raise BadInputError(
            f"{place}: there is no column {' and no column '.join(lacking)}; the first line must "
            "name the columns"
        )
    for name in header:
        if name and name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, 1)
            meant = f", was {near[0]} meant?" if near else f"; known are {', '.join(COLUMNS)}"
            raise BadInputError(f"{place}: there is no meaning for the column {name}{meant}")
        if name and header.count(name) > 1:
            raise BadInputError(f"{place}: the column {name} is there twice; leave one")


def _row(path: Path, at: int, header: list[str], cells: list[str]) -> MappingRow:
    """One row; what is wrong with it is its problem."""
    cells = cells + [""] * (len(header) - len(cells))
    values = dict(zip(header, cells, strict=False))
    stray = [*cells[len(header) :], *(c for n, c in zip(header, cells, strict=False) if not n)]
    participant = _value(values, "participant_id").removeprefix("sub-")
    session = _value(values, "session_id").removeprefix("ses-") or None
    try:
        if any(stray):
            raise BadInputError("there are more cells than the header has columns; mend the tabs")
        found = _found(path.parent, values)
    except BadInputError as error:
        found = Found(problem=f"{path.name}, line {at}: {error}")
    except OSError as error:
        reason = f"a path cannot be read ({error.strerror}); check it"
        found = Found(problem=f"{path.name}, line {at}: {reason}")
    return MappingRow(at, participant, session, found)


def _value(values: Mapping[str, str], name: str) -> str:
    """A cell; empty where there is none."""
    value = values.get(name, "")
    return "" if value.lower() in NOT_THERE else value


def _found(folder: Path, values: Mapping[str, str]) -> Found:
    """What a row says; sentences of refusals lack file and line."""
    place = _place(folder, values)
    if not (result := _value(values, "result")):
        if not values.get("result"):
            raise BadInputError("the column result is blank; give a path, or n/a if there is none")
        return Found(place=place, declared_absent=True)
    files = one_result(_existing(folder, result))
    return Found(files, place, _voxel(values, files))


def _existing(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.exists():
        hint = "write folders with /, not \\" if "\\" in name else "check the path"
        raise BadInputError(f"there is no {name} beside the table; {hint}")
    return path


def _place(folder: Path, values: Mapping[str, str]) -> Path | None:
    if not (name := _value(values, "voxel")):
        return None
    path = _existing(folder, name)
    if not path.is_file():
        raise BadInputError(f"voxel is {name}, which is a folder; name the file with the place")
    return path


def one_result(place: Path) -> tuple[Path, ...]:
    """Files of the one result in a folder, or of the one that a file belongs to, sorted.

    Raises
    ------
    BadInputError
        There is none, or there are several.
    """
    results = results_in(place if place.is_dir() else place.parent)
    if not place.is_dir():
        stem, _ = file_key(place) or (None, "")
        own = {} if stem is None else {base_name(stem): results.get(base_name(stem), ())}
        results = {base: files for base, files in own.items() if files}
    if not results:
        wanted = "holds no" if place.is_dir() else "belongs to no"
        raise BadInputError(f"{place.name} {wanted} .table or .coord of LCModel; check the path")
    if len(results) > 1:
        names = ", ".join(sorted(base or "table" for base in results)[:SHOWN])
        raise BadInputError(f"{place.name} holds the results {names}; name the file of one")
    (files,) = results.values()
    return files


def results_in(folder: Path, names: list[str] | None = None) -> dict[str, tuple[Path, ...]]:
    """Results that lie in a folder itself, by what their files' names have in common.

    Parameters
    ----------
    folder : path
        It is not searched below.
    names : list of str, optional
        Files in it, if they are known.
    """
    if names is None:
        names = [path.name for path in folder.iterdir()]
    found: dict[str, list[Path]] = {}
    for path in sorted(folder / name for name in names):
        if (key := file_key(path)) is not None and path.is_file():
            found.setdefault(base_name(key[0]), []).append(path)
    return {base: tuple(paths) for base, paths in found.items() if _has_table(paths)}


def _has_table(paths: list[Path]) -> bool:
    return any(key[1] in TABLES for path in paths if (key := file_key(path)))


def _voxel(values: Mapping[str, str], files: tuple[Path, ...]) -> tuple[int, int, int] | None:
    """Voxel that a row names, which must be one of the result; None where it has only one."""
    there = voxels_of(files)
    given = {name: _value(values, name) for name in PLACE_IN_SCAN if name in values}
    if not any(given.values()):
        require_single(there)
        return None
    numbers = []
    for name in PLACE_IN_SCAN:
        text = given.get(name, "1")
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            shown = repr(text) if text else "not given"
            raise BadInputError(f"{name} is {shown}; give a whole number from 1")
        numbers.append(int(text))
    voxel = (numbers[0], numbers[1], numbers[2])
    if voxel not in there:
        raise BadInputError(
            f"the result has no voxel {_shown(voxel)} (slice/row/col); it has {_listed(there)}"
        )
    return voxel


def require_single(there: list[tuple[int, int, int]]) -> None:
    """Refuse a result with several voxels of which none was named."""
    if len(there) > 1:
        raise BadInputError(
            f"the result has {len(there)} voxels (slice/row/col {_listed(there)}); name one in "
            f"the columns slice, row and col of {MAPPING_NAME}"
        )


def _listed(there: list[tuple[int, int, int]]) -> str:
    more = f" and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
    return ", ".join(_shown(voxel) for voxel in there[:SHOWN]) + more


def _shown(voxel: tuple[int, int, int]) -> str:
    return "/".join(str(number) for number in voxel)


# ---------------------------------------------------------------------------- people


def assign_rows(
    rows: list[MappingRow], people: list[VisitKey], name: str
) -> tuple[dict[VisitKey, Found], list[str]]:
    """Rows of a mapping by visits, and warnings of those that fit none.

    Parameters
    ----------
    rows : list of MappingRow
    people : list of (participant, session)
        Visits of the dataset, or those of them that are processed.
    name : str
        Of the mapping, for messages.
    """
    by_visit: dict[VisitKey, list[MappingRow]] = {}
    misfits: dict[VisitKey, Found] = {}
    warnings = []
    for row in rows:
        sessions = [session for person, session in people if person == row.participant]
        if (row.participant, row.session) in people:
            by_visit.setdefault((row.participant, row.session), []).append(row)
        elif sessions and (row.session is None or sessions == [None]):
            problem = f"{name}, line {row.line}: {_wrong_session(row, sessions)}"
            misfits |= {(row.participant, session): Found(problem=problem) for session in sessions}
        else:
            warnings.append(_stranger(row, people, name))
    found = misfits | {visit: _only(own, name) for visit, own in by_visit.items()}
    return _refuse_shared(found, name), _shortened(warnings, name)


def _shortened(warnings: list[str], name: str) -> list[str]:
    """The first warnings, and how many more there are: a run may take few of many people."""
    if len(warnings) <= SHOWN:
        return warnings
    more = len(warnings) - SHOWN + 1
    return [*warnings[: SHOWN - 1], f"{name}: {more} more rows fit no visit of this run."]


def _wrong_session(row: MappingRow, sessions: list[str | None]) -> str:
    """Why a row of a person in the dataset is none of the person's visits."""
    if row.session is None:
        listed = ", ".join(f"ses-{session}" for session in sessions[:SHOWN])
        return f"no session_id is given, and sub-{row.participant} has {listed}; add it"
    return f"session_id is {row.session}, and sub-{row.participant} has no sessions; write n/a"


def _stranger(row: MappingRow, people: list[VisitKey], name: str) -> str:
    place = f"{name}, line {row.line}"
    if not row.participant:
        return f"{place}: there is no participant_id; the row is not used."
    visit = f"sub-{row.participant}" + (f"_ses-{row.session}" if row.session else "")
    alike = [p for p, _ in people if p.lstrip("0") == row.participant.lstrip("0")]
    hint = f" (was sub-{alike[0]} meant?)" if alike and alike[0] != row.participant else ""
    return f"{place}: {visit} is no visit of this run{hint}; the row is not used."


def _only(rows: list[MappingRow], name: str) -> Found:
    if len(rows) > 1:
        lines = " and ".join(str(row.line) for row in rows)
        return Found(problem=f"{name}, lines {lines}: one visit is there twice; leave one row")
    return rows[0].found


def _refuse_shared(found: dict[VisitKey, Found], name: str) -> dict[VisitKey, Found]:
    """Refuse a result that two visits claim."""
    owners: dict[tuple, list[VisitKey]] = {}
    for visit, one in found.items():
        if one.files:
            key = (tuple(path.resolve() for path in one.files), one.voxel)
            owners.setdefault(key, []).append(visit)
    for visits in owners.values():
        if len(visits) > 1:
            names = " and ".join(visit_name(*visit) for visit in visits)
            problem = f"{name}: {names} have the same result; correct the column result"
            found |= {visit: Found(problem=problem) for visit in visits}
    return found


def visit_name(participant: str, session: str | None) -> str:
    """Start of the visit's file names, such as ``sub-01_ses-a``."""
    return f"sub-{participant}" + (f"_ses-{session}" if session else "")
