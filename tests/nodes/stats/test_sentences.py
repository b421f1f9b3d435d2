"""Sentences say what the tables say: the same numbers, the direction of the estimate, no more."""

import re

import numpy as np
import pandas as pd
import pytest
from reference_cohorts import analyses as profile
from reference_cohorts import calsnic
from small_study import GROUPS, PRE, study

from alsflow.nodes.stats.analyses import run_analyses
from alsflow.nodes.stats.plan import Analysis
from alsflow.nodes.stats.printed import PSEUDO, analysis_table, demographics_table
from alsflow.nodes.stats.registry import blank_row
from alsflow.nodes.stats.sentences import MOST, paragraph, paragraphs, result_sentence
from alsflow.workflows.measures import catalogue

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
KINDS = ("groups", "ranks", "sides", "slopes", "together", "area", "course")
FORBIDDEN = re.compile(r"\bmatched\b|\btrend|no difference|marginal|not differ", re.IGNORECASE)


def analysis_called(name):
    return next(one for one in study()[0] if one.name == name)


def precentral():
    tests = study()[1].tests
    return tests[(tests["analysis"] == "groups") & (tests["outcome"] == PRE)]


def told(name):
    return paragraph(study()[1].tests, analysis_called(name), GROUPS)


@pytest.mark.parametrize("name", KINDS)
def test_numbers_of_sentences_are_those_of_the_table(name):
    analysis, tests = analysis_called(name), study()[1].tests
    rows = tests[tests["analysis"] == name].reset_index(drop=True)
    printed = analysis_table(tests, analysis, GROUPS)
    results = [sentence for sentence in told(name).sentences if sentence.outcome]
    assert results, "nothing to compare"
    for sentence in results:
        mine = (rows["outcome"] == sentence.outcome) & (rows["predictor"] == sentence.predictor)
        [at] = rows.index[mine]
        cells = " ".join(printed.rows[at].cells) + " 95"  # 95 % limits stand in the heading
        assert len(NUMBER.findall(sentence.text)) >= 3
        assert set(NUMBER.findall(sentence.text)) <= set(NUMBER.findall(cells)), sentence.text


def test_numbers_of_demographics_are_those_of_the_table():
    analyses, registry = study()
    tests = registry.tests.assign(
        p=np.where(registry.tests["outcome"] == "age", 0.0123, registry.tests["p"])
    )
    table = demographics_table(registry.tables["people_demographics"], analyses[0], GROUPS, {})
    [age] = [row for row in table.rows if row.cells[0] == "age"]
    [sentence] = [s for s in paragraph(tests, analyses[0], GROUPS).sentences if s.outcome]
    known = {*NUMBER.findall(" ".join(age.cells)), "0.012"}
    assert set(NUMBER.findall(sentence.text)) <= known


@pytest.mark.parametrize(
    ("kind", "estimate", "words"),
    [
        ("groups", -0.1, "was lower in ALS than in control"),
        ("groups", 0.1, "was higher in ALS than in control"),
        ("groups", 0.0, "was the same in ALS as in control"),
        ("regression", -2.0, "was lower with higher thalamus"),
        ("regression", 2.0, "was higher with higher thalamus"),
        ("correlation", -0.4, "were negatively correlated"),
        ("correlation", 0.4, "were positively correlated"),
    ],
)
def test_the_direction_is_the_sign_of_the_estimate(kind, estimate, words):
    row = blank_row(
        kind=kind, status="tested", label="precentral gyrus", predictor_label="thalamus",
        estimate=estimate, effect_size=-estimate, effect="g", p=0.01, q=0.02, statistic="t",
        value=2.0, n=20, n_people=20,
    )  # fmt: skip
    analysis = Analysis("x", kind, test="pearson" if kind == "correlation" else "glm")
    assert words in result_sentence(row, analysis, GROUPS)


def test_ranks_take_the_direction_from_their_effect():
    [sentence] = [s for s in told("ranks").sentences if s.outcome]
    assert sentence.text.startswith("Precentral gyrus was lower in ALS than in control")
    assert "U = " in sentence.text


def test_nothing_is_said_of_what_was_not_tested():
    row = blank_row(kind="groups", status="n/a", label="x", estimate=1.0)
    with pytest.raises(ValueError, match="was not tested"):
        result_sentence(row, Analysis("x", "groups"), GROUPS)
    paragraph_ = told("groups")
    assert "gmv_striatum_both_tiv" not in [s.outcome for s in paragraph_.sentences]
    assert "Not tested: striatum, as nobody of the group control has this measure." in (
        paragraph_.text
    )


def test_who_is_missing_and_why():
    pattern = r"2 people could not be used for thalamus \(2: (no thalamus \()?no T1w image\)+\."
    assert re.search(pattern, told("groups").text)
    assert "1 person could not be used for ALSFRS-R with thalamus (1: no thalamus" in (
        told("slopes").text
    )


def test_results_short_of_the_limit_are_counted_not_told():
    text = told("groups").text
    assert "2 of 3 tests did not reach q < 0.05 (false discovery rate)." in text
    assert "total intracranial" not in text.lower()


def test_pseudoreplication_is_called_by_its_name():
    text = told("sides").text
    assert text.count(PSEUDO) == 2
    assert "96 rows of 48 people" in text
    assert "The sound model stands under slopes." in text
    assert PSEUDO not in told("slopes").text


def test_words_that_are_never_used():
    analyses, registry = study()
    for one in paragraphs(registry.tests, analyses, GROUPS):
        assert not FORBIDDEN.search(one.text), one.text
    quiet = registry.tests.assign(p=0.06, q=0.07)
    for one in paragraphs(quiet, analyses, GROUPS):
        assert not FORBIDDEN.search(one.text), one.text
        assert not [s for s in one.sentences if s.outcome]


def test_long_lists_are_cut_and_counted():
    tests = precentral()
    many = pd.concat([tests.assign(outcome=f"m{k}", label=f"m{k}") for k in range(MOST + 3)])
    one = paragraph(many, analysis_called("groups"), GROUPS)
    assert len([s for s in one.sentences if s.outcome]) == MOST
    assert "3 more reached q < 0.05" in one.text


def test_directions_that_a_paper_s_text_gets_wrong(shared_data):
    """The text of the study says that FA was increased; its table, and the data, that it fell."""
    found = calsnic(shared_data / "stats_reference")
    declared = [one for one in profile("calsnic") if one.name in ("c2", "c2_sound")]
    tests = run_analyses(found, declared, catalogue(), strict=False).tests
    words = {"fa": "lower", "md": "higher", "rd": "higher"}
    for analysis in declared:
        text = paragraph(tests, analysis, ("ALS", "HC")).text
        for name, way in words.items():
            assert f"{name.upper()}, white matter of the MRS voxel was {way} in ALS" in text
        assert "14 people could not be used for tNAA/tCr (14: no tNAA/tCr)." in text
    assert paragraph(tests, declared[0], ("ALS", "HC")).text.count("q =") == 0


def test_names_keep_their_capitals():
    row = precentral().iloc[0]
    sentence = result_sentence({**row, "label": "tNAA/tCr"}, analysis_called("groups"), GROUPS)
    assert sentence.startswith("tNAA/tCr was lower")
