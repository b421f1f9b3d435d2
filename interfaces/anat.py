"""Files of the anatomical stream: from a T1-weighted image to tissue maps and their quality."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
import pandas as pd
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits
from numpy.typing import NDArray

from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.images import UNREADABLE, check_packed, load, reason, save
from alsflow.interfaces.template import bundled_atlas, template_file
from alsflow.interfaces.whole import whole
from alsflow.nodes.anat.bias import brain_field, divided
from alsflow.nodes.anat.brain import locate_brain, on_grid
from alsflow.nodes.anat.conform import conform
from alsflow.nodes.anat.denoise import denoise
from alsflow.nodes.anat.priors import Template
from alsflow.nodes.anat.quality import expected_here, judge, measure_quality
from alsflow.nodes.anat.tissue import TissueSettings, segment
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import resample, voxel_sizes

DEEP_GREY = ("Thalamus", "Caudate", "Putamen", "Pallidum", "Accumbens")
BARE = ("Ventricle", "Inf_Lat_Vent", "Brain_Stem", "Ventral_DC")
REGIONS = {"region_cerebellum": ("Cerebell",)}


def read_volume(path: str | Path, narrow: bool = False) -> tuple[NDArray, NDArray]:
    """Scaled data and affine of an image; a file that is none or is damaged is refused in words.

    The checksum of compressed files is read too, which takes 7 to 9 ms per MB.
    With `narrow` the volumes of a real series come as float32, read one by one: scaling the whole
    at once would take four times its memory.
    """
    name = Path(path).name
    try:
        image = cast(nib.Nifti1Image, nib.load(path, keep_file_open=narrow))
        by_volume = narrow and image.ndim == 4 and image.get_data_dtype().kind in "iuf"
        data = _volumes(image) if by_volume else np.asanyarray(image.dataobj)
        check_packed(path)
    except UNREADABLE as error:
        damaged = isinstance(error, EOFError | zlib.error)
        what = "is truncated or damaged" if damaged else "cannot be read as an image"
        mend = "copy it again" if damaged else "convert or copy it again"
        raise BadInputError(f"{name} {what} ({reason(error, path)}); {mend}") from error
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    return data, np.asarray(image.affine)


def _volumes(image: nib.Nifti1Image) -> NDArray:
    """Scaled series, float32, in the order of the file."""
    data = np.empty(image.shape, np.float32, order="F")
    for volume in range(image.shape[3]):
        data[..., volume] = image.dataobj[..., volume]
    return data


def atlas_mask(names: tuple[str, ...], shape: tuple[int, ...], affine: NDArray) -> NDArray:
    """Share of each template voxel inside the Neuromorphometrics labels whose name has `names`."""
    image_file, table_file = bundled_atlas("neuromorphometrics")
    table = pd.read_csv(table_file)
    chosen = table["index"][table["name"].str.contains("|".join(names))]
    labels, image = load(image_file, np.int32)
    member = np.isin(labels, chosen.to_numpy()).astype(np.float32)
    return resample(member, image.affine, shape, affine)


def read_template() -> Template:
    """Template's brain, tissue maps and grey nuclei from the installed packages."""
    t1w, image = load(template_file("t1"))
    gm, wm = (load(template_file(kind))[0] / 255 for kind in ("gm", "wm"))
    deep = atlas_mask(DEEP_GREY, t1w.shape, image.affine)
    bare = atlas_mask(BARE, t1w.shape, image.affine)
    return Template(image.affine, t1w, gm, wm, deep, bare)


def write_json(content: dict, path: Path) -> str:
    """Write JSON whole or not at all; returns its path as text."""
    with whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return str(path)


class _LoadT1wInputSpec(CodedInputSpec):
    in_file = File(exists=True, mandatory=True, desc="T1-weighted image in any orientation")


class _LoadT1wOutputSpec(TraitedSpec):
    t1w_file = File(exists=True, desc="the same samples in RAS+ order, float32")


class LoadT1w(CodedInterface):
    """Check one T1-weighted image and bring it into RAS+; see `nodes.anat.conform`."""

    input_spec = _LoadT1wInputSpec
    output_spec = _LoadT1wOutputSpec
    _code = (conform,)

    def _run_interface(self, runtime):
        name = Path(self.inputs.in_file).name
        data, affine = read_volume(self.inputs.in_file)
        try:
            volume, affine = conform(data, affine)
        except BadInputError as error:
            raise BadInputError(f"{name} {error}") from error
        self._results["t1w_file"] = save(volume, affine, Path(runtime.cwd) / "t1w.nii.gz")
        return runtime


