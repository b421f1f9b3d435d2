"""Files of the local measures of a functional series: ALFF, fALFF, ReHo, and regional means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits
from numpy.typing import NDArray

from alsflow.interfaces.anat import write_json
from alsflow.interfaces.base import CodedInputSpec, CodedInterface, naming
from alsflow.interfaces.func_prep import read_load_info
from alsflow.interfaces.images import load, save_like
from alsflow.interfaces.report import require_same_grid
from alsflow.interfaces.volumes import write_table
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.alff import HIGH, LOW, Amplitudes, measure_alff, standardised
from alsflow.nodes.func.region_means import Region, region_means
from alsflow.nodes.func.reho import measure_reho

SERIES = "the functional series"  # subject of sentences on what came of several runs
NOT_DENOISED = "the series was not denoised"  # where the step before gives no reason
METRICS = {"alff": "alff", "falff": "alff", "reho": "reho"}  # and the step that makes it


def read_json(path: str | Path) -> dict[str, Any]:
    """Content of a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def reason_of(path: Any) -> str:
    """Why a step gave no result, as its ``info_file`` says."""
    return (read_json(path).get("reason") if isdefined(path) else "") or NOT_DENOISED


def read_kept(path: Any, count: int) -> NDArray:
    """Volumes (n,) bool that were not censored: column ``kept`` of a table, or all of them."""
    if not isdefined(path):
        return np.ones(count, bool)
    table = pd.read_csv(path, sep="\t")
    if "kept" not in table or len(table) != count:
        raise BadInputError(
            f"{Path(path).name} does not say for each of {count} volumes whether it was kept"
        )
    return table["kept"].to_numpy(int) > 0


def fitting(path: str, series: NDArray, kept: NDArray) -> NDArray:
    """Positions of the kept volumes in a series of all volumes or of the kept ones alone."""
    if series.shape[-1] == len(kept):
        return np.flatnonzero(kept)
    if series.shape[-1] == kept.sum():
        return np.arange(series.shape[-1])
    raise BadInputError(
        f"{Path(path).name} has {series.shape[-1]} volumes where {len(kept)} were loaded "
        f"and {int(kept.sum())} kept; all files must come from one run of the program"
    )


class _LocalInputSpec(CodedInputSpec):
    mask_file = File(exists=True, mandatory=True, desc="brain that every volume shows")
    load_info_file = File(exists=True, mandatory=True, desc="JSON: volumes of each run, TR")
    kept_file = File(exists=True, desc="TSV, column kept: 1 for volumes not censored")
    denoise_info_file = File(exists=True, desc="JSON of denoising: why there is no series")


class _MeasureAlffInputSpec(_LocalInputSpec):
    unfiltered_file = File(
        exists=True, desc="series without nuisance, all frequencies; no map without it"
    )
    band = traits.Tuple((LOW, HIGH), usedefault=True, desc="edges of the band, Hz")


class _MeasureAlffOutputSpec(TraitedSpec):
    alff_file = File(exists=True, desc="ALFF, z over the brain; 0 outside it")
    falff_file = File(exists=True, desc="fALFF, z over the brain; 0 outside it")
    alff_raw_file = File(exists=True, desc="ALFF, signal / sqrt(Hz)")
    falff_raw_file = File(exists=True, desc="fALFF, 0 to 1")
    info_file = File(exists=True, desc="JSON: done or the reason, band, runs, notes")


class MeasureAlff(CodedInterface):
    """Measure the amplitude of slow fluctuations; see `nodes.func.alff`."""

    input_spec = _MeasureAlffInputSpec
    output_spec = _MeasureAlffOutputSpec
    _code = (measure_alff,)

    def _run_interface(self, runtime):
        inputs, folder = self.inputs, Path(runtime.cwd)
        if not isdefined(inputs.unfiltered_file):
            return self._without(runtime, reason_of(inputs.denoise_info_file))
        load_info = read_json(inputs.load_info_file)
        runs, tr = read_load_info(inputs.load_info_file)
        kept = read_kept(inputs.kept_file, len(runs))
        data, image = load(inputs.unfiltered_file)
        mask, mask_image = load(inputs.mask_file)
        require_same_grid(image, mask_image)
        brain = mask > 0
        places = fitting(inputs.unfiltered_file, data, kept)
        series = np.zeros((int(brain.sum()), len(kept)), np.float32)
        series[:, kept] = data[brain][:, places]
        with naming(SERIES):
            found = measure_alff(series, kept, runs, tr, inputs.band)
        if not found.runs:
            return self._without(runtime, "; ".join(found.notes))
        for name, values in (("alff", found.alff), ("falff", found.falff)):
            for end, shown in (("", standardised(values)), ("_raw", values)):
                volume = np.zeros(brain.shape, np.float32)
                volume[brain] = shown
                path = folder / f"{name}{end}.nii.gz"
                self._results[f"{name}{end}_file"] = save_like(image, volume, path)
        info = _alff_info(found, load_info, kept, inputs.band)
        self._results["info_file"] = write_json(info, folder / "alff.json")
        return runtime

    def _without(self, runtime, reason: str):
        info = {"done": False, "reason": reason}
        self._results["info_file"] = write_json(info, Path(runtime.cwd) / "alff.json")
        return runtime


