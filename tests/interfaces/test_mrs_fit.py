"""A fit as tables, and concentrations with the tissue of the voxel."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nipype.interfaces.base import isdefined

from alsflow.interfaces.mrs_fit import QuantifyMrs, ReadFit, check_constants
from alsflow.nodes.errors import BadInputError

ENDS = (".table", ".coord", ".csv", ".print")
SHARES = {"gm": 0.3, "wm": 0.5, "csf": 0.2, "tissue_sum": 1.0, "in_view": 1.0, "in_brain": 1.0,
          "nominal_volume": 15.0, "mask_volume": 15.1}  # fmt: skip
STEAM = {"te": 0.16, "tr": 3.0, "tm": 0.04, "sequence": "STEAM"}


def files_of(shared_data, case):
    """Files of one of the results, which may be a folder or a single file."""
    path = shared_data / "lcmodel" / case
    if path.is_file():
        return [str(path)]
    return sorted(str(f) for f in path.iterdir() if f.suffix.lower() in ENDS)


def run(interface, folder, **inputs):
    """Outputs of an interface in a folder of its own."""
    folder.mkdir(exist_ok=True)
    return interface(**inputs).run(cwd=str(folder)).outputs


def table(path):
    missing = {name: ["n/a"] for name in ("value", "crlb_pct", "in_brain")}
    return pd.read_csv(path, sep="\t", keep_default_na=False, na_values=missing)


def facts(path):
    return json.loads(Path(path).read_text(), parse_constant=pytest.fail)  # NaN is no JSON


def write_place(folder, **changes):
    """What `PlaceVoxel` writes."""
    content = {"done": True, "fractions": SHARES, "warnings": [], **STEAM} | changes
    path = folder / "tissue.json"
    path.write_text(json.dumps(content))
    return str(path)


def cases(shared_data):
    return json.loads((shared_data / "lcmodel" / "expected.json").read_text())


# ---------------------------------------------------------------------------- reading


def test_every_result_is_read_or_says_why_not(shared_data, tmp_path):
    """Tables of all 64 results: each ratio has a value or a reason, and nothing is NaN in JSON."""
    failed = set()
    for case in cases(shared_data):
        outputs = run(ReadFit, tmp_path, in_files=[str(shared_data / "lcmodel" / case)])
        ratios, info = table(outputs.ratios_file), facts(outputs.info_file)
        assert len(ratios) == 8
        silent = ratios["value"].isna() & (ratios["reason"] == "")
        assert not silent.any(), case
        assert (ratios["included"] == (ratios["reason"] == "")).all(), case
        assert info["done"] == (info["status"] == "ok") == (info.get("reason") is None), case
        assert info["included"] == (not info["faults"]), case
        failed |= set() if info["done"] else {case.split("/out")[0]}
    assert failed == {
        "bad_all_zero", "bad_nan", "derived/empty.table", "derived/truncated_in_conc.table",
        "fatal_all_omitted", "fatal_deltat_mismatch", "real_steam7t_wrongfield",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("case", "included"), [("boundary_sd15_tcho", True), ("boundary_sd16_tcho", False)]
)
def test_the_limit_of_15_percent(shared_data, tmp_path, case, included):
    files = files_of(shared_data, case)
    ratios = table(run(ReadFit, tmp_path, in_files=files).ratios_file).set_index("name")
    assert ratios.loc["tNAA/tCho", "included"] == included
    assert ratios.loc["tNAA/tCho", "sd_den"] == 16 - included
    assert np.isfinite(ratios.loc["tNAA/tCho", "value"])  # flagged, never dropped
    assert ratios.loc["tNAA/tCr", "included"]
    metabolites = table(run(ReadFit, tmp_path, in_files=files, sd_percent=16).metabolites_file)
    assert metabolites.set_index("metabolite_std").loc["tCho", "included"]


def test_limits_of_0_are_none(shared_data, tmp_path):
    files = files_of(shared_data, "bad_broad")
    strict = facts(run(ReadFit, tmp_path, in_files=files).info_file)
    assert [fault["name"] for fault in strict["faults"]] == ["broad_lines"]
    assert strict["limits"] == {"sd_percent": 15, "snr": 3.0, "fwhm_ppm": 0.1}
    lax = facts(run(ReadFit, tmp_path, in_files=files, snr=0.0, fwhm_ppm=0.0).info_file)
    assert lax["included"]
    assert lax["limits"] == {"sd_percent": 15, "snr": None, "fwhm_ppm": None}


def test_correlations_sharpen_the_error_of_a_ratio(shared_data, tmp_path):
    files = files_of(shared_data, "sim_steam160_healthy")
    with_print = table(run(ReadFit, tmp_path, in_files=files).ratios_file)
    files = [path for path in files if not path.endswith(".print")]
    without = table(run(ReadFit, tmp_path, in_files=files).ratios_file)  # the .print lies beside
    assert with_print["correlation"][0] == 0.311
    assert without["correlation"][0] == "n/a"
    assert with_print["crlb_pct"][0] == pytest.approx(np.sqrt(2 - 2 * 0.311), rel=1e-5)
    assert without["crlb_pct"][0] == pytest.approx(np.sqrt(2), rel=1e-5)


def test_the_curves_of_a_fit(shared_data, tmp_path):
    outputs = run(ReadFit, tmp_path, in_files=files_of(shared_data, "sim_steam160_healthy"))
    curves = pd.read_csv(outputs.spectra_file, sep="\t")
    assert len(curves) == 380
    assert curves["ppm"].is_monotonic_decreasing
    np.testing.assert_allclose(curves["residual"], curves["data"] - curves["fit"], atol=1e-4)
    assert curves["residual"].abs().max() < 0.05 * curves["data"].abs().max()
    without = run(ReadFit, tmp_path / "b", in_files=files_of(shared_data, "boundary_sd15_tcho"))
    assert not isdefined(without.spectra_file)


def test_nothing_personal_is_written(shared_data, tmp_path):
    """Titles of these name a person; owner and paths are in the others."""
    for case in ("derived/title_latin1.table", "long_title_utf8", "external/suspect/svs_97.TABLE"):
        files = files_of(shared_data, case)
        lines = Path(files[-1]).read_bytes().decode("latin-1").splitlines()
        title = next(line.strip() for line in lines[1:] if line.strip())
        outputs = run(ReadFit, tmp_path, in_files=files)
        written = "".join(p.read_text() for p in tmp_path.iterdir() if p.is_file())
        assert isdefined(outputs.info_file)
        assert title[:12] not in written
        assert "/home" not in written


SCAN = """ LCModel (Version 6.3-1N)
 Row#{row} Col#{col}  scan

