"""Who is in a simulated cohort, at which sites, and with which effects.

Every person and every site draws from a generator of its own, keyed by the seed and by the
person's or the site's number. So nobody changes when others join, and the order in which people
are made, or by how many processes, does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.simulate.anatomy import REFERENCE_AGE, Anatomy, Blueprint, Traits
from alsflow.nodes.simulate.connectivity import MOTOR, Cortex
from alsflow.nodes.simulate.diffusion import (
    DiffusionScan,
    DiffusionScanner,
    DiffusionSubject,
    draw_white_matter,
    make_gradients,
    scan_diffusion,
)
from alsflow.nodes.simulate.echo_planar import Imperfections, epi_grid
from alsflow.nodes.simulate.functional import (
    FunctionalScan,
    FunctionalScanner,
    FunctionalSubject,
    scan_functional,
)
from alsflow.nodes.simulate.head import Head, simulate_head
from alsflow.nodes.simulate.labels import without_thinning
from alsflow.nodes.simulate.mrs_scan import MrsScan, MrsSubject, scan_mrs
from alsflow.nodes.simulate.networks import draw_motor_z
from alsflow.nodes.simulate.phenotype import Clinic, Row, draw_burden, draw_scores
from alsflow.nodes.simulate.scanner import Scanner
from alsflow.nodes.simulate.spectroscopy import (
    FAILURES,
    MrsDesign,
    MrsScanner,
    check_mrs,
    draw_chemistry,
    draw_scanner,
    metabolite_changes,
)
from alsflow.nodes.simulate.tracts import MEASURED, Bundles

Regions = Mapping[str, Mapping[str, Sequence[int]]]  # region -> side -> atlas labels

PATIENT, CONTROL = "ALS", "control"
SIDES = ("left", "right")
DEFAULT_EFFECTS = {"gmv_precentral_both": -0.12}
DEFAULT_TRACT_EFFECTS = {"fa_corticospinal_tract_both": -0.10}
DEFAULT_NETWORK_EFFECTS = {MOTOR: -0.30}
DEFAULT_MRS_EFFECTS = {"mrs_tnaa_tcr": -0.10}
MEAN_TIV = {"M": 1560.0, "F": 1370.0}  # mL
SD_TIV = {"M": 115.0, "F": 105.0}  # mL
GM_LOSS_PER_YEAR = 0.0022  # share of cortical grey matter, cross-sectional
SD_GM_LOSS = 0.012
VENTRICLE_GROWTH = (1.5, 0.05, 0.8)  # mm: at the reference age, per year, standard deviation
RIM = (1.5, 0.012, 0.15)  # mm: at the reference age, per year, standard deviation
SD_MOTION = 0.4  # of the logarithm of the size of motion in resting-state series
SD_ATROPHY = 0.25  # of the atrophy between people with ALS, relative to its mean
PERSON, SITE, COHORT = 0, 1, 2  # first key of the generators
GOLDEN = (np.sqrt(5) - 1) / 2  # multiples of it fill the range from 0 to 1 evenly
FEWEST_DIRECTIONS = 6  # a tensor has as many unknowns
FEWEST_VOLUMES = 10  # of a series of any use for a test
FIELD = 55.0  # Hz, typical 99th percentile of the head's field inside the brain at 3 T
STORAGE = ("LAS", "RAS", "LPS")  # orders of the voxels on disk, given to the sites at random


@dataclass(frozen=True)
class DiffusionDesign:
    """What is asked of the diffusion series of a cohort.

    Attributes
    ----------
    directions, n_b0 : int
        Volumes with and without diffusion weighting.
    bval : float
        Weighting, s/mm2.
    voxels : tuple
        Edges of a voxel (x, y, z), mm, at each site.
    imperfections : Imperfections, optional
        The same at all sites; by default each site draws its own.
    """

    directions: int = 30
    n_b0: int = 4
    bval: float = 1000.0
    voxels: tuple[tuple[float, float, float], ...] = ((2.5, 2.5, 2.5),)
    imperfections: Imperfections | None = None

    def voxel(self, site: int) -> tuple[float, float, float]:
        """Voxel edges at a site, mm; the list of them starts again when it is too short."""
        return self.voxels[site % len(self.voxels)]


@dataclass(frozen=True)
class FunctionalDesign:
    """What is asked of the resting-state series of a cohort.

    Attributes
    ----------
    volumes : int
        Volumes, those before the steady state included.
    repetition : float
        Time from volume to volume, s.
    voxels : tuple
        Edges of a voxel (x, y, z), mm, at each site.
    scanner : FunctionalScanner, optional
        The same at all sites; by default each site draws its own.
    """

    volumes: int = 192
    repetition: float = 2.2
    voxels: tuple[tuple[float, float, float], ...] = ((3.5, 3.5, 3.5),)
    scanner: FunctionalScanner | None = None

    def voxel(self, site: int) -> tuple[float, float, float]:
        """Voxel edges at a site, mm; the list of them starts again when it is too short."""
        return self.voxels[site % len(self.voxels)]


@dataclass(frozen=True)
class Design:
    """What is asked of a cohort.

    Attributes
    ----------
    n_patients, n_controls : int
        People with ALS and controls.
    n_sites : int
        Scanning sites.
    seed : int
        Everything random follows from it.
    effects : dict
        Name of a regional grey-matter volume, of the anisotropy of a tract, of the motor
        connectivity or of a ratio of metabolites to the mean relative change in people with ALS.
    voxels : tuple
        Edges of a voxel (x, y, z), mm, at each site.
    dwi : DiffusionDesign, optional
        Diffusion series; by default there are none.
    func : FunctionalDesign, optional
        Resting-state series; by default there are none.
    mrs : MrsDesign, optional
        Spectra of the motor cortex; by default there are none.
    """

    n_patients: int
    n_controls: int
    n_sites: int
    seed: int
    effects: dict[str, float] = field(default_factory=lambda: dict(DEFAULT_EFFECTS))
    voxels: tuple[tuple[float, float, float], ...] = ((1.0, 1.0, 1.0),)
    dwi: DiffusionDesign | None = None
    func: FunctionalDesign | None = None
    mrs: MrsDesign | None = None

    def voxel(self, site: int) -> tuple[float, float, float]:
        """Voxel edges at a site, mm; the list of them starts again when it is too short."""
        return self.voxels[site % len(self.voxels)]


@dataclass(frozen=True)
class Person:
    """One participant before the scan.

    Attributes
    ----------
    number : int
        Odd for people with ALS, even for controls.
    site : int
        Site, from 0.
    row : dict
        Columns of ``participants.tsv`` after the identifier.
    traits : Traits
        What is chosen about the anatomy.
    clinic : Clinic
        What is behind the scores.
    tract_changes : dict
        Tract and side to the relative change of its anisotropy.
    motor_change : float
        Relative change of the Fisher z between the precentral gyri.
    metabolite_changes : dict
        Group of metabolites to the relative change of its concentration.
    """

    number: int
    site: int
    row: Row
    traits: Traits
    clinic: Clinic
    tract_changes: dict[tuple[str, str], float] = field(default_factory=dict)
    motor_change: float = 0.0
    metabolite_changes: dict[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Participant label without ``sub-``."""
        return f"{self.number:02d}"


