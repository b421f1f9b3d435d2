"""What is a usable functional series, and the edge of each refusal."""

import numpy as np
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.series import conform_bold

SHAPE = (7, 8, 9)
AFFINE = np.diag([-3.0, 3.2, 3.5, 1.0])


def series(n=20, seed=0):
    rng = np.random.default_rng(seed)
    return (500 + 20 * rng.standard_normal((*SHAPE, n))).astype(np.float32)


def test_volumes_are_dropped_and_axes_turned():
    signal = series()
    found, affine = conform_bold(signal, AFFINE, 4)
    np.testing.assert_array_equal(found, signal[::-1, :, :, 4:])
    assert found.dtype == np.float32
    assert affine[0, 0] == 3.0
    assert affine[0, 3] == -3.0 * (SHAPE[0] - 1)


def test_twenty_volumes_less_four_are_enough_and_ten_are_not():
    assert conform_bold(series(20), AFFINE, 4)[0].shape[3] == 16
    with pytest.raises(BadInputError, match="has 20 volumes, 15 once the first 5 are dropped"):
        conform_bold(series(20), AFFINE, 5)
    with pytest.raises(BadInputError, match="has 10 volumes, and at least 16 are needed"):
        conform_bold(series(10), AFFINE, 0)


def spoilt(kind):
    signal = series()
    if kind == "nan":
        signal[1, 2, 3, 7] = np.nan
    elif kind == "inf":
        signal[1, 2, 3, 7] = np.inf
    elif kind == "empty volume":
        signal[..., 9] = 0
    elif kind == "flat volume":
        signal[..., 9] = 7
    elif kind == "still":
        signal[:] = signal[..., :1]
    elif kind == "zero":
        signal[:] = 0
    elif kind == "demeaned":
        signal -= signal.mean(axis=3, keepdims=True)
    elif kind == "complex":
        return signal.astype(np.complex64)
    elif kind == "huge":
        signal *= 1e20
    elif kind == "colour":
        return np.zeros((*SHAPE, 20), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    elif kind == "flat image":
        return signal[..., 0]
    elif kind == "five axes":
        return signal[..., None, :]
    return signal


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nan", "not numbers .* in volume 7, counting from 0"),  # as stored
        ("inf", "not numbers"),
        ("empty volume", "constant or empty in volume 9"),
        ("flat volume", "constant or empty"),
        ("still", "does not change from volume to volume"),
        ("zero", "constant or empty"),
        ("demeaned", "no series of magnitudes: 50%"),
        ("complex", "one real intensity"),
        ("colour", "one real intensity"),
        ("huge", "no intensities of an image"),
        ("flat image", "not a series"),
        ("five axes", "not a series"),
    ],
)
def test_what_is_no_series_is_refused(kind, words):
    with pytest.raises(BadInputError, match=words):
        conform_bold(spoilt(kind), AFFINE, 4)


def test_a_little_below_zero_is_set_to_zero():
    """As filters of the scanner leave it in air."""
    signal = series()
    signal[0] = -5
    found, _ = conform_bold(signal, AFFINE, 0)
    assert (found[-1] == 0).all()
    assert found[:-1].min() > 0


def test_integers_are_fine():
    signal = series().astype(np.int16)
    np.testing.assert_array_equal(conform_bold(signal, np.diag([3, 3, 3, 1.0]), 0)[0], signal)
