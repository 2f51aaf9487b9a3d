"""A completion read twice, by the model as it is and steered: where gates open, and how probabilities move."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pts.policies.transformers.distribution import truncate
from pts.policies.transformers.forward import forward, pieces
from pts.policies.transformers.model_cache import empty_cache
from pts.records import Sampling, TokenDistribution, TokenIds
from pts.steering.hooks import Steering, steer
from pts.steering.tables import Variant

_LOGITS_BYTES = 64 << 20
"""Bytes of float32 logits of one pass: this and `_CHUNK` bound the tokens that it reads."""
_CHUNK = 512


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt and a completion of it, as token ids.

    `also` holds further tokens, by position: their probabilities there are read beside the completion's own.
    """

    prompt: TokenIds
    completion: TokenIds
    also: Mapping[int, TokenIds] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TwoReadings:
    """The next-token distributions along a text by both readings, and where the vector was added.

    `plain` and `steered` are at the positions that were asked for. Along a completion they hold the probability
    of its own token and of those asked for: whole distributions of a large vocabulary would not fit. `opened`
    [completion] says for each token of the completion whether the vector was added when it was read, and so
    acts on later ones.
    """

    plain: tuple[TokenDistribution, ...]
    steered: tuple[TokenDistribution, ...]
    opened: tuple[bool, ...]


@torch.inference_mode()
def read_twice(
    model: Any,
    variant: Variant,
    texts: Sequence[Text],
    sampling: Sampling,
    *,
    last: bool = False,
    layers_path: str | None = None,
) -> list[TwoReadings]:
    """Each text's two readings: the sampler's distribution of every token of the completion.

    With `last` it is that of the one token that would come after the completion, and no other. Prompts are not
    steered, as in decoding. Raises VectorError for a vector that does not fit the model.
    """
    plain = [tuple(_distributions(model, text, sampling, last)) for text in texts]
    with steer(model, [variant], layers_path=layers_path) as steering:
        return [
            _steered(model, steering, text, sampling, last, own) for text, own in zip(texts, plain, strict=True)
        ]


def _steered(
    model: Any,
    steering: Steering,
    text: Text,
    sampling: Sampling,
    last: bool,
    plain: tuple[TokenDistribution, ...],
) -> TwoReadings:
    count = len(text.completion)
    if count < (1 if last else 2):
        # No token of the completion is read, so nothing is steered.
        return TwoReadings(plain, plain, (False,) * count)
    steering.prompt_tokens = len(text.prompt)
    steered = tuple(_distributions(model, text, sampling, last))
    opened = steering.steered_positions()[0].tolist()
    # Nothing is read after the last token, unless what comes after it is asked for.
    return TwoReadings(plain, steered, tuple((opened + [False] * count)[:count]))


def _distributions(model: Any, text: Text, sampling: Sampling, last: bool) -> Iterator[TokenDistribution]:
    ids = text.prompt + (text.completion if last else text.completion[:-1])
    first = len(ids) - 1 if last else len(text.prompt) - 1
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    size = max(1, min(_CHUNK, _LOGITS_BYTES // (4 * vocabulary)))
    cache = empty_cache(model)
    for start, end in pieces(model, len(ids), size):
        chunk = torch.tensor([ids[start:end]], device=model.device)
        positions = torch.arange(start, end, device=model.device)[None]
        logits = forward(model, chunk, positions, cache, logits_to_keep=0)[0]
        asked = logits[max(0, first - start) :]
        if len(asked):
            truncated = truncate(asked, sampling)
            rows = (truncated.row(index) for index in range(len(asked)))
            if last:
                yield from rows
            else:
                place = max(0, start - first)
                for position, row in enumerate(rows, start=place):
                    yield _of_tokens(row, (text.completion[position], *text.also.get(position, ())))


def _of_tokens(distribution: TokenDistribution, tokens: TokenIds) -> TokenDistribution:
    """The part of a distribution that is that of a few tokens."""
    return TokenDistribution(np.array(tokens), np.array([distribution.prob(token) for token in tokens]))
