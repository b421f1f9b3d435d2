"""Files of normalisation: transforms, warped and modulated maps, atlases in native space."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, TraitedSpec, traits
from numpy.typing import NDArray

from alsflow.interfaces.anat import read_template, write_json
from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.images import load, save
from alsflow.interfaces.warps import load_warp, save_warp
from alsflow.nodes.anat.normalise import (
    fit_metrics,
    judge_fit,
    modulated,
    normalise,
    shrink,
    smoothed,
    warped,
)
from alsflow.nodes.anat.shooting import shoot
from alsflow.nodes.anat.volumes import coarse_points, labels_at
from alsflow.nodes.atlas import fill_gaps
from alsflow.nodes.geometry import grid_over, grid_points

NATIVE_VOXEL = 2.0  # mm, grid on which the smooth map from native to template space is kept
GAP_REACH = 3.0  # mm from a label within which unlabelled voxels take it


def template_maps(voxel: float) -> tuple[tuple[NDArray, NDArray], NDArray]:
    """Grey and white matter of the template on a grid of `voxel` mm, and its affine.

    The template's maps call the pallidum and part of the thalamus white; the segmentation calls
    them grey, as anatomy does. Left as they are, the striatum would be stretched over them.
    """
    template = read_template()
    gm = template.gm + template.deep * template.wm
    wm = (1 - template.deep) * template.wm
    shape, affine = grid_over(gm.shape, template.affine, voxel)
    grey, white = (shrink(data, template.affine, shape, affine) for data in (gm, wm))
    return (grey, white), affine


class _NormaliseInputSpec(CodedInputSpec):
    gm_file = File(exists=True, mandatory=True, desc="fraction of grey matter, native")
    wm_file = File(exists=True, mandatory=True, desc="fraction of white matter, native")
    affine_file = File(exists=True, mandatory=True, desc="text, 4 x 4: template mm to T1w mm")
    method = traits.Enum("greedy", "shooting", usedefault=True, desc="registration")
    voxel = traits.Float(1.5, usedefault=True, desc="grid of template space, mm")


class _NormaliseOutputSpec(TraitedSpec):
    to_native_file = File(exists=True, desc="field on the template grid: pulls native images")
    to_template_file = File(exists=True, desc="field on a native grid: pulls template images")
    jacobian_file = File(exists=True, desc="native per template volume; 0 outside the view")


class Normalise(CodedInterface):
    """Warp tissue maps onto the template; see `nodes.anat.normalise` and `.shooting`."""

    input_spec = _NormaliseInputSpec
    output_spec = _NormaliseOutputSpec
    _code = (normalise, shoot, shrink)

    def _run_interface(self, runtime):
        gm, image = load(self.inputs.gm_file)
        wm, _ = load(self.inputs.wm_file)
        start = np.loadtxt(self.inputs.affine_file)
        template, affine = template_maps(self.inputs.voxel)
        grid = grid_over(gm.shape, image.affine, NATIVE_VOXEL)
        register = {"greedy": normalise, "shooting": shoot}[self.inputs.method]
        found = register((gm, wm), image.affine, template, affine, start, grid)
        folder = Path(runtime.cwd)
        self._results["to_native_file"] = save_warp(
            found.to_native, affine, folder / "to_native.nii.gz"
        )
        self._results["to_template_file"] = save_warp(
            found.to_template, grid[1], folder / "to_template.nii.gz"
        )
        self._results["jacobian_file"] = save(found.jacobian, affine, folder / "jacobian.nii.gz")
        return runtime


class _WarpMapsInputSpec(CodedInputSpec):
    t1w_file = File(exists=True, mandatory=True, desc="T1-weighted image, native")
    gm_file = File(exists=True, mandatory=True, desc="fraction of grey matter, native")
    wm_file = File(exists=True, mandatory=True, desc="fraction of white matter, native")
    to_native_file = File(exists=True, mandatory=True, desc="field on the template grid")
    jacobian_file = File(exists=True, mandatory=True, desc="native per template volume")


class _WarpMapsOutputSpec(TraitedSpec):
    t1w_file = File(exists=True, desc="T1-weighted image in template space")
    gm_file = File(exists=True, desc="grey matter in template space")
    wm_file = File(exists=True, desc="white matter in template space")
    modulated_gm_file = File(exists=True, desc="grey matter times the change of volume")
    modulated_wm_file = File(exists=True, desc="white matter times the change of volume")
    fit_file = File(exists=True, desc="JSON: flags and metrics of the normalisation")


class WarpMaps(CodedInterface):
    """Bring native maps into template space; see `nodes.anat.normalise`."""

    input_spec = _WarpMapsInputSpec
    output_spec = _WarpMapsOutputSpec
    _code = (warped, modulated, fit_metrics, judge_fit, shrink)

    def _run_interface(self, runtime):
        to_native, affine = load_warp(self.inputs.to_native_file)
        change, _ = load(self.inputs.jacobian_file)
        folder = Path(runtime.cwd)
        images = {}
        for name in ("t1w", "gm", "wm"):
            data, image = load(getattr(self.inputs, f"{name}_file"))
            images[name] = warped(data, image.affine, to_native)
            if name != "t1w":
                images[f"modulated_{name}"] = modulated(data, image.affine, to_native, change)
        for name, data in images.items():
            self._results[f"{name}_file"] = save(data, affine, folder / f"{name}.nii.gz")
        template, _ = template_maps(float(np.linalg.norm(affine[:3, 0])))
        metrics = fit_metrics((images["gm"], images["wm"]), template, change)
        flags = [asdict(flag) for flag in judge_fit(metrics)]
        content = {"flags": flags, "metrics": metrics}
        self._results["fit_file"] = write_json(content, folder / "fit.json")
        return runtime


class _SmoothInputSpec(CodedInputSpec):
    in_file = File(exists=True, mandatory=True, desc="map")
    fwhm = traits.Float(8.0, usedefault=True, desc="full width at half maximum, mm")


class _SmoothOutputSpec(TraitedSpec):
    out_file = File(exists=True, desc="smoothed map")


class Smooth(CodedInterface):
    """Convolve with a Gaussian; see `nodes.anat.normalise.smoothed`."""

    input_spec = _SmoothInputSpec
    output_spec = _SmoothOutputSpec
    _code = (smoothed,)

    def _run_interface(self, runtime):
        data, image = load(self.inputs.in_file)
        path = Path(runtime.cwd) / "smoothed.nii.gz"
        wide = smoothed(data, image.affine, self.inputs.fwhm)
        self._results["out_file"] = save(wide, image.affine, path)
        return runtime


class _LabelNativeInputSpec(CodedInputSpec):
    atlas_file = File(exists=True, mandatory=True, desc="labels in template space")
    to_template_file = File(exists=True, mandatory=True, desc="field on a native grid")
    mask_file = File(exists=True, mandatory=True, desc="brain mask on the native grid wanted")


class _LabelNativeOutputSpec(TraitedSpec):
    labels_file = File(exists=True, desc="labels in native space, inside the mask")


class LabelNative(CodedInterface):
    """Warp an atlas into native space, its gaps closed; see `nodes.anat.volumes`."""

    input_spec = _LabelNativeInputSpec
    output_spec = _LabelNativeOutputSpec
    _code = (labels_at, coarse_points, fill_gaps)

    def _run_interface(self, runtime):
        labels, atlas = load(self.inputs.atlas_file, np.int32)
        filled = fill_gaps(labels, atlas.affine, GAP_REACH)
        points, affine = load_warp(self.inputs.to_template_file)
        mask, image = load(self.inputs.mask_file)
        inside = mask > 0
        where = grid_points(image.shape[:3], image.affine)[:, inside]
        native = np.zeros(image.shape[:3], np.int32)
        native[inside] = labels_at(filled, atlas.affine, coarse_points(points, affine, where))
        path = Path(runtime.cwd) / "labels.nii.gz"
        self._results["labels_file"] = save(native.astype(np.int16), image.affine, path)
        return runtime
