"""The susceptibility field from two images of opposite phase encoding.

The same head is stretched one way in one image and the other way in the other; signal is kept, so
it is dark where stretched and bright where squeezed. The field that makes both agree after undoing
the two is found by Gauss-Newton steps, coarse to fine, together with the movement of the head
between the two [1]_ [2]_.

References
----------
.. [1] Andersson et al. (2003). NeuroImage 20:870-888. doi:10.1016/S1053-8119(03)00336-7
.. [2] Ruthotto et al. (2012). Phys Med Biol 57:5715-5731. doi:10.1088/0031-9155/57/18/5715
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from alsflow.nodes.anat.morphology import bounds
from alsflow.nodes.distortion.smooth_fields import (
    conjugate_gradients,
    roughness,
    roughness_diagonal,
    slope,
    slope_transposed,
)
from alsflow.nodes.distortion.unwarp import describe_shift, sampling_places, unwarp
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import apply_affine, voxel_sizes

SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))
BRIGHT = 98  # percentile of an image that counts as 1
HEAD = 0.2  # of that; voxels above it are head
STEEPEST = 0.85  # mm/mm; a steeper field folds one image or piles it up beyond recovery
TRUSTED = 0.3  # difference, in units of BRIGHT, beyond which the weight of a voxel falls
SETTLED = 0.02  # mm; a level ends when the field moves less on average
ARM = 50.0  # mm; at this distance a rotation counts like a translation
MARGIN = 2  # voxels from lines that one of the images lacks, whose smoothing reaches in
ALONG, ACROSS = 25.0, 8.0  # mm around the head, in which the field is sought
ROUND = 0.7  # voxels, sigma of the local smoothing where the field is too steep


@dataclass(frozen=True)
class PairSettings:
    """How the field is found; the tuples hold one number per level, coarsest first."""

    widths: tuple[float, ...] = (12.0, 8.0, 6.0, 4.0, 2.5)  # mm, FWHM of the smoothing
    steps: int = 4  # at most, per level
    stiffness: float = 0.0025  # weight of the squared slope per mm of FWHM
    movement: bool = True  # fit the movement between the images


@dataclass(frozen=True)
class PairField:
    """What two images of opposite phase encoding say about the field between them.

    Attributes
    ----------
    shift : (x, y, z) float32 array
        Displacement of the first image along the phase-encoding voxel axis, mm: signal of the
        undistorted place p was acquired at p + shift(p) * axis.
    corrected_plus, corrected_minus : (x, y, z) float32 array
        Both images undistorted, the second one moved onto the first.
    rigid_minus_to_plus : (4, 4) array
        Where a point of the head in the second image, mm, lies in the first.
    r_before, r_after : float
        Correlation between the images in the head.
    nrmse_before, nrmse_after : float
        Root-mean-square difference in the head relative to the root mean square of the images.
    """

    shift: NDArray
    corrected_plus: NDArray
    corrected_minus: NDArray
    rigid_minus_to_plus: NDArray
    r_before: float
    r_after: float
    nrmse_before: float
    nrmse_after: float


def field_from_pair(
    b0_plus: NDArray,
    b0_minus: NDArray,
    affine: NDArray,
    axis: int,
    *,
    ratio: float = 1.0,
    settings: PairSettings | None = None,
) -> PairField:
    """Find the field between two b=0 images of opposite phase encoding.

    The translation of the head along the phase encoding is not told apart from a constant shift
    by such a pair; it is set to zero at the centre of the image, and the constant is part of the
    field.

    Parameters
    ----------
    b0_plus, b0_minus : (x, y, z) arrays
        Images on one grid. The field is that of the first, whatever its true polarity.
    affine : (4, 4) array
        Voxel to mm.
    axis : int
        Voxel axis of the phase encoding of both.
    ratio : float
        Readout time of the second over that of the first.
    settings : PairSettings, optional
        How the field is found.

    Raises
    ------
    BadInputError
        When the images cannot be a pair.
    """
    _check(b0_plus, b0_minus, axis, ratio)
    settings = settings or PairSettings()
    lines = _common_lines(b0_plus, b0_minus, axis)
    images = _normalised(b0_plus, b0_minus, lines)
    sure = ndimage.binary_erosion(lines, iterations=MARGIN, border_value=1)
    whole = _Problem(affine, axis, ratio, settings.movement, sure, _centre(affine, sure.shape))
    head = ndimage.binary_opening((images[0] > HEAD) | (images[1] > HEAD))
    margin = np.where(np.arange(3) == axis, ALONG, ACROSS)
    box = bounds(head if head.any() else np.ones_like(head), margin, whole.zooms)
    problem = replace(whole, affine=_cut(affine, box), seen=sure[box])
    state = _State(np.zeros(problem.seen.shape, np.float32), np.eye(4))
    for width in settings.widths:
        plus, minus = (_smoothed(problem, image[box], width) for image in images)
        state = _level(problem, plus, minus, state, settings.stiffness * width, settings.steps)
    beyond = [(cut.start, size - cut.stop) for cut, size in zip(box, sure.shape, strict=True)]
    state = replace(state, shift=np.pad(state.shift, beyond, mode="edge"))
    return _finished(b0_plus, b0_minus, state, whole)


def agreement(first: NDArray, second: NDArray, seen: NDArray | None = None) -> tuple[float, float]:
    """Correlation and normalised root-mean-square difference of two images in the head.

    Parameters
    ----------
    first, second : (x, y, z) arrays
        Images of one head on any two scales.
    seen : (x, y, z) bool array, optional
        Where both were acquired; everywhere by default.
    """
    both = np.ones(first.shape, bool) if seen is None else seen
    a, b = _normalised(first, second, both)
    head = both & ndimage.binary_fill_holes((a > HEAD) | (b > HEAD))
    a, b = a[head], b[head]
    r = ((a - a.mean()) * (b - b.mean())).mean() / (a.std() * b.std())
    return float(r), float(np.sqrt(((a - b) ** 2).mean() / ((a**2 + b**2) / 2).mean()))


def readout_ratio(plus: float | None, minus: float | None) -> float:
    """Readout time of the second image over that of the first; 1 where neither is known.

    Neither is needed for a field in mm as long as both are the same, as in one protocol.
    """
    if (plus is None) != (minus is None):
        raise BadInputError(
            "the readout time of one image of the phase-encoding pair is not known; "
            "write TotalReadoutTime in both sidecars"
        )
    return 1.0 if plus is None or minus is None else minus / plus


def describe(found: PairField, affine: NDArray) -> dict[str, float]:
    """Numbers for the record: agreement, displacement (mm), movement (degrees, mm)."""
    rigid = found.rigid_minus_to_plus
    centre = _centre(affine, found.shift.shape)
    moved = rigid[:3, :3] @ centre + rigid[:3, 3] - centre
    turn = Rotation.from_matrix(rigid[:3, :3]).magnitude()
    return {
        "r_before": found.r_before,
        "r_after": found.r_after,
        "nrmse_before": found.nrmse_before,
        "nrmse_after": found.nrmse_after,
        **describe_shift(found.shift, found.corrected_plus),
        "rotation_degrees": float(np.degrees(turn)),
        "translation_mm": float(np.sqrt((moved**2).sum())),
    }


@dataclass(frozen=True)
class _Problem:
    affine: NDArray
    axis: int
    ratio: float
    movement: bool
    seen: NDArray  # (x, y, z) bool: where both images were acquired
    centre: NDArray  # (3,) mm, about which rotations turn

    @property
    def zooms(self) -> NDArray:
        return voxel_sizes(self.affine)

    @property
    def spacing(self) -> float:
        return float(self.zooms[self.axis])


@dataclass(frozen=True)
class _State:
    shift: NDArray  # mm
    placement: NDArray  # (4, 4): where a point of the first image lies in the second


@dataclass(frozen=True)
class _Equations:
    """Difference of the undistorted images and how it changes with field and movement."""

    difference: NDArray
    value: NDArray  # by shift, 1/mm
    derivative: NDArray  # by the slope of shift
    moves: NDArray  # (m, x, y, z) by movement, 1/mm
    drags: NDArray  # (m, x, y, z) change of shift, mm/mm, that makes up for a movement along it
    weight: NDArray


def _check(first: NDArray, second: NDArray, axis: int, ratio: float) -> None:
    if first.shape != second.shape:
        sizes = " and ".join(" x ".join(map(str, image.shape)) for image in (first, second))
        raise BadInputError(
            f"the images of opposite phase encoding differ in size ({sizes}); "
            "resample one to the grid of the other or leave the pair out"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise BadInputError("an image of the phase-encoding pair holds values that are no numbers")
    if min(np.percentile(image, BRIGHT) for image in (first, second)) <= 0:
        raise BadInputError("an image of the phase-encoding pair is empty")
    if not _common_lines(first, second, axis).any():
        raise BadInputError("the images of the phase-encoding pair have no part in common")
    if not 0.1 <= ratio <= 10:
        raise BadInputError(
            f"the readout times of the phase-encoding pair differ by a factor of {ratio:g}; "
            "correct TotalReadoutTime in the sidecars"
        )


def _common_lines(first: NDArray, second: NDArray, axis: int) -> NDArray:
    """(x, y, z) bool: lines along the phase encoding that both images hold signal in."""
    held = [(image != 0).any(axis=axis, keepdims=True) for image in (first, second)]
    return np.broadcast_to(held[0] & held[1], first.shape)


def _normalised(first: NDArray, second: NDArray, seen: NDArray) -> tuple[NDArray, NDArray]:
    """Both images on one scale; stretching keeps the sum of the signal, but no percentile."""
    a, b = np.asarray(first, np.float32), np.asarray(second, np.float32)
    scale = float(np.percentile(a, BRIGHT))
    gain = float(a[seen].sum(dtype=float) / b[seen].sum(dtype=float))
    return a / scale, b * (gain / scale)


def _cut(affine: NDArray, box: tuple[slice, ...]) -> NDArray:
    """Affine of a part of a grid."""
    out = np.array(affine, float)
    out[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    return out


def _smoothed(problem: _Problem, image: NDArray, width: float) -> NDArray:
    """Gaussian smoothing. There is no signal beyond the field of view along the phase encoding."""
    modes = ["constant" if axis == problem.axis else "nearest" for axis in range(3)]
    return ndimage.gaussian_filter(image, width * SIGMA_PER_FWHM / problem.zooms, mode=modes)


def _level(
    problem: _Problem, plus: NDArray, minus: NDArray, state: _State, stiffness: float, steps: int
) -> _State:
    """Gauss-Newton steps at one smoothing; a step that makes things worse is taken back."""
    previous, least = state, np.inf
    for _ in range(steps):
        equations = _linearised(problem, plus, minus, state)
        cost = _cost(problem, equations, state, stiffness)
        if cost > least:
            return previous
        previous, least = state, cost
        change, moves = _step(problem, equations, state, stiffness)
        state = _updated(problem, state, change, moves)
        if np.abs(change[plus > HEAD]).mean() < SETTLED:
            break
    return state


def _linearised(problem: _Problem, plus: NDArray, minus: NDArray, state: _State) -> _Equations:
    affine, axis, ratio = problem.affine, problem.axis, problem.ratio
    steepness = slope(state.shift, axis, problem.spacing)
    places = sampling_places(state.shift, affine, axis, 1.0)
    value1 = _sample(plus, places)
    along1 = _sample(slope(plus, axis, problem.spacing), places)
    places = sampling_places(state.shift, affine, axis, -ratio, state.placement)
    value2 = _sample(minus, places)
    gradient = [_sample(np.gradient(minus, axis=k), places) for k in range(3)]
    seen = problem.seen & _inside(np.delete(places, axis, axis=0), np.delete(minus.shape, axis))
    stretch1, stretch2 = 1 + steepness, 1 - ratio * steepness
    difference = value1 * stretch1 - value2 * stretch2
    along2 = gradient[axis] / problem.spacing
    moves, drags = _by_movement(problem, gradient, places)
    return _Equations(
        difference,
        along1 * stretch1 + ratio * along2 * stretch2,
        value1 + ratio * value2,
        -moves * stretch2,
        drags,
        seen / np.maximum(1, np.abs(difference) / TRUSTED),
    )


def _by_movement(
    problem: _Problem, gradient: list[NDArray], places: NDArray
) -> tuple[NDArray, NDArray]:
    """Change of the second image with three rotations and two translations, 1/mm, and drags."""
    shape = places.shape[1:]
    if not problem.movement:
        none = np.zeros((0, *shape), np.float32)
        return none, none
    inverse = np.linalg.inv(problem.affine)[:3, :3]
    by_mm = inverse.T @ np.reshape(gradient, (3, -1))
    arms = apply_affine(problem.affine, places).reshape(3, -1) - problem.centre[:, None]
    along = problem.affine[:3, problem.axis] / problem.spacing
    # (axis x arm) . v = axis . (arm x v)
    turns = np.cross(arms.T, by_mm.T).T / ARM
    moves = np.concatenate([turns, _across(problem).T @ by_mm])
    drags = np.zeros_like(moves)
    drags[:3] = np.cross(arms.T, along).T / ARM / (1 + problem.ratio)
    return (
        moves.reshape(-1, *shape).astype(np.float32),
        drags.reshape(-1, *shape).astype(np.float32),
    )


def _across(problem: _Problem) -> NDArray:
    """Two unit vectors, (3, 2), at right angles to the phase encoding."""
    along = problem.affine[:3, problem.axis] / problem.spacing
    return np.linalg.svd(along[None])[2][1:].T


def _centre(affine: NDArray, shape: tuple[int, ...]) -> NDArray:
    """Middle of an image, (3,) mm."""
    return affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]


def _sample(image: NDArray, places: NDArray) -> NDArray:
    return ndimage.map_coordinates(image, places, order=1, mode="nearest")


def _inside(places: NDArray, shape: NDArray) -> NDArray:
    """Places between the outer faces of the grid.

    Not asked along the phase encoding: a field could hide there what it cannot explain.
    """
    edge = (shape - 1).reshape(-1, 1, 1, 1)
    return np.all((places > -0.5) & (places < edge + 0.5), axis=0)


def _cost(problem: _Problem, equations: _Equations, state: _State, stiffness: float) -> float:
    rough = (state.shift * roughness(state.shift, problem.zooms, trend_free=True)).sum()
    return float((equations.weight * equations.difference**2).sum() + stiffness * rough)


def _step(
    problem: _Problem, equations: _Equations, state: _State, stiffness: float
) -> tuple[NDArray, NDArray]:
    """Solve the linearised problem: change of the field, mm, and movement, (m,) mm.

    A movement along the phase encoding looks almost like a field. The unknown is therefore the
    field beyond what makes up for the movement, without which the solver would crawl.
    """
    e, axis, spacing = equations, problem.axis, problem.spacing
    shape, count = state.shift.shape, len(e.moves)

    def effect(field: NDArray) -> NDArray:
        return e.value * field + e.derivative * slope(field, axis, spacing)

    moves = [m + effect(d) for m, d in zip(e.moves, e.drags, strict=True)]

    def transposed(residual: NDArray, penalty: NDArray) -> NDArray:
        weighted = e.weight * residual
        field = e.value * weighted + slope_transposed(e.derivative * weighted, axis, spacing)
        by_move = np.array([(move * weighted).sum() for move in moves], np.float32)
        return np.concatenate([by_move, (field + stiffness * penalty).ravel()])

    def normal(unknowns: NDArray) -> NDArray:
        field = unknowns[count:].reshape(shape)
        change = effect(field)
        for move, amount in zip(moves, unknowns[:count], strict=True):
            change += amount * move
        return transposed(change, roughness(field, problem.zooms, trend_free=True))

    right = -transposed(e.difference, roughness(state.shift, problem.zooms, trend_free=True))
    own = e.weight * (e.value**2 + e.derivative**2 / (2 * spacing**2))
    own += stiffness * roughness_diagonal(problem.zooms)
    moving = np.array([(e.weight * move**2).sum() for move in moves], np.float32)
    found = conjugate_gradients(normal, right, np.concatenate([moving, own.ravel()]))
    field = found[count:].reshape(shape)
    for drag, amount in zip(e.drags, found[:count], strict=True):
        field = field + amount * drag
    return field, found[:count]


def _updated(problem: _Problem, state: _State, change: NDArray, moves: NDArray) -> _State:
    shift = _limited(problem, state.shift + change)
    if not problem.movement:
        return _State(shift, state.placement)
    centre, step = problem.centre, np.eye(4)
    step[:3, :3] = Rotation.from_rotvec(moves[:3] / ARM).as_matrix()
    step[:3, 3] = centre - step[:3, :3] @ centre + _across(problem) @ moves[3:]
    return _State(shift, step @ state.placement)


def _limited(problem: _Problem, shift: NDArray, tries: int = 20) -> NDArray:
    """Field smoothed locally until neither image folds."""
    most = STEEPEST / max(1.0, problem.ratio)
    for _ in range(tries):
        steepness = np.abs(slope(shift, problem.axis, problem.spacing))
        if steepness.max() < most:
            break
        near = ndimage.maximum_filter(steepness, 3) > most
        shift = np.where(near, ndimage.gaussian_filter(shift, ROUND, mode="nearest"), shift)
    return shift


def _finished(plus: NDArray, minus: NDArray, state: _State, problem: _Problem) -> PairField:
    shift, affine, axis = state.shift.astype(np.float32), problem.affine, problem.axis
    corrected = (
        unwarp(plus, shift, affine, axis),
        unwarp(minus, shift, affine, axis, polarity=-problem.ratio, placement=state.placement),
    )
    r_before, nrmse_before = agreement(plus, minus, problem.seen)
    r_after, nrmse_after = agreement(*corrected, problem.seen)
    inverse = np.linalg.inv(state.placement)
    return PairField(shift, *corrected, inverse, r_before, r_after, nrmse_before, nrmse_after)
