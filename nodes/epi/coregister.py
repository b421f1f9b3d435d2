"""Rigid placement of an echo-planar image on the T1-weighted head of the same person.

Two costs, one after the other. The first asks how well the image is explained by the tissue
under each voxel (one intensity for grey matter, white matter, CSF and the rest, fitted anew at
every step); it is smooth, finds its way from far, and needs no histogram. The second looks only
at the border of grey and white matter, where distortion, fat and coil shading matter least.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from alsflow.nodes.anat.bias import n4_field
from alsflow.nodes.anat.morphology import dilate
from alsflow.nodes.anat.quality import Flag
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import apply_affine, grid_over, resample, voxel_sizes

FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))  # full width at half maximum of a Gaussian of SD 1
ARM = 60.0  # mm; turns are counted in mm at this distance from the centre
MARGIN = 8.0  # mm around the mask that count as "not brain" in the first cost
TISSUE_VOXEL = 2.0  # mm, grid of the tissue maps in the first cost
SHORT = 100.0  # mm; a view lower than this may show any part of the head
TURNS = (-20.0, 0.0, 20.0)  # degrees tried about each axis
SHIFTS = (-40.0, -20.0, 0.0, 20.0, 40.0)  # mm tried along an axis with a short view
HEADER_LEAD = 0.02  # of explained variance by which another start must beat the header's
SLOPE = 0.5  # per percent; of the boundary cost, as published
TRIES, FINALS = 5, 2  # descents from different matrices, blurred and sharper
SIGNS = {"grey_bright": 1.0, "white_bright": -1.0}
# blur (FWHM, mm), distance from the border at which both sides are looked at (mm), first step
# (mm), every how many-th border point
LEVELS = ((4.0, 3.0, 2.0, 3), (0.0, 2.0, 0.5, 1))
REACH = LEVELS[-1][1]
HEADER_SPARE = 0.05  # loss of explained variance with which the header is still a place to begin
NEAR = 5.0  # mm beyond the field of view from which border points may still come in
GUARD = 0.5  # weight of the first cost beside the second
# Limits of `judge`; docs/tracts.md has the alignments, right and wrong, that they stand between
LEAST_BOUNDARY = 500  # points of the border in view
LEAST_RIGHT = 0.72  # share of them with the sign that most have
LEAST_DICE = 0.75  # of the two brains in the field of view
# Where grey and white matter hardly differ, as in BOLD images of short repetition time, the border
# proves little. Then a place counts that two starts lead to, if the brains overlap well.
LEAST_RIGHT_TWICE, LEAST_DICE_TWICE = 0.62, 0.85
MOST_APART = 1.0  # mm between the two places, mean over the brain
Start = Literal["auto", "header", "centres"]
Cost = Callable[[NDArray], float]
Contrast = Literal["auto", "grey_bright", "white_bright"]


@dataclass(frozen=True)
class Coregistration:
    """Where an image lies on the T1-weighted head, and how far to trust it.

    Attributes
    ----------
    matrix : (4, 4) array
        World mm of the image to world mm of the T1-weighted head.
    start : str
        ``header`` or ``centres``: what the alignment began from.
    metrics : dict
        See `quality`; and ``explained_before``, ``explained_after``: variance explained by tissue
        at the header's alignment and at the one found; where there was doubt ``starts_apart``,
        mm between the places that two starts led to.
    flags : list of Flag
        Why the alignment should not be used; empty when it may.
    """

    matrix: NDArray
    start: str
    metrics: dict[str, float]
    flags: list[Flag]


@dataclass(frozen=True)
class Boundary:
    """Points on the border of grey and white matter.

    Attributes
    ----------
    points : (3, n) array
        World mm.
    normals : (3, n) array
        Unit vectors towards the grey matter.
    """

    points: NDArray
    normals: NDArray


# ---------------------------------------------------------------------------- interpolation


@numba.njit
def _moments(tissue: NDArray, matrix: NDArray, points: NDArray, values: NDArray) -> NDArray:
    """Sums of products of 1, the tissue fractions at `matrix` @ `points`, and the values."""
    nx, ny, nz, channels = tissue.shape
    size = channels + 2
    total = np.zeros((size, size))
    row = np.zeros(size)
    row[0] = 1.0
    for i in range(points.shape[1]):
        px, py, pz = points[0, i], points[1, i], points[2, i]
        x = matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2] * pz + matrix[0, 3]
        y = matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2] * pz + matrix[1, 3]
        z = matrix[2, 0] * px + matrix[2, 1] * py + matrix[2, 2] * pz + matrix[2, 3]
        for c in range(channels):
            row[c + 1] = 0.0
        if 0 <= x < nx - 1 and 0 <= y < ny - 1 and 0 <= z < nz - 1:
            ix, iy, iz = int(x), int(y), int(z)
            fx, fy, fz = x - ix, y - iy, z - iz
            for corner in range(8):
                dx, dy, dz = corner & 1, (corner >> 1) & 1, corner >> 2
                weight = (
                    (fx if dx else 1.0 - fx) * (fy if dy else 1.0 - fy) * (fz if dz else 1.0 - fz)
                )
                for c in range(channels):
                    row[c + 1] += weight * tissue[ix + dx, iy + dy, iz + dz, c]
        row[size - 1] = values[i]
        for a in range(size):
            for b in range(a, size):
                total[a, b] += row[a] * row[b]
    for a in range(size):
        for b in range(a):
            total[a, b] = total[b, a]
    return total


@numba.njit
def _sampled(
    volume: NDArray, matrix: NDArray, points: NDArray, normals: NDArray, step: float
) -> NDArray:
    """Values of a volume at `matrix` @ (points + step * normals); NaN outside the view."""
    nx, ny, nz = volume.shape
    found = np.full(points.shape[1], np.nan)
    for i in range(points.shape[1]):
        px = points[0, i] + step * normals[0, i]
        py = points[1, i] + step * normals[1, i]
        pz = points[2, i] + step * normals[2, i]
        x = matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2] * pz + matrix[0, 3]
        y = matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2] * pz + matrix[1, 3]
        z = matrix[2, 0] * px + matrix[2, 1] * py + matrix[2, 2] * pz + matrix[2, 3]
        if not (0 <= x < nx - 1 and 0 <= y < ny - 1 and 0 <= z < nz - 1):
            continue
        ix, iy, iz = int(x), int(y), int(z)
        fx, fy, fz = x - ix, y - iy, z - iz
        value = 0.0
        for corner in range(8):
            dx, dy, dz = corner & 1, (corner >> 1) & 1, corner >> 2
            weight = (fx if dx else 1.0 - fx) * (fy if dy else 1.0 - fy) * (fz if dz else 1.0 - fz)
            value += weight * volume[ix + dx, iy + dy, iz + dz]
        found[i] = value
    return found


# ---------------------------------------------------------------------------- rigid motion


def rigid(parameters: NDArray, centre: NDArray) -> NDArray:
    """Matrix of three shifts and three turns about `centre`, all in mm (turns at `ARM`)."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.asarray(parameters[3:]) / ARM).as_matrix()
    matrix[:3, 3] = centre + parameters[:3] - matrix[:3, :3] @ centre
    return matrix


