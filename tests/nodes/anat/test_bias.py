"""The field of N4 is the same whatever the number of threads."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name

from alsflow.nodes.anat.bias import n4_field

ZOOMS = np.array([2.0, 2.5, 3.0])


@pytest.fixture
def head():
    """A shaded ball with two tissues and noise, (48, 40, 36), and its mask."""
    rng = np.random.default_rng(3)
    places = (np.indices((48, 40, 36)).T - [24, 20, 18]).T * ZOOMS[:, None, None, None]
    distance = np.sqrt((places**2).sum(axis=0))
    ball = np.where(distance < 25, 180.0, 120.0) * (distance < 42)
    shading = 1 + 0.004 * places[0] - 0.003 * places[2]
    return ball * shading + rng.normal(0, 4, ball.shape) * (ball > 0), distance < 42


@pytest.fixture
def itk_threads():
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    yield sitk.ProcessObject.SetGlobalDefaultNumberOfThreads
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def test_threads_change_nothing(head, itk_threads):
    volume, mask = head
    fields = []
    for number in (1, 2, 5):
        itk_threads(number)
        fields.append(n4_field(volume, ZOOMS, mask))
        assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == number
    np.testing.assert_array_equal(fields[0], fields[1])
    np.testing.assert_array_equal(fields[0], fields[2])


def test_the_shading_is_found(head):
    volume, mask = head
    field = n4_field(volume, ZOOMS, mask)
    inner = mask & (np.abs(volume / field - 120) < 30)
    assert np.ptp(field[mask]) > 0.15
    assert (volume / field)[inner].std() < 0.6 * volume[inner].std()
