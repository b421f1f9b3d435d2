"""ComBat: what it takes out, what it leaves, and whom it refuses."""

import numpy as np
import pandas as pd
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.combat import fit_combat
from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.harmonised import combat_sensitivity

METHODS = ("parametric", "nonparametric", "mean")


def cohort(per_site=30, measures=40, seed=7, effect=0.0):
    """Three sites that differ in level and scale; B has few cases, C many; age matters."""
    rng = np.random.default_rng(seed)
    n = 3 * per_site
    site = np.repeat(["A", "B", "C"], per_site)
    share = {"A": 0.5, "B": 0.2, "C": 0.8}
    case = np.concatenate([np.arange(per_site) < share[s] * per_site for s in "ABC"])
    age = rng.normal(60, 10, n)
    level = {"A": 0.0, "B": 2.0, "C": -1.0}
    scale = {"A": 1.0, "B": 2.0, "C": 0.5}
    shift = {s: level[s] + 0.3 * rng.normal(size=measures) for s in "ABC"}
    noise = rng.normal(size=(n, measures))
    values = np.stack([
        10 + shift[s] + scale[s] * e + 0.03 * a + effect * c
        for s, e, a, c in zip(site, noise, age, case, strict=True)
    ])  # fmt: skip
    people = pd.Index([f"sub-{k:03d}" for k in range(n)])
    table = pd.DataFrame(values, people, [f"m{k}" for k in range(measures)])
    about = pd.DataFrame({"group": np.where(case, "ALS", "HC"), "age": age}, people)
    return table, pd.Series(site, people), about


@pytest.mark.parametrize("method", METHODS)
def test_levels_and_scales_of_sites_are_taken_out(method):
    table, site, about = cohort()
    clean = fit_combat(table, site, about, method=method).transform(table, site, about)
    sites = np.stack([site == s for s in "ABC"], axis=1)
    design = np.column_stack([sites, about["age"], about["group"] == "ALS"]).astype(float)

    def levels_and_scales(values):
        beta = np.linalg.lstsq(design, values, rcond=None)[0]
        residual = values - design @ beta
        return beta[:3].std(axis=0).mean(), [residual[rows].std(0).mean() for rows in sites.T]

    before, after = (levels_and_scales(values.to_numpy()) for values in (table, clean))
    # "mean" trusts a site's mean of one measure as it would a single person, and so leaves more.
    assert after[0] < (0.3 if method == "mean" else 0.15) * before[0]
    assert before[1][1] > 3 * before[1][2]
    if method == "mean":
        np.testing.assert_allclose(after[1], before[1], rtol=1e-9)
    else:
        assert max(after[1]) < 1.15 * min(after[1])


def test_what_is_preserved_stays_and_what_is_not_may_go():
    """The sites hold 24 % of the variance of being a case: this part of the effect goes."""
    table, site, about = cohort(effect=1.0)
    case = about["group"] == "ALS"

    def difference(values):
        return float((values[case].mean() - values[~case].mean()).mean())

    kept = fit_combat(table, site, about, method="mean").transform(table, site, about)
    lost = fit_combat(table, site, method="mean").transform(table, site)
    assert difference(kept) == pytest.approx(1.0, abs=0.15)
    assert difference(kept) - difference(lost) == pytest.approx(0.24, abs=0.06)


@pytest.mark.parametrize("method", METHODS)
def test_a_person_is_transformed_by_what_others_taught(method):
    """Fitted without some people, the result for the others does not know them."""
    table, site, about = cohort()
    inside = np.arange(90) % 3 > 0
    fit = fit_combat(table[inside], site[inside], about[inside], method=method)
    one = fit.transform(table[~inside], site[~inside], about[~inside])
    changed = table[~inside].copy()
    changed.iloc[0] += 100
    other = fit.transform(changed, site[~inside], about[~inside])
    pd.testing.assert_frame_equal(one.iloc[1:], other.iloc[1:])
    whole = fit_combat(table, site, about, method=method).transform(table, site, about)
    assert np.corrcoef(whole[~inside].to_numpy().ravel(), one.to_numpy().ravel())[0, 1] > 0.98


def test_order_of_people_and_sites_does_not_matter():
    table, site, about = cohort()
    order = np.random.default_rng(1).permutation(90)
    names = {"A": "z", "B": "y", "C": "x"}
    one = fit_combat(table, site, about).transform(table, site, about)
    mixed = table.iloc[order]
    renamed = site.map(names)
    other = fit_combat(mixed, renamed, about).transform(mixed, renamed, about)
    pd.testing.assert_frame_equal(one.iloc[order], other, rtol=1e-9)


def test_an_unknown_value_stays_alone_unknown():
    table, site, about = cohort()
    fit = fit_combat(table, site, about)
    gap = table.copy()
    gap.iloc[3, 2] = np.nan
    found = fit.transform(gap, site, about)
    expected = fit.transform(table, site, about)
    assert np.isnan(found.iloc[3, 2])
    expected.iloc[3, 2] = np.nan
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("method", METHODS)
def test_copies_of_one_measure_do_not_break_the_prior(method):
    table, site, about = cohort(measures=1)
    twins = pd.concat([table["m0"], 1000 * table["m0"]], axis=1, keys=["m", "thousandfold"])
    clean = fit_combat(twins, site, about, method=method).transform(twins, site, about)
    assert np.isfinite(clean.to_numpy()).all()
    np.testing.assert_allclose(clean["thousandfold"], 1000 * clean["m"], rtol=1e-8)


