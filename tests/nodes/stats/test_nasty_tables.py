"""The sixteen awkward tables of the reference data, as section 7 of their description asks."""

import re

import numpy as np
import pandas as pd
import pytest

from alsflow.interfaces.tables import read_any_table
from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.cohort import build_cohort
from alsflow.nodes.stats.design import NotEstimableError, build_design
from alsflow.nodes.stats.joining import Options
from alsflow.nodes.stats.linear import group_difference
from alsflow.nodes.stats.participants import Columns
from alsflow.nodes.stats.tables import Meanings

pytestmark = pytest.mark.realdata
FILES = {
    "collinear_covariate", "constant_column", "decline_rate_edge", "duplicate_ids",
    "group_site_fully_confounded", "missing_values", "perfect_separation", "sex_codings",
    "single_subject_site", "site_messy_labels", "site_numeric_labels", "site_one_group",
    "ties_outlier", "tiny_n6", "two_sites_one_group_each", "unequal_variance",
}  # fmt: skip
SITES = ["Calgary", "Edmonton", "Montreal", "Toronto", "Vancouver"]


@pytest.fixture(scope="module")
def folder(shared_data):
    return shared_data / "stats_reference"


@pytest.fixture(scope="module")
def reference(folder):
    table = pd.read_csv(folder / "r_reference_long.csv")
    table["value"] = pd.to_numeric(table["value"], errors="coerce")
    return table.set_index(["analysis", "outcome", "term", "stat"])["value"].sort_index()


def cohort(folder, name, covariates=(), rename=None, site="site", **options):
    table = read_any_table(folder / "nasty" / f"{name}.csv")
    if rename:
        table = table.drop(columns="sex").rename(columns={rename: "sex"})
    columns = Columns(reference="HC", site=site, covariates=covariates)
    return build_cohort(table, None, None, None, columns, Options(**options))


def difference(found, outcome="fa", rows=None):
    """Group difference of complete rows, and the design that it comes from."""
    rows = found.usable if rows is None else rows
    rows = rows[rows[outcome].notna()].set_index("participant_id")
    columns = found.columns
    design = build_design(
        rows, group="group", case=found.case, reference=found.reference, site=columns.site,
        covariates=columns.covariates, factors=found.factors,
    )  # fmt: skip
    return group_difference(rows[outcome].to_numpy(), design), design


def agrees_with_r(found, lm):
    np.testing.assert_allclose(found.estimate, 2 * lm["group1"]["estimate"], rtol=1e-8)
    np.testing.assert_allclose(found.se, 2 * lm["group1"]["se"], rtol=1e-8)
    assert (found.n, found.df) == (lm["model"]["n"], lm["model"]["df_resid"])


def test_every_table_has_a_test(folder):
    assert {path.stem for path in (folder / "nasty").glob("*.csv")} == FILES


def test_missing_values_leave_each_model_with_its_own_people(folder, reference):
    found = cohort(folder, "missing_values")
    result, _ = difference(found)
    assert result.n == 93
    agrees_with_r(result, reference["D_missing_values_additive", "fa"])
    full = cohort(folder, "missing_values", ("age", "sex"))
    assert len(full.reasons) == 13
    whys = set(full.reasons.values())
    assert {"age n/a in participants.tsv", "site n/a in participants.tsv"} <= whys


@pytest.mark.parametrize("name", ["site_one_group", "two_sites_one_group_each"])
def test_sites_with_one_group_change_no_estimate(folder, reference, name):
    found = cohort(folder, name)
    result, design = difference(found)
    agrees_with_r(result, reference[f"D_{name}_additive", "fa"])
    alone = {note.split()[1] for note in design.notes}
    assert all(re.search("has only (ALS|HC) and tells nothing", note) for note in design.notes)
    assert len(alone) == (1 if name == "site_one_group" else 2)
    rows = found.usable[~found.usable["site"].isin(alone)]
    without, _ = difference(found, rows=rows)
    np.testing.assert_allclose(result.estimate, without.estimate, rtol=1e-8)
    assert abs(result.se / without.se - 1) > 1e-4


