"""Gibbs ringing, removed by sampling every voxel where the ringing crosses zero."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from alsflow.nodes.errors import BadInputError

STEPS = 20  # shifts tried to either side, up to half a voxel
# differences 1 to 3 voxels from a voxel are summed, on the side where they vary less
FAR = 3  # voxels
BATCH = 1024  # lines worked on at a time
MIN_EDGE = 2 * (FAR + 1)  # voxels of a slice; shorter lines have no neighbourhood


def unring(signal: NDArray, slice_axis: int = 2, mask: NDArray | None = None) -> NDArray:
    """Remove Gibbs ringing along the two axes of the slices [1]_.

    Along each axis every voxel takes its value from the sub-voxel shift at which the surroundings
    vary least; the two results are put together in Fourier space, each where its own axis rings.

    Parameters
    ----------
    signal : (x, y, z, n) array
        Series on its acquired grid: neither interpolated nor cropped.
    slice_axis : int
        Axis across the slices.
    mask : (x, y, z) bool array, optional
        Lines that miss it are left as they are, which saves time.

    Returns
    -------
    (x, y, z, n) float32 array

    References
    ----------
    .. [1] Kellner et al. (2016). Magn Reson Med 76:1574-1581. doi:10.1002/mrm.26054
    """
    plane = [axis for axis in range(3) if axis != slice_axis]
    if min(signal.shape[axis] for axis in plane) < MIN_EDGE:
        raise BadInputError(
            f"has slices of fewer than {MIN_EDGE} voxels along one edge, too few to see ringing; "
            "switch unringing off"
        )
    first, second = shares(signal.shape[plane[0]], signal.shape[plane[1]])
    reached = np.ones(signal.shape[:3], bool) if mask is None else np.asarray(mask, bool)
    clean = np.empty(signal.shape, np.float32)
    for volume in range(signal.shape[3]):
        image = np.moveaxis(signal[..., volume], slice_axis, 0).astype(np.float32)
        inside = np.moveaxis(reached, slice_axis, 0)
        along_first = unring_lines(image.swapaxes(1, 2), np.any(inside, axis=1)).swapaxes(1, 2)
        along_second = unring_lines(image, np.any(inside, axis=2))
        spectrum = fft.rfft2(along_first) * first + fft.rfft2(along_second) * second
        whole = fft.irfft2(spectrum, s=image.shape[1:])
        clean[..., volume] = np.moveaxis(whole, 0, slice_axis)
    return np.maximum(clean, 0, out=clean)


def shares(n_first: int, n_second: int) -> tuple[NDArray, NDArray]:
    """Weights in Fourier space (half of it) of what was corrected along the two axes."""
    # what was corrected along an axis counts where the frequency along the other is low
    along_first = 1 + np.cos(2 * np.pi * fft.rfftfreq(n_second))[None, :]
    along_second = 1 + np.cos(2 * np.pi * fft.fftfreq(n_first))[:, None]
    total = along_first + along_second
    corner = total < 1e-9
    safe = np.where(corner, 1, total)
    first = np.where(corner, 0.5, along_first / safe).astype(np.float32)
    return first, 1 - first


def unring_lines(image: NDArray, chosen: NDArray) -> NDArray:
    """Remove ringing along the last axis of (a, b, n) from the lines chosen (a, b)."""
    result = np.array(image, np.float32)
    lines = result[chosen]
    for start in range(0, len(lines), BATCH):
        some = slice(start, start + BATCH)
        lines[some] = best_shifts(np.ascontiguousarray(lines[some]))
    result[chosen] = lines
    return result


def best_shifts(lines: NDArray) -> NDArray:
    """Value (m, n) at each voxel of the shifted lines around which it varies least."""
    n = lines.shape[1]
    spectrum = fft.rfft(lines, axis=1)
    turn = 2j * np.pi * fft.rfftfreq(n)
    least = np.full(lines.shape, np.inf, np.float32)
    value = np.empty(lines.shape, np.float32)
    _keep_best(lines, np.float32(0), least, value)
    for step in range(1, STEPS + 1):
        for shift in (step / (2 * STEPS), -step / (2 * STEPS)):
            phase = np.exp(shift * turn).astype(np.complex64)
            moved = fft.irfft(spectrum * phase, n=n, axis=1)
            _keep_best(moved, np.float32(shift), least, value)
    return value


@numba.njit
def _keep_best(moved: NDArray, shift: np.float32, least: NDArray, value: NDArray) -> None:
    """Take over the voxels around which this shift varies less than those before it.

    `moved` holds the lines sampled at voxel + shift; values are brought back to the voxel between
    two of its samples.
    """
    lines, n = moved.shape
    pad = FAR + 1
    wide = np.empty(n + 2 * pad, np.float32)
    change = np.empty(n + 2 * pad - 1, np.float32)
    size, side = abs(shift), 1 if shift < 0 else -1
    for line in range(lines):
        wide[pad : n + pad] = moved[line]
        wide[:pad] = moved[line, n - pad :]
        wide[n + pad :] = moved[line, :pad]
        for k in range(n + 2 * pad - 1):
            change[k] = abs(wide[k] - wide[k + 1])
        for k in range(n):
            before = change[k] + change[k + 1] + change[k + 2]
            after = change[k + 5] + change[k + 6] + change[k + 7]
            variation = min(before, after)
            between = wide[k + pad] + size * (wide[k + pad + side] - wide[k + pad])
            better = variation < least[line, k]
            least[line, k] = variation if better else least[line, k]
            value[line, k] = between if better else value[line, k]


def partial_fourier_note(fraction: float | None) -> str:
    """Warning where k-space was not acquired whole; empty where it was or nothing is known."""
    if fraction is None or fraction >= 1:
        return ""
    return (
        f"acquired with partial Fourier {fraction:g}: the ringing along the phase encoding is "
        "wider than one voxel there, and only part of it is removed"
    )
