import itertools
import tracemalloc

import numpy as np
import pytest

from pts.pivot_search.levels import GRID, LEVELS, OffTracePrior, PriorGrid, free_kernel, landing, near_kernel
from pts.pivot_search.posterior import Belief, believe, believed_values
from pts.pivot_search.values import TraceMap
from pts.records import Trace

PRIOR = OffTracePrior()


def map_of(q: tuple[float, ...], success: bool = True) -> TraceMap:
    return TraceMap.of(Trace((), tuple(range(len(q))), q, "end"), success)


def belief_of(q: tuple[float, ...], successes: list[int], draws: list[int]) -> Belief:
    return believe(map_of(q), np.array(successes), np.array(draws), 0.2, PRIOR)


def test_many_draws_settle_it() -> None:
    belief = belief_of((0.5, 0.5), [100, 1900], [2000, 2000])
    # V after the first token is 0.5·1 + 0.5·0.95; the first effect is 0.5·(0.975 − 0.05) = 0.46.
    assert belief.pivotal[0] > 0.999
    assert belief.pivotal[1] < 0.001
    assert belief.off_trace_mean == pytest.approx([0.05, 0.95], abs=0.01)


def test_knowing_the_value_alone_excludes_a_candidate() -> None:
    # Fact 3: V of the first token is about 0.5 whatever its own alternatives are worth, so with q = 0.65
    # its effect is at most 0.175; with q = 0.4 it may reach 0.3.
    assert belief_of((0.65, 0.01), [0, 1000], [0, 2000]).pivotal[0] < 0.02
    assert belief_of((0.4, 0.01), [0, 1000], [0, 2000]).pivotal[0] > 0.02


def test_an_unseen_fork_stays_open() -> None:
    assert 0.05 < belief_of((0.4,), [0], [0]).pivotal[0] < 0.95


def test_the_belief_is_that_of_a_sum_over_all_paths() -> None:
    """Two forks by brute force: every kind of each fork, every mode between them, and every pair of off-trace
    levels, the value between them split over its cells."""
    q, successes, draws = (0.4, 0.7), np.array([1, 2]), np.array([3, 3])
    kinds = [near_kernel(PRIOR.concentration), np.broadcast_to(free_kernel(PRIOR.spread), (GRID, GRID))]
    moves = PRIOR.mode_moves()
    seen = np.clip(LEVELS, 0.004, 0.996)
    likelihood = [seen**s * (1 - seen) ** (n - s) for s, n in zip(successes, draws, strict=True)]
    lower, fraction = (each[0] for each in landing(np.array([70])))
    pivotal, means, total = np.zeros(2), np.zeros(2), 0.0
    for second, mode, first, last, up in itertools.product((0, 1), (0, 1), (0, 1), range(GRID), (0, 1)):
        # The chain begins at the trace's end, settled.
        chance = moves[second][0, mode] * moves[first][mode].sum()
        between = lower[GRID - 1, last] + up
        share = fraction[GRID - 1, last] if up else 1 - fraction[GRID - 1, last]
        mass = chance * kinds[second][GRID - 1, last] * likelihood[1][last] * share
        weights = mass * kinds[first][between] * likelihood[0]
        total += weights.sum()
        means += [weights @ LEVELS, weights.sum() * LEVELS[last]]
        first_effect = 0.6 * (LEVELS[between] - LEVELS)
        pivotal[0] += weights[np.abs(first_effect) >= 0.2 - 1e-9].sum()
        pivotal[1] += weights.sum() * (0.3 * (1 - LEVELS[last]) >= 0.2 - 1e-9)
    belief = believe(map_of(q), successes, draws, 0.2, PRIOR)
    assert belief.pivotal == pytest.approx(pivotal / total, rel=1e-9)
    assert belief.off_trace_mean == pytest.approx(means / total, rel=1e-9)


def test_a_fork_near_an_influential_one_is_likelier_to_be_influential_too() -> None:
    """What is lost is often won back soon: beside a fork that surely matters, others may."""
    forks, here = 60, 30
    successes, draws = np.zeros(forks, dtype=int), np.zeros(forks, dtype=int)
    draws[here] = 200
    belief = believe(map_of((0.5,) * forks), successes, draws, 0.2, OffTracePrior(0.02, 480.0))
    assert belief.pivotal[here - 2] > 2 * belief.pivotal[2]
    assert belief.pivotal[here + 2] > 2 * belief.pivotal[-2]


def test_draws_on_both_sides_of_a_fork_tell_of_it() -> None:
    """Values of 0.1 before the middle and 0.9 after it leave one of the undrawn forks between as the cause."""
    forks = 30
    successes, draws = np.zeros(forks, dtype=int), np.zeros(forks, dtype=int)
    draws[[2, 4, 6, 8, 21, 23, 25, 27]] = 10
    successes[[2, 4, 6, 8]], successes[[21, 23, 25, 27]] = 1, 9
    belief = believe(map_of((0.5,) * forks), successes, draws, 0.2, OffTracePrior(0.02, 120.0))
    assert belief.pivotal[9:21].sum() > 0.9
    assert belief.pivotal[:9].sum() + belief.pivotal[21:].sum() < 0.3


def test_a_calm_trace_teaches_that_few_forks_matter() -> None:
    rng = np.random.default_rng(3)
    forks = 200
    draws = np.full(forks, 2)
    calm = believe(map_of((0.6,) * forks), draws, draws, 0.2).prior
    eventful = believe(map_of((0.6,) * forks), 2 * (rng.random(forks) < 0.5).astype(int), draws, 0.2).prior
    assert calm.influential < 0.1 < eventful.influential


def test_a_short_trace_expects_that_half_of_its_forks_matter_and_a_long_one_that_few_may() -> None:
    assert PriorGrid.of(5).shares == pytest.approx([0.5] * 5)
    assert PriorGrid.of(36).shares == pytest.approx([0.25] * 5)
    assert PriorGrid.of(100).shares[[0, -1]] == pytest.approx([0.25, 0.04])
    assert PriorGrid.of(1200).shares[[0, -1]] == pytest.approx([0.25, 1 / 75])
    weights = PriorGrid.of(100).weights
    assert weights.sum() == pytest.approx(1.0)
    # Four forks of a hundred are 6.25 times fewer than a quarter, and the square root of that as likely.
    assert weights[:, -1] == pytest.approx(2.5 * weights[:, 0])


def test_believed_values_follow_the_draws_and_end_at_the_grade() -> None:
    q = (1.0, 0.5, 1.0, 0.5, 1.0)
    mean, low, high = believed_values(map_of(q), np.array([100, 1000]), np.array([2000, 2000]), PRIOR)
    # Before the last fork 0.5·1 + 0.5·0.5 = 0.75, before the first 0.5·0.75 + 0.5·0.05 = 0.4.
    assert mean == pytest.approx([0.4, 0.75, 0.75, 1.0, 1.0], abs=0.02)
    assert np.all((low <= mean + 1 / GRID) & (mean - 1 / GRID <= high))
    nothing = believed_values(map_of((1.0, 1.0), success=False), np.array([]), np.array([]), PRIOR)
    assert [list(each) for each in nothing] == [[0.0, 0.0]] * 3


def test_a_belief_takes_memory_by_the_number_of_forks_and_not_by_its_square() -> None:
    peaks = []
    for forks in (500, 2000):
        trace_map, zeros = map_of((0.7,) * forks), np.zeros(forks, dtype=int)
        believe(trace_map, zeros, zeros, 0.2, PRIOR)
        tracemalloc.start()
        believe(trace_map, zeros, zeros, 0.2, PRIOR)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 4.5 * peaks[0]
