"""How many volumes at the start of a run were acquired before the signal had become steady."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from alsflow.nodes.errors import BadInputError

MOST = 10  # volumes that may be found unsteady; magnetisation has settled long before
FEWEST = 12  # volumes without which the steady level cannot be told
WINDOW = 50  # volumes after the first ones that show the steady level
EXCESS_SD = 5.0  # robust standard deviations above the steady level
EXCESS = 0.005  # share of the signal; for less no volume is dropped


def count_initial(signal: NDArray) -> int:
    """Number of initial volumes of a run (x, y, z, n) that are brighter than all that follow.

    Until the magnetisation has reached its steady state, volumes are too bright. The mean over
    the voxels above the mean of the image is compared with a robust line (Theil-Sen) through the
    later volumes, so that a drift of the scanner is no reason to drop any. Only volumes at the
    very start, one after the other, are counted: at most `MOST`, and at most a third of the run.
    """
    count = signal.shape[3]
    if count < FEWEST:
        raise BadInputError(
            f"has {count} volumes, too few to see which of the first are not in the steady "
            "state; say how many to drop"
        )
    later = np.mean(signal[..., count // 2 :: max(count // 20, 1)], axis=-1, dtype=float)
    bright = later > later.mean()
    if not bright.any():
        return 0
    return unsteady(np.array([signal[..., v][bright].mean(dtype=float) for v in range(count)]))


def unsteady(level: NDArray) -> int:
    """Number of initial values of a series (n,) that lie above its later course."""
    first = min(MOST, len(level) // 3)
    steady = np.arange(first, min(len(level), first + WINDOW))
    slope, offset, _, _ = stats.theilslopes(level[steady], steady)
    rest = level - (offset + slope * np.arange(len(level)))
    spread = 1.4826 * np.median(np.abs(rest[steady]))
    least = EXCESS * abs(float(np.median(level[steady])))
    high = rest[:first] > max(EXCESS_SD * spread, least)
    return first if high.all() else int(np.argmin(high))
