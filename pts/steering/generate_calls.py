"""Hearing from a model's `generate` what its prompt is, and before each of its passes what will be read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from pts.errors import ConfigError, ModelError
from pts.steering.passes import Passes, Text

_BATCHED = ("generate_batch", "init_continuous_batching")


class GenerateCalls:
    """Stands in for a model's `generate` and what it prepares its passes with, until `remove`.

    `rows` says which rows' variants are set, None for all alike; `steers` whether any row is steered.
    """

    def __init__(self, model: Any, passes: Passes, rows: Callable[[], Any], steers: Callable[[], bool]) -> None:
        self._model, self._passes, self._rows, self._steers = model, passes, rows, steers
        self._before: dict[str, Any] = {}

    def install(self) -> None:
        """Put the stand-ins on the model itself, not on its class."""
        makers: dict[str, Callable[[Any], Any]] = dict.fromkeys(_BATCHED, _refused_batch)
        makers |= {"generate": self._generate, "prepare_inputs_for_generation": self._prepare}
        for name, make in makers.items():
            original = getattr(self._model, name, None)
            if original is not None:
                self._set(name, functools.wraps(original)(make(original)))
        if hasattr(self._model, "_valid_auto_compile_criteria"):
            # A compiled pass goes by hooks.
            self._set("_valid_auto_compile_criteria", lambda *_args, **_kwargs: False)

    def remove(self) -> None:
        """Put back what was there."""
        while self._before:
            name, before = self._before.popitem()
            if before is None:
                delattr(self._model, name)
            else:
                setattr(self._model, name, before)

    def _set(self, name: str, stand_in: Any) -> None:
        self._before[name] = vars(self._model).get(name)
        setattr(self._model, name, stand_in)

    def _prepare(self, original: Any) -> Any:
        def prepare(input_ids: Any, *args: Any, **kwargs: Any) -> Any:
            made = original(input_ids, *args, **kwargs)
            self._passes.expect(int(input_ids.shape[1]))
            return made

        return prepare

    def _generate(self, original: Any) -> Any:
        def generate(*args: Any, **kwargs: Any) -> Any:
            rows, width = _given(args, kwargs)
            self._require_followable(args, kwargs)
            self._passes.go_on(kwargs.get("past_key_values"))
            text = self._passes.begin_call(rows, width)
            try:
                written = original(*args, **kwargs)
            finally:
                self._passes.end_call()
            if text.counted:
                self._require_reached(text, written, width)
            return written

        return generate

    def _require_followable(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise ConfigError for a mode in which rows or tokens cannot be followed."""
        config = kwargs.get("generation_config") or (args[1] if len(args) > 1 else None)
        config = getattr(self._model, "generation_config", None) if config is None else config

        def option(name: str) -> Any:
            return kwargs[name] if kwargs.get(name) is not None else getattr(config, name, None)

        if option("cache_implementation") == "paged":
            raise ConfigError("steer() cannot follow a paged cache: leave out cache_implementation='paged'.")
        if option("token_healing"):
            raise ConfigError("steer() cannot follow token healing, which rewrites the prompt: leave it out.")
        drafts = kwargs.get("assistant_model") is not None or option("prompt_lookup_num_tokens")
        if drafts and self._passes.holds(kwargs.get("past_key_values")):
            raise ConfigError(
                "with drafts transformers reads the prompt again behind what a cache holds: give an empty one."
            )
        variants, beams = self._rows(), option("num_beams") or 1
        if variants is None or beams == 1:
            return
        groups = [set(variants[at : at + beams]) for at in range(0, len(variants), beams)]
        if any(len(group) > 1 for group in groups) and not self._passes.depth:
            raise ConfigError(
                f"beam search moves texts between the {beams} rows of a prompt: give them one variant."
            )

    def _require_reached(self, text: Text, written: Any, width: int) -> None:
        """Count what was written; raise ModelError where tokens were read and none of them was steered."""
        sequences = getattr(written, "sequences", written)
        shape: Sequence[int] = getattr(sequences, "shape", ())
        if len(shape) != 2:
            return
        new = int(shape[1]) - width
        if self._passes.prompt_tokens is None:
            text.tally.cut(new - 1)
        if new > 1 and not text.reached and self._steers():
            raise ModelError(
                f"generate wrote {new} tokens and none of the positions was steered: this mode of "
                f"{type(self._model).__name__} does not call the model in a way that steer() can follow."
            )


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int]:
    """Rows and columns of the ids that `generate` was given, 0 columns for embeddings alone."""
    ids = args[0] if args else kwargs.get("inputs")
    ids = kwargs.get("input_ids") if ids is None else ids
    embeds = kwargs.get("inputs_embeds")
    if ids is not None:
        shape: Sequence[int] = getattr(ids, "shape", ())
        return (int(shape[0]), int(shape[1])) if len(shape) > 1 else (1, 1)
    return (1, 1) if embeds is None else (int(embeds.shape[0]), 0)


def _refused_batch(_original: Any) -> Any:
    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise ConfigError("steer() cannot follow continuous batching: call generate, or use pts decode.")

    return refuse
