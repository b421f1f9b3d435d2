"""Adjusted means against means that can be worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.emm import marginal_means, means_table, pairwise
from alsflow.nodes.stats.regression import fit_table, robust


def cohort(n=90, seed=2):
    rng = np.random.default_rng(seed)
    group = rng.choice(["ALS", "HC"], n)
    often = (group == "ALS") & (rng.uniform(size=n) < 0.6)
    site = np.where(often, "A", rng.choice(list("ABC"), n))
    sex = rng.choice(["F", "M"], n, p=(0.3, 0.7))
    y = rng.normal(size=n) + 3 * (site == "A") + (group == "ALS") * (site == "B")
    return pd.DataFrame(
        {"group": group, "site": site, "sex": sex, "age": rng.uniform(40, 75, n), "y": y}
    )


def test_means_of_the_full_model_are_means_of_cells():
    table = cohort()
    cells = table.groupby(["group", "site"])["y"].mean().unstack()
    shares = table["site"].value_counts(normalize=True).sort_index()
    fit = fit_table(table, "y", "group * site")
    equal = {m.level: m for m in marginal_means(fit, "group")}
    proportional = {m.level: m for m in marginal_means(fit, "group", "proportional")}
    for level in ("ALS", "HC"):
        assert equal[level].mean == pytest.approx(cells.loc[level].mean())
        assert proportional[level].mean == pytest.approx((cells.loc[level] * shares).sum())
    n = table.groupby(["group", "site"]).size().unstack()
    se = fit.sigma * np.sqrt((1 / n.loc["ALS"]).sum()) / 3
    assert equal["ALS"].se == pytest.approx(se)
    assert equal["ALS"].df == fit.df
    (pair,) = pairwise(fit, "group")
    assert pair.name == "ALS - HC"
    assert pair.estimate == pytest.approx(equal["ALS"].mean - equal["HC"].mean)


def test_two_other_factors_are_weighted_by_their_joint_numbers():
    table = cohort(seed=3)
    fit = fit_table(table, "y", "group + site + sex")
    grid = table.groupby(["site", "sex"]).size() / len(table)
    expected = 0.0
    for (site, sex), share in grid.items():
        row = pd.DataFrame({"group": ["ALS"], "site": [site], "sex": [sex]})
        expected += share * float((fit.design.encode(row) @ fit.estimate)[0])
    found = marginal_means(fit, "group", "proportional")[0]
    assert found.mean == pytest.approx(expected, rel=1e-12)
    assert found.mean != pytest.approx(marginal_means(fit, "group")[0].mean, rel=1e-3)


def test_numbers_stand_at_their_mean_however_they_are_coded():
    table = cohort()
    fits = [fit_table(table, "y", "group + site + age", centre=c) for c in (True, False)]
    fits.append(fit_table(table, "y", "group + site + age", treatment={"group": "HC"}))
    means = [[(m.mean, m.se) for m in marginal_means(fit, "group")] for fit in fits]
    np.testing.assert_allclose(means[1], means[0], rtol=1e-9)
    np.testing.assert_allclose(means[2], means[0], rtol=1e-9)


def test_at_one_level_of_another_factor():
    table = cohort()
    fit = fit_table(table, "y", "group * site")
    (pair,) = pairwise(fit, "group", at={"site": "B"})
    cells = table.groupby(["group", "site"])["y"].mean()
    assert pair.estimate == pytest.approx(cells["ALS", "B"] - cells["HC", "B"])
    assert [p.name for p in pairwise(fit, "site")] == ["A - B", "A - C", "B - C"]


def test_standard_errors_follow_the_covariance_of_the_fit():
    fit = fit_table(cohort(), "y", "group + site")
    plain, sandwich = pairwise(fit, "group")[0], pairwise(robust(fit), "group")[0]
    assert plain.estimate == pytest.approx(sandwich.estimate)
    assert plain.se != pytest.approx(sandwich.se, rel=1e-3)


def test_means_as_a_table_and_their_refusals():
    fit = fit_table(cohort(), "y", "group + site + age")
    table = means_table(fit, "site")
    assert list(table["level"]) == ["A", "B", "C"]
    assert (table["ci_low"] < table["mean"]).all()
    with pytest.raises(BadInputError, match="'age' is no factor of the model group"):
        marginal_means(fit, "age")
    with pytest.raises(BadInputError, match="'equal' or 'proportional', not 'cells'"):
        marginal_means(fit, "group", "cells")
