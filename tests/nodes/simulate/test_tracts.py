import numpy as np
import pytest
from scipy.spatial import cKDTree

from alsflow.nodes.geometry import apply_affine
from alsflow.nodes.simulate.tracts import (
    MEASURED,
    TRACTS,
    principal_directions,
    sample_lattice,
    tract_curves,
    tract_labels,
    tract_masks,
)


def at(*points):
    return np.array(points, float).T


@pytest.mark.parametrize(
    ("point", "axis"),
    [
        ((24.5, -19, 14), 2),  # corticospinal tract, upper capsule
        ((-24.5, -19, 14), 2),
        ((5.5, -21, -30), 2),  # and in the pons
        ((0, -9, 26), 0),  # body of the callosum
        ((0, 28, 8), 0),  # its genu
        ((37, -44, 30), 1),  # superior longitudinal fasciculus
        ((8, 0, 36), 1),  # cingulum
    ],
)
def test_fibres_run_as_anatomy_has_them(bundles, point, axis):
    direction = principal_directions(bundles, at(point))[0]
    assert np.linalg.norm(direction) == pytest.approx(1)
    assert np.argmax(np.abs(direction)) == axis
    assert np.abs(direction[axis]) > 0.85


def test_left_mirrors_right(bundles):
    rng = np.random.default_rng(0)
    right = rng.uniform((2, -70, -30), (50, 40, 60), (300, 3)).T
    left = right * np.array([[-1], [1], [1]])
    there, mirrored = (principal_directions(bundles, points) for points in (right, left))
    alike = np.abs((there * mirrored * (-1, 1, 1)).sum(1))
    assert np.quantile(alike, 0.02) > 0.999
    np.testing.assert_allclose(
        sample_lattice(bundles, bundles.membership, right),
        sample_lattice(bundles, bundles.membership, left),
        atol=1e-4,
    )


def test_a_tract_holds_its_curves_and_not_what_is_far(bundles):
    for place, tract in enumerate(TRACTS.values()):
        points, directions, radii = tract_curves(tract)
        np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
        assert 2 <= radii.min() <= radii.max() < 6
        member = sample_lattice(bundles, bundles.membership, points.T)[:, place]
        assert member.mean() > (0.9 if place == 0 else 0.55)  # the first ones come first
        lattice = np.argwhere(bundles.membership[..., place] > 0.5).T
        inside = apply_affine(bundles.affine, lattice)
        nearest, _ = cKDTree(points).query(inside.T)
        assert nearest.max() <= radii.max() + 1e-6


def test_tracts_share_no_place(bundles):
    total = bundles.membership.sum(-1)
    assert bundles.membership.min() >= 0
    assert total.max() <= 1 + 1e-6
    assert (bundles.membership.max(-1) > 0.5).sum() > 10000


def test_the_corticospinal_tract_runs_from_the_cortex_to_the_medulla():
    points, _, _ = tract_curves(TRACTS["corticospinal_tract"])
    assert points[:, 2].max() > 60
    assert points[:, 2].min() < -55
    capsule = points[np.abs(points[:, 2] - 8) < 1]
    assert (np.abs(np.abs(capsule[:, 0]) - 24) < 2).all()


def test_masks_lie_on_their_side_in_white_matter(bundles):
    affine = np.diag([-3.0, 3.0, 3.5, 1.0])  # stored from right to left
    affine[:3, 3] = (75, -110, -66)
    white = np.ones((51, 62, 42), bool)
    white[:, :, :4] = False
    masks, own = tract_masks(bundles, white, affine)
    rows = tract_labels()
    assert masks.shape[3] == len(rows)
    assert (np.array(masks.shape[:3]) <= white.shape).all()
    assert {row["region"] for row in rows} == {*MEASURED, ""}
    for row in rows:
        places = apply_affine(own, np.argwhere(masks[..., row["index"]]).T)
        assert places.shape[1] > 20
        assert row["side"] != "left" or (places[0] < 0).all()
        assert row["side"] != "right" or (places[0] > 0).all()
        lattice = apply_affine(np.linalg.inv(affine), places)
        assert (np.rint(lattice[2]) >= 4).all()  # no white matter below
    names = [row["name"] for row in rows]
    assert "Corticospinal_L" in names
    assert len(set(names)) == len(names)
