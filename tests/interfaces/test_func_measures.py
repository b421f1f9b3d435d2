"""What the BOLD stream says of its steps, from what they left behind."""

import json
from pathlib import Path

import pandas as pd
import pytest

from alsflow.interfaces.func_measures import MeasureFunc

UNCORRECTED = {"name": "distortion_uncorrected", "reason": "distortion was not corrected: no pair"}
UNTIMED = {"name": "slice_timing_skipped", "reason": "slice timing was skipped: no SliceTiming"}
ASKED = {"slice_timing": True, "field": "auto", "denoise": "motion24+acompcor", "smooth": False}
DONE = {
    "load": {"runs": ["x.nii.gz"], "notes": ["x.nii.gz holds 3 volumes fewer than it says"]},
    "motion": {"head_to_volume": [[1.0]], "reference": 0},
    "confounds": {"fd_mean": 0.2, "rmsd_mean": 0.1, "tsnr_gm": 55.0, "outliers": 4},
    "denoise": {"done": True, "dof_left": 60, "dof_lost": 90},
    "register": {"flags": [], "metrics": {"mask_dice": 0.94}},
    "seeds": {"motor_coverage": 0.97, "notes": []},
    "connect": {"done": True, "volumes": 152},
}
FEW = "12 degrees of freedom are left after the denoising (at least 30 are asked)"
REGIONS = ["precentral", "thalamus"]


def measured(folder, monkeypatch, flags=(), tables=True, notes=(), voxel=False, **changes):
    monkeypatch.chdir(folder)
    header = "seed\tseed_side\tregion\tside\tn_seed\tn_voxels\tn_shared\tr\tz\treason\n"
    (folder / "fc.tsv").write_text(
        f"{header}precentral\tleft\tprecentral\tright\t90\t80\t0\t0.6\t0.693\t\n"
        "precentral\tboth\tthalamus\tboth\t170\t9\t0\tn/a\tn/a\tthe thalamus has 9 voxels\n"
        "mrs_voxel\t\tprecentral\tboth\t70\t80\t9\t0.39\t0.41\t\n"
        "mrs_voxel\t\tthalamus\tboth\t70\t9\t0\tn/a\tn/a\tonly 9 voxels are left\n"
    )
    (folder / "means.tsv").write_text(
        "metric\tregion\tside\tvalue\tn_voxels\treason\nreho\tthalamus\tleft\t0.25\t40\t\n"
    )
    (folder / "anat.json").write_text(json.dumps({"flags": list(flags)}))
    files = {}
    for step, info in (DONE | changes).items():
        (folder / f"{step}.json").write_text(json.dumps(info))
        files[f"{step}_info_file"] = str(folder / f"{step}.json")
    if tables:
        files |= {"connections_file": str(folder / "fc.tsv"),
                  "means_file": str(folder / "means.tsv")}  # fmt: skip
    node = MeasureFunc(steps=[*DONE, "field"], asked=ASKED, notes=list(notes), regions=REGIONS,
                       voxel=voxel, anat_qc_file=str(folder / "anat.json"))  # fmt: skip
    node.inputs.trait_set(**files)
    outputs = node.run().outputs
    quality, model, facts = (
        json.loads(Path(path).read_text())
        for path in (outputs.qc_file, outputs.model_file, outputs.facts_file)
    )
    table = pd.read_csv(outputs.measures_file, sep="\t", keep_default_na=False,
                        na_values={"value": ["n/a"]})  # fmt: skip
    assert list(table) == ["measure", "value", "unit", "qc", "reason"]
    return table.set_index("measure"), quality, model, facts


