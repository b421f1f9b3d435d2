"""Diffusion series of an analytic head whose tensors, motion and eddy currents are known.

    phantom = diffusion_phantom(np.random.default_rng(1), still_scheme(20), motion=1.0, eddy=7e-3)

Every volume is computed at the places where the moved head lies in it, so the truth holds no
interpolation. The head has folded grey matter, ventricles, grey nuclei and crossing bundles; its
axes are unequal and the grid is oblique.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from alsflow.nodes.distortion.phase_encoding import PhaseEncoding
from alsflow.nodes.dwi.gradients import Gradients
from alsflow.nodes.epi.pose import (
    EDDY_TERMS,
    Poses,
    eddy_basis,
    eddy_stretch,
    frame_of,
    world_matrices,
)

RADII = np.array([66.0, 82.0, 60.0])  # mm, of the skull's inner face
WHITE_S0 = 1000.0
TISSUES = {"csf": (2300.0, 3.0e-3), "grey": (1300.0, 0.8e-3)}  # S0, diffusivity mm2/s
WHITE = (1.5e-3, 0.35e-3)  # mm2/s, along and across a bundle


@dataclass(frozen=True)
class Phantom:
    """A simulated series and its truth.

    Attributes
    ----------
    signal : (x, y, z, n) float32 array
    affine : (4, 4) array
    gradients : Gradients
        As set on the scanner, in the world.
    phase_encoding : PhaseEncoding
    mask : (x, y, z) bool array
        Inside of the skull on the grid of the reference.
    head_to_volume : (n, 4, 4) array
        World mm; the identity for the first volume.
    eddy : (n, 9) array
        Coefficients of `EDDY_TERMS`.
    dropouts : (n, z) bool array
        Slices whose signal was lost.
    """

    signal: np.ndarray
    affine: np.ndarray
    gradients: Gradients
    phase_encoding: PhaseEncoding
    mask: np.ndarray
    poses: Poses
    dropouts: np.ndarray

    @property
    def head_to_volume(self):
        return world_matrices(self.poses, frame_of(self.signal.shape, self.affine))


def oblique_affine(shape, voxel=(2.0, 2.0, 2.0), angles=(4.0, -7.0, 5.0)):
    """Voxel to world mm of a tilted grid whose middle is near the origin."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * voxel
    affine[:3, 3] = (3.0, -5.0, 4.0) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def scheme(directions=32, bvals=(1000.0,), b0_every=8, half=False, rng=None):
    """b-values and directions with interleaved b0s; `half` keeps all on one side."""
    weights, vectors = [], []
    for bval in bvals:
        number = np.arange(directions) + 0.5
        height = 1 - number / directions
        angle = np.pi * (1 + 5**0.5) * number + bval
        side = np.sqrt(1 - height**2)
        part = np.stack([height, side * np.cos(angle), side * np.sin(angle)], axis=1)
        if not half:
            part *= np.where(np.arange(directions) % 2, -1.0, 1.0)[:, None]
        weights += [bval] * directions
        vectors.append(part)
    order = (rng or np.random.default_rng(5)).permutation(len(weights))
    weights, vectors = np.array(weights)[order], np.concatenate(vectors)[order]
    places = np.arange(0, len(weights), b0_every)
    weights = np.insert(weights, places, 0.0)
    return Gradients(weights, np.insert(vectors, places, 0.0, axis=0))


def head_signal(points, bval, direction, soft=0.8):
    """Signal of the head at points (3, m), mm, for one weighting; edges of `soft` mm."""
    inside = np.abs(points) <= RADII[:, None] * 1.15
    kept = np.flatnonzero(inside.all(axis=0))
    signal = np.zeros(points.shape[1], np.float32)
    x, y, z = points[:, kept].astype(np.float32)

    def step(level):
        return 1 / (1 + np.exp(np.clip(-level / soft, -30, 30)))

    radius = np.sqrt((x / RADII[0]) ** 2 + (y / RADII[1]) ** 2 + (z / RADII[2]) ** 2)
    depth = (1 - radius) * 66  # mm under the skull
    fold = 2.5 * np.sin(x / 4.1 + y / 11) * np.sin(y / 4.7 - z / 9) + 2 * np.sin(z / 3.9 + x / 7)
    fissure = 8 * np.exp(-((x / 2.5) ** 2)) * step((z - 15 + np.abs(y) / 8) / 3)
    pial = depth - 5 + 1.2 * fold - fissure
    head, brain, white = step(depth), step(pial), step(pial - 4.5 + 0.5 * fold)
    for side in (-1, 1):
        lateral = ((x - side * 9 - y * side * 0.1) / 6) ** 2 + (y / 28) ** 2
        ventricle = step((1 - np.sqrt(lateral + ((z - 8 - y * 0.1) / 7) ** 2)) * 6)
        brain, white = brain * (1 - ventricle), white * (1 - ventricle)
        nucleus = ((x - side * 20) / 7) ** 2 + ((y - 3) / 16) ** 2 + ((z + 3) / 9) ** 2
        white = white * (1 - step((1 - np.sqrt(nucleus)) * 8))
    white = np.minimum(white, brain)
    parts = {"csf": head - head * brain, "grey": head * (brain - white)}
    for name, (intensity, diffusivity) in TISSUES.items():
        signal[kept] += parts[name] * intensity * np.exp(-bval * diffusivity)
    signal[kept] += WHITE_S0 * head * white * _bundles(x, y, z, radius, bval, direction)
    return signal


