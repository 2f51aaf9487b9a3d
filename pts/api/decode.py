"""`pts.decode`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, overload

from pts.api.settings import loaded_or_none, model_inputs, stage_inputs
from pts.decoding.answers import Answer
from pts.models.held import holding
from pts.models.load import LoadedModel
from pts.steering.vector_set import VectorSet

Question: TypeAlias = "str | Sequence[Mapping[str, str]]"
"""A question, or the messages of a conversation."""


@overload
def decode(
    model: LoadedModel | str,
    questions: Question,
    *,
    strategy: str = ...,
    vectors: VectorSet | str | Path | None = ...,
    **settings: Any,
) -> Answer: ...


@overload
def decode(
    model: LoadedModel | str,
    questions: Sequence[Question],
    *,
    strategy: str = ...,
    vectors: VectorSet | str | Path | None = ...,
    **settings: Any,
) -> list[Answer]: ...


def decode(
    model: LoadedModel | str,
    questions: Question | Sequence[Question],
    *,
    strategy: str = "full",
    vectors: VectorSet | str | Path | None = None,
    **settings: Any,
) -> Answer | list[Answer]:
    """Answer a question, or several in one batch, by a strategy and steered where `vectors` are given.

    A question is a text or the messages of a conversation. `strategy` is one of `pts decode --list-strategies`.
    `settings` are the options of `pts decode` by their names, such as `budget=1024`, `thinking_budget=0.4` or
    `pattern={"all": 1.5}`. An answer has its text, its thinking and the count of all tokens that it took.
    Raises PtsError, in one line, for what does not fit.

        answer = pts.decode(model, "What is 27 + 8 - 9 ?", strategy="auto", vectors="demo")
        print(answer, answer.usage.total)
    """
    from pts.stages.decode.decoder import open_decoder
    from pts.stages.decode.inputs import DecodeInputs
    from pts.steering.set_location import source_of
    from pts.steering.vector_files import load_vectors

    found = load_vectors(vectors) if isinstance(vectors, str | Path) else vectors
    named = None if found is None else source_of(found) or "the vectors given"
    fixed = {**model_inputs(model), "strategy": strategy, "vectors": named}
    inputs = stage_inputs(DecodeInputs, "pts.decode", settings, fixed)
    one = isinstance(questions, str) or (bool(questions) and isinstance(questions[0], Mapping))
    several: Sequence[Any] = [questions] if one else questions
    with holding(loaded_or_none(model)):
        answers = open_decoder(inputs, vectors=found).generate(several, seed=inputs.seed)
    return answers[0] if one else answers
