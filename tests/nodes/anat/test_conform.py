"""Every orientation of one head becomes the same volume; what is no head is refused in words."""

import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy.spatial.transform import Rotation

from alsflow.nodes.anat.conform import conform
from alsflow.nodes.errors import BadInputError

SHAPE = (64, 80, 72)
AFFINE = np.diag([2.0, 1.8, 2.2, 1.0])
AFFINE[:3, 3] = [-60.0, -70.0, -80.0]


def head(seed=0):
    return np.random.default_rng(seed).gamma(2.0, 100.0, SHAPE).astype(np.float32)


def reordered(volume, affine, order, flips):
    """The same samples stored with other axes."""
    turned = np.transpose(volume, order)
    matrix = affine[:, [*order, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            turned = np.flip(turned, axis)
            matrix[:3, 3] += matrix[:3, axis] * (turned.shape[axis] - 1)
            matrix[:3, axis] *= -1
    return turned, matrix


@pytest.mark.parametrize(
    ("order", "flips"),
    [
        ((0, 1, 2), (1, 0, 0)),
        ((0, 1, 2), (1, 1, 0)),
        ((2, 0, 1), (0, 1, 1)),
        ((1, 2, 0), (0, 0, 0)),
    ],
)
def test_orientation_does_not_matter(order, flips):
    volume, affine = conform(head(), AFFINE)
    other, other_affine = conform(*reordered(head(), AFFINE, order, flips))
    np.testing.assert_array_equal(volume, other)
    np.testing.assert_allclose(affine, other_affine, atol=1e-9)
    assert volume.dtype == np.float32


def test_an_oblique_head_keeps_its_oblique_affine():
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    volume, affine = conform(head(), turn @ AFFINE)
    np.testing.assert_allclose(affine, turn @ AFFINE)
    np.testing.assert_array_equal(volume, head())


def test_integers_and_small_negatives_are_taken():
    volume = (head() - 5).astype(np.int16)
    found, _ = conform(volume, AFFINE)
    assert found.min() == 0
    np.testing.assert_array_equal(found[volume > 0], volume[volume > 0])


def changed(**places):
    volume = head()
    for value in places.values():
        volume[3, 4, 5] = value
    return volume


def scaled(factor):
    return AFFINE @ np.diag([*factor, 1.0])


def oblique(*edges):
    """Affine of turned voxels of these edges, as a header holds it."""
    turn = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    return np.float64(np.float32(from_matvec(turn @ np.diag(edges), [-60, -90, -70])))


sheared = AFFINE.copy()
sheared[0, 1] = 0.2


@pytest.mark.parametrize(
    ("volume", "affine", "words"),
    [
        (head()[:, :, 0], AFFINE, "three-dimensional"),
        (np.stack([head()] * 2, axis=-1), AFFINE, "64 x 80 x 72 x 2"),
        (head()[:, :, :1], AFFINE, "three-dimensional"),
        (changed(a=np.nan), AFFINE, "not numbers"),
        (changed(a=np.inf), AFFINE, "not numbers"),
        (np.zeros(SHAPE, np.int16), AFFINE, "all zero"),
        (np.full(SHAPE, 7.0), AFFINE, "constant"),
        (-head() - 1, AFFINE, "above zero"),
        ((head() > 200).astype(np.uint8) * 3, AFFINE, "mask or a label"),
        (head().astype(np.complex64), AFFINE, "magnitude"),
        (head(), scaled([1, 1, 3.01 / 2.2]), "at most 3 mm"),
        (head(), scaled([0.1, 1, 1]), "below 0.3 mm"),
        (head()[:49], AFFINE, "covers only 98"),
        (head(), scaled([0, 1, 1]), "no usable orientation"),
        (head(), sheared, "right angles"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(volume, affine, words):
    with pytest.raises(BadInputError, match=words):
        conform(volume, affine)


@pytest.mark.parametrize(
    ("volume", "affine"),
    [
        (head(), scaled([1, 1, 3.0 / 2.2])),
        (head(), oblique(3, 3, 3)),
        (head()[:50], AFFINE),
        (head()[:50], oblique(2, 2, 2)),
    ],
)
def test_the_edge_of_a_refusal_is_still_accepted(volume, affine):
    assert conform(volume, affine)[0].shape == volume.shape
