"""Spectroscopy of a simulated person: what is in the voxel, and what a fit makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.mrs.ratios import PAIRS
from alsflow.nodes.mrs.water import (
    METABOLITE_SETS,
    WATER_SETS,
    Fractions,
    Scaling,
    Sequence,
    concentration,
)
from alsflow.nodes.simulate.lcmodel_text import REFERENCE, Message, Row

# Concentration in a control, mmol/kg of tissue water, and CRLB of a fit at an echo time of 30 ms
# with S/N 40 and a line width of .034 ppm, %. Concentrations are round numbers that give usual
# ratios (tNAA/tCr 1.5, tNAA/tCho 6.3); the CRLB are about those that LCModel reports on PRESS
# data of 3 T.
METABOLITES: dict[str, tuple[float, float]] = {
    "Ala": (0.4, 45.0),
    "Asp": (1.5, 14.0),
    "Cr": (4.5, 6.0),
    "PCr": (3.5, 8.0),
    "GABA": (1.2, 18.0),
    "Glc": (1.0, 32.0),
    "Gln": (2.6, 14.0),
    "Glu": (9.0, 5.0),
    "GPC": (1.3, 20.0),
    "PCh": (0.6, 43.0),
    "GSH": (1.2, 8.0),
    "Ins": (5.0, 3.5),
    "Lac": (0.6, 34.0),
    "NAA": (10.5, 3.0),
    "NAAG": (1.5, 15.0),
    "Scyllo": (0.3, 20.0),
    "Tau": (1.2, 22.0),
    "-CrCH2": (0.15, 90.0),
}
BROAD: dict[str, tuple[float, float]] = {  # lipids and macromolecules, fitted at short echo times
    "Lip13a": (0.6, 90.0),
    "Lip13b": (0.0, 90.0),
    "Lip09": (0.0, 90.0),
    "MM09": (12.0, 9.0),
    "Lip20": (0.1, 300.0),
    "MM20": (22.0, 7.0),
    "MM12": (6.0, 20.0),
    "MM14": (10.0, 20.0),
    "MM17": (9.0, 22.0),
}
SUMS = (
    ("GPC", "PCh"),
    ("NAA", "NAAG"),
    ("Cr", "PCr"),
    ("Glu", "Gln"),
)
BROAD_SUMS = (
    ("Lip13a", "Lip13b"),
    ("MM14", "Lip13a", "Lip13b", "MM12"),
    ("MM09", "Lip09"),
    ("MM20", "Lip20"),
)
# Correlation of the errors of metabolites whose lines lie together.
CORRELATIONS = {
    ("Cr", "PCr"): -0.85,
    ("GPC", "PCh"): -0.975,
    ("NAA", "NAAG"): -0.72,
    ("Glu", "Gln"): 0.20,
    ("Cr", "NAA"): 0.12,
    ("Lip13a", "MM12"): -0.35,
    ("MM14", "MM12"): -0.40,
}
MEMBERS = {  # of the names that measures and effects use
    "tnaa": ("NAA", "NAAG"),
    "tcr": ("Cr", "PCr"),
    "tcho": ("GPC", "PCh"),
    "mins": ("Ins",),
    "glx": ("Glu", "Gln"),
    "gaba": ("GABA",),
    "gsh": ("GSH",),
}
AGE_SLOPE = {"tnaa": -0.0015, "tcr": 0.001, "tcho": 0.0015, "mins": 0.002, "glx": -0.0015}  # /year
PERSON_SD = 0.04  # of the logarithm of all concentrations of a person together
OWN_SD = 0.06  # of the logarithm of each group of metabolites, or minor metabolite
SPLIT_SD = 0.05  # of the logarithm of the parts of a group
OWN_SDS = {"tnaa": 0.05, "tcr": 0.04, "tcho": 0.08}  # instead of `OWN_SD`
LONG_ECHO = 0.1  # s; LCModel leaves macromolecules out from here on
REFERENCE_SNR, REFERENCE_FWHM = 40.0, 0.034  # of the CRLB above; ppm
NOISE_REACH = 2.5  # standard deviations that an error may reach
SD_CAP = 999  # %
RELAXATION = "fsl-mrs"  # T1 and T2 of water and metabolites, see `nodes.mrs.water`
FAILURES = ("noise", "width", "choline", "fatal")
NOISY_SNR = (1.0, 2.0)  # for the reference person
BROAD_FWHM = (0.115, 0.16)  # ppm
CHOLINE_SD = (28.0, 34.0)  # %
LEAST_SIZE = 8.0  # mm; shorter edges hold too few protons


@dataclass(frozen=True)
class MrsDesign:
    """What is asked of the spectra of a cohort.

    Attributes
    ----------
    failures : float
        Share of the people whose spectrum cannot be used; see `FAILURES`.
    te, tr, tm : float
        Echo, repetition and mixing time, s; the mixing time counts for STEAM only.
    sequence : str
        ``PRESS``, ``STEAM`` or ``sLASER``.
    size : tuple
        Edges of the voxel: left to right, back to front, upwards, mm.
    scanner : MrsScanner, optional
        The same at all sites; by default each site draws its own.
    """

    failures: float = 0.1
    te: float = 0.03
    tr: float = 3.0
    tm: float = 0.01
    sequence: str = "PRESS"
    size: tuple[float, float, float] = (32.0, 24.0, 20.0)
    scanner: MrsScanner | None = None

    @property
    def timing(self) -> Sequence:
        """Sequence as relaxation sees it."""
        kind = self.sequence.lower()
        return Sequence(kind, self.te, self.tr, self.tm if kind == "steam" else None)  # type: ignore[arg-type]


@dataclass(frozen=True)
class MrsScanner:
    """How one site measures spectra.

    Attributes
    ----------
    scale, choline : float
        Factor on all concentrations, and a further one on choline (basis set, water reference).
    snr : float
        S/N of LCModel for the reference person at the reference line width.
    fwhm : float
        Usual line width, ppm.
    frequency : float
        Of the protons, MHz.
    """

    scale: float = 1.0
    choline: float = 1.0
    snr: float = REFERENCE_SNR
    fwhm: float = REFERENCE_FWHM
    frequency: float = 123.25


@dataclass(frozen=True)
class Chemistry:
    """True concentrations of one person, mmol/kg of tissue water, by LCModel's names."""

    own: dict[str, float]
    unaffected: dict[str, float]


