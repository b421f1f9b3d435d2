"""Results as LCModel 6.3-1N writes them: ``.table``, ``.coord``, ``.csv`` and ``.print``.

Layout after the source of LCModel (https://github.com/schorschinho/LCModel) and files that it
wrote; `nodes.mrs` reads them back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VERSION = " LCModel (Version 6.3-1N)"
COPYRIGHT = " Copyright: S.W. Provencher.          Ref.: Magn. Reson. Med. 30:672-679 (1993)."
WIDTH = 75  # characters of a line of the tables of concentrations and line width,
NARROW = 74  # and of those of diagnostics and settings
HEAD_WIDTH = 120  # characters of the first line of .coord and .print
REFERENCE = "Cr+PCr"
FIXED_FROM, FIXED_TO = 0.0995, 999.9995  # between them F8.3, else an exponent
MOST_SNR = 9999  # that fits its four characters
CSV_NAME, CSV_MOST = 13, 84  # characters of a name; metabolites of the .csv
PRINT_HEAD, PRINT_NAME, PRINT_COLUMNS = 6, 11, 17  # of the correlations in .print
CURVE_COLUMNS = 10  # numbers in a line of .coord
LEVELS = {  # one message, several
    "info": ("info", "info's"),
    "warning": ("warning", "warnings"),
    "ERROR": ("ERROR", "ERRORS"),
    "FATAL": ("FATAL", "FATAL"),
}
SETTINGS = {  # in the order of the .print, with LCModel's defaults
    "DOWS": "F",
    "ATTH2O": "0.699999988",
    "ATTMET": "1.00000000",
    "CONREL": "1.00000000",
    "ECHOT": "0.00000000",
    "HZPPPM": "84.4700012",
    "PPMEND": "0.200000003",
    "PPMST": "4.00000000",
    "WCONC": "35880.0000",
}

Row = tuple[float, int, float, str, str]  # concentration, %SD, ratio, flag, name
Message = tuple[str, str, int, int]  # level, routine, number, count


@dataclass(frozen=True, eq=False)
class Curves:
    """Spectra of a fit.

    Attributes
    ----------
    ppm : (n,) array
        Chemical shift, falling.
    data, fit, baseline : (n,) array
        Phased data, fit with its baseline, baseline.
    metabolites : dict of str to (n,) array
        Single metabolites, baseline included.
    """

    ppm: NDArray
    data: NDArray
    fit: NDArray
    baseline: NDArray
    metabolites: Mapping[str, NDArray]


@dataclass(frozen=True, eq=False)
class Printed:
    """What one run of LCModel prints; without rows it stopped, which `diagnostics` must say.

    Attributes
    ----------
    rows : sequence
        Concentration, %SD, ratio, prior outlier (``+``, ``-`` or empty) and name.
    misc : tuple
        Line width (ppm), S/N, shift (ppm), zero-order phase (degree), first-order phase
        (degree/ppm).
    diagnostics : sequence
        Level, routine, number and count of each message.
    inputs : sequence of str
        Lines of the control file that differ from the defaults.
    title : sequence of str
    announced : int
        Rows that the head announces and that are not there, as with ONLYCO.
    correlations : (n, n) array, optional
        Of the errors of the rows.
    curves : Curves, optional
    """

    rows: Sequence[Row] = ()
    misc: tuple[float, int, float, int, float] = (0.0, 0, 0.0, 0, 0.0)
    diagnostics: Sequence[Message] = ()
    inputs: Sequence[str] = ()
    title: Sequence[str] = ()
    announced: int = 0
    correlations: NDArray | None = None
    curves: Curves | None = None


def conc_text(value: float) -> str:
    """Concentration in 8 characters.

    >>> conc_text(0.22), conc_text(0.0281), conc_text(4260.0)
    ('   0.220', '2.81E-02', '4.26E+03')
    """
    return _fixed(value) or f"{value:8.2E}"


def ratio_text(value: float) -> str:
    """Ratio in 8 characters.

    >>> ratio_text(1.574), ratio_text(0.0521)
    ('   1.574', ' 5.2E-02')
    """
    return _fixed(value) or f"{value:8.1E}"


def _fixed(value: float) -> str:
    return f"{value:8.3f}" if value == 0 or FIXED_FROM <= value < FIXED_TO else ""


def table_text(printed: Printed) -> str:
    """``.table``."""
    lines = [VERSION, *(f" {line}" for line in printed.title), ""]
    if printed.rows:
        lines += [f"$$CONC{_count(printed)}", *_conc_lines(printed), ""]
        misc = _misc_lines(printed)
        lines += [f"$$MISC {len(misc):2d} lines in following misc. output table", *misc, ""]
    messages = _message_lines(printed)
    lines += [f"$$DIAG {len(messages):2d} lines in following diagnostic table:", *messages]
    lines += ["" if messages else "\n"]
    lines += [f"$$INPU {len(printed.inputs):2d} lines in following table of input changes:"]
    return _text([*lines, *_input_lines(printed)])


def coord_text(printed: Printed) -> str:
    """``.coord``: the tables, and the spectra."""
    lines = [_head(), *(f" {line}" for line in printed.title)]
    if printed.rows:
        misc = _misc_lines(printed)
        lines += [_count(printed), *_conc_lines(printed)]
        lines += [f" {len(misc):2d} lines in following misc. output table", *misc]
        lines += [] if printed.curves is None else _curve_lines(printed.curves, printed.rows)
    messages = _message_lines(printed)
    lines += [f" {len(messages):2d} lines in following diagnostic table:", *messages]
    lines += [f" {len(printed.inputs):2d} lines in following table of input changes:"]
    return _text([*lines, *_input_lines(printed)])


def csv_text(printed: Printed) -> str:
    """``.csv``; empty where LCModel stopped."""
    if not printed.rows:
        return ""
    head, values = ["Row", "Col"], ["  1", "   1"]
    for conc, sd, ratio, _, name in printed.rows[:CSV_MOST]:
        short = name[:CSV_NAME]
        head += [short, f"{short} %SD", f"{short}/{REFERENCE}"]
        values += [f" {conc_text(conc)}", f"{sd:5d}", f" {ratio_text(ratio)}"]
    return _text([", ".join(head), ", ".join(values)])


def print_text(printed: Printed) -> str:
    """``.print``: settings in force, correlations, the tables; no date."""
    lines = ["", "", f"         {_head()}", "", *(f" {line}" for line in printed.title), ""]
    lines += ["&LCMODEL", *_setting_lines(printed.inputs), "/", ""]
    if printed.rows:
        if printed.correlations is not None:
            names = [row[4] for row in printed.rows]
            lines += _correlation_lines(names, printed.correlations)
        lines += ["", _head(), "", *_conc_lines(printed), "", *_misc_lines(printed), ""]
    return _text([*lines, " Summary of diagnostics", *_message_lines(printed), ""])


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"


def _head() -> str:
    return (VERSION + COPYRIGHT).ljust(HEAD_WIDTH)


def _count(printed: Printed) -> str:
    """Number of rows, head included, which has two characters and a blank if they do."""
    n = len(printed.rows) + 1 + printed.announced
    return f"{n:3d} lines in following concentration table = NCONC+1"


def _conc_lines(printed: Printed) -> list[str]:
    lines = [f"    Conc.  %SD /{REFERENCE}  Metabolite"]
    lines += [
        f" {conc_text(conc)}{sd:4d}%{ratio_text(ratio)}{flag or ' '}{name}"
        for conc, sd, ratio, flag, name in printed.rows
    ]
    return [line.ljust(WIDTH) for line in lines]


def _misc_lines(printed: Printed) -> list[str]:
    fwhm, snr, shift, ph0, ph1 = printed.misc
    lines = [
        f"  FWHM ={fwhm:6.3f} ppm    S/N ={'****' if snr > MOST_SNR else f'{snr:4d}'}",
        f"  Data shift ={shift:6.3f} ppm",
        f"  Ph:{ph0:4d} deg{ph1:10.1f} deg/ppm",
        "  alphaB,S = 3.6E-02,   5.1E+01",
        "   23 spline knots.   Ns = 5(1)",
    ]
    return [line.ljust(WIDTH) for line in lines]


def _message_lines(printed: Printed) -> list[str]:
    return [
        f"{count:4d} {LEVELS[level][count > 1]:<9} {routine:<6}{number:3d}".ljust(NARROW)
        for level, routine, number, count in printed.diagnostics
    ]


def _input_lines(printed: Printed) -> list[str]:
    return [f" {line}".ljust(NARROW) for line in printed.inputs]


def _curve_lines(curves: Curves, rows: Sequence[Row]) -> list[str]:
    conc = {row[4]: row[0] for row in rows}
    lines = [f"{len(curves.ppm):5d} points on ppm-axis = NY"]
    lines += _numbers(curves.ppm, "13.6f")
    lines += [" NY phased data points follow", *_numbers(curves.data, "13.5E")]
    lines += [" NY points of the fit to the data follow", *_numbers(curves.fit, "13.5E")]
    lines += [" NY background values follow", *_numbers(curves.baseline, "13.3E")]
    for name, curve in curves.metabolites.items():
        lines += [f" {name[:6]:<9}Conc. = {conc[name]:.2E}", *_numbers(curve, "13.5E")]
    return lines


def _numbers(values: NDArray, form: str) -> list[str]:
    words = [f"{value:{form}}" for value in values.tolist()]
    starts = range(0, len(words), CURVE_COLUMNS)
    return [" " + "".join(words[start : start + CURVE_COLUMNS]) for start in starts]


def _setting_lines(inputs: Sequence[str]) -> list[str]:
    """Settings in force, as a NAMELIST prints them."""
    changed = dict(line.upper().replace(" ", "").split("=", 1) for line in inputs)
    return [f" {name}= {changed.get(name, value)}," for name, value in SETTINGS.items()]


def _correlation_lines(names: Sequence[str], values: NDArray) -> list[str]:
    """Triangle below the diagonal; more columns than fit go on in further lines."""
    margin = " " * (PRINT_NAME + 3)
    short = [f"{name[:PRINT_HEAD]:<7}" for name in names[:-1]]
    starts = range(0, len(short), PRINT_COLUMNS)
    head = [margin + "".join(short[at : at + PRINT_COLUMNS]) for at in starts]
    lines = ["", "", f"{' ' * 20}Correlation coefficients", "", *head]
    for at, name in enumerate(names[1:], 1):
        numbers = [f"{value:7.3f}" for value in np.clip(values[at, :at], -1, 1).tolist()]
        for start in range(0, at, PRINT_COLUMNS):
            label = "" if start else name[:PRINT_NAME]
            lines.append(f" {label:<11}{''.join(numbers[start : start + PRINT_COLUMNS])}")
        if at % PRINT_COLUMNS == 0:
            lines.append("")
    return [*lines, *head, "", ""]
