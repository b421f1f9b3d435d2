"""Undo a known distortion along the phase encoding, intensity included."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.distortion.smooth_fields import slope
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import apply_affine, resample, voxel_sizes

SAME_PLACE = 1e-3  # mm in the elements of two affines
MOST_TURNED = 5.0  # degrees between the axes of two images of one protocol, repositioned
BRIGHT = 0.2  # of the 98th percentile; brighter voxels are head


def sampling_places(
    shift: NDArray, affine: NDArray, axis: int, polarity: float, placement: NDArray | None = None
) -> NDArray:
    """Voxel coordinates at which the signal of each undistorted place was acquired.

    Parameters
    ----------
    shift : (x, y, z) array
        Displacement along `axis`, mm.
    affine : (4, 4) array
        Voxel to mm.
    axis : int
        Voxel axis of the phase encoding.
    polarity : float
        What `shift` is multiplied with: 1 for the polarity that it was made for, -1 for the
        opposite one, other numbers where the readout times differ.
    placement : (4, 4) array, optional
        Where a point of the reference head, mm, lies in the image that is sampled.

    Returns
    -------
    (3, x, y, z) array
    """
    places = np.indices(shift.shape, dtype=float)
    if placement is not None:
        places = apply_affine(np.linalg.inv(affine) @ placement @ affine, places)
    places[axis] += polarity / voxel_sizes(affine)[axis] * shift
    return places


def unwarp(
    volume: NDArray,
    shift: NDArray,
    affine: NDArray,
    axis: int,
    *,
    polarity: float = 1.0,
    placement: NDArray | None = None,
    order: int = 3,
) -> NDArray:
    """Bring an echo-planar image to the undistorted grid, with what stretching did to intensity.

    Parameters
    ----------
    volume : (x, y, z) array
        Image as acquired.
    shift, affine, axis, polarity, placement
        As for `sampling_places`, all on one grid.
    order : int
        1 linear, 3 cubic spline.

    Returns
    -------
    (x, y, z) float32 array
        0 where the signal was acquired outside the field of view.
    """
    places = sampling_places(shift, affine, axis, polarity, placement)
    sampled = ndimage.map_coordinates(
        np.asarray(volume, np.float32), places, order=order, mode="grid-constant"
    )
    stretch = 1 + polarity * slope(shift, axis, voxel_sizes(affine)[axis])
    return (sampled * np.maximum(stretch, 0)).astype(np.float32)


def on_parallel_grid(
    volume: NDArray, affine: NDArray, shape: tuple[int, ...], target_affine: NDArray
) -> NDArray:
    """Distorted image on the grid of another whose voxel axes run the same way.

    Raises
    ------
    BadInputError
        When the axes are turned, so that the phase encodings of the two cannot be opposite.
    """
    if volume.shape == tuple(shape) and np.allclose(affine, target_affine, atol=SAME_PLACE):
        return volume
    axes = [a[:3, :3] / voxel_sizes(a) for a in (affine, target_affine)]
    turned = np.degrees(np.arccos(np.clip((axes[0] * axes[1]).sum(axis=0), -1, 1))).max()
    if turned > MOST_TURNED:
        raise BadInputError(
            f"the voxel axes of the phase-encoding pair are turned by {turned:.0f} degrees "
            "against each other, so one does not undo the distortion of the other; leave one out"
        )
    return resample(volume, affine, tuple(shape), target_affine, order=3)


def describe_shift(shift: NDArray, image: NDArray) -> dict[str, float]:
    """Percentiles of the displacement, mm, where an undistorted image is bright."""
    inside = shift[image > BRIGHT * np.percentile(image, 98)]
    names = {1: "shift_p01", 50: "shift_median", 99: "shift_p99"}
    found = np.percentile(inside, list(names))
    return {name: float(value) for name, value in zip(names.values(), found, strict=True)}