def improved(cost: Cost, matrix: NDArray, centre: NDArray, step: float) -> tuple[NDArray, float]:
    """Lower a cost of a (4, 4) matrix by a rigid motion after it, about `centre`; by Powell."""
    found = optimize.minimize(
        lambda parameters: cost(rigid(step * parameters, centre) @ matrix),
        np.zeros(6),
        method="Powell",
        options={"xtol": 0.02 / step, "ftol": 1e-6, "maxiter": 12},
    )
    return rigid(step * found.x, centre) @ matrix, float(found.fun)


# ---------------------------------------------------------------------------- explained variance


class TissueCost:
    """Share of an image's variance that the tissue fractions under it leave unexplained."""

    def __init__(
        self, image: NDArray, affine: NDArray, where: NDArray, fwhm: float, count: int
    ) -> None:
        sigma = fwhm / FWHM / voxel_sizes(affine)
        smooth = ndimage.gaussian_filter(image.astype(np.float32), sigma)
        voxels = scattered(where, count)
        self.values = ndimage.map_coordinates(smooth, voxels, order=1, mode="nearest")
        self.points = apply_affine(affine, voxels)
        self.fwhm = fwhm

    def on(self, tissue: NDArray, affine: NDArray) -> Cost:
        """Cost of a (4, 4) matrix, given tissue fractions (x, y, z, 3) as fine as the image."""
        sigma = (*(self.fwhm / FWHM / voxel_sizes(affine)), 0)
        smooth = ndimage.gaussian_filter(tissue, sigma)
        to_voxel = np.linalg.inv(affine)

        def cost(matrix: NDArray) -> float:
            sums = _moments(smooth, to_voxel @ matrix, self.points, self.values)
            return unexplained(sums)

        return cost


