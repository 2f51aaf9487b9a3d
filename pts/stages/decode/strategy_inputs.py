"""The options of strategies, under the names of the command line and of a recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pts.errors import ConfigError
from pts.models.options import DtypeName
from pts.setting_names import setting

AmountText: TypeAlias = str | int | float
"""Tokens or a share of the total, as a user writes it: 64 or 0.4."""


@dataclass(frozen=True)
class StrategyInputs:
    """The options of strategies as texts and numbers; None leaves a strategy its own default.

    Amounts are whole tokens (`64`) or a share of the total (`0.4`). `router` is named as `named_router` takes
    it; `class_budget` has budgets of its classes, NAME=MOST or NAME=LEAST-MOST of thinking. `second_model` is
    what `ModelOptions` takes for `spec`, and `scorer` what `named_scorer` takes. Each of them is explained in
    `pts.decoding.strategy_options.StrategyOptions`. Raises ConfigError for an amount that is none.
    """

    thinking_budget: AmountText | None = None
    min_thinking: AmountText | None = None
    answer_budget: AmountText | None = None
    max_switches: int | None = None
    continuations: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()
    router: str | None = None
    class_budget: tuple[str, ...] = ()
    token_price: float | None = None
    exit_threshold: float | None = None
    exit_step: AmountText | None = None
    trial_tokens: int | None = None
    trial_opening: str | None = None
    scorer: str | None = None
    reject_step: AmountText | None = None
    reject_share: float | None = None
    second_model: str | None = None
    second_revision: str | None = None
    second_dtype: DtypeName | None = None
    escalate_threshold: float | None = None
    escalate_over: Literal["completion", "answer"] | None = None

    def __post_init__(self) -> None:
        for name in _AMOUNTS:
            amount(name.replace("_", "-"), getattr(self, name))
        if self.second_model is None and (self.second_revision or self.second_dtype):
            option = setting("second_revision") if self.second_revision else setting("second_dtype")
            raise ConfigError(f"{option} needs a second model: name it by {setting('second_model')}.")

    def given_parts(self) -> dict[str, str]:
        """The options that were given, as strategies know them (`StrategyEntry.uses`), by their option."""
        return {setting(name): part for name, part in _PARTS.items() if getattr(self, name) not in (None, ())}

    def strategy_settings(self) -> dict[str, object]:
        """All of them, for a manifest; amounts as numbers."""
        words = {name: getattr(self, name) for name in StrategyInputs.__dataclass_fields__}
        return {**words, **{name: amount(name, words[name]) for name in _AMOUNTS}}


_PARTS: Mapping[str, str] = {
    "thinking_budget": "thinking",
    "min_thinking": "least_thinking",
    "answer_budget": "answer",
    "max_switches": "switches",
    "router": "router",
    "class_budget": "budgets",
    "token_price": "router",
    "exit_threshold": "exit_threshold",
    "exit_step": "exit_step",
    "trial_tokens": "trial_tokens",
    "trial_opening": "trial_opening",
    "scorer": "scorer",
    "reject_step": "reject_step",
    "reject_share": "reject_share",
    "second_model": "second",
    "second_revision": "second",
    "second_dtype": "second",
    "escalate_threshold": "escalate_threshold",
    "escalate_over": "escalate_over",
}
"""Each input's part, as the registry of strategies names it."""
_AMOUNTS = ("thinking_budget", "min_thinking", "answer_budget", "exit_step", "reject_step")


def amount(name: str, text: AmountText | None) -> int | float | None:
    """Tokens or a share from a text. Raises ConfigError for anything else."""
    if text is None or (isinstance(text, int) and not isinstance(text, bool)):
        return text
    try:
        found = int(text) if isinstance(text, str) and text.isdigit() else float(text)
    except ValueError:
        found = math.nan
    if math.isnan(found):
        raise ConfigError(
            f"{name} is {text!r}; give whole tokens such as 64, or a share of the total such as 0.4."
        )
    return found
