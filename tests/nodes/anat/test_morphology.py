"""Radii are millimetres on anisotropic grids; the edge of the image is no edge of the brain."""

import numpy as np
import pytest

from alsflow.nodes.anat.morphology import (
    bounds,
    close_gaps,
    dilate,
    erode,
    largest,
    piece_near,
)

ZOOMS = np.array([1.0, 1.5, 2.0])


def ball(shape, centre, radius):
    points = np.indices(shape) * ZOOMS[:, None, None, None]
    middle = (np.array(centre) * ZOOMS)[:, None, None, None]
    return ((points - middle) ** 2).sum(axis=0) <= radius**2


@pytest.mark.parametrize(("change", "radius"), [(dilate, 16.0), (erode, 8.0)])
def test_balls_stay_balls(change, radius):
    """A ball of 12 mm grows or shrinks by 4 mm on every axis."""
    start = ball((60, 40, 30), (30, 20, 15), 12.0)
    moved = change(start, 4.0, ZOOMS)
    expected = ball((60, 40, 30), (30, 20, 15), radius)
    assert (moved ^ expected).sum() < 0.12 * expected.sum()
    assert abs(moved.sum() / expected.sum() - 1) < 0.1


def test_closing_bridges_a_slit_and_no_more():
    block = np.ones((40, 30, 20), bool)
    block[18:22, :20] = False  # 4 mm wide
    block = np.pad(block, 8)
    assert close_gaps(block, 3.0, ZOOMS)[28, 15, 18]
    assert not close_gaps(block, 1.2, ZOOMS)[28, 15, 18]
    # a brain cut by the edge of the image is not eaten from that edge
    assert close_gaps(np.ones((6, 7, 8), bool), 3.0, ZOOMS).all()


def test_largest_and_nearest_piece():
    mask = ball((60, 40, 30), (12, 20, 15), 8.0)
    small = ball((60, 40, 30), (45, 20, 15), 5.0)
    np.testing.assert_array_equal(largest(mask | small), mask)
    np.testing.assert_array_equal(piece_near(mask | small, small), small)
    assert not piece_near(np.zeros_like(mask), small).any()


def test_bounds_have_a_margin_in_mm():
    mask = ball((60, 40, 30), (30, 20, 15), 6.0)
    box = bounds(mask, 3.0, ZOOMS)
    assert [part.start for part in box] == [21, 14, 10]
    assert [part.stop for part in box] == [40, 27, 21]
