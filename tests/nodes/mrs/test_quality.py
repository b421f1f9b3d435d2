import json
from dataclasses import replace
from math import isnan, nan

import numpy as np
import pytest

from alsflow.nodes.mrs.lcmodel_print import Correlations, read_correlations
from alsflow.nodes.mrs.lcmodel_table import read_table
from alsflow.nodes.mrs.quality import Limits, judge_row, judge_spectrum, tidy_rows
from alsflow.nodes.mrs.ratios import PAIRS, all_ratios, one_ratio


@pytest.fixture(scope="module")
def read(shared_data):
    def read(case):
        path = shared_data / "lcmodel" / case
        path = path if path.is_file() else path / "out.table"
        return read_table(path.read_bytes().decode("utf-8-sig", errors="replace"), "out.table")

    return read


def test_15_percent_counts_and_16_does_not(read):
    for case, counts in (("boundary_sd15_tcho", True), ("boundary_sd16_tcho", False)):
        result = read(case)
        row = result.find("tCho")
        judged = judge_row(result, row)
        assert (judged.pass_sd, judged.included) == (counts, counts)
        assert judged.reasons == (() if counts else ("CRLB of tCho is 16 % (> 15 %)",))
        assert one_ratio(result, "tNAA", "tCho").included is counts
        assert one_ratio(result, "tNAA", "tCr").included


def test_the_rule_acts_on_numerator_and_denominator(read):
    assert not one_ratio(read("boundary_sd16_tcho"), "tCho", "tCr").pass_sd
    assert not one_ratio(read("boundary_sd16_tcho"), "tCr", "tCho").pass_sd


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("bad_broad", "line width 0.238 ppm"),
        ("bad_noise_only", "S/N 1 "),
        ("mismatch_te_seq", "echo times of data and basis set differ"),
        ("mismatch_te_seq", "sequences of data and basis set differ"),
        ("bad_all_zero", "fatal: LCModel stopped: FATAL FTDATA 1"),
        ("bad_nan", "truncated"),
        ("derived/empty.table", "missing: the file is empty"),
        ("derived/truncated_in_conc.table", "truncated"),
    ],
)
def test_a_fit_that_does_not_count_says_why(read, case, words):
    result = read(case)
    judged = judge_spectrum(result)
    assert not judged.included
    assert any(words in reason for reason in judged.reasons), judged.reasons
    ratio = one_ratio(result, "tNAA", "tCr")
    assert not ratio.included
    assert set(judged.reasons) <= set(ratio.reasons)
    assert all(not row["included"] and row["reason"] for row in tidy_rows(result))


def test_limits_on_width_and_noise_can_be_switched_off(read):
    alone = Limits(snr=None, fwhm_ppm=None)
    assert one_ratio(read("bad_broad"), "tNAA", "tCr", limits=alone).included


def test_noise_too_small_for_its_column_is_no_missing_noise(read):
    judged = judge_spectrum(read("sim_no_noise_snr_overflow"))
    assert (judged.included, judged.pass_snr) == (True, True)
    healthy = read("sim_steam160_healthy")
    undefined = replace(healthy, misc=replace(healthy.misc, snr=nan))
    assert judge_spectrum(undefined).reasons == ("S/N is missing",)


def test_what_does_not_exclude_is_noted(read):
    assert any("scaling by water failed" in n for n in judge_spectrum(read("bad_h2o_zero")).notes)
    outliers = read("derived/outliers_rstripped.table")
    judged = judge_row(outliers, outliers.find("GABA"))
    assert judged.included
    assert judged.notes[0] == "GABA lies above what LCModel expects"
    healthy = read("sim_steam160_healthy")
    glx = judge_row(healthy, healthy.find("Glx"))
    assert (glx.included, glx.notes) == (True, ("Glx is unreliable at an echo time of 160 ms",))


