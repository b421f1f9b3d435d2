"""Files of the tract measures: warping tracts, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import pandas as pd
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits
from numpy.typing import NDArray

from alsflow.interfaces.anat import atlas_mask
from alsflow.interfaces.atlas import volumes
from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.images import load, save
from alsflow.interfaces.volumes import write_table
from alsflow.interfaces.warps import load_warp, save_warp
from alsflow.nodes.anat.volumes import coarse_points
from alsflow.nodes.dwi.measures import METRICS
from alsflow.nodes.dwi.profile import course, lower_end, tract_profile, warped_course
from alsflow.nodes.dwi.tracts import (
    Tract,
    both_sides,
    missing_tract,
    overlap_table,
    place_tract,
    places,
    tract_measures,
    tract_weights,
)
from alsflow.nodes.dwi.voxel import share_on_series
from alsflow.nodes.geometry import apply_affine, grid_points, voxel_volume
from alsflow.nodes.spaces import in_space

SIDES = ("left", "right")
SIDE_WORD = re.compile(r"(^|[_\- ])(left|right|lh|rh|l|r)(?=$|[_\- ])", re.IGNORECASE)
# Where the course of a tract begins: grey nuclei of the Neuromorphometrics atlas; others begin
# at their lower end
ORIGINS = {
    "corticostriatal_tract": ("Caudate", "Putamen", "Accumbens"),
    "corticothalamic_tract": ("Thalamus",),
}
Group = tuple[str, str]  # name and side


def atlas_masks(
    path: str | Path, kind: str, groups: Mapping[Group, Sequence[int]]
) -> Iterator[tuple[Group, NDArray]]:
    """Masks (0 to 1) of groups of an atlas' labels, one after the other in a pass of the file.

    Parameters
    ----------
    path : path
        Image of the atlas.
    kind : {"labels", "probability", "masks4d"}
        What its values mean.
    groups : mapping
        Labels that make up each group.
    """
    image = cast(nib.Nifti1Image, nib.load(path))
    if kind == "labels":
        labels = next(volumes(image))
        for group, members in groups.items():
            yield group, np.isin(labels, list(members)).astype(np.float32)
        return
    scale = 100.0 if kind == "probability" else 1.0
    waiting = {group: set(members) for group, members in groups.items()}
    unions: dict[Group, NDArray] = {}
    for index, volume in enumerate(volumes(image)):
        for group in [group for group, members in waiting.items() if index in members]:
            part = (volume / scale).astype(np.float32)
            unions[group] = np.maximum(unions[group], part) if group in unions else part
            waiting[group].discard(index)
            if not waiting[group]:
                del waiting[group]
                yield group, unions.pop(group)
        if not waiting:
            return


def region_groups(regions: Mapping[str, Mapping[str, Sequence[int]]]) -> dict[Group, list[int]]:
    """Groups of labels of the regions by name and side."""
    return {
        (name, side): list(labels)
        for name, sides in regions.items()
        for side, labels in sides.items()
        if labels
    }


def label_groups(names: Mapping[int, str], sides: Mapping[int, str]) -> dict[Group, list[int]]:
    """Every label as a group: its name without the side, and side (``both`` if none)."""
    groups: dict[Group, list[int]] = {}
    for index in sorted(names):
        side = sides.get(index) or "both"
        name = SIDE_WORD.sub("", names[index]).strip("_- ") if side != "both" else names[index]
        groups.setdefault((name, side), []).append(index)
    return groups


class _AtlasInputSpec(CodedInputSpec):
    matrix_file = File(exists=True, mandatory=True, desc="text, 4 x 4: diffusion mm to T1w mm")
    to_template_file = File(exists=True, mandatory=True, desc="field on a T1w grid")
    atlas_file = File(exists=True, mandatory=True, desc="tracts in template space")
    kind = traits.Enum(
        "masks4d", "probability", "labels", usedefault=True, desc="what the atlas' values mean"
    )
    space = traits.Str(mandatory=True, desc="variant of MNI space of the atlas")
    regions = traits.Dict(
        traits.Str, traits.Dict(traits.Str, traits.List(traits.Int)), mandatory=True,
        desc="labels of each tract, by side",
    )  # fmt: skip


class _WarpTractsInputSpec(_AtlasInputSpec):
    reference_file = File(exists=True, mandatory=True, desc="any image on the diffusion grid")


class _WarpTractsOutputSpec(TraitedSpec):
    points_file = File(exists=True, desc="field on the diffusion grid: place in the template")
    weights_file = File(exists=True, desc="4-D: share of each voxel inside each tract")
    names_file = File(exists=True, desc="table: volume, tract, side of weights_file")


class WarpTracts(CodedInterface):
    """Bring the tracts into diffusion space; see `nodes.dwi.tracts`."""

    input_spec = _WarpTractsInputSpec
    output_spec = _WarpTractsOutputSpec
    _code = (coarse_points, tract_weights, places, in_space)

    def _run_interface(self, runtime):
        image = cast(nib.Nifti1Image, nib.load(self.inputs.reference_file))
        matrix = np.loadtxt(self.inputs.matrix_file)
        field, field_affine = load_warp(self.inputs.to_template_file)
        world = apply_affine(matrix, grid_points(image.shape[:3], image.affine))
        points = coarse_points(field, field_affine, world)
        folder = Path(runtime.cwd)
        self._results["points_file"] = save_warp(points, image.affine, folder / "points.nii.gz")
        grid = places(in_space(points, self.inputs.space))
        affine = cast(nib.Nifti1Image, nib.load(self.inputs.atlas_file)).affine
        groups = region_groups(self.inputs.regions)
        found = {
            group: tract_weights(mask, affine, grid)
            for group, mask in atlas_masks(self.inputs.atlas_file, self.inputs.kind, groups)
        }
        kept = [group for group in groups if group in found]
        stack = np.stack([found[group] for group in kept], axis=-1)
        names = pd.DataFrame(kept, columns=["tract", "side"])
        names.insert(0, "volume", np.arange(len(kept)))
        self._results["weights_file"] = save(stack, image.affine, folder / "weights.nii.gz")
        self._results["names_file"] = write_table(names, folder / "weights.tsv")
        return runtime


class _MeasureTractsInputSpec(_AtlasInputSpec):
    fa_file = File(exists=True, mandatory=True, desc="fractional anisotropy")
    md_file = File(exists=True, mandatory=True, desc="mean diffusivity, mm2/s")
    ad_file = File(exists=True, mandatory=True, desc="axial diffusivity, mm2/s")
    rd_file = File(exists=True, mandatory=True, desc="radial diffusivity, mm2/s")
    mask_file = File(exists=True, mandatory=True, desc="brain mask, grid of fa_file")
    points_file = File(exists=True, mandatory=True, desc="field on the grid of fa_file")
    names = traits.Dict(traits.Int, traits.Str, mandatory=True, desc="name of each label")
    label_sides = traits.Dict(traits.Int, traits.Str, mandatory=True, desc="side of each label")
    tracts = traits.List(traits.Str, mandatory=True, desc="tracts of the first table")
    csf_file = File(exists=True, desc="fraction of CSF, T1-weighted head")
    most_csf = traits.Range(
        low=0.0, high=1.0, value=0.2, usedefault=True, desc="voxels with more are left out"
    )
    least_coverage = traits.Range(
        low=0.0, high=1.0, value=0.7, usedefault=True, desc="share of a tract that must be in view"
    )
    least_voxels = traits.Int(20, usedefault=True, desc="fewest voxels of a tract")


class _MeasureTractsOutputSpec(TraitedSpec):
    tracts_file = File(exists=True, desc="measures of the main tracts")
    all_tracts_file = File(exists=True, desc="measures of every tract of the atlas")
    profiles_file = File(exists=True, desc="measures along the main tracts")
    overlap_file = File(exists=True, desc="how much the main tracts share")


class _Scene:
    """What all tables of one person are made from, read once.

    `MeasureTracts` names it among its code: a class beside an interface does not count by itself.
    """

    def __init__(self, inputs: Any) -> None:
        self.inputs = inputs
        self.maps = {name: load(getattr(inputs, f"{name}_file"))[0] for name in METRICS}
        mask, image = load(inputs.mask_file)
        self.brain, self.affine = mask > 0, image.affine
        self.matrix = np.loadtxt(inputs.matrix_file)
        self.atlas_affine = cast(nib.Nifti1Image, nib.load(inputs.atlas_file)).affine
        points, _ = load_warp(inputs.points_file)
        head, self.head_affine = load_warp(inputs.to_template_file)
        self.grid = places(in_space(points, inputs.space))
        self.head = places(in_space(head, inputs.space))
        self.valid = self.brain & self._dry()
        self.settings = {
            "least_coverage": inputs.least_coverage, "least_voxels": inputs.least_voxels
        }  # fmt: skip

    def _dry(self) -> NDArray:
        """Voxels without too much CSF."""
        if not isdefined(self.inputs.csf_file) or self.inputs.most_csf >= 1:
            return np.ones(self.brain.shape, bool)
        csf, image = load(self.inputs.csf_file)
        share = share_on_series(csf, image.affine, self.matrix, self.brain.shape, self.affine)
        return share <= self.inputs.most_csf

    def placed(self, group: Group, mask: NDArray) -> Tract:
        return place_tract(
            *group, mask, self.atlas_affine, self.grid, self.head, self.head_affine,
            self.matrix, self.brain, self.affine,
        )  # fmt: skip

    def main(self) -> dict[Group, tuple[Tract, NDArray]]:
        """The main tracts, and their masks in template space."""
        regions = {k: v for k, v in self.inputs.regions.items() if k in self.inputs.tracts}
        masks = atlas_masks(self.inputs.atlas_file, self.inputs.kind, region_groups(regions))
        return {group: (self.placed(group, mask), mask) for group, mask in masks}

    def table(self, found: Mapping[Group, tuple[Tract, NDArray]],
              tracts: Sequence[str]) -> pd.DataFrame:  # fmt: skip
        """Measures of the main tracts; those that the atlas lacks say so."""
        parts = []
        for name in tracts:
            if any((name, side) not in found for side in SIDES):
                lacking = f"the atlas has no {name.replace('_', ' ')}"
                parts.append(missing_tract(name, METRICS, lacking))
                continue
            left, right = (found[name, side][0] for side in SIDES)
            parts.append(both_sides(self.maps, left, right, self.valid, **self.settings))
        return pd.concat(parts, ignore_index=True)

    def everything(self) -> pd.DataFrame:
        """Measures of every label; left and right are kept until both are there."""
        groups = label_groups(self.inputs.names, self.inputs.label_sides)
        waiting: dict[Group, Tract] = {}
        parts = []
        for group, mask in atlas_masks(self.inputs.atlas_file, self.inputs.kind, groups):
            name, side = group
            tract = self.placed(group, mask)
            other = {"left": "right", "right": "left"}.get(side)
            if other is None or (name, other) not in groups:
                parts.append(tract_measures(self.maps, tract, self.valid, **self.settings))
            elif (name, other) in waiting:
                pair = {side: tract, other: waiting.pop((name, other))}
                parts.append(both_sides(self.maps, pair["left"], pair["right"], self.valid,
                                        **self.settings))  # fmt: skip
            else:
                waiting[group] = tract
        return pd.concat(parts, ignore_index=True)

    def profiles(self, found: Mapping[Group, tuple[Tract, NDArray]]) -> pd.DataFrame:
        """Measures along each main tract and side."""
        parts = []
        size = (1000 * voxel_volume(self.affine)) ** (1 / 3)
        for (name, side), (tract, mask) in found.items():
            inside = mask >= 0.5
            if not inside.any():
                continue
            origin = _origin(name, inside, self.atlas_affine, self.inputs.space)
            coordinate, length = course(inside, self.atlas_affine, origin)
            weights, along = warped_course(coordinate, self.atlas_affine, self.grid)
            width = size / max(length, size)
            table = tract_profile(self.maps, weights, along, self.valid, width)
            if tract.coverage < self.inputs.least_coverage:
                table[["mean", "sd"]] = np.nan
            table.insert(0, "tract", name)
            table.insert(1, "side", side)
            parts.append(table)
        columns = ["tract", "side", "metric", "node", "mean", "sd", "n_voxels"]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


class MeasureTracts(CodedInterface):
    """Measure maps in every tract; see `nodes.dwi.tracts` and `nodes.dwi.profile`."""

    input_spec = _MeasureTractsInputSpec
    output_spec = _MeasureTractsOutputSpec
    _code = (
        _Scene, both_sides, coarse_points, course, in_space, lower_end, overlap_table, place_tract,
        places, share_on_series, tract_measures, tract_profile, tract_weights, warped_course,
    )  # fmt: skip

    def _run_interface(self, runtime):
        scene = _Scene(self.inputs)
        found = scene.main()
        tables = {
            "tracts": scene.table(found, self.inputs.tracts),
            "profiles": scene.profiles(found),
            "overlap": overlap_table(
                {f"{t.name}_{t.side}": t.weights for t, _ in found.values()}, scene.affine
            ),
        }
        del found
        tables["all_tracts"] = scene.everything()
        for name, table in tables.items():
            path = Path(runtime.cwd) / f"{name}.tsv"
            self._results[f"{name}_file"] = write_table(table, path)
        return runtime


def _origin(name: str, mask: NDArray, affine: NDArray, space: str) -> NDArray:
    """Where the course of a tract begins, on the grid of its mask."""
    if name in ORIGINS:
        # the nuclei lie in another variant of MNI space, nearer to each other than a nucleus
        nucleus = atlas_mask(ORIGINS[name], mask.shape, affine) > 0.5
        if (nucleus & mask).any():
            return nucleus
    return lower_end(mask, affine)
