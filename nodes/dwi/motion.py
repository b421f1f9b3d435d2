"""Motion of the head and eddy currents of a diffusion series, all volumes at once.

The signal of each voxel is a smooth function of the gradient direction (`signal_model`), each
volume a rigidly moved and, along the phase encoding, smoothly displaced view of it. All poses are
found together by Gauss-Newton steps (`normal`), from coarse to fine. Eddy-current terms are drawn
towards a law linear in b g. The weighted volumes as a group are placed on the b0s by
`group_link`. Compare Andersson and Sotiropoulos (2016), doi:10.1016/j.neuroimage.2015.10.019.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.ndimage import gaussian_filter1d

from alsflow.nodes.distortion.phase_encoding import PhaseEncoding
from alsflow.nodes.dwi.estimate import MotionEstimate, Step
from alsflow.nodes.dwi.gradients import B0_MAX, Gradients
from alsflow.nodes.dwi.group_link import (
    FWHM,
    combined,
    information_shift,
    walk_offset,
)
from alsflow.nodes.dwi.groups import FEWEST, Group, groups_of, weighted_shells
from alsflow.nodes.dwi.normal import (
    FIRST_TERM,
    GAIN_SD,
    LAW_SD,
    RIDGE,
    RIGID,
    TERM_SD,
    Cloud,
    Equations,
    equations,
)
from alsflow.nodes.dwi.outliers import judged_slices
from alsflow.nodes.dwi.slice_loss import outlier_slices
from alsflow.nodes.epi.interpolate import Sampler
from alsflow.nodes.epi.points import spread_points
from alsflow.nodes.epi.pose import (
    TERMS_OF,
    Frame,
    Poses,
    carried,
    eddy_basis,
    frame_of,
    moved,
    rms_change,
    still,
    world_matrices,
)
from alsflow.nodes.errors import BadInputError

Eddy = Literal["none", "linear", "quadratic"]

SMALLEST = 8  # voxels along any axis
REACH = 2  # voxels by which the mask is dilated
POINTS = 40_000
ENOUGH = 42  # volumes from which on fewer points are taken, to hold time and memory
STEPS = (2, 3, 5)  # at most, at each level
SMALL = 0.02  # mm; a level ends when the mean update is less
UNSETTLED = 0.05  # mm; a last update beyond it is reported
WORSE = 1.01  # a step that raises the misfit by more is halved,
HALVINGS = 3  # so often at most
HALF_SPHERE = 0.3  # length of the mean direction beyond which the scheme is one-sided


@dataclass(frozen=True)
class _Series:
    """What stays the same while the poses are estimated."""

    volumes: NDArray  # (n, x, y, z) float32
    frame: Frame
    axis: int
    terms: int  # eddy terms after the constant
    polarity: NDArray  # (n,)
    directions: NDArray  # (n, 3), image axes
    bvals: NDArray  # (n,)
    weighting: NDArray  # (n, 3), polarity b g / max(b)
    runs: NDArray  # (n,)
    groups: tuple[Group, ...]
    mask: NDArray  # (x, y, z) bool, dilated
    shift: NDArray  # (2, x, y, z) susceptibility, mm and its derivative
    cloud: Cloud
    probes: NDArray  # (3, m), where updates are measured

    @property
    def weighted(self) -> NDArray:
        """Volumes in weighted groups."""
        return _members(self.groups, True)

    @property
    def followers(self) -> NDArray:
        """Volumes in no group: too few of their shell to be aligned by themselves."""
        return np.setdiff1d(np.arange(len(self.runs)), _members(self.groups))


@dataclass(frozen=True)
class _State:
    """What changes from step to step."""

    poses: Poses
    outliers: NDArray  # (n, z) bool
    steps: tuple[Step, ...] = ()
    converged: bool = True


def estimate_motion(
    signal: NDArray,
    affine: NDArray,
    gradients: Gradients,
    phase_encoding: PhaseEncoding | None,
    mask: NDArray,
    *,
    eddy: Eddy = "linear",
    series: NDArray | None = None,
    polarity: NDArray | None = None,
    shift: NDArray | None = None,
) -> MotionEstimate:
    """Rigid motion and eddy-current displacement of every volume of a diffusion series.

    Parameters
    ----------
    signal : (x, y, z, n) array
        Series in the order of acquisition; slices along the third axis.
    affine : (4, 4) array
        Voxel to world mm.
    gradients : Gradients
        Weighting of each volume, directions in the world.
    phase_encoding : PhaseEncoding or None
        Of the first volume; None where it is unknown, which leaves rigid motion alone.
    mask : (x, y, z) bool array
        Brain, on the grid of the first b0.
    eddy : "none", "linear" or "quadratic"
        Polynomial of the eddy-current displacement.
    series : (n,) int array, optional
        Number of the run of each volume; one run by default.
    polarity : (n,) array, optional
        -1 for volumes encoded against `phase_encoding`. Without a `shift`, volumes of opposite
        polarity are not compared with each other: each polarity has its own first b0 as
        reference, and only the law of the eddy currents is common to both.
    shift : (x, y, z) array, optional
        Susceptibility shift, mm (see `resample_series`). With it the volumes of both polarities
        are aligned as one.
    """
    notes: list[str] = []
    _check(signal, gradients, mask)
    if phase_encoding is None and eddy != "none":
        notes.append(
            "The phase-encoding direction is unknown: head motion was corrected, eddy currents "
            "were not."
        )
        eddy = "none"
    setup = _set_up(signal, affine, gradients, phase_encoding, mask, eddy, series, polarity, shift)
    state = _State(still(len(gradients)), np.zeros((len(gradients), signal.shape[2]), bool))
    levels = _levels(setup.frame)
    for level, (fwhm, limit) in enumerate(zip(levels, STEPS, strict=True)):
        state = _run_level(setup, state, fwhm, limit, level)
        if level in (0, len(levels) - 1):
            state = replace(state, poses=_linked(setup, state.poses))
    poses = _following(setup, state.poses)
    sampler = Sampler(setup.volumes, setup.frame, setup.axis, setup.polarity)
    # slices are compared without the susceptibility field, so within one polarity
    sides = groups_of(gradients, setup.polarity, apart=True)
    loss, outliers = judged_slices(sampler, sides, poses, setup.directions, mask, state.outliers)
    return MotionEstimate(
        world_matrices(poses, setup.frame),
        poses.eddy[:, : TERMS_OF[eddy]],
        state.steps,
        state.converged,
        outliers,
        loss,
        1 / poses.gain,
        (*notes, *_warnings(setup, state)),
    )


def _check(signal: NDArray, gradients: Gradients, mask: NDArray) -> None:
    """Refuse what cannot be aligned."""
    if signal.ndim != 4 or signal.shape[3] != len(gradients):
        raise BadInputError(
            f"The diffusion series has the shape {signal.shape}, but {len(gradients)} b-values "
            "and directions were given; they must be as many as its volumes."
        )
    if min(signal.shape[:3]) < SMALLEST:
        raise BadInputError(
            f"The diffusion series has {min(signal.shape[:3])} voxels along one axis; motion "
            f"cannot be told with fewer than {SMALLEST}."
        )
    if mask.shape != signal.shape[:3] or not mask.any():
        raise BadInputError("The brain mask is empty or not on the grid of the diffusion series.")
    if not np.isfinite(signal).all():
        bad = np.flatnonzero(~np.isfinite(signal).all(axis=(0, 1, 2)))
        raise BadInputError(
            f"Volumes {', '.join(map(str, bad))} of the diffusion series (counted from 0) hold "
            "values that are no numbers; take these volumes out of the series, the b-values and "
            "the directions."
        )
    if not gradients.b0.any():
        raise BadInputError(
            f"No volume of the diffusion series has a b-value of {B0_MAX:g} s/mm2 or less; motion "
            "is measured against such a volume."
        )
    weighted = int((~gradients.b0).sum())
    if weighted > 0 and max(len(v) for v in weighted_shells(gradients)) < FEWEST:
        raise BadInputError(
            f"No shell of the {weighted} diffusion-weighted volumes has {FEWEST} or more "
            "directions: they cannot be aligned on each other. Switch motion correction off for "
            "this person."
        )


def _set_up(
    signal: NDArray,
    affine: NDArray,
    gradients: Gradients,
    phase_encoding: PhaseEncoding | None,
    mask: NDArray,
    eddy: Eddy,
    series: NDArray | None,
    polarity: NDArray | None,
    shift: NDArray | None,
) -> _Series:
    count = signal.shape[3]
    frame = frame_of(signal.shape, affine)
    axis = phase_encoding.axis if phase_encoding else 1
    signs = np.ones(count) if polarity is None else np.asarray(polarity, float)
    directions = frame.directions(gradients.directions)
    strength = gradients.bvals / max(gradients.bvals.max(), 1.0)
    wide = ndimage.binary_dilation(mask, iterations=REACH)
    field = _field(shift, frame, axis)
    size = int(POINTS * min(1.0, ENOUGH / count))
    points = spread_points(wide, size, frame)
    inside = np.stack(np.nonzero(mask)).astype(float)
    return _Series(
        np.ascontiguousarray(np.moveaxis(signal, 3, 0), np.float32),
        frame,
        axis,
        max(TERMS_OF[eddy] - 1, 0),
        signs,
        directions,
        gradients.bvals,
        signs[:, None] * strength[:, None] * directions * ~gradients.b0[:, None],
        np.zeros(count, int) if series is None else np.asarray(series),
        groups_of(gradients, signs, apart=shift is None),
        wide,
        field,
        Cloud(points, _at(field, points, frame), float(wide.sum() * np.prod(frame.zooms))),
        frame.points(inside[:, :: max(inside.shape[1] // 1000, 1)]),
    )


def _field(shift: NDArray | None, frame: Frame, axis: int) -> NDArray:
    """Susceptibility shift and its derivative along the phase encoding, (2, x, y, z)."""
    if shift is None:
        return np.zeros((2, *frame.shape), np.float32)
    return np.stack([shift, np.gradient(shift, axis=axis) / frame.zooms[axis]]).astype(np.float32)


def _at(field: NDArray, points: NDArray, frame: Frame) -> NDArray:
    """The field (2, x, y, z) at points (3, m) mm."""
    voxels = points / frame.zooms[:, None] + frame.middle[:, None]
    return np.stack(
        [ndimage.map_coordinates(part, voxels, order=1, mode="nearest") for part in field]
    )


def _members(groups: tuple[Group, ...], weighted: bool | None = None) -> NDArray:
    """Volumes of the groups, in order; of one kind if `weighted` says so."""
    parts = [group.volumes for group in groups if weighted in (None, group.weighted)]
    return np.sort(np.concatenate([*parts, np.zeros(0, int)]))


def _levels(frame: Frame) -> tuple[float, float, float]:
    """Smoothing of the three levels, mm: 8, 5, 3 for voxels of 2 mm."""
    voxel = max(float(np.prod(frame.zooms)) ** (1 / 3), 1.5)
    return 4 + 2 * voxel, 1 + 2 * voxel, 1.5 * voxel


def smoothed(volumes: NDArray, fwhm: NDArray | float, zooms: NDArray) -> NDArray:
    """Gaussian smoothing (mm) of volumes (n, x, y, z); the outermost values go on outside."""
    widths = np.broadcast_to(fwhm, 3) / FWHM / zooms
    sizes = volumes.shape[1:]
    along = [
        gaussian_filter1d(np.eye(size, dtype=np.float32), sigma, axis=0, mode="nearest")
        if sigma > 0
        else np.eye(size, dtype=np.float32)
        for size, sigma in zip(sizes, widths, strict=True)
    ]
    result = np.empty(volumes.shape, np.float32)
    for n, volume in enumerate(volumes):
        part = (along[0] @ volume.reshape(sizes[0], -1)).reshape(sizes)
        result[n] = (along[1] @ part) @ along[2].T
    return result


def _run_level(setup: _Series, state: _State, fwhm: float, limit: int, level: int) -> _State:
    """Gauss-Newton steps at one smoothing until the updates are small."""
    volumes = smoothed(setup.volumes, fwhm, setup.frame.zooms)
    sampler = Sampler(volumes, setup.frame, setup.axis, setup.polarity)
    last: tuple[Poses, dict[int, NDArray], float, float] | None = None
    halvings = taken = 0
    judged = setup.weighted if len(setup.weighted) else _members(setup.groups)
    while taken < limit:
        found = _all_equations(setup, state, sampler, fwhm)
        misfit = _misfit(setup, found)
        update = _solved(setup, state.poses, found)
        before, size = state.poses, _size(setup, update)
        # priors may raise the misfit on the way to their place, in steps that shrink
        halved = last is not None and misfit > WORSE * last[2] and size > last[3]
        if halved and last is not None and halvings < HALVINGS:
            halvings += 1
            before, misfit, size = last[0], last[2], last[3] / 2
            update = {number: part / 2 for number, part in last[1].items()}
        else:
            halvings, halved = 0, False
        last = (before, update, misfit, size)
        poses = before
        for number, part in update.items():
            poses = moved(poses, setup.groups[number].volumes, part)
        if level == 0 and taken == 0:
            poses = _started(setup, poses)
        change = rms_change(state.poses, poses, setup.probes, setup.axis)
        mean = float(change[judged].mean())
        step = Step(fwhm, mean, float(change.max()), misfit, halved)
        outliers = _outliers(setup, found) if level > 0 else state.outliers
        taken += 1
        converged = mean < SMALL and not halved
        state = _State(poses, outliers, (*state.steps, step), converged)
        if converged and taken > 1:
            break
    return state


def _size(setup: _Series, update: dict[int, NDArray]) -> float:
    """Root mean square over all volumes and probes of what an update displaces, mm."""
    total, count = 0.0, 0
    for part in update.values():
        terms = part.shape[1] - FIRST_TERM
        turned = np.cross(part[:, None, 3:6], setup.probes.T[None])
        places = part[:, None, :3] + turned
        if terms:
            basis = eddy_basis(setup.probes)[1 : 1 + terms]
            places[..., setup.axis] += part[:, FIRST_TERM:] @ basis
        total += float((places**2).sum())
        count += len(part) * setup.probes.shape[1]
    return float(np.sqrt(total / max(count, 1)))


def _all_equations(
    setup: _Series, state: _State, sampler: Sampler, fwhm: float
) -> dict[int, Equations]:
    """Normal equations of each group of two or more volumes, by the number of the group."""
    return {
        number: equations(
            group,
            sampler,
            state.poses,
            setup.cloud,
            setup.directions,
            fwhm,
            state.outliers,
            setup.terms if group.weighted else 0,
        )
        for number, group in enumerate(setup.groups)
        if len(group.volumes) > 1
    }


def _misfit(setup: _Series, found: dict[int, Equations]) -> float:
    """Mean difference from the prediction by the others, of the weighted volumes if any."""
    kind = any(setup.groups[number].weighted for number in found)
    parts = [part.misfit for n, part in found.items() if setup.groups[n].weighted is kind]
    return float(np.concatenate(parts).mean()) if parts else 0.0


def _outliers(setup: _Series, found: dict[int, Equations]) -> NDArray:
    """Outlier slices of the weighted volumes."""
    flagged = np.zeros((len(setup.runs), setup.frame.shape[2]), bool)
    for number, part in found.items():
        if setup.groups[number].weighted:
            flagged[setup.groups[number].volumes] = outlier_slices(part.loss)
    return flagged


def _solved(setup: _Series, poses: Poses, found: dict[int, Equations]) -> dict[int, NDArray]:
    """Update (m, columns) of each group, to be subtracted."""
    updates = {}
    for number, part in found.items():
        if not setup.groups[number].weighted:
            count = len(setup.groups[number].volumes)
            volumes = setup.groups[number].volumes
            ridge = _ridge(count, 0)
            rhs = part.rhs.copy()
            rhs[RIGID::FIRST_TERM] += (poses.gain[volumes] - 1) / GAIN_SD**2
            update = np.linalg.solve(part.matrix + np.diag(ridge), rhs).reshape(count, -1)
            updates[number] = update - update[0]  # the first b0 is the reference
    return updates | _solved_weighted(setup, poses, found)


def _solved_weighted(
    setup: _Series, poses: Poses, found: dict[int, Equations]
) -> dict[int, NDArray]:
    """Update of the weighted groups, which the law of the eddy currents ties to each other."""
    numbers = [number for number in found if setup.groups[number].weighted]
    if not numbers:
        return {}
    columns = FIRST_TERM + setup.terms
    volumes = np.concatenate([setup.groups[number].volumes for number in numbers])
    sizes = [len(setup.groups[number].volumes) for number in numbers]
    edges = np.cumsum([0, *sizes])
    matrix = np.diag(_ridge(len(volumes), setup.terms))
    rhs = np.concatenate([found[number].rhs for number in numbers])
    for number, start, stop in zip(numbers, edges[:-1], edges[1:], strict=True):
        block = slice(start * columns, stop * columns)
        matrix[block, block] += found[number].matrix
    rhs[RIGID::columns] += (poses.gain[volumes] - 1) / GAIN_SD**2
    weighting = setup.weighting[volumes]
    strayed = np.eye(len(volumes)) - weighting @ np.linalg.pinv(weighting)
    pull = strayed / LAW_SD**2 + np.eye(len(volumes)) / TERM_SD**2
    for term in range(setup.terms):
        rows = np.arange(len(volumes)) * columns + FIRST_TERM + term
        matrix[np.ix_(rows, rows)] += pull
        rhs[rows] += pull @ poses.eddy[volumes, 1 + term]
    update = np.linalg.solve(matrix, rhs).reshape(len(volumes), columns)
    parts = {}
    for number, start, stop in zip(numbers, edges[:-1], edges[1:], strict=True):
        part = update[start:stop].copy()
        # what the data of a shell cannot tell
        part[:, :FIRST_TERM] -= part[:, :FIRST_TERM].mean(axis=0)
        parts[number] = part
    return parts


def _ridge(count: int, terms: int) -> NDArray:
    """Weak pull to no change of `count` volumes, (count * columns,)."""
    one = [RIDGE[0] ** -2.0] * 3 + [RIDGE[1] ** -2.0] * 3
    one += [GAIN_SD**-2.0] + [RIDGE[1] ** -2.0] * terms
    return np.tile(one, count)


def _started(setup: _Series, poses: Poses) -> Poses:
    """The weighted volumes placed between the b0s before and after them."""
    b0 = _members(setup.groups, False)
    return _interpolated(setup, poses, b0, np.setdiff1d(np.arange(len(setup.runs)), b0))


def _interpolated(setup: _Series, poses: Poses, known: NDArray, wanted: NDArray) -> Poses:
    """Motion of the wanted volumes interpolated in time between known ones of their run."""
    parameters = np.hstack([poses.translation, poses.turn])
    for run in np.unique(setup.runs):
        there = known[setup.runs[known] == run]
        here = wanted[setup.runs[wanted] == run]
        if len(there):
            for column in range(RIGID):
                parameters[here, column] = np.interp(here, there, parameters[there, column])
    fresh = still(len(poses))
    fresh = moved(fresh, np.arange(len(poses)), -_padded(parameters))
    rotation, translation = poses.rotation.copy(), poses.translation.copy()
    rotation[wanted] = fresh.rotation[wanted]
    translation[wanted] = fresh.translation[wanted]
    return replace(poses, rotation=rotation, translation=translation)


def _padded(rigid: NDArray) -> NDArray:
    """Rigid parameters (n, 6) as an update that leaves the gain alone."""
    return np.hstack([rigid, np.zeros((len(rigid), 1))])


def _following(setup: _Series, poses: Poses) -> Poses:
    """Volumes in no group take motion from their neighbours in time, eddy currents by the law."""
    late = setup.followers
    if len(late) == 0:
        return poses
    poses = _interpolated(setup, poses, _members(setup.groups), late)
    law = np.linalg.pinv(setup.weighting[setup.weighted]) @ poses.eddy[setup.weighted]
    eddy = poses.eddy.copy()
    eddy[late] = setup.weighting[late] @ law
    return replace(poses, eddy=eddy)


def _linked(setup: _Series, poses: Poses) -> Poses:
    """The weighted groups placed on the b0s, and eddy-current translation told from motion."""
    groups = [group for group in setup.groups if group.weighted]
    if not groups:
        return poses
    labels = np.full(len(setup.runs), -1)
    labels[_members(setup.groups, False)] = 0
    for number, group in enumerate(groups, 1):
        labels[group.volumes] = number
    whole = _joined(setup, poses)
    parameters = np.hstack([whole.translation, whole.turn])
    axis = setup.axis if setup.terms else None
    walk = walk_offset(parameters, labels, setup.weighting, setup.runs, axis)
    for number, group in enumerate(groups):
        turn, shift = _information(setup, whole, group)
        bval = float(setup.bvals[group.volumes].mean())
        place = combined(np.concatenate([shift, turn]), walk, number, bval)
        rotation = moved(still(1), np.array([0]), -_padded(place[None])).rotation[0]
        whole = carried(whole, group.volumes, rotation, place[:3])
    return _split(setup, whole, walk.slope) if setup.terms else whole


def _joined(setup: _Series, poses: Poses) -> Poses:
    """Poses with the constant eddy term as part of the translation."""
    return _split(setup, poses, np.zeros(3)) if setup.terms else poses


def _split(setup: _Series, poses: Poses, slope: NDArray) -> Poses:
    """Poses whose constant eddy term is `slope` times b g / max(b), the translation the rest."""
    constant = setup.weighting @ slope
    stretch = 1 + poses.eddy[:, 1 + setup.axis]
    translation, eddy = poses.translation.copy(), poses.eddy.copy()
    translation[:, setup.axis] += (eddy[:, 0] - constant) / stretch
    eddy[:, 0] = constant
    return replace(poses, translation=translation, eddy=eddy)


def _information(setup: _Series, poses: Poses, group: Group) -> tuple[NDArray, NDArray]:
    """Placement of a group by mutual information with the b0s of its polarity."""
    b0 = next(
        other.volumes
        for other in setup.groups
        if not other.weighted and other.polarity == group.polarity
    )
    box = ndimage.find_objects(setup.mask.astype(int))[0]
    grid = np.indices(setup.mask[box].shape).reshape(3, -1).astype(float)
    points = setup.frame.points(grid + np.array([[part.start] for part in box]))
    field = setup.shift[(slice(None), *box)].reshape(2, -1)
    sampler = Sampler(setup.volumes, setup.frame, setup.axis, setup.polarity)
    shape = setup.mask[box].shape
    means = [
        np.mean(
            [sampler.samples(np.array([v]), poses, points, field, False).values[0] for v in part],
            axis=0,
        ).reshape(shape)
        for part in (b0, group.volumes)
    ]
    home = sampler.samples(b0[:1], still(len(poses)), points, field, False)
    usable = setup.mask[box] & ~home.outside(setup.frame, 2.0)[0].reshape(shape)
    frame = replace(
        setup.frame,
        shape=shape,
        middle=setup.frame.middle - [part.start for part in box],
    )
    return information_shift(means[0], means[1], usable, frame)


def _warnings(setup: _Series, state: _State) -> list[str]:
    """What the report should say."""
    notes = []
    if state.steps and state.steps[-1].update > UNSETTLED:
        notes.append(
            f"The motion estimate had not settled: its last step moved the volumes by "
            f"{state.steps[-1].update:.2f} mm on average."
        )
    weighted = setup.weighted
    if len(weighted):
        tilt = float(np.linalg.norm(setup.weighting[weighted].mean(axis=0)))
        if setup.terms and tilt > HALF_SPHERE:
            notes.append(
                f"The gradient directions cover one half of the sphere (mean length {tilt:.2f}): "
                "part of the eddy currents cannot be told from the signal and rests on a prior."
            )
    if len(setup.followers):
        notes.append(
            f"{len(setup.followers)} volumes of shells with fewer than {FEWEST} directions took "
            "their motion from the volumes before and after them."
        )
    return notes
