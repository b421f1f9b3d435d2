"""Pictures of the functional stream of one person as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits
from numpy.typing import NDArray

from alsflow.interfaces.anat import DEEP_GREY
from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.drawing import Drawing, on_grid, read_table
from alsflow.interfaces.func_local import fitting, read_json, read_kept
from alsflow.interfaces.images import load
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.report.functional import (
    R_SHOWN,
    draw_connectivity,
    draw_local,
    draw_seeds,
    draw_tsnr,
)
from alsflow.nodes.report.functional_charts import (
    TRACES,
    carpet_rows,
    carpet_voxels,
    draw_carpet,
    draw_matrix,
)

LOCAL = ("ALFF", "fALFF", "ReHo")


def read_text_table(path: str | Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Table of seeds or regions, an empty cell an empty text."""
    table = pd.read_csv(path, sep="\t", keep_default_na=False)
    missing = [name for name in columns if name not in table]
    if missing:
        raise BadInputError(f"{Path(path).name} has no column {', '.join(missing)}")
    return table


class _DrawCarpetInputSpec(CodedInputSpec):
    bold_file = File(exists=True, mandatory=True, desc="realigned series, not denoised")
    denoised_file = File(exists=True, desc="denoised series, all volumes or those kept")
    tissue_file = File(exists=True, mandatory=True, desc="fractions of GM, WM and CSF")
    mask_file = File(exists=True, mandatory=True, desc="brain that every volume shows")
    confounds_file = File(exists=True, mandatory=True, desc=f"TSV, a row per volume: {TRACES}")
    load_info_file = File(exists=True, mandatory=True, desc="JSON: TR")
    kept_file = File(exists=True, desc="TSV, column kept: 1 for volumes not censored")
    regions_file = File(exists=True, desc="label of each voxel, for deep grey matter")
    regions_table_file = File(exists=True, desc="TSV: index and name of each label")
    deep = traits.List(
        traits.Str, list(DEEP_GREY), usedefault=True, desc="parts of the names of deep regions"
    )


class _DrawCarpetOutputSpec(TraitedSpec):
    carpet_file = File(exists=True, desc="motion over the series of all tissues, PNG")


class DrawCarpet(Drawing, CodedInterface):
    """Draw motion and carpet, without a denoised series the one before alone.

    See `nodes.report.functional_charts`.
    """

    input_spec = _DrawCarpetInputSpec
    output_spec = _DrawCarpetOutputSpec
    _code = (draw_carpet,)

    def _figures(self) -> dict[str, Figure]:
        inputs = self.inputs
        bold, image = load(inputs.bold_file)
        tissue, mask = (on_grid(path, image) for path in (inputs.tissue_file, inputs.mask_file))
        places, kinds = carpet_voxels(carpet_rows(tissue, mask > 0, self._deep()))
        at = tuple(np.moveaxis(places, -1, 0))
        traces = read_table(inputs.confounds_file, TRACES)
        if len(traces) != bold.shape[3]:
            raise BadInputError(
                f"{Path(inputs.confounds_file).name} has {len(traces)} rows "
                f"for {bold.shape[3]} volumes"
            )
        after = None
        if isdefined(inputs.denoised_file):
            kept = read_kept(inputs.kept_file, bold.shape[3])
            denoised = on_grid(inputs.denoised_file, image)
            own = fitting(inputs.denoised_file, denoised, kept)
            after = np.full((*places.shape[:2], len(kept)), np.nan, np.float32)
            after[..., kept] = denoised[at][..., own]
        tr = read_json(inputs.load_info_file)["tr"]
        return {"carpet": draw_carpet(bold[at], after, kinds, traces, tr)}

    def _deep(self) -> NDArray | None:
        """Voxels of deep grey matter, by the names of the atlas; None without an atlas."""
        if not isdefined(self.inputs.regions_file):
            return None
        table = read_text_table(self.inputs.regions_table_file, ("index", "name"))
        members = [
            index
            for index, name in zip(table["index"], table["name"], strict=True)
            if any(part.lower() in str(name).lower() for part in self.inputs.deep)
        ]
        return np.isin(load(self.inputs.regions_file, np.int32)[0], members)


class _SeedsInputSpec(CodedInputSpec):
    mean_file = File(exists=True, mandatory=True, desc="mean over time")
    mask_file = File(exists=True, mandatory=True, desc="brain, grid of mean_file")
    seeds_file = File(exists=True, mandatory=True, desc="4-D: voxels of each seed, same grid")
    seeds_table_file = File(exists=True, mandatory=True, desc="TSV: volume, name of each seed")


class _SeedDrawing(Drawing):
    """What pictures with seeds read."""

    def _read(self) -> tuple[NDArray, NDArray, NDArray, dict[str, tuple[int, NDArray]]]:
        """Mean, brain, affine, and volume and voxels of every seed."""
        inputs = self.inputs  # type: ignore[attr-defined]
        mean, image = load(inputs.mean_file)
        brain = on_grid(inputs.mask_file, image) > 0
        members = on_grid(inputs.seeds_file, image).reshape(*mean.shape, -1) > 0
        table = read_text_table(inputs.seeds_table_file, ("volume", "name"))
        seeds = {
            str(name): (int(volume), members[..., volume])
            for volume, name in zip(table["volume"], table["name"], strict=True)
        }
        return mean, brain, image.affine, seeds


class _DrawSeedsOutputSpec(TraitedSpec):
    seeds_file = File(exists=True, desc="seeds over the mean image, PNG")


