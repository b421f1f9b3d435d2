"""The spectroscopy of one simulated person: voxel, spectrum, fit and truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alsflow.nodes.geometry import apply_affine
from alsflow.nodes.mrs.fractions import voxel_points
from alsflow.nodes.mrs.voxel import Voxel, box
from alsflow.nodes.mrs.water import Fractions
from alsflow.nodes.simulate.anatomy import Anatomy, to_template
from alsflow.nodes.simulate.labels import TISSUES, FineLabels, cut_labels, tissue_table
from alsflow.nodes.simulate.lcmodel_text import Printed
from alsflow.nodes.simulate.spectroscopy import (
    BROAD,
    LONG_ECHO,
    MESSAGES,
    METABOLITES,
    Chemistry,
    MrsDesign,
    MrsScanner,
    Quality,
    chemistry_measures,
    draw_quality,
    estimate,
    input_lines,
    table_rows,
    table_scale,
)
from alsflow.nodes.simulate.spectrum import (
    LOWEST,
    LOWEST_LONG,
    POINTS,
    make_spectrum,
    water_fid,
)

FOOT_AREA = (0.0, -28.0, 57.0)  # mm in the template: between the paracentral lobules
TILT = 15.0  # degree that the front of the box is lifted, along the top of the brain
SD_PLACE = (1.5, 2.0, 1.5)  # mm by which operators differ
SD_ANGLES = (4.0, 2.0, 3.0)  # degree
INVERSIONS = 30  # steps of the search for a point of the template in a person
SD_PHASE = 15.0  # degree
SD_SHIFT = 0.01  # ppm


@dataclass(frozen=True, eq=False)
class MrsTruth:
    """What is true of one person's spectroscopy.

    Attributes
    ----------
    chemistry : Chemistry
    tissue : dict
        Share of the voxel that is ``gm``, ``wm`` and ``csf``.
    quality : Quality
        How good the spectrum is, and how it failed.
    measures, unaffected : dict
        Value and unit of each measure, and without the disease.
    """

    chemistry: Chemistry
    tissue: dict[str, float]
    quality: Quality
    measures: dict[str, tuple[float, str]]
    unaffected: dict[str, tuple[float, str]]


@dataclass(frozen=True, eq=False)
class MrsScan:
    """Spectroscopy of one person.

    Attributes
    ----------
    voxel : Voxel
    fid, water : (1024,) complex64 array
        Signal in time with and without suppression of the water.
    printed : Printed
        What LCModel makes of it.
    truth : MrsTruth
    """

    voxel: Voxel
    fid: NDArray
    water: NDArray
    printed: Printed
    truth: MrsTruth


@dataclass(frozen=True, eq=False)
class MrsSubject:
    """Who is measured.

    Attributes
    ----------
    anatomy : Anatomy
    labels : FineLabels
        The person's head, atrophy included.
    chemistry : Chemistry
    failure : str
        How the spectrum fails; empty where it does not.
    """

    anatomy: Anatomy
    labels: FineLabels
    chemistry: Chemistry
    failure: str = ""


def from_template(anatomy: Anatomy, point: NDArray) -> NDArray:
    """Point (3,) of the person that lies at `point` of the template, both mm."""
    back = np.linalg.inv(anatomy.world_to_template)
    goal = np.asarray(point, float)[:, None]
    start = goal.copy()
    for _ in range(INVERSIONS):
        start = start + goal - to_template(anatomy, apply_affine(back, start))
    return np.asarray(apply_affine(back, start)[:, 0])


def place_voxel(
    anatomy: Anatomy, size: tuple[float, float, float], rng: np.random.Generator
) -> Voxel:
    """Box over the foot area of both motor cortices, as an operator would put it.

    Parameters
    ----------
    anatomy : Anatomy
    size : tuple
        Edges: left to right, back to front, upwards, mm.
    rng : Generator
        Skill of the operator.
    """
    centre = from_template(anatomy, np.array(FOOT_AREA)) + rng.normal(0, SD_PLACE)
    left, _, right = np.linalg.svd(anatomy.world_to_template[:3, :3])
    posture = (left @ right).T  # turns the template's axes into the person's
    angles = np.array([TILT, 0.0, 0.0]) + rng.normal(0, SD_ANGLES)
    axes = posture @ Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    return box(centre, axes, np.asarray(size))


def count_tissue(voxel: Voxel, labels: FineLabels) -> dict[str, float]:
    """Share of a voxel that is ``gm``, ``wm`` and ``csf``, from hard labels."""
    index = np.rint(apply_affine(np.linalg.inv(labels.affine), voxel_points(voxel))).astype(int)
    inside = ((index >= 0) & (index < np.reshape(labels.classes.shape, (3, 1)))).all(axis=0)
    found = labels.classes[tuple(index[:, inside])]
    shares = tissue_table()[found].sum(0) / index.shape[1]
    return dict(zip(TISSUES, shares.tolist(), strict=True))


def without_atrophy(anatomy: Anatomy, labels: FineLabels, voxel: Voxel) -> FineLabels:
    """Labels around a voxel as they were before the atrophy, on the same points."""
    if not anatomy.traits.thinning:
        return labels
    healthy = replace(anatomy, traits=replace(anatomy.traits, thinning={}))
    corners = apply_affine(np.linalg.inv(labels.affine), voxel.corners.T)
    low = np.maximum(np.floor(corners.min(1)).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(1)).astype(int) + 1, labels.classes.shape)
    start = np.eye(4)
    start[:3, 3] = low
    nx, ny, nz = (high - low).tolist()
    return cut_labels(healthy, (nx, ny, nz), labels.affine @ start, (1, 1, 1))


def scan_mrs(
    subject: MrsSubject, design: MrsDesign, scanner: MrsScanner, rng: np.random.Generator
) -> MrsScan:
    """Measure one person."""
    operator, state, *rest = rng.spawn(4)
    voxel = place_voxel(subject.anatomy, design.size, operator)
    quality = draw_quality(scanner, subject.failure, state)
    truth = _truth(subject, voxel, quality)
    water = water_fid(quality.fwhm, scanner.frequency).astype(np.complex64)
    printed = Printed(
        diagnostics=MESSAGES.get(quality.failure, ()),
        inputs=input_lines(design, scanner.frequency),
    )
    if quality.failure == "fatal":
        return MrsScan(voxel, np.zeros(POINTS, np.complex64), water, printed, truth)
    fid, printed = _fit(printed, truth, design, scanner, *rest)
    return MrsScan(voxel, fid, water, printed, truth)


def _fit(
    printed: Printed,
    truth: MrsTruth,
    design: MrsDesign,
    scanner: MrsScanner,
    errors: np.random.Generator,
    rest: np.random.Generator,
) -> tuple[NDArray, Printed]:
    """Signal in time, and what a fit of it prints."""
    quality, total = truth.quality, sum(truth.tissue.values())
    tissue = Fractions(*(truth.tissue[name] / total for name in ("gm", "wm", "csf")))
    found = estimate(truth.chemistry.own, scanner, quality, design, tissue, errors)
    phase = float(np.rint(SD_PHASE * rest.standard_normal()))
    shift = float(SD_SHIFT * rest.standard_normal())
    scale = scanner.scale * table_scale(design, tissue)
    known = METABOLITES | BROAD
    spectrum = make_spectrum(
        found.parts,
        {name: known[name][0] * scale for name in found.parts},
        (quality.fwhm, quality.snr, phase),
        scanner.frequency,
        LOWEST if design.te < LONG_ECHO else LOWEST_LONG,
        rest,
    )
    return spectrum.fid, replace(
        printed,
        rows=table_rows(found),
        misc=(quality.fwhm, spectrum.snr, shift, int(phase), 0.0),
        correlations=found.correlations,
        curves=spectrum.curves,
    )


def _truth(subject: MrsSubject, voxel: Voxel, quality: Quality) -> MrsTruth:
    labels = subject.labels
    tissue = count_tissue(voxel, labels)
    before = count_tissue(voxel, without_atrophy(subject.anatomy, labels, voxel))
    return MrsTruth(
        subject.chemistry,
        tissue,
        quality,
        chemistry_measures(subject.chemistry.own) | _tissue_measures(tissue),
        chemistry_measures(subject.chemistry.unaffected) | _tissue_measures(before),
    )


def _tissue_measures(tissue: Mapping[str, float]) -> dict[str, tuple[float, str]]:
    return {f"mrs_voxel_{name}": (value, "1") for name, value in tissue.items()}
