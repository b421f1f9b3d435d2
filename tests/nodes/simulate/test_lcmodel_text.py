"""What is written in LCModel's formats is what LCModel writes, and reads back."""

import re
from dataclasses import replace
from itertools import takewhile

import numpy as np
import pytest

from alsflow.nodes.mrs.lcmodel_coord import read_coord
from alsflow.nodes.mrs.lcmodel_csv import check_against_csv, read_csv
from alsflow.nodes.mrs.lcmodel_print import read_correlations, read_settings
from alsflow.nodes.mrs.lcmodel_table import read_table
from alsflow.nodes.mrs.result import LCModelError
from alsflow.nodes.simulate.lcmodel_text import (
    Curves,
    Printed,
    coord_text,
    csv_text,
    print_text,
    table_text,
)

CASES = ("sim_press30_dows", "sim_steam160_healthy", "real_suspect_svs30", "conrel")
ROWS = (
    (3.75194, 7, 0.61708, "", "Cr"),
    (2.32806, 12, 0.38289, "+", "PCr"),
    (0.0, 999, 0.0, "", "Lip13b"),
    (0.00119, 999, 0.0002, "-", "Lip20"),
    (6.08, 2, 1.0, "", "Cr+PCr"),
    (4264.4, 19, 701.4, "", "MM14+Lip13a+Lip13b+MM12"),
)
MISC = (0.034, 38, -0.023, -158, 1.3)


@pytest.fixture
def printed():
    rng = np.random.default_rng(1)
    ppm = 4 - 0.0079234 * np.arange(123)
    curves = Curves(ppm, *rng.normal(0, 3000, (3, 123)), {"Cr": rng.normal(0, 1, 123)})
    noise = rng.normal(size=(6, 40))
    return Printed(
        ROWS, MISC, (("info", "RFALSI", 11, 3),), ("dows= T", "echot= 30.0"), ("a title",),
        correlations=np.corrcoef(noise), curves=curves,
    )  # fmt: skip


def again(result):
    """What would have to be printed to get a result."""
    rows = [(r.conc, r.sd_percent, r.ratio, r.prior_outlier, r.metabolite) for r in result.rows]
    misc = result.misc
    whole = (misc.fwhm_ppm, int(misc.snr), misc.data_shift_ppm, int(misc.ph0_deg))
    messages = [(d.level, d.routine, d.number, d.count) for d in result.diagnostics]
    return Printed(rows, (*whole, misc.ph1_deg_per_ppm), messages)


def part(text, mark):
    """Lines below a head, to the next blank line or the end."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if mark in line) + 1
    return list(takewhile(str.strip, lines[start:]))


@pytest.mark.parametrize("case", CASES)
def test_the_lines_are_those_of_lcmodel(case, shared_data):
    """A column off by one, or another number of digits, would go unseen by our own reader."""
    theirs = (shared_data / "lcmodel" / case / "out.table").read_text()
    printed = again(read_table(theirs, "out.table"))
    settings = [line.strip() for line in part(theirs, "$$INPU")]
    ours = table_text(replace(printed, inputs=settings))
    assert part(ours, "$$CONC")[1:] == part(theirs, "$$CONC")[1:]  # the head may name another
    assert part(ours, "$$MISC")[:3] == part(theirs, "$$MISC")[:3]
    assert part(ours, "$$DIAG") == part(theirs, "$$DIAG")
    assert part(ours, "$$INPU") == part(theirs, "$$INPU")
    heads = [line for line in theirs.splitlines() if line[:2] == "$$" and "MISC" not in line]
    assert [line for line in ours.splitlines() if line in heads] == heads


def test_the_correlations_are_printed_as_lcmodel_prints_them(shared_data):
    theirs = (shared_data / "lcmodel/sim_steam160_healthy/out.print").read_text()
    table = (shared_data / "lcmodel/sim_steam160_healthy/out.table").read_text()
    found = read_correlations(theirs, "out.print")
    rows = {row[4]: row for row in again(read_table(table, "out.table")).rows}
    names = [next(n for n in rows if n[:11] == name) for name in found.names]
    text = print_text(Printed([rows[name] for name in names], MISC, correlations=found.values))

    def triangle(text):
        lines = text[text.rindex("Correlation coefficients") :].splitlines()
        return [line for line in lines if re.match(r" \S.{10}( [- ]\d\.\d{3})+$", line)]

    ours = triangle(text)
    assert len(ours) == 25
    # LCModel prints -0.000 where there is less than half of the last digit
    assert [line.replace("-0.000", " 0.000") for line in triangle(theirs)] == [
        line.replace("-0.000", " 0.000") for line in ours
    ]
    np.testing.assert_array_equal(read_correlations(text, "x").values, found.values)


def test_all_four_files_say_the_same(printed):
    result = read_table(table_text(printed), "a.table")
    from_coord, spectra = read_coord(coord_text(printed), "a.coord")
    assert result.status == from_coord.status == "ok"
    assert result.rows == from_coord.rows
    assert result.misc == from_coord.misc
    assert result.diagnostics == from_coord.diagnostics
    assert result.inputs == from_coord.inputs == {"dows": "T", "echot": "30.0"}
    check_against_csv(result, read_csv(csv_text(printed), "a.csv"), "a.csv")
    for name in ("ppm", "data", "fit"):
        expected = getattr(printed.curves, name)
        np.testing.assert_allclose(getattr(spectra, name), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(spectra.baseline, printed.curves.baseline, rtol=6e-4)
    assert [name for name, _ in spectra.metabolites] == ["Cr"]
    correlations = read_correlations(print_text(printed), "a.print")
    np.testing.assert_allclose(correlations.values, printed.correlations, atol=5.1e-4)
    assert correlations.between("PCr", "Cr+PCr") == pytest.approx(
        printed.correlations[1, 4], abs=5.1e-4
    )
    settings = read_settings(print_text(printed))
    assert (settings["dows"], settings["echot"], settings["wconc"]) == ("T", "30.0", "35880.0000")


def test_a_csv_of_another_fit_is_noticed(printed):
    other = replace(printed, rows=((3.8, 7, 0.625, "", "Cr"), *ROWS[1:]))
    result = read_table(table_text(printed), "a.table")
    with pytest.raises(LCModelError, match="another run"):
        check_against_csv(result, read_csv(csv_text(other), "a.csv"), "a.csv")


def test_a_fit_that_stopped_has_no_rows_and_says_so():
    stopped = Printed(diagnostics=(("FATAL", "FTDATA", 1, 1),), inputs=("echot= 30.0",))
    for result in (
        read_table(table_text(stopped), "a.table"),
        read_coord(coord_text(stopped), "a.coord")[0],
    ):
        assert result.status == "fatal"
        assert "FTDATA 1" in result.status_reason
        assert result.rows == ()
    assert csv_text(stopped) == ""
    assert read_correlations(print_text(stopped), "a.print") is None


def test_more_than_17_correlations_go_on_in_further_lines():
    rng = np.random.default_rng(2)
    names = [f"M{n:02d}" for n in range(40)]
    values = np.corrcoef(rng.normal(size=(40, 60)))
    rows = [(1.0, 5, 1.0, "", name) for name in names]
    found = read_correlations(print_text(Printed(rows, MISC, correlations=values)), "a.print")
    assert list(found.names) == names
    np.testing.assert_allclose(found.values, values, atol=5.1e-4)
