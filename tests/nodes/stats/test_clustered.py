"""Cluster-robust errors against what they must be in special cases."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from alsflow.nodes.stats.clustered import cluster_robust
from alsflow.nodes.stats.design import NotEstimableError, make_design
from alsflow.nodes.stats.regression import fit_linear


def clustered_rows(people=14, seed=4):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 5, people)
    ids = np.repeat([f"sub-{k:02d}" for k in range(people)], counts)
    own = np.repeat(rng.standard_normal(people), counts)
    x = rng.standard_normal(len(ids)) + own
    score = 2 + 0.5 * x + own + rng.standard_normal(len(ids))
    return pd.DataFrame({"who": ids, "x": x, "age": 60 + 5 * own, "score": score})


def fitted(rows, people="who", values=None):
    design = make_design(rows, "x + age", people=people)
    return fit_linear(rows["score"].to_numpy() if values is None else values, design, "score")


def test_hc1_is_that_of_statsmodels():
    rows = clustered_rows()
    fit = fitted(rows)
    codes = rows["who"].factorize()[0]
    other = sm.OLS(fit.values, fit.design.matrix).fit(
        cov_type="cluster", cov_kwds={"groups": codes}
    )
    found = cluster_robust(fit)
    np.testing.assert_allclose([one.se for one in found.hc1], other.bse, rtol=1e-10)
    np.testing.assert_allclose([one.p for one in found.hc1], other.pvalues, rtol=1e-8)
    assert np.isinf(found.effect("x", "hc1").df)
    assert "use CR2" in found.notes[0]


def test_cr2_is_unbiased_where_rows_are_independent():
    """Over unit errors of each row the expected covariance must be (X'X)^-1, cluster or not."""
    rows = clustered_rows()
    fixed = fitted(rows).design.matrix
    total = np.zeros(fixed.shape[1])
    for unit in np.eye(len(rows)):
        total += [one.se**2 for one in cluster_robust(fitted(rows, values=unit)).cr2]
    np.testing.assert_allclose(total, np.diag(np.linalg.inv(fixed.T @ fixed)), rtol=1e-9)


def test_cr2_of_single_rows_is_hc2():
    rows = clustered_rows().assign(row=lambda table: [f"r{k}" for k in range(len(table))])
    fit = fitted(rows, people="row")
    other = sm.OLS(fit.values, fit.design.matrix).fit(cov_type="HC2")
    found = cluster_robust(fit)
    np.testing.assert_allclose([one.se for one in found.cr2], other.bse, rtol=1e-9)


def test_degrees_of_freedom_of_a_comparison_of_clusters():
    """Two arms of equal clusters: as many as a t test of their means has."""
    rng = np.random.default_rng(1)
    ids = np.repeat([f"c{k}" for k in range(10)], 3)
    arm = np.repeat(np.tile(["a", "b"], 5), 3)
    rows = pd.DataFrame({"who": ids, "arm": arm, "y": rng.standard_normal(30)})
    fit = fit_linear(rows["y"].to_numpy(), make_design(rows, "arm", people="who"))
    effect = cluster_robust(fit).effect("arm[a]")
    means = rows.groupby("who").agg(y=("y", "mean"), arm=("arm", "first"))
    a, b = (means.loc[means["arm"] == k, "y"] for k in "ab")
    np.testing.assert_allclose(effect.df, 8, rtol=1e-9)
    expected = (a.mean() - b.mean()) / np.sqrt(a.var() / 5 + b.var() / 5)
    np.testing.assert_allclose(effect.statistic, expected, rtol=1e-9)


def test_a_contrast_is_the_coefficient_of_another_coding():
    rows = clustered_rows()
    rows["drug"] = np.array(list("abc"))[rows["who"].factorize()[0] % 3]
    fits = [
        fit_linear(rows["score"].to_numpy(), make_design(rows, "x + drug", people="who", **coding))
        for coding in ({}, {"treatment": {"drug": "b"}})
    ]
    weights = np.array([0.0, 0.0, 1.0, -1.0])  # a - b, sum coding of a, b and c
    found = cluster_robust(fits[0], {"a - b": weights})
    for kind in ("cr2", "hc1"):
        one, two = found.effect("a - b", kind), cluster_robust(fits[1]).effect("drug[a]", kind)
        np.testing.assert_allclose(
            [one.estimate, one.se, one.df], [two.estimate, two.se, two.df], rtol=1e-9
        )


def test_a_cluster_that_sets_a_parameter_alone_does_not_break_cr2():
    rows = clustered_rows()
    alone = (rows["who"] == "sub-03").map({True: "x", False: "y"})
    design = make_design(rows.assign(site=alone), "x + site", people="who")
    found = cluster_robust(fit_linear(rows["score"].to_numpy(), design))
    assert np.isfinite([one.se for one in found.cr2]).all()


def test_errors_grow_when_rows_are_copied_as_new_sides():
    """Copies of a person add nothing: the clustered error stays, the plain one shrinks."""
    rows = clustered_rows()
    twice = pd.concat([rows, rows], ignore_index=True)
    once_, twice_ = fitted(rows), fitted(twice)
    assert twice_.se[1] < 0.75 * once_.se[1]
    one, two = (cluster_robust(fit).effect("x") for fit in (once_, twice_))
    np.testing.assert_allclose(two.se, one.se, rtol=0.05)


def test_few_clusters_are_refused():
    rows = clustered_rows(people=4)
    with pytest.raises(NotEstimableError, match="4 people are too few"):
        cluster_robust(fitted(rows))
