"""Slopes by group against closed forms, known truth and the slopes of single people."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.longitudinal import LongitudinalModel, analyse_slopes
from alsflow.nodes.stats.regression import fit_table

MODEL = LongitudinalModel("fa", group="group", reference="HC")
TRUE = {"ALS": -0.30, "HC": -0.05}


def visits(people=40, planned=3, seed=0, spread=0.15, noise=0.3, groups=("ALS", "HC")):
    """Every person seen at 0, 4, 8 ... months; slopes vary between people."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(people), planned)
    group = np.array(groups)[np.arange(people) % len(groups)]
    slope = np.array([TRUE.get(label, 0.1) for label in group])
    slope = slope + spread * rng.standard_normal(people)
    months = np.tile(4.0 * np.arange(planned), people)
    level = 40 + 2 * rng.standard_normal(people) - 1.0 * (group == "ALS")
    return pd.DataFrame(
        {
            "participant_id": [f"sub-{k:02d}" for k in who],
            "group": group[who],
            "site": np.array(["North", "South", "East"])[rng.integers(0, 3, people)][who],
            "age": rng.normal(60, 9, people)[who],
            "months": months,
            "fa": level[who] + slope[who] * months + noise * rng.standard_normal(len(who)),
        }
    )


def test_complete_visits_give_the_two_stage_answer_exactly():
    """Everybody at the same times, no covariates: both analyses compare the same mean slopes."""
    found = analyse_slopes(visits(), MODEL)
    (interaction,), (plain,) = found.interactions, found.two_stage.differences
    assert not found.mixed.singular
    np.testing.assert_allclose(interaction.estimate, plain.estimate, rtol=1e-7)
    np.testing.assert_allclose(interaction.se, plain.se, rtol=1e-5)
    np.testing.assert_allclose([interaction.df, plain.df], 38, rtol=1e-4)
    np.testing.assert_allclose(found.interaction_test.p, interaction.p, rtol=1e-6)
    assert interaction.name == "ALS - HC per unit of months"
    assert found.formula == "fa ~ months + group + months:group + (months | participant_id)"


def test_known_slopes_are_covered():
    """Limits of 40 cohorts with drop-out and visits off their day hold the truth in about 95 %."""
    hits = []
    for seed in range(40):
        rng = np.random.default_rng(1000 + seed)
        table = visits(people=30, seed=seed)
        late = rng.uniform(0, 1, len(table)) * (table["months"] > 0)
        table["fa"] += table["group"].map(TRUE) * late
        table["months"] += late
        lost = (table["group"] == "ALS") & (table["months"] > 6) & (rng.random(len(table)) < 0.4)
        (one,) = analyse_slopes(table[~lost], MODEL).interactions
        hits.append(one.ci_low < TRUE["ALS"] - TRUE["HC"] < one.ci_high)
    assert 34 <= np.sum(hits) <= 40


def test_coding_of_site_does_not_move_the_slopes():
    table = visits()
    model = replace(MODEL, site="site", covariates=("age",))
    summed = analyse_slopes(table, model)
    treated = analyse_slopes(table, replace(model, treatment={"site": "East"}))
    for one, two in zip(summed.slopes, treated.slopes, strict=True):
        assert one.name == two.name
        np.testing.assert_allclose([one.estimate, one.se], [two.estimate, two.se], rtol=1e-6)
        np.testing.assert_allclose(one.df, two.df, rtol=1e-4)
    assert [one.name for one in summed.slopes] == ["months in HC", "months in ALS"]
    difference = summed.slopes[1].estimate - summed.slopes[0].estimate
    np.testing.assert_allclose(summed.interactions[0].estimate, difference, rtol=1e-9)


def test_three_groups_have_two_interactions_and_one_test():
    found = analyse_slopes(visits(45, groups=("ALS", "HC", "mimic")), MODEL)
    assert [one.name[:12] for one in found.interactions] == ["ALS - HC per", "mimic - HC p"]
    assert found.interaction_test.df1 == 2
    assert found.interaction_test.p < min(one.p for one in found.interactions) * 10
    np.testing.assert_allclose(found.interaction_test.df2, 42, rtol=1e-3)
    assert found.n_by_group == {"ALS": 15, "HC": 15, "mimic": 15}


