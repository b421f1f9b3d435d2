"""Motion and eddy currents of phantoms whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from phantoms import diffusion_phantom, displacement_error, scheme, shift_at

from alsflow.nodes.dwi import motion
from alsflow.nodes.dwi.gradients import Gradients
from alsflow.nodes.dwi.groups import weighted_shells
from alsflow.nodes.dwi.motion import estimate_motion
from alsflow.nodes.epi.pose import frame_of, poses_of, still
from alsflow.nodes.errors import BadInputError

UNEQUAL = (3.6, 4.0, 4.4)  # mm


def estimated(phantom, **settings):
    return estimate_motion(
        phantom.signal,
        phantom.affine,
        phantom.gradients,
        settings.pop("phase_encoding", phantom.phase_encoding),
        phantom.mask,
        **settings,
    )


def errors(phantom, found):
    """Distance, (n, m) mm, before and after correction."""
    frame = frame_of(phantom.signal.shape, phantom.affine)
    poses = poses_of(found.head_to_volume, found.eddy, frame)
    return displacement_error(phantom, still(len(poses))), displacement_error(phantom, poses)


@pytest.fixture(scope="module")
def moved():
    return diffusion_phantom(np.random.default_rng(1), scheme(20), (62, 60, 31), UNEQUAL)


@pytest.fixture(scope="module")
def found(moved):
    return estimated(moved)


def test_motion_and_eddy_currents_are_found(moved, found):
    before, after = errors(moved, found)
    assert before.mean() > 1.0
    assert after.mean() < 0.3
    assert after.max() < 1.1
    b0 = moved.gradients.b0
    assert after[b0].mean() < 0.05


def test_it_stops_by_itself(found):
    assert found.converged
    assert found.last_update < 0.02
    assert len(found.steps) < 10
    assert not any("settled" in note for note in found.warnings)


def test_the_reference_is_the_first_b0(found):
    np.testing.assert_allclose(found.head_to_volume[0], np.eye(4), atol=1e-12)
    np.testing.assert_array_equal(found.eddy[0], 0)


def test_eddy_currents_are_told_from_motion(moved, found):
    """The law of each term, and the translation that comes with it, are those put in."""
    weighted = ~moved.gradients.b0
    bent = np.linalg.pinv(moved.gradients.directions[weighted])
    law, truth = bent @ found.eddy[weighted], bent @ moved.poses.eddy[weighted, :4]
    np.testing.assert_allclose(law[:, 1:], truth[:, 1:], atol=2.5e-3)
    np.testing.assert_allclose(law[:, 0], truth[:, 0], atol=0.6)


def test_the_same_input_gives_the_same_numbers(moved, found):
    again = estimated(moved)
    np.testing.assert_array_equal(again.head_to_volume, found.head_to_volume)
    np.testing.assert_array_equal(again.eddy, found.eddy)


def test_unknown_phase_encoding_leaves_motion_alone():
    phantom = diffusion_phantom(np.random.default_rng(2), scheme(12), eddy=0)
    found = estimated(phantom, phase_encoding=None)
    assert found.eddy.shape == (len(phantom.gradients), 0)
    assert any("phase-encoding direction is unknown" in note for note in found.warnings)
    before, after = errors(phantom, found)
    assert after.mean() < 0.35 * before.mean()


def test_b0s_alone_are_aligned():
    gradients = Gradients(np.zeros(5), np.zeros((5, 3)))
    phantom = diffusion_phantom(np.random.default_rng(3), gradients, motion=2.0, eddy=0)
    before, after = errors(phantom, estimated(phantom))
    assert before.mean() > 1.0
    assert after.mean() < 0.05


def test_two_shells_share_the_law():
    gradients = scheme(12, (700.0, 2000.0))
    phantom = diffusion_phantom(np.random.default_rng(4), gradients)
    before, after = errors(phantom, estimated(phantom))
    assert before.mean() > 1.0
    for shell in weighted_shells(gradients):
        assert after[shell].mean() < 0.4 * before[shell].mean()


def test_a_shell_too_small_to_stand_alone_follows():
    gradients = scheme(12)
    weights = gradients.bvals.copy()
    few = np.flatnonzero(weights)[[3, 8]]
    weights[few] = 500.0
    phantom = diffusion_phantom(np.random.default_rng(5), replace(gradients, bvals=weights))
    found = estimated(phantom)
    before, after = errors(phantom, found)
    assert any(note.startswith("2 volumes of shells") for note in found.warnings)
    assert after[few].mean() < 0.7 * before[few].mean()


def test_a_one_sided_scheme_is_reported():
    phantom = diffusion_phantom(np.random.default_rng(6), scheme(8, half=True))
    assert any("one half of the sphere" in note for note in estimated(phantom).warnings)


def test_six_directions_are_enough_and_five_are_not():
    phantom = diffusion_phantom(np.random.default_rng(7), scheme(6))
    before, after = errors(phantom, estimated(phantom))
    assert after.mean() < 0.65 * before.mean()
    phantom = diffusion_phantom(np.random.default_rng(7), scheme(5))
    with pytest.raises(BadInputError, match="5 diffusion-weighted volumes has 6 or more"):
        estimated(phantom)


def test_what_cannot_be_used_is_refused():
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    signal, mask = np.ones((10, 11, 12, 8), np.float32), np.ones((10, 11, 12), bool)
    gradients = Gradients(np.r_[0, [1000.0] * 7], np.eye(8)[:, :3])

    def attempt(signal=signal, affine=affine, gradients=gradients, mask=mask):
        estimate_motion(signal, affine, gradients, None, mask, eddy="none")

    with pytest.raises(BadInputError, match="8 b-values"):
        attempt(signal[..., :7])
    with pytest.raises(BadInputError, match="mask is empty"):
        attempt(mask=~mask)
    with pytest.raises(BadInputError, match="No volume .* b-value"):
        attempt(gradients=replace(gradients, bvals=np.full(8, 1000.0)))
    hole = signal.copy()
    hole[3, 3, 3, 5] = np.nan
    with pytest.raises(BadInputError, match="Volumes 5 "):
        attempt(hole)
    sheared = affine.copy()
    sheared[0, 1] = 1.0
    with pytest.raises(BadInputError, match="right angles"):
        attempt(affine=sheared)
    with pytest.raises(BadInputError, match="7 voxels along one axis"):
        attempt(signal[:7], mask=mask[:7])


def test_shells_are_told_apart_by_gaps():
    weights = np.array([0, 995, 2000, 1005, 1990, 5, 1000], float)
    found = weighted_shells(Gradients(weights, np.zeros((7, 3))))
    assert [part.tolist() for part in found] == [[1, 3, 6], [2, 4]]


def test_runs_of_both_polarities_are_aligned_as_one():
    """With the field known, b0s and weighted volumes of both polarities show the same head."""
    once = scheme(10, half=True)
    count = len(once)
    both = Gradients(np.tile(once.bvals, 2), np.tile(once.directions, (2, 1)))
    sides, runs = np.repeat([1, -1], count), np.repeat([0, 1], count)
    phantom = diffusion_phantom(np.random.default_rng(8), both, field=6.0, polarity=sides)
    frame = frame_of(phantom.signal.shape, phantom.affine)
    grid = np.indices(frame.shape).reshape(3, -1).astype(float)
    shift = shift_at(frame.points(grid), 6.0).reshape(frame.shape)
    found = estimated(phantom, series=runs, polarity=sides, shift=shift)
    before, after = errors(phantom, found)
    assert before[count:].mean() > 1.0
    assert after.mean() < 0.25
    # the same eddy currents move the signal the other way
    first, second = found.eddy[:count], found.eddy[count:]
    np.testing.assert_allclose(first[:, 1:], -second[:, 1:], atol=2e-3)
    apart = estimated(phantom, series=runs, polarity=sides)
    np.testing.assert_allclose(apart.head_to_volume[count], np.eye(4), atol=1e-12)


def test_a_step_that_makes_things_worse_is_halved(monkeypatch):
    """Updates blown up by a factor must not run away."""
    phantom = diffusion_phantom(np.random.default_rng(10), scheme(12))
    honest = motion._solved
    monkeypatch.setattr(
        motion,
        "_solved",
        lambda *given: {number: 2.6 * part for number, part in honest(*given).items()},
    )
    found = estimated(phantom)
    assert any(step.halved for step in found.steps)
    before, after = errors(phantom, found)
    assert after.mean() < before.mean()


def test_an_estimate_that_does_not_settle_says_so(monkeypatch):
    phantom = diffusion_phantom(np.random.default_rng(11), scheme(8))
    monkeypatch.setattr(motion, "STEPS", (1, 1, 1))
    monkeypatch.setattr(motion, "UNSETTLED", 0.01)
    found = estimated(phantom)
    assert not found.converged
    assert any("had not settled" in note for note in found.warnings)
