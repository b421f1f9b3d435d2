"""What one LCModel fit says: rows, line shape, diagnostics, the settings that were changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isnan, nan
from typing import Literal

from alsflow.nodes.errors import BadInputError

SD_CAP = 999  # %; LCModel prints this for "999 or more" and for concentration 0
Status = Literal["ok", "fatal", "truncated", "missing"]


class LCModelError(BadInputError):
    """A result of LCModel that cannot be read.

    Attributes
    ----------
    file : str
        Name of the file.
    line : int
        Line at which reading stopped, from 1; 0 where no single line is at fault.
    reason : str
        What is wrong and how to mend it.
    """

    def __init__(self, file: str, line: int, reason: str) -> None:
        place = f"{file}, line {line}" if line else file
        super().__init__(f"{place}: {reason}")
        self.file, self.line, self.reason = file, line, reason


@dataclass(frozen=True, slots=True)
class Row:
    """One metabolite, or one sum, of the concentration table.

    Attributes
    ----------
    metabolite, metabolite_std : str
        Name as printed, and the one to compare by (`nodes.mrs.metabolites`).
    is_sum : bool
    members : tuple of str
        Parts of a sum; of a single metabolite itself.
    conc, ratio : float
        Concentration, and its ratio to the reference; NaN where none could be printed.
    sd_percent : int or None
        CRLB, % of the concentration, as printed; None where it is not a number.
    ratio_valid : bool
        The reference is in the table with a concentration that is known, and so is this one.
    prior_outlier : {'', '+', '-'}
        The ratio lies above or below its prior by more than LCModel allows.
    name_truncated : bool
        The name fills its column, so it may have been cut.
    conc_rounding, ratio_rounding : float
        Half a unit of the last digit printed.
    """

    metabolite: str
    metabolite_std: str
    is_sum: bool
    members: tuple[str, ...]
    conc: float
    sd_percent: int | None
    ratio: float
    ratio_valid: bool
    prior_outlier: str
    name_truncated: bool
    conc_rounding: float
    ratio_rounding: float

    @property
    def sd_capped(self) -> bool:
        """The CRLB is 999 %, which means: or more, or concentration 0."""
        return self.sd_percent is not None and self.sd_percent >= SD_CAP


@dataclass(frozen=True, slots=True)
class Misc:
    """Numbers of the whole fit; NaN where not printed.

    Attributes
    ----------
    fwhm_ppm, snr, data_shift_ppm, ph0_deg, ph1_deg_per_ppm, alpha_b, alpha_s : float
    snr_overflow : bool
        S/N is above 9999, too large for its column; `snr` is NaN then.
    n_knots, n_side : int or None
        Spline knots of the baseline; points of the line shape.
    """

    fwhm_ppm: float = nan
    snr: float = nan
    snr_overflow: bool = False
    data_shift_ppm: float = nan
    ph0_deg: float = nan
    ph1_deg_per_ppm: float = nan
    alpha_b: float = nan
    alpha_s: float = nan
    n_knots: int | None = None
    n_side: int | None = None


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One message of LCModel: ``count`` times ``routine`` ``number`` at ``level``."""

    level: str
    routine: str
    number: int
    count: int | None


@dataclass(frozen=True, slots=True)
class LCModelResult:
    """One voxel as LCModel reported it.

    Attributes
    ----------
    source : str
        Name of the file.
    status : {'ok', 'fatal', 'truncated', 'missing'}
    status_reason : str
        Why the status is not ``ok``.
    version : str
        Version of LCModel; empty where the head of the file was taken off.
    ratio_reference : str
        Name over the ratio column, in full where a row bears it.
    header : str
        Head of the concentration table.
    rows : tuple of Row
    misc : Misc
    diagnostics : tuple of Diagnostic
    inputs : dict
        Settings that differ from LCModel's defaults, lower case; no paths and no names of people.
    water_scaled : bool or None
        Concentrations are scaled by water; None where the file does not tell.
    n_rows_declared : int or None
        Rows announced, without the head; more than there are with ONLYCO.
    tolerant : bool
        Columns had been moved by hand and were read by their order instead of their place.
    personal : tuple of str
        Title, owner, date and input lines with paths; empty unless asked for.
    slice, row, col : int
        Place in a multi-voxel scan, from 1.
    """

    source: str
    status: Status = "ok"
    status_reason: str = ""
    version: str = ""
    ratio_reference: str = ""
    header: str = ""
    rows: tuple[Row, ...] = ()
    misc: Misc = Misc()
    diagnostics: tuple[Diagnostic, ...] = ()
    inputs: dict[str, str] = field(default_factory=dict)
    water_scaled: bool | None = None
    n_rows_declared: int | None = None
    tolerant: bool = False
    personal: tuple[str, ...] = ()
    slice: int = 1
    row: int = 1
    col: int = 1

    @property
    def n_rows(self) -> int:
        """Rows that were there."""
        return len(self.rows)

    @property
    def conc_units(self) -> str:
        """``i.u.`` (institutional) with water scaling, ``a.u.`` without or where unknown."""
        return "i.u." if self.water_scaled else "a.u."

    def find(self, metabolite: str) -> Row | None:
        """Row by its standard name; None where there is none, or several that differ."""
        found = [row for row in self.rows if row.metabolite_std == metabolite]
        if len({(row.conc, row.sd_percent) for row in found}) > 1:
            return None
        return found[0] if found else None


def missing_result(source: str, reason: str) -> LCModelResult:
    """Result of a fit that is not there."""
    return LCModelResult(source, status="missing", status_reason=reason)


def known(value: float) -> bool:
    """A concentration that can stand in a ratio: neither missing nor 0."""
    return not isnan(value) and value > 0
