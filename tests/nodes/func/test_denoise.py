"""One projection: against nilearn, against sines, and the count of what it costs."""

import numpy as np
import pytest
from nilearn.signal import clean

from alsflow.nodes.func.denoise import (
    MIN_FREEDOM,
    MIN_IN_BAND,
    denoise,
    extended,
    make_projection,
    stop_band,
)

N, TR = 151, 2.2
BAND = (0.008, 0.09)


def noise(voxels=37, n=N, seed=0):
    """Walks on a large mean: what drifts, as real series do."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(size=(voxels, n)), axis=1) + 3 * rng.normal(size=(voxels, n))
    return (walk + rng.uniform(500, 1500, (voxels, 1))).astype(np.float32)


def confounds(n=N, k=9, seed=1):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(size=(n, k)), axis=0) * 10.0 ** rng.uniform(-4, 4, k) + 1e3


def as_nilearn(signal, **options):
    found = clean(signal.T.astype(float), standardize=None, **options).T
    return found - found.mean(axis=1, keepdims=True)  # without detrending it keeps the mean


def unlike_cosines(k=9):
    """Confounds that nilearn does not take for a filter that is already there."""
    return np.random.default_rng(4).normal(size=(N, k)) * 10.0 ** np.arange(-4, k - 4)


RUNS = np.zeros(N, int)


class TestAgainstNilearn:
    def test_confounds_and_line(self):
        signal, other = noise(), confounds()
        found, plain, _ = denoise(signal, {"motion": other}, RUNS, TR, trend=1)
        expected = as_nilearn(signal, confounds=other, detrend=True, filter=False)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        np.testing.assert_array_equal(plain, found)

    def test_cosine_high_pass(self):
        signal, other = noise(), unlike_cosines()
        found = denoise(signal, {"motion": other}, RUNS, TR, trend=0, band=(0.011, 0.5 / TR))[0]
        expected = as_nilearn(
            signal, confounds=other, detrend=False, filter="cosine", high_pass=0.011, t_r=TR
        )
        np.testing.assert_allclose(found, expected, atol=1e-4)

    def test_censored_volumes(self):
        """Cosines are those of the whole run, and only rows are left out."""
        signal, other = noise(), unlike_cosines()
        keep = np.random.default_rng(2).random(N) > 0.2
        signal[:, ~keep] += 1e4
        found = denoise(signal, {"m": other}, RUNS, TR, trend=0, band=(0.01, 0.5 / TR), keep=keep)[
            0
        ]
        expected = as_nilearn(
            signal, confounds=other, detrend=False, filter="cosine", high_pass=0.01, t_r=TR,
            sample_mask=np.flatnonzero(keep),
        )  # fmt: skip
        assert found.shape == (37, keep.sum())
        np.testing.assert_allclose(found, expected, atol=1e-4)

    def test_runs(self):
        signal, other = noise(), confounds()
        runs = np.repeat([0, 1], [70, N - 70])
        found, _, freedom = denoise(signal, {"m": other}, runs, TR, trend=1)
        expected = as_nilearn(signal, confounds=other, detrend=True, filter=False, runs=runs)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert freedom.lost == {"trend": 4, "m": 18, "band": 0}


def sine(frequency, phase, n=188):
    return np.sin(2 * np.pi * (frequency * np.arange(n) * TR + phase))[None]


def passed(frequency, phase, n=188):
    """Amplitude that a sine keeps under the default band."""
    signal = sine(frequency, phase, n)
    found = denoise(1000 + 10 * signal, {}, np.zeros(n, int), TR, band=BAND, trend=1)[0] / 10
    return found.std() / signal.std()


@pytest.mark.parametrize("phase", [0.0, 0.125, 0.25, 0.4])
class TestBand:
    @pytest.mark.parametrize("frequency", [0.013, 0.02, 0.0333, 0.05, 0.075, 0.086])
    def test_sines_inside_stay(self, frequency, phase):
        assert passed(frequency, phase) > 0.9

    @pytest.mark.parametrize("frequency", [0.001, 0.003, 0.105, 0.13, 0.17, 0.22])
    def test_sines_outside_go(self, frequency, phase):
        assert passed(frequency, phase) < 0.15


def test_a_cosine_of_the_basis_is_kept_or_removed_wholly():
    """Numbers 7 to 74 of 188 volumes lie between .008 and .09 Hz; 6 and 75 do not."""
    n = 188
    time = (np.arange(n) + 0.5) / n
    for number, share in [(6, 0.0), (7, 1.0), (74, 1.0), (75, 0.0)]:
        signal = np.cos(np.pi * number * time)[None]
        found = denoise(signal, {}, np.zeros(n, int), TR, band=BAND, trend=0)[0]
        np.testing.assert_allclose(found, share * signal, atol=1e-5)
    assert stop_band(n, TR, BAND).shape == (n, n - 1 - 68)


def test_the_residual_is_orthogonal_to_everything_at_once():
    """Filtering after regression would bring confounds back."""
    signal, other = noise(), confounds()
    found, plain, _ = denoise(signal, {"m": other}, RUNS, TR, band=BAND, trend=2)
    line = np.linspace(-1, 1, N)
    for regressor in [*other.T, line, line**2, *stop_band(N, TR, BAND).T]:
        weight = (regressor - regressor.mean()) / np.linalg.norm(regressor - regressor.mean())
        assert np.abs(found @ weight).max() < 1e-3
    assert np.abs(plain @ ((other[:, 0] - other[:, 0].mean()) / other[:, 0].std())).max() < 1e-2
    assert np.abs(plain @ stop_band(N, TR, BAND)[:, -1]).max() > 1  # the spectrum stays


def test_a_second_way_to_the_same_residual():
    signal, other = noise(), confounds(k=4)
    keep = np.arange(N) % 7 != 3
    design = np.column_stack(
        [np.ones(N), np.arange(N) / N, other / other.std(axis=0), stop_band(N, TR, BAND)]
    )[keep]
    data = signal.T.astype(float)[keep]
    expected = data - design @ np.linalg.lstsq(design, data, rcond=None)[0]
    found, _, freedom = denoise(signal, {"m": other}, RUNS, TR, band=BAND, keep=keep)
    np.testing.assert_allclose(found, expected.T, atol=1e-3)
    assert freedom.left == keep.sum() - np.linalg.matrix_rank(design)


class TestFreedom:
    def test_what_depends_on_others_costs_nothing(self):
        other = confounds(k=3)
        line = np.arange(N) * 5.0 + 3
        doubled = np.column_stack([other, other @ [1, 2, 3], line, np.full(N, 7.1), np.zeros(N)])
        freedom = make_projection({"m": doubled}, RUNS, TR, trend=1).freedom
        assert freedom.lost == {"trend": 2, "m": 3, "band": 0}
        assert freedom.left == N - 5

    def test_parts_count_after_each_other(self):
        other = confounds(k=5)
        parts = {"a": other[:, :3], "b": other[:, 1:]}
        assert make_projection(parts, RUNS, TR).freedom.lost == {
            "trend": 2, "a": 3, "b": 2, "band": 0,
        }  # fmt: skip

    @pytest.mark.parametrize(("n", "fits"), [(MIN_FREEDOM + 5, True), (MIN_FREEDOM + 4, False)])
    def test_edge_of_the_refusal(self, n, fits):
        freedom = make_projection({"m": confounds(n, 3)}, np.zeros(n, int), TR).freedom
        assert (freedom.refusal is None) == fits
        if not fits:
            assert freedom.refusal.startswith(f"29 of {n} volumes' worth")

    @pytest.mark.parametrize(("k", "fits"), [(5, True), (6, False)])
    def test_edge_of_the_refusal_in_the_band(self, k, fits):
        """100 volumes of 2 s hold 15 degrees of freedom beside a trend between .02 and .06 Hz."""
        freedom = make_projection(
            {"m": confounds(100, k)}, np.zeros(100, int), 2.0, band=(0.02, 0.06)
        ).freedom
        assert freedom.left_by_regression == 98 - k
        assert (freedom.refusal is None) == fits
        if fits:
            assert freedom.left == MIN_IN_BAND
            assert freedom.note.startswith("few degrees of freedom: 10 of 100 volumes' worth")
            assert freedom.note.endswith("error of 0.35")
        else:
            assert freedom.refusal.startswith("9 of 100")
            assert "or has a wider band" in freedom.refusal

    def test_plenty_needs_no_note(self):
        freedom = make_projection({"m": confounds(200, 6)}, np.zeros(200, int), TR).freedom
        assert freedom.note == ""

    def test_more_regressors_than_volumes(self):
        freedom = make_projection({"m": confounds(35, 40)}, np.zeros(35, int), TR).freedom
        assert freedom.left == 0
        assert freedom.refusal.startswith("0 of 35")

    @pytest.mark.parametrize("volumes", [30, 31])
    def test_edge_of_too_short(self, volumes):
        keep = np.arange(40) < volumes
        freedom = make_projection({}, np.zeros(40, int), TR, trend=0, keep=keep).freedom
        short = "the series is too short: 40 volumes, 10 of them censored"
        assert (freedom.refusal or "").startswith(short) == (volumes == 30)

    def test_a_run_without_a_volume_left(self):
        runs = np.repeat([0, 1], [40, N - 40])
        found, _, freedom = denoise(noise(), {}, runs, TR, keep=runs == 1)
        assert found.shape == (37, N - 40)
        assert freedom.left == N - 40 - 2


def test_runs_do_not_touch_each_other():
    signal, other = noise(), confounds()
    runs = np.repeat([0, 1], [60, N - 60])
    first = denoise(signal, {"m": other}, runs, TR, band=BAND)[0]
    signal[:, 60:] *= 3
    other[60:] = other[60:][::-1]
    again = denoise(signal, {"m": other}, runs, TR, band=BAND)[0]
    np.testing.assert_array_equal(first[:, :60], again[:, :60])


def test_blocks_do_not_change_the_numbers(monkeypatch):
    signal = noise(101)
    whole = denoise(signal, {"m": confounds()}, RUNS, TR, band=BAND)[0]
    monkeypatch.setattr("alsflow.nodes.func.dvars.BLOCK", 10)
    np.testing.assert_allclose(
        denoise(signal, {"m": confounds()}, RUNS, TR, band=BAND)[0], whole, atol=1e-5
    )


def test_bases_are_orthonormal():
    basis = extended(np.empty((N, 0)), np.column_stack([np.ones(N), np.arange(N)]))
    basis = extended(basis, confounds(k=20))
    np.testing.assert_allclose(basis.T @ basis, np.eye(22), atol=1e-12)


@pytest.mark.parametrize("colour", ["white", "slow"])
def test_correlations_of_noise_are_centred_and_as_wide_as_the_freedom_says(colour):
    """Fisher z of independent noise has standard deviation 1 / sqrt(dof left - 2)."""
    rng = np.random.default_rng(6)
    signal = rng.normal(size=(600, 188))
    if colour == "slow":
        for volume in range(1, 188):
            signal[:, volume] += 0.9 * signal[:, volume - 1]
    runs = np.zeros(188, int)
    found, _, freedom = denoise(signal, {"m": confounds(188, 30)}, runs, TR, band=BAND)
    z = np.arctanh(np.corrcoef(found)[np.triu_indices(600, 1)])
    spread = z.std() * np.sqrt(freedom.left - 2)
    assert abs(z.mean()) < 0.01
    if colour == "white":  # in the band all frequencies are alike
        assert 0.97 < spread < 1.03
    else:
        assert 1.0 < spread < 1.6
