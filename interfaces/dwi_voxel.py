"""Files of the diffusion measures in the spectroscopy voxel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits

from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.images import load
from alsflow.interfaces.volumes import write_table
from alsflow.nodes.dwi.measures import METRICS
from alsflow.nodes.dwi.voxel import missing_voxel, share_on_series, voxel_table
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import same_grid
from alsflow.nodes.mrs.voxel import NO_VOXEL


class _MeasureVoxelInputSpec(CodedInputSpec):
    fa_file = File(exists=True, mandatory=True, desc="fractional anisotropy")
    md_file = File(exists=True, mandatory=True, desc="mean diffusivity, mm2/s")
    ad_file = File(exists=True, mandatory=True, desc="axial diffusivity, mm2/s")
    rd_file = File(exists=True, mandatory=True, desc="radial diffusivity, mm2/s")
    mask_file = File(exists=True, mandatory=True, desc="brain that every volume shows, its grid")
    matrix_file = File(exists=True, mandatory=True, desc="text, 4 x 4: diffusion mm to T1w mm")
    wm_file = File(exists=True, mandatory=True, desc="fraction of white matter, T1w head")
    csf_file = File(exists=True, mandatory=True, desc="fraction of CSF, T1w head")
    mrs_voxel_file = File(exists=True, desc="mask of the MRS voxel, grid of wm_file")
    most_csf = traits.Range(
        low=0.0, high=1.0, value=0.2, usedefault=True, desc="voxels with more are left out"
    )
    least_coverage = traits.Range(
        low=0.0, high=1.0, value=0.7, usedefault=True,
        desc="share of the voxel's white matter that must be in view",
    )  # fmt: skip


class _MeasureVoxelOutputSpec(TraitedSpec):
    voxel_file = File(exists=True, desc="table: one row for each map")


class MeasureVoxel(CodedInterface):
    """Measure maps in the white matter of the MRS voxel; see `nodes.dwi.voxel`.

    Without a voxel the table says so in every row.
    """

    input_spec = _MeasureVoxelInputSpec
    output_spec = _MeasureVoxelOutputSpec
    _code = (missing_voxel, share_on_series, voxel_table)

    def _run_interface(self, runtime):
        known = isdefined(self.inputs.mrs_voxel_file)
        table = self._table() if known else missing_voxel(METRICS, NO_VOXEL)
        path = Path(runtime.cwd) / "voxel.tsv"
        self._results["voxel_file"] = write_table(table, path)
        return runtime

    def _table(self):
        given = self.inputs
        maps = {name: load(getattr(given, f"{name}_file"))[0] for name in METRICS}
        mask, series = load(given.mask_file)
        box, image = load(given.mrs_voxel_file)
        wm, head = load(given.wm_file)
        if not same_grid(box.shape, image.affine, wm.shape, head.affine):
            raise BadInputError(
                f"{Path(given.mrs_voxel_file).name} and {Path(given.wm_file).name} are on "
                "different grids; place the MRS voxel on the T1-weighted image of this visit"
            )
        matrix = np.loadtxt(given.matrix_file)
        csf, fluid = load(given.csf_file)
        wet = share_on_series(csf, fluid.affine, matrix, mask.shape, series.affine)
        brain = mask > 0
        return voxel_table(
            maps, wm * (box > 0), head.affine, matrix, brain & (wet <= given.most_csf), brain,
            series.affine, given.least_coverage,
        )  # fmt: skip
