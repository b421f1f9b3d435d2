"""How far a head moved from one volume of a series to the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

POWER_RADIUS = 50.0  # mm, sphere on which Power turns degrees into mm
JENKINSON_RADIUS = 80.0  # mm, sphere over which Jenkinson averages


def steps_between(head_to_volume: NDArray, series: NDArray | None = None) -> NDArray:
    """Rigid motion from the volume before to each volume, (n, 4, 4) world mm.

    NaN where there is no volume before: the first of all, and the first of each run if `series`
    (n,) numbers the runs.
    """
    matrices = np.asarray(head_to_volume, float)
    steps = np.full_like(matrices, np.nan)
    steps[1:] = matrices[1:] @ np.linalg.inv(matrices[:-1])
    if series is not None:
        steps[1:][np.diff(np.asarray(series)) != 0] = np.nan
    return steps


def framewise_displacement(
    head_to_volume: NDArray,
    centre: NDArray,
    series: NDArray | None = None,
    radius: float = POWER_RADIUS,
) -> NDArray:
    """Power's framewise displacement of each volume, (n,) mm [1]_.

    The sum of the absolute translations along, and rotations about, the three world axes through
    `centre`, the rotations as arcs on a sphere.

    Parameters
    ----------
    head_to_volume : (n, 4, 4) array
        Rigid motion, world mm: where a point of the reference head lies in each volume.
    centre : (3,) array
        Middle of the brain, world mm: far from it a rotation counts as a translation, too.
    series : (n,) int array, optional
        Number of the run of each volume; the first volume of a run is NaN.
    radius : float
        Of the sphere, mm.

    References
    ----------
    .. [1] Power et al. (2012). NeuroImage 59:2142-2154. doi:10.1016/j.neuroimage.2011.10.018
    """
    steps = steps_between(head_to_volume, series)
    known = np.isfinite(steps[:, 0, 0])
    moved = np.full(len(steps), np.nan)
    matrices = steps[known]
    shifts = matrices[:, :3, :3] @ centre + matrices[:, :3, 3] - centre
    turns = Rotation.from_matrix(matrices[:, :3, :3]).as_rotvec() if known.any() else shifts
    moved[known] = np.abs(shifts).sum(axis=1) + radius * np.abs(turns).sum(axis=1)
    return moved


def rms_displacement(
    head_to_volume: NDArray,
    centre: NDArray,
    series: NDArray | None = None,
    radius: float = JENKINSON_RADIUS,
) -> NDArray:
    """Jenkinson's root-mean-square displacement of a sphere since the volume before, (n,) mm [1]_.

    Parameters are those of `framewise_displacement`; `radius` is that of the sphere.

    References
    ----------
    .. [1] Jenkinson (1999). FMRIB technical report TR99MJ1, Measuring transformation error by
       RMS deviation.
    """
    change = steps_between(head_to_volume, series) - np.eye(4)
    turns, shifts = change[:, :3, :3], change[:, :3, 3]
    at_centre = turns @ centre + shifts
    return np.sqrt(radius**2 / 5 * (turns**2).sum(axis=(1, 2)) + (at_centre**2).sum(axis=1))
