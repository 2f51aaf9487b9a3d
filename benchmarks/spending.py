"""What a spending limit buys: true finds at a share of what the search takes without a limit.

    python benchmarks/spending.py [--quick] [--problems 48] [--demo-problems 48]

A run of tabular problems of all shapes (`shapes.py`), whose values are exact: `true finds` are reported tokens
with |Δ| of at least 0.15. A run of the demo model's problems of one and two steps, whose values are not known:
there `true finds` are all that are reported. Each run is searched without a limit, and then under limits of
30% and 60% of what that took. `share of finds` is over those without a limit. The last line of the output is
one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from quality import MARGIN, THRESHOLD
from shapes import SHAPES, policy_in_range

from pts.pivot_search import Grade, SearchConfig, search_problems, select_findings
from pts.pivot_search.results import ProblemResult
from pts.policies.protocol import Policy
from pts.policies.source import RolloutRequests, as_source
from pts.policies.tabular import TabularPolicy
from pts.records import Problem, Rollout, Sampling, TokenDistribution, TokenIds

SHARES = (0.3, 0.6)


class Forest(TabularPolicy):
    """Many trees as one policy: a problem's prompt is the number of its tree."""

    def __init__(self, trees: Mapping[str, TabularPolicy]) -> None:
        self.trees = list(trees.values())
        super().__init__(self.trees[0].root, self.trees[0].budget)
        self._number = {name: number for number, name in enumerate(trees)}

    def encode(self, problem: Problem) -> TokenIds:
        return (self._number[problem.id],)

    def next_token_probs(
        self, prompt: TokenIds, completion: TokenIds, sampling: Sampling
    ) -> list[TokenDistribution]:
        return self.trees[prompt[0]].next_token_probs((), completion, sampling)

    def rollouts(self, requests: RolloutRequests) -> Iterator[Rollout]:
        source = as_source(requests)
        while taken := source.take(64):
            for request in taken:
                yield from self.trees[request.prompt[0]]._request(request)

    def decode(self, ids: TokenIds, stop: Sequence[str] = ()) -> str:  # noqa: ARG002
        return " ".join(map(str, ids))


class GradedByTree:
    """A grader that reads the grade off the problem's own tree, which its answer names."""

    def __init__(self, forest: Forest) -> None:
        self._forest = forest

    def __call__(self, completion: str, answer: str) -> bool:
        return self._forest.trees[int(answer)].grade(completion, answer)


def tabular_run(problems: int, seed: int) -> tuple[list[Problem], Forest, Grade, dict[str, list[TokenIds]]]:
    """Problems of all shapes in turn, each with its trace."""
    rng = np.random.default_rng([seed, 17])
    trees: dict[str, TabularPolicy] = {}
    traces: dict[str, list[TokenIds]] = {}
    for index, shape in zip(range(problems), list(SHAPES.values()) * problems, strict=False):
        trees[str(index)], trace = policy_in_range(shape, rng)
        traces[str(index)] = [trace]
    forest = Forest(trees)
    listed = [Problem(str(index), "q", str(index)) for index in range(problems)]
    return listed, forest, GradedByTree(forest), traces


def demo_run(problems: int) -> tuple[list[Problem], Policy, Grade, None]:
    """Problems of the demo model."""
    import pts
    from pts.graders import make_grader
    from pts.policies.transformers import TransformersPolicy
    from pts.problems import ProblemSource, load_problems

    source = ProblemSource(dataset="demo", levels=(1, 2), limit=problems)
    policy = TransformersPolicy(pts.load_model("demo"), batch_rows=256)
    return list(load_problems(source).problems), policy, make_grader("demo"), None


def measure(
    problems: Sequence[Problem],
    policy: Policy,
    grade: Grade,
    traces: Mapping[str, Sequence[TokenIds]] | None,
    config: SearchConfig,
) -> dict[str, float]:
    """A run under the limit of `config`: finds, false ones, tokens, and problems by their status."""
    results = list(search_problems(problems, policy, grade, config, given_traces=traces))
    findings = select_findings(results, config.fdr)
    true = sum(_is_true(f.problem, f.candidate.position, policy) for f in findings)
    return {
        "finds": true,
        "false": len(findings) - true,
        "tokens": sum(result.tokens_generated for result in results),
        "searched": sum(result.status == "searched" for result in results),
    }


def _is_true(problem: ProblemResult, position: int, policy: Policy) -> bool:
    if not isinstance(policy, Forest):
        return True
    (trace,) = problem.traces
    tree = policy.trees[problem.prompt[0]]
    prefix, token = trace.completion[:position], trace.completion[position]
    return abs(tree.effect(prefix, token)) >= THRESHOLD - MARGIN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few problems: under a minute, figures are rough")
    parser.add_argument("--problems", type=int, default=48, help="tabular problems")
    parser.add_argument("--demo-problems", type=int, default=48)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    tabular, demo = (18, 12) if options.quick else (options.problems, options.demo_problems)
    keys: dict[str, float] = {}
    runs = {"tabular": lambda: tabular_run(tabular, options.seed), "demo": lambda: demo_run(demo)}
    for name, prepare in runs.items():
        problems, policy, grade, traces = prepare()
        budget = 512 if name == "tabular" else 96
        config = SearchConfig(seed=options.seed, sampling=Sampling(budget=budget))
        full = measure(problems, policy, grade, traces, config)
        print(f"{name}: no limit {full}", flush=True)
        for share in SHARES:
            limit = int(share * full["tokens"])
            got = measure(problems, policy, grade, traces, replace(config, max_tokens=limit))
            bought, paid = got["finds"] / max(full["finds"], 1), got["tokens"] / full["tokens"]
            print(f"{name}: limit {share:.0%} {got}, share of finds {bought:.2f}", flush=True)
            keys |= {f"{name}_finds_{share:.0%}": round(bought, 3), f"{name}_paid_{share:.0%}": round(paid, 3)}
    print(json.dumps(keys))


if __name__ == "__main__":
    main()
