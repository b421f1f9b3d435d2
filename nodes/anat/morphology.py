"""Binary morphology in millimetres, so that voxel size and anisotropy do not matter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CROSS = ndimage.generate_binary_structure(3, 1)  # face neighbours


def bounds(mask: NDArray, margin: NDArray | float, zooms: NDArray) -> tuple[slice, slice, slice]:
    """Box around a mask with a margin in mm, cut at the edge of the image."""
    pad = np.ceil(margin / np.asarray(zooms)).astype(int)
    box = []
    for axis in range(3):
        others = tuple(k for k in range(3) if k != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        box.append(
            slice(
                max(int(hit[0]) - pad[axis], 0),
                min(int(hit[-1]) + pad[axis] + 1, mask.shape[axis]),
            )
        )
    return box[0], box[1], box[2]


def distance_outside(mask: NDArray, zooms: NDArray) -> NDArray:
    """Distance of each voxel to the mask, mm; zero inside."""
    return ndimage.distance_transform_edt(~mask, zooms)


def dilate(mask: NDArray, radius: float, zooms: NDArray) -> NDArray:
    """Grow a mask by `radius` mm."""
    box = bounds(mask, radius + max(zooms), zooms) if mask.any() else (slice(None),) * 3
    grown = np.zeros_like(mask)
    grown[box] = ndimage.distance_transform_edt(~mask[box], zooms) <= radius
    return grown


def erode(mask: NDArray, radius: float, zooms: NDArray) -> NDArray:
    """Shrink a mask by `radius` mm; the edge of the image counts as inside."""
    if not mask.any():
        return mask.copy()
    box = bounds(mask, 2 * max(zooms), zooms)
    shrunk = np.zeros_like(mask)
    shrunk[box] = ndimage.distance_transform_edt(mask[box], zooms) > radius
    return shrunk


def close_gaps(mask: NDArray, radius: float, zooms: NDArray) -> NDArray:
    """Close gaps narrower than twice `radius` mm, also at the image's edge, and fill holes."""
    pad = [(int(np.ceil(radius / zoom)) + 2,) * 2 for zoom in zooms]
    wide = np.pad(mask, pad)
    wide = erode(dilate(wide, radius, zooms), radius, zooms)
    inner = tuple(slice(low, -high) for low, high in pad)
    return ndimage.binary_fill_holes(wide)[inner] | mask


def largest(mask: NDArray) -> NDArray:
    """Largest connected piece (faces)."""
    pieces, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return pieces == sizes.argmax()


def piece_near(mask: NDArray, near: NDArray) -> NDArray:
    """Pick the connected piece with most voxels in `near`."""
    pieces, count = ndimage.label(mask)
    sizes = np.bincount(pieces[near], minlength=count + 1)
    sizes[0] = 0
    return (pieces == sizes.argmax()) & (sizes.max() > 0)
