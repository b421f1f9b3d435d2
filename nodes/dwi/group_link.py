"""Where the diffusion-weighted volumes lie, as a group, against those without weighting.

A common shift of all weighted volumes of a shell fits their signal model as well as no shift:
only their relation to the b0s tells. Two things speak of it. A head moves on between any two scans
as it does between a b0 and its neighbour (a random walk), and the mean weighted image shares
information with the mean b0. The second is biased on real heads, where the dark rim of CSF makes
the weighted brain look smaller, so it counts little where the walk is smooth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from alsflow.nodes.epi.points import spread_points
from alsflow.nodes.epi.pose import Frame

FWHM = 2.3548  # of a Gaussian, standard deviations
BINS = 32
WIDTHS = (6.0, 3.0)  # mm, smoothing of the two means, one after the other
POINTS = 60_000
UNITS = np.array([1, 1, 1, 0.02, 0.02, 0.02, 0.02, 0.02, 0.02])  # mm, radians, scales
# mm, radians: error of mutual information up to b = 1000 s/mm2, seen against the walk of a head at
# rest; it grows with the square of b beyond.
INFORMATION_SD = np.array([0.15] * 3 + [0.0026] * 3)
INFORMATION_B = 1000.0  # s/mm2
CAUTION = 1.5  # by which the walk's own standard error is too small on phantoms
SLOPE_SD = 2.0  # mm at the largest b: size of an eddy-current translation
FLOOR = np.array([0.02] * 3 + [4e-4] * 3)  # mm, radians: least scatter of motion between scans
UNKNOWN = 9.0  # mm, radians: as good as nothing known


@numba.njit(fastmath=True)
def _joint_histogram(
    fixed: NDArray,
    moving: NDArray,
    points: NDArray,
    turn: NDArray,
    shift: NDArray,
    zooms: NDArray,
    middle: NDArray,
    low: float,
    high: float,
) -> NDArray:
    """Joint histogram of `fixed` (in bins already) and the volume `moving` at moved points."""
    counts = np.zeros((BINS + 1, BINS + 1))
    nx, ny, nz = moving.shape
    for n in range(points.shape[1]):
        x, y, z = points[0, n], points[1, n], points[2, n]
        i = (turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z + shift[0]) / zooms[0] + middle[0]
        j = (turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z + shift[1]) / zooms[1] + middle[1]
        k = (turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z + shift[2]) / zooms[2] + middle[2]
        i = min(max(i, 0.0), nx - 1.00001)
        j = min(max(j, 0.0), ny - 1.00001)
        k = min(max(k, 0.0), nz - 1.00001)
        a, b, c = int(i), int(j), int(k)
        u, v, w = i - a, j - b, k - c
        value = (1 - u) * (
            (1 - v) * ((1 - w) * moving[a, b, c] + w * moving[a, b, c + 1])
            + v * ((1 - w) * moving[a, b + 1, c] + w * moving[a, b + 1, c + 1])
        ) + u * (
            (1 - v) * ((1 - w) * moving[a + 1, b, c] + w * moving[a + 1, b, c + 1])
            + v * ((1 - w) * moving[a + 1, b + 1, c] + w * moving[a + 1, b + 1, c + 1])
        )
        binned = min(max((value - low) / (high - low), 0.0), 0.9999) * (BINS - 1)
        p, q = int(fixed[n]), int(binned)
        f, g = fixed[n] - p, binned - q
        counts[p, q] += (1 - f) * (1 - g)
        counts[p, q + 1] += (1 - f) * g
        counts[p + 1, q] += f * (1 - g)
        counts[p + 1, q + 1] += f * g
    return counts


def _entropy(weights: NDArray) -> float:
    present = weights[weights > 0]
    return float(-(present * np.log(present)).sum())


def information_shift(
    fixed: NDArray, moving: NDArray, inside: NDArray, frame: Frame
) -> tuple[NDArray, NDArray]:
    """Rigid placement of `moving` on `fixed` by normalised mutual information [1]_.

    Three scales along the axes are free as well and thrown away, else the rim of CSF shifts the
    result. Points are jittered: on the grid of `fixed` that volume alone would be unblurred, and
    its information highest at whole-voxel shifts.

    Parameters
    ----------
    fixed, moving : (x, y, z) array
        Mean b0 and mean diffusion-weighted volume on one grid.
    inside : (x, y, z) bool array
        Voxels compared.

    Returns
    -------
    turn, shift : (3,) array
        A point u of `fixed` lies at R(`turn`) u + `shift` in `moving`; radians and mm, image axes.

    References
    ----------
    .. [1] Studholme et al. (1999). Pattern Recognit 32:71-86. doi:10.1016/S0031-3203(98)00091-0
    """
    points = spread_points(inside, POINTS, frame)
    centre = points.mean(axis=1)
    found = np.zeros(9)
    for width in WIDTHS:
        sigma = width / FWHM / frame.zooms
        smooth = ndimage.gaussian_filter(fixed, sigma, mode="nearest")
        other = ndimage.gaussian_filter(moving, sigma, mode="nearest")
        values = ndimage.map_coordinates(
            smooth, points / frame.zooms[:, None] + frame.middle[:, None], order=1, mode="nearest"
        )
        low, high = np.quantile(values, [0.005, 0.995])
        bins = np.clip((values - low) / (high - low), 0, 0.9999) * (BINS - 1)
        limits = np.quantile(other[inside], [0.01, 0.995])

        def cost(
            guess: NDArray, bins: NDArray = bins, other: NDArray = other, ends: NDArray = limits
        ) -> float:
            turn, shift = _scaled_rigid(guess * UNITS, centre)
            counts = _joint_histogram(
                bins, other, points, turn, shift, frame.zooms, frame.middle, ends[0], ends[1]
            )
            joint = counts / counts.sum()
            apart = _entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))
            return -100 * apart / _entropy(joint)

        found = optimize.minimize(
            cost, found, method="BFGS", options={"eps": 0.02, "gtol": 2e-3, "maxiter": 15}
        ).x
    rigid = found * UNITS
    rigid[6:] = 0
    return rigid[3:6], _scaled_rigid(rigid, centre)[1]


def combined(information: NDArray, walk: Walk, group: int, bval: float) -> NDArray:
    """Placement (6,), mm and radians, of a group from both sources, each for what it is worth."""
    doubt = INFORMATION_SD * max(1.0, (bval / INFORMATION_B) ** 2)
    trust = walk.sd[group] ** 2 / (walk.sd[group] ** 2 + doubt**2)
    return trust * information - (1 - trust) * walk.offset[group]


def _scaled_rigid(guess: NDArray, centre: NDArray) -> tuple[NDArray, NDArray]:
    """Matrix and shift of a rotation and scaling about `centre` and a translation."""
    matrix = Rotation.from_rotvec(guess[3:6]).as_matrix() * (1 + guess[6:9])
    return matrix, guess[:3] + centre - matrix @ centre


@dataclass(frozen=True)
class Walk:
    """What the motion from scan to scan says of the groups.

    Attributes
    ----------
    offset, sd : (g, 6) array
        Translation, mm, and rotation vector, radians, by which each group lies off the b0s, and
        its standard deviation.
    slope : (3,) array
        Translation along the phase encoding, mm, that b g / max(b) of each axis brings.
    """

    offset: NDArray
    sd: NDArray
    slope: NDArray


def walk_offset(
    parameters: NDArray,
    labels: NDArray,
    weighting: NDArray,
    series: NDArray,
    axis: int | None,
) -> Walk:
    """Offset of the weighted groups from the b0s if the motion is a random walk.

    Parameters
    ----------
    parameters : (n, 6) array
        Translation, mm, and rotation vector, radians, of each volume.
    labels : (n,) int array
        0 b0, 1 and on the weighted groups, -1 volumes that are left out.
    weighting : (n, 3) array
        b g / max(b), with the sign of the polarity.
    series : (n,) int array
        Number of the run; between runs the head may move as it likes.
    axis : int or None
        Phase encoding, along which eddy currents shift as well; None without eddy currents.
    """
    groups = max(labels.max(), 0)
    kept = np.flatnonzero(labels >= 0)
    follows = np.diff(series[kept]) == 0
    change = np.diff(parameters[kept], axis=0)[follows]
    member = (labels[kept][:, None] == np.arange(1, groups + 1)).astype(float)
    joins = np.diff(member, axis=0)[follows]
    tilt = np.diff(weighting[kept], axis=0)[follows]
    walk = Walk(np.zeros((groups, 6)), np.full((groups, 6), UNKNOWN), np.zeros(3))
    tied = np.abs(joins).sum(axis=0) > 0
    for column in range(6):
        bent = axis is not None and column == axis
        design = np.hstack([joins[:, tied], tilt]) if bent else joins[:, tied]
        if design.shape[1] == 0 or len(design) == 0:
            continue
        found, spread = _robust(design, change[:, column], FLOOR[column], tied.sum())
        walk.offset[tied, column] = found[: tied.sum()]
        walk.sd[tied, column] = CAUTION * np.hypot(spread[: tied.sum()], FLOOR[column])
        if bent:
            walk.slope[:] = found[tied.sum() :]
    return walk


def _robust(
    design: NDArray, observed: NDArray, floor: float, free: int
) -> tuple[NDArray, NDArray]:
    """Robust regression (Huber); the columns after the first `free` have a prior about zero."""
    prior = np.zeros(design.shape[1])
    weights = np.ones(len(observed))
    scale = 0.1
    for _ in range(10):
        prior[free:] = (scale / SLOPE_SD) ** 2
        normal = design.T @ (weights[:, None] * design) + np.diag(prior + 1e-9)
        found = np.linalg.solve(normal, design.T @ (weights * observed))
        left = np.abs(observed - design @ found)
        scale = max(1.4826 * float(np.median(left)), floor)
        weights = 1 / np.maximum(1, left / (2 * scale))
    return found, scale * np.sqrt(np.diag(np.linalg.inv(normal)))
