"""Every value that R gave for the linear models, and what R gave that must not come out."""

from fnmatch import fnmatchcase

import agreement
import agreement_linear
import numpy as np
import pytest
from scipy import stats

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.anova import anova
from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.regression import fit_by_site, fit_table

pytestmark = pytest.mark.realdata
COMPARED = 13_188  # values of R that the linear models are held against


@pytest.fixture(scope="module")
def reference(shared_data):
    return agreement.Reference(shared_data / "stats_reference")


@pytest.fixture(scope="module")
def compared(reference):
    names = [n for pattern in agreement_linear.ANALYSES for n in of_pattern(reference, pattern)]
    return {name: agreement.compare(reference, name) for name in names}


def of_pattern(reference, pattern):
    """Analyses that `pattern` and no more special one stands for."""
    own = agreement_linear.ANALYSES
    names = [n for n in reference.values if fnmatchcase(n, pattern)]
    return [n for n in names if agreement._lookup(n, {k: k for k in own}) == pattern]


@pytest.mark.parametrize("pattern", agreement_linear.ANALYSES)
def test_every_value_of_r(reference, compared, pattern):
    rows = [row for name in of_pattern(reference, pattern) for row in compared[name]]
    assert rows
    wrong = [str(row) for row in rows if not row.agrees]
    assert not wrong, f"{len(wrong)} of {len(rows)}: " + "\n".join(wrong[:10])


def test_nothing_drops_out_of_the_comparison(compared):
    rows = [row for found in compared.values() for row in found]
    assert sum(not row.reason for row in rows) == COMPARED
    assert all(row.agrees for row in rows)


def test_a_wrong_value_is_seen(reference, monkeypatch):
    """The comparison itself can fail."""
    near = agreement.compare(reference, "B4_spm_cellmeans")[0]
    assert near.agrees
    off = agreement.error(near.expected * (1 + 2e-6), near.expected)
    assert 1e-6 < off < 3e-6
    assert agreement.error(float("nan"), 1.0) == float("inf")
    monkeypatch.setitem(agreement_linear.ANALYSES, "B4_spm_cellmeans", lambda *_: {})
    assert not any(row.agrees for row in agreement.compare(reference, "B4_spm_cellmeans"))


def test_type_three_with_treatment_coding_cannot_be_had(reference):
    wrong = reference.values["B2_full_type3_TREATMENT_WRONG"]
    f = float(wrong.query("outcome == 'fa' and term == 'group' and stat == 'F'")["value"].iloc[0])
    assert f == pytest.approx(2.55, abs=0.01)
    table = reference.table("calsnic_subjects")
    treatment = fit_table(
        table, "fa", "group * site", treatment={"group": "HC", "site": "Calgary"}
    )
    with pytest.raises(BadInputError, match="need sum coding, but group and site"):
        anova(treatment, 3)
    fit = fit_table(table, "fa", "group * site")
    by_type = {
        kind: next(t.f for t in anova(fit, kind) if t.term == "group") for kind in (1, 2, 3)
    }
    assert by_type[3] == pytest.approx(17.93, abs=0.01)
    assert by_type[2] == pytest.approx(25.24, abs=0.01)
    # types 1 and 2 do not depend on the coding
    for kind in (1, 2):
        again = next(t.f for t in anova(treatment, kind) if t.term == "group")
        assert again == pytest.approx(by_type[kind], rel=1e-10)


def test_site_as_a_number_is_not_reproduced(reference):
    wrong = dict(reference.of("D_site_numeric_labels_WRONG_numeric_site"))
    table = reference.table("nasty/site_numeric_labels")
    assert table["site"].dtype.kind == "i"
    fit = fit_table(table, "fa", "group + site", group="group", site="site")
    assert fit.design.variables["site"].levels == ("1", "2", "3", "4", "5")
    assert abs(fit.estimate[1] / wrong["fa", "group1", "estimate"] - 1) > 1e-3


@pytest.mark.parametrize("outcome", agreement_linear.OUTCOMES)
def test_variance_by_site_is_at_least_as_likely_as_that_of_nlme(reference, outcome):
    fit, sd = fit_by_site(agreement_linear.calsnic_fit(reference, outcome, "additive"), "site")
    theirs = dict(reference.of("B5_gls_varsite"))[outcome, "model", "loglik_reml"]
    assert fit.loglik >= theirs - 1e-9 * abs(theirs)
    assert set(sd) == {"Calgary", "Edmonton", "Montreal", "Toronto", "Vancouver"}


