"""Where things are drawn: sides, colours and rows of the diffusion pictures."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from alsflow.nodes.geometry import grid_points
from alsflow.nodes.report.diffusion import (
    TRACT_COLOURS,
    draw_colour_fa,
    draw_edges,
    draw_tracts,
)
from alsflow.nodes.report.diffusion_charts import draw_histograms, draw_motion, draw_profiles

SHAPE = (40, 48, 36)


def affine(flip=1):
    """A little oblique; `flip` -1 stores x from right to left."""
    turn = np.array([[0.998, -0.05, 0.03], [0.05, 0.998, -0.02], [-0.03, 0.02, 0.999]])
    out = np.eye(4)
    out[:3, :3] = turn * (4.0 * flip, 4.2, 4.4)
    out[:3, 3] = -out[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    return out


def head(grid):
    x, y, z = grid_points(SHAPE, grid)
    return x, y, z, (x / 65) ** 2 + (y / 82) ** 2 + (z / 60) ** 2 < 1


def pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(float) / 255


@pytest.mark.parametrize("flip", [1, -1])
def test_colours_name_world_directions_and_left_is_left(flip):
    """Left half runs from left to right (red), right half up and down (blue)."""
    grid = affine(flip)
    x, _, _, brain = head(grid)
    directions = np.zeros((*SHAPE, 3))
    directions[..., 0] = np.where(x < 0, -1, 0)
    directions[..., 2] = x >= 0
    picture = pixels(draw_colour_fa(np.full(SHAPE, 0.7), directions, brain, grid))
    middle = picture[: picture.shape[0] // 3]
    tile = middle.shape[1] // 2
    window = middle[:, tile - 60 : tile + 60]  # the middle one of seven
    red = (window[..., 0] > 0.6) & (window[..., 2] < 0.3)
    blue = (window[..., 2] > 0.6) & (window[..., 0] < 0.3)
    assert red.sum() > 500
    assert blue.sum() > 500
    assert np.nonzero(red)[1].max() <= np.nonzero(blue)[1].min() + 3


def test_brightness_is_anisotropy_and_outside_the_brain_is_black():
    grid = affine()
    *_, brain = head(grid)
    directions = np.zeros((*SHAPE, 3))
    directions[..., 1] = 1
    for fa, level in ((0.4, 0.5), (0.8, 1.0), (1.2, 1.0), (np.nan, 0.0)):
        picture = pixels(draw_colour_fa(np.full(SHAPE, fa), directions, brain, grid))
        slices = picture[:-30]
        found = np.median(slices[..., 1][slices[..., 1] > 0.3]) if level else slices[..., 1].min()
        assert found == pytest.approx(level, abs=0.03)


@pytest.mark.parametrize("flip", [1, -1])
def test_tracts_lie_on_their_side(flip):
    grid = affine(flip)
    x, y, z, brain = head(grid)
    right = np.exp(-(((x - 25) / 9) ** 2) - (y / 30) ** 2)
    left = 0.4 * np.exp(-(((x + 25) / 9) ** 2) - (y / 30) ** 2)
    picture = pixels(draw_tracts(np.full(SHAPE, 0.3), brain, grid, {"a L": left, "a R": right}))
    window = picture[: picture.shape[0] // 3]
    middle = window.shape[1] // 2
    window = window[:, middle - 85 : middle + 85]
    places = []
    for colour in TRACT_COLOURS[:2]:
        near = np.abs(window - np.array(to_rgb(colour))).max(axis=2) < 0.1
        assert near.sum() > 20  # its outline
        places.append(np.nonzero(near)[1].mean())
    assert places[0] + 25 < places[1]


def test_absent_and_empty_tracts_are_no_error():
    grid = affine()
    *_, brain = head(grid)
    draw_tracts(np.full(SHAPE, 0.3), brain, grid, {})
    picture = pixels(draw_tracts(np.full(SHAPE, 0.3), brain, grid, {"none": np.zeros(SHAPE)}))
    drawn = picture[:-30]
    colour = np.abs(drawn - np.array(to_rgb(TRACT_COLOURS[0]))).max(axis=2) < 0.1
    assert not colour.any()


def test_borders_follow_the_rigid_transform_and_both_rows_are_drawn():
    """Tissue lies 30 mm to the right in its own space; the transform brings it back."""
    grid = affine()
    x, y, z, brain = head(grid)
    tissue_grid = np.diag([3.0, 3.1, 3.2, 1.0])
    tissue_grid[:3, 3] = (-70, -100, -80)
    shape = (60, 66, 52)
    px, py, pz = grid_points(shape, tissue_grid)
    wm = (((px - 30) / 40) ** 2 + (py / 50) ** 2 + (pz / 40) ** 2 < 1).astype(float)
    gm = (((px - 30) / 65) ** 2 + (py / 82) ** 2 + (pz / 60) ** 2 < 1) - wm
    to_t1w = np.eye(4)
    to_t1w[0, 3] = 30
    one = pixels(draw_edges(100 * brain, None, brain, grid, (gm, wm), tissue_grid, to_t1w))
    two = pixels(draw_edges(100 * brain, 50 * brain, brain, grid, (gm, wm), tissue_grid, to_t1w))
    assert 1.8 < (two.shape[0] - 26) / (one.shape[0] - 26) < 2.2
    yellow = (two[..., 0] > 0.9) & (two[..., 1] > 0.7) & (two[..., 2] < 0.25)
    tile = yellow[: two.shape[0] // 2, : two.shape[1] // 8]
    columns = np.nonzero(tile)[1]
    bright = two[: two.shape[0] // 2, : two.shape[1] // 8].max(axis=2) > 0.6
    bright[:, :12] = bright[-60:] = False  # letters
    inside = np.nonzero(bright)[1]
    assert columns.min() == pytest.approx(inside.min(), abs=6)
    half = (two.shape[0] - 26) // 2
    levels = [np.median(r[r > 0.2]) for r in (two[:half, :150, 2], two[half:-26, :150, 2])]
    assert levels[1] < 0.7 * levels[0]  # one window for both rows


def test_motion_marks_b0_and_counts_from_one():
    n = 9
    b0 = np.zeros(n, bool)
    b0[[0, 5]] = True
    fd = np.r_[np.nan, np.arange(n - 1) / 10]
    outliers = np.array([0, 0, 3, 0, 0, 0, 0, 0, 1])
    figure = draw_motion(np.arange(3 * n).reshape(n, 3), np.zeros((n, 3)), fd, outliers, b0)
    shifts, turns, displacement, lost = figure.axes
    assert [line.get_label() for line in shifts.lines[:3]] == ["x", "y", "z"]
    np.testing.assert_array_equal(shifts.lines[2].get_ydata(), np.arange(2, 3 * n, 3))
    np.testing.assert_array_equal(displacement.lines[0].get_xdata(), np.arange(1, n + 1))
    assert [bar.get_height() for bar in lost.patches[:n]] == list(outliers)
    bands = [patch.get_x() + 0.5 for patch in turns.patches]
    assert bands == [1, 6]
    assert turns.get_ylabel() == "rotation, degrees"


def test_histograms_are_of_the_brain_alone_and_in_stated_units():
    brain = np.zeros(SHAPE, bool)
    brain[5:20] = True
    fa = np.where(brain, 0.25, 0.9)
    fa[6, 6, 6] = np.nan
    figure = draw_histograms(fa, np.where(brain, 0.8e-3, 9), brain)
    left, right = figure.axes
    assert left.get_title(loc="right").startswith(f"median 0.25; {brain.sum() - 1} voxels")
    assert right.get_title(loc="right").startswith(f"median 0.80; {brain.sum()} voxels; 0.0 %")
    values, edges, _ = left.patches[0].get_data()
    assert values.sum() == pytest.approx(100)
    assert edges[np.argmax(values)] == pytest.approx(0.25)
    draw_histograms(fa, fa, np.zeros(SHAPE, bool))


def test_profiles_scale_diffusivities_and_leave_gaps():
    rows = [
        (tract, side, metric, node, level + node / 1000 * level, 0.1 * level)
        for tract in ("corticospinal", "corticothalamic")
        for side in ("left", "right")
        for metric, level in (("fa", 0.5), ("md", 0.8e-3))
        for node in range(100)
    ]
    table = pd.DataFrame(rows, columns=["tract", "side", "metric", "node", "mean", "sd"])
    gone = (table["tract"] == "corticothalamic") & (table["metric"] == "md")
    table.loc[gone, ["mean", "sd"]] = np.nan
    figure = draw_profiles(table.sample(frac=1, random_state=0).sort_values(["tract", "metric"]))
    fa, _, md, empty = figure.axes
    assert [line.get_label() for line in fa.lines] == ["left", "right"]
    np.testing.assert_allclose(fa.lines[0].get_ydata()[[0, -1]], [0.5, 0.5495])
    np.testing.assert_allclose(md.lines[1].get_ydata()[0], 0.8)
    assert "mm²/s" in md.get_ylabel()
    assert [text.get_text() for text in empty.texts] == ["n/a"]
