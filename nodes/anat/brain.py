"""Where the brain is, roughly, without a trained model, and how it lies to the template.

All work happens on a copy of about 2 mm. Intensity thresholds need an even image, and an even
image needs the brain: mask and bias field are therefore found in turns until the mask settles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.anat.bias import n4_field
from alsflow.nodes.anat.morphology import (
    CROSS,
    close_gaps,
    dilate,
    largest,
    piece_near,
)
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import grid_over, grid_points, resample, voxel_sizes, voxel_volume

VOXEL = 2.0  # mm, of the working copy
BRAIN_HEIGHT = 140.0  # mm from the scalp's top; the brain lies within
CORE_RADIUS = 50.0  # mm about the middle of the head; brain alone
TISSUE_RANGE = (0.45, 1.18)  # of white matter: grey and white matter, less fat
SCALP = 10.0  # mm; skull and scalp are at least so thick over the vault
PLAUSIBLE = 2000.0  # mL; a larger rough mask has leaked through the skull
REACHES = (15.0, 8.0)  # mm beyond the template's brain where the mask may reach, per turn
TURNS = 4  # of mask and bias field, at most
SETTLED = 0.02  # relative change of the mask's volume


@dataclass(frozen=True)
class RoughBrain:
    """Mask of about 2 mm accuracy and the even copy it was found on."""

    mask: NDArray  # (x, y, z) bool, working grid
    even: NDArray  # (x, y, z) float32, working grid, bias removed
    affine: NDArray  # (4, 4) working grid to mm


def find_brain(volume: NDArray, affine: NDArray) -> RoughBrain:
    """Find the brain in a head by thresholds, erosion and growth, in turns with N4.

    Parameters
    ----------
    volume : (x, y, z) array
        T1-weighted intensities, RAS+.
    affine : (4, 4) array
        Voxels to mm.
    """
    zooms = voxel_sizes(affine)
    field = n4_field(volume, zooms, None, shrink=5.0, iterations=(30, 30, 20))
    smooth = ndimage.gaussian_filter(volume / field, 0.4 * VOXEL / zooms * (zooms < VOXEL * 0.9))
    shape, coarse = grid_over(volume.shape, affine, VOXEL)
    even = np.maximum(resample(smooth, affine, shape, coarse), 0).astype(np.float32)
    head = Head.of(even, coarse)
    mask = head.brain(even)
    for _ in range(TURNS):
        even = even / field_inside(even, mask)
        fresh = head.brain(even)
        change = abs(fresh.sum() / mask.sum() - 1)
        mask = fresh
        if change < SETTLED:
            break
    return RoughBrain(mask, even, coarse)


def locate_brain(
    volume: NDArray, affine: NDArray, template: NDArray, template_affine: NDArray
) -> tuple[RoughBrain, NDArray]:
    """Find the brain and its affine place in the template, each cleaned by the other.

    Parameters
    ----------
    volume : (x, y, z) array
        T1-weighted intensities, RAS+.
    affine : (4, 4) array
        Voxels to mm.
    template : (x, y, z) array
        T1-weighted brain without skull (zero outside).
    template_affine : (4, 4) array
        Voxels to mm.

    Returns
    -------
    brain : RoughBrain
        On its own grid of about 2 mm.
    start : (4, 4) array
        World mm of the template to world mm of the head.
    """
    brain = find_brain(volume, affine)
    shape, coarse = grid_over(template.shape, template_affine, VOXEL)
    small = resample(template.astype(np.float32), template_affine, shape, coarse)
    start = np.eye(4)
    for reach in REACHES:
        start = affine_to_template(small, coarse, brain.even * brain.mask, brain.affine)
        possible = on_grid(small > 0, start @ coarse, brain.mask.shape, brain.affine)
        near = dilate(possible, reach, np.full(3, VOXEL))
        # neck muscle and orbits that leaked in lie far from any brain
        brain = RoughBrain(largest(brain.mask & near), brain.even, brain.affine)
    return brain, start


def field_inside(even: NDArray, mask: NDArray) -> NDArray:
    """Bias field from what looks like tissue in and just around the mask."""
    zooms = np.full(3, VOXEL)
    low = 0.25 * np.percentile(even[mask], 50)
    high = 1.6 * np.percentile(even[mask], 95)
    tissue = dilate(mask, 6.0, zooms) & (even > low) & (even < high)
    field = n4_field(even, zooms, tissue, shrink=6.0, iterations=(40, 40, 30))
    return np.clip(field / np.median(field[mask]), 0.3, 3.0)


@dataclass(frozen=True)
class Head:
    """Landmarks of a head on the working grid."""

    inner: NDArray  # deeper than the scalp and the skull
    height: NDArray  # mm, world z of each voxel
    top: float  # mm, world z of the vertex of the scalp
    core: NDArray  # within CORE_RADIUS of the middle

    @classmethod
    def of(cls, even: NDArray, affine: NDArray) -> Head:
        """Find the head as what is brighter than air."""
        air = np.percentile(even, 10)
        bright = even > air + 0.15 * (np.percentile(even, 98) - air)
        head = largest(ndimage.binary_opening(bright, CROSS))
        if head.sum() * voxel_volume(affine) < 1000:
            raise BadInputError(
                "shows no head (less than 1 L is brighter than air); "
                "check that this is a T1-weighted image of a whole head"
            )
        world = grid_points(even.shape, affine)
        top = float(np.percentile(world[2][head], 99.7))
        upper = head & (world[2] > top - BRAIN_HEIGHT)
        middle = np.array([axis[upper].mean() for axis in world])
        core = ((world - middle[:, None, None, None]) ** 2).sum(axis=0) < CORE_RADIUS**2
        whole = close_gaps(head, 10.0, np.full(3, VOXEL))
        inner = ndimage.distance_transform_edt(whole, np.full(3, VOXEL)) > SCALP
        return cls(inner, world[2], top, core)

    def brain(self, even: NDArray) -> NDArray:
        """Mask of the brain by thresholds relative to white matter."""
        white = np.percentile(even[self.core], 90)
        tissue = (even > TISSUE_RANGE[0] * white) & (even < TISSUE_RANGE[1] * white)
        tissue &= self.height > self.top - BRAIN_HEIGHT - 25
        mask = self.eroded_core(tissue)
        # thin gyri between wide sulci are lost by the erosion: grow back into tissue, but only
        # well under the scalp and above the base of the skull
        safe = tissue & self.inner & (even > 0.5 * white) & (self.height > self.top - 120)
        grown = ndimage.binary_dilation(mask, CROSS, iterations=5, mask=safe | mask)
        return close_gaps(grown, 8.0, np.full(3, VOXEL))

    def eroded_core(self, tissue: NDArray) -> NDArray:
        """Tissue connected to the middle of the head after the least erosion that frees it."""
        zooms = np.full(3, VOXEL)
        for steps in (2, 3, 4):
            eroded = ndimage.binary_erosion(tissue, CROSS, iterations=steps)
            core = piece_near(eroded, self.core)
            inner = ndimage.binary_dilation(core, CROSS, iterations=steps)
            brain = (ndimage.binary_dilation(inner, CROSS) & tissue) | inner
            brain = close_gaps(brain, 8.0, zooms)
            if brain.sum() * VOXEL**3 / 1000 < PLAUSIBLE:
                break
        if not core.any():
            raise BadInputError(
                "shows no connected brain tissue in the middle of the head; "
                "check that this is a T1-weighted image of a whole head"
            )
        return brain


def affine_to_template(
    template: NDArray, template_affine: NDArray, brain: NDArray, brain_affine: NDArray
) -> NDArray:
    """Twelve-parameter map from template to head that makes the two brains look alike.

    Gauss-Newton on the squared difference of smoothed images with a free intensity scale:
    first turn, shift and one size, then all twelve.

    Parameters
    ----------
    template, brain : (x, y, z) array
        T1-weighted brains without skull (zero outside).
    template_affine, brain_affine : (4, 4) array
        Voxels to mm.

    Returns
    -------
    (4, 4) array
        World mm of the template to world mm of the head.
    """
    fixed, moving = scaled(template), scaled(brain)
    centre = centre_of(fixed, template_affine)
    start = np.eye(4)
    start[:3, 3] = centre_of(moving, brain_affine) - centre
    zooms = voxel_sizes(template_affine)
    near = ndimage.gaussian_filter((fixed > 0).astype(np.float32), 4 / zooms) > 0.05
    chosen = np.argwhere(near)[::11].T
    for sigma, steps, free in ((10.0, 25, False), (5.0, 25, True), (3.0, 20, True)):
        target = ndimage.gaussian_filter(fixed, sigma / zooms)[tuple(chosen)]
        source = MovingImage(moving, brain_affine, sigma)
        points = template_affine[:3, :3] @ chosen + template_affine[:3, 3:4]
        start = gauss_newton(target, points, centre, source, start, steps, free)
    return start


class MovingImage:
    """A smoothed image with its gradient in the world, sampled at points."""

    def __init__(self, image: NDArray, affine: NDArray, sigma: float) -> None:
        self.to_voxel = np.linalg.inv(affine)
        self.image = ndimage.gaussian_filter(image, sigma / voxel_sizes(affine))
        self.slopes = np.gradient(self.image)

    def at(self, points: NDArray) -> tuple[NDArray, NDArray]:
        """Values (n,) and gradients (3, n), per mm, at points (3, n)."""
        voxels = self.to_voxel[:3, :3] @ points + self.to_voxel[:3, 3:4]
        value = ndimage.map_coordinates(self.image, voxels, order=1)
        slope = [ndimage.map_coordinates(part, voxels, order=1) for part in self.slopes]
        return value, self.to_voxel[:3, :3].T @ np.stack(slope)


ARM = 50.0  # mm; makes the linear parameters comparable to the shifts


def gauss_newton(
    target: NDArray,
    points: NDArray,
    centre: NDArray,
    source: MovingImage,
    start: NDArray,
    steps: int,
    free: bool,
) -> NDArray:
    """Improve `start` until the shift of an update is below .02 mm."""
    arms = (points - centre[:, None]) / ARM
    world = start.copy()
    for _ in range(steps):
        value, slope = source.at(world[:3, :3] @ points + world[:3, 3:4])
        scale = (value @ target) / (value @ value)
        jacobian = scale * np.concatenate([slope, *(slope * arm for arm in arms)])
        if not free:
            jacobian = jacobian_of_similarity(jacobian)
        hessian = jacobian @ jacobian.T
        damped = hessian + 0.02 * np.diag(np.diag(hessian))
        update = np.linalg.solve(damped, jacobian @ (target - scale * value))
        linear = (update[3:].reshape(3, 3).T if free else linear_of_similarity(update[3:])) / ARM
        world[:3, :3] += linear
        world[:3, 3] += update[:3] - linear @ centre
        if np.abs(update).max() < 0.02:
            break
    return world


def jacobian_of_similarity(full: NDArray) -> NDArray:
    """Rows of shift, three turns and size from the twelve rows of the affine."""
    turns = [full[8] - full[10], full[9] - full[5], full[4] - full[6]]
    return np.concatenate([full[:3], [*turns, full[3] + full[7] + full[11]]])


def linear_of_similarity(update: NDArray) -> NDArray:
    """Change of the linear part from three turns and a size."""
    x, y, z, size = update
    return np.array([[size, -z, y], [z, size, -x], [-y, x, size]])


def scaled(image: NDArray) -> NDArray:
    """Intensities relative to the bright end, spikes cut."""
    return np.minimum(image / np.percentile(image[image > 0], 98), 1.3).astype(np.float32)


def centre_of(image: NDArray, affine: NDArray) -> NDArray:
    """World centre, mm, of what is above zero."""
    return affine[:3, :3] @ np.array(ndimage.center_of_mass(image > 0)) + affine[:3, 3]


def on_grid(mask: NDArray, affine: NDArray, shape: tuple[int, ...], target: NDArray) -> NDArray:
    """Bring a mask onto another grid."""
    return resample(mask.astype(np.float32), affine, shape, target) > 0.5
