"""Amplitude of slow fluctuations: ALFF and fALFF of every voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.errors import BadInputError

LOW, HIGH = 0.01, 0.08  # Hz, band of Zang et al. (2007)
LEAST_CYCLES = 1  # of the slowest wave of the band; a shorter run cannot tell it from a trend
WANTED_CYCLES = 3  # fewer are noted: the lower end of the band rests on one or two frequencies
LEAST_KEPT = 0.5  # share of a run's volumes; with fewer, gaps spread every wave over the spectrum
SLACK = 1e-6  # waves; a frequency on an edge belongs to the band whatever the TR's last digit
CHUNK = 8192  # voxels at a time, which bounds memory
FLAT = 1e-6  # a series whose spread, relative to its level, is below this does not vary


@dataclass(frozen=True)
class Amplitudes:
    """Slow fluctuations of every series, and how they were found."""

    alff: NDArray  # (v,) mean amplitude density in the band, signal / sqrt(Hz); NaN if constant
    falff: NDArray  # (v,) share of the band in the summed amplitude of all frequencies
    runs: tuple[int, ...]  # numbers of the runs that could be used; without any all is NaN
    notes: tuple[str, ...]


def measure_alff(
    series: NDArray,
    kept: NDArray,
    runs: NDArray,
    tr: float,
    band: tuple[float, float] = (LOW, HIGH),
) -> Amplitudes:
    """Measure ALFF [1]_ and fALFF [2]_ run by run and average over runs by their length.

    The amplitude of each frequency k / (duration of the run) up to Nyquist is the square root of
    a least-squares (Lomb-Scargle) periodogram after a line was taken out of each run. Without
    gaps that is the ordinary periodogram.

    Parameters
    ----------
    series : (v, n) array
        Series without nuisance but with all frequencies. Values of volumes that are not kept are
        not read.
    kept : (n,) bool array
        Volumes that were not censored.
    runs : (n,) int array
        Number of the run of each volume; the volumes of a run follow each other.
    tr : float
        Repetition time, s.
    band : pair of float
        Lower and upper edge, Hz, both belonging to the band.

    References
    ----------
    .. [1] Zang et al. (2007). Brain Dev 29:83-91. doi:10.1016/j.braindev.2006.07.002
    .. [2] Zou et al. (2008). J Neurosci Methods 172:137-141.
       doi:10.1016/j.jneumeth.2008.04.012
    """
    check_band(band, tr)
    alff, falff = np.zeros(len(series)), np.zeros(len(series))
    used, notes, weight = [], [], 0
    for run in np.unique(runs):
        own = np.flatnonzero(runs == run)
        left_out, note = judge_run(kept[own], tr, band)
        if note:
            notes.append(f"run {run + 1} {note}")
        if left_out:
            continue
        chosen, count = own[kept[own]], int(kept[own].sum())
        found = _run_amplitudes(series, chosen, chosen - own[0], len(own), tr, band)
        alff += count * found[0]
        falff += count * found[1]
        weight += count
        used.append(int(run))
    scale = 1 / weight if used else np.nan
    return Amplitudes(alff * scale, falff * scale, tuple(used), tuple(notes))


def check_band(band: tuple[float, float], tr: float) -> None:
    """Refuse a band that is none, or that a series sampled every `tr` seconds does not hold."""
    low, high = band
    if not 0 < low < high:
        raise BadInputError(
            f"cannot be measured from {low:g} to {high:g} Hz; "
            "give a lower edge above 0 and an upper edge above that"
        )
    nyquist = 1 / (2 * tr)
    if high > nyquist:
        raise BadInputError(
            f"cannot be measured up to {high:g} Hz: with a volume every {tr:g} s it holds no "
            f"frequency above {nyquist:.3g} Hz; give a lower upper edge of the band"
        )


def judge_run(kept: NDArray, tr: float, band: tuple[float, float]) -> tuple[bool, str]:
    """Whether a run must be left out, and what is to be said of it (empty: nothing)."""
    seconds, share = len(kept) * tr, float(np.mean(kept))
    low, high = band
    if low * seconds < LEAST_CYCLES - SLACK:
        return True, f"lasts {seconds:.0f} s, less than one wave of {low:g} Hz: left out of ALFF"
    if np.ceil(low * seconds - SLACK) > np.floor(high * seconds + SLACK):
        return True, (
            f"lasts {seconds:.0f} s, too few to tell {low:g} from {high:g} Hz: left out of ALFF"
        )
    if share < LEAST_KEPT:
        return True, f"keeps {100 * share:.0f} % of its volumes: left out of ALFF"
    if low * seconds < WANTED_CYCLES - SLACK:
        return False, (
            f"lasts {seconds:.0f} s, fewer than {WANTED_CYCLES} waves of {low:g} Hz: "
            "its ALFF rests on few frequencies"
        )
    return False, ""


def _run_amplitudes(
    series: NDArray,
    chosen: NDArray,
    times: NDArray,
    length: int,
    tr: float,
    band: tuple[float, float],
) -> tuple[NDArray, NDArray]:
    """ALFF and fALFF (v,) of the volumes `chosen`, at `times` of a run of `length` volumes."""
    waves = np.arange(1, length // 2 + 1)
    basis = wave_basis(times, waves, length)
    cycles = np.array(band) * length * tr
    inside = (waves >= cycles[0] - SLACK) & (waves <= cycles[1] + SLACK)
    trend, _ = np.linalg.qr(np.vander(np.asarray(times, float), 2))
    alff, falff = np.empty(len(series)), np.empty(len(series))
    for start in range(0, len(series), CHUNK):
        values = series[start : start + CHUNK, chosen].astype(float)
        level = np.abs(values).max(axis=1, initial=0)
        values -= values @ trend @ trend.T
        parts = (values @ basis).reshape(len(values), 2, len(waves))
        # one-sided amplitude density: white noise has the same whatever the length of the run
        amplitude = np.sqrt(2 * tr * (parts**2).sum(axis=1))
        amplitude[values.std(axis=1) <= FLAT * level] = np.nan
        alff[start : start + CHUNK] = amplitude[:, inside].mean(axis=1)
        falff[start : start + CHUNK] = amplitude[:, inside].sum(axis=1) / amplitude.sum(axis=1)
    return alff, falff


def wave_basis(times: NDArray, waves: NDArray, length: int) -> NDArray:
    """Cosines and sines of Lomb [1]_ and Scargle, orthogonal and of length one at given times.

    Parameters
    ----------
    times : (m,) array
        When the series was seen, volumes from the start of the run.
    waves : (f,) array
        Cycles per run, at most half of `length`.
    length : int
        Volumes of the run, seen or not.

    Returns
    -------
    (m, 2 f) array
        Cosines, then sines; scaled so that the sum of squared products is the periodogram.
        At Nyquist, where a regular series holds no sine, that column is 0.

    References
    ----------
    .. [1] Lomb (1976). Astrophys Space Sci 39:447-462. doi:10.1007/BF00648343
    """
    phase = 2 * np.pi * np.outer(times, waves) / length
    # shifting each wave in time makes its cosine and sine orthogonal on uneven samples
    shift = np.arctan2(np.sin(2 * phase).sum(axis=0), np.cos(2 * phase).sum(axis=0)) / 2
    parts = np.stack([np.cos(phase - shift), np.sin(phase - shift)], axis=1)
    power = (parts**2).sum(axis=0)
    scale = np.where(power > 1e-9 * len(times), 1 / np.sqrt(np.maximum(power, 1e-30) * 2), 0)
    return (parts * scale).reshape(len(times), -1)


def standardised(values: NDArray) -> NDArray:
    """Values less their mean, over their standard deviation; NaN stays and does not count."""
    known = np.isfinite(values)
    if known.sum() < 2 or np.ptp(values[known]) == 0:
        return np.full(np.shape(values), np.nan)
    return (values - values[known].mean()) / values[known].std(ddof=1)
