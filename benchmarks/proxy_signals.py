"""What cheap signals say of a trace's forks: the sampler's, the text's, a probe's and a forced answer's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from branched_pass import Branch, BranchedReader
from proxy_cases import ProxyCase, ProxyData
from success_probe import Readings, SuccessProbe

from pts.decoding.early_exit import OPENING
from pts.pivot_search.posterior import believe, believed_values
from pts.pivot_search.values import GradedRollout, off_trace_counts
from pts.records import TokenDistribution, TokenIds

Floats = npt.NDArray[np.float64]

TOP_ENTROPY = 0.2
"""Share of tokens that count as forking (Wang et al. 2025, arXiv 2506.01939): those of the highest entropy."""
OPERATORS = frozenset("+-*/=×÷%^<>")
SENTENCE_ENDS = (".", "!", "?", "\n")
POSITIONS_EACH = 2
"""Prefixes of a rollout that the probe is fitted on."""


def entropy(distribution: TokenDistribution) -> float:
    """Of the sampler's distribution, in nats."""
    probs = distribution.probs
    return float(-(probs * np.log(probs)).sum())


def token_class(token: str, before: str) -> str:
    """Digit, operator, think tag, first word of a sentence, other word, or other mark."""
    text = token.strip()
    if text in ("<think>", "</think>"):
        return "think tag"
    if any(character.isdigit() for character in text):
        return "digit"
    if text and all(character in OPERATORS for character in text):
        return "operator"
    if any(character.isalpha() for character in text):
        starts = not before.strip() or before.rstrip(" ").endswith(SENTENCE_ENDS)
        return "first of sentence" if starts else "word"
    return "mark"


def free_signals(case: ProxyCase, data: ProxyData, least_entropy: float) -> dict[str, Floats]:
    """Signals that cost no forward pass beyond the trace's own, by fork [F]."""
    forks = case.map.forks
    entropies = np.array([entropy(case.distributions[k]) for k in forks])
    room = case.map.most_effect
    signals = {
        "1 - q": room,
        "entropy": entropies,
        "forking token (top 20% entropy)": (entropies >= least_entropy).astype(float),
    }
    for name, pool in (("prompt's rollouts", case.prompted), ("screen's rollouts", case.screened)):
        counts = off_trace_counts(pool, case.map)
        mean, _, _ = believed_values(case.map, *counts)
        value = mean[forks]
        signals[f"fact 3's bound, {name}"] = room * np.maximum(value, 1 - value)
        signals[f"screen's belief, {name}"] = believe(case.map, *counts, data.threshold).pivotal
    return signals


def classes(case: ProxyCase, data: ProxyData) -> list[str]:
    """The token class of each fork."""
    decode = data.policy.decode
    texts = [decode((token,)) for token in case.completion]
    return [token_class(texts[k], texts[k - 1] if k else "") for k in case.map.forks]


@dataclass(frozen=True)
class ForkStates:
    """Residual streams at a trace's forks: before the token and after it [F, layers, hidden].

    `others` [F][alternatives, layers, hidden] are those after each other first token, `probs` their
    probabilities.
    """

    before: npt.NDArray[np.float32]
    after: npt.NDArray[np.float32]
    others: Sequence[npt.NDArray[np.float32]]
    probs: Sequence[Floats]


def fork_states(case: ProxyCase, reader: BranchedReader) -> ForkStates:
    """One pass over the trace and every other first token at every fork."""
    start = len(case.prompt)
    branches, probs = [], []
    for k in case.map.forks.tolist():
        distribution = case.distributions[k]
        other = distribution.ids != case.completion[k]
        probs.append(distribution.probs[other])
        branches += [Branch(start + k, (int(token),)) for token in distribution.ids[other]]
    reading = reader.read(case.prompt + case.completion, branches)
    flat = [branch[0].numpy() for branch in reading.branches]
    ends = np.cumsum([len(each) for each in probs])
    others = [
        np.array(flat[end - len(each) : end]).reshape(len(each), *reading.trunk.shape[1:])
        for end, each in zip(ends, probs, strict=True)
    ]
    trunk = reading.trunk.numpy()
    forks = case.map.forks
    return ForkStates(trunk[start + forks - 1], trunk[start + forks], others, probs)


