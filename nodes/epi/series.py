"""From a stored series of volumes to one that a stream can use, or a refusal in words."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.anat.conform import MAX_EXTENT, check_affine
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import stated_sizes

MAX_VOXEL = 6.0  # mm; thicker voxels mix tissues
MIN_VOXEL = 0.5  # mm; below, the header is almost surely wrong
MIN_SLICES = 3


def conform_series(signal: NDArray, affine: NDArray) -> tuple[NDArray, NDArray]:
    """Bring a series of volumes into the nearest RAS+ order as float, or refuse it.

    Values below zero become zero: magnitude images have none, resampling makes some.

    Parameters
    ----------
    signal : (x, y, z, n) array
        Scaled intensities in any orientation.
    affine : (4, 4) array
        Voxels to mm.

    Returns
    -------
    signal : (x, y, z, n) float32 array
        Same samples, axes flipped and permuted to RAS+.
    affine : (4, 4) array
        Voxels to mm of the returned series.
    """
    check_series_grid(signal.shape, affine)
    if signal.dtype.fields is not None or np.iscomplexobj(signal):
        raise BadInputError("does not hold one real intensity per voxel; give magnitude images")
    orientation = nib.orientations.io_orientation(affine)
    ordered = nib.orientations.apply_orientation(signal, orientation)
    turned = affine @ nib.orientations.inv_ornt_aff(orientation, signal.shape[:3])
    series = np.ascontiguousarray(ordered, dtype=np.float32)
    check_volumes(series)
    return np.maximum(series, 0, out=series), turned


def check_series_grid(shape: tuple[int, ...], affine: NDArray) -> None:
    """Refuse what is not a series of volumes of a head or a slab of it."""
    size = " x ".join(map(str, shape))
    if len(shape) != 4:
        raise BadInputError(
            f"is not a series of three-dimensional volumes (its size is {size}); "
            "give one 4-D series"
        )
    if min(shape[:3]) < MIN_SLICES:
        raise BadInputError(
            f"has fewer than {MIN_SLICES} slices (its size is {size}); give the whole series"
        )
    check_affine(affine)
    zooms = stated_sizes(affine)
    edges = " x ".join(f"{zoom:.3g}" for zoom in zooms)
    if zooms.max() > MAX_VOXEL or zooms.min() < MIN_VOXEL:
        raise BadInputError(
            f"has voxels of {edges} mm, outside {MIN_VOXEL:g} to {MAX_VOXEL:g} mm; "
            "correct the voxel size in the header, or use a finer protocol"
        )
    if (zooms * shape[:3]).max() > MAX_EXTENT:
        field = " x ".join(f"{length:.0f}" for length in zooms * shape[:3])
        raise BadInputError(
            f"covers {field} mm, more than a head coil sees; correct the voxel size in the header"
        )


def check_volumes(series: NDArray) -> None:
    """Refuse volumes that hold values that are not numbers, or no picture."""
    broken = np.array([not np.isfinite(series[..., v]).all() for v in range(series.shape[3])])
    if broken.any():
        raise BadInputError(
            f"holds values that are not numbers (NaN or infinite) in {listed(broken)}; "
            "export it again, or take those volumes out of the series and of its tables"
        )
    empty = np.array([np.ptp(series[..., v]) == 0 for v in range(series.shape[3])])
    if empty.any():
        raise BadInputError(
            f"is constant or empty in {listed(empty)}; "
            "export it again, or take those volumes out of the series and of its tables"
        )


def listed(chosen: NDArray, most: int = 8) -> str:
    """Numbers of the volumes chosen, counting from 0, in words."""
    numbers = np.flatnonzero(chosen)
    text = ", ".join(map(str, numbers[:most])) + (", ..." if len(numbers) > most else "")
    return f"volume{'s' if len(numbers) > 1 else ''} {text}, counting from 0"