@dataclass(frozen=True)
class Quality:
    """How good one spectrum is.

    Attributes
    ----------
    snr : float
        As LCModel counts it.
    fwhm : float
        ppm.
    choline_sd : float
        Least CRLB of tCho, %; 0 where nothing disturbs it.
    failure : str
        One of `FAILURES`; empty where there is none.
    """

    snr: float
    fwhm: float
    choline_sd: float = 0.0
    failure: str = ""


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a fit finds.

    Attributes
    ----------
    names : list of str
        Rows of the table, sums included.
    conc, sd : (n,) array
        Concentration in the units of the table, and its standard deviation.
    correlations : (n, n) array
    parts : dict
        Concentration of each single metabolite.
    """

    names: list[str]
    conc: NDArray
    sd: NDArray
    correlations: NDArray
    parts: dict[str, float] = field(default_factory=dict)


# ---------------------------------------------------------------------------- truth


def check_mrs(design: MrsDesign) -> None:
    """Refuse in words what cannot be drawn."""
    if not 0 <= design.failures <= 1:
        raise BadInputError(f"the share {design.failures:g} of failed spectra is not from 0 to 1")
    if min(design.size) < LEAST_SIZE:
        raise BadInputError(f"a voxel of {design.size} mm is too small; give {LEAST_SIZE:g} mm")
    _ = design.timing  # refuses times and sequences that cannot be


def metabolite_changes(effects: Mapping[str, float]) -> dict[str, float]:
    """Mean relative change of each group of metabolites; what is no spectroscopy is passed over.

    Parameters
    ----------
    effects : mapping
        ``mrs_<tnaa, tcho, mins, glx, gaba or gsh>_tcr`` or ``mrs_tnaa_tcho`` to the relative
        change, from -0.9 to 1. The numerator changes; with ``mrs_tnaa_tcho``, choline does.
    """
    asked = {name.removeprefix("mrs_"): v for name, v in effects.items() if name[:4] == "mrs_"}
    known = {f"{group}_tcr": group for group in MEMBERS if group != "tcr"}
    for name, change in asked.items():
        if name not in known and name != "tnaa_tcho":
            names = ", ".join(f"mrs_{known_name}" for known_name in known)
            raise BadInputError(
                f"no effect can be put into 'mrs_{name}'; of spectroscopy, name {names} or "
                "mrs_tnaa_tcho"
            )
        if not -0.9 <= change <= 1:
            raise BadInputError(f"the effect mrs_{name}={change} must lie between -0.9 and 1")
    if {"tnaa_tcho", "tcho_tcr"} <= set(asked):
        raise BadInputError("mrs_tnaa_tcho and mrs_tcho_tcr both name choline; give one of them")
    changes = {known[name]: change for name, change in asked.items() if name in known}
    if "tnaa_tcho" in asked:
        changes["tcho"] = (1 + changes.get("tnaa", 0.0)) / (1 + asked["tnaa_tcho"]) - 1
    return {group: change for group, change in changes.items() if change}


def draw_chemistry(
    older: float, changes: Mapping[str, float], rng: np.random.Generator
) -> Chemistry:
    """Draw the concentrations of one person.

    Parameters
    ----------
    older : float
        Age less the reference age, years.
    changes : mapping
        Relative change of the person's groups of metabolites by the disease.
    rng : Generator
    """
    groups = {part: group for group, parts in MEMBERS.items() for part in parts}
    everything = PERSON_SD * _bounded(rng)
    own = {group: OWN_SDS.get(group, OWN_SD) * _bounded(rng) for group in MEMBERS}
    healthy, ill = {}, {}
    for name, (conc, _) in (METABOLITES | BROAD).items():
        group = groups.get(name, "")
        spread = SPLIT_SD * _bounded(rng) + (own[group] if group else OWN_SD * _bounded(rng))
        slope = AGE_SLOPE.get(group, 0.0) * older
        healthy[name] = conc * float(np.exp(everything + spread)) * (1 + slope)
        ill[name] = healthy[name] * (1 + changes.get(group, 0.0))
    return Chemistry(ill, healthy)


def _bounded(rng: np.random.Generator) -> float:
    return float(np.clip(rng.standard_normal(), -2.5, 2.5))


def group_sums(conc: Mapping[str, float]) -> dict[str, float]:
    """Concentration of each group, such as ``tnaa``."""
    return {group: sum(conc[part] for part in parts) for group, parts in MEMBERS.items()}


def chemistry_measures(conc: Mapping[str, float]) -> dict[str, tuple[float, str]]:
    """Value and unit of each measure of spectroscopy that has no place."""
    sums = group_sums(conc)
    pairs = [(one.lower(), other.lower()) for one, other in PAIRS]
    ratios = {f"mrs_{one}_{other}": (sums[one] / sums[other], "1") for one, other in pairs}
    return ratios | {f"mrs_{group}_molal": (value, "mmol/kg") for group, value in sums.items()}


# ---------------------------------------------------------------------------- measurement


def draw_scanner(rng: np.random.Generator) -> MrsScanner:
    """Draw how one site measures spectra."""
    return MrsScanner(
        scale=float(np.exp(0.08 * _bounded(rng))),
        choline=float(np.exp(0.06 * _bounded(rng))),
        snr=float(rng.uniform(28, 48)),
        fwhm=float(rng.uniform(0.030, 0.045)),
        frequency=float(rng.choice([123.25, 127.74])),
    )


def draw_quality(scanner: MrsScanner, failure: str, rng: np.random.Generator) -> Quality:
    """Draw S/N and line width of one spectrum of the reference person."""
    fwhm = scanner.fwhm * float(np.exp(0.12 * _bounded(rng)))
    strength = scanner.snr * float(np.exp(0.12 * _bounded(rng)))
    share = float(rng.random())
    choline = 0.0
    if failure == "width":
        fwhm = float(np.interp(share, (0, 1), BROAD_FWHM))
    elif failure == "choline":
        choline = float(np.interp(share, (0, 1), CHOLINE_SD))
    snr = strength * REFERENCE_FWHM / fwhm  # lines of the same area are lower as they are broader
    if failure == "noise":
        snr = float(np.interp(share, (0, 1), NOISY_SNR))
    return Quality(snr, round(fwhm, 3), choline, failure)


def rows_of(te: float) -> list[tuple[str, ...]]:
    """Members of each row of LCModel's table at an echo time (s), in its order."""
    long = te >= LONG_ECHO
    broad = ("Lip13a", "Lip13b", "Lip20") if long else tuple(BROAD)
    sums = BROAD_SUMS[:1] if long else BROAD_SUMS
    return [*((name,) for name in METABOLITES), *SUMS, *((name,) for name in broad), *sums]


