"""Which fits and metabolites count, and why others do not; rows are flagged, never dropped.

To leave a metabolite out for its relative CRLB leaves out low concentrations first, which is the
direction of the disease [1]_: so every value stays in the tables beside its flag.

References
----------
.. [1] Kreis (2016). Magn Reson Med 75:15-18. doi:10.1002/mrm.25568
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import Any

from alsflow.nodes.mrs.result import LCModelResult, Row, known

DECISIVE = {
    ("MYBASI", 10): "echo times of data and basis set differ",
    ("MYBASI", 11): "sequences of data and basis set differ",
}
LONG_ECHO = 100.0  # ms; LCModel's own border for long echo times
NOT_AT_LONG_ECHO = ("Glx", "Glu", "Gln", "GABA", "mIns", "GSH")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the quality control; None switches one off.

    Attributes
    ----------
    sd_percent : int
        Largest CRLB that counts, %, as printed: 15 counts, 16 does not.
    snr : float or None
        Smallest S/N that counts.
    fwhm_ppm : float or None
        Largest line width that counts, ppm.
    """

    sd_percent: int = 15
    snr: float | None = 3.0
    fwhm_ppm: float | None = 0.1


@dataclass(frozen=True, slots=True)
class SpectrumQuality:
    """Judgement on one fit.

    Attributes
    ----------
    included : bool
    reasons : tuple of str
        Why it is not included.
    notes : tuple of str
        What a reader should know and what excludes nothing.
    pass_snr, pass_fwhm : bool or None
        None where the number is missing.
    faults : tuple of (str, str)
        The reasons, each with its short name: ``fit_failed``, ``wrong_basis``, ``low_snr``,
        ``broad_lines``.
    """

    included: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    pass_snr: bool | None
    pass_fwhm: bool | None
    faults: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RowQuality:
    """Judgement on one metabolite of a fit; fields as of `SpectrumQuality`."""

    included: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    pass_sd: bool


def judge_spectrum(result: LCModelResult, limits: Limits | None = None) -> SpectrumQuality:
    """Judge a fit by its status, decisive diagnostics, S/N and line width."""
    limits = limits or Limits()
    misc = result.misc
    pass_snr = _passes(misc.snr, limits.snr, larger=True)
    if misc.snr_overflow:
        pass_snr = True
    pass_fwhm = _passes(misc.fwhm_ppm, limits.fwhm_ppm, larger=False)
    faults = []
    if result.status != "ok":
        faults.append(("fit_failed", f"{result.status}: {result.status_reason}"))
    for d in result.diagnostics:
        if d.level != "info" and (d.routine, d.number) in DECISIVE:
            reason = f"{DECISIVE[d.routine, d.number]} ({d.level} {d.routine} {d.number})"
            faults.append(("wrong_basis", reason))
    if result.status == "ok":
        faults += _limit_faults(result, limits, pass_snr, pass_fwhm)
    reasons = tuple(reason for _, reason in faults)
    return SpectrumQuality(not faults, reasons, _notes(result), pass_snr, pass_fwhm, tuple(faults))


def judge_row(result: LCModelResult, row: Row, limits: Limits | None = None) -> RowQuality:
    """Judge one metabolite: the fit it comes from, and its CRLB."""
    limits = limits or Limits()
    reasons = list(judge_spectrum(result, limits).reasons)
    sd_reason = sd_fault(row, limits)
    reasons += [sd_reason] if sd_reason else []
    return RowQuality(not reasons, tuple(reasons), row_notes(result, row), not sd_reason)


def sd_fault(row: Row, limits: Limits) -> str:
    """Why a row breaks the CRLB rule; empty where it keeps it."""
    if not known(row.conc):
        return f"{row.metabolite_std} was not found (concentration 0 or missing)"
    if row.sd_percent is None:
        return f"{row.metabolite_std} has no CRLB"
    if row.sd_percent > limits.sd_percent:
        return f"CRLB of {row.metabolite_std} is {row.sd_percent} % (> {limits.sd_percent} %)"
    return ""


