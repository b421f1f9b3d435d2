"""Files of the declared analyses: from tables of people and measures to registry and page."""

import json
import os
import re
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alsflow.interfaces.group_stats import (
    DrawStatistics,
    PrintTables,
    RunAnalyses,
    WriteAnalyses,
    read_json,
    read_registry,
    write_json,
)
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.registry import ORDER
from alsflow.workflows.measures import MEASURES_FILE, catalogue

PRE, THAL, FA = "gmv_precentral_both_tiv", "gmv_thalamus_both_tiv", "fa_corticospinal_tract_both"
TEMPLATE = MEASURES_FILE.parent / "analyses.html.j2"
ANALYSES = [
    {"name": "people", "kind": "demographics", "title": "The people", "correction": "none"},
    {"name": "groups", "kind": "groups", "title": "Groups <b> $x^{$", "family": "catalogue",
     "outcomes": ["family:motor", "family:tract_fa"]},
    {"name": "slopes", "kind": "regression", "title": "Slopes", "people": "patients",
     "outcomes": ["score:alsfrs_r"], "predictors": [PRE, THAL], "covariates": ["age"]},
    {"name": "area", "kind": "roc", "title": "Areas", "outcomes": [PRE]},
]  # fmt: skip


def write_tables(folder, n=36):
    """People at three sites, three measures each (one image missing), a score of patients."""
    rng = np.random.default_rng(1)
    case = np.arange(n) % 2 == 0
    names = [f"sub-{k:02d}" for k in range(n)]
    pd.DataFrame({
        "participant_id": names, "group": np.where(case, "ALS", "control"),
        "site": np.array(["A", "B", "C"])[np.arange(n) // 2 % 3],
        "age": rng.normal(60, 8, n).round(1), "sex": np.array(["M", "F"])[np.arange(n) % 5 // 3],
    }).to_csv(folder / "participants.tsv", sep="\t", index=False)  # fmt: skip
    rows, scores = [], []
    for k, name in enumerate(names):
        values = {PRE: 1.6 - 0.15 * case[k], THAL: 1.0, FA: 0.4}
        for measure, mean in values.items():
            known = not (k == 4 and measure == THAL)
            value = repr(float(mean * (1 + 0.05 * rng.standard_normal()))) if known else "n/a"
            unit = catalogue().measures[measure].unit
            why = "n/a" if known else "no T1w image"
            rows.append((name, "n/a", measure, value, unit, "ok", why))
        if case[k]:
            score = str(int(rng.integers(25, 46)))
            scores.append((name, "n/a", "alsfrs_r", score, "1", 12, 12, "n/a", "ok", "n/a", "x"))
    heads = {
        "features": ["participant_id", "session_id", "measure", "value", "unit", "qc", "reason"],
        "clinical_scores": ["participant_id", "session_id", "score", "value", "unit",
                            "n_items_valid", "n_items", "label", "status", "reason", "source"],
    }  # fmt: skip
    for (name, head), body in zip(heads.items(), (rows, scores), strict=True):
        pd.DataFrame(body, columns=head).to_csv(folder / f"{name}.tsv", sep="\t", index=False)


def run(folder, work, **changes):
    work.mkdir(exist_ok=True)
    os.chdir(work)
    given = {
        "features_file": str(folder / "features.tsv"),
        "participants_file": str(folder / "participants.tsv"),
        "scores_file": str(folder / "clinical_scores.tsv"),
        "measures_file": str(MEASURES_FILE), "analyses": ANALYSES, "group": "group",
        "reference": "control", "site": "site", "covariates": ["age", "sex"],
    }  # fmt: skip
    return RunAnalyses(**(given | changes)).run().outputs


def shared(found):
    names = ("tests_file", "terms_file", "means_file", "tables_file", "summary_file")
    return {name: getattr(found, name) for name in names} | {"measures_file": str(MEASURES_FILE)}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Everything that four interfaces in a row leave behind."""
    here, folder = Path.cwd(), tmp_path_factory.mktemp("study")
    write_tables(folder)
    found = run(folder, folder / "work")
    drawn = DrawStatistics(
        rows_file=found.rows_file, figures_file=found.figures_file, **shared(found)
    ).run().outputs  # fmt: skip
    printed = PrintTables(attrition_file=found.attrition_file, **shared(found)).run().outputs
    page = WriteAnalyses(
        attrition_file=found.attrition_file, figure_files=drawn.figure_files,
        template_file=str(TEMPLATE), version="1.2.3", **shared(found),
    ).run().outputs  # fmt: skip
    os.chdir(here)
    return folder, found, drawn, printed, page


def test_the_registry_is_written_and_read_whole(done):
    _, found, *_ = done
    tests = read_registry(found.tests_file)
    assert list(tests.columns) == list(ORDER)
    assert tests.groupby("analysis").size().to_dict() == {
        "area": 1, "groups": 3, "people": 3, "slopes": 2,
    }  # fmt: skip
    assert tests["pseudoreplicated"].dtype == bool
    row = tests[(tests["analysis"] == "groups") & (tests["outcome"] == PRE)].iloc[0]
    assert row["family"] == "motor"
    assert row["estimate"] < -0.1
    assert row["n"] == row["n_case"] + row["n_control"] == 36
    assert row["t"] == pytest.approx(row["estimate"] / row["se"], rel=1e-12)


def test_a_missing_value_keeps_its_reason_all_the_way(done):
    _, found, _, printed, page = done
    tests = read_registry(found.tests_file)
    thalamus = tests[(tests["analysis"] == "groups") & (tests["outcome"] == THAL)].iloc[0]
    assert re.fullmatch(r"sub-04: .*no T1w image\)?", thalamus["missing"])
    sentence = r"1 person could not be used for thalamus \(1: (no thalamus \()?no T1w image\)+\."
    for path in (printed.text_file, page.page_file):
        assert re.search(sentence, Path(path).read_text(encoding="utf-8"))


def test_the_summary_serves_the_page_of_the_group(done):
    _, found, *_ = done
    summary = read_json(found.summary_file)
    keys = {"case", "reference", "group", "site", "formula", "coding", "columns", "dropped",
            "notes", "implausible"}  # fmt: skip
    assert keys <= set(summary)
    assert summary["formula"] == "group + site + age + sex"
    design = pd.read_csv(found.design_file, sep="\t")
    assert list(design.columns[1:]) == list(summary["columns"])
    assert len(design) == 36


def test_every_column_is_explained(done):
    _, found, *_ = done
    declared = tomllib.loads((MEASURES_FILE.parent / "group_columns.toml").read_text("utf-8"))
    for name in {"tests", "terms", "means", "attrition", "excluded"} & set(declared):
        head = pd.read_csv(getattr(found, f"{name}_file"), sep="\t", nrows=0).columns
        assert set(head) <= set(declared[name]), name


def test_tables_in_three_formats_agree(done):
    *_, printed, _ = done
    formats = (printed.html_files, printed.csv_files, printed.latex_files)
    stems = [[Path(path).stem for path in files] for files in formats]
    assert stems[0] == stems[1] == stems[2]
    names = ("people", "groups-motor", "groups-tract_fa", "slopes", "groups-checks",
             "groups-terms", "groups-means", "area", "attrition")  # fmt: skip
    assert {f"table-{name}" for name in names} <= set(stems[0])
    csv_file = next(path for path in printed.csv_files if path.endswith("table-slopes.csv"))
    table = pd.read_csv(csv_file, keep_default_na=False)
    assert list(table["predictor"]) == ["precentral gyrus (%)", "thalamus (%)"]


def test_figures_are_named_for_their_analysis(done):
    _, _, drawn, *_ = done
    assert [Path(path).stem for path in drawn.figure_files] == [
        "groups-forest-motor", "groups-forest-tract_fa", "groups-strips-motor",
        "groups-strips-tract_fa", "slopes-forest-slopes", "slopes-slopes-alsfrs_r",
        "area-forest-area", "area-curves",
    ]  # fmt: skip
    for path in drawn.figure_files:
        assert Path(path).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_page_is_whole_escaped_and_offline(done):
    *_, page = done
    text = Path(page.page_file).read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "Groups &lt;b&gt; $x^{$" in text
    assert "Groups <b>" not in text
    assert text.count("data:image/png;base64,") == 8
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert "p = 0.000" not in text
    assert ">0.000<" not in text.replace("&nbsp;", " ").replace("> 0.999", "")
    part = Path(page.sections_file).read_text(encoding="utf-8")
    assert "<html" not in part
    assert part.strip() in text
    assert all(f'id="analysis-{one["name"]}"' in part for one in ANALYSES)


def test_the_same_inputs_give_the_same_files(done, tmp_path, monkeypatch):
    folder, found, *_ = done
    monkeypatch.chdir(tmp_path)
    again = run(folder, tmp_path / "again")
    for name in ("tests_file", "terms_file", "means_file", "tables_file", "figures_file",
                 "summary_file", "rows_file", "excluded_file", "attrition_file"):  # fmt: skip
        assert Path(getattr(found, name)).read_bytes() == Path(getattr(again, name)).read_bytes()


def test_a_name_that_nobody_has_is_refused_or_noted(done, tmp_path, monkeypatch):
    folder, *_ = done
    monkeypatch.chdir(tmp_path)
    wrong = [*ANALYSES, {"name": "more", "kind": "roc", "outcomes": ["gmv_thalamis"]}]
    with pytest.raises(BadInputError, match=r"my.toml, analysis more.*gmv_thalamis"):
        run(folder, tmp_path / "a", analyses=wrong, source="my.toml")
    found = run(folder, tmp_path / "b", analyses=wrong, strict=False)
    assert any("gmv_thalamis" in note for note in read_json(found.summary_file)["notes"])


def test_nothing_testable_ends_in_a_sentence(done, tmp_path, monkeypatch):
    folder, *_ = done
    monkeypatch.chdir(tmp_path)
    lonely = [{"name": "x", "kind": "groups", "outcomes": ["score:alsfrs_r"]}]
    with pytest.raises(BadInputError, match=r"nothing can be estimated: .*control"):
        run(folder, tmp_path / "a", analyses=lonely)


def test_only_the_people_named_are_used(done, tmp_path, monkeypatch):
    folder, *_ = done
    monkeypatch.chdir(tmp_path)
    some = [f"{k:02d}" for k in range(24)]
    found = run(folder, tmp_path / "a", people=some, analyses=ANALYSES[1:2])
    tests = read_registry(found.tests_file)
    assert tests["n"].max() == 24
    assert any("24 people named" in note for note in read_json(found.summary_file)["notes"])


def test_json_has_null_for_what_is_not_known(tmp_path):
    path = write_json(tmp_path / "a.json", {"a": [np.nan, np.float64(1.5), pd.NA, np.inf], "b": 1})
    assert json.loads(Path(path).read_text()) == {"a": [None, 1.5, None, None], "b": 1}
