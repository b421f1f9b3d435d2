"""A T1-weighted image of a person: contrast, texture, receive field, noise."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.geometry import grid_points, voxel_sizes
from alsflow.nodes.simulate.fields import smooth_noise
from alsflow.nodes.simulate.labels import CLASSES, FineLabels, tissue_table, voxel_means

# Mean of each class, white matter being 1, as a magnetisation-prepared gradient echo at 3 T has
# them, and standard deviation of the texture within the class.
CONTRAST: dict[str, tuple[float, float]] = {
    "air": (0.0, 0.0),
    "skin": (0.62, 0.05),
    "fat": (1.18, 0.07),
    "bone": (0.10, 0.02),
    "marrow": (0.78, 0.10),
    "muscle": (0.52, 0.05),
    "eye": (0.20, 0.01),
    "csf": (0.24, 0.02),
    "ventricle": (0.22, 0.01),
    "cortex": (0.70, 0.02),
    "striatum": (0.76, 0.015),
    "thalamus": (0.84, 0.015),
    "pallidum": (0.90, 0.015),
    "white": (1.0, 0.02),
    "brainstem": (0.95, 0.02),
    "cord": (0.93, 0.02),
    "spinal_csf": (0.24, 0.02),
}
TEXTURE_SIGMA = 1.2  # mm
COIL_SCALE = 55.0  # mm, smoothing of the receive field's logarithm
BIAS_SPACING = 8.0  # mm, grid on which that field is drawn


@dataclass(frozen=True)
class Scanner:
    """How one scanner renders a head.

    Attributes
    ----------
    gain : float
        Signal of white matter where the receive field is 1, in the units of the image.
    noise : float
        Standard deviation of the noise in each channel, share of the gain.
    non_uniformity : float
        Span of the receive field over the brain (1st to 99th percentile), 0.2 for 20 %.
    grey : float
        Factor on the difference between white matter and everything darker inside the skull;
        above 1 the contrast is stronger.
    contrast : dict
        Mean and texture by class, white matter being 1.
    """

    gain: float = 1000.0
    noise: float = 0.03
    non_uniformity: float = 0.2
    grey: float = 1.0
    contrast: dict[str, tuple[float, float]] = field(default_factory=lambda: dict(CONTRAST))


@dataclass(frozen=True)
class HeadImage:
    """A simulated image with its truth, all on the same grid.

    Attributes
    ----------
    image : (x, y, z) float32 array
        Magnitude image.
    affine : (4, 4) array
        Voxel to mm.
    fractions : (x, y, z, 3) float32 array
        Share of each voxel that is grey matter, white matter, CSF.
    brain : (x, y, z) bool array
        Voxels of which at least half lies inside the skull.
    bias : (x, y, z) float32 array
        Receive field, mean 1 over the brain.
    """

    image: NDArray
    affine: NDArray
    fractions: NDArray
    brain: NDArray
    bias: NDArray


def receive_field(
    rng: np.random.Generator, brain: NDArray, affine: NDArray, non_uniformity: float
) -> NDArray:
    """Smooth positive field whose span over the brain is as asked.

    Parameters
    ----------
    rng : Generator
        Source of randomness.
    brain : (x, y, z) bool array
        Where the span is taken and the mean is 1.
    affine : (4, 4) array
        Voxel to mm.
    non_uniformity : float
        99th less 1st percentile over the brain, relative to the mean.
    """
    shape = brain.shape
    sizes = voxel_sizes(affine)
    coarse = tuple(
        int(np.ceil(n * s / BIAS_SPACING)) + 2 for n, s in zip(shape, sizes, strict=True)
    )
    log_field = smooth_noise(rng, coarse, COIL_SCALE / BIAS_SPACING)
    step = sizes / BIAS_SPACING
    log_field = ndimage.affine_transform(log_field, step, output_shape=shape, order=3)
    inside = log_field[brain]
    low, high = np.percentile(inside, [1, 99])
    log_field = (log_field - inside.mean()) / (high - low)
    bias = np.exp(_exponent_for_span(log_field[brain], non_uniformity) * log_field)
    return (bias / bias[brain].mean()).astype(np.float32)


def _exponent_for_span(log_field: NDArray, span: float) -> float:
    """Factor on a log field of unit span that gives its exponential the relative span asked."""
    factor = span
    for _ in range(6):  # the exponential bends the span; a few fixed-point steps are exact
        values = np.exp(factor * log_field)
        low, high = np.percentile(values, [1, 99])
        factor *= span / ((high - low) / values.mean()) if span else 0.0
    return factor


def rician(signal: NDArray, sigma: float, rng: np.random.Generator) -> NDArray:
    """Magnitude of a real signal with Gaussian noise of `sigma` in both channels."""
    real = signal + sigma * rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(signal.shape, dtype=np.float32)
    return np.hypot(real, imaginary)


def signal_table(scanner: Scanner) -> NDArray:
    """Mean and texture of each class for one scanner, (17, 2), white matter being 1."""
    table = np.array([scanner.contrast[name] for name in CLASSES], np.float32)
    inside = [CLASSES.index(n) for n in CLASSES[CLASSES.index("csf") : CLASSES.index("white")]]
    table[inside, 0] = np.maximum(1 - scanner.grey * (1 - table[inside, 0]), 0.05)
    return table


def scan(
    labels: FineLabels, affine: NDArray, scanner: Scanner, rng: np.random.Generator
) -> HeadImage:
    """Image of fine labels on the grid they subdivide.

    Parameters
    ----------
    labels : FineLabels
        The person on a subdivision of the grid.
    affine : (4, 4) array
        Voxel to mm of the grid.
    scanner : Scanner
        Contrast, receive field, noise and gain.
    rng : Generator
        Source of texture, receive field and noise.
    """
    table = np.concatenate([signal_table(scanner), tissue_table()], axis=1)
    means = voxel_means(labels, table)
    fractions = means[..., 2:]
    brain = fractions.sum(-1) >= 0.5
    texture = smooth_noise(rng, brain.shape, TEXTURE_SIGMA / voxel_sizes(affine))
    bias = receive_field(rng, brain, affine, scanner.non_uniformity)
    signal = (means[..., 0] + means[..., 1] * texture) * bias
    image = scanner.gain * rician(signal, scanner.noise, rng)
    return HeadImage(image, np.asarray(affine, float), fractions, brain, bias)


def head_grid(
    surface: NDArray, lattice_affine: NDArray, template_to_world: NDArray, voxel: NDArray | float
) -> tuple[tuple[int, int, int], NDArray]:
    """Upright grid around a head: RAS, `voxel` mm, from the crown to below the cerebellum.

    Parameters
    ----------
    surface : (a, b, c) array
        Signed distance to the skin on the lattice, mm, negative inside.
    lattice_affine, template_to_world : (4, 4) array
        Lattice voxel to template mm, and template mm to the person's world.
    voxel : (3,) array or float
        Edges of a voxel, mm.
    """
    points = grid_points(surface.shape, template_to_world @ lattice_affine)
    inside = points[:, surface < 4.0]  # mm of air around the head
    low, high = inside.min(1), inside.max(1)
    edges = np.broadcast_to(np.asarray(voxel, float), 3)
    count = np.ceil((high - low) / edges).astype(int)
    affine = np.diag([*edges, 1.0])
    affine[:3, 3] = np.round(low)
    return (int(count[0]), int(count[1]), int(count[2])), affine
