"""Concentrations of one fit in every unit, and why some cannot be had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import Any

import pandas as pd

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.mrs.fractions import LEAST_COVERAGE
from alsflow.nodes.mrs.lcmodel_print import Correlations
from alsflow.nodes.mrs.quality import Limits, echo_time, judge_row
from alsflow.nodes.mrs.ratios import one_ratio
from alsflow.nodes.mrs.result import LCModelResult, Row, known
from alsflow.nodes.mrs.water import (
    METABOLITE_SETS,
    SUM_TOLERANCE,
    WATER_SETS,
    Concentration,
    Fractions,
    concentrations,
)
from alsflow.nodes.mrs.water import (
    Sequence as Timing,
)

ECHO_TOLERANCE = 3.0  # ms, between LCModel's echo time and the scan's; LCModel's own tolerance
QUANT_COLUMNS = [
    "metabolite", "quantity", "value", "unit", "reference", "crlb_pct", "included", "reason",
]  # fmt: skip
TISSUE_COLUMNS = {
    "fGM": "gm",
    "fWM": "wm",
    "fCSF": "csf",
    "tissue_sum": "tissue_sum",
    "in_view": "in_view",
    "in_brain": "in_brain",
    "nominal_volume_ml": "nominal_volume",
    "mask_volume_ml": "mask_volume",
}
CORRECTED = {"molal": "mmol/kg", "molal_volume": "mmol/kg", "molar": "mmol/L"}
TIMES = ("te", "tr", "tm")
SHARES = {
    "in_view": "the field of view of the T1-weighted image",
    "in_brain": "the brain mask",
    "tissue_sum": "a tissue",
}


@dataclass(frozen=True)
class Correction:
    """Concentrations against tissue water, or why there are none.

    Attributes
    ----------
    values : tuple of Concentration
        In the order of the rows of the fit; empty where `reason` says why.
    reason : str
    facts : dict
        Constants, sequence and times in s that were used.
    notes : tuple of str
        What a reader of the values must know.
    """

    values: tuple[Concentration, ...]
    reason: str
    facts: dict[str, Any]
    notes: tuple[str, ...]


def check_constants(water: str, metabolites: str) -> None:
    """Refuse names of sets of constants that are not known.

    Parameters
    ----------
    water, metabolites : str
        Keys of `water.WATER_SETS` and `water.METABOLITE_SETS`.
    """
    for what, name, sets in (
        ("water", water, WATER_SETS),
        ("metabolites", metabolites, METABOLITE_SETS),
    ):
        if name not in sets:
            raise BadInputError(
                f"'{name}' is no set of constants for {what}; the sets are {', '.join(sets)}"
            )


def scan_timing(place: Mapping[str, Any] | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Sequence and times (s) of a scan: what was given, else what its header says, else None.

    Parameters
    ----------
    place : mapping or None
        What `PlaceVoxel` says: ``te``, ``tr``, ``tm``, ``sequence``.
    given : mapping
        The same keys; only those that stand above the header.
    """
    header = place or {}
    return {name: given.get(name, header.get(name)) for name in ("sequence", *TIMES)}


def correct(
    result: LCModelResult,
    place: Mapping[str, Any] | None,
    timing: Mapping[str, Any],
    water: str,
    metabolites: str,
) -> Correction:
    """Concentrations against tissue water, where everything that they need is known.

    Parameters
    ----------
    result : LCModelResult
    place : mapping or None
        What `PlaceVoxel` says; None where no place is known.
    timing : mapping
        As `scan_timing` gives it.
    water, metabolites : str
        Names of the sets of constants.
    """
    check_constants(water, metabolites)
    sets = WATER_SETS[water], METABOLITE_SETS[metabolites]
    facts = {
        "water": water,
        "metabolites": metabolites,
        "sources": sorted({entry.source for entry in sets}),
        **timing,
        "echo_time_lcmodel_ms": echo_time(result),
    }
    faults = fit_faults(result) or place_faults(place) or timing_faults(result, timing)
    if faults or place is None:
        return Correction((), "; ".join(faults), facts, ())
    try:
        tissue, notes = _tissue(place["fractions"])
        values = concentrations(result, _sequence(timing), tissue, *sets)
    except BadInputError as fault:
        return Correction((), str(fault), facts, ())
    return Correction(tuple(values), "", facts, notes)


def fit_faults(result: LCModelResult) -> list[str]:
    """Why a fit has no concentrations against water."""
    if result.status != "ok":
        return [f"{result.status}: {result.status_reason}"]
    return [] if result.water_scaled else ["LCModel did not scale by water"]


def place_faults(place: Mapping[str, Any] | None) -> list[str]:
    """Why the tissue of a voxel is not known well enough."""
    if place is None:
        return ["no place of the voxel is known, so its tissue is not"]
    if not place.get("done", True):
        return [str(place["reason"])]
    shares = place["fractions"]
    return [
        f"only {shares[name]:.1%} of the voxel lies in {what}"
        for name, what in SHARES.items()
        if shares[name] is not None and shares[name] < LEAST_COVERAGE
    ]


def timing_faults(result: LCModelResult, timing: Mapping[str, Any]) -> list[str]:
    """What relaxation cannot be corrected without, and echo times that contradict."""
    names = {"sequence": "sequence", "te": "echo time", "tr": "repetition time"}
    faults = [f"the {what} is not known" for key, what in names.items() if not timing[key]]
    contradiction = echo_contradiction(echo_time(result), timing["te"])
    return [*faults, *([contradiction] if contradiction else [])]