def test_limits_of_partial_eta2_are_exact(reference):
    """F lies at 95 % and 5 % of the noncentral distributions at the limits."""
    for outcome in agreement_linear.OUTCOMES:
        for test in anova(agreement_linear.calsnic_fit(reference, outcome, "full"), 3):
            for eta2, probability in ((test.eta2_low, 0.95), (test.eta2_high, 0.05)):
                if eta2:
                    ncp = test.df_residual * eta2 / (1 - eta2)
                    found = stats.ncf.cdf(test.f, test.df, test.df_residual, ncp)
                    assert found == pytest.approx(probability, abs=1e-9)


GUARD = {"group": "group", "site": "site", "levels": {"group": ("ALS", "HC")}}


def nasty(reference, file, terms, outcome="fa"):
    return fit_table(reference.table(f"nasty/{file}"), outcome, terms, **GUARD)


@pytest.mark.parametrize(
    ("file", "rank", "said"),
    [("site_one_group", "rank 9 of 10", "nobody of group HC and site Vancouver; "
      "use the additive model, or leave out site Vancouver"),
     ("two_sites_one_group_each", "rank 8 of 10",
      "nobody of group ALS and site .*; group HC and site .*; use the additive model"),
     ("single_subject_site", "rank 11 of 12", "nobody of group .* and site Halifax; use the add")],
)  # fmt: skip
def test_interactions_with_empty_cells_are_refused(reference, file, rank, said):
    with pytest.raises(NotEstimableError, match=f"group:site .*{rank}.*{said}"):
        nasty(reference, file, "group * site")


@pytest.mark.parametrize(
    "file", ["site_one_group", "two_sites_one_group_each", "single_subject_site"]
)
def test_sites_of_one_group_do_not_move_the_additive_estimate(reference, file):
    """The estimate is the very same; other people's values still move its standard error."""
    table = reference.table(f"nasty/{file}")
    fit = nasty(reference, file, "group + site")
    alone = table.groupby("site")["group"].transform("nunique") == 1
    without = fit_table(table[~alone], "fa", "group + site", **GUARD)
    np.testing.assert_allclose(fit.estimate[1], without.estimate[1], rtol=1e-10)
    if file == "single_subject_site":
        np.testing.assert_allclose(fit.se[1], without.se[1], rtol=1e-10)
        assert fit.df == without.df
        assert max(fit.hat) == pytest.approx(1)
    else:
        assert abs(fit.se[1] / without.se[1] - 1) > 1e-3
    assert len([note for note in fit.notes if "nothing of the groups" in note]) == sum(
        table[alone].groupby("site").size() > 0
    )


@pytest.mark.parametrize("terms", ["group + site", "group * site", "group + site + age + sex"])
def test_confounded_site_and_group_are_refused_by_name(reference, terms):
    with pytest.raises(NotEstimableError) as refusal:
        nasty(reference, "group_site_fully_confounded", terms)
    table = reference.table("nasty/group_site_fully_confounded")
    for site in table["site"].unique():
        assert site in str(refusal.value)
    assert "ALS" in str(refusal.value)
    assert "HC" in str(refusal.value)


def test_collinear_covariates_are_refused_by_name(reference):
    with pytest.raises(NotEstimableError, match=r"age and dup_age_months carry the same.*leave"):
        nasty(reference, "collinear_covariate", "group + site + age + dup_age_months")


def test_what_does_not_vary_is_refused(reference):
    with pytest.raises(NotEstimableError, match="3.25 for all 104 people"):
        nasty(reference, "constant_column", "group + site", "const")
    with pytest.raises(NotEstimableError, match="nobody has all_na"):
        nasty(reference, "constant_column", "group + site", "all_na")
    with pytest.raises(NotEstimableError, match="const is 3.25 for all 104 people and cannot"):
        nasty(reference, "constant_column", "group + const")


def test_six_people_are_too_few(reference):
    with pytest.raises(NotEstimableError, match="6 people .* 4 parameters leave 2 residual"):
        nasty(reference, "tiny_n6", "group + site")


def test_missing_values_fall_out_of_their_own_model_and_are_named(reference):
    fit = nasty(reference, "missing_values", "group + site")
    assert fit.n == 93
    (note,) = (note for note in fit.notes if "are complete" in note)
    assert note.startswith("93 of 104 rows are complete; sub-")
    assert "fa n/a" in note


def test_repeated_people_are_called_pseudoreplication(reference):
    fit = nasty(reference, "duplicate_ids", "group + site")
    assert fit.design.pseudoreplicated
    assert "pseudoreplication" in fit.notes[0]
    sides = fit_table(reference.table("taiwan_sides"), "fa_cst", "gm_precentral + hemisphere")
    assert sides.design.pseudoreplicated
    assert "142 rows of 71 people" in sides.notes[0]
