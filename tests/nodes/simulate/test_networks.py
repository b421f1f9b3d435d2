import numpy as np
import pytest

from alsflow.nodes.simulate.networks import (
    BAND,
    GRID_STEP,
    MODULES,
    MOTOR_Z,
    MOTOR_Z_PER_YEAR,
    OWN,
    SD_MOTOR_Z,
    TOGETHER,
    Loadings,
    draw_motor_z,
    haemodynamic_response,
    label_covariance,
    limit_band,
    mix_labels,
    module_correlation,
    module_mixture,
    motor_correlation,
    motor_limits,
    network_labels,
    population_correlation,
    quasi_periodic,
    sample_z,
    slow_series,
)

OWNERS = {
    5: ("motor", "left"),
    3: ("motor", "right"),
    8: ("sensory", "left"),
    9: ("visual", "right"),
    11: ("motor", "left"),
}


def loadings(*labels, background=(0.0, 0.0)):
    weights = np.zeros(256)
    weights[list(labels)] = 1 + np.arange(len(labels))
    return Loadings(weights, np.array(background))


def test_labels_find_their_network_by_name_and_side():
    names = [(4, "PrG_precentral_gyrus", "right"), (7, "Cuneus", "left"), (9, "Caudate", "")]
    assert network_labels(names) == {4: ("motor", "right")}


@pytest.mark.parametrize("end", [0, 1])
def test_the_motor_sides_may_correlate_up_to_the_limits_and_no_further(end):
    limit = motor_limits()[end]
    assert np.linalg.eigvalsh(module_correlation(limit)).min() > 0
    beyond = limit + (0.01 if end else -0.01)
    assert np.linalg.eigvalsh(module_correlation(beyond)).min() < 0


def test_another_motor_correlation_changes_one_series_only():
    draws = np.random.default_rng(0).standard_normal((200000, len(MODULES)))
    found = [draws @ module_mixture(motor).T for motor in (0.4, 0.8)]
    np.testing.assert_array_equal(found[0][:, :-1], found[1][:, :-1])
    for series, motor in zip(found, (0.4, 0.8), strict=True):
        correlation = np.corrcoef(series.T)
        np.testing.assert_allclose(correlation, module_correlation(motor), atol=0.01)
    i, j = MODULES.index(("motor", "left")), MODULES.index(("sensory", "left"))
    assert correlation[i, j] == pytest.approx(TOGETHER["motor", "sensory"], abs=0.01)


def test_labels_covary_as_written():
    rng = np.random.default_rng(1)
    modules = rng.standard_normal((100000, len(MODULES)))
    own = rng.standard_normal((100000, len(OWNERS)))
    series = mix_labels(modules, own, OWNERS, 0.6)
    expected = label_covariance(OWNERS, 0.6)
    np.testing.assert_allclose(np.cov(series.T), expected, atol=0.015)
    assert expected[5, 11] == pytest.approx(1 - OWN)
    assert expected[5, 3] == pytest.approx(0.6 * (1 - OWN))
    assert not expected[4].any()


def test_the_population_value_is_that_of_many_draws():
    rng = np.random.default_rng(2)
    first, second = loadings(5, 8, background=(0.5, -1)), loadings(3, 9, background=(1, 1))
    found = population_correlation(first, second, label_covariance(OWNERS, 0.6))
    labels = mix_labels(
        rng.standard_normal((200000, len(MODULES))), rng.standard_normal((200000, 5)), OWNERS, 0.6
    )
    background = rng.standard_normal((200000, 2))
    series = [labels @ one.labels + background @ one.background for one in (first, second)]
    assert found == pytest.approx(np.corrcoef(series)[0, 1], abs=0.01)


@pytest.mark.parametrize("z", [0.3, 0.7, 1.0])
def test_a_wanted_z_between_the_regions_is_reached(z):
    left, right = loadings(5, 11, background=(0.2, 0.1)), loadings(3, background=(0.1, -0.2))
    motor = motor_correlation(z, left, right, OWNERS)
    reached = population_correlation(left, right, label_covariance(OWNERS, motor))
    assert np.arctanh(reached) == pytest.approx(z, abs=1e-9)
    assert motor_correlation(3.0, left, right, OWNERS) == motor_limits()[1]
    assert motor_correlation(-3.0, left, right, OWNERS) == motor_limits()[0]


