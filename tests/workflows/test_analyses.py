"""Declared analyses at the group level: from tables of measures and scores to what people read."""

import json
import re

import numpy as np
import openpyxl
import pandas as pd
import pytest
from paper_cohort import people, true_measures, write_cohort, write_measures, write_participants

from alsflow.cli import main
from alsflow.interfaces.group_stats import read_registry
from alsflow.workflows.analyses import FOLDER, PRODUCTS, check_analyses
from alsflow.workflows.group import requested_group
from alsflow.workflows.settings import Settings, read_profile

EFFECT = {"precentral": -0.15}
OWN = """
[[analysis]]
name = "strength"
kind = "regression"
people = "patients"
outcomes = ["score:alsfrs_r"]
predictors = ["gmv_precentral_both_tiv"]
covariates = ["age"]
"""


def write_scores(bids, cohort):
    """Items of the ALSFRS-R of the patients, worse where the precentral gyrus would be."""
    rng = np.random.default_rng(4)
    names = [f"alsfrs_r_{k}" for k in range(1, 13)]
    lines = ["\t".join(["participant_id", *names])]
    for person in cohort:
        if person["group"] == "ALS":
            items = rng.integers(1, 5, 12)
            lines.append("\t".join([person["participant_id"], *map(str, items)]))
    path = bids / "phenotype" / "alsfrs_r.tsv"
    path.parent.mkdir()
    path.write_text("\n".join(lines) + "\n")


def group(bids, output, *options):
    """Exit code of the group level."""
    words = [bids, output, "group", "-w", bids.parent / "work", "--skip-bids-validation",
             "--nprocs", "1", *options]  # fmt: skip
    try:
        return main([str(word) for word in words])
    except SystemExit as end:
        return end.code