def test_one_slope_without_groups():
    table = visits()
    found = analyse_slopes(table[table["group"] == "ALS"], LongitudinalModel("fa"))
    (slope,) = found.slopes
    np.testing.assert_allclose(slope.estimate, found.people["slope"].mean(), rtol=1e-6)
    np.testing.assert_allclose(slope.df, 19, rtol=1e-4)
    assert found.interactions == found.baseline == ()
    assert found.interaction_test is None
    (mean,) = found.two_stage.differences
    np.testing.assert_allclose([mean.estimate, mean.se], [slope.estimate, slope.se], rtol=1e-5)


def test_predicted_slopes_lie_between_their_own_and_the_groups():
    found = analyse_slopes(visits(noise=0.5), MODEL)
    people = found.people
    group = dict(zip(("HC", "ALS"), (one.estimate for one in found.slopes), strict=True))
    of_group = visits().drop_duplicates("participant_id").set_index("participant_id")["group"]
    own = people["slope"] - of_group.map(group)
    kept = people["shrunken"] - of_group.map(group)
    assert kept.std() < own.std()
    assert np.corrcoef(own, kept)[0, 1] > 0.9


def test_the_two_stage_model_is_that_of_its_slopes():
    table = visits()
    found = analyse_slopes(table, replace(MODEL, covariates=("age",)))
    first = table.drop_duplicates("participant_id").set_index("participant_id")
    fit = fit_table(first.assign(slope=found.people["slope"]), "slope", ("group", "age"),
                    treatment={"group": "HC"})  # fmt: skip
    (one,) = found.two_stage.differences
    np.testing.assert_allclose([one.estimate, one.se], [fit.estimate[1], fit.se[1]], rtol=1e-10)
    assert found.two_stage.hc3[0].estimate == pytest.approx(one.estimate, rel=1e-12)
    assert found.two_stage.hc3[0].se != pytest.approx(one.se, rel=1e-6)


def once_each(table, people):
    """Only the first visit of the people given."""
    return table[~table["participant_id"].isin(people) | (table["months"] == 0)]


def test_people_seen_once_count_for_levels_only():
    table = once_each(visits(), ["sub-00", "sub-01", "sub-02"])
    found = analyse_slopes(table, MODEL)
    assert (found.n_people, found.n_once, found.two_stage.n) == (40, 3, 37)
    assert found.people.loc["sub-00", "reason"] == "one visit"
    assert np.isfinite(found.people["shrunken"]).all()


def test_too_few_returns_refuse_a_random_slope_or_say_so():
    table = once_each(visits(people=12), [f"sub-{k:02d}" for k in range(8)])
    with pytest.raises(NotEstimableError, match="random slope of months needs at least 5 people"):
        analyse_slopes(table, MODEL)
    found = analyse_slopes(table, replace(MODEL, random="auto"))
    assert found.formula.endswith("(1 | participant_id)")
    assert "one slope for all people of a group: a random slope of months" in found.notes[0]
    assert found.mixed.random.columns == ("intercept",)
    with pytest.raises(BadInputError, match="random is slope, intercept or auto, not 'both'"):
        analyse_slopes(table, replace(MODEL, random="both"))


def test_nobody_returned():
    table = visits()
    with pytest.raises(NotEstimableError, match="months is 0 for all"):
        analyse_slopes(table[table["months"] == 0], MODEL)


def test_visits_that_contradict_each_other_are_refused():
    table = visits()
    with pytest.raises(BadInputError, match="sub-00 has two rows at 4 months"):
        analyse_slopes(pd.concat([table, table[1:2]]), MODEL)
    changed = table.copy()
    changed.loc[1, "group"] = "HC"
    with pytest.raises(BadInputError, match="sub-00 changes group between visits"):
        analyse_slopes(changed, MODEL)
    with pytest.raises(BadInputError, match="no column participant_id"):
        analyse_slopes(table.drop(columns="participant_id"), MODEL)


def test_visits_without_a_value_fall_out_by_name():
    table = visits()
    table.loc[[3, 4], "fa"] = np.nan
    found = analyse_slopes(table, MODEL)
    assert found.left_out == {"sub-01, row 1": "fa n/a", "sub-01, row 2": "fa n/a"}
    assert found.n_visits == len(table) - 2
    assert found.n_once == 1


def test_age_that_grows_with_the_visits_is_noted():
    table = visits()
    table["age"] += table["months"] / 12
    found = analyse_slopes(table, replace(MODEL, covariates=("age",)))
    assert "age changes between the visits" in found.notes[0]


def test_confounded_site_and_group_are_refused():
    table = visits()
    table["site"] = np.where(table["group"] == "ALS", "North", "South")
    with pytest.raises(NotEstimableError, match="group and site cannot be told apart"):
        analyse_slopes(table, replace(MODEL, site="site"))
