"""A proton spectrum at 3 T from concentrations: the signal in time, and the curves of a fit.

Multiplets are drawn in phase, as at an echo time of 0: the modulation by J coupling, which
makes a fit at a long echo time harder, is in its CRLB and not in its picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.simulate.lcmodel_text import Curves

POINTS = 1024
DWELL = 0.0005  # s
WATER_PPM = 4.65
WATER_SIGNAL = 55510.0 * 2 * 0.7  # protons of water, mmol/kg, in brain and after relaxation
HIGHEST, LOWEST, LOWEST_LONG = 4.0, 0.2, 1.0  # ppm that LCModel fits; LOWEST_LONG from 0.1 s on
LORENTZIAN, GAUSSIAN = 0.5, 0.695  # parts of a Voigt line, share of its width at half height
DRAWN = ("NAA", "Cr", "GPC", "Ins")  # single metabolites in a .coord
HUMPS = 4  # broad signals that the baseline takes up
HUMP_WIDTH = (0.7, 1.2)  # ppm
HUMP_HEIGHT = 0.1  # of the highest line, standard deviation

# Shift (ppm), protons, lines of the multiplet and their distance (Hz), simplified after
# Govindaraju et al. (2000), NMR Biomed 13:129-153,
# doi:10.1002/1099-1492(200005)13:3<129::AID-NBM619>3.0.CO;2-V
LINES: dict[str, tuple[tuple[float, float, int, float], ...]] = {
    "Ala": ((1.467, 3, 2, 7.2), (3.775, 1, 4, 7.2)),
    "Asp": ((3.891, 1, 3, 6.0), (2.801, 1, 2, 10.0), (2.653, 1, 2, 12.0)),
    "Cr": ((3.027, 3, 1, 0.0), (3.913, 2, 1, 0.0)),
    "PCr": ((3.029, 3, 1, 0.0), (3.930, 2, 1, 0.0)),
    "GABA": ((3.013, 2, 3, 7.0), (1.889, 2, 4, 7.2), (2.284, 2, 3, 7.3)),
    "Glc": ((3.40, 1.4, 3, 9.0), (3.47, 1.6, 3, 9.0), (3.73, 2, 3, 8.0), (3.84, 1.6, 2, 8.0)),
    "Gln": ((3.753, 1, 3, 6.0), (2.120, 2, 3, 7.0), (2.443, 2, 3, 7.0)),
    "Glu": ((3.743, 1, 3, 6.0), (2.080, 2, 4, 7.0), (2.344, 2, 3, 7.3)),
    "GPC": ((3.212, 9, 1, 0.0), (3.66, 4, 2, 6.0)),
    "PCh": ((3.208, 9, 1, 0.0), (3.641, 2, 2, 6.0)),
    "GSH": ((3.769, 3, 1, 0.0), (2.93, 1, 2, 7.0), (2.975, 1, 2, 7.0), (2.16, 2, 3, 7.0),
            (2.55, 2, 3, 7.0)),
    "Ins": ((3.522, 2, 2, 9.0), (3.614, 2, 3, 9.8), (3.269, 1, 3, 9.4)),
    "Lac": ((1.314, 3, 2, 6.9),),
    "NAA": ((2.008, 3, 1, 0.0), (2.673, 1, 2, 14.0), (2.486, 1, 2, 14.0)),
    "NAAG": ((2.042, 3, 1, 0.0), (2.721, 1, 2, 14.0), (2.519, 1, 2, 14.0), (2.19, 2, 3, 7.0)),
    "Scyllo": ((3.340, 6, 1, 0.0),),
    "Tau": ((3.421, 2, 3, 6.6), (3.246, 2, 3, 6.6)),
    "-CrCH2": ((3.930, -2, 1, 0.0),),
}  # fmt: skip
# Shift (ppm), protons and width (ppm) of LCModel's own lipids and macromolecules.
BROAD_LINES: dict[str, tuple[tuple[float, float, float], ...]] = {
    "Lip13a": ((1.28, 2.0, 0.15),),
    "Lip13b": ((1.28, 2.0, 0.09),),
    "Lip09": ((0.89, 3.0, 0.14),),
    "Lip20": ((2.04, 1.33, 0.15), (2.25, 0.67, 0.15), (2.80, 0.87, 0.20)),
    "MM09": ((0.91, 3.0, 0.14),),
    "MM20": ((2.08, 1.33, 0.15), (2.25, 0.33, 0.20), (1.95, 0.33, 0.15), (3.00, 0.40, 0.20)),
    "MM12": ((1.21, 2.0, 0.15),),
    "MM14": ((1.43, 2.0, 0.17),),
    "MM17": ((1.67, 2.0, 0.15),),
}


@dataclass(frozen=True, eq=False)
class Spectrum:
    """One measured spectrum.

    Attributes
    ----------
    fid : (1024,) complex array
        Signal in time; metabolites lie at positive frequencies from water.
    curves : Curves
        What a fit shows of it.
    snr : int
        As LCModel counts it: half of the highest fit over the standard deviation of the noise.
    """

    fid: NDArray
    curves: Curves
    snr: int


def times() -> NDArray:
    """Time of each point, s."""
    return DWELL * np.arange(POINTS)


def metabolite_fid(name: str, fwhm: float, frequency: float) -> NDArray:
    """Signal in time of 1 mmol/kg of a metabolite.

    Parameters
    ----------
    name : str
        LCModel's name.
    fwhm : float
        Width of a line, ppm; that of lipids and macromolecules comes on top.
    frequency : float
        MHz.
    """
    time = times()
    if name in BROAD_LINES:
        return sum(
            protons * _wave(ppm, frequency) * voigt(time, np.hypot(fwhm, width) * frequency, 0.1)
            for ppm, protons, width in BROAD_LINES[name]
        )
    wave = sum(
        protons * _wave(ppm, frequency) * _multiplet(time, lines, coupling)
        for ppm, protons, lines, coupling in LINES[name]
    )
    return np.asarray(wave * voigt(time, fwhm * frequency))


def _wave(ppm: float, frequency: float) -> NDArray:
    return np.asarray(np.exp(2j * np.pi * (WATER_PPM - ppm) * frequency * times()))


def _multiplet(time: NDArray, lines: int, coupling: float) -> NDArray:
    """Sum of so many lines with binomial heights, `coupling` Hz apart."""
    places = coupling * (np.arange(lines) - (lines - 1) / 2)
    heights = np.array([comb(lines - 1, line) for line in range(lines)]) / 2 ** (lines - 1)
    return np.asarray((heights[:, None] * np.exp(2j * np.pi * places[:, None] * time)).sum(0))


def voigt(time: NDArray, width: float, lorentzian: float = LORENTZIAN) -> NDArray:
    """Decay of a line of so many Hz at half height."""
    gaussian = GAUSSIAN if lorentzian == LORENTZIAN else 1 - lorentzian
    slow = np.exp(-((np.pi * gaussian * width * time) ** 2) / (4 * np.log(2)))
    return np.asarray(slow * np.exp(-np.pi * lorentzian * width * time))


def ppm_axis(frequency: float, lowest: float) -> tuple[NDArray, NDArray]:
    """Falling shifts of the zero-filled spectrum that LCModel fits, and their places in it."""
    ppm = WATER_PPM - np.fft.fftfreq(2 * POINTS, DWELL) / frequency
    places = np.flatnonzero((ppm <= HIGHEST) & (ppm >= lowest))
    places = places[np.argsort(-ppm[places])]
    return ppm[places], places


def real_spectrum(fid: NDArray, places: NDArray) -> NDArray:
    """Real part of the zero-filled spectrum at some of its places."""
    first = fid.copy()
    first[0] /= 2  # the first point stands for half a step
    return np.asarray(np.fft.fft(first, 2 * POINTS).real[places])


def baseline_fid(height: float, frequency: float, rng: np.random.Generator) -> NDArray:
    """Signal in time of what no metabolite explains; its first point is about `height`."""
    fid = np.zeros(POINTS, complex)
    for ppm in np.linspace(0.8, 4.2, HUMPS):
        width = rng.uniform(*HUMP_WIDTH) * frequency
        ppm = ppm + 0.2 * rng.standard_normal()
        fid += rng.standard_normal() * _wave(ppm, frequency) * voigt(times(), width, 0.1)
    return height * fid


def water_fid(fwhm: float, frequency: float) -> NDArray:
    """Signal in time of unsuppressed water."""
    return WATER_SIGNAL * voigt(times(), fwhm * frequency).astype(complex)


def make_spectrum(
    parts: Mapping[str, float],
    reference: Mapping[str, float],
    shape: tuple[float, float, float],
    frequency: float,
    lowest: float,
    rng: np.random.Generator,
) -> Spectrum:
    """Draw the spectrum whose fit finds the concentrations `parts`.

    The part of the noise that a fit takes for metabolites is in `parts` already; what is added
    here is the rest, which the fit leaves over.

    Parameters
    ----------
    parts, reference : mapping
        Concentrations found, and those of the reference person, in the units of the table.
    shape : tuple
        Width of a line (ppm), S/N of the reference person, phase (degree).
    frequency : float
        MHz.
    lowest : float
        Where the fit ends, ppm.
    rng : Generator
        Baseline and noise.
    """
    fwhm, snr, phase = shape
    ppm, places = ppm_axis(frequency, lowest)
    fids = {name: metabolite_fid(name, fwhm, frequency) for name in parts}
    usual = real_spectrum(_total(reference, fids), places).max()
    noise = usual / (2 * snr)
    start = HUMP_HEIGHT * usual * np.mean(HUMP_WIDTH) * frequency * DWELL
    base = baseline_fid(float(start), frequency, rng)
    clean = _total(parts, fids)
    rest = rng.standard_normal((2, POINTS)) * noise / np.sqrt(POINTS)
    fid = clean + base + rest[0] + 1j * rest[1]
    baseline = real_spectrum(base, places)
    fit = real_spectrum(clean, places)
    single = {
        name: baseline + parts[name] * real_spectrum(fids[name], places)
        for name in DRAWN
        if parts[name] > 0
    }
    curves = Curves(ppm, real_spectrum(fid, places), fit + baseline, baseline, single)
    turned = fid * np.exp(1j * np.deg2rad(phase))
    return Spectrum(turned.astype(np.complex64), curves, round(float(fit.max()) / (2 * noise)))


def _total(conc: Mapping[str, float], fids: Mapping[str, NDArray]) -> NDArray:
    return np.asarray(np.sum([conc[name] * fid for name, fid in fids.items()], axis=0))
