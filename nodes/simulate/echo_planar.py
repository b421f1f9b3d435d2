"""What an echo-planar readout does to a head: distortion, motion, ringing, drift, noise.

A volume is made in the order in which a scanner makes it: the head lies where it moved to, its
signal is received with the coil's sensitivity and displaced along the phase-encoding axis by the
field of the head and by eddy currents, slices are excited, a finite k-space is read out, gain
drifts, noise comes last. Phase encoding is along the second voxel axis.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from alsflow.nodes.geometry import apply_affine, grid_points, voxel_sizes
from alsflow.nodes.simulate.anatomy import LATTICE_SPACING, Anatomy, to_template
from alsflow.nodes.simulate.fields import smooth_noise

FINER = 2  # points of the head along each edge of a voxel
OVERHANG = 4  # voxels of head above and below the field of view, which motion may bring in
PE_AXIS = 1
STEEPEST = 0.75  # largest change of the shift along the phase-encoding axis, mm/mm
# Air in the head: centre (mm, MNI), radius (mm). Frontal and ethmoid, sphenoid sinus, ear canals.
AIR_SPACES = (
    ((0.0, 58.0, -36.0), 18.0),
    ((0.0, 34.0, -40.0), 16.0),
    ((-56.0, -20.0, -42.0), 15.0),
    ((56.0, -20.0, -42.0), 15.0),
)
SOFTNESS = 1.3  # radii; the field of a sphere would be too steep for what is not one
FIELD_SCALE = 25.0  # mm, smoothing of the person's own part of the field
OWN_FIELD = 0.15  # its standard deviation, share of the 99th percentile of that of the air
JUMPS = 2  # sudden moves in a run

Number = float | np.floating


@dataclass(frozen=True)
class Imperfections:
    """Size of everything that makes a series differ from the head; 0 switches each off.

    Attributes
    ----------
    noise : float
        Standard deviation of the noise in each channel, share of white matter without weighting.
    ringing : float
        1 reads out a finite k-space, 0 averages over each voxel; between, a mixture.
    drift : float
        Loss of signal from the first volume to the last, percent; quadratic in time.
    motion : float
        Typical translation (mm) and rotation (degrees) at the end of the run.
    eddy : float
        Typical displacement by eddy currents 60 mm from the centre, mm at b = 1000 s/mm2.
    distortion : float
        99th percentile of the displacement by the head's field inside the brain, mm.
    non_uniformity : float
        Span of the receive field over the brain, 0.2 for 20 %.
    dropouts : int
        Slices of diffusion-weighted volumes that lose signal.
    """

    noise: float = 0.04
    ringing: float = 1.0
    drift: float = 4.0
    motion: float = 0.6
    eddy: float = 1.2
    distortion: float = 5.0
    non_uniformity: float = 0.2
    dropouts: int = 0


PERFECT = Imperfections(0, 0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Grid:
    """Voxels of a series, and the finer points of the head behind them.

    Attributes
    ----------
    shape : (3,) tuple
        Voxels; the second axis is the phase-encoding axis.
    affine : (4, 4) array
        Voxel to mm.
    """

    shape: tuple[int, int, int]
    affine: NDArray

    @property
    def fine_shape(self) -> tuple[int, int, int]:
        """Points of the head, `OVERHANG` voxels of them above and below."""
        x, y, z = self.shape
        return FINER * x, FINER * y, FINER * (z + 2 * OVERHANG)

    @property
    def fine_affine(self) -> NDArray:
        """Point to mm, (4, 4)."""
        scale = np.diag([1 / FINER, 1 / FINER, 1 / FINER, 1.0])
        scale[:3, 3] = (1 / FINER - 1) / 2
        scale[2, 3] -= OVERHANG
        return self.affine @ scale

    @property
    def centre(self) -> NDArray:
        """Middle of the field of view, mm, (3,)."""
        return apply_affine(self.affine, (np.array(self.shape, float) - 1) / 2)


def epi_grid(
    anatomy: Anatomy, voxel: tuple[float, float, float], angles: NDArray, margin: float = 12.0
) -> Grid:
    """Grid over the brain, tilted about the three axes.

    Parameters
    ----------
    anatomy : Anatomy
        The person.
    voxel : (3,) tuple
        Edges, mm.
    angles : (3,) array
        Rotation about x, y, z, degrees.
    margin : float
        Air beside the head in the slice, mm.
    """
    blueprint = anatomy.blueprint
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * voxel
    to_world = np.linalg.inv(anatomy.world_to_template) @ blueprint.lattice_affine
    points = grid_points(blueprint.hull.shape, to_world)
    heights = blueprint.lattice_affine[2, 3] + LATTICE_SPACING * np.arange(points.shape[3])
    above = np.broadcast_to(heights > blueprint.floor, points.shape[1:])
    at = apply_affine(np.linalg.inv(affine), points)
    head = at[:, above & (anatomy.layers[..., 0] < 0)]
    brain = at[:, above & (blueprint.hull < 0)]
    edges = np.array(voxel)
    low = np.append(head.min(1)[:2] - margin / edges[:2], brain.min(1)[2] - 1)
    high = np.append(head.max(1)[:2] + margin / edges[:2], brain.max(1)[2] + 8 / edges[2])
    count = 2 * np.ceil((high - low) / 2).astype(int)
    affine[:3, 3] = affine[:3, :3] @ low
    return Grid((int(count[0]), int(count[1]), int(count[2])), affine)


def to_voxels(points: NDArray, grid: Grid) -> NDArray:
    """Mean of values (a, b, c, ...) on the points over each voxel of the field of view."""
    x, y, z = grid.shape
    seen = points[:, :, FINER * OVERHANG : FINER * (OVERHANG + z)]
    blocks = seen.reshape(x, FINER, y, FINER, z, FINER, *points.shape[3:])
    return blocks.mean((1, 3, 5))


# ---------------------------------------------------------------------------- displacements


def _air_field(at: NDArray) -> NDArray:
    """Field of air spaces along z, arbitrary units, at points (3, ...) of the template, mm."""
    field = np.zeros(at.shape[1:], np.float64)
    for centre, radius in AIR_SPACES:
        x, y, z = (at[axis] - centre[axis] for axis in range(3))
        square = x**2 + y**2 + z**2 + (SOFTNESS * radius) ** 2
        field += radius**3 * (3 * z**2 / square - 1) / square**1.5
    return field


def _shimmed(field: NDArray, inside: NDArray, at: NDArray) -> NDArray:
    """Field less its constant and linear part over a bool mask; `at` is (3, ...)."""
    terms = np.concatenate([np.ones((1, *field.shape)), at])
    weights = np.linalg.lstsq(terms[:, inside].T, field[inside], rcond=None)[0]
    return field - np.tensordot(weights, terms, 1)


def susceptibility_shift(
    anatomy: Anatomy, grid: Grid, brain: NDArray, size: float, rng: np.random.Generator
) -> NDArray:
    """Displacement by the field that the head itself makes, strongest above sinuses and ears.

    Parameters
    ----------
    anatomy : Anatomy
        The person.
    grid : Grid
        Where the shift is wanted.
    brain : (x, y, z) bool array
        Where the field is shimmed and its size is taken.
    size : float
        99th percentile of the magnitude inside `brain`, mm. Where the shift would change faster
        than `STEEPEST` it is smoothed.
    rng : Generator
        Source of the person's own part of the field.

    Returns
    -------
    shift : (x, y, z) float32 array
        mm towards growing index of the phase-encoding axis.
    """
    edges = voxel_sizes(grid.affine)
    points = grid_points(grid.shape, grid.affine)
    noise = smooth_noise(rng, grid.shape, FIELD_SCALE / edges)
    if size == 0:
        return np.zeros(grid.shape, np.float32)
    field = _air_field(to_template(anatomy, points))
    field = field + OWN_FIELD * np.quantile(np.abs(field[brain]), 0.99) * noise
    field = _shimmed(field, brain, points - grid.centre[:, None, None, None])
    shift = field * (size / np.quantile(np.abs(field[brain]), 0.99))
    while np.abs(np.gradient(shift, edges[PE_AXIS], axis=PE_AXIS)).max() > STEEPEST:
        shift = ndimage.gaussian_filter(shift, 2.0 / edges, mode="nearest")
    return shift.astype(np.float32)


@dataclass(frozen=True)
class Motion:
    """Where the head was in each volume.

    Attributes
    ----------
    translation : (n, 3) array
        mm along the world's axes.
    rotation : (n, 3) array
        Degrees about x, y, z, in this order about axes that stay.
    centre : (3,) array
        Point about which the head turned, mm.
    """

    translation: NDArray
    rotation: NDArray
    centre: NDArray

    @property
    def head_to_volume(self) -> NDArray:
        """World matrices (n, 4, 4): where a point of the head of the first volume lies."""
        turned = Rotation.from_euler("xyz", self.rotation, degrees=True).as_matrix()
        matrices = np.tile(np.eye(4), (len(turned), 1, 1))
        matrices[:, :3, :3] = turned
        matrices[:, :3, 3] = self.translation + self.centre - turned @ self.centre
        return matrices


def draw_motion(n: int, size: float, centre: NDArray, rng: np.random.Generator) -> Motion:
    """Draw a slow walk with a few jumps, from rest in the first of `n` volumes."""
    steps = rng.standard_normal((n, 6)) / np.sqrt(n)
    for volume in rng.integers(1, max(n, 2), JUMPS):
        steps[min(volume, n - 1)] += 0.4 * rng.standard_normal(6)
    walk = size * np.cumsum(steps, axis=0)
    walk -= walk[0]
    return Motion(walk[:, :3], walk[:, 3:], np.asarray(centre, float))


def drift_curve(n: int, percent: float, rng: np.random.Generator) -> NDArray:
    """Signal of each of `n` volumes relative to the first, (n,), quadratic in time."""
    time = np.arange(n) / max(n - 1, 1)
    bend = rng.uniform(0.2, 0.8)
    return 1 - percent / 100 * ((1 - bend) * time + bend * time**2)


def eddy_terms(weighting: NDArray, size: float, rng: np.random.Generator) -> NDArray:
    """Displacement by eddy currents along the phase-encoding axis: linear in b times direction.

    Parameters
    ----------
    weighting : (n, 3) array
        Directions times b / 1000 s/mm2.
    size : float
        Typical displacement 60 mm from the centre, mm at b = 1000 s/mm2.
    rng : Generator
        Source of the scanner's coefficients.

    Returns
    -------
    terms : (n, 4) array
        Displacement per mm along each voxel axis from the middle of the field of view, and the
        constant, mm.
    """
    law = size * rng.standard_normal((3, 4)) * np.array([1 / 60, 1 / 60, 1 / 60, 0.5])
    return weighting @ law


# ---------------------------------------------------------------------------- one volume


@numba.njit(fastmath=True, inline="always")
def _cubic(t: Number) -> tuple[Number, Number, Number, Number]:
    """Weights of four points around a place `t` after the second of them (Catmull-Rom)."""
    return (
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )


@numba.njit(fastmath=True)
def _sample_cubic(grid: NDArray, x: float, y: float, z: float) -> Number:
    """Value of a grid between its points; 0 beyond it."""
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    if not (
        1 <= i < grid.shape[0] - 2 and 1 <= j < grid.shape[1] - 2 and 1 <= k < grid.shape[2] - 2
    ):
        return np.float32(0)
    a = _cubic(np.float32(x - i))
    b = _cubic(np.float32(y - j))
    c0, c1, c2, c3 = _cubic(np.float32(z - k))
    total = np.float32(0)
    for p in range(4):
        plane = np.float32(0)
        for q in range(4):
            row = grid[i - 1 + p, j - 1 + q]
            plane += b[q] * (c0 * row[k - 1] + c1 * row[k] + c2 * row[k + 1] + c3 * row[k + 2])
        total += a[p] * plane
    return total


@numba.njit(fastmath=True)
def _sample_linear(grid: NDArray, x: float, y: float, z: float) -> float:
    """Value of a grid between its points; that of its edge beyond it."""
    x = min(max(x, 0.0), grid.shape[0] - 1.001)
    y = min(max(y, 0.0), grid.shape[1] - 1.001)
    z = min(max(z, 0.0), grid.shape[2] - 1.001)
    i, j, k = int(x), int(y), int(z)
    u, v, w = x - i, y - j, z - k
    low = (grid[i, j, k] * (1 - u) + grid[i + 1, j, k] * u) * (1 - v) + (
        grid[i, j + 1, k] * (1 - u) + grid[i + 1, j + 1, k] * u
    ) * v
    high = (grid[i, j, k + 1] * (1 - u) + grid[i + 1, j, k + 1] * u) * (1 - v) + (
        grid[i, j + 1, k + 1] * (1 - u) + grid[i + 1, j + 1, k + 1] * u
    ) * v
    return low * (1 - w) + high * w


@numba.njit(fastmath=True, inline="always")
def _moved(matrix: NDArray, x: float, y: float, z: float) -> tuple[float, float, float]:
    """Point moved by a (3, 4) matrix."""
    return (
        matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z + matrix[0, 3],
        matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z + matrix[1, 3],
        matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z + matrix[2, 3],
    )


@numba.njit(fastmath=True)
def _encode(
    head: NDArray,
    to_head: NDArray,
    shift: NDArray,
    to_shift: NDArray,
    eddy: NDArray,
    bias: NDArray,
    out: NDArray,
) -> None:
    """Fill `out`, points of the scanner, with what the readout places there.

    `to_head` and `to_shift` lead from points of the scanner to those of `head` and to voxels of
    `shift`, whose values, as `eddy`'s, are in points along the second axis. `bias` lies on `out`.
    """
    nx, ny, nz = out.shape
    place = np.empty(ny)
    for i in range(nx):
        for k in range(nz):
            for j in range(ny):
                x, y, z = _moved(to_shift, i, j, k)
                moved = _sample_linear(shift, x, y, z)
                place[j] = j + moved + eddy[0] * i + eddy[1] * j + eddy[2] * k + eddy[3]
            m = 0
            for j in range(ny):
                while m < ny - 2 and place[m + 1] <= j:
                    m += 1
                inside = (j - place[m]) / (place[m + 1] - place[m])
                source = m + inside
                if inside < 0 or inside > 1:
                    out[i, j, k] = 0
                    continue
                before = (place[m + 1] - place[max(m - 1, 0)]) / (1 + (m > 0))
                after = (place[min(m + 2, ny - 1)] - place[m]) / (1 + (m < ny - 2))
                stretch = (1 - inside) * before + inside * after
                field = (1 - inside) * bias[i, m, k] + inside * bias[i, m + 1, k]
                x, y, z = _moved(to_head, i, source, k)
                out[i, j, k] = _sample_cubic(head, x, y, z) * field / stretch


@functools.lru_cache(maxsize=8)
def readout_matrix(n: int, ringing: float) -> NDArray:
    """Matrix (n, FINER n) from the points along one axis to its voxels; see `Imperfections`."""
    points = (np.arange(FINER * n) + 0.5) / FINER - 0.5
    away = np.arange(n)[:, None] - points
    waves = np.arange(1, (n + 1) // 2)
    finite = 1 + 2 * np.cos(2 * np.pi / n * waves * away[..., None]).sum(-1)
    if n % 2 == 0:
        finite += np.cos(np.pi * away)  # the highest wave, half of which is seen at each end
    box = np.repeat(np.eye(n), FINER, axis=1)
    matrix = (ringing * finite / n + (1 - ringing) * box).astype(np.float32) / FINER
    matrix.flags.writeable = False  # every slice uses the same one
    return matrix


@dataclass(frozen=True)
class Readout:
    """How every volume of a series is read out.

    Attributes
    ----------
    grid : Grid
        Voxels and points.
    shift : (x, y, z) float32 array
        Displacement of the head's signal, mm, on the voxels, for positive polarity.
    bias : (FINER x, FINER y, FINER z) float32 array
        Receive field on the points of the field of view.
    ringing : float
        As in `Imperfections`.
    """

    grid: Grid
    shift: NDArray
    bias: NDArray
    ringing: float


def read_volume(
    readout: Readout, head: NDArray, pose: NDArray, polarity: int, eddy: NDArray
) -> NDArray:
    """Image, without noise, of a head that lies still during one volume.

    Parameters
    ----------
    readout : Readout
        Grid, field of the head, receive field.
    head : (a, b, c) float32 array
        Signal on the points of the head (`Grid.fine_shape`), where it lay in the first volume.
    pose : (4, 4) array
        World matrix from there to where it lies now.
    polarity : int
        1 or -1: sign of the shift.
    eddy : (4,) array
        As of `eddy_terms`.
    """
    return read_slices(readout, head, pose, polarity, eddy, (0, readout.grid.shape[2]))


def read_slices(
    readout: Readout,
    head: NDArray,
    pose: NDArray,
    polarity: int,
    eddy: NDArray,
    slices: tuple[int, int],
    lowest: int = 0,
) -> NDArray:
    """Some slices of an image; every slice may see the head at a time of its own.

    Parameters
    ----------
    readout, pose, polarity, eddy
        As of `read_volume`.
    head : (a, b, c) float32 array
        Planes of the head's points from `lowest` on; see `planes_behind`.
    slices : (2,) tuple
        First slice, and the one after the last.
    lowest : int
        Plane of `Grid.fine_shape` with which `head` starts.
    """
    grid = readout.grid
    first, last = slices
    edge = voxel_sizes(grid.affine)
    back = _back(grid, pose) @ _raised(FINER * first)
    along = edge / FINER  # mm per point
    middle = (FINER * np.array(grid.shape) - 1) / 2
    slopes = eddy[:3] * along / along[PE_AXIS]
    terms = np.append(slopes, eddy[3] / along[PE_AXIS] - slopes @ middle)
    terms[3] += slopes[2] * FINER * first
    x, y, z = grid.shape[0], grid.shape[1], last - first
    out = np.empty((FINER * x, FINER * y, FINER * z), np.float32)
    _encode(
        np.ascontiguousarray(head, np.float32),
        (np.linalg.inv(grid.fine_affine @ _raised(lowest)) @ back)[:3],
        (polarity / along[PE_AXIS] * readout.shift).astype(np.float32),
        (np.linalg.inv(grid.affine) @ back)[:3],
        terms,
        np.ascontiguousarray(readout.bias[:, :, FINER * first : FINER * last]),
        out,
    )
    finer = sum(out[:, :, k::FINER] for k in range(FINER)) / FINER
    rows = np.tensordot(readout_matrix(x, readout.ringing), finer, 1)
    columns = readout_matrix(y, readout.ringing)
    return np.matmul(columns, rows).astype(np.float32)


def planes_behind(grid: Grid, pose: NDArray, level: int) -> tuple[int, int]:
    """First plane of the head's points that a slice sees, and the one after the last."""
    x, y, _ = grid.shape
    corners = np.array(
        [[i, j, k] for i in (0, FINER * x) for j in (0, FINER * y) for k in (0, FINER)], float
    ).T
    corners[2] += FINER * level - 0.5
    heights = apply_affine(np.linalg.inv(grid.fine_affine) @ _back(grid, pose), corners)[2]
    lowest = max(int(np.floor(heights.min())) - 1, 0)
    return lowest, max(min(int(np.ceil(heights.max())) + 3, grid.fine_shape[2]), lowest + 4)


def _back(grid: Grid, pose: NDArray) -> NDArray:
    """Matrix from points of the field of view to the world where the head lay first, mm."""
    return np.linalg.inv(pose) @ (grid.affine @ np.linalg.inv(_scaled()))


def _raised(planes: int) -> NDArray:
    """Matrix that adds a number of planes."""
    matrix = np.eye(4)
    matrix[2, 3] = planes
    return matrix


def _scaled() -> NDArray:
    """Matrix from voxels of the field of view to its points."""
    matrix = np.diag([FINER, FINER, FINER, 1.0])
    matrix[:3, 3] = (FINER - 1) / 2
    return matrix


def lose_slices(
    weighted: NDArray, slices: int, count: int, rng: np.random.Generator
) -> dict[tuple[int, int], float]:
    """Draw factors of `count` slices, by volume (of the bool array `weighted`) and slice."""
    volumes = np.flatnonzero(weighted)
    if not len(volumes):
        return {}
    found: dict[tuple[int, int], float] = {}
    while len(found) < min(count, len(volumes) * slices):
        place = int(rng.choice(volumes)), int(rng.integers(slices))
        found.setdefault(place, float(rng.uniform(0.2, 0.6)))
    return found
