"""Resting-state networks of a simulated person: who goes with whom, and their time courses.

Every atlas label that belongs to a network has a series of its own: mostly that of its network
on its side, partly one that nothing else shares. The networks' series are Gaussian with written
correlations and the spectrum of slow neural activity seen through the haemodynamic response.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.interpolate import CubicSpline

SIDES = ("left", "right")
N_LABELS = 256
# Names of the atlas, without side. The motor network stands last: see `module_mixture`.
NETWORKS: dict[str, tuple[str, ...]] = {
    "visual": (
        "Calc_calcarine_cortex",
        "Cun_cuneus",
        "IOG_inferior_occipital_gyrus",
        "LiG_lingual_gyrus",
        "MOG_middle_occipital_gyrus",
        "OCP_occipital_pole",
        "OFuG_occipital_fusiform_gyrus",
        "SOG_superior_occipital_gyrus",
    ),
    "default": (
        "AnG_angular_gyrus",
        "MFC_medial_frontal_cortex",
        "MSFG_superior_frontal_gyrus_medial_segment",
        "MTG_middle_temporal_gyrus",
        "PCgG_posterior_cingulate_gyrus",
        "PCu_precuneus",
    ),
    "auditory": (
        "CO_central_operculum",
        "PO_parietal_operculum",
        "PP_planum_polare",
        "PT_planum_temporale",
        "STG_superior_temporal_gyrus",
        "TTG_transverse_temporal_gyrus",
    ),
    "salience": (
        "ACgG_anterior_cingulate_gyrus",
        "AIns_anterior_insula",
        "FO_frontal_operculum",
        "MCgG_middle_cingulate_gyrus",
        "PIns_posterior_insula",
    ),
    "frontoparietal": (
        "MFG_middle_frontal_gyrus",
        "OpIFG_opercular_part_of_the_inferior_frontal_gyrus",
        "SFG_superior_frontal_gyrus",
        "SMG_supramarginal_gyrus",
        "SPL_superior_parietal_lobule",
        "TrIFG_triangular_part_of_the_inferior_frontal_gyrus",
    ),
    "limbic": (
        "AOrG_anterior_orbital_gyrus",
        "Amygdala",
        "Ent_entorhinal_area",
        "FRP_frontal_pole",
        "FuG_fusiform_gyrus",
        "GRe_gyrus_rectus",
        "Hippocampus",
        "ITG_inferior_temporal_gyrus",
        "LOrG_lateral_orbital_gyrus",
        "MOrG_medial_orbital_gyrus",
        "OrIFG_orbital_part_of_the_inferior_frontal_gyrus",
        "PHG_parahippocampal_gyrus",
        "POrG_posterior_orbital_gyrus",
        "SCA_subcallosal_area",
        "TMP_temporal_pole",
    ),
    "cerebellum": ("Cerebellum_Exterior",),
    "thalamus": ("Thalamus_Proper",),
    "striatum": ("Accumbens_Area", "Caudate", "Pallidum", "Putamen"),
    "supplementary": ("SMC_supplementary_motor_cortex",),
    "sensory": ("MPoG_postcentral_gyrus_medial_segment", "PoG_postcentral_gyrus"),
    "motor": ("MPrG_precentral_gyrus_medial_segment", "PrG_precentral_gyrus"),
}
SOMATOMOTOR = ("motor", "sensory", "supplementary")  # what a motor seed shows in real people
MODULES = [(network, side) for network in NETWORKS for side in SIDES]
# Correlation of networks on one side; 0 where none is written.
TOGETHER = {
    ("motor", "sensory"): 0.66,
    ("motor", "supplementary"): 0.60,
    ("sensory", "supplementary"): 0.50,
    ("motor", "striatum"): 0.30,
    ("motor", "thalamus"): 0.25,
    ("motor", "cerebellum"): 0.15,
    ("motor", "auditory"): 0.20,
    ("motor", "default"): -0.10,
    ("sensory", "auditory"): 0.20,
    ("sensory", "visual"): 0.15,
    ("sensory", "thalamus"): 0.20,
    ("supplementary", "striatum"): 0.25,
    ("supplementary", "salience"): 0.20,
    ("striatum", "thalamus"): 0.50,
    ("striatum", "salience"): 0.20,
    ("default", "salience"): -0.20,
    ("default", "limbic"): 0.25,
    ("frontoparietal", "default"): 0.10,
    ("frontoparietal", "salience"): 0.20,
}
HOMOTOPIC = 0.85  # correlation of the two sides of a network, and factor across sides
OWN = 0.08  # share of a label's variance that nothing else has
MOTOR_Z, SD_MOTOR_Z = 0.70, 0.12  # Fisher z of the precentral gyri; between people
MOTOR_Z_PER_YEAR = -0.004  # relative, from the reference age on
BAND = (0.01, 0.10)  # Hz, of the networks
TRUTH_BAND = (0.008, 0.09)  # Hz, in which series are correlated
GRID_STEP = 0.5  # s, of series between which times are interpolated
REST = 60.0  # s after the run before the series, which are periodic, start again


# ---------------------------------------------------------------------------- who with whom


def network_labels(names: Iterable[tuple[int, str, str]]) -> dict[int, tuple[str, str]]:
    """Network and side of each atlas label that has one.

    Parameters
    ----------
    names : iterable
        Label, name without the side, side (left, right or empty).
    """
    owner = {name: network for network, members in NETWORKS.items() for name in members}
    return {
        label: (owner[name], side)
        for label, name, side in names
        if name in owner and side in SIDES
    }


def module_correlation(motor: float = HOMOTOPIC) -> NDArray:
    """Correlation (m, m) of `MODULES`, with that of the two motor sides chosen."""
    names = list(NETWORKS)
    together = np.eye(len(names))
    for (first, second), value in TOGETHER.items():
        i, j = names.index(first), names.index(second)
        together[i, j] = together[j, i] = value
    found = np.kron(together, [[1, HOMOTOPIC], [HOMOTOPIC, 1]])
    found[-2, -1] = found[-1, -2] = motor
    return found


def motor_limits() -> tuple[float, float]:
    """Between what the correlation of the motor sides can lie, the others being as written.

    Given all other series, what is left of the two sides may correlate by -1 to 1.
    """
    found = module_correlation()
    rest, cross = found[:-2, :-2], found[:-2, -2:]
    explained = cross.T @ np.linalg.solve(rest, cross)
    left = 1 - np.diag(explained)
    span = 0.999 * float(np.sqrt(left.prod()))
    return float(explained[0, 1]) - span, float(explained[0, 1]) + span


def module_mixture(motor: float) -> NDArray:
    """Matrix (m, m) from independent series to those of `MODULES`.

    It is triangular and the right motor network is last, so that another correlation of the motor
    sides changes this one series only: the same person with and without disease has the same
    series everywhere else.
    """
    return np.linalg.cholesky(module_correlation(motor))


@dataclass(frozen=True)
class Loadings:
    """What the mean series of a region is made of.

    Attributes
    ----------
    labels : (256,) array
        Weight of the series of each atlas label.
    background : (b,) array
        Weight of each background series.
    """

    labels: NDArray
    background: NDArray


def label_covariance(owners: Mapping[int, tuple[str, str]], motor: float) -> NDArray:
    """Covariance (256, 256) of the series of the atlas labels; 0 for those without a network."""
    labels = sorted(owners)
    modules = [MODULES.index(owners[label]) for label in labels]
    found = np.zeros((N_LABELS, N_LABELS))
    shared = (1 - OWN) * module_correlation(motor)[np.ix_(modules, modules)]
    found[np.ix_(labels, labels)] = shared + OWN * np.eye(len(labels))
    return found


def population_correlation(first: Loadings, second: Loadings, covariance: NDArray) -> float:
    """Correlation of two regions' mean series in an endless run."""

    def product(a: Loadings, b: Loadings) -> float:
        return float(a.labels @ covariance @ b.labels + a.background @ b.background)

    return product(first, second) / np.sqrt(product(first, first) * product(second, second))


