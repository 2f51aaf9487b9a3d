"""Rows of different lengths must get the logits that one plain pass gives: tried before anything is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from pts.errors import ModelError
from pts.policies.transformers.cache import RowStore
from pts.policies.transformers.forward import forward
from pts.policies.transformers.lengths import undeclared_windows
from pts.policies.transformers.masks import AttentionPlan
from pts.policies.transformers.memory import is_out_of_memory
from pts.policies.transformers.model_cache import keeps_states
from pts.policies.transformers.prefill import PrefixStore
from pts.policies.transformers.prefilled import UNSTEERED
from pts.policies.transformers.row_cache import row_cache

_LENGTHS = (3, 5, 7)
"""Tokens cached for the rows of the check."""
_WINDOW = 4
"""The declared window, or chunk, during the check, in tokens: some of the rows are shorter, others longer."""
_STEPS = 2
"""Steps of the rows where a model keeps states: the second goes on from what the first has made of them."""


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
        _require_no_time_limit(self.model)
        self._compare(self.plan, self.prefixes, _LENGTHS)
        if max(self.plan.window or 0, self.plan.chunk or 0) > _WINDOW:
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
        """Logits after each length and one token more [rows, vocabulary]: by plain passes, and by one step.

        Where the model keeps states, after another step too [steps * rows, vocabulary].
        """
        model, steps = self.model, 1
        if keeps_states(model):
            # And from nothing at all: there the states are zero.
            lengths, steps = (0, *lengths), _STEPS
        ids = [(7919 * index + 11) % self._config.vocab_size for index in range(max(lengths) + steps)]
        inputs = torch.tensor([ids], device=model.device)
        plain = [
            model(input_ids=inputs[:, : length + step], use_cache=False, logits_to_keep=1).logits[:, -1]
            for step in range(1, 1 + steps)
            for length in lengths
        ]
        read = [length for length in lengths if length]
        begun = prefixes.starts([(tuple(ids[:length]), UNSTEERED) for length in reversed(read)])
        store = RowStore(prefixes.layout)
        store.reserve(len(lengths), len(ids) + 1)
        for row, (entry, states) in enumerate(reversed(begun), start=len(lengths) - len(read)):
            store.load(entry.planes, [row], lengths[row])
            store.load_states(states, row)
        cache = row_cache(model, store)
        stepped = []
        for step in range(steps):
            positions = torch.tensor(lengths, device=model.device) + step
            width = max(lengths) + step + 1
            cache.begin_step(positions, width)
            mask = plan.masks(positions, width, model.dtype)
            ids_read = inputs[0, positions][:, None]
            stepped.append(forward(model, ids_read, positions[:, None], cache, mask=mask)[:, -1])
        return torch.cat(plain).float(), torch.cat(stepped).float()


def _require_no_time_limit(model: Any) -> None:
    """Raise ModelError where passes bound a scan's time step: transformers' steps of one token leave that out.

    The two differ by little with short rows, and by more the longer they get: too little for a trial.
    """
    for module in model.modules():
        limit = getattr(module, "time_step_limit", None)
        if limit is not None and tuple(limit) != (0.0, float("inf")):
            raise ModelError(
                f"{model.config.model_type} bounds the time step of its scan to {tuple(limit)} in whole "
                "passes, which transformers leaves out token by token: not supported."
            )


@contextmanager
def _narrowed(config: Any, plan: AttentionPlan) -> Iterator[AttentionPlan]:
    """A plan with a short window or chunk, which the model's configuration has too while the context lasts."""
    declared = {
        name: size
        for name, size in (("sliding_window", plan.window), ("attention_chunk_size", plan.chunk))
        if size is not None and size > _WINDOW
    }
    for name in declared:
        setattr(config, name, _WINDOW)
    try:
        yield replace(
            plan,
            window=_WINDOW if "sliding_window" in declared else plan.window,
            chunk=_WINDOW if "attention_chunk_size" in declared else plan.chunk,
        )
    finally:
        for name, size in declared.items():
            setattr(config, name, size)
