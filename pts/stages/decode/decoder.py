"""The decoder that inputs describe."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pts.models.options import ModelOptions
from pts.policies.open import TRANSFORMERS
from pts.setting_names import setting
from pts.stages.decode.inputs import AnswerInputs, DecodeInputs
from pts.stages.shared.recorded import Recorded, dtype_name, recorded_options, settled_prompts

if TYPE_CHECKING:
    from pts.decoding.context_match import Contexts
    from pts.decoding.steered_decoder import SteeredDecoder, Where
    from pts.decoding.strategy_options import StrategyOptions
    from pts.models.prompt import PromptFormat
    from pts.policies.vllm.served import AnsweringModel
    from pts.steering.vector_set import VectorSet

_LOG = logging.getLogger(__name__)


def open_decoder(
    inputs: DecodeInputs, recorded: Recorded | None = None, vectors: VectorSet | None = None
) -> SteeredDecoder:
    """Load the model, and the vectors where they are not given, as an earlier session `recorded` them.

    Raises PtsError, in one line, for anything that does not fit.
    """
    from pts.stages.decode.strategies import strategy_options, with_second_model
    from pts.steering.vector_files import load_vectors

    if vectors is None and inputs.vectors is not None:
        vectors = load_vectors(inputs.vectors, inputs.vectors_revision)
    options = strategy_options(inputs, (inputs.strategy,), vectors, same_shape=inputs.same_shape)
    if inputs.model is None:
        inputs = replace(inputs, model="demo" if vectors is None else vectors.model.id)
    recorded = recorded or Recorded("the file of answers")
    loaded = open_model(inputs, recorded_options(inputs.model_options(), recorded), options)
    prompt_format, _ = settled_prompts(loaded.tokenizer, inputs.prompt_format(), recorded)
    if vectors is not None:
        _warn_without_effect(vectors, inputs)
        warn_of_other_numbers(vectors, loaded)
    options = with_second_model(options, inputs, prompt_format.written_on or recorded.prompt_date)
    return make_decoder(inputs, loaded, vectors, inputs.strategy, options, prompt_format)


def open_model(inputs: AnswerInputs, options: ModelOptions, parts: StrategyOptions) -> AnsweringModel:
    """The model that answers, on the engine that the inputs name. Raises PtsError.

    vLLM runs without compiled graphs where something steers the model or, as a router does, may read from it.
    """
    from pts.models.hardware import settle_threads
    from pts.models.load import load_model
    from pts.policies.vllm.served import serve_model

    if inputs.engine == TRANSFORMERS:
        loaded = load_model(options)
        settle_threads(loaded.device, loaded.model.num_parameters())
        return loaded
    eager = inputs.vectors is not None or parts.router is not None
    return serve_model(options, inputs.batch_rows, eager=eager, server=inputs.server())


def warn_of_other_numbers(vectors: VectorSet, loaded: AnsweringModel) -> None:
    """Say it where the model computes otherwise than it did when the set was calibrated and measured."""
    found = vectors.provenance.get("found")
    made = found.get("dtype") if isinstance(found, Mapping) else None
    if made is not None and vectors.model.id == loaded.model_id and made != dtype_name(loaded):
        _LOG.warning(
            "the vectors were measured on the model in %s, and it computes in %s here (the same: "
            f"{setting('dtype')} %s).",
            made,
            dtype_name(loaded),
            made,
        )


def make_decoder(
    inputs: AnswerInputs,
    loaded: AnsweringModel,
    vectors: VectorSet | None,
    strategy: str,
    options: StrategyOptions,
    prompt_format: PromptFormat,
) -> SteeredDecoder:
    """The decoder that the inputs describe, of their model and vectors, with its settled format for prompts.

    Raises PtsError.
    """
    from pts.decoding.steered_decoder import SteeredDecoder
    from pts.decoding.think_format import find_think_format

    return SteeredDecoder(
        loaded,
        vectors,
        strategy,
        options=options,
        sampling=inputs.sampling(),
        prompt_format=prompt_format,
        patterns=inputs.pattern,
        where=inputs.where,
        contexts=matched_contexts(inputs.where, vectors, loaded, inputs.pattern),
        think=find_think_format(
            loaded.tokenizer,
            prompt_format,
            inputs.think_start,
            inputs.think_end,
            inputs.continuations or None,
            inputs.switches or None,
        ),
        batch_rows=inputs.batch_rows,
        layers_path=inputs.layers_path,
        same_shape=inputs.same_shape,
    )


def matched_contexts(
    where: Where, vectors: VectorSet | None, model: AnsweringModel, patterns: Mapping[str, float] | None
) -> Contexts | None:
    """For `where` "context" those of the set's records, of the patterns that are on; otherwise None.

    The pattern of all pairs has the contexts of all. Raises PtsError.
    """
    if where != "context" or vectors is None or vectors.directory is None:
        return None
    from pts.decoding.context_match import pivot_contexts
    from pts.steering.pair_records import ALL
    from pts.steering.vector_files import load_records

    on = patterns or list(vectors.vectors)[:1]
    return pivot_contexts(load_records(vectors.directory), model.tokenizer, None if ALL in on else on)


def _warn_without_effect(vectors: VectorSet, inputs: DecodeInputs) -> None:
    """Say it where a pattern that is used was measured and nothing is proved of it."""
    from pts.steering.claims import claims, rank_sentence

    used = list(inputs.pattern or ()) or list(vectors.vectors)[:1]
    made = claims(vectors.effects)
    for name in used:
        effect = vectors.effects.get(name)
        if effect is not None and not made[name].made:
            _LOG.warning(
                "no effect is proved of pattern %s of %s (%+.3f, %.3f to %.3f; %s).",
                name,
                Path(str(inputs.vectors)).name,
                effect.difference,
                effect.low,
                effect.high,
                rank_sentence(made[name]),
            )
        elif effect is None and name in vectors.vectors:
            _LOG.warning("the effect of pattern %s was never measured (see pts vectors show).", name)