def _alff_info(
    found: Amplitudes, load_info: dict[str, Any], kept: NDArray, band: tuple[float, float]
) -> dict[str, Any]:
    info = {
        "done": True,
        "band": list(band),
        "tr": load_info["tr"],
        "runs": [load_info["runs"][run] for run in found.runs],
        "volumes": int(kept.sum()),
        "voxels_without_value": int(np.isnan(found.alff).sum()),
        "notes": list(found.notes),
    }
    return info | {
        f"{name}_{kind}": _finite(reduce(values))
        for name, values in (("alff", found.alff), ("falff", found.falff))
        for kind, reduce in (("mean", np.nanmean), ("sd", np.nanstd))
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


class _MeasureRehoInputSpec(_LocalInputSpec):
    denoised_file = File(exists=True, desc="denoised series; no map without it")
    neighbours = traits.Enum(27, 19, 7, usedefault=True, desc="voxels compared, middle included")


class _MeasureRehoOutputSpec(TraitedSpec):
    reho_file = File(exists=True, desc="ReHo, z over the brain; 0 outside it")
    reho_raw_file = File(exists=True, desc="Kendall's W, 0 to 1")
    info_file = File(exists=True, desc="JSON: done or the reason, neighbours, voxels")


class MeasureReho(CodedInterface):
    """Measure regional homogeneity; see `nodes.func.reho`."""

    input_spec = _MeasureRehoInputSpec
    output_spec = _MeasureRehoOutputSpec
    _code = (measure_reho, standardised)

    def _run_interface(self, runtime):
        inputs, folder = self.inputs, Path(runtime.cwd)
        if not isdefined(inputs.denoised_file):
            info = {"done": False, "reason": reason_of(inputs.denoise_info_file)}
            self._results["info_file"] = write_json(info, folder / "reho.json")
            return runtime
        runs, _ = read_load_info(inputs.load_info_file)
        kept = read_kept(inputs.kept_file, len(runs))
        data, image = load(inputs.denoised_file)
        mask, mask_image = load(inputs.mask_file)
        require_same_grid(image, mask_image)
        brain = mask > 0
        places = fitting(inputs.denoised_file, data, kept)
        with naming(SERIES):
            w, count = measure_reho(data[..., places], brain, runs[kept], inputs.neighbours)
        for end, values in (("", standardised(w)), ("_raw", w)):
            volume = np.where(brain, values, 0).astype(np.float32)
            path = folder / f"reho{end}.nii.gz"
            self._results[f"reho{end}_file"] = save_like(image, volume, path)
        info = {
            "done": True,
            "neighbours": inputs.neighbours,
            "voxels": int(np.isfinite(w).sum()),
            "voxels_without_value": int(np.isnan(w[brain]).sum()),
            "voxels_with_all_neighbours": int((count[brain] == inputs.neighbours).sum()),
            "reho_mean": _finite(np.nanmean(w[brain])),
            "reho_sd": _finite(np.nanstd(w[brain])),
        }
        self._results["info_file"] = write_json(info, folder / "reho.json")
        return runtime


class _RegionMeansInputSpec(CodedInputSpec):
    alff_file = File(exists=True, desc="ALFF, z")
    falff_file = File(exists=True, desc="fALFF, z")
    reho_file = File(exists=True, desc="ReHo, z")
    alff_info_file = File(exists=True, desc="JSON: why there is no ALFF and fALFF")
    reho_info_file = File(exists=True, desc="JSON: why there is no ReHo")
    groups_file = File(exists=True, mandatory=True, desc="4-D: voxels of each region measured")
    groups_table_file = File(exists=True, mandatory=True, desc="TSV: volume, name, side, reason")


class _RegionMeansOutputSpec(TraitedSpec):
    means_file = File(exists=True, desc="TSV: metric, region, side, value, n_voxels, reason")


class RegionMeans(CodedInterface):
    """Mean of the local measures over regions; see `nodes.func.region_means`."""

    input_spec = _RegionMeansInputSpec
    output_spec = _RegionMeansOutputSpec
    _code = (region_means,)

    def _run_interface(self, runtime):
        members, grid = load(self.inputs.groups_file, np.uint8)
        members = members.reshape(*members.shape[:3], -1) > 0
        table = pd.read_csv(self.inputs.groups_table_file, sep="\t", keep_default_na=False)
        columns = zip(table["volume"], table["name"], table["side"], table["reason"], strict=True)
        regions = [Region(n, s, members[..., v], reason) for v, n, s, reason in columns]
        maps: dict[str, NDArray | str] = {}
        for metric, step in METRICS.items():
            path = getattr(self.inputs, f"{metric}_file")
            if not isdefined(path):
                maps[metric] = reason_of(getattr(self.inputs, f"{step}_info_file"))
                continue
            maps[metric], image = load(path)
            require_same_grid(grid, image)
        found = region_means(maps, regions)
        self._results["means_file"] = write_table(found, Path(runtime.cwd) / "means.tsv")
        return runtime
