"""Normal equations of the joint alignment of all volumes of a shell.

Moving one volume changes what it contributes to the prediction of all others, so volumes that are
aligned one after the other follow each other's errors. Here all are moved at once, and the signal
of each voxel, the same mixture of the other volumes everywhere, is eliminated exactly (variable
projection): with P the precision of the signal model, J the derivatives of the predicted images by
the parameters and Y the aligned volumes,

    A[(v, a), (w, b)] = P[v, w] sum over points of J[v, a] J[w, b]
    b[(v, a)] = sum over points of J[v, a] (P Y)[v]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.dwi.groups import Group
from alsflow.nodes.dwi.signal_model import MixedModel, SignalModel, constant_model, direction_model
from alsflow.nodes.dwi.slice_loss import slice_loss
from alsflow.nodes.epi.interpolate import Sampler
from alsflow.nodes.epi.pose import Poses, eddy_basis, eddy_stretch

RIGID = 6  # columns: translation, rotation,
FIRST_TERM = 7  # gain, eddy terms
# Residuals hang together over much more than the width of the smoothing: what a point tells is
# worth this share of an independent sample. Chosen on phantoms and real scans.
INFORMATION = 0.05
MARGIN = 1 / 3  # of the smoothing's width: points nearer to the edge of the field of view are out
LAW_SD = 5e-4  # scatter of an eddy term about its law, linear in b g
TERM_SD = 0.02  # size of an eddy term
GAIN_SD = 0.02  # of the intensity of a volume
RIDGE = (16.0, 0.3)  # mm, radians; keeps what the data do not say where it is


@dataclass(frozen=True)
class Equations:
    """Normal equations of one group; see the module.

    Attributes
    ----------
    matrix : (m*f, m*f) array
    rhs : (m*f,) array
    misfit : (m,) array
        Root-mean-square difference of each volume from its prediction by the others, signal.
    loss : (m, z) array
        Share of signal that each slice of each volume lacks; NaN where too few points lie.
    """

    matrix: NDArray
    rhs: NDArray
    misfit: NDArray
    loss: NDArray


@dataclass(frozen=True)
class Cloud:
    """Points of the reference head at which the volumes are compared.

    Attributes
    ----------
    points : (3, m) array
        Image axes, mm.
    field : (2, m) array
        Susceptibility shift there, mm, and its derivative along the phase encoding.
    volume : float
        Of the region the points stand for, mm³.
    """

    points: NDArray
    field: NDArray
    volume: float


def equations(
    group: Group,
    sampler: Sampler,
    poses: Poses,
    cloud: Cloud,
    directions: NDArray,
    fwhm: float,
    outliers: NDArray,
    terms: int,
) -> Equations:
    """Normal equations of a group at the present poses.

    Parameters
    ----------
    sampler : Sampler
        Series smoothed to `fwhm` mm.
    directions : (n, 3) array
        Gradient directions in image axes.
    outliers : (n, z) bool array
        Slices that count for nothing.
    terms : int
        Eddy terms to be estimated, from `x` on; 0 for volumes without weighting.
    """
    chosen = group.volumes
    found = sampler.samples(chosen, poses, cloud.points, cloud.field)
    slices = found.slices(sampler.frame)
    beyond = found.outside(sampler.frame, max(1.0, fwhm * MARGIN / sampler.frame.zooms.max()))
    gaps = beyond | np.take_along_axis(outliers[chosen], slices, axis=1)
    model = fitted(group, found.values, poses, directions)
    worth = INFORMATION * cloud.volume / fwhm**3 / cloud.points.shape[1]
    columns = len(chosen) * (FIRST_TERM + terms)
    matrix, rhs = np.zeros((columns, columns)), np.zeros(columns)
    misfit = np.empty_like(found.values)
    predicted = np.empty_like(found.values)
    for part, here in model.parts():
        values = part.filled(found.values[:, here], gaps[:, here])
        slopes = part.filled(found.slopes[:, :, here], gaps[:, here])
        misfit[:, here] = part.misfit(values)
        predicted[:, here] = values - misfit[:, here]
        jacobian = _jacobian(
            part.smoothed(values),
            part.smoothed(slopes),
            gaps[:, here],
            chosen,
            sampler,
            poses,
            cloud.points[:, here],
            terms,
        )
        _add(matrix, rhs, part, jacobian, misfit[:, here], worth)
    loss = slice_loss(found.values, predicted, slices, ~beyond, outliers.shape[1])
    return Equations(matrix, rhs, misfit.std(axis=1), loss)


def _add(
    matrix: NDArray,
    rhs: NDArray,
    model: SignalModel,
    jacobian: NDArray,
    misfit: NDArray,
    worth: float,
) -> None:
    """Add what the points of one model say to the normal equations, in place."""
    count, columns = jacobian.shape[:2]
    flat = jacobian.reshape(count * columns, -1)
    product = (flat @ flat.T).astype(float).reshape(count, columns, count, columns)
    product *= model.precision[:, None, :, None] * worth
    matrix += product.reshape(matrix.shape)
    residual = misfit * model.leverage[:, None].astype(np.float32)
    rhs += (jacobian @ residual[:, :, None]).astype(float).ravel() * worth


def fitted(group: Group, values: NDArray, poses: Poses, directions: NDArray) -> MixedModel:
    """Signal model of a group from its aligned volumes."""
    if not group.weighted:
        return constant_model(values)
    turned = np.einsum("nij,ni->nj", poses.rotation, directions)
    return direction_model(values, turned[group.volumes]).at(values)


def _jacobian(
    values: NDArray,
    slopes: NDArray,
    gaps: NDArray,
    chosen: NDArray,
    sampler: Sampler,
    poses: Poses,
    points: NDArray,
    terms: int,
) -> NDArray:
    """Derivatives of the predicted images by their parameters, (m, 7 + terms, points) float32.

    An eddy term moves signal and, as it stretches the image, changes its intensity.
    """
    jacobian = np.empty((len(chosen), FIRST_TERM + terms, slopes.shape[2]), np.float32)
    points = points.astype(np.float32)
    for row, volume in enumerate(chosen):
        rotation = poses.rotation[volume].astype(np.float32)
        slope = rotation @ (slopes[row] * ~gaps[row])
        turned = rotation @ points
        jacobian[row, :3] = slope
        jacobian[row, 3] = turned[1] * slope[2] - turned[2] * slope[1]
        jacobian[row, 4] = turned[2] * slope[0] - turned[0] * slope[2]
        jacobian[row, 5] = turned[0] * slope[1] - turned[1] * slope[0]
        jacobian[row, RIGID] = values[row] * ~gaps[row]
        if terms:
            placed = turned + poses.translation[volume].astype(np.float32)[:, None]
            moves = eddy_basis(placed)[1 : 1 + terms] * slope[sampler.axis]
            swells = eddy_stretch(placed, sampler.axis)[1 : 1 + terms] * jacobian[row, RIGID]
            jacobian[row, FIRST_TERM:] = moves + swells
    return jacobian
