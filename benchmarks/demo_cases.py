"""Traces of the demo model with certified values."""

from __future__ import annotations

from collections.abc import Callable

import torch
from certified import certify

from pts.graders import make_grader
from pts.models.load import ModelOptions, load_model
from pts.models.prompt import PromptFormat
from pts.models.thinking import find_think_tags
from pts.pivot_search import Grade
from pts.policies.transformers import TransformersPolicy
from pts.problems import ProblemSource, load_problems
from pts.records import Problem, RolloutRequest, Sampling, TokenIds
from pts.seeds import derive_seed

LEVELS = (1, 2, 3)
IN_RANGE = (0.2, 0.8)
BUDGET = 96
DEMO_SAMPLING = Sampling(budget=BUDGET)


def demo_policy() -> TransformersPolicy:
    """The demo model, thinking, in one thread."""
    torch.set_num_threads(1)
    return TransformersPolicy(load_model(ModelOptions("demo")), PromptFormat(thinking=True))


def certified_cases(
    count: int,
    seed: int,
    sampling: Sampling = DEMO_SAMPLING,
    wrap: Callable[[Grade], Grade] = lambda grade: grade,
    width: float = 0.007,
    most_nodes: int = 2_000_000,
) -> tuple[list[tuple[Problem, TransformersPolicy, Sampling, Grade, TokenIds, tuple[float, ...]]], float]:
    """`count` traces, one a problem, of prompts in range; and the largest mass that no bound accounts for.

    `wrap` changes the grader; a trace whose values cannot be had within `width` by `most_nodes` rows is passed
    over.
    """
    policy = demo_policy()
    source = ProblemSource(dataset="demo", split="test", limit=4 * count + 20, levels=LEVELS, seed=seed)
    problems = load_problems(source)
    tags = find_think_tags(policy.loaded.tokenizer, None, None)
    assert tags is not None
    grade = wrap(make_grader(problems.grader, think_end=tags.end))
    cases = []
    unexplored = 0.0
    for problem in problems.problems:
        if len(cases) == count:
            break
        request = RolloutRequest(
            policy.encode(problem), seed=derive_seed(seed, problem.id, "trace"), sampling=sampling
        )
        (drawn,) = policy.rollouts([request])
        success = drawn.finish == "end" and grade(policy.decode(drawn.completion), problem.answer)
        certified = certify(
            policy, sampling, grade, problem, drawn.completion, success, width=width, most_nodes=most_nodes
        )
        if certified is None or not IN_RANGE[0] <= certified.low[0] <= certified.high[0] <= IN_RANGE[1]:
            continue
        unexplored = max(unexplored, certified.unexplored)
        cases.append((problem, policy, sampling, grade, drawn.completion, certified.effects))
    if len(cases) < count:
        raise RuntimeError(
            f"only {len(cases)} of {count} traces are in range with values that can be certified"
        )
    return cases, unexplored