def unexplained(sums: NDArray) -> float:
    """Residual over total variance of the last variable, from the sums of products."""
    total = sums[-1, -1] - sums[0, -1] ** 2 / sums[0, 0]
    normal = sums[:-1, :-1] + 1e-6 * sums[0, 0] * np.eye(len(sums) - 1)
    fitted = sums[:-1, -1] @ np.linalg.solve(normal, sums[:-1, -1])
    return float((sums[-1, -1] - fitted) / total)


def scattered(where: NDArray, count: int) -> NDArray:
    """About `count` places (3, n) in voxels, evenly over a mask, each off its voxel's centre.

    Off the centres because a cost sampled on a grid favours shifts by whole voxels. The offsets
    are an additive recurrence, the same in every run.
    """
    voxels = np.argwhere(where)
    voxels = voxels[:: max(1, len(voxels) // count)]
    ratios = np.array([0.8191725134, 0.6710436067, 0.5497004779])  # powers of 1 / 1.22074
    offsets = (np.arange(1, len(voxels) + 1)[:, None] * ratios) % 1 - 0.5
    return np.ascontiguousarray((voxels + offsets).T)


# ---------------------------------------------------------------------------- boundary


def boundary(gm: NDArray, wm: NDArray, affine: NDArray, most: int = 20000) -> Boundary:
    """Find the border of grey and white matter where there is plenty of both at its sides.

    Parameters
    ----------
    gm, wm : (x, y, z) array
        Tissue fractions.
    affine : (4, 4) array
        Voxel to mm.
    most : int
        Points kept, evenly chosen.
    """
    zooms = voxel_sizes(affine)
    level = ndimage.gaussian_filter(wm.astype(np.float32), 0.5 / zooms)
    near = (np.abs(level - 0.5) < 0.25) & (gm + wm > 0.8)
    slope = np.stack([part[near] for part in np.gradient(level)])
    steepness = (slope**2).sum(axis=0)
    voxels = np.argwhere(near).T - (level[near] - 0.5) * slope / np.maximum(steepness, 1e-6)
    normals = -np.linalg.inv(affine[:3, :3]).T @ slope
    length = np.sqrt((normals**2).sum(axis=0))
    points, normals = apply_affine(affine, voxels), normals / np.maximum(length, 1e-9)
    to_voxel = np.linalg.inv(affine)
    white = _sampled(wm.astype(np.float32), to_voxel, points, normals, -2.0)
    grey = _sampled(gm.astype(np.float32), to_voxel, points, normals, 1.5)
    offset = np.abs(voxels - np.argwhere(near).T).max(axis=0)
    good = (white > 0.8) & (grey > 0.5) & (offset < 1) & (length > 0.1)
    chosen = np.flatnonzero(good)
    chosen = chosen[:: max(1, -(-len(chosen) // most))]
    return Boundary(
        np.ascontiguousarray(points[:, chosen]), np.ascontiguousarray(normals[:, chosen])
    )


def contrast_across(
    image: NDArray, affine: NDArray, border: Boundary, matrix: NDArray, reach: float
) -> NDArray:
    """Contrast at each border point, (n,), percent: grey less white over their mean.

    NaN where the image does not show both sides.
    """
    to_voxel = np.linalg.inv(affine) @ np.linalg.inv(matrix)
    grey = _sampled(image, to_voxel, border.points, border.normals, reach)
    white = _sampled(image, to_voxel, border.points, border.normals, -reach)
    with np.errstate(invalid="ignore", divide="ignore"):
        contrast = 200 * (grey - white) / (grey + white)
    contrast[~(grey + white > 0)] = np.nan
    return contrast


def boundary_cost(
    image: NDArray, affine: NDArray, border: Boundary, sign: float, reach: float
) -> Cost:
    """Boundary cost of a (4, 4) matrix [1]_; points out of view count as without contrast.

    References
    ----------
    .. [1] Greve and Fischl (2009). NeuroImage 48:63-72. doi:10.1016/j.neuroimage.2009.06.060
    """

    def cost(matrix: NDArray) -> float:
        contrast = contrast_across(image, affine, border, matrix, reach)
        return float(1 - np.tanh(SLOPE * sign * np.nan_to_num(contrast)).mean())

    return cost


def in_view(
    border: Boundary, affine: NDArray, shape: tuple[int, ...], matrix: NDArray, every: int = 1
) -> Boundary:
    """Every so-many-th border point of those in the field of view or `NEAR` mm beyond."""
    voxels = apply_affine(np.linalg.inv(affine) @ np.linalg.inv(matrix), border.points)
    reach = (NEAR / voxel_sizes(affine))[:, None]
    ends = np.array(shape)[:, None] - 1
    chosen = np.flatnonzero(((voxels >= -reach) & (voxels <= ends + reach)).all(axis=0))[::every]
    return Boundary(
        np.ascontiguousarray(border.points[:, chosen]),
        np.ascontiguousarray(border.normals[:, chosen]),
    )


# ---------------------------------------------------------------------------- the whole


def coregister(
    reference: NDArray,
    affine: NDArray,
    mask: NDArray,
    brain: NDArray,
    gm: NDArray,
    wm: NDArray,
    t1w_affine: NDArray,
    *,
    start: Start = "auto",
    contrast: Contrast = "auto",
) -> Coregistration:
    """Place an echo-planar image on the T1-weighted head of the same person.

    Parameters
    ----------
    reference : (x, y, z) array
        Mean b=0, mean diffusion-weighted or mean BOLD image; any field of view.
    affine, t1w_affine : (4, 4) array
        Voxel to mm.
    mask : (x, y, z) bool array
        Brain in `reference`, roughly.
    brain : (u, v, w) bool array
        Brain with its CSF in the T1-weighted head.
    gm, wm : (u, v, w) array
        Tissue fractions in the T1-weighted head.
    start : {"auto", "header", "centres"}
        What to begin from: where the headers put the images, or brain centre on brain centre;
        ``auto`` tries both and leaves the header only for a clearly better place.
    contrast : {"grey_bright", "white_bright"}
        Which side of the border is brighter: grey in b=0 and BOLD images, white in maps of FA.
    """
    _check(reference, mask, brain, gm, wm)
    ranks = ranked(levelled(reference, affine, mask), mask)
    tissue, tissue_affine = tissue_grid(brain, gm, wm, t1w_affine)
    centre = apply_affine(t1w_affine, np.array(ndimage.center_of_mass(brain)))
    where = dilate(mask, MARGIN, voxel_sizes(affine))
    coarse = TissueCost(ranks, affine, where, 12.0, 3000).on(tissue, tissue_affine)
    fine = TissueCost(ranks, affine, where, 5.0, 8000).on(tissue, tissue_affine)
    bases = _bases(mask, affine, centre, start)
    ends = {name: _descended(coarse, fine, base, centre) for name, base in bases.items()}
    chosen = _best(ends)
    border = boundary(gm, wm, t1w_affine)
    starts = [ends[chosen][0]]
    before = fine(np.eye(4))
    if chosen == "header" and before < ends[chosen][1] + HEADER_SPARE:
        starts.append(np.eye(4))
    matrix, sign = _refined(reference, affine, border, starts, centre, fine, contrast)
    metrics = {"explained_before": 1 - before, "explained_after": 1 - fine(matrix)}
    metrics |= quality(reference, affine, mask, brain, t1w_affine, border, matrix, sign)
    flags = judge(metrics)
    if flags and len(ends) > 1:
        other = ends[next(name for name in ends if name != chosen)][0]
        again, _ = _refined(reference, affine, border, [other], centre, fine, contrast)
        metrics["starts_apart"] = _apart(matrix, again, affine, mask)
        flags = judge(metrics)
    return Coregistration(matrix, chosen, metrics, flags)


def _apart(first: NDArray, second: NDArray, affine: NDArray, mask: NDArray) -> float:
    """Mean distance between the places that two matrices give the voxels of a mask, mm."""
    points = apply_affine(affine, np.argwhere(mask)[::31].T)
    away = apply_affine(first, points) - apply_affine(second, points)
    return float(np.sqrt((away**2).sum(axis=0)).mean())


def _check(reference: NDArray, mask: NDArray, *head: NDArray) -> None:
    """Refuse what cannot be aligned, in words."""
    if not np.isfinite(reference).all():
        raise BadInputError("the reference image has values that are not numbers")
    if not mask.any() or np.ptp(reference[mask]) == 0:
        raise BadInputError("the reference image shows no brain: its mask is empty or it is flat")
    if not head[0].any() or head[1].max() <= 0.5 or head[2].max() <= 0.5:
        raise BadInputError("the T1-weighted head has no brain, grey matter or white matter")


def levelled(image: NDArray, affine: NDArray, mask: NDArray) -> NDArray:
    """Image without coil shading, 1 on average in the mask, bright spots cut."""
    field = n4_field(np.maximum(image, 0), voxel_sizes(affine), mask, 8.0, (20, 20, 20))
    even = np.maximum(image, 0) / field
    even /= even[mask].mean()
    return np.minimum(even, np.percentile(even[mask], 99.5)).astype(np.float32)


def ranked(image: NDArray, mask: NDArray) -> NDArray:
    """Share of the mask's voxels that are darker than each voxel, 0 to 1.

    Ranks keep bright CSF and fat from outweighing the difference between all other tissues.
    """
    order = np.sort(image[mask])[:: max(1, int(mask.sum()) // 4096)]
    return np.interp(image, order, np.linspace(0, 1, len(order))).astype(np.float32)


def tissue_grid(
    brain: NDArray, gm: NDArray, wm: NDArray, affine: NDArray
) -> tuple[NDArray, NDArray]:
    """Fractions of grey matter, white matter and CSF, (x, y, z, 3), on a grid of 2 mm."""
    csf = np.clip(brain - gm - wm, 0, 1)
    shape, coarse = grid_over(gm.shape, affine, TISSUE_VOXEL)
    sigma = 0.35 * TISSUE_VOXEL / voxel_sizes(affine)
    parts = [ndimage.gaussian_filter(part.astype(np.float32), sigma) for part in (gm, wm, csf)]
    tissue = np.stack([resample(part, affine, shape, coarse) for part in parts], axis=-1)
    return np.ascontiguousarray(tissue), coarse


def _bases(mask: NDArray, affine: NDArray, centre: NDArray, start: Start) -> dict[str, list]:
    """Matrices to begin from, by the start they belong to."""
    bases: dict[str, list] = {}
    if start in ("auto", "header"):
        bases["header"] = [np.eye(4)]
    if start in ("auto", "centres"):
        own = apply_affine(affine, np.array(ndimage.center_of_mass(mask)))
        shift = np.eye(4)
        shift[:3, 3] = centre - own
        turns = [ARM * np.deg2rad(turn) for turn in product(TURNS, repeat=3)]
        along = [np.asarray(step) for step in product(*_shifts(mask, affine))]
        axes = affine[:3, :3] / voxel_sizes(affine)
        bases["centres"] = [
            rigid(np.concatenate([axes @ step, turn]), centre) @ shift
            for turn in turns
            for step in along
        ]
    return bases


def _shifts(mask: NDArray, affine: NDArray) -> list[tuple[float, ...]]:
    """Shifts to try along each axis of an image, mm: those along which it shows only a part."""
    extents = np.array(mask.shape) * voxel_sizes(affine)
    return [SHIFTS if extent < SHORT else (0.0,) for extent in extents]


def _descended(
    coarse: Cost, fine: Cost, bases: list[NDArray], centre: NDArray
) -> tuple[NDArray, float]:
    """Best end of a descent from the most promising matrices."""
    promising = sorted(range(len(bases)), key=lambda k: coarse(bases[k]))[:TRIES]
    ends = [improved(coarse, bases[k], centre, 6.0) for k in promising]
    ends.sort(key=lambda end: end[1])
    finals = [improved(fine, matrix, centre, 2.0) for matrix, _ in ends[:FINALS]]
    return min(finals, key=lambda end: end[1])


def _best(ends: dict[str, tuple[NDArray, float]]) -> str:
    """Name of the start to keep: the header's unless another explains clearly more."""
    chosen = min(ends, key=lambda name: ends[name][1])
    if "header" in ends and ends["header"][1] < ends[chosen][1] + HEADER_LEAD:
        return "header"
    return chosen


def _refined(
    image: NDArray,
    affine: NDArray,
    border: Boundary,
    starts: list[NDArray],
    centre: NDArray,
    guard: Cost,
    contrast: Contrast,
) -> tuple[NDArray, float]:
    """Alignment on the border of grey and white matter, from blurred to sharp, and its sign.

    The first cost, `guard`, stays in with a small weight: it holds the image on the brain where
    the border says little.
    """
    signs = SIGNS.values() if contrast == "auto" else [SIGNS[contrast]]
    tries = [(start, sign, 0.0) for start in starts for sign in signs]
    for fwhm, reach, step, every in LEVELS:
        sigma = fwhm / FWHM / voxel_sizes(affine)
        blurred = ndimage.gaussian_filter(image.astype(np.float32), sigma)
        ends = []
        for matrix, sign, _ in tries:
            near = in_view(border, affine, image.shape, matrix, every)
            edge = boundary_cost(blurred, affine, near, sign, reach)
            end = improved(_guarded(edge, guard), matrix, centre, step)
            ends.append((end[0], sign, end[1]))
        tries = [min(ends, key=lambda end: end[2])]
    return tries[0][0], tries[0][1]


def _guarded(edge: Cost, guard: Cost) -> Cost:
    return lambda matrix: edge(matrix) + GUARD * guard(matrix)


def quality(
    image: NDArray,
    affine: NDArray,
    mask: NDArray,
    brain: NDArray,
    t1w_affine: NDArray,
    border: Boundary,
    matrix: NDArray,
    sign: float = 1.0,
) -> dict[str, float]:
    """How well an image lies where a matrix puts it.

    Returns
    -------
    dict
        ``boundary_contrast``: mean contrast across the border of grey and white matter, percent,
        positive where it has the expected sign; ``boundary_right``: share of border points with
        the expected sign; ``boundary_points``: border points in view; ``mask_dice``: overlap of
        the two brains within the field of view.
    """
    values = sign * contrast_across(image, affine, border, matrix, REACH)
    seen = values[np.isfinite(values)]
    there = resample(brain.astype(np.float32), t1w_affine, mask.shape, matrix @ affine) > 0.5
    both = int((there & mask).sum())
    return {
        "boundary_contrast": float(np.clip(seen, -100, 100).mean()) if len(seen) else np.nan,
        "boundary_right": float((seen > 0).mean()) if len(seen) else np.nan,
        "boundary_points": float(len(seen)),
        "mask_dice": 2 * both / max(1, int(there.sum() + mask.sum())),
    }


def judge(metrics: dict[str, float]) -> list[Flag]:
    """Reasons why an alignment should not be used; empty when it may.

    ``starts_apart``, mm, is known where two starts were followed to their end.
    """
    points, right = metrics["boundary_points"], metrics["boundary_right"]
    twice = (
        right >= LEAST_RIGHT_TWICE
        and metrics["mask_dice"] >= LEAST_DICE_TWICE
        and metrics.get("starts_apart", np.inf) <= MOST_APART
    )
    if points < LEAST_BOUNDARY:
        reasons = [f"only {points:.0f} points of the border of grey and white matter are in view"]
    elif not (right >= LEAST_RIGHT or twice):
        share = f"{right:.0%}" if np.isfinite(right) else "none"
        reasons = [f"grey and white matter differ as they should at only {share} of their border"]
    else:
        reasons = []
    if not metrics["mask_dice"] >= LEAST_DICE:
        reasons.append(f"the brains overlap by only {metrics['mask_dice']:.2f} (Dice)")
    return [Flag("registration_doubtful", reason) for reason in reasons]
