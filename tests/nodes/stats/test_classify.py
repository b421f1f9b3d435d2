"""Classification out of sample: nothing of the people judged may reach the model."""

import numpy as np
import pandas as pd
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats import classify as module
from alsflow.nodes.stats.classify import (
    Recipe,
    _area_of_pools,
    _pools,
    classify,
    stratified_parts,
)
from alsflow.nodes.stats.combat import fit_combat
from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.logistic import fit_logistic
from alsflow.nodes.stats.roc import roc, youden

KIND = {"group": "group", "case": "ALS", "reference": "HC"}
CELLS = {"A": (12, 9), "B": (8, 13), "C": (10, 10)}  # cases, controls
FEATURES = ["f0", "f1", "f2"]


def cohort(rng, effect=0.0, cells=CELLS, shift=0.0, features=3):
    """Features of noise, `effect` SD apart in cases, `shift` SD from site to site; age, sex."""
    site = np.repeat(list(cells), [sum(sizes) for sizes in cells.values()])
    case = np.concatenate([np.arange(a + b) < a for a, b in cells.values()])
    values = rng.normal(size=(len(site), features)) + effect * case[:, None]
    values += shift * np.array([list(cells).index(s) for s in site])[:, None]
    table = pd.DataFrame(values, columns=[f"f{k}" for k in range(features)])
    table.index = pd.Index([f"sub-{k:03d}" for k in range(len(site))])
    return table.assign(
        group=np.where(case, "ALS", "HC"),
        site=site,
        age=rng.normal(60, 10, len(site)),
        sex=rng.choice(["female", "male"], len(site)),
    )


def test_left_out_site_is_scored_by_the_others_alone():
    table = cohort(np.random.default_rng(1), effect=0.7)
    found = classify(table, FEATURES, **KIND)
    rest = table[table["site"] != "B"]
    by_hand = fit_logistic(rest[FEATURES], rest["group"] == "ALS")
    inside = found.predictions["site"] == "B"
    expected = by_hand.probability(table.loc[inside, FEATURES])
    np.testing.assert_allclose(found.predictions.loc[inside, "score"], expected, rtol=1e-9)
    assert (found.predictions["fold"] == found.predictions["site"]).all()
    assert (found.n, found.n_positive, found.n_negative) == (62, 30, 32)
    assert "ALS ~ f0 + f1 + f2; standardised, logistic regression, cut-off .5" in found.model


