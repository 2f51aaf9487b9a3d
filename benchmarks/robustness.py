"""The search's quality in harder worlds: an untruncated sampler, a grader that errs, a short budget.

    python benchmarks/robustness.py [--quick] [--traces 60] [--demo-traces 24]

`untruncated`: every token has another beside it, so no q is exactly 1; on the demo model temperature 1 with no
truncation. `wrong grader`: one grade in twenty is turned round; effects are then those under that grader, nine
tenths of the true ones. `short budget`: a third of the completions are cut
(on the demo model, at 26 tokens, two fifths), and fail. The last line of the output is one line of JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
from quality import Searched, figures
from search_quality import Case, print_table, rounded, search_as_run, tabular_case
from shapes import RIGHT, SHAPES, WRONG, ChainShape, Shape, policy_in_range

from pts.pivot_search import Grade
from pts.policies.tabular import Node, TabularPolicy
from pts.records import RolloutRequest, Sampling, TokenIds

ERROR = 0.05
"""Share of the grades that a wrong grader turns round."""
CUT = 1 / 3
"""Share of the completions that a short budget cuts."""


def erring(node: Node, known: dict[int, Node]) -> Node:
    """The tree under a grader that errs: what ended goes on to one more token, the grade that is read."""
    if id(node) not in known:
        if node.children:
            known[id(node)] = Node({t: (p, erring(child, known)) for t, (p, child) in node.children.items()})
        else:
            right = 1 - ERROR if node.success else ERROR
            known[id(node)] = Node({RIGHT: (right, Node(success=True)), WRONG: (1 - right, Node())})
    return known[id(node)]


def erring_grade(grade: Grade) -> Grade:
    """A grader that turns one completion in twenty round, the same ones each time."""

    def graded(completion: str, answer: str) -> bool:
        draw = int.from_bytes(hashlib.blake2b(completion.encode(), digest_size=8).digest(), "big") / 2**64
        return grade(completion, answer) != (draw < ERROR)

    return graded


def tabular_cases(world: str, shape: str, count: int, seed: int) -> list[Case]:
    """`count` policies of a shape in one of the worlds, their traces and the effects that hold there."""
    rng = np.random.default_rng([seed, list(SHAPES).index(shape)])
    drawn: Shape = SHAPES[shape]
    if world == "untruncated" and isinstance(drawn, ChainShape):
        drawn = replace(drawn, rare=0.03)
    cases: list[Case] = []
    while len(cases) < count:
        policy, trace = policy_in_range(drawn, rng)
        if world == "wrong grader":
            policy, trace = TabularPolicy(erring(policy.root, {})), (*trace, RIGHT)
            if policy.node(trace[:-1]).children[RIGHT][0] < rng.random():
                trace = (*trace[:-1], WRONG)
        if world == "short budget":
            policy, trace = shortened(policy, trace, rng)
            if not 0.2 < policy.value(()) < 0.8:
                continue
        cases.append(tabular_case(f"{shape}-{len(cases)}", policy, trace))
    return cases


def shortened(
    policy: TabularPolicy, trace: TokenIds, rng: np.random.Generator
) -> tuple[TabularPolicy, TokenIds]:
    """The policy under a budget that cuts a third of its completions, and the trace, cut where it is."""
    request = RolloutRequest((), n=500, seed=int(rng.integers(2**31)))
    lengths = np.repeat(*np.array([(len(r.completion), r.count) for r in policy.rollouts([request])]).T)
    budget = int(np.quantile(lengths, 1 - CUT))
    return TabularPolicy(policy.root, budget=budget), trace[:budget]


def judged(searched: list[Searched], world: str) -> list[Searched]:
    """What counts: where the tree itself holds the grader's error, the token that stands for it does not."""
    if world != "wrong grader":
        return searched
    return [
        replace(
            s,
            effects=s.effects[:-1],
            reported=tuple(e for e in s.reported if e.position < len(s.effects) - 1),
            confirmed=tuple(e for e in s.confirmed if e.position < len(s.effects) - 1),
        )
        for s in searched
    ]


WORLDS: dict[str, tuple[str, ...]] = {
    "as it is": ("mixed", "eventful", "cancelling", "reasoner"),
    "untruncated": ("mixed", "eventful", "cancelling"),
    "wrong grader": ("mixed", "eventful", "cancelling", "reasoner"),
    "short budget": ("reasoner",),
}
"""The shapes for each world: a chain's completions are all of one length, and a budget cuts all or none."""


def tabular_task(task: tuple[str, str, int, int]) -> tuple[str, list[Searched]]:
    """One world on one shape, in a process of its own."""
    world, shape, count, seed = task
    return world, judged(search_as_run(tabular_cases(world, shape, count, seed), seed), world)


def demo_task(task: tuple[str, int, int]) -> tuple[str, list[Searched], float]:
    """One world on the demo model, with the largest mass unexplored."""
    import demo_cases

    world, count, seed = task
    wrap: Callable[[Grade], Grade] = erring_grade if world == "wrong grader" else lambda grade: grade
    cases, unexplored = demo_cases.certified_cases(
        count, seed, DEMO_SAMPLING[world], wrap, DEMO_WIDTH[world], MOST_NODES
    )
    return world, search_as_run(cases, seed), unexplored


MOST_NODES = 40_000
"""Rows that certify a demo trace: the untruncated tree is too large for some, which are passed over."""
DEMO_SAMPLING = {
    "as it is": Sampling(budget=96),
    "untruncated": Sampling(temperature=1.0, top_k=0, top_p=1.0, budget=96),
    "wrong grader": Sampling(budget=96),
    "short budget": Sampling(budget=26),
}
DEMO_WIDTH = {"as it is": 0.007, "untruncated": 0.02, "wrong grader": 0.007, "short budget": 0.007}
"""How narrow the certified values are: without truncation the tail of the tree is long."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few traces: under a minute, figures are rough")
    parser.add_argument("--traces", type=int, default=60, help="traces of each tabular shape")
    parser.add_argument("--demo-traces", type=int, default=24, help="traces of the demo model")
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    traces, demo_traces = (2, 2) if options.quick else (options.traces, options.demo_traces)
    os.environ["OMP_NUM_THREADS"] = "1"  # two processes, each in one thread
    jobs = [(world, shape, traces, options.seed) for world, shapes in WORLDS.items() for shape in shapes]
    demo_jobs = [(world, demo_traces, options.seed) for world in WORLDS]
    tabular: dict[str, list[Searched]] = {world: [] for world in WORLDS}
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        on_demo = pool.map(demo_task, demo_jobs)
        for world, searched in pool.map(tabular_task, jobs):
            tabular[world] += searched
        demo = {world: (searched, unexplored) for world, searched, unexplored in on_demo}
    print_table("Tabular policies", tabular.items())
    print_table("Demo model, certified values", ((world, searched) for world, (searched, _) in demo.items()))
    for world, (_, unexplored) in demo.items():
        print(f"largest mass unexplored, {world}: {unexplored:.4f}")
    result = {}
    for prefix, found in (("", tabular), ("demo_", {world: s for world, (s, _) in demo.items()})):
        for world, searched in found.items():
            values = figures(searched)
            for name in ("fdr_half", "fdr_margin", "recall_25", "recall_30", "bias", "coverage"):
                result[f"{prefix}{world.replace(' ', '_')}_{name}"] = rounded(values[name])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
