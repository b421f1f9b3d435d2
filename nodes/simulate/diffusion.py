"""Diffusion series of a simulated person, with the truth behind it.

Grey matter and fluid diffuse alike in all directions. White matter has one tensor, which follows
the tracts of `tracts` carried into the person by the anatomy's own map; its anisotropy depends on
the tract, the side, the person and the scanner. What an echo-planar readout then does to the head
stands in `echo_planar`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numba
import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.distortion.phase_encoding import PhaseEncoding
from alsflow.nodes.dwi.gradients import B0_MAX, Gradients
from alsflow.nodes.dwi.measures import METRICS
from alsflow.nodes.geometry import apply_affine
from alsflow.nodes.simulate.anatomy import LATTICE_SPACING, Anatomy, to_template
from alsflow.nodes.simulate.echo_planar import (
    FINER,
    PE_AXIS,
    Grid,
    Imperfections,
    Motion,
    Readout,
    draw_motion,
    drift_curve,
    eddy_terms,
    lose_slices,
    read_volume,
    susceptibility_shift,
    to_voxels,
)
from alsflow.nodes.simulate.labels import CLASSES, cut_labels, tissue_table, voxel_means
from alsflow.nodes.simulate.scanner import receive_field, rician
from alsflow.nodes.simulate.tracts import (
    MEASURED,
    OTHER_FA,
    SIDES,
    TRACTS,
    Bundles,
    principal_directions,
    sample_lattice,
)

ECHO_TIME = 0.085  # s
REPETITION_TIME = 8.0  # s
WHITE_MD = 0.74e-3  # mm2/s, of white matter before anything differs between people
SD_FA, SD_TRACT, SD_AD = 0.03, 0.015, 0.015  # between people: all tracts, one tract, diffusivity
FA_PER_YEAR = -0.001  # relative, from the reference age on
CORE = 0.5  # share of a voxel from which on it is the core of a tract
WHITE_CLASSES = ("white", "brainstem", "cord")

# Signal density at this repetition time, T2 (s) and diffusivity (mm2/s) at 3 T, fat suppressed.
RELAXATION: dict[str, tuple[float, float, float]] = {
    "air": (0.0, 1.0, 0.0),
    "skin": (0.25, 0.045, 0.9e-3),
    "fat": (0.05, 0.07, 0.1e-3),
    "bone": (0.03, 0.02, 0.3e-3),
    "marrow": (0.05, 0.06, 0.2e-3),
    "muscle": (0.75, 0.036, 1.4e-3),
    "eye": (0.80, 0.60, 2.9e-3),
    "csf": (0.86, 1.50, 3.0e-3),
    "ventricle": (0.86, 1.50, 3.0e-3),
    "cortex": (0.82, 0.095, 0.8e-3),
    "striatum": (0.80, 0.080, 0.8e-3),
    "thalamus": (0.78, 0.080, 0.8e-3),
    "pallidum": (0.74, 0.055, 0.8e-3),
    "white": (0.68, 0.072, WHITE_MD),
    "brainstem": (0.68, 0.074, WHITE_MD),
    "cord": (0.68, 0.074, WHITE_MD),
    "spinal_csf": (0.86, 1.50, 3.0e-3),
}


@dataclass(frozen=True)
class DiffusionScanner:
    """How one scanner measures diffusion.

    Attributes
    ----------
    fa, diffusivity : float
        Factors on the anisotropy and the diffusivity of white matter, and on the diffusivity of
        all other tissue.
    imperfections : Imperfections
        Everything that makes the series differ from the head.
    readout : float
        Total readout time, s.
    gain : float
        Signal of white matter without weighting.
    storage : str
        Order of the voxels on disk, such as LAS.
    """

    fa: float = 1.0
    diffusivity: float = 1.0
    imperfections: Imperfections = field(default_factory=Imperfections)
    readout: float = 0.045
    gain: float = 600.0
    storage: str = "RAS"


@dataclass(frozen=True)
class WhiteMatter:
    """Diffusivities of one person's white matter as one scanner sees them.

    Attributes
    ----------
    axial, radial : (n + 1, 2) array
        mm2/s, of each tract of `TRACTS` and, last, of other white matter; left, right.
    """

    axial: NDArray
    radial: NDArray


@dataclass(frozen=True)
class Tissue:
    """A person on the points of a grid.

    Attributes
    ----------
    grid : Grid
        The grid.
    isotropic : dict
        b-value to the signal, (a, b, c) float32, of all that is not white matter.
    attenuated : (a, b, c) float32 array
        Diffusivity of the same times its signal without weighting.
    at : (n,) int array
        Flat places of points that hold white matter.
    white : (n,) float32 array
        Signal of their white matter without weighting.
    shares : (n, t + 1) float32 array
        Share of each tract, and of other white matter, in their white matter.
    left : (n,) bool array
        Left of the template's midline.
    directions : (n, 3) float32 array
        Of the fibres, in the person's world.
    content : (n,) float32 array
        Share of white matter in the point.
    """

    grid: Grid
    isotropic: dict[float, NDArray]
    attenuated: NDArray
    at: NDArray
    white: NDArray
    shares: NDArray
    left: NDArray
    directions: NDArray
    content: NDArray


@dataclass(frozen=True)
class DiffusionTruth:
    """What a perfect scanner would have found.

    Attributes
    ----------
    tensor : (x, y, z, 6) float32 array
        Mean tensor of all that is in each voxel, weighted by its signal without weighting, mm2/s:
        xx, xy, xz, yy, yz, zz in the world.
    tracts : (x, y, z, n, 2) float32 array
        Share of the voxel that is white matter of each tract of `MEASURED`, left and right.
    brain : (x, y, z) bool array
        Voxels of which at least half lies inside the skull.
    shift : (x, y, z) float32 array
        Displacement by the head's field in the series, mm along the phase-encoding axis.
    motion : Motion
        Of each volume of the series and, last, of the image with reversed phase encoding.
    eddy : (n, 4) array
        Displacement by eddy currents of each volume; see `echo_planar.eddy_terms`.
    drift : (n,) array
        Signal relative to the first volume.
    dropouts : dict
        Volume and slice to the factor of its signal.
    measures, unaffected : dict
        Measure to value and unit, and the same without the effect of the disease on tracts.
    """

    tensor: NDArray
    tracts: NDArray
    brain: NDArray
    shift: NDArray
    motion: Motion
    eddy: NDArray
    drift: NDArray
    dropouts: dict[tuple[int, int], float]
    measures: dict[str, tuple[float, str]]
    unaffected: dict[str, tuple[float, str]]


@dataclass(frozen=True)
class DiffusionScan:
    """A simulated series and its truth.

    Attributes
    ----------
    series : (x, y, z, n) float32 array
        Magnitude, in the order of acquisition.
    reverse : (x, y, z) float32 array
        One volume without weighting and with reversed phase encoding, taken after the series.
    affine : (4, 4) array
        Voxel to mm.
    gradients : Gradients
        As the scanner applied them.
    encoding : PhaseEncoding
        Of the series.
    truth : DiffusionTruth
        What is behind it.
    """

    series: NDArray
    reverse: NDArray
    affine: NDArray
    gradients: Gradients
    encoding: PhaseEncoding
    truth: DiffusionTruth


# ---------------------------------------------------------------------------- gradients


def spread_directions(n: int, rng: np.random.Generator, steps: int = 300) -> NDArray:
    """Unit vectors (n, 3) that repel each other and each other's opposites [1]_, on a full sphere.

    References
    ----------
    .. [1] Jones et al. (1999). Magn Reson Med 42:515-525.
       doi:10.1002/(SICI)1522-2594(199909)42:3<515::AID-MRM14>3.0.CO;2-Q
    """
    found = rng.standard_normal((n, 3))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    for step in range(steps):
        push = np.zeros_like(found)
        for sign in (-1, 1):
            apart = found[:, None] - sign * found[None]
            square = (apart**2).sum(-1) + (1e9 * np.eye(n))
            push += (apart / square[..., None] ** 1.5).sum(1)
        push -= (push * found).sum(1, keepdims=True) * found
        longest = max(float(np.linalg.norm(push, axis=1).max()), 1e-12)
        found = found + 0.3 * (1 - step / steps) / np.sqrt(n) * push / longest
        found /= np.linalg.norm(found, axis=1, keepdims=True)
    return _balanced(found)


def _balanced(directions: NDArray) -> NDArray:
    """Directions, some reversed so that their sum is short: eddy currents then average out."""
    signs = np.ones(len(directions))
    for _ in range(len(directions)):
        total = signs @ directions
        # |total - 2 s d|² - |total|² for each reversal
        gain = 4 - 4 * signs * (directions @ total)
        best = int(np.argmin(gain))
        if gain[best] >= -1e-9:
            break
        signs[best] *= -1
    return directions * signs[:, None]


def make_gradients(
    n_directions: int, n_b0: int, bval: float, rng: np.random.Generator
) -> Gradients:
    """Directions on one shell, with volumes without weighting spread evenly over the run."""
    n = n_directions + n_b0
    b0 = np.zeros(n, bool)
    b0[np.floor(np.arange(n_b0) * n / n_b0).astype(int)] = True
    directions = np.zeros((n, 3))
    directions[~b0] = spread_directions(n_directions, rng)
    return Gradients(np.where(b0, 0.0, bval), directions)


# ---------------------------------------------------------------------------- tissue


def radial_ratio(fa: NDArray | float) -> NDArray:
    """Radial over axial diffusivity of a cylindrical tensor with a fractional anisotropy."""
    square = np.asarray(fa, float) ** 2
    return (1 - square) / (1 + np.sqrt(square * (3 - 2 * square)))


def draw_white_matter(
    age: float,
    changes: Mapping[tuple[str, str], float],
    scanner: DiffusionScanner,
    rng: np.random.Generator,
) -> tuple[WhiteMatter, WhiteMatter]:
    """Draw the diffusivities of a person's white matter, and what they were before the disease.

    Parameters
    ----------
    age : float
        Years above the reference age.
    changes : mapping
        Tract and side to the relative change of its anisotropy by disease. Axial diffusivity
        stays, so less anisotropy is more radial and more mean diffusivity.
    scanner : DiffusionScanner
        Its factors go in.
    rng : Generator
        Source of the differences between people.
    """
    names = [*TRACTS, "other"]
    usual = np.array([*(tract.fa for tract in TRACTS.values()), OTHER_FA])[:, None]
    common, speed = rng.standard_normal(2)
    own = rng.standard_normal((len(names), 2))
    for row, name in enumerate(names):
        if name not in TRACTS or TRACTS[name].crossing:
            own[row, 1] = own[row, 0]
    person = (1 + SD_FA * common + FA_PER_YEAR * age) * (1 + SD_TRACT * own)
    disease = np.array([[1 + changes.get((name, side), 0.0) for side in SIDES] for name in names])
    axial = 3 * WHITE_MD / (1 + 2 * radial_ratio(usual)) * (1 + SD_AD * speed)
    axial = np.repeat(axial, 2, axis=1) * scanner.diffusivity
    healthy = usual * person * scanner.fa
    matter, unaffected = (
        WhiteMatter(axial, axial * radial_ratio(np.clip(fa, 0.01, 0.95)))
        for fa in (healthy * disease, healthy)
    )
    return matter, unaffected


def _signal_without_weighting() -> NDArray:
    """Signal of each class, (17,), that of white matter being 1."""
    table = np.array([RELAXATION[name] for name in CLASSES])
    signal = table[:, 0] * np.exp(-ECHO_TIME / table[:, 1])
    return signal / signal[CLASSES.index("white")]


def _class_table(bvals: NDArray, diffusivity: float) -> NDArray:
    """Values of each class, (17, k + 4).

    Signal at each b of what is not white; that at b = 0 times its diffusivity; signal of white
    matter; its content; being inside the skull.
    """
    white = np.isin(CLASSES, WHITE_CLASSES)
    signal = _signal_without_weighting()
    speed = diffusivity * np.array([RELAXATION[name][2] for name in CLASSES])
    still = np.where(white, 0, signal)
    columns = [still * np.exp(-b * speed) for b in bvals]
    columns += [still * speed, np.where(white, signal, 0), white, tissue_table().sum(1)]
    return np.stack(columns, axis=1)


def place_tissue(
    anatomy: Anatomy,
    grid: Grid,
    bundles: Bundles,
    bvals: NDArray,
    diffusivity: float = 1.0,
    factors: tuple[int, int, int] = (2, 2, 2),
) -> tuple[Tissue, NDArray]:
    """Put a person on the points of a grid.

    Parameters
    ----------
    anatomy : Anatomy
        The person.
    grid : Grid
        The grid.
    bundles : Bundles
        The tracts.
    bvals : (k,) array
        b-values that are wanted, s/mm2.
    diffusivity : float
        Factor of the scanner on tissue other than white matter.
    factors : (3,) tuple
        Labels along each edge between points.

    Returns
    -------
    tissue : Tissue
        The person.
    brain : (x, y, z) bool array
        Voxels of which at least half lies inside the skull.
    """
    labels = cut_labels(anatomy, grid.fine_shape, grid.fine_affine, factors)
    values = voxel_means(labels, _class_table(bvals, diffusivity))
    white, content, inside = np.moveaxis(values[..., -3:], -1, 0)
    at = np.flatnonzero(white)
    points = apply_affine(grid.fine_affine, np.stack(np.unravel_index(at, grid.fine_shape)))
    there = to_template(anatomy, points)
    member = sample_lattice(bundles, bundles.membership, there)
    shares = np.concatenate([member, 1 - member.sum(1, keepdims=True)], axis=1)
    tissue = Tissue(
        grid=grid,
        isotropic={float(b): values[..., i].copy() for i, b in enumerate(bvals)},
        attenuated=values[..., len(bvals)].copy(),
        at=at,
        white=white.ravel()[at],
        shares=shares.astype(np.float32),
        left=there[0] < 0,
        directions=carried_directions(anatomy, points, principal_directions(bundles, there)),
        content=content.ravel()[at],
    )
    return tissue, to_voxels(inside, grid) >= 0.5


def carried_directions(anatomy: Anatomy, points: NDArray, directions: NDArray) -> NDArray:
    """Directions (n, 3) of the template as they run in the person at `points` (3, n), mm.

    A curve of the template is bent into the person by the inverse of the anatomy's map, its
    tangent by the inverse of that map's Jacobian, taken here by central differences.
    """
    half = LATTICE_SPACING / 2
    jacobian = np.empty((points.shape[1], 3, 3))
    for axis in range(3):
        step = np.zeros((3, 1))
        step[axis] = half
        ahead, behind = to_template(anatomy, points + step), to_template(anatomy, points - step)
        jacobian[:, :, axis] = ((ahead - behind) / (2 * half)).T
    carried = np.linalg.solve(jacobian, directions[..., None])[..., 0]
    carried /= np.linalg.norm(carried, axis=1, keepdims=True)
    return carried.astype(np.float32)


@numba.njit(fastmath=True)
def _add_white(
    signal: NDArray,
    at: NDArray,
    white: NDArray,
    directions: NDArray,
    axial: NDArray,
    radial: NDArray,
    bval: float | np.floating,
    gradient: NDArray,
) -> None:
    """Add the signal of white matter at one weighting to a flat image."""
    for n in range(at.shape[0]):
        along = (
            directions[n, 0] * gradient[0]
            + directions[n, 1] * gradient[1]
            + directions[n, 2] * gradient[2]
        )
        speed = radial[n] + (axial[n] - radial[n]) * along * along
        signal[at[n]] += white[n] * np.exp(-bval * speed)


def point_diffusivities(tissue: Tissue, matter: WhiteMatter) -> tuple[NDArray, NDArray]:
    """Axial and radial diffusivity (n,) of the points that hold white matter, mm2/s."""
    found = []
    for table in (matter.axial, matter.radial):
        left, right = (tissue.shares @ table[:, side].astype(np.float32) for side in (0, 1))
        found.append(np.where(tissue.left, left, right))
    return found[0], found[1]


def weighted_signal(
    tissue: Tissue, axial: NDArray, radial: NDArray, bval: float, direction: NDArray
) -> NDArray:
    """Signal of the points, (a, b, c) float32, at one b-value and direction of the head."""
    signal = tissue.isotropic[float(bval)].ravel().copy()
    _add_white(
        signal, tissue.at, tissue.white, tissue.directions, axial, radial,
        np.float32(bval), direction.astype(np.float32),
    )  # fmt: skip
    return signal.reshape(tissue.grid.fine_shape)


# ---------------------------------------------------------------------------- truth


def mean_tensor(tissue: Tissue, axial: NDArray, radial: NDArray) -> NDArray:
    """Mean tensor of each voxel, weighted by signal; see `DiffusionTruth.tensor`."""
    grid = tissue.grid
    signal = tissue.isotropic[0.0].copy()
    signal.ravel()[tissue.at] += tissue.white
    total = to_voxels(signal, grid)
    x, y, z = tissue.directions.T
    pairs = ((x, x), (x, y), (x, z), (y, y), (y, z), (z, z))
    tensor = np.empty((*grid.shape, 6), np.float32)
    for element, (a, b) in enumerate(pairs):
        same = a is b
        part = tissue.attenuated.copy() if same else np.zeros_like(tissue.attenuated)
        part.ravel()[tissue.at] += tissue.white * ((axial - radial) * a * b + same * radial)
        tensor[..., element] = to_voxels(part, grid) / np.maximum(total, 1e-6)
    return tensor


def tensor_parameters(tensor: NDArray) -> dict[str, NDArray]:
    """FA, MD, AD and RD of tensors (..., 6)."""
    matrices = tensor[..., [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(*tensor.shape[:-1], 3, 3)
    values = np.linalg.eigvalsh(matrices.astype(np.float64))
    mean = values.mean(-1)
    spread = ((values - mean[..., None]) ** 2).sum(-1)
    square = np.maximum((values**2).sum(-1), 1e-30)
    return {
        "fa": np.sqrt(1.5 * spread / square),
        "md": mean,
        "ad": values[..., 2],
        "rd": values[..., :2].mean(-1),
    }


def tract_fractions(tissue: Tissue) -> NDArray:
    """Share of each voxel that is white matter of each measured tract, (x, y, z, n, 2)."""
    places = [list(TRACTS).index(name) for name in MEASURED]
    fractions = np.zeros((*tissue.grid.shape, len(MEASURED), 2), np.float32)
    for row, place in enumerate(places):
        for column, side in enumerate((tissue.left, ~tissue.left)):
            part = np.zeros(tissue.grid.fine_shape, np.float32)
            part.ravel()[tissue.at] = tissue.content * tissue.shares[:, place] * side
            fractions[..., row, column] = to_voxels(part, tissue.grid)
    return fractions


def tract_measures(tensor: NDArray, fractions: NDArray) -> dict[str, tuple[float, str]]:
    """Mean over the core of each tract, voxels weighted by their share of the tract.

    Parameters
    ----------
    tensor : (x, y, z, 6) array
        As `DiffusionTruth.tensor`.
    fractions : (x, y, z, n, 2) array
        As `DiffusionTruth.tracts`.

    Returns
    -------
    dict
        ``<fa, md, ad or rd>_<tract>_<left, right or both>`` to value and unit; NaN where no voxel
        belongs to the tract by at least `CORE`.
    """
    core = (fractions >= CORE).any((-2, -1))
    values = tensor_parameters(tensor[core])
    weights = np.where(fractions[core] >= CORE, fractions[core], 0)
    found = {}
    for parameter, unit in METRICS.items():
        for row, name in enumerate(MEASURED):
            for side, columns in (("left", [0]), ("right", [1]), ("both", [0, 1])):
                weight = weights[:, row, columns].sum(1).astype(np.float64)
                total = weight.sum()
                mean = weight @ values[parameter] / total if total else np.nan
                found[f"{parameter}_{name}_{side}"] = (float(mean), unit)
    return found


# ---------------------------------------------------------------------------- series


@dataclass(frozen=True)
class DiffusionSubject:
    """A person as the series needs them.

    Attributes
    ----------
    anatomy : Anatomy
        The person.
    matter, unaffected : WhiteMatter
        White matter, and the same without the effect of the disease.
    """

    anatomy: Anatomy
    matter: WhiteMatter
    unaffected: WhiteMatter


def scan_diffusion(
    subject: DiffusionSubject,
    grid: Grid,
    gradients: Gradients,
    scanner: DiffusionScanner,
    bundles: Bundles,
    rng: np.random.Generator,
) -> DiffusionScan:
    """Acquire a diffusion series and one reversed volume of a person.

    Parameters
    ----------
    subject : DiffusionSubject
        The person.
    grid : Grid
        Voxels of the series; phase encoding runs along the second axis, against its index.
    gradients : Gradients
        Weighting of each volume, fixed to the scanner.
    scanner : DiffusionScanner
        Everything else about the series.
    bundles : Bundles
        The tracts.
    rng : Generator
        Source of field, motion, eddy currents, drift, receive field, dropouts and noise, each
        from a generator of its own.
    """
    rngs = rng.spawn(7)
    flaws, n = scanner.imperfections, len(gradients)
    bvals = np.unique(np.append(gradients.bvals, 0.0))
    tissue, brain = place_tissue(subject.anatomy, grid, bundles, bvals, scanner.diffusivity)
    shift = susceptibility_shift(subject.anatomy, grid, brain, flaws.distortion, rngs[0])
    weighting = gradients.directions * gradients.bvals[:, None] / 1000
    motion = draw_motion(n + 1, flaws.motion, grid.centre, rngs[1])
    axial, radial = point_diffusivities(tissue, subject.matter)
    readout = Readout(grid, shift, _bias(rngs[2], brain, grid, flaws), flaws.ringing)
    weighted = gradients.bvals > B0_MAX
    truth = DiffusionTruth(
        tensor=mean_tensor(tissue, axial, radial),
        tracts=tract_fractions(tissue),
        brain=brain,
        shift=shift,
        motion=motion,
        eddy=np.concatenate([eddy_terms(weighting, flaws.eddy, rngs[3]), np.zeros((1, 4))]),
        drift=np.append(drift_curve(n, flaws.drift, rngs[4]), 1.0),
        dropouts=lose_slices(weighted, grid.shape[2], flaws.dropouts, rngs[5]),
        measures={},
        unaffected={},
    )
    without = mean_tensor(tissue, *point_diffusivities(tissue, subject.unaffected))
    truth.measures.update(tract_measures(truth.tensor, truth.tracts))
    truth.unaffected.update(tract_measures(without, truth.tracts))
    images = _acquire(tissue, (axial, radial), readout, gradients, truth)
    images = scanner.gain * rician(images, flaws.noise, rngs[6])
    encoding = PhaseEncoding(PE_AXIS, -1, scanner.readout)
    series, reverse = images[..., :-1], images[..., -1]
    return DiffusionScan(series, reverse, grid.affine, gradients, encoding, truth)


def _bias(rng: np.random.Generator, brain: NDArray, grid: Grid, flaws: Imperfections) -> NDArray:
    """Receive field on the points of the field of view."""
    bias = receive_field(rng, brain, grid.affine, flaws.non_uniformity)
    for axis in range(3):
        bias = np.repeat(bias, FINER, axis=axis)
    return bias


def _acquire(
    tissue: Tissue,
    diffusivities: tuple[NDArray, NDArray],
    readout: Readout,
    gradients: Gradients,
    truth: DiffusionTruth,
) -> NDArray:
    """Images (x, y, z, n + 1) without noise, the reversed one last."""
    n = len(gradients)
    images = np.empty((*tissue.grid.shape, n + 1), np.float32)
    poses = truth.motion.head_to_volume
    for volume, pose in enumerate(poses):
        reverse = volume == n
        bval = 0.0 if reverse else float(gradients.bvals[volume])
        direction = np.zeros(3) if reverse else pose[:3, :3].T @ gradients.directions[volume]
        head = weighted_signal(tissue, *diffusivities, bval, direction)
        image = read_volume(readout, head, pose, -1 if reverse else 1, truth.eddy[volume])
        images[..., volume] = image * truth.drift[volume]
    for (volume, level), factor in truth.dropouts.items():
        images[:, :, level, volume] *= factor
    return images