def test_confounded_sites_are_named(folder):
    found = cohort(folder, "group_site_fully_confounded")
    with pytest.raises(NotEstimableError) as refusal:
        difference(found)
    assert all(site in str(refusal.value) for site in SITES)
    assert "ALS only at" in str(refusal.value)


def test_a_single_person_at_a_site_counts_for_nothing(folder, reference):
    found = cohort(folder, "single_subject_site")
    result, design = difference(found)
    agrees_with_r(result, reference["D_single_subject_site_additive", "fa"])
    rows = found.usable[found.usable["site"] != "Halifax"]
    without, _ = difference(found, rows=rows)
    np.testing.assert_allclose(result.estimate, without.estimate, rtol=1e-9)
    np.testing.assert_allclose([result.se, result.df], [without.se, without.df], rtol=1e-9)
    assert result.n == without.n + 1
    assert "site Halifax has one person" in design.notes[0]


@pytest.mark.parametrize(
    ("outcome", "message"),
    [("const", "the value is 3.25 for all 104 people"), ("all_na", "nobody of the group ALS")],
)
def test_constant_and_empty_columns_are_not_tested(folder, outcome, message):
    found = cohort(folder, "constant_column")
    assert found.table["all_na"].isna().all()
    with pytest.raises(NotEstimableError, match=message):
        difference(found, outcome)


def test_collinear_covariates_are_named(folder):
    found = cohort(folder, "collinear_covariate", ("age", "sex", "dup_age_months"))
    with pytest.raises(NotEstimableError, match="age and dup_age_months carry the same inform"):
        difference(found)


def test_duplicates(folder):
    """One pair differs in FA: an error whatever is asked for; the others only by default."""
    message = "lists sub-CN085 more than once with different fa: fa is '0.384618' in line 79 and"
    for dedupe in ("error", "exact"):
        with pytest.raises(BadInputError, match=message):
            cohort(folder, "duplicate_ids", dedupe=dedupe)
    table = read_any_table(folder / "nasty" / "duplicate_ids.csv").drop(index=108)
    columns = Columns(reference="HC")
    with pytest.raises(BadInputError, match="lists sub-CN081, sub-CN033 more than once, alike in"):
        build_cohort(table, None, None, None, columns)
    found = build_cohort(table, None, None, None, columns, Options(dedupe="exact"))
    assert len(found.table) == 104
    note = "participants.tsv: repeated rows of sub-CN081, sub-CN033 are left out (line 106, 107)"
    assert note in found.notes


def test_unequal_variances_do_not_stop_the_reading(folder, reference):
    found = cohort(folder, "unequal_variance")
    result, _ = difference(found)
    agrees_with_r(result, reference["D_unequal_variance_additive", "fa"])
    spread = found.table.groupby("group")["fa"].std()
    assert max(spread) / min(spread) > 3


CODES = {
    "sex_MF": {}, "sex_word": {}, "sex_Cap": {}, "sex_mixed": {},
    "sex_10": {"0": "female", "1": "male"}, "sex_12": {"1": "male", "2": "female"},
    "sex_pm1": {"-1": "male", "1": "female"}, "sex_numstr": {"1": "male", "2": "female"},
}  # fmt: skip


@pytest.mark.parametrize("column", CODES)
def test_every_coding_of_sex_gives_the_same_p(folder, reference, column):
    levels = CODES[column]
    if levels:
        with pytest.raises(BadInputError, match="sex is '-?[01]'.*more than one way.*Levels in"):
            cohort(folder, "sex_codings", ("sex",), rename=column)
    found = cohort(
        folder, "sex_codings", ("sex",), rename=column, meanings=Meanings({"sex": levels})
    )
    assert found.table["sex"].value_counts().to_dict() == {"male": 59, "female": 45}
    result, _ = difference(found)
    expected = reference["D_sex_codings_type3", "sex_MF", "group", "p"]
    np.testing.assert_allclose(result.p, expected, rtol=1e-7)