def test_values_reach_the_table_with_what_must_be_known(tmp_path, monkeypatch):
    table, quality, model, facts = measured(tmp_path, monkeypatch, notes=[UNCORRECTED, UNTIMED])
    assert table.loc["fc_motor_interhemispheric", "value"] == 0.693
    assert table.loc["reho_thalamus_left", "value"] == 0.25
    known = table["value"].notna()
    assert set(table["reason"][known]) == {
        "distortion was not corrected; slice timing was skipped"
    }
    assert table.loc["fc_precentral_thalamus_both", "reason"] == "the thalamus has 9 voxels"
    assert table.loc["alff_thalamus_left", "reason"] == "the atlas has no thalamus"
    assert set(table["qc"]) == {"ok"}
    assert quality["flags"] == []
    assert [note["name"] for note in quality["notes"]] == [
        "distortion_uncorrected", "slice_timing_skipped", "load",
    ]  # fmt: skip
    assert quality["metrics"]["dof_left"] == 60
    assert quality["metrics"]["mask_dice"] == 0.94
    assert facts == {"Steps": model["steps"]}
    assert model["steps"]["field"]["reason"] == UNCORRECTED["reason"]
    assert model["steps"]["slice_timing"]["reason"] == UNTIMED["reason"]
    assert model["steps"]["denoise"] == {"asked": "motion24+acompcor", "done": True}
    assert "head_to_volume" not in model["details"]["motion"]


def test_the_mrs_voxel_as_a_seed_reaches_the_table(tmp_path, monkeypatch):
    table, *_ = measured(tmp_path, monkeypatch, voxel=True)
    assert table.loc["fc_mrs_voxel_precentral_both", "value"] == 0.41
    row = table.loc["fc_mrs_voxel_thalamus_both"]
    assert (row["qc"], row["reason"]) == ("ok", "only 9 voxels are left")


def test_too_few_degrees_of_freedom_take_every_value(tmp_path, monkeypatch):
    undone = {"done": False, "reason": FEW}
    table, quality, model, _ = measured(tmp_path, monkeypatch, denoise=undone, connect=undone)
    assert table["value"].isna().all()
    assert set(table["reason"]) == {FEW}
    assert set(table["qc"]) == {"flagged"}
    assert quality["flags"] == [{"name": "too_few_degrees_of_freedom", "reason": FEW}]
    assert FEW not in [note["reason"] for note in quality["notes"]]
    assert model["steps"]["denoise"]["reason"] == FEW


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"flags": [{"name": "tissue_volume", "reason": "too small"}]}, "anat_tissue_volume"),
        ({"register": {"flags": [{"name": "misplaced", "reason": "far"}], "metrics": {}}},
         "misplaced"),
        ({"confounds": {"rmsd_mean": 0.7}}, "motion_too_large"),
    ],
)  # fmt: skip
def test_flags_take_every_value(tmp_path, monkeypatch, changes, name):
    table, quality, _, _ = measured(tmp_path, monkeypatch, **changes)
    assert [flag["name"] for flag in quality["flags"]] == [name]
    assert table["value"].isna().all()
    assert set(table["reason"]) == {quality["flags"][0]["reason"]}
    assert set(table["qc"]) == {"flagged"}


def test_a_cut_motor_strip_and_a_moved_head_stand_beside_the_values(tmp_path, monkeypatch):
    changes = {"seeds": {"motor_coverage": 0.6}, "confounds": {"rmsd_mean": 0.3, "tsnr_gm": 12.0}}
    table, quality, _, _ = measured(tmp_path, monkeypatch, **changes)
    assert not table.index.str.contains("mrs_voxel").any()
    reason = table.loc["fc_motor_interhemispheric", "reason"]
    assert "only 60% of the precentral gyrus" in reason
    assert "0.30 mm" in reason
    assert "signal-to-noise" not in reason
    assert "low_tsnr" in [note["name"] for note in quality["notes"]]
    assert table.loc["fc_motor_interhemispheric", "value"] == 0.693


def test_without_tables_every_measure_says_so(tmp_path, monkeypatch):
    table, _, _, _ = measured(tmp_path, monkeypatch, tables=False)
    assert set(table["reason"]) == {"it was not measured"}
    assert table["value"].isna().all()
