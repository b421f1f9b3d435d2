"""Files of functional connectivity: maps, tables, and maps in template space."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import pandas as pd
from nipype.interfaces.base import (
    File,
    InputMultiPath,
    TraitedSpec,
    isdefined,
    traits,
)
from numpy.typing import NDArray

from alsflow.interfaces.anat import write_json
from alsflow.interfaces.base import CodedInputSpec, CodedInterface, naming
from alsflow.interfaces.images import load, save
from alsflow.interfaces.template import template_file
from alsflow.interfaces.volumes import write_table
from alsflow.interfaces.warps import load_warp
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.connectivity import (
    R_MOST,
    R_THRESHOLD,
    Area,
    connection_table,
    fisher_z,
    mean_series,
    relation_matrix,
    seed_maps,
    seed_table,
    thresholded,
    voxel_connections,
)
from alsflow.nodes.func.regions import LEAST_GREY
from alsflow.nodes.func.template_maps import maps_to_template, template_to_bold
from alsflow.nodes.geometry import grid_over

NOT_DENOISED = "the series was not denoised"
OUTSIDE = (
    "0 outside grey matter and where the series does not vary; NaN everywhere for a seed that is "
    "not available; voxels of the seed itself are in its map"
)


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a table of seeds, regions or labels; an empty cell is an empty text."""
    table = pd.read_csv(path, sep="\t", keep_default_na=False)
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def read_areas(masks_file: str, table_file: str, inside: NDArray) -> list[Area]:
    """Seeds or regions: one for each volume of masks and row of its table."""
    masks, _ = load(masks_file, np.uint8)
    masks = masks[..., None] if masks.ndim == 3 else masks
    return [
        Area(row["name"], row["side"], masks[..., row["volume"]][inside] > 0, 0, row["reason"])
        for row in read_rows(table_file)
    ]


def read_labels(labels_file: str, table_file: str, inside: NDArray) -> list[Area]:
    """Labels of the atlas as areas; those without a voxel say so."""
    belongs = load(labels_file, np.int32)[0][inside]
    areas = []
    for row in read_rows(table_file):
        members = belongs == row["index"]
        reason = "" if members.any() else f"no voxel is at least half grey {row['name']}"
        areas.append(Area(row["name"], row["side"], members, int(row["index"]), reason))
    return areas


def kept_volumes(path: str | Path, volumes: int) -> NDArray:
    """Indices of the volumes that were kept, from a table with a column ``kept`` of 1 and 0.

    A series that holds only the kept ones is taken as it is: its volumes are those of the table.
    """
    kept = pd.read_csv(path, sep="\t")["kept"].to_numpy() > 0
    if volumes not in (len(kept), int(kept.sum())):
        raise BadInputError(
            f"{Path(path).name} speaks of {len(kept)} volumes, {int(kept.sum())} of them kept; "
            f"the denoised series has {volumes}"
        )
    return np.flatnonzero(kept)


class _ConnectSeedsInputSpec(CodedInputSpec):
    denoised_file = File(exists=True, desc="denoised series; without it there are no maps")
    kept_file = File(exists=True, desc="table: which volumes were kept")
    denoise_info_file = File(exists=True, desc="JSON of the denoising")
    mask_file = File(exists=True, mandatory=True, desc="brain that every volume shows")
    tissue_file = File(exists=True, mandatory=True, desc="fractions of GM, WM, CSF")
    seeds_file = File(exists=True, mandatory=True, desc="4-D: voxels of each seed")
    seeds_table_file = File(exists=True, mandatory=True, desc="table of the seeds")
    groups_file = File(exists=True, mandatory=True, desc="4-D: voxels of each region measured")
    groups_table_file = File(exists=True, mandatory=True, desc="table of these regions")
    regions_file = File(exists=True, mandatory=True, desc="label of the atlas of each voxel")
    regions_table_file = File(exists=True, mandatory=True, desc="table of the labels")
    least_grey = traits.Range(
        low=0.0, high=1.0, value=LEAST_GREY, usedefault=True, desc="grey fraction of the maps"
    )
    voxel_seed = traits.Str(desc="name of the seed that is the MRS voxel; empty if none is")
    threshold = traits.Range(
        low=-1.0, high=1.0, value=R_THRESHOLD, usedefault=True, desc="least r of thresholded maps"
    )


