"""Echo-planar images are found on the head that they belong to."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from alsflow.nodes.epi.coregister import (
    Boundary,
    boundary,
    contrast_across,
    coregister,
    judge,
    quality,
    ranked,
    rigid,
    scattered,
    unexplained,
)
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.brain_mask import find_brain
from alsflow.nodes.geometry import apply_affine, grid_points
from alsflow.nodes.simulate.anatomy import Traits, grow_anatomy
from alsflow.nodes.simulate.labels import cut_labels
from alsflow.nodes.simulate.scanner import CONTRAST, Scanner, scan

# b=0 at 3 T: CSF brightest, grey above white, fat suppressed
SPIN_ECHO = CONTRAST | {
    "skin": (0.15, 0.02), "fat": (0.1, 0.02), "marrow": (0.1, 0.02), "muscle": (0.35, 0.04),
    "eye": (2.2, 0.05), "csf": (2.6, 0.1), "ventricle": (2.8, 0.05), "cortex": (1.3, 0.04),
    "striatum": (1.2, 0.03), "thalamus": (1.2, 0.03), "pallidum": (0.8, 0.03),
    "white": (1.0, 0.04), "brainstem": (1.05, 0.04), "spinal_csf": (2.4, 0.1),
}  # fmt: skip
EPI = Scanner(noise=0.05, non_uniformity=0.5, contrast=SPIN_ECHO)


def moved(shift, turn, centre=(0.0, -18.0, 15.0)):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.deg2rad(turn)).as_matrix()
    matrix[:3, 3] = np.asarray(centre) + shift - matrix[:3, :3] @ np.asarray(centre)
    return matrix


@pytest.fixture(scope="module")
def head(template_blueprint):
    """Tissue maps at 1.6 mm, an oblique b=0 image of 2.4 x 2.4 x 3 mm and a slab of it."""
    anatomy = grow_anatomy(template_blueprint, Traits(), np.random.default_rng(5))
    affine = np.diag([1.6, 1.6, 1.6, 1.0])
    affine[:3, 3] = (-84, -118, -72)
    t1w = scan(cut_labels(anatomy, (106, 128, 104), affine), affine, Scanner(),
               np.random.default_rng(6))  # fmt: skip
    pose = moved((0, 0, 0), (9, -4, 6)) @ np.diag([2.4, 2.4, 3.0, 1.0])
    pose[:3, 3] += (0, -18, 18) - pose[:3, :3] @ ((np.array([76, 84, 46]) - 1) / 2) - pose[:3, 3]
    labels = cut_labels(anatomy, (76, 84, 46), pose)
    epi = scan(labels, pose, EPI, np.random.default_rng(7))
    return {
        "brain": t1w.brain, "gm": t1w.fractions[..., 0], "wm": t1w.fractions[..., 1],
        "affine": affine, "epi": epi.image, "mask": epi.brain, "epi_affine": pose,
    }  # fmt: skip


@pytest.fixture(scope="session")
def template_blueprint():
    from alsflow.interfaces.simulate import template_source
    from alsflow.nodes.simulate.anatomy import prepare_blueprint

    return prepare_blueprint(template_source())


def errors(head, matrix, truth):
    points = apply_affine(head["affine"], np.argwhere(head["brain"])[::301].T)
    away = apply_affine(matrix @ np.linalg.inv(truth), points) - points
    return np.sqrt((away**2).sum(axis=0))


def placed(head, change, part=slice(None), **settings):
    """Align an image whose header was changed so that `change` is the answer."""
    start = np.eye(4)
    start[2, 3] = part.start or 0
    affine = np.linalg.inv(change) @ head["epi_affine"] @ start
    return coregister(
        head["epi"][:, :, part], affine, head["mask"][:, :, part],
        head["brain"], head["gm"], head["wm"], head["affine"], **settings,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shift", "turn", "part", "settings", "limit"),
    [
        ((6, -5, 6), (6, 5, -6), slice(None), {"start": "header"}, 0.5),
        ((-70, 40, 55), (18, -15, 17), slice(None), {}, 0.5),
        ((5, 5, -7), (-6, 6, 5), slice(18, 36), {"contrast": "grey_bright"}, 1.0),
    ],
    ids=["10 mm and 10 degrees", "header says nothing", "slab"],
)
def test_a_known_place_is_found(head, shift, turn, part, settings, limit):
    truth = moved(shift, turn)
    found = placed(head, truth, part, **settings)
    assert errors(head, found.matrix, truth).max() < limit
    assert found.flags == []
    assert found.metrics["boundary_right"] > 0.8
    assert found.metrics["boundary_contrast"] > 5  # grey is the brighter side


def test_the_same_input_gives_the_same_numbers(head):
    first, again = (
        placed(head, np.eye(4), slice(20, 28), start="header", contrast="grey_bright")
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.matrix, again.matrix)
    assert first.metrics == again.metrics


@pytest.mark.parametrize(
    ("shift", "turn"), [((3, 3, -3), (0, 0, 0)), ((0, -10, 0), (0, 0, 0)), ((0, 0, 0), (10, 0, 0))]
)
def test_a_wrong_place_is_flagged(head, shift, turn):
    border = boundary(head["gm"], head["wm"], head["affine"])
    metrics = quality(
        head["epi"], head["epi_affine"], head["mask"], head["brain"], head["affine"], border,
        moved(shift, turn),
    )  # fmt: skip
    assert [flag.name for flag in judge(metrics)] == ["registration_doubtful"]
    assert metrics["boundary_right"] < 0.72


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"boundary_right": 0.71}, "71%"),
        ({"boundary_right": np.nan}, "border"),
        ({"boundary_points": 499.0}, "only 499 points"),
        ({"mask_dice": 0.74}, "0.74"),
        ({"boundary_right": 0.62, "starts_apart": 1.0, "mask_dice": 0.85}, None),
        ({"boundary_right": 0.61, "starts_apart": 1.0, "mask_dice": 0.85}, "61%"),
        ({"boundary_right": 0.62, "starts_apart": 1.1, "mask_dice": 0.85}, "62%"),
        ({"boundary_right": 0.62, "starts_apart": 1.0, "mask_dice": 0.84}, "62%"),
    ],
)
def test_the_edges_of_the_limits(change, words):
    good = {"boundary_points": 500.0, "boundary_right": 0.72, "mask_dice": 0.75}
    flags = judge(good | change)
    assert len(flags) == (words is not None)
    assert words is None or words in flags[0].reason


def test_the_border_of_a_ball_is_its_sphere():
    affine = np.diag([1.5, 1.2, 1.8, 1.0])
    affine[:3, 3] = (-45, -40, -50)
    points = grid_points((60, 66, 56), affine)
    radius = np.sqrt((points**2).sum(axis=0))
    wm = np.clip((20 - radius) / 1.5 + 0.5, 0, 1)
    gm = np.clip((26 - radius) / 1.5 + 0.5, 0, 1) - wm
    border = boundary(gm, wm, affine)
    distance = np.sqrt((border.points**2).sum(axis=0))
    np.testing.assert_allclose(distance, 20, atol=0.5)
    assert distance.mean() == pytest.approx(20, abs=0.15)
    cosine = (border.points * border.normals).sum(axis=0) / distance
    assert cosine.min() > 0.92
    assert np.median(cosine) > 0.97
    assert border.points.shape[1] > 500
    # 20 % brighter outside the sphere, seen where it is and 3 mm beside
    image = np.where(radius > 20, 1.2, 1.0)
    here = contrast_across(image, affine, border, np.eye(4), 2.5)
    assert np.median(here) == pytest.approx(20 / 1.1, rel=0.02)
    beside = contrast_across(image, affine, border, rigid(np.array([8.0, 0, 0, 0, 0, 0]), np.zeros(3)), 2.5)  # fmt: skip  # noqa: E501
    assert (here > 0).mean() > 0.99 > 0.8 > (beside > 0).mean()


def test_points_out_of_view_have_no_contrast():
    border = Boundary(
        np.array([[0.0, 50.0], [0, 0], [0, 0]]), np.array([[1.0, 1], [0, 0], [0, 0]])
    )
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -9
    found = contrast_across(np.ones((10, 10, 10)), affine, border, np.eye(4), 2.0)
    assert found[0] == 0
    assert np.isnan(found[1])


def test_unexplained_variance_agrees_with_least_squares():
    rng = np.random.default_rng(0)
    x = np.column_stack([np.ones(200), rng.random((200, 3))])
    y = x @ [1, 2, -1, 3] + rng.normal(0, 0.5, 200)
    z = np.column_stack([x, y])
    rest = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    assert unexplained(z.T @ z) == pytest.approx(rest.var() / y.var(), rel=1e-3)


def test_ranks_and_scattered_places():
    rng = np.random.default_rng(0)
    image = rng.gamma(2, 100, (12, 14, 10)).astype(np.float32)
    mask = np.zeros(image.shape, bool)
    mask[2:10, 3:12, 2:8] = True
    ranks = ranked(image, mask)
    assert ranks[mask].mean() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(ranked(image**3, mask)[mask], ranks[mask], atol=1e-4)
    places = scattered(mask, 100)
    assert mask[tuple(np.round(places).astype(int))].all()
    assert 90 < places.shape[1] < 150


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epi": np.nan}, "not numbers"),
        ({"epi": 5.0}, "flat"),
        ({"mask": False}, "mask is empty"),
        ({"wm": 0.2}, "no brain"),
    ],
)
def test_what_cannot_be_placed_is_refused(head, change, words):
    key, value = next(iter(change.items()))
    bad = head | {key: np.full_like(head[key], value)}
    with pytest.raises(BadInputError, match=words):
        placed(bad, np.eye(4))


# T2*: CSF brightest, grey slightly above white; the signal above air is lost
BOLD = Scanner(noise=0.03, non_uniformity=0.6, contrast=CONTRAST | {
    "skin": (0.2, 0.02), "fat": (0.1, 0.02), "marrow": (0.1, 0.02), "muscle": (0.3, 0.04),
    "eye": (1.8, 0.05), "csf": (1.6, 0.1), "ventricle": (1.7, 0.05), "cortex": (1.15, 0.04),
    "striatum": (0.95, 0.03), "thalamus": (1.0, 0.03), "pallidum": (0.6, 0.03),
    "white": (1.0, 0.04), "brainstem": (0.95, 0.04), "spinal_csf": (1.6, 0.1),
})  # fmt: skip
AIR = (((0.0, 34.0, -26.0), 24.0), ((-52.0, -14.0, -24.0), 18.0), ((52.0, -14.0, -24.0), 18.0))


@pytest.fixture(scope="module")
def bold_head(head, template_blueprint):
    """The same head in a mean BOLD image of 3 x 3 x 3.6 mm with dropout and a near coil."""
    anatomy = grow_anatomy(template_blueprint, Traits(), np.random.default_rng(5))
    pose = moved((0, 0, 0), (4, 2, -3)) @ np.diag([3.0, 3.0, 3.6, 1.0])
    pose[:3, 3] += (0, -18, 18) - pose[:3, :3] @ ((np.array([62, 70, 40]) - 1) / 2) - pose[:3, 3]
    image = scan(cut_labels(anatomy, (62, 70, 40), pose), pose, BOLD,
                 np.random.default_rng(8)).image  # fmt: skip
    points = grid_points(image.shape, pose)
    for centre, radius in AIR:
        far = np.sqrt(sum((p - c) ** 2 for p, c in zip(points, centre, strict=True)))
        image = image * np.clip((far / radius) ** 4, 0.05, 1)
    mask = find_brain(image.astype(np.float32), np.array([3.0, 3.0, 3.6])).mask
    return head | {"epi": image, "mask": mask, "epi_affine": pose}


@pytest.mark.parametrize("draw", [0, 1])
def test_bold_with_dropout_comes_back_from_10_mm_and_10_degrees(bold_head, draw):
    rng = np.random.default_rng(draw)
    along, about = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    truth = moved(10 * along, 10 * about)
    found = placed(bold_head, truth, contrast="grey_bright")
    off = errors(bold_head, found.matrix, truth)
    assert off.mean() < 1.0
    assert found.flags == []
