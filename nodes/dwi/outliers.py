"""Slices that lost signal because the head moved while diffusion was encoded.

They are judged, and replaced, where they were measured: every voxel of a slice is compared with
what the other volumes of the shell predict at its place in the head. So no neighbouring slice and
no smoothing spreads the loss.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.distortion.phase_encoding import PhaseEncoding
from alsflow.nodes.dwi.estimate import MotionEstimate
from alsflow.nodes.dwi.gradients import Gradients
from alsflow.nodes.dwi.groups import Group, groups_of
from alsflow.nodes.dwi.signal_model import DirectionModel, direction_model
from alsflow.nodes.dwi.slice_loss import outlier_slices, slice_loss
from alsflow.nodes.epi.interpolate import Sampler
from alsflow.nodes.epi.pose import Poses, eddy_basis, eddy_stretch, frame_of, poses_of

SLICE_POINTS = 300  # of the brain at which a slice is judged
MODEL_POINTS = 20_000  # from which the covariance of the unsmoothed signal is taken
INVERSIONS = 6  # steps that undo the eddy currents


def judged_slices(
    sampler: Sampler,
    groups: tuple[Group, ...],
    poses: Poses,
    directions: NDArray,
    mask: NDArray,
    suspected: NDArray,
) -> tuple[NDArray, NDArray]:
    """Loss of signal (n, z) of every slice, and which slices are outliers (n, z) bool.

    Parameters
    ----------
    sampler : Sampler
        The raw series.
    groups : tuple of Group
        Volumes that predict each other; those without weighting are not judged.
    directions : (n, 3) array
        Gradient directions, image axes.
    mask : (x, y, z) bool array
        Brain.
    suspected : (n, z) bool array
        Slices that do not take part in predictions.
    """
    slices = sampler.frame.shape[2]
    loss = np.full(suspected.shape, np.nan)
    outliers = np.zeros(suspected.shape, bool)
    voxels = _slice_points(mask)
    for group in groups:
        if not group.weighted:
            continue
        model = _raw_model(sampler, group, poses, directions, mask)
        for row, volume in enumerate(group.volumes):
            known = suspected.copy()
            known[volume] = False
            values, predicted, inside = _predicted(
                sampler, group, row, poses, model, voxels, known
            )
            place = voxels[2].astype(int)[None]
            loss[volume] = slice_loss(values[None], predicted[None], place, inside[None], slices)[
                0
            ]
        outliers[group.volumes] = outlier_slices(loss[group.volumes])
    return loss, outliers


def replace_outliers(
    signal: NDArray,
    affine: NDArray,
    gradients: Gradients,
    phase_encoding: PhaseEncoding | None,
    mask: NDArray,
    estimate: MotionEstimate,
    polarity: NDArray | None = None,
) -> NDArray:
    """The raw series (x, y, z, n) with its outlier slices predicted from the other volumes.

    Parameters are those of `estimate_motion`, which found `estimate`.
    """
    if not estimate.outliers.any():
        return signal
    frame = frame_of(signal.shape, affine)
    signs = np.ones(len(gradients)) if polarity is None else np.asarray(polarity, float)
    volumes = np.ascontiguousarray(np.moveaxis(signal, 3, 0), np.float32)
    axis = phase_encoding.axis if phase_encoding else 1
    sampler = Sampler(volumes, frame, axis, signs)
    poses = replace(
        poses_of(estimate.head_to_volume, estimate.eddy, frame), gain=1 / estimate.gain
    )
    directions = frame.directions(gradients.directions)
    mended = signal.astype(np.float32, copy=True)
    for group in groups_of(gradients, signs, apart=True):
        lost = np.argwhere(estimate.outliers[group.volumes])
        if not group.weighted or len(lost) == 0:
            continue
        model = _raw_model(sampler, group, poses, directions, mask)
        for row, z in lost:
            volume = group.volumes[row]
            voxels = np.indices((*frame.shape[:2], 1)).reshape(3, -1).astype(float)
            voxels[2] = z
            _, predicted, _ = _predicted(
                sampler, group, row, poses, model, voxels, estimate.outliers
            )
            scanner = _undistorted(poses, volume, frame.points(voxels), axis)
            stretch = 1 + poses.eddy[volume] @ eddy_stretch(scanner, axis)
            fresh = predicted / stretch / poses.gain[volume]
            mended[:, :, z, volume] = np.maximum(fresh, 0).reshape(frame.shape[:2])
    return mended


def _slice_points(mask: NDArray) -> NDArray:
    """Voxels (3, m) of the brain, at most `SLICE_POINTS` spread over each slice."""
    parts = []
    for z in range(mask.shape[2]):
        x, y = np.nonzero(mask[:, :, z])
        step = max(len(x) // SLICE_POINTS, 1)
        parts.append(np.stack([x[::step], y[::step], np.full(len(x[::step]), z)]))
    return np.concatenate(parts, axis=1).astype(float)


def _raw_model(
    sampler: Sampler, group: Group, poses: Poses, directions: NDArray, mask: NDArray
) -> DirectionModel:
    """Covariance of the volumes of a group as they are, without smoothing."""
    voxels = np.stack(np.nonzero(mask)).astype(float)
    points = sampler.frame.points(voxels[:, :: max(voxels.shape[1] // MODEL_POINTS, 1)])
    field = np.zeros((2, points.shape[1]))
    found = sampler.samples(group.volumes, poses, points, field, slopes=False)
    turned = np.einsum("nij,ni->nj", poses.rotation, directions)
    return direction_model(found.values, turned[group.volumes])


def _undistorted(poses: Poses, volume: int, points: NDArray, axis: int) -> NDArray:
    """Places (3, m) in the scanner whose signal the eddy currents moved to `points`, mm."""
    scanner = points.copy()
    for _ in range(INVERSIONS):
        scanner[axis] = points[axis] - poses.eddy[volume] @ eddy_basis(scanner)
    return scanner


def _predicted(
    sampler: Sampler,
    group: Group,
    row: int,
    poses: Poses,
    model: DirectionModel,
    voxels: NDArray,
    outliers: NDArray,
) -> tuple[NDArray, NDArray, NDArray]:
    """Signal at voxels (3, m) of one volume, its prediction, and where that is inside."""
    volume = group.volumes[row]
    scanner = _undistorted(poses, volume, sampler.frame.points(voxels), sampler.axis)
    head = poses.rotation[volume].T @ (scanner - poses.translation[volume][:, None])
    field = np.zeros((2, head.shape[1]))
    found = sampler.samples(group.volumes, poses, head, field, slopes=False)
    beyond = found.outside(sampler.frame, -0.5)
    slices = found.slices(sampler.frame)
    gaps = beyond | np.take_along_axis(outliers[group.volumes], slices, axis=1)
    filled = model.usual.filled(found.values, gaps)
    predicted = np.empty(head.shape[1], np.float32)
    for part, here in model.at(filled).parts():
        values = part.filled(found.values[:, here], gaps[:, here])
        predicted[here] = values[row] - part.misfit(values)[row]
    beyond[row] = False
    return found.values[row], predicted, np.logical_not(beyond.any(axis=0))
