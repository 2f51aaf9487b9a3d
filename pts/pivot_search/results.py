"""What the search of one problem found: its traces with each token's fate, its candidates, what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pts.records import Completions, Finish, TokenIds

Unit: TypeAlias = Literal["token", "sentence"]
"""What is searched, and what a finding is."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another first token at a pivot: its policy probability, its measured value and the rollouts behind it."""

    token_id: int
    token: str
    prob: float
    value: float
    n: int


@dataclass(frozen=True, slots=True)
class LaterSentence:
    """A later sentence of the trace, and how many rollouts of a confirmation wrote one like it.

    `position` is its first token and `text` its text. `kept_written` of the `kept_n` rollouts that kept the
    confirmed sentence wrote it, and `left_written` of the `left_n` that left it.
    """

    position: int
    text: str
    kept_written: int
    kept_n: int
    left_written: int
    left_n: int


@dataclass(frozen=True, slots=True)
class SentenceLink:
    """A later sentence of the trace that is written more or less often where a reported one is kept.

    `position` is its first token. `written` is the share of the rollouts with the reported sentence that wrote
    the later one, `written_without` that of the rollouts that left it; `low` to `high` is an interval for their
    difference. `p_value` is Fisher's, for no difference, and `q_value` is Benjamini and Hochberg's over all
    links that the run tested.
    """

    text: str
    position: int
    written: float
    written_without: float
    low: float
    high: float
    p_value: float
    q_value: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that entered the confirmation, with what fresh rollouts alone say of it.

    `trace` indexes the problem's traces and `position` the completion's tokens, from 0. `value` is V̂ (the
    token taken), `off_trace_value` Ô (the token avoided), `delta` (1 − token_prob)(V̂ − Ô). `p_value` is for
    |Δ| ≤ threshold/2, over all looks taken, and 1.0 where |delta| is below the threshold; `looks` is how many
    looks were planned for it, by which intervals must be widened. `audit_weight` is None for what the screen
    advanced; for a token that the audit drew from those dropped, one over the chance with which it was drawn.
    `test` names the test that gave the p-value: earlier versions multiplied that of the last look by the number
    of looks ("bonferroni"). `entropy` is that of the sampler's distribution of the token, in nats; None for a
    sentence, and in a run of an earlier version.

    A sentence has an `end`, one past its last token. Then `token` is its text, `token_prob` the probability of
    all its tokens, `value` the value after it, and `off_trace_value` that where the trace is left within it. Of
    the rollouts that left it, `different_n` wrote a different sentence, and `different_successes` succeeded.
    `later` are the trace's sentences after it, where |delta| reaches the threshold.
    """

    trace: int
    position: int
    token_id: int
    token: str
    token_prob: float
    value: float
    value_successes: int
    value_n: int
    off_trace_value: float
    off_trace_successes: int
    off_trace_n: int
    delta: float
    p_value: float
    looks: int
    alternatives: tuple[Alternative, ...] = ()
    audit_weight: float | None = None
    end: int | None = None
    test: str = "bonferroni"
    different_successes: int = 0
    different_n: int = 0
    entropy: float | None = None
    later: tuple[LaterSentence, ...] = ()

    @property
    def unit(self) -> Unit:
        """Whether it is a token or a sentence."""
        return "token" if self.end is None else "sentence"

    @property
    def value_before(self) -> float:
        """V_{i−1} = q·V + (1 − q)·O, the value just before the token."""
        return self.token_prob * self.value + (1 - self.token_prob) * self.off_trace_value


Fate: TypeAlias = Literal[
    "excluded_exact",
    "excluded_value",
    "screened_out",
    "unresolved",
    "out_of_region",
    "shared",
    "confirmed",
]
"""What became of a trace's token in a search; see `SearchedTrace`."""
FATE_LETTERS: Mapping[str, Fate] = {
    "e": "excluded_exact",
    "v": "excluded_value",
    "s": "screened_out",
    "u": "unresolved",
    "o": "out_of_region",
    "d": "shared",
    "c": "confirmed",
}
"""The letter of each fate in `TokenDetails.fates`."""


@dataclass(frozen=True, slots=True)
class TokenDetails:
    """What a report says of each token of a trace: one letter or one number a token.

    `fates` has a letter of `FATE_LETTERS` for each. `offsets` are where each token's text begins in the
    completion's text. `values` are what the search believed of the value after each token at its end, by all
    its rollouts, and `values_low` to `values_high` the middle 90% of that belief. Confirmed figures are the
    candidates' alone.
    """

    fates: str
    offsets: tuple[int, ...]
    values: tuple[float, ...]
    values_low: tuple[float, ...]
    values_high: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SearchedTrace:
    """One trace after the search, with what became of each of its tokens.

    Every token is in exactly one of the counts: `excluded_exact` (1 − q < threshold, no rollout),
    `excluded_value` (by the bound that knows V, no rollout of its own), `screened_out` (dropped on rollouts),
    `unresolved` (the spending limit came first), `out_of_region`, `shared` (an earlier trace of the problem
    begins with the same tokens and answers for them), and `confirmed` (entered the confirmation). In a search
    of sentences a token has the fate of its sentence. `details` are None in a run of an earlier version.
    `sentences` are the spans of tokens that were searched as sentences, empty where none were.
    """

    completion: TokenIds
    tokens: tuple[str, ...]
    token_probs: tuple[float, ...]
    finish: Finish
    success: bool
    excluded_exact: int
    excluded_value: int
    screened_out: int
    unresolved: int
    out_of_region: int
    shared: int
    confirmed: int
    details: TokenDetails | None = None
    sentences: tuple[tuple[int, int], ...] = ()

    def fate(self, position: int) -> Fate | None:
        """What became of one token; None where the run does not say."""
        return None if self.details is None else FATE_LETTERS[self.details.fates[position]]


@dataclass(frozen=True, slots=True)
class AuditDraw:
    """What a problem's audit drew from: the `dropped` tokens of its screen.

    Of those that were not certain to be drawn about `believed` are pivotal, by the screen's belief and an
    allowance for its errors. `weight` is one over the chance with which such a one was drawn, on average.
    """

    dropped: int
    believed: float
    weight: float


ProblemStatus: TypeAlias = Literal["searched", "out_of_range", "spent"]


@dataclass(frozen=True, slots=True)
class ProblemResult:
    """What the search of one problem found: a line of the run's shard.

    `status` is "out_of_range" where the prompt's own value left no room to search, "spent" where the spending
    limit came first. `tokens_*` count generated tokens of the rollouts delivered, by phase, and `completions`
    the rollouts themselves with those that the budget cut; None in a run of a version that did not count them.
    `audit` says from what the audit drew, None where there was none.
    """

    problem_id: str
    query: str
    answer: str
    seed: int
    status: ProblemStatus
    prompt: TokenIds
    prompt_value: float
    prompt_n: int
    traces: tuple[SearchedTrace, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    tokens_range: int = 0
    tokens_traces: int = 0
    tokens_screen: int = 0
    tokens_confirm: int = 0
    completions: Mapping[str, Completions] | None = None
    tokens_audit: int = 0
    audit: AuditDraw | None = None

    @property
    def tokens_generated(self) -> int:
        """Generated tokens of the rollouts delivered, over all phases."""
        screening = self.tokens_range + self.tokens_traces + self.tokens_screen
        return screening + self.tokens_confirm + self.tokens_audit
