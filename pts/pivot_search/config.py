"""What a search is told: thresholds, ranges, regions and spending limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from pts.errors import ConfigError
from pts.records import DEFAULT_SAMPLING, Sampling
from pts.setting_names import setting

Grade: TypeAlias = Callable[[str, str], bool]
"""(completion text, reference answer) → success."""

SearchUnit: TypeAlias = Literal["token", "sentence", "both"]
"""What is searched: tokens, sentences, or both on the same traces from the same rollouts."""
SentenceMeasure: TypeAlias = Literal["words", "embedding"]
"""By what two sentences are told to be different: the words they share, or the model's own embeddings."""
Phase: TypeAlias = Literal["range", "traces", "screen", "confirm", "audit"]


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """How pivotal tokens are searched for. Raises ConfigError for a value outside its range.

    `threshold` is τ, the least |Δ| of a finding; `fdr` the share of the reported that may have |Δ| ≤ τ/2;
    `value_range` the prompt values that are worth searching; `traces` how many completions per problem;
    `region` restricts the search to a part of each trace, as (first, last) fractions of its length;
    `audit` is the tokens for fresh rollouts at tokens that the screen dropped, as a share of a problem's tokens
    before it (0 for none);
    `max_tokens` limits the generated tokens of the whole run; `sampling` draws the traces and all rollouts;
    `unit` is what is searched; `different` says by what a sentence counts as another one.
    """

    threshold: float = 0.2
    fdr: float = 0.05
    value_range: tuple[float, float] = (0.2, 0.8)
    traces: int = 2
    region: tuple[float, float] = (0.0, 1.0)
    max_tokens: int | None = None
    seed: int = 0
    sampling: Sampling = DEFAULT_SAMPLING
    audit: float = 0.05
    unit: SearchUnit = "token"
    different: SentenceMeasure = "words"

    def __post_init__(self) -> None:
        low, high = self.value_range
        first, last = self.region
        checks = (
            (0 < self.threshold <= 1, f"threshold is {self.threshold}; it must be in (0, 1]."),
            (0 < self.fdr < 1, f"fdr is {self.fdr}; it must be in (0, 1)."),
            (0 <= low < high <= 1, f"range is {low} to {high}; it must be two rising numbers from 0 to 1."),
            (0 <= self.audit <= 1, f"audit is {self.audit}; it must be in [0, 1]: a share, not a percentage."),
            (
                self.unit in get_args(SearchUnit),
                f"unit is {self.unit}; it must be one of {', '.join(get_args(SearchUnit))}.",
            ),
            (
                self.different in get_args(SentenceMeasure),
                f"different is {self.different}; it must be one of {', '.join(get_args(SentenceMeasure))}.",
            ),
            (
                self.different == "words" or self.unit != "token",
                f"{setting('different')} compares sentences, and {setting('unit', 'token')} searches none: "
                f"give {setting('unit', 'sentence')} or {setting('unit', 'both')}.",
            ),
            (self.traces >= 1, f"traces is {self.traces}; it must be at least 1."),
            (0 <= first < last <= 1, f"region is {first}–{last}; it must be two rising fractions in [0, 1]."),
            (
                self.max_tokens is None or self.max_tokens >= 1,
                f"max-tokens is {self.max_tokens}; it must be at least 1.",
            ),
        )
        for holds, message in checks:
            if not holds:
                raise ConfigError(message)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a search is: generated tokens, problems done and under way, and where the oldest of those is.

    `problems` is how many there are in all, None where that is not known; `tokens_in_flight` are those of the
    problems under way.
    """

    tokens_generated: int
    problems_done: int
    candidates_confirmed: int
    phase: Phase
    problem_id: str
    in_flight: int = 0
    tokens_in_flight: int = 0
    problems: int | None = None
