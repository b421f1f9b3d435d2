"""Files of confounds and denoising: from a corrected BOLD series to one that can be correlated."""

from __future__ import annotations

import json
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits
from numpy.typing import NDArray

from alsflow.interfaces.anat import write_json
from alsflow.interfaces.base import CodedInputSpec, CodedInterface, naming
from alsflow.interfaces.func_prep import read_load_info
from alsflow.interfaces.images import load, save
from alsflow.interfaces.volumes import write_table
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func import confounds
from alsflow.nodes.func.confounds import (
    Confounds,
    describe_columns,
    find_confounds,
    regressors,
    unavailable,
)
from alsflow.nodes.func.denoise import Freedom, make_projection, project
from alsflow.nodes.func.presets import Preset, check_band, load_preset, preset_content

SERIES = "the BOLD series"  # subject of sentences on what came of several runs
PRESETS = files("alsflow") / "workflows" / "data" / "denoising"


def preset_names() -> list[str]:
    """Names of the denoising presets that come with the program."""
    found = (entry.name for entry in PRESETS.iterdir())
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml"))


def read_preset(name: str) -> dict[str, Any]:
    """Content of a preset, checked, by its name or by the path of a TOML file."""
    if name in preset_names():
        text = (PRESETS / f"{name}.toml").read_text(encoding="utf-8")
        return preset_content(load_preset(text, name))
    path = Path(name)
    if path.suffix != ".toml":
        raise BadInputError(
            f"{name} is no denoising preset; presets are {', '.join(preset_names())}, "
            "or give the path of a TOML file"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path.name} cannot be read ({error}); check the path") from error
    with naming(path.name):
        return preset_content(load_preset(text, path.stem))


def read_confounds(path: str | Path) -> pd.DataFrame:
    """Table of confounds, NaN where unknown."""
    return pd.read_csv(path, sep="\t", na_values="n/a")


def _exact(table: pd.DataFrame) -> pd.DataFrame:
    """Real numbers as text, as `write_table` would round them to six digits."""
    exact = table.copy()
    for column in table.select_dtypes("float"):
        values = [repr(float(v)) if math.isfinite(v) else None for v in table[column]]
        exact[column] = pd.Series(values, dtype=object)
    return exact


def _number(value: float) -> float | None:
    """A number as JSON has it: None where it is unknown."""
    return float(value) if math.isfinite(value) else None


class _FindConfoundsInputSpec(CodedInputSpec):
    bold_file = File(exists=True, mandatory=True, desc="corrected series")
    mask_file = File(exists=True, mandatory=True, desc="brain that every volume shows")
    tissue_file = File(exists=True, mandatory=True, desc="fractions of GM, WM and CSF, 4-D")
    motion_file = File(exists=True, mandatory=True, desc="JSON: head_to_volume, world mm")
    load_info_file = File(exists=True, mandatory=True, desc="JSON: volumes of each run, TR")
    fd_limit = traits.Range(
        low=0.0, value=confounds.FD_LIMIT, usedefault=True, desc="outlier above, mm"
    )
    dvars_limit = traits.Range(
        low=0.0, value=confounds.DVARS_LIMIT, usedefault=True,
        desc="outlier above, of standardised DVARS",
    )  # fmt: skip


class _FindConfoundsOutputSpec(TraitedSpec):
    confounds_file = File(exists=True, desc="table, one row per volume")
    sidecar_file = File(exists=True, desc="JSON: meaning and unit of each column, components")
    tsnr_file = File(exists=True, desc="temporal signal-to-noise ratio")
    info_file = File(exists=True, desc="JSON: summary for quality control")


class FindConfounds(CodedInterface):
    """Tabulate what disturbs a BOLD series; see `nodes.func.confounds`."""

    input_spec = _FindConfoundsInputSpec
    output_spec = _FindConfoundsOutputSpec
    _code = (find_confounds, describe_columns)

    def _run_interface(self, runtime):
        folder = Path(runtime.cwd)
        series, image = load(self.inputs.bold_file)
        mask, _ = load(self.inputs.mask_file)
        tissue, _ = load(self.inputs.tissue_file)
        runs, tr = read_load_info(self.inputs.load_info_file)
        motion = json.loads(Path(self.inputs.motion_file).read_text())
        with naming(SERIES):
            found = find_confounds(
                series,
                image.affine,
                mask > 0,
                tissue,
                np.array(motion["head_to_volume"], float),
                runs,
                tr,
                fd_limit=self.inputs.fd_limit,
                dvars_limit=self.inputs.dvars_limit,
            )
        summary = _confound_info(found)
        sidecar = describe_columns(found.table, self.inputs.fd_limit, self.inputs.dvars_limit)
        self._results["confounds_file"] = write_table(
            _exact(found.table), folder / "confounds.tsv"
        )
        self._results["sidecar_file"] = write_json(
            {"RepetitionTime": tr} | sidecar | {"NoiseMasks": summary["masks"]},
            folder / "confounds.json",
        )
        self._results["tsnr_file"] = save(found.tsnr, image.affine, folder / "tsnr.nii.gz")
        self._results["info_file"] = write_json(summary, folder / "confounds_info.json")
        return runtime


def _confound_info(found: Confounds) -> dict[str, Any]:
    """Summary, and how the noise masks and their components came out."""
    masks = {
        name: {
            "voxels": mask.size,
            "enough": mask.enough,
            "min_fraction": mask.fraction,
            "eroded": mask.grey is None,
            "max_grey_beside": mask.grey,
            "variance_explained": [
                [_number(share) for share in run] for run in found.explained[name]
            ],
        }
        for name, mask in found.masks.items()
    }
    numbers = {name: _number(value) for name, value in found.numbers.items()}
    return numbers | {"volumes": len(found.table), "masks": masks}


