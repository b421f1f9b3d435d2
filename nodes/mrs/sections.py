"""Sections of a ``.table`` or ``.coord`` of LCModel, found by their heads, never by counting."""

from __future__ import annotations

import re
from dataclasses import dataclass

from alsflow.nodes.mrs.result import LCModelError

MARK = re.compile(
    r"\s*(?:\$\$[A-Z]{4})?\s*(\d+|\*+)\s+lines? in following "
    r"(?:(conc)entration|(misc)\. output|(diag)nostic|table of (inpu)t)"
)
AXIS = re.compile(r"\s*(\d+)\s+points on ppm-axis")
VERSION = re.compile(r"\s*LCModel \(Version ([^)\s]{1,12})\s*\)")


@dataclass(frozen=True, slots=True)
class Section:
    """Lines below one head.

    Attributes
    ----------
    line : int
        Line of the head, from 1.
    declared : int or None
        Lines it announces; None for stars.
    lines : list of str
    last : bool
        Nothing follows this section.
    finished : bool
        The last line of the section ends in a line break.
    """

    line: int
    declared: int | None
    lines: list[str]
    last: bool
    finished: bool

    def content(self, start: int = 0, drop_unfinished: bool = False) -> list[tuple[int, str]]:
        """Lines that are not blank with their numbers; on request without one cut short."""
        end = len(self.lines)
        if drop_unfinished and not self.finished:
            end -= 1
        return [
            (self.line + 1 + at, self.lines[at])
            for at in range(start, end)
            if not self.lines[at].isspace() and self.lines[at]
        ]


@dataclass(frozen=True, slots=True)
class Sections:
    """A file taken apart: ``conc``, ``misc``, ``axis`` (``.coord`` only), ``diag``, ``inpu``."""

    name: str
    head: list[str]
    version: str
    found: dict[str, Section]

    def get(self, key: str) -> Section | None:
        """Section, or None where the file has none."""
        return self.found.get(key)

    def personal(self) -> tuple[str, ...]:
        """Title, owner, date and all input lines, as they stand in the file."""
        inputs = self.found.get("inpu")
        lines = self.head[1:] + (inputs.lines if inputs else [])
        return tuple(line.strip() for line in lines if line.strip())


def split_sections(text: str, name: str) -> Sections:
    """Take a file apart; refuse what LCModel did not write, or what holds two results."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    marks = _marks(lines)
    version = VERSION.match(lines[0])
    if version is None and not marks:
        raise LCModelError(name, 1, "this was not written by LCModel; give its .table file")
    found: dict[str, Section] = {}
    for place, (at, key, declared) in enumerate(marks):
        last = place + 1 == len(marks)
        end = len(lines) if last else marks[place + 1][0]
        if key in found:
            raise LCModelError(name, at + 1, "a second table of the same kind; split the file")
        finished = not last or not lines[-1]
        found[key] = Section(at + 1, declared, lines[at + 1 : end], last, finished)
    order = [key for _, key, _ in marks]
    if order != sorted(order, key=["conc", "misc", "axis", "diag", "inpu"].index):
        raise LCModelError(name, marks[0][0] + 1, "the tables stand in the wrong order")
    if "diag" in found and ("conc" in found) != ("misc" in found):
        reason = "one of the tables of concentrations and of line width is missing"
        raise LCModelError(name, marks[0][0] + 1, reason)
    head = lines[: marks[0][0]] if marks else lines
    return Sections(name, head, version[1] if version else "", found)


def _marks(lines: list[str]) -> list[tuple[int, str, int | None]]:
    """Line, kind and announced length of every head."""
    marks = []
    for at, line in enumerate(lines):
        if "lines in following" in line and (found := MARK.match(line)):
            key = next(group for group in found.groups()[1:] if group)
            marks.append((at, key, int(found[1]) if found[1].isdigit() else None))
        elif "points on ppm-axis" in line and (found := AXIS.match(line)):
            marks.append((at, "axis", int(found[1])))
    return marks
