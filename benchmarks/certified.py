"""Values of a trace on a real model within certified bounds, by expanding all that is likely (no draw is made).

From each fork every completion that leaves the trace there is followed while its share of the probability is
above a floor; the floor falls until what is not explored moves no effect by more than the width asked for. The
trace's values follow from the forks' off-trace values, backwards from its grade:
V_{i−1} = q_i V_i + (1 − q_i) O_i.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pts.pivot_search import Grade
from pts.policies.transformers import TransformersPolicy
from pts.records import Problem, RolloutRequest, Sampling, TokenIds

UNITS = 10**14
"""What the probability of the root is counted in."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Certified:
    """Lower and upper bounds of V ([length + 1], from the prompt's on) and the middle of those of Δ [length].

    `unexplored` is the largest width of a value's bounds: the probability mass that was not followed.
    """

    low: Floats
    high: Floats
    effects: tuple[float, ...]
    unexplored: float
    nodes: int


def certify(
    policy: TransformersPolicy,
    sampling: Sampling,
    grade: Grade,
    problem: Problem,
    trace: TokenIds,
    success: bool,
    *,
    width: float = 0.007,
    most_nodes: int = 2_000_000,
) -> Certified | None:
    """The trace's values, bounds at most 2 × `width` apart; None where it takes over `most_nodes` rows."""
    prompt = policy.encode(problem)
    along = policy.next_token_probs(prompt, trace, sampling)
    probs = np.array([d.prob(t) for d, t in zip(along, trace, strict=True)])
    before = policy.work.rows_forwarded
    grades: dict[TokenIds, bool] = {}
    bounds = {}
    for position in np.flatnonzero(probs < 1.0)[::-1].tolist():
        least, share = 1e-3, 1.0 - probs[position]
        low, high = 0.0, 1.0
        # What is seldom drawn may stay unknown: over all positions such forks widen a value by `width` at most.
        while high - low > width and share * (high - low) > width / len(trace):
            left = most_nodes - (policy.work.rows_forwarded - before)
            if left <= 0:
                return None
            request = RolloutRequest(
                prompt, trace[:position], avoid=trace[position], n=UNITS, sampling=sampling
            )
            low, high = _off_trace(policy, grade, problem.answer, request, int(least * UNITS), grades)
            least /= 4
        bounds[position] = (low, high)
    lows, highs = np.full(len(trace) + 1, float(success)), np.full(len(trace) + 1, float(success))
    for position in range(len(trace) - 1, -1, -1):
        q = probs[position]
        low, high = bounds.get(position, (0.0, 0.0))
        lows[position] = q * lows[position + 1] + (1 - q) * low
        highs[position] = q * highs[position + 1] + (1 - q) * high
    middle = (lows + highs) / 2
    return Certified(
        lows,
        highs,
        tuple(np.diff(middle).tolist()),
        float((highs - lows).max()),
        policy.work.rows_forwarded - before,
    )


def _off_trace(
    policy: TransformersPolicy,
    grade: Grade,
    answer: str,
    request: RolloutRequest,
    least: int,
    grades: dict[TokenIds, bool],
) -> tuple[float, float]:
    """Bounds on the success of what leaves the trace: what succeeded, and all but what failed."""
    mass = {True: 0, False: 0}
    for rollout in policy.expand([request], least):
        if rollout.completion not in grades:
            ended = rollout.finish == "end"
            grades[rollout.completion] = ended and grade(policy.decode(rollout.completion), answer)
        mass[grades[rollout.completion]] += rollout.count
    return mass[True] / request.n, 1.0 - mass[False] / request.n