def make(folder, n=40):
    bids, output = write_cohort(folder, n, EFFECT)
    (bids / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    write_scores(bids, people(n))
    return bids, output


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    bids, output = make(tmp_path_factory.mktemp("analyses"))
    assert group(bids, output) == 0
    return bids, output


def registry(output):
    return read_registry(output / FOLDER / "tests.tsv")


class TestDefaultProfile:
    def test_everything_asked_for_is_there(self, cohort):
        bids, output = cohort
        analyses = tuple(read_profile("default")["analysis"])
        settings = Settings(bids, output, "group", analysis=analyses)
        asked = requested_group(settings)
        assert set(PRODUCTS) <= set(asked)
        assert all(path.is_file() for path in asked.values())
        assert list((output / FOLDER / "figures").glob("groups-forest-motor*.png"))
        for ending in ("html", "csv", "tex"):
            assert list((output / FOLDER / "tables").glob(f"table-groups*.{ending}"))

    def test_the_groups_are_those_of_the_first_result(self, cohort):
        _, output = cohort
        tests = registry(output)
        groups = tests[tests["analysis"] == "groups"].set_index("measure")
        first = pd.read_csv(output / "group" / "tests.tsv", sep="\t").set_index("measure")
        names = list(first.index[first["status"] == "tested"])
        assert names == list(groups.index[groups["status"] == "tested"])
        for column in ("n", "df", "estimate", "se", "p", "q", "g_low"):
            np.testing.assert_allclose(groups.loc[names, column].astype(float),
                                       first.loc[names, column], rtol=1e-8)  # fmt: skip
        assert groups.at["gmv_precentral_both_tiv", "q"] < 0.05

    def test_scores_are_made_from_items_and_tested(self, cohort):
        bids, output = cohort
        scores = pd.read_csv(output / FOLDER / "clinical_scores.tsv", sep="\t")
        totals = scores[scores["score"] == "alsfrs_r"].set_index("participant_id")["value"]
        items = pd.read_csv(bids / "phenotype" / "alsfrs_r.tsv", sep="\t", index_col=0)
        assert totals.astype(float).to_dict() == items.sum(axis=1).astype(float).to_dict()
        tests = registry(output)
        slope = tests[(tests["analysis"] == "scores_anat") & (tests["outcome"] == "alsfrs_r")]
        assert set(slope["status"]) == {"tested"}
        assert set(slope["n"]) == {20}

    def test_every_column_is_explained(self, cohort):
        _, output = cohort
        for path in (output / FOLDER).glob("*.tsv"):
            columns = path.read_text().splitlines()[0].split("\t")
            told = json.loads(path.with_suffix(".json").read_text())
            assert list(told) == columns, path.name
            assert all(entry["Description"] for entry in told.values()), path.name

    def test_the_page_works_offline(self, cohort):
        _, output = cohort
        page = (output / "analyses.html").read_text()
        assert not re.search(r"(src|href)=[\"'](?!data:|#)", page)
        assert "Precentral gyrus was lower in ALS than in control" in page

    def test_a_second_run_computes_nothing(self, cohort, capsys):
        bids, output = cohort
        capsys.readouterr()
        assert group(bids, output) == 0
        told = capsys.readouterr().err
        count = re.findall(r"(\d+) of (\d+) steps \((\d+) from the cache\)", told)
        assert not count or count[-1][1] == count[-1][2]


def test_ones_own_analyses_take_the_place_of_the_profile(tmp_path):
    bids, output = make(tmp_path)
    (tmp_path / "own.toml").write_text(OWN)
    assert group(bids, output, "--config-file", tmp_path / "own.toml") == 0
    tests = registry(output)
    assert list(tests["analysis"]) == ["strength"]
    assert tests["model"].iat[0] == "alsfrs_r ~ gmv_precentral_both_tiv + site + age"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (OWN.replace("regression", "regresion"), "kind"),
        (OWN.replace("score:alsfrs_r", "score:alsfrs"), "alsfrs_r"),
        (OWN + '[clinical]\nprorated = true\n', "prorate"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_before_anything_runs(tmp_path, capsys, text, words):
    bids, output = make(tmp_path, 16)
    (tmp_path / "own.toml").write_text(text)
    assert group(bids, output, "--config-file", tmp_path / "own.toml") in (64, 65)
    assert words in capsys.readouterr().err
    assert not (output / "analyses.html").exists()


@pytest.mark.parametrize("profile", ["taiwan", "calsnic"])
def test_profiles_of_papers_run_on_a_cohort_that_has_little_of_what_they_ask(tmp_path, profile):
    bids, output = make(tmp_path, 24)
    assert group(bids, output, "--profile", profile) == 0
    tables = output / FOLDER / "tables"
    assert list(tables.glob(f"table-{profile}*-beside.html"))
    assert (tables / f"table-{profile}-recomputed.csv").is_file()


def test_the_settings_of_every_profile_can_be_run():
    for name in ("default", "taiwan", "calsnic"):
        analyses = tuple(read_profile(name)["analysis"])
        check_analyses(Settings(".", ".", "group", analysis=analyses))


COURSES = """
[[analysis]]
name = "courses"
kind = "longitudinal"
outcomes = ["gmv_precentral_both_tiv"]
covariates = ["age", "sex"]
time = "months"
[[analysis]]
name = "told"
kind = "classify"
outcomes = ["gmv_striatum_both_tiv", "gmv_thalamus_both_tiv"]
covariates = []
"""


def test_courses_and_classification_from_the_command_line(tmp_path):
    """Two sessions a year apart; people with ALS lose 6 % of the precentral gyrus in it."""
    bids, output = tmp_path / "bids", tmp_path / "out"
    bids.mkdir()
    cohort, rng = people(36), np.random.default_rng(8)
    for person in cohort:
        name, loss = person["participant_id"], 0.94 if person["group"] == "ALS" else 1.0
        values = true_measures(person, rng, EFFECT)
        for session, factor in (("ses-1", 1.0), ("ses-2", loss * rng.normal(1, 0.01))):
            later = {k: v * factor if "precentral" in k else v for k, v in values.items()}
            write_measures(output, name, later, session)
        folder = bids / name
        folder.mkdir()
        (folder / f"{name}_sessions.tsv").write_text("session_id\tmonths\nses-1\t0\nses-2\t12\n")
    write_participants(bids, cohort)
    (bids / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    (tmp_path / "own.toml").write_text(COURSES)
    assert group(bids, output, "--config-file", tmp_path / "own.toml") == 0
    tests = registry(output).set_index("analysis")
    course = tests.loc["courses"]
    assert course["status"] == "tested", course["reason"]
    lost = -0.06 * 100 * 0.85 * 24.0 / 1450 / 12  # % of TIV per month
    assert course["ci_low"] < lost < course["ci_high"] < 0
    assert (course["n_people"], course["n"]) == (36, 72)
    told = tests.loc["told"]
    assert told["status"] == "tested", told["reason"]
    assert 0.1 < told["estimate"] < 0.9  # nothing was put into these two
    assert "within sites: area" in told["notes"]
    assert list((output / FOLDER / "figures").glob("courses-courses-*.png"))


def test_of_three_groups_the_one_that_is_named_is_compared(tmp_path, capsys):
    bids, output = make(tmp_path, 48)
    lines = (bids / "participants.tsv").read_text().splitlines()
    mimics = [line.replace("\tALS\t", "\tmimic\t") if k % 4 == 1 else line
              for k, line in enumerate(lines)]  # fmt: skip
    (bids / "participants.tsv").write_text("\n".join(mimics) + "\n")
    (tmp_path / "own.toml").write_text('[group]\ncase = "mimic"\n')
    assert group(bids, output, "--config-file", tmp_path / "own.toml") == 0
    tests = registry(output)
    assert set(tests.loc[tests["analysis"] == "groups", "contrast"]) == {"mimic - control"}


def test_a_table_of_people_from_excel(tmp_path):
    bids, output = make(tmp_path)
    book = openpyxl.Workbook()
    rows = people(40)
    book.active.append(["code", "centre", "dx", "Alter", "sex"])
    for person in rows:
        cells = [person["participant_id"], person["site"], person["group"], float(person["age"]),
                 person["sex"]]  # fmt: skip
        book.active.append(cells)
    book.save(tmp_path / "people.xlsx")
    (tmp_path / "own.toml").write_text(
        f'[group]\nparticipants = "{tmp_path / "people.xlsx"}"\n[group.columns]\n'
        'participant_id = "code"\ngroup = "dx"\nsite = "centre"\nage = "Alter"\n'
    )
    plain = tmp_path / "plain"
    assert group(bids, plain, "-w", tmp_path / "w2") in (65, 66)  # nobody was measured there
    assert group(bids, output, "--config-file", tmp_path / "own.toml") == 0
    assert set(registry(output)["n_people"]) >= {40}
