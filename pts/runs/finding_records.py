"""The records of findings that a search writes and publishes: pivotal tokens and sentences."""

from __future__ import annotations

from dataclasses import dataclass

from pts.pivot_search.results import Alternative, SentenceLink, Unit
from pts.records import SCHEMA_VERSION, TokenIds

_CONTEXT = 60
"""Characters of the text before a token that its line shows."""


@dataclass(frozen=True, slots=True)
class PivotalToken:
    """A pivotal token that a search reports. Field names follow existing pivotal-token data sets.

    `prob_before` and `prob_after` are the probability of success before and after the token, `prob_delta` their
    difference Δ; all three come from the confirmation alone. `ci_low` and `ci_high` bound Δ, at a level that
    allows for reporting only large effects. `q_value` is Benjamini–Hochberg's. `token_prob` is the probability
    with which the sampler takes the token. `pivot_context` is the text before it, `context_token_ids` the same
    as ids. `alternatives` are the other tokens drawn in its place, with their success.

        for token in pts.load_run("runs/demo").findings:
            print(token.pivot_token, token.prob_delta, (token.ci_low, token.ci_high))
    """

    model_id: str
    query: str
    pivot_context: str
    pivot_token: str
    pivot_token_id: int
    prob_before: float
    prob_after: float
    prob_delta: float
    is_positive: bool
    task_type: str
    dataset_id: str
    dataset_item_id: str
    timestamp: str
    context_token_ids: TokenIds
    prompt_length: int
    trace: int
    position: int
    token_prob: float
    off_trace_prob: float
    ci_low: float
    ci_high: float
    p_value: float
    q_value: float
    n_rollouts: int
    alternatives: tuple[Alternative, ...]
    tokens_generated: int
    seed: int
    schema_version: int = SCHEMA_VERSION

    def __str__(self) -> str:
        """The token in its context, its effect with the interval, and where it stands, in one line."""
        before = " ".join(self.pivot_context[-_CONTEXT:].split())
        return (
            f"{self.prob_delta:+.2f} ({self.ci_low:+.2f} to {self.ci_high:+.2f})  …{before} "
            f"«{self.pivot_token.strip()}»  ({self._where} {self.position} of {self.dataset_item_id})"
        )

    @property
    def _where(self) -> str:
        return "token"


@dataclass(frozen=True, slots=True)
class PivotalSentence(PivotalToken):
    """A sentence that a search of sentences reports, with the fields of a pivotal token and a few more.

    `pivot_token` is its text, `token_ids` the same as ids, `end` the token after its last, and `token_prob` the
    probability with which the sampler writes all of it. `prob_after` is the probability of success after the
    sentence, and `off_trace_prob` that where the sampler leaves it somewhere. `pivot_token_id` is its first
    token's id, and there are no `alternatives`.

    `prob_different` is the probability of success where the sampler writes a different sentence in its place,
    from `different_n` rollouts, and `different_delta` is `prob_after` less that, with an interval as for Δ.
    They are None where no rollout wrote a different one.

    `function` is the reasoning pattern that its words speak for (`pts.lexicon`). `links` are later sentences of
    the trace that are written more or less often where this one is kept.
    """

    end: int = 0
    token_ids: TokenIds = ()
    unit: Unit = "sentence"
    prob_different: float | None = None
    different_n: int = 0
    different_delta: float | None = None
    different_low: float | None = None
    different_high: float | None = None
    function: str = ""
    links: tuple[SentenceLink, ...] = ()

    @property
    def _where(self) -> str:
        return "sentence at token"
