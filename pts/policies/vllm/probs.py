"""The sampler's exact distributions along a completion, from the logits of a prompt's tokens."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from pts.errors import ConfigError, ModelError
from pts.policies.transformers.distribution import truncate
from pts.records import Sampling, TokenDistribution, TokenIds
from pts.setting_names import setting

TIES = 12
"""Logits asked for beyond top-k, so that ties at the k-th are all seen."""
_WHOLE_VOCABULARY = 4096
"""Tokens of a vocabulary that may be handed over whole."""
_KEPT = 64
"""Completions whose distributions are kept, for requests that avoid one of their tokens."""


def require_same_sampler(sampling: Sampling, vocabulary: int) -> None:
    """Raise ConfigError for a sampler that vLLM truncates otherwise than `pts`, or whose logits are too many.

    vLLM applies min-p before top-p, `pts` and transformers after it: with both, other tokens are left. Without
    top-k it would hand over the whole vocabulary at each position, number by number.
    """
    if sampling.temperature > 0 and not sampling.top_k and vocabulary > _WHOLE_VOCABULARY:
        raise ConfigError(
            f"the engine vllm needs a top-k for a vocabulary of {vocabulary:,} tokens: give {setting('top_k')}."
        )
    if sampling.temperature > 0 and sampling.min_p > 0 and sampling.top_p < 1:
        raise ConfigError(
            f"vLLM applies min-p and top-p in another order than pts: use {setting('min_p', 0)} or "
            f"{setting('top_p', 1)} with the engine vllm."
        )


def logits_needed(sampling: Sampling, vocabulary: int) -> int:
    """How many of the largest logits of a position decide the distribution; −1 for all."""
    if sampling.temperature == 0:
        return min(vocabulary, 1 + TIES)
    return min(vocabulary, sampling.top_k + TIES) if sampling.top_k else -1


def distributions(
    rows: Sequence[Mapping[int, Any]], sampling: Sampling, vocabulary: int
) -> list[TokenDistribution]:
    """The truncated distribution of each row: from token id to its logit and rank, as vLLM gives them.

    A row may also hold the prompt's own next token, whatever its rank. Raises ModelError where more tokens tie
    at the k-th than were asked for.
    """
    if not rows:
        return []
    needed = logits_needed(sampling, vocabulary)
    width = vocabulary if needed < 0 else needed
    ids = np.zeros((len(rows), width), dtype=np.int64)
    logits = np.full((len(rows), width), -np.inf, dtype=np.float32)
    for place, row in enumerate(rows):
        # Of equal logits the lower id first, as in every engine.
        found = sorted((-entry.logprob, token) for token, entry in row.items() if entry.rank <= width)[:width]
        ids[place, : len(found)] = [token for _, token in found]
        logits[place, : len(found)] = [-score for score, _ in found]
    if sampling.top_k and sampling.temperature > 0 and width == sampling.top_k + TIES < vocabulary:
        tied = logits[:, sampling.top_k - 1] == logits[:, -1]
        if tied.any():
            raise ModelError(
                f"more than {TIES} tokens tie at the {sampling.top_k}th: use {setting('dtype', 'float32')}, or "
                f"another {setting('top_k')}."
            )
    truncated = truncate(torch.from_numpy(logits), sampling)
    found_rows = (truncated.row(place) for place in range(len(rows)))
    return [TokenDistribution(ids[place][row.ids], row.probs) for place, row in enumerate(found_rows)]


class SeenDistributions:
    """The distributions along completions that were asked for last, for whoever needs one of them again."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[TokenIds, Sampling, TokenIds], Sequence[TokenDistribution]] = (
            OrderedDict()
        )

    def put(
        self, prompt: TokenIds, completion: TokenIds, sampling: Sampling, found: Sequence[TokenDistribution]
    ) -> None:
        """Keep what was found along a completion; the oldest goes."""
        self._seen[prompt, _sampler(sampling), completion] = found
        while len(self._seen) > _KEPT:
            self._seen.popitem(last=False)

    def after(self, prompt: TokenIds, prefix: TokenIds, sampling: Sampling) -> TokenDistribution | None:
        """The distribution of the token after a prefix, where a completion that begins with it was seen."""
        sampler, length = _sampler(sampling), len(prefix)
        for (asked, sampled, completion), found in self._seen.items():
            same = asked == prompt and sampled == sampler
            if same and length < len(completion) and completion[:length] == prefix:
                return found[length]
        return None


def _sampler(sampling: Sampling) -> Sampling:
    """What of a sampling decides distributions: neither its budget nor its stop texts."""
    return Sampling(sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p)
