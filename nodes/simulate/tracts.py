"""White-matter tracts as curves in MNI space, and the fields of direction that they make.

Tracts are written down here as sheets of curves, so that no atlas file is needed: some branches
through a few points each, with more branches blended in between. A curve has a radius that
changes along it; what lies within belongs to the tract. The points were placed on the white
matter of the ICBM 2009a template; right side, mirrored for the left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

from alsflow.nodes.geometry import apply_affine, grid_points

Branch = tuple[tuple[float, float, float], ...]
Sheet = tuple[Branch, ...]

MEASURED = ("corticospinal_tract", "corticostriatal_tract", "corticothalamic_tract")
SIDES = ("left", "right")
STEP = 1.0  # mm between points of a curve
BLENDS = 5  # curves from each branch of a sheet to the next
EDGE = 2.0  # mm over which membership falls from 1 to 0 at the radius
SPACING = 2.0  # mm, lattice of membership and direction
NEIGHBOURS = 6  # points of a tract whose directions are averaged
LOW, HIGH = (-80.0, -116.0, -72.0), (80.0, 84.0, 88.0)  # mm, corners of the lattice
FILLS = {6.0: 0.05, 20.0: 0.005}  # smoothing, mm: weight of the directions around a place

_MOTOR_STEM: Branch = ((6.5, -20, -24), (5.5, -20, -36), (3.5, -29, -50), (3, -34, -60))
_CORTICOSPINAL: Sheet = (
    ((7, -27, 67), (12, -25, 54), (19, -23, 36), (24, -22, 18), (24.5, -20, 8), (21.5, -20, -2),
     (14, -19, -12), *_MOTOR_STEM),
    ((18, -24, 67), (20, -23, 52), (22, -21, 36), (24.5, -20, 18), (24.5, -18.5, 8),
     (21.5, -19, -2), (14, -18.5, -12), *_MOTOR_STEM),
    ((34, -21, 56), (30, -20, 46), (26, -19, 34), (25, -18, 18), (24.5, -17, 8),
     (21.5, -18, -2), (14, -18, -12), *_MOTOR_STEM),
    ((44, -14, 46), (37, -15, 40), (29, -16, 30), (25.5, -16, 18), (24, -15.5, 8),
     (21, -17, -2), (14, -17.5, -12), *_MOTOR_STEM),
    ((51, -7, 33), (43, -10, 31), (32, -13, 26), (26, -14, 17), (23.5, -14, 8), (20.5, -16, -2),
     (14, -17, -12), *_MOTOR_STEM),
)  # fmt: skip
_CORTICOTHALAMIC: tuple[Sheet, ...] = (
    (
        ((17, -2, 8), (19, 6, 9), (21, 18, 11), (22, 30, 14), (23, 42, 18)),
        ((17, -5, 14), (20, 0, 20), (23, 6, 30), (24, 12, 44), (22, 16, 54)),
        ((18, -10, 16), (22, -9, 22), (25, -8, 34), (28, -6, 46), (32, -5, 56)),
    ),
    (((20, -25, 14), (25, -28, 20), (27, -36, 32), (29, -46, 42), (30, -54, 50)),),
    (((24, -29, 3), (32, -34, 2), (34, -48, 4), (28, -64, 6), (20, -80, 6)),),
)
_CORTICOSTRIATAL: tuple[Sheet, ...] = (
    (
        ((25, 14, 6), (26, 22, 10), (28, 31, 16), (31, 40, 22)),
        ((18, 8, 18), (22, 9, 25), (28, 11, 35), (34, 13, 45)),
    ),
    (
        ((27.5, -2, 12), (28, -2, 19), (33, -1, 29), (41, 1, 39)),
        ((30, -18, 10), (31, -22, 17), (35, -29, 28), (42, -36, 38)),
    ),
)
_CALLOSUM: Sheet = (
    ((20, 51, 12), (14, 40, 11), (7, 31, 9), (0, 28, 8)),
    ((26, 24, 40), (19, 19, 29), (9, 16, 22), (0, 15, 20)),
    ((30, -6, 50), (21, -8, 35), (10, -9, 27), (0, -9, 26)),
    ((28, -36, 48), (20, -34, 35), (10, -31, 27), (0, -30, 25)),
    ((26, -62, 26), (19, -52, 22), (9, -42, 17), (0, -39, 16)),
    ((17, -82, 8), (20, -64, 12), (12, -46, 13), (0, -38, 11)),
)
_LONGITUDINAL: tuple[Sheet, ...] = (
    (((32, 38, 24), (36, 20, 28), (37, 0, 30), (37, -20, 32), (37, -38, 31), (34, -54, 28)),),
    (((45, 12, 18), (39, 0, 25), (37, -20, 27), (39, -38, 22), (45, -46, 8), (49, -30, -8)),),
)
_INFERIOR: tuple[Sheet, ...] = (
    (((22, -86, 2), (32, -70, 0), (40, -50, -6), (43, -30, -14), (40, -8, -24), (34, 6, -32)),),
    (((22, -80, 10), (34, -54, 10), (37, -30, -2), (33, -4, -9), (28, 20, -4), (22, 46, 4)),),
)
_CINGULUM: Sheet = (
    ((9, 42, 6), (9, 34, 20), (8, 14, 33), (8, -10, 38), (8, -32, 36), (10, -48, 24)),
)
_PEDUNCLE: Sheet = (
    ((0, -14, -32), (11, -20, -33), (19, -36, -34), (25, -52, -34), (27, -64, -36)),
)
_LEMNISCUS: Sheet = (((3, -38, -56), (5, -34, -42), (6, -30, -26), (9, -24, -10), (13, -22, -2)),)


@dataclass(frozen=True)
class Tract:
    """One tract of both sides.

    Attributes
    ----------
    sheets : tuple
        Branches of curves through points (mm, right side); branches of a sheet are blended.
    radii : tuple of float
        Radius at the first point, in between, and at the last point of each curve, mm.
    fa : float
        Fractional anisotropy of its white matter before anything differs between people.
    crossing : bool
        Curves go on to the other side and the tract has no side.
    """

    sheets: tuple[Sheet, ...]
    radii: tuple[float, ...]
    fa: float
    crossing: bool = False


TRACTS: dict[str, Tract] = {
    "corticospinal_tract": Tract((_CORTICOSPINAL,), (4.5, 3.5, 3.5, 3.0, 2.0), 0.62),
    "corticostriatal_tract": Tract(_CORTICOSTRIATAL, (3.0, 3.5, 4.0), 0.46),
    "corticothalamic_tract": Tract(_CORTICOTHALAMIC, (3.0, 3.5, 4.0), 0.50),
    "corpus_callosum": Tract((_CALLOSUM,), (5.5, 4.5, 4.0, 4.5, 5.5), 0.68, crossing=True),
    "superior_longitudinal": Tract(_LONGITUDINAL, (3.5, 4.0, 3.5), 0.52),
    "inferior_longitudinal": Tract(_INFERIOR, (4.0, 4.0, 4.0), 0.50),
    "cingulum": Tract((_CINGULUM,), (3.0, 3.0, 3.0), 0.54),
    "middle_cerebellar_peduncle": Tract((_PEDUNCLE,), (3.5, 4.0, 4.0), 0.58, crossing=True),
    "medial_lemniscus": Tract((_LEMNISCUS,), (2.5, 3.0, 3.0), 0.52),
}
OTHER_FA = 0.40  # of white matter that belongs to no tract


@dataclass(frozen=True)
class Bundles:
    """Membership and direction of all tracts on a lattice of template space.

    Attributes
    ----------
    membership : (a, b, c, n) float32 array
        1 inside each tract of `TRACTS`, 0 outside, left and right together. Tracts share no
        place: where they cross it belongs to the one named first.
    dyad : (a, b, c, 6) float32 array
        Outer product of the direction with itself: xx, xy, xz, yy, yz, zz.
    affine : (4, 4) array
        Voxel to mm of the lattice.
    """

    membership: NDArray
    dyad: NDArray
    affine: NDArray


def tract_curves(tract: Tract) -> tuple[NDArray, NDArray, NDArray]:
    """Points (n, 3), unit directions (n, 3) and radii (n,) of a tract on both sides, mm."""
    parts = []
    for sheet in tract.sheets:
        for branch in _blended(np.array(sheet, float)):
            if tract.crossing and branch[0, 0] == 0:
                branch = branch[::-1]
            parts.append(_sample_curve(branch, tract))
            if not tract.crossing:
                parts.append(_sample_curve(branch * (-1, 1, 1), tract))
    points, directions, radii = (np.concatenate(part) for part in zip(*parts, strict=True))
    return points, directions, radii


def _blended(sheet: NDArray) -> NDArray:
    """Branches of a sheet, (m, points, 3), and `BLENDS` - 1 curves between neighbours."""
    if len(sheet) == 1:
        return sheet
    places = np.linspace(0, len(sheet) - 1, BLENDS * (len(sheet) - 1) + 1)
    first = np.minimum(places.astype(int), len(sheet) - 2)
    share = (places - first)[:, None, None]
    return (1 - share) * sheet[first] + share * sheet[first + 1]


def _sample_curve(branch: NDArray, tract: Tract) -> tuple[NDArray, NDArray, NDArray]:
    """Points, directions, radii along a smooth curve through the points of a branch."""
    if tract.crossing:
        branch = np.concatenate([branch, branch[-2::-1] * (-1, 1, 1)])
    knots = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(branch, axis=0), axis=1))])
    curve = CubicSpline(knots, branch)
    along = np.linspace(0, knots[-1], int(np.ceil(knots[-1] / STEP)) + 1)
    directions = curve(along, 1)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    radii = np.interp(along / knots[-1], np.linspace(0, 1, len(tract.radii)), tract.radii)
    return curve(along), directions, radii


def _packed(directions: NDArray) -> NDArray:
    """Outer products (..., 6) of directions (..., 3) with themselves."""
    x, y, z = np.moveaxis(directions, -1, 0)
    return np.stack([x * x, x * y, x * z, y * y, y * z, z * z], axis=-1)


def unpacked(dyad: NDArray) -> NDArray:
    """Symmetric matrices (..., 3, 3) of the six elements (..., 6): xx, xy, xz, yy, yz, zz."""
    return dyad[..., [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(*dyad.shape[:-1], 3, 3)


def _inside(tract: Tract, points: NDArray) -> tuple[NDArray, NDArray]:
    """Membership (n,) of points (n, 3), and dyads (n, 6), zero outside the tract."""
    curve, directions, radii = tract_curves(tract)
    reach = float(radii.max()) + EDGE
    box = ((points > curve.min(0) - reach) & (points < curve.max(0) + reach)).all(1)
    distance, nearest = cKDTree(curve).query(points[box], NEIGHBOURS, distance_upper_bound=reach)
    known = np.isfinite(distance)
    nearest = np.where(known, nearest, 0)
    depth = np.where(known, radii[nearest] - distance, -np.inf).max(1)
    weights = np.where(known, np.exp(-((distance / 2) ** 2) / 2), 0) + 1e-9 * known
    total = np.maximum(weights.sum(1), 1e-12)
    mean = np.einsum("nk,nkd->nd", weights, _packed(directions)[nearest]) / total[:, None]
    membership, dyads = np.zeros(len(points)), np.zeros((len(points), 6))
    membership[box] = np.clip(depth / EDGE + 0.5, 0, 1)
    dyads[box] = mean
    return membership, dyads


def lay_bundles() -> Bundles:
    """Membership and direction of every tract on a lattice over the MNI brain."""
    affine = np.diag([SPACING] * 3 + [1.0])
    affine[:3, 3] = LOW
    shape = tuple(int(round((b - a) / SPACING)) + 1 for a, b in zip(LOW, HIGH, strict=True))
    points = grid_points(shape, affine).reshape(3, -1).T
    free = np.ones(len(points))
    membership = np.zeros((*shape, len(TRACTS)), np.float32)
    dyad = np.zeros((*shape, 6), np.float32)
    for place, tract in enumerate(TRACTS.values()):
        inside, mean = _inside(tract, points)
        own = inside * free  # a place belongs to the first tract that runs through it
        free -= own
        membership[..., place] = own.reshape(shape)
        dyad += (own[:, None] * mean).reshape(*shape, 6).astype(np.float32)
    filled = dyad.copy()
    for width, weight in FILLS.items():
        smooth = ndimage.gaussian_filter(dyad, (*[width / SPACING] * 3, 0))
        trace = smooth[..., [0, 3, 5]].sum(-1, keepdims=True)
        filled += weight * smooth / np.maximum(trace, 1e-6)
    return Bundles(membership, filled, affine)


def sample_lattice(bundles: Bundles, values: NDArray, points: NDArray) -> NDArray:
    """Values (a, b, c, k) of the lattice at points (3, n) of the template, (n, k), linear."""
    at = apply_affine(np.linalg.inv(bundles.affine), points)
    return np.stack(
        [
            ndimage.map_coordinates(values[..., channel], at, order=1, mode="nearest")
            for channel in range(values.shape[-1])
        ],
        axis=-1,
    )


def principal_directions(bundles: Bundles, points: NDArray) -> NDArray:
    """Unit direction of the fibres, (n, 3), at points (3, n) of the template."""
    _, vectors = np.linalg.eigh(unpacked(sample_lattice(bundles, bundles.dyad, points)))
    return vectors[..., -1]


def tract_labels() -> list[dict[str, object]]:
    """Rows of a label table, one per mask of `tract_masks`: index, name, side, region."""
    rows: list[dict[str, object]] = []
    for name, tract in TRACTS.items():
        stem = name.removesuffix("_tract").title()
        for side in ("",) if tract.crossing else SIDES:
            rows.append(
                {
                    "index": len(rows),
                    "name": f"{stem}_{side[0].upper()}" if side else stem,
                    "side": side,
                    "region": name if name in MEASURED else "",
                }
            )
    return rows


def tract_masks(bundles: Bundles, white: NDArray, affine: NDArray) -> tuple[NDArray, NDArray]:
    """Mask of each tract and side where the template is white.

    Parameters
    ----------
    bundles : Bundles
        The tracts.
    white : (x, y, z) bool array
        White matter of the template.
    affine : (4, 4) array
        Voxel to mm of `white`.

    Returns
    -------
    masks : (a, b, c, n) uint8 array
        In the order of `tract_labels`, on the part of the grid that holds the lattice.
    affine : (4, 4) array
        Voxel to mm of that part.
    """
    corners = np.array(LOW), np.array(HIGH)
    ends = apply_affine(np.linalg.inv(affine), np.stack(corners, axis=1))
    first = np.maximum(np.floor(ends.min(1)), 0).astype(int)
    last = np.minimum(np.ceil(ends.max(1)) + 1, white.shape).astype(int)
    white = white[tuple(slice(a, b) for a, b in zip(first, last, strict=True))]
    affine = affine.copy()
    affine[:3, 3] += affine[:3, :3] @ first
    at = np.argwhere(white).T
    points = apply_affine(affine, at)
    inside = sample_lattice(bundles, bundles.membership, points) >= 0.5
    masks = []
    for place, tract in enumerate(TRACTS.values()):
        halves = ((True,),) if tract.crossing else ((points[0] < 0,), (points[0] > 0,))
        for (half,) in halves:
            mask = np.zeros(white.shape, np.uint8)
            mask[tuple(at)] = inside[:, place] & half
            masks.append(mask)
    return np.stack(masks, axis=-1), affine
