"""Every value of R for comparisons without a linear model; see `agreement_compare`."""

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from alsflow.nodes.stats.counts import fisher_exact
from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.two_groups import cohen_d, compare_groups, t_test
from alsflow.tests.nodes.stats.agreement_compare import (
    compare,
    found,
    reference_values,
    tolerance,
)

pytestmark = pytest.mark.realdata
TWO_GROUPS = (
    "", "_shapiro", "_levene_median", "_levene_mean", "_vartest", "_student", "_welch",
    "_mannwhitney", "_mannwhitney_cc", "_hedges", "_cohen", "_rankbiserial",
)  # fmt: skip
NASTY = (
    "collinear_covariate", "constant_column", "duplicate_ids", "group_site_fully_confounded",
    "missing_values", "perfect_separation", "sex_codings", "single_subject_site",
    "site_messy_labels", "site_numeric_labels", "site_one_group", "ties_outlier", "tiny_n6",
    "two_sites_one_group_each", "unequal_variance",
)  # fmt: skip
PREFIXES = ("A2_groupdiff", "B1_groupdiff", "C3_two_stage_slope",
            *(f"D_{name}_2g" for name in NASTY))  # fmt: skip
OTHERS = (
    "A1_chisq", "A1_chisq_yates", "A1_fisher", "A1_kruskal", "A1_onset_student",
    "A1_onset_welch", "A2_padj_BH", "A2_padj_BY", "A2_padj_holm", "A2_padj_bonferroni",
    "A2_padj_hommel", "B0_chisq", "B2_padj_BH", "B2_padj_BY", "B2_padj_holm",
    "B2_padj_bonferroni", "B6_pearson", "B6_spearman", "B6_kendall", "B7_partial_pearson_age",
    "B7_partial_pearson_age_sex", "B7_partial_pearson_age_sex_site", "B7_partial_spearman_age",
    "B10_power_t2", "B10_power_n", "B10_binom",
)  # fmt: skip
ANALYSES = tuple(f"{prefix}{part}" for prefix in PREFIXES for part in TWO_GROUPS) + OTHERS


@pytest.fixture(scope="module")
def folder(shared_data):
    return shared_data / "stats_reference"


@pytest.fixture(scope="module")
def ours(folder):
    return found(folder)


@pytest.fixture(scope="module")
def rows(folder, ours):
    return {row.analysis: row for row in compare(folder, ours)}


@pytest.mark.parametrize("analysis", ANALYSES)
def test_values_of_r_are_met(rows, analysis):
    assert rows[analysis].n > 0
    assert rows[analysis].failed == ()


def test_no_analysis_is_left_out(rows):
    assert set(rows) == set(ANALYSES)
    assert sum(row.n for row in rows.values()) == 4150
    skipped = {row.analysis: row.skipped for row in rows.values() if row.skipped}
    assert skipped == {"B1_groupdiff_hedges": 2, "B1_groupdiff_cohen": 2}  # d = 0, measure ad


@pytest.mark.parametrize(
    ("file", "outcome", "message"),
    [
        ("constant_column", "const", "the value is 3.25 for all 104 people"),
        ("constant_column", "all_na", "nobody of the group ALS has this measure"),
        ("tiny_n6", "fa", "6 people in 2 groups leave 4 degrees of freedom"),
    ],
)
def test_tables_that_cannot_answer_are_refused(folder, file, outcome, message):
    table = pd.read_csv(folder / "nasty" / f"{file}.csv")
    with pytest.raises(NotEstimableError, match=message):
        compare_groups(table[outcome], table["group"], case="ALS", reference="HC")


def test_nearly_constant_values_are_compared_and_the_normality_is_not(folder):
    table = pd.read_csv(folder / "nasty" / "constant_column.csv")
    found = compare_groups(table["almost_const"], table["group"], case="ALS", reference="HC",
                           test="auto")  # fmt: skip
    assert found.test == "mannwhitney"
    assert [bool(one.reason) for one in found.normality] == [False, True]


def test_few_values_have_more_room_than_a_millionth(folder):
    """Limits of effectsize and Fisher's odds ratio, and nothing else."""
    loose = {key[0] for key in reference_values(folder) if (tolerance(key) or 0) > 1e-6}
    assert {name.rsplit("_", 1)[1] for name in loose} == {"cohen", "hedges", "fisher"}


def test_a_wrong_value_is_seen(folder, ours):
    key = ("B6_pearson", "fa~foot_tap", "ALS", "r")
    wrong = ours | {key: ours[key] * (1 + 2e-6)}
    failed = [line for row in compare(folder, wrong) for line in row.failed]
    assert len(failed) == 1
    assert failed[0].startswith("B6_pearson fa~foot_tap ALS r:")


def test_our_limits_are_the_exact_ones_where_those_of_r_differ_most(folder):
    """effectsize stops its optimiser early: the tail beyond its limit is .02506."""
    table = pd.read_csv(folder / "calsnic_subjects.csv")
    x, y = (table.loc[table["group"] == g, "tnaa_cr"].dropna() for g in ("ALS", "HC"))
    student, scale = t_test(x, y, pooled=True), np.sqrt(1 / len(x) + 1 / len(y))

    def above(d):
        def integrand(s):
            chi = 2 * s * student.df * stats.chi2.pdf(student.df * s**2, student.df)
            return stats.norm.sf(student.t * s - d / scale) * chi

        return integrate.quad(integrand, 0, 6, epsabs=1e-13, limit=500)[0]

    theirs = reference_values(folder)["B1_groupdiff_cohen", "tnaa_cr", "ALS-HC", "ci_low"]
    assert above(cohen_d(x, y).ci_low) == pytest.approx(0.025, abs=1e-9)
    assert abs(above(theirs) - 0.025) > 1e-5


def test_our_limits_of_the_odds_are_the_exact_ones(folder):
    theirs = reference_values(folder)["A1_fisher", "sex", "group", "ci_low"]
    ours = fisher_exact([[13, 26], [19, 13]]).ci_low

    def tail(odds):
        return stats.nchypergeom_fisher(71, 39, 32, odds).sf(12)

    assert tail(ours) == pytest.approx(0.025, abs=1e-10)
    assert abs(tail(theirs) - 0.025) > 1e-6
