import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import voxel_volume
from alsflow.nodes.simulate.anatomy import Traits, grow_anatomy
from alsflow.nodes.simulate.head import image_grid
from alsflow.nodes.simulate.labels import (
    CLASSES,
    FineLabels,
    class_volumes,
    cut_labels,
    regional_gm,
    subdivision,
    tissue_table,
    tissue_volumes,
    voxel_means,
    without_thinning,
)

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [12, -8, 20], degrees=True).as_matrix()
OBLIQUE = OBLIQUE @ np.diag([-2.0, 2.0, 3.0, 1.0])  # left-handed, unequal edges


def boxes() -> FineLabels:
    """4 x 6 x 8 sub-voxels of 0.5 x 0.5 x 1 mm; 2 x 2 x 4 of them make a voxel."""
    classes = np.zeros((4, 6, 8), np.uint8)
    classes[:, :, 2:] = CLASSES.index("csf")
    classes[1:3, :, 2:] = CLASSES.index("cortex")
    classes[1:3, 1:3, 4:] = CLASSES.index("white")
    atlas = np.zeros_like(classes)
    atlas[2:] = 7
    return FineLabels(classes, atlas, np.diag([0.5, 0.5, 1, 1]), (2, 2, 4), np.zeros(256))


def ball(blueprint, **traits):
    anatomy = grow_anatomy(blueprint, Traits(tiv=600.0, **traits), np.random.default_rng(3))
    shape, affine = image_grid(anatomy, 2.5)
    return anatomy, cut_labels(anatomy, shape, affine, (2, 2, 2))


@pytest.fixture(scope="module")
def smooth_ball(ball_blueprint):
    return ball(ball_blueprint, roughness=0.0)


def test_volumes_of_boxes_are_counted_exactly():
    volumes = class_volumes(boxes())
    unit = 0.25 / 1000  # mL
    assert volumes["white"] == pytest.approx(2 * 2 * 4 * unit)
    assert volumes["cortex"] == pytest.approx((2 * 6 * 6 - 16) * unit)
    assert volumes["csf"] == pytest.approx(2 * 6 * 6 * unit)
    tissues = tissue_volumes(boxes())
    assert tissues["tiv"] == pytest.approx(4 * 6 * 6 * unit)
    assert regional_gm(boxes())[7] == pytest.approx((6 * 6 - 8) * unit)


def test_fractions_are_averages_over_unequal_subdivisions():
    fractions = voxel_means(boxes(), tissue_table())
    assert fractions.shape == (2, 3, 2, 3)
    # first voxel: x 0-1, y 0-1, z 0-3; brain from z = 2, of which x = 1 is grey but no white yet
    np.testing.assert_allclose(fractions[0, 0, 0], [0.25, 0, 0.25])
    np.testing.assert_allclose(fractions[0, 0, 1], [0.25, 0.25, 0.5])


def test_air_must_be_dark():
    with pytest.raises(ValueError, match="air"):
        voxel_means(boxes(), np.ones((len(CLASSES), 1)))


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ((1, 1, 1), (2, 2, 2)),
        ((2, 2, 2), (3, 3, 3)),
        ((0.7, 0.5, 1.5), (2, 2, 3)),
        ((3, 4, 1), (3, 3, 2)),
    ],
)
def test_an_edge_is_cut_in_two_or_three(edges, expected):
    assert subdivision(np.diag([*edges, 1.0])) == expected


def test_a_ball_has_the_volume_asked_and_the_proportions_of_its_radii(smooth_ball):
    anatomy, labels = smooth_ball
    volumes = tissue_volumes(labels)
    assert volumes["tiv"] == pytest.approx(600, rel=0.01)
    brain = volumes["gm"] + volumes["wm"]
    # the sharpening moves both edges by less than a third of the source's 3 mm voxels
    assert (volumes["wm"] / brain) ** (1 / 3) == pytest.approx(36 / 48, abs=0.02)


