"""The diffusion tensor in each voxel, and what is measured on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from dipy.reconst.dti import (
    ols_fit_tensor,
    restore_fit_tensor,
    wls_fit_tensor,
)
from numpy.typing import NDArray

from alsflow.nodes.dwi.gradients import TENSOR_B_MAX, Gradients, products, tensor_volumes
from alsflow.nodes.errors import BadInputError

Method = Literal["WLS", "OLS", "RESTORE"]
SLAB = 20_000  # voxels fitted at a time; memory grows with it
FLOOR = 1e-4  # of the voxel's b=0 signal; its logarithm stands in for that of zero
MAD_TO_SD = 1.4826  # of a normal distribution
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
        not; or the non-linear fit that leaves outliers out [2]_, some hundred times slower.
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
        return restored(design, values, sigma)
    fit = {"WLS": wls_fit_tensor, "OLS": ols_fit_tensor}[method]
    found = fit(design, values, return_lower_triangular=True)[0]
    tensors = found[:, SYMMETRIC]
    evals, evecs = np.linalg.eigh(tensors)
    return evals[:, ::-1], evecs[:, :, ::-1], np.exp(found[:, 6])


def restored(
    design: NDArray, values: NDArray, sigma: NDArray | None
) -> tuple[NDArray, NDArray, NDArray]:
    """Fit by RESTORE, see `eigen`; negative eigenvalues come back as zero, less a hair."""
    if sigma is None:
        sigma = noise_of_fit(design, values)
    # where nothing is noise, everything would be an outlier
    sigma = np.maximum(sigma, FLOOR * values.max(axis=1))
    # DIPY's order of the six and sign of the logarithm of S0
    swapped = design[:, [0, 1, 3, 2, 4, 5, 6]] * [1, 1, 1, 1, 1, 1, -1]
    params, s0 = np.empty((len(values), 12)), np.empty(len(values))
    for voxel, signal in enumerate(values):
        (params[voxel], s0[voxel : voxel + 1]), _ = restore_fit_tensor(
            swapped, signal[None], sigma=float(sigma[voxel]), return_S0_hat=True
        )
    evals = np.where(params[:, :3] > 0, params[:, :3], -np.finfo(float).tiny)
    return evals, params[:, 3:].reshape(-1, 3, 3), s0


def noise_of_fit(design: NDArray, values: NDArray) -> NDArray:
    """Standard deviation (m,) of the noise from the median deviation of a weighted linear fit."""
    found = wls_fit_tensor(design, values, return_lower_triangular=True)[0]
    error = values - np.exp(found @ design.T)
    n, p = design.shape
    return MAD_TO_SD * np.sqrt(n / max(n - p, 1)) * np.median(np.abs(error), axis=1)


def anisotropy(evals: NDArray) -> NDArray:
    """Fractional anisotropy of eigenvalues (m, 3), zero where all three are."""
    spread = ((evals - evals.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    size = (evals**2).sum(axis=1)
    return np.sqrt(1.5 * spread / np.where(size > 0, size, 1))