RECIPES = {
    "plain": Recipe(),
    "everything": Recipe("median", "none", ("age", "sex"), True, "lda", "youden"),
    "firth": Recipe(classifier="firth", standardise=False, cutoff="youden"),
    "combat": Recipe("median", "parametric", ("age", "sex"), True, "logit", "youden"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_people_who_are_judged_teach_nothing(name):
    """Spoil features and group of people of one fold: the others of that fold score the same."""
    recipe = RECIPES[name]
    scheme = "kfold" if name == "combat" else "leave_site_out"
    table = cohort(np.random.default_rng(2), effect=0.7, shift=1.0)
    if recipe.impute == "median":
        table.loc[["sub-003", "sub-040"], "f1"] = np.nan

    def run(rows):
        rng = np.random.default_rng(9)
        return classify(rows, FEATURES, **KIND, scheme=scheme, recipe=recipe, rng=rng).predictions

    one = run(table)
    fold = one["fold"] == one["fold"].iloc[0]
    spoilt = table.copy()
    victim = one.index[fold][0]
    spoilt.loc[victim, FEATURES] += 50
    spoilt.loc[victim, "age"] += 20
    others = fold & (one.index != victim)
    changed = run(spoilt)
    columns = ["score", "cutoff"]
    pd.testing.assert_frame_equal(one.loc[others, columns], changed.loc[others, columns])
    assert abs(changed.loc[victim, "score"] - one.loc[victim, "score"]) > 1e-3
    assert not np.allclose(one.loc[~fold, "score"], changed.loc[~fold, "score"])
    if scheme == "leave_site_out":  # there the folds do not hang on the groups
        swapped = table.copy()
        swapped.loc[fold, "group"] = table.loc[fold, "group"].map({"ALS": "HC", "HC": "ALS"})
        pd.testing.assert_frame_equal(one.loc[fold, columns], run(swapped).loc[fold, columns])


def test_noise_gives_an_area_of_one_half():
    rng, areas = np.random.default_rng(3), []
    lda, combat = Recipe(classifier="lda"), Recipe(classifier="lda", combat="parametric")
    for _ in range(80):
        table = cohort(rng, shift=1.0)
        found = [
            classify(table, FEATURES, **KIND, recipe=lda),
            classify(table, FEATURES, **KIND, scheme="kfold", recipe=combat, rng=rng),
        ]
        areas.append([result.within_site.auc for result in found])
    error = np.std(areas, axis=0) / np.sqrt(80)
    assert error.max() < 0.015
    assert (np.abs(np.mean(areas, axis=0) - 0.5) < 3 * error).all()


def test_combat_that_was_told_the_groups_leaks_them():
    """Why a classifier's ComBat is not: noise alone, harmonised beforehand, is told apart."""
    cells = {"A": (14, 2), "B": (2, 16), "C": (10, 3), "D": (3, 12)}
    rng, lda, areas = np.random.default_rng(4), Recipe(classifier="lda"), []
    names = [f"f{k}" for k in range(20)]
    for _ in range(25):
        table = cohort(rng, cells=cells, features=20)
        fit = fit_combat(table[names], table["site"], table[["group"]])
        told = table.copy()
        told[names] = fit.transform(table[names], table["site"], table[["group"]])
        combat = Recipe(classifier="lda", combat="parametric")
        leaky = classify(told, names, **KIND, scheme="kfold", recipe=lda, rng=rng)
        sound = classify(table, names, **KIND, scheme="kfold", recipe=combat, rng=rng)
        areas.append([leaky.roc.auc, sound.roc.auc])
    error = np.std(areas, axis=0) / np.sqrt(25)
    assert np.mean(areas, axis=0)[0] > 0.5 + 4 * error[0]
    assert np.mean(areas, axis=0)[1] < 0.5 + 3 * error[1]


def test_a_signal_is_found():
    found = classify(cohort(np.random.default_rng(4), effect=1.0), FEATURES, **KIND)
    assert found.roc.auc > 0.8
    assert found.within_site.auc > 0.8
    assert found.accuracy.balanced > 0.7
    assert found.roc.ci_low < found.roc.auc < found.roc.ci_high
    assert [s.site for s in found.sites] == ["A", "B", "C"]
    assert all(s.roc is not None for s in found.sites)
    assert sum(s.accuracy.accuracy.count for s in found.sites) == found.accuracy.accuracy.count


def test_scanners_alone_make_no_area_within_sites():
    """Uneven groups and a shift between scanners: k-fold is fooled, pairs of one site are not."""
    cells = {"A": (90, 15), "B": (15, 90)}
    table = cohort(np.random.default_rng(5), cells=cells, shift=3.0)
    rng = np.random.default_rng(6)
    found = classify(table, FEATURES, **KIND, scheme="kfold", rng=rng, permutations=99)
    assert found.roc.auc > 0.75
    assert found.within_site.auc < 0.6
    assert found.within_site.ci_low < 0.5 < found.within_site.ci_high
    assert found.p_permutation > 0.05  # permuted within site


def test_permutation_p_is_even_where_nothing_is_there():
    rng, lda = np.random.default_rng(7), Recipe(classifier="lda")
    p = [
        classify(cohort(rng), FEATURES, **KIND, recipe=lda, rng=rng, permutations=19).p_permutation
        for _ in range(80)
    ]
    assert min(p) >= 1 / 20
    assert np.mean(p) == pytest.approx(0.525, abs=0.1)  # even on 1/20 .. 1; MC error .032
    assert 0.02 < np.mean(np.array(p) <= 0.1) < 0.22


def test_the_area_that_is_permuted_is_that_within_sites():
    table = cohort(np.random.default_rng(18), 0.7, {**CELLS, "D": (1, 6), "E": (0, 5)})
    found = classify(table, FEATURES, **KIND)
    rows = found.predictions
    pools = _pools(rows)
    assert [set(rows["site"].iloc[pool]) for pool in pools] == [{"A"}, {"B"}, {"C"}]
    same = _area_of_pools(rows["score"].to_numpy(), rows["positive"].to_numpy(), pools)
    assert same == pytest.approx(found.within_site.auc, rel=1e-12)
    lonely = rows[rows["site"].isin(["D", "E"])]
    assert [len(pool) for pool in _pools(lonely)] == [12]


def test_groups_are_permuted_within_site_and_fold(monkeypatch):
    seen, fit = [], module._out_of_fold

    def spy(prepared, truth, recipe):
        seen.append(truth)
        return fit(prepared, truth, recipe)

    monkeypatch.setattr(module, "_out_of_fold", spy)
    table, rng = cohort(np.random.default_rng(19), 0.5), np.random.default_rng(1)
    found = classify(table, FEATURES, **KIND, scheme="kfold", rng=rng, permutations=9).predictions
    cells = [found["site"].to_numpy(), found["fold"].to_numpy()]
    counts = [pd.Series(truth).groupby(cells).sum() for truth in seen]
    assert len(seen) == 10
    assert all((count == counts[0]).all() for count in counts)
    assert len({truth.tobytes() for truth in seen}) == 10


def test_the_seed_decides():
    table = cohort(np.random.default_rng(8), effect=0.8)

    def run(seed):
        rng = np.random.default_rng(seed)
        return classify(table, FEATURES, **KIND, scheme="kfold", rng=rng, permutations=49)

    one, same, other = run(1), run(1), run(2)
    pd.testing.assert_frame_equal(one.predictions, same.predictions)
    assert one.p_permutation == same.p_permutation
    assert not one.predictions["fold"].equals(other.predictions["fold"])
    assert one.p_permutation <= 0.04


def test_folds_hold_their_share_of_group_and_site():
    rng = np.random.default_rng(10)
    truth, sites = rng.random(83) < 0.4, rng.choice(["A", "B", "C"], 83)
    parts = stratified_parts(truth, sites, 5, rng)
    counts = pd.crosstab(parts, truth)
    assert np.ptp(counts.to_numpy(), axis=0).max() <= 1
    assert np.ptp(pd.crosstab(parts, [truth, sites]).to_numpy(), axis=0).max() <= 1
    assert counts.index[0] == "fold 1"


def test_cutoff_of_youden_comes_from_the_training_rows():
    table = cohort(np.random.default_rng(11), effect=0.7)
    found = classify(table, FEATURES, **KIND, recipe=Recipe(cutoff="youden")).predictions
    rest = table[table["site"] != "C"]
    fit = fit_logistic(rest[FEATURES], rest["group"] == "ALS")
    curve = roc(fit.probability(rest), rest["group"] == "ALS", direction="high")
    cutoff = found.loc[found["site"] == "C", "cutoff"]
    np.testing.assert_allclose(cutoff, youden(curve).value, rtol=1e-9)
    assert (found["called"] == (found["score"] >= found["cutoff"])).all()
    assert (classify(table, FEATURES, **KIND).predictions["cutoff"] == 0.5).all()


def test_a_covariate_that_makes_the_difference_can_be_removed():
    rng = np.random.default_rng(12)
    table = cohort(rng)
    table["age"] += 15 * (table["group"] == "ALS")
    for name in FEATURES:
        table[name] = 0.2 * table["age"] + rng.normal(size=len(table))
    plain = classify(table, FEATURES, **KIND)
    removed = classify(table, FEATURES, **KIND, recipe=Recipe(remove=("age",)))
    assert plain.roc.auc > 0.75
    assert removed.roc.auc < 0.65
    assert "age regressed out" in removed.model
    assert "what of the group goes with it" in removed.notes[-1]


def test_a_site_of_one_group_counts_in_the_pooled_figures_alone():
    table = cohort(np.random.default_rng(13), 0.7, {**CELLS, "D": (0, 6)})
    found = classify(table, FEATURES, **KIND)
    site = found.sites[-1]
    assert (site.site, site.n_positive, site.n_negative, site.roc) == ("D", 0, 6, None)
    assert "0 positive people" in site.reason
    assert site.accuracy.specificity.total == 6
    assert found.within_site.left_out == ("D",)
    assert found.roc.n == 68


def test_gaps_are_excluded_by_name_or_filled_in_the_fold():
    table = cohort(np.random.default_rng(14), 0.7)
    table.loc["sub-002", ["f0", "f2"]] = np.nan
    table.loc["sub-050", "site"] = None
    found = classify(table, FEATURES, **KIND)
    assert found.excluded == {"sub-002": "f0, f2 not known", "sub-050": "site not known"}
    assert (found.n, found.n_imputed) == (60, 0)
    filled = classify(table, FEATURES, **KIND, recipe=Recipe(impute="median"))
    assert (filled.n, filled.n_imputed) == (61, 2)
    assert filled.model.startswith("ALS ~ f0 + f1 + f2; gaps filled with the median")
    assert "sub-002" in filled.predictions.index


def test_separated_training_rows_are_refused_or_firths():
    table = cohort(np.random.default_rng(15)).assign(
        mark=lambda t: np.where(t["group"] == "ALS", 1, -1) + 0.01 * t["f0"]
    )
    with pytest.raises(NotEstimableError, match="without A: mark tells the two groups apart"):
        classify(table, ["mark"], **KIND)
    for classifier in ("firth", "lda"):
        found = classify(table, ["mark"], **KIND, recipe=Recipe(classifier=classifier))
        assert found.roc.auc == 1
        assert found.roc.ci_method == "Clopper-Pearson, 30 pairs"


def test_refusals():
    table = cohort(np.random.default_rng(16), 0.7)
    rng = np.random.default_rng(1)
    combat = Recipe(combat="parametric")
    with pytest.raises(BadInputError, match="ComBat cannot harmonise a site that it has not"):
        classify(table, FEATURES, **KIND, recipe=combat)
    with pytest.raises(NotEstimableError, match="needs two sites and there is 1"):
        classify(table[table["site"] == "A"], FEATURES, **KIND)
    with pytest.raises(NotEstimableError, match="smaller of which has 30 people"):
        classify(table, FEATURES, **KIND, scheme="kfold", folds=31, rng=rng)
    with pytest.raises(BadInputError, match="seeded generator"):
        classify(table, FEATURES, **KIND, scheme="kfold")
    with pytest.raises(BadInputError, match="seeded generator"):
        classify(table, FEATURES, **KIND, permutations=9)
    with pytest.raises(BadInputError, match="choose from leave_site_out, kfold"):
        classify(table, FEATURES, **KIND, scheme="bootstrap")
    with pytest.raises(BadInputError, match="classifier is 'svm'; choose from logit, firth, lda"):
        Recipe(classifier="svm")
    with pytest.raises(BadInputError, match="sex is not a column of numbers"):
        classify(table, [*FEATURES, "sex"], **KIND)
    with pytest.raises(BadInputError, match="no column f9"):
        classify(table, [*FEATURES, "f9"], **KIND)
    with pytest.raises(BadInputError, match="f1 of sub-005 is infinite"):
        classify(
            table.assign(f1=table["f1"].mask(table.index == "sub-005", np.inf)), FEATURES, **KIND
        )
    with pytest.raises(BadInputError, match="sub-000 stands in the table more than once"):
        classify(pd.concat([table, table.iloc[:1]]), FEATURES, **KIND)
    with pytest.raises(NotEstimableError, match="nobody of the group HC has all"):
        classify(table[table["group"] == "ALS"], FEATURES, **KIND)
    one_each = cohort(rng, cells={"A": (12, 0), "B": (0, 12)})
    with pytest.raises(NotEstimableError, match=r"\(ALS only at A; HC only at B\)"):
        classify(one_each, FEATURES, **KIND)
    one_each = cohort(rng, cells={"A": (12, 9), "B": (12, 0)})
    with pytest.raises(NotEstimableError, match="without A only one group is left"):
        classify(one_each, FEATURES, **KIND)
    flat = table.assign(f0=np.where(table["site"] == "A", table["f0"], 1.0))
    with pytest.raises(NotEstimableError, match="fold A: f0 does not vary in the training rows"):
        classify(flat, FEATURES, **KIND)
    with pytest.raises(BadInputError, match="group is what is to be found"):
        classify(table, FEATURES, **KIND, recipe=Recipe(remove=("group",)))
    rare = table.assign(sex=np.where(table["site"] == "A", "other", "female"))
    with pytest.raises(NotEstimableError, match="sex of sub-000 is other, which nobody has"):
        classify(rare, FEATURES, **KIND, recipe=Recipe(remove=("sex",)))


def test_one_centre_goes_with_folds():
    table = cohort(np.random.default_rng(17), 0.8).drop(columns="site")
    rng = np.random.default_rng(1)
    found = classify(table, FEATURES, **KIND, site="", scheme="kfold", rng=rng)
    assert found.within_site is None
    assert found.roc.auc > 0.6
