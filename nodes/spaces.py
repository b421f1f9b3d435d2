"""How other variants of MNI space lie to the template's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alsflow.nodes.geometry import apply_affine

# World mm of the template (MNI152NLin2009aSym) to world mm of another variant, by twelve
# parameters fitted to the two averages of T1-weighted brains; docs/tracts.md says what it gains.
# A variant that is not here is used as it is.
FROM_TEMPLATE = {
    "MNI152NLin6Asym": np.array(
        [
            [0.9915, -0.0044, 0.0025, 0.52],
            [0.0237, 0.9955, -0.0077, 0.28],
            [-0.0014, 0.0093, 0.9966, 0.49],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )
}


def in_space(points: NDArray, space: str) -> NDArray:
    """Points (3, ...) of the template, mm, in another variant of MNI space."""
    if space not in FROM_TEMPLATE:
        return points
    return apply_affine(FROM_TEMPLATE[space], points)