def motor_correlation(
    z: float, left: Loadings, right: Loadings, owners: Mapping[int, tuple[str, str]]
) -> float:
    """Correlation of the motor networks that gives the precentral regions a Fisher z.

    The regions' correlation is linear in that of the networks, as long as each region lies in one
    of them; what cannot be reached (`motor_limits`) is cut off.
    """
    ends = motor_limits()
    at = [population_correlation(left, right, label_covariance(owners, rho)) for rho in ends]
    wanted = ends[0] + (np.tanh(z) - at[0]) / (at[1] - at[0]) * (ends[1] - ends[0])
    return float(np.clip(wanted, *ends))


def draw_motor_z(older: float, change: float, rng: np.random.Generator) -> tuple[float, float]:
    """Draw a person's Fisher z of the precentral gyri, and what it was before the disease.

    Parameters
    ----------
    older : float
        Years above the reference age.
    change : float
        Relative change by disease.
    rng : Generator
        Source of the differences between people.
    """
    before = MOTOR_Z * (1 + MOTOR_Z_PER_YEAR * older) + SD_MOTOR_Z * float(rng.standard_normal())
    return before * (1 + change), before


# ---------------------------------------------------------------------------- time courses


def haemodynamic_response(time: NDArray) -> NDArray:
    """Canonical response to an impulse: two gamma densities, peak after 5 s, undershoot [1]_.

    References
    ----------
    .. [1] Friston et al. (1998). NeuroImage 7:30-40. doi:10.1006/nimg.1997.0306
    """
    return stats.gamma.pdf(time, 6) - stats.gamma.pdf(time, 16) / 6


