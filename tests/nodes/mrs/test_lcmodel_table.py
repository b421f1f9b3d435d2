import json
from math import isnan

import pytest

from alsflow.nodes.mrs.lcmodel_table import number, read_table
from alsflow.nodes.mrs.result import LCModelError

MISC = ("fwhm_ppm", "snr", "data_shift_ppm", "ph0_deg", "ph1_deg_per_ppm")
SHORT = """ LCModel (Version 6.3-1N)
 someone

$$CONC  4 lines in following concentration table = NCONC+1
    Conc.  %SD /Cr+PCr  Metabolite
    0.220   1%   1.574+NAA+NAAG
    0.140   1%   1.000 Cr+PCr
 2.03E-03  60% 1.5E-02 -CrCH2

$$MISC  6 lines in following misc. output table
  FWHM = 0.032 ppm    S/N = 120
  Data shift =-0.023 ppm
  Ph:-158 deg     -16.0 deg/ppm
  alphaB,S = 3.6E-02,   5.1E+01
   23 spline knots.   Ns = 5(1)
  ( 7) 3 infls.   ( 5) 1 extrs.

$$DIAG  1 lines in following diagnostic table:
   3 info's    RFALSI 11

$$INPU  2 lines in following table of input changes:
 dows= T
 filraw= '/home/someone/data.RAW'
"""


def decode(path):
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def missing(value):
    return None if isnan(value) else value


@pytest.fixture(scope="module")
def cases(shared_data):
    folder = shared_data / "lcmodel"
    expected = json.loads((folder / "expected.json").read_text())
    assert len(expected) == 64
    return {key: (decode(folder / key), value) for key, value in expected.items()}


def test_all_cases_are_read_exactly(cases):
    for name, (text, expected) in cases.items():
        found = read_table(text, name)
        rows = [(r.conc, r.sd_percent, r.ratio, r.prior_outlier, r.metabolite) for r in found.rows]
        assert rows == [
            (r["conc"], r["sd"], r["ratio"], r["flag"].strip(), r["name"])
            for r in expected["rows"]
        ], name
        assert found.n_rows == expected["n_rows"], name
        misc = {key: missing(getattr(found.misc, key)) for key in MISC}
        assert misc == {key: expected["misc"].get(key) for key in MISC}, name
        assert found.misc.snr_overflow == ("*" in expected["misc"].get("snr_text", "")), name
        assert [(d.level, d.routine, d.number, d.count) for d in found.diagnostics] == [
            (d["level"], d["source"], d["number"], d["count"]) for d in expected["diag"]
        ], name
        assert (found.status == "fatal") == expected["fatal"], name
        assert found.header == expected.get("header", ""), name
        if "declared" in expected and name != "derived/truncated_in_conc.table":
            assert found.n_rows_declared == int(expected["declared"]) - 1, name


def test_the_decision_at_15_percent_is_that_of_every_case(cases):
    for name, (text, expected) in cases.items():
        found = read_table(text, name)
        for pair in ("tNAA/tCr", "tNAA/tCho"):
            rows = [found.find(part) for part in pair.split("/")]
            for part, row in zip(pair.split("/"), rows, strict=True):
                assert expected["derived"][part] == (
                    [row.metabolite, row.conc, row.sd_percent] if row else [None] * 3
                ), (name, part)
            passed = all(row is not None and row.sd_percent <= 15 for row in rows)
            assert passed == expected["derived"][f"pass15_{pair}"], (name, pair)


@pytest.mark.parametrize(
    ("case", "reference", "valid"),
    [
        ("sim_steam160_healthy/out.table", "Cr+PCr", True),
        ("namrel_cho/out.table", "GPC+PCh", True),
        ("conrel/out.table", "Cr+PCr", True),
        ("chomit_pcr/out.table", "Cr", True),
        ("external/suspect/liver.COORD", "L16+L09+L13", True),
        ("namrel_absent/out.table", "Xyz", False),
        ("badconj_press30_01/out.table", "Cr", False),
        ("cr_absent_in_data/out.table", "Cr+PCr", False),
        ("chomit_cr_pcr/out.table", "Cr", False),
    ],
)
def test_a_ratio_counts_only_where_its_reference_was_found(cases, case, reference, valid):
    found = read_table(cases[case][0], case)
    assert found.ratio_reference == reference
    assert any(row.ratio_valid for row in found.rows) == valid
    assert not any(row.ratio_valid for row in found.rows if row.conc == 0)


@pytest.mark.parametrize(
    ("case", "scaled", "status"),
    [
        ("sim_steam160_dows/out.table", True, "ok"),
        ("sim_steam160_healthy/out.table", False, "ok"),
        ("fatal_missing_h2o/out.table", False, "ok"),
        ("bad_h2o_zero/out.table", False, "ok"),
        ("derived/truncated_in_conc.table", None, "truncated"),
        ("bad_nan/out.table", None, "truncated"),
        ("derived/empty.table", None, "missing"),
        ("bad_all_zero/out.table", False, "fatal"),
    ],
)
def test_water_scaling_and_status(cases, case, scaled, status):
    found = read_table(cases[case][0], case)
    assert found.water_scaled is scaled
    assert found.status == status
    assert bool(found.status_reason) == (status != "ok")