def generator(seed: int, *key: int) -> np.random.Generator:
    """Start the generator of one person or one site."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def region_thinning(effects: Mapping[str, float], regions: Regions) -> dict[int, float]:
    """Share of the grey matter that each atlas label loses on average.

    Parameters
    ----------
    effects : mapping
        ``gmv_<region>_<left, right or both>`` to the relative change, from -0.9 to 0.
    regions : mapping
        Atlas labels of each region and side.
    """
    loss: dict[int, float] = {}
    for measure, change in effects.items():
        if measure.startswith(("fa_", "fc_", "mrs_")):
            continue  # `tract_changes`, `motor_change` and `metabolite_changes` read them
        region, _, side = measure.removeprefix("gmv_").rpartition("_")
        if not measure.startswith("gmv_") or region not in regions or side not in (*SIDES, "both"):
            names = ", ".join(sorted(regions))
            raise BadInputError(
                f"no effect can be put into {measure!r}; name gmv_REGION_left, _right or _both, "
                f"where REGION is one of {names}; or, with diffusion, fa_TRACT_left, _right or "
                f"_both, where TRACT is one of {', '.join(MEASURED)}; or, with func, {MOTOR}; "
                "or, with mrs, mrs_tnaa_tcr or another ratio"
            )
        if not -0.9 <= change <= 0:
            raise BadInputError(
                f"the effect {measure}={change} must lie between -0.9 and 0: grey matter can be "
                "taken away, not added"
            )
        for label in _members(regions, region, side):
            if label in loss:
                raise BadInputError(f"{measure} names grey matter that another effect names too")
            loss[label] = -change
    return {label: share for label, share in loss.items() if share > 0}


def tract_changes(effects: Mapping[str, float]) -> dict[tuple[str, str], float]:
    """Mean relative change of the anisotropy of each tract and side.

    Parameters
    ----------
    effects : mapping
        ``fa_<tract>_<left, right or both>`` to the relative change, from -0.9 to 0.3; others are
        passed over.
    """
    found: dict[tuple[str, str], float] = {}
    for measure, change in effects.items():
        if not measure.startswith("fa_"):
            continue
        tract, _, side = measure.removeprefix("fa_").rpartition("_")
        if tract not in MEASURED or side not in (*SIDES, "both"):
            raise BadInputError(
                f"no effect can be put into {measure!r}; name fa_TRACT_left, _right or _both, "
                f"where TRACT is one of {', '.join(MEASURED)}"
            )
        if not -0.9 <= change <= 0.3:
            raise BadInputError(f"the effect {measure}={change} must lie between -0.9 and 0.3")
        for name in SIDES:
            if side in (name, "both"):
                if (tract, name) in found:
                    raise BadInputError(f"{measure} names a tract that another effect names too")
                found[tract, name] = change
    return {key: change for key, change in found.items() if change}


def motor_change(effects: Mapping[str, float]) -> float:
    """Mean relative change of the Fisher z between the precentral gyri; 0 where none is asked.

    Parameters
    ----------
    effects : mapping
        ``fc_motor_interhemispheric`` to the relative change, from -0.9 to 0.3; what is not about
        connectivity is passed over.
    """
    for measure in effects:
        if measure.startswith("fc_") and measure != MOTOR:
            raise BadInputError(
                f"no effect can be put into {measure!r}; of connectivity, name {MOTOR}"
            )
    change = effects.get(MOTOR, 0.0)
    if not -0.9 <= change <= 0.3:
        raise BadInputError(f"the effect {MOTOR}={change} must lie between -0.9 and 0.3")
    return change


def _members(regions: Regions, region: str, side: str) -> list[int]:
    return [label for name in SIDES if side in (name, "both") for label in regions[region][name]]


def check_design(design: Design, regions: Regions) -> None:
    """Refuse in words what cannot be drawn."""
    if min(design.n_patients, design.n_controls) < 0 or design.n_patients + design.n_controls < 1:
        raise BadInputError("a cohort needs at least one person")
    if design.n_sites < 1:
        raise BadInputError("a cohort needs at least one site")
    if design.seed < 0:
        raise BadInputError(f"the seed {design.seed} is negative; give 0 or more")
    for voxel in design.voxels:
        if not all(0.5 <= edge <= 4 for edge in voxel):
            raise BadInputError(f"voxels of {voxel} mm cannot be drawn; edges run from 0.5 to 4")
    region_thinning(design.effects, regions)
    changes = tract_changes(design.effects)
    if design.dwi is not None:
        _check_diffusion(design.dwi)
    elif changes:
        raise BadInputError(
            "an effect on the anisotropy of a tract is asked for, but no diffusion series: add "
            "--modalities anat dwi"
        )
    change = motor_change(design.effects)
    if design.func is not None:
        _check_functional(design.func)
    elif change:
        raise BadInputError(
            "an effect on connectivity is asked for, but no resting-state series: add "
            "--modalities anat func"
        )
    metabolites = metabolite_changes(design.effects)
    if design.mrs is not None:
        check_mrs(design.mrs)
    elif metabolites:
        raise BadInputError(
            "an effect on metabolites is asked for, but no spectroscopy: add --modalities anat mrs"
        )


def _check_diffusion(dwi: DiffusionDesign) -> None:
    if dwi.directions < FEWEST_DIRECTIONS or dwi.n_b0 < 1:
        raise BadInputError(
            f"{dwi.directions} directions and {dwi.n_b0} volumes without weighting make no "
            f"tensor; at least {FEWEST_DIRECTIONS} and 1 do"
        )
    for voxel in dwi.voxels:
        if not all(1 <= edge <= 5 for edge in voxel):
            raise BadInputError(
                f"diffusion voxels of {voxel} mm cannot be drawn; edges run from 1 to 5"
            )


def _check_functional(func: FunctionalDesign) -> None:
    if func.volumes < FEWEST_VOLUMES:
        raise BadInputError(
            f"{func.volumes} resting-state volumes show no networks; give {FEWEST_VOLUMES} or more"
        )
    if not 0.5 <= func.repetition <= 5:
        raise BadInputError(
            f"a repetition time of {func.repetition:g} s cannot be drawn; give 0.5 to 5"
        )
    for voxel in func.voxels:
        if not all(2 <= edge <= 6 for edge in voxel):
            raise BadInputError(
                f"resting-state voxels of {voxel} mm cannot be drawn; edges run from 2 to 6"
            )


def site_of(index: int, patient: bool, n_sites: int) -> int:
    """Site of the `index`-th person of a group: patients lean to the first, controls to the last.

    Groups are a little unbalanced over sites, as they are in real studies, yet every site has
    people of both groups as soon as both are at least as many as the sites.
    """
    place = index % (n_sites + 1)
    if patient:
        return place % n_sites
    return n_sites - 1 - place % n_sites


def draw_site(design: Design, site: int) -> Scanner:
    """Draw the scanner of one site."""
    rng = generator(design.seed, SITE, site)
    return Scanner(
        gain=float(round(np.exp(rng.uniform(np.log(200), np.log(900))))),
        noise=float(rng.uniform(0.015, 0.03)),
        non_uniformity=float(rng.uniform(0.1, 0.35)),
        grey=float(rng.uniform(0.9, 1.1)),
    )


def _demography(patient: bool, rng: np.random.Generator) -> Row:
    sex = "M" if rng.random() < (0.6 if patient else 0.5) else "F"
    mean, sd = (60.0, 10.0) if patient else (58.0, 10.0)
    age = float(np.clip(mean + sd * rng.standard_normal(), 32, 82))
    months = float(np.clip(np.exp(np.log(20) + 0.6 * rng.standard_normal()), 4, 120))
    bulbar = bool(rng.random() < 0.25)
    row: Row = {"age": round(age, 1), "sex": sex, "group": PATIENT if patient else CONTROL}
    row["age_at_onset"] = round(age - months / 12, 1) if patient else None
    row["disease_duration"] = round(months, 1) if patient else None
    row["onset"] = ("bulbar" if bulbar else "limb") if patient else None
    return row


def _traits(row: Row, thinning: dict[int, float], rng: np.random.Generator) -> Traits:
    older = float(row["age"] or 0) - REFERENCE_AGE
    sex = str(row["sex"])
    loss, ventricles, rim, tiv = rng.standard_normal(4)
    return Traits(
        tiv=max(MEAN_TIV[sex] + SD_TIV[sex] * float(tiv), 1050.0),
        cortical_loss=GM_LOSS_PER_YEAR * older + SD_GM_LOSS * float(loss),
        ventricle_growth=float(
            np.clip(np.dot(VENTRICLE_GROWTH, (1, older, ventricles)), -1.0, 5.0)
        ),
        rim=float(np.clip(np.dot(RIM, (1, older, rim)), 0.8, 2.5)),
        thinning=thinning,
    )


def draw_person(design: Design, regions: Regions, number: int) -> Person:
    """Draw who a participant is; see `Person` for how people are numbered."""
    patient = number % 2 == 1
    rng, _, _ = generator(design.seed, PERSON, number).spawn(3)
    site = site_of((number - 1) // 2, patient, design.n_sites)
    demography = _demography(patient, rng)
    deviation = float(np.clip(rng.standard_normal(), -3, 3))
    mean_thinning = region_thinning(design.effects, regions) if patient else {}
    thinning = {
        label: min(share * (1 + SD_ATROPHY * deviation), 0.95)
        for label, share in mean_thinning.items()
    }
    changes = {
        key: max(change * (1 + SD_ATROPHY * deviation), -0.95)
        for key, change in (tract_changes(design.effects) if patient else {}).items()
    }
    motor = max(
        (motor_change(design.effects) if patient else 0.0) * (1 + SD_ATROPHY * deviation), -0.95
    )
    metabolites = {
        group: max(change * (1 + SD_ATROPHY * deviation), -0.95)
        for group, change in (metabolite_changes(design.effects) if patient else {}).items()
    }
    clinic = Clinic(
        patient=patient,
        bulbar=demography["onset"] == "bulbar",
        burden=draw_burden(deviation, rng) if patient else 0.0,
    )
    row: Row = {"site": f"site-{site + 1}", **demography}
    traits = _traits(row, thinning, rng)
    return Person(number, site, row, traits, clinic, changes, motor, metabolites)


def draw_people(design: Design, regions: Regions) -> list[Person]:
    """Everybody of the cohort, in the order of their numbers."""
    check_design(design, regions)
    patients = [2 * index + 1 for index in range(design.n_patients)]
    controls = [2 * index + 2 for index in range(design.n_controls)]
    return [draw_person(design, regions, number) for number in sorted(patients + controls)]


def scan_person(design: Design, person: Person, blueprint: Blueprint) -> Head:
    """Anatomy, image and truth of one participant."""
    _, rng, _ = generator(design.seed, PERSON, person.number).spawn(3)
    scanner = draw_site(design, person.site)
    return simulate_head(
        blueprint, person.traits, scanner, rng, np.array(design.voxel(person.site))
    )


def draw_diffusion_site(design: Design, site: int) -> DiffusionScanner:
    """Draw how one site measures diffusion; its other images do not depend on it."""
    rng, _ = generator(design.seed, SITE, site).spawn(2)
    own = Imperfections(
        noise=float(rng.uniform(0.03, 0.05)),
        drift=float(rng.uniform(1, 6)),
        eddy=float(rng.uniform(0.6, 1.8)),
        distortion=float(rng.uniform(4, 7)),
        non_uniformity=float(rng.uniform(0.1, 0.35)),
    )
    asked = design.dwi.imperfections if design.dwi else None
    return DiffusionScanner(
        fa=float(1 + 0.03 * np.clip(rng.standard_normal(), -2, 2)),
        diffusivity=float(1 + 0.02 * np.clip(rng.standard_normal(), -2, 2)),
        imperfections=asked or own,
        readout=float(rng.uniform(0.03, 0.05)),
        gain=float(round(rng.uniform(300, 900))),
        storage=STORAGE[rng.integers(len(STORAGE))],
    )


def scan_person_diffusion(
    design: Design, person: Person, anatomy: Anatomy, bundles: Bundles
) -> DiffusionScan:
    """Diffusion series and truth of one participant, whose `anatomy` `scan_person` drew."""
    if design.dwi is None:
        raise ValueError("the design asks for no diffusion series")
    *_, rng = generator(design.seed, PERSON, person.number).spawn(4)
    *_, directions = generator(design.seed, SITE, person.site).spawn(2)
    scanner = draw_diffusion_site(design, person.site)
    trait, place, series = rng.spawn(3)
    age = float(person.row["age"] or 0) - REFERENCE_AGE
    matter, unaffected = draw_white_matter(age, person.tract_changes, scanner, trait)
    angles = np.array([-6.0, 0.0, 0.0]) + place.standard_normal(3) * (4.0, 1.5, 1.5)
    return scan_diffusion(
        DiffusionSubject(anatomy, matter, unaffected),
        epi_grid(anatomy, design.dwi.voxel(person.site), angles),
        make_gradients(design.dwi.directions, design.dwi.n_b0, design.dwi.bval, directions),
        scanner,
        bundles,
        series,
    )


def draw_functional_site(design: Design, site: int) -> FunctionalScanner:
    """Draw how one site takes resting-state series; its other images do not depend on it."""
    if design.func is None:
        raise ValueError("the design asks for no resting-state series")
    *_, rng = generator(design.seed, SITE, site).spawn(3)
    readout = float(rng.uniform(0.02, 0.035))
    edge = design.func.voxel(site)[1]
    own = FunctionalScanner(
        tsnr=float(rng.uniform(80, 130)),
        drift=float(rng.uniform(0.5, 3)),
        motion=0.4,
        distortion=float(FIELD * readout * edge * rng.uniform(0.8, 1.2)),
        non_uniformity=float(rng.uniform(0.1, 0.35)),
        readout=readout,
        multiband=(1, 1, 2, 3)[rng.integers(4)],
        polarity=(-1, 1)[rng.integers(2)],
        gain=float(round(rng.uniform(300, 900))),
        storage=STORAGE[rng.integers(len(STORAGE))],
    )
    return design.func.scanner or own


def person_motor_z(design: Design, person: Person) -> tuple[float, float]:
    """Fisher z of a participant's precentral gyri in an endless run, and without the disease."""
    trait, *_ = _functional_streams(design, person)
    age = float(person.row["age"] or 0) - REFERENCE_AGE
    return draw_motor_z(age, person.motor_change, trait)


