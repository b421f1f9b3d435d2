"""Diffeomorphic registration of maps with Greedy, and the maps of coordinates it gives.

Convention: every displacement and coordinate is in world millimetres, RAS+. A `Warp` takes the
point ``x`` of the fixed image to the point ``start @ (x + displacement(x))`` of the moving one;
its inverse takes the point ``m`` of the moving image to ``y + inverse(y)`` of the fixed one, with
``y = inv(start) @ m``. Both fields are sampled on the grid of the fixed image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Literal

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its usual name
from numpy.typing import NDArray
from picsl_greedy import Greedy3D
from scipy import ndimage

from alsflow.nodes.geometry import apply_affine, grid_points

RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # world of NIfTI <-> world of ITK
VELOCITY_STEPS = 6  # squarings of the stationary velocity field


@dataclass(frozen=True)
class WarpSettings:
    """How Greedy runs; tuples hold one number per level, coarsest first.

    SSD gives the same numbers in each run and on any number of threads. Greedy's NCC does not,
    not even on one thread (fields differ by .2 mm and more between runs).
    """

    metric: Literal["NCC", "SSD"] = "SSD"
    radius: int = 2  # voxels, half width of the window of NCC
    iterations: tuple[int, ...] = (60, 40)
    smoothing: tuple[float, float] = (2.0, 0.7)  # voxels; of each update, of the whole field
    # one stationary velocity, or updates composed one after the other, which reach further
    scheme: Literal["velocity", "composed"] = "velocity"
    threads: int = 1


@dataclass(frozen=True)
class Warp:
    """A diffeomorphism on the grid of the fixed image; see the head of this module."""

    displacement: NDArray  # (3, x, y, z) float32, mm
    affine: NDArray  # (4, 4) voxels of the fixed grid to mm
    start: NDArray  # (4, 4) mm of the fixed to mm of the moving image
    inverse: NDArray | None = None  # (3, x, y, z) float32, mm


def register_maps(
    fixed: Sequence[NDArray],
    fixed_affine: NDArray,
    moving: Sequence[NDArray],
    moving_affine: NDArray,
    start: NDArray | None = None,
    *,
    settings: WarpSettings = WarpSettings(),
    mask: NDArray | None = None,
    inverse: bool = False,
) -> Warp:
    """Warp several maps of one head onto the same maps of another with Greedy [1]_.

    Parameters
    ----------
    fixed, moving : sequence of (x, y, z) array
        Channels in the same order, for example grey and white matter; one grid per head.
    fixed_affine, moving_affine : (4, 4) array
        Voxels to mm.
    start : (4, 4) array, optional
        Affine from fixed to moving, mm; identity when absent.
    settings : WarpSettings
        Metric, iterations, smoothing and threads.
    mask : (x, y, z) array, optional
        Where, on the fixed grid, the metric is evaluated.
    inverse : bool
        Also return the inverse field.

    Returns
    -------
    Warp
        Displacements in mm on the fixed grid.

    References
    ----------
    .. [1] Yushkevich et al. (2016). Alzheimers Dement 12:P126-127.
       doi:10.1016/j.jalz.2016.06.205
    """
    start = np.eye(4) if start is None else np.asarray(start, float)
    # Greedy takes an initial affine only as a file: the moving grid is carried over instead.
    carried = np.linalg.inv(start) @ np.asarray(moving_affine, float)
    images: dict[str, object] = {}
    for index, (still, other) in enumerate(zip(fixed, moving, strict=True)):
        images[f"fixed{index}"] = itk_image(still, fixed_affine)
        images[f"moving{index}"] = itk_image(other, carried)
    if mask is not None:
        images["mask"] = itk_image(mask, fixed_affine)
    greedy = Greedy3D()
    images["warp"] = None
    if inverse:
        images["inverse"] = None
    command = greedy_command(len(fixed), settings, mask is not None, inverse)
    greedy.execute(command, out=StringIO(), **images)
    return Warp(
        displacement=displacement_array(greedy["warp"]),
        affine=np.asarray(fixed_affine, float),
        start=start,
        inverse=displacement_array(greedy["inverse"]) if inverse else None,
    )


def greedy_command(channels: int, settings: WarpSettings, masked: bool, inverse: bool) -> str:
    """Command line of one registration; names stand for images in memory."""
    metric: str = settings.metric
    if metric == "NCC":
        metric += " " + "x".join([str(settings.radius)] * 3)
    update, field = settings.smoothing
    parts = [f"-threads {settings.threads} -V 0 -d 3"]
    parts += [f"-i fixed{index} moving{index}" for index in range(channels)]
    parts += ["-gm mask"] if masked else []
    parts += [f"-m {metric}", "-n " + "x".join(map(str, settings.iterations))]
    parts += [f"-s {update}vox {field}vox -o warp"]
    parts += [f"-sv -exp {VELOCITY_STEPS}"] if settings.scheme == "velocity" else []
    parts += ["-oinv inverse"] if inverse else []
    return " ".join(parts)


def itk_image(volume: NDArray, affine: NDArray) -> sitk.Image:
    """Image of ITK in memory from a RAS+ array and affine (shears are kept)."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.asarray(volume, np.float32).T))
    lps = RAS_LPS @ affine
    zooms = np.sqrt((lps[:3, :3] ** 2).sum(axis=0))
    image.SetSpacing([float(zoom) for zoom in zooms])
    image.SetDirection([float(cosine) for cosine in (lps[:3, :3] / zooms).ravel()])
    image.SetOrigin([float(shift) for shift in lps[:3, 3]])
    return image


def displacement_array(field: sitk.Image) -> NDArray:
    """Displacements of shape (3, x, y, z), RAS+ mm, from a vector image of ITK (LPS)."""
    vectors = np.moveaxis(sitk.GetArrayViewFromImage(field), -1, 0).transpose(0, 3, 2, 1)
    signs = np.array([-1, -1, 1], np.float32)[:, None, None, None]
    return np.ascontiguousarray(vectors.astype(np.float32) * signs)


def displaced(points: NDArray, field: NDArray, affine: NDArray) -> NDArray:
    """Points (3, ...), mm, moved by a displacement field (3, x, y, z) on the grid of `affine`.

    Beyond the grid the nearest displacement holds.
    """
    voxels = apply_affine(np.linalg.inv(affine), points)
    shift = [ndimage.map_coordinates(part, voxels, order=1, mode="nearest") for part in field]
    return (points + np.stack(shift)).astype(np.float32)


def fixed_to_moving(warp: Warp, points: NDArray | None = None) -> NDArray:
    """Map `points` (3, ...), by default the fixed grid, into the moving image; mm."""
    if points is None:
        still = grid_points(warp.displacement.shape[1:], warp.affine)
        return apply_affine(warp.start, still + warp.displacement).astype(np.float32)
    return apply_affine(warp.start, displaced(points, warp.displacement, warp.affine))


def moving_to_fixed(warp: Warp, points: NDArray) -> NDArray:
    """Map `points` (3, ...) of the moving image into the fixed one; mm."""
    if warp.inverse is None:
        raise ValueError("this warp was made without its inverse")
    return displaced(apply_affine(np.linalg.inv(warp.start), points), warp.inverse, warp.affine)


def pull(volume: NDArray, affine: NDArray, points: NDArray, outside: float = 0.0) -> NDArray:
    """Linear interpolation of a volume at world `points` (3, ...), mm."""
    voxels = apply_affine(np.linalg.inv(affine), points)
    return ndimage.map_coordinates(
        volume, voxels, order=1, cval=outside, mode="constant", output=np.float32
    )
