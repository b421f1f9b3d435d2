import json
import shutil

import numpy as np
import pandas as pd
import pytest

from alsflow.interfaces.group import read_table
from alsflow.interfaces.phenotype import (
    ClinicalFile,
    ScoreClinical,
    clinical_inputs,
    clinical_scores,
    find_clinical_files,
    read_clinical,
)
from alsflow.interfaces.simulate import _write_participants, _write_phenotype, atlas_regions
from alsflow.nodes.clinical.alsfrs import ITEMS
from alsflow.nodes.clinical.options import ClinicalOptions, parse_options
from alsflow.nodes.clinical.table import clinical_table, widen_scores
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.simulate.cohort import Design, draw_people
from alsflow.workflows.measures import catalogue


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Tables of a simulated cohort, without its images."""
    folder = tmp_path_factory.mktemp("cohort")
    design = Design(n_patients=40, n_controls=10, n_sites=2, seed=6)
    people = draw_people(design, atlas_regions())
    _write_participants(folder, people)
    _write_phenotype(folder, design, people)
    return folder


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def healthy(**cells):
    return dict.fromkeys(ITEMS, "4") | cells


def test_scores_of_a_simulated_cohort_are_its_totals(cohort):
    scores = clinical_scores(cohort)
    wide = widen_scores(scores).set_index("participant_id")
    for table, total, score in (
        ("alsfrsr", "total", "alsfrs_r"),
        ("mrc", "mrc_sum", "mrc_sum"),
        ("penn_umn", "penn_total", "penn_total"),
        ("fvc", "fvc_percent_predicted", "fvc_percent"),
    ):
        given = read_table(cohort / "phenotype" / f"{table}.tsv").set_index("participant_id")
        expected = given[total].astype(float)
        found = wide[score].dropna()
        pd.testing.assert_series_equal(
            found.sort_index(),
            expected.sort_index(),
            check_names=False,
            check_index_type=False,
            rtol=1e-12,
        )
    people = read_table(cohort / "participants.tsv").set_index("participant_id")
    ill = wide.index[wide["alsfrs_r"].notna()]
    months = people.loc[ill, "disease_duration"].astype(float)
    np.testing.assert_allclose(
        wide.loc[ill, "decline_rate"], (48 - wide.loc[ill, "alsfrs_r"]) / months
    )
    assert wide.loc[ill, ["kings", "mitos"]].notna().all(axis=None)
    assert set(scores["status"]) == {"ok"}
    parts = wide[[f"alsfrs_{p}" for p in ("bulbar", "fine_motor", "gross_motor", "respiratory")]]
    np.testing.assert_allclose(parts.loc[ill].sum(axis=1), wide.loc[ill, "alsfrs_r"])


def test_totals_are_worked_out_from_items_not_copied(cohort, tmp_path):
    """A total that was changed in the table is noticed."""
    shutil.copytree(cohort, tmp_path / "bids")
    path = tmp_path / "bids" / "phenotype" / "mrc.tsv"
    table = read_table(path)
    table["mrc_sum"] = [str(int(table["mrc_sum"].iloc[0]) - 1), *table["mrc_sum"].iloc[1:]]
    path.write_text(table.to_csv(sep="\t", index=False))
    with pytest.raises(BadInputError, match=r"^sub-0?1: MRC sum .* but its items add up to"):
        clinical_scores(tmp_path / "bids")


def test_scores_have_the_units_and_ranges_that_are_declared(cohort):
    scores = clinical_scores(cohort)
    for _, row in scores[scores["score"] != "mrc_max"].iterrows():
        measure = catalogue().describe(row["score"])
        assert measure.unit == row["unit"]
        assert measure.low <= row["value"] <= measure.high


def test_files_are_found_and_named(tmp_path):
    write(tmp_path / "participants.tsv", [{"participant_id": "sub-1", "age": "60"}])
    write(tmp_path / "phenotype" / "penn_umn.tsv", [{"participant_id": "sub-1", "bulbar": "2"}])
    write(tmp_path / "phenotype" / "bdi.tsv", [{"participant_id": "sub-1", "total": "7"}])
    write(tmp_path / "sub-1" / "sub-1_sessions.tsv", [{"session_id": "ses-1", "alsfrs_r": "40"}])
    write(tmp_path / "clinic" / "visits.tsv", [{"participant_id": "1", "speech": "4"}])
    options = parse_options({"tables": {"alsfrs": "clinic/visits.tsv"}})
    files = find_clinical_files(tmp_path, options)
    assert [(file.path.name, set(file.tools)) for file in files] == [
        ("participants.tsv", set()),
        ("bdi.tsv", set()),
        ("penn_umn.tsv", {"penn"}),
        ("sub-1_sessions.tsv", set()),
        ("visits.tsv", {"alsfrs"}),
    ]
    with pytest.raises(BadInputError, match=r"clinical.tables.alsfrs names clinic/visit.tsv"):
        find_clinical_files(tmp_path, parse_options({"tables": {"alsfrs": "clinic/visit.tsv"}}))
    with pytest.raises(BadInputError, match=r"clinical.files names more.xlsx"):
        find_clinical_files(tmp_path, parse_options({"files": ["more.xlsx"]}))
    names = [source.name for source in read_clinical(files, name_from=tmp_path)]
    assert names[-2:] == ["sub-1/sub-1_sessions.tsv", "clinic/visits.tsv"]
    scores = clinical_scores(tmp_path, options)
    found = scores[scores["status"] == "ok"].set_index("score")[["session_id", "value"]]
    assert found.loc["alsfrs_r"].to_list() == ["ses-1", 40]
    assert found.loc["penn_bulbar"].to_list() == ["n/a", 2]


def test_sidecars_tell_units_and_codes(tmp_path):
    rows = [healthy(participant_id="sub-1", gastrostomy="2", symptom_duration="2", stairs="0")]
    path = write(tmp_path / "phenotype" / "alsfrsr.tsv", rows)
    about = {
        "symptom_duration": {"Units": "years"},
        "gastrostomy": {"Levels": {"1": {"Description": "no"}, "2": {"Description": "yes"}}},
        "MeasurementToolMetadata": {"Description": "ALSFRS-R"},
    }
    path.with_suffix(".json").write_text(json.dumps(about))
    scores = clinical_scores(tmp_path).set_index("score")
    assert scores.loc["decline_rate", "value"] == pytest.approx(4 / 24)
    assert scores.loc["kings", "label"] == "4A"
    path.with_suffix(".json").write_text("{")
    with pytest.raises(BadInputError, match="alsfrsr.json is not JSON"):
        clinical_scores(tmp_path)


def test_sessions_give_durations_and_may_share_a_sidecar(tmp_path):
    rows = [{"session_id": "ses-1", "disease_duration": "1"},
            {"session_id": "ses-2", "disease_duration": "2"}]  # fmt: skip
    write(tmp_path / "sub-1" / "sub-1_sessions.tsv", rows)
    (tmp_path / "sessions.json").write_text('{"disease_duration": {"Units": "years"}}')
    visits = [healthy(participant_id="sub-1", session_id=f"ses-{n}", stairs="0") for n in (1, 2)]
    write(tmp_path / "phenotype" / "alsfrsr.tsv", visits)
    rates = clinical_scores(tmp_path).query("score == 'decline_rate'")
    assert list(rates["value"]) == pytest.approx([4 / 12, 4 / 24])


def test_another_reader_can_be_given(tmp_path):
    path = tmp_path / "visits.csv"
    path.write_text("participant_id;alsfrs_r\nsub-1;40\n")

    def read(file):
        return pd.read_csv(file, sep=";", dtype=str)

    sources = read_clinical([ClinicalFile(path)], read)
    assert list(sources[0].table.columns) == ["participant_id", "alsfrs_r"]
    assert (
        clinical_scores(tmp_path, ClinicalOptions(files=("visits.csv",)), read).loc[0, "value"]
        == 40
    )


def test_a_sheet_of_a_workbook_keeps_its_name(tmp_path):
    (tmp_path / "visits.xlsx").write_text("")
    inputs = clinical_inputs(tmp_path, {"tables": {"mrc": "visits.xlsx#MRC"}})
    assert inputs["tables"] == [str(tmp_path / "visits.xlsx#MRC")]
    assert inputs["content_files"] == [str(tmp_path / "visits.xlsx")]


def test_the_interface_writes_three_tables(cohort, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = ScoreClinical(**clinical_inputs(cohort, {"kings_at_least_1": True})).run()
    scores = read_table(result.outputs.scores_file)
    wide = read_table(result.outputs.wide_file)
    columns = read_table(result.outputs.columns_file)
    assert len(wide) == 50
    assert "0" not in set(scores.loc[scores["score"] == "kings", "label"])
    assert set(columns.loc[columns["table"] == "phenotype/alsfrsr.tsv", "item"]) >= {
        "alsfrs_speech",
        "alsfrs_total",
        "alsfrs_gastrostomy",
    }


def test_reference_cohorts_are_read_as_they_are(shared_data, tmp_path):
    """Two published designs: items or totals, sides as L and R, decline already worked out."""
    for name in ("taiwan", "calsnic"):
        path = shared_data / "stats_reference" / f"{name}_subjects.csv"
        given = pd.read_csv(path)
        sources = read_clinical(
            [ClinicalFile(path)], lambda p: pd.read_csv(p, dtype=str).fillna("n/a")
        )
        options = {"mrc_movements": [f"muscle_{n}" for n in range(8)]} if name == "taiwan" else {}
        scores = clinical_table(sources, options=parse_options(options))
        wide = widen_scores(scores).set_index("participant_id").reindex(given["participant_id"])
        pairs = {"alsfrs_r": "alsfrs_r"}
        pairs |= (
            {"mrc_sum_left": "mrc_L", "penn_right": "penn_R", "cmap_z_left": "cmapz_sum_L",
             "fvc_percent": "fvc_pct"}
            if name == "taiwan"
            else {"foot_tapping": "foot_tap", "ecas_total": "ecas_total",
                  "decline_rate": "decline_rate"}
        )  # fmt: skip
        for score, column in pairs.items():
            np.testing.assert_allclose(wide[score], given[column], rtol=1e-6, atol=2e-4)
