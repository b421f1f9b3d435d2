import numpy as np
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.multiplicity import METHODS, adjust, adjust_families

P = [0.01, 0.02, 0.04]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("fdr", [0.03, 0.03, 0.04]),
        ("by", [0.03 * 11 / 6, 0.03 * 11 / 6, 0.04 * 11 / 6]),
        ("holm", [0.03, 0.04, 0.04]),
        ("hommel", [0.03, 0.04, 0.04]),
        ("bonferroni", [0.03, 0.06, 0.12]),
        ("none", P),
    ],
)
def test_corrections_by_hand(method, expected):
    np.testing.assert_allclose(adjust(P, method), expected)
    gapped = adjust([P[0], np.nan, *P[1:]], method)
    np.testing.assert_allclose(np.delete(gapped, 1), expected)
    assert np.isnan(gapped[1])


@pytest.mark.parametrize("method", METHODS)
def test_corrected_p_values_stay_in_order_and_below_one(method):
    p = np.random.default_rng(1).uniform(size=30)
    q = adjust(p, method)
    assert (q >= p).all()
    assert (q <= 1).all()
    assert (np.diff(q[np.argsort(p)]) >= 0).all()
    assert np.isnan(adjust([np.nan, np.nan], method)).all()


def test_families_are_corrected_on_their_own_and_say_what_counted():
    p = [*P, np.nan, 0.5, 0.01]
    families = ["a", "a", "b", "a", "b", "c"]
    q, notes = adjust_families(p, families, {"a": "holm", "c": "none"})
    np.testing.assert_allclose(q, [0.02, 0.02, 0.08, np.nan, 0.5, 0.01])
    assert notes == (
        "a: familywise error (Holm) over 2 tests; 1 without a p value do not count",
        "b: false discovery rate (Benjamini-Hochberg) over 2 tests",
        "c: not corrected over 1 tests",
    )


def test_unknown_corrections_and_impossible_p_values_are_refused():
    with pytest.raises(BadInputError, match="it must be one of fdr, by, holm"):
        adjust(P, "sidak")
    with pytest.raises(BadInputError, match="below 0 or above 1"):
        adjust([0.2, 1.5])
