"""Where the template expects each tissue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsflow.nodes.anat.register import pull

LINING_SIGMA = 2.0  # mm
NEAR_LIMIT = 0.005  # nothing is surer than this
OUTSIDE = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, NEAR_LIMIT)  # priors beyond the template
BOUNDARY = 2.5  # mm, least blur of the edge of the brain
FLOOR = 0.03  # so much the anatomy may always differ from the template
CSF, GM, WM, OTHER, DEEP, LINING, NEAR = range(7)  # order of the priors


@dataclass(frozen=True)
class Template:
    """The template's brain on one grid; maps run from 0 to 1."""

    affine: NDArray  # (4, 4) voxels to mm
    t1w: NDArray  # (x, y, z) brain without skull, zero outside
    gm: NDArray
    wm: NDArray
    deep: NDArray  # grey nuclei whose intensity lies between grey and white matter
    bare: NDArray  # ventricles and brainstem: white matter without cortex beside CSF

    def halved(self) -> Template:
        """Take every second voxel: enough where the maps are blurred by more."""
        maps = [m[::2, ::2, ::2] for m in (self.t1w, self.gm, self.wm, self.deep, self.bare)]
        return Template(self.affine @ np.diag([2.0, 2.0, 2.0, 1.0]), *maps)

    @property
    def brain(self) -> NDArray:
        """Everything inside the skull as the template draws it."""
        return ndimage.binary_fill_holes(self.t1w > 0)


def tissue_priors(template: Template, sigma: float, skull_sigma: float) -> NDArray:
    """Smooth the template into priors: CSF, GM, WM, not brain, deep grey, lining, near.

    The first four sum to one. Deep grey is the share of the brain that is grey nucleus; the
    lining is where CSF may touch white matter. Near is how likely, without a look at the image,
    a point lies inside the skull.

    Parameters
    ----------
    template : Template
        Maps to smooth.
    sigma : float
        Gaussian standard deviation, mm: how far anatomy may lie from the template.
    skull_sigma : float
        The same for the inner face of the skull.
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
    near = np.clip(smooth(inside, skull_sigma), NEAR_LIMIT, 1 - NEAR_LIMIT)
    return np.stack([*(brain * part / total for part in maps), 1 - brain, deep, lining, near])


def priors_at(
    priors: NDArray, affine: NDArray, to_template: Callable[[NDArray], NDArray], points: NDArray
) -> NDArray:
    """Sample priors (7, x, y, z) at head `points` (3, n), mm, by a map head to template."""
    where = to_template(points)
    sampled = np.stack(
        [pull(prior, affine, where, edge) for prior, edge in zip(priors, OUTSIDE, strict=True)]
    )
    sampled[OTHER] += np.clip(1 - sampled[:DEEP].sum(axis=0), 0, 1)
    return sampled
