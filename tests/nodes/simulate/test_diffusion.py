from dataclasses import replace

import numpy as np
import pytest
from dipy.core.gradients import gradient_table
from dipy.reconst.dti import TensorModel
from scipy import ndimage
from scipy.spatial.transform import Rotation

from alsflow.nodes.geometry import apply_affine, grid_points, voxel_sizes
from alsflow.nodes.simulate import diffusion
from alsflow.nodes.simulate.anatomy import Traits, grow_anatomy, to_template
from alsflow.nodes.simulate.diffusion import (
    DiffusionScanner,
    DiffusionSubject,
    carried_directions,
    draw_white_matter,
    make_gradients,
    radial_ratio,
    scan_diffusion,
    spread_directions,
    tensor_parameters,
    tract_measures,
)
from alsflow.nodes.simulate.echo_planar import PERFECT, Motion, epi_grid
from alsflow.nodes.simulate.tracts import (
    MEASURED,
    TRACTS,
    principal_directions,
    sample_lattice,
    tract_curves,
)

CHANGES = {("corticospinal_tract", "left"): -0.2}


@pytest.fixture(scope="module")
def anatomy(template_blueprint):
    return grow_anatomy(template_blueprint, Traits(), np.random.default_rng(1))


@pytest.fixture(scope="module")
def scan(anatomy, bundles):
    """Scan that person with the flaws that are asked for, on unequal and oblique voxels."""
    matter = draw_white_matter(0.0, CHANGES, DiffusionScanner(), np.random.default_rng(2))
    grid = epi_grid(anatomy, (4.0, 4.4, 4.8), np.array([-8.0, 4, 3]))

    def make(seed=4, bval=1000.0, **flaws):
        gradients = make_gradients(10, 2, bval, np.random.default_rng(3))
        scanner = DiffusionScanner(imperfections=replace(PERFECT, **flaws))
        subject = DiffusionSubject(anatomy, *matter)
        return scan_diffusion(
            subject, grid, gradients, scanner, bundles, np.random.default_rng(seed)
        )

    return make


@pytest.fixture(scope="module")
def perfect(scan):
    return scan()


@pytest.fixture(scope="module")
def noisy(scan):
    return scan(noise=0.04, non_uniformity=0.2, eddy=1.0)


@pytest.fixture(scope="module")
def bent(scan):
    return scan(distortion=3.0, motion=1.0, eddy=1.0)


def fit(scan):
    gradients = scan.gradients
    table = gradient_table(gradients.bvals, bvecs=gradients.directions, b0_threshold=50)
    return TensorModel(table, fit_method="OLS").fit(scan.series, mask=scan.truth.brain)


# ---------------------------------------------------------------------------- gradients


@pytest.mark.parametrize(("n", "angle"), [(3, 90.0), (6, 63.435)])
def test_few_directions_are_those_of_regular_bodies(n, angle):
    directions = spread_directions(n, np.random.default_rng(0))
    cosines = np.abs(directions @ directions.T) - 2 * np.eye(n)
    assert np.degrees(np.arccos(cosines.max())) == pytest.approx(angle, abs=0.3)


def test_many_directions_are_even_over_the_whole_sphere():
    gradients = make_gradients(30, 4, 1000.0, np.random.default_rng(0))
    directions = gradients.directions[~gradients.b0]
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    cosines = np.abs(directions @ directions.T) - 2 * np.eye(30)
    assert np.degrees(np.arccos(cosines.max(1))).min() > 22
    assert np.linalg.norm(directions.mean(0)) < 0.05
    np.testing.assert_array_equal(np.flatnonzero(gradients.b0), [0, 8, 17, 25])
    again = make_gradients(30, 4, 1000.0, np.random.default_rng(0))
    np.testing.assert_array_equal(gradients.directions, again.directions)


# ---------------------------------------------------------------------------- tensors


def test_a_ratio_of_diffusivities_has_the_anisotropy_it_was_made_for():
    for fa in (0.0, 0.3, 1 / np.sqrt(2), 0.9):
        radial = float(radial_ratio(fa))
        found = tensor_parameters(np.array([1.0, 0, 0, radial, 0, radial]))
        assert found["fa"] == pytest.approx(fa, abs=1e-7)
        assert found["md"] == pytest.approx((found["ad"] + 2 * found["rd"]) / 3)


