"""Numbers as a paper prints them: text, and the interval that it was rounded from."""

from __future__ import annotations

import re
from dataclasses import dataclass

from alsflow.nodes.errors import BadInputError

P_SIGNIFICANT = 0.05  # what "NS" is above
MINUS = str.maketrans({"\u2212": "-", "\u2013": "-"})


@dataclass(frozen=True)
class Printed:
    """A printed number; ``<0.001`` and ``NS`` are intervals of their own."""

    text: str
    low: float
    high: float

    @property
    def middle(self) -> float:
        """Printed number itself, or the middle of its interval."""
        return (self.low + self.high) / 2

    def holds(self, value: float) -> bool:
        """Whether `value` rounds to what is printed."""
        slack = 1e-12 * max(1.0, abs(value))
        return self.low - slack <= value <= self.high + slack

    def meets(self, low: float, high: float) -> bool:
        """Whether an interval has a part in common with the printed one."""
        return self.low <= high and low <= self.high


def read_printed(text: str) -> Printed | None:
    """Interval of a printed number; None where nothing is printed.

    >>> read_printed("2.68")
    Printed(text='2.68', low=2.675, high=2.685)
    >>> read_printed("<0.001")
    Printed(text='<0.001', low=0.0, high=0.001)
    """
    words = text.strip().translate(MINUS)
    if not words:
        return None
    if words == "NS":
        return Printed(words, P_SIGNIFICANT, 1.0)
    bound = re.fullmatch(r"<\s*([\d.]+)", words)
    if bound:
        return Printed(words, 0.0, float(bound[1]))
    if not re.fullmatch(r"-?\d+(\.\d*)?", words):
        raise BadInputError(f"'{text}' is no printed number; write 0.05, <0.001 or NS")
    half = 0.5 * 10.0 ** -len(words.partition(".")[2])
    value = float(words)
    return Printed(words, round(value - half, 12), round(value + half, 12))


def need_printed(text: str) -> Printed:
    """Interval of a number that has to be there."""
    found = read_printed(text)
    if found is None:
        raise BadInputError("a printed number is empty; write what the paper prints")
    return found
