"""Concentrations against tissue water, corrected for tissue and relaxation [1]_, [2]_.

Ratios need none of this: water, and cerebrospinal fluid, cancel in them.

References
----------
.. [1] Gasparovic et al. (2006). Magn Reson Med 55:1219-1226. doi:10.1002/mrm.20901
.. [2] Near et al. (2021). NMR Biomed 34:e4257. doi:10.1002/nbm.4257
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, isnan, nan
from typing import Literal

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.mrs.result import LCModelResult, Row, known

WATER_MOLAL = 55510.0  # mmol/kg, pure water
SUM_TOLERANCE = 0.01  # largest distance of the sum of the tissue fractions from 1
LONGEST_TE = 1.0  # s; more is an echo time in milliseconds
LONGEST_TR = 100.0  # s
DEFAULTS = {"attmet": 1.0, "atth2o": 0.7, "wconc": 35880.0}  # LCModel 6.3; WCONC in mmol/L

Kind = Literal["press", "slaser", "steam"]


@dataclass(frozen=True, slots=True)
class Sequence:
    """Timing of the acquisition, s; the mixing time is STEAM's own."""

    kind: Kind
    te: float
    tr: float
    tm: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is not in seconds, and STEAM without its mixing time."""
        if self.kind not in ("press", "slaser", "steam"):
            raise BadInputError(f"no relaxation formula for '{self.kind}'; press, slaser or steam")
        if not (0 < self.te < LONGEST_TE and self.te < self.tr < LONGEST_TR):
            raise BadInputError(
                f"echo time {self.te:g} and repetition time {self.tr:g} must be in seconds"
            )
        if self.kind == "steam" and (self.tm is None or not 0 <= self.tm < self.tr - self.te):
            raise BadInputError("STEAM needs its mixing time in seconds (MixingTime)")

    def attenuation(self, t1: float, t2: float) -> float:
        """Share of the signal that relaxation leaves, for T1 and T2 in s."""
        if self.kind != "steam" or self.tm is None:
            return exp(-self.te / t2) * (1 - exp(-self.tr / t1))
        recovery = self.tr - self.tm - self.te / 2
        return exp(-self.te / t2) * exp(-self.tm / t1) * (1 - exp(-recovery / t1))


@dataclass(frozen=True, slots=True)
class Fractions:
    """Volume fractions of the voxel; they must sum to 1."""

    gm: float
    wm: float
    csf: float

    def __post_init__(self) -> None:
        """Refuse negative fractions and sums that are not 1: nothing is renormalised here."""
        parts = (self.gm, self.wm, self.csf)
        if not (all(part >= 0 for part in parts) and abs(sum(parts) - 1) <= SUM_TOLERANCE):
            shown = ", ".join(f"{part:.3f}" for part in parts)
            raise BadInputError(f"tissue fractions {shown} do not sum to 1; check the coverage")
        if self.gm + self.wm == 0:
            raise BadInputError("the voxel holds no tissue, only cerebrospinal fluid")


@dataclass(frozen=True, slots=True)
class WaterConstants:
    """A named set for water at one field strength, each (GM, WM, CSF).

    Attributes
    ----------
    name, source : str
    field_strength : float
        T.
    content : tuple
        Water content relative to pure water.
    t1, t2 : tuple
        s.
    """

    name: str
    source: str
    field_strength: float
    content: tuple[float, float, float]
    t1: tuple[float, float, float]
    t2: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class MetaboliteConstants:
    """A named set for metabolites; ``*`` stands for all that are not named.

    Attributes
    ----------
    name, source : str
    field_strength : float
        T.
    times : dict
        Standard name -> T1 GM, T1 WM, T2 GM, T2 WM, s.
    """

    name: str
    source: str
    field_strength: float
    times: dict[str, tuple[float, float, float, float]]


CONTENT = (0.78, 0.65, 0.97)
WATER_SETS = {
    "fsl-mrs": WaterConstants(
        "fsl-mrs",
        "defaults of FSL-MRS, Clarke et al. (2021), doi:10.1002/mrm.28630",
        3.0,
        CONTENT,
        (1.50, 0.97, 4.47),
        (0.088, 0.073, 2.03),
    ),
    "osprey": WaterConstants(
        "osprey",
        "defaults of Osprey, Oeltzschner et al. (2020), doi:10.1016/j.jneumeth.2020.108827",
        3.0,
        CONTENT,
        (1.331, 0.832, 3.817),
        (0.110, 0.0792, 0.503),
    ),
}
METABOLITE_SETS = {
    "fsl-mrs": MetaboliteConstants(
        "fsl-mrs",
        "defaults of FSL-MRS, Clarke et al. (2021), doi:10.1002/mrm.28630",
        3.0,
        {"*": (1.29, 1.29, 0.194, 0.194)},
    ),
    # T1 of tCho in GM is 1.19 in Osprey, the mean of Cho's GM and WM values; Cho in GM has 1.30
    "osprey": MetaboliteConstants(
        "osprey",
        "defaults of Osprey, Oeltzschner et al. (2020), doi:10.1016/j.jneumeth.2020.108827",
        3.0,
        {
            "tNAA": (1.405, 1.270, 0.188, 0.264),
            "tCr": (1.460, 1.240, 0.146, 0.166),
            "tCho": (1.190, 1.080, 0.248, 0.216),
            "mIns": (1.230, 1.010, 0.237, 0.161),
            "Glx": (1.305, 1.180, 0.120, 0.146),
            "GABA": (1.310, 1.310, 0.089, 0.089),
        },
    ),
}


@dataclass(frozen=True, slots=True)
class Scaling:
    """What LCModel assumed when it scaled by water; undone here before the correction.

    Attributes
    ----------
    attmet, atth2o : float
        Attenuation of metabolite and water.
    wconc : float
        Concentration of water, mmol/L.
    """

    attmet: float = DEFAULTS["attmet"]
    atth2o: float = DEFAULTS["atth2o"]
    wconc: float = DEFAULTS["wconc"]

    def signal_ratio(self, conc: float) -> float:
        """Signal of the metabolite relative to water, for the same number of protons."""
        return conc * self.attmet / (self.atth2o * self.wconc)


@dataclass(frozen=True, slots=True)
class Concentration:
    """One metabolite against tissue water; NaN with a reason where it cannot be.

    Attributes
    ----------
    metabolite : str
    molal : float
        mmol per kg of tissue water, CSF taken out by its share of the water (Gasparovic).
    molal_volume : float
        The same with CSF taken out by its share of the volume, as FSL-MRS does.
    molar : float
        mmol per litre of tissue.
    water_factor : float
        Attenuation of water, averaged over the shares of water.
    metabolite_factor : float
        Attenuation of the metabolite.
    water_set, metabolite_set : str
        Names of the constants.
    reason : str
        Why there is no value.
    """

    metabolite: str
    molal: float = nan
    molal_volume: float = nan
    molar: float = nan
    water_factor: float = nan
    metabolite_factor: float = nan
    water_set: str = ""
    metabolite_set: str = ""
    reason: str = ""


def scaling_of(result: LCModelResult) -> Scaling:
    """ATTMET, ATTH2O and WCONC of a result; LCModel's defaults where it names none."""
    values = {}
    for key, default in DEFAULTS.items():
        text = result.inputs.get(key, str(default))
        try:
            values[key] = float(text.lower().replace("d", "e"))
        except ValueError as problem:
            raise BadInputError(f"{result.source}: {key} = {text} is no number") from problem
        if not values[key] > 0:
            raise BadInputError(f"{result.source}: {key} = {text} must be above 0")
    return Scaling(**values)