def test_tissue_fractions_hold_the_same_volumes_as_the_fine_labels(smooth_ball):
    _, labels = smooth_ball
    fractions = voxel_means(labels, tissue_table())
    coarse = voxel_volume(labels.affine) * np.prod(labels.factors)
    volumes = tissue_volumes(labels)
    for index, tissue in enumerate(("gm", "wm", "csf")):
        total = fractions[..., index].sum(dtype=float) * coarse
        assert total == pytest.approx(volumes[tissue], rel=1e-5)
    total = fractions.sum(-1)
    assert total.max() <= 1 + 1e-6
    assert (np.abs(total[fractions[..., 1] > 0.99] - 1) < 1e-6).all()


def test_the_same_person_on_an_oblique_grid_has_the_same_volumes(smooth_ball):
    anatomy, labels = smooth_ball
    upright = tissue_volumes(labels)
    centre = labels.affine @ [*(np.array(labels.classes.shape) / 2), 1]
    affine = OBLIQUE.copy()
    affine[:3, 3] = centre[:3] - OBLIQUE[:3, :3] @ np.array([40, 42, 28])
    oblique = tissue_volumes(cut_labels(anatomy, (80, 84, 56), affine))
    for tissue in ("gm", "wm", "csf", "tiv"):
        assert oblique[tissue] == pytest.approx(upright[tissue], rel=5e-3)


def test_the_brain_lies_in_csf_in_bone_in_skin_in_air(smooth_ball):
    """Along a line from the middle to the outside every layer comes in its order."""
    _, labels = smooth_ball
    line = labels.classes[:, labels.classes.shape[1] // 2, int(labels.classes.shape[2] * 0.55)]
    outward = line[line.size // 2 :]
    names = [CLASSES[outward[0]]]
    names += [CLASSES[b] for a, b in zip(outward, outward[1:], strict=False) if a != b]
    expected = ["white", "cortex", "csf", "bone", "marrow", "bone"]
    assert names[:6] == expected
    assert names[-2:] == ["skin", "air"]


@pytest.mark.parametrize("share", [0.05, 0.12, 0.4])
def test_thinning_takes_the_asked_share_in_the_region_and_nothing_elsewhere(ball_blueprint, share):
    _, whole = ball(ball_blueprint)
    _, thin = ball(ball_blueprint, thinning={1: share})
    before, after = regional_gm(whole), regional_gm(thin)
    assert after[1] / before[1] - 1 == pytest.approx(-share, abs=1e-3)
    assert after[2] == before[2]
    assert tissue_volumes(thin)["wm"] == tissue_volumes(whole)["wm"]
    assert tissue_volumes(thin)["tiv"] == pytest.approx(tissue_volumes(whole)["tiv"], rel=1e-12)
    changed = whole.classes != thin.classes
    assert (thin.classes[changed] == CLASSES.index("csf")).all()
    volumes, regional = without_thinning(tissue_volumes(thin), after, thin.lost)
    assert volumes["gm"] == pytest.approx(tissue_volumes(whole)["gm"], rel=1e-9)
    np.testing.assert_allclose(regional, before, rtol=1e-9)


def test_thinning_takes_the_outer_layer(ball_blueprint):
    anatomy, thin = ball(ball_blueprint, roughness=0.0, thinning={1: 0.3})
    _, whole = ball(ball_blueprint, roughness=0.0)
    grey = (whole.classes == CLASSES.index("cortex")) & (whole.atlas == 1)
    lost = np.argwhere(grey & (thin.classes != whole.classes))
    kept = np.argwhere(grey & (thin.classes == whole.classes))
    centre = np.argwhere(whole.classes == CLASSES.index("white")).mean(0)
    inner = np.percentile(np.linalg.norm(lost - centre, axis=1), 2)
    outer = np.percentile(np.linalg.norm(kept - centre, axis=1), 98)
    assert inner > outer - 0.8  # sub-voxels


def test_a_region_cannot_lose_all_of_its_grey_matter(ball_blueprint):
    with pytest.raises(BadInputError, match="0 to 99"):
        ball(ball_blueprint, thinning={1: 1.0})
