import numpy as np
import pytest

from pts.pivot_search.posterior import believe
from pts.pivot_search.values import TraceMap
from pts.records import Trace


def belief_of(q: tuple[float, ...], success: bool, successes: list[int], draws: list[int], threshold: float):
    trace_map = TraceMap.of(Trace((), tuple(range(len(q))), q, "end"), success)
    rng = np.random.default_rng(0)
    return believe(trace_map, np.array(successes), np.array(draws), threshold, rng)


def test_many_draws_settle_it() -> None:
    belief = belief_of((0.5, 0.5), True, [100, 1900], [2000, 2000], 0.2)
    # V after the first token is 0.5·1 + 0.5·0.95; the first effect is 0.5·(0.975 − 0.05) = 0.46.
    assert belief.pivotal[0] > 0.999
    assert belief.pivotal[1] < 0.001
    assert belief.off_trace_mean == pytest.approx([0.05, 0.95], abs=0.01)


def test_knowing_the_value_alone_excludes_a_candidate() -> None:
    # Fact 3: V of the first token is about 0.5 whatever its own alternatives are worth, so with q = 0.65
    # its effect is at most 0.175; with q = 0.4 it may reach 0.3.
    assert belief_of((0.65, 0.01), True, [0, 1000], [0, 2000], 0.2).pivotal[0] < 0.02
    assert belief_of((0.4, 0.01), True, [0, 1000], [0, 2000], 0.2).pivotal[0] > 0.02


def test_an_unseen_fork_stays_open() -> None:
    assert 0.05 < belief_of((0.4,), True, [0], [0], 0.2).pivotal[0] < 0.95