def _spectrum(n: int, band: tuple[float, float]) -> tuple[NDArray, NDArray]:
    """Frequencies and complex amplitudes of `n` samples; the variance of the series is 1."""
    frequency = np.fft.rfftfreq(n, GRID_STEP)
    response = np.fft.rfft(haemodynamic_response(GRID_STEP * np.arange(n)))
    inside = (frequency >= band[0]) & (frequency <= band[1])
    amplitude = np.zeros(len(frequency), complex)
    amplitude[inside] = response[inside] / np.sqrt(frequency[inside])
    return frequency, amplitude / np.sqrt((np.abs(amplitude) ** 2).sum())


def slow_series(
    count: int, duration: float, rng: np.random.Generator, band: tuple[float, float] = BAND
) -> CubicSpline:
    """Independent series of variance 1: 1/f power in a band, seen through the response.

    Parameters
    ----------
    count : int
        Series.
    duration : float
        s from the start, for which they are wanted.
    rng : Generator
        Source of their phases and amplitudes.
    band : (2,) tuple
        Hz.

    Returns
    -------
    CubicSpline
        Times, s, to values (..., count).
    """
    n = int(np.ceil((duration + REST) / GRID_STEP))
    _, amplitude = _spectrum(n, band)
    draws = rng.standard_normal((count, len(amplitude), 2))
    waves = (draws[..., 0] + 1j * draws[..., 1]) * amplitude * n / 2
    values = np.fft.irfft(waves, n, axis=1)
    return CubicSpline(GRID_STEP * np.arange(n), values.T)


def quasi_periodic(
    frequency: float, wobble: float, duration: float, rng: np.random.Generator
) -> CubicSpline:
    """Phase, cycles, of breathing or heartbeat against time, s.

    `wobble` is the standard deviation of the frequency, Hz, over tens of seconds.
    """
    slow = slow_series(1, duration, rng, (0.01, 0.05))
    time = slow.x
    speed = frequency + wobble * slow(time)[:, 0]
    start = rng.random()
    return CubicSpline(time, start + np.append(0, np.cumsum(speed[:-1]) * GRID_STEP))


def mix_labels(
    modules: NDArray, own: NDArray, owners: Mapping[int, tuple[str, str]], motor: float
) -> NDArray:
    """Series of the atlas labels (..., 256).

    Parameters
    ----------
    modules : (..., m) array
        Independent series behind `MODULES`.
    own : (..., n) array
        Independent series, one for each of `owners` in the order of the labels.
    owners : mapping
        As of `network_labels`.
    motor : float
        Correlation of the motor networks.
    """
    labels = sorted(owners)
    places = [MODULES.index(owners[label]) for label in labels]
    mixed = modules @ module_mixture(motor).T
    found = np.zeros((*modules.shape[:-1], N_LABELS), np.float32)
    found[..., labels] = np.sqrt(1 - OWN) * mixed[..., places] + np.sqrt(OWN) * own
    return found


def limit_band(series: NDArray, step: float, band: tuple[float, float] = TRUTH_BAND) -> NDArray:
    """Part of series (n, ...) within a band, Hz; samples lie `step` s apart.

    Mean and linear trend are taken out first, the rest is kept by its Fourier components.
    """
    n = len(series)
    line = np.stack([np.ones(n), np.linspace(-1, 1, n)], axis=1)
    flat = series - line @ np.linalg.lstsq(line, series, rcond=None)[0]
    waves = np.fft.rfft(flat, axis=0)
    frequency = np.fft.rfftfreq(n, step)
    waves[(frequency < band[0]) | (frequency > band[1])] = 0
    return np.fft.irfft(waves, n, axis=0)


def sample_z(first: NDArray, second: NDArray) -> float:
    """Fisher z of the correlation of two series (n,)."""
    return float(np.arctanh(np.corrcoef(first, second)[0, 1]))


def region_labels(regions: Mapping[str, Sequence[int]], side: str) -> list[int]:
    """Atlas labels of a region on one side, or on both."""
    return [label for name in SIDES if side in (name, "both") for label in regions[name]]
