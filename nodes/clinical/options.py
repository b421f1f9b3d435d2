"""What ``[clinical]`` of the configuration may say, checked key by key."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from alsflow.nodes.clinical.alsfrs import BANDS
from alsflow.nodes.clinical.cognition import ECAS_BORDERLINE, ECAS_CUTOFFS, HAND_LIMIT
from alsflow.nodes.clinical.motor import EQUATIONS, MOVEMENTS, PENN_SHEET, Norm, Sign
from alsflow.nodes.errors import BadInputError

REGIONS = tuple(PENN_SHEET)


@dataclass(frozen=True)
class ClinicalOptions:
    """How scores are made from items, and where the items stand.

    Attributes
    ----------
    files : tuple of str
        Further tables to read, besides those of the dataset.
    tables : mapping
        Name of a tool (``alsfrs``) to the table that holds it, where its name does not tell.
    columns : mapping
        Name of an item to the user's column, where it is not known by its name.
    prorate : bool
        One missing item of the ALSFRS-R, a quarter of the MRC grades and one CMAP nerve of a side
        may be made up from the others; the score is flagged.
    kings_at_least_1 : bool
        King's stage 0 becomes 1.
    decline_bands : tuple
        Points per month from which decline is intermediate, and fast.
    mrc_movements, mrc_midline, mrc_grades
        What was tested on each side, without a side, and numbers for grades such as ``4-``.
    penn_items : mapping
        Lines of the sheet of upper motor neuron signs; empty: one number per region.
    cmap_norms : mapping
        Mean and standard deviation of each nerve, mV.
    fvc_equation : str
        Equation for volumes in litres; empty: none.
    one_side : bool
        Taps of one side stand for both where the other is missing.
    ecas_cutoffs, ecas_borderline, handedness_limit
        See `nodes.clinical.cognition`.
    """

    files: tuple[str, ...] = ()
    tables: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    prorate: bool = False
    kings_at_least_1: bool = False
    decline_bands: tuple[float, ...] = BANDS
    mrc_movements: tuple[str, ...] = MOVEMENTS
    mrc_midline: tuple[str, ...] = ()
    mrc_grades: Mapping[str, float] = field(default_factory=dict)
    penn_items: Mapping[str, Sign] = field(default_factory=dict)
    cmap_norms: Mapping[str, Norm] = field(default_factory=dict)
    fvc_equation: str = ""
    one_side: bool = False
    ecas_cutoffs: Mapping[str, float] = field(default_factory=lambda: dict(ECAS_CUTOFFS))
    ecas_borderline: Mapping[str, float] = field(default_factory=lambda: dict(ECAS_BORDERLINE))
    handedness_limit: float = HAND_LIMIT


def nearest(word: str, known: Iterable[str]) -> str:
    """Make a hint about a word that is not known, or nothing."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{match[0]}'?)" if match else ""


def parse_options(given: Mapping[str, Any]) -> ClinicalOptions:
    """Options from the table ``[clinical]`` of a configuration file."""
    known = {entry.name for entry in fields(ClinicalOptions)}
    for key in given:
        if key not in known:
            raise BadInputError(
                f"[clinical] has no setting '{key}'{nearest(key, known)}; it has "
                f"{', '.join(sorted(known))}"
            )
    defaults = ClinicalOptions()
    values = {key: _value(key, value, getattr(defaults, key)) for key, value in given.items()}
    options = replace(defaults, **values)
    _check(options)
    return options


def _value(key: str, value: Any, default: Any) -> Any:
    """`value` in the type of the setting."""
    if key == "cmap_norms":
        return {nerve: Norm(*_numbers(key, nerve, entry, "mean", "sd"))
                for nerve, entry in _table(key, value).items()}  # fmt: skip
    if key == "penn_items":
        return {line: _sign(line, entry) for line, entry in _table(key, value).items()}
    if isinstance(default, bool):
        return _typed(key, value, bool, "true or false")
    if isinstance(default, str):
        return _typed(key, value, str, "text in quotes")
    if isinstance(default, float):
        return float(_typed(key, value, (int, float), "a number"))
    if isinstance(default, tuple):
        items = _typed(key, value, (list, tuple), "a list")
        kind, words = (((int, float), "a list of numbers") if key == "decline_bands"
                       else (str, "a list of texts"))  # fmt: skip
        return tuple(_typed(key, item, kind, words) for item in items)
    texts = key in ("tables", "columns")
    entries = _table(key, value).items()
    return {name: _typed(f"{key}.{name}", entry, str if texts else (int, float),
                         "text in quotes" if texts else "a number")
            for name, entry in entries}  # fmt: skip


def _typed(key: str, value: Any, kind: Any, words: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise BadInputError(f"clinical.{key} = {value!r} is not {words}")
    return value


def _table(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise BadInputError(f"clinical.{key} is a table: write [clinical.{key}] above it")
    return value


def _numbers(key: str, name: str, entry: Any, *parts: str) -> list[float]:
    entry = _table(f"{key}.{name}", entry)
    if set(entry) != set(parts):
        raise BadInputError(f"[clinical.{key}.{name}] needs {' and '.join(parts)}, nothing else")
    return [float(_typed(f"{key}.{name}.{part}", entry[part], (int, float), "a number"))
            for part in parts]  # fmt: skip


def _sign(line: str, entry: Any) -> Sign:
    entry = _table(f"penn_items.{line}", entry)
    if set(entry) != {"region", "highest"} or entry["region"] not in REGIONS:
        raise BadInputError(
            f"[clinical.penn_items.{line}] needs highest (a number) and region, one of "
            f"{', '.join(REGIONS)}"
        )
    where = f"penn_items.{line}.highest"
    return Sign(entry["region"], float(_typed(where, entry["highest"], (int, float), "a number")))


def _check(options: ClinicalOptions) -> None:
    bands = options.decline_bands
    if len(bands) != 2 or not 0 < bands[0] < bands[1]:
        raise BadInputError(
            f"clinical.decline_bands = {list(bands)}: give the rates from which decline is "
            "intermediate and fast, such as [0.5, 1.0]"
        )
    if options.fvc_equation and options.fvc_equation not in EQUATIONS:
        raise BadInputError(
            f"clinical.fvc_equation = '{options.fvc_equation}' is not known; it is one of "
            f"{', '.join(EQUATIONS)}"
        )
    if not options.mrc_movements:
        raise BadInputError("clinical.mrc_movements is empty; name what was tested")
