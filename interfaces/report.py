"""Pictures of one person as files, small and the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import matplotlib
import nibabel as nib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits
from numpy.typing import NDArray
from PIL import Image

from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.images import load
from alsflow.interfaces.whole import whole
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import same_grid
from alsflow.nodes.report.anatomy import (
    draw_atlas,
    draw_outline,
    draw_template,
    draw_tissue,
    palette,
)

GREYS = (40, 20, 10)  # levels of grey; the first whose file is small enough is taken
LARGEST = 280_000  # bytes of one picture
SAME_PLACE = 0.01  # mm; grids whose corners differ by less are one grid


def save_png(figure: Figure, path: str | Path) -> str:
    """Write a figure of greys and few colours as PNG; see `write_smallest`."""
    picture = pixels(figure)
    return write_smallest((_in_greys(picture, greys) for greys in GREYS), path)


def pixels(figure: Figure) -> Image.Image:
    """Figure as it is drawn, without transparency."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _in_greys(picture: Image.Image, greys: int) -> Image.Image:
    colours = Image.new("P", (1, 1))
    colours.putpalette(palette(greys).tobytes())
    return picture.quantize(palette=colours, dither=Image.Dither.NONE)


def write_smallest(variants: Iterable[Image.Image], path: str | Path) -> str:
    """Write the first variant that is small enough, else the last, whole or not at all.

    The PNG holds neither date nor software.
    """
    data = b""
    for variant in variants:
        stream = io.BytesIO()
        variant.save(stream, "PNG", optimize=True)
        data = stream.getvalue()
        if len(data) <= LARGEST:
            break
    path = Path(path)
    with whole(path) as partial:
        partial.write_bytes(data)
    return str(path)


def require_same_grid(first: nib.Nifti1Image, second: nib.Nifti1Image) -> None:
    """Refuse two images that do not lie on one grid."""
    if not same_grid(first.shape, first.affine, second.shape, second.affine, SAME_PLACE):
        raise BadInputError(
            f"{first.get_filename()} and {second.get_filename()} do not lie on the same grid; "
            "both must come from the same run."
        )


class _DrawAnatomyInputSpec(CodedInputSpec):
    t1w_file = File(exists=True, mandatory=True, desc="head, native space")
    mask_file = File(exists=True, mandatory=True, desc="brain mask, grid of t1w_file")
    gm_file = File(exists=True, mandatory=True, desc="grey-matter probability, grid of t1w_file")
    wm_file = File(exists=True, mandatory=True, desc="white-matter probability, same grid")
    csf_file = File(exists=True, mandatory=True, desc="CSF probability, same grid")
    atlas_file = File(exists=True, mandatory=True, desc="cortical labels in native space")
    regions = traits.Dict(
        traits.Str, traits.List(traits.Int), mandatory=True,
        desc="name shown and labels of each region drawn from atlas_file",
    )  # fmt: skip
    deep_atlas_file = File(exists=True, desc="labels in native space of another atlas")
    deep_regions = traits.Dict(
        traits.Str, traits.List(traits.Int),
        desc="name shown and labels of each region drawn from deep_atlas_file",
    )  # fmt: skip
    warped_file = File(exists=True, mandatory=True, desc="the person's image in template space")
    template_gm_file = File(exists=True, mandatory=True, desc="grey matter of the template")
    template_wm_file = File(exists=True, mandatory=True, desc="white matter of the template")


class _DrawAnatomyOutputSpec(TraitedSpec):
    outline_file = File(exists=True, desc="brain mask on the head, PNG")
    tissue_file = File(exists=True, desc="tissue borders on the head, PNG")
    atlas_file = File(exists=True, desc="measured regions on the head, PNG")
    template_file = File(exists=True, desc="template borders on the warped image, PNG")


class DrawAnatomy(CodedInterface):
    """Draw the four pictures of the anatomical stream; see `nodes.report.anatomy`."""

    input_spec = _DrawAnatomyInputSpec
    output_spec = _DrawAnatomyOutputSpec
    _code = (draw_outline, draw_tissue, draw_atlas, draw_template, save_png)

    def _run_interface(self, runtime):
        # what a user's matplotlibrc says must not change a picture
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            figures = {**self._native(), "template": self._template()}
            for name, figure in figures.items():
                path = Path(runtime.cwd) / f"{name}.png"
                self._results[f"{name}_file"] = save_png(figure, path)
        return runtime

    def _native(self) -> dict[str, Figure]:
        inputs = self.inputs
        t1w, image = load(inputs.t1w_file)
        mask, gm, wm, csf = (
            self._on_grid(path, image)
            for path in (inputs.mask_file, inputs.gm_file, inputs.wm_file, inputs.csf_file)
        )
        brain, affine = mask > 0, image.affine
        return {
            "outline": draw_outline(t1w, brain, affine),
            "tissue": draw_tissue(t1w, brain, gm, wm, csf, affine),
            "atlas": draw_atlas(t1w, brain, affine, self._regions()),
        }

    def _template(self) -> Figure:
        warped, image = load(self.inputs.warped_file)
        gm, template = load(self.inputs.template_gm_file)
        wm, template_wm = load(self.inputs.template_wm_file)
        require_same_grid(template, template_wm)
        return draw_template(warped, image.affine, gm, wm, template.affine)

    def _on_grid(self, path: str, grid: nib.Nifti1Image) -> NDArray:
        data, image = load(path)
        require_same_grid(grid, image)
        return data

    def _regions(self) -> dict[str, tuple[NDArray, NDArray]]:
        found = {}
        sources = [(self.inputs.atlas_file, self.inputs.regions)]
        if isdefined(self.inputs.deep_atlas_file):
            sources.append((self.inputs.deep_atlas_file, self.inputs.deep_regions))
        for path, regions in sources:
            labels, image = load(path, np.int32)
            for name, indices in regions.items():
                found[name] = (np.isin(labels, indices), image.affine)
        return found
