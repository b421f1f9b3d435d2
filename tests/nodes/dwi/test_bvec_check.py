"""Every permutation and flip of a table is recognised on bundles that curve, and only there."""

from itertools import permutations, product

import numpy as np
import pytest

from alsflow.nodes.dwi.bvec_check import check_bvecs, mend, transforms
from alsflow.nodes.dwi.gradients import Gradients, fsl_bvecs, world_directions

SHAPE = (36, 32, 30)
TURN = np.array([[0.96, -0.25, 0.1], [0.26, 0.96, -0.05], [-0.08, 0.08, 0.99]])
TURN = np.linalg.svd(TURN)[0] @ np.linalg.svd(TURN)[2]
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN * [2.5, 2.8, 3.0]
SIGNED = [
    np.eye(3, dtype=int)[list(order)] * np.array(signs)[:, None]
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]


def scheme(n=20, b0=2):
    world = np.random.default_rng(2).normal(size=(n + b0, 3))
    world /= np.linalg.norm(world, axis=1, keepdims=True)
    world[:b0] = 0
    return Gradients(np.r_[np.zeros(b0), np.full(n, 1000.0)], world)


def rings():
    """Directions (x, y, z, 3) in the world along three rings in three planes, 0 elsewhere."""
    points = np.moveaxis(np.indices(SHAPE), 0, -1) * [2.5, 2.8, 3.0]
    direction = np.zeros((*SHAPE, 3))
    for axis, centre in ((0, (20, 30, 60)), (1, (60, 30, 45)), (2, (35, 62, 30))):
        offset = points - centre
        height = offset[..., axis].copy()
        offset[..., axis] = 0
        radius = np.linalg.norm(offset, axis=-1)
        inside = np.hypot(height, radius - 18) < 6
        along = np.cross(np.eye(3)[axis], offset / np.maximum(radius, 1)[..., None])
        direction[inside] = along[inside]
    return direction @ TURN.T


def straight():
    """One bundle along the third voxel axis, cut by the image: flips cannot be seen in it."""
    direction = np.zeros((*SHAPE, 3))
    direction[8:28, 8:24] = TURN[:, 2]
    return direction


def series(direction, sigma=20.0, seed=0):
    weighting, rng = scheme(), np.random.default_rng(seed)
    bundle = np.linalg.norm(direction, axis=-1) > 0
    squared = (direction @ weighting.directions.T) ** 2
    fibre = 3e-4 + 1.4e-3 * squared
    decay = np.where(bundle[..., None], fibre, 0.8e-3)
    signal = 500 * np.exp(-weighting.bvals * decay)
    noise = rng.normal(0, sigma, (2, *signal.shape))
    return np.hypot(signal + noise[0], noise[1])


@pytest.fixture(scope="module")
def phantom():
    return series(rings())


def spoilt(matrix):
    """The true table with the rows of its bvec file multiplied by a signed permutation."""
    true = scheme()
    rows = matrix @ fsl_bvecs(true.directions, AFFINE)
    return Gradients(true.bvals, world_directions(rows, AFFINE))


@pytest.mark.parametrize("matrix", SIGNED, ids=lambda m: "".join(f"{v:+d}"[0:2] for v in m.sum(1)))
def test_every_permutation_and_flip_is_recognised(phantom, matrix):
    check = check_bvecs(phantom, AFFINE, spoilt(matrix), np.ones(SHAPE, bool))
    undone = check.matrix @ matrix
    assert (undone == np.eye(3)).all() or (undone == -np.eye(3)).all()
    same = (matrix == np.eye(3)).all() or (matrix == -np.eye(3)).all()
    assert check.verdict == ("right" if same else "wrong")


def test_the_mend_names_rows_of_the_stored_file(phantom):
    """The file is stored with other axes than the array that is looked at."""
    stored = AFFINE[:, [2, 0, 1, 3]] * [1, -1, 1, 1]
    true = scheme()
    rows = fsl_bvecs(true.directions, stored)
    rows = np.stack([rows[1], -rows[0], rows[2]])
    table = Gradients(true.bvals, world_directions(rows, stored))
    check = check_bvecs(phantom, AFFINE, table, np.ones(SHAPE, bool), stored)
    mended = world_directions(check.matrix @ rows, stored)
    np.testing.assert_allclose(np.abs((mended * true.directions).sum(1)), true.bvals > 0)
    assert "exchange the rows" in check.sentence


@pytest.mark.parametrize(
    ("direction", "sigma"), [(straight(), 20.0), (np.zeros((*SHAPE, 3)), 60.0)]
)
@pytest.mark.parametrize("matrix", [np.eye(3, dtype=int), np.diag([1, -1, 1])])
def test_weak_evidence_gives_no_alarm(direction, sigma, matrix):
    signal = series(direction, sigma)
    check = check_bvecs(signal, AFFINE, spoilt(matrix), np.ones(SHAPE, bool))
    assert check.verdict == "cannot tell"
    assert "do not tell" in check.sentence


def test_a_table_in_another_order_is_no_flip(phantom):
    """Weighted volumes exchanged: directions are wrong, but no flip mends them."""
    true = scheme()
    order = np.r_[0, 1, np.random.default_rng(4).permutation(20) + 2]
    check = check_bvecs(phantom, AFFINE, true[order], np.ones(SHAPE, bool))
    assert check.verdict == "cannot tell"
    assert "do not follow their table" in check.sentence


def test_samples_beyond_the_field_of_view_do_not_count(phantom):
    """Zeros, as motion correction leaves them, look like the strongest fibres of all."""
    signal = phantom.copy()
    signal[:, :, :3, 4:9] = 0
    signal[:4, :, :, 15:] = 0
    check = check_bvecs(signal, AFFINE, scheme(), np.ones(SHAPE, bool))
    assert check.verdict == "right"


def test_there_are_24_and_the_given_table_is_the_first():
    found = transforms()
    assert len(found) == 24
    np.testing.assert_array_equal(found[0], np.eye(3))
    assert len({abs(hash((m.tobytes(),))) for m in (*found, *(-m for m in found))}) == 48


def test_mend_in_words():
    flip = mend(np.diag([1, -1, 1]))
    assert flip == "flip the sign of y: multiply row 2 of the bvec file by -1"
    turned = mend(np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]))
    assert "new row 1 = row 2, row 2 = -row 1, row 3 = row 3 of the old file" in turned