def _bundles(x, y, z, radius, bval, direction):
    """Attenuation of white matter: bundles of fixed course, each with its share of the voxel."""
    wander = (np.sin(y / 11 + z / 23), np.sin(z / 13 - x / 19 + 1), np.sin(x / 12 + y / 27 + 2))
    upward = np.exp(-(((np.abs(x) - 24 - 0.15 * z) / 9) ** 2) - ((y + 8 - 0.1 * z) / 16) ** 2)
    across = 1.5 * np.exp(-(((z - 18 + 0.012 * x**2) / 8) ** 2) - (y / 38) ** 4)
    along = np.exp(-(((np.abs(x) - 36) / 8) ** 2) - ((z - 12) / 12) ** 2)
    courses = [
        (upward, (0.15 * np.sign(x), 0.1 + 0 * x, 1 + 0 * x)),
        (across, (1 + 0 * x, 0 * x, -0.024 * x)),
        (along, (0.1 * np.sign(x), 1 + 0 * x, 0.2 + 0 * x)),
        (0.2 + 0.3 * radius, wander),
    ]
    total = sum(share for share, _ in courses)
    signal = np.zeros_like(x)
    for share, (u, v, w) in courses:
        cosine = u * direction[0] + v * direction[1] + w * direction[2]
        squared = cosine**2 / np.maximum(u**2 + v**2 + w**2, 1e-6)
        signal += share / total * np.exp(-bval * (WHITE[1] + (WHITE[0] - WHITE[1]) * squared))
    return signal