def test_a_site_never_seen_is_refused():
    table, site, about = cohort()
    fit = fit_combat(table[site != "C"], site, about)
    with pytest.raises(NotEstimableError, match="sub-060 is of site C, which ComBat has not"):
        fit.transform(table, site, about)
    assert fit.sites == ("A", "B")


def test_edge_of_too_few_people_per_site():
    table, site, about = cohort()
    three = (site != "C") | np.isin(np.arange(90), [60, 61, 89])
    fit = fit_combat(table[three], site, about)
    assert fit.counts == (30, 30, 3)
    assert fit.notes == ("site C has 3 people; ComBat wants 10",)
    two = three & (table.index != "sub-089")
    with pytest.raises(NotEstimableError, match=r"needs 3 people of each site; fewer at C \(2\)"):
        fit_combat(table[two], site, about)


def test_confounding_is_refused_with_the_sites():
    table, site, about = cohort()
    about["group"] = np.where(site == "A", "HC", "ALS")
    with pytest.raises(
        NotEstimableError, match=r"group cannot be told from site \(ALS only at B, C; HC only at A"
    ):
        fit_combat(table, site, about)
    about["group"] = np.where((site == "A") & (np.arange(90) > 0), "HC", "ALS")
    fit_combat(table, site, about)  # one patient at A is enough to tell, if badly


def test_refusals_name_measure_person_and_site():
    table, site, about = cohort()
    gap = table.copy()
    gap.loc["sub-007", "m4"] = np.nan
    with pytest.raises(NotEstimableError, match=r"m4 of sub-007 is not known \(1 such people\)"):
        fit_combat(gap, site, about)
    flat = table.copy()
    flat.loc[site == "B", "m5"] = 2.5
    with pytest.raises(NotEstimableError, match="m5 is the same for all 30 people of site B"):
        fit_combat(flat, site, about)
    with pytest.raises(NotEstimableError, match="m0 is told by site and preserved covariates"):
        fit_combat(table.assign(m0=2 * about["age"]), site, about)
    with pytest.raises(NotEstimableError, match="age and months carry the same information"):
        fit_combat(table, site, about.assign(months=12 * about["age"]))
    with pytest.raises(NotEstimableError, match="all people are of site A"):
        fit_combat(table[site == "A"], site, about)
    with pytest.raises(NotEstimableError, match="was given 1; it needs 2"):
        fit_combat(table[["m0"]], site, about)
    with pytest.raises(BadInputError, match="sub-000 has no site"):
        fit_combat(table, site[1:].rename("site"), about)
    with pytest.raises(BadInputError, match="sub-000 stands in the table more than once"):
        fit_combat(pd.concat([table, table[:1]]), site, about)
    with pytest.raises(BadInputError, match="the site of sub-000 is not known"):
        fit_combat(table, site.where(site.index != "sub-000"), about)
    with pytest.raises(BadInputError, match="group of sub-002 is not known"):
        fit_combat(table, site, about.assign(group=about["group"].mask(about.index == "sub-002")))
    with pytest.raises(BadInputError, match="choose from parametric, nonparametric, mean"):
        fit_combat(table, site, about, method="gam")
    with pytest.raises(BadInputError, match="lacks m1"):
        fit_combat(table, site, about).transform(table.drop(columns="m1"), site, about)
    with pytest.raises(NotEstimableError, match="leave 4 degrees of freedom"):
        fit_combat(table.iloc[[0, 1, 29, 30, 31, 59, 60, 61, 89]], site, about)


def test_site_factor_and_combat_side_by_side():
    table, site, about = cohort(effect=0.6)
    whole = table.join(about).assign(site=site)
    whole.loc["sub-010", "m3"] = np.nan
    rows = combat_sensitivity(
        whole, list(table), group="group", case="ALS", reference="HC", covariates=["age"]
    )
    assert [row.measure for row in rows] == list(table)
    for row in rows:
        assert row.model.endswith("~ group + site + age")
        assert (row.n_excluded, row.site_factor.n, row.combat.n) == (1, 89, 89)
        assert row.site_factor.df == row.combat.df == 84
    plain, harmonised = (
        np.mean([getattr(row, kind).estimate for row in rows])
        for kind in ("site_factor", "combat")
    )
    assert plain == pytest.approx(0.6, abs=0.15)
    assert harmonised == pytest.approx(0.6, abs=0.15)
    complete = whole.dropna()
    kept = complete[["group", "age"]]
    clean = fit_combat(complete[list(table)], site, kept).transform(complete, site, kept)
    again = combat_sensitivity(
        clean.join(complete[["group", "age", "site"]]), list(table), group="group", case="ALS",
        reference="HC", covariates=["age"],
    )  # fmt: skip
    for row, other in zip(rows, again, strict=True):
        assert row.combat.p == pytest.approx(other.site_factor.p)
        assert row.combat.p != pytest.approx(row.site_factor.p)
