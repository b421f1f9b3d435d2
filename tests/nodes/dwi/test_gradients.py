"""Tables of gradients: what is taken, what is mended with a note, what is refused in words."""

import numpy as np
import pytest

from alsflow.nodes.dwi.gradients import (
    B0_MAX,
    Gradients,
    check_gradients,
    distinct_directions,
    fsl_bvecs,
    protocols_agree,
    shells,
    spans,
    tensor_volumes,
    world_directions,
)
from alsflow.nodes.errors import BadInputError

N = 14


def directions(n, seed=0):
    found = np.random.default_rng(seed).normal(size=(n, 3))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def table(n=N, b=1000.0):
    """2 volumes of b=0, `n` - 2 of one shell."""
    bvals = np.full(n, b)
    bvals[[0, 7]] = 0
    bvecs = directions(n).T
    bvecs[:, bvals == 0] = 0
    return bvals, bvecs


def joined(*parts):
    """Weighting of shells (b, number)."""
    bvals = np.concatenate([np.full(n, float(b)) for b, n in parts])
    vectors = directions(len(bvals), 3)
    vectors[bvals <= B0_MAX] = 0
    return Gradients(bvals, vectors)


def test_a_sound_table_is_returned_as_it_is():
    bvals, bvecs = table()
    found = check_gradients(bvals, bvecs, N)
    np.testing.assert_array_equal(found.bvals, bvals)
    np.testing.assert_allclose(found.bvecs, bvecs, atol=1e-12)
    assert found.notes == ()


def test_columns_for_rows_are_taken():
    bvals, bvecs = table()
    found = check_gradients(bvals[None], bvecs.T, N)
    np.testing.assert_allclose(found.bvecs, bvecs, atol=1e-12)


def test_two_decimals_are_normalised_without_a_word():
    bvals, bvecs = table()
    found = check_gradients(bvals, bvecs.round(2), N)
    np.testing.assert_allclose(np.linalg.norm(found.bvecs[:, bvals > 0], axis=0), 1)
    assert found.notes == ()


def test_vectors_of_b0_volumes_do_not_matter():
    bvals, bvecs = table()
    bvals[0], bvecs[:, 0] = 1.25, np.nan
    bvecs[:, 7] = [5, 5, 5]
    found = check_gradients(bvals, bvecs, N)
    assert not found.bvecs[:, [0, 7]].any()


def test_length_that_repeats_the_b_value_is_brought_to_one():
    bvals, bvecs = table()
    bvals[8:] = 2000
    found = check_gradients(bvals, bvecs * np.sqrt(bvals / 2000), N)
    np.testing.assert_allclose(found.bvecs, bvecs, atol=1e-12)
    np.testing.assert_array_equal(found.bvals, bvals)
    assert "repeated" in found.notes[0]


def test_length_that_holds_the_b_value_is_taken_as_such_with_a_note():
    bvals, bvecs = table()
    true = bvals.copy()
    true[8:] = 2000
    nominal = np.where(bvals > 0, 2000.0, 0)
    found = check_gradients(nominal, bvecs * np.sqrt(true / 2000), N)
    np.testing.assert_allclose(found.bvals, true)
    np.testing.assert_allclose(found.bvecs, bvecs, atol=1e-12)
    assert "squared length" in found.notes[0]
    assert "1000 to 2000" in found.notes[0]


def changed(**changes):
    bvals, bvecs = table()
    for name, (where, value) in changes.items():
        {"bvals": bvals, "bvecs": bvecs}[name][where] = value
    return bvals, bvecs


flat = table()[1].copy()
flat[2] = 0
flat /= np.maximum(np.linalg.norm(flat, axis=0), 1e-9)
cone = table()[1].copy()
cone[2] = np.linalg.norm(cone[:2], axis=0) * np.sign(cone[2])
cone /= np.maximum(np.linalg.norm(cone, axis=0), 1e-9)
five = np.tile(directions(5, 4).T, 3)[:, :N]
crooked = table()[1] * np.linspace(0.5, 2, N)


