"""Where the template expects each tissue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.anat.register import pull

LINING_SIGMA = 2.0  # mm
BOUNDARY = 2.5  # mm, least blur of the edge of the brain
FLOOR = 0.03  # so much the anatomy may always differ from the template
CSF, GM, WM, OTHER, DEEP, LINING = range(6)  # order of the priors
OUTSIDE = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0)  # priors beyond the template


@dataclass(frozen=True)
class Template:
    """The template's brain on one grid; maps run from 0 to 1."""

    affine: NDArray  # (4, 4) voxels to mm
    t1w: NDArray  # (x, y, z) brain without skull, zero outside
    gm: NDArray
    wm: NDArray
    deep: NDArray  # grey nuclei whose intensity lies between grey and white matter
    bare: NDArray  # ventricles and brainstem: white matter without cortex beside CSF

    @property
    def brain(self) -> NDArray:
        """Everything inside the skull as the template draws it."""
        return ndimage.binary_fill_holes(self.t1w > 0)


def tissue_priors(template: Template, sigma: float) -> NDArray:
    """Smoothed probabilities of CSF, GM, WM, not brain; deep grey; the lining of the ventricles.

    The first four sum to one. Deep grey is the share of the brain that is grey nucleus; the
    lining is where CSF may touch white matter.

    Parameters
    ----------
    template : Template
        Maps to smooth.
    sigma : float
        Gaussian standard deviation, mm: how far anatomy may lie from the template.
    """
    zooms = np.sqrt((template.affine[:3, :3] ** 2).sum(axis=0))

    def smooth(volume: NDArray, width: float) -> NDArray:
        return ndimage.gaussian_filter(volume.astype(np.float32), width / zooms)

    inside = template.brain
    tissues = [np.clip(inside - template.gm - template.wm, 0, 1), template.gm, template.wm]
    maps = [smooth(tissue, sigma) + FLOOR for tissue in tissues]
    brain = np.clip(smooth(inside, max(sigma, BOUNDARY)), 1e-4, 1 - 1e-4)
    total = sum(maps)
    deep = smooth(template.deep, max(sigma, 1.0))
    lining = np.clip(3 * smooth(template.bare, max(sigma, LINING_SIGMA)), 0, 1)
    return np.stack([*(brain * part / total for part in maps), 1 - brain, deep, lining])


def priors_at(
    priors: NDArray, affine: NDArray, to_template: Callable[[NDArray], NDArray], points: NDArray
) -> NDArray:
    """Sample priors (6, x, y, z) at head `points` (3, n), mm, by a map head to template."""
    where = to_template(points)
    sampled = np.stack(
        [pull(prior, affine, where, edge) for prior, edge in zip(priors, OUTSIDE, strict=True)]
    )
    sampled[OTHER] += np.clip(1 - sampled[:DEEP].sum(axis=0), 0, 1)
    return sampled