class _ConnectSeedsOutputSpec(TraitedSpec):
    r_file = File(exists=True, desc="correlation with each seed, one volume each")
    z_file = File(exists=True, desc="Fisher's z of it")
    binary_file = File(exists=True, desc="1 where r is at least the threshold")
    thresholded_file = File(exists=True, desc="r where it is at least the threshold, else 0")
    map_mask_file = File(exists=True, desc="voxels of the maps that have a value")
    seed_table_file = File(exists=True, desc="connection of each seed with each label")
    timeseries_file = File(exists=True, desc="mean series of seeds and labels")
    relmat_file = File(exists=True, desc="correlation of the labels with each other")
    connections_file = File(exists=True, desc="connections that are measures of the person")
    info_file = File(exists=True, desc="JSON: what was done")


class ConnectSeeds(CodedInterface):
    """Correlate seeds with grey matter and regions; see `nodes.func.connectivity`.

    Without a denoised series only ``connections_file`` and ``info_file`` are written.
    """

    input_spec = _ConnectSeedsInputSpec
    output_spec = _ConnectSeedsOutputSpec
    _code = (
        connection_table, mean_series, relation_matrix, seed_maps, seed_table, thresholded,
        voxel_connections,
    )  # fmt: skip

    def _run_interface(self, runtime):
        folder = Path(runtime.cwd)
        inside = load(self.inputs.mask_file)[0] > 0
        groups = read_areas(self.inputs.groups_file, self.inputs.groups_table_file, inside)
        denoised = self._denoising()
        if not isdefined(self.inputs.denoised_file):
            reason = denoised.get("reason") or NOT_DENOISED
            signal, series = None, np.empty((len(groups), 0))
            info = {"done": False, "reason": reason}
        else:
            reason = ""
            signal, affine, volumes = self._signal(inside)
            series = mean_series(signal, groups)
            info = self._connect(signal, volumes, inside, affine, folder)
            info["dof"] = denoised.get("dof_left")
        table = connection_table(groups, series, reason=reason)
        if voxel := self._voxel(inside):
            found = voxel_connections(voxel, groups, signal, reason)
            table = pd.concat([table, found], ignore_index=True)
        self._results["connections_file"] = write_table(table, folder / "connections.tsv")
        self._results["info_file"] = write_json(info, folder / "connectivity.json")
        return runtime

    def _voxel(self, inside: NDArray) -> Area | None:
        """The seed that is the MRS voxel, if one is."""
        inputs = self.inputs
        seeds = read_areas(inputs.seeds_file, inputs.seeds_table_file, inside)
        return next((seed for seed in seeds if str(seed.name) == inputs.voxel_seed), None)

    def _denoising(self) -> dict[str, Any]:
        """What the denoising said of itself."""
        if not isdefined(self.inputs.denoise_info_file):
            return {}
        return dict(json.loads(Path(self.inputs.denoise_info_file).read_text(encoding="utf-8")))

    def _signal(self, inside: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Series of the voxels of the mask (v, t), affine, and indices of their volumes."""
        series, image = load(self.inputs.denoised_file)
        if series.ndim != 4 or series.shape[:3] != inside.shape:
            raise BadInputError(
                f"the denoised series has the shape {series.shape} and its mask {inside.shape}: "
                "use files of the same run"
            )
        volumes = np.arange(series.shape[3])
        if isdefined(self.inputs.kept_file):
            volumes = kept_volumes(self.inputs.kept_file, series.shape[3])
        signal = series[inside]
        if len(volumes) < series.shape[3]:
            signal = signal[:, volumes]
        if not np.isfinite(signal).all():
            raise BadInputError(
                "the denoised series holds values that are no numbers inside the brain: look for "
                "them in the BOLD series"
            )
        return signal, np.asarray(image.affine), volumes

    def _connect(
        self, signal: NDArray, volumes: NDArray, inside: NDArray, affine: NDArray, folder: Path
    ) -> dict[str, Any]:
        """Write maps and tables of one series; returns what was done."""
        inputs = self.inputs
        seeds = read_areas(inputs.seeds_file, inputs.seeds_table_file, inside)
        labels = read_labels(inputs.regions_file, inputs.regions_table_file, inside)
        seed_series, label_series = (mean_series(signal, areas) for areas in (seeds, labels))
        covered = load(inputs.tissue_file)[0][..., 0][inside] >= inputs.least_grey
        r, valued = seed_maps(seed_series, signal, covered)
        binary, strong = thresholded(r, inputs.threshold)
        maps = {"r": r, "z": fisher_z(r), "binary": binary, "thresholded": strong}
        for name, values in maps.items():
            grid = np.zeros((*inside.shape, len(seeds)), np.float32)
            grid[inside] = values.T
            grid[:, :, :, np.isnan(values).all(axis=1)] = np.nan
            self._results[f"{name}_file"] = save(grid, affine, folder / f"{name}.nii.gz")
        mask = np.zeros(inside.shape, bool)
        mask[inside] = valued
        self._results["map_mask_file"] = save(mask, affine, folder / "map_mask.nii.gz")
        series = pd.DataFrame(
            np.concatenate([seed_series, label_series]).T,
            columns=[*(f"seed-{seed.name}" for seed in seeds), *(label.name for label in labels)],
        )
        series.insert(0, "volume", volumes)
        matrix = relation_matrix(labels, label_series)
        matrix.insert(0, "name", matrix.index)
        tables = {
            "seed_table": seed_table(seeds, seed_series, labels, label_series),
            "timeseries": series,
            "relmat": matrix,
        }
        for name, table in tables.items():
            self._results[f"{name}_file"] = write_table(table, folder / f"{name}.tsv")
        return {
            "done": True,
            "seeds": [seed.name for seed in seeds],
            "volumes": int(signal.shape[1]),
            "voxels": int(valued.sum()),
            "constant_voxels": int(covered.sum() - valued.sum()),
            "threshold": inputs.threshold,
            "largest_r": R_MOST,
            "least_grey": inputs.least_grey,
            "outside": OUTSIDE,
        }


class _MapsToTemplateInputSpec(CodedInputSpec):
    map_files = InputMultiPath(File(exists=True), desc="3-D or 4-D maps on one BOLD grid")
    mask_file = File(exists=True, desc="where the maps have values")
    seen_file = File(exists=True, mandatory=True, desc="brain that every volume shows")
    matrix_file = File(exists=True, mandatory=True, desc="text, 4 x 4: BOLD mm to T1w mm")
    to_native_file = File(exists=True, mandatory=True, desc="field on a template grid")
    voxel = traits.Range(low=0.5, high=8.0, value=2.0, usedefault=True, desc="grid, mm")
    fwhm = traits.Range(low=0.0, high=30.0, value=8.0, usedefault=True, desc="smoothing, mm")
    plain = traits.Bool(False, usedefault=True, desc="what is outside the mask counts as 0")


class _MapsToTemplateOutputSpec(TraitedSpec):
    template_files = traits.List(
        File(exists=True), desc="smoothed maps in template space, in the order of map_files"
    )
    coverage_file = File(exists=True, desc="template voxels with a value in every map")


class MapsToTemplate(CodedInterface):
    """Bring native maps into template space and smooth them; see `nodes.func.template_maps`.

    Without maps or their mask nothing is written.
    """

    input_spec = _MapsToTemplateInputSpec
    output_spec = _MapsToTemplateOutputSpec
    _code = (maps_to_template, template_to_bold)

    def _run_interface(self, runtime):
        inputs = self.inputs
        if not isdefined(inputs.map_files) or not isdefined(inputs.mask_file):
            return runtime
        template = cast(nib.Nifti1Image, nib.load(template_file("gm")))
        shape, target = grid_over(template.shape, template.affine, inputs.voxel)
        mask, image = load(inputs.mask_file)
        field, field_affine = load_warp(inputs.to_native_file)
        matrix = np.loadtxt(inputs.matrix_file)
        points = template_to_bold(field, field_affine, shape, target, matrix)
        seen = load(inputs.seen_file)[0] > 0
        folder = Path(runtime.cwd)
        covered = np.ones(shape, bool)
        written = []
        for number, path in enumerate(inputs.map_files):
            maps, _ = load(path)
            single = maps.ndim == 3
            with naming(Path(path).name):
                smooth, coverage = maps_to_template(
                    maps[..., None] if single else maps, mask > 0, seen, image.affine, points,
                    target, inputs.fwhm, inputs.plain,
                )  # fmt: skip
            covered &= coverage
            name = f"{number:02d}_{Path(path).name.partition('.')[0]}.nii.gz"
            written.append(save(smooth[..., 0] if single else smooth, target, folder / name))
        self._results["template_files"] = written
        self._results["coverage_file"] = save(covered, target, folder / "coverage.nii.gz")
        return runtime