def _functional_streams(design: Design, person: Person) -> list[np.random.Generator]:
    """Generators of the person's connectivity, position, amount of motion, and series."""
    *_, rng = generator(design.seed, PERSON, person.number).spawn(5)
    return rng.spawn(4)


def scan_person_functional(
    design: Design, person: Person, anatomy: Anatomy, cortex: Cortex
) -> FunctionalScan:
    """Resting-state series and truth of one participant, whose `anatomy` `scan_person` drew."""
    if design.func is None:
        raise ValueError("the design asks for no resting-state series")
    _, place, restless, series = _functional_streams(design, person)
    scanner = draw_functional_site(design, person.site)
    restlessness = np.exp(SD_MOTION * float(np.clip(restless.standard_normal(), -2, 2)))
    angles = np.array([-6.0, 0.0, 0.0]) + place.standard_normal(3) * (4.0, 1.5, 1.5)
    return scan_functional(
        FunctionalSubject(anatomy, *person_motor_z(design, person)),
        epi_grid(anatomy, design.func.voxel(person.site), angles),
        (design.func.volumes, design.func.repetition),
        replace(scanner, motion=scanner.motion * restlessness),
        cortex,
        series,
    )


def draw_mrs_site(design: Design, site: int) -> MrsScanner:
    """Draw how one site measures spectra; its other images do not depend on it."""
    if design.mrs is None:
        raise ValueError("the design asks for no spectroscopy")
    *_, rng = generator(design.seed, SITE, site).spawn(4)
    return design.mrs.scanner or draw_scanner(rng)