def table_scale(design: MrsDesign, tissue: Fractions) -> float:
    """LCModel's concentration, scaled by water, of 1 mmol/kg of tissue water."""
    found = concentration(
        Scaling().signal_ratio(1.0),
        "tNAA",
        design.timing,
        tissue,
        WATER_SETS[RELAXATION],
        METABOLITE_SETS[RELAXATION],
    )
    return 1 / found.molal


def covariance(parts: list[str], quality: Quality) -> NDArray:
    """Covariance of the errors of single metabolites, (mmol/kg)²."""
    known = METABOLITES | BROAD
    spread = np.array([known[name][0] * known[name][1] / 100 for name in parts])
    width = quality.fwhm / REFERENCE_FWHM
    strength = quality.snr * width  # S/N of the same noise at the reference line width
    spread *= REFERENCE_SNR / strength * np.sqrt(width)
    matrix = np.eye(len(parts))
    for (one, other), value in CORRELATIONS.items():
        if one in parts and other in parts:
            at = parts.index(one), parts.index(other)
            matrix[at] = matrix[at[::-1]] = value
    if quality.choline_sd:
        at = parts.index("GPC"), parts.index("PCh")
        target = quality.choline_sd / 100 * sum(known[name][0] for name in ("GPC", "PCh"))
        both = spread[list(at)]
        now = np.sqrt(both @ matrix[np.ix_(at, at)] @ both)
        spread[list(at)] *= max(target / now, 1.0)
    return np.asarray(spread[:, None] * matrix * spread)


