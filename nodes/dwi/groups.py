"""Which volumes of a series predict each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.dwi.gradients import B0_MAX, Gradients, shells

FEWEST = 6  # volumes of a shell that predict each other


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


def weighted_shells(gradients: Gradients) -> list[NDArray]:
    """Numbers of the weighted volumes of each shell, by rising b-value."""
    return [shell.volumes for shell in shells(gradients.bvals) if shell.b > B0_MAX]


def groups_of(gradients: Gradients, signs: NDArray, apart: bool) -> tuple[Group, ...]:
    """b0s and shells that are aligned among themselves; each polarity apart if asked for."""
    kinds = [(np.flatnonzero(gradients.b0), False)]
    kinds += [(volumes, True) for volumes in weighted_shells(gradients)]
    sides = [1, -1] if apart and len(np.unique(signs)) > 1 else [0]
    groups = []
    for volumes, weighted in kinds:
        for side in sides:
            part = volumes[signs[volumes] == side] if side else volumes
            if len(part) >= (FEWEST if weighted else 1):
                groups.append(Group(part, weighted, side))
    return tuple(groups)