$$CONC  2 lines in following concentration table = NCONC+1
    Conc.  %SD /Cr+PCr  Metabolite
    0.14{row}   1%   1.000 Cr+PCr

$$MISC  5 lines in following misc. output table
  FWHM = 0.032 ppm    S/N = 120
  Data shift = 0.000 ppm
  Ph:   2 deg       1.0 deg/ppm

$$DIAG  0 lines in following diagnostic table:


$$INPU  0 lines in following table of input changes:
"""


def test_one_voxel_of_several(tmp_path):
    files = []
    for row, col in ((1, 1), (1, 2), (2, 2)):
        files.append(tmp_path / f"scan_sl1_{row}-{col}.table")
        files[-1].write_text(SCAN.format(row=row, col=col))
    wanted = r"scan_sl1_1-1.table has the voxels 1 1 1, 1 1 2, 1 2 2 \(slice row col\); "
    with pytest.raises(BadInputError, match=wanted + "choose one by slice, row and col"):
        run(ReadFit, tmp_path, in_files=files)
    with pytest.raises(BadInputError, match=wanted + "slice 1, row 2, col 1 is not among them"):
        run(ReadFit, tmp_path, in_files=files, row=2)
    outputs = run(ReadFit, tmp_path, in_files=files, row=2, col=2)
    assert table(outputs.metabolites_file)["conc"].tolist() == [0.142]
    assert facts(outputs.info_file)["voxel"] == {"slice": 1, "row": 2, "col": 2}
    alone = run(ReadFit, tmp_path, in_files=files[2:])  # the others lie beside it, not given
    assert facts(alone.info_file)["voxel"] == {"slice": 1, "row": 2, "col": 2}


def test_files_of_two_results_are_refused(tmp_path):
    for folder, name in (("one", "a"), ("one", "b"), ("two", "a")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.table").write_text(SCAN.format(row=1, col=1))
    one, other = tmp_path / "one", tmp_path / "two"
    with pytest.raises(BadInputError, match="holds the results a, b; name one"):
        run(ReadFit, tmp_path, in_files=[one / "a.table", one / "b.table"])
    with pytest.raises(BadInputError, match="given twice, from two folders"):
        run(ReadFit, tmp_path, in_files=[one / "a.table", other / "a.table"])


# ---------------------------------------------------------------------------- concentrations


@pytest.mark.parametrize(
    ("water", "given", "molal", "volume", "molar"),
    [
        ("fsl-mrs", {"sequence": "PRESS"}, 14.3874, 13.3509, 10.0532),
        ("fsl-mrs", {}, 14.4052, 13.3674, 10.0656),
        ("osprey", {"sequence": "sLASER"}, 15.5472, 14.4271, 10.8636),
        ("osprey", {"sequence": "steam"}, 15.5363, 14.4169, 10.8560),
    ],
)
def test_the_worked_table_from_files(shared_data, tmp_path, water, given, molal, volume, molar):
    files = files_of(shared_data, "sim_steam160_dows")
    place = write_place(tmp_path)
    outputs = run(
        QuantifyMrs, tmp_path, in_files=files, fractions_file=place, water=water, **given
    )
    quant = table(outputs.quant_file)
    rows = quant[quant["metabolite"] == "tNAA"].set_index("quantity")
    found = rows.loc[["conc", "molal", "molal_volume", "molar"], "value"]
    np.testing.assert_allclose(found, (9.276, molal, volume, molar), atol=6e-5)
    assert rows["unit"].to_dict() == {
        "conc": "i.u.", "ratio": "1", "molal": "mmol/kg", "molal_volume": "mmol/kg",
        "molar": "mmol/L",
    }  # fmt: skip
    assert rows.loc["ratio", "reference"] == "tCr"
    assert rows.loc["molal", "reference"].startswith(f"water ({water})")
    assert rows["included"].all()
    info = facts(outputs.info_file)
    assert (info["done"], info["water"], info["metabolites"]) == (True, water, "fsl-mrs")
    assert (info["te"], info["tr"], info["echo_time_lcmodel_ms"]) == (0.16, 3.0, 160.0)


def test_tissue_is_written_as_it_was_found(shared_data, tmp_path):
    """The shares of a voxel of which 3 % have no tissue stay; the concentrations say so."""
    shares = SHARES | {"gm": 0.27, "tissue_sum": 0.97, "in_brain": None}
    place = write_place(tmp_path, fractions=shares)
    files = files_of(shared_data, "sim_steam160_dows")
    outputs = run(QuantifyMrs, tmp_path, in_files=files, fractions_file=place)
    (row,) = table(outputs.tissue_file).to_dict("records")
    assert (row["fGM"], row["fWM"], row["fCSF"], row["tissue_sum"]) == (0.27, 0.5, 0.2, 0.97)
    assert np.isnan(row["in_brain"])
    assert (row["nominal_volume_ml"], row["mask_volume_ml"]) == (15.0, 15.1)
    info = facts(outputs.info_file)
    assert info["done"]
    assert "97.0%" in info["notes"][0]
    whole = {"gm": 0.27 / 0.97, "wm": 0.5 / 0.97, "csf": 0.2 / 0.97, "tissue_sum": 1.0}
    other = write_place(tmp_path, fractions=SHARES | whole)
    again = run(QuantifyMrs, tmp_path / "b", in_files=files, fractions_file=other)
    pd.testing.assert_frame_equal(table(outputs.quant_file), table(again.quant_file))


@pytest.mark.parametrize(
    ("case", "changes", "given", "reason"),
    [
        ("sim_steam160_healthy", {}, {}, "LCModel did not scale by water"),
        ("bad_h2o_zero", {}, {}, "LCModel did not scale by water"),
        ("sim_steam160_dows", {"tr": None}, {}, "the repetition time is not known"),
        ("sim_steam160_dows", {"sequence": None}, {}, "the sequence is not known"),
        ("sim_steam160_dows", {"tm": None}, {}, "STEAM needs its mixing time"),
        ("sim_steam160_dows", {}, {"sequence": "ISIS"}, "no relaxation formula for 'isis'"),
        ("sim_steam160_dows", {}, {"tr": 3000.0}, "must be in seconds"),
        ("sim_steam160_dows", {"te": 0.156}, {}, "160 ms, but that of the scan is 156 ms"),
        ("sim_steam160_dows", {"done": False, "reason": "no place"}, {}, "no place"),
        (
            "sim_steam160_dows",
            {"fractions": SHARES | {"gm": 0.24, "tissue_sum": 0.94}},
            {},
            "only 94.0% of the voxel lies in a tissue",
        ),
        (
            "sim_steam160_dows",
            {"fractions": SHARES | {"in_view": 0.5}},
            {},
            "only 50.0% of the voxel lies in the field of view",
        ),
        (
            "sim_steam160_dows",
            {"fractions": SHARES | {"gm": 0.4, "tissue_sum": 1.1}},
            {},
            "do not sum to 1",
        ),
    ],
)
def test_what_cannot_be_corrected_says_why(shared_data, tmp_path, case, changes, given, reason):
    files = files_of(shared_data, case)
    place = write_place(tmp_path, **changes)
    outputs = run(QuantifyMrs, tmp_path, in_files=files, fractions_file=place, **given)
    info, quant = facts(outputs.info_file), table(outputs.quant_file)
    assert not info["done"]
    assert reason in info["reason"]
    rows = quant[quant["metabolite"] == "tNAA"].set_index("quantity")
    assert rows.loc[["molal", "molal_volume", "molar"], "value"].isna().all()
    assert rows.loc["molal", "reason"] == info["reason"]
    assert not rows.loc["molal", "included"]
    assert rows.loc[["conc", "ratio"], "included"].all()
    assert isdefined(outputs.tissue_file) == changes.get("done", True)


def test_a_metabolite_that_the_constants_lack(shared_data, tmp_path):
    files, place = files_of(shared_data, "sim_steam160_dows"), write_place(tmp_path)
    inputs = {"in_files": files, "fractions_file": place, "metabolites": "osprey"}
    outputs = run(QuantifyMrs, tmp_path, **inputs)
    rows = table(outputs.quant_file).query("quantity == 'molal'").set_index("metabolite")
    assert np.isnan(rows.loc["GSH", "value"])
    assert rows.loc["GSH", "reason"] == "osprey has no T1 and T2 of GSH"
    assert rows.loc["tNAA", "reference"] == "water (fsl-mrs), metabolites (osprey)"
    assert rows.loc["tNAA", "included"]
    assert len(facts(outputs.info_file)["sources"]) == 2


def test_echo_times_3_ms_apart_are_one(shared_data, tmp_path):
    files = files_of(shared_data, "sim_steam160_dows")
    place = write_place(tmp_path, te=0.163)
    assert facts(run(QuantifyMrs, tmp_path, in_files=files, fractions_file=place).info_file)[
        "done"
    ]


def test_a_metabolite_without_concentration_or_reference(shared_data, tmp_path):
    """Cr+PCr is 0 in one, and the whole column of ratios with it."""
    outputs = run(QuantifyMrs, tmp_path, in_files=files_of(shared_data, "chomit_cr_pcr"))
    quant = table(outputs.quant_file).set_index(["metabolite", "quantity"])
    assert np.isnan(quant.loc[("tNAA", "ratio"), "value"])
    assert "table has no row" in quant.loc[("tNAA", "ratio"), "reason"]
    assert quant.loc[("tNAA", "conc"), "included"]
    assert (quant.loc[(slice(None), "conc"), "unit"] == "a.u.").all()
    zero = quant[quant["reason"].str.contains("was not found")]
    assert len(zero)
    assert zero["value"].isna().all()
    assert not (quant["included"] & quant["value"].isna()).any()


def test_a_ratio_to_a_reference_scaled_by_conrel_is_a_ratio(shared_data, tmp_path):
    """CONREL 8 prints 8.000 for creatine to itself."""
    outputs = run(QuantifyMrs, tmp_path, in_files=files_of(shared_data, "conrel"))
    quant = table(outputs.quant_file).set_index(["metabolite", "quantity"])["value"]
    assert quant["tCr", "ratio"] == 1
    assert quant["tNAA", "ratio"] == pytest.approx(1.574, rel=2e-3)


def test_a_place_without_a_fit_and_a_fit_without_a_place(shared_data, tmp_path):
    alone = run(QuantifyMrs, tmp_path, fractions_file=write_place(tmp_path))
    assert isdefined(alone.tissue_file)
    assert not isdefined(alone.quant_file)
    assert facts(alone.info_file) == {"done": False, "reason": "no fit of LCModel is known"}
    files = files_of(shared_data, "sim_steam160_dows")
    outputs = run(QuantifyMrs, tmp_path / "b", in_files=files)
    assert not isdefined(outputs.tissue_file)
    assert "no place of the voxel is known" in facts(outputs.info_file)["reason"]
    assert table(outputs.quant_file).query("quantity == 'ratio' and included").shape[0] > 5


def test_unknown_constants_are_refused_early(shared_data, tmp_path):
    check_constants("osprey", "fsl-mrs")
    with pytest.raises(
        BadInputError, match="'spm' is no set of constants for water; the sets are fsl-mrs, osprey"
    ):
        check_constants("spm", "fsl-mrs")
    with pytest.raises(BadInputError, match="'gannet' is no set of constants for metabolites"):
        run(QuantifyMrs, tmp_path, fractions_file=write_place(tmp_path), metabolites="gannet")


def test_a_changed_table_is_noticed(shared_data, tmp_path):
    """Inputs are the files themselves, so that a new fit under an old name counts."""
    first = tmp_path / "out.table"
    shutil.copy(files_of(shared_data, "sim_steam160_dows")[-1], first)
    one = ReadFit(in_files=[first]).inputs.get_hashval(hash_method="content")[1]
    first.write_text(first.read_text().replace("9.276", "9.275"))
    two = ReadFit(in_files=[first]).inputs.get_hashval(hash_method="content")[1]
    assert one != two
