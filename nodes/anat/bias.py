"""Slow non-uniformity of intensity, by N4."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its usual name
from numpy.typing import NDArray

from alsflow.nodes.anat.morphology import erode

OTSU_BINS = 128
FIELD_LIMITS = (0.2, 5.0)  # a field outside these is no receive field


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let ITK use one thread: the sums of N4's inner filters depend on their number.

    Those filters follow the global default, not the number that N4 itself was given.
    """
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def n4_field(
    volume: NDArray,
    zooms: NDArray,
    mask: NDArray | None,
    shrink: float = 4.0,
    iterations: tuple[int, ...] = (50, 50, 50, 50),
) -> NDArray:
    """Multiplicative field of N4 [1]_, fitted on a coarse copy and evaluated everywhere.

    Parameters
    ----------
    volume : (x, y, z) array
        Intensities, not negative.
    zooms : (3,) array
        Voxel size, mm.
    mask : (x, y, z) bool array or None
        Voxels that drive the fit; None takes what Otsu's threshold finds bright.
    shrink : float
        Voxel size of the coarse copy, mm.
    iterations : tuple of int
        At most so many per level; each level halves the distance of the spline's knots.

    Returns
    -------
    (x, y, z) float32 array
        Field with a median of 1 in the mask; divide the volume by it.

    References
    ----------
    .. [1] Tustison et al. (2010). IEEE Trans Med Imaging 29:1310-1320.
       doi:10.1109/TMI.2010.2046908
    """
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.T, dtype=np.float32))
    image.SetSpacing([float(zoom) for zoom in zooms])
    steps = [max(1, int(round(shrink / zoom))) for zoom in zooms]
    coarse = sitk.Shrink(image, steps)
    if mask is None:
        inside = sitk.OtsuThreshold(coarse, 0, 1, OTSU_BINS)
    else:
        whole = sitk.GetImageFromArray(np.ascontiguousarray(mask.T, dtype=np.uint8))
        whole.CopyInformation(image)
        inside = sitk.Shrink(whole, steps)
    fit = sitk.N4BiasFieldCorrectionImageFilter()
    fit.SetMaximumNumberOfIterations(list(iterations))
    with _one_thread():
        fit.Execute(coarse, inside)
        log_field = sitk.GetArrayFromImage(fit.GetLogBiasFieldAsImage(image)).T
    field = np.exp(log_field - np.median(log_field if mask is None else log_field[mask]))
    return np.clip(field, *FIELD_LIMITS).astype(np.float32)


def brain_field(volume: NDArray, zooms: NDArray, rough: NDArray) -> NDArray:
    """Field of N4 in a rough brain mask whose outermost millimetre is left out."""
    return n4_field(volume, zooms, erode(rough, 1.0, zooms))


def divided(volume: NDArray, field: NDArray) -> NDArray:
    """Volume without a multiplicative field, float32."""
    return (volume / field).astype(np.float32)
