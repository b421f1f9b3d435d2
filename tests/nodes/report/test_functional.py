"""Where seeds, connectivity and tSNR are drawn, and in which colours."""

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from alsflow.nodes.geometry import grid_points
from alsflow.nodes.report.anatomy import LEGEND, OPACITY, REGION_COLOURS
from alsflow.nodes.report.functional import (
    CONNECTED,
    distinct,
    draw_connectivity,
    draw_local,
    draw_seeds,
    draw_tsnr,
    smoothed,
    through,
)
from alsflow.nodes.report.slices import plan

SHAPE = (40, 46, 34)


def affine(flip=1):
    """A little oblique; `flip` -1 stores x from right to left."""
    turn = np.array([[0.998, -0.05, 0.03], [0.05, 0.998, -0.02], [-0.03, 0.02, 0.999]])
    out = np.eye(4)
    out[:3, :3] = turn * (3.8 * flip, 4.2, 4.4)
    out[:3, 3] = -out[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    return out


def head(flip=1):
    grid = affine(flip)
    x, y, z = grid_points(SHAPE, grid)
    brain = (x / 65) ** 2 + (y / 82) ** 2 + (z / 60) ** 2 < 1
    return grid, x, y, z, brain


def pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(float) / 255


def like(picture, colour, within=0.06):
    return np.abs(picture - np.array(to_rgb(colour))).max(axis=-1) < within


def axial(picture, tile):
    """One of the six tiles of the first row."""
    tops = picture[:-LEGEND]
    x = np.flatnonzero(tops.max(axis=(0, 2)) > 0)
    middle, width = (x.min() + x.max()) / 2, 142 / 1.25
    start = int(middle + (tile - 3) * width)
    return tops[12:110, start : start + int(width)]


@pytest.mark.parametrize("flip", [1, -1])
def test_seeds_lie_on_their_side_in_their_colours(flip):
    grid, x, y, _, brain = head(flip)
    left = brain & (np.abs(x + 30) < 12) & (np.abs(y) < 30)
    right = brain & (np.abs(x - 30) < 12) & (np.abs(y) < 30)
    seeds = {"L": left, "R": right, "both": left | right}
    figure = draw_seeds(np.where(brain, 90.0, 5.0), brain, grid, seeds)
    texts = [text.get_text() for text in figure.texts]
    assert any(f"L, {left.sum()} voxels" in text for text in texts)
    assert not any("both" in text for text in texts)
    tile = axial(pixels(figure), 3)
    white = 90.0 / (90.0 * 1.15)
    places = []
    for colour in REGION_COLOURS[:2]:
        mixed = (1 - OPACITY) * white + OPACITY * np.array(to_rgb(colour))
        found = like(tile, mixed)
        assert found.sum() > 200
        places.append(np.nonzero(found)[1].mean())
    assert places[0] + 30 < places[1]


def test_a_seed_made_of_others_and_one_without_voxels_are_not_drawn():
    a, b, none = np.zeros((3, *SHAPE), bool)
    a[:5], b[5:9] = True, True
    assert list(distinct({"ab": a | b, "b": b, "none": none, "a": a})) == ["b", "a"]
    assert list(distinct({"ab": a | b, "a": a})) == ["ab", "a"]
    assert distinct({}) == {}
    grid, *_, brain = head()
    draw_seeds(np.where(brain, 9.0, 0.0), brain, grid, {"none": none})


@pytest.mark.parametrize("flip", [1, -1])
def test_connectivity_has_its_sign_its_side_and_its_threshold(flip):
    """Left half: z = -0.6, right half: +0.6, the middle below the threshold."""
    grid, x, _, _, brain = head(flip)
    z = np.where(brain, np.where(x < -15, -0.6, np.where(x > 15, 0.6, 0.2)), 0)
    seed = brain & (x > 40)
    figure = draw_connectivity(np.where(brain, 90.0, 0), brain, grid, z, seed, "S")
    tile = axial(pixels(figure), 3)
    negative, positive = (like(tile, CONNECTED((v + 1) / 2)[:3]) for v in (-0.6, 0.6))
    columns = [np.nonzero(found)[1] for found in (negative, positive)]
    assert min(len(c) for c in columns) > 500
    assert columns[0].max() < columns[1].min()
    middle = tile[40:60, tile.shape[1] // 2 - 3 : tile.shape[1] // 2 + 3]
    assert np.ptp(middle, axis=-1).max() < 0.02  # grey
    texts = " ".join(text.get_text() for text in figure.texts)
    assert "shown from ±0.26 (r = 0.25)" in texts
    assert "seed S" in texts
    assert like(tile, "white", 0.2).sum() > 20  # outline of the seed


def test_the_nearest_slices_are_moved_into_the_seed():
    grid, x, y, z, brain = head()
    seed = (x - 31) ** 2 + (y + 20) ** 2 + (z - 33) ** 2 < 64
    layout = plan(brain, grid, count=6)
    moved = through(layout, seed, grid)
    for axis, place in enumerate((31, -20, 33)):
        before, after = (
            np.array([tile.position for tile in part.tiles if tile.axis == axis])
            for part in (layout, moved)
        )
        changed = before != after
        assert changed.sum() == 1
        assert after[changed][0] == pytest.approx(place, abs=4)
        assert np.abs(before - place).argmin() == changed.argmax()
    assert through(layout, np.zeros(SHAPE, bool), grid) == layout


def test_local_measures_have_a_row_each():
    grid, x, *_, brain = head()
    maps = {"ALFF": np.where(x > 15, 2.5, 0), "ReHo": np.where(x < -15, -2.5, np.nan)}
    figure = draw_local(np.where(brain, 90.0, 0), brain, grid, maps)
    assert [t.get_text() for t in figure.axes[0].texts[-2:]] == ["ALFF", "ReHo"]
    picture = pixels(figure)
    height = (len(picture) - LEGEND) // 2
    colours = [CONNECTED((v / 3 + 1) / 2)[:3] for v in (2.5, -2.5)]
    counts = [[like(picture[:height], c).sum(), like(picture[height:-LEGEND], c).sum()]
              for c in colours]  # fmt: skip
    assert counts[0][0] > 3000
    assert counts[1][1] > 3000
    assert counts[0][1] < 50
    assert counts[1][0] < 50
    tile = picture.shape[1] // 6
    right, left = (np.nonzero(like(half[:, 2 * tile : 3 * tile], colour))[1].mean()
                   for half, colour in zip((picture[:height], picture[height:-LEGEND]), colours,
                                           strict=True))  # fmt: skip
    assert left + 30 < right


def test_nothing_known_is_nothing_drawn():
    grid, x, _, _, brain = head()
    z = np.full(SHAPE, np.nan)
    picture = pixels(draw_connectivity(np.where(brain, 9.0, 0), brain, grid, z, x > 500, "S"))
    assert np.ptp(picture[: -LEGEND - 2], axis=-1).max() < 0.02


def test_smoothing_stays_among_known_voxels_and_keeps_a_constant():
    grid, x, *_, brain = head()
    values = np.where(brain & (x > 0), 0.7, 0)
    found = smoothed(values, grid)
    np.testing.assert_allclose(found[values > 0], 0.7, rtol=1e-4)
    assert (found[values == 0] == 0).all()
    spike = np.where(brain, 1e-6, 0)
    spike[20, 23, 17] = 1
    wide = smoothed(spike, grid, 12)
    assert wide[20, 23, 17] < 0.15
    # half of the height half a width away: the edge of y is 4.2 mm
    narrow = smoothed(spike, grid, 8.4)
    assert narrow[20, 24, 17] / narrow[20, 23, 17] == pytest.approx(0.5, abs=0.02)


def test_tsnr_ends_at_a_round_number_and_says_its_median():
    grid, x, _, _, brain = head()
    tsnr = np.where(brain, np.where(x < 0, 40.0, 63.0), np.nan)
    figure = draw_tsnr(tsnr, brain, grid)
    texts = [text.get_text() for text in figure.texts]
    assert "70" in texts
    assert any(f"median {np.median(tsnr[brain]):.0f}" in text for text in texts)
    tile = axial(pixels(figure), 3)
    colours = matplotlib.colormaps["viridis"]
    low, high = (like(tile, colours(v / 70)[:3]) for v in (40, 63))
    assert np.nonzero(low)[1].max() <= np.nonzero(high)[1].min() + 2
    assert min(low.sum(), high.sum()) > 1000
    draw_tsnr(np.full(SHAPE, np.nan), brain, grid)
