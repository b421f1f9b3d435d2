"""A fit of LCModel as tables, and its concentrations with the tissue of the voxel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nipype.interfaces.base import File, InputMultiPath, TraitedSpec, isdefined, traits

from alsflow.interfaces.anat import write_json
from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.mrs_lcmodel import Fit, read_lcmodel_files
from alsflow.interfaces.volumes import write_table
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.mrs.lcmodel_coord import read_coord
from alsflow.nodes.mrs.lcmodel_csv import read_csv
from alsflow.nodes.mrs.lcmodel_print import read_correlations
from alsflow.nodes.mrs.lcmodel_table import read_table
from alsflow.nodes.mrs.quality import Limits
from alsflow.nodes.mrs.quantify import (
    check_constants,
    correct,
    quant_table,
    scan_timing,
    tissue_table,
)
from alsflow.nodes.mrs.ratios import all_ratios
from alsflow.nodes.mrs.tables import fit_facts, metabolite_table, ratio_table, spectra_table

PLACE = ("slice", "row", "col")  # of a voxel in a multi-voxel scan, from 1
SHOWN = 8  # voxels named in a refusal
READERS = (read_table, read_coord, read_csv, read_correlations)

__all__ = ["QuantifyMrs", "ReadFit", "check_constants"]


class _FitInputSpec(CodedInputSpec):
    """What tells one voxel of one result, and the limits it is judged by."""

    in_files = InputMultiPath(
        File(exists=True), desc=".table, .coord, .csv and .print of one result, those there are"
    )
    slice = traits.Range(
        low=1, desc="slice of a multi-voxel result; 1 if only row or col is given"
    )
    row = traits.Range(low=1, desc="row of a multi-voxel result")
    col = traits.Range(low=1, desc="column of a multi-voxel result")
    sd_percent = traits.Range(
        low=0, high=999, value=15, usedefault=True, desc="largest CRLB that counts, %"
    )
    snr = traits.Range(
        low=0.0, value=3.0, usedefault=True, desc="smallest S/N that counts; 0: no limit"
    )
    fwhm_ppm = traits.Range(
        low=0.0, value=0.1, usedefault=True, desc="largest line width that counts; 0: no limit"
    )


def _limits(inputs: Any) -> Limits:
    """Limits of the quality control; 0 switches one off."""
    return Limits(inputs.sd_percent, inputs.snr or None, inputs.fwhm_ppm or None)


def _chosen_fit(inputs: Any) -> Fit:
    """The one fit of the files, or the voxel that was chosen."""
    fits = read_lcmodel_files([Path(path) for path in inputs.in_files])
    chosen = [getattr(inputs, name) for name in PLACE]
    if not any(isdefined(number) for number in chosen):
        if len(fits) == 1:
            return fits[0]
        raise BadInputError(_which(inputs.in_files, fits, "choose one by slice, row and col"))
    wanted = tuple(number if isdefined(number) else 1 for number in chosen)
    for fit in fits:
        if (fit.result.slice, fit.result.row, fit.result.col) == wanted:
            return fit
    asked = "slice {}, row {}, col {} is not among them".format(*wanted)
    raise BadInputError(_which(inputs.in_files, fits, asked))


def _which(paths: list[str], fits: list[Fit], advice: str) -> str:
    """Sentence that names the voxels of a result."""
    places = [f"{f.result.slice} {f.result.row} {f.result.col}" for f in fits]
    more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    shown = ", ".join(places[:SHOWN]) + more
    return f"{Path(paths[0]).name} has the voxels {shown} (slice row col); {advice}"


class _ReadFitInputSpec(_FitInputSpec):
    in_files = InputMultiPath(
        File(exists=True), mandatory=True,
        desc=".table, .coord, .csv and .print of one result, those there are",
    )  # fmt: skip


class _ReadFitOutputSpec(TraitedSpec):
    metabolites_file = File(exists=True, desc="every row of the fit, judged")
    ratios_file = File(exists=True, desc="every ratio, judged")
    spectra_file = File(desc="spectrum, fit, baseline, residual; only with .coord")
    info_file = File(exists=True, desc="JSON: status, quality, diagnostics, limits")


class ReadFit(CodedInterface):
    """One fit of LCModel, judged; see `nodes.mrs.quality` and `nodes.mrs.ratios`."""

    input_spec = _ReadFitInputSpec
    output_spec = _ReadFitOutputSpec
    _code = (*READERS, fit_facts, metabolite_table, all_ratios, ratio_table, spectra_table)

    def _run_interface(self, runtime):
        fit, limits = _chosen_fit(self.inputs), _limits(self.inputs)
        tables = {
            "metabolites": metabolite_table(fit.result, limits),
            "ratios": ratio_table(all_ratios(fit.result, fit.correlations, limits)),
        }
        if fit.spectra is not None:
            tables["spectra"] = spectra_table(fit.spectra)
        folder = Path(runtime.cwd)
        for name, table in tables.items():
            self._results[f"{name}_file"] = write_table(table, folder / f"{name}.tsv")
        facts = fit_facts(fit.result, limits)
        self._results["info_file"] = write_json(facts, folder / "fit.json")
        return runtime


class _QuantifyMrsInputSpec(_FitInputSpec):
    fractions_file = File(exists=True, desc="JSON of `PlaceVoxel`")
    water = traits.Str("fsl-mrs", usedefault=True, desc="constants of water")
    metabolites = traits.Str("fsl-mrs", usedefault=True, desc="constants of metabolites")
    te = traits.Float(desc="echo time, s; stands above the header")
    tr = traits.Float(desc="repetition time, s; stands above the header")
    tm = traits.Float(desc="mixing time, s; stands above the header")
    sequence = traits.Str(desc="PRESS, STEAM or sLASER; stands above the header")


class _QuantifyMrsOutputSpec(TraitedSpec):
    quant_file = File(desc="every metabolite in every unit; only with a fit")
    tissue_file = File(desc="tissue of the voxel; only where it has a place")
    info_file = File(exists=True, desc="JSON: constants, timing, why nothing was corrected")


class QuantifyMrs(CodedInterface):
    """Concentrations against tissue water; see `nodes.mrs.quantify`."""

    input_spec = _QuantifyMrsInputSpec
    output_spec = _QuantifyMrsOutputSpec
    _code = (*READERS, correct, quant_table, scan_timing, tissue_table)

    def _run_interface(self, runtime):
        check_constants(self.inputs.water, self.inputs.metabolites)
        folder = Path(runtime.cwd)
        place = None
        if isdefined(self.inputs.fractions_file):
            place = json.loads(Path(self.inputs.fractions_file).read_text(encoding="utf-8"))
        if place is not None and place.get("done", True):
            table = tissue_table(place["fractions"])
            self._results["tissue_file"] = write_table(table, folder / "tissue.tsv")
        info = {"done": False, "reason": "no fit of LCModel is known"}
        if isdefined(self.inputs.in_files):
            info = self._quantify(place, folder)
        self._results["info_file"] = write_json(info, folder / "quantify.json")
        return runtime

    def _quantify(self, place: dict[str, Any] | None, folder: Path) -> dict[str, Any]:
        """Write the table of concentrations, and say how they came about."""
        inputs, fit = self.inputs, _chosen_fit(self.inputs)
        over = {name: getattr(inputs, name) for name in ("sequence", "te", "tr", "tm")}
        timing = scan_timing(place, {name: v for name, v in over.items() if isdefined(v)})
        found = correct(fit.result, place, timing, inputs.water, inputs.metabolites)
        table = quant_table(fit.result, found, fit.correlations, _limits(inputs))
        self._results["quant_file"] = write_table(table, folder / "quant.tsv")
        reason = {"reason": found.reason} if found.reason else {}
        return {"done": not reason, **reason, **found.facts, "notes": list(found.notes)}
