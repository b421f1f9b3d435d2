"""ALFF and fALFF against scipy, against a loop, and where they must say no."""

import numpy as np
import pytest
from scipy import signal, stats

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.alff import check_band, judge_run, measure_alff, standardised

BAND = (0.01, 0.08)


def noise(voxels, volumes, seed=0):
    return np.random.default_rng(seed).normal(100, 7, (voxels, volumes))


def one_run(volumes):
    return np.ones(volumes, bool), np.zeros(volumes, int)


def by_loop(series, tr, band=BAND):
    """ALFF and fALFF of one run without gaps, frequency by frequency."""
    found = []
    n = series.shape[1]
    for row in series:
        row = row - np.polyval(np.polyfit(np.arange(n), row, 1), np.arange(n))
        inside, everywhere = [], []
        for k in range(1, n // 2 + 1):
            wave = np.exp(-2j * np.pi * k * np.arange(n) / n)
            sides = 1 if 2 * k == n else 2
            amplitude = np.sqrt(sides * tr / n) * abs((row * wave).sum())
            everywhere.append(amplitude)
            if band[0] - 1e-9 <= k / (n * tr) <= band[1] + 1e-9:
                inside.append(amplitude)
        found.append((np.mean(inside), np.sum(inside) / np.sum(everywhere)))
    return np.transpose(found)


@pytest.mark.parametrize(("volumes", "tr"), [(150, 2.0), (151, 2.0), (301, 0.72), (90, 3.0)])
def test_equals_a_loop_over_frequencies(volumes, tr):
    series = noise(4, volumes) + np.linspace(0, 50, volumes)  # a trend, which is no fluctuation
    found = measure_alff(series, *one_run(volumes), tr)
    alff, falff = by_loop(series, tr)
    np.testing.assert_allclose(found.alff, alff, rtol=1e-10)
    np.testing.assert_allclose(found.falff, falff, rtol=1e-10)


@pytest.mark.parametrize("volumes", [150, 151])
def test_equals_the_periodogram_of_scipy(volumes):
    series = noise(5, volumes, 1)
    frequencies, power = signal.periodogram(series, fs=0.5, detrend="linear")
    inside = (frequencies >= 0.01 - 1e-9) & (frequencies <= 0.08 + 1e-9)
    found = measure_alff(series, *one_run(volumes), 2.0)
    np.testing.assert_allclose(found.alff, np.sqrt(power)[:, inside].mean(axis=1), rtol=1e-9)


def test_with_gaps_equals_lomb_scargle_of_scipy():
    n, tr = 160, 2.0
    series = noise(3, n, 2)
    kept = np.random.default_rng(3).random(n) > 0.25
    found = measure_alff(series, kept, np.zeros(n, int), tr)
    times = np.flatnonzero(kept) * tr
    frequencies = np.arange(1, n // 2 + 1) / (n * tr)
    inside = (frequencies >= 0.01 - 1e-9) & (frequencies <= 0.08 + 1e-9)
    for row, alff, falff in zip(series, found.alff, found.falff, strict=True):
        values = row[kept]
        values = values - np.polyval(np.polyfit(times, values, 1), times)
        # the wave at Nyquist has no sine at these times, which scipy would divide by 0
        power = np.r_[signal.lombscargle(times, values, 2 * np.pi * frequencies[:-1]), 0]
        at_nyquist = (values * np.cos(np.pi * times / tr)).sum() ** 2 / len(times) / 2
        amplitude = np.sqrt(2 * tr * np.r_[power[:-1], at_nyquist])
        assert alff == pytest.approx(amplitude[inside].mean(), rel=1e-9)
        assert falff == pytest.approx(amplitude[inside].sum() / amplitude.sum(), rel=1e-9)


def test_sines_of_known_size():
    """One of amplitude A fills one frequency: A sqrt(TR n / 2); edges belong to the band."""
    n, tr = 150, 2.0
    times = (np.arange(n) - (n - 1) / 2) * tr  # even about the middle: a line takes nothing
    slow, edge, fast = (a * np.cos(2 * np.pi * f * times) for a, f in
                        ((3, 0.04), (2, 0.08), (5, 0.15)))  # fmt: skip
    found = measure_alff(np.stack([slow, edge, fast, slow + fast]), *one_run(n), tr)
    scale = np.sqrt(tr * n / 2) / 22  # frequencies, 3 to 24 waves per run
    np.testing.assert_allclose(found.alff, np.array([3, 2, 0, 3]) * scale, atol=1e-9)
    np.testing.assert_allclose(found.falff, [1, 1, 0, 3 / 8], atol=1e-9)


def test_runs_are_apart_and_weigh_by_their_length():
    first, second = noise(6, 160, 4), 900 + 3 * noise(6, 100, 5)
    joined = np.concatenate([first, second], axis=1)
    runs = np.repeat([0, 1], [160, 100])
    found = measure_alff(joined, np.ones(260, bool), runs, 2.0)
    parts = [measure_alff(s, *one_run(s.shape[1]), 2.0) for s in (first, second)]
    for name in ("alff", "falff"):
        a, b = (getattr(part, name) for part in parts)
        np.testing.assert_allclose(getattr(found, name), (160 * a + 100 * b) / 260, rtol=1e-12)
    assert found.runs == (0, 1)
    assert found.notes == (
        "run 2 lasts 200 s, fewer than 3 waves of 0.01 Hz: its ALFF rests on few frequencies",
    )


def test_noise_has_one_level_whatever_the_length_and_the_gaps():
    """White noise of SD 7: one-sided density 2 TR 49, mean of a Rayleigh sqrt(pi) / 2."""
    expected = np.sqrt(2 * 2.0 * 49) * np.sqrt(np.pi) / 2
    for volumes, share in ((160, 1.0), (400, 1.0), (400, 0.75)):
        kept = np.random.default_rng(6).random(volumes) < share
        found = measure_alff(noise(800, volumes, 7), kept, np.zeros(volumes, int), 2.0)
        assert found.alff.mean() == pytest.approx(expected, rel=0.02)
        assert found.falff.mean() == pytest.approx(0.28, abs=0.01)


def test_censored_volumes_are_not_read():
    series = noise(4, 160, 8)
    kept = np.ones(160, bool)
    kept[[0, 50, 51, 159]] = False
    spoilt = np.where(kept, series, np.nan)
    found = measure_alff(spoilt, kept, np.zeros(160, int), 2.0)
    assert np.isfinite(found.alff).all()
    whole = measure_alff(series, *one_run(160), 2.0)
    np.testing.assert_allclose(found.alff, whole.alff, rtol=0.1)


def test_series_that_do_not_vary_have_no_value():
    series = noise(3, 160, 9)
    series[1] = 250.0
    found = measure_alff(series, *one_run(160), 2.0)
    assert list(np.isnan(found.alff)) == [False, True, False]
    assert list(np.isnan(found.falff)) == [False, True, False]


def test_many_voxels_are_as_few():
    series = noise(9000, 60, 10)  # more than are done at a time
    found = measure_alff(series, *one_run(60), 2.0)
    again = measure_alff(series[8500:], *one_run(60), 2.0)
    np.testing.assert_allclose(found.alff[8500:], again.alff, rtol=1e-12)


@pytest.mark.parametrize(("band", "tr", "words"), [
    ((0.01, 0.08), 6.3, "holds no frequency above 0.0794 Hz"),
    ((0.08, 0.01), 2.0, "from 0.08 to 0.01 Hz"),
    ((0.0, 0.08), 2.0, "lower edge above 0"),
])  # fmt: skip
def test_bands_that_cannot_be_are_refused(band, tr, words):
    with pytest.raises(BadInputError, match=words):
        check_band(band, tr)


def test_band_up_to_nyquist_is_measured():
    check_band((0.01, 0.08), 6.25)
    series = noise(2, 80, 11)
    assert np.isfinite(measure_alff(series, *one_run(80), 6.25).alff).all()


@pytest.mark.parametrize(("volumes", "band", "left_out", "words"), [
    (49, BAND, True, "lasts 98 s, less than one wave"),
    (50, BAND, False, "lasts 100 s, fewer than 3 waves"),
    (149, BAND, False, "fewer than 3 waves"),
    (150, BAND, False, ""),
    (150, (0.011, 0.013), True, "too few to tell 0.011 from 0.013 Hz"),
])  # fmt: skip
def test_short_runs(volumes, band, left_out, words):
    found, note = judge_run(np.ones(volumes, bool), 2.0, band)
    assert found is left_out
    assert words in note
    assert bool(words) == bool(note)


def test_runs_with_more_gaps_than_volumes_are_left_out():
    kept = np.zeros(160, bool)
    kept[::2] = True
    assert judge_run(kept, 2.0, BAND) == (
        False, "keeps 50 % of its volumes: gaps lower its fALFF"
    )  # fmt: skip
    kept[0] = False
    assert judge_run(kept, 2.0, BAND)[0]
    found = measure_alff(noise(2, 160), kept, np.zeros(160, int), 2.0)
    assert np.isnan(found.alff).all()
    assert found.runs == ()
    assert found.notes == ("run 1 keeps 49 % of its volumes: left out of ALFF",)


def test_many_gaps_are_told_and_few_are_not():
    kept = np.ones(160, bool)
    kept[:16] = False
    assert judge_run(kept, 2.0, BAND) == (False, "")
    kept[16] = False
    assert judge_run(kept, 2.0, BAND)[1].startswith("keeps 89 % of its volumes")


def test_standardised_equals_scipy_without_the_unknown():
    values = np.r_[noise(1, 40)[0], np.nan]
    found = standardised(values)
    np.testing.assert_allclose(found[:-1], stats.zscore(values[:-1], ddof=1), rtol=1e-12)
    assert np.isnan(found[-1])
    assert np.isnan(standardised(np.full(3, 2.0))).all()
