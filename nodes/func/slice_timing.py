"""Bring all slices of a volume to one moment of the repetition."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from alsflow.nodes.errors import BadInputError

PADDING = 50  # volumes by which a run is continued at both ends
FEWEST = 4  # volumes of a run
ROUNDING = 1e-3  # s by which a slice time may pass the TR: sidecars round


def correct_slice_timing(
    signal: NDArray,
    times: NDArray,
    tr: float,
    slice_axis: int = 2,
    runs: NDArray | None = None,
    reference_time: float | None = None,
) -> NDArray:
    """Shift the series of every slice to the same moment of the repetition.

    The shift is a turn of phases: exact for every frequency below half the sampling rate. Each
    run is first continued at both ends by its own reflection in the end point, so that its first
    and last value do not meet.

    Parameters
    ----------
    signal : (x, y, z, n) array
        Series in the order of acquisition.
    times : (m,) array
        When each of the m slices along `slice_axis` was acquired after the start of its volume,
        s, in the order of the array; slices acquired together have the same time.
    tr : float
        Repetition time, s.
    slice_axis : int
        Voxel axis across the slices.
    runs : (n,) int array, optional
        Number of the run of each volume; nothing crosses the border between two.
    reference_time : float, optional
        The moment, s after the start of a volume; by default the middle of the repetition, which
        needs the smallest shifts.

    Returns
    -------
    (x, y, z, n) float32 array
    """
    reference = tr / 2 if reference_time is None else reference_time
    check_slice_times(times, tr, signal.shape[slice_axis], reference)
    numbers = np.zeros(signal.shape[3], int) if runs is None else np.asarray(runs)
    corrected = np.empty(signal.shape, np.float32)
    source, target = (np.moveaxis(series, slice_axis, 0) for series in (signal, corrected))
    for run in np.unique(numbers):
        volumes = np.flatnonzero(numbers == run)
        if len(volumes) < FEWEST:
            raise BadInputError(
                f"has a run of {len(volumes)} volumes; slice timing needs {FEWEST} or more"
            )
        for place, time in enumerate(times):
            shift = (reference - time) / tr
            target[place][..., volumes] = shifted(source[place][..., volumes], shift)
    return corrected


def shifted(series: NDArray, volumes: float) -> NDArray:
    """What series (..., n) would have been a number of volumes later; float32."""
    count = series.shape[-1]
    if volumes == 0:
        return np.asarray(series, np.float32)
    before = min(PADDING, count - 1)
    length = fft.next_fast_len(count + 2 * before, real=True)
    after = min(length - count - before, count - 1)
    long = _continued(np.asarray(series, np.float32), before, after)
    first, last = long[..., :1], long[..., -1:]
    slope = (last - first) / (long.shape[-1] - 1)
    line = first + slope * np.arange(long.shape[-1], dtype=np.float32)
    turn = np.exp(2j * np.pi * fft.rfftfreq(long.shape[-1]) * volumes).astype(np.complex64)
    waves = fft.rfft(long - line, axis=-1, workers=1) * turn
    moved = fft.irfft(waves, long.shape[-1], axis=-1, workers=1) + line + slope * volumes
    return np.asarray(moved[..., before : before + count], np.float32)


def _continued(series: NDArray, before: int, after: int) -> NDArray:
    """Series continued at both ends by its reflection in the end points."""
    left = 2 * series[..., :1] - series[..., before:0:-1]
    right = 2 * series[..., -1:] - series[..., -2 : -after - 2 : -1]
    return np.concatenate([left, series, right], axis=-1)


def check_slice_times(times: NDArray, tr: float, slices: int, reference_time: float) -> None:
    """Refuse times that cannot be those of a series with so many slices."""
    given = np.asarray(times, float)
    if given.ndim != 1 or len(given) != slices:
        raise BadInputError(
            f"has {given.size} slice times for {slices} slices; correct SliceTiming in its JSON "
            "file, or take it out to go without slice timing"
        )
    if not np.isfinite(given).all():
        raise BadInputError(
            "has slice times that are not numbers; correct SliceTiming in its JSON file"
        )
    if given.min() < 0:
        raise BadInputError(
            f"has a negative slice time ({given.min():g} s); SliceTiming counts from the start of "
            "the volume"
        )
    if given.max() > tr + ROUNDING:
        raise BadInputError(
            f"has a slice time of {given.max():g} s, longer than its repetition time of {tr:g} s; "
            "SliceTiming is in seconds"
        )
    if not 0 <= reference_time <= tr:
        raise BadInputError(
            f"cannot be brought to {reference_time:g} s after the start of its volumes, which "
            f"last {tr:g} s; give a reference time between"
        )