def test_disease_lowers_anisotropy_by_more_radial_diffusivity():
    rngs = (np.random.default_rng(0) for _ in range(2))
    scanner = DiffusionScanner(fa=1.05, diffusivity=0.97)
    ill, before = draw_white_matter(5.0, CHANGES, scanner, next(rngs))
    row = list(TRACTS).index("corticospinal_tract")
    np.testing.assert_array_equal(ill.axial, before.axial)
    assert ill.radial[row, 0] > before.radial[row, 0]
    changed = ill.radial != before.radial
    assert changed.sum() == 1
    parameters = [
        tensor_parameters(np.array([m.axial[row, 0], 0, 0, m.radial[row, 0], 0, m.radial[row, 0]]))
        for m in (ill, before)
    ]
    assert parameters[0]["fa"] / parameters[1]["fa"] == pytest.approx(0.8, abs=1e-6)
    plain, _ = draw_white_matter(5.0, CHANGES, DiffusionScanner(), next(rngs))
    np.testing.assert_allclose(before.axial, 0.97 * plain.axial)


def test_people_differ_as_much_as_they_should():
    row = list(TRACTS).index("corticospinal_tract")
    found = []
    for seed in range(300):
        _, matter = draw_white_matter(0, {}, DiffusionScanner(), np.random.default_rng(seed))
        ratio = matter.radial[row] / matter.axial[row]
        found.append((1 - ratio) / np.sqrt(1 + 2 * ratio**2))
    mean, spread = np.mean(found, 0), np.std(found, 0)
    np.testing.assert_allclose(mean, TRACTS["corticospinal_tract"].fa, rtol=0.01)
    np.testing.assert_allclose(spread / mean, np.hypot(0.03, 0.015), rtol=0.15)
    assert np.std(np.diff(found)) / mean[0] == pytest.approx(0.015 * np.sqrt(2), rel=0.15)


def test_directions_follow_the_person_as_its_curves_do(anatomy):
    """Second implementation: find the curve's points in the person, take the difference."""
    points, directions, _ = tract_curves(TRACTS["corpus_callosum"])
    ends = np.stack([points - 1.5 * directions, points, points + 1.5 * directions])
    at = apply_affine(np.linalg.inv(anatomy.world_to_template), ends.reshape(-1, 3).T)
    for _ in range(30):  # where does the person keep this point of the template?
        at = (
            at
            - apply_affine(np.linalg.inv(anatomy.world_to_template), to_template(anatomy, at))
            + apply_affine(np.linalg.inv(anatomy.world_to_template), ends.reshape(-1, 3).T)
        )
    np.testing.assert_allclose(to_template(anatomy, at).T, ends.reshape(-1, 3), atol=1e-2)
    behind, here, ahead = at.T.reshape(3, -1, 3)
    tangent = ahead - behind
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    carried = carried_directions(anatomy, here.T, directions)
    angle = np.degrees(np.arccos(np.clip((tangent * carried).sum(1), -1, 1)))
    left_alone = np.degrees(np.arccos(np.clip((tangent * directions).sum(1), -1, 1)))
    assert np.median(angle) < 1
    assert np.quantile(angle, 0.95) < 4
    assert np.median(left_alone) > 4 * np.median(angle)


# ---------------------------------------------------------------------------- series


def test_the_truth_is_what_a_tensor_fit_finds_without_flaws(perfect):
    found = fit(perfect)
    truth = tensor_parameters(perfect.truth.tensor)
    pure = perfect.truth.tracts.max((-2, -1)) > 0.95
    assert pure.sum() > 40
    off = np.abs(found.fa - truth["fa"])[pure]
    assert np.quantile(off, 0.95) < 1e-3
    assert off.max() < 3e-3  # where fibres bend within a voxel of 4 mm
    np.testing.assert_allclose(found.md[pure], truth["md"][pure], rtol=5e-3)
    white = perfect.truth.brain & (truth["fa"] > 0.3)
    assert np.abs(found.fa - truth["fa"])[white].mean() < 3e-3
    still = perfect.truth.brain & (truth["fa"] < 1e-4)
    assert still.sum() > 500
    assert np.median(found.fa[still]) < 1e-3


def test_the_truth_holds_for_mixed_voxels_where_weighting_is_weak(scan):
    """The cumulant expansion ends at the mean tensor, weighted by signal, as b goes to 0."""
    weak = scan(bval=60.0)
    truth = tensor_parameters(weak.truth.tensor)
    brain = weak.truth.brain
    off = np.abs(fit(weak).fa - truth["fa"])[brain]
    assert np.quantile(off, 0.99) < 0.01
    assert np.corrcoef(fit(weak).md[brain], truth["md"][brain])[0, 1] > 0.999