def echo_contradiction(lcmodel_ms: float | None, te: float | None) -> str:
    """What is wrong with LCModel's echo time (ms) against that of the scan (s); empty if nothing.

    >>> echo_contradiction(160.0, 0.163)
    ''
    >>> echo_contradiction(30.0, 0.16)
    'LCModel was told an echo time of 30 ms, but that of the scan is 160 ms'
    """
    if lcmodel_ms is None or not te or round(abs(lcmodel_ms - 1000 * te), 6) <= ECHO_TOLERANCE:
        return ""
    return (
        f"LCModel was told an echo time of {lcmodel_ms:g} ms, but that of the scan is "
        f"{1000 * te:g} ms"
    )


def _sequence(timing: Mapping[str, Any]) -> Timing:
    kind = str(timing["sequence"]).lower()
    return Timing(kind, timing["te"], timing["tr"], timing["tm"])  # type: ignore[arg-type]


def _tissue(shares: Mapping[str, Any]) -> tuple[Fractions, tuple[str, ...]]:
    """Fractions of what has a tissue, and a note where that is not quite the whole voxel."""
    parts = [shares[name] for name in ("gm", "wm", "csf")]
    total = sum(parts)
    if abs(total - 1) <= SUM_TOLERANCE or total > 1:
        return Fractions(*parts), ()
    note = (
        f"concentrations are those of the {total:.1%} of the voxel that have a tissue; "
        "the rest is taken to give no signal"
    )
    return Fractions(*(part / total for part in parts)), (note,)


# ---------------------------------------------------------------------------- tables


def quant_table(
    result: LCModelResult,
    correction: Correction,
    correlations: Correlations | None = None,
    limits: Limits | None = None,
) -> pd.DataFrame:
    """Each metabolite in every unit, columns `QUANT_COLUMNS`; what is not known says why.

    ``quantity`` is ``conc`` (as LCModel gave it), ``ratio`` (to LCModel's reference), ``molal``
    (CSF taken out by its share of the water), ``molal_volume`` (by its share of the volume) or
    ``molar``.
    """
    values: Sequence[Concentration | None] = correction.values or [None] * len(result.rows)
    reference = next((r for r in result.rows if r.metabolite == result.ratio_reference), None)
    rows = []
    for row, value in zip(result.rows, values, strict=True):
        reasons = judge_row(result, row, limits).reasons
        rows.append(_conc_entry(result, row, reasons))
        if reference is row:
            rows.append(_entry(row, "ratio", 1.0, "1", row.metabolite_std, None, reasons))
        else:
            rows.append(_ratio_entry(result, row, reference, correlations, limits))
        rows += _corrected_entries(row, value, correction, reasons)
    return pd.DataFrame(rows, columns=QUANT_COLUMNS)


def _conc_entry(result: LCModelResult, row: Row, reasons: Sequence[str]) -> dict[str, Any]:
    """Concentration in LCModel's own units."""
    against = "water (LCModel)" if result.water_scaled else None
    value = row.conc if known(row.conc) else nan
    return _entry(row, "conc", value, result.conc_units, against, _crlb(row), reasons)


def _ratio_entry(
    result: LCModelResult,
    row: Row,
    reference: Row | None,
    correlations: Correlations | None,
    limits: Limits | None,
) -> dict[str, Any]:
    """Ratio to LCModel's reference; judged with it."""
    if reference is None:
        why = f"the table has no row {result.ratio_reference or 'of the reference'}"
        reasons = (*judge_row(result, row, limits).reasons, why)
        return _entry(row, "ratio", nan, "1", None, None, reasons)
    name = reference.metabolite_std
    ratio = one_ratio(result, row.metabolite_std, name, correlations, limits)
    return _entry(row, "ratio", ratio.value, "1", name, ratio.value_sd, ratio.reasons)


def _corrected_entries(
    row: Row, value: Concentration | None, correction: Correction, reasons: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Concentrations against tissue water; a row without concentration has said why."""
    why = correction.reason if value is None else value.reason if known(row.conc) else ""
    water, metabolites = correction.facts["water"], correction.facts["metabolites"]
    against = f"water ({water})"
    against += "" if metabolites == water else f", metabolites ({metabolites})"
    for quantity, unit in CORRECTED.items():
        number = nan if value is None else getattr(value, quantity)
        said = (*reasons, why) if why else reasons
        yield _entry(row, quantity, number, unit, against, _crlb(row), said)


def _crlb(row: Row) -> int | None:
    return None if row.sd_capped else row.sd_percent


def _entry(
    row: Row,
    quantity: str,
    value: float,
    unit: str,
    reference: str | None,
    crlb: float | None,
    reasons: Sequence[str],
) -> dict[str, Any]:
    said = "; ".join(dict.fromkeys(reasons))
    counts = not said and not isnan(value)
    parts = (row.metabolite_std, quantity, value, unit, reference, crlb, counts, said)
    return dict(zip(QUANT_COLUMNS, parts, strict=True))


def tissue_table(shares: Mapping[str, Any]) -> pd.DataFrame:
    """What the voxel holds in one row, columns `TISSUE_COLUMNS`: raw shares, volumes in mL."""
    return pd.DataFrame([{column: shares[name] for column, name in TISSUE_COLUMNS.items()}])
