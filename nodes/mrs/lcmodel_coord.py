"""Reader of LCModel's ``.coord``: the tables of ``.table``, and the spectra."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.mrs.lcmodel_table import read_sections
from alsflow.nodes.mrs.result import LCModelError, LCModelResult, missing_result
from alsflow.nodes.mrs.sections import Section, split_sections

BLOCKS = {
    "NY phased data points follow": "data",
    "NY points of the fit to the data follow": "fit",
    "NY background values follow": "baseline",
}
METABOLITE = re.compile(r" ?(\S.{0,8}?)\s+Conc\. =")


@dataclass(frozen=True)
class Spectra:
    """Curves of one fit; intensities in arbitrary units.

    Attributes
    ----------
    ppm : (n,) array
        Chemical shift, falling.
    data, fit : (n,) array
        Phased spectrum, and the fit with its baseline.
    baseline : (n,) array or None
        None where the fit was made without one (NOBASE).
    metabolites : tuple of (str, (n,) array)
        Metabolites with a concentration, name cut to six characters, **baseline included**.
    """

    ppm: NDArray
    data: NDArray
    fit: NDArray
    baseline: NDArray | None
    metabolites: tuple[tuple[str, NDArray], ...]


def read_coord(
    text: str, name: str, *, personal: bool = False
) -> tuple[LCModelResult, Spectra | None]:
    """Read one ``.coord``; the spectra are None where LCModel stopped or the file was cut.

    Parameters
    ----------
    text : str
        The whole file.
    name : str
        Name of the file, for messages and as `source`.
    personal : bool
        Also keep title, owner, date and the input lines with paths.
    """
    if not text.strip("\ufeff\x00 \t\r\n"):
        return missing_result(name, "the file is empty"), None
    sections = split_sections(text, name)
    result = read_sections(sections, personal=personal)
    axis = sections.get("axis")
    if result.status != "ok" or axis is None:
        return result, None
    return result, _spectra(axis, name)


def _spectra(axis: Section, name: str) -> Spectra:
    curves: dict[str, NDArray] = {}
    metabolites = []
    for title, at, lines in _blocks(axis):
        values = _numbers(lines, axis.declared or 0, at, name)
        if title in curves:
            raise LCModelError(name, at, f"the {title} comes twice; split the file")
        if title in ("ppm", *BLOCKS.values()):
            curves[title] = values
        else:
            metabolites.append((title.removeprefix("Conc "), values))
    for needed in ("data", "fit"):
        if needed not in curves:
            raise LCModelError(name, axis.line, f"the spectrum of the {needed} is missing")
    return Spectra(
        curves["ppm"], curves["data"], curves["fit"], curves.get("baseline"), tuple(metabolites)
    )


def _blocks(axis: Section) -> list[tuple[str, int, list[str]]]:
    """Title, line and number lines of each curve; metabolites are ``Conc <name>``."""
    blocks: list[tuple[str, int, list[str]]] = [("ppm", axis.line, [])]
    for at, line in axis.content():
        if "follow" in line and line.strip() in BLOCKS:
            blocks.append((BLOCKS[line.strip()], at, []))
        elif "Conc" in line and (found := METABOLITE.match(line)):
            blocks.append((f"Conc {found[1]}", at, []))
        else:
            blocks[-1][2].append(line)
    return blocks


def _numbers(lines: list[str], expected: int, at: int, name: str) -> NDArray:
    words = " ".join(lines).split()
    try:
        values = np.array([nan if "*" in word else float(word) for word in words])
    except ValueError as problem:
        raise LCModelError(name, at, f"a curve holds text ({problem})") from problem
    if len(values) != expected:
        raise LCModelError(name, at, f"{len(values)} points of a curve where {expected} belong")
    return values