def mrs_failure(design: Design, person: Person) -> str:
    """How the spectrum of a participant fails; empty where it does not.

    Numbers of people are spread evenly over the share that fails and over the ways to fail, so
    that a small cohort has about its share of each, whoever else is in it.
    """
    if design.mrs is None or not design.mrs.failures:
        return ""
    start = generator(design.seed, COHORT, 0).random()
    place = (start + person.number * GOLDEN) % 1 / design.mrs.failures
    return FAILURES[int(len(FAILURES) * place)] if place < 1 else ""


def scan_person_mrs(design: Design, person: Person, head: Head) -> MrsScan:
    """Spectroscopy and truth of one participant, whose `head` `scan_person` drew."""
    if design.mrs is None:
        raise ValueError("the design asks for no spectroscopy")
    *_, rng = generator(design.seed, PERSON, person.number).spawn(6)
    trait, scan = rng.spawn(2)
    age = float(person.row["age"] or 0) - REFERENCE_AGE
    chemistry = draw_chemistry(age, person.metabolite_changes, trait)
    subject = MrsSubject(head.anatomy, head.labels, chemistry, mrs_failure(design, person))
    return scan_mrs(subject, design.mrs, draw_mrs_site(design, person.site), scan)


def person_scores(design: Design, person: Person) -> dict[str, Row]:
    """Clinical scores of one participant by table."""
    _, _, rng = generator(design.seed, PERSON, person.number).spawn(3)
    return draw_scores(person.clinic, rng)


