"""Reader of LCModel's ``.csv``, which serves to check the table and to find the voxels.

It has neither line width nor diagnostics, so it is no result by itself. Names are cut to 13
characters and only the first 84 metabolites are written.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan

from alsflow.nodes.mrs.lcmodel_table import number
from alsflow.nodes.mrs.result import LCModelError, LCModelResult

NAME_WIDTH = 13  # characters
MAX_METABOLITES = 84  # 254 columns


@dataclass(frozen=True, slots=True)
class CsvVoxel:
    """One line of the file.

    Attributes
    ----------
    row, col : int
        Place in the slice, from 1.
    reference : str
        Reference of the ratios, in full.
    entries : tuple of (name, concentration, %SD, ratio)
        Not a number is NaN or None.
    """

    row: int
    col: int
    reference: str
    entries: tuple[tuple[str, float, int | None, float], ...]


def read_csv(text: str, name: str) -> list[CsvVoxel]:
    """Voxels in the order of the file; none where LCModel stopped before it wrote any."""
    text = text.removeprefix("\ufeff")
    lines = [(at, line) for at, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        return []
    names, reference = _names(lines[0][1], name)
    return [_voxel(line, at, names, reference, name) for at, line in lines[1:]]


def _names(header: str, file: str) -> tuple[list[str], str]:
    """Metabolites of the head, and the reference after the first slash."""
    words = [word.strip() for word in header.split(",")]
    names = words[2::3]
    good = words[:2] == ["Row", "Col"] and len(words) == 2 + 3 * len(names) and bool(names)
    reference = words[4].removeprefix(f"{names[0]}/") if good else ""
    for at, metabolite in enumerate(names if good else []):
        good &= words[3 + 3 * at] == f"{metabolite} %SD"
        good &= words[4 + 3 * at] == f"{metabolite}/{reference}"
    if not good:
        raise LCModelError(file, 1, "this is no head of a .csv of LCModel; run LCModel again")
    return names, reference


def _voxel(line: str, at: int, names: list[str], reference: str, file: str) -> CsvVoxel:
    words = [word.strip() for word in line.split(",")]
    if len(words) != 2 + 3 * len(names):
        reason = f"{len(words)} values where {2 + 3 * len(names)} belong; the file was cut"
        raise LCModelError(file, at, reason)
    try:
        entries = [
            (metabolite, number(conc)[0], int(sd) if sd.strip("*") else None, number(ratio)[0])
            for metabolite, conc, sd, ratio in zip(
                names, words[2::3], words[3::3], words[4::3], strict=True
            )
        ]
        return CsvVoxel(int(words[0]), int(words[1]), reference, tuple(entries))
    except ValueError as problem:
        raise LCModelError(file, at, f"{problem}; run LCModel again") from problem


def check_against_csv(result: LCModelResult, voxels: list[CsvVoxel], csv_name: str) -> None:
    """Refuse a table and a ``.csv`` that disagree: one of them is left from an earlier run.

    Parameters
    ----------
    result : LCModelResult
        Read from ``.table`` or ``.coord``.
    voxels : list of CsvVoxel
    csv_name : str
        Name of the ``.csv``, for messages.
    """
    if result.status != "ok":
        return
    voxel = next((v for v in voxels if (v.row, v.col) == (result.row, result.col)), None)
    if voxel is None:
        reason = f"no line of row {result.row}, column {result.col}, which {result.source} has"
        raise LCModelError(csv_name, 0, f"{reason}; one of the files is of another run")
    entries = voxel.entries
    same = len(entries) == min(result.n_rows, MAX_METABOLITES) and all(
        _same_name(name, row.metabolite)
        and sd == row.sd_percent
        and _same(conc, row.conc)
        and _same(ratio, row.ratio)
        for (name, conc, sd, ratio), row in zip(entries, result.rows, strict=False)
    )
    if not same:
        reason = f"differs from {result.source}; one of the files is of another run"
        raise LCModelError(csv_name, 0, reason)


def _same_name(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _same(one: float, other: float) -> bool:
    return one == other or (isnan(one) and isnan(other))
