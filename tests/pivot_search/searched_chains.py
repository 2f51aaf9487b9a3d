"""Chains that were searched along their long trace, with the exact effects."""

from dataclasses import dataclass

import numpy as np
from shapes import ChainShape, chain, long_trace

from pts.pivot_search import SearchConfig, search_problems
from pts.pivot_search.results import ProblemResult
from pts.policies.tabular import TabularPolicy
from pts.records import Problem, TokenIds


@dataclass(frozen=True)
class Searched:
    """A chain with its long trace, its exact effects, and what a search of that trace gave."""

    policy: TabularPolicy
    trace: TokenIds
    effects: tuple[float, ...]
    result: ProblemResult


def search_chain(policy: TabularPolicy, name: str, config: SearchConfig) -> ProblemResult:
    problem = Problem(name, "q", "a")
    (result,) = search_problems(
        [problem], policy, policy.grade, config, given_traces={name: [long_trace(policy.root)]}
    )
    return result


def searched_in_range(shape: ChainShape, count: int, seed: int) -> list[Searched]:
    """So many searched chains of a shape whose prompts are in range."""
    rng = np.random.default_rng(seed)
    found: list[Searched] = []
    while len(found) < count:
        policy = TabularPolicy(chain(shape, rng))
        if not 0.25 < policy.value(()) < 0.75:
            continue
        trace = long_trace(policy.root)
        result = search_chain(policy, f"chain-{len(found)}", SearchConfig(seed=11))
        effects = tuple(policy.effect(trace[:i], token) for i, token in enumerate(trace))
        found.append(Searched(policy, trace, effects, result))
    return found
