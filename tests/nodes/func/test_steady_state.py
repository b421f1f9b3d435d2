"""Initial volumes that are too bright."""

import numpy as np
import pytest

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.steady_state import count_initial, unsteady


def series(count, excess, seed=0, drift=0.0):
    """Noisy series of a head in air; `excess` is the share of signal of the first volumes."""
    rng = np.random.default_rng(seed)
    head = np.zeros((9, 11, 8))
    head[2:7, 3:9, 1:7] = rng.uniform(500, 900, (5, 6, 6))
    level = 1 + drift * np.linspace(0, 1, count)
    level[: len(excess)] += excess
    signal = head[..., None] * level
    return (signal + rng.normal(0, 12, signal.shape)).astype(np.float32)


@pytest.mark.parametrize("count", [12, 20, 150])
@pytest.mark.parametrize("excess", [[], [0.3], [0.6, 0.12, 0.03], [0.9, 0.4, 0.15, 0.05]])
def test_bright_volumes_are_counted(count, excess):
    assert count_initial(series(count, excess)) == len(excess)


@pytest.mark.parametrize("drift", [-0.04, 0.04])
def test_a_drift_of_the_scanner_is_not_a_start(drift):
    assert count_initial(series(150, [], drift=drift)) == 0
    assert count_initial(series(150, [0.4, 0.1], drift=drift)) == 2


def test_only_the_very_start_counts():
    level = np.full(60, 100.0) + np.random.default_rng(1).normal(0, 0.1, 60)
    level[4] += 20
    level[0] -= 20  # darker is not unsteady
    assert unsteady(level) == 0


def test_at_most_ten_volumes_and_a_third_are_dropped():
    level = 100 + 100 * np.exp(-np.arange(60) / 60.0)
    assert unsteady(level - 100 * (np.arange(60) >= 10)) == 10
    assert unsteady(np.r_[np.full(4, 200.0), np.full(8, 100.0)]) == 4


def test_too_few_volumes_are_refused():
    with pytest.raises(BadInputError, match="has 11 volumes"):
        count_initial(series(11, []))
