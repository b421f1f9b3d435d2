"""Two sides of a person: what each model makes of them."""

import numpy as np
import pandas as pd
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.regression import fit_table
from alsflow.nodes.stats.side_level import analyse_sides, person_rows

CLINICAL = ("age", "sex")


def sides(people=24, slope=0.0, shared=0.8, seed=0):
    """Score and measure of both sides; `shared` of the variance of each is the person's."""
    rng = np.random.default_rng(seed)

    def both():
        own, single = rng.standard_normal(people), rng.standard_normal((people, 2))
        return np.sqrt(shared) * own[:, None] + np.sqrt(1 - shared) * single

    measure, noise = both(), both()
    return pd.DataFrame(
        {
            "participant_id": np.repeat([f"sub-{k:02d}" for k in range(people)], 2),
            "hemisphere": np.tile(["left", "right"], people),
            "age": np.repeat(rng.normal(60, 9, people), 2),
            "sex": np.repeat(rng.permutation(["F", "M"] * (people // 2)), 2),
            "fa": measure.ravel(),
            "score": 30 + slope * measure.ravel() + noise.ravel(),
        }
    )


def test_five_answers_to_one_question():
    found = analyse_sides(sides(slope=1.0), "score", "fa", CLINICAL)
    assert [one.kind for one in found.answers] == ["mixed", "cr2", "person", "hc1", "paper"]
    assert [one.pseudoreplicated for one in found.answers] == [False] * 4 + [True]
    assert all(one.status == "ok" for one in found.answers)
    assert [(one.n_rows, one.n_people) for one in found.answers] == [
        (48, 24), (48, 24), (24, 24), (48, 24), (48, 24),
    ]  # fmt: skip
    assert "including its pseudoreplication" in found.answer("paper").notes[0]
    assert found.answer("mixed").model == "score ~ fa + age + sex + (1 | person)"
    assert 0.5 < found.shared < 0.95
    slopes = {one.kind: one.slope for one in found.answers}
    assert slopes["paper"].estimate == slopes["cr2"].estimate == slopes["hc1"].estimate
    assert slopes["cr2"].df < slopes["paper"].df == 44
    for one in found.answers[:2]:
        assert one.slope.ci_low < 1.0 < one.slope.ci_high


def test_the_person_level_model_takes_sums_or_means():
    rows = sides(slope=1.0)
    whole = rows.groupby("participant_id").agg(
        score=("score", "mean"), fa=("fa", "mean"), age=("age", "first"), sex=("sex", "first")
    )
    expected = fit_table(whole, "score", ("fa", *CLINICAL))
    mean, total = (
        analyse_sides(rows, "score", "fa", CLINICAL, total=total).answer("person").slope
        for total in (False, True)
    )
    np.testing.assert_allclose(mean.estimate, expected.estimate[1], rtol=1e-10)
    np.testing.assert_allclose(total.estimate, 2 * mean.estimate, rtol=1e-10)
    np.testing.assert_allclose([mean.p, total.p], expected.p[1], rtol=1e-8)


def test_a_person_with_one_side_counts_where_he_can():
    rows = sides().drop(index=5)
    rows.loc[8, "score"] = np.nan
    found = analyse_sides(rows, "score", "fa", CLINICAL)
    assert found.left_out == {"sub-04": "score n/a"}
    assert (found.answer("mixed").n_rows, found.answer("mixed").n_people) == (46, 24)
    assert found.answer("person").n_people == 22


def test_a_score_of_the_person_on_both_rows_has_no_side_level_answer():
    """FVC copied to both sides: the mixed model refuses, the person-level model answers."""
    rows = sides()
    rows["score"] = rows.groupby("participant_id")["score"].transform("first")
    found = analyse_sides(rows, "score", "fa", CLINICAL, total=False)
    mixed = found.answer("mixed")
    assert mixed.status == "n/a"
    assert "lie exactly on the model" in mixed.reason
    assert np.isnan(mixed.slope.p)
    assert found.mixed is None
    assert found.answer("person").status == "ok"


def test_rows_of_one_side_only_are_one_person_each():
    rows = sides()[::2]
    found = analyse_sides(rows, "score", "fa", CLINICAL)
    paper = found.answer("paper")
    assert not paper.pseudoreplicated
    assert not any("pseudo" in note for note in paper.notes)
    assert "none of the 24 people has two rows" in found.answer("mixed").reason
    assert found.answer("person").reason == "nobody has both sides"


def test_refusals():
    rows = sides()
    with pytest.raises(BadInputError, match="sub-00 has 3 rows in the table of sides"):
        analyse_sides(pd.concat([rows, rows[:1]]), "score", "fa")
    with pytest.raises(BadInputError, match="no column participant_id"):
        analyse_sides(rows.drop(columns="participant_id"), "score", "fa")
    with pytest.raises(NotEstimableError, match="nobody has score, fa together"):
        analyse_sides(rows.assign(score=np.nan), "score", "fa")
    with pytest.raises(NotEstimableError, match="sub-00 has another hemisphere on each side"):
        person_rows(rows, "score", ("fa", "hemisphere"), "participant_id", total=True)


def test_taking_sides_for_people_finds_what_is_not_there():
    """A measure and a score that are the person's own: the paper's test errs, the sound do not."""
    runs = 100
    found = [analyse_sides(sides(seed=seed), "score", "fa") for seed in range(runs)]
    rate = {
        kind: np.mean([one.answer(kind).slope.p < 0.05 for one in found])
        for kind in ("paper", "cr2", "person", "mixed")
    }
    error = 3 * np.sqrt(0.05 * 0.95 / runs)
    assert rate["paper"] > 0.05 + error
    assert all(abs(rate[kind] - 0.05) < error for kind in ("cr2", "person", "mixed"))


@pytest.mark.realdata
def test_every_value_of_the_published_side_models(shared_data):
    """Paper mode is R's ``lm`` on rows of sides, person mode that on rows of people."""
    folder = shared_data / "stats_reference"
    text = pd.read_csv(folder / "r_reference_long.csv", dtype=str)
    text["value"] = pd.to_numeric(text["value"], errors="coerce")
    table = pd.read_csv(folder / "taiwan_sides.csv")
    table = table[table["group"] == "ALS"]
    theirs = text.set_index(["analysis", "outcome", "term", "stat"])["value"].sort_index()
    compared = 0
    for outcome in dict.fromkeys(text.loc[text["analysis"] == "A4_T3_side", "outcome"]):
        score, metric = outcome.split("~")
        found = analyse_sides(
            table, score, metric, ("age", "sex", "disease_duration"), centre=False
        )
        paper, person = found.answer("paper"), found.answer("person").slope
        ours = vars(paper.slope) | {"t": paper.slope.statistic, "std_beta": paper.std_beta}
        for stat in ("estimate", "se", "t", "p", "ci_low", "ci_high", "std_beta"):
            expected = theirs["A4_T3_side", outcome, metric, stat]
            np.testing.assert_allclose(ours[stat], expected, rtol=1e-6)
            compared += 1
        f = theirs["A4_T3_side_type3", outcome, metric, "F"]
        np.testing.assert_allclose(paper.slope.statistic**2, f, rtol=1e-6)
        whole = theirs["A4_T3_subject", outcome, metric]
        # R took the means of both sides from the table, where they have six digits
        assert abs(person.estimate - whole["estimate"]) < 1e-3 * whole["se"]
        np.testing.assert_allclose(person.se, whole["se"], rtol=1e-4)
    assert compared == 36 * 7
