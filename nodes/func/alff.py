"""Amplitude of slow fluctuations: ALFF and fALFF of every voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.errors import BadInputError

LOW, HIGH = 0.01, 0.08  # Hz, band of Zang et al. (2007)
LEAST_CYCLES = 1  # of the slowest wave of the band; a shorter run cannot tell it from a trend
NOTED_KEPT = 0.9  # share; with fewer, fALFF is 5 % too low where gaps are of single volumes
WANTED_CYCLES = 3  # fewer are noted: the lower end of the band rests on one or two frequencies
LEAST_KEPT = 0.5  # share of a run's volumes; with fewer, gaps spread every wave over the spectrum
SLACK = 1e-6  # waves; a frequency on an edge belongs to the band whatever the TR's last digit
CHUNK = 8192  # voxels at a time, which bounds memory
FLAT = 1e-4  # of the median standard deviation; what varies less is rounding
TINY = np.finfo(float).tiny


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
    told = []
    if low * seconds < WANTED_CYCLES - SLACK:
        told.append(
            f"lasts {seconds:.0f} s, fewer than {WANTED_CYCLES} waves of {low:g} Hz: "
            "its ALFF rests on few frequencies"
        )
    if share < NOTED_KEPT:
        told.append(f"keeps {100 * share:.0f} % of its volumes: gaps lower its fALFF")
    return False, "; ".join(told)


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
    turn, scale = lomb_scales(times, waves, length)
    cycles = np.array(band) * length * tr
    inside = (waves >= cycles[0] - SLACK) & (waves <= cycles[1] + SLACK)
    trend, _ = np.linalg.qr(np.vander(np.asarray(times, float), 2))
    alff, falff, spread = np.empty((3, len(series)))
    for start in range(0, len(series), CHUNK):
        part = slice(start, start + CHUNK)
        values = series[part][:, chosen].astype(float)
        # not a BLAS product: the same bits whatever the number of threads
        lines = np.einsum("vt,tk->vk", values, trend)
        values -= np.einsum("vk,tk->vt", lines, trend)
        filled = np.zeros((len(values), length))
        filled[:, times] = values
        found = np.fft.rfft(filled, axis=1)[:, 1:] * turn
        # one-sided amplitude density: white noise has the same whatever the length of the run
        amplitude = np.sqrt(2 * tr * (found.real**2 * scale[0] + found.imag**2 * scale[1]))
        spread[part] = values.std(axis=1)
        alff[part] = amplitude[:, inside].mean(axis=1)
        falff[part] = amplitude[:, inside].sum(axis=1) / np.maximum(amplitude.sum(axis=1), TINY)
    still = ~varying(spread)
    alff[still] = falff[still] = np.nan
    return alff, falff


def varying(spread: NDArray) -> NDArray:
    """Series (v,) bool that vary, by the standard deviation of each; the rest is rounding."""
    return spread > FLAT * np.median(spread) if len(spread) else np.zeros(0, bool)


def lomb_scales(times: NDArray, waves: NDArray, length: int) -> tuple[NDArray, NDArray]:
    """What makes a Fourier transform with zeros in its gaps a Lomb-Scargle periodogram [1]_.

    Shifting each wave in time makes its cosine and sine orthogonal at the times that were seen;
    then each is divided by its own sum of squares.

    Parameters
    ----------
    times : (m,) int array
        When the series was seen, volumes from the start of the run.
    waves : (f,) int array
        Cycles per run, at most half of `length`.
    length : int
        Volumes of the run, seen or not.

    Returns
    -------
    turn : (f,) complex array
        Factor of the transform that shifts each wave.
    scale : (2, f) array
        Factors of the squared real and imaginary part whose sum is the periodogram. At Nyquist,
        where a regular series holds no sine, that of the sine is 0.

    References
    ----------
    .. [1] Lomb (1976). Astrophys Space Sci 39:447-462. doi:10.1007/BF00648343
    """
    phase = 2 * np.pi * np.outer(times, waves) / length
    shift = np.arctan2(np.sin(2 * phase).sum(axis=0), np.cos(2 * phase).sum(axis=0)) / 2
    squares = np.stack([(wave(phase - shift) ** 2).sum(axis=0) for wave in (np.cos, np.sin)])
    there = squares > SLACK * len(times)
    return np.exp(1j * shift), np.where(there, 0.5 / np.where(there, squares, 1), 0)


def standardised(values: NDArray) -> NDArray:
    """Values less their mean, over their standard deviation; NaN stays and does not count."""
    known = np.isfinite(values)
    if known.sum() < 2 or np.ptp(values[known]) == 0:
        return np.full(np.shape(values), np.nan)
    return (values - values[known].mean()) / values[known].std(ddof=1)
