"""Small steps between the larger ones of the diffusion stream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, TraitedSpec, traits

from alsflow.interfaces.anat import atlas_mask
from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.dwi_prep import read_gradients, read_runs
from alsflow.interfaces.images import load, save
from alsflow.interfaces.template import template_file
from alsflow.interfaces.warps import load_warp, save_warp
from alsflow.nodes.dwi.measures import colour_coded
from alsflow.nodes.dwi.steady import steadied

BRAINSTEM = ("Brain_Stem", "Ventral_DC")  # labels of the Neuromorphometrics atlas


class _FirstB0InputSpec(CodedInputSpec):
    dwi_file = File(exists=True, mandatory=True, desc="diffusion series")
    gradients_file = File(exists=True, mandatory=True, desc="its weighting")
    run = traits.Int(0, usedefault=True, desc="run, counted from 0")


class _FirstB0OutputSpec(TraitedSpec):
    b0_file = File(exists=True, desc="first volume of the run without diffusion weighting")


class FirstB0(CodedInterface):
    """Take the first volume without diffusion weighting out of one run of a series."""

    input_spec = _FirstB0InputSpec
    output_spec = _FirstB0OutputSpec
    _code = (load,)

    def _run_interface(self, runtime):
        signal, image = load(self.inputs.dwi_file)
        runs = read_runs(self.inputs.gradients_file)
        b0 = read_gradients(self.inputs.gradients_file).b0
        first = int(np.flatnonzero(b0 & (runs == self.inputs.run))[0])
        path = Path(runtime.cwd) / "b0.nii.gz"
        self._results["b0_file"] = save(signal[..., first], image.affine, path)
        return runtime


class _ColourFaInputSpec(CodedInputSpec):
    fa_file = File(exists=True, mandatory=True, desc="fractional anisotropy")
    direction_file = File(exists=True, mandatory=True, desc="principal direction, world")


class _ColourFaOutputSpec(TraitedSpec):
    color_file = File(exists=True, desc="colour-coded anisotropy, 0 to 255, 3 volumes")


class ColourFa(CodedInterface):
    """Colour the anisotropy by its direction; see `nodes.dwi.measures.colour_coded`."""

    input_spec = _ColourFaInputSpec
    output_spec = _ColourFaOutputSpec
    _code = (colour_coded,)

    def _run_interface(self, runtime):
        fa, image = load(self.inputs.fa_file)
        colour = colour_coded(fa, load(self.inputs.direction_file)[0])
        path = Path(runtime.cwd) / "color.nii.gz"
        self._results["color_file"] = save(colour, image.affine, path)
        return runtime


class _BrainSeenInputSpec(CodedInputSpec):
    mask_file = File(exists=True, mandatory=True, desc="brain")
    seen_file = File(exists=True, mandatory=True, desc="inside the field of view of every volume")


class _BrainSeenOutputSpec(TraitedSpec):
    mask_file = File(exists=True, desc="brain that every volume shows")


class BrainSeen(CodedInterface):
    """Brain inside the field of view of every volume."""

    input_spec = _BrainSeenInputSpec
    output_spec = _BrainSeenOutputSpec
    _code = (load,)

    def _run_interface(self, runtime):
        mask, image = load(self.inputs.mask_file)
        seen = load(self.inputs.seen_file)[0]
        path = Path(runtime.cwd) / "mask.nii.gz"
        self._results["mask_file"] = save((mask > 0) & (seen > 0), image.affine, path)
        return runtime


class _SteadyWarpInputSpec(CodedInputSpec):
    to_template_file = File(exists=True, mandatory=True, desc="field on a T1w grid")


class _SteadyWarpOutputSpec(TraitedSpec):
    to_template_file = File(exists=True, desc="the same, smoothed for tracts")


class SteadyWarp(CodedInterface):
    """Smooth the map to the template for tracts; see `nodes.dwi.steady`."""

    input_spec = _SteadyWarpInputSpec
    output_spec = _SteadyWarpOutputSpec
    _code = (steadied,)

    def _run_interface(self, runtime):
        points, affine = load_warp(self.inputs.to_template_file)
        template = load(template_file("gm"))[1]
        stem = atlas_mask(BRAINSTEM, template.shape, template.affine)
        calm = steadied(points, affine, stem, template.affine)
        path = Path(runtime.cwd) / "to_template.nii.gz"
        self._results["to_template_file"] = save_warp(calm, affine, path)
        return runtime
