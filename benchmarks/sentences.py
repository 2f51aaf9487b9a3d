"""Sentences: the search beside the published method, on policies with exact values.

The published method (Bogdan et al. 2025, thought anchors) draws 100 completions from every border of two
sentences and reports a sentence where the two rates of success around it differ by the threshold. It has no
interval and no error rate. The line "beside" is what `--unit both` finds of sentences, for the tokens that it
takes beyond a search of tokens alone.

    python benchmarks/sentences.py            # 24 traces of each shape
    python benchmarks/sentences.py --quick    # 4 of each, under a minute
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from sentence_shapes import SentencePolicy, sentence_chain
from shapes import ChainShape

from pts.pivot_search import SearchConfig, search_problems, select_findings
from pts.pivot_search.config import SearchUnit
from pts.pivot_search.sentences import Span, sentence_spans
from pts.records import Problem, RolloutRequest, Sampling
from pts.seeds import derive_seed

THRESHOLD = 0.2
SAMPLES = 100
"""Completions from each border in the published method."""
SHAPES = {
    "plain": ChainShape(length=120),
    "eventful": ChainShape(length=120, indifferent=0.6),
    "near the threshold": ChainShape(length=120, indifferent=0.7, jitter=0.15, spread=2.0),
    "cancelling": ChainShape(length=120, recovers=0.15, gap=6),
    "long": ChainShape(length=480, indifferent=0.95),
}


@dataclass(frozen=True)
class Case:
    """A trace in sentences with their exact effects."""

    policy: SentencePolicy
    spans: tuple[Span, ...]
    effects: tuple[float, ...]

    @classmethod
    def draw(cls, shape: ChainShape, rng: np.random.Generator) -> Case:
        """A trace of the shape, its sentences of 5 to 19 tokens."""
        policy = sentence_chain(shape, rng, (5, 20))
        trace = policy.trace()
        values = policy.values_along(trace.completion)
        spans = sentence_spans(trace.completion, policy.decode)
        return cls(policy, spans, tuple(values[end] - values[start] for start, end in spans))


Report = tuple[int, dict[int, float]]
"""Generated tokens, and the reported effects by the number of their sentence."""


def by_search(cases: Sequence[Case], seed: int, unit: SearchUnit) -> list[Report]:
    """What the search reports of sentences; its range filter and its audit are left out of the comparison."""
    results = []
    for index, case in enumerate(cases):
        sampling = Sampling(budget=case.policy.budget)
        config = SearchConfig(threshold=THRESHOLD, seed=seed, unit=unit, audit=0.0, sampling=sampling)
        problem = Problem(str(index), "q", "a")
        given = {problem.id: [case.policy.trace().completion]}
        results += search_problems([problem], case.policy, case.policy.grade, config, given_traces=given)
    reports: list[Report] = [(result.tokens_screen + result.tokens_confirm, {}) for result in results]
    for finding in select_findings(results, 0.05):
        if finding.candidate.unit == "token":
            continue
        index = int(finding.problem.problem_id)
        starts = [start for start, _ in cases[index].spans]
        reports[index][1][starts.index(finding.candidate.position)] = finding.candidate.delta
    return reports


def by_borders(case: Case, seed: int) -> Report:
    """What 100 completions from each border report."""
    completion = case.policy.trace().completion
    borders = [start for start, _ in case.spans] + [len(completion)]
    sampling = Sampling(budget=case.policy.budget)
    requests = [
        RolloutRequest(
            (), completion[:at], n=SAMPLES, seed=derive_seed(seed, at), key=str(at), sampling=sampling
        )
        for at in borders[:-1]
    ]
    tokens, right = 0, dict.fromkeys(borders, 0)
    for rollout in case.policy.rollouts(requests):
        tokens += rollout.count * (len(rollout.completion) - len(rollout.request.prefix))
        success = rollout.finish == "end" and case.policy.grade(case.policy.decode(rollout.completion), "a")
        right[int(rollout.request.key)] += rollout.count * success
    final = case.policy.node(completion).success
    rates = [right[at] / SAMPLES for at in borders[:-1]] + [float(final)]
    changes = np.diff(rates)
    return tokens, {k: float(change) for k, change in enumerate(changes) if abs(change) >= THRESHOLD}


def line(name: str, cases: Sequence[Case], reports: Iterable[Report]) -> str:
    """One method on some traces: rates of error, recall, and cost."""
    found: list[float] = []
    large: dict[float, list[bool]] = {0.2: [], 0.25: [], 0.3: []}
    errors: list[float] = []
    tokens = 0
    for case, (spent, reported) in zip(cases, reports, strict=True):
        tokens += spent
        found += [abs(case.effects[k]) for k in reported]
        errors += [abs(delta) - abs(case.effects[k]) for k, delta in reported.items()]
        for least, hits in large.items():
            hits += [k in reported for k, effect in enumerate(case.effects) if abs(effect) >= least]
    true = sum(effect >= THRESHOLD - 0.05 for effect in found)
    null = sum(effect <= THRESHOLD / 2 for effect in found)
    recalls = "  ".join(
        f"{np.mean(hits) if hits else float('nan'):.2f} of {len(hits):3}" for hits in large.values()
    )
    return (
        f"{name:10} reported {len(found):4}  |Δ| < 0.15: {1 - true / max(len(found), 1):.2f}  "
        f"|Δ| ≤ 0.10: {null / max(len(found), 1):.3f}  recall ≥ .20, .25, .30: {recalls}  "
        f"bias {np.mean(errors) if errors else 0:+.3f}  tokens a trace {tokens / len(cases):9,.0f}  "
        f"a true find {tokens / max(true, 1):9,.0f}"
    )


def main() -> None:
    """Print both methods by shape and over all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=24, help="traces of each shape")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="4 traces of each shape")
    options = parser.parse_args()
    every: list[Case] = []
    ours: list[Report] = []
    beside_tokens: list[Report] = []
    theirs: list[Report] = []
    for number, (name, shape) in enumerate(SHAPES.items()):
        rng = np.random.default_rng(derive_seed(options.seed, number))
        cases = [Case.draw(shape, rng) for _ in range(4 if options.quick else options.traces)]
        searched = by_search(cases, options.seed, "sentence")
        # Beside a search of tokens: what sentences add to its cost.
        both = by_search(cases, options.seed, "both")
        added = [
            (tokens - alone, reported)
            for (tokens, reported), (alone, _) in zip(
                both, by_search(cases, options.seed, "token"), strict=True
            )
        ]
        borders = [by_borders(case, derive_seed(options.seed, number, i)) for i, case in enumerate(cases)]
        sentences = sum(len(case.spans) for case in cases)
        print(f"{name}: {len(cases)} traces, {sentences} sentences")
        print(line("pts", cases, searched), line("beside", cases, added), sep="\n")
        print(line("borders", cases, borders), flush=True)
        every += cases
        ours += searched
        beside_tokens += added
        theirs += borders
    print("all", line("pts", every, ours), line("beside", every, beside_tokens), sep="\n")
    print(line("borders", every, theirs))


if __name__ == "__main__":
    main()