def metabolite_attenuation(
    constants: MetaboliteConstants, metabolite: str, sequence: Sequence, tissue: Fractions
) -> float:
    """Attenuation of a metabolite, GM and WM weighted by volume; NaN where the set lacks it."""
    times = constants.times.get(metabolite, constants.times.get("*"))
    if times is None:
        return nan
    t1_gm, t1_wm, t2_gm, t2_wm = times
    grey, white = sequence.attenuation(t1_gm, t2_gm), sequence.attenuation(t1_wm, t2_wm)
    return (tissue.gm * grey + tissue.wm * white) / (tissue.gm + tissue.wm)


def concentration(
    signal_ratio: float,
    metabolite: str,
    sequence: Sequence,
    tissue: Fractions,
    water: WaterConstants,
    relaxation: MetaboliteConstants,
) -> Concentration:
    """Molal and molar concentration from the signal relative to water.

    Parameters
    ----------
    signal_ratio : float
        `Scaling.signal_ratio` of LCModel's concentration.
    metabolite : str
        Standard name.
    sequence, tissue
        Timing; volume fractions of the voxel.
    water, relaxation
        Constants of one field strength.
    """
    if water.field_strength != relaxation.field_strength:
        raise BadInputError(f"{water.name} and {relaxation.name} are of different field strengths")
    none = Concentration(metabolite, water_set=water.name, metabolite_set=relaxation.name)
    left = metabolite_attenuation(relaxation, metabolite, sequence, tissue)
    if isnan(left):
        return replace(none, reason=f"{relaxation.name} has no T1 and T2 of {metabolite}")
    volumes = (tissue.gm, tissue.wm, tissue.csf)
    waters = [f * d for f, d in zip(volumes, water.content, strict=True)]
    shares = [part / sum(waters) for part in waters]
    factors = [sequence.attenuation(*times) for times in zip(water.t1, water.t2, strict=True)]
    factor = sum(m * w for m, w in zip(shares, factors, strict=True))
    per_water = signal_ratio * WATER_MOLAL * factor / left
    return replace(
        none,
        molal=per_water / (1 - shares[2]),
        molal_volume=per_water / (1 - tissue.csf),
        molar=per_water * sum(waters) / (1 - tissue.csf),
        water_factor=factor,
        metabolite_factor=left,
    )


def concentrations(
    result: LCModelResult,
    sequence: Sequence,
    tissue: Fractions,
    water: WaterConstants,
    relaxation: MetaboliteConstants,
) -> list[Concentration]:
    """Every row of a result against tissue water.

    A row without concentration, and all rows of a result that LCModel did not scale by water,
    come back without value and with the reason.
    """
    named = (water.name, relaxation.name)
    if result.status != "ok" or not result.water_scaled:
        reason = result.status_reason or "not scaled by water"
        return [_without(row, reason, named) for row in result.rows]
    scaling = scaling_of(result)
    return [
        concentration(
            scaling.signal_ratio(row.conc), row.metabolite_std, sequence, tissue, water, relaxation
        )
        if known(row.conc)
        else _without(row, "concentration 0 or missing", named)
        for row in result.rows
    ]


def _without(row: Row, reason: str, sets: tuple[str, str]) -> Concentration:
    return Concentration(
        row.metabolite_std, water_set=sets[0], metabolite_set=sets[1], reason=reason
    )