def row_notes(result: LCModelResult, row: Row) -> tuple[str, ...]:
    """What weakens a row without excluding it."""
    notes = []
    if row.prior_outlier:
        side = "above" if row.prior_outlier == "+" else "below"
        notes.append(f"{row.metabolite_std} lies {side} what LCModel expects")
    notes += doubts_of(row.metabolite_std, echo_time(result), edited=is_edited(result))
    return tuple(notes)


def doubts_of(metabolite: str, echo_ms: float | None, *, edited: bool) -> list[str]:
    """Why a metabolite cannot be told by such a spectrum, however small its CRLB.

    >>> doubts_of("GSH", 160.0, edited=False)
    ['GSH is unreliable at an echo time of 160 ms']
    """
    doubts = []
    if metabolite == "GABA" and not edited:
        doubts.append("GABA without editing follows LCModel's prior in part")
    if echo_ms is not None and echo_ms >= LONG_ECHO and metabolite in NOT_AT_LONG_ECHO:
        doubts.append(f"{metabolite} is unreliable at an echo time of {echo_ms:g} ms")
    return doubts


def is_edited(result: LCModelResult) -> bool:
    """LCModel was told that the spectrum is edited (MEGA-PRESS)."""
    return "mega" in result.inputs.get("sptype", "").lower()


def echo_time(result: LCModelResult) -> float | None:
    """Echo time of the control file, ms; None where the result does not tell."""
    try:
        return float(result.inputs["echot"].lower().replace("d", "e"))
    except (KeyError, ValueError):
        return None


def tidy_rows(result: LCModelResult, limits: Limits | None = None) -> list[dict[str, Any]]:
    """One dictionary for each metabolite, with `included` and `reason`; nothing personal."""
    return [
        {
            "source": result.source,
            "slice": result.slice,
            "row": result.row,
            "col": result.col,
            "metabolite": row.metabolite,
            "metabolite_std": row.metabolite_std,
            "is_sum": row.is_sum,
            "members": "+".join(row.members),
            "conc": row.conc,
            "conc_units": result.conc_units,
            "sd_percent": row.sd_percent,
            "sd_capped": row.sd_capped,
            "ratio": row.ratio,
            "ratio_reference": result.ratio_reference,
            "ratio_valid": row.ratio_valid,
            "prior_outlier": row.prior_outlier,
            "name_truncated": row.name_truncated,
            "pass_sd": judged.pass_sd,
            "included": judged.included,
            "reason": "; ".join(judged.reasons),
            "notes": "; ".join(judged.notes),
        }
        for row in result.rows
        for judged in [judge_row(result, row, limits)]
    ]


def _passes(value: float, limit: float | None, *, larger: bool) -> bool | None:
    if limit is None:
        return True
    if isnan(value):
        return None
    return value >= limit if larger else value <= limit


def _limit_faults(
    result: LCModelResult, limits: Limits, pass_snr: bool | None, pass_fwhm: bool | None
) -> list[tuple[str, str]]:
    faults = []
    if pass_snr is None:
        faults.append(("low_snr", "S/N is missing"))
    elif not pass_snr:
        faults.append(("low_snr", f"S/N {result.misc.snr:g} (< {limits.snr:g})"))
    width = result.misc.fwhm_ppm
    if pass_fwhm is None:
        faults.append(("broad_lines", "line width is missing"))
    elif not pass_fwhm:
        faults.append(("broad_lines", f"line width {width:g} ppm (> {limits.fwhm_ppm:g} ppm)"))
    return faults


def _notes(result: LCModelResult) -> tuple[str, ...]:
    """Warnings and errors of LCModel that do not decide, and scaling by water that failed."""
    notes = [
        f"{d.level} {d.routine} {d.number}"
        for d in result.diagnostics
        if d.level in ("warning", "ERROR") and (d.routine, d.number) not in DECISIVE
    ]
    asked = result.inputs.get("dows", "F").strip(".").upper().startswith("T")
    if asked and result.water_scaled is False:
        notes.append("scaling by water failed: concentrations are in arbitrary units")
    if result.tolerant:
        notes.append("the columns of the table had been moved by hand")
    return tuple(notes)