@pytest.mark.parametrize(
    ("bvals", "bvecs", "words"),
    [
        (table(13)[0], table()[1], "13 b-values for 14 volumes"),
        (table()[0], table(13)[1], "13 b-vectors for 14 volumes"),
        (table()[0], table(13)[1].T, "13 b-vectors for 14 volumes"),
        (table()[0], table()[1][:2], "shape 2 x 14"),
        (*changed(bvals=(3, np.nan)), "b-values that are not numbers (volume 3, counting from 0)"),
        (*changed(bvals=(3, -5.0)), "negative b-values"),
        (*changed(bvecs=((0, [2, 5]), np.nan)), "not numbers (volumes 2, 5, counting"),
        (*changed(bvecs=((slice(None), 4), 0)), "length zero on diffusion-weighted volumes (vol"),
        (table()[0] / 1000, table()[1], "multiply the b-values by 1000"),
        (table()[0] * 1e6, table()[1], "check their unit"),
        (np.zeros(N), table()[1], "b=0 volumes only (14)"),
        (*changed(bvals=([0, 7], 60.0)), "no b=0 volume (the lowest b-value is 60"),
        (table()[0], five, "5 distinct gradient directions, and a tensor needs 6"),
        (table()[0], flat, "in one plane or cone"),
        (table()[0], cone, "in one plane or cone"),
        (table()[0], crooked, "length is not 1"),
    ],
)
def test_what_is_no_use_is_refused_in_words(bvals, bvecs, words):
    with pytest.raises(BadInputError) as caught:
        check_gradients(bvals, bvecs, N)
    assert words in str(caught.value)


def test_edges_of_the_refusals():
    bvals, bvecs = changed(bvals=([0, 7], B0_MAX))
    assert len(check_gradients(bvals, bvecs, N).bvals) == N
    six = np.c_[np.zeros(3), directions(6, 2).T]
    check_gradients([0] + [700] * 6, six, 7)
    opposite = np.c_[np.zeros(3), directions(5, 2).T, -directions(5, 2).T]
    with pytest.raises(BadInputError, match="5 distinct"):
        check_gradients([0] + [700] * 10, opposite, 11)


def test_b0_alone_passes_where_no_tensor_is_wanted():
    found = check_gradients(np.zeros(3), np.zeros((3, 3)), 3, weighted=False)
    assert not found.bvecs.any()


def test_repeats_and_opposites_are_one_direction():
    some = directions(7)
    assert len(distinct_directions(np.r_[some, -some, some])) == 7
    assert spans(some)
    assert not spans(np.r_[some[:5], -some[:5]])


def test_shells_follow_the_gaps():
    bvals = [1000, 0, 2010, 995, 5, 1005, 1990, 60]
    found = shells(np.array(bvals, float))
    assert [s.b for s in found] == [2.5, 60, 1000, 2000]
    np.testing.assert_array_equal(found[2].volumes, [0, 3, 5])
    assert [len(s.volumes) for s in shells(np.array([1000.0, 1080.0, 1159.0]))] == [1, 2]


def test_the_tensor_takes_low_shells():
    found = tensor_volumes(joined((0, 2), (700, 8), (1500, 8), (2500, 20)))
    np.testing.assert_array_equal(found.volumes, np.arange(18))
    assert found.b_used == (700, 1500)
    assert found.note == ""


def test_a_single_higher_shell_is_used_with_a_warning():
    found = tensor_volumes(joined((0, 1), (2500, 20)))
    assert len(found.volumes) == 21
    assert "2500" in found.note
    # three directions at b=1000 are a trace, not a tensor
    found = tensor_volumes(joined((0, 1), (1000, 3), (2000, 20), (3000, 20)))
    assert found.b_used == (2000,)
    assert len(found.volumes) == 21


def test_shells_that_do_not_span_are_refused():
    with pytest.raises(BadInputError, match="determine a tensor"):
        tensor_volumes(joined((0, 1), (1000, 4), (2000, 5)))


def test_protocols():
    ours = joined((0, 1), (1000, 20))
    assert protocols_agree(ours, joined((0, 3), (1010, 12)))[0]
    assert protocols_agree(ours, joined((0, 3)))[0]
    agree, why = protocols_agree(ours, joined((0, 1), (1000, 10), (2000, 10)))
    assert not agree
    assert "b = 1000 s/mm² and another with b = 1000, 2000" in why


@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_world_and_back_on_an_oblique_grid(mirror):
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1.5 * mirror, 2.0, 2.7])
    bvecs = directions(9).T
    np.testing.assert_allclose(fsl_bvecs(world_directions(bvecs, affine), affine), bvecs)


def test_first_vector_of_radiological_storage_points_along_the_first_voxel_axis():
    """FSL's convention, by hand: in LAS storage a vector (1, 0, 0) points to the left."""
    las = np.diag([-2.0, 2.0, 2.0, 1.0])
    np.testing.assert_allclose(world_directions(np.eye(3), las), np.diag([-1.0, 1, 1]))
    ras = np.diag([2.0, 2.0, 2.0, 1.0])
    np.testing.assert_allclose(world_directions(np.eye(3), ras), np.diag([-1.0, 1, 1]))
