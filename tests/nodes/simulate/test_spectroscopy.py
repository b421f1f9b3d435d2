"""Concentrations, their errors, and the ways in which a spectrum fails."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.mrs.lcmodel_print import Correlations
from alsflow.nodes.mrs.lcmodel_table import read_table
from alsflow.nodes.mrs.ratios import all_ratios
from alsflow.nodes.mrs.water import METABOLITE_SETS, WATER_SETS, Fractions, concentrations
from alsflow.nodes.simulate.cohort import Design, draw_mrs_site, draw_people, mrs_failure
from alsflow.nodes.simulate.lcmodel_text import Printed, table_text
from alsflow.nodes.simulate.spectroscopy import (
    BROAD,
    FAILURES,
    METABOLITES,
    MrsDesign,
    MrsScanner,
    Quality,
    check_mrs,
    chemistry_measures,
    draw_chemistry,
    draw_quality,
    estimate,
    group_sums,
    input_lines,
    metabolite_changes,
    not_negative,
    rows_of,
    table_rows,
)

DESIGN = MrsDesign()
STEAM = MrsDesign(te=0.16, tr=3.0, tm=0.04, sequence="STEAM")
TISSUE = Fractions(0.4, 0.42, 0.18)
USUAL = {name: conc for name, (conc, _) in (METABOLITES | BROAD).items()}
GOOD = Quality(40.0, 0.034)
REGIONS = {"precentral": {"left": [1], "right": [2]}}


def fitted(quality, rng, design=DESIGN, scanner=None, conc=USUAL):
    scanner = scanner or MrsScanner()
    found = estimate(conc, scanner, quality, design, TISSUE, rng)
    misc = (quality.fwhm, round(quality.snr), 0.0, 0, 0.0)
    printed = Printed(table_rows(found), misc, (), input_lines(design, scanner.frequency))
    return found, read_table(table_text(printed), "a.table")


def ratios(result, correlations=None):
    return {ratio.name: ratio for ratio in all_ratios(result, correlations)}


# ---------------------------------------------------------------------------- truth


def test_the_usual_ratios_are_those_of_a_healthy_motor_cortex():
    measures = chemistry_measures(USUAL)
    assert measures["mrs_tnaa_tcr"] == (pytest.approx(1.5), "1")
    assert measures["mrs_tnaa_tcho"][0] == pytest.approx(6.32, abs=0.01)
    assert measures["mrs_mins_tcr"][0] == pytest.approx(0.625)
    assert measures["mrs_tnaa_molal"] == (pytest.approx(12), "mmol/kg")
    assert len(measures) == 15


def test_the_disease_lowers_what_it_is_asked_to_lower_and_nothing_else():
    chemistry = draw_chemistry(7.0, {"tnaa": -0.1}, np.random.default_rng(1))
    before, after = (
        {name: value for name, (value, _) in chemistry_measures(conc).items()}
        for conc in (chemistry.unaffected, chemistry.own)
    )
    changed = {"mrs_tnaa_tcr", "mrs_tnaa_tcho", "mrs_tnaa_mins", "mrs_tnaa_molal"}
    for name, value in after.items():
        assert value / before[name] == pytest.approx(0.9 if name in changed else 1.0), name


def test_people_differ_and_age_lowers_naa():
    rng = np.random.default_rng(2)
    young, old = (
        np.array([group_sums(draw_chemistry(age, {}, rng).own)["tnaa"] for _ in range(400)])
        for age in (-20, 20)
    )
    assert 0.05 < young.std() / young.mean() < 0.09
    assert old.mean() / young.mean() == pytest.approx(0.97 / 1.03, abs=0.02)


def test_effects_become_changes_of_metabolites():
    assert metabolite_changes({"mrs_tnaa_tcr": -0.1, "gmv_precentral_both": -0.1}) == {
        "tnaa": -0.1
    }
    both = metabolite_changes({"mrs_tnaa_tcr": -0.1, "mrs_tnaa_tcho": -0.2})
    assert (1 + both["tnaa"]) / (1 + both["tcho"]) == pytest.approx(0.8)
    assert metabolite_changes({"mrs_mins_tcr": 0.15, "mrs_tnaa_tcr": 0.0}) == {"mins": 0.15}


@pytest.mark.parametrize(
    ("effects", "words"),
    [
        ({"mrs_naa": -0.1}, "mrs_tnaa_tcr"),
        ({"mrs_tnaa_molal": -0.1}, "mrs_tnaa_tcr"),
        ({"mrs_tnaa_tcr": -0.91}, "-0.9 and 1"),
        ({"mrs_tnaa_tcho": -0.1, "mrs_tcho_tcr": 0.1}, "one of them"),
    ],
)
def test_effects_that_cannot_be_are_refused(effects, words):
    with pytest.raises(BadInputError, match=words):
        metabolite_changes(effects)


@pytest.mark.parametrize(
    "design",
    [
        MrsDesign(failures=1.1),
        MrsDesign(size=(20, 20, 5)),
        MrsDesign(te=30),
        MrsDesign(sequence="EPSI"),
    ],
)
def test_designs_that_cannot_be_are_refused(design):
    with pytest.raises(BadInputError):
        check_mrs(design)


def test_an_effect_without_spectra_is_refused_in_words():
    with pytest.raises(BadInputError, match="--modalities anat mrs"):
        draw_people(Design(1, 1, 1, 0, {"mrs_tnaa_tcr": -0.1}), REGIONS)


# ---------------------------------------------------------------------------- errors of the fit


def test_errors_scatter_as_the_printed_bounds_say():
    """A bound that is drawn but not printed, or the reverse, would make every CRLB a lie."""
    rng = np.random.default_rng(3)
    quiet = replace(GOOD, snr=400.0)  # no concentration is cut off at 0
    found = [estimate(USUAL, MrsScanner(), quiet, DESIGN, TISSUE, rng) for _ in range(1500)]
    conc = np.array([one.conc for one in found])
    kept = [at for at, own in enumerate(rows_of(DESIGN.te)) if USUAL.get(own[0], 0) > 0]
    spread = conc.std(0)[kept] / found[0].sd[kept]
    assert np.all(np.abs(spread - 1) < 0.09)
    measured = np.corrcoef(conc[:, kept].T)
    np.testing.assert_allclose(measured, found[0].correlations[np.ix_(kept, kept)], atol=0.1)


def test_a_sum_is_known_better_than_its_parts():
    _, result = fitted(GOOD, np.random.default_rng(4))
    sd = {row.metabolite: row.sd_percent for row in result.rows}
    assert sd["GPC"] > 15
    assert sd["GPC+PCh"] in (3, 4)
    assert sd["NAA+NAAG"] == sd["Cr+PCr"] == 2
    assert sd["GABA"] > 10


def test_the_correlation_sharpens_the_bound_of_a_ratio():
    found, result = fitted(GOOD, np.random.default_rng(5))
    ratio = ratios(result, Correlations(tuple(found.names), found.correlations))["tNAA/tCr"]
    assert 0.2 < ratio.correlation < 0.4  # LCModel: .311 at an echo time of 160 ms
    assert ratio.value_sd < ratios(result)["tNAA/tCr"].value_sd


@pytest.mark.parametrize("design", [DESIGN, STEAM, MrsDesign(te=0.08, sequence="sLASER")])
def test_concentrations_come_back_through_the_correction_of_water(design):
    """The table holds what LCModel would scale by the water of this voxel at this echo time."""
    scanner = MrsScanner(scale=1.0)
    _, result = fitted(Quality(4e5, 0.034), np.random.default_rng(6), design, scanner)
    water, relaxation = WATER_SETS["fsl-mrs"], METABOLITE_SETS["fsl-mrs"]
    found = {
        one.metabolite: one.molal
        for one in concentrations(result, design.timing, TISSUE, water, relaxation)
    }
    assert result.water_scaled
    assert found["tNAA"] == pytest.approx(12, rel=2e-3)
    assert found["tCho"] == pytest.approx(1.9, rel=2e-3)


def test_the_factors_of_a_site_act_on_concentrations_and_choline():
    odd = MrsScanner(scale=1.3, choline=0.8)
    perfect = Quality(4e5, 0.034)
    _, result = fitted(perfect, np.random.default_rng(7), scanner=odd)
    _, plain = fitted(perfect, np.random.default_rng(7))
    for name, factor in (("tNAA", 1.3), ("tCr", 1.3), ("tCho", 1.04)):
        assert result.find(name).conc / plain.find(name).conc == pytest.approx(factor, rel=2e-3)


def test_what_is_not_there_is_zero_with_999_percent():
    noisy = Quality(1.0, 0.034)
    _, result = fitted(noisy, np.random.default_rng(8))
    zeros = [row for row in result.rows if row.conc == 0]
    assert len(zeros) > 3
    assert all(row.sd_percent == 999 and row.ratio == 0 for row in zeros)
    assert all(row.sd_percent < 999 or row.sd_capped for row in result.rows)


def test_choline_that_is_all_in_one_part_is_known_as_well_as_the_sum():
    """To cut PCh off at 0 alone would give tCho the large bound of GPC."""
    matrix = np.array([[0.04, -0.039, 0.0], [-0.039, 0.04, 0.0], [0.0, 0.0, 0.01]])
    found, bound = not_negative(np.array([2.0, -0.2, 5.0]), matrix)
    assert found[0] == pytest.approx(1.8, abs=0.01)
    assert found[1:].tolist() == [0.0, 5.0]
    assert bound[0, 0] == pytest.approx(0.04 - 0.039**2 / 0.04)
    assert not bound[1].any()
    rng = np.random.default_rng(11)
    for _ in range(300):
        result = fitted(replace(GOOD, snr=25.0), rng)[1]
        assert result.find("tCho").sd_percent <= 8


def test_macromolecules_are_fitted_at_short_echo_times_only():
    names = ["+".join(own) for own in rows_of(0.03)]
    assert len(names) == 35
    assert names[18] == "GPC+PCh"
    assert names[-1] == "MM20+Lip20"
    long = ["+".join(own) for own in rows_of(0.16)]
    assert not any("MM" in name for name in long)
    assert len(long) == 26


def test_the_rows_are_those_of_lcmodel_in_their_order(shared_data):
    for case, te in (("sim_press30_dows", 0.03), ("sim_steam160_healthy", 0.16)):
        text = (shared_data / "lcmodel" / case / "out.table").read_text()
        theirs = [row.metabolite for row in read_table(text, case).rows]
        assert ["+".join(own) for own in rows_of(te)] == theirs


# ---------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("failure", "words"),
    [("noise", "S/N"), ("width", "line width"), ("choline", "CRLB of tCho")],
)
def test_a_failed_spectrum_is_one_that_the_rules_leave_out(failure, words):
    rng = np.random.default_rng(9)
    for _ in range(20):
        quality = draw_quality(MrsScanner(), failure, rng)
        found = ratios(fitted(quality, rng)[1])
        assert not found["tNAA/tCho"].included
        assert words in "; ".join(found["tNAA/tCho"].reasons)
        assert found["tNAA/tCr"].included == (failure == "choline")


def test_a_usual_spectrum_passes():
    rng = np.random.default_rng(10)
    for site in range(20):
        scanner = draw_mrs_site(Design(1, 1, 1, 3, mrs=DESIGN), site)
        found = ratios(fitted(draw_quality(scanner, "", rng), rng, scanner=scanner)[1])
        assert found["tNAA/tCr"].included
        assert found["tNAA/tCho"].included


def test_the_share_that_fails_is_the_one_asked_for_and_holds_every_way():
    for seed in range(4):
        design = Design(20, 20, 4, seed, {}, mrs=DESIGN)
        found = Counter(mrs_failure(design, p) for p in draw_people(design, REGIONS))
        assert 34 <= found[""] <= 38
        many = replace(design, n_patients=100, n_controls=100)
        found = Counter(mrs_failure(many, p) for p in draw_people(many, REGIONS))
        assert set(found) == {"", *FAILURES}
        assert 178 <= found[""] <= 182
    none = replace(design, mrs=MrsDesign(failures=0))
    assert {mrs_failure(none, p) for p in draw_people(none, REGIONS)} == {""}
    always = replace(design, mrs=MrsDesign(failures=1))
    assert "" not in {mrs_failure(always, p) for p in draw_people(always, REGIONS)}
