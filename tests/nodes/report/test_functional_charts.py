"""Rows and columns of the carpet and of the matrix of regions."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from alsflow.nodes.report.functional_charts import (
    CENSORED,
    NEAR,
    TISSUES,
    TRACES,
    carpet,
    carpet_rows,
    carpet_voxels,
    draw_carpet,
    draw_matrix,
    short_name,
)

N = 40


def traces(runs=None, outliers=()):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(N, len(TRACES))), columns=list(TRACES))
    table["run"] = np.zeros(N, int) if runs is None else runs
    table["motion_outlier"] = np.isin(np.arange(N), outliers).astype(int)
    table["framewise_displacement"] = np.r_[np.nan, np.linspace(0.1, 0.5, N - 1)]
    table["global_signal"] = 1000 + 10 * table["global_signal"]
    return table


def test_every_voxel_has_the_tissue_that_it_mostly_is():
    tissue = np.zeros((2, 3, 4, 3))
    tissue[0, :, :, 0], tissue[1, 0, :, 1], tissue[1, 1, :, 2] = 0.6, 0.7, 0.9
    tissue[1, 2] = 0.33, 0.33, 0.33
    brain, deep = np.ones((2, 3, 4), bool), np.zeros((2, 3, 4), bool)
    brain[0, 0, 0] = False
    deep[0, 2], deep[1] = True, True
    rows = carpet_rows(tissue, brain, deep)
    assert rows[0, 0, 0] == -1
    assert (rows[0, 1] == 0).all()
    assert (rows[0, 2] == 1).all()
    assert [rows[1, k, 0] for k in range(3)] == [2, 3, -1]
    assert carpet_rows(tissue, brain)[0, 2, 0] == 0


def test_rows_of_the_carpet_are_shared_out_by_tissue_from_the_top():
    rows = np.full((30, 31, 12), -1)
    rows[:20], rows[20:25], rows[25, :, 3] = 0, 2, 3
    places, kinds = carpet_voxels(rows, most=50)
    assert places.shape == (len(kinds), NEAR, 3)
    assert (np.diff(kinds) >= 0).all()
    counts = np.bincount(kinds, minlength=4)
    assert counts[0] == pytest.approx(40, abs=2)
    assert counts[1] == 0
    assert counts[2] == pytest.approx(10, abs=2)
    assert counts[3] == 1  # 31 voxels are one row
    for kind in (0, 2):
        heights = places[kinds == kind][:, 0, 2]
        assert (np.diff(heights) <= 0).all()
        assert (heights[0], heights[-1]) == (11, 0)
    assert (rows[tuple(np.moveaxis(places, -1, 0))] == kinds[:, None]).all()
    assert len(carpet_voxels(np.full((4, 5, 6), -1))[1]) == 0


def test_carpet_is_in_standard_deviations_about_a_line_in_each_run():
    rng = np.random.default_rng(1)
    runs = np.repeat([0, 1], [25, 15])
    course = rng.normal(size=N)
    for run in (0, 1):  # what is neither level nor trend of its run
        own = np.flatnonzero(runs == run)
        course[own] -= np.polyval(np.polyfit(own, course[own], 1), own)
    level = np.where(runs == 0, 500, 900) + np.where(runs == 0, 3, -2) * np.arange(N)
    gains = rng.uniform(1, 9, (6, NEAR, 1))
    shown = carpet(gains * (course + 2) + level, runs)
    np.testing.assert_allclose(shown, np.tile(course / course.std(), (6, 1)), atol=1e-9)


def test_carpet_of_noise_is_grey_and_missing_volumes_stay_missing():
    data = np.random.default_rng(2).normal(size=(50, NEAR, N))
    data[..., [3, 9]] = np.nan
    data[7] = 4.0  # does not vary
    shown = carpet(data, np.zeros(N, int))
    assert np.isnan(shown[:, [3, 9]]).all()
    known = np.delete(shown, [3, 9], axis=1)
    assert known.std() == pytest.approx(1 / np.sqrt(NEAR), rel=0.05)
    assert np.abs(known[7]).max() < 1e-6


@pytest.mark.parametrize("denoised", [False, True])
def test_carpet_figure(denoised):
    rng = np.random.default_rng(3)
    runs = np.repeat([0, 1], [25, 15])
    before = rng.normal(size=(30, NEAR, N))
    after = rng.normal(size=(30, NEAR, N)) if denoised else None
    if denoised:
        after[..., 12] = np.nan
    kinds = np.repeat([0, 2, 3], [18, 9, 3])
    figure = draw_carpet(before, after, kinds, traces(runs, (4, 30)), 2.5)
    shift, turn, fd, dvars, level, *panels = figure.axes
    assert len(panels) == 1 + denoised
    assert "before denoising" in panels[0].get_title(loc="left")
    x = np.concatenate([line.get_xdata() for line in fd.lines[:2]])
    np.testing.assert_array_equal(x, np.arange(1, N + 1))
    table = traces(runs)
    np.testing.assert_allclose(turn.lines[0].get_ydata(), np.rad2deg(table["rot_x"][:25]))
    np.testing.assert_allclose(shift.lines[3].get_ydata(), table["trans_y"][25:])
    assert fd.get_title(loc="right") == "mean 0.30, largest 0.50"
    assert np.mean(level.lines[1].get_ydata()) == pytest.approx(0, abs=1e-9)  # of its own run
    borders = [line.get_xdata()[0] for line in dvars.lines if len(set(line.get_xdata())) == 1]
    assert borders == [25.5]
    assert [patch.get_x() + 0.5 for patch in dvars.patches] == [5, 31]
    assert panels[-1].get_xlabel() == (
        "volume, one every 2.5 s; orange: 2 outlier volumes; dashed: a new run"
    )
    names = [text.get_text() for text in panels[0].texts]
    assert names == [name for name in TISSUES if name != "deep grey"]
    if denoised:
        picture = panels[1].images[0].get_array()
        np.testing.assert_allclose(picture[:, 12], np.tile(to_rgb(CENSORED), (30, 1)))


def test_matrix_puts_left_before_right_and_leaves_out_what_is_not_seen():
    names = ["Right_Putamen", "Left_PrG_precentral_gyrus", "Brain_Stem", "Left_Putamen",
             "Right_PrG_precentral_gyrus"]  # fmt: skip
    sides = {name: name.split("_")[0].lower() for name in names}
    sides["Brain_Stem"] = ""
    r = np.arange(25.0).reshape(5, 5) / 25
    r = (r + r.T) / 2
    r[0] = r[:, 0] = np.nan
    figure = draw_matrix(r, names, sides)
    axes = figure.axes[0]
    shown = np.ma.filled(axes.images[0].get_array(), np.nan)
    order = [1, 3, 4, 2]
    expected = r[np.ix_(order, order)]
    np.fill_diagonal(expected, np.nan)
    np.testing.assert_allclose(shown, expected)
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["PrG", "Putamen", "PrG", "Brain Stem", "left", "right", "middle"]
    assert any("4 regions; 1 not seen" in text.get_text() for text in figure.texts)
    low, high = axes.images[0].get_clim()
    assert low == -high
    draw_matrix(np.full((5, 5), np.nan), names, sides)


@pytest.mark.parametrize(("name", "short"), [
    ("Right_PrG_precentral_gyrus", "PrG"),
    ("Left_Thalamus_Proper", "Thalamus Proper"),
    ("Thalamus_L", "Thalamus"),
    ("Left Striatum", "Striatum"),
    ("Cerebellar_Vermal_Lobules_I-V", "Cerebellar Verm…"),
])  # fmt: skip
def test_short_names(name, short):
    assert short_name(name) == short
