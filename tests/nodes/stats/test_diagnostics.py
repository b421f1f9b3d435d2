"""Assumption checks: each sees its own fault, and stays quiet without one."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.stats.diagnostic import het_breuschpagan
from statsmodels.stats.outliers_influence import OLSInfluence, variance_inflation_factor

from alsflow.nodes.stats.diagnostics import (
    cell_variances,
    collinearity,
    constant_variance,
    diagnose,
    influence,
    normality,
    outlier,
    vif,
)
from alsflow.nodes.stats.regression import fit_table


def cohort(n=80, seed=0):
    rng = np.random.default_rng(seed)
    people = [f"sub-{i:02d}" for i in range(n)]
    return pd.DataFrame(
        {
            "group": rng.choice(["ALS", "HC"], n),
            "site": rng.choice(["A", "B", "C"], n),
            "age": rng.uniform(40, 75, n),
            "y": rng.normal(10, 1, n),
        },
        index=people,
    )


def fitted(table, terms="group + site + age", **options):
    return fit_table(table, "y", terms, **options)


def test_influence_equals_statsmodels():
    fit = fitted(cohort())
    theirs = OLSInfluence(sm.OLS(fit.values, fit.design.matrix).fit())
    ours = influence(fit)
    np.testing.assert_allclose(ours.hat, theirs.hat_matrix_diag, rtol=1e-10)
    np.testing.assert_allclose(ours.rstudent, theirs.resid_studentized_external, rtol=1e-9)
    np.testing.assert_allclose(ours.cook, theirs.cooks_distance[0], rtol=1e-9)
    chi2, p, *_ = het_breuschpagan(fit.residuals, fit.design.matrix)
    found = constant_variance(fit)
    np.testing.assert_allclose([found.statistic, found.p], [chi2, p], rtol=1e-9)


def test_vif_of_one_column_is_the_usual_one_and_does_not_hang_on_coding():
    table = cohort().assign(years=lambda t: t["age"] + np.random.default_rng(1).normal(0, 4, 80))
    fit = fitted(table, "group + site + age + years")
    found = vif(fit.design.matrix, fit.design.terms)
    at = fit.design.columns.index("age")
    assert found["age"][0] == pytest.approx(variance_inflation_factor(fit.design.matrix, at))
    assert found["age"][0] > 4
    other = fitted(table, "group + site + age + years", treatment={"site": "B"})
    again = vif(other.design.matrix, other.design.terms)
    assert again["site"] == (pytest.approx(found["site"][0]), 2)


def test_vif_of_the_same_thing_twice_is_infinite():
    x = np.random.default_rng(0).normal(size=30)
    matrix = np.column_stack([np.ones(30), x, 12 * x])
    found = vif(matrix, ["intercept", "age", "months"])
    assert found["age"] == (np.inf, 1)


def test_a_sound_model_is_not_doubted():
    checks = diagnose(fitted(cohort(seed=2))).checks
    assert [check.verdict for check in checks] == ["holds"] * len(checks)
    assert {check.test for check in checks} == {
        "Shapiro-Wilk W", "Brown-Forsythe F", "Breusch-Pagan chi2", "VIF",
        "studentised residual, Bonferroni",
    }  # fmt: skip


def test_skewed_residuals():
    table = cohort().assign(y=np.random.default_rng(1).exponential(size=80))
    found = normality(fitted(table))
    assert found.verdict == "doubtful"
    assert "rank test" in found.words


def test_spread_that_differs_between_cells():
    table = cohort(seed=3)
    table["y"] = np.where(table["site"] == "B", 10 + 5 * (table["y"] - 10), table["y"])
    found = cell_variances(fitted(table), ("group", "site"))
    assert (found.df, found.df_residual) == (5, 74)
    assert found.verdict == "doubtful"
    assert "HC3" in found.words


def test_spread_that_grows_with_age():
    table = cohort(n=80, seed=4)
    table["y"] = 10 + (table["age"] - 39) / 8 * (table["y"] - 10)
    found = constant_variance(fitted(table))
    assert (found.verdict, found.df) == ("doubtful", 4)


def test_terms_that_share_their_information():
    table = cohort().assign(years=lambda t: t["age"] + np.random.default_rng(1).normal(0, 1, 80))
    verdicts = {c.name: c.verdict for c in collinearity(fitted(table, "group + age + years"))}
    assert verdicts == {
        "group apart from the others": "holds",
        "age apart from the others": "doubtful",
        "years apart from the others": "doubtful",
    }


def test_an_outlier_is_named():
    table = cohort(seed=5)
    table.loc["sub-33", "y"] = 30.0
    fit = fitted(table)
    found = diagnose(fit)
    check = outlier(fit, found.influence)
    assert check.verdict == "doubtful"
    assert check.words.startswith("sub-33 lies")
    flagged = found.people().query("what == 'outlier'")
    assert list(flagged["person"]) == ["sub-33"]
    assert "sub-33" in set(found.people().query("what == 'influence'")["person"])


def test_a_row_of_a_side_is_named_with_its_person():
    table = cohort(n=40, seed=6)
    table = table.assign(person=[f"sub-{i // 2:02d}" for i in range(40)])
    table.index = [f"{p}_{'LR'[i % 2]}" for i, p in enumerate(table["person"])]
    table.loc["sub-07_R", "y"] = 40.0
    fit = fitted(table, people="person")
    assert "pseudoreplication" in fit.notes[0]
    flag = next(flag for flag in diagnose(fit).flags if flag.what == "outlier")
    assert (flag.row, flag.person) == ("sub-07_R", "sub-07")
    assert flag.words.startswith("sub-07 (row sub-07_R): studentised residual")


def test_the_one_person_of_a_site_has_leverage_and_no_residual():
    lone = pd.DataFrame({"group": "HC", "site": "D", "age": 50.0, "y": 9.0}, index=["sub-99"])
    fit = fitted(pd.concat([cohort(), lone]))
    found = influence(fit)
    assert found.hat[-1] == pytest.approx(1)
    assert np.isnan([found.rstudent[-1], found.cook[-1]]).all()
    flags = [flag for flag in diagnose(fit).flags if flag.person == "sub-99"]
    assert [flag.what for flag in flags] == ["leverage"]
    assert abs(outlier(fit, found).statistic) == np.nanmax(np.abs(found.rstudent))


@pytest.mark.parametrize(
    ("terms", "test"), [("age", "Brown-Forsythe F"), ("", "Breusch-Pagan chi2")]
)
def test_what_cannot_be_tested_says_why(terms, test):
    checks = {c.test: c for c in diagnose(fitted(cohort(), terms)).checks}
    assert checks[test].verdict == "n/a"
    assert checks[test].words.startswith("not tested: the model has no")


def test_tables_have_one_row_each():
    found = diagnose(fitted(cohort()))
    assert len(found.table()) == len(found.checks)
    assert list(found.people().columns)[:3] == ["row", "person", "what"]