def test_signs_belong_to_flag_or_name_by_their_column():
    found = read_table(SHORT, "short.table")
    assert [(r.prior_outlier, r.metabolite) for r in found.rows] == [
        ("+", "NAA+NAAG"),
        ("", "Cr+PCr"),
        ("", "-CrCH2"),
    ]
    assert (found.misc.data_shift_ppm, found.misc.ph0_deg) == (-0.023, -158)
    assert (found.misc.n_knots, found.misc.n_side, found.misc.alpha_s) == (23, 5, 51)


def test_nothing_personal_is_kept_unless_asked_for():
    assert "someone" not in repr(read_table(SHORT, "short.table"))
    asked = read_table(SHORT, "short.table", personal=True).personal
    assert asked == ("someone", "dows= T", "filraw= '/home/someone/data.RAW'")


def test_a_table_spoilt_by_an_editor_is_read_by_order():
    spoilt = "\n".join("\t".join(line.split()) for line in SHORT.split("\n")[5:8])
    lines = SHORT.split("\n")
    found = read_table("\n".join([*lines[:5], spoilt, *lines[8:]]), "edited.table")
    assert found.tolerant
    whole = read_table(SHORT, "short.table")
    assert not whole.tolerant
    for one, other in zip(found.rows, whole.rows, strict=True):
        assert (one.conc, one.sd_percent) == (other.conc, other.sd_percent)
        assert one.ratio == other.ratio
        assert (one.prior_outlier, one.metabolite) == (other.prior_outlier, other.metabolite)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        (" 0.140", " 0.x40", 7, "no number"),
        ("$$CONC  4", "$$CONC  3", 4, "3 rows where 2"),
        ("    0.140   1%   1.000 Cr+PCr\n", "", 4, "2 rows where 3"),
        ("+NAA+NAAG", " Cr+PCr", 4, "two rows"),
        ("/Cr+PCr", " Cr+PCr", 5, "no head"),
        ("   3 info's", "   3 minfo's", 19, "no diagnostic"),
        ("$$DIAG  1", "$$DIAG  2", 18, "1 diagnostics where 2"),
        ("    0.140   1%   1.000 Cr+PCr", "    0.140   1   1.000 Cr+PCr", 7, "no row"),
        ("S/N = 120", "S/N = ?", 10, "line width"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused_with_its_line(old, new, line, words):
    with pytest.raises(LCModelError, match=words) as caught:
        read_table(SHORT.replace(old, new), "short.table")
    assert (caught.value.file, caught.value.line) == ("short.table", line)


def test_text_of_another_program_is_refused():
    with pytest.raises(LCModelError, match="not written by LCModel"):
        read_table("<html>\n", "page.table")


def test_a_name_cut_by_the_end_of_the_file_is_no_metabolite():
    cut = SHORT[: SHORT.index("NAA+NAAG") + 3]  # "NAA", though NAA+NAAG was meant
    found = read_table(cut, "cut.table")
    assert (found.status, found.n_rows) == ("truncated", 0)


def test_inputs_that_were_cut_off_do_not_decide_on_water():
    found = read_table(SHORT[: SHORT.index(" dows")], "cut.table")
    assert (found.status, found.water_scaled) == ("truncated", None)


def test_numbers_carry_their_rounding():
    assert number("   1.574") == (1.574, pytest.approx(5e-4))
    assert number(" 1.4E+04") == (1.4e4, pytest.approx(500))
    assert isnan(number("********")[0])
    with pytest.raises(ValueError):
        number("1_0.0")


@pytest.mark.parametrize(
    ("message", "scaled"),
    [
        ("   1 ERROR     AREABA  3", False),
        ("   1 ERROR     AREAWA  4", False),
        ("   1 ERROR     MYDATA  5", False),
        ("   1 ERROR     MYDATA  4", True),
        ("   1 info      AREABA  3", True),
    ],
)
def test_each_message_that_undoes_water_scaling(message, scaled):
    text = SHORT.replace("   3 info's    RFALSI 11", message)
    assert read_table(text, "short.table").water_scaled is scaled


def test_a_reference_that_fits_its_head_was_not_cut():
    """`/Cr` cannot stand for Cr+PCr, though that row shows 1.000."""
    found = read_table(SHORT.replace("/Cr+PCr", "  /Cr  "), "short.table")
    assert found.ratio_reference == "Cr"
    assert not any(row.ratio_valid for row in found.rows)


def test_an_input_broken_over_lines_is_left_out():
    broken = " chomit= 'Ala','Asp','Cr','PCr','GABA','Glc','Gln\n   ','Glu'\n dows= T"
    text = SHORT.replace("$$INPU  2", "$$INPU  4").replace(" dows= T", broken)
    assert read_table(text, "short.table").inputs == {"dows": "T"}