def test_rows_are_flagged_and_never_dropped(read, shared_data):
    expected = json.loads((shared_data / "lcmodel" / "expected.json").read_text())
    for case, content in expected.items():
        rows = tidy_rows(read(case))
        assert len(rows) == content["n_rows"]
        assert all(row["included"] == (row["reason"] == "") for row in rows)


def test_the_ratio_comes_from_the_column_with_most_digits(read):
    healthy = read("sim_steam160_healthy")
    tcr = one_ratio(healthy, "tNAA", "tCr")
    assert (tcr.value, tcr.used_column) == (1.574, "ratio")
    tcho = one_ratio(healthy, "tNAA", "tCho")
    assert (tcho.value, tcho.used_column) == (1.574 / 0.201, "ratio quotient")
    dows = one_ratio(read("sim_steam160_dows"), "tNAA", "tCho")
    assert (dows.value, dows.used_column) == (9.276 / 1.184, "conc")
    for ratio in (tcho, dows):
        assert abs(ratio.value - 9.276 / 1.184) / ratio.value < tcho.rounding + dows.rounding
    assert dows.rounding < tcho.rounding < 0.004


@pytest.mark.parametrize(
    "case", ["conrel", "namrel_cho", "namrel_ins", "namrel_naa", "namrel_absent", "scale_tiny"]
)
def test_scale_and_reference_of_the_column_do_not_matter(read, case):
    for pair in PAIRS[:5]:
        plain = one_ratio(read("sim_steam160_healthy"), *pair)
        other = one_ratio(read(case), *pair)
        assert abs(other.value / plain.value - 1) <= plain.rounding + other.rounding


@pytest.mark.parametrize(
    "case", ["chomit_pcr", "cr_absent_in_data", "badconj_press30_01", "alias_names"]
)
def test_what_is_missing_is_no_ratio(read, case):
    for ratio in all_ratios(read(case)):
        absent = isnan(ratio.value)
        if absent:
            assert not ratio.included
            assert ratio.used_column == ""
        if ratio.included:
            assert ratio.value > 0
    crs = one_ratio(read(case), "tNAA", "tCr")
    assert crs.included == (case == "alias_names")
    assert case != "cr_absent_in_data" or "CRLB of tCr is 999 %" in crs.reasons[0]


def test_crlb_of_a_ratio_uses_the_correlation_where_known(read, shared_data):
    text = (shared_data / "lcmodel/sim_steam160_healthy/out.print").read_text()
    healthy = read("sim_steam160_healthy")
    known = one_ratio(healthy, "tNAA", "tCr", read_correlations(text, "out.print"))
    assert known.correlation == 0.311
    assert known.value_sd == pytest.approx((1 + 1 - 2 * 0.311) ** 0.5)
    unknown = one_ratio(healthy, "tNAA", "tCr")
    assert isnan(unknown.correlation)
    assert unknown.value_sd == pytest.approx(2**0.5)


def test_crlb_of_a_ratio_is_that_of_drawn_numbers(read):
    """A second way: the spread of quotients of correlated draws."""
    r, sds = 0.8, np.array([3, 2])
    cov = np.outer(sds, sds) * [[1, r], [r, 1]] / 1e4
    draws = np.random.default_rng(3).multivariate_normal([1, 1], cov, 200_000)
    healthy = read("sim_steam160_healthy")
    known_sd = {"tNAA": 3, "tCr": 2}
    rows = [replace(x, sd_percent=known_sd.get(x.metabolite_std, 1)) for x in healthy.rows]
    values = np.array([[1, 0, 0], [0, 1, r], [0, r, 1]])
    matrix = Correlations(("Ala", "NAA+NAAG", "Cr+PCr"), values)
    found = one_ratio(replace(healthy, rows=tuple(rows)), "tNAA", "tCr", matrix)
    assert found.value_sd == pytest.approx(100 * np.std(draws[:, 0] / draws[:, 1]), rel=0.01)
