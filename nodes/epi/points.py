"""Points of a head at which volumes are compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.epi.pose import Frame


def spread_points(inside: NDArray, count: int, frame: Frame) -> NDArray:
    """At most `count` points (3, m), mm, spread evenly over a region and within its voxels.

    The offsets follow a sequence of low discrepancy, so the same region gives the same points.
    """
    voxels = np.flatnonzero(inside)
    number = np.arange(min(count, len(voxels)))
    chosen = voxels[(number * len(voxels)) // max(len(number), 1)]
    place = np.stack(np.unravel_index(chosen, inside.shape)).astype(float)
    steps = np.array([0.8191725134, 0.6710436067, 0.5497004779])[:, None]
    return frame.points(place + (number * steps) % 1 - 0.5)
