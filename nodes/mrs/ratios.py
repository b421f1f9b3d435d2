"""Ratios of metabolites from the column with most digits, with their CRLB."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan, sqrt

from alsflow.nodes.mrs.lcmodel_print import Correlations
from alsflow.nodes.mrs.quality import Limits, judge_spectrum, row_notes, sd_fault
from alsflow.nodes.mrs.result import SD_CAP, LCModelResult, Row, known

PAIRS = (
    ("tNAA", "tCr"),
    ("tNAA", "tCho"),
    ("tCho", "tCr"),
    ("mIns", "tCr"),
    ("tNAA", "mIns"),
    ("Glx", "tCr"),
    ("GABA", "tCr"),
    ("GSH", "tCr"),
)


@dataclass(frozen=True, slots=True)
class Ratio:
    """One endpoint.

    Attributes
    ----------
    name : str
        ``tNAA/tCr``.
    value : float
        NaN where one of the two is missing or 0.
    rounding : float
        Largest relative error of `value` from the digits printed.
    sd_num, sd_den : int or None
        CRLB of numerator and denominator, %.
    value_sd : float
        CRLB of the ratio, %.
    correlation : float
        Of the two errors; NaN where unknown, and then 0 stands in `value_sd`.
    used_column : {'ratio', 'ratio quotient', 'conc', ''}
    pass_sd, pass_snr, pass_fwhm : bool or None
    included : bool
    reasons, notes : tuple of str
        Why it is not included; what else a reader should know.
    """

    name: str
    value: float
    rounding: float
    sd_num: int | None
    sd_den: int | None
    value_sd: float
    correlation: float
    used_column: str
    pass_sd: bool
    pass_snr: bool | None
    pass_fwhm: bool | None
    included: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...]


def all_ratios(
    result: LCModelResult,
    correlations: Correlations | None = None,
    limits: Limits | None = None,
) -> list[Ratio]:
    """Every ratio of `PAIRS`."""
    return [one_ratio(result, *pair, correlations, limits) for pair in PAIRS]


def one_ratio(
    result: LCModelResult,
    numerator: str,
    denominator: str,
    correlations: Correlations | None = None,
    limits: Limits | None = None,
) -> Ratio:
    """Ratio of two metabolites by standard names (`metabolites.standard_name`).

    Parameters
    ----------
    result : LCModelResult
    numerator, denominator : str
    correlations : Correlations or None
        From ``.print``.
    limits : Limits or None
        None stands for the defaults; the CRLB rule acts on both members.
    """
    limits = limits or Limits()
    judged = judge_spectrum(result, limits)
    rows = [result.find(numerator), result.find(denominator)]
    faults = [
        f"{name} is not in the table" if row is None else sd_fault(row, limits)
        for name, row in zip((numerator, denominator), rows, strict=True)
    ]
    reasons = (*judged.reasons, *(fault for fault in faults if fault))
    value, rounding, column = _value(result, *rows)
    correlation = _correlation(correlations, *rows)
    return Ratio(
        name=f"{numerator}/{denominator}",
        value=value,
        rounding=rounding,
        sd_num=rows[0].sd_percent if rows[0] else None,
        sd_den=rows[1].sd_percent if rows[1] else None,
        value_sd=_ratio_sd(correlation, *rows),
        correlation=correlation,
        used_column=column,
        pass_sd=not any(faults),
        pass_snr=judged.pass_snr,
        pass_fwhm=judged.pass_fwhm,
        included=not reasons,
        reasons=reasons,
        notes=judged.notes + tuple(n for row in rows if row for n in row_notes(result, row)),
    )


def _value(result: LCModelResult, one: Row | None, other: Row | None) -> tuple[float, float, str]:
    """Ratio, its relative rounding, and the column: the one that rounds least."""
    if one is None or other is None or not (known(one.conc) and known(other.conc)):
        return nan, nan, ""
    error = one.conc_rounding / one.conc + other.conc_rounding / other.conc
    choices = [(error, "conc", one.conc / other.conc)]
    if one.ratio_valid and other.ratio_valid:
        error = one.ratio_rounding / one.ratio
        if other.metabolite == result.ratio_reference:
            conrel = float(result.inputs.get("conrel", "1").lower().replace("d", "e"))
            choices.append((error, "ratio", one.ratio / conrel))
        else:
            error += other.ratio_rounding / other.ratio
            choices.append((error, "ratio quotient", one.ratio / other.ratio))
    rounding, column, value = min(choices)
    return value, rounding, column


def _correlation(correlations: Correlations | None, one: Row | None, other: Row | None) -> float:
    if correlations is None or one is None or other is None:
        return nan
    return correlations.between(one.metabolite, other.metabolite)


def _ratio_sd(correlation: float, one: Row | None, other: Row | None) -> float:
    """CRLB of a ratio, %: relative variances add, less twice their covariance."""
    sds = [row.sd_percent for row in (one, other) if row is not None and known(row.conc)]
    known_sds = [sd for sd in sds if sd is not None and sd < SD_CAP]
    if len(known_sds) < 2:
        return nan
    first, second = known_sds
    shared = 0.0 if isnan(correlation) else correlation
    return sqrt(max(first**2 + second**2 - 2 * shared * first * second, 0.0))
