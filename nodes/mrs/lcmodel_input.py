"""What LCModel reads: its control file, spectra as RAW files, and how a basis set begins.

As in the source of LCModel 6.3-1N (https://github.com/schorschinho/LCModel). Spectra in
NIfTI-MRS have the sign that LCModel expects: they are not conjugated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.mrs.nifti_header import named_sequence
from alsflow.nodes.mrs.voxel import LEAST_EDGE, MOST_EDGE

FREE_KEY = 210387309  # of all versions since LCModel is free
LEAST_POINTS, MOST_POINTS = 64, 65536  # what LCModel can take (NUNFIL)
LONGEST_LINE = 500  # characters; LCModel reads 540
LARGEST = 3e38  # of a number in single precision
SMALLEST = 1e-37
FORMAT = "(2E15.6)"
SEQUENCES = ("PRESS", "STEAM")  # that LCModel compares with the basis set
MS = 1e3  # per s
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\([0-9, ]+\))?")
OUTPUTS = {  # ending: number and name of LCModel's settings
    ".table": ("ltable", 7, "filtab"),
    ".coord": ("lcoord", 9, "filcoo"),
    ".csv": ("lcsv", 11, "filcsv"),
    ".print": ("lprint", 6, "filpri"),
}
# What the spectrum and the way of running decide; the rest may be set by the user.
RESERVED = re.compile(
    r"fil\w*|src\w*|savdir|title|owner|nunfil|deltat|hzpppm|echot|nd(slic|rows|cols)|iaverg|lps"
    r"|islice|i(row|col)(st|en)|l(table|coord|coraw|csv|print|raw|h2o|basis|contr\w*)"
)
NEEDS_WATER = ("dows", "doecc")
LONGEST_DWELL = 0.01  # s; longer is in another unit
SAME = 0.01  # relative; two statements of one number may differ by their rounding
UNKNOWN_VOLUME = 1.0  # mL
NUCLEUS = "1H"


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A free induction decay, and how it was measured.

    Attributes
    ----------
    signal : (n,) complex array
        Arbitrary units, sign as in NIfTI-MRS.
    dwell : float
        Time between two points, s.
    mhz : float
        Frequency of the spectrometer, MHz.
    te : float
        Echo time, s.
    sequence : str
        ``PRESS``, ``STEAM``, ``sLASER`` or empty.
    volume : float
        Of the voxel, mL; 1 where the header does not say.
    """

    signal: NDArray
    dwell: float
    mhz: float
    te: float
    sequence: str
    volume: float


def read_spectrum(
    data: NDArray, zooms: Sequence[float], extension: Mapping[str, Any], sidecar: Mapping[str, Any]
) -> Spectrum:
    """Spectrum of a NIfTI-MRS file with one decay.

    Parameters
    ----------
    data : (1, 1, 1, n) complex array
        As stored; more axes must have length 1.
    zooms : sequence of float
        Of the header: size of the voxel, mm, and time between two points, s.
    extension, sidecar : mapping
        JSON of the header and beside the file.
    """
    if data.ndim < 4 or any(count > 1 for count in (*data.shape[:3], *data.shape[4:])):
        shape = " x ".join(str(count) for count in data.shape)
        raise BadInputError(
            f"holds {shape} values, more than one decay: combine coils and average first "
            "(FSL-MRS, Osprey), and give what comes out"
        )
    if not np.iscomplexobj(data):
        raise BadInputError("holds real numbers, where a decay is complex; convert it again")
    stated = {**extension, **sidecar}
    nucleus = _first(stated.get("ResonantNucleus", NUCLEUS))
    if nucleus != NUCLEUS:
        raise BadInputError(f"was measured on {nucleus}; LCModel is run for {NUCLEUS} only")
    sizes = np.asarray(zooms[:3], float)
    known = bool(((sizes >= LEAST_EDGE) & (sizes <= MOST_EDGE)).all())
    return Spectrum(
        signal=data.reshape(-1),
        dwell=_dwell(float(zooms[3]), stated),
        mhz=_frequency(extension, sidecar),
        te=_number(stated, "EchoTime", "s"),
        sequence=named_sequence(stated),
        volume=float(sizes.prod() / 1000) if known else UNKNOWN_VOLUME,
    )


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) and value else value


