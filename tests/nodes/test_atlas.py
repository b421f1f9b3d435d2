"""Checks on the arrays of an atlas."""

import numpy as np

from alsflow.nodes.atlas import centroids, fill_gaps, place_problems, value_problems


def test_gaps_take_the_nearest_label_in_mm_not_in_voxels():
    labels = np.zeros((9, 5, 5), np.int16)
    labels[2, 2, 2], labels[6, 2, 2] = 3, 8
    labels[4, 0, 2] = 5
    affine = np.diag([1.0, 4.0, 2.0, 1.0])  # 5 is near in voxels and far in mm
    filled = fill_gaps(labels, affine, reach=2.0)
    assert filled[3, 2, 2] == 3
    assert filled[5, 2, 2] == 8
    assert filled[4, 1, 2] == 0  # 4 mm from the nearest label
    assert filled[2, 2, 3] == 3  # 2 mm: still within reach
    assert filled.dtype == labels.dtype
    assert (filled[labels > 0] == labels[labels > 0]).all()


def test_centroids_follow_an_oblique_affine_and_the_weights():
    turn = np.array([[0.0, -2, 0, 10], [3, 0, 0, -20], [0, 0, 1, 5], [0, 0, 0, 1]])
    volume = np.zeros((6, 7, 8), np.uint8)
    volume[1, 2, 3] = 4
    centre = centroids([volume], "labels", [4, 9], turn)
    assert set(centre) == {4}
    np.testing.assert_allclose(centre[4], [-4 + 10, 3 - 20, 3 + 5])
    volume[1, 4, 3] = 12
    weighted = centroids([volume], "probability", [0], turn)[0]
    np.testing.assert_allclose(weighted, [-2 * (2 + 3 * 4) / 4 + 10, -17, 8])


def test_a_label_on_the_midline_has_no_wrong_side():
    centres = {1: np.array([9.0, 0, 0]), 2: np.array([9.0, 0, 0]), 3: np.array([9.0, 0, 0])}
    names = {1: "a", 2: "b", 3: "c"}
    problems = place_problems(centres, names, {1: "left", 2: "right", 3: ""})
    assert len(problems) == 1
    assert "label 1 (a) is called left" in problems[0]


def test_values_not_a_number_are_refused():
    volume = np.full((2, 2, 2), np.nan)
    assert value_problems([volume], "labels", {1: "a"})
    assert value_problems([volume], "probability", {0: "a"})


def test_probabilities_that_are_no_percent_are_refused():
    """Read as percent, a share of 1 would be 1 %: every tract would lose its voxels."""
    volume = np.linspace(0, 1, 27).reshape(3, 3, 3)
    (problem,) = value_problems([volume], "probability", {0: "a"})
    assert "percent" in problem
    assert value_problems([100 * volume], "probability", {0: "a"}) == []
