"""Ringing made by cutting k-space, against the image it was made from."""

import numpy as np
import pytest
from dipy.denoise.gibbs import gibbs_removal
from scipy import ndimage

from alsflow.nodes.dwi.gibbs import best_shifts, partial_fourier_note, shares, unring
from alsflow.nodes.errors import BadInputError

SHAPE = (48, 51, 4)  # one even, one odd


@pytest.fixture(scope="module")
def ringing():
    """Ellipses with sharp edges: mean over each voxel, and what a scanner makes of them."""
    fine = np.zeros((4 * SHAPE[0], 4 * SHAPE[1], SHAPE[2]), np.float32)
    x, y = (np.indices(fine.shape[:2]).T / [fine.shape[0], fine.shape[1]] - 0.5).T
    for z in range(SHAPE[2]):
        for size, level in ((0.42, 500), (0.3, -200), (0.1, 700 + 50 * z)):
            fine[..., z] += level * ((x / size) ** 2 + (y / (0.9 * size)) ** 2 < 1)
    truth = fine.reshape(SHAPE[0], 4, SHAPE[1], 4, SHAPE[2]).mean((1, 3))
    spectrum = np.fft.fftshift(np.fft.fft2(fine, axes=(0, 1)), axes=(0, 1))
    low = [slice(2 * m - m // 2, 2 * m - m // 2 + m) for m in SHAPE[:2]]
    cut = np.fft.ifftshift(spectrum[tuple(low)], axes=(0, 1))
    return truth, np.abs(np.fft.ifft2(cut, axes=(0, 1)) / 16).astype(np.float32)[..., None]


def error(image, truth):
    return float(np.sqrt(((image - truth) ** 2).mean()))


def test_ringing_goes_and_edges_stay(ringing):
    truth, rung = ringing
    clean = unring(rung)[..., 0]
    inner = ndimage.binary_erosion(truth[..., 0] == 500, iterations=2)
    assert inner.sum() > 100
    ripple = np.std(rung[inner, :, 0] - 500)
    assert np.std(clean[inner] - 500) < 0.4 * ripple
    assert error(clean, truth) < error(rung[..., 0], truth)


def test_no_worse_than_another_implementation(ringing):
    truth, rung = ringing
    other = gibbs_removal(rung[..., 0].copy(), inplace=False)
    assert error(unring(rung)[..., 0], truth) < 1.02 * error(other, truth)


@pytest.mark.parametrize("n", [24, 25])
def test_lines_as_written_down_in_the_paper(n):
    """All shifts at once with complex transforms in double precision, voxel by voxel."""
    lines = np.random.default_rng(n).normal(500, 100, (3, n)).cumsum(axis=1).astype(np.float32)
    frequency = np.fft.fftfreq(n)
    found = best_shifts(lines)
    shifts = [0.0] + [s * k / 40 for k in range(1, 21) for s in (1, -1)]
    for line, values in zip(lines.astype(float), found, strict=True):
        spectrum = np.fft.fft(line)
        moved = [np.fft.ifft(spectrum * np.exp(2j * np.pi * frequency * s)).real for s in shifts]
        for k in range(n):
            costs = []
            for image in moved:
                sides = []
                for sign in (1, -1):
                    near = [image[(k + sign * a) % n] for a in range(1, 5)]
                    sides.append(np.abs(np.diff(near)).sum())
                costs.append(min(sides))
            best = int(np.argmin(costs))
            s, image = shifts[best], moved[best]
            beside = image[(k - int(np.sign(s))) % n]
            expected = (1 - abs(s)) * image[k] + abs(s) * beside
            assert abs(values[k] - expected) < 1e-4 * line.max()


def test_a_smooth_image_stays():
    x, y = np.indices((40, 36)) * 2 * np.pi / [[[40]], [[36]]]
    smooth = 500 + 100 * np.sin(x) * np.cos(y)
    clean = unring(np.repeat(smooth[:, :, None, None], 2, axis=2).astype(np.float32))
    assert np.abs(clean[:, :, 0, 0] - smooth).max() < 2


def test_the_slice_axis_is_a_matter_of_order(ringing):
    rung = ringing[1]
    turned = unring(np.moveaxis(rung, 2, 0), slice_axis=0)
    np.testing.assert_allclose(np.moveaxis(turned, 0, 2), unring(rung), atol=1e-3)
    other = unring(np.swapaxes(rung, 0, 1))
    np.testing.assert_allclose(np.swapaxes(other, 0, 1), unring(rung), atol=0.05)


def test_lines_through_the_mask_are_done_as_without_it(ringing):
    rung = ringing[1]
    mask = np.zeros(SHAPE, bool)
    mask[3:-3, 3:-3, :3] = True
    clean, part = unring(rung), unring(rung, mask=mask)
    assert error(part[mask], clean[mask]) < 0.05 * error(rung[mask], clean[mask])
    np.testing.assert_allclose(part[:, :, 3], rung[:, :, 3], atol=1e-2)


def test_weights_sum_to_one_and_favour_the_axis_that_rings():
    first, second = shares(10, 13)
    np.testing.assert_allclose(first + second, 1)
    assert first[5, 0] == 1  # highest frequency along the first axis alone
    assert second[0, 6] > 0.98


def test_refusal_and_note():
    with pytest.raises(BadInputError, match="fewer than 8 voxels"):
        unring(np.ones((7, 20, 5, 2)))
    assert unring(np.ones((8, 20, 5, 2))).shape == (8, 20, 5, 2)
    assert "0.75" in partial_fourier_note(0.75)
    assert partial_fourier_note(1.0) == partial_fourier_note(None) == ""