def test_fibres_point_as_in_a_brain(perfect, anatomy):
    """Corticospinal tract up and down, callosum from side to side: red, and blue."""
    found = fit(perfect)
    grid_at = to_template(anatomy, grid_points(perfect.truth.brain.shape, perfect.affine))
    tract = (perfect.truth.tracts[..., 0, :] > 0.8).any(-1)
    capsule = tract & (grid_at[2] > 0) & (grid_at[2] < 30)
    callosum = (np.abs(grid_at[0]) < 5) & (np.abs(grid_at[1] + 8) < 20)
    callosum &= (np.abs(grid_at[2] - 26) < 4) & (found.fa > 0.5)
    for where, axis in ((capsule, 2), (callosum, 0)):
        assert where.sum() >= 6
        along = np.abs(found.evecs[where][:, :, 0])
        assert (along.argmax(1) == axis).mean() > 0.95
        assert along.mean(0)[axis] > 0.85


def test_measures_are_means_over_the_core_weighted_by_share(perfect):
    measures, truth = perfect.truth.measures, perfect.truth
    maps = tensor_parameters(truth.tensor)
    assert set(measures) == {
        f"{parameter}_{tract}_{side}"
        for parameter in ("fa", "md", "ad", "rd")
        for tract in MEASURED
        for side in ("left", "right", "both")
    }
    share = truth.tracts[..., 1, 1]  # corticostriatal, right
    core = share >= 0.5
    expected = np.average(maps["rd"][core], weights=share[core])
    assert measures["rd_corticostriatal_tract_right"] == (pytest.approx(expected), "mm2/s")
    assert measures["fa_corticospinal_tract_left"][1] == "1"
    left, right = measures["fa_corticospinal_tract_left"], measures["fa_corticospinal_tract_right"]
    assert left[0] < measures["fa_corticospinal_tract_both"][0] < right[0]


def test_a_tract_without_a_core_has_no_value():
    tensor = np.full((2, 2, 2, 6), 1e-3, np.float32)
    fractions = np.zeros((2, 2, 2, 3, 2), np.float32)
    fractions[0, 0, 0, 0, 0] = 0.5
    fractions[1, 1, 1, 0, 1] = 0.49
    found = tract_measures(tensor, fractions)
    assert found["md_corticospinal_tract_left"][0] == pytest.approx(1e-3)
    assert np.isnan(found["md_corticospinal_tract_right"][0])


def test_the_effect_is_in_the_tract_it_was_put_into(perfect):
    true, before = perfect.truth.measures, perfect.truth.unaffected
    change = {name: true[name][0] / before[name][0] - 1 for name in true}
    assert change["fa_corticospinal_tract_left"] == pytest.approx(-0.2, abs=0.03)
    assert change["rd_corticospinal_tract_left"] > 0.15
    assert abs(change["ad_corticospinal_tract_left"]) < 5e-3
    others = [name for name in change if not name.endswith(("tract_left", "tract_both"))]
    assert max(abs(change[name]) for name in others) < 5e-3


def mended(scan, image, volume, polarity):
    """Pull an image back: motion, then field and eddy currents along the second axis."""
    truth, affine = scan.truth, scan.affine
    edges, axes = voxel_sizes(affine), affine[:3, :3] / voxel_sizes(affine)
    pose = truth.motion.head_to_volume[volume]
    there = apply_affine(pose, grid_points(truth.shift.shape, affine).astype(float))
    middle = apply_affine(affine, (np.array(truth.shift.shape) - 1) / 2)
    in_scanner = np.tensordot(axes.T, there - middle[:, None, None, None], 1)
    terms = truth.eddy[volume]
    moved = polarity * truth.shift + np.tensordot(terms[:3], in_scanner, 1) + terms[3]
    at = apply_affine(np.linalg.inv(affine), there)
    at[1] += moved / edges[1]
    pulled = ndimage.map_coordinates(image, at, order=3, mode="nearest")
    return pulled * (1 + np.gradient(moved, edges[1], axis=1))


