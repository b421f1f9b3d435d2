"""Echo-planar series of a head whose motion is known.

    phantom = moving_head(np.random.default_rng(1), volumes=30)

The head is the tissue of the template, sharpened, bent into a person of its own and given a
receive field and signal loss above the sinuses. Each volume is read out of it anew, where the head
lies at that time: a finite k-space in the plane, the mean over the thickness of a slice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nilearn.datasets import (
    load_mni152_brain_mask,
    load_mni152_gm_template,
    load_mni152_wm_template,
)
from scipy import ndimage
from scipy.spatial.transform import Rotation

from alsflow.nodes.epi.interpolate import sample_spline
from alsflow.nodes.geometry import apply_affine
from alsflow.nodes.simulate.echo_planar import readout_matrix

CENTRE = np.array([0.0, -18.0, 8.0])  # mm, about which the head turns
LEVEL = 800.0  # mean signal of the brain
FINER = (2, 2, 3)  # points of the head along each edge of a voxel
SINUSES = ((0.0, 50.0, -32.0), (-52.0, -20.0, -38.0), (52.0, -20.0, -38.0))  # mm


@dataclass(frozen=True)
class Phantom:
    """A simulated series and its truth; `fits` (n,) tells the volumes that were not spoilt."""

    signal: np.ndarray
    affine: np.ndarray
    mask: np.ndarray
    head_to_volume: np.ndarray
    fits: np.ndarray


def oblique(shape, voxel, angles=(12.0, -6.0, 8.0), centre=CENTRE):
    """Voxel to world mm of a tilted grid with its middle at `centre`."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * voxel
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def _noise(rng, shape, sigma):
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape).astype(np.float32), sigma)
    return smooth / smooth.std()


def person(rng, spacing=1.5):
    """Signal of a head, where it changes with the task (0 to 1), and the affine of both."""
    templates = (load_mni152_gm_template, load_mni152_wm_template, load_mni152_brain_mask)
    images = [template(resolution=1) for template in templates]
    shape = tuple(int(n / spacing) for n in images[0].shape)
    affine = images[0].affine @ np.diag([spacing, spacing, spacing, 1.0])
    bend = [3.0 / spacing * _noise(rng, shape, 10 / spacing) for _ in range(3)]
    places = (np.indices(shape, dtype=np.float32) + np.stack(bend)) * spacing
    grey, white, brain = (
        ndimage.map_coordinates(np.asarray(i.dataobj, np.float32), places, order=1) for i in images
    )
    white = 1 / (1 + np.exp(-(white - 0.5) * 12))
    grey = np.clip(1 / (1 + np.exp(-(grey - 0.45) * 12)) - white, 0, 1)
    fluid = np.clip(brain - grey - white, 0, 1)
    field = 1 + 0.2 * _noise(rng, shape, 40 / spacing)
    world = apply_affine(affine, np.indices(shape))
    for sinus in SINUSES:
        far = ((world - np.reshape(sinus, (3, 1, 1, 1))) ** 2).sum(axis=0)
        field = field * (1 - 0.9 * np.exp(-far / (2 * 14.0**2)))
    head = (grey + 0.8 * white + 1.5 * fluid) * np.clip(field, 0.05, None)
    noise = _noise(rng, shape, 6 / spacing)
    task = (noise > np.quantile(noise[brain > 0], 0.8)) * brain
    head = ndimage.gaussian_filter(head.astype(np.float32), 0.2)
    return head * (LEVEL / head[brain > 0].mean()), ndimage.gaussian_filter(task, 1.0), affine


def walk(rng, volumes, size, jumps=2):
    """Parameters (n, 6) mm and degrees: drift, breathing and jumps, at most `size` in any."""
    steps = rng.standard_normal((volumes, 6)) * np.array([0.5, 0.6, 1.0, 1.0, 0.5, 0.5])
    steps += 2.0 / np.sqrt(volumes) * rng.standard_normal(6)
    for volume in rng.integers(1, volumes, jumps):
        steps[volume] += 0.3 * np.sqrt(volumes) * rng.standard_normal(6)
    path = np.cumsum(steps, axis=0) - steps[0]
    largest = np.abs(path).max()
    return path * (size / largest) if largest > 0 else path


