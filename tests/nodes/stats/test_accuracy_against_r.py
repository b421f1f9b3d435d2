"""Accuracy, classification and ComBat against every value of R 4.2.2 that belongs to them."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from alsflow.nodes.stats.classify import Recipe, classify
from alsflow.nodes.stats.combat import fit_combat
from alsflow.nodes.stats.design import NotEstimableError
from alsflow.nodes.stats.logistic import fit_logistic
from alsflow.nodes.stats.roc import roc

pytestmark = pytest.mark.realdata
_spec = importlib.util.spec_from_file_location(
    "agreement_accuracy", Path(__file__).parent / "agreement_accuracy.py"
)
agreement = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(agreement)

COUNTS = {
    "B8_roc": 56, "B8_roc_test": 4, "B9_logit": 20, "B9_leave_site_out": 6, "B10_binom": 5,
    "D_perfect_separation": 2, "leave_site_out_predictions": 208,
    "sva_combat_par": 520, "sva_combat_nonpar": 520, "sva_combat_meanonly": 520,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(shared_data):
    return shared_data / "stats_reference"


@pytest.fixture(scope="module")
def rows(folder):
    return {row.analysis: row for row in agreement.compare(folder)}


@pytest.mark.parametrize("analysis", COUNTS)
def test_every_value_agrees(rows, analysis):
    row = rows[analysis]
    assert row.n == COUNTS[analysis]
    assert not row.failed
    assert row.worst < 1e-8


def test_a_wrong_or_absent_value_would_show(folder, monkeypatch):
    values = agreement.found(folder)
    values["B8_roc", "fa", "ALS", "auc"] *= 1 + 3e-6
    del values["B9_logit", "als", "fa", "se"]
    monkeypatch.setattr(agreement, "found", lambda folder: values)
    failed = {row.analysis: row.failed for row in agreement.compare(folder) if row.failed}
    assert set(failed) == {"B8_roc", "B9_logit"}
    assert len(failed["B8_roc"]) == len(failed["B9_logit"]) == 1


def nasty(folder, name):
    return pd.read_csv(folder / "nasty" / f"{name}.csv").set_index("participant_id")


def test_perfect_separation(folder):
    """R prints an odds ratio of e^23; there is none."""
    table = nasty(folder, "perfect_separation")
    positive = table["group"] == "ALS"
    with pytest.raises(NotEstimableError, match="marker_sep tells the two groups apart"):
        fit_logistic(table[["marker_sep"]], positive)
    firth = fit_logistic(table[["marker_sep"]], positive, method="firth").coefficients[1]
    assert 0 < firth.ci_low < firth.estimate < firth.ci_high < 10
    curve = roc(table["marker_sep"], positive, direction="high")
    assert (curve.auc, curve.se, curve.ci_high) == (1, 0, 1)
    assert curve.ci_low == pytest.approx(0.025 ** (1 / 52))


@pytest.mark.parametrize(
    ("name", "message"),
    [("single_subject_site", r"3 people of each site; fewer at Halifax \(1\)"),
     ("group_site_fully_confounded", "group cannot be told from site"),
     ("tiny_n6", "3 people of each site"),
     ("missing_values", "not known")],
)  # fmt: skip
def test_nasty_tables_that_combat_refuses(folder, name, message):
    table = nasty(folder, name)
    with pytest.raises(ValueError, match=message):
        fit_combat(table[["fa", "md", "foot_tap"]], table["site"], table[["group"]])


@pytest.mark.parametrize("name", ["constant_column", "collinear_covariate"])
def test_nasty_columns_that_combat_refuses(folder, name):
    table = nasty(folder, name)
    measures = ["fa", "md", *(["const"] if name == "constant_column" else [])]
    keep = ["age", "dup_age_months"] if name == "collinear_covariate" else ["age"]
    with pytest.raises(NotEstimableError, match="const is the same|age and dup_age_months carry"):
        fit_combat(table[measures], table["site"], table[keep])


@pytest.mark.parametrize("name", ["site_one_group", "two_sites_one_group_each"])
def test_sites_of_one_group_are_classified_but_have_no_area(folder, name):
    table = nasty(folder, name)
    found = classify(
        table, ["fa", "md"], group="group", case="ALS", reference="HC", recipe=Recipe()
    )
    without = [site.site for site in found.sites if site.roc is None]
    assert len(without) == (1 if name == "site_one_group" else 2)
    assert found.within_site.left_out == tuple(without)
    assert found.roc.n == len(table)


def test_confounded_sites_are_not_classified(folder):
    table = nasty(folder, "group_site_fully_confounded")
    with pytest.raises(NotEstimableError, match="ALS only at Montreal, Toronto, Vancouver; HC"):
        classify(table, ["fa", "md"], group="group", case="ALS", reference="HC")
