"""Every storage of one series becomes the same; what is no series is refused in words."""

import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy.spatial.transform import Rotation

from alsflow.nodes.epi.series import conform_series
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import same_grid, voxel_sizes

SHAPE = (10, 12, 8, 5)
AFFINE = np.diag([2.0, 1.8, 2.5, 1.0])
AFFINE[:3, 3] = [-10.0, -20.0, 5.0]


def series():
    return np.random.default_rng(0).gamma(2.0, 100.0, SHAPE).astype(np.float32)


def changed(where, value):
    signal = series()
    signal[where] = value
    return signal


def test_orientation_does_not_matter():
    turned = np.transpose(series(), (2, 0, 1, 3))[:, ::-1]
    affine = AFFINE[:, [2, 0, 1, 3]].copy()
    affine[:3, 3] += affine[:3, 1] * (SHAPE[0] - 1)
    affine[:3, 1] *= -1
    signal, found = conform_series(turned, affine)
    np.testing.assert_array_equal(signal, series())
    np.testing.assert_allclose(found, AFFINE, atol=1e-9)
    assert signal.dtype == np.float32


def test_integers_and_negatives_are_taken():
    signal, _ = conform_series((series() - 20).astype(np.int16), AFFINE)
    assert signal.min() == 0


@pytest.mark.parametrize(
    ("signal", "affine", "words"),
    [
        (series()[..., 0], AFFINE, "4-D series"),
        (series()[:, :, :2], AFFINE, "fewer than 3 slices"),
        (series(), AFFINE @ np.diag([1, 1, 3, 1]), "2 x 1.8 x 7.5 mm"),
        (series(), AFFINE @ np.diag([0.2, 1, 1, 1]), "correct the voxel size"),
        (series(), AFFINE * [[np.nan], [1], [1], [1]], "no usable orientation"),
        (series().astype(complex), AFFINE, "magnitude"),
        (changed((1, 2, 3, [1, 4]), np.nan), AFFINE, "volumes 1, 4, counting from 0"),
        (changed((..., 2), 7), AFFINE, "constant or empty in volume 2, counting from 0"),
    ],
)
def test_what_is_no_use_is_refused_in_words(signal, affine, words):
    with pytest.raises(BadInputError) as caught:
        conform_series(signal, affine)
    assert words in str(caught.value)


@pytest.mark.parametrize("edge", [0.5, 6])
def test_the_edge_of_a_refusal_is_still_accepted(edge):
    turn = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    affine = np.float64(np.float32(from_matvec(turn * edge, [-30, -40, 5])))  # as in a header
    assert np.abs(voxel_sizes(affine) - edge).max() > 0
    assert conform_series(series(), affine)[0].shape == SHAPE


def test_grids_are_compared_at_their_corners():
    turned = AFFINE.copy()
    turned[0, 1] = 0.02  # .22 mm at the far edge
    assert same_grid(SHAPE, AFFINE, SHAPE, AFFINE + 1e-3 * np.eye(4))
    assert not same_grid(SHAPE, AFFINE, SHAPE, turned)
    assert not same_grid(SHAPE, AFFINE, (10, 12, 9, 5), AFFINE)
