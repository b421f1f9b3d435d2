"""From whatever was stored to a volume that the stream can use, or a refusal in words."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import stated_sizes, voxel_sizes

MAX_VOXEL = 3.0  # mm; thicker voxels mix grey matter, white matter and CSF beyond recovery
MIN_VOXEL = 0.3  # mm; below, the header is almost surely wrong
MIN_EXTENT = 100.0  # mm; no adult brain fits into less in any direction
MAX_EXTENT = 500.0  # mm; no head coil sees more
MIN_LEVELS = 16  # distinct intensities; fewer are a mask or a label image
SHEAR_TOLERANCE = 0.02  # cosine between two voxel axes that should be square


def conform(volume: NDArray, affine: NDArray) -> tuple[NDArray, NDArray]:
    """Bring a T1-weighted volume into the nearest RAS+ order as float, or refuse it.

    Values below zero become zero: magnitude images have none, resampling makes some.

    Parameters
    ----------
    volume : (x, y, z) array
        Scaled intensities in any orientation.
    affine : (4, 4) array
        Voxels to mm.

    Returns
    -------
    volume : (x, y, z) float32 array
        Same samples, axes flipped and permuted to RAS+.
    affine : (4, 4) array
        Voxels to mm of the returned volume.

    Raises
    ------
    BadInputError
        When the volume cannot be used; the message says why and what to do.
    """
    volume = np.asarray(volume)
    check_grid(volume.shape, affine)
    check_intensities(volume)
    orientation = nib.orientations.io_orientation(affine)
    ordered = nib.orientations.apply_orientation(volume, orientation)
    turned = affine @ nib.orientations.inv_ornt_aff(orientation, volume.shape)
    return np.maximum(np.ascontiguousarray(ordered, dtype=np.float32), 0), turned


def check_grid(shape: tuple[int, ...], affine: NDArray) -> None:
    """Refuse what is not a three-dimensional image of a whole head."""
    if len(shape) != 3 or min(shape) < 2:
        size = " x ".join(map(str, shape))
        raise BadInputError(
            f"is not one three-dimensional volume (its size is {size}); "
            "give a single 3-D T1-weighted image"
        )
    check_affine(affine)
    zooms = stated_sizes(affine)
    edges = " x ".join(f"{zoom:.3g}" for zoom in zooms)
    if zooms.max() > MAX_VOXEL:
        raise BadInputError(
            f"has voxels of {edges} mm, and at most {MAX_VOXEL:g} mm in any direction can be "
            "segmented; give the 3-D acquisition instead"
        )
    if zooms.min() < MIN_VOXEL:
        raise BadInputError(
            f"has voxels of {edges} mm, below {MIN_VOXEL:g} mm; correct the header or resample"
        )
    extent = zooms * shape
    field = " x ".join(f"{length:.0f}" for length in extent)
    if extent.min() < MIN_EXTENT:
        raise BadInputError(
            f"covers only {field} mm, too little for a whole brain "
            f"({MIN_EXTENT:g} mm in every direction); give a whole-head image"
        )
    if extent.max() > MAX_EXTENT:
        raise BadInputError(
            f"covers {field} mm, more than a head coil sees; correct the voxel size in the header"
        )


def check_affine(affine: NDArray) -> None:
    """Refuse an orientation that is missing, singular or sheared."""
    mend = "write a valid orientation (sform or qform) with the tool that made the file"
    if not np.isfinite(affine).all() or voxel_sizes(affine).min() == 0:
        raise BadInputError(f"has no usable orientation in its header; {mend}")
    axes = affine[:3, :3] / voxel_sizes(affine)
    cosines = np.abs(axes.T @ axes - np.eye(3)).max()
    if cosines > SHEAR_TOLERANCE:
        raise BadInputError(f"has voxel axes that are not at right angles; {mend}")


def check_intensities(volume: NDArray) -> None:
    """Refuse what holds no picture: not finite, constant, all zero, or a label image."""
    if volume.dtype.fields is not None or np.iscomplexobj(volume):
        raise BadInputError("does not hold one real intensity per voxel; give a magnitude image")
    if not np.isfinite(volume).all():
        share = 100 * np.mean(~np.isfinite(volume))
        raise BadInputError(
            f"holds values that are not numbers (NaN or infinite, {share:.2g} % of the voxels); "
            "export it again from the scanner's files"
        )
    if volume.min() == volume.max():
        level = "all zero" if volume.max() == 0 else "constant"
        raise BadInputError(f"is {level}; export it again from the scanner's files")
    if volume.max() <= 0:
        raise BadInputError("holds no value above zero; give a magnitude image")
    levels = len(np.unique(volume[volume > 0][:: max(volume.size // 200_000, 1)]))
    if levels < MIN_LEVELS:
        raise BadInputError(
            f"holds only {levels} different intensities: this looks like a mask or a label image; "
            "give the T1-weighted image"
        )