class _FindBrainInputSpec(CodedInputSpec):
    t1w_file = File(exists=True, mandatory=True, desc="T1-weighted head, RAS+")


class _FindBrainOutputSpec(TraitedSpec):
    mask_file = File(exists=True, desc="rough brain mask, grid of t1w_file")
    affine_file = File(exists=True, desc="text, 4 x 4: template mm to T1w mm")


class FindBrain(CodedInterface):
    """Find the brain roughly and place the template on it; see `nodes.anat.brain`."""

    input_spec = _FindBrainInputSpec
    output_spec = _FindBrainOutputSpec
    _code = (locate_brain, on_grid)

    def _run_interface(self, runtime):
        volume, image = load(self.inputs.t1w_file)
        template, template_image = load(template_file("t1"))
        brain, start = locate_brain(volume, image.affine, template, template_image.affine)
        mask = on_grid(brain.mask, brain.affine, volume.shape, image.affine)
        folder = Path(runtime.cwd)
        np.savetxt(folder / "template_to_t1w.txt", start, fmt="%.10g")
        self._results["mask_file"] = save(mask, image.affine, folder / "rough_mask.nii.gz")
        self._results["affine_file"] = str(folder / "template_to_t1w.txt")
        return runtime


class _DenoiseInputSpec(CodedInputSpec):
    t1w_file = File(exists=True, mandatory=True, desc="T1-weighted head, RAS+")
    mask_file = File(exists=True, mandatory=True, desc="rough brain mask, grid of t1w_file")


class _DenoiseOutputSpec(TraitedSpec):
    t1w_file = File(exists=True, desc="T1-weighted head, denoised around the brain")


class Denoise(CodedInterface):
    """Remove noise by adaptive non-local means; see `nodes.anat.denoise`."""

    input_spec = _DenoiseInputSpec
    output_spec = _DenoiseOutputSpec
    _code = (denoise,)

    def _run_interface(self, runtime):
        volume, image = load(self.inputs.t1w_file)
        mask, _ = load(self.inputs.mask_file)
        cleaned = denoise(volume, mask > 0, voxel_sizes(image.affine))
        path = Path(runtime.cwd) / "t1w_denoised.nii.gz"
        self._results["t1w_file"] = save(cleaned, image.affine, path)
        return runtime


class _CorrectBiasInputSpec(CodedInputSpec):
    t1w_file = File(exists=True, mandatory=True, desc="T1-weighted head, RAS+")
    mask_file = File(exists=True, mandatory=True, desc="rough brain mask, grid of t1w_file")


class _CorrectBiasOutputSpec(TraitedSpec):
    t1w_file = File(exists=True, desc="T1-weighted head without slow non-uniformity")
    bias_file = File(exists=True, desc="field that was divided out, 1 on average in the brain")


class CorrectBias(CodedInterface):
    """Divide out the receive field found by N4 in the brain; see `nodes.anat.bias`."""

    input_spec = _CorrectBiasInputSpec
    output_spec = _CorrectBiasOutputSpec
    _code = (brain_field, divided)

    def _run_interface(self, runtime):
        volume, image = load(self.inputs.t1w_file)
        mask, _ = load(self.inputs.mask_file)
        field = brain_field(volume, voxel_sizes(image.affine), mask > 0)
        folder = Path(runtime.cwd)
        even = divided(volume, field)
        self._results["t1w_file"] = save(even, image.affine, folder / "t1w_even.nii.gz")
        self._results["bias_file"] = save(field, image.affine, folder / "bias.nii.gz")
        return runtime


class _SegmentTissueInputSpec(CodedInputSpec):
    t1w_file = File(exists=True, mandatory=True, desc="T1-weighted head, denoised and even, RAS+")
    bias_file = File(exists=True, mandatory=True, desc="field already divided out of t1w_file")
    mask_file = File(exists=True, mandatory=True, desc="rough brain mask, grid of t1w_file")
    affine_file = File(exists=True, mandatory=True, desc="text, 4 x 4: template mm to T1w mm")
    rounds = traits.Range(low=1, high=4, value=2, usedefault=True, desc="of fit and warp")