def true_measures(
    volumes: Mapping[str, float], regional_gm: np.ndarray, regions: Regions
) -> dict[str, tuple[float, str]]:
    """Value and unit of each measure of the anatomical stream.

    Parameters
    ----------
    volumes : mapping
        ``tiv``, ``gm``, ``wm`` and ``csf``, mL.
    regional_gm : (256,) array
        Grey matter in each atlas label, mL.
    regions : mapping
        Atlas labels of each region and side.
    """
    tiv = volumes["tiv"]
    found = {name: (volumes[name], "mL") for name in ("tiv", "gm", "wm", "csf")}
    found["gm_tiv"] = (100 * volumes["gm"] / tiv, "%")
    for region in regions:
        parts = {
            side: float(regional_gm[_members(regions, region, side)].sum())
            for side in (*SIDES, "both")
        }
        for side, volume in parts.items():
            found[f"gmv_{region}_{side}"] = (volume, "mL")
            found[f"gmv_{region}_{side}_tiv"] = (100 * volume / tiv, "%")
        asymmetry = (parts["left"] - parts["right"]) / (parts["both"] / 2)
        found[f"gmv_{region}_asymmetry"] = (asymmetry, "1")
    return found


def head_measures(head: Head, regions: Regions) -> tuple[dict, dict]:
    """Give the true measures of a head, and those it would have without the atrophy."""
    true = true_measures(head.volumes, head.regional_gm, regions)
    volumes, regional_gm = without_thinning(head.volumes, head.regional_gm, head.labels.lost)
    return true, true_measures(volumes, regional_gm, regions)


