"""The completions that a problem is searched along: drawn for it, or given."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pts.pivot_search.grades import CompletionGrades
from pts.pivot_search.problem_rollouts import Answers, ProblemRollouts, Requests
from pts.pivot_search.values import GradedRollout, TraceMap, shared_length
from pts.policies.protocol import Policy
from pts.records import RolloutRequest, TokenDistribution, TokenIds, Trace
from pts.seeds import derive_seed


def drawn_traces(
    rollouts: ProblemRollouts, n: int, seed: int
) -> Generator[Requests, Answers, list[GradedRollout] | None]:
    """`n` fresh completions, equal ones once; None where spending has ended."""
    answers = yield from rollouts.ask(
        [rollouts.request(i, seed=derive_seed(seed, "trace", i)) for i in range(n)]
    )
    if answers is None:
        return None
    return list({drawn[0].completion: drawn[0] for drawn in answers}.values())


def given_traces(
    rollouts: ProblemRollouts, given: Sequence[TokenIds], budget: int, grades: CompletionGrades
) -> Generator[Requests, Answers, list[GradedRollout] | None]:
    """Given completions with their grades, equal ones once; None where spending has ended.

    Whether the budget cut a full one, only the policy can tell.
    """
    completions = list(dict.fromkeys(given))
    full = [
        rollouts.request("given", i, prefix=completion)
        for i, completion in enumerate(completions)
        if len(completion) >= budget
    ]
    answers = yield full
    if answers is None:
        return None
    cut = {request.prefix: drawn[0].finish for request, drawn in zip(full, answers, strict=True)}
    finishes = [(completion, cut.get(completion, "end")) for completion in completions]
    return [
        GradedRollout(RolloutRequest(rollouts.prompt), ids, 1, grades.success(ids, finish), finish)
        for ids, finish in finishes
    ]


def map_trace(drawn: GradedRollout, distributions: Sequence[TokenDistribution]) -> TraceMap:
    """The map of a completion; `distributions` are the policy's, one a token."""
    probs = tuple(d.prob(token) for d, token in zip(distributions, drawn.completion, strict=True))
    return TraceMap.of(Trace(drawn.request.prompt, drawn.completion, probs, drawn.finish), drawn.success)


def is_whole(given: Trace, policy: Policy, stop: Sequence[str]) -> bool:
    """Whether a given trace is known to be a whole completion: its ids may stop anywhere."""
    if given.finish == "budget":
        return True
    ids = given.completion
    return ids[-1] in policy.end_token_ids or policy.end_of_stop(ids, stop) == len(ids)


def shared_tokens(maps: Sequence[TraceMap], index: int) -> int:
    """How many leading tokens a trace shares with an earlier one of its problem."""
    completion = maps[index].trace.completion
    return max((shared_length(completion, each.trace.completion) for each in maps[:index]), default=0)
