import numpy as np

from pts.pivot_search.allocate import information, spread_draws
from pts.pivot_search.levels import OffTracePrior
from pts.pivot_search.posterior import Belief, believe
from pts.pivot_search.values import TraceMap
from pts.records import Trace

FORKS = 40
COST = np.full(FORKS, 100.0)


def belief_of(successes: dict[int, int], draws: dict[int, int]) -> tuple[Belief, np.ndarray]:
    trace_map = TraceMap.of(Trace((), tuple(range(FORKS)), (0.5,) * FORKS, "end"), True)
    s, n = (np.array([counts.get(k, 0) for k in range(FORKS)]) for counts in (successes, draws))
    return believe(trace_map, s, n, 0.2, OffTracePrior(0.02, 480.0)), trace_map.most_effect


def test_most_is_learned_between_two_places_of_different_value() -> None:
    belief, share = belief_of({5: 2, 35: 19}, {5: 20, 35: 20})
    nats = information(belief, np.ones(FORKS, dtype=bool), share)
    assert 6 <= int(np.argmax(nats)) <= 34
    assert nats[6:35].mean() > 5 * nats[36:].mean()


def test_nothing_is_learned_where_no_candidate_is_open() -> None:
    belief, share = belief_of({}, {})
    assert not information(belief, np.zeros(FORKS, dtype=bool), share).any()


def test_draws_spread_over_places_and_end_at_the_price() -> None:
    belief, share = belief_of({5: 2, 35: 19}, {5: 20, 35: 20})
    nats = information(belief, np.ones(FORKS, dtype=bool), share)
    draws = spread_draws(nats, COST, belief, 16, 0.0)
    assert draws.sum() == 16
    assert draws.max() <= 3
    price = nats.max() / 100.0
    assert not spread_draws(nats, COST, belief, 16, 1.01 * price).any()
    assert 0 < spread_draws(nats, COST, belief, 16, price).sum() < 16


def test_a_cheaper_rollout_that_tells_as_much_is_drawn_first() -> None:
    belief, _ = belief_of({}, {})
    nats = np.full(FORKS, 0.1)
    cost = COST.copy()
    cost[17] = 50.0
    assert np.flatnonzero(spread_draws(nats, cost, belief, 1, 0.0)).tolist() == [17]


def test_a_later_fork_tells_of_an_earlier_candidate_whose_own_alternatives_are_known() -> None:
    """What the first token's value is depends on the second fork alone, and that is no candidate itself."""
    trace_map = TraceMap.of(Trace((), (0, 1), (0.3, 0.5), "end"), True)
    belief = believe(trace_map, np.array([150, 0]), np.array([300, 0]), 0.2, OffTracePrior(0.5, 30.0))
    nats = information(belief, np.array([True, False]), trace_map.most_effect)
    assert nats[1] > 10 * nats[0]
    assert information(belief, np.array([False, True]), trace_map.most_effect)[0] < 0.1 * nats[1]
