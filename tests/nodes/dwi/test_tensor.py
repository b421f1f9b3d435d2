"""Tensors of known eigenvalues and axes, against the truth and against a plain least squares."""

import numpy as np
import pytest

from alsflow.nodes.dwi.gradients import Gradients
from alsflow.nodes.dwi.tensor import anisotropy, fit_tensor
from alsflow.nodes.errors import BadInputError

SHAPE = (7, 8, 9)


def gradients(n=32, b0=4, b=1000.0, seed=5):
    directions = np.random.default_rng(seed).normal(size=(n + b0, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    bvals = np.full(n + b0, b)
    bvals[:: n // b0 + 1] = 0
    directions[bvals == 0] = 0
    return Gradients(bvals, directions)


def truth(rng):
    """Eigenvalues (m, 3) descending, mm²/s, axes in columns (m, 3, 3), S0 (m,)."""
    count = int(np.prod(SHAPE))
    evals = np.sort(rng.uniform(0.1e-3, 2.2e-3, (count, 3)))[:, ::-1]
    axes = np.linalg.qr(rng.normal(size=(count, 3, 3)))[0]
    return evals, axes, rng.uniform(200, 900, count)


def measured(evals, axes, s0, weighting):
    """Signals (m, n) written down one volume after the other."""
    tensors = axes @ (evals[:, :, None] * np.swapaxes(axes, 1, 2))
    volumes = [
        s0 * np.exp(-b * (g @ tensors @ g))
        for b, g in zip(weighting.bvals, weighting.directions, strict=True)
    ]
    return np.stack(volumes, axis=1), tensors


def magnitude(signal, sigma, rng):
    real, imaginary = rng.normal(0, sigma, (2, *signal.shape))
    return np.hypot(signal + real, imaginary)


@pytest.fixture(scope="module")
def phantom():
    evals, axes, s0 = truth(np.random.default_rng(11))
    signal, tensors = measured(evals, axes, s0, gradients())
    return signal.reshape(*SHAPE, -1), evals, axes, tensors, s0


@pytest.mark.parametrize("method", ["WLS", "OLS", "RESTORE"])
def test_noise_free_phantom_equals_the_truth(phantom, method):
    signal, evals, axes, tensors, s0 = phantom
    mask = np.zeros(SHAPE, bool)
    mask[: 1 if method == "RESTORE" else None] = True
    maps = fit_tensor(signal, gradients(), mask, method)
    chosen = mask.ravel()
    spread = ((evals - evals.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    fa = np.sqrt(1.5 * spread / (evals**2).sum(axis=1))
    np.testing.assert_allclose(maps.fa[mask], fa[chosen], atol=1e-6)
    # 1e-6 of 1e-3 mm²/s
    np.testing.assert_allclose(maps.md[mask], evals.mean(axis=1)[chosen], rtol=1e-6)
    np.testing.assert_allclose(maps.ad[mask], evals[chosen, 0], rtol=1e-6)
    np.testing.assert_allclose(maps.rd[mask], evals[chosen, 1:].mean(axis=1), rtol=2e-6)
    np.testing.assert_allclose(maps.s0[mask], s0[chosen], rtol=1e-6)
    six = tensors[:, (0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2)]
    np.testing.assert_allclose(maps.tensor[mask], six[chosen], atol=1e-9)
    along = np.abs((maps.direction[mask] * axes[chosen, :, 0]).sum(axis=1))
    apart = evals[chosen, 0] - evals[chosen, 1] > 2e-5
    np.testing.assert_allclose(along[apart], 1, atol=1e-5)
    assert maps.residual.max() < 1e-6
    assert maps.n_missing == 0
    assert not maps.fa[~mask].any()


def test_a_second_implementation_agrees_on_noise(phantom):
    """Plain and reweighted least squares with numpy, voxel by voxel."""
    weighting, rng = gradients(), np.random.default_rng(3)
    signal = np.maximum(magnitude(phantom[0], 20, rng), 1)
    x, y, z = weighting.directions.T
    b = weighting.bvals
    columns = [x * x, y * y, z * z, 2 * x * y, 2 * x * z, 2 * y * z]
    design = np.column_stack([np.ones(len(b)), *(-b * column for column in columns)])
    found = {
        method: fit_tensor(signal, weighting, np.ones(SHAPE, bool), method)
        for method in ("OLS", "WLS")
    }
    for voxel in [(0, 0, 0), (3, 4, 5), (6, 7, 8), (2, 7, 1)]:
        log = np.log(signal[voxel])
        plain = np.linalg.lstsq(design, log, rcond=None)[0]
        weight = np.exp(design @ plain)
        weighted = np.linalg.lstsq(design * weight[:, None], log * weight, rcond=None)[0]
        for method, fitted in (("OLS", plain), ("WLS", weighted)):
            _, xx, yy, zz, xy, xz, yz = fitted
            if np.linalg.eigvalsh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])[0] > 0:
                expected = [xx, xy, xz, yy, yz, zz]
                np.testing.assert_allclose(found[method].tensor[voxel], expected, atol=1e-9)


def test_md_is_the_mean_of_the_eigenvalues_written():
    rng = np.random.default_rng(8)
    evals, axes, s0 = truth(rng)
    signal = magnitude(measured(evals, axes, s0, gradients())[0], 200, rng)
    maps = fit_tensor(signal.reshape(*SHAPE, -1), gradients(), np.ones(SHAPE, bool))
    np.testing.assert_array_equal(maps.md, (maps.ad + 2 * maps.rd) / 3)
    trace = maps.tensor[..., [0, 3, 5]].sum(axis=-1)
    np.testing.assert_allclose(maps.md, trace / 3, rtol=2e-6)
    # negative eigenvalues are counted and are zero in every map
    negative = maps.negative_eigenvalues > 0
    assert 10 < negative.sum() < negative.size
    full = maps.tensor[..., [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(*SHAPE, 3, 3)
    assert np.linalg.eigvalsh(full).min() > -1e-9
    assert maps.rd.min() >= 0
    assert maps.fa.max() <= 1 + 1e-6


def test_bias_at_snr_25_stays_within_what_is_promised():
    """Means over tracts of three shapes: .01 of FA and 2 % of MD."""
    rng = np.random.default_rng(4)
    shapes = np.array([[1.7, 0.3, 0.3], [1.3, 0.5, 0.3], [1.0, 0.6, 0.5]]) * 1e-3
    evals = np.repeat(shapes, 600, axis=0)
    axes = np.linalg.qr(rng.normal(size=(len(evals), 3, 3)))[0]
    signal, _ = measured(evals, axes, np.full(len(evals), 500.0), gradients())
    noisy = magnitude(signal, 500 / 25, rng).reshape(-1, 1, 1, 36)
    maps = fit_tensor(noisy, gradients(), np.ones(noisy.shape[:3], bool))
    for k, fa in enumerate(anisotropy(shapes)):
        tract = slice(600 * k, 600 * (k + 1))
        assert abs(maps.fa[tract].mean() - fa) < 0.01
        assert abs(maps.md[tract].mean() / shapes[k].mean() - 1) < 0.02


@pytest.mark.parametrize("known", [True, False], ids=["noise known", "noise unknown"])
def test_restore_leaves_outliers_out_and_costs_little_without(phantom, known):
    """Signal lost in two of 36 volumes, in other volumes in each half."""
    rng = np.random.default_rng(2)
    clean = magnitude(phantom[0], 8, rng)
    spoilt = clean.copy()
    spoilt[:3, ..., [5, 20]] *= 0.3
    spoilt[3:, ..., [12, 30]] *= 0.5
    mask = np.ones(SHAPE, bool)
    sigma = np.full(SHAPE, 8.0) if known else None
    fa = anisotropy(phantom[1]).reshape(SHAPE)

    def error(signal, method):
        return np.abs(fit_tensor(signal, gradients(), mask, method, sigma).fa - fa).mean()

    reference = error(clean, "WLS")
    assert error(spoilt, "WLS") > 3 * reference
    assert error(spoilt, "RESTORE") < 1.3 * reference
    assert error(clean, "RESTORE") < 1.15 * reference


def test_restore_survives_voxels_of_outliers(phantom):
    signal = phantom[0][:1].copy()
    signal[..., ::2] = 1e-3
    maps = fit_tensor(signal, gradients(), np.ones(signal.shape[:3], bool), "RESTORE")
    assert np.isfinite(maps.fa).all()


def test_voxels_without_numbers_or_signal_are_unknown_not_zero(phantom):
    signal = phantom[0].copy()
    signal[1, 2, 3, 7] = np.nan
    signal[4, 4, 4] = 0
    signal[5, 5, 5, 9] = 0  # one lost sample is no reason to lose the voxel
    maps = fit_tensor(signal, gradients(), np.ones(SHAPE, bool))
    assert maps.n_missing == 2
    for name in ("fa", "md", "ad", "rd", "s0", "residual", "tensor", "direction"):
        assert np.isnan(getattr(maps, name)[1, 2, 3]).all()
        assert np.isnan(getattr(maps, name)[4, 4, 4]).all()
    assert np.isfinite(maps.fa[5, 5, 5])


def test_only_low_shells_are_used():
    low, high = gradients(), gradients(20, 2, 3000.0, seed=9)
    both = Gradients(
        np.r_[low.bvals, high.bvals], np.concatenate([low.directions, high.directions])
    )
    evals, axes, s0 = truth(np.random.default_rng(1))
    signal, _ = measured(evals, axes, s0, both)
    signal[:, both.bvals > 1500] *= 1.4  # kurtosis
    maps = fit_tensor(signal.reshape(*SHAPE, -1), both, np.ones(SHAPE, bool))
    np.testing.assert_allclose(maps.md.ravel(), evals.mean(axis=1), rtol=1e-6)
    assert maps.b_used == (1000,)
    assert maps.n_volumes == 38
    assert maps.note == ""


def test_an_empty_mask_is_refused(phantom):
    with pytest.raises(BadInputError, match="empty brain mask"):
        fit_tensor(phantom[0], gradients(), np.zeros(SHAPE, bool))
