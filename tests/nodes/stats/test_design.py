import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.design import (
    NotEstimableError,
    build_design,
    cell_means,
    estimable,
    make_design,
    parse_formula,
    sum_code,
)
from alsflow.nodes.stats.linear import group_difference

SITES = ("A", "B", "C")


def cohort(n=30, seed=0):
    """n people, groups in turn over three sites of different size, sex drawn."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "group": ["ALS", "control"] * (n // 2),
            "site": rng.choice(SITES, n, p=(0.5, 0.3, 0.2)),
            "age": rng.uniform(40, 75, n),
            "sex": rng.choice(["female", "male"], n),
            "y": rng.normal(10, 1, n),
        },
        index=[f"sub-{i:02d}" for i in range(n)],
    )


def design(table, covariates=("age", "sex"), site="site"):
    return build_design(
        table, group="group", case="ALS", reference="control", site=site, covariates=covariates,
        factors=("sex", "hand"),
    )  # fmt: skip


def test_sum_coding():
    np.testing.assert_array_equal(
        sum_code(["A", "C", "B"], ["A", "B", "C"]), [[1, 0], [-1, -1], [0, 1]]
    )


def test_a_planted_difference_comes_out_exactly():
    """Noise orthogonal to the design leaves every coefficient as it was planted."""
    table = cohort()
    model = design(table)
    noise = np.random.default_rng(1).normal(size=30)
    noise -= model.matrix @ np.linalg.lstsq(model.matrix, noise, rcond=None)[0]
    shift = {"A": 3.0, "B": -1.0, "C": 0.5}
    y = 20 - 1.5 * (table["group"] == "ALS") + table["site"].map(shift)
    y += 0.05 * (table["age"] - table["age"].mean()) + 2 * (table["sex"] == "male") + noise
    found = group_difference(y.to_numpy(), model)
    assert found.estimate == pytest.approx(-1.5, abs=1e-10)
    # unweighted over sites and sexes, at the mean age
    assert found.control_mean == pytest.approx(20 + 2.5 / 3 + 1, abs=1e-10)
    assert found.relative == pytest.approx(100 * -1.5 / found.control_mean)
    assert found.df == 30 - 6
    assert found.residual_sd == pytest.approx(np.sqrt((noise**2).sum() / 24))


def test_equal_to_the_formula_interface_with_another_coding():
    table = cohort(seed=3)
    ours = group_difference(table["y"].to_numpy(), design(table))
    fit = smf.ols("y ~ C(group, Treatment('control')) + C(site) + age + C(sex)", table).fit()
    name = "C(group, Treatment('control'))[T.ALS]"
    np.testing.assert_allclose(
        [ours.estimate, ours.se, ours.t, ours.p, ours.ci_low, ours.ci_high, ours.r2],
        [fit.params[name], fit.bse[name], fit.tvalues[name], fit.pvalues[name],
         *fit.conf_int().loc[name], fit.rsquared],
        rtol=1e-9,
    )  # fmt: skip


def test_order_of_people_does_not_matter():
    table = cohort(seed=4)
    shuffled = table.sample(frac=1, random_state=1)
    one = group_difference(table["y"].to_numpy(), design(table))
    other = group_difference(shuffled["y"].to_numpy(), design(shuffled))
    np.testing.assert_allclose(one.t, other.t, rtol=1e-12)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [("site", "A", "site is left out: all are of site A"),
     ("sex", "male", "sex is left out: all are of sex male")],
)  # fmt: skip
def test_a_factor_with_one_level_is_left_out_and_said(column, value, said):
    model = design(cohort().assign(**{column: value}))
    assert model.dropped == (said,)
    assert column not in model.formula


def test_constant_covariate_is_refused():
    with pytest.raises(NotEstimableError, match="age is 60 for all 30 people"):
        design(cohort().assign(age=60.0))


def test_empty_group_is_refused():
    table = cohort()
    with pytest.raises(NotEstimableError, match="nobody of the group control"):
        design(table[table["group"] == "ALS"])


def test_group_told_by_sites_alone_is_refused():
    table = cohort()
    table["site"] = np.where(table["group"] == "ALS", np.where(table["age"] > 55, "A", "B"), "C")
    with pytest.raises(NotEstimableError, match=r"ALS only at A, B; control only at C"):
        design(table)


def test_group_told_by_a_covariate_is_refused():
    table = cohort()
    table["sex"] = np.where(table["group"] == "ALS", "male", "female")
    with pytest.raises(NotEstimableError, match="cannot be told from sex"):
        design(table)


def test_a_covariate_constant_within_sites_is_refused_though_group_is_estimable():
    table = cohort()
    table["field"] = table["site"].map({"A": 1.5, "B": 3.0, "C": 3.0})
    with pytest.raises(NotEstimableError, match="site and field carry the same information"):
        design(table, ("age", "field"))


def test_degrees_of_freedom_at_the_edge():
    """Group, three sites, age and sex are six parameters: eleven people are just enough."""
    table = pd.DataFrame(
        {
            "group": ["ALS", "control"] * 5 + ["ALS"],
            "site": list("AABBCCAABBC"),
            "age": [50, 61, 47, 72, 66, 58, 43, 69, 55, 62, 49.0],
            "sex": ["female", "male", "male", "female", "male"] * 2 + ["female"],
        },
        index=[f"sub-{i}" for i in range(11)],
    )
    assert design(table).matrix.shape == (11, 6)
    with pytest.raises(NotEstimableError, match="10 people .* 6 parameters leave 4 residual"):
        design(table.iloc[:10])


def test_fewer_people_than_parameters_is_said_as_such():
    with pytest.raises(NotEstimableError, match="residual degrees of freedom"):
        design(cohort().iloc[:4].assign(site=list("ABCA")))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_estimability_does_not_depend_on_units(scale):
    matrix = np.array([[1, 1, 0.0], [1, 1, 1], [1, -1, 0], [1, -1, 1], [1, 1, 2]])
    matrix[:, 2] *= scale
    assert estimable(matrix, np.array([0, 2.0, 0]))
    confounded = np.column_stack([matrix, matrix[:, 1] * scale])
    assert not estimable(confounded, np.array([0, 2.0, 0, 0]))
    assert estimable(confounded, np.array([0, 0, 1.0, 0]))


def test_an_exact_fit_is_not_tested():
    table = cohort()
    with pytest.raises(NotEstimableError, match="no residual"):
        group_difference(np.where(table["group"] == "ALS", 1.0, 2.0), design(table))


def test_limits_hold_the_true_difference_as_often_as_they_promise():
    """Groups unbalanced over sites that differ by far more than the groups do."""
    rng = np.random.default_rng(7)
    table = cohort(n=40, seed=8)
    table["site"] = np.where(
        rng.uniform(size=40) < np.where(table["group"] == "ALS", 0.75, 0.3), "A", "B"
    )
    model = design(table)
    truth = -1.0 * (table["group"] == "ALS") + 20 * (table["site"] == "A") + 0.03 * table["age"]
    inside, g = [], []
    for _ in range(1500):
        found = group_difference(truth.to_numpy() + rng.normal(0, 2, 40), model)
        inside.append((found.ci_low <= -1 <= found.ci_high, found.g_low <= -0.5 <= found.g_high))
        g.append(found.g)
    np.testing.assert_allclose(np.mean(inside, axis=0), 0.95, atol=0.017)  # 3 standard errors
    assert np.mean(g) == pytest.approx(-0.5, abs=0.03)


@pytest.mark.parametrize(
    ("text", "terms"),
    [("group", ("group",)),
     ("", ()),
     ("1 + group+age", ("group", "age")),
     ("group*site + age", ("group", "site", "age", "group:site")),
     ("months : group + months + group", ("months", "group", "months:group")),
     ("a*b*c", ("a", "b", "c", "a:b", "a:c", "b:c", "a:b:c"))],
)  # fmt: skip
def test_formulas(text, terms):
    assert parse_formula(text) == terms


@pytest.mark.parametrize("text", ["y ~ group", "group - 1", "(a + b)^2", "group | site"])
def test_what_is_no_formula_is_refused(text):
    with pytest.raises(BadInputError, match="is not a model: write the terms with"):
        make_design(cohort(), text)


def test_an_interaction_needs_its_main_effects():
    with pytest.raises(BadInputError, match="group:site stands without site; add it"):
        make_design(cohort(), "group + group:site")


def test_columns_of_an_interaction_are_products_and_say_so():
    model = make_design(cohort(), "group * site + age * group", site="site")
    at = dict(zip(model.columns, model.matrix.T, strict=True))
    np.testing.assert_array_equal(at["group[ALS]:site[A]"], at["group[ALS]"] * at["site[A]"])
    np.testing.assert_allclose(at["age:group[ALS]"], at["age"] * at["group[ALS]"])
    assert at["age"].mean() == pytest.approx(0, abs=1e-12)
    assert model.formula == "group + site + age + group:site + age:group"
    assert model.meanings()["age:group[ALS]"].endswith(" times group: ALS = 1, control = -1")
    assert model.coding_name == "sum"


def test_declared_levels_keep_their_order_and_name_who_has_none():
    table = cohort()
    model = make_design(table, "group + site", levels={"site": ("C", "A", "B", "D")})
    assert model.columns[2:] == ("site[C]", "site[A]")
    assert model.dropped == ("site D is left out: nobody there has this measure",)
    with pytest.raises(BadInputError, match="sub-..: site is 'C', which is none of A, B"):
        make_design(table, "group + site", levels={"site": ("A", "B")})


def test_treatment_coding_on_request():
    table = cohort()
    model = make_design(table, "group + site", treatment={"site": "B"})
    assert model.columns == ("intercept", "group[ALS]", "site[A]", "site[C]")
    np.testing.assert_array_equal(model.matrix[:, 2], table["site"] == "A")
    assert model.coding_name == "sum and treatment"
    assert "B is 0 in every column" in model.coding[1]
    with pytest.raises(BadInputError, match="nobody is of site Z"):
        make_design(table, "group + site", treatment={"site": "Z"})


def test_sites_that_are_numbers_are_names():
    table = cohort().assign(site=lambda t: t["site"].map({"A": 10, "B": 2, "C": 3.0}))
    model = make_design(table, "group + site", site="site")
    assert model.variables["site"].levels == ("2", "3", "10")


def test_an_interaction_says_which_cells_are_empty():
    table = cohort()
    table.loc[(table["site"] == "C") & (table["group"] == "ALS"), "site"] = "A"
    with pytest.raises(NotEstimableError) as refusal:
        make_design(table, "group * site + age", group="group", site="site")
    assert str(refusal.value) == (
        "the interaction group:site cannot be estimated (rank 6 of 7): nobody of group ALS and "
        "site C; use the additive model, or leave out site C"
    )
    additive = make_design(table, "group + site + age", group="group", site="site")
    assert additive.notes == ("site C has only control and tells nothing of the groups",)
    with pytest.raises(NotEstimableError, match="nobody of group ALS and site C"):
        cell_means(table, ("group", "site"))


def test_an_interaction_does_not_mend_what_its_main_effects_lack():
    table = cohort()
    table["site"] = np.where(table["group"] == "ALS", "A", "B")
    with pytest.raises(NotEstimableError, match="no site scanned both groups"):
        make_design(table, "group * site", group="group", site="site")


def test_a_number_that_interacts_with_one_group_only_is_refused():
    """Duration is known of patients only and set to one value in controls."""
    table = cohort()
    table["months"] = np.where(table["group"] == "ALS", table["age"] / 2, 0.0)
    with pytest.raises(NotEstimableError, match="cannot be told from months and group:months"):
        make_design(table, "group * months", group="group")


def test_cells_as_columns_and_their_contrasts():
    table = cohort()
    model = cell_means(table, ("group", "site"), covariates=("age",))
    assert model.columns[:2] == ("group[ALS]:site[A]", "group[ALS]:site[B]")
    assert model.formula == "0 + group:site + age"
    np.testing.assert_array_equal(model.matrix[:, :6].sum(axis=1), 1)
    assert set(model.contrasts) == {"average", "group", "site", "group:site", "ALS - control"}
    np.testing.assert_allclose(
        model.contrast("ALS - control")[0], [1 / 3] * 3 + [-1 / 3] * 3 + [0]
    )
    np.testing.assert_allclose(model.contrast("group"), model.contrast("ALS - control"))


def test_three_groups_have_three_differences():
    table = cohort(n=45 * 2)
    table["group"] = ["ALS", "control", "PLS"] * 30
    model = make_design(table, "group + site", group="group", site="site")
    assert list(model.contrasts) == ["ALS - PLS", "ALS - control", "PLS - control"]
    np.testing.assert_allclose(model.contrast("ALS - PLS"), [[0, 1, -1, 0, 0]])


def test_the_group_by_site_model_of_two_groups_has_the_equally_weighted_difference():
    table = cohort()
    model = build_design(
        table, group="group", case="ALS", reference="control", site="site", interaction=True
    )
    cells = table.groupby(["group", "site"])["y"].mean().unstack()
    found = group_difference(table["y"].to_numpy(), model)
    assert found.estimate == pytest.approx((cells.loc["ALS"] - cells.loc["control"]).mean())
    assert found.control_mean == pytest.approx(cells.loc["control"].mean())
