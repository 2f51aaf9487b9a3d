"""The values that pass between the floors of the package, and the artifacts' records. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from pts.errors import ConfigError
from pts.packed_ids import packs_completion

if TYPE_CHECKING:
    from pts.policies.guide import Guide

TokenIds: TypeAlias = tuple[int, ...]
Unit: TypeAlias = Literal["token", "sentence"]
"""What is searched, and what a finding is."""
Finish: TypeAlias = Literal["end", "budget"]
"""Why a completion stopped: the model ended it (end token or stop text), or the budget cut it (it fails)."""

SCHEMA_VERSION = 1
MOST_CUT = 0.2
"""Share of completions that a budget may cut before it is said: each of them has failed."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with a reference answer; `metadata` keeps the data set's other fields.

    pts.search("demo", [pts.Problem("1", "What is 12 + 5 - 9 ?", "8")], budget=96)
    """

    id: str
    query: str
    answer: str
    metadata: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are sampled: truncated by temperature, top-k, top-p and min-p, in transformers' order.

    `budget` limits a completion's total new tokens. `top_k=0`, `top_p=1.0` and `min_p=0.0` switch the
    truncation off; `temperature=0.0` is greedy. A completion ends with the token that completes one of the
    texts `stop` in its own text, as it does with an end token: the token belongs to it, the text is read up to
    where the stop text begins. Raises ConfigError for a value outside its range.
    """

    temperature: float = 0.6
    top_k: int = 20
    top_p: float = 0.95
    min_p: float = 0.0
    budget: int = 512
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            raise ConfigError(f"stop is the text {self.stop!r}; it must be a tuple of texts.")
        if "" in self.stop:
            raise ConfigError("a stop text is empty: every completion holds it; leave it out, or give a text.")
        if any("\ufffd" in text for text in self.stop):
            raise ConfigError("a stop text has the character U+FFFD, which stands for bytes that are no text.")
        checks = (
            (self.temperature >= 0, "temperature", self.temperature, "at least 0"),
            (self.top_k >= 0, "top-k", self.top_k, "at least 0 (0 switches it off)"),
            (0 < self.top_p <= 1, "top-p", self.top_p, "in (0, 1] (1 switches it off)"),
            (0 <= self.min_p < 1, "min-p", self.min_p, "in [0, 1) (0 switches it off)"),
            (self.budget >= 1, "budget", self.budget, "at least 1 token"),
        )
        for holds, name, value, wanted in checks:
            if not holds:
                raise ConfigError(f"{name} is {value}; it must be {wanted}.")


DEFAULT_SAMPLING = Sampling()


@dataclass(frozen=True, slots=True)
class TokenDistribution:
    """The policy's next-token distribution after all truncation: `ids` [k] and `probs` [k], most likely first.

    `probs` is float64 and sums to 1; every id not listed has probability 0.
    """

    ids: npt.NDArray[np.int64]
    probs: npt.NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.ids.nbytes + self.probs.nbytes

    @property
    def entropy(self) -> float:
        """Entropy in nats: 0.0 where one token is certain."""
        probs = self.probs[self.probs > 0]
        return max(0.0, float(-(probs * np.log(probs)).sum()))

    def prob(self, token_id: int) -> float:
        """Probability of one token, 0.0 where truncation removed it."""
        hit = np.flatnonzero(self.ids == token_id)
        return float(self.probs[hit[0]]) if hit.size else 0.0


@dataclass(frozen=True, slots=True)
class Trace:
    """One completion as token ids, with the policy's probability `token_probs[i]` of each (same length).

    A trace that the model ended includes its end token or stop text; `finish` is "budget" where the budget cut
    it.
    """

    prompt: TokenIds
    completion: TokenIds
    token_probs: tuple[float, ...]
    finish: Finish


@dataclass(frozen=True, slots=True)
class RolloutRequest:
    """`n` completions from `prompt + prefix`, where `prefix` is the part of the completion so far.

    The first new token is `force` where that is given. With `avoid` it is drawn from the policy without that
    token, renormalised (not both); a sampler whose truncation leaves nothing else gives the likeliest other
    token.
    `sampling` holds the sampler, the budget and the stop texts of these completions.
    `key` is the asker's own name for the request, by which its rollouts are matched. It is unique among the
    requests under way.
    Every draw comes from a stream of `seed` alone: a request has the same result whatever its key and whatever
    shares its batch. `variant` says which of the policy's steerings completes it (0 is the model as it is); it
    is no part of the stream, so variants share their random numbers.
    `guide` makes what else decides each completion's tokens (its `advance` has heard of the prefix already).
    With `resumed` the stream goes on where it was after the prefix, as if the same request without one had
    drawn it: a completion that was stopped goes on to what it would have been.
    """

    prompt: TokenIds
    prefix: TokenIds = ()
    force: int | None = None
    avoid: int | None = None
    n: int = 1
    seed: int = 0
    variant: int = 0
    guide: Callable[[], Guide] | None = None
    resumed: bool = False
    key: str = ""
    sampling: Sampling = DEFAULT_SAMPLING


@packs_completion
@dataclass(frozen=True)
class Rollout:
    """`count` equal completions drawn for `request`; `completion` holds the prefix and the new tokens.

    Over the rollouts of one request the counts add up to `request.n`.
    """

    request: RolloutRequest
    completion: TokenIds
    count: int
    finish: Finish


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
class Completions:
    """How many completions were drawn, each counted as often as it was drawn, and how many the budget cut."""

    drawn: int = 0
    cut: int = 0

    @property
    def cut_share(self) -> float | None:
        """The share that the budget cut; None where none was drawn."""
        return self.cut / self.drawn if self.drawn else None

    def to_json(self) -> dict[str, int | float | None]:
        """Both numbers and the share, for machines."""
        return {"drawn": self.drawn, "cut": self.cut, "cut_share": self.cut_share}

    def __add__(self, more: Completions) -> Completions:
        """Both together."""
        return Completions(self.drawn + more.drawn, self.cut + more.cut)


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