def test_the_truth_takes_motion_eddy_currents_and_field_out(bent, perfect):
    """The image found where the truth says, times the stretch, is that of a head at rest."""
    truth = bent.truth
    assert 2.5 < np.quantile(np.abs(truth.shift[truth.brain]), 0.99) < 3.1
    brain = ndimage.binary_erosion(truth.brain, iterations=2, border_value=0)
    pairs = [(bent.series[..., v], perfect.series[..., v], v, 1) for v in (0, 3, 6, 11)]
    pairs.append((bent.reverse, perfect.reverse, len(bent.gradients), -1))
    for image, plain, volume, polarity in pairs:
        found = mended(bent, image, volume, polarity)
        before, after = (np.corrcoef(plain[brain], x[brain])[0, 1] for x in (image, found))
        assert after > 0.94  # of voxels of 4.8 mm that were interpolated twice
        assert 1 - after < 0.4 * (1 - before)
    still = mended(bent, bent.series[..., 0], 0, 1)
    assert np.corrcoef(perfect.series[truth.brain, 0], still[truth.brain])[0, 1] > 0.99


def test_a_turned_head_turns_its_fibres_against_the_gradients(scan, perfect, monkeypatch):
    turn = np.array([25.0, 0.0, 0.0])
    middle = np.array(perfect.truth.brain.shape) / 2

    def turned(n, size, centre, rng):
        rotation = np.tile(turn, (n, 1))
        return Motion(np.zeros((n, 3)), rotation, apply_affine(perfect.affine, middle))

    monkeypatch.setattr(diffusion, "draw_motion", turned)
    moved = scan()
    matrix = Rotation.from_euler("x", 25, degrees=True).as_matrix()
    pose = moved.truth.motion.head_to_volume[0]
    core = (perfect.truth.tracts > 0.85).any((-2, -1))
    start = apply_affine(perfect.affine, np.argwhere(core).T)
    there = apply_affine(np.linalg.inv(perfect.affine), apply_affine(pose, start))
    there = np.rint(there).astype(int)
    still, after = fit(perfect), fit(moved)
    expected = still.evecs[core][:, :, 0] @ matrix.T
    found = after.evecs[tuple(there)][:, :, 0]
    inside = after.fa[tuple(there)] > 0.3  # the brain mask is that of the head at rest
    assert inside.sum() > 40
    alike = np.abs((expected * found).sum(1))[inside]
    assert np.median(alike) > 0.985
    unturned = np.abs((still.evecs[core][:, :, 0] * found).sum(1))[inside]
    assert np.median(unturned) < 0.95


def test_noise_is_rician_and_a_share_of_white_matter(noisy, perfect):
    flawed = noisy
    air = perfect.series[..., 0] < 0.02
    rayleigh = np.sqrt(np.pi / 2) * 0.04 * DiffusionScanner().gain
    assert flawed.series[air, 1].mean() == pytest.approx(rayleigh, rel=0.05)
    bright = perfect.series[..., 0] > 800
    ratio = (flawed.series / np.maximum(perfect.series, 1))[bright, 0]
    assert 0.1 < np.subtract(*np.quantile(ratio, [0.95, 0.05])) < 0.35
    np.testing.assert_array_equal(flawed.truth.tensor, perfect.truth.tensor)


def test_drift_and_lost_slices_are_those_of_the_truth(scan, perfect):
    flawed = scan(drift=5.0, dropouts=2)
    expected = perfect.series * flawed.truth.drift[:-1]
    assert len(flawed.truth.dropouts) == 2
    for (volume, level), factor in flawed.truth.dropouts.items():
        expected[:, :, level, volume] *= factor
    np.testing.assert_allclose(flawed.series, expected, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(flawed.reverse, perfect.reverse)


def test_one_flaw_does_not_redraw_another(bent, noisy):
    np.testing.assert_array_equal(bent.truth.eddy, noisy.truth.eddy)
    assert bent.truth.motion.translation.any()
    assert not noisy.truth.motion.translation.any()
    assert not noisy.truth.shift.any()


def test_membership_reaches_the_person(perfect, anatomy, bundles):
    """Each side of each tract has a core, and the core lies where the template has the tract."""
    at = to_template(anatomy, grid_points(perfect.truth.brain.shape, perfect.affine))
    for row, name in enumerate(MEASURED):
        place = list(TRACTS).index(name)
        for side, sign in enumerate((-1, 1)):
            core = perfect.truth.tracts[..., row, side] > 0.5
            assert core.sum() > 15
            assert (at[0][core] * sign > -4).all()
            member = sample_lattice(bundles, bundles.membership, at[:, core])[:, place]
            assert member.mean() > 0.7
    assert principal_directions(bundles, at[:, core]).shape == (core.sum(), 3)
