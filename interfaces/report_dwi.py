"""Pictures of the diffusion stream of one person as files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits

from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.drawing import Drawing, on_grid, read_table
from alsflow.interfaces.images import load
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.report.diffusion import draw_colour_fa, draw_tracts
from alsflow.nodes.report.diffusion_charts import draw_histograms, draw_motion, draw_profiles

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z",
          "framewise_displacement", "outlier_slices", "b0")  # fmt: skip
PROFILE = ("tract", "side", "metric", "node", "mean", "sd")


class _DrawTensorInputSpec(CodedInputSpec):
    fa_file = File(exists=True, mandatory=True, desc="fractional anisotropy")
    md_file = File(exists=True, mandatory=True, desc="mean diffusivity, mm2/s, grid of fa_file")
    directions_file = File(
        exists=True, mandatory=True, desc="main direction, 3 volumes, RAS+ world, grid of fa_file"
    )
    mask_file = File(exists=True, mandatory=True, desc="brain mask, grid of fa_file")


class _DrawTensorOutputSpec(TraitedSpec):
    colour_file = File(exists=True, desc="main direction as colour, PNG")
    histogram_file = File(exists=True, desc="histograms of FA and MD in the brain, PNG")


class DrawTensor(Drawing, CodedInterface):
    """Draw the tensor maps; see `nodes.report.diffusion`."""

    input_spec = _DrawTensorInputSpec
    output_spec = _DrawTensorOutputSpec
    _code = (draw_colour_fa, draw_histograms)

    def _figures(self) -> dict[str, Figure]:
        fa, image = load(self.inputs.fa_file)
        md, directions, mask = (
            on_grid(path, image)
            for path in (self.inputs.md_file, self.inputs.directions_file, self.inputs.mask_file)
        )
        brain = mask > 0
        return {
            "colour": draw_colour_fa(fa, directions, brain, image.affine),
            "histogram": draw_histograms(fa, md, brain),
        }


class _DrawTractsInputSpec(CodedInputSpec):
    fa_file = File(exists=True, mandatory=True, desc="fractional anisotropy")
    mask_file = File(exists=True, mandatory=True, desc="brain mask, grid of fa_file")
    tracts_file = File(
        exists=True, mandatory=True, desc="weight of each tract, one volume each, grid of fa_file"
    )
    names = traits.List(traits.Str, mandatory=True, desc="name of each volume of tracts_file")
    shown = traits.List(traits.Str, desc="names of those drawn, at most 7; by default the first")


class _DrawTractsOutputSpec(TraitedSpec):
    tracts_file = File(exists=True, desc="tracts over FA, PNG")


class DrawTracts(Drawing, CodedInterface):
    """Draw tracts over the anisotropy; see `nodes.report.diffusion`."""

    input_spec = _DrawTractsInputSpec
    output_spec = _DrawTractsOutputSpec
    _code = (draw_tracts,)

    def _figures(self) -> dict[str, Figure]:
        fa, image = load(self.inputs.fa_file)
        mask = on_grid(self.inputs.mask_file, image)
        weights = on_grid(self.inputs.tracts_file, image)
        weights = weights.reshape(*fa.shape, -1)
        names = self.inputs.names
        if len(names) != weights.shape[-1]:
            raise BadInputError(
                f"{Path(self.inputs.tracts_file).name} holds {weights.shape[-1]} tracts, "
                f"and {len(names)} names are given"
            )
        shown = self.inputs.shown if isdefined(self.inputs.shown) else names
        tracts = {name: weights[..., names.index(name)] for name in shown}
        return {"tracts": draw_tracts(fa, mask > 0, image.affine, tracts)}


class _DrawProfilesInputSpec(CodedInputSpec):
    profiles_file = File(
        exists=True, mandatory=True, desc="TSV: tract, side, metric, node, mean, sd"
    )


class _DrawProfilesOutputSpec(TraitedSpec):
    profiles_file = File(exists=True, desc="measures along tracts, PNG")


class DrawProfiles(Drawing, CodedInterface):
    """Draw measures along tracts; see `nodes.report.diffusion_charts`."""

    input_spec = _DrawProfilesInputSpec
    output_spec = _DrawProfilesOutputSpec
    _code = (draw_profiles,)

    def _figures(self) -> dict[str, Figure]:
        return {"profiles": draw_profiles(read_table(self.inputs.profiles_file, PROFILE))}


class _DrawMotionInputSpec(CodedInputSpec):
    motion_file = File(exists=True, mandatory=True, desc=f"TSV, a row per volume: {MOTION}")


class _DrawMotionOutputSpec(TraitedSpec):
    motion_file = File(exists=True, desc="movement and lost slices over the series, PNG")


class DrawMotion(Drawing, CodedInterface):
    """Draw the movement of the head; see `nodes.report.diffusion_charts`."""

    input_spec = _DrawMotionInputSpec
    output_spec = _DrawMotionOutputSpec
    _code = (draw_motion,)

    def _figures(self) -> dict[str, Figure]:
        columns = read_table(self.inputs.motion_file, MOTION)[list(MOTION)].to_numpy(float).T
        *_, fd, outliers, b0 = columns
        return {"motion": draw_motion(columns[:3].T, columns[3:6].T, fd, outliers, b0 > 0)}
