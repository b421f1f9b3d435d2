"""Tissue, regions and seeds on the grid of a BOLD series.

Every BOLD voxel is asked at sub-points, which one chain of maps (voxel, BOLD mm, T1w mm, template
mm) brings to the tissue maps, the labels and the seeds. Nothing of these is resampled. A voxel
belongs to a region if the share of it that is both inside the region and grey matter is at least
one half: with more than half of its volume elsewhere, its signal would be mostly of elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.anat.register import pull
from alsflow.nodes.anat.volumes import coarse_points, labels_at
from alsflow.nodes.atlas import REACH_HIGH, REACH_LOW, affine_problems
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.seeds import T1W, Seed
from alsflow.nodes.geometry import apply_affine, voxel_sizes, voxel_volume
from alsflow.nodes.mrs.voxel import NO_VOXEL
from alsflow.nodes.spaces import in_space

LEAST_SHARE = 0.5  # of a voxel, inside the region and grey
LEAST_VOXELS = 20  # of a seed or a measured region
LEAST_GREY = 0.25  # grey fraction of the voxels of a map of connectivity
LEAST_BRAIN = 0.5  # share of a voxel inside the brain
PARTS = (3, 6)  # fewest and most sub-points along an edge of a voxel
Sides = Mapping[str, Sequence[int]]
Sample = Callable[[NDArray], NDArray]  # values (..., n) at points (3, n) of the T1w head, mm


@dataclass(frozen=True)
class BoldVoxels:
    """Voxels of a BOLD grid and where they lie in the world of the T1w head.

    Attributes
    ----------
    inside : (x, y, z) bool array
        The voxels that are asked; n of them.
    to_t1w : (4, 4) array
        Voxel index to mm of the T1w head.
    parts : tuple of int
        Sub-points along each edge.
    """

    inside: NDArray
    to_t1w: NDArray
    parts: tuple[int, ...]

    def points(self) -> Iterator[NDArray]:
        """Points (3, n), mm of the T1w head, one set for each sub-point."""
        index = np.argwhere(self.inside).T.astype(float)
        for offset in product(*[(np.arange(k) + 0.5) / k - 0.5 for k in self.parts]):
            yield apply_affine(self.to_t1w, index + np.reshape(offset, (3, 1)))

    def mean(self, sample: Sample) -> NDArray:
        """Mean of what `sample` says at the sub-points of each voxel, (..., n) float32."""
        total = sum(sample(points).astype(np.float64) for points in self.points())
        return np.asarray(total / np.prod(self.parts), np.float32)

    def on_grid(self, values: NDArray) -> NDArray:
        """Values (n,) of the voxels on the whole grid, 0 elsewhere."""
        grid = np.zeros(self.inside.shape, values.dtype)
        grid[self.inside] = values
        return grid


def bold_voxels(
    inside: NDArray, affine: NDArray, matrix: NDArray, map_affine: NDArray
) -> BoldVoxels:
    """Voxels to be asked, with sub-points no farther apart than the voxels of a map.

    Parameters
    ----------
    inside : (x, y, z) bool array
        Voxels of the BOLD grid.
    affine, map_affine : (4, 4) array
        Voxel to mm, of the BOLD grid and of the finest map in T1w space.
    matrix : (4, 4) array
        BOLD mm to T1w mm, rigid.
    """
    ratio = voxel_sizes(affine) / voxel_sizes(map_affine).min()
    parts = np.clip(np.ceil(ratio - 0.05), *PARTS).astype(int)
    return BoldVoxels(inside, matrix @ affine, tuple(int(k) for k in parts))


# ---------------------------------------------------------------------------- tissue


def tissue_on_bold(
    brain: NDArray,
    maps: Sequence[NDArray],
    map_affine: NDArray,
    seen: NDArray,
    affine: NDArray,
    matrix: NDArray,
) -> tuple[NDArray, NDArray]:
    """Fractions of each tissue in every BOLD voxel, and the brain that every volume shows.

    Parameters
    ----------
    brain : (u, v, w) bool array
        Brain mask of the T1w head.
    maps : sequence of (u, v, w) arrays
        Fractions of the tissues, 0 to 1, same grid.
    map_affine, affine : (4, 4) array
        Voxel to mm, of the maps and of the BOLD grid.
    seen : (x, y, z) bool array
        BOLD voxels that every volume shows.
    matrix : (4, 4) array
        BOLD mm to T1w mm.

    Returns
    -------
    tissue : (x, y, z, k) float32 array
        Mean fraction of each tissue in the voxel.
    mask : (x, y, z) bool array
        At least half of the voxel is brain, and every volume shows it.
    """
    everywhere = bold_voxels(np.ones(seen.shape, bool), affine, matrix, map_affine)
    solid = brain.astype(np.float32)
    share = everywhere.on_grid(everywhere.mean(lambda at: pull(solid, map_affine, at)))
    voxels = BoldVoxels(share > 0, everywhere.to_t1w, everywhere.parts)
    tissue = [
        voxels.on_grid(voxels.mean(lambda at, data=data: pull(data, map_affine, at)))  # type: ignore[misc]
        for data in maps
    ]
    mask = (share >= LEAST_BRAIN) & seen
    if not mask.any():
        raise BadInputError(
            "shows no part of the brain of the T1-weighted image: look at how the two were "
            "placed on each other"
        )
    return np.stack(tissue, axis=-1), mask


# ---------------------------------------------------------------------------- regions


@dataclass(frozen=True)
class LabelShares:
    """Share of every voxel that is grey and inside each label.

    Attributes
    ----------
    labels : (k,) int array
        Labels, ascending.
    shares : (k, n) float32 array
        Of each of the n voxels, 0 to 1.
    volumes : (k,) array
        Grey matter of each label in the whole head, mL.
    """

    labels: NDArray
    shares: NDArray
    volumes: NDArray

    def union(self, members: Sequence[int]) -> tuple[NDArray, float]:
        """Share (n,) inside any of the labels, and their grey matter in the head, mL."""
        rows = np.isin(self.labels, list(members))
        return self.shares[rows].sum(axis=0), float(self.volumes[rows].sum())


def label_shares(
    labels: NDArray, gm: NDArray, affine: NDArray, voxels: BoldVoxels, wanted: Sequence[int]
) -> LabelShares:
    """Share of every BOLD voxel that is grey matter inside each label of an atlas.

    Parameters
    ----------
    labels : (u, v, w) int array
        The atlas in T1w space.
    gm : (u, v, w) array
        Fraction of grey matter.
    affine : (4, 4) array
        Voxel to mm of both.
    voxels : BoldVoxels
        Voxels that are asked.
    wanted : sequence of int
        Labels that are looked for.
    """
    known = np.array(sorted(wanted), int)
    column = np.zeros(max(int(labels.max()), int(known.max())) + 1, int)
    column[known] = np.arange(1, len(known) + 1)
    count = int(voxels.inside.sum())
    total = np.zeros((len(known) + 1, count), np.float32)
    each = np.arange(count)
    for points in voxels.points():
        # a voxel occurs once in each set of sub-points
        total[column[labels_at(labels, affine, points)], each] += pull(gm, affine, points)
    amount = np.bincount(column[labels].ravel(), gm.ravel(), len(known) + 1)
    return LabelShares(
        known, total[1:] / float(np.prod(voxels.parts)), amount[1:] * voxel_volume(affine)
    )


@dataclass(frozen=True)
class Placed:
    """A seed or region on the BOLD grid.

    Attributes
    ----------
    name, side : str
        ``side`` is ``left``, ``right``, ``both``, or empty.
    members : (n,) bool array
        Which of the voxels that were asked belong to it.
    coverage : float
        Share of its grey matter that the voxels show; NaN where that is unknown.
    reason : str
        Why it cannot be used; empty if it can.
    """

    name: str
    side: str
    members: NDArray
    coverage: float
    reason: str


def _placed(
    name: str, side: str, what: str, share: NDArray, coverage: float, least: int = LEAST_VOXELS
) -> Placed:
    """Voxels at least half of which count, and whether they are enough."""
    members = share >= LEAST_SHARE
    count = int(members.sum())
    reason = "" if count >= least else (
        f"{what} has {count} voxel{'' if count == 1 else 's'} in the field of view that "
        f"{'is' if count == 1 else 'are'} at least half inside it and grey (at least {least} "
        "are asked)"
    )  # fmt: skip
    return Placed(name, side, members, coverage, reason)


def place_region(
    name: str, side: str, sides: Sides, found: LabelShares, bold_voxel: float, what: str = ""
) -> Placed:
    """A region of the atlas on one side or both.

    Parameters
    ----------
    name, side : str
        ``side`` is ``left``, ``right`` or ``both``.
    sides : mapping
        Labels of the region on either side.
    found : LabelShares
        As `label_shares` gives them.
    bold_voxel : float
        Volume of a BOLD voxel, mL.
    what : str
        What to call it in a reason; by default side and region.
    """
    chosen = ("left", "right") if side == "both" else (side,)
    members = [label for one in chosen for label in sides.get(one, ())]
    share, volume = found.union(members)
    coverage = float(share.sum(dtype=float)) * bold_voxel / volume if volume > 0 else np.nan
    shown = name.replace("_", " ")
    what = what or (f"the {shown}" if side == "both" else f"the {side} {shown}")
    if not volume > 0:
        reason = f"{what} has no grey matter in the T1-weighted image"
        return Placed(name, side, np.zeros(share.shape, bool), np.nan, reason)
    return _placed(name, side, what, share, min(coverage, 1.0))


def place_labels(found: LabelShares, inside: NDArray) -> NDArray:
    """Label (x, y, z) int32 to which each voxel belongs by at least half, else 0."""
    grid = np.zeros(inside.shape, np.int32)
    best = found.shares.argmax(axis=0)
    enough = found.shares.max(axis=0) >= LEAST_SHARE
    grid[inside] = np.where(enough, found.labels[best], 0)
    return grid


# ---------------------------------------------------------------------------- seeds


@dataclass(frozen=True)
class Head:
    """What is known of the head in T1w space.

    Attributes
    ----------
    gm : (u, v, w) array
        Fraction of grey matter.
    affine : (4, 4) array
        Voxel to mm.
    warp : (3, a, b, c) array
        Where the points of a grid over the head lie in the template, mm.
    warp_affine : (4, 4) array
        Voxel to mm of that grid.
    """

    gm: NDArray
    affine: NDArray
    warp: NDArray
    warp_affine: NDArray

    def in_template(self, points: NDArray, space: str) -> NDArray:
        """Points of the head in the template or another variant of its space, mm."""
        return in_space(coarse_points(self.warp, self.warp_affine, points), space)


def place_seed(
    seed: Seed,
    voxels: BoldVoxels,
    head: Head,
    found: LabelShares,
    regions: Mapping[str, Sides],
    bold_voxel: float,
    mask: tuple[NDArray, NDArray] | None = None,
) -> Placed:
    """Bring one seed onto the BOLD grid.

    Parameters
    ----------
    seed : Seed
        What was asked for.
    voxels : BoldVoxels
        Voxels that are asked.
    head : Head
        Grey matter and map to the template.
    found : LabelShares
        As `label_shares` gives them.
    regions : mapping
        Labels of each region by side.
    bold_voxel : float
        Volume of a BOLD voxel, mL.
    mask : (array, affine), optional
        Of a seed that is a mask, or of the MRS voxel; see `check_mask`.
    """
    what = f"the seed {seed.name}"
    if seed.kind == "region":
        return place_region(seed.name, seed.side, regions[seed.region], found, bold_voxel, what)
    if seed.kind == "labels":
        placed = place_region(seed.name, "left", {"left": seed.labels}, found, bold_voxel, what)
        return Placed(seed.name, "", placed.members, placed.coverage, placed.reason)
    if seed.kind == "voxel" and mask is None:
        return Placed(seed.name, "", np.zeros(int(voxels.inside.sum()), bool), np.nan, NO_VOXEL)
    share = voxels.mean(_inside_seed(seed, head, mask))
    return _placed(seed.name, "", what, share, np.nan)


def _inside_seed(seed: Seed, head: Head, mask: tuple[NDArray, NDArray] | None) -> Sample:
    """Grey fraction at points of the head, 0 outside the seed."""

    def sphere(points: NDArray) -> NDArray:
        away = head.in_template(points, seed.space) - np.reshape(seed.centre, (3, 1))
        return pull(head.gm, head.affine, points) * ((away**2).sum(axis=0) <= seed.radius**2)

    def masked(points: NDArray) -> NDArray:
        assert mask is not None  # `PlaceSeeds` reads the file of every mask
        native = seed.kind == "voxel" or seed.space == T1W
        at = points if native else head.in_template(points, seed.space)
        return pull(head.gm, head.affine, points) * pull(
            mask[0], mask[1], np.nan_to_num(at, nan=1e6)
        )

    return sphere if seed.kind == "sphere" else masked


def check_mask(mask: NDArray, affine: NDArray) -> None:
    """Refuse an image that cannot be the mask of a seed.

    Parameters
    ----------
    mask : array
        As the file has it.
    affine : (4, 4) array
        Voxel to mm.
    """
    if mask.ndim != 3:
        raise BadInputError(f"has {mask.ndim} dimensions; a mask of a seed has 3")
    if problems := affine_problems(affine):
        raise BadInputError(f"cannot be a mask of a seed: {problems[0]}")
    if not np.isfinite(mask).all() or mask.min() < 0 or mask.max() > 1:
        raise BadInputError(
            "has values outside 0 to 1; a mask of a seed holds 0 and 1, or the share of each voxel"
        )
    if not (mask >= LEAST_SHARE).any():
        raise BadInputError("holds no voxel: the mask of a seed must not be empty")


def check_mask_in_template(mask: NDArray, affine: NDArray) -> None:
    """Refuse a mask of a seed that lies where no head in MNI space is; see `check_mask`."""
    centre = apply_affine(affine, np.argwhere(mask >= LEAST_SHARE).T).mean(axis=1)
    if (centre < REACH_LOW).any() or (centre > REACH_HIGH).any():
        shown = ", ".join(f"{value:.0f}" for value in centre)
        raise BadInputError(f"lies at ({shown}) mm, outside any head in MNI space")


def check_mask_in_head(mask: NDArray, affine: NDArray, head: Head) -> None:
    """Refuse a mask of a seed in T1w space that meets no grey matter; see `check_mask`."""
    places = apply_affine(affine, np.argwhere(mask >= LEAST_SHARE).T)
    if not (pull(head.gm, head.affine, places) > 0).any():
        raise BadInputError(
            "does not meet the grey matter of the T1-weighted image; a mask in MNI space needs "
            'space = "template"'
        )
