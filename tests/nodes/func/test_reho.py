"""ReHo against scipy's Friedman test, against loops, and at the edge of the brain."""

import numpy as np
import pytest
from scipy import stats

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.func.reho import AXES, measure_reho

SHAPE = (5, 6, 7)


def by_loop(series, mask, neighbours):
    """Kendall's W with the textbook's correction for ties, voxel by voxel."""
    n = series.shape[3]
    found = np.full(mask.shape, np.nan)
    for at in np.argwhere(mask):
        ranks, ties = [], 0
        for step in np.ndindex(3, 3, 3):
            step = np.array(step) - 1
            place = at + step
            if np.abs(step).sum() > AXES[neighbours]:
                continue
            if (place < 0).any() or (place >= mask.shape).any() or not mask[tuple(place)]:
                continue
            own = series[tuple(place)]
            if np.ptp(own) == 0:
                continue
            ranks.append(stats.rankdata(own))
            _, counts = np.unique(own, return_counts=True)
            ties += (counts.astype(float) ** 3 - counts).sum()
        k = len(ranks)
        if k < (neighbours + 1) // 2 or np.ptp(series[tuple(at)]) == 0:
            continue
        total = np.sum(ranks, axis=0)
        square = ((total - total.mean()) ** 2).sum()
        found[tuple(at)] = 12 * square / (k**2 * (n**3 - n) - k * ties)
    return found


def brain():
    mask = np.ones(SHAPE, bool)
    mask[0] = mask[:, :2, 0] = False
    mask[2, 3, 4] = False
    return mask


def series(n=20, seed=0, shared=0.8):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(*SHAPE, n)) + shared * rng.normal(size=n)


@pytest.mark.parametrize("neighbours", [27, 19, 7])
@pytest.mark.parametrize("ties", [False, True])
def test_equals_a_loop(neighbours, ties):
    data = series()
    if ties:
        data = data.round()
        data[3, 3, 3] = 4.0  # does not vary
    found, count = measure_reho(data, brain(), np.zeros(20, int), neighbours)
    np.testing.assert_allclose(found, by_loop(data, brain(), neighbours), rtol=2e-6)
    assert np.isfinite(found).sum() > 60
    assert count[brain()].max() <= neighbours


@pytest.mark.parametrize("ties", [False, True])
def test_equals_the_friedman_test_of_scipy(ties):
    """Its statistic is W times K (n - 1)."""
    data = series(12, 1)
    data = data.round() if ties else data
    found, _ = measure_reho(data, np.ones(SHAPE, bool), np.zeros(12, int))
    block = data[1:4, 2:5, 3:6].reshape(27, 12)
    statistic, _ = stats.friedmanchisquare(*block.T)
    assert found[2, 3, 4] == pytest.approx(statistic / (27 * 11), rel=1e-6)


def test_is_the_mean_rank_correlation_in_disguise():
    data = series(15, 2)
    found, _ = measure_reho(data, np.ones(SHAPE, bool), np.zeros(15, int), 7)
    block = [data[2, 3, 3 + d] for d in (-1, 0, 1)] + [data[2, 2, 3], data[2, 4, 3]]
    block += [data[1, 3, 3], data[3, 3, 3]]
    rho = stats.spearmanr(block, axis=1).statistic
    mean = rho[np.triu_indices(7, 1)].mean()
    assert found[2, 3, 3] == pytest.approx((1 + 6 * mean) / 7, rel=1e-6)


def test_one_course_gives_one_and_noise_gives_one_over_neighbours():
    course = np.random.default_rng(3).normal(size=30)
    same = np.exp(course) * np.random.default_rng(4).uniform(1, 9, (*SHAPE, 1))
    found, _ = measure_reho(same, np.ones(SHAPE, bool), np.zeros(30, int))
    np.testing.assert_allclose(found[np.isfinite(found)], 1, rtol=1e-6)
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(24, 22, 20, 40))
    everywhere = np.ones(noise.shape[:3], bool)
    for neighbours in AXES:
        found, _ = measure_reho(noise, everywhere, np.zeros(40, int), neighbours)
        mean = found[1:-1, 1:-1, 1:-1].mean()
        assert mean == pytest.approx(1 / neighbours, rel=0.01)


@pytest.mark.parametrize(("slab", "known"), [(13, False), (14, True)])
def test_half_of_the_neighbours_are_needed(slab, known):
    mask = np.zeros((3, 3, 3), bool)
    order = np.argsort([abs(np.array(step) - 1).sum() for step in np.ndindex(3, 3, 3)],
                       kind="stable")  # fmt: skip
    mask.flat[order[:slab]] = True  # the middle first
    data = np.random.default_rng(6).normal(size=(3, 3, 3, 9))
    found, count = measure_reho(data, mask, np.zeros(9, int))
    assert count[1, 1, 1] == slab
    assert np.isfinite(found[1, 1, 1]) == known


def test_runs_are_ranked_apart_and_weigh_by_their_length():
    first, second = series(20, 7), 1000 + 5 * series(8, 8)
    runs = np.repeat([0, 1], [20, 8])
    found, _ = measure_reho(np.concatenate([first, second], -1), brain(), runs)
    parts = [measure_reho(s, brain(), np.zeros(s.shape[3], int))[0] for s in (first, second)]
    np.testing.assert_allclose(found, (20 * parts[0] + 8 * parts[1]) / 28, rtol=1e-6)


def test_a_run_too_short_to_rank_does_not_count():
    data = series(22, 9)
    found, _ = measure_reho(data, brain(), np.repeat([0, 1], [20, 2]))
    alone, _ = measure_reho(data[..., :20], brain(), np.zeros(20, int))
    np.testing.assert_array_equal(found, alone)
    with pytest.raises(BadInputError, match="no run of at least 3 volumes"):
        measure_reho(data[..., :2], brain(), np.zeros(2, int))


def test_what_varies_by_rounding_alone_does_not_vary():
    data = series(12, 11)
    data[3, 3, 3] = 4.0
    found, _ = measure_reho(data, brain(), np.zeros(12, int))
    data[3, 3, 3] += 1e-6 * np.arange(12)
    again, _ = measure_reho(data, brain(), np.zeros(12, int))
    np.testing.assert_array_equal(found, again)
    assert np.isnan(again[3, 3, 3])


def test_outside_the_brain_nothing_is_read_or_written():
    data, mask = series(12, 10), brain()
    found, count = measure_reho(data, mask, np.zeros(12, int))
    spoilt = np.where(mask[..., None], data, 1e9 * np.arange(12))
    again, _ = measure_reho(spoilt, mask, np.zeros(12, int))
    np.testing.assert_array_equal(found, again)
    assert np.isnan(found[~mask]).all()
    assert (count[~mask] == 0).all()


def test_other_neighbourhoods_are_refused():
    with pytest.raises(BadInputError, match="give 27, 19 or 7"):
        measure_reho(series(), brain(), np.zeros(20, int), 26)