class _SegmentTissueOutputSpec(TraitedSpec):
    gm_file = File(exists=True, desc="fraction of grey matter, grid of t1w_file")
    wm_file = File(exists=True, desc="fraction of white matter")
    csf_file = File(exists=True, desc="fraction of CSF; the three sum to 1 in the mask")
    mask_file = File(exists=True, desc="brain with its CSF: the intracranial space")
    t1w_file = File(exists=True, desc="T1-weighted head, denoised, residual bias removed")
    bias_file = File(exists=True, desc="whole field that was divided out")
    model_file = File(exists=True, desc="JSON: means, deviations and shares of the classes")


class SegmentTissue(CodedInterface):
    """Find tissue fractions and the final mask; see `nodes.anat.tissue`."""

    input_spec = _SegmentTissueInputSpec
    output_spec = _SegmentTissueOutputSpec
    _code = (segment, divided)

    def _run_interface(self, runtime):
        volume, image = load(self.inputs.t1w_file)
        field, _ = load(self.inputs.bias_file)
        rough, _ = load(self.inputs.mask_file)
        start = np.loadtxt(self.inputs.affine_file)
        settings = TissueSettings(rounds=self.inputs.rounds)
        found = segment(volume, image.affine, rough > 0, start, read_template(), settings)
        folder = Path(runtime.cwd)
        for name, data in (
            ("gm", found.gm),
            ("wm", found.wm),
            ("csf", found.csf),
            ("mask", found.mask),
            ("t1w", divided(volume, found.residual)),
            ("bias", field * found.residual),
        ):
            self._results[f"{name}_file"] = save(data, image.affine, folder / f"{name}.nii.gz")
        self._results["model_file"] = write_json(found.model, folder / "model.json")
        return runtime


class _JudgeSegmentationInputSpec(CodedInputSpec):
    raw_file = File(exists=True, mandatory=True, desc="T1-weighted head as loaded")
    t1w_file = File(exists=True, mandatory=True, desc="T1-weighted head, denoised and even")
    bias_file = File(exists=True, desc="whole field that was divided out, if it is known")
    gm_file = File(exists=True, mandatory=True, desc="fraction of grey matter")
    wm_file = File(exists=True, mandatory=True, desc="fraction of white matter")
    csf_file = File(exists=True, mandatory=True, desc="fraction of CSF")
    mask_file = File(exists=True, mandatory=True, desc="brain mask")
    affine_file = File(exists=True, mandatory=True, desc="text, 4 x 4: template mm to T1w mm")


class _JudgeSegmentationOutputSpec(TraitedSpec):
    qc_file = File(exists=True, desc="JSON: flags with reasons, and metrics")


class JudgeSegmentation(CodedInterface):
    """Measure the quality of a segmentation and flag failures; see `nodes.anat.quality`."""

    input_spec = _JudgeSegmentationInputSpec
    output_spec = _JudgeSegmentationOutputSpec
    _code = (measure_quality, expected_here, judge)

    def _run_interface(self, runtime):
        raw, image = load(self.inputs.raw_file)
        corrected, _ = load(self.inputs.t1w_file)
        known_bias = isdefined(self.inputs.bias_file)
        bias = load(self.inputs.bias_file)[0] if known_bias else np.ones_like(raw)
        mask, _ = load(self.inputs.mask_file)
        tissues = {k: load(getattr(self.inputs, f"{k}_file"))[0] for k in ("gm", "wm", "csf")}
        start = np.loadtxt(self.inputs.affine_file)
        template = read_template()
        maps = {"brain": template.brain, "wm": template.wm}
        for name, labels in REGIONS.items():
            maps[name] = atlas_mask(labels, template.t1w.shape, template.affine)
        expected = expected_here(maps, template.affine, start, raw.shape, image.affine)
        metrics = measure_quality(raw, corrected, bias, tissues, mask > 0, image.affine, expected)
        flags = [asdict(flag) for flag in judge(metrics)]
        known = {name: value if np.isfinite(value) else None for name, value in metrics.items()}
        path = Path(runtime.cwd) / "qc.json"
        self._results["qc_file"] = write_json({"flags": flags, "metrics": known}, path)
        return runtime
