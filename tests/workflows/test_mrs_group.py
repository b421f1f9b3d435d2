"""Spectra of a cohort on paper: whose fall out is told wherever a result is."""

import json

import numpy as np
import pandas as pd
import pytest

from alsflow.cli import main
from alsflow.interfaces.group import read_tests
from alsflow.interfaces.images import load, save
from alsflow.interfaces.template import SPACE
from alsflow.workflows.group import OVERLAP
from alsflow.workflows.measures import catalogue

N = 24  # two sites of six ALS and six controls
EFFECT = -0.15
TRUE = {"tnaa_tcr": 1.5, "tnaa_tcho": 6.3, "tcho_tcr": 0.24, "mins_tcr": 0.62, "glx_tcr": 1.45}
NOISE = "S/N 2 (< 3)"
NO_FIT = "no result of LCModel was found, and no basis set was given to run it"
CHOLINE = "CRLB of tCho is 28 % (> 15 %)"
BAD = {"sub-01": NOISE, "sub-02": NO_FIT, "sub-05": NOISE, "sub-03": CHOLINE}


def person(i: int) -> dict:
    return {
        "participant_id": f"sub-{i + 1:02d}",
        "group": ("ALS", "control")[i % 2],
        "site": ("north", "south")[i // 2 % 2],
        "age": f"{45 + 7 * i % 31}",
        "sex": "FM"[i // 4 % 2],
    }


def write_measures(output, someone: dict, rng) -> None:
    """As the participant level writes them."""
    label = someone["participant_id"]
    why = BAD.get(label, "")
    lines = ["measure\tvalue\tunit\tqc\treason"]
    for name, value in TRUE.items():
        value = value * rng.normal(1, 0.05) * (1 + 0.1 * (someone["site"] == "south"))
        if someone["group"] == "ALS" and name in ("tnaa_tcr", "tnaa_tcho"):
            value *= 1 + EFFECT
        bad = why and (why in (NOISE, NO_FIT) or "tcho" in name)
        shown = "n/a" if why == NO_FIT else 99 if why == NOISE else f"{value:.5g}"
        qc, reason = ("ok" if why == NO_FIT else "flagged", why) if bad else ("ok", "")
        lines.append(f"mrs_{name}\t{shown}\t1\t{qc}\t{reason}")
    shares = rng.dirichlet((40, 40, 20))
    for tissue, share in zip(("gm", "wm", "csf"), shares, strict=True):
        lines.append(f"mrs_voxel_{tissue}\t{share:.5g}\t1\tok\t")
    folder = output / label / "mrs"
    folder.mkdir(parents=True)
    (folder / f"{label}_desc-mrs_measures.tsv").write_text("\n".join(lines) + "\n")
    share = np.zeros((24, 29, 24), np.float32)
    share[10:14, 12:15, 15:18] = 1
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = -98, -134, -72
    save(share, affine, folder / f"{label}_space-{SPACE}_desc-voxel_probseg.nii.gz")


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Output folder of the group level; one person's spectra were refused since."""
    folder = tmp_path_factory.mktemp("cohort")
    bids, output = folder / "bids", folder / "out"
    bids.mkdir()
    cohort, rng = [person(i) for i in range(N)], np.random.default_rng(2)
    for someone in cohort:
        write_measures(output, someone, rng)
    pd.DataFrame(cohort).to_csv(bids / "participants.tsv", sep="\t", index=False)
    text = json.dumps({"Name": "paper", "BIDSVersion": "1.10.0"})
    (bids / "dataset_description.json").write_text(text)
    rows = [(f"sub-{i + 1:02d}", "n/a", "mrs", "done", "n/a") for i in range(N)]
    rows[0] = ("sub-01", "n/a", "mrs", "flagged", f"low_snr: {NOISE}")
    rows[1] = ("sub-02", "n/a", "mrs", "flagged", f"no_fit: {NO_FIT}")
    rows[6] = ("sub-07", "n/a", "mrs", "refused", "sub-07.csv: differs from sub-07.table")
    names = ["participant_id", "session_id", "stream", "state", "reason"]
    pd.DataFrame(rows, columns=names).to_csv(output / "status.tsv", sep="\t", index=False)
    words = [str(bids), str(output), "group", "-w", str(folder / "work"), "--nprocs", "1"]
    assert main([*words, "--mem", "4G", "--skip-bids-validation"]) == 0
    return output


def test_the_endpoints_are_compared_without_what_does_not_count(output):
    tests = read_tests(output / "group" / "tests.tsv").set_index("measure")
    # flagged 01, 05; no fit 02; refused 07; 03 for choline alone
    assert tests.at["mrs_tnaa_tcr", "n"] == N - 4
    assert tests.at["mrs_tnaa_tcho", "n"] == N - 5
    assert tests.at["mrs_voxel_gm", "n"] == N - 1
    for name in ("mrs_tnaa_tcr", "mrs_tnaa_tcho"):
        low, high = tests.loc[name, ["relative_low", "relative_high"]]
        assert low < 100 * EFFECT < high < 0, name  # a value of 99 would be seen
    assert tests.at["mrs_tnaa_tcr", "family"] == "mrs_ratio"


def test_who_fell_out_is_told_by_site_and_group(output):
    tests = read_tests(output / "group" / "tests.tsv").set_index("measure")
    # north: 01 02, 05 06, ...; south: 03 04, 07 08, ...
    assert tests.at["mrs_tnaa_tcr", "missing_per_site"] == (
        "north: 2 of 6 ALS, 1 of 6 control; south: 1 of 6 ALS, 0 of 6 control"
    )
    assert tests.at["mrs_tnaa_tcho", "missing_per_site"] == (
        "north: 2 of 6 ALS, 1 of 6 control; south: 2 of 6 ALS, 0 of 6 control"
    )
    missing = tests.at["mrs_tnaa_tcho", "missing"]
    for label, why in BAD.items():
        assert label in missing
        assert why in missing
    assert "sub-07: mrs refused: sub-07.csv: differs from sub-07.table" in missing


def test_attrition_counts_them_by_family(output):
    table = pd.read_csv(output / "group" / "attrition.tsv", sep="\t", keep_default_na=False)
    ratios = table[table["family"] == "mrs_ratio"].set_index(["site", "group"])
    columns = ["n_people", "n_usable", "n_incomplete", "n_excluded"]
    found = {key: row.tolist() for key, row in ratios[columns].iterrows()}
    assert found == {
        ("north", "ALS"): [6, 4, 0, 2], ("north", "control"): [6, 5, 0, 1],
        ("south", "ALS"): [6, 5, 1, 1], ("south", "control"): [6, 6, 0, 0],
    }  # fmt: skip
    assert "flagged: S/N # (< #)" in ratios.at[("north", "ALS"), "reasons"]
    assert "no result of LCModel" in ratios.at[("north", "control"), "reasons"]
    voxel = table[table["family"] == "mrs_voxel"]
    assert voxel["n_excluded"].sum() == 1


def test_tables_hold_no_flagged_value_and_all_who_have_one(output):
    wide = pd.read_csv(output / "features_wide.tsv", sep="\t", na_values="n/a")
    wide = wide.set_index("participant_id")
    assert wide.loc[["sub-01", "sub-02", "sub-05", "sub-07"], "mrs_tnaa_tcr"].isna().all()
    assert not (wide == 99).any().any()
    units = json.loads((output / "features_wide.json").read_text())
    assert units["mrs_tnaa_tcr"]["Units"] == catalogue().measures["mrs_tnaa_tcr"].unit


def test_the_map_of_voxels_is_delivered(output):
    share, _ = load(output / OVERLAP[0])
    assert share.max() == 1
    sidecar = json.loads((output / OVERLAP[1]).read_text())
    assert sidecar["NumberOfPeople"] == N - 1  # without her who was refused
    assert not [source for source in sidecar["Sources"] if "sub-07" in source]
    assert "Spectroscopy voxel" in (output / "group.html").read_text()