def estimate(
    conc: Mapping[str, float],
    scanner: MrsScanner,
    quality: Quality,
    design: MrsDesign,
    tissue: Fractions,
    rng: np.random.Generator,
) -> Estimate:
    """Concentrations that a fit finds, in the units of its table.

    Parameters
    ----------
    conc : mapping
        True concentrations, mmol/kg of tissue water.
    scanner, quality, design
        Site, spectrum, and what was asked.
    tissue : Fractions
        Of the voxel; the water that the fit scales by is in it.
    rng : Generator
        Errors of the fit.
    """
    members = rows_of(design.te)
    parts = [own[0] for own in members if len(own) == 1]
    gain = np.array([scanner.choline if name in MEMBERS["tcho"] else 1.0 for name in parts])
    true = np.array([conc[name] for name in parts]) * gain
    found, bound = _with_errors(true, covariance(parts, quality), rng)
    rows = np.array([[name in own for name in parts] for own in members], float)
    full = rows @ bound @ rows.T
    sd = np.sqrt(np.maximum(np.diag(full), 0))
    safe = np.where(sd > 0, sd, 1)
    scale = scanner.scale * table_scale(design, tissue)
    names = ["+".join(own) for own in members]
    single = dict(zip(parts, (found * scale).tolist(), strict=True))
    return Estimate(names, rows @ found * scale, sd * scale, full / safe[:, None] / safe, single)


def _with_errors(
    true: NDArray, matrix: NDArray, rng: np.random.Generator
) -> tuple[NDArray, NDArray]:
    """Draw an estimate, and its covariance; what is not there is not found."""
    scatter = np.clip(rng.standard_normal(len(true)), -NOISE_REACH, NOISE_REACH)
    free = true + np.linalg.cholesky(matrix + 1e-12 * np.eye(len(true))) @ scatter
    found, bound = np.zeros(len(true)), np.zeros(matrix.shape)
    present = np.flatnonzero(true > 0)
    block = np.ix_(present, present)
    found[present], bound[block] = not_negative(free[present], matrix[block])
    return found, bound


def not_negative(free: NDArray, matrix: NDArray) -> tuple[NDArray, NDArray]:
    """Estimate and covariance under the bound that no concentration is negative.

    What would be negative is 0, and what is correlated with it takes over its signal: where
    LCModel finds no PCh, GPC has all of the choline, and is as well known as their sum.

    Parameters
    ----------
    free : (n,) array
        Estimate without the bound.
    matrix : (n, n) array
        Its covariance.
    """
    zero = free < 0
    while zero.any():
        taken = matrix[:, zero] @ np.linalg.inv(matrix[np.ix_(zero, zero)])
        found = free - taken @ free[zero]
        found[zero] = 0
        if not (found < 0).any():
            left = matrix - taken @ matrix[zero]
            left[zero] = left[:, zero] = 0
            return found, left
        zero |= found < 0
    return free, matrix


def table_rows(found: Estimate) -> list[Row]:
    """Rows as LCModel prints them."""
    reference = found.conc[found.names.index(REFERENCE)]
    rows: list[Row] = []
    for name, conc, sd in zip(found.names, found.conc.tolist(), found.sd.tolist(), strict=True):
        percent = min(round(100 * sd / conc), SD_CAP) if conc > 0 else SD_CAP
        rows.append((conc, percent, conc / reference if reference else 0.0, "", name))
    return rows


def input_lines(design: MrsDesign, frequency: float) -> list[str]:
    """Settings of the control file that differ from LCModel's defaults."""
    return [
        "dows= T",
        f"echot= {1000 * design.te:.1f}",
        *(["ppmend= 1.0"] if design.te >= LONG_ECHO else []),
        f"hzpppm= {frequency:g}",
        "deltat= 0.0005",
        "nunfil= 1024",
        "lprint= 6",
        "lcsv= 11",
        "lcoord= 9",
        "ltable= 7",
    ]


MESSAGES: dict[str, tuple[Message, ...]] = {  # of LCModel, by the failure
    "fatal": (("FATAL", "FTDATA", 1, 1),),  # no signal in the data
    "width": (("warning", "STARTV", 25, 1),),  # lines broader than the basis set allows
}
