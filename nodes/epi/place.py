"""Rigid placement of one image of a head on another of any contrast, both taken in one session."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its usual name
from numpy.typing import NDArray

from alsflow.nodes.geometry import voxel_sizes

BINS = 32
LEVELS = ((8.0, 2), (3.0, 1))  # smoothing (FWHM, mm) and thinning, coarsest first
SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))
FIRST_STEP, LAST_STEP = 1.0, 0.005  # mm
ARM = 60.0  # mm; turns are counted in mm at this distance from the centre
MOST_STEPS = 100


def place(
    fixed: NDArray, fixed_affine: NDArray, mask: NDArray, moving: NDArray, moving_affine: NDArray
) -> NDArray:
    """Find where the points of one image of a head lie in another, by mutual information [1]_.

    Parameters
    ----------
    fixed : (x, y, z) array
        Image whose points are looked up.
    fixed_affine, moving_affine : (4, 4) array
        Voxel to mm; the headers bring the heads within about a centimetre of each other.
    mask : (x, y, z) bool array
        Voxels of `fixed` that count.
    moving : (u, v, w) array
        Image in which they are looked up.

    Returns
    -------
    (4, 4) array
        World mm of `fixed` to world mm of `moving`.

    References
    ----------
    .. [1] Mattes et al. (2003). IEEE Trans Med Imaging 22:120-128. doi:10.1109/TMI.2003.809072
    """
    target = _itk(fixed, fixed_affine)
    centre = fixed_affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + fixed_affine[:3, 3]
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centre.tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # sums over threads would make the result depend on their number
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetMetricFixedMask(_itk(mask.astype(np.uint8), fixed_affine))
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([thinning for _, thinning in LEVELS])
    method.SetSmoothingSigmasPerLevel([fwhm * SIGMA_PER_FWHM for fwhm, _ in LEVELS])
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
    method.SetOptimizerAsRegularStepGradientDescent(FIRST_STEP, LAST_STEP, MOST_STEPS)
    method.SetOptimizerScales([ARM**2] * 3 + [1.0] * 3)
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(target, _itk(moving, moving_affine))
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    matrix[:3, 3] = centre + transform.GetTranslation() - matrix[:3, :3] @ centre
    return matrix


def _itk(volume: NDArray, affine: NDArray) -> sitk.Image:
    """Image whose physical space is the RAS+ world, which ITK need not know."""
    zooms = voxel_sizes(affine)
    kind = np.uint8 if volume.dtype == np.uint8 else np.float32
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.T, dtype=kind))
    image.SetSpacing(zooms.tolist())
    image.SetDirection((affine[:3, :3] / zooms).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image