def _number(stated: Mapping[str, Any], name: str, unit: str) -> float:
    value = _first(stated.get(name))
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise BadInputError(f"has no {name}; add it to its JSON file ({unit})")
    return float(value)


def _frequency(extension: Mapping[str, Any], sidecar: Mapping[str, Any]) -> float:
    """MHz; the header has more digits than most sidecars, which must not contradict it."""
    name = "SpectrometerFrequency"
    found = [_number(one, name, "MHz") for one in (extension, sidecar) if one.get(name)]
    if not found:
        return _number({}, name, "MHz")
    if abs(found[0] / found[-1] - 1) > SAME:
        raise BadInputError(
            f"says {found[0]:g} MHz in its header and {found[-1]:g} MHz in its JSON file; correct "
            f"{name}"
        )
    return found[0]


def _dwell(zoom: float, stated: Mapping[str, Any]) -> float:
    """Time between two points, s, from the header, or else from the spectral width."""
    width = _first(stated.get("SpectralWidth"))
    told = 1 / _number(stated, "SpectralWidth", "Hz") if width else 0.0
    dwell = zoom if 0 < zoom < LONGEST_DWELL else told
    if not dwell or (told and abs(dwell / told - 1) > SAME):
        said = f"{zoom:g} s (pixdim) and {width} Hz (SpectralWidth)"
        raise BadInputError(
            f"says {said}, which gives no time between two points; convert it again"
        )
    return dwell


def is_basis(text: str) -> bool:
    """Whether a text begins as a basis set of LCModel does."""
    return re.search(r"^\s*\$BASIS1?\b", text, re.MULTILINE | re.IGNORECASE) is not None


def raw_text(spectrum: Spectrum) -> str:
    """RAW or H2O file of a spectrum.

    PRESS and STEAM are named, so that LCModel notices a basis set of the other.
    """
    _check_signal(spectrum.signal)
    named = spectrum.sequence in SEQUENCES
    head = [
        " $SEQPAR", f" ECHOT = {spectrum.te * MS:.7g}", f" HZPPPM = {spectrum.mhz:.9g}",
        *([f" SEQ = '{spectrum.sequence}'"] if named else []), " $END",
        " $NMID", " ID = 'svs'", f" FMTDAT = '{FORMAT}'", f" VOLUME = {spectrum.volume:.6g}",
        " TRAMP = 1.0", " $END",
    ]  # fmt: skip
    parts = np.stack([spectrum.signal.real, spectrum.signal.imag], axis=1).astype(float)
    parts[np.abs(parts) < SMALLEST] = 0
    return "\n".join([*head, *(f"{real:15.6E}{imag:15.6E}" for real, imag in parts)]) + "\n"


def _check_signal(signal: NDArray) -> None:
    """Refuse what stops LCModel without a message: too few or many points, NaN, or zeros."""
    if not LEAST_POINTS <= len(signal) <= MOST_POINTS:
        raise BadInputError(
            f"has {len(signal)} points, and LCModel takes {LEAST_POINTS} to {MOST_POINTS}; give "
            "the spectrum as it was measured"
        )
    if not np.isfinite(signal).all() or np.abs(signal).max() > LARGEST:
        raise BadInputError("holds values that are not finite; convert it again")
    if not signal.any():
        raise BadInputError("holds zeros only; convert it again")


