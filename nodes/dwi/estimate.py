"""What the estimation of motion and eddy currents found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Step:
    """One step of the estimation.

    Attributes
    ----------
    fwhm : float
        Smoothing of the data, mm.
    update : float
        Root-mean-square change of the displacement, mean over the volumes, mm.
    largest : float
        The same of the volume that moved most, mm.
    misfit : float
        What the volumes differ by from their prediction by the others, signal.
    halved : bool
        The step before had made the misfit worse, and was halved.
    """

    fwhm: float
    update: float
    largest: float
    misfit: float
    halved: bool


@dataclass(frozen=True)
class MotionEstimate:
    """Motion of the head and eddy currents of a diffusion series.

    Attributes
    ----------
    head_to_volume : (n, 4, 4) array
        Rigid, world mm: where a point of the reference head lies in each volume. The reference is
        the first b0.
    eddy : (n, k) array
        Displacement along the phase-encoding axis, mm, as coefficients of the first k terms of
        `nodes.epi.pose.EDDY_TERMS`, polynomials of the place in the scanner in image axes (mm from
        the middle of the grid); k is 0, 4 or 9. The quadratic terms are divided by `EDDY_RADIUS`.
    steps : tuple of Step
        In the order of work.
    converged : bool
        Whether the last level of detail ended because the updates had become small.
    outliers : (n, z) bool array
        Slices that lost signal.
    loss : (n, z) array
        Share of the signal that a slice lacks against its prediction; NaN where not judged.
    gain : (n,) array
        Signal of each volume relative to the reference; found on the way, not applied.
    warnings : tuple of str
        For the report.
    """

    head_to_volume: NDArray
    eddy: NDArray
    steps: tuple[Step, ...]
    converged: bool
    outliers: NDArray
    loss: NDArray
    gain: NDArray
    warnings: tuple[str, ...]

    @property
    def last_update(self) -> float:
        """Root-mean-square change of the displacement in the last step, mm; 0 without steps."""
        return self.steps[-1].update if self.steps else 0.0

    @property
    def outlier_share(self) -> float:
        """Outlier slices among those judged."""
        judged = np.isfinite(self.loss).sum()
        return float(self.outliers.sum() / judged) if judged else float("nan")


def no_motion(shape: tuple[int, ...]) -> MotionEstimate:
    """Estimate of a series (x, y, z, n) that is taken as it is."""
    count, slices = shape[3], shape[2]
    return MotionEstimate(
        np.tile(np.eye(4), (count, 1, 1)),
        np.zeros((count, 0)),
        (),
        True,
        np.zeros((count, slices), bool),
        np.full((count, slices), np.nan),
        np.ones(count),
        (),
    )
