"""Slices acquired at different times, brought to one."""

import numpy as np
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.slice_timing import check_slice_times, correct_slice_timing, shifted

TR = 1.5  # s
MULTIBAND = np.array([0.0, 0.75, 0.25, 1.0, 0.5, 1.25] * 2)
SLICES = len(MULTIBAND)


def waves(frequency, count=120, axis=2, times=MULTIBAND):
    """Sines of many phases sampled slice by slice, and as they are at the middle of the TR."""
    shape = [5, 4, 3]
    shape[axis] = SLICES
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, shape)
    late = np.reshape(times, [SLICES if a == axis else 1 for a in range(3)] + [1])
    start = TR * np.arange(count)
    level = 1000 + 0.3 * start  # a drift of the scanner

    def at(moment):
        angle = 2 * np.pi * frequency * (start + moment) + phases[..., None]
        return (level + 0.3 * moment + 10 * np.sin(angle)).astype(np.float32)

    return at(late), at(TR / 2)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    ("frequency", "ends"), [(0.01, 2), (0.05, 6), (0.1, 8), (0.2, 15), (0.25, 25)]
)
def test_a_sine_is_shifted_to_one_percent(axis, frequency, ends):
    """Up to three quarters of half the sampling rate; multiband times, any slice axis."""
    measured, truth = waves(frequency, axis=axis)
    found = correct_slice_timing(measured, MULTIBAND, TR, axis)
    inner = slice(ends, -ends)
    assert np.abs(measured - truth)[..., inner].max() > 0.3
    assert np.abs(found - truth)[..., inner].max() < 0.1


def test_the_ends_of_slow_waves_are_right():
    """The first and last volume are the reflection's guess: good below .03 Hz."""
    measured, truth = waves(0.03)
    found = correct_slice_timing(measured, MULTIBAND, TR)
    assert np.abs(found - truth).max() < 0.5
    assert np.abs(measured - truth).max() > 1.3


def test_delay_of_a_sine_is_recovered_to_one_percent():
    """From the phase at its frequency, whole periods, ends included."""
    count, late = 100, 0.6  # volumes, s
    start = TR * np.arange(count)
    frequency = 5 / (count * TR)
    series = np.sin(2 * np.pi * frequency * (start + late))[None]
    moved = shifted(series, -late / TR)
    before, after = (np.angle(np.fft.rfft(x[0])[5]) for x in (series, moved))
    found = (before - after) / (2 * np.pi * frequency)
    assert found == pytest.approx(late, rel=0.01)


def test_lines_and_constants_stay_lines():
    line = np.stack([np.full(30, 7.0), 3 + 0.5 * np.arange(30)])
    moved = shifted(line, 0.4)
    np.testing.assert_allclose(moved, line + [[0], [0.2]], atol=1e-5)


def test_agrees_with_the_sum_of_sincs():
    """A second implementation, in the middle of a long band-limited series."""
    rng = np.random.default_rng(2)
    count = 2000
    spectrum = np.fft.rfft(rng.normal(size=count))
    spectrum[int(0.7 * len(spectrum)) :] = 0
    series = np.fft.irfft(spectrum, count)
    place = np.arange(900, 1100) + 0.37
    expected = np.sinc(place[:, None] - np.arange(count)) @ series
    np.testing.assert_allclose(shifted(series, 0.37)[900:1100], expected, atol=5e-3)


def test_nothing_crosses_the_border_of_a_run():
    measured, _ = waves(0.05, count=60)
    other = measured.copy()
    other[..., 40:] += 500
    runs = np.repeat([0, 1], [40, 20])
    first = correct_slice_timing(measured, MULTIBAND, TR, runs=runs)
    second = correct_slice_timing(other, MULTIBAND, TR, runs=runs)
    np.testing.assert_array_equal(first[..., :40], second[..., :40])
    alone = correct_slice_timing(measured[..., 40:], MULTIBAND, TR)
    np.testing.assert_array_equal(first[..., 40:], alone)


def test_a_slice_at_the_reference_time_is_untouched():
    measured, _ = waves(0.1, count=20)
    found = correct_slice_timing(measured, MULTIBAND, TR, reference_time=0.25)
    at = MULTIBAND == 0.25
    np.testing.assert_array_equal(found[:, :, at], measured[:, :, at])
    assert np.abs(found - measured)[:, :, ~at].max() > 0.5


@pytest.mark.parametrize(
    ("times", "reference", "words"),
    [
        (MULTIBAND[:-1], 0.75, "11 slice times for 12 slices"),
        (MULTIBAND - 0.001, 0.75, "negative slice time"),
        (MULTIBAND + 0.26, 0.75, "longer than its repetition time"),
        (1000 * MULTIBAND, 0.75, "seconds"),
        (MULTIBAND * np.nan, 0.75, "not numbers"),
        (MULTIBAND, 1.6, "reference time"),
        (MULTIBAND, -0.1, "reference time"),
    ],
)
def test_refusals(times, reference, words):
    with pytest.raises(BadInputError, match=words):
        check_slice_times(times, TR, SLICES, reference)


def test_the_edge_of_the_refusals():
    check_slice_times(MULTIBAND + 0.25, TR, SLICES, TR)  # the last slice at the very end
    measured, _ = waves(0.1, count=4)
    correct_slice_timing(measured, MULTIBAND, TR)
    with pytest.raises(BadInputError, match="run of 3 volumes"):
        correct_slice_timing(measured[..., :3], MULTIBAND, TR)
