"""The field from a gradient-echo map: scaling, unwrapping, sign, and agreement with the pair."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from alsflow.nodes.distortion.gre import (
    STRONGEST,
    echo_gap,
    field_from_map,
    field_from_phase,
    hz_from_shift,
    phase_to_radians,
    shift_from_hz,
    wrapped_difference,
)
from alsflow.nodes.distortion.phase_encoding import PhaseEncoding
from alsflow.nodes.distortion.unwarp import unwarp
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.geometry import grid_points, voxel_sizes

_spec = importlib.util.spec_from_file_location("phantom", Path(__file__).parent / "phantom.py")
phantom = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(phantom)

SHAPE, ZOOMS = (40, 52, 34), (4.0, 3.6, 4.4)
AFFINE = phantom.affine_of(ZOOMS, shape=SHAPE)
POINTS = grid_points(SHAPE, AFFINE).astype(float)
HEAD = phantom.head(POINTS)
PER_MM = 55.0  # Hz
HZ = PER_MM * phantom.displacement(POINTS)  # up to 310 Hz
ECHOES = (0.00492, 0.00738)
PHASE = 2 * np.pi * HZ * (ECHOES[1] - ECHOES[0])


def rng():
    return np.random.default_rng(0)


def wrap(phase):
    return np.angle(np.exp(1j * phase))


@pytest.mark.parametrize(
    ("low", "high"),
    [(-4096, 4094), (0, 4095), (-2048, 2047), (-3141.6, 3141.6), (-np.pi, np.pi)],
)
def test_each_way_to_store_phase_gives_the_same_angle(low, high):
    angle = np.linspace(-np.pi, np.pi, 721)[:-1].reshape(8, 9, 10)
    top = {4094: 4096, 4095: 4096, 2047: 2048}.get(high, high)
    stored = low + (angle + np.pi) / (2 * np.pi) * (top - low)
    off = np.abs(wrap(phase_to_radians(stored) - angle))
    assert off.max() < 1e-4


def test_zero_to_two_pi_and_declared_radians():
    angle = np.linspace(0.01, 6.27, 720).reshape(8, 9, 10)
    assert np.abs(wrap(phase_to_radians(angle) - angle - np.pi)).max() < 1e-6
    narrow = angle / 4
    np.testing.assert_allclose(phase_to_radians(narrow, "rad"), narrow)
    with pytest.raises(BadInputError, match="no range"):
        phase_to_radians(narrow)


@pytest.mark.parametrize("high", [1000.0, 255.0, 5000.0, 1.0, 0.0])
def test_range_that_no_phase_is_stored_in_is_refused(high):
    with pytest.raises(BadInputError, match="no range that phase is stored in"):
        phase_to_radians(np.linspace(0, high, 720).reshape(8, 9, 10))


def test_known_field_is_unwrapped_filled_and_in_hz():
    """Phase wraps in the head; outside it is noise."""
    noise = np.random.default_rng(3)
    outside = HEAD < 60
    phase = np.where(outside, noise.uniform(-np.pi, np.pi, SHAPE), wrap(PHASE))
    phase += noise.normal(0, 0.05, SHAPE)
    magnitude = np.abs(HEAD + noise.normal(0, 6, SHAPE))
    found = field_from_phase(wrap(phase), magnitude, AFFINE, ECHOES, rng())
    inside = HEAD > 300
    assert np.ptp(PHASE[inside]) > 2 * np.pi
    off = np.abs(found - HZ)[inside]
    assert np.median(off) < 2.5
    assert np.percentile(off, 99) < 12
    assert np.abs(np.diff(found, axis=1)).max() < 100  # no jump of 1 / .00246 s = 407 Hz
    again = field_from_phase(wrap(phase), magnitude, AFFINE, ECHOES, rng())
    assert found.tobytes() == again.tobytes()


def test_two_phase_images_are_subtracted_in_the_right_order():
    phases = [wrap(0.7 + 2 * np.pi * HZ * echo) for echo in ECHOES]
    difference = wrapped_difference(*phases)
    np.testing.assert_allclose(difference, wrap(PHASE), atol=1e-9)
    found = field_from_phase(difference, HEAD, AFFINE, ECHOES, rng())
    assert np.median(np.abs(found - HZ)[HEAD > 300]) < 2.5


def test_ready_map_is_continued_outside_its_head():
    stored = np.where(HEAD > 100, HZ, 0)
    found = field_from_map(stored, HEAD, AFFINE)
    assert np.median(np.abs(found - HZ)[HEAD > 300]) < 2.5
    same = field_from_map(stored * 2 * np.pi, HEAD, AFFINE, "rad/s")
    np.testing.assert_allclose(same, found, atol=1e-6)
    with pytest.raises(BadInputError, match="Hz, rad/s, T"):
        field_from_map(stored, HEAD, AFFINE, "ppm")
    rim = (HEAD < 100) & (HEAD > 20)
    assert np.abs(found - HZ)[rim].mean() < 0.3 * np.abs(HZ[rim]).mean()
    with pytest.raises(BadInputError, match="Units"):
        field_from_map(stored / HZ.max() * STRONGEST * 1.01, HEAD, AFFINE)
    with pytest.raises(BadInputError, match="Units"):
        field_from_map(np.zeros(SHAPE), HEAD, AFFINE)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [1, -1])
def test_shift_undoes_what_the_scanner_does(axis, sign):
    """Lines are read one after another: phase grows with place and, off resonance, with time."""
    shape = (44, 50, 40)
    affine = phantom.affine_of((3.3, 3.5, 3.6), (-5, 9, 20), shape)
    lines, spacing = shape[axis], 0.0006
    encoding = PhaseEncoding(axis, sign, spacing * (lines - 1))
    shift = shift_from_hz(HZ, AFFINE, encoding, shape, affine)
    points = grid_points(shape, affine).astype(float)
    width = voxel_sizes(affine)[axis]
    # a frequency of 1 / (lines * spacing) is one voxel
    exact = sign * PER_MM * phantom.displacement(points) * spacing * lines * width
    inside = phantom.head(points) > 200
    assert np.abs(exact[inside]).mean() > 1
    assert np.abs(shift - exact)[inside].mean() < 0.06


def test_field_of_one_run_serves_a_run_of_another_axis_and_readout():
    first = PhaseEncoding(1, -1, 0.05)
    shift = shift_from_hz(HZ, AFFINE, first, SHAPE, AFFINE)
    back = hz_from_shift(shift, first, AFFINE)
    np.testing.assert_allclose(back, HZ, rtol=1e-5, atol=1e-4)
    other = shift_from_hz(back, AFFINE, PhaseEncoding(0, 1, 0.02), SHAPE, AFFINE)
    expected = HZ * 0.02 * SHAPE[0] / (SHAPE[0] - 1) * ZOOMS[0]
    np.testing.assert_allclose(other, expected, rtol=1e-4, atol=1e-4)


def test_off_resonant_line_is_found_where_the_shift_says():
    """A point 40 Hz off, encoded line by line and transformed back: a positive frequency adds to
    the field as a positive gradient does.
    """
    lines, spacing, hz, place = 64, 0.0005, 40.0, 20
    for sign in (1, -1):
        order = np.arange(lines)  # line number k is read at k * spacing
        wave = sign * (order - lines // 2)  # its spatial frequency
        signal = np.exp(-2j * np.pi * wave * place / lines + -2j * np.pi * hz * order * spacing)
        back = np.exp(2j * np.pi * np.outer(np.arange(lines), wave) / lines)
        image = np.abs(back @ signal)
        fine = np.exp(2j * np.pi * np.outer(np.arange(0, lines, 0.01), wave) / lines)
        seen = np.abs(fine @ signal).argmax() * 0.01
        assert image.argmax() == round(seen)
        encoding = PhaseEncoding(1, sign, spacing * (lines - 1))
        field = np.full((3, lines, 3), hz)
        shift = shift_from_hz(field, np.eye(4), encoding, field.shape, np.eye(4))
        assert seen - place == pytest.approx(shift[1, place, 1], abs=0.01)


def test_refusals_name_the_field_of_the_sidecar():
    for echoes in ((0.00738, 0.00492), (0.005, 0.005), (4.92, 7.38), (0.0, 0.005)):
        with pytest.raises(BadInputError, match="EchoTime1 and EchoTime2"):
            echo_gap(echoes)
    with pytest.raises(BadInputError, match="TotalReadoutTime"):
        shift_from_hz(HZ, AFFINE, PhaseEncoding(1, 1), SHAPE, AFFINE)
    with pytest.raises(BadInputError, match="constant"):
        field_from_phase(PHASE, np.ones(SHAPE), AFFINE, ECHOES, rng())


@pytest.mark.realdata
def test_pair_and_field_map_of_one_head_agree_in_size_and_sign(xa30):
    hz = field_from_phase(
        phase_to_radians(xa30.phase), xa30.magnitude, xa30.gre_affine, (0.01, 0.01246), rng()
    )
    encoding = PhaseEncoding(1, 1, xa30.readout)
    shift = shift_from_hz(hz, xa30.gre_affine, encoding, xa30.pa.shape, xa30.affine)
    expected, found = shift[xa30.brain], xa30.pair.shift[xa30.brain]
    assert xa30.brain.sum() > 30_000
    assert np.corrcoef(expected, found)[0, 1] >= 0.9
    assert np.polyfit(expected, found, 1)[0] == pytest.approx(1, abs=0.12)
    assert np.median(np.abs(expected - found)) < 0.6
    wrong = unwarp(xa30.pa, -shift, xa30.affine, 1), unwarp(xa30.ap, shift, xa30.affine, 1)
    right = (
        unwarp(xa30.pa, shift, xa30.affine, 1),
        unwarp(xa30.ap, shift, xa30.affine, 1, polarity=-1),
    )
    apart = [np.abs(a - b)[xa30.brain].mean() for a, b in (right, wrong)]
    assert apart[0] < 0.4 * apart[1]
