"""Measures of a spectrum and their judgement, from what the steps left behind."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nipype.interfaces.base import isdefined

from alsflow.interfaces.mrs_fit import QuantifyMrs, ReadFit
from alsflow.interfaces.mrs_measures import MeasureMrs
from alsflow.workflows.measures import catalogue

ENDS = (".table", ".coord", ".csv", ".print")
SHARES = {"gm": 0.3, "wm": 0.5, "csf": 0.2, "tissue_sum": 1.0, "in_view": 1.0, "in_brain": 1.0,
          "nominal_volume": 15.0, "mask_volume": 14.7}  # fmt: skip
PLACE = {"done": True, "fractions": SHARES, "warnings": [], "te": 0.16, "tr": 3.0, "tm": 0.04,
         "sequence": "STEAM"}  # fmt: skip
NOWHERE = "a_svs.nii.gz has no place: it was not localised; convert it again"
REFUSED = {"done": False, "reason": NOWHERE, "program_missing": False}
RATIOS = [
    "tnaa_tcr",
    "tnaa_tcho",
    "tcho_tcr",
    "mins_tcr",
    "tnaa_mins",
    "glx_tcr",
    "gaba_tcr",
    "gsh_tcr",
]
STEPS = ("fit", "place", "quantify", "run")


@pytest.fixture
def measure(shared_data, tmp_path, monkeypatch):
    """Measures of a result and a place, either of which may be missing."""

    def measure(
        case="sim_steam160_dows", place=PLACE, anatomy=(), notes=(), run=None, fit_asked=True
    ):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "anat.json").write_text(json.dumps({"flags": list(anatomy)}))
        given, infos = {}, {}
        if place is not None:
            (tmp_path / "place.json").write_text(json.dumps(place))
            given = {"fractions_file": str(tmp_path / "place.json")}
            infos["place"] = given["fractions_file"]
        found = {}
        if case is not None:
            path = shared_data / "lcmodel" / case
            files = [path] if path.is_file() else sorted(path.iterdir())
            given["in_files"] = [f for f in files if f.suffix.lower() in ENDS]
            fit = ReadFit(in_files=given["in_files"]).run().outputs
            found["ratios_file"], infos["fit"] = fit.ratios_file, fit.info_file
        quant = QuantifyMrs(**given).run().outputs
        infos["quantify"] = quant.info_file
        if run is not None:
            (tmp_path / "run.json").write_text(json.dumps(run))
            infos["run"] = str(tmp_path / "run.json")
        for name in ("quant_file", "tissue_file"):
            if isdefined(getattr(quant, name)):
                found[name] = getattr(quant, name)
        asked = {"fit": fit_asked, "place": True, "quantify": True}
        node = MeasureMrs(steps=STEPS, asked=asked, notes=list(notes),
                          anat_qc_file=str(tmp_path / "anat.json"), **found)  # fmt: skip
        node.inputs.trait_set(**{f"{step}_info_file": path for step, path in infos.items()})
        outputs = node.run().outputs
        table = pd.read_csv(outputs.measures_file, sep="\t", keep_default_na=False,
                            na_values={"value": ["n/a"]})  # fmt: skip
        assert list(table) == ["measure", "value", "unit", "qc", "reason"]
        return table.set_index("measure"), facts(outputs.qc_file), facts(outputs.facts_file)

    return measure


def facts(path):
    return json.loads(Path(path).read_text(), parse_constant=pytest.fail)


def names(found):
    return [one["name"] for one in found]


def test_every_measure_that_is_declared_is_written(measure):
    table, _, _ = measure()
    declared = {m.name: m.unit for m in catalogue().measures.values() if m.stream == "mrs"}
    assert table["unit"].to_dict() == declared


def test_every_measure_has_a_value_or_a_reason(measure, shared_data):
    """Over all results; what is flagged says why, and what does not count is never ok."""
    known = json.loads((shared_data / "lcmodel" / "expected.json").read_text())
    states = {"flagged": 0, "ok": 0}
    for case in known:
        table, quality, _ = measure(case)
        assert not (table["value"].isna() & (table["reason"] == "")).any(), case
        assert not ((table["qc"] == "flagged") & (table["reason"] == "")).any(), case
        ratios = table.loc[[f"mrs_{name}" for name in RATIOS]]
        if quality["flags"]:
            assert set(ratios["qc"]) == {"flagged"}, case
        assert set(table.loc["mrs_voxel_gm":, "qc"]) == {"ok"}, case
        for state in states:
            states[state] += (ratios["qc"] == state).sum()
    assert min(states.values()) > 100


@pytest.mark.parametrize(
    ("case", "flags"),
    [
        ("sim_steam160_healthy", []),
        ("fatal_missing_h2o", []),
        ("fatal_all_omitted", ["fit_failed"]),
        ("bad_nan", ["fit_failed"]),
        ("derived/truncated_in_conc.table", ["fit_failed"]),
        ("derived/empty.table", ["fit_failed"]),
        ("bad_broad", ["broad_lines"]),
        ("bad_noise_only", ["low_snr"]),
        ("mismatch_te_seq", ["wrong_basis", "wrong_basis"]),
    ],
)
def test_flags_of_a_fit(measure, case, flags):
    table, quality, _ = measure(case)
    assert names(quality["flags"]) == flags
    qc = table.loc["mrs_tnaa_tcr", "qc"]
    assert qc == ("flagged" if flags else "ok")
    if case in ("bad_broad", "mismatch_te_seq"):
        assert np.isfinite(table.loc["mrs_tnaa_tcr", "value"])  # it stays, beside its flag
    for flag in quality["flags"]:
        assert flag["reason"] in table.loc["mrs_tnaa_tcr", "reason"]


@pytest.mark.parametrize(
    ("case", "qc"), [("boundary_sd15_tcho", "ok"), ("boundary_sd16_tcho", "flagged")]
)
def test_the_limit_of_15_percent_flags_one_value(measure, case, qc):
    table, quality, _ = measure(case)
    assert quality["flags"] == []
    assert table.loc["mrs_tnaa_tcho", "qc"] == qc
    assert ("CRLB of tCho is 16 %" in table.loc["mrs_tnaa_tcho", "reason"]) == (qc == "flagged")
    assert np.isfinite(table.loc["mrs_tnaa_tcho", "value"])
    assert table.loc["mrs_tnaa_tcr", "qc"] == "ok"


def test_values_of_a_water_scaled_fit(measure):
    table, quality, steps = measure()
    assert table.loc["mrs_tnaa_tcr", "value"] == pytest.approx(1.574, abs=1e-3)
    assert table.loc["mrs_tnaa_molal", "value"] == pytest.approx(14.4052, abs=6e-5)
    assert table.loc[["mrs_voxel_gm", "mrs_voxel_csf"], "value"].tolist() == [0.3, 0.2]
    assert quality["metrics"]["snr"] == 120
    assert quality["metrics"]["mask_volume_ratio"] == pytest.approx(0.98)
    assert quality["metrics"]["crlb_tnaa_tcho"] == pytest.approx(np.sqrt(5), rel=1e-5)
    assert all(step["done"] for step in steps["Steps"].values())


def test_metabolites_that_a_long_echo_time_cannot_tell(measure):
    long, quality, _ = measure()
    flagged = long.index[long["qc"] == "flagged"].tolist()
    assert flagged == [
        "mrs_mins_tcr", "mrs_tnaa_mins", "mrs_glx_tcr", "mrs_gaba_tcr", "mrs_gsh_tcr",
        "mrs_mins_molal", "mrs_glx_molal", "mrs_gaba_molal", "mrs_gsh_molal",
    ]  # fmt: skip
    assert long.loc[flagged, "value"].notna().all()
    assert names(quality["notes"]) == ["long_echo_time", "gaba"]
    short, quality, _ = measure("sim_press30_dows", PLACE | {"te": 0.03, "sequence": "PRESS"})
    assert short.index[short["qc"] == "flagged"].tolist() == ["mrs_gaba_tcr", "mrs_gaba_molal"]
    assert "without editing" in short.loc["mrs_gaba_molal", "reason"]
    edited, quality, _ = measure("sptype_mega", None)
    assert edited.loc["mrs_gaba_tcr", "qc"] == "ok"
    assert "gaba" not in names(quality["notes"])


def test_an_echo_time_that_is_not_the_scans(measure):
    table, quality, _ = measure(place=PLACE | {"te": 0.03})
    assert "echo_time_differs" in names(quality["notes"])
    assert np.isnan(table.loc["mrs_tnaa_molal", "value"])
    assert table.loc["mrs_tnaa_molal", "qc"] == "ok"
    assert "that of the scan is 30 ms" in table.loc["mrs_tnaa_molal", "reason"]
    assert table.loc["mrs_tnaa_tcr", "qc"] == "ok"


def test_water_scaling_that_failed_costs_no_ratio(measure):
    table, quality, steps = measure("bad_h2o_zero")
    said = [note["reason"] for note in quality["notes"]]
    assert any("scaling by water failed" in reason for reason in said)
    assert (table.loc["mrs_tnaa_tcr", "qc"], table.loc["mrs_tnaa_tcr", "reason"]) == ("ok", "")
    assert table.loc["mrs_tnaa_molal", "reason"] == "LCModel did not scale by water"
    assert not steps["Steps"]["quantify"]["done"]


# ---------------------------------------------------------------------------- place


def test_a_spectrum_from_an_unknown_place_counts_nowhere(measure):
    table, quality, _ = measure(place=REFUSED)
    assert names(quality["flags"]) == ["voxel_misplaced"]
    assert set(table["qc"]) == {"flagged"}
    assert (table["reason"].str.count("a_svs.nii.gz has no place") == 1).all()
    assert table.loc["mrs_tnaa_molal", "reason"] == table.loc["mrs_voxel_gm", "reason"] == NOWHERE
    assert "not_corrected" not in names(quality["notes"])
    assert np.isfinite(table.loc["mrs_tnaa_tcr", "value"])
    assert table.loc["mrs_voxel_gm":, "value"].isna().all()


def test_a_program_that_is_missing_says_nothing_against_the_spectrum(measure):
    table, quality, _ = measure(place=REFUSED | {"program_missing": True})
    assert quality["flags"] == []
    assert "place_unread" in names(quality["notes"])
    assert table.loc["mrs_tnaa_tcr", "qc"] == "ok"
    assert table.loc["mrs_voxel_gm", "reason"] == REFUSED["reason"]
    assert np.isnan(table.loc["mrs_tnaa_molal", "value"])


def test_a_fit_without_a_place(measure):
    table, quality, steps = measure(place=None)
    assert quality["flags"] == []
    assert "no_place" in names(quality["notes"])
    assert table.loc["mrs_tnaa_tcr", "qc"] == "ok"
    assert table.loc["mrs_voxel_wm", "reason"] == "no file with the place of the voxel was given"
    assert set(table.loc["mrs_voxel_gm":, "qc"]) == {"ok"}
    assert steps["Steps"]["place"] == {
        "asked": True, "done": False, "reason": "no file with the place of the voxel was given",
    }  # fmt: skip


def test_a_place_without_a_fit(measure):
    table, quality, steps = measure(case=None)
    assert quality["flags"] == []
    assert names(quality["notes"]) == ["no_fit"]
    assert table.loc["mrs_voxel_wm", "value"] == 0.5
    assert set(table.loc[:"mrs_gsh_molal", "reason"]) == {"no result of LCModel was given"}
    assert not steps["Steps"]["fit"]["done"]
    told = {"name": "no_fit", "reason": "no result of LCModel was found"}
    table, quality, steps = measure(case=None, notes=[told], fit_asked=False)
    assert (quality["flags"], quality["notes"]) == ([], [told])
    assert table.loc["mrs_tnaa_tcr", "reason"] == told["reason"]


def test_a_fit_that_was_asked_for_and_is_not_there_is_an_error_and_the_tissue_stays(measure):
    told = {"name": "no_fit", "reason": "no result of LCModel was found"}
    table, quality, steps = measure(case=None, notes=[told])
    assert (quality["flags"], quality["notes"]) == ([told], [])
    assert steps["Steps"]["fit"]["reason"] == told["reason"]
    assert set(table.loc[:"mrs_gsh_molal", "qc"]) == {"flagged"}
    assert set(table.loc["mrs_voxel_gm":, "qc"]) == {"ok"}


def test_lcmodel_that_was_run_and_gave_nothing_is_a_failed_fit(measure):
    told = {"done": False, "reason": "LCModel wrote no table"}
    table, quality, _ = measure(case=None, run=told)
    assert quality["flags"] == [{"name": "fit_failed", "reason": "LCModel wrote no table"}]
    assert set(table.loc[:"mrs_gsh_molal", "qc"]) == {"flagged"}
    assert table.loc["mrs_voxel_gm", "qc"] == "ok"


def test_low_coverage_stands_beside_the_fractions(measure):
    warning = "only 90.0% of the voxel lies in the brain mask"
    shares = SHARES | {"gm": 0.2, "tissue_sum": 0.9, "in_brain": 0.9}
    table, quality, _ = measure(place=PLACE | {"fractions": shares, "warnings": [warning]})
    assert table.loc["mrs_voxel_gm", ["value", "qc", "reason"]].tolist() == [0.2, "ok", warning]
    assert {"name": "voxel", "reason": warning} in quality["notes"]
    assert "not_corrected" in names(quality["notes"])
    assert np.isnan(table.loc["mrs_tnaa_molal", "value"])
    assert "only 90.0% of the voxel" in table.loc["mrs_tnaa_molal", "reason"]
    assert table.loc["mrs_tnaa_tcr", "qc"] == "ok"


def test_flags_of_the_anatomy_spare_the_ratios(measure):
    flag = {"name": "low_contrast", "reason": "grey and white matter look alike"}
    table, quality, _ = measure(anatomy=[flag])
    assert quality["flags"] == []
    assert "anat_low_contrast" in names(quality["notes"])
    assert table.loc["mrs_tnaa_tcr", ["qc", "reason"]].tolist() == ["ok", ""]
    tissue = [name for name in table.index if "molal" in name or "voxel" in name]
    assert set(table.loc[tissue, "qc"]) == {"flagged"}
    assert table.loc[tissue, "value"].isna().all()
    assert set(table.loc[tissue, "reason"]) == {"anatomy: grey and white matter look alike"}