def draw_motion(rng, count, size, jumps=0):
    """Smooth wander plus jitter, (n, 6) mm and radians; zero in the first volume."""
    walk = np.cumsum(rng.normal(size=(count, 6)), axis=0)
    walk /= max(walk.std(), 1e-6)
    drawn = (walk * 0.6 + rng.normal(size=(count, 6)) * 0.15) * size
    for _ in range(jumps):
        drawn[rng.integers(count // 4, count) :] += rng.normal(size=6) * size
    drawn -= drawn[0]
    drawn[:, 3:] = np.deg2rad(drawn[:, 3:] * 0.9)
    return drawn


def draw_eddy(rng, gradients, size, quadratic=0.0, scatter=3e-4, shift=0.8):
    """Eddy-current terms (n, 9) linear in b g, with a little scatter; `shift` mm of shift."""
    bent = gradients.bvals[:, None] / max(gradients.bvals.max(), 1.0) * gradients.directions
    sizes = np.array([shift * (size > 0)] + [size] * 3 + [quadratic] * 5)
    terms = bent @ (rng.choice([-1, 1], (3, 9)) * rng.uniform(0.7, 1.2, (3, 9)) * sizes)
    noise = rng.normal(size=terms.shape) * scatter * (np.abs(terms) > 0)
    noise[:, 0] = 0
    return terms + noise


def diffusion_phantom(
    rng,
    gradients,
    shape=(56, 60, 34),
    voxel=(4.0, 4.0, 4.0),
    motion=1.0,
    jumps=0,
    eddy=7e-3,
    quadratic=0.0,
    snr=25.0,
    dropouts=0,
    phase_encoding=PhaseEncoding(1, -1, 0.05),  # noqa: B008
    parameters=None,
    field=0.0,
    polarity=None,
):
    """Simulate a series.

    `motion` is about the mean displacement, mm; `eddy` and `quadratic` the size of the terms;
    `snr` that of white matter at b=0 (None: no noise); `dropouts` the number of slices that lose
    40 to 80 % of their signal. `parameters` (n, 6) replaces the drawn motion. `field` is the
    largest susceptibility shift, mm; the volumes with `polarity` (n,) -1 get its negative, and
    eddy currents of the other sign.
    """
    affine = oblique_affine(shape, voxel)
    frame = frame_of(shape, affine)
    count = len(gradients)
    drawn = draw_motion(rng, count, motion, jumps) if parameters is None else parameters
    signs = np.ones(count) if polarity is None else np.asarray(polarity, float)
    terms = draw_eddy(rng, gradients, eddy, quadratic) * signs[:, None]
    rotations = Rotation.from_rotvec(drawn[:, 3:]).as_matrix()
    poses = Poses(rotations, drawn[:, :3], terms, np.ones(count))
    voxels = frame.points(np.indices(shape).reshape(3, -1).astype(float))
    signal = np.empty((*shape, count), np.float32)
    axis = phase_encoding.axis
    soft = 0.3 * float(np.mean(voxel))
    for n in range(count):
        volume = _volume(poses, n, voxels, frame, axis, gradients, soft, field * signs[n])
        signal[..., n] = volume.reshape(shape)
    lost = drop_slices(rng, signal, gradients, dropouts)
    signal = with_noise(rng, signal, snr)
    world = frame.to_world[:3, :3] @ voxels + frame.to_world[:3, 3:]
    mask = ((world / RADII[:, None]) ** 2).sum(axis=0).reshape(shape) < 1
    return Phantom(signal, affine, gradients, phase_encoding, mask, poses, lost)


def with_noise(rng, signal, snr):
    """Rician noise; `snr` is that of white matter at b=0, None for none."""
    if not snr:
        return signal
    noisy = np.empty_like(signal)
    for n in range(signal.shape[3]):
        noise = rng.normal(scale=WHITE_S0 / snr, size=(2, *signal.shape[:3])).astype(np.float32)
        noisy[..., n] = np.hypot(signal[..., n] + noise[0], noise[1])
    return noisy


def shift_at(points, size):
    """Susceptibility shift, mm, at points (3, m) of the reference head, image axes."""
    x, y, z = points
    front = np.exp(-((x / 28) ** 2) - ((y - 45) / 28) ** 2 - ((z + 25) / 22) ** 2)
    sides = np.exp(-(((np.abs(x) - 45) / 18) ** 2) - ((y + 5) / 25) ** 2 - ((z + 30) / 18) ** 2)
    return size * (front - 0.7 * sides)


def _volume(poses, n, voxels, frame, axis, gradients, soft, field=0.0):
    """Signal of volume n at its own voxels."""
    rotation, translation = poses.rotation[n], poses.translation[n][:, None]
    scanner = voxels.copy()
    for _ in range(8 if field == 0 else 25):  # where the signal found at a voxel comes from
        head = rotation.T @ (scanner - translation)
        moved = poses.eddy[n] @ eddy_basis(scanner) + shift_at(head, field)
        scanner[axis] = voxels[axis] - moved
    head = rotation.T @ (scanner - translation)
    world = frame.to_world[:3, :3] @ head + frame.to_world[:3, 3:]
    inner = frame.directions(gradients.directions[n : n + 1])[0]
    direction = frame.to_world[:3, :3] @ (rotation.T @ inner)
    stretch = 1 + poses.eddy[n] @ eddy_stretch(scanner, axis)
    step = np.zeros((3, 1))
    step[axis] = 0.05
    stretch *= 1 + (shift_at(head + step, field) - shift_at(head - step, field)) / 0.1
    return head_signal(world, gradients.bvals[n], direction, soft) / stretch


def drop_slices(rng, signal, gradients, count):
    """Lose signal in `count` slices of weighted volumes, in place; (n, z) bool of which."""
    lost = np.zeros((signal.shape[3], signal.shape[2]), bool)
    weighted = np.flatnonzero(gradients.bvals > 50)
    while lost.sum() < count:
        n, z = rng.choice(weighted), rng.integers(signal.shape[2] // 5, signal.shape[2] * 4 // 5)
        if not lost[n, z]:
            signal[:, :, z, n] *= 1 - rng.uniform(0.4, 0.8)
            lost[n, z] = True
    return lost


def displacement_error(phantom, found):
    """Distance between found and true place, (n, m) mm, of points of the brain in each volume."""
    frame = frame_of(phantom.signal.shape, phantom.affine)
    inside = np.stack(np.nonzero(phantom.mask)).astype(float)
    points = frame.points(inside[:, :: max(inside.shape[1] // 3000, 1)])
    axis = phantom.phase_encoding.axis
    return np.stack(
        [
            np.sqrt(
                ((found.place(n, points, axis) - phantom.poses.place(n, points, axis)) ** 2).sum(0)
            )
            for n in range(len(found))
        ]
    )


assert len(EDDY_TERMS) == 9  # draw_eddy lists their sizes
