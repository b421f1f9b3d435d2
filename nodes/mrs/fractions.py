"""The spectroscopy voxel on the T1-weighted image: mask, tissue fractions, coverage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.anat.volumes import coarse_points
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import apply_affine, grid_points, voxel_volume
from alsflow.nodes.mrs.voxel import Voxel

SAMPLES = 40  # along an edge of the voxel; .5 to 1 mm apart
TEMPLATE_SAMPLES = 3  # along an edge of a voxel of the template
LEAST_COVERAGE = 0.95  # share of the voxel in the field of view, in the brain, and with a tissue
MOST_VOLUME_ERROR = 0.05  # of the mask against the box, before it is said
TISSUES = ("gm", "wm", "csf")
ELSEWHERE = (
    "lies wholly outside the {what} of the T1-weighted image: the two are not of one session, or "
    "the T1-weighted image was moved to another space"
)


@dataclass(frozen=True)
class Fractions:
    """What the voxel holds, as shares of its whole nominal volume; never renormalised.

    Attributes
    ----------
    gm, wm, csf : float
        Share of each tissue.
    tissue_sum : float
        Their sum; less than 1 where the voxel leaves the brain or the field of view.
    in_view : float
        Share inside the field of view of the T1-weighted image.
    in_brain : float
        Share inside the brain mask; NaN without a mask.
    nominal_volume, mask_volume : float
        Of the box, and of the voxels of the T1-weighted grid whose centre is inside, mL.
    """

    gm: float
    wm: float
    csf: float
    tissue_sum: float
    in_view: float
    in_brain: float
    nominal_volume: float
    mask_volume: float

    def warnings(self) -> list[str]:
        """What a reader of the concentrations must know, in words."""
        parts = {
            "the field of view of the T1-weighted image": self.in_view,
            "the brain mask": self.in_brain,
        }
        found = [
            f"only {share:.1%} of the voxel lies in {what}; the tissue fractions are shares of "
            "the whole voxel and do not add up to 1"
            for what, share in parts.items()
            if share < LEAST_COVERAGE
        ]
        if not found and self.tissue_sum < LEAST_COVERAGE:
            found.append(f"the tissue fractions of the voxel add up to {self.tissue_sum:.3f} only")
        ratio = self.mask_volume / self.nominal_volume
        if self.in_view >= LEAST_COVERAGE and abs(ratio - 1) > MOST_VOLUME_ERROR:
            found.append(f"the mask of the voxel has {ratio:.3f} of its nominal volume")
        return found

    def as_dict(self) -> dict[str, float | None]:
        """Values by name, None where they are unknown."""
        return {name: value if np.isfinite(value) else None
                for name, value in asdict(self).items()}  # fmt: skip


def voxel_mask(voxel: Voxel, shape: tuple[int, ...], affine: NDArray) -> NDArray:
    """Voxels (x, y, z) of a grid, bool, whose centre lies inside the spectroscopy voxel.

    Parameters
    ----------
    voxel : Voxel
        Place in the world of the grid.
    shape : tuple of int
        Of the grid.
    affine : (4, 4) array
        Voxel index to mm.
    """
    mask = np.zeros(shape, bool)
    corners = apply_affine(np.linalg.inv(affine), voxel.corners.T)
    low = np.maximum(np.floor(corners.min(axis=1)).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(axis=1)).astype(int) + 1, shape)
    if (low < high).all():
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        index = np.stack(np.meshgrid(*[np.arange(s.start, s.stop) for s in box], indexing="ij"))
        mask[box] = voxel.holds(apply_affine(affine, index))
    return mask


def voxel_points(voxel: Voxel, samples: int = SAMPLES) -> NDArray:
    """Points (3, samples³), RAS+ mm, spread evenly over the voxel."""
    own = (np.indices((samples,) * 3).reshape(3, -1) + 0.5) / samples - 0.5
    return apply_affine(voxel.affine, own)


def tissue_fractions(
    voxel: Voxel,
    tissues: Mapping[str, NDArray],
    affine: NDArray,
    brain: NDArray | None = None,
    samples: int = SAMPLES,
) -> Fractions:
    """Share of each tissue in the voxel, sampled much finer than the maps.

    Parameters
    ----------
    voxel : Voxel
        Place in the world of the maps.
    tissues : mapping of str to (x, y, z) array
        Fractions of ``gm``, ``wm`` and ``csf``, 0 to 1.
    affine : (4, 4) array
        Voxel index of the maps to mm.
    brain : (x, y, z) bool array, optional
        Brain mask on the same grid.
    samples : int
        Points along each edge of the voxel.

    Raises
    ------
    BadInputError
        No part of the voxel is in the field of view, or in the brain.
    """
    shape = tissues["gm"].shape
    index = apply_affine(np.linalg.inv(affine), voxel_points(voxel, samples))
    inside = _in_view(index, shape)
    if not inside.any():
        raise BadInputError(ELSEWHERE.format(what="field of view"))
    share = {name: _share(tissues[name], index, inside) for name in TISSUES}
    in_brain = np.nan if brain is None else _share(brain.astype(np.float32), index, inside)
    if in_brain == 0:
        raise BadInputError(ELSEWHERE.format(what="brain"))
    mask = voxel_mask(voxel, shape, affine)
    return Fractions(
        **share,
        tissue_sum=sum(share.values()),
        in_view=float(inside.mean()),
        in_brain=in_brain,
        nominal_volume=voxel.volume,
        mask_volume=float(mask.sum()) * voxel_volume(affine),
    )


def _in_view(index: NDArray, shape: tuple[int, ...]) -> NDArray:
    """Which of the points (3, n), voxel indices, lie in a voxel of the grid."""
    last = np.reshape(shape, (3, 1)) - 0.5
    return np.asarray(((index >= -0.5) & (index <= last)).all(axis=0))


def _share(data: NDArray, index: NDArray, inside: NDArray) -> float:
    """Mean over all points of a map; outside the field of view it is 0."""
    values = ndimage.map_coordinates(
        data, index[:, inside], order=1, mode="nearest", output=np.float64
    )
    return float(values.sum() / len(inside))


# ---------------------------------------------------------------------------- template


def voxel_in_template(voxel: Voxel, points: NDArray, affine: NDArray) -> NDArray:
    """Share (x, y, z), float32, of every voxel of a template that the spectroscopy voxel covers.

    Parameters
    ----------
    voxel : Voxel
        Place in the world of the T1-weighted image.
    points : (3, x, y, z) array
        Where the voxels of the template lie in the T1-weighted image, RAS+ mm.
    affine : (4, 4) array
        Voxel index of the template to mm.
    """
    shape = points.shape[1:]
    share = np.zeros(shape, np.float32)
    near = _near(voxel, points)
    centres = grid_points(shape, affine)[:, near]
    offsets = (np.arange(TEMPLATE_SAMPLES) + 0.5) / TEMPLATE_SAMPLES - 0.5
    for offset in product(offsets, repeat=3):
        at = centres + np.reshape(affine[:3, :3] @ np.array(offset), (3, 1))
        share[near] += voxel.holds(coarse_points(points, affine, at))
    return share / np.float32(TEMPLATE_SAMPLES**3)


def _near(voxel: Voxel, points: NDArray) -> NDArray:
    """Voxels of a map of points that may touch the voxel: inside it, or beside those inside."""
    return np.asarray(ndimage.binary_dilation(voxel.holds(points), np.ones((3, 3, 3)), 2))


def overlap_map(shares: Iterable[NDArray]) -> tuple[NDArray, int]:
    """Mean (x, y, z), float32, of the voxels of many people on one grid, and their number.

    Where it is 1, the voxel of every person covers the place.

    Parameters
    ----------
    shares : iterable of (x, y, z) arrays
        As `voxel_in_template` gives them, one by one.
    """
    total: NDArray | None = None
    count = 0
    for share in shares:
        if total is None:
            total = np.zeros(share.shape)
        if share.shape != total.shape:
            raise BadInputError(
                f"The voxels of different people are on grids of {total.shape} and {share.shape}; "
                "an overlap needs one grid."
            )
        total += share
        count += 1
    if total is None:
        raise BadInputError("There is no voxel, of which an overlap could be made.")
    return (total / count).astype(np.float32), count
