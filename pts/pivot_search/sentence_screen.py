"""Which sentences to confirm: how likely each is to be pivotal, by the screen of the trace's tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pts.pivot_search.posterior import span_chances
from pts.pivot_search.screen import ADVANCE_AT_LIMIT, Dropped, expected_cost
from pts.pivot_search.sentences import Span
from pts.pivot_search.values import GradedRollout, TraceMap, off_trace_counts


@dataclass(frozen=True)
class SentenceScreen:
    """A trace's sentences, sorted into worth confirming and not; no rollout is drawn for that.

    `fates` has what became of each of `spans` [S], by letter (`results.FATE_LETTERS`). `advanced` are those to
    confirm, the likeliest first.
    """

    map: TraceMap
    spans: tuple[Span, ...]
    fates: str
    advanced: tuple[Span, ...]
    _dropped: Mapping[Span, float]

    @classmethod
    def of(
        cls,
        trace_map: TraceMap,
        rollouts: Sequence[GradedRollout],
        spans: tuple[Span, ...],
        threshold: float,
        region: tuple[float, float],
        shared: int,
    ) -> SentenceScreen:
        """Judge the sentences of a trace by all rollouts so far.

        A sentence that the policy writes with probability q changes the value by at most 1 − q (fact 2).
        `region` is the part of the trace to search, by where a sentence begins; one that ends within the first
        `shared` tokens stands in an earlier trace of the same problem too and is left to that.
        """
        chances = span_chances(trace_map, *off_trace_counts(rollouts, trace_map), spans, threshold)
        trace = trace_map.trace
        first, last = (share * len(trace.completion) for share in region)
        letters, likely, dropped = [], {}, {}
        for span, chance in zip(spans, chances.tolist(), strict=True):
            start, end = span
            if end <= shared:
                letters.append("d")
            elif 1.0 - math.prod(trace.token_probs[start:end]) < threshold:
                letters.append("e")
            elif not first <= start < max(last, 1):
                letters.append("o")
            elif chance >= ADVANCE_AT_LIMIT:
                letters.append("u")
                likely[span] = chance
            else:
                letters.append("s")
                dropped[span] = chance
        advanced = tuple(sorted(likely, key=lambda span: (-likely[span], span)))
        return cls(trace_map, spans, "".join(letters), advanced, dropped)

    def dropped(self, rollouts: Sequence[GradedRollout]) -> list[Dropped]:
        """The sentences that could be pivotal and are not advanced, in their order."""
        forks, cost = self.map.forks, expected_cost(self.map, rollouts)
        return [
            Dropped(start, end, chance, float(cost[np.searchsorted(forks, start)]))
            for (start, end), chance in self._dropped.items()
        ]

    def token_fates(self, confirmed: Sequence[Span]) -> str:
        """The fate of each token: that of its sentence, by now."""
        pairs = zip(self.spans, self.fates, strict=True)
        return "".join(("c" if span in confirmed else letter) * (span[1] - span[0]) for span, letter in pairs)
