"""Answering questions: the inputs of `pts decode`, and the decoder that they describe."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pts.errors import ConfigError
from pts.models.options import DtypeName, ModelOptions
from pts.records import Sampling
from pts.stages.search_inputs import DEFAULT_BUDGET, DEMO_BUDGET
from pts.stages.strategy_inputs import StrategyInputs

if TYPE_CHECKING:
    from pts.decoding.context_match import Contexts
    from pts.decoding.steered_decoder import SteeredDecoder, Where
    from pts.models.load import LoadedModel
    from pts.steering.vector_set import VectorSet

_SAMPLING = Sampling()
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DecodeRun(StrategyInputs):
    """All inputs of a decoder, under the names of the command line's options.

    `model` is None for the model that the vectors were made on, or the demo model without vectors. `patterns`
    are names with factors in multiples of the calibrated strength; none for the set's first pattern at 1.0;
    `where` says where they are on. `budget` is the total limit, None for 512, or 96 for the demo model. Raises
    ConfigError for a value outside its range.
    """

    model: str | None = None
    revision: str | None = None
    adapter: str | None = None
    device: str = "auto"
    dtype: DtypeName = "auto"
    trust_remote_code: bool = False
    batch_size: int | None = None
    vectors: str | None = None
    vectors_revision: str | None = None
    patterns: tuple[tuple[str, float], ...] = ()
    where: Literal["gate", "always", "context"] = "gate"
    same_shape: bool = False
    layers_path: str | None = None
    strategy: str = "full"
    budget: int | None = None
    think_start: str | None = None
    think_end: str | None = None
    system_prompt: str | None = None
    chat_template: bool = True
    suffix: str | None = None
    thinking: bool | None = None
    temperature: float = _SAMPLING.temperature
    top_p: float = _SAMPLING.top_p
    top_k: int = _SAMPLING.top_k
    min_p: float = _SAMPLING.min_p
    seed: int = 0

    def __post_init__(self) -> None:
        StrategyInputs.__post_init__(self)
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError(f"batch-size is {self.batch_size}; it must be at least 1.")
        if self.patterns and self.vectors is None:
            raise ConfigError(f"pattern {self.patterns[0][0]} is of a vector set: give one by --vectors.")
        if self.where != "gate" and self.vectors is None:
            raise ConfigError(f"--where {self.where} is of a vector set: give one by --vectors.")
        self.sampling("demo")

    def sampling(self, model: str) -> Sampling:
        """The sampler and the total limit. Raises ConfigError for a value outside its range."""
        budget = self.budget
        if budget is None:
            budget = DEMO_BUDGET if model == "demo" else DEFAULT_BUDGET
        return Sampling(self.temperature, self.top_k, self.top_p, self.min_p, budget)


def open_decoder(run: DecodeRun) -> SteeredDecoder:
    """Load model and vectors. Raises PtsError, in one line, for anything that does not fit."""
    from pts.decoding.steered_decoder import SteeredDecoder
    from pts.decoding.think_format import find_think_format
    from pts.models.hardware import settle_threads
    from pts.models.load import load_model
    from pts.models.prompt import PromptFormat
    from pts.stages.strategy_parts import strategy_parts, with_second_model
    from pts.steering.vector_files import load_vectors

    vectors = None if run.vectors is None else load_vectors(run.vectors, run.vectors_revision)
    model = run.model or ("demo" if vectors is None else vectors.model.id)
    parts = strategy_parts(run, (run.strategy,), vectors, same_shape=run.same_shape)
    options = ModelOptions(model, run.revision, run.device, run.dtype, run.adapter, run.trust_remote_code)
    loaded = load_model(options)
    settle_threads(loaded.device, loaded.model.num_parameters())
    prompt_format = PromptFormat(run.system_prompt, run.chat_template, run.suffix, run.thinking)
    if vectors is not None:
        _warn_without_effect(vectors, run)
    sampling = run.sampling(model)
    return SteeredDecoder(
        loaded,
        vectors,
        run.strategy,
        parts=with_second_model(parts, run, options, sampling, prompt_format, run.batch_size),
        sampling=sampling,
        prompt_format=prompt_format,
        patterns=dict(run.patterns) or None,
        where=run.where,
        contexts=matched_contexts(run.where, vectors, loaded, dict(run.patterns)),
        think=find_think_format(
            loaded.tokenizer,
            prompt_format,
            run.think_start,
            run.think_end,
            run.continuations or None,
            run.switches or None,
        ),
        batch_rows=run.batch_size,
        layers_path=run.layers_path,
        same_shape=run.same_shape,
    )


def matched_contexts(
    where: Where, vectors: VectorSet | None, model: LoadedModel, patterns: Mapping[str, float] | None
) -> Contexts | None:
    """For `where` "context" those of the set's records, of the patterns that are on; otherwise None.

    The pattern of all pairs has the contexts of all. Raises PtsError.
    """
    if where != "context" or vectors is None or vectors.directory is None:
        return None
    from pts.decoding.context_match import pivot_contexts
    from pts.stages.extract import ALL
    from pts.steering.vector_files import load_records

    on = patterns or list(vectors.vectors)[:1]
    return pivot_contexts(load_records(vectors.directory), model.tokenizer, None if ALL in on else on)


def _warn_without_effect(vectors: VectorSet, run: DecodeRun) -> None:
    """Say it where a pattern that is used was measured and nothing was found."""
    used = [name for name, _ in run.patterns] or list(vectors.vectors)[:1]
    for name in used:
        effect = vectors.effects.get(name)
        if effect is not None and not effect.found:
            _LOG.warning(
                "no effect was found of pattern %s of %s (%+.3f, %.3f to %.3f; best random direction %+.3f).",
                name,
                Path(str(run.vectors)).name,
                effect.difference,
                effect.low,
                effect.high,
                max(effect.random, default=0.0),
            )
        elif effect is None and name in vectors.vectors:
            _LOG.warning("the effect of pattern %s was never measured (see pts vectors show).", name)