class DrawSeeds(_SeedDrawing, CodedInterface):
    """Draw seeds over the mean image; see `nodes.report.functional`."""

    input_spec = _SeedsInputSpec
    output_spec = _DrawSeedsOutputSpec
    _code = (draw_seeds,)

    def _figures(self) -> dict[str, Figure]:
        mean, brain, affine, seeds = self._read()
        masks = {name: members for name, (_, members) in seeds.items()}
        return {"seeds": draw_seeds(mean, brain, affine, masks)}


class _DrawConnectivityInputSpec(_SeedsInputSpec):
    z_file = File(exists=True, desc="Fisher's z, a volume per seed; no picture without it")
    r_shown = traits.Range(
        low=0.0, high=0.99, value=R_SHOWN, usedefault=True, desc="least r coloured"
    )


class _DrawConnectivityOutputSpec(TraitedSpec):
    map_files = traits.List(File(exists=True), desc="connectivity of each seed, PNG")
    names = traits.List(traits.Str, desc="seed of each picture")


class DrawConnectivity(_SeedDrawing, CodedInterface):
    """Draw the connectivity of each seed that has a map; see `nodes.report.functional`."""

    input_spec = _DrawConnectivityInputSpec
    output_spec = _DrawConnectivityOutputSpec
    _code = (draw_connectivity,)

    def _run_interface(self, runtime):
        runtime = super()._run_interface(runtime)
        files, self._results = self._results, {}
        if isdefined(self.inputs.z_file):
            names = [name.removesuffix("_file") for name in files]
            maps: dict[str, Any] = {"map_files": list(files.values()), "names": names}
            self._results.update(maps)
        return runtime

    def _figures(self) -> dict[str, Figure]:
        if not isdefined(self.inputs.z_file):
            return {}
        mean, brain, affine, seeds = self._read()
        maps = load(self.inputs.z_file)[0].reshape(*mean.shape, -1)
        return {
            name: draw_connectivity(
                mean, brain, affine, maps[..., volume], members, name, self.inputs.r_shown
            )
            for name, (volume, members) in seeds.items()
            if np.isfinite(maps[..., volume]).any()
        }


class _DrawLocalInputSpec(CodedInputSpec):
    mean_file = File(exists=True, mandatory=True, desc="mean over time")
    mask_file = File(exists=True, mandatory=True, desc="brain, grid of mean_file")
    alff_file = File(exists=True, desc="ALFF, z")
    falff_file = File(exists=True, desc="fALFF, z")
    reho_file = File(exists=True, desc="ReHo, z")


class _DrawLocalOutputSpec(TraitedSpec):
    local_file = File(exists=True, desc="local measures over the mean image, PNG")


class DrawLocal(Drawing, CodedInterface):
    """Draw the local measures that there are; see `nodes.report.functional`."""

    input_spec = _DrawLocalInputSpec
    output_spec = _DrawLocalOutputSpec
    _code = (draw_local,)

    def _figures(self) -> dict[str, Figure]:
        paths = {name: getattr(self.inputs, f"{name.lower()}_file") for name in LOCAL}
        mean, image = load(self.inputs.mean_file)
        maps = {name: on_grid(path, image) for name, path in paths.items() if isdefined(path)}
        if not maps:
            return {}
        brain = on_grid(self.inputs.mask_file, image) > 0
        return {"local": draw_local(mean, brain, image.affine, maps)}


class _DrawMatrixInputSpec(CodedInputSpec):
    relmat_file = File(exists=True, desc="TSV: correlations of regions; no picture without it")
    regions_table_file = File(exists=True, mandatory=True, desc="TSV: name and side of regions")


class _DrawMatrixOutputSpec(TraitedSpec):
    matrix_file = File(exists=True, desc="correlations of all regions, PNG")


class DrawMatrix(Drawing, CodedInterface):
    """Draw the correlations of regions; see `nodes.report.functional_charts`."""

    input_spec = _DrawMatrixInputSpec
    output_spec = _DrawMatrixOutputSpec
    _code = (draw_matrix,)

    def _figures(self) -> dict[str, Figure]:
        if not isdefined(self.inputs.relmat_file):
            return {}
        table = pd.read_csv(self.inputs.relmat_file, sep="\t", na_values="n/a")
        names = [str(name) for name in table["name"]]
        regions = read_text_table(self.inputs.regions_table_file, ("name", "side"))
        sides = dict(zip(regions["name"].astype(str), regions["side"], strict=True))
        r = table.drop(columns="name").to_numpy(float)
        return {"matrix": draw_matrix(r, names, sides)}


class _DrawTsnrInputSpec(CodedInputSpec):
    tsnr_file = File(exists=True, mandatory=True, desc="temporal signal-to-noise ratio")
    mask_file = File(exists=True, mandatory=True, desc="brain, grid of tsnr_file")


class _DrawTsnrOutputSpec(TraitedSpec):
    tsnr_file = File(exists=True, desc="temporal signal-to-noise ratio of the brain, PNG")


class DrawTsnr(Drawing, CodedInterface):
    """Draw the temporal signal-to-noise ratio; see `nodes.report.functional`."""

    input_spec = _DrawTsnrInputSpec
    output_spec = _DrawTsnrOutputSpec
    _code = (draw_tsnr,)

    def _figures(self) -> dict[str, Figure]:
        tsnr, image = load(self.inputs.tsnr_file)
        brain = on_grid(self.inputs.mask_file, image) > 0
        return {"tsnr": draw_tsnr(tsnr, brain, image.affine)}
