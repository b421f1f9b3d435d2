"""Sums of squares against statsmodels, cell means and known answers."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.stats.anova import anova_lm

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.anova import anova, anova_table, eta2_limits
from alsflow.nodes.stats.design import cell_contrasts, cell_means
from alsflow.nodes.stats.regression import contrast_test, fit_linear, fit_table, robust


def cohort(n=80, seed=1):
    rng = np.random.default_rng(seed)
    group = rng.choice(["ALS", "HC"], n, p=(0.6, 0.4))
    return pd.DataFrame(
        {
            "group": group,
            "site": np.where(rng.uniform(size=n) < 0.4, group, rng.choice(["A", "B"], n)),
            "sex": rng.choice(["F", "M"], n),
            "age": rng.uniform(40, 75, n),
            "y": rng.normal(size=n) + 0.5 * (group == "ALS"),
        }
    ).assign(site=lambda t: t["site"].replace({"ALS": "A", "HC": "C"}))


@pytest.fixture(scope="module")
def crossed():
    """Group by sex by age: every cell is there."""
    return cohort()


FORMULA = "y ~ C(group, Sum) * C(sex, Sum) * age"


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_three_way_model_equals_statsmodels(crossed, kind):
    """With an interaction of all three, age centred in both."""
    centred = crossed.assign(age=crossed["age"] - crossed["age"].mean())
    theirs = anova_lm(smf.ols(FORMULA, centred).fit(), typ=kind)
    theirs.index = [
        name.replace("C(group, Sum)", "group").replace("C(sex, Sum)", "sex")
        for name in theirs.index
    ]
    found = anova(fit_table(crossed, "y", "group * sex * age"), kind)
    assert len(found) == (8 if kind == 3 else 7)
    for test in found:
        name = "Intercept" if test.term == "intercept" else test.term
        if kind == 1 and name not in ("group", "sex"):
            continue  # there statsmodels has numbers last, here interactions
        row = theirs.loc[name]
        f, p = row["F"], row["PR(>F)"]
        np.testing.assert_allclose([test.df, test.f, test.p], [row["df"], f, p], rtol=1e-8)


def test_type_one_adds_up_to_the_model():
    table = cohort(seed=4)
    fit = fit_table(table, "y", "age + group + sex + group:sex")
    listed = anova_table(fit, 1)
    total = np.sum((table["y"] - table["y"].mean()) ** 2)
    assert listed["ss"].sum() == pytest.approx(total)
    assert list(listed["term"]) == ["age", "group", "sex", "group:sex", "residuals"]
    assert listed["df"].sum() == len(table) - 1


def test_type_two_of_a_main_effect_leaves_its_interactions_out():
    table = cohort(seed=5)
    fit = fit_table(table, "y", "group * sex + age")
    main = {t.term: t for t in anova(fit, 2)}
    small, large = (fit_table(table, "y", terms) for terms in ("sex + age", "sex + age + group"))
    ss = float(np.sum(small.residuals**2) - np.sum(large.residuals**2))
    assert main["group"].ss == pytest.approx(ss)
    assert main["group"].f == pytest.approx(ss / fit.sigma**2)  # error of the whole model


def test_types_two_and_three_are_one_without_interactions():
    fit = fit_table(cohort(), "y", "group + sex + age")
    third = {test.term: test.f for test in anova(fit, 3)}
    for test in anova(fit, 2):
        assert test.f == pytest.approx(third[test.term])


@pytest.mark.parametrize("term", ["group", "sex", "group:sex"])
def test_type_three_is_the_contrast_of_cell_means(term):
    table = cohort(seed=6)
    third = {test.term: test for test in anova(fit_table(table, "y", "group * sex"), 3)}
    cells = fit_linear(table["y"].to_numpy(), cell_means(table, ("group", "sex")))
    found = contrast_test(cells, term)
    assert found.f == pytest.approx(third[term].f, rel=1e-9)
    assert found.df == third[term].df


def test_contrasts_of_cells():
    weights = cell_contrasts([2, 3])
    np.testing.assert_allclose(weights[0,], [[1 / 3] * 3 + [-1 / 3] * 3])
    np.testing.assert_allclose(weights[1,] * 2, [[1, -1, 0, 1, -1, 0], [0, 1, -1, 0, 1, -1]])
    np.testing.assert_allclose(weights[0, 1], [[1, -1, 0, -1, 1, 0], [0, 1, -1, 0, -1, 1]])
    np.testing.assert_allclose(weights[()], np.full((1, 6), 1 / 6))


def test_refusals_of_sums_of_squares():
    table = cohort()
    coded = fit_table(table, "y", "group * sex", treatment={"sex": "F"})
    with pytest.raises(BadInputError, match="type III .* need sum coding, but sex has another"):
        anova(coded, 3)
    raw = fit_table(table, "y", "group * age", centre=False)
    with pytest.raises(BadInputError, match="need a centred age, as group:age is in the model"):
        anova(raw, 3)
    assert anova(fit_table(table, "y", "group + age", centre=False), 3)
    fit = fit_table(table, "y", "group + sex")
    with pytest.raises(BadInputError, match="belong to least squares, not to HC3"):
        anova(robust(fit), 3)
    with pytest.raises(BadInputError, match="type 1, 2 and 3, not 4"):
        anova(fit, 4)
    cells = fit_linear(table["y"].to_numpy(), cell_means(table, ("group", "sex")))
    with pytest.raises(BadInputError, match="cell means is tested by its contrasts"):
        anova(cells, 3)


@pytest.mark.parametrize("f", [0.01, 1.0, 4.0, 30.0, 900.0])
@pytest.mark.parametrize("df", [(1, 20), (4, 94)])
def test_limits_of_partial_eta2(f, df):
    low, high = eta2_limits(f, *df)
    assert 0 <= low <= f * df[0] / (f * df[0] + df[1]) or f < 1
    for share, probability in ((low, 0.95), (high, 0.05)):
        ncp = share * df[1] / (1 - share)
        reached = stats.ncf.cdf(f, *df, ncp) if share else stats.f.cdf(f, *df)
        if share:
            assert reached == pytest.approx(probability, abs=1e-8)
        else:
            assert reached <= probability


def test_zero_lies_in_the_limits_exactly_where_p_is_above_five_per_cent():
    edge = stats.f.isf(0.05, 2, 40)
    assert eta2_limits(edge * 1.001, 2, 40)[0] > 0
    assert eta2_limits(edge * 0.999, 2, 40)[0] == 0
