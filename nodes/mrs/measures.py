"""Measures of one person from a spectrum, and what may not be believed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alsflow.nodes.mrs.quality import LONG_ECHO, NOT_AT_LONG_ECHO, doubts_of
from alsflow.nodes.mrs.quantify import CORRECTED, echo_contradiction
from alsflow.nodes.mrs.ratios import PAIRS

MEASURE_COLUMNS = ["measure", "value", "unit", "qc", "reason"]
MOLAL = ("tNAA", "tCr", "tCho", "mIns", "Glx", "GABA", "GSH")
TISSUES = {"gm": "fGM", "wm": "fWM", "csf": "fCSF"}
NO_UNIT = "1"
NO_FIT = "no result of LCModel was given"
NO_PLACE = "no file with the place of the voxel was given"
UNFOUND = {"fit": NO_FIT, "place": NO_PLACE}
NOT_ASKED = "it was not measured"
FIT_METRICS = ("snr", "fwhm_ppm", "data_shift_ppm")
PLACE_METRICS = ("in_view", "in_brain", "tissue_sum")

Flag = dict[str, str]  # name and reason


@dataclass(frozen=True)
class Doubts:
    """What the steps found that touches more than one value.

    Attributes
    ----------
    place : tuple of str
        Why nobody knows where the spectrum was measured; flags every value.
    fit : tuple of str
        Why the fit does not count; flags ratios and concentrations.
    anatomy : tuple of str
        Why the tissue maps do not count; no fraction and no concentration is had from them.
    no_fit, no_tissue : str
        Why there is no fit, and no tissue, where there is none.
    beside_tissue : str
        What a reader of the fractions must know.
    echo_ms : float or None
        Echo time, ms.
    edited : bool
        The spectrum is edited for GABA.
    of_spectrum : tuple of str
        Notes on the whole spectrum, which the quality report says once.
    """

    place: tuple[str, ...] = ()
    fit: tuple[str, ...] = ()
    anatomy: tuple[str, ...] = ()
    no_fit: str = NO_FIT
    no_tissue: str = NO_PLACE
    beside_tissue: str = ""
    echo_ms: float | None = None
    edited: bool = False
    of_spectrum: tuple[str, ...] = ()

    def of(self, *metabolites: str) -> list[str]:
        """Why these metabolites cannot be told by such a spectrum."""
        return [
            d for name in metabolites for d in doubts_of(name, self.echo_ms, edited=self.edited)
        ]


def mrs_measures_table(
    ratios: pd.DataFrame | None,
    quant: pd.DataFrame | None,
    tissue: pd.DataFrame | None,
    doubts: Doubts,
) -> pd.DataFrame:
    """Measures of one person, one row each.

    A value that does not count stays, with ``qc`` flagged and the reason; one that is not there
    is NaN and says why.

    Parameters
    ----------
    ratios : DataFrame, optional
        As `tables.ratio_table` gives it.
    quant : DataFrame, optional
        As `quantify.quant_table` gives it.
    tissue : DataFrame, optional
        One row, as `quantify.tissue_table` gives it.
    doubts : Doubts
        What else is known against the values.

    Returns
    -------
    DataFrame
        Columns `MEASURE_COLUMNS`; concentrations in mmol/kg.
    """
    rows = [_ratio(ratios, pair, doubts) for pair in PAIRS]
    rows += [_molal(quant, name, doubts) for name in MOLAL]
    rows += [_share(tissue, name, doubts) for name in TISSUES]
    return pd.DataFrame(rows, columns=MEASURE_COLUMNS)


def _ratio(table: pd.DataFrame | None, pair: tuple[str, str], doubts: Doubts) -> tuple:
    name = "mrs_{}_{}".format(*pair).lower()
    against = [*doubts.place, *doubts.fit]
    if table is None:
        return _row(name, np.nan, NO_UNIT, against, [doubts.no_fit])
    found = _only(table, name="/".join(pair))
    beside = [note for note in _parts(found.get("notes", "")) if note not in doubts.of_spectrum]
    return _judged(name, found, NO_UNIT, (against, doubts.of(*pair), beside))


def _molal(table: pd.DataFrame | None, metabolite: str, doubts: Doubts) -> tuple:
    name, unit = f"mrs_{metabolite.lower()}_molal", CORRECTED["molal"]
    against = [*doubts.place, *doubts.fit, *doubts.anatomy]
    if table is None or doubts.anatomy:
        return _row(name, np.nan, unit, against, [doubts.no_fit] if table is None else [])
    found = _only(table, metabolite=metabolite, quantity="molal")
    return _judged(name, found, unit, (against, doubts.of(metabolite), []))


def _share(table: pd.DataFrame | None, tissue: str, doubts: Doubts) -> tuple:
    name, against = f"mrs_voxel_{tissue}", [*doubts.place, *doubts.anatomy]
    if table is None or against:
        beside = [doubts.no_tissue] if table is None else []
        return _row(name, np.nan, NO_UNIT, against, beside)
    return _row(name, float(table[TISSUES[tissue]].iloc[0]), NO_UNIT, [], [doubts.beside_tissue])


def _only(table: pd.DataFrame, **wanted: str) -> Mapping[Any, Any]:
    """The row with these cells; what is said of it instead where there is none, or several."""
    chosen = table[np.logical_and.reduce([table[key] == cell for key, cell in wanted.items()])]
    if len(chosen.drop_duplicates()) == 1:
        return dict(chosen.iloc[0])
    what = next(iter(wanted.values()))
    reason = (
        f"{what} has several rows that differ" if len(chosen) else f"{what} is not in the table"
    )
    return {"value": np.nan, "included": False, "reason": reason}


def _judged(
    name: str, found: Mapping[Any, Any], unit: str, said: tuple[list[str], list[str], list[str]]
) -> tuple:
    """Measure of a judged row: a value that does not count is flagged, a missing one is not.

    `said` is what speaks against the spectrum, against the metabolite, and what stands beside.
    """
    value, reasons = float(found["value"]), _parts(found["reason"])
    spectrum, metabolite, beside = said
    if np.isnan(value):
        return _row(name, value, unit, spectrum, reasons)
    return _row(name, value, unit, [*spectrum, *reasons, *metabolite], beside)


def _parts(text: str) -> list[str]:
    return [part for part in text.split("; ") if part]


def _row(
    name: str, value: float, unit: str, against: Iterable[str], beside: Iterable[str]
) -> tuple[str, float, str, str, str]:
    """One measure: what speaks against it flags it, what stands beside it does not."""
    against, said = list(against), ""
    for part in [*against, *beside]:
        if part and part not in said:
            said += f"; {part}" if said else part
    return name, value, unit, "flagged" if against else "ok", said


# ---------------------------------------------------------------------------- judgement


def doubts_from(
    fit: Mapping[str, Any] | None,
    place: Mapping[str, Any] | None,
    flags: Sequence[Flag],
    anatomy: Sequence[Flag] = (),
    unfound: Mapping[str, str] | None = None,
) -> Doubts:
    """Doubts of what the steps said.

    Parameters
    ----------
    fit : mapping or None
        As `tables.fit_facts` gives it; None without a fit.
    place : mapping or None
        What `PlaceVoxel` says; None without a place.
    flags : sequence of dict
        Of `judge_mrs`.
    anatomy : sequence of dict
        Flags of the anatomical stream.
    unfound : mapping, optional
        Why there is no ``fit`` or no ``place``, where more is known than that there is none.
    """
    why = UNFOUND | dict(unfound or {})
    placed = place is not None and place.get("done", True)
    no_tissue = why["place"] if place is None else str(place.get("reason", NOT_ASKED))
    misplaced = [flag["reason"] for flag in flags if flag["name"] == "voxel_misplaced"]
    return Doubts(
        place=tuple(misplaced),
        fit=tuple(flag["reason"] for flag in flags if flag["name"] != "voxel_misplaced"),
        anatomy=tuple(flag["reason"] for flag in anatomy),
        no_fit=why["fit"] if fit is None else NOT_ASKED,
        no_tissue=no_tissue,
        beside_tissue="; ".join(place.get("warnings", ())) if place and placed else "",
        echo_ms=echo_of(fit, place),
        edited=bool(fit and fit.get("edited")),
        of_spectrum=tuple((fit or {}).get("notes", ())),
    )


def echo_of(fit: Mapping[str, Any] | None, place: Mapping[str, Any] | None) -> float | None:
    """Echo time in ms: what LCModel was told, else what the header of the spectrum says."""
    if fit and fit.get("echo_time_ms") is not None:
        return float(fit["echo_time_ms"])
    te = (place or {}).get("te")
    return None if te is None else 1000 * float(te)


def judge_mrs(
    fit: Mapping[str, Any] | None,
    place: Mapping[str, Any] | None,
    quantify: Mapping[str, Any] | None = None,
    anatomy: Sequence[Flag] = (),
) -> tuple[list[Flag], list[Flag]]:
    """Flags (the spectrum is not to be used) and notes (to be known) from what the steps said.

    Parameters
    ----------
    fit, place : mapping or None
        As in `doubts_from`.
    quantify : mapping or None
        What `QuantifyMrs` says.
    anatomy : sequence of dict
        Flags of the anatomical stream: notes here, as ratios do not need its maps.

    Returns
    -------
    flags, notes : lists of dict
        Each with ``name`` and ``reason``.
    """
    flags = [dict(fault) for fault in (fit or {}).get("faults", ())]
    refused = place is not None and not place.get("done", True)
    unread = refused and bool(place and place.get("program_missing"))
    if refused and not unread:
        flags.append({"name": "voxel_misplaced", "reason": str(place and place["reason"])})
    notes = [*_fit_notes(fit), *_place_notes(place, unread=unread)]
    unscaled = not (fit and fit.get("water_scaled"))
    if place and not (unscaled or refused) and quantify and not quantify.get("done", True):
        notes.append({"name": "not_corrected", "reason": f"no molal values: {quantify['reason']}"})
    notes += [{"name": "tissue", "reason": text} for text in (quantify or {}).get("notes", ())]
    notes += _echo_notes(fit, place)
    notes += [dict(flag) for flag in anatomy]
    return _each_once(flags), _each_once(notes)


def _fit_notes(fit: Mapping[str, Any] | None) -> list[Flag]:
    if fit is None:
        return [{"name": "no_fit", "reason": NO_FIT}]
    return [{"name": "fit", "reason": text} for text in fit.get("notes", ())]


def _place_notes(place: Mapping[str, Any] | None, *, unread: bool) -> list[Flag]:
    if place is None:
        return [{"name": "no_place", "reason": NO_PLACE}]
    if unread:
        return [{"name": "place_unread", "reason": str(place["reason"])}]
    return [{"name": "voxel", "reason": text} for text in place.get("warnings", ())]


def _echo_notes(fit: Mapping[str, Any] | None, place: Mapping[str, Any] | None) -> list[Flag]:
    """What this spectrum cannot tell, whoever fitted it."""
    if fit is None or not fit.get("done", True):
        return []
    echo, notes = echo_of(fit, place), []
    if differs := echo_contradiction(fit.get("echo_time_ms"), (place or {}).get("te")):
        notes.append({"name": "echo_time_differs", "reason": differs})
    if echo is None:
        reason = "the echo time is not known, so nobody checked whether it suits each metabolite"
        notes.append({"name": "echo_time_unknown", "reason": reason})
    elif echo >= LONG_ECHO:
        reason = f"{', '.join(NOT_AT_LONG_ECHO)} are unreliable at an echo time of {echo:g} ms"
        notes.append({"name": "long_echo_time", "reason": reason})
    if not fit.get("edited"):
        notes += [
            {"name": "gaba", "reason": text} for text in doubts_of("GABA", None, edited=False)
        ]
    return notes


def _each_once(found: Iterable[Flag]) -> list[Flag]:
    return list({(one["name"], one["reason"]): one for one in found}.values())


def mrs_metrics(
    fit: Mapping[str, Any] | None,
    place: Mapping[str, Any] | None,
    ratios: pd.DataFrame | None = None,
) -> dict[str, float]:
    """Numbers of quality by name; those that nobody knows are left out.

    ``snr``, ``fwhm_ppm``, ``data_shift_ppm`` of the fit; ``in_view``, ``in_brain``,
    ``tissue_sum`` (shares of the voxel), ``mask_volume_ratio`` (mask to box) of the place;
    ``crlb_tnaa_tcr``, ``crlb_tnaa_tcho`` in %.
    """
    shares = (place or {}).get("fractions", {})
    found = {name: (fit or {}).get(name) for name in FIT_METRICS}
    found |= {name: shares.get(name) for name in PLACE_METRICS}
    if shares:
        found["mask_volume_ratio"] = shares["mask_volume"] / shares["nominal_volume"]
    if ratios is not None:
        for pair in PAIRS[:2]:
            key = "crlb_{}_{}".format(*pair).lower()
            found[key] = float(_only(ratios, name="/".join(pair)).get("crlb_pct", np.nan))
    return {name: value for name, value in found.items() if value is not None and value == value}
