"""Least squares, robust errors and contrasts against second implementations and known answers."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.design import NotEstimableError, cell_means, make_design
from alsflow.nodes.stats.regression import (
    added_variable,
    contrast_test,
    fit_by_site,
    fit_linear,
    fit_table,
    robust,
)

SITES = ("A", "B", "C")
SUM = "y ~ C(group, Sum) * C(site, Sum) + age"


def cohort(n=60, seed=0):
    """Groups unbalanced over three sites, y with another spread at each."""
    rng = np.random.default_rng(seed)
    group = rng.choice(["ALS", "HC"], n)
    site = np.where(
        rng.uniform(size=n) < np.where(group == "ALS", 0.6, 0.3), "A", rng.choice(["B", "C"], n)
    )
    age = rng.uniform(40, 75, n)
    spread = pd.Series(site).map({"A": 0.5, "B": 1.0, "C": 3.0}).to_numpy()
    y = 10 + (group == "ALS") - 2 * (site == "B") + 0.05 * age + spread * rng.normal(size=n)
    people = [f"sub-{i:02d}" for i in range(n)]
    return pd.DataFrame({"group": group, "site": site, "age": age, "y": y}, index=people)


def full(table, **options):
    return fit_table(table, "y", "group * site + age", centre=False, **options)


def test_equal_to_statsmodels_with_its_own_design():
    table = cohort()
    ours, theirs = full(table), smf.ols(SUM, table).fit()
    assert ours.design.columns == (
        "intercept", "group[ALS]", "site[A]", "site[B]", "age", "group[ALS]:site[A]",
        "group[ALS]:site[B]",
    )  # fmt: skip
    order = [0, 1, 2, 3, 6, 4, 5]  # statsmodels puts numbers last
    assert theirs.params.index[6] == "age"
    for kind in ("OLS", "HC1", "HC3"):
        fit = ours if kind == "OLS" else robust(ours, kind)
        other = theirs if kind == "OLS" else theirs.get_robustcov_results(kind, use_t=True)
        np.testing.assert_allclose(fit.se, np.asarray(other.bse)[order], rtol=1e-9)
        np.testing.assert_allclose(fit.p, np.asarray(other.pvalues)[order], rtol=1e-8)
        limits = fit.table()[["ci_low", "ci_high"]].to_numpy()
        np.testing.assert_allclose(limits, np.asarray(other.conf_int())[order], rtol=1e-8)
    assert ours.r2 == pytest.approx(theirs.rsquared)
    assert ours.aic == pytest.approx(theirs.aic + 2)  # R counts the variance, statsmodels not
    assert ours.bic == pytest.approx(theirs.bic + np.log(60))


def test_standardised_slope_is_that_of_standardised_columns():
    table = cohort()
    fit = fit_table(table, "y", "group + age")
    coded = pd.DataFrame({"g": np.where(table["group"] == "ALS", 1.0, -1.0), "age": table["age"]})
    z = (coded - coded.mean()) / coded.std()
    y = (table["y"] - table["y"].mean()) / table["y"].std()
    slopes = np.linalg.lstsq(np.column_stack([np.ones(60), z]), y)[0]
    np.testing.assert_allclose(fit.std_beta[1:], slopes[1:], rtol=1e-9)
    assert np.isnan(fit.std_beta[0])


def test_centring_moves_nothing_but_the_intercept():
    table = cohort()
    raw, centred = (fit_table(table, "y", "group + site + age", centre=c) for c in (False, True))
    np.testing.assert_allclose(raw.t[1:], centred.t[1:], rtol=1e-9)
    assert abs(raw.estimate[0] - centred.estimate[0]) > 1


def test_a_lone_person_of_a_site_leaves_hc3_of_the_groups_as_without_him():
    table = cohort()
    lone = pd.DataFrame({"group": "ALS", "site": "D", "age": 50.0, "y": 99.0}, index=["sub-99"])
    fits = [
        robust(fit_table(t, "y", "group + site + age", centre=False))
        for t in (table, pd.concat([table, lone]))
    ]
    tables = [fit.table().set_index("term").loc[["group", "age"]] for fit in fits]
    np.testing.assert_allclose(tables[1]["estimate"], tables[0]["estimate"], rtol=1e-9)
    np.testing.assert_allclose(tables[1]["se"], tables[0]["se"], rtol=1e-9)
    assert np.isnan(fits[1].se[fits[1].design.columns.index("site[A]")])


def test_a_contrast_of_several_rows_is_the_f_of_nested_models():
    table = cohort()
    fit, small = full(table), fit_table(table, "y", "group + site + age")
    rss = [float(np.sum(f.residuals**2)) for f in (small, fit)]
    f = (rss[0] - rss[1]) / 2 / (rss[1] / fit.df)
    found = contrast_test(fit, "group:site")
    assert (found.df, found.df_residual) == (2, fit.df)
    assert found.f == pytest.approx(f, rel=1e-9)
    assert np.isnan(found.t)


def test_a_comparison_by_name_is_the_difference_of_cell_means():
    table = cohort().drop(columns="age")
    fit = fit_table(table, "y", "group * site", group="group", site="site")
    means = table.groupby(["group", "site"])["y"].mean().unstack()
    at_b = contrast_test(fit, "group: ALS - HC | site: B")
    assert at_b.estimate == pytest.approx(means.loc["ALS", "B"] - means.loc["HC", "B"])
    overall = contrast_test(fit, "ALS - HC")
    assert overall.estimate == pytest.approx((means.loc["ALS"] - means.loc["HC"]).mean())
    assert overall.f == pytest.approx(overall.t**2)
    sites = contrast_test(fit, "site: A - C")
    assert sites.estimate == pytest.approx(means["A"].mean() - means["C"].mean())
    cells = fit_linear(table["y"], cell_means(table, ("group", "site")))
    np.testing.assert_allclose(cells.estimate, means.to_numpy().ravel(), rtol=1e-12)
    assert cells.r2 == pytest.approx(fit.r2)


@pytest.mark.parametrize(
    ("name", "said"),
    [("nonsense", "no contrast or term 'nonsense'; it has"),
     ("group: ALS - PLS", "group has no level 'PLS'"),
     ("cat: ALS - HC", "cat is no factor of the model group")],
)  # fmt: skip
def test_unknown_contrasts_are_refused(name, said):
    with pytest.raises(BadInputError, match=said):
        contrast_test(fit_table(cohort(), "y", "group + site"), name)


def test_contrast_rows_that_depend_on_each_other_are_refused():
    fit = fit_table(cohort(), "y", "group + site")
    row = fit.design.contrast("group")[0]
    with pytest.raises(BadInputError, match="depend on each other"):
        contrast_test(fit, np.stack([row, 2 * row]))


def test_variance_by_site_finds_the_planted_spreads():
    table = cohort(n=3000, seed=5)
    fit = fit_table(table, "y", "group + site + age", site="site")
    found, sd = fit_by_site(fit, "site")
    assert sd == pytest.approx({"A": 0.5, "B": 1.0, "C": 3.0}, rel=0.08)
    weights = 1 / table["site"].map(sd).to_numpy()
    x, y = fit.design.matrix * weights[:, None], fit.values * weights
    np.testing.assert_allclose(found.estimate, np.linalg.lstsq(x, y)[0], rtol=1e-8)
    np.testing.assert_allclose(found.covariance, np.linalg.inv(x.T @ x), rtol=1e-6)
    assert found.se[1] < fit.se[1]  # the quiet site counts more


def test_variance_by_site_needs_people():
    table = cohort()
    table.loc["sub-00", "site"] = "D"
    with pytest.raises(NotEstimableError, match="a variance per site .* at D: use HC3"):
        fit_by_site(fit_table(table, "y", "group + site"), "site")
    with pytest.raises(NotEstimableError, match="site is not in the model"):
        fit_by_site(fit_table(table.assign(site="A"), "y", "group"), "site")


def test_a_partial_regression_plot_has_the_slope_and_the_residuals_of_the_model():
    fit = fit_table(cohort(), "y", "group + site + age")
    x, y = added_variable(fit, "age")
    slope = float(x @ y / (x @ x))
    assert slope == pytest.approx(fit.estimate[fit.design.columns.index("age")])
    np.testing.assert_allclose(y - slope * x, fit.residuals, atol=1e-12)
    with pytest.raises(BadInputError, match="y ~ group .* has no column 'weight'"):
        added_variable(fit, "weight")


def test_missing_values_are_refused_by_name_or_left_out_by_name():
    table = cohort()
    table.loc["sub-07", "y"] = np.nan
    design = make_design(table, "group + site")
    with pytest.raises(BadInputError, match="sub-07: y is not known"):
        fit_linear(table["y"].to_numpy(), design, "y")
    table.loc["sub-08", "age"] = np.nan
    fit = fit_table(table, "y", "group + age")
    assert fit.n == 58
    assert fit.notes[-1] == "58 of 60 rows are complete; sub-07: y n/a; sub-08: age n/a"
    with pytest.raises(BadInputError, match="sub-08: age n/a"):
        make_design(table, "group + age")


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(BadInputError, match="no column weight; it has group, site, age, y"):
        fit_table(cohort(), "y", "group + weight")


def test_hc3_holds_its_level_where_least_squares_does_not():
    """Small group with the large spread, 400 cohorts without a difference."""
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"group": ["ALS"] * 12 + ["HC"] * 48})
    design = make_design(table, "group")
    spread = np.where(table["group"] == "ALS", 4.0, 1.0)
    p = []
    for _ in range(400):
        fit = fit_linear(spread * rng.normal(size=60), design)
        p.append((fit.p[1], robust(fit).p[1]))
    plain, hc3 = (np.array(p) < 0.05).mean(axis=0)
    assert plain > 0.15
    assert hc3 == pytest.approx(0.05, abs=0.035)
