"""What a denoising removes: named presets, and their check."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from alsflow.nodes.errors import BadInputError

MOTION_TERMS = (0, 6, 12, 24)
EXPANSIONS = (0, 1, 2, 4)
MAX_COMPONENTS = 10  # of CompCor per tissue; the table of confounds holds no more
MAX_TREND = 5  # degree; beyond, the band is the better tool
TISSUES = ("wm", "csf")


@dataclass(frozen=True)
class Preset:
    """What is projected out of a series.

    Attributes
    ----------
    name, description, source : str
        For people; the source is the DOI of who proposed it.
    motion : int
        0; 6 parameters; 12 with their derivatives; 24 with the squares of those, too.
    wm, csf : int
        Components of white matter and of cerebrospinal fluid (aCompCor).
    global_signal : int
        0; 1 the mean of the brain; 2 with its derivative; 4 with the squares of both.
    wm_csf : int
        The same of the means of white matter and of fluid.
    trend : int
        Degree of the polynomial in time; 0 is the mean.
    band : (float, float), optional
        Lowest and highest frequency that stay, Hz; None filters nothing.
    """

    name: str
    description: str = ""
    source: str = ""
    motion: int = 0
    wm: int = 0
    csf: int = 0
    global_signal: int = 0
    wm_csf: int = 0
    trend: int = 1
    band: tuple[float, float] | None = None


KEYS = [
    *(entry.name for entry in fields(Preset) if entry.name not in ("name", *TISSUES)),
    "compcor",
]


def load_preset(content: str | Mapping[str, Any], name: str) -> Preset:
    """Read a preset from TOML text, or from its content; what is none is refused.

    Parameters
    ----------
    content : str or mapping
        Keys of `KEYS`; ``compcor`` is a table of ``wm`` and ``csf``.
    name : str
        Name of the preset or of its file.
    """
    table = _parsed(content) if isinstance(content, str) else dict(content)
    table.pop("name", None)
    _check_keys(table, KEYS, "")
    compcor = table.pop("compcor", {})
    if not isinstance(compcor, Mapping):
        raise BadInputError(
            f"has compcor = {compcor!r}, which is no table; write compcor = {{wm = 5, csf = 5}}"
        )
    _check_keys(compcor, list(TISSUES), "compcor.")
    values: dict[str, Any] = {key: _text(table, key) for key in ("description", "source")}
    values |= {tissue: _count(compcor, tissue, MAX_COMPONENTS) for tissue in TISSUES}
    values |= {
        "motion": _one_of(table, "motion", MOTION_TERMS),
        "global_signal": _one_of(table, "global_signal", EXPANSIONS),
        "wm_csf": _one_of(table, "wm_csf", EXPANSIONS),
        "trend": _count({"trend": 1} | table, "trend", MAX_TREND),
        "band": _band(table.get("band")),
    }
    return Preset(name, **values)


def preset_content(preset: Preset) -> dict[str, Any]:
    """Name and content of a preset as plain values, which `load_preset` takes back."""
    content = asdict(preset)
    content["compcor"] = {tissue: content.pop(tissue) for tissue in TISSUES}
    if preset.band is None:
        del content["band"]
    else:
        content["band"] = list(preset.band)
    return content


def check_band(preset: Preset, tr: float) -> None:
    """Refuse a band that volumes every `tr` seconds cannot show."""
    highest = 0.5 / tr
    if preset.band is not None and preset.band[1] > highest * (1 + 1e-6):
        raise BadInputError(
            f"keeps frequencies up to {preset.band[1]:g} Hz, but volumes every {tr:g} s show "
            f"none above {highest:.3g} Hz; lower the upper end of the band"
        )


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(f"is not valid TOML ({error}); correct that line") from error


def _check_keys(table: Mapping[str, Any], known: list[str], where: str) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"did you mean {where}{near[0]}" if near else f"known are {', '.join(known)}"
            raise BadInputError(f"has the unknown key {where}{key}; {hint}")


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise BadInputError(f"has {key} = {value!r}, which is no text; put it in quotes")
    return value


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _one_of(table: Mapping[str, Any], key: str, allowed: tuple[int, ...]) -> int:
    value = table.get(key, 0)
    if not _whole(value) or value not in allowed:
        choice = ", ".join(map(str, allowed))
        raise BadInputError(f"has {key} = {value!r}; give one of {choice}")
    return value


def _count(table: Mapping[str, Any], key: str, most: int) -> int:
    value = table.get(key, 0)
    if not _whole(value) or not 0 <= value <= most:
        raise BadInputError(f"has {key} = {value!r}; give a whole number from 0 to {most}")
    return value


def _band(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    pair = isinstance(value, list | tuple) and len(value) == 2
    if not pair or any(isinstance(v, bool) or not isinstance(v, int | float) for v in value):
        raise BadInputError(
            f"has band = {value!r}; give two frequencies in Hz such as [0.008, 0.09], "
            "or leave the key out for no filter"
        )
    low, high = float(value[0]), float(value[1])
    if not (0 <= low < high and math.isfinite(high)):
        raise BadInputError(
            f"has band = [{low:g}, {high:g}], which lets nothing pass; "
            "give the lower frequency first, not below 0 Hz"
        )
    return low, high
