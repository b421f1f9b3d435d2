"""`.coord`, `.csv` and `.print` say the same as the table of their run."""

from dataclasses import replace
from math import isnan

import numpy as np
import pytest

from alsflow.nodes.mrs.lcmodel_coord import read_coord
from alsflow.nodes.mrs.lcmodel_csv import check_against_csv, read_csv
from alsflow.nodes.mrs.lcmodel_print import Correlations, read_correlations, read_settings
from alsflow.nodes.mrs.lcmodel_table import read_table
from alsflow.nodes.mrs.result import LCModelError


def text(path):
    return path.read_bytes().decode("utf-8-sig", errors="replace")


@pytest.fixture(scope="module")
def folder(shared_data):
    return shared_data / "lcmodel"


def test_every_coord_has_the_table_of_its_run(folder):
    checked = 0
    for path in sorted(folder.glob("*/out.coord")):
        coord, spectra = read_coord(text(path), "x")
        table = read_table(text(path.with_suffix(".table")), "x")
        assert replace(coord, inputs={}) == replace(table, inputs={}), path.parent.name
        assert coord.inputs == table.inputs
        assert (spectra is None) == (table.status != "ok")
        checked += 1
    assert checked == 18


def test_the_fit_of_a_coord_lies_on_its_data(folder):
    _, spectra = read_coord(text(folder / "sim_steam160_healthy/out.coord"), "x")
    assert spectra.ppm[[0, -1]] == pytest.approx([4.0, 0.997], abs=2e-3)
    assert np.std(spectra.data - spectra.fit) < 0.01 * np.ptp(spectra.data)
    parts = sum(curve - spectra.baseline for _, curve in spectra.metabolites)
    rounding = 5e-4 * len(spectra.metabolites)  # the baseline is printed with four digits
    np.testing.assert_allclose(parts + spectra.baseline, spectra.fit, atol=rounding)


def test_a_fit_without_baseline_does_not_take_a_metabolite_for_it(folder):
    _, spectra = read_coord(text(folder / "nobase/out.coord"), "x")
    assert spectra.baseline is None
    assert spectra.metabolites[0][0] == "Ala"


def test_a_coord_that_was_cut_keeps_its_rows_and_has_no_spectra(folder):
    result, spectra = read_coord(text(folder / "derived/truncated.coord"), "x")
    assert (result.status, result.n_rows, spectra) == ("truncated", 26, None)


def test_a_curve_with_a_point_too_few_is_refused(folder):
    lines = text(folder / "neach0/out.coord").split("\n")
    with pytest.raises(LCModelError, match="379 points"):
        read_coord("\n".join([*lines[:38], lines[38].rsplit(None, 1)[0], *lines[39:]]), "x")


def test_every_csv_agrees_with_its_table(folder):
    checked = 0
    for path in sorted(folder.glob("*/out.csv")):
        voxels = read_csv(text(path), "out.csv")
        table = read_table(text(path.with_suffix(".table")), "out.table")
        check_against_csv(table, voxels, "out.csv")
        checked += table.status == "ok" and len(voxels) == 1
    assert checked >= 50


def test_a_table_left_from_an_earlier_run_is_found_out(folder):
    table = read_table(text(folder / "sim_steam160_als/out.table"), "out.table")
    voxels = read_csv(text(folder / "sim_steam160_healthy/out.csv"), "out.csv")
    for csv in (voxels, []):
        with pytest.raises(LCModelError, match="another run"):
            check_against_csv(table, csv, "out.csv")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t.replace("Row, Col", "Col, Row"), "no head"),
        (lambda t: t.replace("Ala %SD", "Asp %SD"), "no head"),
        (lambda t: t[:-40], "the file was cut"),
        (lambda t: t.replace("0.000,  999", "0.0x0,  999"), "no number"),
    ],
)
def test_a_spoilt_csv_is_refused(folder, spoil, words):
    whole = text(folder / "sim_steam160_healthy/out.csv")
    with pytest.raises(LCModelError, match=words):
        read_csv(spoil(whole), "out.csv")


def test_correlations_are_found_by_names_cut_to_their_columns(folder):
    healthy = text(folder / "sim_steam160_healthy/out.print")
    found = read_correlations(healthy, "out.print")
    assert found.values.shape == (26, 26)
    np.testing.assert_array_equal(found.values, found.values.T)
    assert found.between("NAA+NAAG", "Cr+PCr") == 0.311
    assert found.between("PCh", "GPC") == -0.994
    assert found.between("Ala", "Asp") == -0.002
    assert found.between("Lip13a+Lip13b", "Lip20") == 0.999
    assert isnan(found.between("NAA", "no such"))
    sum_of_two = read_correlations(text(folder / "sim_press30_mm/out.print"), "out.print")
    assert sum_of_two.between("Cr+PCr", "MM14+Lip13a+Lip13b+MM12") == 0.029
    with pytest.raises(LCModelError, match="not whole"):
        read_correlations(healthy[: healthy.index(" GPC+PCh  ")], "out.print")


def test_a_fit_that_stopped_has_no_correlations_but_settings(folder):
    stopped = text(folder / "bad_all_zero/out.print")
    assert read_correlations(stopped, "out.print") is None
    assert float(read_settings(stopped)["wconc"]) == 35880
    assert "title" not in read_settings(stopped)


def test_names_that_are_alike_after_the_cut_give_no_correlation():
    found = Correlations(("Ala", "Lip13a+Lip1", "Lip13a+Lip1"), np.eye(3))
    assert isnan(found.between("Ala", "Lip13a+Lip13b"))
    assert found.between("Ala", "Ala") == 1


@pytest.mark.parametrize(
    ("file", "read"),
    [
        ("neach0/out.coord", read_coord),
        ("sim_steam160_healthy/out.csv", read_csv),
        ("sim_steam160_healthy/out.print", read_correlations),
    ],
)
def test_spoilt_files_are_read_or_refused_and_nothing_else(folder, file, read):
    whole = text(folder / file)
    start = max(whole.find("Correlation coefficients"), 0)
    whole = whole[start : start + 30_000]
    rng = np.random.default_rng(22)
    refused = 0
    for _ in range(200):
        at, gone = rng.integers(0, len(whole)), rng.integers(0, 30)
        new = "".join(rng.choice(list("*%,+-. \n\x00NaE9\u0663_"), rng.integers(0, 4)))
        try:
            read(whole[:at] + new + whole[at + gone :], "spoilt")
        except LCModelError:
            refused += 1
    assert refused > 60
