"""Tissue maps that other programs made: can they be believed, and what follows from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.geometry import voxel_volume

BRAIN_LEVEL = 0.5  # a voxel is inside where the tissue probabilities together exceed this
TOLERANCE = 0.02  # rounding and interpolation of probabilities
LEAST_VOLUME = 50.0  # mL of grey or of white matter; less is no head


def map_problems(gm: NDArray, wm: NDArray, csf: NDArray, affine: NDArray) -> list[str]:
    """Say in sentences why three maps cannot be tissue probabilities of one head.

    Parameters
    ----------
    gm, wm, csf : (x, y, z) array
        Grey matter, white matter and CSF.
    affine : (4, 4) array
        Voxel to mm.
    """
    problems = []
    for name, volume in (("grey matter", gm), ("white matter", wm), ("CSF", csf)):
        if not np.isfinite(volume).all():
            problems.append(f"the map of {name} has values that are not numbers")
        elif volume.min() < -TOLERANCE or volume.max() > 1 + TOLERANCE:
            problems.append(
                f"the map of {name} runs from {volume.min():.3g} to {volume.max():.3g}, "
                "not from 0 to 1"
            )
    if problems:
        return problems
    if (gm + wm + csf).max() > 1 + 3 * TOLERANCE:
        problems.append(f"the maps together reach {(gm + wm + csf).max():.3g}, more than 1")
    for name, volume in (("grey matter", gm), ("white matter", wm)):
        size = tissue_volume(volume, affine)
        if size < LEAST_VOLUME:
            problems.append(f"the map of {name} holds {size:.1f} mL, which is no head")
    return problems


def tissue_volume(probability: NDArray, affine: NDArray) -> float:
    """Volume of a tissue, mL: the sum of its probability times the volume of a voxel."""
    return float(probability.sum(dtype=np.float64)) * voxel_volume(affine)


def brain_from_maps(gm: NDArray, wm: NDArray, csf: NDArray) -> NDArray:
    """Voxels that are more tissue or CSF than anything else, as a bool array."""
    return (gm + wm + csf) > BRAIN_LEVEL


def clipped(probability: NDArray) -> NDArray:
    """Probability without what rounding put below 0 or above 1."""
    return np.clip(probability, 0, 1).astype(np.float32)
