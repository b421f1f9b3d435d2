"""From a stored functional series to one that the stream can use, or a refusal in words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.epi.series import check_series_grid, conform_series
from alsflow.nodes.errors import BadInputError

FEWEST = 16  # volumes; fewer show no fluctuation that could be told from noise
STRONGEST = 1e12  # arbitrary units; squares of larger values overflow float32 soon
BELOW_ZERO = 0.1  # of the sum of magnitudes; more is no magnitude image, but one without its mean


def conform_bold(signal: NDArray, affine: NDArray, drop: int) -> tuple[NDArray, NDArray]:
    """Bring one run into the nearest RAS+ order without its first volumes, or refuse it.

    Parameters
    ----------
    signal : (x, y, z, n) array
        Scaled intensities in any orientation.
    affine : (4, 4) array
        Voxels to mm.
    drop : int
        Initial volumes to leave out.

    Returns
    -------
    signal : (x, y, z, n - drop) float32 array
        Same samples, axes flipped and permuted to RAS+, nothing below zero; a view.
    affine : (4, 4) array
        Voxels to mm of the returned series.
    """
    check_series_grid(signal.shape, affine)
    check_length(signal.shape[3], drop)
    if signal.dtype.fields is None and not np.iscomplexobj(signal):
        check_magnitudes(signal)
    series, turned = conform_series(signal, affine)
    kept = series[..., drop:]
    check_change(kept)
    return kept, turned


def check_length(volumes: int, drop: int) -> None:
    """Refuse a run of which too few volumes are left."""
    if volumes - drop < FEWEST:
        what = f", {max(volumes - drop, 0)} once the first {drop} are dropped" if drop else ""
        raise BadInputError(
            f"has {volumes} volumes{what}, and at least {FEWEST} are needed; "
            "give the whole series, or leave this one out with --bids-filter-file"
        )


def check_magnitudes(signal: NDArray) -> None:
    """Refuse series that are too strong to compute with, or that swing about zero."""
    below = total = 0.0
    for v in range(signal.shape[3]):
        volume = signal[..., v]
        finite = volume[np.isfinite(volume)]
        if len(finite) and np.abs(finite).max() > STRONGEST:
            raise BadInputError(
                f"holds values up to {np.abs(finite).max():.3g}, which are no intensities of an "
                "image; export it again from the scanner's files"
            )
        below -= float(np.minimum(finite, 0).sum(dtype=float))
        total += float(np.abs(finite).sum(dtype=float))
    if below > BELOW_ZERO * total:
        raise BadInputError(
            f"is no series of magnitudes: {below / total:.0%} of its signal lies below zero, as "
            "after the removal of a mean or a filter; give the series as it was acquired"
        )


def check_change(series: NDArray) -> None:
    """Refuse a series whose volumes are all the same."""
    first = series[..., 0]
    if all(np.array_equal(first, series[..., v]) for v in range(1, series.shape[3])):
        raise BadInputError(
            "does not change from volume to volume; export it again from the scanner's files"
        )
