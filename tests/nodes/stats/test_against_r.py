"""Agreement with R 4.2.2 (lm, contr.sum) on the reference tables."""

import numpy as np
import pandas as pd
import pytest

from alsflow.nodes.stats.design import NotEstimableError, build_design
from alsflow.nodes.stats.effects import benjamini_hochberg
from alsflow.nodes.stats.linear import group_difference
from alsflow.nodes.stats.participants import Columns, clean_people
from alsflow.nodes.stats.tables import parse_table

pytestmark = pytest.mark.realdata
OUTCOMES = ("fa", "md", "rd", "ad", "tnaa_cr", "tnaa_cho", "fc_roi")
COVARIATES = ("age", "sex", "education")


@pytest.fixture(scope="module")
def folder(shared_data):
    return shared_data / "stats_reference"


@pytest.fixture(scope="module")
def reference(folder):
    table = pd.read_csv(folder / "r_reference_long.csv")
    table["value"] = pd.to_numeric(table["value"], errors="coerce")
    return table.set_index(["analysis", "outcome", "term", "stat"])["value"].sort_index()


def cohort(path, covariates=COVARIATES, outcome="fa", site="site"):
    """Complete rows of one reference table, read as participants.tsv would be."""
    text = path.read_text().replace(",", "\t")
    raw = parse_table(text, path.name)
    people = clean_people(raw, Columns(reference="HC", site=site, covariates=covariates), {})
    assert (people.case, people.reference) == ("ALS", "HC")
    rows = people.table.assign(y=pd.to_numeric(raw[outcome], errors="coerce").to_numpy())
    rows = rows.drop(index=list(people.reasons))
    return rows[rows["y"].notna()], people


def difference(rows, covariates=COVARIATES, site="site", factors=("sex",)):
    design = build_design(
        rows, group="group", case="ALS", reference="HC", site=site, covariates=covariates,
        factors=factors,
    )  # fmt: skip
    return group_difference(rows["y"].to_numpy(), design), design


def agree(found, expected, rtol=1e-9):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=0)


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize(("model", "covariates"), [("additive", ()), ("ancova", COVARIATES)])
def test_additive_models_with_site(folder, reference, outcome, model, covariates):
    rows, _ = cohort(folder / "calsnic_subjects.csv", covariates, outcome)
    found, _ = difference(rows, covariates)
    lm = reference[f"B2_{model}_sumcoding", outcome]
    means = reference[f"B3_emm_{model}_equal", outcome]
    group = lm["group1"]
    agree(found.estimate, 2 * group["estimate"])  # group1 is half the difference
    agree(found.se, 2 * group["se"])
    agree(found.t, group["t"])
    agree(found.p, group["p"], rtol=1e-7)
    agree([found.ci_low, found.ci_high], [2 * group["ci_low"], 2 * group["ci_high"]])
    agree(found.residual_sd, lm["model"]["sigma"])
    agree(found.r2, lm["model"]["r2"], rtol=1e-8)
    agree([found.n, found.df], [lm["model"]["n"], lm["model"]["df2"]])
    agree(found.control_mean, means["HC"]["emmean"])
    agree(found.case_mean, means["ALS"]["emmean"])


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_hedges_g_without_covariates_is_that_of_two_groups(folder, reference, outcome):
    rows, _ = cohort(folder / "calsnic_subjects.csv", (), outcome)
    found, _ = difference(rows, (), site="")
    hedges = reference["B1_groupdiff_hedges", outcome, "ALS-HC"]
    np.testing.assert_allclose(found.g, hedges["g"], rtol=1e-6, atol=1e-9)
    if outcome != "ad":  # there d is 0 and the optimiser of effectsize stops early
        agree([found.g_low, found.g_high], [hedges["ci_low"], hedges["ci_high"]], rtol=3e-4)


def test_false_discovery_rate(reference):
    p = [reference["B2_full_type3", outcome, "group", "p"] for outcome in OUTCOMES]
    q = [reference["B2_padj_BH", outcome, "group", "q"] for outcome in OUTCOMES]
    agree(benjamini_hochberg(p), q)
    with_gap = benjamini_hochberg([*p[:3], np.nan, *p[3:]])
    agree(np.delete(with_gap, 3), q)
    assert np.isnan(with_gap[3])


