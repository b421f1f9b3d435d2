"""The default test of the groups errs as often as it says."""

import numpy as np
import pytest

from alsflow.benchmarks.null_simulation import LAYOUTS, TESTS, false_positive_rates

DEFAULT, _, BLIND = TESTS


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_in_twenty_null_cohorts_is_found(layout):
    rates = false_positive_rates(
        LAYOUTS[layout], 1000, np.random.default_rng(20), (DEFAULT, BLIND)
    )
    assert rates[DEFAULT][0] == pytest.approx(0.05, abs=0.014)
    if layout == "uneven":
        assert rates[BLIND][0] > 0.2  # differences of sites pass for those of groups
