"""Rows of different lengths must get the logits that one plain pass gives: tried before anything is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from pts.errors import ModelError
from pts.policies.transformers.cache import RowCache, RowStore
from pts.policies.transformers.lengths import undeclared_windows
from pts.policies.transformers.masks import AttentionPlan
from pts.policies.transformers.memory import is_out_of_memory
from pts.policies.transformers.prefill import PrefixStore

_LENGTHS = (3, 5, 7)
"""Tokens cached for the rows of the check."""
_WINDOW = 4
"""The declared window during the check, in tokens: some of the rows are shorter, others longer."""


@dataclass(slots=True)
class RaggedCheck:
    """Tries whether steps over rows of different lengths agree with plain forward passes.

    What a model does with a ready mask, explicit positions and a cache of its own is not declared anywhere, so
    it is tried: a wrong mask or position moves logits by about their own spread, rounding by far less.
    The declared window is made short for the trial, so that it costs a few tokens; windows that only a name in
    the configuration hints at are tried at their own size, once rows can reach it.
    """

    model: Any
    plan: AttentionPlan
    prefixes: PrefixStore
    _windows: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._windows = list(undeclared_windows(self._config))

    def at_start(self) -> None:
        """Try short rows, and a declared window made short. Raises ModelError where the model fails."""
        self._compare(self.plan, self.prefixes, _LENGTHS)
        if self.plan.window is not None and self.plan.window > _WINDOW:
            with _narrowed(self._config, self.plan) as narrow:
                self._compare(narrow, PrefixStore(self.model, 0), _LENGTHS)

    def up_to(self, reach: int) -> None:
        """Try the windows that rows of `reach` tokens go beyond, each once. Raises ModelError as above."""
        while self._windows and self._windows[0] < reach:
            window = self._windows[0]
            lengths = sorted({min(3, window), window - 1, window + 2})
            self._compare(self.plan, PrefixStore(self.model, 0), lengths)
            del self._windows[0]

    @property
    def _config(self) -> Any:
        return self.model.config.get_text_config(decoder=True)

    def _compare(self, plan: AttentionPlan, prefixes: PrefixStore, lengths: Sequence[int]) -> None:
        """Raise ModelError where one step over rows of these lengths fails, or differs from plain passes.

        Memory that runs out says nothing of the model: that error is passed on as it is.
        """
        kind = self.model.config.model_type
        try:
            plain, stepped = self._logits(plan, prefixes, lengths)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            if is_out_of_memory(error):
                raise
            said = " ".join(str(error).split())[:120] or type(error).__name__
            raise ModelError(
                f"{kind} cannot decode rows of different lengths in one batch ({said}): not supported."
            ) from error
        apart, spread = float((stepped - plain).abs().max()), float(plain.std())
        if not apart <= (0.01 if self.model.dtype == torch.float32 else 0.3) * spread:
            raise ModelError(
                f"{kind} does not give rows of {', '.join(map(str, lengths))} tokens in one "
                f"batch the logits that each has alone (they differ by {apart:.3g}, spread "
                f"{spread:.3g}): not supported."
            )

    @torch.inference_mode()
    def _logits(
        self, plan: AttentionPlan, prefixes: PrefixStore, lengths: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits after each length and one token more [rows, vocabulary]: by plain passes, and by one step."""
        model, width = self.model, max(lengths) + 1
        ids = [(7919 * index + 11) % self._config.vocab_size for index in range(width)]
        inputs = torch.tensor([ids], device=model.device)
        plain = torch.cat(
            [
                model(input_ids=inputs[:, : length + 1], use_cache=False, logits_to_keep=1).logits[:, -1]
                for length in lengths
            ]
        )
        entry = prefixes.prefilled(tuple(ids))
        store = RowStore(prefixes.layout)
        store.reserve(len(lengths), width + 1)
        for row, length in enumerate(lengths):
            store.load(entry.planes, [row], length)
        cache = RowCache(store)
        positions = torch.tensor(lengths, device=model.device)
        cache.begin_step(positions, width)
        output = model(
            input_ids=inputs[0, positions][:, None],
            attention_mask=plan.masks(positions, width, model.dtype),
            position_ids=positions[:, None],
            past_key_values=cache,
            use_cache=True,
        )
        return plain.float(), output.logits[:, -1].float()


@contextmanager
def _narrowed(config: Any, plan: AttentionPlan) -> Iterator[AttentionPlan]:
    """A plan with a short window, which the model's own configuration has too while the context lasts."""
    declared = config.sliding_window
    config.sliding_window = _WINDOW
    try:
        yield replace(plan, window=_WINDOW)
    finally:
        config.sliding_window = declared
