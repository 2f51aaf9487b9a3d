"""The record of a searched trace: what became of each token, and the value that it is believed to have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from pts.pivot_search.confirm import Confirmation
from pts.pivot_search.offsets import text_offsets
from pts.pivot_search.posterior import believed_values
from pts.pivot_search.results import FATE_LETTERS, SearchedTrace, TokenDetails
from pts.pivot_search.screen import TraceScreen
from pts.pivot_search.sentence_screen import SentenceScreen
from pts.pivot_search.values import GradedRollout, off_trace_counts
from pts.records import TokenIds


def searched_trace(
    screen: TraceScreen,
    sentences: SentenceScreen | None,
    confirmations: Sequence[Confirmation],
    rollouts: Sequence[GradedRollout],
    decode: Callable[[TokenIds], str],
    *,
    by_sentence: bool,
) -> SearchedTrace:
    """A trace's record, from its screen and all confirmations of it.

    `rollouts` are the problem's, those of the confirmations aside. `by_sentence` gives a token the fate of its
    sentence.
    """
    trace = screen.map.trace
    if by_sentence and sentences is not None:
        fates = sentences.token_fates([(c.position, c.end) for c in confirmations if c.end is not None])
    else:
        confirmed = {c.position for c in confirmations if c.end is None}
        fates = "".join("c" if i in confirmed else letter for i, letter in enumerate(screen.fates()))
    counts = Counter(FATE_LETTERS[letter] for letter in fates)
    confirming = (rollout for c in confirmations for rollout in (*c.on, *c.off))
    successes, draws = off_trace_counts([*rollouts, *confirming], screen.map)
    believed = believed_values(screen.map, successes, draws)
    offsets = text_offsets(trace.completion, decode)
    return SearchedTrace(
        completion=trace.completion,
        tokens=tuple(decode((token,)) for token in trace.completion),
        token_probs=trace.token_probs,
        finish=trace.finish,
        success=bool(screen.map.final_value),
        **{fate: counts[fate] for fate in FATE_LETTERS.values()},
        details=TokenDetails(fates, offsets, *(tuple(each.round(3).tolist()) for each in believed)),
        sentences=() if sentences is None else sentences.spans,
    )