def test_people_differ_in_motor_connectivity_and_disease_scales_it():
    drawn = np.array(
        [draw_motor_z(10.0, -0.3, np.random.default_rng(seed)) for seed in range(2000)]
    )
    np.testing.assert_allclose(drawn[:, 0], 0.7 * drawn[:, 1])
    expected = MOTOR_Z * (1 + 10 * MOTOR_Z_PER_YEAR)
    assert drawn[:, 1].mean() == pytest.approx(expected, abs=4 * SD_MOTOR_Z / np.sqrt(2000))
    assert drawn[:, 1].std() == pytest.approx(SD_MOTOR_Z, rel=0.06)


def test_the_response_peaks_after_five_seconds_and_undershoots():
    time = np.arange(0, 32, 0.1)
    response = haemodynamic_response(time)
    assert time[response.argmax()] == pytest.approx(5, abs=0.1)
    assert 12 < time[response.argmin()] < 18
    assert response.min() < 0


def test_series_are_slow_of_variance_one_and_independent():
    course = slow_series(400, 900.0, np.random.default_rng(3))
    values = course(GRID_STEP * np.arange(len(course.x)))
    assert values.var(axis=0).mean() == pytest.approx(1, rel=0.02)
    power = (np.abs(np.fft.rfft(values, axis=0)) ** 2).mean(1)
    frequency = np.fft.rfftfreq(len(values), GRID_STEP)
    outside = (frequency < BAND[0]) | (frequency > BAND[1])
    assert power[outside].sum() < 1e-6 * power.sum()
    slow, fast = (power[np.abs(frequency - f) < 0.006].mean() for f in (0.018, 0.08))
    expected = [
        np.abs(np.sum(haemodynamic_response(course.x) * np.exp(-2j * np.pi * f * course.x))) ** 2
        / f
        for f in (0.018, 0.08)
    ]
    assert slow / fast == pytest.approx(expected[0] / expected[1], rel=0.25)
    assert np.abs(np.corrcoef(values.T) - np.eye(400)).mean() < 0.15


def test_times_between_the_grid_are_exact_enough():
    """A series is band-limited: its Fourier sum says what lies between."""
    course = slow_series(1, 200.0, np.random.default_rng(4))
    values = course(course.x)[:, 0]
    n, time = len(values), 33.3 + 2.2 * np.arange(20)
    waves = np.fft.rfft(values)
    turns = np.exp(2j * np.pi * np.outer(time, np.arange(len(waves))) / (n * GRID_STEP))
    expected = ((turns * waves).real @ np.where(np.arange(len(waves)) == 0, 1, 2)) / n
    np.testing.assert_allclose(course(time)[:, 0], expected, atol=1e-3)


def test_breathing_has_its_rate():
    phase = quasi_periodic(0.28, 0.02, 400.0, np.random.default_rng(5))
    assert (phase(400.0) - phase(0.0)) / 400 == pytest.approx(0.28, abs=0.01)
    speed = np.diff(phase(np.arange(0, 400, 0.5))) / 0.5
    assert 0.005 < speed.std() < 0.04
    assert speed.min() > 0.15


def test_the_band_of_the_truth_keeps_what_is_in_it():
    n, step = 180, 2.2
    time = step * np.arange(n)
    kept = np.sin(2 * np.pi * 12 / (n * step) * time)  # .030 Hz
    lost = np.sin(2 * np.pi * 60 / (n * step) * time) + 3 + 0.01 * time
    found = limit_band(kept + lost, step)
    np.testing.assert_allclose(found[10:-10], kept[10:-10], atol=0.06)
    np.testing.assert_allclose(limit_band(lost, step), 0, atol=0.05)


def test_a_run_scatters_around_the_population_as_the_page_says():
    """188 volumes at 2.2 s: about .16 of Fisher z, without bias."""
    left, right, n = loadings(5), loadings(3), 188
    motor = motor_correlation(0.7, left, right, OWNERS)
    found = []
    for seed in range(300):
        rngs = np.random.default_rng(seed).spawn(2)
        time = 2.2 * np.arange(n)
        modules = slow_series(len(MODULES), n * 2.2, rngs[0])(time)
        own = slow_series(len(OWNERS), n * 2.2, rngs[1])(time)
        series = limit_band(mix_labels(modules, own, OWNERS, motor)[:, [5, 3]], 2.2)
        found.append(sample_z(*series.T))
    assert np.mean(found) == pytest.approx(0.7, abs=0.03)
    assert np.std(found) == pytest.approx(0.16, abs=0.02)
