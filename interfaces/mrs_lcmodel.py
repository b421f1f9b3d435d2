"""Files of LCModel results: one fit, or the voxels of a multi-voxel scan.

LCModel ends with exit status 0 whatever happened and leaves the outputs of an earlier run in
place, so only what the files say counts, and table and ``.csv`` must agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.mrs.lcmodel_coord import Spectra, read_coord
from alsflow.nodes.mrs.lcmodel_csv import CsvVoxel, check_against_csv, read_csv
from alsflow.nodes.mrs.lcmodel_print import Correlations, read_correlations
from alsflow.nodes.mrs.lcmodel_table import read_table
from alsflow.nodes.mrs.result import LCModelResult, missing_result

ENDS = (".table", ".coord", ".csv", ".print")
TABLES = (".table", ".coord")  # what makes a result; the other files only add to it
# LCMgui saves `table`, `coord` and so on, and the voxels of a scan as `sl1_2-3.table`.
VOXEL_NAME = re.compile(r"(?:(.+)_)?sl(\d+)_(\d+)-(\d+)")
SLICE_NAME = re.compile(r"(?:(.+)_)?sl(\d+)")


@dataclass(frozen=True)
class Fit:
    """One voxel: its result, and what the other files add.

    Attributes
    ----------
    result : LCModelResult
    spectra : Spectra or None
        From ``.coord``.
    correlations : Correlations or None
        From ``.print``.
    """

    result: LCModelResult
    spectra: Spectra | None = None
    correlations: Correlations | None = None


def read_text(path: Path) -> str:
    """Text in UTF-8, else Latin-1: LCModel copies the bytes of its control file."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read_lcmodel(place: Path, *, personal: bool = False) -> list[Fit]:
    """Fits of one result, in the order slice, row, column; a single voxel gives one.

    Parameters
    ----------
    place : path
        A folder with one result, one of its files, or their path without ending.
    personal : bool
        Also keep title, owner, date and the input lines with paths.

    Raises
    ------
    LCModelError
        Where a file contradicts itself or another one.
    BadInputError
        Where the folder holds several results.
    """
    return _read(_files(place), place.name, personal)


def read_lcmodel_files(paths: Sequence[Path], *, personal: bool = False) -> list[Fit]:
    """Fits of one result as `read_lcmodel`, from these files and from none beside them."""
    found = [(key, path) for path in paths if (key := file_key(path)) is not None]
    files = dict(found)
    name = paths[0].name
    if len(files) < len(found):
        raise BadInputError(f"{name} is given twice, from two folders; give one result of LCModel")
    _refuse_several(files, f"the list that begins with {name}")
    return _read(files, name, personal)


def _read(files: dict[tuple[str, str], Path], name: str, personal: bool) -> list[Fit]:
    voxels = voxels_of(files.values()) or [(1, 1, 1)]
    fits = [_read_voxel(files, voxel, name, personal) for voxel in voxels]
    return fits + _voxels_without_table(files, voxels)


def _files(place: Path) -> dict[tuple[str, str], Path]:
    """Files by stem and ending, in lower case; refuses a folder with several results."""
    folder = place if place.is_dir() else place.parent
    if not folder.is_dir():
        raise BadInputError(f"there is no folder {folder.name} with a result of LCModel")
    files = {
        key: path
        for path in sorted(folder.iterdir())
        if (key := file_key(path)) is not None and path.is_file()
    }
    if not place.is_dir():
        stem, _ = file_key(place) or (place.name, "")
        files = {key: path for key, path in files.items() if base_name(key[0]) == base_name(stem)}
    _refuse_several(files, place.name)
    return files


def _refuse_several(files: dict[tuple[str, str], Path], name: str) -> None:
    bases = sorted({base_name(stem) or "table" for stem, _ in files})
    if len(bases) > 1:
        raise BadInputError(f"{name} holds the results {', '.join(bases[:4])}; name one of them")


def file_key(path: Path) -> tuple[str, str] | None:
    """Stem and ending, in lower case, of a file that LCModel writes; None of any other.

    >>> file_key(Path("a/out.TABLE")), file_key(Path("a/table")), file_key(Path("a/out.txt"))
    (('out', '.table'), ('', '.table'), None)
    """
    if f".{path.name.lower()}" in ENDS:
        return "", f".{path.name.lower()}"
    end = path.suffix.lower()
    return (path.stem, end) if end in ENDS else None


def base_name(stem: str) -> str:
    """What the voxels and slices of one result have in common.

    >>> base_name("out_sl1_2-3"), base_name("sl1_2-3"), base_name("out")
    ('out', '', 'out')
    """
    found = VOXEL_NAME.fullmatch(stem) or SLICE_NAME.fullmatch(stem)
    return (found[1] or "") if found else stem


def voxels_of(paths: Iterable[Path]) -> list[tuple[int, int, int]]:
    """Slice, row and column of each voxel that has a ``.table`` or a ``.coord``, sorted."""
    keys = [key for path in paths if (key := file_key(path)) is not None]
    return sorted({_voxel(stem) for stem, end in keys if end in TABLES})


def _voxel(stem: str) -> tuple[int, int, int]:
    """Slice, row and column that a name tells."""
    found = VOXEL_NAME.fullmatch(stem)
    return (int(found[2]), int(found[3]), int(found[4])) if found else (1, 1, 1)


def _read_voxel(
    files: dict[tuple[str, str], Path], voxel: tuple[int, int, int], name: str, personal: bool
) -> Fit:
    own = {end: path for (stem, end), path in files.items() if _voxel(stem) == voxel}
    spectra = correlations = None
    result = missing_result(name, "neither .table nor .coord is there")
    if coord := own.get(".coord"):
        result, spectra = read_coord(read_text(coord), coord.name, personal=personal)
    if table := own.get(".table"):
        result = read_table(read_text(table), table.name, personal=personal)
    if printed := own.get(".print"):
        correlations = read_correlations(read_text(printed), printed.name)
    at_slice, row, col = voxel
    result = replace(result, slice=at_slice, row=row, col=col)
    if csv := _csv(files, at_slice):
        check_against_csv(result, read_csv(read_text(csv), csv.name), csv.name)
    return Fit(result, spectra, correlations)


def _csv(files: dict[tuple[str, str], Path], at_slice: int) -> Path | None:
    """The ``.csv`` of a slice, or the one for all."""
    found = [(stem, path) for (stem, end), path in files.items() if end == ".csv"]
    slices = {path: SLICE_NAME.fullmatch(stem) for stem, path in found}
    own = [path for path, name in slices.items() if name and int(name[2]) == at_slice]
    return own[0] if own else found[0][1] if len(found) == 1 else None


def _voxels_without_table(
    files: dict[tuple[str, str], Path], voxels: list[tuple[int, int, int]]
) -> list[Fit]:
    """Voxels that the ``.csv`` knows and no table has; only where there is a single slice."""
    if (
        len({at_slice for at_slice, _, _ in voxels}) > 1
        or (csv := _csv(files, voxels[0][0])) is None
    ):
        return []
    listed: list[CsvVoxel] = read_csv(read_text(csv), csv.name)
    reason = "the .csv has this voxel, but neither .table nor .coord is there"
    absent = [v for v in listed if (voxels[0][0], v.row, v.col) not in voxels]
    return [
        Fit(replace(missing_result(csv.name, reason), slice=voxels[0][0], row=v.row, col=v.col))
        for v in absent
    ]