def probe_signals(states: ForkStates, q: Floats, probe: SuccessProbe) -> dict[str, Floats]:
    """What the probe's value says of each fork: its jump over the token, and how alternatives differ."""
    before, after = probe.value(states.before), probe.value(states.after)
    effect, spread = np.zeros(len(q)), np.zeros(len(q))
    for k, (others, probs) in enumerate(zip(states.others, states.probs, strict=True)):
        if not len(probs):
            continue
        values = probe.value(others)
        effect[k] = (1 - q[k]) * abs(after[k] - np.average(values, weights=probs))
        weights, all_values = np.append(probs, q[k]), np.append(values, after[k])
        mean = np.average(all_values, weights=weights)
        spread[k] = math.sqrt(np.average((all_values - mean) ** 2, weights=weights))
    return {
        "probe: jump over the token": np.abs(after - before),
        "probe: (1 - q) |V - O|": effect,
        "probe: spread over first tokens": spread,
    }


def forced_answers(case: ProxyCase, data: ProxyData, reader: BranchedReader) -> Floats:
    """|difference| of P(the reference, if an answer is forced) after and before each fork's token [F].

    Exact, from one pass: the cue and the reference are put after each prefix, and what follows must not go on
    with the number. 0 once the thinking has ended.
    """
    policy, closed = data.policy, data.think_end or ""
    cue = policy.encode_completion(closed + OPENING)
    # A number may be spelled otherwise after the cue than alone.
    answer = policy.encode_completion(f"{closed}{OPENING} {case.answer}")[len(cue) :]
    ended = _thought_tokens(case.completion, policy.encode_completion(closed))
    places = sorted({p for k in case.map.forks.tolist() for p in (k, k + 1) if p <= ended})
    branches = [Branch(len(case.prompt) + place, cue + answer) for place in places]
    reading = reader.read(case.prompt + case.completion, branches, temperature=data.sampling.temperature)
    value = {}
    for place, log_probs, last in zip(places, reading.log_probs, reading.next_logits, strict=True):
        goes_on = float(last.softmax(-1)[data.digits].sum())
        value[place] = math.exp(float(log_probs[len(cue) - 1 :].sum())) * (1 - goes_on)
    forks = case.map.forks.tolist()
    return np.array([abs(value[k + 1] - value[k]) if k + 1 in value else 0.0 for k in forks])


def _thought_tokens(completion: TokenIds, think_end: TokenIds) -> int:
    """How many tokens come before the end of the thinking; all but the last where it has none."""
    size = len(think_end)
    ends = (place for place in range(len(completion)) if size and completion[place : place + size] == think_end)
    return next(ends, len(completion) - 1)


def probe_readings(
    rollouts: Sequence[tuple[int, GradedRollout]], reader: BranchedReader, seed: int
) -> Readings:
    """Residual streams at a few prefixes of each graded rollout, by problem."""
    rng = np.random.default_rng(seed)
    states, success, weight, problem = [], [], [], []
    for index, rollout in rollouts:
        prompt, completion = rollout.request.prompt, rollout.completion
        first = len(rollout.request.prefix)
        trunk = reader.read(prompt + completion, []).trunk.numpy()
        size = min(POSITIONS_EACH, len(completion) - first)
        for place in rng.choice(np.arange(first, len(completion)), size=size, replace=False):
            states.append(trunk[len(prompt) + place])
            success.append(rollout.success)
            weight.append(rollout.count)
            problem.append(index)
    return Readings(np.array(states), np.array(success), np.array(weight, dtype=float), np.array(problem))