def matrices_of(parameters):
    """World matrices (n, 4, 4) of translations, mm, and rotations, degrees, about `CENTRE`."""
    turned = Rotation.from_euler("xyz", parameters[:, 3:], degrees=True).as_matrix()
    matrices = np.tile(np.eye(4), (len(parameters), 1, 1))
    matrices[:, :3, :3] = turned
    matrices[:, :3, 3] = parameters[:, :3] + CENTRE - turned @ CENTRE
    return matrices


def read_out(spline, head_affine, pose, shape, affine):
    """Volume (x, y, z), without noise, of a head given as B-spline coefficients."""
    finer = np.array(FINER)
    count = finer * shape
    scale = np.diag([*(1 / finer), 1.0])
    scale[:3, 3] = (1 / finer - 1) / 2
    pull = np.linalg.inv(head_affine) @ np.linalg.inv(pose) @ affine @ scale
    fine = np.empty(count.prod(), np.float32)
    sample_spline(spline, pull, np.indices(count, np.float32).reshape(3, -1), fine)
    slices = fine.reshape(*count[:2], shape[2], FINER[2]).mean(-1)
    rows = np.tensordot(readout_matrix(shape[0], 1.0), slices, 1)
    return np.matmul(readout_matrix(shape[1], 1.0), rows)


def moving_head(
    rng,
    volumes=30,
    shape=(56, 64, 34),
    voxel=(3.3, 3.0, 4.0),
    size=3.0,
    tsnr=60.0,
    bold=0.03,
    spoilt=0,
    parameters=None,
):
    """Simulate a series.

    `size` is the largest translation (mm) and rotation (degrees), `bold` the largest change of
    signal in a fifth of the brain, `spoilt` the number of volumes with another brightness, lost
    slices or bursts of noise. `parameters` (n, 6) mm and degrees are taken in place of a drawn
    walk.
    """
    head, task, head_affine = person(rng)
    affine = oblique(shape, voxel)
    rest, change = (
        ndimage.spline_filter(part, order=3, output=np.float32, mode="mirror")
        for part in (head, head * task)
    )
    path = walk(rng, volumes, size) if parameters is None else np.asarray(parameters, float)
    poses = matrices_of(path)
    slow = ndimage.gaussian_filter1d(rng.standard_normal(volumes), 3, mode="wrap")
    slow = bold * slow / max(np.abs(slow).max(), 1e-9)
    signal = np.empty((*shape, volumes), np.float32)
    for n, pose in enumerate(poses):
        signal[..., n] = read_out(rest + slow[n] * change, head_affine, pose, shape, affine)
    mask = read_out(rest, head_affine, poses[0], shape, affine) > 0.35 * LEVEL
    mask = ndimage.binary_fill_holes(ndimage.binary_opening(mask))
    fits = spoil(rng, signal, spoilt, tsnr)
    if tsnr:
        signal += LEVEL / tsnr * rng.standard_normal(signal.shape).astype(np.float32)
    truth = poses @ np.linalg.inv(poses[0])
    return Phantom(np.maximum(signal, 0), affine, mask, truth, fits)


def spoil(rng, signal, count, tsnr):
    """Spoil `count` volumes in place; returns which were left as they were."""
    volumes = signal.shape[3]
    fits = np.ones(volumes, bool)
    for kind, n in enumerate(rng.permutation(np.arange(1, volumes))[:count]):
        fits[n] = False
        if kind % 3 == 0:
            signal[..., n] *= rng.choice([0.85, 1.2])
        elif kind % 3 == 1:
            signal[:, :, rng.integers(0, signal.shape[2], 5), n] *= 0.5
        else:
            signal[..., n] += 6 * LEVEL / tsnr * rng.standard_normal(signal.shape[:3])
    return fits


def corner_errors(found, truth, reference):
    """Distance (n, 8), mm, between found and true places of the corners of the head's box."""
    true = truth @ np.linalg.inv(truth[reference])
    box = np.array(np.meshgrid((-70, 70), (-105, 70), (-45, 75))).reshape(3, 8)
    return np.linalg.norm(((found - true) @ np.vstack([box, np.ones(8)]))[:, :3], axis=1)