class _DenoiseBoldInputSpec(CodedInputSpec):
    bold_file = File(exists=True, mandatory=True, desc="corrected series")
    mask_file = File(exists=True, mandatory=True, desc="brain that every volume shows")
    confounds_file = File(exists=True, mandatory=True, desc="table of FindConfounds")
    confounds_info_file = File(exists=True, desc="JSON: info_file of FindConfounds")
    load_info_file = File(exists=True, mandatory=True, desc="JSON: volumes of each run, TR")
    preset = traits.Dict(mandatory=True, desc="what to remove, as of `read_preset`")
    censor_fd = traits.Float(desc="leave out volumes with more displacement, mm; unset: none")
    censor_dvars = traits.Float(desc="leave out volumes with more standardised DVARS")


class _DenoiseBoldOutputSpec(TraitedSpec):
    denoised_file = File(exists=True, desc="residual of all, kept volumes alone, mean 0")
    unfiltered_file = File(exists=True, desc="the same without the band-pass")
    kept_file = File(exists=True, desc="table: volume, run, kept (0/1)")
    info_file = File(exists=True, desc="JSON: done, reason, degrees of freedom")


class DenoiseBold(CodedInterface):
    """Take confounds and frequencies out of a series; see `nodes.func.denoise`.

    Where too little is left, or what the preset needs does not exist, there is no series, and
    `info_file` says why.
    """

    input_spec = _DenoiseBoldInputSpec
    output_spec = _DenoiseBoldOutputSpec
    _code = (make_projection, project, regressors, unavailable, load_preset)

    def _run_interface(self, runtime):
        folder = Path(runtime.cwd)
        runs, tr = read_load_info(self.inputs.load_info_file)
        name = self.inputs.preset.get("name", "of the settings")
        with naming(f"the denoising preset {name}"):
            preset = load_preset(self.inputs.preset, name)
            check_band(preset, tr)
        table = read_confounds(self.inputs.confounds_file)
        parts, keep = regressors(table, preset), self._kept(table)
        known = {k: part[:, np.isfinite(part).all(axis=0)] for k, part in parts.items()}
        projection = make_projection(
            known, runs, tr, band=preset.band, trend=preset.trend, keep=keep
        )
        freedom: Freedom | None = projection.freedom
        reason = projection.freedom.refusal
        if reason is None and (reason := unavailable(preset, parts, self._mask_sizes())):
            freedom = None  # what is not there was not counted
        if reason is None:
            self._write_residuals(projection, tr, folder)
        rows = {"volume": np.arange(len(runs)), "run": runs, "kept": keep.astype(int)}
        self._results["kept_file"] = write_table(pd.DataFrame(rows), folder / "kept.tsv")
        info = _denoise_info(preset, keep, freedom, reason)
        self._results["info_file"] = write_json(info, folder / "denoise.json")
        return runtime

    def _kept(self, table: pd.DataFrame) -> NDArray:
        """Volumes (n,) that no limit censors; what is unknown stays."""
        keep = np.ones(len(table), bool)
        limits = {
            "framewise_displacement": self.inputs.censor_fd,
            "std_dvars": self.inputs.censor_dvars,
        }
        for column, limit in limits.items():
            if isdefined(limit):
                keep &= np.logical_not(table[column].to_numpy(float) > limit)
        return keep

    def _mask_sizes(self) -> dict[str, int]:
        """Voxels of each noise mask, as far as they are told."""
        if not isdefined(self.inputs.confounds_info_file):
            return {}
        masks = json.loads(Path(self.inputs.confounds_info_file).read_text())["masks"]
        return {name: mask["voxels"] for name, mask in masks.items()}

    def _write_residuals(self, projection, tr: float, folder: Path) -> None:
        """Both residuals on the grid of the series, 0 outside the brain."""
        series, image = load(self.inputs.bold_file)
        mask = load(self.inputs.mask_file)[0] > 0
        if mask.shape != series.shape[:3] or len(projection.keep) != series.shape[3]:
            raise BadInputError(
                f"{SERIES} has {series.shape} voxels and volumes, but its mask {mask.shape} and "
                f"its table of confounds {len(projection.keep)}; use files of the same run"
            )
        found = project(np.ascontiguousarray(series[mask], np.float32), projection)
        names = ("denoised", "unfiltered")
        for name, values in zip(names, found, strict=True):
            volume = np.zeros((*mask.shape, values.shape[1]), np.float32, order="F")
            volume[mask] = values
            path = folder / f"{name}.nii"
            self._results[f"{name}_file"] = save(volume, image.affine, path, tr=tr)


def _denoise_info(
    preset: Preset, keep: NDArray, freedom: Freedom | None, reason: str | None
) -> dict[str, Any]:
    """What was removed, and whether enough is left."""
    info: dict[str, Any] = {"done": reason is None}
    if reason is not None:
        info["reason"] = reason
    counts = {"volumes": len(keep), "censored": int((~keep).sum())}
    if freedom is not None:
        counts |= {f"dof_lost_{part}": lost for part, lost in freedom.lost.items()}
        counts |= {"dof_lost": sum(freedom.lost.values()), "dof_left": freedom.left}
        counts["dof_left_by_regression"] = freedom.left_by_regression
        info |= {"notes": [freedom.note]} if freedom.note else {}
    return info | {"preset": preset_content(preset)} | counts
