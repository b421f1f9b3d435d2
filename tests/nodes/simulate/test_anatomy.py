from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from alsflow.nodes.simulate.anatomy import (
    LATTICE_SPACING,
    MIN_JACOBIAN,
    Traits,
    grow_anatomy,
    to_template,
)
from alsflow.nodes.simulate.fields import jacobian_determinant
from alsflow.nodes.simulate.head import image_grid
from alsflow.nodes.simulate.labels import CLASSES, TISSUES, cut_labels, tissue_volumes


def cut(blueprint, traits, seed=0, voxel=2.0):
    anatomy = grow_anatomy(blueprint, traits, np.random.default_rng(seed))
    shape, affine = image_grid(anatomy, voxel)
    return anatomy, cut_labels(anatomy, shape, affine, (2, 2, 2))


@pytest.fixture(scope="module")
def adult(template_blueprint):
    return cut(template_blueprint, Traits(tiv=1500.0, ventricle_growth=2.0))


def test_the_head_has_the_volumes_of_an_adult(adult):
    volumes = tissue_volumes(adult[1])
    assert volumes["tiv"] == pytest.approx(1500, rel=0.01)
    assert 0.42 < volumes["gm"] / volumes["tiv"] < 0.52
    assert 0.30 < volumes["wm"] / volumes["tiv"] < 0.38
    assert 250 < volumes["csf"] < 400
    assert 15 < volumes["ventricles"] < 45


def test_deformations_keep_their_orientation(template_blueprint):
    for seed in range(4):
        anatomy = grow_anatomy(template_blueprint, Traits(), np.random.default_rng(seed))
        assert jacobian_determinant(anatomy.displacement, LATTICE_SPACING).min() > MIN_JACOBIAN


def test_the_brain_is_enclosed_by_bone(adult):
    """No sub-voxel above the canal has the brain on one side and soft tissue on the other."""
    classes = adult[1].classes
    inside = np.isin(classes, [CLASSES.index(n) for names in TISSUES.values() for n in names])
    around = ndimage.binary_dilation(inside) & ~inside
    found = {CLASSES[label] for label in np.unique(classes[around])}
    assert found <= {"bone", "marrow", "cord", "spinal_csf"}


def test_the_head_is_in_air(adult):
    classes = adult[1].classes
    air = classes == CLASSES.index("air")
    for face in (air[0], air[-1], air[:, 0], air[:, :, -1]):
        assert face.mean() > 0.9
    assert 0.3 < air.mean() < 0.75


def test_deep_grey_and_ventricles_are_there_on_both_sides(adult):
    anatomy, labels = adult
    for name in ("striatum", "thalamus", "pallidum", "ventricle"):
        at = np.argwhere(labels.classes == CLASSES.index(name)).T
        world = labels.affine[:3, :3] @ at + labels.affine[:3, 3:]
        there = to_template(anatomy, world)
        assert 0.35 < (there[0] < 0).mean() < 0.65


def test_seeds_reproduce_and_differ(ball_blueprint):
    first, again, other = (cut(ball_blueprint, Traits(tiv=600), s, 3.0)[1] for s in (5, 5, 6))
    np.testing.assert_array_equal(first.classes, again.classes)
    assert first.classes.shape != other.classes.shape or (first.classes != other.classes).any()


def test_traits_that_do_not_touch_the_draw_leave_the_rest_of_the_person_alone(ball_blueprint):
    plain = cut(ball_blueprint, Traits(tiv=600), 1, 3.0)[0]
    thinned = cut(ball_blueprint, Traits(tiv=600, thinning={1: 0.2}), 1, 3.0)[0]
    np.testing.assert_array_equal(plain.displacement, thinned.displacement)
    np.testing.assert_array_equal(plain.world_to_template, thinned.world_to_template)
    np.testing.assert_array_equal(plain.layers, thinned.layers)


def test_loss_and_growth_do_what_they_say(template_blueprint):
    plain = Traits(roughness=0.0)
    volumes = tissue_volumes(cut(template_blueprint, plain, voxel=3.0)[1])
    loss = tissue_volumes(
        cut(template_blueprint, replace(plain, cortical_loss=0.05), voxel=3.0)[1]
    )
    cortex = volumes["gm"] - 40  # mL of deep grey, which is spared
    assert (volumes["gm"] - loss["gm"]) / cortex == pytest.approx(0.05, abs=0.015)
    assert loss["tiv"] == pytest.approx(volumes["tiv"], rel=1e-3)
    wide = replace(plain, ventricle_growth=4.0)
    grown = tissue_volumes(cut(template_blueprint, wide, voxel=3.0)[1])
    assert grown["ventricles"] > 1.3 * volumes["ventricles"]
    assert grown["tiv"] == pytest.approx(volumes["tiv"], rel=0.01)
