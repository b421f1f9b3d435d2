"""What the interfaces that draw echo-planar streams share, and the drawing they all have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import nibabel as nib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from nipype.interfaces.base import File, TraitedSpec, isdefined
from numpy.typing import NDArray
from PIL import Image

from alsflow.interfaces.base import CodedInputSpec, CodedInterface
from alsflow.interfaces.images import load
from alsflow.interfaces.report import pixels, require_same_grid, write_smallest
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.report.diffusion import draw_edges

COLOURS = (256, 128, 64)  # the first number whose file is small enough is taken
STEP = 5  # levels of 255, which it divides


def save_colour_png(figure: Figure, path: str | Path) -> str:
    """Write a figure in its own best colours as PNG; see `write_smallest`."""
    # fewer colours to choose from: ten times faster, and no difference to the eye
    picture = pixels(figure).point(lambda level: round(level / STEP) * STEP)
    method, dither = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    variants = (picture.quantize(colours, method=method, dither=dither) for colours in COLOURS)
    return write_smallest(variants, path)


def read_table(path: str | Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Table with the columns that a picture needs; ``n/a`` is missing."""
    table = pd.read_csv(path, sep="\t", na_values="n/a")
    missing = [name for name in columns if name not in table]
    if missing:
        raise BadInputError(f"{Path(path).name} has no column {', '.join(missing)}")
    return table


def on_grid(path: str, grid: nib.Nifti1Image) -> NDArray:
    """Image that must lie on a grid."""
    data, image = load(path)
    require_same_grid(grid, image)
    return data


class Drawing:
    """Draws figures with no regard to what a user's matplotlibrc says."""

    _results: dict[str, str]
    _save: Callable[[Figure, str | Path], str] = staticmethod(save_colour_png)

    def _figures(self) -> dict[str, Figure]:
        raise NotImplementedError

    def _run_interface(self, runtime):
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            for name, figure in self._figures().items():
                path = Path(runtime.cwd) / f"{name}.png"
                self._results[f"{name}_file"] = self._save(figure, path)
        return runtime


class _DrawRegistrationInputSpec(CodedInputSpec):
    before_file = File(exists=True, mandatory=True, desc="mean image as acquired")
    after_file = File(exists=True, desc="mean image without distortion, grid of before_file")
    mask_file = File(exists=True, mandatory=True, desc="brain mask, grid of before_file")
    gm_file = File(exists=True, mandatory=True, desc="grey-matter fraction, T1w space")
    wm_file = File(exists=True, mandatory=True, desc="white-matter fraction, T1w space")
    matrix_file = File(exists=True, mandatory=True, desc="text, 4 x 4: echo-planar mm to T1w mm")


class _DrawRegistrationOutputSpec(TraitedSpec):
    edges_file = File(exists=True, desc="T1w tissue borders over the mean images, PNG")


class DrawRegistration(Drawing, CodedInterface):
    """Draw T1w tissue borders over mean echo-planar images; see `nodes.report.diffusion`."""

    input_spec = _DrawRegistrationInputSpec
    output_spec = _DrawRegistrationOutputSpec
    _code = (draw_edges,)

    def _figures(self) -> dict[str, Figure]:
        inputs = self.inputs
        before, image = load(inputs.before_file)
        after = on_grid(inputs.after_file, image) if isdefined(inputs.after_file) else None
        mask = on_grid(inputs.mask_file, image)
        gm, t1w = load(inputs.gm_file)
        wm = on_grid(inputs.wm_file, t1w)
        matrix = np.loadtxt(inputs.matrix_file)
        figure = draw_edges(before, after, mask > 0, image.affine, (gm, wm), t1w.affine, matrix)
        return {"edges": figure}