def test_one_sex_is_no_term(folder):
    found = cohort(folder, "sex_codings", ("sex",), rename="sex_allM")
    _, design = difference(found)
    assert design.dropped == ("sex is left out: all are of sex male",)


def test_numbered_sites_are_a_factor(folder, reference):
    found = cohort(folder, "site_numeric_labels")
    assert sorted(found.table["site"].unique()) == ["1", "2", "3", "4", "5"]
    result, _ = difference(found)
    agrees_with_r(result, reference["D_site_numeric_labels_additive", "fa"])
    wrong = reference["D_site_numeric_labels_WRONG_numeric_site"]
    assert not np.isclose(wrong.to_numpy(), result.p, rtol=1e-3).any()


def test_messy_labels_are_merged_and_named(folder, reference):
    raw = read_any_table(folder / "nasty" / "site_messy_labels.csv")
    assert raw["site"].nunique() == 10  # as read, without blanks around
    found = cohort(folder, "site_messy_labels")
    assert sorted(found.table["site"].unique()) == [*SITES[:2], "Montréal", *SITES[3:]]
    assert found.notes == tuple(
        f"site: '{name}', '{name.lower()}' are taken as one, '{name}'"
        for name in [*SITES[:2], "Montréal", *SITES[3:]]
    )
    result, _ = difference(found)
    agrees_with_r(result, reference["D_site_numeric_labels_additive", "fa"])


def test_a_separating_marker_is_read_and_tested(folder, reference):
    found = cohort(folder, "perfect_separation")
    marker = found.table.groupby("group")["marker_sep"].agg(["min", "max"])
    assert marker.loc["ALS", "min"] > marker.loc["HC", "max"]
    result, _ = difference(found)
    agrees_with_r(result, reference["D_perfect_separation_additive", "fa"])


def test_ties_and_an_outlier_are_kept(folder, reference):
    found = cohort(folder, "ties_outlier")
    assert set(found.table["ties"]) == {0, 1, 2, 3}
    far = (found.table["outlier"] - found.table["fa"]).abs()
    assert (far > 0).sum() == 1
    assert not found.reasons
    result, _ = difference(found)
    agrees_with_r(result, reference["D_ties_outlier_additive", "fa"])


def test_six_people_are_too_few(folder):
    found = cohort(folder, "tiny_n6")
    with pytest.raises(NotEstimableError, match="leave 2 residual degrees of freedom; at least 5"):
        difference(found)


def test_edges_of_the_rate_of_decline(folder):
    """The table has no groups; beside those of the cohort it is read like any other."""
    scores = read_any_table(folder / "nasty" / "decline_rate_edge.csv")
    scores = scores.rename(columns={"symptom_duration": "disease_duration"})
    people = read_any_table(folder / "calsnic_subjects.csv")
    people = people[["participant_id", "group", "site", "age", "sex"]].merge(
        scores, on="participant_id", how="left"
    )
    people = people.fillna("n/a")
    columns = Columns(reference="HC")
    with pytest.raises(BadInputError, match=r"alsfrs_r of sub-CN027 \(49\) lies outside 0 to 48"):
        build_cohort(people, None, None, None, columns)
    mended = people.replace({"alsfrs_r": {"49": "48"}})
    found = build_cohort(mended, None, None, None, columns)
    rows = found.table.set_index("participant_id")
    assert rows.loc["sub-CN023", "disease_duration"] == 0
    assert rows.loc[["sub-CN081", "sub-CN094"], "disease_duration"].isna().all()
    assert np.isnan(rows.loc["sub-CN079", "alsfrs_r"])
    assert found.unknown == {
        ("sub-CN081", "n/a", "disease_duration"): "disease_duration of -2 cannot be"
    }
    assert found.warnings == (
        "sub-CN081: disease_duration is -2, which cannot be; it is taken as unknown",
        "sub-CN023: disease_duration is 0, so that a rate of decline cannot be told",
    )
