"""Charts of the spectroscopy stream: what stands where, in which order and colour."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from alsflow.nodes.report.diffusion_charts import GREY
from alsflow.nodes.report.spectroscopy import (
    FIT,
    MOST_ROWS,
    coverage,
    draw_fit,
    draw_tissue_bar,
    headline,
    listed,
)

METABOLITES = pd.DataFrame({
    "name": ["Ala", "Asp", "tCho", "tNAA", "mIns", "Lip"],
    "conc": [0.1, 0.2, 12345.6, 6.5, np.nan, 0.0],
    "sd_percent": [16, 15, 2, 16, np.nan, 999],
})  # fmt: skip


def spectra(low=0.2, high=4.0, baseline=True, noise=0.02, n=300):
    ppm = np.linspace(high, low, n)
    fit = 100 * np.exp(-(((ppm - 2.01) / 0.03) ** 2))
    data = fit + np.random.default_rng(0).normal(0, 100 * noise, n)
    table = pd.DataFrame({"ppm": ppm, "data": data, "fit": fit, "residual": data - fit})
    return table.assign(baseline=1.0 + 0 * ppm if baseline else np.nan)


def words(figure):
    """Every text of a figure that is not empty."""
    inside = [text for axes in figure.axes for text in axes.texts]
    return [text for text in (*figure.texts, *inside) if text.get_text()]


def extent(figure, text):
    return text.get_window_extent(FigureCanvasAgg(figure).get_renderer())


@pytest.mark.parametrize("noise", [0.0, 0.02, 2.0])
def test_the_residual_is_on_the_scale_of_the_spectrum(noise):
    figure = draw_fit(spectra(noise=noise), {})
    over, under = figure.axes
    scales = [np.ptp(axes.get_ylim()) / axes.get_position().height for axes in (over, under)]
    assert scales[0] == pytest.approx(scales[1])
    residual = np.asarray(over.lines[-1].get_ydata())
    assert over.get_ylim()[0] < residual.min()
    assert residual.max() < over.get_ylim()[1]
    assert over.get_position().y0 == pytest.approx(under.get_position().y1)


def test_ppm_runs_to_the_left_and_only_peaks_in_range_are_named():
    _, whole = draw_fit(spectra(), {}).axes
    assert whole.get_xlim() == (4.0, pytest.approx(0.2))
    assert {text.get_text() for text in whole.texts} == {"tNAA", "tCr", "tCho", "mIns"}
    _, part = draw_fit(spectra(high=3.1), {}).axes
    assert {text.get_text(): text.xy[0] for text in part.texts} == {"tNAA": 2.01, "tCr": 3.03}


def test_curves_and_their_colours():
    _, axes = draw_fit(spectra(), {}).axes
    curves = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(curves["spectrum"].get_ydata(), spectra()["data"])
    np.testing.assert_array_equal(curves["fit"].get_ydata(), spectra()["fit"])
    assert curves["spectrum"].get_color() == "black"
    assert curves["fit"].get_color() == FIT
    assert curves["baseline"].is_dashed()
    _, without = draw_fit(spectra(baseline=False), {}).axes
    assert "baseline" not in {line.get_label() for line in without.lines}


def test_a_spectrum_without_values_says_so():
    _, axes = draw_fit(spectra() * [1, np.nan, np.nan, np.nan, np.nan], {}).axes
    assert "n/a" in {text.get_text() for text in axes.texts}


@pytest.mark.parametrize(
    ("quality", "lines"),
    [
        ({"snr": 21.0, "fwhm_ppm": 0.0461, "included": True, "reasons": []},
         ["S/N 21; line width 0.046 ppm; used"]),
        ({"snr": 2, "fwhm_ppm": None, "included": False, "reasons": ["S/N 2 (< 3)", "x"]},
         ["S/N 2; line width n/a; not used", "S/N 2 (< 3); x"]),
        ({"snr": None, "snr_overflow": True, "reasons": "one"},
         ["S/N off scale; line width n/a", "one"]),
        ({}, ["S/N n/a; line width n/a"]),
    ],
)  # fmt: skip
def test_the_headline_says_what_is_known(quality, lines):
    assert headline(quality) == lines


def test_many_reasons_are_cut():
    lines = headline({"reasons": ["word " * 30] * 5})
    assert len(lines) == 4
    assert lines[-1].endswith("…")


def test_metabolites_of_papers_lead_and_the_limit_itself_is_within():
    rows = listed(METABOLITES, 15)
    assert [row[0] for row in rows] == ["tNAA", "tCho", "mIns", "Asp", "Ala", "Lip"]
    assert [row[3] for row in rows] == [False, True, False, True, False, False]
    assert [row[2] for row in rows] == ["16", "2", "n/a", "15", "16", "≥ 999"]
    assert rows[1][1] == "12346"
    assert rows[2][1] == "n/a"


def test_what_has_no_room_is_counted_and_is_never_what_counts():
    many = pd.DataFrame({"name": [f"M{k}" for k in range(40)], "conc": 1.0,
                         "sd_percent": [50] * 30 + [5] * 10})  # fmt: skip
    rows = listed(many, 15)
    assert len(rows) == MOST_ROWS
    assert rows[-1][0] == f"and {40 - MOST_ROWS + 1} more"
    assert sum(row[3] for row in rows) == 10


def test_rows_beyond_the_limit_are_grey_at_any_limit():
    for limit in (15.0, 20.0):
        figure = draw_fit(spectra(), {}, METABOLITES, limit)
        grey = {text.get_text() for text in figure.texts if text.get_color() == GREY}
        assert ("Ala" in grey) == (limit == 15)
        assert {"Lip", "mIns", f"grey: beyond {limit:g} %"} <= grey
        assert "Asp" not in grey


def test_no_two_texts_meet_and_none_leaves_the_picture():
    long = [f"Met{k}+Lip{k}a+Lip{k}b" for k in range(45)]
    table = pd.DataFrame({"name": [*long, "tCr"], "conc": 1e-9, "sd_percent": 999,
                          "unit": "mmol/kg"})  # fmt: skip
    quality = {"snr": 120, "fwhm_ppm": 0.123, "included": False, "reasons": ["no line " * 9] * 9}
    figure = draw_fit(spectra(), quality, table)
    FigureCanvasAgg(figure).draw()
    shown = [(text.get_text(), extent(figure, text)) for text in words(figure)]
    shown += [(text.get_text(), extent(figure, text)) for text in figure.legends[0].get_texts()]
    assert f"and {46 - MOST_ROWS + 1} more" in {name for name, _ in shown}
    for (one, first), (other, second) in combinations(shown, 2):
        assert not first.padded(-1).overlaps(second.padded(-1)), (one, other)
    for name, box in shown:
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1, name
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1, name


def test_the_bar_has_the_length_of_the_voxel():
    fractions = {"gm": 0.3, "wm": 0.2, "csf": 0.1, "in_view": 0.6, "in_brain": None,
                 "nominal_volume": 15.0}  # fmt: skip
    figure = draw_tissue_bar(fractions, ["only 60% of the voxel lies in the field of view"])
    bars = [(round(bar.get_x(), 6), bar.get_width()) for bar in figure.axes[0].patches]
    np.testing.assert_allclose(bars, [(0, 0.3), (0.3, 0.2), (0.5, 0.1), (0.6, 0.4)])
    said = {text.get_text() for text in words(figure)}
    assert {"grey matter 0.300", "no tissue 0.400", "30.0 %", "40.0 %"} <= said
    assert "voxel of 15.0 mL, 60.0 % in the field of view" in said
    assert any(text.startswith("Mind: only 60%") for text in said)


def test_a_full_voxel_has_no_rest_and_a_thin_part_no_number():
    figure = draw_tissue_bar({"gm": 0.37, "wm": 0.604, "csf": 0.02597})
    assert len(figure.axes[0].patches) == 3
    assert {text.get_text() for text in figure.axes[0].texts} == {"37.0 %", "60.4 %"}
    assert coverage({"in_brain": 0.998}) == "99.8 % in the brain mask"