def matching_water(spectrum: Spectrum, water: Spectrum) -> Spectrum:
    """Water reference with as many points as the spectrum, at the same times.

    Raises
    ------
    BadInputError
        It was measured at other times, or is shorter.
    """
    points = len(spectrum.signal)
    apart = [
        f"{name} {own:g} and {other:g} {unit}"
        for name, own, other, unit in (
            ("times between points", spectrum.dwell, water.dwell, "s"),
            ("frequencies", spectrum.mhz, water.mhz, "MHz"),
        )
        if abs(own / other - 1) > SAME
    ]
    if len(water.signal) < points:
        apart.append(f"lengths {points} and {len(water.signal)} points")
    if apart:
        raise BadInputError(
            f"does not belong to the spectrum: {', '.join(apart)}; give the water reference of "
            "the same voxel, or none"
        )
    return replace(water, signal=water.signal[:points])


def control_settings(
    spectrum: Spectrum, *, water: bool, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """Settings of a run that hold no paths, with those the user wants otherwise.

    Parameters
    ----------
    spectrum : Spectrum
    water : bool
        There is a water reference, and concentrations are scaled by it.
    extra : mapping
        Other settings by LCModel's names.
    """
    chosen = {str(name).lower(): value for name, value in extra.items()}
    for name in chosen:
        if not NAME.fullmatch(name) or RESERVED.fullmatch(name.partition("(")[0]):
            raise BadInputError(
                f"the setting {name!r} of LCModel cannot be chosen: it is no name, or follows "
                "from the spectrum; leave it out"
            )
    asked = [name for name in NEEDS_WATER if _is_true(chosen.get(name, False))]
    if asked and not water:
        raise BadInputError(
            f"{' and '.join(asked)} need a water reference; add the _mrsref with the entities of "
            "the _svs, or leave the setting out"
        )
    own = {
        "nunfil": len(spectrum.signal), "deltat": float(f"{spectrum.dwell:.7g}"),
        "hzpppm": float(f"{spectrum.mhz:.9g}"), "echot": float(f"{spectrum.te * MS:.7g}"),
        "neach": 99, **({"dows": True} if water else {}),
    }  # fmt: skip
    return {"key": FREE_KEY, **own, **chosen}


def _is_true(value: Any) -> bool:
    return value is True or str(value).strip(".").lower().startswith("t")


def control_text(
    settings: Mapping[str, Any], *, basis: str, raw: str, h2o: str = "", stem: str = "out"
) -> str:
    """Control file of a run.

    Parameters
    ----------
    settings : mapping
        Of `control_settings`.
    basis, raw, h2o : str
        Names of files in the folder of the run; `h2o` is empty without water.
    stem : str
        Of the files that LCModel shall write.
    """
    files = {"filbas": basis, "filraw": raw, **({"filh2o": h2o} if h2o else {})}
    outputs: dict[str, Any] = {"lps": 0}
    for end, (switch, unit, name) in OUTPUTS.items():
        outputs |= {switch: unit, name: f"{stem}{end}"}
    every = {"owner": "", **files, **outputs, **settings}
    lines = [line for name, value in every.items() for line in _setting(name, value)]
    return "\n".join([" $LCMODL", *lines, " $END", ""])


def _setting(name: str, value: Any) -> list[str]:
    """Lines of one setting; a list has one line for each element."""
    if isinstance(value, list | tuple):
        pairs = enumerate(value, start=1)
        return [line for index, one in pairs for line in _setting(f"{name}({index})", one)]
    line = f" {name}= {_value(name, value)}"
    if len(line) > LONGEST_LINE:
        raise BadInputError(f"the setting {name} of LCModel is too long; shorten it")
    return [line]


def _value(name: str, value: Any) -> str:
    """A value as a Fortran namelist has it.

    >>> _value("a", True), _value("a", 5e-4), _value("a", "it's")
    ('T', '0.0005', "'it''s'")
    """
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, int | float) and np.isfinite(value):
        return str(value)
    if isinstance(value, str) and value.isprintable() and value.isascii() and "$" not in value:
        return "'" + value.replace("'", "''") + "'"
    raise BadInputError(
        f"the setting {name} of LCModel is {value!r}; give a number, true, false, or a text "
        "without line breaks and $"
    )
