"""The susceptibility field from a gradient-echo field map.

A voxel off resonance by f Hz turns its phase by f times the time between two echoes, and shifts in
an echo-planar image by f times the time between two of its lines times their number [1]_.

References
----------
.. [1] Jezzard & Balaban (1995). Magn Reson Med 34:65-73. doi:10.1002/mrm.1910340111
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.restoration import unwrap_phase

from alsflow.nodes.anat.morphology import erode, largest
from alsflow.nodes.distortion.phase_encoding import PhaseEncoding
from alsflow.nodes.distortion.smooth_fields import (
    conjugate_gradients,
    roughness,
    roughness_diagonal,
)
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import apply_affine, voxel_sizes

TURN = 2 * np.pi
# Ranges that phase is stored in: lowest, highest, value of no phase, value of half a turn more.
SCALES = {
    "radians, -pi to pi": (-np.pi, np.pi, 0.0, np.pi),
    "radians, 0 to 2 pi": (0.0, TURN, np.pi, np.pi),
    "milliradians": (-1000 * np.pi, 1000 * np.pi, 0.0, 1000 * np.pi),
    "0 to 4095": (0.0, 4096.0, 2048.0, 2048.0),
    "-2048 to 2047": (-2048.0, 2048.0, 0.0, 2048.0),
    "-4096 to 4095": (-4096.0, 4096.0, 0.0, 4096.0),
}
# Units of ready field maps: how many of them are one Hz.
PER_HZ = {"Hz": 1.0, "rad/s": TURN, "T": 1 / 42.577478518e6}
FILLED = 0.9  # share of a range that the values must fill to be taken for it
LONGEST_ECHO = 0.1  # s; a later echo time is in ms
STRONGEST = 1500.0  # Hz; no susceptibility of a head at 3 T comes near
TISSUE_EDGE = 2.0  # mm at the edge of the head, where phase is noise
LONE = 0.75  # radians from the median around it, where a voxel is not trusted
BEND = 1.0  # mm2 by which the trusted field is smoothed


def phase_to_radians(phase: NDArray, units: str | None = None) -> NDArray:
    """Scale a phase image to radians from -pi to pi.

    Parameters
    ----------
    phase : (x, y, z) array
        As stored by any of the vendors, see `SCALES`.
    units : str, optional
        BIDS ``Units``. With ``rad`` values are taken as they are, and the range need not be full.

    Raises
    ------
    BadInputError
        When the range of values is none that phase is stored in.
    """
    phase = np.asarray(phase, float)
    if not np.isfinite(phase).all():
        raise BadInputError("the phase image holds values that are no numbers; convert it again")
    low, high = float(phase.min()), float(phase.max())
    if units == "rad" and high - low <= TURN * 1.001:
        return np.angle(np.exp(1j * phase))
    for bottom, top, zero, half in SCALES.values():
        slack = 0.002 * (top - bottom)
        inside = bottom - slack <= low and high <= top + slack
        if inside and high - low >= FILLED * (top - bottom):
            return np.angle(np.exp(1j * (phase - zero) / half * np.pi))
    raise BadInputError(
        f"the phase image runs from {low:g} to {high:g}, which is no range that phase is stored "
        f"in ({'; '.join(SCALES)}); give phase as the scanner wrote it, or in radians with "
        '"Units": "rad"'
    )


def head_of_magnitude(magnitude: NDArray, affine: NDArray) -> NDArray:
    """Voxels of a gradient-echo image with enough signal for a phase, bool, in one piece."""
    zooms = voxel_sizes(affine)
    level = np.log1p(np.maximum(ndimage.gaussian_filter(np.asarray(magnitude, float), 0.5), 0))
    if level.max() == level.min():
        raise BadInputError("the magnitude image of the field map is constant; convert it again")
    mask = largest(level > threshold_otsu(level))
    return largest(erode(ndimage.binary_fill_holes(mask), TISSUE_EDGE, zooms))


def field_from_phase(
    difference: NDArray,
    magnitude: NDArray,
    affine: NDArray,
    echo_times: tuple[float, float],
    rng: np.random.Generator,
) -> NDArray:
    """Field map from the phase that grew between two echoes.

    Parameters
    ----------
    difference : (x, y, z) array
        Phase of the later echo minus phase of the earlier, radians, wrapped.
    magnitude : (x, y, z) array
        Magnitude, arbitrary units.
    affine : (4, 4) array
        Voxel to mm of both.
    echo_times : pair of float
        Earlier and later echo time, s.
    rng : Generator
        Settles ties between equally good ways to unwrap.

    Returns
    -------
    (x, y, z) array
        Hz; smooth, and continued smoothly outside the head.
    """
    gap = echo_gap(echo_times)
    head = head_of_magnitude(magnitude, affine)
    phase = unwrapped(difference, head, rng)
    typical = ndimage.median_filter(np.where(head, phase, 0), 3)
    trusted = head & (np.abs(phase - typical) < LONE)
    weight = trusted * np.minimum(magnitude / np.median(magnitude[head]), 1.0) ** 2
    return fill_smoothly(phase, weight, voxel_sizes(affine)) / (TURN * gap)


def field_from_map(
    field: NDArray, magnitude: NDArray, affine: NDArray, units: str = "Hz"
) -> NDArray:
    """Ready field map in Hz, made smooth and continued outside the head of its magnitude image.

    Parameters
    ----------
    field, magnitude : (x, y, z) arrays
        The map and a magnitude image on its grid.
    affine : (4, 4) array
        Voxel to mm.
    units : str
        BIDS ``Units`` of the map, see `PER_HZ`.
    """
    if units not in PER_HZ:
        raise BadInputError(
            f"the field map has Units {units!r}, which is none of {', '.join(PER_HZ)}; correct it"
        )
    field = np.nan_to_num(np.asarray(field, float)) / PER_HZ[units]
    if np.abs(field).max() > STRONGEST or not field.any():
        raise BadInputError(
            f"the field map reaches {np.abs(field).max():g} Hz, and a head reaches more than 0 "
            f'and at most {STRONGEST:g} Hz; check its "Units"'
        )
    head = head_of_magnitude(magnitude, affine) & (field != 0)
    return fill_smoothly(field, head.astype(float), voxel_sizes(affine))


def wrapped_difference(first: NDArray, second: NDArray) -> NDArray:
    """Phase of the second echo minus that of the first, radians, wrapped."""
    return np.angle(np.exp(1j * (np.asarray(second, float) - first)))


def echo_gap(echo_times: tuple[float, float]) -> float:
    """Time between two echoes, s; refused where it cannot be."""
    first, second = echo_times
    if not 0 < first < second < LONGEST_ECHO:
        raise BadInputError(
            f"the echo times of the field map are {first:g} and {second:g} s, and the second "
            f"must be later than the first and below {LONGEST_ECHO:g} s; "
            "correct EchoTime1 and EchoTime2"
        )
    return second - first


def unwrapped(phase: NDArray, mask: NDArray, rng: np.random.Generator) -> NDArray:
    """Phase without jumps inside a mask, radians, its median within half a turn of zero."""
    hidden = np.ma.array(phase, mask=~mask)
    seed = int(rng.integers(2**31))
    smooth = np.asarray(unwrap_phase(hidden, rng=seed).filled(0.0))
    turns = np.round(np.median(smooth[mask]) / TURN)
    return np.where(mask, smooth - turns * TURN, 0.0)


def fill_smoothly(field: NDArray, weight: NDArray, zooms: NDArray) -> NDArray:
    """Field that follows the values where they have weight, and is as smooth as can be elsewhere.

    Parameters
    ----------
    field, weight : (x, y, z) arrays
        Values, and how much each counts, 0 to 1.
    zooms : (3,) array
        Voxel edges, mm.
    """
    if not weight.any():
        raise BadInputError("the field map has no voxel whose phase can be trusted; convert it")
    base = (weight * field).sum() / weight.sum()
    right = weight * (field - base)
    diagonal = weight + BEND * roughness_diagonal(zooms)
    found = conjugate_gradients(
        lambda guess: weight * guess + BEND * roughness(guess, zooms),
        right, diagonal, tolerance=1e-4, most=400,
    )  # fmt: skip
    return found + base


def shift_from_hz(
    field: NDArray,
    field_affine: NDArray,
    encoding: PhaseEncoding,
    shape: tuple[int, ...],
    affine: NDArray,
    placement: NDArray | None = None,
) -> NDArray:
    """Displacement in an echo-planar image that a field map foretells.

    Parameters
    ----------
    field : (x, y, z) array
        Hz.
    field_affine, affine : (4, 4) array
        Voxel to mm, of the field map and of the echo-planar image.
    encoding : PhaseEncoding
        Of the echo-planar image, with its readout time.
    shape : tuple of int
        Of the echo-planar image.
    placement : (4, 4) array, optional
        Where a point of the head in the echo-planar image, mm, lies in the field map.

    Returns
    -------
    (x, y, z) float32 array
        mm along the phase-encoding voxel axis. Beyond the field map its border is continued.

    Notes
    -----
    The readout time lasts from the first line to the last, so it holds one spacing less than there
    are lines; the shift in voxels is f * readout * n / (n - 1).
    """
    places = np.indices(shape[:3], dtype=float)
    pull = np.linalg.inv(field_affine) @ (np.eye(4) if placement is None else placement) @ affine
    values = ndimage.map_coordinates(
        np.asarray(field, float), apply_affine(pull, places), order=1, mode="nearest"
    )
    return (values * mm_per_hz(encoding, shape, affine)).astype(np.float32)


def hz_from_shift(shift: NDArray, encoding: PhaseEncoding, affine: NDArray) -> NDArray:
    """Field, Hz, from the displacement, mm, that it causes in an image of known encoding.

    So the field of a pair serves runs of another resolution, axis or readout time: give the result
    to `shift_from_hz`.
    """
    return shift / mm_per_hz(encoding, shift.shape, affine)


def mm_per_hz(encoding: PhaseEncoding, shape: tuple[int, ...], affine: NDArray) -> float:
    """Displacement along the phase-encoding voxel axis, mm, per Hz off resonance."""
    if encoding.readout is None:
        raise BadInputError(
            "has neither TotalReadoutTime nor EffectiveEchoSpacing in its metadata, so a field "
            "map cannot be turned into mm; write TotalReadoutTime in seconds"
        )
    lines = shape[encoding.axis]
    voxels = encoding.sign * encoding.readout * lines / (lines - 1)
    return float(voxels * voxel_sizes(affine)[encoding.axis])
