"""Which volumes of a series predict each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.dwi.gradients import Gradients

FEWEST = 6  # volumes of a shell that predict each other
SHELL_GAP = 100.0  # s/mm2 between the b-values of two shells


@dataclass(frozen=True)
class Group:
    """Volumes that one signal model covers.

    Attributes
    ----------
    volumes : (m,) int array
        Their numbers.
    weighted : bool
        Whether they are diffusion weighted.
    polarity : int
        1, -1, or 0 where both polarities are together.
    """

    volumes: NDArray
    weighted: bool
    polarity: int = 0


def shells(gradients: Gradients) -> list[NDArray]:
    """Numbers of the weighted volumes of each shell, by rising b-value."""
    weighted = np.flatnonzero(~gradients.b0)
    order = weighted[np.argsort(gradients.bvals[weighted], kind="stable")]
    breaks = np.flatnonzero(np.diff(gradients.bvals[order]) > SHELL_GAP) + 1
    return [np.sort(part) for part in np.split(order, breaks) if len(part)]


def groups_of(gradients: Gradients, signs: NDArray, apart: bool) -> tuple[Group, ...]:
    """b0s and shells that are aligned among themselves; each polarity apart if asked for."""
    kinds = [(np.flatnonzero(gradients.b0), False)]
    kinds += [(volumes, True) for volumes in shells(gradients)]
    sides = [1, -1] if apart and len(np.unique(signs)) > 1 else [0]
    groups = []
    for volumes, weighted in kinds:
        for side in sides:
            part = volumes[signs[volumes] == side] if side else volumes
            if len(part) >= (FEWEST if weighted else 1):
                groups.append(Group(part, weighted, side))
    return tuple(groups)
