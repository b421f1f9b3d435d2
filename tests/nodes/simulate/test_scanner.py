from dataclasses import replace

import numpy as np
import pytest

from alsflow.nodes.simulate.anatomy import Traits
from alsflow.nodes.simulate.head import simulate_head
from alsflow.nodes.simulate.labels import CLASSES
from alsflow.nodes.simulate.scanner import CONTRAST, Scanner, receive_field, rician, signal_table

AFFINE = np.diag([2.0, 2.5, 3.0, 1.0])
FLAT = {name: (mean, 0.0) for name, (mean, _) in CONTRAST.items()}


def test_rician_noise_has_the_known_moments():
    rng = np.random.default_rng(0)
    dark = rician(np.zeros(400_000, np.float32), 2.0, rng)
    assert dark.mean() == pytest.approx(2 * np.sqrt(np.pi / 2), rel=0.005)
    assert dark.std() == pytest.approx(2 * np.sqrt(2 - np.pi / 2), rel=0.005)
    bright = rician(np.full(400_000, 100, np.float32), 2.0, rng)
    assert bright.std() == pytest.approx(2.0, rel=0.005)
    assert bright.mean() == pytest.approx(np.hypot(100, 2 / np.sqrt(2)), abs=0.02)


@pytest.mark.parametrize("span", [0.0, 0.2, 0.6, 1.2])
def test_the_receive_field_spans_what_is_asked(span):
    brain = np.zeros((50, 44, 40), bool)
    brain[10:40, 8:36, 9:33] = True
    field = receive_field(np.random.default_rng(1), brain, AFFINE, span)
    low, high = np.percentile(field[brain], [1, 99])
    assert high - low == pytest.approx(span, abs=0.01)
    assert field[brain].mean() == pytest.approx(1, abs=1e-4)
    assert (field > 0).all()


def test_a_perfect_scanner_mixes_the_intensities_by_volume(ball_blueprint):
    scanner = Scanner(gain=500, noise=0.0, non_uniformity=0.0, contrast=FLAT)
    head = simulate_head(
        ball_blueprint, Traits(tiv=600), scanner, np.random.default_rng(0), voxel=3.0
    )
    inside = head.scan.fractions.sum(-1) > 0.999
    means = np.array([FLAT["cortex"][0], FLAT["white"][0], FLAT["csf"][0]]) * 500
    np.testing.assert_allclose(
        head.scan.image[inside], (head.scan.fractions @ means)[inside], atol=0.2
    )
    assert head.scan.image[0, 0, -1] == 0


def test_gain_scales_and_contrast_spreads():
    plain, strong = signal_table(Scanner()), signal_table(Scanner(grey=1.2))
    cortex, white, bone = (CLASSES.index(name) for name in ("cortex", "white", "bone"))
    assert 1 - strong[cortex, 0] == pytest.approx(1.2 * (1 - plain[cortex, 0]))
    assert strong[white, 0] == plain[white, 0] == 1
    assert strong[bone, 0] == plain[bone, 0]


def test_noise_of_the_image_is_a_share_of_the_gain(ball_blueprint):
    scanner = Scanner(gain=200, noise=0.05, non_uniformity=0.0, contrast=FLAT)
    images = [
        simulate_head(
            ball_blueprint,
            Traits(tiv=600),
            replace(scanner, noise=noise),
            np.random.default_rng(0),
            voxel=3.0,
        ).scan
        for noise in (0.0, 0.05)
    ]
    white = images[0].fractions[..., 1] > 0.999
    residual = (images[1].image - images[0].image)[white]
    assert residual.std() == pytest.approx(10.0, rel=0.05)