@pytest.mark.parametrize(
    "name",
    ["missing_values", "site_one_group", "two_sites_one_group_each", "single_subject_site",
     "site_numeric_labels", "ties_outlier", "unequal_variance", "tiny_n6"],
)  # fmt: skip
def test_nasty_tables_that_can_be_answered(folder, reference, name):
    rows, _ = cohort(folder / "nasty" / f"{name}.csv", ())
    lm = reference[f"D_{name}_additive", "fa"]
    if lm["model"]["df_resid"] < 5:
        with pytest.raises(NotEstimableError, match="residual degrees of freedom"):
            difference(rows, ())
        return
    found, _ = difference(rows, ())
    agree([found.n, found.df], [lm["model"]["n"], lm["model"]["df_resid"]])
    agree(found.estimate, 2 * lm["group1"]["estimate"], rtol=1e-8)
    agree(found.se, 2 * lm["group1"]["se"], rtol=1e-8)
    agree(found.p, lm["group1"]["p"], rtol=1e-6)


@pytest.mark.parametrize("name", ["site_one_group", "two_sites_one_group_each"])
def test_a_site_with_one_group_is_named(folder, name):
    rows, _ = cohort(folder / "nasty" / f"{name}.csv", ())
    _, design = difference(rows, ())
    assert design.notes
    assert all("tells nothing of the groups" in note for note in design.notes)


def test_one_person_at_a_site_changes_nothing_but_the_count(folder):
    rows, _ = cohort(folder / "nasty" / "single_subject_site.csv", ("age", "sex"))
    with_one, design = difference(rows, ("age", "sex"))
    sizes = rows["site"].value_counts()
    without, _ = difference(rows[rows["site"].map(sizes) > 1], ("age", "sex"))
    agree(with_one.estimate, without.estimate, rtol=1e-8)
    agree([with_one.se, with_one.df], [without.se, without.df], rtol=1e-8)
    assert "has one person" in design.notes[0]


def test_confounded_group_and_site_is_refused_with_the_sites(folder):
    rows, _ = cohort(folder / "nasty" / "group_site_fully_confounded.csv", ("age", "sex"))
    with pytest.raises(NotEstimableError, match=r"ALS only at .*HC only at .*scanners"):
        difference(rows, ("age", "sex"))


def test_collinear_covariates_are_named(folder):
    names = ("age", "sex", "dup_age_months")
    rows, _ = cohort(folder / "nasty" / "collinear_covariate.csv", names)
    with pytest.raises(NotEstimableError, match="age and dup_age_months carry the same"):
        difference(rows, names)


def test_a_constant_measure_is_not_tested(folder):
    rows, _ = cohort(folder / "nasty" / "constant_column.csv", (), "const")
    with pytest.raises(NotEstimableError, match="the value is 3.25 for all 104 people"):
        difference(rows, ())


def test_site_spellings_become_one_site(folder, reference):
    rows, people = cohort(folder / "nasty" / "site_messy_labels.csv", ())
    assert sorted(rows["site"].unique()) == [
        "Calgary", "Edmonton", "Montréal", "Toronto", "Vancouver",
    ]  # fmt: skip
    assert sum(note.startswith("site:") for note in people.notes) == 5
    found, _ = difference(rows, ())
    agree(found.p, reference["B2_additive_sumcoding", "fa", "group1", "p"], rtol=1e-7)


@pytest.mark.parametrize("column", ["sex_MF", "sex_word", "sex_Cap", "sex_mixed"])
def test_codings_of_sex_agree(folder, reference, column):
    text = (folder / "nasty" / "sex_codings.csv").read_text().replace(",", "\t")
    raw = parse_table(text, "t").drop(columns="sex").rename(columns={column: "sex"})
    people = clean_people(raw, Columns(reference="HC", covariates=("sex",)), {})
    rows = people.table.assign(y=raw["fa"].astype(float).to_numpy())
    found, _ = difference(rows, ("sex",))
    agree(found.p, reference["D_sex_codings_type3", "sex_MF", "group", "p"], rtol=1e-7)


@pytest.mark.parametrize(
    ("column", "levels"),
    [("sex_10", {"0": "female", "1": "male"}), ("sex_12", {"1": "Male", "2": "Female"}),
     ("sex_pm1", {"-1": "male", "1": "female"})],
)  # fmt: skip
def test_codes_of_sex_need_their_meaning(folder, reference, column, levels):
    text = (folder / "nasty" / "sex_codings.csv").read_text().replace(",", "\t")
    raw = parse_table(text, "t").drop(columns="sex").rename(columns={column: "sex"})
    columns = Columns(reference="HC", covariates=("sex",))
    with pytest.raises(ValueError, match="more than one way.*participants.json"):
        clean_people(raw, columns, {})
    rows = clean_people(raw, columns, levels).table.assign(y=raw["fa"].astype(float).to_numpy())
    found, _ = difference(rows, ("sex",))
    agree(found.p, reference["D_sex_codings_type3", column, "group", "p"], rtol=1e-7)


def test_duplicates_are_refused(folder):
    with pytest.raises(ValueError, match="more than once"):
        cohort(folder / "nasty" / "duplicate_ids.csv", ())
