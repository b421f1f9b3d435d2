"""The diffusion tensor in each voxel, and what is measured on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from dipy.reconst.dti import (
    ols_fit_tensor,
    wls_fit_tensor,
)
from numpy.typing import NDArray

from alsflow.nodes.dwi.gradients import TENSOR_B_MAX, Gradients, products, tensor_volumes
from alsflow.nodes.errors import BadInputError

Method = Literal["WLS", "OLS", "RESTORE"]
SLAB = 20_000  # voxels fitted at a time; memory grows with it
FLOOR = 1e-4  # of the voxel's b=0 signal; its logarithm stands in for that of zero
MAD_TO_SD = 1.4826  # of a normal distribution
OUTLIER = 3.0  # standard deviations, of RESTORE
ROBUST_STEPS = 8
LOG_MAX = 80.0  # of S0; the exponential of more is no float32
RIDGE = 1e-12  # of the trace
SCALE = np.array([1e3] * 6 + [1.0])  # brings the columns of the design near 1
# rows and columns of the six components D11 D12 D13 D22 D23 D33, and the nine from the six
ROWS, COLUMNS = (0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2)
SYMMETRIC = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])
# maps that are fitted: components of each voxel (0 for a number), type
LAYOUT: dict[str, tuple[int, type]] = {
    "fa": (0, np.float32),
    "ad": (0, np.float32),
    "rd": (0, np.float32),
    "s0": (0, np.float32),
    "direction": (3, np.float32),
    "tensor": (6, np.float32),
    "residual": (0, np.float32),
    "negative_eigenvalues": (0, np.uint8),
}


@dataclass(frozen=True)
class TensorMaps:
    """Tensors of one series; zero outside the mask, NaN where there is no fit.

    Attributes
    ----------
    fa, md, ad, rd : (x, y, z) float32 array
        Fractional anisotropy, and mean, axial and radial diffusivity, mm2/s.
    s0 : (x, y, z) float32 array
        Signal without weighting as fitted.
    direction : (x, y, z, 3) float32 array
        Unit vector of fastest diffusion, RAS+ world coordinates, sign free.
    tensor : (x, y, z, 6) float32 array
        D11 D12 D13 D22 D23 D33 in RAS+ world coordinates, mm2/s.
    residual : (x, y, z) float32 array
        Root mean square over volumes of measured less fitted signal, as a share of `s0`.
    negative_eigenvalues : (x, y, z) uint8 array
        How many of the three were negative as fitted. They are set to zero before anything else
        is computed, `tensor` included.
    n_volumes : int
        Volumes the fit used.
    b_used : tuple of float
        b-values of their shells, b=0 left out, s/mm2.
    n_missing : int
        Voxels of the mask without a fit: a value is no number, or there is no signal at b=0.
    note : str
        Warning about the choice of volumes; empty where there is none.
    """

    fa: NDArray
    md: NDArray
    ad: NDArray
    rd: NDArray
    s0: NDArray
    direction: NDArray
    tensor: NDArray
    residual: NDArray
    negative_eigenvalues: NDArray
    n_volumes: int
    b_used: tuple[float, ...]
    n_missing: int
    note: str = ""


def fit_tensor(
    signal: NDArray,
    gradients: Gradients,
    mask: NDArray,
    method: Method = "WLS",
    sigma: NDArray | None = None,
    b_max: float = TENSOR_B_MAX,
) -> TensorMaps:
    """Fit a tensor in each voxel of the mask.

    Parameters
    ----------
    signal : (x, y, z, n) array
        Diffusion series.
    gradients : Gradients
        Its weighting, in world coordinates; so the tensors are, too.
    mask : (x, y, z) bool array
        Where to fit.
    method : "WLS", "OLS" or "RESTORE"
        Linear fit to the logarithm of the signal, weighted by the squared fitted signal [1]_ or
        not; or the weighted fit with outliers left out, in the manner of RESTORE [2]_.
    sigma : (x, y, z) array, optional
        Standard deviation of the noise, used by RESTORE; without it each voxel estimates its own.
    b_max : float
        Highest b-value used, s/mm2, see `nodes.dwi.gradients.tensor_volumes`.

    References
    ----------
    .. [1] Veraart et al. (2013). NeuroImage 81:335-346. doi:10.1016/j.neuroimage.2013.05.028
    .. [2] Chang et al. (2005). Magn Reson Med 53:1088-1095. doi:10.1002/mrm.20426
    """
    chosen = tensor_volumes(gradients, b_max)
    used = gradients[chosen.volumes]
    places = np.flatnonzero(mask)
    if not len(places):
        raise BadInputError("has an empty brain mask, so there is no voxel to fit a tensor to")
    flat = signal.reshape(-1, signal.shape[3])
    maps: dict[str, NDArray] = {
        name: np.zeros((*mask.shape, width) if width else mask.shape, dtype)
        for name, (width, dtype) in LAYOUT.items()
    }
    for start in range(0, len(places), SLAB):
        some = places[start : start + SLAB]
        values = flat[some][:, chosen.volumes].astype(float)
        level = None if sigma is None else sigma.ravel()[some].astype(float)
        for name, rows in fit_voxels(values, used, method, level).items():
            maps[name].reshape(mask.size, *rows.shape[1:])[some] = rows
    maps["md"] = (maps["ad"] + 2 * maps["rd"]) / 3
    missing = int(np.isnan(maps["fa"]).sum())
    return TensorMaps(
        **maps,
        n_volumes=len(used),
        b_used=chosen.b_used,
        n_missing=missing,
        note=chosen.note,
    )


def fit_voxels(
    values: NDArray, gradients: Gradients, method: Method, sigma: NDArray | None
) -> dict[str, NDArray]:
    """Fit tensors to signals (m, n); rows of `LAYOUT`, NaN where there is no fit."""
    level = values[:, gradients.b0].mean(axis=1)
    sound = np.isfinite(values).all(axis=1) & (level > 0)
    maps: dict[str, NDArray] = {
        name: np.full((len(values), width) if width else len(values), empty(dtype), dtype)
        for name, (width, dtype) in LAYOUT.items()
    }
    if not sound.any():
        return maps
    good = np.maximum(values[sound], FLOOR * level[sound, None])
    design = design_matrix(gradients)
    noise = None if sigma is None else sigma[sound]
    evals, evecs, s0 = eigen(design, good, method, noise)
    clipped = np.maximum(evals, 0)
    tensor = np.einsum("nik,nk,njk->nij", evecs, clipped, evecs)[:, ROWS, COLUMNS]
    predicted = np.exp(np.log(s0)[:, None] + tensor @ design[:, :6].T)
    error = np.sqrt(((values[sound] - predicted) ** 2).mean(axis=1))
    maps["ad"][sound] = clipped[:, 0]
    maps["rd"][sound] = clipped[:, 1:].mean(axis=1)
    maps["fa"][sound] = anisotropy(clipped)
    maps["s0"][sound] = s0
    maps["direction"][sound] = evecs[:, :, 0]
    maps["tensor"][sound] = tensor
    maps["residual"][sound] = error / s0
    maps["negative_eigenvalues"][sound] = (evals < 0).sum(axis=1)
    return maps


def empty(dtype: type) -> float:
    """What stands where there is no fit."""
    return 0 if dtype is np.uint8 else np.nan


def design_matrix(gradients: Gradients) -> NDArray:
    """Design (n, 7) of the logarithm of the signal: D11 D12 D13 D22 D23 D33 and log S0."""
    weighting = -gradients.bvals[:, None] * products(gradients.directions)
    return np.column_stack([weighting, np.ones(len(gradients))])


def eigen(
    design: NDArray, values: NDArray, method: Method, sigma: NDArray | None
) -> tuple[NDArray, NDArray, NDArray]:
    """Eigenvalues (m, 3) descending, eigenvectors in columns (m, 3, 3), and S0 (m,)."""
    if method == "RESTORE":
        found = restored(design, values, sigma)
    else:
        fit = {"WLS": wls_fit_tensor, "OLS": ols_fit_tensor}[method]
        found = fit(design, values, return_lower_triangular=True)[0]
    evals, evecs = np.linalg.eigh(found[:, SYMMETRIC])
    return evals[:, ::-1], evecs[:, :, ::-1], np.exp(np.minimum(found[:, 6], LOG_MAX))


def restored(design: NDArray, values: NDArray, sigma: NDArray | None) -> NDArray:
    """Coefficients (m, 7) of `design` with outliers left out, in the manner of RESTORE.

    Fits are weighted linear ones, which do not diverge as non-linear ones do in a few percent of
    real voxels. Voxels without a residual above 3 standard deviations keep the plain fit.
    """
    log_s = np.log(values)
    found = weighted_fit(design, log_s, np.ones_like(values))
    found = weighted_fit(design, log_s, fitted_signal(design, found, values) ** 2)
    error = values - fitted_signal(design, found, values)
    noise = spread_of(error, design.shape[1])
    if sigma is not None:
        noise = np.where(sigma > 0, sigma, noise)  # NaN, where the map ends, is not above zero
    # where nothing is noise, everything would be an outlier
    noise = np.maximum(noise, FLOOR * values.max(axis=1))[:, None]
    odd = np.flatnonzero((np.abs(error) > OUTLIER * noise).any(axis=1))
    if len(odd):
        found[odd] = without_outliers(design, values[odd], log_s[odd], found[odd], noise[odd])
    return found


def without_outliers(
    design: NDArray, values: NDArray, log_s: NDArray, found: NDArray, noise: NDArray
) -> NDArray:
    """Improve coefficients (m, 7): Geman-McClure weights, then a fit to what they leave."""
    for _ in range(ROBUST_STEPS):
        fitted = fitted_signal(design, found, values)
        error = values - fitted
        width = np.maximum(spread_of(error, design.shape[1])[:, None], 0.1 * noise)
        found = weighted_fit(design, log_s, fitted**2 / (1 + (error / width) ** 2) ** 2)
    fitted = fitted_signal(design, found, values)
    kept = np.abs(values - fitted) <= OUTLIER * noise
    # enough must be left to determine a tensor
    normal = np.einsum("mn,ni,nj->mij", kept.astype(float), design / SCALE, design / SCALE)
    sizes = np.linalg.eigvalsh(normal)
    enough = sizes[:, 0] > 1e-3 * sizes[:, -1]
    again = weighted_fit(design, log_s[enough], (kept * fitted**2)[enough])
    found[enough] = again
    return found


def fitted_signal(design: NDArray, found: NDArray, values: NDArray) -> NDArray:
    """Signals (m, n) of coefficients (m, 7), held below twice the largest measured one."""
    top = np.log(2 * values.max(axis=1, keepdims=True))
    return np.exp(np.minimum(found @ design.T, top))


def weighted_fit(design: NDArray, log_s: NDArray, weights: NDArray) -> NDArray:
    """Coefficients (m, 7) of weighted linear fits to logarithms (m, n), by normal equations."""
    scaled = design / SCALE
    weights = weights / weights.max(axis=1, keepdims=True)
    squares = (scaled[:, :, None] * scaled[:, None, :]).reshape(len(design), -1)
    normal = (weights @ squares).reshape(-1, 7, 7)
    # far below what the fit resolves; keeps voxels of all but zero weight solvable
    normal += RIDGE * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(7)
    return np.linalg.solve(normal, (weights * log_s @ scaled)[..., None])[..., 0] / SCALE


def spread_of(error: NDArray, parameters: int) -> NDArray:
    """Standard deviation (m,) of the noise from the median deviation of residuals (m, n)."""
    n = error.shape[1]
    centred = error - np.median(error, axis=1, keepdims=True)
    freedom = np.sqrt(n / max(n - parameters, 1))
    return MAD_TO_SD * freedom * np.median(np.abs(centred), axis=1)


def anisotropy(evals: NDArray) -> NDArray:
    """Fractional anisotropy of eigenvalues (m, 3), zero where all three are."""
    spread = ((evals - evals.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    size = (evals**2).sum(axis=1)
    return np.sqrt(1.5 * spread / np.where(size > 0, size, 1))
