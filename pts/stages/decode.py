"""The decoder that inputs describe."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pts.stages.decode_inputs import AnswerInputs, DecodeRun

if TYPE_CHECKING:
    from pts.decoding.context_match import Contexts
    from pts.decoding.parts import Parts
    from pts.decoding.steered_decoder import SteeredDecoder, Where
    from pts.models.load import LoadedModel
    from pts.steering.vector_set import VectorSet

_LOG = logging.getLogger(__name__)


def open_decoder(run: DecodeRun) -> SteeredDecoder:
    """Load model and vectors. Raises PtsError, in one line, for anything that does not fit."""
    from pts.models.load import load_model
    from pts.stages.strategy_parts import strategy_parts, with_second_model
    from pts.steering.vector_files import load_vectors

    vectors = None if run.vectors is None else load_vectors(run.vectors, run.vectors_revision)
    parts = strategy_parts(run, (run.strategy,), vectors, same_shape=run.same_shape)
    if run.model is None:
        run = replace(run, model="demo" if vectors is None else vectors.model.id)
    loaded = load_model(run.model_options())
    if vectors is not None:
        _warn_without_effect(vectors, run)
    return make_decoder(run, loaded, vectors, run.strategy, with_second_model(parts, run))


def make_decoder(
    run: AnswerInputs, loaded: LoadedModel, vectors: VectorSet | None, strategy: str, parts: Parts
) -> SteeredDecoder:
    """The decoder that the inputs describe, of their model and vectors. Raises PtsError."""
    from pts.decoding.steered_decoder import SteeredDecoder
    from pts.decoding.think_format import find_think_format
    from pts.models.hardware import settle_threads

    settle_threads(loaded.device, loaded.model.num_parameters())
    prompt_format = run.prompt_format()
    return SteeredDecoder(
        loaded,
        vectors,
        strategy,
        parts=parts,
        sampling=run.sampling(),
        prompt_format=prompt_format,
        patterns=run.pattern,
        where=run.where,
        contexts=matched_contexts(run.where, vectors, loaded, run.pattern),
        think=find_think_format(
            loaded.tokenizer,
            prompt_format,
            run.think_start,
            run.think_end,
            run.continuations or None,
            run.switches or None,
        ),
        batch_rows=run.batch_rows,
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
    """Say it where a pattern that is used was measured and nothing is proved of it."""
    from pts.steering.claims import claims, rank_sentence

    used = list(run.pattern or ()) or list(vectors.vectors)[:1]
    made = claims(vectors.effects)
    for name in used:
        effect = vectors.effects.get(name)
        if effect is not None and not made[name].made:
            _LOG.warning(
                "no effect is proved of pattern %s of %s (%+.3f, %.3f to %.3f; %s).",
                name,
                Path(str(run.vectors)).name,
                effect.difference,
                effect.low,
                effect.high,
                rank_sentence(made[name]),
            )
        elif effect is None and name in vectors.vectors:
            _LOG.warning("the effect of pattern %s was never measured (see pts vectors show).", name)
