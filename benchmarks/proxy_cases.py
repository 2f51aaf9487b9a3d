"""Traces whose large effects are known: certified ones of the demo model, or those that a run has confirmed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from demo_cases import certified_cases
from quality import THRESHOLD

from pts.demo.vocabulary import THINK_END
from pts.models.load import ModelOptions, load_model
from pts.models.prompt import PromptFormat
from pts.pivot_search.grades import CompletionGrades
from pts.pivot_search.range_filter import LOOKS
from pts.pivot_search.screen import TraceScreen
from pts.pivot_search.values import GradedRollout, TraceMap
from pts.policies.transformers import TransformersPolicy
from pts.records import RolloutRequest, Sampling, TokenDistribution, TokenIds, Trace
from pts.runs.rollout_parts import read_parts
from pts.runs.search_run import ROLLOUTS, read_search
from pts.seeds import derive_seed

ALL_FORKS = "all forks"
LARGE_FORKS = "forks with 1 - q >= threshold"
CONFIRMED = "confirmed findings against confirmed to be none"
SEARCHED = "findings against all searched forks"


@dataclass(frozen=True)
class ProxyCase:
    """A searched trace. `truths` say of which positions it is known whether their effect is large.

    `prompted` are the graded rollouts of its prompt, `screened` those and the screen's.
    """

    problem: int
    answer: str
    map: TraceMap
    distributions: Sequence[TokenDistribution]
    prompted: Sequence[GradedRollout]
    screened: Sequence[GradedRollout]
    truths: Mapping[str, Mapping[int, bool]]

    @property
    def completion(self) -> TokenIds:
        """The trace's ids."""
        return self.map.trace.completion

    @property
    def prompt(self) -> TokenIds:
        """The prompt's ids."""
        return self.map.trace.prompt


@dataclass(frozen=True)
class ProxyData:
    """The cases of one model; `think_end` closes its thinking, None where it has none."""

    policy: TransformersPolicy
    sampling: Sampling
    threshold: float
    cases: Sequence[ProxyCase]
    think_end: str | None

    @cached_property
    def digits(self) -> list[int]:
        """Tokens that would go on with a number: those that begin with a digit."""
        decode = self.policy.decode
        return [token for token in range(self.policy.vocabulary_size) if decode((token,))[:1].isdigit()]


def demo_data(traces: int, seed: int) -> ProxyData:
    """Traces of the demo model with certified effects, and what a search would have drawn of each."""
    certified, _ = certified_cases(traces, seed)
    cases = []
    for index, (problem, policy, sampling, grade, completion, effects) in enumerate(certified):
        prompt = policy.encode(problem)
        grades = CompletionGrades(policy, grade, problem.answer, sampling.stop)
        along = policy.next_token_probs(prompt, completion, sampling)
        probs = tuple(d.prob(token) for d, token in zip(along, completion, strict=True))
        success = grades.success(completion, "end")
        trace_map = TraceMap.of(Trace(prompt, completion, probs, "end"), success)
        first = RolloutRequest(prompt, n=LOOKS[-1], seed=derive_seed(seed, index), key="0", sampling=sampling)
        prompted = _graded(policy, grades, [first])
        large = {int(k): bool(abs(effects[k]) >= THRESHOLD) for k in trace_map.forks}
        truths = {
            ALL_FORKS: large,
            LARGE_FORKS: {k: is_large for k, is_large in large.items() if 1 - probs[k] >= THRESHOLD},
        }
        screened = _screened(policy, grades, trace_map, prompted, sampling, derive_seed(seed, index, "screen"))
        cases.append(ProxyCase(index, problem.answer, trace_map, along, prompted, screened, truths))
    return ProxyData(policy, sampling, THRESHOLD, cases, THINK_END)


