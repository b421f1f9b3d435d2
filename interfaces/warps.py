"""Transforms on disk: displacement fields as ITK, ANTs and nitransforms read them.

A field lies on the grid of the *target* image. Each voxel holds the vector, LPS+ mm, from its own
place to the place in the source image that is sampled there. In memory the project uses maps of
points, RAS+ mm, shape (3, x, y, z).
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from alsflow.interfaces.images import write_image
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import grid_points

LPS = np.array([-1.0, -1.0, 1.0], np.float32).reshape(3, 1, 1, 1)


def save_warp(points: NDArray, affine: NDArray, path: str | Path) -> str:
    """Write a map of points (3, x, y, z), RAS+ mm, whole or not at all."""
    path = Path(path)
    field = (points - grid_points(points.shape[1:], affine)) * LPS
    data = np.moveaxis(field, 0, -1)[:, :, :, None, :].astype(np.float32)
    image = nib.Nifti1Image(data, affine)
    image.header.set_intent("vector")
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    return write_image(image, path)


def load_warp(path: str | Path) -> tuple[NDArray, NDArray]:
    """Map of points (3, x, y, z), RAS+ mm, and the affine of its grid."""
    image = cast(nib.Nifti1Image, nib.load(path))
    if len(image.shape) != 5 or image.shape[3:] != (1, 3):
        raise BadInputError(f"{Path(path).name} is no displacement field (shape {image.shape})")
    field = np.moveaxis(np.asarray(image.dataobj, np.float32)[:, :, :, 0, :], -1, 0)
    return grid_points(field.shape[1:], image.affine) + field * LPS, image.affine
