"""Are the first tokens that the policy draws distributed as its next-token probabilities say?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2, ncx2

from pts.records import TokenDistribution, TokenIds
from pts.verification.report import CheckResult, judged, skipped
from pts.verification.subject import Subject

NAME = "first tokens"
ALARM = 1e-4
"""The false-alarm rate: how often a policy that is right fails this check."""
_A_TRACE = 3
"""Prefixes of one trace at most."""
_EXPECTED = 5.0
"""Draws that a cell of the test expects at least; rarer tokens are counted together."""
_ROUNDING = 0.02
"""Chi-square divergence of two 16-bit passes over the same tokens that is put down to rounding."""


@dataclass(frozen=True, slots=True)
class Goodness:
    """Pearson's statistic for the draws at one prefix, its degrees of freedom, and draws of probability 0."""

    statistic: float
    freedom: int
    outside: int


def check_first_tokens(subject: Subject, prefixes: int) -> CheckResult:
    """Draw first tokens at the `prefixes` most open prefixes of sampled traces, and test them by chi-square.

    In float32 the draws are tested against the distribution of the pass over the whole trace. In 16 bits that
    pass rounds otherwise than a step: then the steps' own probabilities are taken (and compared with the pass
    by `check_steps`), or, of an engine that does not give them, a divergence of 0.02 a prefix is allowed. The
    p-value is Bonferroni's over the prefixes and over their sum.
    """
    places = open_prefixes(subject, prefixes)
    if not places:
        return skipped(NAME, "the sampler leaves no choice at any prefix that was tried")
    found = [_goodness(subject, prompt, prefix, distribution) for prompt, prefix, distribution in places]
    stepwise = not subject.exact and subject.steerable is not None
    allowed = 0.0 if subject.exact or stepwise else _ROUNDING * subject.draws
    tested = [one for one in found if one.freedom > 0]
    outside = sum(one.outside for one in found)
    if not tested:
        return skipped(NAME, "every prefix that was tried leaves one likely token")
    single = min(_p_value(one.statistic, one.freedom, allowed) for one in tested) * len(tested)
    freedom, statistic = sum(one.freedom for one in tested), sum(one.statistic for one in tested)
    together = _p_value(statistic, freedom, allowed * len(tested))
    p_value = min(1.0, 2 * min(single, together))
    figures = (
        f"chi-square {statistic:.1f} on {freedom} degrees of freedom over {len(tested)} prefixes x "
        f"{subject.draws:,} draws, p = {p_value:.2g} (fails below {ALARM:g}); {outside} draws of probability 0"
    )
    edge = 0 if subject.exact else 0.01 * subject.draws * len(found)
    return judged(NAME, p_value >= ALARM and outside <= edge, figures)


def open_prefixes(subject: Subject, count: int) -> list[tuple[TokenIds, TokenIds, TokenDistribution]]:
    """The prefixes of sampled traces whose next token has the highest entropy: at most three a trace."""
    requests = [
        subject.request(prompt, seed=subject.seed + place) for place, prompt in enumerate(subject.prompts)
    ]
    found = []
    for request, completion in zip(requests, subject.one_each(requests), strict=True):
        along = subject.policy.next_token_probs(request.prompt, completion, subject.sampling)
        places = [(along[place].entropy, place) for place in range(len(completion))]
        for entropy, place in sorted(places, reverse=True)[:_A_TRACE]:
            if len(along[place].ids) > 1:
                found.append((entropy, request.prompt, completion[:place], along[place]))
    found.sort(key=lambda entry: -entry[0])
    return [entry[1:] for entry in found[:count]]


def _goodness(
    subject: Subject, prompt: TokenIds, prefix: TokenIds, distribution: TokenDistribution
) -> Goodness:
    """Draw first tokens after a prefix and compare them with its distribution."""
    one_more = replace(subject.sampling, budget=len(prefix) + 1)
    request = subject.request(prompt, prefix, n=subject.draws, sampling=one_more)
    drawn: Counter[int] = Counter()
    if subject.exact or subject.steerable is None:
        for rollout in subject.completed([request])[0]:
            drawn[rollout.completion[len(prefix)]] += rollout.count
        return goodness(drawn, distribution)
    stepped: dict[int, float] = {}
    for finished in subject.steerable.finished([request]):
        token = finished.rollout.completion[len(prefix)]
        drawn[token] += finished.rollout.count
        stepped[token] = finished.new_probs[0]
    tokens = sorted(stepped, key=lambda token: -stepped[token])
    probs = np.array([stepped[token] for token in tokens])
    # What was not drawn has the rest; as a token of no id.
    rest = max(0.0, 1.0 - float(probs.sum()))
    return goodness(drawn, TokenDistribution(np.array([*tokens, -1]), np.array([*probs, rest])))


def goodness(drawn: Counter[int], distribution: TokenDistribution) -> Goodness:
    """Pearson's chi-square of counts of tokens; tokens with fewer than 5 expected draws are one cell."""
    total = drawn.total()
    expected = distribution.probs * total
    counts = np.array([drawn[token] for token in distribution.ids.tolist()], dtype=np.float64)
    outside = total - int(counts.sum())
    expected, counts = _pooled(expected, counts)
    return Goodness(float(((counts - expected) ** 2 / expected).sum()), len(expected) - 1, outside)


def _pooled(
    expected: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Cells with enough expected draws as they are, the others together, and with the rarest where too few."""
    order = np.argsort(-expected)
    expected, counts = expected[order], counts[order]
    kept = max(1, int((expected >= _EXPECTED).sum()))
    rest = float(expected[kept:].sum()), float(counts[kept:].sum())
    expected, counts = expected[:kept].copy(), counts[:kept].copy()
    if rest[0] >= _EXPECTED:
        return np.append(expected, rest[0]), np.append(counts, rest[1])
    expected[-1] += rest[0]
    counts[-1] += rest[1]
    return expected, counts


def _p_value(statistic: float, freedom: int, allowed: float) -> float:
    """The chance of a statistic as large, where the divergence is at most what is allowed (in draws)."""
    if allowed > 0:
        return float(ncx2.sf(statistic, freedom, allowed))
    return float(chi2.sf(statistic, freedom))