def _graded(
    policy: TransformersPolicy, grades: CompletionGrades, requests: Sequence[RolloutRequest]
) -> list[GradedRollout]:
    """The requests' rollouts with their grades, in the order of the requests."""
    place = {request.key: index for index, request in enumerate(requests)}
    drawn = sorted(policy.rollouts(requests), key=lambda rollout: place[rollout.request.key])
    return grades.graded(drawn)


def _screened(
    policy: TransformersPolicy,
    grades: CompletionGrades,
    trace_map: TraceMap,
    prompted: Sequence[GradedRollout],
    sampling: Sampling,
    seed: int,
) -> list[GradedRollout]:
    screen = TraceScreen(trace_map, THRESHOLD, (0.0, 1.0), seed=seed, shared=0, sampling=sampling)
    pool = list(prompted)
    while requests := screen.next_look(pool):
        pool += _graded(policy, grades, requests)
    return pool


def run_data(path: Path) -> ProxyData:
    """The searched traces of a run, each with what the run has confirmed and its journal's rollouts."""
    run = read_search(path)
    settings: dict[str, Any] = dict(run.manifest.settings)
    sampling = Sampling(**settings["sampling"])
    prompt_format = PromptFormat(
        system_prompt=settings["system_prompt"],
        chat_template=settings["chat_template"],
        suffix=settings["suffix"],
        thinking=settings["thinking"],
    )
    policy = TransformersPolicy(load_model(ModelOptions(settings["model"])), prompt_format)
    found = {
        (f.problem.problem_id, f.candidate.trace, f.candidate.position)
        for f in run.findings
        if f.candidate.unit == "token"
    }
    pools = journal_pools(path, {r.problem_id: r.prompt for r in run.results}, sampling)
    cases = []
    for index, result in enumerate(run.results):
        prompted, screened = pools.get(result.problem_id, ([], []))
        for place, trace in enumerate(result.traces):
            assert trace.details is not None
            records = Trace(result.prompt, trace.completion, trace.token_probs, trace.finish)
            confirmed = {
                c.position: (result.problem_id, place, c.position) in found
                for c in result.candidates
                if c.unit == "token"
                and c.trace == place
                and (abs(c.delta) < run.threshold or (result.problem_id, place, c.position) in found)
            }
            searched = {
                position: (result.problem_id, place, position) in found
                for position, fate in enumerate(trace.details.fates)
                if fate in "vsc"
            }
            along = policy.next_token_probs(result.prompt, trace.completion, sampling)
            trace_map = TraceMap.of(records, trace.success)
            truths = {CONFIRMED: confirmed, SEARCHED: searched}
            cases.append(ProxyCase(index, result.answer, trace_map, along, prompted, screened, truths))
    return ProxyData(policy, sampling, run.threshold, cases, run.resolved.think_end)


def journal_pools(
    path: Path, prompts: Mapping[str, TokenIds], sampling: Sampling
) -> dict[str, tuple[list[GradedRollout], list[GradedRollout]]]:
    """Of each problem the graded rollouts of its prompt, and those with the screen's."""
    pools: dict[str, tuple[list[GradedRollout], list[GradedRollout]]] = {}
    columns = ("problem", "phase", "prefix", "forced", "avoided", "completion", "cut", "success", "count")
    for row in _rows(path / ROLLOUTS, columns):
        if row["problem"] not in prompts or row["phase"] not in ("range", "screen"):
            continue
        prefix = tuple(row["prefix"])
        request = RolloutRequest(
            prompts[row["problem"]], prefix, row["forced"], row["avoided"], row["count"], sampling=sampling
        )
        finish = "budget" if row["cut"] else "end"
        rollout = GradedRollout(
            request, prefix + tuple(row["completion"]), row["count"], row["success"], finish
        )
        prompted, screened = pools.setdefault(row["problem"], ([], []))
        screened.append(rollout)
        if row["phase"] == "range":
            prompted.append(rollout)
    return pools


def _rows(folder: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for table in read_parts(folder, columns):
        yield from table.to_pylist()
