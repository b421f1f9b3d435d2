"""Pictures of the spectroscopy stream as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits

from alsflow.interfaces.base import CodedInputSpec, CodedInterface, naming
from alsflow.interfaces.drawing import Drawing, on_grid, read_table
from alsflow.interfaces.images import load
from alsflow.interfaces.report import save_png
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.report.spectroscopy import draw_fit, draw_tissue_bar
from alsflow.nodes.report.spectroscopy_voxel import draw_overlap, draw_voxel

CURVES = ("ppm", "data", "fit", "residual")
QUALITY = ("snr", "fwhm_ppm", "included", "reasons", "snr_overflow")


def read_object(path: str | Path) -> dict[str, Any]:
    """JSON object of a file."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInputError(
            f"{Path(path).name} is not JSON ({error}); run the step again"
        ) from error
    return found if isinstance(found, dict) else {}


def read_quality(path: str | Path) -> dict[str, Any]:
    """S/N, line width, verdict and its reasons of a fit, wherever in the JSON they stand."""
    content = read_object(path)
    inner = [content.get(key) for key in ("misc", "quality", "spectrum")]
    levels = [content, *(part for part in inner if isinstance(part, dict))]
    return {key: level[key] for key in QUALITY for level in reversed(levels) if key in level}


def read_metabolites(path: str | Path) -> pd.DataFrame:
    """Name, concentration and Cramér-Rao bound of each metabolite; the name as in papers."""
    table = read_table(path, ("conc", "sd_percent"))
    known = [name for name in ("metabolite_std", "metabolite") if name in table]
    if not known:
        raise BadInputError(f"{Path(path).name} has no column metabolite_std")
    names = table[known[0]].fillna(table[known[-1]])
    numbers = {key: pd.to_numeric(table[key], errors="coerce") for key in ("conc", "sd_percent")}
    units = {"unit": table["conc_units"]} if "conc_units" in table else {}
    return pd.DataFrame({"name": names, **numbers, **units})


class _DrawFitInputSpec(CodedInputSpec):
    spectra_file = File(
        exists=True, desc=f"TSV: {', '.join(CURVES)}, baseline; no picture without it"
    )
    info_file = File(exists=True, desc=f"JSON: {', '.join(QUALITY)}")
    metabolites_file = File(exists=True, desc="TSV: metabolite_std, conc, sd_percent")
    sd_percent = traits.Range(
        low=0.0, value=15.0, usedefault=True, desc="Cramér-Rao bound of what is not grey, %"
    )


class _DrawFitOutputSpec(TraitedSpec):
    fit_file = File(desc="spectrum, fit, baseline and residual, PNG")


class DrawFit(Drawing, CodedInterface):
    """Draw the fit of a spectrum; see `nodes.report.spectroscopy`."""

    input_spec = _DrawFitInputSpec
    output_spec = _DrawFitOutputSpec
    _code = (draw_fit,)

    def _figures(self) -> dict[str, Figure]:
        inputs = self.inputs
        if not isdefined(inputs.spectra_file):
            return {}
        spectra = read_table(inputs.spectra_file, CURVES)
        quality = read_quality(inputs.info_file) if isdefined(inputs.info_file) else {}
        metabolites = None
        if isdefined(inputs.metabolites_file):
            metabolites = read_metabolites(inputs.metabolites_file)
        return {"fit": draw_fit(spectra, quality, metabolites, inputs.sd_percent)}


class _DrawVoxelInputSpec(CodedInputSpec):
    t1w_file = File(exists=True, mandatory=True, desc="head or brain")
    mask_file = File(
        exists=True, desc="voxel, grid of t1w_file; no picture without it or if empty"
    )
    brain_file = File(exists=True, desc="brain mask, grid of t1w_file")


class _DrawVoxelOutputSpec(TraitedSpec):
    voxel_file = File(desc="outline of the voxel in three planes, PNG")


class DrawVoxel(Drawing, CodedInterface):
    """Draw the spectroscopy voxel on the head; see `nodes.report.spectroscopy_voxel`."""

    input_spec = _DrawVoxelInputSpec
    output_spec = _DrawVoxelOutputSpec
    _code = (draw_voxel, save_png)
    _save = staticmethod(save_png)  # greys and one colour

    def _figures(self) -> dict[str, Figure]:
        inputs = self.inputs
        if not isdefined(inputs.mask_file):
            return {}
        t1w, image = load(inputs.t1w_file)
        mask = on_grid(inputs.mask_file, image) > 0
        if not mask.any():  # the voxel lies outside, as the warnings of `PlaceVoxel` say
            return {}
        brain = on_grid(inputs.brain_file, image) > 0 if isdefined(inputs.brain_file) else None
        return {"voxel": draw_voxel(t1w, mask, image.affine, brain)}


class _DrawTissueInputSpec(CodedInputSpec):
    fractions_file = File(
        exists=True, desc="JSON: fractions, warnings; no picture without it or if done is false"
    )


class _DrawTissueOutputSpec(TraitedSpec):
    tissue_file = File(desc="shares of the tissues in the voxel, PNG")


class DrawTissue(Drawing, CodedInterface):
    """Draw what the voxel holds; see `nodes.report.spectroscopy`."""

    input_spec = _DrawTissueInputSpec
    output_spec = _DrawTissueOutputSpec
    _code = (draw_tissue_bar,)

    def _figures(self) -> dict[str, Figure]:
        if not isdefined(self.inputs.fractions_file):
            return {}
        found = read_object(self.inputs.fractions_file)
        fractions = found.get("fractions") or {}
        if found.get("done") is False or not fractions:
            return {}
        return {"tissue": draw_tissue_bar(fractions, found.get("warnings") or ())}


class _DrawOverlapInputSpec(CodedInputSpec):
    overlap_file = File(exists=True, mandatory=True, desc="share of the people at each place")
    template_file = File(exists=True, mandatory=True, desc="T1-weighted brain of the template")
    count = traits.Range(low=1, mandatory=True, desc="number of people")


class _DrawOverlapOutputSpec(TraitedSpec):
    overlap_file = File(
        exists=True, desc="overlap of the voxels over the template, PNG; none if all is 0"
    )


class DrawOverlap(Drawing, CodedInterface):
    """Draw where the voxels of people overlap; see `nodes.report.spectroscopy_voxel`."""

    input_spec = _DrawOverlapInputSpec
    output_spec = _DrawOverlapOutputSpec
    _code = (draw_overlap,)

    def _figures(self) -> dict[str, Figure]:
        overlap, image = load(self.inputs.overlap_file)
        if not overlap.any():
            return {}
        template, grid = load(self.inputs.template_file)
        with naming(Path(self.inputs.overlap_file).name + ":"):
            figure = draw_overlap(overlap, image.affine, template, grid.affine, self.inputs.count)
        return {"overlap": figure}