def is_difference(measure: str) -> bool:
    """Tell whether a change of a measure is a difference, because its zero is arbitrary or near.

    Asymmetries, and connectivity with regions that may be hardly connected.
    """
    return measure.endswith("_asymmetry") or (measure.startswith("fc_") and measure != MOTOR)


def effect_table(effects: Mapping[str, float], changes: pd.DataFrame) -> pd.DataFrame:
    """List what was injected into each measure.

    Parameters
    ----------
    effects : mapping
        What was asked.
    changes : DataFrame
        For each person with ALS (row) and measure (column), value less the value without
        atrophy, relative to the latter or, for connectivity, which scatters from run to run, to
        its mean; differences where `is_difference` says so.

    Returns
    -------
    DataFrame
        ``measure``; ``relative_effect``: the mean change that was aimed at, 0 where nothing was
        injected; ``mean_change``: what it came to in the people drawn, which is what a perfect
        measurement of them would find; ``scale``: relative or difference.
    """
    asked = dict(effects)
    for measure, change in effects.items():
        if measure.endswith("_both"):
            stem = measure.removesuffix("_both")
            asked |= {f"{stem}_{side}": change for side in SIDES}
    asked |= {
        f"{measure}_tiv": change for measure, change in asked.items() if measure.startswith("gmv_")
    }
    rows = []
    for measure in changes.columns:
        mean = float(changes[measure].mean())  # NaN where nobody has ALS
        aimed = asked.get(measure, mean if abs(mean) > 1e-12 else 0.0)
        scale = "difference" if is_difference(measure) else "relative"
        rows.append((measure, aimed, mean, scale))
    return pd.DataFrame(rows, columns=["measure", "relative_effect", "mean_change", "scale"])
