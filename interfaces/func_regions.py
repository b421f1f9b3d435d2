"""Files of tissue, regions and seeds on the grid of a BOLD series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import pandas as pd
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits
from numpy.typing import NDArray

from alsflow.interfaces.anat import read_volume, write_json
from alsflow.interfaces.atlas import SPACES, Atlas
from alsflow.interfaces.base import CodedInputSpec, CodedInterface, naming
from alsflow.interfaces.images import load, save
from alsflow.interfaces.volumes import write_table
from alsflow.interfaces.warps import load_warp
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.connectivity import MOTOR
from alsflow.nodes.func.regions import (
    BoldVoxels,
    Head,
    LabelShares,
    Placed,
    bold_voxels,
    check_mask,
    check_mask_in_head,
    check_mask_in_template,
    label_shares,
    place_labels,
    place_region,
    place_seed,
    tissue_on_bold,
)
from alsflow.nodes.func.seeds import DEFAULT_SEEDS, T1W, Seed, read_seeds
from alsflow.nodes.geometry import voxel_volume
from alsflow.nodes.mrs.voxel import NO_VOXEL

TISSUES = ("gm", "wm", "csf")
SIDES = ("left", "right", "both")


def seed_inputs(rows: Sequence[Mapping[str, Any]], atlas: Atlas) -> dict[str, Any]:
    """Inputs of `PlaceSeeds` from the seeds that were asked for and the cortical atlas.

    Labels of white matter and fluid are left out.

    What cannot be a seed is refused here, before anything runs: unknown kinds and keys, regions
    and labels that the atlas lacks, files that are not there or hold no mask. Whether a mask in
    T1w space meets the head is seen by `PlaceSeeds`.
    """
    grey = [label for label in atlas.labels if label.grey]
    names = {label.index: label.name for label in grey}
    seeds = read_seeds(rows, atlas.regions, list(names), SPACES)
    for seed in seeds:
        if seed.kind != "mask":
            continue
        if not Path(seed.file).is_file():
            raise BadInputError(f"The seed {seed.name!r} names {seed.file}, which does not exist.")
        read_mask(seed.file, seed.space == T1W)
    return {
        "seeds": [dict(row) for row in rows],
        "mask_files": [seed.file for seed in seeds if seed.kind == "mask"],
        "names": names,
        "label_sides": {label.index: label.side for label in grey},
        "regions": {
            name: {side: list(labels) for side, labels in sides.items()}
            for name, sides in atlas.regions.items()
        },
    }


def read_mask(path: str | Path, native: bool, head: Head | None = None) -> tuple[NDArray, NDArray]:
    """Mask (0 to 1) and affine of a file that a seed names; what cannot be one is refused.

    Parameters
    ----------
    path : path
        The file.
    native : bool
        Whether it lies in the person's T1w space; else in MNI space.
    head : Head, optional
        The person, once there is one: a native mask must meet the grey matter.
    """
    data, affine = read_volume(path)
    with naming(Path(path).name):
        check_mask(data, affine)
        if not native:
            check_mask_in_template(data, affine)
        elif head is not None:
            check_mask_in_head(data, affine, head)
    return data.astype(np.float32), affine


class _TissueOnBoldInputSpec(CodedInputSpec):
    reference_file = File(exists=True, mandatory=True, desc="any image on the BOLD grid")
    matrix_file = File(exists=True, mandatory=True, desc="text, 4 x 4: BOLD mm to T1w mm")
    gm_file = File(exists=True, mandatory=True, desc="fraction of grey matter, T1w head")
    wm_file = File(exists=True, mandatory=True, desc="fraction of white matter, T1w head")
    csf_file = File(exists=True, mandatory=True, desc="fraction of CSF, T1w head")
    brain_file = File(exists=True, mandatory=True, desc="brain mask of the T1w head")
    seen_file = File(exists=True, mandatory=True, desc="BOLD voxels that every volume shows")
    mask_file = File(exists=True, desc="brain found on the BOLD image itself")


class _TissueOnBoldOutputSpec(TraitedSpec):
    tissue_file = File(exists=True, desc="fractions of GM, WM, CSF in each BOLD voxel")
    mask_file = File(exists=True, desc="brain on the BOLD grid that every volume shows")


class TissueOnBold(CodedInterface):
    """Tissue fractions and brain of BOLD voxels; see `nodes.func.regions.tissue_on_bold`."""

    input_spec = _TissueOnBoldInputSpec
    output_spec = _TissueOnBoldOutputSpec
    _code = (tissue_on_bold,)

    def _run_interface(self, runtime):
        brain, head = load(self.inputs.brain_file)
        maps = [load(getattr(self.inputs, f"{name}_file"))[0] for name in TISSUES]
        seen, image = load(self.inputs.seen_file)
        seen = seen > 0
        if isdefined(self.inputs.mask_file):
            seen &= load(self.inputs.mask_file)[0] > 0
        matrix = np.loadtxt(self.inputs.matrix_file)
        with naming("the BOLD series"):
            tissue, mask = tissue_on_bold(brain > 0, maps, head.affine, seen, image.affine, matrix)
        folder = Path(runtime.cwd)
        self._results["tissue_file"] = save(tissue, image.affine, folder / "tissue.nii.gz")
        self._results["mask_file"] = save(mask, image.affine, folder / "mask.nii.gz")
        return runtime


class _PlaceSeedsInputSpec(CodedInputSpec):
    reference_file = File(exists=True, mandatory=True, desc="any image on the BOLD grid")
    matrix_file = File(exists=True, mandatory=True, desc="text, 4 x 4: BOLD mm to T1w mm")
    mask_file = File(exists=True, mandatory=True, desc="brain that every volume shows")
    gm_file = File(exists=True, mandatory=True, desc="fraction of grey matter, T1w head")
    labels_file = File(exists=True, mandatory=True, desc="labels of the atlas, T1w head")
    to_template_file = File(exists=True, mandatory=True, desc="field on a T1w grid")
    mrs_voxel_file = File(exists=True, desc="mask of the MRS voxel, T1w space")
    names = traits.Dict(traits.Int, traits.Str, mandatory=True, desc="name of each label")
    label_sides = traits.Dict(traits.Int, traits.Str, mandatory=True, desc="side of each label")
    regions = traits.Dict(
        traits.Str, traits.Dict(traits.Str, traits.List(traits.Int)), mandatory=True,
        desc="labels of each region measured, by side",
    )  # fmt: skip
    seeds = traits.List(
        traits.Dict(traits.Str, traits.Any), value=[dict(seed) for seed in DEFAULT_SEEDS],
        usedefault=True, desc="seeds; see `nodes.func.seeds`",
    )  # fmt: skip
    mask_files = traits.List(
        File(exists=True), desc="files that the seeds name: what they hold counts for the cache"
    )


class _PlaceSeedsOutputSpec(TraitedSpec):
    seeds_file = File(exists=True, desc="4-D: voxels of each seed, 1 and 0")
    seeds_table_file = File(exists=True, desc="volume, name, side, voxels, coverage, reason")
    groups_file = File(exists=True, desc="4-D: voxels of each region measured, by side")
    groups_table_file = File(exists=True, desc="volume, name, side, voxels, coverage, reason")
    regions_file = File(exists=True, desc="label of the atlas of each voxel, 0 for none")
    regions_table_file = File(exists=True, desc="label, name, side, voxels")
    info_file = File(exists=True, desc="JSON: what was placed, and notes")


class PlaceSeeds(CodedInterface):
    """Bring seeds and regions onto the BOLD grid; see `nodes.func.regions`."""

    input_spec = _PlaceSeedsInputSpec
    output_spec = _PlaceSeedsOutputSpec
    _code = (
        bold_voxels,
        check_mask,
        label_shares,
        place_labels,
        place_region,
        place_seed,
        read_seeds,
    )

    def _run_interface(self, runtime):
        names = self.inputs.names
        seeds = read_seeds(self.inputs.seeds, self.inputs.regions, list(names), SPACES)
        image = cast(nib.Nifti1Image, nib.load(self.inputs.reference_file))
        inside = load(self.inputs.mask_file)[0] > 0
        head, labels = self._head()
        matrix = np.loadtxt(self.inputs.matrix_file)
        voxels = bold_voxels(inside, image.affine, matrix, head.affine)
        found = label_shares(labels, head.gm, head.affine, voxels, list(names))
        size = voxel_volume(image.affine)
        groups = [
            place_region(region, side, sides, found, size)
            for region, sides in self.inputs.regions.items()
            for side in SIDES
        ]
        placed = [self._place(seed, voxels, head, found, size) for seed in seeds]
        folder = Path(runtime.cwd)
        for name, areas in (("seeds", placed), ("groups", groups)):
            stack = np.stack([voxels.on_grid(area.members) for area in areas], axis=-1)
            path = folder / f"{name}.nii.gz"
            self._results[f"{name}_file"] = save(stack, image.affine, path)
            table = _table(areas)
            self._results[f"{name}_table_file"] = write_table(table, folder / f"{name}.tsv")
        belongs = place_labels(found, inside)
        path = folder / "regions.nii.gz"
        self._results["regions_file"] = save(belongs.astype(np.int16), image.affine, path)
        table = _label_table(belongs, names, self.inputs.label_sides)
        self._results["regions_table_file"] = write_table(table, folder / "regions.tsv")
        self._results["info_file"] = write_json(
            _info(seeds, placed, groups), folder / "seeds.json"
        )
        return runtime

    def _head(self) -> tuple[Head, NDArray]:
        """Grey matter with the map to the template, and the labels on the same grid."""
        gm, image = load(self.inputs.gm_file)
        labels, _ = load(self.inputs.labels_file, np.int32)
        warp, warp_affine = load_warp(self.inputs.to_template_file)
        return Head(gm, np.asarray(image.affine), warp, warp_affine), labels

    def _place(
        self, seed: Seed, voxels: BoldVoxels, head: Head, found: LabelShares, size: float
    ) -> Placed:
        """One seed, with its mask where it is one."""
        path = seed.file
        if seed.kind == "voxel" and isdefined(self.inputs.mrs_voxel_file):
            path = self.inputs.mrs_voxel_file
        mask = None
        if path:
            # a box of white matter alone is nobody's mistake: the seed says that it has no voxels
            mask = (
                read_mask(path, native=True)
                if seed.kind == "voxel"
                else read_mask(path, seed.space == T1W, head)
            )
        return place_seed(seed, voxels, head, found, self.inputs.regions, size, mask)


def _table(areas: Sequence[Placed]) -> pd.DataFrame:
    """One row for each seed or region, in the order of the volumes."""
    rows = [
        (index, area.name, area.side, int(area.members.sum()), area.coverage, area.reason)
        for index, area in enumerate(areas)
    ]
    return pd.DataFrame(rows, columns=["volume", "name", "side", "n_voxels", "coverage", "reason"])


def _label_table(
    belongs: NDArray, names: Mapping[int, str], sides: Mapping[int, str]
) -> pd.DataFrame:
    """One row for each label of the atlas."""
    counts = np.bincount(belongs.ravel(), minlength=max(names) + 1)
    rows = [
        (label, names[label], sides.get(label, ""), int(counts[label])) for label in sorted(names)
    ]
    return pd.DataFrame(rows, columns=["index", "name", "side", "n_voxels"])


def _info(
    seeds: Sequence[Seed], placed: Sequence[Placed], groups: Sequence[Placed]
) -> dict[str, Any]:
    """What the stream says of its seeds."""
    motor = next((g for g in groups if (g.name, g.side) == (MOTOR, "both")), None)
    known = motor is not None and np.isfinite(motor.coverage)
    return {
        "seeds": [
            {"name": seed.name, "kind": seed.kind, "n_voxels": int(area.members.sum()),
             "reason": area.reason}
            for seed, area in zip(seeds, placed, strict=True)
        ],
        "motor_coverage": round(motor.coverage, 4) if motor is not None and known else None,
        "notes": [
            f"the seed {area.name} is not available: {area.reason}"
            for area in placed if area.reason and area.reason != NO_VOXEL
        ],
    }  # fmt: skip
