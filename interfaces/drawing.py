"""What the interfaces that draw echo-planar streams share."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import nibabel as nib
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from alsflow.interfaces.images import load
from alsflow.interfaces.report import pixels, require_same_grid, write_smallest
from alsflow.nodes.errors import BadInputError

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

    def _figures(self) -> dict[str, Figure]:
        raise NotImplementedError

    def _run_interface(self, runtime):
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            for name, figure in self._figures().items():
                path = Path(runtime.cwd) / f"{name}.png"
                self._results[f"{name}_file"] = save_colour_png(figure, path)
        return runtime
