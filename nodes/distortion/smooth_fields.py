"""Least squares for fields on a grid that should be smooth: derivatives, and a solver.

Everything here gives the same bits on any number of threads: sums are numpy's own, not BLAS.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FAINT = 1e-4  # 1/mm2; pull of a field to zero, so that the equations are never singular


def slope(field: NDArray, axis: int, spacing: float) -> NDArray:
    """Derivative along one axis: central differences, one-sided at the ends."""
    return np.gradient(field, spacing, axis=axis)


def slope_transposed(field: NDArray, axis: int, spacing: float) -> NDArray:
    """Apply the transpose of `slope`, which is linear."""
    source = np.moveaxis(field, axis, 0) / spacing
    half = source / 2
    out = np.zeros_like(source)
    out[2:] += half[1:-1]
    out[:-2] -= half[1:-1]
    out[0] -= source[0]
    out[1] += source[0]
    out[-1] += source[-1]
    out[-2] -= source[-1]
    return np.moveaxis(out, 0, axis)


def roughness(field: NDArray, zooms: NDArray, trend_free: bool = False) -> NDArray:
    """Half the gradient of the integral of the squared slopes: minus the Laplacian, 1/mm2.

    With `trend_free` the mean slope along each axis is not counted, so a linear trend costs
    nothing.
    """
    out = FAINT * field
    for axis in range(field.ndim):
        step = np.diff(field, axis=axis) / float(zooms[axis]) ** 2
        if trend_free:
            step -= step.mean()
        ahead, behind = _ends(field.ndim, axis)
        out[behind] -= step
        out[ahead] += step
    return out


def roughness_diagonal(zooms: NDArray) -> float:
    """Diagonal of `roughness` away from the borders, 1/mm2."""
    return float(2 * (1 / np.asarray(zooms) ** 2).sum() + FAINT)


def _ends(ndim: int, axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices that leave out the first and the last element along an axis."""
    everything = [slice(None)] * ndim
    ahead, behind = list(everything), list(everything)
    ahead[axis], behind[axis] = slice(1, None), slice(0, -1)
    return tuple(ahead), tuple(behind)


def conjugate_gradients(
    apply: Callable[[NDArray], NDArray],
    right: NDArray,
    diagonal: NDArray,
    tolerance: float = 1e-2,
    most: int = 40,
) -> NDArray:
    """Solve ``apply(x) = right``, symmetric and positive, as far as the tolerance asks.

    Parameters
    ----------
    apply : callable
        The operator, from an array like `right` to another.
    right : array
        Any shape.
    diagonal : array
        Of the operator, approximately; shape of `right`.
    tolerance : float
        Residual at the end relative to `right`.
    most : int
        Steps at most.
    """
    solution = np.zeros_like(right)
    residual = right.copy()
    direction = residual / diagonal
    energy = (residual * direction).sum()
    enough = tolerance**2 * (right * right).sum()
    for _ in range(most):
        if (residual * residual).sum() <= enough:
            break
        image = apply(direction)
        length = energy / (direction * image).sum()
        solution += length * direction
        residual -= length * image
        scaled = residual / diagonal
        previous, energy = energy, (residual * scaled).sum()
        direction = scaled + (energy / previous) * direction
    return solution
